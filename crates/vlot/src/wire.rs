//! What nodes say to each other, as bytes: one frame for each message (`proto/peer.proto`).
//!
//! Owns the translation between frames and [`Parcel`]s. A frame is decoded once, here, into types that cannot be wrong;
//! what cannot be such a type is refused. Must not know what a message leads to.

use bytes::Bytes;
use prost::Message as _;
use vlot_raft::id::{GroupId, LogId, LogIndex, Term};
use vlot_raft::message::{Body, Message, ReadId};
use vlot_raft::term_runs::TermRuns;

use crate::net::Lane;
use crate::payload;

/// What one replica sends another.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Parcel {
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
}

impl Parcel {
    /// The lane on which it goes: what is long must not delay what is urgent.
    #[must_use]
    pub fn lane(&self) -> Lane {
        match self {
            Self::Raft { payloads, .. } if payloads.is_empty() => Lane::Control,
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
            FrameBody::AskPreVote(Last { last }) => Body::AskPreVote { last: named(last)? },
            FrameBody::PreVoteGranted(Empty {}) => Body::PreVoteGranted,
            FrameBody::PreVoteRefused(Empty {}) => Body::PreVoteRefused,
            FrameBody::RequestVote(Last { last }) => Body::RequestVote { last: named(last)? },
            FrameBody::VoteGranted(Empty {}) => Body::VoteGranted,
            FrameBody::VoteRefused(Empty {}) => Body::VoteRefused,
            FrameBody::AppendEntries(AppendEntries { after, runs, commit, payloads: entries }) => {
                let runs = decode_runs(named(after)?, &runs)?;
                if runs.last().since(runs.after().index) != entries.len() as u64 {
                    return Err(BadFrame::PayloadsDoNotMatch);
                }
                if !entries.iter().all(|entry| payload::decode(entry).is_ok()) {
                    return Err(BadFrame::BadPayload);
                }
                payloads = entries;
                Body::AppendEntries { entries: runs, commit: LogIndex(commit) }
            }
            FrameBody::EntriesAccepted(upto) => Body::EntriesAccepted { upto: LogIndex(upto) },
            FrameBody::EntriesRefused(Refused { missing, hint }) => {
                Body::EntriesRefused { missing: named(missing)?, hint: named(hint)? }
            }
            FrameBody::Heartbeat(Heartbeat { round, commit }) => Body::Heartbeat { round, commit: LogIndex(commit) },
            FrameBody::HeartbeatReply(round) => Body::HeartbeatReply { round },
            FrameBody::TermIsOver(Empty {}) => Body::TermIsOver,
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

fn encode_body(body: &Body, payloads: &[Bytes]) -> FrameBody {
    let name = |id: LogId| Some(Name { term: id.term.0, index: id.index.0 });
    match body {
        Body::AskPreVote { last } => FrameBody::AskPreVote(Last { last: name(*last) }),
        Body::PreVoteGranted => FrameBody::PreVoteGranted(Empty {}),
        Body::PreVoteRefused => FrameBody::PreVoteRefused(Empty {}),
        Body::RequestVote { last } => FrameBody::RequestVote(Last { last: name(*last) }),
        Body::VoteGranted => FrameBody::VoteGranted(Empty {}),
        Body::VoteRefused => FrameBody::VoteRefused(Empty {}),
        Body::AppendEntries { entries, commit } => FrameBody::AppendEntries(AppendEntries {
            after: name(entries.after()),
            runs: entries
                .iter()
                .map(|(term, first, last)| Run { term: term.0, count: last.since(first.prev()) })
                .collect(),
            commit: commit.0,
            payloads: payloads.to_vec(),
        }),
        Body::EntriesAccepted { upto } => FrameBody::EntriesAccepted(upto.0),
        Body::EntriesRefused { missing, hint } => {
            FrameBody::EntriesRefused(Refused { missing: name(*missing), hint: name(*hint) })
        }
        Body::Heartbeat { round, commit } => FrameBody::Heartbeat(Heartbeat { round: *round, commit: commit.0 }),
        Body::HeartbeatReply { round } => FrameBody::HeartbeatReply(*round),
        Body::TermIsOver => FrameBody::TermIsOver(Empty {}),
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
    #[prost(oneof = "FrameBody", tags = "3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18")]
    body: Option<FrameBody>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum FrameBody {
    #[prost(message, tag = "3")]
    AppendEntries(AppendEntries),
    #[prost(uint64, tag = "4")]
    EntriesAccepted(u64),
    #[prost(message, tag = "5")]
    Heartbeat(Heartbeat),
    #[prost(uint64, tag = "6")]
    HeartbeatReply(u64),
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
    AskPreVote(Last),
    #[prost(message, tag = "13")]
    PreVoteGranted(Empty),
    #[prost(message, tag = "14")]
    PreVoteRefused(Empty),
    #[prost(message, tag = "15")]
    RequestVote(Last),
    #[prost(message, tag = "16")]
    VoteGranted(Empty),
    #[prost(message, tag = "17")]
    VoteRefused(Empty),
    #[prost(message, tag = "18")]
    TermIsOver(Empty),
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
}

#[derive(Clone, PartialEq, prost::Message)]
struct Refused {
    #[prost(message, optional, tag = "1")]
    missing: Option<Name>,
    #[prost(message, optional, tag = "2")]
    hint: Option<Name>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Heartbeat {
    #[prost(uint64, tag = "1")]
    round: u64,
    #[prost(uint64, tag = "2")]
    commit: u64,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::ProposalId;

    fn every_parcel() -> Vec<Parcel> {
        let last = LogId::new(3, 9);
        let mut entries = TermRuns::one_term(LogId::new(1, 4), Term(2), 1);
        entries.push(Term(3), 1);
        let command = payload::command(ProposalId { origin: 7, sequence: 8 }, 1, |out| out.extend_from_slice(b"x"));
        let bodies = [
            Body::AskPreVote { last },
            Body::PreVoteGranted,
            Body::PreVoteRefused,
            Body::RequestVote { last: LogId::ZERO },
            Body::VoteGranted,
            Body::VoteRefused,
            Body::AppendEntries { entries: TermRuns::empty(last), commit: LogIndex(2) },
            Body::EntriesAccepted { upto: LogIndex(5) },
            Body::EntriesRefused { missing: last, hint: LogId::ZERO },
            Body::Heartbeat { round: 4, commit: LogIndex(3) },
            Body::HeartbeatReply { round: 4 },
            Body::TermIsOver,
            Body::ReadIndex { read: ReadId(1) },
            Body::ReadIndexReply { read: ReadId(1), index: LogIndex(2) },
            Body::ReadIndexRefused { read: ReadId(1) },
        ];
        let raft = |body, payloads| Parcel::Raft { message: Message { term: Term(6), body }, payloads };
        let mut parcels: Vec<Parcel> = bodies.into_iter().map(|body| raft(body, Vec::new())).collect();
        let append = Body::AppendEntries { entries, commit: LogIndex(2) };
        parcels.push(raft(append, vec![payload::blank(), command.clone()]));
        parcels.push(Parcel::Propose { term: Term(6), payloads: vec![command] });
        parcels
    }

    #[test]
    fn what_is_sent_is_received() {
        for parcel in every_parcel() {
            let frame = parcel.encode(GroupId(11));
            assert_eq!(Parcel::decode(frame), Ok((GroupId(11), parcel)));
        }
    }

    #[test]
    fn damaged_frames_are_refused_or_another_valid_one() {
        for parcel in every_parcel() {
            let frame = parcel.encode(GroupId(11)).to_vec();
            for at in 0..frame.len() {
                for bit in 0..8 {
                    let mut damaged = frame.clone();
                    damaged[at] ^= 1 << bit;
                    drop(Parcel::decode(damaged.into()));
                }
                drop(Parcel::decode(frame[..at].to_vec().into()));
            }
        }
    }

    #[test]
    fn entries_without_payloads_are_refused() {
        let entries = TermRuns::one_term(LogId::ZERO, Term(1), u64::MAX - 1);
        let message = Message { term: Term(1), body: Body::AppendEntries { entries, commit: LogIndex(0) } };
        let frame = Parcel::Raft { message, payloads: Vec::new() }.encode(GroupId(1));
        assert_eq!(Parcel::decode(frame), Err(BadFrame::PayloadsDoNotMatch));
    }
}
