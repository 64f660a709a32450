//! State Machine Safety: if a server has applied a log entry at a given index to its state machine, no other server
//! will ever apply a different log entry for the same index (Raft §5.4.3). Each applies them in order, each once.

use super::at_most_once::AtMostOnce;
use super::violation;
use crate::place::Place;
use std::fmt::Debug;
use vlot_node::payload::Payload;
use vlot_node::proposal_id::ProposalId;
use vlot_raft::id::{LogId, LogIndex};
use vlot_raft::invariants::Violation;

const PROPERTY: &str = "State Machine Safety";

/// What was applied.
#[derive(Debug)]
pub struct StateMachineSafety<R> {
    /// What the first node that applied an index found there; index 1 comes first.
    applied: Vec<Applied<R>>,
    /// How far each node has come.
    nodes: Vec<LogIndex>,
    at_most_once: AtMostOnce,
}

#[derive(Debug)]
struct Applied<R> {
    id: LogId,
    payload: Payload,
    /// What has come of its commands.
    replies: Vec<R>,
}

impl<R: Debug + PartialEq> StateMachineSafety<R> {
    /// Nothing was applied yet.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        Self { applied: Vec::new(), nodes: vec![LogIndex::ZERO; nodes], at_most_once: AtMostOnce::default() }
    }

    /// A process begins with this much applied.
    pub fn begun(&mut self, place: Place, applied: LogIndex) {
        self.nodes[place] = applied;
    }

    /// A node's state machine has become that of a snapshot, and goes on from there.
    ///
    /// # Errors
    /// If it has gone back, or to where no state machine has been.
    pub fn restored(&mut self, place: Place, id: LogId) -> Result<(), Violation> {
        let before = std::mem::replace(&mut self.nodes[place], id.index);
        let known = self.applied.get(id.index.prev().0 as usize).map(|applied| applied.id);
        if id.index < before || known != Some(id) {
            let shown_by = format!("n{} had applied {before}, and becomes the state at {id}", place + 1);
            return violation(PROPERTY, shown_by);
        }
        Ok(())
    }

    /// A node has applied an entry, and this has come of it.
    ///
    /// # Errors
    /// If it should not have, or something else has come of it elsewhere.
    pub fn applied(&mut self, place: Place, id: LogId, payload: &Payload, replies: Vec<R>) -> Result<(), Violation> {
        let before = std::mem::replace(&mut self.nodes[place], id.index);
        let node = place + 1;
        if id.index != before.next() {
            return violation(PROPERTY, format!("n{node} has applied {before}, and then {id}"));
        }
        let Some(first) = self.applied.get(before.0 as usize) else {
            // No state machine skips an index, so that the first to apply this one has applied or met all before it.
            self.applied.push(Applied { id, payload: payload.clone(), replies });
            return self.at_most_once.applied(id, payload);
        };
        if first.id != id || first.payload != *payload {
            return violation(PROPERTY, format!("n{node} has applied {id}, and another {} in its place", first.id));
        }
        if first.replies != replies {
            let shown_by = format!("{id} led to {replies:?} at n{node}, and to {:?} elsewhere", first.replies);
            return violation(PROPERTY, shown_by);
        }
        Ok(())
    }

    /// What came of each proposal that was applied anywhere, in order.
    pub fn replies(&self) -> impl Iterator<Item = (LogId, ProposalId, &R)> + '_ {
        self.applied.iter().flat_map(|Applied { id, payload, replies }| {
            payload.proposals().zip(replies).map(|(proposal, reply)| (*id, proposal, reply))
        })
    }

    /// The last index that was applied anywhere.
    #[must_use]
    pub fn last(&self) -> LogIndex {
        LogIndex(self.applied.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blank(check: &mut StateMachineSafety<u64>, place: Place, term: u64, index: u64) -> Result<(), Violation> {
        check.applied(place, LogId::new(term, index), &Payload::Blank, vec![])
    }

    #[test]
    fn a_different_entry_is_noticed() {
        let mut check = StateMachineSafety::<u64>::new(2);
        assert_eq!(blank(&mut check, 0, 1, 1), Ok(()));
        assert!(blank(&mut check, 1, 2, 1).is_err());
    }

    #[test]
    fn a_gap_and_a_repetition_are_noticed() {
        let mut check = StateMachineSafety::<u64>::new(2);
        blank(&mut check, 0, 1, 1).unwrap();
        blank(&mut check, 0, 1, 2).unwrap();
        assert!(blank(&mut check, 0, 1, 2).is_err());
        assert!(blank(&mut check, 1, 1, 2).is_err());
    }

    #[test]
    fn a_new_process_goes_on_from_what_was_durable() {
        let mut check = StateMachineSafety::<u64>::new(2);
        blank(&mut check, 0, 1, 1).unwrap();
        blank(&mut check, 0, 1, 2).unwrap();
        check.begun(0, LogIndex(1));
        assert_eq!(blank(&mut check, 0, 1, 2), Ok(()));
        assert_eq!(check.last(), LogIndex(2));
    }

    #[test]
    fn a_snapshot_that_leads_back_or_nowhere_is_noticed() {
        let mut check = StateMachineSafety::<u64>::new(2);
        for index in 1..=3 {
            blank(&mut check, 0, 1, index).unwrap();
        }
        assert_eq!(check.restored(1, LogId::new(1, 2)), Ok(()));
        assert_eq!(blank(&mut check, 1, 1, 3), Ok(()));
        assert!(check.restored(0, LogId::new(1, 2)).is_err(), "back");
        assert!(check.restored(1, LogId::new(1, 4)).is_err(), "nobody has been there");
        assert!(check.restored(1, LogId::new(2, 3)).is_err(), "another entry");
    }

    #[test]
    fn a_different_outcome_is_noticed() {
        let mut check = StateMachineSafety::<u64>::new(2);
        let apply = |check: &mut StateMachineSafety<u64>, place, reply| {
            check.applied(place, LogId::new(1, 1), &Payload::Blank, vec![reply])
        };
        apply(&mut check, 0, 1).unwrap();
        assert!(apply(&mut check, 1, 2).is_err());
    }
}
