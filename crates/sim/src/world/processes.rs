//! Processes: how they start, take turns and end.
//!
//! Owns the order in which a turn is carried out, which is that of the library's driver. Must not know of faults.

use super::{Event, POWER_LOSS, START_AGAIN, World};
use crate::agenda::{Moment, Span};
use crate::checks::View;
use crate::disk::{Broken, Job};
use crate::network::Place;
use crate::register::Written;
use crate::transcript::{Answer, Note};
use std::rc::Rc;
use vlot::node::{Input, Turn};
use vlot::payload::Payload;
use vlot::replica::Committed;
use vlot_raft::effect::RoleName;
use vlot_raft::invariants::Violation;

impl World {
    pub(super) fn start(&mut self, place: Place) -> Result<(), Violation> {
        if self.hosts[place].process.is_some() {
            return Ok(());
        }
        let (now, origin, seed) = (self.agenda.now(), self.chance.draw(), self.chance.draw());
        match self.hosts[place].start(now, &self.conditions, origin, seed) {
            Ok(()) => {}
            Err(Broken::Storage) => {
                self.note(Note::NotStarted(place));
                self.agenda.after(START_AGAIN, Event::Start(place));
                return Ok(());
            }
            Err(Broken::Wrong(violation)) => return Err(violation),
        }
        let host = &self.hosts[place];
        let (last, applied) = (host.disk.durable().runs.last_id(), host.image.applied);
        self.note(Note::Started(place, last, applied));
        self.checks.begun(place, self.hosts[place].disk.durable(), applied.index)?;
        for peer in (0..self.hosts.len()).filter(|&peer| peer != place) {
            // Whoever did not notice that the earlier process was gone does so when the new one calls.
            self.disconnect(place, peer);
            self.agenda.after(self.chance.skewed(Span::millis(10)), Event::Dial(place, peer));
        }
        self.wake(place);
        Ok(())
    }

    /// Hands an input to a process, if it is still there.
    pub(super) fn give(&mut self, place: Place, incarnation: u32, input: Input) {
        let host = &mut self.hosts[place];
        if host.incarnation == incarnation
            && let Some(process) = &mut host.process
        {
            process.inbox.push(input);
            self.wake(place);
        }
    }

    /// Lets a process end its turn soon.
    pub(super) fn wake(&mut self, place: Place) {
        let host = &mut self.hosts[place];
        if let Some(process) = &mut host.process
            && !std::mem::replace(&mut process.turn_due, true)
        {
            let soon = self.agenda.now() + self.conditions.turn;
            self.agenda.at(soon.max(host.paused_until), Event::Turn(place, host.incarnation));
        }
    }

    pub(super) fn ring(&mut self, place: Place, incarnation: u32) {
        let host = &mut self.hosts[place];
        let Some(process) = host.process.as_mut().filter(|_| host.incarnation == incarnation) else { return };
        if self.agenda.now() < process.alarm {
            return;
        }
        process.alarm = Moment::NEVER;
        if host.clock.local(self.agenda.now()) >= process.core.deadline() {
            self.wake(place);
        } else {
            self.set_alarm(place);
        }
    }

    /// Makes sure that a process looks at its deadline when it is due. A deadline that moves on is looked at too early,
    /// and once more.
    pub(super) fn set_alarm(&mut self, place: Place) {
        let host = &mut self.hosts[place];
        if let Some(process) = &mut host.process {
            let due = host.clock.moment(process.core.deadline());
            if due < process.alarm {
                process.alarm = due;
                self.agenda.at(due, Event::Alarm(place, host.incarnation));
            }
        }
    }

    pub(super) fn turn(&mut self, place: Place, incarnation: u32) -> Result<(), Violation> {
        let now = self.agenda.now();
        let host = &mut self.hosts[place];
        let Some(process) = host.process.as_mut().filter(|_| host.incarnation == incarnation) else { return Ok(()) };
        if now < host.paused_until {
            process.stood_still = true;
            self.agenda.at(host.paused_until, Event::Turn(place, incarnation));
            return Ok(());
        }
        process.turn_due = false;
        let time = host.clock.local(now);
        if std::mem::take(&mut process.stood_still) && self.chance.coin() {
            // Its timers come first, and then what its peers have sent meanwhile.
            let turn = process.core.end_turn(time);
            self.carry_out(place, turn)?;
        }
        let Some(process) = &mut self.hosts[place].process else { return Ok(()) };
        for input in process.inbox.drain(..) {
            process.core.handle(time, input);
        }
        let turn = process.core.end_turn(time);
        self.carry_out(place, turn)
    }

    /// Carries out a turn, in the order of the library's driver.
    pub(super) fn carry_out(&mut self, place: Place, mut turn: Turn) -> Result<(), Violation> {
        let dies = self.dies_in(place, &mut turn);
        if let Some(bad) = turn.broken {
            let shown_by = format!("n{} cannot read entry {}", place + 1, bad.0);
            return Err(Violation { property: "Entries Stay As They Are", shown_by });
        }
        if let Some((peer, complaint)) = turn.complaints.first() {
            let shown_by = format!("n{} of n{peer}: {complaint:?}", place + 1);
            return Err(Violation { property: "No Correct Peer Is Accused", shown_by });
        }
        for (_, standing) in turn.became {
            self.sums.elections += u64::from(standing.role == RoleName::Leader);
            self.note(Note::Became(place, standing));
        }
        let to_disk = turn.write.is_some() || !turn.log_reads.is_empty();
        if let Some((batch, writes)) = turn.write {
            if let Some(raft) = self.hosts[place].raft() {
                self.checks.writes(&View::of(place, raft), &writes)?;
            }
            let writes = Rc::new(writes);
            self.note(Note::Wrote(place, batch.0, Rc::clone(&writes)));
            self.ask_disk(place, Job::Write(batch, writes));
        }
        for (to, lane, bytes) in turn.frames {
            self.send(place, to.0 as Place - 1, lane, bytes);
        }
        for (group, read) in turn.log_reads {
            self.ask_disk(place, Job::Read(group, read));
        }
        if to_disk {
            self.begin_disk(place)?;
        }
        if dies {
            self.end_process(place, "killed in its turn");
            return Ok(());
        }
        let (hosts, checks) = (&self.hosts, &mut self.checks);
        if let Some(raft) = hosts[place].raft() {
            checks.turned(&View::of(place, raft), raft, |place| hosts[place].disk.durable())?;
        }
        for (_, committed) in turn.committed {
            self.apply(place, committed)?;
        }
        for (_, reads) in turn.reads_ready {
            self.answer_reads(place, reads);
        }
        self.set_alarm(place);
        Ok(())
    }

    /// Whether a process ends in this turn; then only a first part of the turn is done.
    pub(super) fn dies_in(&mut self, place: Place, turn: &mut Turn) -> bool {
        let dies = self.hosts[place].process.as_ref().is_some_and(|process| process.doomed)
            && (turn.write.is_some() || !turn.frames.is_empty());
        if dies {
            let acts = self.fault_chance.below(turn.frames.len() as u64 + 2) as usize;
            if acts == 0 {
                turn.write = None;
            }
            turn.frames.truncate(acts.saturating_sub(1));
        }
        dies
    }

    pub(super) fn apply(&mut self, place: Place, committed: Vec<Committed>) -> Result<(), Violation> {
        for Committed { id, payload } in committed {
            let Some(process) = &mut self.hosts[place].process else { return Ok(()) };
            let mut waiting = None;
            let outcome = match &payload {
                Payload::Blank | Payload::Membership(_) => {
                    process.registers.skip(id);
                    None
                }
                Payload::Withheld => {
                    let shown_by = format!("n{} is no witness, and {id} was withheld from it", place + 1);
                    return Err(Violation { property: "Entries Stay As They Are", shown_by });
                }
                Payload::Command { id: proposal, command } => {
                    let Some((command, written)) = process.registers.apply(id, command) else {
                        let shown_by = format!("n{} cannot read {id}", place + 1);
                        return Err(Violation { property: "Entries Stay As They Are", shown_by });
                    };
                    waiting = process.proposed(*proposal);
                    Some((command.op, written))
                }
            };
            self.checks.state_machine_safety.applied(place, id, &payload, outcome)?;
            if let (Some(op), Some((_, written))) = (waiting, outcome) {
                self.answer(
                    op,
                    match written {
                        Written::Yes => Answer::Written,
                        Written::No(held) => Answer::NotWritten(held),
                    },
                );
            }
        }
        let host = &mut self.hosts[place];
        if let Some(process) = &host.process {
            let applied = process.registers.applied;
            if applied.index.since(host.image.applied.index) >= self.conditions.image_every {
                host.image = process.registers;
            }
            self.note(Note::Applied(place, applied));
        }
        Ok(())
    }

    pub(super) fn answer_reads(&mut self, place: Place, reads: Vec<u64>) {
        for read in reads {
            let Some(process) = &mut self.hosts[place].process else { return };
            if let Some((op, key)) = process.read_ready(read) {
                let value = process.registers.read(key);
                self.answer(op, Answer::Held(value));
            }
        }
    }

    /// A process is gone, with all it had in memory.
    pub(super) fn end_process(&mut self, place: Place, why: &'static str) {
        let Some(process) = self.hosts[place].process.take() else { return };
        self.note(Note::Ended(place, why));
        for op in process.waiting() {
            self.answer(op, Answer::Unknown);
        }
        if why != POWER_LOSS {
            (0..self.hosts.len()).filter(|&peer| peer != place).for_each(|peer| self.disconnect(place, peer));
        }
    }
}
