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
