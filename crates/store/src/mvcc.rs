//! Keys with all their versions: what is kept of them, and how it is read, now or as it was at one moment. What a command
//! does to them is in `txn.rs`.

pub mod answer;
pub mod chunks;
pub mod hash;
pub(crate) mod history;
pub(crate) mod key_index;
pub(crate) mod key_range;
mod range;
pub(crate) mod reader;
pub(crate) mod recent;
pub mod revision;
pub mod short;
pub mod view;
