//! One machine: its disks, and the process that runs on it.
//!
//! Owns how a process starts on what its disks hold. Must not know of other machines, of clients' histories or of
//! faults.

pub mod clock;
pub mod machine_under_test;
pub mod process;
pub mod replica;
pub mod worker;

use crate::agenda::{Moment, Span};
use crate::conditions::Conditions;
use crate::disk::{Broken, Damaged, Disk, forget_faults};
use crate::faults::{Crash, Install};
use crate::place::{Place, Slot, address_of, group_in, node_at};
use crate::subject::Subject;
use clock::Clock;
use machine_under_test::{Image, Machine};
use process::Process;
use replica::Replica;
use std::collections::BTreeMap;
use std::time::Duration;
use vlot_log::disk::sim::SimDisk;
use vlot_log::index::GroupState;
use vlot_node::group::Begun;
use vlot_node::machine;
use vlot_node::members::Members;
use vlot_node::node::{self, NewGroup, Node};
use vlot_node::replica::{Begin, Limits};
use vlot_node::retention;
use vlot_node::snapshot::dir::SnapshotDir;
use vlot_node::state_machine::StateMachine;
use vlot_raft::id::{LogId, NodeId};
use vlot_raft::invariants::Violation;
use vlot_raft::raft::Raft;
use vlot_raft::state::Config;

/// A machine.
pub struct Host<S: Subject> {
    /// Where it is.
    pub place: Place,
    /// How fast its clock runs.
    pub clock: Clock,
    /// The disk of its log, and of all that the log says.
    pub disk: Disk,
    /// The disk of its snapshots.
    pub files: SimDisk,
    /// Its state machines, as far as they are durable by themselves.
    pub images: Vec<Image>,
    /// What runs on it; nothing while it is down.
    pub process: Option<Process<S>>,
    /// How many processes there were: tells what is meant for an earlier one.
    pub incarnation: u32,
    /// Its process stands still until then.
    pub paused_until: Moment,
    /// Its state machines stand still until then.
    pub stuck_until: Vec<Moment>,
    /// How many times slower than usual its state machines are.
    pub apply_slowness: u64,
    /// Its process may run: it was set up, and its disk is not lost.
    pub in_service: bool,
    /// Its disk is lost, and it was not set up again.
    pub is_lost: bool,
    /// The number of its disk, by which others know it.
    pub disk_id: u64,
    /// It is one of the first members, and has its first disk.
    pub is_founder: bool,
    /// In which groups it was asked to be a witness since its disk was empty.
    pub was_witness: Vec<bool>,
    /// At which step the process ends when it next takes in a snapshot, how, and for how long it is down.
    pub ends_at: Option<(Install, Crash, Span)>,
    /// How the process ends when it next saves a snapshot, and for how long it is down.
    pub ends_at_save: Option<(Crash, Span)>,
}

/// A group on a machine that can be begun: its log, and what of it cannot be read.
pub type Recovered = (GroupState, Damaged);

impl<S: Subject> Host<S> {
    /// A machine with empty disks.
    #[must_use]
    pub fn new(place: Place, groups: usize, clock: Clock, is_founder: bool, disk_id: u64) -> Self {
        Self {
            place,
            clock,
            disk: Disk::new(groups),
            files: SimDisk::new(),
            images: (0..groups).map(|_| Image::default()).collect(),
            process: None,
            incarnation: 0,
            paused_until: Moment::default(),
            stuck_until: vec![Moment::default(); groups],
            apply_slowness: 1,
            in_service: is_founder,
            is_lost: false,
            disk_id,
            is_founder,
            was_witness: vec![false; groups],
            ends_at: None,
            ends_at_save: None,
        }
    }

    /// Its node's id.
    #[must_use]
    pub fn node(&self) -> NodeId {
        node_at(self.place)
    }

    /// A replica's consensus; nothing while it is down or closed.
    #[must_use]
    pub fn raft(&self, slot: Slot) -> Option<&Raft> {
        self.process.as_ref()?.node.raft(group_in(slot))
    }

    /// Its share of a group; nothing while it is down or closed.
    #[must_use]
    pub fn replica(&self, slot: Slot) -> Option<&Replica<S>> {
        self.process.as_ref()?.replicas[slot].as_ref()
    }

    /// Its disks are others, and empty.
    pub fn wipe(&mut self, disk_id: u64) {
        let groups = self.images.len();
        (self.is_lost, self.disk_id) = (false, disk_id);
        (self.disk, self.files) = (Disk::new(groups), SimDisk::new());
        self.images = (0..groups).map(|_| Image::default()).collect();
        (self.is_founder, self.was_witness) = (false, vec![false; groups]);
    }

    /// Takes back all faults of its disks and of its state machines.
    pub fn heal(&mut self, now: Moment) {
        self.paused_until = now;
        self.stuck_until.fill(now);
        self.apply_slowness = 1;
        self.disk.heal();
        forget_faults(&self.files);
        (self.ends_at, self.ends_at_save) = (None, None);
    }

    /// Starts a process on what the disks hold, with no group begun. Gives back what the log holds of each.
    ///
    /// # Errors
    /// If storage fails, or does not hold what it should.
    pub fn start(&mut self, now: Moment, conditions: &Conditions, origin: u64) -> Result<Vec<Recovered>, Broken> {
        self.incarnation += 1;
        let (log, recovered) = self.disk.open(self.node(), conditions.segment_bytes)?;
        let snapshots = SnapshotDir::open(self.files.clone()).map_err(|_| Broken::Storage)?;
        let options = node::Options { origin, parts: snapshots.parts(), ..node_options(conditions, self.place) };
        let node = Node::new(node::Options { disk: self.disk_id, ..options });
        self.paused_until = now;
        let reads_shared = self.place >= conditions.old_programs || self.incarnation > 1;
        let mut process = Process::new(node, log, snapshots, recovered.len(), origin);
        process.reads_shared = reads_shared;
        self.process = Some(process);
        Ok(recovered)
    }

    /// Begins a group in the process that runs.
    ///
    /// # Errors
    /// If what the disks hold does not belong together.
    pub fn begin(
        &mut self,
        now: Moment,
        conditions: &Conditions,
        slot: Slot,
        inner: S::Machine,
        (recovered, damaged): Recovered,
        seed: u64,
    ) -> Result<(), Broken> {
        let image = (!conditions.in_memory).then(|| self.images[slot].clone());
        let mut machine = Machine::<S>::new(inner, image, conditions.image_every, conditions.snapshots);
        let saved = self.bring_up(slot, &recovered, &mut machine)?;
        let (durable, makes_snapshots) = (machine.durable(), machine.makes_snapshots());
        let begun = Begun { durable, saved, makes_snapshots, wants_time: machine.wants_time() };
        let founders = if self.is_founder { conditions.nodes } else { 0 };
        let (time, own) = (self.clock.local(now), self.node());
        let Some(process) = &mut self.process else { return Ok(()) };
        let begin = Begin {
            group: group_in(slot),
            config: config(conditions, self.place).into(),
            members: Members::of_voters((0..founders).map(node_at).map(|node| (node, address_of(node)))),
            recovered,
            damaged,
            applied: machine.applied(),
            limits: replica_limits(conditions),
            forwards: true,
            shares_entries: true,
            origin: process.origin,
            seed,
        };
        process.node.add(time, NewGroup { begin, begun }).map_err(|wrong| {
            let shown_by = format!("n{own}: {wrong}");
            Broken::Wrong(Violation { property: "The Log Has What Was Applied", shown_by })
        })?;
        process.replicas[slot] = Some(Replica::new(machine, saved));
        Ok(())
    }

    /// Brings a state up to this machine's newest snapshot in the log, if that is newer. Gives back of which entry it is.
    fn bring_up(&self, slot: Slot, recovered: &GroupState, machine: &mut Machine<S>) -> Result<LogId, Broken> {
        let Some(process) = &self.process else { return Ok(LogId::ZERO) };
        // A snapshot that the log does not know was never put in its place, and the one before it still counts.
        let newest = process.snapshots.newest(group_in(slot), |id| recovered.runs.contains(id));
        let saved = newest.map_err(|_| Broken::Storage)?.saved.filter(|saved| saved.header.id > machine.durable());
        let Some(saved) = saved else { return Ok(LogId::ZERO) };
        let id = saved.header.id;
        let mut bytes = saved.state().map_err(|_| Broken::Storage)?;
        machine::restore(machine, id, &mut bytes).map_err(|fence| {
            Broken::Wrong(Violation { property: "Snapshot Safety", shown_by: format!("n{}: {fence}", self.node()) })
        })?;
        Ok(id)
    }
}

fn replica_limits(conditions: &Conditions) -> Limits {
    Limits {
        message_bytes_max: conditions.message_bytes_max,
        inflight_max: conditions.inflight_max,
        inflight_bytes_max: conditions.inflight_bytes_max,
        uncommitted_max: conditions.uncommitted_max,
        replay_bytes_max: conditions.replay_bytes_max,
    }
}

fn node_options(conditions: &Conditions, place: Place) -> node::Options {
    let entries = conditions.entries_kept.unwrap_or(u64::MAX);
    // A node that is told of no peers waits to be called.
    let peers: BTreeMap<NodeId, String> = (0..conditions.hosts())
        .filter(|other| *other != place)
        .map(node_at)
        .map(|node| (node, address_of(node)))
        .collect();
    node::Options {
        config: config(conditions, place).into(),
        disk: 0,
        peers,
        recent_bytes_max: conditions.recent_bytes_max,
        apply_bytes_max: conditions.apply_bytes_max,
        retention: retention::Limits { entries, bytes: u64::MAX, entries_kept: entries, bytes_kept: u64::MAX },
        transfer: conditions.transfer,
        policies: conditions.policies.clone(),
        origin: 0,
        unix_at_origin: unix_at_origin(place),
        parts: BTreeMap::new(),
    }
}

/// What a host's wall clock shows when its steady clock shows zero: hosts are ten minutes apart.
#[must_use]
pub fn unix_at_origin(place: Place) -> Duration {
    Duration::from_secs(1_700_000_000 + 600 * place as u64)
}

fn config(conditions: &Conditions, place: Place) -> Config {
    Config {
        heartbeat: conditions.heartbeat,
        election_timeout: conditions.election_timeout,
        inflight_max: conditions.inflight_max,
        inflight_bytes_max: conditions.inflight_bytes_max,
        uncommitted_max: conditions.uncommitted_max,
        priority: conditions.priorities.get(place).copied().unwrap_or(1),
        lease: conditions.lease,
        sleep_after: conditions.sleep_after,
        ..Config::new(node_at(place))
    }
}
