//! When members may come and go: etcd's `--strict-reconfig-check`, which keeps an operator from losing the quorum.
//!
//! Pure rules over what is known of the voting members. Must not know how that is found out, or how a change is made.

use crate::status::Status;

/// What is known of one voting member.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Voter {
    pub(super) id: u64,
    /// It has told its name, so that it has run.
    pub(super) is_started: bool,
    /// It answers, or is this node.
    pub(super) is_connected: bool,
}

/// Whether another member may come in. All must be there, or one more could be one too many.
pub(super) fn may_add(voters: &[Voter], as_learner: bool) -> Result<(), Status> {
    if !as_learner {
        let (started, voting) = (started(voters), voters.len() + 1);
        // A cluster that has lost all but one may always add another.
        let restores = started == 1 && voting == 2;
        if !restores && started < quorum(voting) {
            return Err(Status::NOT_ENOUGH_STARTED);
        }
    }
    if voters.iter().all(|voter| voter.is_connected) { Ok(()) } else { Err(Status::UNHEALTHY) }
}

/// Whether a member may be removed: enough must be left that have started, and that are there.
pub(super) fn may_remove(voters: &[Voter], id: u64) -> Result<(), Status> {
    let left: Vec<_> = voters.iter().copied().filter(|voter| voter.id != id).collect();
    if left.is_empty() || started(&left) < quorum(left.len()) {
        return Err(Status::NOT_ENOUGH_STARTED);
    }
    let is_down = voters.iter().find(|voter| voter.id == id).is_none_or(|voter| !voter.is_connected);
    let connected_left = left.iter().filter(|voter| voter.is_connected).count();
    // A voter that is down is not missed. Of those that stay, enough must be there to decide.
    if is_down || connected_left >= quorum(voters.len().saturating_sub(1)) { Ok(()) } else { Err(Status::UNHEALTHY) }
}

/// Whether a learner may vote. It counts as started.
pub(super) fn may_promote(voters: &[Voter]) -> Result<(), Status> {
    if started(voters) + 1 < quorum(voters.len() + 1) { Err(Status::NOT_ENOUGH_STARTED) } else { Ok(()) }
}

fn started(voters: &[Voter]) -> usize {
    voters.iter().filter(|voter| voter.is_started).count()
}

fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Voters from 1 on: `+` runs, `-` has run and is down, `.` has never started.
    fn voters(shape: &str) -> Vec<Voter> {
        let voter = |(at, state)| Voter { id: at + 1, is_started: state != '.', is_connected: state == '+' };
        (0_u64..).zip(shape.chars()).map(voter).collect()
    }

    const FEW: Result<(), Status> = Err(Status::NOT_ENOUGH_STARTED);
    const ILL: Result<(), Status> = Err(Status::UNHEALTHY);

    #[test]
    fn who_may_come_in() {
        let rows = [
            ("+", Ok(()), Ok(())),
            ("+.", FEW, ILL),
            ("++", Ok(()), Ok(())),
            ("+-", ILL, ILL),
            ("+++", Ok(()), Ok(())),
            ("++.", FEW, ILL),
            ("++-", ILL, ILL),
            ("+++.", ILL, ILL),
            ("+++..", FEW, ILL),
        ];
        for (shape, voter, learner) in rows {
            assert_eq!(may_add(&voters(shape), false), voter, "{shape}");
            assert_eq!(may_add(&voters(shape), true), learner, "{shape}");
        }
    }

    #[test]
    fn who_may_be_removed() {
        let rows = [
            ("+", 1, FEW),
            ("+.", 1, FEW),
            ("+.", 2, Ok(())),
            ("++", 1, Ok(())),
            ("+-", 1, ILL),
            ("+-", 2, Ok(())),
            ("+++", 1, Ok(())),
            ("++-", 1, ILL),
            ("++-", 3, Ok(())),
            ("++.", 3, Ok(())),
            ("++.", 1, FEW),
            ("+++-", 1, Ok(())),
            ("++++-", 1, Ok(())),
            ("+++--", 1, ILL),
            // An unknown id is refused later, as not found.
            ("+", 9, Ok(())),
            ("+--", 9, Ok(())),
        ];
        for (shape, id, expected) in rows {
            assert_eq!(may_remove(&voters(shape), id), expected, "{id} of {shape}");
        }
    }

    #[test]
    fn who_may_vote() {
        let rows = [("+", Ok(())), ("++", Ok(())), ("+.", Ok(())), ("+..", FEW), ("+++", Ok(())), ("+...", FEW)];
        for (shape, expected) in rows {
            assert_eq!(may_promote(&voters(shape)), expected, "{shape}");
        }
    }
}
