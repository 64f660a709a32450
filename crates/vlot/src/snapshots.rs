//! The files of snapshots: what the node asks of them, off the driver's thread.

use std::sync::Arc;

use tokio::runtime::Handle;
use vlot_log::disk::real::RealDisk;
use vlot_node::snapshot::dir::SnapshotDir;
use vlot_node::transfer::TransferAct;
use vlot_raft::id::{GroupId, LogId};

/// The folder of snapshots, and where blocking work is done.
#[derive(Clone)]
pub(crate) struct Snapshots {
    pub(crate) dir: Arc<SnapshotDir<RealDisk>>,
    runtime: Handle,
}

impl Snapshots {
    pub(crate) fn new(dir: SnapshotDir<RealDisk>, runtime: Handle) -> Self {
        Self { dir: Arc::new(dir), runtime }
    }

    /// Removes a group's snapshots of entries before this one.
    pub(crate) fn remove(&self, group: GroupId, before: LogId) {
        let dir = Arc::clone(&self.dir);
        self.runtime.spawn_blocking(move || {
            // What cannot be removed takes room, and does no other harm.
            if let Err(error) = dir.remove_before(group, before) {
                tracing::warn!(%group, %error, "cannot remove old snapshots");
            }
        });
    }

    pub(crate) fn carry_out(&self, act: TransferAct) {
        match act {}
    }
}
