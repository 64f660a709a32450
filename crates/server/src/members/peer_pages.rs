//! What this node answers to plain HTTP on its peer URL: the members, as etcd does, and which node this is.
//!
//! Owns the paths, the headers and their shapes, on both sides: `join.rs` and other callers read them here.

use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};
use vlot::net::{Page, Pages};
use vlot_proto::etcdserverpb::Member;
use vlot_store::hash::HistoryHash;

use crate::members::ask::Answer;
use crate::members::identity::Identity;
use crate::members::member;
use crate::service::{ETCD_VERSION, Services};
use crate::upkeep::history_hashes::Outcome;

/// The cluster that answers, in hexadecimal.
pub(crate) const CLUSTER_ID: &str = "X-Etcd-Cluster-ID";
/// The member that answers, in hexadecimal.
pub(crate) const MEMBER_ID: &str = "X-Vlot-Member-ID";
/// All members.
pub(crate) const MEMBERS: &str = "/members";
/// The digest of the key history at a revision.
const HASH_KV: &str = "/members/hashkv";
/// The status of the page of what is not known yet: it is found out, and known when it is asked for again.
pub(crate) const ACCEPTED: u16 = 202;
/// The status of the page of what is not there yet: this member has not come that far.
pub(crate) const BEHIND: u16 = 409;
/// The status of the page of a member that was removed.
pub(crate) const GONE: u16 = 410;

/// The page of one member.
pub(crate) fn member_page(id: u64) -> String {
    format!("{MEMBERS}/{id:x}")
}

/// The page of the digest at a revision.
pub(crate) fn hash_page(revision: i64) -> String {
    format!("{HASH_KV}?revision={revision}")
}

/// What there is to tell, once the node knows it.
#[derive(Clone, Default)]
pub(crate) struct PeerPages(Arc<OnceLock<Arc<Services>>>);

impl PeerPages {
    /// From here on there is something to tell.
    pub(crate) fn open(&self, services: Arc<Services>) {
        // There is one replica, and this is called once.
        let _ = self.0.set(services);
    }

    /// As the transport asks for them.
    pub(crate) fn pages(&self) -> Pages {
        let pages = self.clone();
        Pages::new(move |path| pages.page(path))
    }

    fn page(&self, path: &str) -> Page {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        if path == "/version" {
            return json_page("200 OK", json!({ "etcdserver": ETCD_VERSION, "etcdcluster": ETCD_VERSION }));
        }
        let asked_for = path.strip_prefix("/members/").map(|id| u64::from_str_radix(id, 16).ok());
        if path != MEMBERS && path != HASH_KV && !matches!(asked_for, Some(Some(_))) {
            return text_page("404 Not Found", "404 page not found\n");
        }
        let Some(services) = self.0.get() else {
            return text_page("503 Service Unavailable", "the node is starting\n");
        };
        let (store_group, membership) = (&services.store_group, &services.membership);
        let members = store_group.list(membership);
        let page = match asked_for.flatten() {
            None if path == HASH_KV => hash(services, query),
            None => json_page("200 OK", members.iter().map(shown).collect()),
            Some(id) => match members.iter().find(|member| member.id == id) {
                Some(member) => json_page("200 OK", shown(member)),
                None if member::was_removed(id, &store_group.facts()) => text_page("410 Gone", "removed\n"),
                None => text_page("404 Not Found", "no such member\n"),
            },
        };
        let Identity { cluster, member } = membership.identity();
        let headers = vec![(CLUSTER_ID, format!("{cluster:x}")), (MEMBER_ID, format!("{member:x}"))];
        Page { headers, ..page }
    }
}

/// The digest at the revision that is asked for. It is made beside this, if it is not known.
fn hash(services: &Arc<Services>, query: &str) -> Page {
    let revision = query.strip_prefix("revision=").and_then(|revision| revision.parse::<i64>().ok());
    let Some(revision) = revision.filter(|revision| *revision > 0) else {
        return text_page("400 Bad Request", "no revision\n");
    };
    if services.store_group.revision_seen() < revision {
        return text_page("409 Conflict", "not there yet\n");
    }
    let outcome = services.hashes.ask(revision).unwrap_or_else(|| {
        let services = services.clone();
        tokio::spawn(async move { services.make_hash_for_others(revision).await });
        Outcome::UnderWay
    });
    match outcome {
        Outcome::Known(hash) => json_page(
            "200 OK",
            json!({ "hash": hash.hash, "compact_revision": hash.compacted_revision, "hash_revision": hash.revision }),
        ),
        Outcome::UnderWay => text_page("202 Accepted", "ask again\n"),
        Outcome::Gone => text_page("410 Gone", "compacted\n"),
    }
}

/// The digest that an answer to [`hash_page`] tells.
pub(crate) fn read_hash(answer: &Answer) -> Option<HistoryHash> {
    let value: Value = serde_json::from_str(&answer.body).ok().filter(|_| answer.status == 200)?;
    Some(HistoryHash {
        hash: u32::try_from(value["hash"].as_u64()?).ok()?,
        revision: value["hash_revision"].as_i64()?,
        compacted_revision: value["compact_revision"].as_i64()?,
    })
}

fn json_page(status: &'static str, value: Value) -> Page {
    Page { status, headers: Vec::new(), content_type: "application/json", body: format!("{value}\n") }
}

fn text_page(status: &'static str, body: &str) -> Page {
    Page { status, headers: Vec::new(), content_type: "text/plain; charset=utf-8", body: body.to_owned() }
}

/// A member in etcd's JSON.
pub(super) fn shown(member: &Member) -> Value {
    let mut shown = json!({ "id": member.id, "peerURLs": member.peer_ur_ls });
    if member.is_learner {
        shown["isLearner"] = true.into();
    }
    if member.is_witness {
        shown["isWitness"] = true.into();
    }
    if !member.name.is_empty() {
        shown["name"] = member.name.as_str().into();
    }
    if !member.client_ur_ls.is_empty() {
        shown["clientURLs"] = member.client_ur_ls.clone().into();
    }
    shown
}

/// The cluster and its members, if an answer to [`MEMBERS`] tells them.
pub(crate) fn read_members(answer: &Answer) -> Option<(u64, Vec<Member>)> {
    let cluster = answer.id(CLUSTER_ID)?;
    if answer.status != 200 {
        return None;
    }
    let value: Value = serde_json::from_str(&answer.body).ok()?;
    let members = value.as_array()?.iter().map(read_member).collect::<Option<_>>()?;
    Some((cluster, members))
}

fn read_member(value: &Value) -> Option<Member> {
    let texts = |value: &Value| {
        let texts = value.as_array().map_or(&[][..], Vec::as_slice).iter();
        texts.map(|text| text.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
    };
    Some(Member {
        id: value["id"].as_u64().filter(|id| *id != 0)?,
        name: value["name"].as_str().unwrap_or_default().to_owned(),
        peer_ur_ls: texts(&value["peerURLs"])?,
        client_ur_ls: texts(&value["clientURLs"])?,
        is_learner: value["isLearner"].as_bool().unwrap_or_default(),
        is_witness: value["isWitness"].as_bool().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_shown_as_by_etcd_and_read_back() {
        let members = [
            Member {
                id: u64::MAX,
                name: "n1".into(),
                peer_ur_ls: vec!["http://a:1".into()],
                client_ur_ls: vec!["http://a:2".into()],
                ..Member::default()
            },
            Member { id: 7, peer_ur_ls: vec!["http://b:1".into()], is_learner: true, ..Member::default() },
        ];
        let shown = members.each_ref().map(shown);
        assert_eq!(
            shown[0].to_string(),
            r#"{"clientURLs":["http://a:2"],"id":18446744073709551615,"name":"n1","peerURLs":["http://a:1"]}"#
        );
        assert_eq!(shown[1].to_string(), r#"{"id":7,"isLearner":true,"peerURLs":["http://b:1"]}"#);
        assert_eq!(shown.each_ref().map(read_member), members.map(Some));
    }

    #[test]
    fn what_etcd_does_not_say_is_no_member() {
        for bad in [r#"{"id":0,"peerURLs":[]}"#, r#"{"peerURLs":[]}"#, r#"{"id":1,"peerURLs":[1]}"#, "[]", "7"] {
            assert_eq!(read_member(&serde_json::from_str(bad).unwrap()), None, "{bad}");
        }
    }

    #[test]
    fn nothing_is_told_before_it_is_known() {
        let pages = PeerPages::default();
        assert_eq!(pages.page("/version").status, "200 OK");
        assert_eq!(pages.page("/members").status, "503 Service Unavailable");
        assert_eq!(pages.page("/members/ff?x=y").status, "503 Service Unavailable");
        assert_eq!(pages.page("/members/hashkv?revision=1").status, "503 Service Unavailable");
        for unknown in ["/", "/members/", "/members/zz", "/metrics", ""] {
            assert_eq!(pages.page(unknown).status, "404 Not Found", "{unknown}");
        }
    }
}
