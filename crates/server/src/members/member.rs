//! The members of this node's cluster, as clients see them.
//!
//! Two sources are put together: the group's members with their seats, which the log decides, and facts that are kept in
//! the store beside the keys. What an operator has said of a member came with the change that made it one; what a member
//! says of itself it publishes when it starts. An id that was removed is remembered for ever, so that it is never given
//! again and a node that still goes by it can be told. Owns the names and layouts of these facts.

use bytes::Bytes;
use prost::Message;
use vlot::{Members, NodeId, Seat};
use vlot_proto::etcdserverpb::alarm_request::AlarmAction;
use vlot_proto::etcdserverpb::{AlarmRequest, AlarmType, Member};
use vlot_store::command::Command;

use crate::config::{Config, InitialCluster, Url};
use crate::members::identity::{Identity, cluster_id, member_id};
use crate::store_machine::Facts;

/// How this node sees its cluster.
#[derive(Debug)]
pub(crate) struct Membership {
    identity: Identity,
    /// The first members, on a node that is one of them.
    first: Vec<FirstMember>,
    /// What this node tells the others about itself.
    own: Member,
}

/// One of the members that a cluster begins with.
#[derive(Debug)]
pub(crate) struct FirstMember {
    pub(crate) id: u64,
    name: String,
    pub(crate) peer_urls: Vec<Url>,
}

impl Membership {
    /// Of a node that begins a cluster with others: the ids follow from the configuration.
    pub(crate) fn first(config: &Config) -> Membership {
        let InitialCluster { members, token, .. } = &config.cluster;
        let mut first: Vec<_> = members
            .iter()
            .map(|(name, urls)| FirstMember { id: member_id(urls, token), name: name.clone(), peer_urls: urls.clone() })
            .collect();
        first.sort_by_key(|member| member.id);
        let cluster = cluster_id(first.iter().map(|member| member.id), token);
        // The configuration was refused if this node was not in it.
        let member = first.iter().find(|member| member.name == config.name).map_or(0, |own| own.id);
        let identity = Identity { cluster, member };
        Membership { identity, first, own: own(config, identity) }
    }

    /// Of a node that has an identity. If the configuration does not lead to the same one, the node has joined or its
    /// flags have changed since, and only its log knows the members.
    pub(crate) fn of(config: &Config, identity: Identity) -> Membership {
        let first = Membership::first(config);
        if first.identity == identity {
            return first;
        }
        Membership { identity, first: Vec::new(), own: own(config, identity) }
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    /// The members that the cluster begins with; none, if this node came later.
    pub(crate) fn first_members(&self) -> &[FirstMember] {
        &self.first
    }

    /// The members, ordered by id. One that has come in and is not applied yet is left out.
    pub(crate) fn list(&self, members: &Members, facts: &Facts) -> Vec<Member> {
        let listed = members.iter().filter_map(|(member, address)| {
            let id = member.node.0;
            let told = fact(facts, &published_name(id)).unwrap_or_default();
            let first = self.first.iter().find(|first| first.id == id);
            let seat = fact(facts, &seat_name(id));
            // A member that came in was a learner at first, and has a fact since; first members never were.
            if seat.is_none() && member.seat == Seat::Learner {
                return None;
            }
            let name = if told.name.is_empty() { first.map(|first| first.name.clone()) } else { Some(told.name) };
            let peer_ur_ls = seat.as_ref().map(|seat| seat.peer_ur_ls.clone());
            let peer_ur_ls = peer_ur_ls
                .or_else(|| Some(told.peer_ur_ls).filter(|urls| !urls.is_empty()))
                .or_else(|| first.map(|first| Url::texts(&first.peer_urls)))
                .unwrap_or_else(|| {
                    vec![if address.contains("://") { address.to_owned() } else { format!("http://{address}") }]
                });
            // One that is to vote and has not caught up learns, and is a voter to clients all the same.
            let is_learner = member.seat == Seat::Learner && seat.is_some_and(|seat| seat.is_learner);
            let (name, client_ur_ls, is_witness) = (name.unwrap_or_default(), told.client_ur_ls, member.witness);
            Some(Member { id, name, peer_ur_ls, client_ur_ls, is_learner, is_witness })
        });
        listed.collect()
    }

    /// The command by which this node tells the others its name and client URLs, unless they know them.
    pub(crate) fn publication(&self, facts: &Facts) -> Option<Command> {
        let (name, value) = (published_name(self.own.id), Bytes::from(self.own.encode_to_vec()));
        let known = facts.get(&name) == Some(&value);
        if known { None } else { Some(Command::SetAttribute { name, value }) }
    }
}

impl Membership {
    /// The command by which a witness tells the others its name. It has no client URLs: clients that ask for all members' are
    /// not sent to one that answers nothing.
    pub(crate) fn publication_of_witness(&self) -> Command {
        let told = Member { client_ur_ls: Vec::new(), is_witness: true, ..self.own.clone() };
        Command::SetAttribute { name: published_name(self.own.id), value: told.encode_to_vec().into() }
    }
}

fn own(config: &Config, identity: Identity) -> Member {
    let own = config.cluster.members.iter().find(|(name, _)| *name == config.name);
    Member {
        id: identity.member,
        name: config.name.clone(),
        peer_ur_ls: own.map_or_else(Vec::new, |(_, urls)| Url::texts(urls)),
        client_ur_ls: Url::texts(&config.advertise_client),
        is_learner: false,
        is_witness: false,
    }
}

/// Members that came in to vote and learn until they have caught up.
pub(crate) fn voters_to_be(members: &Members, facts: &Facts) -> Vec<NodeId> {
    let learners = members.iter().filter(|(member, _)| member.seat == Seat::Learner).map(|(member, _)| member.node);
    learners.filter(|node| fact(facts, &seat_name(node.0)).is_some_and(|seat| !seat.is_learner)).collect()
}

/// Whether this id was a member's that has left.
pub(crate) fn was_removed(id: u64, facts: &Facts) -> bool {
    facts.get(&removed_name(id)).is_some()
}

/// What a change of members does to the facts, given what came with the change: the etcd member it is about, with the URLs
/// and the kind it has from then on. One that is no member afterwards was removed.
pub(crate) fn facts_after(members: &Members, context: &[u8]) -> Vec<Command> {
    // Without a member the change is none of an operator's.
    let Some(member) = Member::decode(context).ok().filter(|member| member.id != 0) else { return Vec::new() };
    let id = member.id;
    if members.configuration().contains(NodeId(id)) {
        return vec![set(seat_name(id), member.encode_to_vec().into())];
    }
    vec![
        set(removed_name(id), Bytes::from_static(b"removed")),
        set(seat_name(id), Bytes::new()),
        set(published_name(id), Bytes::new()),
        // What was wrong with it is over.
        lowered(id, AlarmType::Nospace),
        lowered(id, AlarmType::Corrupt),
        set(own_alarm_name(id), Bytes::new()),
    ]
}

/// Whether a command says something of a member that has left. It came too late.
pub(crate) fn is_of_the_removed(command: &Command, facts: &Facts) -> bool {
    let Command::SetAttribute { name, .. } = command else { return false };
    let id = name.strip_prefix(b"member/").and_then(|id| std::str::from_utf8(id).ok());
    id.and_then(|id| u64::from_str_radix(id, 16).ok()).is_some_and(|id| was_removed(id, facts))
}

fn lowered(member_id: u64, alarm: AlarmType) -> Command {
    Command::Alarm(AlarmRequest { action: AlarmAction::Deactivate.into(), member_id, alarm: alarm.into() })
}

/// That a member has raised its alarm for want of space by itself.
pub(crate) fn own_alarm_name(id: u64) -> Bytes {
    Bytes::from(format!("nospace/{id:016x}"))
}

/// Whether a fact is about a cluster's members, so that it means nothing to another cluster.
pub(crate) fn is_of_a_cluster(name: &[u8]) -> bool {
    [&b"member/"[..], b"seat/", b"removed/", b"alarm/", b"nospace/"].iter().any(|prefix| name.starts_with(prefix))
}

fn set(name: Bytes, value: Bytes) -> Command {
    Command::SetAttribute { name, value }
}

fn fact(facts: &Facts, name: &[u8]) -> Option<Member> {
    Member::decode(facts.get(name)?.clone()).ok()
}

/// What a member tells of itself.
fn published_name(id: u64) -> Bytes {
    Bytes::from(format!("member/{id:016x}"))
}

/// What an operator has said of a member when it came in, and since.
fn seat_name(id: u64) -> Bytes {
    Bytes::from(format!("seat/{id:016x}"))
}

fn removed_name(id: u64) -> Bytes {
    Bytes::from(format!("removed/{id:016x}"))
}
