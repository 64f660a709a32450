//! Nodes whose groups sleep tell each other that they are alive, and groups of nodes that are not.

use std::time::Duration;

use vlot_node::input::Input;
use vlot_node::wire::PeerMessage;
use vlot_raft::id::{GroupId, NodeId};

use crate::harness::{Cluster, ELECTION_TIMEOUT, GROUP, HEARTBEAT, Setup};

fn sleepy(groups: u64) -> Setup {
    Setup { groups, sleep_after: Some(Duration::from_millis(500)), ..Setup::default() }
}

/// What was sent to node `to` since this was last asked: how often that the node is alive, and how much else.
fn said(cluster: &mut Cluster, n: u64, to: u64) -> (usize, usize) {
    let sent = std::mem::take(&mut cluster.host(n).sent);
    let (to_it, others): (Vec<_>, Vec<_>) = sent.into_iter().partition(|(peer, _)| *peer == NodeId(to));
    cluster.host(n).sent = others;
    let is_alive = |frame| matches!(PeerMessage::decode(frame), Ok((_, PeerMessage::Alive)));
    let alive = to_it.iter().filter(|(_, frame)| is_alive(frame.clone())).count();
    (alive, to_it.len() - alive)
}

#[test]
fn nodes_whose_groups_sleep_say_once_a_heartbeat_that_they_are_alive() {
    let mut cluster = Cluster::new(&sleepy(20));
    cluster.run(10 * ELECTION_TIMEOUT);
    for (n, peer) in [(1, 2), (2, 1), (3, 1)] {
        said(&mut cluster, n, peer);
    }
    cluster.run(10 * HEARTBEAT);
    for (n, peer) in [(1, 2), (2, 1), (3, 1)] {
        assert_eq!(said(&mut cluster, n, peer), (10, 0), "n{n} to n{peer}, whatever the number of groups");
    }
    for group in 1..=20 {
        let raft = cluster.host(1).node.raft(GroupId(group)).expect("a group of this node");
        assert!(raft.is_asleep());
    }
}

#[test]
fn where_a_leader_speaks_nobody_says_besides_that_it_is_alive() {
    let mut cluster = Cluster::led_by(1, &sleepy(1));
    (1..=3).for_each(|n| cluster.host(n).sent.clear());
    // So often that the group does not fall asleep.
    for _ in 0..20 {
        cluster.propose(1, GROUP, "x");
        cluster.run(HEARTBEAT);
    }
    for peer in [2, 3] {
        let (alive, others) = said(&mut cluster, 1, peer);
        assert!(alive == 0 && others >= 20, "to n{peer}: {alive} and {others}");
    }
    let (alive, others) = said(&mut cluster, 2, 3);
    assert!(others == 0 && (19..=21).contains(&alive), "followers have nothing else to say: {alive} and {others}");
}

#[test]
fn a_leader_that_only_sends_heartbeats_says_nothing_besides() {
    // Long before it sleeps.
    let setup = Setup { sleep_after: Some(Duration::from_secs(1000)), ..Setup::default() };
    let mut cluster = Cluster::led_by(1, &setup);
    cluster.run(HEARTBEAT);
    cluster.host(1).sent.clear();
    cluster.run(20 * HEARTBEAT);
    let (alive, others) = said(&mut cluster, 1, 2);
    assert!(alive == 0 && others >= 20, "{alive} and {others}");
}

#[test]
fn without_sleep_nobody_says_that_it_is_alive() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    cluster.run(ELECTION_TIMEOUT);
    for (n, peer) in [(1, 2), (2, 1), (2, 3)] {
        assert_eq!(said(&mut cluster, n, peer).0, 0);
    }
}

#[test]
fn groups_that_sleep_learn_that_the_node_of_their_leader_is_silent() {
    let mut cluster = Cluster::new(&sleepy(5));
    (1..=5).for_each(|group| cluster.elect(1, GroupId(group)));
    cluster.run(5 * ELECTION_TIMEOUT);
    let asleep = |cluster: &mut Cluster, n| cluster.host(n).node.raft(GroupId(3)).is_some_and(|raft| raft.is_asleep());
    assert!(asleep(&mut cluster, 2) && asleep(&mut cluster, 3));
    // Its connections seem to stand.
    cluster.silence(1, 2);
    cluster.silence(1, 3);
    // One election timeout to notice, and less than another to be elected by those who have noticed too.
    cluster.run(2 * ELECTION_TIMEOUT - HEARTBEAT);
    for group in 1..=5 {
        let leader = cluster.leader(GroupId(group)).expect("one of the others");
        assert_ne!(leader, 1, "group {group}");
    }
}

#[test]
fn a_group_that_falls_asleep_is_told_of_the_nodes_that_are_gone_already() {
    let mut cluster = Cluster::led_by(1, &sleepy(1));
    cluster.run(2 * ELECTION_TIMEOUT);
    assert!(cluster.host(2).node.raft(GROUP).is_some_and(|raft| raft.is_asleep()));
    // Only nodes that are heard of may be slept over: a new connection that says nothing is silent in the end.
    cluster.disconnect(1, 2);
    cluster.run(3 * ELECTION_TIMEOUT);
    let proposal = cluster.propose(3, GROUP, "x");
    cluster.run(3 * ELECTION_TIMEOUT);
    assert_eq!(cluster.host(3).fate(proposal), ["applied"]);
}

#[test]
fn nobody_sleeps_over_a_leader_that_was_gone_when_the_group_fell_asleep() {
    let mut cluster = Cluster::unconnected(&Setup { nodes: 2, ..sleepy(1) });
    cluster.handle(1, Input::Connected { peer: NodeId(2), disk: 12, reads_shared: true });
    let is_asleep = |cluster: &mut Cluster| cluster.host(2).node.raft(GROUP).is_some_and(|raft| raft.is_asleep());
    for _ in 0..200 {
        cluster.run(HEARTBEAT / 2);
        let leads = cluster.host(2).status(GROUP).role_state.leader == Some(NodeId(2));
        assert!(leads || !is_asleep(&mut cluster), "the second node would not notice that the first is gone");
    }
    cluster.connect(1, 2);
    cluster.run(5 * ELECTION_TIMEOUT);
    assert!(is_asleep(&mut cluster));
}

#[test]
fn a_proposal_wakes_a_group_that_sleeps() {
    let mut cluster = Cluster::led_by(1, &sleepy(1));
    cluster.run(5 * ELECTION_TIMEOUT);
    for n in 1..=3 {
        let proposal = cluster.propose(n, GROUP, "x");
        cluster.run(HEARTBEAT);
        assert_eq!(cluster.host(n).fate(proposal), ["applied"]);
        cluster.run(5 * ELECTION_TIMEOUT);
    }
}
