//! A running node: opens the log, listens for peers, starts the driver, takes up groups and closes them, and stops.
//!
//! Owns what belongs to the whole process. Must not know what is replicated.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use vlot_log::damage::Damage;
use vlot_log::disk::Disk;
use vlot_log::index::GroupState;
use vlot_log::log::{self, Log};
use vlot_node::group::Begun;
use vlot_node::machine::{self, Fence};
use vlot_node::members::Members;
use vlot_node::node::{self, NewGroup};
use vlot_node::payload;
use vlot_node::replica::{self, Begin, CannotBegin};
use vlot_node::snapshot::dir::SnapshotDir;
use vlot_node::snapshot::{Flaw, SnapshotError};
use vlot_node::state_machine::StateMachine;
use vlot_node::typed::sessions;
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId};
use vlot_raft::state::Config;

use crate::clock::Clock;
use crate::driver::{CLOSING_MAX, Driver};
use crate::end::Ended;
use crate::events::{Beginning, Event, Events};
use crate::figures::{Measures, Meter};
use crate::group::{self, Calls, Group, Shared};
use crate::log_thread::{Headroom, LogThread};
use crate::machine::Typed;
use crate::net::{self, Net};
use crate::options::{BadOptions, LogLimits, Options};
use crate::recorder::{self, DumpError, Kind, Recorder};
use crate::shown::Shown;
use crate::snapshots::Snapshots;
use crate::stages::Stages;
use crate::state_lock::StateLock;
use crate::storage::{DirError, Opened, Storage, disk_number, draw};
use crate::tasks::Spawner;
use crate::typed::Calling;

/// A running node. Dropping it stops it.
pub struct Node {
    node: NodeId,
    address: String,
    /// What is the same for all its groups; and for those that this node should lead, if leaders are balanced.
    config: Arc<Config>,
    config_to_lead: Option<Arc<Config>>,
    /// Where nodes listen, as was told when it was opened.
    addresses: BTreeMap<NodeId, String>,
    snapshots: Snapshots,
    replica_limits: replica::Limits,
    forwards: bool,
    shares_entries: bool,
    sessions: sessions::Limits,
    group_limits: group::Limits,
    logs: Mutex<BTreeMap<GroupId, LogOf>>,
    events: Arc<Events>,
    meter: Meter,
    driver: Option<JoinHandle<()>>,
    /// Ends when nothing uses the folder of snapshots any more.
    released: Option<oneshot::Receiver<()>>,
    ended: watch::Receiver<Option<Ended>>,
}

/// What the log holds of a group.
enum LogOf {
    /// It is not open; the entries from the first to the second cannot be read, if there are any.
    Closed(Box<GroupState>, Option<(LogIndex, LogIndex)>),
    /// It is open.
    Open,
}

/// Why a node cannot run.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// With these options no node could work as it should.
    Options(BadOptions),
    /// The directory cannot be used, or another process has it.
    Dir(DirError),
    /// The log is another node's, is damaged, or cannot be read.
    Log(vlot_log::error::OpenError),
    /// The number of the disk cannot be kept.
    DiskNumber(io::Error),
    /// The folder of snapshots cannot be used.
    Snapshots(io::Error),
    /// A certificate, a key, a CA or a list of revoked certificates cannot be used.
    Tls(vlot_tls::FileError),
    /// The peers' address cannot be used.
    Listen(net::BindError),
    /// The system gives no thread.
    Thread(io::Error),
}

/// Why a group cannot be taken up.
#[derive(Debug)]
#[non_exhaustive]
pub enum GroupError {
    /// It is open on this node already.
    AlreadyOpen,
    /// This node is not among the first voters. A node that is to join a group that runs is given none.
    NotAVoter {
        /// This node.
        node: NodeId,
    },
    /// Its state machine and its log do not belong together.
    CannotBegin(CannotBegin),
    /// The folder of snapshots cannot be read.
    Snapshots(io::Error),
    /// Its snapshot cannot be used, and its log begins after it.
    UnusableSnapshot(SnapshotError),
    /// Its snapshot cannot be restored.
    Restore(Fence),
    /// The node has stopped.
    Stopped,
}

/// Why a group was not closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CloseError {
    /// It is not open on this node.
    NotOpen,
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
    /// Outside of a tokio runtime with I/O and time, unless [`Options::runtime`] names one.
    ///
    /// # Example
    /// ```
    /// # use vlot::{Node, NodeId, Options, storage::MemoryDisk};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let disk = MemoryDisk::new();
    /// let node = Node::open(Options { node: NodeId(3), ..Options::on(&disk) }).await?;
    /// println!("node {} listens at {}", node.node(), node.address());
    /// node.shutdown().await;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn open(options: Options) -> Result<Self, OpenError> {
        options.check().map_err(OpenError::Options)?;
        let spawner = Spawner::new(options.runtime.clone());
        // What is made here that is tokio's belongs to the runtime of the node's tasks.
        let _entered = spawner.tasks().enter();
        let config = Arc::new(options.config());
        let config_to_lead = options.config_to_lead().map(Arc::new);
        let Options { storage, cluster, node, listen, peers, .. } = options;
        let security = options.tls.as_ref().map(net::Security::load).transpose().map_err(OpenError::Tls)?;
        // A flight record is for people, who look for it in a folder.
        let flights = match &storage {
            Storage::Dir(dir) => Some(dir.join(recorder::FOLDER)),
            _ => None,
        };
        let Opened { log: mut dir, snapshots } = storage.open().map_err(OpenError::Dir)?;
        let snapshots = SnapshotDir::open(snapshots).map_err(OpenError::Snapshots)?;
        // The members of a group are known before any entry is read again.
        let keep = payload::sets_configuration;
        let LogLimits { segment_bytes, slack_bytes } = options.log;
        let log = log::Options { segment_bytes, slack_bytes, keep, accept_damage: false, accept_damaged_entries: true };
        let (log, recovered) = Log::open(dir.clone(), log::Identity { cluster, node }, log).map_err(OpenError::Log)?;
        if let Some(torn) = &recovered.torn {
            tracing::warn!(file = %torn.file.display(), offset = torn.offset, bytes = torn.bytes, "cut off a write that was never finished");
        }
        let mut damaged = damaged_entries(&recovered.damaged);
        let logs =
            recovered.groups.into_iter().map(|(id, state)| (id, LogOf::Closed(Box::new(state), damaged.remove(&id))));
        let logs = Mutex::new(logs.collect());
        let events = Arc::new(Events::default());
        let disk = disk_number(&mut dir).map_err(OpenError::DiskNumber)?;
        let identity = net::Identity { cluster, node, disk };
        let net_options = net::Options { limits: options.net, ..net::Options::new(identity, listen, peers.clone()) };
        let net_options = net::Options { advertise: options.advertise, security, pages: options.pages, ..net_options };
        let (net, inbox) = Net::start(net_options).map_err(OpenError::Listen)?;
        let address = net.address().to_owned();
        let report = Arc::clone(&events);
        let recorder =
            options.recorder.zip(flights).map(|(limits, folder)| begin_record(limits, folder, cluster, &config));
        let headroom = Headroom::new(options.headroom_bytes, move || dir.free_bytes());
        let report = Arc::new(move |event: Event| drop(report.push(event)));
        let measures = Arc::new(Measures::new());
        let log =
            LogThread::start(log, headroom, Arc::clone(&measures), report, &spawner).map_err(OpenError::Thread)?;
        let (told, ended) = watch::channel(None);
        let node_options = node::Options {
            config: Arc::clone(&config),
            disk,
            peers: peers.clone(),
            recent_bytes_max: options.recent_bytes_max,
            apply_bytes_max: options.apply_bytes_max,
            retention: options.retention,
            transfer: options.transfer,
            policies: options.policies,
            origin: draw(),
            unix_at_origin: unix_at_origin(&*options.clock),
            parts: snapshots.parts(),
        };
        let net = Arc::new(net);
        let meter = Meter { measures: Arc::clone(&measures), net: Arc::downgrade(&net) };
        let (snapshots, released) =
            Snapshots::new(snapshots, spawner.clone(), Arc::clone(&events), Arc::clone(&measures));
        let driver = Driver {
            node: node::Node::new(node_options),
            events: Arc::clone(&events),
            net,
            inbox,
            log,
            snapshots: snapshots.clone(),
            groups: BTreeMap::new(),
            clock: options.clock,
            heartbeat: options.heartbeat,
            busy_poll: options.busy_poll,
            measures,
            recorder,
            stages: Stages::default(),
            ended: told,
        };
        let driver = spawner.spawn(driver.run());
        Ok(Self {
            node,
            address,
            config,
            config_to_lead,
            addresses: peers,
            snapshots,
            replica_limits: options.replica,
            forwards: options.forward,
            shares_entries: options.share_entries,
            sessions: options.sessions,
            group_limits: options.group,
            logs,
            events,
            meter,
            driver: Some(driver),
            released: Some(released),
            ended,
        })
    }

    /// Takes up this node's replica of a group with these first voters, the same on each of them; once the log knows
    /// the members, it counts. With no voters, the node is to join a group that runs: it waits until the leader has
    /// added it. What the log has beyond the state machine's durable entry is applied again, in the background.
    ///
    /// # Errors
    /// See [`GroupError`]. After any but [`GroupError::Stopped`] it may be tried again.
    ///
    /// # Example
    /// ```
    /// # use vlot::*;
    /// # async fn example<S: StateMachine + Default>(node: Node) -> Result<(), Box<dyn std::error::Error>> {
    /// // On each of the three nodes alike.
    /// let first = node.group(GroupId(1), [1, 2, 3].map(NodeId), S::default()).await?;
    /// // On a node that is to join a group that runs.
    /// let second = node.group(GroupId(2), [], S::default()).await?;
    /// # let _ = (first, second);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn group<S: StateMachine>(
        &self,
        id: GroupId,
        voters: impl IntoIterator<Item = NodeId>,
        state_machine: S,
    ) -> Result<Group<S>, GroupError> {
        let address = |node| (node, self.addresses.get(&node).cloned().unwrap_or_default());
        let members = Members::of_voters(voters.into_iter().map(address));
        if members.iter().next().is_some() && !members.configuration().contains(self.node) {
            return Err(GroupError::NotAVoter { node: self.node });
        }
        let (recovered, damaged) = match self.logs().insert(id, LogOf::Open) {
            Some(LogOf::Open) => return Err(GroupError::AlreadyOpen),
            Some(LogOf::Closed(state, damaged)) => (*state, damaged),
            None => (GroupState::default(), None),
        };
        let kept = (recovered.clone(), damaged);
        let begun = self.begin(id, members, (recovered, damaged), state_machine).await;
        if begun.is_err() {
            self.logs().insert(id, LogOf::Closed(Box::new(kept.0), kept.1));
        }
        begun
    }

    async fn begin<S: StateMachine>(
        &self,
        id: GroupId,
        members: Members,
        (recovered, damaged): (GroupState, Option<(LogIndex, LogIndex)>),
        mut state_machine: S,
    ) -> Result<Group<S>, GroupError> {
        let begun = self.bring_up(id, &recovered, &mut state_machine)?;
        let applied = begun.durable.max(begun.saved);
        // Names this opening of the group in its proposals: those of an earlier one in the log are not its own.
        let origin = draw();
        let shown = Arc::new(Shown::default());
        let state = Arc::new(StateLock::new(state_machine));
        let calls = Arc::new(Calls::new(Arc::clone(&shown), self.spawner().tasks()));
        let (events, snapshots) = (Arc::clone(&self.events), self.snapshots.clone());
        let typed = Typed::new((id, origin), (Arc::clone(&state), applied), Arc::clone(&calls), events, snapshots);
        let begin = Begin {
            group: id,
            config: self.config_of(id, &members),
            members,
            recovered,
            damaged,
            applied,
            limits: self.replica_limits.clone(),
            forwards: self.forwards,
            shares_entries: self.shares_entries,
            origin,
            seed: draw(),
        };
        let (told, outcome) = oneshot::channel();
        let new = NewGroup { begin, begun };
        let beginning = Beginning { new, machine: Box::new(typed), shown: Arc::clone(&shown), begun: told };
        self.events.push(Event::Begin(Box::new(beginning))).map_err(|_| GroupError::Stopped)?;
        outcome.await.map_err(|_| GroupError::Stopped)?.map_err(GroupError::CannotBegin)?;
        let shared = Shared {
            id,
            origin,
            next: AtomicU64::new(1),
            state,
            calls,
            proposed_bytes: AtomicUsize::new(0),
            limits: self.group_limits.clone(),
            events: Arc::clone(&self.events),
            shown,
            calling: Calling::new(self.sessions.unsettled_max),
        };
        Ok(Group::new(shared))
    }

    /// Of the first voters one should lead, by the group's number.
    fn config_of(&self, id: GroupId, members: &Members) -> Arc<Config> {
        let voters: Vec<NodeId> = members.configuration().voters().collect();
        let at = id.0.checked_rem(voters.len() as u64).and_then(|at| voters.get(at as usize));
        let to_lead = self.config_to_lead.as_ref().filter(|_| at == Some(&self.node));
        Arc::clone(to_lead.unwrap_or(&self.config))
    }

    /// Brings a state up to this node's newest snapshot in the log, if that is newer.
    fn bring_up<S: StateMachine>(
        &self,
        group: GroupId,
        recovered: &GroupState,
        state: &mut S,
    ) -> Result<Begun, GroupError> {
        let (durable, makes_snapshots) = (state.durable(), state.snapshot().is_some());
        let begun = Begun { durable, saved: LogId::ZERO, makes_snapshots, wants_time: state.wants_time() };
        // A snapshot that the log does not know was never put in its place, and the one before it still counts.
        let newest =
            self.snapshots.dir.newest(group, |id| recovered.runs.contains(id)).map_err(GroupError::Snapshots)?;
        for flaw in &newest.unusable {
            tracing::warn!(%group, %flaw, "a snapshot cannot be used");
        }
        let reaches = newest.saved.as_ref().map_or(LogId::ZERO, |saved| saved.header.id).max(begun.durable);
        if let Some(flaw) = newest.unusable.into_iter().next().filter(|_| reaches < recovered.runs.after()) {
            return Err(GroupError::UnusableSnapshot(flaw));
        }
        let Some(saved) = newest.saved.filter(|saved| saved.header.id > begun.durable) else { return Ok(begun) };
        let id = saved.header.id;
        let mut bytes = saved.state().map_err(GroupError::Snapshots)?;
        machine::restore(state, id, &mut bytes).map_err(GroupError::Restore)?;
        Ok(Begun { durable: state.durable(), saved: id, ..begun })
    }

    /// Closes a group on this node: what waits in it is let go, its state machine is told, and other members go on without
    /// this one. It can be taken up again.
    ///
    /// # Errors
    /// See [`CloseError`].
    ///
    /// # Example
    /// ```
    /// # use vlot::*;
    /// # async fn example<S: StateMachine + Default>(node: Node) -> Result<(), Box<dyn std::error::Error>> {
    /// node.close(GroupId(1)).await?;
    /// assert!(node.groups().contains(&(GroupId(1), false)));
    /// let again = node.group(GroupId(1), [1, 2, 3].map(NodeId), S::default()).await?;
    /// # let _ = again;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn close(&self, group: GroupId) -> Result<(), CloseError> {
        self.end(group, false).await
    }

    /// Closes a group and removes its log and its snapshots from this node. If this node is still a member, it has then
    /// forgotten what it acknowledged: remove it from the group before.
    ///
    /// # Errors
    /// See [`CloseError`].
    pub async fn remove(&self, group: GroupId) -> Result<(), CloseError> {
        self.end(group, true).await
    }

    async fn end(&self, group: GroupId, remove: bool) -> Result<(), CloseError> {
        if !matches!(self.logs().get(&group), Some(LogOf::Open)) {
            return Err(CloseError::NotOpen);
        }
        let (closed, outcome) = oneshot::channel();
        self.events.push(Event::Close { group, remove, closed }).map_err(|_| CloseError::Stopped)?;
        let log = outcome.await.map_err(|_| CloseError::Stopped)?.log;
        let mut logs = self.logs();
        match log {
            Some(log) => drop(logs.insert(group, LogOf::Closed(Box::new(log.state), log.damaged))),
            None => drop(logs.remove(&group)),
        }
        Ok(())
    }

    /// The groups that this node's log holds, or that are open, and whether they are.
    #[must_use]
    pub fn groups(&self) -> Vec<(GroupId, bool)> {
        self.logs().iter().map(|(id, log)| (*id, matches!(log, LogOf::Open))).collect()
    }

    /// Which node this is.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The bounds of the sessions of typed states.
    pub(crate) fn sessions(&self) -> sessions::Limits {
        self.sessions.clone()
    }

    /// Where this node listens for peers.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Reads what this node measures.
    ///
    /// ```
    /// # use vlot::Node;
    /// # fn example(node: &Node) {
    /// let meter = node.meter(); // kept, and read whenever figures are asked for
    /// println!("{} bytes written to the log", meter.read().log.written_bytes);
    /// # }
    /// ```
    #[must_use]
    pub fn meter(&self) -> Meter {
        self.meter.clone()
    }

    /// Writes the flight record of this moment to a file in the folder `flight` of the node's directory, and says which. It is
    /// written by itself when a leader changes or something fails: see [`recorder`].
    ///
    /// # Errors
    /// See [`DumpError`].
    pub async fn dump_flight(&self) -> Result<PathBuf, DumpError> {
        let (dumped, written) = oneshot::channel();
        self.events.push(Event::DumpFlight { dumped }).map_err(|_| DumpError::Stopped)?;
        written.await.unwrap_or(Err(DumpError::Stopped))
    }

    /// Waits until the node has ended, and says why: its disk has failed, its driver panicked, or it was stopped.
    ///
    /// ```
    /// # use vlot::Node;
    /// # async fn serve() {}
    /// # async fn example(node: Node) {
    /// tokio::select! {
    ///     () = serve() => {}
    ///     why = node.failed() => eprintln!("the node has ended: {why}"),
    /// }
    /// # }
    /// ```
    pub async fn failed(&self) -> Ended {
        let mut ended = self.ended.clone();
        let why = ended.wait_for(Option::is_some).await;
        // The driver says why before it is gone.
        why.ok().and_then(|why| why.clone()).unwrap_or(Ended::Stopped)
    }

    /// Stops: nothing is proposed, applied or answered any more. What was accepted before is in the log, and its storage is
    /// free for another node, unless a state machine stands still for long.
    pub async fn shutdown(mut self) {
        let _ = self.events.push(Event::Stop);
        if let Some(driver) = self.driver.take() {
            // A driver that panicked has said so.
            let _ = driver.await;
        }
        let (spawner, released) = (self.snapshots.spawner.clone(), self.released.take());
        drop(self);
        if let Some(released) = released {
            // Threads that have just closed a state machine or written a snapshot still have the folder at hand.
            let wait = spawner.spawn(async move { drop(timeout(CLOSING_MAX, released).await) });
            let _ = wait.await;
        }
    }

    /// Where this node's work is done.
    pub(crate) fn spawner(&self) -> &Spawner {
        &self.snapshots.spawner
    }

    fn logs(&self) -> MutexGuard<'_, BTreeMap<GroupId, LogOf>> {
        // Only moves of whole values happen under the lock.
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.events.push(Event::Stop);
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("node", &self.node).field("address", &self.address).finish_non_exhaustive()
    }
}

/// What the time of day was at the clock's origin, since 1970.
fn unix_at_origin(clock: &dyn Clock) -> Duration {
    let unix = clock.wall().duration_since(UNIX_EPOCH).unwrap_or_default();
    unix.saturating_sub(clock.now().since_origin())
}

/// Of each group, the first and the last entry that is damaged. Each place is said: if no other member has the entries,
/// an operator will look there.
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

fn begin_record(limits: recorder::Limits, folder: PathBuf, cluster: u64, config: &Config) -> Recorder {
    let Config { node, heartbeat, election_timeout, .. } = *config;
    let mut recorder = Recorder::new(limits, folder, (cluster, node), draw());
    recorder.record(Kind::Start { version: env!("CARGO_PKG_VERSION").to_owned(), heartbeat, election_timeout });
    recorder
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Options(bad) => bad.fmt(f),
            Self::Dir(error) => error.fmt(f),
            Self::Log(error) => error.fmt(f),
            Self::DiskNumber(error) => write!(f, "cannot keep the disk's number: {error}"),
            Self::Snapshots(error) => write!(f, "cannot use the folder of snapshots: {error}"),
            Self::Tls(error) => error.fmt(f),
            Self::Listen(error) => error.fmt(f),
            Self::Thread(error) => write!(f, "cannot start the log's thread: {error}"),
        }
    }
}

impl std::error::Error for OpenError {}

impl fmt::Display for GroupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyOpen => f.write_str("the group is open on this node already"),
            Self::NotAVoter { node } => write!(
                f,
                "node {node} is not among the group's first voters; name it, or name no voters if it is to join a group \
                 that runs"
            ),
            Self::CannotBegin(error) => error.fmt(f),
            Self::Snapshots(error) => write!(f, "cannot read the snapshots: {error}"),
            Self::UnusableSnapshot(flaw @ SnapshotError::Damaged { flaw: Flaw::OtherVersion { .. }, .. }) => {
                flaw.fmt(f)
            }
            Self::UnusableSnapshot(flaw) => write!(
                f,
                "{flaw}; nothing before the log's beginning is left on this disk: remove the member and add it again, with \
                 an empty directory"
            ),
            Self::Restore(why) => why.fmt(f),
            Self::Stopped => f.write_str("the node has stopped"),
        }
    }
}

impl std::error::Error for GroupError {}

impl fmt::Display for CloseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotOpen => "the group is not open on this node",
            Self::Stopped => "the node has stopped",
        })
    }
}

impl std::error::Error for CloseError {}
