//! The block that has an event is found in every view, whatever was read, written and removed before.

use std::collections::BTreeMap;
use std::sync::Arc;

use vlot_store::engine::memory::MemoryEngine;
use vlot_store::engine::redb::RedbEngine;
use vlot_store::engine::{Engine, EngineView, WriteBatch};
use vlot_store::revision::Revision;

mod obvious;
use obvious::Dice;

const REVISIONS: u64 = 200;

/// Views with the blocks that were there when they were taken.
type Views = Vec<(Arc<dyn EngineView>, BTreeMap<Revision, Vec<u8>>)>;

fn check(views: &Views, dice: &mut Dice) {
    for (view, blocks) in views {
        let revision = Revision { main: dice.below(REVISIONS) as i64, sub: dice.below(3) as u32 };
        let expected = blocks.range(..=revision).next_back().map(|(_, block)| block);
        let mut found = None;
        let mut looked_at = 0;
        let mut find = |block: &[u8]| {
            looked_at += 1;
            // What stands for the event is that the block is the right one.
            let is_it = expected.is_some_and(|expected| expected == block);
            found = found.take().or(is_it.then(|| block.to_vec()));
            is_it
        };
        view.find_event(revision, &mut find).unwrap();
        assert_eq!(found.as_ref(), expected, "{revision}");
        assert!(looked_at <= 2, "{looked_at} blocks were read");
        let kept = view.block_at(revision).unwrap();
        assert_eq!(kept.as_ref().map(|(_, block)| block), expected, "{revision}");
    }
}

fn live_through(engine: &dyn Engine, seed: u64) {
    let mut dice = Dice(seed);
    let mut blocks: BTreeMap<Revision, Vec<u8>> = BTreeMap::new();
    let mut views: Views = Vec::new();
    for round in 0..120_u32 {
        let mut batch = WriteBatch::default();
        for _ in 0..dice.below(4) {
            let key = Revision { main: dice.below(REVISIONS) as i64, sub: dice.below(3) as u32 };
            if blocks.remove(&key).is_some() {
                batch.removed.push(key);
            } else {
                // Long enough that each is a leaf of the tree.
                let block = [round.to_le_bytes().to_vec(), vec![dice.below(256) as u8; 5_000]].concat();
                batch.blocks.push((key, block.clone()));
                blocks.insert(key, block);
            }
        }
        engine.write(&batch).unwrap();
        views.push((engine.view().unwrap(), blocks.clone()));
        if views.len() > 6 {
            views.swap_remove(dice.below(6) as usize);
        }
        (0..4).for_each(|_| check(&views, &mut dice));
    }
}

#[test]
fn the_block_of_an_event_is_found_in_every_view() {
    for seed in 0..6 {
        live_through(&MemoryEngine::default(), seed);
        let dir = std::env::temp_dir().join(format!("vlot-store-blocks-{}-{seed}", std::process::id()));
        live_through(&RedbEngine::open(&dir, 1 << 20).unwrap(), seed);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
