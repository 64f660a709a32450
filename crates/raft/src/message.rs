//! What replicas of one group say to each other.
//!
//! A message is a value whose variants have only their own fields; a refusal is a variant. Knows nothing of bytes: the
//! host attaches the payloads that an [`Body::AppendEntries`] names.

use crate::id::{LogId, LogIndex, NodeId, Term};
use crate::term_runs::TermRuns;

/// A message and where it goes.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Envelope {
    /// The receiver.
    pub to: NodeId,
    /// What it is told.
    pub message: Message,
}

/// What one replica tells another.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Message {
    /// The sender's term; answers to [`Body::AskPreVote`] say in [`Body::PreVoteGranted`] what it means there.
    pub term: Term,
    /// The rest of it.
    pub body: Body,
}

/// Names one linearizable read, or all that its host asks for in one turn.
///
/// Never used twice by a node, not even after a restart: an answer to the earlier question would pass for one to the
/// later, and be too old.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ReadId(pub u64);

/// The kinds of message.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Body {
    /// Would you vote for me in the term after mine? Changes nobody's term (Ongaro §9.6).
    AskPreVote {
        /// The last entry of the asking log.
        last: LogId,
    },
    /// Yes. The message's term repeats the asker's.
    PreVoteGranted,
    /// No. The message's term is the greater of the asker's and the voter's.
    PreVoteRefused,
    /// Vote for me in this term (Raft §5.2).
    RequestVote {
        /// The last entry of the candidate's log.
        last: LogId,
    },
    /// The vote is durably the candidate's.
    VoteGranted,
    /// It is not.
    VoteRefused,
    /// These entries follow `entries.after()` (Raft §5.3).
    AppendEntries {
        /// The entries by their terms, and the one before them.
        entries: TermRuns,
        /// How far the leader has committed.
        commit: LogIndex,
    },
    /// Log and leader agree up to here, durably.
    EntriesAccepted {
        /// The last entry of the accepted message.
        upto: LogIndex,
    },
    /// The entry before the new ones is not here.
    EntriesRefused {
        /// Which entry that was.
        missing: LogId,
        /// The last entry here that could be the leader's too: not later, and not of a later term.
        hint: LogId,
    },
    /// I lead. Never carries entries, so that it never waits behind any.
    Heartbeat {
        /// The newest round of confirmations that the leader has begun.
        round: u64,
        /// How far the leader has committed of what the receiver is known to hold.
        commit: LogIndex,
    },
    /// You lead, as far as I know.
    HeartbeatReply {
        /// The round of the heartbeat.
        round: u64,
    },
    /// You lead no longer: the message's term is later than yours.
    TermIsOver,
    /// Where must my log be applied to before I may answer this read? (Ongaro §6.4)
    ReadIndex {
        /// The read.
        read: ReadId,
    },
    /// Up to here.
    ReadIndexReply {
        /// The read.
        read: ReadId,
        /// What was committed when it was asked.
        index: LogIndex,
    },
    /// Ask another: I do not lead.
    ReadIndexRefused {
        /// The read.
        read: ReadId,
    },
}
