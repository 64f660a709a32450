//! A running node: opens the log, listens for peers, starts the driver, and stops it.
//!
//! Owns what belongs to the whole process. Must not know what is replicated.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use vlot_log::damage::Damage;
use vlot_log::disk::real::{RealDisk, free_bytes};
use vlot_log::index::GroupState;
use vlot_log::log::{self, Log};
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId};
use vlot_raft::state::Config;

use crate::driver::Driver;
use crate::events::{Event, Events, NewGroup};
use crate::exchange::Exchange;
use crate::group::{self, Group, Shared};
use crate::log_thread::{Headroom, LogThread};
use crate::machine::{Typed, Waiters, restore};
use crate::members::Members;
use crate::net::{self, Listen, Net};
use crate::node::NodeCore;
use crate::payload;
use crate::replica::{self, Begin, CannotBegin};
use crate::retention;
use crate::snapshot::Shelf;
use crate::state_machine::StateMachine;
use crate::view::View;

/// What a node must be told. [`Options::new`] fills in what has a sensible default.
#[derive(Debug)]
pub struct Options {
    /// Where the log is kept. Made if it is not there.
    pub dir: PathBuf,
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
    /// What is answered to plain HTTP where it listens for peers.
    pub pages: Option<net::Pages>,
    /// How often a leader says that it leads. The same on all nodes.
    pub heartbeat: Duration,
    /// How long a follower waits for a leader, at least. The same on all nodes.
    pub election_timeout: Duration,
    /// How much this node should lead: a leader hands over to one with a greater number that keeps up. Zero: only if
    /// nobody else stands.
    pub priority: u8,
    /// Answer reads by a lease of this length: see the contract of [`Config::lease`]. `None`, the default, asks a quorum
    /// each time and relies on no clock. The same on all nodes.
    pub lease: Option<Duration>,
    /// How much of each group's log is kept.
    pub retention: retention::Limits,
    /// Bounds of the log.
    pub log: log::Options,
    /// How many bytes of the file system that holds `dir` must be free for entries to be taken; zero, the default, is as
    /// long as the log finds room. For who keeps something else there, such as the state machine's own files, which
    /// then still has room to write down what was decided.
    pub headroom_bytes: u64,
    /// How many bytes of recent entries are kept in memory, of all groups together, for peers that lag behind a
    /// little. What is not written or not applied yet is in memory besides.
    pub recent_bytes_max: usize,
    /// Bounds of the transport.
    pub net: net::Limits,
    /// Bounds of each replica.
    pub replica: replica::Limits,
    /// Bounds of each group's handle.
    pub group: group::Limits,
}

impl Options {
    /// Node 1 of cluster 1, without peers, on a port of the system's choice; heartbeats each 100 ms, elections after
    /// one to two seconds of silence.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            cluster: 1,
            node: NodeId(1),
            listen: Listen::At("127.0.0.1:0".into()),
            advertise: None,
            peers: BTreeMap::new(),
            pages: None,
            heartbeat: Duration::from_millis(100),
            election_timeout: Duration::from_millis(1000),
            priority: 1,
            lease: None,
            retention: retention::Limits::default(),
            log: log::Options::default(),
            headroom_bytes: 0,
            recent_bytes_max: 16 << 20,
            net: net::Limits::default(),
            replica: replica::Limits::default(),
            group: group::Limits::default(),
        }
    }
}

/// A running node. Dropping it stops it.
pub struct Node {
    node: NodeId,
    address: std::net::SocketAddr,
    origin: u64,
    /// What is the same for all its groups.
    config: Arc<Config>,
    /// Where nodes listen, as was told when it was opened.
    addresses: BTreeMap<NodeId, String>,
    shelf: Shelf,
    replica_limits: replica::Limits,
    group_limits: group::Limits,
    /// What the log held of each group; nothing once the group is taken up.
    recovered: Mutex<BTreeMap<GroupId, Option<GroupState>>>,
    /// Of each group, the first and the last entry that the log cannot read, if there are any.
    damaged: BTreeMap<GroupId, (LogIndex, LogIndex)>,
    events: Arc<Events>,
    driver: Option<JoinHandle<()>>,
    failure: watch::Receiver<Option<String>>,
}

/// Why a node cannot run.
#[derive(Debug)]
pub enum OpenError {
    /// The log cannot be opened: the directory cannot be used, another process has it, it is another node's, or it is
    /// damaged.
    Log(String),
    /// The folder of snapshots cannot be used.
    Shelf(std::io::Error),
    /// The peers' address cannot be used.
    Listen(net::BindError),
    /// The system gives no thread.
    Thread(std::io::Error),
}

/// Why a group cannot be taken up.
#[derive(Debug)]
pub enum GroupError {
    /// This node has it already.
    Taken,
    /// Its state machine and its log do not belong together.
    CannotBegin(CannotBegin),
    /// A snapshot cannot be read or restored.
    Snapshot(String),
    /// The node has stopped.
    Stopped,
}

impl Node {
    /// Opens the log, which is read once as a whole, and begins to talk to peers.
    ///
    /// # Errors
    /// See [`OpenError`]; each names what is wrong and where.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time.
    pub async fn open(options: Options) -> Result<Self, OpenError> {
        let Options { dir, cluster, node, listen, peers, .. } = options;
        let config = Config {
            heartbeat: options.heartbeat,
            election_timeout: options.election_timeout,
            inflight_max: options.replica.inflight_max,
            inflight_bytes_max: options.replica.inflight_bytes_max,
            uncommitted_max: options.replica.uncommitted_max,
            priority: options.priority,
            lease: options.lease,
            ..Config::new(node)
        };
        let disk = RealDisk::open(&dir).map_err(|error| OpenError::Log(error.to_string()))?;
        let shelf = Shelf::open(&dir.join("snapshots")).map_err(OpenError::Shelf)?;
        let identity = log::Identity { cluster, node };
        // Who belongs to a group is known before any entry is read again.
        let keep = payload::sets_configuration;
        let log = log::Options { keep, accept_damaged_entries: true, ..options.log };
        let (log, recovered) = Log::open(disk, identity, log).map_err(|error| OpenError::Log(error.to_string()))?;
        if let Some(torn) = &recovered.torn {
            tracing::warn!(file = %torn.file.display(), offset = torn.offset, bytes = torn.bytes, "cut off a write that was never finished");
        }
        let damaged = damaged_entries(&recovered.damaged);
        let events = Arc::new(Events::default());
        let disk = disk_id(&dir).map_err(|error| OpenError::Log(format!("cannot keep the disk's number: {error}")))?;
        let identity = net::Identity { cluster, node, disk };
        let net_options = net::Options { limits: options.net, ..net::Options::new(identity, listen, peers.clone()) };
        let net_options = net::Options { advertise: options.advertise, pages: options.pages, ..net_options };
        let (net, inbox) = Net::start(net_options).map_err(OpenError::Listen)?;
        let net = Arc::new(net);
        let address = net.address();
        let exchange = Exchange::new(shelf.clone(), Arc::clone(&net), Arc::clone(&events), draw());
        let report = Arc::clone(&events);
        let headroom = Headroom::new(options.headroom_bytes, move || free_bytes(&dir).ok());
        let log = LogThread::start(log, headroom, Arc::new(move |done| report.push(Event::Log(done))));
        let log = log.map_err(OpenError::Thread)?;
        let driver = Driver {
            core: NodeCore::new(options.recent_bytes_max),
            events: Arc::clone(&events),
            net,
            inbox,
            exchange,
            peers: peers.clone(),
            retention: options.retention,
            disks: BTreeMap::from([(node, disk)]),
            other_disk: false,
            log,
            groups: BTreeMap::new(),
            started: Instant::now(),
        };
        let (failed, failure) = watch::channel(None);
        let driver = tokio::spawn(async move {
            failed.send_replace(driver.run().await);
        });
        Ok(Self {
            node,
            address,
            origin: draw(),
            config: Arc::new(config),
            addresses: peers,
            shelf,
            replica_limits: options.replica,
            group_limits: options.group,
            damaged,
            recovered: Mutex::new(recovered.groups.into_iter().map(|(id, state)| (id, Some(state))).collect()),
            events,
            driver: Some(driver),
            failure,
        })
    }

    /// Takes up this node's replica of a group with these first voters, the same on each of them; once the log knows
    /// the members, it counts. With no voters, the node is to join a group that runs: it waits until the leader has
    /// added it. What the log has beyond the state machine's durable entry is applied again, in the background.
    ///
    /// # Errors
    /// See [`GroupError`].
    pub async fn group<S: StateMachine>(
        &self,
        id: GroupId,
        voters: impl IntoIterator<Item = NodeId>,
        mut state_machine: S,
    ) -> Result<Group<S>, GroupError> {
        let recovered = {
            let mut all = self.recovered.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry(id).or_insert_with(|| Some(GroupState::default())).take().ok_or(GroupError::Taken)?
        };
        let (applied, saved) = self.bring_up(id, &recovered, &mut state_machine).map_err(GroupError::Snapshot)?;
        let state = Arc::new(RwLock::new(state_machine));
        let (proposals, reads) = (Arc::new(Waiters::default()), Arc::new(Waiters::default()));
        let (changes, transfers) = (Arc::new(Waiters::default()), Arc::new(Waiters::default()));
        let machine = Typed {
            origin: self.origin,
            state: Arc::clone(&state),
            proposals: Arc::clone(&proposals),
            reads: Arc::clone(&reads),
            changes: Arc::clone(&changes),
            transfers: Arc::clone(&transfers),
        };
        let view = Arc::new(View::new(applied));
        let address = |node| (node, self.addresses.get(&node).cloned().unwrap_or_default());
        let begin = Begin {
            group: id,
            config: Arc::clone(&self.config),
            members: Members::of_voters(voters.into_iter().map(address)),
            recovered,
            damaged: self.damaged.get(&id).copied(),
            applied,
            limits: self.replica_limits.clone(),
            origin: self.origin,
            seed: draw(),
        };
        let (begun, outcome) = oneshot::channel();
        let new = NewGroup { begin, machine: Box::new(machine), view: Arc::clone(&view), saved, begun };
        self.events.push(Event::Begin(Box::new(new)));
        outcome.await.map_err(|_| GroupError::Stopped)?.map_err(GroupError::CannotBegin)?;
        Ok(Group(Arc::new(Shared {
            id,
            origin: self.origin,
            next: AtomicU64::new(1),
            state,
            proposals,
            reads,
            changes,
            transfers,
            proposed_bytes: AtomicUsize::new(0),
            limits: self.group_limits.clone(),
            events: Arc::clone(&self.events),
            view,
        })))
    }

    /// Brings a state up to this node's newest snapshot in the log, if that is newer. Gives back what it has applied
    /// then, and what of it is in the snapshot.
    fn bring_up<S: StateMachine>(
        &self,
        group: GroupId,
        recovered: &GroupState,
        state: &mut S,
    ) -> Result<(LogId, LogId), String> {
        let applied = state.durable();
        // A snapshot that the log does not know was never put in its place, and the one before it still counts.
        let newest = self.shelf.newest(group, |id| recovered.runs.contains(id));
        match newest.map_err(|error| format!("cannot read the snapshots: {error}"))? {
            Some(saved) if saved.header.id > applied => {
                restore(state, &saved)?;
                Ok((saved.header.id, saved.header.id))
            }
            _ => Ok((applied, LogId::ZERO)),
        }
    }

    /// Where this node listens for peers.
    #[must_use]
    pub fn address(&self) -> std::net::SocketAddr {
        self.address
    }

    /// Waits until the node cannot go on, and says why: its disk has failed, or its log holds what cannot be.
    pub async fn failed(&self) -> String {
        let mut failure = self.failure.clone();
        loop {
            if let Some(why) = &*failure.borrow_and_update() {
                return why.clone();
            }
            if failure.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Stops: nothing is proposed, applied or answered any more. What was accepted before is in the log.
    pub async fn shutdown(mut self) {
        self.events.push(Event::Stop);
        if let Some(driver) = self.driver.take() {
            // A driver that panicked has said so.
            let _ = driver.await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.events.push(Event::Stop);
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("node", &self.node).field("address", &self.address).finish_non_exhaustive()
    }
}

/// Of each group, the first and the last entry that is damaged. Each place is said: if no other member has the entries,
/// somebody will look there.
fn damaged_entries(all: &[Damage]) -> BTreeMap<GroupId, (LogIndex, LogIndex)> {
    let mut damaged: BTreeMap<GroupId, (LogIndex, LogIndex)> = BTreeMap::new();
    for damage in all {
        // Any other is refused.
        let Damage::Entries { group, first, last, file, offset, flaw } = damage else { continue };
        tracing::error!(%group, %first, %last, file = %file.display(), offset, %flaw, "entries of the log are damaged");
        let range = damaged.entry(*group).or_insert((*first, *last));
        *range = (range.0.min(*first), range.1.max(*last));
    }
    damaged
}

/// The number of this disk, drawn when it is first used. Whoever loses the disk loses the number with it.
fn disk_id(dir: &Path) -> io::Result<u64> {
    let path = dir.join("disk");
    match fs::read_to_string(&path) {
        Ok(text) => {
            let damaged = || io::Error::new(io::ErrorKind::InvalidData, format!("{} holds no number", path.display()));
            u64::from_str_radix(text.trim(), 16).map_err(|_| damaged())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let (disk, unfinished) = (draw().max(1), dir.join("disk.new"));
            let mut file = File::create(&unfinished)?;
            writeln!(file, "{disk:016x}")?;
            file.sync_all()?;
            fs::rename(&unfinished, &path)?;
            File::open(dir)?.sync_all()?;
            Ok(disk)
        }
        Err(error) => Err(error),
    }
}

/// A number that no other process draws, but by rare chance.
fn draw() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(why) => f.write_str(why),
            Self::Shelf(error) => write!(f, "cannot use the folder of snapshots: {error}"),
            Self::Listen(error) => error.fmt(f),
            Self::Thread(error) => write!(f, "cannot start the log's thread: {error}"),
        }
    }
}

impl std::error::Error for OpenError {}

impl fmt::Display for GroupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken => f.write_str("this node has a replica of the group already"),
            Self::CannotBegin(error) => error.fmt(f),
            Self::Snapshot(why) => f.write_str(why),
            Self::Stopped => f.write_str("the node has stopped"),
        }
    }
}

impl std::error::Error for GroupError {}
