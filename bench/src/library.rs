//! The library beside openraft and tikv's `raft`: three replicas in one process, and clients that each wait for one write at a
//! time.
//!
//! Owns what all sides share: the runtimes, the clients, when a write counts as done (applied where it was proposed), and the
//! tables. How a group is made is in the module of its side. The set-up is that of openraft's own bench
//! (`benchmarks/minimal` in its repository): a runtime of two workers for the replicas, one of one worker for the clients, a
//! request without content, everything in memory, all writes to the leader.

mod load;
mod openraft;
mod tikv;
mod vlot;

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::Outcome;
use crate::arguments::{ArgumentError, value};
use crate::measure::{median, print_table, processor, with_commas};
use crate::scratch::Scratch;
use load::Load;

const REPLICAS: u64 = 3;
/// Clients at once; each number is a row of the table.
const CLIENTS: [usize; 5] = [1, 64, 256, 1024, 4096];
const SERVER_WORKERS: usize = 2;
const CLIENT_WORKERS: usize = 1;
/// What is advised where all is in memory, and nothing is waited for that takes long.
const BUSY_POLL: Duration = Duration::from_micros(100);

/// What to measure.
pub(crate) struct Plan {
    /// One side alone, to be looked at with a profiler; none means all of them.
    peer: Option<Peer>,
    /// None means all of them, of this library alone.
    layers: Option<Layers>,
    clients: Vec<usize>,
    turn: Duration,
    rounds: usize,
    /// How long a node of this library looks for more to do before it sleeps, if that was said.
    busy_poll: Option<Duration>,
    /// Where a real log is kept.
    dir: PathBuf,
}

/// A side of the comparison.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Peer {
    Vlot,
    Openraft,
    Tikv,
}

/// What is real, and not in memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Layers {
    log: bool,
    tcp: bool,
}

impl Layers {
    const MEMORY: Self = Self { log: false, tcp: false };
    const ALL: [Self; 4] =
        [Self::MEMORY, Self { log: true, tcp: false }, Self { log: false, tcp: true }, Self { log: true, tcp: true }];

    fn name(self) -> &'static str {
        match (self.log, self.tcp) {
            (false, false) => "memory",
            (true, false) => "log",
            (false, true) => "tcp",
            (true, true) => "log+tcp",
        }
    }
}

impl Peer {
    const ALL: [Self; 3] = [Self::Vlot, Self::Openraft, Self::Tikv];

    fn name(self) -> &'static str {
        match self {
            Self::Vlot => "vlot",
            Self::Openraft => "openraft",
            Self::Tikv => "raft-rs",
        }
    }
}

/// A word that names none of what can be measured.
struct Unknown;

impl FromStr for Peer {
    type Err = Unknown;

    fn from_str(word: &str) -> Result<Self, Unknown> {
        Self::ALL.into_iter().find(|peer| peer.name() == word).ok_or(Unknown)
    }
}

impl FromStr for Layers {
    type Err = Unknown;

    fn from_str(word: &str) -> Result<Self, Unknown> {
        Self::ALL.into_iter().find(|layers| layers.name() == word).ok_or(Unknown)
    }
}

impl Plan {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, ArgumentError> {
        let mut plan = Self {
            peer: None,
            layers: Some(Layers::MEMORY),
            clients: CLIENTS.to_vec(),
            turn: Duration::from_secs(2),
            rounds: 3,
            busy_poll: None,
            dir: std::env::temp_dir(),
        };
        while let Some(flag) = arguments.next() {
            match flag.as_str() {
                "--peer" => plan.peer = Some(value(&flag, &mut arguments)?),
                "--layers" => match value::<String>(&flag, &mut arguments)?.as_str() {
                    "all" => plan.layers = None,
                    word => plan.layers = Some(word.parse().map_err(|_| bad_value(&flag, word))?),
                },
                "--clients" => plan.clients = vec![value::<usize>(&flag, &mut arguments)?.max(1)],
                "--seconds" => plan.turn = Duration::from_secs_f64(value::<f64>(&flag, &mut arguments)?.max(0.1)),
                "--rounds" => plan.rounds = value::<usize>(&flag, &mut arguments)?.max(1),
                "--busy-poll" => plan.busy_poll = Some(Duration::from_micros(value(&flag, &mut arguments)?)),
                "--dir" => plan.dir = value(&flag, &mut arguments)?,
                _ => return Err(ArgumentError::UnknownFlag { flag, measurement: "library" }),
            }
        }
        match (plan.peer, plan.layers) {
            // The others bring neither a log nor a transport.
            (Some(Peer::Openraft | Peer::Tikv), layers) if layers != Some(Layers::MEMORY) => {
                Err(bad_value("--layers", layers.map_or("all", Layers::name)))
            }
            _ => Ok(plan),
        }
    }

    fn busy_poll(&self) -> Duration {
        let is_compared = self.layers == Some(Layers::MEMORY);
        self.busy_poll.unwrap_or(if is_compared { BUSY_POLL } else { Duration::ZERO })
    }

    /// What takes turns in a row of the table.
    fn sides(&self) -> Vec<(Peer, Layers)> {
        match (self.peer, self.layers) {
            (_, None) => Layers::ALL.map(|layers| (Peer::Vlot, layers)).to_vec(),
            (Some(peer), Some(layers)) => vec![(peer, layers)],
            (None, Some(Layers::MEMORY)) => Peer::ALL.map(|peer| (peer, Layers::MEMORY)).to_vec(),
            (None, Some(layers)) => vec![(Peer::Vlot, layers)],
        }
    }
}

fn bad_value(flag: &str, word: &str) -> ArgumentError {
    ArgumentError::BadValue { flag: flag.to_owned(), value: word.to_owned() }
}

/// Measures each row and prints it.
pub(crate) fn run(plan: &Plan) -> Outcome<()> {
    let (rounds, turn) = (plan.rounds, plan.turn);
    let sides = plan.sides();
    println!("{}; medians of {rounds} interleaved rounds of {turn:?}", processor());
    if sides.iter().any(|(_, layers)| layers.log) {
        println!("real log: {}", Scratch::new(&plan.dir)?.file_system());
    }
    println!();
    let names: Vec<&str> =
        sides.iter().map(|(peer, layers)| if plan.layers.is_none() { layers.name() } else { peer.name() }).collect();
    let mut heads = vec!["clients".to_owned()];
    heads.extend(names.iter().map(|name| format!("{name} ops/s")));
    // How many times as many as each of the others the first one does.
    heads.extend(names[1..].iter().map(|name| format!("{} to {name}", names[0])));
    heads.extend(names.iter().map(|name| format!("{name} p50 / p99 us")));
    heads.extend(names.iter().map(|name| format!("{name} CPU us/op")));
    let mut rows = Vec::new();
    for &clients in &plan.clients {
        let mut taken: Vec<Vec<Load>> = vec![Vec::new(); sides.len()];
        for _ in 0..rounds {
            for ((peer, layers), taken) in sides.iter().zip(&mut taken) {
                taken.push(measure(*peer, *layers, clients, plan)?);
            }
        }
        rows.push(row(clients, &taken));
        eprintln!("{}", rows[rows.len() - 1].join(" | "));
    }
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    print_table(&heads, &rows);
    Ok(())
}

fn row(clients: usize, sides: &[Vec<Load>]) -> Vec<String> {
    let of = |side: &[Load], figure: fn(&Load) -> f64| median(side.iter().map(figure));
    let mut cells = vec![with_commas(clients as f64)];
    cells.extend(sides.iter().map(|side| with_commas(of(side, Load::per_second))));
    // Of each round, so that what disturbs a whole round disturbs neither side's favour.
    cells.extend(sides[1..].iter().map(|other| {
        let ratios = sides[0].iter().zip(other).map(|(own, other)| own.per_second() / other.per_second());
        format!("{:.2}", median(ratios))
    }));
    cells.extend(sides.iter().map(|side| {
        format!("{:.0} / {:.0}", of(side, |load| load.microseconds(0.50)), of(side, |load| load.microseconds(0.99)))
    }));
    cells.extend(sides.iter().map(|side| format!("{:.2}", of(side, Load::cpu_microseconds))));
    cells
}

/// Makes a group, lets clients write to it, and ends it.
fn measure(peer: Peer, layers: Layers, clients: usize, plan: &Plan) -> Outcome<Load> {
    let (servers, callers) = (runtime(SERVER_WORKERS)?, runtime(CLIENT_WORKERS)?);
    match peer {
        Peer::Vlot => {
            let cluster = servers.block_on(vlot::Cluster::start(layers, plan.busy_poll(), &plan.dir))?;
            let load = callers.block_on(load::run(cluster.leader(callers.handle()), clients, plan.turn))?;
            servers.block_on(cluster.stop());
            Ok(load)
        }
        Peer::Openraft => {
            let cluster = servers.block_on(openraft::Cluster::start())?;
            let load = callers.block_on(load::run(cluster.leader(), clients, plan.turn))?;
            servers.block_on(cluster.stop())?;
            Ok(load)
        }
        Peer::Tikv => {
            let cluster = tikv::Cluster::start()?;
            callers.block_on(load::run(cluster.leader(), clients, plan.turn))
        }
    }
}

fn runtime(workers: usize) -> Outcome<Runtime> {
    Ok(Builder::new_multi_thread().worker_threads(workers).enable_all().build()?)
}
