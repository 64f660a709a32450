//! The frames of the lane for snapshots (`proto/peer.proto`, `SnapshotFrame`).
//!
//! A frame is decoded once, here, into types that cannot be wrong. Must not know what a frame leads to.

use std::fmt;

use bytes::Bytes;
use prost::Message as _;
use vlot_raft::id::{GroupId, LogId};

use crate::snapshot::SnapshotInfo;

/// A frame, of one attempt of a receiver.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Frame {
    pub group: GroupId,
    /// Numbered by the receiver.
    pub attempt: u64,
    pub body: Body,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Body {
    /// The receiver needs a snapshot of this entry or a later one, and has a part of one.
    Ask { reach: LogId, part: Option<SnapshotInfo> },
    /// The sender has this.
    Offer { info: SnapshotInfo },
    /// The receiver has all before `offset`, and takes chunks up to `upto`. The first of a round, which is a later one
    /// after a chunk was missed, says where to go on.
    Pull { round: u64, offset: u64, upto: u64 },
    /// Bytes at an offset.
    Chunk { round: u64, offset: u64, bytes: Bytes },
    /// The receiver ends it.
    End { reason: EndReason },
    /// The sender does not begin it, or does not go on.
    Refuse { reason: EndReason },
}

/// Why a peer has ended a transfer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EndReason {
    /// The receiver has all of it.
    Complete,
    /// The receiver needs it no longer, or cannot take it.
    Cancelled,
    /// The sender has no snapshot that reaches far enough.
    NoSnapshot,
    /// The sender sends as many as it may.
    Busy,
    /// The sender cannot read its file.
    Unreadable,
    /// The other side does not know the attempt: it has been restarted, or has given up.
    UnknownAttempt,
}

/// What is wrong with a frame of the lane for snapshots.
#[derive(Clone, Debug, PartialEq)]
pub enum BadTransferFrame {
    /// It is not protobuf, or a field has the wrong type.
    NotProtobuf(prost::DecodeError),
    /// It has no body, or one that this version does not know.
    UnknownKind,
    /// An offer lacks the name of an entry or of the content.
    NoName,
    /// An offer is of a snapshot that does not reach as far as was asked for, or is too short for one.
    BadOffer {
        /// What is offered.
        info: SnapshotInfo,
        /// What was asked for.
        reach: LogId,
    },
    /// A chunk is empty, or goes beyond what was asked for.
    BadChunk {
        /// Where it begins, in bytes.
        offset: u64,
        /// How long it is, in bytes.
        bytes: u64,
        /// Up to where chunks were asked for, in bytes.
        upto: u64,
    },
    /// A pull is of bytes that were not sent, or that the file does not have.
    BadPull {
        /// Where it begins, in bytes.
        offset: u64,
        /// Where it may begin at most, in bytes.
        offset_max: u64,
    },
}

impl Frame {
    pub(super) fn encode(self) -> Bytes {
        let body = match self.body {
            Body::Ask { reach, part } => {
                BodyFrame::Ask(AskFrame { term: reach.term.0, index: reach.index.0, part: part.map(encode_info) })
            }
            Body::Offer { info } => BodyFrame::Offer(OfferFrame { info: Some(encode_info(info)) }),
            Body::Pull { round, offset, upto } => BodyFrame::Pull(PullFrame { round, offset, upto }),
            Body::Chunk { round, offset, bytes } => BodyFrame::Chunk(ChunkFrame { round, offset, bytes }),
            Body::End { reason } => BodyFrame::End(EndFrame { reason: reason.number() }),
            Body::Refuse { reason } => BodyFrame::Refuse(EndFrame { reason: reason.number() }),
        };
        SnapshotFrame { group: self.group.0, attempt: self.attempt, body: Some(body) }.encode_to_vec().into()
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Self, BadTransferFrame> {
        let SnapshotFrame { group, attempt, body } =
            SnapshotFrame::decode(bytes).map_err(BadTransferFrame::NotProtobuf)?;
        let body = match body.ok_or(BadTransferFrame::UnknownKind)? {
            BodyFrame::Ask(AskFrame { term, index, part }) => {
                Body::Ask { reach: LogId::new(term, index), part: part.map(decode_info) }
            }
            BodyFrame::Offer(OfferFrame { info }) => {
                Body::Offer { info: info.map(decode_info).ok_or(BadTransferFrame::NoName)? }
            }
            BodyFrame::Pull(PullFrame { round, offset, upto }) => Body::Pull { round, offset, upto },
            BodyFrame::Chunk(ChunkFrame { round, offset, bytes }) => Body::Chunk { round, offset, bytes },
            BodyFrame::End(EndFrame { reason }) => Body::End { reason: EndReason::from_number(reason)? },
            BodyFrame::Refuse(EndFrame { reason }) => Body::Refuse { reason: EndReason::from_number(reason)? },
        };
        Ok(Self { group: GroupId(group), attempt, body })
    }
}

impl EndReason {
    const ALL: [Self; 6] =
        [Self::Complete, Self::Cancelled, Self::NoSnapshot, Self::Busy, Self::Unreadable, Self::UnknownAttempt];

    /// Its number in a frame. A number keeps its meaning for ever.
    fn number(self) -> u32 {
        match self {
            Self::Complete => 1,
            Self::Cancelled => 2,
            Self::NoSnapshot => 3,
            Self::Busy => 4,
            Self::Unreadable => 5,
            Self::UnknownAttempt => 6,
        }
    }

    fn from_number(number: u32) -> Result<Self, BadTransferFrame> {
        Self::ALL.into_iter().find(|reason| reason.number() == number).ok_or(BadTransferFrame::UnknownKind)
    }
}

fn encode_info(SnapshotInfo { id, bytes, checksum }: SnapshotInfo) -> InfoFrame {
    InfoFrame { term: id.term.0, index: id.index.0, bytes, checksum }
}

fn decode_info(InfoFrame { term, index, bytes, checksum }: InfoFrame) -> SnapshotInfo {
    SnapshotInfo { id: LogId::new(term, index), bytes, checksum }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Complete => "it is complete",
            Self::Cancelled => "cancelled",
            Self::NoSnapshot => "no snapshot reaches far enough",
            Self::Busy => "busy with other snapshots",
            Self::Unreadable => "cannot read the snapshot",
            Self::UnknownAttempt => "unknown attempt",
        })
    }
}

impl fmt::Display for BadTransferFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotProtobuf(error) => write!(f, "not a frame: {error}"),
            Self::UnknownKind => f.write_str("a frame of a kind that this version does not know"),
            Self::NoName => f.write_str("an offer without the name of a snapshot"),
            Self::BadOffer { info, reach } => write!(f, "{info} was offered where {reach} was asked for"),
            Self::BadChunk { offset, bytes, upto } => {
                write!(f, "{bytes} bytes at {offset} were sent where bytes up to {upto} were asked for")
            }
            Self::BadPull { offset, offset_max } => {
                write!(f, "bytes from {offset} on were asked for, and {offset_max} is the last place that can be")
            }
        }
    }
}

impl std::error::Error for BadTransferFrame {}

#[derive(Clone, PartialEq, prost::Message)]
struct SnapshotFrame {
    #[prost(uint64, tag = "3")]
    group: u64,
    #[prost(uint64, tag = "4")]
    attempt: u64,
    #[prost(oneof = "BodyFrame", tags = "5, 6, 7, 8, 9, 10")]
    body: Option<BodyFrame>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum BodyFrame {
    #[prost(message, tag = "5")]
    Ask(AskFrame),
    #[prost(message, tag = "6")]
    Offer(OfferFrame),
    #[prost(message, tag = "7")]
    Pull(PullFrame),
    #[prost(message, tag = "8")]
    Chunk(ChunkFrame),
    #[prost(message, tag = "9")]
    End(EndFrame),
    #[prost(message, tag = "10")]
    Refuse(EndFrame),
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct InfoFrame {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    index: u64,
    #[prost(uint64, tag = "3")]
    bytes: u64,
    #[prost(fixed32, tag = "4")]
    checksum: u32,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct AskFrame {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    index: u64,
    #[prost(message, optional, tag = "3")]
    part: Option<InfoFrame>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct OfferFrame {
    #[prost(message, optional, tag = "1")]
    info: Option<InfoFrame>,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct PullFrame {
    #[prost(uint64, tag = "1")]
    round: u64,
    #[prost(uint64, tag = "2")]
    offset: u64,
    #[prost(uint64, tag = "3")]
    upto: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ChunkFrame {
    #[prost(uint64, tag = "1")]
    round: u64,
    #[prost(uint64, tag = "2")]
    offset: u64,
    #[prost(bytes = "bytes", tag = "3")]
    bytes: Bytes,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
struct EndFrame {
    #[prost(uint32, tag = "1")]
    reason: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_frame() -> Vec<Frame> {
        let info = SnapshotInfo { id: LogId::new(3, 1 << 40), bytes: u64::MAX, checksum: 0xfedc_ba98 };
        let (reach, bytes) = (LogId::new(2, 9), Bytes::from_static(b"some bytes"));
        let mut bodies = vec![
            Body::Ask { reach, part: None },
            Body::Ask { reach, part: Some(info) },
            Body::Offer { info },
            Body::Pull { round: 2, offset: 1 << 33, upto: 1 << 34 },
            Body::Chunk { round: 2, offset: 1 << 33, bytes },
        ];
        bodies.extend(EndReason::ALL.map(|reason| Body::End { reason }));
        bodies.extend(EndReason::ALL.map(|reason| Body::Refuse { reason }));
        bodies.into_iter().map(|body| Frame { group: GroupId(11), attempt: 1 << 50, body }).collect()
    }

    #[test]
    fn what_is_sent_is_received() {
        for frame in every_frame() {
            assert_eq!(Frame::decode(frame.clone().encode()), Ok(frame));
        }
    }

    #[test]
    fn damaged_frames_are_refused_or_another_valid_one() {
        for frame in every_frame() {
            let frame = frame.encode().to_vec();
            for at in 0..frame.len() {
                for bit in 0..8 {
                    let mut damaged = frame.clone();
                    damaged[at] ^= 1 << bit;
                    drop(Frame::decode(damaged.into()));
                }
                drop(Frame::decode(frame[..at].to_vec().into()));
            }
        }
    }

    /// An ask and a piece of the lane's first protocol.
    #[test]
    fn frames_of_the_first_protocol_are_refused() {
        for old in [&b"\x0a\x04\x08\x01\x10\x02"[..], b"\x12\x04\x08\x01\x10\x02"] {
            assert_eq!(Frame::decode(Bytes::from_static(old)), Err(BadTransferFrame::UnknownKind));
        }
    }
}
