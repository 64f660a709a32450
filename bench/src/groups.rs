//! Many groups on three nodes, each a process of its own.
//!
//! Owns the order of what is measured, and the processes. What a node does is in `node.rs`.

pub(crate) mod node;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::arguments::{ArgumentError, value};
use crate::measure::{median, processor};
use crate::scratch::Scratch;

/// The word by which a process is started as a node.
pub(crate) const NODE: &str = "groups-node";
const NODES: usize = 3;
/// Proposals under way at once, on all nodes together: about one for each of a thousand groups.
const IN_FLIGHT: usize = 1024;
/// As many as keep a thousand groups busy.
const MANY_IN_FLIGHT: usize = 16 * IN_FLIGHT;
/// Longer than it takes until groups that have nothing to do sleep.
const UNTIL_ASLEEP: Duration = Duration::from_secs(8);
const ROUNDS: usize = 3;

/// What to measure.
pub(crate) struct Plan {
    dir: PathBuf,
    count: u64,
    turn: Duration,
}

impl Plan {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, ArgumentError> {
        let mut plan = Self { dir: std::env::temp_dir(), count: 10_000, turn: Duration::from_millis(2000) };
        while let Some(flag) = arguments.next() {
            match flag.as_str() {
                "--dir" => plan.dir = value(&flag, &mut arguments)?,
                "--count" => plan.count = value::<u64>(&flag, &mut arguments)?.max(NODES as u64),
                "--millis" => plan.turn = Duration::from_millis(value(&flag, &mut arguments)?),
                _ => return Err(ArgumentError::UnknownFlag { flag, measurement: "groups" }),
            }
        }
        Ok(plan)
    }
}

/// Measures all of it, and prints it line by line.
pub(crate) fn run(plan: &Plan) -> Outcome<()> {
    let scratch = Scratch::new(&plan.dir)?;
    println!("{}, {}, three nodes in three processes", processor(), scratch.file_system());
    let count = plan.count;
    let mut alone = Cluster::start(&scratch.place("alone"))?;
    alone.open(1)?;
    let mut thousand = Cluster::start(&scratch.place("thousand"))?;
    thousand.open(1000.min(count))?;
    for (name, in_flight) in
        [("active_1000_groups_vs_1", IN_FLIGHT), ("active_1000_groups_vs_1_with_16_calls_each", MANY_IN_FLIGHT)]
    {
        let one_and_all = interleaved(&mut thousand, plan, in_flight, (1, 1), (1, 1000.min(count)))?;
        ratio(name, one_and_all.1 / one_and_all.0);
    }
    thousand.stop()?;

    let mut many = Cluster::start(&scratch.place("many"))?;
    let before = many.resident_bytes()?;
    let seconds = many.open(count)?;
    ratio(&format!("create_{count}_groups_seconds"), seconds);
    std::thread::sleep(UNTIL_ASLEEP);
    let bytes: Vec<f64> = many.resident_bytes()?.iter().zip(before).map(|(now, before)| now - before).collect();
    ratio("idle_group_bytes", median(bytes) / count as f64);
    let percent = many.cpu_percent(Duration::from_secs(10))?;
    ratio(&format!("idle_{count}_groups_core_percent"), percent.iter().copied().fold(0.0, f64::max));

    let (mut beside, mut without) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        without.push(alone.load((1, 1), IN_FLIGHT, plan.turn)?.per_second);
        beside.push(many.load((1, 1), IN_FLIGHT, plan.turn)?.per_second);
    }
    println!(
        "one busy group: {:.0} proposals/s alone, {:.0} beside idle ones",
        median(without.clone()),
        median(beside.clone())
    );
    ratio(&format!("busy_group_beside_{}_idle_vs_alone", count - 1), median(beside) / median(without));
    alone.stop()?;

    many.ask_all("balance")?;
    std::thread::sleep(UNTIL_ASLEEP);
    let led = many.ask_all("leads")?;
    println!("led by each node: {led:?}");
    // Groups of which the first two nodes lead one each; they are called on their leaders.
    let quiet = many.call_own(NODES - 1, plan.turn)?;
    many.kill(NODES - 1)?;
    let calls = many.call_own(NODES - 1, plan.turn)?;
    let seconds = many.wait_led()?;
    ratio("led_again_seconds", seconds);
    ratio("others_p99_meanwhile_vs_quiet", calls / quiet);
    many.stop()
}

fn ratio(name: &str, value: f64) {
    println!("ratio {name} {value:.3}");
}

/// Proposals a second of two sets of groups, in turn; the medians.
fn interleaved(
    cluster: &mut Cluster,
    plan: &Plan,
    in_flight: usize,
    a: (u64, u64),
    b: (u64, u64),
) -> Outcome<(f64, f64)> {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        first.push(cluster.load(a, in_flight, plan.turn)?.per_second);
        second.push(cluster.load(b, in_flight, plan.turn)?.per_second);
    }
    let (a_does, b_does) = (median(first.clone()), median(second.clone()));
    println!("{in_flight} under way: groups {a:?}: {a_does:.0} proposals/s, groups {b:?}: {b_does:.0}");
    Ok((median(first), median(second)))
}

/// What a load came to.
struct Load {
    per_second: f64,
}

/// Three processes.
struct Cluster {
    nodes: Vec<Process>,
    killed: Option<Instant>,
}

struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    is_up: bool,
}

impl Cluster {
    fn start(dir: &Path) -> Outcome<Self> {
        // The ports are free at this moment, and taken by the nodes soon after.
        let listeners: Vec<TcpListener> =
            (0..NODES).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
        let ports: Vec<String> =
            listeners.iter().map(|it| it.local_addr().map(|it| it.port().to_string())).collect::<Result<_, _>>()?;
        drop(listeners);
        let mut nodes = Vec::new();
        for node in 1..=NODES {
            let mut command = Command::new(std::env::current_exe()?);
            command.arg(NODE).arg(dir.join(node.to_string())).arg(node.to_string()).args(&ports);
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
            let input = child.stdin.take().ok_or("no way to a node")?;
            let output = BufReader::new(child.stdout.take().ok_or("no way from a node")?);
            nodes.push(Process { child, input, output, is_up: true });
        }
        let mut cluster = Self { nodes, killed: None };
        cluster.ask_all("ready")?;
        Ok(cluster)
    }

    /// Asks all nodes that are up, and hears them all.
    fn ask_all(&mut self, question: &str) -> Outcome<Vec<f64>> {
        for process in self.nodes.iter_mut().filter(|process| process.is_up) {
            writeln!(process.input, "{question}")?;
        }
        let up = self.nodes.iter_mut().filter(|process| process.is_up);
        up.map(Process::hear).collect()
    }

    /// Takes up groups, and waits until all nodes know a leader of each. Returns how many seconds that took.
    fn open(&mut self, count: u64) -> Outcome<f64> {
        let begun = Instant::now();
        self.ask_all(&format!("open {count}"))?;
        Ok(begun.elapsed().as_secs_f64())
    }

    fn resident_bytes(&mut self) -> Outcome<Vec<f64>> {
        self.ask_all("resident")
    }

    /// How many percent of a core each node takes.
    fn cpu_percent(&mut self, time: Duration) -> Outcome<Vec<f64>> {
        let before = self.ask_all("cpu")?;
        std::thread::sleep(time);
        let after = self.ask_all("cpu")?;
        Ok(after.iter().zip(before).map(|(after, before)| (after - before) / time.as_secs_f64() * 100.0).collect())
    }

    /// Proposes to groups `from..=upto` through all nodes for a while.
    fn load(&mut self, (from, upto): (u64, u64), in_flight: usize, turn: Duration) -> Outcome<Load> {
        let each = in_flight / NODES;
        let done = self.ask_all(&format!("load {from} {upto} {each} {}", turn.as_millis()))?;
        Ok(Load { per_second: done.iter().sum() })
    }

    /// Each of the first nodes calls a group that it leads, one call after the other. Returns the worst p99 in seconds.
    fn call_own(&mut self, nodes: usize, turn: Duration) -> Outcome<f64> {
        for process in &mut self.nodes[..nodes] {
            writeln!(process.input, "call {}", turn.as_millis())?;
        }
        let mut worst = 0.0f64;
        for process in &mut self.nodes[..nodes] {
            worst = worst.max(process.hear()?);
        }
        Ok(worst)
    }

    /// Kills a node; the others look out for their groups' next leaders.
    fn kill(&mut self, at: usize) -> Outcome<()> {
        self.ask_all(&format!("watch {}", at + 1))?;
        let process = &mut self.nodes[at];
        process.child.kill()?;
        process.child.wait()?;
        process.is_up = false;
        self.killed = Some(Instant::now());
        Ok(())
    }

    /// Waits until every group has another leader. Returns how many seconds after the kill that was.
    fn wait_led(&mut self) -> Outcome<f64> {
        let since = self.killed.ok_or("nothing was killed")?;
        // Each node says how long ago it was so, for what was measured meanwhile.
        let ago = self.ask_all("led-again")?;
        let at_last = ago.into_iter().fold(f64::INFINITY, f64::min);
        Ok(since.elapsed().as_secs_f64() - at_last)
    }

    fn stop(&mut self) -> Outcome<()> {
        for process in self.nodes.iter_mut().filter(|process| process.is_up) {
            writeln!(process.input, "quit")?;
            process.child.wait()?;
            process.is_up = false;
        }
        Ok(())
    }
}

impl Process {
    /// The number that it answers.
    fn hear(&mut self) -> Outcome<f64> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim().parse().map_err(|_| format!("a node said {line:?}"))?)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in self.nodes.iter_mut().filter(|process| process.is_up) {
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }
}
