//! One group's share on one node, outside of what the node decides: the state machine, what it is asked for, its files,
//! and the operations that wait for answers.

use crate::host::machine_under_test::Machine;
use crate::host::worker::{FileJob, MachineJob, Worker};
use crate::subject::{OpId, Subject};
use std::collections::BTreeMap;
use vlot_node::act::Status;
use vlot_node::state_machine::Snapshot;
use vlot_raft::id::LogId;

/// A group's share.
pub struct Replica<S: Subject> {
    /// The state machine.
    pub machine: Machine<S>,
    /// What it is asked for.
    pub worker: Worker<MachineJob>,
    /// What is asked of its files.
    pub files: Worker<FileJob>,
    /// A snapshot that was taken and is not written.
    pub taken: Option<Box<dyn Snapshot>>,
    /// The newest entry of which there is a snapshot on this node's disk.
    pub saved: LogId,
    /// What the node has shown of it last.
    pub status: Status,
    /// The state machine has failed: nothing is asked of it any more.
    pub has_failed: bool,
    /// It cannot read the next command that it is given: its program is a wrong one.
    pub cannot_read: bool,
    /// It is being closed.
    pub is_closing: bool,
    /// Whose proposals and reads are under way.
    pub proposals: BTreeMap<u64, OpId>,
    /// Whose reads, and of what.
    pub reads: BTreeMap<u64, (OpId, S::Query)>,
}

impl<S: Subject> Replica<S> {
    /// One that begins.
    #[must_use]
    pub fn new(machine: Machine<S>, saved: LogId) -> Self {
        Self {
            machine,
            worker: Worker::default(),
            files: Worker::default(),
            taken: None,
            saved,
            status: Status::default(),
            has_failed: false,
            cannot_read: false,
            is_closing: false,
            proposals: BTreeMap::new(),
            reads: BTreeMap::new(),
        }
    }

    /// Whose operations are under way.
    pub fn waiting(&self) -> impl Iterator<Item = OpId> + '_ {
        self.proposals.values().copied().chain(self.reads.values().map(|(op, _)| *op))
    }
}
