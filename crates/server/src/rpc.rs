//! Which RPCs there are: etcd's, gRPC's health service and Vlot's own, those that are implemented and those that are not.
//!
//! Must not know what is behind one (`service.rs` does), nor how a call comes in.

/// Whether an RPC is one request and one reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Unary,
    Stream,
}

/// An RPC of etcd's interface, of gRPC's health service, or of Vlot's own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rpc {
    Put,
    Range,
    RangeStream,
    Txn,
    DeleteRange,
    Compact,
    Watch,
    LeaseGrant,
    LeaseRevoke,
    LeaseKeepAlive,
    LeaseTimeToLive,
    LeaseLeases,
    Lock,
    Unlock,
    Campaign,
    Proclaim,
    Leader,
    Observe,
    Resign,
    MemberList,
    MemberAdd,
    MemberRemove,
    MemberUpdate,
    MemberPromote,
    Status,
    Alarm,
    Hash,
    HashKv,
    Snapshot,
    Defragment,
    Downgrade,
    MoveLeader,
    AuthEnable,
    AuthDisable,
    AuthStatus,
    Authenticate,
    UserAdd,
    UserGet,
    UserList,
    UserDelete,
    UserChangePassword,
    UserGrantRole,
    UserRevokeRole,
    RoleAdd,
    RoleGet,
    RoleList,
    RoleDelete,
    RoleGrantPermission,
    RoleRevokePermission,
    HealthCheck,
    HealthWatch,
    SetQuota,
    RemoveQuota,
    ListQuotas,
    /// One that is not implemented; the number is its place in [`ABSENT`].
    Absent(u8),
}

/// The RPCs that are implemented. Those of every second come first.
pub(crate) const PRESENT: [(&str, Rpc); 54] = [
    ("/etcdserverpb.KV/Put", Rpc::Put),
    ("/etcdserverpb.KV/Range", Rpc::Range),
    ("/etcdserverpb.KV/Txn", Rpc::Txn),
    ("/etcdserverpb.KV/DeleteRange", Rpc::DeleteRange),
    ("/etcdserverpb.KV/Compact", Rpc::Compact),
    ("/etcdserverpb.KV/RangeStream", Rpc::RangeStream),
    ("/etcdserverpb.Watch/Watch", Rpc::Watch),
    ("/etcdserverpb.Lease/LeaseGrant", Rpc::LeaseGrant),
    ("/etcdserverpb.Lease/LeaseRevoke", Rpc::LeaseRevoke),
    ("/etcdserverpb.Lease/LeaseKeepAlive", Rpc::LeaseKeepAlive),
    ("/etcdserverpb.Lease/LeaseTimeToLive", Rpc::LeaseTimeToLive),
    ("/etcdserverpb.Lease/LeaseLeases", Rpc::LeaseLeases),
    ("/v3lockpb.Lock/Lock", Rpc::Lock),
    ("/v3lockpb.Lock/Unlock", Rpc::Unlock),
    ("/v3electionpb.Election/Campaign", Rpc::Campaign),
    ("/v3electionpb.Election/Proclaim", Rpc::Proclaim),
    ("/v3electionpb.Election/Leader", Rpc::Leader),
    ("/v3electionpb.Election/Observe", Rpc::Observe),
    ("/v3electionpb.Election/Resign", Rpc::Resign),
    ("/etcdserverpb.Cluster/MemberList", Rpc::MemberList),
    ("/etcdserverpb.Cluster/MemberAdd", Rpc::MemberAdd),
    ("/etcdserverpb.Cluster/MemberRemove", Rpc::MemberRemove),
    ("/etcdserverpb.Cluster/MemberUpdate", Rpc::MemberUpdate),
    ("/etcdserverpb.Cluster/MemberPromote", Rpc::MemberPromote),
    ("/etcdserverpb.Maintenance/Status", Rpc::Status),
    ("/etcdserverpb.Maintenance/Alarm", Rpc::Alarm),
    ("/etcdserverpb.Maintenance/Hash", Rpc::Hash),
    ("/etcdserverpb.Maintenance/HashKV", Rpc::HashKv),
    ("/etcdserverpb.Maintenance/Snapshot", Rpc::Snapshot),
    ("/etcdserverpb.Maintenance/Defragment", Rpc::Defragment),
    ("/etcdserverpb.Maintenance/Downgrade", Rpc::Downgrade),
    ("/etcdserverpb.Maintenance/MoveLeader", Rpc::MoveLeader),
    ("/etcdserverpb.Auth/AuthEnable", Rpc::AuthEnable),
    ("/etcdserverpb.Auth/AuthDisable", Rpc::AuthDisable),
    ("/etcdserverpb.Auth/AuthStatus", Rpc::AuthStatus),
    ("/etcdserverpb.Auth/Authenticate", Rpc::Authenticate),
    ("/etcdserverpb.Auth/UserAdd", Rpc::UserAdd),
    ("/etcdserverpb.Auth/UserGet", Rpc::UserGet),
    ("/etcdserverpb.Auth/UserList", Rpc::UserList),
    ("/etcdserverpb.Auth/UserDelete", Rpc::UserDelete),
    ("/etcdserverpb.Auth/UserChangePassword", Rpc::UserChangePassword),
    ("/etcdserverpb.Auth/UserGrantRole", Rpc::UserGrantRole),
    ("/etcdserverpb.Auth/UserRevokeRole", Rpc::UserRevokeRole),
    ("/etcdserverpb.Auth/RoleAdd", Rpc::RoleAdd),
    ("/etcdserverpb.Auth/RoleGet", Rpc::RoleGet),
    ("/etcdserverpb.Auth/RoleList", Rpc::RoleList),
    ("/etcdserverpb.Auth/RoleDelete", Rpc::RoleDelete),
    ("/etcdserverpb.Auth/RoleGrantPermission", Rpc::RoleGrantPermission),
    ("/etcdserverpb.Auth/RoleRevokePermission", Rpc::RoleRevokePermission),
    ("/grpc.health.v1.Health/Check", Rpc::HealthCheck),
    ("/grpc.health.v1.Health/Watch", Rpc::HealthWatch),
    ("/vlotpb.Limits/SetQuota", Rpc::SetQuota),
    ("/vlotpb.Limits/RemoveQuota", Rpc::RemoveQuota),
    ("/vlotpb.Limits/ListQuotas", Rpc::ListQuotas),
];

/// The RPCs of etcd that answer that they are not implemented.
pub(crate) const ABSENT: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

impl Rpc {
    /// The RPC that a request path names.
    pub(crate) fn of_path(path: &str) -> Option<Rpc> {
        let present = PRESENT.iter().find(|(name, _)| *name == path).map(|(_, rpc)| *rpc);
        let absent = || ABSENT.iter().position(|name| *name == path).map(|place| Rpc::Absent(place as u8));
        present.or_else(absent)
    }

    /// Whether there is a service of this name, `package.Service`.
    pub(crate) fn has_service(name: &str) -> bool {
        let paths = PRESENT.iter().map(|(path, _)| *path).chain(ABSENT);
        paths.filter_map(|path| path[1..].split_once('/')).any(|(service, _)| service == name)
    }

    /// `/package.Service/Method`.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Rpc::Absent(place) => ABSENT[usize::from(place)],
            // All others are in the table, which a test checks.
            _ => PRESENT.iter().find(|(_, rpc)| *rpc == self).map_or("", |(path, _)| path),
        }
    }

    pub(crate) fn kind(self) -> Kind {
        match self {
            Rpc::Watch | Rpc::RangeStream | Rpc::LeaseKeepAlive | Rpc::Snapshot | Rpc::Observe | Rpc::HealthWatch => {
                Kind::Stream
            }
            // An absent stream ends with its status before any message, which on the wire is a unary failure.
            _ => Kind::Unary,
        }
    }

    /// A small number of its own, for counters.
    pub(crate) fn number(self) -> usize {
        match self {
            Rpc::Absent(place) => PRESENT.len() + usize::from(place),
            _ => PRESENT.iter().position(|(_, rpc)| *rpc == self).unwrap_or_default(),
        }
    }

    /// The RPC with this number.
    pub(crate) fn numbered(number: usize) -> Rpc {
        PRESENT.get(number).map_or_else(|| Rpc::Absent((number - PRESENT.len()) as u8), |(_, rpc)| *rpc)
    }

    /// How many numbers there are.
    pub(crate) const COUNT: usize = PRESENT.len() + ABSENT.len();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rpc_has_a_path_and_a_number_of_its_own() {
        for number in 0..Rpc::COUNT {
            let rpc = Rpc::numbered(number);
            assert_eq!(rpc.number(), number);
            assert_eq!(Rpc::of_path(rpc.path()), Some(rpc));
        }
        assert_eq!(Rpc::of_path("/etcdserverpb.KV/Nothing"), None);
        assert!(Rpc::has_service("etcdserverpb.KV") && Rpc::has_service("v3lockpb.Lock"));
        assert!(!Rpc::has_service("etcdserverpb.Nothing") && !Rpc::has_service(""));
    }

    #[test]
    fn every_rpc_of_the_interface_is_either_present_or_absent() {
        for proto in [
            include_str!("../../../proto/etcdserverpb.proto"),
            include_str!("../../../proto/v3lockpb.proto"),
            include_str!("../../../proto/v3electionpb.proto"),
            include_str!("../../../proto/health.proto"),
            include_str!("../../../proto/limits.proto"),
        ] {
            for path in paths_of(proto) {
                assert!(Rpc::of_path(&path).is_some(), "{path}");
            }
        }
    }

    #[test]
    fn every_rpc_is_in_the_compatibility_document_under_what_it_is() {
        let document = include_str!("../../../docs/etcd-compatibility.md");
        for number in 0..Rpc::COUNT {
            let rpc = Rpc::numbered(number);
            let name = rpc.path().trim_start_matches('/').replacen('/', ".", 1);
            let start = format!("| `{name}` | ");
            let line = document.lines().find(|line| line.starts_with(&start));
            let verdict = line.unwrap_or_else(|| panic!("{name} has no line"))[start.len()..].split(' ').next();
            match rpc {
                Rpc::Absent(_) => assert_eq!(verdict, Some("absent"), "{name}"),
                _ => assert!(matches!(verdict, Some("same" | "different")), "{name}"),
            }
        }
    }

    /// The request paths that the services of a `.proto` file define.
    fn paths_of(proto: &str) -> Vec<String> {
        let word = |line: &str, keyword: &str| {
            let rest = line.trim().strip_prefix(keyword)?;
            Some(rest.split([' ', '(', ';']).next().unwrap_or_default().to_owned())
        };
        let package = proto.lines().find_map(|line| word(line, "package ")).unwrap();
        let mut service = String::new();
        let mut paths = Vec::new();
        for line in proto.lines() {
            service = word(line, "service ").unwrap_or(service);
            paths.extend(word(line, "rpc ").map(|rpc| format!("/{package}.{service}/{rpc}")));
        }
        assert!(!paths.is_empty());
        paths
    }
}
