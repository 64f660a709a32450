//! The world: machines, the network between them, their clients, and what goes wrong, under virtual time.
//!
//! Owns the order in which everything happens, and carries out what the parts ask of each other. Decides nothing by
//! itself: faults are planned in `faults.rs`, frames delayed in `network.rs`, properties checked in `checks`.

mod clients;
mod disks;
pub mod graphs;
mod links;
mod operators;
mod processes;
mod snapshots;
mod strikes;
mod trials;
mod watch;

use crate::agenda::{Agenda, Moment, Span};
use crate::checks::{Checks, progress};
use crate::conditions::{Conditions, Options};
use crate::faults::{Fault, FaultKind};
use crate::host::{Clock, Host};
use crate::network::{Network, Place, node_at};
use crate::register::OpId;
use crate::rng::Rng;
use crate::transcript::{Answer, Note, Transcript};
use crate::workload::Workload;
use bytes::Bytes;
use operators::{Errand, Operators};
use snapshots::Stage;
use std::collections::BTreeMap;
use trials::Trial;
use vlot::net::Lane;
use vlot::node::Input;
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
    Frame { to: Place, incarnation: u32, from: Place, connection: u32, is_change: bool, bytes: Bytes },
    /// Frames leave a process that stood still before it could send them.
    Late(Place, u32, Vec<Outgoing>),
    /// A process hears that a connection is up, or gone.
    News { to: Place, incarnation: u32, peer: Place, up: bool },
    /// A process ends its turn.
    Turn(Place, u32),
    /// A process looks at its deadline.
    Alarm(Place, u32),
    /// A process's log thread is done with the job of this number.
    Disk(Place, u32, u64),
    /// A process whose disk is full looks whether there is room.
    Room(Place, u32),
    /// Two nodes try to connect.
    Dial(Place, Place),
    /// A client goes on.
    Client(usize),
    /// A client waits no longer.
    ClientTimeout(OpId),
    /// A fault of this kind strikes, as it does so far apart.
    Strike(FaultKind, Span),
    /// A fault is over.
    Over(FaultKind, Fault),
    /// All faults are over.
    Heal,
    /// Is there a leader yet?
    Watch,
    /// An operator goes on with something.
    Operate(Errand),
    /// A snapshot is at this stage on its way to a process.
    Snapshot(Place, u32, Stage),
}

/// A frame, to whom, and on which lane.
type Outgoing = (Place, Lane, Bytes);

/// How far the run has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// Faults strike.
    Storm,
    /// They are over since then, and a leader must be found.
    Electing(Moment),
    /// There is one since the first moment, and all nodes must come to have what it has; they do since the second.
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

/// Runs the world of a seed to its end, or to the first violation.
#[must_use]
pub fn run(seed: u64, options: &Options) -> Outcome {
    let mut world = World::new(seed, options);
    let violation = world.run().err();
    world.sums.simulated = world.agenda.now() - Moment::default();
    let history = world.workload.history();
    world.sums.changes = world.operators.changes();
    world.sums.operations = history.len() as u64;
    world.sums.unknown = history.iter().filter(|op| matches!(op.ended, Some((_, Answer::Unknown)))).count() as u64;
    Outcome { seed, violation, sums: world.sums, transcript: world.transcript }
}

struct World {
    conditions: Conditions,
    agenda: Agenda<Event>,
    hosts: Vec<Host>,
    network: Network,
    workload: Workload,
    checks: Checks,
    transcript: Transcript,
    sums: Sums,
    phase: Phase,
    rng: Rng,
    fault_rng: Rng,
    disk_rng: Rng,
    operators: Operators,
}

impl World {
    fn new(seed: u64, options: &Options) -> Self {
        Self::under(Conditions::draw(seed, options), seed, options.whole_transcript)
    }

    fn under(conditions: Conditions, seed: u64, whole_transcript: bool) -> Self {
        let rng = &mut Rng::new(seed, 2);
        let drift = conditions.clock_drift;
        let hosts = (0..conditions.hosts())
            .map(|place| {
                let rate = 1_000_000 - drift + rng.below(2 * drift + 1);
                let clock = Clock::new(rng.below(1 << 42), rate);
                Host::new(place, clock, place < conditions.nodes, rng.draw())
            })
            .collect();
        let founders = Configuration::of_voters((0..conditions.nodes).map(node_at));
        let mut world = Self {
            agenda: Agenda::default(),
            hosts,
            network: Network::new(&conditions, Rng::new(seed, 3)),
            workload: Workload::new(&conditions, Rng::new(seed, 4)),
            checks: Checks::new(conditions.hosts(), founders.clone()),
            transcript: Transcript::new(whole_transcript),
            sums: Sums::default(),
            phase: Phase::Storm,
            rng: Rng::new(seed, 5),
            fault_rng: Rng::new(seed, 6),
            disk_rng: Rng::new(seed, 7),
            operators: Operators::new(founders, Rng::new(seed, 8)),
            conditions,
        };
        world.note(Note::Begin(format!("seed {seed}: {:?}", world.conditions)));
        world.schedule_beginning();
        world
    }

    fn schedule_beginning(&mut self) {
        for place in 0..self.conditions.nodes {
            self.agenda.after(self.rng.span(Span::ZERO, Span::millis(200)), Event::Start(place));
        }
        for client in 0..self.workload.clients() {
            self.agenda.after(self.workload.think(), Event::Client(client));
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
            Event::Start(place) => self.start(place),
            Event::Frame { to, incarnation, from, connection, is_change, bytes } => {
                // Late frames of a connection that is gone are rare, and harmless or not.
                let is_late = connection != self.network.connection(from, to) || !self.network.connected(from, to);
                let is_lost = is_late && self.rng.coin();
                if is_change {
                    self.change_arrives(to, incarnation, is_lost);
                }
                if !is_lost {
                    self.give(to, incarnation, Input::Frame { from: node_at(from), bytes });
                }
                Ok(())
            }
            Event::Late(place, incarnation, frames) => {
                self.send_late(place, incarnation, frames);
                Ok(())
            }
            Event::News { to, incarnation, peer, up } => {
                let peer = node_at(peer);
                self.disks_may_be_unknown(to);
                self.give(to, incarnation, if up { Input::Connected { peer } } else { Input::Lost { peer } });
                Ok(())
            }
            Event::Turn(place, incarnation) => self.turn(place, incarnation),
            Event::Alarm(place, incarnation) => {
                self.ring(place, incarnation);
                Ok(())
            }
            Event::Disk(place, incarnation, job) => self.disk_done(place, incarnation, job),
            Event::Room(place, incarnation) => self.look_for_room(place, incarnation),
            Event::Dial(a, b) => {
                self.dial(a, b);
                Ok(())
            }
            Event::Client(client) => {
                self.go_on(client);
                Ok(())
            }
            Event::ClientTimeout(op) => {
                self.time_out(op);
                Ok(())
            }
            Event::Strike(kind, apart) => {
                self.strike(kind, apart);
                Ok(())
            }
            Event::Over(kind, fault) => {
                self.end_fault(kind, &fault);
                Ok(())
            }
            Event::Heal => {
                self.heal();
                Ok(())
            }
            Event::Watch => self.watch(),
            Event::Operate(errand) => {
                self.operate(errand);
                Ok(())
            }
            Event::Snapshot(place, incarnation, stage) => self.snapshot_goes_on(place, incarnation, stage),
        }
    }

    fn note(&mut self, note: Note) {
        self.transcript.note(self.agenda.now(), note);
    }
}

const POWER_LOSS: &str = "power loss";
