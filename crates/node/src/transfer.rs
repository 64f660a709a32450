//! How a snapshot gets from one node to another: the node that lacks it asks, and pulls it out of a file of the other,
//! some bytes at a time.
//!
//! Owns what both sides decide: which member is asked, how far the sender may be ahead of the receiver's disk, at what
//! rate is sent, when the other side counts as silent. It is a value without I/O: inputs come with the time, and what is
//! to be done goes out as [`TransferOut`]s in order. Must not know why a snapshot is needed, nor what is in one.
//!
//! ```text
//! receiver                                      sender
//!    Ask { reach, what it has a part of }  -->     finds a snapshot that reaches, or asks that one be saved
//!    opens the part                        <--  Offer { which content }
//!    Pull { from here, up to there }       -->     reads at offsets, at a bounded rate
//!    writes                                <--  Chunk, Chunk, ...
//!    Pull { up to further }                -->
//!    End { complete }                      -->     is done
//!    verifies the whole, names it
//! ```
//!
//! A transfer that breaks leaves the part where it is, and the sender keeps the file for a while. The next attempt asks the same
//! member once more, if something has come from it and the connection alone was lost, else the next one; one that offers exactly
//! the same content is pulled from where the part ends, any other from the beginning.

mod frame;
mod pace;
mod receiver;
mod sender;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use vlot_raft::id::{GroupId, LogId, NodeId};
use vlot_raft::time::Time;

pub use self::frame::{BadTransferFrame, EndReason};
use self::frame::{Body, Frame};
use self::receiver::Receivers;
use self::sender::Senders;
use crate::snapshot::{Header, SnapshotError, SnapshotInfo};

/// What can be chosen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// How many bytes of snapshots a node sends in a second at most, to all peers together.
    pub rate_bytes_per_second: u64,
    /// How many bytes are read and sent at once at most. Less if the rate would make one chunk take long.
    pub chunk_bytes: u32,
    /// How many chunks of each transfer may be on the way, and not written by the receiver.
    pub window: u32,
    /// How long the other side may be silent.
    pub timeout: Duration,
    /// How long a group waits after a failed attempt before the next.
    pub pause: Duration,
    /// How many snapshots are sent at the same time.
    pub sent_at_once_max: usize,
    /// How many snapshots are received at the same time. The others wait in line.
    pub received_at_once_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rate_bytes_per_second: 128 << 20,
            chunk_bytes: 256 << 10,
            window: 8,
            timeout: Duration::from_secs(10),
            pause: Duration::from_millis(200),
            sent_at_once_max: 2,
            received_at_once_max: 4,
        }
    }
}

/// What comes of inputs, in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TransferOut {
    /// Work for a disk, which a shell carries out.
    Act(TransferAct),
    /// Send a frame on [`Lane::Snapshot`](crate::lane::Lane::Snapshot). It may get lost.
    Send {
        /// The peer.
        to: NodeId,
        /// The frame.
        frame: Bytes,
    },
    /// There is none to send: save one, if the state reaches so far, and answer with [`Transfers::saved`], once however
    /// often it is asked for meanwhile.
    NeedSnapshot {
        /// The group.
        group: GroupId,
        /// The snapshot must be of this entry or a later one.
        reach: LogId,
    },
    /// News: a snapshot is here, durable and whole.
    Received {
        /// The group.
        group: GroupId,
        /// The peer that sent the end of it.
        from: NodeId,
        /// What it is of.
        header: Header,
    },
    /// News: an attempt to get a snapshot has ended in vain. What was received is kept unless it is damaged.
    NotReceived {
        /// The group.
        group: GroupId,
        /// The peer that was asked.
        from: NodeId,
        /// Why.
        why: TransferFailed,
    },
    /// News: a peer has written a whole snapshot down.
    Sent {
        /// The group.
        group: GroupId,
        /// The peer.
        to: NodeId,
        /// The entry that it is of.
        id: LogId,
    },
    /// News: a snapshot was not sent, or not to its end.
    NotSent {
        /// The group.
        group: GroupId,
        /// The peer.
        to: NodeId,
        /// Why.
        why: TransferFailed,
    },
}

/// Work on snapshot files. A shell carries acts out in order; those on files of different groups need not wait for each
/// other, those of one group must.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TransferAct {
    /// Look for a snapshot to send ([`SnapshotDir::find`](crate::snapshot::dir::SnapshotDir::find)), and answer with
    /// [`Transfers::found`].
    FindSnapshot {
        /// The group.
        group: GroupId,
        /// The peer that asks.
        to: NodeId,
        /// The peer's attempt.
        attempt: u64,
        /// The snapshot must be of this entry or a later one.
        reach: LogId,
        /// The peer has a part of this one.
        preferred: Option<SnapshotInfo>,
    },
    /// Read a part of a snapshot file ([`SnapshotDir::read_chunk`](crate::snapshot::dir::SnapshotDir::read_chunk)), and
    /// answer with [`Transfers::chunk_read`].
    ReadChunk {
        /// The group.
        group: GroupId,
        /// The peer that it is for.
        to: NodeId,
        /// The peer's attempt.
        attempt: u64,
        /// The content.
        info: SnapshotInfo,
        /// Where the chunk begins, in bytes.
        offset: u64,
        /// How long it is, in bytes.
        bytes: usize,
    },
    /// Begin a part or go on with it ([`SnapshotDir::part`](crate::snapshot::dir::SnapshotDir::part)), and answer with
    /// [`Transfers::part_opened`].
    OpenPart {
        /// The group.
        group: GroupId,
        /// The peer that sends it.
        from: NodeId,
        /// The attempt.
        attempt: u64,
        /// The content.
        info: SnapshotInfo,
    },
    /// Write at the end of a part ([`SnapshotDir::write_chunk`](crate::snapshot::dir::SnapshotDir::write_chunk)), and
    /// answer with [`Transfers::chunk_written`].
    WriteChunk {
        /// The group.
        group: GroupId,
        /// The attempt.
        attempt: u64,
        /// The content.
        info: SnapshotInfo,
        /// Where the chunk begins, in bytes.
        offset: u64,
        /// The chunk.
        bytes: Bytes,
    },
    /// Verify a part and make it a whole snapshot
    /// ([`SnapshotDir::finish_part`](crate::snapshot::dir::SnapshotDir::finish_part)), and answer with
    /// [`Transfers::part_finished`].
    FinishPart {
        /// The group.
        group: GroupId,
        /// The peer that has sent the end of it.
        from: NodeId,
        /// The attempt.
        attempt: u64,
        /// The content.
        info: SnapshotInfo,
    },
}

impl TransferAct {
    /// The group whose files it is on.
    #[must_use]
    pub fn group(&self) -> GroupId {
        match self {
            Self::FindSnapshot { group, .. }
            | Self::ReadChunk { group, .. }
            | Self::OpenPart { group, .. }
            | Self::WriteChunk { group, .. }
            | Self::FinishPart { group, .. } => *group,
        }
    }
}

/// Why a transfer has ended in vain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TransferFailed {
    /// The peer has said nothing for [`Limits::timeout`].
    Silent,
    /// The connection to the peer is lost.
    Lost,
    /// The peer has ended it.
    Ended(EndReason),
    /// The peer has sent what no correct peer sends.
    Misbehaved,
    /// What came is not the snapshot that was offered: its bytes changed on a disk or on the way. The part is gone.
    Damaged,
    /// This node's own disk has refused.
    Disk(io::ErrorKind),
    /// There is no snapshot that reaches far enough, and none was saved.
    NoSnapshot,
    /// This node needs it no longer.
    Cancelled,
}

/// How much was transferred since the value was made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TransferCounters {
    /// Bytes of snapshots that were sent.
    pub bytes_sent: u64,
    /// Bytes of snapshots that came and were written.
    pub bytes_received: u64,
    /// Bytes that were there when an attempt began, and did not have to come again.
    pub bytes_resumed: u64,
}

/// All snapshots on their way, to and from one node.
///
/// Bounded: per peer and group one transfer each way, [`Limits::sent_at_once_max`] and
/// [`Limits::received_at_once_max`] together, and [`Limits::window`] chunks for each.
#[derive(Debug)]
pub struct Transfers {
    receivers: Receivers,
    senders: Senders,
    out: Out,
}

/// What comes of inputs.
#[derive(Debug, Default)]
struct Out {
    acts: Vec<TransferOut>,
    counters: TransferCounters,
}

impl Out {
    fn send(&mut self, Attempt { peer, group, number }: Attempt, body: Body) {
        let frame = Frame { group, attempt: number, body }.encode();
        self.acts.push(TransferOut::Send { to: peer, frame });
    }
}

/// One attempt of a receiver to get a snapshot, as either side knows it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Attempt {
    /// The other side.
    peer: NodeId,
    group: GroupId,
    number: u64,
}

impl Transfers {
    /// None yet. Attempts are numbered from `origin`, where no earlier process of this node has been. `parts` are what
    /// an earlier process has left ([`SnapshotDir::parts`](crate::snapshot::dir::SnapshotDir::parts)).
    #[must_use]
    pub fn new(limits: Limits, origin: u64, parts: BTreeMap<GroupId, SnapshotInfo>) -> Self {
        let limits = limits.bounded();
        let (receivers, senders) = (Receivers::new(limits, origin, parts), Senders::new(limits));
        Self { receivers, senders, out: Out::default() }
    }

    /// Gets a snapshot of a group that reaches `reach`, unless one is on its way. To be called again, for instance with
    /// each heartbeat, as long as it is needed: each call after a failed attempt asks another member, `leader` first,
    /// then the others in turn, with the leader in between.
    pub fn fetch(&mut self, now: Time, group: GroupId, leader: NodeId, others: &[NodeId], reach: LogId) {
        self.receivers.fetch(now, &mut self.out, group, leader, others, reach);
    }

    /// A group needs no snapshot any longer. What was received of one stays for the next.
    pub fn cancel(&mut self, now: Time, group: GroupId) {
        self.receivers.cancel(now, &mut self.out, group);
    }

    /// A group is removed from this node, and what it has of snapshots.
    pub fn remove_group(&mut self, now: Time, group: GroupId) {
        self.receivers.remove_group(now, &mut self.out, group);
        self.senders.remove_group(now, &mut self.out, group);
    }

    /// A frame has come on [`Lane::Snapshot`](crate::lane::Lane::Snapshot).
    ///
    /// # Errors
    /// If no correct peer sends it. A transfer that it belongs to has ended.
    pub fn frame(&mut self, now: Time, from: NodeId, bytes: Bytes) -> Result<(), BadTransferFrame> {
        let Frame { group, attempt, body } = Frame::decode(bytes)?;
        let (attempt, out) = (Attempt { peer: from, group, number: attempt }, &mut self.out);
        match body {
            Body::Ask { reach, part } => self.senders.asked(now, out, attempt, reach, part),
            Body::Pull { round, offset, upto } => {
                return self.senders.pulled(now, out, attempt, (round, offset, upto));
            }
            Body::Offer { info } => return self.receivers.offered(now, out, attempt, info),
            Body::Chunk { round, offset, bytes } => {
                return self.receivers.chunk_came(now, out, attempt, (round, offset, bytes));
            }
            Body::End { reason } => self.senders.ended(now, out, attempt, reason),
            Body::Refuse { reason } => self.receivers.refused(now, out, attempt, reason),
        }
        Ok(())
    }

    /// The connection to a peer is lost.
    pub fn lost(&mut self, now: Time, peer: NodeId) {
        self.receivers.lost(now, &mut self.out, peer);
        self.senders.lost(now, &mut self.out, peer);
    }

    /// Answers [`TransferAct::FindSnapshot`].
    pub fn found(&mut self, now: Time, group: GroupId, to: NodeId, attempt: u64, found: Option<SnapshotInfo>) {
        self.senders.found(now, &mut self.out, Attempt { peer: to, group, number: attempt }, found);
    }

    /// Answers [`TransferOut::NeedSnapshot`].
    pub fn saved(&mut self, now: Time, group: GroupId, saved: Option<SnapshotInfo>) {
        self.senders.saved(now, &mut self.out, group, saved);
    }

    /// Answers [`TransferAct::ReadChunk`].
    pub fn chunk_read(
        &mut self,
        now: Time,
        group: GroupId,
        to: NodeId,
        attempt: u64,
        offset: u64,
        read: io::Result<Bytes>,
    ) {
        self.senders.chunk_read(now, &mut self.out, Attempt { peer: to, group, number: attempt }, (offset, read));
    }

    /// Answers [`TransferAct::OpenPart`]: how many bytes are there.
    pub fn part_opened(&mut self, now: Time, group: GroupId, attempt: u64, opened: io::Result<u64>) {
        self.receivers.part_opened(now, &mut self.out, group, attempt, opened);
    }

    /// Answers [`TransferAct::WriteChunk`]: how many bytes are there.
    pub fn chunk_written(&mut self, now: Time, group: GroupId, attempt: u64, written: io::Result<u64>) {
        self.receivers.chunk_written(now, &mut self.out, group, attempt, written);
    }

    /// Answers [`TransferAct::FinishPart`].
    pub fn part_finished(&mut self, now: Time, group: GroupId, attempt: u64, finished: Result<Header, SnapshotError>) {
        self.receivers.part_finished(now, &mut self.out, group, attempt, finished);
    }

    /// Time has passed. Does what is due.
    pub fn tick(&mut self, now: Time) {
        self.receivers.tick(now, &mut self.out);
        self.senders.tick(now, &mut self.out);
    }

    /// When [`Transfers::tick`] has something to do; [`Time::NEVER`] if nothing waits for a peer or for time to pass.
    #[must_use]
    pub fn deadline(&self) -> Time {
        self.receivers.deadline().min(self.senders.deadline())
    }

    /// Takes out what is to be done, in order.
    pub fn take_acts(&mut self) -> Vec<TransferOut> {
        std::mem::take(&mut self.out.acts)
    }

    /// Whether anything is on its way, in either direction, or waits in line.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.receivers.is_under_way() || self.senders.is_under_way()
    }

    /// Whether a snapshot of a group is on its way here, or waits in line.
    #[must_use]
    pub fn is_fetching(&self, group: GroupId) -> bool {
        self.receivers.is_fetching(group)
    }

    /// The oldest snapshot of a group that is being sent: older ones may be removed, this one not, or the transfer breaks
    /// and a state that takes longer to send than to save anew never arrives.
    #[must_use]
    pub fn oldest_sent(&self, group: GroupId) -> Option<LogId> {
        self.senders.oldest_sent(group)
    }

    /// The oldest snapshot of a group that is being sent, or was sent so lately that its receiver may not have what follows it.
    #[must_use]
    pub fn oldest_followed(&self, group: GroupId) -> Option<LogId> {
        self.senders.oldest_followed(group)
    }

    /// How much was transferred.
    #[must_use]
    pub fn counters(&self) -> TransferCounters {
        self.out.counters
    }
}

impl Limits {
    /// The same with numbers that go together: whatever is chosen, something can be sent, and the rate alone does not let
    /// the other side think that this one is silent.
    fn bounded(self) -> Self {
        let rate = self.rate_bytes_per_second.max(1);
        let sent_at_once_max = self.sent_at_once_max.max(1);
        let in_an_eighth = u128::from(rate) * self.timeout.as_millis() / 8000 / sent_at_once_max as u128;
        let chunk_bytes = in_an_eighth.clamp(1, u128::from(self.chunk_bytes.max(1))) as u32;
        Self {
            rate_bytes_per_second: rate,
            chunk_bytes,
            window: self.window.max(1),
            sent_at_once_max,
            received_at_once_max: self.received_at_once_max.max(1),
            ..self
        }
    }

    /// How many bytes of a transfer may be on the way.
    fn window_bytes(&self) -> u64 {
        u64::from(self.window) * u64::from(self.chunk_bytes)
    }
}

impl std::fmt::Display for TransferFailed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Silent => f.write_str("the peer has fallen silent"),
            Self::Lost => f.write_str("the connection to the peer is lost"),
            Self::Ended(reason) => write!(f, "the peer has ended the transfer: {reason}"),
            Self::Misbehaved => f.write_str("the peer has sent a frame that no correct peer sends"),
            Self::Damaged => f.write_str("the checksum of the snapshot does not match"),
            Self::Disk(kind) => write!(f, "disk: {kind}"),
            Self::NoSnapshot => f.write_str("no snapshot reaches far enough"),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}
