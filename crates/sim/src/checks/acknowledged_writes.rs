//! Acknowledged writes are never lost: at the end, what a client was told is on a quorum of disks, with that
//! outcome. And what a client was told to be refused was never applied.

use super::{has_had, violation};
use crate::network::place_of;
use crate::register::{OpId, Written};
use crate::transcript::Answer;
use crate::workload::Operation;
use std::collections::HashMap;
use vlot_log::index::GroupState;
use vlot_raft::configuration::Configuration;
use vlot_raft::id::LogId;
use vlot_raft::invariants::Violation;

const PROPERTY: &str = "Acknowledged Writes Stay";

/// Holds the history against what was applied and what is on the disks at the end.
///
/// # Errors
/// The first acknowledged write that is not there.
pub fn check(
    history: &[Operation],
    outcomes: impl Iterator<Item = (LogId, OpId, Written)>,
    members: &Configuration,
    disks: &[&GroupState],
) -> Result<(), Violation> {
    let outcomes: HashMap<OpId, (LogId, Written)> = outcomes.map(|(id, op, written)| (op, (id, written))).collect();
    for (n, operation) in history.iter().enumerate() {
        let told = match operation.ended {
            Some((_, Answer::Written)) => Written::Yes,
            Some((_, Answer::NotWritten(value))) => Written::No(value),
            Some((_, Answer::Refused)) if outcomes.contains_key(&OpId(n as u64)) => {
                return violation(PROPERTY, format!("{:?} was refused and then applied", OpId(n as u64)));
            }
            _ => continue,
        };
        let op = OpId(n as u64);
        let Some(&(id, written)) = outcomes.get(&op) else {
            return violation(PROPERTY, format!("{op:?} was acknowledged and never applied"));
        };
        if told != written {
            return violation(PROPERTY, format!("{op:?}: its client was told {told:?}, but it was {written:?}"));
        }
        if !members.is_quorum(|node| has_had(&disks[place_of(node)].runs, id)) {
            return violation(PROPERTY, format!("{op:?} was acknowledged as {id}, which is not on a quorum of disks"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agenda::Moment;
    use crate::register::{Command, Condition};
    use crate::workload::Request;
    use vlot_raft::id::{NodeId, Term};
    use vlot_raft::term_runs::TermRuns;

    fn judge(answer: Answer, outcome: Option<Written>, on_disk: [u64; 3]) -> Result<(), Violation> {
        let command = Command { op: OpId(0), key: 0, condition: Condition::Always };
        let ended = Some((Moment(1), answer));
        let history = [Operation { request: Request::Write(command), place: 0, invoked: Moment(0), ended }];
        let disks = on_disk
            .map(|count| GroupState { runs: TermRuns::one_term(LogId::ZERO, Term(1), count), ..GroupState::default() });
        let outcomes = outcome.map(|written| (LogId::new(1, 5), OpId(0), written));
        let members = Configuration::of_voters((1..=3).map(NodeId));
        check(&history, outcomes.into_iter(), &members, &disks.each_ref())
    }

    #[test]
    fn what_was_acknowledged_must_be_there() {
        assert_eq!(judge(Answer::Written, Some(Written::Yes), [5, 4, 5]), Ok(()));
        assert_eq!(judge(Answer::Unknown, None, [4, 4, 4]), Ok(()));
        assert_eq!(judge(Answer::Refused, None, [4, 4, 4]), Ok(()));
        assert!(judge(Answer::Refused, Some(Written::Yes), [5, 5, 5]).is_err(), "refused and applied");
        assert!(judge(Answer::Written, None, [5, 5, 5]).is_err(), "never applied");
        assert!(judge(Answer::Written, Some(Written::No(None)), [5, 5, 5]).is_err(), "told otherwise");
        assert!(judge(Answer::Written, Some(Written::Yes), [4, 4, 5]).is_err(), "lost");
    }
}
