//! What is shown of a group to those who hold a handle to it.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::watch;
use vlot_raft::effect::Standing;
use vlot_raft::id::GroupId;

use crate::node::NodeCore;

/// Where a group stands on this node, kept current by the driver.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) standing: watch::Sender<Standing>,
    pub(crate) last: AtomicU64,
    pub(crate) commit: AtomicU64,
    pub(crate) applied: AtomicU64,
}

impl View {
    /// Shows where the group stands after a turn.
    pub(crate) fn show(&self, core: &NodeCore, group: GroupId) {
        if let (Some(raft), Some(handed)) = (core.raft(group), core.handed(group)) {
            self.last.store(raft.log().last().0, Relaxed);
            self.commit.store(raft.commit().0, Relaxed);
            self.applied.store(handed.index.0, Relaxed);
        }
    }
}
