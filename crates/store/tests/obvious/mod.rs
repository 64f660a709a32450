//! The obvious store: a whole map for every revision. And random requests to hold the real one against it.
#![allow(dead_code, reason = "each test uses its part")]

use std::collections::BTreeMap;

use bytes::Bytes;
use vlot_proto::etcdserverpb::compare::TargetUnion;
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::response_op::Response;
use vlot_proto::etcdserverpb::*;
use vlot_proto::mvccpb::KeyValue;
use vlot_proto::vlotpb::{Quota, RemoveQuotaRequest, RemoveQuotaResponse, SetQuotaRequest, SetQuotaResponse};
use vlot_store::check;
use vlot_store::command::{Command, LeaseTime};
use vlot_store::quota::{Exceeded, ExceededLimit};
use vlot_store::refusal::Refusal;
use vlot_store::store::Applied;

pub type Keys = BTreeMap<Bytes, KeyValue>;

/// One change: its revision, the key, what it was made, what it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub revision: i64,
    pub key: Bytes,
    pub put: Option<KeyValue>,
    pub previous: Option<KeyValue>,
}

#[derive(Clone)]
pub struct Obvious {
    /// The keys at revision 1, 2, 3 and so on.
    states: Vec<Keys>,
    pub changes: Vec<Change>,
    pub compacted: i64,
    pub leases: BTreeMap<i64, Lease>,
    pub time: u64,
    pub renewals: u64,
    /// At most so many bytes and so many keys below a prefix; zero is no limit.
    pub quotas: BTreeMap<Bytes, (u64, u64)>,
}

/// A lease without the keys on it: those are found by looking at all keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Lease {
    pub ttl: i64,
    pub renewal: u64,
    pub end: Option<u64>,
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..Default::default() })
}

fn covers(key: &[u8], range_end: &[u8], candidate: &[u8]) -> bool {
    match range_end {
        b"" => candidate == key,
        b"\0" => candidate >= key,
        end => candidate >= key && candidate < end,
    }
}

/// Bytes and number of the keys below a prefix.
fn below(prefix: &Bytes, keys: &Keys) -> (u64, u64) {
    let found: Vec<_> = keys.iter().filter(|(key, _)| key.starts_with(prefix)).collect();
    (found.iter().map(|(key, kv)| (key.len() + kv.value.len()) as u64).sum(), found.len() as u64)
}

/// A command on its way: keys as they are so far.
struct Draft {
    before: i64,
    keys: Keys,
    changes: Vec<Change>,
}

impl Draft {
    fn revision(&self) -> i64 {
        self.before + i64::from(!self.changes.is_empty())
    }

    fn set(&mut self, key: &Bytes, put: Option<KeyValue>) {
        let previous = match &put {
            Some(kv) => self.keys.insert(key.clone(), kv.clone()),
            None => self.keys.remove(key),
        };
        self.changes.push(Change { revision: self.before + 1, key: key.clone(), put, previous });
    }
}

impl Obvious {
    pub fn new() -> Self {
        Self {
            states: vec![Keys::new()],
            changes: Vec::new(),
            compacted: -1,
            leases: BTreeMap::new(),
            time: 0,
            renewals: 0,
            quotas: BTreeMap::new(),
        }
    }

    pub fn revision(&self) -> i64 {
        self.states.len() as i64
    }

    pub fn keys(&self) -> &Keys {
        self.states.last().unwrap()
    }

    fn at(&self, revision: i64) -> &Keys {
        &self.states[revision as usize - 1]
    }

    /// Applies a command of an entry of this term.
    pub fn apply(&mut self, term: u64, command: &Command) -> Result<Applied, Refusal> {
        let mut draft = Draft { before: self.revision(), keys: self.keys().clone(), changes: Vec::new() };
        let applied = match command {
            Command::Put(put) => {
                check::check_put(put)?;
                self.check_lease(put)?;
                if (put.ignore_value || put.ignore_lease) && !draft.keys.contains_key(&put.key) {
                    return Err(Refusal::KeyNotFound);
                }
                self.check_quotas(&[put])?;
                Applied::Put(self.put(put, &mut draft))
            }
            Command::DeleteRange(delete) => {
                check::check_delete(delete)?;
                Applied::DeleteRange(self.delete(delete, &mut draft))
            }
            Command::Txn(txn) => {
                check::check_txn(txn, usize::MAX)?;
                self.check(txn)?;
                self.check_quotas(&self.puts(txn))?;
                let mut response = self.txn(txn, &mut draft);
                response.header = header(draft.revision());
                Applied::Txn(response)
            }
            Command::Compact(compact) => {
                if compact.revision <= self.compacted {
                    return Err(Refusal::Compacted { oldest: self.compacted });
                }
                if compact.revision > self.revision() {
                    return Err(Refusal::FutureRevision { newest: self.revision() });
                }
                self.compacted = compact.revision;
                Applied::Compact(CompactionResponse { header: header(self.revision()) })
            }
            Command::SetAttribute { .. } => Applied::SetAttribute,
            Command::Auth(_) | Command::By { .. } => panic!("it knows no users"),
            Command::LeaseGrant(LeaseGrantRequest { id, ttl }) => {
                if *id == 0 {
                    return Err(Refusal::LeaseNotFound);
                }
                if *ttl > 9_000_000_000 {
                    return Err(Refusal::LeaseTtlTooLarge);
                }
                if self.leases.contains_key(id) {
                    return Err(Refusal::LeaseExists);
                }
                self.renewals += 1;
                let ttl = (*ttl).max(1);
                self.leases.insert(*id, Lease { ttl, renewal: self.renewals, end: None });
                let header = header(draft.before);
                Applied::LeaseGrant(LeaseGrantResponse { header, id: *id, ttl, ..Default::default() })
            }
            Command::LeaseRevoke(LeaseRevokeRequest { id }) => {
                if self.leases.remove(id).is_none() {
                    return Err(Refusal::LeaseNotFound);
                }
                self.empty(*id, &mut draft);
                Applied::LeaseRevoke(LeaseRevokeResponse { header: header(draft.revision()) })
            }
            Command::LeaseKeepAlive(ids) => {
                let renew = |id| {
                    let Some(lease) = self.leases.get_mut(id) else { return 0 };
                    self.renewals += 1;
                    (lease.renewal, lease.end) = (self.renewals, None);
                    lease.ttl
                };
                Applied::LeaseKeepAlive { revision: draft.before, ttls: ids.iter().map(renew).collect() }
            }
            Command::LeaseTime(time) => return Ok(Applied::LeaseTime { ended: self.tell(term, time) }),
            Command::Alarm(_) => unreachable!("the dice raise no alarm"),
            Command::SetQuota(set) => {
                if set.bytes_max < 0 || set.keys_max < 0 || (set.bytes_max, set.keys_max) == (0, 0) {
                    return Err(Refusal::QuotaWithoutLimit);
                }
                self.quotas.insert(set.prefix.clone(), (set.bytes_max as u64, set.keys_max as u64));
                let quota = self.quotas().into_iter().find(|quota| quota.prefix == set.prefix);
                Applied::SetQuota(SetQuotaResponse { header: header(self.revision()), quota })
            }
            Command::RemoveQuota(RemoveQuotaRequest { prefix }) => {
                self.quotas.remove(prefix).ok_or(Refusal::QuotaNotFound)?;
                Applied::RemoveQuota(RemoveQuotaResponse { header: header(self.revision()) })
            }
        };
        if !draft.changes.is_empty() {
            self.states.push(draft.keys);
            self.changes.append(&mut draft.changes);
        }
        Ok(applied)
    }

    /// All quotas, with what a look at all keys finds.
    pub fn quotas(&self) -> Vec<Quota> {
        let quota = |(prefix, &(bytes_max, keys_max)): (&Bytes, &(u64, u64))| {
            let (bytes, keys) = below(prefix, self.keys());
            let [bytes_max, keys_max, bytes_used, keys_used] = [bytes_max, keys_max, bytes, keys].map(|n| n as i64);
            Quota { prefix: prefix.clone(), bytes_max, keys_max, bytes_used, keys_used }
        };
        self.quotas.iter().map(quota).collect()
    }

    /// Whether there would be too much with these puts, and nothing deleted.
    fn check_quotas(&self, puts: &[&PutRequest]) -> Result<(), Refusal> {
        let mut then = self.keys().clone();
        for put in puts.iter().filter(|put| !put.ignore_value) {
            then.insert(put.key.clone(), KeyValue { value: put.value.clone(), ..Default::default() });
        }
        for (prefix, &(bytes_max, keys_max)) in &self.quotas {
            let (was, needed) = (below(prefix, self.keys()), below(prefix, &then));
            let limit = if bytes_max > 0 && needed.0 > bytes_max.max(was.0) {
                ExceededLimit::Bytes { max: bytes_max, needed: needed.0 }
            } else if keys_max > 0 && needed.1 > keys_max.max(was.1) {
                ExceededLimit::Keys { max: keys_max, needed: needed.1 }
            } else {
                continue;
            };
            return Err(Refusal::QuotaExceeded(Box::new(Exceeded { prefix: prefix.clone(), limit })));
        }
        Ok(())
    }

    fn puts<'a>(&self, txn: &'a TxnRequest) -> Vec<&'a PutRequest> {
        let ops = self.branch(txn).1.iter().filter_map(|op| op.request.as_ref());
        ops.flat_map(|op| match op {
            Request::RequestPut(put) => vec![put],
            Request::RequestTxn(nested) => self.puts(nested),
            _ => Vec::new(),
        })
        .collect()
    }

    fn check_lease(&self, put: &PutRequest) -> Result<(), Refusal> {
        let is_there = put.lease == 0 || self.leases.contains_key(&put.lease);
        is_there.then_some(()).ok_or(Refusal::LeaseNotFound)
    }

    /// Deletes the keys on a lease.
    fn empty(&self, lease: i64, draft: &mut Draft) {
        for key in self.keys_on(lease) {
            draft.set(&key, None);
        }
    }

    pub fn keys_on(&self, lease: i64) -> Vec<Bytes> {
        self.keys().values().filter(|kv| kv.lease == lease).map(|kv| kv.key.clone()).collect()
    }

    /// Time goes on, and each lease that ends does so in a revision of its own.
    fn tell(&mut self, term: u64, time: &LeaseTime) -> usize {
        if time.term != term {
            return 0;
        }
        self.time = self.time.max(time.now);
        for lease in self.leases.values_mut().filter(|lease| lease.end.is_none() && lease.renewal <= time.renewals) {
            lease.end = Some(self.time + lease.ttl as u64 * 1000);
        }
        let mut ended = 0;
        for (id, renewal) in &time.ended {
            if self.leases.get(id).is_some_and(|lease| lease.renewal == *renewal) {
                self.leases.remove(id);
                ended += 1;
                let mut draft = Draft { before: self.revision(), keys: self.keys().clone(), changes: Vec::new() };
                self.empty(*id, &mut draft);
                if !draft.changes.is_empty() {
                    self.states.push(draft.keys);
                    self.changes.append(&mut draft.changes);
                }
            }
        }
        ended
    }

    fn put(&self, put: &PutRequest, draft: &mut Draft) -> PutResponse {
        let old = draft.keys.get(&put.key).cloned();
        let kv = KeyValue {
            key: put.key.clone(),
            value: if put.ignore_value { old.as_ref().unwrap().value.clone() } else { put.value.clone() },
            create_revision: old.as_ref().map_or(draft.before + 1, |old| old.create_revision),
            mod_revision: draft.before + 1,
            version: old.as_ref().map_or(1, |old| old.version + 1),
            lease: if put.ignore_lease { old.as_ref().unwrap().lease } else { put.lease },
        };
        draft.set(&put.key, Some(kv));
        PutResponse { header: header(draft.revision()), prev_kv: old.filter(|_| put.prev_kv) }
    }

    fn delete(&self, delete: &DeleteRangeRequest, draft: &mut Draft) -> DeleteRangeResponse {
        let doomed: Vec<KeyValue> =
            draft.keys.values().filter(|kv| covers(&delete.key, &delete.range_end, &kv.key)).cloned().collect();
        for kv in &doomed {
            draft.set(&kv.key, None);
        }
        DeleteRangeResponse {
            header: header(draft.revision()),
            deleted: doomed.len() as i64,
            prev_kvs: if delete.prev_kv { doomed } else { Vec::new() },
        }
    }

    fn branch<'a>(&self, txn: &'a TxnRequest) -> (bool, &'a [RequestOp]) {
        let holds = txn.compare.iter().all(|compare| {
            let covered: Vec<&KeyValue> =
                self.keys().values().filter(|kv| covers(&compare.key, &compare.range_end, &kv.key)).collect();
            if covered.is_empty() {
                return compare.target != 3 && Self::holds(compare, &KeyValue::default());
            }
            covered.into_iter().all(|kv| Self::holds(compare, kv))
        });
        (holds, if holds { &txn.success } else { &txn.failure })
    }

    fn holds(compare: &Compare, kv: &KeyValue) -> bool {
        let ordering = match compare.target_union.clone().unwrap() {
            TargetUnion::Version(version) => kv.version.cmp(&version),
            TargetUnion::CreateRevision(create) => kv.create_revision.cmp(&create),
            TargetUnion::ModRevision(modified) => kv.mod_revision.cmp(&modified),
            TargetUnion::Value(value) => kv.value.cmp(&value),
            TargetUnion::Lease(lease) => kv.lease.cmp(&lease),
        };
        [ordering.is_eq(), ordering.is_gt(), ordering.is_lt(), ordering.is_ne()][compare.result as usize]
    }

    /// All puts, then all ranges.
    fn check(&self, txn: &TxnRequest) -> Result<(), Refusal> {
        self.check_puts(txn)?;
        self.check_ranges(txn)
    }

    fn check_puts(&self, txn: &TxnRequest) -> Result<(), Refusal> {
        for op in self.branch(txn).1 {
            match op.request.as_ref().unwrap() {
                Request::RequestPut(put) => {
                    if (put.ignore_value || put.ignore_lease) && !self.keys().contains_key(&put.key) {
                        return Err(Refusal::KeyNotFound);
                    }
                    self.check_lease(put)?;
                }
                Request::RequestTxn(nested) => self.check_puts(nested)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn check_ranges(&self, txn: &TxnRequest) -> Result<(), Refusal> {
        for op in self.branch(txn).1 {
            match op.request.as_ref().unwrap() {
                Request::RequestRange(range) if range.revision > self.revision() => {
                    return Err(Refusal::FutureRevision { newest: self.revision() });
                }
                Request::RequestRange(range) if range.revision != 0 && range.revision < self.compacted => {
                    return Err(Refusal::Compacted { oldest: self.compacted });
                }
                Request::RequestTxn(nested) => self.check_ranges(nested)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn txn(&self, txn: &TxnRequest, draft: &mut Draft) -> TxnResponse {
        let (succeeded, ops) = self.branch(txn);
        let mut responses = Vec::new();
        for op in ops {
            let response = match op.request.as_ref().unwrap() {
                Request::RequestPut(put) => Response::ResponsePut(self.put(put, draft)),
                Request::RequestDeleteRange(delete) => Response::ResponseDeleteRange(self.delete(delete, draft)),
                Request::RequestTxn(nested) => Response::ResponseTxn(self.txn(nested, draft)),
                Request::RequestRange(range) => {
                    let keys = if range.revision > 0 { self.at(range.revision) } else { &draft.keys };
                    Response::ResponseRange(Self::select(range, keys, draft.revision()))
                }
            };
            responses.push(ResponseOp { response: Some(response) });
        }
        TxnResponse { header: header(0), succeeded, responses }
    }

    pub fn range(&self, range: &RangeRequest) -> Result<RangeResponse, Refusal> {
        check::check_range(range)?;
        if range.revision > self.revision() {
            return Err(Refusal::FutureRevision { newest: self.revision() });
        }
        if range.revision > 0 && range.revision < self.compacted {
            return Err(Refusal::Compacted { oldest: self.compacted });
        }
        let at = if range.revision > 0 { range.revision } else { self.revision() };
        Ok(Self::select(range, self.at(at), self.revision()))
    }

    fn select(range: &RangeRequest, keys: &Keys, revision: i64) -> RangeResponse {
        let mut kvs: Vec<KeyValue> =
            keys.values().filter(|kv| covers(&range.key, &range.range_end, &kv.key)).cloned().collect();
        let count = kvs.len() as i64;
        if range.count_only {
            return RangeResponse { header: header(revision), kvs: Vec::new(), more: false, count };
        }
        kvs.retain(|kv| {
            (range.min_mod_revision == 0 || kv.mod_revision >= range.min_mod_revision)
                && (range.max_mod_revision == 0 || kv.mod_revision <= range.max_mod_revision)
                && (range.min_create_revision == 0 || kv.create_revision >= range.min_create_revision)
                && (range.max_create_revision == 0 || kv.create_revision <= range.max_create_revision)
        });
        let has_filter =
            [range.min_mod_revision, range.max_mod_revision, range.min_create_revision, range.max_create_revision]
                != [0; 4];
        if range.limit > 0 && range.sort_order == 0 && !has_filter {
            kvs.truncate(range.limit as usize + 1);
        }
        // Equal ones stay in key order, downwards too.
        kvs.sort_by(|left, right| {
            let ordering = match range.sort_target {
                0 => left.key.cmp(&right.key),
                1 => left.version.cmp(&right.version),
                2 => left.create_revision.cmp(&right.create_revision),
                3 => left.mod_revision.cmp(&right.mod_revision),
                _ => left.value.cmp(&right.value),
            };
            if range.sort_order == 2 { ordering.reverse() } else { ordering }
        });
        let more = range.limit > 0 && kvs.len() as i64 > range.limit;
        if more {
            kvs.truncate(range.limit as usize);
        }
        if range.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        RangeResponse { header: header(revision), kvs, more, count }
    }
}

/// Numbers that look random and are the same in every run with the same seed.
#[derive(Clone)]
pub struct Dice(pub u64);

impl Dice {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let once = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let twice = (once ^ (once >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (twice ^ (twice >> 31)) % bound
    }

    pub fn once_in(&mut self, rounds: u64) -> bool {
        self.below(rounds) == 0
    }

    pub fn key(&mut self) -> Bytes {
        ["a", "aa", "ab", "b", "ba", "bb", "c", "ca", "d", "e"][self.below(10) as usize].into()
    }

    pub fn range_end(&mut self) -> Bytes {
        match self.below(6) {
            0 => "\0".into(),
            1..=2 => self.key(),
            _ => Bytes::new(),
        }
    }

    fn value(&mut self) -> Bytes {
        match self.below(20) {
            0 => Bytes::new(),
            1 => vec![b'x'; 20_000].into(),
            length => vec![b'a' + self.below(26) as u8; length as usize].into(),
        }
    }

    fn revision(&mut self, newest: i64) -> i64 {
        if self.once_in(12) { newest + 1 } else { self.below(newest as u64 + 1) as i64 }
    }

    pub fn range(&mut self, newest: i64) -> RangeRequest {
        let bound = |dice: &mut Self| if dice.once_in(8) { dice.revision(newest) } else { 0 };
        RangeRequest {
            key: if self.once_in(40) { Bytes::new() } else { self.key() },
            range_end: self.range_end(),
            limit: if self.once_in(2) { self.below(4) as i64 } else { 0 },
            revision: if self.once_in(2) { self.revision(newest) } else { 0 },
            sort_order: if self.once_in(2) { self.below(3) as i32 } else { 0 },
            sort_target: if self.once_in(2) { self.below(6) as i32 } else { 0 },
            keys_only: self.once_in(8),
            count_only: self.once_in(8),
            min_mod_revision: bound(self),
            max_mod_revision: bound(self),
            min_create_revision: bound(self),
            max_create_revision: bound(self),
            ..Default::default()
        }
    }

    fn put(&mut self) -> PutRequest {
        let ignore_value = self.once_in(10);
        let ignore_lease = self.once_in(10);
        PutRequest {
            key: self.key(),
            value: if ignore_value { Bytes::new() } else { self.value() },
            prev_kv: self.once_in(3),
            ignore_value,
            ignore_lease,
            lease: if !ignore_lease && self.once_in(3) { self.lease() } else { 0 },
        }
    }

    fn lease(&mut self) -> i64 {
        self.below(7) as i64 - 2
    }

    fn lease_command(&mut self) -> Command {
        match self.below(10) {
            0..=3 => {
                let ttl = if self.once_in(20) { 9_000_000_001 } else { self.below(6) as i64 - 1 };
                Command::LeaseGrant(LeaseGrantRequest { id: self.lease(), ttl })
            }
            4 => Command::LeaseRevoke(LeaseRevokeRequest { id: self.lease() }),
            5..=6 => Command::LeaseKeepAlive((0..self.below(4)).map(|_| self.lease()).collect()),
            // What no leader would say is the same to all.
            _ => Command::LeaseTime(LeaseTime {
                term: self.below(8),
                now: self.below(100_000),
                renewals: self.below(200),
                ended: (0..self.below(4)).map(|_| (self.lease(), self.below(200))).collect(),
            }),
        }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        DeleteRangeRequest { key: self.key(), range_end: self.range_end(), prev_kv: self.once_in(3) }
    }

    fn compare(&mut self, newest: i64) -> Compare {
        let target = self.below(5) as i32;
        let number = self.revision(newest);
        Compare {
            result: self.below(4) as i32,
            target,
            key: self.key(),
            range_end: self.range_end(),
            target_union: Some(match target {
                0 => TargetUnion::Version(self.below(4) as i64),
                1 => TargetUnion::CreateRevision(number),
                2 => TargetUnion::ModRevision(number),
                3 => TargetUnion::Value(self.value()),
                _ => TargetUnion::Lease(self.lease()),
            }),
        }
    }

    fn ops(&mut self, newest: i64, depth: u64) -> Vec<RequestOp> {
        let count = self.below(4);
        let op = |dice: &mut Self| match dice.below(if depth == 0 { 8 } else { 10 }) {
            0..=3 => Request::RequestPut(dice.put()),
            4..=5 => {
                let mut range = dice.range(newest);
                range.key = dice.key();
                range.sort_target %= 5;
                range.revision = if dice.once_in(4) { dice.revision(newest) } else { 0 };
                Request::RequestRange(range)
            }
            6..=7 => Request::RequestDeleteRange(dice.delete()),
            _ => Request::RequestTxn(dice.txn(newest, depth - 1)),
        };
        (0..count).map(|_| RequestOp { request: Some(op(self)) }).collect()
    }

    pub fn txn(&mut self, newest: i64, depth: u64) -> TxnRequest {
        TxnRequest {
            compare: (0..self.below(3)).map(|_| self.compare(newest)).collect(),
            success: self.ops(newest, depth),
            failure: self.ops(newest, depth),
        }
    }

    /// One that sets or removes a quota, tight enough to be in the way of what is put.
    pub fn quota_command(&mut self) -> Command {
        let prefix = ["", "a", "aa", "b", "bb", "c", "x"][self.below(7) as usize].into();
        let keys_max = self.below(6) as i64;
        match self.below(5) {
            0 => Command::RemoveQuota(RemoveQuotaRequest { prefix }),
            1 => Command::SetQuota(SetQuotaRequest { prefix, bytes_max: 0, keys_max }),
            2 => Command::SetQuota(SetQuotaRequest { prefix, bytes_max: 20_100, keys_max }),
            _ => Command::SetQuota(SetQuotaRequest { prefix, bytes_max: self.below(60) as i64 - 1, keys_max }),
        }
    }

    pub fn command(&mut self, newest: i64) -> Command {
        match self.below(52) {
            0..=19 => Command::Put(self.put()),
            20..=26 => Command::DeleteRange(self.delete()),
            27..=37 => Command::Txn(self.txn(newest, 2)),
            38 => Command::SetAttribute { name: self.key(), value: self.value() },
            39..=50 => self.lease_command(),
            _ => Command::Compact(CompactionRequest { revision: self.revision(newest), physical: false }),
        }
    }
}
