//! The program `vlot-sim`: runs seeds, and shows what happened in one.
//!
//! Owns its arguments and what it prints. Must not know how a world works.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;
use vlot_sim::agenda::Span;
use vlot_sim::conditions::Options;
use vlot_sim::faults::FaultKind;
use vlot_sim::world::graphs::{self, Verdict};
use vlot_sim::world::{self, Outcome, Sums};

const USAGE: &str = "\
Runs simulated clusters, each from a seed, and checks that nothing is broken.

usage: vlot-sim run [options]
       vlot-sim graphs [--nodes N] [--seed N]

  --seed N      the first seed (default 1)
  --count K     how many seeds, one after the other (default 1)
  --nodes N     how many nodes, 1 to 9 (default: drawn from the seed)
  --seconds S   how long faults rage in each run, simulated (default 30)
  --replay      print the whole transcript of the first seed
  --keep-going  do not stop at the first seed that fails
  --quiet       print no line for a seed that is well

With `graphs`, every way in which so many nodes (default 3) may hear each other is tried: there must be a leader
wherever some node hears a quorum that hears it.

The exit code is 1 if anything is broken, and 2 if the arguments are wrong.";

struct Arguments {
    graphs: bool,
    seed: u64,
    count: u64,
    options: Options,
    keep_going: bool,
    quiet: bool,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok(Some(arguments)) if arguments.graphs => try_graphs(&arguments),
        Ok(Some(arguments)) => run(&arguments),
        Ok(None) => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            eprintln!("vlot-sim: {wrong}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> ExitCode {
    let began = Instant::now();
    let mut total = Sums::default();
    let (mut runs, mut violations) = (0, 0);
    for seed in arguments.seed..arguments.seed.saturating_add(arguments.count) {
        let outcome = world::run(seed, &arguments.options);
        runs += 1;
        add(&mut total, &outcome.sums);
        if arguments.options.whole_transcript {
            print!("{}", outcome.transcript.text());
        }
        if outcome.violation.is_some() {
            violations += 1;
            show_violation(&outcome, arguments.options.whole_transcript);
        } else if !arguments.quiet {
            println!("seed {seed} ok: {}", line(&outcome.sums));
        }
        if violations > 0 && !arguments.keep_going {
            break;
        }
    }
    let took = processor_seconds().unwrap_or_else(|| began.elapsed().as_secs_f64());
    let speed = seconds(total.simulated) / took;
    println!(
        "{runs} runs, {}, {violations} violations; took {took:.1} s of a processor, {speed:.0} simulated seconds each",
        line(&total)
    );
    if violations > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Tries every graph; says which have no leader, or too many.
fn try_graphs(arguments: &Arguments) -> ExitCode {
    let nodes = arguments.options.nodes.unwrap_or(3).min(5);
    let (mut hopeless, mut behind, mut led, mut bad) = (0, 0, 0, 0);
    for number in 0..graphs::count(nodes) {
        let cut = graphs::directions(nodes, number);
        match graphs::judge(nodes, arguments.seed, &cut) {
            Verdict::Hopeless => hopeless += 1,
            Verdict::Behind => behind += 1,
            Verdict::Led(changes) if changes <= graphs::CHANGES_MAX => led += 1,
            verdict => {
                bad += 1;
                let cut: Vec<String> = cut.iter().map(|(from, to)| format!("n{}-xn{}", from + 1, to + 1)).collect();
                println!("graph {number}: {verdict:?} with {}", cut.join(" "));
            }
        }
    }
    println!(
        "{led} graphs with a leader, {hopeless} in which nobody hears a quorum, {behind} in which only who is behind does, \
         {bad} that should have a leader and do not"
    );
    if bad > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn show_violation(outcome: &Outcome, is_shown: bool) {
    let Some(violation) = &outcome.violation else { return };
    if !is_shown {
        print!("{}", outcome.transcript.text());
    }
    println!("seed {} VIOLATES {}: {}", outcome.seed, violation.property, violation.shown_by);
}

fn line(sums: &Sums) -> String {
    let faults: Vec<String> = sums.faults.iter().map(|(kind, count)| format!("{} {count}", kind.name())).collect();
    format!(
        "{:.0} simulated s, {} events, {} operations ({} unknown), {} elections, {} faults ({})",
        seconds(sums.simulated),
        sums.events,
        sums.operations,
        sums.unknown,
        sums.elections,
        sums.faults.values().sum::<u64>(),
        faults.join(", ")
    )
}

fn add(total: &mut Sums, sums: &Sums) {
    total.simulated = total.simulated + sums.simulated;
    total.events += sums.events;
    total.operations += sums.operations;
    total.unknown += sums.unknown;
    total.elections += sums.elections;
    let faults: &BTreeMap<FaultKind, u64> = &sums.faults;
    faults.iter().for_each(|(kind, count)| *total.faults.entry(*kind).or_default() += count);
}

fn seconds(span: Span) -> f64 {
    span.0 as f64 / 1e9
}

/// How long a processor has worked for this program, where the system tells.
fn processor_seconds() -> Option<f64> {
    let shown = std::fs::read_to_string("/proc/self/schedstat").ok()?;
    let nanos: u64 = shown.split_whitespace().next()?.parse().ok()?;
    Some(nanos as f64 / 1e9)
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Arguments>, String> {
    let graphs = match words.next().as_deref() {
        Some("run") => false,
        Some("graphs") => true,
        None | Some("help" | "--help" | "-h") => return Ok(None),
        Some(other) => return Err(format!("there is no command {other:?}")),
    };
    let mut arguments =
        Arguments { graphs, seed: 1, count: 1, options: Options::default(), keep_going: false, quiet: false };
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().ok_or_else(|| format!("{word} needs a number"))?;
            value.parse::<u64>().map_err(|_| format!("{word} needs a number, not {value:?}"))
        };
        match word.as_str() {
            "--seed" => arguments.seed = number()?,
            "--count" => arguments.count = number()?,
            "--seconds" => arguments.options.seconds = number()?,
            "--nodes" => {
                let nodes = number()?;
                if !(1..=9).contains(&nodes) {
                    return Err(format!("{nodes} nodes: there may be 1 to 9"));
                }
                arguments.options.nodes = Some(nodes as usize);
            }
            "--replay" => {
                arguments.options.whole_transcript = true;
                arguments.count = 1;
            }
            "--keep-going" => arguments.keep_going = true,
            "--quiet" => arguments.quiet = true,
            "--help" | "-h" => return Ok(None),
            _ => return Err(format!("there is no option {word:?}")),
        }
    }
    Ok(Some(arguments))
}
