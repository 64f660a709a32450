//! Calls of real processes, killed under load: each takes effect once, however often it was made, and what became of each is
//! known in the end.
//!
//! Three processes serve the journal of the example `axum_service`. Clients add lines; what they are not answered they send again,
//! to another node. Meanwhile one process after the other, drawn at random, is killed with SIGKILL and started again.
//!
//! A run takes eight seconds of killing, or as many as `VLOT_EXACTLY_ONCE_SECONDS` says.

mod programs;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use programs::{Program, Scratch, built, free_addresses, http};

const CLIENTS: usize = 6;

/// What a client has come to know of its calls.
#[derive(Debug, Default)]
struct Outcomes {
    /// Lines that are in the journal, with their places.
    applied: BTreeMap<String, usize>,
    /// Lines that will never be.
    not_applied: Vec<String>,
    /// Answers that left it open, or no answers.
    unknown: usize,
}

/// Makes calls until it is told to stop, each until it is answered for certain. Every fourth that is unknown is not made again
/// but resolved.
fn run_client(number: usize, at: &[String], stop: &AtomicBool) -> Outcomes {
    let mut outcomes = Outcomes::default();
    let mut node = number;
    let session = loop {
        match http(&at[node % 3], "POST", "/sessions", "") {
            Ok(answer) if answer.status == 200 => break answer.body,
            _ => std::thread::sleep(Duration::from_millis(50)),
        }
        node += 1;
    };
    for serial in 1.. {
        if stop.load(Relaxed) {
            break;
        }
        let (path, line) = (format!("/calls/{session}-{serial}"), format!("client {number} call {serial}"));
        let (begun, mut is_unknown) = (Instant::now(), false);
        loop {
            assert!(begun.elapsed() < Duration::from_secs(60), "{path} is answered by nobody");
            let method = if is_unknown && outcomes.unknown.is_multiple_of(4) { "GET" } else { "PUT" };
            match http(&at[node % 3], method, &path, &line) {
                Ok(answer) if answer.status == 200 => {
                    outcomes.applied.insert(line, answer.body.parse().unwrap());
                    break;
                }
                Ok(answer) if answer.status == 410 => {
                    assert!(is_unknown, "nobody has given it up: {answer:?}");
                    outcomes.not_applied.push(line);
                    break;
                }
                Ok(answer) if answer.status == 503 && !is_unknown => {}
                Ok(answer) => {
                    assert!([503, 504].contains(&answer.status), "{answer:?}");
                    (is_unknown, outcomes.unknown) = (true, outcomes.unknown + 1);
                }
                // The process was killed, or is not there.
                Err(_) => (is_unknown, outcomes.unknown) = (true, outcomes.unknown + 1),
            }
            node += 1;
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    outcomes
}

/// The processes, and what to start them again by.
struct Cluster {
    path: PathBuf,
    peers: String,
    at: Vec<String>,
    dir: Scratch,
}

impl Cluster {
    fn start(&self, node: usize) -> Program {
        let number = (node + 1).to_string();
        Program::start(&self.path, &[&number, &self.at[node], &self.peers, &self.dir.join(&number)])
    }
}

#[test]
fn each_call_takes_effect_once_while_processes_are_killed() {
    let seconds = std::env::var("VLOT_EXACTLY_ONCE_SECONDS").map_or(8, |seconds| seconds.parse().expect("a number"));
    let addresses = free_addresses(6);
    let (peers, at) = addresses.split_at(addresses.match_indices(',').nth(2).unwrap().0);
    let at: Vec<String> = at[1..].split(',').map(str::to_owned).collect();
    let cluster =
        Cluster { path: built("axum_service"), peers: peers.to_owned(), at, dir: Scratch::new("exactly-once") };
    let mut nodes: Vec<Program> = (0..3).map(|node| cluster.start(node)).collect();
    let stop = AtomicBool::new(false);
    let (outcomes, kills) = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                scope.spawn({
                    let (at, stop) = (&cluster.at, &stop);
                    move || run_client(number, at, stop)
                })
            })
            .collect();
        let (begun, mut seed, mut kills) = (Instant::now(), u64::from(std::process::id()) | 1, 0);
        while begun.elapsed() < Duration::from_secs(seconds) {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let node = (seed >> 33) as usize % 3;
            std::thread::sleep(Duration::from_millis(700 + (seed >> 40) % 1300));
            nodes[node].kill();
            std::thread::sleep(Duration::from_millis((seed >> 50) % 300));
            nodes[node] = cluster.start(node);
            kills += 1;
        }
        stop.store(true, Relaxed);
        (clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>(), kills)
    });
    let journal = loop {
        match http(&cluster.at[0], "GET", "/journal", "") {
            Ok(answer) if answer.status == 200 => break answer.body,
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    };
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for (place, line) in (1..).zip(journal.lines()) {
        assert_eq!(places.insert(line, place), None, "{line} took effect twice");
    }
    for line in outcomes.iter().flat_map(|outcomes| &outcomes.not_applied) {
        assert!(!places.contains_key(line.as_str()), "{line} was given up, and took effect");
    }
    let mut applied = 0;
    for (line, place) in outcomes.iter().flat_map(|outcomes| &outcomes.applied) {
        assert_eq!(places.remove(line.as_str()), Some(*place), "{line}");
        applied += 1;
    }
    // Every call has an outcome that is known.
    assert_eq!(places, BTreeMap::new());
    let unknown: usize = outcomes.iter().map(|outcomes| outcomes.unknown).sum();
    let given_up: usize = outcomes.iter().map(|outcomes| outcomes.not_applied.len()).sum();
    println!(
        "{kills} kills, {applied} lines, each once; {unknown} answers left it open, {given_up} calls were given up"
    );
    assert!(kills > 2 && applied > 20, "{kills} kills, {applied} lines");
}
