//! What goes to the leader and to peers at the end of a turn: changes of members, proposals, reads and entries.
//!
//! Owns what is sent where, and what is refused because it cannot be sent. Must not know what becomes of it there.

use bytes::Bytes;
use vlot_log::record::Entry;
use vlot_raft::configuration::ChangeRefused;
use vlot_raft::effect::{Effects, Input, ProposalRefused, RoleName, RoleState};
use vlot_raft::id::{LogIndex, NodeId, Term};
use vlot_raft::time::Time;

use super::Replica;
use super::work::{Purpose, Work};
use crate::members::{ChangeRequest, MemberChange};
use crate::payload;
use crate::proposals::NotProposed;
use crate::wire::PeerMessage;

/// What the newest message has of a range of entries, whole or as a witness gets them.
#[derive(Clone, Copy)]
struct Sent {
    range: (bool, LogIndex, LogIndex),
    last: LogIndex,
    bytes: u64,
}

impl Replica {
    /// Sends changes of members to the leader. None waits until there is a leader: an operator asks again.
    pub(super) fn send_changes(&mut self, now: Time, work: &mut Work) {
        for request in std::mem::take(&mut self.changes) {
            let RoleState { term, role, leader } = self.raft.role_state();
            let sequence = request.id.sequence;
            match leader.filter(|leader| self.connected.contains(leader)) {
                _ if role == RoleName::Leader => {
                    if let Err(why) = self.begin_change(now, request, work) {
                        self.refuse_change(sequence, why, work);
                    }
                }
                Some(leader) => work.messages.push((leader, PeerMessage::Change { term, request })),
                None => self.refuse_change(sequence, ChangeRefused::NotLeader { leader: None }, work),
            }
        }
    }

    /// Begins a change of members, if consensus takes it.
    pub(super) fn begin_change(
        &mut self,
        now: Time,
        request: ChangeRequest,
        work: &mut Work,
    ) -> Result<(), ChangeRefused> {
        let known = |node| self.raft.configuration().contains(node);
        let moved = request.changes.iter().find_map(|change| match change {
            MemberChange::Move { node, .. } | MemberChange::BindDisk { node, .. } if !known(*node) => Some(*node),
            _ => None,
        });
        if let Some(node) = moved {
            return Err(ChangeRefused::NotAMember { node });
        }
        if let Some(node) = self.members().bars(&request.changes) {
            return Err(ChangeRefused::Barred { node });
        }
        let changes = request.changes.iter().map(MemberChange::seat).collect();
        self.asked_change = Some(request);
        let before = work.changes_refused.len();
        self.step(now, Input::ChangeConfiguration { changes }, Vec::new(), work);
        self.asked_change = None;
        work.changes_refused.drain(before..).next().map_or(Ok(()), |(_, why)| Err(why))
    }

    pub(super) fn refuse_change(&mut self, sequence: u64, why: ChangeRefused, work: &mut Work) {
        self.leaving_by.retain(|leaving| *leaving != sequence);
        work.changes_refused.push((sequence, why));
    }

    /// Sends what waits to the leader: appends it, if that is this node.
    pub(super) fn send_proposals(&mut self, now: Time, work: &mut Work) {
        let RoleState { term, role, leader } = self.raft.role_state();
        // What others decide cannot be applied here, so a caller that proposes here would learn nothing of it.
        if !self.raft.has_room() {
            self.refuse_unsent(NotProposed::NoSpace, work);
        }
        if role == RoleName::Leader {
            match self.raft.proposals_refused() {
                None => {}
                // It is not known when there will be room, and the caller can free some.
                Some(ProposalRefused::NoSpace) => return self.refuse_proposals(term, work),
                // What cannot be taken at this moment waits: a hand-over ends, and so does a queue.
                Some(_) => return,
            }
            let are_shared = self.shares_entries();
            let mut payloads = self.proposals.take_for_own_term(term, are_shared);
            if !payloads.is_empty() {
                if let Some(passed) = self.stamps.as_mut().and_then(|stamps| stamps.take_due(now)) {
                    payloads.insert(0, payload::time(passed));
                }
                let count = payloads.len() as u64;
                self.step(now, Input::Propose { count }, payloads, work);
            }
            return;
        }
        self.proposals.drop_forwarded();
        if let Some(why) = self.leads_not() {
            return self.refuse_unsent(why, work);
        }
        if let Some(leader) = leader.filter(|leader| self.connected.contains(leader)) {
            let are_shared = self.read_shared.contains(&leader) && self.shares_entries();
            let payloads = self.proposals.take_unsent(term, are_shared);
            if !payloads.is_empty() {
                work.messages.push((leader, PeerMessage::Propose { term, payloads }));
            }
        }
    }

    /// Whether commands may share entries: every node that gets whole ones reads those, be it a member or leaving.
    fn shares_entries(&self) -> bool {
        let (own, members) = (self.raft.node(), self.raft.configuration());
        let reads = |node| node == own || members.is_witness(node) || self.read_shared.contains(&node);
        self.shares_entries && members.nodes().all(reads) && self.raft.peers().all(reads)
    }

    pub(super) fn refuse_unsent(&mut self, why: NotProposed, work: &mut Work) {
        work.proposals_refused.extend(self.proposals.refuse_unsent().into_iter().map(|sequence| (sequence, why)));
    }

    fn refuse_proposals(&mut self, term: Term, work: &mut Work) {
        self.refuse_unsent(NotProposed::NoSpace, work);
        let refused = |(from, sequences)| (from, PeerMessage::ProposalsRefused { term, sequences });
        work.messages.extend(self.proposals.refuse_forwarded(term).into_iter().map(refused));
    }

    /// Asks one question for all reads that wait.
    pub(super) fn send_reads(&mut self, now: Time, work: &mut Work) {
        if self.raft.role_state().leader.is_some()
            && let Some(read) = self.reads.ask(now)
        {
            self.step(now, Input::Read { read }, Vec::new(), work);
        }
    }

    /// Sends each peer what it lacks: from memory, or from disk if it lags far behind. Peers in step get the same message, which
    /// is made once.
    pub(super) fn send_entries(&mut self, work: &mut Work) {
        let mut effects = Effects::new();
        let mut newest: Option<Sent> = None;
        for peer in self.raft.peers().collect::<Vec<_>>() {
            let is_witness = self.raft.configuration().is_witness(peer);
            while let Some((after, upto)) = self.raft.next_range(peer) {
                let range = (is_witness, after, upto);
                if let Some(Sent { last, bytes, .. }) = newest.filter(|sent| sent.range == range) {
                    self.fetched.remove(&peer);
                    self.raft.send_entries(peer, last, bytes, &mut effects);
                    self.carry_out_again(&mut effects, work);
                    continue;
                }
                let Some(entries) = self.entries_for(peer, after, upto, work) else { break };
                let last = entries.last().map_or(after, |entry| entry.id.index);
                let payload = |Entry { payload, .. }| if is_witness { payload::for_witness(&payload) } else { payload };
                let payloads: Vec<Bytes> = entries.into_iter().map(payload).collect();
                let bytes = payloads.iter().map(|payload| payload.len() as u64).sum();
                let messages = work.messages.len();
                self.raft.send_entries(peer, last, bytes, &mut effects);
                self.carry_out(&mut effects, payloads, work);
                // It may be held back; then the last message is another.
                newest = (work.messages.len() > messages).then_some(Sent { range, last, bytes });
            }
        }
        self.raft.end_turn(&mut effects);
        self.carry_out(&mut effects, Vec::new(), work);
    }

    /// The entries for one message; none if they must be read from disk first.
    fn entries_for(&mut self, peer: NodeId, after: LogIndex, upto: LogIndex, work: &mut Work) -> Option<Vec<Entry>> {
        let fetched = self.fetched.remove(&peer);
        if after >= upto {
            return Some(Vec::new());
        }
        if self.recent.reach_back_to(after) {
            return Some(self.recent.part(after, upto, self.limits.message_bytes_max).cloned().collect());
        }
        if let Some(entries) = fetched.filter(|entries| entries.first().is_some_and(|e| e.id.index == after.next())) {
            return Some(entries);
        }
        // What waits for the disk is in memory, and what the log holds in its place may be another leader's.
        let upto = upto.min(self.raft.durable().max(after.next()));
        self.fetch(Purpose::Send(peer), after, upto, self.limits.message_bytes_max, work);
        None
    }
}
