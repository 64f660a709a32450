//! The bare consensus core beside tikv's `raft`: three replicas in memory, one thread, no I/O.
//!
//! Owns what both sides share: the entries, the order in which replicas take their turns, the state machine, and when an
//! entry counts as done (stored *and* applied, payload and all, by all three). How a replica is driven is in the module
//! of its side. Both are driven as their own hosts drive them: a turn takes all messages that wait, then stores, sends
//! and applies.

mod tikv;
mod vlot;

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;

use crate::arguments::{ArgumentError, value};
use crate::measure::{Took, median, noise, print_table, processor, took, with_commas};
use tikv::TikvReplica;
use vlot::VlotReplica;

const REPLICAS: usize = 3;
const ENTRY_BYTES: usize = 256;
/// Entries that are proposed at once; each number is a row of the table.
const BATCHES: [usize; 4] = [1, 16, 128, 1024];
/// Entries of one round.
const ROUND_ENTRIES: [usize; 4] = [100_000, 200_000, 400_000, 400_000];
/// The clock beats, for all replicas, whenever so many batches are done.
const BATCHES_PER_HEARTBEAT: usize = 1000;
/// So many entries are cut off the beginning of a log at once, and so many applied ones are kept for peers that lag.
const FORGOTTEN_AT_ONCE: usize = 4096;
const KEPT_ENTRIES: usize = 256;
/// Entries of one message have at most so many bytes, unless it is a single one.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Messages with entries that may be under way to one peer.
const INFLIGHT_MAX: usize = 256;
/// Heartbeats in an election timeout.
const HEARTBEATS_PER_ELECTION: u32 = 10;

/// What to measure.
pub(crate) struct Plan {
    rounds: usize,
    batch: Option<usize>,
    only: Option<String>,
}

impl Plan {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, ArgumentError> {
        let mut plan = Self { rounds: 9, batch: None, only: None };
        while let Some(flag) = arguments.next() {
            match flag.as_str() {
                "--rounds" => plan.rounds = value::<usize>(&flag, &mut arguments)?.max(1),
                "--batch" => plan.batch = Some(value::<usize>(&flag, &mut arguments)?.max(1)),
                "--only" => plan.only = Some(value(&flag, &mut arguments)?),
                _ => return Err(ArgumentError::UnknownFlag { flag, measurement: "raft" }),
            }
        }
        match plan.only.as_deref() {
            None | Some("vlot" | "tikv") => Ok(plan),
            Some(side) => Err(ArgumentError::BadValue { flag: "--only".to_owned(), value: side.to_owned() }),
        }
    }

    fn rows(&self) -> impl Iterator<Item = (usize, usize)> {
        let usual = BATCHES.into_iter().zip(ROUND_ENTRIES);
        let wanted = self.batch;
        usual.filter(move |(batch, _)| wanted.is_none_or(|wanted| wanted == *batch))
    }
}

/// One replica with its host: storage that is durable at once, and a state machine.
trait Replica: Sized {
    type Message;

    /// The `number`th of the group, a follower with an empty log.
    fn new(number: usize) -> Self;
    /// Stands for election.
    fn campaign(&mut self, wire: &mut Wire<Self::Message>);
    /// A heartbeat's time has passed.
    fn beat(&mut self, wire: &mut Wire<Self::Message>);
    /// Takes payloads for new entries.
    fn propose(&mut self, payloads: Vec<Bytes>, wire: &mut Wire<Self::Message>);
    /// Takes a message.
    fn receive(&mut self, message: Self::Message, wire: &mut Wire<Self::Message>);
    /// Stores what is new, sends what is to be sent, applies what may be.
    fn end_turn(&mut self, wire: &mut Wire<Self::Message>);
    fn leads(&self) -> bool;
    fn machine(&self) -> &Machine;
}

/// A trivial state machine: a sum over all bytes, in which the order of payloads counts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Machine {
    applied: usize,
    sum: u64,
}

impl Machine {
    fn apply(&mut self, payload: &[u8]) {
        let words = payload.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()));
        self.sum = self.sum.rotate_left(1).wrapping_add(words.fold(0, u64::wrapping_add));
        self.applied += 1;
    }
}

/// What is under way to each replica.
struct Wire<M> {
    inboxes: [Vec<M>; REPLICAS],
}

impl<M> Wire<M> {
    fn send(&mut self, to: usize, message: M) {
        self.inboxes[to].push(message);
    }

    fn is_quiet(&self) -> bool {
        self.inboxes.iter().all(Vec::is_empty)
    }
}

/// Three replicas and the messages between them. The first leads.
struct Group<R: Replica> {
    replicas: [R; REPLICAS],
    wire: Wire<R::Message>,
    /// What the replica whose turn it is has received.
    received: Vec<R::Message>,
}

impl<R: Replica> Group<R> {
    fn new() -> Self {
        let mut group = Self {
            replicas: std::array::from_fn(R::new),
            wire: Wire { inboxes: std::array::from_fn(|_| Vec::new()) },
            received: Vec::new(),
        };
        group.replicas[0].campaign(&mut group.wire);
        group.settle();
        assert!(group.replicas[0].leads(), "the one that stood was elected");
        group
    }

    fn propose(&mut self, payloads: Vec<Bytes>) {
        self.replicas[0].propose(payloads, &mut self.wire);
        self.settle();
    }

    fn beat(&mut self) {
        for replica in &mut self.replicas {
            replica.beat(&mut self.wire);
        }
        self.settle();
    }

    /// Gives each replica its turns until nothing is under way.
    fn settle(&mut self) {
        self.replicas[0].end_turn(&mut self.wire);
        while !self.wire.is_quiet() {
            for (number, replica) in self.replicas.iter_mut().enumerate() {
                std::mem::swap(&mut self.received, &mut self.wire.inboxes[number]);
                if !self.received.is_empty() {
                    for message in self.received.drain(..) {
                        replica.receive(message, &mut self.wire);
                    }
                    replica.end_turn(&mut self.wire);
                }
            }
        }
    }
}

/// Proposes `entries`, `batch` at once, each batch when the one before is applied by all; gives what it took and what
/// the state machines have come to.
fn round<R: Replica>(payloads: &[Bytes], batch: usize, entries: usize) -> (Took, Machine) {
    let mut group = Group::<R>::new();
    let mut offered = payloads.iter().cycle();
    let took = took(|| {
        for n in 1..=entries / batch {
            group.propose(offered.by_ref().take(batch).cloned().collect());
            for replica in &group.replicas {
                assert_eq!(replica.machine().applied, n * batch, "all have applied the batch");
            }
            if n.is_multiple_of(BATCHES_PER_HEARTBEAT) {
                group.beat();
            }
        }
    });
    assert!(group.replicas[0].leads(), "there was one leader all the time");
    let [first, others @ ..] = group.replicas.each_ref().map(|replica| *replica.machine());
    assert!(others.iter().all(|machine| *machine == first), "all state machines have come to the same");
    (took, black_box(first))
}

/// Payloads that differ: slices of one buffer, as a host gets them from its connections.
fn payloads() -> Vec<Bytes> {
    let buffer = Bytes::from(noise(1024 * ENTRY_BYTES));
    (0..buffer.len()).step_by(ENTRY_BYTES).map(|at| buffer.slice(at..at + ENTRY_BYTES)).collect()
}

/// What each side took for one row.
struct Row {
    batch: usize,
    vlot: Side,
    /// As its examples use it.
    tikv: Side,
    /// With a batch as one message.
    tikv_whole: Side,
}

/// Medians over the rounds, in nanoseconds an entry.
struct Side {
    wall: f64,
    cpu: f64,
}

impl Side {
    fn of(rounds: &[Took], entries: usize) -> Self {
        let per_entry = |time: Duration| time.as_nanos() as f64 / entries as f64;
        Self {
            wall: median(rounds.iter().map(|took| per_entry(took.wall))),
            cpu: median(rounds.iter().map(|took| per_entry(took.cpu))),
        }
    }

    fn cells(&self) -> [String; 3] {
        [with_commas(1e9 / self.wall), format!("{:.0}", self.wall), format!("{:.0}", self.cpu)]
    }
}

impl Row {
    /// How much more CPU the other side takes. One thread that never waits takes as much time as CPU, unless the machine
    /// has something else to do; that is not to count.
    fn ratio(&self, other: &Side) -> f64 {
        other.cpu / self.vlot.cpu
    }

    fn cells(&self) -> Vec<String> {
        let ratio = |other| format!("{:.1}", self.ratio(other));
        let mut cells = vec![self.batch.to_string()];
        cells.extend(self.vlot.cells());
        cells.extend(self.tikv.cells());
        cells.push(ratio(&self.tikv));
        cells.extend(self.tikv_whole.cells());
        cells.push(ratio(&self.tikv_whole));
        cells
    }
}

/// Measures and prints.
pub(crate) fn run(plan: &Plan) {
    let payloads = payloads();
    match plan.only.as_deref() {
        Some("vlot") => alone::<VlotReplica>(plan, &payloads),
        Some(_) => alone::<TikvReplica<false>>(plan, &payloads),
        None => compare(plan, &payloads),
    }
}

fn compare(plan: &Plan, payloads: &[Bytes]) {
    let codec = if cfg!(feature = "prost-codec") { "prost" } else { "protobuf" };
    println!(
        "Three replicas in memory, one thread, entries of {ENTRY_BYTES} bytes, medians of {} rounds; tikv's raft 0.7 with \
         its {codec} codec; {}",
        plan.rounds,
        processor()
    );
    let rows: Vec<Row> = plan.rows().map(|(batch, entries)| side_by_side(plan, payloads, batch, entries)).collect();
    let heads = [
        "at once",
        "vlot entries/s",
        "ns",
        "CPU ns",
        "tikv entries/s",
        "ns",
        "CPU ns",
        "ratio",
        "tikv, whole batches, entries/s",
        "ns",
        "CPU ns",
        "ratio",
    ];
    print_table(&heads, &rows.iter().map(Row::cells).collect::<Vec<_>>());
    for row in &rows {
        println!("ratio raft_batch_{} {:.2}", row.batch, row.ratio(&row.tikv));
    }
    for row in &rows {
        println!("ratio raft_batch_{}_tikv_whole_batches {:.2}", row.batch, row.ratio(&row.tikv_whole));
    }
}

fn side_by_side(plan: &Plan, payloads: &[Bytes], batch: usize, entries: usize) -> Row {
    let entries = entries / batch * batch;
    let mut rounds: [Vec<Took>; 3] = Default::default();
    for _ in 0..plan.rounds {
        let all = [
            round::<VlotReplica>(payloads, batch, entries),
            round::<TikvReplica<false>>(payloads, batch, entries),
            round::<TikvReplica<true>>(payloads, batch, entries),
        ];
        assert!(all.iter().all(|(_, machine)| *machine == all[0].1), "all sides have applied the same");
        for (rounds, (took, _)) in rounds.iter_mut().zip(all) {
            rounds.push(took);
        }
    }
    let [vlot, tikv, tikv_whole] = rounds.map(|rounds| Side::of(&rounds, entries));
    Row { batch, vlot, tikv, tikv_whole }
}

fn alone<R: Replica>(plan: &Plan, payloads: &[Bytes]) {
    for (batch, entries) in plan.rows() {
        let entries = entries / batch * batch;
        let rounds: Vec<Took> = (0..plan.rounds).map(|_| round::<R>(payloads, batch, entries).0).collect();
        let side = Side::of(&rounds, entries);
        println!("{batch} at once: {:.0} ns an entry, CPU {:.0} ns", side.wall, side.cpu);
    }
}
