//! What nodes say to each other, as bytes: one frame for each message (`proto/peer.proto`).
//!
//! Owns the translation between frames and [`PeerMessage`]s. A frame is decoded once, here, into types that cannot be wrong;
//! what cannot be such a type is refused. Must not know what a message leads to.

mod frame;

use bytes::Bytes;
use prost::Message as _;

use vlot_raft::configuration::{ChangeRefused, Configuration};
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId, Term};
use vlot_raft::message::{Body, Message, ReadId, Session};
use vlot_raft::term_runs::TermRuns;

use self::frame::{
    Accepted, AppendEntries, Candidacy, Empty, Frame, FrameBody, Heartbeat, HeartbeatReply, Last, Name, Payloads,
    ReadReply, Refusal, Refused, Run, Sequences, Sleep, SnapshotNeeded,
};
use crate::lane::Lane;
use crate::members::ChangeRequest;
use crate::payload::{self, Kind, Payload};

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
    /// the node that made them knows when they can no longer come true.
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
    pub fn encode(self, group: GroupId) -> Bytes {
        let (term, body) = match self {
            Self::Raft { message, payloads } => (message.term, encode_body(&message.body, payloads)),
            Self::Propose { term, payloads } => (term, FrameBody::Propose(Payloads { payloads })),
            Self::Change { term, request } => (term, FrameBody::Change(request.encode())),
            Self::ChangeRefused { sequence, why } => {
                let (why, node) = encode_refusal(why);
                (Term::ZERO, FrameBody::ChangeRefused(Refusal { sequence, why, node: node.0 }))
            }
            Self::Alive => (Term::ZERO, FrameBody::Alive(Empty {})),
            Self::ProposalsRefused { term, sequences } => (term, FrameBody::ProposalsRefused(Sequences { sequences })),
        };
        Frame { group: group.0, term: term.0, body: Some(body) }.bytes()
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
                let is_proposal =
                    |payload: &Bytes| matches!(payload::kind(payload), Some(Kind::Command(_) | Kind::Commands(_)));
                if !payloads.iter().all(is_proposal) {
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
        match payload::kind(entry).ok_or(BadFrame::BadPayload)? {
            Kind::Configuration => {
                let Ok(Payload::Configuration(set)) = payload::decode(entry.clone()) else {
                    return Err(BadFrame::BadPayload);
                };
                configurations.push((LogIndex(after.0 + n as u64 + 1), set.members.configuration().clone()));
            }
            Kind::Blank | Kind::Command(_) | Kind::Commands(_) | Kind::Withheld | Kind::Time(_) => {}
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
        ChangeRefused::Barred { node } => (12, node),
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
        12 => ChangeRefused::Barred { node },
        _ => return None,
    })
}

fn encode_body(body: &Body, payloads: Vec<Bytes>) -> FrameBody {
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
            payloads,
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

#[cfg(test)]
mod tests;
