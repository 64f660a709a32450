//! Acknowledged writes are never lost: at the end, what a client was told is on a quorum of disks, with that
//! outcome. And what a client was told to be refused was never applied.

use super::{has_had, violation};
use crate::place::place_of;
use crate::subject::{End, OpId};
use std::collections::HashMap;
use std::fmt::Debug;
use vlot_log::index::GroupState;
use vlot_node::proposal_id::ProposalId;
use vlot_raft::configuration::Configuration;
use vlot_raft::id::LogId;
use vlot_raft::invariants::Violation;

const PROPERTY: &str = "Acknowledged Writes Stay";

/// A proposal of a client, and how it has ended for it.
#[derive(Clone, Copy, Debug)]
pub struct Proposed<'a, R, A> {
    /// The operation.
    pub op: OpId,
    /// The proposal.
    pub id: ProposalId,
    /// Its end; nothing while its client waits.
    pub end: Option<&'a End<R, A>>,
}

/// Holds what clients were told against what was applied and what is on the disks at the end.
///
/// # Errors
/// The first acknowledged write that is not there.
pub fn check<'a, R: Debug + PartialEq + 'a, A: 'a>(
    proposed: impl Iterator<Item = Proposed<'a, R, A>>,
    replies: impl Iterator<Item = (LogId, ProposalId, &'a R)>,
    members: &Configuration,
    disks: &[&GroupState],
) -> Result<(), Violation> {
    let replies: HashMap<ProposalId, (LogId, &R)> = replies.map(|(at, id, reply)| (id, (at, reply))).collect();
    for Proposed { op, id, end } in proposed {
        let applied = replies.get(&id);
        let told = match end {
            Some(End::Replied(reply)) => reply,
            Some(End::Refused) if applied.is_some() => {
                return violation(PROPERTY, format!("{op:?} was refused and then applied"));
            }
            _ => continue,
        };
        let Some(&(at, reply)) = applied else {
            return violation(PROPERTY, format!("{op:?} was acknowledged and never applied"));
        };
        if told != reply {
            return violation(PROPERTY, format!("{op:?}: its client was told {told:?}, but it was {reply:?}"));
        }
        if !members.is_quorum(|node| has_had(&disks[place_of(node)].runs, at)) {
            return violation(PROPERTY, format!("{op:?} was acknowledged as {at}, which is not on a quorum of disks"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vlot_raft::id::{NodeId, Term};
    use vlot_raft::term_runs::TermRuns;

    fn judge(end: &End<u64, ()>, reply: Option<u64>, on_disk: [u64; 3]) -> Result<(), Violation> {
        let id = ProposalId { origin: 1, sequence: 1 };
        let proposed = [Proposed { op: OpId(0), id, end: Some(end) }];
        let disks = on_disk
            .map(|count| GroupState { runs: TermRuns::one_term(LogId::ZERO, Term(1), count), ..GroupState::default() });
        let replies = reply.as_ref().map(|reply| (LogId::new(1, 5), id, reply));
        let members = Configuration::of_voters((1..=3).map(NodeId));
        check(proposed.into_iter(), replies.into_iter(), &members, &disks.each_ref())
    }

    #[test]
    fn what_was_acknowledged_must_be_there() {
        let written = &End::Replied(7);
        assert_eq!(judge(written, Some(7), [5, 4, 5]), Ok(()));
        assert_eq!(judge(&End::Unknown, None, [4, 4, 4]), Ok(()));
        assert_eq!(judge(&End::Refused, None, [4, 4, 4]), Ok(()));
        assert!(judge(&End::Refused, Some(7), [5, 5, 5]).is_err(), "refused and applied");
        assert!(judge(written, None, [5, 5, 5]).is_err(), "never applied");
        assert!(judge(written, Some(8), [5, 5, 5]).is_err(), "told otherwise");
        assert!(judge(written, Some(7), [4, 4, 5]).is_err(), "lost");
    }
}
