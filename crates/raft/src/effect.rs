//! What goes into consensus and what comes out, as values.

use crate::configuration::{Change, ChangeRefused, Configuration};
use crate::election::ElectionEvent;
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
    /// Change the members of the group: all of this at once.
    ChangeConfiguration {
        /// What to change.
        changes: Vec<Change>,
    },
    /// Hand the leadership to this node, or to the fittest.
    Transfer {
        /// The next leader.
        to: Option<NodeId>,
    },
    /// The host will read no entry up to here again: its state machine has them durably.
    Compact {
        /// The last such entry.
        upto: LogIndex,
    },
    /// The host has a snapshot, durably, of a state that was committed. One that names no voters is not installed: a node
    /// that has just joined may not know them, and should hand out no snapshot before it does.
    SnapshotReceived {
        /// The last entry whose effect it has.
        id: LogId,
        /// The configuration of that moment, and the entry that has set it.
        configuration: (LogIndex, Configuration),
    },
    /// Whether this node's state machine keeps up. (That the disk does, consensus sees for itself.)
    Fitness {
        /// It does.
        fit: bool,
    },
    /// Whether the disk has room for entries. What is refused for want of it waits in the host, in order, and is reported
    /// by [`Input::Persisted`] once there is room again; until then no more entries are taken.
    Room {
        /// It has.
        is_there: bool,
    },
    /// The payloads of these entries of the log cannot be read any more, and those of others between them; what entries
    /// they are is known. Until a snapshot takes their place this node does not lead, and applies nothing from there on.
    Unreadable {
        /// The first of them.
        first: LogIndex,
        /// The last of them.
        last: LogIndex,
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
    /// This write and all before it are durable but for entries, which wait for room: votes, and where the log begins,
    /// overtake them on a full disk.
    VotePersisted {
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
    /// Nothing was heard of a peer's node for an election timeout, of whatever group, though its connection seems to
    /// stand. Needed while this replica sleeps (see [`Config::sleep_after`](crate::state::Config::sleep_after)); one that
    /// is awake notices by itself.
    Silent {
        /// The peer.
        peer: NodeId,
    },
    /// The group must be awake: something is about to be asked of it, or this replica is about to be taken away. A
    /// leader tells its followers, so that they notice if nothing follows. Harmless at any time.
    Wake,
}

/// What consensus asks of its host. Writes keep their order. Sends need not wait for them: a message that acknowledges
/// something durable is emitted only after [`Input::Persisted`].
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Effect {
    /// Make the term and the vote durable, together.
    SaveVote {
        /// The number to report when it is durable.
        write: WriteId,
        /// The current term.
        term: Term,
        /// The candidate that has this node's vote in it.
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
    /// The log begins after this entry: nothing before it will be asked for. What follows it stays.
    Compact {
        /// The number to report when it is durable.
        write: WriteId,
        /// The entry.
        after: LogId,
    },
    /// A snapshot takes the place of the log: the log begins after this entry, with the snapshot's configuration, and what
    /// follows it stays if the log has the entry, or else goes. Once [`Effect::Commit`] reaches the entry, the state machine becomes the snapshot.
    InstallSnapshot {
        /// The number to report when it is durable.
        write: WriteId,
        /// The last entry of which the snapshot has the effect.
        id: LogId,
    },
    /// Get a snapshot of this entry or a later one, from `from` or any other member, and report it with
    /// [`Input::SnapshotReceived`]. Asked again until the log goes that far.
    FetchSnapshot {
        /// The leader, which has one.
        from: NodeId,
        /// What it must reach.
        reach: LogId,
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
    /// The proposal was not taken.
    ProposalRefused {
        /// Why not, and what to do.
        why: ProposalRefused,
    },
    /// The change of configuration was not begun.
    ChangeRefused {
        /// Why not, and what to do.
        why: ChangeRefused,
    },
    /// The leadership is not transferred.
    TransferRefused {
        /// Why not, and what to do.
        why: TransferRefused,
    },
    /// Something that an operator or a program may want to know; nothing needs to be done.
    Happened(Event),
    /// A step of an election, for a record of it; nothing needs to be done.
    Election(ElectionEvent),
    /// Term, role or leader have changed.
    Became(RoleState),
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
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Source {
    /// The entry with which a leader takes office; it has no payload (Raft §8).
    Blank,
    /// The proposal that this step was given.
    Proposed,
    /// The message that this step was given.
    Received,
    /// It sets this configuration; the payload says so, that it may be read back at the next start.
    Configuration(Configuration),
}

/// Why a proposal was not taken.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ProposalRefused {
    /// This node does not lead.
    NotLeader {
        /// The leader, as far as is known.
        leader: Option<NodeId>,
    },
    /// The leadership is being transferred; the node that leads in an election timeout takes it.
    Transferring {
        /// To which node.
        to: NodeId,
    },
    /// Too much is not committed yet, or this node's disk is full and another is about to take over. It may be proposed
    /// again soon.
    Busy,
    /// No quorum has room on its disks, so nothing new could be decided.
    NoSpace,
}

/// Why a leadership is not transferred.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum TransferRefused {
    /// This node does not lead.
    NotLeader {
        /// The leader, as far as is known.
        leader: Option<NodeId>,
    },
    /// It is being transferred already.
    InProgress {
        /// To which node.
        to: NodeId,
    },
    /// The node may not lead: it does not vote, or is a witness.
    CannotLead {
        /// The node.
        node: NodeId,
    },
    /// No other node is fit to lead.
    Nobody,
}

/// What has happened to a replica, beside [`Effect::Became`].
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Event {
    /// The configuration that counts is another: an entry was appended or cut.
    ConfigurationChanged {
        /// The entry that has set it.
        at: LogIndex,
    },
    /// The configuration that counts is committed.
    ConfigurationCommitted {
        /// The entry that has set it.
        at: LogIndex,
    },
    /// This node is no member any more, and does not campaign.
    Removed {
        /// The entry that has set the configuration without it.
        at: LogIndex,
    },
    /// A peer lags behind what this leader's log has left, and was told to get a snapshot.
    PeerNeedsSnapshot {
        /// The peer.
        peer: NodeId,
    },
    /// A leader has begun to transfer its leadership.
    TransferBegun {
        /// To which node.
        to: NodeId,
    },
    /// The transfer took longer than an election timeout; this leader goes on.
    TransferAborted {
        /// To which node.
        to: NodeId,
    },
    /// A write has waited for the disk for longer than an election timeout.
    DiskStalled,
    /// The disk keeps up again.
    DiskRecovered,
    /// The disk has no room for entries: they are refused, and this node should not lead.
    DiskFull,
    /// It has room again.
    DiskHasRoom,
    /// Entries that could not be read any more are out of the log: a snapshot of a peer has taken their place, or other
    /// entries have.
    Mended,
    /// The leader was heard after more than four fifths of an election timeout: heartbeats are too rare for this
    /// network, or a machine is overloaded.
    HeardLate {
        /// How long it was silent.
        silence: std::time::Duration,
    },
}

/// Where a replica stands.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct RoleState {
    /// Its term.
    pub term: Term,
    /// Its role in the term.
    pub role: RoleName,
    /// The leader of the term, if it is known.
    pub leader: Option<NodeId>,
}

/// The roles of Raft's figure 4, and the one that asks before it campaigns (Ongaro §9.6).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum RoleName {
    /// Follows a leader, or waits for one.
    #[default]
    Follower,
    /// Asks whether it should campaign.
    PreCandidate,
    /// Campaigns.
    Candidate,
    /// Leads.
    Leader,
}

/// What a peer said that no correct peer says.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Misbehaviour {
    /// It speaks in this node's name.
    IsMyself,
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
    /// The configurations it sent are not within its entries.
    ConfigurationsOutOfPlace,
    /// It acknowledged what was never sent.
    AcknowledgedUnsent {
        /// What it acknowledged.
        upto: LogIndex,
        /// The end of the log.
        last: LogIndex,
    },
}
