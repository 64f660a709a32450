//! This node's share of the replicated store: propose, wait until reads are current, look.
//!
//! Owns time limits and the translation of outcomes into statuses. It is the only file that knows how commands are
//! agreed on; services see bytes go in and the store's answer come out. What is agreed on is in `store_machine.rs`.

mod leases;
mod members;

use std::fmt;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::timeout;
use vlot::{DiskState, Group, NodeId, ProposeError, ReadError, RoleName};
use vlot_proto::etcdserverpb::{AlarmType, RangeRequest};
use vlot_store::alarms::Alarms;
use vlot_store::auth::{Asker, Auth};
use vlot_store::command::Command;
use vlot_store::figures::Figures;
use vlot_store::lease::clock::LeaseClock;
use vlot_store::quota::Quota;
use vlot_store::refusal::Refusal;
use vlot_store::store::{Applied, Failure, Sizes, Store};
use vlot_store::view::View;

use leases::Renewals;
pub(crate) use leases::Renewing;

use crate::edge_thread;
use crate::status::Status;
use crate::store_machine::{Facts, Proposal, StoreMachine, Told};
use crate::telemetry::metrics::Metrics;

pub(crate) use members::{ATTEMPT_PAUSE, Unchanged};

/// How old the size of the database may be that the quota is held against.
pub(crate) const SIZE_INTERVAL: Duration = Duration::from_millis(500);
/// How much more history than the log's headroom must find room on the disk for puts to be taken: the rest is for
/// deletions and compactions, which make room. The store asks for twice as much as it is to write.
const RESERVE_BYTES: usize = (64 + 8) << 20 >> 1;
/// How long a glance at the store waits for a command that is being applied.
const GLANCE_MAX: Duration = Duration::from_millis(50);
/// A read that waits longer for the cluster's word counts as slow; as in etcd, which asks again then.
const SLOW_READ: Duration = Duration::from_millis(500);

/// What a store tells of itself at a glance.
#[derive(Clone, Debug)]
pub(crate) struct Glance {
    pub(crate) sizes: Sizes,
    pub(crate) revision: i64,
    pub(crate) compacted_revision: i64,
    pub(crate) auth_revision: u64,
    pub(crate) figures: Figures,
    pub(crate) quotas: Vec<(Bytes, Quota)>,
    /// Whether the disk has room for more than deletions and compactions.
    pub(crate) has_room: bool,
    /// Why the store can write nothing more, if it cannot.
    pub(crate) failure: Option<Failure>,
}

impl Default for Glance {
    fn default() -> Self {
        // Nothing is refused before it was looked at.
        let (sizes, figures) = (Sizes::default(), Figures::default());
        let quotas = Vec::new();
        let (revision, compacted_revision, auth_revision) = (0, 0, 1);
        let (has_room, failure) = (true, None);
        Glance { sizes, revision, compacted_revision, auth_revision, figures, quotas, has_room, failure }
    }
}

impl Glance {
    fn at(store: &Store) -> Glance {
        Glance {
            sizes: store.sizes(),
            revision: store.revision(),
            compacted_revision: store.compacted_revision(),
            auth_revision: store.auth().revision(),
            figures: store.figures(),
            quotas: store.quotas().map(|(prefix, quota)| (prefix.clone(), *quota)).collect(),
            has_room: store.has_room_for(RESERVE_BYTES),
            failure: store.failure(),
        }
    }
}

/// Why the store can write nothing more.
#[derive(Clone, Debug)]
pub enum StoreFailure {
    /// The store has failed, and says why.
    Store(Failure),
    /// The store has stopped, and nothing can be asked of it.
    NoAnswer(Status),
}

impl fmt::Display for StoreFailure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(failure) => failure.fmt(out),
            Self::NoAnswer(status) => out.write_str(&status.message),
        }
    }
}

impl std::error::Error for StoreFailure {}

/// Where this node stands in its group.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct RaftStatus {
    pub(crate) term: u64,
    pub(crate) role: RoleName,
    /// The leader's member id; zero if none is known.
    pub(crate) leader: u64,
    pub(crate) commit: u64,
    pub(crate) applied: u64,
}

/// This node's share of the store.
pub(crate) struct StoreGroup {
    /// A handle for each edge thread.
    handles: Vec<Group<StoreMachine>>,
    node: NodeId,
    metrics: Arc<Metrics>,
    request_timeout: Duration,
    last_glance: Mutex<Glance>,
    told: Told,
    renewals: Renewals,
    lease_clock: Mutex<LeaseClock>,
    /// What cluster time was when this node looked last.
    cluster_time: AtomicU64,
    started: Instant,
    /// Whether this node has a learner's seat.
    learns: AtomicBool,
    /// Whether this node is a witness: it votes, and keeps no data.
    is_witness: watch::Sender<bool>,
    /// Whether this node was told that it is no member any more.
    removed: watch::Sender<bool>,
}

impl StoreGroup {
    /// For the thread that drives the node, and for edge threads that run these.
    pub(crate) fn new<'r>(
        group: Group<StoreMachine>,
        runtimes: impl Iterator<Item = &'r Handle>,
        member: u64,
        told: Told,
        metrics: Arc<Metrics>,
        request_timeout: Duration,
    ) -> StoreGroup {
        let others: Vec<_> = runtimes.map(|runtime| group.for_runtime(runtime)).collect();
        StoreGroup {
            handles: std::iter::once(group).chain(others).collect(),
            node: NodeId(member),
            metrics,
            request_timeout,
            last_glance: Mutex::default(),
            told,
            renewals: Renewals::default(),
            lease_clock: Mutex::default(),
            cluster_time: AtomicU64::new(0),
            started: Instant::now(),
            learns: AtomicBool::new(false),
            is_witness: watch::Sender::new(false),
            removed: watch::Sender::new(false),
        }
    }

    /// The handle of the thread that this is called on.
    fn group(&self) -> &Group<StoreMachine> {
        &self.handles[edge_thread::number()]
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
        self.group().propose(proposal).await.map_err(|error| {
            self.metrics.proposals_failed.fetch_add(1, Relaxed);
            match error {
                ProposeError::Unknown => Status::TIMEOUT,
                ProposeError::Busy => Status::TOO_MANY_REQUESTS,
                ProposeError::NoSpace => Status::NO_SPACE,
                ProposeError::TooLarge { .. } | ProposeError::Invalid(_) => Status::REQUEST_TOO_LARGE,
                ProposeError::NoLeader | ProposeError::NotLeader { .. } => Status::TIMEOUT,
                ProposeError::NotAMember | ProposeError::Fenced | ProposeError::Closed | ProposeError::Stopped => {
                    Status::STOPPED
                }
            }
        })
    }

    /// Proposes what this member does by its own rules.
    ///
    /// # Errors
    /// As [`StoreGroup::propose`].
    pub(crate) async fn propose_own(&self, command: Command) -> Result<Result<Applied, Refusal>, Status> {
        // Without an asker it could be a client's that has not said who it is. Older versions know no asker, and no
        // authentication either.
        let command = if self.asks_who_calls() { command.by(Asker::Server) } else { command };
        self.propose(Proposal::Command(command)).await
    }

    /// Waits until the local store is at least as new as the cluster was at the call.
    pub(crate) async fn barrier(&self) -> Result<(), Status> {
        if self.is_corrupt() {
            // What is here is not what the cluster has decided.
            return Err(Status::CORRUPT);
        }
        let begun = Instant::now();
        let current = self.group().barrier().await;
        if begun.elapsed() > SLOW_READ {
            self.metrics.slow_reads.fetch_add(1, Relaxed);
        }
        current.map_err(|error| {
            self.metrics.reads_failed.fetch_add(1, Relaxed);
            refused(error)
        })
    }

    /// Reads a key as a client would, after the cluster's word if that is asked for. A long command that is being applied is
    /// not waited for: the store that applies it lives.
    pub(crate) async fn probe(&self, linearizable: bool) -> Result<(), Status> {
        if linearizable {
            self.barrier().await?;
        }
        let any = RangeRequest { key: Bytes::from_static(b"\0"), keys_only: true, ..Default::default() };
        match timeout(GLANCE_MAX, self.look(|store| store.range(&any))).await {
            Ok(read) => read?.map(drop).map_err(Status::from),
            Err(_) => Ok(()),
        }
    }

    /// Waits until nothing of what was compacted is left.
    pub(crate) async fn compacted(&self) -> Result<(), Status> {
        let mut compacting = self.told.compacting.clone();
        let done = timeout(self.request_timeout, compacting.wait_for(|pending| !*pending)).await;
        done.map(|_| ()).map_err(|_| Status::TIMEOUT)
    }

    /// Looks at the store as it is on this node. Nothing is applied meanwhile: what takes long is for a view.
    ///
    /// # Errors
    /// If the store has stopped.
    pub(crate) async fn look<T>(&self, look: impl FnOnce(&Store) -> T) -> Result<T, Status> {
        self.group().look(|machine| look(machine.store())).await.map_err(refused)
    }

    /// What is remembered beside the keys.
    pub(crate) fn facts(&self) -> Arc<Facts> {
        Arc::clone(&self.told.facts.borrow())
    }

    /// A view of the store as it is on this node.
    ///
    /// # Errors
    /// If the store has stopped.
    pub(crate) async fn local_view(&self) -> Result<View, Status> {
        self.group().local_view().await.map_err(refused)
    }

    /// What the store tells of itself. While a long command is applied it is what it told before: a caller that asks
    /// whether the node lives does not wait for that.
    ///
    /// # Errors
    /// If the store has stopped.
    pub(crate) async fn glance(&self) -> Result<Glance, Status> {
        if let Ok(glance) = timeout(GLANCE_MAX, self.look(Glance::at)).await {
            let glance = glance?;
            // What compaction gives up leaves the engine between batches.
            self.told.stored_bytes.store(glance.sizes.stored_bytes, Relaxed);
            *self.last_glance() = glance;
        }
        Ok(self.last_glance().clone())
    }

    fn last_glance(&self) -> MutexGuard<'_, Glance> {
        // Only moves of whole values happen under the lock.
        self.last_glance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the store can write nothing more, if it cannot.
    pub(crate) async fn failure(&self) -> Option<StoreFailure> {
        match self.glance().await {
            Ok(glance) => glance.failure.map(StoreFailure::Store),
            Err(status) => Some(StoreFailure::NoAnswer(status)),
        }
    }

    pub(crate) fn raft_status(&self) -> RaftStatus {
        let vlot::Status { role_state, commit, applied, .. } = self.group().status();
        RaftStatus {
            term: role_state.term.0,
            role: role_state.role,
            leader: role_state.leader.map_or(0, |node| node.0),
            commit: commit.0,
            applied: applied.0,
        }
    }

    /// How the disk of this node's log does.
    pub(crate) fn disk(&self) -> DiskState {
        self.group().status().disk
    }

    pub(crate) fn has_leader(&self) -> bool {
        self.raft_status().leader != 0
    }

    /// How many proposals wait for their outcome.
    pub(crate) fn proposals_waiting(&self) -> usize {
        self.group().proposals_waiting()
    }

    /// How many bytes those proposals are.
    pub(crate) fn proposed_bytes(&self) -> usize {
        self.group().proposed_bytes()
    }

    /// How many bytes are decided and wait to be applied.
    pub(crate) fn applying_bytes(&self) -> usize {
        self.group().status().applying_bytes
    }

    /// What history takes up, at the end of the last batch or step of compaction.
    pub(crate) fn stored_bytes(&self) -> u64 {
        self.told.stored_bytes.load(Relaxed)
    }

    /// The newest revision, some moments ago.
    pub(crate) fn revision_seen(&self) -> i64 {
        self.last_glance().revision
    }

    /// Whether the disk has room for more than deletions and compactions, some moments ago.
    pub(crate) fn has_room(&self) -> bool {
        self.last_glance().has_room
    }

    /// The alarms that are raised, as far as this node has applied it.
    pub(crate) fn alarms(&self) -> watch::Receiver<Alarms> {
        self.told.alarms.clone()
    }

    /// Whether callers are asked who they are, as far as this node has applied it. Costs next to nothing.
    pub(crate) fn asks_who_calls(&self) -> bool {
        self.told.asks_who_calls.load(Acquire)
    }

    /// Users and roles, as far as this node has applied them.
    pub(crate) fn auth(&self) -> Arc<Auth> {
        Arc::clone(&self.told.auth.borrow())
    }

    /// Whether this member was found to have other data than the others.
    pub(crate) fn is_corrupt(&self) -> bool {
        self.told.alarms.borrow().has_for(AlarmType::Corrupt, self.node.0)
    }

    /// Does what is left to the owner, for ever: measures, and counts.
    pub(crate) async fn run_maintenance(&self) {
        let measure = async {
            loop {
                // A store that has stopped is looked at again.
                let _ = self.glance().await;
                tokio::time::sleep(SIZE_INTERVAL).await;
            }
        };
        tokio::join!(
            measure,
            self.count_leaders(),
            self.watch_own_seat(),
            self.watch_events(),
            self.promote_voters(),
            self.keep_leases()
        );
    }

    async fn count_leaders(&self) {
        let mut role_states = self.group().role_states();
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
}

fn refused(error: ReadError) -> Status {
    match error {
        ReadError::TimedOut => Status::TIMEOUT,
        ReadError::Busy => Status::TOO_MANY_REQUESTS,
        ReadError::NotAMember | ReadError::Fenced | ReadError::Closed | ReadError::Stopped => Status::STOPPED,
    }
}
