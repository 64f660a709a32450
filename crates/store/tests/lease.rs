//! Leases end when they should, and only then, whoever leads.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use vlot_proto::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest};
use vlot_store::command::{Command, LeaseTime};
use vlot_store::engine::memory::MemoryEngine;
use vlot_store::lease::clock::LeaseClock;
use vlot_store::refusal::Refusal;
use vlot_store::revision::Position;
use vlot_store::store::{Applied, Options, Store};

fn open(engine: &MemoryEngine) -> Store {
    Store::open_still(Arc::new(engine.clone()), Options::default()).unwrap()
}

/// Applies a command of the first term.
fn apply(store: &mut Store, command: Command) -> Result<Applied, Refusal> {
    apply_in(store, 1, command)
}

fn apply_in(store: &mut Store, term: u64, command: Command) -> Result<Applied, Refusal> {
    let at = Position { term, index: store.applied().index + 1 };
    let applied = store.apply(at, command);
    store.end_batch();
    applied
}

fn grant(store: &mut Store, id: i64, ttl: i64) {
    apply(store, Command::LeaseGrant(LeaseGrantRequest { id, ttl })).unwrap();
}

fn put(store: &mut Store, key: &'static str, lease: i64) -> Result<Applied, Refusal> {
    apply(store, Command::Put(PutRequest { key: key.into(), value: "v".into(), lease, ..Default::default() }))
}

fn keep_alive(store: &mut Store, ids: &[i64]) -> Vec<i64> {
    match apply(store, Command::LeaseKeepAlive(ids.to_vec())) {
        Ok(Applied::LeaseKeepAlive { ttls, .. }) => ttls,
        other => panic!("{other:?}"),
    }
}

/// The leader tells what is due at this time, and how many leases that has ended.
fn tell(store: &mut Store, now: u64) -> usize {
    let Some(time) = store.lease_time_due(1, now) else { return 0 };
    tell_this(store, 1, time)
}

fn tell_this(store: &mut Store, term: u64, time: LeaseTime) -> usize {
    match apply_in(store, term, Command::LeaseTime(time)) {
        Ok(Applied::LeaseTime { ended }) => ended,
        other => panic!("{other:?}"),
    }
}

fn has(store: &Store, key: &'static str) -> bool {
    store.range(&RangeRequest { key: key.into(), ..Default::default() }).unwrap().count == 1
}

#[test]
fn a_lease_ends_its_time_to_live_after_it_began_to_run_and_takes_its_keys() {
    let mut store = open(&MemoryEngine::default());
    grant(&mut store, 7, 10);
    put(&mut store, "a", 7).unwrap();
    put(&mut store, "b", 7).unwrap();
    put(&mut store, "c", 0).unwrap();
    assert_eq!(store.lease(7).unwrap().left(99), 10_000);
    assert_eq!(tell(&mut store, 500), 0);
    assert_eq!(store.lease(7).unwrap().end, Some(10_500));
    assert_eq!(tell(&mut store, 10_499), 0);
    let before = store.revision();
    assert_eq!(tell(&mut store, 10_500), 1);
    assert_eq!(store.revision(), before + 1, "all keys go in one revision");
    assert!(!has(&store, "a") && !has(&store, "b") && has(&store, "c"));
    assert_eq!((store.lease(7), put(&mut store, "a", 7)), (None, Err(Refusal::LeaseNotFound)));
}

#[test]
fn a_lease_begins_to_run_only_when_the_clock_was_read_after_its_renewal() {
    let mut store = open(&MemoryEngine::default());
    grant(&mut store, 7, 10);
    let early = store.lease_time_due(1, 500).unwrap();
    keep_alive(&mut store, &[7]);
    tell_this(&mut store, 1, early);
    assert_eq!(store.lease(7).unwrap().end, None, "the clock may have been read long before the renewal");
    tell(&mut store, 900);
    assert_eq!(store.lease(7).unwrap().end, Some(10_900));
}

#[test]
fn a_renewal_between_seeing_the_end_and_ending_it_saves_the_lease() {
    let mut store = open(&MemoryEngine::default());
    grant(&mut store, 7, 10);
    tell(&mut store, 0);
    let end = store.lease_time_due(1, 10_000).unwrap();
    assert_eq!(end.ended.len(), 1);
    assert_eq!(keep_alive(&mut store, &[7, 8]), [10, 0]);
    assert_eq!(tell_this(&mut store, 1, end), 0);
    assert!(store.lease(7).is_some());
}

#[test]
fn what_a_leader_of_another_term_tells_counts_for_nothing() {
    let mut store = open(&MemoryEngine::default());
    grant(&mut store, 7, 10);
    tell(&mut store, 0);
    let stale = store.lease_time_due(1, 1_000_000).unwrap();
    assert_eq!(tell_this(&mut store, 2, stale), 0);
    assert_eq!((store.lease_time(), store.lease(7).unwrap().end), (0, Some(10_000)));
}

#[test]
fn time_never_goes_back_whoever_tells_it() {
    let mut store = open(&MemoryEngine::default());
    grant(&mut store, 7, 10);
    tell(&mut store, 20_000);
    grant(&mut store, 8, 10);
    let behind = store.lease_time_due(2, 3_000).unwrap();
    tell_this(&mut store, 2, behind);
    assert_eq!((store.lease_time(), store.lease(8).unwrap().end), (20_000, Some(30_000)));
}

#[test]
fn what_is_left_survives_restarts_as_often_as_they_come() {
    let engine = MemoryEngine::default();
    let mut store = open(&engine);
    grant(&mut store, 7, 60);
    put(&mut store, "a", 7).unwrap();
    tell(&mut store, 0);
    for round in 1..=11 {
        store.flush().unwrap();
        store = open(&engine);
        assert_eq!(store.lease_time(), (round - 1) * 5_000);
        assert_eq!(store.lease(7).unwrap().left(store.lease_time()), 60_000 - (round - 1) * 5_000);
        // A leader tells so often that time passes even where all restart again and again.
        assert_eq!(store.lease_time_due(1, store.lease_time() + 4_999), None);
        assert_eq!(tell(&mut store, round * 5_000), 0);
    }
    assert_eq!(tell(&mut store, 60_000), 1);
    assert!(!has(&store, "a"));
}

#[test]
fn a_key_is_on_one_lease_and_leaves_it_when_it_is_written_without() {
    let mut store = open(&MemoryEngine::default());
    grant(&mut store, 7, 10);
    grant(&mut store, 8, 10);
    let keys = |store: &Store, id| store.keys_on_lease(id, usize::MAX).unwrap();
    put(&mut store, "a", 7).unwrap();
    put(&mut store, "a", 8).unwrap();
    assert_eq!((keys(&store, 7), keys(&store, 8)), (vec![], vec![Bytes::from("a")]));
    let kept = PutRequest { key: "a".into(), value: "w".into(), ignore_lease: true, ..Default::default() };
    apply(&mut store, Command::Put(kept)).unwrap();
    assert_eq!(keys(&store, 8), ["a"]);
    put(&mut store, "a", 0).unwrap();
    assert_eq!(keys(&store, 8), [""; 0]);
    apply(&mut store, Command::LeaseRevoke(LeaseRevokeRequest { id: 8 })).unwrap();
    assert!(has(&store, "a"));
}

#[test]
fn many_leases_end_a_bounded_number_at_a_time() {
    let mut store = open(&MemoryEngine::default());
    for id in 1..=1_000 {
        grant(&mut store, id, 2);
    }
    tell(&mut store, 0);
    let mut rounds = Vec::new();
    while store.leases_after(None).next().is_some() {
        rounds.push(tell(&mut store, 2_000));
    }
    assert_eq!(rounds, [256, 256, 256, 232]);
    // One with many keys is enough for a round.
    for id in 1..=3 {
        grant(&mut store, id, 2);
        let op = |n| PutRequest { key: format!("{id}/{n}").into(), lease: id, ..Default::default() };
        (0..1_024).for_each(|n| drop(apply(&mut store, Command::Put(op(n)))));
    }
    tell(&mut store, 2_000);
    assert_eq!([tell(&mut store, 4_000), tell(&mut store, 4_000), tell(&mut store, 4_000)], [1, 1, 1]);
}

#[test]
fn no_number_is_too_large() {
    let mut store = open(&MemoryEngine::default());
    grant(&mut store, i64::MIN, 9_000_000_000);
    grant(&mut store, i64::MAX, i64::MIN);
    let most = LeaseTime { term: 1, now: u64::MAX, renewals: u64::MAX, ended: vec![(i64::MIN, 1), (0, u64::MAX)] };
    assert_eq!(tell_this(&mut store, 1, most), 1);
    assert_eq!(store.lease(i64::MAX).unwrap().left(u64::MAX), 0);
    assert!(store.lease_time_due(1, u64::MAX).is_some());
}

#[test]
fn a_new_leader_tells_nothing_before_it_has_applied_what_the_one_before_it_told() {
    let mut store = open(&MemoryEngine::default());
    let mut clock = LeaseClock::default();
    let mut local = Duration::ZERO;
    let mut passes = |clock: &mut LeaseClock, store: &Store, ms: u64, leads_in| {
        let until = local + Duration::from_millis(ms);
        while local < until {
            local += Duration::from_millis(100);
            clock.now(store, local, leads_in);
        }
        clock.due(store, local, leads_in)
    };
    grant(&mut store, 7, 2);
    tell(&mut store, 10_000);
    // It counts fast: four seconds, where the leader counts three.
    assert_eq!(passes(&mut clock, &store, 4_000, None), None);
    keep_alive(&mut store, &[7]);
    // It leads in the second term, and has not applied what the first leader told last.
    assert_eq!(passes(&mut clock, &store, 300, Some(2)), None);
    tell(&mut store, 13_000);
    store.skip(Position { term: 2, index: store.applied().index + 1 });
    assert_eq!(passes(&mut clock, &store, 1_900, Some(2)), None, "the lease runs for 2 s from when it began");
    assert_eq!(passes(&mut clock, &store, 200, Some(2)).unwrap().ended.len(), 1);
}
