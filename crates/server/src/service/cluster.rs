//! `etcdserverpb.Cluster`: the members, and how they come and go.
//!
//! Owns which changes are allowed, in etcd's words. How a change is agreed on is in `replica/members.rs`, and when
//! the quorum is in danger in `reconfigure.rs`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tracing::info;
use vlot::{MemberChange, NodeId};
use vlot_proto::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest, MemberUpdateResponse,
};

use super::reconfigure::{self, Voter};
use super::{Caller, Services, decode, encode};
use crate::config::Url;
use crate::members::identity::{Identity, fresh_member_id};
use crate::members::member;
use crate::members::peer_pages::{CLUSTER_ID, MEMBER_ID, member_page};
use crate::status::Status;
use crate::store_group::{ATTEMPT_PAUSE, Unchanged};

/// How long another member may take to show that it is there.
const SIGN_OF_LIFE_TIMEOUT: Duration = Duration::from_secs(1);

/// A change, and the member as it is afterwards.
type Planned = (MemberChange, Member);

impl Services {
    pub(super) async fn member_list(&self, request: Bytes) -> Result<Bytes, Status> {
        let request: MemberListRequest = decode(request)?;
        if request.linearizable {
            self.store_group.barrier().await?;
        }
        // Answers about the cluster have no revision.
        Ok(encode(&MemberListResponse { header: Some(self.header(0)), members: self.members() }))
    }

    /// A new voter learns at first and votes as soon as it has caught up. Clients see none of that: it is a voter to them.
    pub(super) async fn member_add(&self, caller: &Caller, request: Bytes) -> Result<Bytes, Status> {
        let MemberAddRequest { peer_ur_ls, is_learner, is_witness } = decode(request)?;
        if is_learner && is_witness {
            return Err(Status::WITNESS_LEARNER);
        }
        let urls = peer_urls(&peer_ur_ls)?;
        if self.strict_reconfig {
            reconfigure::may_add(&self.probe_voters().await, is_learner)?;
        }
        let id = self.fresh_id(&urls);
        let member = Member { id, peer_ur_ls: Url::texts(&urls), is_learner, is_witness, ..Member::default() };
        let address = address_of(&urls);
        let plan = |members: &[Member]| {
            require_unused(members, &member)?;
            if is_learner && members.iter().filter(|member| member.is_learner).count() >= self.learners_max {
                return Err(Status::TOO_MANY_LEARNERS);
            }
            let (node, address) = (NodeId(id), address.clone());
            // A witness has nothing to catch up with, and votes at once.
            let change = if is_witness {
                MemberChange::AddWitness { node, address }
            } else {
                MemberChange::AddLearner { node, address }
            };
            Ok((change, member.clone()))
        };
        let member = self.change(caller, plan).await?;
        info!(
            member = format!("{id:x}"),
            peer_urls = member.peer_ur_ls.join(","),
            is_learner,
            is_witness,
            "a member was added"
        );
        let (header, members) = (Some(self.header(0)), self.members());
        Ok(encode(&MemberAddResponse { header, member: Some(member), members }))
    }

    pub(super) async fn member_remove(&self, caller: &Caller, request: Bytes) -> Result<Bytes, Status> {
        let MemberRemoveRequest { id } = decode(request)?;
        let is_learner = self.members().iter().any(|member| member.id == id && member.is_learner);
        if self.strict_reconfig && !is_learner {
            reconfigure::may_remove(&self.probe_voters().await, id)?;
        }
        let plan = |members: &[Member]| {
            find(members, id)?;
            Ok((MemberChange::Remove(NodeId(id)), Member { id, ..Member::default() }))
        };
        self.change(caller, plan).await?;
        info!(member = format!("{id:x}"), "a member was removed");
        // The one that leaves is the last to know.
        let members = self.members().into_iter().filter(|member| member.id != id).collect();
        Ok(encode(&MemberRemoveResponse { header: Some(self.header(0)), members }))
    }

    pub(super) async fn member_update(&self, caller: &Caller, request: Bytes) -> Result<Bytes, Status> {
        let MemberUpdateRequest { id, peer_ur_ls } = decode(request)?;
        let urls = peer_urls(&peer_ur_ls)?;
        let plan = |members: &[Member]| {
            let Member { is_learner, .. } = *find(members, id)?;
            let member = Member { id, peer_ur_ls: Url::texts(&urls), is_learner, ..Member::default() };
            require_unused(members, &member)?;
            Ok((MemberChange::Move { node: NodeId(id), address: address_of(&urls) }, member))
        };
        let member = self.change(caller, plan).await?;
        info!(member = format!("{id:x}"), peer_urls = member.peer_ur_ls.join(","), "a member's peer URLs are others");
        Ok(encode(&MemberUpdateResponse { header: Some(self.header(0)), members: self.members() }))
    }

    pub(super) async fn member_promote(&self, caller: &Caller, request: Bytes) -> Result<Bytes, Status> {
        let MemberPromoteRequest { id } = decode(request)?;
        let is_learner = self.members().iter().any(|member| member.id == id && member.is_learner);
        if self.strict_reconfig && is_learner {
            reconfigure::may_promote(&voters_of(&self.members()))?;
        }
        let plan = |members: &[Member]| {
            let member = find(members, id)?;
            if !member.is_learner {
                return Err(Status::MEMBER_NOT_LEARNER);
            }
            let peer_ur_ls = member.peer_ur_ls.clone();
            Ok((MemberChange::Promote(NodeId(id)), Member { id, peer_ur_ls, ..Member::default() }))
        };
        let leads = self.store_group.raft_status().leader == self.membership.identity().member;
        let promoted = self.change(caller, plan).await;
        if leads {
            self.metrics.promoted(promoted.as_ref().map(drop));
        }
        promoted?;
        info!(member = format!("{id:x}"), "a learner votes");
        Ok(encode(&MemberPromoteResponse { header: Some(self.header(0)), members: self.members() }))
    }

    /// The members, as this node sees them.
    pub(crate) fn members(&self) -> Vec<Member> {
        self.store_group.list(&self.membership)
    }

    /// Makes the change that is planned from the members there are, anew each time that another comes first.
    async fn change(
        &self,
        caller: &Caller,
        plan: impl Fn(&[Member]) -> Result<Planned, Status>,
    ) -> Result<Member, Status> {
        let deadline = Instant::now() + self.store_group.request_timeout();
        loop {
            // What is refused must not be refused for what was long ago.
            self.store_group.barrier().await?;
            // Nor must it be allowed for that: the change itself asks nobody when it is applied.
            self.require_root(caller)?;
            let (change, member) = plan(&self.members())?;
            match self.store_group.change_members(change, &member).await {
                Ok(()) => return Ok(member),
                Err(Unchanged::Because(status)) => return Err(status),
                Err(Unchanged::ForNow) if Instant::now() < deadline => sleep(ATTEMPT_PAUSE).await,
                Err(Unchanged::ForNow) => return Err(Status::TIMEOUT),
            }
        }
    }

    fn fresh_id(&self, urls: &[Url]) -> u64 {
        let (members, facts) = (self.members(), self.store_group.facts());
        let is_taken = |id| members.iter().any(|member| member.id == id) || member::was_removed(id, &facts);
        // A clock before 1970 is as good as any other: what counts is that ids differ, and those taken are known.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        fresh_member_id(urls, &self.token, now, is_taken)
    }

    /// Asks all other voters for a sign of life.
    async fn probe_voters(&self) -> Vec<Voter> {
        let Identity { cluster, member: own } = self.membership.identity();
        let members = self.members();
        let mut signs = JoinSet::new();
        for Member { id, peer_ur_ls, .. } in members.iter().filter(|member| !member.is_learner && member.id != own) {
            let (id, url) = (*id, peer_ur_ls.first().and_then(|url| Url::parse(url).ok()));
            let page_client = self.page_client.clone();
            signs.spawn(async move {
                let answer = page_client.ask(&url?, &member_page(id), SIGN_OF_LIFE_TIMEOUT).await.ok()?;
                // Another process may listen there by now.
                (answer.id(CLUSTER_ID) == Some(cluster) && answer.id(MEMBER_ID) == Some(id)).then_some(id)
            });
        }
        let mut alive = vec![own];
        while let Some(sign) = signs.join_next().await {
            // A question that panics is a mistake of ours; its member counts as silent.
            alive.extend(sign.ok().flatten());
        }
        let voters = voters_of(&members).into_iter();
        voters.map(|voter| Voter { is_connected: alive.contains(&voter.id), ..voter }).collect()
    }
}

/// Those that are to vote, none of them looked at.
fn voters_of(members: &[Member]) -> Vec<Voter> {
    let voter = |member: &Member| Voter { id: member.id, is_started: !member.name.is_empty(), is_connected: false };
    members.iter().filter(|member| !member.is_learner).map(voter).collect()
}

/// Reads peer URLs, in their order.
fn peer_urls(texts: &[String]) -> Result<Vec<Url>, Status> {
    let urls: Result<Vec<_>, _> = texts.iter().map(|text| Url::parse(text.trim())).collect();
    let mut urls = urls.ok().filter(|urls| !urls.is_empty()).ok_or(Status::BAD_MEMBER_URLS)?;
    urls.sort();
    Ok(urls)
}

/// Where the others dial a member: they use the first of its URLs.
fn address_of(urls: &[Url]) -> String {
    urls.first().map_or_else(String::new, Url::peer_address)
}

fn find(members: &[Member], id: u64) -> Result<&Member, Status> {
    members.iter().find(|member| member.id == id).ok_or(Status::MEMBER_NOT_FOUND)
}

/// No other member may have any of this one's peer URLs.
fn require_unused(members: &[Member], new: &Member) -> Result<(), Status> {
    let mut others = members.iter().filter(|member| member.id != new.id);
    let is_used = others.any(|member| member.peer_ur_ls.iter().any(|url| new.peer_ur_ls.contains(url)));
    if is_used { Err(Status::PEER_URL_EXISTS) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_urls_are_read_and_ordered() {
        let read = |texts: &[&str]| {
            peer_urls(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).map(|urls| Url::texts(&urls))
        };
        let expected = Ok(vec!["http://a:1".to_owned(), "http://b:1".to_owned()]);
        assert_eq!(read(&["http://b:1", " http://a:1/"]), expected);
        for bad in [&[][..], &[""], &["a:1"], &["unix://a:1"], &["http://a"], &["http://a:1", "x"]] {
            assert_eq!(read(bad), Err(Status::BAD_MEMBER_URLS), "{bad:?}");
        }
    }

    #[test]
    fn a_peer_url_belongs_to_one_member() {
        let member = |id, url: &str| Member { id, peer_ur_ls: vec![url.to_owned()], ..Member::default() };
        let members = [member(1, "http://a:1"), member(2, "http://b:1")];
        assert_eq!(require_unused(&members, &member(3, "http://c:1")), Ok(()));
        assert_eq!(require_unused(&members, &member(3, "http://a:1")), Err(Status::PEER_URL_EXISTS));
        assert_eq!(require_unused(&members, &member(1, "http://a:1")), Ok(()), "its own may stay");
        assert_eq!(require_unused(&members, &member(1, "http://b:1")), Err(Status::PEER_URL_EXISTS));
    }
}
