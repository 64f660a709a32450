//! What etcd's documentation says that an operation does, in the plainest form that comes to mind.
//!
//! Owns all versions of all keys, for ever, and evaluates a request in any state that there has been. It shares no code
//! with the store that it judges, and trades everything for being obvious.
//!
//! The rules are those of etcd's API reference: every change has a revision of its own, all changes of a transaction have
//! the same; a key's version counts its puts since it was created; a deletion ends it; comparisons look at the state before
//! the transaction, operations at what those before them have done.

use std::collections::BTreeMap;

use bytes::Bytes;
use vlot_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use vlot_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use vlot_proto::etcdserverpb::{
    CompactionResponse, Compare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse, request_op, response_op,
};
use vlot_proto::mvccpb::event::EventType;
use vlot_proto::mvccpb::{Event, KeyValue};
use vlot_store::refusal::Refusal;

use super::history::{Reply, Request};

/// All that has happened.
#[derive(Clone, Debug)]
pub struct Model {
    keys: BTreeMap<Bytes, Vec<Version>>,
    changes: Vec<Change>,
    /// Where the changes of each revision begin; that of `FIRST` comes first.
    begins: Vec<usize>,
    state: State,
}

/// A moment in which requests can be evaluated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct State {
    /// The newest revision.
    pub revision: i64,
    /// The oldest that can be read; -1 if nothing was compacted.
    pub compacted: i64,
}

impl State {
    /// Before anything has happened.
    pub const EMPTY: Self = Self { revision: 1, compacted: -1 };
}

/// The first revision that changes something.
pub const FIRST: i64 = 2;

/// A key from one revision on.
#[derive(Clone, Debug)]
struct Version {
    revision: i64,
    create: i64,
    version: i64,
    /// Nothing if it was deleted.
    value: Option<Bytes>,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Its revision.
    pub revision: i64,
    /// The key, with its new value, or what an event of a deletion shows: nothing but the revision.
    pub kv: KeyValue,
    /// Whether it was deleted.
    pub is_deletion: bool,
    /// What the key was before.
    pub previous: Option<KeyValue>,
}

impl Change {
    /// Whether an event tells of it as it should, with or without what was before.
    #[must_use]
    pub fn is_told_by(&self, event: &Event, prev_kv: bool) -> bool {
        let kind = if self.is_deletion { EventType::Delete } else { EventType::Put };
        let previous = if prev_kv { self.previous.as_ref() } else { None };
        event.r#type == kind as i32 && event.kv.as_ref() == Some(&self.kv) && event.prev_kv.as_ref() == previous
    }
}

/// What a request does in some state.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    /// What its client is told.
    pub outcome: Result<Reply, Refusal>,
    /// What it changes, in order.
    pub changes: Vec<Change>,
    /// The compacted revision after it.
    pub compacted: i64,
}

impl Default for Model {
    fn default() -> Self {
        Self { keys: BTreeMap::new(), changes: Vec::new(), begins: Vec::new(), state: State::EMPTY }
    }
}

impl Model {
    /// The state after all that has happened.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// All changes, in order.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Where in [`Model::changes`] those of this revision, or of the next one that there is, begin.
    #[must_use]
    pub fn begin_of(&self, revision: i64) -> usize {
        let place = (revision - FIRST).max(0) as usize;
        self.begins.get(place).copied().unwrap_or(self.changes.len())
    }

    /// What a request would do in a state that there has been.
    #[must_use]
    pub fn evaluate(&self, request: &Request, state: State) -> Effect {
        let mut doing = Doing { model: self, state, changes: Vec::new() };
        let mut compacted = state.compacted;
        let outcome = match request {
            Request::Put(request) => doing.put_alone(request).map(Reply::Put),
            Request::DeleteRange(request) => Ok(Reply::DeleteRange(doing.delete_range(request))),
            Request::Range(request) => doing.range_alone(request).map(Reply::Range),
            Request::Txn(request) => doing.txn_alone(request).map(Reply::Txn),
            Request::Compact(request) => doing.compact(request.revision, &mut compacted).map(Reply::Compact),
        };
        Effect { outcome, changes: doing.changes, compacted }
    }

    /// Lets an effect of the present state happen.
    pub fn commit(&mut self, effect: &Effect) {
        self.state.compacted = effect.compacted;
        if effect.changes.is_empty() {
            return;
        }
        self.state.revision += 1;
        self.begins.push(self.changes.len());
        for change in &effect.changes {
            let kv = &change.kv;
            self.keys.entry(kv.key.clone()).or_default().push(Version {
                revision: change.revision,
                create: kv.create_revision,
                version: kv.version,
                value: (!change.is_deletion).then(|| kv.value.clone()),
            });
        }
        self.changes.extend(effect.changes.iter().cloned());
    }
}

/// A request that is being done.
struct Doing<'a> {
    model: &'a Model,
    /// Before it.
    state: State,
    changes: Vec<Change>,
}

/// Keys from the first on, up to but without the second; without an end if that is nothing.
#[derive(Clone, Debug)]
struct Keys {
    from: Bytes,
    upto: Option<Bytes>,
}

impl Keys {
    fn of(key: &Bytes, range_end: &Bytes) -> Self {
        let upto = match &range_end[..] {
            // The key that follows.
            [] => Some(Bytes::from([&key[..], &[0]].concat())),
            [0] => None,
            _ => Some(range_end.clone()),
        };
        Self { from: key.clone(), upto }
    }

    fn has(&self, key: &Bytes) -> bool {
        *key >= self.from && self.upto.as_ref().is_none_or(|upto| key < upto)
    }

    fn meets(&self, other: &Self) -> bool {
        let begins_before_end = |left: &Self, right: &Self| right.upto.as_ref().is_none_or(|upto| left.from < *upto);
        begins_before_end(self, other) && begins_before_end(other, self)
    }
}

impl Doing<'_> {
    /// The newest revision as the request sees it.
    fn newest(&self) -> i64 {
        self.state.revision + i64::from(!self.changes.is_empty())
    }

    fn header(&self) -> Option<ResponseHeader> {
        header(self.newest())
    }

    /// Whether a revision can be read. Zero means the newest, and so do negative ones outside of transactions.
    fn check_revision(&self, revision: i64) -> Result<(), Refusal> {
        if revision > self.state.revision {
            return Err(Refusal::FutureRevision { newest: self.state.revision });
        }
        if revision > 0 && revision < self.state.compacted {
            return Err(Refusal::Compacted { oldest: self.state.compacted });
        }
        Ok(())
    }

    /// The keys that there are at a revision, in order. The newest includes what the request has done so far.
    fn keys_at(&self, keys: &Keys, revision: i64) -> Vec<KeyValue> {
        if keys.upto.as_ref().is_some_and(|upto| *upto <= keys.from) {
            return Vec::new();
        }
        let upto = keys.upto.clone().map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded);
        let range = self.model.keys.range((std::ops::Bound::Included(keys.from.clone()), upto));
        let committed = revision.min(self.state.revision);
        let mut found: Vec<KeyValue> = range.filter_map(|(key, versions)| key_at(key, versions, committed)).collect();
        if revision > self.state.revision {
            for change in self.changes.iter().filter(|change| keys.has(&change.kv.key)) {
                let place = found.binary_search_by(|kv| kv.key.cmp(&change.kv.key));
                match (place, change.is_deletion) {
                    (Ok(place), true) => drop(found.remove(place)),
                    (Ok(place), false) => found[place] = change.kv.clone(),
                    (Err(place), false) => found.insert(place, change.kv.clone()),
                    (Err(_), true) => {}
                }
            }
        }
        found
    }

    fn key_now(&self, key: &Bytes) -> Option<KeyValue> {
        self.keys_at(&Keys::of(key, &Bytes::new()), self.newest()).pop()
    }

    fn put_alone(&mut self, request: &PutRequest) -> Result<PutResponse, Refusal> {
        if request.ignore_value && self.key_now(&request.key).is_none() {
            return Err(Refusal::KeyNotFound);
        }
        Ok(self.put(request))
    }

    fn put(&mut self, request: &PutRequest) -> PutResponse {
        let previous = self.key_now(&request.key);
        let revision = self.state.revision + 1;
        let value = match &previous {
            Some(previous) if request.ignore_value => previous.value.clone(),
            _ => request.value.clone(),
        };
        let kv = KeyValue {
            key: request.key.clone(),
            create_revision: previous.as_ref().map_or(revision, |previous| previous.create_revision),
            mod_revision: revision,
            version: previous.as_ref().map_or(1, |previous| previous.version + 1),
            value,
            lease: 0,
        };
        let prev_kv = if request.prev_kv { previous.clone() } else { None };
        self.changes.push(Change { revision, kv, is_deletion: false, previous });
        PutResponse { header: self.header(), prev_kv }
    }

    fn delete_range(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let doomed = self.keys_at(&Keys::of(&request.key, &request.range_end), self.newest());
        let revision = self.state.revision + 1;
        for previous in &doomed {
            let kv = KeyValue { key: previous.key.clone(), mod_revision: revision, ..Default::default() };
            self.changes.push(Change { revision, kv, is_deletion: true, previous: Some(previous.clone()) });
        }
        let deleted = doomed.len() as i64;
        DeleteRangeResponse { header: self.header(), deleted, prev_kvs: if request.prev_kv { doomed } else { vec![] } }
    }

    fn compact(&mut self, revision: i64, compacted: &mut i64) -> Result<CompactionResponse, Refusal> {
        if revision <= self.state.compacted {
            return Err(Refusal::Compacted { oldest: self.state.compacted });
        }
        if revision > self.state.revision {
            return Err(Refusal::FutureRevision { newest: self.state.revision });
        }
        *compacted = revision;
        Ok(CompactionResponse { header: self.header() })
    }

    fn range_alone(&self, request: &RangeRequest) -> Result<RangeResponse, Refusal> {
        self.check_revision(request.revision)?;
        Ok(self.range(request))
    }

    fn range(&self, request: &RangeRequest) -> RangeResponse {
        let at = if request.revision > 0 { request.revision } else { self.newest() };
        let mut kvs = self.keys_at(&Keys::of(&request.key, &request.range_end), at);
        // All that are in the range, whatever else is asked for.
        let count = kvs.len() as i64;
        if request.count_only {
            return RangeResponse { header: self.header(), kvs: Vec::new(), more: false, count };
        }
        kvs.retain(|kv| request.min_mod_revision == 0 || kv.mod_revision >= request.min_mod_revision);
        if request.sort_target == SortTarget::Key as i32 && request.sort_order == SortOrder::Descend as i32 {
            kvs.reverse();
        }
        let limit = if request.limit > 0 { request.limit as usize } else { usize::MAX };
        let more = kvs.len() > limit;
        kvs.truncate(limit);
        if request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        RangeResponse { header: self.header(), kvs, more, count }
    }

    fn txn_alone(&mut self, request: &TxnRequest) -> Result<TxnResponse, Refusal> {
        if changes_a_key_twice(&request.success) || changes_a_key_twice(&request.failure) {
            return Err(Refusal::DuplicateKey);
        }
        self.check_branch(request)?;
        let branches = self.branches(request);
        let mut response = self.txn(request, &mut branches.into_iter());
        response.header = self.header();
        Ok(response)
    }

    /// Whether all that a transaction is about to do can be done. What is wrong with a put is found before what is wrong with a
    /// range, wherever they stand, as in etcd.
    fn check_branch(&self, request: &TxnRequest) -> Result<(), Refusal> {
        self.check_ops(request, &|op| match op {
            request_op::Request::RequestPut(put) if put.ignore_value && self.key_now(&put.key).is_none() => {
                Err(Refusal::KeyNotFound)
            }
            _ => Ok(()),
        })?;
        self.check_ops(request, &|op| match op {
            request_op::Request::RequestRange(range) => self.check_revision(range.revision),
            _ => Ok(()),
        })
    }

    /// Looks at each operation of the branches that are taken.
    fn check_ops(
        &self,
        request: &TxnRequest,
        check: &dyn Fn(&request_op::Request) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let succeeds = request.compare.iter().all(|compare| self.holds(compare));
        for request in branch(request, succeeds).iter().filter_map(|op| op.request.as_ref()) {
            match request {
                request_op::Request::RequestTxn(nested) => self.check_ops(nested, check)?,
                request => check(request)?,
            }
        }
        Ok(())
    }

    /// Which branches are taken, in the order in which they are met. To be asked before anything is changed.
    fn branches(&self, request: &TxnRequest) -> Vec<bool> {
        let succeeds = request.compare.iter().all(|compare| self.holds(compare));
        let mut branches = vec![succeeds];
        for op in branch(request, succeeds) {
            if let Some(request_op::Request::RequestTxn(nested)) = &op.request {
                branches.extend(self.branches(nested));
            }
        }
        branches
    }

    fn txn(&mut self, request: &TxnRequest, branches: &mut impl Iterator<Item = bool>) -> TxnResponse {
        let succeeded = branches.next().expect("one for each transaction that is met");
        let mut responses = Vec::new();
        for op in branch(request, succeeded) {
            let response = match op.request.as_ref().expect("no client asks for an operation that is none") {
                request_op::Request::RequestRange(range) => response_op::Response::ResponseRange(self.range(range)),
                request_op::Request::RequestPut(put) => response_op::Response::ResponsePut(self.put(put)),
                request_op::Request::RequestDeleteRange(delete) => {
                    response_op::Response::ResponseDeleteRange(self.delete_range(delete))
                }
                request_op::Request::RequestTxn(nested) => {
                    response_op::Response::ResponseTxn(self.txn(nested, branches))
                }
            };
            responses.push(ResponseOp { response: Some(response) });
        }
        // Only the outermost says where it stands.
        TxnResponse { header: header(0), succeeded, responses }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let keys = self.keys_at(&Keys::of(&compare.key, &compare.range_end), self.state.revision);
        if keys.is_empty() {
            // What is not there has no value, and zero for everything else.
            let nothing = KeyValue::default();
            return compare.target != CompareTarget::Value as i32 && key_holds(compare, &nothing);
        }
        keys.iter().all(|kv| key_holds(compare, kv))
    }
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..Default::default() })
}

fn key_at(key: &Bytes, versions: &[Version], revision: i64) -> Option<KeyValue> {
    let before = versions.partition_point(|version| version.revision <= revision);
    let version = &versions[before.checked_sub(1)?];
    Some(KeyValue {
        key: key.clone(),
        create_revision: version.create,
        mod_revision: version.revision,
        version: version.version,
        value: version.value.clone()?,
        lease: 0,
    })
}

fn branch(request: &TxnRequest, succeeds: bool) -> &[RequestOp] {
    if succeeds { &request.success } else { &request.failure }
}

fn key_holds(compare: &Compare, kv: &KeyValue) -> bool {
    let ordering = match &compare.target_union {
        Some(TargetUnion::Value(value)) => kv.value.cmp(value),
        Some(TargetUnion::Version(version)) => kv.version.cmp(version),
        Some(TargetUnion::CreateRevision(revision)) => kv.create_revision.cmp(revision),
        Some(TargetUnion::ModRevision(revision)) => kv.mod_revision.cmp(revision),
        Some(TargetUnion::Lease(lease)) => kv.lease.cmp(lease),
        None => unreachable!("no client compares with nothing"),
    };
    match compare.result() {
        CompareResult::Equal => ordering.is_eq(),
        CompareResult::NotEqual => ordering.is_ne(),
        CompareResult::Greater => ordering.is_gt(),
        CompareResult::Less => ordering.is_lt(),
    }
}

/// Keys that operations may change, and whether by a put.
fn changed_keys(ops: &[RequestOp]) -> Vec<(Keys, bool)> {
    let of_one = |op: &RequestOp| match &op.request {
        Some(request_op::Request::RequestPut(put)) => vec![(Keys::of(&put.key, &Bytes::new()), true)],
        Some(request_op::Request::RequestDeleteRange(delete)) => {
            vec![(Keys::of(&delete.key, &delete.range_end), false)]
        }
        Some(request_op::Request::RequestTxn(nested)) => {
            [changed_keys(&nested.success), changed_keys(&nested.failure)].concat()
        }
        _ => Vec::new(),
    };
    ops.iter().flat_map(of_one).collect()
}

/// Whether two operations of a list may change the same key, at least one of them by a put.
fn changes_a_key_twice(ops: &[RequestOp]) -> bool {
    let changed: Vec<_> = ops.iter().map(|op| changed_keys(std::slice::from_ref(op))).collect();
    let meet = |left: &[(Keys, bool)], right: &[(Keys, bool)]| {
        left.iter().any(|(keys, puts)| right.iter().any(|(other, also)| (*puts || *also) && keys.meets(other)))
    };
    let twice = changed.iter().enumerate().any(|(n, left)| changed[..n].iter().any(|right| meet(left, right)));
    twice
        || ops.iter().any(|op| match &op.request {
            Some(request_op::Request::RequestTxn(nested)) => {
                changes_a_key_twice(&nested.success) || changes_a_key_twice(&nested.failure)
            }
            _ => false,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use vlot_proto::etcdserverpb::CompactionRequest;

    fn put(key: &'static str, value: &'static str) -> PutRequest {
        PutRequest { key: key.into(), value: value.into(), prev_kv: true, ..Default::default() }
    }

    fn kv(key: &'static str, value: &'static str, create: i64, modified: i64, version: i64) -> KeyValue {
        let (key, value) = (key.into(), value.into());
        KeyValue { key, value, create_revision: create, mod_revision: modified, version, lease: 0 }
    }

    fn done(model: &mut Model, request: Request) -> Result<Reply, Refusal> {
        let effect = model.evaluate(&request, model.state());
        model.commit(&effect);
        effect.outcome
    }

    #[test]
    fn a_bad_put_of_a_transaction_is_found_before_a_bad_range_that_stands_before_it() {
        let mut model = Model::default();
        for value in ["1", "2"] {
            assert!(done(&mut model, Request::Put(put("k", value))).is_ok());
        }
        assert!(done(&mut model, Request::Compact(CompactionRequest { revision: 3, physical: false })).is_ok());
        let op = |request| RequestOp { request: Some(request) };
        let range = op(request_op::Request::RequestRange(RangeRequest { revision: 2, ..Default::default() }));
        let kept = PutRequest { key: "none".into(), ignore_value: true, ..Default::default() };
        let txn = |ops: &[RequestOp]| Request::Txn(TxnRequest { success: ops.to_vec(), ..Default::default() });
        assert_eq!(done(&mut model, txn(std::slice::from_ref(&range))), Err(Refusal::Compacted { oldest: 3 }));
        let put = op(request_op::Request::RequestPut(kept));
        assert_eq!(done(&mut model, txn(&[range, put])), Err(Refusal::KeyNotFound));
    }

    #[test]
    fn versions_count_from_creation_and_a_deletion_ends_a_key() {
        let mut model = Model::default();
        let range = |revision| Request::Range(RangeRequest { key: "k".into(), revision, ..Default::default() });
        for (value, prev_kv) in [("1", None), ("2", Some(kv("k", "1", 2, 2, 1)))] {
            let response = PutResponse { header: header(model.state().revision + 1), prev_kv };
            assert_eq!(done(&mut model, Request::Put(put("k", value))), Ok(Reply::Put(response)));
        }
        let delete = DeleteRangeRequest { key: "\0".into(), range_end: "\0".into(), prev_kv: true };
        let prev_kvs = vec![kv("k", "2", 2, 3, 2)];
        let response = DeleteRangeResponse { header: header(4), deleted: 1, prev_kvs: prev_kvs.clone() };
        assert_eq!(done(&mut model, Request::DeleteRange(delete.clone())), Ok(Reply::DeleteRange(response)));
        let nothing = DeleteRangeResponse { header: header(4), ..Default::default() };
        assert_eq!(done(&mut model, Request::DeleteRange(delete)), Ok(Reply::DeleteRange(nothing)));
        assert_eq!(done(&mut model, Request::Put(put("k", "3"))).map(|reply| reply.revision()), Ok(5));
        assert_eq!(model.changes()[3].kv, kv("k", "3", 5, 5, 1));
        let old = RangeResponse { header: header(5), kvs: prev_kvs, more: false, count: 1 };
        assert_eq!(done(&mut model, range(3)), Ok(Reply::Range(old)));
        assert_eq!(done(&mut model, range(6)), Err(Refusal::FutureRevision { newest: 5 }));
        let compact = |revision| Request::Compact(CompactionRequest { revision, physical: false });
        assert!(done(&mut model, compact(4)).is_ok());
        assert_eq!(done(&mut model, compact(4)), Err(Refusal::Compacted { oldest: 4 }));
        assert_eq!(done(&mut model, range(3)), Err(Refusal::Compacted { oldest: 4 }));
        assert!(done(&mut model, range(4)).is_ok());
    }

    #[test]
    fn a_transaction_compares_before_it_changes_and_has_one_revision() {
        let op = |request| RequestOp { request: Some(request) };
        let is_missing = Compare {
            key: "a".into(),
            target: CompareTarget::Version as i32,
            target_union: Some(TargetUnion::Version(0)),
            ..Default::default()
        };
        let nested = TxnRequest {
            compare: vec![is_missing.clone()],
            success: vec![op(request_op::Request::RequestPut(put("b", "2")))],
            failure: vec![],
        };
        let all = RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
        let request = TxnRequest {
            compare: vec![is_missing],
            success: vec![
                op(request_op::Request::RequestPut(put("a", "1"))),
                op(request_op::Request::RequestTxn(nested)),
                op(request_op::Request::RequestRange(all)),
            ],
            failure: vec![],
        };
        let mut model = Model::default();
        let Ok(Reply::Txn(response)) = done(&mut model, Request::Txn(request.clone())) else { panic!("a transaction") };
        assert_eq!((response.succeeded, response.header), (true, header(2)));
        let Some(response_op::Response::ResponseRange(range)) = &response.responses[2].response else { panic!() };
        assert_eq!(range.kvs, [kv("a", "1", 2, 2, 1), kv("b", "2", 2, 2, 1)]);
        let Ok(Reply::Txn(again)) = done(&mut model, Request::Txn(request)) else { panic!("a transaction") };
        assert_eq!((again.succeeded, again.header, again.responses.len()), (false, header(2), 0));
        let twice = vec![
            op(request_op::Request::RequestPut(put("a", "1"))),
            op(request_op::Request::RequestDeleteRange(DeleteRangeRequest { key: "a".into(), ..Default::default() })),
        ];
        let twice = TxnRequest { success: twice, ..Default::default() };
        assert_eq!(done(&mut model, Request::Txn(twice)), Err(Refusal::DuplicateKey));
    }
}
