//! Faults: how they are carried out, how they end, and how all of them end at once.

use super::{DIAL_AGAIN, Event, POWER_LOSS, Phase, WATCH_EVERY, World};
use crate::agenda::Span;
use crate::faults;
use crate::faults::{Crash, Fault, FaultKind};
use crate::network::Place;
use crate::transcript::Note;

impl World {
    pub(super) fn strike(&mut self, kind: FaultKind, apart: Span) {
        if self.phase != Phase::Storm {
            return;
        }
        *self.sums.faults.entry(kind).or_default() += 1;
        let leader = self.leader();
        for fault in faults::plan(kind, self.conditions.nodes, leader, &mut self.fault_chance) {
            self.note(Note::Struck(kind.name(), fault.clone()));
            self.begin_fault(kind, fault);
        }
        let next = self.fault_chance.span(Span::millis(10), apart * 2);
        self.agenda.after(next, Event::Strike(kind, apart));
    }

    pub(super) fn begin_fault(&mut self, kind: FaultKind, fault: Fault) {
        let now = self.agenda.now();
        let lasts = match &fault {
            Fault::Crash { place, how, down } => {
                self.crash(*place, *how);
                *down
            }
            Fault::Pause { place, pause } => {
                let host = &mut self.hosts[*place];
                host.paused_until = host.paused_until.max(now + *pause);
                return;
            }
            Fault::DiskError { place, after, sync } => {
                let seed = self.fault_chance.draw();
                let sim = self.hosts[*place].disk.sim();
                if *sync {
                    sim.fail_sync(*after, seed)
                } else {
                    sim.fail_write(*after, seed)
                }
                return;
            }
            Fault::DiskFull { place, full } => {
                self.hosts[*place].disk.sim().limit_capacity(Some(0));
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
                self.agenda.after(self.fault_chance.skewed(Span::millis(100)), Event::Dial(*a, *b));
                return;
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
                let seed = self.fault_chance.draw();
                self.hosts[place].disk.sim().crash(seed);
            }
        }
    }

    pub(super) fn end_fault(&mut self, kind: FaultKind, fault: &Fault) {
        if self.phase != Phase::Storm {
            return;
        }
        match fault {
            // A process that was to end in its turn may have had none, and goes on.
            Fault::Crash { place, .. } => self.agenda.after(Span::ZERO, Event::Start(*place)),
            Fault::DiskFull { place, .. } => self.hosts[*place].disk.sim().limit_capacity(None),
            Fault::SlowDisk { place, .. } => self.hosts[*place].disk.slowness = 1,
            Fault::Cut { directions, .. } => directions.iter().for_each(|&(from, to)| self.network.mend(from, to)),
            Fault::SlowLink { from, to, .. } => self.network.slow(*from, *to, 1),
            Fault::Loss { .. } => {
                self.network.lose(self.conditions.loss);
            }
            Fault::Pause { .. } | Fault::DiskError { .. } | Fault::Reset { .. } => {}
        }
        self.note(Note::Over(kind.name()));
    }

    pub(super) fn heal(&mut self) {
        let now = self.agenda.now();
        self.note(Note::Healed);
        self.network.heal();
        for place in 0..self.hosts.len() {
            let host = &mut self.hosts[place];
            host.paused_until = now;
            host.disk.heal();
            if let Some(process) = &mut host.process {
                process.doomed = false;
                // What stood still, or was slow, was to go on later than now.
                if let Some(job) = process.log.under_way() {
                    self.agenda.after(self.conditions.sync, Event::Disk(place, host.incarnation, job));
                }
                if std::mem::take(&mut process.turn_due) {
                    self.wake(place);
                }
            } else {
                self.agenda.after(self.chance.span(Span::ZERO, Span::millis(100)), Event::Start(place));
            }
        }
        self.phase = Phase::Electing(now);
        self.agenda.after(WATCH_EVERY, Event::Watch);
    }
}
