//! What waits for the driver's next turn: calls of this process and reports of the log.
//!
//! Owns their order. Bounded by who fills it: each caller has a bound on what it may have waiting, and the log reports
//! only what it was asked.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use vlot_raft::id::{GroupId, LogId, NodeId};

use crate::log_thread::Done;
use crate::machine::Machine;
use crate::node::Input;
use crate::replica::{Begin, CannotBegin};
use crate::snapshot::Header;
use crate::view::View;

/// Something for the driver.
pub(crate) enum Event {
    Input(Input),
    Log(Done),
    Begin(Box<NewGroup>),
    /// An attempt to get a snapshot has ended.
    SnapshotGot {
        group: GroupId,
        attempt: u64,
        got: Result<Header, String>,
    },
    /// A snapshot was sent to a peer, or could not be.
    SnapshotSent {
        group: GroupId,
        to: NodeId,
        attempt: u64,
        sent: Result<LogId, String>,
    },
    /// A snapshot of this node's own state is saved, or could not be.
    SnapshotSaved {
        group: GroupId,
        saved: Result<LogId, String>,
    },
    Stop,
}

/// A replica to be driven.
pub(crate) struct NewGroup {
    pub(crate) begin: Begin,
    pub(crate) machine: Box<dyn Machine>,
    pub(crate) view: std::sync::Arc<View>,
    /// What its state has durably in a snapshot of this node.
    pub(crate) saved: LogId,
    pub(crate) begun: tokio::sync::oneshot::Sender<Result<(), CannotBegin>>,
}

impl NewGroup {
    pub(crate) fn id(&self) -> GroupId {
        self.begin.group
    }
}

impl From<Input> for Event {
    fn from(input: Input) -> Self {
        Self::Input(input)
    }
}

/// The driver's letter box.
#[derive(Default)]
pub(crate) struct Events {
    waiting: Mutex<Vec<Event>>,
    filled: Notify,
}

impl Events {
    pub(crate) fn push(&self, event: impl Into<Event>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = waiting.is_empty();
        waiting.push(event.into());
        drop(waiting);
        // Who finds it filled has been told.
        if was_empty {
            self.filled.notify_one();
        }
    }

    /// Everything that waits, into `taken`, which must be empty: the two change places.
    pub(crate) fn take(&self, taken: &mut Vec<Event>) {
        std::mem::swap(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner), taken);
    }

    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }
}
