//! What commands do to keys: puts, deletions, and transactions of both.
//!
//! Owns the rule that a command changes all or nothing: whatever can be refused is refused before the first change.

use bytes::Bytes;
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::response_op::Response;
use vlot_proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, ResponseHeader, ResponseOp, TxnRequest,
    TxnResponse,
};

use crate::check;
use crate::figures::Ops;
use crate::mvcc::history::{Event, Written};
use crate::mvcc::key_index::Version;
use crate::mvcc::key_range::KeyRange;
use crate::mvcc::reader::Moment;
use crate::mvcc::revision::Revision;
use crate::refusal::Refusal;
use crate::store::Store;

pub mod answer;
mod branch;

use branch::Path;

/// The changes of one command.
#[derive(Debug)]
pub(crate) struct Change {
    /// The revision before it.
    before: i64,
    next_sub: u32,
    /// What it is made of.
    pub ops: Ops,
}

impl Change {
    pub fn after(store: &Store) -> Self {
        Self { before: store.revision(), next_sub: 0, ops: Ops::default() }
    }

    /// The main revision as the command sees it: a new one as soon as it has changed something.
    pub fn newest(&self) -> i64 {
        self.before + i64::from(self.next_sub > 0)
    }

    pub fn next(&mut self) -> Revision {
        let sub = self.next_sub;
        self.next_sub += 1;
        Revision { main: self.before + 1, sub }
    }
}

pub(crate) fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..Default::default() })
}

impl Store {
    pub(crate) fn apply_put(&mut self, request: &PutRequest) -> Result<PutResponse, Refusal> {
        check::check_put(request)?;
        self.check_lease(request)?;
        self.reader().check_kept(request).inspect_err(|_| self.measures.count(Ops::range()))?;
        if !self.quotas.is_empty() {
            self.check_quotas([request])?;
        }
        let mut change = Change::after(self);
        let response = self.put(request, &mut change)?;
        self.end(&change);
        Ok(response)
    }

    /// Whether there is the lease that a put names.
    fn check_lease(&self, request: &PutRequest) -> Result<(), Refusal> {
        let is_there = request.lease == 0 || self.leases.contains(request.lease);
        if is_there { Ok(()) } else { Err(Refusal::LeaseNotFound) }
    }

    pub(crate) fn apply_delete(&mut self, request: &DeleteRangeRequest) -> Result<DeleteRangeResponse, Refusal> {
        check::check_delete(request)?;
        let mut change = Change::after(self);
        let response = self.delete(request, &mut change)?;
        self.end(&change);
        Ok(response)
    }

    pub(crate) fn apply_txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, Refusal> {
        check::check_txn(request, usize::MAX)?;
        let path = self.reader().path(request)?;
        // As in etcd, what is looked at before anything changes is a request of its own.
        self.measures.count(Ops { ranges: path.compared + path.previous_needed(request), ..Ops::default() });
        self.reader().check_branch(request, &path, &|put| self.check_lease(put))?;
        if !self.quotas.is_empty() {
            self.check_quotas(path.puts(request))?;
        }
        let mut change = Change::after(self);
        let mut response = self.txn(request, &path, &mut change)?;
        self.end(&change);
        response.header = header(self.now.revision);
        Ok(response)
    }

    /// The command is done.
    pub(crate) fn end(&mut self, change: &Change) {
        self.now.revision = change.newest();
        self.measures.count(change.ops);
    }

    fn txn(&mut self, request: &TxnRequest, path: &Path, change: &mut Change) -> Result<TxnResponse, Refusal> {
        let mut nested = path.nested.iter();
        let mut responses = Vec::with_capacity(path.branch(request).len());
        for op in path.branch(request) {
            let response = match &op.request {
                Some(Request::RequestRange(range)) => {
                    change.ops.ranges += 1;
                    Response::ResponseRange(self.reader().range_in_txn(range, change.newest())?)
                }
                Some(Request::RequestPut(put)) => Response::ResponsePut(self.put(put, change)?),
                Some(Request::RequestDeleteRange(delete)) => {
                    Response::ResponseDeleteRange(self.delete(delete, change)?)
                }
                Some(Request::RequestTxn(txn)) => {
                    let path = nested.next().expect("the path has one place for each nested transaction");
                    Response::ResponseTxn(self.txn(txn, path, change)?)
                }
                None => return Err(Refusal::KeyNotFound),
            };
            responses.push(ResponseOp { response: Some(response) });
        }
        Ok(TxnResponse { header: header(0), succeeded: path.succeeded, responses })
    }

    fn put(&mut self, request: &PutRequest, change: &mut Change) -> Result<PutResponse, Refusal> {
        let mut response = PutResponse::default();
        let needs_old = request.prev_kv || request.ignore_value || request.ignore_lease;
        let old = if needs_old { self.now.index.newest(&request.key) } else { None };
        if let (Some(version), true) = (old, request.prev_kv) {
            response.prev_kv = Some(self.reader().key_value(request.key.clone(), version)?);
        }
        let value = match (old, request.ignore_value) {
            (Some(version), true) => self.reader().value(version)?,
            _ => request.value.clone(),
        };
        let lease = match (old, request.ignore_lease) {
            (Some(version), true) => version.lease,
            _ => request.lease,
        };
        let revision = change.next();
        change.ops.puts += 1;
        change.ops.put_bytes += (request.key.len() + value.len()) as u64;
        change.ops.ranges += u64::from(request.prev_kv || request.ignore_value || request.ignore_lease);
        self.write(&request.key, revision, Some((&value, lease)));
        response.header = header(change.newest());
        Ok(response)
    }

    fn delete(&mut self, request: &DeleteRangeRequest, change: &mut Change) -> Result<DeleteRangeResponse, Refusal> {
        let range = KeyRange::of(&request.key, &request.range_end);
        let mut response = DeleteRangeResponse::default();
        let mut doomed = Vec::new();
        let reader = self.reader();
        for (key, version) in reader.index().range_at(&range, i64::MAX) {
            let key = Bytes::copy_from_slice(key);
            if request.prev_kv {
                response.prev_kvs.push(reader.key_value(key.clone(), version)?);
            }
            doomed.push(key);
        }
        for key in &doomed {
            let revision = change.next();
            self.write(key, revision, None);
        }
        change.ops.deletions += 1;
        change.ops.ranges += u64::from(request.prev_kv);
        response.deleted = doomed.len() as i64;
        response.header = header(change.newest());
        Ok(response)
    }

    /// Makes one version of one key, in the index and in history: its value and its lease, or none for a deletion. Key and
    /// value are copied out of the request, whose slices hold on to the whole buffer that they came in.
    pub(crate) fn write(&mut self, key: &[u8], revision: Revision, put: Option<(&[u8], i64)>) {
        let Self { now: Moment { index, recent, .. }, batch, leases, quotas, .. } = self;
        let mut before = None;
        let version = index.push(key, |last| {
            before = last.copied();
            match (put, last) {
                (None, _) => Version::deletion(revision),
                (Some((value, lease)), Some(last)) if !last.is_deletion() => {
                    Version::put(revision, last.create, last.count + 1, lease, value.len())
                }
                (Some((value, lease)), _) => Version::put(revision, revision.main, 1, lease, value.len()),
            }
        });
        leases.attach(key, before.map_or(0, |before| before.lease), version.lease);
        if !quotas.is_empty() {
            quotas.count(key, before, &version);
        }
        let Version { create, count, lease, .. } = version;
        let put = put.map(|(value, _)| Written { create, version: count, lease, value });
        batch.extend(recent.push(&Event { revision, key, put }));
    }
}
