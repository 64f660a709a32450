//! Snapshot Safety: a state that came by a snapshot is the one that others have had at its index, and taking one in
//! moves neither term nor commit index back, nor the beginning of the log (Raft §7).

use super::{View, violation};
use crate::place::Place;
use vlot_raft::id::{LogIndex, Term};
use vlot_raft::invariants::Violation;

const PROPERTY: &str = "Snapshot Safety";

/// The states there were, and how far each process has come.
#[derive(Debug)]
pub struct SnapshotSafety {
    /// A number for the state after each entry, as the first node had it.
    digests: Vec<u64>,
    nodes: Vec<(Term, LogIndex, LogIndex)>,
}

impl SnapshotSafety {
    /// Nothing was applied yet by so many nodes: their state has this number.
    #[must_use]
    pub fn new(nodes: usize, digest: u64) -> Self {
        Self { digests: vec![digest], nodes: vec![Default::default(); nodes] }
    }

    /// A process begins.
    pub fn begun(&mut self, place: Place) {
        self.nodes[place] = Default::default();
    }

    /// A node has the state with this number, or is about to.
    ///
    /// # Errors
    /// If it is not the one that others have had at that index.
    pub fn became(&mut self, place: Place, index: LogIndex, digest: u64) -> Result<(), Violation> {
        match self.digests.get(index.0 as usize) {
            Some(&known) if known == digest => Ok(()),
            Some(_) => violation(PROPERTY, format!("the state at {index} is another at n{} than elsewhere", place + 1)),
            None if index.0 == self.digests.len() as u64 => {
                self.digests.push(digest);
                Ok(())
            }
            None => violation(PROPERTY, format!("n{} has the state at {index}, which nobody had before", place + 1)),
        }
    }

    /// Looks at a replica.
    ///
    /// # Errors
    /// If it has gone back.
    pub fn check(&mut self, view: &View<'_>) -> Result<(), Violation> {
        let now = (view.term, view.commit, view.log.after().index);
        let before = std::mem::replace(&mut self.nodes[view.place], now);
        if now.0 < before.0 || now.1 < before.1 || now.2 < before.2 {
            let shown_by = format!("n{}: term, commit and beginning of the log {before:?}, then {now:?}", view.node());
            return violation(PROPERTY, shown_by);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::testing::{founded, leader, log};
    use vlot_raft::id::LogId;
    use vlot_raft::term_runs::TermRuns;

    #[test]
    fn another_state_at_an_index_is_noticed() {
        let mut check = SnapshotSafety::new(2, 0);
        assert_eq!(check.became(0, LogIndex(1), 7), Ok(()));
        assert_eq!(check.became(1, LogIndex(1), 7), Ok(()));
        assert!(check.became(1, LogIndex(1), 8).is_err());
        assert!(check.became(1, LogIndex(5), 7).is_err(), "nobody has been there");
    }

    #[test]
    fn what_goes_back_is_noticed() {
        let configurations = founded(3);
        let check = |log: &TermRuns, term, commit| {
            let mut check = SnapshotSafety::new(1, 0);
            let before = TermRuns::empty(LogId::new(2, 2));
            let view = leader(0, 2, &before, &configurations);
            check.check(&View { commit: LogIndex(2), ..view }).unwrap();
            check.check(&View { commit: LogIndex(commit), ..leader(0, term, log, &configurations) })
        };
        let later = TermRuns::empty(LogId::new(2, 5));
        assert_eq!(check(&later, 2, 5), Ok(()));
        assert!(check(&later, 1, 5).is_err(), "the term");
        assert!(check(&later, 2, 1).is_err(), "the commit index");
        assert!(check(&log(&[1, 1]), 2, 2).is_err(), "the beginning of the log");
    }
}
