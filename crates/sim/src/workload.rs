//! The clients: what they do, what they wait for, and the history of it.
//!
//! Owns every operation from its invocation to its end. An operation whose answer does not come, or whose node dies, has
//! an unknown outcome: it may take effect at any later time, or never. Must not know how a node finds the answer.

use crate::agenda::{Moment, Span};
use crate::conditions::Conditions;
use crate::network::Place;
use crate::register::{Command, Condition, OpId, Value};
use crate::rng::Rng;
use crate::transcript::Answer;

/// What a client asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Request {
    /// A write.
    Write(Command),
    /// A read of this register.
    Read(u8),
}

/// One operation of the history.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Operation {
    /// What was asked for.
    pub request: Request,
    /// Of which node.
    pub place: Place,
    /// When it began.
    pub invoked: Moment,
    /// When and how it ended; nothing while its client waits.
    pub ended: Option<(Moment, Answer)>,
}

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

/// No client's operation has so great a name.
const FIRST_IDLE: OpId = OpId(1 << 40);

/// All clients and their history.
#[derive(Debug)]
pub struct Workload {
    clients: Vec<Client>,
    /// The operation `OpId(n)` is the `n`th.
    history: Vec<Operation>,
    /// Who began it.
    owners: Vec<usize>,
    /// What was last seen in each register, to make swaps that succeed.
    seen: Vec<Value>,
    keys: u8,
    think: Span,
    /// How long a client waits.
    pub client_timeout: Span,
    value_bytes_max: u64,
    /// How many writes of no client there were.
    idle_writes: u64,
    rng: Rng,
}

impl Workload {
    /// Clients that have done nothing yet.
    #[must_use]
    pub fn new(conditions: &Conditions, mut rng: Rng) -> Self {
        let Conditions { keys, think, client_timeout, value_bytes_max, nodes, clients, .. } = *conditions;
        let clients = (0..clients).map(|_| Client { waiting: None, home: rng.below(nodes as u64) as Place }).collect();
        let seen = vec![None; usize::from(keys)];
        Self {
            clients,
            history: Vec::new(),
            owners: Vec::new(),
            seen,
            keys,
            think,
            client_timeout,
            value_bytes_max,
            idle_writes: 0,
            rng,
        }
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

    /// Begins the next operation of a client. None if it waits for one.
    pub fn begin(&mut self, now: Moment, client: usize, homes: Homes<'_>) -> Option<(OpId, Operation)> {
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
        let key = self.rng.below(u64::from(self.keys)) as u8;
        let request = match self.rng.below(10) {
            0..4 => Request::Read(key),
            4..8 => Request::Write(Command { op, key, condition: Condition::Always }),
            _ => {
                let expected = self.seen[usize::from(key)];
                Request::Write(Command { op, key, condition: Condition::Holds(expected) })
            }
        };
        let operation = Operation { request, place: self.clients[client].home, invoked: now, ended: None };
        self.history.push(operation);
        self.owners.push(client);
        self.clients[client].waiting = Some(op);
        Some((op, operation))
    }

    /// A write of no client, that writes only where it has written before, and so never.
    pub fn idle_write(&mut self) -> Command {
        self.idle_writes += 1;
        let op = OpId(FIRST_IDLE.0 + self.idle_writes);
        Command { op, key: 0, condition: Condition::Holds(Some(op)) }
    }

    /// How many bytes of padding a command has.
    pub fn padding(&mut self) -> usize {
        let rarely_long = if self.rng.below(50) == 0 { 10 } else { 1 };
        self.rng.below(self.value_bytes_max * rarely_long + 1) as usize
    }

    /// Ends an operation. Returns its client; none if it had ended before.
    pub fn end(&mut self, now: Moment, op: OpId, answer: Answer) -> Option<usize> {
        let operation = &mut self.history[op.0 as usize];
        if operation.ended.is_some() {
            return None;
        }
        operation.ended = Some((now, answer));
        let (Request::Read(key) | Request::Write(Command { key, .. })) = operation.request;
        match answer {
            Answer::Written => self.seen[usize::from(key)] = Some(op),
            Answer::NotWritten(value) | Answer::Held(value) => self.seen[usize::from(key)] = value,
            Answer::Refused | Answer::Unknown => {}
        }
        let client = self.owners[op.0 as usize];
        self.clients[client].waiting = None;
        Some(client)
    }

    /// All operations, in the order in which they began.
    #[must_use]
    pub fn history(&self) -> &[Operation] {
        &self.history
    }
}

impl Request {
    /// The register that it is about.
    #[must_use]
    pub fn key(&self) -> u8 {
        match self {
            Self::Write(command) => command.key,
            Self::Read(key) => *key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditions::Options;

    #[test]
    fn a_client_has_one_operation_at_a_time_and_ends_it_once() {
        let conditions = Conditions::draw(1, &Options::default());
        let mut workload = Workload::new(&conditions, Rng::new(1, 1));
        let homes = Homes { members: &[1], all: 3, only_members: true };
        let (op, operation) = workload.begin(Moment(1), 0, homes).unwrap();
        assert_eq!(operation.place, 1);
        assert!(workload.begin(Moment(2), 0, homes).is_none());
        assert_eq!(workload.end(Moment(3), op, Answer::Unknown), Some(0));
        assert_eq!(workload.end(Moment(4), op, Answer::Written), None, "what is unknown stays unknown");
        assert!(workload.begin(Moment(5), 0, homes).is_some());
    }
}
