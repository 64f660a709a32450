//! `v3electionpb.Election`: the first in the queue leads, and proclaims something.

use bytes::Bytes;
use prost::Message;
use vlot_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, WatchCreateRequest};
use vlot_proto::mvccpb::KeyValue;
use vlot_proto::mvccpb::event::EventType;
use vlot_proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest, ProclaimResponse,
    ResignRequest, ResignResponse,
};

use super::queue::places_of;
use crate::conversation::{Batch, Replies, Requests};
use crate::service::{Caller, Services, decode, encode};
use crate::status::{Code, Status};

fn not_leader() -> Status {
    Status::new(Code::Unknown, "election: not leader")
}

fn no_leader() -> Status {
    Status::new(Code::Unknown, "election: no leader")
}

fn no_leader_key() -> Status {
    Status::new(Code::Unknown, "\"leader\" field must be provided")
}

impl Services {
    /// Waits until the caller leads.
    pub(in crate::service) async fn campaign(&self, caller: &Caller, bytes: Bytes) -> Result<Bytes, Status> {
        let CampaignRequest { name, lease, value } = decode(bytes)?;
        let taken = self.take_place(caller, &name, lease, value.clone()).await?;
        let place = &taken.place;
        if taken.found.is_some_and(|found| found != value) {
            let put = PutRequest { key: place.key.clone(), value, lease: place.lease, ..Default::default() };
            let (_, has_proclaimed) =
                self.with_place(caller, &place.key, place.created, Request::RequestPut(put)).await?;
            if !has_proclaimed {
                return Err(not_leader());
            }
        }
        let turn = self.wait_for_turn(caller, &name, place).await?;
        let (_, has_it) = self.has_place(caller, place).await?;
        turn.keep();
        if !has_it {
            return Err(not_leader());
        }
        let leader = LeaderKey { name, key: place.key.clone(), rev: place.created, lease: place.lease };
        // etcd's header is of when the place was taken, too.
        Ok(encode(&CampaignResponse { header: Some(taken.header), leader: Some(leader) }))
    }

    /// Replaces what the leader proclaims, if the caller still leads.
    pub(in crate::service) async fn proclaim(&self, caller: &Caller, bytes: Bytes) -> Result<Bytes, Status> {
        let ProclaimRequest { leader, value } = decode(bytes)?;
        let LeaderKey { key, rev, lease, .. } = leader.ok_or_else(no_leader_key)?;
        self.require_space()?;
        let put = PutRequest { key: key.clone(), value, lease, ..Default::default() };
        match self.with_place(caller, &key, rev, Request::RequestPut(put)).await? {
            (header, true) => Ok(encode(&ProclaimResponse { header: Some(header) })),
            (_, false) => Err(not_leader()),
        }
    }

    /// Gives the leadership up. It is no error if the caller does not have it.
    pub(in crate::service) async fn resign(&self, caller: &Caller, bytes: Bytes) -> Result<Bytes, Status> {
        let ResignRequest { leader } = decode(bytes)?;
        let LeaderKey { key, rev, .. } = leader.ok_or_else(no_leader_key)?;
        let delete = DeleteRangeRequest { key: key.clone(), ..Default::default() };
        let (header, _) = self.with_place(caller, &key, rev, Request::RequestDeleteRange(delete)).await?;
        Ok(encode(&ResignResponse { header: Some(header) }))
    }

    /// Who leads.
    pub(in crate::service) async fn leader(&self, caller: &Caller, bytes: Bytes) -> Result<Bytes, Status> {
        let LeaderRequest { name } = decode(bytes)?;
        self.store_group.barrier().await?;
        let (revision, leader) = self.first_of(caller, &oldest_of(&name)).await?;
        let kv = leader.ok_or_else(no_leader)?;
        Ok(encode(&LeaderResponse { header: Some(self.header(revision)), kv: Some(kv) }))
    }

    /// Tells who leads, and whatever leaders proclaim, for as long as the client wants to know.
    pub(in crate::service) async fn observe(
        &self,
        caller: Caller,
        mut requests: impl Requests,
        replies: Replies,
    ) -> Result<(), Status> {
        let request = requests.next().await?.ok_or(Status::NO_REQUEST)?;
        let LeaderRequest { name } = decode(request)?;
        self.store_group.barrier().await?;
        tokio::select! {
            told = self.tell_leaders(&caller, &name, &replies) => told,
            () = self.leaderless(), if caller.requires_leader => Err(Status::NO_LEADER),
            () = replies.closed() => Ok(()),
        }
    }

    async fn tell_leaders(&self, caller: &Caller, name: &[u8], replies: &Replies) -> Result<(), Status> {
        loop {
            let (revision, leader) = match self.first_of(caller, &oldest_of(name)).await? {
                (revision, Some(leader)) => (revision, leader),
                (revision, None) => match self.next_candidate(caller, name, revision).await? {
                    Some(leader) => (leader.mod_revision, leader),
                    None => continue,
                },
            };
            self.tell_leader(replies, revision, leader.clone()).await?;
            self.tell_proclamations(caller, &leader.key, revision, replies).await?;
        }
    }

    /// Waits for somebody to take a place in an empty queue.
    async fn next_candidate(&self, caller: &Caller, name: &[u8], revision: i64) -> Result<Option<KeyValue>, Status> {
        let RangeRequest { key, range_end, .. } = places_of(name);
        let create = WatchCreateRequest { key, range_end, start_revision: revision + 1, ..Default::default() };
        let mut changes = self.changes(caller, &create).await?;
        while let Some(changed) = changes.next().await? {
            let put = changed.events.into_iter().find(|event| event.r#type == i32::from(EventType::Put));
            if let Some(put) = put {
                return Ok(put.kv);
            }
        }
        Ok(None)
    }

    /// Tells what a leader proclaims, until it leads no more.
    async fn tell_proclamations(
        &self,
        caller: &Caller,
        key: &[u8],
        revision: i64,
        replies: &Replies,
    ) -> Result<(), Status> {
        let key = Bytes::copy_from_slice(key);
        let create = WatchCreateRequest { key, start_revision: revision + 1, ..Default::default() };
        let mut changes = self.changes(caller, &create).await?;
        while let Some(changed) = changes.next().await? {
            for event in changed.events {
                if event.r#type == i32::from(EventType::Delete) {
                    return Ok(());
                }
                if let Some(kv) = event.kv {
                    self.tell_leader(replies, changed.revision, kv).await?;
                }
            }
        }
        Ok(())
    }

    async fn tell_leader(&self, replies: &Replies, revision: i64, leader: KeyValue) -> Result<(), Status> {
        let response = LeaderResponse { header: Some(self.header(revision)), kv: Some(leader) };
        replies.send(Batch::of(&response.encode_to_vec())).await
    }
}

/// The oldest place of a queue: its leader's.
fn oldest_of(name: &[u8]) -> RangeRequest {
    RangeRequest {
        sort_order: SortOrder::Ascend.into(),
        sort_target: SortTarget::Create.into(),
        limit: 1,
        ..places_of(name)
    }
}
