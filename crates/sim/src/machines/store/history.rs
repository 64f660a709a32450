//! The history of clients: each operation from its invocation to its end.
//!
//! Owns the order of these, which is what "before" means to the checks: two callbacks at the same moment are still one
//! after the other. An operation whose answer does not come has an unknown outcome: it may take effect later, or never.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use vlot_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, ResponseHeader, TxnRequest, TxnResponse, request_op,
};
use vlot_store::check;
use vlot_store::command::Tag;
use vlot_store::refusal::Refusal;
use vlot_store::store::Applied;

use crate::agenda::Moment;

pub use crate::place::Place;
pub use crate::subject::OpId;

/// What a client asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// To write one key.
    Put(PutRequest),
    /// To delete keys.
    DeleteRange(DeleteRangeRequest),
    /// To do one of two lists of operations. One without changes is a read.
    Txn(TxnRequest),
    /// To give up history.
    Compact(CompactionRequest),
    /// To read.
    Range(RangeRequest),
}

/// What is to be done with a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Way {
    /// These bytes are proposed; the answer is what they lead to.
    Propose(Bytes),
    /// The node waits until it has applied all that was committed before, and reads.
    Barrier,
    /// The node reads what it has.
    Local,
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// To a put.
    Put(PutResponse),
    /// To a deletion.
    DeleteRange(DeleteRangeResponse),
    /// To a transaction.
    Txn(TxnResponse),
    /// To a compaction.
    Compact(CompactionResponse),
    /// To a read.
    Range(RangeResponse),
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It was done.
    Done(Reply),
    /// It was decided that it cannot be done. `Unreadable` is no decision, and must be told as `Unknown`.
    Refused(Refusal),
    /// It was certainly not proposed, and never will be.
    NotTaken,
    /// It is not known.
    Unknown,
}

/// One operation of the history.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// What was asked for.
    pub request: Request,
    /// Of which node.
    pub place: Place,
    /// On which connection; those of a process that has died are gone.
    pub connection: u64,
    /// When it began.
    pub invoked: Tick,
    /// When and how it ended; nothing while its client waits.
    pub ended: Option<(Tick, Outcome)>,
}

/// One operation that was written down elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// What was asked for.
    pub request: Request,
    /// Of which node.
    pub place: Place,
    /// On which connection.
    pub connection: u64,
    /// When it began.
    pub invoked: Moment,
    /// When and how it ended.
    pub ended: Option<(Moment, Outcome)>,
}

/// When something happened: the moment, and the order among all that was told to the history.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Tick {
    /// Orders ticks.
    pub order: u64,
    /// For people.
    pub moment: Moment,
}

/// All operations. `OpId(n)` is the `n`th.
#[derive(Clone, Debug, Default)]
pub struct History {
    operations: Vec<Operation>,
    ticks: u64,
}

impl History {
    /// The history of operations in the order in which they began, with their nodes, connections, beginnings and ends. What
    /// happened at the same moment counts as if each had begun before any ended: nothing is concluded from it.
    pub fn of(operations: impl IntoIterator<Item = Record>) -> Self {
        let mut history = Self::default();
        let mut edges = Vec::new();
        for (n, Record { request, place, connection, invoked, ended }) in operations.into_iter().enumerate() {
            edges.push((invoked, Edge::Invoked, n));
            edges.extend(ended.as_ref().map(|(moment, _)| (*moment, Edge::Ended, n)));
            let ended = ended.map(|(moment, outcome)| (Tick { order: 0, moment }, outcome));
            let invoked = Tick { order: 0, moment: invoked };
            history.operations.push(Operation { request, place, connection, invoked, ended });
        }
        edges.sort_unstable();
        for (moment, edge, n) in edges {
            let tick = history.tick(moment);
            match (edge, &mut history.operations[n]) {
                (Edge::Invoked, operation) => operation.invoked = tick,
                (Edge::Ended, Operation { ended: Some((ended, _)), .. }) => *ended = tick,
                (Edge::Ended, _) => {}
            }
        }
        history
    }

    /// The name of the operation that is invoked next.
    #[must_use]
    pub fn next_op(&self) -> OpId {
        OpId(self.operations.len() as u64)
    }

    /// A client asks for something, under the name that [`History::next_op`] gave.
    pub fn invoke(&mut self, now: Moment, place: Place, connection: u64, request: Request) -> OpId {
        let op = self.next_op();
        let invoked = self.tick(now);
        self.operations.push(Operation { request, place, connection, invoked, ended: None });
        op
    }

    /// A client is told. Returns whether it still waited.
    pub fn complete(&mut self, now: Moment, op: OpId, outcome: Outcome) -> bool {
        let ended = self.tick(now);
        let operation = &mut self.operations[op.0 as usize];
        let waited = operation.ended.is_none();
        if waited {
            operation.ended = Some((ended, outcome));
        }
        waited
    }

    /// The operation of this name.
    #[must_use]
    pub fn operation(&self, op: OpId) -> &Operation {
        &self.operations[op.0 as usize]
    }

    /// All operations and their names, in the order in which they began.
    pub fn operations(&self) -> impl Iterator<Item = (OpId, &Operation)> {
        self.operations.iter().enumerate().map(|(n, operation)| (OpId(n as u64), operation))
    }

    /// How many operations there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// The names of all operations in the order in which they were invoked and ended.
    #[must_use]
    pub fn in_order(&self) -> Vec<(Tick, Edge, OpId)> {
        let mut edges = Vec::with_capacity(2 * self.len());
        for (op, operation) in self.operations() {
            edges.push((operation.invoked, Edge::Invoked, op));
            edges.extend(operation.ended.as_ref().map(|(ended, _)| (*ended, Edge::Ended, op)));
        }
        edges.sort_unstable();
        edges
    }

    fn tick(&mut self, moment: Moment) -> Tick {
        self.ticks += 1;
        Tick { order: self.ticks, moment }
    }

    #[cfg(test)]
    pub(crate) fn operation_mut(&mut self, op: OpId) -> &mut Operation {
        &mut self.operations[op.0 as usize]
    }
}

/// The beginning or the end of an operation.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Edge {
    /// It began.
    Invoked,
    /// It ended.
    Ended,
}

/// An unknown field (a fixed64 of the greatest field number) at the end of a command's bytes names its operation. Servers
/// pass over it, as protobuf has it.
const OP_FIELD: [u8; 5] = [0xf9, 0xff, 0xff, 0xff, 0x0f];

impl Request {
    /// What is to be done with it.
    #[must_use]
    pub fn way(&self, op: OpId) -> Way {
        let (tag, request) = match self {
            Self::Put(request) => (Tag::Put, request.encode_to_vec()),
            Self::DeleteRange(request) => (Tag::DeleteRange, request.encode_to_vec()),
            Self::Compact(request) => (Tag::Compact, request.encode_to_vec()),
            Self::Txn(request) if !check::is_read_only(request) => (Tag::Txn, request.encode_to_vec()),
            Self::Txn(_) | Self::Range(_) => return if self.is_serializable() { Way::Local } else { Way::Barrier },
        };
        let mut command = BytesMut::from(&tag.with(&request)[..]);
        command.put_slice(&OP_FIELD);
        command.put_u64_le(op.0);
        Way::Propose(command.freeze())
    }

    /// Whether it goes through the log.
    #[must_use]
    pub fn is_replicated(&self) -> bool {
        match self {
            Self::Put(_) | Self::DeleteRange(_) | Self::Compact(_) => true,
            Self::Txn(request) => !check::is_read_only(request),
            Self::Range(_) => false,
        }
    }

    /// Whether any state that the node has had will do. A transaction is if all its ranges are.
    #[must_use]
    pub fn is_serializable(&self) -> bool {
        match self {
            Self::Range(request) => request.serializable,
            Self::Txn(request) => check::is_read_only(request) && only_serializable(request),
            Self::Put(_) | Self::DeleteRange(_) | Self::Compact(_) => false,
        }
    }
}

fn only_serializable(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).all(|op| match &op.request {
        Some(request_op::Request::RequestRange(range)) => range.serializable,
        Some(request_op::Request::RequestTxn(nested)) => only_serializable(nested),
        _ => false,
    })
}

/// The operation that a command's bytes name, if they name one.
#[must_use]
pub fn op_of(command: &[u8]) -> Option<OpId> {
    let (rest, op) = command.split_last_chunk::<8>()?;
    rest.ends_with(&OP_FIELD).then(|| OpId(u64::from_le_bytes(*op)))
}

impl Reply {
    /// What the header says.
    #[must_use]
    pub fn header(&self) -> Option<&ResponseHeader> {
        match self {
            Self::Put(response) => response.header.as_ref(),
            Self::DeleteRange(response) => response.header.as_ref(),
            Self::Txn(response) => response.header.as_ref(),
            Self::Compact(response) => response.header.as_ref(),
            Self::Range(response) => response.header.as_ref(),
        }
    }

    /// The revision in the header; zero if there is none.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.header().map_or(0, |header| header.revision)
    }
}

impl Outcome {
    /// What came of a command of a client.
    #[must_use]
    pub fn of_applied(applied: &Result<Applied, Refusal>) -> Self {
        match applied {
            Ok(Applied::Put(response)) => Self::Done(Reply::Put(response.clone())),
            Ok(Applied::DeleteRange(response)) => Self::Done(Reply::DeleteRange(response.clone())),
            Ok(Applied::Txn(response)) => Self::Done(Reply::Txn(response.clone())),
            Ok(Applied::Compact(response)) => Self::Done(Reply::Compact(*response)),
            // The model knows no quotas. That all machines refuse the same, and change nothing, is for others to see.
            Err(Refusal::QuotaExceeded(_)) => Self::Unknown,
            Err(refusal) if *refusal != Refusal::Unreadable => Self::Refused(refusal.clone()),
            // No client of this machine has leases, nor sets an attribute, raises an alarm or changes users.
            Ok(
                Applied::SetAttribute
                | Applied::LeaseGrant(_)
                | Applied::LeaseRevoke(_)
                | Applied::LeaseKeepAlive { .. }
                | Applied::LeaseTime { .. }
                | Applied::Alarm(_)
                | Applied::Auth { .. }
                | Applied::SetQuota(_)
                | Applied::RemoveQuota(_),
            )
            | Err(_) => Self::Unknown,
        }
    }

    /// What came of a read.
    #[must_use]
    pub fn of_read(read: Result<Reply, Refusal>) -> Self {
        match read {
            Ok(reply) => Self::Done(reply),
            Err(Refusal::Unreadable) => Self::Unknown,
            Err(refusal) => Self::Refused(refusal),
        }
    }
}
