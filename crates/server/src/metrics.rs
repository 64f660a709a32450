//! What a process counts: its calls, and what happens to its node.
//!
//! Counting must cost next to nothing, so that all counters are plain atomics in fixed places. Must not know how they are
//! told (`exposition.rs` does).

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::rpc::Rpc;
use crate::status::{CODE_NAMES, Code};

/// The counters of one process.
pub(crate) struct Metrics {
    pub(crate) started: Vec<AtomicU64>,
    /// By RPC, then by code.
    pub(crate) handled: Vec<[AtomicU64; CODE_NAMES.len()]>,
    pub(crate) health_successes: AtomicU64,
    pub(crate) health_failures: AtomicU64,
    pub(crate) proposals_failed: AtomicU64,
    pub(crate) reads_failed: AtomicU64,
    pub(crate) leader_changes: AtomicU64,
    pub(crate) snapshots_sent: AtomicU64,
    pub(crate) snapshots_received: AtomicU64,
    /// How often the disk of the log has stalled, and how often it was full.
    pub(crate) disk_stalls: AtomicU64,
    pub(crate) disk_fillings: AtomicU64,
    pub(crate) process_start: f64,
}

impl Metrics {
    pub(crate) fn new() -> Metrics {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Metrics {
            started: (0..Rpc::COUNT).map(|_| AtomicU64::new(0)).collect(),
            handled: (0..Rpc::COUNT).map(|_| Default::default()).collect(),
            health_successes: AtomicU64::new(0),
            health_failures: AtomicU64::new(0),
            proposals_failed: AtomicU64::new(0),
            reads_failed: AtomicU64::new(0),
            leader_changes: AtomicU64::new(0),
            snapshots_sent: AtomicU64::new(0),
            snapshots_received: AtomicU64::new(0),
            disk_stalls: AtomicU64::new(0),
            disk_fillings: AtomicU64::new(0),
            process_start: now.as_secs_f64(),
        }
    }

    pub(crate) fn call_started(&self, rpc: Rpc) {
        self.started[rpc.number()].fetch_add(1, Relaxed);
    }

    pub(crate) fn call_handled(&self, rpc: Rpc, code: Code) {
        self.handled[rpc.number()][code as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn health_checked(&self, healthy: bool) {
        let counter = if healthy { &self.health_successes } else { &self.health_failures };
        counter.fetch_add(1, Relaxed);
    }
}
