//! Clients: their operations reach a process, and answers reach them.

use super::{Event, Phase, World};
use crate::agenda::Span;
use crate::place::{Place, Slot, group_in};
use crate::subject::{End, EndOf, OpId, Request, Subject};
use crate::transcript::Note;
use crate::workload::Homes;
use std::rc::Rc;

impl<S: Subject> World<S> {
    pub(super) fn go_on(&mut self, slot: Slot, client: usize) {
        if matches!(self.phase, Phase::Settling(..) | Phase::Trial(_) | Phase::Over) {
            return;
        }
        let members = self.who_serves(slot);
        let homes = Homes { members: &members, all: self.hosts.len(), only_members: self.phase != Phase::Storm };
        let workload = &mut self.groups[slot].workload;
        let Some((op, place)) = workload.begin(self.agenda.now(), client, homes) else { return };
        let request = workload.request(op).clone();
        let shown: Rc<dyn std::fmt::Debug> = match &request {
            Request::Propose(command) => Rc::new(command.clone()),
            Request::Read(query) => Rc::new(query.clone()),
        };
        self.note(Note::Invoked(place, slot, op, shown));
        let Some(process) = &mut self.hosts[place].process else { return self.end(slot, op, End::Unknown) };
        let is_taken = match request {
            Request::Propose(command) => {
                let id = process.propose(slot, op, &command);
                id.is_some_and(|id| {
                    self.groups[slot].workload.proposed(op, id);
                    true
                })
            }
            Request::Read(query) => process.read(slot, op, query),
        };
        if !is_taken {
            return self.end(slot, op, End::Refused);
        }
        // Once all faults are over, an election or a transfer may still be under way.
        let after = Span::seconds(2).max(self.election_timeout() * 3);
        let timeout = self.groups[slot].workload.client_timeout;
        let timeout = if self.phase == Phase::Storm { timeout } else { after };
        self.agenda.after(timeout, Event::ClientTimeout(slot, op));
        self.wake(place);
    }

    /// A node looks after its state machines, but for those that are busy, as a program would that is linked with it.
    pub(super) fn look_after(&mut self, place: Place, every: Span) {
        if matches!(self.phase, Phase::Settling(..) | Phase::Trial(_) | Phase::Over) {
            return;
        }
        let now = self.agenda.now();
        let host = &mut self.hosts[place];
        self.agenda.at((now + every).max(host.paused_until), Event::LookAfter(place, every));
        let (local, node) = (host.clock.local(now).since_origin(), host.node());
        let Some(process) = host.process.as_mut().filter(|_| host.paused_until <= now) else { return };
        for slot in 0..process.replicas.len() {
            let Some(replica) = process.replicas[slot].as_ref() else { continue };
            if replica.is_closing || replica.has_failed || !replica.worker.is_idle() {
                continue;
            }
            let role_state = process.node.raft(group_in(slot)).map(|raft| raft.role_state()).unwrap_or_default();
            let leads_in = (role_state.leader == Some(node)).then_some(role_state.term);
            if let Some(command) = replica.machine.look_after(local, leads_in) {
                process.propose_unheard(slot, &command);
            }
        }
        self.wake(place);
    }

    /// A node gets many writes at once, for which no client waits. They change nothing, so that they are no part of the
    /// history. False if its process is down.
    pub(super) fn write_much(&mut self, place: Place, slot: Slot, writes: u64) -> bool {
        let Some(process) = &mut self.hosts[place].process else { return false };
        for _ in 0..writes {
            let Some(command) = self.groups[slot].workload.idle_write() else { return false };
            process.propose_unheard(slot, &command);
        }
        self.wake(place);
        true
    }

    /// A client waits no longer. What is known of its proposal by then is its answer.
    pub(super) fn time_out(&mut self, slot: Slot, op: OpId) {
        let operation = &self.groups[slot].workload.history()[op.0 as usize];
        if operation.ended.is_some() {
            return;
        }
        let place = operation.place;
        let is_over = self.hosts[place].process.as_mut().is_none_or(|process| process.give_up(slot, op));
        if is_over {
            return self.end(slot, op, End::Unknown);
        }
        self.wake(place);
    }

    pub(super) fn end(&mut self, slot: Slot, op: OpId, end: EndOf<S>) {
        let workload = &mut self.groups[slot].workload;
        if let Some(client) = workload.end(self.agenda.now(), op, &end) {
            let think = workload.think();
            self.agenda.after(think, Event::Client(slot, client));
            self.note(Note::Done(slot, op, Rc::new(end)));
        }
    }
}
