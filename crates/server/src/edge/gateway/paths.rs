//! Which path of the gateway is which RPC.

/// All paths behind `/v3/`, with the RPC of each. Some have two: the ones behind `kv/lease/` are older. Those of `vlot/` are
/// not etcd's.
const PATHS: [(&str, &str); 54] = [
    ("kv/range", "/etcdserverpb.KV/Range"),
    ("kv/put", "/etcdserverpb.KV/Put"),
    ("kv/deleterange", "/etcdserverpb.KV/DeleteRange"),
    ("kv/txn", "/etcdserverpb.KV/Txn"),
    ("kv/compaction", "/etcdserverpb.KV/Compact"),
    ("watch", "/etcdserverpb.Watch/Watch"),
    ("lease/grant", "/etcdserverpb.Lease/LeaseGrant"),
    ("lease/revoke", "/etcdserverpb.Lease/LeaseRevoke"),
    ("lease/keepalive", "/etcdserverpb.Lease/LeaseKeepAlive"),
    ("lease/timetolive", "/etcdserverpb.Lease/LeaseTimeToLive"),
    ("lease/leases", "/etcdserverpb.Lease/LeaseLeases"),
    ("kv/lease/revoke", "/etcdserverpb.Lease/LeaseRevoke"),
    ("kv/lease/timetolive", "/etcdserverpb.Lease/LeaseTimeToLive"),
    ("kv/lease/leases", "/etcdserverpb.Lease/LeaseLeases"),
    ("cluster/member/add", "/etcdserverpb.Cluster/MemberAdd"),
    ("cluster/member/remove", "/etcdserverpb.Cluster/MemberRemove"),
    ("cluster/member/update", "/etcdserverpb.Cluster/MemberUpdate"),
    ("cluster/member/list", "/etcdserverpb.Cluster/MemberList"),
    ("cluster/member/promote", "/etcdserverpb.Cluster/MemberPromote"),
    ("maintenance/alarm", "/etcdserverpb.Maintenance/Alarm"),
    ("maintenance/status", "/etcdserverpb.Maintenance/Status"),
    ("maintenance/defragment", "/etcdserverpb.Maintenance/Defragment"),
    ("maintenance/hash", "/etcdserverpb.Maintenance/Hash"),
    ("maintenance/hashkv", "/etcdserverpb.Maintenance/HashKV"),
    ("maintenance/snapshot", "/etcdserverpb.Maintenance/Snapshot"),
    ("maintenance/transfer-leadership", "/etcdserverpb.Maintenance/MoveLeader"),
    ("maintenance/downgrade", "/etcdserverpb.Maintenance/Downgrade"),
    ("auth/enable", "/etcdserverpb.Auth/AuthEnable"),
    ("auth/disable", "/etcdserverpb.Auth/AuthDisable"),
    ("auth/status", "/etcdserverpb.Auth/AuthStatus"),
    ("auth/authenticate", "/etcdserverpb.Auth/Authenticate"),
    ("auth/user/add", "/etcdserverpb.Auth/UserAdd"),
    ("auth/user/get", "/etcdserverpb.Auth/UserGet"),
    ("auth/user/list", "/etcdserverpb.Auth/UserList"),
    ("auth/user/delete", "/etcdserverpb.Auth/UserDelete"),
    ("auth/user/changepw", "/etcdserverpb.Auth/UserChangePassword"),
    ("auth/user/grant", "/etcdserverpb.Auth/UserGrantRole"),
    ("auth/user/revoke", "/etcdserverpb.Auth/UserRevokeRole"),
    ("auth/role/add", "/etcdserverpb.Auth/RoleAdd"),
    ("auth/role/get", "/etcdserverpb.Auth/RoleGet"),
    ("auth/role/list", "/etcdserverpb.Auth/RoleList"),
    ("auth/role/delete", "/etcdserverpb.Auth/RoleDelete"),
    ("auth/role/grant", "/etcdserverpb.Auth/RoleGrantPermission"),
    ("auth/role/revoke", "/etcdserverpb.Auth/RoleRevokePermission"),
    ("lock/lock", "/v3lockpb.Lock/Lock"),
    ("lock/unlock", "/v3lockpb.Lock/Unlock"),
    ("election/campaign", "/v3electionpb.Election/Campaign"),
    ("election/proclaim", "/v3electionpb.Election/Proclaim"),
    ("election/leader", "/v3electionpb.Election/Leader"),
    ("election/observe", "/v3electionpb.Election/Observe"),
    ("election/resign", "/v3electionpb.Election/Resign"),
    ("vlot/quota/set", "/vlotpb.Limits/SetQuota"),
    ("vlot/quota/remove", "/vlotpb.Limits/RemoveQuota"),
    ("vlot/quota/list", "/vlotpb.Limits/ListQuotas"),
];

/// What follows `/v3/` in a path of the gateway. Before there was that, `/v3beta/` stood there.
pub(super) fn below_v3(path: &str) -> Option<&str> {
    path.strip_prefix("/v3/").or_else(|| path.strip_prefix("/v3beta/"))
}

/// The RPC that a path below `/v3/` names, as `/package.Service/Method`.
pub(super) fn rpc_path(below_v3: &str) -> Option<&'static str> {
    PATHS.iter().find(|(path, _)| *path == below_v3).map(|(_, rpc)| *rpc)
}

#[cfg(test)]
mod tests {
    use vlot_proto::descriptors::{METHODS, method};

    use super::*;
    use crate::rpc::{Kind, Rpc};

    #[test]
    fn every_rpc_has_a_path() {
        for method in METHODS {
            // The one that etcd leaves out by design, and the ones that are not etcd's.
            let has_none = method.path == "/etcdserverpb.KV/RangeStream";
            assert_eq!(PATHS.iter().any(|(_, rpc)| *rpc == method.path), !has_none, "{}", method.path);
        }
    }

    #[test]
    fn every_path_leads_to_an_rpc_whose_messages_are_known() {
        for (path, rpc_path) in PATHS {
            let method = method(rpc_path).unwrap_or_else(|| panic!("{path}"));
            let rpc = Rpc::of_path(rpc_path).unwrap_or_else(|| panic!("{path}"));
            assert!(rpc.kind() == Kind::Unary || method.is_server_streaming, "{path}");
            assert_eq!(super::rpc_path(path), Some(rpc_path));
        }
    }

    #[test]
    fn the_older_prefix_is_the_same() {
        assert_eq!(below_v3("/v3/kv/range"), Some("kv/range"));
        assert_eq!(below_v3("/v3beta/kv/range"), Some("kv/range"));
        for path in ["/v3", "/v3alpha/kv/range", "/v3betakv/range", "/health"] {
            assert_eq!(below_v3(path), None, "{path}");
        }
        for path in ["kv/range/", "kv", "", "kv/rangestream"] {
            assert_eq!(rpc_path(path), None, "{path}");
        }
    }
}
