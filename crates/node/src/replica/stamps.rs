//! What a leader tells its group of time: when an entry with time goes in front of a batch, and what it says.
//!
//! Owns how much of this node's time in office is told. Must not know what a state machine makes of it.
//!
//! A stamp says how much has passed since the one before of the same leader, so that no leader has to look up what others
//! have told. That the sum over all applied stamps counts no moment twice follows from the paper: a leader takes office
//! once a quorum has left the terms before it, and what an earlier leader appends from then on is never committed. So the
//! times in office whose stamps are applied lie one after the other.

use std::time::Duration;

use vlot_raft::id::Term;
use vlot_raft::time::Time;

use crate::state_machine::TimePassed;

/// How much time passes at least between two stamps of one leader. What runs out by replicated time, a session say, runs for
/// seconds; and a group that is busy all the time gets ten small entries a second by it.
pub const RESOLUTION: Duration = Duration::from_millis(100);

/// What of this node's time in office is told.
///
/// Invariant: `told_upto` is no earlier than the moment at which this node took office in `term`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamps {
    unix_at_origin: Duration,
    /// In which this node last took office.
    term: Term,
    told_upto: Time,
    /// There is a stamp of this term.
    has_told: bool,
}

impl Stamps {
    /// Of a node that has not led yet. `unix_at_origin` is what the wall clock showed at its time zero, since 1970.
    pub(super) fn new(unix_at_origin: Duration) -> Self {
        Self { unix_at_origin, term: Term::ZERO, told_upto: Time::default(), has_told: false }
    }

    /// This node leads in `term`, since now if not since earlier.
    pub(super) fn leads(&mut self, now: Time, term: Term) {
        if self.term != term {
            *self = Self { term, told_upto: now, has_told: false, ..*self };
        }
    }

    /// The stamp that goes in front of what the leader, this node, appends now; none if the last one is recent.
    pub(super) fn take_due(&mut self, now: Time) -> Option<TimePassed> {
        // What is left of a millisecond is told with the next stamp.
        let elapsed = whole_millis(now.since(self.told_upto));
        if self.has_told && elapsed < RESOLUTION {
            return None;
        }
        (self.told_upto, self.has_told) = (self.told_upto + elapsed, true);
        let unix = whole_millis(self.unix_at_origin.saturating_add(now.since_origin()));
        Some(TimePassed { elapsed, unix })
    }
}

fn whole_millis(duration: Duration) -> Duration {
    Duration::new(duration.as_secs(), duration.subsec_millis() * 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIX: u64 = 1_700_000_000_000;

    fn at(micros: u64) -> Time {
        Time::after_origin(Duration::from_micros(micros))
    }

    /// What is told of how much has passed, in milliseconds, and what the wall clock shows beyond `UNIX`.
    fn told(stamps: &mut Stamps, micros: u64) -> Option<(u64, u64)> {
        let TimePassed { elapsed, unix } = stamps.take_due(at(micros))?;
        assert_eq!(elapsed.subsec_nanos() % 1_000_000, 0, "whole milliseconds");
        Some((elapsed.as_millis() as u64, unix.as_millis() as u64 - UNIX))
    }

    fn took_office(micros: u64) -> Stamps {
        let mut stamps = Stamps::new(Duration::from_millis(UNIX));
        stamps.leads(at(micros), Term(3));
        stamps
    }

    #[test]
    fn the_first_of_a_term_tells_what_has_passed_since_the_leader_took_office() {
        assert_eq!(told(&mut took_office(50_000), 50_000), Some((0, 50)));
        assert_eq!(told(&mut took_office(50_000), 50_999), Some((0, 50)));
        assert_eq!(told(&mut took_office(50_000), 7_250_000), Some((7_200, 7_250)));
    }

    #[test]
    fn the_next_comes_after_the_resolution_and_what_is_left_of_a_millisecond_is_not_lost() {
        let mut stamps = took_office(0);
        assert_eq!(told(&mut stamps, 900), Some((0, 0)));
        assert_eq!(told(&mut stamps, 99_999), None);
        assert_eq!(told(&mut stamps, 100_700), Some((100, 100)));
        assert_eq!(told(&mut stamps, 200_600), Some((100, 200)));
        assert_eq!(told(&mut stamps, 250_000), None);
        assert_eq!(told(&mut stamps, 350_500), Some((150, 350)), "350 ms in all");
    }

    #[test]
    fn each_term_counts_from_its_own_beginning() {
        let mut stamps = took_office(0);
        assert_eq!(told(&mut stamps, 1_000_000), Some((1_000, 1_000)));
        stamps.leads(at(1_500_000), Term(3));
        assert_eq!(told(&mut stamps, 1_600_000), Some((600, 1_600)), "it has led all the time");
        stamps.leads(at(9_000_000), Term(5));
        assert_eq!(told(&mut stamps, 9_001_000), Some((1, 9_001)), "another has led meanwhile");
    }

    #[test]
    fn a_clock_at_its_end_stops_nothing() {
        let mut stamps = Stamps::new(Duration::MAX);
        stamps.leads(at(0), Term(1));
        assert!(stamps.take_due(Time::NEVER).is_some());
    }
}
