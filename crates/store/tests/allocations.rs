//! How many blocks of memory a put takes, from its bytes in the log to its answer.
//!
//! The one test of its file: what is counted is counted in the whole process.

use std::alloc::System;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use vlot_proto::etcdserverpb::PutRequest;
use vlot_store::command::{Command, Tag};
use vlot_store::engine::memory::MemoryEngine;
use vlot_store::revision::Position;
use vlot_store::store::{Options, Store};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const KEYS: u64 = 10_000;
const PUTS: u64 = 20_000;

fn put(number: u64) -> Bytes {
    let key = format!("key/{:08}", number * 7_919 % KEYS);
    let put = PutRequest { key: key.into(), value: vec![7; 256].into(), ..Default::default() };
    Tag::Put.with(&put.encode_to_vec())
}

fn apply(store: &mut Store, puts: &[Bytes], batch: usize) {
    for puts in puts.chunks(batch) {
        for put in puts {
            let at = Position { term: 1, index: store.applied().index + 1 };
            store.apply(at, Command::decode(put.clone()).unwrap()).unwrap();
        }
        store.end_batch();
    }
}

/// In hundredths of a block for each put.
fn blocks_of_a_put(batch: usize) -> usize {
    let options = Options { value_cache_bytes: 1 << 20, ..Options::default() };
    let mut store = Store::open_still(Arc::new(MemoryEngine::default()), options).unwrap();
    let puts: Vec<_> = (0..PUTS).map(put).collect();
    apply(&mut store, &puts, batch);
    store.flush().unwrap();
    let region = Region::new(ALLOCATOR);
    apply(&mut store, &puts, batch);
    let change = region.change();
    (change.allocations + change.reallocations) * 100 / PUTS as usize
}

#[test]
fn a_put_takes_few_blocks_of_memory() {
    let found = [64, 1_000].map(blocks_of_a_put);
    println!("{found:?} hundredths of a block for each put, in batches of 64 and of 1,000");
    assert!(found[0] <= 70 && found[1] <= 55, "{found:?} hundredths of a block for each put");
}
