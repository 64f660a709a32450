//! At Most Once: a proposal is applied once or not at all, however often it was sent to however many leaders.

use super::violation;
use std::collections::HashMap;
use vlot_node::payload::Payload;
use vlot_node::proposal_id::ProposalId;
use vlot_raft::id::LogId;
use vlot_raft::invariants::Violation;

const PROPERTY: &str = "At Most Once";

/// Where each proposal was applied.
#[derive(Debug, Default)]
pub struct AtMostOnce {
    proposals: HashMap<ProposalId, LogId>,
}

impl AtMostOnce {
    /// An entry is applied for the first time anywhere.
    ///
    /// # Errors
    /// If a proposal of it was applied before.
    pub fn applied(&mut self, id: LogId, payload: &Payload) -> Result<(), Violation> {
        for proposal in payload.proposals() {
            if let Some(earlier) = self.proposals.insert(proposal, id) {
                return violation(PROPERTY, format!("{proposal:?} was applied at {earlier} and at {id}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use vlot_node::payload;

    fn apply(check: &mut AtMostOnce, index: u64, sequence: u64) -> Result<(), Violation> {
        let payload = Payload::Command { id: ProposalId { origin: 1, sequence }, command: Bytes::new() };
        check.applied(LogId::new(1, index), &payload)
    }

    #[test]
    fn a_second_time_is_noticed() {
        let mut check = AtMostOnce::default();
        assert_eq!(apply(&mut check, 1, 1), Ok(()));
        assert_eq!(apply(&mut check, 2, 2), Ok(()));
        assert!(apply(&mut check, 3, 1).is_err());
        let id = ProposalId { origin: 2, sequence: 1 };
        let command = || payload::command(id, 0, |_| {});
        let twice = payload::decode(payload::shared([command(), command()])).unwrap();
        assert!(check.applied(LogId::new(1, 4), &twice).is_err());
    }
}
