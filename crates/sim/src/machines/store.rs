//! The store as the replicated state machine: what drives it, what clients do to it, and what must hold of it.
//!
//! | file | what it owns |
//! |---|---|
//! | `machine` | the store as a state machine, and what it reports of itself |
//! | `history` | the operations of clients, from invocation to end |
//! | `workload` | which operations clients draw |
//! | `watcher` | the watches of clients, and what each of them was told |
//! | `used` | the store in the simulated world: its clients, and its machines with watches on them |
//! | `model` | what etcd's documentation says that an operation does |
//! | `applied_order` | check: all machines apply the same, with the same outcome, and arrive at the same state |
//! | `linearizability` | check: one order explains all that clients saw |
//! | `revisions` | check: revisions never go back on a connection |
//! | `watch_guarantees` | check: what watches were told is what has happened |
//!
//! Nothing here knows the simulated world: it calls these with what has happened, and asks for verdicts at the end.

pub mod applied_order;
pub mod history;
pub mod linearizability;
pub mod machine;
pub mod model;
pub mod revisions;
pub mod used;
pub mod watch_guarantees;
pub mod watcher;
pub mod workload;

#[cfg(test)]
mod driven;

use vlot_raft::invariants::Violation;

fn violation<T>(property: &'static str, shown_by: String) -> Result<T, Violation> {
    Err(Violation { property, shown_by })
}
