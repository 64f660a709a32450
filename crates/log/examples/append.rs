//! What an append costs: `cargo run --release -p vlot-log --example append -- DIRECTORY [ENTRIES_PER_WRITE] [WRITES]`.
//!
//! Writes entries of 300 bytes to a log in the directory, one sync a write, and prints the time of a write and its sync,
//! the time of the write alone, the processor's time and how many bytes the system says were written, how long it takes to
//! open the log again, and how much memory it takes then. With no writes it opens the log only.

use bytes::Bytes;
use std::time::{Duration, Instant};
use vlot_log::disk::real::RealDisk;
use vlot_log::log::{Identity, Log, Options};
use vlot_log::record::{Entry, Write};
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId};

const IDENTITY: Identity = Identity { cluster: 1, node: NodeId(1) };

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("a directory is needed")?;
    let per_write: u64 = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let writes: u64 = arguments.next().map_or(Ok(5000), |text| text.parse())?;

    if writes > 0 {
        append(&dir, per_write, writes)?;
    }
    let (before, begun) = (figure("status", "VmRSS:") * 1024, Instant::now());
    let (_log, recovered) = Log::open(RealDisk::open(&dir)?, IDENTITY, Options::default())?;
    let (took, grown) = (begun.elapsed(), (figure("status", "VmRSS:") * 1024).saturating_sub(before));
    let entries = recovered.groups[&GroupId(1)].runs.last().0;
    println!("opened in {took:?}: {entries} entries, {:.1} bytes of memory each", grown as f64 / entries as f64);
    Ok(())
}

fn append(dir: &str, per_write: u64, writes: u64) -> Result<(), Box<dyn std::error::Error>> {
    let (mut log, recovered) = Log::open(RealDisk::open(dir)?, IDENTITY, Options::default())?;
    let payload = Bytes::from(vec![b'x'; 300]);
    let mut whole = Vec::new();
    let mut writing = Duration::ZERO;
    let last = recovered.groups.get(&GroupId(1)).map_or(0, |group| group.runs.last().0);
    let before = (processor_ticks(), figure("io", "write_bytes:"));
    for n in 0..writes {
        let after = last + n * per_write;
        let entry = |index| Entry { id: LogId::new(1, index), payload: payload.clone() };
        let entries = (after + 1..=after + per_write).map(entry).collect();
        let batch = [Write::Append { group: GroupId(1), after: LogIndex(after), entries }];
        let begun = Instant::now();
        log.write(&batch)?;
        writing += begun.elapsed();
        log.sync()?;
        whole.push(begun.elapsed());
        log.prepare()?;
    }
    whole.sort_unstable();
    let at = |part: f64| whole[((whole.len() - 1) as f64 * part) as usize];
    println!("write and sync: p50 {:?}, p90 {:?}, p99 {:?}, p99.9 {:?}", at(0.5), at(0.9), at(0.99), at(0.999));
    println!("write alone: {:?} an entry", writing / (writes * per_write) as u32);
    let (ticks, bytes) = (processor_ticks() - before.0, figure("io", "write_bytes:") - before.1);
    println!("{} us of a processor and {} bytes written a write", ticks * TICK_US / writes, bytes / writes);
    Ok(())
}

/// A figure that the system has of this process, as it is in a file of its own; zero if it is not told.
fn figure(file: &str, name: &str) -> u64 {
    let figures = std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
    let figure = figures.lines().find_map(|line| line.strip_prefix(name));
    figure.and_then(|figure| figure.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// What Linux counts the processor's time in.
const TICK_US: u64 = 10_000;

/// The processor's time of this process, its own and the system's for it.
fn processor_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}
