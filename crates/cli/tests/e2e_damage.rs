//! A bit flips in a node's log while the node is down: it gets what it has lost from its peers, and nothing that was
//! acknowledged is lost; a node that has no peers says what is wrong, and does not start.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::cluster::{Cluster, PATIENCE};
use support::process::run;
use support::{VLOT, eventually};

const KEYS: usize = 30;
const NEEDLE: &str = "value-17-of-the-needle";

/// Puts some keys, one of which has a value that can be found on a disk.
fn fill(cluster: &Cluster) {
    for n in 0..KEYS {
        let value = if n == 17 { NEEDLE.to_owned() } else { format!("value-{n}") };
        assert!(cluster.ctl(&["put", &format!("key/{n:02}"), &value]).succeeded());
    }
}

/// The keys, as this node answers after a quorum has confirmed that it is not behind.
fn keys(cluster: &Cluster, node: usize) -> String {
    cluster.told(node, &["get", "--prefix", "key/"])
}

fn log_of(cluster: &Cluster, node: usize) -> PathBuf {
    cluster.nodes[node].data_dir.join("log")
}

/// Flips a bit of the needle in a node's log.
fn damage(cluster: &Cluster, node: usize) {
    let found = fs::read_dir(log_of(cluster, node)).unwrap().filter_map(|file| {
        let path = file.unwrap().path();
        let bytes = fs::read(&path).ok()?;
        let at = bytes.windows(NEEDLE.len()).position(|window| window == NEEDLE.as_bytes())?;
        Some((path, bytes, at))
    });
    let (path, mut bytes, at) = found.last().expect("the log has the needle");
    bytes[at + 8] ^= 4;
    fs::write(path, bytes).unwrap();
}

/// What `vlot log verify` says of a node's log, and with which exit code.
fn verified(cluster: &Cluster, node: usize) -> (Option<i32>, String) {
    let output = run(Command::new(VLOT).args(["log", "verify"]).arg(&cluster.nodes[node].data_dir), "", PATIENCE);
    (output.code, output.stdout)
}

#[test]
fn damaged_entries_are_got_from_peers() {
    let mut cluster = Cluster::vlot(3, Path::new(VLOT));
    fill(&cluster);
    let damaged = (cluster.leader() + 1) % 3;
    let expected = keys(&cluster, damaged);
    cluster.nodes[damaged].kill();
    damage(&cluster, damaged);
    let (code, said) = verified(&cluster, damaged);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("damaged: entries"), "{said}");
    // What is new comes to a node that is damaged still.
    assert!(cluster.ctl_at((damaged + 1) % 3, &["put", "key/new", "while it was down"]).succeeded());

    cluster.nodes[damaged].start();
    cluster.ready();
    let all = keys(&cluster, damaged);
    assert!(all.starts_with(expected.trim_end()) && all.contains("while it was down"), "{all}");
    eventually("the damage is out of its log", PATIENCE, || verified(&cluster, damaged).0 == Some(0));
    assert!(verified(&cluster, damaged).1.starts_with("outlived damage: "), "the segment still has it");

    // It is like any other from then on: it leads, and starts again from what it has.
    let members = cluster.told(damaged, &["endpoint", "status", "-w", "fields"]);
    let id = members.lines().find_map(|line| line.strip_prefix("\"MemberID\" : ")).expect("its id");
    let id = format!("{:x}", id.trim().parse::<u64>().unwrap());
    let leader = cluster.leader();
    if leader != damaged {
        assert!(cluster.ctl_at(leader, &["move-leader", &id]).succeeded());
    }
    eventually("it leads", PATIENCE, || cluster.leader() == damaged);
    assert!(cluster.ctl_at(damaged, &["put", "key/led", "by the mended"]).succeeded());
    cluster.nodes[damaged].kill();
    cluster.nodes[damaged].start();
    cluster.ready();
    assert!(keys(&cluster, damaged).contains("by the mended"));
}

#[test]
fn a_node_alone_names_the_damage_and_leaves_it() {
    let mut cluster = Cluster::vlot(1, Path::new(VLOT));
    fill(&cluster);
    cluster.nodes[0].kill();
    damage(&cluster, 0);
    let before = verified(&cluster, 0);
    cluster.nodes[0].start();
    let mut said = String::new();
    eventually("it ends", PATIENCE, || {
        said = fs::read_to_string(&cluster.nodes[0].log).unwrap_or_default();
        !cluster.nodes[0].runs()
    });
    assert!(said.contains(".log") && said.contains("damaged"), "{said}");
    assert_eq!(verified(&cluster, 0), before, "nothing was cut");
}
