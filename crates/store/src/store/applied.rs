//! What commands give.

use vlot_proto::etcdserverpb::{
    AlarmResponse, CompactionResponse, DeleteRangeResponse, LeaseGrantResponse, LeaseRevokeResponse, PutResponse,
    TxnResponse,
};
use vlot_proto::vlotpb::{RemoveQuotaResponse, SetQuotaResponse};

#[cfg(doc)]
use super::Store;

/// What a command did.
#[derive(Clone, Debug, PartialEq)]
pub enum Applied {
    /// To a put.
    Put(PutResponse),
    /// To a deletion.
    DeleteRange(DeleteRangeResponse),
    /// To a transaction.
    Txn(TxnResponse),
    /// To a compaction. With `physical` set the server waits while [`Store::is_compacting`].
    Compact(CompactionResponse),
    /// The fact is remembered.
    SetAttribute,
    /// To a grant.
    LeaseGrant(LeaseGrantResponse),
    /// To a revocation.
    LeaseRevoke(LeaseRevokeResponse),
    /// Leases are renewed.
    LeaseKeepAlive {
        /// The newest revision then.
        revision: i64,
        /// The time to live of each, in seconds, in the order of the command. Zero for one that there is not, minus one for
        /// one that may not be renewed by who asks.
        ttls: Vec<i64>,
    },
    /// Cluster time has moved on, if it was told in the term of its command.
    LeaseTime {
        /// How many leases have ended.
        ended: usize,
    },
    /// To an alarm.
    Alarm(AlarmResponse),
    /// Users and roles are as the command wants them.
    Auth {
        /// The newest revision of the keys then.
        revision: i64,
    },
    /// To a quota that is set.
    SetQuota(SetQuotaResponse),
    /// To a quota that is removed.
    RemoveQuota(RemoveQuotaResponse),
}
