//! What a store measures: what it was asked, what its watches are told, and how its engine and compaction do.
//!
//! Owns the counters. They are counted where things happen, without a lock, and have no effect on what a command does. Must
//! not know how the figures are named or told elsewhere.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use vlot_figures::{Distribution, Histogram};

use crate::store::Store;

/// What a store has measured since it was opened. What is replayed of a log counts as it did the first time.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Figures {
    /// Keys that were put, by themselves or in a transaction.
    pub puts: u64,
    /// Bytes of their keys and values.
    pub put_bytes: u64,
    /// Deletions of a key or a range, whether or not there was anything to delete.
    pub deletions: u64,
    /// Ranges and single keys that were read: asked for, compared, or given back as a previous value.
    pub ranges: u64,
    /// Requests that were made of more than one of these. A transaction that changes something compares first, and that counts
    /// by itself.
    pub txns: u64,
    /// Leases that were granted, and their times to live.
    pub leases_granted: Distribution,
    /// How often a lease was renewed, on whichever member its client asked.
    pub leases_renewed: u64,
    /// Leases that have ended, revoked by a client or by time.
    pub leases_revoked: u64,
    /// Those of them that ended because their time was over.
    pub leases_expired: u64,
    /// Watches of all streams.
    pub watches: u64,
    /// Streams of watches.
    pub watch_streams: u64,
    /// Watches that are behind, and read from history what they have missed.
    pub slow_watches: u64,
    /// Events that wait in the mailboxes of streams.
    pub pending_events: u64,
    /// Events that were given to the owners of streams.
    pub sent_events: u64,
    /// How long the engine took for each transaction.
    pub commits: Distribution,
    /// Versions that compaction has taken out of the engine, or found gone.
    pub thinned_versions: u64,
    /// How long each transaction of the engine took that took versions out.
    pub thinnings: Distribution,
    /// How long it took to take out of the engine what one or more compactions had given up.
    pub compactions: Distribution,
    /// When the last of these ended, since 1970.
    pub compacted_at: Option<Duration>,
    /// Events of history that were read when the store was opened: all that a saved index did not spare.
    pub loaded_events: u64,
    /// Views of the engine that are held at this moment, the store's own included.
    pub engine_views: u64,
}

impl Store {
    /// What was measured so far.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let watches = self.watchers.count() as u64;
        Figures { watches, engine_views: self.engine.views() as u64, ..self.measures.read() }
    }
}

/// What one request is made of.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Ops {
    pub ranges: u64,
    pub puts: u64,
    pub put_bytes: u64,
    pub deletions: u64,
}

impl Ops {
    pub fn range() -> Self {
        Self { ranges: 1, ..Self::default() }
    }
}

/// The counters behind [`Figures`].
#[derive(Debug)]
pub(crate) struct Measures {
    puts: AtomicU64,
    put_bytes: AtomicU64,
    deletions: AtomicU64,
    ranges: AtomicU64,
    txns: AtomicU64,
    leases_granted: Histogram,
    leases_renewed: AtomicU64,
    leases_revoked: AtomicU64,
    leases_expired: AtomicU64,
    pub watch_streams: Gauge,
    pub slow_watches: Gauge,
    pub pending_events: Gauge,
    sent_events: AtomicU64,
    pub commits: Histogram,
    thinned_versions: AtomicU64,
    pub thinnings: Histogram,
    compactions: Histogram,
    /// In milliseconds; zero if there was none.
    compacted_at: AtomicU64,
    loaded_events: AtomicU64,
}

impl Default for Measures {
    fn default() -> Self {
        Self {
            puts: AtomicU64::new(0),
            put_bytes: AtomicU64::new(0),
            deletions: AtomicU64::new(0),
            ranges: AtomicU64::new(0),
            txns: AtomicU64::new(0),
            leases_granted: Histogram::doubling(Duration::from_secs(1), 24),
            leases_renewed: AtomicU64::new(0),
            leases_revoked: AtomicU64::new(0),
            leases_expired: AtomicU64::new(0),
            watch_streams: Gauge::default(),
            slow_watches: Gauge::default(),
            pending_events: Gauge::default(),
            sent_events: AtomicU64::new(0),
            commits: Histogram::doubling(Duration::from_millis(1), 14),
            thinned_versions: AtomicU64::new(0),
            thinnings: Histogram::doubling(Duration::from_millis(1), 13),
            compactions: Histogram::doubling(Duration::from_millis(100), 14),
            compacted_at: AtomicU64::new(0),
            loaded_events: AtomicU64::new(0),
        }
    }
}

impl Measures {
    /// Counts what one request, or one part of a transaction, was made of.
    pub fn count(&self, ops: Ops) {
        let Ops { ranges, puts, put_bytes, deletions } = ops;
        let counts = [
            (&self.ranges, ranges),
            (&self.puts, puts),
            (&self.put_bytes, put_bytes),
            (&self.deletions, deletions),
            (&self.txns, u64::from(ranges + puts + deletions > 1)),
        ];
        for (counter, count) in counts {
            if count > 0 {
                counter.fetch_add(count, Relaxed);
            }
        }
    }

    pub fn lease_granted(&self, ttl: i64) {
        self.leases_granted.observe(Duration::from_secs(ttl.unsigned_abs()));
    }

    pub fn leases_renewed(&self, leases: usize) {
        self.leases_renewed.fetch_add(leases as u64, Relaxed);
    }

    pub fn lease_revoked(&self) {
        self.leases_revoked.fetch_add(1, Relaxed);
    }

    pub fn leases_expired(&self, leases: usize) {
        self.leases_expired.fetch_add(leases as u64, Relaxed);
    }

    /// Events were given to the owner of a stream.
    pub fn events_sent(&self, events: usize) {
        self.sent_events.fetch_add(events as u64, Relaxed);
    }

    pub fn thinned(&self, versions: usize) {
        self.thinned_versions.fetch_add(versions as u64, Relaxed);
    }

    /// A store was opened, and read so many events for that.
    pub fn loaded(&self, events: u64) {
        self.loaded_events.store(events, Relaxed);
    }

    /// Nothing of what compactions gave up is left in the engine.
    pub fn compacted(&self, took: Duration) {
        self.compactions.observe(took);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.compacted_at.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    fn read(&self) -> Figures {
        let compacted_at = Some(self.compacted_at.load(Relaxed)).filter(|millis| *millis > 0);
        Figures {
            puts: self.puts.load(Relaxed),
            put_bytes: self.put_bytes.load(Relaxed),
            deletions: self.deletions.load(Relaxed),
            ranges: self.ranges.load(Relaxed),
            txns: self.txns.load(Relaxed),
            leases_granted: self.leases_granted.read(),
            leases_renewed: self.leases_renewed.load(Relaxed),
            leases_revoked: self.leases_revoked.load(Relaxed),
            leases_expired: self.leases_expired.load(Relaxed),
            watches: 0,
            watch_streams: self.watch_streams.read(),
            slow_watches: self.slow_watches.read(),
            pending_events: self.pending_events.read(),
            sent_events: self.sent_events.load(Relaxed),
            commits: self.commits.read(),
            thinned_versions: self.thinned_versions.load(Relaxed),
            thinnings: self.thinnings.read(),
            compactions: self.compactions.read(),
            compacted_at: compacted_at.map(Duration::from_millis),
            loaded_events: self.loaded_events.load(Relaxed),
            engine_views: 0,
        }
    }
}

/// How many there are of something that comes and goes.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicI64);

impl Gauge {
    pub fn add(&self, count: usize) {
        self.0.fetch_add(count as i64, Relaxed);
    }

    pub fn sub(&self, count: usize) {
        self.0.fetch_sub(count as i64, Relaxed);
    }

    /// The number. Threads that count at once may leave it below zero for a moment.
    fn read(&self) -> u64 {
        u64::try_from(self.0.load(Relaxed)).unwrap_or(0)
    }
}
