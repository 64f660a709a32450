//! What is shown of a group to those who hold a handle to it.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};

use tokio::sync::{broadcast, watch};
use vlot_raft::effect::{Event, RoleState};
use vlot_raft::id::{GroupId, LogId, NodeId};

use crate::members::Members;
use crate::node::NodeCore;

/// Something that has happened to a group on this node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum GroupEvent {
    /// Term, role or leader have changed.
    Became(RoleState),
    /// One of consensus's events: configuration, hand-over, stalls.
    Consensus(Event),
    /// A peer was sent a snapshot.
    SnapshotSent {
        /// The peer.
        to: NodeId,
        /// The last entry whose effect it has.
        of: LogId,
    },
    /// A snapshot has taken the place of this node's state.
    SnapshotRestored {
        /// The last entry whose effect it has.
        of: LogId,
    },
    /// The log begins later: what came before is in the state machine.
    Compacted {
        /// After which entry.
        after: LogId,
    },
}

/// Events that wait for one who looks at them; who lags further behind is told how many were dropped.
pub(crate) const EVENTS_MAX: usize = 1024;

/// Where a group stands on this node, kept current by the driver.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) role_state: watch::Sender<RoleState>,
    pub(crate) members: watch::Sender<Members>,
    pub(crate) events: broadcast::Sender<GroupEvent>,
    pub(crate) last: AtomicU64,
    pub(crate) commit: AtomicU64,
    pub(crate) applied: AtomicU64,
    pub(crate) disk_is_full: AtomicBool,
    pub(crate) disk_has_stalled: AtomicBool,
}

impl View {
    /// Of a group that has just begun.
    pub(crate) fn new(applied: LogId) -> Self {
        Self {
            role_state: watch::Sender::new(RoleState::default()),
            members: watch::Sender::new(Members::default()),
            events: broadcast::Sender::new(EVENTS_MAX),
            last: AtomicU64::new(0),
            commit: AtomicU64::new(0),
            applied: AtomicU64::new(applied.index.0),
            disk_is_full: AtomicBool::new(false),
            disk_has_stalled: AtomicBool::new(false),
        }
    }

    /// Tells those who look; nobody may.
    pub(crate) fn tell(&self, happening: GroupEvent) {
        let _ = self.events.send(happening);
    }

    /// Shows where the group stands after a turn.
    pub(crate) fn show(&self, core: &NodeCore, group: GroupId) {
        if let (Some(raft), Some(handed)) = (core.raft(group), core.handed(group)) {
            self.last.store(raft.log().last().0, Relaxed);
            self.commit.store(raft.commit().0, Relaxed);
            self.applied.store(handed.index.0, Relaxed);
            self.disk_is_full.store(!raft.has_room(), Relaxed);
            self.disk_has_stalled.store(raft.disk_has_stalled(), Relaxed);
        }
    }
}
