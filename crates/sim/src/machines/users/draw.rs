//! What the clients of users and roles do, drawn by chance.
//!
//! Owns the few names, keys and ranges that there are: few enough that they meet.

use bytes::Bytes;
use vlot_proto::authpb::Permission;
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::{
    AuthRoleAddRequest, AuthRoleDeleteRequest, AuthRoleGrantPermissionRequest, AuthRoleRevokePermissionRequest,
    AuthUserAddRequest, AuthUserChangePasswordRequest, AuthUserDeleteRequest, AuthUserGrantRoleRequest,
    AuthUserRevokeRoleRequest, CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest,
    PutRequest, RequestOp, TxnRequest,
};
use vlot_store::auth::{AuthCommand, Caller, TokenKey};
use vlot_store::command::Command;

use super::range;
use crate::rng::Rng;

/// Where ranges begin and end.
pub(super) const MARKS: [&str; 4] = ["a", "b", "c", "d"];
const USERS: [&str; 4] = ["u", "v", "w", "root"];
const ROLES: [&str; 4] = ["r", "s", "t", "root"];

fn name(names: &[&str], rng: &mut Rng) -> String {
    rng.pick(names).to_owned()
}

fn user_add(name: &str) -> AuthCommand {
    AuthCommand::UserAdd(AuthUserAddRequest { name: name.into(), hashed_password: "hash".into(), ..Default::default() })
}

fn grant_role(user: &str, role: &str) -> AuthCommand {
    AuthCommand::UserGrantRole(AuthUserGrantRoleRequest { user: user.into(), role: role.into() })
}

fn permit(role: &str, perm_type: i32, key: &'static str, range_end: &'static str) -> AuthCommand {
    let perm = Permission { perm_type, key: key.into(), range_end: range_end.into() };
    AuthCommand::RoleGrantPermission(AuthRoleGrantPermissionRequest { name: role.into(), perm: Some(perm) })
}

/// What is done first: there are users, roles, and somebody who may change them.
pub(super) fn first(place: u64) -> Option<AuthCommand> {
    let role_add = |name: &str| AuthCommand::RoleAdd(AuthRoleAddRequest { name: name.into() });
    Some(match place {
        0 => user_add("root"),
        1 => grant_role("root", "root"),
        2 => user_add("u"),
        3 => user_add("v"),
        4 => role_add("r"),
        5 => role_add("s"),
        6 => grant_role("u", "r"),
        7 => grant_role("v", "s"),
        8 => permit("r", 2, "a", "c"),
        9 => permit("s", 0, "b", "\0"),
        10 => AuthCommand::Enable { token_key: TokenKey([1; 32]) },
        _ => return None,
    })
}

/// Somebody who asks, as a rule found out at the newest revision.
pub(super) fn caller(revision: u64, rng: &mut Rng) -> Option<Caller> {
    let user = match rng.below(20) {
        0 => return None,
        1 => String::new(),
        2 => "nobody".to_owned(),
        3..=5 => "root".to_owned(),
        _ => name(&USERS[..3], rng),
    };
    let revision = if rng.below(6) == 0 { revision.saturating_sub(rng.below(3)) } else { revision + rng.below(2) };
    Some(Caller { user: user.into(), revision })
}

/// A change of users or roles. Those that make work possible come most often.
pub(super) fn change(rng: &mut Rng) -> AuthCommand {
    let (user, role) = (name(&USERS, rng), name(&ROLES, rng));
    let (key, range_end) = any_range(rng);
    let perm_type = rng.below(3) as i32;
    match rng.below(24) {
        0 => AuthCommand::Enable { token_key: TokenKey([rng.below(256) as u8; 32]) },
        1 if rng.below(4) == 0 => AuthCommand::Disable,
        1..=3 => user_add(&user),
        4 => AuthCommand::UserDelete(AuthUserDeleteRequest { name: user }),
        5 => AuthCommand::UserChangePassword(AuthUserChangePasswordRequest {
            name: user,
            hashed_password: format!("hash {perm_type}"),
            ..Default::default()
        }),
        6..=8 => grant_role(&user, &role),
        9..=10 => AuthCommand::UserRevokeRole(AuthUserRevokeRoleRequest { name: user, role }),
        11..=12 => AuthCommand::RoleAdd(AuthRoleAddRequest { name: role }),
        13 => AuthCommand::RoleDelete(AuthRoleDeleteRequest { role }),
        14..=19 => AuthCommand::RoleGrantPermission(AuthRoleGrantPermissionRequest {
            name: role,
            perm: (rng.below(20) > 0).then_some(Permission { perm_type, key, range_end }),
        }),
        _ => AuthCommand::RoleRevokePermission(AuthRoleRevokePermissionRequest { role, key, range_end }),
    }
}

/// What a user proposes. `id` is a lease's that nobody has.
pub(super) fn command(id: i64, leases: &[i64], rng: &mut Rng) -> Command {
    let lease = if leases.is_empty() { 0 } else { rng.pick(&leases[leases.len().saturating_sub(3)..]) };
    match rng.below(16) {
        0..=3 => Command::Put(put(lease, rng)),
        4..=5 => Command::DeleteRange(delete(rng)),
        6..=10 => Command::Txn(txn(3, lease, rng)),
        11 => Command::LeaseGrant(LeaseGrantRequest { id, ttl: 600 }),
        12 => Command::LeaseRevoke(LeaseRevokeRequest { id: lease }),
        13..=14 => Command::LeaseKeepAlive(vec![lease, id]),
        _ => Command::Compact(CompactionRequest { revision: 1, physical: false }),
    }
}

/// Whose a watch is, if it is somebody's, and of which keys.
pub(super) fn watched(rng: &mut Rng) -> (Option<&'static str>, Bytes, Bytes) {
    let user = (rng.below(8) > 0).then(|| rng.pick(&USERS));
    let first = Bytes::from_static(b"\0");
    let (key, range_end) = if rng.below(8) == 0 { (first.clone(), first) } else { any_range(rng) };
    (user, key, range_end)
}

/// A transaction of ranges alone.
pub(super) fn reads(rng: &mut Rng) -> TxnRequest {
    let mut txn = TxnRequest { compare: compares(rng), ..Default::default() };
    for _ in 0..=rng.below(2) {
        let (key, range_end) = any_range(rng);
        txn.success.push(op(Request::RequestRange(range(key, range_end))));
    }
    if rng.below(3) == 0 {
        txn.failure.push(op(Request::RequestTxn(reads(rng))));
    }
    txn
}

fn any_range(rng: &mut Rng) -> (Bytes, Bytes) {
    let mark = |rng: &mut Rng| Bytes::from(rng.pick(&MARKS));
    let key = mark(rng);
    match rng.below(4) {
        0..=1 => (key, Bytes::new()),
        2 => (key, Bytes::from_static(b"\0")),
        _ => (key, mark(rng)),
    }
}

fn put(lease: i64, rng: &mut Rng) -> PutRequest {
    let key = Bytes::from(rng.pick(&MARKS));
    let lease = if rng.coin() { lease } else { 0 };
    PutRequest { key, value: "v".into(), lease, prev_kv: rng.below(3) == 0, ..Default::default() }
}

fn delete(rng: &mut Rng) -> DeleteRangeRequest {
    let (key, range_end) = any_range(rng);
    DeleteRangeRequest { key, range_end, prev_kv: rng.below(3) == 0 }
}

fn compares(rng: &mut Rng) -> Vec<Compare> {
    let compare = |rng: &mut Rng| {
        let (key, range_end) = any_range(rng);
        Compare { key, range_end, ..Default::default() }
    };
    (0..rng.below(2)).map(|_| compare(rng)).collect()
}

fn txn(depth: u64, lease: i64, rng: &mut Rng) -> TxnRequest {
    let mut txn = TxnRequest { compare: compares(rng), ..Default::default() };
    for _ in 0..rng.below(3) {
        let request = match rng.below(if depth == 0 { 3 } else { 5 }) {
            0 => {
                let (key, range_end) = any_range(rng);
                Request::RequestRange(range(key, range_end))
            }
            1 => Request::RequestPut(put(lease, rng)),
            2 => Request::RequestDeleteRange(delete(rng)),
            _ => Request::RequestTxn(self::txn(depth - 1, lease, rng)),
        };
        let branch = if rng.below(2) == 0 { &mut txn.success } else { &mut txn.failure };
        branch.push(op(request));
    }
    txn
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}
