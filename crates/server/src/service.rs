//! The services: the function behind each RPC.
//!
//! A service is a plain function from a request's bytes to a reply's, or a conversation over a stream of both. Must not
//! know gRPC, HTTP or sockets (`edge.rs` does), nor how commands are replicated (`store_group.rs` does).

mod answer;
mod auth;
mod cluster;
mod concurrency;
mod disk_reads;
mod health;
mod kv;
mod lease;
mod maintenance;
mod permit;
mod quotas;
mod range_stream;
mod reconfigure;
mod watch;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio::sync::Notify;
use vlot_proto::etcdserverpb::{RangeRequest, ResponseHeader};
use vlot_store::auth::{Asker, Auth};
use vlot_store::refusal::Refusal;

use crate::audit::{Audit, Audited, Entry, Who};
use crate::auth::{Authenticator, Credentials};
use crate::config::Config;
use crate::conversation::{Replies, Requests};
use crate::limits::RateLimits;
use crate::members::ask::PageClient;
use crate::members::member::Membership;
use crate::rpc::Rpc;
use crate::share::Share;
use crate::status::{Code, Status};
use crate::store_group::StoreGroup;
use crate::telemetry::metrics::Metrics;
use crate::upkeep::history_hashes::HistoryHashes;
use crate::worker_pool::WorkerPool;

pub(crate) use answer::{LongAnswer, Reply};
use disk_reads::DiskReads;
use permit::{Need, need};

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
    /// Who it is, if authentication is on and the caller has shown who it is.
    pub(crate) identity: Option<vlot_store::auth::Caller>,
    /// What it has brought along to show who it is.
    pub(crate) credentials: Credentials,
}

impl Caller {
    /// On whose behalf its commands are.
    fn asker(&self) -> Option<Asker> {
        self.identity.clone().map(Asker::Client)
    }

    /// Who it is by now, in a call that goes on for long.
    fn renewed(&self, auth: &Auth) -> Result<Caller, Refusal> {
        let identity = self.identity.as_ref().filter(|_| auth.is_enabled());
        let identity = identity.map(|identity| auth.renewed(identity)).transpose()?;
        Ok(Caller { identity, credentials: Credentials::default(), ..self.clone() })
    }

    /// The user that calls, by name; `None` while nobody has to say who they are.
    pub(crate) fn user(&self) -> Option<&str> {
        self.identity.as_ref().map(|identity| &*identity.user)
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
    /// Asks other members.
    pub(crate) page_client: PageClient,
    /// What this node shows to clients that speak TLS.
    pub(crate) tls: Option<vlot_tls::Server>,
    /// What this node shows to peers.
    pub(crate) tls_to_peers: Option<vlot_tls::Server>,
    txn_ops_max: usize,
    request_bytes_max: usize,
    quota_bytes: Option<u64>,
    /// Rung when the quota was hit.
    pub(crate) quota_hit: Notify,
    strict_reconfig: bool,
    learners_max: usize,
    authenticator: Authenticator,
    pub(crate) rate_limits: RateLimits,
    token: String,
    watch_progress_interval: Duration,
    election_timeout: Duration,
    /// For reads that take long.
    readers: WorkerPool,
    disk_reads: Arc<DiskReads>,
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

/// What services are made of.
pub(crate) struct Parts {
    pub(crate) store_group: Arc<StoreGroup>,
    pub(crate) membership: Arc<Membership>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) meter: vlot::Meter,
    pub(crate) authenticator: Authenticator,
    pub(crate) audit: Option<Arc<Audit>>,
    pub(crate) page_client: PageClient,
    pub(crate) tls: Option<vlot_tls::Server>,
    pub(crate) tls_to_peers: Option<vlot_tls::Server>,
}

impl Services {
    pub(crate) fn new(config: &Config, parts: Parts) -> Arc<Services> {
        let Parts { store_group, membership, metrics, meter, authenticator, audit, page_client, tls, tls_to_peers } =
            parts;
        let readers = WorkerPool::new(readers_max());
        Arc::new(Services {
            audit,
            hashes: HistoryHashes::new(readers.clone()),
            store_group,
            membership,
            metrics,
            meter,
            page_client,
            tls,
            tls_to_peers,
            txn_ops_max: config.limits.txn_ops,
            request_bytes_max: config.limits.request_bytes,
            quota_bytes: config.limits.quota_bytes,
            quota_hit: Notify::new(),
            strict_reconfig: config.strict_reconfig,
            learners_max: config.limits.learners,
            authenticator,
            rate_limits: RateLimits::new(&config.rate_limits),
            token: config.cluster.token.clone(),
            watch_progress_interval: config.watch_progress_interval,
            election_timeout: config.election_timeout,
            readers,
            disk_reads: Arc::new(DiskReads::new()),
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
        if caller.requires_leader && !self.store_group.has_leader() {
            return Err(Status::NO_LEADER);
        }
        if self.store_group.is_witness() && !matches!(rpc, Rpc::Status | Rpc::HealthCheck) {
            return Err(Status::WITNESS);
        }
        if self.store_group.is_learner() && !is_for_learners(rpc, &request) {
            return Err(Status::NOT_SUPPORTED_FOR_LEARNER);
        }
        if !self.store_group.asks_who_calls() {
            self.rate_limits.admit(rpc, None, &request)?;
            return self.answer(rpc, caller, request).await;
        }
        let identified = match self.identified(rpc, caller).await {
            Ok(identified) => identified,
            Err(status) => {
                if let Some(audited) = self.begin_audited(rpc, caller, &request) {
                    audited.end(status.code);
                }
                return Err(if is_of_queue(rpc) { concurrency::unknown(status) } else { status });
            }
        };
        self.rate_limits.admit(rpc, identified.user(), &request)?;
        let outcome = self.answer(rpc, &identified, request.clone()).await;
        if identified.identity.is_none()
            || !matches!(&outcome, Err(status) if *status == Refusal::AuthOldRevision.into())
        {
            return outcome;
        }
        // Users or roles have changed while the call was on its way, and for that alone nothing was done. Who has a signed token is to
        // get another one; everybody else is asked once more.
        let again = self.identified(rpc, caller).await?.into_owned();
        if again.identity == identified.identity { outcome } else { Box::pin(self.answer(rpc, &again, request)).await }
    }

    /// Answers a unary call of a caller that is known, as far as it can be, and tells the audit of it.
    async fn answer(&self, rpc: Rpc, caller: &Caller, request: Bytes) -> Result<Reply, Status> {
        let audited = self.begin_audited(rpc, caller, &request);
        let outcome = self.carry_out(rpc, caller, request).await;
        if let Some(audited) = audited {
            audited.end(outcome.as_ref().err().map_or(Code::Ok, |status| status.code));
        }
        outcome
    }

    fn begin_audited(&self, rpc: Rpc, caller: &Caller, request: &Bytes) -> Option<Entry<'_>> {
        self.audit.as_deref().and_then(|audit| audit.begin(rpc, caller.who(), request))
    }

    async fn carry_out(&self, rpc: Rpc, caller: &Caller, request: Bytes) -> Result<Reply, Status> {
        self.admit(rpc, caller)?;
        let message = match rpc {
            Rpc::Range => return self.range(caller, request).await,
            Rpc::Txn => return self.txn(caller, request).await,
            Rpc::Put => self.put(caller, request).await,
            Rpc::DeleteRange => self.delete_range(caller, request).await,
            Rpc::Compact => self.compact(caller, request).await,
            Rpc::LeaseGrant => self.lease_grant(caller, request).await,
            Rpc::LeaseRevoke => self.lease_revoke(caller, request).await,
            Rpc::LeaseTimeToLive => Box::pin(self.lease_time_to_live(caller, request)).await,
            Rpc::LeaseLeases => Box::pin(self.lease_leases(caller, request)).await,
            Rpc::Lock => Box::pin(self.lock(caller, request)).await,
            Rpc::Unlock => Box::pin(self.unlock(caller, request)).await,
            Rpc::Campaign => Box::pin(self.campaign(caller, request)).await,
            Rpc::Proclaim => Box::pin(self.proclaim(caller, request)).await,
            Rpc::Leader => Box::pin(self.leader(caller, request)).await,
            Rpc::Resign => Box::pin(self.resign(caller, request)).await,
            Rpc::MemberList => self.member_list(request).await,
            // The rare ones are boxed: each call is a task, as large as the largest of these.
            Rpc::MemberAdd => Box::pin(self.member_add(caller, request)).await,
            Rpc::MemberRemove => Box::pin(self.member_remove(caller, request)).await,
            Rpc::MemberUpdate => Box::pin(self.member_update(caller, request)).await,
            Rpc::MemberPromote => Box::pin(self.member_promote(caller, request)).await,
            Rpc::Status => self.status(request).await,
            Rpc::Alarm => Box::pin(self.alarm(caller, request)).await,
            Rpc::Hash => Box::pin(self.hash(request)).await,
            Rpc::HashKv => Box::pin(self.hash_kv(request)).await,
            Rpc::Defragment => Box::pin(self.defragment(request)).await,
            Rpc::Downgrade => Box::pin(self.downgrade(caller, request)).await,
            Rpc::MoveLeader => self.move_leader(request).await,
            Rpc::AuthEnable
            | Rpc::AuthDisable
            | Rpc::AuthStatus
            | Rpc::Authenticate
            | Rpc::UserAdd
            | Rpc::UserGet
            | Rpc::UserList
            | Rpc::UserDelete
            | Rpc::UserChangePassword
            | Rpc::UserGrantRole
            | Rpc::UserRevokeRole
            | Rpc::RoleAdd
            | Rpc::RoleGet
            | Rpc::RoleList
            | Rpc::RoleDelete
            | Rpc::RoleGrantPermission
            | Rpc::RoleRevokePermission => Box::pin(self.auth(rpc, caller, request)).await,
            Rpc::SetQuota => Box::pin(self.set_quota(caller, request)).await,
            Rpc::RemoveQuota => Box::pin(self.remove_quota(caller, request)).await,
            Rpc::ListQuotas => Box::pin(self.list_quotas(request)).await,
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
        let who = self.identified(rpc, &caller).await.map_or_else(|_| caller.clone(), Cow::into_owned);
        let audited = audit.begin_stream(rpc, who.who());
        let requests = Audited { requests, audit, rpc, who: who.who() };
        let outcome = self.hold(rpc, caller, requests, replies).await;
        if let Some(audited) = audited {
            audited.end(outcome.as_ref().err().map_or(Code::Ok, |status| status.code));
        }
        outcome
    }

    async fn hold(&self, rpc: Rpc, caller: Caller, requests: impl Requests, replies: Replies) -> Result<(), Status> {
        if self.store_group.is_witness() && rpc != Rpc::HealthWatch {
            return Err(Status::WITNESS);
        }
        if self.store_group.is_learner() && !matches!(rpc, Rpc::HealthWatch | Rpc::Snapshot) {
            return Err(Status::NOT_SUPPORTED_FOR_LEARNER);
        }
        if caller.requires_leader && !self.store_group.has_leader() {
            return Err(Status::NO_LEADER);
        }
        if rpc == Rpc::Watch {
            // Each watch asks who its client is.
            return self.watch(caller, requests, replies).await;
        }
        let caller = self.identified(rpc, &caller).await?.into_owned();
        self.admit(rpc, &caller)?;
        let user = caller.user().map(str::to_owned);
        let requests = Admitted { requests, rate_limits: &self.rate_limits, rpc, user };
        match rpc {
            Rpc::RangeStream => self.range_stream(caller, requests, replies).await,
            Rpc::LeaseKeepAlive => self.lease_keep_alive(caller, requests, replies).await,
            Rpc::Observe => self.observe(caller, requests, replies).await,
            Rpc::Snapshot => self.snapshot(&caller, requests, replies).await,
            Rpc::HealthWatch => health::watch(requests, replies).await,
            _ => Err(Status::absent(rpc.path())),
        }
    }

    /// The caller, with who it is if that matters. A stream's caller is found out once, when the stream begins.
    async fn identified<'c>(&self, rpc: Rpc, caller: &'c Caller) -> Result<Cow<'c, Caller>, Status> {
        if !self.store_group.asks_who_calls() || need(rpc) == Need::Nothing {
            return Ok(Cow::Borrowed(caller));
        }
        let auth = self.store_group.auth();
        let identify = |auth: &Auth| {
            let now = self.store_group.cluster_time();
            self.authenticator.identify(auth, now, &caller.credentials)
        };
        let identity = match identify(&auth) {
            // The token may be of a user whom this member has not heard of yet.
            Err(_) if self.authenticator.asks_the_store() => {
                self.store_group.barrier().await?;
                identify(&self.store_group.auth())?
            }
            found => found?,
        };
        Ok(Cow::Owned(Caller { identity, ..caller.clone() }))
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

/// Whether an RPC is one of lock and election, which tell what is refused in their own way.
fn is_of_queue(rpc: Rpc) -> bool {
    matches!(rpc, Rpc::Lock | Rpc::Unlock | Rpc::Campaign | Rpc::Proclaim | Rpc::Leader | Rpc::Resign)
}

/// The messages of a stream, each of which counts as a call. The first that is one too many ends the stream.
struct Admitted<'s, R> {
    requests: R,
    rate_limits: &'s RateLimits,
    rpc: Rpc,
    user: Option<String>,
}

impl<R: Requests> Requests for Admitted<'_, R> {
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let next = self.requests.next().await?;
        if let Some(request) = &next {
            self.rate_limits.admit(self.rpc, self.user.as_deref(), request)?;
        }
        Ok(next)
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
