//! Faults: how they are carried out, how they end, and how all of them end at once.

use super::{DIAL_AGAIN, Event, POWER_LOSS, Phase, WATCH_EVERY, World};
use crate::agenda::{Moment, Span};
use crate::faults;
use crate::faults::{Crash, Fault, FaultKind};
use crate::host::GROUP;
use crate::network::{Place, node_at};
use crate::transcript::Note;
use vlot::node::Input;

/// How many entries are kept at least once all faults are over.
const ENTRIES_KEPT_MIN: u64 = 50;

impl World {
    pub(super) fn strike(&mut self, kind: FaultKind, apart: Span) {
        if self.phase != Phase::Storm {
            return;
        }
        let spare = self.spare();
        let scene = self.scene(&spare);
        let mut rng = self.fault_rng.clone();
        let faults = faults::plan(kind, &scene, self.conditions.clock_drift, &mut rng);
        self.fault_rng = rng;
        // Nobody changes the members while one of them is missed.
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
                if let Some(process) = &mut self.hosts[*place].process {
                    process.alarm = Moment::NEVER;
                    self.set_alarm(*place);
                }
                return true;
            }
            Fault::Unfit { place, unfit } => {
                self.tell_fitness(*place, false);
                *unfit
            }
            Fault::LostDisk { place } => return self.lose_disk(*place),
            Fault::Change { changes } => {
                self.ask_change(changes.clone());
                return true;
            }
            Fault::Transfer { to } => {
                self.ask_transfer(*to);
                return true;
            }
            Fault::Compact { place, part } => {
                self.cut_log(*place, *part);
                return true;
            }
            Fault::Burst { place, writes } => return self.write_much(*place, *writes),
            Fault::DiskError { place, of_snapshots, after, sync } => {
                let seed = self.fault_rng.draw();
                let host = &self.hosts[*place];
                let sim = if *of_snapshots { host.shelf.sim() } else { host.disk.sim() };
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
                if self.has_rot() || !self.may_lose(*place) || !self.rots(*place) {
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

    fn tell_fitness(&mut self, place: Place, fit: bool) {
        let incarnation = self.hosts[place].incarnation;
        self.give(place, incarnation, Input::Fitness { group: GROUP, fit });
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
                self.hosts[place].shelf.sim().crash(seed);
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
                self.network.lose(self.conditions.loss);
            }
            Fault::Unfit { place, .. } => self.tell_fitness(*place, true),
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
        // A log so short that whoever is a moment late needs a snapshot lets nobody keep up.
        self.conditions.snapshot_loss = 0;
        self.conditions.entries_kept = self.conditions.entries_kept.map(|kept| kept.max(ENTRIES_KEPT_MIN));
        for place in 0..self.hosts.len() {
            let host = &mut self.hosts[place];
            host.paused_until = now;
            host.disk.heal();
            host.shelf.heal();
            host.ends_at = None;
            if let Some(process) = &mut host.process {
                (process.doomed, process.stalls) = (false, None);
                process.inbox.push(Input::Fitness { group: GROUP, fit: true });
                // What stood still, or was slow, was to go on later than now.
                if let Some(job) = process.log.under_way() {
                    self.agenda.after(self.conditions.sync, Event::Disk(place, host.incarnation, job));
                }
                process.turn_due = false;
                self.wake(place);
            } else {
                self.agenda.after(self.rng.span(Span::ZERO, Span::millis(100)), Event::Start(place));
            }
        }
        self.phase = Phase::Electing(now);
        self.agenda.after(WATCH_EVERY, Event::Watch);
    }
}
