//! Where things are: nodes and groups by number, as they stand in lists.

use vlot_raft::id::{GroupId, NodeId};

/// A node's place in the world: `NodeId` minus one.
pub type Place = usize;

/// A group's place in a list: `GroupId` minus one.
pub type Slot = usize;

/// The node at a place.
#[must_use]
pub fn node_at(place: Place) -> NodeId {
    NodeId(place as u64 + 1)
}

/// Where a node listens.
#[must_use]
pub fn address_of(node: NodeId) -> String {
    format!("n{node}:1")
}

/// Where a node is.
#[must_use]
pub fn place_of(node: NodeId) -> Place {
    node.0 as Place - 1
}

/// The group in a slot.
#[must_use]
pub fn group_in(slot: Slot) -> GroupId {
    GroupId(slot as u64 + 1)
}

/// Where a group is.
#[must_use]
pub fn slot_of(group: GroupId) -> Slot {
    group.0 as Slot - 1
}
