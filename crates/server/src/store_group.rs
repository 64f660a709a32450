//! This node's share of the replicated store: propose, wait until reads are current, look.
//!
//! Owns time limits and the translation of outcomes into statuses. It is the only file that knows how commands are
//! agreed on; services see bytes go in and the store's answer come out. What is agreed on is in `store_machine.rs`.

mod members;

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLockReadGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use vlot::{DiskState, Group, NodeId, ProposeError, ReadError};
use vlot_store::refusal::Refusal;
use vlot_store::store::{Applied, Store};

use crate::metrics::Metrics;
use crate::status::Status;
use crate::store_machine::{Proposal, StoreMachine};

pub(crate) use members::{ATTEMPT_PAUSE, Unchanged};

/// Between two pieces of compaction, so that requests come first.
const COMPACTION_PAUSE: Duration = Duration::from_millis(2);
/// How old the size of the database may be that the quota is held against.
const SIZE_INTERVAL: Duration = Duration::from_millis(500);

/// Where this node stands in its group.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct RaftStatus {
    pub(crate) term: u64,
    /// The leader's member id; zero if none is known.
    pub(crate) leader: u64,
    pub(crate) commit: u64,
    pub(crate) applied: u64,
}

/// This node's share of the store.
pub(crate) struct StoreGroup {
    group: Group<StoreMachine>,
    node: NodeId,
    metrics: Arc<Metrics>,
    request_timeout: Duration,
    database_bytes: AtomicU64,
    compacting: watch::Receiver<bool>,
    /// Whether this node has a learner's seat.
    learns: AtomicBool,
    /// Whether this node was told that it is no member any more.
    removed: watch::Sender<bool>,
}

/// The store, for as long as nothing is applied to it.
pub(crate) struct StoreGuard<'r>(RwLockReadGuard<'r, StoreMachine>);

impl Deref for StoreGuard<'_> {
    type Target = Store;

    fn deref(&self) -> &Store {
        self.0.store()
    }
}

impl StoreGroup {
    pub(crate) fn new(
        group: Group<StoreMachine>,
        member: u64,
        compacting: watch::Receiver<bool>,
        metrics: Arc<Metrics>,
        request_timeout: Duration,
    ) -> StoreGroup {
        StoreGroup {
            group,
            node: NodeId(member),
            metrics,
            request_timeout,
            database_bytes: AtomicU64::new(0),
            compacting,
            learns: AtomicBool::new(false),
            removed: watch::Sender::new(false),
        }
    }

    /// How long a call may wait for the cluster.
    pub(crate) fn request_timeout(&self) -> Duration {
        self.request_timeout
    }

    /// Replicates a command and returns what the store made of it.
    ///
    /// # Errors
    /// The command may or may not be applied later; only a refusal of the store is certain.
    pub(crate) async fn propose(&self, proposal: Proposal) -> Result<Result<Applied, Refusal>, Status> {
        self.group.propose(proposal).await.map_err(|error| {
            self.metrics.proposals_failed.fetch_add(1, Relaxed);
            match error {
                ProposeError::Unknown => Status::TIMEOUT,
                ProposeError::Busy => Status::TOO_MANY_REQUESTS,
                ProposeError::NoSpace => Status::NO_SPACE,
                ProposeError::TooLarge { .. } => Status::REQUEST_TOO_LARGE,
                ProposeError::Stopped => Status::STOPPED,
            }
        })
    }

    /// Waits until the local store is at least as new as the cluster was at the call.
    pub(crate) async fn barrier(&self) -> Result<(), Status> {
        self.group.barrier().await.map_err(|error| {
            self.metrics.reads_failed.fetch_add(1, Relaxed);
            match error {
                ReadError::TimedOut => Status::TIMEOUT,
                ReadError::Busy => Status::TOO_MANY_REQUESTS,
                ReadError::Stopped => Status::STOPPED,
            }
        })
    }

    /// Waits until nothing of what was compacted is left.
    pub(crate) async fn compacted(&self) -> Result<(), Status> {
        let mut compacting = self.compacting.clone();
        let done = timeout(self.request_timeout, compacting.wait_for(|pending| !*pending)).await;
        done.map(|_| ()).map_err(|_| Status::TIMEOUT)
    }

    /// The store as it is on this node. To be dropped before anything is waited for.
    pub(crate) fn store(&self) -> StoreGuard<'_> {
        StoreGuard(self.group.state())
    }

    /// Why the store can write nothing more, if it cannot.
    pub(crate) fn failure(&self) -> Option<String> {
        self.store().failure().map(|error| error.to_string())
    }

    pub(crate) fn raft_status(&self) -> RaftStatus {
        let vlot::Status { role_state, commit, applied, .. } = self.group.status();
        RaftStatus {
            term: role_state.term.0,
            leader: role_state.leader.map_or(0, |node| node.0),
            commit: commit.0,
            applied: applied.0,
        }
    }

    /// How the disk of this node's log does.
    pub(crate) fn disk(&self) -> DiskState {
        self.group.status().disk
    }

    pub(crate) fn has_leader(&self) -> bool {
        self.raft_status().leader != 0
    }

    /// How many proposals wait for their outcome.
    pub(crate) fn proposals_waiting(&self) -> usize {
        self.group.proposals_waiting()
    }

    /// Bytes of the database in use, some moments ago.
    pub(crate) fn database_bytes(&self) -> u64 {
        self.database_bytes.load(Relaxed)
    }

    /// Writes everything that was applied down, so that the next start has nothing to apply again.
    pub(crate) fn flush(&self) -> Result<(), String> {
        self.group.state_lock().write().unwrap_or_else(PoisonError::into_inner).flush()
    }

    /// Does what is left to the owner, for ever: gives up compacted history piece by piece, measures, and counts.
    pub(crate) async fn run_maintenance(&self) {
        let compact = async {
            let mut compacting = self.compacting.clone();
            while compacting.wait_for(|pending| *pending).await.is_ok() {
                while self.compact_a_little() {
                    tokio::time::sleep(COMPACTION_PAUSE).await;
                }
            }
        };
        let measure = async {
            loop {
                self.database_bytes.store(self.store().sizes().database_bytes_in_use, Relaxed);
                tokio::time::sleep(SIZE_INTERVAL).await;
            }
        };
        tokio::join!(
            compact,
            measure,
            self.count_leaders(),
            self.watch_own_seat(),
            self.watch_happenings(),
            self.promote_voters()
        );
    }

    async fn count_leaders(&self) {
        let mut role_states = self.group.role_states();
        let mut known = None;
        loop {
            let leader = role_states.borrow_and_update().leader;
            if leader.is_some() && leader != known {
                known = leader;
                self.metrics.leader_changes.fetch_add(1, Relaxed);
            }
            // Ends with the node.
            if role_states.changed().await.is_err() {
                return;
            }
        }
    }

    fn compact_a_little(&self) -> bool {
        // A panic ends the process, so that nobody sees what a poisoned lock guards half-changed.
        self.group.state_lock().write().unwrap_or_else(PoisonError::into_inner).compact_a_little()
    }
}
