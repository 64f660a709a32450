//! A node that is attacked, an honest client that works on meanwhile from another address, and what the node takes.

use std::fmt;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use vlot_proto::etcdserverpb::{PutRequest, PutResponse};

use crate::support::cluster::{Cluster, PATIENCE};
use crate::support::eventually;
use crate::support::grpc::Client;
use crate::support::http::fetch_from;

/// Where the honest client is; attackers are at 127.0.0.1.
pub const HONEST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const PUT: &str = "/etcdserverpb.KV/Put";

/// A node under attack.
pub struct Victim {
    cluster: Cluster,
    before: Taken,
    honest: Honest,
}

/// What a process takes of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    pub resident_bytes: u64,
    pub descriptors: usize,
}

impl Victim {
    /// A node with these flags, and a client that puts, one key after the other.
    pub fn new(flags: &[(&str, &str)]) -> Victim {
        let mut cluster = Cluster::vlot(1, Path::new("no client"));
        if !flags.is_empty() {
            cluster.nodes[0].stop();
            flags.iter().for_each(|(flag, value)| cluster.nodes[0].flag(flag, value));
            cluster.nodes[0].start();
            cluster.ready();
        }
        let honest = Honest::begin(cluster.nodes[0].client_port);
        eventually("the honest client is served", PATIENCE, || honest.puts() > 20);
        honest.take();
        let before = taken(cluster.nodes[0].process_id());
        Victim { cluster, before, honest }
    }

    pub fn port(&self) -> u16 {
        self.cluster.nodes[0].client_port
    }

    pub fn process(&self) -> u32 {
        self.cluster.nodes[0].process_id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.cluster.nodes[0].log).unwrap()
    }

    /// How many clients were stopped for this, as an operator sees it.
    pub fn stopped(&self, reason: &str) -> u64 {
        self.metric(&format!("vlot_clients_closed_total{{reason=\"{reason}\"}}"))
    }

    /// The value of a metric, by its name and its labels; zero if there is none.
    pub fn metric(&self, name: &str) -> u64 {
        let metrics = fetch_from(HONEST, self.port(), "/metrics").expect("the node answers others");
        let value = |line: &str| line.strip_prefix(name)?.trim().parse().ok();
        metrics.lines().find_map(value).unwrap_or_default()
    }

    /// Waits until that many were stopped.
    pub fn has_stopped(&self, reason: &str, at_least: u64) {
        eventually(&format!("{at_least} are stopped for {reason}"), PATIENCE, || self.stopped(reason) >= at_least);
    }

    /// How much more memory is taken than before the attack.
    pub fn grown_bytes(&self) -> u64 {
        taken(self.process()).resident_bytes.saturating_sub(self.before.resident_bytes)
    }

    /// Runs an attack. The honest client gets on meanwhile, and the node takes no more memory than so many MiB.
    pub fn withstands<T>(&self, name: &str, grown_mib_max: u64, attack: impl FnOnce(&Victim) -> T) -> T {
        let quiet = Latencies::of(self.honest.take());
        let (puts, begun) = (self.honest.puts(), Instant::now());
        let over = Arc::new(AtomicBool::new(false));
        let watching = thread::spawn({
            let (over, process) = (over.clone(), self.process());
            move || {
                let mut most = 0;
                while !over.load(Ordering::Relaxed) {
                    most = most.max(taken(process).resident_bytes);
                    thread::sleep(Duration::from_millis(20));
                }
                most
            }
        });
        let outcome = attack(self);
        let took = begun.elapsed();
        over.store(true, Ordering::Relaxed);
        let most = watching.join().unwrap().max(taken(self.process()).resident_bytes);
        let grown = most.saturating_sub(self.before.resident_bytes) >> 20;
        let honest = self.honest.puts() - puts;
        let meanwhile = Latencies::of(self.honest.take());
        eprintln!("{name}: {took:?}, {honest} honest puts, {meanwhile} (before {quiet}), {grown} MiB grown");
        assert!(grown <= grown_mib_max, "{name}: {grown} MiB more than before, not {grown_mib_max}");
        let puts = self.honest.puts();
        eventually(&format!("{name}: the honest client gets on"), PATIENCE, || self.honest.puts() > puts + 5);
        outcome
    }

    /// The honest client's 99th percentile while this is done.
    pub fn honest_p99(&self, meanwhile: impl FnOnce()) -> Duration {
        self.honest.take();
        meanwhile();
        // The one that waits now has waited meanwhile.
        let puts = self.honest.puts();
        eventually("the honest client gets on", PATIENCE, || self.honest.puts() > puts);
        Latencies::of(self.honest.take()).p99
    }

    /// The attackers have gone: so have their descriptors.
    pub fn recovers(mut self) {
        let before = self.before.descriptors + 8;
        eventually("descriptors are given back", PATIENCE, || taken(self.process()).descriptors <= before);
        assert!(self.cluster.nodes[0].runs());
        self.honest.end();
    }
}

/// What a process takes now.
pub fn taken(process: u32) -> Taken {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident_bytes = line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10;
    Taken { resident_bytes, descriptors: fs::read_dir(format!("/proc/{process}/fd")).unwrap().count() }
}

/// How long puts took.
struct Latencies {
    p99: Duration,
    slowest: Duration,
}

impl Latencies {
    fn of(mut took: Vec<Duration>) -> Latencies {
        took.sort();
        let at = |place: usize| took.get(place).copied().unwrap_or_default();
        Latencies { p99: at(took.len() * 99 / 100), slowest: at(took.len().saturating_sub(1)) }
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "p99 {:?}, the slowest {:?}", self.p99, self.slowest)
    }
}

/// A client that means no harm.
struct Honest {
    stop: Arc<AtomicBool>,
    puts: Arc<AtomicU64>,
    /// How long each put took since it was asked last.
    took: Arc<Mutex<Vec<Duration>>>,
    thread: Option<JoinHandle<()>>,
}

impl Honest {
    fn begin(port: u16) -> Honest {
        let stop = Arc::new(AtomicBool::new(false));
        let puts = Arc::new(AtomicU64::new(0));
        let took = Arc::new(Mutex::new(Vec::new()));
        let thread = thread::spawn({
            let (stop, puts, took) = (stop.clone(), puts.clone(), took.clone());
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let client = Client::connect_from(HONEST, port).await;
                    while !stop.load(Ordering::Relaxed) {
                        let begun = Instant::now();
                        let put = PutRequest { key: "honest".into(), value: "work".into(), ..PutRequest::default() };
                        client.call::<PutResponse>(PUT, &put).await.expect("an honest put succeeds");
                        took.lock().unwrap().push(begun.elapsed());
                        puts.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                });
            }
        });
        Honest { stop, puts, took, thread: Some(thread) }
    }

    fn puts(&self) -> u64 {
        self.puts.load(Ordering::Relaxed)
    }

    /// How long each put took since this was asked last.
    fn take(&self) -> Vec<Duration> {
        std::mem::take(&mut self.took.lock().unwrap())
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("every honest put has succeeded");
        }
    }
}

impl Drop for Honest {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
