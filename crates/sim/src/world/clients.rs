//! Clients: their operations reach a process, and answers reach them.

use super::{Event, Phase, World};
use crate::agenda::Span;
use crate::network::Place;
use crate::register::OpId;
use crate::transcript::{Answer, Note};
use crate::workload::{Homes, Request};

impl World {
    pub(super) fn go_on(&mut self, client: usize) {
        if matches!(self.phase, Phase::Settling(..) | Phase::Trial(_) | Phase::Over) {
            return;
        }
        let homes =
            Homes { members: &self.who_serves(), all: self.hosts.len(), only_members: self.phase != Phase::Storm };
        let Some((op, operation)) = self.workload.begin(self.agenda.now(), client, homes) else { return };
        let (place, padding) = (operation.place, self.workload.padding());
        match operation.request {
            Request::Write(command) => self.note(Note::Write(place, command)),
            Request::Read(key) => self.note(Note::Read(place, op, key)),
        }
        let Some(process) = &mut self.hosts[place].process else { return self.answer(op, Answer::Unknown) };
        match operation.request {
            Request::Write(command) => process.propose(op, &command, padding),
            Request::Read(key) => process.read(op, key),
        }
        // Once all faults are over, an election or a hand-over may still be under way.
        let after = Span::seconds(2).max(self.election_timeout() * 3);
        let client_timeout = if self.phase == Phase::Storm { self.workload.client_timeout } else { after };
        self.agenda.after(client_timeout, Event::ClientTimeout(op));
        self.wake(place);
    }

    /// A node gets many writes at once, for which nobody waits. They change nothing, so that they are no part of the
    /// history. False if its process is down.
    pub(super) fn write_much(&mut self, place: Place, writes: u64) -> bool {
        let Some(process) = &mut self.hosts[place].process else { return false };
        for _ in 0..writes {
            process.propose_unheard(&self.workload.idle_write());
        }
        self.wake(place);
        true
    }

    pub(super) fn time_out(&mut self, op: OpId) {
        let operation = self.workload.history()[op.0 as usize];
        if operation.ended.is_some() {
            return;
        }
        if let Some(process) = &mut self.hosts[operation.place].process {
            process.forget(op);
            self.wake(operation.place);
        }
        self.answer(op, Answer::Unknown);
    }

    pub(super) fn answer(&mut self, op: OpId, answer: Answer) {
        if let Some(client) = self.workload.end(self.agenda.now(), op, answer) {
            self.note(Note::Answered(op, answer));
            self.agenda.after(self.workload.think(), Event::Client(client));
        }
    }
}
