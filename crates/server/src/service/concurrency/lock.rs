//! `v3lockpb.Lock`: the first in the queue has the lock. The revision of the answer is the fencing token.

use bytes::Bytes;
use prost::Message;
use vlot_proto::etcdserverpb::DeleteRangeRequest;
use vlot_proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use vlot_store::check;
use vlot_store::command::Tag;
use vlot_store::store::Applied;

use super::queue::unknown;
use crate::service::{Caller, Services, decode, encode};
use crate::status::{Code, Status};

impl Services {
    /// Waits for the lock, and gives it only if the lease has outlived the wait.
    pub(in crate::service) async fn lock(&self, caller: &Caller, bytes: Bytes) -> Result<Bytes, Status> {
        let LockRequest { name, lease } = decode(bytes)?;
        let taken = self.take_place(caller, &name, lease, Bytes::new()).await?;
        let turn = self.wait_for_turn(caller, &name, &taken.place).await?;
        let (revision, has_it) = self.has_place(caller, &taken.place).await?;
        turn.keep();
        if !has_it {
            return Err(Status::new(Code::Unknown, "mutex: session is expired"));
        }
        Ok(encode(&LockResponse { header: Some(self.header(revision)), key: taken.place.key }))
    }

    pub(in crate::service) async fn unlock(&self, caller: &Caller, bytes: Bytes) -> Result<Bytes, Status> {
        let UnlockRequest { key } = decode(bytes)?;
        let delete = DeleteRangeRequest { key, ..Default::default() };
        check::check_delete(&delete).map_err(|refusal| unknown(refusal.into()))?;
        let deleted = self.propose(caller, Tag::DeleteRange, &Bytes::from(delete.encode_to_vec())).await;
        let Applied::DeleteRange(mut deleted) = deleted.map_err(unknown)? else { return Err(Status::OTHER_ANSWER) };
        self.complete(&mut deleted.header);
        Ok(encode(&UnlockResponse { header: deleted.header }))
    }
}
