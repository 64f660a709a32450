//! Linearizable reads without a log entry (Ongaro §6.4).
//!
//! Owns the reads that wait for the leader to confirm its office. One round of heartbeats confirms all that were
//! waiting when it began. Must not know what is read.

use std::collections::VecDeque;

use crate::id::{LogIndex, NodeId};
use crate::message::ReadId;
use crate::time::Time;

/// A read, and the node whose host asked for it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct ReadRequest {
    pub(crate) by: NodeId,
    pub(crate) read: ReadId,
}

/// The reads a leader has not answered, and the rounds of heartbeats that confirm them.
///
/// Invariant: at most one round with reads is unconfirmed; no round has a greater number than `round`; the rounds of
/// `lease` rise.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct Reads {
    /// Waiting for the next round.
    waiting: Vec<ReadRequest>,
    /// The round under way that has reads.
    confirming: Option<Round>,
    /// The newest round of this term; zero before the first.
    pub(crate) round: u64,
    /// Nothing unless leases are in use.
    lease: Option<Box<LeaseRounds>>,
}

/// When rounds were sent: what leases count from.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
struct LeaseRounds {
    /// Each unconfirmed round, and when it was sent.
    sent: VecDeque<(u64, Time)>,
    /// When the newest round was sent that a quorum has answered.
    confirmed: Option<Time>,
}

/// One round of heartbeats and the reads it will confirm.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Round {
    number: u64,
    /// What was committed when the round began; each of its reads was asked before that.
    pub(crate) index: LogIndex,
    pub(crate) reads: Vec<ReadRequest>,
}

/// Reads that a leader keeps waiting, at most; one more is refused, and its caller is told to ask again.
pub(crate) const WAITING_MAX: usize = 4096;
/// Rounds whose moment is kept, at most. Forgetting the oldest makes a lease shorter, never longer.
const SENT_MAX: usize = 64;

impl Reads {
    /// Takes a read. False if too many wait.
    pub(crate) fn ask(&mut self, asked: ReadRequest) -> bool {
        if self.waiting.len() >= WAITING_MAX {
            return false;
        }
        self.waiting.push(asked);
        true
    }

    /// Whether reads wait and could go with a new round.
    pub(crate) fn want_round(&self) -> bool {
        !self.waiting.is_empty() && self.confirming.is_none()
    }

    /// Whether no read waits for anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.confirming.is_none()
    }

    /// Whether anything depends on which rounds a quorum has answered.
    pub(crate) fn await_confirmation(&self) -> bool {
        self.confirming.is_some() || self.lease.as_ref().is_some_and(|lease| !lease.sent.is_empty())
    }

    /// Numbers a round whose heartbeats go out after this; `sent` is the moment, if leases are in use.
    pub(crate) fn begin_round(&mut self, sent: Option<Time>) {
        self.round += 1;
        if let Some(now) = sent {
            let sent = &mut self.lease.get_or_insert_default().sent;
            sent.push_back((self.round, now));
            if sent.len() > SENT_MAX {
                sent.pop_front();
            }
        }
    }

    /// Lets all that wait be confirmed by the round that was just begun.
    ///
    /// `commit` is read here, before any heartbeat of the round is sent: a round of this number answered by a quorum
    /// proves that no other leader had been elected by then.
    pub(crate) fn confirm_with_round(&mut self, commit: LogIndex) {
        let (number, reads) = (self.round, std::mem::take(&mut self.waiting));
        self.confirming = Some(Round { number, index: commit, reads });
    }

    /// A quorum has answered this round, or a later one: the reads that it confirms.
    pub(crate) fn confirmed_by(&mut self, round_of_quorum: u64) -> Option<Round> {
        if let Some(LeaseRounds { sent, confirmed }) = self.lease.as_deref_mut() {
            while let Some((_, sent)) = sent.pop_front_if(|(round, _)| *round <= round_of_quorum) {
                *confirmed = Some(sent);
            }
        }
        self.confirming.take_if(|round| round.number <= round_of_quorum)
    }

    /// When the newest round was sent that a quorum has answered, if leases are in use.
    pub(crate) fn confirmed(&self) -> Option<Time> {
        self.lease.as_ref()?.confirmed
    }

    /// See [`crate::canonical`].
    pub(crate) fn forget_time(&mut self) {
        self.lease = None;
    }

    /// All reads that will not be answered by this leader.
    pub(crate) fn abandon(self) -> impl Iterator<Item = ReadRequest> {
        self.confirming.into_iter().flat_map(|round| round.reads).chain(self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_round_confirms_all_that_waited() {
        let asked = |n| ReadRequest { by: NodeId(1), read: ReadId(n) };
        let mut reads = Reads::default();
        assert!(!reads.want_round(), "nothing waits");
        assert!(reads.ask(asked(1)) && reads.ask(asked(2)) && reads.want_round());
        reads.begin_round(None);
        reads.confirm_with_round(LogIndex(5));
        assert!(reads.ask(asked(3)) && !reads.want_round(), "one at a time");
        reads.begin_round(None);
        assert_eq!(reads.confirmed_by(0), None);
        let round = reads.confirmed_by(1).unwrap();
        assert_eq!((round.index, round.reads), (LogIndex(5), vec![asked(1), asked(2)]));
        assert!(reads.want_round());
        reads.begin_round(None);
        reads.confirm_with_round(LogIndex(7));
        assert_eq!(reads.confirmed_by(2), None, "a round before the read confirms nothing");
        assert_eq!(reads.abandon().collect::<Vec<_>>(), vec![asked(3)]);
    }

    #[test]
    fn a_lease_counts_from_when_the_round_was_sent() {
        let mut reads = Reads::default();
        for sent in 1..=3 {
            reads.begin_round(Some(Time::from_millis(sent)));
        }
        assert_eq!((reads.confirmed_by(0), reads.confirmed()), (None, None));
        assert_eq!((reads.confirmed_by(2), reads.confirmed()), (None, Some(Time::from_millis(2))));
        assert_eq!((reads.confirmed_by(1), reads.confirmed()), (None, Some(Time::from_millis(2))));
    }

    #[test]
    fn the_oldest_of_too_many_rounds_is_forgotten() {
        let confirmed = |rounds: usize, round| {
            let mut reads = Reads::default();
            (1..=rounds as u64).for_each(|sent| reads.begin_round(Some(Time::from_millis(sent))));
            assert_eq!(reads.confirmed_by(round), None, "no read waits");
            reads.confirmed()
        };
        assert_eq!(confirmed(SENT_MAX, 1), Some(Time::from_millis(1)));
        assert_eq!(confirmed(SENT_MAX + 1, 1), None);
        assert_eq!(confirmed(SENT_MAX + 1, 2), Some(Time::from_millis(2)));
    }

    #[test]
    fn a_flood_of_reads_is_refused() {
        let mut reads = Reads::default();
        let taken =
            (0..WAITING_MAX as u64 + 5).filter(|&n| reads.ask(ReadRequest { by: NodeId(1), read: ReadId(n) })).count();
        assert_eq!(taken, WAITING_MAX);
    }
}
