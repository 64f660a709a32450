//! Election Safety: at most one leader can be elected in a given term (Raft §5.2).
//!
//! And what makes it true: a node gives one vote a term, durably, and a leader has durable votes of a quorum of its
//! members, which while two configurations overlap is one of each (Raft §6).

use super::{View, violation};
use crate::place::{Place, place_of};
use std::collections::{BTreeMap, BTreeSet};
use vlot_raft::effect::RoleName;
use vlot_raft::id::{NodeId, Term};
use vlot_raft::invariants::Violation;

const PROPERTY: &str = "Election Safety";

/// The leader of each term, and the votes of each node.
#[derive(Debug)]
pub struct ElectionSafety {
    leaders: BTreeMap<Term, NodeId>,
    /// Which node voted for which candidate, in which term.
    votes: BTreeSet<(Term, Place, NodeId)>,
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// The last term in which it was seen to lead.
    seen: Term,
    /// Its newest durable term, and the candidate that it has voted for in it.
    term: Term,
    vote: Option<NodeId>,
}

impl ElectionSafety {
    /// Nothing is known yet of so many nodes.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        Self { leaders: BTreeMap::new(), votes: BTreeSet::new(), nodes: vec![Node::default(); nodes] }
    }

    /// A node's term and vote are durable.
    ///
    /// # Errors
    /// If it has voted for another, or its term has fallen.
    pub fn voted(&mut self, place: Place, term: Term, vote: Option<NodeId>) -> Result<(), Violation> {
        let node = &mut self.nodes[place];
        if term < node.term {
            let shown_by = format!("n{} had term {} on its disk, and then {term}", place + 1, node.term);
            return violation(PROPERTY, shown_by);
        }
        if term == node.term && node.vote.is_some() && vote != node.vote {
            let shown_by = format!("in term {term} n{} voted for {:?} and then for {vote:?}", place + 1, node.vote);
            return violation(PROPERTY, shown_by);
        }
        (node.term, node.vote) = (term, vote);
        self.votes.extend(vote.map(|vote| (term, place, vote)));
        Ok(())
    }

    /// A node has forgotten its votes with its disk. They count for the candidate that had them.
    pub fn wiped(&mut self, place: Place) {
        self.nodes[place] = Node::default();
    }

    /// Looks at a replica. If it leads a term, and is seen to for the first time, gives back the voters that have
    /// elected it.
    ///
    /// # Errors
    /// If it leads and should not.
    pub fn check(&mut self, view: &View<'_>) -> Result<Option<Vec<NodeId>>, Violation> {
        if view.role != RoleName::Leader || self.nodes[view.place].seen == view.term {
            return Ok(None);
        }
        self.nodes[view.place].seen = view.term;
        let leader = *self.leaders.entry(view.term).or_insert(view.node());
        if leader != view.node() {
            return violation(PROPERTY, format!("n{leader} and n{} lead term {}", view.node(), view.term));
        }
        let configuration = view.configurations.newest();
        let voted = |node: NodeId| self.votes.contains(&(view.term, place_of(node), leader));
        let voters: Vec<NodeId> = configuration.voters().filter(|&node| voted(node)).collect();
        if !configuration.is_quorum(voted) {
            let shown_by = format!("n{leader} leads term {} with durable votes of {voters:?}", view.term);
            return violation(PROPERTY, format!("{shown_by} of {:?}", configuration.members()));
        }
        Ok(Some(voters))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::testing::{founded, leader, log};
    use vlot_raft::configuration::{Change, Configuration, Configurations};

    /// The first two of three nodes have voted for the first.
    fn elected() -> ElectionSafety {
        let mut check = ElectionSafety::new(4);
        for place in 0..2 {
            check.voted(place, Term(1), Some(NodeId(1))).unwrap();
        }
        check
    }

    #[test]
    fn one_leader_with_a_quorum_of_votes() {
        let (log, founded) = (log(&[]), founded(3));
        let mut check = elected();
        assert_eq!(check.check(&leader(0, 1, &log, &founded)), Ok(Some(vec![NodeId(1), NodeId(2)])));
        assert_eq!(check.check(&leader(0, 1, &log, &founded)), Ok(None));
    }

    #[test]
    fn two_leaders_of_a_term_are_noticed() {
        let (log, founded, mut check) = (log(&[]), founded(3), elected());
        check.check(&leader(0, 1, &log, &founded)).unwrap();
        assert!(check.check(&leader(1, 1, &log, &founded)).is_err());
    }

    #[test]
    fn a_leader_without_durable_votes_is_noticed() {
        assert!(elected().check(&leader(0, 2, &log(&[]), &founded(3))).is_err());
    }

    #[test]
    fn a_leader_without_votes_of_both_configurations_is_noticed() {
        let changes = [Change::Voter(NodeId(4)), Change::Remove(NodeId(2))];
        let joint = Configuration::of_voters((1..=3).map(NodeId)).changed(&changes).unwrap();
        let joint = Configurations::begin(joint);
        let mut check = elected();
        assert!(elected().check(&leader(0, 1, &log(&[]), &joint)).is_err(), "one of three new voters");
        check.voted(3, Term(1), Some(NodeId(1))).unwrap();
        assert!(check.check(&leader(0, 1, &log(&[]), &joint)).is_ok());
    }

    #[test]
    fn a_second_vote_and_a_fallen_term_are_noticed() {
        assert!(elected().voted(0, Term(1), Some(NodeId(2))).is_err());
        assert!(elected().voted(0, Term(1), None).is_err());
        assert!(elected().voted(0, Term(0), None).is_err());
        assert_eq!(elected().voted(0, Term(2), None), Ok(()));
        let mut check = elected();
        check.wiped(0);
        assert_eq!(check.voted(0, Term(0), None), Ok(()), "it has another disk");
    }
}
