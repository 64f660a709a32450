//! Removed Members Are Told: a node that was removed, and would campaign among the members, comes to know that it is
//! none, and leaves them alone.

use super::violation;
use vlot_raft::configuration::Configuration;
use vlot_raft::id::NodeId;
use vlot_raft::invariants::Violation;
use vlot_raft::raft::Raft;

const PROPERTY: &str = "Removed Members Are Told";

/// What is known of a node that is not in the group.
#[derive(Clone, Copy, Debug)]
pub struct Stray<'a> {
    /// Which.
    pub node: NodeId,
    /// The members of the group, as its log says.
    pub configuration: &'a Configuration,
    /// It was told.
    pub told: bool,
}

impl<'a> Stray<'a> {
    /// What is known of a replica.
    #[must_use]
    pub fn of(raft: &'a Raft) -> Self {
        Self { node: raft.node(), configuration: raft.configuration(), told: raft.is_removed() }
    }

    /// Whether it still bothers the members: it takes itself for a voter, and one of them for another.
    #[must_use]
    pub fn bothers(&self, members: &Configuration) -> bool {
        let stands = self.configuration.is_voter(self.node) && !self.configuration.is_witness(self.node) && !self.told;
        stands && self.configuration.voters().any(|voter| members.contains(voter))
    }
}

/// Whether no node that was removed bothers the members. Asked when there was time enough to tell them.
///
/// # Errors
/// If one does.
pub fn check<'a>(strays: impl Iterator<Item = Stray<'a>>, members: &Configuration) -> Result<(), Violation> {
    match strays.filter(|stray| stray.bothers(members)).map(|stray| stray.node).next() {
        Some(node) => violation(PROPERTY, format!("n{node} does not know that it is no member any more")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_not_told_is_noticed() {
        let of = |nodes: &[u64]| Configuration::of_voters(nodes.iter().copied().map(NodeId));
        let judge = |known: &[u64], told| {
            let configuration = of(known);
            let stray = Stray { node: NodeId(3), configuration: &configuration, told };
            check([stray].into_iter(), &of(&[1, 2]))
        };
        assert_eq!(judge(&[1, 2, 3], true), Ok(()));
        assert_eq!(judge(&[1, 2], false), Ok(()), "its own log says so");
        assert_eq!(judge(&[3, 4], false), Ok(()), "it knows nobody whom it could bother");
        assert!(judge(&[1, 2, 3], false).is_err());
    }
}
