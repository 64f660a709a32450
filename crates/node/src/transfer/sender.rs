//! The side that has a snapshot: finds it or has it saved, and sends what the receiver pulls.
//!
//! Owns the transfers to peers and the rate that they share. Must not know how files are read.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use vlot_raft::id::{GroupId, LogId, NodeId};
use vlot_raft::time::Time;

use super::frame::{BadTransferFrame, Body, EndReason};
use super::pace::Pace;
use super::{Attempt, Limits, Out, TransferAct, TransferFailed, TransferOut};
use crate::snapshot::SnapshotInfo;

/// All snapshots that this node sends.
#[derive(Debug)]
pub(super) struct Senders {
    limits: Limits,
    pace: Pace,
    active: BTreeMap<Receiver, Sender>,
    /// Whose turn it was last. Transfers take turns chunk by chunk.
    last_served: Receiver,
    /// What was being sent when a transfer broke, and until when it is kept: the receiver may come back for the rest.
    broken: BTreeMap<Receiver, (LogId, Time)>,
    /// What was sent to its end, and until when the receiver may be busy with it.
    sent_lately: BTreeMap<Receiver, (LogId, Time)>,
}

/// How many broken transfers are remembered at most; what was sent of others may be gone when their receivers come back.
const BROKEN_MAX: usize = 64;
/// And how many that were sent to their end; for how many timeouts the receiver of one may be busy with it.
const SENT_LATELY_MAX: usize = 64;
const RESTORED_IN: u32 = 6;

/// A peer gets one snapshot of each group at a time.
type Receiver = (NodeId, GroupId);

/// A snapshot that a peer has asked for.
#[derive(Debug)]
struct Sender {
    attempt: Attempt,
    /// What the snapshot must reach.
    reach: LogId,
    stage: Stage,
    /// How far it was ever sent, in any round.
    sent: u64,
    /// When the peer has said something last.
    heard: Time,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The directory is being searched.
    Finding,
    /// There is none yet.
    Saving,
    /// The peer is to pull.
    Offered { info: SnapshotInfo },
    /// Chunks go out. Invariant: `next ≤ info.bytes`, `upto ≤ info.bytes`.
    Sending { info: SnapshotInfo, round: u64, next: u64, upto: u64, is_reading: bool },
}

impl Sender {
    /// The content that it was offered.
    fn info(&self) -> Option<SnapshotInfo> {
        match self.stage {
            Stage::Offered { info } | Stage::Sending { info, .. } => Some(info),
            Stage::Finding | Stage::Saving => None,
        }
    }

    /// Whether nothing happens until the peer says something.
    fn waits_for_peer(&self) -> bool {
        match self.stage {
            Stage::Finding => false,
            // A peer that waits asks again, and another that has one may be asked instead.
            Stage::Saving | Stage::Offered { .. } => true,
            Stage::Sending { next, upto, is_reading, .. } => !is_reading && next >= upto,
        }
    }

    /// Whether a chunk could be read.
    fn has_credit(&self) -> bool {
        matches!(self.stage, Stage::Sending { next, upto, is_reading: false, .. } if next < upto)
    }

    fn offer(&mut self, now: Time, out: &mut Out, info: SnapshotInfo) {
        (self.stage, self.heard) = (Stage::Offered { info }, now);
        out.send(self.attempt, Body::Offer { info });
    }
}

impl Senders {
    pub(super) fn new(limits: Limits) -> Self {
        let pace = Pace::new(limits.rate_bytes_per_second, u64::from(limits.chunk_bytes));
        Self {
            limits,
            pace,
            active: BTreeMap::new(),
            last_served: (NodeId(0), GroupId(0)),
            broken: BTreeMap::new(),
            sent_lately: BTreeMap::new(),
        }
    }

    pub(super) fn asked(
        &mut self,
        now: Time,
        out: &mut Out,
        attempt: Attempt,
        reach: LogId,
        preferred: Option<SnapshotInfo>,
    ) {
        let Attempt { peer: to, group, number } = attempt;
        if let Some(sender) = self.active.get_mut(&(to, group))
            && sender.attempt == attempt
        {
            sender.heard = now;
            // The offer may be lost.
            if let Stage::Offered { info } = sender.stage {
                sender.offer(now, out, info);
            }
            return;
        }
        // A new attempt takes the place of the one before.
        self.fail(now, out, (to, group), TransferFailed::Cancelled);
        if self.active.len() >= self.limits.sent_at_once_max {
            return out.send(attempt, Body::Refuse { reason: EndReason::Busy });
        }
        self.broken.remove(&(to, group));
        self.sent_lately.remove(&(to, group));
        self.active.insert((to, group), Sender { attempt, reach, stage: Stage::Finding, sent: 0, heard: now });
        out.acts.push(TransferOut::Act(TransferAct::FindSnapshot { group, to, attempt: number, reach, preferred }));
    }

    pub(super) fn found(&mut self, now: Time, out: &mut Out, attempt: Attempt, found: Option<SnapshotInfo>) {
        let Some(sender) = active(&mut self.active, attempt) else { return };
        let Stage::Finding = sender.stage else { return };
        let (group, reach) = (attempt.group, sender.reach);
        match found.filter(|info| info.id.index >= reach.index) {
            Some(info) => sender.offer(now, out, info),
            None => {
                (sender.stage, sender.heard) = (Stage::Saving, now);
                out.acts.push(TransferOut::NeedSnapshot { group, reach });
            }
        }
    }

    pub(super) fn saved(&mut self, now: Time, out: &mut Out, group: GroupId, saved: Option<SnapshotInfo>) {
        let mut disappointed = Vec::new();
        let waiting = self.active.iter_mut().filter(|(key, sender)| key.1 == group && sender.is_saving());
        for (key, sender) in waiting {
            match saved.filter(|info| info.id.index >= sender.reach.index) {
                Some(info) => sender.offer(now, out, info),
                None => disappointed.push(*key),
            }
        }
        for key in disappointed {
            self.end(now, out, key, EndReason::NoSnapshot, TransferFailed::NoSnapshot);
        }
    }

    pub(super) fn pulled(
        &mut self,
        now: Time,
        out: &mut Out,
        attempt: Attempt,
        (pull_round, offset, pull_upto): (u64, u64, u64),
    ) -> Result<(), BadTransferFrame> {
        let Some(sender) = active(&mut self.active, attempt) else {
            out.send(attempt, Body::Refuse { reason: EndReason::UnknownAttempt });
            return Ok(());
        };
        let (info, round, next, upto, is_reading) = match sender.stage {
            // It does not know what it is to pull.
            Stage::Finding | Stage::Saving => return Ok(()),
            Stage::Offered { info } => (info, 0, 0, 0, false),
            Stage::Sending { info, round, next, upto, is_reading } => (info, round, next, upto, is_reading),
        };
        // A later round begins anywhere; within a round, nothing can be there that was not sent, in this round or, as it may
        // come late, in an earlier one.
        let offset_max = if pull_round > round { info.bytes } else { sender.sent };
        if offset > offset_max && pull_round >= round {
            let key = (attempt.peer, attempt.group);
            self.end(now, out, key, EndReason::Cancelled, TransferFailed::Misbehaved);
            return Err(BadTransferFrame::BadPull { offset, offset_max });
        }
        sender.heard = now;
        // However much the receiver asks for, no more than a window is on the way.
        let pull_upto = pull_upto.min(offset.saturating_add(self.limits.window_bytes())).min(info.bytes);
        if pull_round > round {
            sender.stage = Stage::Sending { info, round: pull_round, next: offset, upto: pull_upto, is_reading };
        } else if pull_round == round {
            let next = next.max(offset);
            sender.stage = Stage::Sending { info, round, next, upto: upto.max(pull_upto), is_reading };
        }
        self.read_on(now, out);
        Ok(())
    }

    pub(super) fn chunk_read(
        &mut self,
        now: Time,
        out: &mut Out,
        attempt: Attempt,
        (offset, read): (u64, io::Result<Bytes>),
    ) {
        let Some(sender) = active(&mut self.active, attempt) else { return };
        let Stage::Sending { info, round, next, is_reading, .. } = &mut sender.stage else { return };
        *is_reading = false;
        let why = match read {
            // The receiver may have gone back meanwhile.
            Ok(_) if offset != *next => None,
            Ok(bytes) if !bytes.is_empty() && bytes.len() as u64 <= info.bytes - offset => {
                let (round, length) = (*round, bytes.len() as u64);
                (*next, sender.heard) = (*next + length, now);
                sender.sent = sender.sent.max(*next);
                out.counters.bytes_sent += length;
                out.send(attempt, Body::Chunk { round, offset, bytes });
                None
            }
            Ok(_) => Some(io::ErrorKind::UnexpectedEof),
            Err(error) => Some(error.kind()),
        };
        if let Some(kind) = why {
            let key = (attempt.peer, attempt.group);
            self.end(now, out, key, EndReason::Unreadable, TransferFailed::Disk(kind));
        }
        self.read_on(now, out);
    }

    pub(super) fn ended(&mut self, now: Time, out: &mut Out, attempt: Attempt, reason: EndReason) {
        let Some(sender) = active(&mut self.active, attempt) else { return };
        let (key, to, group) = ((attempt.peer, attempt.group), attempt.peer, attempt.group);
        match sender.stage {
            Stage::Sending { info, .. } | Stage::Offered { info } if reason == EndReason::Complete => {
                self.active.remove(&key);
                if self.sent_lately.len() < SENT_LATELY_MAX {
                    self.sent_lately.insert(key, (info.id, now + self.limits.timeout.saturating_mul(RESTORED_IN)));
                }
                out.acts.push(TransferOut::Sent { group, to, id: info.id });
            }
            _ => self.fail(now, out, key, TransferFailed::Ended(reason)),
        }
        self.read_on(now, out);
    }

    pub(super) fn lost(&mut self, now: Time, out: &mut Out, peer: NodeId) {
        for key in self.keys(|key, _| key.0 == peer) {
            self.fail(now, out, key, TransferFailed::Lost);
        }
        self.read_on(now, out);
    }

    pub(super) fn remove_group(&mut self, now: Time, out: &mut Out, group: GroupId) {
        for key in self.keys(|key, _| key.1 == group) {
            self.end(now, out, key, EndReason::NoSnapshot, TransferFailed::Cancelled);
        }
        self.broken.retain(|key, _| key.1 != group);
        self.sent_lately.retain(|key, _| key.1 != group);
        self.read_on(now, out);
    }

    pub(super) fn tick(&mut self, now: Time, out: &mut Out) {
        self.broken.retain(|_, (_, until)| now < *until);
        self.sent_lately.retain(|_, (_, until)| now < *until);
        let timeout = self.limits.timeout;
        for key in self.keys(|_, sender| sender.waits_for_peer() && now >= sender.heard + timeout) {
            let (reason, why) = match self.active.get(&key).map(|sender| sender.stage) {
                Some(Stage::Saving) => (EndReason::NoSnapshot, TransferFailed::NoSnapshot),
                _ => (EndReason::UnknownAttempt, TransferFailed::Silent),
            };
            self.end(now, out, key, reason, why);
        }
        self.read_on(now, out);
    }

    pub(super) fn deadline(&self) -> Time {
        let waiting = self.active.values().filter(|sender| sender.waits_for_peer());
        let silent_at = waiting.map(|sender| sender.heard + self.limits.timeout).min().unwrap_or(Time::NEVER);
        let forgets_at =
            self.broken.values().chain(self.sent_lately.values()).map(|(_, until)| *until).min().unwrap_or(Time::NEVER);
        let silent_at = silent_at.min(forgets_at);
        let wants_to_read = self.active.values().any(Sender::has_credit);
        if wants_to_read { silent_at.min(self.pace.free_at()) } else { silent_at }
    }

    pub(super) fn is_under_way(&self) -> bool {
        !self.active.is_empty()
    }

    pub(super) fn oldest_sent(&self, group: GroupId) -> Option<LogId> {
        let sent = self.active.values().filter(|sender| sender.attempt.group == group);
        let broken = self.broken.iter().filter(|((_, of), _)| *of == group).map(|(_, (id, _))| *id);
        sent.filter_map(Sender::info).map(|info| info.id).chain(broken).min()
    }

    pub(super) fn oldest_followed(&self, group: GroupId) -> Option<LogId> {
        let sent_lately = self.sent_lately.iter().filter(|((_, of), _)| *of == group).map(|(_, (id, _))| *id);
        self.oldest_sent(group).into_iter().chain(sent_lately).min()
    }

    /// Reads the next chunks, one of each transfer in turn, as far as credit and rate go.
    fn read_on(&mut self, now: Time, out: &mut Out) {
        while self.pace.free_at() <= now {
            let Some(key) = self.next_to_serve() else { return };
            let Some(sender) = self.active.get_mut(&key) else { return };
            let Stage::Sending { info, next, upto, is_reading, .. } = &mut sender.stage else { return };
            let left = (*upto).saturating_sub(*next).min(u64::from(self.limits.chunk_bytes));
            let (info, offset) = (*info, *next);
            *is_reading = true;
            self.last_served = key;
            self.pace.take(now, left);
            let Attempt { peer: to, group, number: attempt } = sender.attempt;
            out.acts.push(TransferOut::Act(TransferAct::ReadChunk {
                group,
                to,
                attempt,
                info,
                offset,
                bytes: left as usize,
            }));
        }
    }

    fn next_to_serve(&self) -> Option<Receiver> {
        let after = self.active.range(self.last_served..).filter(|(key, _)| **key != self.last_served);
        let mut in_turn = after.chain(self.active.range(..=self.last_served));
        in_turn.find(|(_, sender)| sender.has_credit()).map(|(key, _)| *key)
    }

    fn keys(&self, is_meant: impl Fn(&Receiver, &Sender) -> bool) -> Vec<Receiver> {
        self.active.iter().filter(|(key, sender)| is_meant(key, sender)).map(|(key, _)| *key).collect()
    }

    /// Ends a transfer and says so to the peer.
    fn end(&mut self, now: Time, out: &mut Out, key: Receiver, reason: EndReason, why: TransferFailed) {
        if let Some(sender) = self.active.get(&key) {
            out.send(sender.attempt, Body::Refuse { reason });
            self.fail(now, out, key, why);
        }
    }

    fn fail(&mut self, now: Time, out: &mut Out, key: Receiver, why: TransferFailed) {
        if let Some(sender) = self.active.remove(&key) {
            let comes_back = matches!(why, TransferFailed::Lost | TransferFailed::Silent);
            if let Some(info) = sender.info().filter(|_| comes_back && self.broken.len() < BROKEN_MAX) {
                self.broken.insert(key, (info.id, now + self.limits.timeout));
            }
            out.acts.push(TransferOut::NotSent { group: key.1, to: key.0, why });
        }
    }
}

impl Sender {
    fn is_saving(&self) -> bool {
        matches!(self.stage, Stage::Saving)
    }
}

/// The attempt, if it is under way.
fn active(active: &mut BTreeMap<Receiver, Sender>, attempt: Attempt) -> Option<&mut Sender> {
    active.get_mut(&(attempt.peer, attempt.group)).filter(|sender| sender.attempt == attempt)
}
