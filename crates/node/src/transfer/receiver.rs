//! The side that lacks a snapshot: asks for one, takes in what comes, asks on.
//!
//! Owns the attempts of this node, the line of groups that wait for one, and the choice of the member to ask. Must not
//! know how bytes are written.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::Duration;

use bytes::Bytes;
use vlot_raft::id::{GroupId, LogId, NodeId};
use vlot_raft::time::Time;

use super::frame::{BadTransferFrame, Body, EndReason};
use super::{Attempt, Limits, Out, TransferAct, TransferFailed, TransferOut};
use crate::snapshot::{FILE_BYTES_MIN, Header, SnapshotError, SnapshotInfo};

/// All snapshots that this node gets.
#[derive(Debug)]
pub(super) struct Receivers {
    limits: Limits,
    /// The number of the last attempt.
    last_attempt: u64,
    active: BTreeMap<GroupId, Receiver>,
    /// Groups that wait for their turn, in order; none is active.
    line: VecDeque<(GroupId, Wanted)>,
    /// What was tried for groups that have no snapshot yet.
    tried: BTreeMap<GroupId, Tried>,
    /// Of which content there may be a part.
    parts: BTreeMap<GroupId, SnapshotInfo>,
}

/// What a group needs.
#[derive(Clone, Debug)]
struct Wanted {
    leader: NodeId,
    others: Vec<NodeId>,
    reach: LogId,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tried {
    /// Since something has come.
    attempts: u64,
    /// The next attempt begins no sooner.
    not_before: Time,
    /// The peer that something has come from: it has the content of which there is a part, and others may not.
    source: Option<NodeId>,
}

/// One attempt to get a snapshot.
#[derive(Debug)]
struct Receiver {
    attempt: Attempt,
    reach: LogId,
    stage: Stage,
    /// When the attempt came on last, by the peer's doing or by this node's.
    moved: Time,
    /// Whether the peer was asked again since.
    is_nudged: bool,
    /// It is asked for the rest of what it has sent before: it has that at hand, or is gone.
    resumes: bool,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The peer is to offer one.
    Asked,
    /// The part is being opened.
    Opening { info: SnapshotInfo },
    /// Chunks come. Invariant: `written ≤ received ≤ upto ≤ info.bytes`.
    Pulling { info: SnapshotInfo, round: u64, written: u64, received: u64, upto: u64 },
    /// All is written, and is being verified.
    Finishing,
}

impl Receiver {
    /// Whether nothing happens until the peer sends something.
    fn waits_for_peer(&self) -> bool {
        match self.stage {
            Stage::Asked => true,
            // Otherwise the own disk is at work. A peer that gives up meanwhile says so when it is asked on.
            Stage::Pulling { written, received, .. } => written == received,
            Stage::Opening { .. } | Stage::Finishing => false,
        }
    }

    /// How long the peer may be silent.
    fn timeout(&self, limits: &Limits) -> Duration {
        if self.resumes && matches!(self.stage, Stage::Asked) { limits.timeout / 4 } else { limits.timeout }
    }

    /// After so long without a word the question is put once more: a frame may be lost.
    fn nudge(&self, limits: &Limits) -> Duration {
        self.timeout(limits) / 2
    }
}

impl Receivers {
    pub(super) fn new(limits: Limits, origin: u64, parts: BTreeMap<GroupId, SnapshotInfo>) -> Self {
        let (active, line, tried) = (BTreeMap::new(), VecDeque::new(), BTreeMap::new());
        Self { limits, last_attempt: origin, active, line, tried, parts }
    }

    pub(super) fn fetch(
        &mut self,
        now: Time,
        out: &mut Out,
        group: GroupId,
        leader: NodeId,
        others: &[NodeId],
        reach: LogId,
    ) {
        if self.active.contains_key(&group) {
            return;
        }
        let wanted = Wanted { leader, others: others.to_vec(), reach };
        match self.line.iter_mut().find(|(waiting, _)| *waiting == group) {
            Some((_, earlier)) => *earlier = wanted,
            None => self.line.push_back((group, wanted)),
        }
        self.begin_next(now, out);
    }

    pub(super) fn cancel(&mut self, now: Time, out: &mut Out, group: GroupId) {
        self.line.retain(|(waiting, _)| *waiting != group);
        if self.active.contains_key(&group) {
            self.fail(now, out, group, TransferFailed::Cancelled);
        }
        self.tried.remove(&group);
    }

    pub(super) fn remove_group(&mut self, now: Time, out: &mut Out, group: GroupId) {
        self.cancel(now, out, group);
        self.parts.remove(&group);
    }

    /// Begins attempts as long as there is one that may begin.
    fn begin_next(&mut self, now: Time, out: &mut Out) {
        while self.active.len() < self.limits.received_at_once_max {
            let Some(place) = self.line.iter().position(|(group, _)| self.not_before(*group) <= now) else { return };
            let Some((group, wanted)) = self.line.remove(place) else { return };
            self.begin(now, out, group, &wanted);
        }
    }

    fn not_before(&self, group: GroupId) -> Time {
        self.tried.get(&group).map_or(Time::default(), |tried| tried.not_before)
    }

    fn begin(&mut self, now: Time, out: &mut Out, group: GroupId, wanted: &Wanted) {
        let tried = self.tried.entry(group).or_default();
        let first = tried.source.unwrap_or(wanted.leader);
        let others: Vec<NodeId> =
            [&[wanted.leader], &wanted.others[..]].concat().into_iter().filter(|other| *other != first).collect();
        let peer = member_to_ask(tried.attempts, first, &others);
        let resumes = tried.source == Some(peer);
        tried.attempts += 1;
        self.last_attempt = self.last_attempt.wrapping_add(1);
        let attempt = Attempt { peer, group, number: self.last_attempt };
        let (reach, stage) = (wanted.reach, Stage::Asked);
        self.active.insert(group, Receiver { attempt, reach, stage, moved: now, is_nudged: false, resumes });
        out.send(attempt, Body::Ask { reach, part: self.parts.get(&group).copied() });
    }

    pub(super) fn offered(
        &mut self,
        now: Time,
        out: &mut Out,
        attempt: Attempt,
        info: SnapshotInfo,
    ) -> Result<(), BadTransferFrame> {
        let Some(receiver) = active(&mut self.active, attempt) else {
            out.send(attempt, Body::End { reason: EndReason::UnknownAttempt });
            return Ok(());
        };
        // The answer to a question that was asked again.
        let Stage::Asked = receiver.stage else { return Ok(()) };
        let reach = receiver.reach;
        if info.id.index < reach.index || info.bytes < FILE_BYTES_MIN {
            self.fail(now, out, attempt.group, TransferFailed::Misbehaved);
            return Err(BadTransferFrame::BadOffer { info, reach });
        }
        (receiver.stage, receiver.moved, receiver.is_nudged) = (Stage::Opening { info }, now, false);
        self.parts.insert(attempt.group, info);
        let Attempt { peer: from, group, number: attempt } = attempt;
        out.acts.push(TransferOut::Act(TransferAct::OpenPart { group, from, attempt, info }));
        Ok(())
    }

    pub(super) fn part_opened(
        &mut self,
        now: Time,
        out: &mut Out,
        group: GroupId,
        number: u64,
        opened: io::Result<u64>,
    ) {
        let Some(receiver) = numbered(&mut self.active, group, number) else { return };
        let Stage::Opening { info } = receiver.stage else { return };
        match opened {
            Ok(bytes) => {
                out.counters.bytes_resumed += bytes;
                (receiver.moved, receiver.is_nudged) = (now, false);
                receiver.stage = Stage::Pulling { info, round: 1, written: bytes, received: bytes, upto: bytes };
                receiver.go_on(&self.limits, out);
            }
            Err(error) => self.fail(now, out, group, TransferFailed::Disk(error.kind())),
        }
    }

    pub(super) fn chunk_came(
        &mut self,
        now: Time,
        out: &mut Out,
        attempt: Attempt,
        (chunk_round, offset, bytes): (u64, u64, Bytes),
    ) -> Result<(), BadTransferFrame> {
        let Some(receiver) = active(&mut self.active, attempt) else {
            out.send(attempt, Body::End { reason: EndReason::UnknownAttempt });
            return Ok(());
        };
        let Stage::Pulling { info, round, received, upto, .. } = &mut receiver.stage else { return Ok(()) };
        let length = bytes.len() as u64;
        let end = offset.checked_add(length).filter(|end| length > 0 && *end <= *upto);
        let Some(end) = end else {
            let upto = *upto;
            self.fail(now, out, attempt.group, TransferFailed::Misbehaved);
            return Err(BadTransferFrame::BadChunk { offset, bytes: length, upto });
        };
        // What was on the way when all was asked for again comes once more: to take it now would lead this side beyond what
        // the sender knows to have sent in this round.
        if chunk_round != *round {
            return Ok(());
        }
        if offset != *received {
            if offset > *received {
                receiver.pull_again(out);
            }
            return Ok(());
        }
        let info = *info;
        (*received, receiver.moved, receiver.is_nudged) = (end, now, false);
        if let Some(tried) = self.tried.get_mut(&attempt.group) {
            (tried.attempts, tried.source) = (0, Some(attempt.peer));
        }
        out.counters.bytes_received += length;
        let (group, attempt) = (attempt.group, attempt.number);
        out.acts.push(TransferOut::Act(TransferAct::WriteChunk { group, attempt, info, offset, bytes }));
        Ok(())
    }

    pub(super) fn chunk_written(
        &mut self,
        now: Time,
        out: &mut Out,
        group: GroupId,
        number: u64,
        done: io::Result<u64>,
    ) {
        let Some(receiver) = numbered(&mut self.active, group, number) else { return };
        let Stage::Pulling { written, received, .. } = &mut receiver.stage else { return };
        match done {
            Ok(bytes) => {
                *written = bytes.min(*received);
                (receiver.moved, receiver.is_nudged) = (now, false);
                receiver.go_on(&self.limits, out);
            }
            Err(error) => self.fail(now, out, group, TransferFailed::Disk(error.kind())),
        }
    }

    pub(super) fn part_finished(
        &mut self,
        now: Time,
        out: &mut Out,
        group: GroupId,
        number: u64,
        finished: Result<Header, SnapshotError>,
    ) {
        let Some(receiver) = numbered(&mut self.active, group, number) else { return };
        let Stage::Finishing = receiver.stage else { return };
        let from = receiver.attempt.peer;
        match finished {
            Ok(header) => {
                self.active.remove(&group);
                self.tried.remove(&group);
                self.parts.remove(&group);
                out.acts.push(TransferOut::Received { group, from, header });
                self.begin_next(now, out);
            }
            Err(SnapshotError::Damaged { .. }) => {
                self.parts.remove(&group);
                self.fail(now, out, group, TransferFailed::Damaged);
            }
            Err(SnapshotError::Io { error, .. }) => self.fail(now, out, group, TransferFailed::Disk(error.kind())),
        }
    }

    pub(super) fn refused(&mut self, now: Time, out: &mut Out, attempt: Attempt, reason: EndReason) {
        let Some(receiver) = active(&mut self.active, attempt) else { return };
        // The peer is not needed for what is left to do.
        if !matches!(receiver.stage, Stage::Finishing) {
            self.fail(now, out, attempt.group, TransferFailed::Ended(reason));
        }
    }

    pub(super) fn lost(&mut self, now: Time, out: &mut Out, peer: NodeId) {
        let is_lost =
            |receiver: &Receiver| receiver.attempt.peer == peer && !matches!(receiver.stage, Stage::Finishing);
        let lost: Vec<GroupId> =
            self.active.values().filter(|it| is_lost(it)).map(|receiver| receiver.attempt.group).collect();
        for group in lost {
            self.fail(now, out, group, TransferFailed::Lost);
        }
    }

    pub(super) fn tick(&mut self, now: Time, out: &mut Out) {
        let mut silent = Vec::new();
        for (group, receiver) in self.active.iter_mut().filter(|(_, receiver)| receiver.waits_for_peer()) {
            if now >= receiver.moved + receiver.timeout(&self.limits) {
                silent.push(*group);
            } else if !receiver.is_nudged && now >= receiver.moved + receiver.nudge(&self.limits) {
                receiver.is_nudged = true;
                match receiver.stage {
                    Stage::Asked => {
                        let part = self.parts.get(group).copied();
                        out.send(receiver.attempt, Body::Ask { reach: receiver.reach, part });
                    }
                    _ => receiver.pull_again(out),
                }
            }
        }
        for group in silent {
            self.fail(now, out, group, TransferFailed::Silent);
        }
        self.begin_next(now, out);
    }

    pub(super) fn deadline(&self) -> Time {
        let waiting = self.active.values().filter(|receiver| receiver.waits_for_peer());
        let limits = &self.limits;
        let wait = |it: &Receiver| if it.is_nudged { it.timeout(limits) } else { it.nudge(limits) };
        let due = |receiver: &Receiver| receiver.moved + wait(receiver);
        let of_active = waiting.map(due).min().unwrap_or(Time::NEVER);
        if self.active.len() >= self.limits.received_at_once_max {
            return of_active;
        }
        let of_line = self.line.iter().map(|(group, _)| self.not_before(*group)).min();
        of_active.min(of_line.unwrap_or(Time::NEVER))
    }

    pub(super) fn is_under_way(&self) -> bool {
        !self.active.is_empty() || !self.line.is_empty()
    }

    pub(super) fn is_fetching(&self, group: GroupId) -> bool {
        self.active.contains_key(&group) || self.line.iter().any(|(waiting, _)| *waiting == group)
    }

    /// Ends an attempt. What was received stays for the next.
    fn fail(&mut self, now: Time, out: &mut Out, group: GroupId, why: TransferFailed) {
        let Some(receiver) = self.active.remove(&group) else { return };
        let tried = self.tried.entry(group).or_default();
        tried.not_before = now + self.limits.pause;
        match why {
            // The rest is best had where the part is from.
            TransferFailed::Lost | TransferFailed::Disk(_) => {}
            TransferFailed::Silent => tried.attempts = tried.attempts.max(1),
            _ => (tried.attempts, tried.source) = (tried.attempts.max(1), None),
        }
        if !matches!(why, TransferFailed::Ended(_) | TransferFailed::Lost) {
            out.send(receiver.attempt, Body::End { reason: EndReason::Cancelled });
        }
        out.acts.push(TransferOut::NotReceived { group, from: receiver.attempt.peer, why });
        self.begin_next(now, out);
    }
}

impl Receiver {
    /// Asks for as much as may be on the way, or has the part finished if all is written.
    fn go_on(&mut self, limits: &Limits, out: &mut Out) {
        let Stage::Pulling { info, round, written, upto, .. } = &mut self.stage else { return };
        if *written == info.bytes {
            let info = *info;
            self.stage = Stage::Finishing;
            out.send(self.attempt, Body::End { reason: EndReason::Complete });
            let Attempt { peer: from, group, number: attempt } = self.attempt;
            return out.acts.push(TransferOut::Act(TransferAct::FinishPart { group, from, attempt, info }));
        }
        let further = written.saturating_add(limits.window_bytes()).min(info.bytes);
        if further > *upto {
            *upto = further;
            out.send(self.attempt, Body::Pull { round: *round, offset: *written, upto: further });
        }
    }

    /// A chunk was missed, or nothing has come for a while: all that is not here is asked for again.
    fn pull_again(&mut self, out: &mut Out) {
        let Stage::Pulling { round, received, upto, .. } = &mut self.stage else { return };
        *round += 1;
        out.send(self.attempt, Body::Pull { round: *round, offset: *received, upto: *upto });
    }
}

/// The leader first, or the member that a part is of, then the others in turn, with the first in between: not all of the load
/// is on the leader, and one that is dead is not asked twice in a row.
fn member_to_ask(attempts: u64, first: NodeId, others: &[NodeId]) -> NodeId {
    let count = others.len() as u64;
    if count == 0 || attempts.is_multiple_of(2) { first } else { others[(attempts / 2 % count) as usize] }
}

/// The attempt, if it is under way.
fn active(active: &mut BTreeMap<GroupId, Receiver>, attempt: Attempt) -> Option<&mut Receiver> {
    active.get_mut(&attempt.group).filter(|receiver| receiver.attempt == attempt)
}

/// The same by its number.
fn numbered(active: &mut BTreeMap<GroupId, Receiver>, group: GroupId, number: u64) -> Option<&mut Receiver> {
    active.get_mut(&group).filter(|receiver| receiver.attempt.number == number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_leader_first_then_the_others_in_turn() {
        let others = [NodeId(2), NodeId(3)];
        let asked: Vec<u64> = (0..6).map(|attempts| member_to_ask(attempts, NodeId(1), &others).0).collect();
        assert_eq!(asked, [1, 2, 1, 3, 1, 2]);
        assert_eq!(member_to_ask(1, NodeId(1), &[]), NodeId(1));
    }
}
