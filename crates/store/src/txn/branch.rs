//! What a transaction reads: which branch it takes, whether that can be done, and the answers to its ranges.
//!
//! Owns etcd's rules of comparing. Must not change anything.

use vlot_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::response_op::Response;
use vlot_proto::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RangeResponse, RequestOp, ResponseOp, TxnRequest, TxnResponse,
};

use super::header;
use crate::check;
use crate::figures::Ops;
use crate::mvcc::key_index::Version;
use crate::mvcc::key_range::KeyRange;
use crate::mvcc::reader::Reader;
use crate::refusal::Refusal;

/// Which branch a transaction takes, and which those nested in the branch take, in order.
pub(super) struct Path {
    pub succeeded: bool,
    pub nested: Vec<Path>,
    /// How many comparisons that took, those of nested transactions included.
    pub compared: u64,
}

impl Path {
    pub fn branch<'a>(&self, request: &'a TxnRequest) -> &'a [RequestOp] {
        if self.succeeded { &request.success } else { &request.failure }
    }

    /// How many ranges are on it.
    pub fn ranges(&self, request: &TxnRequest) -> u64 {
        self.count(request, |op| matches!(op, Request::RequestRange(_)))
    }

    /// How many puts on it need what was there before.
    pub fn previous_needed(&self, request: &TxnRequest) -> u64 {
        self.count(request, |op| matches!(op, Request::RequestPut(put) if put.ignore_value || put.ignore_lease))
    }

    /// The puts on it.
    pub fn puts<'a>(&self, request: &'a TxnRequest) -> Vec<&'a PutRequest> {
        let mut nested = self.nested.iter();
        let mut puts = Vec::new();
        for op in self.branch(request) {
            match &op.request {
                Some(Request::RequestPut(put)) => puts.push(put),
                Some(Request::RequestTxn(txn)) => puts.extend(nested.next().map_or(Vec::new(), |path| path.puts(txn))),
                _ => {}
            }
        }
        puts
    }

    fn count(&self, request: &TxnRequest, is_meant: impl Fn(&Request) -> bool + Copy) -> u64 {
        let mut nested = self.nested.iter();
        let counts = self.branch(request).iter().map(|op| match &op.request {
            Some(Request::RequestTxn(txn)) => nested.next().map_or(0, |path| path.count(txn, is_meant)),
            Some(op) => u64::from(is_meant(op)),
            None => 0,
        });
        counts.sum()
    }
}

impl Reader<'_> {
    /// Answers a transaction that has only ranges in it (see [`check::is_read_only`]).
    pub fn read_txn(&self, request: &TxnRequest) -> Result<TxnResponse, Refusal> {
        let path = self.reading_path(request)?;
        let mut response = self.read_branch(request, &path)?;
        response.header = header(self.revision());
        Ok(response)
    }

    /// Which branches a transaction takes that has only ranges in it, and that can be done.
    pub(super) fn reading_path(&self, request: &TxnRequest) -> Result<Path, Refusal> {
        check::check_txn(request, usize::MAX)?;
        if !check::is_read_only(request) {
            return Err(Refusal::DuplicateKey);
        }
        let path = self.path(request)?;
        self.check_branch(request, &path, &|_| Err(Refusal::DuplicateKey))?;
        self.measures.count(Ops { ranges: path.compared + path.ranges(request), ..Ops::default() });
        Ok(path)
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
    pub(super) fn path(&self, request: &TxnRequest) -> Result<Path, Refusal> {
        let mut path = Path { succeeded: true, nested: Vec::new(), compared: 0 };
        for compare in &request.compare {
            path.compared += 1;
            if !self.holds(compare)? {
                path.succeeded = false;
                break;
            }
        }
        for op in path.branch(request) {
            if let Some(Request::RequestTxn(nested)) = &op.request {
                let nested = self.path(nested)?;
                path.compared += nested.compared;
                path.nested.push(nested);
            }
        }
        Ok(path)
    }

    fn holds(&self, compare: &Compare) -> Result<bool, Refusal> {
        let range = KeyRange::of(&compare.key, &compare.range_end);
        let mut any = false;
        for (_, version) in self.index().range_at(&range, self.revision()) {
            any = true;
            if !self.version_holds(compare, version)? {
                return Ok(false);
            }
        }
        // A missing key has no value to compare with; its numbers are zero.
        Ok(any || (compare.target != CompareTarget::Value as i32 && compare_numbers(compare, &Numbers::default())))
    }

    fn version_holds(&self, compare: &Compare, version: &Version) -> Result<bool, Refusal> {
        if compare.target == CompareTarget::Value as i32 {
            let expected = match &compare.target_union {
                Some(TargetUnion::Value(value)) => &value[..],
                _ => &[],
            };
            return self.with_value(version, |value| result_holds(compare, value.cmp(expected)));
        }
        let Version { count, create, lease, .. } = *version;
        Ok(compare_numbers(compare, &Numbers { version: count, create, modified: version.revision().main, lease }))
    }

    /// Whether a put that keeps what its key has finds the key.
    pub(super) fn check_kept(&self, put: &PutRequest) -> Result<(), Refusal> {
        let is_kept = put.ignore_value || put.ignore_lease;
        if is_kept && self.index().newest(&put.key).is_none() { Err(Refusal::KeyNotFound) } else { Ok(()) }
    }

    /// Whether everything in the branch can be done. `check_lease` says it of the leases that puts name. What is wrong with
    /// a put is found before what is wrong with a range, wherever they stand, as in etcd.
    pub(super) fn check_branch(
        &self,
        request: &TxnRequest,
        path: &Path,
        check_lease: &dyn Fn(&PutRequest) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        check_ops(request, path, &|op| match op {
            Request::RequestPut(put) => self.check_kept(put).and_then(|()| check_lease(put)),
            _ => Ok(()),
        })?;
        check_ops(request, path, &|op| match op {
            Request::RequestRange(range) => self.check_txn_revision(range.revision),
            _ => Ok(()),
        })
    }

    /// As etcd does, and unlike a range outside: a negative revision is one that was compacted.
    fn check_txn_revision(&self, revision: i64) -> Result<(), Refusal> {
        if revision != 0 && revision < self.compacted() {
            return Err(Refusal::Compacted { oldest: self.compacted() });
        }
        self.readable(revision).map(|_| ())
    }

    pub(super) fn range_in_txn(&self, request: &RangeRequest, newest: i64) -> Result<RangeResponse, Refusal> {
        let at = if request.revision > 0 { request.revision } else { newest };
        self.range_at(request, at, newest)
    }
}

/// What a key has that can be compared as a number.
#[derive(Default)]
struct Numbers {
    version: i64,
    create: i64,
    modified: i64,
    lease: i64,
}

/// Asks of each operation of a branch, and of those of the branches nested in it, in order.
fn check_ops(
    request: &TxnRequest,
    path: &Path,
    check: &dyn Fn(&Request) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let mut nested = path.nested.iter();
    for op in path.branch(request) {
        match &op.request {
            Some(Request::RequestTxn(txn)) => {
                let path = nested.next().expect("the path has one place for each nested transaction");
                check_ops(txn, path, check)?;
            }
            Some(request) => check(request)?,
            None => {}
        }
    }
    Ok(())
}

fn compare_numbers(compare: &Compare, found: &Numbers) -> bool {
    let expected = |found: Option<i64>| found.unwrap_or(0);
    let union = compare.target_union.as_ref();
    let ordering = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => found.version.cmp(&expected(union.and_then(|union| match union {
            TargetUnion::Version(version) => Some(*version),
            _ => None,
        }))),
        Ok(CompareTarget::Create) => found.create.cmp(&expected(union.and_then(|union| match union {
            TargetUnion::CreateRevision(create) => Some(*create),
            _ => None,
        }))),
        Ok(CompareTarget::Mod) => found.modified.cmp(&expected(union.and_then(|union| match union {
            TargetUnion::ModRevision(modified) => Some(*modified),
            _ => None,
        }))),
        Ok(CompareTarget::Lease) => found.lease.cmp(&expected(union.and_then(|union| match union {
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
