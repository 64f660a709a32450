//! What an apply, a read and a watched put cost in processor time of the calling thread, without and with the
//! background thread.
//!
//! `cargo run --release -p vlot-store --example speed`

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use vlot_proto::etcdserverpb::{CompactionRequest, PutRequest, RangeRequest, WatchCreateRequest};
use vlot_store::command::{Command, Tag};
use vlot_store::engine::memory::MemoryEngine;
use vlot_store::revision::Position;
use vlot_store::store::{Options, Store};

const KEYS: u64 = 100_000;
const ROUNDS: u64 = 400_000;
const BATCH: usize = 64;

fn main() {
    let options = Options { value_cache_bytes: 1 << 30, ..Options::default() };
    let mut still = Store::open_still(Arc::new(MemoryEngine::default()), options).expect("memory can be opened");
    println!("without the background thread, 256-byte values, {KEYS} keys, batches of {BATCH}:");
    measure(&mut still);
    drop(still);

    let dir = std::env::temp_dir().join(format!("vlot-store-speed-{}", std::process::id()));
    let mut store = Store::open(&dir, Options::default()).expect("the directory can be used");
    println!("with redb behind a thread:");
    measure(&mut store);
    let start = Instant::now();
    store.close().expect("the engine works");
    println!("  close                {:9.0} ms", start.elapsed().as_secs_f64() * 1e3);
    let start = Instant::now();
    let mut store = Store::open(&dir, Options::default()).expect("the directory can be used");
    let sizes = store.sizes();
    println!(
        "  open                 {:9.0} ms, {} versions, {} MiB on disk",
        start.elapsed().as_secs_f64() * 1e3,
        sizes.versions,
        sizes.database_bytes >> 20
    );
    compact(&mut store);
    drop(store);
    std::fs::remove_dir_all(&dir).ok();
}

fn measure(store: &mut Store) {
    let mut next = 0u64;
    let mut key = || {
        next = next.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Bytes::from(format!("key/{:016x}", (next >> 33) % KEYS))
    };
    let put = |key: Bytes| {
        Tag::Put.with(&PutRequest { key, value: vec![7; 256].into(), ..Default::default() }.encode_to_vec())
    };
    let load = (0..KEYS).map(|place| put(format!("key/{place:016x}").into())).collect();
    report("load", apply(store, load));
    let overwrites = (0..ROUNDS).map(|_| put(key())).collect();
    report("put", apply(store, overwrites));

    let gets: Vec<RangeRequest> = (0..ROUNDS).map(|_| RangeRequest { key: key(), ..Default::default() }).collect();
    report("get", time(gets, |get| assert_eq!(store.range(&get).map(|found| found.count), Ok(1))));
    let range =
        |key| RangeRequest { key, range_end: "\0".into(), limit: 100, max_mod_revision: 0, ..Default::default() };
    let ranges: Vec<RangeRequest> = (0..2_000).map(|_| range(key())).collect();
    let ranges = ranges.into_iter().map(|mut range| {
        range.range_end = [&range.key[..], b"~"].concat().into();
        range.key = range.key.slice(..range.key.len() - 2);
        range
    });
    let mut found = 0;
    let ranges = ranges.collect::<Vec<_>>();
    let (rounds, took) = time(ranges, |range| found += store.range(&range).map_or(0, |found| found.kvs.len()));
    println!(
        "  range                {:9.3} us, {} keys each",
        took.as_secs_f64() * 1e6 / rounds,
        found / rounds as usize
    );

    let mut streams: Vec<_> = (0..1_000).map(|_| store.watch_stream(Arc::new(|| {}))).collect();
    for (place, stream) in streams.iter_mut().enumerate() {
        let key = format!("key/{place:016x}").into();
        stream.create(&WatchCreateRequest { key, ..Default::default() });
    }
    let watched = (0..ROUNDS / 4).map(|_| put(key())).collect();
    report("put, 1000 watch a key", apply(store, watched));
    drop(streams);
}

fn compact(store: &mut Store) {
    let start = Instant::now();
    let revision = store.revision();
    let at = Position { term: 1, index: store.applied().index + 1 };
    store.apply(at, Command::Compact(CompactionRequest { revision, physical: true })).expect("it can be compacted");
    let mut longest = Duration::ZERO;
    let mut steps = 0;
    loop {
        let step = cpu_time();
        let more = store.compact_step();
        longest = longest.max(cpu_time() - step);
        steps += 1;
        if !more {
            break;
        }
    }
    println!(
        "  compaction, memory   {:9.0} ms in {steps} steps, the longest {:.2} ms",
        start.elapsed().as_secs_f64() * 1e3,
        longest.as_secs_f64() * 1e3
    );
    while store.is_compacting() {
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("  compaction, engine   {:9.0} ms", start.elapsed().as_secs_f64() * 1e3);
}

fn apply(store: &mut Store, commands: Vec<Bytes>) -> (f64, Duration) {
    let mut in_batch = 0;
    time(commands, |command| {
        let at = Position { term: 1, index: store.applied().index + 1 };
        let command = Command::decode(command).expect("it was just encoded");
        store.apply(at, command).expect("a put is sound");
        in_batch += 1;
        if in_batch % BATCH == 0 {
            store.end_batch();
        }
    })
}

fn time<T>(inputs: Vec<T>, mut act: impl FnMut(T)) -> (f64, Duration) {
    let rounds = inputs.len() as f64;
    let start = cpu_time();
    for input in inputs {
        act(input);
    }
    (rounds, cpu_time() - start)
}

/// What this thread has used of a processor: unlike the wall's clock it does not tell of other processes.
fn cpu_time() -> Duration {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux counts each thread's time");
    let nanoseconds = schedstat.split(' ').next().and_then(|field| field.parse().ok());
    Duration::from_nanos(nanoseconds.expect("the first field is a number of nanoseconds"))
}

fn report(what: &str, (rounds, took): (f64, Duration)) {
    println!("  {what:<20} {:9.3} us", took.as_secs_f64() * 1e6 / rounds);
}
