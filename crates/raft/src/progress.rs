//! What the leader knows of one peer's log (Raft §5.3, §7).
//!
//! Owns where to send from, how much may be under way, and when what was sent must be taken for lost. Must not know of
//! commitment or of other peers.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::time::Duration;

use crate::id::{LogIndex, NodeId};
use crate::message::Session;
use crate::time::Time;
use crate::view::{PaceName, PeerView};

/// What the leader knows of one peer.
///
/// Invariant: `matched < next`; in `Pace::Replicate` everything under way lies in `[matched, next)` and rises.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Progress {
    /// What its answers must name.
    pub(crate) session: Session,
    /// Both logs agree up to here, durably. Learnt from acknowledgements only, so it never falls.
    pub(crate) matched: LogIndex,
    pub(crate) pace: Pace,
    /// When the peer last answered in this term.
    pub(crate) heard: Time,
    /// The newest round of heartbeats that it has answered.
    pub(crate) round: u64,
    /// The commit index it was last told.
    pub(crate) told_commit: LogIndex,
    /// Whether it could lead, and how much it should be preferred, as it last said.
    pub(crate) fit: bool,
    /// Whether its disk has no room for entries, as it last said.
    pub(crate) full: bool,
    pub(crate) priority: u8,
    /// Whether it has answered the announcement under way that it sleeps.
    pub(crate) asleep: bool,
    /// When it first answered a heartbeat without having answered what is under way; never, if it has not.
    silent_since: Time,
}

/// How entries are sent to a peer.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Pace {
    /// Searching for the last entry both logs share; one message under way at most.
    Probe { next: LogIndex, awaiting_reply: bool },
    /// In step: entries are sent ahead of their acknowledgement.
    Replicate { next: LogIndex, inflight: Inflight },
    /// What it needs has been compacted away; it was told to get a snapshot, and says when it has one.
    Snapshot,
}

/// The messages that are not acknowledged. Equal if the messages are, whatever room there is for more.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inflight {
    /// Nothing while a group is idle: there may be thousands.
    under_way: Option<Box<UnderWay>>,
}

#[derive(Clone, Debug, Default)]
struct UnderWay {
    /// The last entry of each message, and the bytes of its payloads.
    messages: VecDeque<(LogIndex, u64)>,
    bytes: u64,
}

impl Inflight {
    fn messages(&self) -> impl ExactSizeIterator<Item = &(LogIndex, u64)> {
        self.under_way.as_ref().map(|under_way| under_way.messages.iter()).unwrap_or_default()
    }

    fn is_empty(&self) -> bool {
        self.messages().len() == 0
    }

    fn has_room(&self, window: Window) -> bool {
        let has_room =
            |under_way: &UnderWay| under_way.messages.len() < window.messages && under_way.bytes < window.bytes;
        self.under_way.as_deref().is_none_or(has_room)
    }

    fn push(&mut self, upto: LogIndex, bytes: u64) {
        let under_way = self.under_way.get_or_insert_default();
        under_way.messages.push_back((upto, bytes));
        under_way.bytes += bytes;
    }

    fn acknowledge(&mut self, upto: LogIndex) {
        let Some(under_way) = &mut self.under_way else { return };
        while let Some((_, bytes)) = under_way.messages.pop_front_if(|(sent, _)| *sent <= upto) {
            under_way.bytes -= bytes;
        }
    }

    /// Gives back the memory that a busy time has left behind.
    fn release_memory(&mut self) {
        if self.is_empty() {
            self.under_way = None;
        }
    }
}

impl PartialEq for Inflight {
    fn eq(&self, other: &Self) -> bool {
        self.messages().eq(other.messages())
    }
}

impl Eq for Inflight {}

impl Hash for Inflight {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.messages().len().hash(state);
        self.messages().for_each(|message| message.hash(state));
    }
}

/// How much may be under way to a peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) messages: usize,
    pub(crate) bytes: u64,
}

impl Progress {
    /// Of a peer about which nothing is known: its log may end where the leader's does.
    pub(crate) fn unknown(session: Session, last: LogIndex, now: Time) -> Self {
        Self {
            session,
            matched: LogIndex::ZERO,
            pace: Pace::Probe { next: last.next(), awaiting_reply: false },
            heard: now,
            round: 0,
            told_commit: LogIndex::ZERO,
            fit: false,
            full: false,
            priority: 0,
            asleep: false,
            silent_since: Time::NEVER,
        }
    }

    /// The next entry to send, if any may be sent.
    pub(crate) fn next_to_send(&self, last: LogIndex, window: Window) -> Option<LogIndex> {
        match &self.pace {
            // It would take none.
            _ if self.full => None,
            // A probe may be empty: it asks whether the entry before `next` is there.
            Pace::Probe { next, awaiting_reply } => (!awaiting_reply).then_some(*next),
            Pace::Replicate { next, inflight } => (*next <= last && inflight.has_room(window)).then_some(*next),
            Pace::Snapshot => None,
        }
    }

    /// Whether what it needs next is not in a log that begins after `begin`.
    pub(crate) fn needs_snapshot(&self, begin: LogIndex) -> bool {
        match self.pace {
            Pace::Probe { next, .. } | Pace::Replicate { next, .. } => next.prev() < begin,
            Pace::Snapshot => true,
        }
    }

    /// Whether it is in step and has everything up to `index`.
    pub(crate) fn keeps_up_with(&self, index: LogIndex) -> bool {
        matches!(self.pace, Pace::Replicate { .. }) && self.matched >= index
    }

    /// Takes note that everything up to `upto` was sent.
    pub(crate) fn sent(&mut self, upto: LogIndex, bytes: u64) {
        match &mut self.pace {
            Pace::Probe { awaiting_reply, .. } => *awaiting_reply = true,
            Pace::Replicate { next, inflight } => {
                *next = upto.next();
                inflight.push(upto, bytes);
            }
            Pace::Snapshot => {}
        }
    }

    /// The peer holds everything up to `upto`. Stale and repeated acknowledgements change nothing. The leader's log
    /// begins after `begin`.
    pub(crate) fn accepted(&mut self, upto: LogIndex, begin: LogIndex) {
        self.matched = self.matched.max(upto);
        self.silent_since = Time::NEVER;
        match &mut self.pace {
            Pace::Probe { .. } => self.replicate(),
            Pace::Replicate { next, inflight } => {
                *next = (*next).max(self.matched.next());
                inflight.acknowledge(upto);
            }
            Pace::Snapshot if self.matched >= begin => self.replicate(),
            Pace::Snapshot => {}
        }
    }

    /// The peer lacks the entry `missing`, and `shared` is the last that both logs could have.
    ///
    /// An answer to anything but the question under way is stale: what it says of the log may no longer be so.
    pub(crate) fn refused(&mut self, missing: LogIndex, shared: LogIndex) {
        let is_stale = match &self.pace {
            Pace::Probe { next, .. } => missing != next.prev(),
            Pace::Replicate { .. } => missing <= self.matched,
            Pace::Snapshot => true,
        };
        if !is_stale {
            // Durably matched entries stay matched, whatever the hint says.
            self.probe(shared.max(self.matched).next());
        }
    }

    /// A heartbeat was answered. If the peer has answered heartbeats for as long as `patience`, and nothing of what is
    /// under way, that is taken for lost.
    ///
    /// Time decides and not the number of heartbeats: rounds of reads can follow each other faster than any disk, and
    /// entries must not be sent again for each of them.
    pub(crate) fn heartbeat_answered(&mut self, now: Time, election_timeout: Duration) {
        let awaits_answer = match &self.pace {
            Pace::Probe { awaiting_reply, .. } => *awaiting_reply,
            Pace::Replicate { inflight, .. } => !inflight.is_empty(),
            Pace::Snapshot => false,
        };
        if awaits_answer {
            self.silent_since = self.silent_since.min(now);
            if now.since(self.silent_since) >= election_timeout {
                self.start_over();
            }
        }
    }

    /// What was sent may be lost: ask again from what is certain.
    pub(crate) fn start_over(&mut self) {
        match self.pace {
            Pace::Probe { next, .. } => self.probe(next),
            Pace::Replicate { .. } => self.probe(self.matched.next()),
            // It is told again with each heartbeat.
            Pace::Snapshot => {}
        }
    }

    /// As it is shown, of this peer; so much was committed a heartbeat ago.
    pub(crate) fn view(&self, node: NodeId, committed_a_beat_ago: LogIndex) -> PeerView {
        let pace = match self.pace {
            Pace::Probe { .. } => PaceName::Probe,
            Pace::Replicate { .. } => PaceName::Replicate,
            Pace::Snapshot => PaceName::Snapshot,
        };
        PeerView {
            node,
            matched: self.matched,
            pace,
            heard: self.heard,
            in_step: self.keeps_up_with(committed_a_beat_ago) && !self.full,
            is_fit: self.fit,
            is_full: self.full,
            priority: self.priority,
        }
    }

    /// Gives back the memory that a busy time has left behind.
    pub(crate) fn release_memory(&mut self) {
        if let Pace::Replicate { inflight, .. } = &mut self.pace {
            inflight.release_memory();
        }
    }

    /// See [`crate::canonical`].
    pub(crate) fn forget_time(&mut self, now: Time) {
        self.heard = now;
        self.silent_since = Time::NEVER;
    }

    fn probe(&mut self, next: LogIndex) {
        self.pace = Pace::Probe { next, awaiting_reply: false };
        self.silent_since = Time::NEVER;
    }

    fn replicate(&mut self) {
        self.pace = Pace::Replicate { next: self.matched.next(), inflight: Inflight::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::DefaultHasher;

    const LAST: LogIndex = LogIndex(20);

    fn probed() -> Progress {
        Progress::unknown(Session::default(), LAST, Time::default())
    }

    /// In step, and has everything up to `matched`.
    fn in_step(matched: u64) -> Progress {
        let mut progress = probed();
        progress.accepted(LogIndex(matched), LogIndex::ZERO);
        progress
    }

    /// A peer that needs a snapshot, of a log that begins after 10.
    fn told_of_a_snapshot() -> Progress {
        Progress { pace: Pace::Snapshot, ..probed() }
    }

    #[test]
    fn how_much_may_be_under_way() {
        let window = Window { messages: 3, bytes: 100 };
        let table = [
            (&[][..], true),
            (&[99], true),
            (&[100], false),
            (&[101], false),
            (&[50, 49], true),
            (&[50, 50], false),
            (&[0, 0], true),
            (&[0, 0, 0], false),
        ];
        for (under_way, has_room) in table {
            let mut progress = in_step(10);
            for (n, &bytes) in under_way.iter().enumerate() {
                progress.sent(LogIndex(11 + n as u64), bytes);
            }
            assert_eq!(progress.next_to_send(LAST, window).is_some(), has_room, "{under_way:?} bytes");
        }
    }

    #[test]
    fn what_is_under_way_counts_and_not_the_room_for_it() {
        let hash = |progress: &Progress| {
            let mut hasher = DefaultHasher::new();
            progress.hash(&mut hasher);
            hasher.finish()
        };
        let mut was_busy = in_step(10);
        was_busy.sent(LogIndex(11), 5);
        let mut other = in_step(10);
        other.sent(LogIndex(11), 6);
        assert_ne!(was_busy, other);
        assert_ne!(hash(&was_busy), hash(&other));
        was_busy.accepted(LogIndex(11), LogIndex::ZERO);
        assert_eq!((&was_busy, hash(&was_busy)), (&in_step(11), hash(&in_step(11))));
    }

    #[test]
    fn who_keeps_up() {
        assert!(in_step(10).keeps_up_with(LogIndex(10)));
        assert!(!in_step(10).keeps_up_with(LogIndex(11)), "it has not got that far");
        let mut lost = in_step(10);
        lost.start_over();
        assert!(!lost.keeps_up_with(LogIndex(10)), "it is not in step");
        assert!(!told_of_a_snapshot().keeps_up_with(LogIndex::ZERO));
    }

    #[test]
    fn who_needs_a_snapshot_needs_it_until_it_has_what_the_log_begins_after() {
        for (upto, in_step) in [(0, false), (9, false), (10, true), (12, true)] {
            let mut progress = told_of_a_snapshot();
            progress.accepted(LogIndex(upto), LogIndex(10));
            assert_eq!(matches!(progress.pace, Pace::Replicate { .. }), in_step, "it has {upto}");
        }
    }
}
