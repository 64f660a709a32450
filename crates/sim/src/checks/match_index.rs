//! Acknowledged Is Durable: up to where a leader takes a peer's log for the same as its own (`matchIndex`, Raft figure 2),
//! the peer has it on its disk. It is looked at when it rises, and while no node leads a later term: a later leader may
//! have put something else in its place.

use super::{View, has_had, violation};
use crate::place::{Place, node_at, place_of};
use vlot_log::index::GroupState;
use vlot_raft::effect::RoleName;
use vlot_raft::id::{LogId, LogIndex, NodeId, Term};
use vlot_raft::invariants::Violation;

const PROPERTY: &str = "Acknowledged Is Durable";

/// What leaders have taken for acknowledged.
#[derive(Debug)]
pub struct MatchIndex {
    /// The last term that had a leader.
    newest: Term,
    /// By the leader's place and the peer's.
    known: Vec<Vec<LogIndex>>,
    /// Those whose disk was lost: what they had acknowledged is gone.
    wiped: Vec<bool>,
}

impl MatchIndex {
    /// Of so many machines.
    #[must_use]
    pub fn new(hosts: usize) -> Self {
        Self { newest: Term::default(), known: vec![vec![LogIndex::ZERO; hosts]; hosts], wiped: vec![false; hosts] }
    }

    /// A machine's disks are empty again.
    pub fn wiped(&mut self, place: Place) {
        self.wiped[place] = true;
    }

    /// Looks at a replica. `matched` is its view of its peers, `disks` what is durable on each node.
    ///
    /// # Errors
    /// If it takes for acknowledged what its peer does not have.
    pub fn check<'a>(
        &mut self,
        view: &View<'_>,
        matched: impl Iterator<Item = (NodeId, LogIndex)>,
        disks: impl Fn(Place) -> &'a GroupState,
    ) -> Result<(), Violation> {
        if view.role != RoleName::Leader || view.term < self.newest {
            return Ok(());
        }
        self.newest = view.term;
        for (peer, index) in matched {
            let place = place_of(peer);
            if std::mem::replace(&mut self.known[view.place][place], index) == index || self.wiped[place] {
                continue;
            }
            let Some(term) = view.log.term_at(index) else { continue };
            let id = LogId { term, index };
            if !has_had(&disks(place).runs, id) {
                let (leader, last) = (node_at(view.place), disks(place).runs.last_id());
                let shown_by =
                    format!("n{leader} has {id} for acknowledged by n{peer}, whose log on disk ends with {last}");
                return violation(PROPERTY, shown_by);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::testing::{founded, leader, log};

    /// n1 leads a term with this log and has so many entries acknowledged by n2, on whose disk there is a log like this.
    fn check(check: &mut MatchIndex, term: u64, matched: u64, on_disk: &[u64]) -> Result<(), Violation> {
        let (here, founded) = (log(&[1, 1, 3, 3]), founded(3));
        let disk = GroupState { runs: log(on_disk), ..GroupState::default() };
        let matched = [(NodeId(2), LogIndex(matched))].into_iter();
        check.check(&leader(0, term, &here, &founded), matched, |_| &disk)
    }

    #[test]
    fn what_the_peer_has_is_acknowledged() {
        assert_eq!(check(&mut MatchIndex::new(3), 3, 0, &[]), Ok(()));
        assert_eq!(check(&mut MatchIndex::new(3), 3, 4, &[1, 1, 3, 3]), Ok(()));
        assert_eq!(check(&mut MatchIndex::new(3), 3, 2, &[1, 1, 2]), Ok(()));
    }

    #[test]
    fn what_the_peer_has_not_is_noticed() {
        assert!(check(&mut MatchIndex::new(3), 3, 3, &[1, 1]).is_err(), "too short");
        assert!(check(&mut MatchIndex::new(3), 3, 3, &[1, 1, 2]).is_err(), "another entry");
    }

    #[test]
    fn a_leader_that_has_a_successor_may_be_wrong() {
        let mut match_index = MatchIndex::new(3);
        let (here, founded) = (log(&[1, 1, 3, 3, 4]), founded(3));
        let disk = GroupState::default();
        match_index.check(&leader(1, 4, &here, &founded), std::iter::empty(), |_| &disk).unwrap();
        assert_eq!(check(&mut match_index, 3, 3, &[1, 1]), Ok(()));
        assert!(check(&mut match_index, 4, 3, &[1, 1]).is_err());
    }

    #[test]
    fn who_has_lost_its_disk_may_be_taken_for_who_it_was() {
        let mut match_index = MatchIndex::new(3);
        match_index.wiped(1);
        assert_eq!(check(&mut match_index, 3, 3, &[]), Ok(()));
    }
}
