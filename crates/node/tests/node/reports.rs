//! What is reported of a group, and what of it is called unhealthy.

use std::time::Duration;

use vlot_node::input::Input;
use vlot_node::machine::Fence;
use vlot_node::report::{Reason, Report};
use vlot_raft::configuration::Seat;
use vlot_raft::id::{LogId, LogIndex, NodeId};
use vlot_raft::view::PaceName;

use crate::harness::{Cluster, ELECTION_TIMEOUT, GROUP, HEARTBEAT, Setup};

fn report(cluster: &mut Cluster, n: u64) -> Report {
    let now = cluster.now;
    cluster.host(n).node.report(now, GROUP).expect("a group of this node")
}

fn sentences(report: &Report) -> Vec<String> {
    report.unhealthy.iter().map(Reason::to_string).collect()
}

#[test]
fn a_healthy_group_is_told_from_end_to_end() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    let proposals = ["one", "two", "three"].map(|word| cluster.propose(1, GROUP, word));
    cluster.run(2 * HEARTBEAT);
    assert_eq!(cluster.host(1).fate(proposals[2]), ["applied"]);
    let leader = report(&mut cluster, 1);
    let last = leader.last;
    assert!(last >= LogIndex(4), "the blank entry and three words");
    assert_eq!((leader.first, leader.durable, leader.commit, leader.applied), (LogIndex(1), last, last, last));
    assert_eq!(leader.unhealthy, []);
    assert_eq!(leader.peers.iter().map(|peer| peer.node.0).collect::<Vec<_>>(), [2, 3]);
    for peer in &leader.peers {
        assert_eq!((peer.seat, peer.is_witness, peer.is_connected), (Some(Seat::Voter), false, true));
        let replication = peer.replication.expect("it leads");
        assert_eq!((replication.matched, replication.lag, replication.pace), (last, 0, PaceName::Replicate));
        assert!(replication.answered <= Duration::from_millis(HEARTBEAT), "{replication:?}");
    }
    let follower = report(&mut cluster, 2);
    assert_eq!((follower.role_state.leader, follower.unhealthy), (Some(NodeId(1)), vec![]));
    assert!(follower.peers.iter().all(|peer| peer.replication.is_none()), "it does not lead");
}

#[test]
fn a_member_that_is_away_is_named_and_its_lag_told() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    cluster.run(HEARTBEAT);
    let matched = report(&mut cluster, 1).last;
    cluster.disconnect(1, 3);
    for _ in 0..5 {
        cluster.propose(1, GROUP, "unheard");
        // What is proposed later has an entry of its own.
        cluster.settle();
    }
    cluster.run(HEARTBEAT);
    let leader = report(&mut cluster, 1);
    assert_eq!(leader.unhealthy, [Reason::PeerUnreachable { peer: NodeId(3), silence: None }]);
    assert_eq!(sentences(&leader), ["node 3 is unreachable: there is no connection to it"]);
    let replication = leader.peers[1].replication.expect("it leads");
    assert_eq!((replication.matched, replication.lag), (matched, leader.last.since(matched)));
    assert!(replication.lag >= 5);
}

#[test]
fn a_leader_without_a_quorum_says_so_before_it_leaves_and_then_that_there_is_none() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    [2, 3].into_iter().for_each(|peer| cluster.silence(1, peer));
    cluster.run(ELECTION_TIMEOUT * 3 / 4);
    let leader = report(&mut cluster, 1);
    let [Reason::NoQuorum { silence }] = leader.unhealthy[..] else { panic!("{:?}", leader.unhealthy) };
    assert!(silence > Duration::from_millis(ELECTION_TIMEOUT / 2), "{silence:?}");
    cluster.run(ELECTION_TIMEOUT);
    let alone = report(&mut cluster, 1);
    assert!(matches!(alone.unhealthy[0], Reason::NoLeader { .. }), "{:?}", alone.unhealthy);
    assert!(sentences(&alone)[0].starts_with("no leader is known"), "{:?}", sentences(&alone));
}

#[test]
fn disk_and_state_machine_are_blamed_by_name() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    cluster.run(HEARTBEAT);
    let now = cluster.now;
    cluster.host(2).room(now, false);
    cluster.run(HEARTBEAT);
    assert_eq!(report(&mut cluster, 2).unhealthy, [Reason::DiskFull]);
    cluster.run(2 * HEARTBEAT);
    assert_eq!(report(&mut cluster, 1).unhealthy, [Reason::PeerDiskFull { peer: NodeId(2) }]);

    cluster.host(3).held.applies = true;
    cluster.propose(1, GROUP, "slow");
    cluster.run(ELECTION_TIMEOUT + HEARTBEAT);
    assert_eq!(report(&mut cluster, 3).unhealthy, [Reason::AppliesLate { entries: 1 }]);
    let why = Fence::UnknownEntry { at: LogId::new(1, 1) };
    cluster.handle(3, Input::Failed { group: GROUP, why: why.clone().into() });
    cluster.settle();
    assert_eq!(report(&mut cluster, 3).unhealthy, [Reason::Fenced(why.into())]);
}
