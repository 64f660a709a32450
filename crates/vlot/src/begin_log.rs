//! A log that begins after a state which came from elsewhere: a backup, say, of which a new cluster is to be made.
//!
//! Owns what such a log holds. Must not know what the state is.

use std::fmt;

use vlot_log::error::{OpenError, WriteError};
use vlot_log::log::{self, Log};
use vlot_log::record::Write;
use vlot_node::members::{Members, MembersAt, MembersEntry};
use vlot_raft::id::{GroupId, LogId, NodeId};

use crate::storage::{DirError, Storage};

/// Whose log it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogOwner {
    /// The cluster.
    pub cluster: u64,
    /// This node.
    pub node: NodeId,
}

/// Why a log was not begun.
#[derive(Debug)]
#[non_exhaustive]
pub enum BeginLogError {
    /// The directory cannot be used.
    Dir(DirError),
    /// What is there cannot be opened.
    Open(OpenError),
    /// There is a log already.
    NotEmpty,
    /// It cannot be written.
    Write(WriteError),
}

/// Begins a node's log in a folder or another storage, which is then given to [`Options::on`](crate::Options::on): the log of one group, whose
/// state machine has applied everything up to `after` on each of its first voters, and has it durably. The voters come with
/// the addresses at which they listen. All of them must begin with the same state.
///
/// # Errors
/// See [`BeginLogError`]. What was begun is to be removed.
pub fn begin_log(
    storage: impl Into<Storage>,
    owner: LogOwner,
    group: GroupId,
    after: LogId,
    voters: impl IntoIterator<Item = (NodeId, String)>,
) -> Result<(), BeginLogError> {
    let disk = storage.into().open_log().map_err(BeginLogError::Dir)?;
    let identity = log::Identity { cluster: owner.cluster, node: owner.node };
    let (mut log, recovered) = Log::open(disk, identity, log::Options::default()).map_err(BeginLogError::Open)?;
    if !recovered.groups.is_empty() {
        return Err(BeginLogError::NotEmpty);
    }
    let entry = MembersEntry { members: Members::of_voters(voters), ..MembersEntry::default() };
    let note = MembersAt { at: after.index, entry }.encode();
    // No term before the state's is begun again.
    let vote = Write::Vote { group, term: after.term, vote: None };
    log.write(&[vote, Write::LogStart { group, after, note }]).map_err(BeginLogError::Write)?;
    log.sync().map_err(BeginLogError::Write)
}

impl fmt::Display for BeginLogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dir(error) => error.fmt(f),
            Self::Open(error) => error.fmt(f),
            Self::NotEmpty => f.write_str("there is a log already"),
            Self::Write(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BeginLogError {}
