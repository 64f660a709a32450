//! The calls of the matrix that are not about keys: members, maintenance, users and roles, quotas.

use vlot_proto::authpb::Permission;
use vlot_proto::etcdserverpb::downgrade_request::DowngradeAction;
use vlot_proto::etcdserverpb::*;
use vlot_proto::health::HealthCheckRequest;
use vlot_proto::vlotpb::{ListQuotasRequest, RemoveQuotaRequest, SetQuotaRequest};

use super::cells::{Cell, Kind, cell};
use super::model::Need;

/// All of them.
pub fn all() -> Vec<Cell> {
    [members_and_maintenance(), users_and_roles(), logins(), quotas()].concat()
}

fn members_and_maintenance() -> Vec<Cell> {
    let root = || Need::Root;
    let peer_ur_ls = vec!["http://127.0.0.1:1".to_owned()];
    let add = MemberAddRequest { peer_ur_ls: peer_ur_ls.clone(), is_learner: true, ..MemberAddRequest::default() };
    let alarm = |action| AlarmRequest { action, ..Default::default() };
    let validate = DowngradeRequest { action: DowngradeAction::Validate.into(), version: "no version".into() };
    let snapshot = cell("snapshot", "/etcdserverpb.Maintenance/Snapshot", &SnapshotRequest {}, root());
    let compact =
        cell("compact", "/etcdserverpb.KV/Compact", &CompactionRequest { revision: -5, physical: false }, root());
    let status = cell("status", "/etcdserverpb.Maintenance/Status", &StatusRequest {}, Need::User);
    let members = |linearizable| MemberListRequest { linearizable };
    vec![
        cell("list members", "/etcdserverpb.Cluster/MemberList", &members(true), Need::User),
        cell("list the members that a node knows", "/etcdserverpb.Cluster/MemberList", &members(false), Need::User),
        Cell { is_not_for_root: true, ..cell("add a member", "/etcdserverpb.Cluster/MemberAdd", &add, root()) },
        cell("remove a member", "/etcdserverpb.Cluster/MemberRemove", &MemberRemoveRequest { id: 1 }, root()),
        cell(
            "update a member",
            "/etcdserverpb.Cluster/MemberUpdate",
            &MemberUpdateRequest { id: 1, peer_ur_ls },
            root(),
        ),
        cell("promote a member", "/etcdserverpb.Cluster/MemberPromote", &MemberPromoteRequest { id: 1 }, root()),
        Cell { not_as_etcd: Some("etcd 3.5 answers root alone, later releases every user"), ..status },
        cell("list alarms", "/etcdserverpb.Maintenance/Alarm", &alarm(0), Need::User),
        cell("raise no alarm", "/etcdserverpb.Maintenance/Alarm", &alarm(1), root()),
        cell("lower an alarm", "/etcdserverpb.Maintenance/Alarm", &alarm(2), root()),
        cell("hash", "/etcdserverpb.Maintenance/Hash", &HashRequest {}, root()),
        cell("hash of history", "/etcdserverpb.Maintenance/HashKV", &HashKvRequest { revision: 0 }, root()),
        cell("defragment", "/etcdserverpb.Maintenance/Defragment", &DefragmentRequest {}, root()),
        cell("downgrade", "/etcdserverpb.Maintenance/Downgrade", &validate, root()),
        Cell { is_not_for_root: true, ..move_leader() },
        Cell { kind: Kind::Stream, ..snapshot },
        compact,
        cell("health", "/grpc.health.v1.Health/Check", &HealthCheckRequest::default(), Need::Nothing),
        Cell {
            kind: Kind::Stream,
            ..cell("watch health", "/grpc.health.v1.Health/Watch", &HealthCheckRequest::default(), Need::Nothing)
        },
    ]
}

fn move_leader() -> Cell {
    let request = MoveLeaderRequest { target_id: 1 };
    cell("move the leadership", "/etcdserverpb.Maintenance/MoveLeader", &request, Need::Root)
}

/// Who asks for a token is nobody yet.
fn logins() -> Vec<Cell> {
    let login = |name: &str, password: &str| AuthenticateRequest { name: name.into(), password: password.into() };
    let path = "/etcdserverpb.Auth/Authenticate";
    vec![
        cell("log in", path, &login("read-key", "password of read-key"), Need::Nothing),
        cell("log in with another's password", path, &login("root", "password of read-key"), Need::Nothing),
        cell("log in as a user that there is not", path, &login("ghost", "p"), Need::Nothing),
    ]
}

/// Quotas of prefixes that no key has. The one that is removed is not there, so that it can be removed twice.
fn quotas() -> Vec<Cell> {
    let set = SetQuotaRequest { prefix: "nowhere/".into(), bytes_max: 1 << 20, keys_max: 0 };
    let remove = RemoveQuotaRequest { prefix: "never/".into() };
    let all = [
        cell("set a quota", "/vlotpb.Limits/SetQuota", &set, Need::Root),
        cell("list quotas", "/vlotpb.Limits/ListQuotas", &ListQuotasRequest {}, Need::Root),
        cell("remove a quota", "/vlotpb.Limits/RemoveQuota", &remove, Need::Root),
    ];
    all.map(|cell| Cell { not_as_etcd: Some("etcd has no quotas of prefixes"), ..cell }).to_vec()
}

/// What root does here is refused for another reason: the auth revision stays as it is.
fn users_and_roles() -> Vec<Cell> {
    let root = || Need::Root;
    let ghost = || "ghost".to_owned();
    let user_get = |name: &str| AuthUserGetRequest { name: name.into() };
    let role_get = |role: &str| AuthRoleGetRequest { role: role.into() };
    let perm = Some(Permission { perm_type: 2, key: "\0".into(), range_end: "\0".into() });
    let disable = cell("disable", "/etcdserverpb.Auth/AuthDisable", &AuthDisableRequest {}, root());
    let user_add = AuthUserAddRequest { name: "root".into(), password: "p".into(), ..Default::default() };
    let change = AuthUserChangePasswordRequest { name: ghost(), password: "p".into(), ..Default::default() };
    vec![
        cell("status of users", "/etcdserverpb.Auth/AuthStatus", &AuthStatusRequest {}, root()),
        cell("enable", "/etcdserverpb.Auth/AuthEnable", &AuthEnableRequest {}, root()),
        Cell { is_not_for_root: true, ..disable },
        cell("add a user", "/etcdserverpb.Auth/UserAdd", &user_add, root()),
        cell("get a user", "/etcdserverpb.Auth/UserGet", &user_get("read-key"), Need::Self_("read-key")),
        cell("get root", "/etcdserverpb.Auth/UserGet", &user_get("root"), root()),
        cell("list users", "/etcdserverpb.Auth/UserList", &AuthUserListRequest {}, root()),
        cell("delete a user", "/etcdserverpb.Auth/UserDelete", &AuthUserDeleteRequest { name: ghost() }, root()),
        cell("change a password", "/etcdserverpb.Auth/UserChangePassword", &change, root()),
        cell(
            "grant a role",
            "/etcdserverpb.Auth/UserGrantRole",
            &AuthUserGrantRoleRequest { user: ghost(), role: "root".into() },
            root(),
        ),
        cell(
            "revoke a role",
            "/etcdserverpb.Auth/UserRevokeRole",
            &AuthUserRevokeRoleRequest { name: ghost(), role: "root".into() },
            root(),
        ),
        cell("add a role", "/etcdserverpb.Auth/RoleAdd", &AuthRoleAddRequest { name: "read-key".into() }, root()),
        cell("get a role", "/etcdserverpb.Auth/RoleGet", &role_get("read-key"), Need::Role("read-key")),
        cell("list roles", "/etcdserverpb.Auth/RoleList", &AuthRoleListRequest {}, root()),
        cell("delete a role", "/etcdserverpb.Auth/RoleDelete", &AuthRoleDeleteRequest { role: ghost() }, root()),
        cell(
            "grant a permission",
            "/etcdserverpb.Auth/RoleGrantPermission",
            &AuthRoleGrantPermissionRequest { name: ghost(), perm },
            root(),
        ),
        cell(
            "revoke a permission",
            "/etcdserverpb.Auth/RoleRevokePermission",
            &AuthRoleRevokePermissionRequest { role: ghost(), key: "a".into(), range_end: "".into() },
            root(),
        ),
    ]
}
