//! Quotas are held against a count of all keys, after whatever has happened: puts and deletions, transactions, leases that
//! end, compaction, a restart, a snapshot.

use std::sync::Arc;

use bytes::Bytes;
use vlot_proto::authpb::UserAddOptions;
use vlot_proto::etcdserverpb::compare::TargetUnion;
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::{
    AuthUserAddRequest, AuthUserGrantRoleRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest,
    RequestOp, TxnRequest,
};
use vlot_proto::vlotpb::{Quota, RemoveQuotaRequest, SetQuotaRequest};
use vlot_store::auth::{Asker, AuthCommand, Caller};
use vlot_store::command::{Command, LeaseTime};
use vlot_store::engine::memory::MemoryEngine;
use vlot_store::quota::{ExceededLimit, PREFIX_BYTES_MAX, QUOTAS_MAX};
use vlot_store::refusal::Refusal;
use vlot_store::revision::Position;
use vlot_store::store::{Applied, Options, Store};

mod obvious;
use obvious::{Dice, Obvious};

fn open(engine: &MemoryEngine) -> Store {
    Store::open_still(Arc::new(engine.clone()), Options::default()).unwrap()
}

fn quotas(store: &Store) -> Vec<Quota> {
    store.quotas().map(|(prefix, quota)| quota.message(prefix)).collect()
}

/// What was counted as things happened is what is there.
fn assert_counted(store: &Store) {
    for (prefix, quota) in store.quotas() {
        assert_eq!(quota.used, store.count_below(prefix), "{prefix:?}");
    }
}

#[test]
fn what_is_used_is_what_a_count_of_all_keys_finds() {
    let (mut by_bytes, mut by_keys, mut by_txns) = (0, 0, 0);
    for seed in 300..340 {
        let mut dice = Dice(seed);
        let (mut engine, mut obvious) = (MemoryEngine::default(), Obvious::new());
        let mut store = open(&engine);
        for step in 1..400 {
            let term = 1 + step / 50;
            let command = match store.lease_time_due(term, store.lease_time() + dice.below(2_000)) {
                Some(time) if dice.once_in(6) => Command::LeaseTime(time),
                _ if dice.once_in(10) => dice.quota_command(),
                _ => dice.command(obvious.revision()),
            };
            let expected = obvious.apply(term, &command);
            let applied = store.apply(Position { term, index: step }, command.clone());
            assert_eq!(applied, expected, "seed {seed}, step {step}, {command:?}");
            assert_eq!(quotas(&store), obvious.quotas(), "seed {seed}, step {step}, {command:?}");
            if let Err(Refusal::QuotaExceeded(exceeded)) = applied {
                *if matches!(exceeded.limit, ExceededLimit::Bytes { .. }) { &mut by_bytes } else { &mut by_keys } += 1;
                by_txns += usize::from(matches!(command, Command::Txn(_)));
            }
            match dice.below(30) {
                0 => {
                    store.flush().unwrap();
                    drop(store);
                    store = open(&engine);
                }
                1 => {
                    store.flush().unwrap();
                    let mut bytes = Vec::new();
                    store.snapshot().unwrap().write_to(&mut bytes).unwrap();
                    engine = MemoryEngine::default();
                    store = open(&engine);
                    store.restore(&mut &bytes[..]).unwrap();
                }
                2..=5 => drop(store.compact_step()),
                _ => store.end_batch(),
            }
            assert_eq!(quotas(&store), obvious.quotas(), "seed {seed}, after step {step}");
            assert_counted(&store);
        }
    }
    assert!(by_bytes > 300 && by_keys > 300 && by_txns > 100, "{by_bytes}, {by_keys}, {by_txns}");
}

/// A store to which commands are given one by one.
struct Member {
    store: Store,
    index: u64,
}

impl Member {
    fn new() -> Member {
        Member { store: open(&MemoryEngine::default()), index: 0 }
    }

    fn apply(&mut self, command: Command) -> Result<Applied, Refusal> {
        self.index += 1;
        let applied = self.store.apply(Position { term: 1, index: self.index }, command);
        self.store.end_batch();
        assert_counted(&self.store);
        applied
    }

    fn set(&mut self, prefix: impl Into<Bytes>, bytes_max: i64, keys_max: i64) -> Result<Applied, Refusal> {
        self.apply(Command::SetQuota(SetQuotaRequest { prefix: prefix.into(), bytes_max, keys_max }))
    }

    fn used(&self) -> Vec<(i64, i64)> {
        quotas(&self.store).iter().map(|quota| (quota.bytes_used, quota.keys_used)).collect()
    }

    /// The prefix and the limit that are exceeded; none if it is done.
    fn refused(&mut self, command: Command) -> Option<(String, ExceededLimit)> {
        let revision = self.store.revision();
        match self.apply(command) {
            Ok(_) => None,
            Err(Refusal::QuotaExceeded(exceeded)) => {
                assert_eq!(self.store.revision(), revision, "nothing has changed");
                Some((String::from_utf8(exceeded.prefix.to_vec()).unwrap(), exceeded.limit))
            }
            Err(other) => panic!("{other}"),
        }
    }
}

fn put(key: &'static str, value_bytes: usize) -> PutRequest {
    PutRequest { key: key.into(), value: vec![b'v'; value_bytes].into(), ..Default::default() }
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn puts(puts: &[(&'static str, usize)]) -> Vec<RequestOp> {
    puts.iter().map(|(key, value_bytes)| op(Request::RequestPut(put(key, *value_bytes)))).collect()
}

/// A transaction that takes its first branch.
fn txn(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> TxnRequest {
    TxnRequest { compare: Vec::new(), success, failure }
}

fn delete(key: &'static str) -> RequestOp {
    op(Request::RequestDeleteRange(DeleteRangeRequest { key: key.into(), ..Default::default() }))
}

#[test]
fn a_put_that_would_exceed_is_refused_and_whatever_does_not_grow_passes() {
    use ExceededLimit::{Bytes, Keys};
    let mut member = Member::new();
    assert!(member.set("a/", 20, 2).is_ok());
    // What is put; the limit that it would exceed; bytes and keys after it.
    let rows = [
        (put("a/1", 7), None, (10, 1)),
        (put("a/2", 8), Some(Bytes { max: 20, needed: 21 }), (10, 1)),
        (put("a/2", 7), None, (20, 2)),
        (put("a/1", 8), Some(Bytes { max: 20, needed: 21 }), (20, 2)),
        (put("a/1", 7), None, (20, 2)),
        (put("a/1", 0), None, (13, 2)),
        (put("a/3", 0), Some(Keys { max: 2, needed: 3 }), (13, 2)),
        (PutRequest { ignore_value: true, ..put("a/2", 0) }, None, (13, 2)),
        (put("a", 1_000), None, (13, 2)),
        (put("a0", 1_000), None, (13, 2)),
    ];
    for (put, limit, used) in rows {
        let refused = member.refused(Command::Put(put.clone())).map(|(_, limit)| limit);
        assert_eq!((refused, member.used()), (limit, vec![used]), "{put:?}");
    }
    // There is more than there may be: it may become less, and not more.
    assert!(member.set("a/", 5, 1).is_ok());
    assert_eq!(member.used(), [(13, 2)]);
    assert_eq!(member.refused(Command::Put(put("a/2", 6))), None);
    assert_eq!(member.refused(Command::Put(put("a/2", 7))), Some(("a/".into(), Bytes { max: 5, needed: 13 })));
    let all = DeleteRangeRequest { key: "a/".into(), range_end: "a0".into(), prev_kv: false };
    assert_eq!(member.refused(Command::DeleteRange(all)), None);
    assert_eq!(member.used(), [(0, 0)]);
}

#[test]
fn the_puts_of_a_transaction_count_together_at_any_depth() {
    use ExceededLimit::{Bytes, Keys};
    let mut member = Member::new();
    assert!(member.set("", 100, 0).is_ok() && member.set("a/", 20, 2).is_ok());
    let nested = |ops| op(Request::RequestTxn(txn(ops, puts(&[("a/9", 1_000)]))));
    let exists =
        Compare { key: "a/1".into(), result: 1, target_union: Some(TargetUnion::Version(0)), ..Default::default() };
    let rows = [
        (txn(puts(&[("a/1", 7), ("a/2", 8)]), vec![]), Some(("a/", Bytes { max: 20, needed: 21 }))),
        (txn(puts(&[("a/1", 0), ("a/2", 0), ("a/3", 0)]), vec![]), Some(("a/", Keys { max: 2, needed: 3 }))),
        (
            txn([puts(&[("a/1", 7)]), vec![nested(puts(&[("a/2", 8)]))]].concat(), vec![]),
            Some(("a/", Bytes { max: 20, needed: 21 })),
        ),
        // The first prefix in order is named.
        (txn(vec![nested(vec![nested(puts(&[("a/1", 98)]))])], vec![]), Some(("", Bytes { max: 100, needed: 101 }))),
        // Only the branch that is taken counts.
        (TxnRequest { compare: vec![exists.clone()], success: puts(&[("a/1", 50)]), failure: vec![] }, None),
        (txn([puts(&[("a/1", 7)]), vec![nested(puts(&[("a/2", 7)]))]].concat(), vec![]), None),
        (
            TxnRequest { compare: vec![exists], success: puts(&[("a/1", 50)]), failure: vec![] },
            Some(("a/", Bytes { max: 20, needed: 63 })),
        ),
        // One gives what another takes; a deletion gives nothing to the puts beside it.
        (txn(puts(&[("a/1", 3), ("a/2", 11)]), vec![]), None),
        (txn([vec![delete("a/1")], puts(&[("a/3", 0)])].concat(), vec![]), Some(("a/", Bytes { max: 20, needed: 23 }))),
        (txn(vec![delete("a/1")], vec![]), None),
        (txn(puts(&[("a/3", 3)]), vec![]), None),
    ];
    for (place, (txn, expected)) in rows.into_iter().enumerate() {
        let refused = member.refused(Command::Txn(txn));
        assert_eq!(refused, expected.map(|(prefix, limit)| (prefix.to_owned(), limit)), "row {place}");
    }
    assert_eq!(member.used(), [(20, 2), (20, 2)]);
}

#[test]
fn keys_that_go_with_their_lease_are_used_no_more() {
    for ends_by_time in [false, true] {
        let mut member = Member::new();
        member.set("a/", 0, 1).unwrap();
        member.apply(Command::LeaseGrant(LeaseGrantRequest { id: 7, ttl: 1 })).unwrap();
        member.apply(Command::Put(PutRequest { lease: 7, ..put("a/1", 5) })).unwrap();
        assert!(member.refused(Command::Put(put("a/2", 0))).is_some());
        let end = if ends_by_time {
            Command::LeaseTime(LeaseTime { term: 1, now: 5_000, renewals: 1, ended: vec![(7, 1)] })
        } else {
            Command::LeaseRevoke(vlot_proto::etcdserverpb::LeaseRevokeRequest { id: 7 })
        };
        member.apply(end).unwrap();
        assert_eq!(member.used(), [(0, 0)]);
        assert_eq!(member.refused(Command::Put(put("a/2", 0))), None);
    }
}

#[test]
fn a_quota_must_limit_something_and_there_are_not_too_many() {
    let mut member = Member::new();
    let longest = vec![b'p'; PREFIX_BYTES_MAX];
    let refused = [
        (Bytes::from("a"), 0, 0, Refusal::QuotaWithoutLimit),
        ("a".into(), -1, 5, Refusal::QuotaWithoutLimit),
        ("a".into(), 5, -1, Refusal::QuotaWithoutLimit),
        ([&longest[..], b"p"].concat().into(), 5, 0, Refusal::QuotaPrefixTooLong),
    ];
    for (prefix, bytes_max, keys_max, refusal) in refused {
        assert_eq!(member.set(prefix, bytes_max, keys_max), Err(refusal));
    }
    let remove = |prefix: &'static str| Command::RemoveQuota(RemoveQuotaRequest { prefix: prefix.into() });
    assert_eq!(member.apply(remove("0")), Err(Refusal::QuotaNotFound));
    assert_eq!(quotas(&member.store), []);
    assert!(member.set(longest, 1, 0).is_ok());
    for number in 1..QUOTAS_MAX {
        assert!(member.set(number.to_string(), 1, 0).is_ok());
    }
    assert_eq!(member.set("one more", 1, 0), Err(Refusal::TooManyQuotas));
    assert!(member.set("7", 9, 9).is_ok(), "it takes the place of another");
    assert!(member.apply(remove("7")).is_ok() && member.set("one more", 1, 0).is_ok());
    assert_eq!(member.store.quotas().len(), QUOTAS_MAX);
}

#[test]
fn with_authentication_quotas_are_root_s() {
    let mut member = Member::new();
    for name in ["root", "alice"] {
        let options = Some(UserAddOptions { no_password: true });
        let user = AuthUserAddRequest { name: name.into(), options, ..Default::default() };
        member.apply(Command::Auth(AuthCommand::UserAdd(user))).unwrap();
    }
    let root = AuthUserGrantRoleRequest { user: "root".into(), role: "root".into() };
    member.apply(Command::Auth(AuthCommand::UserGrantRole(root))).unwrap();
    member.apply(Command::Auth(AuthCommand::Enable { token_key: Default::default() })).unwrap();
    let revision = member.store.auth().revision();
    let set = || Command::SetQuota(SetQuotaRequest { prefix: "a".into(), bytes_max: 1, keys_max: 0 });
    let remove = || Command::RemoveQuota(RemoveQuotaRequest { prefix: "a".into() });
    let by = |user: &str, command: Command| command.by(Asker::Client(Caller { user: user.into(), revision }));
    assert_eq!(member.apply(set()), Err(Refusal::UserEmpty));
    assert_eq!(member.apply(by("alice", set())), Err(Refusal::PermissionDenied));
    assert!(member.apply(by("root", set())).is_ok());
    assert_eq!(member.apply(by("alice", remove())), Err(Refusal::PermissionDenied));
    // Who may put is no matter of quotas, and root is not above them.
    assert!(member.refused(by("root", Command::Put(put("a1", 0)))).is_some());
    assert!(member.apply(by("root", remove())).is_ok());
}

#[test]
fn only_a_new_quota_takes_long_to_set() {
    let mut member = Member::new();
    let set = Command::SetQuota(SetQuotaRequest { prefix: "a".into(), bytes_max: 1, keys_max: 0 });
    assert!(!member.store.is_prompt(&set), "it counts all keys");
    member.apply(set.clone()).unwrap();
    assert!(member.store.is_prompt(&set));
    assert!(member.store.is_prompt(&Command::RemoveQuota(RemoveQuotaRequest { prefix: "a".into() })));
}
