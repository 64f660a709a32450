//! What the commands of leases do to the store, and what is asked of its leases.

use bytes::Bytes;
use vlot_proto::etcdserverpb::{LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest, LeaseRevokeResponse};

use super::LeaseStatus;
use crate::auth::{Asked, Caller};
use crate::command::LeaseTime;
use crate::mvcc::revision::Position;
use crate::refusal::Refusal;
use crate::store::Store;
use crate::txn::{Change, header};

impl Store {
    pub(crate) fn apply_grant(&mut self, request: &LeaseGrantRequest) -> Result<LeaseGrantResponse, Refusal> {
        let ttl = self.leases.grant(request.id, request.ttl)?;
        self.measures.lease_granted(ttl);
        Ok(LeaseGrantResponse { header: header(self.revision()), id: request.id, ttl, ..Default::default() })
    }

    pub(crate) fn apply_revoke(&mut self, request: &LeaseRevokeRequest) -> Result<LeaseRevokeResponse, Refusal> {
        if !self.leases.contains(request.id) {
            return Err(Refusal::LeaseNotFound);
        }
        self.revoke(request.id);
        Ok(LeaseRevokeResponse { header: header(self.revision()) })
    }

    /// Renews leases, and returns each one's time to live in seconds: zero for one that there is not.
    pub(crate) fn apply_keep_alive(&mut self, ids: &[i64]) -> Vec<i64> {
        let ttls: Vec<i64> = ids.iter().map(|id| self.leases.renew(*id).unwrap_or(0)).collect();
        self.measures.leases_renewed(ttls.iter().filter(|ttl| **ttl > 0).count());
        ttls
    }

    /// As [`Store::apply_keep_alive`], for a client: minus one for a lease that it may not renew.
    pub(crate) fn apply_keep_alive_of(&mut self, caller: &Caller, ids: &[i64]) -> Result<Vec<i64>, Refusal> {
        let mut ttls = Vec::with_capacity(ids.len());
        for id in ids {
            match self.authorise(Some(caller), Asked::RenewLease(*id)) {
                Ok(()) => ttls.push(self.leases.renew(*id).unwrap_or(0)),
                Err(Refusal::PermissionDenied) => ttls.push(-1),
                Err(refusal) => return Err(refusal),
            }
        }
        self.measures.leases_renewed(ttls.iter().filter(|ttl| **ttl > 0).count());
        Ok(ttls)
    }

    /// Moves cluster time on and ends leases. What a leader tells counts in its own term alone: one that was paused, and is
    /// no leader any more, may be wrong about time. Returns how many leases have ended.
    pub(crate) fn apply_time(&mut self, at: Position, time: &LeaseTime) -> usize {
        if time.term != at.term {
            return 0;
        }
        self.leases.tell(at.index, time);
        let mut ended = 0;
        for (id, renewal) in &time.ended {
            if self.leases.has_not_been_renewed(*id, *renewal) {
                self.revoke(*id);
                ended += 1;
            }
        }
        self.measures.leases_expired(ended);
        ended
    }

    /// Forgets a lease and deletes its keys, all in one revision.
    fn revoke(&mut self, id: i64) {
        let mut change = Change::after(self);
        for key in self.leases.revoke(id) {
            let revision = change.next();
            self.write(&key, revision, None);
            change.ops.deletions += 1;
        }
        self.end(&change);
        self.measures.lease_revoked();
    }

    /// What a leader of this term tells the others at this cluster time, in milliseconds, if there is anything.
    #[must_use]
    pub fn lease_time_due(&self, term: u64, now: u64) -> Option<LeaseTime> {
        // Tokens of users end by it too.
        self.leases.due(term, now, self.auth.is_enabled())
    }

    /// Cluster time as it was told last, in milliseconds.
    #[must_use]
    pub fn lease_time(&self) -> u64 {
        self.leases.time().now
    }

    /// A lease, if there is one with this id.
    #[must_use]
    pub fn lease(&self, id: i64) -> Option<LeaseStatus> {
        self.leases.status(id)
    }

    /// All leases with greater ids than this one, in the order of their ids.
    pub fn leases_after(&self, id: Option<i64>) -> impl Iterator<Item = LeaseStatus> {
        self.leases.after(id)
    }

    /// The keys on a lease, in order, if there are not more than so many. A [`View`](crate::view::View) finds those of a
    /// lease with more.
    #[must_use]
    pub fn keys_on_lease(&self, id: i64, keys_max: usize) -> Option<Vec<Bytes>> {
        self.leases.keys(id, keys_max)
    }
}
