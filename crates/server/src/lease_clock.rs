//! Cluster time on this node: told as commands are applied, asked for wherever leases are looked at.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use vlot_store::lease::clock::LeaseClock;

/// The node's reckoning of cluster time, in milliseconds, by the system's steady clock.
#[derive(Debug)]
pub(crate) struct SharedLeaseClock {
    started: Instant,
    clock: Mutex<LeaseClock>,
}

impl SharedLeaseClock {
    pub(crate) fn starting_at(time: u64) -> SharedLeaseClock {
        let shared = SharedLeaseClock { started: Instant::now(), clock: Mutex::default() };
        shared.told(time);
        shared
    }

    /// What a leader has told of it.
    pub(crate) fn told(&self, time: u64) {
        self.clock().told(time, self.started.elapsed());
    }

    /// What it is.
    pub(crate) fn now(&self) -> u64 {
        self.clock().now(self.started.elapsed())
    }

    fn clock(&self) -> MutexGuard<'_, LeaseClock> {
        // A clock is whole whatever happens to who holds it.
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
