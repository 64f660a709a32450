//! What is recorded: one word for each kind of event, and a key for each thing that it tells.
//!
//! Owns the table of kinds, from which both what is written and what is read are made, so that the two cannot differ. Must not
//! know how a line is laid out.

use std::time::Duration;

use vlot_node::act::GroupEvent;
use vlot_node::members::Members;
use vlot_raft::configuration::Seat;
use vlot_raft::effect::{Event, RoleName, RoleState};
use vlot_raft::election::{Cause, ElectionEvent, LeftOffice, Loss, Poll, TransferCause, Unfit, VoteRefused};
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId, Term};

use super::text::{BadLine, Fields};

/// Something that has happened to a node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FlightEvent {
    /// Counts the events of the process, from 1.
    pub sequence: u64,
    /// How long after the start of the process: never goes back, and stands still for no one.
    pub at: Duration,
    /// What the clock on the wall said, since the beginning of 1970 in UTC.
    pub wall: Duration,
    /// To which group; none if it is about the node.
    pub group: Option<GroupId>,
    /// What.
    pub kind: Kind,
}

/// The longest text that is kept with an event, in bytes.
const TEXT_BYTES_MAX: usize = 512;

impl FlightEvent {
    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        Self::size_of(&self.kind)
    }

    pub(super) fn size_of(kind: &Kind) -> usize {
        size_of::<Self>() + kind.text_bytes()
    }
}

/// Makes the kinds of events, with what writes and reads each.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $word:literal { $($(#[$about:meta])* $field:ident: $type:ty,)* })*) => {
        /// What has happened.
        #[derive(Clone, Debug, Eq, PartialEq)]
        pub enum Kind {
            $($(#[$doc])* $kind { $($(#[$about])* $field: $type,)* },)*
            /// It was written by another version, and is not known here.
            Unknown {
                /// Its word.
                word: String,
                /// The rest of its line.
                rest: String,
            },
        }

        impl Kind {
            /// The word for it, and what it tells by keys.
            pub(super) fn written(&self) -> (&str, Vec<(&'static str, String)>) {
                match self {
                    $(Self::$kind { $($field),* } => ($word, vec![$((stringify!($field), $field.written())),*]),)*
                    Self::Unknown { word, .. } => (word, Vec::new()),
                }
            }

            /// The kind with this word, from what it tells by keys. All of them must be there, and no others.
            pub(super) fn read(word: &str, rest: &str) -> Result<Self, BadLine> {
                match word {
                    $($word => {
                        let fields = &mut Fields::read(rest)?;
                        let kind = Self::$kind { $($field: fields.take(stringify!($field))?),* };
                        fields.end()?;
                        Ok(kind)
                    })*
                    _ => Ok(Self::Unknown { word: word.to_owned(), rest: rest.to_owned() }),
                }
            }
        }
    };
}

kinds! {
    /// The process has begun.
    Start = "start" {
        /// The version of the program.
        version: String,
        /// How often a leader says that it leads.
        heartbeat: Duration,
        /// How long a follower waits for a leader, at least.
        election_timeout: Duration,
    }
    /// The process ends.
    Stop = "stop" {
        /// Why.
        why: String,
    }
    /// A group was opened.
    Opened = "opened" {}
    /// A group was closed.
    Closed = "closed" {}
    /// Term, role or leader have changed.
    Became = "became" {
        /// The term.
        term: Term,
        /// The role.
        role: RoleName,
        /// The leader, if it is known.
        leader: Option<NodeId>,
    }
    /// This replica asks the voters.
    Asks = "asks" {
        /// What.
        poll: Poll,
        /// Why.
        cause: Cause,
        /// How long ago a leader was last heard.
        silence: Duration,
    }
    /// Another replica has asked this one.
    WasAsked = "was-asked" {
        /// What.
        poll: Poll,
        /// Which.
        candidate: NodeId,
        /// For which term.
        term: Term,
        /// Why it was refused; it was granted otherwise.
        refused: Option<VoteRefused>,
    }
    /// A voter has answered.
    Answered = "answered" {
        /// What was asked.
        poll: Poll,
        /// The voter.
        voter: NodeId,
        /// It agrees.
        granted: bool,
    }
    /// The leader is gone for this follower.
    LeaderLost = "leader-lost" {
        /// The leader.
        leader: NodeId,
        /// How that shows.
        how: Loss,
    }
    /// A message has come from a later term.
    LaterTerm = "later-term" {
        /// The term.
        term: Term,
        /// The sender.
        from: NodeId,
    }
    /// This leader leaves office by itself.
    LeftOffice = "left-office" {
        /// Why.
        why: LeftOffice,
    }
    /// This leader transfers its leadership.
    Transfers = "transfers" {
        /// To which node.
        to: NodeId,
        /// Why.
        why: TransferCause,
    }
    /// The transfer took too long; this leader goes on.
    TransferAborted = "transfer-aborted" {
        /// To which node it was to go.
        to: NodeId,
    }
    /// Another configuration counts.
    ConfigurationChanged = "configuration-changed" {
        /// The entry that has set it.
        at: LogIndex,
    }
    /// The configuration that counts is committed.
    ConfigurationCommitted = "configuration-committed" {
        /// The entry that has set it.
        at: LogIndex,
    }
    /// The group's members are these, committed or not.
    Members = "members" {
        /// Each as `NODE:SEAT@ADDRESS`.
        all: String,
    }
    /// This node is no member any more.
    Removed = "removed" {
        /// The entry that says so.
        at: LogIndex,
    }
    /// A peer lags behind what this leader's log has left.
    PeerNeedsSnapshot = "peer-needs-snapshot" {
        /// The peer.
        peer: NodeId,
    }
    /// A peer was sent a snapshot.
    SnapshotSent = "snapshot-sent" {
        /// The peer.
        to: NodeId,
        /// The last entry in it.
        of: LogId,
    }
    /// A peer was not sent a snapshot.
    SnapshotNotSent = "snapshot-not-sent" {
        /// The peer.
        to: NodeId,
        /// Why not.
        why: String,
    }
    /// A snapshot did not come.
    SnapshotNotReceived = "snapshot-not-received" {
        /// The peer that was asked.
        from: NodeId,
        /// Why not.
        why: String,
    }
    /// A snapshot has taken the place of this node's state.
    SnapshotRestored = "snapshot-restored" {
        /// The last entry in it.
        of: LogId,
    }
    /// A snapshot of this node's state was not saved.
    SnapshotNotSaved = "snapshot-not-saved" {
        /// Why not.
        why: String,
    }
    /// A write has waited for the disk for longer than an election timeout.
    DiskStalled = "disk-stalled" {}
    /// The disk keeps up again.
    DiskRecovered = "disk-recovered" {}
    /// The disk has no room for entries.
    DiskFull = "disk-full" {}
    /// It has room again.
    DiskHasRoom = "disk-has-room" {}
    /// Damaged entries are out of the log.
    Mended = "mended" {}
    /// The leader was heard after most of an election timeout.
    HeardLate = "heard-late" {
        /// How long it was silent.
        silence: Duration,
    }
    /// The state machine has stopped.
    Fenced = "fenced" {
        /// Why.
        why: String,
    }
    /// The connection to a peer is up.
    Connected = "connected" {
        /// The peer.
        peer: NodeId,
        /// The disk that it says it has; zero if it does not tell.
        disk: u64,
    }
    /// The connection to a peer is gone.
    Lost = "lost" {
        /// The peer.
        peer: NodeId,
    }
    /// This process did nothing while something was due: it was paused, or its machine is overloaded.
    LateTurn = "late-turn" {
        /// How long after it was due.
        late: Duration,
    }
}

impl Kind {
    /// What is recorded of what a group is told of; the log's ordinary life is not.
    pub(super) fn of(event: &GroupEvent) -> Option<Self> {
        Some(match event {
            GroupEvent::Became(RoleState { term, role, leader }) => {
                Self::Became { term: *term, role: *role, leader: *leader }
            }
            GroupEvent::Consensus(event) => return Self::of_consensus(event),
            GroupEvent::SnapshotSent { to, of } => Self::SnapshotSent { to: *to, of: *of },
            GroupEvent::SnapshotNotSent { to, why } => Self::SnapshotNotSent { to: *to, why: text(why) },
            GroupEvent::SnapshotNotReceived { from, why } => Self::SnapshotNotReceived { from: *from, why: text(why) },
            GroupEvent::SnapshotRestored { of } => Self::SnapshotRestored { of: *of },
            GroupEvent::SnapshotNotSaved { why } => Self::SnapshotNotSaved { why: text(why) },
            GroupEvent::Fenced(why) => Self::Fenced { why: text(why) },
            GroupEvent::SnapshotSaved { .. } | GroupEvent::Compacted { .. } => return None,
        })
    }

    fn of_consensus(event: &Event) -> Option<Self> {
        Some(match *event {
            Event::ConfigurationChanged { at } => Self::ConfigurationChanged { at },
            Event::ConfigurationCommitted { at } => Self::ConfigurationCommitted { at },
            Event::Removed { at } => Self::Removed { at },
            Event::PeerNeedsSnapshot { peer } => Self::PeerNeedsSnapshot { peer },
            // Recorded with its reason.
            Event::TransferBegun { .. } => return None,
            Event::TransferAborted { to } => Self::TransferAborted { to },
            Event::DiskStalled => Self::DiskStalled {},
            Event::DiskRecovered => Self::DiskRecovered {},
            Event::DiskFull => Self::DiskFull {},
            Event::DiskHasRoom => Self::DiskHasRoom {},
            Event::Mended => Self::Mended {},
            Event::HeardLate { silence } => Self::HeardLate { silence },
        })
    }

    pub(crate) fn of_election(event: ElectionEvent) -> Self {
        match event {
            ElectionEvent::Asks { poll, cause, silence } => Self::Asks { poll, cause, silence },
            ElectionEvent::WasAsked { poll, candidate, term, refused } => {
                Self::WasAsked { poll, candidate, term, refused }
            }
            ElectionEvent::Answered { poll, voter, granted } => Self::Answered { poll, voter, granted },
            ElectionEvent::LeaderLost { leader, how } => Self::LeaderLost { leader, how },
            ElectionEvent::LaterTerm { term, from } => Self::LaterTerm { term, from },
            ElectionEvent::LeftOffice { why } => Self::LeftOffice { why },
            ElectionEvent::Transfers { to, why } => Self::Transfers { to, why },
        }
    }

    pub(crate) fn of_members(members: &Members) -> Self {
        let seat = |seat| match seat {
            Seat::Voter => "voter",
            Seat::Joining => "joining",
            Seat::Leaving => "leaving",
            Seat::Retiring => "retiring",
            Seat::Learner => "learner",
        };
        let shown = members.iter().map(|(member, address)| {
            let witness = if member.witness { "-witness" } else { "" };
            format!("{:x}:{}{witness}@{address}", member.node.0, seat(member.seat))
        });
        Self::Members { all: text(&shown.collect::<Vec<_>>().join(" ")) }
    }

    /// Bytes of text that it keeps elsewhere.
    fn text_bytes(&self) -> usize {
        match self {
            Self::Start { version: text, .. }
            | Self::Stop { why: text }
            | Self::Members { all: text }
            | Self::SnapshotNotSent { why: text, .. }
            | Self::SnapshotNotReceived { why: text, .. }
            | Self::SnapshotNotSaved { why: text }
            | Self::Fenced { why: text } => text.len(),
            Self::Unknown { word, rest } => word.len() + rest.len(),
            _ => 0,
        }
    }
}

/// As it is said, but not endlessly.
fn text(said: &impl ToString) -> String {
    let mut text = said.to_string();
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}

/// A value as it stands behind its key.
pub(super) trait Value: Sized {
    fn written(&self) -> String;
    /// None if it is no such value.
    fn read(written: &str) -> Option<Self>;
}

impl Value for String {
    fn written(&self) -> String {
        self.clone()
    }

    fn read(written: &str) -> Option<Self> {
        Some(written.to_owned())
    }
}

impl Value for u64 {
    fn written(&self) -> String {
        format!("{self:x}")
    }

    fn read(written: &str) -> Option<Self> {
        u64::from_str_radix(written, 16).ok()
    }
}

impl Value for NodeId {
    fn written(&self) -> String {
        self.0.written()
    }

    fn read(written: &str) -> Option<Self> {
        u64::read(written).map(Self)
    }
}

impl Value for Option<NodeId> {
    fn written(&self) -> String {
        self.map_or_else(|| "none".to_owned(), |node| node.written())
    }

    fn read(written: &str) -> Option<Self> {
        if written == "none" { Some(None) } else { NodeId::read(written).map(Some) }
    }
}

impl Value for Term {
    fn written(&self) -> String {
        self.to_string()
    }

    fn read(written: &str) -> Option<Self> {
        written.parse().ok().map(Self)
    }
}

impl Value for LogIndex {
    fn written(&self) -> String {
        self.to_string()
    }

    fn read(written: &str) -> Option<Self> {
        written.parse().ok().map(Self)
    }
}

impl Value for LogId {
    fn written(&self) -> String {
        self.to_string()
    }

    fn read(written: &str) -> Option<Self> {
        let (index, term) = written.split_once('@')?;
        Some(Self { term: Term::read(term)?, index: LogIndex::read(index)? })
    }
}

impl Value for Duration {
    fn written(&self) -> String {
        format!("{}.{:06}", self.as_secs(), self.subsec_micros())
    }

    fn read(written: &str) -> Option<Self> {
        let (seconds, micros) = written.split_once('.')?;
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let micros = Some(micros).filter(|micros| micros.len() == 6 && is_number(micros))?;
        let seconds = Some(seconds).filter(|seconds| is_number(seconds))?;
        Some(Self::from_secs(seconds.parse().ok()?) + Self::from_micros(micros.parse().ok()?))
    }
}

/// Values that are one word each.
macro_rules! words {
    ($type:ty: $($value:pat => $word:literal = $made:expr,)*) => {
        impl Value for $type {
            fn written(&self) -> String {
                match self {
                    $($value => $word.to_owned(),)*
                }
            }

            fn read(written: &str) -> Option<Self> {
                match written {
                    $($word => Some($made),)*
                    _ => None,
                }
            }
        }
    };
}

words! { bool:
    true => "yes" = true,
    false => "no" = false,
}

words! { RoleName:
    Self::Follower => "follower" = Self::Follower,
    Self::PreCandidate => "pre-candidate" = Self::PreCandidate,
    Self::Candidate => "candidate" = Self::Candidate,
    Self::Leader => "leader" = Self::Leader,
}

words! { Poll:
    Self::PreVote => "pre-vote" = Self::PreVote,
    Self::Vote => "vote" = Self::Vote,
}

words! { Cause:
    Self::Silence => "silence" = Self::Silence,
    Self::LostLeader => "lost-leader" = Self::LostLeader,
    Self::Transfer => "transfer" = Self::Transfer,
}

words! { Loss:
    Self::Connection => "connection" = Self::Connection,
    Self::Silence => "silence" = Self::Silence,
}

words! { LeftOffice:
    Self::NoQuorum => "no-quorum" = Self::NoQuorum,
    Self::Unfit(Unfit::Unreadable) => "unreadable" = Self::Unfit(Unfit::Unreadable),
    Self::Unfit(Unfit::DiskStalled) => "disk-stalled" = Self::Unfit(Unfit::DiskStalled),
    Self::Unfit(Unfit::DiskFull) => "disk-full" = Self::Unfit(Unfit::DiskFull),
    Self::Unfit(Unfit::StateMachine) => "state-machine" = Self::Unfit(Unfit::StateMachine),
}

words! { TransferCause:
    Self::Asked => "asked" = Self::Asked,
    Self::Preferred => "preferred" = Self::Preferred,
    Self::Leaves => "leaves" = Self::Leaves,
    Self::Unfit(Unfit::Unreadable) => "unreadable" = Self::Unfit(Unfit::Unreadable),
    Self::Unfit(Unfit::DiskStalled) => "disk-stalled" = Self::Unfit(Unfit::DiskStalled),
    Self::Unfit(Unfit::DiskFull) => "disk-full" = Self::Unfit(Unfit::DiskFull),
    Self::Unfit(Unfit::StateMachine) => "state-machine" = Self::Unfit(Unfit::StateMachine),
}

impl Value for Option<VoteRefused> {
    fn written(&self) -> String {
        match self {
            None => "no".to_owned(),
            Some(VoteRefused::StaleTerm { term }) => format!("stale-term:{term}"),
            Some(VoteRefused::LeaderInOffice { leader }) => format!("leader-in-office:{}", leader.written()),
            Some(VoteRefused::Voted { candidate }) => format!("voted:{}", candidate.written()),
            Some(VoteRefused::LaterLog { own, theirs }) => format!("later-log:{own}>{theirs}"),
            Some(VoteRefused::Leads) => "leads".to_owned(),
        }
    }

    fn read(written: &str) -> Option<Self> {
        let (word, rest) = written.split_once(':').unwrap_or((written, ""));
        Some(match (word, rest) {
            ("no", "") => None,
            ("leads", "") => Some(VoteRefused::Leads),
            ("stale-term", term) => Some(VoteRefused::StaleTerm { term: Term::read(term)? }),
            ("leader-in-office", leader) => Some(VoteRefused::LeaderInOffice { leader: Value::read(leader)? }),
            ("voted", candidate) => Some(VoteRefused::Voted { candidate: NodeId::read(candidate)? }),
            ("later-log", logs) => {
                let (own, theirs) = logs.split_once('>')?;
                Some(VoteRefused::LaterLog { own: LogId::read(own)?, theirs: LogId::read(theirs)? })
            }
            _ => return None,
        })
    }
}
