//! Commands from the log, as a script: whatever is decoded is applied, the same on a store that was stopped and restored in
//! between.

use std::sync::Arc;

use bytes::Bytes;
use vlot_proto::etcdserverpb::compare::TargetUnion;
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::{
    AlarmRequest, CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest,
    RangeRequest, RequestOp, TxnRequest, WatchCreateRequest,
};
use vlot_store::command::{Command, LeaseTime};
use vlot_store::engine::memory::MemoryEngine;
use vlot_store::revision::Position;
use vlot_store::store::{Options, Store};

use super::reader::Reader;

/// Bytes that one watch takes at a time.
const DRAIN_BYTES: usize = 4096;

/// Runs one input.
///
/// # Panics
/// If something does not hold that must.
pub fn run(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    let (mut store, mut other) = (new(), new());
    let mut watch = store.watch_stream(Arc::new(|| {}));
    let mut index = 0;
    while !reader.is_empty() && index < 200 {
        index += 1;
        let at = Position { term: 1, index };
        let Some(command) = command(&mut reader) else {
            store.skip(at);
            other.skip(at);
            continue;
        };
        assert_eq!(Command::decode(command.encode()).as_ref(), Ok(&command));
        let outcome = store.apply(at, command.clone());
        assert_eq!(outcome.is_ok(), other.apply(at, command).is_ok());
        match reader.below(12) {
            0 => drop(store.compact_step()),
            1 => store.end_batch(),
            2 => other = restored(&mut other),
            3 => look(&store, &mut reader),
            4 => {
                let key = key(&mut reader);
                let create = WatchCreateRequest {
                    range_end: self::key(&mut reader),
                    start_revision: number(&mut reader),
                    prev_kv: reader.flag(),
                    key,
                    ..WatchCreateRequest::default()
                };
                watch.create(&create);
            }
            5 => {
                // What is behind is read from a view.
                let _ = watch.catch_up(&store.view(), DRAIN_BYTES);
                watch.drain(DRAIN_BYTES);
            }
            _ => {}
        }
    }
    for store in [&mut store, &mut other] {
        store.end_batch();
        while store.compact_step() {}
    }
    assert_eq!((store.revision(), store.applied()), (other.revision(), other.applied()));
    assert_eq!(store.hash(0), other.hash(0));
}

fn new() -> Store {
    Store::open_still(Arc::new(MemoryEngine::default()), Options::default()).expect("a new engine opens")
}

/// Another store with what is in this one.
fn restored(store: &mut Store) -> Store {
    store.end_batch();
    store.flush().expect("memory takes it");
    let mut stream = Vec::new();
    store.snapshot().expect("the engine can be read").write_to(&mut stream).expect("memory takes it");
    let mut next = new();
    next.restore(&mut &stream[..]).expect("what was written is read");
    next
}

fn look(store: &Store, reader: &mut Reader<'_>) {
    let range = range(reader);
    let Ok(found) = store.range(&range) else { return };
    assert!(range.limit <= 0 || found.kvs.len() as i64 <= range.limit);
    assert!(found.count >= found.kvs.len() as i64);
}

/// The next command; `None` if what is there is none.
fn command(reader: &mut Reader<'_>) -> Option<Command> {
    Some(match reader.below(12) {
        0..=3 => Command::Put(put(reader)),
        4 => Command::DeleteRange(delete(reader)),
        5 | 6 => Command::Txn(txn(reader, 3)),
        7 => Command::Compact(CompactionRequest { revision: number(reader), physical: reader.flag() }),
        8 => Command::LeaseGrant(LeaseGrantRequest { id: number(reader), ttl: number(reader) }),
        9 => match reader.below(3) {
            0 => Command::LeaseRevoke(LeaseRevokeRequest { id: number(reader) }),
            1 => Command::LeaseKeepAlive((0..reader.below(4)).map(|_| number(reader)).collect()),
            _ => Command::LeaseTime(LeaseTime {
                term: reader.number() % 3,
                now: reader.number(),
                renewals: reader.number(),
                ended: (0..reader.below(4)).map(|_| (number(reader), reader.number())).collect(),
            }),
        },
        10 => match reader.flag() {
            true => Command::SetAttribute { name: key(reader), value: key(reader) },
            false => Command::Alarm(AlarmRequest {
                action: i32::from(reader.byte() % 5),
                member_id: reader.number(),
                alarm: i32::from(reader.byte() % 5) - 1,
            }),
        },
        // As it comes, with any tag.
        _ => {
            let length = usize::from(reader.byte());
            return Command::decode(Bytes::copy_from_slice(reader.bytes(length))).ok();
        }
    })
}

fn key(reader: &mut Reader<'_>) -> Bytes {
    match reader.byte() {
        0 => Bytes::new(),
        1 => Bytes::from_static(b"\0"),
        length @ 2..16 => Bytes::copy_from_slice(reader.bytes(usize::from(length))),
        other => vec![b'a' + other % 5].into(),
    }
}

fn number(reader: &mut Reader<'_>) -> i64 {
    let number = reader.number() as i64;
    if reader.one_in(8) { number.wrapping_neg() } else { number }
}

fn put(reader: &mut Reader<'_>) -> PutRequest {
    PutRequest {
        key: key(reader),
        value: key(reader),
        lease: number(reader),
        prev_kv: reader.flag(),
        ignore_value: reader.one_in(4),
        ignore_lease: reader.one_in(4),
    }
}

fn delete(reader: &mut Reader<'_>) -> DeleteRangeRequest {
    DeleteRangeRequest { key: key(reader), range_end: key(reader), prev_kv: reader.flag() }
}

fn range(reader: &mut Reader<'_>) -> RangeRequest {
    RangeRequest {
        key: key(reader),
        range_end: key(reader),
        limit: number(reader),
        revision: number(reader),
        sort_order: i32::from(reader.byte() % 4),
        sort_target: i32::from(reader.byte() % 6),
        keys_only: reader.flag(),
        count_only: reader.one_in(4),
        min_mod_revision: number(reader),
        max_create_revision: number(reader),
        ..RangeRequest::default()
    }
}

fn txn(reader: &mut Reader<'_>, depth: usize) -> TxnRequest {
    let compare = |reader: &mut Reader<'_>| Compare {
        result: i32::from(reader.byte() % 5),
        target: i32::from(reader.byte() % 6),
        key: key(reader),
        range_end: key(reader),
        target_union: match reader.below(6) {
            0 => Some(TargetUnion::Version(number(reader))),
            1 => Some(TargetUnion::CreateRevision(number(reader))),
            2 => Some(TargetUnion::ModRevision(number(reader))),
            3 => Some(TargetUnion::Value(key(reader))),
            4 => Some(TargetUnion::Lease(number(reader))),
            _ => None,
        },
    };
    TxnRequest {
        compare: (0..reader.below(3)).map(|_| compare(reader)).collect(),
        success: (0..reader.below(3)).map(|_| op(reader, depth)).collect(),
        failure: (0..reader.below(3)).map(|_| op(reader, depth)).collect(),
    }
}

fn op(reader: &mut Reader<'_>, depth: usize) -> RequestOp {
    let request = match reader.below(8) {
        0..=2 => Some(Request::RequestPut(put(reader))),
        3 | 4 => Some(Request::RequestRange(range(reader))),
        5 => Some(Request::RequestDeleteRange(delete(reader))),
        6 if depth > 0 => Some(Request::RequestTxn(txn(reader, depth - 1))),
        _ => None,
    };
    RequestOp { request }
}
