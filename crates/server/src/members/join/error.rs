//! Why a node has no place in a cluster.
//!
//! Owns what the operator reads about it: one line that says what does not go together, and what to do.

use std::fmt;
use std::path::PathBuf;

use vlot_proto::etcdserverpb::Member;

use crate::config::Url;
use crate::members::ask::AskError;

/// Why a node may neither join a cluster nor begin one.
#[derive(Debug)]
pub enum JoinError {
    /// `--initial-cluster` names no other member.
    NoOthers,
    /// No member that was asked has told its members.
    NoAnswer { silent: Vec<(Url, Silence)> },
    /// Two members that answer are of different clusters.
    TwoClusters { first: (Url, u64), other: (Url, u64) },
    /// No member has this node's peer URLs.
    NotAdded { cluster: u64, name: String, peer_urls: String, members: Vec<Member> },
    /// A member has some of this node's peer URLs, but not just these.
    OtherPeerUrls { cluster: u64, member: u64, found: String, own: String },
    /// No member has the peer URLs that `--initial-cluster` has for a name.
    NotAMember { cluster: u64, name: String, peer_urls: String, members: Vec<Member> },
    /// This member has been started, and its data is not here.
    StartedBefore { member: u64, name: String, data_dir: PathBuf },
    /// The member with this node's peer URLs has been started under another name.
    OtherName { member: u64, name: String, own: String },
    /// This first member has been started, and its data is not here.
    Bootstrapped { member: u64, by: Url, data_dir: PathBuf },
}

impl JoinError {
    /// Whether the members that were asked may only lag behind the one that has added this node.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::NotAdded { .. } | Self::NotAMember { .. })
    }
}

impl fmt::Display for JoinError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoOthers => out.write_str("cannot join a cluster: --initial-cluster names nobody but this node"),
            Self::NoAnswer { silent } => {
                let each: Vec<_> = silent.iter().map(|(url, why)| format!("{url}: {why}")).collect();
                write!(
                    out,
                    "cannot join a cluster: no member that --initial-cluster names tells who its members are ({})",
                    each.join("; ")
                )
            }
            Self::TwoClusters { first: (first, cluster), other: (other, other_cluster) } => write!(
                out,
                "cannot join a cluster: {first} is of cluster {cluster:x}, and {other} of cluster {other_cluster:x}; name \
                 the members of one with --initial-cluster"
            ),
            Self::NotAdded { cluster, name, peer_urls, members } => write!(
                out,
                "cannot join cluster {cluster:x}: no member has the peer URLs {peer_urls}; run 'etcdctl member add {name} \
                 --peer-urls={peer_urls}' first; the members are {}",
                shown(members)
            ),
            Self::OtherPeerUrls { cluster, member, found, own } => write!(
                out,
                "cannot join cluster {cluster:x}: member {member:x} has the peer URLs {found}, and this node's are {own}; \
                 make --initial-advertise-peer-urls the same, or update the member"
            ),
            Self::NotAMember { cluster, name, peer_urls, members } => write!(
                out,
                "cannot join cluster {cluster:x}: --initial-cluster has {name}={peer_urls}, and no member has these peer \
                 URLs; the members are {}",
                shown(members)
            ),
            Self::StartedBefore { member, name, data_dir } => write!(
                out,
                "cannot join: member {member:x}, {name}, has been started before, and the data directory {} is empty; use \
                 the member's own data, or remove the member and add it again",
                data_dir.display()
            ),
            Self::OtherName { member, name, own } => write!(
                out,
                "cannot join: the member with these peer URLs, {member:x}, has been started before and is called {name}, \
                 and this node is called {own}"
            ),
            Self::Bootstrapped { member, by, data_dir } => write!(
                out,
                "member {member:x} has already been bootstrapped, says {by}, and the data directory {} is empty; use the \
                 member's own data, or remove the member and add it again",
                data_dir.display()
            ),
        }
    }
}

impl std::error::Error for JoinError {}

/// Why a member that was asked has not told its members.
#[derive(Debug)]
pub enum Silence {
    Ask(AskError),
    /// The answer holds no members.
    NotTold,
    /// It has only just joined itself.
    KnowsNoMembers,
}

impl fmt::Display for Silence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ask(error) => error.fmt(out),
            Self::NotTold => out.write_str("it answers, and does not tell its members"),
            Self::KnowsNoMembers => out.write_str("it knows no members yet"),
        }
    }
}

fn shown(members: &[Member]) -> String {
    let member = |member: &Member| format!("{}={}", member.name, member.peer_ur_ls.join(","));
    members.iter().map(member).collect::<Vec<_>>().join(" ")
}
