//! A durable, networked, replicated state machine in a few lines.
//!
//! Write a state and its commands. A [`Node`] keeps the log and talks to its peers. A [`Group`] is one state, agreed on by the
//! nodes of a cluster: commands that are called on any of them are applied by all, in the same order, and survive the loss of
//! any minority.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use serde::{Deserialize, Serialize};
//! use vlot::{Context, GroupId, Node, NodeId, Options, SerdeState};
//!
//! /// What is replicated.
//! #[derive(Clone, Default, Deserialize, Serialize)]
//! struct Map(BTreeMap<String, String>);
//!
//! /// What changes it.
//! #[derive(Clone, Deserialize, Serialize)]
//! enum Command {
//!     Put(String, String),
//!     Delete(String),
//! }
//!
//! impl SerdeState for Map {
//!     type Command = Command;
//!     /// What was there before.
//!     type Reply = Option<String>;
//!
//!     fn apply(&mut self, _: &Context, command: Command) -> Option<String> {
//!         match command {
//!             Command::Put(key, value) => self.0.insert(key, value),
//!             Command::Delete(key) => self.0.remove(&key),
//!         }
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = std::env::temp_dir().join(format!("vlot-map-{}", std::process::id()));
//! let node = Node::open(Options::new(&dir)).await?;
//! let map = node.typed(GroupId(1), [NodeId(1)], Map::default()).await?;
//!
//! assert_eq!(map.call(Command::Put("colour".into(), "blue".into())).await?, None); // on disk, on a majority
//! assert_eq!(map.read(|map| map.0["colour"].clone()).await?, "blue"); // as new as the call, on any node
//! assert_eq!(map.call(Command::Delete("colour".into())).await?, Some("blue".into()));
//! # node.shutdown().await;
//! # std::fs::remove_dir_all(&dir)?;
//! # Ok(())
//! # }
//! ```
//!
//! A [call](Group::call) takes effect once, also if its leader dies and it is sent again; what became of one can be
//! [asked](Group::resolve) from any node. The same commands must lead to the same state on every machine: no clock, no chance, no
//! walk over a `HashMap` may show in what `apply` does. [`Context`] has a time that is the same everywhere.
//!
//! # On three machines
//!
//! Nodes are told where each other listen ([`Options::peers`]), and how they know each other: with a
//! certificate for each, signed by one CA and good for the host at which the others dial the node, what they say is
//! encrypted, and nobody else is heard ([`Tls`]). Each then takes up the group with the same first voters, as in
//! `node.typed(GroupId(1), [NodeId(1), NodeId(2), NodeId(3)], Map::default())`. Members [change](Group::change_members) while
//! everything goes on.
//!
//! ```
//! use vlot::{NodeId, Options, Tls, net::Listen};
//!
//! let hosts = [(1, "n1.example:7001"), (2, "n2.example:7001"), (3, "n3.example:7001")];
//! let options = Options {
//!     node: NodeId(1),
//!     listen: Listen::At("0.0.0.0:7001".into()),
//!     advertise: Some("n1.example:7001".into()),
//!     peers: hosts.map(|(node, address)| (NodeId(node), address.to_owned())).into(),
//!     tls: Some(Tls::new("n1.crt", "n1.key", "ca.crt")),
//!     ..Options::new("data")
//! };
//! # let _ = options;
//! ```
//!
//! Nodes of one process need no network ([`net::memory`]).
//!
//! # Which state
//!
//! - [`SerdeState`]: anything that serde can write. Begin here. ([`Node::typed`])
//! - [`State`]: the same, with bytes of your own. ([`Node::typed`])
//! - [`StateMachine`]: all of it in your hands, for a state that is durable by itself, or commands that are bytes already.
//!   ([`Node::group`], [`Group::propose`])
//!
//! ```
//! use vlot::{GroupId, LogId, Node, NodeId, Options, StateMachine};
//!
//! #[derive(Default)]
//! struct Sum(u64);
//!
//! impl StateMachine for Sum {
//!     type Command = u64;
//!     type Reply = u64;
//!
//!     fn apply(&mut self, _: LogId, more: u64) -> u64 {
//!         self.0 += more;
//!         self.0
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = std::env::temp_dir().join(format!("vlot-example-{}", std::process::id()));
//! let node = Node::open(Options::new(&dir)).await?;
//! let sum = node.group(GroupId(1), [NodeId(1)], Sum::default()).await?;
//! assert_eq!(sum.propose(5).await?, 5);
//! assert_eq!(sum.propose(7).await?, 12);
//! node.shutdown().await;
//!
//! let node = Node::open(Options::new(&dir)).await?; // the log has it all
//! let sum = node.group(GroupId(1), [NodeId(1)], Sum::default()).await?;
//! assert_eq!(sum.read(|sum| sum.0).await?, 12); // linearizable, without a log entry
//! # node.shutdown().await;
//! # std::fs::remove_dir_all(&dir)?;
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! - `serde` (on by default): [`SerdeState`], by postcard.
//! - `metrics`: how long each stage of a proposal takes, by group, for a recorder of the facade `metrics`.
//!
//! # The guide
//!
//! The folder `docs/guide` of the repository teaches all of it to readers who know Rust and nothing of consensus: growing from one
//! process to three machines, what each error means, time-outs, upgrades and the way back, backup and disaster, testing, what is promised
//! and what each promise rests on. `docs/limits.md` has every bound.
//!
//! Where a node keeps its log, what it takes for time, where its work is done and what carries its bytes can each be replaced, and
//! each has a test for implementations of your own: [`storage`], [`clock`], [`tasks`], [`net::transport`].
//!
//! Inside, everything that decides is a value without I/O: [`vlot_raft`] is the consensus of one group, [`vlot_node`] all
//! that a node decides beside. This crate carries out what they ask: [`net`] talks to peers, one thread writes the log, one
//! task drives, and state machines apply on threads of their own where they are not certain to be quick.

mod awake;
mod begin_log;
mod callers;
pub mod clock;
mod driver;
pub mod end;
pub mod errors;
mod events;
pub mod figures;
#[doc(hidden)]
pub mod fuzzing;
pub mod group;
#[cfg(doctest)]
mod guide;
mod log_thread;
mod machine;
pub mod net;
pub mod options;
pub mod plan;
pub mod recorder;
pub mod recover;
mod routed;
pub mod runtime;
mod shown;
mod snapshots;
mod stages;
mod state_lock;
pub mod storage;
pub mod tasks;
pub mod tls;
pub mod typed;
mod waiters;

/// How much one replica has under way.
pub mod replica {
    pub use vlot_node::replica::Limits;
}

/// How much of a group's log is kept.
pub mod retention {
    pub use vlot_node::retention::Limits;
}

/// How snapshots are sent and received.
pub mod transfer {
    pub use vlot_node::transfer::Limits;
}

pub use begin_log::{BeginLogError, LogOwner, begin_log};
pub use bytes::BytesMut;
pub use end::Ended;
pub use errors::{ChangeError, ProposeError, ReadError, SnapshotError, TransferError};
pub use figures::{Figures, Meter};
pub use group::Group;
pub use net::Tls;
pub use options::{BadOptions, LogLimits, Options};
pub use plan::ReplaceError;
pub use recover::{RecoverError, Recovered, Recovery, recover_from_lost_quorum};
pub use runtime::{CloseError, GroupError, Node, OpenError};
pub use storage::Storage;
#[cfg(feature = "serde")]
pub use typed::SerdeState;
pub use typed::sessions::{CallId, SessionId};
pub use typed::state::{Context, State};
pub use typed::{CallError, Resolved, Session, Typed};
pub use vlot_log::inspect;
pub use vlot_node::act::{DiskState, GroupEvent, Status};
pub use vlot_node::machine::Fence;
pub use vlot_node::members::{self, MemberChange, Members};
pub use vlot_node::members_recover::{CannotRecover, GroupFound};
pub use vlot_node::members_replace::Replacing;
pub use vlot_node::plan::{Plan, PlanRefused, Warning};
pub use vlot_node::policy::{Policies, ReplaceDead};
pub use vlot_node::replica::CannotBegin;
pub use vlot_node::report;
pub use vlot_node::report::{PeerReport, Reason, Replication, Report};
pub use vlot_node::state_machine::{
    BadCommand, BadSnapshot, Class, Command, Snapshot, StateMachine, TimePassed, Viewed,
};
pub use vlot_raft::configuration::{ChangeRefused, Member, Seat};
pub use vlot_raft::effect::{Event, RoleName, RoleState, TransferRefused};
pub use vlot_raft::election;
pub use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId, Term};
pub use vlot_raft::view::PaceName;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
