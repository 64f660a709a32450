//! What a group consists of, what may happen to it, and how much of that.
//!
//! A search comes to an end because of these bounds; within them everything that may happen does. Owns them and knows
//! nothing of how states are kept.

use std::fmt;

use vlot_raft::configuration::{Change, Configuration};
use vlot_raft::message::{Body, Message};

/// The bounds of one search.
#[derive(Clone, Debug)]
pub struct Rules {
    pub name: &'static str,
    /// Who there is: nodes `1..=nodes`, members or not.
    pub nodes: u64,
    /// Who belongs to the group at first.
    pub members: Configuration,
    /// The last term in which a node may stand.
    pub terms: u64,
    /// How many proposed entries a log may hold, beside blank ones and configurations.
    pub proposals: u64,
    /// How many messages with entries a leader may have under way to one peer.
    pub window: usize,
    /// How many writes may wait for a node's disk while it goes on. With none, it does nothing else until they are done.
    pub writes_behind: usize,
    /// How many crashes there may be, of all nodes together.
    pub crashes: u8,
    pub forgets: Forgets,
    /// Whether messages may come that a correct replica ignores for good, such as answers of an earlier term.
    pub stale: bool,
    /// Whether pre-votes are asked for by message. If not, any node may win one at any time.
    pub pre_votes: bool,
    /// Whether nodes hear of later terms by message alone. If not, any node may hear of any durable term at any time,
    /// and refusals, whose only news that is, are not sent.
    pub refusals: bool,
    /// Whether leaders send heartbeats and ask for new ones at any time; if not, only those that tell a commit index.
    pub heartbeats: bool,
    /// How often a leader may announce that the group sleeps. Where none does, nobody is asked to sleep.
    pub sleeps: u64,
    /// Whether connections break and come again, so that what was under way is sent again.
    pub reconnects: bool,
    /// Whether nodes compact their logs and get snapshots.
    pub compaction: bool,
    /// Changes of configuration: any leader may be asked, at any time, for the first that its log does not have.
    pub changes: Vec<Vec<Change>>,
    /// Whether states that differ only in the names of nodes are the same, where all nodes are alike.
    pub symmetry: bool,
}

/// What a crash takes from a disk, though it was reported to be durable. No search may pass over that.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Forgets {
    Nothing,
    Vote,
    LastEntry,
}

impl Rules {
    /// As many as there may ever be.
    pub const ANY: u8 = u8::MAX;

    /// A group of three voters, as tight as it may be.
    pub fn of_three(name: &'static str) -> Self {
        Self {
            name,
            nodes: 3,
            members: Configuration::of_voters((1..=3).map(vlot_raft::id::NodeId)),
            terms: 2,
            proposals: 1,
            window: 2,
            symmetry: true,
            writes_behind: 0,
            crashes: Self::ANY,
            forgets: Forgets::Nothing,
            stale: false,
            pre_votes: false,
            refusals: false,
            heartbeats: false,
            sleeps: 0,
            reconnects: false,
            compaction: false,
            changes: Vec::new(),
        }
    }

    /// Whether the network of this group never carries such a message.
    pub fn loses(&self, message: &Message) -> bool {
        match &message.body {
            Body::RequestPreVote { .. } | Body::PreVoteGranted | Body::PreVoteRefused => !self.pre_votes,
            Body::VoteRefused | Body::StaleTerm => !self.refusals,
            // The first makes known that a peer is fit, without which nobody sleeps.
            Body::Heartbeat { round, commit, .. } => {
                !self.heartbeats && self.sleeps == 0 && *round == 0 && commit.0 == 0
            }
            Body::HeartbeatReply { .. } => !self.heartbeats && self.sleeps == 0,
            _ => false,
        }
    }
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { nodes, terms, proposals, window, writes_behind, .. } = self;
        write!(f, "{nodes} nodes, terms to {terms}, {proposals} proposals in a log, window {window}, ")?;
        write!(f, "{writes_behind} writes behind, ")?;
        match self.crashes {
            Self::ANY => f.write_str("any crashes")?,
            crashes => write!(f, "{crashes} crashes")?,
        }
        let more = [
            (self.pre_votes, "pre-votes"),
            (self.stale, "stale messages"),
            (self.refusals, "refusals"),
            (self.heartbeats, "heartbeats"),
            (self.sleeps > 0, "sleep"),
            (self.reconnects, "reconnects"),
            (self.compaction, "compaction"),
        ];
        more.iter().filter(|(is_on, _)| *is_on).try_for_each(|(_, what)| write!(f, ", {what}"))?;
        self.changes.iter().try_for_each(|changes| write!(f, ", {changes:?}"))
    }
}
