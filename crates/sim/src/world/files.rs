//! Snapshot files: what they are asked takes time, and comes back as inputs.

use super::{Event, World};
use crate::agenda::Span;
use crate::faults::{Crash, Install};
use crate::host::worker::FileJob;
use crate::place::{Place, Slot, group_in};
use crate::subject::Subject;
use vlot_node::input::Input;
use vlot_node::snapshot::Header;
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
        let Some(job) = process.replicas[slot].as_mut().and_then(|replica| replica.files.finish(job)) else {
            return Ok(());
        };
        match job {
            FileJob::Save(..) | FileJob::Remove(_) => {}
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

    pub(super) fn restore_now(&mut self, place: Place, slot: Slot, id: LogId) -> Result<(), Violation> {
        let _ = (place, slot, id, Input::Compact { group: group_in(slot) });
        Ok(())
    }

    /// What is durable of a state outside of the log, beside what its state machine has by itself.
    pub(super) fn kept(&self, place: Place, slot: Slot, durable: LogId) -> LogId {
        let _ = (place, slot);
        durable
    }

    /// Ends a process at a step of taking in a snapshot, if it is to end there.
    pub(super) fn ends_here(&mut self, place: Place, step: Install) -> bool {
        let Some((_, how, down)) = self.hosts[place].ends_at.take_if(|(at, ..)| *at == step) else { return false };
        match how {
            Crash::PowerLoss => self.crash(place, how),
            Crash::Kill | Crash::KillInTurn => self.end_process(place, "killed as it takes in a snapshot"),
        }
        self.agenda.after(down, Event::Start(place));
        true
    }
}
