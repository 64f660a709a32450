//! A random schedule: what disturbs a cluster, step by step, and what must be so when the disturbance ends.
//!
//! Safety is checked by the cluster after every step. Here is what strikes it, and the check of its recovery.

use std::collections::BTreeSet;
use std::time::Duration;

use vlot_raft::configuration::Change;
use vlot_raft::effect::{Input, RoleName};
use vlot_raft::id::{LogIndex, NodeId};
use vlot_raft::message::Body;

use super::cluster::{Cluster, Habits, Seen};
use super::dice::Dice;
use super::disk::Snapshot;
use super::network::Packet;

/// What kind of schedule.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kind {
    /// The first members.
    pub nodes: u64,
    /// Nodes that start empty and may be taken in. The last of them becomes a witness, if anything.
    pub others: u64,
    /// Whether leaders fall as soon as they have risen, and leave entries behind that nobody has committed: what figure 8
    /// is about.
    pub leaders_fall: bool,
    /// Whether reads are answered by lease.
    pub leases: bool,
    /// Whether there are times in which nothing happens, and the group falls asleep.
    pub sleeps: bool,
    /// The one node that leaves, loses its disk and comes back, over and over.
    pub comes_and_goes: Option<u64>,
}

/// What a schedule reached, to show that it was no idle one.
#[derive(Default)]
pub struct Reached {
    pub seen: Seen,
    pub commit: u64,
    pub reads: usize,
}

pub struct Schedule {
    pub cluster: Cluster,
    pub step: usize,
    kind: Kind,
    dice: Dice,
    /// Whether a cut lasts long enough for the others to go on without the node, or is a short disturbance.
    long_cuts: bool,
    /// How likely members and logs are disturbed, of a hundred steps.
    weight: usize,
    /// Snapshots that were taken and may come late.
    snapshots: Vec<Snapshot>,
    /// Acknowledgements of the node that comes and goes, which may come very late.
    late: Vec<Packet>,
}

const STEPS: usize = 1200;

impl Schedule {
    pub fn new(kind: Kind, seed: u64, journal: bool) -> Self {
        let mut dice = Dice::new(seed * 10 + kind.nodes + 7 * kind.others);
        let (batch, window) = (1 + dice.below(3) as u64, 1 + dice.below(4));
        let usual = Habits { batch: if kind.leaders_fall { 1 } else { batch }, window, seed, ..Habits::default() };
        let long_cuts = dice.one_in(2);
        let changes = kind.others > 0 || kind.comes_and_goes.is_some();
        let habits = if changes || kind.leases { unusual(usual, kind, &mut dice) } else { usual };
        // Every other run, so that what is not about sleep is tried with it and without it.
        let sleep = (kind.sleeps || seed % 2 == 1).then(|| Duration::from_millis([0, 150, 400][seed as usize / 2 % 3]));
        let habits = Habits { sleep, watches: sleep.is_some(), ..habits };
        let mut cluster = Cluster::new(kind.nodes, habits);
        cluster.journal.on = journal;
        for node in kind.nodes + 1..=kind.nodes + kind.others {
            cluster.join(NodeId(node));
        }
        let weight = if changes { 15 } else { 0 };
        Self { cluster, step: 0, kind, dice, long_cuts, weight, snapshots: Vec::new(), late: Vec::new() }
    }

    pub fn run(&mut self) -> Reached {
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
        if self.kind.leaders_fall && self.dice.one_in(if self.weight > 0 { 12 } else { 5 }) {
            return self.fell_the_leader(node);
        }
        if self.dice.below(100) < self.weight {
            return self.disturb_members(node);
        }
        if self.kind.sleeps && self.dice.one_in(40) {
            return self.peace();
        }
        // A leader that is to see a member leave and come back needs some peace.
        let most = if self.kind.comes_and_goes.is_some() && !self.dice.one_in(4) { 82 } else { 100 };
        match self.dice.below(most) {
            0..=51 => {
                let most = if self.kind.leaders_fall { 2 } else { 6 };
                (0..=self.dice.below(most)).for_each(|_| self.deliver_one());
            }
            52..=53 => self.drop_one(),
            54..=55 => self.repeat_one(),
            56..=67 => (0..=self.dice.below(3)).for_each(|_| _ = self.cluster.persist_one(node)),
            68..=73 => self.wait(),
            74..=81 => self.propose(),
            82..=85 => self.read(&up),
            86..=87 => self.crash_or_start(node),
            88..=90 => self.cut_or_heal(node),
            91 if self.cluster.is_up(node) => {
                let full = !self.cluster.node(node).disk.full && self.dice.one_in(2);
                self.cluster.fill(node, full);
            }
            91..=93 => self.cluster.node_mut(node).disk.slow = !self.dice.one_in(4),
            94..=95 => self.connections(node),
            _ => self.time_out(&up),
        }
    }

    /// Some time without disturbance, at the end of which a leader that has fallen asleep may be lost.
    fn peace(&mut self) {
        self.cluster.run(Duration::from_millis(self.dice.below(3000) as u64));
        let Some(leader) = self.cluster.leader().filter(|&leader| self.cluster.raft(leader).is_asleep()) else {
            return;
        };
        match self.dice.below(6) {
            0 => self.cluster.crash(leader, 0),
            1 => {
                for peer in self.cluster.names() {
                    self.cluster.network.cut.extend([(leader, peer), (peer, leader)]);
                }
            }
            2 => self.cluster.fill(leader, true),
            _ => return,
        }
        self.cluster.run(Duration::from_millis(self.dice.below(3000) as u64));
    }

    /// Members, logs that are cut short from the front, hand-over.
    fn disturb_members(&mut self, node: NodeId) {
        match self.dice.below(10) {
            0..=3 if self.kind.comes_and_goes.is_some() => self.come_and_go(),
            0..=3 => self.change(),
            4 if self.cluster.is_up(node) => {
                let applied = self.cluster.node(node).applied.0;
                let upto = LogIndex(self.dice.below(applied as usize + 2) as u64);
                self.cluster.act(node, Input::Compact { upto });
            }
            5..=7 => self.fetch(node),
            8 => self.transfer(),
            9 if self.cluster.is_up(node) => {
                let fit = !self.dice.one_in(4);
                self.cluster.act(node, Input::Fitness { fit });
            }
            _ => {}
        }
    }

    // Messages.

    fn deliver_one(&mut self) {
        // Mostly in order; a network that shuffles everything never lets anyone lead.
        let under_way = self.cluster.network.flight.len();
        if under_way > 0 {
            let at = if self.dice.one_in(8) { self.dice.below(under_way) } else { 0 };
            self.keep_for_later(at);
            self.cluster.deliver(at);
        }
        // What is under way has a bound, as with any network.
        if under_way > 200 {
            self.cluster.network.flight.truncate(100);
        }
    }

    /// The network may keep a copy of what the node says that comes and goes.
    fn keep_for_later(&mut self, at: usize) {
        let packet = &self.cluster.network.flight[at];
        let acknowledges = matches!(packet.message.body, Body::EntriesAccepted { .. });
        if acknowledges && self.kind.comes_and_goes == Some(packet.from.0) && self.late.len() < 8 {
            self.late.push(packet.clone());
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

    // Time.

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

    /// One node's deadline is reached, however far it is; those who may not stand have none.
    fn time_out(&mut self, up: &[NodeId]) {
        if let Some(node) = self.dice.pick(up)
            && self.cluster.raft(node).deadline() < vlot_raft::time::Time::NEVER
        {
            self.cluster.campaign(node);
        }
    }

    // Hosts.

    fn a_leader(&mut self) -> Option<NodeId> {
        let leads = |node: &NodeId| self.cluster.raft(*node).role_state().role == RoleName::Leader;
        let leaders: Vec<NodeId> = self.cluster.up().into_iter().filter(leads).collect();
        self.dice.pick(&leaders)
    }

    fn propose(&mut self) {
        if let Some(node) = self.a_leader() {
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

    fn change(&mut self) {
        let Some(leader) = self.a_leader() else { return };
        let names = self.cluster.names();
        let witness = NodeId(self.kind.nodes + self.kind.others);
        let wishes = 1 + self.dice.below(3);
        let changes = (0..wishes).filter_map(|_| {
            let node = self.dice.pick(&names)?;
            Some(match self.dice.below(5) {
                0 => Change::Learner(node),
                1 | 2 => Change::Remove(node),
                _ if node == witness => Change::Witness(node),
                _ => Change::Voter(node),
            })
        });
        let changes = changes.collect();
        self.cluster.act(leader, Input::ChangeConfiguration { changes });
    }

    fn transfer(&mut self) {
        let Some(leader) = self.a_leader() else { return };
        let to = if self.dice.one_in(3) { None } else { self.dice.pick(&self.cluster.names()) };
        self.cluster.act(leader, Input::Transfer { to });
    }

    /// A node gets the snapshot that it wants, from anyone who has one, or an old one; or one that it never wanted.
    fn fetch(&mut self, node: NodeId) {
        let from = self.dice.pick(&self.cluster.up());
        if let Some(from) = from.filter(|&from| self.cluster.node(from).applied > LogIndex::ZERO) {
            self.snapshots.extend(self.cluster.snapshot(from));
            if self.snapshots.len() > 6 {
                self.snapshots.remove(self.dice.below(6));
            }
        }
        let next_range = |node: &NodeId| self.cluster.is_up(*node) && self.cluster.node(*node).wanted.is_some();
        let wanting: Vec<NodeId> = self.cluster.names().into_iter().filter(next_range).collect();
        let to = if self.dice.one_in(4) { Some(node) } else { self.dice.pick(&wanting) };
        let newest = if self.dice.one_in(3) { self.dice.below(6) } else { 0 };
        let snapshot = self.snapshots.iter().rev().nth(newest).cloned();
        if let (Some(to), Some(snapshot)) = (to.filter(|&to| self.cluster.is_up(to)), snapshot) {
            self.cluster.receive_snapshot(to, snapshot);
        }
    }

    // Processes, disks, links.

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

    /// The one node that comes and goes does the next thing: it leaves, loses its disk, or comes back. What it said long
    /// ago may arrive.
    fn come_and_go(&mut self) {
        let Some(node) = self.kind.comes_and_goes.map(NodeId) else { return };
        if !self.late.is_empty() && self.dice.one_in(2) {
            let packet = self.late.swap_remove(self.dice.below(self.late.len()));
            return self.cluster.network.flight.push(packet);
        }
        let Some(leader) = self.cluster.leader() else { return };
        if self.nobody_knows(node) && self.cluster.node(node).disk.log.last() > LogIndex::ZERO {
            return self.cluster.join(node);
        }
        let change = match self.cluster.raft(leader).configuration().contains(node) {
            true => Change::Remove(node),
            false if self.dice.one_in(2) => Change::Voter(node),
            false => Change::Learner(node),
        };
        self.cluster.act(leader, Input::ChangeConfiguration { changes: vec![change] });
    }

    /// Whether a node may lose its disk: no member knows a configuration with it in it, nor ever will again unless it is
    /// added anew. Else it would have forgotten votes and entries that count, which Raft cannot survive.
    fn nobody_knows(&self, node: NodeId) -> bool {
        let others = self.cluster.names().into_iter().filter(|&other| other != node);
        let committed = self.cluster.history.last_committed().index;
        others.into_iter().all(|other| {
            let on_disk = &self.cluster.node(other).disk.configurations;
            let in_memory = self.cluster.is_up(other).then(|| self.cluster.raft(other).configurations());
            std::iter::once(on_disk).chain(in_memory).all(|configurations| {
                !configurations.newest().contains(node) && configurations.newest_at() <= committed
            })
        })
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

    // Recovery.

    /// The faults end. What was under way arrives late and out of order; then the group must work.
    fn recover(&mut self) {
        self.cluster.network.cut.clear();
        self.cluster.habits.fetches = true;
        for node in self.cluster.names() {
            self.cluster.node_mut(node).disk.slow = false;
            if !self.cluster.is_up(node) {
                self.start(node);
            }
            self.cluster.act(node, Input::Fitness { fit: true });
            self.cluster.fill(node, false);
            while self.cluster.persist_one(node) {}
            self.cluster.end_turn(node);
        }
        while !self.cluster.network.flight.is_empty() {
            let at = self.dice.below(self.cluster.network.flight.len());
            self.cluster.deliver(at);
        }
        self.cluster.run(Duration::from_secs(if self.weight > 0 { 10 } else { 6 }));
        let leader = self.cluster.leader().expect("a leader within six seconds");
        self.cluster.act(leader, Input::Propose { count: 7 });
        let members: Vec<NodeId> = self.cluster.raft(leader).configuration().nodes().collect();
        let read = self.cluster.ledger.reads_answered;
        for &node in &members {
            self.cluster.read(node);
        }
        self.cluster.run(Duration::from_millis(500));
        assert_eq!(self.cluster.leader(), Some(leader), "the leader stays");
        assert_eq!(self.cluster.ledger.reads_answered - read, members.len(), "all reads are answered");
        self.check_all_have_what_the_leader_has(leader, &members);
        self.check_all_sleep(&members);
    }

    /// Nothing happens any more: all sleep. Then the leader's process dies, and nothing tells but its silence;
    /// the others find another leader, and sleep without it. When it is back all sleep again, with the same log.
    fn check_all_sleep(&mut self, members: &[NodeId]) {
        if self.cluster.habits.sleep.is_none() || self.cluster.habits.lease.is_some() {
            return;
        }
        self.run_until_all_sleep(members);
        let leader = self.cluster.leader().expect("a sleeper has a leader");
        if !self.kind.sleeps || self.cluster.raft(leader).configuration().voters().count() < 3 {
            return;
        }
        self.cluster.crash(leader, 0);
        self.cluster.run(Duration::from_secs(6));
        assert!(self.cluster.leader().is_some(), "a leader within six seconds, though all have slept");
        let left: Vec<NodeId> = members.iter().copied().filter(|&node| node != leader).collect();
        self.run_until_all_sleep(&left);
        self.start(leader);
        self.run_until_all_sleep(members);
        let next = self.cluster.leader().expect("a group that sleeps has a leader");
        self.check_all_have_what_the_leader_has(next, members);
    }

    fn run_until_all_sleep(&mut self, members: &[NodeId]) {
        self.cluster.run(Duration::from_secs(5));
        let awake: Vec<NodeId> = members.iter().copied().filter(|&node| !self.cluster.raft(node).is_asleep()).collect();
        assert_eq!(awake, [], "all sleep when nothing happens");
        assert_eq!(self.cluster.network.flight.len(), 0, "and nothing is said");
    }

    fn check_all_have_what_the_leader_has(&self, leader: NodeId, members: &[NodeId]) {
        let (log, configuration) = (self.cluster.raft(leader).log(), self.cluster.raft(leader).configuration());
        assert!(!configuration.is_joint(), "every change comes to its end: {configuration:?}");
        for &node in members {
            let raft = self.cluster.raft(node);
            assert_eq!(
                (raft.log().last_id(), raft.commit()),
                (log.last_id(), log.last()),
                "n{node} has what n{leader} took"
            );
            assert_eq!(raft.configuration(), configuration, "n{node} knows who belongs to the group");
            assert_eq!(self.cluster.node(node).applied, log.last(), "n{node} applies it");
        }
        let strangers: BTreeSet<NodeId> =
            self.cluster.up().into_iter().filter(|node| !members.contains(node)).collect();
        for node in strangers {
            let role = self.cluster.raft(node).role_state().role;
            assert!(role == RoleName::Follower, "n{node}, which is no member, is {role:?}");
        }
    }
}

/// Hosts that are not alike, for schedules in which that matters.
fn unusual(usual: Habits, kind: Kind, dice: &mut Dice) -> Habits {
    let lease = (kind.leases || dice.one_in(4)).then(|| Duration::from_millis([900, 500][dice.below(2)]));
    let all = kind.nodes + kind.others;
    let mut priorities = std::collections::BTreeMap::new();
    if dice.one_in(3) {
        priorities.insert(NodeId(1 + dice.below(all as usize) as u64), [0, 5][dice.below(2)]);
    }
    let uncommitted = if dice.one_in(4) { 5 } else { usual.uncommitted };
    let (entry_bytes, window_bytes) = if dice.one_in(3) { (10, 35) } else { (0, u64::MAX) };
    Habits { lease, priorities, uncommitted, entry_bytes, window_bytes, ..usual }
}
