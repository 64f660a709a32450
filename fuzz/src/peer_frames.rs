//! One node whose peers send any bytes: it never panics, stops or forgets, and can always be started again.
//!
//! The node is the real one over the real log, on the simulated disk: whatever its peers make it write, the log must
//! take, and must give back after a loss of power. Frames are bytes of chance or those of messages that a peer may send,
//! here and there with a byte changed. A peer that leads may make it commit anything, so what is committed is not judged;
//! but what is handed to a state machine is what the log holds, in order. State machines work late, fail and save
//! snapshots; groups are closed and begin again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::time::Duration;

use bytes::Bytes;
use vlot_log::disk::sim::SimDisk;
use vlot_log::error::{Failure, WriteError};
use vlot_log::index::GroupState;
use vlot_log::log::{Identity, Log};
use vlot_log::record::Write;
use vlot_node::Lane;
use vlot_node::act::{Act, Answer, BatchId, Complaint, GroupEvent};
use vlot_node::group::Begun;
use vlot_node::input::{Input, Proposal};
use vlot_node::log_writer::{Durable, LogWriter};
use vlot_node::machine::Fence;
use vlot_node::members::{ChangeRequest, MemberChange, Members, MembersAt, MembersEntry};
use vlot_node::node::{NewGroup, Node, Options};
use vlot_node::payload::{self, Payload};
use vlot_node::policy::Policies;
use vlot_node::proposal_id::ProposalId;
use vlot_node::replica::{Begin, Committed, Limits, LogRead};
use vlot_node::retention;
use vlot_node::snapshot::{Header, SnapshotInfo};
use vlot_node::state_machine::{Class, TimePassed};
use vlot_node::wire::PeerMessage;
use vlot_raft::configuration::ChangeRefused;
use vlot_raft::id::{GroupId, LogId, NodeId, Term};
use vlot_raft::invariants;
use vlot_raft::message::{Body, Message};
use vlot_raft::raft::Raft;
use vlot_raft::state::Config;
use vlot_raft::time::Time;

use crate::message;
use crate::reader::Reader;

const NODE: NodeId = NodeId(1);
const DISK: u64 = 11;
const IDENTITY: Identity = Identity { cluster: 7, node: NODE };
const LOG_OPTIONS: vlot_log::log::Options = vlot_log::log::Options {
    segment_bytes: 8192,
    keep: payload::sets_configuration,
    slack_bytes: 0,
    accept_damage: false,
    accept_damaged_entries: false,
};
/// Some entries must be read from the log.
const RECENT_BYTES_MAX: usize = 64;
/// A few entries are as many as a state machine may have under way.
const APPLY_BYTES_MAX: usize = 400;
const RETENTION: retention::Limits = retention::Limits { entries: 2, bytes: 16, entries_kept: 1, bytes_kept: 16 };
/// A group that the node belongs to from its beginning, and one that it is to join.
const GROUPS: [GroupId; 2] = [GroupId(1), GroupId(2)];
/// What a wait may be, in milliseconds: from nothing to several election timeouts.
const WAITS: [u64; 6] = [0, 20, 100, 300, 700, 2500];

/// Does what the bytes say.
///
/// # Panics
/// If something does not hold that must.
pub fn run(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    let kind = reader.byte();
    if kind % 8 == 7 {
        return decode_all(&bytes[1..]);
    }
    let mut host = Host::new(kind);
    while !reader.is_empty() {
        host.act(&mut reader);
    }
    host.end_turn();
}

/// Reads the bytes as whatever a peer may send. What can be read is the same when it is sent on.
fn decode_all(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok((group, message)) = PeerMessage::decode(bytes.clone()) {
        assert_eq!(PeerMessage::decode(message.clone().encode(group)), Ok((group, message)));
    }
    if let Ok(set) = MembersAt::decode(bytes.clone()) {
        assert_eq!(MembersAt::decode(set.encode()), Ok(set));
    }
    if let Ok(request) = ChangeRequest::decode(bytes.clone()) {
        assert_eq!(ChangeRequest::decode(request.encode()), Ok(request));
    }
    if let Ok(Payload::Time(passed)) = payload::decode(bytes.clone()) {
        assert_eq!(payload::time(passed), bytes);
    }
}

struct Host {
    node: Node,
    log: Log<SimDisk>,
    writer: LogWriter,
    disk: SimDisk,
    members: Members,
    sleep_after: Option<Duration>,
    /// State machines are durable by themselves; otherwise they are in memory, and save snapshots.
    are_durable: bool,
    now: Time,
    /// Batches that the log was not given yet.
    unwritten: VecDeque<(BatchId, Vec<Write>)>,
    /// For each batch that is not reported, the groups in it.
    unreported: VecDeque<(BatchId, BTreeSet<GroupId>)>,
    /// The disk has no room for entries.
    is_full: bool,
    reads: VecDeque<(GroupId, LogRead)>,
    machines: BTreeMap<GroupId, Machine>,
    /// Groups that are closed, as their logs were then.
    closed: BTreeMap<GroupId, GroupState>,
    /// Linearizable reads that are not answered.
    asked: BTreeSet<u64>,
    /// The node was told that it has another disk.
    may_stop: bool,
    /// Processes so far; names them.
    starts: u64,
    sequence: u64,
}

/// A state machine that does what it is asked when it gets to it.
#[derive(Default)]
struct Machine {
    applied: LogId,
    /// What it has in a snapshot of its own.
    saved: LogId,
    /// Not done yet.
    jobs: VecDeque<Act>,
    taken: Option<LogId>,
    has_failed: bool,
    is_closing: bool,
}

impl Host {
    fn new(kind: u8) -> Self {
        let voters = match kind % 8 {
            0..=2 => 1..=3,
            3 => 1..=1,
            4 => 1..=5,
            _ => 2..=4,
        };
        let members = Members::of_voters(voters.map(|node| (NodeId(node), format!("n{node}:1"))));
        let sleep_after = (kind / 8 % 4 == 3).then_some(Duration::from_millis(300));
        let disk = SimDisk::new();
        let (log, _) = Log::open(disk.clone(), IDENTITY, LOG_OPTIONS).expect("a new log");
        let mut host = Self {
            node: Node::new(options(sleep_after)),
            log,
            writer: LogWriter::default(),
            disk,
            members,
            sleep_after,
            are_durable: (kind / 32).is_multiple_of(2),
            now: Time::default(),
            unwritten: VecDeque::new(),
            unreported: VecDeque::new(),
            is_full: false,
            reads: VecDeque::new(),
            machines: GROUPS.map(|group| (group, Machine::default())).into(),
            closed: BTreeMap::new(),
            asked: BTreeSet::new(),
            may_stop: false,
            starts: 0,
            sequence: 0,
        };
        host.start();
        host
    }

    /// A process begins with what the log and the state machines hold.
    fn start(&mut self) {
        let (log, mut recovered) =
            Log::open(self.disk.clone(), IDENTITY, LOG_OPTIONS).expect("whatever peers have sent");
        (self.log, self.node) = (log, Node::new(options(self.sleep_after)));
        self.starts += 1;
        for group in GROUPS {
            let recovered = recovered.groups.remove(&group).unwrap_or_default();
            let machine = self.machines.entry(group).or_default();
            let applied = if self.are_durable { machine.applied } else { machine.saved };
            *machine = Machine { applied, saved: machine.saved, ..Machine::default() };
            self.begin(group, recovered);
        }
    }

    fn begin(&mut self, group: GroupId, recovered: GroupState) {
        let Machine { applied, saved, .. } = self.machines[&group];
        let begin = Begin {
            group,
            config: options(self.sleep_after).config,
            members: if group == GROUPS[0] { self.members.clone() } else { Members::default() },
            recovered,
            damaged: None,
            applied,
            limits: Limits {
                message_bytes_max: 64,
                inflight_max: 2,
                inflight_bytes_max: 200,
                uncommitted_max: 8,
                replay_bytes_max: 64,
            },
            forwards: true,
            shares_entries: true,
            origin: self.starts,
            seed: self.starts,
        };
        let durable = self.durable(applied);
        let begun = Begun { durable, saved, makes_snapshots: true, wants_time: group == GROUPS[0] };
        let added = self.node.add(self.now, NewGroup { begin, begun });
        added.unwrap_or_else(|error| panic!("{group:?} cannot begin again: {error}"));
    }

    fn act(&mut self, reader: &mut Reader<'_>) {
        let group = GROUPS[usize::from(reader.one_in(4))];
        let Some(raft) = self.node.raft(group) else { return self.act_on_closed(reader, group) };
        let input = match reader.below(38) {
            0..=9 => {
                let message = message(reader, raft);
                self.receive(reader, group, &message);
                return;
            }
            10 => {
                let count = usize::from(reader.byte());
                let bytes = Bytes::copy_from_slice(reader.bytes(count));
                Input::Frame { from: NodeId(2), lane: Lane::Control, bytes }
            }
            11..=13 => return self.persist(reader),
            14..=17 => {
                let wait = Duration::from_millis(reader.among(&WAITS));
                self.now = if reader.flag() { self.now + wait } else { self.now.max(self.next_deadline()) };
                self.end_turn();
                return;
            }
            kind @ (18 | 19) => {
                self.sequence += 1;
                let id = ProposalId { origin: self.starts, sequence: self.sequence };
                let payload = payload::command(id, 0, |out| out.extend_from_slice(reader.bytes(9)));
                let class = if kind == 18 { Class::Bulk } else { Class::Urgent };
                let (sequence, shares_entry) = (self.sequence, self.sequence.is_multiple_of(2));
                Input::Propose { group, proposals: vec![Proposal { sequence, payload, class, shares_entry }] }
            }
            20 => Input::Withdraw { group, sequence: self.sequence },
            21 => {
                self.sequence += 1;
                let (changes, context) = (member_changes(reader), Bytes::copy_from_slice(reader.bytes(2)));
                Input::ChangeMembers { group, sequence: self.sequence, changes, context }
            }
            22 => Input::Transfer { group, sequence: 1, to: reader.flag().then(|| message::node(reader)) },
            23 => Input::Compact { group },
            24 | 25 | 32..=34 => return self.work(reader, group),
            26 => {
                let state = reader.byte();
                match state {
                    0..=15 => return self.fail(group),
                    16..=31 => return self.close(group),
                    32..=39 => {
                        self.may_stop |= state.is_multiple_of(2);
                        let node = if state.is_multiple_of(2) { NODE } else { NodeId(2) };
                        Input::OtherDisk { peer: NodeId(2), node, disk: 12 }
                    }
                    _ => {
                        self.is_full = state.is_multiple_of(2);
                        Input::Room { is_there: !self.is_full }
                    }
                }
            }
            27 => {
                self.sequence += 1;
                self.asked.insert(self.sequence);
                Input::Read { group, read: self.sequence }
            }
            28 => return self.fetch(),
            29 => {
                let (peer, disk) = (peer(reader), reader.number());
                Input::Connected { peer, disk, reads_shared: disk.is_multiple_of(2) }
            }
            30 => Input::Lost { peer: peer(reader) },
            31 => return self.restart(reader),
            _ => return self.settle(reader),
        };
        self.node.handle(self.now, input);
        if reader.flag() {
            self.end_turn();
        }
    }

    /// The group begins again, or somebody speaks to it who does not know that it is closed.
    fn act_on_closed(&mut self, reader: &mut Reader<'_>, group: GroupId) {
        if reader.flag() {
            let state = self.closed.remove(&group).expect("what it was when it was closed");
            let machine = self.machines.get_mut(&group).expect("one of each group");
            let Machine { applied, saved, has_failed, .. } = *machine;
            // What has failed is made again from what it has durably.
            let applied = if has_failed && !self.are_durable { saved } else { applied };
            *machine = Machine { applied, saved, ..Machine::default() };
            self.begin(group, state);
            return;
        }
        let bytes = PeerMessage::ProposalsRefused { term: Term(1), sequences: vec![1] }.encode(group);
        self.node.handle(self.now, Input::Frame { from: NodeId(2), lane: Lane::Control, bytes });
        let complaints = self.end_turn();
        assert!(complaints.contains(&Complaint::UnknownGroup(group)), "{complaints:?}");
    }

    /// What of this a state machine has durably by itself.
    fn durable(&self, applied: LogId) -> LogId {
        if self.are_durable { applied } else { LogId::ZERO }
    }

    fn next_deadline(&self) -> Time {
        self.node.deadline().min(self.now + Duration::from_secs(10))
    }

    /// A peer sends this, or something like it.
    fn receive(&mut self, reader: &mut Reader<'_>, group: GroupId, message: &PeerMessage) {
        let from = peer(reader);
        let mut bytes = message.clone().encode(group).to_vec();
        if reader.one_in(8) && !bytes.is_empty() {
            let at = usize::from(reader.byte()) % bytes.len();
            bytes[at] ^= reader.byte();
        }
        self.node.handle(self.now, Input::Frame { from, lane: message.lane(), bytes: bytes.into() });
        if reader.flag() {
            self.end_turn();
        }
    }

    /// Gives back what was complained of.
    fn end_turn(&mut self) -> Vec<Complaint> {
        let before: Vec<(GroupId, Raft)> = self.rafts().map(|(group, raft)| (group, raft.clone())).collect();
        let acts = self.node.end_turn(self.now);
        for (group, before) in &before {
            let Some(after) = self.node.raft(*group) else { continue };
            let held = invariants::check_one(after).and_then(|()| invariants::check_step(before, after));
            held.unwrap_or_else(|broken| panic!("{broken:?}"));
        }
        let ranks: Vec<u8> = acts.iter().map(rank).collect();
        assert!(ranks.is_sorted(), "{acts:?}");
        acts.into_iter().filter_map(|act| self.carry_out(act)).collect()
    }

    fn rafts(&self) -> impl Iterator<Item = (GroupId, &Raft)> {
        GROUPS.iter().filter_map(|group| Some((*group, self.node.raft(*group)?)))
    }

    fn carry_out(&mut self, act: Act) -> Option<Complaint> {
        match act {
            Act::Write { batch, writes } => {
                let groups = writes.iter().filter(|write| !is_first(write)).map(Write::group).collect();
                self.unreported.push_back((batch, groups));
                self.unwritten.push_back((batch, writes));
            }
            Act::Send { to, lane, frame } => {
                assert_ne!(to, NODE, "nobody speaks to itself");
                // Those are read by the transfers of snapshots alone.
                if lane == Lane::Snapshot {
                    return None;
                }
                let read = PeerMessage::decode(frame);
                let (_, message) = read.unwrap_or_else(|bad| panic!("{to} could not read this: {bad}"));
                assert_eq!(message.lane(), lane, "{message:?}");
            }
            Act::ReadLog { group, read } => self.reads.push_back((group, read)),
            Act::Apply { group, .. } | Act::Restore { group, .. } | Act::TakeSnapshot { group } => {
                let machine = self.machines.get_mut(&group).expect("one of each group");
                assert!(!machine.has_failed, "{group:?} has failed, and is asked for more: {act:?}");
                assert!(!machine.is_closing, "{group:?} is being closed, and is asked for more: {act:?}");
                machine.jobs.push_back(act);
            }
            Act::Save { group, ref header } => {
                let machine = self.machines.get_mut(&group).expect("one of each group");
                match header {
                    Some(Header { id, .. }) => assert_eq!(Some(*id), machine.taken, "what was taken"),
                    None => machine.taken = None,
                }
                machine.jobs.extend(header.is_some().then_some(act));
            }
            Act::RemoveSnapshots { group, before } => {
                assert!(before <= self.machines[&group].saved, "{before} is the newest of {group:?}");
            }
            Act::Answer { answer: Answer::NotRead(read, _), .. } => {
                assert!(self.asked.remove(&read), "{read} is answered once");
            }
            Act::Answer { answer: Answer::Ready(reads), .. } => {
                for read in reads {
                    assert!(self.asked.remove(&read), "{read} is answered once");
                }
            }
            Act::SetPeers(peers) => assert!(!peers.contains_key(&NODE), "nobody is its own peer"),
            Act::Tell { group, event: GroupEvent::Fenced(why) } => {
                assert!(self.machines[&group].has_failed, "no peer stops {group:?} by what it sends: {why}");
            }
            Act::Complain { complaint, .. } => return Some(complaint),
            Act::Closed { group, log } => self.closed(group, log.expect("it stays in the log").state),
            Act::Stop(why) => assert!(self.may_stop, "no peer stops a node by what it sends: {why}"),
            Act::Transfer(_)
            | Act::Answer { .. }
            | Act::SetDisks(_)
            | Act::Show { .. }
            | Act::ShowMembers { .. }
            | Act::ShowHealth { .. }
            | Act::Tell { .. }
            | Act::Record { .. } => {}
        }
        None
    }

    fn close(&mut self, group: GroupId) {
        // What is asked of its state machine in this turn was decided before.
        self.end_turn();
        self.machines.get_mut(&group).expect("one of each group").is_closing = true;
        self.node.handle(self.now, Input::Close { group, remove: false });
        self.end_turn();
    }

    fn closed(&mut self, group: GroupId, state: GroupState) {
        let machine = &self.machines[&group];
        assert!(machine.is_closing, "nobody has closed {group:?}");
        assert!(self.unreported.iter().all(|(_, groups)| !groups.contains(&group)), "{group:?} is being written");
        assert!(self.reads.iter().all(|(of, _)| *of != group), "{group:?} is being read");
        assert!(machine.jobs.is_empty(), "{group:?} has yet to do {:?}", machine.jobs);
        self.closed.insert(group, state);
    }

    /// Disk and state machines do what they were asked, and what follows from that.
    fn settle(&mut self, reader: &mut Reader<'_>) {
        for _ in 0..4 {
            self.end_turn();
            self.persist(reader);
            self.fetch();
            for group in GROUPS {
                self.work(reader, group);
            }
        }
    }

    /// A state machine does the next of what it was asked.
    fn work(&mut self, reader: &mut Reader<'_>, group: GroupId) {
        for _ in 0..=reader.below(3) {
            let machine = self.machines.get_mut(&group).expect("one of each group");
            let Some(job) = machine.jobs.pop_front() else { break };
            let report = match job {
                Act::Apply { entries, .. } => {
                    self.apply(group, entries);
                    let upto = self.machines[&group].applied;
                    Input::Applied { group, upto, durable: self.durable(upto) }
                }
                Act::Restore { id, .. } => {
                    assert!(id.index > machine.applied.index, "{group:?} goes back to {id}");
                    (machine.applied, machine.saved) = (id, id);
                    Input::Restored { group, id, durable: self.durable(id) }
                }
                Act::TakeSnapshot { .. } => {
                    machine.taken = (!reader.one_in(8)).then_some(machine.applied);
                    Input::SnapshotTaken { group, id: machine.taken }
                }
                Act::Save { header: Some(header), .. } => self.save(reader, group, &header),
                other => panic!("{other:?} is nothing that a state machine does"),
            };
            self.node.handle(self.now, report);
        }
        if reader.flag() {
            self.end_turn();
        }
    }

    fn apply(&mut self, group: GroupId, entries: Vec<Committed>) {
        let machine = self.machines.get_mut(&group).expect("one of each group");
        for committed in entries {
            let applied = std::mem::replace(&mut machine.applied, committed.id);
            assert_eq!(committed.id.index, applied.index.next(), "{group:?} applies in order");
            assert!(committed.id.term >= applied.term, "{} after {applied}", committed.id);
            let on_disk = self.log.read(group, applied.index, committed.id.index, usize::MAX).expect("no fault");
            let [entry] = &on_disk[..] else { panic!("{group:?} applies {} before it is written", committed.id) };
            assert_eq!((entry.id, payload::decode(entry.payload.clone())), (committed.id, Ok(committed.payload)));
        }
    }

    fn save(&mut self, reader: &mut Reader<'_>, group: GroupId, header: &Header) -> Input {
        let machine = self.machines.get_mut(&group).expect("one of each group");
        machine.taken = None;
        let saved = if reader.one_in(4) {
            Err("this disk is broken".to_owned())
        } else {
            machine.saved = machine.saved.max(header.id);
            Ok(SnapshotInfo { id: header.id, bytes: 1, checksum: 1 })
        };
        Input::Saved { group, saved }
    }

    /// The state machine fails: it does nothing more, except that a snapshot is written that it has given.
    fn fail(&mut self, group: GroupId) {
        let machine = self.machines.get_mut(&group).expect("one of each group");
        machine.has_failed = true;
        machine.jobs.retain(|job| matches!(job, Act::Save { .. }));
        let why = Fence::Panicked { after: machine.applied, message: "by chance".to_owned() };
        self.node.handle(self.now, Input::Failed { group, why: why.into() });
        self.end_turn();
    }

    /// The log takes what waits, as its thread does.
    fn write(&mut self) {
        let (log, is_full) = (&mut self.log, self.is_full);
        let mut put = |writes: &[Write]| {
            let has_entries = |write: &Write| matches!(write, Write::Append { entries, .. } if !entries.is_empty());
            if is_full && writes.iter().any(has_entries) { Err(no_space()) } else { log.write(writes) }
        };
        for (batch, writes) in self.unwritten.drain(..) {
            self.writer.write(batch, writes, &mut put).expect("whatever peers have sent");
        }
        self.writer.try_again(&mut put).expect("whatever peers have sent");
    }

    fn persist(&mut self, reader: &mut Reader<'_>) {
        self.write();
        self.log.sync().expect("no fault");
        if reader.one_in(4) {
            self.log.tidy().expect("no fault");
        }
        match self.writer.synced() {
            Some(Durable::All(batch)) => {
                self.unreported.retain(|(other, _)| *other > batch);
                self.node.handle(self.now, Input::Written { batch });
            }
            Some(Durable::ButForEntries(batch)) => self.node.handle(self.now, Input::VotesWritten { batch }),
            None => {}
        }
    }

    /// Reads of the log bring what they find.
    fn fetch(&mut self) {
        self.write();
        if self.writer.waits() {
            return;
        }
        for (group, LogRead { purpose, after, upto, bytes_max }) in self.reads.drain(..) {
            // What was asked for may have been compacted away since.
            let entries = self.log.read(group, after, upto, bytes_max).unwrap_or_default();
            self.node.handle(self.now, Input::Fetched { group, purpose, entries });
        }
    }

    /// The power is cut.
    fn restart(&mut self, reader: &mut Reader<'_>) {
        self.unwritten.truncate(reader.below(3));
        self.write();
        self.is_full = false;
        self.disk.crash(u64::from(reader.byte()));
        (self.unwritten, self.unreported, self.reads) = Default::default();
        (self.writer, self.asked, self.closed, self.may_stop) = Default::default();
        self.start();
    }
}

fn options(sleep_after: Option<Duration>) -> Options {
    Options {
        config: Config { uncommitted_max: 8, sleep_after, ..Config::new(NODE) }.into(),
        disk: DISK,
        peers: BTreeMap::new(),
        recent_bytes_max: RECENT_BYTES_MAX,
        apply_bytes_max: APPLY_BYTES_MAX,
        retention: RETENTION,
        transfer: vlot_node::transfer::Limits::default(),
        policies: Policies::default(),
        origin: 1,
        unix_at_origin: Duration::from_secs(1),
        parts: BTreeMap::new(),
    }
}

/// What goes to the disk and to peers is on its way before anything is applied or answered.
fn rank(act: &Act) -> u8 {
    match act {
        Act::Write { .. } => 0,
        Act::Send { .. } => 1,
        Act::ReadLog { .. } => 2,
        _ => 3,
    }
}

/// Whether it is the first act of a new log, for which nobody waits.
fn is_first(write: &Write) -> bool {
    matches!(write, Write::LogStart { after, .. } if *after == LogId::ZERO)
}

fn no_space() -> WriteError {
    let (file, kind) = ("segment".into(), io::ErrorKind::StorageFull);
    WriteError::NoSpace(Failure { act: "write", file, kind, message: "no space".to_owned() })
}

/// Another node: the transport takes no connection of one that says that it is this one.
fn peer(reader: &mut Reader<'_>) -> NodeId {
    NodeId(2 + reader.below(5) as u64)
}

/// What a peer may send to a replica.
fn message(reader: &mut Reader<'_>, raft: &Raft) -> PeerMessage {
    let term = raft.role_state().term;
    match reader.below(16) {
        0 => {
            PeerMessage::Propose { term, payloads: (0..reader.below(3)).map(|_| some_payload(reader, raft)).collect() }
        }
        1 => {
            let id = ProposalId { origin: reader.number(), sequence: reader.number() };
            let context = Bytes::copy_from_slice(reader.bytes(2));
            PeerMessage::Change { term, request: ChangeRequest { id, changes: member_changes(reader), context } }
        }
        2 if reader.flag() => PeerMessage::ProposalsRefused { term, sequences: vec![reader.number(), 1] },
        2 => PeerMessage::ChangeRefused { sequence: reader.number(), why: ChangeRefused::NoVoters },
        _ => {
            let message = message::message(reader, raft);
            let payloads = match &message {
                Message { body: Body::AppendEntries { entries, .. }, .. } => {
                    let count = entries.last().since(entries.after().index);
                    (0..count).map(|_| some_payload(reader, raft)).collect()
                }
                _ => Vec::new(),
            };
            PeerMessage::Raft { message, payloads }
        }
    }
}

fn some_payload(reader: &mut Reader<'_>, raft: &Raft) -> Bytes {
    match reader.below(16) {
        0..=7 => some_command(reader),
        8 => payload::shared((0..reader.below(4)).map(|_| some_command(reader))),
        9 | 10 => payload::blank(),
        11..=13 => payload::configuration(&configuration_entry(reader, raft)),
        14 if reader.flag() => payload::for_witness(&payload::blank()),
        14 => {
            let [elapsed, unix] = [reader.number(), reader.number()].map(Duration::from_millis);
            payload::time(TimePassed { elapsed, unix })
        }
        _ => Bytes::copy_from_slice(reader.bytes(20)),
    }
}

fn some_command(reader: &mut Reader<'_>) -> Bytes {
    let id = ProposalId { origin: reader.number(), sequence: reader.number() };
    payload::command(id, 0, |out| out.extend_from_slice(reader.bytes(5)))
}

fn configuration_entry(reader: &mut Reader<'_>, raft: &Raft) -> MembersEntry {
    let members = Members::default().with_seats(message::configuration(reader, raft));
    let change = ProposalId { origin: reader.number(), sequence: reader.number() };
    MembersEntry { change, members, context: Bytes::copy_from_slice(reader.bytes(2)) }
}

fn member_changes(reader: &mut Reader<'_>) -> Vec<MemberChange> {
    let change = |reader: &mut Reader<'_>| {
        let node = message::node(reader);
        let address = String::from_utf8_lossy(reader.bytes(3)).into_owned();
        match reader.below(8) {
            0 => MemberChange::AddVoter { node, address },
            1 => MemberChange::AddLearner { node, address },
            2 => MemberChange::AddWitness { node, address },
            3 => MemberChange::Promote(node),
            4 => MemberChange::Demote(node),
            5 => MemberChange::Remove(node),
            6 => MemberChange::Move { node, address },
            _ => MemberChange::BindDisk { node, disk: reader.number() },
        }
    };
    (0..reader.below(4)).map(|_| change(reader)).collect()
}
