//! The alarm for want of space: raised when this member's history has reached the quota, lowered when there is room again.
//!
//! Owns when that is. An alarm that an operator has raised by hand is left to them: that this member raised its own is
//! remembered beside the keys. What an alarm refuses is the store's business.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use tracing::{error, info, warn};
use vlot_proto::etcdserverpb::alarm_request::AlarmAction;
use vlot_proto::etcdserverpb::{AlarmRequest, AlarmType};
use vlot_store::command::Command;

use crate::members::member::own_alarm_name;
use crate::service::Services;
use crate::store_group::SIZE_INTERVAL;

/// How often it is looked whether there is room again.
const RAISED_INTERVAL: Duration = Duration::from_millis(50);

/// What this member takes up, as seen against its quota.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Space {
    Used,
    Room,
    /// Between the two: what holds goes on.
    Scarce,
}

impl Space {
    fn of(stored: u64, quota: u64, was_hit: bool) -> Space {
        // With a little room more than a put needs, so that the alarm does not come and go.
        let low = quota - quota / 20;
        match stored {
            stored if stored > quota || (was_hit && stored > low) => Space::Used,
            stored if stored <= low => Space::Room,
            _ => Space::Scarce,
        }
    }
}

/// Holds this member's history against its quota, for ever.
pub(crate) async fn watch_quota(services: &Services) {
    let Some(quota) = services.quota_bytes() else { return };
    let store_group = &services.store_group;
    let member = services.membership.identity().member;
    let own = own_alarm_name(member);
    let mut interval = SIZE_INTERVAL;
    loop {
        let was_hit = timeout(interval, services.quota_hit.notified()).await.is_ok();
        let stored = store_group.stored_bytes();
        let is_raised = store_group.alarms().borrow().has_for(AlarmType::Nospace, member);
        let is_own = store_group.facts().contains_key(&own);
        interval = if is_raised { RAISED_INTERVAL } else { SIZE_INTERVAL };
        match Space::of(stored, quota, was_hit) {
            Space::Used if !is_raised => {
                error!(stored, quota, "no space: history has reached the quota; compact, delete, or raise the quota");
                propose(services, Command::SetAttribute { name: own.clone(), value: Bytes::from_static(b"quota") })
                    .await;
                propose(services, alarm(AlarmAction::Activate, member)).await;
            }
            Space::Room if is_raised && is_own => {
                info!(stored, quota, "there is space again");
                propose(services, alarm(AlarmAction::Deactivate, member)).await;
            }
            Space::Room if is_own => {
                propose(services, Command::SetAttribute { name: own.clone(), value: Bytes::new() }).await;
            }
            _ => {}
        }
    }
}

async fn propose(services: &Services, command: Command) {
    // What failed is tried again when it is looked at next.
    match services.store_group.propose_own(command).await {
        Ok(Ok(_)) => {}
        Ok(Err(refusal)) => warn!(%refusal, "the alarm for want of space was not changed"),
        Err(status) => warn!(error = %status.message, "the alarm for want of space was not changed"),
    }
}

fn alarm(action: AlarmAction, member_id: u64) -> Command {
    Command::Alarm(AlarmRequest { action: action.into(), member_id, alarm: AlarmType::Nospace.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alarm_is_lowered_some_way_below_where_it_is_raised() {
        let rows = [
            (1001, false, Space::Used),
            (1000, false, Space::Scarce),
            (1000, true, Space::Used),
            (951, false, Space::Scarce),
            (950, false, Space::Room),
            (950, true, Space::Room),
            (0, false, Space::Room),
        ];
        for (stored, was_hit, expected) in rows {
            assert_eq!(Space::of(stored, 1000, was_hit), expected, "{stored} {was_hit}");
        }
    }
}
