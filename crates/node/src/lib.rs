//! Everything a Vlot node decides, as a value.
//!
//! A process that takes part in many Raft groups has one log, one connection to each peer and one clock, and something to
//! decide whenever any of them stirs: what to write, what to send, what may be applied, which calls to answer, when a
//! log is cut. [`Node`](node::Node) decides all of it and does none of it. It has no socket, file, thread or clock, so
//! the same inputs at the same times give the same acts, byte for byte, and a simulator can drive what a server runs.
//!
//! # The loop
//!
//! What gives it those is its *shell*. There are two, the library `vlot` and the simulator, and both do this, for ever:
//!
//! 1. **Gather** what has happened: frames of peers, calls of this process, what the disk and the state machines report, or
//!    that [`Node::deadline`](node::Node::deadline) has come. Whatever came while the last turn was carried out belongs to
//!    this one.
//! 2. **Handle** each, as an [`Input`](input::Input), with the time.
//! 3. **End the turn**: [`Node::end_turn`](node::Node::end_turn) gives one list of [`Act`](act::Act)s, of all groups.
//! 4. **Carry out** the acts in their order. The shell decides nothing: one `match`, and each arm is a call. An act may be
//!    under way when the next is begun, but the log, each state machine and each file do what they are asked in that order.
//!    So what goes to the disk and to peers is on its way before anything is applied or answered.
//! 5. **Report** what is done as an input of a later turn: [`Written`](input::Input::Written),
//!    [`Fetched`](input::Input::Fetched), [`Applied`](input::Input::Applied) and so on. Each act says which report it asks
//!    for. What is never reported is never taken for done: a disk that stands still delays whatever depends on it, and
//!    nothing else.
//!
//! How a state machine is driven, what it is told of an entry and what stops it, is in [`machine`]; what becomes of writes on
//! a full disk in [`log_writer`].
//!
//! # A node in memory
//!
//! One node, one group, and a number that grows. Its disk is always done at once, because there is none.
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use vlot_node::act::Act;
//! use vlot_node::group::Begun;
//! use vlot_node::input::{Input, Proposal};
//! use vlot_node::machine::{self, Outcome};
//! use vlot_node::members::Members;
//! use vlot_node::node::{NewGroup, Node, Options};
//! use vlot_node::payload;
//! use vlot_node::proposal_id::ProposalId;
//! use vlot_node::replica::{Begin, Limits};
//! use vlot_node::state_machine::{Class, StateMachine};
//! use vlot_raft::id::{GroupId, LogId, NodeId};
//! use vlot_raft::state::Config;
//! use vlot_raft::time::Time;
//!
//! /// The state machine: a sum. A caller that proposes a number gets the sum with it.
//! struct Sum(u64);
//!
//! impl StateMachine for Sum {
//!     type Command = u64;
//!     type Reply = u64;
//!
//!     fn apply(&mut self, _: LogId, number: u64) -> u64 {
//!         self.0 += number;
//!         self.0
//!     }
//! }
//!
//! const ORIGIN: u64 = 1; // Names this process in its proposals.
//! let (own, group) = (NodeId(1), GroupId(1));
//! let config = Arc::new(Config::new(own));
//! let mut node = Node::new(Options {
//!     config: Arc::clone(&config),
//!     disk: 1,
//!     peers: BTreeMap::new(),
//!     recent_bytes_max: 1 << 20,
//!     apply_bytes_max: 1 << 20,
//!     retention: Default::default(),
//!     transfer: Default::default(),
//!     policies: Default::default(),
//!     origin: ORIGIN,
//!     unix_at_origin: Duration::ZERO,
//!     parts: BTreeMap::new(),
//! });
//!
//! // A group begins with what the log holds of it: here, nothing yet.
//! let begin = Begin {
//!     group,
//!     config,
//!     members: Members::of_voters([(own, "localhost:2380".to_owned())]),
//!     recovered: Default::default(),
//!     damaged: None,
//!     applied: LogId::ZERO,
//!     limits: Limits::default(),
//!     forwards: true,
//!     shares_entries: true,
//!     origin: ORIGIN,
//!     seed: 1,
//! };
//! let begun = Begun { durable: LogId::ZERO, saved: LogId::ZERO, makes_snapshots: false, wants_time: false };
//! node.add(Time::default(), NewGroup { begin, begun }).expect("an empty log");
//!
//! // A call of this process: it waits for a leader, and for its turn.
//! let (sequence, number) = (1, 42_u64);
//! let id = ProposalId { origin: ORIGIN, sequence };
//! let payload = payload::command(id, 8, |out| out.extend_from_slice(&number.to_le_bytes()));
//! let proposals = vec![Proposal { sequence, payload, class: Class::Bulk, shares_entry: true }];
//! node.handle(Time::default(), Input::Propose { group, proposals });
//!
//! let (mut sum, mut applied, mut answer) = (Sum(0), LogId::ZERO, None);
//! let mut now = Time::default();
//! while answer.is_none() {
//!     let mut reports = Vec::new();
//!     loop {
//!         reports.drain(..).for_each(|report| node.handle(now, report));
//!         for act in node.end_turn(now) {
//!             match act {
//!                 Act::Write { batch, .. } => reports.push(Input::Written { batch }),
//!                 Act::Apply { group, entries } => {
//!                     let (steps, _) = machine::decode::<Sum>(ORIGIN, entries);
//!                     let (upto, outcomes) = machine::apply(&mut sum, applied, steps).expect("it does not panic");
//!                     for outcome in outcomes {
//!                         if let Outcome::Applied(sequence, sum) = outcome {
//!                             answer = Some((sequence, sum));
//!                         }
//!                     }
//!                     applied = upto;
//!                     reports.push(Input::Applied { group, upto, durable: LogId::ZERO });
//!                 }
//!                 // Without peers nothing is sent, and what is shown is not looked at.
//!                 _ => {}
//!             }
//!         }
//!         if reports.is_empty() {
//!             break;
//!         }
//!     }
//!     // Nothing else happens here, so the clock may jump to when something is due: at first, to stand for election.
//!     now = node.deadline();
//! }
//! assert_eq!(answer, Some((1, 42)));
//! ```

pub mod act;
mod applying;
mod entries;
pub mod group;
pub mod input;
mod lane;
pub mod log_writer;
pub mod machine;
pub mod members;
mod members_log;
pub mod members_recover;
pub mod members_replace;
mod news;
pub mod node;
pub mod numbered;
mod packing;
pub mod payload;
mod peers;
pub mod plan;
pub mod policy;
pub mod proposal_id;
pub mod proposals;
pub mod reads;
pub mod replica;
pub mod report;
pub mod retention;
pub mod snapshot;
pub mod state_machine;
pub mod transfer;
mod turn;
pub mod typed;
pub mod wire;

pub use lane::Lane;
