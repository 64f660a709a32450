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

/// Writes that were asked for and not reported durable, and messages that acknowledge them.
///
/// Invariant: `persisted <= vote <= issued`, or no vote was written yet; ids in `appends` and `held` are later than
/// `persisted` and never fall.
///
/// On a full disk votes overtake entries. Nothing that answers for the log is released by it, and a vote acknowledges
/// no entry.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct Unpersisted {
    issued: WriteId,
    persisted: WriteId,
    /// Everything up to here is durable but for appends.
    passed: WriteId,
    /// The newest write of term and vote; none of them, once it has overtaken appends.
    vote: WriteId,
    appends: VecDeque<Append>,
    held: VecDeque<Held>,
    /// Since when the oldest write has been the oldest, as far as steps have shown; none if all is durable.
    waits: Option<(WriteId, Time)>,
}

/// A change of the log's entries that is not durable.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Append {
    write: WriteId,
    /// All of the log up to here is durable and stays, whether or not this write is.
    after: LogIndex,
    /// The snapshot whose place in the log this write is, if it is one: once it is durable, so is all up to here.
    snapshot: Option<LogIndex>,
}

/// A message, and the write that it waits for.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Held {
    needs: WriteId,
    answers_for_log: bool,
    envelope: Envelope,
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
        self.changed_log(after, None)
    }

    /// Numbers a write by which the log begins after the last entry of a snapshot. What is durable before it, and stays
    /// if it is lost, goes up to `durable`.
    pub(crate) fn snapshot_written(&mut self, durable: LogIndex, snapshot: LogIndex) -> WriteId {
        self.changed_log(durable, Some(snapshot))
    }

    fn changed_log(&mut self, after: LogIndex, snapshot: Option<LogIndex>) -> WriteId {
        self.issued = WriteId(self.issued.0 + 1);
        self.appends.push_back(Append { write: self.issued, after, snapshot });
        self.issued
    }

    /// Numbers a write that drops entries from the beginning of the log, which makes no entry less durable.
    pub(crate) fn compaction_written(&mut self) -> WriteId {
        self.issued = WriteId(self.issued.0 + 1);
        self.issued
    }

    /// Takes note that everything up to `write` is durable; `release` gets the messages that waited for it.
    pub(crate) fn persisted(&mut self, write: WriteId, release: impl FnMut(Envelope)) {
        // A host that reports a write which was never asked for is wrong; nothing more becomes durable by it.
        self.persisted = self.persisted.max(write.min(self.issued));
        while self.appends.pop_front_if(|append| append.write <= self.persisted).is_some() {}
        self.count_what_has_passed();
        self.release(release);
    }

    /// Takes note that everything up to `write` is durable but for entries that were not reported before.
    pub(crate) fn vote_persisted(&mut self, write: WriteId, mut release: impl FnMut(Envelope)) {
        self.passed = self.passed.max(write.min(self.issued));
        self.snapshots_persisted(self.passed);
        if self.passed >= self.vote {
            // Nothing has to wait for it any more.
            self.vote = WriteId::default();
        }
        self.count_what_has_passed();
        self.release(&mut release);
        if self.vote_is_durable() {
            let (free, held) =
                std::mem::take(&mut self.held).into_iter().partition(|held: &Held| !held.answers_for_log);
            self.held = held;
            let free: VecDeque<Held> = free;
            free.into_iter().for_each(|held| release(held.envelope));
        }
    }

    /// What has overtaken an append is not reported again once that is durable.
    fn count_what_has_passed(&mut self) {
        let before_append = self.appends.front().map_or(self.passed, |append| WriteId(append.write.0 - 1));
        self.persisted = self.persisted.max(self.passed.min(before_append));
    }

    /// Snapshots have taken their places in the log: what they have the effect of is durable, though entries that were
    /// written before are not.
    fn snapshots_persisted(&mut self, passed: WriteId) {
        let snapshot_of = |append: &Append| append.snapshot.filter(|_| append.write <= passed);
        let Some(upto) = self.appends.iter().filter_map(snapshot_of).max() else { return };
        self.appends.retain(|append| snapshot_of(append).is_none());
        self.appends.iter_mut().for_each(|append| append.after = append.after.max(upto));
    }

    fn release(&mut self, mut release: impl FnMut(Envelope)) {
        while self.held.front().is_some_and(|held| held.needs <= self.persisted) {
            if let Some(held) = self.held.pop_front() {
                release(held.envelope);
            }
        }
    }

    /// The write that must be durable before a message may go, if it is not.
    ///
    /// Every message acknowledges the term and vote under which it was sent; one that answers for the log also for
    /// every append before it.
    pub(crate) fn awaited(&self, answers_for_log: bool) -> Option<WriteId> {
        let needs = if answers_for_log { self.issued } else { self.vote };
        (needs > self.persisted).then_some(needs)
    }

    /// Holds a message until `needs` is durable.
    pub(crate) fn hold(&mut self, envelope: Envelope, needs: WriteId, answers_for_log: bool) {
        // Kept in order of what they wait for, so that the front is released first.
        let place = self.held.partition_point(|held| held.needs <= needs);
        let held = Held { needs, answers_for_log, envelope };
        // A peer that asks the same again while a disk is full, or stalls, for hours gets one answer.
        if place == 0 || self.held[place - 1] != held {
            self.held.insert(place, held);
        }
    }

    /// Takes note of the time at the end of a step. A disk that has no room is not one that stalls.
    pub(crate) fn watch(&mut self, now: Time, has_room: bool) {
        if self.persisted == self.issued || !has_room {
            self.waits = None;
        } else if self.waits.is_none_or(|(oldest, _)| oldest != self.persisted) {
            self.waits = Some((self.persisted, now));
        }
    }

    /// Whether the disk has finished nothing for as long as `patience`, though it has something to do.
    pub(crate) fn stalled(&self, now: Time, election_timeout: Duration) -> bool {
        self.waits.is_some_and(|(_, since)| now.since(since) >= election_timeout)
    }

    /// Forgets what was held: a new term makes the answers of the old one pointless.
    pub(crate) fn drop_held(&mut self) {
        self.held.clear();
    }

    /// Gives back the memory that a busy time has left behind.
    pub(crate) fn release_memory(&mut self) {
        if self.appends.is_empty() && self.held.is_empty() {
            (self.appends, self.held) = Default::default();
        }
    }

    /// See [`crate::canonical`]. Nothing but the order of writes counts, so their numbers begin after what is durable.
    pub(crate) fn forget_time(&mut self, now: Time) {
        let durable = self.persisted.0;
        let renumber = |id: &mut WriteId| id.0 = id.0.saturating_sub(durable);
        self.appends.iter_mut().for_each(|append| renumber(&mut append.write));
        self.held.iter_mut().for_each(|held| renumber(&mut held.needs));
        // What is held twice will be sent twice, as any network may do.
        let mut once = VecDeque::new();
        for held in self.held.drain(..) {
            if !once.contains(&held) {
                once.push_back(held);
            }
        }
        self.held = once;
        [&mut self.issued, &mut self.persisted, &mut self.passed, &mut self.vote].into_iter().for_each(renumber);
        self.waits = (self.persisted < self.issued).then_some((self.persisted, now));
    }

    /// Whether term and vote are durable as they are.
    pub(crate) fn vote_is_durable(&self) -> bool {
        self.vote <= self.persisted
    }

    /// The last entry of a log ending at `last` that is durable and will stay: an outstanding append may have cut what
    /// was durable before, so the least of their beginnings bounds it.
    pub(crate) fn durable(&self, last: LogIndex) -> LogIndex {
        self.appends.iter().map(|append| append.after).min().unwrap_or(last).min(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{NodeId, Term};
    use crate::message::{Body, Message};

    /// Holds a message that answers for the log.
    fn hold(unpersisted: &mut Unpersisted, to: u64) {
        let message = Message { term: Term(1), body: Body::VoteGranted };
        let write = unpersisted.awaited(true).expect("something is not durable");
        unpersisted.hold(Envelope { to: NodeId(to), message }, write, true);
    }

    /// Holds a message that answers for the vote alone.
    fn hold_vote(unpersisted: &mut Unpersisted, to: u64) {
        let message = Message { term: Term(1), body: Body::VoteGranted };
        let write = unpersisted.awaited(false).expect("the vote is not durable");
        unpersisted.hold(Envelope { to: NodeId(to), message }, write, false);
    }

    /// What is released when a write becomes durable.
    fn released(unpersisted: &mut Unpersisted, write: u64) -> Vec<u64> {
        let mut to = Vec::new();
        unpersisted.persisted(WriteId(write), |envelope| to.push(envelope.to.0));
        to
    }

    #[test]
    fn a_disk_that_finishes_something_has_not_stalled() {
        let (begin, election_timeout) = (Time::from_millis(1000), Duration::from_millis(100));
        let [half, end] = [50, 100].map(|millis| begin + Duration::from_millis(millis));
        let mut unpersisted = Unpersisted::default();
        unpersisted.append_written(LogIndex(4));
        unpersisted.append_written(LogIndex(5));
        unpersisted.watch(begin, true);
        released(&mut unpersisted, 1);
        unpersisted.watch(half, true);
        unpersisted.watch(end, true);
        assert!(!unpersisted.stalled(end, election_timeout));
        assert!(unpersisted.stalled(half + election_timeout, election_timeout), "the second write has taken so long");
        let mut full = unpersisted.clone();
        full.watch(half + election_timeout, false);
        assert!(!full.stalled(half + election_timeout, election_timeout), "it waits for room and not for the disk");
        released(&mut unpersisted, 2);
        unpersisted.watch(end, true);
        assert!(!unpersisted.stalled(half + election_timeout, election_timeout), "all is done");
    }

    #[test]
    fn a_vote_that_passes_entries_by_acknowledges_none_of_them() {
        let mut unpersisted = Unpersisted::default();
        let append = unpersisted.append_written(LogIndex(4));
        hold(&mut unpersisted, 7);
        let vote = unpersisted.vote_written();
        hold_vote(&mut unpersisted, 8);
        let later = unpersisted.vote_written();
        hold_vote(&mut unpersisted, 9);
        let mut passed = |write| {
            let mut to = Vec::new();
            unpersisted.vote_persisted(write, |envelope| to.push(envelope.to.0));
            (to, unpersisted.durable(LogIndex(9)))
        };
        assert_eq!(passed(vote), (vec![], LogIndex(4)), "a later vote is not durable");
        assert_eq!(passed(later), (vec![8, 9], LogIndex(4)));
        assert_eq!(released(&mut unpersisted, append.0), [7]);
        assert_eq!(unpersisted.durable(LogIndex(9)), LogIndex(9));
    }

    #[test]
    fn a_snapshot_that_passes_entries_by_is_durable_without_them() {
        let mut unpersisted = Unpersisted::default();
        let append = unpersisted.append_written(LogIndex(4));
        let snapshot = unpersisted.snapshot_written(LogIndex(4), LogIndex(6));
        let later = unpersisted.append_written(LogIndex(7));
        let vote = unpersisted.vote_written();
        hold_vote(&mut unpersisted, 8);
        let mut passed = |write| {
            let mut to = Vec::new();
            unpersisted.vote_persisted(write, |envelope| to.push(envelope.to.0));
            (to, unpersisted.durable(LogIndex(9)))
        };
        assert_eq!(passed(append), (vec![], LogIndex(4)), "the snapshot is not durable");
        assert_eq!(passed(snapshot), (vec![], LogIndex(6)));
        assert_eq!(passed(vote), (vec![8], LogIndex(6)), "what follows the snapshot waits for room");
        assert_eq!(released(&mut unpersisted, snapshot.0), []);
        assert_eq!(unpersisted.durable(LogIndex(9)), LogIndex(7));
        assert_eq!(released(&mut unpersisted, later.0), []);
        assert_eq!(unpersisted.durable(LogIndex(9)), LogIndex(9));
    }

    #[test]
    fn what_has_passed_entries_by_is_not_waited_for_once_they_are_durable() {
        let (begin, election_timeout) = (Time::from_millis(1000), Duration::from_millis(100));
        let mut unpersisted = Unpersisted::default();
        let append = unpersisted.append_written(LogIndex(4));
        let compaction = unpersisted.compaction_written();
        unpersisted.vote_persisted(compaction, |_| {});
        released(&mut unpersisted, append.0);
        unpersisted.watch(begin, true);
        assert!(!unpersisted.stalled(begin + election_timeout, election_timeout));
        let later = unpersisted.append_written(LogIndex(5));
        unpersisted.watch(begin, true);
        assert!(unpersisted.stalled(begin + election_timeout, election_timeout), "{later:?} is");
    }

    #[test]
    fn forgotten_numbers_begin_after_what_is_durable() {
        let mut unpersisted = Unpersisted::default();
        for after in [4, 5, 6] {
            unpersisted.append_written(LogIndex(after));
        }
        hold(&mut unpersisted, 7);
        assert_eq!(released(&mut unpersisted, 2), []);
        unpersisted.forget_time(Time::default());
        assert_eq!(unpersisted.durable(LogIndex(9)), LogIndex(6), "one append is left");
        assert_eq!(released(&mut unpersisted, 1), [7]);
        assert_eq!(unpersisted.durable(LogIndex(9)), LogIndex(9));
    }

    #[test]
    fn what_is_held_twice_is_held_once() {
        let mut unpersisted = Unpersisted::default();
        unpersisted.append_written(LogIndex(4));
        for to in [7, 7, 8, 7] {
            hold(&mut unpersisted, to);
        }
        unpersisted.forget_time(Time::default());
        assert_eq!(released(&mut unpersisted, 1), [7, 8]);
    }

    #[test]
    fn only_what_is_under_way_has_waited_since_the_forgotten_moment() {
        let (begin, election_timeout) = (Time::from_millis(1000), Duration::from_millis(100));
        let mut unpersisted = Unpersisted::default();
        unpersisted.append_written(LogIndex(4));
        unpersisted.forget_time(begin);
        assert!(!unpersisted.stalled(begin, election_timeout));
        assert!(unpersisted.stalled(begin + election_timeout, election_timeout));
        released(&mut unpersisted, 1);
        unpersisted.forget_time(begin);
        assert!(!unpersisted.stalled(begin + election_timeout, election_timeout), "nothing is under way");
    }
}
