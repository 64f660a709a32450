//! How long a dialler waits before it tries again.

use std::time::Duration;

/// A wait that doubles with every attempt, up to a bound, and differs between diallers.
#[derive(Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    attempts: u32,
    /// Counts draws. Started at a different number in every dialler, so that nodes that lost the same peer at the same
    /// moment do not come back at the same moment.
    draws: u64,
}

impl Backoff {
    pub fn new(min: Duration, max: Duration, seed: u64) -> Self {
        Self { min, max, attempts: 0, draws: seed }
    }

    /// The next wait: between half and all of the bound that this attempt has.
    pub fn next_wait(&mut self) -> Duration {
        let bound = self.min.saturating_mul(1 << self.attempts.min(20)).min(self.max);
        self.attempts = self.attempts.saturating_add(1);
        self.draws = self.draws.wrapping_add(1);
        bound / 2 + (bound / 2).mul_f64(fraction(self.draws))
    }

    /// The peer was reached and stayed: the next loss is a new one.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

/// Spreads a counter over `0.0..1.0`: the golden ratio's multiples never cluster.
fn fraction(count: u64) -> f64 {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    (count.wrapping_mul(GOLDEN) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_bound_and_start_over() {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1), 77);
        for bound_ms in [20, 40, 80, 160, 320, 640, 1000, 1000, 1000] {
            let wait = backoff.next_wait();
            let bound = Duration::from_millis(bound_ms);
            assert!(bound / 2 <= wait && wait <= bound, "{wait:?} of {bound:?}");
        }
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(20));
    }

    #[test]
    fn no_number_of_attempts_overflows() {
        let mut backoff = Backoff::new(Duration::from_secs(1 << 40), Duration::MAX, u64::MAX);
        for _ in 0..1000 {
            backoff.attempts = backoff.attempts.saturating_add(u32::MAX / 500);
            let _ = backoff.next_wait();
        }
    }

    #[test]
    fn diallers_with_different_seeds_wait_differently() {
        let wait = |seed| Backoff::new(Duration::from_secs(1), Duration::from_secs(1), seed).next_wait();
        assert!(wait(1).abs_diff(wait(2)) > Duration::from_millis(50));
    }
}
