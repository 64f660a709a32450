//! `etcdserverpb.Cluster`: who the members are.

use bytes::Bytes;
use vlot_proto::etcdserverpb::{MemberListRequest, MemberListResponse};

use super::{Services, decode, encode};
use crate::status::Status;

impl Services {
    pub(super) async fn member_list(&self, request: Bytes) -> Result<Bytes, Status> {
        let request: MemberListRequest = decode(request)?;
        if request.linearizable {
            self.replica.barrier().await?;
        }
        let members = self.membership.list(&self.replica.store());
        // Answers about the cluster have no revision.
        Ok(encode(&MemberListResponse { header: Some(self.header(0)), members }))
    }
}
