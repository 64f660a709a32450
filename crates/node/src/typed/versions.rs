//! In which version a group's commands and snapshots are written.
//!
//! Owns what the members understand, and the rule that follows: a new version is used only when all members understand it, and
//! once it is used it stays, until it is limited. A part of the replicated state. Must not know what a version means.
//!
//! A program that changes the format of its commands understands the old and the new one, says so in
//! [`State::VERSIONS`](super::state::State::VERSIONS), and is rolled out node by node. Each node tells the group what it
//! understands; with the last of them the new version comes into use by itself. Until then every node may go back to the old
//! program. Afterwards [limit](Versions::limit) the version first: commands and snapshots are written in the old one again,
//! and once each node has a snapshot that was taken since, the old program reads everything that a node has.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use vlot_raft::id::NodeId;

use super::state::Version;
use crate::members::Members;

/// The first version of any program.
pub const FIRST: Version = 1;

/// What the members of a group understand, and what is used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Versions {
    pub(super) in_use: Version,
    pub(super) limit: Option<Version>,
    /// The members that apply commands, once they are known.
    pub(super) members: BTreeSet<NodeId>,
    /// The oldest and the newest version that a node understands. One that is not named understands the first alone.
    pub(super) understood: BTreeMap<NodeId, (Version, Version)>,
}

/// A version that cannot be the limit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BadLimit {
    /// A member that does not understand it.
    pub node: NodeId,
    /// The oldest version that it understands.
    pub oldest: Version,
    /// The newest.
    pub newest: Version,
}

impl Default for Versions {
    fn default() -> Self {
        Self { in_use: FIRST, limit: None, members: BTreeSet::new(), understood: BTreeMap::new() }
    }
}

impl Versions {
    /// In which version commands and snapshots are written.
    #[must_use]
    pub fn in_use(&self) -> Version {
        self.in_use
    }

    /// Beyond which version the group does not go by itself.
    #[must_use]
    pub fn limited_to(&self) -> Option<Version> {
        self.limit
    }

    /// What a node has said that it understands.
    #[must_use]
    pub fn understood_by(&self, node: NodeId) -> RangeInclusive<Version> {
        let (oldest, newest) = self.of(node);
        oldest..=newest
    }

    /// The members that hold the group back from a version, with the newest that each understands.
    #[must_use]
    pub fn holding_back(&self, version: Version) -> Vec<(NodeId, Version)> {
        let newest = self.members.iter().map(|node| (*node, self.of(*node).1));
        newest.filter(|(_, newest)| *newest < version).collect()
    }

    /// A node understands these.
    pub(super) fn understands(&mut self, node: NodeId, oldest: Version, newest: Version) {
        if (oldest, newest) == (FIRST, FIRST) {
            self.understood.remove(&node);
        } else {
            self.understood.insert(node, (oldest, newest));
        }
        self.raise();
    }

    /// These are the members. What others understand is forgotten.
    pub(super) fn members_changed(&mut self, members: &Members) {
        let applying = members.iter().filter(|(member, _)| !member.witness);
        self.members = applying.map(|(member, _)| member.node).collect();
        self.understood.retain(|node, _| self.members.contains(node));
        self.raise();
    }

    /// Writes commands and snapshots in this version at most, from now on; in the newest that all understand, if there is no
    /// limit.
    ///
    /// # Errors
    /// If a member does not understand it. Nothing has changed then.
    pub fn limit(&mut self, limit: Option<Version>) -> Result<(), BadLimit> {
        if let Some(version) = limit {
            let of_members = self.members.iter().map(|node| (*node, self.of(*node)));
            let bad = of_members.filter(|(_, (oldest, newest))| !(*oldest..=*newest).contains(&version));
            if let Some((node, (oldest, newest))) = bad.min() {
                return Err(BadLimit { node, oldest, newest });
            }
            self.in_use = self.in_use.min(version);
        }
        self.limit = limit;
        self.raise();
        Ok(())
    }

    fn of(&self, node: NodeId) -> (Version, Version) {
        self.understood.get(&node).copied().unwrap_or((FIRST, FIRST))
    }

    /// Goes on to the newest version that all members understand. Never goes back: there may be commands of the version in use.
    fn raise(&mut self) {
        let newest = self.members.iter().map(|node| self.of(*node).1).min();
        let newest = newest.map(|newest| newest.min(self.limit.unwrap_or(newest)));
        self.in_use = self.in_use.max(newest.unwrap_or(FIRST));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(nodes: &[u64]) -> Members {
        Members::of_voters(nodes.iter().map(|node| (NodeId(*node), String::new())))
    }

    #[test]
    fn a_version_is_used_once_all_members_understand_it_and_stays() {
        let mut versions = Versions::default();
        versions.understands(NodeId(1), 1, 3);
        assert_eq!(versions.in_use(), 1, "the members are not known");
        versions.members_changed(&members(&[1, 2, 3]));
        versions.understands(NodeId(2), 1, 2);
        assert_eq!((versions.in_use(), versions.holding_back(2)), (1, vec![(NodeId(3), 1)]));
        versions.understands(NodeId(3), 2, 2);
        assert_eq!(versions.in_use(), 2);
        versions.understands(NodeId(3), 1, 1);
        assert_eq!(versions.in_use(), 2, "a node that goes back is on its own");
        versions.understands(NodeId(3), 2, 4);
        versions.members_changed(&members(&[1, 3]));
        assert_eq!(versions.in_use(), 3, "the one that held it back is gone");
        versions.members_changed(&members(&[1, 2, 3]));
        assert_eq!((versions.in_use(), versions.understood_by(NodeId(2))), (3, 1..=1), "what it said was forgotten");
    }

    #[test]
    fn the_way_back_is_a_limit() {
        let mut versions = Versions::default();
        versions.members_changed(&members(&[1, 2]));
        versions.understands(NodeId(1), 1, 2);
        versions.understands(NodeId(2), 1, 2);
        assert_eq!(versions.in_use(), 2);
        assert_eq!(versions.limit(Some(3)), Err(BadLimit { node: NodeId(1), oldest: 1, newest: 2 }));
        assert_eq!(versions.limit(Some(1)), Ok(()));
        assert_eq!(versions.in_use(), 1);
        versions.understands(NodeId(2), 1, 1);
        assert_eq!(versions.limit(None), Ok(()));
        assert_eq!(versions.in_use(), 1, "one of them does not understand more");
        versions.understands(NodeId(2), 1, 2);
        assert_eq!(versions.in_use(), 2);
    }
}
