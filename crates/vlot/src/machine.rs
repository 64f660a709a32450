//! A state machine as the driver sees it: without its types.
//!
//! Owns who waits for which proposal and read of one group. Must not know of consensus or of the disk.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::oneshot;

use vlot_raft::configuration::ChangeRefused;
use vlot_raft::effect::TransferRefused;
use vlot_raft::id::LogId;

use crate::payload::Payload;
use crate::replica::Committed;
use crate::snapshot::Saved;
use crate::state_machine::{Command, Snapshot, StateMachine};

/// Whoever waits for an answer, by its number.
#[derive(Debug)]
pub(crate) struct Waiters<T>(Mutex<HashMap<u64, oneshot::Sender<T>>>);

impl<T> Default for Waiters<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Waiters<T> {
    /// Waits under `number`.
    pub(crate) fn wait(&self, number: u64) -> oneshot::Receiver<T> {
        let (answer, waiter) = oneshot::channel();
        self.lock().insert(number, answer);
        waiter
    }

    /// Answers, if someone waits.
    pub(crate) fn answer(&self, number: u64, value: T) {
        if let Some(waiter) = self.lock().remove(&number) {
            // Whoever stopped waiting does not want it.
            let _ = waiter.send(value);
        }
    }

    /// Stops waiting.
    pub(crate) fn forget(&self, number: u64) {
        self.lock().remove(&number);
    }

    /// Lets all go without an answer.
    pub(crate) fn dismiss(&self) {
        self.lock().clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// There is no room for a proposal: nobody has taken it, and nobody will.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoSpace;

/// What the driver needs of a state machine.
pub(crate) trait Machine: Send {
    /// Applies these, in order, and answers who waits for them.
    fn apply(&mut self, batch: Vec<Committed>) -> Result<(), String>;
    /// Answers reads: everything they wait for is applied.
    fn answer_reads(&mut self, reads: Vec<u64>);
    /// Answers who has proposed what is not taken for want of room.
    fn refuse_proposals(&mut self, sequences: Vec<u64>);
    /// Answers who has asked for a change of members that was refused.
    fn refuse_change(&mut self, sequence: u64, why: ChangeRefused);
    /// Answers who has asked for the leadership to be handed over.
    fn answer_transfer(&mut self, sequence: u64, begun: Result<(), TransferRefused>);
    /// What its state has durably.
    fn durable(&self) -> LogId;
    /// See [`StateMachine::snapshot`].
    fn snapshot(&self) -> Option<Box<dyn Snapshot>>;
    /// Becomes what a snapshot holds.
    fn restore(&mut self, saved: &Saved) -> Result<(), String>;
    /// Lets all who wait go.
    fn dismiss(&mut self);
}

/// A typed state machine in the driver's hands.
pub(crate) struct Typed<S: StateMachine> {
    /// Names this process in its proposals.
    pub(crate) origin: u64,
    pub(crate) state: Arc<RwLock<S>>,
    pub(crate) proposals: Arc<Waiters<Result<S::Reply, NoSpace>>>,
    pub(crate) reads: Arc<Waiters<()>>,
    pub(crate) changes: Arc<Waiters<Result<(), ChangeRefused>>>,
    pub(crate) transfers: Arc<Waiters<Result<(), TransferRefused>>>,
}

/// Becomes what a snapshot holds.
pub(crate) fn restore<S: StateMachine>(state: &mut S, saved: &Saved) -> Result<(), String> {
    let mut bytes = saved.state().map_err(|error| format!("cannot read a snapshot: {error}"))?;
    let id = saved.header.id;
    state.restore(id, &mut bytes).map_err(|bad| format!("the snapshot of {id} cannot be restored: {}", bad.0))
}

impl<S: StateMachine> Machine for Typed<S> {
    fn apply(&mut self, batch: Vec<Committed>) -> Result<(), String> {
        // A panic while the lock was held has ended the process or the driver; the state is whole otherwise.
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let mut replies = Vec::with_capacity(batch.len());
        let mut changed = Vec::new();
        for Committed { id: at, payload } in batch {
            match payload {
                // A joint configuration is on its way to the one that is asked for.
                Payload::Configuration(entry) if !entry.members.configuration().is_joint() => {
                    state.members_changed(at, &entry.members, entry.context);
                    changed.extend((entry.change.origin == self.origin).then_some(entry.change.sequence));
                }
                Payload::Blank | Payload::Configuration(_) => state.skip(at),
                Payload::Withheld => {
                    return Err(format!("entry {at} was withheld from this node, which is no witness"));
                }
                Payload::Command { id, command } => {
                    let command = S::Command::decode(command)
                        .map_err(|bad| format!("entry {at} holds no command of this program: {}", bad.0))?;
                    let reply = state.apply(at, command);
                    if id.origin == self.origin {
                        replies.push((id.sequence, reply));
                    }
                }
            }
        }
        state.end_batch();
        drop(state);
        for (sequence, reply) in replies {
            self.proposals.answer(sequence, Ok(reply));
        }
        for sequence in changed {
            self.changes.answer(sequence, Ok(()));
        }
        Ok(())
    }

    fn answer_reads(&mut self, reads: Vec<u64>) {
        for read in reads {
            self.reads.answer(read, ());
        }
    }

    fn refuse_proposals(&mut self, sequences: Vec<u64>) {
        for sequence in sequences {
            self.proposals.answer(sequence, Err(NoSpace));
        }
    }

    fn refuse_change(&mut self, sequence: u64, why: ChangeRefused) {
        self.changes.answer(sequence, Err(why));
    }

    fn answer_transfer(&mut self, sequence: u64, begun: Result<(), TransferRefused>) {
        self.transfers.answer(sequence, begun);
    }

    fn durable(&self) -> LogId {
        self.state.read().unwrap_or_else(PoisonError::into_inner).durable()
    }

    fn snapshot(&self) -> Option<Box<dyn Snapshot>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).snapshot()
    }

    fn restore(&mut self, saved: &Saved) -> Result<(), String> {
        restore(&mut *self.state.write().unwrap_or_else(PoisonError::into_inner), saved)
    }

    fn dismiss(&mut self) {
        self.proposals.dismiss();
        self.reads.dismiss();
        self.changes.dismiss();
        self.transfers.dismiss();
    }
}
