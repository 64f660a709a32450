//! Answers that may be long: worked off in slices, as the client takes them, and never in memory as a whole.
//!
//! Owns what counts as short, and how long a slice is. What is in an answer is the store's business.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use vlot_proto::etcdserverpb::response_op::Response;
use vlot_proto::etcdserverpb::{DeleteRangeResponse, ResponseOp, TxnResponse};
use vlot_proto::mvccpb::KeyValue;
use vlot_store::answer::RangeAnswer;
use vlot_store::refusal::Refusal;
use vlot_store::txn_answer::TxnAnswer;
use vlot_store::view::View;

use super::Services;
use crate::conversation::{NotTaken, Slices};
use crate::status::{Code, Status};
use crate::telemetry::metrics::{Metrics, Offence};
use crate::worker_pool::WorkerPool;

/// What is answered at once, on the thread that serves all clients, looks at no more keys and has no more bytes.
pub(super) const SHORT_KEYS_MAX: usize = 256;
pub(super) const SHORT_BYTES_MAX: usize = 64 * 1024;
/// How much is made at a time.
const SLICE_BYTES: usize = 64 * 1024;
/// The longest message that clients take; etcd sends none that is longer.
const MESSAGE_BYTES_MAX: usize = i32::MAX as usize;

/// What a unary call is answered.
pub(crate) enum Reply {
    /// A message.
    Message(Bytes),
    /// A message that is yet to be made.
    Long(Box<LongAnswer>),
}

/// A message that is made while it is sent, from a view of the store.
pub(crate) struct LongAnswer {
    answer: Answer,
    length: u32,
    workers: WorkerPool,
    metrics: Arc<Metrics>,
}

/// What the store answers in slices.
pub(super) enum Answer {
    Range(Box<RangeAnswer>),
    Txn(TxnAnswer),
}

impl Answer {
    fn encoded_len(&self) -> usize {
        match self {
            Answer::Range(answer) => answer.encoded_len(),
            Answer::Txn(answer) => answer.encoded_len(),
        }
    }

    fn next_slice(&mut self) -> Result<Option<Bytes>, Refusal> {
        match self {
            Answer::Range(answer) => answer.next_slice(SLICE_BYTES),
            Answer::Txn(answer) => answer.next_slice(SLICE_BYTES),
        }
    }

    /// All of it at once, if it is short.
    fn if_short(&mut self) -> Result<Option<Bytes>, Refusal> {
        if self.encoded_len() > SLICE_BYTES {
            return Ok(None);
        }
        let mut whole = BytesMut::with_capacity(self.encoded_len());
        while let Some(slice) = self.next_slice()? {
            whole.extend_from_slice(&slice);
        }
        Ok(Some(whole.freeze()))
    }
}

impl Services {
    /// Begins an answer that may be long. To find out how long it is may take a while, and goes to another thread too; what turns out
    /// to be short, as of few values that are on disk, comes back from there whole.
    pub(super) async fn begin_answer(
        &self,
        view: View,
        begin: impl FnOnce(&View) -> Result<Answer, Refusal> + Send + 'static,
    ) -> Result<Reply, Status> {
        let begin = move || {
            let mut answer = begin(&view)?;
            Ok::<_, Refusal>((answer.if_short()?, answer))
        };
        let (short, answer) = self.readers.run(begin).await??;
        if let Some(whole) = short {
            return Ok(Reply::Message(whole));
        }
        let length = answer.encoded_len();
        if length > MESSAGE_BYTES_MAX {
            let text = format!("grpc: trying to send message larger than max ({length} vs. {MESSAGE_BYTES_MAX})");
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        let (workers, metrics) = (self.readers.clone(), self.metrics.clone());
        Ok(Reply::Long(Box::new(LongAnswer { answer, length: length as u32, workers, metrics })))
    }
}

impl LongAnswer {
    /// How many bytes all slices have together.
    pub(crate) fn length(&self) -> u32 {
        self.length
    }

    /// Makes slice after slice, each once there is room for it, until all are sent or the client is gone. One that stops to
    /// take them is given up, because the store's past is held for it.
    pub(crate) async fn send(mut self, slices: Slices) {
        loop {
            let room = match slices.room().await {
                Ok(room) => room,
                Err(NotTaken::Gone) => return,
                Err(NotTaken::TooSlow) => return self.metrics.offences.count(Offence::SlowReader),
            };
            let made = self.workers.run(move || (self.answer.next_slice(), self.answer)).await;
            let (slice, answer) = match made {
                Ok(made) => made,
                Err(status) => return room.end(status),
            };
            self.answer = answer;
            match slice {
                Ok(Some(slice)) => room.fill(slice),
                Ok(None) => return room.end(Status::OK),
                // The message stays incomplete, and the client sees why.
                Err(refusal) => return room.end(refusal.into()),
            }
        }
    }
}

/// Whether it takes long to encode what a deletion has given back.
pub(super) fn is_long_deletion(response: &DeleteRangeResponse) -> bool {
    Effort::default().is_beyond(&response.prev_kvs)
}

/// Whether it takes long to encode what a transaction has answered.
pub(super) fn is_long_txn(response: &TxnResponse) -> bool {
    let mut effort = Effort::default();
    response.responses.iter().any(|op| effort.is_beyond_with(op))
}

/// The keys and bytes of a response, as far as it has been looked at.
#[derive(Default)]
struct Effort {
    keys: usize,
    bytes: usize,
}

impl Effort {
    fn is_beyond(&mut self, found: &[KeyValue]) -> bool {
        found.iter().any(|kv| {
            self.keys += 1;
            self.bytes += kv.key.len() + kv.value.len();
            self.keys > SHORT_KEYS_MAX || self.bytes > SHORT_BYTES_MAX
        })
    }

    fn is_beyond_with(&mut self, op: &ResponseOp) -> bool {
        match &op.response {
            Some(Response::ResponseRange(range)) => self.is_beyond(&range.kvs),
            Some(Response::ResponseDeleteRange(deletion)) => self.is_beyond(&deletion.prev_kvs),
            Some(Response::ResponseTxn(txn)) => txn.responses.iter().any(|op| self.is_beyond_with(op)),
            Some(Response::ResponsePut(put)) => self.is_beyond(put.prev_kv.as_slice()),
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_long_by_its_keys_or_by_its_bytes_over_all_operations() {
        let kv = |bytes: usize| KeyValue { value: vec![0; bytes].into(), ..KeyValue::default() };
        let deletion = |prev_kvs| DeleteRangeResponse { prev_kvs, ..DeleteRangeResponse::default() };
        assert!(!is_long_deletion(&deletion(vec![kv(10); SHORT_KEYS_MAX])));
        assert!(is_long_deletion(&deletion(vec![kv(10); SHORT_KEYS_MAX + 1])));
        assert!(is_long_deletion(&deletion(vec![kv(SHORT_BYTES_MAX), kv(1)])));
        let half = || deletion(vec![kv(10); SHORT_KEYS_MAX / 2 + 1]);
        let op = |response| ResponseOp { response: Some(response) };
        let txn = |responses| TxnResponse { responses, ..TxnResponse::default() };
        let one = || op(Response::ResponseDeleteRange(half()));
        assert!(!is_long_txn(&txn(vec![one()])));
        assert!(is_long_txn(&txn(vec![one(), op(Response::ResponseTxn(txn(vec![one()])))])));
    }
}
