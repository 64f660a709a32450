//! The store in the simulated world: its clients, and its machines with watches on each.
//!
//! Owns what machines tell of themselves besides their replies: the commands that they have applied, and what watches on
//! them were told. A machine writes to its engine at the end of each batch; what of it outlives a process is the world's
//! to decide.

use std::fmt;
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use vlot_node::members::Members;
use vlot_node::state_machine::{self, BadSnapshot, StateMachine};
use vlot_proto::vlotpb::{RemoveQuotaRequest, SetQuotaRequest};
use vlot_raft::id::{LogId, Term};
use vlot_raft::invariants::Violation;
use vlot_store::command::Command;
use vlot_store::refusal::Refusal;
use vlot_store::store::Applied;
use vlot_store::view::View;
use vlot_store::watch::{WatchOut, WatchStream};

use super::applied_order::AppliedOrder;
use super::history::{self, History, OpId, Outcome, Record, Reply};
use super::machine::{StoreCommand, StoreMachine, narrow_options};
use super::watcher::{Watcher, deliver};
use super::workload::Workload;
use super::{linearizability, watch_guarantees};
use crate::agenda::{Moment, Span};
use crate::conditions::Conditions;
use crate::rng::Rng;
use crate::subject::{End, EndOf, OperationOf, Request, Subject};
use vlot_store::engine::memory::MemoryEngine;

/// Among about so many commands there is one that sets or removes a quota.
const COMMANDS_A_QUOTA: u64 = 16;
/// How many watches there are on each machine.
const WATCHERS: usize = 4;

/// The clients of a store.
pub struct StoreUsed {
    workload: Workload,
    ledger: Ledger,
}

/// What machines have told; they share it with their clients' side.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<Told>>);

#[derive(Default)]
struct Told {
    order: AppliedOrder,
    violation: Option<Violation>,
    /// How many machines there were, each process and each group's counted for itself.
    machines: usize,
    /// The watches of each machine.
    watchers: Vec<Vec<Watcher>>,
}

impl Ledger {
    fn told(&self) -> MutexGuard<'_, Told> {
        // A violation that is missed because of a panic is one less to be told of.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A machine that tells what it does.
pub struct Machine {
    store: StoreMachine,
    stream: WatchStream,
    view: Option<View>,
    number: usize,
    batches: u64,
    ledger: Ledger,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.store.fmt(f)
    }
}

impl Machine {
    /// Its clients ask for the watches that are not open, and take what there is.
    fn watch(&mut self) {
        let mut told = self.ledger.told();
        let watchers = &mut told.watchers[self.number];
        for watcher in watchers.iter_mut().filter(|watcher| !watcher.is_open()) {
            let request = watcher.ask(Moment::NEVER, self.number);
            // The number of a watch that compaction has ended is taken until its client says so too.
            self.stream.cancel(request.watch_id);
            self.stream.create(&request);
        }
        if self.batches.is_multiple_of(7) {
            self.stream.request_progress();
        }
        // Now and then a stream is slow, and falls behind.
        if !self.batches.is_multiple_of(3) {
            let view = self.view.take().unwrap_or_else(|| self.store.store().view());
            let drained = self.stream.catch_up(&view, 400).expect("history can be read");
            for out in drained.outs.into_iter().flat_map(WatchOut::each) {
                deliver(Moment::NEVER, &out, watchers.iter_mut());
            }
        } else {
            // And what it reads is not always of the last moment.
            self.view.get_or_insert_with(|| self.store.store().view());
        }
    }
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
        self.batches += 1;
        let commands = self.store.take_applied();
        let mut told = self.ledger.told();
        for command in commands {
            let seen = told.order.applied(self.number, command);
            let first = told.violation.take();
            told.violation = first.or(seen.err());
        }
        if self.batches.is_multiple_of(16)
            && let Ok(report) = self.store.report()
        {
            let seen = told.order.reported(self.number, report);
            let first = told.violation.take();
            told.violation = first.or(seen.err());
        }
        drop(told);
        self.watch();
    }

    fn needs_maintenance(&self) -> bool {
        self.store.needs_maintenance()
    }

    fn maintain(&mut self) -> bool {
        self.store.maintain()
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

impl Subject for StoreUsed {
    const SNAPSHOT_SCALE: u32 = 200;
    const LOOKED_AFTER_EVERY: Option<Span> = Some(Span::millis(500));

    type Machine = Machine;
    type Query = history::Request;
    type Answer = Result<Reply, Refusal>;

    fn new(conditions: &Conditions, _: &mut Rng) -> Self {
        let workload = Workload::new(conditions.value_bytes_max).without_local_reads();
        Self { workload, ledger: Ledger::default() }
    }

    fn machine(&self) -> Machine {
        let mut told = self.ledger.told();
        let number = told.machines;
        told.machines += 1;
        let mut rng = Rng::new(number as u64, WATCHERS as u64);
        let draw = |id| Watcher::draw(id as i64, self.workload.newest(), &mut rng);
        told.watchers.push((1..=WATCHERS).map(draw).collect());
        drop(told);
        let engine = MemoryEngine::default();
        let store = StoreMachine::open(&engine, narrow_options()).expect("an empty engine can be opened");
        let stream = store.watch_stream(Arc::new(|| {}));
        Machine { store, stream, view: None, number, batches: 0, ledger: self.ledger.clone() }
    }

    fn next(&mut self, op: OpId, rng: &mut Rng) -> Request<StoreCommand, history::Request> {
        let request = self.workload.draw(op, rng);
        match StoreCommand::of(op, &request) {
            Some(command) => Request::Propose(command),
            None => Request::Read(request),
        }
    }

    fn ended(&mut self, _: OpId, _: &Request<StoreCommand, history::Request>, end: &EndOf<Self>) {
        self.workload.learn(&outcome_of(end));
    }

    fn idle(&mut self, _: u64) -> Option<StoreCommand> {
        Some(StoreCommand::idle())
    }

    /// A leader sets quotas and removes them, as an operator might, while clients are at work.
    fn look_after(machine: &Machine, _: Duration, leads_in: Option<Term>) -> Option<StoreCommand> {
        let applied = machine.store.applied().index.0;
        // What it proposes moves this on: a group that is left alone is left alone by its leader too.
        let is_time = leads_in.is_some() && applied % COMMANDS_A_QUOTA < COMMANDS_A_QUOTA / 4;
        is_time.then(|| quota_command(applied / COMMANDS_A_QUOTA))
    }

    fn read(machine: &Machine, query: &history::Request) -> Self::Answer {
        machine.store.read(query)
    }

    fn digest(machine: &Machine) -> u64 {
        machine.store.digest()
    }

    fn check(&self, history: &[OperationOf<Self>]) -> Result<(), Violation> {
        let told = self.ledger.told();
        if let Some(violation) = &told.violation {
            return Err(violation.clone());
        }
        let history = History::of(history.iter().enumerate().map(|(n, operation)| Record {
            request: match &operation.request {
                Request::Propose(command) => command.request().expect("each client's command names its operation"),
                Request::Read(request) => request.clone(),
            },
            place: operation.place,
            // Each on its own: the world does not say which process has answered.
            connection: n as u64,
            invoked: operation.invoked,
            ended: operation.ended.as_ref().map(|(moment, end)| (*moment, outcome_of(end))),
        }));
        told.order.check_history(&history)?;
        let replayed = linearizability::check(&history, told.order.traces())?;
        told.watchers.iter().flatten().try_for_each(|watcher| watch_guarantees::check(watcher, &replayed))
    }
}

/// The `n`th change of quotas: tight ones on few keys, each of which goes again.
fn quota_command(n: u64) -> StoreCommand {
    let mut rng = Rng::new(n, 1);
    let prefix = rng.pick(&["", "a/", "a/0", "b/"]).into();
    StoreCommand::unsigned(if rng.coin() {
        Command::RemoveQuota(RemoveQuotaRequest { prefix })
    } else {
        let (bytes_max, keys_max) = (20 + rng.below(200) as i64, rng.below(6) as i64);
        Command::SetQuota(SetQuotaRequest { prefix, bytes_max, keys_max })
    })
}

fn outcome_of(end: &EndOf<StoreUsed>) -> Outcome {
    match end {
        End::Replied(reply) => Outcome::of_applied(reply),
        End::Answered(answer) => Outcome::of_read(answer.clone()),
        End::Refused => Outcome::NotTaken,
        End::Unknown => Outcome::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditions::Options;
    use crate::world;

    #[test]
    fn clients_of_a_store_see_one_store() {
        // Not seed 2: at its rate of transfer, a snapshot of the store takes longer than a world waits.
        for seed in [0, 1, 3, 4] {
            let outcome = world::run_with::<StoreUsed>(seed, &Options { seconds: 20, ..Options::default() });
            assert_eq!(outcome.violation, None, "seed {seed}");
            assert!(outcome.sums.operations > 100);
        }
    }
}
