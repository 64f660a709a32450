//! What a turn gives, and in which order.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use vlot_node::Lane;
use vlot_node::act::{Act, Answer};
use vlot_node::input::Input;
use vlot_node::members::MemberChange;
use vlot_node::replica::{Limits, Purpose};
use vlot_node::wire::PeerMessage;
use vlot_raft::id::{GroupId, LogId, NodeId};
use vlot_raft::time::Time;

use crate::harness::{Cluster, ELECTION_TIMEOUT, GROUP, HEARTBEAT, Setup};

/// Where an act stands in a turn.
fn rank(act: &Act) -> u8 {
    match act {
        Act::Write { .. } => 0,
        Act::Send { .. } => 1,
        Act::ReadLog { .. } => 2,
        _ => 3,
    }
}

fn names(acts: &[Act]) -> Vec<String> {
    let name = |act: &Act| format!("{act:?}").chars().take_while(|c| c.is_alphanumeric()).collect();
    acts.iter().map(name).collect()
}

#[test]
fn writes_come_before_frames_and_reads_of_the_log_and_all_of_them_before_what_is_applied() {
    // So little is kept in memory that whoever lags behind is served from the log.
    let limits = Limits { message_bytes_max: 100, replay_bytes_max: 100, ..Limits::default() };
    let mut cluster = Cluster::led_by(1, &Setup { recent_bytes_max: 0, limits, ..Setup::default() });
    cluster.disconnect(1, 3);
    cluster.run(HEARTBEAT);
    for n in 0..20 {
        cluster.propose(1, GROUP, &format!("{n}"));
        cluster.run(10);
    }
    cluster.host(1).held.applies = true;
    cluster.propose(1, GROUP, "decided");
    cluster.host(1).held.writes = true;
    cluster.settle();
    cluster.connect(1, 3);
    cluster.settle();
    // What is written, what peers have taken, and a new proposal come in one turn, while the third asks for its entries.
    let mut seen = [false; 4];
    for n in 0..20 {
        cluster.propose(1, GROUP, &format!("more {n}"));
        let acts = cluster.turn(1);
        let ranks: Vec<u8> = acts.iter().map(rank).collect();
        assert!(ranks.is_sorted(), "{:?}", names(&acts));
        ranks.iter().for_each(|rank| seen[usize::from(*rank)] = true);
        cluster.carry_out(1, acts);
        cluster.release(1);
        cluster.host(1).held.writes = true;
    }
    assert!(seen[0] && seen[1] && seen[3], "{seen:?}");
}

#[test]
fn the_log_is_read_after_what_the_same_turn_writes() {
    let mut cluster = Cluster::led_by(1, &Setup { recent_bytes_max: 0, ..Setup::default() });
    cluster.disconnect(1, 3);
    for n in 0..5 {
        cluster.propose(1, GROUP, &format!("{n}"));
        cluster.run(10);
    }
    cluster.host(1).held.reads = true;
    cluster.connect(1, 3);
    let mut is_seen = false;
    for n in 0..50 {
        cluster.propose(1, GROUP, &format!("more {n}"));
        let acts = cluster.turn(1);
        let at = |name: &str| names(&acts).iter().position(|act| act == name);
        if let (Some(write), Some(read), Some(send)) = (at("Write"), at("ReadLog"), at("Send")) {
            assert!(write < send && send < read, "{:?}", names(&acts));
            is_seen = true;
        }
        cluster.carry_out(1, acts);
        cluster.run(10);
    }
    assert!(is_seen, "no turn has written, sent and read");
    cluster.release(1);
    cluster.run(ELECTION_TIMEOUT);
    assert_eq!(cluster.host(3).words(GROUP).len(), 55, "and what was read brings the third up to the others");
}

#[test]
fn what_several_groups_write_in_one_turn_is_one_batch() {
    let mut cluster = Cluster::new(&Setup { nodes: 1, groups: 5, ..Setup::default() });
    cluster.run(3 * ELECTION_TIMEOUT);
    for group in 1..=5 {
        cluster.propose(1, GroupId(group), "x");
    }
    let acts = cluster.turn(1);
    let writes: Vec<usize> = acts
        .iter()
        .filter_map(|act| if let Act::Write { writes, .. } = act { Some(writes.len()) } else { None })
        .collect();
    assert_eq!(writes, [5]);
    cluster.carry_out(1, acts);
    cluster.settle();
    (1..=5).for_each(|group| assert_eq!(cluster.host(1).words(GroupId(group)), ["x"]));
}

#[test]
fn batches_are_numbered_only_if_something_is_written() {
    let mut cluster = Cluster::led_by(1, &Setup { nodes: 1, ..Setup::default() });
    let mut batches = Vec::new();
    for n in 0..3 {
        assert_eq!(names(&cluster.turn(1)), [""; 0], "nothing has happened");
        cluster.propose(1, GROUP, &format!("{n}"));
        let acts = cluster.turn(1);
        batches
            .extend(acts.iter().find_map(|act| if let Act::Write { batch, .. } = act { Some(batch.0) } else { None }));
        cluster.carry_out(1, acts);
        cluster.settle();
    }
    assert_eq!(batches, [batches[0], batches[0] + 1, batches[0] + 2]);
}

#[test]
fn a_batch_that_is_durable_makes_all_before_it_durable() {
    let mut cluster = Cluster::led_by(1, &Setup { nodes: 1, ..Setup::default() });
    cluster.host(1).held.writes = true;
    let mut last = None;
    for word in ["a", "b", "c"] {
        cluster.propose(1, GROUP, word);
        let acts = cluster.turn(1);
        last =
            acts.iter().find_map(|act| if let Act::Write { batch, .. } = act { Some(*batch) } else { None }).or(last);
        cluster.carry_out(1, acts);
    }
    assert_eq!(cluster.host(1).words(GROUP), [""; 0]);
    let batch = last.expect("three were written");
    cluster.handle(1, Input::Written { batch });
    cluster.settle();
    assert_eq!(cluster.host(1).words(GROUP), ["a", "b", "c"]);
}

#[test]
fn votes_count_as_durable_though_entries_before_them_wait_for_room() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    let last = |cluster: &mut Cluster| cluster.host(3).node.raft(GROUP).map(|raft| (raft.log().last(), raft.durable()));
    cluster.host(3).fill_disk();
    for n in 0..3 {
        cluster.propose(1, GROUP, &format!("{n}"));
        cluster.run(HEARTBEAT);
    }
    let Some((end, durable)) = last(&mut cluster) else { panic!("a group of this node") };
    assert_eq!(end.0 - durable.0, 3, "three batches wait");
    // The second is elected by the third, whose entries wait.
    let term = cluster.host(3).status(GROUP).role_state.term;
    cluster.disconnect(1, 2);
    cluster.disconnect(1, 3);
    cluster.run(5 * ELECTION_TIMEOUT);
    assert!(cluster.host(3).status(GROUP).role_state.term > term);
    assert_eq!(cluster.leader_among(&[2]), Some(2));
    assert_eq!(last(&mut cluster).map(|(_, durable)| durable), Some(durable), "entries are not acknowledged by that");
    cluster.handle(3, Input::Close { group: GROUP, remove: false });
    cluster.settle();
    assert!(!cluster.host(3).closed.contains_key(&GROUP), "they are still to be written");
    let now = cluster.now;
    cluster.host(3).room(now, true);
    cluster.settle();
    assert!(cluster.host(3).closed.contains_key(&GROUP), "all of them are written");
}

#[test]
fn a_node_without_groups_waits_for_nothing() {
    let mut cluster = Cluster::new(&Setup { groups: 0, ..Setup::default() });
    cluster.settle();
    assert_eq!(cluster.host(1).node.deadline(), Time::NEVER);
    assert_eq!(cluster.host(1).node.groups().count(), 0);
}

#[test]
fn what_is_about_a_group_that_is_not_here_does_nothing() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    let group = GroupId(9);
    cluster.propose(1, group, "x");
    cluster.read(1, group);
    cluster.handle(1, Input::Applied { group, upto: LogId::new(1, 1), durable: LogId::ZERO });
    cluster.handle(1, Input::Fetched { group, purpose: Purpose::Apply, entries: Vec::new() });
    cluster.handle(1, Input::Close { group, remove: false });
    assert_eq!(names(&cluster.turn(1)), [""; 0]);
}

#[test]
fn turns_of_one_group_cost_the_idle_groups_nothing() {
    let groups = 300;
    let mut cluster = Cluster::new(&Setup { nodes: 1, groups, ..Setup::default() });
    cluster.run(3 * ELECTION_TIMEOUT);
    for n in 0..10 {
        let group = GroupId(1 + n * 7);
        cluster.propose(1, group, "x");
        for _ in 0..10 {
            let acts = cluster.turn(1);
            assert!(acts.iter().all(|act| format!("{act:?}").contains(&format!("GroupId({})", group.0))), "{acts:?}");
            cluster.carry_out(1, acts);
        }
        assert_eq!(cluster.host(1).words(group), ["x"]);
    }
}

#[test]
fn what_is_shown_is_shown_once() {
    let mut cluster = Cluster::led_by(1, &Setup { nodes: 1, ..Setup::default() });
    cluster.read(1, GROUP);
    let acts = cluster.turn(1);
    assert_eq!(names(&acts), ["Answer"], "a read changes nothing that is shown: {acts:?}");
    assert!(matches!(&acts[..], [Act::Answer { answer: Answer::Ready(reads), .. }] if reads.len() == 1));
    cluster.propose(1, GROUP, "x");
    cluster.settle();
    let status = cluster.host(1).status(GROUP).clone();
    assert!(status.is_open);
    assert_eq!((status.last, status.commit, status.applied), (status.last, status.last, status.last));
    assert_eq!(cluster.host(1).applied(GROUP).index, status.applied);
    assert_eq!(status.applying_bytes, 0);
    assert!(cluster.host(1).node.deadline() > cluster.now + Duration::from_millis(1));
}

#[test]
fn a_write_is_followed_by_a_turn_only_where_something_comes_of_it() {
    for nodes in [1, 3] {
        let mut cluster = Cluster::led_by(1, &Setup { nodes, ..Setup::default() });
        cluster.propose(1, GROUP, "x");
        let acts = cluster.turn(1);
        let Some(&Act::Write { batch, .. }) = acts.first() else { panic!("{:?}", names(&acts)) };
        assert!(!cluster.host(1).node.has_work());
        cluster.handle(1, Input::Written { batch });
        assert_eq!(
            cluster.host(1).node.has_work(),
            nodes == 1,
            "of {nodes}: a leader alone decides by it, another waits"
        );
    }
}

#[test]
fn what_peers_in_step_are_sent_is_made_once() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    // What it is sent names another session: it came in later.
    cluster.join(4);
    cluster.change(1, GROUP, vec![MemberChange::AddLearner { node: NodeId(4), address: "n4:1".to_owned() }]);
    cluster.settle();
    cluster.run(HEARTBEAT);
    cluster.propose(1, GROUP, "x");
    let acts = cluster.turn(1);
    let frames = acts.iter().filter_map(|act| match act {
        Act::Send { to, lane: Lane::Entries, frame } => Some((to.0, frame.clone())),
        _ => None,
    });
    let frames: BTreeMap<u64, Bytes> = frames.collect();
    assert_eq!(frames.keys().copied().collect::<Vec<_>>(), [2, 3, 4], "{:?}", names(&acts));
    assert_eq!(frames[&2].as_ptr(), frames[&3].as_ptr());
    let [payloads, other] = [2, 4].map(|peer| match PeerMessage::decode(frames[&peer].clone()) {
        Ok((GROUP, PeerMessage::Raft { payloads, .. })) => payloads,
        message => panic!("{message:?}"),
    });
    assert_eq!((payloads.len(), &payloads), (1, &other));
    assert_ne!(frames[&2], frames[&4]);
}
