//! Several machines driven by one log, without a network: for the tests of the checks.
//!
//! Commands are appended in some order, machines apply them at their own pace, crash, lose syncs and become snapshots, and
//! clients ask, wait, and give up. What comes of it is correct as far as the store is.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use vlot_node::state_machine::{Command, StateMachine};
use vlot_raft::id::{LogId, LogIndex};
use vlot_raft::invariants::Violation;
use vlot_store::view::View;
use vlot_store::watch::{Next, WatchOut, WatchStream};

use super::applied_order::AppliedOrder;
use super::history::{History, OpId, Outcome, Place, Way};
use super::linearizability::{self, Replayed, Trace};
use super::machine::{StoreCommand, StoreMachine, narrow_options};
use super::watcher::{Told, Watcher, deliver};
use super::workload::Workload;
use super::{revisions, watch_guarantees};
use crate::agenda::Moment;
use crate::rng::Rng;
use vlot_store::engine::memory::{FailedWrite, MemoryEngine};

const MACHINES: usize = 3;
const WATCHERS: usize = 24;
const WAITING_MAX: usize = 12;

/// A machine, and the streams that talk to it.
struct Home {
    engine: MemoryEngine,
    machine: StoreMachine,
    connection: u64,
    stream: WatchStream,
    /// Taken before, and not used yet.
    view: Option<View>,
}

/// What an operation waits for.
#[derive(Clone, Copy)]
enum Wait {
    /// For a command to be applied where it was asked for.
    Applied(Place),
    /// For a machine to have applied so much, to read.
    Reached(Place, LogIndex),
}

/// What has happened.
pub struct Driven {
    rng: Rng,
    now: u64,
    /// Nothing is an entry without a command.
    log: Vec<Option<Bytes>>,
    /// Proposed, and not in the log yet.
    proposed: Vec<Bytes>,
    homes: Vec<Home>,
    waiting: HashMap<OpId, Wait>,
    workload: Workload,
    connections: u64,
    /// What clients saw.
    pub history: History,
    /// What machines did.
    pub order: AppliedOrder,
    /// The watches; that at `n` is on the streams of machine `n % MACHINES`.
    pub watchers: Vec<Watcher>,
}

/// Runs until so many operations were invoked, and to the end of all.
pub fn run(seed: u64, operations: usize) -> Driven {
    let mut driven = Driven::new(seed);
    while driven.history.len() < operations {
        driven.step();
    }
    driven.settle();
    driven
}

impl Driven {
    fn new(seed: u64) -> Self {
        let mut driven = Self {
            rng: Rng::new(seed, 1),
            now: 0,
            log: Vec::new(),
            proposed: Vec::new(),
            homes: Vec::new(),
            waiting: HashMap::new(),
            workload: Workload::new(20),
            connections: 0,
            history: History::default(),
            order: AppliedOrder::default(),
            watchers: Vec::new(),
        };
        for place in 0..MACHINES {
            let home = driven.open(place, MemoryEngine::default());
            driven.homes.push(home);
        }
        driven
    }

    /// All checks, as a run asks them at its end.
    pub fn check(&self) -> Result<Replayed, Violation> {
        self.order.check_history(&self.history)?;
        revisions::check(&self.history)?;
        let replayed = linearizability::check(&self.history, self.traces())?;
        self.watchers.iter().try_for_each(|watcher| watch_guarantees::check(watcher, &replayed))?;
        Ok(replayed)
    }

    /// What machines and watches saw of operations.
    pub fn traces(&self) -> Vec<(OpId, Trace)> {
        self.order.traces().chain(self.traces_of_watches()).collect()
    }

    fn traces_of_watches(&self) -> impl Iterator<Item = (OpId, Trace)> {
        let told = self.watchers.iter().flat_map(Watcher::told);
        let events =
            told.filter_map(|(_, told)| if let Told::Events { events, .. } = told { Some(events) } else { None });
        events.flatten().filter_map(Trace::of_event)
    }

    fn open(&mut self, place: Place, engine: MemoryEngine) -> Home {
        engine.restart();
        let machine = StoreMachine::open(&engine, narrow_options()).expect("what was written can be read");
        self.order.begun(place, machine.applied());
        self.connections += 1;
        let stream = machine.watch_stream(Arc::new(|| {}));
        Home { engine, machine, connection: self.connections, stream, view: None }
    }

    fn step(&mut self) {
        self.now += self.rng.below(1000);
        let place = self.rng.below(MACHINES as u64) as Place;
        match self.rng.below(1000) {
            0..150 if self.waiting.len() < WAITING_MAX => self.invoke(place),
            0..250 => self.append(),
            250..350 => self.apply(place),
            350..400 => drop(self.homes[place].machine.maintain()),
            400..410 => self.flush(place),
            410..980 => self.watch(place),
            980..984 => self.crash(place),
            984..987 => {
                let found = if self.rng.coin() { FailedWrite::Kept } else { FailedWrite::Lost };
                self.homes[place].engine.fail_next_write(found);
                self.flush(place);
            }
            987..990 => self.copy(place, (place + 1) % MACHINES),
            990..993 => self.give_up(),
            _ => self.report(place),
        }
    }

    fn invoke(&mut self, place: Place) {
        let op = self.history.next_op();
        let request = self.workload.draw(op, &mut self.rng);
        let way = request.way(op);
        let home = &self.homes[place];
        self.history.invoke(Moment(self.now), place, home.connection, request.clone());
        match way {
            Way::Propose(_) if self.rng.below(40) == 0 => self.complete(op, Outcome::NotTaken),
            Way::Propose(command) => {
                self.waiting.insert(op, Wait::Applied(place));
                // Or it is lost on its way.
                if self.rng.below(40) > 0 {
                    self.proposed.push(command);
                }
            }
            Way::Barrier => {
                self.waiting.insert(op, Wait::Reached(place, LogIndex(self.log.len() as u64)));
            }
            Way::Local => {
                let read = home.machine.read(&request);
                self.complete(op, Outcome::of_read(read));
            }
        }
    }

    fn complete(&mut self, op: OpId, outcome: Outcome) {
        self.now += 1;
        self.waiting.remove(&op);
        self.workload.learn(&outcome);
        self.history.complete(Moment(self.now), op, outcome);
    }

    fn append(&mut self) {
        if self.rng.below(30) == 0 {
            self.log.push(None);
        } else if !self.proposed.is_empty() {
            let chosen = self.rng.below(self.proposed.len() as u64) as usize;
            self.log.push(Some(self.proposed.swap_remove(chosen)));
        }
    }

    fn apply(&mut self, place: Place) {
        let count = 1 + self.rng.below(8) as usize;
        self.apply_some(place, count);
    }

    fn apply_some(&mut self, place: Place, count: usize) {
        let machine = &mut self.homes[place].machine;
        let from = machine.applied().index.0 as usize;
        let mut replies = Vec::new();
        for (n, entry) in self.log.iter().enumerate().skip(from).take(count) {
            let at = LogId::new(1, n as u64 + 1);
            let Some(command) = entry else {
                machine.skip(at);
                continue;
            };
            let command = StoreCommand::decode(command.clone()).expect("a command");
            let op = command.op.expect("of a client");
            replies.push((op, machine.apply(at, command)));
        }
        machine.end_batch();
        assert_eq!(machine.failure(), None);
        for command in machine.take_applied() {
            self.order.applied(place, command).unwrap();
        }
        for (op, reply) in replies {
            if matches!(self.waiting.get(&op), Some(Wait::Applied(at)) if *at == place) {
                self.complete(op, Outcome::of_applied(&reply));
            }
        }
        self.read(place);
    }

    fn read(&mut self, place: Place) {
        let applied = self.homes[place].machine.applied().index;
        let can = |wait: &Wait| matches!(wait, Wait::Reached(at, barrier) if *at == place && *barrier <= applied);
        let mut ready: Vec<OpId> = self.waiting.iter().filter(|(_, wait)| can(wait)).map(|(op, _)| *op).collect();
        ready.sort_unstable();
        for op in ready {
            let read = self.homes[place].machine.read(&self.history.operation(op).request);
            self.complete(op, Outcome::of_read(read));
        }
    }

    fn flush(&mut self, place: Place) {
        if self.homes[place].machine.flush().is_err() {
            assert!(self.homes[place].machine.failure().is_some());
            self.crash(place);
        }
    }

    fn crash(&mut self, place: Place) {
        let mut lost: Vec<OpId> = Vec::new();
        for (op, wait) in &self.waiting {
            let (Wait::Applied(at) | Wait::Reached(at, _)) = wait;
            if *at == place {
                lost.push(*op);
            }
        }
        lost.sort_unstable();
        lost.into_iter().for_each(|op| self.complete(op, Outcome::Unknown));
        let now = Moment(self.now);
        self.watchers_at(place).for_each(|watcher| watcher.lose(now));
        let engine = self.homes[place].engine.clone();
        self.homes[place] = self.open(place, engine);
    }

    /// A client waits no longer; what it has asked for may happen all the same.
    fn give_up(&mut self) {
        if let Some(op) = self.waiting.keys().min().copied() {
            self.complete(op, Outcome::Unknown);
        }
    }

    /// A machine becomes what another durably is, if that is further on.
    fn copy(&mut self, from: Place, to: Place) {
        let mut snapshot = self.homes[from].machine.snapshot().expect("a snapshot");
        let at = snapshot.at();
        if at <= self.homes[to].machine.applied() {
            return;
        }
        let mut bytes = Vec::new();
        snapshot.write_to(&mut bytes).unwrap();
        if self.homes[to].machine.restore(at, &mut &bytes[..]).is_err() {
            return self.crash(to);
        }
        self.order.begun(to, at);
        // An operation that waits for a command that came with it is not told.
        let waits = |wait: &Wait| matches!(wait, Wait::Applied(place) if *place == to);
        let mut lost: Vec<OpId> = self.waiting.iter().filter(|(_, wait)| waits(wait)).map(|(op, _)| *op).collect();
        lost.sort_unstable();
        lost.into_iter().for_each(|op| self.complete(op, Outcome::Unknown));
        self.read(to);
    }

    fn report(&mut self, place: Place) {
        let report = self.homes[place].machine.report().expect("a digest");
        self.order.reported(place, report).unwrap();
    }

    fn watchers_at(&mut self, place: Place) -> impl Iterator<Item = &mut Watcher> {
        self.watchers.iter_mut().skip(place).step_by(MACHINES)
    }

    fn watch(&mut self, place: Place) {
        if self.watchers.len() < WATCHERS {
            let id = self.watchers.len() as i64 + 1;
            self.watchers.push(Watcher::draw(id, self.workload.newest(), &mut self.rng));
        }
        let now = Moment(self.now);
        let Home { machine, stream, view, .. } = &mut self.homes[place];
        let mut ours: Vec<&mut Watcher> = self.watchers.iter_mut().skip(place).step_by(MACHINES).collect();
        let chosen = self.rng.below((WATCHERS / MACHINES) as u64) as usize;
        match (self.rng.below(40), ours.get_mut(chosen)) {
            (0, _) => stream.request_progress(),
            (1, _) => stream.notify_progress(),
            (2, Some(watcher)) if watcher.is_open() => stream.cancel(watcher.id),
            (3..30, Some(watcher)) if !watcher.is_open() => {
                let request = watcher.ask(now, place);
                // The number of a watch that compaction has ended is taken until its client says so too.
                stream.cancel(request.watch_id);
                stream.create(&request);
            }
            // What it reads then is of this moment.
            (30..33, _) => *view = Some(machine.store().view()),
            _ => {}
        }
        if self.rng.coin() {
            let bytes_max = 1 + self.rng.below(300) as usize;
            self.drain(place, bytes_max);
        }
    }

    fn drain(&mut self, place: Place, bytes_max: usize) -> bool {
        let Home { machine, stream, view, .. } = &mut self.homes[place];
        let view = view.take().unwrap_or_else(|| machine.store().view());
        let drained = stream.catch_up(&view, bytes_max).expect("history can be read");
        for out in drained.outs.into_iter().flat_map(WatchOut::each) {
            deliver(Moment(self.now), &out, self.watchers.iter_mut().skip(place).step_by(MACHINES));
        }
        drained.next != Next::Wait
    }

    /// Lets everything that has begun come to an end.
    fn settle(&mut self) {
        while !self.proposed.is_empty() {
            self.append();
        }
        for place in 0..MACHINES {
            self.apply_some(place, usize::MAX);
            while self.homes[place].machine.maintain() {}
            self.flush(place);
            self.report(place);
            // Twice, for those that are told that what they want is compacted.
            for _ in 0..2 {
                let now = Moment(self.now);
                let Home { stream, .. } = &mut self.homes[place];
                for watcher in self.watchers.iter_mut().skip(place).step_by(MACHINES).filter(|one| !one.is_open()) {
                    let request = watcher.ask(now, place);
                    stream.cancel(request.watch_id);
                    stream.create(&request);
                }
                while self.drain(place, 1000) {}
            }
            let (now, revision) = (Moment(self.now), self.homes[place].machine.store().revision());
            self.watchers_at(place).for_each(|watcher| watcher.hear(now, Told::Settled { revision }));
        }
        let mut left: Vec<OpId> = self.waiting.keys().copied().collect();
        left.sort_unstable();
        left.into_iter().for_each(|op| self.complete(op, Outcome::Unknown));
    }
}

#[test]
fn what_the_store_does_passes() {
    let mut kinds = Kinds::default();
    for seed in 0..4 {
        let driven = run(seed, 2000);
        let replayed = driven.check().unwrap_or_else(|violation| panic!("seed {seed}: {violation:?}"));
        kinds.count(&driven, &replayed);
    }
    kinds.assert_all();
}

/// A run is worth nothing in which nothing happens.
#[derive(Debug, Default)]
struct Kinds {
    changes: usize,
    compactions: usize,
    refused: usize,
    not_taken: usize,
    unknown: usize,
    failed_txns: usize,
    events: usize,
    progress: usize,
    cut_off: usize,
    lost: usize,
}

impl Kinds {
    fn count(&mut self, driven: &Driven, replayed: &Replayed) {
        self.changes += replayed.model.changes().len();
        self.compactions += replayed.compacted.len();
        for (_, operation) in driven.history.operations() {
            match operation.ended.as_ref().map(|(_, outcome)| outcome) {
                Some(Outcome::Refused(_)) => self.refused += 1,
                Some(Outcome::NotTaken) => self.not_taken += 1,
                Some(Outcome::Unknown) => self.unknown += 1,
                Some(Outcome::Done(super::history::Reply::Txn(response))) if !response.succeeded => {
                    self.failed_txns += 1;
                }
                _ => {}
            }
        }
        for (_, told) in driven.watchers.iter().flat_map(Watcher::told) {
            match told {
                Told::Events { events, .. } => self.events += events.len(),
                Told::Progress { .. } => self.progress += 1,
                Told::Canceled { reason: vlot_store::watch::CancelReason::Compacted { .. } } => self.cut_off += 1,
                Told::Lost => self.lost += 1,
                _ => {}
            }
        }
    }

    fn assert_all(&self) {
        let Self { changes, compactions, refused, not_taken, unknown, failed_txns, events, progress, cut_off, lost } =
            self;
        for (count, at_least) in [
            (changes, 2000),
            (compactions, 10),
            (refused, 100),
            (not_taken, 50),
            (unknown, 100),
            (failed_txns, 200),
            (events, 10_000),
            (progress, 100),
            (cut_off, 20),
            (lost, 100),
        ] {
            assert!(*count >= at_least, "{self:?}");
        }
    }
}
