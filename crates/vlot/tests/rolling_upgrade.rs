//! A new version of a program is rolled out over three processes under load, and taken back: its commands and snapshots have
//! another format, and no call is lost or applied twice on either way.
//!
//! The processes are this test's own program, started again with its part in the environment.

use std::collections::BTreeMap;
use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpListener;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use vlot::net::Listen;
use vlot::typed::state::Version;
use vlot::{
    BadCommand, BadSnapshot, BytesMut, CallError, CallId, Context, Group, GroupId, Node, NodeId, Options, SerdeState,
    Typed,
};

/// In the first version a number has four bytes, in the second it is text, and there are negative ones.
#[derive(Clone, Default, Deserialize, Serialize)]
struct Program<const NEWEST: u16>(Vec<i64>);

impl<const NEWEST: u16> SerdeState for Program<NEWEST> {
    type Command = i64;
    type Reply = u64;

    const VERSIONS: RangeInclusive<Version> = 1..=NEWEST;

    fn apply(&mut self, _: &Context, number: i64) -> u64 {
        self.0.push(number);
        self.0.len() as u64
    }

    fn version_of(number: &i64) -> Version {
        if *number < 0 { 2 } else { 1 }
    }

    fn encode_command(number: &i64, version: Version, buffer: &mut BytesMut) {
        match version {
            1 => buffer.extend_from_slice(&(*number as u32).to_le_bytes()),
            _ => buffer.extend_from_slice(number.to_string().as_bytes()),
        }
    }

    fn decode_command(version: Version, bytes: &[u8]) -> Result<i64, BadCommand> {
        let number = match version {
            1 => bytes.try_into().ok().map(|bytes| u32::from_le_bytes(bytes).into()),
            _ => str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()),
        };
        number.ok_or_else(|| BadCommand("no number".to_owned()))
    }

    fn write(&self, version: Version, out: &mut dyn io::Write) -> io::Result<()> {
        match version {
            1 => self.0.iter().try_for_each(|number| out.write_all(&(number.unsigned_abs() as u32).to_le_bytes())),
            _ => self.0.iter().try_for_each(|number| writeln!(out, "{number}")),
        }
    }

    fn read(version: Version, from: &mut dyn io::Read) -> Result<Self, BadSnapshot> {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).map_err(|error| BadSnapshot(error.to_string()))?;
        let numbers: Option<Vec<i64>> = match version {
            1 => bytes.chunks(4).map(|bytes| bytes.try_into().ok().map(|b| u32::from_le_bytes(b).into())).collect(),
            _ => str::from_utf8(&bytes).ok().and_then(|text| text.lines().map(|line| line.parse().ok()).collect()),
        };
        numbers.map(Self).ok_or_else(|| BadSnapshot("no numbers".to_owned()))
    }
}

/// The environment of a process: its number, its program's newest version, the addresses, its folder.
const PART: &str = "VLOT_TEST_UPGRADE_PART";

/// Not a test by itself: what the processes run.
#[test]
fn node_of_the_upgrade() {
    let Ok(part) = env::var(PART) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let part: Vec<String> = part.split(' ').map(str::to_owned).collect();
    match &part[1][..] {
        "1" => runtime.block_on(serve::<1>(&part)),
        _ => runtime.block_on(serve::<2>(&part)),
    }
}

async fn serve<const NEWEST: u16>(part: &[String]) {
    let [number, _, addresses, dir] = part else { panic!("{part:?}") };
    let me = NodeId(number.parse().unwrap());
    let peers: BTreeMap<_, _> = (1..).map(NodeId).zip(addresses.split(',').map(str::to_owned)).collect();
    let mut options = Options {
        node: me,
        listen: Listen::At(peers[&me].clone()),
        peers: peers.clone(),
        heartbeat: Duration::from_millis(50),
        election_timeout: Duration::from_millis(500),
        ..Options::new(dir)
    };
    options.log.segment_bytes = 1 << 20;
    let node = Node::open(options).await.unwrap();
    let group = node.typed(GroupId(1), peers.into_keys(), Program::<NEWEST>::default()).await.unwrap();
    let group = group.within(Duration::from_secs(3));
    let (lines, mut asked) = tokio::sync::mpsc::unbounded_channel();
    thread::spawn(move || io::stdin().lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
    while let Some(line) = asked.recv().await {
        let group = group.clone();
        tokio::spawn(async move {
            let (tag, line) = line.split_once(' ').unwrap();
            let answer = answer(&group, line).await;
            println!("> {tag} {answer}");
        });
    }
    node.shutdown().await;
}

async fn answer<const NEWEST: u16>(group: &Group<Typed<Program<NEWEST>>>, line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["open"] => group.open_session().await.map_or_else(|why| format!("error {why}"), |id| id.to_string()),
        ["add", id, number] => {
            let id: CallId = id.parse().unwrap();
            match group.call_as(id, id.serial, number.parse().unwrap()).await {
                Ok(at) => at.to_string(),
                Err(CallError::NeedsVersion { .. }) => "version".to_owned(),
                Err(why) => format!("error {why}"),
            }
        }
        ["in-use"] => {
            group.versions().await.map_or_else(|why| format!("error {why}"), |known| known.in_use().to_string())
        }
        ["limit", version] => match group.limit_version(Some(version.parse().unwrap())).await {
            Ok(()) => "ok".to_owned(),
            Err(why) => format!("error {why}"),
        },
        ["save"] => {
            let saved = async {
                group.barrier().await.map_err(|why| why.to_string())?;
                group.save_snapshot().await.map_err(|why| why.to_string())
            };
            saved.await.map_or_else(|why| format!("error {why}"), |()| "ok".to_owned())
        }
        ["list"] => match group.read(|program| program.0.clone()).await {
            Ok(numbers) => numbers.iter().map(i64::to_string).collect::<Vec<_>>().join(","),
            Err(why) => format!("error {why}"),
        },
        _ => panic!("{line}"),
    }
}

/// A process, which answers lines in any order.
struct Process {
    child: Mutex<Child>,
    input: Mutex<ChildStdin>,
    waiting: Arc<Mutex<BTreeMap<u64, mpsc::Sender<String>>>>,
    next: AtomicU64,
}

impl Process {
    fn start(number: usize, newest: u16, addresses: &str, dir: &str) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "node_of_the_upgrade", "--nocapture"]);
        command.env(PART, format!("{number} {newest} {addresses} {dir}"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = Mutex::new(child.stdin.take().unwrap());
        let output = BufReader::new(child.stdout.take().unwrap());
        let waiting: Arc<Mutex<BTreeMap<u64, mpsc::Sender<String>>>> = Arc::default();
        let asked = Arc::clone(&waiting);
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // What the test runner says has no such beginning.
                let Some((tag, answer)) = line.strip_prefix("> ").and_then(|line| line.split_once(' ')) else {
                    continue;
                };
                if let Some(waits) = asked.lock().unwrap().remove(&tag.parse().unwrap()) {
                    let _ = waits.send(answer.to_owned());
                }
            }
            asked.lock().unwrap().clear();
        });
        Self { child: Mutex::new(child), input, waiting, next: AtomicU64::new(1) }
    }

    /// What it answers; nothing if it is gone, or says nothing for long.
    fn ask(&self, line: &str) -> Option<String> {
        let tag = self.next.fetch_add(1, Relaxed);
        let (waits, answer) = mpsc::channel();
        self.waiting.lock().unwrap().insert(tag, waits);
        writeln!(self.input.lock().unwrap(), "{tag} {line}").ok()?;
        answer.recv_timeout(Duration::from_secs(10)).ok()
    }

    fn kill(&self) {
        let mut child = self.child.lock().unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Three processes; each may be replaced while others ask them.
struct Cluster {
    addresses: String,
    dir: PathBuf,
    processes: [Mutex<Option<Arc<Process>>>; 3],
}

impl Cluster {
    fn start(&self, at: usize, newest: u16) {
        let dir = self.dir.join(at.to_string()).display().to_string();
        *self.processes[at].lock().unwrap() = Some(Arc::new(Process::start(at + 1, newest, &self.addresses, &dir)));
    }

    /// As by `kill -9`.
    fn kill(&self, at: usize) {
        // Clients may be asking it.
        let process = self.processes[at].lock().unwrap().take();
        process.iter().for_each(|process| process.kill());
    }

    fn ask(&self, at: usize, line: &str) -> Option<String> {
        let process = self.processes[at].lock().unwrap().clone();
        process?.ask(line)
    }

    /// Asks again until this is the answer.
    fn wait_for(&self, at: usize, line: &str, expected: &str) {
        let begun = Instant::now();
        loop {
            let answer = self.ask(at, line);
            if answer.as_deref() == Some(expected) {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{line} at {at}: {answer:?}, not {expected}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Adds a number as a call of this name, at one node after the other, until it is known to be added.
    fn add(&self, from: usize, session: &str, serial: u64, number: i64) -> u64 {
        let begun = Instant::now();
        for at in (from..).map(|at| at % 3) {
            let answer = self.ask(at, &format!("add {session}-{serial} {number}"));
            if let Some(count) = answer.as_deref().and_then(|answer| answer.parse().ok()) {
                return count;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{number} is not added: {answer:?}");
            thread::sleep(Duration::from_millis(20));
        }
        unreachable!("nodes are asked for ever")
    }
}

#[test]
fn a_new_program_is_rolled_out_under_load_and_taken_back() {
    let dir = env::temp_dir().join(format!("vlot-upgrade-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    let free: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let addresses: Vec<String> = free.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect();
    drop(free);
    let cluster = Arc::new(Cluster { addresses: addresses.join(","), dir: dir.clone(), processes: Default::default() });
    (0..3).for_each(|at| cluster.start(at, 1));
    cluster.wait_for(0, "in-use", "1");

    let is_over = Arc::new(AtomicBool::new(false));
    let clients = (0..3).map(|client| {
        let (cluster, is_over) = (Arc::clone(&cluster), Arc::clone(&is_over));
        thread::spawn(move || {
            let session = loop {
                match cluster.ask(client, "open") {
                    Some(session) if session.parse::<u64>().is_ok() => break session,
                    _ => thread::sleep(Duration::from_millis(50)),
                }
            };
            let mut serial = 0;
            while !is_over.load(Relaxed) {
                serial += 1;
                cluster.add(client, &session, serial, (client as i64 * 1_000_000) + serial as i64);
            }
            serial as i64
        })
    });
    let clients: Vec<_> = clients.collect();

    // Out, node by node, by kill -9.
    for at in 0..3 {
        thread::sleep(Duration::from_millis(500));
        cluster.kill(at);
        cluster.start(at, 2);
        cluster.wait_for(at, "in-use", if at == 2 { "2" } else { "1" });
    }
    let session = cluster.ask(0, "open").unwrap();
    cluster.add(0, &session, 1, -7);
    thread::sleep(Duration::from_millis(500));

    // And back.
    assert_eq!(cluster.ask(1, "limit 1").as_deref(), Some("ok"));
    assert_eq!(cluster.ask(2, &format!("add {session}-2 -8")).as_deref(), Some("version"));
    (0..3).for_each(|at| cluster.wait_for(at, "save", "ok"));
    for at in 0..3 {
        cluster.kill(at);
        cluster.start(at, 1);
        cluster.wait_for(at, "in-use", "1");
        thread::sleep(Duration::from_millis(500));
    }

    is_over.store(true, Relaxed);
    let mut expected = vec![7];
    for (client, added) in clients.into_iter().enumerate() {
        let added = added.join().unwrap();
        assert!(added > 20, "there was hardly any load: {added}");
        expected.extend((1..=added).map(|serial| client as i64 * 1_000_000 + serial));
    }
    for at in 0..3 {
        let numbers = cluster.ask(at, "list").unwrap();
        let mut numbers: Vec<i64> = numbers.split(',').map(|number| number.parse().unwrap()).collect();
        numbers.sort_unstable();
        expected.sort_unstable();
        assert!(numbers == expected, "each number once: {} of {}", numbers.len(), expected.len());
    }
    (0..3).for_each(|at| cluster.kill(at));
    let _ = std::fs::remove_dir_all(&dir);
}
