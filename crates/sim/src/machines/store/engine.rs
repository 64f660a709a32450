//! The engine behind a simulated store: it survives the process, and its syncs can fail.
//!
//! Owns what a failed sync leaves behind. It stands between the store and an engine in memory, so that the simulator needs
//! to know neither how that one keeps things nor what the store writes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vlot_store::engine::memory::MemoryEngine;
use vlot_store::engine::{Engine, EngineError, Record, Successor, View, Visit, WriteBatch};
use vlot_store::revision::Revision;

/// What a machine's disk keeps for its store. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct SimulatedEngine {
    disk: MemoryEngine,
    syncs: Arc<Mutex<Syncs>>,
}

/// What is found after a restart of the write whose sync failed. Nobody can tell before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FailedWrite {
    /// All of it.
    Kept,
    /// Nothing of it.
    Lost,
}

/// What becomes of syncs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Syncs {
    #[default]
    Succeed,
    /// The next one fails.
    FailNext(FailedWrite),
    /// One has failed. None succeeds before the process begins anew (as after fsync's error on Linux, which is told once).
    Failed,
}

impl SimulatedEngine {
    /// The next write fails, and all that follow until [`SimulatedEngine::restart`].
    pub fn fail_next_write(&self, found: FailedWrite) {
        *self.syncs() = Syncs::FailNext(found);
    }

    /// The process has ended: what is not durable is lost, and the next process finds an engine that works.
    pub fn restart(&self) {
        *self.syncs() = Syncs::Succeed;
    }

    /// The machine has a new disk.
    pub fn wipe(&mut self) {
        *self = Self::default();
    }

    /// Carries out a sync, as it was decided for it.
    fn sync<T>(&self, act: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
        let fate = *self.syncs();
        if fate == Syncs::Succeed {
            return act();
        }
        *self.syncs() = Syncs::Failed;
        if fate == Syncs::FailNext(FailedWrite::Kept) {
            act()?;
        }
        Err(EngineError("a sync has failed".into()))
    }

    fn syncs(&self) -> MutexGuard<'_, Syncs> {
        // A plain value; a panic cannot leave it half-way.
        self.syncs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine for SimulatedEngine {
    fn write(&self, batch: &WriteBatch) -> Result<(), EngineError> {
        self.sync(|| self.disk.write(batch))
    }

    fn has_room_for(&self, bytes: usize) -> bool {
        self.disk.has_room_for(bytes)
    }

    fn block_at(&self, revision: Revision) -> Result<Option<(Revision, Vec<u8>)>, EngineError> {
        self.disk.block_at(revision)
    }

    fn scan(&self, from: Revision, visit: &mut Visit<'_>) -> Result<(), EngineError> {
        self.disk.scan(from, visit)
    }

    fn records(&self) -> Result<Vec<Record>, EngineError> {
        self.disk.records()
    }

    fn size(&self) -> (u64, u64) {
        self.disk.size()
    }

    fn view(&self) -> Result<Box<dyn View>, EngineError> {
        self.disk.view()
    }

    fn successor(&self) -> Result<Box<dyn Successor>, EngineError> {
        Ok(Box::new(Next { filled: self.disk.successor()?, place: self.clone() }))
    }
}

/// What will be in the place of another, which stays under the same simulation.
struct Next {
    filled: Box<dyn Successor>,
    place: SimulatedEngine,
}

impl Successor for Next {
    fn write(&mut self, batch: &WriteBatch) -> Result<(), EngineError> {
        self.filled.write(batch)
    }

    fn take_over(self: Box<Self>) -> Result<Arc<dyn Engine>, EngineError> {
        let Self { filled, place } = *self;
        // The engine in memory is taken over in place: clones of it see the new one.
        place.sync(|| filled.take_over())?;
        Ok(Arc::new(place))
    }
}
