//! `etcdserverpb.KV`: reads after a barrier, writes through the log.

use bytes::Bytes;
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use vlot_proto::txn::{self, BadTxn};
use vlot_store::auth::Asked;
use vlot_store::check;
use vlot_store::command::Tag;
use vlot_store::refusal::Refusal;
use vlot_store::store::{Applied, Store};
use vlot_store::view::View;

use super::answer::{Answer, Reply, SHORT_BYTES_MAX, SHORT_KEYS_MAX, is_long_deletion, is_long_txn};
use super::{Caller, Services, decode, encode, encode_by};
use crate::status::Status;
use crate::store_machine::Proposal;
use crate::telemetry::metrics::Act;

impl Services {
    pub(super) async fn range(&self, caller: &Caller, request: Bytes) -> Result<Reply, Status> {
        let request: RangeRequest = decode(request)?;
        check::check_range(&request)?;
        let span = self.metrics.requests.begin(Act::Range);
        if !request.serializable {
            self.store_group.barrier().await?;
        }
        let reading = self.metrics.ranges.begin(Act::Range);
        let answer = self.look_up(caller, request).await;
        reading.end(answer.is_ok());
        span.end(answer.is_ok());
        answer
    }

    async fn look_up(&self, caller: &Caller, request: RangeRequest) -> Result<Reply, Status> {
        let looked = self.look(|store| {
            caller.may(store, Asked::Range(&request))?;
            store.short_range(&request, SHORT_KEYS_MAX, SHORT_BYTES_MAX)
        });
        match looked.await? {
            Looked::Short(answer) => {
                let mut reply = self.disk_reads.complete(answer).await?;
                self.complete(&mut reply.header);
                Ok(Reply::Message(encode(&reply)))
            }
            Looked::Long(view) => {
                let header = self.header(view.revision());
                let answer = move |view: &View| view.answer(&request, header).map(Box::new).map(Answer::Range);
                Box::pin(self.begin_answer(view, answer)).await
            }
        }
    }

    pub(super) async fn put(&self, caller: &Caller, bytes: Bytes) -> Result<Bytes, Status> {
        let request: PutRequest = decode(bytes.clone())?;
        check::check_put(&request)?;
        self.require_space_for(request.key.len() + request.value.len())?;
        let Applied::Put(mut reply) = self.propose(caller, Tag::Put, &bytes).await? else {
            return Err(Status::OTHER_ANSWER);
        };
        self.complete(&mut reply.header);
        Ok(encode(&reply))
    }

    pub(super) async fn delete_range(&self, caller: &Caller, bytes: Bytes) -> Result<Bytes, Status> {
        let request: DeleteRangeRequest = decode(bytes.clone())?;
        check::check_delete(&request)?;
        let Applied::DeleteRange(mut reply) = self.propose(caller, Tag::DeleteRange, &bytes).await? else {
            return Err(Status::OTHER_ANSWER);
        };
        self.complete(&mut reply.header);
        let is_long = is_long_deletion(&reply);
        encode_by(&self.readers, reply, is_long).await
    }

    pub(super) async fn txn(&self, caller: &Caller, bytes: Bytes) -> Result<Reply, Status> {
        let request = decode_txn(bytes.clone())?;
        check::check_txn(&request, self.txn_ops_max)?;
        if check::is_read_only(&request) {
            let span = self.metrics.requests.begin(Act::ReadonlyTxn);
            let answer = self.read_txn(caller, request).await;
            span.end(answer.is_ok());
            return answer;
        }
        if check::has_put(&request) {
            self.require_space_for(bytes.len())?;
        }
        let Applied::Txn(mut reply) = self.propose(caller, Tag::Txn, &bytes).await? else {
            return Err(Status::OTHER_ANSWER);
        };
        self.complete(&mut reply.header);
        let is_long = is_long_txn(&reply);
        encode_by(&self.readers, reply, is_long).await.map(Reply::Message)
    }

    async fn read_txn(&self, caller: &Caller, request: TxnRequest) -> Result<Reply, Status> {
        if !is_serializable(&request) {
            self.store_group.barrier().await?;
        }
        let looked = self.look(|store| {
            caller.may(store, Asked::Txn(&request))?;
            store.read_txn_small(&request)
        });
        match looked.await? {
            Looked::Short(mut reply) => {
                self.complete(&mut reply.header);
                Ok(Reply::Message(encode(&reply)))
            }
            Looked::Long(view) => {
                let header = self.header(view.revision());
                let answer = move |view: &View| view.answer_txn(&request, header).map(Answer::Txn);
                Box::pin(self.begin_answer(view, answer)).await
            }
        }
    }

    /// The answer if it is short and permitted, else a view to make it from.
    async fn look<R>(&self, short: impl FnOnce(&Store) -> Result<Option<R>, Refusal>) -> Result<Looked<R>, Status> {
        let looked = self.store_group.look(|store| {
            Ok::<_, Refusal>(match short(store)? {
                Some(reply) => Looked::Short(reply),
                None => Looked::Long(store.view()),
            })
        });
        Ok(looked.await??)
    }

    pub(super) async fn compact(&self, caller: &Caller, bytes: Bytes) -> Result<Bytes, Status> {
        let request: CompactionRequest = decode(bytes.clone())?;
        let Applied::Compact(mut reply) = self.propose(caller, Tag::Compact, &bytes).await? else {
            return Err(Status::OTHER_ANSWER);
        };
        if request.physical {
            self.store_group.compacted().await?;
        }
        self.complete(&mut reply.header);
        Ok(encode(&reply))
    }

    /// Replicates the client's bytes as they came and returns what the store made of them.
    pub(super) async fn propose(&self, caller: &Caller, tag: Tag, request: &Bytes) -> Result<Applied, Status> {
        let span = act_of(tag).map(|act| self.metrics.requests.begin(act));
        if request.len() > self.request_bytes_max {
            return Err(Status::REQUEST_TOO_LARGE);
        }
        self.require_name(caller).await?;
        let proposal = Proposal::Request { asker: caller.asker(), tag, request: request.clone() };
        let applied = self.store_group.propose(proposal).await;
        // What the store has refused was agreed on all the same; as in etcd.
        if let Some(span) = span {
            span.end(applied.is_ok());
        }
        Ok(applied??)
    }
}

/// What a look at the store has given.
enum Looked<R> {
    Short(R),
    /// What is asked takes longer than a look may.
    Long(View),
}

/// What a proposal counts as, if it is a client's.
fn act_of(tag: Tag) -> Option<Act> {
    match tag {
        Tag::Put => Some(Act::Put),
        Tag::DeleteRange => Some(Act::DeleteRange),
        Tag::Txn => Some(Act::Txn),
        Tag::Compact => Some(Act::Compaction),
        Tag::LeaseGrant => Some(Act::LeaseGrant),
        Tag::LeaseRevoke => Some(Act::LeaseRevoke),
        _ => None,
    }
}

/// What is nested too deeply to be decoded has more operations than are allowed: each level takes one.
fn decode_txn(bytes: Bytes) -> Result<TxnRequest, Status> {
    txn::decode(bytes).map_err(|bad| match bad {
        BadTxn::TooDeep => Refusal::TooManyOps.into(),
        malformed => Status::malformed(&malformed),
    })
}

/// Whether every range in a transaction says that it may be answered without asking others (etcd's rule).
fn is_serializable(request: &TxnRequest) -> bool {
    operations(request).all(|operation| match &operation.request {
        Some(Request::RequestRange(range)) => range.serializable,
        Some(Request::RequestTxn(nested)) => is_serializable(nested),
        _ => true,
    })
}

fn operations(request: &TxnRequest) -> impl Iterator<Item = &RequestOp> {
    request.success.iter().chain(&request.failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(serializable: bool) -> RequestOp {
        RequestOp { request: Some(Request::RequestRange(RangeRequest { serializable, ..Default::default() })) }
    }

    fn nested(operation: RequestOp) -> RequestOp {
        RequestOp { request: Some(Request::RequestTxn(TxnRequest { failure: vec![operation], ..Default::default() })) }
    }

    fn txn(success: Vec<RequestOp>) -> TxnRequest {
        TxnRequest { success, ..Default::default() }
    }

    #[test]
    fn one_linearizable_range_makes_the_whole_transaction_linearizable() {
        assert!(is_serializable(&txn(vec![range(true), nested(range(true))])));
        assert!(!is_serializable(&txn(vec![range(true), range(false)])));
        assert!(!is_serializable(&txn(vec![range(true), nested(range(false))])));
    }
}
