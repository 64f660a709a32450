//! Runs of whole worlds.

use vlot_sim::conditions::Options;
use vlot_sim::fault_kind::FaultKind;
use vlot_sim::world::{self, Outcome};

fn run_well(seed: u64, options: &Options) -> Outcome {
    let outcome = world::run(seed, options);
    if let Some(violation) = &outcome.violation {
        panic!("{}\nseed {seed}: {}: {}", outcome.transcript.text(), violation.property, violation.shown_by);
    }
    outcome
}

#[test]
fn some_tens_of_seeds() {
    let options = Options { seconds: 15, ..Options::default() };
    let outcomes: Vec<Outcome> = (1..=40).map(|seed| run_well(seed, &options)).collect();
    let known: u64 = outcomes.iter().map(|outcome| outcome.sums.operations - outcome.sums.unknown).sum();
    assert!(known > 3000, "clients get answers: {known}");
    let elections: u64 = outcomes.iter().map(|outcome| outcome.sums.elections).sum();
    assert!(elections > 100, "leaders change: {elections}");
    for kind in FaultKind::ALL {
        let count: u64 = outcomes.iter().filter_map(|outcome| outcome.sums.faults.get(kind)).sum();
        assert!(count > 0, "{} happens", kind.name());
    }
}

#[test]
fn every_size_of_cluster() {
    for nodes in 1..=7 {
        run_well(100 + nodes, &Options { nodes: Some(nodes as usize), seconds: 5, ..Options::default() });
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let options = Options { seconds: 10, whole_transcript: true, ..Options::default() };
    for seed in [3, 8] {
        let [one, other] = [(); 2].map(|()| run_well(seed, &options).transcript.text());
        assert!(one.lines().count() > 1000, "{}", one.lines().count());
        assert!(one == other, "seed {seed} ran differently");
    }
    let [one, other] = [3, 4].map(|seed| run_well(seed, &options).transcript.text());
    assert!(one != other, "seeds differ");
}
