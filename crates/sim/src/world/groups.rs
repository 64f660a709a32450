//! Groups on a node: how one is begun, closed, and begun again while the node runs.

use super::{Event, Phase, World};
use crate::agenda::Span;
use crate::disk::{self, Broken};
use crate::fault_kind::FaultKind;
use crate::host::Recovered;
use crate::place::{Place, Slot, group_in};
use crate::subject::{End, Subject};
use crate::transcript::Note;
use vlot_node::act::ClosedLog;
use vlot_node::input::Input;
use vlot_node::state_machine::StateMachine;
use vlot_raft::invariants::Violation;

const PROPERTY: &str = "A Closed Group Is Quiet";

impl<S: Subject> World<S> {
    /// A process begins a group, at once or after its connections stand.
    pub(super) fn begin_or_wait(&mut self, place: Place, slot: Slot, recovered: Recovered) -> Result<(), Violation> {
        if !self.rng.happens(self.conditions.late_groups) {
            return self.begin(place, slot, recovered);
        }
        let wait = self.rng.skewed(Span::millis(300));
        self.wait_to_begin(place, slot, recovered, wait);
        Ok(())
    }

    fn wait_to_begin(&mut self, place: Place, slot: Slot, recovered: Recovered, wait: Span) {
        let incarnation = self.hosts[place].incarnation;
        if let Some(process) = &mut self.hosts[place].process {
            process.to_begin[slot] = Some(recovered);
            self.agenda.after(wait, Event::Begin(place, incarnation, slot));
        }
    }

    fn begin(&mut self, place: Place, slot: Slot, recovered: Recovered) -> Result<(), Violation> {
        let (now, seed) = (self.agenda.now(), self.rng.draw());
        let inner = self.groups[slot].workload.subject().machine();
        let (after, last) = (recovered.0.runs.after(), recovered.0.runs.last_id());
        match self.hosts[place].begin(now, &self.conditions, slot, inner, recovered, seed) {
            Ok(()) => {}
            Err(Broken::Storage) => return self.storage_failed(place, Broken::Storage),
            Err(Broken::Wrong(violation)) => return Err(violation),
        }
        let host = &self.hosts[place];
        let Some(state) = host.replica(slot).map(|replica| replica.machine.state()) else { return Ok(()) };
        self.groups[slot].time.is_at(place, state.applied.index, state.time)?;
        self.groups[slot].checks.begun(place, host.disk.durable(slot), state)?;
        self.note(Note::Begun(place, slot, after, last, state.applied));
        self.wake(place);
        // Some are closed before they have done anything.
        let closes = self.conditions.faults.iter().any(|(kind, _)| *kind == FaultKind::CloseGroup);
        if closes && self.phase == Phase::Storm && self.rng.below(8) == 0 {
            let closed = self.rng.skewed(Span::millis(50));
            self.close(place, slot, closed);
        }
        Ok(())
    }

    /// A group that was closed, or has waited, is begun.
    pub(super) fn begin_again(&mut self, place: Place, incarnation: u32, slot: Slot) -> Result<(), Violation> {
        let now = self.agenda.now();
        let host = &mut self.hosts[place];
        let Some(process) = host.process.as_mut().filter(|_| host.incarnation == incarnation) else { return Ok(()) };
        // The thread that begins groups is the one that takes turns: what is left of a turn comes first. It was decided
        // when the group was not there, and may say so.
        if now < host.paused_until || !process.left.is_empty() {
            let after_turn = host.paused_until.max(now + self.conditions.turn);
            self.agenda.at(after_turn, Event::Begin(place, incarnation, slot));
            return Ok(());
        }
        match process.to_begin[slot].take() {
            Some(recovered) => self.begin(place, slot, recovered),
            None => Ok(()),
        }
    }

    /// A group is to be closed, and to be begun again after a while. False if it is not there.
    pub(super) fn close(&mut self, place: Place, slot: Slot, closed: Span) -> bool {
        let Some(process) = &mut self.hosts[place].process else { return false };
        let Some(replica) = process.replicas[slot].as_mut().filter(|replica| !replica.is_closing) else { return false };
        replica.is_closing = true;
        process.closed_for[slot] = closed;
        self.tell_node(place, Input::Close { group: group_in(slot), remove: false });
        true
    }

    /// A group is closed: nothing of it is under way, and its log is what is on the disk.
    pub(super) fn closed(&mut self, place: Place, slot: Slot, log: Option<Box<ClosedLog>>) -> Result<(), Violation> {
        let host = &mut self.hosts[place];
        let Some(process) = &mut host.process else { return Ok(()) };
        let Some(mut replica) = process.replicas[slot].take() else { return Ok(()) };
        let is_quiet =
            replica.worker.is_idle() && !process.log.has_waiting(group_in(slot)) && !host.disk.has_unsynced(slot);
        let wait = process.closed_for[slot];
        if !is_quiet && !replica.has_failed {
            return wrong(format!("n{} has closed group {}, and something is under way", place + 1, slot + 1));
        }
        let Some(ClosedLog { state, damaged }) = log.map(|log| *log) else { return Ok(()) };
        let durable = disk::told(host.disk.durable(slot), damaged);
        if state != durable {
            return wrong(format!("n{} has closed its log as {state:?}, and on its disk is {durable:?}", place + 1));
        }
        if !replica.has_failed {
            replica.machine.close();
        }
        self.note(Note::Closed(place, slot));
        for op in replica.waiting().collect::<Vec<_>>() {
            self.end(slot, op, End::Unknown);
        }
        self.wait_to_begin(place, slot, (state, damaged), wait);
        Ok(())
    }
}

fn wrong(shown_by: String) -> Result<(), Violation> {
    Err(Violation { property: PROPERTY, shown_by })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditions::Conditions;
    use crate::machines::registers::RegistersUsed;
    use crate::place::node_at;
    use vlot_node::act::{Act, Complaint};

    fn run_for(world: &mut World<RegistersUsed>, span: Span) {
        let end = world.agenda.now() + span;
        while let Some(event) = world.agenda.next_event_until(end) {
            world.happen(event).unwrap();
        }
    }

    /// A frame came for a group that waits to be begun, and the process stood still before it could complain. When all
    /// faults are over it goes on, and the group waits no longer.
    #[test]
    fn what_is_left_of_a_turn_comes_before_a_group_begins() {
        let late = Conditions { late_groups: 1_000_000, turn: Span::millis(1), ..Conditions::calm(1) };
        let mut world = World::<RegistersUsed>::under(late, 1, false);
        world.start(0).unwrap();
        run_for(&mut world, Span::millis(5));
        let process = world.hosts[0].process.as_mut().unwrap();
        assert!(process.to_begin[0].is_some(), "it waits");
        let complaint = Complaint::UnknownGroup(group_in(0));
        process.left.push_back(Act::Complain { peer: node_at(1), complaint });
        world.heal();
        run_for(&mut world, Span::millis(5));
        assert!(world.hosts[0].process.as_ref().unwrap().left.is_empty(), "the turn is over");
        assert!(world.hosts[0].replica(0).is_some(), "the group has begun");
    }
}
