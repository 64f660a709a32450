//! Blocks of history without what compaction has given up.
//!
//! Owns how blocks are rewritten and joined. Must not know when.

use std::collections::VecDeque;

use super::room_of;
use crate::damage::{BadBlock, Damage};
use crate::engine::{Engine, EngineError, WriteBatch};
use crate::mvcc::history::{self, Block};
use crate::mvcc::revision::Revision;

/// How many blocks one transaction thins out, so that new history does not wait long behind old, nor the log's writes for
/// the disk.
const THINNED_BLOCKS_MAX: usize = 32;

/// Rewrites blocks without the versions at the front of `dropped`, which it consumes. Neighbours that have become small
/// are joined. Also returns how much the blocks took up that go.
pub(super) fn thinned(engine: &dyn Engine, dropped: &mut VecDeque<Revision>) -> Result<(WriteBatch, u64), EngineError> {
    let mut batch = WriteBatch::default();
    let mut freed = 0;
    let view = engine.view()?;
    // A rewritten block that the next one may be joined to, and the block that was looked at last.
    let mut joined: Option<(Revision, Block)> = None;
    let mut last_key = None;
    for _ in 0..THINNED_BLOCKS_MAX {
        let Some(&next) = dropped.front() else { break };
        let found = view.block_at(next)?.filter(|(key, _)| last_key != Some(*key));
        let Some((key, stored)) = found else {
            // No block holds it, or the one that would has been dealt with: it is gone already.
            dropped.pop_front();
            continue;
        };
        let kept = thinned_block(key, &stored, dropped)?;
        // Blocks may only be joined if every block between them is gone.
        let before = view.block_at(key.before())?.map(|(before, _)| before);
        if last_key.replace(key) != before {
            batch.blocks.extend(joined.take().map(|(key, block)| (key, block.sealed())));
        }
        batch.removed.push(key);
        freed += room_of(stored.len());
        match (&mut joined, kept) {
            (_, None) => {}
            (Some((_, block)), Some(kept)) if block.has_room_for(kept.len()) => *block = block.joined(&kept),
            (_, Some(kept)) => {
                let earlier = joined.replace((key, kept));
                batch.blocks.extend(earlier.map(|(key, block)| (key, block.sealed())));
            }
        }
    }
    batch.blocks.extend(joined.map(|(key, block)| (key, block.sealed())));
    Ok((batch, freed))
}

/// What is left of one block.
fn thinned_block(key: Revision, stored: &[u8], dropped: &mut VecDeque<Revision>) -> Result<Option<Block>, EngineError> {
    let bad = |bad: BadBlock| EngineError::Damaged(Damage::Block { key, bad });
    let mut kept: Option<Block> = None;
    for event in history::unseal(stored).map_err(bad)? {
        let event = event.map_err(bad)?;
        while dropped.front().is_some_and(|revision| *revision < event.revision) {
            dropped.pop_front();
        }
        if dropped.front() == Some(&event.revision) {
            dropped.pop_front();
            continue;
        }
        match &mut kept {
            Some(block) => block.push(&event),
            None => kept = Some(Block::of(&event)),
        }
    }
    Ok(kept)
}
