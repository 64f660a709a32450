//! What is looked at in each turn: the replicas that have ended it, and what they ask for.
//!
//! Owns which check sees what. Changes nothing.

use super::World;
use crate::checks::View;
use crate::checks::turn::{self, Shown};
use crate::host::unix_at_origin;
use crate::place::{Place, Slot, group_in, slot_of};
use crate::subject::Subject;
use vlot_log::record::Write;
use vlot_node::act::{Act, Answer, Status};
use vlot_node::input::Input;
use vlot_node::state_machine::{Class, StateMachine};
use vlot_raft::id::{GroupId, LogId};
use vlot_raft::invariants::Violation;

/// A proposal that must be refused: its group, and its number.
pub(super) type Refused = (GroupId, u64);

impl<S: Subject> World<S> {
    /// Holds a turn, and the replicas that have ended it, against what must hold. `refused` must be refused in it.
    pub(super) fn look_at(&mut self, place: Place, acts: &[Act], refused: &[Refused]) -> Result<(), Violation> {
        turn::check_order(place, acts)?;
        for &(group, sequence) in refused {
            let is_refused = |act: &Act| matches!(act, Act::Answer { group: of, answer: Answer::NotProposed(number, _) } if *of == group && *number == sequence);
            turn::check_busy(place, acts.iter().any(is_refused))?;
        }
        self.look_at_leaders(place);
        for act in acts {
            if let Act::Write { writes, .. } = act {
                self.look_at_writes(place, writes)?;
                self.look_at_times(place, writes)?;
            }
        }
        for slot in 0..self.groups.len() {
            let (hosts, checks) = (&self.hosts, &mut self.groups[slot].checks);
            if let Some(raft) = hosts[place].raft(slot) {
                checks.turned(&View::of(place, raft), raft, |place| hosts[place].disk.durable(slot))?;
            }
        }
        Ok(())
    }

    fn look_at_leaders(&mut self, place: Place) {
        let (now, host) = (self.agenda.now(), &self.hosts[place]);
        for (slot, group) in self.groups.iter_mut().enumerate() {
            if let Some(raft) = host.raft(slot) {
                group.time.turned(&View::of(place, raft), now, host.clock.local(now));
            }
        }
    }

    fn look_at_times(&mut self, place: Place, writes: &[Write]) -> Result<(), Violation> {
        let host = &self.hosts[place];
        let local = host.clock.local(self.agenda.now());
        let unix = unix_at_origin(place) + local.since_origin();
        for write in writes {
            let Write::Append { group, entries, .. } = write else { continue };
            let slot = slot_of(*group);
            if let Some(raft) = host.raft(slot) {
                self.groups[slot].time.writes(&View::of(place, raft), entries, local, unix)?;
            }
        }
        Ok(())
    }

    fn look_at_writes(&mut self, place: Place, writes: &[Write]) -> Result<(), Violation> {
        for slot in 0..self.groups.len() {
            let (hosts, checks) = (&self.hosts, &mut self.groups[slot].checks);
            if let Some(raft) = hosts[place].raft(slot) {
                checks.writes(group_in(slot), &View::of(place, raft), writes)?;
            }
        }
        Ok(())
    }

    /// What of the inbox is proposed to a state machine that lags beyond its bound, as far as that is certain.
    pub(super) fn proposals_beyond_bound(&self, place: Place) -> Vec<Refused> {
        let Some(process) = &self.hosts[place].process else { return Vec::new() };
        let is_beyond = |slot: Slot| {
            process.replicas[slot]
                .as_ref()
                .is_some_and(|replica| replica.status.applying_bytes >= self.conditions.apply_bytes_max)
        };
        if !(0..self.groups.len()).any(is_beyond) {
            return Vec::new();
        }
        let mut refused = Vec::new();
        let mut relieved = Vec::new();
        for input in &process.inbox {
            match input {
                Input::Propose { group, proposals } if is_beyond(slot_of(*group)) && !relieved.contains(group) => {
                    let bulk = proposals.iter().filter(|proposal| proposal.class == Class::Bulk);
                    refused.extend(bulk.map(|proposal| (*group, proposal.sequence)));
                }
                Input::Applied { group, .. } | Input::Restored { group, .. } | Input::Failed { group, .. } => {
                    relieved.push(*group);
                }
                _ => {}
            }
        }
        refused
    }

    /// What a node shows of a group must not be more than there is.
    pub(super) fn check_status(&self, place: Place, slot: Slot, status: &Status) -> Result<(), Violation> {
        let Some(replica) = self.hosts[place].replica(slot) else { return Ok(()) };
        let applied = replica.machine.applied().index;
        let witness = self.hosts[place].raft(slot).is_some_and(|raft| raft.configuration().is_witness(raft.node()));
        let shown = Shown { applied: status.applied, bytes: status.applying_bytes };
        if witness { Ok(()) } else { turn::check_shown(place, shown, applied, self.conditions.apply_bytes_max) }
    }

    /// A log must not be cut beyond what its state machine has durably, and not at all if it makes no snapshots.
    pub(super) fn check_cuts(&self, place: Place, writes: &[Write]) -> Result<(), Violation> {
        for write in writes {
            let Write::LogStart { group, after, .. } = write else { continue };
            let slot = slot_of(*group);
            let Some(replica) = self.hosts[place].replica(slot).filter(|_| *after > LogId::ZERO) else { continue };
            let raft = self.hosts[place].raft(slot);
            // Nothing is applied by a witness, and nothing of its log is needed that is decided.
            if raft.is_some_and(|raft| raft.configuration().is_witness(raft.node())) {
                continue;
            }
            let kept = self.kept(place, slot, replica.machine.durable());
            turn::check_cut(place, *after, kept, replica.machine.makes_snapshots())?;
        }
        Ok(())
    }
}
