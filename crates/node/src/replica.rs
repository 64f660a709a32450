//! One group's share on one node: consensus, plus the payloads, the proposals and reads that wait, and how far the
//! state machine has come.
//!
//! The one place where bytes meet metadata. Sans-IO, like consensus: inputs come with the time, and what must be done
//! is gathered in [`Work`]. Must not know of files, sockets, tasks, or of what a command means.
//!
//! This file has the type, its inputs and the end of a turn. How a replica begins from its log is in `begin.rs`, how
//! inputs reach consensus and its effects are carried out in `effects.rs`, what goes to the leader and to peers in
//! `sending.rs`, what a leader tells of time in `stamps.rs`, what the state machine is given in `deliver.rs`.

mod begin;
mod deliver;
mod effects;
mod sending;
mod stamps;
mod work;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use vlot_log::record::{Entry, Write};
use vlot_raft::configuration::ChangeRefused;
use vlot_raft::effect::{Input, RoleName, RoleState, WriteId};
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId};
use vlot_raft::message::{Body, Message};
use vlot_raft::raft::Raft;
use vlot_raft::time::Time;

pub use self::begin::{Begin, CannotBegin, Limits};
pub use self::stamps::RESOLUTION;
use self::stamps::Stamps;
pub use self::work::{Committed, LogRead, Purpose, Work};
use crate::entries::RecentEntries;
use crate::members::{ChangeRequest, MemberChange, Members, MembersAt};
use crate::members_log::MembersLog;
use crate::proposal_id::ProposalId;
use crate::proposals::{NotProposed, Proposals};
use crate::reads::{NotRead, Reads};
use crate::wire::PeerMessage;

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
    forwards: bool,
    shares_entries: bool,
    raft: Raft,
    members_log: MembersLog,
    recent: RecentEntries,
    /// The last entry handed to the state machine.
    handed: LogId,
    /// The last entry that it has applied, as the host says.
    applied: LogIndex,
    /// Why nothing more is handed to the state machine, proposed or read here: it has failed, or the group is being closed.
    stopped: Option<NotRead>,
    /// The entry after it was withheld: nothing more can be handed over, until a snapshot takes its place.
    is_withheld: bool,
    /// Up to here the log is of no use to the state machine: this entry, the last one known of, was withheld.
    withheld_upto: LogIndex,
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
    /// What this node tells of time when it leads; nothing where the state machine does not ask for it.
    stamps: Option<Stamps>,
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
    /// Peers that read entries that commands share, as they said when they were connected last.
    read_shared: BTreeSet<NodeId>,
    /// Peers that were connected and are not any more.
    lost: BTreeSet<NodeId>,
}

impl Replica {
    /// Tells time whenever this node leads. `unix_at_origin` is what the wall clock showed at its time zero, since 1970.
    pub fn tell_time(&mut self, unix_at_origin: Duration) {
        self.stamps = Some(Stamps::new(unix_at_origin));
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

    /// Proposes a command, as a payload that [`command`](crate::payload::command) has made with this node's origin and
    /// `sequence`. It goes to the leader, again if it was certainly lost, until it is decided or withdrawn.
    pub fn propose(&mut self, sequence: u64, payload: Bytes, shares_entry: bool, is_busy: bool, work: &mut Work) {
        let refused = if let Some(why) = self.stopped {
            why.into()
        } else if self.raft.is_removed() {
            NotProposed::NotAMember
        } else if is_busy {
            NotProposed::Busy
        } else if let Some(why) = self.leads_not() {
            why
        } else {
            return self.proposals.propose(sequence, payload, shares_entry);
        };
        work.proposals_refused.push((sequence, refused));
    }

    /// Why nothing is proposed here, if proposals are not sent to the leader and this node is another.
    fn leads_not(&self) -> Option<NotProposed> {
        let RoleState { role, leader, .. } = self.raft.role_state();
        (!self.forwards && role != RoleName::Leader).then_some(NotProposed::NotLeader { leader })
    }

    /// The caller waits no longer: the proposal is not sent again. It is refused if no leader can have it.
    pub fn withdraw(&mut self, sequence: u64, work: &mut Work) {
        if self.proposals.settle(sequence) {
            work.proposals_refused.push((sequence, NotProposed::NoLeader));
        } else {
            work.proposals_unknown.push(sequence);
        }
    }

    /// Asks for a change of members, all of it at once. It goes to the leader, once; it is done when the state
    /// machine is told of it, and refused if [`Work::changes_refused`] says so.
    pub fn change_members(&mut self, sequence: u64, changes: Vec<MemberChange>, context: Bytes) {
        let id = ProposalId { origin: self.origin, sequence };
        let own = self.raft.node();
        if changes.iter().any(|change| matches!(change, MemberChange::Remove(node) if *node == own)) {
            self.leaving_by.push(sequence);
        }
        self.changes.push(ChangeRequest { id, changes, context });
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

    /// Up to here the log may be cut without a state that has it. Not what came whole: one that was a witness in an earlier
    /// life may read of that, and will apply what came before it.
    pub(crate) fn withheld_upto(&self) -> LogIndex {
        self.withheld_upto.min(self.raft.ready())
    }

    /// Cuts what was withheld from the log: the state machine lacks it until it has a snapshot.
    pub(crate) fn compact_witness(&mut self, now: Time, upto: LogIndex, work: &mut Work) {
        self.is_withheld = true;
        self.compact(now, upto, work);
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
        let applied = self.decided.partition_point(|(index, _)| *index <= self.applied);
        self.decided.drain(..applied);
        self.reads.take_ready(self.applied, &mut work.reads_ready);
    }

    /// A group that sleeps is to say something to its members.
    pub(crate) fn wake(&mut self, now: Time, work: &mut Work) {
        self.step(now, Input::Wake, Vec::new(), work);
    }

    /// The state machine has failed. What waits for it is told so, and nothing more is handed to it; the log is kept, and
    /// votes and acknowledgements go on. This node does not lead from now on if another can.
    pub fn fence(&mut self, now: Time, why: NotRead, work: &mut Work) {
        self.stopped.get_or_insert(why);
        let (unsent, sent) = self.proposals.take_all();
        work.proposals_refused.extend(unsent.into_iter().map(|sequence| (sequence, why.into())));
        work.proposals_unknown.extend(sent);
        // Where among them the state machine has stopped, it does not tell.
        work.proposals_unknown.extend(self.decided.drain(..).map(|(_, sequence)| sequence));
        self.refuse_reads(why, work);
        work.committed.clear();
        self.tell_fitness(now, work);
    }

    /// The group is closed: nothing is proposed, read or handed over any more. If it is to be removed, its log goes.
    pub fn close(&mut self, now: Time, remove: bool, work: &mut Work) {
        // Followers must notice that their leader is gone.
        self.step(now, Input::Wake, Vec::new(), work);
        self.fence(now, NotRead::Closed, work);
        if remove {
            work.writes.push(Write::Remove { group: self.group });
            // Consensus is not asked about it any more.
            work.last_write = Some(WriteId(u64::MAX));
        }
    }

    /// Whether the state machine keeps up with what is decided.
    pub fn fitness(&mut self, now: Time, fit: bool, work: &mut Work) {
        self.applies = fit;
        self.tell_fitness(now, work);
    }

    /// The members of the group, as the log of this node says, committed or not.
    #[must_use]
    pub fn members(&self) -> &Members {
        &self.members_log.newest().entry.members
    }

    /// The members of the group when everything up to `index` was applied, for a snapshot of that moment.
    #[must_use]
    pub fn members_at(&self, index: LogIndex) -> &MembersAt {
        self.members_log.at(index)
    }

    /// Asks for a linearizable read; `read` is the host's name for it.
    pub fn read(&mut self, read: u64, work: &mut Work) {
        let removed = self.raft.is_removed().then_some(NotRead::NotAMember);
        match self.stopped.or(removed) {
            Some(why) => work.reads_refused.push((read, why)),
            None => self.reads.wait(read),
        }
    }

    /// Refuses all reads that wait.
    fn refuse_reads(&mut self, why: NotRead, work: &mut Work) {
        work.reads_refused.extend(self.reads.take_all().into_iter().map(|read| (read, why)));
    }

    /// The write with this number, and all before, are durable. False if nothing has come of it for which a turn is to be
    /// ended: a leader that has the entries durably before others do waits for them.
    pub fn persisted(&mut self, now: Time, write: WriteId, work: &mut Work) -> bool {
        let has_effects = self.step(now, Input::Persisted { write }, Vec::new(), work);
        // A witness is sent what is durable here, and nothing else.
        has_effects || self.raft.peers().any(|peer| self.raft.next_range(peer).is_some())
    }

    /// The write with this number, and all before, are durable but for entries, which wait for room.
    pub fn vote_persisted(&mut self, now: Time, write: WriteId, work: &mut Work) {
        self.step(now, Input::VotePersisted { write }, Vec::new(), work);
    }

    /// Whether the disk has room for entries.
    pub fn room(&mut self, now: Time, is_there: bool, work: &mut Work) {
        self.step(now, Input::Room { is_there }, Vec::new(), work);
    }

    /// The connection to a peer is up. It `reads_shared` entries or none that several commands share.
    pub fn connected(&mut self, now: Time, peer: NodeId, reads_shared: bool, work: &mut Work) {
        self.connected.insert(peer);
        self.read_shared.remove(&peer);
        self.read_shared.extend(reads_shared.then_some(peer));
        self.lost.remove(&peer);
        self.step(now, Input::Connected { peer }, Vec::new(), work);
    }

    /// The connection to a peer is gone.
    pub fn lost(&mut self, now: Time, peer: NodeId, work: &mut Work) {
        self.connected.remove(&peer);
        self.lost.insert(peer);
        self.step(now, Input::Lost { peer }, Vec::new(), work);
    }

    /// The node is no peer any more: it is not told when a connection to it comes or goes, and what comes from it is
    /// heard.
    pub fn unlisted(&mut self, peer: NodeId) {
        self.connected.remove(&peer);
        self.read_shared.remove(&peer);
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

    fn fetch(&mut self, purpose: Purpose, after: LogIndex, upto: LogIndex, bytes_max: usize, work: &mut Work) {
        if self.fetching.insert(purpose) {
            work.log_reads.push(LogRead { purpose, after, upto, bytes_max });
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
