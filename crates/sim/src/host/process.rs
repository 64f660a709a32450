//! A process: the library's core, its log thread, a state machine, and who waits for what.
//!
//! Owns what is lost when the process ends. Must not know how a turn is carried out.

use crate::agenda::{Moment, Span};
use crate::disk::LogThread;
use crate::host::GROUP;
use crate::register::{Command, OpId, Registers};
use bytes::Bytes;
use std::collections::BTreeMap;
use vlot::MemberChange;
use vlot::node::{Input, NodeCore};
use vlot::payload;
use vlot::proposal_id::ProposalId;
use vlot_raft::id::{LogId, NodeId};

/// A process.
#[derive(Debug)]
pub struct Process {
    /// All that decides.
    pub core: NodeCore,
    /// Its log thread.
    pub log: LogThread,
    /// The state machine.
    pub registers: Registers,
    /// What it has in a snapshot of its own.
    pub saved: LogId,
    /// Such a snapshot is being written.
    pub saving: bool,
    /// The snapshot that it gets.
    pub fetching: Option<Fetch>,
    /// What has come and waits for the next turn.
    pub inbox: Vec<Input>,
    /// Changes of members that are in it.
    pub changes_in_inbox: u32,
    /// There may be a member whose disk was seen and is not written down.
    pub disks_unknown: bool,
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
    origin: u64,
    /// Numbers proposals, reads, changes and hand-overs.
    sequence: u64,
    /// Numbers attempts to get a snapshot.
    attempts: u64,
    /// Whose proposals and reads are under way.
    proposals: BTreeMap<u64, OpId>,
    reads: BTreeMap<u64, (OpId, u8)>,
}

/// An attempt to get a snapshot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fetch {
    /// Its number.
    pub attempt: u64,
    /// What it must reach.
    pub reach: LogId,
}

impl Process {
    /// A process that has just begun.
    #[must_use]
    pub fn new(core: NodeCore, log: LogThread, registers: Registers, saved: LogId, origin: u64) -> Self {
        Self {
            core,
            log,
            registers,
            saved,
            saving: false,
            fetching: None,
            inbox: Vec::new(),
            changes_in_inbox: 0,
            disks_unknown: true,
            turn_due: false,
            alarm: Moment::NEVER,
            stood_still: false,
            doomed: false,
            stalls: None,
            origin,
            sequence: 0,
            attempts: 0,
            proposals: BTreeMap::new(),
            reads: BTreeMap::new(),
        }
    }

    /// Takes a client's write.
    pub fn propose(&mut self, op: OpId, command: &Command, padding: usize) {
        let sequence = self.take_write(command, padding);
        self.proposals.insert(sequence, op);
    }

    /// Takes a write for which nobody waits.
    pub fn propose_unheard(&mut self, command: &Command) {
        self.take_write(command, 0);
    }

    fn take_write(&mut self, command: &Command, padding: usize) -> u64 {
        let sequence = self.next();
        let id = ProposalId { origin: self.origin, sequence };
        let payload = payload::command(id, 18 + padding, |into| command.encode(padding, into));
        self.inbox.push(Input::Propose { group: GROUP, sequence, payload });
        sequence
    }

    /// Takes a client's read.
    pub fn read(&mut self, op: OpId, key: u8) {
        let read = self.next();
        self.reads.insert(read, (op, key));
        self.inbox.push(Input::Read { group: GROUP, read });
    }

    /// Takes an operator's change of members.
    pub fn change_members(&mut self, changes: Vec<MemberChange>) {
        let sequence = self.next();
        let context = Bytes::from(sequence.to_le_bytes().to_vec());
        self.changes_in_inbox += 1;
        self.inbox.push(Input::ChangeMembers { group: GROUP, sequence, changes, context });
    }

    /// Takes an operator's wish that another leads.
    pub fn transfer(&mut self, to: Option<NodeId>) {
        let sequence = self.next();
        self.inbox.push(Input::Transfer { group: GROUP, sequence, to });
    }

    /// Begins an attempt to get a snapshot. None if one is under way.
    pub fn begin_fetch(&mut self, reach: LogId) -> Option<u64> {
        if self.fetching.is_some() {
            return None;
        }
        self.attempts += 1;
        self.fetching = Some(Fetch { attempt: self.attempts, reach });
        Some(self.attempts)
    }

    /// A client waits no longer.
    pub fn forget(&mut self, op: OpId) {
        self.reads.retain(|_, (read, _)| *read != op);
        let Some((&sequence, _)) = self.proposals.iter().find(|(_, proposed)| **proposed == op) else { return };
        self.proposals.remove(&sequence);
        self.inbox.push(Input::Withdraw { group: GROUP, sequence });
    }

    /// Who waits for a proposal that was applied, if it is one of this process.
    pub fn proposed(&mut self, id: ProposalId) -> Option<OpId> {
        if id.origin == self.origin { self.proposals.remove(&id.sequence) } else { None }
    }

    /// Who waits for a proposal that was not taken.
    pub fn refused(&mut self, sequence: u64) -> Option<OpId> {
        self.proposals.remove(&sequence)
    }

    /// Who waits for a read that may be answered, and of which register.
    pub fn read_ready(&mut self, read: u64) -> Option<(OpId, u8)> {
        self.reads.remove(&read)
    }

    /// Whose operations are under way.
    pub fn waiting(&self) -> impl Iterator<Item = OpId> + '_ {
        self.proposals.values().copied().chain(self.reads.values().map(|(op, _)| *op))
    }

    fn next(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }
}
