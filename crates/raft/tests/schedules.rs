//! Random schedules: loss, repetition, reordering, slow disks, crashes, cut links; members that come and go, logs that are
//! cut short, snapshots that come late, hand-over, leases; every property after every step.
//!
//! Safety is checked by the harness. At the end of each schedule the faults stop, and the group must get to work again:
//! one leader, no change half done, and whatever it takes committed on every member. A failing seed is run once more with
//! its transcript on.

mod harness;

use std::ops::{AddAssign, Range};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use harness::cluster::{Cluster, Habits, Seen};
use harness::schedule::{Kind, Reached, Schedule};
use vlot_raft::effect::Input;
use vlot_raft::id::{LogIndex, NodeId};

#[test]
fn three_nodes_stay_sound_and_recover() {
    run_seeds(Kind { nodes: 3, ..Kind::default() }, seeds(80), |seen| [seen.cuts, seen.lost_writes]);
}

#[test]
fn five_nodes_stay_sound_and_recover() {
    run_seeds(Kind { nodes: 5, ..Kind::default() }, seeds(30), |seen| [seen.cuts, seen.lost_writes]);
}

#[test]
fn two_nodes_stay_sound_and_recover() {
    run_seeds(Kind { nodes: 2, ..Kind::default() }, seeds(30), |seen| [seen.lost_writes]);
}

#[test]
fn leaders_that_fall_take_nothing_along() {
    let kind = Kind { nodes: 3, leaders_fall: true, ..Kind::default() };
    run_seeds(kind, seeds(120), |seen| [seen.cuts, seen.lost_writes]);
}

#[test]
fn members_come_and_go() {
    run_seeds(Kind { nodes: 3, others: 3, ..Kind::default() }, seeds(80), |seen| {
        [seen.joint, seen.undone, seen.installs, seen.compactions, seen.transfers, seen.removals]
    });
}

#[test]
fn members_come_and_go_while_leaders_fall() {
    let kind = Kind { nodes: 3, others: 2, leaders_fall: true, ..Kind::default() };
    run_seeds(kind, seeds(60), |seen| [seen.joint, seen.undone]);
}

#[test]
fn a_member_loses_its_disk_and_comes_back() {
    let kind = Kind { nodes: 4, comes_and_goes: Some(4), ..Kind::default() };
    run_seeds(kind, seeds(40), |seen| [seen.joint, seen.removals, seen.returns]);
}

#[test]
fn idle_groups_sleep_and_wake() {
    run_seeds(Kind { nodes: 3, sleeps: true, ..Kind::default() }, seeds(80), |seen| {
        [seen.sleeps, seen.bereaved, seen.cuts]
    });
}

#[test]
fn groups_whose_members_come_and_go_sleep_and_wake() {
    let kind = Kind { nodes: 3, others: 2, sleeps: true, ..Kind::default() };
    run_seeds(kind, seeds(60), |seen| [seen.sleeps, seen.bereaved, seen.joint, seen.removals]);
}

#[test]
fn no_lease_outlives_its_promise() {
    run_seeds(Kind { nodes: 3, leases: true, ..Kind::default() }, seeds(60), |seen| [seen.lease_reads, seen.cuts]);
}

/// A process starts again while all sleep. In whatever order it is back and the hosts of the others report what became of
/// their connections, there is a leader soon, and all sleep again.
#[test]
fn whatever_comes_first_after_a_restart_the_group_goes_on() {
    const EVENTS: [(&str, Option<u64>); 5] =
        [("starts", None), ("lost", Some(2)), ("lost", Some(3)), ("connected", Some(2)), ("connected", Some(3))];
    for order in orders(EVENTS.len()) {
        for restarts in [1, 2] {
            let mut cluster = Cluster::new(3, Habits { sleep: Some(Duration::from_millis(300)), ..Habits::default() });
            // Node 1 leads, so that 2 and 3 are the others; or it follows one of them.
            cluster.campaign(NodeId(restarts));
            cluster.run(Duration::from_secs(2));
            assert!(cluster.up().iter().all(|&node| cluster.raft(node).is_asleep()));
            let peer = NodeId(1);
            cluster.crash(peer, 0);
            for &event in &order {
                match EVENTS[event] {
                    ("lost", Some(node)) => cluster.act(NodeId(node), Input::Lost { peer }),
                    ("connected", Some(node)) => cluster.act(NodeId(node), Input::Connected { peer }),
                    _ => cluster.start(peer, LogIndex::ZERO),
                }
                cluster.run(Duration::from_millis(40));
            }
            cluster.run(Duration::from_secs(4));
            let told = order.iter().map(|&event| EVENTS[event]).collect::<Vec<_>>();
            assert!(cluster.leader().is_some(), "n{restarts} led: {told:?}");
            cluster.run(Duration::from_secs(2));
            let sleeps = cluster.up().iter().all(|&node| cluster.raft(node).is_asleep());
            assert!(sleeps, "n{restarts} led: {told:?}");
        }
    }
}

/// Every order of so many.
fn orders(count: usize) -> Vec<Vec<usize>> {
    let Some(last) = count.checked_sub(1) else { return vec![Vec::new()] };
    let inserted = |order: &Vec<usize>, at: usize| [&order[..at], &[last], &order[at..]].concat();
    orders(last).iter().flat_map(|order| (0..=last).map(|at| inserted(order, at)).collect::<Vec<_>>()).collect()
}

/// `VLOT_SEEDS` runs more; `VLOT_SEED` runs one.
fn seeds(default: u64) -> Range<u64> {
    let number = |name| std::env::var(name).ok().map(|n| n.parse::<u64>().expect("a number"));
    match number("VLOT_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("VLOT_SEEDS").unwrap_or(default),
    }
}

/// Runs schedules of a kind. What it is `about` must have happened, in a twentieth of them at least.
fn run_seeds<const N: usize>(kind: Kind, seeds: Range<u64>, about: fn(&Seen) -> [usize; N]) {
    let (mut all, count) = (Reached::default(), (seeds.end - seeds.start) as usize);
    for seed in seeds {
        all += catch_unwind(|| Schedule::new(kind, seed, false).run()).unwrap_or_else(|_| replay(kind, seed));
    }
    let Reached { commit, reads, seen } = all;
    let shown = format!("{count} schedules, {commit} commits, {reads} reads, {seen:?}");
    if std::env::var_os("VLOT_SHOW").is_some() {
        println!("{kind:?}: {shown}");
    }
    if count >= 10 {
        let done = [commit as usize > 10 * count, reads > count, seen.offices > count];
        assert_eq!(done, [true; 3], "schedules get things done: {shown}");
        assert_eq!(about(&seen).map(|times| 20 * times >= count), [true; N], "and are disturbed: {shown}");
    }
}

fn replay(kind: Kind, seed: u64) -> ! {
    let mut schedule = Schedule::new(kind, seed, true);
    let again = catch_unwind(AssertUnwindSafe(|| schedule.run()));
    assert!(again.is_err(), "the same seed fails again");
    panic!(
        "{kind:?}, seed {seed}, at step {}:\n{}",
        schedule.step,
        schedule.cluster.journal.tail(std::env::var("VLOT_TAIL").map_or(60, |n| n.parse().expect("a number")))
    );
}

impl AddAssign for Reached {
    fn add_assign(&mut self, other: Self) {
        self.commit += other.commit;
        self.reads += other.reads;
        self.seen += other.seen;
    }
}
