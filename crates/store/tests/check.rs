//! Which requests are sound.

use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::{Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};
use vlot_store::check::{check_delete, check_put, check_range, check_txn, is_read_only};
use vlot_store::refusal::Refusal;

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn put(key: &str) -> RequestOp {
    op(Request::RequestPut(PutRequest { key: key.to_owned().into(), ..Default::default() }))
}

fn delete(key: &str, range_end: &str) -> RequestOp {
    let (key, range_end) = (key.to_owned().into(), range_end.to_owned().into());
    op(Request::RequestDeleteRange(DeleteRangeRequest { key, range_end, prev_kv: false }))
}

fn range(key: &str) -> RequestOp {
    op(Request::RequestRange(RangeRequest { key: key.to_owned().into(), ..Default::default() }))
}

fn txn(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
    op(Request::RequestTxn(TxnRequest { compare: Vec::new(), success, failure }))
}

#[test]
fn single_requests() {
    let put = |change: fn(&mut PutRequest)| {
        let mut put = PutRequest { key: "k".into(), ..Default::default() };
        change(&mut put);
        check_put(&put)
    };
    assert_eq!(put(|_| {}), Ok(()));
    assert_eq!(put(|put| put.key.clear()), Err(Refusal::EmptyKey));
    assert_eq!(put(|put| put.ignore_value = true), Ok(()));
    assert_eq!(put(|put| (put.ignore_value, put.value) = (true, "v".into())), Err(Refusal::ValueProvided));
    assert_eq!(put(|put| (put.ignore_lease, put.lease) = (true, 1)), Err(Refusal::LeaseProvided));

    let range = |change: fn(&mut RangeRequest)| {
        let mut range = RangeRequest { key: "k".into(), ..Default::default() };
        change(&mut range);
        check_range(&range)
    };
    assert_eq!(range(|range| (range.sort_order, range.sort_target) = (2, 4)), Ok(()));
    assert_eq!(range(|range| range.key.clear()), Err(Refusal::EmptyKey));
    assert_eq!(range(|range| range.sort_order = 3), Err(Refusal::InvalidSortOption));
    assert_eq!(range(|range| range.sort_target = -1), Err(Refusal::InvalidSortOption));
    assert_eq!(check_delete(&DeleteRangeRequest::default()), Err(Refusal::EmptyKey));
}

#[test]
fn no_key_is_changed_twice() {
    let twice = || Err(Refusal::DuplicateKey);
    let rows = [
        (vec![put("a"), put("b")], Ok(())),
        (vec![put("a"), put("a")], twice()),
        (vec![put("a"), delete("a", "")], twice()),
        (vec![delete("a", "c"), put("b")], twice()),
        (vec![delete("a", "c"), put("c")], Ok(())),
        (vec![put("d"), delete("b", "\0")], twice()),
        (vec![put("a"), delete("b", "\0")], Ok(())),
        (vec![delete("b", "a"), put("b")], Ok(())),
        (vec![delete("a", "c"), delete("b", "d"), delete("b", "")], Ok(())),
        (vec![delete("a", "c"), delete("e", "g"), delete("b", "f"), put("d")], twice()),
        (vec![delete("a", "b"), delete("c", "d"), put("b")], Ok(())),
        (vec![txn(vec![put("a")], vec![put("a")])], Ok(())),
        (vec![txn(vec![put("a")], vec![delete("a", "")])], Ok(())),
        (vec![txn(vec![put("a")], vec![]), put("a")], twice()),
        (vec![txn(vec![], vec![put("a")]), delete("\0", "\0")], twice()),
        (vec![txn(vec![put("a")], vec![]), txn(vec![], vec![put("a")])], twice()),
        (vec![txn(vec![txn(vec![delete("a", "c")], vec![])], vec![]), put("b")], twice()),
        (vec![txn(vec![put("a"), put("a")], vec![])], twice()),
        (vec![range("a"), put("a"), range("a")], Ok(())),
    ];
    for (ops, expected) in rows {
        let success = TxnRequest { success: ops.clone(), ..Default::default() };
        assert_eq!(check_txn(&success, 128), expected, "{ops:?}");
        let failure = TxnRequest { failure: ops.clone(), success: ops, ..Default::default() };
        assert_eq!(check_txn(&failure, 128), expected, "each branch is for itself");
    }
}

#[test]
fn lists_are_bounded_and_nested_ones_get_what_is_left() {
    let compare = Compare { key: "k".into(), ..Default::default() };
    let nested = |outer: usize, inner: usize| {
        let mut success: Vec<_> = (1..outer).map(|_| range("k")).collect();
        success.push(txn((0..inner).map(|_| range("k")).collect(), Vec::new()));
        check_txn(&TxnRequest { success, ..Default::default() }, 5)
    };
    assert_eq!(nested(2, 3), Ok(()));
    assert_eq!(nested(2, 4), Err(Refusal::TooManyOps));
    assert_eq!(nested(6, 0), Err(Refusal::TooManyOps));
    let compares = TxnRequest { compare: vec![compare; 6], ..Default::default() };
    assert_eq!(check_txn(&compares, 5), Err(Refusal::TooManyOps));
}

#[test]
fn every_part_of_a_transaction_is_looked_at() {
    let rows = [
        (vec![put("")], Refusal::EmptyKey),
        (vec![range("")], Refusal::EmptyKey),
        (vec![delete("", "")], Refusal::EmptyKey),
        (vec![txn(vec![], vec![put("")])], Refusal::EmptyKey),
        (vec![RequestOp { request: None }], Refusal::KeyNotFound),
    ];
    for (ops, expected) in rows {
        assert_eq!(check_txn(&TxnRequest { failure: ops, ..Default::default() }, 128), Err(expected));
    }
    let compare = TxnRequest { compare: vec![Compare::default()], ..Default::default() };
    assert_eq!(check_txn(&compare, 128), Err(Refusal::EmptyKey));
}

#[test]
fn a_transaction_of_ranges_alone_is_a_read() {
    let rows = [
        (vec![], true),
        (vec![range("a"), txn(vec![range("b")], vec![])], true),
        (vec![txn(vec![], vec![put("b")])], false),
        (vec![delete("a", "")], false),
    ];
    for (ops, expected) in rows {
        assert_eq!(is_read_only(&TxnRequest { failure: ops, ..Default::default() }), expected);
    }
}
