//! Places in a queue: keys under a name, each on a lease. The oldest place comes first.
//!
//! Owns the recipe that etcd's clients follow too, key by key: `docs/etcd-compatibility.md` says which. Must not know what
//! the first in the queue may do.

use bytes::Bytes;
use prost::Message;
use vlot_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use vlot_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::response_op::Response;
use vlot_proto::etcdserverpb::watch_create_request::FilterType;
use vlot_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp, ResponseHeader, TxnRequest,
    TxnResponse, WatchCreateRequest,
};
use vlot_proto::mvccpb::KeyValue;
use vlot_store::auth::Asked;
use vlot_store::command::Tag;
use vlot_store::store::Applied;

use crate::service::{Caller, Services};
use crate::status::{Code, Status};
use crate::store_machine::Proposal;

/// How long a lease lives that a caller has not brought, in seconds; as in etcd. Nobody keeps it alive.
const OWN_LEASE_TTL: i64 = 60;

/// A place in a queue.
#[derive(Clone, Debug)]
pub(in crate::service) struct Place {
    pub(in crate::service) key: Bytes,
    /// The revision that made the key: the order of the queue.
    pub(in crate::service) created: i64,
    pub(in crate::service) lease: i64,
}

/// What comes of taking a place.
pub(in crate::service) struct Taken {
    pub(in crate::service) place: Place,
    pub(in crate::service) header: ResponseHeader,
    /// The value of the place, if the lease had it before.
    pub(in crate::service) found: Option<Bytes>,
}

/// All places of a queue: what a name and a slash begin.
pub(in crate::service) fn places_of(name: &[u8]) -> RangeRequest {
    let bounded = |last| Bytes::from([name, &[last]].concat());
    RangeRequest { key: bounded(b'/'), range_end: bounded(b'/' + 1), ..Default::default() }
}

impl Services {
    /// Takes a place in the queue of a name, with a lease of its own if none is brought.
    pub(in crate::service) async fn take_place(
        &self,
        caller: &Caller,
        name: &[u8],
        lease: i64,
        value: Bytes,
    ) -> Result<Taken, Status> {
        let lease = match lease {
            0 => self.grant(caller, LeaseGrantRequest { id: 0, ttl: OWN_LEASE_TTL }).await.map_err(unknown)?.id,
            brought => brought,
        };
        self.require_space()?;
        let key = Bytes::from([name, b"/", format!("{lease:x}").as_bytes()].concat());
        let put = PutRequest { key: key.clone(), value, lease, ..Default::default() };
        let get = RangeRequest { key: key.clone(), ..Default::default() };
        let txn = TxnRequest {
            compare: vec![created_at(&key, 0)],
            success: vec![op(Request::RequestPut(put))],
            failure: vec![op(Request::RequestRange(get))],
        };
        let (header, response) = self.propose_txn(caller, &txn).await?;
        let found = response.responses.into_iter().find_map(|op| match op.response {
            Some(Response::ResponseRange(range)) => range.kvs.into_iter().next(),
            _ => None,
        });
        let created = found.as_ref().map_or(header.revision, |found| found.create_revision);
        Ok(Taken { place: Place { key, created, lease }, header, found: found.map(|found| found.value) })
    }

    /// Waits until all places before this one are free. The place is given back unless the caller keeps it.
    pub(in crate::service) async fn wait_for_turn(
        &self,
        caller: &Caller,
        name: &[u8],
        place: &Place,
    ) -> Result<GivesBack<'_>, Status> {
        let waiting = GivesBack { services: self, caller: caller.clone(), place: Some(place.clone()) };
        let before = RangeRequest {
            max_create_revision: place.created - 1,
            sort_order: SortOrder::Descend.into(),
            sort_target: SortTarget::Create.into(),
            limit: 1,
            ..places_of(name)
        };
        while let (revision, Some(before)) = self.first_of(caller, &before).await? {
            let create = WatchCreateRequest {
                key: before.key,
                start_revision: revision + 1,
                filters: vec![FilterType::Noput.into()],
                ..Default::default()
            };
            let mut changes = self.changes(caller, &create).await.map_err(unknown)?;
            changes.next().await.map_err(unknown)?;
        }
        Ok(waiting)
    }

    /// Whether a place is still there, as the cluster knows it: its lease may have ended meanwhile.
    pub(in crate::service) async fn has_place(&self, caller: &Caller, place: &Place) -> Result<(i64, bool), Status> {
        self.store_group.barrier().await?;
        let range = RangeRequest { key: place.key.clone(), ..Default::default() };
        let (revision, found) = self.first_of(caller, &range).await?;
        Ok((revision, found.is_some_and(|found| found.create_revision == place.created)))
    }

    /// Replaces the value of a place, or does something else to it: only if it is still the same one.
    pub(in crate::service) async fn with_place(
        &self,
        caller: &Caller,
        key: &Bytes,
        created: i64,
        request: Request,
    ) -> Result<(ResponseHeader, bool), Status> {
        let txn =
            TxnRequest { compare: vec![created_at(key, created)], success: vec![op(request)], ..Default::default() };
        let (header, response) = self.propose_txn(caller, &txn).await?;
        Ok((header, response.succeeded))
    }

    /// The first key that a range has on this node, and the newest revision.
    pub(in crate::service) async fn first_of(
        &self,
        caller: &Caller,
        range: &RangeRequest,
    ) -> Result<(i64, Option<KeyValue>), Status> {
        let found = self.store_group.look(|store| {
            caller.may_still(store, Asked::Range(range))?;
            store.range(range).map(|found| (store.revision(), found))
        });
        let found = found.await?;
        let (revision, found) = found.map_err(|refusal| unknown(refusal.into()))?;
        Ok((revision, found.kvs.into_iter().next()))
    }

    async fn propose_txn(&self, caller: &Caller, txn: &TxnRequest) -> Result<(ResponseHeader, TxnResponse), Status> {
        let bytes = Bytes::from(txn.encode_to_vec());
        // The queue may have been long.
        let caller = &caller.renewed(&self.store_group.auth()).map_err(|refusal| unknown(refusal.into()))?;
        let Applied::Txn(response) = self.propose(caller, Tag::Txn, &bytes).await.map_err(unknown)? else {
            return Err(Status::OTHER_ANSWER);
        };
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        Ok((self.header(revision), response))
    }
}

/// Gives a place back when it is dropped: with the call of a client that has gone, say.
pub(in crate::service) struct GivesBack<'s> {
    services: &'s Services,
    caller: Caller,
    place: Option<Place>,
}

impl GivesBack<'_> {
    pub(in crate::service) fn keep(mut self) {
        self.place = None;
    }
}

impl Drop for GivesBack<'_> {
    fn drop(&mut self) {
        let Some(Place { key, created, .. }) = self.place.take() else { return };
        let delete = DeleteRangeRequest { key: key.clone(), ..Default::default() };
        let txn = TxnRequest {
            compare: vec![created_at(&key, created)],
            success: vec![op(Request::RequestDeleteRange(delete))],
            ..Default::default()
        };
        let store_group = self.services.store_group.clone();
        // Who may not do it any more leaves it to the lease.
        let Ok(caller) = self.caller.renewed(&store_group.auth()) else { return };
        let request = Bytes::from(txn.encode_to_vec());
        let proposal = Proposal::Request { asker: caller.asker(), tag: Tag::Txn, request };
        // Nobody waits for it. If it fails, the lease will see to it.
        tokio::spawn(async move { drop(store_group.propose(proposal).await) });
    }
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// Holds for a key that was made at this revision; for one that there is not, if it is zero.
fn created_at(key: &Bytes, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
        ..Default::default()
    }
}

/// etcd's lock and election pass refusals on as text: their codes get lost, and clients go by that.
pub(in crate::service) fn unknown(status: Status) -> Status {
    match status.code {
        Code::NotFound
        | Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::PermissionDenied
        | Code::Unauthenticated => Status { code: Code::Unknown, ..status },
        _ => status,
    }
}
