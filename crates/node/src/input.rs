//! What happens to a node, as values.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use vlot_log::record::Entry;
use vlot_raft::id::{GroupId, LogId, NodeId};

use crate::act::BatchId;
use crate::lane::Lane;
use crate::machine::Fence;
use crate::members::MemberChange;
use crate::replica::Purpose;
use crate::snapshot::{Header, SnapshotError, SnapshotInfo};
use crate::state_machine::Class;

/// What happens to a node.
#[derive(Debug)]
pub enum Input {
    /// A frame has come from a peer.
    Frame {
        /// The sender, as the connection has proven.
        from: NodeId,
        /// On which lane.
        lane: Lane,
        /// The frame.
        bytes: Bytes,
    },
    /// Commands are proposed: see [`Replica::propose`](crate::replica::Replica::propose).
    Propose {
        /// In which group.
        group: GroupId,
        /// In their order.
        proposals: Vec<Proposal>,
    },
    /// The caller of a proposal waits no longer. What is known of it then is answered.
    Withdraw {
        /// In which group.
        group: GroupId,
        /// The proposal's sequence number.
        sequence: u64,
    },
    /// A change of members is asked for: see [`Replica::change_members`](crate::replica::Replica::change_members).
    ChangeMembers {
        /// In which group.
        group: GroupId,
        /// The request's sequence number.
        sequence: u64,
        /// What to change.
        changes: Vec<MemberChange>,
        /// What the state machine is given with it.
        context: Bytes,
    },
    /// The leadership is to be transferred: see [`Replica::transfer`](crate::replica::Replica::transfer).
    Transfer {
        /// In which group.
        group: GroupId,
        /// The request's sequence number.
        sequence: u64,
        /// The new leader; the fittest member, if none is named.
        to: Option<NodeId>,
    },
    /// A linearizable read is asked for.
    Read {
        /// In which group.
        group: GroupId,
        /// The caller's name for it.
        read: u64,
    },
    /// The log of a group is to be cut as far as it can be.
    Compact {
        /// Which group's.
        group: GroupId,
    },
    /// A snapshot of the group's state is to be saved, whether its log is long or not. What becomes of it is told by
    /// [`GroupEvent::SnapshotSaved`](crate::act::GroupEvent::SnapshotSaved) and its opposite.
    SaveSnapshot {
        /// Which group's.
        group: GroupId,
    },
    /// The group is to be closed; it goes on in the log, unless it is to be removed from there too.
    Close {
        /// Which.
        group: GroupId,
        /// Its log is needed no more, and neither are its snapshots.
        remove: bool,
    },
    /// This batch of writes, and all before it, are durable.
    Written {
        /// The batch's number.
        batch: BatchId,
    },
    /// Of this batch of writes, and of those before it, everything is durable but entries that wait for room.
    VotesWritten {
        /// The batch's number.
        batch: BatchId,
    },
    /// Whether the disk has room for entries.
    Room {
        /// It has.
        is_there: bool,
    },
    /// A [`LogRead`](crate::replica::LogRead) has brought these.
    Fetched {
        /// Of which group.
        group: GroupId,
        /// What for.
        purpose: Purpose,
        /// The entries.
        entries: Vec<Entry>,
    },
    /// The state machine has applied everything up to here.
    Applied {
        /// Of which group.
        group: GroupId,
        /// The last entry.
        upto: LogId,
        /// What of it the state machine has durably by itself.
        durable: LogId,
    },
    /// The state machine has become the snapshot of this entry.
    Restored {
        /// Of which group.
        group: GroupId,
        /// The entry.
        id: LogId,
        /// What the state machine has durably by itself.
        durable: LogId,
    },
    /// The state machine has stopped.
    Failed {
        /// Of which group.
        group: GroupId,
        /// Why.
        why: Arc<Fence>,
    },
    /// A snapshot was taken, of this entry; or none can be.
    SnapshotTaken {
        /// Of which group.
        group: GroupId,
        /// The last entry whose effect it has.
        id: Option<LogId>,
    },
    /// The snapshot that was taken is durably in a file, or could not be written.
    Saved {
        /// Of which group.
        group: GroupId,
        /// The file, or why there is none.
        saved: Result<SnapshotInfo, String>,
    },
    /// A step of a snapshot's way between nodes is done.
    TransferDone(TransferDone),
    /// The connection to a peer is up.
    Connected {
        /// The peer.
        peer: NodeId,
        /// The disk that it says it has; zero if it does not tell.
        disk: u64,
        /// Whether it reads entries that commands share.
        reads_shared: bool,
    },
    /// The connection to a peer is gone.
    Lost {
        /// The peer.
        peer: NodeId,
    },
    /// Two nodes do not talk to each other because one of them has another disk than the one that is entitled to its seat.
    OtherDisk {
        /// The node at the other end.
        peer: NodeId,
        /// Which of the two has another disk.
        node: NodeId,
        /// The disk that it has.
        disk: u64,
    },
}

/// A command that is proposed.
#[derive(Debug)]
pub struct Proposal {
    /// Its sequence number.
    pub sequence: u64,
    /// Its payload.
    pub payload: Bytes,
    /// Whether it gives way to others.
    pub class: Class,
    /// Whether it may share an entry with others: see [`Command::shares_entry`](crate::state_machine::Command::shares_entry).
    pub shares_entry: bool,
}

/// A step of a snapshot's way between nodes is done; see [`TransferAct`](crate::transfer::TransferAct).
#[derive(Debug)]
pub enum TransferDone {
    /// What can be sent.
    Found {
        /// Of which group.
        group: GroupId,
        /// For which peer.
        to: NodeId,
        /// Its attempt.
        attempt: u64,
        /// The snapshot.
        found: Option<SnapshotInfo>,
    },
    /// Bytes of a snapshot's file.
    ChunkRead {
        /// Of which group.
        group: GroupId,
        /// For which peer.
        to: NodeId,
        /// Its attempt.
        attempt: u64,
        /// From where on.
        offset: u64,
        /// The bytes.
        read: io::Result<Bytes>,
    },
    /// How many bytes of a snapshot are here already.
    PartOpened {
        /// Of which group.
        group: GroupId,
        /// The attempt.
        attempt: u64,
        /// How many.
        opened: io::Result<u64>,
    },
    /// How many bytes of a snapshot are here now.
    ChunkWritten {
        /// Of which group.
        group: GroupId,
        /// The attempt.
        attempt: u64,
        /// How many.
        written: io::Result<u64>,
    },
    /// Whether what was received is a whole snapshot.
    PartFinished {
        /// Of which group.
        group: GroupId,
        /// The attempt.
        attempt: u64,
        /// What it is of.
        finished: Result<Header, SnapshotError>,
    },
}

impl Input {
    /// The group that it is about, if it is about one alone.
    pub(crate) fn group(&self) -> Option<GroupId> {
        match self {
            Self::Propose { group, .. }
            | Self::Withdraw { group, .. }
            | Self::ChangeMembers { group, .. }
            | Self::Transfer { group, .. }
            | Self::Read { group, .. }
            | Self::Compact { group }
            | Self::SaveSnapshot { group }
            | Self::Close { group, .. }
            | Self::Fetched { group, .. }
            | Self::Applied { group, .. }
            | Self::Restored { group, .. }
            | Self::Failed { group, .. }
            | Self::SnapshotTaken { group, .. }
            | Self::Saved { group, .. } => Some(*group),
            Self::Frame { .. }
            | Self::Written { .. }
            | Self::VotesWritten { .. }
            | Self::Room { .. }
            | Self::TransferDone(_)
            | Self::Connected { .. }
            | Self::Lost { .. }
            | Self::OtherDisk { .. } => None,
        }
    }
}
