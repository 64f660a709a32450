//! Which nodes a node talks to, which disks it knows them by, and what it says of those that are wrong.

use std::collections::BTreeMap;

use bytes::Bytes;
use vlot_log::index::GroupState;
use vlot_node::Lane;
use vlot_node::act::{Act, Complaint, GroupEvent, Stop};
use vlot_node::input::Input;
use vlot_node::members::{MemberChange, Members};
use vlot_node::wire::{BadFrame, PeerMessage};
use vlot_raft::effect::{Event, RoleName};
use vlot_raft::id::{GroupId, LogIndex, NodeId, Term};
use vlot_raft::message::{Body, Message, Session};

use crate::harness::{Cluster, ELECTION_TIMEOUT, GROUP, HEARTBEAT, Setup};

#[test]
fn a_group_that_is_added_after_connections_stand_is_told_of_them() {
    let mut cluster = Cluster::new(&Setup { groups: 0, ..Setup::default() });
    cluster.run(HEARTBEAT);
    let now = cluster.now;
    (1..=3).for_each(|n| cluster.host(n).begin(now, GROUP, GroupState::default()));
    cluster.elect(1, GROUP);
    let proposal = cluster.propose(2, GROUP, "x");
    cluster.settle();
    assert_eq!(cluster.host(2).fate(proposal), ["applied"], "a follower sends it only to a leader that is connected");
}

#[test]
fn a_lost_connection_is_told_to_all_groups() {
    let mut cluster = Cluster::new(&Setup { groups: 3, ..Setup::default() });
    (1..=3).for_each(|group| cluster.elect(1, GroupId(group)));
    cluster.disconnect(1, 2);
    cluster.settle();
    for group in 1..=3 {
        let sequence = cluster.propose(2, GroupId(group), "x");
        cluster.settle();
        cluster.handle(2, Input::Withdraw { group: GroupId(group), sequence });
        cluster.settle();
        assert_eq!(cluster.host(2).fate(sequence), ["not proposed: NoLeader"], "it was sent to nobody");
    }
}

#[test]
fn the_disk_of_a_member_is_bound_once_it_is_seen_and_only_once() {
    let mut cluster = Cluster::new(&Setup::default());
    cluster.disconnect(1, 3);
    cluster.disconnect(2, 3);
    cluster.run_until("one of two leads", |cluster| cluster.leader(GROUP).is_some());
    cluster.elect(1, GROUP);
    let disks =
        |cluster: &mut Cluster| (1..=3).map(|n| cluster.host(1).members[&GROUP].disk(NodeId(n))).collect::<Vec<_>>();
    assert_eq!(disks(&mut cluster), [11, 12, 0], "the third was not seen");
    assert_eq!(cluster.host(1).disks, Some(BTreeMap::from([(NodeId(1), 11), (NodeId(2), 12)])));
    cluster.connect(1, 3);
    cluster.run(3 * HEARTBEAT);
    assert_eq!(disks(&mut cluster), [11, 12, 13]);
    let bound = cluster.host(1).status(GROUP).last;
    cluster.disconnect(1, 3);
    cluster.settle();
    cluster.connect(1, 3);
    cluster.run(3 * HEARTBEAT);
    assert_eq!(cluster.host(1).status(GROUP).last, bound, "nothing is left to be written down");
    for n in 2..=3 {
        assert_eq!(cluster.host(n).members[&GROUP].disks().count(), 3);
        assert_eq!(cluster.host(n).disks.clone().unwrap_or_default(), BTreeMap::new(), "a follower entitles nobody");
    }
    assert!(cluster.host(1).answers.iter().all(|(_, answer)| !format!("{answer:?}").contains("Err")));
}

#[test]
fn a_peer_that_tells_no_disk_is_not_bound_to_one() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    cluster.run(ELECTION_TIMEOUT);
    cluster.change(1, GROUP, vec![MemberChange::AddLearner { node: NodeId(4), address: "n4:1".to_owned() }]);
    for disk in [0, 14] {
        cluster.handle(1, Input::Connected { peer: NodeId(4), disk, reads_shared: true });
        cluster.run(HEARTBEAT);
        assert_eq!(cluster.host(1).members[&GROUP].disk(NodeId(4)), disk);
    }
    // It is bound for good: what it says later is not taken for it.
    cluster.handle(1, Input::Connected { peer: NodeId(4), disk: 15, reads_shared: true });
    cluster.run(HEARTBEAT);
    assert_eq!(cluster.host(1).members[&GROUP].disk(NodeId(4)), 14);
}

#[test]
fn no_disk_is_bound_before_a_leader_has_committed_in_its_term() {
    let mut cluster = Cluster::new(&Setup::default());
    for n in 1..=3 {
        cluster.host(n).held.writes = false;
    }
    // Votes are written, and the entry with which the leader takes office is not.
    cluster.run_until("somebody leads", |cluster| {
        let leader = cluster.leader(GROUP);
        (1..=3).filter(|n| leader.is_some() && leader != Some(*n)).for_each(|n| cluster.host(n).held.writes = true);
        leader.is_some() || (1..=3).any(|n| cluster.host(n).held.writes)
    });
    let leader = cluster.leader(GROUP).expect("somebody leads");
    let newest = |cluster: &mut Cluster| {
        cluster.host(leader).node.raft(GROUP).map(|raft| (raft.configurations().newest_at(), raft.commit()))
    };
    // It may have been committed within the moment in which it was elected.
    if newest(&mut cluster) == Some((LogIndex::ZERO, LogIndex::ZERO)) {
        cluster.run(HEARTBEAT);
        assert_eq!(newest(&mut cluster), Some((LogIndex::ZERO, LogIndex::ZERO)), "it may not bind any yet");
    }
    (1..=3).for_each(|n| cluster.release(n));
    cluster.run(3 * HEARTBEAT);
    assert_eq!(cluster.host(leader).members[&GROUP].disks().count(), 3);
}

#[test]
fn the_disk_of_a_new_member_is_bound_once_it_connects() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    cluster.change(1, GROUP, vec![MemberChange::AddLearner { node: NodeId(4), address: "n4:1".to_owned() }]);
    cluster.settle();
    cluster.handle(1, Input::Connected { peer: NodeId(4), disk: 14, reads_shared: true });
    cluster.settle();
    assert_eq!(cluster.host(1).members[&GROUP].disk(NodeId(4)), 14);
}

/// The machine lost power, and no word of that has come: the connection stands. The one that takes its place has another disk.
#[test]
fn the_disk_of_a_connection_that_says_nothing_is_not_bound() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    cluster.run(ELECTION_TIMEOUT);
    cluster.host(2).held.writes = true;
    cluster.host(3).held.writes = true;
    cluster.change(1, GROUP, vec![MemberChange::AddLearner { node: NodeId(4), address: "n4:1".to_owned() }]);
    cluster.settle();
    cluster.handle(1, Input::Connected { peer: NodeId(4), disk: 14, reads_shared: true });
    cluster.run(2 * ELECTION_TIMEOUT);
    cluster.release(2);
    cluster.release(3);
    cluster.run(HEARTBEAT);
    assert_eq!(cluster.host(1).members[&GROUP].disk(NodeId(4)), 0);
    cluster.handle(1, Input::Lost { peer: NodeId(4) });
    cluster.handle(1, Input::Connected { peer: NodeId(4), disk: 15, reads_shared: true });
    cluster.run(HEARTBEAT);
    assert_eq!(cluster.host(1).members[&GROUP].disk(NodeId(4)), 15);
}

#[test]
fn entitled_disks_are_told_in_the_turn_in_which_a_role_changes() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    let message = PeerMessage::Raft {
        message: Message { term: Term(cluster.host(1).status(GROUP).role_state.term.0 + 1), body: Body::StaleTerm },
        payloads: Vec::new(),
    };
    let input = Input::Frame { from: NodeId(2), lane: message.lane(), bytes: message.encode(GROUP) };
    cluster.handle(1, input);
    let acts = cluster.turn(1);
    let is_follower =
        |act: &Act| matches!(act, Act::Show { status, .. } if status.role_state.role == RoleName::Follower);
    assert!(acts.iter().any(is_follower), "{acts:?}");
    assert!(acts.iter().any(|act| matches!(act, Act::SetDisks(disks) if disks.is_empty())), "{acts:?}");
}

#[test]
fn a_change_of_members_waits_for_the_disks_and_is_asked_again() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    // A change is under way while the disk of a fourth is seen.
    let changes = vec![MemberChange::AddLearner { node: NodeId(4), address: "n4:1".to_owned() }];
    cluster.run(ELECTION_TIMEOUT);
    cluster.host(2).held.writes = true;
    cluster.host(3).held.writes = true;
    cluster.change(1, GROUP, changes);
    cluster.settle();
    cluster.handle(1, Input::Connected { peer: NodeId(4), disk: 14, reads_shared: true });
    cluster.run(HEARTBEAT);
    assert_eq!(cluster.host(1).members[&GROUP].disk(NodeId(4)), 0, "one change at a time");
    cluster.release(2);
    cluster.release(3);
    cluster.run(HEARTBEAT);
    assert_eq!(cluster.host(1).members[&GROUP].disk(NodeId(4)), 14);
}

/// Node 1 alone, with groups of these members.
fn with_groups(groups: &[(u64, &[u64])]) -> Cluster {
    let mut cluster = Cluster::new(&Setup { nodes: 1, groups: 0, ..Setup::default() });
    groups.iter().for_each(|(group, members)| add(&mut cluster, *group, members));
    cluster.settle();
    cluster
}

fn add(cluster: &mut Cluster, group: u64, members: &[u64]) {
    let now = cluster.now;
    let mut new = cluster.host(1).new_group(GroupId(group), GroupState::default());
    new.begin.members = Members::of_voters(members.iter().map(|n| (NodeId(*n), format!("n{n}:1"))));
    cluster.host(1).add(now, new);
}

fn peers(cluster: &mut Cluster) -> Vec<(u64, String)> {
    let peers = cluster.host(1).peers.clone().unwrap_or_default();
    peers.into_iter().map(|(node, address)| (node.0, address)).collect()
}

fn named(nodes: &[u64]) -> Vec<(u64, String)> {
    nodes.iter().map(|n| (*n, format!("n{n}:1"))).collect()
}

#[test]
fn a_node_talks_to_the_members_of_its_groups_as_they_come_and_go() {
    let mut cluster = with_groups(&[(1, &[1, 2, 3]), (2, &[1, 3, 4])]);
    assert_eq!(peers(&mut cluster), named(&[2, 3, 4]));
    add(&mut cluster, 3, &[1, 5]);
    cluster.settle();
    assert_eq!(peers(&mut cluster), named(&[2, 3, 4, 5]));
    cluster.handle(1, Input::Close { group: GroupId(2), remove: false });
    cluster.settle();
    assert_eq!(peers(&mut cluster), named(&[2, 3, 5]), "two groups had named the third");
    cluster.handle(1, Input::Close { group: GroupId(1), remove: false });
    cluster.handle(1, Input::Close { group: GroupId(3), remove: false });
    cluster.settle();
    assert_eq!(peers(&mut cluster), []);
}

#[test]
fn a_leader_that_was_a_member_of_several_groups_keeps_their_disks_until_the_last_is_gone() {
    let mut cluster = with_groups(&[(1, &[1]), (2, &[1])]);
    cluster.run(3 * ELECTION_TIMEOUT);
    let own = Some(BTreeMap::from([(NodeId(1), 11)]));
    assert_eq!(cluster.host(1).disks, own);
    cluster.handle(1, Input::Close { group: GroupId(1), remove: false });
    cluster.settle();
    assert_eq!(cluster.host(1).disks, own);
    cluster.handle(1, Input::Close { group: GroupId(2), remove: false });
    cluster.settle();
    assert_eq!(cluster.host(1).disks, Some(BTreeMap::new()));
}

#[test]
fn a_leader_that_steps_down_entitles_nobody_any_more() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    assert_eq!(cluster.host(1).disks.as_ref().map(BTreeMap::len), Some(3));
    cluster.elect(2, GROUP);
    assert_eq!(cluster.host(1).disks, Some(BTreeMap::new()));
    assert_eq!(cluster.host(2).disks.as_ref().map(BTreeMap::len), Some(3));
}

#[test]
fn another_disk_stops_a_node_only_if_it_knows_founders_alone() {
    let other = |node| Input::OtherDisk { peer: NodeId(2), node: NodeId(node), disk: 99 };
    let complaint = (NodeId(2), Complaint::OtherDisk { disk: 99 });
    // It has the first members, and no others.
    let mut cluster = with_groups(&[(1, &[1, 2, 3])]);
    cluster.handle(1, other(2));
    cluster.settle();
    assert_eq!(cluster.host(1).stopped, None, "it is the peer that has another");
    assert_eq!(cluster.host(1).complaints, [complaint]);
    cluster.handle(1, other(1));
    cluster.settle();
    assert_eq!(cluster.host(1).stopped, Some(Stop::OtherDisk));
    // It is to join: it knows nobody.
    let mut cluster = with_groups(&[(1, &[])]);
    cluster.handle(1, other(1));
    cluster.settle();
    assert_eq!(cluster.host(1).stopped, None);
    assert_eq!(cluster.host(1).complaints.len(), 1);
    // The members have changed since: disks were written down.
    let mut cluster = Cluster::led_by(1, &Setup::default());
    assert!(
        cluster
            .host(1)
            .events
            .iter()
            .any(|(_, event)| { matches!(event, GroupEvent::Consensus(Event::ConfigurationCommitted { .. })) })
    );
    cluster.handle(1, other(1));
    cluster.settle();
    assert_eq!(cluster.host(1).stopped, None);
}

#[test]
fn what_peers_send_that_is_wrong_is_complained_of_and_ignored() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    let frame = |bytes: Bytes, lane| Input::Frame { from: NodeId(3), lane, bytes };
    cluster.handle(2, frame(Bytes::from_static(b"\xff\xff\xff"), Lane::Control));
    cluster.settle();
    assert!(matches!(cluster.host(2).complaints[..], [(NodeId(3), Complaint::Frame(BadFrame::NotProtobuf(_)))]));
    let unknown = PeerMessage::ProposalsRefused { term: Term(1), sequences: vec![1] }.encode(GroupId(8));
    cluster.handle(2, frame(unknown.clone(), Lane::Entries));
    cluster.settle();
    let complaints = &cluster.host(2).complaints;
    assert_eq!(complaints[1..], [(NodeId(3), Complaint::UnknownGroup(GroupId(8)))]);
    cluster.handle(2, frame(unknown, Lane::Snapshot));
    cluster.handle(2, frame(PeerMessage::Alive.encode(GroupId(0)), Lane::Control));
    cluster.settle();
    let complaints = &cluster.host(2).complaints;
    assert!(matches!(complaints[2..], [(NodeId(3), Complaint::TransferFrame(_))]), "{complaints:?}");
    // A second leader in a term is what no correct peer is.
    let term = cluster.host(2).status(GROUP).role_state.term;
    let body = Body::Heartbeat { session: Session(LogIndex::ZERO), round: 1, commit: LogIndex::ZERO };
    let message = PeerMessage::Raft { message: Message { term, body }, payloads: Vec::new() };
    cluster.handle(2, frame(message.encode(GROUP), Lane::Control));
    cluster.settle();
    assert!(matches!(cluster.host(2).complaints[3..], [(NodeId(3), Complaint::Message(_))]));
    assert_eq!(cluster.host(2).status(GROUP).role_state.leader, Some(NodeId(1)));
}

#[test]
fn what_a_leader_said_before_its_connection_broke_is_not_taken_for_a_sign_of_life() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    let status = cluster.host(2).status(GROUP).clone();
    let round = 1000;
    let body = Body::Heartbeat { session: Session(LogIndex::ZERO), round, commit: status.commit };
    let term = status.role_state.term;
    let late = PeerMessage::Raft { message: Message { term, body }, payloads: Vec::new() };
    cluster.disconnect(1, 2);
    cluster.host(2).sent.clear();
    cluster.handle(2, Input::Frame { from: NodeId(1), lane: Lane::Control, bytes: late.clone().encode(GROUP) });
    cluster.settle();
    let answers = cluster.host(2).sent.iter().filter(|(to, _)| *to == NodeId(1)).count();
    assert_eq!(answers, 0, "it is dropped");
    cluster.connect(1, 2);
    cluster.handle(2, Input::Frame { from: NodeId(1), lane: Lane::Control, bytes: late.encode(GROUP) });
    cluster.settle();
    assert_ne!(cluster.host(2).sent.iter().filter(|(to, _)| *to == NodeId(1)).count(), 0);
}
