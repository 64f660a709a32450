//! `etcdserverpb.Maintenance/Downgrade`: answered as by etcd of the version that is told to clients, and remembered.
//!
//! Nothing else comes of it: what is stored here is no etcd's, of whatever version.

use bytes::Bytes;
use vlot_proto::etcdserverpb::downgrade_request::DowngradeAction;
use vlot_proto::etcdserverpb::{DowngradeInfo, DowngradeRequest, DowngradeResponse};
use vlot_store::command::Command;
use vlot_store::store::Store;

use crate::service::{Caller, ETCD_VERSION, Services, decode, encode};
use crate::status::Status;
use crate::store_machine::Proposal;

/// The fact that says to which version the cluster is to be downgraded.
const TARGET: &[u8] = b"downgrade";

impl Services {
    pub(in crate::service) async fn downgrade(&self, caller: &Caller, request: Bytes) -> Result<Bytes, Status> {
        let request: DowngradeRequest = decode(request)?;
        match DowngradeAction::try_from(request.action) {
            Ok(DowngradeAction::Validate) => drop(self.downgrade_target(&request.version).await?),
            Ok(DowngradeAction::Enable) => {
                let target = self.downgrade_target(&request.version).await?;
                self.remember_target(caller, target.into()).await?;
            }
            // As etcd, which does not mind if there is none.
            Ok(DowngradeAction::Cancel) => self.remember_target(caller, Bytes::new()).await?,
            Err(_) => return Err(Status::UNKNOWN_METHOD),
        }
        let revision = self.store_group.look(Store::revision).await?;
        Ok(encode(&DowngradeResponse { header: Some(self.header(revision)), version: ETCD_VERSION.to_owned() }))
    }

    /// To what the cluster is being downgraded.
    pub(in crate::service) fn downgrade_info(&self) -> DowngradeInfo {
        let target = self.store_group.facts().get(TARGET).cloned().unwrap_or_default();
        DowngradeInfo { enabled: !target.is_empty(), target_version: String::from_utf8_lossy(&target).into_owned() }
    }

    /// The version to which the cluster may be downgraded, if it is this one.
    async fn downgrade_target(&self, version: &str) -> Result<String, Status> {
        let (major, minor) = cluster_version(version).ok_or(Status::WRONG_DOWNGRADE_VERSION_FORMAT)?;
        self.store_group.barrier().await?;
        let own = cluster_version(ETCD_VERSION).unwrap_or_default();
        if (major, minor + 1) != own {
            return Err(Status::INVALID_DOWNGRADE_TARGET);
        }
        if self.downgrade_info().enabled {
            return Err(Status::DOWNGRADE_IN_PROCESS);
        }
        Ok(format!("{major}.{minor}.0"))
    }

    async fn remember_target(&self, caller: &Caller, value: Bytes) -> Result<(), Status> {
        // A fact is remembered whoever is behind it, and what this node knows of users may be of long ago.
        self.store_group.barrier().await?;
        self.require_root(caller)?;
        let fact = Command::SetAttribute { name: Bytes::from_static(TARGET), value };
        self.store_group.propose(Proposal::Command(fact)).await??;
        Ok(())
    }
}

/// Major and minor number of a version that is written with two or three numbers.
fn cluster_version(text: &str) -> Option<(u32, u32)> {
    let number = |text: &str| text.parse::<u32>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    let mut numbers = text.split('.').map(number);
    let (major, minor, patch) = (numbers.next()??, numbers.next()??, numbers.next());
    (patch != Some(None) && numbers.next().is_none()).then_some((major, minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_has_two_or_three_numbers() {
        let rows = [
            ("3.5.0", Some((3, 5))),
            ("3.5", Some((3, 5))),
            ("3.5.21", Some((3, 5))),
            ("3", None),
            ("", None),
            ("3.x", None),
            ("3.5.x", None),
            ("3.5.0.1", None),
            ("+3.5.0", None),
        ];
        for (text, expected) in rows {
            assert_eq!(cluster_version(text), expected, "{text}");
        }
    }
}
