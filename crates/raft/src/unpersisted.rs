//! What the disk has not confirmed yet, and what must wait for it.
//!
//! Owns the numbering of writes and the messages held back. This is the one place that makes "durable before any
//! answer" true (Raft figure 2: "updated on stable storage before responding"); no role has to think of it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::effect::WriteId;
use crate::id::LogIndex;
use crate::message::Envelope;
use crate::time::Time;

/// Writes that were asked for and not reported durable, and messages that vouch for them.
///
/// Invariant: `persisted <= vote <= issued`, or no vote was written yet; ids in `appends` and `held` are later than
/// `persisted` and never fall.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct Unpersisted {
    issued: WriteId,
    persisted: WriteId,
    /// The newest write of term and vote.
    vote: WriteId,
    /// Each append that is not durable, with the index after which it cut and wrote.
    appends: VecDeque<(WriteId, LogIndex)>,
    held: VecDeque<(WriteId, Envelope)>,
    /// Since when the oldest write has been the oldest, as far as steps have shown; none if all is durable.
    waits: Option<(WriteId, Time)>,
}

impl Unpersisted {
    /// Numbers a write of term and vote.
    pub(crate) fn vote_written(&mut self) -> WriteId {
        self.issued = WriteId(self.issued.0 + 1);
        self.vote = self.issued;
        self.issued
    }

    /// Numbers an append that cuts and writes after `after`.
    pub(crate) fn append_written(&mut self, after: LogIndex) -> WriteId {
        self.issued = WriteId(self.issued.0 + 1);
        self.appends.push_back((self.issued, after));
        self.issued
    }

    /// Numbers a write that drops entries from the beginning of the log, which makes no entry less durable.
    pub(crate) fn compaction_written(&mut self) -> WriteId {
        self.issued = WriteId(self.issued.0 + 1);
        self.issued
    }

    /// Takes note that everything up to `write` is durable; `release` gets the messages that waited for it.
    pub(crate) fn persisted(&mut self, write: WriteId, mut release: impl FnMut(Envelope)) {
        // A host that reports a write which was never asked for is wrong; nothing more becomes durable by it.
        self.persisted = self.persisted.max(write.min(self.issued));
        while self.appends.front().is_some_and(|(id, _)| *id <= self.persisted) {
            self.appends.pop_front();
        }
        while self.held.front().is_some_and(|(id, _)| *id <= self.persisted) {
            if let Some((_, envelope)) = self.held.pop_front() {
                release(envelope);
            }
        }
    }

    /// The write that must be durable before a message may go, if it is not.
    ///
    /// Every message vouches for the term and vote under which it was sent; one that answers for the log also for
    /// every append before it.
    pub(crate) fn awaited(&self, answers_for_log: bool) -> Option<WriteId> {
        let needs = if answers_for_log { self.issued } else { self.vote };
        (needs > self.persisted).then_some(needs)
    }

    /// Holds a message until `write` is durable.
    pub(crate) fn hold(&mut self, envelope: Envelope, write: WriteId) {
        // Kept in order of what they wait for, so that the front is released first.
        let place = self.held.partition_point(|(id, _)| *id <= write);
        self.held.insert(place, (write, envelope));
    }

    /// Takes note of the time at the end of a step.
    pub(crate) fn watch(&mut self, now: Time) {
        if self.persisted == self.issued {
            self.waits = None;
        } else if self.waits.is_none_or(|(oldest, _)| oldest != self.persisted) {
            self.waits = Some((self.persisted, now));
        }
    }

    /// Whether the disk has finished nothing for as long as `patience`, though it has something to do.
    pub(crate) fn stalled(&self, now: Time, patience: Duration) -> bool {
        self.waits.is_some_and(|(_, since)| now.since(since) >= patience)
    }

    /// Forgets what was held: a new term makes the answers of the old one pointless.
    pub(crate) fn drop_held(&mut self) {
        self.held.clear();
    }

    /// See [`crate::canonical`]. Nothing but the order of writes counts, so their numbers begin after what is durable.
    pub(crate) fn forget_time(&mut self, now: Time) {
        let durable = self.persisted.0;
        let renumber = |id: &mut WriteId| id.0 = id.0.saturating_sub(durable);
        self.appends.iter_mut().for_each(|(id, _)| renumber(id));
        self.held.iter_mut().for_each(|(id, _)| renumber(id));
        // What is held twice will be sent twice, as any network may do.
        let mut once = VecDeque::new();
        for held in self.held.drain(..) {
            if !once.contains(&held) {
                once.push_back(held);
            }
        }
        self.held = once;
        [&mut self.issued, &mut self.persisted, &mut self.vote].into_iter().for_each(renumber);
        self.waits = (self.persisted < self.issued).then_some((self.persisted, now));
    }

    /// Whether term and vote are durable as they are.
    pub(crate) fn vote_is_durable(&self) -> bool {
        self.vote <= self.persisted
    }

    /// The last entry of a log ending at `last` that is durable and will stay: an outstanding append may have cut what
    /// was durable before, so the least of their beginnings bounds it.
    pub(crate) fn durable(&self, last: LogIndex) -> LogIndex {
        self.appends.iter().map(|&(_, after)| after).min().unwrap_or(last).min(last)
    }
}
