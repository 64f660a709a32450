//! Real nodes on disks that fill up or stand still: what is refused is said, what was acknowledged stays, and all goes on
//! by itself once the disk does.

mod support;

use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use support::cluster::{Cluster, PATIENCE};
use support::http::fetch;
use support::process::Output;
use support::volume::Volume;
use support::{TempDir, VLOT, eventually};

/// Room for the log's segments, the store, and what a node wants to be free.
const VOLUME_BYTES: u64 = 400 << 20;
const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";

/// Nodes on volumes of their own. The directory is the last to go.
struct OnVolumes {
    cluster: Cluster,
    volumes: Vec<Volume>,
    _dir: TempDir,
}

impl OnVolumes {
    fn start(nodes: usize) -> Option<OnVolumes> {
        let dir = TempDir::new("volumes");
        let volume = |n| Volume::new(dir.path(), &format!("disk{n}"), VOLUME_BYTES);
        let volumes = (1..=nodes).map(volume).collect::<Option<Vec<Volume>>>()?;
        let dirs: Vec<PathBuf> = volumes.iter().map(|volume| volume.path().join("data")).collect();
        Some(OnVolumes { cluster: Cluster::vlot_in(&dirs, Path::new(VLOT)), volumes, _dir: dir })
    }

    fn put(&self, node: usize, key: &str, value: &str) -> Output {
        self.cluster.ctl_at(node, &["put", key, value])
    }

    fn get(&self, node: usize, key: &str) -> String {
        self.cluster.told(node, &["get", key, "--print-value-only"]).trim_end().to_owned()
    }

    fn metric(&self, node: usize, name: &str) -> u64 {
        let metrics = fetch(self.cluster.nodes[node].client_port, "/metrics").unwrap_or_default();
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{name} is among the metrics")).parse().unwrap()
    }

    fn health(&self, node: usize, query: &str) -> String {
        fetch(self.cluster.nodes[node].client_port, &format!("/health{query}")).unwrap_or_default()
    }

    fn all_run(&mut self) {
        for node in &mut self.cluster.nodes {
            assert!(node.runs(), "{} was not stopped, nor started again", node.name);
        }
    }
}

fn is_refused(output: &Output) -> bool {
    output.stderr.contains(NO_SPACE)
}

#[test]
fn a_node_alone_refuses_writes_on_a_full_disk_and_goes_on_when_there_is_room() {
    let Some(mut on) = OnVolumes::start(1) else { return };
    assert!(on.put(0, "before", "it was full").succeeded());
    on.volumes[0].fill(0);
    eventually("the node notices", PATIENCE, || on.metric(0, "vlot_log_disk_full") == 1);
    for n in 0..3 {
        let begun = Instant::now();
        let refused = on.put(0, &format!("refused/{n}"), "x");
        assert!(is_refused(&refused) && begun.elapsed() < Duration::from_secs(2), "{refused:?}");
    }
    assert_eq!(on.get(0, "before"), "it was full");
    assert!(on.health(0, "").contains("ALARM NOSPACE"));
    assert!(on.health(0, "?exclude=NOSPACE").contains(r#""health":"true""#));

    // It ends without warning on a full disk, and starts on it.
    on.cluster.nodes[0].kill();
    on.cluster.nodes[0].start();
    eventually("it serves reads", PATIENCE, || on.cluster.ctl_at(0, &["get", "before"]).succeeded());
    assert_eq!(on.get(0, "before"), "it was full");
    eventually("the node notices again", PATIENCE, || is_refused(&on.put(0, "refused/4", "x")));

    on.volumes[0].empty();
    eventually("the node notices that there is room", PATIENCE, || on.put(0, "after", "it had room").succeeded());
    on.cluster.ready();
    assert_eq!((on.metric(0, "vlot_log_disk_full"), on.get(0, "after")), (0, "it had room".into()));
    let refused = on.cluster.told(0, &["get", "--prefix", "refused/", "--print-value-only"]);
    assert_eq!(refused, "", "what was refused was never done");
    on.all_run();
}

#[test]
fn a_full_disk_is_filled_by_writing_to_it() {
    let Some(mut on) = OnVolumes::start(1) else { return };
    on.volumes[0].fill(80 << 20);
    let value = "x".repeat(100_000);
    let mut acknowledged = Vec::new();
    let refused = (0..1000).find(|n| {
        let put = on.put(0, &format!("key/{n:04}"), &value);
        assert!(put.succeeded() || is_refused(&put) || put.stderr.contains("timed out"), "{put:?}");
        acknowledged.extend(put.succeeded().then_some(*n));
        is_refused(&put)
    });
    assert!(refused.is_some_and(|n| n > 10), "{refused:?}");
    on.volumes[0].empty();
    eventually("there is room again", PATIENCE, || on.put(0, "after", "it had room").succeeded());
    // What was acknowledged is there, also for who starts from the disk alone.
    on.cluster.nodes[0].kill();
    on.cluster.nodes[0].start();
    on.cluster.ready();
    let keys = on.cluster.told(0, &["get", "--prefix", "key/", "--keys-only"]);
    for n in acknowledged {
        assert!(keys.contains(&format!("key/{n:04}")), "key {n} was acknowledged");
    }
    on.all_run();
}

#[test]
fn on_a_disk_that_is_nearly_full_only_what_makes_room_is_done() {
    let Some(mut on) = OnVolumes::start(1) else { return };
    assert!(on.put(0, "before", "it was full").succeeded());
    // Between what the log wants to be free and what puts want.
    on.volumes[0].fill(68 << 20);
    eventually("puts are refused", PATIENCE, || is_refused(&on.put(0, "refused", "x")));
    assert_eq!(on.metric(0, "vlot_log_disk_full"), 0);
    assert!(on.health(0, "").contains("ALARM NOSPACE"));
    assert_eq!(on.cluster.told(0, &["del", "before"]), "1\n");
    assert!(on.cluster.ctl_at(0, &["compaction", "3"]).succeeded());
    on.volumes[0].empty();
    eventually("puts go on", PATIENCE, || on.put(0, "after", "it had room").succeeded());
    on.cluster.ready();
    on.all_run();
}

#[test]
fn a_leader_with_a_full_disk_hands_over_and_a_quorum_of_full_disks_refuses() {
    let Some(mut on) = OnVolumes::start(3) else { return };
    let leader = on.cluster.leader();
    assert!(on.put(leader, "key", "1").succeeded());
    on.volumes[leader].fill(0);
    eventually("another leads", PATIENCE, || on.cluster.leader() != leader);
    let second = on.cluster.leader();
    eventually("writes go on", PATIENCE, || on.put(second, "key", "2").succeeded());
    assert!(is_refused(&on.put(leader, "refused", "x")), "not where the outcome could not be seen");

    // One more: nothing can be decided.
    on.volumes[second].fill(0);
    eventually("writes are refused at the leader", PATIENCE, || is_refused(&on.put(second, "attempt", "x")));
    let third = 3 - leader - second;
    eventually("and at others", PATIENCE, || is_refused(&on.put(third, "attempt", "x")));
    assert!(is_refused(&on.put(third, "refused", "x")));
    assert_eq!(on.get(third, "key"), "2");

    on.volumes[leader].empty();
    eventually("writes go on again", PATIENCE, || on.put(third, "key", "3").succeeded());
    on.volumes[second].empty();
    on.cluster.ready();
    on.cluster.serves();
    assert_eq!(on.cluster.told(leader, &["get", "refused"]), "", "what was refused was never done");
    on.all_run();
}

#[test]
fn a_disk_that_stands_still_is_reported_while_it_does() {
    let Some(mut on) = OnVolumes::start(3) else { return };
    let leader = on.cluster.leader();
    assert!(on.put(leader, "key", "1").succeeded());
    assert_eq!(on.metric(leader, "vlot_log_disk_stalled"), 0);
    on.volumes[leader].freeze();
    // Something to write, whoever leads.
    drop(on.put((leader + 1) % 3, "key", "2"));
    eventually("the stall is reported while it lasts", PATIENCE, || on.metric(leader, "vlot_log_disk_stalled") == 1);
    assert!(on.health(leader, "?serializable=true").contains("DISK_STALLED"));
    eventually("another leads", PATIENCE, || (0..3).any(|node| node != leader && on.cluster.nodes[node].leads()));
    let other = (leader + 1) % 3;
    eventually("writes go on", PATIENCE, || on.put(other, "key", "3").succeeded());
    sleep(Duration::from_millis(200));
    assert_eq!(on.metric(leader, "vlot_log_disk_stalled"), 1);
    on.volumes[leader].thaw();
    eventually("its end, too", PATIENCE, || on.metric(leader, "vlot_log_disk_stalled") == 0);
    assert!(on.metric(leader, "vlot_log_disk_stalls_total") >= 1);
    on.cluster.ready();
    on.cluster.serves();
    on.all_run();
}
