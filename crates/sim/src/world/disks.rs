//! Disks: what log threads are asked, and what comes of it.

use super::{Event, START_AGAIN, World};
use crate::disk::{Broken, Job};
use crate::network::Place;
use crate::transcript::Note;
use vlot::node::Input;
use vlot_raft::invariants::Violation;

impl World {
    pub(super) fn ask_disk(&mut self, place: Place, job: Job) {
        if let Some(process) = &mut self.hosts[place].process {
            process.log.ask(job);
        }
    }

    pub(super) fn begin_disk(&mut self, place: Place) -> Result<(), Violation> {
        let host = &mut self.hosts[place];
        let Some(process) = &mut host.process else { return Ok(()) };
        match process.log.begin(&mut host.disk, self.conditions.sync, &mut self.disk_chance) {
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
        if let Some(batch) = done.written {
            process.inbox.push(Input::Written { batch });
            self.checks.synced(place, self.hosts[place].disk.durable())?;
            self.note(Note::Synced(place, batch.0));
        }
        if let Some(process) = &mut self.hosts[place].process {
            let fetched = done.fetched.into_iter();
            process.inbox.extend(fetched.map(|(group, purpose, entries)| Input::Fetched { group, purpose, entries }));
        }
        self.wake(place);
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
