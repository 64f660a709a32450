//! What is seen of the whole: who leads, who has caught up, and whether a run has ended well.
//!
//! Owns the phases of a run after all faults are over. Must not change anything but the phase.

use super::{Event, Phase, WATCH_EVERY, World};
use crate::agenda::{Moment, Span};
use crate::checks::removed_are_told::{self, Stray};
use crate::checks::{acknowledged_writes, linearizability, progress};
use crate::host::Host;
use crate::network::{Place, node_at, place_of};
use vlot_raft::configuration::Configuration;
use vlot_raft::effect::{ProposalRefused, RoleName};
use vlot_raft::invariants::Violation;

const SERVING: Span = Span::seconds(2);
/// For how long all must have caught up: what has waited for a leader in the meantime comes at once, and may be much.
const STEADY: Span = Span::seconds(1);
pub(super) const SETTLING: Span = Span::millis(2_500);
/// How many entries a node may be behind that has caught up: those of the last moments.
const LAG_MAX: u64 = 10;

impl World {
    pub(super) fn watch(&mut self) -> Result<(), Violation> {
        let now = self.agenda.now();
        match self.phase {
            Phase::Electing(healed) => {
                let timeout = self.election_timeout();
                if self.agree_on_leader() {
                    progress::check_leader(healed, Some(now), timeout)?;
                    self.phase = Phase::CatchingUp(now, None);
                } else if now > healed + timeout * progress::ELECTION_TIMEOUTS {
                    progress::check_leader(healed, None, timeout)?;
                }
            }
            Phase::CatchingUp(agreed, since) => {
                let (have, told) = (self.have_caught_up(), self.check_strays());
                if have && told.is_ok() {
                    let since = since.unwrap_or(now);
                    let is_steady = now >= since + STEADY;
                    self.phase = if is_steady { Phase::Serving(now) } else { Phase::CatchingUp(agreed, Some(since)) };
                } else if now > agreed + progress::CATCH_UP {
                    told?;
                    progress::check_catch_up(agreed, have.then_some(now))?;
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

    pub(super) fn leader(&self) -> Option<Place> {
        let leading = |host: &&Host| host.raft().is_some_and(|raft| raft.role_state().role == RoleName::Leader);
        let term = |host: &&Host| host.raft().map(|raft| raft.role_state().term);
        self.hosts.iter().filter(leading).max_by_key(term).map(|host| host.place)
    }

    /// The members as the leader sees them.
    fn members_of_leader(&self) -> Option<(Place, &Configuration)> {
        let leader = self.leader()?;
        Some((leader, self.hosts[leader].raft()?.configuration()))
    }

    /// The machines of the members, but for one whose disk is lost.
    fn hosts_of<'a>(&'a self, members: &'a Configuration) -> impl Iterator<Item = &'a Host> {
        members.nodes().map(|node| &self.hosts[place_of(node)]).filter(|host| host.in_service)
    }

    /// Whether all members are up and know the same leader, which knows it too.
    fn agree_on_leader(&self) -> bool {
        let Some((leader, members)) = self.members_of_leader() else { return false };
        let knows = |host: &Host| host.raft().is_some_and(|raft| raft.role_state().leader == Some(node_at(leader)));
        self.hosts_of(members).all(knows)
    }

    /// Whether no change of members is under way or on its way, all of them know it, have room on their disks, and have applied nearly
    /// everything that the leader has.
    fn have_caught_up(&self) -> bool {
        let Some((leader, members)) = self.members_of_leader() else { return false };
        let Some(raft) = self.hosts[leader].raft() else { return false };
        let (last, set_at) = (raft.log().last(), raft.configurations().newest_at());
        let is_full = raft.proposals_refused() == Some(ProposalRefused::NoSpace);
        let is_settled = !members.is_joint() && set_at <= raft.commit() && self.no_change_is_on_its_way();
        if !is_settled || self.operators.has_lost_disk() || is_full {
            return false;
        }
        self.hosts_of(members).all(|host| {
            let (Some(process), Some(theirs)) = (&host.process, host.raft()) else { return false };
            // A witness has nothing to apply.
            let upto = if members.is_witness(host.node()) { theirs.ready() } else { process.registers.applied.index };
            // Whose log ends with another entry may yet need a snapshot, however few entries it lacks.
            let is_in_step = raft.log().contains(theirs.log().last_id()) && process.fetching.is_none();
            let knows_members = upto >= set_at && theirs.configurations().newest_at() == set_at;
            last.since(upto) < LAG_MAX && knows_members && is_in_step && theirs.has_room()
        })
    }

    /// Whether those who are no members leave them alone.
    fn check_strays(&self) -> Result<(), Violation> {
        let Some((_, members)) = self.members_of_leader() else { return Ok(()) };
        let strays = self.hosts.iter().filter(|host| !members.contains(host.node())).filter_map(Host::raft);
        removed_are_told::check(strays.map(Stray::of), members)
    }

    /// The members that have a state machine to ask.
    pub(super) fn who_serves(&self) -> Vec<Place> {
        let members = self.operators.members();
        let keeps_payloads = |node: &_| !members.is_witness(*node);
        members.nodes().filter(keeps_payloads).map(place_of).collect()
    }

    pub(super) fn check_end(&self, agreed: Moment) -> Result<(), Violation> {
        let history = self.workload.history();
        linearizability::check(history)?;
        let disks: Vec<_> = self.hosts.iter().map(|host| host.disk.durable()).collect();
        let outcomes = self.checks.state_machine_safety.outcomes();
        acknowledged_writes::check(history, outcomes, self.operators.members(), &disks)?;
        progress::check_operations(history, agreed)?;
        let served = self.who_serves().into_iter();
        let states: Vec<_> = served.filter_map(|place| Some(self.hosts[place].process.as_ref()?.registers)).collect();
        progress::check_agreement(&states)
    }
}
