//! What a state machine is given, and what follows if it is slow or stops.

use std::sync::Arc;
use std::time::Duration;

use vlot_node::act::{Act, GroupEvent};
use vlot_node::input::Input;
use vlot_node::machine::Fence;
use vlot_raft::effect::{Event, RoleName};
use vlot_raft::id::{GroupId, LogId};

use crate::harness::{Cluster, ELECTION_TIMEOUT, GROUP, HEARTBEAT, Setup};

#[test]
fn a_read_is_answered_only_when_applied_and_not_when_handed_over() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    for n in [1, 2] {
        cluster.host(n).held.applies = true;
        let proposal = cluster.propose(1, GROUP, "before");
        cluster.settle();
        let read = cluster.read(n, GROUP);
        cluster.run(HEARTBEAT);
        assert!(cluster.host(n).status(GROUP).applying_bytes > 0, "it is handed over");
        assert_eq!(cluster.host(n).fate(read), [""; 0], "and not applied");
        cluster.release(n);
        assert_eq!(cluster.host(n).fate(read), ["ready"]);
        assert_eq!(cluster.host(1).fate(proposal), ["applied"]);
        assert!(cluster.host(n).words(GROUP).contains(&"before".to_owned()));
    }
}

#[test]
fn proposals_are_busy_beyond_the_bound_of_bytes_and_taken_again_below_it() {
    let mut cluster = Cluster::led_by(1, &Setup { apply_bytes_max: 1000, ..Setup::default() });
    cluster.host(1).held.applies = true;
    let word = "x".repeat(300);
    let mut taken = Vec::new();
    let busy = loop {
        let sequence = cluster.propose(1, GROUP, &word);
        cluster.settle();
        if !cluster.host(1).fate(sequence).is_empty() {
            break sequence;
        }
        taken.push(sequence);
        assert!(taken.len() < 10, "there is a bound");
    };
    assert_eq!(cluster.host(1).fate(busy), ["not proposed: Busy"]);
    let applying = cluster.host(1).status(GROUP).applying_bytes;
    assert!((1000..1500).contains(&applying), "{applying} bytes under way");
    assert_eq!(taken.len(), 3, "an entry takes its header besides");
    // Others are not busy, and what they propose is decided; but no more is handed over here.
    let other = cluster.propose(2, GROUP, &word);
    cluster.run(HEARTBEAT);
    assert_eq!(cluster.host(2).fate(other), ["applied"]);
    assert_eq!(cluster.host(1).status(GROUP).applying_bytes, applying);
    // With one batch done there is room again.
    let now = cluster.now;
    assert!(cluster.host(1).apply_one(now));
    cluster.settle();
    let again = cluster.propose(1, GROUP, "short");
    cluster.settle();
    let busy_yet = cluster.host(1).status(GROUP).applying_bytes >= 1000;
    assert_eq!(cluster.host(1).fate(again).is_empty(), !busy_yet);
    cluster.release(1);
    let last = cluster.propose(1, GROUP, "last");
    cluster.settle();
    assert_eq!(cluster.host(1).fate(last), ["applied"]);
    assert_eq!(cluster.host(1).fate(taken[0]), ["applied"]);
    assert_eq!(cluster.host(1).status(GROUP).applying_bytes, 0);
}

#[test]
fn what_is_urgent_is_taken_however_far_the_state_machine_lags() {
    let mut cluster = Cluster::led_by(1, &Setup { apply_bytes_max: 1000, ..Setup::default() });
    cluster.host(1).held.applies = true;
    let word = "x".repeat(300);
    while cluster.host(1).status(GROUP).applying_bytes < 1000 {
        cluster.propose(1, GROUP, &word);
        cluster.settle();
    }
    let (bulk, urgent) = (cluster.propose(1, GROUP, "bulk"), cluster.propose(1, GROUP, "!urgent"));
    cluster.settle();
    assert_eq!(cluster.host(1).fate(bulk), ["not proposed: Busy"]);
    assert_eq!(cluster.host(1).fate(urgent), [""; 0]);
    // It is decided, and waits behind what was decided before.
    assert!(cluster.host(2).words(GROUP).contains(&"!urgent".to_owned()));
    assert!(cluster.host(1).status(GROUP).applying_bytes < 1500, "no more is handed over");
    cluster.release(1);
    cluster.settle();
    assert_eq!(cluster.host(1).fate(urgent), ["applied"]);
}

#[test]
fn a_batch_under_way_for_an_election_timeout_makes_unfit_and_an_applied_one_fit_again() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    cluster.host(1).held.applies = true;
    cluster.propose(1, GROUP, "slow");
    cluster.run(ELECTION_TIMEOUT - HEARTBEAT);
    assert_eq!(cluster.leader(GROUP), Some(1), "it may take as long as an election timeout");
    cluster.run(3 * HEARTBEAT);
    let is_begun = |event: &GroupEvent| matches!(event, GroupEvent::Consensus(Event::TransferBegun { .. }));
    assert!(cluster.host(1).events.iter().any(|(_, event)| is_begun(event)), "it hands over");
    let leader = cluster.leader(GROUP).expect("one of the others");
    assert_ne!(leader, 1);
    // Nobody hands over to it while it lags behind.
    let sequence = cluster.host(leader).next_sequence();
    cluster.handle(leader, Input::Transfer { group: GROUP, sequence, to: None });
    cluster.run(5 * HEARTBEAT);
    let next = cluster.leader(GROUP).expect("another");
    assert!(next != 1, "n{next} leads");
    cluster.release(1);
    cluster.run(2 * HEARTBEAT);
    cluster.elect(1, GROUP);
    cluster.run(2 * ELECTION_TIMEOUT);
    assert_eq!(cluster.leader(GROUP), Some(1), "it is fit, and stays");
}

#[test]
fn the_oldest_batch_counts_and_a_state_machine_that_goes_on_is_not_late() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    cluster.host(1).held.applies = true;
    cluster.propose(1, GROUP, "first");
    cluster.run(1);
    for n in 0..10 {
        cluster.propose(1, GROUP, &format!("{n}"));
        cluster.run(ELECTION_TIMEOUT / 2);
        let now = cluster.now;
        cluster.host(1).apply_one(now);
        cluster.settle();
        assert_eq!(
            cluster.leader(GROUP),
            Some(1),
            "{n}: each batch takes about an election timeout's half, or a whole"
        );
    }
}

#[test]
fn a_state_machine_that_is_late_is_looked_at_in_time_though_nothing_else_happens() {
    let mut cluster = Cluster::led_by(1, &Setup { nodes: 1, ..Setup::default() });
    cluster.host(1).held.applies = true;
    cluster.propose(1, GROUP, "slow");
    cluster.settle();
    let late = cluster.now + Duration::from_millis(ELECTION_TIMEOUT);
    assert!(cluster.host(1).node.deadline() <= late);
    cluster.run(ELECTION_TIMEOUT + 1);
    assert!(cluster.host(1).node.deadline() > cluster.now, "once it is known, nobody waits for that");
}

#[test]
fn a_fenced_replica_says_why_and_is_given_nothing_more() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    cluster.propose(1, GROUP, "fine");
    cluster.run(HEARTBEAT);
    cluster.host(3).held.applies = true;
    cluster.propose(1, GROUP, "panic");
    cluster.settle();
    let after = cluster.host(1).applied(GROUP);
    // All three apply it; the third has not come to it.
    let fence = cluster.host(1).status(GROUP).fenced.clone().expect("it has stopped");
    let Fence::Panicked { after: said, message } = &*fence else { panic!("{fence}") };
    assert_eq!(*said, after);
    assert!(message.contains("asked to"), "{message}");
    let told: Vec<Arc<Fence>> = cluster.host(1).events.iter().filter_map(fenced).collect();
    assert_eq!(told, [Arc::clone(&fence)], "it is told once");
    assert!(cluster.host(3).status(GROUP).fenced.is_none());
    assert_eq!(cluster.host(1).status(GROUP).applying_bytes, 0);
    let applied = cluster.host(1).status(GROUP).applied;
    // It goes on to take entries, and gives none to its state machine.
    cluster.run(3 * ELECTION_TIMEOUT);
    cluster.propose(3, GROUP, "later");
    for _ in 0..50 {
        for n in [1, 2] {
            let acts = cluster.turn(n);
            assert!(!acts.iter().any(|act| matches!(act, Act::Apply { .. } | Act::TakeSnapshot { .. })), "{acts:?}");
            cluster.carry_out(n, acts);
        }
        cluster.run(20);
    }
    let (status, other) = (cluster.host(1).status(GROUP).clone(), cluster.host(3).status(GROUP).clone());
    assert_eq!(status.applied, applied);
    assert_eq!((status.last, status.commit), (other.last, other.commit), "it votes and acknowledges");
}

fn fenced((_, event): &(GroupId, GroupEvent)) -> Option<Arc<Fence>> {
    if let GroupEvent::Fenced(why) = event { Some(Arc::clone(why)) } else { None }
}

#[test]
fn a_fenced_replica_refuses_proposals_and_reads_with_the_reason() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    cluster.host(2).held.applies = true;
    cluster.settle();
    fail(&mut cluster, 2);
    let (proposal, read) = (cluster.propose(2, GROUP, "x"), cluster.read(2, GROUP));
    cluster.settle();
    assert_eq!(cluster.host(2).fate(proposal), ["not proposed: Fenced"]);
    assert_eq!(cluster.host(2).fate(read), ["not read: Fenced"]);
    let other = cluster.propose(1, GROUP, "y");
    cluster.settle();
    assert_eq!(cluster.host(1).fate(other), ["applied"], "the others go on");
}

#[test]
fn what_waits_for_a_state_machine_that_stops_is_unknown_or_certainly_not_proposed() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    cluster.host(2).held.applies = true;
    let decided = cluster.propose(2, GROUP, "decided");
    cluster.run(HEARTBEAT);
    assert!(cluster.host(2).status(GROUP).applying_bytes > 0);
    let read = cluster.read(2, GROUP);
    cluster.settle();
    cluster.silence(1, 2);
    let sent = cluster.propose(2, GROUP, "sent");
    cluster.settle();
    cluster.disconnect(1, 2);
    cluster.disconnect(2, 3);
    cluster.settle();
    let unsent = cluster.propose(2, GROUP, "unsent");
    cluster.settle();
    fail(&mut cluster, 2);
    let host = cluster.host(2);
    assert_eq!(host.fate(decided), ["unknown"], "it is decided, and will not be applied here");
    assert_eq!(host.fate(sent), ["unknown"], "it may be in a leader's log");
    assert_eq!(host.fate(unsent), ["not proposed: Fenced"]);
    assert_eq!(host.fate(read), ["not read: Fenced"]);
}

#[test]
fn a_fenced_replica_hands_over_and_does_not_lead() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    fail(&mut cluster, 1);
    cluster.run(3 * HEARTBEAT);
    let leader = cluster.leader(GROUP).expect("somebody leads");
    assert_ne!(leader, 1);
    // Of those that are left one has failed: the other leads, with the vote and the acknowledgement of the one that has.
    let gone = if leader == 2 { 2 } else { 3 };
    cluster.disconnect(gone, 1);
    cluster.disconnect(gone, 5 - gone);
    cluster.run(5 * ELECTION_TIMEOUT);
    assert_eq!(cluster.leader_among(&[1, 5 - gone]), Some(5 - gone));
    let proposal = cluster.propose(5 - gone, GROUP, "x");
    cluster.run(HEARTBEAT);
    assert_eq!(cluster.host(5 - gone).fate(proposal), ["applied"]);
    assert_eq!(cluster.host(1).status(GROUP).role_state.role, RoleName::Follower);
}

/// The state machine of one node says that it has failed.
fn fail(cluster: &mut Cluster, n: u64) {
    let why = Fence::UnknownCommand { at: LogId::new(1, 1), why: "a test".to_owned() };
    cluster.handle(n, Input::Failed { group: GROUP, why: why.into() });
    cluster.settle();
}

#[test]
fn what_was_applied_before_a_state_machine_stops_is_known() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    let proposals = [cluster.propose(1, GROUP, "x"), cluster.propose(2, GROUP, "y")];
    cluster.run(HEARTBEAT);
    fail(&mut cluster, 1);
    fail(&mut cluster, 2);
    assert_eq!(cluster.host(1).fate(proposals[0]), ["applied"]);
    assert_eq!(cluster.host(2).fate(proposals[1]), ["applied"]);
}

#[test]
fn what_is_read_from_the_log_for_a_state_machine_that_has_stopped_is_not_applied() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    cluster.propose(1, GROUP, "x");
    cluster.run(HEARTBEAT);
    let recovered = cluster.host(3).disk.recover(GROUP);
    cluster.handle(3, Input::Close { group: GROUP, remove: false });
    cluster.settle();
    cluster.host(3).forget(GROUP);
    let now = cluster.now;
    cluster.host(3).held.reads = true;
    cluster.host(3).begin(now, GROUP, recovered);
    cluster.run(3 * HEARTBEAT);
    fail(&mut cluster, 3);
    cluster.release(3);
    assert_eq!(cluster.host(3).words(GROUP), [""; 0]);
}

#[test]
fn a_replica_fails_once() {
    let mut cluster = Cluster::led_by(1, &Setup { nodes: 1, ..Setup::default() });
    fail(&mut cluster, 1);
    let first = cluster.host(1).status(GROUP).fenced.clone();
    let why = Fence::Panicked { after: LogId::ZERO, message: "again".to_owned() };
    cluster.handle(1, Input::Failed { group: GROUP, why: why.into() });
    cluster.settle();
    assert_eq!(cluster.host(1).status(GROUP).fenced, first);
    assert_eq!(cluster.host(1).events.iter().filter_map(fenced).count(), 1);
}
