//! Progress: once all faults are over there is a leader within ten election timeouts, all nodes catch up with it, every
//! operation that begins after that succeeds, and all state machines come to be the same.

use super::violation;
use crate::agenda::{Moment, Span};
use crate::place::Place;
use crate::subject::{End, OpId, Operation, Request};
use vlot_raft::id::LogId;
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

/// Whether all nodes have caught up with the leader that they agreed on, when there was time enough. `lags` says what has
/// not.
///
/// # Errors
/// If something has not.
pub fn check_catch_up(agreed: Moment, lags: Option<String>) -> Result<(), Violation> {
    match lags {
        None => Ok(()),
        Some(lags) => {
            violation(PROPERTY, format!("there was a leader at {agreed}, and not all have caught up with it: {lags}"))
        }
    }
}

/// For how long a leader may believe an old word of a full disk, which has come late: until the next heartbeat is
/// answered.
const NEWS: Span = Span::millis(300);

/// Whether everything that began after `since` has succeeded. What was refused for want of room is excused if something
/// succeeds that begins soon after it; what was refused because a state machine lagged, if `was_busy` says so.
///
/// # Errors
/// The first operation that has not.
pub fn check_operations<C, Q, R, A>(
    history: &[Operation<C, Q, R, A>],
    since: Moment,
    was_busy: impl Fn(OpId) -> bool,
) -> Result<(), Violation> {
    let late = history.iter().enumerate().rev().take_while(|(_, operation)| operation.invoked > since);
    let mut succeeded = Moment::NEVER;
    for (n, operation) in late {
        match operation.ended.as_ref().map(|(_, end)| end) {
            Some(End::Refused) if succeeded <= operation.invoked + NEWS || was_busy(OpId(n as u64)) => continue,
            Some(End::Replied(_)) => succeeded = operation.invoked,
            _ => {}
        }
        let kind = match operation.request {
            Request::Propose(_) => "proposal",
            Request::Read(_) => "read",
        };
        if matches!(operation.ended, None | Some((_, End::Unknown | End::Refused))) {
            let (place, invoked) = (operation.place + 1, operation.invoked);
            return violation(PROPERTY, format!("op{n}, a {kind} at n{place}, begun at {invoked}, has not succeeded"));
        }
    }
    Ok(())
}

/// Whether all state machines are the same, by what they have applied and by their numbers.
///
/// # Errors
/// The first that is not as the first node's.
pub fn check_agreement(states: &[(Place, LogId, u64)]) -> Result<(), Violation> {
    let Some((first, applied, digest)) = states.first() else { return Ok(()) };
    match states.iter().find(|(_, theirs, number)| (theirs, number) != (applied, digest)) {
        Some((place, theirs, _)) => {
            let (first, place) = (first + 1, place + 1);
            violation(PROPERTY, format!("n{first} has the state of {applied}, n{place} that of {theirs}, or another"))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(check_catch_up(Moment(5), None), Ok(()));
        assert!(check_catch_up(Moment(5), Some("n2".into())).is_err());
    }

    #[test]
    fn an_operation_without_an_answer_is_noticed() {
        type Ended = Option<(Moment, End<u64, u64>)>;
        fn read(invoked: u64, ended: Ended) -> Operation<(), (), u64, u64> {
            Operation { request: Request::Read(()), place: 0, invoked: Moment(invoked), ended }
        }
        let check = |history: &[_]| check_operations(history, Moment(10), |_| false);
        let good = || Some((Moment(99), End::Answered(1)));
        let unknown = || Some((Moment(99), End::Unknown));
        assert_eq!(check(&[read(1, unknown()), read(2, None), read(11, good())]), Ok(()));
        assert!(check(&[read(11, unknown()), read(12, good())]).is_err());
        assert!(check(&[read(11, None)]).is_err());
        let refused = || Some((Moment(99), End::Refused));
        let written = || Some((Moment(99), End::Replied(1)));
        assert!(check(&[read(11, refused())]).is_err());
        assert!(check(&[read(11, refused()), read(12, good())]).is_err(), "a read needs no room");
        assert_eq!(check(&[read(11, refused()), read(12, written())]), Ok(()));
        assert_eq!(check_operations(&[read(11, refused())], Moment(10), |op| op == OpId(0)), Ok(()), "it lagged");
        let much_later = 12 + NEWS.0;
        assert!(check(&[read(11, refused()), read(much_later, written())]).is_err());
    }

    #[test]
    fn states_that_differ_are_noticed() {
        let at = |index| LogId::new(1, index);
        assert_eq!(check_agreement(&[(0, at(1), 5), (1, at(1), 5)]), Ok(()));
        assert!(check_agreement(&[(0, at(1), 5), (1, at(2), 5)]).is_err());
        assert!(check_agreement(&[(0, at(1), 5), (1, at(1), 6)]).is_err());
    }
}
