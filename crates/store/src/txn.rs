//! What commands do to keys: puts, deletions, and transactions of both.
//!
//! Owns the rule that a command changes all or nothing: whatever can be refused is refused before the first change.

use bytes::Bytes;
use vlot_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::response_op::Response;
use vlot_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RequestOp, ResponseHeader,
    ResponseOp, TxnRequest, TxnResponse,
};

use crate::check;
use crate::mvcc::history::{self, Event, Written};
use crate::mvcc::key_index::Version;
use crate::mvcc::key_range::KeyRange;
use crate::mvcc::revision::Revision;
use crate::refusal::Refusal;
use crate::residents::Resident;
use crate::store::Store;

/// The changes of one command.
#[derive(Debug)]
pub(crate) struct Change {
    /// The revision before it.
    before: i64,
    next_sub: u32,
}

impl Change {
    fn after(store: &Store) -> Self {
        Self { before: store.revision(), next_sub: 0 }
    }

    /// The main revision as the command sees it: a new one as soon as it has changed something.
    fn newest(&self) -> i64 {
        self.before + i64::from(self.next_sub > 0)
    }

    fn next(&mut self) -> Revision {
        let sub = self.next_sub;
        self.next_sub += 1;
        Revision { main: self.before + 1, sub }
    }
}

/// Which branch a transaction takes, and which those nested in the branch take, in order.
struct Path {
    succeeded: bool,
    nested: Vec<Path>,
}

impl Path {
    fn branch<'a>(&self, request: &'a TxnRequest) -> &'a [RequestOp] {
        if self.succeeded { &request.success } else { &request.failure }
    }
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..Default::default() })
}

impl Store {
    pub(crate) fn apply_put(&mut self, request: &PutRequest) -> Result<PutResponse, Refusal> {
        check::check_put(request)?;
        if request.lease != 0 {
            return Err(Refusal::LeaseNotFound);
        }
        if (request.ignore_value || request.ignore_lease) && self.index.newest(&request.key).is_none() {
            return Err(Refusal::KeyNotFound);
        }
        let mut change = Change::after(self);
        let response = self.put(request, &mut change)?;
        self.revision = change.newest();
        Ok(response)
    }

    pub(crate) fn apply_delete(&mut self, request: &DeleteRangeRequest) -> Result<DeleteRangeResponse, Refusal> {
        check::check_delete(request)?;
        let mut change = Change::after(self);
        let response = self.delete(request, &mut change)?;
        self.revision = change.newest();
        Ok(response)
    }

    pub(crate) fn apply_txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, Refusal> {
        check::check_txn(request, usize::MAX)?;
        let path = self.path(request)?;
        self.check_branch(request, &path)?;
        let mut change = Change::after(self);
        let mut response = self.txn(request, &path, &mut change)?;
        self.revision = change.newest();
        response.header = header(self.revision);
        Ok(response)
    }

    /// Answers a transaction that has only ranges in it (see [`check::is_read_only`]).
    ///
    /// # Errors
    /// As [`Store::range`]; `DuplicateKey` for a transaction that would change something.
    pub fn read_txn(&self, request: &TxnRequest) -> Result<TxnResponse, Refusal> {
        check::check_txn(request, usize::MAX)?;
        if !check::is_read_only(request) {
            return Err(Refusal::DuplicateKey);
        }
        let path = self.path(request)?;
        self.check_branch(request, &path)?;
        let mut response = self.read_branch(request, &path)?;
        response.header = header(self.revision());
        Ok(response)
    }

    fn read_branch(&self, request: &TxnRequest, path: &Path) -> Result<TxnResponse, Refusal> {
        let mut nested = path.nested.iter();
        let mut responses = Vec::with_capacity(path.branch(request).len());
        for op in path.branch(request) {
            responses.push(ResponseOp {
                response: Some(match &op.request {
                    Some(Request::RequestRange(range)) => {
                        Response::ResponseRange(self.range_in_txn(range, self.revision())?)
                    }
                    Some(Request::RequestTxn(txn)) => {
                        let path = nested.next().expect("the path has one place for each nested transaction");
                        Response::ResponseTxn(self.read_branch(txn, path)?)
                    }
                    _ => return Err(Refusal::DuplicateKey),
                }),
            });
        }
        Ok(TxnResponse { header: header(0), succeeded: path.succeeded, responses })
    }

    /// Compares, in nested transactions too, with what is there before anything changes.
    fn path(&self, request: &TxnRequest) -> Result<Path, Refusal> {
        let mut path = Path { succeeded: true, nested: Vec::new() };
        for compare in &request.compare {
            if !self.holds(compare)? {
                path.succeeded = false;
                break;
            }
        }
        for op in path.branch(request) {
            if let Some(Request::RequestTxn(nested)) = &op.request {
                path.nested.push(self.path(nested)?);
            }
        }
        Ok(path)
    }

    fn holds(&self, compare: &Compare) -> Result<bool, Refusal> {
        let range = KeyRange::of(&compare.key, &compare.range_end);
        let mut any = false;
        for (key, version) in self.index.range_at(&range, self.revision()) {
            any = true;
            if !self.version_holds(compare, key, version)? {
                return Ok(false);
            }
        }
        // A missing key has no value to compare with; its numbers are zero.
        Ok(any || (compare.target != CompareTarget::Value as i32 && compare_numbers(compare, 0, 0, 0)))
    }

    fn version_holds(&self, compare: &Compare, key: &Bytes, version: &Version) -> Result<bool, Refusal> {
        if compare.target == CompareTarget::Value as i32 {
            let expected = match &compare.target_union {
                Some(TargetUnion::Value(value)) => &value[..],
                _ => &[],
            };
            return Ok(result_holds(compare, self.value(key, version)?[..].cmp(expected)));
        }
        Ok(compare_numbers(compare, version.count, version.create, version.revision.main))
    }

    /// Whether everything in the branch can be done.
    fn check_branch(&self, request: &TxnRequest, path: &Path) -> Result<(), Refusal> {
        let mut nested = path.nested.iter();
        for op in path.branch(request) {
            match &op.request {
                Some(Request::RequestRange(range)) => self.check_txn_revision(range.revision)?,
                Some(Request::RequestPut(put)) => {
                    if (put.ignore_value || put.ignore_lease) && self.index.newest(&put.key).is_none() {
                        return Err(Refusal::KeyNotFound);
                    }
                    if put.lease != 0 {
                        return Err(Refusal::LeaseNotFound);
                    }
                }
                Some(Request::RequestTxn(txn)) => {
                    let path = nested.next().expect("the path has one place for each nested transaction");
                    self.check_branch(txn, path)?;
                }
                Some(Request::RequestDeleteRange(_)) | None => {}
            }
        }
        Ok(())
    }

    /// As etcd does, and unlike a range outside: a negative revision is one that was compacted.
    fn check_txn_revision(&self, revision: i64) -> Result<(), Refusal> {
        if revision != 0 && revision < self.compacted_revision() {
            return Err(Refusal::Compacted { oldest: self.compacted_revision() });
        }
        self.readable(revision).map(|_| ())
    }

    fn txn(&mut self, request: &TxnRequest, path: &Path, change: &mut Change) -> Result<TxnResponse, Refusal> {
        let mut nested = path.nested.iter();
        let mut responses = Vec::with_capacity(path.branch(request).len());
        for op in path.branch(request) {
            let response = match &op.request {
                Some(Request::RequestRange(range)) => {
                    Response::ResponseRange(self.range_in_txn(range, change.newest())?)
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

    fn range_in_txn(
        &self,
        request: &RangeRequest,
        newest: i64,
    ) -> Result<vlot_proto::etcdserverpb::RangeResponse, Refusal> {
        let at = if request.revision > 0 { request.revision } else { newest };
        self.range_at(request, at, newest)
    }

    fn put(&mut self, request: &PutRequest, change: &mut Change) -> Result<PutResponse, Refusal> {
        let mut response = PutResponse::default();
        let old = if request.prev_kv || request.ignore_value { self.index.newest(&request.key) } else { None };
        if let (Some((key, version)), true) = (old, request.prev_kv) {
            response.prev_kv = Some(self.key_value(key, version, false)?);
        }
        // The request's slices hold on to the whole buffer that they came in, which may be a batch of many requests:
        // what stays is copied, key and value each into an allocation of its own size.
        let value = match (old, request.ignore_value) {
            (Some((key, version)), true) => self.value(key, version)?,
            _ => Bytes::copy_from_slice(&request.value),
        };
        let revision = change.next();
        self.write(&request.key, revision, Some(value));
        response.header = header(change.newest());
        Ok(response)
    }

    fn delete(&mut self, request: &DeleteRangeRequest, change: &mut Change) -> Result<DeleteRangeResponse, Refusal> {
        let range = KeyRange::of(&request.key, &request.range_end);
        let mut response = DeleteRangeResponse::default();
        let mut doomed = Vec::new();
        for (key, version) in self.index.range_at(&range, i64::MAX) {
            if request.prev_kv {
                response.prev_kvs.push(self.key_value(key, version, false)?);
            }
            doomed.push(key.clone());
        }
        for key in &doomed {
            let revision = change.next();
            self.write(key, revision, None);
        }
        response.deleted = doomed.len() as i64;
        response.header = header(change.newest());
        Ok(response)
    }

    /// Makes one version of one key, in the index and in history. No value is a deletion.
    fn write(&mut self, key: &Bytes, revision: Revision, value: Option<Bytes>) {
        let Self { index, residents, resident_bytes, batch, .. } = self;
        let bytes = value.as_ref().map_or(0, Bytes::len);
        let key = index.push(key, |key, last| {
            let (create, count) = match (&value, last) {
                (None, _) => (0, 0),
                (Some(_), Some(last)) if !last.is_deletion() => (last.create, last.count + 1),
                (Some(_), _) => (revision.main, 1),
            };
            let put = value.as_ref().map(|value| Written { create, version: count, lease: 0, value });
            history::push_event(batch, &Event { revision, key, put });
            (Version { revision, create, count, value }, key.clone())
        });
        if self.watchers.any() {
            self.unpublished.push((key.clone(), revision));
        }
        if bytes > 0 {
            *resident_bytes += bytes;
            residents.push(Resident { key, revision });
        }
    }
}

fn compare_numbers(compare: &Compare, version: i64, create: i64, modified: i64) -> bool {
    let expected = |found: Option<i64>| found.unwrap_or(0);
    let union = compare.target_union.as_ref();
    let ordering = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => version.cmp(&expected(union.and_then(|union| match union {
            TargetUnion::Version(version) => Some(*version),
            _ => None,
        }))),
        Ok(CompareTarget::Create) => create.cmp(&expected(union.and_then(|union| match union {
            TargetUnion::CreateRevision(create) => Some(*create),
            _ => None,
        }))),
        Ok(CompareTarget::Mod) => modified.cmp(&expected(union.and_then(|union| match union {
            TargetUnion::ModRevision(modified) => Some(*modified),
            _ => None,
        }))),
        Ok(CompareTarget::Lease) => 0.cmp(&expected(union.and_then(|union| match union {
            TargetUnion::Lease(lease) => Some(*lease),
            _ => None,
        }))),
        // Values are compared elsewhere; what etcd does not know it takes for equal.
        Ok(CompareTarget::Value) | Err(_) => std::cmp::Ordering::Equal,
    };
    result_holds(compare, ordering)
}

fn result_holds(compare: &Compare, ordering: std::cmp::Ordering) -> bool {
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        // etcd lets a result that it does not know pass.
        Err(_) => true,
    }
}
