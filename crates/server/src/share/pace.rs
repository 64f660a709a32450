//! How fast the clients of one address have done for them what serves nobody.
//!
//! Owns the meter: a bucket that leaks, kept as the time when it will be empty. Must not know what counts as work, nor how a
//! client is made to wait.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Work that is done in a millisecond: seven calls that are taken back, or so many frames. That is a twentieth of a thread.
const WORK_A_MILLISECOND: u64 = 64;
/// How far ahead of that work may be. It makes up for timers, which end a millisecond late.
const AHEAD: Duration = Duration::from_millis(2);
/// Nobody waits longer, so that a connection answers in time when it is asked whether it is alive.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// The meter of one address.
#[derive(Debug)]
pub(crate) struct Pace {
    start: Instant,
    /// When all work will have leaked, in nanoseconds from the start.
    empty_at: AtomicU64,
}

impl Pace {
    pub(super) fn new() -> Pace {
        Pace { start: Instant::now(), empty_at: AtomicU64::new(0) }
    }

    /// So much work was done for nothing. Returns how long the client is to wait before there is more.
    pub(crate) fn spend(&self, work: usize, now: Instant) -> Option<Duration> {
        let now = now.saturating_duration_since(self.start).as_nanos() as u64;
        let took = (work as u64).saturating_mul(1_000_000 / WORK_A_MILLISECOND);
        // Two threads that count at the same moment may count one of the two: all connections are served by one.
        let empty_at = self.empty_at.load(Relaxed).max(now).saturating_add(took);
        self.empty_at.store(empty_at, Relaxed);
        let ahead = Duration::from_nanos(empty_at - now);
        ahead.checked_sub(AHEAD).filter(|wait| !wait.is_zero()).map(|wait| wait.min(WAIT_MAX))
    }
}

impl Pace {
    /// Whether there is work that is not made up for.
    pub(super) fn is_ahead(&self, now: Instant) -> bool {
        u128::from(self.empty_at.load(Relaxed)) > now.saturating_duration_since(self.start).as_nanos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_beyond_the_pace_is_waited_for_and_rest_makes_up_for_little() {
        let pace = Pace::new();
        let at = |millis| pace.start + Duration::from_millis(millis);
        // When, how much, and how long to wait.
        let rows = [
            (0, 64, 0),
            (0, 64, 0),
            (0, 64, 1),
            (0, 640, 11),
            (11, 64, 1),
            (12, 128, 2),
            (1000, 128, 0),
            (1000, 64, 1),
        ];
        for (now, work, expected) in rows {
            let wait = pace.spend(work, at(now)).unwrap_or_default();
            assert_eq!(wait, Duration::from_millis(expected), "{work} at {now}");
        }
    }

    #[test]
    fn nobody_waits_for_ever() {
        let pace = Pace::new();
        for _ in 0..3 {
            assert_eq!(pace.spend(usize::MAX, Instant::now()), Some(WAIT_MAX));
        }
    }
}
