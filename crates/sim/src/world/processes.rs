//! Processes: how they start, take turns and end.
//!
//! Must not know of faults, nor of what an act asks for.

use super::{Event, POWER_LOSS, START_AGAIN, World};
use crate::agenda::{Moment, Span};
use crate::disk::Broken;
use crate::place::Place;
use crate::subject::{End, Subject};
use crate::transcript::Note;
use std::collections::VecDeque;
use vlot_node::act::Act;
use vlot_node::input::Input;
use vlot_raft::id::LogId;
use vlot_raft::invariants::Violation;

impl<S: Subject> World<S> {
    pub(super) fn start(&mut self, place: Place) -> Result<(), Violation> {
        if self.hosts[place].process.is_some() || !self.hosts[place].in_service {
            return Ok(());
        }
        let (now, origin) = (self.agenda.now(), self.rng.draw());
        let recovered = match self.hosts[place].start(now, &self.conditions, origin) {
            Ok(recovered) => recovered,
            Err(broken) => return self.not_started(place, broken),
        };
        self.note(Note::Started(place));
        for peer in (0..self.hosts.len()).filter(|&peer| peer != place) {
            // A peer that did not notice that the earlier process was gone does so when the new one calls.
            self.disconnect(place, peer);
            // A peer that calls it goes on calling.
            self.agenda.after(self.rng.skewed(Span::millis(10)), Event::Dial(place, peer));
        }
        for (slot, recovered) in recovered.into_iter().enumerate() {
            self.begin_or_wait(place, slot, recovered)?;
        }
        self.wake(place);
        Ok(())
    }

    pub(super) fn not_started(&mut self, place: Place, broken: Broken) -> Result<(), Violation> {
        match broken {
            Broken::Wrong(violation) => Err(violation),
            Broken::Storage => {
                self.hosts[place].process = None;
                self.note(Note::NotStarted(place));
                self.agenda.after(START_AGAIN, Event::Start(place));
                Ok(())
            }
        }
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
        if host.clock.local(self.agenda.now()) >= process.node.deadline() {
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
            let due = host.clock.moment(process.node.deadline());
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
        let left = std::mem::take(&mut process.left);
        let timers_first = std::mem::take(&mut process.stood_still) && self.rng.coin();
        self.carry_out(place, left, false)?;
        // It may stand still again, with the rest of that turn before it.
        let goes_on = self.hosts[place].paused_until <= now;
        if timers_first
            && goes_on
            && let Some(process) = self.process_of(place, incarnation)
        {
            // Its timers come first, and then what its peers have sent meanwhile.
            let acts = process.node.end_turn(time);
            self.look_at(place, &acts, &[])?;
            self.carry_out(place, acts.into(), false)?;
        }
        if self.hosts[place].paused_until > now {
            self.wake(place);
            return Ok(());
        }
        let bounded = self.proposals_beyond_bound(place);
        let Some(process) = self.process_of(place, incarnation) else { return Ok(()) };
        for input in process.inbox.drain(..) {
            process.node.handle(time, input);
        }
        let may_ask = std::mem::take(&mut process.changes_in_inbox) > 0;
        let acts = process.node.end_turn(time);
        self.look_at(place, &acts, &bounded)?;
        self.carry_out(place, acts.into(), may_ask)
    }

    fn process_of(&mut self, place: Place, incarnation: u32) -> Option<&mut crate::host::process::Process<S>> {
        let host = &mut self.hosts[place];
        host.process.as_mut().filter(|_| host.incarnation == incarnation)
    }

    /// Carries out a turn's acts, in order. `may_ask` says that a change of members was asked for.
    fn carry_out(&mut self, place: Place, mut acts: VecDeque<Act>, may_ask: bool) -> Result<(), Violation> {
        let incarnation = self.hosts[place].incarnation;
        let dies = self.dies_in(place, &mut acts);
        let stalls = self.stalls_in(place, &acts, may_ask || dies);
        let count = acts.len();
        while let Some(act) = acts.pop_front() {
            if stalls == Some(count - acts.len() - 1) {
                acts.push_front(act);
                break;
            }
            let begins = matches!(&act, Act::Write { writes, .. } if writes.iter().any(begins_later));
            self.carry_out_one(place, act, may_ask)?;
            if self.process_of(place, incarnation).is_none() || (begins && self.ends_at_begin(place)?) {
                return Ok(());
            }
        }
        self.begin_disk(place)?;
        if dies {
            self.end_process(place, "killed in its turn");
        }
        if let Some(process) = self.process_of(place, incarnation) {
            process.left = acts;
        }
        self.set_alarm(place);
        Ok(())
    }

    /// Whether a process ends in this turn; then only a first part of the turn is done.
    fn dies_in(&mut self, place: Place, acts: &mut VecDeque<Act>) -> bool {
        let is_doomed = self.hosts[place].process.as_ref().is_some_and(|process| process.doomed);
        let does_something = || acts.iter().any(does_something);
        let dies = is_doomed && does_something();
        if dies {
            acts.truncate(self.fault_rng.below(acts.len() as u64 + 1) as usize);
        }
        dies
    }

    /// Before which of its acts a process stands still, if it does.
    fn stalls_in(&mut self, place: Place, acts: &VecDeque<Act>, must_not: bool) -> Option<usize> {
        let now = self.agenda.now();
        let host = &mut self.hosts[place];
        let process = host.process.as_mut().filter(|_| !must_not && acts.iter().any(does_something))?;
        let pause = process.stalls.take()?;
        host.paused_until = host.paused_until.max(now + pause);
        let at = self.fault_rng.below(acts.len() as u64) as usize;
        self.wake(place);
        Some(at)
    }

    /// A process is gone, with all it had in memory.
    pub(super) fn end_process(&mut self, place: Place, why: &'static str) {
        let Some(process) = self.hosts[place].process.take() else { return };
        self.note(Note::Ended(place, why));
        for (slot, op) in process.waiting() {
            self.end(slot, op, End::Unknown);
        }
        if why != POWER_LOSS {
            (0..self.hosts.len()).filter(|&peer| peer != place).for_each(|peer| self.disconnect(place, peer));
        }
    }

    /// A batch of writes by which the log begins later is asked for.
    fn ends_at_begin(&mut self, place: Place) -> Result<bool, Violation> {
        self.begin_disk(place)?;
        Ok(self.ends_here(place, crate::faults::Install::Asked))
    }
}

fn does_something(act: &Act) -> bool {
    matches!(act, Act::Write { .. } | Act::Send { .. } | Act::Apply { .. } | Act::Restore { .. } | Act::Save { .. })
}

/// Whether it lets the log begin later than at its very beginning.
fn begins_later(write: &vlot_log::record::Write) -> bool {
    matches!(write, vlot_log::record::Write::LogStart { after, .. } if *after > LogId::ZERO)
}
