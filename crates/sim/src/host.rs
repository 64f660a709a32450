//! One machine: its disks, and the process that runs on it.
//!
//! Owns how a process starts on what its disks hold. Must not know of other machines, of clients' histories or of
//! faults.

mod clock;
mod process;

pub use clock::Clock;
pub use process::{Fetch, Process};

use crate::agenda::{Moment, Span};
use crate::conditions::Conditions;
use crate::disk::{Broken, Disk};
use crate::faults::{Crash, Install};
use crate::network::{Place, node_at};
use crate::register::Registers;
use crate::shelf::{Shelf, Snapshot};
use vlot::Members;
use vlot::node::NodeCore;
use vlot::replica::{Begin, Limits};
use vlot_log::index::GroupState;
use vlot_raft::id::{GroupId, LogId, NodeId};
use vlot_raft::invariants::Violation;
use vlot_raft::raft::Raft;
use vlot_raft::state::Config;

/// The one group of the simulated world.
pub const GROUP: GroupId = GroupId(1);

/// A machine.
#[derive(Debug)]
pub struct Host {
    /// Where it is.
    pub place: Place,
    /// How fast its clock runs.
    pub clock: Clock,
    /// The disk of its log, and of all that the log says.
    pub disk: Disk,
    /// Its snapshots.
    pub shelf: Shelf,
    /// Its state machine, as it is durable by itself.
    pub image: Registers,
    /// What runs on it; nothing while it is down.
    pub process: Option<Process>,
    /// How many processes there were: tells what is meant for an earlier one.
    pub incarnation: u32,
    /// Its process stands still until then.
    pub paused_until: Moment,
    /// Its process may run: it was set up, and its disk is not lost.
    pub in_service: bool,
    /// Its disk is lost, and it was not set up again.
    pub is_lost: bool,
    /// The number of its disk, by which others know it.
    pub disk_id: u64,
    /// It is one of the first members, and has its first disk.
    pub is_founder: bool,
    /// It was asked to be a witness since its disk was empty.
    pub was_witness: bool,
    /// At which step the process ends when it next takes in a snapshot, how, and for how long it is down.
    pub ends_at: Option<(Install, Crash, Span)>,
}

impl Host {
    /// A machine with empty disks.
    #[must_use]
    pub fn new(place: Place, clock: Clock, is_founder: bool, disk_id: u64) -> Self {
        Self {
            place,
            clock,
            disk: Disk::default(),
            shelf: Shelf::default(),
            image: Registers::default(),
            process: None,
            incarnation: 0,
            paused_until: Moment::default(),
            in_service: is_founder,
            is_lost: false,
            disk_id,
            is_founder,
            was_witness: false,
            ends_at: None,
        }
    }

    /// Its node's id.
    #[must_use]
    pub fn node(&self) -> NodeId {
        node_at(self.place)
    }

    /// Its replica's consensus; nothing while it is down.
    #[must_use]
    pub fn raft(&self) -> Option<&Raft> {
        self.process.as_ref()?.core.raft(GROUP)
    }

    /// Its disks are others, and empty.
    pub fn wipe(&mut self, disk_id: u64) {
        (self.is_lost, self.disk_id) = (false, disk_id);
        (self.disk, self.shelf, self.image) = (Disk::default(), Shelf::default(), Registers::default());
        (self.is_founder, self.was_witness) = (false, false);
    }

    /// What its state machine has durably: by itself, or in a snapshot of its own.
    #[must_use]
    pub fn durably_applied(&self) -> LogId {
        let saved = self.process.as_ref().map(|process| process.saved).unwrap_or_default();
        self.image.applied.max(saved)
    }

    /// Starts a process on what the disks hold.
    ///
    /// # Errors
    /// If storage fails, or does not hold what it should.
    pub fn start(&mut self, now: Moment, conditions: &Conditions, origin: u64, seed: u64) -> Result<(), Broken> {
        self.incarnation += 1;
        self.shelf.open().map_err(|_| Broken::Storage)?;
        let (log, recovered, damaged) = self.disk.open(self.node(), GROUP, conditions.segment_bytes)?;
        let (registers, saved) = self.bring_up(&recovered, conditions.in_memory);
        let mut core = NodeCore::new(conditions.recent_bytes_max);
        let founders = if self.is_founder { conditions.nodes } else { 0 };
        let begin = Begin {
            group: GROUP,
            config: config(conditions, self.place).into(),
            members: Members::of_voters((0..founders).map(node_at).map(|node| (node, format!("n{node}:1")))),
            recovered,
            damaged,
            applied: registers.applied,
            limits: Limits {
                message_bytes_max: conditions.message_bytes_max,
                inflight_max: conditions.inflight_max,
                inflight_bytes_max: conditions.inflight_bytes_max,
                uncommitted_max: conditions.uncommitted_max,
                replay_bytes_max: conditions.replay_bytes_max,
            },
            origin,
            seed,
        };
        core.add(self.clock.local(now), begin).map_err(|wrong| {
            let shown_by = format!("n{}: {wrong}", self.node());
            Broken::Wrong(Violation { property: "The Log Has What Was Applied", shown_by })
        })?;
        self.paused_until = now;
        self.process = Some(Process::new(core, log, registers, saved, origin));
        Ok(())
    }

    /// Brings the state up to the newest snapshot in the log, if that is newer, as the library does when it starts
    /// (`vlot/src/runtime.rs`). Gives back what is applied then, and what of it is in the snapshot.
    fn bring_up(&mut self, recovered: &GroupState, in_memory: bool) -> (Registers, LogId) {
        // A snapshot that the log does not know was never put in its place, and the one before it still counts.
        match self.shelf.newest(|id| recovered.runs.contains(id)) {
            Some(Snapshot { registers, .. }) if registers.applied > self.image.applied => {
                if !in_memory {
                    self.image = registers;
                }
                (registers, registers.applied)
            }
            _ => (self.image, LogId::ZERO),
        }
    }
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
        ..Config::new(node_at(place))
    }
}
