//! Replicated Time: what leaders tell of time adds up to the same on every replica at the same entry, never goes back, and is
//! never ahead of the time that has really passed by more than clocks run fast. Each leader tells just what it has been in
//! office, by its own clock, and no command goes into the log long after time was told last.
//!
//! Unlike other checks it is told what clocks show, true and local.

use super::{View, violation};
use crate::agenda::{Moment, Span};
use crate::place::Place;
use std::collections::BTreeMap;
use std::time::Duration;
use vlot_log::record::Entry;
use vlot_node::payload::{self, Payload};
use vlot_node::replica::RESOLUTION;
use vlot_raft::effect::RoleName;
use vlot_raft::id::{LogId, LogIndex, Term};
use vlot_raft::invariants::Violation;
use vlot_raft::time::Time;

const PROPERTY: &str = "Replicated Time";
/// What is lost where clocks are rounded.
const SLACK: Duration = Duration::from_millis(1);

/// What leaders have told, and what state machines have made of it.
#[derive(Debug)]
pub struct ReplicatedTime {
    /// State machines ask for it.
    is_wanted: bool,
    /// By how much clocks run fast at most, in millionths.
    clock_drift: u64,
    /// By how much they have leapt ahead, all together.
    leapt: Span,
    /// When the first leader was in office.
    first_led: Option<Moment>,
    offices: BTreeMap<Term, Office>,
    /// What had passed when each entry was applied; that of none first.
    sums: Vec<Duration>,
}

/// What a leader has told in its term.
#[derive(Debug)]
struct Office {
    /// Since when it leads, by its own clock.
    since: Time,
    told: Duration,
    /// When it has told something last.
    told_at: Option<Time>,
}

impl ReplicatedTime {
    /// Nothing was told yet.
    #[must_use]
    pub fn new(is_wanted: bool, clock_drift: u64) -> Self {
        let sums = vec![Duration::ZERO];
        Self { is_wanted, clock_drift, leapt: Span::ZERO, first_led: None, offices: BTreeMap::new(), sums }
    }

    /// A machine's clock leaps ahead.
    pub fn leapt(&mut self, leap: Span) {
        self.leapt = self.leapt + leap;
    }

    /// A replica has ended a turn, at this moment, and by its own clock at this one. Told before what it writes in it.
    pub fn turned(&mut self, view: &View<'_>, now: Moment, local: Time) {
        if view.role == RoleName::Leader {
            self.first_led.get_or_insert(now);
            let office = || Office { since: local, told: Duration::ZERO, told_at: None };
            self.offices.entry(view.term).or_insert_with(office);
        }
    }

    /// A replica writes entries in this turn. Its own clock shows `local`, and its wall clock `unix` since 1970.
    ///
    /// # Errors
    /// If it leads, and tells something else than what has passed, or nothing where it should.
    pub fn writes(&mut self, view: &View<'_>, entries: &[Entry], local: Time, unix: Duration) -> Result<(), Violation> {
        let Some(office) = self.offices.get_mut(&view.term).filter(|_| view.role == RoleName::Leader) else {
            return Ok(());
        };
        for Entry { id, payload } in entries.iter().filter(|entry| entry.id.term == view.term) {
            match payload::decode(payload.clone()) {
                Ok(Payload::Time(_)) if !self.is_wanted => {
                    return violation(PROPERTY, format!("{id} tells time, and no state machine asks for it"));
                }
                Ok(Payload::Time(passed)) => {
                    office.told = office.told.saturating_add(passed.elapsed);
                    let led = local.since(office.since);
                    if office.told.as_millis() != led.as_millis() || passed.unix.as_millis() != unix.as_millis() {
                        let told = office.told;
                        let shown_by = format!(
                            "with {id} n{} has told {told:?} and {:?} in all; it has led for {led:?}, and its clock shows {unix:?}",
                            view.node(),
                            passed.unix
                        );
                        return violation(PROPERTY, shown_by);
                    }
                    office.told_at = Some(local);
                }
                Ok(Payload::Command { .. } | Payload::Commands(_)) if self.is_wanted => {
                    let is_recent = office.told_at.is_some_and(|told_at| local.since(told_at) < RESOLUTION);
                    if !is_recent {
                        let told_at = office.told_at;
                        let shown_by =
                            format!("n{} takes {id} at {local:?}, and has told time at {told_at:?}", view.node());
                        return violation(PROPERTY, shown_by);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A node has applied an entry at this moment; its state machine says that so much has passed by then.
    ///
    /// # Errors
    /// If something else has, or more than can have.
    pub fn applied(
        &mut self,
        (place, now): (Place, Moment),
        id: LogId,
        payload: &Payload,
        time: Option<Duration>,
    ) -> Result<(), Violation> {
        // What comes after a gap is another check's to find.
        let before = self.sums.get(id.index.prev().0 as usize).copied().unwrap_or_default();
        let sum = match payload {
            Payload::Time(passed) => before.saturating_add(passed.elapsed),
            _ => before,
        };
        if self.sums.len() as u64 == id.index.0 {
            self.sums.push(sum);
            let most = self.most_at(now);
            if sum > most {
                let shown_by =
                    format!("{sum:?} have passed with {id}, and {most:?} at most since a leader was in office");
                return violation(PROPERTY, shown_by);
            }
        }
        self.is_at(place, id.index, time)
    }

    /// A node's state machine begins with this entry applied, or becomes that of a snapshot of it.
    ///
    /// # Errors
    /// If another time has passed by then.
    pub fn is_at(&self, place: Place, index: LogIndex, time: Option<Duration>) -> Result<(), Violation> {
        let Some(&sum) = self.sums.get(index.0 as usize) else { return Ok(()) };
        if time != self.is_wanted.then_some(sum) {
            let shown_by = format!("at {index} {time:?} have passed at n{}, and {sum:?} by what was told", place + 1);
            return violation(PROPERTY, shown_by);
        }
        Ok(())
    }

    /// The most that can have passed at a moment, by the fastest clock.
    fn most_at(&self, now: Moment) -> Duration {
        let led = self.first_led.map_or(Span::ZERO, |first| now - first);
        let fast = u128::from(led.0) * u128::from(1_000_000 + self.clock_drift) / 1_000_000;
        Duration::from_nanos(u64::try_from(fast).unwrap_or(u64::MAX)) + Duration::from_nanos(self.leapt.0) + SLACK
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::testing::{founded, leader, log};
    use vlot_node::proposal_id::ProposalId;
    use vlot_node::state_machine::TimePassed;

    const UNIX: Duration = Duration::from_secs(7);

    fn second(seconds: u64) -> Moment {
        Moment(seconds * 1_000_000_000)
    }

    fn passed(millis: u64) -> TimePassed {
        TimePassed { elapsed: Duration::from_millis(millis), unix: UNIX }
    }

    /// What a leader of term 2, in office since second 10 by its clock, writes at these moments, in milliseconds of that
    /// clock: what it tells, or a command.
    fn wrote(is_wanted: bool, told: &[(u64, Option<u64>)]) -> Result<(), Violation> {
        let (runs, configurations) = (log(&[1]), founded(3));
        let view = leader(0, 2, &runs, &configurations);
        let mut check = ReplicatedTime::new(is_wanted, 0);
        check.turned(&view, second(1), Time::from_millis(10_000));
        let write = |(n, (local, told)): (usize, &(u64, Option<u64>))| {
            let payload = match told {
                Some(millis) => payload::time(passed(*millis)),
                None => payload::command(ProposalId { origin: 1, sequence: 1 }, 0, |_| {}),
            };
            let entries = [Entry { id: LogId::new(2, 2 + n as u64), payload }];
            check.turned(&view, second(2), Time::from_millis(*local));
            check.writes(&view, &entries, Time::from_millis(*local), UNIX)
        };
        told.iter().enumerate().try_for_each(write)
    }

    #[test]
    fn a_leader_tells_how_long_it_has_led_and_no_more() {
        assert_eq!(wrote(true, &[(10_000, Some(0)), (10_100, Some(100)), (10_350, Some(250))]), Ok(()));
        assert_eq!(wrote(true, &[(12_000, Some(2_000))]), Ok(()));
        for wrong in
            [&[(12_000, Some(12_000))][..], &[(12_000, Some(1_999))], &[(10_100, Some(100)), (10_200, Some(200))]]
        {
            assert!(wrote(true, wrong).is_err(), "{wrong:?}");
        }
        assert!(wrote(false, &[(10_000, Some(0))]).is_err(), "no state machine asks for it");
    }

    #[test]
    fn a_command_comes_soon_after_time_was_told() {
        assert_eq!(wrote(true, &[(10_000, Some(0)), (10_099, None)]), Ok(()));
        assert!(wrote(true, &[(10_000, Some(0)), (10_100, None)]).is_err());
        assert!(wrote(true, &[(10_000, None)]).is_err());
        assert_eq!(wrote(false, &[(19_000, None)]), Ok(()));
    }

    #[test]
    fn another_wall_clock_is_noticed() {
        let (runs, configurations) = (log(&[1]), founded(3));
        let view = leader(0, 2, &runs, &configurations);
        let mut check = ReplicatedTime::new(true, 0);
        check.turned(&view, second(1), Time::default());
        let entries = [Entry { id: LogId::new(2, 2), payload: payload::time(passed(0)) }];
        assert!(check.writes(&view, &entries, Time::default(), UNIX * 2).is_err());
    }

    /// Time that is told, and what a state machine says that has passed then, at these moments.
    fn applied(drift: u64, leapt: Span, told: &[(u64, u64, u64)]) -> Result<(), Violation> {
        let (runs, configurations) = (log(&[1]), founded(3));
        let mut check = ReplicatedTime::new(true, drift);
        check.turned(&leader(0, 2, &runs, &configurations), second(1), Time::default());
        check.leapt(leapt);
        let apply = |(n, &(at, millis, sum)): (usize, &(u64, u64, u64))| {
            let id = LogId::new(2, 1 + n as u64);
            check.applied((0, second(at)), id, &Payload::Time(passed(millis)), Some(Duration::from_millis(sum)))
        };
        told.iter().enumerate().try_for_each(apply)
    }

    #[test]
    fn what_has_passed_is_the_sum_of_what_was_told() {
        assert_eq!(applied(0, Span::ZERO, &[(9, 100, 100), (9, 0, 100), (9, 250, 350)]), Ok(()));
        assert!(applied(0, Span::ZERO, &[(9, 100, 100), (9, 100, 100)]).is_err(), "not counted");
        assert!(applied(0, Span::ZERO, &[(9, 100, 0)]).is_err());
    }

    #[test]
    fn time_is_not_ahead_by_more_than_clocks_run_fast_or_leap() {
        assert_eq!(applied(0, Span::ZERO, &[(3, 2_000, 2_000)]), Ok(()));
        assert!(applied(0, Span::ZERO, &[(3, 2_002, 2_002)]).is_err());
        assert_eq!(applied(100_000, Span::ZERO, &[(3, 2_200, 2_200)]), Ok(()));
        assert_eq!(applied(0, Span::seconds(5), &[(3, 7_000, 7_000)]), Ok(()));
    }

    #[test]
    fn a_snapshot_has_the_time_of_its_entry() {
        let mut check = ReplicatedTime::new(true, 0);
        check.first_led = Some(Moment::default());
        let time = Some(Duration::from_millis(500));
        check.applied((0, second(3)), LogId::new(1, 1), &Payload::Time(passed(500)), time).unwrap();
        assert_eq!(check.is_at(1, LogIndex(1), time), Ok(()));
        assert!(check.is_at(1, LogIndex(1), Some(Duration::ZERO)).is_err());
        assert!(check.is_at(1, LogIndex(1), None).is_err());
        assert_eq!(check.applied((1, second(3)), LogId::new(1, 2), &Payload::Blank, time), Ok(()));
        assert_eq!(ReplicatedTime::new(false, 0).is_at(1, LogIndex::ZERO, None), Ok(()));
    }
}
