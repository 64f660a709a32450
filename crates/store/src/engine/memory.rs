//! An engine without a disk, for tests and simulation. What was written outlives the store, as a disk would.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Engine, EngineError, Record, Successor, View, Visit, WriteBatch};
use crate::mvcc::revision::Revision;

/// Clones share what is in it.
#[derive(Clone, Debug, Default)]
pub struct MemoryEngine {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Clone, Debug, Default)]
struct Disk {
    blocks: BTreeMap<Revision, Vec<u8>>,
    records: BTreeMap<Vec<u8>, Vec<u8>>,
    fails: bool,
    is_full: bool,
}

impl MemoryEngine {
    /// From here on every write fails.
    pub fn fail(&self) {
        self.disk().fails = true;
    }

    /// From here on there is no room for any write, or there is again.
    pub fn fill(&self, is_full: bool) {
        self.disk().is_full = is_full;
    }

    /// Damages each stored block, as a disk might.
    pub fn flip_bit(&self, bit: usize) {
        for block in self.disk().blocks.values_mut() {
            let place = (bit / 8) % block.len();
            block[place] ^= 1 << (bit % 8);
        }
    }

    /// How many blocks there are.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.disk().blocks.len()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        // Nothing that holds the lock can panic half-way through a change.
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine for MemoryEngine {
    fn has_room_for(&self, _: usize) -> bool {
        !self.disk().is_full
    }

    fn write(&self, batch: &WriteBatch) -> Result<(), EngineError> {
        let mut disk = self.disk();
        if disk.fails {
            return Err(EngineError("told to fail".into()));
        }
        for key in &batch.removed {
            disk.blocks.remove(key);
        }
        disk.blocks.extend(batch.blocks.iter().cloned());
        for (name, value) in &batch.records {
            if value.is_empty() {
                disk.records.remove(name);
            } else {
                disk.records.insert(name.clone(), value.clone());
            }
        }
        Ok(())
    }

    fn block_at(&self, revision: Revision) -> Result<Option<(Revision, Vec<u8>)>, EngineError> {
        let disk = self.disk();
        Ok(disk.blocks.range(..=revision).next_back().map(|(key, block)| (*key, block.clone())))
    }

    fn scan(&self, from: Revision, visit: &mut Visit<'_>) -> Result<(), EngineError> {
        let mut next = self.block_at(from)?.map_or(from, |(key, _)| key);
        loop {
            // The lock is not held while a block is visited: the visitor may read as well.
            let found = self.disk().blocks.range(next..).next().map(|(key, block)| (*key, block.clone()));
            let Some((key, block)) = found else { break };
            if let ControlFlow::Break(()) = visit(key, &block) {
                break;
            }
            next = Revision { main: key.main, sub: key.sub + 1 };
        }
        Ok(())
    }

    fn records(&self) -> Result<Vec<Record>, EngineError> {
        Ok(self.disk().records.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    fn size(&self) -> (u64, u64) {
        let bytes = self.disk().blocks.values().map(Vec::len).sum::<usize>() as u64;
        (bytes, bytes)
    }

    fn view(&self) -> Result<Box<dyn View>, EngineError> {
        Ok(Box::new(self.disk().clone()))
    }

    fn successor(&self) -> Result<Box<dyn Successor>, EngineError> {
        Ok(Box::new(Next { place: self.clone(), filled: Self::default() }))
    }
}

impl View for Disk {
    fn records(&self) -> Result<Vec<Record>, EngineError> {
        Ok(self.records.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    fn scan(&self, visit: &mut Visit<'_>) -> Result<(), EngineError> {
        for (key, block) in &self.blocks {
            if visit(*key, block).is_break() {
                break;
            }
        }
        Ok(())
    }
}

/// What will be in the place of another.
struct Next {
    place: MemoryEngine,
    filled: MemoryEngine,
}

impl Successor for Next {
    fn write(&mut self, batch: &WriteBatch) -> Result<(), EngineError> {
        self.filled.write(batch)
    }

    fn take_over(self: Box<Self>) -> Result<Arc<dyn Engine>, EngineError> {
        let mut disk = self.place.disk();
        if disk.fails {
            return Err(EngineError("told to fail".into()));
        }
        *disk = self.filled.disk().clone();
        drop(disk);
        Ok(Arc::new(self.place))
    }
}
