//! What a node asks of its shell, as values.
//!
//! A turn gives one list of them. The shell carries them out in that order and decides nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use vlot_log::index::GroupState;
use vlot_log::record::Write;
use vlot_raft::configuration::ChangeRefused;
use vlot_raft::effect::{Event, Misbehaviour, RoleState, TransferRefused};
use vlot_raft::election::ElectionEvent;
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId};

use crate::lane::Lane;
use crate::machine::Fence;
use crate::members::Members;
use crate::policy::MemberHealth;
use crate::proposals::NotProposed;
use crate::reads::NotRead;
use crate::replica::{Committed, LogRead};
use crate::snapshot::Header;
use crate::transfer::{BadTransferFrame, TransferAct, TransferFailed};
use crate::wire::BadFrame;

/// Numbers the turns that have written; rises.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct BatchId(pub u64);

/// Something to be done. An act may be under way when the next is begun, except that each of the log, a state machine and
/// a snapshot's file does what it is asked in the order in which it is asked.
#[derive(Debug)]
pub enum Act {
    /// Make these durable, in order, and report [`Input::Written`](crate::input::Input::Written).
    Write {
        /// What to report.
        batch: BatchId,
        /// Of all groups.
        writes: Vec<Write>,
    },
    /// Send a frame. It may be lost; those of one peer and lane keep their order.
    Send {
        /// The receiver.
        to: NodeId,
        /// On which lane.
        lane: Lane,
        /// The frame.
        frame: Bytes,
    },
    /// Read entries from the log, as it is after all that was asked to be written before, and report
    /// [`Input::Fetched`](crate::input::Input::Fetched).
    ReadLog {
        /// Whose.
        group: GroupId,
        /// Which.
        read: LogRead,
    },
    /// Have the state machine become the snapshot of this entry, which is on this node's disk, and report
    /// [`Input::Applied`](crate::input::Input::Applied) or [`Input::Failed`](crate::input::Input::Failed).
    Restore {
        /// Whose.
        group: GroupId,
        /// Which.
        id: LogId,
    },
    /// Have the state machine apply these, and report `Applied` or `Failed`.
    Apply {
        /// Whose.
        group: GroupId,
        /// In this order.
        entries: Vec<Committed>,
    },
    /// Take a snapshot of the state as it is, and report [`Input::SnapshotTaken`](crate::input::Input::SnapshotTaken).
    TakeSnapshot {
        /// Whose.
        group: GroupId,
    },
    /// Write the snapshot that was taken into a file, and report [`Input::Saved`](crate::input::Input::Saved); or, without
    /// a header, drop it.
    Save {
        /// Whose.
        group: GroupId,
        /// What goes before the state.
        header: Option<Header>,
    },
    /// Remove the group's snapshots of entries before this one.
    RemoveSnapshots {
        /// Whose.
        group: GroupId,
        /// The first that stays.
        before: LogId,
    },
    /// A step of a snapshot's way between nodes.
    Transfer(TransferAct),
    /// Answer a call of this process.
    Answer {
        /// In which group.
        group: GroupId,
        /// The answer.
        answer: Answer,
    },
    /// These are the other nodes, and where they listen.
    SetPeers(BTreeMap<NodeId, String>),
    /// These are the disks by which nodes are known; a node that comes with another is refused.
    SetDisks(BTreeMap<NodeId, u64>),
    /// Show where the group stands.
    Show {
        /// Which.
        group: GroupId,
        /// Where it stands.
        status: Status,
    },
    /// Show the members of the group.
    ShowMembers {
        /// Which.
        group: GroupId,
        /// Its members.
        members: Members,
    },
    /// Show how the other members are, as the leader sees them; none of them unless this node leads.
    ShowHealth {
        /// Of which group.
        group: GroupId,
        /// How they are.
        health: Vec<MemberHealth>,
    },
    /// Tell what has happened to a group.
    Tell {
        /// Which.
        group: GroupId,
        /// What.
        event: GroupEvent,
    },
    /// Put a step of an election on record, if there is one.
    Record {
        /// In which group.
        group: GroupId,
        /// The step.
        event: ElectionEvent,
    },
    /// Tell what a peer did wrong; it was ignored.
    Complain {
        /// The peer.
        peer: NodeId,
        /// What it did.
        complaint: Complaint,
    },
    /// The group is closed: nothing of it is under way any more.
    Closed {
        /// Which.
        group: GroupId,
        /// What its log is, to begin it again; none if it was removed from the log.
        log: Option<Box<ClosedLog>>,
    },
    /// Stop: this node would lie if it went on.
    Stop(Stop),
}

/// The log of a group that was closed, to begin it again.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClosedLog {
    /// What it holds.
    pub state: GroupState,
    /// The first and the last of the entries that cannot be read, if there are any.
    pub damaged: Option<(LogIndex, LogIndex)>,
}

/// The answer to a call of this process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Answer {
    /// The proposal with this sequence number is in no log, and never will be.
    NotProposed(u64, NotProposed),
    /// It will never be known here what became of the proposal with this sequence number.
    Unknown(u64),
    /// The change of members with this sequence number is made, or refused.
    Changed(u64, Result<(), ChangeRefused>),
    /// The transfer of leadership with this sequence number is begun, or refused.
    Transfer(u64, Result<(), TransferRefused>),
    /// The reads with these names may be answered by the state machine as it is.
    Ready(Vec<u64>),
    /// The read with this name cannot be answered by this node.
    NotRead(u64, NotRead),
}

/// Where a group stands on this node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Status {
    /// Its term, role and leader.
    pub role_state: RoleState,
    /// The end of its log.
    pub last: LogIndex,
    /// What is decided, as far as it knows.
    pub commit: LogIndex,
    /// What its state machine has applied.
    pub applied: LogIndex,
    /// Bytes of entries that its state machine has been given and has not applied.
    pub applying_bytes: usize,
    /// How the disk of this node's log does.
    pub disk: DiskState,
    /// Why its state machine has stopped, if it has.
    pub fenced: Option<Arc<Fence>>,
    /// This node was told that it is no member any more.
    pub is_removed: bool,
    /// The group is open on this node. Nothing else counts if it is not.
    pub is_open: bool,
}

/// How the disk of a node's log does.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DiskState {
    /// It has no room for entries: none are taken here.
    pub is_full: bool,
    /// A write has waited for it for longer than an election timeout.
    pub has_stalled: bool,
}

/// Something that has happened to a group on this node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum GroupEvent {
    /// Term, role or leader have changed.
    Became(RoleState),
    /// One of consensus's events: configuration, transfer, stalls.
    Consensus(Event),
    /// A peer was sent a snapshot.
    SnapshotSent {
        /// The peer.
        to: NodeId,
        /// The last entry whose effect it has.
        of: LogId,
    },
    /// A snapshot did not come; it is asked for again.
    SnapshotNotReceived {
        /// The peer that was asked.
        from: NodeId,
        /// Why not.
        why: TransferFailed,
    },
    /// A peer was not sent a snapshot; it asks again if it needs one.
    SnapshotNotSent {
        /// The peer.
        to: NodeId,
        /// Why not.
        why: TransferFailed,
    },
    /// A snapshot has taken the place of this node's state.
    SnapshotRestored {
        /// The last entry whose effect it has.
        of: LogId,
    },
    /// A snapshot of this node's state was saved.
    SnapshotSaved {
        /// The last entry whose effect it has.
        of: LogId,
    },
    /// A snapshot of this node's state was not saved; the log stays as long as it is.
    SnapshotNotSaved {
        /// Why not.
        why: String,
    },
    /// The log begins later: what came before is in the state machine.
    Compacted {
        /// After which entry.
        after: LogId,
    },
    /// The state machine has stopped.
    Fenced(Arc<Fence>),
}

/// What a peer did wrong; it was ignored.
#[derive(Debug, PartialEq)]
pub enum Complaint {
    /// It sent a frame that is none.
    Frame(BadFrame),
    /// It sent a frame about a snapshot that is none, or out of place.
    TransferFrame(BadTransferFrame),
    /// It spoke for a group that this node has no replica of.
    UnknownGroup(GroupId),
    /// It said what no correct peer says.
    Message(Misbehaviour),
    /// It has another disk than the one by which the cluster knows it.
    OtherDisk {
        /// The disk that it has.
        disk: u64,
    },
}

impl std::fmt::Display for Complaint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Frame(bad) => bad.fmt(f),
            Self::TransferFrame(bad) => bad.fmt(f),
            Self::UnknownGroup(group) => write!(f, "a message for group {group}, which is not open on this node"),
            Self::Message(how) => write!(f, "{how:?}"),
            Self::OtherDisk { disk } => write!(
                f,
                "a member has another disk ({disk:016x}) than the cluster knows: it has lost what it vouched for; \
                 remove it and add it again"
            ),
        }
    }
}

/// Why a node must not go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stop {
    /// The cluster knows this node by another disk: what it had vouched for is lost.
    OtherDisk,
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OtherDisk => f.write_str(
                "the cluster knows this member by another disk: what it had vouched for is lost; remove the member and \
                 add it again, with an empty directory",
            ),
        }
    }
}

impl std::error::Error for Stop {}
