//! The members of this node's cluster, as its initial configuration names them and as they tell about themselves.

use bytes::Bytes;
use prost::Message;
use vlot_proto::etcdserverpb::Member;
use vlot_store::command::Command;
use vlot_store::store::Store;

use crate::config::{Config, InitialCluster, Url};
use crate::identity::{Identity, cluster_id, member_id};

/// The members of a cluster, as its initial configuration names them.
#[derive(Debug)]
pub(crate) struct Membership {
    identity: Identity,
    members: Vec<InitialMember>,
    /// What this node tells the others about itself.
    own: Member,
}

/// One member of the initial configuration.
#[derive(Debug)]
pub(crate) struct InitialMember {
    pub(crate) id: u64,
    name: String,
    pub(crate) peer_urls: Vec<Url>,
}

impl Membership {
    /// The members of the initial cluster, ordered by id.
    pub(crate) fn of(config: &Config) -> Membership {
        let InitialCluster { members, token, .. } = &config.cluster;
        let mut members: Vec<_> = members
            .iter()
            .map(|(name, urls)| InitialMember {
                id: member_id(urls, token),
                name: name.clone(),
                peer_urls: urls.clone(),
            })
            .collect();
        members.sort_by_key(|member| member.id);
        let cluster = cluster_id(members.iter().map(|member| member.id), token);
        // The configuration was refused if this node was not in it.
        let own = members.iter().find(|member| member.name == config.name);
        let own = Member {
            id: own.map_or(0, |own| own.id),
            name: config.name.clone(),
            peer_ur_ls: own.map_or_else(Vec::new, |own| texts(&own.peer_urls)),
            client_ur_ls: texts(&config.advertise_client),
            is_learner: false,
        };
        Membership { identity: Identity { cluster, member: own.id }, members, own }
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    pub(crate) fn initial(&self) -> &[InitialMember] {
        &self.members
    }

    /// The members as clients see them: one that has not told about itself yet has no client URLs.
    pub(crate) fn list(&self, store: &Store) -> Vec<Member> {
        let published = |id| Member::decode(store.attribute(&attribute_name(id))?.clone()).ok();
        let listed = self.members.iter().map(|member| {
            let told = published(member.id).unwrap_or_default();
            let name = if told.name.is_empty() { member.name.clone() } else { told.name };
            let peer_ur_ls = texts(&member.peer_urls);
            Member { id: member.id, name, peer_ur_ls, client_ur_ls: told.client_ur_ls, is_learner: false }
        });
        listed.collect()
    }

    /// The command by which this node tells the others its name and client URLs, unless they know them.
    pub(crate) fn publication(&self, store: &Store) -> Option<Command> {
        let (name, value) = (attribute_name(self.own.id), Bytes::from(self.own.encode_to_vec()));
        let known = store.attribute(&name) == Some(&value);
        if known { None } else { Some(Command::SetAttribute { name, value }) }
    }
}

fn attribute_name(id: u64) -> Bytes {
    Bytes::from(format!("member/{id:016x}"))
}

pub(crate) fn texts(urls: &[Url]) -> Vec<String> {
    urls.iter().map(Url::to_string).collect()
}
