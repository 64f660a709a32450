//! The task that drives a node: gathers what has happened, ends the turn, carries it out.
//!
//! Owns the clock and the order of a turn: what goes to the disk and to peers is on its way before anything is applied.
//! Decides nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};
use vlot_raft::effect::{Event as Consensus, RoleName};
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId};
use vlot_raft::time::Time;

use crate::events::{Event, Events, NewGroup};
use crate::exchange::{Ask, Exchange};
use crate::log_thread::{Done, LogThread};
use crate::machine::Machine;
use crate::members::{MemberChange, Members};
use crate::net::{self, Inbox, Lane, Net};
use crate::node::{Input, NodeCore, Turn};
use crate::payload::Payload;
use crate::replica::Committed;
use crate::retention::{self, Retention};
use crate::snapshot::{self, Header};
use crate::view::{GroupEvent, View};

/// Deliveries of the network that one turn takes in, at most, so that no turn is endless.
const DELIVERIES_MAX: usize = 256;

pub(crate) struct Driver {
    pub(crate) core: NodeCore,
    pub(crate) events: Arc<Events>,
    pub(crate) net: Arc<Net>,
    pub(crate) inbox: Inbox,
    pub(crate) exchange: Exchange,
    /// Where each peer listens that no group's members name: it was told when the node was opened.
    pub(crate) peers: BTreeMap<NodeId, String>,
    pub(crate) retention: retention::Limits,
    /// The disk of each node that is connected, and this one's own.
    pub(crate) disks: BTreeMap<NodeId, u64>,
    /// A peer knows this node by another disk, and it cannot be for that peer's ignorance.
    pub(crate) other_disk: bool,
    pub(crate) log: LogThread,
    pub(crate) groups: BTreeMap<GroupId, Driven>,
    pub(crate) started: Instant,
}

/// What a node says that has lost its disk, or got an old one back.
const OTHER_DISK: &str = "the cluster knows this member by another disk: what it had vouched for is lost; remove the \
                          member and add it again, with an empty directory";

/// A group's state machine and what is shown of it.
pub(crate) struct Driven {
    machine: Box<dyn Machine>,
    view: Arc<View>,
    retention: Retention,
    /// What this node has in a snapshot of its own.
    saved: LogId,
    saving: bool,
    /// There may be a member whose disk was seen and is not written down.
    disks_unknown: bool,
}

/// Why a driver ends.
enum End {
    ReadRequest,
    Failed(String),
}

impl Driver {
    /// Drives until asked to stop (then `None`) or until the node cannot go on: then why.
    pub(crate) async fn run(mut self) -> Option<String> {
        let end = self.turns().await;
        for driven in self.groups.values_mut() {
            driven.machine.dismiss();
        }
        self.net.shutdown().await;
        match end {
            End::ReadRequest => None,
            End::Failed(why) => {
                tracing::error!(why, "the node stops");
                Some(why)
            }
        }
    }

    async fn turns(&mut self) -> End {
        let mut gathered = Vec::new();
        let alarm = sleep_until(self.started);
        tokio::pin!(alarm);
        loop {
            let deadline = self.moment(self.core.deadline());
            if alarm.deadline() != deadline {
                alarm.as_mut().reset(deadline);
            }
            let delivery = tokio::select! {
                biased;
                delivery = self.inbox.next() => delivery,
                () = self.events.filled() => None,
                () = &mut alarm => None,
            };
            let more = std::iter::from_fn(|| self.inbox.try_next()).take(DELIVERIES_MAX - 1);
            let deliveries: Vec<net::Event> = delivery.into_iter().chain(more).collect();
            self.events.take(&mut gathered);
            // Read after everything is in hand: a read that came while the process stood still must not be taken for one
            // of the moment before (the contract of leases).
            let now = Time::after_origin(self.started.elapsed());
            for delivery in deliveries {
                self.deliver(now, delivery);
            }
            if self.other_disk {
                return End::Failed(OTHER_DISK.into());
            }
            for event in gathered.drain(..) {
                if let Err(end) = self.take(now, event) {
                    return end;
                }
            }
            let turn = self.core.end_turn(now);
            if let Err(why) = self.carry_out(turn) {
                return End::Failed(why);
            }
        }
    }

    fn take(&mut self, now: Time, event: Event) -> Result<(), End> {
        match event {
            Event::Input(input) => self.core.handle(now, input),
            Event::Log(Done::Written(batch)) => self.core.handle(now, Input::Written { batch }),
            Event::Log(Done::VotesWritten(batch)) => self.core.handle(now, Input::VotesWritten { batch }),
            Event::Log(Done::Room { is_there }) => {
                self.core.handle(now, Input::Room { is_there });
                if !is_there {
                    self.make_room(now);
                }
            }
            Event::Log(Done::Fetched { group, purpose, entries }) => {
                self.core.handle(now, Input::Fetched { group, purpose, entries });
            }
            Event::Log(Done::Failed(why)) => return Err(End::Failed(why)),
            Event::Begin(new) => self.begin(now, *new),
            Event::SnapshotGot { group, attempt, got } => self.got_snapshot(now, group, attempt, got),
            Event::SnapshotSent { group, to, attempt, sent } => {
                self.exchange.sent(to, attempt);
                match sent {
                    Ok(of) => self.tell(group, GroupEvent::SnapshotSent { to, of }),
                    Err(why) => tracing::warn!(%group, %to, why, "a snapshot was not sent"),
                }
            }
            Event::SnapshotSaved { group, saved } => self.saved_snapshot(group, saved),
            Event::Stop => return Err(End::ReadRequest),
        }
        Ok(())
    }

    fn carry_out(&mut self, turn: Turn) -> Result<(), String> {
        if let Some(bad) = turn.broken {
            return Err(format!("entry {} of the log is none that this version knows", bad.0));
        }
        if let Some((batch, writes)) = turn.write {
            self.log.write(batch, writes);
        }
        for (to, lane, frame) in turn.frames {
            // What cannot be sent is lost, as on any network; the transport counts it.
            let _ = self.net.send(to, lane, &[frame]);
        }
        for (group, read) in turn.log_reads {
            self.log.read(group, read);
        }
        for (peer, complaint) in turn.complaints {
            tracing::warn!(%peer, ?complaint, "a peer sent what no correct peer sends");
        }
        for (group, role_state) in turn.became {
            tracing::info!(%group, term = %role_state.term, role = ?role_state.role, leader = ?role_state.leader.map(|node| format!("{:x}", node.0)), "standing");
            if let Some(driven) = self.groups.get_mut(&group) {
                driven.view.role_state.send_replace(role_state);
                driven.disks_unknown = true;
            }
            self.meet_disks();
            self.tell(group, GroupEvent::Became(role_state));
        }
        for (group, event) in turn.happened {
            tracing::info!(%group, ?event, "consensus");
            if let Consensus::ConfigurationChanged { .. } = event {
                self.meet_members(group);
            }
            if let (Consensus::ConfigurationCommitted { .. }, Some(driven)) = (event, self.groups.get_mut(&group)) {
                driven.disks_unknown = true;
            }
            self.tell(group, GroupEvent::Consensus(event));
        }
        // A snapshot takes room, too. It is asked for again until it is here.
        let has_room = !self.core.is_full();
        for (group, leader, reach) in turn.fetch.into_iter().filter(|_| has_room) {
            self.fetch(group, leader, reach);
        }
        for (group, sequences) in turn.proposals_refused {
            if let Some(driven) = self.groups.get_mut(&group) {
                driven.machine.refuse_proposals(sequences);
            }
        }
        for (group, sequence, why) in turn.changes_refused {
            if let Some(driven) = self.groups.get_mut(&group) {
                driven.machine.refuse_change(sequence, why);
            }
        }
        for (group, sequence, begun) in turn.transfers {
            if let Some(driven) = self.groups.get_mut(&group) {
                driven.machine.answer_transfer(sequence, begun);
            }
        }
        for (group, id) in turn.restore {
            self.restore(group, id)?;
        }
        for (group, committed) in turn.committed {
            if let Some(driven) = self.groups.get_mut(&group) {
                committed.iter().for_each(|entry| driven.retention.applied(entry.id.index, bytes_of(entry)));
                driven.machine.apply(committed)?;
            }
            self.compact(group);
            self.bind_disks(Time::after_origin(self.started.elapsed()), group);
        }
        for (group, driven) in &self.groups {
            driven.view.show(&self.core, *group);
        }
        for (group, reads) in turn.reads_ready {
            if let Some(driven) = self.groups.get_mut(&group) {
                driven.machine.answer_reads(reads);
            }
        }
        Ok(())
    }

    fn deliver(&mut self, now: Time, event: net::Event) {
        match event {
            net::Event::Frames { from, lane: Lane::Snapshot, frames } => {
                for frame in frames {
                    if let Some(ask) = self.exchange.take(from, frame) {
                        self.send_snapshot(ask);
                    }
                }
            }
            net::Event::Frames { from, frames, .. } => {
                for bytes in frames {
                    self.core.handle(now, Input::Frame { from, bytes });
                }
            }
            net::Event::Connected { peer, disk } => {
                self.disks.insert(peer, disk);
                self.groups.values_mut().for_each(|driven| driven.disks_unknown = true);
                self.core.handle(now, Input::Connected { peer });
            }
            net::Event::Lost { peer } => {
                // Who comes back may be another.
                self.disks.remove(&peer);
                self.core.handle(now, Input::Lost { peer });
            }
            net::Event::OtherDisk { peer, node, disk } if Some(node) == self.own() => {
                tracing::error!(%peer, disk, "a peer knows this node by another disk");
                self.other_disk |= self.knows_founders_alone();
            }
            net::Event::OtherDisk { node, disk, .. } => {
                tracing::error!(%node, disk, "a member has lost its disk: remove it and add it again");
            }
        }
    }

    /// Whether this node takes itself for one of a group's first members, and knows of no others. If it was removed and
    /// added again, a peer that lags behind may know it by the disk of before, but then it has not these first members.
    fn knows_founders_alone(&self) -> bool {
        let rafts = self.groups.keys().filter_map(|group| self.core.raft(*group));
        rafts.into_iter().any(|raft| {
            raft.configurations().newest_at() == LogIndex::ZERO && raft.configuration().contains(raft.node())
        })
    }

    fn own(&self) -> Option<NodeId> {
        self.groups.keys().find_map(|group| self.core.raft(*group)).map(vlot_raft::raft::Raft::node)
    }

    /// A leader writes down which disk each member has, once it has seen it: from then on a member that comes with
    /// another, having lost what it had vouched for, is kept out until it is removed and added again.
    fn bind_disks(&mut self, now: Time, group: GroupId) {
        let Some(driven) = self.groups.get_mut(&group).filter(|driven| driven.disks_unknown) else { return };
        let (Some(members), Some(raft)) = (self.core.members(group), self.core.raft(group)) else { return };
        let is_free = raft.takes_proposals() && raft.configurations().newest_at() <= raft.commit();
        if !is_free || members.configuration().is_joint() {
            return;
        }
        let unknown = members.iter().map(|(member, _)| member.node).filter(|node| members.disk(*node) == 0);
        let seen = unknown.filter_map(|node| Some((node, *self.disks.get(&node).filter(|disk| **disk != 0)?)));
        let changes: Vec<MemberChange> = seen.map(|(node, disk)| MemberChange::BindDisk { node, disk }).collect();
        driven.disks_unknown = false;
        if !changes.is_empty() {
            self.core.handle(now, Input::ChangeMembers { group, sequence: 0, changes, context: Bytes::new() });
        }
    }

    fn begin(&mut self, now: Time, new: NewGroup) {
        let id = new.id();
        let begun = self.core.add(now, new.begin);
        if begun.is_ok() {
            let retention = Retention::new(self.retention.clone());
            let NewGroup { machine, view, saved, .. } = new;
            self.groups.insert(id, Driven { machine, view, retention, saved, saving: false, disks_unknown: true });
            self.meet_members(id);
        }
        // Whoever asked for it and went away does not want to know.
        let _ = new.begun.send(begun);
    }

    fn tell(&self, group: GroupId, happening: GroupEvent) {
        if let Some(driven) = self.groups.get(&group) {
            driven.view.tell(happening);
        }
    }

    /// The members of a group are others: the transport talks to them, and their view is shown.
    fn meet_members(&mut self, group: GroupId) {
        if let (Some(driven), Some(members)) = (self.groups.get(&group), self.core.members(group)) {
            driven.view.members.send_replace(members.clone());
        }
        let all: Vec<_> = self.groups.keys().filter_map(|group| self.core.members(*group)).collect();
        let mut peers = self.peers.clone();
        // Once every group says who its members are, nobody else is called, whatever was told at first.
        if all.iter().all(|members| members.iter().next().is_some()) {
            peers.retain(|node, _| all.iter().any(|members| members.configuration().contains(*node)));
        }
        for members in all {
            let told = members.iter().filter(|(_, address)| !address.is_empty());
            peers.extend(told.map(|(member, address)| (member.node, address.to_owned())));
        }
        self.meet_disks();
        self.net.set_peers(peers);
    }

    /// Keeps out whoever has another disk than its seat's, where this node counts votes or acknowledgements.
    ///
    /// Who follows, or asks whether it should stand, counts nothing that binds anybody, and may lag behind: a member that
    /// was removed and added again may lead by now, or know that this node was removed, and nobody else could tell it so.
    fn meet_disks(&self) {
        let mut disks = BTreeMap::new();
        for group in self.groups.keys() {
            let role = self.core.raft(*group).map(|raft| raft.role_state().role);
            let counts = matches!(role, Some(RoleName::Candidate | RoleName::Leader));
            disks.extend(self.core.members(*group).filter(|_| counts).into_iter().flat_map(Members::disks));
        }
        self.net.set_disks(disks);
    }

    fn fetch(&mut self, group: GroupId, leader: NodeId, reach: LogId) {
        let own = self.core.raft(group).map(vlot_raft::raft::Raft::node);
        let members = self.core.members(group).map(|members| members.configuration().clone()).unwrap_or_default();
        let others = members.members().iter().filter(|member| !member.witness).map(|member| member.node);
        let others: Vec<NodeId> = others.filter(|node| Some(*node) != own && *node != leader).collect();
        self.exchange.fetch(group, leader, &others, reach);
    }

    /// A peer asks for a snapshot; it gets one if this node's reaches far enough.
    fn send_snapshot(&mut self, ask: Ask) {
        let Some(driven) = self.groups.get(&ask.group) else { return };
        let Some(snapshot) = driven.machine.snapshot() else { return };
        let id = snapshot.at();
        if id.index < ask.reach.index {
            return;
        }
        let Some(members) = self.core.members_at(ask.group, id.index).cloned() else { return };
        tracing::info!(group = %ask.group, to = %ask.from, of = %id, "sending a snapshot");
        self.exchange.send(ask, Header { group: ask.group, id, members }, snapshot);
    }

    fn got_snapshot(&mut self, now: Time, group: GroupId, attempt: u64, got: Result<Header, String>) {
        self.exchange.got(group, attempt);
        match got {
            Ok(Header { id, members, .. }) => {
                tracing::info!(%group, of = %id, "a snapshot is here");
                self.core.handle(now, Input::SnapshotReceived { group, id, members });
            }
            Err(why) => tracing::warn!(%group, why, "a snapshot did not come; it is asked for again"),
        }
    }

    /// The state machine becomes the snapshot that the log says has taken its place.
    fn restore(&mut self, group: GroupId, id: LogId) -> Result<(), String> {
        let Some(driven) = self.groups.get_mut(&group) else { return Ok(()) };
        let shelf = self.exchange.shelf();
        // The next one may be here already.
        let saved = shelf.newest(group, |saved| saved == id);
        let saved = saved.map_err(|error| format!("cannot read the snapshots: {error}"))?;
        let saved = saved.ok_or_else(|| format!("the snapshot of {id}, which was here, is gone"))?;
        driven.machine.restore(&saved)?;
        driven.saved = id;
        tracing::info!(%group, of = %id, "restored from a snapshot");
        // A state that is durable by itself needs the file no longer.
        let is_durable = driven.machine.durable() >= id;
        shelf.remove_before(group, if is_durable { LogId { index: id.index.next(), ..id } } else { id });
        self.tell(group, GroupEvent::SnapshotRestored { of: id });
        Ok(())
    }

    /// Cuts the log of a group, if it is long and its beginning is needed no more.
    fn compact(&mut self, group: GroupId) {
        let Some(driven) = self.groups.get_mut(&group) else { return };
        let (Some(raft), Some(handed)) = (self.core.raft(group), self.core.handed(group)) else { return };
        let begin = raft.log().after().index;
        if !driven.retention.is_due(begin, handed.index) {
            return;
        }
        // Without snapshots a member that lags behind the log could never catch up.
        if driven.machine.snapshot().is_none() {
            return;
        }
        let own = driven.machine.durable();
        if let Some(upto) = driven.retention.cut(begin, own.max(driven.saved).index, handed.index) {
            let now = Time::after_origin(self.started.elapsed());
            self.core.handle(now, Input::Compact { group, upto });
            let after = self.core.raft(group).map(|raft| raft.log().after()).unwrap_or_default();
            self.tell(group, GroupEvent::Compacted { after });
        } else if own == LogId::ZERO && !driven.saving {
            self.save(group);
        }
    }

    /// The disk is full: each log is cut as far as it can be. Who lags behind it gets a snapshot, which is better than
    /// that nothing goes on.
    fn make_room(&mut self, now: Time) {
        for (&group, driven) in &mut self.groups {
            if driven.machine.snapshot().is_some() {
                let upto = driven.machine.durable().max(driven.saved).index;
                self.core.handle(now, Input::Compact { group, upto });
            }
        }
    }

    /// Saves a snapshot of a state that lives in memory alone, so that the log can be cut.
    fn save(&mut self, group: GroupId) {
        let Some(driven) = self.groups.get_mut(&group) else { return };
        let Some(mut snapshot) = driven.machine.snapshot() else { return };
        let id = snapshot.at();
        let Some(members) = self.core.members_at(group, id.index).cloned() else { return };
        let (shelf, events) = (self.exchange.shelf().clone(), Arc::clone(&self.events));
        let begun = std::thread::Builder::new().name("save snapshot".into()).spawn(move || {
            let header = Header { group, id, members };
            let saved = shelf.begin(group, "saved").and_then(|mut file| {
                snapshot::write(&header, &mut *snapshot, &mut file)?;
                file.finish()
            });
            let saved = saved.map(|header| header.id).map_err(|error| error.to_string());
            events.push(Event::SnapshotSaved { group, saved });
        });
        match begun {
            Ok(_) => driven.saving = true,
            Err(error) => tracing::warn!(%error, "cannot start a thread to save a snapshot"),
        }
    }

    fn saved_snapshot(&mut self, group: GroupId, saved: Result<LogId, String>) {
        let Some(driven) = self.groups.get_mut(&group) else { return };
        driven.saving = false;
        match saved {
            Ok(id) => {
                driven.saved = driven.saved.max(id);
                self.exchange.shelf().remove_before(group, driven.saved);
                self.compact(group);
            }
            Err(why) => tracing::warn!(%group, why, "a snapshot was not saved; the log stays as long as it is"),
        }
    }

    /// The clock's moment of `time`, or one far away.
    fn moment(&self, time: Time) -> Instant {
        const FAR: Duration = Duration::from_secs(3600);
        self.started + time.since_origin().min(self.started.elapsed() + FAR)
    }
}

/// About how much of the log an entry takes.
fn bytes_of(Committed { payload, .. }: &Committed) -> usize {
    match payload {
        Payload::Command { command, .. } => command.len(),
        Payload::Configuration(_) | Payload::Blank | Payload::Withheld => 0,
    }
}
