//! Commitment is for good: what is committed is durable, at that moment, on a quorum of the members that count, which
//! while two configurations overlap is one of each; on each node the commit index never falls; and no node applies what
//! is not durable on its own disk.
//!
//! A leader is the first to know what it commits, and it counts replicas only for entries of its own term: a quorum may
//! hold an older one, and still lose it (Raft §5.4.2, figure 8).

use super::{View, has_had, violation};
use crate::place::{Place, place_of};
use vlot_log::index::GroupState;
use vlot_raft::configuration::Configuration;
use vlot_raft::effect::RoleName;
use vlot_raft::id::{LogId, LogIndex, NodeId};
use vlot_raft::invariants::Violation;

const PROPERTY: &str = "Committed Is Durable";

/// How far each node has committed, and all together.
#[derive(Debug)]
pub struct Commitment {
    nodes: Vec<Node>,
    /// The last entry that any node knew to be committed.
    committed: LogId,
}

/// A node, as it was seen last.
#[derive(Clone, Debug, Default)]
struct Node {
    commit: LogIndex,
    ready: LogIndex,
    configuration: Configuration,
    /// The entry that has set the configuration.
    set_at: LogIndex,
}

impl Commitment {
    /// Nothing is committed yet by so many nodes.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        Self { nodes: vec![Node::default(); nodes], committed: LogId::ZERO }
    }

    /// A process begins with this much applied.
    pub fn begun(&mut self, place: Place, applied: LogIndex) {
        self.nodes[place] = Node { commit: applied, ready: applied, ..Node::default() };
    }

    /// Looks at a replica. `disks` is what is durable on each node. Gives back what it is the first to commit, and the
    /// voters that hold it.
    ///
    /// # Errors
    /// If it has committed what is not durable, or less than before.
    pub fn check<'a>(
        &mut self,
        view: &View<'_>,
        disks: impl Fn(Place) -> &'a GroupState,
    ) -> Result<Option<(LogId, Vec<NodeId>)>, Violation> {
        let node = &mut self.nodes[view.place];
        let (commit, ready) = (node.commit, node.ready);
        (node.commit, node.ready) = (view.commit, view.ready);
        if view.commit < commit || view.ready < ready {
            let shown_by =
                format!("n{}: commit {commit} then {}, ready {ready} then {}", view.node(), view.commit, view.ready);
            return violation(PROPERTY, shown_by);
        }
        if view.ready > ready {
            self.is_durable_here(view, disks(view.place))?;
        }
        let first = if view.commit > self.committed.index { Some(self.is_on_quorum(view, disks)?) } else { None };
        let (node, set_at) = (&mut self.nodes[view.place], view.configurations.newest_at());
        if node.set_at != set_at || node.configuration.members().is_empty() {
            (node.set_at, node.configuration) = (set_at, view.configurations.newest().clone());
        }
        Ok(first)
    }

    fn is_on_quorum<'a>(
        &mut self,
        view: &View<'_>,
        disks: impl Fn(Place) -> &'a GroupState,
    ) -> Result<(LogId, Vec<NodeId>), Violation> {
        let Some(term) = view.log.term_at(view.commit) else {
            let shown_by = format!("n{} has not the entry {} that it has committed", view.node(), view.commit);
            return violation(PROPERTY, shown_by);
        };
        self.committed = LogId { term, index: view.commit };
        if view.role == RoleName::Leader && term != view.term {
            let shown_by = format!("n{} leads term {} and has counted {}", view.node(), view.term, self.committed);
            return violation(PROPERTY, shown_by);
        }
        let holds = |node: NodeId| has_had(&disks(place_of(node)).runs, self.committed);
        let newest = view.configurations.newest();
        // In the turn in which a configuration is appended, what was committed before it counts by the one before.
        if !newest.is_quorum(holds) && !self.nodes[view.place].configuration.is_quorum(holds) {
            let holders: Vec<NodeId> = newest.voters().filter(|&node| holds(node)).collect();
            let shown_by = format!("n{} has committed {}, durable on {holders:?}", view.node(), self.committed);
            return violation(PROPERTY, format!("{shown_by} of {:?}", newest.members()));
        }
        let before = self.nodes[view.place].configuration.voters();
        Ok((self.committed, newest.voters().chain(before).filter(|&node| holds(node)).collect()))
    }

    fn is_durable_here(&self, view: &View<'_>, disk: &GroupState) -> Result<(), Violation> {
        // While a snapshot takes its place in the log, the log begins after what may be applied.
        let is_here = match view.log.term_at(view.ready) {
            Some(term) => has_had(&disk.runs, LogId { term, index: view.ready }),
            None => view.ready < view.log.after().index && view.ready <= disk.runs.last(),
        };
        if !is_here {
            return violation(PROPERTY, format!("n{} applies {}, which is not on its disk", view.node(), view.ready));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::testing::{founded, leader};
    use vlot_raft::configuration::{Change, Configurations};
    use vlot_raft::id::Term;
    use vlot_raft::term_runs::TermRuns;

    fn log(count: u64) -> TermRuns {
        TermRuns::one_term(LogId::ZERO, Term(1), count)
    }

    /// Node 1 has three entries and commits and applies so many; the disks hold so many.
    fn check(check: &mut Commitment, commit: u64, ready: u64, on_disk: [u64; 3]) -> Result<(), Violation> {
        check_in(check, 1, &founded(3), commit, ready, &on_disk)
    }

    fn check_in(
        check: &mut Commitment,
        term: u64,
        configurations: &Configurations,
        commit: u64,
        ready: u64,
        on_disk: &[u64],
    ) -> Result<(), Violation> {
        let log_here = &log(3);
        let view = leader(0, term, log_here, configurations);
        let view = View { commit: LogIndex(commit), ready: LogIndex(ready), ..view };
        let disks: Vec<GroupState> =
            on_disk.iter().map(|&count| GroupState { runs: log(count), ..GroupState::default() }).collect();
        check.check(&view, |place| &disks[place]).map(|_| ())
    }

    #[test]
    fn a_quorum_of_disks_commits() {
        assert_eq!(check(&mut Commitment::new(3), 2, 0, [1, 2, 3]), Ok(()));
        assert_eq!(check(&mut Commitment::new(3), 2, 2, [2, 0, 3]), Ok(()));
    }

    #[test]
    fn counting_replicas_of_an_older_entry_is_noticed() {
        assert!(check_in(&mut Commitment::new(3), 2, &founded(3), 2, 0, &[3, 3, 3]).is_err());
    }

    #[test]
    fn committing_what_is_not_there_is_noticed() {
        assert!(check(&mut Commitment::new(3), 4, 0, [4, 4, 4]).is_err());
    }

    #[test]
    fn less_than_a_quorum_is_noticed() {
        assert!(check(&mut Commitment::new(3), 2, 0, [3, 1, 1]).is_err());
    }

    #[test]
    fn less_than_a_quorum_of_either_configuration_is_noticed() {
        let founders = Configuration::of_voters((1..=3).map(NodeId));
        let changes = [Change::Remove(NodeId(1)), Change::Remove(NodeId(2)), Change::Voter(NodeId(4))];
        let joint = Configurations::begin(founders.changed(&changes).unwrap());
        let committed = |on_disk: [u64; 4]| check_in(&mut Commitment::new(4), 1, &joint, 2, 0, &on_disk);
        assert_eq!(committed([2, 0, 2, 2]), Ok(()));
        assert!(committed([2, 2, 2, 0]).is_err(), "half of the new voters");
        assert!(committed([0, 0, 2, 2]).is_err(), "one of three old voters");
    }

    #[test]
    fn a_learner_does_not_count() {
        let founders = Configuration::of_voters((1..=3).map(NodeId));
        let with_learner = Configurations::begin(founders.changed(&[Change::Learner(NodeId(4))]).unwrap());
        assert!(check_in(&mut Commitment::new(4), 1, &with_learner, 2, 0, &[2, 0, 0, 2]).is_err());
    }

    #[test]
    fn applying_what_is_not_durable_is_noticed() {
        assert!(check(&mut Commitment::new(3), 2, 2, [1, 2, 3]).is_err());
    }

    #[test]
    fn a_snapshot_in_the_place_of_the_log_is_durable_before_it_is_applied() {
        let applied = |ready, on_disk: &TermRuns| {
            let (log, founded) = (TermRuns::empty(LogId::new(1, 5)), founded(3));
            let view = View { commit: LogIndex(5), ready: LogIndex(ready), ..leader(0, 1, &log, &founded) };
            let disk = GroupState { runs: on_disk.clone(), ..GroupState::default() };
            let mut commitment = Commitment::new(3);
            commitment.committed = LogId::new(1, 5);
            commitment.check(&view, |_| &disk).map(|_| ())
        };
        assert_eq!(applied(5, &TermRuns::empty(LogId::new(1, 5))), Ok(()));
        assert_eq!(applied(3, &log(3)), Ok(()), "what it had before may still be applied");
        assert!(applied(5, &log(3)).is_err());
        assert!(applied(4, &log(3)).is_err());
    }

    #[test]
    fn a_commit_index_that_falls_is_noticed() {
        let mut commitment = Commitment::new(3);
        check(&mut commitment, 2, 1, [3, 3, 3]).unwrap();
        assert!(check(&mut commitment, 1, 1, [3, 3, 3]).is_err());
        let mut commitment = Commitment::new(3);
        check(&mut commitment, 2, 2, [3, 3, 3]).unwrap();
        assert!(check(&mut commitment, 2, 1, [3, 3, 3]).is_err(), "nor may what is applied");
        let mut commitment = Commitment::new(3);
        check(&mut commitment, 2, 2, [3, 3, 3]).unwrap();
        commitment.begun(0, LogIndex(1));
        assert_eq!(check(&mut commitment, 1, 1, [3, 3, 3]), Ok(()), "a new process may know less");
    }
}
