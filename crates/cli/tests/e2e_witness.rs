//! Two members and a witness: any one of the three may be gone, and the witness keeps no data.

mod support;

use std::path::Path;
use std::time::Duration;

use support::cluster::{Cluster, PATIENCE};
use support::http::fetch;
use support::{VLOT, eventually};

const MARK: &str = "a value that no witness has on its disk";

/// Whether a directory's files hold these bytes.
fn holds(dir: &Path, bytes: &[u8]) -> bool {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.into_iter().any(|path| {
        if path.is_dir() {
            return holds(&path, bytes);
        }
        // One that is removed meanwhile holds nothing.
        let content = std::fs::read(&path).unwrap_or_default();
        content.windows(bytes.len()).any(|window| window == bytes)
    })
}

/// How long a member may take to read its log again: seconds, in a build without optimisation on a machine that is busy.
const RESTART: Duration = Duration::from_secs(90);

fn serves_again(cluster: &Cluster, node: usize) {
    eventually("it serves again", RESTART, || cluster.nodes[node].is_healthy());
}

fn writes_go_on(cluster: &Cluster, via: usize, key: &str) {
    eventually(&format!("{key} is written"), PATIENCE, || {
        cluster.ctl_at(via, &["put", key, MARK, "--command-timeout=2s"]).succeeded()
    });
    assert_eq!(cluster.told(via, &["get", key, "--print-value-only"]), format!("{MARK}\n"));
}

#[test]
fn a_witness_stands_in_for_either_of_two_members_and_keeps_nothing() {
    let mut cluster = Cluster::vlot(2, Path::new(VLOT));
    let witness = cluster.newcomer();
    let (name, port) = (cluster.nodes[witness].name.clone(), cluster.nodes[witness].peer_port);
    let urls = format!("--peer-urls=http://127.0.0.1:{port}");
    let both = cluster.ctl_at(0, &["member", "add", &name, &urls, "--witness", "--learner"]);
    assert!(both.stderr.contains("a witness votes at once and cannot be a learner"), "{both:?}");
    let mut printed = String::new();
    eventually("the witness is added", PATIENCE, || {
        let added = cluster.ctl_at(0, &["member", "add", &name, &urls, "--witness"]);
        printed.clone_from(&added.stdout);
        added.succeeded()
    });
    let initial = printed.lines().find_map(|line| line.strip_prefix("ETCD_INITIAL_CLUSTER=\"")).unwrap();
    cluster.nodes[witness].flag("initial-cluster", initial.trim_end_matches('"'));
    cluster.nodes[witness].flag("initial-cluster-state", "existing");
    cluster.nodes[witness].start();
    eventually("all know that it is a witness", PATIENCE, || {
        (0..2).all(|node| cluster.ctl_at(node, &["member", "list"]).stdout.contains(&format!("witness, {name}")))
    });
    eventually("its health says so", PATIENCE, || {
        let health = fetch(cluster.nodes[witness].client_port, "/health").unwrap_or_default();
        health.contains(r#"{"health":"true","reason":"witness"}"#)
    });
    for call in [&["put", "key", "value"][..], &["get", "key"], &["get", "key", "--consistency=s"], &["member", "list"]]
    {
        let refused = cluster.ctl_at(witness, call);
        assert!(!refused.succeeded() && refused.stderr.contains("is a witness and keeps no data"), "{refused:?}");
    }
    let list = cluster.told(0, &["member", "list", "-w", "json"]);
    assert!(list.contains("\"isWitness\":true"), "{list}");

    // Either member may be gone.
    writes_go_on(&cluster, 0, "all");
    let follower = (0..2).find(|node| *node != cluster.leader()).unwrap();
    cluster.nodes[follower].kill();
    writes_go_on(&cluster, 1 - follower, "without the other");
    cluster.nodes[follower].start();
    serves_again(&cluster, follower);
    writes_go_on(&cluster, follower, "with both");
    let leader = cluster.leader();
    assert_ne!(leader, witness);
    cluster.nodes[leader].kill();
    writes_go_on(&cluster, 1 - leader, "without the leader");
    cluster.nodes[leader].start();
    serves_again(&cluster, leader);

    // So may the witness, which comes back as one.
    cluster.nodes[witness].kill();
    writes_go_on(&cluster, leader, "without the witness");
    cluster.nodes[witness].start();
    eventually("it is back", RESTART, || {
        let health = fetch(cluster.nodes[witness].client_port, "/health").unwrap_or_default();
        health.contains(r#""reason":"witness""#)
    });
    writes_go_on(&cluster, 1 - leader, "with all");
    for (node, has_data) in [(0, true), (1, true), (witness, false)] {
        assert_eq!(holds(&cluster.nodes[node].data_dir, MARK.as_bytes()), has_data, "{}", cluster.nodes[node].name);
    }
}
