//! Digests of the key history: made in slices off the serving thread, and kept for the last compactions.
//!
//! A member's digest up to a compaction, as history was before it, is what members are compared by: all of them compact
//! at the same point of the log, so that it is equal on all. As in etcd it is also what is answered later for that
//! revision. Owns which digests are kept. What goes into one is the store's business.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tracing::debug;
use vlot_store::hash::{Hashing, HistoryHash};
use vlot_store::view::View;

use crate::status::Status;
use crate::store_machine::BeforeCompaction;
use crate::worker_pool::WorkerPool;

/// How many digests are kept, as in etcd.
const KEPT_MAX: usize = 10;
/// How much history is read at a time.
const SLICE_BYTES: usize = 4 << 20;

/// Makes digests, and keeps those of the last compactions.
pub(crate) struct HistoryHashes {
    workers: WorkerPool,
    /// The oldest first.
    kept: Mutex<VecDeque<HistoryHash>>,
}

impl HistoryHashes {
    pub(crate) fn new(workers: WorkerPool) -> HistoryHashes {
        HistoryHashes { workers, kept: Mutex::default() }
    }

    /// The digest up to this revision: the one that is kept, or that of the view.
    ///
    /// # Errors
    /// A revision that cannot be read.
    pub(crate) async fn of(&self, view: View, revision: i64) -> Result<HistoryHash, Status> {
        match self.kept_at(revision) {
            Some(hash) => Ok(hash),
            None => self.made_of(view, revision).await,
        }
    }

    /// The digest of a view. Others that wait for the workers have their turn between two slices.
    ///
    /// # Errors
    /// A revision that cannot be read.
    pub(crate) async fn made_of(&self, view: View, revision: i64) -> Result<HistoryHash, Status> {
        let mut hashing: Hashing = self.workers.run(move || view.begin_hash(revision)).await??;
        loop {
            let (slice, rest) = self.workers.run(move || (hashing.next_slice(SLICE_BYTES), hashing)).await?;
            if let Some(hash) = slice? {
                return Ok(hash);
            }
            hashing = rest;
        }
    }

    /// Makes and keeps the digests of compactions, for ever.
    pub(crate) async fn keep_those_of(&self, mut compactions: mpsc::Receiver<BeforeCompaction>) {
        while let Some(BeforeCompaction { view, revision }) = compactions.recv().await {
            match self.made_of(view, revision).await {
                // One asks for the newest revision by 0. etcd keeps that of a compaction at 0, and answers it ever after.
                Ok(hash) if revision > 0 => self.keep(hash),
                Ok(_) => {}
                // A store that cannot be read says so itself.
                Err(status) => debug!(revision, error = %status.message, "no digest of history was made"),
            }
        }
    }

    fn keep(&self, hash: HistoryHash) {
        let mut kept = self.kept();
        // A log that is replayed compacts once more.
        if kept.back().is_none_or(|newest| newest.revision < hash.revision) {
            kept.push_back(hash);
        }
        if kept.len() > KEPT_MAX {
            kept.pop_front();
        }
    }

    /// The digest that is kept of a compaction at this revision.
    pub(crate) fn kept_at(&self, revision: i64) -> Option<HistoryHash> {
        self.kept().iter().find(|hash| hash.revision == revision).copied()
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<HistoryHash>> {
        // Only moves of whole values happen under the lock.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_digests_are_kept_each_once() {
        let hashes = HistoryHashes::new(WorkerPool::new(1));
        let hash = |revision: i64, hash: u32| HistoryHash { hash, revision, compacted_revision: revision - 1 };
        (1..15).for_each(|revision| hashes.keep(hash(revision, 1)));
        hashes.keep(hash(9, 2));
        assert_eq!(hashes.kept().len(), KEPT_MAX);
        assert_eq!((hashes.kept_at(4), hashes.kept_at(5)), (None, Some(hash(5, 1))));
        assert_eq!(hashes.kept_at(9), Some(hash(9, 1)));
    }
}
