//! What one client asks for does not hold up the others: puts go on, with the same leader and about the same memory, while
//! some read everything, while a command takes long, and while the store of a follower stands still.
//!
//! By default these tests are small, and their bounds are wide enough for any machine. With `VLOT_STALLS_FULL=1` and
//! `--release` they are as large as the promise, which holds for a machine that does nothing else; `--nocapture` shows the
//! figures.

mod support;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use bytes::Bytes;
use support::cluster::{Cluster, PATIENCE};
use support::grpc::Client;
use support::http::fetch;
use support::volume::Volume;
use support::{TempDir, VLOT, eventually};
use vlot_proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, StatusRequest,
    StatusResponse,
};

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const DELETE: &str = "/etcdserverpb.KV/DeleteRange";
const STATUS: &str = "/etcdserverpb.Maintenance/Status";

const READERS: usize = 10;
/// Puts that wait for their outcome at a time, and what each waits before the next.
const PUTTERS: usize = 4;
const PUT_PAUSE: Duration = Duration::from_millis(5);
/// How long "quiet" is measured.
const QUIET: Duration = Duration::from_secs(3);

fn is_full_size() -> bool {
    std::env::var_os("VLOT_STALLS_FULL").is_some()
}

/// Runs something that waits on this thread.
fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> PutRequest {
    PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() }
}

/// All keys that begin so; the last byte is none that can be counted up.
fn prefix(prefix: &'static str) -> RangeRequest {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().unwrap() += 1;
    RangeRequest { key: prefix.into(), range_end: end.into(), ..RangeRequest::default() }
}

/// Writes so many values, many at a time.
fn fill(port: u16, prefix: &str, values: usize, value_bytes: usize) {
    let at_a_time = ((8 << 20) / value_bytes).clamp(1, 64);
    let value = Bytes::from(vec![b'x'; value_bytes]);
    run(async {
        let client = Client::connect(port).await;
        let writers: Vec<_> = (0..at_a_time)
            .map(|writer| {
                let (client, value, prefix) = (client.clone(), value.clone(), prefix.to_owned());
                tokio::spawn(async move {
                    for number in (writer..values).step_by(at_a_time) {
                        let request = put(format!("{prefix}{number:08}"), value.clone());
                        client.call::<PutResponse>(PUT, &request).await.expect("it is put");
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

/// Puts that go on until they are stopped, and how long each took.
struct Puts {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Duration>>,
}

impl Puts {
    fn begin(port: u16) -> Puts {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = stop.clone();
        let thread = thread::spawn(move || {
            run(async {
                let client = Client::connect(port).await;
                let putters: Vec<_> = (0..PUTTERS)
                    .map(|putter| tokio::spawn(put_until(client.clone(), putter, stopping.clone())))
                    .collect();
                let mut took = Vec::new();
                for putter in putters {
                    took.extend(putter.await.unwrap());
                }
                took.sort_unstable();
                took
            })
        });
        Puts { stop, thread }
    }

    fn for_a_while(port: u16, while_long: Duration) -> Took {
        let puts = Puts::begin(port);
        sleep(while_long);
        puts.end()
    }

    fn end(self) -> Took {
        self.stop.store(true, Ordering::Relaxed);
        Took(self.thread.join().unwrap())
    }
}

async fn put_until(client: Client, putter: usize, stop: Arc<AtomicBool>) -> Vec<Duration> {
    let mut took = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        client.call::<PutResponse>(PUT, &put(format!("beside/{putter}"), "v")).await.expect("a put beside");
        took.push(begun.elapsed());
        tokio::time::sleep(PUT_PAUSE).await;
    }
    took
}

/// How long puts took, the quickest first.
struct Took(Vec<Duration>);

impl Took {
    fn p99(&self) -> Duration {
        self.0[self.0.len() * 99 / 100]
    }

    fn worst(&self) -> Duration {
        *self.0.last().unwrap()
    }

    fn show(&self, when: &str) {
        let p50 = self.0[self.0.len() / 2];
        println!("{when}: {} puts, p50 {p50:?}, p99 {:?}, worst {:?}", self.0.len(), self.p99(), self.worst());
    }
}

/// The most memory that any of some processes has had, sampled until it is asked for.
struct Memory {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<u64>>,
}

impl Memory {
    fn watch(cluster: &Cluster) -> Memory {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = stop.clone();
        let processes: Vec<u32> = cluster.nodes.iter().map(|node| node.process_id()).collect();
        let thread = thread::spawn(move || {
            let mut peaks = vec![0; processes.len()];
            while !stopping.load(Ordering::Relaxed) {
                for (peak, process) in peaks.iter_mut().zip(&processes) {
                    *peak = resident_bytes(*process).max(*peak);
                }
                sleep(Duration::from_millis(20));
            }
            peaks
        });
        Memory { stop, thread }
    }

    fn peaks(self) -> Vec<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn resident_bytes(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn ratio(name: &str, value: f64) -> f64 {
    println!("ratio {name} {value:.2}");
    value
}

fn term(port: u16) -> u64 {
    let status = run(async { Client::connect(port).await.call::<StatusResponse>(STATUS, &StatusRequest {}).await });
    status.unwrap().raft_term
}

#[test]
fn puts_and_memory_do_not_mind_clients_that_read_everything() {
    // Between them the readers read a GiB, or a twentieth of it; and again for as long as quiet is measured, so that one
    // hiccup of the disk weighs the same in both.
    let (values, value_bytes) = if is_full_size() { (105_000, 1024) } else { (5_000, 1024) };
    let cluster = Cluster::vlot(3, Path::new(VLOT));
    let leader = cluster.leader();
    let port = cluster.nodes[leader].client_port;
    fill(port, "many/", values, value_bytes);
    sleep(Duration::from_secs(1));
    let begun_in = term(port);
    let memory = Memory::watch(&cluster);
    let quiet = Puts::for_a_while(port, QUIET);
    let quiet_memory = memory.peaks();

    let memory = Memory::watch(&cluster);
    let puts = Puts::begin(port);
    let begun = Instant::now();
    let readers: Vec<_> = (0..READERS).map(|_| thread::spawn(move || read_everything(port, QUIET))).collect();
    let bytes: Vec<usize> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
    let read_for = begun.elapsed();
    let beside = puts.end();
    let beside_memory = memory.peaks();

    quiet.show("quiet");
    beside.show("while reading");
    println!("{} MiB were read in {read_for:?}", bytes.iter().sum::<usize>() >> 20);
    println!("MiB of memory: {:?} quiet, {:?} while reading", mib(&quiet_memory), mib(&beside_memory));
    let of_puts = ratio("puts_p99_while_reading", beside.p99().as_secs_f64() / quiet.p99().as_secs_f64());
    let of_memory = ratio("memory_while_reading", beside_memory[leader] as f64 / quiet_memory[leader] as f64);
    assert!(bytes.iter().all(|read| *read > values * value_bytes), "{bytes:?}");
    assert_eq!(term(port), begun_in, "no change of leader");
    assert!(beside.p99() < Duration::from_secs(1) && of_memory < 2.0);
    if is_full_size() {
        assert!(of_puts < 3.0 && of_memory < 1.5);
    }
}

/// Reads all keys, once and then again until the time is over. Returns how many bytes that were.
fn read_everything(port: u16, while_long: Duration) -> usize {
    run(async {
        let client = Client::connect(port).await;
        let begun = Instant::now();
        let mut bytes = 0;
        while bytes == 0 || begun.elapsed() < while_long {
            bytes += client.begin(RANGE, &prefix("many/")).await.unwrap().count().await.expect("it is read");
        }
        bytes
    })
}

fn mib(bytes: &[u64]) -> Vec<u64> {
    bytes.iter().map(|bytes| bytes >> 20).collect()
}

/// A client that asks for everything and takes next to nothing of it costs next to nothing.
#[test]
fn answers_that_nobody_takes_are_not_made() {
    let cluster = Cluster::vlot(1, Path::new(VLOT));
    let port = cluster.nodes[0].client_port;
    fill(port, "many/", 10_000, 2048);
    let before = resident_bytes(cluster.nodes[0].process_id());
    run(async {
        let mut held = Vec::new();
        for _ in 0..20 {
            let client = Client::connect(port).await;
            let mut reply = client.begin(RANGE, &prefix("many/")).await.unwrap();
            assert!(reply.next().await.unwrap().is_some());
            held.push((client, reply));
            // The others are not served worse for it.
            let one = RangeRequest { key: "many/00000007".into(), ..RangeRequest::default() };
            assert_eq!(held[0].0.call::<RangeResponse>(RANGE, &one).await.unwrap().count, 1);
        }
        let grown = resident_bytes(cluster.nodes[0].process_id()).saturating_sub(before);
        println!("20 answers of 20 MiB that nobody takes: {} MiB more", grown >> 20);
        assert!(grown < 100 << 20, "{grown}");
    });
    cluster.serves();
}

/// A command that takes long is applied on all nodes at once, on threads of its own.
#[test]
fn liveness_is_answered_while_a_command_takes_long() {
    let keys = if is_full_size() { 1_000_000 } else { 30_000 };
    let cluster = Cluster::vlot(3, Path::new(VLOT));
    let leader = cluster.leader();
    let port = cluster.nodes[leader].client_port;
    fill(port, "many/", keys, 16);
    let begun_in = term(port);
    let quiet = Puts::for_a_while(port, QUIET);
    quiet.show("quiet");
    let puts = Puts::begin(port);
    let deleting = thread::spawn(move || {
        let RangeRequest { key, range_end, .. } = prefix("many/");
        let request = DeleteRangeRequest { key, range_end, ..DeleteRangeRequest::default() };
        let begun = Instant::now();
        let deleted =
            run(async { Client::connect(port).await.call::<DeleteRangeResponse>(DELETE, &request).await }).unwrap();
        (deleted.deleted, begun.elapsed())
    });
    let mut slowest = Duration::ZERO;
    while !deleting.is_finished() {
        for path in ["/livez", "/metrics", "/version"] {
            let begun = Instant::now();
            let reply = fetch(port, path).unwrap_or_default();
            assert!(reply.starts_with("HTTP/1.1 200"), "{path}: {reply}");
            slowest = slowest.max(begun.elapsed());
        }
    }
    let (deleted, took) = deleting.join().unwrap();
    let beside = puts.end();
    beside.show("while deleting");
    println!("{deleted} keys were deleted in {took:?}; liveness took {slowest:?} at most");
    // Puts come after the deletion in the log, and are applied after it.
    ratio("worst_put_while_deleting", beside.worst().as_secs_f64() / took.as_secs_f64());
    assert_eq!(deleted, keys as i64);
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    assert_eq!(term(port), begun_in, "no change of leader");
}

/// The store of a follower is on a volume of its own that is frozen: what it is to write down piles up until it applies
/// nothing more. Its log is elsewhere, so that its voice still counts.
#[test]
fn a_follower_whose_store_stands_still_holds_up_nobody() {
    if cfg!(debug_assertions) && !is_full_size() {
        // Not by a macro, whose output the test harness would keep to itself.
        let _ = writeln!(std::io::stderr(), "SKIPPED: the store is too slow without --release for what has to pile up");
        return;
    }
    let dir = TempDir::new("stores");
    let Some(volumes) =
        (1..=3).map(|n| Volume::new(dir.path(), &format!("n{n}/store"), VOLUME_BYTES)).collect::<Option<Vec<_>>>()
    else {
        return;
    };
    let dirs: Vec<PathBuf> = (1..=3).map(|n| dir.path().join(format!("n{n}"))).collect();
    let mut cluster = Cluster::vlot_in(&dirs, Path::new(VLOT));
    let leader = cluster.leader();
    let follower = (leader + 1) % 3;
    let port = cluster.nodes[leader].client_port;
    fill(port, "some/", 100, 1000);
    let begun_in = term(port);
    let quiet = Puts::for_a_while(port, QUIET);
    quiet.show("quiet");

    let frozen = volumes[follower].frozen();
    // More than may wait for the engine, and no faster than the others write it down.
    for part in 0..BACKLOG_VALUES / PART_VALUES {
        fill(port, &format!("many/{part:02}/"), PART_VALUES, 1 << 20);
        eventually("the leader has written it down", PATIENCE, || {
            metric(&cluster, leader, "vlot_store_backlog_bytes") < PART_VALUES as u64 * (1 << 20)
        });
    }
    let applied = |node: usize| metric(&cluster, node, "etcd_server_proposals_applied_total");
    eventually("the follower applies nothing more", PATIENCE, || applied(follower) < applied(leader));
    let stands_at = applied(follower);
    let beside = Puts::for_a_while(port, QUIET);
    beside.show("while a follower stands still");
    assert_eq!(applied(follower), stands_at, "it stands still");
    ratio("puts_p99_while_a_follower_stands_still", beside.p99().as_secs_f64() / quiet.p99().as_secs_f64());
    assert!(fetch(cluster.nodes[follower].client_port, "/livez").is_some_and(|reply| reply.contains(" 200 ")));
    assert_eq!(term(port), begun_in, "no change of leader");
    assert!(beside.p99() < Duration::from_secs(1));

    drop(frozen);
    eventually("it catches up", PATIENCE, || applied(follower) >= applied(leader));
    cluster.serves();
    assert!(cluster.nodes[follower].runs());
}

/// Room for what is put, twice.
const VOLUME_BYTES: u64 = 1 << 30;
/// MiB values: a little more than a store lets wait for its engine.
const BACKLOG_VALUES: usize = 280;
const PART_VALUES: usize = 40;

fn metric(cluster: &Cluster, node: usize, name: &str) -> u64 {
    let metrics = fetch(cluster.nodes[node].client_port, "/metrics").unwrap_or_default();
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.expect("it is among the metrics").parse().unwrap()
}
