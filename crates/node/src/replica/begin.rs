//! How a replica begins from what its log and its state machine hold, and what it leaves to begin from again.
//!
//! Owns the question whether the two belong together. Must not know what happens later.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use vlot_log::index::GroupState;
use vlot_log::record::{Entry, Write};
use vlot_raft::effect::{Input, WriteId};
use vlot_raft::id::{GroupId, LogId, LogIndex};
use vlot_raft::raft::Raft;
use vlot_raft::state::{Config, Restored};
use vlot_raft::time::{Rng, Time};

use super::Replica;
use super::work::Work;
use crate::act::ClosedLog;
use crate::entries::RecentEntries;
use crate::members::{Members, MembersAt};
use crate::members_log::MembersLog;
use crate::payload;
use crate::proposals::Proposals;
use crate::reads::Reads;

/// How a new replica begins.
#[derive(Debug)]
pub struct Begin {
    /// The group.
    pub group: GroupId,
    /// How it behaves; shared by all groups of a node.
    pub config: Arc<Config>,
    /// Its first members, for a node that is one of them; none, for a node that is to join. Once the log names
    /// the members, that counts.
    pub members: Members,
    /// What the log holds of it.
    pub recovered: GroupState,
    /// Entries that the log has and cannot read: the first and the last. They are got from the others.
    pub damaged: Option<(LogIndex, LogIndex)>,
    /// What its state machine has durably applied.
    pub applied: LogId,
    /// Its bounds.
    pub limits: Limits,
    /// Send proposals to the leader where this node does not lead; refuse them otherwise.
    pub forwards: bool,
    /// Let commands share entries, once all members read those: see
    /// [`Command::shares_entry`](crate::state_machine::Command::shares_entry).
    pub shares_entries: bool,
    /// Names this process in its proposals: another number at each start.
    pub origin: u64,
    /// Seeds its chance.
    pub seed: u64,
}

/// The bounds of a replica.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Payload bytes of one message, if it has more than one entry.
    pub message_bytes_max: usize,
    /// Messages with entries under way to one peer.
    pub inflight_max: usize,
    /// Payload bytes under way to one peer.
    pub inflight_bytes_max: u64,
    /// Entries that wait to be committed before the leader takes no more.
    pub uncommitted_max: u64,
    /// Payload bytes handed to the state machine at once, when it catches up from disk.
    pub replay_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: usize = 1 << 20;
        Self {
            message_bytes_max: MIB,
            inflight_max: 128,
            inflight_bytes_max: 32 << 20,
            uncommitted_max: 1 << 20,
            replay_bytes_max: 4 * MIB,
        }
    }
}

impl Replica {
    /// A replica that goes on from what its log and its state machine hold.
    ///
    /// # Errors
    /// If they do not belong together.
    pub fn new(now: Time, begin: Begin, work: &mut Work) -> Result<Self, CannotBegin> {
        let Begin {
            group,
            config,
            members,
            recovered,
            damaged,
            applied,
            limits,
            forwards,
            shares_entries,
            origin,
            seed,
        } = begin;
        let GroupState { term, vote, runs, note, kept } = recovered;
        let first =
            MembersAt { entry: crate::members::MembersEntry { members, ..Default::default() }, ..Default::default() };
        let base = if note.is_empty() {
            // The first act of a new log, so that no other first members are ever taken for these.
            work.writes.push(Write::LogStart { group, after: LogId::ZERO, note: first.encode() });
            // Consensus has not asked for it, and does not wait for it; the close of a group does.
            work.last_write = Some(WriteId(0));
            first
        } else {
            MembersAt::decode(note).map_err(|_| CannotBegin::BadConfiguration)?
        };
        let members_log = MembersLog::new(base, &kept).map_err(|_| CannotBegin::BadConfiguration)?;
        // A witness applies nothing, and cuts its log all the same. It may have been removed since.
        let is_witness = |set: &MembersAt| set.entry.members.configuration().is_witness(config.node);
        let was_witness = is_witness(members_log.first()) || members_log.later().any(is_witness);
        let is_withheld = was_witness && applied < runs.after();
        if applied < runs.after() && !is_withheld {
            return Err(CannotBegin::StateIsBehind { applied, begin: runs.after() });
        }
        // Consensus never needs what a witness has cut. Its state machine has none of it all the same, and answers no read.
        let decided = applied.max(runs.after());
        if !runs.contains(decided) {
            return Err(CannotBegin::LogIsBehind { applied, last: runs.last_id() });
        }
        let recent = RecentEntries::after(runs.last());
        let reads = Reads::new(origin, config.election_timeout);
        let restored =
            Restored { term, vote, log: runs, applied: decided.index, configurations: members_log.configurations() };
        // Those that are damaged may have set other members. A member from before has a copy, or knows which node has.
        // A node that is to join knows no member yet, and has its entries from one.
        let (node, configurations) = (config.node, members_log.configurations());
        let mut members = configurations.newest().members().iter();
        let has_others = members.len() == 0 || members.any(|other| other.node != node && !other.witness);
        if let Some((first, last)) = damaged.filter(|_| !has_others) {
            return Err(CannotBegin::Damaged { first, last });
        }
        let mut replica = Self {
            group,
            origin,
            limits,
            forwards,
            shares_entries,
            raft: Raft::new(config, restored, now, Rng::new(seed)),
            members_log,
            recent,
            handed: applied,
            applied: applied.index,
            stopped: None,
            is_withheld,
            withheld_upto: LogIndex::ZERO,
            applies: true,
            is_fit: true,
            installing: None,
            arriving: None,
            asked_change: None,
            proposals: Proposals::default(),
            stamps: None,
            decided: VecDeque::new(),
            changes: Vec::new(),
            leaving_by: Vec::new(),
            reads,
            fetching: BTreeSet::new(),
            fetched: BTreeMap::new(),
            connected: BTreeSet::new(),
            read_shared: BTreeSet::new(),
            lost: BTreeSet::new(),
        };
        if let Some((first, last)) = damaged {
            replica.step(now, Input::Unreadable { first, last }, Vec::new(), work);
        }
        Ok(replica)
    }

    /// What its log is, to go on from later.
    #[must_use]
    pub fn into_log(self) -> ClosedLog {
        let base = self.members_log.first().encode();
        let kept = self.members_log.later().map(|set| Entry {
            id: LogId { term: self.raft.log().term_at(set.at).unwrap_or_default(), index: set.at },
            payload: payload::configuration(&set.entry),
        });
        let kept = kept.collect();
        let (term, vote) = (self.raft.role_state().term, self.raft.vote());
        let state = GroupState { term, vote, runs: self.raft.log().clone(), note: base, kept };
        ClosedLog { state, damaged: self.raft.unreadable() }
    }
}

/// Why a replica cannot go on from what its log and its state machine hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum CannotBegin {
    /// The state machine has applied what the log does not have, or has under another name.
    LogIsBehind {
        /// What is applied.
        applied: LogId,
        /// Where the log ends.
        last: LogId,
    },
    /// The log begins after what the state machine has applied.
    StateIsBehind {
        /// What is applied.
        applied: LogId,
        /// After which entry the log begins.
        begin: LogId,
    },
    /// The log holds a configuration that this version does not know.
    BadConfiguration,
    /// Entries of the log cannot be read, and there is no other member to get them from.
    Damaged {
        /// The first of them.
        first: LogIndex,
        /// The last of them.
        last: LogIndex,
    },
}

impl std::fmt::Display for CannotBegin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::LogIsBehind { applied, last } => write!(
                f,
                "the state machine has applied {applied}, which is not in the log that ends with {last}: they do not belong together, or the log was lost"
            ),
            Self::StateIsBehind { applied, begin } => write!(
                f,
                "the state machine has applied {applied}, and the log begins only after {begin}: they do not belong together, or a snapshot was lost"
            ),
            Self::BadConfiguration => f.write_str("the log holds a configuration that this version does not know"),
            Self::Damaged { first, last } => write!(
                f,
                "entries {first} to {last} of the log are damaged, and no other member has them; restore a backup, or begin anew"
            ),
        }
    }
}

impl std::error::Error for CannotBegin {}
