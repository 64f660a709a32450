//! What goes into consensus and what comes out, as values.

use crate::id::{LogId, LogIndex, NodeId, Term};
use crate::message::{Envelope, Message, ReadId};
use crate::term_runs::TermRuns;

/// Numbers the writes that a replica asks for, in the order in which they must become durable.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct WriteId(pub u64);

/// What a host tells consensus.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Input {
    /// Time has passed. Due when [`crate::raft::Raft::deadline`] is reached; harmless at any other time.
    Tick,
    /// A peer said this.
    Receive {
        /// The sender, as its connection has proven.
        from: NodeId,
        /// Its message.
        message: Message,
    },
    /// The host has this many payloads for new entries.
    Propose {
        /// How many, at least one.
        count: u64,
    },
    /// From which index on is a read answered by the present state?
    Read {
        /// The host's name for it.
        read: ReadId,
    },
    /// This write and all before it are durable.
    Persisted {
        /// The number that came with the effect.
        write: WriteId,
    },
    /// The connection to a peer is up. What was sent over an earlier one may be lost.
    Connected {
        /// The peer.
        peer: NodeId,
    },
    /// The connection to a peer is gone; its process may be, too.
    Lost {
        /// The peer.
        peer: NodeId,
    },
}

/// What consensus asks of its host. Writes keep their order. Sends need not wait for them: a message that vouches for
/// something durable is emitted only after [`Input::Persisted`].
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Effect {
    /// Make the term and the vote durable, together.
    SaveVote {
        /// The number to report when it is durable.
        write: WriteId,
        /// The current term.
        term: Term,
        /// Who has this node's vote in it.
        vote: Option<NodeId>,
    },
    /// Cut the log after `entries.after()` and write these entries: one durable act, no crash between.
    Append {
        /// The number to report when it is durable.
        write: WriteId,
        /// The entries, and the one they follow.
        entries: TermRuns,
        /// Where their payloads are.
        source: Source,
    },
    /// Send this. It may be lost, repeated and overtaken.
    Send(Envelope),
    /// Everything up to here is decided, durable here, and may be applied.
    Commit {
        /// The last such entry.
        upto: LogIndex,
    },
    /// The read may be answered once everything up to `index` is applied.
    ReadReady {
        /// The read.
        read: ReadId,
        /// What must be applied before.
        index: LogIndex,
    },
    /// The read was not confirmed. It may be asked again, under a new name.
    ReadRefused {
        /// The read.
        read: ReadId,
    },
    /// The proposal was not taken: this node does not lead.
    ProposalRefused {
        /// Who does, as far as is known.
        leader: Option<NodeId>,
    },
    /// Term, role or leader have changed.
    Became(Standing),
    /// A peer said what no correct peer says. It was ignored.
    Misbehaved {
        /// The peer.
        from: NodeId,
        /// What it said.
        how: Misbehaviour,
    },
}

/// A list to which a step adds its effects, in order.
pub type Effects = Vec<Effect>;

/// Where the payloads of new entries come from.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Source {
    /// The entry with which a leader takes office; it has no payload (Raft §8).
    Blank,
    /// The proposal that this step was given.
    Proposed,
    /// The message that this step was given.
    Received,
}

/// Where a replica stands.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Standing {
    /// Its term.
    pub term: Term,
    /// Its role in the term.
    pub role: RoleName,
    /// The leader of the term, if it is known.
    pub leader: Option<NodeId>,
}

/// The roles of Raft's figure 4, and the one that asks before it stands (Ongaro §9.6).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum RoleName {
    /// Follows a leader, or waits for one.
    #[default]
    Follower,
    /// Asks whether it should stand.
    PreCandidate,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
}

/// What a peer said that no correct peer says.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Misbehaviour {
    /// The sender is not a member of the group.
    NotAMember,
    /// Its term is too far ahead to have been reached by elections.
    TermOutOfReach {
        /// The term.
        term: Term,
    },
    /// It claims to lead a term that has another leader.
    SecondLeader {
        /// The other.
        leader: NodeId,
    },
    /// Its entries have a later term than it has itself.
    EntriesFromTheFuture {
        /// The last entry.
        last: LogId,
    },
    /// It would replace what is committed.
    ReplacesCommitted {
        /// What is committed here.
        commit: LogIndex,
        /// Up to where it agrees.
        agreed: LogIndex,
    },
    /// It acknowledged what was never sent.
    AcknowledgedUnsent {
        /// What it acknowledged.
        upto: LogIndex,
        /// The end of the log.
        last: LogIndex,
    },
}
