//! A member whose data is not that of the others is found, named and kept from doing harm.

mod support;

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use support::cluster::{Cluster, PATIENCE};
use support::http::fetch;
use support::{VLOT, eventually};
use vlot_store::engine::redb::RedbEngine;
use vlot_store::engine::{Engine, WriteBatch};
use vlot_store::revision::Revision;

const CORRUPT: &str = "etcdserver: corrupt cluster";

/// Changes a value in a member's store as no checksum can tell.
fn tamper(data_dir: &Path, from: &[u8], to: &[u8]) {
    assert_eq!(from.len(), to.len());
    let engine = RedbEngine::open(&data_dir.join("store"), 1 << 20).unwrap();
    let mut batch = WriteBatch::default();
    engine
        .view()
        .unwrap()
        .scan(Revision::default(), &mut |key, block| {
            if let Some(place) = block.windows(from.len()).position(|bytes| bytes == from) {
                let mut block = block.to_vec();
                block[place..place + to.len()].copy_from_slice(to);
                let checksum = crc32c::crc32c(&block[4..]);
                block[..4].copy_from_slice(&checksum.to_le_bytes());
                batch.blocks.push((key, block));
            }
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(batch.blocks.len(), 1, "the value is there");
    engine.write(&batch).unwrap();
}

/// Three nodes, and what one of them has of the key is altered while it is down.
fn with_a_corrupt_member(flags: &[(&str, &str)], which: impl FnOnce(usize) -> usize) -> (Cluster, usize) {
    let mut cluster = Cluster::vlot(3, Path::new(VLOT));
    cluster.told(0, &["put", "key", "as it was written"]);
    for n in 0..20 {
        cluster.told(n % 3, &["put", &format!("k{n}"), "v"]);
    }
    let corrupt = which(cluster.leader());
    for node in &mut cluster.nodes {
        node.stop();
        flags.iter().for_each(|(flag, value)| node.flag(flag, value));
    }
    tamper(&cluster.nodes[corrupt].data_dir, b"as it was written", b"as it was altered");
    (cluster, corrupt)
}

#[test]
fn a_member_with_other_data_does_not_start() {
    let (mut cluster, corrupt) = with_a_corrupt_member(&[], |leader| (leader + 1) % 3);
    for n in (0..3).filter(|n| *n != corrupt) {
        cluster.nodes[n].start();
    }
    let others = [(corrupt + 1) % 3, (corrupt + 2) % 3];
    others.iter().for_each(|n| cluster.nodes[*n].ready());
    cluster.told(others[0], &["put", "while it was down", "x"]);
    std::thread::sleep(Duration::from_millis(700));
    cluster.nodes[corrupt].start();
    eventually("it has ended", PATIENCE, || !cluster.nodes[corrupt].runs());
    let log = std::fs::read_to_string(&cluster.nodes[corrupt].log).unwrap();
    assert!(log.contains("this member's data at revision") && log.contains("is damaged"), "{log}");
    cluster.told(others[1], &["put", "goes on", "x"]);
    // An operator may insist.
    cluster.nodes[corrupt].flag("feature-gates", "InitialCorruptCheck=false");
    cluster.nodes[corrupt].start();
    cluster.ready();
}

fn is_found(mut cluster: Cluster, corrupt: usize, trigger: impl Fn(&Cluster)) {
    cluster.nodes.iter_mut().for_each(|node| node.start());
    // They may be found out before all of them are healthy.
    for node in &cluster.nodes {
        eventually("it serves", PATIENCE, || fetch(node.client_port, "/version").is_some());
    }
    let sound = (corrupt + 1) % 3;
    trigger(&cluster);
    eventually("writes are refused", PATIENCE, || {
        cluster.ctl_at(sound, &["put", "k", "v"]).stderr.contains(CORRUPT)
            && cluster.ctl_at(corrupt, &["put", "k", "v"]).stderr.contains(CORRUPT)
    });
    for refused in [&["del", "k"][..], &["compaction", "22"]] {
        assert!(cluster.ctl_at(sound, refused).stderr.contains(CORRUPT), "{refused:?}");
    }
    // The sound ones are read, the other one alone as it is.
    assert_eq!(cluster.told(sound, &["get", "key", "--print-value-only"]), "as it was written\n");
    let read = cluster.ctl_at(corrupt, &["get", "key"]);
    assert!(read.stderr.contains(CORRUPT), "{read:?}");
    assert!(cluster.ctl_at(corrupt, &["get", "key", "--consistency=s"]).stdout.contains("altered"));
    for node in &cluster.nodes {
        let ready = fetch(node.client_port, "/readyz").unwrap();
        assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("[-]data_corruption failed"), "{ready}");
        assert!(fetch(node.client_port, "/health").unwrap().contains("ALARM CORRUPT"));
    }
    let name = &cluster.nodes[corrupt].name;
    let named =
        |n: usize| std::fs::read_to_string(&cluster.nodes[n].log).unwrap().contains("CORRUPT: this member's data");
    assert!((0..3).any(named), "{name} is named");
    eventually("it does not lead", PATIENCE, || {
        (0..3).any(|n| n != corrupt && cluster.nodes[n].leads()) && !cluster.nodes[corrupt].leads()
    });
}

#[test]
fn a_member_that_differs_is_found_after_a_compaction() {
    let flags = [("experimental-initial-corrupt-check", "false"), ("compact-hash-check-time", "200ms")];
    let (cluster, corrupt) = with_a_corrupt_member(&flags, |leader| (leader + 1) % 3);
    is_found(cluster, corrupt, |cluster| {
        eventually("it is compacted", PATIENCE, || cluster.ctl_at(corrupt, &["compaction", "10"]).succeeded());
    });
}

#[test]
fn a_member_that_differs_is_found_without_a_compaction() {
    let flags = [("experimental-initial-corrupt-check", "false"), ("corrupt-check-time", "300ms")];
    // Whoever leads compares; here it may be the one.
    let (cluster, corrupt) = with_a_corrupt_member(&flags, |leader| leader);
    is_found(cluster, corrupt, |_| {});
}
