//! What waits to be agreed on, on one node: its own proposals, and those that followers have sent it as their leader.
//!
//! Owns which of its own were sent in which term, so that a proposal is sent again exactly if it is certainly lost.
//! Must not know what a proposal holds.

use std::collections::BTreeMap;

use bytes::Bytes;
use vlot_raft::id::{NodeId, Term};

use crate::numbered::Numbered;
use crate::packing::Packing;
use crate::payload;
use crate::reads::NotRead;

/// Why a proposal was not taken. It is in no log, and never will be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotProposed {
    /// The disks of a quorum have no room for it, or this node's has none, so that its outcome would not be seen here.
    NoSpace,
    /// The state machine of this node lags too far behind what is decided.
    Busy,
    /// The state machine of this node has failed: see [`Fence`](crate::machine::Fence).
    Fenced,
    /// This node is no member any more.
    NotAMember,
    /// No leader has taken it before it was withdrawn.
    NoLeader,
    /// This node does not lead, and sends no proposals to the leader.
    NotLeader {
        /// The leader, if this node knows one.
        leader: Option<NodeId>,
    },
    /// The group was closed on this node.
    Closed,
}

/// Where nothing is read, nothing is proposed.
impl From<NotRead> for NotProposed {
    fn from(why: NotRead) -> Self {
        match why {
            NotRead::Fenced => Self::Fenced,
            NotRead::NotAMember => Self::NotAMember,
            NotRead::Closed => Self::Closed,
        }
    }
}

/// Proposals of one group.
#[derive(Debug)]
pub struct Proposals {
    /// This node's own, until they are applied or withdrawn.
    own: Numbered<Pending>,
    /// None of those before this one is yet to be sent.
    unsent_from: u64,
    /// Proposals of followers, their senders, and the term for which they were meant.
    forwarded: (Term, Vec<(NodeId, Bytes)>),
}

#[derive(Debug)]
struct Pending {
    payload: Bytes,
    /// It may share an entry with others.
    shares_entry: bool,
    /// The term to whose leader it went. None if it is yet to be sent.
    sent_in: Option<Term>,
}

impl Default for Proposals {
    fn default() -> Self {
        Self { own: Numbered::default(), unsent_from: u64::MAX, forwarded: (Term::ZERO, Vec::new()) }
    }
}

impl Proposals {
    /// Takes one of this node's own. It `shares_entry` with others if it may.
    pub fn propose(&mut self, sequence: u64, payload: Bytes, shares_entry: bool) {
        self.own.insert(sequence, Pending { payload, shares_entry, sent_in: None });
        self.unsent_from = self.unsent_from.min(sequence);
    }

    /// It is decided, or its caller waits no longer: it is not sent again. True if it is certain that no leader has it.
    pub fn settle(&mut self, sequence: u64) -> bool {
        self.own.remove(sequence).is_some_and(|proposal| proposal.sent_in.is_none())
    }

    /// Takes proposals of a follower that were meant for the leader of `term`. They are taken into the log or dropped
    /// at the end of a turn, when it is certain in which term its entries are made.
    pub fn forward(&mut self, from: NodeId, term: Term, payloads: Vec<Bytes>) {
        if self.forwarded.0 != term {
            self.forwarded = (term, Vec::new());
        }
        self.forwarded.1.extend(payloads.into_iter().map(|payload| (from, payload)));
    }

    /// Everything that the leader of `term`, this node, may append. Commands share entries where all members read those.
    pub fn take_for_own_term(&mut self, term: Term, are_shared: bool) -> Vec<Bytes> {
        let (meant_for, forwarded) = std::mem::take(&mut self.forwarded);
        let mut packing = Packing::to_append();
        for (_, payload) in forwarded.into_iter().filter(|_| meant_for == term) {
            match payload::is_shared(&payload) {
                true if are_shared => packing.push(&payload),
                // Its sender knows of no member that cannot read it.
                true => payload::split(&payload).for_each(|payload| packing.push_alone(payload)),
                false => packing.push_alone(payload),
            }
        }
        self.pack_unsent(term, are_shared, &mut packing);
        packing.finish()
    }

    /// Gives back this node's own that no leader can have taken, by their sequence numbers, and forgets them.
    pub fn refuse_unsent(&mut self) -> Vec<u64> {
        let unsent: Vec<u64> = self.each_unsent().map(|(sequence, _)| sequence).collect();
        unsent.iter().for_each(|sequence| drop(self.own.remove(*sequence)));
        unsent
    }

    /// The leader of `term`, this node, takes nothing and will not soon. Gives back what followers have sent it, by its
    /// sequence numbers, and forgets it.
    pub fn refuse_forwarded(&mut self, term: Term) -> BTreeMap<NodeId, Vec<u64>> {
        let (meant_for, forwarded) = std::mem::take(&mut self.forwarded);
        let mut others: BTreeMap<NodeId, Vec<u64>> = BTreeMap::new();
        for (from, payload) in forwarded.into_iter().filter(|_| meant_for == term) {
            // What is no proposal was refused with its frame.
            let sequences = payload::proposal_ids(&payload).map(|id| id.sequence);
            others.entry(from).or_default().extend(sequences);
        }
        others
    }

    /// The leader of `term` has not taken what was sent to it, and never will. Gives back what no other leader can have
    /// taken: a late answer may be about what has gone to a later leader since.
    pub fn refused(&mut self, term: Term, mut sequences: Vec<u64>) -> Vec<u64> {
        sequences.retain(|sequence| self.own.get(*sequence).is_some_and(|proposal| proposal.sent_in == Some(term)));
        for sequence in &sequences {
            self.settle(*sequence);
        }
        sequences
    }

    /// Drops what followers have sent: this node does not lead.
    pub fn drop_forwarded(&mut self) {
        self.forwarded = (Term::ZERO, Vec::new());
    }

    /// This node's own that are to be sent to the leader of `term`. Commands share payloads where all members read those.
    pub fn take_unsent(&mut self, term: Term, are_shared: bool) -> Vec<Bytes> {
        let mut packing = Packing::to_forward();
        self.pack_unsent(term, are_shared, &mut packing);
        packing.finish()
    }

    fn pack_unsent(&mut self, term: Term, are_shared: bool, packing: &mut Packing) {
        for (_, proposal) in self.each_unsent() {
            proposal.sent_in = Some(term);
            let payload = &proposal.payload;
            if are_shared && proposal.shares_entry {
                packing.push(payload)
            } else {
                packing.push_alone(payload.clone())
            }
        }
    }

    /// Those that are yet to be sent, which the caller sends or forgets: none is looked for among them any more.
    fn each_unsent(&mut self) -> impl Iterator<Item = (u64, &mut Pending)> {
        let from = std::mem::replace(&mut self.unsent_from, u64::MAX);
        self.own.iter_mut_from(from).filter(|(_, proposal)| proposal.sent_in.is_none())
    }

    /// A snapshot has taken the place of entries that this node has never seen: what was sent may be among them, so it
    /// must not be sent again. Gives back what has become unknown so, by sequence numbers.
    pub fn forget_sent(&mut self) -> Vec<u64> {
        let sent = self.own.iter_mut_from(0).filter(|(_, proposal)| proposal.sent_in.is_some());
        let unknown: Vec<u64> = sent.map(|(sequence, _)| sequence).collect();
        unknown.iter().for_each(|sequence| drop(self.own.remove(*sequence)));
        unknown
    }

    /// Gives back all of this node's own, by sequence numbers: those that no leader has, and those that one may have.
    pub fn take_all(&mut self) -> (Vec<u64>, Vec<u64>) {
        let unsent = self.refuse_unsent();
        (unsent, self.own.take_numbers())
    }

    /// A leader has taken office in `term`, and everything before its first entry is applied. What went to a leader of
    /// an earlier term and was not applied by now never will be: it could only stand before that entry, and a leader
    /// takes proposals for its own term alone. So it may be sent again without being applied twice.
    pub fn send_lost_again(&mut self, term: Term) {
        for (sequence, proposal) in self.own.iter_mut_from(0) {
            if proposal.sent_in.take_if(|sent_in| *sent_in < term).is_some() {
                self.unsent_from = self.unsent_from.min(sequence);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proposal_id::ProposalId;

    fn proposal(sequence: u64) -> Bytes {
        payload::command(ProposalId { origin: 1, sequence }, 0, |_| {})
    }

    /// These, none of which was sent.
    fn proposed(sequences: &[u64]) -> Proposals {
        let mut proposals = Proposals::default();
        sequences.iter().for_each(|&sequence| proposals.propose(sequence, proposal(sequence), false));
        proposals
    }

    fn sequences(payloads: &[Bytes]) -> Vec<u64> {
        payloads.iter().flat_map(|payload| payload::proposal_ids(payload)).map(|id| id.sequence).collect()
    }

    #[test]
    fn each_is_sent_once() {
        let mut proposals = proposed(&[1, 2]);
        assert_eq!(sequences(&proposals.take_unsent(Term(1), false)), [1, 2]);
        assert!(proposals.take_unsent(Term(1), false).is_empty());
        proposals.propose(3, proposal(3), false);
        assert_eq!(sequences(&proposals.take_unsent(Term(2), false)), [3]);
    }

    #[test]
    fn what_was_not_sent_is_certainly_in_no_log() {
        let mut proposals = proposed(&[1, 2, 3]);
        assert!(proposals.settle(1));
        proposals.take_unsent(Term(1), false);
        assert!(!proposals.settle(2));
        assert!(!proposals.settle(9), "of what it does not know it is certain of nothing");
        proposals.propose(4, proposal(4), false);
        assert_eq!(proposals.take_all(), (vec![4], vec![3]));
        assert_eq!(proposals.take_all(), (vec![], vec![]));
    }

    #[test]
    fn what_is_refused_before_it_was_sent_is_forgotten() {
        let mut proposals = proposed(&[1]);
        proposals.take_unsent(Term(1), false);
        proposals.propose(2, proposal(2), false);
        assert_eq!(proposals.refuse_unsent(), [2]);
        assert_eq!(proposals.refuse_unsent(), [0; 0]);
        proposals.send_lost_again(Term(2));
        assert_eq!(sequences(&proposals.take_unsent(Term(2), false)), [1]);
    }

    #[test]
    fn a_later_leader_s_first_entry_tells_what_was_lost() {
        for (sent_in, taken_office, is_lost) in [(1, 2, true), (2, 2, false), (3, 2, false)] {
            let mut proposals = proposed(&[1]);
            proposals.take_unsent(Term(sent_in), false);
            proposals.send_lost_again(Term(taken_office));
            assert_eq!(proposals.take_unsent(Term(9), false).len(), usize::from(is_lost), "{sent_in} {taken_office}");
        }
        let mut proposals = proposed(&[1]);
        proposals.send_lost_again(Term(2));
        assert_eq!(sequences(&proposals.take_unsent(Term(2), false)), [1], "what was not sent is sent, once");
    }

    #[test]
    fn what_was_lost_is_sent_with_what_is_new_in_order_and_once() {
        let mut proposals = proposed(&[1, 2, 3]);
        proposals.take_unsent(Term(1), false);
        proposals.propose(4, proposal(4), false);
        assert!(!proposals.settle(2));
        proposals.send_lost_again(Term(2));
        proposals.propose(5, proposal(5), false);
        assert!(proposals.settle(4));
        assert_eq!(sequences(&proposals.take_unsent(Term(2), false)), [1, 3, 5]);
        proposals.propose(6, proposal(6), false);
        assert_eq!(sequences(&proposals.take_unsent(Term(2), false)), [6]);
    }

    #[test]
    fn what_a_snapshot_may_hold_is_not_sent_again() {
        let mut proposals = proposed(&[1, 2]);
        proposals.take_unsent(Term(1), false);
        proposals.propose(3, proposal(3), false);
        assert_eq!(proposals.forget_sent(), [1, 2]);
        proposals.send_lost_again(Term(5));
        assert_eq!(sequences(&proposals.take_unsent(Term(5), false)), [3]);
    }

    #[test]
    fn a_refusal_counts_if_it_is_of_the_leader_to_whom_it_went() {
        let mut proposals = proposed(&[1, 2]);
        proposals.take_unsent(Term(4), false);
        assert_eq!(proposals.refused(Term(3), vec![1, 2]), [0; 0]);
        assert_eq!(proposals.refused(Term(4), vec![2, 7]), [2]);
        assert_eq!(proposals.refused(Term(4), vec![2]), [0; 0], "once");
        assert_eq!(proposals.take_all(), (vec![], vec![1]));
        assert_eq!(proposed(&[1]).refused(Term(4), vec![1]), [0; 0], "it was not sent");
    }

    #[test]
    fn what_followers_send_goes_into_the_log_of_that_term_or_nowhere() {
        let mut proposals = proposed(&[1]);
        proposals.forward(NodeId(2), Term(3), vec![proposal(20)]);
        proposals.forward(NodeId(3), Term(3), vec![proposal(30)]);
        assert_eq!(sequences(&proposals.take_for_own_term(Term(3), false)), [20, 30, 1]);
        assert!(proposals.take_for_own_term(Term(3), false).is_empty());
        proposals.forward(NodeId(2), Term(3), vec![proposal(21)]);
        assert!(proposals.take_for_own_term(Term(4), false).is_empty(), "meant for an earlier term");
        proposals.forward(NodeId(2), Term(4), vec![proposal(22)]);
        proposals.forward(NodeId(2), Term(5), vec![proposal(23)]);
        assert_eq!(sequences(&proposals.take_for_own_term(Term(5), false)), [23]);
        proposals.forward(NodeId(2), Term(5), vec![proposal(24)]);
        proposals.drop_forwarded();
        assert!(proposals.take_for_own_term(Term(5), false).is_empty());
    }

    #[test]
    fn what_a_leader_has_no_room_for_is_refused_to_each_that_has_sent_it() {
        let mut proposals = Proposals::default();
        proposals.forward(NodeId(2), Term(3), vec![proposal(20), proposal(21)]);
        proposals.forward(NodeId(3), Term(3), vec![proposal(30)]);
        let refused = BTreeMap::from([(NodeId(2), vec![20, 21]), (NodeId(3), vec![30])]);
        assert_eq!(proposals.refuse_forwarded(Term(3)), refused);
        assert!(proposals.take_for_own_term(Term(3), false).is_empty());
        proposals.forward(NodeId(2), Term(3), vec![proposal(22)]);
        assert!(proposals.refuse_forwarded(Term(4)).is_empty(), "it was meant for another leader, who may have it");
    }
}
