//! Members come and go in a cluster of real processes under load, asked for with etcdctl: what was acknowledged stays.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use support::cluster::{Cluster, PATIENCE, client};
use support::http::fetch;
use support::process::run;
use support::{Etcd, VLOT, eventually};

/// A process after the other that puts a key, each once.
struct Writer {
    stop: Arc<AtomicBool>,
    acknowledged: JoinHandle<Vec<String>>,
}

impl Writer {
    fn start(ctl: &Path, endpoints: String) -> Writer {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, ctl): (_, PathBuf) = (stop.clone(), ctl.to_owned());
        let acknowledged = thread::spawn(move || {
            let keys = (0..).map(|number| format!("acknowledged/{number:05}"));
            let put = |key: &String| {
                let mut put = client(&ctl, &endpoints);
                run(put.args(["--command-timeout=1s", "put", key, "value"]), "", PATIENCE).succeeded()
            };
            keys.take_while(|_| !stopped.load(Relaxed)).filter(put).collect()
        });
        Writer { stop, acknowledged }
    }

    fn stop(self) -> Vec<String> {
        self.stop.store(true, Relaxed);
        self.acknowledged.join().unwrap()
    }
}

/// What etcdctl prints for a new member: how it is to be started.
fn variable(printed: &str, name: &str) -> String {
    let line = printed.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("=\""));
    line.unwrap_or_else(|| panic!("{name} in {printed}")).trim_end_matches('"').to_owned()
}

/// A member's id, by its peer port.
fn member_id(cluster: &Cluster, via: usize, peer_port: u16) -> String {
    let list = cluster.told(via, &["member", "list"]);
    let line = list.lines().find(|line| line.contains(&format!(":{peer_port}"))).map(str::to_owned);
    line.and_then(|line| Some(line.split(',').next()?.to_owned())).unwrap_or_else(|| panic!("{peer_port} in {list}"))
}

/// Adds a member by a call to the node at `via`, starts it, and returns its place.
fn join(cluster: &mut Cluster, via: usize, flags: &[&str]) -> usize {
    let place = cluster.newcomer();
    let (name, peer_port) = (cluster.nodes[place].name.clone(), cluster.nodes[place].peer_port);
    let peer_url = format!("--peer-urls=http://127.0.0.1:{peer_port}");
    let arguments = [&["member", "add", &name, &peer_url], flags].concat();
    let mut printed = String::new();
    eventually("the member is added", PATIENCE, || {
        let output = cluster.ctl_at(via, &arguments);
        printed.clone_from(&output.stdout);
        output.succeeded()
    });
    let initial_cluster = variable(&printed, "ETCD_INITIAL_CLUSTER");
    cluster.nodes[place].flag("initial-cluster", &initial_cluster);
    cluster.nodes[place].flag("initial-cluster-state", "existing");
    cluster.nodes[place].start();
    place
}

/// How many keys a node has by itself.
fn keys_at(cluster: &Cluster, node: usize) -> Vec<String> {
    let listed = cluster.told(node, &["get", "acknowledged/", "--prefix", "--keys-only", "--consistency=s"]);
    listed.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn three_members_become_five_and_three_again_under_load() {
    let Some(etcd) = Etcd::find() else { return };
    let mut cluster = Cluster::vlot(3, &etcd.ctl);
    let writer = Writer::start(&etcd.ctl, cluster.endpoints());

    let fourth = join(&mut cluster, 0, &[]);
    cluster.nodes[fourth].ready();
    let fifth = join(&mut cluster, fourth, &["--learner"]);
    let id = member_id(&cluster, 0, cluster.nodes[fifth].peer_port);
    eventually("the learner is promoted", PATIENCE, || cluster.ctl_at(1, &["member", "promote", &id]).succeeded());
    cluster.nodes[fifth].ready();
    assert_eq!(cluster.told(fifth, &["member", "list"]).lines().count(), 5);

    // The leader leaves, and then another of the first three.
    let leader = cluster.leader();
    let leaving = [leader, (0..3).find(|&place| place != leader).unwrap()];
    for place in leaving {
        let id = member_id(&cluster, fifth, cluster.nodes[place].peer_port);
        eventually("the member is removed", PATIENCE, || cluster.ctl_at(fifth, &["member", "remove", &id]).succeeded());
        eventually("a removed member ends", PATIENCE, || !cluster.nodes[place].runs());
    }
    let staying: Vec<usize> = (0..5).filter(|place| !leaving.contains(place)).collect();
    assert_eq!(cluster.told(fifth, &["member", "list"]).lines().count(), 3);
    cluster.told(staying[0], &["put", "acknowledged/last", "value"]);

    let mut acknowledged = writer.stop();
    assert!(acknowledged.len() > 10, "{} writes were acknowledged", acknowledged.len());
    acknowledged.push("acknowledged/last".into());
    for place in staying {
        let missing = || {
            let here = keys_at(&cluster, place);
            acknowledged.iter().filter(|key| !here.contains(key)).count()
        };
        eventually("every acknowledged write is on every member", PATIENCE, || missing() == 0);
    }
}

#[test]
fn the_leadership_moves_where_etcdctl_wants_it() {
    let Some(etcd) = Etcd::find() else { return };
    let cluster = Cluster::vlot(3, &etcd.ctl);
    let leader = cluster.leader();
    let next = (leader + 1) % 3;
    let id = member_id(&cluster, leader, cluster.nodes[next].peer_port);
    let refused = cluster.ctl_at(next, &["move-leader", &id]);
    assert!(!refused.succeeded(), "only the leader can: {refused:?}");
    cluster.told(leader, &["move-leader", &id]);
    eventually("the other leads", PATIENCE, || cluster.nodes[next].leads());
    cluster.serves();
}

#[test]
fn a_member_that_was_away_catches_up_by_a_snapshot() {
    let Some(etcd) = Etcd::find() else { return };
    let mut cluster = Cluster::vlot(3, &etcd.ctl);
    for place in 0..3 {
        cluster.nodes[place].stop();
        cluster.nodes[place].flag("snapshot-count", "500");
    }
    [0, 1].into_iter().for_each(|place| cluster.nodes[place].start());
    [0, 1].into_iter().for_each(|place| cluster.nodes[place].ready());
    let endpoints = [0, 1].map(|place| cluster.nodes[place].endpoint()).join(",");
    let mut load = Command::new(VLOT);
    load.args(["bench", "put", "--endpoints", &endpoints, "--clients=32", "--total=12000"]);
    assert!(run(&mut load, "", Duration::from_secs(60)).succeeded());
    let writer = Writer::start(&etcd.ctl, endpoints);
    cluster.nodes[2].start();
    cluster.nodes[2].ready();
    let metrics = || fetch(cluster.nodes[2].client_port, "/metrics").unwrap_or_default();
    eventually("it has restored a snapshot", PATIENCE, || {
        let is_told =
            |line: &str| line.starts_with("etcd_network_snapshot_receive_success{From=") && line.ends_with(" 1");
        metrics().lines().any(is_told)
    });
    let acknowledged = writer.stop();
    let missing = || {
        let here = keys_at(&cluster, 2);
        acknowledged.iter().filter(|key| !here.contains(key)).count()
    };
    eventually("it has what was written meanwhile", PATIENCE, || missing() == 0);
    cluster.serves();
}
