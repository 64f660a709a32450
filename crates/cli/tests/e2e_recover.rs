//! Two of three members are lost for good: the third goes on alone with `vlot recover-from-lost-quorum`, and others join it.

mod support;

use std::path::Path;
use std::process::Command;

use support::cluster::{Cluster, PATIENCE};
use support::process::{Output, run};
use support::{VLOT, eventually};

fn recover(dir: &Path, flags: &[&str]) -> Output {
    let mut command = Command::new(VLOT);
    command.arg("recover-from-lost-quorum").arg("--data-dir").arg(dir).args(flags);
    run(&mut command, "", PATIENCE)
}

const CONFIRMED: &[&str] = &["--i-know-that-acknowledged-writes-may-be-lost"];

fn cluster_id(cluster: &Cluster, node: usize) -> String {
    let told = cluster.told(node, &["member", "list", "-w", "json"]);
    let id = told.split("\"cluster_id\":").nth(1).and_then(|rest| rest.split([',', '}']).next());
    id.unwrap_or_else(|| panic!("no id in {told}")).to_owned()
}

#[test]
fn the_last_member_goes_on_alone_and_others_join_it() {
    let mut cluster = Cluster::vlot(3, Path::new(VLOT));
    for n in 0..20 {
        cluster.told(n % 3, &["put", &format!("key/{n:02}"), "value"]);
    }
    let lease = cluster.told(0, &["lease", "grant", "600"]);
    let lease = lease.split_whitespace().nth(1).unwrap().to_owned();
    cluster.told(0, &["put", "leased", "value", &format!("--lease={lease}")]);
    // The last write is on this member too.
    assert_eq!(cluster.told(2, &["get", "leased", "--print-value-only"]), "value\n");
    let before = cluster_id(&cluster, 2);
    let dir = cluster.nodes[2].data_dir.clone();
    let running = recover(&dir, CONFIRMED);
    assert!(!running.succeeded() && running.stderr.contains("in use by another process"), "{running:?}");
    cluster.nodes.iter_mut().for_each(|node| node.kill());

    let looked = recover(&dir, &[]);
    assert!(!looked.succeeded(), "{looked:?}");
    assert!(looked.stderr.contains("nothing was done") && looked.stderr.contains("group 1: term"), "{looked:?}");
    let done = recover(&dir, CONFIRMED);
    assert!(done.succeeded() && done.stdout.contains("is the only member of the new cluster"), "{done:?}");

    cluster.nodes[2].start();
    cluster.nodes[2].ready();
    assert_eq!(cluster.told(2, &["member", "list"]).lines().count(), 1);
    assert_ne!(cluster_id(&cluster, 2), before);
    assert_eq!(cluster.told(2, &["get", "key/", "--prefix", "--keys-only"]).matches("key/").count(), 20);
    assert!(cluster.told(2, &["lease", "timetolive", &lease]).contains("granted with TTL(600s)"));
    assert_eq!(cluster.told(2, &["put", "after", "value"]), "OK\n");

    // Another joins, with an empty directory.
    let new = cluster.newcomer();
    let (name, port) = (cluster.nodes[new].name.clone(), cluster.nodes[new].peer_port);
    let urls = format!("--peer-urls=http://127.0.0.1:{port}");
    let printed = cluster.told(2, &["member", "add", &name, &urls]);
    let initial = printed.lines().find_map(|line| line.strip_prefix("ETCD_INITIAL_CLUSTER=\"")).unwrap();
    cluster.nodes[new].flag("initial-cluster", initial.trim_end_matches('"'));
    cluster.nodes[new].flag("initial-cluster-state", "existing");
    cluster.nodes[new].start();
    cluster.nodes[new].ready();
    eventually("the new member has all", PATIENCE, || {
        let keys = cluster.ctl_at(new, &["get", "key/", "--prefix", "--keys-only", "--consistency=s"]);
        keys.stdout.matches("key/").count() == 20
    });
    assert_eq!(cluster.told(new, &["get", "after", "--print-value-only"]), "value\n");

    // One of before comes back. It is of no cluster that is there, and is told so; the new one does not mind.
    cluster.nodes[0].start();
    eventually("the new cluster says why", PATIENCE, || {
        std::fs::read_to_string(&cluster.nodes[2].log).unwrap().contains("another cluster")
    });
    eventually("so does the one of before", PATIENCE, || {
        std::fs::read_to_string(&cluster.nodes[0].log).unwrap().contains("another cluster")
    });
    assert!(!cluster.nodes[0].is_healthy());
    assert_eq!(cluster.told(2, &["put", "after", "another"]), "OK\n");
    assert_eq!(cluster.told(2, &["member", "list"]).lines().count(), 2);
}

#[test]
fn what_is_no_data_directory_is_left_alone() {
    let dir = support::TempDir::new("recover");
    let none = recover(&dir.path().join("none"), CONFIRMED);
    assert!(!none.succeeded() && none.stderr.contains("is no data directory of a member"), "{none:?}");
    assert!(!dir.path().join("none").exists());
}
