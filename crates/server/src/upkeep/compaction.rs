//! Compaction by rule: `--auto-compaction-mode` and `--auto-compaction-retention`.
//!
//! Owns when a compaction is proposed, and up to which revision. Only the leader proposes; the others watch along, so
//! that one that takes over knows how old which revision is.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};
use vlot_proto::etcdserverpb::CompactionRequest;
use vlot_store::command::Command;
use vlot_store::store::Store;

use crate::config::AutoCompaction;
use crate::store_group::StoreGroup;

/// How often history is held against a number of revisions to keep.
const REVISION_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// The longest time between two compactions by age, however long history is kept.
const PERIOD_MAX: Duration = Duration::from_secs(3600);
/// How many times in a period the revision is noted down.
const SAMPLES_PER_PERIOD: u32 = 10;

/// Compacts by this rule for ever.
pub(crate) async fn compact_by(rule: AutoCompaction, store_group: Arc<StoreGroup>, member: u64) {
    match rule {
        AutoCompaction::Revision(kept) => loop {
            tokio::time::sleep(REVISION_INTERVAL).await;
            // A store that has stopped is looked at again.
            if let Ok(newest) = store_group.look(Store::revision).await {
                compact(&store_group, member, newest - kept).await;
            }
        },
        AutoCompaction::Periodic(kept) => {
            let period = kept.min(PERIOD_MAX);
            let mut history = History::new(kept);
            let mut next = Instant::now() + kept;
            loop {
                tokio::time::sleep(period / SAMPLES_PER_PERIOD).await;
                let now = Instant::now();
                let Ok(newest) = store_group.look(Store::revision).await else { continue };
                history.note(now, newest);
                if now >= next
                    && let Some(revision) = history.revision_before(now)
                {
                    compact(&store_group, member, revision).await;
                    next = now + period;
                }
            }
        }
    }
}

async fn compact(store_group: &StoreGroup, member: u64, revision: i64) {
    let Ok(compacted) = store_group.look(Store::compacted_revision).await else { return };
    if revision <= compacted.max(0) || store_group.raft_status().leader != member {
        return;
    }
    let command = Command::Compact(CompactionRequest { revision, physical: false });
    match store_group.propose_own(command).await {
        Ok(Ok(_)) => info!(revision, "compacted by rule"),
        Ok(Err(refusal)) => warn!(revision, %refusal, "compaction by rule was refused"),
        Err(status) => warn!(revision, error = %status.message, "compaction by rule failed"),
    }
}

/// Which revision was the newest when.
struct History {
    kept: Duration,
    samples: VecDeque<(Instant, i64)>,
}

impl History {
    fn new(kept: Duration) -> History {
        History { kept, samples: VecDeque::new() }
    }

    fn note(&mut self, now: Instant, revision: i64) {
        self.samples.push_back((now, revision));
    }

    /// The revision that was the newest `kept` ago; forgets what is older.
    fn revision_before(&mut self, now: Instant) -> Option<i64> {
        let is_old = |(at, _): &(Instant, i64)| now.duration_since(*at) >= self.kept;
        while self.samples.get(1).is_some_and(is_old) {
            self.samples.pop_front();
        }
        self.samples.front().filter(|sample| is_old(sample)).map(|(_, revision)| *revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_revision_of_a_period_ago_is_the_newest_one_that_is_old_enough() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut history = History::new(Duration::from_secs(10));
        for (seconds, revision) in [(0, 1), (5, 20), (10, 30), (15, 40)] {
            history.note(at(seconds), revision);
        }
        assert_eq!(history.revision_before(at(9)), None);
        assert_eq!(history.revision_before(at(10)), Some(1));
        assert_eq!(history.revision_before(at(15)), Some(20));
        assert_eq!(history.revision_before(at(24)), Some(30));
        assert_eq!(history.samples.len(), 2);
    }
}
