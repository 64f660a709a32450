//! Three real nodes under load, killed without warning: what was acknowledged stays, and writing goes on.
//!
//! The load is many small processes of etcdctl, so that nothing of ours vouches for itself.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use support::cluster::{Cluster, PATIENCE, client};
use support::process::{Output, run};
use support::{Etcd, eventually};

const WRITERS: usize = 6;
/// A write without an answer is given up after this, so that no writer waits for a node that is gone.
const WRITE_TIMEOUT: &str = "--command-timeout=400ms";
/// Within what time of the leader's end another node must have acknowledged a write: an election timeout of a second,
/// and an election.
const RESUMED_WITHIN: Duration = Duration::from_millis(1300);
/// The same where the leader only falls silent: followers wait for up to two election timeouts, and votes may split.
const RESUMED_IN_SILENCE_WITHIN: Duration = Duration::from_millis(3500);

/// A write that was acknowledged.
struct Acknowledged {
    key: String,
    value: String,
    begun: Instant,
    ended: Instant,
}

/// Processes that write as fast as they can, each key once.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    writers: Vec<JoinHandle<Vec<Acknowledged>>>,
}

impl Load {
    fn start(name: &'static str, cluster: &Cluster, ctl: &Path) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicU64::new(0));
        let writers = (0..WRITERS).map(|writer| {
            let (stop, acknowledged) = (stop.clone(), acknowledged.clone());
            let (ctl, endpoints): (PathBuf, _) = (ctl.to_owned(), cluster.endpoints());
            thread::spawn(move || {
                let mut mine = Vec::new();
                for number in 0.. {
                    if stop.load(Relaxed) {
                        break;
                    }
                    let (key, value) = (format!("{name}/{writer}/{number:05}"), format!("value {number}"));
                    let mut put = client(&ctl, &endpoints);
                    let begun = Instant::now();
                    // One that fails may have been done all the same; nothing is known of it.
                    if run(put.args([WRITE_TIMEOUT, "put", &key, &value]), "", PATIENCE).succeeded() {
                        mine.push(Acknowledged { key, value, begun, ended: Instant::now() });
                        acknowledged.fetch_add(1, Relaxed);
                    }
                }
                mine
            })
        });
        Load { writers: writers.collect(), acknowledged, stop }
    }

    /// Waits until so many writes more are acknowledged.
    fn more(&self, writes: u64) {
        let enough = self.acknowledged.load(Relaxed) + writes;
        eventually("writes are acknowledged", PATIENCE, || self.acknowledged.load(Relaxed) >= enough);
    }

    fn stop(self) -> Vec<Acknowledged> {
        self.stop.store(true, Relaxed);
        self.writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    }
}

#[test]
fn writing_goes_on_after_the_leader_is_killed() {
    let Some(Etcd { ctl, .. }) = Etcd::find() else { return };
    let mut cluster = Cluster::vlot(3, &ctl);
    let load = Load::start("kill-leader", &cluster, &ctl);
    load.more(50);
    let leader = cluster.leader();
    let killed = Instant::now();
    cluster.nodes[leader].kill();
    load.more(50);
    // The node that comes back finds writers at work.
    cluster.nodes[leader].start();
    cluster.ready();
    load.more(20);
    let written = load.stop();

    let resumed = first_write_after(&written, killed);
    println!("{} writes; first one after the kill acknowledged after {resumed:?}", written.len());
    has_everything(&cluster, &written);
    assert!(resumed <= RESUMED_WITHIN, "{resumed:?}");
}

#[test]
fn writing_goes_on_while_the_leader_hangs() {
    let Some(Etcd { ctl, .. }) = Etcd::find() else { return };
    let cluster = Cluster::vlot(3, &ctl);
    let load = Load::start("hang", &cluster, &ctl);
    load.more(30);
    let leader = cluster.leader();
    let hung = Instant::now();
    // Its connections stay open, so that only its silence tells.
    cluster.nodes[leader].signal("STOP");
    load.more(30);
    cluster.nodes[leader].signal("CONT");
    cluster.ready();
    load.more(20);
    let written = load.stop();
    let resumed = first_write_after(&written, hung);
    println!("{} writes; first one while the leader hung acknowledged after {resumed:?}", written.len());
    has_everything(&cluster, &written);
    assert!(resumed <= RESUMED_IN_SILENCE_WITHIN, "{resumed:?}");
}

#[test]
fn a_follower_that_was_killed_catches_up() {
    let Some(Etcd { ctl, .. }) = Etcd::find() else { return };
    let mut cluster = Cluster::vlot(3, &ctl);
    let load = Load::start("kill-follower", &cluster, &ctl);
    load.more(20);
    let follower = (cluster.leader() + 1) % 3;
    cluster.nodes[follower].kill();
    load.more(50);
    cluster.nodes[follower].start();
    cluster.ready();
    let written = load.stop();
    has_everything(&cluster, &written);
}

#[test]
fn nothing_acknowledged_is_lost_when_all_nodes_are_killed_at_once() {
    let Some(Etcd { ctl, .. }) = Etcd::find() else { return };
    let mut cluster = Cluster::vlot(3, &ctl);
    let mut written = Vec::new();
    for name in ["first", "second", "third"] {
        let load = Load::start(name, &cluster, &ctl);
        load.more(30);
        cluster.nodes.iter_mut().for_each(|node| node.kill());
        written.extend(load.stop());
        cluster.nodes.iter_mut().for_each(|node| node.start());
        cluster.ready();
        has_everything(&cluster, &written);
    }
    cluster.serves();
}

#[test]
fn a_clean_stop_keeps_everything() {
    let Some(Etcd { ctl, .. }) = Etcd::find() else { return };
    let mut cluster = Cluster::vlot(3, &ctl);
    for number in 0..10 {
        assert!(cluster.ctl(&["put", &format!("kept/{number}"), "value"]).succeeded());
    }
    assert!(cluster.ctl(&["del", "kept/3"]).succeeded());
    assert!(cluster.ctl(&["compaction", "5"]).succeeded());
    let before = same_everywhere(&cluster);
    for node in &mut cluster.nodes {
        let begun = Instant::now();
        let status = node.stop();
        assert_eq!(status.code(), Some(0), "{} after SIGTERM", node.name);
        assert!(begun.elapsed() < Duration::from_secs(5), "{} took {:?}", node.name, begun.elapsed());
    }
    cluster.nodes.iter_mut().for_each(|node| node.start());
    cluster.ready();
    assert_eq!(same_everywhere(&cluster), before);
    let Output { stderr, .. } = cluster.ctl(&["get", "kept/0", "--rev=4"]);
    assert!(stderr.contains("etcdserver: mvcc: required revision has been compacted"), "{stderr}");
    cluster.serves();
}

/// How long after a moment the first write was acknowledged that began after it. One that began before may have been
/// acknowledged by the node that is gone.
fn first_write_after(written: &[Acknowledged], moment: Instant) -> Duration {
    written.iter().filter(|write| write.begun > moment).map(|write| write.ended).min().unwrap() - moment
}

/// Asserts that every node has every write, and all have the same.
fn has_everything(cluster: &Cluster, written: &[Acknowledged]) {
    assert!(!written.is_empty());
    same_everywhere(cluster);
    for (place, node) in cluster.nodes.iter().enumerate() {
        let there = pairs(&cluster.told(place, &["get", "", "--prefix", "--consistency=s"]));
        let lost: Vec<_> = written.iter().filter(|write| there.get(&write.key) != Some(&write.value)).collect();
        let keys: Vec<_> = lost.iter().map(|write| &write.key).collect();
        assert!(lost.is_empty(), "{} has lost {} of {} writes: {keys:?}", node.name, lost.len(), written.len());
    }
}

fn pairs(output: &str) -> BTreeMap<String, String> {
    let lines: Vec<_> = output.lines().map(str::to_owned).collect();
    lines.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()
}

/// Asserts that every node has the same keys, values, revisions and versions by itself, and returns them as JSON.
fn same_everywhere(cluster: &Cluster) -> String {
    let nodes = 0..cluster.nodes.len();
    // A linearizable read makes a node catch up; writers have stopped.
    nodes.clone().for_each(|place| drop(cluster.told(place, &["get", "barrier"])));
    let dumps: Vec<_> = nodes
        .map(|place| {
            let dump = cluster.told(place, &["get", "", "--prefix", "--consistency=s", "-w", "json"]);
            // From the revision on: before it stand the ids, and between it and the keys the term.
            let (_, dump) = dump.split_once("\"revision\":").unwrap();
            let (revision, rest) = dump.split_once(',').unwrap();
            let (_, keys) = rest.split_once("},").unwrap();
            format!("revision {revision} {keys}")
        })
        .collect();
    for (node, dump) in cluster.nodes.iter().zip(&dumps) {
        assert!(dump == &dumps[0], "{} differs from {}:\n{dump}\n{}", node.name, cluster.nodes[0].name, dumps[0]);
    }
    dumps.into_iter().next().unwrap()
}
