//! How a node without data finds its place: it asks the members that `--initial-cluster` names for the cluster's members,
//! and finds itself among them by its peer URLs.
//!
//! Owns what must hold for a node to join a cluster, or to begin one. Must not touch the disk.

mod error;

use std::time::Duration;

use tokio::task::JoinSet;
use vlot_proto::etcdserverpb::Member;

use crate::config::{Config, Url};
use crate::members::ask::PageClient;
use crate::members::identity::Identity;
use crate::members::member::Membership;
use crate::members::peer_pages::{MEMBERS, read_members};

pub(crate) use error::JoinError;
use error::Silence;

/// How long one member may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long members are asked that may not have heard of this node yet, and how often.
const ATTEMPTS: u32 = 10;
const ATTEMPT_PAUSE: Duration = Duration::from_millis(200);

/// A place in a cluster that runs.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Place {
    pub(crate) identity: Identity,
    /// Where the other members listen.
    pub(crate) others: Vec<(u64, String)>,
}

/// What one member says of its cluster.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    by: Url,
    cluster: u64,
    members: Vec<Member>,
}

/// Finds this node among the members of the cluster that `--initial-cluster` names.
///
/// # Errors
/// No member answers, or the answers and the flags do not go together.
pub(crate) async fn find_place(config: &Config, page_client: &PageClient) -> Result<Place, JoinError> {
    let mut attempts = ATTEMPTS;
    loop {
        let (told, silent) = ask_all(config, page_client).await;
        if told.is_empty() {
            return Err(if silent.is_empty() { JoinError::NoOthers } else { JoinError::NoAnswer { silent } });
        }
        attempts -= 1;
        match judge(config, &told) {
            Err(error) if error.may_pass() && attempts > 0 => tokio::time::sleep(ATTEMPT_PAUSE).await,
            judged => return judged,
        }
    }
}

/// Refuses to begin a cluster that runs already, and in which this very member has been started: its data is elsewhere,
/// or lost.
///
/// # Errors
/// [`JoinError::Bootstrapped`].
pub(crate) async fn refuse_second_beginning(
    config: &Config,
    page_client: &PageClient,
    membership: &Membership,
) -> Result<(), JoinError> {
    let Identity { cluster, member } = membership.identity();
    let (told, _) = ask_all(config, page_client).await;
    let knows_it = |told: &Told| {
        let own = told.members.iter().find(|other| other.id == member);
        told.cluster == cluster && own.is_some_and(|own| !own.client_ur_ls.is_empty())
    };
    match told.into_iter().find(knows_it) {
        None => Ok(()),
        Some(Told { by, .. }) => Err(JoinError::Bootstrapped { member, by, data_dir: config.data_dir.clone() }),
    }
}

/// Asks all other members of the configuration at once. Returns what they say, and why the others say nothing.
async fn ask_all(config: &Config, page_client: &PageClient) -> (Vec<Told>, Vec<(Url, Silence)>) {
    let others = config.cluster.members.iter().filter(|(name, _)| *name != config.name);
    let mut asked = JoinSet::new();
    for url in others.flat_map(|(_, urls)| urls).cloned() {
        let page_client = page_client.clone();
        asked.spawn(async move {
            let answer = page_client.ask(&url, MEMBERS, ANSWER_TIMEOUT).await;
            let told = answer.map_err(Silence::Ask).and_then(|answer| read_members(&answer).ok_or(Silence::NotTold));
            (url, told)
        });
    }
    let (mut told, mut silent) = (Vec::new(), Vec::new());
    // A task that panics is a mistake of ours; its member counts as silent.
    while let Some(Ok((by, answer))) = asked.join_next().await {
        match answer {
            Ok((_, members)) if members.is_empty() => silent.push((by, Silence::KnowsNoMembers)),
            Ok((cluster, members)) => told.push(Told { by, cluster, members }),
            Err(why) => silent.push((by, why)),
        }
    }
    told.sort_by(|a, b| a.by.cmp(&b.by));
    silent.sort_by(|(a, _), (b, _)| a.cmp(b));
    (told, silent)
}

/// Finds this node's place in what was told.
fn judge(config: &Config, told: &[Told]) -> Result<Place, JoinError> {
    let first = &told[0];
    if let Some(other) = told.iter().find(|told| told.cluster != first.cluster) {
        let [first, other] = [first, other].map(|told| (told.by.clone(), told.cluster));
        return Err(JoinError::TwoClusters { first, other });
    }
    // The configuration was refused if this node was not in it.
    let own = config.cluster.members.iter().find(|(name, _)| *name == config.name);
    let own: Vec<String> = own.map_or_else(Vec::new, |(_, urls)| sorted(Url::texts(urls)));
    let find = |told: &Told| {
        let found = told.members.iter().find(|member| sorted(member.peer_ur_ls.clone()) == own).cloned();
        found.map(|member| (told.members.clone(), member))
    };
    let Some((members, member)) = told.iter().find_map(find) else {
        return Err(missing(config, told, &own));
    };
    if !member.name.is_empty() {
        return Err(started_before(config, member));
    }
    let known = |urls: &[Url]| {
        let urls = sorted(Url::texts(urls));
        members.iter().any(|member| sorted(member.peer_ur_ls.clone()) == urls)
    };
    if let Some((name, urls)) = config.cluster.members.iter().find(|(_, urls)| !known(urls)) {
        let (name, peer_urls) = (name.clone(), Url::texts(urls).join(","));
        return Err(JoinError::NotAMember { cluster: first.cluster, name, peer_urls, members });
    }
    let address = |url: &String| Url::parse(url).ok().map(|url| url.peer_address());
    let others = members.iter().filter(|other| other.id != member.id);
    let others = others.filter_map(|other| Some((other.id, address(other.peer_ur_ls.first()?)?))).collect();
    Ok(Place { identity: Identity { cluster: first.cluster, member: member.id }, others })
}

/// No member has this node's peer URLs: it was not added, or with others.
fn missing(config: &Config, told: &[Told], own: &[String]) -> JoinError {
    let Told { cluster, members, .. } = &told[0];
    let peer_urls = own.join(",");
    let shares_one = |member: &&Member| member.peer_ur_ls.iter().any(|url| own.contains(url));
    match members.iter().find(shares_one) {
        Some(other) => JoinError::OtherPeerUrls {
            cluster: *cluster,
            member: other.id,
            found: other.peer_ur_ls.join(","),
            own: peer_urls,
        },
        None => {
            JoinError::NotAdded { cluster: *cluster, name: config.name.clone(), peer_urls, members: members.clone() }
        }
    }
}

fn started_before(config: &Config, Member { id, name, .. }: Member) -> JoinError {
    if name == config.name {
        JoinError::StartedBefore { member: id, name, data_dir: config.data_dir.clone() }
    } else {
        JoinError::OtherName { member: id, name, own: config.name.clone() }
    }
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(initial_cluster: &str) -> Config {
        let own: Vec<_> = initial_cluster.split(',').filter_map(|pair| pair.strip_prefix("n3=")).collect();
        let flags = [
            "--name=n3".to_owned(),
            "--data-dir=d".to_owned(),
            "--initial-cluster-state=existing".to_owned(),
            format!("--initial-cluster={initial_cluster}"),
            format!("--initial-advertise-peer-urls={}", own.join(",")),
        ];
        Config::read(flags, []).unwrap()
    }

    fn member(id: u64, name: &str, url: &str) -> Member {
        let peer_ur_ls = url.split(',').map(str::to_owned).collect();
        Member { id, name: name.to_owned(), peer_ur_ls, ..Member::default() }
    }

    fn told(by: &str, cluster: u64, members: &[Member]) -> Told {
        Told { by: Url::parse(by).unwrap(), cluster, members: members.to_vec() }
    }

    #[test]
    fn a_node_finds_itself_by_its_peer_urls() {
        let [n1, n2] = [member(1, "n1", "http://a:1"), member(2, "n2", "http://b:1")];
        let n3 = member(9, "", "http://d:1,http://c:1");
        let old = told("http://a:1", 7, &[n1.clone(), n2.clone()]);
        let new = told("http://b:1", 7, &[n1, n2, n3]);
        let config = config("n1=http://a:1,n2=http://b:1,n3=http://c:1,n3=http://d:1");
        let identity = Identity { cluster: 7, member: 9 };
        let others = vec![(1, "a:1".to_owned()), (2, "b:1".to_owned())];
        assert_eq!(judge(&config, &[old, new]).unwrap(), Place { identity, others });
    }

    #[test]
    fn what_does_not_go_together_is_said_in_one_line() {
        let [n1, n2] = [member(1, "n1", "http://a:1"), member(2, "n2", "http://b:1")];
        let n3 = |name, url| member(9, name, url);
        let all = "n1=http://a:1,n2=http://b:1,n3=http://c:1";
        let rows = [
            (all, vec![n1.clone(), n2.clone()], "run 'etcdctl member add n3 --peer-urls=http://c:1' first", true),
            (all, vec![n1.clone(), n2.clone(), n3("", "http://c:1,http://d:1")], "make --initial-advertise", false),
            (all, vec![n1.clone(), n2.clone(), n3("n3", "http://c:1")], "member 9, n3, has been started before", false),
            (all, vec![n1.clone(), n2.clone(), n3("x", "http://c:1")], "called x, and this node is called n3", false),
            (
                "n1=http://a:1,n2=http://z:1,n3=http://c:1",
                vec![n1.clone(), n2.clone(), n3("", "http://c:1")],
                "--initial-cluster has n2=http://z:1, and no member has these peer URLs",
                true,
            ),
        ];
        for (initial, members, expected, may_pass) in rows {
            let refused = judge(&config(initial), &[told("http://a:1", 7, &members)]).unwrap_err();
            let line = refused.to_string();
            assert!(line.contains(expected) && !line.contains('\n'), "{line}");
            assert_eq!(refused.may_pass(), may_pass, "{line}");
        }
        let clusters = [told("http://a:1", 7, std::slice::from_ref(&n1)), told("http://b:1", 8, &[n2])];
        let line = judge(&config(all), &clusters).unwrap_err().to_string();
        assert!(line.contains("http://a:1 is of cluster 7, and http://b:1 of cluster 8"), "{line}");
    }

    #[test]
    fn a_member_that_is_not_named_is_no_obstacle() {
        let members = [member(1, "n1", "http://a:1"), member(2, "n2", "http://b:1"), member(9, "", "http://c:1")];
        let place = judge(&config("n1=http://a:1,n3=http://c:1"), &[told("http://a:1", 7, &members)]).unwrap();
        assert_eq!(place.others.len(), 2);
    }
}
