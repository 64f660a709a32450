//! What operators do with a store: look into its snapshot, raise its revision, have its file written anew.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use vlot_proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest};
use vlot_store::command::Command;
use vlot_store::engine::memory::MemoryEngine;
use vlot_store::refusal::Refusal;
use vlot_store::revision::Position;
use vlot_store::snapshot::{Contents, RestoreError, inspect};
use vlot_store::store::{Options, Store};

mod obvious;
use obvious::{Dice, Obvious};

fn open(engine: &MemoryEngine) -> Store {
    Store::open_still(Arc::new(engine.clone()), Options::default()).unwrap()
}

fn apply(store: &mut Store, command: Command) {
    let index = store.applied().index + 1;
    store.apply(Position { term: 1, index }, command).ok();
    store.end_batch();
}

fn put(key: &str, value: Vec<u8>) -> Command {
    Command::Put(PutRequest { key: key.to_owned().into(), value: value.into(), ..Default::default() })
}

fn stream_of(store: &Store) -> Vec<u8> {
    let mut bytes = Vec::new();
    let snapshot = store.snapshot().unwrap();
    snapshot.write_to(&mut bytes).unwrap();
    assert_eq!(snapshot.encoded_len().unwrap(), bytes.len() as u64);
    bytes
}

/// A store after random commands, all of it durable, and how many keys it has.
fn worked(seed: u64) -> (Store, usize) {
    let (mut dice, mut obvious) = (Dice(seed), Obvious::new());
    let mut store = open(&MemoryEngine::default());
    for _ in 0..200 {
        let command = dice.command(obvious.revision());
        obvious.apply(1, &command).ok();
        apply(&mut store, command);
    }
    store.flush().unwrap();
    (store, obvious.keys().len())
}

#[test]
fn a_digest_in_slices_is_the_digest() {
    for seed in 0..20 {
        let (store, _) = worked(seed);
        let view = store.view();
        for revision in store.compacted_revision().max(0)..=store.revision() {
            let whole = store.hash(revision).unwrap();
            for bytes_max in [1, 100, 5_000] {
                let mut hashing = view.begin_hash(revision).unwrap();
                let mut slices = 1;
                let hash = loop {
                    match hashing.next_slice(bytes_max).unwrap() {
                        Some(hash) => break hash,
                        None => slices += 1,
                    }
                };
                assert_eq!(hash, whole, "seed {seed} at {revision}");
                assert!(slices <= 10_000);
            }
        }
        assert!(matches!(view.begin_hash(store.revision() + 1), Err(Refusal::FutureRevision { .. })));
    }
}

#[test]
fn a_snapshot_says_what_is_in_it_and_no_damage_goes_unseen() {
    for seed in 0..10 {
        let (store, keys) = worked(seed);
        let stream = stream_of(&store);
        let contents = inspect(&mut &stream[..]).unwrap();
        let Contents { position, revision, compacted_revision, .. } = contents;
        assert_eq!((position, revision), (store.applied(), store.revision()));
        assert_eq!((compacted_revision, contents.keys), (store.compacted_revision(), keys), "seed {seed}");
        if seed > 1 {
            continue;
        }
        for place in (0..stream.len()).step_by(7) {
            let mut damaged = stream.clone();
            damaged[place] ^= 0x10;
            let refused = inspect(&mut &damaged[..]);
            assert!(matches!(refused, Err(RestoreError::Damaged { .. })), "at {place}");
            assert!(inspect(&mut &stream[..place]).is_err(), "cut at {place}");
        }
    }
}

#[test]
fn a_raised_revision_is_compacted_and_outlives_a_restart() {
    let engine = MemoryEngine::default();
    let mut store = open(&engine);
    for n in 0..10 {
        apply(&mut store, put("k", vec![n]));
    }
    apply(&mut store, Command::DeleteRange(DeleteRangeRequest { key: "gone".into(), ..Default::default() }));
    let revision = store.revision();
    store.bump_revision(1000);
    store.close().unwrap();
    let mut store = open(&engine);
    while store.compact_step() {}
    store.flush().unwrap();
    assert_eq!((store.revision(), store.compacted_revision()), (revision + 1000, revision + 1000));
    let at = |revision| RangeRequest { key: "k".into(), revision, ..Default::default() };
    assert_eq!(store.range(&at(0)).unwrap().kvs[0].value, Bytes::from(vec![9]));
    assert_eq!(store.range(&at(revision)), Err(Refusal::Compacted { oldest: revision + 1000 }));
    apply(&mut store, put("k", vec![10]));
    assert_eq!(store.range(&at(0)).unwrap().kvs[0].mod_revision, revision + 1001);
    store.bump_revision(u64::MAX);
    assert_eq!(store.revision(), i64::MAX - 1);
}

fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("vlot-store-{name}-{}", std::process::id()));
    std::fs::remove_dir_all(&dir).ok();
    dir
}

#[test]
fn a_file_is_written_anew_while_commands_are_applied_and_views_are_read() {
    let dir = scratch("defragment");
    let mut store = Store::open(&dir, Options { value_cache_bytes: 0, ..Options::default() }).unwrap();
    for n in 0..200 {
        apply(&mut store, put(&format!("k{n}"), vec![n as u8; 30_000]));
    }
    store.flush().unwrap();
    let view = store.view();
    let (digest, full) = (view.hash(0), store.sizes().database_bytes);
    let most = DeleteRangeRequest { key: "k1".into(), range_end: "l".into(), ..Default::default() };
    apply(&mut store, Command::DeleteRange(most));
    let revision = store.revision();
    apply(&mut store, Command::Compact(CompactionRequest { revision, physical: true }));
    while store.compact_step() || store.is_compacting() {}
    store.defragment();
    let begun = Instant::now();
    let mut n = 0;
    // Goes on meanwhile; a file of a few pages is left in the end.
    while store.sizes().database_bytes > full / 4 {
        n += 1;
        apply(&mut store, put("during", vec![n as u8; 10]));
        assert_eq!(view.hash(0), digest, "a view is of its moment");
        assert!(begun.elapsed() < Duration::from_secs(60), "{} of {full}", store.sizes().database_bytes);
    }
    apply(&mut store, put("after", vec![1]));
    let (kept, hash) = (store.revision(), store.hash(0));
    drop(view);
    store.close().unwrap();
    let store = Store::open(&dir, Options::default()).unwrap();
    assert_eq!((store.revision(), store.hash(0)), (kept, hash));
    let mut names: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["history.redb", "index"]);
    drop(store);
    std::fs::remove_dir_all(&dir).unwrap();
}
