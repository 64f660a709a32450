//! A durable, networked, replicated state machine in a few lines.
//!
//! A [`StateMachine`] is a state and its commands. A [`Node`] keeps the log and talks to its peers. A [`Group`] is one
//! state machine, agreed on by the nodes of a cluster: commands proposed to any of them are applied by all, in the same
//! order, and survive the loss of any minority.
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
//! assert_eq!(sum.read(|sum| sum.0).await?, 12); // linearizable, without a log entry
//! node.shutdown().await;
//!
//! let node = Node::open(Options::new(&dir)).await?; // the log has it all
//! let sum = node.group(GroupId(1), [NodeId(1)], Sum::default()).await?;
//! assert_eq!(sum.read(|sum| sum.0).await?, 12);
//! # node.shutdown().await;
//! # std::fs::remove_dir_all(&dir)?;
//! # Ok(())
//! # }
//! ```
//!
//! Nodes of several machines are told where each other listen ([`Options::peers`]), and how they know each other: with a
//! certificate for each, signed by one CA and good for the host at which the others dial the node, what they say is
//! encrypted, and nobody else is heard ([`Tls`]). Nodes of one process need no network ([`net::memory`]).
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
//! Where a node keeps its log, what it takes for time, where its work is done and what carries its bytes can each be replaced, and
//! each has a test for implementations of your own: [`storage`], [`clock`], [`tasks`], [`net::transport`].
//!
//! # Features
//!
//! - `serde`, on by default: states, commands and replies by serde, written as postcard.
//!
//! Inside, everything that decides is a value without I/O: [`vlot_raft`] is the consensus of one group, [`vlot_node`] all
//! that a node decides beside. This crate carries out what they ask: [`net`] talks to peers, one thread writes the log, one
//! task drives, and state machines apply on threads of their own where they are not certain to be quick.

mod begin_log;
pub mod clock;
mod driver;
pub mod end;
pub mod errors;
mod events;
pub mod figures;
#[doc(hidden)]
pub mod fuzzing;
pub mod group;
mod log_thread;
mod machine;
pub mod net;
pub mod options;
pub mod runtime;
mod shown;
mod snapshots;
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
pub use vlot_node::replica::CannotBegin;
pub use vlot_node::state_machine::{
    BadCommand, BadSnapshot, Class, Command, Snapshot, StateMachine, TimePassed, Viewed,
};
pub use vlot_raft::configuration::{ChangeRefused, Member, Seat};
pub use vlot_raft::effect::{Event, RoleName, RoleState, TransferRefused};
pub use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId, Term};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
