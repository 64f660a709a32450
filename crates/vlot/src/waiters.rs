//! Calls of this process that wait for an answer.
//!
//! Owns them by number, and that none is left waiting when no answer can come any more.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Calls that wait, by their numbers. A call that is let go hears that its sender is gone.
#[derive(Debug)]
pub(crate) struct Waiters<T>(Mutex<Waiting<T>>);

#[derive(Debug)]
struct Waiting<T> {
    calls: HashMap<u64, oneshot::Sender<T>>,
    /// Nothing will be answered any more.
    is_closed: bool,
}

impl<T> Default for Waiters<T> {
    fn default() -> Self {
        Self(Mutex::new(Waiting { calls: HashMap::new(), is_closed: false }))
    }
}

impl<T> Waiters<T> {
    /// Waits under `number`.
    pub(crate) fn wait(&self, number: u64) -> oneshot::Receiver<T> {
        let (answer, waiter) = oneshot::channel();
        let mut waiting = self.lock();
        if !waiting.is_closed {
            waiting.calls.insert(number, answer);
        }
        waiter
    }

    /// Answers, if a call waits.
    pub(crate) fn answer(&self, number: u64, value: T) {
        let waiter = self.lock().calls.remove(&number);
        if let Some(waiter) = waiter {
            // A call that has stopped waiting does not want it.
            let _ = waiter.send(value);
        }
    }

    /// Stops waiting.
    pub(crate) fn forget(&self, number: u64) {
        self.lock().calls.remove(&number);
    }

    /// Lets all go without an answer, those that come later too.
    pub(crate) fn close(&self) {
        let mut waiting = self.lock();
        waiting.is_closed = true;
        waiting.calls = HashMap::new();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().is_closed
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().calls.len()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        // Only moves of whole values happen under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
