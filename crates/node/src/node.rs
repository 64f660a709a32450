//! All groups of one node: finds the one an input is for, and makes of what they want one turn's list of acts.
//!
//! Sans-IO. Owns which groups have something to do and when, the batches of writes that are not durable, and what is about
//! all groups: peers, disks, memory. A turn touches the groups to which something has happened or whose deadline has come,
//! and no others, and only so many of those at once that it stays short. Must not know of sockets, files or threads, or of
//! what a replica does.

mod transfers;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use vlot_raft::effect::WriteId;
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId, Term};
use vlot_raft::raft::Raft;
use vlot_raft::state::Config;
use vlot_raft::time::Time;

use crate::act::{Act, BatchId, Complaint, Stop};
use crate::entries::fair_share;
use crate::group::{Begun, Group, Shared};
use crate::input::Input;
use crate::lane::Lane;
use crate::members::{Members, MembersAt};
use crate::news::{Bulletin, News};
use crate::peers::Peers;
use crate::policy::{self, Led, Policies};
use crate::replica::{Begin, CannotBegin, Replica, Work};
use crate::report::Report;
use crate::retention::{self, Retention};
use crate::snapshot::SnapshotInfo;
use crate::transfer::{self, Transfers};
use crate::turn::Turn;
use crate::wire::PeerMessage;

/// How many groups have their alarm in one turn, at most.
const ALARMS_A_TURN: usize = 128;

/// How a node behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is the same for all its groups.
    pub config: Arc<Config>,
    /// The number of its disk, by which others know it.
    pub disk: u64,
    /// Where nodes listen, as `host:port`, before a group's members say so.
    pub peers: BTreeMap<NodeId, String>,
    /// How many bytes of recent entries all groups together keep in memory for peers that lag behind a little. What is not
    /// written or not applied yet is in memory besides.
    pub recent_bytes_max: usize,
    /// How many bytes of entries a state machine may have been given and not have applied. Beyond it proposals that are not
    /// urgent are refused as [`NotProposed::Busy`](crate::proposals::NotProposed::Busy).
    pub apply_bytes_max: usize,
    /// How much of each group's log is kept.
    pub retention: retention::Limits,
    /// How snapshots are sent and received.
    pub transfer: transfer::Limits,
    /// What leaders do about members by themselves.
    pub policies: Policies,
    /// A number that no earlier process of this node has drawn.
    pub origin: u64,
    /// What the wall clock showed at [`Time`] zero, since 1970: for state machines that ask for time, which see it when this
    /// node leads. A hint, by which nothing is decided here.
    pub unix_at_origin: Duration,
    /// What an earlier process has received of snapshots, and not all of.
    pub parts: BTreeMap<GroupId, SnapshotInfo>,
}

/// Everything a node decides, as a value.
#[derive(Debug)]
pub struct Node {
    options: Options,
    /// Each in its own place: the map is small, and to find a group in it touches little memory.
    groups: BTreeMap<GroupId, Box<Group>>,
    /// Those to which something has happened since the last turn, each once.
    dirty: Vec<GroupId>,
    /// When groups are to be looked at. A deadline that moved on is looked at too early, and once more.
    alarms: BinaryHeap<Reverse<(Time, GroupId)>>,
    peers: Peers,
    bulletin: Bulletin,
    transfers: Transfers,
    /// What has come up between turns.
    turn: Turn,
    batch: BatchId,
    /// For each batch that is not durable, the last write of each group in it.
    unwritten: VecDeque<(BatchId, Vec<(GroupId, WriteId)>)>,
    /// Bytes of recent entries of all groups, and which groups have any.
    recent_bytes: usize,
    with_recent: BTreeSet<GroupId>,
    /// The disk has no room for entries.
    is_full: bool,
    /// When it next looks whether leaders are balanced over nodes.
    balance_due: Time,
}

/// A replica to be begun, and what its state machine has.
#[derive(Debug)]
pub struct NewGroup {
    /// How the replica begins.
    pub begin: Begin,
    /// What its state machine has.
    pub begun: Begun,
}

impl Node {
    /// A node without groups.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            peers: Peers::new(options.config.node, options.peers.clone()),
            transfers: Transfers::new(options.transfer, options.origin, options.parts.clone()),
            options,
            groups: BTreeMap::new(),
            dirty: Vec::new(),
            alarms: BinaryHeap::new(),
            bulletin: Bulletin::default(),
            turn: Turn::default(),
            batch: BatchId::default(),
            unwritten: VecDeque::new(),
            recent_bytes: 0,
            with_recent: BTreeSet::new(),
            is_full: false,
            balance_due: Time::default(),
        }
    }

    /// Adds a group.
    ///
    /// # Errors
    /// If its state machine and its log do not belong together.
    ///
    /// # Panics
    /// If the node has the group already.
    pub fn add(&mut self, now: Time, new: NewGroup) -> Result<(), CannotBegin> {
        let id = new.begin.group;
        assert!(!self.groups.contains_key(&id), "group {id} is begun once");
        let mut work = Work::default();
        let mut replica = Replica::new(now, new.begin, &mut work)?;
        if new.begun.wants_time {
            replica.tell_time(self.options.unix_at_origin);
        }
        if self.is_full {
            replica.room(now, false, &mut work);
        }
        // Connections that stood before the group was there are news to it.
        for (peer, reads_shared) in self.peers.all_connected() {
            replica.connected(now, peer, reads_shared, &mut work);
        }
        let retention = Retention::new(self.options.retention.clone());
        let group = Group::new(id, replica, work, retention, new.begun, self.bulletin.next());
        let group = self.groups.entry(id).or_insert(Box::new(group));
        touch(group, &mut self.dirty);
        Ok(())
    }

    /// Takes in what has happened. What follows from it comes with [`Node::end_turn`].
    pub fn handle(&mut self, now: Time, input: Input) {
        if let Some(id) = input.group() {
            return self.with(now, id, |group, shared, turn| group.handle(now, input, shared, turn));
        }
        match input {
            Input::Frame { from, lane: Lane::Control | Lane::Entries, bytes } => self.receive(now, from, bytes),
            Input::Frame { from, lane: Lane::Snapshot, bytes } => {
                if let Err(bad) = self.transfers.frame(now, from, bytes) {
                    self.turn.rest.push(Act::Complain { peer: from, complaint: Complaint::TransferFrame(bad) });
                }
            }
            Input::TransferDone(done) => self.transfer_done(now, done),
            Input::Written { batch } => self.written(now, batch),
            Input::VotesWritten { batch } => self.votes_written(now, batch),
            Input::Room { is_there } => {
                self.is_full = !is_there;
                self.spread(News::Room(is_there));
            }
            // Of a node that is no peer any more, or not yet, connections come and go without a word.
            Input::Connected { peer, .. } | Input::Lost { peer } if !self.peers.is_listed(peer) => {}
            Input::Connected { peer, disk, reads_shared } => {
                self.peers.connected(now, peer, disk, reads_shared);
                self.spread(News::Connected(peer, reads_shared));
            }
            Input::Lost { peer } => {
                self.peers.lost(peer);
                self.transfers.lost(now, peer);
                self.spread(News::Lost(peer));
            }
            Input::OtherDisk { peer, node, disk } => {
                self.turn.rest.push(Act::Complain { peer, complaint: Complaint::OtherDisk { disk } });
                if node == self.options.config.node && self.knows_founders_alone() {
                    self.turn.rest.push(Act::Stop(Stop::OtherDisk));
                }
            }
            // Those of one group have gone to it.
            _ => {}
        }
    }

    /// Whether what was handled since the last turn has led to anything for which a turn is to be ended.
    #[must_use]
    pub fn has_work(&self) -> bool {
        !self.dirty.is_empty() || !self.turn.is_empty()
    }

    /// When to end a turn, though nothing else has happened.
    #[must_use]
    pub fn deadline(&self) -> Time {
        let of_groups = self.alarms.peek().map_or(Time::NEVER, |Reverse((time, _))| *time);
        let of_groups = of_groups.min(self.transfers.deadline()).min(self.bulletin.deadline());
        let of_groups = if self.options.policies.balance_leaders { of_groups.min(self.balance_due) } else { of_groups };
        let Config { heartbeat, election_timeout, sleep_after, .. } = *self.options.config;
        match sleep_after {
            Some(_) => of_groups.min(self.peers.deadline(heartbeat, election_timeout)),
            None => of_groups,
        }
    }

    /// Ends a turn: everything that was handled since the last one becomes one list of acts.
    pub fn end_turn(&mut self, now: Time) -> Vec<Act> {
        self.ring(now);
        let watches_peers = self.options.config.sleep_after.is_some();
        if watches_peers {
            for peer in self.peers.take_silent(now, self.options.config.election_timeout) {
                self.spread(News::Silent(peer));
            }
        }
        self.tell_news(now);
        if self.options.policies.balance_leaders && now >= self.balance_due {
            self.balance_due = now + self.options.config.election_timeout / 4;
            self.balance_leaders(now);
        }
        if now >= self.transfers.deadline() {
            self.transfers.tick(now);
        }
        let mut turn = std::mem::take(&mut self.turn);
        self.carry_transfers_on(now, &mut turn);
        let mut closed = Vec::new();
        for id in std::mem::take(&mut self.dirty) {
            let Some(group) = self.groups.get_mut(&id) else { continue };
            group.is_dirty = false;
            let recent = group.replica.recent_bytes();
            let shared = &mut shared(&self.options, &mut self.peers);
            group.hear(now, &self.bulletin);
            group.hold_log(self.transfers.oldest_followed(id));
            group.end_turn(now, shared, &mut turn);
            count_recent(&mut self.recent_bytes, &mut self.with_recent, group, recent);
            let deadline = group.deadline(shared);
            if deadline < group.alarm {
                group.alarm = deadline;
                self.alarms.push(Reverse((deadline, id)));
            }
            if group.is_closed() {
                closed.push(id);
            }
        }
        for id in closed {
            self.remove(now, id, &mut turn);
        }
        self.bulletin.forget_told();
        self.fetch_snapshots(now, &mut turn);
        if watches_peers {
            self.say_alive(now, &mut turn);
        }
        self.shrink_recent();
        turn.rest.extend(self.peers.take_changed_disks().map(Act::SetDisks));
        if let Some((peers, gone)) = self.peers.take_changed() {
            // The node may still call, and be the leader of a group whose log, as far as it has come here, does not say so
            // yet.
            gone.into_iter().for_each(|peer| self.spread(News::Unlisted(peer)));
            turn.rest.push(Act::SetPeers(peers));
        }
        if !turn.writes.is_empty() {
            self.batch = BatchId(self.batch.0 + 1);
            self.unwritten.push_back((self.batch, std::mem::take(&mut turn.last_writes)));
        }
        turn.into_acts(self.batch)
    }

    /// Bytes of recent entries that are in memory, of all groups.
    #[must_use]
    pub fn recent_bytes(&self) -> usize {
        self.recent_bytes
    }

    /// The groups.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.groups.keys().copied()
    }

    /// Where a group stands on this node, and what is wrong with it. Made when it is asked for: it costs a look at each
    /// member.
    #[must_use]
    pub fn report(&self, now: Time, group: GroupId) -> Option<Report> {
        let election_timeout = self.options.config.election_timeout;
        self.groups.get(&group).map(|group| group.report(now, election_timeout, &self.peers))
    }

    /// A group's consensus, to look at.
    #[must_use]
    pub fn raft(&self, group: GroupId) -> Option<&Raft> {
        self.groups.get(&group).map(|group| group.replica.raft())
    }

    /// The members of a group, as its log on this node says, committed or not.
    #[must_use]
    pub fn members(&self, group: GroupId) -> Option<&Members> {
        self.groups.get(&group).map(|group| group.replica.members())
    }

    /// The members of a group when everything up to `index` was applied.
    #[must_use]
    pub fn members_at(&self, group: GroupId, index: LogIndex) -> Option<&MembersAt> {
        self.groups.get(&group).map(|group| group.replica.members_at(index))
    }

    fn receive(&mut self, now: Time, from: NodeId, bytes: Bytes) {
        if self.peers.heard(now, from) {
            // It was silent, and groups may sleep without it.
            self.spread(News::Connected(from, self.peers.reads_shared(from)));
        }
        let complaint = match PeerMessage::decode(bytes) {
            Ok((_, PeerMessage::Alive)) => return,
            Ok((id, message)) if self.groups.contains_key(&id) => {
                return self.with(now, id, |group, _, _| group.receive(now, from, message));
            }
            Ok((id, _)) => Complaint::UnknownGroup(id),
            Err(bad) => Complaint::Frame(bad),
        };
        self.turn.rest.push(Act::Complain { peer: from, complaint });
    }

    fn written(&mut self, now: Time, batch: BatchId) {
        while let Some((_, last_writes)) = self.unwritten.pop_front_if(|(id, _)| *id <= batch) {
            for (id, write) in last_writes {
                let Some(group) = self.groups.get_mut(&id) else { continue };
                let recent = group.replica.recent_bytes();
                if group.written(now, write) {
                    touch(group, &mut self.dirty);
                }
                count_recent(&mut self.recent_bytes, &mut self.with_recent, group, recent);
            }
        }
    }

    fn votes_written(&mut self, now: Time, batch: BatchId) {
        // They stay unwritten, as one batch: of each group the last write counts.
        let mut last_writes: BTreeMap<GroupId, (WriteId, usize)> = BTreeMap::new();
        while let Some((_, writes)) = self.unwritten.pop_front_if(|(id, _)| *id <= batch) {
            for (id, write) in writes {
                let (last, count) = last_writes.entry(id).or_default();
                (*last, *count) = (write, *count + 1);
            }
        }
        for (&id, &(write, count)) in &last_writes {
            self.with(now, id, |group, _, _| {
                group.unwritten -= count - 1;
                group.replica.vote_persisted(now, write, &mut group.work);
            });
        }
        let writes = last_writes.into_iter().map(|(id, (write, _))| (id, write)).collect();
        self.unwritten.push_front((batch, writes));
    }

    /// Tells peers that this node is alive, where nothing else was said for a heartbeat, in this turn neither.
    fn say_alive(&mut self, now: Time, turn: &mut Turn) {
        for to in self.peers.take_untold(now, self.options.config.heartbeat) {
            let frame = PeerMessage::Alive.encode(GroupId(0));
            turn.sends.push(Act::Send { to, lane: Lane::Control, frame });
        }
    }

    /// Touches the groups whose deadline has come. If there are too many of them, the next turn is due at once.
    fn ring(&mut self, now: Time) {
        let mut touched = 0;
        while let Some(&Reverse((time, id))) = self.alarms.peek().filter(|Reverse((time, _))| *time <= now)
            && touched < ALARMS_A_TURN
        {
            self.alarms.pop();
            let shared = shared(&self.options, &mut self.peers);
            let Some(group) = self.groups.get_mut(&id).filter(|group| group.alarm == time) else { continue };
            let deadline = group.deadline(&shared);
            if deadline <= now {
                group.alarm = Time::NEVER;
                touch(group, &mut self.dirty);
                touched += 1;
            } else {
                group.alarm = deadline;
                self.alarms.push(Reverse((deadline, id)));
            }
        }
    }

    /// Transfers the leadership of one group, if another node leads fewer. One after the other.
    fn balance_leaders(&mut self, now: Time) {
        let own = self.options.config.node;
        let mut leads: BTreeMap<NodeId, usize> = BTreeMap::new();
        let rafts = self.groups.values().map(|group| group.replica.raft());
        for leader in rafts.clone().filter_map(|raft| raft.role_state().leader) {
            *leads.entry(leader).or_default() += 1;
        }
        let is_transferring = rafts.clone().any(|raft| raft.handing_over().is_some());
        if is_transferring || leads.get(&own).is_none_or(|count| *count < 2) {
            return;
        }
        let shared = shared(&self.options, &mut self.peers);
        let led = self.groups.values().map(|group| Led { group: group.id, successors: group.successors(now, &shared) });
        let led: Vec<Led> = led.collect();
        if let Some((group, to)) = policy::next_transfer(own, &leads, &led) {
            self.with(now, group, |group, _, _| group.transfer_to_balance(now, to));
        }
    }

    /// Forgets recent entries if there are too many bytes of them. An eighth more than that goes, so that this is not
    /// done again each turn.
    fn shrink_recent(&mut self) {
        let bytes_max = self.options.recent_bytes_max;
        if self.recent_bytes > bytes_max {
            let bytes_of = |id: &GroupId| self.groups.get(id).map_or(0, |group| group.replica.recent_bytes());
            let share = fair_share(self.with_recent.iter().map(bytes_of).collect(), bytes_max / 8 * 7);
            for id in std::mem::take(&mut self.with_recent) {
                if let Some(group) = self.groups.get_mut(&id) {
                    let before = group.replica.recent_bytes();
                    group.replica.shrink_recent(share);
                    self.recent_bytes = self.recent_bytes + group.replica.recent_bytes() - before;
                    if group.replica.recent_bytes() > 0 {
                        self.with_recent.insert(id);
                    }
                }
            }
        }
    }

    /// Whether this node takes itself for one of a group's first members, and knows of no others. If it was removed and
    /// added again, a peer that lags behind may know it by the disk of before, but then it has not these first members.
    fn knows_founders_alone(&self) -> bool {
        self.groups.values().map(|group| group.replica.raft()).any(|raft| {
            raft.configurations().newest_at() == LogIndex::ZERO && raft.configuration().contains(raft.node())
        })
    }

    fn remove(&mut self, now: Time, id: GroupId, turn: &mut Turn) {
        if let Some(group) = self.groups.remove(&id) {
            self.transfers.remove_group(now, id);
            self.recent_bytes -= group.replica.recent_bytes();
            self.with_recent.remove(&id);
            let shared = &mut shared(&self.options, &mut self.peers);
            let closed = group.into_closed(shared);
            if let Act::Closed { log: None, .. } = closed {
                let before = LogId { term: Term(u64::MAX), index: LogIndex(u64::MAX) };
                turn.rest.push(Act::RemoveSnapshots { group: id, before });
            }
            turn.rest.push(closed);
        }
    }

    fn with(&mut self, now: Time, id: GroupId, act: impl FnOnce(&mut Group, &Shared<'_>, &mut Turn)) {
        let shared = shared(&self.options, &mut self.peers);
        if let Some(group) = self.groups.get_mut(&id) {
            let recent = group.replica.recent_bytes();
            group.hear(now, &self.bulletin);
            act(group, &shared, &mut self.turn);
            count_recent(&mut self.recent_bytes, &mut self.with_recent, group, recent);
            touch(group, &mut self.dirty);
        }
    }

    /// All groups must hear of it, in this turn and later ones.
    fn spread(&mut self, news: News) {
        self.bulletin.add(news, self.groups.keys().copied());
    }

    /// Touches the groups that are told of the news in this turn.
    fn tell_news(&mut self, now: Time) {
        for id in self.bulletin.take_due(now) {
            if let Some(group) = self.groups.get_mut(&id) {
                touch(group, &mut self.dirty);
            }
        }
    }
}

/// Something has happened to a group.
fn touch(group: &mut Group, dirty: &mut Vec<GroupId>) {
    if !std::mem::replace(&mut group.is_dirty, true) {
        dirty.push(group.id);
    }
}

/// A group that had so many bytes of recent entries may have more or fewer now.
fn count_recent(bytes: &mut usize, with_recent: &mut BTreeSet<GroupId>, group: &Group, before: usize) {
    let after = group.replica.recent_bytes();
    *bytes = *bytes + after - before;
    match (before, after) {
        (0, 1..) => _ = with_recent.insert(group.id),
        (1.., 0) => _ = with_recent.remove(&group.id),
        _ => {}
    }
}

fn shared<'a>(options: &'a Options, peers: &'a mut Peers) -> Shared<'a> {
    Shared {
        election_timeout: options.config.election_timeout,
        apply_bytes_max: options.apply_bytes_max,
        disk: options.disk,
        policies: &options.policies,
        peers,
    }
}

#[cfg(test)]
mod tests;
