//! One member's reckoning of cluster time, and what a leader says of it.
//!
//! Owns how long a member has counted since it was told of time last. It knows no clock of its own: the caller says how
//! long it has been running, by a clock that only goes forward. The wall clock has no part in it.

use std::time::Duration;

use crate::command::LeaseTime;
use crate::store::Store;

/// Longer than this a member counts at once: it did not run meanwhile, and could not hear a request to keep a lease.
const STEP_MAX: Duration = Duration::from_millis(500);

/// What cluster time is, as far as one member can tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeaseClock {
    /// Cluster time, in microseconds.
    time: u64,
    /// When that was, by the member's own clock.
    at: Duration,
    /// The index of the entry by which it was told last. One may tell the same time as the one before.
    told_at: u64,
    /// The term in which the member tells time itself.
    tells_in: Option<u64>,
}

impl LeaseClock {
    /// Counts on, and says what cluster time is, in milliseconds. `local` is how long the member has been running, `leads_in`
    /// the term in which it leads. To be called several times a second, on every member: one that becomes the leader goes
    /// on where the one before it was.
    pub fn now(&mut self, store: &Store, local: Duration, leads_in: Option<u64>) -> u64 {
        self.count(store.leases.told_at(), store.lease_time(), local, tells_in(store, leads_in))
    }

    /// What a leader has to tell the others, if anything. Every member asks, and says whether it leads.
    pub fn due(&mut self, store: &Store, local: Duration, leads_in: Option<u64>) -> Option<LeaseTime> {
        let now = self.now(store, local, leads_in);
        store.lease_time_due(self.tells_in?, now)
    }

    fn count(&mut self, told_at: u64, told: u64, local: Duration, tells_in: Option<u64>) -> u64 {
        let step = local.saturating_sub(self.at).min(STEP_MAX);
        self.at = self.at.max(local);
        self.time = self.time.saturating_add(step.as_micros() as u64);
        if told_at != self.told_at {
            self.told_at = told_at;
            let told = told.saturating_mul(1000);
            // What a member has counted itself does not matter when another one tells: its clock may be the faster one, and
            // a lease must not end early for that. A member that tells has told it itself, some moments ago.
            let told_itself = tells_in.is_some() && tells_in == self.tells_in;
            self.time = if told_itself { self.time.max(told) } else { told };
        }
        self.tells_in = tells_in;
        self.time / 1000
    }
}

/// The term in which a member tells time: it leads, and has applied an entry of its own term, and so all that earlier leaders
/// have told. Before that its own count may be ahead of the moment from which a lease runs that an earlier leader began.
fn tells_in(store: &Store, leads_in: Option<u64>) -> Option<u64> {
    leads_in.filter(|term| store.applied().term == *term)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_follower_goes_on_from_what_was_told_and_forgets_what_it_counted() {
        let mut clock = LeaseClock::default();
        assert_eq!(clock.count(1, 7_000, ms(100), None), 7_000);
        assert_eq!((clock.count(1, 7_000, ms(350), None), clock.count(1, 7_000, ms(400), None)), (7_250, 7_300));
        assert_eq!(clock.count(2, 7_100, ms(500), None), 7_100);
        // Another leader, which has counted nothing, tells the same again.
        assert_eq!((clock.count(2, 7_100, ms(900), None), clock.count(3, 7_100, ms(950), None)), (7_500, 7_100));
    }

    #[test]
    fn a_leader_goes_on_counting_when_what_it_told_comes_back() {
        let mut clock = LeaseClock::default();
        assert_eq!(clock.count(1, 7_000, ms(0), None), 7_000);
        assert_eq!(clock.count(1, 7_000, ms(100), Some(1)), 7_100);
        assert_eq!(clock.count(2, 7_100, ms(200), Some(1)), 7_200);
        // It leads again, and another one did in between.
        assert_eq!(clock.count(3, 7_150, ms(300), Some(3)), 7_150);
    }

    #[test]
    fn a_pause_does_not_count_beyond_a_step() {
        let mut clock = LeaseClock::default();
        assert_eq!(clock.count(0, 0, ms(60_000), Some(1)), 500);
        assert_eq!(clock.count(0, 0, ms(60_100), Some(1)), 600);
    }

    #[test]
    fn a_clock_that_is_set_back_stands_still() {
        let mut clock = LeaseClock::default();
        assert_eq!(clock.count(1, 1_000, ms(900), Some(1)), 1_000);
        assert_eq!((clock.count(1, 1_000, ms(100), Some(1)), clock.count(1, 1_000, ms(900), Some(1))), (1_000, 1_000));
        assert_eq!(clock.count(1, 1_000, ms(1_000), Some(1)), 1_100);
    }
}
