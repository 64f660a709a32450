//! What each RPC needs of its caller when authentication is on.
//!
//! Owns the table, and what is checked before a service begins. What a request needs that is about keys or leases, or that
//! ends in a command, is held against the store where it is answered, and against replicated state where it is applied
//! (`vlot_store::auth`). Must not know how a caller shows who it is.

use vlot_store::auth::Asked;
use vlot_store::refusal::Refusal;
use vlot_store::store::Store;

use super::{Caller, Services};
use crate::rpc::Rpc;
use crate::status::Status;

/// What an RPC needs of its caller.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Need {
    /// Nothing: nobody is asked.
    Nothing,
    /// To be some user.
    User,
    /// To be root.
    Root,
    /// It depends on what is asked for: its service holds each request against the store.
    AsAsked,
}

/// What an RPC needs.
pub(crate) fn need(rpc: Rpc) -> Need {
    match rpc {
        // A password is given by somebody who is nobody yet.
        Rpc::HealthCheck | Rpc::HealthWatch | Rpc::Authenticate => Need::Nothing,
        Rpc::MemberList | Rpc::Status => Need::User,
        Rpc::MemberAdd | Rpc::MemberRemove | Rpc::MemberUpdate | Rpc::MemberPromote => Need::Root,
        Rpc::ListQuotas => Need::Root,
        Rpc::Hash | Rpc::HashKv | Rpc::Snapshot | Rpc::Defragment | Rpc::Downgrade | Rpc::MoveLeader => Need::Root,
        Rpc::Range | Rpc::RangeStream | Rpc::Txn | Rpc::Watch => Need::AsAsked,
        // These end in a command, which is looked at when it is applied.
        Rpc::Put | Rpc::DeleteRange | Rpc::Compact | Rpc::LeaseGrant | Rpc::LeaseRevoke | Rpc::LeaseKeepAlive => {
            Need::AsAsked
        }
        Rpc::LeaseTimeToLive | Rpc::LeaseLeases => Need::AsAsked,
        // The keys of a queue are keys like others.
        Rpc::Lock | Rpc::Unlock | Rpc::Campaign | Rpc::Proclaim | Rpc::Leader | Rpc::Observe | Rpc::Resign => {
            Need::AsAsked
        }
        // Changes are commands. What is read is looked at in the state that answers it.
        Rpc::AuthEnable
        | Rpc::AuthDisable
        | Rpc::AuthStatus
        | Rpc::UserAdd
        | Rpc::UserGet
        | Rpc::UserList
        | Rpc::UserDelete
        | Rpc::UserChangePassword
        | Rpc::UserGrantRole
        | Rpc::UserRevokeRole
        | Rpc::RoleAdd
        | Rpc::RoleGet
        | Rpc::RoleList
        | Rpc::RoleDelete
        | Rpc::RoleGrantPermission
        | Rpc::RoleRevokePermission => Need::AsAsked,
        Rpc::SetQuota | Rpc::RemoveQuota => Need::AsAsked,
        // Anybody may ask for a list of alarms who is a user.
        Rpc::Alarm => Need::AsAsked,
        // There is nothing behind it.
        Rpc::Absent(_) => Need::Nothing,
    }
}

impl Services {
    /// Refuses a call before its service begins, as far as that can be known then.
    pub(super) fn admit(&self, rpc: Rpc, caller: &Caller) -> Result<(), Status> {
        match need(rpc) {
            Need::Nothing | Need::AsAsked => Ok(()),
            Need::User => self.require_user(caller),
            Need::Root => self.require_root(caller),
        }
    }

    pub(super) fn require_user(&self, caller: &Caller) -> Result<(), Status> {
        Ok(self.store_group.auth().admit(caller.identity.as_ref(), false)?)
    }

    /// Refuses a command of a client that has not said who it is. It would be refused when it is applied; so it does not get
    /// into the log of all members.
    pub(super) async fn require_name(&self, caller: &Caller) -> Result<(), Status> {
        if caller.identity.is_none() && self.store_group.asks_who_calls() {
            // Unless authentication was disabled, and this member has not heard of it.
            self.store_group.barrier().await?;
            if self.store_group.asks_who_calls() {
                return Err(Refusal::UserEmpty.into());
            }
        }
        Ok(())
    }

    pub(super) fn require_root(&self, caller: &Caller) -> Result<(), Status> {
        Ok(self.store_group.auth().admit(caller.identity.as_ref(), true)?)
    }
}

impl Caller {
    /// Whether it may do this, as the store knows it at this moment.
    pub(super) fn may(&self, store: &Store, asked: Asked<'_>) -> Result<(), Refusal> {
        store.authorise(self.identity.as_ref(), asked)
    }

    /// The same in a call that goes on for long.
    pub(super) fn may_still(&self, store: &Store, asked: Asked<'_>) -> Result<(), Refusal> {
        store.authorise_again(self.identity.as_ref(), asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::PRESENT;

    /// As `docs/etcd-compatibility.md` says it of each RPC.
    #[test]
    fn every_rpc_has_its_need() {
        let rows = [
            (
                Need::Nothing,
                &["grpc.health.v1.Health/Check", "grpc.health.v1.Health/Watch", "etcdserverpb.Auth/Authenticate"][..],
            ),
            (Need::User, &["etcdserverpb.Cluster/MemberList", "etcdserverpb.Maintenance/Status"]),
            (
                Need::Root,
                &[
                    "etcdserverpb.Cluster/MemberAdd",
                    "etcdserverpb.Cluster/MemberRemove",
                    "etcdserverpb.Cluster/MemberUpdate",
                    "etcdserverpb.Cluster/MemberPromote",
                    "etcdserverpb.Maintenance/Hash",
                    "etcdserverpb.Maintenance/HashKV",
                    "etcdserverpb.Maintenance/Snapshot",
                    "etcdserverpb.Maintenance/Defragment",
                    "etcdserverpb.Maintenance/Downgrade",
                    "etcdserverpb.Maintenance/MoveLeader",
                    "vlotpb.Limits/ListQuotas",
                ],
            ),
        ];
        for (path, rpc) in PRESENT {
            let row = rows.iter().find(|(_, paths)| paths.contains(&&path[1..]));
            assert_eq!(need(rpc), row.map_or(Need::AsAsked, |(need, _)| *need), "{path}");
        }
    }
}
