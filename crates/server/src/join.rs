//! How a node without data finds its place: it asks the members that `--initial-cluster` names who they are, and finds
//! itself among them by its peer URLs.
//!
//! Owns what must hold for a node to join a cluster, or to begin one. Must not touch the disk.

use std::time::Duration;

use tokio::task::JoinSet;
use vlot_proto::etcdserverpb::Member;

use crate::ask::ask;
use crate::config::{Config, Url};
use crate::identity::Identity;
use crate::member::Membership;
use crate::peer_pages::{MEMBERS, read_members};

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
/// One line: nobody answers, or the answers and the flags do not go together.
pub(crate) async fn find_place(config: &Config) -> Result<Place, String> {
    let mut attempts = ATTEMPTS;
    loop {
        let (told, silent) = ask_all(config).await;
        if told.is_empty() {
            return Err(nobody(&silent));
        }
        attempts -= 1;
        match judge(config, &told) {
            // Whoever has answered may lag a little behind the one that has added this node.
            Err(NoPlace::NotYet(_)) if attempts > 0 => tokio::time::sleep(ATTEMPT_PAUSE).await,
            Err(NoPlace::NotYet(line) | NoPlace::Never(line)) => return Err(line),
            Ok(place) => return Ok(place),
        }
    }
}

/// Refuses to begin a cluster that runs already, and in which this very member has been started: its data is elsewhere,
/// or lost.
///
/// # Errors
/// One line that says so.
pub(crate) async fn refuse_second_beginning(config: &Config, membership: &Membership) -> Result<(), String> {
    let Identity { cluster, member } = membership.identity();
    let (told, _) = ask_all(config).await;
    let knows_it = |told: &Told| {
        let own = told.members.iter().find(|other| other.id == member);
        told.cluster == cluster && own.is_some_and(|own| !own.client_ur_ls.is_empty())
    };
    match told.iter().find(|told| knows_it(told)) {
        None => Ok(()),
        Some(told) => Err(format!(
            "member {member:x} has already been bootstrapped, says {}, and the data directory {} is empty; use the \
             member's own data, or remove the member and add it again",
            told.by,
            config.data_dir.display()
        )),
    }
}

/// Asks all other members of the configuration at once. Returns what they say, and why the others say nothing.
async fn ask_all(config: &Config) -> (Vec<Told>, Vec<(Url, String)>) {
    let others = config.cluster.members.iter().filter(|(name, _)| *name != config.name);
    let mut asked = JoinSet::new();
    for url in others.flat_map(|(_, urls)| urls).cloned() {
        asked.spawn(async move {
            let answer = ask(&url.authority(), MEMBERS, ANSWER_TIMEOUT).await;
            let told = answer.and_then(|answer| {
                read_members(&answer).ok_or_else(|| "it answers, and does not tell its members".to_owned())
            });
            (url, told)
        });
    }
    let (mut told, mut silent) = (Vec::new(), Vec::new());
    // A task that panics is a mistake of ours; its member counts as silent.
    while let Some(Ok((by, answer))) = asked.join_next().await {
        match answer {
            // Who knows nobody has only just joined itself.
            Ok((_, members)) if members.is_empty() => silent.push((by, "it knows no members yet".to_owned())),
            Ok((cluster, members)) => told.push(Told { by, cluster, members }),
            Err(why) => silent.push((by, why)),
        }
    }
    told.sort_by(|a, b| a.by.cmp(&b.by));
    silent.sort();
    (told, silent)
}

fn nobody(silent: &[(Url, String)]) -> String {
    if silent.is_empty() {
        return "cannot join a cluster: --initial-cluster names nobody but this node".to_owned();
    }
    let each: Vec<_> = silent.iter().map(|(url, why)| format!("{url}: {why}")).collect();
    format!(
        "cannot join a cluster: no member that --initial-cluster names tells who its members are ({})",
        each.join("; ")
    )
}

/// Why there is no place.
#[derive(Debug, Eq, PartialEq)]
enum NoPlace {
    /// There may be one as soon as those who were asked have heard of it.
    NotYet(String),
    Never(String),
}

/// Finds this node's place in what was told.
fn judge(config: &Config, told: &[Told]) -> Result<Place, NoPlace> {
    let first = &told[0];
    if let Some(other) = told.iter().find(|told| told.cluster != first.cluster) {
        return Err(NoPlace::Never(format!(
            "cannot join a cluster: {} is of cluster {:x}, and {} of cluster {:x}; name the members of one with \
             --initial-cluster",
            first.by, first.cluster, other.by, other.cluster
        )));
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
        return Err(NoPlace::Never(started_before(config, &member)));
    }
    let known = |urls: &[Url]| {
        let urls = sorted(Url::texts(urls));
        members.iter().any(|member| sorted(member.peer_ur_ls.clone()) == urls)
    };
    if let Some((name, urls)) = config.cluster.members.iter().find(|(_, urls)| !known(urls)) {
        return Err(NoPlace::NotYet(format!(
            "cannot join cluster {:x}: --initial-cluster has {name}={}, and no member has these peer URLs; the members \
             are {}",
            first.cluster,
            Url::texts(urls).join(","),
            shown(&members)
        )));
    }
    let address = |url: &String| Url::parse(url).ok().map(|url| url.authority());
    let others = members.iter().filter(|other| other.id != member.id);
    let others = others.filter_map(|other| Some((other.id, address(other.peer_ur_ls.first()?)?))).collect();
    Ok(Place { identity: Identity { cluster: first.cluster, member: member.id }, others })
}

/// No member has this node's peer URLs: it was not added, or with others.
fn missing(config: &Config, told: &[Told], own: &[String]) -> NoPlace {
    let Told { cluster, members, .. } = &told[0];
    let own = own.join(",");
    let shares_one = |member: &&Member| member.peer_ur_ls.iter().any(|url| own.split(',').any(|own| own == url));
    match members.iter().find(shares_one) {
        Some(other) => NoPlace::Never(format!(
            "cannot join cluster {cluster:x}: member {:x} has the peer URLs {}, and this node's are {own}; make \
             --initial-advertise-peer-urls the same, or update the member",
            other.id,
            other.peer_ur_ls.join(",")
        )),
        None => NoPlace::NotYet(format!(
            "cannot join cluster {cluster:x}: no member has the peer URLs {own}; run 'etcdctl member add {} \
             --peer-urls={own}' first; the members are {}",
            config.name,
            shown(members)
        )),
    }
}

fn started_before(config: &Config, member: &Member) -> String {
    let Member { id, name, .. } = member;
    if *name == config.name {
        format!(
            "cannot join: member {id:x}, {name}, has been started before, and the data directory {} is empty; use the \
             member's own data, or remove the member and add it again",
            config.data_dir.display()
        )
    } else {
        format!(
            "cannot join: the member with these peer URLs, {id:x}, has been started before and is called {name}, and this \
             node is called {}",
            config.name
        )
    }
}

fn shown(members: &[Member]) -> String {
    let member = |member: &Member| format!("{}={}", member.name, member.peer_ur_ls.join(","));
    members.iter().map(member).collect::<Vec<_>>().join(" ")
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
        assert_eq!(judge(&config, &[old, new]), Ok(Place { identity, others }));
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
            let (NoPlace::NotYet(line) | NoPlace::Never(line)) = &refused;
            assert!(line.contains(expected) && !line.contains('\n'), "{line}");
            assert_eq!(matches!(refused, NoPlace::NotYet(_)), may_pass, "{line}");
        }
        let clusters = [told("http://a:1", 7, std::slice::from_ref(&n1)), told("http://b:1", 8, &[n2])];
        let Err(NoPlace::Never(line)) = judge(&config(all), &clusters) else { panic!("two clusters") };
        assert!(line.contains("http://a:1 is of cluster 7, and http://b:1 of cluster 8"), "{line}");
    }

    #[test]
    fn a_member_that_is_not_named_is_no_obstacle() {
        let members = [member(1, "n1", "http://a:1"), member(2, "n2", "http://b:1"), member(9, "", "http://c:1")];
        let place = judge(&config("n1=http://a:1,n3=http://c:1"), &[told("http://a:1", 7, &members)]).unwrap();
        assert_eq!(place.others.len(), 2);
    }
}
