//! A group's state machine in the hands of the driver: applied in place where that is certain to be short, by a thread of
//! its own otherwise.
//!
//! Owns the order of what a state machine is asked, and the locks around it. What it is told of an entry, and what stops
//! it, is `vlot_node::machine`'s.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use vlot_node::act::Answer;
use vlot_node::input::Input;
use vlot_node::machine::{self, Fence, Outcome, Step};
use vlot_node::replica::Committed;
use vlot_node::snapshot::Header;
use vlot_node::state_machine::{Snapshot, StateMachine};
use vlot_raft::id::{GroupId, LogId};

use crate::events::Events;
use crate::group::Calls;
use crate::snapshots::Snapshots;
use crate::state_lock::StateLock;
use crate::tasks::Spawner;

/// How many commands, and how much, may be applied in place, on the node's own thread, if every command of it is prompt: a few milliseconds' work, so that
/// what many callers propose at once is applied before another thread would have begun.
const IN_PLACE_COMMANDS_MAX: usize = 4096;
const IN_PLACE_BYTES_MAX: usize = 1 << 20;
/// Between two pieces of maintenance, so that commands come first.
const MAINTENANCE_PAUSE: Duration = Duration::from_millis(2);

/// What the driver needs of a state machine, without its types.
pub(crate) trait Machine: Send {
    /// Applies these after all that was asked before. Gives back the report if that is done at once; it comes as an event
    /// otherwise.
    fn apply(&mut self, batch: Vec<Committed>) -> Option<Input>;
    /// Becomes a snapshot.
    fn restore(&mut self, id: LogId);
    /// Takes a snapshot, and keeps it until it is saved or dropped.
    fn take_snapshot(&mut self);
    /// Saves the snapshot that was taken, or drops it.
    fn save(&mut self, header: Option<Header>);
    /// Answers a call.
    fn answer(&mut self, answer: Answer);
    /// Nothing is asked any more: calls are let go, and the state machine is told once it has done what it was asked. That
    /// is done when the sender of what is returned is gone.
    fn close(&mut self) -> oneshot::Receiver<()>;
}

/// A typed state machine.
pub(crate) struct Typed<S: StateMachine> {
    shared: Arc<Shared<S>>,
}

/// What the driver and the threads that apply share.
struct Shared<S: StateMachine> {
    group: GroupId,
    /// Names this process in its proposals.
    origin: u64,
    state: Arc<StateLock<S>>,
    calls: Arc<Calls<S>>,
    events: Arc<Events>,
    snapshots: Snapshots,
    spawner: Spawner,
    work: Mutex<Work<S>>,
}

/// What a state machine is yet to do.
struct Work<S: StateMachine> {
    jobs: VecDeque<Job<S>>,
    /// A thread is at it.
    is_running: bool,
    /// Maintenance comes in a while, or is among the jobs. Were it planned anew after each batch, it would be done without a pause.
    is_maintenance_planned: bool,
    /// The last entry that it has applied.
    applied: LogId,
    /// The snapshot that was taken.
    taken: Option<Box<dyn Snapshot>>,
    /// It has failed: whatever else it is asked is dropped.
    has_failed: bool,
}

enum Job<S: StateMachine> {
    Apply(Vec<Committed>),
    ApplySteps(Vec<Step<S::Command>>, Option<Fence>),
    Restore(LogId),
    TakeSnapshot,
    Maintain,
    Close(oneshot::Sender<()>),
}

impl<S: StateMachine> Typed<S> {
    pub(crate) fn new(
        (group, origin): (GroupId, u64),
        (state, applied): (Arc<StateLock<S>>, LogId),
        calls: Arc<Calls<S>>,
        events: Arc<Events>,
        snapshots: Snapshots,
    ) -> Self {
        let work = Work {
            jobs: VecDeque::new(),
            is_running: false,
            is_maintenance_planned: false,
            applied,
            taken: None,
            has_failed: false,
        };
        let (spawner, work) = (snapshots.spawner.clone(), Mutex::new(work));
        let shared = Shared { group, origin, state, calls, events, snapshots, spawner, work };
        Self { shared: Arc::new(shared) }
    }

    /// Applies a batch on this thread, if nothing is under way, no read takes long, and every command of it is prompt.
    fn apply_in_place(&self, batch: Vec<Committed>) -> Result<Option<Input>, Job<S>> {
        let shared = &self.shared;
        let sizes = batch.iter().map(|entry| entry.payload.size_of_commands());
        let (commands, bytes) = sizes.fold((0, 0), |(n, bytes), it| (n + it.0, bytes + it.1));
        let work = shared.work();
        if work.is_running
            || work.has_failed
            || commands.max(batch.len()) > IN_PLACE_COMMANDS_MAX
            || bytes > IN_PLACE_BYTES_MAX
        {
            return Err(Job::Apply(batch));
        }
        let applied = work.applied;
        drop(work);
        let Some(mut place) = shared.state.in_place() else { return Err(Job::Apply(batch)) };
        let state = &mut *place.state;
        let (steps, fence) = machine::decode::<S>(shared.origin, batch);
        let is_prompt = |step: &Step<S::Command>| match step {
            Step::Apply { command, .. } => state.is_prompt(command),
            Step::Members { .. } | Step::Time { .. } | Step::Skip { .. } => true,
        };
        if !steps.iter().all(is_prompt) {
            drop(place);
            return Err(Job::ApplySteps(steps, fence));
        }
        let done = machine::apply(state, applied, steps).and_then(|done| fence.map_or(Ok(done), Err));
        if done.is_err() {
            shared.calls.shown.fail();
        }
        let (durable, needs_maintenance) = (state.durable(), state.needs_maintenance());
        drop(place);
        match done {
            Ok((upto, outcomes)) => {
                shared.work().applied = upto;
                shared.calls.settle(outcomes);
                if needs_maintenance {
                    shared.maintain_soon();
                }
                Ok(Some(Input::Applied { group: shared.group, upto, durable }))
            }
            Err(why) => Ok(Some(shared.failed(why))),
        }
    }
}

impl<S: StateMachine> Machine for Typed<S> {
    fn apply(&mut self, batch: Vec<Committed>) -> Option<Input> {
        let tried = catch_unwind(AssertUnwindSafe(|| self.apply_in_place(batch)));
        match tried {
            Ok(Ok(done)) => done,
            Ok(Err(job)) => {
                self.shared.ask(job);
                None
            }
            Err(panic) => {
                let after = self.shared.work().applied;
                Some(self.shared.failed(Fence::Panicked { after, message: machine::said(&*panic) }))
            }
        }
    }

    fn restore(&mut self, id: LogId) {
        self.shared.ask(Job::Restore(id));
    }

    fn take_snapshot(&mut self) {
        self.shared.ask(Job::TakeSnapshot);
    }

    fn save(&mut self, header: Option<Header>) {
        let taken = self.shared.work().taken.take();
        let (Some(header), Some(mut snapshot)) = (header, taken) else { return };
        // Not on the thread that applies: a snapshot is a handle to a state that stays as it is.
        let shared = Arc::clone(&self.shared);
        self.shared.spawner.spawn_blocking(move || {
            let Snapshots { dir, measures, .. } = &shared.snapshots;
            let saved = catch_unwind(AssertUnwindSafe(|| measures.saves.time(|| dir.save(&header, &mut *snapshot))));
            let saved = match saved {
                Ok(saved) => saved.map_err(|error| error.to_string()),
                Err(panic) => Err(format!("the snapshot panicked: {}", machine::said(&*panic))),
            };
            shared.events.report(Input::Saved { group: shared.group, saved });
        });
    }

    fn answer(&mut self, answer: Answer) {
        self.shared.calls.answer(answer);
    }

    fn close(&mut self) -> oneshot::Receiver<()> {
        self.shared.calls.close();
        let (done, closed) = oneshot::channel();
        self.shared.ask(Job::Close(done));
        closed
    }
}

impl<S: StateMachine> Shared<S> {
    /// Asks for something after all that was asked before.
    fn ask(self: &Arc<Self>, job: Job<S>) {
        let mut work = self.work();
        work.jobs.push_back(job);
        if std::mem::replace(&mut work.is_running, true) {
            return;
        }
        drop(work);
        let shared = Arc::clone(self);
        self.spawner.spawn_blocking(move || while shared.work_off() {});
    }

    /// Does the next job. False if there is none.
    fn work_off(self: &Arc<Self>) -> bool {
        let mut work = self.work();
        let Some(job) = work.jobs.pop_front() else {
            work.is_running = false;
            return false;
        };
        let (applied, has_failed) = (work.applied, work.has_failed);
        drop(work);
        if has_failed {
            return true;
        }
        let report = catch_unwind(AssertUnwindSafe(|| self.carry_out(job, applied)));
        let report = report.unwrap_or_else(|panic| {
            Some(self.failed(Fence::Panicked { after: applied, message: machine::said(&*panic) }))
        });
        if let Some(report) = report {
            self.events.report(report);
        }
        true
    }

    fn carry_out(self: &Arc<Self>, job: Job<S>, applied: LogId) -> Option<Input> {
        match job {
            Job::Apply(batch) => {
                let (steps, fence) = machine::decode::<S>(self.origin, batch);
                Some(self.apply(applied, steps, fence))
            }
            Job::ApplySteps(steps, fence) => Some(self.apply(applied, steps, fence)),
            Job::Restore(id) => Some(self.restore(id)),
            Job::TakeSnapshot => {
                let taken = self.state.blocking_read().snapshot();
                let id = taken.as_ref().map(|snapshot| snapshot.at());
                self.work().taken = taken;
                Some(Input::SnapshotTaken { group: self.group, id })
            }
            Job::Maintain => {
                self.work().is_maintenance_planned = false;
                if self.state.blocking_write().maintain() {
                    self.maintain_soon();
                }
                None
            }
            Job::Close(done) => {
                self.state.blocking_write().close();
                drop(done);
                None
            }
        }
    }

    fn apply(self: &Arc<Self>, applied: LogId, steps: Vec<Step<S::Command>>, fence: Option<Fence>) -> Input {
        let mut state = self.state.blocking_write();
        let done = machine::apply(&mut *state, applied, steps);
        if done.is_err() {
            self.calls.shown.fail();
        }
        let (durable, needs_maintenance) = (state.durable(), state.needs_maintenance());
        drop(state);
        match done {
            Ok((upto, outcomes)) => {
                self.work().applied = upto;
                self.calls.settle(outcomes);
                if needs_maintenance {
                    self.maintain_soon();
                }
                fence.map_or(Input::Applied { group: self.group, upto, durable }, |why| self.failed(why))
            }
            Err(why) => self.failed(why),
        }
    }

    fn restore(&self, id: LogId) -> Input {
        let _restoring = self.snapshots.measures.restoring();
        let bad = |why: String| Fence::BadSnapshot { of: id, why };
        let saved = self.snapshots.dir.saved(self.group, id).map_err(|error| bad(error.to_string()));
        let restored = saved.and_then(|saved| {
            let saved = saved.ok_or_else(|| bad("it was on this node's disk, and is gone".to_owned()))?;
            let mut bytes = saved.state().map_err(|error| bad(error.to_string()))?;
            let mut state = self.state.blocking_write();
            machine::restore(&mut *state, id, &mut bytes).inspect_err(|_| self.calls.shown.fail())?;
            Ok(state.durable())
        });
        match restored {
            Ok(durable) => {
                self.work().applied = id;
                Input::Restored { group: self.group, id, durable }
            }
            Err(why) => self.failed(why),
        }
    }

    /// Does some maintenance in a while, once however often it is asked for by then.
    fn maintain_soon(self: &Arc<Self>) {
        if std::mem::replace(&mut self.work().is_maintenance_planned, true) {
            return;
        }
        let shared = Arc::clone(self);
        self.spawner.spawn(async move {
            tokio::time::sleep(MAINTENANCE_PAUSE).await;
            shared.ask(Job::Maintain);
        });
    }

    /// The state machine has failed: it does nothing more.
    fn failed(&self, why: Fence) -> Input {
        self.work().has_failed = true;
        self.calls.shown.fail();
        Input::Failed { group: self.group, why: Arc::new(why) }
    }

    fn work(&self) -> MutexGuard<'_, Work<S>> {
        // Only moves of whole values happen under the lock.
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: StateMachine> Calls<S> {
    /// Answers the proposals and changes that are applied.
    fn settle(&self, outcomes: Vec<Outcome<S::Reply>>) {
        let mut replies = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            match outcome {
                Outcome::Applied(sequence, reply) => replies.push((sequence, Ok(reply))),
                Outcome::Changed(sequence) => self.changes.answer(sequence, Ok(())),
            }
        }
        self.proposals.answer_all(replies);
    }
}
