//! No Disruption: a node that hears no other for a while, or loses a connection, and comes back, unseats no leader that
//! has a quorum (Ongaro §4.2.3, §9.6); and a leader that hears no one leaves the office to another (Ongaro §6.2).

use super::violation;
use crate::agenda::{Moment, Span};
use crate::place::{Place, node_at};
use vlot_raft::id::{LogIndex, Term};
use vlot_raft::invariants::Violation;

const PROPERTY: &str = "No Disruption";

/// The leader, and its term.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Office {
    /// Where the leader is.
    pub leader: Place,
    /// Its term.
    pub term: Term,
}

/// Whether the office is what it was before `returned` was gone and came back.
///
/// # Errors
/// If there is no leader, another, or the same in another term.
pub fn check_return(before: Office, now: Option<Office>, returned: Place) -> Result<(), Violation> {
    if now == Some(before) {
        return Ok(());
    }
    let Office { leader, term } = before;
    let now = match now {
        Some(Office { leader, term }) => format!("n{} leads term {term}", node_at(leader)),
        None => "nobody leads".to_owned(),
    };
    violation(PROPERTY, format!("n{} led term {term}, n{} was gone, and {now}", node_at(leader), node_at(returned)))
}

/// Whether a group has committed something while a state machine at `place` did nothing.
///
/// # Errors
/// If it has not.
pub fn check_commit(place: Place, before: LogIndex, now: LogIndex) -> Result<(), Violation> {
    if now > before {
        return Ok(());
    }
    let node = node_at(place);
    violation(PROPERTY, format!("the state machine of n{node} does nothing, and {before} is still the last committed"))
}

/// Whether another leads in time, after the leader has become deaf.
///
/// # Errors
/// If it is in office still, or no other node is.
pub fn check_successor(deaf: Office, since: Moment, now: Moment, longest: Span) -> Result<(), Violation> {
    if now <= since + longest {
        return Ok(());
    }
    let Office { leader, term } = deaf;
    violation(
        PROPERTY,
        format!("n{} leads term {term}, hears no one since {since}, and has no successor", node_at(leader)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: Office = Office { leader: 0, term: Term(3) };

    #[test]
    fn another_leader_or_term_is_noticed() {
        assert_eq!(check_return(BEFORE, Some(BEFORE), 1), Ok(()));
        assert!(check_return(BEFORE, Some(Office { leader: 1, ..BEFORE }), 1).is_err());
        assert!(check_return(BEFORE, Some(Office { term: Term(4), ..BEFORE }), 1).is_err());
        assert!(check_return(BEFORE, None, 1).is_err());
    }

    #[test]
    fn a_deaf_leader_without_a_successor_is_noticed() {
        let check = |now| check_successor(BEFORE, Moment(100), Moment(now), Span(10));
        assert_eq!(check(110), Ok(()));
        assert!(check(111).is_err());
    }

    #[test]
    fn a_group_that_is_held_up_is_noticed() {
        assert_eq!(check_commit(1, LogIndex(3), LogIndex(4)), Ok(()));
        assert!(check_commit(1, LogIndex(3), LogIndex(3)).is_err());
    }
}
