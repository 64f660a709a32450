//! One group on a node: its replica, and what the node decides for it: what is being applied, when its log is cut, when a
//! snapshot is saved, and what is shown of it.
//!
//! Must not know of other groups.

mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use vlot_raft::effect::{Event, RoleName, WriteId};
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId, Term};
use vlot_raft::time::Time;

use self::upkeep::Upkeep;
use crate::act::{Act, Answer, Complaint, DiskState, GroupEvent, Status};
use crate::applying::Applying;
use crate::input::{Input, Proposal};
use crate::machine::Fence;
use crate::members::Members;
use crate::news::{Bulletin, News};
use crate::peers::Peers;
use crate::policy::{MemberHealth, Policies};
use crate::proposal_id::ProposalId;
use crate::reads::NotRead;
use crate::replica::{Committed, Replica, Work};
use crate::report::{Context, Report};
use crate::retention::Retention;
use crate::snapshot::{Header, SnapshotInfo};
use crate::state_machine::Class;
use crate::turn::Turn;
use crate::wire::PeerMessage;

/// One group on a node.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) replica: Replica,
    pub(crate) work: Work,
    applying: Applying,
    retention: Retention,
    /// What the state machine has durably by itself.
    durable: LogId,
    /// What this node has in a snapshot of its own.
    saved: LogId,
    makes_snapshots: bool,
    saving: Saving,
    /// The snapshot that the state machine is to become.
    restoring: Option<LogId>,
    fence: Option<Arc<Fence>>,
    /// What it was given has been under way for longer than an election timeout.
    is_late: bool,
    /// There may be a member whose disk was seen and is not written down.
    pub(crate) disks_unknown: bool,
    /// What was last shown, and what was last added to the node's peers.
    shown: Status,
    named: Option<Members>,
    /// The entry that has set those members, and its term.
    named_by: Option<(LogIndex, Option<Term>)>,
    entitled: Vec<(NodeId, u64)>,
    /// How the other members were last shown to be.
    health: Vec<MemberHealth>,
    upkeep: Upkeep,
    /// Nothing has happened for so long that it waits for nothing.
    pub(crate) is_asleep: bool,
    /// The number of the first of the node's news that it has not heard.
    heard: u64,
    /// Something has happened since the last turn.
    pub(crate) is_dirty: bool,
    /// When the node will next look at the deadline.
    pub(crate) alarm: Time,
    /// How many batches of writes are under way that hold some of this group.
    pub(crate) unwritten: usize,
    closing: Option<Closing>,
}

/// How far a snapshot of this node's own state has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Saving {
    No,
    BeingTaken,
    BeingWritten,
}

/// What becomes of the log of a group that is being closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Closing {
    /// It stays.
    Closing,
    /// It goes.
    Removing,
}

/// What is the same for all groups of a node.
pub(crate) struct Shared<'a> {
    pub(crate) election_timeout: std::time::Duration,
    pub(crate) apply_bytes_max: usize,
    /// The disk of this node.
    pub(crate) disk: u64,
    pub(crate) policies: &'a Policies,
    pub(crate) peers: &'a mut Peers,
}

/// What the state machine of a new group has.
#[derive(Clone, Copy, Debug)]
pub struct Begun {
    /// What it has durably by itself.
    pub durable: LogId,
    /// What of it is in a snapshot of this node.
    pub saved: LogId,
    /// It makes snapshots.
    pub makes_snapshots: bool,
    /// It asks for time: [`StateMachine::wants_time`](crate::state_machine::StateMachine::wants_time).
    pub wants_time: bool,
}

impl Group {
    /// A group that has heard all news of its node before the one of this number.
    pub(crate) fn new(
        id: GroupId,
        replica: Replica,
        work: Work,
        retention: Retention,
        begun: Begun,
        heard: u64,
    ) -> Self {
        let Begun { durable, saved, makes_snapshots, .. } = begun;
        Self {
            id,
            replica,
            work,
            applying: Applying::default(),
            retention,
            durable,
            saved,
            makes_snapshots,
            saving: Saving::No,
            restoring: None,
            fence: None,
            is_late: false,
            disks_unknown: true,
            shown: Status::default(),
            named: None,
            named_by: None,
            entitled: Vec::new(),
            health: Vec::new(),
            upkeep: Upkeep::new(),
            is_asleep: false,
            heard,
            is_dirty: false,
            alarm: Time::NEVER,
            unwritten: 0,
            closing: None,
        }
    }

    /// When a turn is due for it, though nothing else has happened.
    pub(crate) fn deadline(&self, shared: &Shared<'_>) -> Time {
        if self.closing.is_some() {
            return Time::NEVER;
        }
        // Once it is late, that is known.
        let is_known = self.is_late || self.fence.is_some();
        let late_at = if is_known { Time::NEVER } else { self.applying.late_at(shared.election_timeout) };
        self.replica.deadline().min(late_at).min(self.upkeep.deadline())
    }

    /// Takes in what has happened to this group alone.
    pub(crate) fn handle(&mut self, now: Time, input: Input, shared: &Shared<'_>, turn: &mut Turn) {
        let Self { replica, work, .. } = self;
        match input {
            Input::Propose { proposals, .. } => {
                let is_busy = self.applying.bytes() >= shared.apply_bytes_max;
                for Proposal { sequence, payload, class, shares_entry } in proposals {
                    // Those that are urgent are few: the handle through which they are proposed bounds them.
                    replica.propose(sequence, payload, shares_entry, is_busy && class == Class::Bulk, work);
                }
            }
            Input::Withdraw { sequence, .. } => replica.withdraw(sequence, work),
            Input::ChangeMembers { sequence, changes, context, .. } => {
                replica.change_members(sequence, changes, context);
            }
            Input::Transfer { sequence, to, .. } => replica.transfer(now, sequence, to, work),
            Input::Read { read, .. } => replica.read(read, work),
            Input::Fetched { purpose, entries, .. } => {
                if let Err(bad) = replica.fetched(purpose, entries, work) {
                    self.fence(now, Fence::UnknownEntry { at: bad.0 }.into());
                }
            }
            Input::Applied { upto, durable, .. } => self.applied(now, upto, durable, turn),
            Input::Restored { id, durable, .. } => self.restored(now, id, durable, turn),
            Input::Failed { why, .. } => self.failed(now, why),
            Input::SnapshotTaken { id, .. } => self.snapshot_taken(id, turn),
            Input::Saved { saved, .. } => self.saved(now, saved, turn),
            Input::Compact { .. } => self.make_room(now),
            Input::SaveSnapshot { .. } => self.save_snapshot(turn),
            Input::Close { remove, .. } => self.close(now, remove),
            // Those that are about more than one group are taken in by the node.
            _ => {}
        }
    }

    /// Takes in the news of its node that it has not heard.
    pub(crate) fn hear(&mut self, now: Time, bulletin: &Bulletin) {
        for news in bulletin.since(self.heard) {
            match *news {
                News::Connected(peer, reads_shared) => {
                    self.disks_unknown = true;
                    self.replica.connected(now, peer, reads_shared, &mut self.work);
                }
                News::Lost(peer) => self.replica.lost(now, peer, &mut self.work),
                News::Silent(peer) if self.is_asleep => self.replica.silent(now, peer, &mut self.work),
                News::Silent(_) => {}
                News::Unlisted(peer) => self.replica.unlisted(peer),
                News::Room(is_there) => {
                    self.replica.room(now, is_there, &mut self.work);
                    if !is_there {
                        self.make_room(now);
                    }
                }
            }
        }
        self.heard = bulletin.next();
    }

    /// A peer has sent this. A group that is being closed takes nothing more, as if it were lost on its way: it would not come
    /// to an end of what it writes.
    pub(crate) fn receive(&mut self, now: Time, from: NodeId, message: PeerMessage) {
        if self.closing.is_none() {
            self.replica.receive(now, from, message, &mut self.work);
        }
    }

    /// Ends a turn: adds what this group wants done.
    pub(crate) fn end_turn(&mut self, now: Time, shared: &mut Shared<'_>, turn: &mut Turn) {
        if self.closing.is_none() {
            if now >= self.replica.deadline() {
                self.replica.tick(now, &mut self.work);
            }
            self.bind_disks(now, shared);
            self.follow_policies(now, shared);
            self.judge_lag(now, shared);
            let room = shared.apply_bytes_max.saturating_sub(self.applying.bytes());
            if let Err(bad) = self.replica.end_turn(now, room, &mut self.work) {
                self.fence(now, Fence::UnknownEntry { at: bad.0 }.into());
            }
            self.compact_witness(now, turn);
            self.watch_over_sleep(now, shared);
            self.call_the_unseen(now, shared);
        }
        let mut work = std::mem::take(&mut self.work);
        // What this node has asked for itself is asked for again.
        self.disks_unknown |= work.changes_refused.iter().any(|(sequence, _)| *sequence == 0);
        let answers = work.answers();
        turn.writes.append(&mut work.writes);
        if let Some(write) = work.last_write {
            turn.last_writes.push((self.id, write));
            self.unwritten += 1;
        }
        let mut copies = work.copies.into_iter().peekable();
        for (n, (to, message)) in work.messages.into_iter().enumerate() {
            let (lane, frame) = (message.lane(), message.encode(self.id));
            let others = std::iter::from_fn(|| copies.next_if(|(of, _)| *of == n).map(|(_, to)| to));
            for to in std::iter::once(to).chain(others) {
                shared.peers.sent(now, to);
                turn.sends.push(Act::Send { to, lane, frame: frame.clone() });
            }
        }
        let group = self.id;
        turn.reads.extend(work.log_reads.into_iter().map(|read| Act::ReadLog { group, read }));
        for (peer, how) in work.misbehaved {
            turn.rest.push(Act::Complain { peer, complaint: Complaint::Message(how) });
        }
        turn.rest.extend(work.elections.into_iter().map(|event| Act::Record { group, event }));
        self.tell(work.became.into_iter().map(GroupEvent::Became).collect(), turn);
        self.take_note(&work.happened);
        self.tell(work.happened.into_iter().map(GroupEvent::Consensus).collect(), turn);
        if let Some((from, reach)) = work.fetch {
            turn.fetches.push((group, from, reach));
        }
        self.answer(answers, turn);
        if let Some(id) = work.restore {
            self.restoring = Some(id);
            self.applying.hand_over(now, id, 0);
            turn.rest.push(Act::Restore { group, id });
        }
        self.apply(now, work.committed, turn);
        self.show(now, shared, turn);
    }

    /// A write of it is durable. False if a turn need not be ended for that.
    pub(crate) fn written(&mut self, now: Time, write: WriteId) -> bool {
        self.unwritten -= 1;
        // What was written of a log that goes is of no use to consensus.
        let has_effects = self.closing != Some(Closing::Removing) && self.replica.persisted(now, write, &mut self.work);
        has_effects || self.closing.is_some()
    }

    /// Where it stands, in full.
    pub(crate) fn report(&self, now: Time, election_timeout: Duration, peers: &Peers) -> Report {
        let applies_late = now >= self.applying.late_at(election_timeout);
        let (applying_bytes, fenced) = (self.applying.bytes(), self.fence.clone());
        let context = Context { now, election_timeout, peers, applying_bytes, applies_late, fenced };
        Report::of(self.id, &self.replica, context)
    }

    /// Whether nothing of it is under way any more, once it is being closed.
    pub(crate) fn is_closed(&self) -> bool {
        let is_quiet = self.unwritten == 0 && self.saving == Saving::No && !self.replica.is_fetching();
        let is_applied = self.fence.is_some() || self.applying.is_empty();
        self.closing.is_some() && is_quiet && is_applied
    }

    /// What is added to the node's peers no more; and the log, to begin the group again, if it stays there.
    pub(crate) fn into_closed(mut self, shared: &mut Shared<'_>) -> Act {
        shared.peers.members_changed(self.named.take().as_ref(), None);
        shared.peers.entitled_changed(&self.entitled, &[]);
        let stays = self.closing != Some(Closing::Removing);
        let log = stays.then(|| Box::new(self.replica.into_log()));
        Act::Closed { group: self.id, log }
    }

    fn apply(&mut self, now: Time, entries: Vec<Committed>, turn: &mut Turn) {
        let Some(last) = entries.last().map(|entry| entry.id) else { return };
        let mut bytes = 0;
        for entry in &entries {
            let (commands, size) = entry.payload.size_of_commands();
            self.retention.applied(entry.id.index, size);
            // Each command is by itself again when it is applied.
            bytes += size + size_of::<Committed>() + commands * size_of::<(ProposalId, Bytes)>();
        }
        self.applying.hand_over(now, last, bytes);
        turn.rest.push(Act::Apply { group: self.id, entries });
    }

    fn applied(&mut self, now: Time, upto: LogId, durable: LogId, turn: &mut Turn) {
        self.applying.applied(upto);
        self.durable = self.durable.max(durable);
        self.replica.applied(upto.index, &mut self.work);
        self.compact(now, turn);
    }

    fn restored(&mut self, now: Time, id: LogId, durable: LogId, turn: &mut Turn) {
        self.restoring = None;
        self.saved = self.saved.max(id);
        // A state that is durable by itself needs the file no longer.
        let before = if durable >= id { LogId { index: id.index.next(), ..id } } else { id };
        turn.removals.push((self.id, before));
        self.tell(vec![GroupEvent::SnapshotRestored { of: id }], turn);
        self.applied(now, id, durable, turn);
    }

    /// What was given to the state machine too long ago makes this node unfit to lead.
    fn judge_lag(&mut self, now: Time, shared: &Shared<'_>) {
        let is_late = now >= self.applying.late_at(shared.election_timeout);
        if std::mem::replace(&mut self.is_late, is_late) != is_late {
            self.replica.fitness(now, !is_late, &mut self.work);
        }
    }

    /// A group that falls asleep is told of the nodes that are gone already: it would not notice any more. Nor does it need
    /// recent entries, which every peer that is there has.
    fn watch_over_sleep(&mut self, now: Time, shared: &Shared<'_>) {
        let raft = self.replica.raft();
        let is_asleep = raft.is_asleep();
        if std::mem::replace(&mut self.is_asleep, is_asleep) || !is_asleep {
            return;
        }
        let others: Vec<NodeId> = raft.configuration().nodes().filter(|node| *node != raft.node()).collect();
        self.replica.shrink_recent(0);
        for node in others {
            if !shared.peers.is_alive(now, node, shared.election_timeout) {
                self.replica.silent(now, node, &mut self.work);
            }
        }
    }

    /// The state machine has failed. A snapshot that it was asked for and has not given will not come.
    fn failed(&mut self, now: Time, why: Arc<Fence>) {
        if self.saving == Saving::BeingTaken {
            self.saving = Saving::No;
        }
        self.fence(now, why);
    }

    /// The state machine has stopped, and with it all that waits for it. The log goes on.
    fn fence(&mut self, now: Time, why: Arc<Fence>) {
        if self.fence.is_none() {
            self.fence = Some(why);
            self.applying.clear();
            self.replica.fence(now, NotRead::Fenced, &mut self.work);
        }
    }

    /// Cuts the log, if it is long and its beginning is needed no more.
    fn compact(&mut self, now: Time, turn: &mut Turn) {
        let (begin, applied) = (self.replica.raft().log().after().index, self.replica.applied_upto());
        // Without snapshots a member that lags behind the log could never catch up.
        if !self.makes_snapshots || self.closing.is_some() || !self.retention.is_due(begin, applied) {
            return;
        }
        let durable = self.durable.max(self.saved).index;
        if let Some(upto) = self.retention.cut(begin, durable, applied) {
            self.cut(now, upto);
            let after = self.replica.raft().log().after();
            self.tell(vec![GroupEvent::Compacted { after }], turn);
        } else if self.durable == LogId::ZERO && self.retention.held().is_none() {
            self.take_snapshot(turn);
        }
    }

    /// A member gets a snapshot of this entry from this node, and needs what follows it; or none does.
    pub(crate) fn hold_log(&mut self, after: Option<LogId>) {
        self.retention.hold(after.map(|after| after.index));
    }

    /// Cuts what a witness has of the log. It needs nothing of what is decided, and no state machine has to have it.
    fn compact_witness(&mut self, now: Time, turn: &mut Turn) {
        let raft = self.replica.raft();
        let (begin, ready) = (raft.log().after().index, raft.ready());
        if !raft.configuration().is_witness(raft.node()) || !self.retention.is_due(begin, ready) {
            return;
        }
        if let Some(upto) = self.retention.cut(begin, self.replica.withheld_upto(), ready) {
            self.replica.compact_witness(now, upto, &mut self.work);
            let after = self.replica.raft().log().after();
            self.tell(vec![GroupEvent::Compacted { after }], turn);
        }
    }

    /// Cuts the log as far as it can be. A member that lags behind it gets a snapshot, which is better than that nothing
    /// goes on where a disk is full.
    pub(crate) fn make_room(&mut self, now: Time) {
        if self.makes_snapshots {
            self.cut(now, self.durable.max(self.saved).index);
        }
    }

    fn cut(&mut self, now: Time, upto: LogIndex) {
        self.replica.compact(now, upto, &mut self.work);
    }

    /// Begins to save a snapshot of the state, unless one is being saved. False if none can be.
    pub(crate) fn take_snapshot(&mut self, turn: &mut Turn) -> bool {
        if !self.makes_snapshots || self.fence.is_some() || self.closing.is_some() {
            return false;
        }
        if self.saving == Saving::No {
            self.saving = Saving::BeingTaken;
            turn.rest.push(Act::TakeSnapshot { group: self.id });
        }
        true
    }

    /// Saves a snapshot that was asked for.
    fn save_snapshot(&mut self, turn: &mut Turn) {
        if !self.take_snapshot(turn) {
            let why = "its state machine makes none, or has stopped".to_owned();
            self.tell(vec![GroupEvent::SnapshotNotSaved { why }], turn);
        }
    }

    /// A snapshot was sent. A state that is durable by itself needs its file no longer.
    pub(crate) fn snapshot_sent(&mut self, turn: &mut Turn) {
        if self.durable >= self.saved {
            turn.removals.push((self.id, LogId { index: self.saved.index.next(), ..self.saved }));
        }
    }

    fn snapshot_taken(&mut self, id: Option<LogId>, turn: &mut Turn) {
        let group = self.id;
        // Which members there were is not known for certain where entries cannot be read: one may have changed them.
        let is_known = self.replica.raft().unreadable().is_none();
        // One of a state in which nothing is applied is of no use, and its members are not known.
        let begin = self.replica.raft().log().after().index;
        let id = id.filter(|id| is_known && *id > LogId::ZERO && id.index >= begin);
        let header = id.map(|id| Header { group, id, members: self.replica.members_at(id.index).clone() });
        self.saving = if header.is_some() { Saving::BeingWritten } else { Saving::No };
        if header.is_none() {
            turn.saved.push((group, None));
        }
        turn.rest.push(Act::Save { group, header });
    }

    fn saved(&mut self, now: Time, saved: Result<SnapshotInfo, String>, turn: &mut Turn) {
        self.saving = Saving::No;
        match saved {
            Ok(info) => {
                self.saved = self.saved.max(info.id);
                turn.removals.push((self.id, self.saved));
                self.tell(vec![GroupEvent::SnapshotSaved { of: info.id }], turn);
                turn.saved.push((self.id, Some(info)));
                self.compact(now, turn);
            }
            Err(why) => {
                turn.saved.push((self.id, None));
                self.tell(vec![GroupEvent::SnapshotNotSaved { why }], turn);
            }
        }
    }

    /// What has happened may have made other members, or another role.
    fn take_note(&mut self, happened: &[Event]) {
        self.disks_unknown |= happened.iter().any(|event| matches!(event, Event::ConfigurationCommitted { .. }));
    }

    fn close(&mut self, now: Time, remove: bool) {
        if self.closing.is_none() {
            self.replica.close(now, remove, &mut self.work);
            self.closing = Some(if remove { Closing::Removing } else { Closing::Closing });
        }
    }

    fn tell(&self, events: Vec<GroupEvent>, turn: &mut Turn) {
        turn.rest.extend(events.into_iter().map(|event| Act::Tell { group: self.id, event }));
    }

    fn answer(&self, answers: Vec<Answer>, turn: &mut Turn) {
        turn.rest.extend(answers.into_iter().map(|answer| Act::Answer { group: self.id, answer }));
    }

    /// Shows what is another than was shown.
    fn show(&mut self, now: Time, shared: &mut Shared<'_>, turn: &mut Turn) {
        let group = self.id;
        let raft = self.replica.raft();
        let role_state = raft.role_state();
        let is_removed = raft.is_removed();
        let status = Status {
            role_state,
            last: raft.log().last(),
            commit: raft.commit(),
            applied: self.replica.applied_upto(),
            applying_bytes: self.applying.bytes(),
            disk: DiskState { is_full: !raft.has_room(), has_stalled: raft.disk_has_stalled() },
            fenced: self.fence.clone(),
            is_removed,
            is_open: true,
        };
        let members = self.replica.members();
        // They can be others only where another entry has set them.
        let set_at = raft.configurations().newest_at();
        let set_by = Some((set_at, raft.log().term_at(set_at)));
        let may_be_others = std::mem::replace(&mut self.named_by, set_by) != set_by;
        let are_others = (may_be_others && self.named.as_ref() != Some(members)) || is_removed != self.shown.is_removed;
        // A leader or a candidate counts votes and acknowledgements. A follower, or a node that asks whether it should stand,
        // counts nothing that binds a node, and may lag behind: a member that was removed and added again may lead by now,
        // or know that this node was removed, and no other could tell it so.
        let counts = matches!(role_state.role, RoleName::Candidate | RoleName::Leader);
        let counted = matches!(self.shown.role_state.role, RoleName::Candidate | RoleName::Leader);
        if are_others || counts != counted {
            let entitled: Vec<(NodeId, u64)> = if counts { members.disks().collect() } else { Vec::new() };
            shared.peers.entitled_changed(&self.entitled, &entitled);
            self.entitled = entitled;
        }
        if are_others {
            let members = members.clone();
            shared.peers.members_changed(self.named.as_ref(), Some(&members));
            let shown = if is_removed { members.without(raft.node()) } else { members.clone() };
            turn.rest.push(Act::ShowMembers { group, members: shown });
            self.named = Some(members);
        }
        if role_state != self.shown.role_state {
            self.disks_unknown = true;
        }
        if let Some(fence) = status.fenced.as_ref().filter(|_| self.shown.fenced.is_none()) {
            turn.rest.push(Act::Tell { group, event: GroupEvent::Fenced(Arc::clone(fence)) });
        }
        if !self.health_seen(now, shared).eq(self.health.iter().copied()) {
            self.health = self.health_seen(now, shared).collect();
            turn.rest.push(Act::ShowHealth { group, health: self.health.clone() });
        }
        if status != self.shown {
            self.shown = status.clone();
            turn.rest.push(Act::Show { group, status });
        }
    }
}
