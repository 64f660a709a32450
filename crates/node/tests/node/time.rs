//! Replicated time: what a leader tells a state machine that asks for it, and when.

use std::time::Duration;

use vlot_node::replica::RESOLUTION;
use vlot_node::state_machine::TimePassed;
use vlot_raft::time::Time;

use crate::harness::{Cluster, GROUP, Setup};

fn telling() -> Setup {
    Setup { wants_time: true, ..Setup::default() }
}

/// How much has passed at a node's state machine.
fn sum(cluster: &mut Cluster, n: u64) -> Duration {
    cluster.host(n).times(GROUP).iter().map(|(_, passed)| passed.elapsed).sum()
}

fn last(cluster: &mut Cluster, n: u64) -> TimePassed {
    cluster.host(n).times(GROUP).last().expect("time was told").1
}

/// Proposes something, and lets all apply it.
fn word(cluster: &mut Cluster, n: u64, word: &str) {
    cluster.propose(n, GROUP, word);
    cluster.run(20);
}

fn all_are_told_the_same(cluster: &mut Cluster) {
    let times: Vec<_> = (1..=3).map(|n| cluster.host(n).times(GROUP).to_vec()).collect();
    assert!(times.iter().all(|told| *told == times[0]), "{times:?}");
}

#[test]
fn time_goes_in_front_of_a_batch_and_not_of_each() {
    let mut cluster = Cluster::led_by(1, &telling());
    for n in 0..30 {
        word(&mut cluster, 1, &format!("{n}"));
    }
    all_are_told_the_same(&mut cluster);
    let told = cluster.host(1).times(GROUP).to_vec();
    assert!((6..=7).contains(&told.len()), "30 words in 600 ms: {told:?}");
    assert!(told[1..].iter().all(|(_, passed)| passed.elapsed >= RESOLUTION), "{told:?}");
    let unix = last(&mut cluster, 1).unix;
    assert_eq!(unix.as_secs() / 1000, 1, "the wall clock of node 1, which leads: {unix:?}");
    assert_eq!(cluster.host(2).words(GROUP).len(), 30);
}

#[test]
fn a_group_in_which_nothing_is_proposed_is_told_nothing_and_sleeps() {
    let mut cluster = Cluster::led_by(1, &Setup { sleep_after: Some(Duration::from_millis(500)), ..telling() });
    word(&mut cluster, 1, "one");
    cluster.run(3_000);
    let applied = cluster.host(1).applied(GROUP);
    let (sum_before, now) = (sum(&mut cluster, 1), cluster.now);
    cluster.run(60_000);
    assert_eq!(cluster.host(1).applied(GROUP), applied, "nothing is written");
    assert!(cluster.host(1).node.raft(GROUP).unwrap().is_asleep());
    word(&mut cluster, 2, "two");
    all_are_told_the_same(&mut cluster);
    let passed = sum(&mut cluster, 1) - sum_before;
    assert!(passed >= Duration::from_millis(60_000), "the leader was in office all the while: {passed:?}");
    assert!(passed <= cluster.now.since(now) + Duration::from_millis(3_000), "{passed:?}");
}

#[test]
fn a_leader_s_time_in_office_counts_and_nothing_between_two_leaders() {
    let mut cluster = Cluster::led_by(1, &telling());
    let took_office = cluster.now;
    word(&mut cluster, 1, "one");
    cluster.run(1_000);
    word(&mut cluster, 1, "two");
    let told_upto = cluster.now;
    let of_first = sum(&mut cluster, 2);
    assert!(of_first >= Duration::from_millis(1_000) && of_first <= told_upto.since(Time::default()), "{of_first:?}");
    // What the first leader has not told is lost with it.
    cluster.run(500);
    cluster.disconnect(1, 2);
    cluster.disconnect(1, 3);
    cluster.run_until("another leads", |cluster| cluster.leader_among(&[2, 3]).is_some());
    let of_second = cluster.now;
    let leader = cluster.leader_among(&[2, 3]).unwrap();
    cluster.run(2_000);
    word(&mut cluster, leader, "three");
    let passed = sum(&mut cluster, leader) - of_first;
    let in_office = cluster.now.since(of_second);
    assert!(passed >= Duration::from_millis(1_990) && passed <= in_office, "{passed:?} of {in_office:?}");
    assert!(of_first + passed < cluster.now.since(took_office), "nobody has led for a while");
    assert_eq!(last(&mut cluster, leader).unix.as_secs() / 1000, leader, "the wall clock of the node that leads");
    // The first, which comes back, has told others nothing meanwhile.
    cluster.propose(1, GROUP, "lost");
    cluster.connect(1, 2);
    cluster.connect(1, 3);
    cluster.run(3_000);
    all_are_told_the_same(&mut cluster);
}

#[test]
fn a_state_machine_that_does_not_ask_is_told_nothing() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    for n in 0..5 {
        word(&mut cluster, 1, &format!("{n}"));
        cluster.run(1_000);
    }
    assert_eq!(cluster.host(1).times(GROUP), []);
}
