//! What nodes say to each other, as bytes: one frame for each message (`proto/peer.proto`).
//!
//! Owns the translation between frames and [`PeerMessage`]s. A frame is decoded once, here, into types that cannot be wrong;
//! what cannot be such a type is refused. Must not know what a message leads to.

use bytes::Bytes;
use prost::Message as _;

use vlot_raft::configuration::{ChangeRefused, Configuration};
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId, Term};
use vlot_raft::message::{Body, Message, ReadId, Session};
use vlot_raft::term_runs::TermRuns;

use crate::lane::Lane;
use crate::members::{ChangeRequest, MembersEntry};
use crate::payload::{self, Payload};

/// What one replica sends another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PeerMessage {
    /// A message of consensus, with the payloads of the entries that it names.
    Raft {
        /// The message.
        message: Message,
        /// One for each entry, in order; none for any other message.
        payloads: Vec<Bytes>,
    },
    /// Proposals for the leader of this term, and of no other: if it has none any more, they are dropped, so that
    /// whoever made them knows when they can no longer come true.
    Propose {
        /// The term.
        term: Term,
        /// Their payloads.
        payloads: Vec<Bytes>,
    },
    /// A change of members, for the leader of this term and of no other.
    Change {
        /// The term.
        term: Term,
        /// The change.
        request: ChangeRequest,
    },
    /// The leader does not begin the change.
    ChangeRefused {
        /// The request's sequence number.
        sequence: u64,
        /// Why not.
        why: ChangeRefused,
    },
    /// This node is alive: said where nothing else was said for a heartbeat, for all groups at once.
    Alive,
    /// The leader of this term has not taken these proposals, which were sent to it in the term, and never will: there is
    /// no room for them on the disks of a quorum.
    ProposalsRefused {
        /// The term.
        term: Term,
        /// Their sequence numbers.
        sequences: Vec<u64>,
    },
}

impl PeerMessage {
    /// The lane on which it goes: what is long must not delay what is urgent.
    #[must_use]
    pub fn lane(&self) -> Lane {
        match self {
            Self::Raft { payloads, .. } if payloads.is_empty() => Lane::Control,
            Self::Alive | Self::Change { .. } | Self::ChangeRefused { .. } | Self::ProposalsRefused { .. } => {
                Lane::Control
            }
            Self::Raft { .. } | Self::Propose { .. } => Lane::Entries,
        }
    }

    /// The frame that carries it.
    #[must_use]
    pub fn encode(&self, group: GroupId) -> Bytes {
        let frame = match self {
            Self::Raft { message, payloads } => {
                Frame { group: group.0, term: message.term.0, body: Some(encode_body(&message.body, payloads)) }
            }
            Self::Propose { term, payloads } => Frame {
                group: group.0,
                term: term.0,
                body: Some(FrameBody::Propose(Payloads { payloads: payloads.clone() })),
            },
            Self::Change { term, request } => {
                Frame { group: group.0, term: term.0, body: Some(FrameBody::Change(request.encode())) }
            }
            Self::ChangeRefused { sequence, why } => {
                let (why, node) = encode_refusal(*why);
                let body = FrameBody::ChangeRefused(Refusal { sequence: *sequence, why, node: node.0 });
                Frame { group: group.0, term: 0, body: Some(body) }
            }
            Self::Alive => Frame { group: 0, term: 0, body: Some(FrameBody::Alive(Empty {})) },
            Self::ProposalsRefused { term, sequences } => {
                let body = FrameBody::ProposalsRefused(Sequences { sequences: sequences.clone() });
                Frame { group: group.0, term: term.0, body: Some(body) }
            }
        };
        frame.encode_to_vec().into()
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// What is wrong with it, if it is none that a correct peer sends.
    pub fn decode(frame: Bytes) -> Result<(GroupId, Self), BadFrame> {
        let Frame { group, term, body } = Frame::decode(frame).map_err(BadFrame::NotProtobuf)?;
        let (group, term) = (GroupId(group), Term(term));
        let mut payloads = Vec::new();
        let body = match body.ok_or(BadFrame::UnknownKind)? {
            FrameBody::RequestPreVote(Last { last }) => Body::RequestPreVote { last: named(last)? },
            FrameBody::PreVoteGranted(Empty {}) => Body::PreVoteGranted,
            FrameBody::PreVoteRefused(Empty {}) => Body::PreVoteRefused,
            FrameBody::RequestVote(Candidacy { last, transfer }) => Body::RequestVote { last: named(last)?, transfer },
            FrameBody::VoteGranted(Empty {}) => Body::VoteGranted,
            FrameBody::VoteRefused(Empty {}) => Body::VoteRefused,
            FrameBody::AppendEntries(AppendEntries { session, after, runs, commit, payloads: entries }) => {
                let runs = decode_runs(named(after)?, &runs)?;
                if runs.last().since(runs.after().index) != entries.len() as u64 {
                    return Err(BadFrame::PayloadsDoNotMatch);
                }
                let configurations = configurations_in(runs.after().index, &entries)?;
                payloads = entries;
                Body::AppendEntries { session: of(session), entries: runs, configurations, commit: LogIndex(commit) }
            }
            FrameBody::EntriesAccepted(Accepted { session, upto }) => {
                Body::EntriesAccepted { session: of(session), upto: LogIndex(upto) }
            }
            FrameBody::EntriesRefused(Refused { session, missing, hint }) => {
                Body::EntriesRefused { session: of(session), missing: named(missing)?, hint: named(hint)? }
            }
            FrameBody::Heartbeat(Heartbeat { session, round, commit }) => {
                Body::Heartbeat { session: of(session), round, commit: LogIndex(commit) }
            }
            FrameBody::Committed(upto) => Body::Committed { upto: LogIndex(upto) },
            FrameBody::Sleep(Sleep { session, round, upto }) => {
                Body::Sleep { session: of(session), round, upto: named(upto)? }
            }
            FrameBody::HeartbeatReply(HeartbeatReply { session, round, fit, full, priority, asleep }) => {
                let priority = u8::try_from(priority).unwrap_or(u8::MAX);
                Body::HeartbeatReply { session: of(session), round, fit, full, priority, asleep }
            }
            FrameBody::SnapshotNeeded(SnapshotNeeded { session, of: reach }) => {
                Body::SnapshotNeeded { session: of(session), of: named(reach)? }
            }
            FrameBody::TimeoutNow(Empty {}) => Body::TimeoutNow,
            FrameBody::Removed(at) => Body::Removed { at: LogIndex(at) },
            FrameBody::StaleTerm(Empty {}) => Body::StaleTerm,
            FrameBody::ReadIndex(read) => Body::ReadIndex { read: ReadId(read) },
            FrameBody::ReadIndexReply(ReadReply { read, index }) => {
                Body::ReadIndexReply { read: ReadId(read), index: LogIndex(index) }
            }
            FrameBody::ReadIndexRefused(read) => Body::ReadIndexRefused { read: ReadId(read) },
            FrameBody::Propose(Payloads { payloads }) => {
                if !payloads.iter().all(|payload| payload::proposal_id(payload).is_some()) {
                    return Err(BadFrame::BadPayload);
                }
                return Ok((group, Self::Propose { term, payloads }));
            }
            FrameBody::Change(request) => {
                let request = ChangeRequest::decode(request).map_err(|_| BadFrame::BadPayload)?;
                return Ok((group, Self::Change { term, request }));
            }
            FrameBody::ChangeRefused(Refusal { sequence, why, node }) => {
                let why = decode_refusal(why, NodeId(node)).ok_or(BadFrame::UnknownKind)?;
                return Ok((group, Self::ChangeRefused { sequence, why }));
            }
            FrameBody::Alive(Empty {}) => return Ok((group, Self::Alive)),
            FrameBody::ProposalsRefused(Sequences { sequences }) => {
                return Ok((group, Self::ProposalsRefused { term, sequences }));
            }
        };
        Ok((group, Self::Raft { message: Message { term, body }, payloads }))
    }
}

/// Why a frame was refused.
#[derive(Debug, PartialEq)]
pub enum BadFrame {
    /// It is not protobuf, or a field has the wrong type.
    NotProtobuf(prost::DecodeError),
    /// It has no body, or one that this version does not know.
    UnknownKind,
    /// It lacks the name of an entry.
    NoLogId,
    /// Its runs of terms do not rise, or reach beyond what can be counted.
    BadRuns,
    /// It has not one payload for each entry.
    PayloadsDoNotMatch,
    /// A payload is none.
    BadPayload,
}

impl std::fmt::Display for BadFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotProtobuf(error) => write!(f, "not a frame: {error}"),
            Self::UnknownKind => f.write_str("a frame of a kind that this version does not know"),
            Self::NoLogId => f.write_str("a frame without the name of an entry"),
            Self::BadRuns => f.write_str("runs of terms that do not rise"),
            Self::PayloadsDoNotMatch => f.write_str("not one payload for each entry"),
            Self::BadPayload => f.write_str("a payload that is none"),
        }
    }
}

impl std::error::Error for BadFrame {}

fn of(session: u64) -> Session {
    Session(LogIndex(session))
}

/// The configurations that entries after `after` set, read from their payloads: what is written is what counts.
fn configurations_in(after: LogIndex, entries: &[Bytes]) -> Result<Vec<(LogIndex, Configuration)>, BadFrame> {
    let mut configurations = Vec::new();
    for (n, entry) in entries.iter().enumerate() {
        match payload::decode(entry).map_err(|_| BadFrame::BadPayload)? {
            Payload::Configuration(MembersEntry { members, .. }) => {
                configurations.push((LogIndex(after.0 + n as u64 + 1), members.configuration().clone()));
            }
            Payload::Blank | Payload::Command { .. } | Payload::Withheld => {}
        }
    }
    Ok(configurations)
}

fn encode_refusal(why: ChangeRefused) -> (u32, NodeId) {
    let nobody = NodeId(0);
    match why {
        ChangeRefused::NotLeader { leader } => (1, leader.unwrap_or(nobody)),
        ChangeRefused::TooSoon => (2, nobody),
        ChangeRefused::InProgress => (3, nobody),
        ChangeRefused::Transferring { to } => (4, to),
        ChangeRefused::NotCaughtUp { node } => (5, node),
        ChangeRefused::NoVoters => (6, nobody),
        ChangeRefused::TooManyWitnesses => (7, nobody),
        ChangeRefused::NotAMember { node } => (8, node),
        ChangeRefused::KeepsItsKind { node } => (9, node),
        ChangeRefused::NothingToDo => (10, nobody),
        ChangeRefused::NoSpace => (11, nobody),
    }
}

fn decode_refusal(why: u32, node: NodeId) -> Option<ChangeRefused> {
    Some(match why {
        1 => ChangeRefused::NotLeader { leader: Some(node).filter(|node| node.0 != 0) },
        2 => ChangeRefused::TooSoon,
        3 => ChangeRefused::InProgress,
        4 => ChangeRefused::Transferring { to: node },
        5 => ChangeRefused::NotCaughtUp { node },
        6 => ChangeRefused::NoVoters,
        7 => ChangeRefused::TooManyWitnesses,
        8 => ChangeRefused::NotAMember { node },
        9 => ChangeRefused::KeepsItsKind { node },
        10 => ChangeRefused::NothingToDo,
        11 => ChangeRefused::NoSpace,
        _ => return None,
    })
}

fn encode_body(body: &Body, payloads: &[Bytes]) -> FrameBody {
    let name = |id: LogId| Some(Name { term: id.term.0, index: id.index.0 });
    match body {
        Body::RequestPreVote { last } => FrameBody::RequestPreVote(Last { last: name(*last) }),
        Body::PreVoteGranted => FrameBody::PreVoteGranted(Empty {}),
        Body::PreVoteRefused => FrameBody::PreVoteRefused(Empty {}),
        Body::RequestVote { last, transfer } => {
            FrameBody::RequestVote(Candidacy { last: name(*last), transfer: *transfer })
        }
        Body::VoteGranted => FrameBody::VoteGranted(Empty {}),
        Body::VoteRefused => FrameBody::VoteRefused(Empty {}),
        // The payloads say which configurations are set.
        Body::AppendEntries { session, entries, commit, .. } => FrameBody::AppendEntries(AppendEntries {
            session: session.0.0,
            after: name(entries.after()),
            runs: entries
                .iter()
                .map(|(term, first, last)| Run { term: term.0, count: last.since(first.prev()) })
                .collect(),
            commit: commit.0,
            payloads: payloads.to_vec(),
        }),
        Body::EntriesAccepted { session, upto } => {
            FrameBody::EntriesAccepted(Accepted { session: session.0.0, upto: upto.0 })
        }
        Body::EntriesRefused { session, missing, hint } => {
            FrameBody::EntriesRefused(Refused { session: session.0.0, missing: name(*missing), hint: name(*hint) })
        }
        Body::Heartbeat { session, round, commit } => {
            FrameBody::Heartbeat(Heartbeat { session: session.0.0, round: *round, commit: commit.0 })
        }
        Body::Committed { upto } => FrameBody::Committed(upto.0),
        Body::Sleep { session, round, upto } => {
            FrameBody::Sleep(Sleep { session: session.0.0, round: *round, upto: name(*upto) })
        }
        Body::HeartbeatReply { session, round, fit, full, priority, asleep } => {
            FrameBody::HeartbeatReply(HeartbeatReply {
                session: session.0.0,
                round: *round,
                fit: *fit,
                full: *full,
                priority: u32::from(*priority),
                asleep: *asleep,
            })
        }
        Body::SnapshotNeeded { session, of } => {
            FrameBody::SnapshotNeeded(SnapshotNeeded { session: session.0.0, of: name(*of) })
        }
        Body::TimeoutNow => FrameBody::TimeoutNow(Empty {}),
        Body::Removed { at } => FrameBody::Removed(at.0),
        Body::StaleTerm => FrameBody::StaleTerm(Empty {}),
        Body::ReadIndex { read } => FrameBody::ReadIndex(read.0),
        Body::ReadIndexReply { read, index } => FrameBody::ReadIndexReply(ReadReply { read: read.0, index: index.0 }),
        Body::ReadIndexRefused { read } => FrameBody::ReadIndexRefused(read.0),
    }
}

fn named(name: Option<Name>) -> Result<LogId, BadFrame> {
    let Name { term, index } = name.ok_or(BadFrame::NoLogId)?;
    Ok(LogId::new(term, index))
}

/// Builds the runs, refusing what `TermRuns` would not hold.
fn decode_runs(after: LogId, runs: &[Run]) -> Result<TermRuns, BadFrame> {
    let mut decoded = TermRuns::empty(after);
    for &Run { term, count } in runs {
        let fits = decoded.last().0.checked_add(count).is_some_and(|last| last < u64::MAX);
        if count == 0 || !fits || Term(term) < decoded.last_id().term {
            return Err(BadFrame::BadRuns);
        }
        decoded.push(Term(term), count);
    }
    Ok(decoded)
}

#[derive(Clone, PartialEq, prost::Message)]
struct Frame {
    #[prost(uint64, tag = "1")]
    group: u64,
    #[prost(uint64, tag = "2")]
    term: u64,
    #[prost(
        oneof = "FrameBody",
        tags = "3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27"
    )]
    body: Option<FrameBody>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum FrameBody {
    #[prost(message, tag = "3")]
    AppendEntries(AppendEntries),
    #[prost(message, tag = "4")]
    EntriesAccepted(Accepted),
    #[prost(message, tag = "5")]
    Heartbeat(Heartbeat),
    #[prost(message, tag = "6")]
    HeartbeatReply(HeartbeatReply),
    #[prost(message, tag = "7")]
    Propose(Payloads),
    #[prost(uint64, tag = "8")]
    ReadIndex(u64),
    #[prost(message, tag = "9")]
    ReadIndexReply(ReadReply),
    #[prost(uint64, tag = "10")]
    ReadIndexRefused(u64),
    #[prost(message, tag = "11")]
    EntriesRefused(Refused),
    #[prost(message, tag = "12")]
    RequestPreVote(Last),
    #[prost(message, tag = "13")]
    PreVoteGranted(Empty),
    #[prost(message, tag = "14")]
    PreVoteRefused(Empty),
    #[prost(message, tag = "15")]
    RequestVote(Candidacy),
    #[prost(message, tag = "16")]
    VoteGranted(Empty),
    #[prost(message, tag = "17")]
    VoteRefused(Empty),
    #[prost(message, tag = "18")]
    StaleTerm(Empty),
    #[prost(message, tag = "19")]
    SnapshotNeeded(SnapshotNeeded),
    #[prost(message, tag = "20")]
    TimeoutNow(Empty),
    #[prost(uint64, tag = "21")]
    Removed(u64),
    #[prost(bytes = "bytes", tag = "22")]
    Change(Bytes),
    #[prost(message, tag = "23")]
    ChangeRefused(Refusal),
    #[prost(uint64, tag = "24")]
    Committed(u64),
    #[prost(message, tag = "25")]
    ProposalsRefused(Sequences),
    #[prost(message, tag = "26")]
    Sleep(Sleep),
    #[prost(message, tag = "27")]
    Alive(Empty),
}

#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Name {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    index: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Last {
    #[prost(message, optional, tag = "1")]
    last: Option<Name>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Candidacy {
    #[prost(message, optional, tag = "1")]
    last: Option<Name>,
    #[prost(bool, tag = "2")]
    transfer: bool,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Accepted {
    #[prost(uint64, tag = "1")]
    upto: u64,
    #[prost(uint64, tag = "2")]
    session: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct HeartbeatReply {
    #[prost(uint64, tag = "1")]
    round: u64,
    #[prost(uint64, tag = "2")]
    session: u64,
    #[prost(bool, tag = "3")]
    fit: bool,
    #[prost(uint32, tag = "4")]
    priority: u32,
    #[prost(bool, tag = "5")]
    full: bool,
    #[prost(bool, tag = "6")]
    asleep: bool,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Sleep {
    #[prost(uint64, tag = "1")]
    round: u64,
    #[prost(message, optional, tag = "2")]
    upto: Option<Name>,
    #[prost(uint64, tag = "3")]
    session: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct SnapshotNeeded {
    #[prost(message, optional, tag = "1")]
    of: Option<Name>,
    #[prost(uint64, tag = "2")]
    session: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Refusal {
    #[prost(uint64, tag = "1")]
    sequence: u64,
    #[prost(uint32, tag = "2")]
    why: u32,
    #[prost(fixed64, tag = "3")]
    node: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Run {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    count: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AppendEntries {
    #[prost(message, optional, tag = "1")]
    after: Option<Name>,
    #[prost(message, repeated, tag = "2")]
    runs: Vec<Run>,
    #[prost(uint64, tag = "3")]
    commit: u64,
    #[prost(bytes = "bytes", repeated, tag = "4")]
    payloads: Vec<Bytes>,
    #[prost(uint64, tag = "5")]
    session: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Refused {
    #[prost(message, optional, tag = "1")]
    missing: Option<Name>,
    #[prost(message, optional, tag = "2")]
    hint: Option<Name>,
    #[prost(uint64, tag = "3")]
    session: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Heartbeat {
    #[prost(uint64, tag = "1")]
    round: u64,
    #[prost(uint64, tag = "2")]
    commit: u64,
    #[prost(uint64, tag = "3")]
    session: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct ReadReply {
    #[prost(uint64, tag = "1")]
    read: u64,
    #[prost(uint64, tag = "2")]
    index: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Payloads {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    payloads: Vec<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Sequences {
    #[prost(uint64, repeated, tag = "1")]
    sequences: Vec<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::members::{MemberChange, Members};
    use crate::proposal_id::ProposalId;

    const REFUSALS: [ChangeRefused; 12] = [
        ChangeRefused::NotLeader { leader: None },
        ChangeRefused::NotLeader { leader: Some(NodeId(1)) },
        ChangeRefused::TooSoon,
        ChangeRefused::InProgress,
        ChangeRefused::Transferring { to: NodeId(2) },
        ChangeRefused::NotCaughtUp { node: NodeId(3) },
        ChangeRefused::NoVoters,
        ChangeRefused::TooManyWitnesses,
        ChangeRefused::NotAMember { node: NodeId(4) },
        ChangeRefused::KeepsItsKind { node: NodeId(5) },
        ChangeRefused::NothingToDo,
        ChangeRefused::NoSpace,
    ];

    fn every_parcel() -> Vec<PeerMessage> {
        let last = LogId::new(3, 9);
        let mut entries = TermRuns::one_term(LogId::new(1, 4), Term(2), 1);
        entries.push(Term(3), 1);
        let command = payload::command(ProposalId { origin: 7, sequence: 8 }, 1, |out| out.extend_from_slice(b"x"));
        let bodies = [
            Body::RequestPreVote { last },
            Body::PreVoteGranted,
            Body::PreVoteRefused,
            Body::RequestVote { last: LogId::ZERO, transfer: true },
            Body::VoteGranted,
            Body::VoteRefused,
            Body::AppendEntries {
                session: of(3),
                entries: TermRuns::empty(last),
                configurations: Vec::new(),
                commit: LogIndex(2),
            },
            Body::EntriesAccepted { session: of(3), upto: LogIndex(5) },
            Body::EntriesRefused { session: of(3), missing: last, hint: LogId::ZERO },
            Body::Heartbeat { session: of(3), round: 4, commit: LogIndex(3) },
            Body::Committed { upto: LogIndex(3) },
            Body::HeartbeatReply { session: of(3), round: 4, fit: true, full: true, priority: 2, asleep: true },
            Body::Sleep { session: of(3), round: 4, upto: last },
            Body::SnapshotNeeded { session: of(3), of: last },
            Body::TimeoutNow,
            Body::Removed { at: LogIndex(8) },
            Body::StaleTerm,
            Body::ReadIndex { read: ReadId(1) },
            Body::ReadIndexReply { read: ReadId(1), index: LogIndex(2) },
            Body::ReadIndexRefused { read: ReadId(1) },
        ];
        let raft = |body, payloads| PeerMessage::Raft { message: Message { term: Term(6), body }, payloads };
        let mut messages: Vec<PeerMessage> = bodies.into_iter().map(|body| raft(body, Vec::new())).collect();
        let members = Members::of_voters([(NodeId(1), "a:1".to_owned())]);
        let configurations = vec![(LogIndex(6), members.configuration().clone())];
        let set = payload::configuration(&MembersEntry { members, ..MembersEntry::default() });
        let append = Body::AppendEntries { session: of(0), entries, configurations, commit: LogIndex(2) };
        messages.push(raft(append, vec![command.clone(), set]));
        messages.push(PeerMessage::Propose { term: Term(6), payloads: vec![command] });
        let id = ProposalId { origin: 1, sequence: 2 };
        let changes = vec![MemberChange::Remove(NodeId(4))];
        messages
            .push(PeerMessage::Change { term: Term(6), request: ChangeRequest { id, changes, context: Bytes::new() } });
        messages.push(PeerMessage::ProposalsRefused { term: Term(6), sequences: vec![1, 1 << 40] });
        messages.extend(REFUSALS.map(|why| PeerMessage::ChangeRefused { sequence: 5, why }));
        messages
    }

    #[test]
    fn what_is_sent_is_received() {
        for message in every_parcel() {
            let frame = message.encode(GroupId(11));
            assert_eq!(PeerMessage::decode(frame), Ok((GroupId(11), message)));
        }
    }

    #[test]
    fn damaged_frames_are_refused_or_another_valid_one() {
        for message in every_parcel() {
            let frame = message.encode(GroupId(11)).to_vec();
            for at in 0..frame.len() {
                for bit in 0..8 {
                    let mut damaged = frame.clone();
                    damaged[at] ^= 1 << bit;
                    drop(PeerMessage::decode(damaged.into()));
                }
                drop(PeerMessage::decode(frame[..at].to_vec().into()));
            }
        }
    }

    #[test]
    fn entries_without_payloads_are_refused() {
        let entries = TermRuns::one_term(LogId::ZERO, Term(1), u64::MAX - 1);
        let (session, configurations, commit) = (of(0), Vec::new(), LogIndex(0));
        let message = Message { term: Term(1), body: Body::AppendEntries { session, entries, configurations, commit } };
        let frame = PeerMessage::Raft { message, payloads: Vec::new() }.encode(GroupId(1));
        assert_eq!(PeerMessage::decode(frame), Err(BadFrame::PayloadsDoNotMatch));
    }
}
