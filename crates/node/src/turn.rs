//! One turn of a node: what all its groups want done, and the order of it.
//!
//! Owns that order. What goes to the disk and to peers is on its way before anything is applied or answered.

use vlot_log::record::Write;
use vlot_raft::effect::WriteId;
use vlot_raft::id::{GroupId, LogId, NodeId};

use crate::act::{Act, BatchId};
use crate::snapshot::SnapshotInfo;

/// What a turn has gathered.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// Durable acts of all groups, in order.
    pub(crate) writes: Vec<Write>,
    /// The last write of each group among them.
    pub(crate) last_writes: Vec<(GroupId, WriteId)>,
    pub(crate) sends: Vec<Act>,
    pub(crate) reads: Vec<Act>,
    /// Snapshots that are needed: from this leader or another member, of this entry or a later one.
    pub(crate) fetches: Vec<(GroupId, NodeId, LogId)>,
    /// Of which groups a snapshot was saved, or could not be.
    pub(crate) saved: Vec<(GroupId, Option<SnapshotInfo>)>,
    /// Groups whose snapshots of entries before these are needed no more.
    pub(crate) removals: Vec<(GroupId, LogId)>,
    /// What is applied, answered, shown and told, in the order in which it came up.
    pub(crate) rest: Vec<Act>,
}

impl Turn {
    /// Whether nothing has come up.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { writes, last_writes, sends, reads, fetches, saved, removals, rest } = self;
        let is_still = writes.is_empty() && last_writes.is_empty() && sends.is_empty() && reads.is_empty();
        is_still && fetches.is_empty() && saved.is_empty() && removals.is_empty() && rest.is_empty()
    }

    /// All of it as one list. The log is read after what this turn writes.
    pub(crate) fn into_acts(self, batch: BatchId) -> Vec<Act> {
        let Self { writes, sends, reads, rest, .. } = self;
        let mut acts = Vec::with_capacity(1 + sends.len() + reads.len() + rest.len());
        if !writes.is_empty() {
            acts.push(Act::Write { batch, writes });
        }
        acts.extend(sends);
        acts.extend(reads);
        acts.extend(rest);
        acts
    }
}
