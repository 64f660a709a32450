//! What waits to be agreed on, on one node: its own proposals, and those that followers have sent it as their leader.
//!
//! Owns which of its own were sent in which term, so that a proposal is sent again exactly if it is certainly lost.
//! Must not know what a proposal holds.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use vlot_raft::id::{NodeId, Term};

use crate::payload;

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
    /// The group was closed on this node.
    Closed,
}

/// Proposals of one group.
#[derive(Debug, Default)]
pub struct Proposals {
    /// This node's own, until they are applied or withdrawn.
    own: BTreeMap<u64, Proposal>,
    /// Which of them are yet to be sent.
    unsent: BTreeSet<u64>,
    /// Proposals of followers, who has sent them, and the term for which they were meant.
    forwarded: (Term, Vec<(NodeId, Bytes)>),
}

#[derive(Debug)]
struct Proposal {
    payload: Bytes,
    /// The term to whose leader it went.
    sent_in: Option<Term>,
}

impl Proposals {
    /// Takes one of this node's own.
    pub fn propose(&mut self, sequence: u64, payload: Bytes) {
        self.own.insert(sequence, Proposal { payload, sent_in: None });
        self.unsent.insert(sequence);
    }

    /// It is decided, or its caller waits no longer: it is not sent again. True if it is certain that no leader has it.
    pub fn settle(&mut self, sequence: u64) -> bool {
        self.own.remove(&sequence);
        self.unsent.remove(&sequence)
    }

    /// Takes proposals of a follower that were meant for the leader of `term`. They are taken into the log or dropped
    /// at the end of a turn, when it is certain in which term its entries are made.
    pub fn forward(&mut self, from: NodeId, term: Term, payloads: Vec<Bytes>) {
        if self.forwarded.0 != term {
            self.forwarded = (term, Vec::new());
        }
        self.forwarded.1.extend(payloads.into_iter().map(|payload| (from, payload)));
    }

    /// Everything that the leader of `term`, this node, may append.
    pub fn take_for_own_term(&mut self, term: Term) -> Vec<Bytes> {
        let (meant_for, forwarded) = std::mem::take(&mut self.forwarded);
        let forwarded = forwarded.into_iter().filter(|_| meant_for == term);
        let mut payloads: Vec<Bytes> = forwarded.map(|(_, payload)| payload).collect();
        payloads.extend(self.take_unsent(term));
        payloads
    }

    /// Gives back this node's own that nobody can have taken, by their sequence numbers, and forgets them.
    pub fn refuse_unsent(&mut self) -> Vec<u64> {
        let own: Vec<u64> = std::mem::take(&mut self.unsent).into_iter().collect();
        own.iter().for_each(|sequence| drop(self.own.remove(sequence)));
        own
    }

    /// The leader of `term`, this node, takes nothing and will not soon. Gives back what followers have sent it, by its
    /// sequence numbers, and forgets it.
    pub fn refuse_forwarded(&mut self, term: Term) -> BTreeMap<NodeId, Vec<u64>> {
        let (meant_for, forwarded) = std::mem::take(&mut self.forwarded);
        let mut others: BTreeMap<NodeId, Vec<u64>> = BTreeMap::new();
        for (from, payload) in forwarded.into_iter().filter(|_| meant_for == term) {
            // What is no proposal was refused with its frame.
            let sequence = payload::proposal_id(&payload).map(|id| id.sequence);
            others.entry(from).or_default().extend(sequence);
        }
        others
    }

    /// The leader of `term` has not taken what was sent to it, and never will. Gives back what nobody else can have
    /// taken: a late answer may be about what has gone to a later leader since.
    pub fn refused(&mut self, term: Term, mut sequences: Vec<u64>) -> Vec<u64> {
        sequences.retain(|sequence| self.own.get(sequence).is_some_and(|proposal| proposal.sent_in == Some(term)));
        for sequence in &sequences {
            self.settle(*sequence);
        }
        sequences
    }

    /// Drops what followers have sent: this node does not lead.
    pub fn drop_forwarded(&mut self) {
        self.forwarded = (Term::ZERO, Vec::new());
    }

    /// This node's own that are to be sent to the leader of `term`.
    pub fn take_unsent(&mut self, term: Term) -> Vec<Bytes> {
        let own = &mut self.own;
        let sent = std::mem::take(&mut self.unsent).into_iter().filter_map(move |sequence| {
            let proposal = own.get_mut(&sequence)?;
            proposal.sent_in = Some(term);
            Some(proposal.payload.clone())
        });
        sent.collect()
    }

    /// A snapshot has taken the place of entries that this node has never seen: what was sent may be among them, so it
    /// must not be sent again. Gives back what has become unknown so, by sequence numbers.
    pub fn forget_sent(&mut self) -> Vec<u64> {
        let mut unknown = Vec::new();
        self.own.retain(|sequence, proposal| {
            if proposal.sent_in.is_some() {
                unknown.push(*sequence);
            }
            proposal.sent_in.is_none()
        });
        unknown
    }

    /// Gives back all of this node's own, by sequence numbers: those that no leader has, and those that one may have.
    pub fn take_all(&mut self) -> (Vec<u64>, Vec<u64>) {
        let unsent = self.refuse_unsent();
        (unsent, std::mem::take(&mut self.own).into_keys().collect())
    }

    /// A leader has taken office in `term`, and everything before its first entry is applied. What went to a leader of
    /// an earlier term and was not applied by now never will be: it could only stand before that entry, and a leader
    /// takes proposals for its own term alone. So it may be sent again without being applied twice.
    pub fn send_lost_again(&mut self, term: Term) {
        for (&sequence, proposal) in &mut self.own {
            if proposal.sent_in.is_some_and(|sent_in| sent_in < term) {
                proposal.sent_in = None;
                self.unsent.insert(sequence);
            }
        }
    }
}
