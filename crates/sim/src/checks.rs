//! What must hold of every run, one file for each property.
//!
//! Owns when each check is asked. Checks are told what is seen of the nodes from outside, and what is on their disks,
//! and say what does not hold. They change nothing. Must not know of faults, of time, or of how a world is simulated.
//!
//! Each check compares with what it was told before, so that its cost does not grow with the run.

pub mod acknowledged_writes;
pub mod at_most_once;
pub mod commitment;
pub mod election_safety;
pub mod leader_append_only;
pub mod leader_completeness;
pub mod linearizability;
pub mod log_matching;
pub mod progress;
pub mod state_machine_safety;

use crate::network::Place;
use vlot_log::index::GroupState;
use vlot_log::record::Write;
use vlot_raft::effect::RoleName;
use vlot_raft::id::{LogIndex, NodeId, Term};
use vlot_raft::invariants::{self, Violation};
use vlot_raft::quorum::majority;
use vlot_raft::raft::Raft;
use vlot_raft::term_runs::TermRuns;

/// What is seen of one replica.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Where it is.
    pub place: Place,
    /// Its role.
    pub role: RoleName,
    /// Its term.
    pub term: Term,
    /// Its vote.
    pub vote: Option<NodeId>,
    /// Its log, durable or not.
    pub log: &'a TermRuns,
    /// What it knows to be decided.
    pub commit: LogIndex,
    /// What it may apply.
    pub ready: LogIndex,
}

impl<'a> View<'a> {
    /// The view of a replica.
    #[must_use]
    pub fn of(place: Place, raft: &'a Raft) -> Self {
        Self {
            place,
            role: raft.standing().role,
            term: raft.standing().term,
            vote: raft.vote(),
            log: raft.log(),
            commit: raft.commit(),
            ready: raft.ready(),
        }
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        NodeId(self.place as u64 + 1)
    }
}

/// The checks that are asked while a run goes on.
#[derive(Debug)]
pub struct Checks {
    election_safety: election_safety::ElectionSafety,
    leader_append_only: leader_append_only::LeaderAppendOnly,
    log_matching: log_matching::LogMatching,
    leader_completeness: leader_completeness::LeaderCompleteness,
    commitment: commitment::Commitment,
    /// What state machines have applied.
    pub state_machine_safety: state_machine_safety::StateMachineSafety,
}

impl Checks {
    /// Checks of a world of so many nodes.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        Self {
            election_safety: election_safety::ElectionSafety::new(nodes),
            leader_append_only: leader_append_only::LeaderAppendOnly::new(nodes),
            log_matching: log_matching::LogMatching::default(),
            leader_completeness: leader_completeness::LeaderCompleteness::default(),
            commitment: commitment::Commitment::new(nodes),
            state_machine_safety: state_machine_safety::StateMachineSafety::new(nodes),
        }
    }

    /// A process begins on what its disk holds, and on a state that was durable.
    ///
    /// # Errors
    /// The property that does not hold.
    pub fn begun(&mut self, place: Place, durable: &GroupState, applied: LogIndex) -> Result<(), Violation> {
        self.leader_append_only.begun(place);
        self.commitment.begun(place, applied);
        self.state_machine_safety.begun(place, applied);
        self.election_safety.voted(place, durable.term, durable.vote)
    }

    /// A replica asks for writes.
    ///
    /// # Errors
    /// The property that does not hold.
    pub fn writes(&mut self, view: &View<'_>, writes: &[Write]) -> Result<(), Violation> {
        for write in writes {
            if let Write::Append { after, entries, .. } = write {
                self.log_matching.appended(view, *after, entries)?;
            }
        }
        Ok(())
    }

    /// What a disk holds for certain has changed.
    ///
    /// # Errors
    /// The property that does not hold.
    pub fn synced(&mut self, place: Place, durable: &GroupState) -> Result<(), Violation> {
        self.election_safety.voted(place, durable.term, durable.vote)
    }

    /// A replica has ended a turn. `disks` is what is durable on each node.
    ///
    /// # Errors
    /// The property that does not hold.
    pub fn turned<'a>(
        &mut self,
        view: &View<'_>,
        raft: &Raft,
        disks: impl Fn(Place) -> &'a GroupState,
    ) -> Result<(), Violation> {
        invariants::check_one(raft)?;
        self.election_safety.check(view)?;
        self.leader_append_only.check(view)?;
        self.leader_completeness.check(view)?;
        self.commitment.check(view, disks)
    }
}

/// Whether so many of all nodes are a quorum.
fn is_quorum(count: usize, nodes: usize) -> bool {
    count >= majority(nodes)
}

fn violation(property: &'static str, shown_by: String) -> Result<(), Violation> {
    Err(Violation { property, shown_by })
}
