//! The leases of the store in the simulated world: clients that grant, keep alive, revoke and look, and members that tell
//! time by clocks which run fast and slow.
//!
//! Owns what clients do, and the machine: the store, with the clock that the server has beside it. What must hold of what
//! clients saw is in `check.rs`.

mod check;

use std::io::Read;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use vlot_node::members::Members;
use vlot_node::state_machine::{self, BadSnapshot, StateMachine};
use vlot_proto::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest};
use vlot_raft::id::{LogId, Term};
use vlot_raft::invariants::Violation;
use vlot_store::command::Command;
use vlot_store::engine::memory::MemoryEngine;
use vlot_store::lease::clock::LeaseClock;
use vlot_store::refusal::Refusal;
use vlot_store::store::Applied;

use super::store::machine::{StoreCommand, StoreMachine, narrow_options};
use crate::agenda::Span;
use crate::conditions::Conditions;
use crate::fault_kind::FaultKind;
use crate::rng::Rng;
use crate::subject::{End, EndOf, OpId, OperationOf, Request, Subject};
use check::Bounds;

/// How many leases clients work on: those that were granted last. The others are left to end.
const IN_USE: usize = 6;

/// The clients.
pub struct LeasesUsed {
    /// The leases that are known to have been granted.
    granted: Vec<i64>,
    bounds: Bounds,
}

/// What a client sees of a lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Seen {
    /// It is there.
    pub lives: bool,
    /// The key is there that is put on it.
    pub has_key: bool,
}

/// A store and a clock.
#[derive(Debug)]
pub struct Machine {
    store: StoreMachine,
    clock: Mutex<LeaseClock>,
}

impl StateMachine for Machine {
    type Command = StoreCommand;
    type Reply = Result<Applied, Refusal>;

    fn apply(&mut self, at: LogId, command: StoreCommand) -> Self::Reply {
        self.store.apply(at, command)
    }

    fn skip(&mut self, at: LogId) {
        self.store.skip(at);
    }

    fn members_changed(&mut self, at: LogId, members: &Members, context: Bytes) {
        self.store.members_changed(at, members, context);
    }

    fn end_batch(&mut self) {
        self.store.end_batch();
        self.store.flush().expect("nothing has failed");
        self.store.take_applied();
    }

    fn durable(&self) -> LogId {
        self.store.durable()
    }

    fn snapshot(&self) -> Option<Box<dyn state_machine::Snapshot>> {
        self.store.snapshot()
    }

    fn restore(&mut self, at: LogId, from: &mut dyn Read) -> Result<(), BadSnapshot> {
        self.store.restore(at, from)
    }
}

fn key_of(lease: i64) -> Bytes {
    format!("lease/{lease}").into()
}

impl Subject for LeasesUsed {
    const SNAPSHOT_SCALE: u32 = 200;
    /// As often as the server.
    const LOOKED_AFTER_EVERY: Option<Span> = Some(Span::millis(100));
    /// Leases are counted by clocks that do not leap.
    const RULED_OUT: &'static [FaultKind] = &[FaultKind::ClockJump];

    type Machine = Machine;
    type Query = i64;
    type Answer = Seen;

    fn new(conditions: &Conditions, _: &mut Rng) -> Self {
        Self { granted: Vec::new(), bounds: Bounds::under(conditions) }
    }

    fn machine(&self) -> Machine {
        let engine = MemoryEngine::default();
        let store = StoreMachine::open(&engine, narrow_options()).expect("an empty engine can be opened");
        Machine { store, clock: Mutex::default() }
    }

    fn next(&mut self, op: OpId, rng: &mut Rng) -> Request<StoreCommand, i64> {
        let in_use = &self.granted[self.granted.len().saturating_sub(IN_USE)..];
        let draw = rng.below(20);
        if in_use.is_empty() || draw < 3 {
            let ttl = 1 + rng.below(4) as i64;
            let grant = LeaseGrantRequest { id: op.0 as i64 + 1, ttl };
            return Request::Propose(StoreCommand::unsigned(Command::LeaseGrant(grant)));
        }
        let id = if rng.below(4) == 0 { rng.pick(&self.granted) } else { rng.pick(in_use) };
        Request::Propose(StoreCommand::unsigned(match draw {
            3..=10 => Command::LeaseKeepAlive(vec![id]),
            11 => Command::LeaseRevoke(LeaseRevokeRequest { id }),
            12..=14 => Command::Put(PutRequest { key: key_of(id), lease: id, ..Default::default() }),
            _ => return Request::Read(id),
        }))
    }

    fn ended(&mut self, _: OpId, _: &Request<StoreCommand, i64>, end: &EndOf<Self>) {
        if let End::Replied(Ok(Applied::LeaseGrant(granted))) = end {
            self.granted.push(granted.id);
        }
    }

    fn idle(&mut self, _: u64) -> Option<StoreCommand> {
        Some(StoreCommand::idle())
    }

    fn look_after(machine: &Machine, local: Duration, leads_in: Option<Term>) -> Option<StoreCommand> {
        let mut clock = machine.clock.lock().unwrap_or_else(PoisonError::into_inner);
        let due = clock.due(machine.store.store(), local, leads_in.map(|term| term.0));
        due.map(|time| StoreCommand::unsigned(Command::LeaseTime(time)))
    }

    fn read(machine: &Machine, id: &i64) -> Seen {
        let store = machine.store.store();
        let range = RangeRequest { key: key_of(*id), ..Default::default() };
        let has_key = store.range(&range).expect("a key can be read").count > 0;
        Seen { lives: store.lease(*id).is_some(), has_key }
    }

    fn digest(machine: &Machine) -> u64 {
        let store = machine.store.store();
        let fold = |sum: u64, number: u64| (sum ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        let leases = store
            .leases_after(None)
            .flat_map(|lease| [lease.id as u64, lease.renewal, lease.end.unwrap_or(1), lease.keys as u64]);
        leases.fold(fold(machine.store.digest(), store.lease_time()), fold)
    }

    fn check(&self, history: &[OperationOf<Self>]) -> Result<(), Violation> {
        check::check(history, self.bounds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditions::Options;
    use crate::fault_kind::Kinds;
    use crate::world::run_with;

    #[test]
    fn leases_end_in_time_where_nothing_goes_wrong() {
        for seed in 1..=3 {
            let options = Options { faults: Kinds::of_names("").unwrap(), ..Options::default() };
            let outcome = run_with::<LeasesUsed>(seed, &options);
            assert_eq!(outcome.violation, None, "seed {seed}");
        }
    }

    /// A leader told the same time again, and was not heard.
    #[test]
    fn leases_hold_where_they_did_not() {
        let outcome = run_with::<LeasesUsed>(478, &Options::default());
        assert_eq!(outcome.violation, None);
    }

    #[test]
    fn leases_hold_in_every_storm() {
        for seed in 1..=3 {
            let outcome = run_with::<LeasesUsed>(seed, &Options::default());
            assert_eq!(outcome.violation, None, "seed {seed}");
        }
    }
}
