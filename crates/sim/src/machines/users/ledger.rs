//! What the machines of a group have told, shared with the clients' side: what has changed at each revision, and what is
//! wrong.
//!
//! A machine that has become a snapshot has not seen what led there, and its watches hear of it all the same. Another
//! machine has.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vlot_raft::invariants::Violation;

use super::changes::Change;

/// What has changed at each revision.
pub(super) type Changes = BTreeMap<i64, Vec<Change>>;

/// Shared by the clients of a group and all its machines.
#[derive(Clone, Debug)]
pub(super) struct Ledger(Arc<Mutex<Told>>);

/// What was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// As the first machine says that came to a revision.
    pub changes: Changes,
    /// The first that was found.
    pub violation: Option<Violation>,
    /// What the watches of the next machine are drawn from.
    pub seed: u64,
    pub sums: Sums,
}

/// How often what was put to the test has come up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub created: u64,
    pub refused: u64,
    /// Watches that were ended because they were not permitted any more.
    pub ended: u64,
    pub events: u64,
    /// Watches that were found to have heard everything.
    pub complete: u64,
    /// Changes of a key by which a watch was ended before, that it would have heard of.
    pub withheld: u64,
}

#[cfg(test)]
impl Sums {
    pub fn add(&mut self, other: Self) {
        let Self { created, refused, ended, events, complete, withheld } = self;
        *created += other.created;
        *refused += other.refused;
        *ended += other.ended;
        *events += other.events;
        *complete += other.complete;
        *withheld += other.withheld;
    }

    /// The one that has come up least.
    pub fn least(&self) -> u64 {
        let Self { created, refused, ended, events, complete, withheld } = *self;
        [created, refused, ended, events, complete, withheld].into_iter().min().unwrap_or_default()
    }
}

impl Ledger {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Told { seed, ..Told::default() })))
    }

    pub fn told(&self) -> MutexGuard<'_, Told> {
        // A violation that is missed because of a panic is one less to be told of.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A machine has come to a revision by these changes.
    ///
    /// # Errors
    /// Another has come to it by others.
    pub fn changed(&self, revision: i64, changes: Vec<Change>) -> Result<(), Violation> {
        let mut told = self.told();
        let known = told.changes.entry(revision).or_insert_with(|| changes.clone());
        if *known == changes {
            return Ok(());
        }
        let shown_by = format!("one member has changed {known:?} at {revision}, and another {changes:?}");
        Err(Violation { property: "Members Are Alike", shown_by })
    }

    /// Keeps what is wrong, if nothing was before.
    pub fn found(&self, outcome: Result<(), Violation>) {
        if let Err(violation) = outcome {
            self.told().violation.get_or_insert(violation);
        }
    }
}
