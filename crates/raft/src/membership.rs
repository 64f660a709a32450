//! Who belongs to a group (Raft §6).
//!
//! Owns the set of voters. Learners and joint configurations are kinds of membership and belong here too; every
//! quorum of the protocol is asked of this type, so that none can overlook them.

use crate::id::NodeId;
use crate::quorum;

/// The members of a group.
///
/// Invariant: voters are sorted and each is there once.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Membership {
    voters: Vec<NodeId>,
}

impl Membership {
    /// A group of these voters.
    #[must_use]
    pub fn of_voters(voters: impl IntoIterator<Item = NodeId>) -> Self {
        let mut voters: Vec<NodeId> = voters.into_iter().collect();
        voters.sort_unstable();
        voters.dedup();
        Self { voters }
    }

    /// Those who vote, in order.
    #[must_use]
    pub fn voters(&self) -> &[NodeId] {
        &self.voters
    }

    /// Whether the node votes.
    #[must_use]
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.binary_search(&node).is_ok()
    }

    /// Whether `node` alone is a quorum.
    #[must_use]
    pub fn is_alone(&self, node: NodeId) -> bool {
        self.voters == [node]
    }

    /// Whether those for whom `agrees` holds are a quorum.
    pub fn is_quorum(&self, agrees: impl Fn(NodeId) -> bool) -> bool {
        self.reached(agrees) == Some(true)
    }

    /// The greatest value that a quorum has reached; `None` when there are no voters.
    pub fn reached<T: Copy + Ord>(&self, value_of: impl Fn(NodeId) -> T) -> Option<T> {
        quorum::reached(&self.voters, value_of)
    }
}
