//! What is measured on hot paths, and how it is read without stopping them.
//!
//! Owns the one type that is more than an atomic number: how long things took, in buckets. Must not know what is measured,
//! nor how it is told. Depends on the standard library alone, so that every layer that has a clock may use it.
//!
//! ```
//! use std::time::Duration;
//! use vlot_figures::Histogram;
//!
//! let syncs = Histogram::doubling(Duration::from_millis(1), 3); // up to 1, 2, 4 ms, and beyond
//! syncs.observe(Duration::from_micros(300));
//! syncs.observe(Duration::from_millis(3));
//! let read = syncs.read();
//! assert_eq!(read.counts, [1, 0, 1, 0]);
//! assert_eq!((read.count(), read.sum), (2, Duration::from_micros(3_300)));
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long things took, counted in fixed buckets. Any thread observes, without a lock and without waiting for another.
#[derive(Debug)]
pub struct Histogram {
    /// The longest duration of each bucket, ascending. What is longer than all is counted behind them.
    bounds: Arc<[Duration]>,
    counts: Box<[AtomicU64]>,
    nanoseconds: AtomicU64,
}

impl Histogram {
    /// With these buckets: each bound belongs to the bucket that it closes. The bounds ascend.
    #[must_use]
    pub fn with_bounds(bounds: impl IntoIterator<Item = Duration>) -> Self {
        let bounds: Arc<[Duration]> = bounds.into_iter().collect();
        assert!(bounds.is_sorted(), "bounds ascend: {bounds:?}");
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, nanoseconds: AtomicU64::new(0) }
    }

    /// With so many buckets, of which the first ends at `first` and each other one at twice the one before.
    #[must_use]
    pub fn doubling(first: Duration, buckets: u32) -> Self {
        Self::with_bounds((0..buckets).map(|place| first * 2_u32.pow(place)))
    }

    /// Counts something that took so long.
    pub fn observe(&self, took: Duration) {
        let place = self.bounds.partition_point(|bound| *bound < took);
        self.counts[place].fetch_add(1, Relaxed);
        // 64 bits of nanoseconds are 584 years.
        self.nanoseconds.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    /// Does something, and counts how long that took.
    pub fn time<T>(&self, act: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let done = act();
        self.observe(begun.elapsed());
        done
    }

    /// What was counted so far. What is observed meanwhile may be in the sum and in no bucket yet, or the other way round.
    #[must_use]
    pub fn read(&self) -> Distribution {
        Distribution {
            bounds: Arc::clone(&self.bounds),
            counts: self.counts.iter().map(|count| count.load(Relaxed)).collect(),
            sum: Duration::from_nanos(self.nanoseconds.load(Relaxed)),
        }
    }
}

/// How long things took, as a plain value.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Distribution {
    /// The longest duration of each bucket, ascending.
    pub bounds: Arc<[Duration]>,
    /// How many things fell into each bucket and into no earlier one; the last count is of those beyond all bounds.
    pub counts: Vec<u64>,
    /// How long all of them took together.
    pub sum: Duration,
}

impl Distribution {
    /// How many things were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_it_does_not_exceed() {
        let rows =
            [(0, 0), (999, 0), (1_000, 0), (1_001, 1), (2_000, 1), (2_001, 2), (4_000, 2), (4_001, 3), (u64::MAX, 3)];
        for (micros, place) in rows {
            let histogram = Histogram::doubling(Duration::from_millis(1), 3);
            histogram.observe(Duration::from_micros(micros));
            let mut expected = [0; 4];
            expected[place] = 1;
            assert_eq!(histogram.read().counts, expected, "{micros} us");
        }
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let histogram = Histogram::doubling(Duration::from_micros(1), 4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|n| histogram.observe(Duration::from_micros(n % 20))));
            }
        });
        let read = histogram.read();
        assert_eq!((read.count(), read.sum), (40_000, Duration::from_micros(4 * 10_000 / 20 * 190)));
    }

    #[test]
    fn a_long_act_is_timed_and_its_outcome_given_back() {
        let histogram = Histogram::doubling(Duration::from_millis(1), 2);
        assert_eq!(histogram.time(|| std::thread::sleep(Duration::from_millis(5))), ());
        assert_eq!(histogram.read().counts, [0, 0, 1]);
    }
}
