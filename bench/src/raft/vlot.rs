//! A replica of Vlot's core and the least host that it needs.
//!
//! The core never sees payloads, so the host keeps them: it records them when the core appends, attaches them to the
//! entries that the core sends, and hands them to the state machine when the core says that they may be applied.

use std::time::Duration;

use bytes::Bytes;
use vlot_raft::configuration::{Configuration, Configurations};
use vlot_raft::effect::{Effect, Effects, Input, RoleName, Source, WriteId};
use vlot_raft::id::{LogIndex, NodeId};
use vlot_raft::message::{Body, Envelope, Message};
use vlot_raft::raft::Raft;
use vlot_raft::state::{Config, Restored};
use vlot_raft::term_runs::TermRuns;
use vlot_raft::time::{Rng, Time};

use super::{
    FORGOTTEN_AT_ONCE, HEARTBEATS_PER_ELECTION, INFLIGHT_MAX, KEPT_ENTRIES, MESSAGE_BYTES_MAX, Machine, REPLICAS,
    Replica, Wire,
};

const HEARTBEAT: Duration = Duration::from_millis(100);

pub(crate) struct VlotReplica {
    raft: Raft,
    peers: Vec<NodeId>,
    log: Payloads,
    machine: Machine,
    applied: LogIndex,
    now: Time,
    /// The last write that was asked for and is not reported yet.
    written: Option<WriteId>,
    effects: Effects,
}

/// A message of the core, with the payloads of the entries that it names.
pub(crate) struct PeerMessage {
    from: NodeId,
    message: Message,
    payloads: Vec<Bytes>,
}

/// The payloads of a log after a first part that is cut off.
struct Payloads {
    after: LogIndex,
    payloads: Vec<Bytes>,
}

impl Replica for VlotReplica {
    type Message = PeerMessage;

    fn new(number: usize) -> Self {
        let nodes = (0..REPLICAS).map(node_id);
        let config = Config {
            heartbeat: HEARTBEAT,
            election_timeout: HEARTBEATS_PER_ELECTION * HEARTBEAT,
            inflight_max: INFLIGHT_MAX,
            ..Config::new(node_id(number))
        };
        let configurations = Configurations::begin(Configuration::of_voters(nodes.clone()));
        let restored = Restored { configurations, ..Restored::default() };
        Self {
            raft: Raft::new(config, restored, Time::default(), Rng::new(number as u64)),
            peers: nodes.filter(|&node| node != node_id(number)).collect(),
            log: Payloads { after: LogIndex::ZERO, payloads: Vec::new() },
            machine: Machine::default(),
            applied: LogIndex::ZERO,
            now: Time::default(),
            written: None,
            effects: Effects::new(),
        }
    }

    fn campaign(&mut self, wire: &mut Wire<PeerMessage>) {
        self.now = self.raft.deadline();
        self.step(Input::Tick, Vec::new(), wire);
    }

    fn beat(&mut self, wire: &mut Wire<PeerMessage>) {
        self.now = self.now + HEARTBEAT;
        if self.now >= self.raft.deadline() {
            self.step(Input::Tick, Vec::new(), wire);
        }
    }

    fn propose(&mut self, payloads: Vec<Bytes>, wire: &mut Wire<PeerMessage>) {
        let count = payloads.len() as u64;
        self.step(Input::Propose { count }, payloads, wire);
    }

    fn receive(&mut self, PeerMessage { from, message, payloads }: PeerMessage, wire: &mut Wire<PeerMessage>) {
        self.step(Input::Receive { from, message }, payloads, wire);
    }

    fn end_turn(&mut self, wire: &mut Wire<PeerMessage>) {
        self.send_entries(wire);
        // Storage is durable at once. The leader's entries are under way before it reports its own.
        while let Some(write) = self.written.take() {
            self.step(Input::Persisted { write }, Vec::new(), wire);
        }
        self.raft.end_turn(&mut self.effects);
        self.carry_out(Vec::new(), wire);
        self.apply();
    }

    fn leads(&self) -> bool {
        self.raft.role_state().role == RoleName::Leader
    }

    fn machine(&self) -> &Machine {
        &self.machine
    }
}

impl VlotReplica {
    fn step(&mut self, input: Input, payloads: Vec<Bytes>, wire: &mut Wire<PeerMessage>) {
        self.raft.step(self.now, input, &mut self.effects);
        self.carry_out(payloads, wire);
    }

    fn send_entries(&mut self, wire: &mut Wire<PeerMessage>) {
        for n in 0..self.peers.len() {
            let peer = self.peers[n];
            while let Some((after, upto)) = self.raft.next_range(peer) {
                let payloads = self.log.part(after, upto, MESSAGE_BYTES_MAX);
                let last = LogIndex(after.0 + payloads.len() as u64);
                let bytes = payloads.iter().map(|payload| payload.len() as u64).sum();
                self.raft.send_entries(peer, last, bytes, &mut self.effects);
                self.carry_out(payloads, wire);
            }
        }
    }

    /// Carries out the effects of one call, if there are any; `payloads` are those that came with it or go with it.
    #[inline]
    fn carry_out(&mut self, payloads: Vec<Bytes>, wire: &mut Wire<PeerMessage>) {
        if !self.effects.is_empty() {
            self.carry_out_all(payloads, wire);
        }
    }

    fn carry_out_all(&mut self, mut payloads: Vec<Bytes>, wire: &mut Wire<PeerMessage>) {
        for effect in self.effects.drain(..) {
            match effect {
                Effect::SaveVote { write, .. } => self.written = Some(write),
                Effect::Append { write, entries, source } => {
                    self.written = Some(write);
                    match source {
                        Source::Blank | Source::Configuration(_) => self.log.append(&entries, vec![Bytes::new()]),
                        Source::Proposed | Source::Received => {
                            self.log.append(&entries, std::mem::take(&mut payloads));
                        }
                    }
                }
                Effect::Send(Envelope { to, message }) => {
                    let payloads = match &message.body {
                        Body::AppendEntries { .. } => std::mem::take(&mut payloads),
                        _ => Vec::new(),
                    };
                    wire.send(to.0 as usize - 1, PeerMessage { from: self.raft.node(), message, payloads });
                }
                Effect::Misbehaved { from, how } => panic!("{from} is a correct peer, yet it said {how:?}"),
                // What is committed is looked up at the end of the turn; nothing else happens to a calm group.
                _ => {}
            }
        }
    }

    /// Hands what may be applied to the state machine, all but the blank entry of a new leader.
    fn apply(&mut self) {
        let ready = self.raft.ready();
        if self.applied < ready {
            for payload in self.log.between(self.applied, ready).iter().filter(|payload| !payload.is_empty()) {
                self.machine.apply(payload);
            }
            self.applied = ready;
            self.log.forget(ready);
        }
    }
}

impl Payloads {
    /// Cuts after the beginning of `entries` and appends the last of `payloads`: consensus takes only what is new of a
    /// message.
    fn append(&mut self, entries: &TermRuns, payloads: Vec<Bytes>) {
        self.payloads.truncate(self.place(entries.after().index));
        let count = entries.last().since(entries.after().index) as usize;
        let known = payloads.len() - count;
        self.payloads.extend(payloads.into_iter().skip(known));
    }

    /// Those after `after`, up to `upto` and to so many bytes, but one at least if there is one.
    fn part(&self, after: LogIndex, upto: LogIndex, bytes_max: usize) -> Vec<Bytes> {
        let all = self.between(after, upto);
        let mut bytes = 0;
        let fitting = all.iter().take_while(|payload| {
            bytes += payload.len();
            bytes <= bytes_max
        });
        let count = fitting.count().max(1).min(all.len());
        all[..count].to_vec()
    }

    fn between(&self, after: LogIndex, upto: LogIndex) -> &[Bytes] {
        &self.payloads[self.place(after)..self.place(upto)]
    }

    /// Forgets all but the newest of those up to `applied`.
    fn forget(&mut self, applied: LogIndex) {
        let held = self.place(applied);
        if held >= KEPT_ENTRIES + FORGOTTEN_AT_ONCE {
            self.payloads.drain(..held - KEPT_ENTRIES);
            self.after = LogIndex(applied.0 - KEPT_ENTRIES as u64);
        }
    }

    /// How many payloads there are up to `index`.
    fn place(&self, index: LogIndex) -> usize {
        index.since(self.after) as usize
    }
}

fn node_id(number: usize) -> NodeId {
    NodeId(number as u64 + 1)
}
