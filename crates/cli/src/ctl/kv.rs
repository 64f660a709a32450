//! The commands on keys: what reads, writes and follows them.

pub mod compaction;
pub mod del;
pub mod get;
mod keys;
pub mod put;
pub mod txn;
pub mod watch;
