//! Time and chance, as the host gives them.
//!
//! Owns no clock and no source of randomness: a moment comes with each input, and chance is a seeded sequence, so that
//! two runs with the same inputs have the same effects.

use std::ops::Add;
use std::time::Duration;

/// A moment: how long after the host's own, arbitrary origin, to the nanosecond. Never goes back (a monotonic clock).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Time(u64);

impl Time {
    /// Later than every moment: what waits for it waits for ever. Five centuries after the origin.
    pub const NEVER: Self = Self(u64::MAX);

    /// The moment so long after the origin.
    #[must_use]
    pub const fn after_origin(passed: Duration) -> Self {
        Self(nanos(passed))
    }

    /// The moment this many milliseconds after the origin.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self::after_origin(Duration::from_millis(millis))
    }

    /// How long after the origin this is.
    #[must_use]
    pub const fn since_origin(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// How long after `earlier` this is; zero if it is not later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(nanos(wait)))
    }
}

/// In nanoseconds, as far as they can be told.
const fn nanos(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1_000_000_000).saturating_add(time.subsec_nanos() as u64)
}

/// A seeded sequence of numbers (SplitMix64).
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Rng(u64);

impl Rng {
    /// The sequence of this seed. Replicas of one group take different seeds, or their elections collide.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Something in `[from, upto)`; `from` when that is empty.
    pub fn between(&mut self, from: Duration, upto: Duration) -> Duration {
        let width = u64::try_from(upto.saturating_sub(from).as_nanos()).unwrap_or(u64::MAX);
        from + Duration::from_nanos(if width == 0 { 0 } else { self.next() % width })
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers of seed zero, as published with the generator.
    #[test]
    fn the_sequence_is_that_of_splitmix64() {
        let mut rng = Rng::new(0);
        let numbers = [(); 3].map(|()| rng.next());
        assert_eq!(numbers, [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]);
    }

    #[test]
    fn what_lies_between() {
        let [low, high] = [10, 13].map(Duration::from_nanos);
        let mut rng = Rng::new(1);
        let mut drawn: Vec<u128> = (0..100).map(|_| rng.between(low, high).as_nanos()).collect();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn, [10, 11, 12]);
        for (from, upto) in [(low, low), (high, low)] {
            assert_eq!(rng.between(from, upto), from, "nothing lies between");
        }
    }
}
