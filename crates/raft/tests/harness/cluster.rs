//! The cluster: replicas with their hosts' loop around them, under virtual time.
//!
//! Every input goes through [`Cluster::step`], which carries out the effects and then checks all that must hold.

use std::collections::BTreeMap;
use std::time::Duration;

use vlot_raft::effect::{Effect, Effects, Event, Input, RoleName, Standing};
use vlot_raft::id::{LogId, LogIndex, NodeId};
use vlot_raft::invariants::{self, History, Violation};
use vlot_raft::membership::{Membership, Memberships};
use vlot_raft::message::{Message, ReadId};
use vlot_raft::raft::Raft;
use vlot_raft::state::{Config, Restored};
use vlot_raft::time::{Chance, Time};

use super::disk::{Disk, Write};
use super::journal::Journal;
use super::ledger::Ledger;
use super::network::{Network, Packet};
use super::notation;

pub const HEARTBEAT: Duration = Duration::from_millis(100);
pub const ELECTION_TIMEOUT: Duration = Duration::from_millis(1000);

/// One node: a replica while it is up, and its disk always.
pub struct Node {
    raft: Option<Raft>,
    pub disk: Disk,
    pub applied: LogIndex,
    standing: Standing,
    lives: u64,
}

/// How hosts behave.
#[derive(Clone, Copy)]
pub struct Habits {
    /// Entries in one message, at most.
    pub batch: u64,
    /// Messages with entries under way to one peer, at most.
    pub window: usize,
    pub seed: u64,
}

impl Default for Habits {
    fn default() -> Self {
        Self { batch: 100, window: 4, seed: 0 }
    }
}

pub struct Cluster {
    pub now: Time,
    pub network: Network,
    pub journal: Journal,
    pub ledger: Ledger,
    habits: Habits,
    nodes: BTreeMap<NodeId, Node>,
    history: History,
    reads: u64,
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
}

impl Cluster {
    /// Nodes `1..=count`, with empty disks.
    pub fn new(count: u64, habits: Habits) -> Self {
        let mut cluster = Self {
            now: Time::default(),
            network: Network::default(),
            journal: Journal::default(),
            ledger: Ledger::default(),
            habits,
            nodes: BTreeMap::new(),
            history: History::default(),
            reads: 0,
            seen: Seen::default(),
        };
        for node in (1..=count).map(NodeId) {
            let (disk, standing) = (Disk::default(), Standing::default());
            let applied = LogIndex::ZERO;
            cluster.nodes.insert(node, Node { raft: None, disk, applied, standing, lives: 0 });
        }
        for node in cluster.names() {
            cluster.start(node, LogIndex::ZERO);
        }
        cluster
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
        let leads = |node: &NodeId| self.raft(*node).standing().role == RoleName::Leader;
        self.up().into_iter().filter(leads).max_by_key(|&node| self.raft(node).standing().term)
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
        let batch = self.habits.batch;
        for peer in self.names().into_iter().filter(|&peer| peer != name) {
            while let Some((after, last)) = self.raft(name).wants(peer) {
                let upto = LogIndex(last.0.min(after.0 + batch));
                self.change(name, |raft| {
                    let mut effects = Effects::new();
                    raft.send_entries(peer, upto, 0, &mut effects);
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
        while self.is_up(name) && !self.nodes[&name].disk.slow && self.persist_one(name) {}
    }

    /// Makes the oldest waiting write durable and reports it. False if there is none.
    pub fn persist_one(&mut self, name: NodeId) -> bool {
        let Some(write) = self.node_mut(name).disk.finish_one() else { return false };
        self.journal.line(|| format!("n{name} persisted"));
        self.step(name, Input::Persisted { write });
        self.end_turn(name);
        true
    }

    /// Asks for a read, under a name of its own.
    pub fn read(&mut self, node: NodeId) -> ReadId {
        self.reads += 1;
        let read = ReadId(self.reads);
        self.ledger.read_asked(read, LogIndex(self.history.committed().len() as u64));
        self.act(node, Input::Read { read });
        read
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
        for _ in 0..100_000 {
            let Some(at) = self.network.next() else { return };
            self.deliver(at);
        }
        panic!("the cluster comes to rest");
    }

    /// Lets time pass; everything that nothing holds up is delivered at once.
    pub fn run(&mut self, wait: Duration) {
        let end = self.now + wait;
        self.settle();
        while let Some(next) = self.up().into_iter().map(|node| self.raft(node).deadline()).min()
            && next <= end
        {
            self.pass_to(next);
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
        node.raft = None;
        let lost = node.disk.crash(survive);
        self.seen.lost_writes += lost;
        self.journal.line(|| format!("n{name} crashes, writes lost: {lost}"));
    }

    /// Starts a node from its disk. Its state machine has kept what it applied up to `applied`.
    pub fn start(&mut self, name: NodeId, applied: LogIndex) {
        let (now, seed) = (self.now, self.habits.seed);
        let memberships = Memberships::begin(Membership::of_voters(self.names()));
        let config = Config {
            heartbeat: HEARTBEAT,
            election_timeout: ELECTION_TIMEOUT,
            inflight_max: self.habits.window,
            ..Config::new(name)
        };
        let node = self.node_mut(name);
        assert!(applied <= node.applied, "what was not applied was not kept");
        node.lives += 1;
        let chance = Chance::new(seed * 1000 + name.0 * 100 + node.lives);
        let Disk { term, vote, log, .. } = node.disk.clone();
        let restored = Restored { term, vote, log, applied, memberships };
        let raft = Raft::new(config, restored, now, chance);
        (node.standing, node.applied, node.raft) = (raft.standing(), applied, Some(raft));
        let (line, again) = (notation_of_start(node), node.lives > 1);
        if again {
            self.journal.line(|| format!("n{name} starts {line}"));
        }
        self.check(name);
    }

    fn change(&mut self, name: NodeId, change: impl FnOnce(&mut Raft) -> Effects) {
        let Some(raft) = &mut self.node_mut(name).raft else { return };
        let before = raft.clone();
        let effects = change(raft);
        if effects.is_empty() && *raft == before {
            return;
        }
        for effect in effects {
            self.carry_out(name, effect);
        }
        held(invariants::check_step(&before, self.raft(name)));
        self.check(name);
    }

    fn carry_out(&mut self, name: NodeId, effect: Effect) {
        let Self { journal, ledger, network, nodes, seen, .. } = self;
        let Some(node) = nodes.get_mut(&name) else { return };
        match effect {
            Effect::SaveVote { write, term, vote } => {
                journal.line(|| format!("n{name} save t{term} vote={}", notation::vote(vote)));
                node.disk.ask(write, Write::Vote { term, vote });
            }
            Effect::Append { write, entries, .. } => {
                let cut = node.standing.role != RoleName::Leader && overwrites(&node.disk, &entries);
                seen.cuts += usize::from(cut);
                let cut = if cut { format!("cut after {}, ", entries.after()) } else { String::new() };
                journal.line(|| format!("n{name} {cut}append {}", notation::stretch(&entries)));
                node.disk.ask(write, Write::Append(entries));
            }
            Effect::Send(envelope) => {
                let (to, message) = (envelope.to, envelope.message);
                ledger.sent(name, to, &message, &node.disk);
                send(network, journal, Packet { from: name, to, message });
            }
            Effect::Commit { upto } => {
                Ledger::may_apply(name, upto, &node.disk);
                assert!(upto > node.applied || node.lives > 1, "n{name} is told of {upto} twice");
                node.applied = upto;
                journal.line(|| format!("n{name} commit {upto}"));
            }
            Effect::ReadReady { read, index } => {
                journal.line(|| format!("n{name} read r{} at {index}", read.0));
                ledger.read_answered(read, index);
            }
            Effect::ReadRefused { read } => {
                seen.refused_reads += 1;
                journal.line(|| format!("n{name} read r{} refused", read.0));
            }
            Effect::ProposalRefused { why } => {
                journal.line(|| format!("n{name} refuses the proposal: {}", notation::proposal_refused(why)));
            }
            Effect::ChangeRefused { why } => journal.line(|| format!("n{name} refuses the change: {why:?}")),
            Effect::TransferRefused { why } => journal.line(|| format!("n{name} refuses to hand over: {why:?}")),
            Effect::Happened(event) => {
                if !matches!(event, Event::HeardLate { .. } | Event::DiskStalled | Event::DiskRecovered) {
                    journal.line(|| format!("n{name} {event:?}"));
                }
            }
            Effect::Compact { .. } | Effect::InstallSnapshot { .. } | Effect::FetchSnapshot { .. } => {
                panic!("no snapshots in this harness")
            }
            Effect::Became(standing) => {
                let [was, is] = [node.standing, standing].map(notation::standing);
                journal.line(|| format!("n{name} {was} => {is}"));
                seen.offices += usize::from(standing.role == RoleName::Leader);
                node.standing = standing;
            }
            Effect::Misbehaved { from, how } => {
                journal.line(|| format!("n{name} reports n{from}: {}", notation::misbehaviour(how)));
            }
        }
    }

    /// Checks everything that this node's last step can have broken.
    fn check(&mut self, name: NodeId) {
        let Some(raft) = &self.nodes[&name].raft else { return };
        held(invariants::check_one(raft));
        held(self.history.check(raft));
        for other in self.nodes.values().filter_map(|node| node.raft.as_ref()).filter(|other| other.node() != name) {
            held(invariants::check_log_matching(raft, other));
        }
        let committed = self.history.committed();
        let last = committed.last().map_or(LogId::ZERO, |term| LogId::new(term.0, committed.len() as u64));
        Ledger::committed_is_durable(last, self.nodes.values().map(|node| &node.disk));
    }

    /// Puts words into a node's mouth.
    pub fn forge(&mut self, from: NodeId, to: NodeId, message: Message) {
        send(&mut self.network, &mut self.journal, Packet { from, to, message });
    }
}

impl Node {
    /// What its host was last told.
    pub fn standing(&self) -> Standing {
        self.standing
    }
}

fn send(network: &mut Network, journal: &mut Journal, packet: Packet) {
    let link = packet.link();
    if network.is_cut(link) {
        return journal.message(link.0, "-x", link.1, &packet.message);
    }
    if network.held.contains(&link) {
        journal.message(link.0, "-|", link.1, &packet.message);
    }
    network.flight.push(packet);
}

fn held(checked: Result<(), Violation>) {
    if let Err(Violation { property, shown_by }) = checked {
        panic!("{property}: {shown_by}");
    }
}

fn notation_of_start(node: &Node) -> String {
    let Disk { term, vote, log, .. } = &node.disk;
    format!("t{term} vote={} log={} applied={}", notation::vote(*vote), notation::stretch(log), node.applied)
}

fn overwrites(disk: &Disk, entries: &vlot_raft::term_runs::TermRuns) -> bool {
    disk.log.last() > entries.after().index
}
