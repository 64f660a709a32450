//! Measures Vlot's parts beside their peers, in the same run.
//!
//! Owns the command line. What is measured, and how, is in the module of each measurement.

mod arguments;
mod groups;
mod library;
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
vlot-bench library [--peer vlot|openraft|raft-rs] [--layers memory|log|tcp|log+tcp|all] [--clients N] [--seconds S]
                   [--rounds N] [--busy-poll MICROSECONDS] [--dir DIR]
    The library beside openraft and tikv's raft: three replicas in one process, in memory, 1 to 4,096 clients.
    With other --layers than memory this library alone, with a real log (in a new directory in DIR, which it removes),
    TCP over loopback, or both; with all of them beside each other. --busy-poll is the option of that name of this
    library's nodes: 100 in memory and 0, the library's own default, with other --layers, if it is not given.
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
    let name = arguments.next().unwrap_or_default();
    let wrong = match run(&name, arguments) {
        Some(Ok(())) => return ExitCode::SUCCESS,
        Some(Err(error)) => format!("{error}\n"),
        None => String::new(),
    };
    eprint!("{wrong}{USAGE}");
    ExitCode::FAILURE
}

/// Takes the measurement of this name, if there is one.
fn run(name: &str, arguments: impl Iterator<Item = String>) -> Option<Outcome<()>> {
    Some(match name {
        "raft" => raft::Plan::parse(arguments).map(|plan| raft::run(&plan)).map_err(Into::into),
        "library" => library::Plan::parse(arguments).map_err(Into::into).and_then(|plan| library::run(&plan)),
        "log" => Plan::parse("log", arguments).map_err(Into::into).and_then(|plan| log::run(&plan)),
        "groups" => groups::Plan::parse(arguments).map_err(Into::into).and_then(|plan| groups::run(&plan)),
        groups::NODE => groups::node::run(arguments),
        "ring" => Plan::parse("ring", arguments).map_err(Into::into).and_then(|plan| ring::run(&plan)),
        _ => return None,
    })
}
