//! State machines at work: what they are asked takes time, and comes back as inputs.
//!
//! Owns when a job is done. What is done is the library's (`vlot_node::machine`). Must not know why it was asked for.

use super::{Event, World};
use crate::agenda::Span;
use crate::checks::turn;
use crate::faults::Install;
use crate::host::worker::MachineJob;
use crate::place::{Place, Slot, group_in};
use crate::subject::{End, Reply, Subject};
use crate::transcript::Note;
use bytes::Bytes;
use std::sync::Arc;
use vlot_node::input::Input;
use vlot_node::machine::{self, Fence, Outcome};
use vlot_node::payload::{self, Payload};
use vlot_node::replica::Committed;
use vlot_node::state_machine::StateMachine;
use vlot_raft::id::LogId;
use vlot_raft::invariants::Violation;

/// More entries than this are not applied on a node's own thread.
const IN_PLACE_MAX: usize = 16;

impl<S: Subject> World<S> {
    pub(super) fn ask_machine(&mut self, place: Place, slot: Slot, job: MachineJob) {
        let Some(process) = &mut self.hosts[place].process else { return };
        if let Some(replica) = &mut process.replicas[slot] {
            replica.worker.ask(job);
            self.begin_machine(place, slot);
        }
    }

    /// Begins the next job, if a state machine has one and none is under way.
    fn begin_machine(&mut self, place: Place, slot: Slot) {
        let host = &mut self.hosts[place];
        let Some(replica) = host.process.as_mut().and_then(|process| process.replicas[slot].as_mut()) else { return };
        let Some(job) = replica.worker.begin() else { return };
        let takes = match replica.worker.current() {
            Some(MachineJob::TakeSnapshot) => Span(1),
            _ => (self.rng.skewed(self.conditions.apply) + Span(1)) * host.apply_slowness,
        };
        let done = (self.agenda.now() + takes).max(host.stuck_until[slot]);
        self.agenda.at(done, Event::Machine(place, host.incarnation, slot, job));
    }

    pub(super) fn machine_done(
        &mut self,
        place: Place,
        incarnation: u32,
        slot: Slot,
        job: u64,
    ) -> Result<(), Violation> {
        let now = self.agenda.now();
        let host = &mut self.hosts[place];
        if host.incarnation != incarnation {
            return Ok(());
        }
        let stands_still = host.paused_until.max(host.stuck_until[slot]);
        let Some(replica) = host.process.as_mut().and_then(|process| process.replicas[slot].as_mut()) else {
            return Ok(());
        };
        if now < stands_still && replica.worker.under_way() == Some(job) {
            self.agenda.at(stands_still, Event::Machine(place, incarnation, slot, job));
            return Ok(());
        }
        match replica.worker.finish(job) {
            Some(MachineJob::Apply(entries)) => self.apply_now(place, slot, entries)?,
            Some(MachineJob::Restore(id)) => self.restore_now(place, slot, id)?,
            Some(MachineJob::TakeSnapshot) => self.take_snapshot(place, slot),
            None => return Ok(()),
        }
        self.begin_machine(place, slot);
        Ok(())
    }

    /// Entries are to be applied: at once on the node's own thread, now and then, if that is certain to take no time.
    pub(super) fn apply(&mut self, place: Place, slot: Slot, entries: Vec<Committed>) -> Result<(), Violation> {
        let host = &self.hosts[place];
        turn::check_fenced(place, host.replica(slot).is_some_and(|replica| replica.status.fenced.is_some()))?;
        let is_idle = host.replica(slot).is_some_and(|replica| replica.worker.is_idle());
        let is_free = is_idle && host.apply_slowness == 1 && self.agenda.now() >= host.stuck_until[slot];
        if is_free
            && entries.len() <= IN_PLACE_MAX
            && self.rng.happens(self.conditions.in_place)
            && self.are_prompt(place, slot, &entries)
        {
            return self.apply_now(place, slot, entries);
        }
        self.ask_machine(place, slot, MachineJob::Apply(entries));
        Ok(())
    }

    fn are_prompt(&self, place: Place, slot: Slot, entries: &[Committed]) -> bool {
        let Some(replica) = self.hosts[place].replica(slot) else { return false };
        let (steps, bad) = machine::decode::<crate::host::machine_under_test::Machine<S>>(0, entries.to_vec());
        let is_prompt = |step: &machine::Step<_>| match step {
            machine::Step::Apply { command, .. } => replica.machine.is_prompt(command),
            machine::Step::Members { .. } | machine::Step::Time { .. } | machine::Step::Skip { .. } => true,
        };
        bad.is_none() && steps.iter().all(is_prompt)
    }

    fn apply_now(&mut self, place: Place, slot: Slot, mut entries: Vec<Committed>) -> Result<(), Violation> {
        let Some(process) = &mut self.hosts[place].process else { return Ok(()) };
        let origin = process.origin;
        let Some(replica) = process.replicas[slot].as_mut().filter(|replica| !replica.has_failed) else {
            return Ok(());
        };
        if replica.cannot_read {
            spoil_commands(&mut entries);
        }
        let before = replica.machine.applied();
        let (steps, bad) = machine::decode::<crate::host::machine_under_test::Machine<S>>(origin, entries.clone());
        let (upto, outcomes, failed) = match machine::apply(&mut replica.machine, before, steps) {
            Ok((upto, outcomes)) => (upto, outcomes, bad),
            Err(fence) => (before, Vec::new(), Some(fence)),
        };
        let (seen, durable) = (replica.machine.take_seen(), replica.machine.durable());
        let now = self.agenda.now();
        let has_panicked = matches!(failed, Some(Fence::Panicked { .. }));
        // What a state machine did before it panicked is not checked.
        if !has_panicked {
            let mut seen = seen.into_iter();
            for Committed { id, payload } in &entries {
                let count = payload.proposals().count().max(1);
                let of_entry: Vec<_> = seen.by_ref().take(count).collect();
                // It has stopped before the entry, or within it.
                let Some(state) = of_entry.last().filter(|_| of_entry.len() == count).map(|seen| seen.state) else {
                    break;
                };
                if let Some(other) = of_entry.iter().find(|seen| seen.state.applied != *id) {
                    let shown_by = format!("n{} was to apply {id}, and has applied {}", place + 1, other.state.applied);
                    return Err(Violation { property: "State Machine Safety", shown_by });
                }
                let replies = of_entry.into_iter().filter_map(|seen| seen.reply).collect();
                self.groups[slot].time.applied((place, now), *id, payload, state.time)?;
                self.groups[slot].checks.applied(place, payload, replies, state)?;
                self.groups[slot].members.applied(*id, payload);
            }
            self.note(Note::Applied(place, slot, upto));
        }
        self.tell_outcomes(place, slot, outcomes);
        if upto > before {
            self.tell_node(place, Input::Applied { group: group_in(slot), upto, durable });
        }
        if let Some(why) = failed {
            self.fail(place, slot, why);
        }
        Ok(())
    }

    fn tell_outcomes(&mut self, place: Place, slot: Slot, outcomes: Vec<Outcome<Reply<S>>>) {
        for outcome in outcomes {
            let Outcome::Applied(sequence, reply) = outcome else { continue };
            let replica = self.hosts[place].process.as_mut().and_then(|process| process.replicas[slot].as_mut());
            if let Some(op) = replica.and_then(|replica| replica.proposals.remove(&sequence)) {
                self.end(slot, op, End::Replied(reply));
            }
        }
    }

    /// A state machine has stopped for good.
    pub(super) fn fail(&mut self, place: Place, slot: Slot, why: Fence) {
        if let Some(replica) = self.hosts[place].process.as_mut().and_then(|process| process.replicas[slot].as_mut()) {
            replica.has_failed = true;
        }
        self.tell_node(place, Input::Failed { group: group_in(slot), why: Arc::new(why) });
    }

    pub(super) fn restore(&mut self, place: Place, slot: Slot, id: LogId) -> Result<(), Violation> {
        if !self.ends_here(place, Install::Begun) {
            self.ask_machine(place, slot, MachineJob::Restore(id));
        }
        Ok(())
    }

    fn take_snapshot(&mut self, place: Place, slot: Slot) {
        let Some(replica) = self.hosts[place].process.as_mut().and_then(|process| process.replicas[slot].as_mut())
        else {
            return;
        };
        replica.taken = if replica.has_failed { None } else { replica.machine.snapshot() };
        let id = replica.taken.as_ref().map(|snapshot| snapshot.at());
        self.tell_node(place, Input::SnapshotTaken { group: group_in(slot), id });
    }

    pub(super) fn answer_reads(&mut self, place: Place, slot: Slot, reads: Vec<u64>) {
        for read in reads {
            let replica = self.hosts[place].process.as_mut().and_then(|process| process.replicas[slot].as_mut());
            let Some(replica) = replica else { return };
            if let Some((op, query)) = replica.reads.remove(&read) {
                let answer = replica.machine.read(&query);
                self.end(slot, op, End::Answered(answer));
            }
        }
    }

    /// Hands an input to the process that runs.
    pub(super) fn tell_node(&mut self, place: Place, input: Input) {
        if let Some(process) = &mut self.hosts[place].process {
            process.inbox.push(input);
            self.wake(place);
        }
    }
}

/// What a program reads that does not know the commands.
fn spoil_commands(entries: &mut [Committed]) {
    for entry in entries {
        match &mut entry.payload {
            Payload::Command { command, .. } => *command = Bytes::new(),
            // The last of them: those before it must not be applied either.
            Payload::Commands(commands) => {
                let last = commands.len() - 1;
                let spoiled = commands.iter().enumerate().map(|(n, (id, command))| {
                    payload::command(id, command.len(), |out| out.extend(command.iter().filter(|_| n < last)))
                });
                if let Ok(spoiled) = payload::decode(payload::shared(spoiled)) {
                    entry.payload = spoiled;
                }
            }
            Payload::Blank | Payload::Configuration(_) | Payload::Withheld | Payload::Time(_) => {}
        }
    }
}
