//! Compaction: history that nobody may ask for any more is given up in steps, between batches.
//!
//! A walk through the index finds what has been superseded. The backlog puts that in order; then the engine takes it out, and a sweep
//! lets what is of it go from memory, block by block.

use std::sync::Arc;

use vlot_proto::etcdserverpb::{CompactionResponse, ResponseHeader};

use super::Store;
use crate::mvcc::reader::Moment;
use crate::mvcc::revision::Revision;
use crate::refusal::Refusal;

/// How many keys, or events in memory, one step of compaction looks at: some tens of microseconds' work.
const STEP_KEYS: usize = 64;

/// Compaction on its way through the index.
#[derive(Debug)]
pub(super) struct Walk {
    next: Vec<u8>,
    pub(super) compacted: i64,
    /// What each step has given up.
    dropped: Vec<Vec<Revision>>,
}

/// Compaction on its way through what is in memory.
#[derive(Debug)]
pub(super) struct Sweep {
    /// What was given up, in order.
    given_up: Arc<[Revision]>,
    done: usize,
}

impl Walk {
    pub(super) fn new(compacted: i64) -> Self {
        Self { next: Vec::new(), compacted, dropped: Vec::new() }
    }
}

impl Store {
    pub(super) fn apply_compaction(&mut self, revision: i64) -> Result<CompactionResponse, Refusal> {
        let Moment { revision: newest, compacted: oldest, .. } = self.now;
        if revision <= oldest {
            return Err(Refusal::Compacted { oldest });
        }
        if revision > newest {
            return Err(Refusal::FutureRevision { newest });
        }
        self.now.compacted = revision;
        self.walk.get_or_insert_with(|| Walk::new(revision));
        let header = ResponseHeader { revision: newest, ..Default::default() };
        Ok(CompactionResponse { header: Some(header) })
    }

    /// Does a bounded piece of work on giving up compacted history. To be called between batches.
    /// Returns whether there is more to do.
    pub fn compact_step(&mut self) -> bool {
        if self.is_broken() {
            return false;
        }
        if self.walk.is_some() {
            // The engine takes out only what it was given before, once it knows of the compaction.
            self.end_batch();
        }
        if let Some(walk) = self.walk.take() {
            self.walk_on(walk);
        } else if let Some(Sweep { given_up, done }) = &mut self.sweep {
            *done += self.now.recent.sweep(&given_up[*done..], STEP_KEYS);
            self.sweep.take_if(|Sweep { given_up, done }| *done == given_up.len());
        } else {
            self.sweep = self.backlog.next_sorted().map(|given_up| Sweep { given_up, done: 0 });
        }
        self.walk.is_some() || self.sweep.is_some() || self.backlog.has_unsorted()
    }

    fn walk_on(&mut self, mut walk: Walk) {
        let mut dropped = Vec::new();
        let next = self.now.index.compact(&walk.next, STEP_KEYS, walk.compacted, |version| {
            dropped.push(version.revision());
        });
        if !dropped.is_empty() {
            walk.dropped.push(dropped);
        }
        if let Some(next) = next {
            self.walk = Some(Walk { next, ..walk });
            return;
        }
        self.backlog.drop_versions(walk.dropped, walk.compacted);
        self.walk = (walk.compacted < self.now.compacted).then(|| Walk::new(self.now.compacted));
    }

    /// Whether compacted history is still in memory or in the engine. A client that asked for a `physical` compaction
    /// waits for the end of it.
    #[must_use]
    pub fn is_compacting(&self) -> bool {
        self.walk.is_some() || self.backlog.is_thinning()
    }
}
