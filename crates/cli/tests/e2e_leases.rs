//! Leases on three real nodes: what is left of one survives whatever happens to leaders, and no paused leader ends one.

mod support;

use std::thread::sleep;
use std::time::{Duration, Instant};

use support::cluster::{Cluster, PATIENCE};
use support::{Etcd, eventually};

/// How much longer than its time to live a lease may live where leaders only hand over: a round of telling, and what a
/// busy machine adds.
const LATE_MAX: Duration = Duration::from_millis(1500);

/// Grants a lease, puts a key on it, and says which one it is and when that was asked for.
fn leased(cluster: &Cluster, node: usize, ttl: u64) -> (String, Instant) {
    let begun = Instant::now();
    let granted = cluster.told(node, &["lease", "grant", &ttl.to_string()]);
    let id = granted.split(' ').nth(1).unwrap_or_else(|| panic!("{granted}")).to_owned();
    assert_eq!(granted, format!("lease {id} granted with TTL({ttl}s)\n"));
    cluster.told(node, &["put", "leased", "v", &format!("--lease={id}")]);
    (id, begun)
}

fn is_there(cluster: &Cluster, node: usize) -> bool {
    cluster.told(node, &["get", "leased", "--count-only", "-w", "fields"]).contains("\"Count\" : 1")
}

/// Waits for the end of the lease's key, which must be in its time.
fn ends_at(cluster: &Cluster, node: usize, begun: Instant, ttl: u64, late: Duration) {
    let ttl = Duration::from_secs(ttl);
    sleep((begun + ttl - Duration::from_millis(300)).saturating_duration_since(Instant::now()));
    assert!(is_there(cluster, node) || begun.elapsed() >= ttl, "gone before its time");
    eventually("the lease ends", late + ttl, || !is_there(cluster, node));
    let lived = begun.elapsed();
    assert!(lived >= ttl, "it lived for {lived:?} of {ttl:?}");
    assert!(lived <= ttl + late, "it lived for {lived:?}, {ttl:?} were granted");
}

#[test]
fn what_is_left_survives_three_changes_of_the_leader() {
    let Some(etcd) = Etcd::find() else { return };
    let cluster = Cluster::vlot(3, &etcd.ctl);
    let (id, begun) = leased(&cluster, 0, 7);
    for _ in 0..3 {
        sleep(Duration::from_millis(1200));
        let leader = cluster.leader();
        let next = (leader + 1) % 3;
        let line = cluster.told(next, &["endpoint", "status", "-w", "fields"]);
        let member =
            line.lines().find_map(|line| line.strip_prefix("\"MemberID\" : ")).unwrap_or_else(|| panic!("{line}"));
        let member = format!("{:x}", member.parse::<u64>().unwrap());
        cluster.told(leader, &["move-leader", &member]);
        eventually("the leadership has moved", PATIENCE, || cluster.nodes[next].leads());
    }
    let left = cluster.told(1, &["lease", "timetolive", &id, "--keys"]);
    assert!(left.contains("granted with TTL(7s)") && left.contains("[leased]"), "{left}");
    ends_at(&cluster, 2, begun, 7, LATE_MAX);
    let gone = cluster.told(0, &["lease", "timetolive", &id]);
    assert_eq!(gone, format!("lease {id} already expired\n"));
}

#[test]
fn what_is_left_survives_a_leader_that_is_killed() {
    let Some(etcd) = Etcd::find() else { return };
    let mut cluster = Cluster::vlot(3, &etcd.ctl);
    let follower = (cluster.leader() + 1) % 3;
    let (_, begun) = leased(&cluster, follower, 6);
    sleep(Duration::from_millis(1500));
    let leader = cluster.leader();
    cluster.nodes[leader].kill();
    // Until another one leads, nobody ends a lease.
    ends_at(&cluster, follower, begun, 6, LATE_MAX + Duration::from_secs(3));
}

#[test]
fn a_leader_that_was_paused_ends_nothing_that_was_renewed_meanwhile() {
    let Some(etcd) = Etcd::find() else { return };
    let cluster = Cluster::vlot(3, &etcd.ctl);
    let leader = cluster.leader();
    let other = (leader + 1) % 3;
    let (id, _) = leased(&cluster, leader, 5);
    cluster.nodes[leader].signal("STOP");
    let mut renewed = Instant::now();
    for _ in 0..4 {
        sleep(Duration::from_millis(1500));
        // The first one may come before there is another leader, and waits for it.
        let begun = Instant::now();
        let kept = cluster.told(other, &["lease", "keep-alive", "--once", &id]);
        assert_eq!(kept, format!("lease {id} keepalived with TTL(5)\n"));
        renewed = begun;
    }
    cluster.nodes[leader].signal("CONT");
    sleep(Duration::from_millis(1000));
    assert!(is_there(&cluster, other), "the paused leader has ended it");
    ends_at(&cluster, other, renewed, 5, LATE_MAX);
}

#[test]
fn no_keep_alive_is_answered_after_the_revocation() {
    let Some(etcd) = Etcd::find() else { return };
    let cluster = Cluster::vlot(3, &etcd.ctl);
    for node in 0..3 {
        let (id, _) = leased(&cluster, node, 60);
        assert_eq!(cluster.told(node, &["lease", "revoke", &id]), format!("lease {id} revoked\n"));
        for asked in 0..3 {
            let kept = cluster.ctl_at(asked, &["lease", "keep-alive", "--once", &id]);
            assert!(!kept.stdout.contains("keepalived"), "{kept:?}");
        }
        assert!(!is_there(&cluster, node));
    }
}
