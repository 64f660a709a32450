//! What is seen of the whole: which node leads, which have caught up, and whether a run has ended well.
//!
//! Owns the phases of a run after all faults are over. Must not change anything but the phase.

use super::{Event, Phase, WATCH_EVERY, World};
use crate::agenda::{Moment, Span};
use crate::checks::removed_are_told::{self, Stray};
use crate::checks::{acknowledged_writes, progress};
use crate::host::Host;
use crate::place::{Place, Slot, group_in, node_at, place_of};
use crate::subject::Subject;
use vlot_raft::configuration::Configuration;
use vlot_raft::effect::{ProposalRefused, RoleName};
use vlot_raft::invariants::Violation;

const SERVING: Span = Span::seconds(2);
/// For how long all must have caught up: what has waited for a leader in the meantime comes at once, and may be much.
const STEADY: Span = Span::seconds(1);
pub(super) const SETTLING: Span = Span::millis(2_500);
/// How many entries a node may be behind that has caught up: those of the last moments.
const LAG_MAX: u64 = 10;

impl<S: Subject> World<S> {
    pub(super) fn watch(&mut self) -> Result<(), Violation> {
        let now = self.agenda.now();
        match self.phase {
            Phase::Electing(healed) => {
                let timeout = self.election_timeout();
                if self.agree_on_leaders() {
                    progress::check_leader(healed, Some(now), timeout)?;
                    self.phase = Phase::CatchingUp(now, None);
                } else if now > healed + timeout * progress::ELECTION_TIMEOUTS {
                    progress::check_leader(healed, None, timeout)?;
                }
            }
            Phase::CatchingUp(agreed, since) => {
                let (lags, told) = (self.what_lags(), self.check_strays());
                if lags.is_none() && told.is_ok() {
                    let since = since.unwrap_or(now);
                    let is_steady = now >= since + STEADY;
                    self.phase = if is_steady { Phase::Serving(now) } else { Phase::CatchingUp(agreed, Some(since)) };
                } else if now > agreed + progress::CATCH_UP {
                    told?;
                    progress::check_catch_up(agreed, lags)?;
                } else {
                    self.phase = Phase::CatchingUp(agreed, None);
                }
            }
            Phase::Serving(since) if now >= since + SERVING => self.phase = Phase::Settling(since, now),
            Phase::Trial(trial) => self.try_on(trial)?,
            Phase::Storm | Phase::Serving(_) | Phase::Settling(..) | Phase::Over => {}
        }
        self.agenda.after(WATCH_EVERY, Event::Watch);
        Ok(())
    }

    pub(super) fn election_timeout(&self) -> Span {
        Span(u64::try_from(self.conditions.election_timeout.as_nanos()).unwrap_or(u64::MAX))
    }

    pub(super) fn leader(&self, slot: Slot) -> Option<Place> {
        let leading = |host: &&Host<S>| host.raft(slot).is_some_and(|raft| raft.role_state().role == RoleName::Leader);
        let term = |host: &&Host<S>| host.raft(slot).map(|raft| raft.role_state().term);
        self.hosts.iter().filter(leading).max_by_key(term).map(|host| host.place)
    }

    /// The members as the leader sees them.
    fn members_of_leader(&self, slot: Slot) -> Option<(Place, &Configuration)> {
        let leader = self.leader(slot)?;
        Some((leader, self.hosts[leader].raft(slot)?.configuration()))
    }

    /// The machines of the members, but for one whose disk is lost.
    fn hosts_of<'a>(&'a self, members: &'a Configuration) -> impl Iterator<Item = &'a Host<S>> {
        members.nodes().map(|node| &self.hosts[place_of(node)]).filter(|host| host.in_service)
    }

    /// Whether in every group all members are up and know the same leader, which knows it too.
    fn agree_on_leaders(&self) -> bool {
        (0..self.groups.len()).all(|slot| {
            let Some((leader, members)) = self.members_of_leader(slot) else { return false };
            let leader = Some(node_at(leader));
            let knows = |host: &Host<S>| host.raft(slot).is_some_and(|raft| raft.role_state().leader == leader);
            self.hosts_of(members).all(knows)
        })
    }

    /// What is missing until all have caught up: no change of members is under way or on its way, all of them know it, have
    /// room on their disks, and have applied nearly everything that the leader has; in every group.
    fn what_lags(&self) -> Option<String> {
        if self.operators.has_lost_disk() || !self.no_change_is_on_its_way() {
            return Some("a change of members is on its way".into());
        }
        (0..self.groups.len()).find_map(|slot| Some(format!("in group {}: {}", slot + 1, self.what_lags_in(slot)?)))
    }

    fn what_lags_in(&self, slot: Slot) -> Option<String> {
        let Some((leader, members)) = self.members_of_leader(slot) else { return Some("nobody leads".into()) };
        let raft = self.hosts[leader].raft(slot)?;
        let (last, set_at) = (raft.log().last(), raft.configurations().newest_at());
        if members.is_joint() || set_at > raft.commit() {
            return Some(format!("the members of {set_at} are not settled"));
        }
        if raft.proposals_refused() == Some(ProposalRefused::NoSpace) {
            return Some("the leader takes no proposals".into());
        }
        if !self.are_disks_bound(slot, leader) {
            return Some("not all disks are written down".into());
        }
        self.hosts_of(members).find_map(|host| {
            let node = host.node();
            let (Some(replica), Some(theirs)) = (host.replica(slot), host.raft(slot)) else {
                return Some(format!("n{node} is down"));
            };
            // A witness has nothing to apply.
            let is_witness = members.is_witness(node);
            let upto = if is_witness { theirs.ready() } else { replica.machine.applied().index };
            if last.since(upto) >= LAG_MAX || upto < set_at {
                return Some(format!("n{node} has applied {upto} of {last}"));
            }
            // Whose log ends with another entry may yet need a snapshot, however few entries it lacks.
            let is_in_step = raft.log().contains(theirs.log().last_id());
            if !is_in_step || theirs.configurations().newest_at() != set_at {
                return Some(format!("the log of n{node} is another"));
            }
            (!theirs.has_room()).then(|| format!("n{node} has no room"))
        })
    }

    /// Whether the leader has written down the disks of all members that can be reached.
    fn are_disks_bound(&self, slot: Slot, leader: Place) -> bool {
        let members = self.hosts[leader].process.as_ref().and_then(|process| process.node.members(group_in(slot)));
        members.is_some_and(|members| {
            let mut nodes = members.configuration().nodes().filter(|node| self.hosts[place_of(*node)].in_service);
            nodes.all(|node| members.disk(node) != 0)
        })
    }

    /// Whether nodes that are no members leave the members alone.
    fn check_strays(&self) -> Result<(), Violation> {
        for slot in 0..self.groups.len() {
            let Some((_, members)) = self.members_of_leader(slot) else { continue };
            let outside = self.hosts.iter().filter(|host| !members.contains(host.node()));
            let strays = outside.filter_map(|host| host.raft(slot));
            removed_are_told::check(strays.map(Stray::of), members)?;
        }
        Ok(())
    }

    /// The members of a group that have a state machine to ask.
    pub(super) fn who_serves(&self, slot: Slot) -> Vec<Place> {
        let members = self.groups[slot].members.members();
        let keeps_payloads = |node: &_| !members.is_witness(*node);
        members.nodes().filter(keeps_payloads).map(place_of).collect()
    }

    pub(super) fn check_end(&self, agreed: Moment) -> Result<(), Violation> {
        for (slot, group) in self.groups.iter().enumerate() {
            group.workload.check()?;
            let disks: Vec<_> = self.hosts.iter().map(|host| host.disk.durable(slot)).collect();
            let replies = group.checks.state_machine_safety.replies();
            acknowledged_writes::check(group.workload.all_proposed(), replies, group.members.members(), &disks)?;
            progress::check_operations(group.workload.history(), agreed, |op| group.busy.contains(&op))?;
            let states = self.who_serves(slot).into_iter().filter_map(|place| {
                let state = self.hosts[place].replica(slot)?.machine.state();
                Some((place, state.applied, state.digest))
            });
            progress::check_agreement(&states.collect::<Vec<_>>())?;
        }
        Ok(())
    }
}
