//! At Most Once: a proposal is applied once or not at all, however often it was sent to however many leaders.

use super::violation;
use crate::register::OpId;
use std::collections::HashMap;
use vlot::payload::Payload;
use vlot::proposal_id::ProposalId;
use vlot_raft::id::LogId;
use vlot_raft::invariants::Violation;

const PROPERTY: &str = "At Most Once";

/// Where each proposal was applied.
#[derive(Debug, Default)]
pub struct AtMostOnce {
    proposals: HashMap<ProposalId, LogId>,
    operations: HashMap<OpId, LogId>,
}

impl AtMostOnce {
    /// An entry is applied for the first time anywhere; it is this operation's, if it is a client's.
    ///
    /// # Errors
    /// If its proposal or its operation was applied at another index.
    pub fn applied(&mut self, id: LogId, payload: &Payload, op: Option<OpId>) -> Result<(), Violation> {
        if let Payload::Command { id: proposal, .. } = payload
            && let Some(earlier) = self.proposals.insert(*proposal, id)
        {
            return violation(PROPERTY, format!("{proposal:?} was applied at {earlier} and at {id}"));
        }
        if let Some(op) = op
            && let Some(earlier) = self.operations.insert(op, id)
        {
            return violation(PROPERTY, format!("{op:?} was applied at {earlier} and at {id}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn apply(check: &mut AtMostOnce, index: u64, sequence: u64, op: u64) -> Result<(), Violation> {
        let payload = Payload::Command { id: ProposalId { origin: 1, sequence }, command: Bytes::new() };
        check.applied(LogId::new(1, index), &payload, Some(OpId(op)))
    }

    #[test]
    fn a_second_time_is_noticed() {
        let mut check = AtMostOnce::default();
        assert_eq!(apply(&mut check, 1, 1, 1), Ok(()));
        assert_eq!(apply(&mut check, 2, 2, 2), Ok(()));
        assert!(apply(&mut check, 3, 1, 3).is_err(), "the same proposal");
        assert!(apply(&mut check, 4, 4, 2).is_err(), "the same operation");
    }
}
