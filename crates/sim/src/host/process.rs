//! A process: the node with all that it decides, its log thread, the state machines, and the operations that wait.
//!
//! Owns what is lost when the process ends. Must not know how an act is carried out.

use crate::agenda::{Moment, Span};
use crate::disk::log_thread::LogThread;
use crate::host::Recovered;
use crate::host::replica::Replica;
use crate::place::{Place, Slot, group_in};
use crate::subject::{Command, OpId, Subject};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use vlot_log::disk::sim::SimDisk;
use vlot_node::act::Act;
use vlot_node::input::{Input, Proposal};
use vlot_node::members::MemberChange;
use vlot_node::node::Node;
use vlot_node::payload;
use vlot_node::proposal_id::ProposalId;
use vlot_node::snapshot::dir::SnapshotDir;
use vlot_node::state_machine::Command as _;
use vlot_raft::id::NodeId;

/// A process.
pub struct Process<S: Subject> {
    /// All that decides.
    pub node: Node,
    /// Its log thread.
    pub log: LogThread,
    /// Its snapshot files.
    pub snapshots: SnapshotDir<SimDisk>,
    /// Its share of each group that it has begun.
    pub replicas: Vec<Option<Replica<S>>>,
    /// What is to be begun of the groups that are not, once it is time.
    pub to_begin: Vec<Option<Recovered>>,
    /// For how long the groups that are being closed are to be so.
    pub closed_for: Vec<Span>,
    /// What has come and waits for the next turn.
    pub inbox: Vec<Input>,
    /// Changes of members that are in it.
    pub changes_in_inbox: u32,
    /// What the last turn asked for and was not carried out yet: the process stood still before it could.
    pub left: VecDeque<Act>,
    /// The nodes that it calls, and tells its node of.
    pub peers: BTreeSet<Place>,
    /// The disks by which it lets nodes in.
    pub disks: BTreeMap<NodeId, u64>,
    /// A turn is about to end.
    pub turn_due: bool,
    /// When it will next look at its deadline.
    pub alarm: Moment,
    /// It stood still: what comes first then, timers or messages, is chance.
    pub stood_still: bool,
    /// It ends within its next turn.
    pub doomed: bool,
    /// It stands still for so long within its next turn.
    pub stalls: Option<Span>,
    /// Names it in its proposals.
    pub origin: u64,
    /// Its program reads entries that commands share.
    pub reads_shared: bool,
    /// Numbers proposals, reads, changes and transfers.
    sequence: u64,
}

impl<S: Subject> Process<S> {
    /// A process that has just begun, without groups.
    #[must_use]
    pub fn new(node: Node, log: LogThread, snapshots: SnapshotDir<SimDisk>, groups: usize, origin: u64) -> Self {
        Self {
            node,
            log,
            snapshots,
            replicas: (0..groups).map(|_| None).collect(),
            to_begin: (0..groups).map(|_| None).collect(),
            closed_for: vec![Span::ZERO; groups],
            inbox: Vec::new(),
            changes_in_inbox: 0,
            left: VecDeque::new(),
            peers: BTreeSet::new(),
            disks: BTreeMap::new(),
            turn_due: false,
            alarm: Moment::NEVER,
            stood_still: false,
            doomed: false,
            stalls: None,
            origin,
            reads_shared: true,
            sequence: 0,
        }
    }

    /// Takes a client's write. Gives back its name; none if the group is not open here.
    pub fn propose(&mut self, slot: Slot, op: OpId, command: &Command<S>) -> Option<ProposalId> {
        self.replicas[slot].as_ref().filter(|replica| !replica.is_closing)?;
        let sequence = self.take_write(slot, command);
        if let Some(replica) = &mut self.replicas[slot] {
            replica.proposals.insert(sequence, op);
        }
        Some(ProposalId { origin: self.origin, sequence })
    }

    /// Takes a write for which no client waits.
    pub fn propose_unheard(&mut self, slot: Slot, command: &Command<S>) {
        self.take_write(slot, command);
    }

    fn take_write(&mut self, slot: Slot, command: &Command<S>) -> u64 {
        let sequence = self.next();
        let id = ProposalId { origin: self.origin, sequence };
        let payload = payload::command(id, command.size_hint(), |into| command.encode(into));
        let (group, class, shares_entry) =
            (group_in(slot), command.class(), self.reads_shared && command.shares_entry());
        let proposal = Proposal { sequence, payload, class, shares_entry };
        // As what callers of one runtime propose: it comes together, if nothing else came in between.
        match self.inbox.last_mut() {
            Some(Input::Propose { group: of, proposals }) if *of == group => proposals.push(proposal),
            _ => self.inbox.push(Input::Propose { group, proposals: vec![proposal] }),
        }
        sequence
    }

    /// Takes a client's read. False if the group is not open here.
    pub fn read(&mut self, slot: Slot, op: OpId, query: S::Query) -> bool {
        let read = self.next();
        let Some(replica) = self.replicas[slot].as_mut().filter(|replica| !replica.is_closing) else { return false };
        replica.reads.insert(read, (op, query));
        self.inbox.push(Input::Read { group: group_in(slot), read });
        true
    }

    /// Takes an operator's change of members.
    pub fn change_members(&mut self, slot: Slot, changes: Vec<MemberChange>) {
        let sequence = self.next();
        let context = Bytes::from(sequence.to_le_bytes().to_vec());
        self.changes_in_inbox += 1;
        self.inbox.push(Input::ChangeMembers { group: group_in(slot), sequence, changes, context });
    }

    /// Takes an operator's wish that another leads.
    pub fn transfer(&mut self, slot: Slot, to: Option<NodeId>) {
        let sequence = self.next();
        self.inbox.push(Input::Transfer { group: group_in(slot), sequence, to });
    }

    /// A client waits no longer. A proposal is withdrawn, and ends with the answer to that; true for anything else.
    pub fn give_up(&mut self, slot: Slot, op: OpId) -> bool {
        let Some(replica) = &mut self.replicas[slot] else { return true };
        replica.reads.retain(|_, (read, _)| *read != op);
        let Some((&sequence, _)) = replica.proposals.iter().find(|(_, proposed)| **proposed == op) else { return true };
        self.inbox.push(Input::Withdraw { group: group_in(slot), sequence });
        false
    }

    /// Whether one of its state machines has failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.replicas.iter().flatten().any(|replica| replica.has_failed)
    }

    /// Whose operations are under way.
    pub fn waiting(&self) -> impl Iterator<Item = (Slot, OpId)> + '_ {
        let open = self.replicas.iter().enumerate().filter_map(|(slot, replica)| Some((slot, replica.as_ref()?)));
        open.flat_map(|(slot, replica)| replica.waiting().map(move |op| (slot, op)))
    }

    fn next(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }
}
