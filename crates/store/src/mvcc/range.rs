//! Ranges at a revision, filtered, sorted and cut as etcd does.
//!
//! Owns the order of that work, and which versions an answer has. Must not change anything.

use std::cmp::Reverse;

use bytes::Bytes;
use vlot_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use vlot_proto::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};

use crate::check;
use crate::figures::Ops;
use crate::mvcc::key_index::Version;
use crate::mvcc::key_range::KeyRange;
use crate::mvcc::reader::{Reader, key_value};
use crate::mvcc::short::ShortRange;
use crate::refusal::Refusal;

/// A key and the version of it that is seen.
pub(super) type Found<'a> = (&'a [u8], &'a Version);

/// What an answer has, without the values.
pub(super) struct Selection<'a> {
    /// None for a request that only counts.
    pub found: Vec<Found<'a>>,
    pub more: bool,
    pub count: i64,
}

impl<'a> Reader<'a> {
    /// Answers a range request from memory, and from the engine for values that are not in memory.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Refusal> {
        check::check_range(request)?;
        self.measures.count(Ops::range());
        let at = self.readable(request.revision)?;
        self.range_at(request, at, self.revision())
    }

    /// As [`Reader::range`], if it takes no more than so many keys to look at and so many bytes to answer. This is found out
    /// after looking at so many keys. Values that are not in memory are left to be read.
    pub fn short_range(
        &self,
        request: &RangeRequest,
        keys_max: usize,
        bytes_max: usize,
    ) -> Result<Option<ShortRange>, Refusal> {
        check::check_range(request)?;
        let answer = self.range_if_short(request, keys_max, bytes_max);
        // What is not answered here counts where it is.
        if !matches!(answer, Ok(None)) {
            self.measures.count(Ops::range());
        }
        answer
    }

    fn range_if_short(
        &self,
        request: &RangeRequest,
        keys_max: usize,
        bytes_max: usize,
    ) -> Result<Option<ShortRange>, Refusal> {
        let at = self.readable(request.revision)?;
        if request.range_end.is_empty() {
            let found = self.index().at(&request.key, at).filter(|_| !request.keys_only && !request.count_only);
            let is_short = found.is_none_or(|version| version.value_bytes as usize <= bytes_max);
            return is_short.then(|| self.short_range_at(request, at)).transpose();
        }
        let range = KeyRange::of(&request.key, &request.range_end);
        let limit = limit_of(request).unwrap_or(usize::MAX);
        let in_key_order = is_in_key_order(request);
        let mut bytes = 0;
        let mut keys = self.index().range_at(&range, at);
        let mut taken = 0;
        loop {
            let found = keys.next();
            if keys.looked_at() > keys_max {
                return Ok(None);
            }
            let Some((key, version)) = found else { break };
            if request.count_only || (in_key_order && taken == limit) {
                continue;
            }
            taken += 1;
            // What is sorted by value is read even if it is not asked for, and before anything else is known.
            let is_sorted_by_value = request.sort_target == SortTarget::Value as i32;
            if !request.keys_only || is_sorted_by_value {
                bytes += version.value_bytes as usize;
            }
            if is_sorted_by_value && !self.has_in_memory(version) {
                return Ok(None);
            }
            bytes += key.len();
            if bytes > bytes_max {
                return Ok(None);
            }
        }
        self.short_range_at(request, at).map(Some)
    }

    fn short_range_at(&self, request: &RangeRequest, at: i64) -> Result<ShortRange, Refusal> {
        let mut on_disk = Vec::new();
        let response = self.range_with(request, at, self.revision(), |place, version| {
            Ok(self.value_in_memory(version).unwrap_or_else(|| {
                on_disk.push((place, *version));
                Bytes::new()
            }))
        })?;
        ShortRange::new(self, response, on_disk)
    }

    /// Answers a sound request at a readable revision.
    pub fn range_at(&self, request: &RangeRequest, at: i64, newest: i64) -> Result<RangeResponse, Refusal> {
        self.range_with(request, at, newest, |_, version| self.value(version))
    }

    /// As [`Reader::range_at`]. `value` gives the value of the key that has a place in the answer.
    fn range_with(
        &self,
        request: &RangeRequest,
        at: i64,
        newest: i64,
        mut value: impl FnMut(usize, &Version) -> Result<Bytes, Refusal>,
    ) -> Result<RangeResponse, Refusal> {
        let mut key_value = |place: usize, key: Bytes, version: &Version| {
            let value = if request.keys_only { Bytes::new() } else { value(place, version)? };
            Ok::<_, Refusal>(key_value(key, version, value))
        };
        let header = ResponseHeader { revision: newest, ..Default::default() };
        let mut response = RangeResponse { header: Some(header), ..Default::default() };
        if request.range_end.is_empty() && !has_filter(request) {
            let found = self.index().at(&request.key, at);
            response.count = i64::from(found.is_some());
            if let (Some(version), false) = (found, request.count_only) {
                response.kvs.push(key_value(0, request.key.clone(), version)?);
            }
            return Ok(response);
        }
        let range = KeyRange::of(&request.key, &request.range_end);
        let selection = self.select(request, &range, at)?;
        (response.more, response.count) = (selection.more, selection.count);
        response.kvs.reserve_exact(selection.found.len());
        for (place, (key, version)) in selection.found.into_iter().enumerate() {
            response.kvs.push(key_value(place, Bytes::copy_from_slice(key), version)?);
        }
        Ok(response)
    }

    /// Which versions the answer has, in their order.
    pub(super) fn select<'r>(
        &self,
        request: &RangeRequest,
        range: &'r KeyRange,
        at: i64,
    ) -> Result<Selection<'r>, Refusal>
    where
        'a: 'r,
    {
        let mut all = self.index().range_at(range, at);
        if request.count_only {
            return Ok(Selection { found: Vec::new(), more: false, count: all.count() as i64 });
        }
        let limit = limit_of(request).unwrap_or(usize::MAX);
        let mut found: Vec<Found<'_>> = Vec::new();
        if is_in_key_order(request) {
            found.extend(all.by_ref().take(limit));
            let cut_off = all.count();
            let count = (found.len() + cut_off) as i64;
            return Ok(Selection { found, more: cut_off > 0, count });
        }
        let looked_at = if is_cut_first(request) { limit.saturating_add(1) } else { usize::MAX };
        found.extend(all.by_ref().take(looked_at));
        let count = (found.len() + all.count()) as i64;
        found.retain(|(_, version)| passes(request, version));
        let (target, descending) = sorting(request);
        self.sort(&mut found, target, descending)?;
        let more = found.len() > limit;
        found.truncate(limit);
        Ok(Selection { found, more, count })
    }

    /// Sorts what is in key order. Equal ones stay in key order, downwards too.
    fn sort(&self, found: &mut [Found<'_>], target: SortTarget, descending: bool) -> Result<(), Refusal> {
        match target {
            SortTarget::Key if descending => found.reverse(),
            SortTarget::Key => {}
            SortTarget::Version => sort_by(found, descending, |(_, version)| version.count),
            SortTarget::Create => sort_by(found, descending, |(_, version)| version.create),
            SortTarget::Mod => sort_by(found, descending, |(_, version)| version.revision().main),
            SortTarget::Value => {
                let mut keyed = Vec::with_capacity(found.len());
                for one in found.iter() {
                    keyed.push((self.value(one.1)?, *one));
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

/// How many keys an answer has at most, if there is a limit.
pub(super) fn limit_of(request: &RangeRequest) -> Option<usize> {
    usize::try_from(request.limit).ok().filter(|limit| *limit > 0)
}

/// Whether the answer is the first keys of the range, as they are in the index.
pub(super) fn is_in_key_order(request: &RangeRequest) -> bool {
    let (target, descending) = sorting(request);
    target == SortTarget::Key && !descending && !has_filter(request)
}

/// Whether the limit is applied to the keys in the order of the index, and one more, before they are sorted: so it is for
/// a client that names what to sort by and no order.
fn is_cut_first(request: &RangeRequest) -> bool {
    request.sort_order == SortOrder::None as i32 && !has_filter(request)
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
    within(request.min_mod_revision, request.max_mod_revision, version.revision().main)
        && within(request.min_create_revision, request.max_create_revision, version.create)
}

/// By what to sort, and whether downwards. A target without an order means upwards.
fn sorting(request: &RangeRequest) -> (SortTarget, bool) {
    let target = SortTarget::try_from(request.sort_target).unwrap_or(SortTarget::Key);
    (target, request.sort_order == SortOrder::Descend as i32)
}
