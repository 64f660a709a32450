//! The frames between nodes as protobuf has them (`proto/peer.proto`). Must not know what a field means.

use bytes::Bytes;

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Frame {
    #[prost(uint64, tag = "1")]
    pub(super) group: u64,
    #[prost(uint64, tag = "2")]
    pub(super) term: u64,
    #[prost(
        oneof = "FrameBody",
        tags = "3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27"
    )]
    pub(super) body: Option<FrameBody>,
}

impl Frame {
    pub(super) fn bytes(&self) -> Bytes {
        prost::Message::encode_to_vec(self).into()
    }
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum FrameBody {
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
pub(super) struct Empty {}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Name {
    #[prost(uint64, tag = "1")]
    pub(super) term: u64,
    #[prost(uint64, tag = "2")]
    pub(super) index: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Last {
    #[prost(message, optional, tag = "1")]
    pub(super) last: Option<Name>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Candidacy {
    #[prost(message, optional, tag = "1")]
    pub(super) last: Option<Name>,
    #[prost(bool, tag = "2")]
    pub(super) transfer: bool,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Accepted {
    #[prost(uint64, tag = "1")]
    pub(super) upto: u64,
    #[prost(uint64, tag = "2")]
    pub(super) session: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct HeartbeatReply {
    #[prost(uint64, tag = "1")]
    pub(super) round: u64,
    #[prost(uint64, tag = "2")]
    pub(super) session: u64,
    #[prost(bool, tag = "3")]
    pub(super) fit: bool,
    #[prost(uint32, tag = "4")]
    pub(super) priority: u32,
    #[prost(bool, tag = "5")]
    pub(super) full: bool,
    #[prost(bool, tag = "6")]
    pub(super) asleep: bool,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Sleep {
    #[prost(uint64, tag = "1")]
    pub(super) round: u64,
    #[prost(message, optional, tag = "2")]
    pub(super) upto: Option<Name>,
    #[prost(uint64, tag = "3")]
    pub(super) session: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct SnapshotNeeded {
    #[prost(message, optional, tag = "1")]
    pub(super) of: Option<Name>,
    #[prost(uint64, tag = "2")]
    pub(super) session: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Refusal {
    #[prost(uint64, tag = "1")]
    pub(super) sequence: u64,
    #[prost(uint32, tag = "2")]
    pub(super) why: u32,
    #[prost(fixed64, tag = "3")]
    pub(super) node: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Run {
    #[prost(uint64, tag = "1")]
    pub(super) term: u64,
    #[prost(uint64, tag = "2")]
    pub(super) count: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct AppendEntries {
    #[prost(message, optional, tag = "1")]
    pub(super) after: Option<Name>,
    #[prost(message, repeated, tag = "2")]
    pub(super) runs: Vec<Run>,
    #[prost(uint64, tag = "3")]
    pub(super) commit: u64,
    #[prost(bytes = "bytes", repeated, tag = "4")]
    pub(super) payloads: Vec<Bytes>,
    #[prost(uint64, tag = "5")]
    pub(super) session: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Refused {
    #[prost(message, optional, tag = "1")]
    pub(super) missing: Option<Name>,
    #[prost(message, optional, tag = "2")]
    pub(super) hint: Option<Name>,
    #[prost(uint64, tag = "3")]
    pub(super) session: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct Heartbeat {
    #[prost(uint64, tag = "1")]
    pub(super) round: u64,
    #[prost(uint64, tag = "2")]
    pub(super) commit: u64,
    #[prost(uint64, tag = "3")]
    pub(super) session: u64,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct ReadReply {
    #[prost(uint64, tag = "1")]
    pub(super) read: u64,
    #[prost(uint64, tag = "2")]
    pub(super) index: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Payloads {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub(super) payloads: Vec<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Sequences {
    #[prost(uint64, repeated, tag = "1")]
    pub(super) sequences: Vec<u64>,
}
