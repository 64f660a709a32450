//! How a node learns that it is no member any more, if it was not told: it was down meanwhile, or the word was lost.
//!
//! Consensus tells a voter that stands for election. A learner never does, so that a node without a leader asks.

use std::collections::BTreeSet;
use std::time::Duration;

use tracing::warn;

use crate::config::{Config, Url};
use crate::members::ask::PageClient;
use crate::members::identity::Identity;
use crate::members::member::Membership;
use crate::members::peer_pages::{CLUSTER_ID, GONE, member_page};
use crate::store_group::StoreGroup;

/// How long one member may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// So many election timeouts without a leader are reason to ask.
const PATIENCE: u32 = 3;

/// Asks the other members, while no leader is known, whether this node is one of them, until one says that it was
/// removed. Ids are never given again, so that one member that knows is enough.
pub(crate) async fn ask_whether_removed(
    config: &Config,
    page_client: &PageClient,
    store_group: &StoreGroup,
    membership: &Membership,
) {
    loop {
        tokio::time::sleep(PATIENCE * config.election_timeout).await;
        if store_group.has_leader() {
            continue;
        }
        for url in urls(config, store_group, membership) {
            if !store_group.has_leader() && is_gone(page_client, &url, membership.identity()).await {
                warn!(by = %url, "told that this member was removed");
                return store_group.note_removed();
            }
        }
    }
}

/// Where the others are, by what this node's log says, and by what it was told when it began.
fn urls(config: &Config, store_group: &StoreGroup, membership: &Membership) -> BTreeSet<Url> {
    let own = membership.identity().member;
    let members = store_group.list(membership).into_iter().filter(|member| member.id != own);
    let known = members.filter_map(|member| Url::parse(member.peer_ur_ls.first()?).ok());
    let told = config.cluster.members.iter().filter(|(name, _)| *name != config.name);
    known.chain(told.filter_map(|(_, urls)| urls.first().cloned())).collect()
}

async fn is_gone(page_client: &PageClient, url: &Url, Identity { cluster, member }: Identity) -> bool {
    let answer = page_client.ask(url, &member_page(member), ANSWER_TIMEOUT).await;
    answer.is_ok_and(|answer| answer.status == GONE && answer.id(CLUSTER_ID) == Some(cluster))
}
