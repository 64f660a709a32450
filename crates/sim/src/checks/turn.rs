//! What a turn asks for is in order: the disk and the peers come before anything is applied; nothing is cut that is still
//! needed; a state machine that lags is spared; and what is shown is what is.

use super::violation;
use crate::place::Place;
use vlot_node::act::Act;
use vlot_raft::id::{GroupId, LogId, LogIndex};
use vlot_raft::invariants::Violation;

/// Whether the acts of a turn are in the order in which they must be.
///
/// # Errors
/// If one comes too late or too early.
pub fn check_order(place: Place, acts: &[Act]) -> Result<(), Violation> {
    let mut last = 0;
    for act in acts {
        let stage = stage_of(act);
        if stage < last {
            return violation("Disk And Peers First", format!("n{} asks too late for {act:?}", place + 1));
        }
        last = stage;
    }
    check_restores(place, acts)
}

/// Writes, sends, reads of the log, and then all the rest.
fn stage_of(act: &Act) -> u8 {
    match act {
        Act::Write { .. } => 0,
        Act::Send { .. } => 1,
        Act::ReadLog { .. } => 2,
        _ => 3,
    }
}

/// A snapshot comes before what is applied after it.
fn check_restores(place: Place, acts: &[Act]) -> Result<(), Violation> {
    let restored =
        |group: GroupId| acts.iter().position(|act| matches!(act, Act::Restore { group: of, .. } if *of == group));
    for (n, act) in acts.iter().enumerate() {
        if let Act::Apply { group, .. } = act
            && restored(*group).is_some_and(|at| at > n)
        {
            return violation("State Machine Safety", format!("n{} applies before it restores", place + 1));
        }
    }
    Ok(())
}

/// What a node shows of a state machine.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// What it has applied.
    pub applied: LogIndex,
    /// Bytes that it was given and has not applied.
    pub bytes: usize,
}

/// Whether what is shown is true, and what was handed over within its bound. `applied` is what the state machine has
/// applied in truth. An entry takes room beside its payload, and one is handed over however long it is.
///
/// # Errors
/// If it is not.
pub fn check_shown(place: Place, shown: Shown, applied: LogIndex, bytes_max: usize) -> Result<(), Violation> {
    let Shown { applied: claimed, bytes } = shown;
    if claimed > applied {
        let shown_by = format!("n{} shows {claimed} as applied, and its state machine has {applied}", place + 1);
        return violation("Applied Is Applied", shown_by);
    }
    if bytes > bytes_max * 8 + (64 << 10) {
        let shown_by = format!("n{}: {bytes} bytes wait for its state machine, of {bytes_max}", place + 1);
        return violation("Lag Is Bounded", shown_by);
    }
    Ok(())
}

/// Whether a proposal was refused that had to be.
///
/// # Errors
/// If it was not.
pub fn check_busy(place: Place, is_refused: bool) -> Result<(), Violation> {
    if is_refused {
        return Ok(());
    }
    violation("Lag Is Bounded", format!("n{} takes a proposal, and its state machine lags beyond the bound", place + 1))
}

/// Whether a proposal may be refused for a lag of so many bytes.
///
/// # Errors
/// If it may not.
pub fn check_refusal(place: Place, bytes: usize, bytes_max: usize) -> Result<(), Violation> {
    if bytes >= bytes_max {
        return Ok(());
    }
    let node = place + 1;
    violation(
        "Lag Is Bounded",
        format!("n{node} is busy, and {bytes} bytes wait for its state machine, of {bytes_max}"),
    )
}

/// Whether a state machine may be given entries that has stopped, as its node has shown.
///
/// # Errors
/// If it has.
pub fn check_fenced(place: Place, is_fenced: bool) -> Result<(), Violation> {
    if is_fenced {
        return violation(
            "A Fenced Replica Applies Nothing",
            format!("n{} goes on with a state machine that failed", place + 1),
        );
    }
    Ok(())
}

/// Whether a log may begin after `after`: `kept` is what is durable otherwise.
///
/// # Errors
/// If it may not.
pub fn check_cut(place: Place, after: LogId, kept: LogId, makes_snapshots: bool) -> Result<(), Violation> {
    let node = place + 1;
    if after.index > kept.index {
        return violation("Nothing Is Cut That Is Needed", format!("n{node} cuts up to {after}, and keeps {kept}"));
    }
    if !makes_snapshots {
        return violation(
            "Nothing Is Cut That Is Needed",
            format!("n{node} cuts up to {after}, and makes no snapshots"),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use vlot_node::Lane;
    use vlot_node::act::BatchId;
    use vlot_raft::id::NodeId;

    #[test]
    fn what_comes_too_late_is_noticed() {
        let write = || Act::Write { batch: BatchId(1), writes: Vec::new() };
        let send = || Act::Send { to: NodeId(1), lane: Lane::Control, frame: Bytes::new() };
        let (group, id) = (GroupId(1), LogId::ZERO);
        let (apply, restore) = (|| Act::Apply { group, entries: Vec::new() }, || Act::Restore { group, id });
        assert_eq!(check_order(0, &[write(), send(), restore(), apply()]), Ok(()));
        assert!(check_order(0, &[send(), write()]).is_err());
        assert!(check_order(0, &[apply(), send()]).is_err());
        assert!(check_order(0, &[apply(), restore()]).is_err());
    }

    #[test]
    fn what_is_shown_and_is_not_is_noticed() {
        let check = |applied, bytes| check_shown(0, Shown { applied: LogIndex(applied), bytes }, LogIndex(5), 100);
        assert_eq!(check(5, 100), Ok(()));
        assert!(check(6, 100).is_err(), "not applied yet");
        assert!(check(5, 1 << 20).is_err(), "too much at once");
        assert!(check_busy(0, false).is_err());
        assert!(check_refusal(0, 99, 100).is_err() && check_refusal(0, 100, 100).is_ok());
    }

    #[test]
    fn who_is_fenced_and_goes_on_is_noticed() {
        assert!(check_fenced(0, true).is_err() && check_fenced(0, false).is_ok());
    }

    #[test]
    fn a_cut_too_far_is_noticed() {
        let check = |after, kept, makes| check_cut(0, LogId::new(1, after), LogId::new(1, kept), makes);
        assert_eq!(check(5, 5, true), Ok(()));
        assert!(check(6, 5, true).is_err());
        assert!(check(5, 5, false).is_err());
    }
}
