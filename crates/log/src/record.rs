//! Records as their owner sees them: one durable act each.
//!
//! Owns the words in which the log is told what to write. Must not know of bytes.

use bytes::Bytes;
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId, Term};

/// How long the note of a [`Write::LogStart`] may be.
pub const NOTE_BYTES_MAX: usize = 1024 * 1024;

/// One entry of a group's log.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Entry {
    /// Its name.
    pub id: LogId,
    /// Its bytes, which the log does not look into.
    pub payload: Bytes,
}

/// One durable act: after a crash it has happened or it has not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Write {
    /// The group's term, and the node's vote in it.
    Vote {
        /// The group.
        group: GroupId,
        /// The current term.
        term: Term,
        /// The vote in this term.
        vote: Option<NodeId>,
    },
    /// Cut the group's log after `after`, then add these.
    Append {
        /// The group.
        group: GroupId,
        /// The last entry that stays.
        after: LogIndex,
        /// What follows it, without a gap. May be empty: then it is a cut alone.
        entries: Vec<Entry>,
    },
    /// From here on the group's log begins after `after`: what came before is in a snapshot.
    ///
    /// If the log holds exactly that entry, what follows it stays. Otherwise the snapshot lies beyond the end of the
    /// log, or belongs to another history, and the log is empty after `after`. Where the log begins later already, this
    /// is a straggler and does nothing.
    LogStart {
        /// The group.
        group: GroupId,
        /// The last entry that is not in the log.
        after: LogId,
        /// The owner's own bytes, given back at recovery: those of the newest `Begin`. At most [`NOTE_BYTES_MAX`].
        note: Bytes,
    },
    /// Entries that are in the log, once more: these bytes take the place of those that were written before, which may
    /// be damaged or in a segment that is to go. Nothing is cut.
    Rewrite {
        /// The group.
        group: GroupId,
        /// The entries, without a gap, as they are in the log.
        entries: Vec<Entry>,
    },
    /// The group is gone: its vote, its log and its note are needed no more, and the log knows no group of this number.
    /// A later write begins one anew, after index zero. Without such a group this does nothing.
    Remove {
        /// Which.
        group: GroupId,
    },
}

impl Write {
    /// The group that it is about.
    #[must_use]
    pub fn group(&self) -> GroupId {
        match self {
            Self::Vote { group, .. }
            | Self::Append { group, .. }
            | Self::LogStart { group, .. }
            | Self::Rewrite { group, .. }
            | Self::Remove { group } => *group,
        }
    }
}
