//! A process of three stands still while much is written: the memory of the others stays in its bounds, and when it goes on it
//! catches up.
//!
//! The suite writes 256 MiB meanwhile, more than all that a leader may hold for a peer; `VLOT_STOPPED_MIB=2048` in a release build
//! is an hour of a busy cluster's entries.

mod programs;

use std::process::Command;
use std::time::{Duration, Instant};

use programs::{Program, Scratch, built, free_addresses};
use vlot::Options;

/// What a value is long, in bytes.
const VALUE_BYTES: usize = 1 << 20;
/// What the program itself takes, and its allocator keeps.
const PROGRAM_MIB: u64 = 64;

fn signal(process: &Program, name: &str) {
    let done = Command::new("kill").args([name, &process.id().to_string()]).status().unwrap();
    assert!(done.success(), "{name}");
}

/// The most that the process has had in memory, in MiB.
fn peak_mib(process: &Program) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[test]
fn what_is_written_for_a_process_that_stands_still_is_not_kept_in_memory() {
    let mib = std::env::var("VLOT_STOPPED_MIB").map_or(256, |mib| mib.parse().expect("a number of MiB"));
    let (path, addresses, dir) = (built("kv"), free_addresses(3), Scratch::new("stopped"));
    let each: Vec<&str> = addresses.split(',').collect();
    let start = |at: usize| {
        let number = (at + 1).to_string();
        Program::start(&path, &[&number, each[at], &dir.join(&number), &addresses])
    };
    let mut nodes = [start(0), start(1), start(2)];
    assert_eq!(nodes[0].ask("put last 0"), "none");
    assert_eq!(nodes[2].ask("get last"), "0", "all are there");
    // If it leads, another has to be elected first.
    signal(&nodes[2], "-STOP");
    let (value, begun) = ("v".repeat(VALUE_BYTES), Instant::now());
    for number in 1..=mib {
        // A few keys, so that the state is small.
        let answer = nodes[number % 2].ask(&format!("put key{} {value}", number % 4));
        assert!(answer == "none" || answer == value, "{}", &answer[..answer.len().min(200)]);
    }
    assert_eq!(nodes[0].ask("put last 1"), "0");
    let took = begun.elapsed();
    let peaks = [peak_mib(&nodes[0]), peak_mib(&nodes[1])];
    let budget_mib = Options::new("data").memory_bytes_max(2, 1) as u64 / (1 << 20) + PROGRAM_MIB;
    println!("{mib} MiB written in {took:.1?} without one of three; peaks {peaks:?} MiB of {budget_mib}");
    assert!(peaks.iter().all(|peak| *peak <= budget_mib), "{peaks:?} of {budget_mib} MiB");

    signal(&nodes[2], "-CONT");
    let begun = Instant::now();
    // It may have to wait for a snapshot for longer than a read waits.
    loop {
        match nodes[2].ask("get last").as_str() {
            "1" => break,
            other => assert!(other.starts_with("not done") && begun.elapsed() < Duration::from_secs(60), "{other}"),
        }
    }
    println!("caught up {:.1?} after it went on", begun.elapsed());
    nodes[0].kill();
    assert_eq!(nodes[2].ask("put last 2"), "1", "it counts again");
}
