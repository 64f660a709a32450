//! One node whose peers send any bytes: it never panics, stops or forgets, and can always be started again.
//!
//! The node is the real core over the real log, on the simulated disk: whatever its peers make it write, the log must
//! take, and must give back after a loss of power. Frames are bytes of chance or those of messages that a peer may send,
//! here and there with a byte changed. A peer that leads may make it commit anything, so what is committed is not judged;
//! but what is handed to a state machine is what the log holds, in order.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use vlot::fuzzing;
use vlot::members::{ChangeRequest, MemberChange, Members, MembersAt, MembersEntry};
use vlot::node::{BatchId, Input, NodeCore, Turn};
use vlot::payload;
use vlot::proposal_id::ProposalId;
use vlot::replica::{Begin, Limits, LogRead};
use vlot::wire::PeerMessage;
use vlot_log::disk::sim::SimDisk;
use vlot_log::log::{Identity, Log, Options};
use vlot_log::record::Write;
use vlot_raft::configuration::ChangeRefused;

use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId};
use vlot_raft::invariants;
use vlot_raft::message::{Body, Message};
use vlot_raft::raft::Raft;
use vlot_raft::state::Config;
use vlot_raft::time::Time;

use crate::message;
use crate::reader::Reader;

const NODE: NodeId = NodeId(1);
const IDENTITY: Identity = Identity { cluster: 7, node: NODE };
const OPTIONS: Options = Options {
    segment_bytes: 8192,
    keep: payload::sets_configuration,
    slack_bytes: 0,
    accept_damage: false,
    accept_damaged_entries: false,
};
/// A group that the node belongs to from its beginning, and one that it is to join.
/// Some entries must be read from the log.
const RECENT_BYTES_MAX: usize = 64;
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
        assert_eq!(PeerMessage::decode(message.encode(group)), Ok((group, message)));
    }
    if let Ok(set) = MembersAt::decode(bytes.clone()) {
        assert_eq!(MembersAt::decode(set.encode()), Ok(set));
    }
    if let Ok(request) = ChangeRequest::decode(bytes.clone()) {
        assert_eq!(ChangeRequest::decode(request.encode()), Ok(request));
    }
    let _ = payload::decode(&bytes);
    fuzzing::read_handshake(&bytes);
    fuzzing::read_snapshot(&bytes);
}

struct Host {
    core: NodeCore,
    log: Log<SimDisk>,
    disk: SimDisk,
    members: Members,
    now: Time,
    /// Batches that are not durable, and their writes as long as they are not in the log either.
    unwritten: VecDeque<(BatchId, Vec<Write>)>,
    written: VecDeque<BatchId>,
    /// Nothing is written.
    is_full: bool,
    reads: VecDeque<(GroupId, LogRead)>,
    /// What each state machine has applied.
    applied: BTreeMap<GroupId, LogId>,
    /// Processes so far; names them.
    starts: u64,
    sequence: u64,
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
        let disk = SimDisk::new();
        let (log, _) = Log::open(disk.clone(), IDENTITY, OPTIONS).expect("a new log");
        let mut host = Self {
            core: NodeCore::new(RECENT_BYTES_MAX),
            log,
            disk,
            members,
            now: Time::default(),
            unwritten: VecDeque::new(),
            written: VecDeque::new(),
            is_full: false,
            reads: VecDeque::new(),
            applied: BTreeMap::new(),
            starts: 0,
            sequence: 0,
        };
        host.start();
        host
    }

    /// A process begins with what the log and the state machines hold.
    fn start(&mut self) {
        let (log, mut recovered) = Log::open(self.disk.clone(), IDENTITY, OPTIONS).expect("whatever peers have sent");
        (self.log, self.core) = (log, NodeCore::new(RECENT_BYTES_MAX));
        self.starts += 1;
        for group in GROUPS {
            let recovered = recovered.groups.remove(&group).unwrap_or_default();
            let begin = recovered.runs.after();
            let applied = self.applied.entry(group).or_default();
            // A snapshot is durable before the log begins after it.
            *applied = (*applied).max(begin);
            let begin = Begin {
                group,
                config: Config { uncommitted_max: 8, ..Config::new(NODE) }.into(),
                members: if group == GROUPS[0] { self.members.clone() } else { Members::default() },
                recovered,
                damaged: None,
                applied: *applied,
                limits: Limits {
                    message_bytes_max: 64,
                    inflight_max: 2,
                    inflight_bytes_max: 200,
                    uncommitted_max: 8,
                    replay_bytes_max: 64,
                },
                origin: self.starts,
                seed: self.starts,
            };
            self.core.add(self.now, begin).unwrap_or_else(|error| panic!("{group:?} cannot begin again: {error}"));
        }
    }

    fn act(&mut self, reader: &mut Reader<'_>) {
        let group = GROUPS[usize::from(reader.one_in(4))];
        let raft = self.core.raft(group).expect("a group of this node");
        let input = match reader.below(32) {
            0..=9 => {
                let message = message(reader, raft);
                self.receive_parcel(reader, group, &message);
                return;
            }
            10 => {
                let count = usize::from(reader.byte());
                let bytes = Bytes::copy_from_slice(reader.bytes(count));
                Input::Frame { from: NodeId(2), bytes }
            }
            11..=13 => return self.persist(reader),
            14..=17 => {
                let wait = Duration::from_millis(reader.among(&WAITS));
                self.now = if reader.flag() { self.now + wait } else { self.now.max(self.next_deadline()) };
                return self.end_turn();
            }
            18 | 19 => {
                self.sequence += 1;
                let id = ProposalId { origin: self.starts, sequence: self.sequence };
                let payload = payload::command(id, 0, |out| out.extend_from_slice(reader.bytes(9)));
                Input::Propose { group, sequence: self.sequence, payload }
            }
            20 => Input::Withdraw { group, sequence: self.sequence },
            21 => {
                self.sequence += 1;
                let (changes, context) = (member_changes(reader), Bytes::copy_from_slice(reader.bytes(2)));
                Input::ChangeMembers { group, sequence: self.sequence, changes, context }
            }
            22 => Input::Transfer { group, sequence: 1, to: reader.flag().then(|| message::node(reader)) },
            23 => {
                let applied = self.applied[&group].index;
                Input::Compact { group, upto: LogIndex(applied.0.saturating_sub(reader.below(3) as u64)) }
            }
            24 | 25 => {
                let id = message::log_id(reader, raft);
                let at = LogIndex(reader.near(id.index.0));
                let entry = configuration_entry(reader, raft);
                Input::SnapshotReceived { group, id, members: MembersAt { at, entry } }
            }
            26 => match reader.byte() {
                state @ 0..=127 => Input::Fitness { group, fit: state % 2 == 1 },
                state => {
                    self.is_full = state % 2 == 0;
                    Input::Room { is_there: !self.is_full }
                }
            },
            27 => Input::Read { group, read: reader.number() },
            28 => return self.fetch(),
            29 => Input::Connected { peer: message::node(reader) },
            30 => Input::Lost { peer: message::node(reader) },
            _ => return self.restart(reader),
        };
        self.core.handle(self.now, input);
        if reader.flag() {
            self.end_turn();
        }
    }

    fn next_deadline(&self) -> Time {
        self.core.deadline().min(self.now + Duration::from_secs(10))
    }

    /// A peer sends this, or something like it.
    fn receive_parcel(&mut self, reader: &mut Reader<'_>, group: GroupId, message: &PeerMessage) {
        // The transport takes no connection from who says that it is this node.
        let from = NodeId(2 + reader.below(5) as u64);
        let mut bytes = message.encode(group).to_vec();
        if reader.one_in(8) && !bytes.is_empty() {
            let at = usize::from(reader.byte()) % bytes.len();
            bytes[at] ^= reader.byte();
        }
        self.core.handle(self.now, Input::Frame { from, bytes: bytes.into() });
        if reader.flag() {
            self.end_turn();
        }
    }

    fn end_turn(&mut self) {
        let before: Vec<Raft> = self.rafts().cloned().collect();
        let turn = self.core.end_turn(self.now);
        for (before, after) in before.iter().zip(self.rafts()) {
            let held = invariants::check_one(after).and_then(|()| invariants::check_step(before, after));
            held.unwrap_or_else(|broken| panic!("{broken:?}"));
        }
        self.carry_out(turn);
    }

    fn rafts(&self) -> impl Iterator<Item = &Raft> {
        GROUPS.iter().filter_map(|group| self.core.raft(*group))
    }

    fn carry_out(&mut self, turn: Turn) {
        assert_eq!(turn.broken, None, "no peer stops a node by what it sends");
        self.unwritten.extend(turn.write);
        self.reads.extend(turn.log_reads);
        for (to, _, frame) in turn.frames {
            assert_ne!(to, NODE, "nobody speaks to itself");
            PeerMessage::decode(frame).unwrap_or_else(|bad| panic!("{to} could not read this: {bad}"));
        }
        for (group, id) in turn.restore {
            assert!(id.index > self.applied[&group].index, "{group:?} goes back to {id}");
            self.applied.insert(group, id);
        }
        for (group, entries) in turn.committed {
            for committed in entries {
                let applied = self.applied[&group];
                assert_eq!(committed.id.index, applied.index.next(), "{group:?} applies in order");
                assert!(committed.id.term >= applied.term, "{} after {applied}", committed.id);
                let on_disk = self.log.read(group, applied.index, committed.id.index, usize::MAX).expect("no fault");
                let [entry] = &on_disk[..] else { panic!("{group:?} applies {} before it is written", committed.id) };
                assert_eq!((entry.id, payload::decode(&entry.payload)), (committed.id, Ok(committed.payload)));
                self.applied.insert(group, committed.id);
            }
        }
    }

    /// The log takes what waits, as its thread does.
    fn write(&mut self) {
        if self.is_full {
            return;
        }
        for (batch, writes) in self.unwritten.drain(..) {
            self.log.write(&writes).expect("whatever peers have sent");
            self.written.push_back(batch);
        }
    }

    fn persist(&mut self, reader: &mut Reader<'_>) {
        self.write();
        self.log.sync().expect("no fault");
        if reader.one_in(4) {
            self.log.tidy().expect("no fault");
        }
        if let Some(batch) = self.written.drain(..).next_back() {
            self.core.handle(self.now, Input::Written { batch });
        }
    }

    /// Reads of the log bring what they find.
    fn fetch(&mut self) {
        self.write();
        if self.is_full {
            return;
        }
        for (group, LogRead { purpose, after, upto, bytes_max }) in self.reads.drain(..) {
            // What was asked for may have been compacted away since.
            let entries = self.log.read(group, after, upto, bytes_max).unwrap_or_default();
            self.core.handle(self.now, Input::Fetched { group, purpose, entries });
        }
    }

    /// The power is cut.
    fn restart(&mut self, reader: &mut Reader<'_>) {
        self.unwritten.truncate(reader.below(3));
        self.write();
        self.is_full = false;
        self.disk.crash(u64::from(reader.byte()));
        (self.unwritten, self.written, self.reads) = Default::default();
        self.start();
    }
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
        0..=7 => {
            let id = ProposalId { origin: reader.number(), sequence: reader.number() };
            payload::command(id, 0, |out| out.extend_from_slice(reader.bytes(5)))
        }
        8..=10 => payload::blank(),
        11..=13 => payload::configuration(&configuration_entry(reader, raft)),
        14 => payload::for_witness(&payload::blank()),
        _ => Bytes::copy_from_slice(reader.bytes(20)),
    }
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
