//! What it costs to keep a log small: `cargo run --release -p vlot-log --example space -- DIRECTORY [MIB] [IDLE_GROUPS]`.
//!
//! One busy group writes batches of 500 entries of 300 bytes and takes a snapshot every 64 MiB; the others have a vote,
//! a beginning and ten entries each, and do nothing. After each MiB the log is tidied once. Prints how long a call took,
//! how much was written again, how large the log was at most, and how long it takes to open it.

use bytes::Bytes;
use std::time::{Duration, Instant};
use vlot_log::disk::real::RealDisk;
use vlot_log::log::{Identity, Log, Options};
use vlot_log::record::{Entry, Write};
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId, Term};

const MIB: u64 = 1 << 20;
const BATCH: u64 = 500;
const ENTRY_BYTES: u64 = 300;
const SNAPSHOT_BYTES: u64 = 64 * MIB;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("a directory is needed")?;
    let mib: u64 = arguments.next().map_or(Ok(4096), |text| text.parse())?;
    let idle: u64 = arguments.next().map_or(Ok(10_000), |text| text.parse())?;

    let identity = Identity { cluster: 1, node: NodeId(1) };
    let (mut log, _) = Log::open(RealDisk::open(&dir)?, identity, Options::default())?;
    for group in (2..idle + 2).map(GroupId) {
        log.write(&idle_group(group))?;
    }
    log.sync()?;

    let payload = Bytes::from(vec![b'x'; ENTRY_BYTES as usize]);
    let (mut tidied, mut rewritten, mut largest) = (Vec::new(), 0, 0);
    let (mut untidied, mut since_snapshot) = (0, 0);
    for after in (0..mib * MIB / ENTRY_BYTES).step_by(BATCH as usize) {
        let entry = |index| Entry { id: LogId::new(1, index), payload: payload.clone() };
        let entries = (after + 1..=after + BATCH).map(entry).collect();
        log.write(&[Write::Append { group: GroupId(1), after: LogIndex(after), entries }])?;
        untidied += BATCH * ENTRY_BYTES;
        since_snapshot += BATCH * ENTRY_BYTES;
        if since_snapshot >= SNAPSHOT_BYTES {
            log.write(&[Write::LogStart { group: GroupId(1), after: LogId::new(1, after), note: Bytes::new() }])?;
            since_snapshot = 0;
        }
        log.sync()?;
        log.prepare()?;
        if untidied >= MIB {
            let begun = Instant::now();
            let done = log.tidy()?;
            tidied.push(begun.elapsed());
            rewritten += done.bytes_rewritten;
            untidied = 0;
        }
        largest = largest.max(log.sizes().disk_bytes);
    }
    let sizes = log.sizes();
    drop(log);

    tidied.sort_unstable();
    let at =
        |part: f64| tidied.get((tidied.len().saturating_sub(1) as f64 * part) as usize).copied().unwrap_or_default();
    let took: Duration = tidied.iter().sum();
    println!("{} calls: p50 {:?}, p99 {:?}, longest {:?}, {took:?} in all", tidied.len(), at(0.5), at(0.99), at(1.0));
    println!(
        "written again: {} MiB of {mib}; at most {} MiB on disk; in the end {sizes:?}",
        rewritten / MIB,
        largest / MIB
    );

    let begun = Instant::now();
    let (_, recovered) = Log::open(RealDisk::open(&dir)?, identity, Options::default())?;
    println!("opened in {:?}: {} groups", begun.elapsed(), recovered.groups.len());
    Ok(())
}

fn idle_group(group: GroupId) -> [Write; 3] {
    let entry = |index| Entry { id: LogId::new(1, index), payload: Bytes::from_static(&[b'y'; 100]) };
    [
        Write::Vote { group, term: Term(1), vote: Some(NodeId(1)) },
        Write::LogStart { group, after: LogId::new(1, 100), note: Bytes::from_static(b"a snapshot") },
        Write::Append { group, after: LogIndex(100), entries: (101..=110).map(entry).collect() },
    ]
}
