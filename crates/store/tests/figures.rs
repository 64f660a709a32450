//! What a store counts, held against what was done to it. That these are etcd's counts is tried in the program's tests.

use std::sync::Arc;

use vlot_proto::etcdserverpb::compare::{CompareTarget, TargetUnion};
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest,
    RequestOp, TxnRequest, WatchCreateRequest,
};
use vlot_store::command::Command;
use vlot_store::engine::memory::MemoryEngine;
use vlot_store::figures::Figures;
use vlot_store::revision::Position;
use vlot_store::store::{Options, Store};
use vlot_store::watch::WatchStream;

fn open() -> Store {
    let options = Options { mailbox_bytes_max: 100, ..Options::default() };
    Store::open_still(Arc::new(MemoryEngine::default()), options).unwrap()
}

fn apply(store: &mut Store, command: Command) {
    let at = Position { term: 1, index: store.applied().index + 1 };
    store.apply(at, command).ok();
    store.end_batch();
}

fn put(key: &'static str, value: &'static str) -> PutRequest {
    PutRequest { key: key.into(), value: value.into(), ..Default::default() }
}

fn range(key: &'static str) -> RangeRequest {
    RangeRequest { key: key.into(), ..Default::default() }
}

fn delete(key: &'static str) -> DeleteRangeRequest {
    DeleteRangeRequest { key: key.into(), ..Default::default() }
}

fn exists(key: &'static str) -> Compare {
    let (target, target_union) = (CompareTarget::Create as i32, Some(TargetUnion::CreateRevision(0)));
    Compare { result: 3, target, key: key.into(), target_union, ..Default::default() }
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// Puts, deletions, ranges and transactions, and bytes that were put.
fn counts(store: &Store) -> [u64; 5] {
    let Figures { puts, deletions, ranges, txns, put_bytes, .. } = store.figures();
    [puts, deletions, ranges, txns, put_bytes]
}

/// Does something, and tells by how much the counts have grown.
fn grown(store: &mut Store, act: impl FnOnce(&mut Store)) -> [u64; 5] {
    let before = counts(store);
    act(store);
    let after = counts(store);
    std::array::from_fn(|place| after[place] - before[place])
}

#[test]
fn commands_count_as_what_they_are_made_of() {
    let mut store = open();
    let of = |store: &mut Store, command| grown(store, |store| apply(store, command));
    assert_eq!(of(&mut store, Command::Put(put("a", "one"))), [1, 0, 0, 0, 4]);
    let with_previous = PutRequest { prev_kv: true, ..put("a", "two") };
    assert_eq!(of(&mut store, Command::Put(with_previous)), [1, 0, 1, 1, 4]);
    let of_nothing = PutRequest { ignore_value: true, ..put("none", "") };
    assert_eq!(of(&mut store, Command::Put(of_nothing)), [0, 0, 1, 0, 0], "it is refused");
    assert_eq!(of(&mut store, Command::DeleteRange(delete("none"))), [0, 1, 0, 0, 0]);
    let with_previous = DeleteRangeRequest { prev_kv: true, ..delete("a") };
    assert_eq!(of(&mut store, Command::DeleteRange(with_previous)), [0, 1, 1, 1, 0]);
}

#[test]
fn a_transaction_that_changes_something_compares_first_and_that_counts_by_itself() {
    let mut store = open();
    apply(&mut store, Command::Put(put("a", "one")));
    let one = TxnRequest {
        compare: vec![exists("a")],
        success: vec![op(Request::RequestPut(put("b", "x")))],
        ..Default::default()
    };
    assert_eq!(grown(&mut store, |store| apply(store, Command::Txn(one.clone()))), [1, 0, 1, 0, 2]);
    let two = TxnRequest {
        compare: vec![exists("a"), exists("none"), exists("b")],
        failure: vec![
            op(Request::RequestPut(put("c", "x"))),
            op(Request::RequestRange(range("b"))),
            op(Request::RequestTxn(one)),
        ],
        ..Default::default()
    };
    // Two comparisons until one fails and one that is nested; then two puts and a range.
    assert_eq!(grown(&mut store, |store| apply(store, Command::Txn(two))), [2, 0, 4, 2, 4]);
}

#[test]
fn reads_count_wherever_they_are_answered() {
    let mut store = open();
    apply(&mut store, Command::Put(put("a", "one")));
    let all = RangeRequest { key: "a".into(), range_end: "z".into(), ..Default::default() };
    let read = TxnRequest {
        compare: vec![exists("a")],
        success: vec![op(Request::RequestRange(range("a")))],
        ..Default::default()
    };
    assert_eq!(grown(&mut store, |store| drop(store.range(&range("a")))), [0, 0, 1, 0, 0]);
    assert_eq!(grown(&mut store, |store| drop(store.short_range(&all, 10, 100))), [0, 0, 1, 0, 0]);
    assert_eq!(grown(&mut store, |store| drop(store.short_range(&all, 10, 1))), [0; 5], "a view answers it");
    assert_eq!(grown(&mut store, |store| drop(store.view().answer(&all, Default::default()))), [0, 0, 1, 0, 0]);
    let of_the_future = RangeRequest { revision: 99, ..range("a") };
    assert_eq!(grown(&mut store, |store| drop(store.short_range(&of_the_future, 9, 9))), [0, 0, 1, 0, 0]);
    assert_eq!(grown(&mut store, |store| drop(store.read_txn_small(&read))), [0, 0, 2, 1, 0]);
    assert_eq!(grown(&mut store, |store| drop(store.view().answer_txn(&read, Default::default()))), [0, 0, 2, 1, 0]);
}

fn stream(store: &Store) -> WatchStream {
    store.watch_stream(Arc::new(|| {}))
}

fn watch(key: &'static str, start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest { key: key.into(), start_revision, ..Default::default() }
}

/// Streams, watches, those that are behind, events that wait, and events that were given away.
fn watches(store: &Store) -> [u64; 5] {
    let Figures { watch_streams, watches, slow_watches, pending_events, sent_events, .. } = store.figures();
    [watch_streams, watches, slow_watches, pending_events, sent_events]
}

#[test]
fn watches_are_counted_as_they_come_fall_behind_catch_up_and_go() {
    let mut store = open();
    apply(&mut store, Command::Put(put("a", "one")));
    let mut one = stream(&store);
    let mut other = stream(&store);
    one.create(&watch("a", 0));
    one.create(&watch("b", 0));
    other.create(&watch("a", 1));
    assert_eq!(watches(&store), [2, 3, 1, 0, 0], "one begins in the past");
    other.catch_up(&store.view(), 1 << 20).unwrap();
    other.catch_up(&store.view(), 1 << 20).unwrap();
    assert_eq!(watches(&store), [2, 3, 0, 0, 1]);
    apply(&mut store, Command::Put(put("a", "two")));
    assert_eq!(watches(&store), [2, 3, 0, 2, 1]);
    one.drain(1 << 20);
    assert_eq!(watches(&store), [2, 3, 0, 1, 2]);
    // The mailbox of the other is full after some more.
    for _ in 0..10 {
        apply(&mut store, Command::Put(put("a", "more")));
        one.drain(1 << 20);
    }
    let [_, _, slow, pending, sent] = watches(&store);
    assert_eq!((slow, sent), (1, 12));
    assert!((2..10).contains(&pending), "{pending}");
    one.cancel(1);
    assert_eq!(watches(&store)[..3], [2, 2, 1]);
    other.cancel(0);
    assert_eq!(watches(&store)[..3], [2, 1, 0], "one that is behind may be canceled");
    drop(other);
    assert_eq!(watches(&store)[..4], [1, 1, 0, 0], "what waited for a stream goes with it");
    one.create(&watch("a", 1));
    drop(one);
    assert_eq!(watches(&store)[..4], [0; 4]);
}

#[test]
fn leases_are_counted_as_they_come_are_renewed_and_go() {
    let mut store = open();
    let leases = |store: &Store| {
        let Figures { leases_granted, leases_renewed, leases_revoked, leases_expired, .. } = store.figures();
        [leases_granted.count(), leases_renewed, leases_revoked, leases_expired]
    };
    let grant = |id| Command::LeaseGrant(LeaseGrantRequest { id, ttl: 100 });
    let revoke = |id| Command::LeaseRevoke(LeaseRevokeRequest { id });
    [1, 1, 2].into_iter().for_each(|id| apply(&mut store, grant(id)));
    assert_eq!(leases(&store), [2, 0, 0, 0], "one id is taken");
    assert_eq!(store.figures().leases_granted.sum.as_secs(), 200);
    apply(&mut store, Command::LeaseKeepAlive(vec![1, 2, 3]));
    assert_eq!(leases(&store), [2, 2, 0, 0], "one is none");
    for key in ["a", "b"] {
        apply(&mut store, Command::Put(PutRequest { lease: 1, ..put(key, "v") }));
    }
    let ended = grown(&mut store, |store| [1, 3].into_iter().for_each(|id| apply(store, revoke(id))));
    assert_eq!((leases(&store), ended), ([2, 2, 1, 0], [0, 2, 0, 1, 0]));
}

#[test]
fn compaction_counts_what_it_takes_out_and_says_when_it_has_ended() {
    let mut store = open();
    for _ in 0..5 {
        apply(&mut store, Command::Put(put("a", "v")));
    }
    store.flush().unwrap();
    assert_eq!(store.figures().compacted_at, None);
    apply(&mut store, Command::Compact(CompactionRequest { revision: 5, physical: false }));
    while store.compact_step() {}
    store.flush().unwrap();
    let Figures { thinned_versions, compactions, thinnings, compacted_at, commits, .. } = store.figures();
    // Of revisions 2 to 6 the last one up to 5 stays.
    assert_eq!((thinned_versions, compactions.count(), thinnings.count()), (3, 1, 1));
    assert!(compacted_at.is_some() && commits.count() >= 3);
}

#[test]
fn figures_go_on_when_a_store_becomes_a_snapshot() {
    let mut from = open();
    (0..3).for_each(|_| apply(&mut from, Command::Put(put("a", "v"))));
    from.flush().unwrap();
    let mut bytes = Vec::new();
    from.snapshot().unwrap().write_to(&mut bytes).unwrap();
    let mut store = open();
    apply(&mut store, Command::Put(put("a", "v")));
    let mut stream = stream(&store);
    stream.create(&watch("a", 0));
    store.restore(&mut &bytes[..]).unwrap();
    assert_eq!(counts(&store)[0], 1);
    assert_eq!(watches(&store)[..3], [1, 1, 1], "the watch reads what the snapshot brought");
    stream.catch_up(&store.view(), 1 << 20).unwrap();
    stream.catch_up(&store.view(), 1 << 20).unwrap();
    assert_eq!(watches(&store)[..3], [1, 1, 0]);
}
