//! Which disk is entitled to which seat.
//!
//! A node that has lost its disk has forgotten how it voted and what it acknowledged: under its old identity it
//! could help to undo what is committed. It is told by the number that was drawn when its log was first made. A number
//! of zero is none: a node that has none, or whose number is not known, passes.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use vlot_raft::id::NodeId;

/// The entitled disks, as far as they are known.
#[derive(Debug, Default)]
pub(crate) struct Disks(RwLock<BTreeMap<NodeId, u64>>);

impl Disks {
    /// Replaces all of them; returns those that were there.
    pub fn set(&self, entitled: BTreeMap<NodeId, u64>) -> BTreeMap<NodeId, u64> {
        std::mem::replace(&mut *self.0.write().unwrap_or_else(PoisonError::into_inner), entitled)
    }

    /// The disk that is entitled to a node's seat, or zero.
    pub fn entitled(&self, node: NodeId) -> u64 {
        self.read().get(&node).copied().unwrap_or(0)
    }

    /// Whether a node may come with this disk.
    pub fn admit(&self, node: NodeId, disk: u64) -> bool {
        same(self.entitled(node), disk)
    }

    pub fn know(&self, node: NodeId) -> bool {
        self.read().contains_key(&node)
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<NodeId, u64>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a disk may be the expected one.
pub(crate) fn same(expected: u64, disk: u64) -> bool {
    expected == disk || expected == 0 || disk == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_disk_that_is_known_to_be_another_is_kept_out() {
        let rows = [(5, 5, true), (5, 6, false), (5, 0, true), (0, 6, true), (0, 0, true)];
        for (entitled, named, admitted) in rows {
            let disks = Disks::default();
            disks.set([(NodeId(1), entitled), (NodeId(2), 7)].into());
            assert_eq!(disks.admit(NodeId(1), named), admitted, "{named} where {entitled} is entitled");
            assert!(disks.admit(NodeId(3), named));
        }
    }
}
