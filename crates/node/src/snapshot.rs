//! Snapshots as files.

use vlot_raft::id::{GroupId, LogId};

use crate::members::MembersAt;

/// What a snapshot is of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Header {
    /// The group.
    pub group: GroupId,
    /// The last entry whose effect it has.
    pub id: LogId,
    /// Who belonged to the group then.
    pub members: MembersAt,
}

/// Names the content of a snapshot's file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SnapshotInfo {
    /// The last entry whose effect it has.
    pub id: LogId,
    /// How long the file is.
    pub bytes: u64,
    /// A checksum of all of it.
    pub checksum: u32,
}
