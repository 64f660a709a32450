//! The program `vlot-sim`: runs seeds, and shows what happened in one.
//!
//! Owns what it prints. Must not know how a world works.

mod arguments;
mod shrink;

use arguments::{Arguments, Command};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use vlot_sim::agenda::Span;
use vlot_sim::fault_kind::FaultKind;
use vlot_sim::world::graphs::{self, Verdict};
use vlot_sim::world::{Outcome, Sums};

fn main() -> ExitCode {
    match arguments::parse(std::env::args().skip(1)) {
        Ok(Command::Run(arguments)) => run(&arguments),
        Ok(Command::Graphs { nodes, seed }) => try_graphs(nodes, seed),
        Ok(Command::Faults) => {
            FaultKind::ALL.iter().for_each(|kind| println!("{}", kind.name()));
            ExitCode::SUCCESS
        }
        Ok(Command::Help) => {
            println!("{}", arguments::USAGE);
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            eprintln!("vlot-sim: {wrong}\n\n{}", arguments::USAGE);
            ExitCode::from(2)
        }
    }
}

/// The seed that is run, for the message of a panic.
static SEED: AtomicU64 = AtomicU64::new(0);

fn run(arguments: &Arguments) -> ExitCode {
    let began = Instant::now();
    let took = || processor_seconds().unwrap_or_else(|| began.elapsed().as_secs_f64());
    tell_panics(arguments);
    let mut total = Sums::default();
    let (mut runs, mut violations) = (0, 0);
    for seed in arguments.seed..arguments.seed.saturating_add(arguments.count) {
        if arguments.cpu_seconds.is_some_and(|most| took() >= most as f64) {
            break;
        }
        SEED.store(seed, Ordering::Relaxed);
        let outcome = arguments.machine.run(seed, &arguments.options);
        runs += 1;
        total.add(&outcome.sums);
        if arguments.options.whole_transcript {
            print!("{}", outcome.transcript.text());
        }
        if let Some(violation) = &outcome.violation {
            violations += 1;
            show_violation(&outcome, arguments.options.whole_transcript);
            if arguments.shrink {
                show_smaller(&Arguments { seed, ..arguments.clone() }, violation.property);
            }
        } else if !arguments.quiet {
            println!("seed {seed} ok: {}", line(&outcome.sums));
        }
        if violations > 0 && !arguments.keep_going {
            break;
        }
    }
    let took = took();
    println!(
        "{runs} runs, {}, {violations} violations; took {took:.1} s of a processor, {:.0} simulated seconds each",
        line(&total),
        seconds(total.simulated) / took
    );
    if violations > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// A panic is told with its seed, and looked into like any failure.
fn tell_panics(arguments: &Arguments) {
    let (arguments, shown) = (arguments.clone(), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        shown(panic);
        let seed = SEED.load(Ordering::Relaxed);
        let why = panic.payload_as_str().unwrap_or_default();
        println!("seed {seed} PANICS: {why}");
        if arguments.shrink {
            show_smaller(&Arguments { seed, ..arguments.clone() }, "panic");
        }
    }));
}

fn show_smaller(arguments: &Arguments, property: &str) {
    match shrink::shrink(arguments, property) {
        Ok(smaller) => println!("smaller: vlot-sim {} --replay", smaller.words().join(" ")),
        Err(error) => eprintln!("vlot-sim: cannot look for a smaller run: {error}"),
    }
}

/// Tries every graph; says which have no leader, or too many.
fn try_graphs(nodes: usize, seed: u64) -> ExitCode {
    let (mut hopeless, mut behind, mut led, mut bad) = (0, 0, 0, 0);
    for number in 0..graphs::count(nodes) {
        let cut = graphs::directions(nodes, number);
        match graphs::judge(nodes, seed, &cut) {
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
        "{:.0} simulated s, {} events, {} operations ({} unknown), {} elections, {} changes of members, {} snapshots, {} faults ({})",
        seconds(sums.simulated),
        sums.events,
        sums.operations,
        sums.unknown,
        sums.elections,
        sums.changes,
        sums.snapshots,
        sums.faults.values().sum::<u64>(),
        faults.join(", ")
    )
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
