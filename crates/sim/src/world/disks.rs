//! Disks: what log threads are asked, and what comes of it.

use super::{Event, LOOK_FOR_ROOM, START_AGAIN, World};
use crate::disk::Broken;
use crate::disk::log_thread::Job;
use crate::place::Place;
use crate::subject::Subject;
use crate::transcript::Note;
use vlot_node::input::Input;
use vlot_node::log_writer::Durable;
use vlot_raft::invariants::Violation;

impl<S: Subject> World<S> {
    pub(super) fn ask_disk(&mut self, place: Place, job: Job) {
        if let Some(process) = &mut self.hosts[place].process {
            process.log.ask(job);
        }
    }

    pub(super) fn begin_disk(&mut self, place: Place) -> Result<(), Violation> {
        let host = &mut self.hosts[place];
        let Some(process) = &mut host.process else { return Ok(()) };
        match process.log.begin(&mut host.disk, self.conditions.sync, &mut self.disk_rng) {
            Ok(None) => {}
            Ok(Some(takes)) => {
                let job = process.log.under_way().unwrap_or_default();
                self.agenda.after(takes, Event::Disk(place, host.incarnation, job));
            }
            Err(broken) => return self.storage_failed(place, broken),
        }
        Ok(())
    }

    pub(super) fn disk_done(&mut self, place: Place, incarnation: u32, job: u64) -> Result<(), Violation> {
        let host = &mut self.hosts[place];
        let Some(process) = host.process.as_mut().filter(|_| host.incarnation == incarnation) else { return Ok(()) };
        if process.log.under_way() != Some(job) {
            return Ok(());
        }
        if self.agenda.now() < host.paused_until {
            self.agenda.at(host.paused_until, Event::Disk(place, incarnation, job));
            return Ok(());
        }
        let done = match process.log.finish(&mut host.disk) {
            Ok(done) => done,
            Err(broken) => return self.storage_failed(place, broken),
        };
        let batch = match done.durable {
            Some(Durable::All(batch)) => {
                process.inbox.push(Input::Written { batch });
                Some((batch, true))
            }
            Some(Durable::ButForEntries(batch)) => {
                process.inbox.push(Input::VotesWritten { batch });
                Some((batch, false))
            }
            None => None,
        };
        if let Some(is_there) = done.has_room {
            process.inbox.push(Input::Room { is_there });
            if !is_there {
                self.agenda.after(LOOK_FOR_ROOM, Event::Room(place, incarnation));
            }
        }
        let fetched = done.fetched.into_iter();
        process.inbox.extend(fetched.map(|(group, purpose, entries)| Input::Fetched { group, purpose, entries }));
        if done.wrote {
            for (slot, group) in self.groups.iter_mut().enumerate() {
                group.checks.synced(place, self.hosts[place].disk.durable(slot))?;
            }
        }
        if let Some((batch, whole)) = batch {
            self.note(Note::Synced(place, batch.0, whole));
        }
        self.wake(place);
        self.begin_disk(place)
    }

    /// A process with a full disk looks whether there is room.
    pub(super) fn look_for_room(&mut self, place: Place, incarnation: u32) -> Result<(), Violation> {
        let host = &mut self.hosts[place];
        let Some(process) = host.process.as_mut().filter(|_| host.incarnation == incarnation) else { return Ok(()) };
        if !process.log.is_full() {
            return Ok(());
        }
        self.agenda.after(LOOK_FOR_ROOM, Event::Room(place, incarnation));
        if self.agenda.now() < host.paused_until {
            return Ok(());
        }
        self.ask_disk(place, Job::TryAgain);
        self.begin_disk(place)
    }

    /// A process whose storage fails stops before it can lie.
    pub(super) fn storage_failed(&mut self, place: Place, broken: Broken) -> Result<(), Violation> {
        match broken {
            Broken::Wrong(violation) => Err(violation),
            Broken::Storage => {
                self.end_process(place, "storage failed");
                self.agenda.after(START_AGAIN, Event::Start(place));
                Ok(())
            }
        }
    }
}
