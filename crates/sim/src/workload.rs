//! The clients of one group: what they wait for, and the history of it.
//!
//! Owns every operation from its invocation to its end. An operation whose answer does not come, or whose node dies, has
//! an unknown outcome: it may take effect at any later time, or never. Must not know how a node finds the answer.

use crate::agenda::{Moment, Span};
use crate::checks::acknowledged_writes::Proposed;
use crate::conditions::Conditions;
use crate::place::Place;
use crate::rng::Rng;
use crate::subject::{Command, EndOf, OpId, Operation, OperationOf, Reply, Request, Subject};
use vlot_node::proposal_id::ProposalId;
use vlot_raft::invariants::Violation;

/// The nodes that a client may talk to.
#[derive(Clone, Copy, Debug)]
pub struct Homes<'a> {
    /// Those that belong to the group.
    pub members: &'a [Place],
    /// How many nodes there are; now and then a client talks to any of them.
    pub all: usize,
    /// But not at this time.
    pub only_members: bool,
}

/// A client: at most one operation at a time.
#[derive(Clone, Copy, Debug, Default)]
struct Client {
    waiting: Option<OpId>,
    /// The node it likes best.
    home: Place,
}

/// All clients of a group and their history.
pub struct Workload<S: Subject> {
    subject: S,
    clients: Vec<Client>,
    /// The operation `OpId(n)` is the `n`th.
    history: Vec<OperationOf<S>>,
    /// The client that began it.
    owners: Vec<usize>,
    /// The name of its proposal, if it is one.
    proposals: Vec<Option<ProposalId>>,
    think: Span,
    /// How long a client waits.
    pub client_timeout: Span,
    /// How many writes of no client there were.
    idle_writes: u64,
    has_idle: bool,
    rng: Rng,
}

impl<S: Subject> Workload<S> {
    /// Clients that have done nothing yet: those of one of so many groups.
    #[must_use]
    pub fn new(conditions: &Conditions, groups: usize, mut rng: Rng) -> Self {
        let Conditions { think, client_timeout, nodes, clients, .. } = *conditions;
        let clients = (clients / groups).max(1);
        let clients = (0..clients).map(|_| Client { waiting: None, home: rng.below(nodes as u64) as Place }).collect();
        let mut subject = S::new(conditions, &mut rng);
        Self {
            has_idle: subject.idle(0).is_some(),
            subject,
            clients,
            history: Vec::new(),
            owners: Vec::new(),
            proposals: Vec::new(),
            think,
            client_timeout,
            idle_writes: 0,
            rng,
        }
    }

    /// What is put to the test.
    #[must_use]
    pub fn subject(&self) -> &S {
        &self.subject
    }

    /// How many clients there are.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    /// How long a client waits before its next operation.
    pub fn think(&mut self) -> Span {
        self.rng.span(Span::ZERO, self.think * 2)
    }

    /// Begins the next operation of a client, and says at which node. None if it waits for one.
    pub fn begin(&mut self, now: Moment, client: usize, homes: Homes<'_>) -> Option<(OpId, Place)> {
        if self.clients[client].waiting.is_some() {
            return None;
        }
        let Homes { members, all, only_members } = homes;
        let is_at_home = members.contains(&self.clients[client].home);
        if self.rng.below(8) == 0 || (only_members && !is_at_home) {
            let strays = !only_members && self.rng.below(8) == 0;
            let home =
                if strays || members.is_empty() { self.rng.below(all as u64) as Place } else { self.rng.pick(members) };
            self.clients[client].home = home;
        }
        let op = OpId(self.history.len() as u64);
        let place = self.clients[client].home;
        let request = self.subject.next(op, &mut self.rng);
        self.history.push(Operation { request, place, invoked: now, ended: None });
        self.owners.push(client);
        self.proposals.push(None);
        self.clients[client].waiting = Some(op);
        Some((op, place))
    }

    /// What an operation asks for.
    #[must_use]
    pub fn request(&self, op: OpId) -> &Request<Command<S>, S::Query> {
        &self.history[op.0 as usize].request
    }

    /// An operation has become this proposal.
    pub fn proposed(&mut self, op: OpId, id: ProposalId) {
        self.proposals[op.0 as usize] = Some(id);
    }

    /// Whether there are commands of no client.
    #[must_use]
    pub fn subject_has_idle(&self) -> bool {
        self.has_idle
    }

    /// A command of no client.
    pub fn idle_write(&mut self) -> Option<Command<S>> {
        self.idle_writes += 1;
        self.subject.idle(self.idle_writes)
    }

    /// Ends an operation. Returns its client; none if it had ended before.
    pub fn end(&mut self, now: Moment, op: OpId, end: &EndOf<S>) -> Option<usize> {
        let operation = &mut self.history[op.0 as usize];
        if operation.ended.is_some() {
            return None;
        }
        operation.ended = Some((now, end.clone()));
        self.subject.ended(op, &operation.request, end);
        let client = self.owners[op.0 as usize];
        self.clients[client].waiting = None;
        Some(client)
    }

    /// All operations, in the order in which they began.
    #[must_use]
    pub fn history(&self) -> &[OperationOf<S>] {
        &self.history
    }

    /// All that were proposed.
    pub fn all_proposed(&self) -> impl Iterator<Item = Proposed<'_, Reply<S>, S::Answer>> {
        self.history.iter().zip(&self.proposals).enumerate().filter_map(|(n, (operation, id))| {
            Some(Proposed { op: OpId(n as u64), id: (*id)?, end: operation.ended.as_ref().map(|(_, end)| end) })
        })
    }

    /// Whether the history is one that clients may see.
    ///
    /// # Errors
    /// If it is not.
    pub fn check(&self) -> Result<(), Violation> {
        self.subject.check(&self.history)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditions::Options;
    use crate::machines::registers::RegistersUsed;
    use crate::subject::End;

    #[test]
    fn a_client_has_one_operation_at_a_time_and_ends_it_once() {
        let conditions = Conditions::draw(1, &Options::default());
        let mut workload = Workload::<RegistersUsed>::new(&conditions, 1, Rng::new(1, 1));
        let homes = Homes { members: &[1], all: 3, only_members: true };
        let (op, place) = workload.begin(Moment(1), 0, homes).unwrap();
        assert_eq!(place, 1);
        assert!(workload.begin(Moment(2), 0, homes).is_none());
        assert_eq!(workload.end(Moment(3), op, &End::Unknown), Some(0));
        assert_eq!(workload.end(Moment(4), op, &End::Refused), None, "what is unknown stays unknown");
        assert!(workload.begin(Moment(5), 0, homes).is_some());
    }
}
