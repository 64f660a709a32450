//! A machine's clock: it runs a little fast or slow, and may leap ahead. It never goes back (a monotonic clock).

use crate::agenda::{Moment, Span};
use std::time::Duration;
use vlot_raft::time::Time;

/// A clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// What it showed then, in nanoseconds.
    shown: u64,
    /// When that was.
    at: Moment,
    /// How many of its nanoseconds pass in a million.
    rate: u64,
}

impl Clock {
    /// A clock that shows this many nanoseconds when the world begins; so many pass in a million.
    #[must_use]
    pub fn new(shown: u64, rate: u64) -> Self {
        Self { shown, at: Moment::default(), rate }
    }

    /// What it shows.
    #[must_use]
    pub fn local(&self, now: Moment) -> Time {
        Time::after_origin(Duration::from_nanos(
            self.shown + (u128::from((now - self.at).0) * u128::from(self.rate) / 1_000_000) as u64,
        ))
    }

    /// The first moment at which it shows this.
    #[must_use]
    pub fn moment(&self, time: Time) -> Moment {
        if time == Time::NEVER {
            return Moment::NEVER;
        }
        let passed = time.since_origin().as_nanos().saturating_sub(u128::from(self.shown));
        let span = (passed * 1_000_000).div_ceil(u128::from(self.rate));
        self.at + Span(u64::try_from(span).unwrap_or(u64::MAX))
    }

    /// It leaps ahead, and runs at this rate from now on.
    pub fn change(&mut self, now: Moment, leap: Span, rate: u64) {
        let shown = u64::try_from(self.local(now).since_origin().as_nanos()).unwrap_or(u64::MAX);
        *self = Self { shown: shown.saturating_add(leap.0), at: now, rate };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_shows_a_time_from_its_moment_on() {
        for rate in [900_000, 1_000_000, 1_100_000] {
            let clock = Clock::new(7_000_000_000, rate);
            for nanos in [0, 1, 999_999_937, 60_000_000_001] {
                let time = Time::after_origin(Duration::from_nanos(7_000_000_000 + nanos));
                let moment = clock.moment(time);
                assert!(clock.local(moment) >= time);
                assert!(moment.0 == 0 || clock.local(Moment(moment.0 - 1)) < time, "rate {rate}, {nanos} ns");
            }
        }
    }

    #[test]
    fn a_clock_goes_on_from_what_it_shows() {
        let mut clock = Clock::new(5, 900_000);
        let before = clock.local(Moment(1_000_000));
        clock.change(Moment(1_000_000), Span(70), 1_100_000);
        assert_eq!(clock.local(Moment(1_000_000)), before + Duration::from_nanos(70));
        assert_eq!(clock.local(Moment(2_000_000)), before + Duration::from_nanos(1_100_070));
        assert_eq!(clock.moment(clock.local(Moment(2_000_000))), Moment(2_000_000));
    }
}
