//! The services: which RPCs there are, and the function behind each.
//!
//! A service is a plain function from a request's bytes to a reply's, or a conversation over a stream of both. Must not
//! know gRPC, HTTP or sockets (`edge.rs` does), nor how commands are replicated (`store_group.rs` does).

mod answer;
mod cluster;
mod health;
mod kv;
mod maintenance;
mod reconfigure;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use vlot_proto::etcdserverpb::{RangeRequest, ResponseHeader};

use crate::config::Config;
use crate::edge::exchange::{Replies, Requests};
use crate::member::Membership;
use crate::metrics::Metrics;
use crate::status::Status;
use crate::store_group::StoreGroup;
use crate::worker_pool::WorkerPool;

pub(crate) use answer::{LongAnswer, Reply};

/// The version that is told to clients which choose what to do by etcd's version: they expect plain numbers.
pub(crate) const ETCD_VERSION: &str = "3.6.0";

/// What a call tells about its caller.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    /// Whether the call is to fail at once where no leader is known.
    pub(crate) requires_leader: bool,
}

/// Whether an RPC is one request and one reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Unary,
    Stream,
}

/// An RPC of etcd's interface, or of gRPC's health service.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rpc {
    Put,
    Range,
    Txn,
    DeleteRange,
    Compact,
    Watch,
    MemberList,
    MemberAdd,
    MemberRemove,
    MemberUpdate,
    MemberPromote,
    Status,
    Alarm,
    MoveLeader,
    HealthCheck,
    HealthWatch,
    /// One that is not implemented; the number is its place in [`ABSENT`].
    Absent(u8),
}

/// The RPCs that are implemented. Those of every second come first.
pub(crate) const PRESENT: [(&str, Rpc); 16] = [
    ("/etcdserverpb.KV/Put", Rpc::Put),
    ("/etcdserverpb.KV/Range", Rpc::Range),
    ("/etcdserverpb.KV/Txn", Rpc::Txn),
    ("/etcdserverpb.KV/DeleteRange", Rpc::DeleteRange),
    ("/etcdserverpb.KV/Compact", Rpc::Compact),
    ("/etcdserverpb.Watch/Watch", Rpc::Watch),
    ("/etcdserverpb.Cluster/MemberList", Rpc::MemberList),
    ("/etcdserverpb.Cluster/MemberAdd", Rpc::MemberAdd),
    ("/etcdserverpb.Cluster/MemberRemove", Rpc::MemberRemove),
    ("/etcdserverpb.Cluster/MemberUpdate", Rpc::MemberUpdate),
    ("/etcdserverpb.Cluster/MemberPromote", Rpc::MemberPromote),
    ("/etcdserverpb.Maintenance/Status", Rpc::Status),
    ("/etcdserverpb.Maintenance/Alarm", Rpc::Alarm),
    ("/etcdserverpb.Maintenance/MoveLeader", Rpc::MoveLeader),
    ("/grpc.health.v1.Health/Check", Rpc::HealthCheck),
    ("/grpc.health.v1.Health/Watch", Rpc::HealthWatch),
];

/// The RPCs of etcd that answer that they are not implemented.
pub(crate) const ABSENT: [&str; 37] = [
    "/etcdserverpb.KV/RangeStream",
    "/etcdserverpb.Lease/LeaseGrant",
    "/etcdserverpb.Lease/LeaseRevoke",
    "/etcdserverpb.Lease/LeaseKeepAlive",
    "/etcdserverpb.Lease/LeaseTimeToLive",
    "/etcdserverpb.Lease/LeaseLeases",
    "/etcdserverpb.Maintenance/Defragment",
    "/etcdserverpb.Maintenance/Hash",
    "/etcdserverpb.Maintenance/HashKV",
    "/etcdserverpb.Maintenance/Snapshot",
    "/etcdserverpb.Maintenance/Downgrade",
    "/etcdserverpb.Auth/AuthEnable",
    "/etcdserverpb.Auth/AuthDisable",
    "/etcdserverpb.Auth/AuthStatus",
    "/etcdserverpb.Auth/Authenticate",
    "/etcdserverpb.Auth/UserAdd",
    "/etcdserverpb.Auth/UserGet",
    "/etcdserverpb.Auth/UserList",
    "/etcdserverpb.Auth/UserDelete",
    "/etcdserverpb.Auth/UserChangePassword",
    "/etcdserverpb.Auth/UserGrantRole",
    "/etcdserverpb.Auth/UserRevokeRole",
    "/etcdserverpb.Auth/RoleAdd",
    "/etcdserverpb.Auth/RoleGet",
    "/etcdserverpb.Auth/RoleList",
    "/etcdserverpb.Auth/RoleDelete",
    "/etcdserverpb.Auth/RoleGrantPermission",
    "/etcdserverpb.Auth/RoleRevokePermission",
    "/v3lockpb.Lock/Lock",
    "/v3lockpb.Lock/Unlock",
    "/v3electionpb.Election/Campaign",
    "/v3electionpb.Election/Proclaim",
    "/v3electionpb.Election/Leader",
    "/v3electionpb.Election/Observe",
    "/v3electionpb.Election/Resign",
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
            Rpc::Watch | Rpc::HealthWatch => Kind::Stream,
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

/// All services of one node.
pub(crate) struct Services {
    pub(crate) store_group: Arc<StoreGroup>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) metrics: Arc<Metrics>,
    txn_ops_max: usize,
    request_bytes_max: usize,
    quota_bytes: Option<u64>,
    strict_reconfig: bool,
    learners_max: usize,
    token: String,
    watch_progress_interval: Duration,
    election_timeout: Duration,
    /// For reads that take long.
    readers: WorkerPool,
    /// For watches that are behind.
    catch_ups: WorkerPool,
}

/// Watches that are behind that are worked on at a time.
const CATCH_UPS_MAX: usize = 2;

/// Long reads that are worked on at a time: half of the cores is left to everything else.
fn readers_max() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).max(1))
}

impl Services {
    pub(crate) fn new(
        config: &Config,
        store_group: Arc<StoreGroup>,
        membership: Arc<Membership>,
        metrics: Arc<Metrics>,
    ) -> Arc<Services> {
        Arc::new(Services {
            store_group,
            membership,
            metrics,
            txn_ops_max: config.limits.txn_ops,
            request_bytes_max: config.limits.request_bytes,
            quota_bytes: config.limits.quota_bytes,
            strict_reconfig: config.strict_reconfig,
            learners_max: config.limits.learners,
            token: config.cluster.token.clone(),
            watch_progress_interval: config.watch_progress_interval,
            election_timeout: config.election_timeout,
            readers: WorkerPool::new(readers_max()),
            catch_ups: WorkerPool::new(CATCH_UPS_MAX),
        })
    }

    /// Bytes the store may take; `None` is no limit.
    pub(crate) fn quota_bytes(&self) -> Option<u64> {
        self.quota_bytes
    }

    /// Answers a unary call.
    pub(crate) async fn call(&self, rpc: Rpc, caller: Caller, request: Bytes) -> Result<Reply, Status> {
        if caller.requires_leader && !self.store_group.has_leader() {
            return Err(Status::NO_LEADER);
        }
        if self.store_group.is_learner() && !is_for_learners(rpc, &request) {
            return Err(Status::NOT_SUPPORTED_FOR_LEARNER);
        }
        let message = match rpc {
            Rpc::Range => return self.range(request).await,
            Rpc::Txn => return self.txn(request).await,
            Rpc::Put => self.put(request).await,
            Rpc::DeleteRange => self.delete_range(request).await,
            Rpc::Compact => self.compact(request).await,
            Rpc::MemberList => self.member_list(request).await,
            Rpc::MemberAdd => self.member_add(request).await,
            Rpc::MemberRemove => self.member_remove(request).await,
            Rpc::MemberUpdate => self.member_update(request).await,
            Rpc::MemberPromote => self.member_promote(request).await,
            Rpc::Status => self.status(request).await,
            Rpc::Alarm => self.alarm(request).await,
            Rpc::MoveLeader => self.move_leader(request).await,
            Rpc::HealthCheck => health::check(request),
            Rpc::Watch | Rpc::HealthWatch | Rpc::Absent(_) => Err(Status::absent(rpc.path())),
        };
        message.map(Reply::Message)
    }

    /// Holds a streaming call's conversation until either side ends it.
    pub(crate) async fn converse(
        &self,
        rpc: Rpc,
        caller: Caller,
        requests: Requests,
        replies: Replies,
    ) -> Result<(), Status> {
        if self.store_group.is_learner() && rpc != Rpc::HealthWatch {
            return Err(Status::NOT_SUPPORTED_FOR_LEARNER);
        }
        match rpc {
            Rpc::Watch => self.watch(caller, requests, replies).await,
            Rpc::HealthWatch => health::watch(requests, replies).await,
            _ => Err(Status::absent(rpc.path())),
        }
    }

    /// The header of a reply made at this revision.
    fn header(&self, revision: i64) -> ResponseHeader {
        let identity = self.membership.identity();
        ResponseHeader {
            cluster_id: identity.cluster,
            member_id: identity.member,
            revision,
            raft_term: self.store_group.raft_status().term,
        }
    }

    /// Completes the header of a reply that the store made: it knows the revision and nothing of members.
    fn complete(&self, header: &mut Option<ResponseHeader>) {
        let revision = header.as_ref().map_or(0, |header| header.revision);
        *header = Some(self.header(revision));
    }
}

/// Whether a learner answers a unary call: it may be behind, and has no say.
fn is_for_learners(rpc: Rpc, request: &Bytes) -> bool {
    match rpc {
        Rpc::Status | Rpc::HealthCheck => true,
        Rpc::Range => RangeRequest::decode(request.clone()).is_ok_and(|request| request.serializable),
        _ => false,
    }
}

fn decode<M: Message + Default>(request: Bytes) -> Result<M, Status> {
    M::decode(request).map_err(|error| Status::malformed(&error))
}

/// Encodes a reply, on another thread if it is a long one.
async fn encode_by(workers: &WorkerPool, reply: impl Message + 'static, is_long: bool) -> Result<Bytes, Status> {
    if is_long { workers.run(move || encode(&reply)).await } else { Ok(encode(&reply)) }
}

fn encode(reply: &impl Message) -> Bytes {
    Bytes::from(reply.encode_to_vec())
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
    }

    #[test]
    fn every_rpc_of_the_interface_is_either_present_or_absent() {
        for proto in [
            include_str!("../../../proto/etcdserverpb.proto"),
            include_str!("../../../proto/v3lockpb.proto"),
            include_str!("../../../proto/v3electionpb.proto"),
            include_str!("../../../proto/health.proto"),
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
