//! This node's share of the replicated store: propose, wait until reads are current, look.
//!
//! Owns time limits and the translation of outcomes into statuses. It is the only file that knows how commands are
//! agreed on; services see bytes go in and the store's answer come out.

use std::io::{Read, Write};
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLockReadGuard};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::error;
use vlot::{BadCommand, BadSnapshot, Group, LogId, ProposeError, ReadError, StateMachine};
use vlot_store::command::{Command, Tag};
use vlot_store::refusal::Refusal;
use vlot_store::revision::Position;
use vlot_store::store::{Applied, Store};

use crate::metrics::Metrics;
use crate::status::Status;

/// Between two pieces of compaction, so that requests come first.
const COMPACTION_PAUSE: Duration = Duration::from_millis(2);
/// How old the size of the database may be that the quota is held against.
const SIZE_INTERVAL: Duration = Duration::from_millis(500);

/// Where this node stands in its group.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Standing {
    pub(crate) term: u64,
    /// The leader's member id; zero if none is known.
    pub(crate) leader: u64,
    pub(crate) commit: u64,
    pub(crate) applied: u64,
}

/// What members agree on applying: the store, and what must happen beside it.
pub(crate) struct Keeper {
    store: Store,
    /// Whether compacted history waits to be given up.
    compacting: watch::Sender<bool>,
}

impl Keeper {
    /// Takes over a store; the second half tells whether compacted history waits to be given up.
    pub(crate) fn new(store: Store) -> (Keeper, watch::Receiver<bool>) {
        let (compacting, pending) = watch::channel(true);
        (Keeper { store, compacting }, pending)
    }

    /// Writes everything down, and ends.
    pub(crate) fn flush(&mut self) -> Result<(), String> {
        self.store.flush().map_err(|error| error.to_string())
    }
}

/// A command of the store on its way into the log, or out of it.
pub(crate) enum Proposal {
    /// A client's request, byte for byte as it came.
    Request(Tag, Bytes),
    /// What the log holds.
    Command(Command),
}

impl vlot::Command for Proposal {
    fn encode(&self, buffer: &mut BytesMut) {
        match self {
            Proposal::Request(tag, request) => {
                buffer.put_u8(*tag as u8);
                buffer.put_slice(request);
            }
            Proposal::Command(command) => buffer.put_slice(&command.encode()),
        }
    }

    fn decode(bytes: Bytes) -> Result<Proposal, BadCommand> {
        Command::decode(bytes).map(Proposal::Command).map_err(|error| BadCommand(error.to_string()))
    }

    fn size_hint(&self) -> usize {
        match self {
            Proposal::Request(_, request) => 1 + request.len(),
            Proposal::Command(_) => 64,
        }
    }
}

impl StateMachine for Keeper {
    type Command = Proposal;
    type Reply = Result<Applied, Refusal>;

    fn apply(&mut self, at: LogId, proposal: Proposal) -> Result<Applied, Refusal> {
        let command = match proposal {
            Proposal::Command(command) => command,
            // Services propose only what they have decoded, and what is applied comes from the log.
            Proposal::Request(tag, _) => unreachable!("a {tag:?} request is applied that was not read from the log"),
        };
        let applied = self.store.apply(position(at), command);
        match &applied {
            Ok(Applied::Compact(_)) => drop(self.compacting.send_replace(true)),
            Err(Refusal::Unreadable) => stop_at_once(&self.store),
            _ => {}
        }
        applied
    }

    fn skip(&mut self, at: LogId) {
        self.store.skip(position(at));
    }

    fn end_batch(&mut self) {
        self.store.end_batch();
    }

    fn durable(&self) -> LogId {
        log_id(self.store.durable())
    }

    fn snapshot(&self) -> Option<Box<dyn vlot::Snapshot>> {
        match self.store.snapshot() {
            Ok(snapshot) => Some(Box::new(StoreSnapshot(snapshot))),
            // A store that cannot be read says so to its owner, who stops.
            Err(failure) => {
                error!(%failure, "no snapshot can be made of the store");
                None
            }
        }
    }

    fn restore(&mut self, at: LogId, from: &mut dyn Read) -> Result<(), BadSnapshot> {
        self.store.restore(from).map_err(|error| BadSnapshot(error.to_string()))?;
        let applied = log_id(self.store.applied());
        if applied != at {
            return Err(BadSnapshot(format!("it is of {applied}")));
        }
        // History that is compacted may have come along.
        self.compacting.send_replace(true);
        Ok(())
    }
}

/// A moment of the store, on its way to another member.
struct StoreSnapshot(vlot_store::snapshot::Snapshot);

impl vlot::Snapshot for StoreSnapshot {
    fn at(&self) -> LogId {
        log_id(self.0.position())
    }

    fn write_to(&mut self, out: &mut dyn Write) -> std::io::Result<()> {
        self.0.write_to(out)
    }
}

fn log_id(Position { term, index }: Position) -> LogId {
    LogId::new(term, index)
}

/// Ends the process where a decided command cannot be applied: what is read after it would be stale. All that was
/// acknowledged is in the log.
fn stop_at_once(store: &Store) -> ! {
    let failure = store.failure().map_or_else(|| "a value cannot be read".to_owned(), |error| error.to_string());
    error!(failure, "stopping at once: the store has failed");
    std::process::exit(1)
}

fn position(at: LogId) -> Position {
    Position { term: at.term.0, index: at.index.0 }
}

/// This node's share of the store.
pub(crate) struct Replica {
    group: Group<Keeper>,
    metrics: Arc<Metrics>,
    request_timeout: Duration,
    database_bytes: AtomicU64,
    compacting: watch::Receiver<bool>,
}

/// The store, for as long as nothing is applied to it.
pub(crate) struct StoreGuard<'r>(RwLockReadGuard<'r, Keeper>);

impl Deref for StoreGuard<'_> {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.0.store
    }
}

impl Replica {
    pub(crate) fn new(
        group: Group<Keeper>,
        compacting: watch::Receiver<bool>,
        metrics: Arc<Metrics>,
        request_timeout: Duration,
    ) -> Replica {
        Replica { group, metrics, request_timeout, database_bytes: AtomicU64::new(0), compacting }
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

    pub(crate) fn standing(&self) -> Standing {
        let vlot::Status { standing, commit, applied, .. } = self.group.status();
        Standing {
            term: standing.term.0,
            leader: standing.leader.map_or(0, |node| node.0),
            commit: commit.0,
            applied: applied.0,
        }
    }

    pub(crate) fn has_leader(&self) -> bool {
        self.standing().leader != 0
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
    pub(crate) async fn keep_house(&self) {
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
        tokio::join!(compact, measure, self.count_leaders());
    }

    async fn count_leaders(&self) {
        let mut standings = self.group.standings();
        let mut known = None;
        loop {
            let leader = standings.borrow_and_update().leader;
            if leader.is_some() && leader != known {
                known = leader;
                self.metrics.leader_changes.fetch_add(1, Relaxed);
            }
            // Ends with the node.
            if standings.changed().await.is_err() {
                return;
            }
        }
    }

    fn compact_a_little(&self) -> bool {
        // A panic ends the process, so that nobody sees what a poisoned lock guards half-changed.
        let mut keeper = self.group.state_lock().write().unwrap_or_else(PoisonError::into_inner);
        let more = keeper.store.compact_step();
        if !more {
            // Still under the lock, so that a compaction applied right after is not taken for done.
            keeper.compacting.send_replace(false);
        }
        more
    }
}
