//! Check: revisions never go back on a connection. What a client has seen of a node it does not see undone there, whatever
//! kind of read it asks for.

use std::collections::HashMap;

use vlot_raft::invariants::Violation;
use vlot_store::refusal::Refusal;

use super::history::{Edge, History, Outcome};
use super::violation;

const PROPERTY: &str = "Revisions Never Go Back";

/// Checks a history.
///
/// # Errors
/// The first operation that was told of an older revision than one that had ended before it began.
pub fn check(history: &History) -> Result<(), Violation> {
    let mut newest: HashMap<u64, i64> = HashMap::new();
    let mut floors = vec![0; history.len()];
    for (_, edge, op) in history.in_order() {
        let operation = history.operation(op);
        let newest = newest.entry(operation.connection).or_default();
        if edge == Edge::Invoked {
            floors[op.0 as usize] = *newest;
            continue;
        }
        let Some(revision) = operation.ended.as_ref().and_then(|(_, outcome)| told_by(outcome)) else { continue };
        let floor = floors[op.0 as usize];
        if revision < floor {
            let (place, connection) = (operation.place + 1, operation.connection);
            let shown_by = format!("n{place}, connection {connection}: {op:?} was told {revision} after {floor}");
            return violation(PROPERTY, shown_by);
        }
        *newest = (*newest).max(revision);
    }
    Ok(())
}

/// The node's newest revision, as the answer has it.
fn told_by(outcome: &Outcome) -> Option<i64> {
    match outcome {
        Outcome::Done(reply) => Some(reply.revision()),
        Outcome::Refused(Refusal::FutureRevision { newest }) => Some(*newest),
        Outcome::Refused(_) | Outcome::NotTaken | Outcome::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::{Operation, Record, Reply, Request};
    use super::*;
    use crate::agenda::Moment;
    use vlot_proto::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};

    fn history_of(rows: &[(u64, u64, u64, Outcome)]) -> History {
        let record = |(invoked, ended, connection, outcome): (u64, u64, u64, Outcome)| Record {
            request: Request::Range(RangeRequest::default()),
            place: 0,
            connection,
            invoked: Moment(invoked),
            ended: Some((Moment(ended), outcome)),
        };
        History::of(rows.iter().cloned().map(record))
    }

    #[test]
    fn a_connection_does_not_go_back() {
        let told = |revision| {
            let header = Some(ResponseHeader { revision, ..Default::default() });
            Outcome::Done(Reply::Range(RangeResponse { header, ..Default::default() }))
        };
        let is_fine = |rows: &[_]| check(&history_of(rows)).is_ok();
        assert!(is_fine(&[(0, 1, 1, told(5)), (2, 3, 1, told(5)), (4, 5, 1, told(6))]));
        assert!(!is_fine(&[(0, 1, 1, told(5)), (2, 3, 1, told(4))]), "back");
        assert!(is_fine(&[(0, 1, 1, told(5)), (2, 3, 2, told(4))]), "another connection");
        assert!(is_fine(&[(0, 3, 1, told(5)), (1, 4, 1, told(4))]), "at the same time");
        assert!(!is_fine(&[(0, 1, 1, told(5)), (2, 3, 1, Outcome::Refused(Refusal::FutureRevision { newest: 4 }))]));
        assert!(is_fine(&[(0, 1, 1, told(5)), (2, 3, 1, Outcome::Unknown), (4, 5, 1, told(5))]));
    }

    #[test]
    fn an_answer_of_the_past_in_a_long_history_is_found() {
        let mut driven = super::super::driven::run(300, 800);
        assert!(check(&driven.history).is_ok());
        // The last that began after another of its connection had been told of a change.
        let told = |operation: &Operation| Some(operation.ended.as_ref()?.0).filter(|_| has_seen_a_change(operation));
        let follows = |later: &Operation| {
            let before = |other: &Operation| told(other).is_some_and(|ended| ended < later.invoked);
            driven.history.operations().any(|(_, other)| other.connection == later.connection && before(other))
        };
        let answered = driven.history.operations().filter(|(_, operation)| told(operation).is_some());
        let last = answered.filter(|(_, operation)| follows(operation)).map(|(op, _)| op).last().unwrap();
        if let Some((_, outcome)) = &mut driven.history.operation_mut(last).ended {
            let header = Some(ResponseHeader { revision: 1, ..Default::default() });
            *outcome = Outcome::Done(Reply::Range(RangeResponse { header, ..Default::default() }));
        }
        assert!(check(&driven.history).is_err());
    }

    fn has_seen_a_change(operation: &Operation) -> bool {
        operation.ended.as_ref().and_then(|(_, outcome)| told_by(outcome)).is_some_and(|told| told > 1)
    }
}
