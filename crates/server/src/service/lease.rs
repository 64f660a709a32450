//! `etcdserverpb.Lease`: grants and revocations through the log, renewals in batches, looks at what is left.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use prost::Message;
use vlot_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseStatus, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use vlot_store::auth::Asked;
use vlot_store::command::Tag;
use vlot_store::lease::TTL_MAX;
use vlot_store::refusal::Refusal;
use vlot_store::store::Applied;

use super::{Caller, Services, decode, encode, encode_by};
use crate::conversation::{Batch, Replies, Requests};
use crate::status::Status;
use crate::store_group::Renewing;

/// How many keep-alives of one stream may wait for their answers. More are not read before.
const RENEWING_MAX: usize = 1024;
/// About what a lease takes up.
const LEASE_BYTES: usize = 64;
/// How many keys of a lease are listed at once; more are found on another thread.
const KEYS_MAX: usize = 1024;
/// How many leases are looked at at a time.
const LEASES_MAX: usize = 4096;

impl Services {
    pub(super) async fn lease_grant(&self, caller: &Caller, bytes: Bytes) -> Result<Bytes, Status> {
        let mut reply = self.grant(caller, decode(bytes)?).await?;
        self.complete(&mut reply.header);
        Ok(encode(&reply))
    }

    /// Grants a lease under the id that is asked for, or under a drawn one if that is zero.
    pub(super) async fn grant(&self, caller: &Caller, asked: LeaseGrantRequest) -> Result<LeaseGrantResponse, Status> {
        if asked.ttl > TTL_MAX {
            return Err(Refusal::LeaseTtlTooLarge.into());
        }
        self.require_space_for(LEASE_BYTES)?;
        let ttl = asked.ttl.max(self.lease_ttl_min());
        loop {
            let id = if asked.id == 0 { drawn_id() } else { asked.id };
            let request = Bytes::from(LeaseGrantRequest { id, ttl }.encode_to_vec());
            match self.propose(caller, Tag::LeaseGrant, &request).await {
                Ok(Applied::LeaseGrant(reply)) => return Ok(reply),
                Ok(_) => return Err(Status::OTHER_ANSWER),
                // By the rarest of chances a drawn id is taken.
                Err(status) if asked.id == 0 && status == Refusal::LeaseExists.into() => {}
                Err(status) => return Err(status),
            }
        }
    }

    /// The shortest time to live, in seconds: a leader that is lost is found out, and another one elected, in less.
    fn lease_ttl_min(&self) -> i64 {
        let shortest = self.election_timeout + self.election_timeout / 2;
        shortest.as_secs() as i64 + i64::from(shortest.subsec_nanos() > 0)
    }

    pub(super) async fn lease_revoke(&self, caller: &Caller, bytes: Bytes) -> Result<Bytes, Status> {
        let _: LeaseRevokeRequest = decode(bytes.clone())?;
        let Applied::LeaseRevoke(mut reply) = self.propose(caller, Tag::LeaseRevoke, &bytes).await? else {
            return Err(Status::OTHER_ANSWER);
        };
        self.complete(&mut reply.header);
        Ok(encode(&reply))
    }

    pub(super) async fn lease_time_to_live(&self, caller: &Caller, bytes: Bytes) -> Result<Bytes, Status> {
        let LeaseTimeToLiveRequest { id, keys: wants_keys } = decode(bytes)?;
        self.store_group.barrier().await?;
        let looked = self.store_group.look_at_leases(|store, now| {
            caller.may(store, if wants_keys { Asked::KeysOnLease(id) } else { Asked::Anything })?;
            let lease = store.lease(id).filter(|_| id != 0);
            let keys = if wants_keys { store.keys_on_lease(id, KEYS_MAX) } else { Some(Vec::new()) };
            let view = keys.is_none().then(|| store.view());
            Ok::<_, Refusal>((store.revision(), lease.map(|lease| (lease.ttl, lease.left(now))), keys, view))
        });
        let (revision, lease, keys, view) = looked.await??;
        let is_long = view.is_some();
        let keys = match (keys, view) {
            (Some(keys), _) => keys,
            (None, Some(view)) => self.readers.run(move || view.keys_on_lease(id)).await?,
            (None, None) => Vec::new(),
        };
        let header = Some(self.header(revision));
        let reply = match lease {
            Some((granted_ttl, left)) => {
                // etcd's clock runs from the grant on, so that no client ever sees the whole time left.
                let left = Duration::from_millis(left.saturating_sub(1)).as_secs() as i64;
                LeaseTimeToLiveResponse { header, id, ttl: left, granted_ttl, keys }
            }
            None => LeaseTimeToLiveResponse { header, id, ttl: -1, ..Default::default() },
        };
        encode_by(&self.readers, reply, is_long).await
    }

    /// All leases, those first that end first.
    pub(super) async fn lease_leases(&self, caller: &Caller, bytes: Bytes) -> Result<Bytes, Status> {
        let LeaseLeasesRequest {} = decode(bytes)?;
        let mut found = Vec::new();
        let mut last = None;
        let revision = loop {
            let look = self.store_group.look_at_leases(|store, now| {
                caller.may(store, Asked::Leases { after: last, count: LEASES_MAX })?;
                let some = store.leases_after(last).take(LEASES_MAX);
                found.extend(some.map(|lease| (now + lease.left(now), lease.renewal, lease.id)));
                Ok::<_, Refusal>(store.revision())
            });
            let revision = look.await??;
            let newest = found.last().map(|(_, _, id)| *id);
            if newest == last || !found.len().is_multiple_of(LEASES_MAX) {
                break revision;
            }
            last = newest;
        };
        let header = Some(self.header(revision));
        let is_long = found.len() >= LEASES_MAX;
        let reply = move || {
            found.sort_unstable();
            let leases = found.into_iter().map(|(_, _, id)| LeaseStatus { id }).collect();
            encode(&LeaseLeasesResponse { header, leases })
        };
        if is_long { self.readers.run(reply).await } else { Ok(reply()) }
    }

    /// Renews what the client names, and answers in its order. Many may be on their way at a time.
    pub(super) async fn lease_keep_alive(
        &self,
        caller: Caller,
        mut requests: impl Requests,
        replies: Replies,
    ) -> Result<(), Status> {
        let mut renewing: VecDeque<(i64, Renewing)> = VecDeque::new();
        let mut has_ended = false;
        while !(has_ended && renewing.is_empty()) {
            tokio::select! {
                request = requests.next(), if !has_ended && renewing.len() < RENEWING_MAX => match request? {
                    Some(request) => {
                        let LeaseKeepAliveRequest { id } = decode(request)?;
                        self.require_name(&caller).await?;
                        let asker = caller.renewed(&self.store_group.auth())?.asker();
                        renewing.push_back((id, self.store_group.renew(id, asker)?));
                    }
                    None => has_ended = true,
                },
                answered = self.next_renewed(&mut renewing), if !renewing.is_empty() => replies.send(answered?).await?,
                () = self.leaderless(), if caller.requires_leader => return Err(Status::NO_LEADER),
                () = replies.closed() => return Ok(()),
            }
        }
        Ok(())
    }

    /// The answers to the first renewals, once there are some. Cancel-safe.
    async fn next_renewed(&self, renewing: &mut VecDeque<(i64, Renewing)>) -> Result<Batch, Status> {
        let mut batch = Batch::default();
        let Some((id, first)) = renewing.front_mut() else { return Ok(batch) };
        let id = *id;
        // Renewals end with the node.
        let mut renewed = first.await.map_err(|_| Status::STOPPED)??;
        let mut answered = id;
        renewing.pop_front();
        loop {
            let header = Some(self.header(renewed.revision));
            let reply = LeaseKeepAliveResponse { header, id: answered, ttl: renewed.ttl };
            batch.push(reply.encoded_len(), |buffer: &mut BytesMut| {
                reply.encode(buffer).expect("the buffer grows as needed");
            });
            let Some((id, next)) = renewing.front_mut() else { return Ok(batch) };
            let Ok(next) = next.try_recv() else { return Ok(batch) };
            (answered, renewed) = (*id, next?);
            renewing.pop_front();
        }
    }
}

/// A positive number that is hardly ever drawn twice.
fn drawn_id() -> i64 {
    loop {
        let id = (RandomState::new().hash_one(()) >> 1) as i64;
        if id != 0 {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_ids_are_positive_and_differ() {
        let ids: std::collections::BTreeSet<i64> = (0..1000).map(|_| drawn_id()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| *id > 0));
    }
}
