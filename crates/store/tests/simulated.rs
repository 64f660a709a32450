//! What a simulator needs: a store that does nothing by itself, and a disk that leaves open what it has done.

use std::sync::Arc;

use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use vlot_store::command::Command;
use vlot_store::engine::EngineError;
use vlot_store::engine::memory::{FailedWrite, MemoryEngine};
use vlot_store::revision::Position;
use vlot_store::store::{Failure, Options, Store};

mod obvious;
use obvious::Dice;

fn open(engine: &MemoryEngine, value_cache_bytes: usize) -> Store {
    let options = Options { value_cache_bytes, ..Options::default() };
    Store::open_still(Arc::new(engine.clone()), options).unwrap()
}

fn at(index: u64) -> Position {
    Position { term: 1, index }
}

/// The log: the same commands by index each time.
fn command(index: u64) -> Command {
    Dice(index * 7_919).command(1 + index as i64 / 3)
}

fn advance(store: &mut Store, upto: u64) {
    while store.applied().index < upto {
        let index = store.applied().index + 1;
        store.apply(at(index), command(index)).ok();
        if index.is_multiple_of(5) {
            store.end_batch();
            store.compact_step();
        }
    }
}

#[test]
fn a_failed_write_is_there_as_a_whole_or_not_at_all() {
    for (seed, outcome) in [FailedWrite::Kept, FailedWrite::Lost].into_iter().cycle().take(20).enumerate() {
        let mut dice = Dice(seed as u64);
        let engine = MemoryEngine::default();
        let mut store = open(&engine, 200);
        let (flushed, newest) = (1 + dice.below(100), 101 + dice.below(100));
        advance(&mut store, flushed);
        store.flush().unwrap();
        let kept = store.hash(0).unwrap();
        advance(&mut store, newest);
        let lost = store.hash(0).unwrap();
        engine.fail_next_write(outcome);
        let failed = store.flush().unwrap_err();
        assert!(matches!(failed, EngineError::Failed(_)));
        assert_eq!(store.failure(), Some(Failure::Engine(failed)));
        assert_eq!(store.durable(), at(flushed), "nothing is promised that is in doubt");
        advance(&mut store, newest + 20);
        assert!(store.flush().is_err(), "it is not tried again");

        drop(store);
        engine.restart();
        let mut store = open(&engine, 200);
        let found = if outcome == FailedWrite::Kept { (newest, lost) } else { (flushed, kept) };
        assert_eq!((store.applied(), store.hash(0)), (at(found.0), Ok(found.1)));
        // The log brings the rest.
        advance(&mut store, 300);
        store.flush().unwrap();
        let mut other = open(&MemoryEngine::default(), 1 << 20);
        advance(&mut other, 300);
        assert_eq!(store.hash(0), other.hash(0));
    }
}

#[test]
fn what_is_not_flushed_is_lost_with_the_store() {
    let engine = MemoryEngine::default();
    let mut store = open(&engine, 0);
    advance(&mut store, 40);
    assert_eq!((store.durable(), engine.blocks()), (Position::default(), 0));
    store.flush().unwrap();
    advance(&mut store, 80);
    assert_eq!(store.durable(), at(40));
    drop(store);
    assert_eq!(open(&engine, 0).applied(), at(40));
}

#[test]
fn a_command_is_prompt_if_nothing_can_hold_it_up() {
    let engine = MemoryEngine::default();
    let mut store = open(&engine, 1_000);
    let put = |key: &str| PutRequest { key: key.to_owned().into(), value: vec![7; 90].into(), ..Default::default() };
    store.apply(at(1), Command::Put(PutRequest { value: vec![7; 20_000].into(), ..put("cold") })).unwrap();
    store.flush().unwrap();
    store.apply(at(2), Command::Put(put("hot"))).unwrap();
    store.flush().unwrap();
    let op = |request| RequestOp { request: Some(request) };
    let puts = |count| (0..count).map(|number| op(Request::RequestPut(put(&number.to_string())))).collect();
    let get = |key: &str| RangeRequest { key: key.to_owned().into(), ..Default::default() };
    let delete = |key: &str| DeleteRangeRequest { key: key.to_owned().into(), ..Default::default() };
    let compare = |key: &str, target| Compare { key: key.to_owned().into(), target, ..Default::default() };
    let txn = |compare: Vec<Compare>, success: Vec<RequestOp>| {
        Command::Txn(TxnRequest { compare, success, ..Default::default() })
    };
    let rows = [
        (Command::Put(put("cold")), true),
        (Command::Put(PutRequest { prev_kv: true, ..put("hot") }), true),
        (Command::Put(PutRequest { prev_kv: true, ..put("cold") }), false),
        (Command::Put(PutRequest { ignore_value: true, ..put("cold") }), false),
        (Command::Put(PutRequest { ignore_value: true, ..put("none") }), true),
        (Command::Put(PutRequest { value: vec![7; 1 << 20].into(), ..put("hot") }), false),
        (Command::DeleteRange(delete("cold")), true),
        (Command::DeleteRange(DeleteRangeRequest { prev_kv: true, ..delete("cold") }), false),
        (Command::DeleteRange(DeleteRangeRequest { range_end: "d".into(), ..delete("cold") }), false),
        (txn(vec![], puts(16)), true),
        (txn(vec![], puts(17)), false),
        (txn(vec![compare("cold", 0)], puts(15)), true),
        (txn(vec![compare("cold", 0)], puts(16)), false),
        (txn(vec![compare("cold", 3)], vec![]), false),
        (txn(vec![compare("hot", 3)], vec![op(Request::RequestRange(get("hot")))]), true),
        (txn(vec![], vec![op(Request::RequestRange(get("cold")))]), false),
        (txn(vec![], vec![op(Request::RequestRange(RangeRequest { keys_only: true, ..get("cold") }))]), true),
        (txn(vec![], vec![op(Request::RequestRange(RangeRequest { range_end: "z".into(), ..get("hot") }))]), false),
        (Command::Compact(CompactionRequest { revision: 2, physical: true }), true),
        (Command::SetAttribute { name: "member/1".into(), value: "url".into() }, true),
    ];
    for (command, expected) in rows {
        assert_eq!(store.is_prompt(&command), expected, "{command:?}");
    }

    let options = Options { backlog_bytes_max: 1_000, ..Options::default() };
    let mut full = Store::open_still(Arc::new(MemoryEngine::default()), options).unwrap();
    assert!(full.is_prompt(&Command::Put(put("hot"))));
    for index in 1..20 {
        full.apply(at(index), Command::Put(put("hot"))).unwrap();
    }
    full.end_batch();
    assert!(!full.is_prompt(&Command::Put(put("hot"))), "the engine has to catch up");
    full.flush().unwrap();
    assert!(full.is_prompt(&Command::Put(put("hot"))));
}
