//! What a leader does about members by itself, where that was asked for: promote learners that keep up, replace voters that
//! have been gone for long, and spread leaders over nodes.
//!
//! The rules are pure functions of what a leader sees at one moment; [`Watch`] keeps since when it has seen it. A rule gives
//! one change at most, and none that the nodes which are reached could not carry to its end. Must not know of a log, or how
//! a change is made.

use std::collections::BTreeMap;
use std::time::Duration;

use vlot_raft::configuration::{Change, Configuration, Member, Seat};
use vlot_raft::id::{GroupId, NodeId};
use vlot_raft::time::Time;

use crate::members::{MemberChange, Members};

/// What a leader does about members by itself. Nothing, by default. The same on all nodes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Policies {
    /// A learner votes once it has been reached and in step for so long without a break. A standby
    /// ([`ReplaceDead::standbys`]) learns on. A voter that is to learn for good needs this to be off.
    pub promote_learners: Option<Duration>,
    /// A voter that is gone is replaced.
    pub replace_dead: Option<ReplaceDead>,
    /// A node that leads at least two groups more than another transfers one after the other, to a voter that keeps up and
    /// is to be preferred as much, until they lead as many.
    pub balance_leaders: bool,
}

/// How voters that are gone are replaced. A witness is not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReplaceDead {
    /// How long a leader must not have heard of a voter. Longer than any restart of a machine: what the voter had is copied
    /// anew, and it must not come back under its name with its old disk.
    pub after: Duration,
    /// The nodes that may take its seat, and where they listen: one that learns already, or else the first by its number.
    /// Each must have the group open, as one that joins.
    pub standbys: BTreeMap<NodeId, String>,
}

/// What a leader sees of another member.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MemberHealth {
    /// The member.
    pub node: NodeId,
    /// It was heard of within an election timeout.
    pub reached: bool,
    /// It has all that was committed a heartbeat ago.
    pub in_step: bool,
}

/// What a leader sees of another member, and for how long it has seen nothing else.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sight {
    /// The member.
    pub node: NodeId,
    /// For how long it has not been reached; none if it is.
    pub gone_for: Option<Duration>,
    /// For how long it has been reached and in step; none if it is not.
    pub in_step_for: Option<Duration>,
}

/// The change that is due, if one is. `sights` are what the leader, `own`, sees of all other members.
#[must_use]
pub fn next_change(policies: &Policies, own: NodeId, members: &Members, sights: &[Sight]) -> Option<Vec<MemberChange>> {
    let configuration = members.configuration();
    let reached = |node| node == own || sights.iter().any(|sight| sight.node == node && sight.gone_for.is_none());
    // One change after the other, and none by a leader that would soon be none.
    if configuration.is_joint() || !configuration.is_quorum(reached) {
        return None;
    }
    let scene = Scene { policies, configuration, sights };
    let changes = scene.replace_dead().or_else(|| scene.promote())?;
    ends_well(configuration, &changes, reached).then_some(changes)
}

/// Whether the nodes that are reached decide while the change is under way, and after it.
fn ends_well(now: &Configuration, changes: &[MemberChange], reached: impl Fn(NodeId) -> bool) -> bool {
    let changes: Vec<Change> = changes.iter().map(MemberChange::seat).collect();
    now.changed(&changes).is_ok_and(|next| next.is_quorum(&reached) && next.settled().is_quorum(&reached))
}

struct Scene<'a> {
    policies: &'a Policies,
    configuration: &'a Configuration,
    sights: &'a [Sight],
}

impl Scene<'_> {
    /// One voter at a time, the one that has been gone for longest.
    fn replace_dead(&self) -> Option<Vec<MemberChange>> {
        let ReplaceDead { after, standbys } = self.policies.replace_dead.as_ref()?;
        let gone = self.sights.iter().filter(|sight| self.is(sight.node, is_voter_with_data));
        let gone = gone.filter_map(|sight| Some((sight.gone_for.filter(|gone_for| gone_for >= after)?, sight.node)));
        let (_, dead) = gone.max()?;
        let learning = |node: &&NodeId| self.is(**node, is_learner);
        let in_step = |node: &&NodeId| self.sight(**node).is_some_and(|sight| sight.in_step_for.is_some());
        if let Some(&standby) = standbys.keys().filter(learning).find(in_step) {
            return Some(vec![MemberChange::Promote(standby), MemberChange::Remove(dead)]);
        }
        // One that is coming along is waited for, and one that does not come for as long as for the voter.
        let comes = |node: &NodeId| {
            self.sight(*node).is_none_or(|sight| sight.gone_for.is_none_or(|gone_for| gone_for < *after))
        };
        if standbys.keys().filter(learning).any(comes) {
            return None;
        }
        let (&node, address) = standbys.iter().find(|(node, _)| !self.configuration.contains(**node))?;
        Some(vec![MemberChange::AddLearner { node, address: address.clone() }])
    }

    /// One learner at a time, the one that has been in step for longest.
    fn promote(&self) -> Option<Vec<MemberChange>> {
        let after = self.policies.promote_learners?;
        let learners = self.sights.iter().filter(|sight| self.is(sight.node, is_learner));
        let learners = learners.filter(|sight| !self.is_standby(sight.node));
        let in_step = learners.filter_map(|sight| Some((sight.in_step_for?, sight.node)));
        let (_, node) = in_step.filter(|(in_step_for, _)| *in_step_for >= after).max()?;
        Some(vec![MemberChange::Promote(node)])
    }

    fn is_standby(&self, node: NodeId) -> bool {
        self.policies.replace_dead.as_ref().is_some_and(|replace| replace.standbys.contains_key(&node))
    }

    fn is(&self, node: NodeId, kind: fn(Member) -> bool) -> bool {
        self.configuration.get(node).is_some_and(kind)
    }

    fn sight(&self, node: NodeId) -> Option<&Sight> {
        self.sights.iter().find(|sight| sight.node == node)
    }
}

fn is_voter_with_data(member: Member) -> bool {
    member.seat == Seat::Voter && !member.witness
}

fn is_learner(member: Member) -> bool {
    member.seat == Seat::Learner && !member.witness
}

/// A group that this node leads, and the members to which it could transfer it, so that it would stay there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Led {
    /// The group.
    pub group: GroupId,
    /// Those that could lead it.
    pub successors: Vec<NodeId>,
}

/// The transfer that is due, if one is: from this node, which leads these groups, to the one that leads fewest. `leads` is how
/// many groups each node leads, of those that this node takes part in.
///
/// A difference of one is left alone, so that what one node gives another never comes back.
#[must_use]
pub fn next_transfer(own: NodeId, leads: &BTreeMap<NodeId, usize>, led: &[Led]) -> Option<(GroupId, NodeId)> {
    let count = |node: NodeId| leads.get(&node).copied().unwrap_or_default();
    let all = led.iter().flat_map(|Led { group, successors }| successors.iter().map(|node| (*group, *node)));
    let (group, to) = all.min_by_key(|(group, node)| (count(*node), *node, *group))?;
    (count(own) >= count(to) + 2).then_some((group, to))
}

/// Since when a leader has seen what it sees. Another leader begins anew, and waits for as long again.
#[derive(Clone, Debug, Default)]
pub struct Watch(BTreeMap<NodeId, Since>);

#[derive(Clone, Copy, Debug)]
struct Since {
    reached: bool,
    reached_or_gone: Time,
    in_step: Option<Time>,
}

impl Watch {
    /// Takes note of what is seen of all other members.
    pub fn observe(&mut self, now: Time, all: impl IntoIterator<Item = MemberHealth>) {
        let before = std::mem::take(&mut self.0);
        for MemberHealth { node, reached, in_step } in all {
            let was = before.get(&node);
            let reached_or_gone = was.filter(|was| was.reached == reached).map_or(now, |was| was.reached_or_gone);
            let in_step = (reached && in_step).then(|| was.and_then(|was| was.in_step).unwrap_or(now));
            self.0.insert(node, Since { reached, reached_or_gone, in_step });
        }
    }

    /// This node does not lead any more.
    pub fn forget(&mut self) {
        self.0.clear();
    }

    /// What is seen, and for how long.
    #[must_use]
    pub fn sights(&self, now: Time) -> Vec<Sight> {
        let sight = |(node, since): (&NodeId, &Since)| Sight {
            node: *node,
            gone_for: (!since.reached).then(|| now.since(since.reached_or_gone)),
            in_step_for: since.in_step.map(|in_step| now.since(in_step)),
        };
        self.0.iter().map(sight).collect()
    }

    /// When a rule next may have something to do though nothing happens.
    #[must_use]
    pub fn deadline(&self, policies: &Policies, now: Time) -> Time {
        let promote = policies.promote_learners;
        let replace = policies.replace_dead.as_ref().map(|replace| replace.after);
        let due = |since: &Since| {
            let promoted = since.in_step.zip(promote).map(|(in_step, after)| in_step + after);
            let replaced = replace.filter(|_| !since.reached).map(|after| since.reached_or_gone + after);
            promoted.into_iter().chain(replaced).filter(|time| *time > now).min()
        };
        self.0.values().filter_map(due).min().unwrap_or(Time::NEVER)
    }
}

#[cfg(test)]
mod tests;
