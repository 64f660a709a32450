//! The world: machines, the network between them, their clients, and what goes wrong, under virtual time.
//!
//! Owns the order in which everything happens, and carries out what nodes and their log threads ask for. Decides nothing by
//! itself: what a node does is decided in `vlot-node`, faults are planned in `faults.rs`, frames delayed in `network.rs`,
//! properties checked in `checks`.

mod acts;
mod apply;
mod clients;
mod disks;
mod files;
pub mod graphs;
mod groups;
mod links;
mod looks;
mod operators;
mod processes;
mod strikes;
mod trials;
mod watch;

use crate::agenda::{Agenda, Moment, Span};
use crate::checks::no_disruption::Office;
use crate::checks::replicated_time::ReplicatedTime;
use crate::checks::{Checks, progress};
use crate::conditions::{Conditions, Options};
use crate::fault_kind::FaultKind;
use crate::faults::Fault;
use crate::host::Host;
use crate::host::clock::Clock;
use crate::machines::registers::RegistersUsed;
use crate::network::Network;
use crate::place::{Place, Slot, node_at};
use crate::rng::Rng;
use crate::subject::{End, OpId, Reply, Subject};
use crate::transcript::{Note, Transcript};
use crate::workload::Workload;
use bytes::Bytes;
use operators::{Errand, MembersHistory, Operators};
use std::collections::{BTreeMap, BTreeSet};
use trials::Trial;
use vlot_node::Lane;
use vlot_node::state_machine::StateMachine;
use vlot_raft::configuration::Configuration;
use vlot_raft::invariants::Violation;
use watch::SETTLING;

/// What a run has shown.
#[derive(Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What does not hold, if anything.
    pub violation: Option<Violation>,
    /// What was done.
    pub sums: Sums,
    /// The transcript, or its end.
    pub transcript: Transcript,
}

/// What was done, in numbers.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    /// How long the run was.
    pub simulated: Span,
    /// Events.
    pub events: u64,
    /// Operations of clients.
    pub operations: u64,
    /// Those of them whose outcome stayed unknown.
    pub unknown: u64,
    /// Terms that had a leader.
    pub elections: u64,
    /// Changes of members that were applied.
    pub changes: u64,
    /// Snapshots that state machines have become.
    pub snapshots: u64,
    /// Faults, by kind.
    pub faults: BTreeMap<FaultKind, u64>,
}

impl Sums {
    /// Adds those of another run.
    pub fn add(&mut self, more: &Self) {
        self.simulated = self.simulated + more.simulated;
        self.events += more.events;
        self.operations += more.operations;
        self.unknown += more.unknown;
        self.elections += more.elections;
        self.changes += more.changes;
        self.snapshots += more.snapshots;
        more.faults.iter().for_each(|(kind, count)| *self.faults.entry(*kind).or_default() += count);
    }
}

/// Something that will happen.
#[derive(Debug)]
enum Event {
    /// A machine starts its process, if it has none.
    Start(Place),
    /// A frame arrives at that process. Whether it asks for a change of members is told apart: see `operators.rs`.
    Frame { to: Place, incarnation: u32, from: Place, connection: u32, lane: Lane, is_change: bool, bytes: Bytes },
    /// A process hears that a connection is up, or gone.
    News { to: Place, incarnation: u32, peer: Place, up: bool },
    /// A process ends its turn.
    Turn(Place, u32),
    /// A process looks at its deadline.
    Alarm(Place, u32),
    /// A process's log thread is done with the job of this number.
    Disk(Place, u32, u64),
    /// A state machine is done with the job of this number.
    Machine(Place, u32, Slot, u64),
    /// A job of this number with a group's files is done.
    File(Place, u32, Slot, u64),
    /// A process begins a group that was closed, or has waited.
    Begin(Place, u32, Slot),
    /// A process whose disk is full looks whether there is room.
    Room(Place, u32),
    /// Two nodes try to connect.
    Dial(Place, Place),
    /// A client of a group goes on.
    Client(Slot, usize),
    /// A client waits no longer.
    ClientTimeout(Slot, OpId),
    /// A fault of this kind strikes, as it does so far apart.
    Strike(FaultKind, Span),
    /// A fault is over.
    Over(FaultKind, Fault),
    /// All faults are over.
    Heal,
    /// Is there a leader yet?
    Watch,
    /// A node looks after its state machines.
    LookAfter(Place, Span),
    /// An operator goes on with something.
    Operate(Errand),
}

/// How far the run has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// Faults strike.
    Storm,
    /// They are over since then, and leaders must be found.
    Electing(Moment),
    /// There are some since the first moment, and all nodes must come to have what they have; they do since the second.
    CatchingUp(Moment, Option<Moment>),
    /// They do since then, and every operation must succeed.
    Serving(Moment),
    /// Nothing more is asked, since the second moment.
    Settling(Moment, Moment),
    /// All is well, and is to stay so while this is tried.
    Trial(Trial),
    /// There is nothing more to see.
    Over,
}

const WATCH_EVERY: Span = Span::millis(20);
const DIAL_AGAIN: Span = Span::millis(100);
const START_AGAIN: Span = Span::millis(500);
const LOOK_FOR_ROOM: Span = Span::millis(100);

/// Runs the world of a seed, with registers, to its end, or to the first violation.
#[must_use]
pub fn run(seed: u64, options: &Options) -> Outcome {
    run_with::<RegistersUsed>(seed, options)
}

/// Runs the world of a seed with any state machine.
#[must_use]
pub fn run_with<S: Subject>(seed: u64, options: &Options) -> Outcome {
    let mut world = World::<S>::new(seed, options);
    let violation = world.run().err();
    world.sums.simulated = world.agenda.now() - Moment::default();
    for group in &world.groups {
        let history = group.workload.history();
        world.sums.changes += group.members.changes();
        world.sums.operations += history.len() as u64;
        world.sums.unknown += history.iter().filter(|op| matches!(op.ended, Some((_, End::Unknown)))).count() as u64;
    }
    Outcome { seed, violation, sums: world.sums, transcript: world.transcript }
}

struct World<S: Subject> {
    conditions: Conditions,
    agenda: Agenda<Event>,
    hosts: Vec<Host<S>>,
    network: Network,
    groups: Vec<Group<S>>,
    transcript: Transcript,
    sums: Sums,
    phase: Phase,
    rng: Rng,
    fault_rng: Rng,
    disk_rng: Rng,
    operators: Operators,
    /// The leader of each group when a trial of one began.
    others: Vec<Option<Office>>,
}

/// A group, as it is seen from outside of all nodes.
struct Group<S: Subject> {
    workload: Workload<S>,
    checks: Checks<Reply<S>>,
    time: ReplicatedTime,
    members: MembersHistory,
    /// Operations that were refused because a state machine lagged.
    busy: BTreeSet<OpId>,
}

impl<S: Subject> World<S> {
    fn new(seed: u64, options: &Options) -> Self {
        let conditions = Conditions::draw(seed, options).with_snapshots_scaled(S::SNAPSHOT_SCALE);
        let conditions = conditions.without(S::RULED_OUT);
        Self::under(conditions, seed, options.whole_transcript)
    }

    fn under(conditions: Conditions, seed: u64, whole_transcript: bool) -> Self {
        let rng = &mut Rng::new(seed, 2);
        let (drift, count) = (conditions.clock_drift, conditions.groups);
        let mut hosts: Vec<Host<S>> = (0..conditions.hosts())
            .map(|place| {
                let rate = 1_000_000 - drift + rng.below(2 * drift + 1);
                let clock = Clock::new(rng.below(1 << 42), rate);
                Host::new(place, count, clock, place < conditions.nodes, rng.draw())
            })
            .collect();
        // A standby is set up before it is needed.
        let has_standbys = conditions.policies.replace_dead.is_some();
        hosts.iter_mut().for_each(|host| host.in_service |= has_standbys);
        let founders = Configuration::of_voters((0..conditions.nodes).map(node_at));
        let groups = (0..count).map(|slot| {
            let workload = Workload::<S>::new(&conditions, count, Rng::new(seed, 100 + slot as u64));
            let machine = workload.subject().machine();
            let checks = Checks::new(conditions.hosts(), founders.clone(), S::digest(&machine));
            let time = ReplicatedTime::new(machine.wants_time(), conditions.clock_drift);
            Group { workload, checks, time, members: MembersHistory::new(founders.clone()), busy: BTreeSet::new() }
        });
        let mut world = Self {
            agenda: Agenda::default(),
            hosts,
            network: Network::new(conditions.hosts(), conditions.network, Rng::new(seed, 3)),
            groups: groups.collect(),
            transcript: Transcript::new(whole_transcript),
            sums: Sums::default(),
            phase: Phase::Storm,
            rng: Rng::new(seed, 5),
            fault_rng: Rng::new(seed, 6),
            disk_rng: Rng::new(seed, 7),
            operators: Operators::new(Rng::new(seed, 8)),
            others: Vec::new(),
            conditions,
        };
        world.note(Note::Begin(format!("seed {seed}: {:?}", world.conditions)));
        world.schedule_beginning();
        world
    }

    fn schedule_beginning(&mut self) {
        for place in 0..self.hosts.len() {
            if !self.hosts[place].in_service {
                continue;
            }
            self.agenda.after(self.rng.span(Span::ZERO, Span::millis(200)), Event::Start(place));
        }
        for (slot, group) in self.groups.iter_mut().enumerate() {
            for client in 0..group.workload.clients() {
                self.agenda.after(group.workload.think(), Event::Client(slot, client));
            }
        }
        if let Some(every) = S::LOOKED_AFTER_EVERY {
            for place in 0..self.hosts.len() {
                self.agenda.after(self.rng.span(Span::ZERO, every), Event::LookAfter(place, every));
            }
        }
        for (kind, apart) in self.conditions.faults.clone() {
            self.agenda.after(self.fault_rng.span(Span::millis(500), apart * 2), Event::Strike(kind, apart));
        }
        self.agenda.after(self.conditions.storm, Event::Heal);
    }

    fn run(&mut self) -> Result<(), Violation> {
        while let Some(event) = self.agenda.next_event() {
            self.sums.events += 1;
            progress::check_busyness(self.sums.events, self.agenda.now())?;
            self.happen(event)?;
            match self.phase {
                Phase::Settling(agreed, since) if self.agenda.now() >= since + SETTLING => {
                    self.check_end(agreed)?;
                    self.begin_trial();
                }
                Phase::Over => break,
                _ => {}
            }
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Start(place) => return self.start(place),
            Event::Frame { to, incarnation, from, connection, lane, is_change, bytes } => {
                return self.frame_arrives(to, incarnation, from, connection, is_change, (lane, bytes));
            }
            Event::News { to, incarnation, peer, up } => self.hear(to, incarnation, peer, up),
            Event::Turn(place, incarnation) => return self.turn(place, incarnation),
            Event::Alarm(place, incarnation) => self.ring(place, incarnation),
            Event::Disk(place, incarnation, job) => return self.disk_done(place, incarnation, job),
            Event::Machine(place, incarnation, slot, job) => return self.machine_done(place, incarnation, slot, job),
            Event::File(place, incarnation, slot, job) => return self.file_done(place, incarnation, slot, job),
            Event::Begin(place, incarnation, slot) => return self.begin_again(place, incarnation, slot),
            Event::Room(place, incarnation) => return self.look_for_room(place, incarnation),
            Event::Dial(a, b) => self.dial(a, b),
            Event::Client(slot, client) => self.go_on(slot, client),
            Event::ClientTimeout(slot, op) => self.time_out(slot, op),
            Event::Strike(kind, apart) => self.strike(kind, apart),
            Event::Over(kind, fault) => self.end_fault(kind, &fault),
            Event::Heal => self.heal(),
            Event::Watch => return self.watch(),
            Event::LookAfter(place, every) => self.look_after(place, every),
            Event::Operate(errand) => self.operate(errand),
        }
        Ok(())
    }

    fn note(&mut self, note: Note) {
        self.transcript.note(self.agenda.now(), note);
    }
}

const POWER_LOSS: &str = "power loss";
