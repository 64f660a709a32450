//! All replicas of one node: finds the one a frame is for, and makes of what they want one turn's work.
//!
//! Sans-IO. Owns the batches of writes that are not durable. Must not know of sockets, files, tasks, or of what a
//! replica does.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use vlot_log::record::{Entry, Write};
use vlot_raft::configuration::ChangeRefused;
use vlot_raft::effect::{Event, Misbehaviour, RoleState, TransferRefused, WriteId};
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId};
use vlot_raft::raft::Raft;
use vlot_raft::time::Time;

use crate::entries::fair_share;
use crate::lane::Lane;
use crate::members::{MemberChange, Members, MembersAt};
use crate::replica::{BadEntry, Begin, CannotBegin, Committed, LogRead, Purpose, Replica, Work};
use crate::wire::{BadFrame, PeerMessage};

/// Numbers the turns that have written; rises.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct BatchId(pub u64);

/// What happens to a node.
#[derive(Debug)]
pub enum Input {
    /// A frame has come from a peer.
    Frame {
        /// From whom, as the connection has proven.
        from: NodeId,
        /// The frame.
        bytes: Bytes,
    },
    /// A command is proposed: see [`Replica::propose`].
    Propose {
        /// In which group.
        group: GroupId,
        /// The proposal's sequence number.
        sequence: u64,
        /// Its payload.
        payload: Bytes,
    },
    /// Nobody waits for the proposal any more.
    Withdraw {
        /// In which group.
        group: GroupId,
        /// The proposal's sequence number.
        sequence: u64,
    },
    /// A change of members is asked for: see [`Replica::change_members`].
    ChangeMembers {
        /// In which group.
        group: GroupId,
        /// The request's sequence number.
        sequence: u64,
        /// What to change.
        changes: Vec<MemberChange>,
        /// What the state machine is given with it.
        context: Bytes,
    },
    /// The leadership is to be handed over: see [`Replica::transfer`].
    Transfer {
        /// In which group.
        group: GroupId,
        /// The request's sequence number.
        sequence: u64,
        /// To whom; to the fittest, if to nobody.
        to: Option<NodeId>,
    },
    /// The log of a group may begin later: see [`Replica::compact`].
    Compact {
        /// Which group's.
        group: GroupId,
        /// What the state machine has durably, and the log need not keep.
        upto: LogIndex,
    },
    /// A snapshot is here, durably.
    SnapshotReceived {
        /// Of which group.
        group: GroupId,
        /// The last entry whose effect it has.
        id: LogId,
        /// Who belonged to the group then.
        members: MembersAt,
    },
    /// Whether a state machine keeps up.
    Fitness {
        /// Of which group.
        group: GroupId,
        /// It does.
        fit: bool,
    },
    /// A linearizable read is asked for.
    Read {
        /// In which group.
        group: GroupId,
        /// The host's name for it.
        read: u64,
    },
    /// This batch of writes, and all before it, are durable.
    Written {
        /// The batch's number.
        batch: BatchId,
    },
    /// Of this batch of writes, and of those before it, everything is durable but entries that wait for room.
    VotesWritten {
        /// The batch's number.
        batch: BatchId,
    },
    /// Whether the disk has room for entries.
    Room {
        /// It has.
        is_there: bool,
    },
    /// A [`LogRead`] has brought these.
    Fetched {
        /// Of which group.
        group: GroupId,
        /// What for.
        purpose: Purpose,
        /// The entries.
        entries: Vec<Entry>,
    },
    /// The connection to a peer is up.
    Connected {
        /// The peer.
        peer: NodeId,
    },
    /// The connection to a peer is gone.
    Lost {
        /// The peer.
        peer: NodeId,
    },
}

/// What a node wants done after a turn.
#[derive(Debug, Default)]
pub struct Turn {
    /// Durable acts of all groups, in order, to be reported as one.
    pub write: Option<(BatchId, Vec<Write>)>,
    /// Frames, in order for each peer and lane.
    pub frames: Vec<(NodeId, Lane, Bytes)>,
    /// Entries to read from the log, after this and all earlier turns' writes.
    pub log_reads: Vec<(GroupId, LogRead)>,
    /// State machines that become the snapshot of an entry, before anything in `committed` is applied.
    pub restore: Vec<(GroupId, LogId)>,
    /// Committed entries to apply, in order.
    pub committed: Vec<(GroupId, Vec<Committed>)>,
    /// Snapshots to get: from this member or another, of this entry or a later one. Asked again until one is here.
    pub fetch: Vec<(GroupId, NodeId, LogId)>,
    /// Proposals that nobody has taken, or ever will, for want of room; by their sequence numbers.
    pub proposals_refused: Vec<(GroupId, Vec<u64>)>,
    /// Changes of members that were refused, by their sequence numbers.
    pub changes_refused: Vec<(GroupId, u64, ChangeRefused)>,
    /// Whether hand-overs were begun, by their sequence numbers.
    pub transfers: Vec<(GroupId, u64, Result<(), TransferRefused>)>,
    /// Reads that may be answered once `committed` is applied.
    pub reads_ready: Vec<(GroupId, Vec<u64>)>,
    /// Changes of term, role or leader.
    pub became: Vec<(GroupId, RoleState)>,
    /// What else has happened.
    pub happened: Vec<(GroupId, Event)>,
    /// What peers did wrong.
    pub complaints: Vec<(NodeId, Complaint)>,
    /// An entry on disk makes no sense: the node must stop.
    pub broken: Option<BadEntry>,
}

/// What a peer did wrong; it was ignored.
#[derive(Debug, PartialEq)]
pub enum Complaint {
    /// It sent a frame that is none.
    Frame(BadFrame),
    /// It spoke for a group that this node has no replica of.
    UnknownGroup(GroupId),
    /// It said what no correct peer says.
    Message(Misbehaviour),
}

/// All replicas of one node.
#[derive(Debug)]
pub struct NodeCore {
    groups: BTreeMap<GroupId, Member>,
    /// How many bytes of recent entries all replicas together keep in memory.
    recent_bytes_max: usize,
    batch: BatchId,
    /// For each batch that is not durable, the last write of each group in it.
    unwritten: VecDeque<(BatchId, Vec<(GroupId, WriteId)>)>,
    /// The disk has no room for entries.
    is_full: bool,
    complaints: Vec<(NodeId, Complaint)>,
}

/// One replica, and what its turn has gathered.
#[derive(Debug)]
struct Member {
    replica: Replica,
    work: Work,
    broken: Option<BadEntry>,
}

impl NodeCore {
    /// A node without replicas. Of the entries that are written and applied, the newest stay in memory, up to so many
    /// bytes in all groups together; others are read from the log when a peer needs them.
    #[must_use]
    pub fn new(recent_bytes_max: usize) -> Self {
        Self {
            groups: BTreeMap::new(),
            recent_bytes_max,
            batch: BatchId::default(),
            unwritten: VecDeque::new(),
            is_full: false,
            complaints: Vec::new(),
        }
    }

    /// Adds a replica.
    ///
    /// # Errors
    /// If its state machine and its log do not belong together.
    pub fn add(&mut self, now: Time, begin: Begin) -> Result<(), CannotBegin> {
        let group = begin.group;
        let mut work = Work::default();
        let mut replica = Replica::new(now, begin, &mut work)?;
        if self.is_full {
            replica.room(now, false, &mut work);
        }
        self.groups.insert(group, Member { replica, work, broken: None });
        Ok(())
    }

    /// Who belongs to a group, as its log on this node says, committed or not.
    #[must_use]
    pub fn members(&self, group: GroupId) -> Option<&Members> {
        self.groups.get(&group).map(|member| member.replica.members())
    }

    /// Who belonged to a group when everything up to `index` was applied. None if that is not known for certain: entries of
    /// its log cannot be read, and one of them may have changed it.
    #[must_use]
    pub fn members_at(&self, group: GroupId, index: LogIndex) -> Option<&MembersAt> {
        let replica = &self.groups.get(&group)?.replica;
        replica.raft().unreadable().is_none().then(|| replica.members_at(index))
    }

    /// A group's consensus, to look at.
    #[must_use]
    pub fn raft(&self, group: GroupId) -> Option<&Raft> {
        self.groups.get(&group).map(|member| member.replica.raft())
    }

    /// The last entry of a group that was handed to its state machine.
    #[must_use]
    pub fn handed(&self, group: GroupId) -> Option<LogId> {
        self.groups.get(&group).map(|member| member.replica.handed())
    }

    /// Whether the disk has no room for entries, as was last said.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// When to end a turn, though nothing else has happened.
    #[must_use]
    pub fn deadline(&self) -> Time {
        self.groups.values().map(|member| member.replica.deadline()).min().unwrap_or(Time::NEVER)
    }

    /// Takes in what has happened. What follows from it comes with [`NodeCore::end_turn`].
    pub fn handle(&mut self, now: Time, input: Input) {
        match input {
            Input::Frame { from, bytes } => self.receive(now, from, bytes),
            Input::Propose { group, sequence, payload } => {
                self.with(group, |member| member.replica.propose(sequence, payload));
            }
            Input::Withdraw { group, sequence } => self.with(group, |member| member.replica.withdraw(sequence)),
            Input::ChangeMembers { group, sequence, changes, context } => {
                self.with(group, |member| member.replica.change_members(sequence, changes, context));
            }
            Input::Transfer { group, sequence, to } => {
                self.with(group, |member| member.replica.transfer(now, sequence, to, &mut member.work));
            }
            Input::Compact { group, upto } => {
                self.with(group, |member| member.replica.compact(now, upto, &mut member.work));
            }
            Input::SnapshotReceived { group, id, members } => {
                self.with(group, |member| member.replica.snapshot_received(now, id, members, &mut member.work));
            }
            Input::Fitness { group, fit } => {
                self.with(group, |member| member.replica.fitness(now, fit, &mut member.work));
            }
            Input::Read { group, read } => self.with(group, |member| member.replica.read(read)),
            Input::Written { batch } => self.written(now, batch),
            Input::VotesWritten { batch } => self.votes_written(now, batch),
            Input::Room { is_there } => {
                self.is_full = !is_there;
                self.groups.values_mut().for_each(|member| member.replica.room(now, is_there, &mut member.work));
            }
            Input::Fetched { group, purpose, entries } => self.with(group, |member| {
                member.broken = member.replica.fetched(purpose, entries, &mut member.work).err();
            }),
            Input::Connected { peer } => {
                self.groups.values_mut().for_each(|member| member.replica.connected(now, peer, &mut member.work));
            }
            Input::Lost { peer } => {
                self.groups.values_mut().for_each(|member| member.replica.lost(now, peer, &mut member.work));
            }
        }
    }

    /// Ends a turn: everything that was handled since the last one becomes one write, and what goes to peers.
    pub fn end_turn(&mut self, now: Time) -> Turn {
        let mut turn = Turn { complaints: std::mem::take(&mut self.complaints), ..Turn::default() };
        let mut writes = Vec::new();
        let mut last_writes = Vec::new();
        for (&group, member) in &mut self.groups {
            if now >= member.replica.deadline() {
                member.replica.tick(now, &mut member.work);
            }
            if let Err(bad) = member.replica.end_turn(now, &mut member.work) {
                member.broken = Some(bad);
            }
            let mut work = std::mem::take(&mut member.work);
            writes.append(&mut work.writes);
            last_writes.extend(work.last_write.map(|write| (group, write)));
            turn.frames.extend(work.messages.iter().map(|(to, message)| (*to, message.lane(), message.encode(group))));
            turn.log_reads.extend(work.log_reads.into_iter().map(|read| (group, read)));
            turn.became.extend(work.became.into_iter().map(|role_state| (group, role_state)));
            turn.happened.extend(work.happened.into_iter().map(|event| (group, event)));
            turn.restore.extend(work.restore.map(|id| (group, id)));
            turn.fetch.extend(work.fetch.map(|(from, reach)| (group, from, reach)));
            if !work.proposals_refused.is_empty() {
                turn.proposals_refused.push((group, work.proposals_refused));
            }
            turn.changes_refused.extend(work.changes_refused.into_iter().map(|(n, why)| (group, n, why)));
            turn.transfers.extend(work.transfers.into_iter().map(|(n, begun)| (group, n, begun)));
            turn.complaints.extend(work.misbehaved.into_iter().map(|(from, how)| (from, Complaint::Message(how))));
            if !work.committed.is_empty() {
                turn.committed.push((group, work.committed));
            }
            if !work.reads_ready.is_empty() {
                turn.reads_ready.push((group, work.reads_ready));
            }
            turn.broken = turn.broken.or(member.broken);
        }
        self.shrink_recent();
        if !writes.is_empty() {
            self.batch = BatchId(self.batch.0 + 1);
            self.unwritten.push_back((self.batch, last_writes));
            turn.write = Some((self.batch, writes));
        }
        turn
    }

    /// Forgets recent entries if there are too many bytes of them. An eighth more than that goes, so that this is not
    /// done again each turn.
    fn shrink_recent(&mut self) {
        let sizes = || self.groups.values().map(|member| member.replica.recent_bytes());
        if sizes().sum::<usize>() > self.recent_bytes_max {
            let share = fair_share(sizes().collect(), self.recent_bytes_max / 8 * 7);
            self.groups.values_mut().for_each(|member| member.replica.shrink_recent(share));
        }
    }

    fn receive(&mut self, now: Time, from: NodeId, bytes: Bytes) {
        match PeerMessage::decode(bytes) {
            Ok((group, message)) => match self.groups.get_mut(&group) {
                Some(member) => member.replica.receive(now, from, message, &mut member.work),
                None => self.complaints.push((from, Complaint::UnknownGroup(group))),
            },
            Err(bad) => self.complaints.push((from, Complaint::Frame(bad))),
        }
    }

    fn written(&mut self, now: Time, batch: BatchId) {
        while let Some((_, last_writes)) = self.unwritten.pop_front_if(|(id, _)| *id <= batch) {
            for (group, write) in last_writes {
                self.with(group, |member| member.replica.persisted(now, write, &mut member.work));
            }
        }
    }

    fn votes_written(&mut self, now: Time, batch: BatchId) {
        // They stay unwritten, as one batch: of each group the last write counts.
        let mut last_writes: BTreeMap<GroupId, WriteId> = BTreeMap::new();
        while let Some((_, writes)) = self.unwritten.pop_front_if(|(id, _)| *id <= batch) {
            last_writes.extend(writes);
        }
        for (&group, &write) in &last_writes {
            self.with(group, |member| member.replica.vote_persisted(now, write, &mut member.work));
        }
        self.unwritten.push_front((batch, last_writes.into_iter().collect()));
    }

    fn with(&mut self, group: GroupId, act: impl FnOnce(&mut Member)) {
        if let Some(member) = self.groups.get_mut(&group) {
            act(member);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload;
    use crate::proposal_id::ProposalId;
    use crate::replica::Limits;
    use std::time::Duration;
    use vlot_log::index::GroupState;
    use vlot_raft::state::Config;

    const GROUPS: u64 = 3;
    const RECENT_BYTES_MAX: usize = 10_000;

    /// Groups of one, whose disk is always done at once.
    struct Lone {
        core: NodeCore,
        now: Time,
        sequence: u64,
    }

    impl Lone {
        fn new() -> Self {
            let (node, now) = (NodeId(1), Time::default());
            let mut core = NodeCore::new(RECENT_BYTES_MAX);
            for group in 1..=GROUPS {
                let begin = Begin {
                    group: GroupId(group),
                    config: Config::new(node).into(),
                    members: Members::of_voters([(node, "n1:1".to_owned())]),
                    recovered: GroupState::default(),
                    damaged: None,
                    applied: LogId::ZERO,
                    limits: Limits::default(),
                    origin: 1,
                    seed: 1,
                };
                core.add(now, begin).unwrap();
            }
            let mut lone = Self { core, now, sequence: 0 };
            lone.now = lone.now + Duration::from_secs(10);
            lone.turns();
            lone
        }

        /// Turns, until nothing is to be written. Returns how many payloads were committed.
        fn turns(&mut self) -> usize {
            let mut committed = 0;
            loop {
                let turn = self.core.end_turn(self.now);
                committed += turn.committed.iter().map(|(_, entries)| entries.len()).sum::<usize>();
                let Some((batch, _)) = turn.write else { return committed };
                self.core.handle(self.now, Input::Written { batch });
            }
        }

        fn propose(&mut self, group: u64, bytes: usize) {
            self.sequence += 1;
            let id = ProposalId { origin: 1, sequence: self.sequence };
            let payload = payload::command(id, bytes, |out| out.extend(std::iter::repeat_n(7, bytes)));
            let group = GroupId(group);
            self.core.handle(self.now, Input::Propose { group, sequence: self.sequence, payload });
        }

        fn recent_bytes(&self) -> Vec<usize> {
            self.core.groups.values().map(|member| member.replica.recent_bytes()).collect()
        }
    }

    #[test]
    fn groups_share_the_memory_for_recent_entries() {
        let mut lone = Lone::new();
        lone.propose(3, 1000);
        lone.turns();
        let little = lone.recent_bytes()[2];
        for _ in 0..20 {
            for group in [1, 2] {
                lone.propose(group, 1000);
            }
            assert_eq!(lone.turns(), 2);
            assert!(lone.recent_bytes().iter().sum::<usize>() <= RECENT_BYTES_MAX, "{:?}", lone.recent_bytes());
        }
        let [one, other, idle] = lone.recent_bytes()[..] else { panic!("three groups") };
        assert_eq!(idle, little, "who has little keeps it");
        assert!(one == other && one > 2000, "{one} {other}");
    }

    #[test]
    fn what_is_not_written_stays_in_memory() {
        let mut lone = Lone::new();
        for _ in 0..20 {
            lone.propose(1, 1000);
        }
        let turn = lone.core.end_turn(lone.now);
        assert!(lone.recent_bytes()[0] > 20_000, "more than there should be, and needed");
        let (batch, _) = turn.write.expect("they are to be written");
        lone.core.handle(lone.now, Input::Written { batch });
        assert_eq!(lone.turns(), 20);
        assert!(lone.recent_bytes()[0] <= RECENT_BYTES_MAX);
    }
}
