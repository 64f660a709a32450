//! Measures Vlot's parts beside their peers, in the same run.
//!
//! Owns the command line. What is measured, and how, is in the module of each measurement.

mod groups;
mod log;
mod measure;
mod plan;
mod raft;
mod ring;
mod scratch;

use std::error::Error;
use std::process::ExitCode;

use plan::Plan;

/// Errors of all sides.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const USAGE: &str = "\
vlot-bench raft [--rounds N] [--batch N] [--only vlot|tikv]
    The bare consensus core beside tikv's raft: three replicas in memory, one thread, no I/O.
    With --only one side runs alone, to be looked at with a profiler.
vlot-bench log [--dir DIR] [--rounds N] [--millis N]
    The log beside tikv's raft-engine, and beside the bare file under both: appends, recovery, reads.
    Works in a new directory in DIR (the system's place for temporary files, if it is not given), which it removes.
    A round of a row of appends takes --millis for each side.
vlot-bench groups [--dir DIR] [--count N] [--millis N]
    Many groups on three nodes, each a process of its own: what idle ones cost, how fast they are made and led again, and
    what they take from busy ones. Works in a new directory in DIR, which it removes.
vlot-bench ring [--dir DIR] [--rounds N] [--millis N]
    Ways to ask the system for a durable write: two calls, one call, and io_uring.
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let outcome = match arguments.next().as_deref() {
        Some("raft") => raft::Plan::parse(arguments).map(|plan| raft::run(&plan)),
        Some(name @ "log") => {
            Plan::parse(name, arguments).and_then(|plan| log::run(&plan).map_err(|error| error.to_string()))
        }
        Some("groups") => groups::Plan::parse(arguments)
            .and_then(|plan| groups::run(&plan).map_err(|error| error.to_string())),
        Some(groups::NODE) => groups::node::run(arguments).map_err(|error| error.to_string()),
        Some(name @ "ring") => {
            Plan::parse(name, arguments).and_then(|plan| ring::run(&plan).map_err(|error| error.to_string()))
        }
        _ => Err(String::new()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(wrong) => {
            eprint!("{wrong}{}{USAGE}", if wrong.is_empty() { "" } else { "\n" });
            ExitCode::FAILURE
        }
    }
}

/// The value of a flag.
fn value<T: std::str::FromStr>(flag: &str, arguments: &mut impl Iterator<Item = String>) -> Result<T, String> {
    let text = arguments.next().ok_or_else(|| format!("{flag} needs a value"))?;
    text.parse().map_err(|_| format!("{flag} cannot be {text}"))
}
