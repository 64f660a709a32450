//! One group's share on one node: consensus, plus the payloads, the proposals and reads that wait, and how far the
//! state machine has come.
//!
//! The one place where bytes meet metadata. Sans-IO, like consensus: inputs come with the time, and what must be done
//! is gathered in [`Work`]. Must not know of files, sockets, tasks, or of what a command means.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use vlot_log::index::GroupState;
use vlot_log::record::{Entry, Write};
use vlot_raft::configuration::ChangeRefused;
use vlot_raft::effect::{
    Effect, Effects, Event, Input, Misbehaviour, ProposalRefused, RoleName, RoleState, Source, TransferRefused, WriteId,
};
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId, Term};
use vlot_raft::message::{Body, Envelope, Message};
use vlot_raft::raft::Raft;
use vlot_raft::state::{Config, Restored};
use vlot_raft::term_runs::TermRuns;
use vlot_raft::time::{Rng, Time};

use crate::act::{Answer, ClosedLog};
use crate::entries::RecentEntries;
use crate::members::{ChangeRequest, MemberChange, Members, MembersAt};
use crate::members_log::MembersLog;
use crate::payload::{self, Payload};
use crate::proposal_id::ProposalId;
use crate::proposals::{NotProposed, Proposals};
use crate::reads::Reads;
use crate::wire::PeerMessage;

/// The bounds of a replica.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Payload bytes of one message, if it has more than one entry.
    pub message_bytes_max: usize,
    /// Messages with entries under way to one peer.
    pub inflight_max: usize,
    /// Payload bytes under way to one peer.
    pub inflight_bytes_max: u64,
    /// Entries that wait to be committed before the leader takes no more.
    pub uncommitted_max: u64,
    /// Payload bytes handed to the state machine at once, when it catches up from disk.
    pub replay_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: usize = 1 << 20;
        Self {
            message_bytes_max: MIB,
            inflight_max: 128,
            inflight_bytes_max: 32 << 20,
            uncommitted_max: 1 << 20,
            replay_bytes_max: 4 * MIB,
        }
    }
}

/// How a new replica begins.
#[derive(Debug)]
pub struct Begin {
    /// The group.
    pub group: GroupId,
    /// How it behaves; shared by all groups of a node.
    pub config: Arc<Config>,
    /// Its first members, for a node that is one of them; nobody, for a node that is to join. Once the log says who
    /// belongs to the group, that counts.
    pub members: Members,
    /// What the log holds of it.
    pub recovered: GroupState,
    /// Entries that the log has and cannot read: the first and the last. They are got from the others.
    pub damaged: Option<(LogIndex, LogIndex)>,
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
    /// PeerMessages for peers.
    pub messages: Vec<(NodeId, PeerMessage)>,
    /// Entries to read from the log, after the writes that were asked for before.
    pub log_reads: Vec<LogRead>,
    /// The state machine becomes the snapshot of this entry, before anything in `committed` is applied.
    pub restore: Option<LogId>,
    /// Committed entries to apply, in order.
    pub committed: Vec<Committed>,
    /// A snapshot that reaches this entry is needed; this member has one.
    pub fetch: Option<(NodeId, LogId)>,
    /// Proposals of this node that no leader has taken, or ever will, by their sequence numbers.
    pub proposals_refused: Vec<(u64, NotProposed)>,
    /// Proposals of this node of which it will never be known here what became of them, by their sequence numbers.
    pub proposals_unknown: Vec<u64>,
    /// Changes of members that were refused, by their sequence numbers.
    pub changes_refused: Vec<(u64, ChangeRefused)>,
    /// Changes by which this node was to leave, and has left, by their sequence numbers.
    pub left_by: Vec<u64>,
    /// Whether hand-overs were begun, by their sequence numbers.
    pub transfers: Vec<(u64, Result<(), TransferRefused>)>,
    /// Reads that may be answered by the state machine as it is.
    pub reads_ready: Vec<u64>,
    /// Reads that this node can answer no more.
    pub reads_refused: Vec<u64>,
    /// Changes of term, role or leader.
    pub became: Vec<RoleState>,
    /// What else has happened.
    pub happened: Vec<Event>,
    /// What peers did wrong.
    pub misbehaved: Vec<(NodeId, Misbehaviour)>,
}

impl Work {
    /// What calls of this process are to be told.
    pub(crate) fn answers(&mut self) -> Vec<Answer> {
        let mut answers = Vec::new();
        answers.extend(self.proposals_refused.drain(..).map(|(sequence, why)| Answer::NotProposed(sequence, why)));
        answers.extend(self.proposals_unknown.drain(..).map(Answer::Unknown));
        answers.extend(self.changes_refused.drain(..).map(|(sequence, why)| Answer::Changed(sequence, Err(why))));
        answers.extend(self.left_by.drain(..).map(|sequence| Answer::Changed(sequence, Ok(()))));
        answers.extend(self.transfers.drain(..).map(|(sequence, begun)| Answer::Transfer(sequence, begun)));
        if !self.reads_refused.is_empty() {
            answers.push(Answer::Refused(std::mem::take(&mut self.reads_refused)));
        }
        if !self.reads_ready.is_empty() {
            answers.push(Answer::Ready(std::mem::take(&mut self.reads_ready)));
        }
        answers
    }
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

/// Why a replica cannot go on from what its log and its state machine hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CannotBegin {
    /// The state machine has applied what the log does not have, or has under another name.
    LogIsBehind {
        /// What is applied.
        applied: LogId,
        /// Where the log ends.
        last: LogId,
    },
    /// The log begins after what the state machine has applied.
    StateIsBehind {
        /// What is applied.
        applied: LogId,
        /// After which entry the log begins.
        begin: LogId,
    },
    /// The log holds a configuration that this version does not know.
    BadConfiguration,
    /// Entries of the log cannot be read, and there is nobody to get them from.
    Damaged {
        /// The first of them.
        first: LogIndex,
        /// The last of them.
        last: LogIndex,
    },
}

impl std::fmt::Display for CannotBegin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::LogIsBehind { applied, last } => write!(
                f,
                "the state machine has applied {applied}, which is not in the log that ends with {last}: they do not belong together, or the log was lost"
            ),
            Self::StateIsBehind { applied, begin } => write!(
                f,
                "the state machine has applied {applied}, and the log begins only after {begin}: they do not belong together, or a snapshot was lost"
            ),
            Self::BadConfiguration => f.write_str("the log holds a configuration that this version does not know"),
            Self::Damaged { first, last } => write!(
                f,
                "entries {first} to {last} of the log are damaged, and no other member has them; restore a backup, or begin anew"
            ),
        }
    }
}

impl std::error::Error for CannotBegin {}

/// An entry of the log is none that was written by a version known here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BadEntry(pub LogId);

/// One group's share on one node.
///
/// Invariant: `applied <= handed <= raft.ready() <= raft.durable()`.
#[derive(Debug)]
pub struct Replica {
    group: GroupId,
    origin: u64,
    limits: Limits,
    raft: Raft,
    members_log: MembersLog,
    recent: RecentEntries,
    /// The last entry handed to the state machine.
    handed: LogId,
    /// The last entry that it has applied, as the host says.
    applied: LogIndex,
    /// Why nothing more is handed to the state machine, proposed or read here: it has failed, or the group is being closed.
    stopped: Option<NotProposed>,
    /// The entry after it was withheld: nothing more can be handed over, until a snapshot takes its place.
    is_withheld: bool,
    /// The state machine keeps up, as the host says; and what consensus was told of it.
    applies: bool,
    is_fit: bool,
    /// A snapshot that takes the state machine's place once the log says so, durably.
    installing: Option<LogId>,
    /// The configuration of the snapshot that is being put in the place of the log.
    arriving: Option<MembersAt>,
    /// The change of members that the leader, this node, is asked for in this step.
    asked_change: Option<ChangeRequest>,
    proposals: Proposals,
    /// Proposals of this node that are decided and not applied yet, by the entries that hold them.
    decided: VecDeque<(LogIndex, u64)>,
    /// Changes of members that this node asks for and has not sent.
    changes: Vec<ChangeRequest>,
    /// Changes by which this node asks to leave, by their sequence numbers: it does not apply the entry that says so.
    leaving_by: Vec<u64>,
    reads: Reads,
    /// Reads of the log that are under way.
    fetching: BTreeSet<Purpose>,
    /// What was read for peers and is not sent.
    fetched: BTreeMap<NodeId, Vec<Entry>>,
    connected: BTreeSet<NodeId>,
    /// Peers that were connected and are not any more.
    lost: BTreeSet<NodeId>,
}

impl Replica {
    /// A replica that goes on from what its log and its state machine hold.
    ///
    /// # Errors
    /// If they do not belong together.
    pub fn new(now: Time, begin: Begin, work: &mut Work) -> Result<Self, CannotBegin> {
        let Begin { group, config, members, recovered, damaged, applied, limits, origin, seed } = begin;
        let GroupState { term, vote, runs, note, kept } = recovered;
        if applied < runs.after() {
            return Err(CannotBegin::StateIsBehind { applied, begin: runs.after() });
        }
        if !runs.contains(applied) {
            return Err(CannotBegin::LogIsBehind { applied, last: runs.last_id() });
        }
        let first =
            MembersAt { entry: crate::members::MembersEntry { members, ..Default::default() }, ..Default::default() };
        let base = if note.is_empty() {
            // The first act of a new log, so that no other first members are ever taken for these.
            work.writes.push(Write::LogStart { group, after: LogId::ZERO, note: first.encode() });
            // Consensus has not asked for it, and does not wait for it; whoever closes the group does.
            work.last_write = Some(WriteId(0));
            first
        } else {
            MembersAt::decode(note).map_err(|_| CannotBegin::BadConfiguration)?
        };
        let members_log = MembersLog::new(base, &kept).map_err(|_| CannotBegin::BadConfiguration)?;
        let recent = RecentEntries::after(runs.last());
        let reads = Reads::new(origin, config.election_timeout);
        let restored =
            Restored { term, vote, log: runs, applied: applied.index, configurations: members_log.configurations() };
        // Those that are damaged may have set other members. Whoever was one before has a copy, or knows who has.
        // Who is to join knows nobody yet, and has its entries from somebody.
        let (node, configurations) = (config.node, members_log.configurations());
        let mut members = configurations.newest().members().iter();
        let has_others = members.len() == 0 || members.any(|other| other.node != node && !other.witness);
        if let Some((first, last)) = damaged.filter(|_| !has_others) {
            return Err(CannotBegin::Damaged { first, last });
        }
        let mut replica = Self {
            group,
            origin,
            limits,
            raft: Raft::new(config, restored, now, Rng::new(seed)),
            members_log,
            recent,
            handed: applied,
            applied: applied.index,
            stopped: None,
            is_withheld: false,
            applies: true,
            is_fit: true,
            installing: None,
            arriving: None,
            asked_change: None,
            proposals: Proposals::default(),
            decided: VecDeque::new(),
            changes: Vec::new(),
            leaving_by: Vec::new(),
            reads,
            fetching: BTreeSet::new(),
            fetched: BTreeMap::new(),
            connected: BTreeSet::new(),
            lost: BTreeSet::new(),
        };
        if let Some((first, last)) = damaged {
            replica.step(now, Input::Unreadable { first, last }, Vec::new(), work);
        }
        Ok(replica)
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

    /// The last entry that the state machine has applied.
    #[must_use]
    pub fn applied_upto(&self) -> LogIndex {
        self.applied
    }

    /// Whether entries are being read from the log for it.
    #[must_use]
    pub fn is_fetching(&self) -> bool {
        !self.fetching.is_empty()
    }

    /// Whether more is decided than was handed to the state machine, which could be handed to it.
    #[must_use]
    pub fn has_more_to_apply(&self) -> bool {
        self.stopped.is_none() && !self.only_counts() && self.handed.index < self.raft.ready()
    }

    /// When [`Replica::tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Time {
        self.raft.deadline().min(self.reads.deadline())
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Time, work: &mut Work) {
        self.reads.ask_late_ones_again(now);
        self.step(now, Input::Tick, Vec::new(), work);
    }

    /// A peer has sent this.
    pub fn receive(&mut self, now: Time, from: NodeId, message: PeerMessage, work: &mut Work) {
        match message {
            // What was still under way when the connection broke would pass for a sign of life of a leader that is
            // gone. It may be dropped, like any message; a leader that is there comes with a new connection.
            PeerMessage::Raft { message, .. } if self.lost.contains(&from) && is_of_leader(&message) => {}
            PeerMessage::Raft { message, payloads } => {
                self.step(now, Input::Receive { from, message }, payloads, work);
            }
            PeerMessage::Propose { term, payloads } if term == self.raft.role_state().term => {
                self.proposals.forward(from, term, payloads);
            }
            PeerMessage::Change { term, request } if term == self.raft.role_state().term => {
                let sequence = request.id.sequence;
                if let Err(why) = self.begin_change(now, request, work) {
                    work.messages.push((from, PeerMessage::ChangeRefused { sequence, why }));
                }
            }
            PeerMessage::Propose { .. } | PeerMessage::Alive => {}
            PeerMessage::Change { request, .. } => {
                let why = ChangeRefused::NotLeader { leader: self.raft.role_state().leader };
                let sequence = request.id.sequence;
                work.messages.push((from, PeerMessage::ChangeRefused { sequence, why }));
            }
            PeerMessage::ChangeRefused { sequence, why } => self.refuse_change(sequence, why, work),
            PeerMessage::ProposalsRefused { term, sequences } => {
                let refused = self.proposals.refused(term, sequences);
                work.proposals_refused.extend(refused.into_iter().map(|sequence| (sequence, NotProposed::NoSpace)));
            }
        }
    }

    /// Proposes a command, as a payload that [`payload::command`] has made with this node's origin and `sequence`. It
    /// goes to whoever leads, again if it was certainly lost, until it is decided or withdrawn.
    pub fn propose(&mut self, sequence: u64, payload: Bytes, is_busy: bool, work: &mut Work) {
        let refused = if let Some(why) = self.stopped {
            why
        } else if self.raft.is_removed() {
            NotProposed::NotAMember
        } else if is_busy {
            NotProposed::Busy
        } else {
            return self.proposals.propose(sequence, payload);
        };
        work.proposals_refused.push((sequence, refused));
    }

    /// The caller waits no longer: the proposal is not sent again. It is refused if no leader can have it.
    pub fn withdraw(&mut self, sequence: u64, work: &mut Work) {
        if self.proposals.settle(sequence) {
            work.proposals_refused.push((sequence, NotProposed::NoLeader));
        } else {
            work.proposals_unknown.push(sequence);
        }
    }

    /// Asks for a change of members, all of it at once. It goes to whoever leads, once; it is done when the state
    /// machine is told of it, and refused if [`Work::changes_refused`] says so.
    pub fn change_members(&mut self, sequence: u64, changes: Vec<MemberChange>, context: Bytes) {
        let id = ProposalId { origin: self.origin, sequence };
        let own = self.raft.node();
        if changes.iter().any(|change| matches!(change, MemberChange::Remove(node) if *node == own)) {
            self.leaving_by.push(sequence);
        }
        self.changes.push(ChangeRequest { id, changes, context });
    }

    fn refuse_change(&mut self, sequence: u64, why: ChangeRefused, work: &mut Work) {
        self.leaving_by.retain(|leaving| *leaving != sequence);
        work.changes_refused.push((sequence, why));
    }

    /// Hands the leadership over, if this node has it.
    pub fn transfer(&mut self, now: Time, sequence: u64, to: Option<NodeId>, work: &mut Work) {
        let before = work.transfers.len();
        self.step(now, Input::Transfer { to }, Vec::new(), work);
        match work.transfers.get_mut(before) {
            Some(refused) => refused.0 = sequence,
            None => work.transfers.push((sequence, Ok(()))),
        }
    }

    /// The state machine has everything up to here durably, and the log keeps what follows.
    pub fn compact(&mut self, now: Time, upto: LogIndex, work: &mut Work) {
        self.step(now, Input::Compact { upto }, Vec::new(), work);
    }

    /// A snapshot is here, durably: of which entry, and with which members.
    pub fn snapshot_received(&mut self, now: Time, id: LogId, members: MembersAt, work: &mut Work) {
        let configuration = (members.at, members.entry.members.configuration().clone());
        self.arriving = Some(members);
        self.step(now, Input::SnapshotReceived { id, configuration }, Vec::new(), work);
        self.arriving = None;
    }

    /// The state machine has applied everything up to here.
    pub fn applied(&mut self, upto: LogIndex, work: &mut Work) {
        self.applied = self.applied.max(upto);
        while self.decided.pop_front_if(|(index, _)| *index <= self.applied).is_some() {}
        self.reads.take_ready(self.applied, &mut work.reads_ready);
    }

    /// The state machine has failed. What waits for it is told so, and nothing more is handed to it; the log is kept, and
    /// votes and acknowledgements go on. This node does not lead from now on if another can.
    pub fn fence(&mut self, now: Time, why: NotProposed, work: &mut Work) {
        self.stopped.get_or_insert(why);
        let (unsent, sent) = self.proposals.take_all();
        work.proposals_refused.extend(unsent.into_iter().map(|sequence| (sequence, why)));
        work.proposals_unknown.extend(sent);
        // Where among them the state machine has stopped, it does not tell.
        work.proposals_unknown.extend(self.decided.drain(..).map(|(_, sequence)| sequence));
        work.reads_refused.append(&mut self.reads.take_all());
        work.committed.clear();
        self.tell_fitness(now, work);
    }

    /// The group is closed: nothing is proposed, read or handed over any more. If it is to be removed, its log goes.
    pub fn close(&mut self, now: Time, remove: bool, work: &mut Work) {
        // Followers must notice that their leader is gone.
        self.step(now, Input::Wake, Vec::new(), work);
        self.fence(now, NotProposed::Closed, work);
        if remove {
            work.writes.push(Write::Remove { group: self.group });
            // Consensus is not asked about it any more.
            work.last_write = Some(WriteId(u64::MAX));
        }
    }

    /// What its log is, to go on from later.
    #[must_use]
    pub fn into_log(self) -> ClosedLog {
        let base = self.members_log.first().encode();
        let kept = self.members_log.later().map(|set| Entry {
            id: LogId { term: self.raft.log().term_at(set.at).unwrap_or_default(), index: set.at },
            payload: payload::configuration(&set.entry),
        });
        let kept = kept.collect();
        let (term, vote) = (self.raft.role_state().term, self.raft.vote());
        let state = GroupState { term, vote, runs: self.raft.log().clone(), note: base, kept };
        ClosedLog { state, damaged: self.raft.unreadable() }
    }

    /// Whether the state machine keeps up with what is decided.
    pub fn fitness(&mut self, now: Time, fit: bool, work: &mut Work) {
        self.applies = fit;
        self.tell_fitness(now, work);
    }

    /// Who belongs to the group, as the log of this node says, committed or not.
    #[must_use]
    pub fn members(&self) -> &Members {
        &self.members_log.newest().entry.members
    }

    /// Who belonged to the group when everything up to `index` was applied, for a snapshot of that moment.
    #[must_use]
    pub fn members_at(&self, index: LogIndex) -> &MembersAt {
        self.members_log.at(index)
    }

    /// Asks for a linearizable read; `read` is the host's name for it.
    pub fn read(&mut self, read: u64, work: &mut Work) {
        if self.stopped.is_some() || self.raft.is_removed() {
            work.reads_refused.push(read);
        } else {
            self.reads.wait(read);
        }
    }

    /// The write with this number, and all before, are durable.
    pub fn persisted(&mut self, now: Time, write: WriteId, work: &mut Work) {
        self.step(now, Input::Persisted { write }, Vec::new(), work);
    }

    /// The write with this number, and all before, are durable but for entries, which wait for room.
    pub fn vote_persisted(&mut self, now: Time, write: WriteId, work: &mut Work) {
        self.step(now, Input::VotePersisted { write }, Vec::new(), work);
    }

    /// Whether the disk has room for entries.
    pub fn room(&mut self, now: Time, is_there: bool, work: &mut Work) {
        self.step(now, Input::Room { is_there }, Vec::new(), work);
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

    /// The node is no peer any more: nobody tells when a connection to it comes or goes, and what comes from it is heard.
    pub fn unlisted(&mut self, peer: NodeId) {
        self.connected.remove(&peer);
        self.lost.remove(&peer);
    }

    /// Nothing was heard of a peer's node for an election timeout, though its connection seems to stand.
    pub fn silent(&mut self, now: Time, peer: NodeId, work: &mut Work) {
        self.step(now, Input::Silent { peer }, Vec::new(), work);
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
            Purpose::Apply if self.stopped.is_some() => {}
            Purpose::Apply => self.deliver(entries, work)?,
            Purpose::Send(peer) => {
                self.fetched.insert(peer, entries);
            }
        }
        Ok(())
    }

    /// Ends a turn: what the turn has gathered becomes one append, one question and one message per peer. The state
    /// machine is given entries of about so many bytes at most.
    ///
    /// # Errors
    /// If an entry is none that this version knows; the replica must stop.
    pub fn end_turn(&mut self, now: Time, apply_bytes_max: usize, work: &mut Work) -> Result<(), BadEntry> {
        self.send_changes(now, work);
        self.send_proposals(now, work);
        self.send_reads(now, work);
        self.send_entries(work);
        let done = self.apply(apply_bytes_max, work);
        self.tell_fitness(now, work);
        self.reads.take_ready(self.applied, &mut work.reads_ready);
        done
    }

    /// How many bytes the entries take that are in memory.
    #[must_use]
    pub fn recent_bytes(&self) -> usize {
        self.recent.bytes()
    }

    /// Forgets the oldest entries in memory until the rest has at most so many bytes, but for those that have yet to be
    /// written or applied.
    pub fn shrink_recent(&mut self, bytes_max: usize) {
        let needed = if self.only_counts() { self.raft.ready() } else { self.handed.index };
        self.recent.shrink(needed.min(self.raft.durable()), bytes_max);
    }

    /// Sends what waits to whoever leads: appends it, if that is this node.
    fn send_proposals(&mut self, now: Time, work: &mut Work) {
        let RoleState { term, role, leader } = self.raft.role_state();
        // What others decide cannot be applied here, so whoever proposes here would learn nothing of it.
        if !self.raft.has_room() {
            self.refuse_unsent(NotProposed::NoSpace, work);
        }
        if role == RoleName::Leader {
            match self.raft.proposals_refused() {
                None => {}
                // Nobody knows when there will be room, and whoever proposes can free some.
                Some(ProposalRefused::NoSpace) => return self.refuse_proposals(term, work),
                // What cannot be taken at this moment waits: a hand-over ends, and so does a queue.
                Some(_) => return,
            }
            let payloads = self.proposals.take_for_own_term(term);
            if !payloads.is_empty() {
                let count = payloads.len() as u64;
                self.step(now, Input::Propose { count }, payloads, work);
            }
            return;
        }
        self.proposals.drop_forwarded();
        if let Some(leader) = leader.filter(|leader| self.connected.contains(leader)) {
            let payloads = self.proposals.take_unsent(term);
            if !payloads.is_empty() {
                work.messages.push((leader, PeerMessage::Propose { term, payloads }));
            }
        }
    }

    fn refuse_unsent(&mut self, why: NotProposed, work: &mut Work) {
        work.proposals_refused.extend(self.proposals.refuse_unsent().into_iter().map(|sequence| (sequence, why)));
    }

    fn refuse_proposals(&mut self, term: Term, work: &mut Work) {
        self.refuse_unsent(NotProposed::NoSpace, work);
        let refused = |(from, sequences)| (from, PeerMessage::ProposalsRefused { term, sequences });
        work.messages.extend(self.proposals.refuse_forwarded(term).into_iter().map(refused));
    }

    /// Sends changes of members to whoever leads. Nobody waits for a leader with one: an operator asks again.
    fn send_changes(&mut self, now: Time, work: &mut Work) {
        for request in std::mem::take(&mut self.changes) {
            let RoleState { term, role, leader } = self.raft.role_state();
            let sequence = request.id.sequence;
            match leader.filter(|leader| self.connected.contains(leader)) {
                _ if role == RoleName::Leader => {
                    if let Err(why) = self.begin_change(now, request, work) {
                        self.refuse_change(sequence, why, work);
                    }
                }
                Some(leader) => work.messages.push((leader, PeerMessage::Change { term, request })),
                None => self.refuse_change(sequence, ChangeRefused::NotLeader { leader: None }, work),
            }
        }
    }

    /// Begins a change of members, if consensus takes it.
    fn begin_change(&mut self, now: Time, request: ChangeRequest, work: &mut Work) -> Result<(), ChangeRefused> {
        let known = |node| self.raft.configuration().contains(node);
        let moved = request.changes.iter().find_map(|change| match change {
            MemberChange::Move { node, .. } | MemberChange::BindDisk { node, .. } if !known(*node) => Some(*node),
            _ => None,
        });
        if let Some(node) = moved {
            return Err(ChangeRefused::NotAMember { node });
        }
        let changes = request.changes.iter().map(MemberChange::seat).collect();
        self.asked_change = Some(request);
        let before = work.changes_refused.len();
        self.step(now, Input::ChangeConfiguration { changes }, Vec::new(), work);
        self.asked_change = None;
        work.changes_refused.drain(before..).next().map_or(Ok(()), |(_, why)| Err(why))
    }

    /// Asks one question for all reads that wait.
    fn send_reads(&mut self, now: Time, work: &mut Work) {
        if self.raft.role_state().leader.is_some()
            && let Some(read) = self.reads.ask(now)
        {
            self.step(now, Input::Read { read }, Vec::new(), work);
        }
    }

    /// Sends each peer what it lacks: from memory, or from disk if it lags far behind.
    fn send_entries(&mut self, work: &mut Work) {
        let mut effects = Effects::new();
        for peer in self.raft.peers().collect::<Vec<_>>() {
            let is_witness = self.raft.configuration().is_witness(peer);
            while let Some((after, upto)) = self.raft.next_range(peer) {
                let Some(entries) = self.entries_for(peer, after, upto, work) else { break };
                let last = entries.last().map_or(after, |entry| entry.id.index);
                let payload = |Entry { payload, .. }| if is_witness { payload::for_witness(&payload) } else { payload };
                let payloads: Vec<Bytes> = entries.into_iter().map(payload).collect();
                let bytes = payloads.iter().map(|payload| payload.len() as u64).sum();
                self.raft.send_entries(peer, last, bytes, &mut effects);
                self.carry_out(&mut effects, payloads, work);
            }
        }
        self.raft.end_turn(&mut effects);
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
        // What waits for the disk is in memory, and what the log holds in its place may be another leader's.
        let upto = upto.min(self.raft.durable().max(after.next()));
        self.fetch(Purpose::Send(peer), after, upto, self.limits.message_bytes_max, work);
        None
    }

    fn fetch(&mut self, purpose: Purpose, after: LogIndex, upto: LogIndex, bytes_max: usize, work: &mut Work) {
        if self.fetching.insert(purpose) {
            work.log_reads.push(LogRead { purpose, after, upto, bytes_max });
        }
    }

    /// Hands over what may be applied, as far as the state machine has room for it.
    fn apply(&mut self, bytes_max: usize, work: &mut Work) -> Result<(), BadEntry> {
        if self.stopped.is_some() {
            return Ok(());
        }
        if let Some(id) = self.installing.take_if(|id| id.index <= self.raft.ready()) {
            // The snapshot has the effect of all that would be applied before it.
            work.committed.clear();
            (self.handed, self.is_withheld, work.restore) = (id, false, Some(id));
        }
        let (after, upto) = (self.handed.index, self.raft.ready());
        if self.only_counts() || after >= upto || bytes_max == 0 {
            return Ok(());
        }
        if self.recent.reach_back_to(after) {
            let entries = self.recent.part(after, upto, bytes_max).cloned().collect();
            self.deliver(entries, work)
        } else {
            self.fetch(Purpose::Apply, after, upto, self.limits.replay_bytes_max.min(bytes_max), work);
            Ok(())
        }
    }

    /// Whether this node only counts what is committed: it has not the payloads that its state machine would need. So
    /// nothing more is handed over, and no read answered.
    fn only_counts(&self) -> bool {
        self.is_withheld || self.raft.configuration().is_witness(self.raft.node())
    }

    /// Who lacks a payload must not lead, and hand out what it has in its place: an operator may have made a voter of a
    /// former witness with its old disk.
    fn tell_fitness(&mut self, now: Time, work: &mut Work) {
        let fit = self.applies && !self.is_withheld && self.stopped.is_none();
        if std::mem::replace(&mut self.is_fit, fit) != fit {
            self.step(now, Input::Fitness { fit }, Vec::new(), work);
        }
    }

    fn deliver(&mut self, entries: Vec<Entry>, work: &mut Work) -> Result<(), BadEntry> {
        for Entry { id, payload } in entries {
            if id.index != self.handed.index.next() || id.index > self.raft.ready() {
                continue;
            }
            let payload = payload::decode(&payload).map_err(|_| BadEntry(id))?;
            match payload {
                Payload::Command { id: ProposalId { origin, sequence }, .. } if origin == self.origin => {
                    self.proposals.settle(sequence);
                    self.decided.push_back((id.index, sequence));
                }
                Payload::Command { .. } | Payload::Configuration(_) => {}
                Payload::Blank => self.proposals.send_lost_again(id.term),
                // The log may say only later that this node is a witness, and no longer that it was one.
                Payload::Withheld => {
                    self.is_withheld = true;
                    return Ok(());
                }
            }
            self.handed = id;
            work.committed.push(Committed { id, payload });
        }
        Ok(())
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
                let after = entries.after().index;
                self.members_log.cut_after(after);
                let payloads = match source {
                    Source::Blank => vec![payload::blank()],
                    Source::Proposed | Source::Received => payloads.of(&entries),
                    Source::Configuration(configuration) => {
                        let entry = match self.asked_change.take() {
                            Some(request) => request.begin(self.members(), configuration),
                            None => self.members_log.settled(configuration),
                        };
                        vec![payload::configuration(&entry)]
                    }
                };
                for (n, payload) in
                    payloads.iter().enumerate().filter(|(_, payload)| payload::sets_configuration(payload))
                {
                    // Payloads are decoded before they get here; one that is none would be refused when it is applied.
                    if let Ok(payload) = payload::decode(payload) {
                        self.members_log.append(LogIndex(after.0 + n as u64 + 1), &payload);
                    }
                }
                let entries = self.recent.append(&entries, payloads);
                work.writes.push(Write::Append { group: self.group, after, entries });
                work.last_write = Some(write);
            }
            Effect::Send(Envelope { to, message }) => {
                let payloads = match &message.body {
                    Body::AppendEntries { .. } => std::mem::take(&mut payloads.payloads),
                    _ => Vec::new(),
                };
                work.messages.push((to, PeerMessage::Raft { message, payloads }));
            }
            Effect::Compact { write, after } => {
                self.members_log.begin_after(after.index);
                let note = self.members_log.at(after.index).encode();
                work.writes.push(Write::LogStart { group: self.group, after, note });
                work.last_write = Some(write);
            }
            Effect::InstallSnapshot { write, id } => {
                if let Some(set) = self.arriving.take() {
                    self.members_log.begin_with(set, id.index, self.raft.log().is_empty());
                }
                let note = self.members_log.at(id.index).encode();
                work.writes.push(Write::LogStart { group: self.group, after: id, note });
                if self.raft.log().is_empty() {
                    self.recent = RecentEntries::after(id.index);
                    // Entries of the log that is gone may still wait for room.
                    work.writes.push(Write::Append { group: self.group, after: id.index, entries: Vec::new() });
                }
                self.fetched.clear();
                work.proposals_unknown.append(&mut self.proposals.forget_sent());
                self.installing = Some(id);
                work.last_write = Some(write);
            }
            Effect::FetchSnapshot { from, reach } => work.fetch = Some((from, reach)),
            // Looked up at the end of the turn.
            Effect::Commit { .. } => {}
            Effect::ReadReady { read, index } => self.reads.confirm(read, index),
            Effect::ReadRefused { read } => self.reads.refuse(read),
            // Proposals are made only when they are taken, within the same turn.
            Effect::ProposalRefused { .. } => {}
            // Whoever asked puts its own number in the place of zero.
            Effect::ChangeRefused { why } => work.changes_refused.push((0, why)),
            Effect::TransferRefused { why } => work.transfers.push((0, Err(why))),
            Effect::Happened(event) => {
                if let Event::Removed { .. } = event {
                    work.left_by.append(&mut self.leaving_by);
                    self.refuse_unsent(NotProposed::NotAMember, work);
                    work.reads_refused.append(&mut self.reads.take_all());
                }
                work.happened.push(event);
            }
            Effect::Became(role_state) => {
                self.fetched.clear();
                if role_state.leader.is_some() {
                    self.reads.ask_all_again();
                }
                work.became.push(role_state);
            }
            Effect::Misbehaved { from, how } => work.misbehaved.push((from, how)),
        }
    }
}

/// Whether only a leader sends it.
fn is_of_leader(message: &Message) -> bool {
    matches!(
        message.body,
        Body::AppendEntries { .. }
            | Body::Heartbeat { .. }
            | Body::Sleep { .. }
            | Body::Committed { .. }
            | Body::SnapshotNeeded { .. }
    )
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
