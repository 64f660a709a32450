//! What a process counts: its calls, what they lead to, and what happens to its node.
//!
//! Counting must cost next to nothing, so that all counters are plain atomics in fixed places. Must not know how they are
//! told (`exposition.rs` does).

mod calls;
mod checks;
mod clients;
mod handshakes;
mod offences;
mod timings;
mod upkeep;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use vlot_figures::Histogram;

use crate::status::Status;

pub(crate) use calls::{Calls, Counters, Tally};
pub(crate) use checks::{Check, Checks, Probe};
pub(crate) use clients::Clients;
pub(crate) use handshakes::Handshakes;
pub(crate) use offences::{Offence, Offences};
pub(crate) use timings::{Act, Timings};
pub(crate) use upkeep::{DEFRAGMENT, Upkeep};

/// The counters of one process.
pub(crate) struct Metrics {
    pub(crate) calls: Calls,
    pub(crate) clients: Clients,
    pub(crate) checks: Checks,
    pub(crate) handshakes: Handshakes,
    /// How long calls wait for their answer, by what they ask for.
    pub(crate) requests: Timings,
    /// How long commands take to be applied, by what they are.
    pub(crate) applies: Timings,
    /// How long ranges take once the store may be looked at.
    pub(crate) ranges: Timings,
    pub(crate) upkeep: Upkeep,
    pub(crate) slow_applies: AtomicU64,
    pub(crate) health_successes: AtomicU64,
    pub(crate) health_failures: AtomicU64,
    pub(crate) proposals_failed: AtomicU64,
    pub(crate) reads_failed: AtomicU64,
    pub(crate) slow_reads: AtomicU64,
    pub(crate) leader_changes: AtomicU64,
    /// Learners that this node has promoted while it led, and why it has not promoted others.
    pub(crate) promotions: AtomicU64,
    promotions_failed: Mutex<BTreeMap<String, u64>>,
    /// How often the disk of the log has stalled, and how often it was full.
    pub(crate) disk_stalls: AtomicU64,
    pub(crate) disk_fillings: AtomicU64,
    /// How long the store stood still for each step of a compaction.
    pub(crate) compaction_steps: Histogram,
    /// Connections of clients that there was no room for.
    pub(crate) connections_refused: AtomicU64,
    /// Clients that were stopped.
    pub(crate) offences: Offences,
    /// How often a client was not read from for a while, because it had asked much for nothing.
    pub(crate) client_pauses: AtomicU64,
    pub(crate) process_start: f64,
}

impl Metrics {
    /// With `extensive`, it is also counted how long calls take.
    pub(crate) fn new(extensive: bool) -> Metrics {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Metrics {
            calls: Calls::new(extensive),
            clients: Clients::default(),
            checks: Checks::default(),
            handshakes: Handshakes::default(),
            requests: Timings::doubling(Duration::from_millis(1), 14),
            applies: Timings::doubling(Duration::from_micros(100), 20),
            ranges: Timings::doubling(Duration::from_micros(100), 20),
            upkeep: Upkeep::new(),
            slow_applies: AtomicU64::new(0),
            health_successes: AtomicU64::new(0),
            health_failures: AtomicU64::new(0),
            proposals_failed: AtomicU64::new(0),
            reads_failed: AtomicU64::new(0),
            slow_reads: AtomicU64::new(0),
            leader_changes: AtomicU64::new(0),
            promotions: AtomicU64::new(0),
            promotions_failed: Mutex::default(),
            disk_stalls: AtomicU64::new(0),
            disk_fillings: AtomicU64::new(0),
            compaction_steps: Histogram::doubling(Duration::from_micros(500), 14),
            connections_refused: AtomicU64::new(0),
            offences: Offences::default(),
            client_pauses: AtomicU64::new(0),
            process_start: now.as_secs_f64(),
        }
    }

    pub(crate) fn connection_refused(&self) {
        self.connections_refused.fetch_add(1, Relaxed);
    }

    /// A client is not read from for a while.
    pub(crate) fn client_paused(&self) {
        self.client_pauses.fetch_add(1, Relaxed);
    }

    pub(crate) fn health_checked(&self, healthy: bool) {
        let counter = if healthy { &self.health_successes } else { &self.health_failures };
        counter.fetch_add(1, Relaxed);
    }

    /// A learner was promoted by this node, or was not.
    pub(crate) fn promoted(&self, outcome: Result<(), &Status>) {
        match outcome {
            Ok(()) => drop(self.promotions.fetch_add(1, Relaxed)),
            Err(status) => *self.failed_promotions().entry(status.message.to_string()).or_default() += 1,
        }
    }

    /// How many promotions have failed, by the reason. There are as many reasons as texts of statuses.
    pub(crate) fn promotions_failed(&self) -> BTreeMap<String, u64> {
        self.failed_promotions().clone()
    }

    fn failed_promotions(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        self.promotions_failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
