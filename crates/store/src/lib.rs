//! etcd's multi-version key-value store as a deterministic state machine.
//!
//! A [`Store`](store::Store) is changed by [`Command`](command::Command)s that the caller has agreed on with others and
//! by nothing else: no clock, no chance, no node's identity. The same commands give the same answers and the same
//! history everywhere. Keys and their versions are in memory; a background thread writes history to an engine behind.
//!
//! The loop that the caller writes:
//!
//! ```
//! use vlot_proto::etcdserverpb::{PutRequest, RangeRequest};
//! use vlot_store::command::{Command, Tag};
//! use vlot_store::revision::Position;
//! use vlot_store::store::{Options, Store};
//!
//! # let dir = std::env::temp_dir().join(format!("vlot-store-doc-{}", std::process::id()));
//! let mut store = Store::open(&dir, Options::default()).unwrap();
//! let request = prost::Message::encode_to_vec(&PutRequest { key: "k".into(), value: "v".into(), ..Default::default() });
//!
//! // The log's entries after `store.applied()`, each with a command's bytes.
//! let entry = Tag::Put.with(&request);
//! let at = Position { term: 1, index: store.applied().index + 1 };
//! let answer = store.apply(at, Command::decode(entry).unwrap());
//! store.end_batch();
//! // The log may be cut up to `store.durable()`.
//!
//! let found = store.range(&RangeRequest { key: "k".into(), ..Default::default() }).unwrap();
//! # drop(store);
//! # std::fs::remove_dir_all(&dir).ok();
//! ```

pub mod alarms;
pub mod auth;
mod backlog;
pub mod check;
pub mod command;
pub mod damage;
pub mod engine;
pub mod figures;
#[doc(hidden)]
pub mod fuzzing;
pub mod lease;
mod mvcc;
mod prompt;
pub mod quota;
mod records;
pub mod refusal;
mod saved_index;
pub mod snapshot;
pub mod store;
mod txn;
pub mod watch;

pub use mvcc::{answer, chunks, hash, revision, short, view};
pub use txn::answer as txn_answer;
