//! A group that is closed, and begins again.

use vlot_node::act::Complaint;
use vlot_node::input::Input;
use vlot_node::machine::Fence;
use vlot_node::members::MemberChange;
use vlot_node::retention;
use vlot_raft::id::{GroupId, LogId, NodeId};

use crate::harness::{Cluster, ELECTION_TIMEOUT, GROUP, HEARTBEAT, Setup};

fn close(cluster: &mut Cluster, n: u64, group: GroupId) {
    cluster.handle(n, Input::Close { group, remove: false });
    cluster.settle();
}

#[test]
fn a_group_that_has_nothing_under_way_is_closed_at_once() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    close(&mut cluster, 3, GROUP);
    assert!(cluster.host(3).closed.contains_key(&GROUP));
    assert_eq!(cluster.host(3).node.groups().count(), 0);
    assert!(cluster.host(3).node.raft(GROUP).is_none());
    let proposal = cluster.propose(1, GROUP, "x");
    cluster.run(HEARTBEAT);
    assert_eq!(cluster.host(1).fate(proposal), ["applied"], "the others go on");
    let complaints = &cluster.host(3).complaints;
    assert!(complaints.contains(&(NodeId(1), Complaint::UnknownGroup(GROUP))), "{complaints:?}");
}

#[test]
fn closing_waits_for_what_is_being_written() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    cluster.host(3).held.writes = true;
    cluster.propose(1, GROUP, "x");
    cluster.settle();
    close(&mut cluster, 3, GROUP);
    assert!(!cluster.host(3).closed.contains_key(&GROUP));
    cluster.release(3);
    assert!(cluster.host(3).closed.contains_key(&GROUP));
}

#[test]
fn closing_waits_for_what_is_being_applied() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    cluster.host(3).held.applies = true;
    cluster.propose(1, GROUP, "x");
    cluster.propose(1, GROUP, "y");
    cluster.run(HEARTBEAT);
    close(&mut cluster, 3, GROUP);
    assert!(!cluster.host(3).closed.contains_key(&GROUP));
    cluster.release(3);
    assert!(cluster.host(3).closed.contains_key(&GROUP));
    assert_eq!(cluster.host(3).words(GROUP), ["x", "y"]);
}

#[test]
fn closing_does_not_wait_for_a_state_machine_that_has_failed() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    cluster.host(3).held.applies = true;
    cluster.propose(1, GROUP, "x");
    cluster.run(HEARTBEAT);
    let why = Fence::Panicked { after: LogId::ZERO, message: String::new() };
    cluster.handle(3, Input::Failed { group: GROUP, why: why.into() });
    close(&mut cluster, 3, GROUP);
    assert!(cluster.host(3).closed.contains_key(&GROUP));
}

#[test]
fn closing_waits_for_what_is_read_from_the_log() {
    let mut cluster = Cluster::led_by(1, &Setup { recent_bytes_max: 0, ..Setup::default() });
    cluster.disconnect(1, 3);
    cluster.propose(1, GROUP, "x");
    cluster.run(HEARTBEAT);
    cluster.propose(1, GROUP, "y");
    cluster.run(HEARTBEAT);
    cluster.host(1).held.reads = true;
    cluster.connect(1, 3);
    cluster.run(3 * HEARTBEAT);
    close(&mut cluster, 1, GROUP);
    assert!(!cluster.host(1).closed.contains_key(&GROUP));
    cluster.release(1);
    assert!(cluster.host(1).closed.contains_key(&GROUP));
}

/// A setup in which a snapshot is due after every few entries.
fn in_memory() -> Setup {
    let retention = retention::Limits { entries: 4, bytes: 1 << 30, entries_kept: 2, bytes_kept: 1 << 30 };
    Setup { is_durable: false, retention, ..Setup::default() }
}

#[test]
fn closing_waits_for_a_snapshot_that_is_being_taken_or_written() {
    for is_taken in [false, true] {
        let mut cluster = Cluster::led_by(1, &in_memory());
        cluster.host(3).held.saves = true;
        for _ in 0..10 {
            cluster.propose(1, GROUP, "x");
            cluster.run(HEARTBEAT);
            cluster.host(3).held.applies = !is_taken;
            let now = cluster.now;
            if !is_taken && !cluster.host(3).takes_snapshot() {
                cluster.host(3).apply_one(now);
            }
        }
        assert_eq!(cluster.host(3).headers.len(), usize::from(is_taken));
        close(&mut cluster, 3, GROUP);
        assert!(!cluster.host(3).closed.contains_key(&GROUP), "{is_taken}");
        cluster.release(3);
        assert!(cluster.host(3).closed.contains_key(&GROUP), "{is_taken}");
    }
}

#[test]
fn closing_does_not_wait_for_a_snapshot_of_a_state_machine_that_has_failed() {
    let mut cluster = Cluster::led_by(1, &in_memory());
    cluster.host(3).held.applies = true;
    for _ in 0..20 {
        cluster.propose(1, GROUP, "x");
        cluster.run(10);
        let now = cluster.now;
        if !cluster.host(3).takes_snapshot() {
            cluster.host(3).apply_one(now);
        }
    }
    assert!(cluster.host(3).takes_snapshot(), "it is asked for one");
    let why = Fence::Panicked { after: LogId::ZERO, message: String::new() };
    cluster.handle(3, Input::Failed { group: GROUP, why: why.into() });
    close(&mut cluster, 3, GROUP);
    assert!(cluster.host(3).closed.contains_key(&GROUP), "it will never give one");
}

#[test]
fn a_group_that_is_being_closed_takes_nothing_more_from_its_peers() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    cluster.host(3).held.writes = true;
    cluster.propose(1, GROUP, "before");
    cluster.settle();
    close(&mut cluster, 3, GROUP);
    let last = cluster.host(3).node.raft(GROUP).expect("it is not closed").log().last();
    cluster.propose(1, GROUP, "after");
    cluster.settle();
    assert_eq!(cluster.host(3).node.raft(GROUP).expect("it is not closed").log().last(), last);
    // What was under way when it was closed is all that it waits for.
    cluster.release(3);
    assert!(cluster.host(3).closed.contains_key(&GROUP));
}

#[test]
fn a_closed_group_goes_on_from_the_state_that_was_given_back() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    cluster.propose(1, GROUP, "before");
    let moved = MemberChange::Move { node: NodeId(2), address: "elsewhere:1".to_owned() };
    cluster.run(ELECTION_TIMEOUT);
    cluster.change(1, GROUP, vec![moved]);
    cluster.run(HEARTBEAT);
    close(&mut cluster, 3, GROUP);
    let state = cluster.host(3).closed.remove(&GROUP).flatten().expect("it stays in the log");
    let on_disk = cluster.host(3).disk.recover(GROUP);
    assert_eq!((state.term, state.vote), (on_disk.term, on_disk.vote));
    assert_eq!(state.runs, on_disk.runs);
    assert_eq!(state.note, on_disk.note);
    let kept = |state: &vlot_log::index::GroupState| -> Vec<_> {
        state.kept.iter().map(|entry| (entry.id, entry.payload.clone())).collect()
    };
    assert!(!state.kept.is_empty());
    assert_eq!(kept(&state), kept(&on_disk));
    cluster.propose(1, GROUP, "meanwhile");
    cluster.run(HEARTBEAT);
    let now = cluster.now;
    cluster.host(3).begin(now, GROUP, state);
    cluster.propose(1, GROUP, "after");
    cluster.run(3 * HEARTBEAT);
    assert_eq!(cluster.host(3).words(GROUP), ["before", "meanwhile", "after"]);
    assert_eq!(cluster.host(3).members[&GROUP].address(NodeId(2)), "elsewhere:1");
}

#[test]
fn what_waits_when_a_group_is_closed_is_answered() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    cluster.host(2).held.applies = true;
    let decided = cluster.propose(2, GROUP, "decided");
    cluster.run(HEARTBEAT);
    cluster.silence(1, 2);
    let (sent, read) = (cluster.propose(2, GROUP, "sent"), cluster.read(2, GROUP));
    cluster.settle();
    cluster.disconnect(1, 2);
    cluster.disconnect(2, 3);
    cluster.settle();
    let unsent = cluster.propose(2, GROUP, "unsent");
    cluster.settle();
    close(&mut cluster, 2, GROUP);
    let later = cluster.propose(2, GROUP, "later");
    cluster.settle();
    let host = cluster.host(2);
    assert_eq!(host.fate(decided), ["unknown"]);
    assert_eq!(host.fate(sent), ["unknown"]);
    assert_eq!(host.fate(unsent), ["not proposed: Closed"]);
    assert_eq!(host.fate(read), ["not read: Closed"]);
    assert_eq!(host.fate(later), ["not proposed: Closed"], "and not that its state machine has failed");
}

#[test]
fn followers_notice_that_a_leader_has_closed_the_group() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    close(&mut cluster, 1, GROUP);
    cluster.run(5 * ELECTION_TIMEOUT);
    assert_ne!(cluster.leader_among(&[2, 3]), None);
}

#[test]
fn a_group_is_closed_that_a_lost_connection_has_made_this_node_lead() {
    let mut cluster = Cluster::led_by(1, &Setup { nodes: 2, ..Setup::default() });
    cluster.run(ELECTION_TIMEOUT);
    cluster.change(1, GROUP, vec![MemberChange::Remove(NodeId(1))]);
    cluster.settle();
    assert_eq!(cluster.host(2).members[&GROUP].iter().count(), 1);
    cluster.disconnect(1, 2);
    cluster.run(3 * ELECTION_TIMEOUT);
    assert_eq!(cluster.leader_among(&[2]), Some(2), "it is the only voter");
    close(&mut cluster, 2, GROUP);
    assert!(cluster.host(2).closed.contains_key(&GROUP), "and its memory is counted right");
}
