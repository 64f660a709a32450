//! Leases: promises that keys go when nobody has asked to keep them for some time.
//!
//! Owns which leases there are, the keys on each, and when one ends. All of it is replicated: a grant, a renewal, a
//! revocation and the passing of time are commands. Must not know a clock, nor who proposes what.
//!
//! **Time** is cluster time: milliseconds that a leader has counted and told in a [`LeaseTime`]. A lease that is granted or
//! renewed has its full time to live, and begins to run with the first `LeaseTime` whose clock was read after that. So it
//! ends no sooner than its time to live after it was asked for, whoever was the leader meanwhile, and no leader that was
//! paused can end it: what it tells counts in its own term only, and names the renewal that it knew of.
//!
//! Invariants: a lease either waits to begin (`waiting`) or has an end (`ends`), never both. A key is on a lease if and
//! only if the key's newest version names it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use bytes::Bytes;

use crate::auth::Ranges;
use crate::command::LeaseTime;
use crate::engine::Record;
use crate::records::{self, LeaseRecord};
use crate::refusal::Refusal;

mod apply;
pub mod clock;

/// The longest time to live, in seconds; as in etcd.
pub const TTL_MAX: i64 = 9_000_000_000;
/// One [`LeaseTime`] ends at most so many leases, and no further one once they have so many keys together.
const ENDED_MAX: usize = 256;
const ENDED_KEYS_MAX: usize = 1024;
/// How long cluster time may pass untold while there are leases, in milliseconds. It bounds what is lost when all members
/// start anew, and what members' clocks differ by when the leader changes.
const UNTOLD_MAX: u64 = 5_000;

/// All leases.
#[derive(Debug, Default)]
pub(crate) struct Leases {
    leases: BTreeMap<i64, Lease>,
    time: Time,
    /// The index of the entry by which time was told last; a load counts as one.
    told_at: u64,
    /// The leases that do not run yet, by their renewals.
    waiting: BTreeMap<u64, i64>,
    /// Those that run: when each ends, and which it is.
    ends: BTreeSet<(u64, i64)>,
    /// What is not handed to the engine yet.
    changed: BTreeSet<i64>,
    time_changed: bool,
}

/// What is known of time and order among leases.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Time {
    /// Cluster time in milliseconds, as it was told last.
    pub now: u64,
    /// How many grants and renewals there were.
    pub renewals: u64,
}

#[derive(Debug)]
struct Lease {
    /// In seconds.
    ttl: i64,
    /// Which of all grants and renewals was its last.
    renewal: u64,
    /// In cluster time. None while it does not run.
    end: Option<u64>,
    keys: BTreeSet<Box<[u8]>>,
}

/// A lease as clients see it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LeaseStatus {
    /// Which one.
    pub id: i64,
    /// Its time to live when it is granted or renewed, in seconds.
    pub ttl: i64,
    /// When it ends, in milliseconds of cluster time. None while it has its full time to live.
    pub end: Option<u64>,
    /// Which of all grants and renewals was its last: of two that end together, the one with the smaller number is older.
    pub renewal: u64,
    /// How many keys are on it.
    pub keys: usize,
}

impl LeaseStatus {
    /// What is left of it at this cluster time, in milliseconds.
    #[must_use]
    pub fn left(&self, now: u64) -> u64 {
        self.end.map_or(self.ttl.unsigned_abs().saturating_mul(1000), |end| end.saturating_sub(now))
    }
}

impl Leases {
    /// As they were written down, when so many entries were applied.
    pub fn load(applied: u64, time: Time, found: &[LeaseRecord]) -> Self {
        let mut leases = Self { time, told_at: applied, ..Self::default() };
        for &LeaseRecord { id, ttl, renewal, end } in found {
            leases.leases.insert(id, Lease { ttl, renewal, end, keys: BTreeSet::new() });
            match end {
                Some(end) => drop(leases.ends.insert((end, id))),
                None => drop(leases.waiting.insert(renewal, id)),
            }
        }
        leases
    }

    pub fn contains(&self, id: i64) -> bool {
        self.leases.contains_key(&id)
    }

    pub fn time(&self) -> Time {
        self.time
    }

    pub fn told_at(&self) -> u64 {
        self.told_at
    }

    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Makes a lease, and returns its time to live in seconds.
    fn grant(&mut self, id: i64, ttl: i64) -> Result<i64, Refusal> {
        if id == 0 {
            return Err(Refusal::LeaseNotFound);
        }
        if ttl > TTL_MAX {
            return Err(Refusal::LeaseTtlTooLarge);
        }
        if self.contains(id) {
            return Err(Refusal::LeaseExists);
        }
        let ttl = ttl.max(1);
        self.leases.insert(id, Lease { ttl, renewal: 0, end: None, keys: BTreeSet::new() });
        self.renew(id);
        Ok(ttl)
    }

    /// Gives a lease its full time to live, and returns that in seconds. None if there is no such lease.
    fn renew(&mut self, id: i64) -> Option<i64> {
        let lease = self.leases.get_mut(&id)?;
        match lease.end.take() {
            Some(end) => drop(self.ends.remove(&(end, id))),
            None => drop(self.waiting.remove(&lease.renewal)),
        }
        self.time.renewals += 1;
        self.time_changed = true;
        lease.renewal = self.time.renewals;
        self.waiting.insert(lease.renewal, id);
        self.changed.insert(id);
        Some(lease.ttl)
    }

    /// Forgets a lease, and returns the keys that were on it, in order.
    fn revoke(&mut self, id: i64) -> BTreeSet<Box<[u8]>> {
        let Some(lease) = self.leases.remove(&id) else { return BTreeSet::new() };
        match lease.end {
            Some(end) => drop(self.ends.remove(&(end, id))),
            None => drop(self.waiting.remove(&lease.renewal)),
        }
        self.changed.insert(id);
        lease.keys
    }

    /// Moves cluster time on, by the entry of this index. The leases begin to run that were renewed before the leader read its clock.
    fn tell(&mut self, at: u64, time: &LeaseTime) {
        self.told_at = at;
        self.time.now = self.time.now.max(time.now);
        self.time_changed = true;
        let later = self.waiting.split_off(&time.renewals.saturating_add(1));
        for (_, id) in std::mem::replace(&mut self.waiting, later) {
            let Some(lease) = self.leases.get_mut(&id) else { continue };
            let end = self.time.now.saturating_add(lease.ttl.unsigned_abs().saturating_mul(1000));
            lease.end = Some(end);
            self.ends.insert((end, id));
            self.changed.insert(id);
        }
    }

    /// Whether a lease is still as it was when its end was seen.
    fn has_not_been_renewed(&self, id: i64, renewal: u64) -> bool {
        self.leases.get(&id).is_some_and(|lease| lease.renewal == renewal)
    }

    /// What a leader of this term tells the others at this cluster time, if there is anything: that leases begin to run,
    /// or end, or that time has passed. `others_count` says whether time is counted by more than leases.
    pub fn due(&self, term: u64, now: u64, others_count: bool) -> Option<LeaseTime> {
        let mut keys = 0;
        let ended = self.ends.iter().take_while(|(end, _)| *end <= now).take(ENDED_MAX);
        let ended = ended.map_while(|(_, id)| {
            let lease = self.leases.get(id).filter(|_| keys < ENDED_KEYS_MAX)?;
            keys += lease.keys.len();
            Some((*id, lease.renewal))
        });
        let ended: Vec<_> = ended.collect();
        let is_counted = others_count || !self.leases.is_empty();
        let is_untold = is_counted && now.saturating_sub(self.time.now) >= UNTOLD_MAX;
        let is_due = !ended.is_empty() || !self.waiting.is_empty() || is_untold;
        is_due.then_some(LeaseTime { term, now, renewals: self.time.renewals, ended })
    }

    /// Puts a key on a lease, and takes it off the one that it was on. Zero is none.
    pub fn attach(&mut self, key: &[u8], from: i64, to: i64) {
        if from == to {
            return;
        }
        if let Some(lease) = self.leases.get_mut(&from) {
            lease.keys.remove(key);
        }
        if let Some(lease) = self.leases.get_mut(&to) {
            lease.keys.insert(key.into());
        }
    }

    /// What is to be written down of the changes since it was asked for last.
    pub fn take_records(&mut self, into: &mut Vec<Record>) {
        if std::mem::take(&mut self.time_changed) {
            into.push(records::lease_time(self.time));
        }
        for id in std::mem::take(&mut self.changed) {
            into.push(match self.leases.get(&id) {
                Some(&Lease { ttl, renewal, end, .. }) => LeaseRecord { id, ttl, renewal, end }.record(),
                None => records::no_lease(id),
            });
        }
    }

    pub fn status(&self, id: i64) -> Option<LeaseStatus> {
        self.leases.get(&id).map(|lease| lease.status(id))
    }

    /// The leases whose ids are greater, in the order of their ids.
    pub fn after(&self, id: Option<i64>) -> impl Iterator<Item = LeaseStatus> {
        let from = id.map_or(Bound::Unbounded, Bound::Excluded);
        self.leases.range((from, Bound::Unbounded)).map(|(id, lease)| lease.status(*id))
    }

    /// The keys on a lease, in order, if there are not more than so many.
    pub fn keys(&self, id: i64, keys_max: usize) -> Option<Vec<Bytes>> {
        let Some(lease) = self.leases.get(&id) else { return Some(Vec::new()) };
        let is_short = lease.keys.len() <= keys_max;
        is_short.then(|| lease.keys.iter().map(|key| Bytes::copy_from_slice(key)).collect())
    }

    /// Whether all keys on a lease are within these ranges. Takes as long as there are ranges, however many keys there are.
    pub fn keys_are_within(&self, id: i64, ranges: &Ranges) -> bool {
        let Some(lease) = self.leases.get(&id).filter(|lease| !lease.keys.is_empty()) else { return true };
        let has_between = |from: &[u8], upto: Bound<&[u8]>| {
            let mut between = lease.keys.range::<[u8], _>((Bound::Included(from), upto));
            between.next().is_some()
        };
        let mut from: &[u8] = &[];
        for (start, end) in ranges.iter() {
            if has_between(from, Bound::Excluded(start)) {
                return false;
            }
            let Some(end) = end else { return true };
            from = end;
        }
        !has_between(from, Bound::Unbounded)
    }

    /// How many leases do not run yet.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub fn keys_on(&self, id: i64) -> usize {
        self.leases.get(&id).map_or(0, |lease| lease.keys.len())
    }
}

impl Lease {
    fn status(&self, id: i64) -> LeaseStatus {
        LeaseStatus { id, ttl: self.ttl, end: self.end, renewal: self.renewal, keys: self.keys.len() }
    }
}
