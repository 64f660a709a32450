//! Faults: how they are carried out, how they end, and how all of them end at once.

use super::{DIAL_AGAIN, Event, POWER_LOSS, Phase, WATCH_EVERY, World};
use crate::agenda::{Moment, Span};
use crate::fault_kind::FaultKind;
use crate::faults;
use crate::faults::{Crash, Failure, Fault};
use crate::place::{Place, Slot, group_in, node_at};
use crate::subject::Subject;
use crate::transcript::Note;
use vlot_node::input::Input;

impl<S: Subject> World<S> {
    pub(super) fn strike(&mut self, kind: FaultKind, apart: Span) {
        if self.phase != Phase::Storm {
            return;
        }
        let mut rng = self.fault_rng.clone();
        let slot = rng.below(self.groups.len() as u64) as Slot;
        let spare = self.spare(slot);
        let scene = self.scene(slot, &spare);
        let faults = faults::plan(kind, &scene, self.conditions.clock_drift, &mut rng);
        self.fault_rng = rng;
        // No operator changes the members while one of them is missed.
        let waits = kind.is_churn() && (self.operators.has_lost_disk() || self.has_rot());
        let mut has_struck = false;
        for fault in faults.into_iter().filter(|_| !waits) {
            self.note(Note::Struck(kind.name(), fault.clone()));
            has_struck |= self.begin_fault(kind, fault);
        }
        *self.sums.faults.entry(kind).or_default() += u64::from(has_struck);
        let next = self.fault_rng.span(Span::millis(10), apart * 2);
        self.agenda.after(next, Event::Strike(kind, apart));
    }

    /// Begins a fault. False if there is nothing that it could do.
    fn begin_fault(&mut self, kind: FaultKind, fault: Fault) -> bool {
        let now = self.agenda.now();
        let lasts = match &fault {
            Fault::Crash { place, how, down } => {
                self.crash(*place, *how);
                *down
            }
            Fault::CrashInInstall { place, how, step, down } => {
                self.hosts[*place].ends_at = Some((*step, *how, *down));
                return true;
            }
            Fault::Pause { place, pause } => {
                let host = &mut self.hosts[*place];
                host.paused_until = host.paused_until.max(now + *pause);
                return true;
            }
            Fault::PauseInTurn { place, pause } => {
                if let Some(process) = &mut self.hosts[*place].process {
                    process.stalls = Some(*pause);
                }
                return true;
            }
            Fault::Clock { place, leap, rate } => {
                self.hosts[*place].clock.change(now, *leap, *rate);
                self.groups.iter_mut().for_each(|group| group.time.leapt(*leap));
                if let Some(process) = &mut self.hosts[*place].process {
                    process.alarm = Moment::NEVER;
                    self.set_alarm(*place);
                }
                return true;
            }
            Fault::SlowApply { place, times, slow } => {
                self.hosts[*place].apply_slowness = *times;
                *slow
            }
            Fault::StuckApply { place, slot, stuck } => {
                let until = &mut self.hosts[*place].stuck_until[*slot];
                *until = (*until).max(now + *stuck);
                return true;
            }
            Fault::FailingApply { place, slot, how, repaired } => {
                if !self.break_program(*place, *slot, *how) {
                    return false;
                }
                *repaired
            }
            Fault::CrashInSave { place, how, down } => {
                self.hosts[*place].ends_at_save = Some((*how, *down));
                return true;
            }
            Fault::CloseGroup { place, slot, closed } => return self.close(*place, *slot, *closed),
            Fault::LostDisk { place } => return self.lose_disk(*place),
            Fault::Change { slot, changes } => {
                self.ask_change(*slot, changes.clone());
                return true;
            }
            Fault::Transfer { slot, to } => {
                self.ask_transfer(*slot, *to);
                return true;
            }
            Fault::Compact { place, slot } => {
                self.tell_node(*place, Input::Compact { group: group_in(*slot) });
                return true;
            }
            Fault::Burst { place, slot, writes } => return self.write_much(*place, *slot, *writes),
            Fault::DiskError { place, of_snapshots, after, sync } => {
                let seed = self.fault_rng.draw();
                let host = &self.hosts[*place];
                let sim = if *of_snapshots { &host.files } else { host.disk.sim() };
                if *sync {
                    sim.fail_sync(*after, seed)
                } else {
                    sim.fail_write(*after, seed)
                }
                return true;
            }
            Fault::Rot { place, down } => {
                // One at a time, and where the others are a quorum: what one has lost they must have, and must be able to
                // elect one of them.
                // What is lost comes back with a snapshot of another alone.
                if !self.conditions.snapshots || self.has_rot() || !self.may_lose(*place) || !self.rots(*place) {
                    return false;
                }
                self.crash(*place, Crash::Kill);
                *down
            }
            Fault::DiskFull { place, at_once, full } => {
                let disk = &mut self.hosts[*place].disk;
                disk.sim().limit_capacity(Some(0));
                disk.has_no_room = *at_once;
                *full
            }
            Fault::SlowDisk { place, times, slow } => {
                self.hosts[*place].disk.slowness = *times;
                *slow
            }
            Fault::Cut { directions, breaks, cut } => {
                for &(from, to) in directions {
                    self.network.cut(from, to);
                    if *breaks {
                        self.disconnect(from, to);
                        self.agenda.after(DIAL_AGAIN, Event::Dial(from, to));
                    }
                }
                *cut
            }
            Fault::Reset { a, b } => {
                self.disconnect(*a, *b);
                self.agenda.after(self.fault_rng.skewed(Span::millis(100)), Event::Dial(*a, *b));
                return true;
            }
            Fault::SlowLink { from, to, times, slow } => {
                self.network.slow(*from, *to, *times);
                *slow
            }
            Fault::Loss { per_million, storm } => {
                self.network.lose(*per_million);
                *storm
            }
        };
        self.agenda.after(lasts, Event::Over(kind, fault));
        true
    }

    fn has_rot(&self) -> bool {
        self.hosts.iter().any(|host| host.disk.has_rot)
    }

    fn rots(&mut self, place: Place) -> bool {
        let (node, host) = (node_at(place), &mut self.hosts[place]);
        host.disk.rot(node, self.conditions.segment_bytes, &mut self.fault_rng)
    }

    /// A state machine gets a program that fails at the next command. False if it has failed already.
    pub(super) fn break_program(&mut self, place: Place, slot: Slot, how: Failure) -> bool {
        let replica = self.hosts[place].process.as_mut().and_then(|process| process.replicas[slot].as_mut());
        let Some(replica) = replica.filter(|replica| !replica.has_failed) else { return false };
        match how {
            // Where a panic ends the process at once there is nothing to see of it.
            Failure::Panic if cfg!(panic = "unwind") => replica.machine.fail(),
            Failure::Panic | Failure::UnknownCommand => replica.cannot_read = true,
        }
        true
    }

    pub(super) fn crash(&mut self, place: Place, how: Crash) {
        match how {
            Crash::Kill => self.end_process(place, "killed"),
            Crash::KillInTurn => {
                if let Some(process) = &mut self.hosts[place].process {
                    process.doomed = true;
                }
            }
            Crash::PowerLoss => {
                self.end_process(place, POWER_LOSS);
                let seed = self.fault_rng.draw();
                self.hosts[place].disk.sim().crash(seed);
                self.hosts[place].files.crash(seed);
            }
        }
    }

    pub(super) fn end_fault(&mut self, kind: FaultKind, fault: &Fault) {
        if self.phase != Phase::Storm {
            return;
        }
        match fault {
            // A process that was to end in its turn may have had none, and goes on.
            Fault::Crash { place, .. } | Fault::Rot { place, .. } => {
                self.agenda.after(Span::ZERO, Event::Start(*place))
            }
            Fault::DiskFull { place, .. } => self.hosts[*place].disk.make_room(),
            Fault::SlowDisk { place, .. } => self.hosts[*place].disk.slowness = 1,
            Fault::Cut { directions, .. } => directions.iter().for_each(|&(from, to)| self.network.mend(from, to)),
            Fault::SlowLink { from, to, .. } => self.network.slow(*from, *to, 1),
            Fault::Loss { .. } => {
                self.network.lose(self.conditions.network.loss);
            }
            Fault::SlowApply { place, .. } => self.hosts[*place].apply_slowness = 1,
            // A process with a repaired program takes the place of the one that has failed.
            Fault::FailingApply { place, .. } => {
                self.end_process(*place, "its program is repaired");
                self.agenda.after(Span::millis(10), Event::Start(*place));
            }
            Fault::CrashInSave { .. } | Fault::StuckApply { .. } | Fault::CloseGroup { .. } => {}
            Fault::Pause { .. }
            | Fault::PauseInTurn { .. }
            | Fault::CrashInInstall { .. }
            | Fault::Clock { .. }
            | Fault::DiskError { .. }
            | Fault::LostDisk { .. }
            | Fault::Change { .. }
            | Fault::Transfer { .. }
            | Fault::Compact { .. }
            | Fault::Burst { .. }
            | Fault::Reset { .. } => {}
        }
        self.note(Note::Over(kind.name()));
    }

    pub(super) fn heal(&mut self) {
        let now = self.agenda.now();
        self.note(Note::Healed);
        self.network.heal();
        for place in 0..self.hosts.len() {
            self.heal_host(place);
        }
        self.phase = Phase::Electing(now);
        self.agenda.after(WATCH_EVERY, Event::Watch);
    }

    fn heal_host(&mut self, place: Place) {
        let now = self.agenda.now();
        let host = &mut self.hosts[place];
        host.heal(now);
        let has_failed = host.process.as_ref().is_some_and(|process| process.has_failed());
        if has_failed {
            self.end_process(place, "its program is repaired");
        }
        let host = &mut self.hosts[place];
        let incarnation = host.incarnation;
        let Some(process) = &mut host.process else {
            return self.agenda.after(self.rng.span(Span::ZERO, Span::millis(100)), Event::Start(place));
        };
        (process.doomed, process.stalls) = (false, None);
        // What stood still, or was slow, was to go on later than now.
        if let Some(job) = process.log.under_way() {
            self.agenda.after(self.conditions.sync, Event::Disk(place, incarnation, job));
        }
        for (slot, replica) in process.replicas.iter_mut().enumerate() {
            let Some(replica) = replica else { continue };
            (replica.cannot_read, process.closed_for[slot]) = (false, Span::ZERO);
            replica.machine.be_well();
            if let Some(job) = replica.worker.under_way() {
                self.agenda.after(self.conditions.apply, Event::Machine(place, incarnation, slot, job));
            }
            if let Some(job) = replica.files.under_way() {
                self.agenda.after(self.conditions.file, Event::File(place, incarnation, slot, job));
            }
        }
        for slot in 0..process.to_begin.len() {
            self.agenda.after(Span::millis(1), Event::Begin(place, incarnation, slot));
        }
        process.turn_due = false;
        self.wake(place);
    }
}
