//! `etcdserverpb.Maintenance/Alarm`, and what is refused before it is proposed for want of space.
//!
//! When an alarm is raised and lowered without being asked for is `space.rs`'s and `corruption.rs`'s business.

use bytes::Bytes;
use vlot_proto::etcdserverpb::alarm_request::AlarmAction;
use vlot_proto::etcdserverpb::{AlarmRequest, AlarmResponse, AlarmType};
use vlot_store::command::Tag;
use vlot_store::store::{Applied, Store};

use crate::service::{Caller, Services, decode, encode};
use crate::status::Status;

impl Services {
    /// A list is as new as the call, and costs no entry of the log.
    pub(in crate::service) async fn alarm(&self, caller: &Caller, bytes: Bytes) -> Result<Bytes, Status> {
        let request: AlarmRequest = decode(bytes.clone())?;
        let mut reply = if request.action == AlarmAction::Get as i32 {
            // A corrupt member says so, too.
            if !self.store_group.is_corrupt() {
                self.store_group.barrier().await?;
            }
            self.require_user(caller)?;
            let revision = self.store_group.look(Store::revision).await?;
            let alarms = self.store_group.alarms().borrow().list(request.alarm);
            AlarmResponse { header: Some(self.header(revision)), alarms }
        } else {
            let Applied::Alarm(reply) = self.propose(caller, Tag::Alarm, &bytes).await? else {
                return Err(Status::OTHER_ANSWER);
            };
            reply
        };
        self.complete(&mut reply.header);
        Ok(encode(&reply))
    }

    /// Refuses what would make a full store fuller. Deletions and compactions are never refused: they are the way out.
    pub(in crate::service) fn require_space(&self) -> Result<(), Status> {
        self.require_space_for(0)
    }

    /// The same for so many bytes.
    pub(in crate::service) fn require_space_for(&self, bytes: usize) -> Result<(), Status> {
        if self.store_group.alarms().borrow().has(AlarmType::Nospace) || !self.store_group.has_room() {
            return Err(Status::NO_SPACE);
        }
        let stored = self.store_group.stored_bytes();
        if self.quota_bytes.is_some_and(|quota| stored.saturating_add(bytes as u64) > quota) {
            self.quota_hit.notify_one();
            return Err(Status::NO_SPACE);
        }
        Ok(())
    }
}
