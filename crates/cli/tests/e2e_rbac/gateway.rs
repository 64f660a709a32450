//! Calls in JSON: which path of the gateway is which RPC, and how such a call ends.

use std::time::Duration;

use serde_json::Value;

use super::cells::{Cell, Kind};
use super::judged::{FIRST_MESSAGE, coded};
use super::support::http::{Connection, request};

const PATIENCE: Duration = Duration::from_secs(20);

/// All paths, with the RPC of each. Those behind `kv/lease/` are older, those behind `vlot/` are not etcd's. What stands behind
/// `/v3/` may stand behind `/v3beta/` too: one such path for all of them.
pub const PATHS: [(&str, &str); 55] = [
    ("/v3beta/kv/range", "/etcdserverpb.KV/Range"),
    ("/v3/kv/range", "/etcdserverpb.KV/Range"),
    ("/v3/kv/put", "/etcdserverpb.KV/Put"),
    ("/v3/kv/deleterange", "/etcdserverpb.KV/DeleteRange"),
    ("/v3/kv/txn", "/etcdserverpb.KV/Txn"),
    ("/v3/kv/compaction", "/etcdserverpb.KV/Compact"),
    ("/v3/watch", "/etcdserverpb.Watch/Watch"),
    ("/v3/lease/grant", "/etcdserverpb.Lease/LeaseGrant"),
    ("/v3/lease/revoke", "/etcdserverpb.Lease/LeaseRevoke"),
    ("/v3/lease/keepalive", "/etcdserverpb.Lease/LeaseKeepAlive"),
    ("/v3/lease/timetolive", "/etcdserverpb.Lease/LeaseTimeToLive"),
    ("/v3/lease/leases", "/etcdserverpb.Lease/LeaseLeases"),
    ("/v3/kv/lease/revoke", "/etcdserverpb.Lease/LeaseRevoke"),
    ("/v3/kv/lease/timetolive", "/etcdserverpb.Lease/LeaseTimeToLive"),
    ("/v3/kv/lease/leases", "/etcdserverpb.Lease/LeaseLeases"),
    ("/v3/cluster/member/add", "/etcdserverpb.Cluster/MemberAdd"),
    ("/v3/cluster/member/remove", "/etcdserverpb.Cluster/MemberRemove"),
    ("/v3/cluster/member/update", "/etcdserverpb.Cluster/MemberUpdate"),
    ("/v3/cluster/member/list", "/etcdserverpb.Cluster/MemberList"),
    ("/v3/cluster/member/promote", "/etcdserverpb.Cluster/MemberPromote"),
    ("/v3/maintenance/alarm", "/etcdserverpb.Maintenance/Alarm"),
    ("/v3/maintenance/status", "/etcdserverpb.Maintenance/Status"),
    ("/v3/maintenance/defragment", "/etcdserverpb.Maintenance/Defragment"),
    ("/v3/maintenance/hash", "/etcdserverpb.Maintenance/Hash"),
    ("/v3/maintenance/hashkv", "/etcdserverpb.Maintenance/HashKV"),
    ("/v3/maintenance/snapshot", "/etcdserverpb.Maintenance/Snapshot"),
    ("/v3/maintenance/transfer-leadership", "/etcdserverpb.Maintenance/MoveLeader"),
    ("/v3/maintenance/downgrade", "/etcdserverpb.Maintenance/Downgrade"),
    ("/v3/auth/enable", "/etcdserverpb.Auth/AuthEnable"),
    ("/v3/auth/disable", "/etcdserverpb.Auth/AuthDisable"),
    ("/v3/auth/status", "/etcdserverpb.Auth/AuthStatus"),
    ("/v3/auth/authenticate", "/etcdserverpb.Auth/Authenticate"),
    ("/v3/auth/user/add", "/etcdserverpb.Auth/UserAdd"),
    ("/v3/auth/user/get", "/etcdserverpb.Auth/UserGet"),
    ("/v3/auth/user/list", "/etcdserverpb.Auth/UserList"),
    ("/v3/auth/user/delete", "/etcdserverpb.Auth/UserDelete"),
    ("/v3/auth/user/changepw", "/etcdserverpb.Auth/UserChangePassword"),
    ("/v3/auth/user/grant", "/etcdserverpb.Auth/UserGrantRole"),
    ("/v3/auth/user/revoke", "/etcdserverpb.Auth/UserRevokeRole"),
    ("/v3/auth/role/add", "/etcdserverpb.Auth/RoleAdd"),
    ("/v3/auth/role/get", "/etcdserverpb.Auth/RoleGet"),
    ("/v3/auth/role/list", "/etcdserverpb.Auth/RoleList"),
    ("/v3/auth/role/delete", "/etcdserverpb.Auth/RoleDelete"),
    ("/v3/auth/role/grant", "/etcdserverpb.Auth/RoleGrantPermission"),
    ("/v3/auth/role/revoke", "/etcdserverpb.Auth/RoleRevokePermission"),
    ("/v3/lock/lock", "/v3lockpb.Lock/Lock"),
    ("/v3/lock/unlock", "/v3lockpb.Lock/Unlock"),
    ("/v3/election/campaign", "/v3electionpb.Election/Campaign"),
    ("/v3/election/proclaim", "/v3electionpb.Election/Proclaim"),
    ("/v3/election/leader", "/v3electionpb.Election/Leader"),
    ("/v3/election/observe", "/v3electionpb.Election/Observe"),
    ("/v3/election/resign", "/v3electionpb.Election/Resign"),
    ("/v3/vlot/quota/set", "/vlotpb.Limits/SetQuota"),
    ("/v3/vlot/quota/remove", "/vlotpb.Limits/RemoveQuota"),
    ("/v3/vlot/quota/list", "/vlotpb.Limits/ListQuotas"),
];

/// The paths of an RPC.
pub fn paths(rpc: &str) -> impl Iterator<Item = &'static str> {
    PATHS.iter().filter(move |(_, known)| *known == rpc).map(|(path, _)| *path)
}

/// A token may stand in any of these.
const HEADERS: [&str; 3] = ["Authorization", "Grpc-Metadata-Token", "Grpc-Metadata-Authorization"];

/// Sends a call in JSON with a token. It stands in one header or another, by the number of the call.
pub fn begin(port: u16, path: &str, body: &[u8], token: Option<&str>, number: usize) -> Connection {
    let headers: Vec<_> = token.map(|token| (HEADERS[number % HEADERS.len()], token)).into_iter().collect();
    let mut connection = Connection::open(port);
    connection.send(&request("POST", path, &headers, body));
    connection
}

/// Makes a call in JSON with a token, and returns how it ends, as gRPC would say it.
pub fn ends(port: u16, cell: &Cell, token: Option<&str>, number: usize) -> String {
    let is_stream = cell.kind == Kind::GatewayStream;
    let mut connection = begin(port, cell.path, &cell.body, token, number);
    let within = if is_stream { FIRST_MESSAGE } else { PATIENCE };
    let reply = connection.reply_until(false, within, |reply| is_stream && reply.body.contains(&b'\n'));
    let text = reply.text();
    let first = text.lines().next().unwrap_or_default();
    if is_stream && first.is_empty() && [0, 200].contains(&reply.status) {
        return "0 ".to_owned();
    }
    let said: Value = serde_json::from_str(first).unwrap_or_default();
    // A stream tells a failure in an object of its own.
    let failure = if said["error"].is_object() { &said["error"] } else { &said };
    let code = ["code", "grpc_code"].iter().find_map(|name| failure[*name].as_u64());
    match (code, failure["message"].as_str()) {
        (Some(code), Some(message)) if reply.status == http_status(code) => format!("{code} {message}"),
        _ if said["result"]["canceled"] == true => coded(said["result"]["cancel_reason"].as_str().unwrap_or_default()),
        _ if reply.status == 200 && said.is_object() => "0 ".to_owned(),
        _ => format!("HTTP {}: {text}", reply.status),
    }
}

/// HTTP's status for the codes that come up.
fn http_status(code: u64) -> u16 {
    match code {
        3 | 9 | 11 => 400,
        5 => 404,
        7 => 403,
        16 => 401,
        _ => 500,
    }
}
