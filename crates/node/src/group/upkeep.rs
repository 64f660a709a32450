//! What the node of a leader does for a group's members without being asked: writes down their disks, calls those that were
//! never seen, follows policies.
//!
//! Owns when each is due. What a policy asks for is in `policy.rs`. Must not know of other groups.

use bytes::Bytes;
use vlot_raft::effect::RoleName;
use vlot_raft::id::{NodeId, Term};
use vlot_raft::time::Time;

use super::{Group, Shared};
use crate::members::MemberChange;
use crate::policy::{self, MemberHealth, Policies, Watch};

/// How many election timeouts a group sleeps on while there is a member that was never seen.
const CALL_TIMEOUTS: u32 = 5;

/// What policies about members have asked for in this group.
#[derive(Debug)]
pub(super) struct Upkeep {
    watch: Watch,
    /// When a policy may have something to do.
    due: Time,
    /// When a group that sleeps is woken for a member that was never seen.
    call: Time,
    /// When a policy may ask again, after it has asked.
    again: Time,
    /// The term in which the leadership was to be transferred. One attempt a term: a node that did not take over then may
    /// be unable to in a way that does not show.
    balanced_in: Term,
}

impl Upkeep {
    /// Of a group in which nothing is due.
    pub(super) fn new() -> Self {
        let watch = Watch::default();
        Self { watch, due: Time::NEVER, call: Time::NEVER, again: Time::default(), balanced_in: Term::ZERO }
    }

    /// When some of it is due.
    pub(super) fn deadline(&self) -> Time {
        self.due.min(self.call)
    }
}

impl Group {
    /// A member that was never seen may know no other, and then hears only what is said to it: while there is one, a group
    /// that sleeps is woken now and then.
    pub(super) fn call_the_unseen(&mut self, now: Time, shared: &Shared<'_>) {
        let raft = self.replica.raft();
        let sleeps = self.is_asleep && raft.role_state().role == RoleName::Leader;
        let members = self.replica.members();
        let is_unseen = |node: NodeId| node != raft.node() && members.disk(node) == 0;
        if !sleeps || !members.configuration().nodes().any(is_unseen) {
            self.upkeep.call = Time::NEVER;
        } else if self.upkeep.call == Time::NEVER {
            self.upkeep.call = now + CALL_TIMEOUTS * shared.election_timeout;
        } else if now >= self.upkeep.call {
            self.upkeep.call = Time::NEVER;
            self.replica.wake(now, &mut self.work);
        }
    }

    /// A leader writes down which disk each member has, once it has seen it: from then on a member that comes with
    /// another, having lost what it had vouched for, is kept out until it is removed and added again. A connection that says
    /// nothing may be of a machine that is gone, whose place another has by now.
    pub(super) fn bind_disks(&mut self, now: Time, shared: &Shared<'_>) {
        if !self.disks_unknown {
            return;
        }
        let (members, raft) = (self.replica.members(), self.replica.raft());
        if !self.takes_changes() || members.configuration().is_joint() {
            return;
        }
        let own = raft.node();
        let disk_of = |node| if node == own { Some(shared.disk) } else { shared.peers.disk(node) };
        let is_there = |node| node == own || shared.peers.is_alive(now, node, shared.election_timeout);
        let unknown = members.iter().map(|(member, _)| member.node).filter(|node| members.disk(*node) == 0);
        let told = unknown.filter_map(|node| Some((node, disk_of(node)?)));
        let (seen, silent): (Vec<_>, Vec<_>) = told.partition(|(node, _)| is_there(*node));
        let changes: Vec<MemberChange> =
            seen.into_iter().map(|(node, disk)| MemberChange::BindDisk { node, disk }).collect();
        self.disks_unknown = !silent.is_empty();
        if !changes.is_empty() {
            self.replica.change_members(0, changes, Bytes::new());
        }
    }

    /// Whether this node leads, and could begin a change of members.
    fn takes_changes(&self) -> bool {
        let raft = self.replica.raft();
        // A leader takes no change before it has committed an entry of its own term.
        let is_settled = raft.log().term_at(raft.commit()) == Some(raft.role_state().term);
        is_settled && raft.takes_proposals() && raft.configurations().newest_at() <= raft.commit()
    }

    /// How a leader sees the other members; nothing unless this node leads. In a group that sleeps a replica says nothing,
    /// but its node is heard.
    pub(super) fn health_seen(&self, now: Time, shared: &Shared<'_>) -> impl Iterator<Item = MemberHealth> {
        let raft = self.replica.raft();
        let members = raft.peer_views().filter(|peer| raft.configuration().contains(peer.node));
        members.map(move |peer| {
            let answers = raft.is_asleep() || now.since(peer.heard) <= shared.election_timeout;
            let reached = answers && shared.peers.is_alive(now, peer.node, shared.election_timeout);
            MemberHealth { node: peer.node, reached, in_step: reached && peer.in_step }
        })
    }

    /// A leader changes members by itself, where that was asked for.
    pub(super) fn follow_policies(&mut self, now: Time, shared: &Shared<'_>) {
        let Policies { promote_learners, replace_dead, .. } = shared.policies;
        if promote_learners.is_none() && replace_dead.is_none() {
            return;
        }
        let raft = self.replica.raft();
        if raft.role_state().role != RoleName::Leader {
            self.upkeep.watch.forget();
            self.upkeep.due = Time::NEVER;
            return;
        }
        let seen: Vec<MemberHealth> = self.health_seen(now, shared).collect();
        self.upkeep.watch.observe(now, seen);
        self.upkeep.due = self.upkeep.watch.deadline(shared.policies, now);
        if !self.takes_changes() {
            return;
        }
        let sights = self.upkeep.watch.sights(now);
        let Some(changes) = policy::next_change(shared.policies, raft.node(), self.replica.members(), &sights) else {
            return;
        };
        if now >= self.upkeep.again {
            self.upkeep.again = now + shared.election_timeout;
            self.replica.change_members(0, changes, Bytes::new());
        }
        self.upkeep.due = self.upkeep.due.min(self.upkeep.again);
    }

    /// The members to which this node could transfer the leadership, so that it would stay there: none if it does not lead.
    pub(crate) fn successors(&self, now: Time, shared: &Shared<'_>) -> Vec<NodeId> {
        let raft = self.replica.raft();
        if self.closing.is_some() || !self.takes_changes() || raft.role_state().term <= self.upkeep.balanced_in {
            return Vec::new();
        }
        let configuration = raft.configuration();
        let leads = |node| configuration.stays_voter(node) && !configuration.is_witness(node);
        let in_step = self.health_seen(now, shared).filter(|seen| seen.in_step && leads(seen.node));
        let is_equal = |node: &NodeId| {
            raft.peer_views().any(|peer| peer.node == *node && peer.is_fit && peer.priority == raft.priority())
        };
        in_step.map(|seen| seen.node).filter(is_equal).collect()
    }

    /// Another node leads fewer groups.
    pub(crate) fn transfer_to_balance(&mut self, now: Time, to: NodeId) {
        self.upkeep.balanced_in = self.replica.raft().role_state().term;
        self.replica.transfer(now, 0, Some(to), &mut self.work);
    }
}
