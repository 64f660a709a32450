//! Linearizable reads without a log entry (Ongaro §6.4).
//!
//! Owns the reads that wait for the leader to confirm its office. One round of heartbeats confirms all that were
//! waiting when it began. Must not know what is read.

use crate::id::{LogIndex, NodeId};
use crate::message::ReadId;

/// A read, and the node whose host asked for it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Asked {
    pub(crate) by: NodeId,
    pub(crate) read: ReadId,
}

/// The reads a leader has not answered.
///
/// Invariant: at most one round is unconfirmed; its number is the greatest that was begun in this term.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct Reads {
    /// Waiting for the next round.
    waiting: Vec<Asked>,
    /// The round under way.
    confirming: Option<Round>,
    /// The newest round of this term; zero before the first.
    pub(crate) round: u64,
}

/// One round of heartbeats and the reads it will confirm.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Round {
    /// What was committed when the round began; each of its reads was asked before that.
    pub(crate) index: LogIndex,
    pub(crate) reads: Vec<Asked>,
}

/// Reads that a leader keeps waiting, at most; whoever asks for one more is told to ask again.
pub(crate) const WAITING_MAX: usize = 4096;

impl Reads {
    /// Takes a read. False if too many wait.
    pub(crate) fn ask(&mut self, asked: Asked) -> bool {
        if self.waiting.len() >= WAITING_MAX {
            return false;
        }
        self.waiting.push(asked);
        true
    }

    /// Begins a round if reads wait and none is under way. True if heartbeats must go out for it.
    ///
    /// `commit` is read here, when the round begins and before any of its heartbeats is sent: a later round number
    /// answered by a quorum proves that no other leader had been elected by then.
    pub(crate) fn begin_round(&mut self, commit: LogIndex) -> bool {
        if self.waiting.is_empty() || self.confirming.is_some() {
            return false;
        }
        self.round += 1;
        self.confirming = Some(Round { index: commit, reads: std::mem::take(&mut self.waiting) });
        true
    }

    /// The round under way, if a quorum has answered it.
    pub(crate) fn confirmed_by(&mut self, round_of_quorum: u64) -> Option<Round> {
        self.confirming.take_if(|_| round_of_quorum >= self.round)
    }

    /// All reads that will not be answered by this leader.
    pub(crate) fn abandon(self) -> impl Iterator<Item = Asked> {
        self.confirming.into_iter().flat_map(|round| round.reads).chain(self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_round_confirms_all_that_waited() {
        let asked = |n| Asked { by: NodeId(1), read: ReadId(n) };
        let mut reads = Reads::default();
        assert!(!reads.begin_round(LogIndex(5)), "nothing waits");
        assert!(reads.ask(asked(1)) && reads.ask(asked(2)));
        assert!(reads.begin_round(LogIndex(5)));
        assert!(reads.ask(asked(3)));
        assert!(!reads.begin_round(LogIndex(6)), "one at a time");
        assert_eq!(reads.confirmed_by(0), None);
        let round = reads.confirmed_by(1).unwrap();
        assert_eq!((round.index, round.reads), (LogIndex(5), vec![asked(1), asked(2)]));
        assert!(reads.begin_round(LogIndex(7)));
        assert_eq!(reads.confirmed_by(1), None, "an old round confirms nothing new");
        assert_eq!(reads.abandon().collect::<Vec<_>>(), vec![asked(3)]);
    }

    #[test]
    fn a_flood_of_reads_is_refused() {
        let mut reads = Reads::default();
        let taken =
            (0..WAITING_MAX as u64 + 5).filter(|&n| reads.ask(Asked { by: NodeId(1), read: ReadId(n) })).count();
        assert_eq!(taken, WAITING_MAX);
    }
}
