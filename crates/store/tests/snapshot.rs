//! A store becomes another by its snapshot: all of it or nothing, at any moment, and nobody who watches misses a change.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use vlot_proto::etcdserverpb::{CompactionRequest, PutRequest, RangeRequest, WatchCreateRequest};
use vlot_store::command::Command;
use vlot_store::engine::memory::MemoryEngine;
use vlot_store::revision::Position;
use vlot_store::snapshot::RestoreError;
use vlot_store::store::{Options, Store};
use vlot_store::watch::{CancelReason, Next, WatchOut, WatchStream};

mod obvious;
use obvious::{Dice, Obvious};

fn open(engine: &MemoryEngine) -> Store {
    Store::open_still(Arc::new(engine.clone()), Options::default()).unwrap()
}

fn at(index: u64) -> Position {
    Position { term: 1 + index / 50, index }
}

fn apply(store: &mut Store, command: Command) {
    let next = at(store.applied().index + 1);
    store.apply(next, command).ok();
}

fn put(store: &mut Store, key: &'static str, value: &str) {
    let value = Bytes::copy_from_slice(value.as_bytes());
    apply(store, Command::Put(PutRequest { key: key.into(), value, ..Default::default() }));
    store.end_batch();
}

fn stream_of(store: &Store) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.snapshot().unwrap().write_to(&mut bytes).unwrap();
    bytes
}

/// Every key at every readable revision, and what is beside the keys.
fn assert_same(one: &Store, other: &Store) {
    assert_eq!((one.revision(), one.applied()), (other.revision(), other.applied()));
    assert_eq!(one.compacted_revision(), other.compacted_revision());
    assert!(one.attributes().eq(other.attributes()));
    for revision in one.compacted_revision().max(1)..=one.revision() {
        let all = RangeRequest { key: "\0".into(), range_end: "\0".into(), revision, ..Default::default() };
        assert_eq!(one.range(&all), other.range(&all), "at {revision}");
    }
    assert_eq!(one.hash(0), other.hash(0));
}

/// A store after random commands, all of it durable.
fn worked(seed: u64, steps: u64) -> Store {
    let mut dice = Dice(seed);
    let mut obvious = Obvious::new();
    let mut store = open(&MemoryEngine::default());
    for step in 0..steps {
        let command = dice.command(obvious.revision());
        obvious.apply(at(store.applied().index + 1).term, &command).ok();
        apply(&mut store, command);
        if step % 7 == 0 {
            let (name, value) = (Bytes::from(format!("member/{}", step % 5)), Bytes::from(step.to_string()));
            apply(&mut store, Command::SetAttribute { name, value: if step % 3 == 0 { Bytes::new() } else { value } });
        }
        if dice.below(5) == 0 {
            store.compact_step();
        }
    }
    store.flush().unwrap();
    store
}

#[test]
fn a_store_becomes_what_a_snapshot_holds() {
    for seed in 0..30 {
        let mut source = worked(seed, 200);
        let bytes = stream_of(&source);
        let engine = MemoryEngine::default();
        let mut copy = open(&engine);
        put(&mut copy, "own", "is gone afterwards");
        copy.restore(&mut &bytes[..]).unwrap();
        assert_same(&source, &copy);
        // Both go on alike, and the copy has it all when it is opened again.
        let mut dice = Dice(seed + 1000);
        for _ in 0..50 {
            let command = dice.command(source.revision());
            let next = at(source.applied().index + 1);
            assert_eq!(source.apply(next, command.clone()), copy.apply(next, command));
        }
        copy.flush().unwrap();
        drop(copy);
        assert_same(&source, &open(&engine));
    }
}

#[test]
fn a_snapshot_is_of_one_moment() {
    let mut store = worked(3, 100);
    let snapshot = store.snapshot().unwrap();
    let (position, before) = (snapshot.position(), stream_of(&store));
    assert_eq!(position, store.applied(), "all was durable");
    for n in 0..50 {
        put(&mut store, "k", &n.to_string());
    }
    let compaction = CompactionRequest { revision: store.revision(), physical: true };
    apply(&mut store, Command::Compact(compaction));
    while store.compact_step() {}
    store.flush().unwrap();
    let mut after = Vec::new();
    snapshot.write_to(&mut after).unwrap();
    assert!(after == before, "what came later is not in it");
    assert!(stream_of(&store) != before);
}

#[test]
fn nothing_is_taken_back() {
    let mut store = worked(5, 60);
    let bytes = stream_of(&store);
    store.restore(&mut &bytes[..]).expect("the very same state is no step back");
    put(&mut store, "later", "1");
    let (revision, applied) = (store.revision(), store.applied());
    let refused = store.restore(&mut &bytes[..]);
    assert!(matches!(refused, Err(RestoreError::Older { .. })), "{refused:?}");
    assert_eq!((store.revision(), store.applied()), (revision, applied));
}

#[test]
fn a_damaged_stream_changes_nothing() {
    let source = worked(8, 40);
    let bytes = stream_of(&source);
    let mut store = open(&MemoryEngine::default());
    put(&mut store, "own", "stays");
    let untouched = |store: &Store| (store.revision(), store.applied(), store.hash(0).unwrap());
    let before = untouched(&store);
    for place in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 1 << (place % 8);
        assert!(store.restore(&mut &damaged[..]).is_err(), "byte {place}");
        assert!(store.restore(&mut &bytes[..place]).is_err(), "cut to {place} bytes");
        assert_eq!(untouched(&store), before);
    }
    let longer = [&bytes[..], b"x"].concat();
    assert!(store.restore(&mut &longer[..]).is_err());
    store.restore(&mut &bytes[..]).unwrap();
    assert_same(&source, &store);
}

fn drain(stream: &mut WatchStream, store: &Store) -> (usize, Option<CancelReason>) {
    let (mut events, mut ended) = (0, None);
    loop {
        let mut drained = stream.drain(1 << 20);
        if drained.next == Next::CatchUp {
            let caught_up = stream.catch_up(&store.view(), 1 << 20).unwrap();
            drained.outs.extend(caught_up.outs);
            drained.next = caught_up.next;
        }
        for out in drained.outs {
            match out {
                WatchOut::Events { events: some, .. } => events += some.len(),
                WatchOut::Canceled { reason, .. } => ended = Some(reason),
                _ => {}
            }
        }
        if drained.next == Next::Wait {
            return (events, ended);
        }
    }
}

fn watch(store: &Store, start_revision: i64) -> WatchStream {
    let mut stream = store.watch_stream(Arc::new(|| {}));
    let (key, range_end) = (Bytes::from("a"), Bytes::from("z"));
    stream.create(&WatchCreateRequest { key, range_end, start_revision, ..Default::default() });
    drain(&mut stream, store);
    stream
}

#[test]
fn watches_see_what_came_with_the_snapshot() {
    let (mut ahead, mut late) = (open(&MemoryEngine::default()), open(&MemoryEngine::default()));
    for store in [&mut ahead, &mut late] {
        put(store, "k", "1");
        put(store, "k", "2");
    }
    let (mut in_sync, mut future) = (watch(&late, 0), watch(&late, 6));
    put(&mut ahead, "k", "3");
    put(&mut ahead, "k", "4");
    put(&mut ahead, "k", "5");
    ahead.flush().unwrap();
    late.restore(&mut &stream_of(&ahead)[..]).unwrap();
    assert_eq!(drain(&mut in_sync, &late), (3, None), "each change once");
    assert_eq!(drain(&mut future, &late), (1, None), "from revision 6 on");
    put(&mut late, "k", "6");
    assert_eq!((drain(&mut in_sync, &late), drain(&mut future, &late)), ((1, None), (1, None)));

    // What it needs may be compacted where the snapshot comes from.
    apply(&mut ahead, Command::Put(PutRequest { key: "k".into(), value: "6".into(), ..Default::default() }));
    put(&mut ahead, "k", "7");
    put(&mut ahead, "k", "8");
    let compaction = CompactionRequest { revision: ahead.revision(), physical: false };
    apply(&mut ahead, Command::Compact(compaction));
    ahead.flush().unwrap();
    late.restore(&mut &stream_of(&ahead)[..]).unwrap();
    let oldest = late.compacted_revision();
    assert_eq!(drain(&mut in_sync, &late), (0, Some(CancelReason::Compacted { oldest })));
}

/// On the real engine: a crash leaves the old state or the new one, and what was never finished is removed.
#[test]
fn the_file_is_replaced_in_one_step() {
    let dir: PathBuf = std::env::temp_dir().join(format!("vlot-store-snapshot-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    let options = || Options { commit_interval: Duration::from_millis(5), ..Options::default() };
    let source = worked(11, 300);
    let bytes = stream_of(&source);

    let mut store = Store::open(&dir, options()).unwrap();
    put(&mut store, "own", "1");
    store.flush().unwrap();
    assert!(store.restore(&mut &bytes[..bytes.len() / 2]).is_err());
    drop(store);
    std::fs::write(dir.join("history.redb.next"), b"the power failed here").unwrap();
    let mut store = Store::open(&dir, options()).unwrap();
    assert!(!dir.join("history.redb.next").exists());
    assert_eq!(store.revision(), 2, "as before");

    store.restore(&mut &bytes[..]).unwrap();
    assert_same(&source, &store);
    let held = store.snapshot().unwrap();
    put(&mut store, "own", "2");
    store.flush().unwrap();
    let (revision, applied) = (store.revision(), store.applied());
    drop((held, store));
    let store = Store::open(&dir, options()).unwrap();
    assert_eq!((store.revision(), store.applied()), (revision, applied));
    drop(store);
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_crash_while_the_first_file_is_made_leaves_an_empty_store() {
    let dir: PathBuf = std::env::temp_dir().join(format!("vlot-store-first-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("history.redb.next"), [0; 5_000]).unwrap();
    let mut store = Store::open(&dir, Options::default()).unwrap();
    put(&mut store, "a", "1");
    store.flush().unwrap();
    drop(store);
    assert_eq!(Store::open(&dir, Options::default()).unwrap().revision(), 2);
    std::fs::remove_dir_all(&dir).unwrap();
}
