//! Where a group stands on this node, in full, and what is wrong with it: made when it is asked for.
//!
//! Owns the judgement of what is unhealthy, and its sentences. Must not know what asks, or how often.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use vlot_raft::configuration::Seat;
use vlot_raft::effect::{RoleName, RoleState};
use vlot_raft::id::{GroupId, LogIndex, NodeId};
use vlot_raft::time::Time;
use vlot_raft::view::{PaceName, PeerView};

use crate::act::DiskState;
use crate::machine::Fence;
use crate::peers::Peers;
use crate::replica::Replica;

/// How many entries a peer that is in step may lack before it is said to lag: more than a busy leader has under way.
const LAG_ENTRIES_MAX: u64 = 10_000;

/// Where a group stands on this node.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// The group.
    pub group: GroupId,
    /// This node.
    pub node: NodeId,
    /// Its term, role and leader.
    pub role_state: RoleState,
    /// The first entry of its log; one after the last, if it has none.
    pub first: LogIndex,
    /// The last entry of its log.
    pub last: LogIndex,
    /// The last entry that is durable here.
    pub durable: LogIndex,
    /// The last entry that it knows to be decided.
    pub commit: LogIndex,
    /// The last entry that its state machine has applied.
    pub applied: LogIndex,
    /// Bytes of entries that its state machine has been given and has not applied.
    pub applying_bytes: usize,
    /// How the disk of this node's log does.
    pub disk: DiskState,
    /// Why its state machine has stopped, if it has.
    pub fenced: Option<Arc<Fence>>,
    /// This node was told that it is no member any more.
    pub is_removed: bool,
    /// It sleeps: nothing has happened for so long that no heartbeat is sent.
    pub is_asleep: bool,
    /// To which node the leadership is being transferred.
    pub transferring_to: Option<NodeId>,
    /// How long ago a leader was last heard, or this replica began. Zero on the leader.
    pub leader_heard: Duration,
    /// The other members, and nodes that a change is about to remove.
    pub peers: Vec<PeerReport>,
    /// What is wrong, the worst first. Empty if all is well, as far as this node can tell.
    pub unhealthy: Vec<Reason>,
}

/// What a node knows of one peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct PeerReport {
    /// The peer.
    pub node: NodeId,
    /// What it may decide; none if it is leaving and still gets entries.
    pub seat: Option<Seat>,
    /// It keeps terms and votes and no payloads.
    pub is_witness: bool,
    /// A connection to it stands.
    pub is_connected: bool,
    /// It is connected and reads entries that commands share: they do while all members read those.
    pub reads_shared_entries: bool,
    /// How long ago something came from its node, of whatever group; none if it is not connected.
    pub heard: Option<Duration>,
    /// What the leader knows of its log; none on other nodes.
    pub replication: Option<Replication>,
}

/// What a leader knows of a peer's log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Replication {
    /// Both logs agree up to here, durably on the peer.
    pub matched: LogIndex,
    /// How many entries of the leader's log the peer is not known to have.
    pub lag: u64,
    /// How entries are sent to it.
    pub pace: PaceName,
    /// How long ago it last answered this leader; since the leader took office, if it has not.
    pub answered: Duration,
    /// It could lead, as it last said.
    pub is_fit: bool,
    /// Its disk has no room for entries, as it last said.
    pub is_full: bool,
}

/// Something that is wrong with a group on this node.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// The state machine has stopped.
    Fenced(Arc<Fence>),
    /// This node was removed from the group.
    Removed,
    /// This node knows no members of the group: it is to join, and no leader has called it.
    NotJoined,
    /// No leader is known.
    NoLeader {
        /// How long ago one was last heard; since the start of this node, if none was.
        silence: Duration,
    },
    /// This node leads and has not heard a quorum lately. It leaves office when an election timeout is over.
    NoQuorum {
        /// How long ago a quorum had answered.
        silence: Duration,
    },
    /// Entries of the log are damaged. A snapshot of another member takes their place.
    Unreadable {
        /// The first.
        first: LogIndex,
        /// The last.
        last: LogIndex,
    },
    /// The disk of this node's log has no room for entries.
    DiskFull,
    /// A write has waited for the disk for longer than an election timeout.
    DiskStalled,
    /// The state machine has been at what it was given for longer than an election timeout.
    AppliesLate {
        /// Decided entries that are not applied.
        entries: u64,
    },
    /// Nothing comes from a member.
    PeerUnreachable {
        /// The member.
        peer: NodeId,
        /// For how long, if a connection seems to stand.
        silence: Option<Duration>,
    },
    /// A member lags behind what the leader's log has left, and needs a snapshot.
    PeerNeedsSnapshot {
        /// The member.
        peer: NodeId,
    },
    /// A member is far behind the leader.
    PeerLags {
        /// The member.
        peer: NodeId,
        /// How many entries it lacks.
        entries: u64,
    },
    /// The disk of a member has no room for entries.
    PeerDiskFull {
        /// The member.
        peer: NodeId,
    },
}

/// What a report is made of beside the replica.
pub(crate) struct Context<'a> {
    pub(crate) now: Time,
    pub(crate) election_timeout: Duration,
    pub(crate) peers: &'a Peers,
    pub(crate) applying_bytes: usize,
    pub(crate) applies_late: bool,
    pub(crate) fenced: Option<Arc<Fence>>,
}

impl Report {
    pub(crate) fn of(group: GroupId, replica: &Replica, context: Context<'_>) -> Self {
        let raft = replica.raft();
        let (role_state, last) = (raft.role_state(), raft.log().last());
        let is_leader = role_state.role == RoleName::Leader;
        let leader_heard = if is_leader { Duration::ZERO } else { context.now.since(raft.leader_heard()) };
        let mut report = Self {
            group,
            node: raft.node(),
            role_state,
            first: raft.log().after().index.next(),
            last,
            durable: raft.durable(),
            commit: raft.commit(),
            applied: replica.applied_upto(),
            applying_bytes: context.applying_bytes,
            disk: DiskState { is_full: !raft.has_room(), has_stalled: raft.disk_has_stalled() },
            fenced: context.fenced.clone(),
            is_removed: raft.is_removed(),
            is_asleep: raft.is_asleep(),
            transferring_to: raft.handing_over(),
            leader_heard,
            peers: peers(replica, &context),
            unhealthy: Vec::new(),
        };
        report.unhealthy = report.judge(replica, &context);
        report
    }

    fn judge(&self, replica: &Replica, context: &Context<'_>) -> Vec<Reason> {
        let raft = replica.raft();
        let mut wrong = Vec::new();
        wrong.extend(self.fenced.clone().map(Reason::Fenced));
        if self.is_removed {
            wrong.push(Reason::Removed);
        } else if raft.configuration().voters().next().is_none() {
            wrong.push(Reason::NotJoined);
        } else if self.role_state.leader.is_none() {
            wrong.push(Reason::NoLeader { silence: self.leader_heard });
        }
        // A leader that sleeps asks no peer, and learns of its node that it is gone.
        if let Some(ends) = raft.office_ends().filter(|_| !self.is_asleep) {
            let silence = context.election_timeout.saturating_sub(ends.since(context.now));
            if 2 * silence > context.election_timeout {
                wrong.push(Reason::NoQuorum { silence });
            }
        }
        wrong.extend(raft.unreadable().map(|(first, last)| Reason::Unreadable { first, last }));
        if self.disk.is_full {
            wrong.push(Reason::DiskFull);
        }
        if self.disk.has_stalled {
            wrong.push(Reason::DiskStalled);
        }
        if context.applies_late && self.fenced.is_none() {
            wrong.push(Reason::AppliesLate { entries: self.commit.since(self.applied) });
        }
        if !self.is_removed {
            wrong.extend(self.peers.iter().filter_map(|peer| self.judge_peer(peer, context)));
        }
        wrong
    }

    /// A member that is leaving may be gone already.
    fn judge_peer(&self, peer: &PeerReport, context: &Context<'_>) -> Option<Reason> {
        let PeerReport { node, .. } = *peer;
        peer.seat?;
        if !peer.is_connected {
            return Some(Reason::PeerUnreachable { peer: node, silence: None });
        }
        if let Some(silence) = peer.heard.filter(|heard| *heard >= context.election_timeout) {
            // Nodes tell each other that they are alive only where groups may sleep; otherwise a follower hears its leader
            // alone.
            if peer.replication.is_some() || self.role_state.leader == Some(node) || self.is_asleep {
                return Some(Reason::PeerUnreachable { peer: node, silence: Some(silence) });
            }
        }
        let Replication { lag, pace, is_full, .. } = peer.replication?;
        if pace == PaceName::Snapshot {
            Some(Reason::PeerNeedsSnapshot { peer: node })
        } else if is_full {
            Some(Reason::PeerDiskFull { peer: node })
        } else {
            (lag > LAG_ENTRIES_MAX).then_some(Reason::PeerLags { peer: node, entries: lag })
        }
    }
}

/// All members but this node, and those that still get entries.
fn peers(replica: &Replica, context: &Context<'_>) -> Vec<PeerReport> {
    let raft = replica.raft();
    let (own, last, members) = (raft.node(), raft.log().last(), raft.configuration());
    let replication = |PeerView { matched, pace, heard, is_fit, is_full, .. }| Replication {
        matched,
        lag: last.since(matched),
        pace,
        answered: context.now.since(heard),
        is_fit,
        is_full,
    };
    let peer = |node, view: Option<PeerView>| {
        let member = members.get(node);
        PeerReport {
            node,
            seat: member.map(|member| member.seat),
            is_witness: member.is_some_and(|member| member.witness),
            is_connected: context.peers.is_connected(node),
            reads_shared_entries: context.peers.reads_shared(node),
            heard: context.peers.heard_ago(context.now, node),
            replication: view.map(replication),
        }
    };
    let leaving = raft.peer_views().filter(|view| !members.contains(view.node));
    let mut all: Vec<PeerReport> = leaving.map(|view| peer(view.node, Some(view))).collect();
    for node in members.nodes().filter(|node| *node != own) {
        all.push(peer(node, raft.peer_views().find(|view| view.node == node)));
    }
    all.sort_by_key(|peer| peer.node);
    all
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fenced(why) => write!(f, "the state machine has stopped: {why}"),
            Self::Removed => f.write_str("this node was removed from the group; close the group here"),
            Self::NotJoined => f.write_str(
                "this node knows no members of the group: add it as a member, or wait until a leader calls it",
            ),
            Self::NoLeader { silence } => {
                write!(f, "no leader is known; one was last heard, or this node started, {} ago", seconds(*silence))
            }
            Self::NoQuorum { silence } => write!(
                f,
                "this leader has heard no quorum for {}; it leaves office unless enough members answer soon",
                seconds(*silence)
            ),
            Self::Unreadable { first, last } => {
                write!(f, "entries {first} to {last} of the log are damaged; a snapshot of another member is needed")
            }
            Self::DiskFull => f.write_str("the disk of the log is full: no entries are taken; make room on it"),
            Self::DiskStalled => {
                f.write_str("the disk of the log has stalled: a write has waited for longer than an election timeout")
            }
            Self::AppliesLate { entries } => {
                write!(f, "the state machine lags: {entries} decided entries wait to be applied for too long")
            }
            Self::PeerUnreachable { peer, silence: None } => {
                write!(f, "node {peer} is unreachable: there is no connection to it")
            }
            Self::PeerUnreachable { peer, silence: Some(silence) } => write!(
                f,
                "node {peer} is unreachable: nothing came from it for {}, though a connection stands",
                seconds(*silence)
            ),
            Self::PeerNeedsSnapshot { peer } => {
                write!(f, "node {peer} lags behind what the log has left, and needs a snapshot")
            }
            Self::PeerLags { peer, entries } => write!(f, "node {peer} lags behind by {entries} entries"),
            Self::PeerDiskFull { peer } => write!(f, "the disk of node {peer} is full: it takes no entries"),
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
