//! How long things took that are of one of a few kinds, and succeed or not.

use std::time::{Duration, Instant};

use vlot_figures::{Distribution, Histogram};

/// What is told apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Act {
    Range,
    ReadonlyTxn,
    Put,
    DeleteRange,
    Txn,
    Compaction,
    LeaseGrant,
    LeaseRevoke,
}

impl Act {
    const ALL: [Act; 8] = [
        Act::Range,
        Act::ReadonlyTxn,
        Act::Put,
        Act::DeleteRange,
        Act::Txn,
        Act::Compaction,
        Act::LeaseGrant,
        Act::LeaseRevoke,
    ];

    /// Its name in etcd.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Act::Range => "Range",
            Act::ReadonlyTxn => "ReadonlyTxn",
            Act::Put => "Put",
            Act::DeleteRange => "DeleteRange",
            Act::Txn => "Txn",
            Act::Compaction => "Compaction",
            Act::LeaseGrant => "LeaseGrant",
            Act::LeaseRevoke => "LeaseRevoke",
        }
    }
}

/// A histogram for each act and outcome.
pub(crate) struct Timings([[Histogram; 2]; Act::ALL.len()]);

impl Timings {
    pub(super) fn doubling(first: Duration, buckets: u32) -> Timings {
        Timings(Act::ALL.map(|_| [false, true].map(|_| Histogram::doubling(first, buckets))))
    }

    /// Something begins. It has failed, unless it is said to have succeeded before what is returned is dropped.
    pub(crate) fn begin(&self, act: Act) -> Span<'_> {
        Span { histograms: &self.0[act as usize], begun: Instant::now(), outcome: None }
    }

    /// Acts and outcomes, as far as there were any.
    pub(crate) fn read(&self) -> Vec<(Act, bool, Distribution)> {
        let all = Act::ALL.iter().flat_map(|act| {
            [false, true].map(|success| (*act, success, self.0[*act as usize][usize::from(success)].read()))
        });
        all.filter(|(_, _, took)| took.count() > 0).collect()
    }
}

/// Something that is under way. It has ended when this is dropped.
pub(crate) struct Span<'m> {
    histograms: &'m [Histogram; 2],
    begun: Instant,
    /// Whether it has succeeded, and how long it took.
    outcome: Option<(bool, Duration)>,
}

impl Span<'_> {
    /// It has ended, and whether it has succeeded. Returns how long it took.
    pub(crate) fn end(mut self, has_succeeded: bool) -> Duration {
        let took = self.begun.elapsed();
        self.outcome = Some((has_succeeded, took));
        took
    }
}

impl Drop for Span<'_> {
    fn drop(&mut self) {
        let (has_succeeded, took) = self.outcome.unwrap_or_else(|| (false, self.begun.elapsed()));
        self.histograms[usize::from(has_succeeded)].observe(took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_has_failed() {
        let timings = Timings::doubling(Duration::from_millis(1), 3);
        timings.begin(Act::Put).end(true);
        drop(timings.begin(Act::Put));
        timings.begin(Act::Compaction).end(false);
        let read: Vec<_> =
            timings.read().into_iter().map(|(act, success, took)| (act, success, took.count())).collect();
        assert_eq!(read, [(Act::Put, false, 1), (Act::Put, true, 1), (Act::Compaction, false, 1)]);
    }
}
