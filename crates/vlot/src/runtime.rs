//! A running node: opens the log, listens for peers, starts the driver, and stops it.
//!
//! Owns what belongs to the whole process. Must not know what is replicated.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use vlot_log::disk::real::RealDisk;
use vlot_log::index::GroupState;
use vlot_log::log::{self, Log};
use vlot_raft::effect::Standing;
use vlot_raft::id::{GroupId, NodeId};
use vlot_raft::membership::Membership;
use vlot_raft::state::Config;

use crate::driver::Driver;
use crate::events::{Event, Events, NewGroup};
use crate::group::{self, Group, Shared};
use crate::log_thread::LogThread;
use crate::machine::{Typed, Waiters};
use crate::net::{self, Listen, Net};
use crate::node::NodeCore;
use crate::replica::{self, Begin, LogIsBehind};
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
    /// Where each node listens, as `host:port`; this node's own entry is ignored.
    pub peers: BTreeMap<NodeId, String>,
    /// How often a leader says that it leads. The same on all nodes.
    pub heartbeat: Duration,
    /// How long a follower waits for a leader, at least. The same on all nodes.
    pub election_timeout: Duration,
    /// Bounds of the log.
    pub log: log::Options,
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
            peers: BTreeMap::new(),
            heartbeat: Duration::from_millis(100),
            election_timeout: Duration::from_millis(1000),
            log: log::Options::default(),
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
    heartbeat: Duration,
    election_timeout: Duration,
    replica_limits: replica::Limits,
    group_limits: group::Limits,
    /// What the log held of each group; nothing once the group is taken up.
    recovered: Mutex<BTreeMap<GroupId, Option<GroupState>>>,
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
    LogIsBehind(LogIsBehind),
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
        let Options { dir, cluster, node, listen, peers, heartbeat, election_timeout, log, net, replica, group } =
            options;
        let disk = RealDisk::open(&dir).map_err(|error| OpenError::Log(error.to_string()))?;
        let identity = log::Identity { cluster, node };
        let (log, recovered) = Log::open(disk, identity, log).map_err(|error| OpenError::Log(error.to_string()))?;
        if let Some(torn) = &recovered.torn {
            tracing::warn!(file = %torn.file.display(), offset = torn.offset, bytes = torn.bytes, "cut off a write that was never finished");
        }
        let events = Arc::new(Events::default());
        let identity = net::Identity { cluster, node, disk: 0 };
        let (net, inbox) = Net::start(net::Options { limits: net, ..net::Options::new(identity, listen, peers) })
            .map_err(OpenError::Listen)?;
        let address = net.address();
        let report = Arc::clone(&events);
        let log =
            LogThread::start(log, Arc::new(move |done| report.push(Event::Log(done)))).map_err(OpenError::Thread)?;
        let driver = Driver {
            core: NodeCore::default(),
            events: Arc::clone(&events),
            net,
            inbox,
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
            heartbeat,
            election_timeout,
            replica_limits: replica,
            group_limits: group,
            recovered: Mutex::new(recovered.groups.into_iter().map(|(id, state)| (id, Some(state))).collect()),
            events,
            driver: Some(driver),
            failure,
        })
    }

    /// Takes up this node's replica of a group with these voters, the same on each of them. What the log has beyond
    /// the state machine's durable entry is applied again, in the background.
    ///
    /// # Errors
    /// See [`GroupError`].
    pub async fn group<S: StateMachine>(
        &self,
        id: GroupId,
        voters: impl IntoIterator<Item = NodeId>,
        state_machine: S,
    ) -> Result<Group<S>, GroupError> {
        let recovered = {
            let mut all = self.recovered.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry(id).or_insert_with(|| Some(GroupState::default())).take().ok_or(GroupError::Taken)?
        };
        let applied = state_machine.durable();
        let state = Arc::new(RwLock::new(state_machine));
        let (proposals, reads) = (Arc::new(Waiters::default()), Arc::new(Waiters::default()));
        let machine = Typed {
            origin: self.origin,
            state: Arc::clone(&state),
            proposals: Arc::clone(&proposals),
            reads: Arc::clone(&reads),
        };
        let view = Arc::new(View {
            standing: watch::Sender::new(Standing::default()),
            last: AtomicU64::new(0),
            commit: AtomicU64::new(0),
            applied: AtomicU64::new(applied.index.0),
        });
        let begin = Begin {
            group: id,
            config: Config {
                node: self.node,
                heartbeat: self.heartbeat,
                election_timeout: self.election_timeout,
                inflight_max: self.replica_limits.inflight_max,
            },
            membership: Membership::of_voters(voters),
            recovered,
            applied,
            limits: self.replica_limits.clone(),
            origin: self.origin,
            seed: draw(),
        };
        let (begun, outcome) = oneshot::channel();
        let new = NewGroup { begin, machine: Box::new(machine), view: Arc::clone(&view), begun };
        self.events.push(Event::Begin(Box::new(new)));
        outcome.await.map_err(|_| GroupError::Stopped)?.map_err(GroupError::LogIsBehind)?;
        Ok(Group(Arc::new(Shared {
            id,
            origin: self.origin,
            next: AtomicU64::new(1),
            state,
            proposals,
            reads,
            proposed_bytes: AtomicUsize::new(0),
            limits: self.group_limits.clone(),
            events: Arc::clone(&self.events),
            view,
        })))
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

/// A number that no other process draws, but by rare chance.
fn draw() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Log(why) => f.write_str(why),
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
            Self::LogIsBehind(error) => error.fmt(f),
            Self::Stopped => f.write_str("the node has stopped"),
        }
    }
}

impl std::error::Error for GroupError {}
