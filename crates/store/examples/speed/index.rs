//! The index of keys beside the structure that it took the place of: a map with a list of versions for each key.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::mvcc::key_index::{KeyIndex, Version};
use crate::mvcc::key_range::KeyRange;
use crate::mvcc::revision::Revision;
use crate::{cpu_time, resident_bytes};

const KEYS: u64 = 1_000_000;
const PUSHES: u64 = 250_000;

/// A version as the map had it.
struct Listed {
    revision: Revision,
    create: i64,
    count: i64,
    value: Option<Bytes>,
}

/// Each in a process's memory that the other has not touched yet is measured best: the map goes last and is not freed.
pub fn measure() {
    println!("index, {KEYS} keys of 8 bytes in no order, one version each:");
    println!("                    bytes/key    load  look-up   range    push  push after a view");
    let (index, line) = index_line();
    println!("  index             {line}");
    let (map, line) = map_line();
    println!("  map of lists      {line}");
    std::mem::forget((index, map));
}

fn key(number: u64) -> [u8; 8] {
    mixed(number).to_be_bytes()
}

fn mixed(seed: u64) -> u64 {
    let once = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let twice = (once ^ (once >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    twice ^ (twice >> 31)
}

fn any_key(round: u64) -> [u8; 8] {
    key(mixed(round) % KEYS)
}

fn revision(number: u64) -> Revision {
    Revision::first_of(number as i64 + 2)
}

/// Nanoseconds for each of so many rounds.
fn time(rounds: u64, act: impl FnOnce()) -> f64 {
    let start = cpu_time();
    act();
    (cpu_time() - start).as_secs_f64() * 1e9 / rounds as f64
}

fn index_line() -> (KeyIndex, String) {
    let before = resident_bytes();
    let mut index = KeyIndex::default();
    let load = time(KEYS, || {
        for number in 0..KEYS {
            index.push(&key(number), |_| Version::put(revision(number), number as i64 + 2, 1, 0, 256));
        }
    });
    let bytes = (resident_bytes() - before) as f64 / KEYS as f64 - 8.0;
    let look_up = time(KEYS, || {
        (0..KEYS).for_each(|round| assert!(index.newest(&any_key(round)).is_some()));
    });
    let all = KeyRange::From { start: Bytes::new() };
    let range = time(KEYS, || assert_eq!(index.range_at(&all, i64::MAX).count() as u64, KEYS));
    let again = |last: Option<&Version>, number| {
        let last = last.expect("the key is there");
        Version::put(revision(number), last.create, last.count + 1, 0, 256)
    };
    let push = time(PUSHES, || {
        for number in KEYS..KEYS + PUSHES {
            index.push(&any_key(number), |last| again(last, number));
        }
    });
    let push_after_view = time(PUSHES, || {
        for number in KEYS + PUSHES..KEYS + 2 * PUSHES {
            let view = index.clone();
            index.push(&any_key(number), |last| again(last, number));
            drop(view);
        }
    });
    (index, format!("{bytes:9.1} {load:7.0} {look_up:8.0} {range:7.1} {push:7.0} {push_after_view:8.0}"))
}

fn map_line() -> (BTreeMap<Bytes, Vec<Listed>>, String) {
    let before = resident_bytes();
    let mut map: BTreeMap<Bytes, Vec<Listed>> = BTreeMap::new();
    let push = |map: &mut BTreeMap<Bytes, Vec<Listed>>, key: &[u8], number| {
        let revision = revision(number);
        if let Some(versions) = map.get_mut(key) {
            let last = versions.last().expect("a key has a version");
            let (create, count) = (last.create, last.count + 1);
            if versions.len() == versions.capacity() {
                versions.reserve_exact(1 + versions.len() / 2);
            }
            versions.push(Listed { revision, create, count, value: None });
        } else {
            let first = Listed { revision, create: revision.main, count: 1, value: None };
            map.insert(Bytes::copy_from_slice(key), vec![first]);
        }
    };
    let load = time(KEYS, || (0..KEYS).for_each(|number| push(&mut map, &key(number), number)));
    let bytes = (resident_bytes() - before) as f64 / KEYS as f64 - 8.0;
    let look_up = time(KEYS, || {
        for round in 0..KEYS {
            let newest = map.get(&any_key(round)[..]).and_then(|versions| versions.last());
            assert!(newest.is_some_and(|version| version.value.is_none()));
        }
    });
    let range = time(KEYS, || {
        let alive = map.values().filter(|versions| versions.last().is_some_and(|last| last.revision.main > 0));
        assert_eq!(alive.count() as u64, KEYS);
    });
    let pushed = time(PUSHES, || {
        (KEYS..KEYS + PUSHES).for_each(|number| push(&mut map, &any_key(number), number));
    });
    (map, format!("{bytes:9.1} {load:7.0} {look_up:8.0} {range:7.1} {pushed:7.0}        -"))
}
