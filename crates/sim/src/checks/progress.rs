//! Progress: once all faults are over there is a leader within ten election timeouts, all nodes catch up with it, every
//! operation that begins after that succeeds, and all state machines come to be the same.

use super::violation;
use crate::agenda::{Moment, Span};
use crate::register::Registers;
use crate::transcript::Answer;
use crate::workload::Operation;
use vlot_raft::invariants::Violation;

const PROPERTY: &str = "Progress";

/// How many election timeouts an election may take.
pub const ELECTION_TIMEOUTS: u64 = 10;

/// Whether there was a leader in time. `agreed` is when all nodes knew the same leader.
///
/// # Errors
/// If there was none.
pub fn check_leader(healed: Moment, agreed: Option<Moment>, election_timeout: Span) -> Result<(), Violation> {
    let latest = healed + election_timeout * ELECTION_TIMEOUTS;
    match agreed {
        Some(agreed) if agreed <= latest => Ok(()),
        _ => violation(PROPERTY, format!("no leader within {ELECTION_TIMEOUTS} election timeouts after {healed}")),
    }
}

/// More events than this in a second, on average, are a node's that turns for nothing: a deadline that is always due.
const EVENTS_A_SECOND: u64 = 20_000;

/// Whether so many events by now are what a world has that gets on.
///
/// # Errors
/// If they are too many.
pub fn check_busyness(events: u64, now: Moment) -> Result<(), Violation> {
    if events > EVENTS_A_SECOND * (10 + now.0 / Span::seconds(1).0) {
        return violation(PROPERTY, format!("{events} events by {now}: something is busy without end"));
    }
    Ok(())
}

/// How long nodes may take to catch up. Generous: what they lack may be the whole log, an entry a round trip.
pub const CATCH_UP: Span = Span::seconds(60);

/// Whether all nodes have caught up in time with the leader that they agreed on.
///
/// # Errors
/// If they have not.
pub fn check_catch_up(agreed: Moment, caught_up: Option<Moment>) -> Result<(), Violation> {
    match caught_up {
        Some(caught_up) if caught_up <= agreed + CATCH_UP => Ok(()),
        _ => violation(PROPERTY, format!("not all nodes have caught up since there was a leader at {agreed}")),
    }
}

/// For how long a leader may believe an old word of a full disk, which has come late: until the next heartbeat is
/// answered.
const NEWS: Span = Span::millis(300);

/// Whether everything that began after `since` has succeeded. What was refused for want of room is excused if something
/// succeeds that begins soon after it.
///
/// # Errors
/// The first operation that has not.
pub fn check_operations(history: &[Operation], since: Moment) -> Result<(), Violation> {
    let late = history.iter().enumerate().rev().take_while(|(_, operation)| operation.invoked > since);
    let mut succeeded = Moment::NEVER;
    for (n, operation) in late {
        match operation.ended {
            Some((_, Answer::Refused)) if succeeded <= operation.invoked + NEWS => continue,
            Some((_, Answer::Written | Answer::NotWritten(_))) => succeeded = operation.invoked,
            _ => {}
        }
        if matches!(operation.ended, None | Some((_, Answer::Unknown | Answer::Refused))) {
            let (place, invoked) = (operation.place + 1, operation.invoked);
            return violation(PROPERTY, format!("op{n} at n{place}, begun at {invoked}, has not succeeded"));
        }
    }
    Ok(())
}

/// Whether all state machines are the same.
///
/// # Errors
/// The first that is not as the first node's.
pub fn check_agreement(states: &[Registers]) -> Result<(), Violation> {
    match states.iter().position(|state| Some(state) != states.first()) {
        Some(n) => violation(PROPERTY, format!("n1 has {:?}, n{} has {:?}", states[0], n + 1, states[n])),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::Request;
    use vlot_raft::id::LogId;

    #[test]
    fn no_leader_or_a_late_one_is_noticed() {
        let check = |agreed| check_leader(Moment(1000), agreed, Span(10));
        assert_eq!(check(Some(Moment(1100))), Ok(()));
        assert!(check(Some(Moment(1101))).is_err());
        assert!(check(None).is_err());
    }

    #[test]
    fn busyness_without_end_is_noticed() {
        assert_eq!(check_busyness(EVENTS_A_SECOND * 11, Moment(1_500_000_000)), Ok(()));
        assert!(check_busyness(EVENTS_A_SECOND * 11 + 1, Moment(1_500_000_000)).is_err());
    }

    #[test]
    fn a_node_that_stays_behind_is_noticed() {
        assert_eq!(check_catch_up(Moment(5), Some(Moment(5) + CATCH_UP)), Ok(()));
        assert!(check_catch_up(Moment(5), Some(Moment(6) + CATCH_UP)).is_err());
        assert!(check_catch_up(Moment(5), None).is_err());
    }

    #[test]
    fn an_operation_without_an_answer_is_noticed() {
        let read = |invoked, ended| Operation { request: Request::Read(0), place: 0, invoked: Moment(invoked), ended };
        let good = Some((Moment(99), Answer::Held(None)));
        let unknown = Some((Moment(99), Answer::Unknown));
        assert_eq!(check_operations(&[read(1, unknown), read(2, None), read(11, good)], Moment(10)), Ok(()));
        assert!(check_operations(&[read(11, unknown), read(12, good)], Moment(10)).is_err());
        assert!(check_operations(&[read(11, None)], Moment(10)).is_err());
        let [refused, written] = [Answer::Refused, Answer::Written].map(|answer| Some((Moment(99), answer)));
        assert!(check_operations(&[read(11, refused)], Moment(10)).is_err());
        assert!(check_operations(&[read(11, refused), read(12, good)], Moment(10)).is_err(), "a read needs no room");
        assert_eq!(check_operations(&[read(11, refused), read(12, written)], Moment(10)), Ok(()));
        let much_later = 12 + NEWS.0;
        assert!(check_operations(&[read(11, refused), read(much_later, written)], Moment(10)).is_err());
    }

    #[test]
    fn states_that_differ_are_noticed() {
        let state = |index| {
            let mut registers = Registers::default();
            registers.skip(LogId::new(1, index));
            registers
        };
        assert_eq!(check_agreement(&[state(1), state(1)]), Ok(()));
        assert!(check_agreement(&[state(1), state(1), state(2)]).is_err());
    }
}
