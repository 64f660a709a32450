//! A state machine as the driver sees it: without its types.
//!
//! Owns who waits for which proposal and read of one group. Must not know of consensus or of the disk.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use tokio::sync::oneshot;

use crate::payload::Payload;
use crate::replica::Committed;
use crate::state_machine::{Command, StateMachine};

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

/// What the driver needs of a state machine.
pub(crate) trait Machine: Send {
    /// Applies these, in order, and answers who waits for them.
    fn apply(&mut self, batch: Vec<Committed>) -> Result<(), String>;
    /// Answers reads: everything they wait for is applied.
    fn answer_reads(&mut self, reads: Vec<u64>);
    /// Lets all who wait go.
    fn dismiss(&mut self);
}

/// A typed state machine in the driver's hands.
pub(crate) struct Typed<S: StateMachine> {
    /// Names this process in its proposals.
    pub(crate) origin: u64,
    pub(crate) state: Arc<RwLock<S>>,
    pub(crate) proposals: Arc<Waiters<S::Reply>>,
    pub(crate) reads: Arc<Waiters<()>>,
}

impl<S: StateMachine> Machine for Typed<S> {
    fn apply(&mut self, batch: Vec<Committed>) -> Result<(), String> {
        // A panic while the lock was held has ended the process or the driver; the state is whole otherwise.
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let mut replies = Vec::with_capacity(batch.len());
        for Committed { id: at, payload } in batch {
            match payload {
                Payload::Blank => state.skip(at),
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
            self.proposals.answer(sequence, reply);
        }
        Ok(())
    }

    fn answer_reads(&mut self, reads: Vec<u64>) {
        for read in reads {
            self.reads.answer(read, ());
        }
    }

    fn dismiss(&mut self) {
        self.proposals.dismiss();
        self.reads.dismiss();
    }
}
