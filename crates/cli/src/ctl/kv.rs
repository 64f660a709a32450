//! The commands on keys: what reads, writes and follows them.

pub mod compaction;
pub mod del;
pub mod get;
pub mod keys;
pub mod make_mirror;
pub mod put;
pub mod txn;
pub mod watch;
pub mod watcher;
