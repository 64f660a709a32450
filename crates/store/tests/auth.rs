//! Users and roles are part of what members agree on: etcd's rules, who may do what, and that it outlives everything.

use std::sync::Arc;

use bytes::Bytes;
use vlot_proto::authpb::permission::Type;
use vlot_proto::authpb::{Permission, UserAddOptions};
use vlot_proto::etcdserverpb::alarm_request::AlarmAction;
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::{
    AlarmRequest, AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGrantPermissionRequest,
    AuthRoleRevokePermissionRequest, AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest,
    AuthUserGrantRoleRequest, AuthUserRevokeRoleRequest, CompactionRequest, Compare, DeleteRangeRequest,
    LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest,
};
use vlot_store::auth::{Asked, Asker, AuthCommand, Caller, TokenKey};
use vlot_store::command::{Command, LeaseTime};
use vlot_store::engine::memory::MemoryEngine;
use vlot_store::engine::{Engine, WriteBatch};
use vlot_store::refusal::Refusal;
use vlot_store::revision::Position;
use vlot_store::store::{Applied, Options, Store};
use vlot_store::watch::{CancelReason, Next, WatchOut, WatchStream};

mod obvious;
use obvious::Dice;

struct Member {
    store: Store,
}

fn caller(user: &str, revision: u64) -> Caller {
    Caller { user: user.into(), revision }
}

impl Member {
    fn open(engine: &MemoryEngine) -> Member {
        Member { store: Store::open_still(Arc::new(engine.clone()), Options::default()).unwrap() }
    }

    fn new() -> Member {
        Member::open(&MemoryEngine::default())
    }

    fn apply(&mut self, command: Command) -> Result<Applied, Refusal> {
        let at = Position { term: 1, index: self.store.applied().index + 1 };
        // As it comes out of the log.
        let command = Command::decode(command.encode()).unwrap();
        let applied = self.store.apply(at, command);
        self.store.end_batch();
        applied
    }

    /// On behalf of a user, who was found out just before.
    fn apply_as(&mut self, user: &str, command: Command) -> Result<Applied, Refusal> {
        let revision = self.store.auth().revision();
        self.apply(command.by(Asker::Client(caller(user, revision))))
    }

    /// A change of users that must succeed, by root.
    fn change(&mut self, change: AuthCommand) {
        self.apply_as("root", Command::Auth(change)).unwrap();
    }

    fn may(&self, user: &str, asked: Asked<'_>) -> Result<(), Refusal> {
        self.store.authorise(Some(&caller(user, self.store.auth().revision())), asked)
    }

    /// With a root, and users of one role each: `r`eader, `w`riter and `b`oth of what is in `grants`.
    fn with_users(grants: &[(&str, Type, &'static str, &'static str)]) -> Member {
        let mut member = Member::new();
        member.change(user_add("root"));
        member.change(grant_role("root", "root"));
        for (name, kind, key, range_end) in grants {
            if member.store.auth().user(name).is_none() {
                member.change(user_add(name));
                member.change(role_add(name));
                member.change(grant_role(name, name));
            }
            member.change(permit(name, *kind, key, range_end));
        }
        member.change(enable());
        member
    }
}

fn enable() -> AuthCommand {
    AuthCommand::Enable { token_key: TokenKey([7; 32]) }
}

fn user_add(name: &str) -> AuthCommand {
    let hashed_password = format!("hash of {name}");
    AuthCommand::UserAdd(AuthUserAddRequest { name: name.into(), hashed_password, ..Default::default() })
}

fn user_delete(name: &str) -> AuthCommand {
    AuthCommand::UserDelete(AuthUserDeleteRequest { name: name.into() })
}

fn change_password(name: &str) -> AuthCommand {
    let hashed_password = "another hash".into();
    AuthCommand::UserChangePassword(AuthUserChangePasswordRequest {
        name: name.into(),
        hashed_password,
        ..Default::default()
    })
}

fn grant_role(user: &str, role: &str) -> AuthCommand {
    AuthCommand::UserGrantRole(AuthUserGrantRoleRequest { user: user.into(), role: role.into() })
}

fn revoke_role(name: &str, role: &str) -> AuthCommand {
    AuthCommand::UserRevokeRole(AuthUserRevokeRoleRequest { name: name.into(), role: role.into() })
}

fn role_add(name: &str) -> AuthCommand {
    AuthCommand::RoleAdd(AuthRoleAddRequest { name: name.into() })
}

fn role_delete(role: &str) -> AuthCommand {
    AuthCommand::RoleDelete(AuthRoleDeleteRequest { role: role.into() })
}

fn permit(role: &str, kind: Type, key: &'static str, range_end: &'static str) -> AuthCommand {
    let perm = Some(Permission { perm_type: kind.into(), key: key.into(), range_end: range_end.into() });
    AuthCommand::RoleGrantPermission(AuthRoleGrantPermissionRequest { name: role.into(), perm })
}

fn forbid(role: &str, key: &'static str, range_end: &'static str) -> AuthCommand {
    let (key, range_end) = (key.into(), range_end.into());
    AuthCommand::RoleRevokePermission(AuthRoleRevokePermissionRequest { role: role.into(), key, range_end })
}

fn put(key: &'static str) -> PutRequest {
    PutRequest { key: key.into(), value: "v".into(), ..Default::default() }
}

fn range(key: &'static str, range_end: &'static str) -> RangeRequest {
    RangeRequest { key: key.into(), range_end: range_end.into(), ..Default::default() }
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

/// A transaction that has another one this deep inside, in the branch that is not taken.
fn nested(request: Request, depth: usize) -> TxnRequest {
    let failure = match depth {
        0 => vec![op(request)],
        _ => vec![op(Request::RequestTxn(nested(request, depth - 1)))],
    };
    TxnRequest { failure, ..Default::default() }
}

/// Change by change, what etcd makes of it and the auth revision then. `crates/cli/tests/e2e_rbac/changes.rs` asks etcd the same.
#[test]
fn users_and_roles_change_by_etcds_rules() {
    let mut member = Member::new();
    use Refusal::*;
    let without_password = AuthCommand::UserAdd(AuthUserAddRequest {
        name: "cert".into(),
        options: Some(UserAddOptions { no_password: true }),
        ..Default::default()
    });
    let plain_password = AuthCommand::UserAdd(AuthUserAddRequest {
        name: "plain".into(),
        password: "secret".into(),
        ..Default::default()
    });
    let changed_to_plain = AuthCommand::UserChangePassword(AuthUserChangePasswordRequest {
        name: "a".into(),
        password: "secret".into(),
        ..Default::default()
    });
    let nothing_permitted =
        AuthCommand::RoleGrantPermission(AuthRoleGrantPermissionRequest { name: "r".into(), perm: None });
    let rows = [
        (AuthCommand::Disable, Ok(()), 1),
        (enable(), Err(RootUserNotExist), 1),
        (user_add(""), Err(UserEmpty), 1),
        (plain_password, Err(PlainPassword), 1),
        (user_add("root"), Ok(()), 2),
        (user_add("root"), Err(UserExists), 2),
        (enable(), Err(RootRoleNotExist), 2),
        (grant_role("root", "root"), Ok(()), 3),
        (grant_role("root", "root"), Ok(()), 3),
        (grant_role("root", "r"), Err(RoleNotFound), 3),
        (grant_role("a", "root"), Err(UserNotFound), 3),
        (role_add(""), Err(RoleEmpty), 3),
        (role_add("r"), Ok(()), 4),
        (role_add("r"), Err(RoleExists), 4),
        (user_add("a"), Ok(()), 5),
        (without_password, Ok(()), 6),
        (changed_to_plain, Err(PlainPassword), 6),
        (change_password("a"), Ok(()), 7),
        (change_password("b"), Err(UserNotFound), 7),
        (change_password("cert"), Ok(()), 8),
        (grant_role("a", "r"), Ok(()), 9),
        (revoke_role("a", "root"), Err(RoleNotGranted), 9),
        (revoke_role("b", "root"), Err(UserNotFound), 9),
        (nothing_permitted, Err(PermissionNotGiven), 9),
        (permit("r", Type::Read, "", ""), Err(InvalidAuthMgmt), 9),
        (permit("r", Type::Read, "b", "a"), Err(InvalidAuthMgmt), 9),
        (permit("s", Type::Read, "a", ""), Err(RoleNotFound), 9),
        (permit("r", Type::Read, "k", "m"), Ok(()), 10),
        (permit("r", Type::Read, "k", ""), Ok(()), 11),
        (permit("r", Type::Write, "a", "\0"), Ok(()), 12),
        (permit("r", Type::Readwrite, "k", ""), Ok(()), 13),
        (forbid("r", "k", "l"), Err(PermissionNotGranted), 13),
        (forbid("s", "k", ""), Err(RoleNotFound), 13),
        (enable(), Ok(()), 13),
        (enable(), Ok(()), 13),
        (user_delete("root"), Err(InvalidAuthMgmt), 13),
        (revoke_role("root", "root"), Err(InvalidAuthMgmt), 13),
        (role_delete("root"), Err(InvalidAuthMgmt), 13),
        (forbid("r", "k", "m"), Ok(()), 14),
        (user_delete("b"), Err(UserNotFound), 14),
        (role_delete("s"), Err(RoleNotFound), 14),
        (role_delete("r"), Ok(()), 15),
        (user_delete("cert"), Ok(()), 16),
        (AuthCommand::Disable, Ok(()), 17),
        (AuthCommand::Disable, Ok(()), 17),
        (user_delete("root"), Ok(()), 18),
    ];
    for (change, expected, revision) in rows {
        let shown = format!("{change:?}");
        if shown == "RoleDelete(AuthRoleDeleteRequest { role: \"r\" })" {
            let role = member.store.auth().role("r").unwrap();
            let permissions: Vec<_> = role.permissions().iter().map(|one| (&one.key[..], one.perm_type)).collect();
            assert_eq!(permissions, [(&b"a"[..], 1), (b"k", 2)]);
        }
        let applied = member.apply_as("root", Command::Auth(change));
        assert_eq!(applied.map(drop), expected, "{shown}");
        assert_eq!(member.store.auth().revision(), revision, "{shown}");
    }
    let auth = member.store.auth();
    assert_eq!(auth.users().map(|(name, _)| name).collect::<Vec<_>>(), ["a"]);
    let left = auth.user("a").unwrap();
    assert_eq!((left.hash(), left.roles().len(), left.generation()), (Some("another hash"), 0, 7));
    assert!(!format!("{auth:?}").contains("another hash") && !format!("{auth:?}").contains("7, 7"));
}

#[test]
fn the_same_range_is_permitted_once_whatever_else_begins_with_its_key() {
    let mut member = Member::with_users(&[("r", Type::Read, "a", "b"), ("r", Type::Read, "a", "c")]);
    member.change(permit("r", Type::Write, "a", "c"));
    let permissions = member.store.auth().role("r").unwrap().permissions();
    let shown: Vec<_> = permissions.iter().map(|one| (&one.range_end[..], one.perm_type)).collect();
    assert_eq!(shown, [(&b"b"[..], 0), (b"c", 1)]);
}

const ALL_LEASES: Asked<'static> = Asked::Leases { after: None, count: usize::MAX };

/// Who is who: users of `with_users`, root, one that there is not, and one that has not said who it is.
#[test]
fn what_each_kind_of_request_needs() {
    let grants = [("r", Type::Read, "a", "c"), ("w", Type::Write, "a", "c"), ("b", Type::Readwrite, "a", "c")];
    let mut member = Member::with_users(&grants);
    member.apply_as("root", Command::LeaseGrant(LeaseGrantRequest { id: 7, ttl: 60 })).unwrap();
    member.apply_as("root", Command::LeaseGrant(LeaseGrantRequest { id: 8, ttl: 60 })).unwrap();
    member.apply_as("root", Command::LeaseGrant(LeaseGrantRequest { id: 9, ttl: 60 })).unwrap();
    member.apply_as("b", Command::Put(PutRequest { lease: 8, ..put("ab") })).unwrap();
    member.apply_as("root", Command::Put(PutRequest { lease: 9, ..put("x") })).unwrap();
    member.apply_as("root", Command::Put(PutRequest { lease: 9, ..put("ac") })).unwrap();

    let with_old = |key| PutRequest { prev_kv: true, ..put(key) };
    let delete = |key: &'static str, range_end: &'static str, prev_kv| DeleteRangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        prev_kv,
    };
    let compare = |key: &'static str, range_end: &'static str| TxnRequest {
        compare: vec![Compare { key: key.into(), range_end: range_end.into(), ..Default::default() }],
        ..Default::default()
    };
    let watch = |key: &'static str, range_end: &'static str| WatchCreateRequest {
        key: key.into(),
        range_end: range_end.into(),
        ..Default::default()
    };
    let single = [
        (Request::RequestRange(range("a", "")), "rb"),
        (Request::RequestRange(range("a", "c")), "rb"),
        (Request::RequestRange(range("a", "ca")), ""),
        (Request::RequestRange(range("b", "\0")), ""),
        (Request::RequestRange(range("\0", "\0")), ""),
        (Request::RequestPut(put("b")), "wb"),
        (Request::RequestPut(put("c")), ""),
        (Request::RequestPut(with_old("b")), "b"),
        (Request::RequestPut(PutRequest { lease: 7, ..put("b") }), "wb"),
        (Request::RequestPut(PutRequest { lease: 8, ..put("b") }), "wb"),
        (Request::RequestPut(PutRequest { lease: 9, ..put("b") }), ""),
        (Request::RequestPut(PutRequest { lease: 99, ..put("b") }), "wb"),
        (Request::RequestPut(PutRequest { ignore_value: true, ignore_lease: true, ..put("b") }), "wb"),
        (Request::RequestDeleteRange(delete("a", "c", false)), "wb"),
        (Request::RequestDeleteRange(delete("a", "c", true)), "b"),
        (Request::RequestDeleteRange(delete("a", "\0", false)), ""),
        (Request::RequestTxn(compare("a", "c")), "rb"),
        (Request::RequestTxn(compare("a", "\0")), ""),
        (Request::RequestTxn(TxnRequest::default()), "rwb"),
    ];
    let txns: Vec<_> = single
        .iter()
        .flat_map(|(request, who)| (0..4).map(move |depth| (nested(request.clone(), depth), *who)))
        .collect();
    let asked = |request: &'static Request| match request {
        Request::RequestRange(range) => Asked::Range(range),
        Request::RequestPut(put) => Asked::Put(put),
        Request::RequestDeleteRange(delete) => Asked::DeleteRange(delete),
        Request::RequestTxn(txn) => Asked::Txn(txn),
    };
    let watches = [
        (watch("a", ""), "rb"),
        (watch("a", "c"), "rb"),
        (watch("a", "\0"), ""),
        (watch("c", ""), ""),
        // No key is the first of all: never taken for one key that begins a range to which the user has a right.
        (watch("", ""), ""),
        (watch("", "\0"), ""),
    ];
    // Leaked, so that the table below can borrow: it is a test.
    let single: &'static [(Request, &str)] = Vec::from(single).leak();
    let txns: &'static [(TxnRequest, &str)] = txns.leak();
    let watches: &'static [(WatchCreateRequest, &str)] = Vec::from(watches).leak();
    let mut rows: Vec<(Asked<'static>, &str)> = Vec::new();
    rows.extend(single.iter().map(|(request, who)| (asked(request), *who)));
    rows.extend(txns.iter().map(|(txn, who)| (Asked::Txn(txn), *who)));
    rows.extend(watches.iter().map(|(watch, who)| (Asked::Watch(watch), *who)));
    rows.extend([
        (Asked::RevokeLease(7), "rwb"),
        (Asked::RevokeLease(8), "wb"),
        (Asked::RevokeLease(9), ""),
        (Asked::RevokeLease(99), "rwb"),
        (Asked::RenewLease(8), "wb"),
        (Asked::RenewLease(9), ""),
        (Asked::KeysOnLease(7), "rwb"),
        (Asked::KeysOnLease(8), "rb"),
        (Asked::KeysOnLease(9), ""),
        (Asked::Leases { after: None, count: 9 }, ""),
        (Asked::Leases { after: None, count: 2 }, "rb"),
        (Asked::Leases { after: Some(8), count: 1 }, ""),
        (Asked::Leases { after: Some(9), count: 1 }, "rwb"),
        (Asked::User("r"), "r"),
        (Asked::User("root"), ""),
        (Asked::Role("w"), "w"),
        (Asked::Administer, ""),
        (Asked::Anything, "rwb"),
    ]);
    for (asked, who) in rows {
        for user in ["r", "w", "b"] {
            let expected = if who.contains(user) { Ok(()) } else { Err(Refusal::PermissionDenied) };
            assert_eq!(member.may(user, asked), expected, "{user}: {asked:?}");
        }
        assert_eq!(member.may("root", asked), Ok(()), "{asked:?}");
        assert_eq!(member.store.authorise(None, asked), Err(Refusal::UserEmpty), "{asked:?}");
        assert_eq!(member.may("", asked), Err(Refusal::UserEmpty), "{asked:?}");
        let unknown = if let Asked::Administer = asked { Refusal::UserNotFound } else { Refusal::PermissionDenied };
        assert_eq!(member.may("nobody", asked), Err(unknown), "{asked:?}");
    }
    // Without the lease that holds what nobody but root may read, the others may be listed by who may read their keys.
    member.apply_as("root", Command::LeaseRevoke(LeaseRevokeRequest { id: 9 })).unwrap();
    assert_eq!(member.may("r", ALL_LEASES), Ok(()));
    assert_eq!(member.may("w", ALL_LEASES), Err(Refusal::PermissionDenied));
    // Where authentication is off nobody is asked.
    member.change(AuthCommand::Disable);
    for user in ["r", "nobody", ""] {
        assert_eq!(member.may(user, Asked::Administer), Ok(()));
    }
    assert_eq!(member.store.authorise(None, ALL_LEASES), Ok(()));
}

#[test]
fn commands_are_held_against_what_is_replicated_when_they_are_applied() {
    let mut member = Member::with_users(&[("w", Type::Write, "a", "c")]);
    let compact = || Command::Compact(CompactionRequest { revision: 1, physical: false });
    let alarm = || Command::Alarm(AlarmRequest { action: AlarmAction::Activate.into(), member_id: 7, alarm: 2 });
    let get_in_txn = Command::Txn(TxnRequest {
        success: vec![op(Request::RequestPut(put("a"))), op(Request::RequestRange(range("secret", "")))],
        ..Default::default()
    });
    let by_client = [
        (Command::Put(put("a")), Ok(())),
        (Command::Put(put("c")), Err(Refusal::PermissionDenied)),
        (Command::Put(PutRequest { prev_kv: true, ..put("a") }), Err(Refusal::PermissionDenied)),
        (get_in_txn, Err(Refusal::PermissionDenied)),
        (Command::LeaseGrant(LeaseGrantRequest { id: 5, ttl: 60 }), Ok(())),
        (Command::LeaseRevoke(LeaseRevokeRequest { id: 5 }), Ok(())),
        (compact(), Err(Refusal::PermissionDenied)),
        (alarm(), Err(Refusal::PermissionDenied)),
        (Command::Auth(role_add("mine")), Err(Refusal::PermissionDenied)),
        // What members tell each other: a client may not even claim it.
        (Command::SetAttribute { name: "n".into(), value: "v".into() }, Err(Refusal::PermissionDenied)),
        (Command::LeaseTime(LeaseTime { term: 1, now: 1, renewals: 0, ended: vec![] }), Err(Refusal::PermissionDenied)),
    ];
    for (command, expected) in &by_client {
        let (revision, hash) = (member.store.revision(), member.store.hash(0).unwrap());
        let applied = member.apply_as("w", command.clone());
        assert_eq!(applied.map(drop), *expected, "{command:?}");
        if expected.is_err() {
            assert_eq!((member.store.revision(), member.store.hash(0).unwrap()), (revision, hash), "{command:?}");
        }
    }
    // Of nobody, as from a member that does not know yet that authentication is on.
    for (command, _) in by_client {
        let own = matches!(command, Command::SetAttribute { .. } | Command::LeaseTime(_));
        let expected = if own { Ok(()) } else { Err(Refusal::UserEmpty) };
        assert_eq!(member.apply(command.clone()).map(drop), expected, "{command:?}");
    }
    assert_eq!(member.apply(Command::LeaseKeepAlive(vec![5])), Err(Refusal::UserEmpty));
    // Of a member itself.
    assert!(member.apply(compact().by(Asker::Server)).is_ok());
    assert!(member.apply(alarm().by(Asker::Server)).is_ok());
}

#[test]
fn who_was_found_out_before_users_changed_asks_again() {
    let mut member = Member::with_users(&[("w", Type::Write, "a", "c")]);
    let then = member.store.auth().revision();
    let by = |revision| move |command: Command| command.by(Asker::Client(caller("w", revision)));
    member.change(role_add("other"));
    let old = by(then);
    assert_eq!(member.apply(old(Command::Put(put("a")))), Err(Refusal::AuthOldRevision));
    // What is not about keys does not depend on roles; the user is still the one that was found out.
    assert!(member.apply(old(Command::LeaseGrant(LeaseGrantRequest { id: 5, ttl: 60 }))).is_ok());
    member.apply_as("w", Command::Put(PutRequest { lease: 5, ..put("a") })).unwrap();
    assert_eq!(member.apply(old(Command::LeaseRevoke(LeaseRevokeRequest { id: 5 }))), Err(Refusal::AuthOldRevision));
    let renewed = |ttls: &[i64]| Ok(Applied::LeaseKeepAlive { revision: 2, ttls: ttls.to_vec() });
    assert_eq!(member.apply(old(Command::LeaseKeepAlive(vec![5, 6]))), renewed(&[60, 0]));
    let renewed_caller = member.store.auth().renewed(&caller("w", then)).unwrap();
    assert_eq!(renewed_caller.revision, member.store.auth().revision());
    // Of leases that are another's, those alone are refused.
    member.apply_as("root", Command::LeaseGrant(LeaseGrantRequest { id: 6, ttl: 30 })).unwrap();
    member.apply_as("root", Command::Put(PutRequest { lease: 6, ..put("z") })).unwrap();
    let ttls = match member.apply_as("w", Command::LeaseKeepAlive(vec![6, 5, 7])) {
        Ok(Applied::LeaseKeepAlive { ttls, .. }) => ttls,
        other => panic!("{other:?}"),
    };
    assert_eq!(ttls, [-1, 60, 0]);
    // Another password, or another user of the same name, ends all that.
    member.change(change_password("w"));
    assert_eq!(member.apply(old(Command::LeaseKeepAlive(vec![5]))), Err(Refusal::AuthOldRevision));
    assert_eq!(member.store.auth().renewed(&caller("w", then)), Err(Refusal::InvalidAuthToken));
    let again = by(member.store.auth().revision());
    member.change(user_delete("w"));
    member.change(user_add("w"));
    let grant = || Command::LeaseGrant(LeaseGrantRequest { id: 9, ttl: 60 });
    assert_eq!(member.apply(again(grant())), Err(Refusal::AuthOldRevision));
    assert!(member.apply_as("w", grant()).is_ok());
}

#[test]
fn users_outlive_a_restart_and_travel_in_a_snapshot() {
    let grants = [("a", Type::Read, "a", "c"), ("b", Type::Readwrite, "x", "\0"), ("gone", Type::Write, "k", "")];
    let engine = MemoryEngine::default();
    let mut member = Member::open(&engine);
    let source = Member::with_users(&grants);
    let mut bytes = Vec::new();
    let mut source = source;
    source.change(user_delete("gone"));
    source.change(role_delete("gone"));
    source.store.flush().unwrap();
    source.store.snapshot().unwrap().write_to(&mut bytes).unwrap();
    member.store.restore(&mut &bytes[..]).unwrap();
    assert_eq!(member.store.auth().records(), source.store.auth().records());
    assert_eq!(member.may("a", Asked::Range(&range("a", "c"))), Ok(()));
    assert_eq!(member.may("a", Asked::Range(&range("a", "d"))), Err(Refusal::PermissionDenied));
    assert_eq!(member.store.hash(0), source.store.hash(0));
    let (hash, revision) = (member.store.hash(0), member.store.revision());
    member.change(permit("a", Type::Write, "a", "c"));
    // Users are no history of keys.
    assert_eq!((member.store.hash(0), member.store.revision()), (hash, revision));
    member.store.flush().unwrap();
    let written = member.store.auth().records();
    drop(member);

    let mut member = Member::open(&engine);
    assert_eq!(member.store.auth().records(), written);
    assert!(member.store.auth().is_enabled() && member.store.auth().user("gone").is_none());
    assert_eq!(member.store.auth().token_key(), &TokenKey([7; 32]));
    assert!(member.apply_as("a", Command::Put(put("b"))).is_ok());
    member.change(AuthCommand::Disable);
    member.store.flush().unwrap();
    drop(member);
    assert!(!Member::open(&engine).store.auth().is_enabled());

    // What says whether users count is not lost in silence.
    let lost = WriteBatch { records: vec![(b"e".to_vec(), Vec::new())], ..WriteBatch::default() };
    engine.write(&lost).unwrap();
    let opened = Store::open_still(Arc::new(engine), Options::default());
    let error = opened.err().map(|error| error.to_string()).unwrap();
    assert!(error.contains("no record says whether they count"), "{error}");
}

/// Records of users, byte for byte as `docs/disk-format.md` says: what an earlier version wrote is read.
#[test]
fn what_was_written_is_read() {
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..][..2], 16).unwrap()).collect()
    };
    let records = [
        (b"e".to_vec(), format!("010900000000000000{}", "07".repeat(32))),
        (b"uroot".to_vec(), "02000000000000000a04726f6f741204686173681a04726f6f742200".to_owned()),
        (b"ucert".to_vec(), "06000000000000000a04636572741a017222020801".to_owned()),
        (b"rr".to_vec(), "0a017212080802120161".to_owned() + "1a0163"),
    ];
    let sealed = records.map(|(name, text)| {
        let mut bytes = hex(&text);
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
        (name, bytes)
    });
    let engine = MemoryEngine::default();
    engine.write(&WriteBatch { records: sealed.to_vec(), ..WriteBatch::default() }).unwrap();
    let store = Store::open_still(Arc::new(engine), Options::default()).unwrap();
    let auth = store.auth();
    assert!(auth.is_enabled() && auth.revision() == 9 && auth.token_key() == &TokenKey([7; 32]));
    let root = auth.user("root").unwrap();
    assert_eq!((root.hash(), root.is_root(), root.generation()), (Some("hash"), true, 2));
    let cert = auth.user("cert").unwrap();
    assert_eq!((cert.hash(), cert.roles().collect::<Vec<_>>(), cert.generation()), (None, vec!["r"], 6));
    assert_eq!(store.authorise(Some(&caller("cert", 9)), Asked::Range(&range("a", "c"))), Ok(()));
    let mut written = auth.records();
    written.sort();
    let mut expected = sealed.to_vec();
    expected.sort();
    assert_eq!(written, expected);
}

/// What a stream has, as far as it is in its mailbox or can be caught up.
fn all_of(stream: &mut WatchStream, store: &Store) -> Vec<WatchOut> {
    let mut all = Vec::new();
    loop {
        let drained = stream.drain(usize::MAX);
        all.extend(drained.outs);
        match drained.next {
            Next::Wait => return all,
            Next::Drain => {}
            Next::CatchUp => all.extend(stream.catch_up(&store.view(), usize::MAX).unwrap().outs),
        }
    }
}

fn shown(outs: &[WatchOut]) -> Vec<String> {
    let show = |out: &WatchOut| match out {
        WatchOut::Created { watch_id, .. } => format!("{watch_id} created"),
        WatchOut::NotCreated { reason: CancelReason::Refused(refusal), .. } => format!("not created: {refusal}"),
        WatchOut::Canceled { watch_id, reason: CancelReason::Refused(refusal), .. } => {
            format!("{watch_id} ended: {refusal}")
        }
        WatchOut::Events { watch_ids, revision, .. } => format!("{} at {revision}", watch_ids[0]),
        other => format!("{other:?}"),
    };
    outs.iter().cloned().flat_map(WatchOut::each).map(|out| show(&out)).collect()
}

#[test]
fn a_watch_ends_when_its_keys_may_not_be_read_any_more() {
    let mut member = Member::with_users(&[("r", Type::Read, "a", "c"), ("r", Type::Read, "k", "")]);
    let watch = |key: &'static str, range_end: &'static str| WatchCreateRequest {
        key: key.into(),
        range_end: range_end.into(),
        ..Default::default()
    };
    let mut stream = member.store.watch_stream(Arc::new(|| {}));
    let reader = caller("r", member.store.auth().revision());
    let root = caller("root", member.store.auth().revision());
    stream.create_for(Some(&reader), &watch("a", "c"));
    stream.create_for(Some(&reader), &watch("k", ""));
    stream.create_for(Some(&reader), &watch("k", "\0"));
    stream.create_for(None, &watch("k", ""));
    stream.create_for(Some(&root), &watch("", "\0"));
    let denied = "not created: permission denied";
    let begun = ["0 created", "1 created", denied, "not created: user name is empty", "2 created"];
    assert_eq!(shown(&all_of(&mut stream, &member.store)), begun);

    // In one batch: what comes before the change is told, what comes after is not.
    let by =
        |user: &str, store: &Store, command: Command| command.by(Asker::Client(caller(user, store.auth().revision())));
    let commands = [Command::Put(put("a")), Command::Auth(forbid("r", "a", "c")), Command::Put(put("b"))];
    for command in commands {
        let command = by("root", &member.store, command);
        let at = Position { term: 1, index: member.store.applied().index + 1 };
        member.store.apply(at, command).unwrap();
    }
    member.store.end_batch();
    let told = shown(&all_of(&mut stream, &member.store));
    let of = |id: &str| told.iter().filter(|line| line.starts_with(id)).cloned().collect::<Vec<_>>();
    assert_eq!(of("0"), ["0 at 2", "0 ended: permission denied"]);
    assert_eq!(of("2").last().map(String::as_str), Some("2 at 3"));
    assert_eq!(stream.watches(), 2);
    assert_eq!(member.store.sizes().watches, 2);

    // A change that takes nothing away ends nothing; who goes takes the watches along.
    member.change(permit("r", Type::Write, "k", "z"));
    assert_eq!(shown(&all_of(&mut stream, &member.store)), Vec::<String>::new());
    member.change(user_delete("r"));
    assert_eq!(shown(&all_of(&mut stream, &member.store)), ["1 ended: permission denied"]);
    stream.create_for(Some(&reader), &watch("k", ""));
    assert_eq!(shown(&all_of(&mut stream, &member.store)), [format!("not created: {}", Refusal::AuthOldRevision)]);
    stream.refuse(Refusal::InvalidAuthToken);
    assert_eq!(shown(&all_of(&mut stream, &member.store)), ["not created: invalid auth token"]);

    // Where authentication is off all may watch; when it is enabled those end that are nobody's.
    member.change(AuthCommand::Disable);
    stream.create_for(None, &watch("k", ""));
    assert_eq!(shown(&all_of(&mut stream, &member.store)), ["3 created"]);
    member.change(enable());
    assert_eq!(shown(&all_of(&mut stream, &member.store)), ["3 ended: user name is empty"]);
    assert_eq!(stream.watches(), 1);
}

#[test]
fn a_watch_that_is_behind_reads_nothing_more_once_it_has_ended() {
    let mut member = Member::with_users(&[("r", Type::Read, "a", "c")]);
    for _ in 0..3 {
        member.apply_as("root", Command::Put(put("a"))).unwrap();
    }
    let mut stream = member.store.watch_stream(Arc::new(|| {}));
    let reader = caller("r", member.store.auth().revision());
    let from_the_past = WatchCreateRequest { key: "a".into(), start_revision: 1, ..Default::default() };
    stream.create_for(Some(&reader), &from_the_past);
    assert_eq!(stream.drain(usize::MAX).next, Next::CatchUp);
    member.change(revoke_role("r", "r"));
    assert_eq!(shown(&all_of(&mut stream, &member.store)), ["0 ended: permission denied"]);
}

/// A member that becomes what a snapshot holds becomes its users too, and ends the watches that are not theirs.
#[test]
fn a_snapshot_ends_watches_too() {
    let mut ahead = Member::with_users(&[("r", Type::Read, "a", "c")]);
    let mut behind = Member::with_users(&[("r", Type::Read, "a", "c")]);
    let mut stream = behind.store.watch_stream(Arc::new(|| {}));
    let reader = caller("r", behind.store.auth().revision());
    let all = WatchCreateRequest { key: "a".into(), range_end: "c".into(), ..Default::default() };
    stream.create_for(Some(&reader), &all);
    ahead.change(revoke_role("r", "r"));
    ahead.apply_as("root", Command::Put(put("b"))).unwrap();
    ahead.store.flush().unwrap();
    let mut bytes = Vec::new();
    ahead.store.snapshot().unwrap().write_to(&mut bytes).unwrap();
    behind.store.restore(&mut &bytes[..]).unwrap();
    assert_eq!(shown(&all_of(&mut stream, &behind.store)), ["0 created", "0 ended: permission denied"]);
}

/// Keys that stand for all others where grants and requests begin and end at these alone: each of them, and what follows
/// it at once.
const MARKS: [&str; 6] = ["a", "ab", "b", "c", "ca", "d"];

fn universe() -> Vec<Bytes> {
    let mut keys = vec![Bytes::from_static(b"\0")];
    for mark in MARKS {
        keys.extend([mark.to_owned(), format!("{mark}\0"), format!("{mark}\0\0")].map(Bytes::from));
    }
    keys
}

fn is_in(key: &[u8], start: &[u8], range_end: &[u8]) -> bool {
    match range_end {
        [] => key == start,
        [0] => start <= key,
        _ => start <= key && key < range_end,
    }
}

fn any_range(dice: &mut Dice) -> (Bytes, Bytes) {
    let mark = |dice: &mut Dice| Bytes::from(MARKS[dice.below(6) as usize]);
    let key = mark(dice);
    match dice.below(4) {
        0 => (key, Bytes::new()),
        1 => (key, "\0".into()),
        // Now and then it ends before it begins.
        _ => (key, mark(dice)),
    }
}

/// What a transaction touches, one by one: whether that is to read, and the range.
fn touched(txn: &TxnRequest) -> Vec<(bool, Bytes, Bytes)> {
    let mut all = Vec::new();
    let mut open = vec![txn.clone()];
    while let Some(txn) = open.pop() {
        all.extend(txn.compare.into_iter().map(|compare| (true, compare.key, compare.range_end)));
        for op in txn.success.into_iter().chain(txn.failure) {
            match op.request.unwrap() {
                Request::RequestRange(range) => all.push((true, range.key, range.range_end)),
                Request::RequestPut(put) => {
                    all.push((false, put.key.clone(), Bytes::new()));
                    if put.prev_kv {
                        all.push((true, put.key, Bytes::new()));
                    }
                }
                Request::RequestDeleteRange(delete) => {
                    all.push((false, delete.key.clone(), delete.range_end.clone()));
                    if delete.prev_kv {
                        all.push((true, delete.key, delete.range_end));
                    }
                }
                Request::RequestTxn(nested) => open.push(nested),
            }
        }
    }
    all
}

fn any_txn(dice: &mut Dice, depth: u64) -> TxnRequest {
    let mut txn = TxnRequest::default();
    for _ in 0..dice.below(2) {
        let (key, range_end) = any_range(dice);
        txn.compare.push(Compare { key, range_end, ..Default::default() });
    }
    for _ in 0..dice.below(3) {
        let (key, range_end) = any_range(dice);
        let prev_kv = dice.once_in(2);
        let request = match dice.below(if depth == 0 { 3 } else { 5 }) {
            0 => Request::RequestRange(RangeRequest { key, range_end, ..Default::default() }),
            1 => Request::RequestPut(PutRequest { key, prev_kv, ..Default::default() }),
            2 => Request::RequestDeleteRange(DeleteRangeRequest { key, range_end, prev_kv }),
            _ => Request::RequestTxn(any_txn(dice, depth - 1)),
        };
        if dice.once_in(2) { txn.success.push(op(request)) } else { txn.failure.push(op(request)) }
    }
    txn
}

/// The union of what all roles of a user grant, key by key.
#[test]
fn a_user_may_do_what_each_key_that_it_touches_permits() {
    let universe = universe();
    let (mut permitted, mut denied) = (0, 0);
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let mut member = Member::with_users(&[("u", Type::Read, "zzz", "")]);
        let mut granted: Vec<(i32, Bytes, Bytes)> = Vec::new();
        for number in 0..2 + dice.below(6) {
            let role = format!("role{}", number % 3);
            let (key, range_end) = any_range(&mut dice);
            let kind = dice.below(3) as i32;
            let perm = Some(Permission { perm_type: kind, key: key.clone(), range_end: range_end.clone() });
            let grant = AuthRoleGrantPermissionRequest { name: role.clone(), perm };
            let _ = member.apply_as("root", Command::Auth(role_add(&role)));
            let _ = member.apply_as("root", Command::Auth(grant_role("u", &role)));
            match member.apply_as("root", Command::Auth(AuthCommand::RoleGrantPermission(grant))) {
                Ok(_) => {
                    // The same range in the same role has one kind.
                    let role_keeps = |one: &(i32, Bytes, Bytes)| (&one.1, &one.2) != (&key, &range_end);
                    let same_elsewhere = member.store.auth().roles().filter(|(name, _)| *name != role);
                    let elsewhere: Vec<_> = same_elsewhere
                        .flat_map(|(_, role)| role.permissions())
                        .filter(|one| (&one.key, &one.range_end) == (&key, &range_end))
                        .map(|one| (one.perm_type, one.key.clone(), one.range_end.clone()))
                        .collect();
                    granted.retain(role_keeps);
                    granted.extend(elsewhere);
                    granted.push((kind, key, range_end));
                }
                Err(refusal) => assert_eq!(refusal, Refusal::InvalidAuthMgmt),
            }
        }
        let has = |key: &[u8], reads: bool| {
            granted.iter().any(|(kind, start, end)| *kind != i32::from(reads) && is_in(key, start, end))
        };
        for _ in 0..40 {
            let txn = any_txn(&mut dice, 3);
            let touched = touched(&txn);
            let all_permitted = touched.iter().all(|(reads, key, range_end)| {
                let mut meant = universe.iter().filter(|one| is_in(one, key, range_end)).peekable();
                // A range without keys is where it begins.
                if meant.peek().is_none() { has(key, *reads) } else { meant.all(|one| has(one, *reads)) }
            });
            let expected = if all_permitted { Ok(()) } else { Err(Refusal::PermissionDenied) };
            assert_eq!(member.may("u", Asked::Txn(&txn)), expected, "seed {seed}: {granted:?} {txn:?}");
            if !touched.is_empty() {
                *if all_permitted { &mut permitted } else { &mut denied } += 1;
            }
        }
    }
    assert!(permitted > 1_000 && denied > 1_000, "{permitted} {denied}");
}
