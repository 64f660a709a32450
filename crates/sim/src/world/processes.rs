//! Processes: how they start, take turns and end.
//!
//! Owns the order in which a turn is carried out, which is that of the library's driver. Must not know of faults.

use super::{Event, Outgoing, POWER_LOSS, START_AGAIN, World};
use crate::agenda::{Moment, Span};
use crate::checks::View;
use crate::disk::{Broken, Job};
use crate::faults::Install;
use crate::network::{Place, place_of};
use crate::register::Written;
use crate::transcript::{Answer, Note};
use std::rc::Rc;
use vlot::node::{Input, Turn};
use vlot::payload::Payload;
use vlot::replica::Committed;
use vlot_log::record::Write;
use vlot_raft::effect::{Event as Happened, RoleName};
use vlot_raft::id::LogId;
use vlot_raft::invariants::Violation;

impl World {
    pub(super) fn start(&mut self, place: Place) -> Result<(), Violation> {
        if self.hosts[place].process.is_some() || !self.hosts[place].in_service {
            return Ok(());
        }
        let (now, origin, seed) = (self.agenda.now(), self.rng.draw(), self.rng.draw());
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
        let (durable, registers) = (host.disk.durable(), host.process.as_ref().map(|process| process.registers));
        let registers = registers.unwrap_or_default();
        self.checks.begun(place, durable, &registers)?;
        self.note(Note::Started(place, durable.runs.after(), durable.runs.last_id(), registers.applied));
        for peer in (0..self.hosts.len()).filter(|&peer| peer != place) {
            // Whoever did not notice that the earlier process was gone does so when the new one calls.
            self.disconnect(place, peer);
            self.agenda.after(self.rng.skewed(Span::millis(10)), Event::Dial(place, peer));
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
        if std::mem::take(&mut process.stood_still) && self.rng.coin() {
            // Its timers come first, and then what its peers have sent meanwhile.
            let turn = process.core.end_turn(time);
            self.carry_out(place, turn, false)?;
        }
        let Some(process) = &mut self.hosts[place].process else { return Ok(()) };
        for input in process.inbox.drain(..) {
            process.core.handle(time, input);
        }
        let may_ask = std::mem::take(&mut process.changes_in_inbox) > 0;
        let turn = process.core.end_turn(time);
        self.carry_out(place, turn, may_ask)
    }

    /// Carries out a turn, in the order of the library's driver. `may_ask` says that a change of members was asked for.
    fn carry_out(&mut self, place: Place, mut turn: Turn, may_ask: bool) -> Result<(), Violation> {
        self.look_at(place, &turn)?;
        let dies = self.dies_in(place, &mut turn);
        for (_, role_state) in turn.became {
            self.sums.elections += u64::from(role_state.role == RoleName::Leader);
            self.note(Note::Became(place, role_state));
            self.disks_may_be_unknown(place);
            self.meet_members(place);
        }
        let to_disk = turn.write.is_some() || !turn.log_reads.is_empty();
        let begins = turn.write.as_ref().is_some_and(|(_, writes)| writes.iter().any(begins_later));
        if let Some((batch, writes)) = turn.write {
            let writes = Rc::new(writes);
            self.note(Note::Wrote(place, batch.0, Rc::clone(&writes)));
            self.ask_disk(place, Job::Write(batch, writes));
        }
        let frames = turn.frames.into_iter().map(|(to, lane, bytes)| (place_of(to), lane, bytes));
        self.send_all(place, frames.collect(), may_ask);
        for (group, read) in turn.log_reads {
            self.ask_disk(place, Job::Read(group, read));
        }
        if to_disk {
            self.begin_disk(place)?;
        }
        if begins && self.ends_here(place, Install::Asked) {
            return Ok(());
        }
        if dies {
            self.end_process(place, "killed in its turn");
            return Ok(());
        }
        for (_, event) in turn.happened {
            self.note(Note::Happened(place, event));
            match event {
                Happened::ConfigurationChanged { .. } => self.meet_members(place),
                Happened::ConfigurationCommitted { .. } => self.disks_may_be_unknown(place),
                _ => {}
            }
        }
        for (_, leader, reach) in turn.fetch {
            self.fetch(place, leader, reach);
        }
        for (_, sequences) in turn.proposals_refused {
            self.refuse(place, sequences);
        }
        for (_, _, why) in turn.changes_refused {
            self.note(Note::ChangeRefused(place, why));
        }
        for (_, _, begun) in turn.transfers {
            self.note(Note::Transfer(place, begun));
        }
        for (_, id) in turn.restore {
            if self.ends_here(place, Install::Begun) {
                return Ok(());
            }
            self.restore(place, id)?;
        }
        for (_, committed) in turn.committed {
            self.apply(place, committed)?;
            self.bind_disks(place);
        }
        for (_, reads) in turn.reads_ready {
            self.answer_reads(place, reads);
        }
        self.set_alarm(place);
        Ok(())
    }

    /// Holds a turn, and the replica that has ended it, against what must hold.
    fn look_at(&mut self, place: Place, turn: &Turn) -> Result<(), Violation> {
        if let Some(bad) = turn.broken {
            let shown_by = format!("n{} cannot read entry {}", place + 1, bad.0);
            return Err(Violation { property: "Entries Stay As They Are", shown_by });
        }
        if let Some((peer, complaint)) = turn.complaints.first() {
            let shown_by = format!("n{} of n{peer}: {complaint:?}", place + 1);
            return Err(Violation { property: "No Correct Peer Is Accused", shown_by });
        }
        let (hosts, checks) = (&self.hosts, &mut self.checks);
        let Some(raft) = hosts[place].raft() else { return Ok(()) };
        let view = View::of(place, raft);
        if let Some((_, writes)) = &turn.write {
            checks.writes(&view, writes)?;
        }
        checks.turned(&view, raft, |place| hosts[place].disk.durable())
    }

    /// Sends what a turn has for peers; later, if the process stands still before it can.
    fn send_all(&mut self, place: Place, frames: Vec<Outgoing>, may_ask: bool) {
        let now = self.agenda.now();
        let host = &mut self.hosts[place];
        let stalls = host.process.as_mut().filter(|_| !may_ask && !frames.is_empty()).and_then(|it| it.stalls.take());
        let Some(stalls) = stalls else {
            return frames.into_iter().for_each(|frame| self.send(place, frame, may_ask));
        };
        host.paused_until = host.paused_until.max(now + stalls);
        self.agenda.at(host.paused_until, Event::Late(place, host.incarnation, frames));
    }

    /// Whether a process ends in this turn; then only a first part of the turn is done.
    fn dies_in(&mut self, place: Place, turn: &mut Turn) -> bool {
        let does_something =
            turn.write.is_some() || !turn.frames.is_empty() || !turn.committed.is_empty() || !turn.restore.is_empty();
        let dies = self.hosts[place].process.as_ref().is_some_and(|process| process.doomed) && does_something;
        if dies {
            let acts = self.fault_rng.below(turn.frames.len() as u64 + 2) as usize;
            if acts == 0 {
                turn.write = None;
            }
            turn.frames.truncate(acts.saturating_sub(1));
        }
        dies
    }

    fn apply(&mut self, place: Place, committed: Vec<Committed>) -> Result<(), Violation> {
        for Committed { id, payload } in committed {
            let Some(process) = &mut self.hosts[place].process else { return Ok(()) };
            let mut waiting = None;
            let outcome = match &payload {
                Payload::Blank | Payload::Configuration(_) => {
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
            let registers = process.registers;
            self.checks.applied(place, &payload, outcome, &registers)?;
            self.operators.applied(id, &payload);
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
        self.keep_state(place);
        Ok(())
    }

    /// Makes a state machine durable from time to time, and cuts the log behind it.
    fn keep_state(&mut self, place: Place) {
        let (in_memory, every) = (self.conditions.in_memory, self.conditions.image_every);
        let host = &mut self.hosts[place];
        let durable = host.durably_applied().index;
        let Some(process) = &host.process else { return };
        let (registers, saving) = (process.registers, process.saving);
        if registers.applied.index.since(durable) >= every {
            match in_memory {
                true if saving => {}
                true => self.save(place),
                false => host.image = registers,
            }
        }
        self.note(Note::Applied(place, registers.applied));
        self.cut_long_log(place);
    }

    fn refuse(&mut self, place: Place, sequences: Vec<u64>) {
        for sequence in sequences {
            let Some(process) = &mut self.hosts[place].process else { return };
            if let Some(op) = process.refused(sequence) {
                self.answer(op, Answer::Refused);
            }
        }
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

/// Whether it lets the log begin later than at its very beginning.
fn begins_later(write: &Write) -> bool {
    matches!(write, Write::LogStart { after, .. } if *after > LogId::ZERO)
}
