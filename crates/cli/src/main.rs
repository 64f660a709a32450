//! The program `vlot`: a replicated key-value store that speaks etcd's v3 interface, and the tools around it.
//!
//! Owns which word starts what. `vlot server` takes etcd's flags, which the library reads; everything else is clap's.

mod bench;
mod client;
mod ctl;
mod dev;
mod log;
mod logging;
mod server;
mod signals;

use std::process::ExitCode;

use clap::{ArgMatches, Command};

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    if arguments.nth(1).as_deref() == Some("server") {
        return server::run(arguments.collect());
    }
    let root = match root().try_get_matches() {
        Ok(root) => root,
        Err(error) => return ctl::refuse(&error),
    };
    let (name, run): (_, fn(&ArgMatches) -> ExitCode) = match root.subcommand_name() {
        Some("dev") => ("dev", dev::run),
        Some("bench") => ("bench", bench::run),
        Some("log") => ("log", log::run),
        _ => return ctl::run(&root),
    };
    if let Some(flag) = ctl::flag_before_command(&root) {
        eprintln!(
            "vlot {name}: --{flag} is no flag of it where it stands; see 'vlot {name} --help' for what may follow"
        );
        return ExitCode::FAILURE;
    }
    root.subcommand_matches(name).map_or(ExitCode::FAILURE, run)
}

fn root() -> Command {
    Command::new("vlot")
        .about("A replicated key-value store that speaks etcd's v3 interface")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .args(ctl::flags())
        .subcommand(Command::new("server").about("Start one node; takes etcd's flags, see 'vlot server --help'"))
        .subcommand(dev::command())
        .subcommands(ctl::commands())
        .subcommand(bench::command())
        .subcommand(log::command())
}
