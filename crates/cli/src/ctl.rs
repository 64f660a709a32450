//! etcdctl's commands: what it takes to be `vlot get`, `vlot lease grant`, `vlot member list` and all the others.
//!
//! Owns flags, output and exit codes, all as etcdctl 3.5 has them. Must not know how a call travels (see `client.rs`) or
//! what a server does with it.

mod check;
mod cluster;
mod discovery;
mod flags;
mod kv;
mod leases;
mod notation;
mod print;
mod reorder;
mod terminal;
mod users;
mod version;

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use clap::{ArgMatches, Command};
use tokio::signal::unix::{SignalKind, signal};

pub use flags::flag_before_command;
pub use print::draw_table;
pub use reorder::flags_behind_command;

use cluster::{alarm, defrag, downgrade, endpoint, member, move_leader, quota, snapshot};
use flags::{Settings, with_usage};
use kv::{compaction, del, get, make_mirror, put, txn, watch};
use leases::{elect, lease, lock};
use users::{auth, role, user};

/// The flags that may stand before the command too, for the program's root command.
pub fn flags() -> Vec<clap::Arg> {
    flags::global()
}

/// The commands, for the root command of a program of this name. Each takes the flags of [`flags()`] as well.
pub fn commands(program: &str) -> Vec<Command> {
    let commands = [
        get::command(),
        put::command(),
        del::command(),
        txn::command(),
        watch::command(),
        compaction::command(),
        make_mirror::command(),
        lease::command(),
        lock::command(),
        elect::command(),
        endpoint::command(),
        member::command(),
        move_leader::command(),
        alarm::command(),
        defrag::command(),
        snapshot::command(),
        downgrade::command(),
        auth::command(),
        user::command(),
        role::command(),
        check::command(),
        version::command(),
    ];
    let complete =
        |command: Command| with_usage(program, command).args(flags::global().into_iter().map(|flag| flag.global(true)));
    // etcdctl has none, and under its name the program is that tool.
    let ours = (program != "etcdctl").then(quota::command);
    commands.into_iter().chain(ours).map(complete).collect()
}

/// Runs the command that the root command's matches name, as the program of this name.
///
/// # Panics
/// If it is none of [`commands`].
pub fn run(program: &str, root: &ArgMatches) -> ExitCode {
    match dispatch(program, root) {
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

fn dispatch(program: &str, root: &ArgMatches) -> Result<(), Exit> {
    let (name, matches) = root.subcommand().expect("the root command requires a subcommand");
    if name == "version" {
        return version::run(program);
    }
    if let Some(help) = help_without_subcommand(program, name, matches) {
        return show(help.as_bytes());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Exit::error(format!("cannot start: {error}")))?;
    let local = tokio::task::LocalSet::new();
    runtime.block_on(local.run_until(async {
        let settings = Settings::read(root, matches, name == "watch").await?;
        match name {
            "get" => get::run(&settings, matches).await,
            "put" => put::run(&settings, matches).await,
            "del" => del::run(&settings, matches).await,
            "txn" => txn::run(&settings, matches).await,
            "watch" => watch::run(&settings, matches).await,
            "compaction" => compaction::run(&settings, matches).await,
            "make-mirror" => make_mirror::run(&settings, matches).await,
            "lease" => lease::run(&settings, matches).await,
            "lock" => lock::run(&settings, matches).await,
            "elect" => elect::run(&settings, matches).await,
            "endpoint" => endpoint::run(&settings, matches).await,
            "member" => member::run(&settings, matches).await,
            "move-leader" => move_leader::run(&settings, matches).await,
            "alarm" => alarm::run(&settings, matches).await,
            "quota" => quota::run(&settings, matches).await,
            "defrag" => defrag::run(&settings, matches).await,
            "snapshot" => snapshot::run(&settings, matches).await,
            "downgrade" => downgrade::run(&settings, matches).await,
            "auth" => auth::run(&settings, matches).await,
            "user" => user::run(&settings, matches).await,
            "role" => role::run(&settings, matches).await,
            "check" => check::run(&settings, matches).await,
            other => unreachable!("{other} is not among the commands"),
        }
    }))
}

/// As in etcdctl, a command whose subcommand is missing tells which there are.
fn help_without_subcommand(program: &str, name: &str, matches: &ArgMatches) -> Option<String> {
    let command =
        commands(program).into_iter().find(|command| command.get_name() == name && command.has_subcommands())?;
    let is_missing = matches.subcommand_name().is_none();
    is_missing.then(|| command.bin_name(format!("{program} {name}")).render_help().to_string())
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
    /// There is no getting in: the user is refused, or what a command lives by is lost.
    const BAD_CONNECTION: u8 = 2;
    /// A transaction or a watch request cannot be read.
    const INVALID_INPUT: u8 = 3;
    /// A flag has a value that is not supported.
    const BAD_FEATURE: u8 = 4;
    /// The server cancelled a watch, or a snapshot did not come through.
    const INTERRUPTED: u8 = 5;
    /// Arguments are missing or contradict each other.
    const BAD_ARGS: u8 = 128;

    fn new(code: u8, message: impl fmt::Display) -> Exit {
        Exit { code, message: message.to_string() }
    }

    fn error(message: impl fmt::Display) -> Exit {
        Exit::new(Exit::ERROR, message)
    }

    fn bad_connection(message: impl fmt::Display) -> Exit {
        Exit::new(Exit::BAD_CONNECTION, message)
    }

    fn bad_args(message: impl fmt::Display) -> Exit {
        Exit::new(Exit::BAD_ARGS, message)
    }

    /// The same end, with what it was that failed.
    fn because(self, what: &str) -> Exit {
        Exit { message: format!("{what} ({})", self.message), ..self }
    }

    fn bad_feature(message: impl fmt::Display) -> Exit {
        Exit::new(Exit::BAD_FEATURE, message)
    }

    fn invalid_input(message: impl fmt::Display) -> Exit {
        Exit::new(Exit::INVALID_INPUT, message)
    }
}

/// Waits for SIGINT or SIGTERM, which do not end the process any more once this is called.
fn asked_to_stop() -> impl Future<Output = ()> {
    let signals = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
    async move {
        match signals {
            [Ok(mut interrupt), Ok(mut terminate)] => tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            },
            // The system does not tell of signals, and so they end the process.
            _ => std::future::pending().await,
        }
    }
}

/// Writes a result. A closed pipe is no mistake of ours, but its reader needs no more.
fn show(output: &[u8]) -> Result<(), Exit> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(output).and_then(|()| stdout.flush()).map_err(|_| Exit::new(Exit::ERROR, ""))
}

/// Warns with a line of JSON, as etcd's clients log.
fn warn(message: &str, name: &str, value: &str) {
    log("warn", message, name, value);
}

/// Tells how far a command has come, in the same form.
fn inform(message: &str, name: &str, value: &str) {
    log("info", message, name, value);
}

fn log(level: &str, message: &str, name: &str, value: &str) {
    let [message, value] = [message, value].map(|text| serde_json::Value::from(text).to_string());
    report(&format!("{{\"level\":\"{level}\",\"msg\":{message},\"{name}\":{value}}}"));
}

/// Writes a line to stderr; if that fails there is nowhere left to say so.
fn report(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
