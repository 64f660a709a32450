//! Reads: ranges at a revision, filtered, sorted and cut as etcd does.
//!
//! Owns the order of that work. Must not change anything.

use std::cmp::Reverse;

use bytes::Bytes;
use vlot_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use vlot_proto::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};
use vlot_proto::mvccpb::KeyValue;

use crate::check;
use crate::mvcc::key_index::Version;
use crate::mvcc::key_range::KeyRange;
use crate::refusal::Refusal;
use crate::store::Store;

type Found<'a> = (&'a Bytes, &'a Version);

impl Store {
    /// Answers a range request from memory, and from the engine for values that are not in memory.
    ///
    /// # Errors
    /// A revision that cannot be read, an unsound request, or `Unreadable`.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Refusal> {
        check::check_range(request)?;
        let at = self.readable(request.revision)?;
        self.range_at(request, at, self.revision())
    }

    /// The revision to read at: zero and negative ones mean the newest.
    pub(crate) fn readable(&self, revision: i64) -> Result<i64, Refusal> {
        let newest = self.revision();
        match revision {
            ..=0 => Ok(newest),
            future if future > newest => Err(Refusal::FutureRevision { newest }),
            old if old < self.compacted_revision() => Err(Refusal::Compacted { oldest: self.compacted_revision() }),
            readable => Ok(readable),
        }
    }

    /// Answers a sound request at a readable revision.
    pub(crate) fn range_at(&self, request: &RangeRequest, at: i64, newest: i64) -> Result<RangeResponse, Refusal> {
        let header = ResponseHeader { revision: newest, ..Default::default() };
        let mut response = RangeResponse { header: Some(header), ..Default::default() };
        if request.range_end.is_empty() && !has_filter(request) {
            let found = self.index.at(&request.key, at);
            response.count = i64::from(found.is_some());
            if let (Some((key, version)), false) = (found, request.count_only) {
                response.kvs.push(self.key_value(key, version, request.keys_only)?);
            }
            return Ok(response);
        }
        let range = KeyRange::of(&request.key, &request.range_end);
        if request.count_only {
            response.count = self.index.range_at(&range, at).count() as i64;
            return Ok(response);
        }

        let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        let (target, descending) = sorting(request);
        let in_key_order = target == SortTarget::Key && !descending && !has_filter(request);
        let mut all = self.index.range_at(&range, at);
        let mut found: Vec<Found<'_>> = Vec::new();
        if in_key_order {
            found.extend(all.by_ref().take(limit));
            let cut_off = all.count();
            response.more = cut_off > 0;
            response.count = (found.len() + cut_off) as i64;
        } else {
            found.extend(all);
            response.count = found.len() as i64;
            found.retain(|(_, version)| passes(request, version));
            self.sort(&mut found, target, descending)?;
            response.more = found.len() > limit;
            found.truncate(limit);
        }
        response.kvs.reserve_exact(found.len());
        for (key, version) in found {
            response.kvs.push(self.key_value(key, version, request.keys_only)?);
        }
        Ok(response)
    }

    /// The version as clients see it.
    pub(crate) fn key_value(&self, key: &Bytes, version: &Version, keys_only: bool) -> Result<KeyValue, Refusal> {
        Ok(KeyValue {
            key: key.clone(),
            create_revision: version.create,
            mod_revision: version.revision.main,
            version: version.count,
            value: if keys_only { Bytes::new() } else { self.value(key, version)? },
            lease: 0,
        })
    }

    /// Sorts what is in key order. Equal ones stay in key order, downwards too.
    fn sort(&self, found: &mut [Found<'_>], target: SortTarget, descending: bool) -> Result<(), Refusal> {
        match target {
            SortTarget::Key if descending => found.reverse(),
            SortTarget::Key => {}
            SortTarget::Version => sort_by(found, descending, |(_, version)| version.count),
            SortTarget::Create => sort_by(found, descending, |(_, version)| version.create),
            SortTarget::Mod => sort_by(found, descending, |(_, version)| version.revision.main),
            SortTarget::Value => {
                let mut keyed = Vec::with_capacity(found.len());
                for one in found.iter() {
                    keyed.push((self.value(one.0, one.1)?, *one));
                }
                sort_by(&mut keyed, descending, |(value, _)| value.clone());
                for (place, (_, one)) in keyed.into_iter().enumerate() {
                    found[place] = one;
                }
            }
        }
        Ok(())
    }
}

fn sort_by<T, K: Ord>(items: &mut [T], descending: bool, key: impl Fn(&T) -> K) {
    if descending {
        items.sort_by_key(|item| Reverse(key(item)));
    } else {
        items.sort_by_key(key);
    }
}

fn has_filter(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

fn passes(request: &RangeRequest, version: &Version) -> bool {
    let within = |min: i64, max: i64, revision: i64| (min == 0 || revision >= min) && (max == 0 || revision <= max);
    within(request.min_mod_revision, request.max_mod_revision, version.revision.main)
        && within(request.min_create_revision, request.max_create_revision, version.create)
}

/// By what to sort, and whether downwards. A target without an order means upwards.
fn sorting(request: &RangeRequest) -> (SortTarget, bool) {
    let target = SortTarget::try_from(request.sort_target).unwrap_or(SortTarget::Key);
    (target, request.sort_order == SortOrder::Descend as i32)
}
