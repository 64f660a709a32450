//! What operators do to a group: which nodes come, which go, and which leads.
//!
//! Owns the choice of a change, from the group as an operator knows it, which may be out of date. Must not know how a
//! change is asked for or what comes of it.

use crate::fault_kind::FaultKind;
use crate::place::{Place, Slot, node_at, place_of};
use crate::rng::Rng;
use vlot_node::members::MemberChange;
use vlot_raft::configuration::{Configuration, Seat};
use vlot_raft::id::NodeId;

/// More voters than this are not asked for.
const VOTERS_MAX: usize = 7;

/// What an operator sees.
#[derive(Clone, Copy, Debug)]
pub struct Scene<'a> {
    /// How many machines there are.
    pub hosts: usize,
    /// Which group it is about.
    pub slot: Slot,
    /// The leader, if there is one.
    pub leader: Option<Place>,
    /// The newest members that were applied anywhere.
    pub members: &'a Configuration,
    /// Machines that could come in.
    pub spare: &'a [Spare],
}

/// A machine outside of the group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Spare {
    /// Where it is.
    pub place: Place,
    /// It was a witness: what its log has of payloads is not whole, so it can only be one again.
    pub is_witness: bool,
}

/// Decides what change of this kind to ask for. Empty if the group is not one for it.
#[must_use]
pub fn plan(kind: FaultKind, scene: &Scene<'_>, rng: &mut Rng) -> Vec<MemberChange> {
    let voters: Vec<NodeId> = scene.members.voters().collect();
    let spare = |of_witness: bool, rng: &mut Rng| {
        let fits: Vec<Place> =
            scene.spare.iter().filter(|spare| of_witness || !spare.is_witness).map(|spare| spare.place).collect();
        (!fits.is_empty()).then(|| rng.pick(&fits)).map(node_at)
    };
    // A group of one or two is seldom wanted, and seen now and then.
    let may_shrink = voters.len() > 3 || voters.len() > 1 && rng.below(4) == 0;
    let may_grow = voters.len() < VOTERS_MAX;
    let one = |change: Option<MemberChange>| change.into_iter().collect();
    match kind {
        FaultKind::AddVoter if may_grow => one(spare(false, rng).map(voter)),
        FaultKind::AddLearner if may_grow => one(spare(false, rng).map(learner)),
        FaultKind::AddWitness if may_grow => one(spare(true, rng).map(witness)),
        FaultKind::Demote if may_shrink => vec![MemberChange::Demote(rng.pick(&voters))],
        FaultKind::Remove if may_shrink => {
            let members: Vec<NodeId> = scene.members.nodes().collect();
            vec![MemberChange::Remove(rng.pick(&members))]
        }
        FaultKind::RemoveLeader if may_shrink => {
            let leader = scene.leader.map(node_at).filter(|leader| scene.members.contains(*leader));
            one(leader.map(MemberChange::Remove))
        }
        FaultKind::Replace => replace(scene, rng),
        FaultKind::Move if !voters.is_empty() => {
            let members: Vec<NodeId> = scene.members.nodes().collect();
            let node = rng.pick(&members);
            let address = format!("n{node}:{}", rng.below(10_000));
            vec![MemberChange::Move { node, address }]
        }
        _ => Vec::new(),
    }
}

/// Some go and some come, all in one step; a learner may be promoted in it, and a voter may be demoted.
fn replace(scene: &Scene<'_>, rng: &mut Rng) -> Vec<MemberChange> {
    let mut changes = Vec::new();
    let mut stay = 0;
    for member in scene.members.members() {
        match (member.seat, rng.below(5)) {
            (Seat::Learner, 0 | 1) if !member.witness => changes.push(MemberChange::Promote(member.node)),
            (_, 0 | 1) => changes.push(MemberChange::Remove(member.node)),
            (Seat::Voter, 2) => changes.push(MemberChange::Demote(member.node)),
            (Seat::Voter, _) if !member.witness => stay += 1,
            _ => {}
        }
    }
    for spare in scene.spare.iter().filter(|spare| !spare.is_witness) {
        if stay < VOTERS_MAX && rng.below(3) > 0 {
            changes.push(voter(node_at(spare.place)));
            stay += 1;
        }
    }
    // Without a voter that keeps payloads the change would be refused; so would one that changes nothing.
    if stay == 0 { Vec::new() } else { changes }
}

/// A node comes in and votes.
#[must_use]
pub fn voter(node: NodeId) -> MemberChange {
    MemberChange::AddVoter { node, address: address(node) }
}

/// A node comes in and learns.
#[must_use]
pub fn learner(node: NodeId) -> MemberChange {
    MemberChange::AddLearner { node, address: address(node) }
}

/// A node comes in, votes, and keeps no payloads.
#[must_use]
pub fn witness(node: NodeId) -> MemberChange {
    MemberChange::AddWitness { node, address: address(node) }
}

fn address(node: NodeId) -> String {
    format!("n{node}:1")
}

/// Whose machines must run for a change to do more than wait: those of the nodes that come in.
pub fn who_comes(changes: &[MemberChange]) -> impl Iterator<Item = Place> + '_ {
    changes.iter().filter_map(|change| match change {
        MemberChange::AddVoter { node, .. }
        | MemberChange::AddLearner { node, .. }
        | MemberChange::AddWitness { node, .. } => Some(place_of(*node)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_churn_finds_a_change() {
        let members = Configuration::of_voters((1..=5).map(NodeId));
        let spare = [Spare { place: 5, is_witness: false }, Spare { place: 6, is_witness: true }];
        let scene = Scene { hosts: 7, slot: 0, leader: Some(2), members: &members, spare: &spare };
        for kind in FaultKind::ALL.iter().copied().filter(|kind| kind.is_churn() && *kind != FaultKind::LostDisk) {
            let planned = (0..50).map(|seed| plan(kind, &scene, &mut Rng::new(seed, 1)));
            let accepted = planned.filter(|changes| {
                let seats: Vec<_> = changes.iter().map(MemberChange::seat).collect();
                !changes.is_empty() && members.changed(&seats).is_ok()
            });
            assert!(accepted.count() > 25, "{}", kind.name());
        }
        let changes = plan(FaultKind::RemoveLeader, &scene, &mut Rng::new(1, 1));
        assert_eq!(changes, [MemberChange::Remove(NodeId(3))]);
    }

    #[test]
    fn who_was_a_witness_comes_back_as_one() {
        let members = Configuration::of_voters([NodeId(1)]);
        let spare = [Spare { place: 1, is_witness: true }];
        let scene = Scene { hosts: 2, slot: 0, leader: None, members: &members, spare: &spare };
        let rng = &mut Rng::new(1, 1);
        assert!(plan(FaultKind::AddVoter, &scene, rng).is_empty());
        assert_eq!(who_comes(&plan(FaultKind::AddWitness, &scene, rng)).collect::<Vec<_>>(), [1]);
    }
}
