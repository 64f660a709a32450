//! Election Safety: at most one leader can be elected in a given term (Raft §5.2).
//!
//! And what makes it true: a node gives one vote a term, durably, and who leads has a quorum of durable votes.

use super::{View, is_quorum, violation};
use crate::network::Place;
use std::collections::BTreeMap;
use vlot_raft::effect::RoleName;
use vlot_raft::id::{NodeId, Term};
use vlot_raft::invariants::Violation;

const PROPERTY: &str = "Election Safety";

/// Who led which term, and who voted for whom.
#[derive(Debug)]
pub struct ElectionSafety {
    leaders: BTreeMap<Term, NodeId>,
    /// For each node, whom it has durably voted for.
    votes: Vec<BTreeMap<Term, NodeId>>,
    /// For each node, the last term in which it was seen to lead.
    seen: Vec<Term>,
    /// For each node, its newest durable term.
    terms: Vec<Term>,
}

impl ElectionSafety {
    /// Nothing is known yet of so many nodes.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        Self {
            leaders: BTreeMap::new(),
            votes: vec![BTreeMap::new(); nodes],
            seen: vec![Term::ZERO; nodes],
            terms: vec![Term::ZERO; nodes],
        }
    }

    /// A node's term and vote are durable.
    ///
    /// # Errors
    /// If it has voted for another, or its term has fallen.
    pub fn voted(&mut self, place: Place, term: Term, vote: Option<NodeId>) -> Result<(), Violation> {
        let known = std::mem::replace(&mut self.terms[place], term);
        if term < known {
            return violation(PROPERTY, format!("n{} had term {known} on its disk, and then {term}", place + 1));
        }
        let earlier = self.votes[place].get(&term).copied();
        if earlier.is_some() && earlier != vote {
            let shown_by = format!("in term {term} n{} voted for {earlier:?} and then for {vote:?}", place + 1);
            return violation(PROPERTY, shown_by);
        }
        if let Some(vote) = vote {
            self.votes[place].insert(term, vote);
        }
        Ok(())
    }

    /// Looks at a replica.
    ///
    /// # Errors
    /// If it leads and should not.
    pub fn check(&mut self, view: &View<'_>) -> Result<(), Violation> {
        if view.role != RoleName::Leader || self.seen[view.place] == view.term {
            return Ok(());
        }
        self.seen[view.place] = view.term;
        let leader = *self.leaders.entry(view.term).or_insert(view.node());
        if leader != view.node() {
            return violation(PROPERTY, format!("n{leader} and n{} lead term {}", view.node(), view.term));
        }
        let votes = self.votes.iter().filter(|votes| votes.get(&view.term) == Some(&leader)).count();
        if !is_quorum(votes, self.votes.len()) {
            let shown_by = format!("n{leader} leads term {} with {votes} durable votes", view.term);
            return violation(PROPERTY, shown_by);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vlot_raft::id::LogIndex;
    use vlot_raft::term_runs::TermRuns;

    fn leader(place: Place, term: u64, log: &TermRuns) -> View<'_> {
        let (commit, ready) = (LogIndex::ZERO, LogIndex::ZERO);
        View { place, role: RoleName::Leader, term: Term(term), vote: None, log, commit, ready }
    }

    fn elected() -> ElectionSafety {
        let mut check = ElectionSafety::new(3);
        for place in 0..2 {
            check.voted(place, Term(1), Some(NodeId(1))).unwrap();
        }
        check
    }

    #[test]
    fn one_leader_with_a_quorum_of_votes() {
        let log = TermRuns::default();
        assert_eq!(elected().check(&leader(0, 1, &log)), Ok(()));
    }

    #[test]
    fn two_leaders_of_a_term_are_noticed() {
        let (log, mut check) = (TermRuns::default(), elected());
        check.check(&leader(0, 1, &log)).unwrap();
        assert!(check.check(&leader(1, 1, &log)).is_err());
    }

    #[test]
    fn a_leader_without_durable_votes_is_noticed() {
        let log = TermRuns::default();
        assert!(elected().check(&leader(0, 2, &log)).is_err());
    }

    #[test]
    fn a_second_vote_and_a_fallen_term_are_noticed() {
        assert!(elected().voted(0, Term(1), Some(NodeId(2))).is_err());
        assert!(elected().voted(0, Term(1), None).is_err());
        assert!(elected().voted(0, Term(0), None).is_err());
        assert_eq!(elected().voted(0, Term(2), None), Ok(()));
    }
}
