//! Digests of the key history: made in slices off the serving thread, and kept for the last compactions.
//!
//! A member's digest up to a compaction, as history was before it, is what members are compared by: all of them compact
//! at the same point of the log, so that it is equal on all. As in etcd it is also what is answered later for that
//! revision. Owns which digests are kept. What goes into one is the store's business.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
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
/// How much of it for a digest that nobody waits for, and how many times as long as that took is rested before the next: all members
/// make theirs at the same time.
const UNHURRIED_SLICE_BYTES: usize = 256 << 10;
const UNHURRIED_RESTS: u32 = 1;

/// Makes digests, and keeps those of the last compactions.
pub(crate) struct HistoryHashes {
    workers: WorkerPool,
    /// The oldest first.
    kept: Mutex<VecDeque<HistoryHash>>,
    asked: Mutex<Option<Asked>>,
}

/// The digest that another member has asked for last.
struct Asked {
    revision: i64,
    outcome: Outcome,
}

/// What came of a question for a digest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// It is being made, or another one is.
    UnderWay,
    Known(HistoryHash),
    /// The revision cannot be read here any more.
    Gone,
}

impl HistoryHashes {
    pub(crate) fn new(workers: WorkerPool) -> HistoryHashes {
        HistoryHashes { workers, kept: Mutex::default(), asked: Mutex::default() }
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
        self.made_in_slices(view, revision, SLICE_BYTES, 0).await
    }

    async fn made_in_slices(
        &self,
        view: View,
        revision: i64,
        slice_bytes: usize,
        rests: u32,
    ) -> Result<HistoryHash, Status> {
        let mut hashing: Hashing = self.workers.run(move || view.begin_hash(revision)).await??;
        loop {
            let work = move || {
                let begun = Instant::now();
                (hashing.next_slice(slice_bytes), hashing, begun.elapsed())
            };
            let (slice, rest, took) = self.workers.run(work).await?;
            if let Some(hash) = slice? {
                return Ok(hash);
            }
            hashing = rest;
            if rests > 0 {
                sleep(took * rests).await;
            }
        }
    }

    /// Makes and keeps the digests of compactions, for ever.
    pub(crate) async fn keep_those_of(&self, mut compactions: mpsc::Receiver<BeforeCompaction>) {
        while let Some(BeforeCompaction { view, revision }) = compactions.recv().await {
            match self.made_in_slices(view, revision, UNHURRIED_SLICE_BYTES, UNHURRIED_RESTS).await {
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

    /// Those that are kept, the newest first.
    pub(crate) fn newest(&self) -> Vec<HistoryHash> {
        self.kept().iter().rev().copied().collect()
    }

    /// What is known of a digest that another member asks for. Nothing at the first time: then it is the caller's to make
    /// it and to tell what came of it. One at a time is made for others.
    pub(crate) fn ask(&self, revision: i64) -> Option<Outcome> {
        if let Some(hash) = self.kept_at(revision) {
            return Some(Outcome::Known(hash));
        }
        let mut asked = self.asked();
        match &*asked {
            Some(last) if last.revision == revision || last.outcome == Outcome::UnderWay => Some(last.outcome),
            _ => {
                *asked = Some(Asked { revision, outcome: Outcome::UnderWay });
                None
            }
        }
    }

    /// Tells what came of it; nothing, if it is to be tried again.
    pub(crate) fn tell(&self, revision: i64, outcome: Option<Outcome>) {
        *self.asked() = outcome.map(|outcome| Asked { revision, outcome });
    }

    fn asked(&self) -> MutexGuard<'_, Option<Asked>> {
        // As below.
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
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
        assert_eq!(hashes.newest()[0], hash(14, 1));
    }

    #[test]
    fn a_digest_is_made_once_for_others_and_given_when_they_ask_again() {
        let hashes = HistoryHashes::new(WorkerPool::new(1));
        let hash = |revision: i64| HistoryHash { hash: 1, revision, compacted_revision: -1 };
        hashes.keep(hash(3));
        assert_eq!(hashes.ask(3), Some(Outcome::Known(hash(3))));
        assert_eq!(hashes.ask(5), None);
        assert_eq!((hashes.ask(5), hashes.ask(6)), (Some(Outcome::UnderWay), Some(Outcome::UnderWay)));
        hashes.tell(5, Some(Outcome::Known(hash(5))));
        assert_eq!(hashes.ask(5), Some(Outcome::Known(hash(5))));
        assert_eq!(hashes.ask(6), None);
        hashes.tell(6, None);
        assert_eq!(hashes.ask(6), None);
        hashes.tell(6, Some(Outcome::Gone));
        assert_eq!(hashes.ask(6), Some(Outcome::Gone));
    }
}
