//! The program `vlot`: a replicated key-value store that speaks etcd's v3 interface, and the tools around it.
//!
//! Owns which word starts what, and which name: called `etcd` it is the server, called `etcdctl` it is that tool and nothing
//! else. `vlot server` takes etcd's flags, which the library reads; everything else is clap's.

mod bench;
mod cert;
mod client;
mod completion;
mod ctl;
mod dev;
mod explain;
mod log;
mod logging;
mod recover;
mod server;
mod signals;
mod snapshot;
mod svg;

use std::path::Path;
use std::process::ExitCode;

use clap::{ArgMatches, Command};

/// Requests and entries are many small pieces of memory that one thread takes and another gives back (decision 40).
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let program = std::env::args_os().next().unwrap_or_default();
    match Path::new(&program).file_name().and_then(|name| name.to_str()) {
        Some("etcd") => server::run("etcd", std::env::args().skip(1).collect()),
        Some("etcdctl") => run_command("etcdctl", etcdctl),
        _ => run_as_vlot(),
    }
}

fn run_as_vlot() -> ExitCode {
    let mut arguments = std::env::args();
    if arguments.nth(1).as_deref() == Some("server") {
        return server::run("vlot server", arguments.collect());
    }
    run_command("vlot", vlot)
}

fn run_command(program: &str, commands: fn() -> Command) -> ExitCode {
    if snapshot::is_asked_for(std::env::args()) {
        return snapshot::run();
    }
    let arguments = ctl::flags_behind_command(std::env::args_os().collect(), &commands());
    let root = match commands().try_get_matches_from(arguments) {
        Ok(root) => root,
        Err(error) => return ctl::refuse(&error),
    };
    let (name, run): (_, fn(&ArgMatches) -> ExitCode) = match root.subcommand() {
        Some(("completion", matches)) => return completion::run(commands(), matches),
        Some(("dev", _)) => ("dev", dev::run),
        Some(("bench", _)) => ("bench", bench::run),
        Some(("log", _)) => ("log", log::run),
        Some(("explain", _)) => ("explain", explain::run),
        Some(("cert", _)) => ("cert", cert::run),
        Some(("recover-from-lost-quorum", _)) => ("recover-from-lost-quorum", recover::run),
        _ => return ctl::run(program, &root),
    };
    if let Some(flag) = ctl::flag_before_command(&root) {
        eprintln!(
            "vlot {name}: --{flag} is no flag of it where it stands; see 'vlot {name} --help' for what may follow"
        );
        return ExitCode::FAILURE;
    }
    root.subcommand_matches(name).map_or(ExitCode::FAILURE, run)
}

fn vlot() -> Command {
    root("vlot", "A replicated key-value store that speaks etcd's v3 interface")
        .subcommand(Command::new("server").about("Start one node; takes etcd's flags, see 'vlot server --help'"))
        .subcommand(dev::command())
        .subcommands(ctl::commands("vlot"))
        .subcommand(bench::command())
        .subcommand(log::command())
        .subcommand(explain::command())
        .subcommand(cert::command())
        .subcommand(recover::command())
        .subcommand(completion::command())
}

fn etcdctl() -> Command {
    root("etcdctl", "A command line client for etcd v3")
        .subcommands(ctl::commands("etcdctl"))
        .subcommand(completion::command())
}

fn root(name: &'static str, about: &'static str) -> Command {
    Command::new(name)
        .about(about)
        .subcommand_required(true)
        .arg_required_else_help(true)
        // As in etcdctl, the beginning of a command is enough if no other begins so.
        .infer_subcommands(true)
        .args(ctl::flags())
}
