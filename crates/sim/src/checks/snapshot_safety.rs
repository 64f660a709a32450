//! Snapshot Safety: a state that came by a snapshot is the one that others have had at its index, and taking one in
//! moves neither term nor commit index back, nor the beginning of the log (Raft §7).

use super::{View, violation};
use crate::network::Place;
use crate::register::Registers;
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
    /// Nothing was applied yet by so many nodes.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        Self { digests: vec![Registers::default().digest()], nodes: vec![Default::default(); nodes] }
    }

    /// A process begins.
    pub fn begun(&mut self, place: Place) {
        self.nodes[place] = Default::default();
    }

    /// A node has this state, or is about to.
    ///
    /// # Errors
    /// If it is not the one that others have had at that index.
    pub fn became(&mut self, place: Place, registers: &Registers) -> Result<(), Violation> {
        let index = registers.applied.index;
        match self.digests.get(index.0 as usize) {
            Some(&digest) if digest == registers.digest() => Ok(()),
            Some(_) => violation(PROPERTY, format!("the state at {index} is another at n{} than elsewhere", place + 1)),
            None if index.0 == self.digests.len() as u64 => {
                self.digests.push(registers.digest());
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

    fn state(index: u64, written: bool) -> Registers {
        let mut registers = Registers::default();
        if written {
            let command = crate::register::Command {
                op: crate::register::OpId(7),
                key: 0,
                condition: crate::register::Condition::Always,
            };
            let mut bytes = bytes::BytesMut::new();
            command.encode(0, &mut bytes);
            registers.apply(LogId::new(1, index), &bytes.freeze()).unwrap();
        }
        registers.skip(LogId::new(1, index));
        registers
    }

    #[test]
    fn another_state_at_an_index_is_noticed() {
        let mut check = SnapshotSafety::new(2);
        assert_eq!(check.became(0, &state(1, true)), Ok(()));
        assert_eq!(check.became(1, &state(1, true)), Ok(()));
        assert!(check.became(1, &state(1, false)).is_err());
        assert!(check.became(1, &state(5, true)).is_err(), "nobody has been there");
    }

    #[test]
    fn what_goes_back_is_noticed() {
        let configurations = founded(3);
        let check = |log: &TermRuns, term, commit| {
            let mut check = SnapshotSafety::new(1);
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
