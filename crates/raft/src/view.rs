//! What a leader shows of its peers, to be looked at when it is asked for.
//!
//! Owns the plain values. Must not know how they come about: that is in `progress.rs`.

use crate::id::LogIndex;
use crate::time::Time;

/// What a leader knows of one peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PeerProgress {
    /// Both logs agree up to here, durably.
    pub matched: LogIndex,
    /// How entries are sent to it.
    pub pace: PaceName,
    /// When it last answered in this term; when the leader took office, or the peer came in, if it has not.
    pub heard: Time,
    /// It could lead, as it last said.
    pub is_fit: bool,
    /// Its disk has no room for entries, as it last said.
    pub is_full: bool,
}

/// How a leader sends entries to a peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PaceName {
    /// It searches for the last entry that both logs share.
    Probe,
    /// In step: entries are sent ahead of their acknowledgement.
    Replicate,
    /// What the peer needs is in the log no more; it was told to get a snapshot.
    Snapshot,
}
