//! What a leader shows of its peers, to be looked at when it is asked for.
//!
//! Owns the plain values. Must not know how they come about: that is in `progress.rs`.

use crate::id::{LogIndex, NodeId};
use crate::time::Time;

/// What a leader knows of one peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PeerView {
    /// The peer.
    pub node: NodeId,
    /// Both logs agree up to here, durably.
    pub matched: LogIndex,
    /// How entries are sent to it.
    pub pace: PaceName,
    /// When it last answered in this term; when the leader took office, or the peer came in, if it has not. A peer of a group
    /// that sleeps has not to answer.
    pub heard: Time,
    /// It has all that was committed a heartbeat ago, gets entries ahead of its acknowledgements, and has room for them: a
    /// learner that may vote.
    pub in_step: bool,
    /// It could lead, as it last said.
    pub is_fit: bool,
    /// Its disk has no room for entries, as it last said.
    pub is_full: bool,
    /// How much it should be preferred as leader, as it last said.
    pub priority: u8,
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
