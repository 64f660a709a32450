//! The cluster: replicas with their hosts' loop around them, under virtual time.
//!
//! Every input goes through [`Cluster::step`], which carries out the effects and then checks all that must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vlot_raft::configuration::Configuration;
use vlot_raft::effect::{Effect, Effects, Input, RoleName, RoleState};
use vlot_raft::id::{LogId, LogIndex, NodeId};
use vlot_raft::invariants::{self, History, Violation};
use vlot_raft::message::{Message, ReadId};
use vlot_raft::raft::Raft;
use vlot_raft::state::{Config, Restored};
use vlot_raft::time::{Rng, Time};

use super::disk::{Disk, Snapshot};
use super::journal::Journal;
use super::ledger::Ledger;
use super::network::{self, Link, Network, Packet};
use super::notation;

pub const HEARTBEAT: Duration = Duration::from_millis(100);
pub const ELECTION_TIMEOUT: Duration = Duration::from_millis(1000);

/// More than any host has for a peer, or for its disk, in one turn.
pub const MESSAGES_MAX: usize = 1000;

/// One node: a replica while it is up, and its disk always.
#[derive(Default)]
pub struct Node {
    pub(super) raft: Option<Raft>,
    pub disk: Disk,
    pub applied: LogIndex,
    /// The snapshot that it was asked to get: from whom, and how far it must reach.
    pub wanted: Option<(NodeId, LogId)>,
    /// The snapshot that it has got and its replica was told of last.
    pub(super) received: Option<Snapshot>,
    /// The entry that has set the configuration which counts, as far as its host was told.
    pub(super) members_of: LogIndex,
    /// The last entry that it was asked to write.
    pub(super) end: LogIndex,
    pub(super) role_state: RoleState,
    pub(super) lives: u64,
}

/// How hosts behave.
#[derive(Clone)]
pub struct Habits {
    /// Entries in one message, at most.
    pub batch: u64,
    /// Messages with entries under way to one peer, at most.
    pub window: usize,
    /// Bytes under way to one peer, and those of one entry.
    pub window_bytes: u64,
    pub entry_bytes: u64,
    /// Entries that may wait to be committed.
    pub uncommitted: u64,
    pub lease: Option<Duration>,
    /// How long nothing must happen before the group sleeps, if it ever does.
    pub sleep: Option<Duration>,
    /// Whether hosts watch over each other's nodes, as those of sleeping groups must.
    pub watches: bool,
    /// Of nodes that have another than one.
    pub priorities: BTreeMap<NodeId, u8>,
    /// Whether hosts get the snapshots they are asked to get as soon as nothing else is under way.
    pub fetches: bool,
    pub seed: u64,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            batch: 100,
            window: 4,
            window_bytes: u64::MAX,
            entry_bytes: 0,
            uncommitted: 1 << 20,
            lease: None,
            sleep: None,
            watches: false,
            priorities: BTreeMap::new(),
            fetches: false,
            seed: 0,
        }
    }
}

pub struct Cluster {
    pub now: Time,
    pub network: Network,
    pub journal: Journal,
    pub ledger: Ledger,
    pub(super) habits: Habits,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) history: History,
    reads: u64,
    /// Since when nothing can be heard on a link, if hosts watch.
    silent_since: BTreeMap<Link, Time>,
    /// Those silences that were reported, and are not over.
    reported_silent: BTreeSet<Link>,
    /// What has happened, to show that a test meant something.
    pub seen: Seen,
}

/// How often something happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub offices: usize,
    pub cuts: usize,
    pub lost_writes: usize,
    pub refused_reads: usize,
    /// Joint configurations that were appended, and configurations that went with a cut.
    pub joint: usize,
    pub undone: usize,
    pub compactions: usize,
    pub installs: usize,
    pub transfers: usize,
    pub removals: usize,
    /// Nodes that began anew with an empty disk.
    pub returns: usize,
    /// Leaders that could have answered a read without a round, after some step.
    pub lease_reads: usize,
    /// Leaders that fell asleep, and followers who were told in their sleep that their leader is silent.
    pub sleeps: usize,
    pub bereaved: usize,
}

impl std::ops::AddAssign for Seen {
    fn add_assign(&mut self, more: Self) {
        self.offices += more.offices;
        self.cuts += more.cuts;
        self.lost_writes += more.lost_writes;
        self.refused_reads += more.refused_reads;
        self.joint += more.joint;
        self.undone += more.undone;
        self.compactions += more.compactions;
        self.installs += more.installs;
        self.transfers += more.transfers;
        self.removals += more.removals;
        self.returns += more.returns;
        self.lease_reads += more.lease_reads;
        self.sleeps += more.sleeps;
        self.bereaved += more.bereaved;
    }
}

impl Cluster {
    /// Nodes `1..=count`, with empty disks.
    pub fn new(count: u64, habits: Habits) -> Self {
        Self::of(&Configuration::of_voters((1..=count).map(NodeId)), habits)
    }

    /// These members, with empty disks.
    pub fn of(configuration: &Configuration, habits: Habits) -> Self {
        let mut cluster = Self {
            now: Time::default(),
            network: Network::default(),
            journal: Journal::default(),
            ledger: Ledger::default(),
            habits,
            nodes: BTreeMap::new(),
            history: History::default(),
            reads: 0,
            silent_since: BTreeMap::new(),
            reported_silent: BTreeSet::new(),
            seen: Seen::default(),
        };
        for node in configuration.nodes() {
            let disk = Disk::of_member(configuration.clone());
            cluster.nodes.insert(node, Node { disk, ..Node::default() });
        }
        for node in cluster.names() {
            cluster.start(node, LogIndex::ZERO);
        }
        cluster
    }

    /// A node starts with an empty disk and knows of no members. One that was there before has lost everything.
    pub fn join(&mut self, name: NodeId) {
        self.network.lose_all_of(name);
        self.ledger.forget(name);
        let lives = self.nodes.get(&name).map_or(0, |node| node.lives);
        self.seen.returns += usize::from(lives > 0);
        self.nodes.insert(name, Node { lives, ..Node::default() });
        self.start(name, LogIndex::ZERO);
    }

    pub fn names(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    /// The nodes that are up.
    pub fn up(&self) -> Vec<NodeId> {
        self.nodes.iter().filter(|(_, node)| node.raft.is_some()).map(|(&name, _)| name).collect()
    }

    pub fn is_up(&self, node: NodeId) -> bool {
        self.nodes[&node].raft.is_some()
    }

    /// The replica of a node that is up.
    pub fn raft(&self, node: NodeId) -> &Raft {
        self.nodes[&node].raft.as_ref().unwrap_or_else(|| panic!("n{node} is up"))
    }

    pub fn node(&self, node: NodeId) -> &Node {
        &self.nodes[&node]
    }

    pub fn node_mut(&mut self, node: NodeId) -> &mut Node {
        self.nodes.get_mut(&node).unwrap_or_else(|| panic!("n{node} exists"))
    }

    /// Who leads the latest term, of the nodes that are up.
    pub fn leader(&self) -> Option<NodeId> {
        let leads = |node: &NodeId| self.raft(*node).role_state().role == RoleName::Leader;
        self.up().into_iter().filter(leads).max_by_key(|&node| self.raft(node).role_state().term)
    }

    // What the nodes are told.

    /// Gives one input, and lets the host end its turn and an idle disk do its work.
    pub fn act(&mut self, node: NodeId, input: Input) {
        self.step(node, input);
        self.end_turn(node);
        self.work_disk(node);
    }

    /// Gives one input; the turn goes on.
    pub fn step(&mut self, name: NodeId, input: Input) {
        let (now, mut effects) = (self.now, Effects::new());
        self.change(name, |raft| {
            raft.step(now, input, &mut effects);
            effects
        });
    }

    /// The end of a host's turn: entries and commit index go out.
    pub fn end_turn(&mut self, name: NodeId) {
        if !self.is_up(name) {
            return;
        }
        let (batch, entry_bytes) = (self.habits.batch, self.habits.entry_bytes);
        for peer in self.names().into_iter().filter(|&peer| peer != name) {
            let mut sent = 0;
            while let Some((after, last)) = self.raft(name).next_range(peer) {
                sent += 1;
                assert!(sent <= MESSAGES_MAX, "n{name} has something for n{peer} without end");
                let upto = LogIndex(last.0.min(after.0 + batch));
                let bytes = upto.since(after) * entry_bytes;
                self.change(name, |raft| {
                    let mut effects = Effects::new();
                    raft.send_entries(peer, upto, bytes, &mut effects);
                    effects
                });
            }
        }
        self.change(name, |raft| {
            let mut effects = Effects::new();
            raft.end_turn(&mut effects);
            effects
        });
    }

    fn work_disk(&mut self, name: NodeId) {
        let mut writes = 0;
        while self.is_up(name) && !self.nodes[&name].disk.slow && self.persist_one(name) {
            writes += 1;
            assert!(writes <= MESSAGES_MAX, "n{name} has something to write without end");
        }
    }

    /// Makes the oldest waiting write durable and reports it. False if there is none.
    pub fn persist_one(&mut self, name: NodeId) -> bool {
        let disk = &mut self.node_mut(name).disk;
        let is_full = disk.full;
        let Some(write) = (if is_full { disk.pass_one() } else { disk.finish_one() }) else { return false };
        self.journal.line(|| format!("n{name} persisted{}", if is_full { " its vote" } else { "" }));
        self.step(name, if is_full { Input::VotePersisted { write } } else { Input::Persisted { write } });
        self.end_turn(name);
        true
    }

    /// A node's disk has no room for entries any more, or has it again.
    pub fn fill(&mut self, name: NodeId, full: bool) {
        self.node_mut(name).disk.full = full;
        self.act(name, Input::Room { is_there: !full });
    }

    /// Asks for a read, under a name of its own.
    pub fn read(&mut self, node: NodeId) -> ReadId {
        self.reads += 1;
        let read = ReadId(self.reads);
        self.ledger.read_asked(read, LogIndex(self.history.committed().len() as u64));
        self.act(node, Input::Read { read });
        read
    }

    /// What the state machine of a node would write down of itself; none while it is to become a snapshot.
    pub fn snapshot(&self, node: NodeId) -> Option<Snapshot> {
        let (raft, applied) = (self.raft(node), self.nodes[&node].applied);
        let id = LogId { term: raft.log().term_at(applied)?, index: applied };
        Some(Snapshot { id, configuration: raft.configurations().at(applied).clone() })
    }

    /// A node has got a snapshot, durably.
    pub fn receive_snapshot(&mut self, name: NodeId, snapshot: Snapshot) {
        self.journal.line(|| format!("n{name} has {}", notation::snapshot(&snapshot)));
        let committed = self.history.committed().get(snapshot.id.index.prev().0 as usize);
        assert_eq!(committed, Some(&snapshot.id.term), "a snapshot is of what was committed: {snapshot:?}");
        let node = self.node_mut(name);
        node.wanted = None;
        node.received = Some(snapshot.clone());
        let Snapshot { id, configuration } = snapshot;
        self.act(name, Input::SnapshotReceived { id, configuration });
    }

    /// A node gets the snapshot that it wants, from the leader that has told it so or from another member.
    pub fn fetch(&mut self, name: NodeId, from: Option<NodeId>) {
        let wanted = self.nodes[&name].wanted.unwrap_or_else(|| panic!("n{name} next_range a snapshot"));
        let snapshot = self.snapshot(from.unwrap_or(wanted.0));
        self.receive_snapshot(name, snapshot.expect("a state machine that has all before the log"));
    }

    /// Lets a host get the snapshot that it wants, if it can. False if nobody can.
    fn fetch_one(&mut self) -> bool {
        let can = |(&name, node): (&NodeId, &Node)| {
            let (from, reach) = node.wanted?;
            let open = !self.network.is_cut((name, from)) && !self.network.is_cut((from, name));
            (open && node.raft.is_some() && self.is_up(from) && self.nodes[&from].applied >= reach.index)
                .then_some(name)
        };
        let Some(name) = self.nodes.iter().find_map(can) else { return false };
        self.fetch(name, None);
        true
    }

    // What happens around them.

    /// Delivers the message at this place of those under way.
    pub fn deliver(&mut self, at: usize) {
        let packet = self.network.flight.remove(at);
        let Packet { from, to, message } = packet;
        if self.network.is_cut((from, to)) || !self.is_up(to) {
            return self.journal.message(from, "-x", to, &message);
        }
        self.journal.message(from, "->", to, &message);
        self.act(to, Input::Receive { from, message });
    }

    /// Delivers whatever nothing holds up, in order, until nothing is left. No time passes.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            match self.network.next() {
                Some(at) => self.deliver(at),
                None if self.habits.fetches && self.fetch_one() => {}
                None => return,
            }
        }
        panic!("the cluster comes to rest");
    }

    /// Lets time pass; everything that nothing holds up is delivered at once.
    pub fn run(&mut self, wait: Duration) {
        let end = self.now + wait;
        self.watch_nodes();
        self.settle();
        while let Some(next) =
            self.up().into_iter().map(|node| self.raft(node).deadline().min(self.silence_due(node))).min()
            && next <= end
        {
            self.pass_to(next);
            // One that has just fallen asleep may have to hear of a silence that has lasted for long.
            self.watch_nodes();
            for node in self.up() {
                if self.is_up(node) && self.raft(node).deadline() <= self.now {
                    self.act(node, Input::Tick);
                    let due = self.raft(node).deadline();
                    assert!(due > self.now, "n{node} is due at {due:?} again, and its host would never rest");
                }
            }
            self.settle();
        }
        self.pass_to(end);
    }

    /// Time passes and nobody looks at the clock.
    pub fn pass_to(&mut self, moment: Time) {
        if moment > self.now {
            self.now = moment;
            self.journal.time(moment);
            self.watch_nodes();
        }
    }

    /// Hosts report the nodes that were silent for an election timeout to those replicas that sleep.
    fn watch_nodes(&mut self) {
        if !self.habits.watches {
            return;
        }
        let names = self.names();
        for (from, to) in names.iter().flat_map(|&from| names.iter().map(move |&to| (from, to))) {
            if from != to && (!self.is_up(from) || self.network.is_cut((from, to))) {
                self.silent_since.entry((from, to)).or_insert(self.now);
            } else {
                self.silent_since.remove(&(from, to));
                if self.reported_silent.remove(&(from, to)) && self.is_up(to) {
                    self.act(to, Input::Connected { peer: from });
                }
            }
        }
        for node in self.up() {
            while let Some((peer, since)) = self.silent_peer(node)
                && self.now >= since + ELECTION_TIMEOUT
            {
                let follows = self.raft(node).role_state().role == RoleName::Follower;
                self.seen.bereaved += usize::from(follows);
                // Said again after another timeout.
                self.silent_since.insert((peer, node), self.now);
                self.reported_silent.insert((peer, node));
                self.act(node, Input::Silent { peer });
                assert!(!follows || !self.raft(node).is_asleep(), "n{node} sleeps on though n{peer} is silent");
            }
        }
    }

    /// When a host has something to report of a node's silence, if nothing happens before.
    fn silence_due(&self, node: NodeId) -> Time {
        self.silent_peer(node).map_or(Time::NEVER, |(_, since)| since + ELECTION_TIMEOUT)
    }

    /// The node that a sleeping replica must hear of which has been silent for longest, and since when.
    fn silent_peer(&self, node: NodeId) -> Option<(NodeId, Time)> {
        let raft = self.raft(node);
        let matters = |peer| raft.role_state().leader == Some(peer) || raft.peers().any(|other| other == peer);
        let silent = self.silent_since.iter().filter(|((from, to), _)| *to == node && matters(*from));
        silent.map(|((from, _), &since)| (*from, since)).min_by_key(|&(_, since)| since).filter(|_| raft.is_asleep())
    }

    /// A process that has started connects to all others.
    fn connect(&mut self, name: NodeId) {
        for peer in self.up().into_iter().filter(|&peer| peer != name) {
            if !self.network.is_cut((name, peer)) && !self.network.is_cut((peer, name)) {
                self.act(name, Input::Connected { peer });
                self.act(peer, Input::Connected { peer: name });
            }
        }
    }

    /// A node's election timeout ends, and nobody else's does.
    pub fn campaign(&mut self, node: NodeId) {
        self.pass_to(self.raft(node).deadline());
        self.act(node, Input::Tick);
    }

    /// The process dies. Of the writes that nobody was told of, the first `survive` are on the medium.
    pub fn crash(&mut self, name: NodeId, survive: usize) {
        self.network.lose_all_of(name);
        let node = self.node_mut(name);
        (node.raft, node.wanted, node.received) = (None, None, None);
        let lost = node.disk.crash(survive);
        self.seen.lost_writes += lost;
        self.journal.line(|| format!("n{name} crashes, writes lost: {lost}"));
    }

    /// Starts a node from its disk. Its state machine has kept what it applied up to `applied`, and the snapshot with
    /// which its log begins.
    pub fn start(&mut self, name: NodeId, applied: LogIndex) {
        let (now, seed, config) = (self.now, self.habits.seed, self.config(name));
        let node = self.node_mut(name);
        let begin = node.disk.log.after().index;
        assert!(applied <= node.applied.max(begin), "what was not applied was not kept");
        let applied = applied.max(begin);
        node.lives += 1;
        let rng = Rng::new(seed * 1000 + name.0 * 100 + node.lives);
        let Disk { term, vote, log, configurations, .. } = node.disk.clone();
        (node.members_of, node.end) = (configurations.newest_at(), log.last());
        let restored = Restored { term, vote, log, applied, configurations };
        let raft = Raft::new(config, restored, now, rng);
        (node.role_state, node.applied, node.raft) = (raft.role_state(), applied, Some(raft));
        let (line, again) = (notation_of_start(node), node.lives > 1);
        if again {
            self.journal.line(|| format!("n{name} starts {line}"));
        }
        self.check(name, None);
        if self.habits.watches {
            self.connect(name);
        }
    }

    fn config(&self, name: NodeId) -> Config {
        let Habits { window, window_bytes, uncommitted, lease, sleep, .. } = self.habits;
        Config {
            heartbeat: HEARTBEAT,
            election_timeout: ELECTION_TIMEOUT,
            inflight_max: window,
            inflight_bytes_max: window_bytes,
            uncommitted_max: uncommitted,
            priority: self.habits.priorities.get(&name).copied().unwrap_or(1),
            lease,
            sleep_after: sleep,
            ..Config::new(name)
        }
    }

    fn change(&mut self, name: NodeId, change: impl FnOnce(&mut Raft) -> Effects) {
        let Some(raft) = &mut self.node_mut(name).raft else { return };
        let before = raft.clone();
        let effects = change(raft);
        if effects.is_empty() && *raft == before {
            return;
        }
        let (was_asleep, is_asleep) = (before.is_asleep(), self.raft(name).is_asleep());
        if was_asleep && !is_asleep {
            self.journal.line(|| format!("n{name} wakes"));
        }
        for effect in effects {
            self.carry_out(name, effect);
        }
        if is_asleep && !was_asleep {
            self.seen.sleeps += usize::from(self.raft(name).role_state().role == RoleName::Leader);
            self.journal.line(|| format!("n{name} falls asleep"));
        }
        held(invariants::check_step(&before, self.raft(name)));
        self.check(name, Some(&before));
    }

    /// Checks everything that this node's last step, from `before`, can have broken.
    fn check(&mut self, name: NodeId, before: Option<&Raft>) {
        let Some(raft) = &self.nodes[&name].raft else { return };
        held(invariants::check_one(raft));
        held(self.history.check(raft));
        for other in self.nodes.values().filter_map(|node| node.raft.as_ref()).filter(|other| other.node() != name) {
            held(invariants::check_log_matching(raft, other));
            held(invariants::check_sleepers(raft, other));
            held(invariants::check_sleepers(other, raft));
        }
        let disk = &self.nodes[&name].disk;
        if disk.waiting() == 0 {
            let (own, kept) = ((raft.log(), raft.configurations()), (&disk.log, &disk.configurations));
            assert_eq!(own, kept, "n{name}: what it goes by, and what a restart would give it");
        }
        if let Some(before) = before {
            // It decides before it appends, so what it decides in a step counts by the configuration before it.
            self.ledger.decided(self.history.last_committed(), before.configurations().newest());
        }
        let disks: BTreeMap<NodeId, &Disk> = self.nodes.iter().map(|(&name, node)| (name, &node.disk)).collect();
        self.ledger.check_durable(&disks);
        self.ledger.check_electable(&disks);
        self.check_leases();
    }

    /// Nobody who could answer a read without asking would give an answer that is too old (Ongaro §6.4.1).
    fn check_leases(&mut self) {
        if self.habits.lease.is_none() {
            return;
        }
        let committed = self.history.last_committed().index;
        for raft in self.nodes.values().filter_map(|node| node.raft.as_ref()) {
            if raft.role_state().role == RoleName::Leader {
                let (mut raft, mut effects) = (raft.clone(), Effects::new());
                raft.step(self.now, Input::Read { read: ReadId(u64::MAX) }, &mut effects);
                if let Some(Effect::ReadReady { index, .. }) = effects.first() {
                    self.seen.lease_reads += 1;
                    assert!(*index >= committed, "n{}'s lease says {index}, {committed} is committed", raft.node());
                }
            }
        }
    }

    /// Puts words into a node's mouth.
    pub fn forge(&mut self, from: NodeId, to: NodeId, message: Message) {
        network::send(&mut self.network, &mut self.journal, Packet { from, to, message });
    }
}

impl Node {
    /// What its host was last told.
    pub fn role_state(&self) -> RoleState {
        self.role_state
    }
}

fn held(checked: Result<(), Violation>) {
    if let Err(Violation { property, shown_by }) = checked {
        panic!("{property}: {shown_by}");
    }
}

fn notation_of_start(node: &Node) -> String {
    let Disk { term, vote, log, .. } = &node.disk;
    format!("t{term} vote={} log={} applied={}", notation::vote(*vote), notation::log(log), node.applied)
}
