//! What the state machine is given: committed entries in order, or a snapshot in the place of them.
//!
//! Owns what may be handed over and what may not. Must not know what a command means.

use vlot_log::record::Entry;
use vlot_raft::effect::Input;
use vlot_raft::id::LogId;
use vlot_raft::time::Time;

use super::work::{Committed, Purpose, Work};
use super::{BadEntry, Replica};
use crate::payload::{self, Payload};
use crate::proposal_id::ProposalId;

impl Replica {
    /// Hands over what may be applied, as far as the state machine has room for it.
    pub(super) fn apply(&mut self, bytes_max: usize, work: &mut Work) -> Result<(), BadEntry> {
        if self.stopped.is_some() {
            return Ok(());
        }
        if let Some(id) = self.installing.take_if(|id| id.index <= self.raft.ready()) {
            // The snapshot has the effect of all that would be applied before it.
            work.committed.clear();
            (self.handed, self.is_withheld, work.restore) = (id, false, Some(id));
        }
        let (after, upto) = (self.handed.index, self.raft.ready());
        if self.only_counts() || after >= upto || bytes_max == 0 {
            return Ok(());
        }
        if self.recent.reach_back_to(after) {
            let entries = self.recent.part(after, upto, bytes_max).cloned().collect();
            self.deliver(entries, work)
        } else {
            self.fetch(Purpose::Apply, after, upto, self.limits.replay_bytes_max.min(bytes_max), work);
            Ok(())
        }
    }

    /// Whether this node only counts what is committed: it has not the payloads that its state machine would need. So
    /// nothing more is handed over, and no read answered.
    pub(super) fn only_counts(&self) -> bool {
        self.is_withheld || self.raft.configuration().is_witness(self.raft.node())
    }

    /// A node that lacks a payload must not lead, and hand out what it has in its place: an operator may have made a
    /// voter of a former witness with its old disk.
    pub(super) fn tell_fitness(&mut self, now: Time, work: &mut Work) {
        let fit = self.applies && !self.is_withheld && self.stopped.is_none();
        if std::mem::replace(&mut self.is_fit, fit) != fit {
            self.step(now, Input::Fitness { fit }, Vec::new(), work);
        }
    }

    pub(super) fn deliver(&mut self, entries: Vec<Entry>, work: &mut Work) -> Result<(), BadEntry> {
        work.committed.reserve(entries.len());
        for Entry { id, payload } in entries {
            if id.index != self.handed.index.next() || id.index > self.raft.ready() {
                continue;
            }
            let payload = payload::decode(payload).map_err(|_| BadEntry(id))?;
            match &payload {
                Payload::Command { .. } | Payload::Commands(_) => {
                    payload.proposals().for_each(|proposal| self.decide(id, proposal));
                }
                Payload::Configuration(_) | Payload::Time(_) => {}
                Payload::Blank => self.proposals.send_lost_again(id.term),
                // The log may say only later that this node is a witness, and no longer that it was one.
                Payload::Withheld => {
                    self.is_withheld = true;
                    return Ok(());
                }
            }
            self.handed = id;
            work.committed.push(Committed { id, payload });
        }
        Ok(())
    }

    /// A proposal is decided by this entry: if it is one of this node, it is not sent again.
    fn decide(&mut self, by: LogId, ProposalId { origin, sequence }: ProposalId) {
        if origin == self.origin {
            self.proposals.settle(sequence);
            self.decided.push_back((by.index, sequence));
        }
    }
}
