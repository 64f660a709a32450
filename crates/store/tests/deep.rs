//! Transactions nested as deeply as they may be: checked, applied and answered on a small stack, from the log as from a
//! client.

use std::sync::Arc;

use prost::Message;
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::response_op::Response;
use vlot_proto::etcdserverpb::{PutRequest, RangeRequest, RequestOp, ResponseHeader, TxnRequest, TxnResponse};
use vlot_proto::txn::{self, BadTxn, DEPTH_MAX};
use vlot_store::check;
use vlot_store::command::{BadCommand, Command, Tag};
use vlot_store::engine::memory::MemoryEngine;
use vlot_store::revision::Position;
use vlot_store::store::{Applied, Options, Store};

/// Half of what a thread has by default, in a build that does not save any.
const STACK_BYTES: usize = 1 << 20;

/// As many transactions, one within the other.
fn nested(depth: usize, innermost: Request) -> TxnRequest {
    let txn = |request| TxnRequest { success: vec![RequestOp { request: Some(request) }], ..TxnRequest::default() };
    (1..depth).fold(txn(innermost), |within, _| txn(Request::RequestTxn(within)))
}

fn put() -> Request {
    Request::RequestPut(PutRequest { key: "key".into(), value: "value".into(), ..PutRequest::default() })
}

fn range() -> Request {
    Request::RequestRange(RangeRequest { key: "key".into(), ..RangeRequest::default() })
}

/// What the innermost transaction has answered.
fn innermost(mut response: TxnResponse) -> Response {
    loop {
        match response.responses.pop().and_then(|op| op.response).unwrap() {
            Response::ResponseTxn(within) => response = within,
            other => return other,
        }
    }
}

#[test]
fn the_deepest_transaction_needs_little_stack() {
    let run = || {
        let mut store = Store::open_still(Arc::new(MemoryEngine::default()), Options::default()).unwrap();
        let writing = nested(DEPTH_MAX, put());
        check::check_txn(&writing, DEPTH_MAX).unwrap();
        assert!(!check::is_read_only(&writing));
        let command = Command::decode(Tag::Txn.with(&writing.encode_to_vec())).unwrap();
        let _ = store.is_prompt(&command);
        let Applied::Txn(response) = store.apply(Position { term: 1, index: 1 }, command).unwrap() else {
            panic!("a transaction")
        };
        assert!(response.encode_to_vec().len() > DEPTH_MAX);
        assert!(matches!(innermost(response), Response::ResponsePut(_)));
        store.end_batch();

        let reading = nested(DEPTH_MAX, range());
        assert!(check::is_read_only(&reading));
        let response = store.read_txn(&reading).unwrap();
        let small = store.read_txn_small(&reading).unwrap();
        assert!(small.is_none_or(|small| small == response));
        let answer = store.view().answer_txn(&reading, ResponseHeader::default()).unwrap();
        assert!(answer.encoded_len() > DEPTH_MAX);
        let Response::ResponseRange(found) = innermost(response) else { panic!("a range") };
        assert_eq!(found.kvs[0].value, "value");
    };
    std::thread::Builder::new().stack_size(STACK_BYTES).spawn(run).unwrap().join().unwrap();
}

#[test]
fn what_is_deeper_is_no_command() {
    let deeper = nested(DEPTH_MAX + 1, put()).encode_to_vec();
    assert_eq!(txn::decode(deeper.clone().into()), Err(BadTxn::TooDeep));
    assert_eq!(Command::decode(Tag::Txn.with(&deeper)), Err(BadCommand::Malformed(Tag::Txn)));
}

#[test]
fn each_level_takes_one_of_the_operations() {
    use vlot_store::refusal::Refusal::TooManyOps;
    for ops_max in [1, 2, 128] {
        assert_eq!(check::check_txn(&nested(ops_max, put()), ops_max), Ok(()));
        assert_eq!(check::check_txn(&nested(ops_max + 1, put()), ops_max), Err(TooManyOps));
    }
}
