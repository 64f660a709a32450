//! A host of nodes with an obvious disk, an obvious network and an obvious state machine, under virtual time.
//!
//! Owns the order in which things happen: nothing takes time unless a test holds it back. Must not decide anything that is
//! a node's to decide.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::time::Duration;

use bytes::Bytes;
use vlot_log::error::{Failure, WriteError};
use vlot_log::index::GroupState;
use vlot_log::record::{Entry, Write};
use vlot_node::Lane;
use vlot_node::act::{Act, Answer, BatchId, Complaint, GroupEvent, Status, Stop};
use vlot_node::group::Begun;
use vlot_node::input::{Input, Proposal};
use vlot_node::log_writer::{Durable, LogWriter};
use vlot_node::machine::{self, Outcome};
use vlot_node::members::{MemberChange, Members};
use vlot_node::node::{NewGroup, Node, Options};
use vlot_node::payload;
use vlot_node::policy::Policies;
use vlot_node::proposal_id::ProposalId;
use vlot_node::replica::{Begin, Committed, Limits, LogRead};
use vlot_node::retention;
use vlot_node::snapshot::{Header, SnapshotInfo};
use vlot_node::state_machine::{BadSnapshot, Class, StateMachine, TimePassed};
use vlot_raft::effect::RoleName;
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId, Term};
use vlot_raft::state::Config;
use vlot_raft::term_runs::TermRuns;
use vlot_raft::time::Time;

/// The group of a cluster that has one.
pub const GROUP: GroupId = GroupId(1);
pub const HEARTBEAT: u64 = 100;
pub const ELECTION_TIMEOUT: u64 = 1000;

/// How a cluster is made.
#[derive(Clone)]
pub struct Setup {
    pub nodes: u64,
    /// Its groups are 1 to this number, and all nodes are voters of each.
    pub groups: u64,
    /// State machines have durably what they have applied; otherwise they are in memory.
    pub is_durable: bool,
    pub makes_snapshots: bool,
    pub wants_time: bool,
    pub sleep_after: Option<Duration>,
    pub recent_bytes_max: usize,
    pub apply_bytes_max: usize,
    pub retention: retention::Limits,
    pub limits: Limits,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            nodes: 3,
            groups: 1,
            is_durable: true,
            makes_snapshots: true,
            wants_time: false,
            sleep_after: None,
            recent_bytes_max: 1 << 20,
            apply_bytes_max: 1 << 20,
            retention: retention::Limits::default(),
            limits: Limits::default(),
        }
    }
}

/// Nodes and what is on its way between them.
pub struct Cluster {
    pub now: Time,
    hosts: BTreeMap<u64, Host>,
    /// Connections that do not stand, by their ends.
    cut: BTreeSet<(u64, u64)>,
}

impl Cluster {
    /// Nodes 1 to `nodes`, all connected.
    pub fn new(setup: &Setup) -> Self {
        let mut cluster = Self::unconnected(setup);
        cluster.each_pair(|cluster, one, other| cluster.connect(one, other));
        cluster
    }

    /// Nodes that are told of no connection; what they send arrives all the same.
    pub fn unconnected(setup: &Setup) -> Self {
        let now = Time::default();
        let mut hosts: BTreeMap<u64, Host> = (1..=setup.nodes).map(|n| (n, Host::new(n, setup))).collect();
        for host in hosts.values_mut() {
            (1..=setup.groups).for_each(|group| host.begin(now, GroupId(group), GroupState::default()));
        }
        Self { now, hosts, cut: BTreeSet::new() }
    }

    /// A cluster of one group, which node `n` leads.
    pub fn led_by(n: u64, setup: &Setup) -> Self {
        let mut cluster = Self::new(setup);
        cluster.elect(n, GROUP);
        cluster
    }

    /// Another node, which is to join the group and knows nobody; all connect to it.
    pub fn join(&mut self, n: u64) {
        let setup = self.hosts[&1].setup.clone();
        let mut host = Host::new(n, &setup);
        let mut new = host.new_group(GROUP, GroupState::default());
        new.begin.members = Members::default();
        host.add(self.now, new);
        let others: Vec<u64> = self.hosts.keys().copied().collect();
        self.hosts.insert(n, host);
        others.into_iter().for_each(|other| self.connect(other, n));
    }

    pub fn host(&mut self, n: u64) -> &mut Host {
        self.hosts.get_mut(&n).expect("a node of this cluster")
    }

    /// An input to one node; nothing follows from it yet.
    pub fn handle(&mut self, n: u64, input: Input) {
        let now = self.now;
        self.host(n).node.handle(now, input);
    }

    /// One turn of one node, as it is, not carried out.
    pub fn turn(&mut self, n: u64) -> Vec<Act> {
        let now = self.now;
        self.host(n).node.end_turn(now)
    }

    pub fn carry_out(&mut self, n: u64, acts: Vec<Act>) {
        let now = self.now;
        self.host(n).carry_out(now, acts);
    }

    pub fn propose(&mut self, n: u64, group: GroupId, command: &str) -> u64 {
        let now = self.now;
        self.host(n).propose(now, group, command)
    }

    pub fn read(&mut self, n: u64, group: GroupId) -> u64 {
        let now = self.now;
        self.host(n).read(now, group)
    }

    pub fn change(&mut self, n: u64, group: GroupId, changes: Vec<MemberChange>) -> u64 {
        let sequence = self.host(n).next_sequence();
        self.handle(n, Input::ChangeMembers { group, sequence, changes, context: Bytes::new() });
        sequence
    }

    /// What one node does not do for now is done, in order.
    pub fn release(&mut self, n: u64) {
        let now = self.now;
        self.host(n).release(now);
        self.settle();
    }

    pub fn connect(&mut self, one: u64, other: u64) {
        self.cut.remove(&(one.min(other), one.max(other)));
        for (n, peer) in [(one, other), (other, one)] {
            let disk = self.host(peer).disk_number;
            self.handle(n, Input::Connected { peer: NodeId(peer), disk, reads_shared: true });
        }
    }

    pub fn disconnect(&mut self, one: u64, other: u64) {
        self.cut.insert((one.min(other), one.max(other)));
        self.handle(one, Input::Lost { peer: NodeId(other) });
        self.handle(other, Input::Lost { peer: NodeId(one) });
    }

    /// No frame gets through any more, and nobody is told.
    pub fn silence(&mut self, one: u64, other: u64) {
        self.cut.insert((one.min(other), one.max(other)));
    }

    /// Everything that happens at this moment.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut is_quiet = true;
            let now = self.now;
            for host in self.hosts.values_mut() {
                let acts = host.node.end_turn(now);
                is_quiet &= acts.is_empty();
                host.carry_out(now, acts);
            }
            let frames: Vec<Frame> = self.hosts.values_mut().flat_map(|host| host.outbox.drain(..)).collect();
            for Frame { from, to, lane, bytes } in frames {
                is_quiet = false;
                if let Some(host) = self.hosts.get_mut(&to)
                    && !self.cut.contains(&(from.min(to), from.max(to)))
                {
                    host.node.handle(now, Input::Frame { from: NodeId(from), lane, bytes });
                }
            }
            if is_quiet {
                return;
            }
        }
        panic!("there is no end to what happens at {:?}", self.now);
    }

    /// Time passes.
    pub fn run(&mut self, millis: u64) {
        let end = self.now + Duration::from_millis(millis);
        self.settle();
        while let Some(next) = self.hosts.values().map(|host| host.node.deadline()).min().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.settle();
        }
        self.now = end;
        self.settle();
    }

    /// Time passes until `what` holds.
    pub fn run_until(&mut self, why: &str, mut what: impl FnMut(&mut Self) -> bool) {
        for _ in 0..1000 {
            self.settle();
            if what(self) {
                return;
            }
            self.run(20);
        }
        panic!("after 20 seconds still not: {why}");
    }

    pub fn leader(&mut self, group: GroupId) -> Option<u64> {
        let leads = |host: &Host| host.node.raft(group).is_some_and(|raft| raft.role_state().role == RoleName::Leader);
        let leaders = self.hosts.iter().filter(|(_, host)| leads(host));
        let term = |host: &Host| host.node.raft(group).map(|raft| raft.role_state().term);
        leaders.max_by_key(|(_, host)| term(host)).map(|(n, _)| *n)
    }

    /// Which of these nodes leads, whatever others believe.
    pub fn leader_among(&mut self, nodes: &[u64]) -> Option<u64> {
        nodes
            .iter()
            .copied()
            .find(|n| self.hosts[n].node.raft(GROUP).is_some_and(|raft| raft.role_state().role == RoleName::Leader))
    }

    /// Node `n` comes to lead the group, and all know.
    pub fn elect(&mut self, n: u64, group: GroupId) {
        self.run_until("somebody leads", |cluster| cluster.leader(group).is_some());
        let leader = self.leader(group).expect("somebody leads");
        if leader != n {
            self.run(HEARTBEAT);
            self.handle(leader, Input::Transfer { group, sequence: 1 << 40, to: Some(NodeId(n)) });
            self.run_until("the leadership is transferred", |cluster| cluster.leader(group) == Some(n));
        }
        self.run(2 * HEARTBEAT);
    }

    fn each_pair(&mut self, act: impl Fn(&mut Self, u64, u64)) {
        let nodes: Vec<u64> = self.hosts.keys().copied().collect();
        for (at, one) in nodes.iter().enumerate() {
            nodes[at + 1..].iter().for_each(|other| act(self, *one, *other));
        }
    }
}

struct Frame {
    from: u64,
    to: u64,
    lane: Lane,
    bytes: Bytes,
}

/// What a host does not do for now.
#[derive(Default)]
pub struct Held {
    pub writes: bool,
    pub reads: bool,
    pub applies: bool,
    pub saves: bool,
}

/// A node, its disk and its state machines.
pub struct Host {
    pub node: Node,
    pub disk_number: u64,
    pub disk: Disk,
    writer: LogWriter,
    machines: BTreeMap<GroupId, Words>,
    setup: Setup,
    id: u64,
    sequence: u64,
    outbox: Vec<Frame>,
    pub held: Held,
    writes: VecDeque<(BatchId, Vec<Write>)>,
    reads: VecDeque<(GroupId, LogRead)>,
    jobs: VecDeque<Act>,
    saves: VecDeque<(GroupId, Header)>,
    /// What calls were told, in order.
    pub answers: Vec<(GroupId, Answer)>,
    /// What state machines have made of this node's own proposals and changes, by sequence numbers.
    pub outcomes: Vec<u64>,
    pub events: Vec<(GroupId, GroupEvent)>,
    pub complaints: Vec<(NodeId, Complaint)>,
    pub statuses: BTreeMap<GroupId, Status>,
    pub members: BTreeMap<GroupId, Members>,
    /// What was said last of all peers and disks.
    pub peers: Option<BTreeMap<NodeId, String>>,
    pub disks: Option<BTreeMap<NodeId, u64>>,
    pub stopped: Option<Stop>,
    pub closed: BTreeMap<GroupId, Option<GroupState>>,
    pub headers: Vec<Header>,
    pub removed_before: Vec<(GroupId, LogId)>,
    /// Frames that were sent, by their receivers.
    pub sent: Vec<(NodeId, Bytes)>,
}

impl Host {
    fn new(id: u64, setup: &Setup) -> Self {
        let disk_number = 10 + id;
        let config = Config {
            heartbeat: Duration::from_millis(HEARTBEAT),
            election_timeout: Duration::from_millis(ELECTION_TIMEOUT),
            sleep_after: setup.sleep_after,
            ..Config::new(NodeId(id))
        };
        let options = Options {
            config: config.into(),
            disk: disk_number,
            peers: (1..=setup.nodes).map(|node| (NodeId(node), format!("n{node}:1"))).collect(),
            recent_bytes_max: setup.recent_bytes_max,
            apply_bytes_max: setup.apply_bytes_max,
            retention: setup.retention.clone(),
            transfer: vlot_node::transfer::Limits::default(),
            policies: Policies::default(),
            origin: id,
            unix_at_origin: Duration::from_secs(1000 * id),
            parts: BTreeMap::new(),
        };
        Self {
            node: Node::new(options),
            disk_number,
            disk: Disk::default(),
            writer: LogWriter::default(),
            machines: BTreeMap::new(),
            setup: setup.clone(),
            id,
            sequence: 0,
            outbox: Vec::new(),
            held: Held::default(),
            writes: VecDeque::new(),
            reads: VecDeque::new(),
            jobs: VecDeque::new(),
            saves: VecDeque::new(),
            answers: Vec::new(),
            outcomes: Vec::new(),
            events: Vec::new(),
            complaints: Vec::new(),
            statuses: BTreeMap::new(),
            members: BTreeMap::new(),
            peers: None,
            disks: None,
            stopped: None,
            closed: BTreeMap::new(),
            headers: Vec::new(),
            removed_before: Vec::new(),
            sent: Vec::new(),
        }
    }

    /// How a group begins whose log is this.
    pub fn new_group(&self, group: GroupId, recovered: GroupState) -> NewGroup {
        let applied = self.machines.get(&group).map(|machine| machine.applied).unwrap_or_default();
        let voters = (1..=self.setup.nodes).map(|n| (NodeId(n), format!("n{n}:1")));
        let config = Config {
            heartbeat: Duration::from_millis(HEARTBEAT),
            election_timeout: Duration::from_millis(ELECTION_TIMEOUT),
            sleep_after: self.setup.sleep_after,
            inflight_max: self.setup.limits.inflight_max,
            ..Config::new(NodeId(self.id))
        };
        let begin = Begin {
            group,
            config: config.into(),
            members: Members::of_voters(voters),
            recovered,
            damaged: None,
            applied,
            limits: self.setup.limits.clone(),
            forwards: true,
            shares_entries: true,
            origin: self.id,
            seed: self.id * 100 + group.0,
        };
        let durable = if self.setup.is_durable { applied } else { LogId::ZERO };
        let Setup { makes_snapshots, wants_time, .. } = self.setup;
        let begun = Begun { durable, saved: LogId::ZERO, makes_snapshots, wants_time };
        NewGroup { begin, begun }
    }

    pub fn begin(&mut self, now: Time, group: GroupId, recovered: GroupState) {
        let new = self.new_group(group, recovered);
        self.add(now, new);
    }

    pub fn add(&mut self, now: Time, new: NewGroup) {
        self.machines.entry(new.begin.group).or_default();
        self.node.add(now, new).expect("log and state belong together");
    }

    /// The state machine of a group has lost what it had.
    pub fn forget(&mut self, group: GroupId) {
        self.machines.remove(&group);
    }

    pub fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// What begins with an exclamation mark is urgent.
    fn propose(&mut self, now: Time, group: GroupId, command: &str) -> u64 {
        let sequence = self.next_sequence();
        let id = ProposalId { origin: self.id, sequence };
        let payload = payload::command(id, command.len(), |out| out.extend_from_slice(command.as_bytes()));
        let class = if command.starts_with('!') { Class::Urgent } else { Class::Bulk };
        let proposals = vec![Proposal { sequence, payload, class, shares_entry: true }];
        self.node.handle(now, Input::Propose { group, proposals });
        sequence
    }

    fn read(&mut self, now: Time, group: GroupId) -> u64 {
        let read = self.next_sequence();
        self.node.handle(now, Input::Read { group, read });
        read
    }

    /// What has become of a proposal, a change or a read, in the order in which it was told.
    pub fn fate(&self, sequence: u64) -> Vec<String> {
        let told = self.answers.iter().filter_map(|(_, answer)| match answer {
            Answer::NotProposed(of, why) if *of == sequence => Some(format!("not proposed: {why:?}")),
            Answer::Unknown(of) if *of == sequence => Some("unknown".to_owned()),
            Answer::Changed(of, Ok(())) if *of == sequence => Some("changed".to_owned()),
            Answer::Changed(of, Err(why)) if *of == sequence => Some(format!("not changed: {why:?}")),
            Answer::Transfer(of, begun) if *of == sequence => Some(format!("transfer: {begun:?}")),
            Answer::Ready(reads) if reads.contains(&sequence) => Some("ready".to_owned()),
            Answer::NotRead(of, why) if *of == sequence => Some(format!("not read: {why:?}")),
            _ => None,
        });
        let applied = self.outcomes.iter().filter(|of| **of == sequence).map(|_| "applied".to_owned());
        told.chain(applied).collect()
    }

    pub fn words(&self, group: GroupId) -> &[String] {
        &self.machines[&group].words
    }

    /// What it was told of time.
    pub fn times(&self, group: GroupId) -> &[(LogId, TimePassed)] {
        &self.machines[&group].times
    }

    pub fn applied(&self, group: GroupId) -> LogId {
        self.machines[&group].applied
    }

    pub fn status(&self, group: GroupId) -> &Status {
        &self.statuses[&group]
    }

    pub fn log_begins_after(&self, group: GroupId) -> u64 {
        self.node.raft(group).expect("a group of this node").log().after().index.0
    }

    /// The disk takes no more entries, and has told nobody.
    pub fn fill_disk(&mut self) {
        self.disk.is_full = true;
    }

    /// Whether the disk has room for entries.
    pub fn room(&mut self, now: Time, is_there: bool) {
        self.disk.is_full = !is_there;
        self.node.handle(now, Input::Room { is_there });
        if is_there {
            let disk = &mut self.disk;
            self.writer.try_again(&mut |writes| disk.write(writes)).expect("there is room");
            self.synced(now);
        }
    }

    pub fn carry_out(&mut self, now: Time, acts: Vec<Act>) {
        for act in acts {
            match act {
                Act::Write { batch, writes } => self.writes.push_back((batch, writes)),
                Act::Send { to, lane, frame } => {
                    self.sent.push((to, frame.clone()));
                    self.outbox.push(Frame { from: self.id, to: to.0, lane, bytes: frame });
                }
                Act::ReadLog { group, read } => self.reads.push_back((group, read)),
                Act::Apply { .. } | Act::Restore { .. } | Act::TakeSnapshot { .. } => self.jobs.push_back(act),
                Act::Save { group, header } => {
                    self.headers.extend(header.clone());
                    self.saves.extend(header.map(|header| (group, header)));
                }
                Act::RemoveSnapshots { group, before } => self.removed_before.push((group, before)),
                Act::Answer { group, answer } => self.answers.push((group, answer)),
                Act::SetPeers(peers) => self.peers = Some(peers),
                Act::SetDisks(disks) => self.disks = Some(disks),
                Act::Show { group, status } => drop(self.statuses.insert(group, status)),
                Act::ShowHealth { .. } => {}
                Act::ShowMembers { group, members } => drop(self.members.insert(group, members)),
                Act::Tell { group, event } => self.events.push((group, event)),
                Act::Complain { peer, complaint } => self.complaints.push((peer, complaint)),
                Act::Closed { group, log } => drop(self.closed.insert(group, log.map(|log| log.state))),
                Act::Stop(why) => self.stopped = Some(why),
                Act::Record { .. } => {}
                Act::Transfer(_) => {}
            }
        }
        self.work(now);
    }

    /// Does what is not held back.
    fn work(&mut self, now: Time) {
        if !self.held.writes {
            self.write(now);
        }
        if !self.held.reads {
            self.fetch(now);
        }
        if !self.held.applies {
            self.apply(now);
        }
        if !self.held.saves {
            self.save(now);
        }
    }

    fn release(&mut self, now: Time) {
        self.held = Held::default();
        self.work(now);
    }

    fn write(&mut self, now: Time) {
        if self.writes.is_empty() {
            return;
        }
        let disk = &mut self.disk;
        for (batch, writes) in self.writes.drain(..) {
            self.writer.write(batch, writes, &mut |writes| disk.write(writes)).expect("the disk takes it");
        }
        self.synced(now);
    }

    fn synced(&mut self, now: Time) {
        match self.writer.synced() {
            Some(Durable::All(batch)) => self.node.handle(now, Input::Written { batch }),
            Some(Durable::ButForEntries(batch)) => self.node.handle(now, Input::VotesWritten { batch }),
            None => {}
        }
    }

    fn fetch(&mut self, now: Time) {
        for (group, LogRead { purpose, after, upto, bytes_max }) in self.reads.drain(..) {
            let entries = self.disk.read(group, after, upto, bytes_max);
            self.node.handle(now, Input::Fetched { group, purpose, entries });
        }
    }

    fn apply(&mut self, now: Time) {
        while self.apply_one(now) {}
    }

    /// Whether a snapshot is the state machines' next job.
    pub fn takes_snapshot(&self) -> bool {
        matches!(self.jobs.front(), Some(Act::TakeSnapshot { .. }))
    }

    /// The state machines' next job. False if there is none.
    pub fn apply_one(&mut self, now: Time) -> bool {
        let Some(job) = self.jobs.pop_front() else { return false };
        let report = match job {
            Act::Apply { group, entries } => self.apply_batch(group, entries),
            Act::TakeSnapshot { group } => {
                let machine = &self.machines[&group];
                (!machine.has_failed).then_some(Input::SnapshotTaken { group, id: Some(machine.applied) })
            }
            other => panic!("nothing asks for {other:?} here"),
        };
        if let Some(report) = report {
            self.node.handle(now, report);
        }
        true
    }

    fn apply_batch(&mut self, group: GroupId, entries: Vec<Committed>) -> Option<Input> {
        let machine = self.machines.get_mut(&group).expect("one of each group");
        if machine.has_failed {
            return None;
        }
        let (steps, fence) = machine::decode::<Words>(self.id, entries);
        let applied = machine.applied;
        let done = machine::apply(machine, applied, steps).and_then(|done| fence.map_or(Ok(done), Err));
        Some(match done {
            Ok((upto, outcomes)) => {
                self.outcomes.extend(outcomes.into_iter().map(|outcome| match outcome {
                    Outcome::Applied(sequence, ()) | Outcome::Changed(sequence) => sequence,
                }));
                let durable = if self.setup.is_durable { upto } else { LogId::ZERO };
                Input::Applied { group, upto, durable }
            }
            Err(why) => {
                machine.has_failed = true;
                Input::Failed { group, why: why.into() }
            }
        })
    }

    fn save(&mut self, now: Time) {
        for (group, Header { id, .. }) in self.saves.drain(..) {
            let saved = Ok(SnapshotInfo { id, bytes: 1, checksum: 1 });
            self.node.handle(now, Input::Saved { group, saved });
        }
    }
}

/// A state machine that remembers words. The word `panic` makes it panic.
#[derive(Default)]
pub struct Words {
    applied: LogId,
    words: Vec<String>,
    times: Vec<(LogId, TimePassed)>,
    has_failed: bool,
}

impl StateMachine for Words {
    type Command = String;
    type Reply = ();

    fn apply(&mut self, at: LogId, command: String) {
        assert_ne!(command, "panic", "asked to");
        // Words that were proposed together share an entry.
        if at != self.applied {
            self.skip(at);
        }
        self.words.push(command);
    }

    fn skip(&mut self, at: LogId) {
        assert_eq!(at.index, self.applied.index.next(), "every entry is applied, in order");
        self.applied = at;
    }

    fn time_passed(&mut self, at: LogId, passed: TimePassed) {
        self.skip(at);
        self.times.push((at, passed));
    }

    fn restore(&mut self, at: LogId, _: &mut dyn io::Read) -> Result<(), BadSnapshot> {
        self.applied = at;
        Ok(())
    }
}

/// The logs of one node's groups.
#[derive(Default)]
pub struct Disk {
    logs: BTreeMap<GroupId, GroupLog>,
    /// It has no room for entries.
    is_full: bool,
}

#[derive(Default)]
struct GroupLog {
    term: Term,
    vote: Option<NodeId>,
    after: LogId,
    note: Bytes,
    entries: Vec<Entry>,
}

impl Disk {
    fn write(&mut self, writes: &[Write]) -> Result<(), WriteError> {
        let has_entries = |write: &Write| matches!(write, Write::Append { entries, .. } if !entries.is_empty());
        if self.is_full && writes.iter().any(has_entries) {
            let kind = io::ErrorKind::StorageFull;
            let failure = Failure { act: "write", file: "log".into(), kind, message: String::new() };
            return Err(WriteError::NoSpace(failure));
        }
        for write in writes.iter().cloned() {
            match write {
                Write::Vote { group, term, vote } => {
                    let log = self.logs.entry(group).or_default();
                    (log.term, log.vote) = (term, vote);
                }
                Write::Append { group, after, mut entries } => {
                    let log = self.logs.entry(group).or_default();
                    log.entries.retain(|entry| entry.id.index <= after);
                    log.entries.append(&mut entries);
                }
                Write::LogStart { group, after, note } => {
                    let log = self.logs.entry(group).or_default();
                    let has_it = after == log.after || log.entries.iter().any(|entry| entry.id == after);
                    log.entries.retain(|entry| has_it && entry.id.index > after.index);
                    (log.after, log.note) = (after, note);
                }
                Write::Rewrite { .. } => {}
                Write::Remove { group } => drop(self.logs.remove(&group)),
            }
        }
        Ok(())
    }

    fn read(&self, group: GroupId, after: LogIndex, upto: LogIndex, bytes_max: usize) -> Vec<Entry> {
        let Some(log) = self.logs.get(&group).filter(|log| log.after.index <= after) else { return Vec::new() };
        let mut bytes = 0;
        let wanted = log.entries.iter().filter(|entry| entry.id.index > after && entry.id.index <= upto);
        let few = wanted.take_while(|entry| {
            let is_room = bytes == 0 || bytes + entry.payload.len() <= bytes_max;
            bytes += entry.payload.len();
            is_room
        });
        few.cloned().collect()
    }

    /// What a process finds that begins now.
    pub fn recover(&self, group: GroupId) -> GroupState {
        let Some(log) = self.logs.get(&group) else { return GroupState::default() };
        let mut runs = TermRuns::empty(log.after);
        log.entries.iter().for_each(|entry| runs.push(entry.id.term, 1));
        let kept = log.entries.iter().filter(|entry| payload::sets_configuration(&entry.payload)).cloned().collect();
        GroupState { term: log.term, vote: log.vote, runs, note: log.note.clone(), kept }
    }
}
