//! A view answers as the store did at its moment, for its whole life; long answers in slices are the answers, and so are short
//! ones whose values are read later.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use vlot_proto::etcdserverpb::range_request::SortTarget;
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, RangeStreamResponse, RequestOp,
    ResponseHeader, TxnRequest,
};
use vlot_store::chunks::RangeChunks;
use vlot_store::command::Command;
use vlot_store::engine::memory::MemoryEngine;
use vlot_store::refusal::Refusal;
use vlot_store::revision::Position;
use vlot_store::short::ShortRange;
use vlot_store::store::{HistoryHash, Options, Store};
use vlot_store::view::View;

mod obvious;
use obvious::{Dice, Obvious};

fn apply(store: &mut Store, command: Command) {
    let at = Position { term: 1, index: store.applied().index + 1 };
    store.apply(at, command).ok();
}

fn put(store: &mut Store, key: &str, value: impl Into<Bytes>) {
    let put = PutRequest { key: key.to_owned().into(), value: value.into(), ..Default::default() };
    apply(store, Command::Put(put));
    store.end_batch();
}

fn all() -> RangeRequest {
    RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() }
}

fn slices(view: &View, request: &RangeRequest, bytes_max: usize) -> Result<(Vec<Bytes>, usize), Refusal> {
    let mut answer = view.answer(request, ResponseHeader { member_id: 7, raft_term: 3, ..Default::default() })?;
    let length = answer.encoded_len();
    let mut slices = Vec::new();
    while let Some(slice) = answer.next_slice(bytes_max)? {
        slices.push(slice);
    }
    Ok((slices, length))
}

/// The answer as it is sent without slices.
fn whole(obvious: &Obvious, request: &RangeRequest) -> Result<Vec<u8>, Refusal> {
    let mut response = obvious.range(request)?;
    let header = response.header.as_mut().unwrap();
    (header.member_id, header.raft_term) = (7, 3);
    Ok(response.encode_to_vec())
}

/// A view, and the state of the obvious store at the same moment.
struct Taken {
    view: View,
    obvious: Obvious,
    hash: Result<HistoryHash, Refusal>,
}

impl Taken {
    fn check(&self, dice: &mut Dice) {
        let Self { view, obvious, hash } = self;
        assert_eq!(view.revision(), obvious.revision());
        assert_eq!(view.compacted_revision(), obvious.compacted);
        assert_eq!(view.hash(0), *hash);
        for revision in obvious.compacted.max(1)..=obvious.revision() {
            let all = RangeRequest { revision, ..all() };
            assert_eq!(view.range(&all), obvious.range(&all), "at {revision}");
        }
        for _ in 0..10 {
            let range = dice.range(obvious.revision());
            assert_eq!(view.range(&range), obvious.range(&range), "{range:?}");
            let bytes_max = [1, 30, 500, 1 << 20][dice.below(4) as usize];
            match (slices(view, &range, bytes_max), whole(obvious, &range)) {
                (Ok((slices, length)), Ok(whole)) => {
                    assert_eq!(length, whole.len(), "{range:?}");
                    assert!(slices.concat() == whole, "{range:?}");
                }
                (slices, whole) => assert_eq!(slices.map(|_| ()), whole.map(|_| ()), "{range:?}"),
            }
        }
    }
}

/// Returns how many values were read from the engine for short answers.
fn live_through(mut store: Store, seed: u64, steps: usize) -> usize {
    let mut dice = Dice(seed);
    let mut obvious = Obvious::new();
    let mut taken: Vec<Taken> = Vec::new();
    // Short answers that are not completed, and what they are to be.
    let mut short: Vec<(ShortRange, RangeResponse)> = Vec::new();
    let mut values_on_disk = 0;
    for _ in 0..steps {
        let command = dice.command(obvious.revision());
        obvious.apply(1, &command).ok();
        apply(&mut store, command);
        match dice.below(24) {
            0..=5 => store.end_batch(),
            6 => store.flush().unwrap(),
            7..=10 => drop(store.compact_step()),
            11..=12 => {
                // In the middle of a batch as well.
                taken.push(Taken { view: store.view(), obvious: obvious.clone(), hash: store.hash(0) });
            }
            13 if !taken.is_empty() => {
                let one = taken.swap_remove(dice.below(taken.len() as u64) as usize);
                one.check(&mut dice);
                let clone = Taken { view: one.view.clone(), ..one };
                std::thread::spawn(move || clone.check(&mut Dice(1))).join().unwrap();
            }
            14..=17 => {
                let range = dice.range(obvious.revision());
                let (begun, expected) = (store.short_range(&range, 1_000, 1 << 20), obvious.range(&range));
                assert_eq!(begun.as_ref().map(|_| ()), expected.as_ref().map(|_| ()), "{range:?}");
                if let (Ok(Some(answer)), Ok(expected)) = (begun, expected) {
                    values_on_disk += answer.values_on_disk();
                    short.push((answer, expected));
                }
            }
            18..=19 if !short.is_empty() => {
                let (answer, expected) = short.swap_remove(dice.below(short.len() as u64) as usize);
                assert_eq!(answer.complete(), Ok(expected));
            }
            _ => {}
        }
    }
    // After the store has given all of it up and is gone.
    store.flush().unwrap();
    apply(
        &mut store,
        Command::DeleteRange(DeleteRangeRequest { key: "\0".into(), range_end: "\0".into(), prev_kv: false }),
    );
    let revision = store.revision();
    apply(&mut store, Command::Compact(CompactionRequest { revision, physical: true }));
    while store.compact_step() {}
    store.flush().unwrap();
    drop(store);
    taken.iter().for_each(|taken| taken.check(&mut dice));
    for (answer, expected) in short {
        assert_eq!(answer.complete(), Ok(expected));
    }
    values_on_disk
}

#[test]
fn a_view_stays_as_it_was() {
    let mut values_on_disk = 0;
    for seed in 0..24 {
        let value_cache_bytes = [0, 300, 20_000, usize::MAX][seed as usize % 4];
        let options = Options { value_cache_bytes, ..Options::default() };
        let store = Store::open_still(Arc::new(MemoryEngine::default()), options).unwrap();
        let found = live_through(store, seed, 400);
        assert!(found == 0 || value_cache_bytes < usize::MAX, "{found} values were not in memory");
        values_on_disk += found;
    }
    assert!(values_on_disk > 100, "{values_on_disk} values were read from the engine");
}

#[test]
fn a_view_stays_as_it_was_on_disk() {
    for seed in 100..104 {
        let dir = std::env::temp_dir().join(format!("vlot-store-view-{}-{seed}", std::process::id()));
        let options = Options {
            value_cache_bytes: [0, 2_000][seed as usize % 2],
            commit_interval: Duration::from_millis(1),
            ..Options::default()
        };
        live_through(Store::open(&dir, options).unwrap(), seed, 500);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

#[test]
fn a_view_outlives_the_state_that_a_snapshot_replaces() {
    let open = || Store::open_still(Arc::new(MemoryEngine::default()), Options::default()).unwrap();
    let (mut store, mut ahead) = (open(), open());
    put(&mut store, "a", "1");
    for value in ["1", "2", "3"] {
        put(&mut ahead, "b", value);
    }
    store.flush().unwrap();
    ahead.flush().unwrap();
    let view = store.view();
    let before = view.range(&all());
    let mut bytes = Vec::new();
    ahead.snapshot().unwrap().write_to(&mut bytes).unwrap();
    store.restore(&mut &bytes[..]).unwrap();
    assert_eq!(store.range(&all()), ahead.range(&all()));
    assert_eq!(view.range(&all()), before);
    assert!(view.hash(0).is_ok());
}

#[test]
fn slices_are_as_long_as_asked_and_no_value_is_too_long() {
    let options = Options { value_cache_bytes: 50_000, ..Options::default() };
    let mut store = Store::open_still(Arc::new(MemoryEngine::default()), options).unwrap();
    for number in 0..500 {
        put(&mut store, &format!("key/{number:04}"), vec![7; 400]);
        if number % 50 == 0 {
            put(&mut store, &format!("large/{number:04}"), vec![8; 30_000]);
            store.flush().unwrap();
        }
    }
    let view = store.view();
    let (slices, length) = slices(&view, &all(), 4_096).unwrap();
    assert_eq!(slices.iter().map(Bytes::len).sum::<usize>(), length);
    assert!(slices.len() > 50);
    for slice in &slices {
        assert!(slice.len() <= 4_096 || (30_000..30_100).contains(&slice.len()), "{}", slice.len());
    }
    for pair in slices.windows(2) {
        assert!(pair[0].len() + pair[1].len() > 4_000, "no slice is needlessly short");
    }
}

#[test]
fn a_transaction_in_slices_is_the_transaction() {
    let mut store = Store::open_still(Arc::new(MemoryEngine::default()), Options::default()).unwrap();
    for number in 0..200 {
        put(&mut store, &format!("key/{number:03}"), vec![7; 100]);
    }
    let op = |request| RequestOp { request: Some(request) };
    let range = |range: RangeRequest| op(Request::RequestRange(range));
    let nothing = RangeRequest { key: "none".into(), ..Default::default() };
    let old = RangeRequest { revision: 10, keys_only: true, ..all() };
    let nested = TxnRequest { success: vec![range(all()), range(nothing.clone())], ..Default::default() };
    let success = vec![range(nothing), op(Request::RequestTxn(nested)), range(old), range(all())];
    let view = store.view();
    for request in [TxnRequest { success, ..Default::default() }, TxnRequest::default()] {
        let mut whole = view.read_txn(&request).unwrap();
        whole.header.as_mut().unwrap().member_id = 7;
        let whole = whole.encode_to_vec();
        for bytes_max in [0, 1, 1000, 1 << 20] {
            let header = ResponseHeader { member_id: 7, ..Default::default() };
            let mut answer = view.answer_txn(&request, header).unwrap();
            let length = answer.encoded_len();
            let slices: Vec<Bytes> = std::iter::from_fn(|| answer.next_slice(bytes_max).unwrap()).collect();
            assert!(slices.iter().all(|slice| slice.len() <= bytes_max + 200), "{bytes_max}");
            assert_eq!((slices.concat(), length), (whole.clone(), whole.len()));
        }
    }
}

#[test]
fn short_answers_are_begun_at_once_and_no_others() {
    let options = Options { value_cache_bytes: 3_000, ..Options::default() };
    let mut store = Store::open_still(Arc::new(MemoryEngine::default()), options).unwrap();
    for number in 0..100 {
        put(&mut store, &format!("key/{number:02}"), vec![7; 100]);
    }
    store.flush().unwrap();
    let get = |key: &str| RangeRequest { key: key.to_owned().into(), ..Default::default() };
    let range = |from: &str, end: &str| RangeRequest { range_end: end.to_owned().into(), ..get(from) };
    let by_value = |range| RangeRequest { sort_target: SortTarget::Value as i32, sort_order: 2, ..range };
    // What is asked, with how many keys and bytes, and how many values of it are on disk if that is short.
    let rows = [
        (get("key/99"), 1, 100, Some(0)),
        (get("key/99"), 1, 99, None),
        (get("key/00"), 1, 100, Some(1)),
        (get("key/00"), 1, 99, None),
        (RangeRequest { keys_only: true, ..get("key/00") }, 1, 100, Some(0)),
        (get("none"), 1, 100, Some(0)),
        (range("key/90", "key/99"), 9, 1_000, Some(0)),
        (range("key/90", "key/99"), 8, 1_000, None),
        (range("key/90", "key/99"), 9, 900, None),
        (RangeRequest { limit: 2, ..range("key/90", "key/99") }, 9, 250, Some(0)),
        (RangeRequest { limit: 2, ..range("key/90", "key/99") }, 8, 250, None),
        (RangeRequest { limit: 2, sort_order: 2, ..range("key/90", "key/99") }, 9, 250, None),
        (RangeRequest { count_only: true, ..range("\0", "\0") }, 100, 0, Some(0)),
        (RangeRequest { count_only: true, ..range("\0", "\0") }, 99, 0, None),
        (RangeRequest { keys_only: true, ..range("key/00", "key/10") }, 10, 100, Some(0)),
        (range("key/00", "key/10"), 10, 10_000, Some(10)),
        (RangeRequest { limit: 3, ..range("key/00", "key/10") }, 10, 10_000, Some(3)),
        (by_value(range("key/90", "key/99")), 9, 1_000, Some(0)),
        (by_value(range("key/00", "key/10")), 10, 10_000, None),
    ];
    for (request, keys_max, bytes_max, values_on_disk) in rows {
        let begun = store.short_range(&request, keys_max, bytes_max).unwrap();
        assert_eq!(begun.as_ref().map(ShortRange::values_on_disk), values_on_disk, "{request:?}");
        if let Some(begun) = begun {
            assert_eq!(begun.complete(), store.range(&request), "{request:?}");
        }
    }
}

/// The messages of a stream, each from the view that `view` gives.
fn messages(mut view: impl FnMut() -> View, request: &RangeRequest, bytes: usize) -> Result<Vec<Bytes>, Refusal> {
    let mut chunks = RangeChunks::new(request, bytes);
    let mut messages = Vec::new();
    let header = ResponseHeader { member_id: 7, raft_term: 3, ..Default::default() };
    while let Some(message) = chunks.next_message(&view(), header)? {
        messages.push(message);
    }
    Ok(messages)
}

/// What a client that takes the fields of all messages together has.
fn merged(messages: &[Bytes]) -> RangeResponse {
    let mut merged = RangeStreamResponse::default();
    messages.iter().for_each(|message| merged.merge(message.clone()).unwrap());
    merged.range_response.unwrap()
}

/// etcd's `rangeStream` and the comment of `RangeStreamResponse`: merged, the messages are the unary answer, at the
/// revision of the first of them; each has keys of its own, and only the last has a header, `more` and `count`.
#[test]
fn a_stream_of_messages_is_the_answer_at_the_revision_of_the_first() {
    for seed in 0..60 {
        let mut dice = Dice(seed);
        let mut obvious = Obvious::new();
        let value_cache_bytes = [0, 300, usize::MAX][seed as usize % 3];
        let options = Options { value_cache_bytes, ..Options::default() };
        let mut store = Store::open_still(Arc::new(MemoryEngine::default()), options).unwrap();
        for round in 0..400 {
            let command = dice.command(obvious.revision());
            obvious.apply(1, &command).ok();
            apply(&mut store, command);
            store.end_batch();
            if round % 8 != 0 {
                continue;
            }
            let request = RangeRequest {
                key: dice.key(),
                sort_order: 0,
                sort_target: 0,
                min_mod_revision: 0,
                max_mod_revision: 0,
                min_create_revision: 0,
                max_create_revision: 0,
                ..dice.range(obvious.revision())
            };
            let expected = obvious.range(&request);
            // Each message is made after another change.
            let view = || {
                let view = store.view();
                let key = dice.key();
                let change = PutRequest { key, value: "changed".into(), ..Default::default() };
                obvious.apply(1, &Command::Put(change.clone())).unwrap();
                apply(&mut store, Command::Put(change));
                store.end_batch();
                view
            };
            let messages = match messages(view, &request, 40) {
                Ok(messages) => messages,
                // It is found out before the first message.
                Err(refusal) => {
                    assert_eq!(Err(refusal), expected.map(|_| ()), "{request:?}");
                    continue;
                }
            };
            let mut expected = expected.unwrap();
            let header = expected.header.as_mut().unwrap();
            (header.member_id, header.raft_term) = (7, 3);
            assert_eq!(merged(&messages), expected, "seed {seed}, {request:?}");
            let (_, before) = messages.split_last().unwrap();
            for message in before {
                let range = merged(std::slice::from_ref(message));
                assert!(!range.kvs.is_empty());
                assert_eq!((range.header, range.more, range.count), (None, false, 0), "{request:?}");
            }
        }
    }
}

/// etcd's `initialStreamChunkLimit` and `adjustChunkLimit`; beyond them, no message has more than twice the bytes.
#[test]
fn messages_begin_with_ten_keys_and_come_to_the_wanted_size() {
    let mut store = Store::open_still(Arc::new(MemoryEngine::default()), Options::default()).unwrap();
    for number in 0..2_000 {
        // Values grow a hundredfold in the middle.
        put(&mut store, &format!("key/{number:04}"), vec![7; if number < 1_000 { 50 } else { 5_000 }]);
    }
    put(&mut store, "key/9", vec![7; 300_000]);
    let messages = messages(|| store.view(), &all(), 20_000).unwrap();
    let keys: Vec<usize> = messages.iter().map(|message| merged(std::slice::from_ref(message)).kvs.len()).collect();
    assert_eq!(keys[..6], [10, 20, 40, 80, 160, 160]);
    assert_eq!(keys.iter().sum::<usize>(), 2_001);
    let (large, others) = messages.split_last().unwrap();
    assert!(large.len() > 300_000, "a key and its value are never parted");
    assert!(others.iter().all(|message| message.len() < 41_000));
    assert!(others[10..].iter().all(|message| message.len() > 10_000), "{keys:?}");
}

/// etcd's test `TestV3RangeStreamPartialThenCompacted`.
#[test]
fn a_compaction_of_its_revision_ends_a_stream_of_messages() {
    let mut store = Store::open_still(Arc::new(MemoryEngine::default()), Options::default()).unwrap();
    for number in 0..100 {
        put(&mut store, &format!("key/{number:02}"), "value");
    }
    let mut chunks = RangeChunks::new(&all(), 1 << 20);
    assert!(chunks.next_message(&store.view(), ResponseHeader::default()).unwrap().is_some());
    let compact = |store: &mut Store, revision| {
        apply(store, Command::Compact(CompactionRequest { revision, physical: true }));
        store.end_batch();
    };
    // The revision itself can still be read.
    let pinned = store.revision();
    compact(&mut store, pinned);
    assert!(chunks.next_message(&store.view(), ResponseHeader::default()).unwrap().is_some());
    put(&mut store, "later", "value");
    compact(&mut store, pinned + 1);
    let refused = chunks.next_message(&store.view(), ResponseHeader::default());
    assert_eq!(refused, Err(Refusal::Compacted { oldest: pinned + 1 }));
}
