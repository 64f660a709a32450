//! Commitment is for good: what is committed is durable on a quorum of nodes at that moment, on each node the commit
//! index never falls, and nobody applies what is not durable on its own disk.
//!
//! A leader is the first to know what it commits, and it counts replicas only for entries of its own term: a quorum may
//! hold an older one, and still lose it (Raft §5.4.2, figure 8).

use super::{View, is_quorum, violation};
use crate::network::Place;
use vlot_log::index::GroupState;
use vlot_raft::effect::RoleName;
use vlot_raft::id::{LogId, LogIndex};
use vlot_raft::invariants::Violation;

const PROPERTY: &str = "Committed Is Durable";

/// How far each node has committed, and all together.
#[derive(Debug)]
pub struct Commitment {
    nodes: Vec<(LogIndex, LogIndex)>,
    /// The last entry that any node knew to be committed.
    committed: LogId,
}

impl Commitment {
    /// Nothing is committed yet.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        Self { nodes: vec![Default::default(); nodes], committed: LogId::ZERO }
    }

    /// A process begins with this much applied.
    pub fn begun(&mut self, place: Place, applied: LogIndex) {
        self.nodes[place] = (applied, applied);
    }

    /// Looks at a replica. `disks` is what is durable on each node.
    ///
    /// # Errors
    /// If it has committed what is not durable, or less than before.
    pub fn check<'a>(&mut self, view: &View<'_>, disks: impl Fn(Place) -> &'a GroupState) -> Result<(), Violation> {
        let (commit, ready) = std::mem::replace(&mut self.nodes[view.place], (view.commit, view.ready));
        if view.commit < commit || view.ready < ready {
            let shown_by =
                format!("n{}: commit {commit} then {}, ready {ready} then {}", view.node(), view.commit, view.ready);
            return violation(PROPERTY, shown_by);
        }
        if view.ready > ready {
            self.is_durable_here(view, disks(view.place))?;
        }
        if view.commit > self.committed.index {
            let Some(term) = view.log.term_at(view.commit) else {
                return violation(
                    PROPERTY,
                    format!("n{} has not the entry {} that it has committed", view.node(), view.commit),
                );
            };
            self.committed = LogId { term, index: view.commit };
            let holders = (0..self.nodes.len()).filter(|&place| disks(place).runs.contains(self.committed)).count();
            if view.role == RoleName::Leader && term != view.term {
                let shown_by = format!("n{} leads term {} and has counted {}", view.node(), view.term, self.committed);
                return violation(PROPERTY, shown_by);
            }
            if !is_quorum(holders, self.nodes.len()) {
                let shown_by = format!("n{} has committed {}, durable on {holders}", view.node(), self.committed);
                return violation(PROPERTY, shown_by);
            }
        }
        Ok(())
    }

    fn is_durable_here(&self, view: &View<'_>, disk: &GroupState) -> Result<(), Violation> {
        let here = view.log.term_at(view.ready);
        if here.is_none() || disk.runs.term_at(view.ready) != here {
            return violation(PROPERTY, format!("n{} applies {}, which is not on its disk", view.node(), view.ready));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vlot_raft::id::Term;
    use vlot_raft::term_runs::TermRuns;

    fn log(count: u64) -> TermRuns {
        TermRuns::one_term(LogId::ZERO, Term(1), count)
    }

    /// Node 1 has three entries and commits and applies so many; the disks hold so many.
    fn check(check: &mut Commitment, commit: u64, ready: u64, on_disk: [u64; 3]) -> Result<(), Violation> {
        check_in_term(check, 1, commit, ready, on_disk)
    }

    fn check_in_term(
        check: &mut Commitment,
        term: u64,
        commit: u64,
        ready: u64,
        on_disk: [u64; 3],
    ) -> Result<(), Violation> {
        let (log_here, commit, ready, term) = (&log(3), LogIndex(commit), LogIndex(ready), Term(term));
        let view = View { place: 0, role: RoleName::Leader, term, vote: None, log: log_here, commit, ready };
        let disks = on_disk.map(|count| GroupState { runs: log(count), ..GroupState::default() });
        check.check(&view, |place| &disks[place])
    }

    #[test]
    fn a_quorum_of_disks_commits() {
        assert_eq!(check(&mut Commitment::new(3), 2, 0, [1, 2, 3]), Ok(()));
        assert_eq!(check(&mut Commitment::new(3), 2, 2, [2, 0, 3]), Ok(()));
    }

    #[test]
    fn counting_replicas_of_an_older_entry_is_noticed() {
        assert!(check_in_term(&mut Commitment::new(3), 2, 2, 0, [3, 3, 3]).is_err());
    }

    #[test]
    fn less_than_a_quorum_is_noticed() {
        assert!(check(&mut Commitment::new(3), 2, 0, [3, 1, 1]).is_err());
    }

    #[test]
    fn applying_what_is_not_durable_is_noticed() {
        assert!(check(&mut Commitment::new(3), 2, 2, [1, 2, 3]).is_err());
    }

    #[test]
    fn a_commit_index_that_falls_is_noticed() {
        let mut commitment = Commitment::new(3);
        check(&mut commitment, 2, 1, [3, 3, 3]).unwrap();
        assert!(check(&mut commitment, 1, 1, [3, 3, 3]).is_err());
        let mut commitment = Commitment::new(3);
        check(&mut commitment, 2, 2, [3, 3, 3]).unwrap();
        commitment.begun(0, LogIndex(1));
        assert_eq!(check(&mut commitment, 1, 1, [3, 3, 3]), Ok(()), "a new process may know less");
    }
}
