//! An engine without a disk, for tests and simulation. What was written outlives the store, as a disk would.
//!
//! Owns what a disk may do to its user: be full, fail, and leave open whether the write that failed has happened. Has no
//! thread and no clock, so that a store that is opened still on it is a plain value: what [`Store::flush`] has not
//! written is lost when the store is dropped.
//!
//! [`Store::flush`]: crate::store::Store::flush

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Engine, EngineError, EngineView, ReadBlock, Record, Save, Successor, Visit, WriteBatch};
use crate::mvcc::revision::Revision;

/// Clones share what is in it.
#[derive(Clone, Debug, Default)]
pub struct MemoryEngine {
    disk: Arc<Mutex<Disk>>,
}

/// What is found after a restart of the write that failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FailedWrite {
    /// All of it: it became durable, and only the report was lost.
    Kept,
    /// Nothing of it.
    Lost,
}

#[derive(Debug, Default)]
struct Disk {
    contents: Contents,
    /// What the next write comes to, if it is to fail.
    next_fails: Option<FailedWrite>,
    /// A write has failed: no other succeeds before the restart, which finds this.
    failed: Option<Contents>,
    is_full: bool,
}

/// A view is a clone. It costs a copy of the map at the next write, and the blocks are shared.
#[derive(Clone, Debug, Default)]
struct Contents {
    blocks: Arc<BTreeMap<Revision, Arc<Vec<u8>>>>,
    records: Arc<BTreeMap<Vec<u8>, Vec<u8>>>,
    /// Counts the histories that took the place of others.
    identity: u64,
    beside: Option<Arc<Vec<u8>>>,
}

impl MemoryEngine {
    /// From here on every write fails, and leaves nothing behind.
    pub fn fail(&self) {
        self.fail_next_write(FailedWrite::Lost);
    }

    /// The next write fails, and all after it. [`MemoryEngine::restart`] decides what came of it as it is said here.
    pub fn fail_next_write(&self, outcome: FailedWrite) {
        self.disk().next_fails = Some(outcome);
    }

    /// To be called when no store is open on it: the engine works again, with or without what the failed write held.
    pub fn restart(&self) {
        let mut disk = self.disk();
        if let Some(found) = disk.failed.take() {
            disk.contents = found;
        }
        disk.next_fails = None;
    }

    /// From here on there is no room for any write, or there is again.
    pub fn fill(&self, is_full: bool) {
        self.disk().is_full = is_full;
    }

    /// Damages each stored block, as a disk might.
    pub fn flip_bit(&self, bit: usize) {
        for block in Arc::make_mut(&mut self.disk().contents.blocks).values_mut() {
            let place = (bit / 8) % block.len();
            Arc::make_mut(block)[place] ^= 1 << (bit % 8);
        }
    }

    /// Damages what is kept beside history, if there is anything. Returns whether there is.
    pub fn flip_bit_beside(&self, bit: usize) -> bool {
        let mut disk = self.disk();
        let Some(bytes) = disk.contents.beside.as_mut().map(Arc::make_mut) else { return false };
        let place = (bit / 8) % bytes.len();
        bytes[place] ^= 1 << (bit % 8);
        true
    }

    /// A copy of its history, with nothing beside it.
    #[must_use]
    pub fn without_what_is_beside(&self) -> Self {
        let contents = Contents { beside: None, ..self.disk().contents.clone() };
        Self { disk: Arc::new(Mutex::new(Disk { contents, ..Disk::default() })) }
    }

    /// How many blocks there are.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.disk().contents.blocks.len()
    }

    /// Another file than that of the writes that fail.
    fn keep_beside(&self, bytes: Option<Vec<u8>>) -> io::Result<()> {
        let mut disk = self.disk();
        if disk.failed.is_some() {
            return Err(io::Error::other("told to fail"));
        }
        disk.contents.beside = bytes.map(Arc::new);
        Ok(())
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        // Nothing that holds the lock can panic half-way through a change.
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    fn write(&mut self, change: impl FnOnce(&mut Contents)) -> Result<(), EngineError> {
        let failed = || EngineError::Failed("told to fail".into());
        if self.failed.is_some() {
            return Err(failed());
        }
        match self.next_fails.take() {
            None => change(&mut self.contents),
            Some(outcome) => {
                let mut found = self.contents.clone();
                if outcome == FailedWrite::Kept {
                    change(&mut found);
                }
                self.failed = Some(found);
                return Err(failed());
            }
        }
        Ok(())
    }
}

impl Contents {
    fn take_in(&mut self, batch: &WriteBatch) {
        let blocks = Arc::make_mut(&mut self.blocks);
        for key in &batch.removed {
            blocks.remove(key);
        }
        blocks.extend(batch.blocks.iter().map(|(key, block)| (*key, Arc::new(block.clone()))));
        let records = Arc::make_mut(&mut self.records);
        for (name, value) in &batch.records {
            if value.is_empty() {
                records.remove(name);
            } else {
                records.insert(name.clone(), value.clone());
            }
        }
    }
}

impl Engine for MemoryEngine {
    fn has_room_for(&self, _: usize) -> bool {
        !self.disk().is_full
    }

    fn write(&self, batch: &WriteBatch) -> Result<(), EngineError> {
        self.disk().write(|contents| contents.take_in(batch))
    }

    fn size(&self) -> u64 {
        self.disk().contents.blocks.values().map(|block| block.len()).sum::<usize>() as u64
    }

    fn cached_bytes(&self) -> usize {
        0
    }

    fn free_replaced(&self, _: &mut dyn FnMut()) {}

    fn defragment(&self, _: &mut dyn FnMut()) -> Result<(), EngineError> {
        Ok(())
    }

    fn view(&self) -> Result<Arc<dyn EngineView>, EngineError> {
        Ok(Arc::new(self.disk().contents.clone()))
    }

    fn views(&self) -> usize {
        // A view is a copy, and holds nothing up.
        0
    }

    fn identity(&self) -> [u8; 16] {
        u128::from(self.disk().contents.identity).to_le_bytes()
    }

    fn save_beside(&self, write: &mut Save<'_>) -> io::Result<()> {
        let mut bytes = Vec::new();
        write(&mut bytes)?;
        self.keep_beside(Some(bytes))
    }

    fn saved_beside(&self) -> Option<Box<dyn Read>> {
        let bytes = self.disk().contents.beside.clone()?;
        Some(Box::new(io::Cursor::new(Vec::clone(&bytes))))
    }

    fn forget_beside(&self) -> io::Result<()> {
        self.keep_beside(None)
    }

    fn successor(&self) -> Result<Box<dyn Successor>, EngineError> {
        let identity = self.disk().contents.identity + 1;
        Ok(Box::new(Next { place: self.clone(), filled: Contents { identity, ..Contents::default() } }))
    }
}

impl EngineView for Contents {
    fn read_block_at(&self, revision: Revision, read: &mut ReadBlock<'_>) -> Result<(), EngineError> {
        if let Some((key, block)) = self.blocks.range(..=revision).next_back() {
            read(*key, block);
        }
        Ok(())
    }

    fn scan(&self, from: Revision, visit: &mut Visit<'_>) -> Result<(), EngineError> {
        let first = self.blocks.range(..=from).next_back().map_or(from, |(key, _)| *key);
        for (key, block) in self.blocks.range(first..) {
            if let ControlFlow::Break(()) = visit(*key, block) {
                break;
            }
        }
        Ok(())
    }

    fn records(&self) -> Result<Vec<Record>, EngineError> {
        Ok(self.records.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
    }
}

/// What will be in the place of another.
struct Next {
    place: MemoryEngine,
    filled: Contents,
}

impl Successor for Next {
    fn write(&mut self, batch: &WriteBatch) -> Result<(), EngineError> {
        self.filled.take_in(batch);
        Ok(())
    }

    fn take_over(self: Box<Self>) -> Result<Arc<dyn Engine>, EngineError> {
        let Self { place, filled } = *self;
        place.disk().write(|contents| *contents = filled)?;
        Ok(Arc::new(place))
    }
}
