//! `etcdserverpb.Maintenance`: what this node is up to.

mod alarm;
mod downgrade;
mod snapshot;

use bytes::Bytes;
use vlot_proto::etcdserverpb::{
    AlarmMember, AlarmType, DefragmentRequest, DefragmentResponse, HashKvRequest, HashKvResponse, HashRequest,
    HashResponse, MoveLeaderRequest, MoveLeaderResponse, StatusRequest, StatusResponse,
};

use vlot_store::store::Store;

use super::{ETCD_VERSION, Services, decode, encode};
use crate::status::Status;
use crate::store_group::Glance;

impl Services {
    /// Local: it needs no other member, and is answered without a leader too.
    pub(super) async fn status(&self, request: Bytes) -> Result<Bytes, Status> {
        let _: StatusRequest = decode(request)?;
        let role_state = self.store_group.raft_status();
        let Glance { sizes, revision, .. } = self.store_group.glance().await?;
        let mut errors = Vec::new();
        if role_state.leader == 0 {
            errors.push(Status::NO_LEADER.message.into_owned());
        }
        errors.extend(self.store_group.alarms().borrow().list(AlarmType::None.into()).iter().map(shown));
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        Ok(encode(&StatusResponse {
            header: Some(self.header(revision)),
            version: ETCD_VERSION.to_owned(),
            db_size: signed(sizes.database_bytes),
            leader: role_state.leader,
            raft_index: role_state.commit,
            raft_term: role_state.term,
            raft_applied_index: role_state.applied,
            errors,
            db_size_in_use: signed(sizes.database_bytes_in_use),
            is_learner: self.store_group.is_learner(),
            storage_version: ETCD_VERSION.to_owned(),
            db_size_quota: self.quota_bytes.map_or(-1, signed),
            downgrade_info: Some(self.downgrade_info()),
        }))
    }

    /// Only the leader hands over, and only to a voter.
    pub(super) async fn move_leader(&self, request: Bytes) -> Result<Bytes, Status> {
        let MoveLeaderRequest { target_id } = decode(request)?;
        let own = self.membership.identity().member;
        if self.store_group.raft_status().leader != own {
            return Err(Status::NOT_LEADER);
        }
        if !self.members().iter().any(|member| member.id == target_id && !member.is_learner) {
            return Err(Status::BAD_LEADER_TRANSFEREE);
        }
        if target_id != own {
            self.store_group.transfer_leadership(target_id).await?;
        }
        // etcd sends no header here.
        Ok(encode(&MoveLeaderResponse { header: None }))
    }

    /// Has the store's file written anew, without the space that is not in use. It is done behind the answer, and nothing
    /// stops for it.
    pub(super) async fn defragment(&self, request: Bytes) -> Result<Bytes, Status> {
        let _: DefragmentRequest = decode(request)?;
        self.store_group.look(Store::defragment).await?;
        // etcd sends no header here.
        Ok(encode(&DefragmentResponse { header: None }))
    }

    /// etcd's number for the history on this node. It asks no other member.
    pub(super) async fn hash_kv(&self, request: Bytes) -> Result<Bytes, Status> {
        let HashKvRequest { revision } = decode(request)?;
        let view = self.store_group.local_view().await?;
        let header = self.header(view.revision());
        let hash = self.hashes.of(view, revision).await?;
        Ok(encode(&HashKvResponse {
            header: Some(header),
            hash: hash.hash,
            compact_revision: hash.compacted_revision,
            hash_revision: hash.revision,
        }))
    }

    /// A number for the state of this node: that of its history. etcd's is one of its file, and comparable with no other
    /// program's.
    pub(super) async fn hash(&self, request: Bytes) -> Result<Bytes, Status> {
        let _: HashRequest = decode(request)?;
        let view = self.store_group.local_view().await?;
        let header = self.header(view.revision());
        let hash = self.hashes.made_of(view, 0).await?.hash;
        Ok(encode(&HashResponse { header: Some(header), hash }))
    }
}

/// An alarm as etcd writes it into a sentence: protobuf's text on one line, a blank behind each field.
fn shown(alarm: &AlarmMember) -> String {
    let member = if alarm.member_id == 0 { String::new() } else { format!("memberID:{} ", alarm.member_id) };
    let kind = match AlarmType::try_from(alarm.alarm) {
        Ok(AlarmType::None) => String::new(),
        Ok(kind) => format!("alarm:{} ", kind.as_str_name()),
        Err(_) => format!("alarm:{} ", alarm.alarm),
    };
    member + &kind
}
