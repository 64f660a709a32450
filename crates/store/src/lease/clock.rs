//! One member's reckoning of cluster time.
//!
//! Owns how long a leader has counted since it was told of time last. It knows no clock of its own: the caller says how
//! long it has been running, by a clock that only goes forward. The wall clock has no part in it.

use std::time::Duration;

/// Longer than this a member counts at once: it did not run meanwhile, and could not hear who asked to keep a lease.
const STEP_MAX: Duration = Duration::from_millis(500);

/// What cluster time is, as far as one member can tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeaseClock {
    /// Cluster time, in microseconds.
    time: u64,
    /// When that was, by the member's own clock.
    at: Duration,
}

impl LeaseClock {
    /// Counts on, and says what cluster time is, in milliseconds. To be called several times a second, on every member: a
    /// member that becomes the leader goes on where the one before it was.
    pub fn now(&mut self, local: Duration) -> u64 {
        let step = local.saturating_sub(self.at).min(STEP_MAX);
        self.time = self.time.saturating_add(step.as_micros() as u64);
        self.at = self.at.max(local);
        self.time / 1000
    }

    /// Takes over what a leader has told, in milliseconds. What this member has counted itself does not matter then: its
    /// clock may be the faster one, and a lease must not end early for that.
    pub fn told(&mut self, now: u64, local: Duration) {
        *self = Self { time: now.saturating_mul(1000), at: self.at.max(local) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn time_goes_on_from_what_was_told() {
        let mut clock = LeaseClock::default();
        clock.told(7_000, ms(100));
        assert_eq!((clock.now(ms(100)), clock.now(ms(350)), clock.now(ms(400))), (7_000, 7_250, 7_300));
        clock.told(7_100, ms(400));
        assert_eq!(clock.now(ms(400)), 7_100);
    }

    #[test]
    fn a_pause_does_not_count_beyond_a_step() {
        let mut clock = LeaseClock::default();
        clock.told(0, ms(0));
        assert_eq!(clock.now(ms(60_000)), 500);
        assert_eq!(clock.now(ms(60_100)), 600);
    }

    #[test]
    fn a_clock_that_is_set_back_stands_still() {
        let mut clock = LeaseClock::default();
        clock.told(1_000, ms(900));
        assert_eq!((clock.now(ms(100)), clock.now(ms(900)), clock.now(ms(1_000))), (1_000, 1_000, 1_100));
    }
}
