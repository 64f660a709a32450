//! What a node measures of its disk, its peers and its snapshots, as plain values.
//!
//! Owns the counters that are no one else's, and puts those of the transport beside them. They are counted where things
//! happen, without a lock where things happen often, and read by whoever holds a [`Meter`]. Must not know how the figures
//! are named or told elsewhere.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

pub use vlot_figures::{Distribution, Histogram};
use vlot_raft::id::{GroupId, NodeId};

use crate::net::{self, LinkFigures, Net, Refusal};

/// What a node has measured since it was opened.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Figures {
    /// What became of writes to the log.
    pub log: LogFigures,
    /// The other nodes that it is told to talk to, and how it gets on with each.
    pub links: BTreeMap<NodeId, LinkFigures>,
    /// Handshakes with other nodes that this node refused, whoever they were, by reason.
    pub handshakes_refused: BTreeMap<Refusal, u64>,
    /// Handshakes that other nodes refused this one, by reason.
    pub handshakes_denied: BTreeMap<Refusal, u64>,
    /// Snapshots on their way to other nodes.
    pub sent: BTreeMap<NodeId, TransferFigures>,
    /// Snapshots on their way from other nodes.
    pub received: BTreeMap<NodeId, TransferFigures>,
    /// How long it took to write a snapshot of a state machine to a file.
    pub saves: Distribution,
    /// How long it took to receive snapshots, from all nodes together.
    pub receipts: Distribution,
    /// How long it took to make a snapshot durable and to verify it that came from another node.
    pub finishes: Distribution,
    /// State machines that are becoming a snapshot at this moment.
    pub restoring: u64,
    /// Turns of a leader that began more than a heartbeat interval after they were due: its followers may have heard
    /// nothing in time.
    pub late_turns: u64,
    /// Bytes of the newest entries of logs, which stay in memory for members that lag behind a little.
    pub recent_bytes: u64,
    /// Bytes of frames that have come from peers, and that this node has not looked at.
    pub unread_bytes: u64,
}

/// What became of writes to the log.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct LogFigures {
    /// Bytes of records.
    pub written_bytes: u64,
    /// How long each write took, until the system had it.
    pub writes: Distribution,
    /// How long it took to make writes durable; one such act may be for many writes.
    pub syncs: Distribution,
}

/// Snapshots on their way between this node and another.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TransferFigures {
    /// Under way at this moment.
    pub under_way: u64,
    /// Attempts that have failed.
    pub failures: u64,
    /// How long those took that have arrived.
    pub successes: Distribution,
}

/// Reads a node's figures; cheap to clone. It may outlive the node, whose figures then stay as they are, but for those of
/// its links, which are gone.
#[derive(Clone, Debug)]
pub struct Meter {
    pub(crate) measures: Arc<Measures>,
    pub(crate) net: Weak<Net>,
}

impl Meter {
    /// What was measured so far.
    #[must_use]
    pub fn read(&self) -> Figures {
        let figures = self.measures.read();
        let Some(net) = self.net.upgrade() else { return figures };
        let net::Stats { handshakes_refused, handshakes_denied, .. } = net.stats();
        let unread_bytes = net.unread_bytes();
        Figures { links: net.links(), handshakes_refused, handshakes_denied, unread_bytes, ..figures }
    }
}

/// The counters behind [`Figures`].
#[derive(Debug)]
pub(crate) struct Measures {
    pub(crate) log_bytes: AtomicU64,
    pub(crate) log_writes: Histogram,
    pub(crate) log_syncs: Histogram,
    pub(crate) sent: Transfers,
    pub(crate) received: Transfers,
    pub(crate) saves: Histogram,
    pub(crate) finishes: Histogram,
    restoring: AtomicU64,
    late_turns: AtomicU64,
    pub(crate) recent_bytes: AtomicU64,
}

impl Measures {
    pub(crate) fn new() -> Self {
        let of_a_disk = || Histogram::doubling(Duration::from_millis(1), 14);
        Self {
            log_bytes: AtomicU64::new(0),
            log_writes: of_a_disk(),
            log_syncs: of_a_disk(),
            sent: Transfers::default(),
            received: Transfers::default(),
            saves: Histogram::doubling(Duration::from_millis(10), 17),
            finishes: of_a_disk(),
            restoring: AtomicU64::new(0),
            late_turns: AtomicU64::new(0),
            recent_bytes: AtomicU64::new(0),
        }
    }

    pub(crate) fn turn_was_late(&self) {
        self.late_turns.fetch_add(1, Relaxed);
    }

    /// A state machine becomes a snapshot for as long as what is returned lives.
    pub(crate) fn restoring(&self) -> Restoring<'_> {
        self.restoring.fetch_add(1, Relaxed);
        Restoring(&self.restoring)
    }

    /// No transfer of this group is under way any more.
    pub(crate) fn forget(&self, group: GroupId) {
        self.sent.forget(group);
        self.received.forget(group);
    }

    fn read(&self) -> Figures {
        Figures {
            log: LogFigures {
                written_bytes: self.log_bytes.load(Relaxed),
                writes: self.log_writes.read(),
                syncs: self.log_syncs.read(),
            },
            links: BTreeMap::new(),
            handshakes_refused: BTreeMap::new(),
            handshakes_denied: BTreeMap::new(),
            sent: self.sent.read(),
            received: self.received.read(),
            receipts: self.received.all.read(),
            saves: self.saves.read(),
            finishes: self.finishes.read(),
            restoring: self.restoring.load(Relaxed),
            late_turns: self.late_turns.load(Relaxed),
            recent_bytes: self.recent_bytes.load(Relaxed),
            unread_bytes: 0,
        }
    }
}

/// A state machine is becoming a snapshot.
pub(crate) struct Restoring<'m>(&'m AtomicU64);

impl Drop for Restoring<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Transfers of snapshots in one direction. They are rare, so that a lock does no harm.
#[derive(Debug)]
pub(crate) struct Transfers {
    tallies: Mutex<BTreeMap<NodeId, Tally>>,
    /// How long those took that have arrived.
    all: Histogram,
}

/// Those with one other node.
#[derive(Debug)]
struct Tally {
    begun: BTreeMap<GroupId, Instant>,
    failures: u64,
    successes: Histogram,
}

impl Default for Tally {
    fn default() -> Self {
        let successes = of_transfers();
        Self { begun: BTreeMap::new(), failures: 0, successes }
    }
}

fn of_transfers() -> Histogram {
    Histogram::doubling(Duration::from_millis(100), 10)
}

impl Default for Transfers {
    fn default() -> Self {
        Self { tallies: Mutex::default(), all: of_transfers() }
    }
}

impl Transfers {
    /// A transfer is under way; it may have been before.
    pub(crate) fn begun(&self, group: GroupId, peer: NodeId) {
        self.tallies().entry(peer).or_default().begun.entry(group).or_insert_with(Instant::now);
    }

    pub(crate) fn succeeded(&self, group: GroupId, peer: NodeId) {
        let mut tallies = self.tallies();
        let tally = tallies.entry(peer).or_default();
        let took = tally.begun.remove(&group).map_or(Duration::ZERO, |begun| begun.elapsed());
        tally.successes.observe(took);
        self.all.observe(took);
    }

    pub(crate) fn failed(&self, group: GroupId, peer: NodeId) {
        let mut tallies = self.tallies();
        let tally = tallies.entry(peer).or_default();
        tally.begun.remove(&group);
        tally.failures += 1;
    }

    fn forget(&self, group: GroupId) {
        for tally in self.tallies().values_mut() {
            tally.begun.remove(&group);
        }
    }

    fn read(&self) -> BTreeMap<NodeId, TransferFigures> {
        let figures = |tally: &Tally| TransferFigures {
            under_way: tally.begun.len() as u64,
            failures: tally.failures,
            successes: tally.successes.read(),
        };
        self.tallies().iter().map(|(peer, tally)| (*peer, figures(tally))).collect()
    }

    fn tallies(&self) -> MutexGuard<'_, BTreeMap<NodeId, Tally>> {
        // Each change under the lock is of one field.
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_is_under_way_until_it_ends_one_way_or_the_other() {
        let measures = Measures::new();
        let (group, peer) = (GroupId(1), NodeId(2));
        measures.sent.begun(group, peer);
        measures.sent.begun(group, peer);
        measures.sent.begun(GroupId(2), peer);
        assert_eq!(measures.read().sent[&peer].under_way, 2);
        measures.sent.succeeded(group, peer);
        measures.sent.failed(GroupId(2), peer);
        measures.sent.begun(GroupId(3), peer);
        measures.forget(GroupId(3));
        let figures = measures.read();
        let TransferFigures { under_way, failures, successes } = &figures.sent[&peer];
        assert_eq!((*under_way, *failures, successes.count()), (0, 1, 1));
        assert!(figures.received.is_empty());
    }

    #[test]
    fn a_restore_counts_for_as_long_as_it_lasts() {
        let measures = Measures::new();
        let restoring = measures.restoring();
        assert_eq!(measures.read().restoring, 1);
        drop(restoring);
        assert_eq!(measures.read().restoring, 0);
    }
}
