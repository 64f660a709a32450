//! Looks for a smaller run that fails as a given one does: fewer kinds of fault, fewer nodes, less time.
//!
//! Owns the order in which smaller runs are tried. Each is a process of its own, so that one that panics is as good as
//! one that violates a property. A smaller run of the same seed is another run altogether; so a few more seeds are
//! tried with each step.

use crate::arguments::Arguments;
use std::io;
use std::process::{Command, Stdio};
use vlot_sim::conditions::{Conditions, Options};
use vlot_sim::fault_kind::Kinds;

/// Seeds that are tried with each step.
const SEEDS: u64 = 60;
/// Steps that are tried, at most.
const STEPS_MAX: usize = 300;

/// How a run has failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// The property that it violates; `panic`, if it has ended so.
    pub property: String,
}

/// The smallest run that was found to fail as `arguments` does.
///
/// # Errors
/// If this program cannot be run.
pub fn shrink(arguments: &Arguments, property: &str) -> io::Result<Arguments> {
    let mut smallest = Arguments { shrink: false, count: 1, options: drawn(arguments), ..arguments.clone() };
    let mut steps = 0;
    loop {
        let mut found = None;
        for smaller in smaller_than(&smallest) {
            steps += 1;
            if let Some(failure) = try_run(&smaller)?.filter(|failure| failure.property == property) {
                let seed = failure.seed;
                found = Some(Arguments { seed, count: 1, ..smaller });
                break;
            }
            if steps >= STEPS_MAX {
                break;
            }
        }
        match found {
            Some(smaller) => smallest = Arguments { options: drawn(&smaller), ..smaller },
            None => return Ok(smallest),
        }
    }
}

/// The options, with all that the seed has drawn of them written down.
fn drawn(arguments: &Arguments) -> Options {
    let conditions = Conditions::draw(arguments.seed, &arguments.options);
    Options {
        nodes: Some(conditions.nodes),
        spare: Some(conditions.spare),
        groups: Some(conditions.groups),
        faults: conditions.faults.iter().map(|(kind, _)| *kind).collect(),
        ..arguments.options
    }
}

/// Runs that are smaller in one way, those that are much smaller first.
fn smaller_than(arguments: &Arguments) -> Vec<Arguments> {
    let options = arguments.options;
    let with = |options| Arguments { options, count: SEEDS, ..arguments.clone() };
    let mut smaller = Vec::new();
    let kinds: Vec<_> = options.faults.iter().collect();
    for part in kinds.chunks(kinds.len().div_ceil(2).max(1)).filter(|part| part.len() < kinds.len()) {
        smaller.push(with(Options { faults: part.iter().copied().collect::<Kinds>(), ..options }));
    }
    if options.seconds > 1 {
        smaller.push(with(Options { seconds: options.seconds / 2, ..options }));
    }
    if let Some(nodes) = options.nodes.filter(|nodes| *nodes > 1) {
        smaller.push(with(Options { nodes: Some(nodes - 1), ..options }));
    }
    if let Some(spare) = options.spare.filter(|spare| *spare > 0) {
        smaller.push(with(Options { spare: Some(spare - 1), ..options }));
    }
    if let Some(groups) = options.groups.filter(|groups| *groups > 1) {
        smaller.push(with(Options { groups: Some(groups - 1), ..options }));
    }
    let without_one = kinds.iter().map(|kind| with(Options { faults: options.faults.without(*kind), ..options }));
    smaller.extend(without_one.filter(|_| kinds.len() > 1));
    smaller
}

/// Runs these seeds. How the first has failed that has, if any did.
fn try_run(arguments: &Arguments) -> io::Result<Option<Failure>> {
    let mut command = Command::new(std::env::current_exe()?);
    let output = command.args(arguments.words()).arg("--quiet").stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(None);
    }
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    Ok(said.lines().find_map(failure_of))
}

/// What a line of a run says of how it has failed.
pub fn failure_of(line: &str) -> Option<Failure> {
    let mut words = line.strip_prefix("seed ")?.splitn(3, ' ');
    let seed = words.next()?.parse().ok()?;
    let property = match words.next()?.trim_end_matches(':') {
        "VIOLATES" => words.next()?.split(':').next()?,
        "PANICS" => "panic",
        _ => return None,
    };
    Some(Failure { seed, property: property.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_recognised() {
        let failure = |seed, property: &str| Some(Failure { seed, property: property.to_owned() });
        assert_eq!(failure_of("seed 12 VIOLATES Log Matching: 3@1 follows"), failure(12, "Log Matching"));
        assert_eq!(failure_of("seed 3 PANICS: applied 7 is in the log"), failure(3, "panic"));
        assert_eq!(failure_of("seed 3 ok: 35 simulated s"), None);
        assert_eq!(failure_of("   0.1 n1 starts"), None);
    }

    #[test]
    fn every_step_is_smaller_in_one_way() {
        let options = Options { nodes: Some(3), spare: Some(1), ..Options::default() };
        let arguments = Arguments { options, ..Arguments::default() };
        let options = drawn(&arguments);
        let size = |options: &Options| {
            let machines = options.nodes.unwrap() + options.spare.unwrap() + options.groups.unwrap();
            options.seconds as usize + options.faults.iter().count() + machines
        };
        let steps = smaller_than(&Arguments { options, ..arguments });
        assert!(steps.len() > 4);
        assert!(steps.iter().all(|step| size(&step.options) < size(&options)));
    }
}
