//! The store against the obvious one, over random commands, with values in and out of memory, compaction at work, and
//! crashes at any point.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vlot_proto::etcdserverpb::{CompactionRequest, PutRequest, RangeRequest};
use vlot_store::command::Command;
use vlot_store::engine::memory::MemoryEngine;
use vlot_store::refusal::Refusal;
use vlot_store::revision::Position;
use vlot_store::store::{OpenError, Options, Store};

mod obvious;
use obvious::{Dice, Obvious};

fn open(engine: &MemoryEngine, value_cache_bytes: usize) -> Store {
    let options = Options { value_cache_bytes, ..Options::default() };
    Store::open_still(Arc::new(engine.clone()), options).unwrap()
}

fn at(index: usize) -> Position {
    Position { term: 1 + index as u64 / 50, index: index as u64 }
}

/// Applies what the log has after the store's position.
fn replay(store: &mut Store, log: &[Command]) {
    let done = store.applied().index as usize;
    for (place, command) in log.iter().enumerate().skip(done) {
        store.apply(at(place + 1), command.clone()).ok();
    }
}

/// Every key at every readable revision.
fn assert_same(store: &Store, obvious: &Obvious) {
    assert_eq!(store.revision(), obvious.revision());
    assert_eq!(store.compacted_revision(), obvious.compacted);
    for revision in obvious.compacted.max(1)..=obvious.revision() {
        let all = RangeRequest { key: "\0".into(), range_end: "\0".into(), revision, ..Default::default() };
        assert_eq!(store.range(&all), obvious.range(&all), "at {revision}");
    }
    let leases: Vec<_> = store.leases_after(None).map(|lease| (lease.id, lease.ttl, lease.end)).collect();
    assert_eq!(leases, obvious.leases.iter().map(|(id, lease)| (*id, lease.ttl, lease.end)).collect::<Vec<_>>());
    for (id, ..) in leases {
        let keys = obvious.keys_on(id);
        assert_eq!(store.keys_on_lease(id, usize::MAX).as_ref(), Some(&keys), "on {id}");
        assert_eq!(store.view().keys_on_lease(id), keys, "on {id}");
    }
}

#[test]
fn does_what_a_map_for_each_revision_does() {
    for seed in 0..42 {
        let mut dice = Dice(seed);
        let engine = MemoryEngine::default();
        let mut store = open(&engine, [usize::MAX, 100, 0][seed as usize % 3]);
        let mut obvious = Obvious::new();
        for step in 1..400 {
            let command = match store.lease_time_due(at(step).term, store.lease_time() + dice.below(2_000)) {
                Some(time) if dice.once_in(6) => Command::LeaseTime(time),
                _ => dice.command(obvious.revision()),
            };
            let expected = obvious.apply(at(step).term, &command);
            assert_eq!(store.apply(at(step), command.clone()), expected, "seed {seed}, step {step}, {command:?}");
            let range = dice.range(obvious.revision());
            assert_eq!(store.range(&range), obvious.range(&range), "seed {seed}, step {step}, {range:?}");
            match dice.below(10) {
                0..=2 => store.end_batch(),
                3 => store.flush().unwrap(),
                4 => drop(store.compact_step()),
                _ => {}
            }
        }
        while store.compact_step() {}
        store.flush().unwrap();
        assert!(!store.is_compacting());
        assert_same(&store, &obvious);
    }
}

#[test]
fn a_crash_at_any_point_leaves_a_prefix_and_the_log_brings_the_rest() {
    for seed in 100..128 {
        let mut dice = Dice(seed);
        let engine = MemoryEngine::default();
        let mut store = open(&engine, [usize::MAX, 1_000][seed as usize % 2]);
        let mut obvious = Obvious::new();
        let mut log: Vec<Command> = Vec::new();
        let mut flushed = Position::default();
        for _ in 0..300 {
            let command = dice.command(obvious.revision());
            log.push(command.clone());
            obvious.apply(at(log.len()).term, &command).ok();
            store.apply(at(log.len()), command).ok();
            match dice.below(12) {
                0..=3 => store.end_batch(),
                4 => {
                    store.flush().unwrap();
                    flushed = store.applied();
                }
                5 => drop(store.compact_step()),
                6 => {
                    let hash = store.hash(0);
                    drop(store);
                    store = open(&engine, 1_000);
                    assert_eq!(store.applied(), store.durable());
                    assert_eq!(store.applied(), flushed, "seed {seed}");
                    replay(&mut store, &log);
                    assert_eq!(store.hash(0), hash, "seed {seed}");
                }
                _ => {}
            }
        }
        assert_same(&store, &obvious);
    }
}

#[test]
fn members_agree_wherever_their_disks_and_their_compaction_stand() {
    for seed in 200..220 {
        let mut dice = Dice(seed);
        let engines = [MemoryEngine::default(), MemoryEngine::default()];
        let mut eager = open(&engines[0], 0);
        let mut lazy = open(&engines[1], usize::MAX);
        for step in 1..300 {
            let bytes = dice.command(eager.revision()).encode();
            let command = || Command::decode(bytes.clone()).unwrap();
            assert_eq!(eager.apply(at(step), command()), lazy.apply(at(step), command()));
            eager.end_batch();
            while eager.compact_step() {}
            eager.flush().unwrap();
            if dice.once_in(9) {
                drop(eager);
                eager = open(&engines[0], 0);
            }
            assert_eq!(eager.hash(0), lazy.hash(0), "seed {seed}, step {step}");
            let old = dice.below(eager.revision() as u64) as i64;
            assert_eq!(eager.hash(old), lazy.hash(old), "seed {seed}, step {step}");
        }
        assert!(eager.attributes().eq(lazy.attributes()));
    }
}

#[test]
fn compaction_gives_memory_and_blocks_back_and_the_revision_never_falls() {
    let engine = MemoryEngine::default();
    let mut store = open(&engine, usize::MAX);
    let mut index = 0;
    let mut apply = |store: &mut Store, command| {
        index += 1;
        store.apply(at(index), command).unwrap();
    };
    for round in 0..20_000 {
        let key = format!("key/{}", round % 10).into();
        apply(&mut store, Command::Put(PutRequest { key, value: vec![7; 200].into(), ..Default::default() }));
        if round % 1_000 == 0 {
            store.flush().unwrap();
        }
    }
    let all =
        vlot_proto::etcdserverpb::DeleteRangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
    apply(&mut store, Command::DeleteRange(all));
    let newest = store.revision();
    let before = (engine.blocks(), store.sizes().versions);
    apply(&mut store, Command::Compact(CompactionRequest { revision: newest - 5, physical: true }));
    while store.compact_step() {}
    store.flush().unwrap();
    let after = (engine.blocks(), store.sizes().versions);
    assert!(before.0 > 200 && after.0 < 5, "{before:?} {after:?}");
    assert_eq!((before.1, after.1), (20_010, 24));

    drop(store);
    let mut store = open(&engine, usize::MAX);
    assert_eq!((store.revision(), store.compacted_revision()), (newest, newest - 5));
    // The newest events are deletions, which a later compaction takes away; the revision stays.
    store.apply(at(30_000), Command::Put(PutRequest { key: "z".into(), ..Default::default() })).unwrap();
    let revision = store.revision();
    store.apply(at(30_001), Command::Compact(CompactionRequest { revision, physical: true })).unwrap();
    store.flush().unwrap();
    drop(store);
    let mut store = open(&engine, usize::MAX);
    assert!(store.compact_step(), "the rest of the compaction is found again");
    while store.compact_step() {}
    store.flush().unwrap();
    assert_eq!((store.revision(), store.sizes().keys, engine.blocks()), (revision, 1, 1));
}

#[test]
fn damage_is_refused_and_a_failed_engine_stops_the_store() {
    let engine = MemoryEngine::default();
    let put = |key: &'static str| Command::Put(PutRequest { key: key.into(), value: "v".into(), ..Default::default() });
    let mut store = open(&engine, 0);
    store.apply(at(1), put("a")).unwrap();
    store.flush().unwrap();
    engine.flip_bit(70);
    let get = RangeRequest { key: "a".into(), ..Default::default() };
    let begun = store.short_range(&get, 1, 9).unwrap().unwrap();
    assert_eq!(store.failure(), None);
    assert_eq!(begun.complete(), Err(Refusal::Unreadable));
    assert!(store.failure().is_some());
    assert_eq!(store.range(&get), Err(Refusal::Unreadable));
    assert_eq!(store.apply(at(2), put("a")), Err(Refusal::Unreadable));
    assert_eq!(store.applied(), at(1));
    drop(store);
    let reopened = Store::open_still(Arc::new(engine.clone()), Options::default());
    assert!(matches!(reopened, Err(OpenError::Damaged(_))));

    let engine = MemoryEngine::default();
    let options = Options { commit_interval: Duration::from_millis(1), backlog_bytes_max: 100, ..Options::default() };
    let mut store = Store::open_on(Arc::new(engine.clone()), options).unwrap();
    engine.fail();
    for index in 1..100 {
        store.apply(at(index), put("a")).unwrap();
        store.end_batch();
    }
    assert!(store.flush().is_err());
    assert!(store.failure().is_some());
    assert_eq!(store.durable(), Position::default());
}

/// A full disk delays what is written down. Nothing fails by it, and nobody who applies has to wait.
#[test]
fn what_finds_no_room_is_written_once_there_is_some() {
    let engine = MemoryEngine::default();
    let options = Options { commit_interval: Duration::from_millis(1), backlog_bytes_max: 100, ..Options::default() };
    let mut store = Store::open_on(Arc::new(engine.clone()), options).unwrap();
    let put = || Command::Put(PutRequest { key: "a".into(), value: "b".into(), ..Default::default() });
    engine.fill(true);
    for index in 1..100 {
        store.apply(at(index), put()).unwrap();
        store.end_batch();
    }
    let get = RangeRequest { key: "a".into(), ..Default::default() };
    assert_eq!(store.range(&get).unwrap().count, 1);
    assert!(store.flush().is_err(), "it does not wait for room");
    assert_eq!((store.durable(), store.failure().is_some()), (Position::default(), false));
    engine.fill(false);
    let begun = Instant::now();
    while store.durable() != at(99) {
        assert!(begun.elapsed() < Duration::from_secs(10), "it is written by itself");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(store.flush(), Ok(()));
}

#[test]
fn a_file_keeps_what_the_thread_made_durable() {
    let dir = std::env::temp_dir().join(format!("vlot-store-mvcc-{}", std::process::id()));
    let options = Options { commit_interval: Duration::from_millis(5), value_cache_bytes: 2_000, ..Options::default() };
    let mut obvious = Obvious::new();
    let mut dice = Dice(300);
    let mut log: Vec<Command> = Vec::new();
    for round in 0..6 {
        let mut store = Store::open(&dir, options.clone()).unwrap();
        assert!(store.applied().index as usize <= log.len());
        replay(&mut store, &log);
        for _ in 0..300 {
            let command = dice.command(obvious.revision());
            log.push(command.clone());
            let expected = obvious.apply(at(log.len()).term, &command);
            assert_eq!(store.apply(at(log.len()), command), expected);
            store.end_batch();
            store.compact_step();
            if dice.once_in(50) {
                std::thread::sleep(Duration::from_millis(8));
            }
        }
        assert_same(&store, &obvious);
        if round % 2 == 0 {
            store.close().unwrap();
        }
    }
    let store = Store::open(&dir, options).unwrap();
    assert!(store.durable().index > 1_200);
    drop(store);
    std::fs::remove_dir_all(&dir).unwrap();
}
