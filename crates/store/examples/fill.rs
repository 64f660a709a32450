//! What many keys take up, and how long a start takes with them: memory, disk, bytes written, time. And what it costs to read a
//! value that is on disk.
//!
//! `cargo run --release -p vlot-store --example fill -- DIR KEYS` fills a store in DIR with so many keys of 8 bytes with values of
//! 256, and opens it in processes of their own: after it was closed, and after it was killed.

use std::path::Path;
use std::process::{Command as Process, exit};
use std::time::{Duration, Instant};

use prost::Message;
use vlot_proto::etcdserverpb::{PutRequest, RangeRequest};
use vlot_store::command::{Command, Tag};
use vlot_store::revision::Position;
use vlot_store::store::{Options, Store};

const BATCH: u64 = 64;
const VALUE_BYTES: usize = 256;
const GETS: u64 = 200_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [what, dir, keys] = match &arguments[..] {
        [dir, keys] => ["all", dir, keys],
        [what, dir, keys] => [&what[..], dir, keys],
        _ => panic!("usage: fill DIR KEYS"),
    };
    let count: u64 = keys.parse().expect("KEYS is a number");
    let dir_path = Path::new(dir);
    match what {
        "all" => {
            for what in ["close", "open", "kill", "open"] {
                let itself = std::env::current_exe().expect("the program has a file");
                let done = Process::new(itself).args([what, dir, keys]).status();
                done.expect("the program can be started");
            }
        }
        "open" => open(dir_path, count),
        how => fill(dir_path, count, how == "kill"),
    }
}

fn open(dir: &Path, keys: u64) {
    let begun = Instant::now();
    let store = Store::open(dir, Options::default()).expect("the store can be opened");
    let took = begun.elapsed();
    let request = RangeRequest { key: key(keys / 2), ..Default::default() };
    assert_eq!(store.range(&request).map(|found| found.count), Ok(1));
    assert_eq!(store.sizes().keys as u64, keys);
    println!("open {:.0} ms, {} MiB resident", took.as_secs_f64() * 1e3, resident());
    let begun = cpu_time();
    for number in 0..GETS {
        // In no order, of the keys or of their versions.
        let key = key(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % keys);
        let found = store.range(&RangeRequest { key, ..Default::default() });
        assert_eq!(found.expect("values can be read").kvs[0].value.len(), VALUE_BYTES);
    }
    let took = cpu_time() - begun;
    println!("get {:.2} us of processor time, {} MiB resident", took.as_secs_f64() * 1e6 / GETS as f64, resident());
    // Not closed.
    exit(0);
}

fn fill(dir: &Path, keys: u64, is_killed: bool) {
    std::fs::remove_dir_all(dir).ok();
    let mut store = Store::open(dir, Options::default()).expect("the directory can be used");
    let begun = Instant::now();
    let mut noise = 1_u64;
    for number in 0..keys {
        let value: Vec<u8> = std::iter::repeat_with(|| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (noise >> 56) as u8
        })
        .take(VALUE_BYTES)
        .collect();
        let put = PutRequest { key: key(number), value: value.into(), ..Default::default() }.encode_to_vec();
        let command = Command::decode(Tag::Put.with(&put)).expect("a put is sound");
        let at = Position { term: 1, index: number + 1 };
        store.apply(at, command).expect("a put is sound");
        if number % BATCH == 0 {
            store.end_batch();
        }
    }
    store.flush().expect("the engine works");
    println!("{keys} keys in {:.1} s, {} MiB resident", begun.elapsed().as_secs_f64(), resident());
    let sizes = store.sizes();
    println!(
        "of these {} MiB of values, {} keys in the index, {} MiB on disk",
        sizes.resident_value_bytes >> 20,
        sizes.keys,
        sizes.database_bytes >> 20
    );
    if is_killed {
        exit(0);
    }
    let begun = Instant::now();
    store.close().expect("the engine works");
    println!("close {:.0} ms, {} bytes written for each key", begun.elapsed().as_secs_f64() * 1e3, written() / keys);
}

fn key(number: u64) -> bytes::Bytes {
    // In no order.
    bytes::Bytes::copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes())
}

/// What this thread has used of a processor: unlike the wall's clock it does not tell of other processes.
fn cpu_time() -> Duration {
    Duration::from_nanos(figure("/proc/thread-self/schedstat", ""))
}

/// From a file of this process's figures.
fn figure(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn resident() -> u64 {
    figure("/proc/self/status", "VmRSS:") >> 10
}

fn written() -> u64 {
    figure("/proc/self/io", "write_bytes:")
}
