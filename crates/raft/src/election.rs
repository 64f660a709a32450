//! Why a replica did what it did in an election, as values for a record of it.
//!
//! Owns the words. Consensus depends on none of them: a host may drop them all. They are told in elections alone, never for
//! a proposal.

use std::time::Duration;

pub use crate::candidate::{Cause, Poll};
use crate::id::{LogId, NodeId, Term};

/// A step of an election, as one replica took it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ElectionEvent {
    /// This replica asks the other voters.
    Asks {
        /// What.
        poll: Poll,
        /// Why.
        cause: Cause,
        /// How long ago a leader of any term was last heard; since the start of this replica, if none was.
        silence: Duration,
    },
    /// Another replica has asked this one, which has answered; it says nothing to a candidate while a leader is in office.
    WasAsked {
        /// What.
        poll: Poll,
        /// Which node.
        candidate: NodeId,
        /// For which term.
        term: Term,
        /// Why it has refused; it has granted it otherwise. A granted vote is on its way to the disk.
        refused: Option<VoteRefused>,
    },
    /// A voter has answered the poll of this replica.
    Answered {
        /// What was asked.
        poll: Poll,
        /// Which node has answered.
        voter: NodeId,
        /// It agrees.
        granted: bool,
    },
    /// The leader is gone for this follower, which will not wait for an election timeout.
    LeaderLost {
        /// The leader.
        leader: NodeId,
        /// How that shows.
        how: Loss,
    },
    /// A message has come from a later term, which this replica enters.
    LaterTerm {
        /// The term.
        term: Term,
        /// Which node has sent it.
        from: NodeId,
    },
    /// This leader leaves office by itself.
    LeftOffice {
        /// Why.
        why: LeftOffice,
    },
    /// This leader has begun to transfer its leadership.
    Transfers {
        /// To which node.
        to: NodeId,
        /// Why.
        why: TransferCause,
    },
}

/// How the loss of a leader shows.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Loss {
    /// The connection to it is gone.
    Connection,
    /// Nothing was heard of its node for an election timeout while the group slept, though the connection seems to stand.
    Silence,
}

/// Why a vote, or a pre-vote, was refused.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum VoteRefused {
    /// The term that is asked for is over: this replica knows a later one.
    StaleTerm {
        /// The term of this replica.
        term: Term,
    },
    /// A leader is in office, or may answer reads by a lease that this replica has granted.
    LeaderInOffice {
        /// The leader, if it is known.
        leader: Option<NodeId>,
    },
    /// This replica has voted in that term already.
    Voted {
        /// For which node.
        candidate: NodeId,
    },
    /// The log of this replica is the later one (Raft §5.4.1).
    LaterLog {
        /// The last entry of this replica.
        own: LogId,
        /// The last entry of the candidate.
        theirs: LogId,
    },
    /// This replica leads that term.
    Leads,
}

/// Why a leader leaves office by itself.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum LeftOffice {
    /// No quorum has answered for an election timeout (Ongaro §6.2).
    NoQuorum,
    /// It cannot do the work, and no other node has taken it over.
    Unfit(Unfit),
}

/// What keeps a node from a leader's work.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Unfit {
    /// Entries of its log cannot be read.
    Unreadable,
    /// A write has waited for the disk for longer than an election timeout.
    DiskStalled,
    /// The disk has no room for entries.
    DiskFull,
    /// The state machine has stopped, or lags behind by more than an election timeout.
    StateMachine,
}

/// Why a leader transfers its leadership.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum TransferCause {
    /// It was asked to.
    Asked,
    /// Another node has a greater priority and keeps up.
    Preferred,
    /// A change of members takes it out of the voters.
    Leaves,
    /// It cannot do the work.
    Unfit(Unfit),
}
