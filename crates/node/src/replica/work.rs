//! What a replica wants done: what its host writes, sends, reads, applies, answers and tells.
//!
//! Owns the order in which it must happen. Must not know why any of it is wanted.

use vlot_log::record::Write;
use vlot_raft::configuration::ChangeRefused;
use vlot_raft::effect::{Event, Misbehaviour, RoleState, TransferRefused, WriteId};
use vlot_raft::election::ElectionEvent;
use vlot_raft::id::{LogId, LogIndex, NodeId};
use vlot_raft::message::Envelope;

use crate::act::Answer;
use crate::payload::Payload;
use crate::proposals::NotProposed;
use crate::reads::NotRead;
use crate::wire::PeerMessage;

/// What a replica wants done. Everything is in the order in which it must happen.
#[derive(Debug, Default)]
pub struct Work {
    /// Durable acts, in order.
    pub writes: Vec<Write>,
    /// The number under which consensus knows the last of them.
    pub last_write: Option<WriteId>,
    /// PeerMessages for peers.
    pub messages: Vec<(NodeId, PeerMessage)>,
    /// Other peers to which a message goes too, by its place among those, in order of the places.
    pub copies: Vec<(usize, NodeId)>,
    /// Entries to read from the log, after the writes that were asked for before.
    pub log_reads: Vec<LogRead>,
    /// The state machine becomes the snapshot of this entry, before anything in `committed` is applied.
    pub restore: Option<LogId>,
    /// Committed entries to apply, in order.
    pub committed: Vec<Committed>,
    /// A snapshot that reaches this entry is needed; this member has one.
    pub fetch: Option<(NodeId, LogId)>,
    /// Proposals of this node that no leader has taken, or ever will, by their sequence numbers.
    pub proposals_refused: Vec<(u64, NotProposed)>,
    /// Proposals of this node of which it will never be known here what became of them, by their sequence numbers.
    pub proposals_unknown: Vec<u64>,
    /// Changes of members that were refused, by their sequence numbers.
    pub changes_refused: Vec<(u64, ChangeRefused)>,
    /// Changes by which this node was to leave, and has left, by their sequence numbers.
    pub left_by: Vec<u64>,
    /// Whether hand-overs were begun, by their sequence numbers.
    pub transfers: Vec<(u64, Result<(), TransferRefused>)>,
    /// Reads that may be answered by the state machine as it is.
    pub reads_ready: Vec<u64>,
    /// Reads that this node can answer no more.
    pub reads_refused: Vec<(u64, NotRead)>,
    /// Changes of term, role or leader.
    pub became: Vec<RoleState>,
    /// Steps of elections, for the record.
    pub elections: Vec<ElectionEvent>,
    /// What else has happened.
    pub happened: Vec<Event>,
    /// What peers did wrong.
    pub misbehaved: Vec<(NodeId, Misbehaviour)>,
}

impl Work {
    /// Sends another peer the payloads of the newest message; the same message, if it gets that.
    ///
    /// # Panics
    /// If there is no message of consensus. [`Replica::send_entries`](super::Replica) calls it only after it has put one there in
    /// the same turn, whatever peers have sent.
    pub(super) fn send_again(&mut self, Envelope { to, message }: Envelope) {
        match self.messages.last() {
            Some((_, PeerMessage::Raft { message: newest, .. })) if *newest == message => {
                self.copies.push((self.messages.len() - 1, to));
            }
            Some((_, PeerMessage::Raft { payloads, .. })) => {
                let payloads = payloads.clone();
                self.messages.push((to, PeerMessage::Raft { message, payloads }));
            }
            newest => unreachable!("{newest:?} has no payloads"),
        }
    }

    /// What calls of this process are to be told.
    pub(crate) fn answers(&mut self) -> Vec<Answer> {
        let mut answers = Vec::new();
        answers.extend(self.proposals_refused.drain(..).map(|(sequence, why)| Answer::NotProposed(sequence, why)));
        answers.extend(self.proposals_unknown.drain(..).map(Answer::Unknown));
        answers.extend(self.changes_refused.drain(..).map(|(sequence, why)| Answer::Changed(sequence, Err(why))));
        answers.extend(self.left_by.drain(..).map(|sequence| Answer::Changed(sequence, Ok(()))));
        answers.extend(self.transfers.drain(..).map(|(sequence, begun)| Answer::Transfer(sequence, begun)));
        answers.extend(self.reads_refused.drain(..).map(|(read, why)| Answer::NotRead(read, why)));
        if !self.reads_ready.is_empty() {
            answers.push(Answer::Ready(std::mem::take(&mut self.reads_ready)));
        }
        answers
    }
}

/// Entries that a replica needs from the log on disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogRead {
    /// What it needs them for.
    pub purpose: Purpose,
    /// The entry before the first.
    pub after: LogIndex,
    /// The last.
    pub upto: LogIndex,
    /// Fewer entries are enough when they have this many bytes together.
    pub bytes_max: usize,
}

/// What the entries of a [`LogRead`] are for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Purpose {
    /// The state machine, which lags behind what is in memory.
    Apply,
    /// A peer that lags behind what is in memory.
    Send(NodeId),
}

/// A committed entry on its way to the state machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Committed {
    /// Its name.
    pub id: LogId,
    /// What it holds.
    pub payload: Payload,
}
