//! The write-ahead log that all groups of a node share.
//!
//! A node keeps one log however many Raft groups it has, so that one `fdatasync` makes the work of all of them durable.
//! The log is synchronous and has one owner. Its loop: gather what is waiting, [`write`](log::Log::write) it with one
//! call, [`sync`](log::Log::sync) once, then answer every caller; after that, when nothing waits,
//! [`prepare`](log::Log::prepare) and [`tidy`](log::Log::tidy), and if nothing comes for a while,
//! [`seal`](log::Log::seal).
//!
//! ```
//! use bytes::Bytes;
//! use vlot_log::disk::real::RealDisk;
//! use vlot_log::log::{Identity, Log, Options};
//! use vlot_log::record::{Entry, Write};
//! use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId, Term};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = std::env::temp_dir().join(format!("vlot-log-example-{}", std::process::id()));
//! let identity = Identity { cluster: 7, node: NodeId(1) };
//! let group = GroupId(1);
//!
//! let (mut log, _) = Log::open(RealDisk::open(&dir)?, identity, Options::default())?;
//! let entries = vec![Entry { id: LogId::new(3, 1), payload: Bytes::from_static(b"x = 5") }];
//! log.write(&[
//!     Write::Vote { group, term: Term(3), vote: Some(NodeId(1)) },
//!     Write::Append { group, after: LogIndex::ZERO, entries: entries.clone() },
//! ])?;
//! log.sync()?; // Whatever happens from here on, both are there.
//! drop(log);
//!
//! let (log, recovered) = Log::open(RealDisk::open(&dir)?, identity, Options::default())?;
//! assert_eq!(recovered.groups[&group].vote, Some(NodeId(1)));
//! assert_eq!(recovered.groups[&group].runs.last_id(), LogId::new(3, 1));
//! assert_eq!(log.read(group, LogIndex(0), LogIndex(1), 1024)?, entries);
//! # std::fs::remove_dir_all(&dir)?;
//! # Ok(())
//! # }
//! ```
//!
//! What it promises:
//! - Each [`Write`](record::Write) happens as a whole or not at all, in order. What was synced stays.
//! - What was cut short by a loss of power and never synced is cut off when the log is opened. Anything else that is not
//!   as it was written is *corruption*: it is refused, with file and offset, and nothing is dropped or guessed. An owner
//!   that has peers to make up for it can ask for [`Damage`](damage::Damage) to be reported instead.
//! - What tells the two apart is that each record says what was durable before it. So what was made durable last is in
//!   doubt until there is another write, or a [`seal`](log::Log::seal).
//! - One damaged page does not make a vote unsaid. A vote that a later record seals cannot be lost without notice.
//!   A vote that is the last record for a while gets such a record from [`tidy`](log::Log::tidy) or `seal`. A second copy
//!   of it would save no more: what follows damage is refused in any case, and a node that goes on without it must not vote.
//! - A full disk refuses entries before anything has changed, and only for as long as it is full. Some room is held back
//!   for votes and begins, because these are what the cluster needs to free space and go on.
//! - A failed write or sync is final. Every later call gets the same answer; nothing is tried twice.
//!
//! Space comes back. A group whose state is in a snapshot says so with a [`Write::LogStart`](record::Write::LogStart): its log
//! begins later. One that leaves the node is taken out with a [`Write::Remove`](record::Write::Remove).
//! `tidy` drops segments that hold nothing that is needed, from the oldest on, and rewrites what is needed of old ones at
//! the end, so that a group that lags keeps no more than its own entries. The file of a dropped segment becomes
//! the next one: its blocks have been written, so that each byte is written once. What stands in it is never taken for a part
//! of the log.
//!
//! In memory an entry takes 16 bytes: its place. To open a log takes about as long as to read its files once.
//!
//! All I/O goes through [`Disk`](disk::Disk), so that a simulator can lose, tear and fail it: [`disk::sim`]. A log can be kept
//! in memory as well, [`disk::memory`], or where you like: [`disk::conformance`] tries a disk of your own.
//! `docs/disk-format.md` describes the files byte by byte.

mod aligned;
pub mod damage;
mod decode;
pub mod disk;
mod encode;
mod entry_range;
pub mod error;
mod identity;
pub mod index;
pub mod inspect;
mod layout;
pub mod log;
pub mod record;
pub mod recover;
mod replay;
mod scan;
mod segment;
