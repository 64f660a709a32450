//! What a node must be told, and which of it makes no sense.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use vlot_log::log;
use vlot_node::policy::Policies;
use vlot_node::typed::sessions;
use vlot_node::{replica, retention, transfer};
use vlot_raft::id::NodeId;
use vlot_raft::state::Config;

use crate::clock::{Clock, TokioClock};
use crate::group;
use crate::net::{self, Listen};
use crate::recorder;
use crate::storage::Storage;
use crate::tasks::Runtime;

/// What a node must be told. [`Options::new`] fills in what has a sensible default; name what differs and end with
/// `..Options::new(dir)`, for options are added by later versions.
///
/// ```
/// use std::time::Duration;
/// use vlot::net::Listen;
/// use vlot::{NodeId, Options};
///
/// let mut options = Options {
///     cluster: 7,
///     node: NodeId(2),
///     listen: Listen::At("10.0.0.2:7001".into()),
///     peers: [(NodeId(1), "10.0.0.1:7001".to_owned()), (NodeId(3), "10.0.0.3:7001".to_owned())].into(),
///     election_timeout: Duration::from_secs(2),
///     ..Options::new("data")
/// };
/// options.group.timeout = Duration::from_secs(9);
/// assert_eq!(options.check(), Ok(()));
/// ```
///
/// A node's memory is bounded, whatever its peers do and however long one of them is away:
/// [`memory_bytes_max`](Options::memory_bytes_max) has the sum. With the defaults, one group and two peers it is 560 MiB; what is usual is a tenth of it.
#[derive(Debug)]
pub struct Options {
    /// Where the log and the snapshots are kept.
    pub storage: Storage,
    /// Which cluster the node belongs to: its log and its peers must be of the same one.
    pub cluster: u64,
    /// Which node of it this is.
    pub node: NodeId,
    /// Where it listens for peers.
    pub listen: Listen,
    /// Where the others reach this node, as `host:port`; by default where it listens, if that is one address.
    pub advertise: Option<String>,
    /// Where nodes listen, as `host:port`, before a group's members say so; this node's own entry is for the others.
    pub peers: BTreeMap<NodeId, String>,
    /// How nodes speak TLS to each other. By default they do not: whoever reaches `listen` may call itself a node. The same
    /// on all nodes, but for each one's own certificate.
    pub tls: Option<net::Tls>,
    /// What is answered to plain HTTP where it listens for peers, within TLS if there is any.
    pub pages: Option<net::Pages>,
    /// How often a leader says that it leads. The same on all nodes.
    pub heartbeat: Duration,
    /// How long a follower waits for a leader, at least. The same on all nodes.
    pub election_timeout: Duration,
    /// How much this node should lead: a leader transfers to one with a greater number that keeps up. Zero: only if
    /// no other stands.
    pub priority: u8,
    /// Spread leaders over the nodes: of each group's first voters, as [`Node::group`](crate::Node::group) is told them, one
    /// has a greater priority in that group, by the group's number. It takes over from another leader once it keeps up. Off
    /// by default: in a program with few groups a leader that stays is worth more. The same on all nodes.
    pub balance_leaders: bool,
    /// What leaders do about members by themselves: promote learners, replace voters that are gone, and balance leaders over
    /// nodes by how many groups each leads. Nothing, by default. The same on all nodes.
    pub policies: Policies,
    /// Answer reads by a lease of this length: see the contract of [`Config::lease`]. `None`, the default, asks a quorum
    /// each time and relies on no clock. The same on all nodes.
    pub lease: Option<Duration>,
    /// How long nothing must have happened in a group before it falls asleep: then it costs nothing until something happens.
    /// `None`: groups never sleep. The same on all nodes; of no effect with leases.
    pub sleep_after: Option<Duration>,
    /// Send what is proposed on this node to the leader, if another leads. On by default. Where it is off,
    /// [`ProposeError::NotLeader`](crate::ProposeError::NotLeader) says which node leads, so that callers can go there.
    pub forward: bool,
    /// Let commands that are proposed here at the same time share an entry of the log, once all members read such entries: see
    /// [`Command::shares_entry`](crate::Command::shares_entry). On by default. Off on every node, it leads back to a library that
    /// cannot read them.
    pub share_entries: bool,
    /// The bounds of the sessions of typed states. The same on all nodes.
    pub sessions: sessions::Limits,
    /// How much of each group's log is kept.
    pub retention: retention::Limits,
    /// Bounds of the log.
    pub log: LogLimits,
    /// How many bytes must be free where `storage` lies for entries to be taken; zero, the default, is as long as the log
    /// finds room. For a program that keeps something else there, such as the state machine's own files, which then still
    /// have room for what was decided.
    pub headroom_bytes: u64,
    /// How many bytes of recent entries are kept in memory, of all groups together, for peers that lag behind a
    /// little. What is not written or not applied yet is in memory besides.
    pub recent_bytes_max: usize,
    /// How many bytes of decided entries a state machine may have been given and not have applied. Beyond it proposals are
    /// refused as [`ProposeError::Busy`](crate::ProposeError::Busy), but for those of [`Class::Urgent`](crate::Class::Urgent).
    pub apply_bytes_max: usize,
    /// How snapshots are sent and received.
    pub transfer: transfer::Limits,
    /// How much is kept of what happens to the node and its groups, and written to `dir/flight` when a leader changes or
    /// something fails: see [`recorder`]. None: nothing; nor is there a record where the storage is no folder.
    pub recorder: Option<recorder::Limits>,
    /// Bounds of the transport.
    pub net: net::Limits,
    /// Bounds of each replica.
    pub replica: replica::Limits,
    /// Bounds of each group's handle.
    pub group: group::Limits,
    /// What the node takes for time: by default the system's.
    pub clock: Arc<dyn Clock>,
    /// Where its work is done: by default on the tokio runtime on which it is opened.
    pub runtime: Option<Arc<dyn Runtime>>,
    /// How long the node's task looks for more to do after it has done something, before it sleeps; other tasks and threads go
    /// first meanwhile. Zero, the default, is not at all. To wake a thread that sleeps takes tens of microseconds: as long as a command
    /// takes on nodes of one process that are in memory, and for those 100 µs are well spent. Where a disk or a network
    /// is waited for, it costs more than it brings.
    pub busy_poll: Duration,
}

impl Options {
    /// Node 1 of cluster 1, without peers, on a port of the system's choice; heartbeats each 100 ms, elections after
    /// one to two seconds of silence. What it keeps is in `dir`, which is made if it is not there.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self::on(dir.into())
    }

    /// The same on a storage of any kind: see [`Storage`].
    #[must_use]
    pub fn on(storage: impl Into<Storage>) -> Self {
        Self {
            storage: storage.into(),
            cluster: 1,
            node: NodeId(1),
            listen: Listen::At("127.0.0.1:0".into()),
            advertise: None,
            peers: BTreeMap::new(),
            tls: None,
            pages: None,
            heartbeat: Duration::from_millis(100),
            election_timeout: Duration::from_millis(1000),
            priority: 1,
            balance_leaders: false,
            policies: Policies::default(),
            lease: None,
            sleep_after: Some(Duration::from_secs(3)),
            forward: true,
            share_entries: true,
            sessions: sessions::Limits::default(),
            retention: retention::Limits::default(),
            log: LogLimits::default(),
            headroom_bytes: 0,
            recent_bytes_max: 16 << 20,
            apply_bytes_max: 32 << 20,
            transfer: transfer::Limits::default(),
            recorder: Some(recorder::Limits::default()),
            net: net::Limits::default(),
            replica: replica::Limits::default(),
            group: group::Limits::default(),
            clock: Arc::new(TokioClock::new()),
            runtime: None,
            busy_poll: Duration::ZERO,
        }
    }
}

/// The bounds of a node's log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LogLimits {
    /// How long a segment is, in bytes; rounded up to 4 KiB, at least 8 KiB, at most 1 GiB. A single write that needs more gets a
    /// longer one.
    pub segment_bytes: u32,
    /// How much that is not needed any more may stay on disk beside as much again as is needed, in bytes; at least the length
    /// of a segment. Less takes less space, and more is written again to free it.
    pub slack_bytes: u64,
}

impl Default for LogLimits {
    fn default() -> Self {
        let log::Options { segment_bytes, slack_bytes, .. } = log::Options::default();
        Self { segment_bytes, slack_bytes }
    }
}

/// Options by which no node could work as it should.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum BadOptions {
    /// A time or a bound is zero that must not be.
    Zero {
        /// Which.
        what: &'static str,
    },
    /// Followers would campaign between two heartbeats.
    ElectionTimeoutTooShort {
        /// How often a leader is heard.
        heartbeat: Duration,
        /// How long a follower waits; at least twice as long is needed.
        election_timeout: Duration,
    },
    /// A lease must end before another can be elected.
    LeaseTooLong {
        /// The lease.
        lease: Duration,
        /// It must be shorter than this.
        election_timeout: Duration,
    },
    /// Node 0 is no node.
    NoNode,
    /// Two nodes cannot listen at one address.
    SameAddress {
        /// The address.
        address: String,
        /// The nodes that have it.
        nodes: [NodeId; 2],
    },
}

impl Options {
    /// Whether a node could work as it should with these.
    ///
    /// # Errors
    /// See [`BadOptions`].
    pub fn check(&self) -> Result<(), BadOptions> {
        let Self { heartbeat, election_timeout, lease, node, .. } = *self;
        let times = [("heartbeat", heartbeat), ("election_timeout", election_timeout)];
        let others = [("group.timeout", self.group.timeout), ("lease", lease.unwrap_or(heartbeat))];
        let others = others.into_iter().chain([("sleep_after", self.sleep_after.unwrap_or(heartbeat))]);
        if let Some((what, _)) = times.into_iter().chain(others).find(|(_, time)| time.is_zero()) {
            return Err(BadOptions::Zero { what });
        }
        let sessions::Limits { idle_max, sessions_max, unsettled_max, reply_bytes_max } = self.sessions;
        let bounds = [
            ("sessions_max", sessions_max),
            ("unsettled_max", unsettled_max.into()),
            ("reply_bytes_max", reply_bytes_max),
        ];
        if let Some((what, _)) =
            bounds.into_iter().find(|(_, bound)| *bound == 0).or(idle_max.is_zero().then_some(("idle_max", 0)))
        {
            return Err(BadOptions::Zero { what });
        }
        if election_timeout < heartbeat.saturating_mul(2) {
            return Err(BadOptions::ElectionTimeoutTooShort { heartbeat, election_timeout });
        }
        if let Some(lease) = lease.filter(|lease| *lease >= election_timeout) {
            return Err(BadOptions::LeaseTooLong { lease, election_timeout });
        }
        if node.0 == 0 {
            return Err(BadOptions::NoNode);
        }
        let mut nodes = BTreeMap::new();
        for (node, address) in self.peers.iter().filter(|(_, address)| !address.is_empty()) {
            if let Some(other) = nodes.insert(address, *node) {
                return Err(BadOptions::SameAddress { address: address.clone(), nodes: [other, *node] });
            }
        }
        Ok(())
    }

    /// How many bytes of entries and frames a node holds at most with so many other nodes and groups, state machines apart: what
    /// it holds for a member that takes nothing any more included.
    ///
    /// | what | bound |
    /// |---|---|
    /// | recent entries, of all groups | [`recent_bytes_max`](Self::recent_bytes_max) |
    /// | entries on their way to the state machine, for each group | [`apply_bytes_max`](Self::apply_bytes_max), and a batch of [`replay_bytes_max`](replica::Limits::replay_bytes_max) |
    /// | proposals that wait, for each group | [`waiting_bytes_max`](group::Limits::waiting_bytes_max) |
    /// | frames to be sent, for each peer and lane | [`queue_bytes_max`](net::LaneLimits::queue_bytes_max) |
    /// | frames that have come, for each peer and lane | [`inbox_bytes_max`](net::LaneLimits::inbox_bytes_max), and a frame that is coming |
    /// | chunks of snapshots, for each that is sent or received | a window of [`transfer`](Self::transfer) |
    ///
    /// It is what everything takes when all is full at once, and far beyond what is usual: entries of one group are sent to a peer
    /// in [`inflight_bytes_max`](replica::Limits::inflight_bytes_max) at most, and share their bytes with the recent ones.
    #[must_use]
    pub fn memory_bytes_max(&self, peers: usize, groups: usize) -> usize {
        let lanes = [&self.net.control, &self.net.entries, &self.net.snapshot];
        let of_peer = lanes.map(|lane| lane.queue_bytes_max + lane.inbox_bytes_max + lane.frame_bytes_max);
        let of_group = [self.group.waiting_bytes_max, self.apply_bytes_max, self.replica.replay_bytes_max];
        let of_group = of_group.into_iter().fold(0, usize::saturating_add);
        let transfer::Limits { chunk_bytes, window, sent_at_once_max, received_at_once_max, .. } = self.transfer;
        let windows = sent_at_once_max.saturating_add(received_at_once_max);
        let of_transfers = windows.saturating_mul(window as usize).saturating_mul(chunk_bytes as usize);
        [
            peers.saturating_mul(of_peer.into_iter().fold(0, usize::saturating_add)),
            groups.saturating_mul(of_group),
            of_transfers,
            self.recent_bytes_max,
        ]
        .into_iter()
        .fold(0, usize::saturating_add)
    }

    /// As consensus is told.
    pub(crate) fn config(&self) -> Config {
        Config {
            heartbeat: self.heartbeat,
            election_timeout: self.election_timeout,
            inflight_max: self.replica.inflight_max,
            inflight_bytes_max: self.replica.inflight_bytes_max,
            uncommitted_max: self.replica.uncommitted_max,
            priority: self.priority,
            lease: self.lease,
            sleep_after: self.sleep_after,
            ..Config::new(self.node)
        }
    }

    /// As consensus is told in the groups that this node should lead, if leaders are balanced. A node that should lead only
    /// if no other stands is left alone.
    pub(crate) fn config_to_lead(&self) -> Option<Config> {
        let priority = self.priority.saturating_add(1);
        (self.balance_leaders && self.priority > 0).then(|| Config { priority, ..self.config() })
    }
}

impl fmt::Display for BadOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero { what } => write!(f, "{what} is zero"),
            Self::ElectionTimeoutTooShort { heartbeat, election_timeout } => write!(
                f,
                "an election timeout of {election_timeout:?} is too short for heartbeats every {heartbeat:?}; make it at \
                 least twice as long, better ten times"
            ),
            Self::LeaseTooLong { lease, election_timeout } => {
                write!(f, "a lease of {lease:?} must be shorter than the election timeout of {election_timeout:?}")
            }
            Self::NoNode => f.write_str("node 0 is no node; nodes are numbered from 1"),
            Self::SameAddress { address, nodes: [first, second] } => {
                write!(
                    f,
                    "nodes {first} and {second} have the same address {address}; give each node an address of its own"
                )
            }
        }
    }
}

impl std::error::Error for BadOptions {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused() {
        let ms = Duration::from_millis;
        let rows: [(u64, u64, Option<u64>, u64, bool); 8] = [
            (100, 1000, None, 1, true),
            (1000, 100, None, 1, false),
            (0, 1000, None, 1, false),
            (100, 0, None, 1, false),
            (100, 199, None, 1, false),
            (100, 200, None, 1, true),
            (100, 1000, Some(1000), 1, false),
            (100, 1000, Some(999), 0, false),
        ];
        for (heartbeat, election_timeout, lease, node, is_good) in rows {
            let options = Options {
                heartbeat: ms(heartbeat),
                election_timeout: ms(election_timeout),
                lease: lease.map(ms),
                node: NodeId(node),
                ..Options::new("data")
            };
            assert_eq!(options.check().is_ok(), is_good, "{:?}", options.check());
        }
    }

    #[test]
    fn the_memory_of_a_node_is_a_sum_of_bounds() {
        let options = Options::new("data");
        let of = |peers, groups| options.memory_bytes_max(peers, groups) >> 20;
        // Recent entries, six windows of two mebibytes; what a group is given, applies and reads; the lanes of a peer.
        let (own, group, peer) = (16 + 12, 128 + 32 + 4, 12 + 144 + 28);
        assert_eq!((of(0, 0), of(0, 1), of(2, 1)), (own, own + group, own + group + 2 * peer));
        assert_eq!(of(2, 1), 560);
    }

    #[test]
    fn two_nodes_with_one_address_are_refused() {
        let of = |addresses: [&str; 3]| {
            let peers = (1..).map(NodeId).zip(addresses.map(str::to_owned)).collect();
            Options { peers, ..Options::new("data") }.check()
        };
        assert_eq!(of(["a:1", "b:1", "c:1"]), Ok(()));
        // An address that is not known is none.
        assert_eq!(of(["a:1", "", ""]), Ok(()));
        let nodes = [NodeId(1), NodeId(3)];
        assert_eq!(of(["a:1", "b:1", "a:1"]), Err(BadOptions::SameAddress { address: "a:1".into(), nodes }));
    }
}
