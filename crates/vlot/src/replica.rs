//! One group's share on one node: consensus, plus the payloads, the proposals and reads that wait, and how far the
//! state machine has come.
//!
//! The one place where bytes meet metadata. Sans-IO, like consensus: inputs come with the time, and what must be done
//! is gathered in [`Work`]. Must not know of files, sockets, tasks, or of what a command means.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use vlot_log::index::GroupState;
use vlot_log::record::{Entry, Write};
use vlot_raft::effect::{Effect, Effects, Input, Misbehaviour, RoleName, Source, Standing, WriteId};
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId, Term};
use vlot_raft::membership::Membership;
use vlot_raft::message::{Body, Envelope, Message, ReadId};
use vlot_raft::raft::Raft;
use vlot_raft::state::{Config, Restored};
use vlot_raft::term_runs::TermRuns;
use vlot_raft::time::{Chance, Time};

use crate::entries::RecentEntries;
use crate::payload::{self, Payload, ProposalId};
use crate::wire::Parcel;

/// The bounds of a replica.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Payload bytes of one message, if it has more than one entry.
    pub message_bytes_max: usize,
    /// Messages with entries under way to one peer.
    pub inflight_max: usize,
    /// Payload bytes of recent entries kept in memory.
    pub recent_bytes_max: usize,
    /// Payload bytes handed to the state machine at once, when it catches up from disk.
    pub replay_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: usize = 1 << 20;
        Self { message_bytes_max: MIB, inflight_max: 128, recent_bytes_max: 16 * MIB, replay_bytes_max: 4 * MIB }
    }
}

/// How a new replica begins.
#[derive(Debug)]
pub struct Begin {
    /// The group.
    pub group: GroupId,
    /// How it behaves.
    pub config: Config,
    /// Who belongs to it.
    pub membership: Membership,
    /// What the log holds of it.
    pub recovered: GroupState,
    /// What its state machine has durably applied.
    pub applied: LogId,
    /// Its bounds.
    pub limits: Limits,
    /// Names this process in its proposals: another number at each start.
    pub origin: u64,
    /// Seeds its chance.
    pub seed: u64,
}

/// What a replica wants done. Everything is in the order in which it must happen.
#[derive(Debug, Default)]
pub struct Work {
    /// Durable acts, in order.
    pub writes: Vec<Write>,
    /// The number under which consensus knows the last of them.
    pub last_write: Option<WriteId>,
    /// Parcels for peers.
    pub parcels: Vec<(NodeId, Parcel)>,
    /// Entries to read from the log, after the writes that were asked for before.
    pub log_reads: Vec<LogRead>,
    /// Committed entries to apply, in order.
    pub committed: Vec<Committed>,
    /// Reads that may be answered once `committed` is applied.
    pub reads_ready: Vec<u64>,
    /// Changes of term, role or leader.
    pub became: Vec<Standing>,
    /// What peers did wrong.
    pub misbehaved: Vec<(NodeId, Misbehaviour)>,
}

/// Entries that a replica needs from the log on disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogRead {
    /// What it needs them for.
    pub purpose: Purpose,
    /// The entry before the first.
    pub after: LogIndex,
    /// The last.
    pub upto: LogIndex,
    /// Fewer entries are enough when they have this many bytes together.
    pub bytes_max: usize,
}

/// Who needs the entries of a [`LogRead`].
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Purpose {
    /// The state machine, which lags behind what is in memory.
    Apply,
    /// A peer that lags behind what is in memory.
    Send(NodeId),
}

/// A committed entry on its way to the state machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Committed {
    /// Its name.
    pub id: LogId,
    /// What it holds.
    pub payload: Payload,
}

/// The state machine has applied what the log does not have, or has under another name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogIsBehind {
    /// What is applied.
    pub applied: LogId,
    /// Where the log ends.
    pub last: LogId,
}

impl std::fmt::Display for LogIsBehind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { applied, last } = self;
        write!(
            f,
            "the state machine has applied {applied}, which is not in the log that ends with {last}: they do not belong together, or the log was lost"
        )
    }
}

impl std::error::Error for LogIsBehind {}

/// An entry on disk is none that was written by a version known here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BadEntry(pub LogId);

/// One group's share on one node.
///
/// Invariant: `handed <= raft.ready() <= raft.durable()`.
#[derive(Debug)]
pub struct Replica {
    group: GroupId,
    origin: u64,
    limits: Limits,
    read_patience: Duration,
    raft: Raft,
    recent: RecentEntries,
    /// The last entry handed to the state machine.
    handed: LogId,
    /// Proposals of this node that are not applied.
    proposals: BTreeMap<u64, Proposal>,
    /// Which of them are yet to be sent.
    unsent: BTreeSet<u64>,
    /// Proposals of followers, and the term for which they were meant.
    forwarded: (Term, Vec<Bytes>),
    reads: Reads,
    /// Reads of the log that are under way.
    fetching: BTreeSet<Purpose>,
    /// What was read for peers and is not sent.
    fetched: BTreeMap<NodeId, Vec<Entry>>,
    connected: BTreeSet<NodeId>,
    /// Peers that were connected and are not any more.
    lost: BTreeSet<NodeId>,
}

/// A proposal of this node.
#[derive(Debug)]
struct Proposal {
    payload: Bytes,
    /// The term to whose leader it went.
    sent_in: Option<Term>,
}

/// The linearizable reads of this node.
#[derive(Debug, Default)]
struct Reads {
    next: u64,
    /// Not asked.
    waiting: Vec<u64>,
    /// Asked, by turn: when, and which. An answer may never come.
    asked: BTreeMap<ReadId, (Time, Vec<u64>)>,
    /// Answered, and not applied far enough.
    confirmed: Vec<(LogIndex, Vec<u64>)>,
}

impl Replica {
    /// A replica that goes on from what its log and its state machine hold.
    ///
    /// # Errors
    /// If the state machine has applied an entry that the log does not have.
    pub fn new(now: Time, begin: Begin) -> Result<Self, LogIsBehind> {
        let Begin { group, config, membership, recovered, applied, limits, origin, seed } = begin;
        let GroupState { term, vote, runs } = recovered;
        if !runs.contains(applied) {
            return Err(LogIsBehind { applied, last: runs.last_id() });
        }
        let recent = RecentEntries::after(runs.last());
        let read_patience = config.election_timeout;
        let restored = Restored { term, vote, log: runs, applied: applied.index, membership };
        Ok(Self {
            group,
            origin,
            limits,
            read_patience,
            raft: Raft::new(config, restored, now, Chance::new(seed)),
            recent,
            handed: applied,
            proposals: BTreeMap::new(),
            unsent: BTreeSet::new(),
            forwarded: (Term::ZERO, Vec::new()),
            // Begins where no earlier process of this node has been: see `ReadId`.
            reads: Reads { next: origin, ..Reads::default() },
            fetching: BTreeSet::new(),
            fetched: BTreeMap::new(),
            connected: BTreeSet::new(),
            lost: BTreeSet::new(),
        })
    }

    /// Its consensus, to look at.
    #[must_use]
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    /// The last entry handed to the state machine.
    #[must_use]
    pub fn handed(&self) -> LogId {
        self.handed
    }

    /// When [`Replica::tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Time {
        let oldest_read = self.reads.asked.values().map(|(asked, _)| *asked + self.read_patience).min();
        self.raft.deadline().min(oldest_read.unwrap_or(Time::NEVER))
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Time, work: &mut Work) {
        // What was asked and not answered is asked again: the question or the answer was lost.
        let patience = self.read_patience;
        self.ask_again(|asked| now.since(asked) >= patience);
        self.step(now, Input::Tick, Vec::new(), work);
    }

    /// A peer has sent this.
    pub fn receive(&mut self, now: Time, from: NodeId, parcel: Parcel, work: &mut Work) {
        match parcel {
            // What was still under way when the connection broke would pass for a sign of life of a leader that is
            // gone. It may be dropped, like any message; a leader that is there comes with a new connection.
            Parcel::Raft { message, .. } if self.lost.contains(&from) && is_of_leader(&message) => {}
            Parcel::Raft { message, payloads } => {
                self.step(now, Input::Receive { from, message }, payloads, work);
            }
            // Taken or dropped at the end of the turn, when it is certain in which term the turn's entries are made.
            Parcel::Propose { term, payloads } if term == self.raft.standing().term => {
                if self.forwarded.0 != term {
                    self.forwarded = (term, Vec::new());
                }
                self.forwarded.1.extend(payloads);
            }
            Parcel::Propose { .. } => {}
        }
    }

    /// Proposes a command, as a payload that [`payload::command`] has made with this node's origin and `sequence`. It
    /// goes to whoever leads, again if it was certainly lost, until it is applied or withdrawn.
    pub fn propose(&mut self, sequence: u64, payload: Bytes) {
        self.proposals.insert(sequence, Proposal { payload, sent_in: None });
        self.unsent.insert(sequence);
    }

    /// Nobody waits for the proposal any more: it is not sent again. It may still come true.
    pub fn withdraw(&mut self, sequence: u64) {
        self.proposals.remove(&sequence);
        self.unsent.remove(&sequence);
    }

    /// Asks for a linearizable read; `read` is the host's name for it.
    pub fn read(&mut self, read: u64) {
        self.reads.waiting.push(read);
    }

    /// The write with this number, and all before, are durable.
    pub fn persisted(&mut self, now: Time, write: WriteId, work: &mut Work) {
        self.step(now, Input::Persisted { write }, Vec::new(), work);
    }

    /// The connection to a peer is up.
    pub fn connected(&mut self, now: Time, peer: NodeId, work: &mut Work) {
        self.connected.insert(peer);
        self.lost.remove(&peer);
        self.step(now, Input::Connected { peer }, Vec::new(), work);
    }

    /// The connection to a peer is gone.
    pub fn lost(&mut self, now: Time, peer: NodeId, work: &mut Work) {
        self.connected.remove(&peer);
        self.lost.insert(peer);
        self.step(now, Input::Lost { peer }, Vec::new(), work);
    }

    /// What a [`LogRead`] has brought.
    ///
    /// # Errors
    /// If an entry is none that this version knows; the replica must stop.
    pub fn fetched(&mut self, purpose: Purpose, entries: Vec<Entry>, work: &mut Work) -> Result<(), BadEntry> {
        self.fetching.remove(&purpose);
        // The log may have been cut since; what is not in it any more is of no use.
        if !entries.last().is_some_and(|last| self.raft.log().contains(last.id)) {
            return Ok(());
        }
        match purpose {
            Purpose::Apply => self.hand_over(entries, work)?,
            Purpose::Send(peer) => {
                self.fetched.insert(peer, entries);
            }
        }
        Ok(())
    }

    /// Ends a turn: what the turn has gathered becomes one append, one question and one message per peer.
    ///
    /// # Errors
    /// If an entry is none that this version knows; the replica must stop.
    pub fn end_turn(&mut self, now: Time, work: &mut Work) -> Result<(), BadEntry> {
        self.send_proposals(now, work);
        self.send_reads(now, work);
        self.send_entries(work);
        self.apply(work)?;
        let applied = self.handed.index;
        self.reads.confirmed.retain_mut(|(index, reads)| {
            let ready = *index <= applied;
            if ready {
                work.reads_ready.append(reads);
            }
            !ready
        });
        self.recent.shrink(self.handed.index.min(self.raft.durable()), self.limits.recent_bytes_max);
        Ok(())
    }

    /// Sends what waits to whoever leads: appends it, if that is this node.
    fn send_proposals(&mut self, now: Time, work: &mut Work) {
        let (meant_for, mut payloads) = std::mem::take(&mut self.forwarded);
        let Standing { term, role, leader } = self.raft.standing();
        if role == RoleName::Leader {
            if meant_for != term {
                payloads.clear();
            }
            payloads.extend(self.take_unsent(term));
            if !payloads.is_empty() {
                let count = payloads.len() as u64;
                self.step(now, Input::Propose { count }, payloads, work);
            }
        } else if let Some(leader) = leader.filter(|leader| self.connected.contains(leader)) {
            let payloads: Vec<Bytes> = self.take_unsent(term).collect();
            if !payloads.is_empty() {
                work.parcels.push((leader, Parcel::Propose { term, payloads }));
            }
        }
    }

    fn take_unsent(&mut self, term: Term) -> impl Iterator<Item = Bytes> + use<'_> {
        let proposals = &mut self.proposals;
        std::mem::take(&mut self.unsent).into_iter().filter_map(move |sequence| {
            let proposal = proposals.get_mut(&sequence)?;
            proposal.sent_in = Some(term);
            Some(proposal.payload.clone())
        })
    }

    /// Asks one question for all reads that wait.
    fn send_reads(&mut self, now: Time, work: &mut Work) {
        if self.reads.waiting.is_empty() || self.raft.standing().leader.is_none() {
            return;
        }
        self.reads.next = self.reads.next.wrapping_add(1);
        let read = ReadId(self.reads.next);
        let waiting = std::mem::take(&mut self.reads.waiting);
        self.reads.asked.insert(read, (now, waiting));
        self.step(now, Input::Read { read }, Vec::new(), work);
    }

    /// Reads asked at a moment for which `gone` holds are asked again.
    fn ask_again(&mut self, gone: impl Fn(Time) -> bool) {
        let waiting = &mut self.reads.waiting;
        self.reads.asked.retain(|_, (asked, reads)| {
            let again = gone(*asked);
            if again {
                waiting.append(reads);
            }
            !again
        });
    }

    /// Sends each peer what it lacks: from memory, or from disk if it lags far behind.
    fn send_entries(&mut self, work: &mut Work) {
        let mut effects = Effects::new();
        for peer in self.raft.membership().voters().to_vec() {
            while let Some((after, upto)) = self.raft.wants(peer) {
                let Some(entries) = self.entries_for(peer, after, upto, work) else { break };
                let last = entries.last().map_or(after, |entry| entry.id.index);
                self.raft.send_entries(peer, last, &mut effects);
                self.carry_out(&mut effects, entries.into_iter().map(|entry| entry.payload).collect(), work);
            }
        }
        self.raft.tell_commit(&mut effects);
        self.carry_out(&mut effects, Vec::new(), work);
    }

    /// The entries for one message; none if they must be read from disk first.
    fn entries_for(&mut self, peer: NodeId, after: LogIndex, upto: LogIndex, work: &mut Work) -> Option<Vec<Entry>> {
        let fetched = self.fetched.remove(&peer);
        if after >= upto {
            return Some(Vec::new());
        }
        if self.recent.reach_back_to(after) {
            return Some(self.recent.part(after, upto, self.limits.message_bytes_max).cloned().collect());
        }
        if let Some(entries) = fetched.filter(|entries| entries.first().is_some_and(|e| e.id.index == after.next())) {
            return Some(entries);
        }
        self.fetch(Purpose::Send(peer), after, upto, self.limits.message_bytes_max, work);
        None
    }

    fn fetch(&mut self, purpose: Purpose, after: LogIndex, upto: LogIndex, bytes_max: usize, work: &mut Work) {
        if self.fetching.insert(purpose) {
            work.log_reads.push(LogRead { purpose, after, upto, bytes_max });
        }
    }

    /// Hands over what may be applied.
    fn apply(&mut self, work: &mut Work) -> Result<(), BadEntry> {
        let (after, upto) = (self.handed.index, self.raft.ready());
        if after >= upto {
            return Ok(());
        }
        if self.recent.reach_back_to(after) {
            let entries = self.recent.part(after, upto, usize::MAX).cloned().collect();
            self.hand_over(entries, work)
        } else {
            self.fetch(Purpose::Apply, after, upto, self.limits.replay_bytes_max, work);
            Ok(())
        }
    }

    fn hand_over(&mut self, entries: Vec<Entry>, work: &mut Work) -> Result<(), BadEntry> {
        for Entry { id, payload } in entries {
            if id.index != self.handed.index.next() || id.index > self.raft.ready() {
                continue;
            }
            let payload = payload::decode(&payload).map_err(|_| BadEntry(id))?;
            match payload {
                Payload::Command { id: ProposalId { origin, sequence }, .. } if origin == self.origin => {
                    self.withdraw(sequence);
                }
                Payload::Command { .. } => {}
                Payload::Blank => self.send_lost_proposals_again(id.term),
            }
            self.handed = id;
            work.committed.push(Committed { id, payload });
        }
        Ok(())
    }

    /// A leader has taken office in `term`, and everything before its first entry is applied. What went to a leader of
    /// an earlier term and was not applied by now never will be: it could only stand before that entry, and a leader
    /// takes proposals for its own term alone. So it may be sent again without being applied twice.
    fn send_lost_proposals_again(&mut self, term: Term) {
        for (&sequence, proposal) in &mut self.proposals {
            if proposal.sent_in.is_some_and(|sent_in| sent_in < term) {
                proposal.sent_in = None;
                self.unsent.insert(sequence);
            }
        }
    }

    fn step(&mut self, now: Time, input: Input, payloads: Vec<Bytes>, work: &mut Work) {
        let first = match &input {
            Input::Receive { message: Message { body: Body::AppendEntries { entries, .. }, .. }, .. } => {
                entries.after().index.next()
            }
            _ => self.raft.log().last().next(),
        };
        let mut effects = Effects::new();
        self.raft.step(now, input, &mut effects);
        let mut payloads = Payloads { first, payloads };
        for effect in effects {
            self.carry_out_one(effect, &mut payloads, work);
        }
    }

    fn carry_out(&mut self, effects: &mut Effects, payloads: Vec<Bytes>, work: &mut Work) {
        let mut payloads = Payloads { first: LogIndex::ZERO, payloads };
        for effect in effects.drain(..) {
            self.carry_out_one(effect, &mut payloads, work);
        }
    }

    fn carry_out_one(&mut self, effect: Effect, payloads: &mut Payloads, work: &mut Work) {
        match effect {
            Effect::SaveVote { write, term, vote } => {
                work.writes.push(Write::Vote { group: self.group, term, vote });
                work.last_write = Some(write);
            }
            Effect::Append { write, entries, source } => {
                let payloads = match source {
                    Source::Blank => vec![payload::blank()],
                    Source::Proposed | Source::Received => payloads.of(&entries),
                };
                let after = entries.after().index;
                let entries = self.recent.append(&entries, payloads);
                work.writes.push(Write::Append { group: self.group, after, entries });
                work.last_write = Some(write);
            }
            Effect::Send(Envelope { to, message }) => {
                let payloads = match &message.body {
                    Body::AppendEntries { .. } => std::mem::take(&mut payloads.payloads),
                    _ => Vec::new(),
                };
                work.parcels.push((to, Parcel::Raft { message, payloads }));
            }
            // Looked up at the end of the turn.
            Effect::Commit { .. } => {}
            Effect::ReadReady { read, index } => {
                if let Some((_, reads)) = self.reads.asked.remove(&read) {
                    self.reads.confirmed.push((index, reads));
                }
            }
            Effect::ReadRefused { read } => {
                if let Some((_, reads)) = self.reads.asked.remove(&read) {
                    self.reads.waiting.extend(reads);
                }
            }
            // Proposals are made only when this node leads, within the same turn.
            Effect::ProposalRefused { .. } => {}
            Effect::Became(standing) => {
                self.fetched.clear();
                if standing.leader.is_some() {
                    self.ask_again(|_| true);
                }
                work.became.push(standing);
            }
            Effect::Misbehaved { from, how } => work.misbehaved.push((from, how)),
        }
    }
}

/// Whether only a leader sends it.
fn is_of_leader(message: &Message) -> bool {
    matches!(message.body, Body::AppendEntries { .. } | Body::Heartbeat { .. })
}

/// The payloads that came with an input, or go with a message.
struct Payloads {
    /// The index of the first, if they came with an input.
    first: LogIndex,
    payloads: Vec<Bytes>,
}

impl Payloads {
    /// Those of these entries: consensus takes only what is new of a message.
    fn of(&mut self, entries: &TermRuns) -> Vec<Bytes> {
        let skip = entries.after().index.next().since(self.first);
        let skip = usize::try_from(skip).unwrap_or(usize::MAX).min(self.payloads.len());
        self.payloads.split_off(skip)
    }
}
