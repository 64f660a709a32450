//! Random schedules: loss, repetition, reordering, slow disks, crashes, cut links; every property after every step.
//!
//! Safety is checked by the harness. At the end of each schedule the faults stop, and the group must get to work again:
//! one leader, and whatever it takes committed everywhere. A failing seed is run once more with its transcript on.

mod harness;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use harness::cluster::{Cluster, Habits, Seen};
use harness::dice::Dice;
use vlot_raft::effect::{Input, RoleName};
use vlot_raft::id::{LogIndex, NodeId};

/// What a schedule reached, to show that it was no idle one.
#[derive(Default)]
struct Reached {
    seen: Seen,
    commit: u64,
    reads: usize,
}

/// What kind of schedule.
#[derive(Clone, Copy, Debug)]
struct Kind {
    nodes: u64,
    /// Whether leaders fall as soon as they have risen, and leave entries behind that nobody has committed: what figure 8
    /// is about.
    leaders_fall: bool,
}

#[test]
fn three_nodes_stay_sound_and_recover() {
    run_seeds(Kind { nodes: 3, leaders_fall: false }, seeds(150));
}

#[test]
fn five_nodes_stay_sound_and_recover() {
    run_seeds(Kind { nodes: 5, leaders_fall: false }, seeds(80));
}

#[test]
fn two_nodes_stay_sound_and_recover() {
    run_seeds(Kind { nodes: 2, leaders_fall: false }, seeds(30));
}

#[test]
fn leaders_that_fall_take_nothing_along() {
    run_seeds(Kind { nodes: 3, leaders_fall: true }, seeds(200));
}

/// `VLOT_SEEDS` runs more; `VLOT_SEED` runs one.
fn seeds(default: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().map(|n| n.parse::<u64>().expect("a number"));
    match number("VLOT_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("VLOT_SEEDS").unwrap_or(default),
    }
}

fn run_seeds(kind: Kind, seeds: std::ops::Range<u64>) {
    let mut all = Reached::default();
    let count = seeds.end - seeds.start;
    for seed in seeds {
        let reached = catch_unwind(|| Schedule::new(kind, seed, false).run()).unwrap_or_else(|_| replay(kind, seed));
        all.commit += reached.commit;
        all.reads += reached.reads;
        all.seen.offices += reached.seen.offices;
        all.seen.cuts += reached.seen.cuts;
        all.seen.lost_writes += reached.seen.lost_writes;
        all.seen.refused_reads += reached.seen.refused_reads;
    }
    if std::env::var_os("VLOT_SHOW").is_some() {
        println!("{kind:?}: {} commits, {} reads, {:?}", all.commit, all.reads, all.seen);
    }
    if count >= 10 {
        let Seen { offices, cuts, lost_writes, .. } = all.seen;
        let shown = format!("{} commits, {} reads, {:?}", all.commit, all.reads, all.seen);
        let enough =
            [all.commit > 10 * count, all.reads as u64 > count, offices as u64 > count, 2 * lost_writes as u64 > count];
        assert_eq!(enough, [true; 4], "schedules get things done and are disturbed: {shown}");
        assert!(kind.nodes == 2 || cuts as u64 > count / 4, "logs conflict: {shown}");
    }
}

fn replay(kind: Kind, seed: u64) -> ! {
    let mut schedule = Schedule::new(kind, seed, true);
    let again = catch_unwind(AssertUnwindSafe(|| schedule.run()));
    assert!(again.is_err(), "the same seed fails again");
    panic!("{kind:?}, seed {seed}, at step {}:\n{}", schedule.step, schedule.cluster.journal.tail(60));
}

struct Schedule {
    cluster: Cluster,
    dice: Dice,
    step: usize,
    /// Whether a cut lasts long enough for the others to go on without the node, or is a short disturbance.
    long_cuts: bool,
    /// See [`Kind`].
    leaders_fall: bool,
}

const STEPS: usize = 1200;

impl Schedule {
    fn new(Kind { nodes, leaders_fall }: Kind, seed: u64, journal: bool) -> Self {
        let mut dice = Dice::new(seed * 10 + nodes);
        let (batch, window) = (1 + dice.below(3) as u64, 1 + dice.below(4));
        let habits = Habits { batch: if leaders_fall { 1 } else { batch }, window, seed, ..Habits::default() };
        let long_cuts = dice.one_in(2);
        let mut cluster = Cluster::new(nodes, habits);
        cluster.journal.on = journal;
        Self { cluster, dice, step: 0, long_cuts, leaders_fall }
    }

    fn run(&mut self) -> Reached {
        for step in 0..STEPS {
            self.step = step;
            self.disturb();
        }
        self.recover();
        let commit = self.cluster.names().iter().map(|&node| self.cluster.raft(node).commit().0).max();
        Reached { seen: self.cluster.seen, commit: commit.unwrap_or(0), reads: self.cluster.ledger.reads_answered }
    }

    fn disturb(&mut self) {
        let (names, up) = (self.cluster.names(), self.cluster.up());
        let Some(node) = self.dice.pick(&names) else { return };
        if self.leaders_fall && self.dice.one_in(5) {
            return self.fell_the_leader(node);
        }
        match self.dice.below(100) {
            0..=51 => (0..=self.dice.below(if self.leaders_fall { 2 } else { 6 })).for_each(|_| self.deliver_one()),
            52..=53 => self.drop_one(),
            54..=55 => self.repeat_one(),
            56..=67 => (0..=self.dice.below(3)).for_each(|_| _ = self.cluster.persist_one(node)),
            68..=73 => self.wait(),
            74..=81 => self.propose(&up),
            82..=85 => self.read(&up),
            86..=87 => self.crash_or_start(node),
            88..=90 => self.cut_or_heal(node),
            91..=93 => self.cluster.node_mut(node).disk.slow = !self.dice.one_in(4),
            94..=95 => self.connections(node),
            _ => self.time_out(&up),
        }
    }

    fn deliver_one(&mut self) {
        // Mostly in order; a network that shuffles everything never lets anyone lead.
        let under_way = self.cluster.network.flight.len();
        if under_way > 0 {
            let at = if self.dice.one_in(8) { self.dice.below(under_way) } else { 0 };
            self.cluster.deliver(at);
        }
        // What is under way has a bound, as with any network.
        if under_way > 200 {
            self.cluster.network.flight.truncate(100);
        }
    }

    fn drop_one(&mut self) {
        let under_way = self.cluster.network.flight.len();
        if under_way > 0 {
            self.cluster.network.flight.remove(self.dice.below(under_way));
        }
    }

    fn repeat_one(&mut self) {
        let under_way = self.cluster.network.flight.len();
        if under_way > 0 {
            let copy = self.cluster.network.flight[self.dice.below(under_way)].clone();
            self.cluster.network.flight.push(copy);
        }
    }

    /// Some time passes, and each node looks at its clock or is late to.
    fn wait(&mut self) {
        let wait = Duration::from_millis(self.dice.below(120) as u64);
        self.cluster.pass_to(self.cluster.now + wait);
        for node in self.cluster.up() {
            if !self.dice.one_in(3) {
                self.cluster.act(node, Input::Tick);
            }
        }
    }

    /// One node's deadline is reached, however far it is.
    fn time_out(&mut self, up: &[NodeId]) {
        if let Some(node) = self.dice.pick(up) {
            self.cluster.campaign(node);
        }
    }

    fn propose(&mut self, up: &[NodeId]) {
        let leads = |node: &NodeId| self.cluster.raft(*node).standing().role == RoleName::Leader;
        let leaders: Vec<NodeId> = up.iter().copied().filter(leads).collect();
        if let Some(node) = self.dice.pick(&leaders) {
            let count = 1 + self.dice.below(4) as u64;
            if self.dice.one_in(2) {
                self.cluster.act(node, Input::Propose { count });
            } else {
                // The turn goes on; its end comes with a later input.
                self.cluster.step(node, Input::Propose { count });
            }
        }
    }

    fn read(&mut self, up: &[NodeId]) {
        if let Some(node) = self.dice.pick(up) {
            self.cluster.read(node);
        }
    }

    fn crash_or_start(&mut self, node: NodeId) {
        if self.cluster.is_up(node) {
            let waiting = self.cluster.node(node).disk.waiting();
            self.cluster.crash(node, self.dice.below(waiting + 1));
        } else {
            self.start(node);
        }
    }

    /// The leader's process dies and is soon back; the others have noticed.
    fn fell_the_leader(&mut self, node: NodeId) {
        if !self.cluster.is_up(node) {
            return self.start(node);
        }
        if let Some(leader) = self.cluster.leader()
            && self.cluster.raft(leader).commit() < self.cluster.raft(leader).log().last()
        {
            self.cluster.crash(leader, 9);
            for peer in self.cluster.up() {
                self.cluster.act(peer, Input::Lost { peer: leader });
            }
        }
    }

    fn start(&mut self, node: NodeId) {
        let applied = self.cluster.node(node).applied.0;
        self.cluster.start(node, LogIndex(self.dice.below(applied as usize + 1) as u64));
    }

    fn cut_or_heal(&mut self, node: NodeId) {
        let names = self.cluster.names();
        let heals = if self.long_cuts { self.dice.one_in(5) } else { !self.dice.one_in(3) };
        if heals {
            return self.cluster.network.cut.clear();
        }
        if self.dice.one_in(3) {
            let Some(peer) = self.dice.pick(&names) else { return };
            self.cluster.network.cut.insert((node, peer));
        } else {
            for peer in names {
                self.cluster.network.cut.extend([(node, peer), (peer, node)]);
            }
        }
    }

    /// A node is told of a connection that came or went, rightly or not: safety does not depend on it.
    fn connections(&mut self, node: NodeId) {
        let names = self.cluster.names();
        if let Some(peer) = self.dice.pick(&names)
            && peer != node
            && self.cluster.is_up(node)
        {
            let input = if self.dice.one_in(2) { Input::Lost { peer } } else { Input::Connected { peer } };
            self.cluster.act(node, input);
        }
    }

    /// The faults end. What was under way arrives late and out of order; then the group must work.
    fn recover(&mut self) {
        self.cluster.network.cut.clear();
        for node in self.cluster.names() {
            self.cluster.node_mut(node).disk.slow = false;
            if !self.cluster.is_up(node) {
                self.start(node);
            }
            while self.cluster.persist_one(node) {}
            self.cluster.end_turn(node);
        }
        while !self.cluster.network.flight.is_empty() {
            let at = self.dice.below(self.cluster.network.flight.len());
            self.cluster.deliver(at);
        }
        self.cluster.run(Duration::from_secs(6));
        let leader = self.cluster.leader().expect("a leader within six seconds");
        self.cluster.act(leader, Input::Propose { count: 7 });
        let read = self.cluster.ledger.reads_answered;
        for node in self.cluster.names() {
            self.cluster.read(node);
        }
        self.cluster.run(Duration::from_millis(500));
        assert_eq!(self.cluster.leader(), Some(leader), "the leader stays");
        assert_eq!(self.cluster.ledger.reads_answered - read, self.cluster.names().len(), "all reads are answered");
        let log = self.cluster.raft(leader).log().clone();
        for node in self.cluster.names() {
            let raft = self.cluster.raft(node);
            assert_eq!((raft.log(), raft.commit()), (&log, log.last()), "n{node} has what n{leader} took");
            assert_eq!(self.cluster.node(node).applied, log.last(), "n{node} applies it");
        }
    }
}
