//! Keys of stored blocks, as far as they are known, so that a block is found by its key.
//!
//! Owns a guess, never an answer: a block may have been removed, or another one may be nearer. To look for "the last key at or
//! below" instead costs a second block: the tree's branches tell where its leaves end, and each leaf is one block, so that the
//! search comes to the block behind first.

use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock};

use crate::mvcc::revision::Revision;

/// So many keys are remembered at most: those of 4 GiB of history, in some 6 MiB of memory.
const KEYS_MAX: usize = 1 << 18;

/// A set of keys of blocks.
#[derive(Debug, Default)]
pub(super) struct KnownBlocks(RwLock<BTreeSet<Revision>>);

impl KnownBlocks {
    /// The key of the block that probably has the event of this revision.
    pub fn guess(&self, revision: Revision) -> Option<Revision> {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        keys.range(..=revision).next_back().copied()
    }

    /// There is a block with this key.
    pub fn add(&self, key: Revision) {
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if keys.len() < KEYS_MAX {
            keys.insert(key);
        }
    }

    /// There is no block with this key any more.
    pub fn remove(&self, key: Revision) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&key);
    }
}
