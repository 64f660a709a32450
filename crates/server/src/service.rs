//! The services: the function behind each RPC.
//!
//! A service is a plain function from a request's bytes to a reply's, or a conversation over a stream of both. Must not
//! know gRPC, HTTP or sockets (`edge.rs` does), nor how commands are replicated (`store_group.rs` does).

mod alarm;
mod answer;
mod changes;
mod cluster;
mod downgrade;
mod election;
mod health;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod queue;
mod range_stream;
mod reconfigure;
mod snapshot;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio::sync::Notify;
use vlot_proto::etcdserverpb::{RangeRequest, ResponseHeader};

use crate::audit::{Audit, Audited, Who};
use crate::config::Config;
use crate::conversation::{Replies, Requests};
use crate::history_hashes::HistoryHashes;
use crate::member::Membership;
use crate::metrics::Metrics;
use crate::rpc::Rpc;
use crate::share::Share;
use crate::status::{Code, Status};
use crate::store_group::StoreGroup;
use crate::worker_pool::WorkerPool;

pub(crate) use answer::{LongAnswer, Reply};

/// The version that is told to clients which choose what to do by etcd's version: they expect plain numbers.
pub const ETCD_VERSION: &str = "3.6.0";

/// What a call tells about its caller.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Where it comes from.
    pub(crate) from: SocketAddr,
    /// What its address holds, and how much it may.
    pub(crate) share: Arc<Share>,
    /// Whether the call is to fail at once where no leader is known.
    pub(crate) requires_leader: bool,
}

impl Caller {
    /// The user that calls, by name; `None` while nobody has to say who they are.
    pub(crate) fn user(&self) -> Option<&str> {
        None
    }

    /// What the audit tells of it.
    fn who(&self) -> Who<'_> {
        Who { from: self.from, user: self.user() }
    }
}

/// All services of one node.
pub(crate) struct Services {
    audit: Option<Arc<Audit>>,
    pub(crate) store_group: Arc<StoreGroup>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) meter: vlot::Meter,
    txn_ops_max: usize,
    request_bytes_max: usize,
    quota_bytes: Option<u64>,
    /// Rung when the quota was hit.
    pub(crate) quota_hit: Notify,
    strict_reconfig: bool,
    learners_max: usize,
    token: String,
    watch_progress_interval: Duration,
    election_timeout: Duration,
    /// For reads that take long.
    readers: WorkerPool,
    pub(crate) hashes: HistoryHashes,
    /// For snapshots on their way to clients.
    snapshots: WorkerPool,
    /// For watches that are behind.
    catch_ups: WorkerPool,
}

/// Snapshots that clients fetch at a time; others wait. Each holds a thread, and space that the engine would use again.
const SNAPSHOTS_MAX: usize = 4;
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
        meter: vlot::Meter,
        audit: Option<Arc<Audit>>,
    ) -> Arc<Services> {
        let readers = WorkerPool::new(readers_max());
        Arc::new(Services {
            audit,
            hashes: HistoryHashes::new(readers.clone()),
            store_group,
            membership,
            metrics,
            meter,
            txn_ops_max: config.limits.txn_ops,
            request_bytes_max: config.limits.request_bytes,
            quota_bytes: config.limits.quota_bytes,
            quota_hit: Notify::new(),
            strict_reconfig: config.strict_reconfig,
            learners_max: config.limits.learners,
            token: config.cluster.token.clone(),
            watch_progress_interval: config.watch_progress_interval,
            election_timeout: config.election_timeout,
            readers,
            snapshots: WorkerPool::new(SNAPSHOTS_MAX),
            catch_ups: WorkerPool::new(CATCH_UPS_MAX),
        })
    }

    /// Bytes the store may take; `None` is no limit.
    pub(crate) fn quota_bytes(&self) -> Option<u64> {
        self.quota_bytes
    }

    /// Answers a unary call.
    pub(crate) async fn call(&self, rpc: Rpc, caller: &Caller, request: Bytes) -> Result<Reply, Status> {
        let audited = self.audit.as_ref().and_then(|audit| audit.begin(rpc, caller.who(), &request));
        let outcome = self.answer(rpc, caller, request).await;
        if let Some(audited) = audited {
            audited.end(outcome.as_ref().err().map_or(Code::Ok, |status| status.code));
        }
        outcome
    }

    async fn answer(&self, rpc: Rpc, caller: &Caller, request: Bytes) -> Result<Reply, Status> {
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
            Rpc::LeaseGrant => self.lease_grant(request).await,
            Rpc::LeaseRevoke => self.lease_revoke(request).await,
            Rpc::LeaseTimeToLive => Box::pin(self.lease_time_to_live(request)).await,
            Rpc::LeaseLeases => Box::pin(self.lease_leases(request)).await,
            Rpc::Lock => Box::pin(self.lock(request)).await,
            Rpc::Unlock => Box::pin(self.unlock(request)).await,
            Rpc::Campaign => Box::pin(self.campaign(request)).await,
            Rpc::Proclaim => Box::pin(self.proclaim(request)).await,
            Rpc::Leader => Box::pin(self.leader(request)).await,
            Rpc::Resign => Box::pin(self.resign(request)).await,
            Rpc::MemberList => self.member_list(request).await,
            // The rare ones are boxed: each call is a task, as large as the largest of these.
            Rpc::MemberAdd => Box::pin(self.member_add(request)).await,
            Rpc::MemberRemove => Box::pin(self.member_remove(request)).await,
            Rpc::MemberUpdate => Box::pin(self.member_update(request)).await,
            Rpc::MemberPromote => Box::pin(self.member_promote(request)).await,
            Rpc::Status => self.status(request).await,
            Rpc::Alarm => Box::pin(self.alarm(request)).await,
            Rpc::Hash => Box::pin(self.hash(request)).await,
            Rpc::HashKv => Box::pin(self.hash_kv(request)).await,
            Rpc::Defragment => Box::pin(self.defragment(request)).await,
            Rpc::Downgrade => Box::pin(self.downgrade(request)).await,
            Rpc::MoveLeader => self.move_leader(request).await,
            Rpc::HealthCheck => health::check(request),
            Rpc::Watch
            | Rpc::RangeStream
            | Rpc::LeaseKeepAlive
            | Rpc::Snapshot
            | Rpc::Observe
            | Rpc::HealthWatch
            | Rpc::Absent(_) => Err(Status::absent(rpc.path())),
        };
        message.map(Reply::Message)
    }

    /// Holds a streaming call's conversation until either side ends it.
    pub(crate) async fn converse(
        &self,
        rpc: Rpc,
        caller: Caller,
        requests: impl Requests,
        replies: Replies,
    ) -> Result<(), Status> {
        let Some(audit) = self.audit.as_deref() else { return self.hold(rpc, caller, requests, replies).await };
        let who = caller.clone();
        let audited = audit.begin_stream(rpc, who.who());
        let requests = Audited { requests, audit, rpc, who: who.who() };
        let outcome = self.hold(rpc, caller, requests, replies).await;
        if let Some(audited) = audited {
            audited.end(outcome.as_ref().err().map_or(Code::Ok, |status| status.code));
        }
        outcome
    }

    async fn hold(&self, rpc: Rpc, caller: Caller, requests: impl Requests, replies: Replies) -> Result<(), Status> {
        if self.store_group.is_learner() && !matches!(rpc, Rpc::HealthWatch | Rpc::Snapshot) {
            return Err(Status::NOT_SUPPORTED_FOR_LEARNER);
        }
        if caller.requires_leader && !self.store_group.has_leader() {
            return Err(Status::NO_LEADER);
        }
        match rpc {
            Rpc::RangeStream => self.range_stream(caller, requests, replies).await,
            Rpc::Watch => self.watch(caller, requests, replies).await,
            Rpc::LeaseKeepAlive => self.lease_keep_alive(caller, requests, replies).await,
            Rpc::Observe => self.observe(caller, requests, replies).await,
            Rpc::Snapshot => self.snapshot(&caller, requests, replies).await,
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
