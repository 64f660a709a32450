//! A state machine of one's own in the simulator: a counter, what its clients do with it, and what must hold of what they
//! see. `cargo run --release -p vlot-sim --example counter` runs a hundred worlds of it.

use vlot_node::state_machine::{BadSnapshot, Snapshot, StateMachine};
use vlot_raft::id::LogId;
use vlot_raft::invariants::Violation;
use vlot_sim::conditions::{Conditions, Options};
use vlot_sim::rng::Rng;
use vlot_sim::subject::{End, OpId, OperationOf, Request, Subject};
use vlot_sim::world;

/// The state machine, as a program would give it to the library.
#[derive(Clone, Default)]
struct Counter(u64, LogId);

impl StateMachine for Counter {
    /// How much to add.
    type Command = u64;
    /// The sum.
    type Reply = u64;

    fn apply(&mut self, at: LogId, more: u64) -> u64 {
        (self.0, self.1) = (self.0 + more, at);
        self.0
    }

    fn skip(&mut self, at: LogId) {
        self.1 = at;
    }

    fn snapshot(&self) -> Option<Box<dyn Snapshot>> {
        Some(Box::new(self.clone()))
    }

    fn restore(&mut self, at: LogId, from: &mut dyn std::io::Read) -> Result<(), BadSnapshot> {
        let mut sum = [0; 8];
        from.read_exact(&mut sum).map_err(|error| BadSnapshot(error.to_string()))?;
        *self = Self(u64::from_le_bytes(sum), at);
        Ok(())
    }
}

impl Snapshot for Counter {
    fn at(&self) -> LogId {
        self.1
    }

    fn write_to(&mut self, out: &mut dyn std::io::Write) -> std::io::Result<()> {
        out.write_all(&self.0.to_le_bytes())
    }
}

/// The clients of one counter: half of them add, half of them read.
struct CounterUsed;

impl Subject for CounterUsed {
    type Machine = Counter;
    type Query = ();
    type Answer = u64;

    fn new(_: &Conditions, _: &mut Rng) -> Self {
        Self
    }

    fn machine(&self) -> Counter {
        Counter::default()
    }

    fn next(&mut self, _: OpId, rng: &mut Rng) -> Request<u64, ()> {
        if rng.coin() { Request::Read(()) } else { Request::Propose(1 + rng.below(9)) }
    }

    fn read(counter: &Counter, (): &()) -> u64 {
        counter.0
    }

    fn digest(counter: &Counter) -> u64 {
        counter.0
    }

    /// A sum that was seen is seen, or surpassed, by whoever begins to look later.
    fn check(&self, history: &[OperationOf<Self>]) -> Result<(), Violation> {
        let seen = history.iter().filter_map(|operation| match operation.ended {
            Some((at, End::Replied(sum) | End::Answered(sum))) => Some((operation.invoked, at, sum)),
            _ => None,
        });
        let mut seen: Vec<_> = seen.collect();
        seen.sort_by_key(|(_, at, _)| *at);
        let mut most = Vec::with_capacity(seen.len());
        for &(_, at, sum) in &seen {
            most.push((at, most.last().map_or(sum, |&(_, most): &(_, u64)| most.max(sum))));
        }
        for (invoked, _, sum) in seen {
            let before = most.partition_point(|(at, _)| *at < invoked);
            if let Some(&(at, most)) = most[..before].last().filter(|(_, most)| *most > sum) {
                let shown_by = format!("{most} was seen by {at}, and {sum} by who began at {invoked}");
                return Err(Violation { property: "The Sum Never Falls", shown_by });
            }
        }
        Ok(())
    }
}

/// Runs the worlds of these seeds. The first that fails is told, with the end of its transcript.
fn run(seeds: std::ops::RangeInclusive<u64>) -> Result<u64, String> {
    let mut operations = 0;
    for seed in seeds {
        let outcome = world::run_with::<CounterUsed>(seed, &Options { seconds: 10, ..Options::default() });
        if let Some(Violation { property, shown_by }) = outcome.violation {
            return Err(format!("{}seed {seed} VIOLATES {property}: {shown_by}", outcome.transcript.text()));
        }
        operations += outcome.sums.operations;
    }
    Ok(operations)
}

fn main() {
    match run(1..=100) {
        Ok(operations) => println!("100 worlds are well, {operations} operations"),
        Err(failure) => {
            println!("{failure}");
            std::process::exit(1);
        }
    }
}

#[test]
fn some_worlds_are_well() {
    assert!(run(1..=20).is_ok_and(|operations| operations > 500));
}
