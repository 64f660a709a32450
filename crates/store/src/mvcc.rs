//! Keys with all their versions: what is read and what is kept. What a command does to them is in `txn.rs`.

pub(crate) mod history;
pub(crate) mod key_index;
pub(crate) mod key_range;
mod range;
pub mod revision;
