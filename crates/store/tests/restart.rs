//! A store that is opened with a saved index is the one that reads all of history.

use std::path::PathBuf;
use std::sync::Arc;

use vlot_proto::etcdserverpb::{PutRequest, RangeRequest};
use vlot_store::command::Command;
use vlot_store::engine::memory::MemoryEngine;
use vlot_store::lease::LeaseStatus;
use vlot_store::revision::Position;
use vlot_store::store::{Options, Store};

mod obvious;
use obvious::Dice;

/// So little that the index is saved at nearly each flush.
fn open(engine: &MemoryEngine) -> Store {
    let options = Options { index_interval_bytes: 64, value_cache_bytes: 500, ..Options::default() };
    Store::open_still(Arc::new(engine.clone()), options).unwrap()
}

fn open_without(engine: &MemoryEngine) -> Store {
    let options = Options { index_interval_bytes: u64::MAX, ..Options::default() };
    Store::open_still(Arc::new(engine.clone()), options).unwrap()
}

/// The log: the same commands by index each time, leases and quotas among them.
fn advance(store: &mut Store, upto: u64, seed: u64) {
    while store.applied().index < upto {
        let index = store.applied().index + 1;
        let mut dice = Dice((index + seed * 10_007) * 7_919);
        let command = if dice.once_in(20) { dice.quota_command() } else { dice.command(1 + index as i64 / 3) };
        store.apply(Position { term: 1, index }, command).ok();
        if index.is_multiple_of(5) {
            store.end_batch();
            store.compact_step();
        }
    }
}

fn assert_same(left: &Store, right: &Store) {
    assert_eq!((left.applied(), left.revision(), left.hash(0)), (right.applied(), right.revision(), right.hash(0)));
    let all = RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
    assert_eq!(left.range(&all), right.range(&all));
    assert!(left.quotas().eq(right.quotas()));
    let leases = |store: &Store| {
        let of = |lease: LeaseStatus| (lease, store.keys_on_lease(lease.id, usize::MAX));
        store.leases_after(None).map(of).collect::<Vec<_>>()
    };
    assert_eq!(leases(left), leases(right));
    let (left, right) = (left.sizes(), right.sizes());
    assert_eq!((left.keys, left.versions), (right.keys, right.versions));
    assert_eq!(left.stored_bytes, right.stored_bytes, "what history takes up does not drift");
}

#[test]
fn a_saved_index_gives_the_store_that_history_gives() {
    let (mut opened, mut spared) = (0, 0);
    for seed in 0..8 {
        let engine = MemoryEngine::default();
        let mut dice = Dice(seed);
        let mut upto = 0;
        for _ in 0..25 {
            let mut store = open(&engine);
            for _ in 0..1 + dice.below(4) {
                upto += 1 + dice.below(30);
                advance(&mut store, upto, seed);
                store.flush().unwrap();
                // What is not flushed is lost, and a compaction may be half-way.
                advance(&mut store, upto + dice.below(10), seed);
            }
            if dice.once_in(3) {
                store.finish().unwrap();
            }
            upto = upto.max(store.durable().index);
            drop(store);

            let with = open(&engine);
            let without = open_without(&engine.without_what_is_beside());
            assert_same(&with, &without);
            opened += 1;
            spared += u64::from(with.figures().loaded_events < without.figures().loaded_events);
        }
    }
    assert!(spared * 2 > opened, "{spared} of {opened} starts were spared something");
}

#[test]
fn a_damaged_index_is_made_from_history() {
    let engine = MemoryEngine::default();
    let mut store = open(&engine);
    advance(&mut store, 200, 1);
    while store.compact_step() {}
    store.finish().unwrap();
    drop(store);
    let whole = open_without(&engine.without_what_is_beside());
    assert_eq!(open(&engine).figures().loaded_events, 0, "all of it is in the index");
    for bit in (0..40_000).step_by(997) {
        assert!(engine.flip_bit_beside(bit));
        let store = open(&engine);
        assert_eq!(store.figures().loaded_events, whole.figures().loaded_events);
        assert_same(&store, &whole);
        drop(store);
        engine.flip_bit_beside(bit);
    }
}

fn put(store: &mut Store, key: &str) {
    let at = Position { term: 1, index: store.applied().index + 1 };
    let put = PutRequest { key: key.to_owned().into(), value: "v".into(), ..Default::default() };
    store.apply(at, Command::Put(put)).unwrap();
}

#[test]
fn an_index_of_another_history_is_not_used() {
    let dir: PathBuf = std::env::temp_dir().join(format!("vlot-store-restart-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    let open = || Store::open(&dir, Options { index_interval_bytes: 0, ..Options::default() }).unwrap();
    let mut store = open();
    put(&mut store, "a");
    store.finish().unwrap();
    drop(store);
    let earlier = std::fs::read(dir.join("history.redb")).unwrap();
    let mut store = open();
    assert_eq!(store.figures().loaded_events, 0);
    put(&mut store, "b");
    store.finish().unwrap();
    drop(store);
    let index = std::fs::read(dir.join("index")).unwrap();

    // The file of a moment before, put back by hand: the index is ahead of it.
    std::fs::write(dir.join("history.redb"), &earlier).unwrap();
    let store = open();
    assert_eq!((store.revision(), store.sizes().keys, store.figures().loaded_events), (2, 1, 1));
    drop(store);

    // Another store's, of as many commands.
    std::fs::remove_file(dir.join("history.redb")).unwrap();
    let mut store = open();
    put(&mut store, "c");
    put(&mut store, "d");
    store.flush().unwrap();
    drop(store);
    std::fs::write(dir.join("index"), &index).unwrap();
    std::fs::write(dir.join("index.next"), b"the power failed here").unwrap();
    let store = open();
    assert_eq!(store.figures().loaded_events, 2);
    let keys = RangeRequest { key: "c".into(), range_end: "e".into(), ..Default::default() };
    assert_eq!(store.range(&keys).unwrap().count, 2);
    assert!(!dir.join("index.next").exists());
    drop(store);
    std::fs::remove_dir_all(&dir).unwrap();
}
