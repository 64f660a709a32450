//! Whether all members have the same data: they compare digests of their key history.
//!
//! The leader compares what was compacted, which all members have digested at the same point of the log, and from time to
//! time all of history. A member that differs from the majority is named by the alarm CORRUPT: nothing is written any more,
//! and that member answers no linearizable read and does not lead. A member that starts compares its data with the others'
//! before it serves clients. Owns whom to ask, when, and the verdict. What goes into a digest is the store's business.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tracing::{debug, error, info, warn};
use vlot_proto::etcdserverpb::alarm_request::AlarmAction;
use vlot_proto::etcdserverpb::{AlarmRequest, AlarmType};
use vlot_store::command::Command;
use vlot_store::hash::HistoryHash;

use crate::config::{CorruptionChecks, Url};
use crate::members::ask::PageClient;
use crate::members::peer_pages::{ACCEPTED, BEHIND, CLUSTER_ID, MEMBER_ID, hash_page, read_hash};
use crate::service::Services;
use crate::status::{COMPACTED, Status};
use crate::upkeep::history_hashes::Outcome;

/// How long one member may take to say something.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two questions to a member that is making its digest.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// How long a member may take to make a digest of all of history.
const PERIODIC_TIMEOUT: Duration = Duration::from_secs(300);
/// How often, and how long, members that say nothing are waited for when without them nobody knows who is right.
const HESITATIONS_MAX: usize = 10;
const HESITATION: Duration = Duration::from_secs(1);
/// Between two attempts of a leader whose data is corrupt to be one no longer.
const STEP_DOWN_PAUSE: Duration = Duration::from_secs(1);

/// Compares by these rules, for ever.
pub(crate) async fn check_by(checks: CorruptionChecks, services: &Services) {
    let compacted = async {
        let Some(interval) = checks.after_compaction else { return };
        let mut checked = 0;
        loop {
            sleep(interval).await;
            if services.leads() {
                checked = check_compacted(services, checked).await;
            }
        }
    };
    let all = async {
        let Some(interval) = checks.periodic else { return };
        loop {
            sleep(interval).await;
            if services.leads() {
                check_all(services).await;
            }
        }
    };
    tokio::join!(compacted, all, step_down(services));
}

/// Compares the newest compaction that all members have digested and that was not compared yet. Returns the revision up to
/// which that is done.
async fn check_compacted(services: &Services, checked: i64) -> i64 {
    for own in services.hashes.newest().into_iter().filter(|hash| hash.revision > checked) {
        let within = services.store_group.request_timeout();
        let question = Question { revision: own.revision, within, waits_for_lag: false };
        if judge(services, own, question).await != Verdict::SomeUnknown {
            return own.revision;
        }
        // One may be down, or has not come as far: an older one will do.
    }
    checked
}

/// Compares all of history as it is at this moment.
async fn check_all(services: &Services) {
    let Ok(view) = services.store_group.local_view().await else { return };
    let Ok(own) = services.hashes.made_of(view, 0).await else { return };
    let question = Question { revision: own.revision, within: PERIODIC_TIMEOUT, waits_for_lag: true };
    judge(services, own, question).await;
}

async fn step_down(services: &Services) {
    loop {
        sleep(STEP_DOWN_PAUSE).await;
        if services.store_group.is_corrupt() && services.leads() {
            warn!("the leadership is given up: this member's data is not that of the others");
            services.store_group.give_up_leadership().await;
        }
    }
}

/// Asks, compares, and raises the alarm for those that differ.
async fn judge(services: &Services, own: HistoryHash, question: Question) -> Verdict {
    let member = services.membership.identity().member;
    let mut others = ask_others(services, question).await;
    let mut verdict = compare((member, own), &others);
    for _ in 0..HESITATIONS_MAX {
        let some_are_unknown = others.iter().any(|other| other.hash.is_none_or(|hash| !is_comparable(&hash, &own)));
        if verdict != Verdict::Differ(vec![0]) || !some_are_unknown {
            break;
        }
        // Those that have not said anything yet will tell which of the others is right.
        sleep(HESITATION).await;
        others = ask_others(services, question).await;
        verdict = compare((member, own), &others);
    }
    match &verdict {
        Verdict::AllTheSame => debug!(revision = own.revision, "all members have the same data"),
        Verdict::SomeUnknown => debug!(revision = own.revision, "not all members could be compared"),
        Verdict::Differ(members) => {
            for other in &others {
                let Some(hash) = other.hash else { continue };
                let (id, name) = (format!("{:x}", other.member), &other.name);
                error!(
                    member = id,
                    name,
                    hash = hash.hash,
                    own = own.hash,
                    revision = own.revision,
                    "digests compared"
                );
            }
            for &member in members {
                raise(services, member, own.revision).await;
            }
        }
    }
    verdict
}

async fn raise(services: &Services, member: u64, revision: i64) {
    let name = services.members().into_iter().find(|other| other.id == member).map(|other| other.name);
    let id = format!("{member:x}");
    match name {
        Some(name) => error!(member = id, name, revision, "CORRUPT: this member's data is not that of the others"),
        None => error!(revision, "CORRUPT: members' data differ, and no majority has the same"),
    }
    let kind = AlarmType::Corrupt;
    if services.store_group.alarms().borrow().has_for(kind, member) {
        return;
    }
    let request = AlarmRequest { action: AlarmAction::Activate.into(), member_id: member, alarm: kind.into() };
    match services.store_group.propose_own(Command::Alarm(request)).await {
        Ok(Ok(_)) => {}
        Ok(Err(refusal)) => warn!(member = id, %refusal, "the alarm was not raised"),
        Err(status) => warn!(member = id, error = %status.message, "the alarm was not raised"),
    }
}

/// What another member says of its data.
#[derive(Clone, Debug)]
struct Other {
    member: u64,
    name: String,
    /// None if it does not say.
    hash: Option<HistoryHash>,
}

/// What comes of a comparison.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Verdict {
    AllTheSame,
    /// Those that could be compared are the same.
    SomeUnknown,
    /// These differ from the majority; 0 if there is none, as in etcd.
    Differ(Vec<u64>),
}

/// Digests are compared that begin at the same compaction: another one says nothing.
fn compare((member, own): (u64, HistoryHash), others: &[Other]) -> Verdict {
    let mut by_hash = BTreeMap::from([(own.hash, vec![member])]);
    for other in others {
        let comparable = other.hash.filter(|hash| is_comparable(hash, &own));
        if let Some(hash) = comparable {
            by_hash.entry(hash.hash).or_default().push(other.member);
        }
    }
    let members = others.len() + 1;
    let compared: usize = by_hash.values().map(Vec::len).sum();
    if by_hash.len() == 1 {
        return if compared == members { Verdict::AllTheSame } else { Verdict::SomeUnknown };
    }
    let quorum = members / 2 + 1;
    let Some(right) = by_hash.iter().find(|(_, members)| members.len() >= quorum).map(|(hash, _)| *hash) else {
        return Verdict::Differ(vec![0]);
    };
    by_hash.remove(&right);
    let mut differ: Vec<u64> = by_hash.into_values().flatten().collect();
    differ.sort_unstable();
    Verdict::Differ(differ)
}

fn is_comparable(one: &HistoryHash, other: &HistoryHash) -> bool {
    (one.revision, one.compacted_revision) == (other.revision, other.compacted_revision)
}

/// What other members are asked.
#[derive(Clone, Copy, Debug)]
struct Question {
    revision: i64,
    /// How long one may be making its digest.
    within: Duration,
    /// Whether one that has not come to that revision yet is asked again.
    waits_for_lag: bool,
}

/// Asks all other members for their digest at a revision, for as long as they say that they are making it.
async fn ask_others(services: &Services, question: Question) -> Vec<Other> {
    let identity = services.membership.identity();
    let mut asked = JoinSet::new();
    for member in services.members().into_iter().filter(|member| member.id != identity.member && !member.is_witness) {
        let url = member.peer_ur_ls.first().and_then(|url| Url::parse(url).ok());
        let page_client = services.page_client.clone();
        asked.spawn(async move {
            let hash = match url {
                Some(url) => ask_one(&page_client, &url, (identity.cluster, member.id), question).await,
                None => None,
            };
            Other { member: member.id, name: member.name, hash }
        });
    }
    asked.join_all().await
}

async fn ask_one(
    page_client: &PageClient,
    url: &Url,
    (cluster, member): (u64, u64),
    question: Question,
) -> Option<HistoryHash> {
    let Question { revision, within, waits_for_lag } = question;
    let deadline = Instant::now() + within;
    loop {
        let answer = page_client.ask(url, &hash_page(revision), ANSWER_TIMEOUT).await.ok()?;
        if (answer.id(CLUSTER_ID), answer.id(MEMBER_ID)) != (Some(cluster), Some(member)) {
            return None;
        }
        match answer.status {
            ACCEPTED => {}
            BEHIND if waits_for_lag => {}
            _ => return read_hash(&answer),
        }
        if Instant::now() >= deadline {
            return None;
        }
        sleep(ASK_AGAIN).await;
    }
}

/// A member whose data is that of no other member that answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Corrupt {
    /// The revision at which they were compared.
    revision: i64,
    /// The names of those whose data is another.
    others: Vec<String>,
}

impl fmt::Display for Corrupt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "this member's data at revision {} is not that of {}: it is damaged; remove the member, and add it again with an \
             empty data directory (--experimental-initial-corrupt-check=false starts it as it is)",
            self.revision,
            self.others.join(", ")
        )
    }
}

impl std::error::Error for Corrupt {}

/// Compares this member's data with that of the others that answer. Does not wait for those that do not.
///
/// # Errors
/// Some have other data, and none has the same.
pub(crate) async fn check_at_start(services: &Services) -> Result<(), Corrupt> {
    let Ok(view) = services.store_group.local_view().await else { return Ok(()) };
    if services.members().len() < 2 || view.revision() <= 1 {
        return Ok(());
    }
    let revision = view.revision();
    // Those that are there begin at once to make theirs.
    let within = services.store_group.request_timeout();
    let question = Question { revision, within, waits_for_lag: false };
    let (own, others) = tokio::join!(services.hashes.made_of(view, revision), ask_others(services, question));
    let Ok(own) = own else { return Ok(()) };
    let compared: Vec<_> =
        others.iter().filter(|other| other.hash.is_some_and(|hash| is_comparable(&hash, &own))).collect();
    let differ: Vec<_> = compared.iter().filter(|other| other.hash.is_some_and(|hash| hash.hash != own.hash)).collect();
    if !differ.is_empty() && differ.len() == compared.len() {
        return Err(Corrupt { revision, others: differ.iter().map(|other| other.name.clone()).collect() });
    }
    info!(revision, compared = compared.len(), "this member's data was compared with that of others");
    Ok(())
}

impl Services {
    fn leads(&self) -> bool {
        self.store_group.raft_status().leader == self.membership.identity().member
    }

    /// Makes a digest that another member has asked for, once history here has come that far.
    pub(crate) async fn make_hash_for_others(&self, revision: i64) {
        let made = async {
            let view = self.store_group.local_view().await?;
            self.hashes.made_of(view, revision).await
        };
        let outcome = match made.await {
            Ok(hash) => Some(Outcome::Known(hash)),
            Err(Status { message, .. }) if message == COMPACTED => Some(Outcome::Gone),
            // This member may be behind.
            Err(_) => None,
        };
        self.hashes.tell(revision, outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other(member: u64, hash: Option<u32>) -> Other {
        let hash = hash.map(|hash| HistoryHash { hash, revision: 9, compacted_revision: 3 });
        Other { member, name: format!("n{member}"), hash }
    }

    #[test]
    fn those_that_differ_from_a_majority_of_all_members_are_named() {
        use Verdict::{AllTheSame, Differ, SomeUnknown};
        let rows: [(&[Option<u32>], Verdict); 11] = [
            (&[], AllTheSame),
            (&[Some(1), Some(1)], AllTheSame),
            (&[Some(1), None], SomeUnknown),
            (&[None, None], SomeUnknown),
            (&[Some(1), Some(2)], Differ(vec![3])),
            (&[Some(2), Some(2)], Differ(vec![1])),
            (&[Some(2), Some(3)], Differ(vec![0])),
            // The one that says nothing counts.
            (&[Some(2), None], Differ(vec![0])),
            (&[Some(2)], Differ(vec![0])),
            (&[Some(1), Some(2), Some(2)], Differ(vec![0])),
            (&[Some(1), Some(1), Some(2), Some(3)], Differ(vec![4, 5])),
        ];
        let own = HistoryHash { hash: 1, revision: 9, compacted_revision: 3 };
        for (hashes, expected) in rows {
            let others: Vec<_> = (2..).zip(hashes).map(|(member, hash)| other(member, *hash)).collect();
            assert_eq!(compare((1, own), &others), expected, "{hashes:?}");
        }
        let elsewhere = HistoryHash { compacted_revision: 4, hash: 2, ..own };
        let others = [Other { hash: Some(elsewhere), ..other(2, None) }];
        assert_eq!(compare((1, own), &others), Verdict::SomeUnknown);
    }
}
