//! Alarms: what is wrong with a member, and which commands are refused on all of them until it is over.
//!
//! An alarm is raised and lowered by a command, so that every member refuses the same. Owns which alarms there are, how
//! they are kept (among the attributes, so that any version reads them) and what they refuse. Must not know when one is
//! raised.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;
use vlot_proto::etcdserverpb::alarm_request::AlarmAction;
use vlot_proto::etcdserverpb::{AlarmMember, AlarmRequest, AlarmType};

use crate::check;
use crate::command::Command;
use crate::refusal::Refusal;

/// What the names of alarms begin with.
const PREFIX: &str = "alarm/";

/// The alarms that are raised.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Alarms {
    /// By kind, then by member. Kinds that are not known here are kept as they come, as in etcd.
    raised: BTreeSet<(i32, u64)>,
}

impl Alarms {
    /// Those that are among these attributes.
    pub fn of<'a>(attributes: impl Iterator<Item = (&'a Bytes, &'a Bytes)>) -> Self {
        let alarms = attributes.filter(|(name, _)| name.starts_with(PREFIX.as_bytes()));
        let raised = alarms.filter_map(|(_, value)| AlarmMember::decode(value.clone()).ok());
        Self { raised: raised.map(|alarm| (alarm.alarm, alarm.member_id)).collect() }
    }

    /// Those of a kind; of all kinds for `NONE`.
    pub fn list(&self, kind: i32) -> Vec<AlarmMember> {
        let is_wanted = |found: i32| kind == AlarmType::None as i32 || kind == found;
        let raised = self.raised.iter().filter(|(found, _)| is_wanted(*found));
        raised.map(|&(alarm, member_id)| AlarmMember { member_id, alarm }).collect()
    }

    /// Whether this alarm is raised for any member.
    #[must_use]
    pub fn has(&self, kind: AlarmType) -> bool {
        self.raised.range((kind as i32, 0)..=(kind as i32, u64::MAX)).next().is_some()
    }

    /// Whether this alarm is raised for this member.
    #[must_use]
    pub fn has_for(&self, kind: AlarmType, member: u64) -> bool {
        self.raised.contains(&(kind as i32, member))
    }

    /// Whether a command may be carried out. Deletions and compactions are the way out of want of space; data that is
    /// not the same on all members is changed by nothing.
    ///
    /// # Errors
    /// `Corrupt` or `NoSpace`.
    pub fn admit(&self, command: &Command) -> Result<(), Refusal> {
        if self.raised.is_empty() {
            return Ok(());
        }
        let command = command.plain();
        let changes = match command {
            Command::Put(_) | Command::DeleteRange(_) | Command::Txn(_) | Command::Compact(_) => true,
            Command::LeaseGrant(_) | Command::LeaseRevoke(_) => true,
            // Time goes on, and what it ends.
            Command::LeaseKeepAlive(_) | Command::LeaseTime(_) => false,
            Command::SetAttribute { .. } | Command::Alarm(_) => false,
            // As in etcd, who may do what can be changed, alarm or none.
            Command::Auth(_) => false,
            // A limit is a way out of want of space.
            Command::SetQuota(_) | Command::RemoveQuota(_) => false,
            // What is plain has no asker.
            Command::By { .. } => false,
        };
        if changes && self.has(AlarmType::Corrupt) {
            return Err(Refusal::Corrupt);
        }
        let grows = match command {
            Command::Put(_) | Command::LeaseGrant(_) => true,
            Command::Txn(txn) => check::has_put(txn),
            _ => false,
        };
        if grows && self.has(AlarmType::Nospace) {
            return Err(Refusal::NoSpace);
        }
        Ok(())
    }

    /// Does what is asked, and returns what etcd answers: the alarms that are listed, or the one that is or was raised.
    /// Beside it what is to be remembered.
    pub(crate) fn carry_out(&mut self, request: &AlarmRequest) -> (Vec<AlarmMember>, Option<(Bytes, Bytes)>) {
        let alarm = AlarmMember { member_id: request.member_id, alarm: request.alarm };
        let place = (alarm.alarm, alarm.member_id);
        match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Get) => (self.list(request.alarm), None),
            Ok(AlarmAction::Activate) if alarm.alarm != AlarmType::None as i32 => {
                let is_new = self.raised.insert(place);
                (vec![alarm], is_new.then(|| (name_of(&alarm), alarm.encode_to_vec().into())))
            }
            Ok(AlarmAction::Deactivate) if self.raised.remove(&place) => {
                (vec![alarm], Some((name_of(&alarm), Bytes::new())))
            }
            _ => (Vec::new(), None),
        }
    }
}

fn name_of(alarm: &AlarmMember) -> Bytes {
    Bytes::from(format!("{PREFIX}{}/{:016x}", alarm.alarm, alarm.member_id))
}

#[cfg(test)]
mod tests {
    use vlot_proto::etcdserverpb::request_op::Request;
    use vlot_proto::etcdserverpb::{
        CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest,
        RequestOp, TxnRequest,
    };

    use super::*;

    fn request(action: AlarmAction, member_id: u64, alarm: AlarmType) -> AlarmRequest {
        AlarmRequest { action: action.into(), member_id, alarm: alarm.into() }
    }

    #[test]
    fn requests_are_answered_as_by_etcd() {
        use AlarmAction::{Activate, Deactivate, Get};
        use AlarmType::{Corrupt, None, Nospace};
        let shown = |alarms: &[AlarmMember]| alarms.iter().map(|a| (a.alarm, a.member_id)).collect::<Vec<_>>();
        let mut alarms = Alarms::default();
        type Row<'a> = (AlarmRequest, &'a [(i32, u64)], bool);
        let rows: [Row<'_>; 11] = [
            (request(Get, 0, None), &[], false),
            (request(Activate, 7, None), &[], false),
            (request(Activate, 7, Nospace), &[(1, 7)], true),
            (request(Activate, 7, Nospace), &[(1, 7)], false),
            (request(Activate, 0, Corrupt), &[(2, 0)], true),
            (request(Get, 9, None), &[(1, 7), (2, 0)], false),
            (request(Get, 9, Corrupt), &[(2, 0)], false),
            (request(Deactivate, 9, Nospace), &[], false),
            (request(Deactivate, 7, None), &[], false),
            (request(Deactivate, 7, Nospace), &[(1, 7)], true),
            (AlarmRequest { action: 9, member_id: 7, alarm: 1 }, &[], false),
        ];
        for (asked, answer, remembered) in rows {
            let (listed, kept) = alarms.carry_out(&asked);
            assert_eq!((shown(&listed), kept.is_some()), (answer.to_vec(), remembered), "{asked:?}");
        }
    }

    #[test]
    fn what_is_refused_depends_on_the_kind_of_alarm() {
        let op = |request| RequestOp { request: Some(request) };
        let put = || op(Request::RequestPut(PutRequest::default()));
        let txn = |op: RequestOp| Command::Txn(TxnRequest { failure: vec![op], ..Default::default() });
        let nested = op(Request::RequestTxn(TxnRequest { success: vec![put()], ..Default::default() }));
        let rows = [
            (Command::Put(PutRequest::default()), true),
            (Command::DeleteRange(DeleteRangeRequest::default()), false),
            (Command::Compact(CompactionRequest::default()), false),
            (Command::LeaseGrant(LeaseGrantRequest::default()), true),
            (Command::LeaseRevoke(LeaseRevokeRequest::default()), false),
            (txn(put()), true),
            (txn(nested), true),
            (txn(op(Request::RequestRange(RangeRequest::default()))), false),
        ];
        let mut alarms = Alarms::default();
        alarms.carry_out(&request(AlarmAction::Activate, 7, AlarmType::Nospace));
        for (command, grows) in &rows {
            let expected = if *grows { Err(Refusal::NoSpace) } else { Ok(()) };
            assert_eq!(alarms.admit(command), expected, "{command:?}");
        }
        alarms.carry_out(&request(AlarmAction::Activate, 8, AlarmType::Corrupt));
        assert!(rows.iter().all(|(command, _)| alarms.admit(command) == Err(Refusal::Corrupt)));
        let fact = Command::SetAttribute { name: "a".into(), value: "b".into() };
        assert_eq!(alarms.admit(&fact), Ok(()));
        assert_eq!(alarms.admit(&Command::Alarm(AlarmRequest::default())), Ok(()));
    }
}
