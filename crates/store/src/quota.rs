//! Quotas: how much there may be below a prefix of the keys.
//!
//! Owns which quotas there are, what each of them counts, and whether puts would exceed one. All of it is replicated: a quota
//! is set and removed by a command, and a put is held against quotas when it is applied, so that every member refuses the
//! same. Must not know who sets one, or why.
//!
//! What counts is what users see: a key that is not deleted counts as one, with the bytes of the key and of its newest value.
//! History, leases and what the engine needs besides count for nothing.
//!
//! Invariant: what a quota says is used is what a count of the living keys below its prefix would find.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

use bytes::Bytes;
use vlot_proto::etcdserverpb::PutRequest;
use vlot_proto::vlotpb::{self, RemoveQuotaRequest, RemoveQuotaResponse, SetQuotaRequest, SetQuotaResponse};

use crate::mvcc::key_index::Version;
use crate::mvcc::key_range::KeyRange;
use crate::records;
use crate::refusal::Refusal;
use crate::store::Store;
use crate::txn::header;

/// There are at most so many quotas.
pub const QUOTAS_MAX: usize = 1_000;
/// A quota's prefix has at most so many bytes.
pub const PREFIX_BYTES_MAX: usize = 256;

/// A number of keys, and of their bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Amount {
    /// Of keys and their newest values.
    pub bytes: u64,
    /// Keys that are not deleted.
    pub keys: u64,
}

/// How much there may be. None is no limit; one of the two is always given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limit {
    /// Bytes of keys and their newest values.
    pub bytes: Option<u64>,
    /// Keys that are not deleted.
    pub keys: Option<u64>,
}

/// A quota, and how much of it is used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Quota {
    /// How much there may be. There may be more when a quota is set: then nothing is added until there is less.
    pub limit: Limit,
    /// How much there is.
    pub used: Amount,
}

/// All quotas, by their prefixes.
#[derive(Debug, Default)]
pub(crate) struct Quotas(BTreeMap<Bytes, Quota>);

/// What a put would exceed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Exceeded {
    /// The prefix of the quota.
    pub prefix: Bytes,
    /// Which of its limits.
    pub limit: ExceededLimit,
}

/// A limit, and what there would be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the fields are what the variants name")]
pub enum ExceededLimit {
    /// Of bytes.
    Bytes { max: u64, needed: u64 },
    /// Of keys.
    Keys { max: u64, needed: u64 },
}

impl Amount {
    /// What a key is, from one of its versions on.
    fn of(key: &[u8], version: Option<&Version>) -> Self {
        let living = version.filter(|version| !version.is_deletion());
        living.map_or(Self::default(), |version| Self::of_key(key, version.value_bytes as usize))
    }

    fn of_key(key: &[u8], value_bytes: usize) -> Self {
        Self { bytes: (key.len() + value_bytes) as u64, keys: 1 }
    }

    fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.keys += other.keys;
    }

    fn sub(&mut self, other: Self) {
        self.bytes -= other.bytes;
        self.keys -= other.keys;
    }
}

impl Limit {
    fn of(request: &SetQuotaRequest) -> Result<Self, Refusal> {
        let limit = |number: i64| match u64::try_from(number) {
            Ok(0) => Ok(None),
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(Refusal::QuotaWithoutLimit),
        };
        let limit = Self { bytes: limit(request.bytes_max)?, keys: limit(request.keys_max)? };
        if limit.bytes.is_none() && limit.keys.is_none() { Err(Refusal::QuotaWithoutLimit) } else { Ok(limit) }
    }
}

impl Quota {
    /// As clients are told.
    #[must_use]
    pub fn message(&self, prefix: &Bytes) -> vlotpb::Quota {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        vlotpb::Quota {
            prefix: prefix.clone(),
            bytes_max: self.limit.bytes.map_or(0, number),
            keys_max: self.limit.keys.map_or(0, number),
            bytes_used: number(self.used.bytes),
            keys_used: number(self.used.keys),
        }
    }
}

impl Quotas {
    /// As they were written down, before a key is counted.
    pub fn load(found: Vec<(Bytes, Limit)>) -> Self {
        let quota = |(prefix, limit)| (prefix, Quota { limit, used: Amount::default() });
        Self(found.into_iter().map(quota).collect())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn contains(&self, prefix: &[u8]) -> bool {
        self.0.contains_key(prefix)
    }

    /// A key has got another version.
    pub fn count(&mut self, key: &[u8], last: Option<Version>, next: &Version) {
        let (before, after) = (Amount::of(key, last.as_ref()), Amount::of(key, Some(next)));
        let mut longest = self.longest_prefix(key).cloned();
        while let Some(prefix) = longest {
            if let Some(Quota { used, .. }) = self.0.get_mut(&prefix) {
                used.add(after);
                used.sub(before);
            }
            longest = self.next_prefix(key, &prefix).cloned();
        }
    }

    /// The longest prefix of a key that has a quota.
    fn longest_prefix(&self, key: &[u8]) -> Option<&Bytes> {
        self.last_prefix(key, Bound::Included(key))
    }

    /// The one after that.
    fn next_prefix<'k>(&self, key: &'k [u8], longer: &'k [u8]) -> Option<&Bytes> {
        self.last_prefix(key, Bound::Excluded(longer))
    }

    /// The last prefix of a key up to a bound that is itself a prefix of the key. Whatever stands between a prefix and the
    /// key begins with that prefix, so that each step that finds none leaves a shorter piece of the key to look at.
    fn last_prefix<'k>(&self, mut key: &'k [u8], mut upto: Bound<&'k [u8]>) -> Option<&Bytes> {
        loop {
            let (prefix, _) = self.0.range::<[u8], _>((Bound::Unbounded, upto)).next_back()?;
            if key.starts_with(prefix) {
                return Some(prefix);
            }
            let common = key.iter().zip(prefix).take_while(|(left, right)| left == right).count();
            key = &key[..common];
            upto = Bound::Included(key);
        }
    }
}

/// What puts would add to the quotas that they touch.
struct Growth<'q> {
    quotas: &'q Quotas,
    touched: BTreeMap<&'q Bytes, (Amount, Amount)>,
}

impl<'q> Growth<'q> {
    fn add(&mut self, key: &[u8], before: Amount, after: Amount) {
        let mut longest = self.quotas.longest_prefix(key);
        while let Some(prefix) = longest {
            let (was, will_be) = self.touched.entry(prefix).or_default();
            was.add(before);
            will_be.add(after);
            longest = self.quotas.next_prefix(key, prefix);
        }
    }

    /// Whether there is room. What does not grow passes, even if there is more than there may be.
    fn check(self) -> Result<(), Exceeded> {
        for (prefix, (was, will_be)) in self.touched {
            let Quota { limit, used } = self.quotas.0[prefix];
            let exceeds = |max: Option<u64>, used: u64, was: u64, will_be: u64| {
                let needed = used - was + will_be;
                max.filter(|max| will_be > was && needed > *max).map(|max| (max, needed))
            };
            let bytes = exceeds(limit.bytes, used.bytes, was.bytes, will_be.bytes);
            let keys = exceeds(limit.keys, used.keys, was.keys, will_be.keys);
            let bytes = bytes.map(|(max, needed)| ExceededLimit::Bytes { max, needed });
            let keys = keys.map(|(max, needed)| ExceededLimit::Keys { max, needed });
            if let Some(limit) = bytes.or(keys) {
                return Err(Exceeded { prefix: prefix.clone(), limit });
            }
        }
        Ok(())
    }
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "quota of prefix \"{}\" exceeded: ", self.prefix.escape_ascii())?;
        match self.limit {
            ExceededLimit::Bytes { max, needed } => write!(f, "{needed} bytes of at most {max}"),
            ExceededLimit::Keys { max, needed } => write!(f, "{needed} keys of at most {max}"),
        }
    }
}

/// All keys that begin so.
fn keys_below(prefix: &Bytes) -> KeyRange {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX);
    let Some(last) = last else { return KeyRange::From { start: prefix.clone() } };
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    KeyRange::Span { start: prefix.clone(), end: end.into() }
}

impl Store {
    /// Whether there is room for what these puts add, all of them together.
    pub(crate) fn check_quotas<'p>(&self, puts: impl IntoIterator<Item = &'p PutRequest>) -> Result<(), Refusal> {
        let mut growth = Growth { quotas: &self.quotas, touched: BTreeMap::new() };
        for put in puts {
            let last = self.now.index.newest(&put.key);
            let kept = last.filter(|_| put.ignore_value).map(|last| last.value_bytes as usize);
            let after = Amount::of_key(&put.key, kept.unwrap_or(put.value.len()));
            growth.add(&put.key, Amount::of(&put.key, last), after);
        }
        growth.check().map_err(|exceeded| Refusal::QuotaExceeded(Box::new(exceeded)))
    }

    pub(crate) fn apply_set_quota(&mut self, request: &SetQuotaRequest) -> Result<SetQuotaResponse, Refusal> {
        let limit = Limit::of(request)?;
        if request.prefix.len() > PREFIX_BYTES_MAX {
            return Err(Refusal::QuotaPrefixTooLong);
        }
        let known = self.quotas.0.get(&request.prefix).map(|quota| quota.used);
        if known.is_none() && self.quotas.0.len() >= QUOTAS_MAX {
            return Err(Refusal::TooManyQuotas);
        }
        let used = known.unwrap_or_else(|| self.count_below(&request.prefix));
        // A request's slice would hold on to the whole buffer that it came in.
        let prefix = Bytes::copy_from_slice(&request.prefix);
        let quota = Quota { limit, used };
        self.quotas.0.insert(prefix.clone(), quota);
        self.remember(records::quota(&prefix, limit));
        Ok(SetQuotaResponse { header: header(self.revision()), quota: Some(quota.message(&prefix)) })
    }

    pub(crate) fn apply_remove_quota(&mut self, request: &RemoveQuotaRequest) -> Result<RemoveQuotaResponse, Refusal> {
        self.quotas.0.remove(&request.prefix).ok_or(Refusal::QuotaNotFound)?;
        self.remember(records::no_quota(&request.prefix));
        Ok(RemoveQuotaResponse { header: header(self.revision()) })
    }

    /// The quotas, ordered by prefix.
    pub fn quotas(&self) -> impl ExactSizeIterator<Item = (&Bytes, &Quota)> {
        self.quotas.0.iter()
    }

    /// How much there is below a prefix. Looks at each key.
    #[must_use]
    pub fn count_below(&self, prefix: &Bytes) -> Amount {
        let range = keys_below(prefix);
        let mut found = Amount::default();
        self.now.index.range_at(&range, i64::MAX).for_each(|(key, version)| found.add(Amount::of(key, Some(version))));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quotas(prefixes: &[&'static str]) -> Quotas {
        let limit = Limit { bytes: Some(1), keys: None };
        Quotas::load(prefixes.iter().map(|prefix| (Bytes::from(*prefix), limit)).collect())
    }

    #[test]
    fn a_key_is_below_each_of_its_prefixes() {
        // The prefixes with a quota, a key, those it is below, the longest first.
        type Row = (&'static [&'static str], &'static str, &'static [&'static str]);
        let rows: [Row; 9] = [
            (&[], "a", &[]),
            (&[""], "a", &[""]),
            (&["a"], "a", &["a"]),
            (&["ab"], "a", &[]),
            (&["", "a", "a/b", "a/b/c"], "a/b/x", &["a/b", "a", ""]),
            // What stands between a prefix and the key need not be above the key.
            (&["a", "a/", "a/a", "a/b/x"], "a/c", &["a/", "a"]),
            (&["a", "aa", "aaa", "aab", "aaba"], "aac", &["aa", "a"]),
            (&["b", "c"], "a", &[]),
            (&["a", "b"], "c", &[]),
        ];
        for (prefixes, key, expected) in rows {
            let quotas = quotas(prefixes);
            let mut found = Vec::new();
            let mut longest = quotas.longest_prefix(key.as_bytes());
            while let Some(prefix) = longest {
                found.push(str::from_utf8(prefix).unwrap());
                longest = quotas.next_prefix(key.as_bytes(), prefix);
            }
            assert_eq!(found, expected, "{prefixes:?} {key}");
        }
    }

    #[test]
    fn all_keys_that_begin_so_are_below_a_prefix() {
        // The prefix, what is below it, what is not.
        type Row = (&'static [u8], &'static [&'static [u8]], &'static [&'static [u8]]);
        let rows: [Row; 4] = [
            (b"a/", &[b"a/", b"a/\0", b"a/\xff\xff"], &[b"a", b"a0", b"b"]),
            (b"a\xff", &[b"a\xff", b"a\xff\xff"], &[b"a", b"a\xfe", b"b"]),
            (b"\xff", &[b"\xff", b"\xff\xff\0"], &[b"\xfe", b""]),
            (b"", &[b"\0", b"a", b"\xff\xff"], &[]),
        ];
        for (prefix, below, beside) in rows {
            let range = keys_below(&Bytes::from_static(prefix));
            assert!(below.iter().all(|key| range.contains(key)), "{range:?}");
            assert!(!beside.iter().any(|key| range.contains(key)), "{range:?}");
        }
    }

    #[test]
    fn what_is_exceeded_is_named_in_words_that_fit_into_a_header() {
        let exceeded = |prefix: &'static [u8], limit| Exceeded { prefix: prefix.into(), limit }.to_string();
        assert_eq!(
            exceeded(b"/app/", ExceededLimit::Bytes { max: 10, needed: 11 }),
            "quota of prefix \"/app/\" exceeded: 11 bytes of at most 10"
        );
        assert_eq!(
            exceeded(b"\xff\n\"", ExceededLimit::Keys { max: 1, needed: 2 }),
            "quota of prefix \"\\xff\\n\\\"\" exceeded: 2 keys of at most 1"
        );
    }
}
