//! `vlotpb.Limits`: how much there may be below a prefix of the keys. etcd has none of it.
//!
//! Changes go through the log, in the client's own bytes. What a quota counts and refuses is the store's business.

use bytes::Bytes;
use vlot_proto::vlotpb::{ListQuotasRequest, ListQuotasResponse, RemoveQuotaRequest, SetQuotaRequest};
use vlot_store::command::Tag;
use vlot_store::store::Applied;

use super::{Caller, Services, decode, encode};
use crate::status::Status;

impl Services {
    pub(super) async fn set_quota(&self, caller: &Caller, bytes: Bytes) -> Result<Bytes, Status> {
        let _: SetQuotaRequest = decode(bytes.clone())?;
        let Applied::SetQuota(mut reply) = self.propose(caller, Tag::SetQuota, &bytes).await? else {
            return Err(Status::OTHER_ANSWER);
        };
        self.complete(&mut reply.header);
        Ok(encode(&reply))
    }

    pub(super) async fn remove_quota(&self, caller: &Caller, bytes: Bytes) -> Result<Bytes, Status> {
        let _: RemoveQuotaRequest = decode(bytes.clone())?;
        let Applied::RemoveQuota(mut reply) = self.propose(caller, Tag::RemoveQuota, &bytes).await? else {
            return Err(Status::OTHER_ANSWER);
        };
        self.complete(&mut reply.header);
        Ok(encode(&reply))
    }

    /// As new as the call.
    pub(super) async fn list_quotas(&self, request: Bytes) -> Result<Bytes, Status> {
        let ListQuotasRequest {} = decode(request)?;
        self.store_group.barrier().await?;
        let look = self.store_group.look(|store| {
            let quotas = store.quotas().map(|(prefix, quota)| quota.message(prefix)).collect();
            (store.revision(), quotas)
        });
        let (revision, quotas) = look.await?;
        Ok(encode(&ListQuotasResponse { header: Some(self.header(revision)), quotas }))
    }
}
