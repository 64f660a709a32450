//! What can be said of a request without looking at the store.
//!
//! Owns the rules of a sound request. The edge asks before it proposes; the store asks again when it applies, so that
//! nothing that reaches a log can confuse it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;
use vlot_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};

use crate::mvcc::key_range::KeyRange;
use crate::refusal::Refusal;

/// Checks a put before it is proposed.
///
/// # Errors
/// The fact that makes it no sound request.
pub fn check_put(request: &PutRequest) -> Result<(), Refusal> {
    check_key(&request.key)?;
    if request.ignore_value && !request.value.is_empty() {
        return Err(Refusal::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Refusal::LeaseProvided);
    }
    Ok(())
}

/// Checks a range before it is served.
///
/// # Errors
/// The fact that makes it no sound request.
pub fn check_range(request: &RangeRequest) -> Result<(), Refusal> {
    check_key(&request.key)?;
    if SortOrder::try_from(request.sort_order).is_err() || SortTarget::try_from(request.sort_target).is_err() {
        return Err(Refusal::InvalidSortOption);
    }
    Ok(())
}

/// Checks a deletion before it is proposed.
///
/// # Errors
/// The fact that makes it no sound request.
pub fn check_delete(request: &DeleteRangeRequest) -> Result<(), Refusal> {
    check_key(&request.key)
}

/// Checks a transaction before it is proposed or served, nested ones too. `ops_max` bounds each of its lists; a nested
/// transaction has what the longest list around it leaves.
///
/// # Errors
/// The fact that makes it no sound request.
pub fn check_txn(request: &TxnRequest, ops_max: usize) -> Result<(), Refusal> {
    check_lists(request, ops_max)?;
    changes(&request.success)?;
    changes(&request.failure)?;
    Ok(())
}

/// Whether a transaction, nested ones included, has nothing but ranges: such a one is served as a read.
#[must_use]
pub fn is_read_only(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).all(|op| match &op.request {
        Some(Request::RequestRange(_)) => true,
        Some(Request::RequestTxn(nested)) => is_read_only(nested),
        _ => false,
    })
}

/// Whether a transaction, nested ones included, may put something.
#[must_use]
pub fn has_put(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).any(|op| match &op.request {
        Some(Request::RequestPut(_)) => true,
        Some(Request::RequestTxn(nested)) => has_put(nested),
        _ => false,
    })
}

fn check_key(key: &[u8]) -> Result<(), Refusal> {
    if key.is_empty() { Err(Refusal::EmptyKey) } else { Ok(()) }
}

fn check_lists(request: &TxnRequest, ops_max: usize) -> Result<(), Refusal> {
    let longest = request.compare.len().max(request.success.len()).max(request.failure.len());
    let left = ops_max.checked_sub(longest).ok_or(Refusal::TooManyOps)?;
    request.compare.iter().try_for_each(|compare| check_key(&compare.key))?;
    request.success.iter().chain(&request.failure).try_for_each(|op| match &op.request {
        Some(Request::RequestRange(range)) => check_range(range),
        Some(Request::RequestPut(put)) => check_put(put),
        Some(Request::RequestDeleteRange(delete)) => check_delete(delete),
        Some(Request::RequestTxn(nested)) => check_lists(nested, left),
        None => Err(Refusal::KeyNotFound),
    })
}

/// The keys that operations may change.
#[derive(Default)]
struct Changes {
    put: BTreeSet<Bytes>,
    /// Start to end of ranges that neither touch nor overlap; no end is from the start on.
    deleted: BTreeMap<Bytes, Option<Bytes>>,
}

/// What a list of operations changes. No two of them may change the same key, except that deletions may overlap.
fn changes(ops: &[RequestOp]) -> Result<Changes, Refusal> {
    let mut all = Changes::default();
    for op in ops {
        let one = match &op.request {
            Some(Request::RequestPut(put)) => {
                Changes { put: BTreeSet::from([put.key.clone()]), deleted: BTreeMap::new() }
            }
            Some(Request::RequestDeleteRange(delete)) => {
                let mut one = Changes::default();
                one.delete(KeyRange::of(&delete.key, &delete.range_end));
                one
            }
            // Only one of the two lists is carried out, so that they may change the same keys.
            Some(Request::RequestTxn(nested)) => {
                let mut either = changes(&nested.success)?;
                either.unite(changes(&nested.failure)?);
                either
            }
            _ => continue,
        };
        if all.conflicts_with(&one) {
            return Err(Refusal::DuplicateKey);
        }
        all.unite(one);
    }
    Ok(all)
}

impl Changes {
    fn delete(&mut self, range: KeyRange) {
        if range.is_empty() {
            return;
        }
        let (mut start, mut end) = match range {
            KeyRange::Single(key) => {
                let mut after = key.to_vec();
                after.push(0);
                (key, Some(Bytes::from(after)))
            }
            KeyRange::Span { start, end } => (start, Some(end)),
            KeyRange::From { start } => (start, None),
        };
        // Take in each range that starts before this one ends and ends after this one starts.
        loop {
            let upto = end.as_ref().map_or(Bound::Unbounded, |end| Bound::Included(end.clone()));
            let before = self.deleted.range((Bound::Unbounded, upto)).next_back();
            let Some((other, other_end)) = before.map(|(start, end)| (start.clone(), end.clone())) else { break };
            if other_end.as_ref().is_some_and(|other_end| *other_end < start) {
                break;
            }
            self.deleted.remove(&other);
            start = start.min(other);
            end = end.zip(other_end).map(|(left, right)| left.max(right));
        }
        self.deleted.insert(start, end);
    }

    fn deletes(&self, key: &[u8]) -> bool {
        let before = self.deleted.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back();
        before.is_some_and(|(_, end)| end.as_ref().is_none_or(|end| key < &end[..]))
    }

    fn puts_within(&self, start: &Bytes, end: Option<&Bytes>) -> bool {
        let first = self.put.range::<Bytes, _>((Bound::Included(start), Bound::Unbounded)).next();
        first.is_some_and(|key| end.is_none_or(|end| key < end))
    }

    fn conflicts_with(&self, other: &Self) -> bool {
        other.put.iter().any(|key| self.put.contains(key) || self.deletes(key))
            || other.deleted.iter().any(|(start, end)| self.puts_within(start, end.as_ref()))
    }

    fn unite(&mut self, other: Self) {
        self.put.extend(other.put);
        for (start, end) in other.deleted {
            self.delete(match end {
                Some(end) => KeyRange::Span { start, end },
                None => KeyRange::From { start },
            });
        }
    }
}
