//! What of a group's decided entries is on its way into the state machine.
//!
//! Owns the bound on it and how long it has been under way. Must not know what applies it, or where.

use std::collections::VecDeque;
use std::time::Duration;

use vlot_raft::id::LogId;
use vlot_raft::time::Time;

/// Batches that were handed to a state machine and are not applied.
///
/// Invariant: their last entries rise; `bytes` is the sum of theirs.
#[derive(Debug, Default)]
pub(crate) struct Applying {
    batches: VecDeque<Batch>,
    bytes: usize,
}

#[derive(Debug)]
struct Batch {
    upto: LogId,
    bytes: usize,
    since: Time,
}

impl Applying {
    /// A batch is handed over; a snapshot to be restored counts as one.
    pub(crate) fn hand_over(&mut self, now: Time, upto: LogId, bytes: usize) {
        self.batches.push_back(Batch { upto, bytes, since: now });
        self.bytes += bytes;
    }

    /// Everything up to here is applied.
    pub(crate) fn applied(&mut self, upto: LogId) {
        while let Some(batch) = self.batches.pop_front_if(|batch| batch.upto.index <= upto.index) {
            self.bytes -= batch.bytes;
        }
    }

    /// Nothing is applied any more.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Bytes under way.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the oldest batch will have been under way for so long; never, if nothing is.
    pub(crate) fn late_at(&self, lag: Duration) -> Time {
        self.batches.front().map_or(Time::NEVER, |oldest| oldest.since + lag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_applied_is_no_longer_under_way() {
        let mut applying = Applying::default();
        let lag = Duration::from_millis(5);
        assert_eq!((applying.bytes(), applying.late_at(lag)), (0, Time::NEVER));
        applying.hand_over(Time::from_millis(10), LogId::new(1, 3), 30);
        applying.hand_over(Time::from_millis(20), LogId::new(1, 4), 10);
        assert_eq!((applying.bytes(), applying.late_at(lag)), (40, Time::from_millis(15)));
        applying.applied(LogId::new(1, 2));
        assert_eq!(applying.bytes(), 40, "a batch is applied as a whole");
        applying.applied(LogId::new(1, 3));
        assert_eq!((applying.bytes(), applying.late_at(lag)), (10, Time::from_millis(25)));
        applying.clear();
        assert_eq!((applying.bytes(), applying.late_at(lag)), (0, Time::NEVER));
    }
}
