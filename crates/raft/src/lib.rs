//! Consensus of one Raft group, without I/O, clock, chance or payload.
//!
//! [`raft::Raft`] is a value. Its host gives it inputs, each with the moment at which it came, and carries out the
//! effects that come back: write this, send that, apply up to here. It opens no socket or file, starts no thread, asks
//! no clock and never sees what an entry holds: it knows a log as runs of terms. So the same inputs have the same
//! effects, in production, in a test and in a simulator.
//!
//! A host's loop:
//!
//! 1. Take what has happened (messages, proposals, finished writes, [`raft::Raft::deadline`] reached) and
//!    [`step`](raft::Raft::step) through it.
//! 2. At the end of the turn, ask [`wants`](raft::Raft::next_range) for each peer, cut the entries by bytes, and
//!    [`send_entries`](raft::Raft::send_entries); then [`end_turn`](raft::Raft::end_turn).
//! 3. Carry out the effects: writes in their order, sends at any time, applies in order. Report each write with
//!    [`Input::Persisted`](effect::Input::Persisted) once it is durable, and not before.
//! 4. If groups may sleep ([`sleep_after`](state::Config::sleep_after)), watch over the nodes of those that do.
//!
//! ```
//! use vlot_raft::effect::{Effect, Input, RoleName};
//! use vlot_raft::id::{LogIndex, NodeId};
//! use vlot_raft::configuration::{Configuration, Configurations};
//! use vlot_raft::raft::Raft;
//! use vlot_raft::state::{Config, Restored};
//! use vlot_raft::time::{Rng, Time};
//!
//! // A group of one, on a disk that is done at once.
//! let config = Config::new(NodeId(1));
//! let configurations = Configurations::begin(Configuration::of_voters([NodeId(1)]));
//! let restored = Restored { configurations, ..Restored::default() };
//! let now = Time::default();
//! let mut raft = Raft::new(config, restored, now, Rng::new(7));
//! let mut applied = LogIndex::ZERO;
//! let mut turn = |raft: &mut Raft, input| {
//!     let mut inputs = vec![input];
//!     while let Some(input) = inputs.pop() {
//!         let mut effects = Vec::new();
//!         raft.step(now, input, &mut effects);
//!         for effect in effects {
//!             match effect {
//!                 Effect::SaveVote { write, .. } | Effect::Append { write, .. } => {
//!                     inputs.push(Input::Persisted { write });
//!                 }
//!                 Effect::Commit { upto } => applied = upto,
//!                 _ => {}
//!             }
//!         }
//!     }
//! };
//! turn(&mut raft, Input::Tick);
//! assert_eq!(raft.role_state().role, RoleName::Leader);
//! turn(&mut raft, Input::Propose { count: 3 });
//! assert_eq!(applied, LogIndex(4), "the leader's blank entry and three of ours");
//! ```

pub mod canonical;
pub mod configuration;
pub mod effect;
pub mod election;
pub mod id;
pub mod invariants;
pub mod message;
pub mod quorum;
pub mod raft;
pub mod state;
pub mod term_runs;
pub mod time;
pub mod view;

#[cfg(test)]
mod by_hand;
mod candidate;
mod follower;
mod leader;
mod progress;
mod read;
mod unpersisted;
