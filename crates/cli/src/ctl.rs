//! etcdctl's commands: what it takes to be `vlot get`, `put`, `del`, `txn`, `watch`, `compaction`, `endpoint`, `member`,
//! `move-leader` and `version`.
//!
//! Owns flags, output and exit codes, all as etcdctl 3.5 has them. Must not know how a call travels (see `client.rs`) or
//! what a server does with it.

mod cluster;
mod flags;
mod kv;
mod notation;
mod print;
mod version;

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use clap::{ArgMatches, Command};

pub use flags::flag_before_command;

use cluster::{endpoint, member, move_leader};
use flags::Settings;
use kv::{compaction, del, get, put, txn, watch};

/// The flags that may stand before the command too, for the program's root command.
pub fn flags() -> Vec<clap::Arg> {
    flags::global()
}

/// The commands, for the program's root command. Each takes the flags of [`flags()`] as well.
pub fn commands() -> Vec<Command> {
    let commands = [
        get::command(),
        put::command(),
        del::command(),
        txn::command(),
        watch::command(),
        compaction::command(),
        endpoint::command(),
        member::command(),
        move_leader::command(),
        version::command(),
    ];
    commands.map(|command| command.args(flags::global().into_iter().map(|flag| flag.global(true)))).into()
}

/// Runs the command that the root command's matches name.
///
/// # Panics
/// If it is none of [`commands`].
pub fn run(root: &ArgMatches) -> ExitCode {
    match dispatch(root) {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => {
            if !exit.message.is_empty() {
                report(&format!("Error: {}", exit.message));
            }
            ExitCode::from(exit.code)
        }
    }
}

/// Prints what the command line's parser has to say. Help is a success; a mistake ends with 1, as in etcdctl.
pub fn refuse(error: &clap::Error) -> ExitCode {
    // When the terminal is gone there is nothing left to write to.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(Exit::ERROR) } else { ExitCode::SUCCESS }
}

fn dispatch(root: &ArgMatches) -> Result<(), Exit> {
    let (name, matches) = root.subcommand().expect("the root command requires a subcommand");
    if name == "version" {
        return version::run();
    }
    let settings = Settings::read(root, matches, name == "watch")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Exit::error(format!("cannot start: {error}")))?;
    let local = tokio::task::LocalSet::new();
    runtime.block_on(local.run_until(async {
        match name {
            "get" => get::run(&settings, matches).await,
            "put" => put::run(&settings, matches).await,
            "del" => del::run(&settings, matches).await,
            "txn" => txn::run(&settings, matches).await,
            "watch" => watch::run(&settings, matches).await,
            "compaction" => compaction::run(&settings, matches).await,
            "endpoint" => endpoint::run(&settings, matches).await,
            "member" => member::run(&settings, matches).await,
            "move-leader" => move_leader::run(&settings, matches).await,
            other => unreachable!("{other} is not among the commands"),
        }
    }))
}

/// How a command ends when it does not succeed.
#[derive(Debug, Eq, PartialEq)]
struct Exit {
    code: u8,
    /// Printed after `Error: `; nothing is printed if it is empty.
    message: String,
}

impl Exit {
    /// The call failed, or the flags cannot be read.
    const ERROR: u8 = 1;
    /// A transaction or a watch request cannot be read.
    const INVALID_INPUT: u8 = 3;
    /// A flag has a value that is not supported.
    const BAD_FEATURE: u8 = 4;
    /// The server cancelled a watch.
    const INTERRUPTED: u8 = 5;
    /// Arguments are missing or contradict each other.
    const BAD_ARGS: u8 = 128;

    fn new(code: u8, message: impl fmt::Display) -> Exit {
        Exit { code, message: message.to_string() }
    }

    fn error(message: impl fmt::Display) -> Exit {
        Exit::new(Exit::ERROR, message)
    }

    fn bad_args(message: impl fmt::Display) -> Exit {
        Exit::new(Exit::BAD_ARGS, message)
    }

    fn bad_feature(message: impl fmt::Display) -> Exit {
        Exit::new(Exit::BAD_FEATURE, message)
    }

    fn invalid_input(message: impl fmt::Display) -> Exit {
        Exit::new(Exit::INVALID_INPUT, message)
    }
}

/// Writes a result. A closed pipe is no mistake of ours, but its reader needs no more.
fn show(output: &[u8]) -> Result<(), Exit> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(output).and_then(|()| stdout.flush()).map_err(|_| Exit::new(Exit::ERROR, ""))
}

/// Warns with a line of JSON, as etcd's clients log.
fn warn(message: &str, name: &str, value: &str) {
    let [message, value] = [message, value].map(|text| serde_json::Value::from(text).to_string());
    report(&format!("{{\"level\":\"warn\",\"msg\":{message},\"{name}\":{value}}}"));
}

/// Writes a line to stderr; if that fails there is nowhere left to say so.
fn report(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
