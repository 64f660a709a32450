//! What waits for the driver's next turn: calls of this process and reports of the disk and of state machines.
//!
//! Owns their order. Bounded by its sources: each caller has a bound on what it may have waiting, and the log and state
//! machines report only what they were asked.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Notify, oneshot};
use vlot_node::input::Input;
use vlot_node::node::NewGroup;
use vlot_node::replica::CannotBegin;
use vlot_node::report::Report;
use vlot_raft::id::GroupId;

use crate::end::LogFailed;
use crate::group::ClosedGroup;
use crate::machine::Machine;
use crate::recorder::DumpError;
use crate::shown::Shown;

/// Something for the driver.
pub(crate) enum Event {
    Input(Input),
    /// The log is unusable.
    LogFailed(LogFailed),
    Begin(Box<Beginning>),
    /// A group is to be closed.
    Close {
        group: GroupId,
        remove: bool,
        closed: oneshot::Sender<ClosedGroup>,
    },
    /// A report of a group is asked for. Without the group there is none.
    Report {
        group: GroupId,
        report: oneshot::Sender<Report>,
    },
    /// The flight record is to be written.
    DumpFlight {
        dumped: oneshot::Sender<Result<PathBuf, DumpError>>,
    },
    /// A turn is due, though nothing has happened.
    Wake,
    Stop,
}

/// A group to be driven.
pub(crate) struct Beginning {
    pub(crate) new: NewGroup,
    pub(crate) machine: Box<dyn Machine>,
    pub(crate) shown: Arc<Shown>,
    pub(crate) begun: oneshot::Sender<Result<(), CannotBegin>>,
}

impl From<Input> for Event {
    fn from(input: Input) -> Self {
        Self::Input(input)
    }
}

/// The driver's letter box.
#[derive(Default)]
pub(crate) struct Events {
    waiting: Mutex<Waiting>,
    filled: Notify,
    /// It is to be told since when the oldest has waited.
    is_timed: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    events: Vec<Event>,
    /// Since when the oldest waits, if that is to be told.
    since: Option<Instant>,
    /// The driver has ended: what came would be kept for ever.
    is_closed: bool,
}

/// The driver has ended.
#[derive(Debug)]
pub(crate) struct Closed;

impl Events {
    /// Puts something in.
    ///
    /// # Errors
    /// If the driver has ended.
    pub(crate) fn push(&self, event: impl Into<Event>) -> Result<(), Closed> {
        let mut waiting = self.lock();
        if waiting.is_closed {
            return Err(Closed);
        }
        let was_empty = waiting.events.is_empty();
        if was_empty && self.is_timed.load(Relaxed) {
            waiting.since = Some(Instant::now());
        }
        waiting.events.push(event.into());
        drop(waiting);
        // A driver that finds it filled has been told.
        if was_empty {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Puts all of these in, in their order. A driver that has ended does not want them.
    pub(crate) fn push_all(&self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let mut waiting = self.lock();
        if waiting.is_closed {
            return;
        }
        let was_empty = waiting.events.is_empty();
        if was_empty && self.is_timed.load(Relaxed) {
            waiting.since = Some(Instant::now());
        }
        waiting.events.extend(events);
        drop(waiting);
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// Reports what was asked for. A driver that has ended does not want it.
    pub(crate) fn report(&self, input: Input) {
        let _ = self.push(input);
    }

    /// Everything that waits, into `taken`, which must be empty: the two change places. Gives back since when the oldest has
    /// waited, if that is to be told.
    pub(crate) fn take(&self, taken: &mut Vec<Event>) -> Option<Instant> {
        let mut waiting = self.lock();
        std::mem::swap(&mut waiting.events, taken);
        waiting.since.take()
    }

    /// Whether it is to be told since when the oldest has waited.
    pub(crate) fn time(&self, is_timed: bool) {
        self.is_timed.store(is_timed, Relaxed);
    }

    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// The driver has ended: nothing is kept any more.
    pub(crate) fn close(&self) {
        let mut waiting = self.lock();
        waiting.is_closed = true;
        let left = std::mem::take(&mut waiting.events);
        drop(waiting);
        // What is in there may have things to do when it is dropped.
        drop(left);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Only moves of whole values happen under the lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
