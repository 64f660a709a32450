//! The queue behind locks and elections: keys `name/LEASE`, the oldest of which owns what the queue is for.
//!
//! Each waits for the one before it alone, so that one that leaves wakes one.

use bytes::Bytes;
use vlot_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use vlot_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::response_op::Response;
use vlot_proto::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse, WatchCreateRequest,
};
use vlot_proto::mvccpb::event::EventType;

use crate::client::{Repeat, path};
use crate::ctl::Exit;
use crate::ctl::flags::{Settings, exit_of};
use crate::ctl::kv::keys::KeyRange;
use crate::ctl::kv::watcher::{Watcher, cancel_reason};

/// What all keys of a queue begin with.
pub fn prefix(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// A key in a queue.
pub struct Place {
    pub key: Bytes,
    prefix: Bytes,
    /// When the key was created.
    pub revision: i64,
    /// The revision of the store as the place was taken.
    pub taken_at: i64,
}

impl Place {
    /// Puts a key with this value at the end of the queue.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn take(settings: &Settings, name: &[u8], lease: i64, value: Bytes) -> Result<Place, Exit> {
        let prefix = prefix(name);
        let key = Bytes::from([&prefix[..], format!("{lease:x}").as_bytes()].concat());
        let put = PutRequest { key: key.clone(), value, lease, ..PutRequest::default() };
        let get = RangeRequest { key: key.clone(), ..RangeRequest::default() };
        let request = TxnRequest {
            compare: vec![created_at(&key, 0)],
            success: vec![operation(Request::RequestPut(put))],
            failure: vec![operation(Request::RequestRange(get))],
        };
        let reply: TxnResponse = settings.call(path::TXN, &request, Repeat::IfUnsent).await?;
        let taken_at = reply.header.map_or(0, |header| header.revision);
        let held = match reply.responses.first().and_then(|op| op.response.as_ref()) {
            Some(Response::ResponseRange(range)) => range.kvs.first(),
            _ => None,
        };
        let revision = held.map_or(taken_at, |kv| kv.create_revision);
        Ok(Place { key, prefix, revision, taken_at })
    }

    /// Waits until no key of the queue is older. Says whether there was anything to wait for.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn come_first(&self, settings: &Settings) -> Result<bool, Exit> {
        let mut waited = false;
        loop {
            let range = KeyRange::with_prefix(self.prefix.clone());
            let youngest_before = RangeRequest {
                key: range.key,
                range_end: range.end,
                limit: 1,
                sort_order: SortOrder::Descend.into(),
                sort_target: SortTarget::Create.into(),
                max_create_revision: self.revision - 1,
                ..RangeRequest::default()
            };
            let reply: RangeResponse = settings.call(path::RANGE, &youngest_before, Repeat::Freely).await?;
            let Some(before) = reply.kvs.first() else { return Ok(waited) };
            waited = true;
            let revision = reply.header.map_or(0, |header| header.revision);
            wait_for_deletion(settings, before.key.clone(), revision).await?;
        }
    }

    /// The own key as it is; no key if the lease has ended.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn look(&self, settings: &Settings) -> Result<RangeResponse, Exit> {
        let request = RangeRequest { key: self.key.clone(), ..RangeRequest::default() };
        settings.call(path::RANGE, &request, Repeat::Freely).await
    }
}

/// Holds if the key was created at this revision; for 0, if it does not exist.
pub fn created_at(key: &Bytes, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
        ..Compare::default()
    }
}

/// An operation of a transaction.
pub fn operation(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

async fn wait_for_deletion(settings: &Settings, key: Bytes, revision: i64) -> Result<(), Exit> {
    let create = WatchCreateRequest { key, start_revision: revision, ..WatchCreateRequest::default() };
    let mut watcher = Watcher::new(settings.client(), create);
    loop {
        let reply = watcher.next().await.map_err(|failure| exit_of(&failure))?;
        if reply.canceled && reply.compact_revision != 0 {
            // History is gone meanwhile; the caller looks at the queue again.
            return Ok(());
        }
        if reply.canceled {
            return Err(Exit::error(cancel_reason(&reply)));
        }
        if reply.events.iter().any(|event| event.r#type() == EventType::Delete) {
            return Ok(());
        }
    }
}
