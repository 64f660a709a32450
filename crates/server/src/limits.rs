//! How many calls clients may make: buckets of tokens, of which each call takes one before it costs anything.
//!
//! Owns the buckets, and which calls each rule of `--rate-limit` counts. A rule is this node's alone. Must not know how a
//! call is carried out, or how its caller was found out.

mod keys;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use prost::Message;
use vlot_proto::etcdserverpb::WatchRequest;
use vlot_proto::etcdserverpb::watch_request::RequestUnion;
use vlot_proto::txn;
use vlot_store::check;

use self::keys::Keys;
use crate::config::{CallKind, Callers, Rule};
use crate::rpc::Rpc;
use crate::status::Status;

/// A rule for each user keeps at most so many buckets apart. Users beyond share one.
const USERS_MAX: usize = 10_000;

/// All rules of this node.
pub(crate) struct RateLimits {
    rules: Vec<Limited>,
    /// Whether a rule asks for the keys of a call.
    look_at_keys: bool,
}

/// A rule, and what is left of it.
struct Limited {
    rule: Rule,
    buckets: Mutex<Buckets>,
    refused: AtomicU64,
}

/// The buckets of one rule.
struct Buckets {
    /// Of all callers that have none of their own.
    shared: Bucket,
    /// By user, of a rule for each.
    own: HashMap<String, Bucket>,
}

/// Tokens: they come at the rate of the rule, and never more than its burst.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn full(rule: &Rule, now: Instant) -> Bucket {
        Bucket { tokens: rule.burst, at: now }
    }

    fn fill(&mut self, rule: &Rule, now: Instant) {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = (self.tokens + since * rule.rate).min(rule.burst);
        self.at = self.at.max(now);
    }

    fn take(&mut self, rule: &Rule, now: Instant) -> bool {
        self.fill(rule, now);
        let has_one = self.tokens >= 1.0;
        if has_one {
            self.tokens -= 1.0;
        }
        has_one
    }
}

impl Limited {
    fn new(rule: Rule, now: Instant) -> Limited {
        let buckets = Buckets { shared: Bucket::full(&rule, now), own: HashMap::new() };
        Limited { rule, buckets: Mutex::new(buckets), refused: AtomicU64::new(0) }
    }

    /// Whether it counts the calls of this caller.
    fn is_about(&self, user: Option<&str>) -> bool {
        match &self.rule.callers {
            Callers::All => true,
            Callers::User(name) => user == Some(name),
            Callers::Each => user.is_some(),
        }
    }

    fn take(&self, user: Option<&str>, now: Instant) -> bool {
        self.with_bucket(user, now, |bucket, rule| bucket.take(rule, now))
    }

    /// Gives back what a call has taken that another rule refuses.
    fn give_back(&self, user: Option<&str>, now: Instant) {
        self.with_bucket(user, now, |bucket, rule| bucket.tokens = (bucket.tokens + 1.0).min(rule.burst));
    }

    fn with_bucket<T>(&self, user: Option<&str>, now: Instant, act: impl FnOnce(&mut Bucket, &Rule) -> T) -> T {
        let rule = &self.rule;
        let mut buckets = self.buckets();
        let Buckets { shared, own } = &mut *buckets;
        let Some(user) = user.filter(|_| rule.callers == Callers::Each) else { return act(shared, rule) };
        if let Some(bucket) = own.get_mut(user) {
            return act(bucket, rule);
        }
        if own.len() >= USERS_MAX {
            // One that is full is as good as none.
            own.retain(|_, bucket| {
                bucket.fill(rule, now);
                bucket.tokens < rule.burst
            });
        }
        if own.len() >= USERS_MAX {
            return act(shared, rule);
        }
        act(own.entry(user.to_owned()).or_insert_with(|| Bucket::full(rule, now)), rule)
    }

    fn buckets(&self) -> MutexGuard<'_, Buckets> {
        // A bucket is whole whatever happens to who holds it.
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RateLimits {
    pub(crate) fn new(rules: &[Rule]) -> RateLimits {
        let now = Instant::now();
        RateLimits {
            look_at_keys: rules.iter().any(|rule| !rule.prefix.is_empty()),
            rules: rules.iter().map(|rule| Limited::new(rule.clone(), now)).collect(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Takes a token for a call from each rule that counts it, or from none. `request` is its message, or one of a
    /// stream's; `user` is who calls, if that is known.
    ///
    /// # Errors
    /// `TOO_MANY_REQUESTS` if one of them has none.
    pub(crate) fn admit(&self, rpc: Rpc, user: Option<&str>, request: &Bytes) -> Result<(), Status> {
        if self.is_empty() { Ok(()) } else { self.admit_at(Instant::now(), rpc, user, request) }
    }

    fn admit_at(&self, now: Instant, rpc: Rpc, user: Option<&str>, request: &Bytes) -> Result<(), Status> {
        let Some(kind) = kind_of(rpc, request) else { return Ok(()) };
        let keys = if self.look_at_keys { Keys::of(rpc, request) } else { Keys::default() };
        let counts = |limited: &&Limited| {
            let Rule { call, prefix, .. } = &limited.rule;
            call.is_none_or(|call| call == kind) && limited.is_about(user) && (prefix.is_empty() || keys.meet(prefix))
        };
        let concerned = || self.rules.iter().filter(counts);
        for (place, limited) in concerned().enumerate() {
            if !limited.take(user, now) {
                concerned().take(place).for_each(|limited| limited.give_back(user, now));
                limited.refused.fetch_add(1, Relaxed);
                return Err(Status::TOO_MANY_REQUESTS);
            }
        }
        Ok(())
    }

    /// The rules as they were written, and how many calls each has refused.
    pub(crate) fn refused(&self) -> impl Iterator<Item = (&str, u64)> {
        self.rules.iter().map(|limited| (&*limited.rule.text, limited.refused.load(Relaxed)))
    }
}

/// What kind of call it is; none if it is never limited.
fn kind_of(rpc: Rpc, request: &Bytes) -> Option<CallKind> {
    Some(match rpc {
        Rpc::Range | Rpc::RangeStream | Rpc::Leader => CallKind::Read,
        Rpc::Put | Rpc::DeleteRange | Rpc::Lock | Rpc::Unlock => CallKind::Write,
        Rpc::Campaign | Rpc::Proclaim | Rpc::Resign => CallKind::Write,
        Rpc::Txn => {
            let reads = txn::decode(request.clone()).is_ok_and(|request| check::is_read_only(&request));
            if reads { CallKind::Read } else { CallKind::Write }
        }
        // A watch that is to begin counts; what else is said on its stream does not.
        Rpc::Watch => creates_watch(request).then_some(CallKind::Watch)?,
        Rpc::Observe => CallKind::Watch,
        Rpc::LeaseGrant | Rpc::LeaseRevoke | Rpc::LeaseKeepAlive | Rpc::LeaseTimeToLive | Rpc::LeaseLeases => {
            CallKind::Lease
        }
        Rpc::MemberList | Rpc::MemberAdd | Rpc::MemberRemove | Rpc::MemberUpdate | Rpc::MemberPromote => {
            CallKind::Member
        }
        Rpc::Compact | Rpc::Status | Rpc::Alarm | Rpc::Hash | Rpc::HashKv | Rpc::Snapshot => CallKind::Maintenance,
        Rpc::Defragment | Rpc::Downgrade | Rpc::MoveLeader => CallKind::Maintenance,
        Rpc::SetQuota | Rpc::RemoveQuota | Rpc::ListQuotas => CallKind::Maintenance,
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
        | Rpc::RoleRevokePermission => CallKind::Auth,
        // Who is asked whether it lives answers; and behind an absent one there is nothing.
        Rpc::HealthCheck | Rpc::HealthWatch | Rpc::Absent(_) => return None,
    })
}

fn creates_watch(request: &Bytes) -> bool {
    let request = WatchRequest::decode(request.clone()).unwrap_or_default();
    matches!(request.request_union, Some(RequestUnion::CreateRequest(_)))
}

#[cfg(test)]
mod tests;
