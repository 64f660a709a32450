//! One machine: its clock, its disk, and the process that runs on it.
//!
//! Owns how a process starts on what its disk holds, and what of a turn becomes what. Must not know of other machines,
//! of clients' histories or of faults.

use crate::agenda::Moment;
use crate::conditions::Conditions;
use crate::disk::{Broken, Disk, LogThread};
use crate::network::Place;
use crate::register::{Command, OpId, Registers};
use std::collections::BTreeMap;
use std::time::Duration;
use vlot::Members;
use vlot::node::{Input, NodeCore};
use vlot::payload::{self, ProposalId};
use vlot::replica::{Begin, Limits};
use vlot_raft::id::{GroupId, NodeId};
use vlot_raft::invariants::Violation;
use vlot_raft::raft::Raft;
use vlot_raft::state::Config;
use vlot_raft::time::Time;

/// The one group of the simulated world.
pub const GROUP: GroupId = GroupId(1);

/// A machine.
#[derive(Debug)]
pub struct Host {
    /// Where it is.
    pub place: Place,
    /// How fast its clock runs.
    pub clock: Clock,
    /// What outlives its processes.
    pub disk: Disk,
    /// Its state machine, as it is durable.
    pub image: Registers,
    /// What runs on it; nothing while it is down.
    pub process: Option<Process>,
    /// How many processes there were: tells what is meant for an earlier one.
    pub incarnation: u32,
    /// Its process stands still until then.
    pub paused_until: Moment,
}

/// A clock that runs a little fast or slow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// What it showed when the world began, in nanoseconds.
    pub offset: u64,
    /// How many of its nanoseconds pass in a million.
    pub rate: u64,
}

/// A process: the library's core, its log thread, and a state machine.
#[derive(Debug)]
pub struct Process {
    /// All that decides.
    pub core: NodeCore,
    /// Its log thread.
    pub log: LogThread,
    /// The state machine.
    pub registers: Registers,
    /// What has come and waits for the next turn.
    pub inbox: Vec<Input>,
    /// A turn is about to end.
    pub turn_due: bool,
    /// When it will next look at its deadline.
    pub alarm: Moment,
    /// It stood still: what comes first then, timers or messages, is chance.
    pub stood_still: bool,
    /// It ends within its next turn.
    pub doomed: bool,
    /// Names it in its proposals.
    origin: u64,
    /// Numbers proposals and reads.
    sequence: u64,
    /// Whose proposals and reads are under way.
    proposals: BTreeMap<u64, OpId>,
    reads: BTreeMap<u64, (OpId, u8)>,
}

impl Clock {
    /// What it shows.
    #[must_use]
    pub fn local(&self, now: Moment) -> Time {
        Time(Duration::from_nanos(self.offset + (u128::from(now.0) * u128::from(self.rate) / 1_000_000) as u64))
    }

    /// The first moment at which it shows this.
    #[must_use]
    pub fn moment(&self, time: Time) -> Moment {
        if time == Time::NEVER {
            return Moment::NEVER;
        }
        let passed = time.0.as_nanos().saturating_sub(u128::from(self.offset));
        let moment = (passed * 1_000_000).div_ceil(u128::from(self.rate));
        Moment(u64::try_from(moment).unwrap_or(u64::MAX))
    }
}

impl Host {
    /// A machine with an empty disk.
    #[must_use]
    pub fn new(place: Place, clock: Clock) -> Self {
        Self {
            place,
            clock,
            disk: Disk::default(),
            image: Registers::default(),
            process: None,
            incarnation: 0,
            paused_until: Moment::default(),
        }
    }

    /// Its node's id.
    #[must_use]
    pub fn node(&self) -> NodeId {
        NodeId(self.place as u64 + 1)
    }

    /// Its replica's consensus; nothing while it is down.
    #[must_use]
    pub fn raft(&self) -> Option<&Raft> {
        self.process.as_ref()?.core.raft(GROUP)
    }

    /// Starts a process on what the disk holds.
    ///
    /// # Errors
    /// If storage fails, or does not hold what it should.
    pub fn start(&mut self, now: Moment, conditions: &Conditions, origin: u64, seed: u64) -> Result<(), Broken> {
        self.incarnation += 1;
        let (log, recovered) = self.disk.open(self.node(), GROUP, conditions.segment_bytes)?;
        let mut core = NodeCore::default();
        let begin = Begin {
            group: GROUP,
            config: Config {
                heartbeat: conditions.heartbeat,
                election_timeout: conditions.election_timeout,
                inflight_max: conditions.inflight_max,
                ..Config::new(self.node())
            },
            members: Members::of_voters((1..=conditions.nodes as u64).map(|node| (NodeId(node), String::new()))),
            recovered,
            applied: self.image.applied,
            limits: Limits {
                message_bytes_max: conditions.message_bytes_max,
                inflight_max: conditions.inflight_max,
                recent_bytes_max: conditions.recent_bytes_max,
                replay_bytes_max: conditions.replay_bytes_max,
                ..Limits::default()
            },
            origin,
            seed,
        };
        core.add(self.clock.local(now), begin).map_err(|behind| {
            let shown_by = format!("n{}: {behind}", self.node());
            Broken::Wrong(Violation { property: "The Log Has What Was Applied", shown_by })
        })?;
        self.paused_until = now;
        self.process = Some(Process {
            core,
            log,
            registers: self.image,
            inbox: Vec::new(),
            turn_due: false,
            alarm: Moment::NEVER,
            stood_still: false,
            doomed: false,
            origin,
            sequence: 0,
            proposals: BTreeMap::new(),
            reads: BTreeMap::new(),
        });
        Ok(())
    }
}

impl Process {
    /// Takes a client's write.
    pub fn propose(&mut self, op: OpId, command: &Command, padding: usize) {
        self.sequence += 1;
        let id = ProposalId { origin: self.origin, sequence: self.sequence };
        let payload = payload::command(id, 18 + padding, |into| command.encode(padding, into));
        self.proposals.insert(self.sequence, op);
        self.inbox.push(Input::Propose { group: GROUP, sequence: self.sequence, payload });
    }

    /// Takes a client's read.
    pub fn read(&mut self, op: OpId, key: u8) {
        self.sequence += 1;
        self.reads.insert(self.sequence, (op, key));
        self.inbox.push(Input::Read { group: GROUP, read: self.sequence });
    }

    /// A client waits no longer.
    pub fn forget(&mut self, op: OpId) {
        self.reads.retain(|_, (read, _)| *read != op);
        let Some((&sequence, _)) = self.proposals.iter().find(|(_, proposed)| **proposed == op) else { return };
        self.proposals.remove(&sequence);
        self.inbox.push(Input::Withdraw { group: GROUP, sequence });
    }

    /// Who waits for a proposal that was applied, if it is one of this process.
    pub fn proposed(&mut self, id: ProposalId) -> Option<OpId> {
        if id.origin == self.origin { self.proposals.remove(&id.sequence) } else { None }
    }

    /// Who waits for a read that may be answered, and of which register.
    pub fn read_ready(&mut self, read: u64) -> Option<(OpId, u8)> {
        self.reads.remove(&read)
    }

    /// Whose operations are under way.
    pub fn waiting(&self) -> impl Iterator<Item = OpId> + '_ {
        self.proposals.values().copied().chain(self.reads.values().map(|(op, _)| *op))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_shows_a_time_from_its_moment_on() {
        for rate in [900_000, 1_000_000, 1_100_000] {
            let clock = Clock { offset: 7_000_000_000, rate };
            for nanos in [0, 1, 999_999_937, 60_000_000_001] {
                let time = Time(Duration::from_nanos(7_000_000_000 + nanos));
                let moment = clock.moment(time);
                assert!(clock.local(moment) >= time);
                assert!(moment.0 == 0 || clock.local(Moment(moment.0 - 1)) < time, "rate {rate}, {nanos} ns");
            }
        }
    }
}
