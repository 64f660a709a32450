//! Snapshots: how they get from one machine to another, and how a state machine becomes one.
//!
//! Owns the order of it, which is that of the library (`vlot/src/exchange.rs`, `driver.rs`): the file is durable, the
//! log is asked to begin after it, the state machine becomes it. Must not know why a snapshot is needed.

use super::{Event, World};
use crate::faults::{Crash, Install};
use crate::host::GROUP;
use crate::network::{Place, node_at, place_of};
use crate::shelf::{Purpose, Snapshot};
use crate::transcript::Note;
use vlot::node::Input;
use vlot_raft::id::{LogId, NodeId};
use vlot_raft::invariants::Violation;

/// How far a snapshot has come on its way to a process.
#[derive(Debug)]
pub(super) enum Stage {
    /// Another machine is asked for it, in this attempt.
    Asked(Place, u64),
    /// It is here, over this connection, and not written down.
    Come(Place, u32, u64, Box<Snapshot>),
    /// Its file is about to be durable.
    Staging(u64),
    /// No one is to wait for this attempt any longer.
    GivenUp(u64),
    /// The file of the process's own state is about to be durable.
    Saving,
}

impl World {
    /// Begins to get a snapshot that reaches `reach`, unless one is on its way.
    pub(super) fn fetch(&mut self, place: Place, leader: NodeId, reach: LogId) {
        let host = &mut self.hosts[place];
        let incarnation = host.incarnation;
        let Some(process) = &mut host.process else { return };
        let Some(attempt) = process.begin_fetch(reach) else { return };
        let members = process.core.members(GROUP).map(|members| members.configuration().clone()).unwrap_or_default();
        let could = |node: &NodeId| !members.is_witness(*node) && *node != leader && *node != node_at(place);
        let others: Vec<NodeId> = members.nodes().filter(could).collect();
        let from = if others.is_empty() || self.rng.coin() { leader } else { self.rng.pick(&others) };
        self.note(Note::Fetches(place, place_of(from), reach));
        let soon = self.rng.skewed(self.conditions.latency);
        self.agenda.after(soon, Event::Snapshot(place, incarnation, Stage::Asked(place_of(from), attempt)));
        let late = self.conditions.snapshot_timeout;
        self.agenda.after(late, Event::Snapshot(place, incarnation, Stage::GivenUp(attempt)));
    }

    pub(super) fn snapshot_goes_on(&mut self, place: Place, incarnation: u32, stage: Stage) -> Result<(), Violation> {
        let host = &self.hosts[place];
        if host.incarnation != incarnation || host.process.is_none() {
            return Ok(());
        }
        if self.agenda.now() < host.paused_until {
            self.agenda.at(host.paused_until, Event::Snapshot(place, incarnation, stage));
            return Ok(());
        }
        match stage {
            Stage::Asked(from, attempt) => self.send_snapshot(place, from, attempt),
            Stage::Come(from, connection, attempt, snapshot) => {
                let is_whole = self.network.connected(from, place)
                    && self.network.connection(from, place) == connection
                    && self.network.can_connect(from, place);
                if is_whole && self.is_fetching(place, attempt) {
                    self.write_down(place, attempt, &snapshot);
                }
            }
            Stage::Staging(attempt) if self.is_fetching(place, attempt) => return self.stage(place),
            Stage::GivenUp(attempt) if self.is_fetching(place, attempt) => self.end_fetch(place),
            Stage::Staging(_) | Stage::GivenUp(_) => {}
            Stage::Saving => self.saved(place),
        }
        Ok(())
    }

    fn is_fetching(&self, place: Place, attempt: u64) -> bool {
        let process = self.hosts[place].process.as_ref();
        process.and_then(|process| process.fetching).is_some_and(|fetch| fetch.attempt == attempt)
    }

    fn end_fetch(&mut self, place: Place) {
        if let Some(process) = &mut self.hosts[place].process {
            process.fetching = None;
        }
    }

    /// A machine is asked for a snapshot. It sends one if its own reaches far enough, and says nothing if not.
    fn send_snapshot(&mut self, to: Place, from: Place, attempt: u64) {
        let Some(fetch) = self.hosts[to].process.as_ref().and_then(|process| process.fetching) else { return };
        let stands_still = self.agenda.now() < self.hosts[from].paused_until;
        if fetch.attempt != attempt || stands_still || !self.network.connected(from, to) {
            return;
        }
        // A state machine is asked now and then, and has made itself durable by the time that it is asked again.
        let host = &mut self.hosts[from];
        if let Some(process) = host.process.as_ref().filter(|_| !self.conditions.in_memory)
            && host.image.applied.index < fetch.reach.index
            && fetch.reach.index <= process.registers.applied.index
        {
            host.image = process.registers;
        }
        let Some(snapshot) = self.snapshot_of(from).filter(|it| it.registers.applied.index >= fetch.reach.index) else {
            return;
        };
        let takes = self.conditions.latency + self.rng.skewed(self.conditions.snapshot_takes);
        let is_lost = self.rng.happens(self.conditions.snapshot_loss);
        self.note(Note::SendsSnapshot(from, to, snapshot.registers.applied, is_lost));
        if !is_lost {
            let connection = self.network.connection(from, to);
            let stage = Stage::Come(from, connection, attempt, Box::new(snapshot));
            self.agenda.after(takes, Event::Snapshot(to, self.hosts[to].incarnation, stage));
        }
    }

    /// A machine's state as its state machine gives it: what it has durably, if it keeps that by itself.
    fn snapshot_of(&self, place: Place) -> Option<Snapshot> {
        let host = &self.hosts[place];
        let process = host.process.as_ref()?;
        let registers = if self.conditions.in_memory { process.registers } else { host.image };
        let members = process.core.members_at(GROUP, registers.applied.index)?.clone();
        Some(Snapshot { registers, members })
    }

    fn write_down(&mut self, place: Place, attempt: u64, snapshot: &Snapshot) {
        let host = &mut self.hosts[place];
        if host.shelf.write(Purpose::Received, snapshot).is_err() {
            return self.end_fetch(place);
        }
        let takes = self.disk_rng.skewed(self.conditions.sync) * host.disk.slowness.max(1);
        self.agenda.after(takes, Event::Snapshot(place, host.incarnation, Stage::Staging(attempt)));
        self.ends_here(place, Install::Come);
    }

    /// The file is durable, and the process is told.
    fn stage(&mut self, place: Place) -> Result<(), Violation> {
        self.end_fetch(place);
        let host = &mut self.hosts[place];
        let Ok(Snapshot { registers, members }) = host.shelf.finish(Purpose::Received) else { return Ok(()) };
        self.checks.staged(place, &registers, &members)?;
        let (incarnation, id) = (host.incarnation, registers.applied);
        self.note(Note::Staged(place, id));
        if !self.ends_here(place, Install::Staged) {
            self.give(place, incarnation, Input::SnapshotReceived { group: GROUP, id, members });
        }
        Ok(())
    }

    /// The state machine becomes the snapshot that the log begins after.
    pub(super) fn restore(&mut self, place: Place, id: LogId) -> Result<(), Violation> {
        let host = &mut self.hosts[place];
        let Some(process) = &mut host.process else { return Ok(()) };
        // The next one may be here already.
        let Some(Snapshot { registers, .. }) = host.shelf.newest(|saved| saved == id) else {
            let shown_by = format!("n{} is to become the snapshot of {id}, and has none", place + 1);
            return Err(Violation { property: "Snapshot Safety", shown_by });
        };
        process.registers = registers;
        process.saved = id;
        if self.conditions.in_memory {
            host.shelf.remove_before(id);
        } else {
            host.image = registers;
            host.shelf.remove_before(LogId { index: id.index.next(), ..id });
        }
        self.sums.snapshots += 1;
        self.note(Note::Restored(place, id));
        self.checks.restored(place, &registers)?;
        self.ends_here(place, Install::Restored);
        Ok(())
    }

    /// Saves a snapshot of a state that lives in memory alone, so that the log can be cut.
    pub(super) fn save(&mut self, place: Place) {
        let Some(snapshot) = self.snapshot_of(place) else { return };
        let host = &mut self.hosts[place];
        let Some(process) = &mut host.process else { return };
        if host.shelf.write(Purpose::Saved, &snapshot).is_ok() {
            process.saving = true;
            let takes = self.disk_rng.skewed(self.conditions.sync * 4) * host.disk.slowness.max(1);
            self.agenda.after(takes, Event::Snapshot(place, host.incarnation, Stage::Saving));
        }
    }

    fn saved(&mut self, place: Place) {
        let host = &mut self.hosts[place];
        let finished = host.shelf.finish(Purpose::Saved);
        let Some(process) = &mut host.process else { return };
        process.saving = false;
        if let Ok(Snapshot { registers, .. }) = finished {
            process.saved = process.saved.max(registers.applied);
            host.shelf.remove_before(process.saved);
            let saved = process.saved;
            self.note(Note::Saved(place, saved));
            self.cut_long_log(place);
        }
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
