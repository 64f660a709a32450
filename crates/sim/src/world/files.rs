//! Snapshot files: what they are asked takes time, and comes back as inputs.

use super::{Event, World};
use crate::agenda::Span;
use crate::faults::{Crash, Install};
use crate::host::worker::FileJob;
use crate::place::{Place, Slot, group_in, slot_of};
use crate::subject::Subject;
use crate::transcript::Note;
use std::rc::Rc;
use vlot_node::input::{Input, TransferDone};
use vlot_node::machine::{self, Fence};
use vlot_node::snapshot::Header;
use vlot_node::state_machine::{Snapshot, StateMachine};
use vlot_node::transfer::TransferAct;
use vlot_raft::id::LogId;
use vlot_raft::invariants::Violation;

impl<S: Subject> World<S> {
    pub(super) fn ask_files(&mut self, place: Place, slot: Slot, job: FileJob) {
        let Some(process) = &mut self.hosts[place].process else { return };
        if let Some(replica) = &mut process.replicas[slot] {
            replica.files.ask(job);
            self.begin_file(place, slot);
        }
    }

    fn begin_file(&mut self, place: Place, slot: Slot) {
        let host = &mut self.hosts[place];
        let Some(replica) = host.process.as_mut().and_then(|process| process.replicas[slot].as_mut()) else { return };
        let Some(job) = replica.files.begin() else { return };
        let takes = match replica.files.current() {
            Some(FileJob::Remove(_)) => Span(1),
            _ => (self.disk_rng.skewed(self.conditions.file) + Span(1)) * host.disk.slowness.max(1),
        };
        self.agenda.after(takes, Event::File(place, host.incarnation, slot, job));
    }

    pub(super) fn file_done(&mut self, place: Place, incarnation: u32, slot: Slot, job: u64) -> Result<(), Violation> {
        let host = &mut self.hosts[place];
        let Some(process) = host.process.as_mut().filter(|_| host.incarnation == incarnation) else { return Ok(()) };
        if self.agenda.now() < host.paused_until {
            self.agenda.at(host.paused_until, Event::File(place, incarnation, slot, job));
            return Ok(());
        }
        let job = process.replicas[slot].as_mut().and_then(|replica| replica.files.finish(job));
        match job {
            Some(FileJob::Save(header, snapshot)) => self.save_now(place, slot, &header, snapshot)?,
            Some(FileJob::Remove(before)) => {
                // What cannot be removed takes room, and does no harm.
                let _ = process.snapshots.remove_before(group_in(slot), before);
            }
            Some(FileJob::Transfer(act)) => self.transfer_now(place, slot, act)?,
            None => return Ok(()),
        }
        self.begin_file(place, slot);
        Ok(())
    }

    /// A snapshot that was taken is to be written, or dropped.
    pub(super) fn save(&mut self, place: Place, slot: Slot, header: Option<Header>) -> Result<(), Violation> {
        let replica = self.hosts[place].process.as_mut().and_then(|process| process.replicas[slot].as_mut());
        let taken = replica.and_then(|replica| replica.taken.take());
        let (Some(header), Some(snapshot)) = (header, taken) else { return Ok(()) };
        self.groups[slot].checks.snapshot(place, header.id.index, &header.members)?;
        self.ask_files(place, slot, FileJob::Save(header, snapshot));
        Ok(())
    }

    fn save_now(
        &mut self,
        place: Place,
        slot: Slot,
        header: &Header,
        mut snapshot: Box<dyn Snapshot>,
    ) -> Result<(), Violation> {
        let ends = self.hosts[place].ends_at_save.take();
        if ends.is_some() {
            self.hosts[place].files.turn_off(self.disk_rng.below(5));
        }
        let host = &mut self.hosts[place];
        let Some(process) = &mut host.process else { return Ok(()) };
        let saved = process.snapshots.save(header, &mut *snapshot);
        if let Some((how, down)) = ends {
            host.files.heal();
            self.end_as(place, how, down, "killed as it saves a snapshot");
            return Ok(());
        }
        if let (Ok(info), Some(replica)) = (&saved, &mut process.replicas[slot]) {
            replica.saved = replica.saved.max(info.id);
            let id = info.id;
            self.note(Note::Saved(place, slot, id));
        }
        let saved = saved.map_err(|error| error.to_string());
        self.tell_node(place, Input::Saved { group: group_in(slot), saved });
        Ok(())
    }

    pub(super) fn ask_transfer_step(&mut self, place: Place, act: TransferAct) {
        self.ask_files(place, slot_of(act.group()), FileJob::Transfer(act));
    }

    fn transfer_now(&mut self, place: Place, slot: Slot, act: TransferAct) -> Result<(), Violation> {
        self.note(Note::Snapshot(place, Rc::new(act.clone())));
        let Some(process) = &mut self.hosts[place].process else { return Ok(()) };
        let dir = &process.snapshots;
        let (mut step, mut received) = (None, None);
        let done = match act {
            TransferAct::FindSnapshot { group, to, attempt, reach, preferred } => {
                TransferDone::Found { group, to, attempt, found: dir.find(group, reach, preferred).unwrap_or_default() }
            }
            TransferAct::ReadChunk { group, to, attempt, info, offset, bytes } => {
                let read = dir.read_chunk(group, &info, offset, bytes);
                TransferDone::ChunkRead { group, to, attempt, offset, read }
            }
            TransferAct::OpenPart { group, attempt, info, .. } => {
                TransferDone::PartOpened { group, attempt, opened: dir.part(group, &info) }
            }
            TransferAct::WriteChunk { group, attempt, info, offset, bytes } => {
                step = Some(Install::Come);
                TransferDone::ChunkWritten { group, attempt, written: dir.write_chunk(group, &info, offset, &bytes) }
            }
            TransferAct::FinishPart { group, attempt, info, .. } => {
                step = Some(Install::Staged);
                let finished = dir.finish_part(group, &info);
                received = finished.as_ref().ok().cloned();
                TransferDone::PartFinished { group, attempt, finished }
            }
        };
        if let Some(header) = received {
            self.received(place, slot, &header)?;
        }
        if step.is_none_or(|step| !self.ends_here(place, step)) {
            self.tell_node(place, Input::TransferDone(done));
        }
        Ok(())
    }

    /// A snapshot is here, whole and durable.
    fn received(&mut self, place: Place, slot: Slot, header: &Header) -> Result<(), Violation> {
        self.note(Note::Staged(place, slot, header.id));
        self.groups[slot].checks.snapshot(place, header.id.index, &header.members)?;
        if let Some(replica) = self.hosts[place].process.as_mut().and_then(|process| process.replicas[slot].as_mut()) {
            replica.saved = replica.saved.max(header.id);
        }
        Ok(())
    }

    /// A state machine becomes a snapshot that is here.
    pub(super) fn restore_now(&mut self, place: Place, slot: Slot, id: LogId) -> Result<(), Violation> {
        let Some(process) = &mut self.hosts[place].process else { return Ok(()) };
        let Some(replica) = process.replicas[slot].as_mut().filter(|replica| !replica.has_failed) else {
            return Ok(());
        };
        if replica.cannot_read {
            self.fail(place, slot, Fence::BadSnapshot { of: id, why: "its program is a wrong one".into() });
            return Ok(());
        }
        let saved = process.snapshots.saved(group_in(slot), id);
        let bytes = saved
            .map_err(|error| error.to_string())
            .and_then(|saved| saved.ok_or("there is none")?.state().map_err(|error| error.to_string()));
        let restored = bytes.and_then(|mut bytes| {
            machine::restore(&mut replica.machine, id, &mut bytes).map_err(|fence| fence.to_string())
        });
        if let Err(why) = restored {
            let shown_by = format!("n{} is to become the snapshot of {id}: {why}", place + 1);
            return Err(Violation { property: "Snapshot Safety", shown_by });
        }
        let (state, durable) = (replica.machine.state(), replica.machine.durable());
        self.sums.snapshots += 1;
        self.note(Note::Restored(place, slot, id));
        self.groups[slot].time.is_at(place, id.index, state.time)?;
        self.groups[slot].checks.restored(place, state)?;
        if !self.ends_here(place, Install::Restored) {
            self.tell_node(place, Input::Restored { group: group_in(slot), id, durable });
        }
        Ok(())
    }

    /// What is durable of a state outside of the log: by itself, or in a snapshot.
    pub(super) fn kept(&self, place: Place, slot: Slot, durable: LogId) -> LogId {
        self.hosts[place].replica(slot).map_or(durable, |replica| durable.max(replica.saved))
    }

    /// Ends a process at a step of taking in a snapshot, if it is to end there.
    pub(super) fn ends_here(&mut self, place: Place, step: Install) -> bool {
        let Some((_, how, down)) = self.hosts[place].ends_at.take_if(|(at, ..)| *at == step) else { return false };
        self.end_as(place, how, down, "killed as it takes in a snapshot");
        true
    }

    fn end_as(&mut self, place: Place, how: Crash, down: Span, why: &'static str) {
        match how {
            Crash::PowerLoss => self.crash(place, how),
            Crash::Kill | Crash::KillInTurn => self.end_process(place, why),
        }
        self.agenda.after(down, Event::Start(place));
    }
}
