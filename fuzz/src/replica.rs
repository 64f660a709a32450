//! One replica whose peers say anything: it never panics, and what must hold of a single replica always does.
//!
//! Its host is right: it carries effects out in order, and reports writes once they are durable. Its peers need not be.
//! They may so make it commit what no quorum has; but its term, its promises, what is durable here and what is committed
//! here are its own business, and [`vlot_raft::invariants`] say what holds of them. Besides, this host knows its disk,
//! and checks whatever vouches for something durable at the moment it is sent.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use vlot_raft::configuration::{Change, Configuration, Configurations};
use vlot_raft::effect::{Effect, Effects, Input, WriteId};
use vlot_raft::id::{LogId, LogIndex, NodeId, Term};
use vlot_raft::invariants;
use vlot_raft::message::{Body, Envelope, Message, ReadId};
use vlot_raft::raft::Raft;
use vlot_raft::state::{Config, Restored};
use vlot_raft::term_runs::TermRuns;
use vlot_raft::time::{Rng, Time};

use crate::message;
use crate::reader::Reader;

/// The replica that is tried.
const NODE: NodeId = NodeId(1);
/// What a wait may be, in milliseconds: from nothing to several election timeouts.
const WAITS: [u64; 6] = [0, 20, 100, 300, 700, 2500];

/// Does what the bytes say.
///
/// # Panics
/// If something does not hold that must.
pub fn run(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    let mut host = Host::new(&mut reader);
    while !reader.is_empty() {
        host.act(&mut reader);
    }
}

struct Host {
    config: Config,
    raft: Raft,
    now: Time,
    disk: Disk,
    promises: Promises,
    effects: Effects,
}

impl Host {
    fn new(reader: &mut Reader<'_>) -> Self {
        let kind = reader.byte();
        let learner =
            Configuration::of_voters((2..=4).map(NodeId)).changed(&[Change::Learner(NODE)]).unwrap_or_default();
        let members = match kind % 8 {
            0 | 1 => Configuration::of_voters((1..=3).map(NodeId)),
            2 => Configuration::of_voters([NODE]),
            3 => Configuration::of_voters([NODE, NodeId(2)]),
            4 => Configuration::of_voters((1..=5).map(NodeId)),
            // It is to join.
            5 => Configuration::default(),
            6 => Configuration::of_voters((2..=4).map(NodeId)),
            _ => learner.settled(),
        };
        let config = Config {
            inflight_max: 2,
            inflight_bytes_max: 200,
            uncommitted_max: 8,
            priority: kind / 8 % 4,
            lease: (kind / 32 % 4 == 3).then_some(Duration::from_millis(500)),
            sleep_after: (kind / 128 == 1).then_some(Duration::from_millis(200)),
            ..Config::new(NODE)
        };
        let disk = Disk { configurations: vec![(LogIndex::ZERO, members)], ..Disk::default() };
        let raft = disk.start(&config, LogIndex::ZERO, Time::default(), 0);
        let (promises, effects) = (Promises::default(), Effects::new());
        Self { config, raft, now: Time::default(), disk, promises, effects }
    }

    fn act(&mut self, reader: &mut Reader<'_>) {
        let log = self.raft.log();
        let input = match reader.below(32) {
            0..=11 => {
                let from = NodeId(1 + reader.below(6) as u64);
                Input::Receive { from, message: message::message(reader, &self.raft) }
            }
            12..=15 => return self.persist(reader),
            16 | 17 => {
                self.now = self.now + Duration::from_millis(reader.among(&WAITS));
                Input::Tick
            }
            18 => {
                self.now = self.now.max(self.raft.deadline().min(self.now + Duration::from_secs(10)));
                Input::Tick
            }
            19 | 20 => Input::Propose { count: 1 + reader.below(4) as u64 },
            21..=23 => return self.end_turn(reader),
            24 => Input::ChangeConfiguration { changes: message::changes(reader) },
            25 => Input::Transfer { to: reader.flag().then(|| message::node(reader)) },
            26 => Input::Compact { upto: LogIndex(reader.near(self.raft.ready().0)) },
            27 => {
                let id = message::log_id(reader, &self.raft);
                let at = LogIndex(reader.near(log.after().index.0).min(reader.near(id.index.0)));
                Input::SnapshotReceived { id, configuration: (at, message::configuration(reader, &self.raft)) }
            }
            28 => match reader.byte() {
                state @ 0..=127 => Input::Fitness { fit: state % 2 == 1 },
                state => {
                    self.disk.is_full = state % 2 == 0;
                    Input::Room { is_there: !self.disk.is_full }
                }
            },
            29 => Input::Read { read: ReadId(reader.number()) },
            30 => {
                let peer = message::node(reader);
                match reader.byte() % 8 {
                    1 | 3 | 5 => Input::Connected { peer },
                    6 => Input::Silent { peer },
                    7 => Input::Wake,
                    _ => Input::Lost { peer },
                }
            }
            _ => return self.restart(reader),
        };
        self.step(input);
    }

    /// Some of what waits becomes durable; on a full disk only what needs no room.
    fn persist(&mut self, reader: &mut Reader<'_>) {
        let count = 1 + reader.below(4);
        if let Some(write) = self.disk.persist(count) {
            let is_full = self.disk.is_full;
            self.step(if is_full { Input::VotePersisted { write } } else { Input::Persisted { write } });
        }
    }

    /// What a host does at the end of a turn.
    fn end_turn(&mut self, reader: &mut Reader<'_>) {
        for peer in self.raft.peers().collect::<Vec<_>>() {
            // At most as often as there are messages in a window.
            for _ in 0..=self.config.inflight_max {
                let Some((after, upto)) = self.raft.next_range(peer) else { break };
                assert!(self.raft.log().after().index <= after && after <= upto && upto <= self.raft.log().last());
                let upto = LogIndex(after.0 + upto.since(after).min(1 + reader.below(3) as u64));
                self.checked(|raft, _, effects| raft.send_entries(peer, upto, 100, effects));
            }
        }
        self.checked(|raft, _, effects| raft.end_turn(effects));
    }

    /// The process ends, and another goes on from the disk. What was not reported durable may be so, up to some write.
    fn restart(&mut self, reader: &mut Reader<'_>) {
        self.disk.persist(reader.below(4));
        self.disk.pending.clear();
        self.disk.issued = WriteId::default();
        self.disk.is_full = false;
        let begin = self.disk.log.after().index;
        let applied = LogIndex(self.raft.ready().0.saturating_sub(reader.below(4) as u64)).max(begin);
        self.raft = self.disk.start(&self.config, applied, self.now, self.promises.process);
        self.disk.reach = self.disk.log.last();
        (self.promises.ready, self.promises.process) = (applied, self.promises.process + 1);
        invariants::check_one(&self.raft).unwrap_or_else(|broken| panic!("after a restart: {broken:?}"));
    }

    fn step(&mut self, input: Input) {
        self.checked(|raft, now, effects| raft.step(now, input, effects));
    }

    /// Changes the replica, checks what it has become, and carries out what it asks for.
    fn checked(&mut self, change: impl FnOnce(&mut Raft, Time, &mut Effects)) {
        let before = self.raft.clone();
        change(&mut self.raft, self.now, &mut self.effects);
        let held = invariants::check_one(&self.raft).and_then(|()| invariants::check_step(&before, &self.raft));
        held.unwrap_or_else(|broken| panic!("{broken:?}\nbefore {before:?}\nafter {:?}", self.raft));
        for effect in std::mem::take(&mut self.effects) {
            self.carry_out(effect, before.commit());
        }
        assert_eq!(self.raft.ready(), self.promises.ready, "the host is told how far it may apply");
    }

    fn carry_out(&mut self, effect: Effect, committed: LogIndex) {
        match effect {
            Effect::SaveVote { write, term, vote } => self.disk.write(write, Act::Vote(term, vote)),
            Effect::Append { write, entries, .. } => {
                assert!(entries.after().index >= committed, "{committed} is committed, cut {}", entries.after());
                let set = self.raft.configurations().part(entries.after().index, entries.last());
                self.disk.write(write, Act::Append(entries, set));
            }
            Effect::Compact { write, after } => self.disk.write(write, Act::Begin(after, None)),
            Effect::InstallSnapshot { write, id } => {
                let configuration = self.raft.configurations().at(id.index).clone();
                self.disk.write(write, Act::Begin(id, Some(configuration)));
            }
            Effect::Send(envelope) => self.promises.check_sent(&envelope, &self.disk),
            Effect::Commit { upto } => {
                assert!(upto > self.promises.ready, "ready {} then {upto}", self.promises.ready);
                assert!(upto <= self.disk.log.last(), "ready {upto}, on disk {}", self.disk.log.last());
                self.promises.ready = upto;
            }
            Effect::FetchSnapshot { from, reach } => {
                assert!(from != NODE && reach.index > committed, "needs no snapshot of {reach} from {from}");
            }
            _ => {}
        }
    }
}

/// What others may rely on, whichever process of this replica has said it.
#[derive(Default)]
struct Promises {
    /// Who was told that it has the vote of a term; this node, where it stood.
    votes: BTreeMap<Term, NodeId>,
    /// Which process has spoken as the leader of a term. One that stopped before its vote was durable has not.
    led: BTreeMap<Term, u64>,
    process: u64,
    /// What this process was told that it may apply.
    ready: LogIndex,
}

impl Promises {
    fn vote(&mut self, term: Term, candidate: NodeId) {
        let given_to = *self.votes.entry(term).or_insert(candidate);
        assert_eq!(given_to, candidate, "two votes in term {term}");
    }

    /// Whatever a message vouches for is on the disk when it is sent.
    fn check_sent(&mut self, Envelope { to, message: Message { term, body } }: &Envelope, disk: &Disk) {
        assert_ne!(*to, NODE, "nobody speaks to itself");
        match body {
            // Asking commits to nothing, and so does the answer.
            Body::RequestPreVote { .. } | Body::PreVoteGranted | Body::PreVoteRefused => return,
            Body::RequestVote { .. } => {
                assert_eq!((disk.term, disk.vote), (*term, Some(NODE)), "it stands");
                self.vote(*term, NODE);
            }
            Body::VoteGranted => {
                assert_eq!((disk.term, disk.vote), (*term, Some(*to)), "it has given its vote");
                self.vote(*term, *to);
            }
            Body::AppendEntries { .. } | Body::Heartbeat { .. } | Body::Committed { .. } | Body::TimeoutNow => {
                let process = *self.led.entry(*term).or_insert(self.process);
                assert_eq!(process, self.process, "two processes lead term {term}");
                self.vote(*term, NODE);
            }
            // A leader that contradicts itself may have cut them again meanwhile, as no true one does.
            Body::EntriesAccepted { upto, .. } => {
                assert!(*upto <= disk.reach, "accepted up to {upto}, durable was {}", disk.reach);
            }
            _ => {}
        }
        assert!(*term <= disk.term, "speaks in term {term}, on disk is {}", disk.term);
    }
}

/// What was asked for, and what of it is durable.
#[derive(Default)]
struct Disk {
    term: Term,
    vote: Option<NodeId>,
    log: TermRuns,
    /// The configuration with which the log begins, and those that entries set.
    configurations: Vec<(LogIndex, Configuration)>,
    /// The last entry that this process ever had on disk.
    reach: LogIndex,
    pending: VecDeque<(WriteId, Act)>,
    /// The last write that was asked for.
    issued: WriteId,
    /// Entries wait; votes, and where the log begins, do not.
    is_full: bool,
}

enum Act {
    Vote(Term, Option<NodeId>),
    Append(TermRuns, Vec<(LogIndex, Configuration)>),
    /// With the configuration of a snapshot, if the log begins with one.
    Begin(LogId, Option<(LogIndex, Configuration)>),
}

impl Disk {
    fn start(&self, config: &Config, applied: LogIndex, now: Time, seed: u64) -> Raft {
        let (term, vote, log) = (self.term, self.vote, self.log.clone());
        let [base, later @ ..] = &self.configurations[..] else { unreachable!("the first is never cut") };
        let configurations = Configurations::new(base.clone(), later.to_vec());
        Raft::new(config.clone(), Restored { term, vote, log, applied, configurations }, now, Rng::new(seed))
    }

    fn write(&mut self, write: WriteId, act: Act) {
        assert!(write > self.issued, "{write:?} comes after others");
        self.issued = write;
        self.pending.push_back((write, act));
    }

    /// Makes up to `count` writes durable. Gives back up to where all are; on a full disk, all but entries.
    fn persist(&mut self, count: usize) -> Option<WriteId> {
        let before = self.pending.len();
        for _ in 0..count {
            let fits = |(_, act): &(WriteId, Act)| !self.is_full || !matches!(act, Act::Append(..));
            let Some(at) = self.pending.iter().position(fits) else { break };
            let Some((_, act)) = self.pending.remove(at) else { break };
            if let (Act::Begin(after, snapshot), 1..) = (&act, at) {
                self.shorten_what_waits(at, *after, snapshot.clone());
            }
            self.apply(act);
            self.reach = self.reach.max(self.log.last());
        }
        let mut waiting = self.pending.iter().filter(|(_, act)| !self.is_full || !matches!(act, Act::Append(..)));
        let durable = waiting.next().map_or(self.issued, |(next, _)| WriteId(next.0 - 1));
        (self.pending.len() < before).then_some(durable)
    }

    /// The log begins before the first `passed` writes are done, all of them appends: in the end it is what it would be if
    /// that had come after them.
    fn shorten_what_waits(&mut self, passed: usize, after: LogId, snapshot: Option<(LogIndex, Configuration)>) {
        let (term, vote, log, configurations) = (self.term, self.vote, self.log.clone(), self.configurations.clone());
        let mut in_order = Self { term, vote, log, configurations, ..Self::default() };
        let appends: Vec<(WriteId, Act)> = self.pending.drain(..passed).collect();
        let newest = appends.last().map(|(write, _)| *write);
        appends.into_iter().for_each(|(_, append)| in_order.apply(append));
        in_order.apply(Act::Begin(after, snapshot));
        let set = in_order.configurations.split_off(1);
        self.pending.extend(newest.map(|write| (write, Act::Append(in_order.log, set))));
        self.pending.rotate_right(usize::from(newest.is_some()));
    }

    fn apply(&mut self, act: Act) {
        match act {
            Act::Vote(term, vote) => {
                let kept = term > self.term || (term == self.term && self.vote.is_none_or(|was| vote == Some(was)));
                assert!(kept, "{:?} in {}, then {vote:?} in {term}", self.vote, self.term);
                (self.term, self.vote) = (term, vote);
            }
            Act::Append(entries, configurations) => {
                assert!(entries.last_id().term <= self.term, "an entry of a term that is not on disk");
                self.log.cut_after(entries.after().index);
                self.log.extend(&entries);
                self.configurations.retain(|(at, _)| *at <= entries.after().index);
                self.configurations.extend(configurations);
            }
            Act::Begin(after, snapshot) => {
                if self.log.contains(after) {
                    self.log.begin_after(after.index);
                } else {
                    self.log = TermRuns::empty(after);
                    self.configurations.clear();
                }
                let gone = self.configurations.iter().take_while(|(at, _)| *at <= after.index).count();
                match snapshot {
                    Some(base) => drop(self.configurations.splice(..gone, [base])),
                    None => drop(self.configurations.drain(..gone.saturating_sub(1))),
                }
            }
        }
    }
}
