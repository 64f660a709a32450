//! What watches promise, held against the history of keys: slow owners, full mailboxes, compaction and restarts included.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};

use bytes::Bytes;
use prost::Message;
use vlot_proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest, WatchCreateRequest, WatchResponse};
use vlot_proto::mvccpb::Event;
use vlot_store::command::Command;
use vlot_store::engine::memory::MemoryEngine;
use vlot_store::revision::Position;
use vlot_store::store::{Options, Store};
use vlot_store::watch::{CancelReason, Drained, Next, WatchOut, WatchStream};

mod obvious;
use obvious::{Change, Dice, Obvious};

fn open_with(options: Options) -> Store {
    Store::open_still(Arc::new(MemoryEngine::default()), options).unwrap()
}

fn open(mailbox_bytes_max: usize, value_cache_bytes: usize) -> Store {
    open_with(Options { mailbox_bytes_max, value_cache_bytes, ..Options::default() })
}

/// A stream and how often it was woken.
fn stream(store: &Store) -> (WatchStream, Arc<AtomicUsize>) {
    let woken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&woken);
    let wake = move || {
        count.fetch_add(1, Ordering::SeqCst);
    };
    (store.watch_stream(Arc::new(wake)), woken)
}

fn apply(store: &mut Store, command: Command) {
    let at = Position { term: 1, index: store.applied().index + 1 };
    store.apply(at, command).ok();
}

fn put(store: &mut Store, key: &'static str, value: &'static str) {
    apply(store, Command::Put(PutRequest { key: key.into(), value: value.into(), ..Default::default() }));
    store.end_batch();
}

fn watch(key: &'static str, range_end: &'static str, start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest { key: key.into(), range_end: range_end.into(), start_revision, ..Default::default() }
}

/// What a stream has now, whichever way it is had.
fn drain_once(stream: &mut WatchStream, store: &Store, bytes_max: usize) -> Drained {
    let drained = stream.drain(bytes_max);
    if drained.next != Next::CatchUp {
        return drained;
    }
    let Drained { mut outs, next } = stream.catch_up(&store.view(), bytes_max).unwrap();
    outs.splice(0..0, drained.outs);
    Drained { outs, next }
}

fn drain(stream: &mut WatchStream, store: &Store) -> Vec<WatchOut> {
    let mut outs = Vec::new();
    loop {
        let drained = drain_once(stream, store, 1 << 20);
        outs.extend(drained.outs);
        if drained.next == Next::Wait {
            return outs;
        }
    }
}

fn decoded(events: &[Bytes]) -> Vec<Event> {
    WatchResponse::decode(Bytes::from(events.concat())).unwrap().events
}

/// The keys and revisions of all events.
fn told(outs: &[WatchOut]) -> Vec<(String, i64)> {
    let outs = outs.iter().cloned().flat_map(WatchOut::each);
    let events = outs.filter_map(|out| if let WatchOut::Events { events, .. } = out { Some(events) } else { None });
    let kvs = events.flat_map(|events| decoded(&events)).map(|event| event.kv.unwrap());
    kvs.map(|kv| (String::from_utf8(kv.key.to_vec()).unwrap(), kv.mod_revision)).collect()
}

struct Expected {
    request: WatchCreateRequest,
    start: i64,
    /// How many of all changes have been gone through.
    seen: usize,
    last: i64,
    ended: bool,
}

impl Expected {
    fn wants(&self, change: &Change) -> bool {
        let key = if self.request.key.is_empty() { &b"\0"[..] } else { &self.request.key[..] };
        let covered = match &self.request.range_end[..] {
            b"" => change.key == key,
            b"\0" => &change.key[..] >= key,
            end => &change.key[..] >= key && &change.key[..] < end,
        };
        let filtered = self.request.filters.contains(&i32::from(change.put.is_none()));
        covered && !filtered && change.revision >= self.start
    }

    /// The place of the next change that the watch has to be told of.
    fn next(&self, obvious: &Obvious) -> Option<usize> {
        (self.seen..obvious.changes.len()).find(|place| self.wants(&obvious.changes[*place]))
    }

    fn hold_against(&mut self, revision: i64, events: &[Event], obvious: &Obvious) {
        assert!(!self.ended, "nothing comes after the end");
        for event in events {
            self.seen = self.next(obvious).expect("an event is a change");
            let change = &obvious.changes[self.seen];
            let kv = event.kv.as_ref().unwrap();
            assert_eq!((&kv.key, kv.mod_revision), (&change.key, change.revision));
            match &change.put {
                Some(put) => assert_eq!((event.r#type, kv), (0, put)),
                None => assert_eq!((event.r#type, &kv.value, kv.version), (1, &Bytes::new(), 0)),
            }
            if !self.request.prev_kv {
                assert_eq!(event.prev_kv, None);
            } else if event.prev_kv.is_some() || change.revision > obvious.compacted {
                assert_eq!(event.prev_kv, change.previous);
            }
            self.seen += 1;
        }
        let first = events[0].kv.as_ref().unwrap().mod_revision;
        assert!(first > self.last, "a revision comes in one response");
        self.last = events.last().unwrap().kv.as_ref().unwrap().mod_revision;
        assert!(revision >= self.last);
        let next = self.next(obvious);
        assert!(next.is_none_or(|next| obvious.changes[next].revision > revision), "all up to the revision has come");
    }
}

#[test]
fn every_watch_gets_its_share_of_history_and_no_more() {
    for seed in 0..72 {
        let mut dice = Dice(seed);
        let mut store = open_with(Options {
            mailbox_bytes_max: [0, 200, 1 << 20][seed as usize % 3],
            value_cache_bytes: [0, 1 << 20][seed as usize % 2],
            few_keys: [0, 3, 100][seed as usize / 6 % 3],
            ..Options::default()
        });
        let mut obvious = Obvious::new();
        let mut streams: Vec<_> = (0..3).map(|_| (stream(&store).0, HashMap::<i64, Expected>::new())).collect();
        let mut asked: BTreeMap<(usize, i64), Expected> = BTreeMap::new();
        let mut next_id = [100; 3];
        for _ in 0..300 {
            let command = dice.command(obvious.revision());
            obvious.apply(1, &command).ok();
            apply(&mut store, command);
            match dice.below(12) {
                0..=4 => store.end_batch(),
                5 => store.flush().unwrap(),
                6 => drop(store.compact_step()),
                7..=8 => {
                    let place = dice.below(3) as usize;
                    let start = match dice.below(3) {
                        0 => 0,
                        _ => dice.below(obvious.revision() as u64 + 4) as i64,
                    };
                    next_id[place] += 1;
                    let request = WatchCreateRequest {
                        key: if dice.once_in(6) { Bytes::new() } else { dice.key() },
                        range_end: dice.range_end(),
                        start_revision: start,
                        filters: if dice.once_in(4) { vec![dice.below(2) as i32] } else { vec![] },
                        prev_kv: dice.once_in(2),
                        watch_id: next_id[place],
                        ..Default::default()
                    };
                    streams[place].0.create(&request);
                    let start = if start == 0 { obvious.revision() + 1 } else { start };
                    let expected = Expected { request, start, seen: 0, last: 0, ended: false };
                    asked.insert((place, next_id[place]), expected);
                }
                _ => {}
            }
            let place = dice.below(3) as usize;
            let (stream, watches) = &mut streams[place];
            if dice.once_in(2) {
                let bytes_max = [0, 100, 1 << 20][dice.below(3) as usize];
                take_in(place, drain_once(stream, &store, bytes_max).outs, watches, &mut asked, &obvious);
            }
        }
        store.end_batch();
        for (place, (stream, watches)) in streams.iter_mut().enumerate() {
            take_in(place, drain(stream, &store), watches, &mut asked, &obvious);
            for (id, expected) in watches {
                assert!(expected.ended || expected.next(&obvious).is_none(), "seed {seed}, watch {id}");
            }
        }
        let is_empty = |request: &WatchCreateRequest| !request.range_end.is_empty() && request.key >= request.range_end;
        assert!(asked.values().all(|expected| is_empty(&expected.request)), "all others were answered");
        drop(streams);
        assert_eq!(store.sizes().watches, 0);
    }
}

fn take_in(
    place: usize,
    outs: Vec<WatchOut>,
    watches: &mut HashMap<i64, Expected>,
    asked: &mut BTreeMap<(usize, i64), Expected>,
    obvious: &Obvious,
) {
    for out in outs.into_iter().flat_map(WatchOut::each) {
        match out {
            WatchOut::Created { watch_id, .. } => {
                watches.insert(watch_id, asked.remove(&(place, watch_id)).unwrap());
            }
            WatchOut::NotCreated { reason, .. } => assert_eq!(reason, CancelReason::EmptyRange),
            WatchOut::Canceled { watch_id, reason, .. } => {
                let expected = watches.get_mut(&watch_id).unwrap();
                let CancelReason::Compacted { oldest } = reason else { panic!("{reason:?}") };
                assert!(expected.start < oldest && expected.last < oldest);
                expected.ended = true;
            }
            WatchOut::Events { watch_ids, revision, events } => {
                watches.get_mut(&watch_ids[0]).unwrap().hold_against(revision, &decoded(&events), obvious);
            }
            WatchOut::Progress { .. } => panic!("nobody asked"),
        }
    }
}

#[test]
fn ids_are_picked_or_given_and_never_shared() {
    let store = open(1 << 20, 1 << 20);
    let (mut stream, _) = stream(&store);
    let with_id = |watch_id| WatchCreateRequest { key: "k".into(), watch_id, ..Default::default() };
    for id in [1, 0, 0, 2, 7, 7] {
        stream.create(&with_id(id));
    }
    stream.create(&watch("b", "a", 0));
    stream.create(&watch("b", "", -1));
    stream.create(&watch("b", "a", -1));
    stream.cancel(5);
    stream.cancel(0);
    stream.create(&with_id(0));
    let created = |watch_id| WatchOut::Created { watch_id, revision: 1 };
    let refused = |reason| WatchOut::NotCreated { reason, revision: 1 };
    let expected = [
        created(1),
        created(0),
        created(2),
        refused(CancelReason::DuplicateId),
        created(7),
        refused(CancelReason::DuplicateId),
        refused(CancelReason::EmptyRange),
        refused(CancelReason::NegativeStart),
        refused(CancelReason::NegativeStart),
        WatchOut::Canceled { watch_id: 0, reason: CancelReason::Asked, revision: 1 },
        created(3),
    ];
    assert_eq!(drain(&mut stream, &store), expected);
    assert_eq!((stream.watches(), store.sizes().watches), (4, 4));
}

#[test]
fn an_owner_is_woken_once_until_it_comes() {
    let mut store = open(1 << 20, 1 << 20);
    let (mut stream, woken) = stream(&store);
    let times = || woken.load(Ordering::SeqCst);
    stream.create(&watch("a", "c", 0));
    assert_eq!(times(), 1);
    put(&mut store, "a", "1");
    put(&mut store, "b", "1");
    assert_eq!(times(), 1);
    assert_eq!(told(&drain(&mut stream, &store)), [("a".to_owned(), 2), ("b".to_owned(), 3)]);
    put(&mut store, "c", "1");
    assert_eq!(times(), 1);
    put(&mut store, "b", "2");
    assert_eq!(times(), 2);
    assert_eq!(told(&drain(&mut stream, &store)), [("b".to_owned(), 5)]);
}

#[test]
fn a_cancelled_watch_is_silent_after_its_end() {
    let mut store = open(1 << 20, 1 << 20);
    let (mut stream, _) = stream(&store);
    stream.create(&watch("a", "", 0));
    put(&mut store, "a", "1");
    stream.cancel(0);
    put(&mut store, "a", "2");
    let outs = drain(&mut stream, &store);
    assert_eq!(told(&outs), [("a".to_owned(), 2)]);
    assert!(matches!(outs.last(), Some(WatchOut::Canceled { watch_id: 0, .. })));
}

#[test]
fn a_slow_stream_neither_grows_nor_hinders_others() {
    let mut store = open(1_000, 1 << 20);
    let ((mut slow, _), (mut quick, _)) = (stream(&store), stream(&store));
    slow.create(&watch("a", "\0", 0));
    quick.create(&watch("a", "", 0));
    let mut quick_told = 0;
    for _ in 0..2_000 {
        put(&mut store, "a", "some value of some bytes");
        quick_told += told(&drain(&mut quick, &store)).len();
    }
    assert_eq!(quick_told, 2_000);
    let first = slow.drain(usize::MAX);
    let waiting =
        first.outs.iter().find_map(|out| if let WatchOut::Events { events, .. } = out { Some(events) } else { None });
    assert!(waiting.unwrap().len() < 30, "what waited was bounded");
    let mut all = told(&first.outs);
    all.extend(told(&drain(&mut slow, &store)));
    let revisions: Vec<i64> = all.into_iter().map(|(_, revision)| revision).collect();
    assert_eq!(revisions, (2..2_002).collect::<Vec<_>>());
    // In sync again.
    put(&mut store, "a", "last");
    assert_eq!(told(&drain(&mut slow, &store)), [("a".to_owned(), 2_002)]);
}

#[test]
fn compaction_ends_a_watch_that_needs_what_is_gone() {
    let mut store = open(1 << 20, 1 << 20);
    for value in ["1", "2", "3"] {
        put(&mut store, "a", value);
    }
    apply(&mut store, Command::DeleteRange(DeleteRangeRequest { key: "a".into(), ..Default::default() }));
    let compacted = store.revision();
    put(&mut store, "a", "4");
    apply(&mut store, Command::Compact(CompactionRequest { revision: compacted, physical: true }));
    store.end_batch();
    while store.compact_step() {}
    store.flush().unwrap();
    let (mut stream, _) = stream(&store);
    stream.create(&watch("a", "", compacted - 1));
    stream.create(&watch("a", "", compacted));
    stream.create(&watch("a", "b", compacted));
    let outs = drain(&mut stream, &store);
    let revision = store.revision();
    let gone = WatchOut::Canceled { watch_id: 0, reason: CancelReason::Compacted { oldest: compacted }, revision };
    assert!(outs.contains(&gone));
    // The compacted revision itself is told, though it is a deletion.
    let both = [compacted, revision, compacted, revision].map(|revision| ("a".to_owned(), revision));
    assert_eq!(told(&outs), both);
}

#[test]
fn progress_is_told_only_when_all_is_told() {
    let mut store = open(1 << 20, 1 << 20);
    put(&mut store, "a", "1");
    let (mut stream, _) = stream(&store);
    stream.request_progress();
    assert_eq!(drain(&mut stream, &store), [], "no watch, no answer");

    stream.create(&watch("a", "", 2));
    stream.request_progress();
    let outs = drain(&mut stream, &store);
    assert!(!outs.iter().any(|out| matches!(out, WatchOut::Progress { .. })), "a watch is behind");
    put(&mut store, "a", "2");
    stream.request_progress();
    let outs = drain(&mut stream, &store);
    assert_eq!(told(&outs), [("a".to_owned(), 3)]);
    assert_eq!(outs.last(), Some(&WatchOut::Progress { watch_id: -1, revision: 3 }));

    let notified = WatchCreateRequest { progress_notify: true, ..watch("b", "", 0) };
    stream.create(&notified);
    drain(&mut stream, &store);
    stream.notify_progress();
    assert_eq!(drain(&mut stream, &store), [WatchOut::Progress { watch_id: 1, revision: 3 }]);
    put(&mut store, "b", "1");
    stream.notify_progress();
    assert_eq!(told(&drain(&mut stream, &store)), [("b".to_owned(), 4)], "an event is progress enough");
    stream.notify_progress();
    assert_eq!(drain(&mut stream, &store), [WatchOut::Progress { watch_id: 1, revision: 4 }]);
}

/// Whatever is applied between taking a view and reading it, and between two pieces: each revision once, in order.
#[test]
fn commands_come_between_the_steps_of_a_catch_up() {
    for seed in 300..340 {
        let mut dice = Dice(seed);
        let mut store = open_with(Options {
            mailbox_bytes_max: [60, 1 << 20][seed as usize % 2],
            value_cache_bytes: [0, 1 << 20][seed as usize / 2 % 2],
            few_keys: [0, 3, 100][seed as usize / 4 % 3],
            ..Options::default()
        });
        let mut obvious = Obvious::new();
        let mut change = |store: &mut Store, dice: &mut Dice| {
            let command = dice.command(obvious.revision());
            obvious.apply(1, &command).ok();
            apply(store, command);
            match dice.below(8) {
                0..=4 => store.end_batch(),
                5 => store.flush().unwrap(),
                6 => drop(store.compact_step()),
                _ => {}
            }
            obvious.clone()
        };
        for _ in 0..100 {
            change(&mut store, &mut dice);
        }
        let (mut stream, _) = stream(&store);
        let mut watches = HashMap::new();
        let mut asked = BTreeMap::new();
        for (watch_id, (key, range_end)) in [("\0", "\0"), ("a", ""), ("b", "d")].into_iter().enumerate() {
            let (watch_id, start) = (1 + watch_id as i64, store.compacted_revision().max(1) + 1);
            let prev_kv = dice.once_in(2);
            let request = WatchCreateRequest { watch_id, prev_kv, ..watch(key, range_end, start) };
            stream.create(&request);
            asked.insert((0, watch_id), Expected { request, start, seen: 0, last: 0, ended: false });
        }
        let mut newest = change(&mut store, &mut dice);
        let mut progress = 0;
        for step in 0.. {
            let view = store.view();
            let is_busy = step < 200;
            for _ in 0..if is_busy { dice.below(4) } else { 0 } {
                newest = change(&mut store, &mut dice);
            }
            if !is_busy {
                store.end_batch();
            }
            let bytes_max = [0, 40, 400, 1 << 20][dice.below(4) as usize];
            let drained =
                if dice.once_in(3) { stream.drain(bytes_max) } else { stream.catch_up(&view, bytes_max).unwrap() };
            let (told, rest): (Vec<_>, Vec<_>) =
                drained.outs.into_iter().partition(|out| !matches!(out, WatchOut::Progress { .. }));
            for out in &rest {
                let WatchOut::Progress { revision, .. } = out else { unreachable!("only progress is left") };
                progress = *revision;
            }
            take_in(0, told, &mut watches, &mut asked, &newest);
            for expected in watches.values().filter(|expected| !expected.ended) {
                let next = expected.next(&newest).map(|next| newest.changes[next].revision);
                assert!(next.is_none_or(|next| next > progress), "progress is not ahead of events");
            }
            stream.request_progress();
            if !is_busy && drained.next == Next::Wait {
                break;
            }
        }
        for expected in watches.values() {
            assert!(expected.ended || expected.next(&newest).is_none(), "seed {seed}");
        }
    }
}

/// The owner of a stream works beside the thread that applies, and takes the store for as long as a view takes.
#[test]
fn a_catch_up_on_another_thread_misses_nothing() {
    const REVISIONS: i64 = 3_000;
    let store = Arc::new(RwLock::new(open(500, 1 << 20)));
    let writer = {
        let store = Arc::clone(&store);
        std::thread::spawn(move || {
            for _ in 0..REVISIONS {
                put(&mut store.write().unwrap(), "a", "some value of some bytes");
            }
        })
    };
    let (mut stream, _) = stream(&store.read().unwrap());
    stream.create(&WatchCreateRequest { prev_kv: true, ..watch("a", "\0", 2) });
    let mut expected = 2;
    let mut caught_up = 0;
    while expected <= REVISIONS + 1 {
        let mut drained = stream.drain(2_000);
        if drained.next == Next::CatchUp {
            let view = store.read().unwrap().view();
            drained.outs.extend(stream.catch_up(&view, 2_000).unwrap().outs);
            caught_up += 1;
        }
        for (_, revision) in told(&drained.outs) {
            assert_eq!(revision, expected);
            expected += 1;
        }
    }
    assert!(caught_up > 0);
    writer.join().unwrap();
    let rest = drain(&mut stream, &store.read().unwrap());
    assert_eq!(told(&rest), []);
}

/// As in etcd, whose client cancels a watch that it was told is gone, and waits for the answer.
#[test]
fn a_watch_that_compaction_has_ended_is_known_until_it_is_cancelled() {
    let mut store = open(1 << 20, 1 << 20);
    for value in ["1", "2", "3"] {
        put(&mut store, "a", value);
    }
    apply(&mut store, Command::Compact(CompactionRequest { revision: 4, physical: true }));
    store.end_batch();
    let (mut stream, _) = stream(&store);
    let again = || WatchCreateRequest { watch_id: 7, ..watch("a", "", 0) };
    stream.create(&WatchCreateRequest { start_revision: 2, ..again() });
    let gone = WatchOut::Canceled { watch_id: 7, reason: CancelReason::Compacted { oldest: 4 }, revision: 4 };
    assert_eq!(drain(&mut stream, &store), [WatchOut::Created { watch_id: 7, revision: 4 }, gone]);
    stream.create(&again());
    let taken = WatchOut::NotCreated { reason: CancelReason::DuplicateId, revision: 4 };
    assert_eq!(drain(&mut stream, &store), [taken]);
    assert_eq!((stream.watches(), store.sizes().watches), (0, 0));
    stream.cancel(7);
    stream.cancel(7);
    let cancelled = WatchOut::Canceled { watch_id: 7, reason: CancelReason::Asked, revision: 4 };
    assert_eq!(drain(&mut stream, &store), [cancelled], "once");
    stream.create(&again());
    assert_eq!(drain(&mut stream, &store), [WatchOut::Created { watch_id: 7, revision: 4 }]);
}

/// As in etcd: a client takes progress for a place to go on from, and must not be sent back before its start.
#[test]
fn nothing_is_told_of_progress_before_the_start_of_a_watch() {
    let mut store = open(1 << 20, 1 << 20);
    let (mut stream, _) = stream(&store);
    stream.create(&WatchCreateRequest { progress_notify: true, ..watch("a", "", 4) });
    drain(&mut stream, &store);
    for revision in 2..=6 {
        put(&mut store, "b", "1");
        stream.request_progress();
        stream.notify_progress();
        let progress = |watch_id| WatchOut::Progress { watch_id, revision };
        let expected = if revision < 4 { vec![] } else { vec![progress(-1), progress(0)] };
        assert_eq!(drain(&mut stream, &store), expected, "at {revision}");
    }
    // One that has not come to its start holds back what is said of all, and nothing of the others.
    stream.create(&watch("c", "", 100));
    drain(&mut stream, &store);
    stream.request_progress();
    stream.notify_progress();
    assert_eq!(drain(&mut stream, &store), [WatchOut::Progress { watch_id: 0, revision: 6 }]);
}

/// A store with so many keys, each put once, with values of so many bytes.
fn filled(options: Options, keys: usize, value_bytes: usize) -> Store {
    let mut store = open_with(options);
    for number in 0..keys {
        let (key, value) = (format!("key/{number:06}").into(), vec![7; value_bytes].into());
        apply(&mut store, Command::Put(PutRequest { key, value, ..Default::default() }));
        if number % 100 == 0 {
            store.end_batch();
        }
    }
    store.end_batch();
    store
}

/// Takes all that a stream lacks. Returns how often it was called, and what came.
fn caught_up(stream: &mut WatchStream, store: &Store, bytes_max: usize) -> (usize, Vec<WatchOut>) {
    let (mut calls, mut outs) = (0, stream.drain(usize::MAX).outs);
    loop {
        let drained = stream.catch_up(&store.view(), bytes_max).unwrap();
        calls += 1;
        outs.extend(drained.outs);
        if drained.next == Next::Wait {
            return (calls, outs);
        }
    }
}

#[test]
fn one_pass_over_history_serves_all_watches_that_need_it() {
    // 40 MiB of history, of which each watch wants a little.
    let options = Options { value_cache_bytes: 0, ..Options::default() };
    let mut store = filled(options, 4_000, 10_000);
    let (mut stream, _) = stream(&store);
    const WATCHES: usize = 200;
    for number in 0..WATCHES {
        let key = format!("key/{number:06}").into();
        let none = WatchCreateRequest { filters: vec![0], ..watch("", "key0", 2) };
        stream.create(&WatchCreateRequest { key, ..none });
    }
    let delete = DeleteRangeRequest { key: "key/001000".into(), range_end: "key/001010".into(), ..Default::default() };
    apply(&mut store, Command::DeleteRange(delete));
    store.end_batch();
    let (calls, outs) = caught_up(&mut stream, &store, 1 << 20);
    assert_eq!(told(&outs).len(), WATCHES * 10);
    assert!((8..16).contains(&calls), "{calls} steps of 4 MiB for all together");

    // Of few keys, the index knows what happened to them.
    let few: Vec<_> = (0..WATCHES).map(|number| format!("key/{:06}", 1_000 + number)).collect();
    for from in &few {
        let end = Bytes::from([from.as_bytes(), b"~"].concat());
        stream.create(&WatchCreateRequest { key: from.clone().into(), range_end: end, ..watch("", "", 2) });
    }
    let (calls, outs) = caught_up(&mut stream, &store, 1 << 20);
    assert_eq!(told(&outs).len(), WATCHES + 10);
    assert!(calls < 5, "{calls} steps for what fills two");
}

#[test]
fn a_step_of_a_catch_up_is_bounded_and_every_watch_has_its_turn() {
    for few_keys in [0, 10_000] {
        let store = filled(Options { few_keys, ..Options::default() }, 2_000, 1_000);
        let (mut stream, _) = stream(&store);
        for start in [2, 500, 1_000, 2] {
            stream.create(&WatchCreateRequest { prev_kv: true, ..watch("key/", "key0", start) });
        }
        stream.drain(usize::MAX);
        let mut events = [0; 4];
        let mut steps = 0;
        let mut next = Next::CatchUp;
        while next != Next::Wait {
            let drained = stream.catch_up(&store.view(), 20_000).unwrap();
            let mut bytes = 0;
            for out in drained.outs.into_iter().flat_map(WatchOut::each) {
                let WatchOut::Events { watch_ids, events: more, .. } = out else { panic!("{out:?}") };
                bytes += more.iter().map(Bytes::len).sum::<usize>();
                events[watch_ids[0] as usize] += more.len();
            }
            // The last revision may go beyond, for each of the watches that share the pass.
            assert!(bytes < 25_000, "{bytes} bytes in a step");
            next = drained.next;
            steps += 1;
            if steps == 100 {
                assert!(events[0] > 400 && events[3] > 400, "{events:?} with few keys {few_keys}");
            }
        }
        assert_eq!(events, [2_000, 1_502, 1_002, 2_000]);
    }
}

#[test]
fn a_compaction_during_a_catch_up_ends_what_has_not_come_so_far() {
    for few_keys in [0, 10_000] {
        let mut store = filled(Options { few_keys, ..Options::default() }, 1_000, 1_000);
        let (mut stream, _) = stream(&store);
        stream.create(&watch("key/", "key0", 2));
        stream.create(&watch("key/", "key0", 900));
        stream.drain(usize::MAX);
        let first = stream.catch_up(&store.view(), 50_000).unwrap();
        assert_eq!(first.next, Next::CatchUp);
        let before = told(&first.outs).len();
        assert!((20..200).contains(&before), "{before}");
        apply(&mut store, Command::Compact(CompactionRequest { revision: 800, physical: true }));
        store.end_batch();
        while store.compact_step() {}
        let outs = drain(&mut stream, &store);
        let gone = WatchOut::Canceled { watch_id: 0, reason: CancelReason::Compacted { oldest: 800 }, revision: 1_001 };
        assert_eq!(outs[0], gone);
        let of_second = first.outs.into_iter().chain(outs);
        let of_second: Vec<_> = of_second
            .flat_map(WatchOut::each)
            .filter(|out| matches!(out, WatchOut::Events { watch_ids, .. } if watch_ids[0] == 1))
            .collect();
        assert_eq!(told(&of_second).len(), 102);
    }
}

#[test]
fn watches_of_a_stream_that_want_the_same_get_it_once_and_are_cut_between_watches() {
    let mut store = open(1 << 20, 1 << 20);
    let (mut stream, _) = stream(&store);
    for id in 1..=6 {
        // Every third one wants something else.
        let request = watch("a", if id % 2 == 0 { "b" } else { "" }, 0);
        stream.create(&WatchCreateRequest { watch_id: id, prev_kv: id % 3 == 0, ..request });
    }
    stream.drain(usize::MAX);
    put(&mut store, "a", "one");
    put(&mut store, "a", "two");
    let first = stream.drain(1);
    assert!(matches!(&first.outs[..], [WatchOut::Events { watch_ids, .. }] if *watch_ids == [1]), "{first:?}");
    assert_eq!(first.next, Next::Drain);
    let mut outs = first.outs;
    outs.extend(stream.drain(usize::MAX).outs);
    let ids = outs.iter().map(|out| if let WatchOut::Events { watch_ids, .. } = out { &watch_ids[..] } else { &[] });
    assert_eq!(ids.collect::<Vec<_>>()[..4], [&[1][..], &[2], &[3], &[4, 5]]);
    let revisions: Vec<i64> = told(&outs).into_iter().map(|(_, revision)| revision).collect();
    assert_eq!(revisions, [[2; 6], [3; 6]].concat());
    assert!(stream.drain(usize::MAX).outs.is_empty());
}

#[test]
fn the_room_of_a_stream_is_for_all_of_its_watches() {
    let mut store = open(100, 1 << 20);
    let (mut stream, _) = stream(&store);
    (0..6).for_each(|_| stream.create(&watch("a", "", 0)));
    stream.drain(usize::MAX);
    put(&mut store, "a", "a value of some bytes");
    let drained = stream.drain(usize::MAX);
    let [WatchOut::Events { watch_ids, events, .. }] = &drained.outs[..] else { panic!("{drained:?}") };
    assert_eq!(watch_ids[..], [0, 1, 2], "{} bytes each", events[0].len());
    assert_eq!(drained.next, Next::CatchUp, "the others read it from history");
    assert_eq!(told(&drain(&mut stream, &store)).len(), 3);
}
