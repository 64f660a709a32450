//! What replicas of one group say to each other.
//!
//! A message is a value whose variants have only their own fields; a refusal is a variant. Knows nothing of bytes: the
//! host attaches the payloads that an [`Body::AppendEntries`] names.

use crate::configuration::Configuration;
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
    /// The sender's term; answers to [`Body::RequestPreVote`] say in [`Body::PreVoteGranted`] what it means there.
    pub term: Term,
    /// The rest of it.
    pub body: Body,
}

/// Names one stretch of a leader's work with a peer: from the moment it comes into the group, or the leader into office.
///
/// A node that was removed and added again has lost what it had acknowledged before; its old acknowledgements must not
/// count for its new log. Within a term a session is the index of the configuration that brought the peer in.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Session(pub LogIndex);

/// Names one linearizable read, or all that its host asks for in one turn.
///
/// Never used twice by a node, not even after a restart: an answer to the earlier question would pass for one to the
/// later, and be too old.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ReadId(pub u64);

/// The kinds of message.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Body {
    /// Would you vote for me in the term after mine? Changes no node's term (Ongaro §9.6).
    RequestPreVote {
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
        /// The leader has asked it to campaign, so the leader's office is no reason to refuse (Ongaro §3.10).
        transfer: bool,
    },
    /// The vote is durably the candidate's.
    VoteGranted,
    /// It is not.
    VoteRefused,
    /// These entries follow `entries.after()` (Raft §5.3).
    AppendEntries {
        /// To be repeated in the answer.
        session: Session,
        /// The entries by their terms, and the one before them.
        entries: TermRuns,
        /// Which of them set a configuration.
        configurations: Vec<(LogIndex, Configuration)>,
        /// How far the leader has committed.
        commit: LogIndex,
    },
    /// Log and leader agree up to here, durably.
    EntriesAccepted {
        /// That of the message.
        session: Session,
        /// The last entry of the accepted message.
        upto: LogIndex,
    },
    /// The entry before the new ones is not here.
    EntriesRefused {
        /// That of the message.
        session: Session,
        /// Which entry that was.
        missing: LogId,
        /// The last entry here that could be the leader's too: not later, and not of a later term.
        hint: LogId,
    },
    /// I lead. Never carries entries, so that it never waits behind any.
    Heartbeat {
        /// To be repeated in the answer.
        session: Session,
        /// The newest round of confirmations that the leader has begun.
        round: u64,
        /// How far the leader has committed of what the receiver is known to hold.
        commit: LogIndex,
    },
    /// I lead, this is all there is, and it is decided: no heartbeat will follow, as soon as all sleep. Answered like a
    /// heartbeat, and repeated until it is.
    Sleep {
        /// To be repeated in the answer.
        session: Session,
        /// The round of this announcement; it is repeated under the same number.
        round: u64,
        /// The last entry of the leader's log.
        upto: LogId,
    },
    /// This is decided. Not answered, and no sign of life is lost with it: the next heartbeat says the same.
    Committed {
        /// How far the leader has committed of what the receiver is known to hold.
        upto: LogIndex,
    },
    /// You lead, as far as I know.
    HeartbeatReply {
        /// That of the heartbeat.
        session: Session,
        /// The round of the heartbeat.
        round: u64,
        /// Whether this node could lead: its disk and its state machine keep up, and it has payloads.
        fit: bool,
        /// Its disk has no room for entries: it takes none.
        full: bool,
        /// How much it should be preferred as leader.
        priority: u8,
        /// This node sleeps: it waits for no other heartbeat. Only ever an answer to [`Body::Sleep`].
        asleep: bool,
    },
    /// What you lack has been compacted away. Get a snapshot of this entry or a later one, from any member that has
    /// one; then say how far your log goes.
    SnapshotNeeded {
        /// That of the answer.
        session: Session,
        /// The entry before the first in the leader's log.
        of: LogId,
    },
    /// Campaign at once: the leadership is transferred to you (Ongaro §3.10).
    TimeoutNow,
    /// You are no member any more: the entry at this index has set a configuration without you, and it is committed.
    Removed {
        /// The entry.
        at: LogIndex,
    },
    /// You lead no longer: the message's term is later than yours.
    StaleTerm,
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
