//! What must hold of every run, one file for each property.
//!
//! Owns when each check is asked. Checks are told what is seen of the nodes from outside, and what is on their disks,
//! and say what does not hold. They change nothing. Must not know of faults, of time, or of how a world is simulated.
//!
//! Each check compares with what it was told before, so that its cost does not grow with the run.

pub mod acknowledged_writes;
pub mod at_most_once;
pub mod commitment;
pub mod configuration_safety;
pub mod election_safety;
pub mod leader_append_only;
pub mod leader_completeness;
pub mod log_matching;
pub mod match_index;
pub mod no_disruption;
pub mod progress;
pub mod removed_are_told;
pub mod replicated_time;
pub mod snapshot_safety;
pub mod state_machine_safety;
pub mod turn;

use crate::place::{Place, node_at};
use std::fmt::Debug;
use std::time::Duration;
use vlot_log::index::GroupState;
use vlot_log::record::Write;
use vlot_node::members::MembersAt;
use vlot_node::payload::Payload;
use vlot_raft::configuration::{Configuration, Configurations};
use vlot_raft::effect::RoleName;
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId, Term};
use vlot_raft::invariants::{self, Violation};
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
    /// Its log, durable or not.
    pub log: &'a TermRuns,
    /// The configurations of its log.
    pub configurations: &'a Configurations,
    /// What it knows to be decided.
    pub commit: LogIndex,
    /// What it may apply.
    pub ready: LogIndex,
    /// It cannot read some of its entries. If one of them has set a configuration it goes by the one before, and decides
    /// nothing by it.
    pub is_damaged: bool,
}

impl<'a> View<'a> {
    /// The view of a replica.
    #[must_use]
    pub fn of(place: Place, raft: &'a Raft) -> Self {
        Self {
            place,
            role: raft.role_state().role,
            term: raft.role_state().term,
            log: raft.log(),
            configurations: raft.configurations(),
            commit: raft.commit(),
            ready: raft.ready(),
            is_damaged: raft.unreadable().is_some(),
        }
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        node_at(self.place)
    }

    /// Whether it has the entry, or had it before its log was cut.
    #[must_use]
    pub fn has_had(&self, id: LogId) -> bool {
        has_had(self.log, id)
    }
}

/// What is seen of a state machine: the last entry whose effect it has, and a number that stands for its state.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct State {
    /// The entry.
    pub applied: LogId,
    /// The number.
    pub digest: u64,
    /// Its replicated time, if it asks for it.
    pub time: Option<Duration>,
}

/// Whether a log has the entry, or begins after it: what lies before the beginning of a log was committed.
#[must_use]
pub fn has_had(log: &TermRuns, id: LogId) -> bool {
    log.contains(id) || id.index < log.after().index
}

/// The checks that are asked while a run goes on.
#[derive(Debug)]
pub struct Checks<R> {
    election_safety: election_safety::ElectionSafety,
    leader_append_only: leader_append_only::LeaderAppendOnly,
    log_matching: log_matching::LogMatching,
    leader_completeness: leader_completeness::LeaderCompleteness,
    commitment: commitment::Commitment,
    match_index: match_index::MatchIndex,
    configuration_safety: configuration_safety::ConfigurationSafety,
    snapshot_safety: snapshot_safety::SnapshotSafety,
    /// What state machines have applied.
    pub state_machine_safety: state_machine_safety::StateMachineSafety<R>,
}

impl<R: Debug + PartialEq> Checks<R> {
    /// Checks of one group in a world of so many machines, of which these are its first members; `digest` is the number of
    /// a state in which nothing was applied.
    #[must_use]
    pub fn new(hosts: usize, founders: Configuration, digest: u64) -> Self {
        Self {
            election_safety: election_safety::ElectionSafety::new(hosts),
            leader_append_only: leader_append_only::LeaderAppendOnly::new(hosts),
            log_matching: log_matching::LogMatching::default(),
            leader_completeness: leader_completeness::LeaderCompleteness::default(),
            commitment: commitment::Commitment::new(hosts),
            match_index: match_index::MatchIndex::new(hosts),
            configuration_safety: configuration_safety::ConfigurationSafety::new(founders),
            snapshot_safety: snapshot_safety::SnapshotSafety::new(hosts, digest),
            state_machine_safety: state_machine_safety::StateMachineSafety::new(hosts),
        }
    }

    /// A process begins on what its disk holds, and on a state that was durable.
    ///
    /// # Errors
    /// The property that does not hold.
    pub fn begun(&mut self, place: Place, durable: &GroupState, state: State) -> Result<(), Violation> {
        self.leader_append_only.begun(place);
        self.commitment.begun(place, state.applied.index);
        self.snapshot_safety.begun(place);
        self.snapshot_safety.became(place, state.applied.index, state.digest)?;
        self.state_machine_safety.begun(place, state.applied.index);
        self.election_safety.voted(place, durable.term, durable.vote)
    }

    /// A machine's disks are empty again.
    pub fn wiped(&mut self, place: Place) {
        self.election_safety.wiped(place);
        self.match_index.wiped(place);
    }

    /// A replica asks for writes.
    ///
    /// # Errors
    /// The property that does not hold.
    pub fn writes(&mut self, of: GroupId, view: &View<'_>, writes: &[Write]) -> Result<(), Violation> {
        for write in writes {
            if let Write::Append { group, after, entries } = write
                && *group == of
            {
                self.log_matching.appended(view, *after, entries)?;
                if !view.is_damaged {
                    self.configuration_safety.appended(view, entries)?;
                }
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
        if !view.is_damaged {
            self.configuration_safety.check(view)?;
        }
        if let Some(voters) = self.election_safety.check(view)? {
            self.configuration_safety.elected(view.term, voters)?;
        }
        self.leader_append_only.check(view)?;
        self.leader_completeness.check(view)?;
        self.snapshot_safety.check(view)?;
        self.match_index.check(view, raft.matched(), &disks)?;
        if let Some((id, holders)) = self.commitment.check(view, disks)? {
            self.configuration_safety.committed(view.term, id, holders)?;
        }
        Ok(())
    }

    /// A node has applied an entry, and this has come of it; its state is this then.
    ///
    /// # Errors
    /// The property that does not hold.
    pub fn applied(&mut self, place: Place, payload: &Payload, replies: Vec<R>, state: State) -> Result<(), Violation> {
        self.state_machine_safety.applied(place, state.applied, payload, replies)?;
        self.configuration_safety.applied(state.applied.index, payload);
        self.snapshot_safety.became(place, state.applied.index, state.digest)
    }

    /// A node saves a snapshot of its state at this index, or is about to take one in, of a group with these members.
    ///
    /// # Errors
    /// The property that does not hold.
    pub fn snapshot(&mut self, place: Place, index: LogIndex, members: &MembersAt) -> Result<(), Violation> {
        self.configuration_safety.staged(place, index, members)
    }

    /// A node's state machine has become that of a snapshot.
    ///
    /// # Errors
    /// The property that does not hold.
    pub fn restored(&mut self, place: Place, state: State) -> Result<(), Violation> {
        self.state_machine_safety.restored(place, state.applied)?;
        self.snapshot_safety.became(place, state.applied.index, state.digest)
    }
}

fn violation<T>(property: &'static str, shown_by: String) -> Result<T, Violation> {
    Err(Violation { property, shown_by })
}

/// Views for the tests of checks.
#[cfg(test)]
mod testing {
    use super::*;

    /// A group of so many voters, as its first log has it.
    pub fn founded(nodes: u64) -> Configurations {
        Configurations::begin(Configuration::of_voters((1..=nodes).map(NodeId)))
    }

    /// A leader that has committed nothing.
    pub fn leader<'a>(place: Place, term: u64, log: &'a TermRuns, configurations: &'a Configurations) -> View<'a> {
        let (commit, ready) = (LogIndex::ZERO, LogIndex::ZERO);
        let (role, term, is_damaged) = (RoleName::Leader, Term(term), false);
        View { place, role, term, log, configurations, commit, ready, is_damaged }
    }

    /// A log with entries of these terms.
    pub fn log(terms: &[u64]) -> TermRuns {
        let mut log = TermRuns::default();
        terms.iter().for_each(|&term| log.push(Term(term), 1));
        log
    }
}
