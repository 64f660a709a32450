//! The program `vlot`: a replicated key-value store that speaks etcd's v3 interface, and the tools around it.
//!
//! Owns which word starts what. `vlot server` takes etcd's flags, which are read by `config.rs`; everything else is
//! clap's.

mod ask;
mod bench;
mod client;
mod compaction;
mod config;
mod ctl;
mod data_dir;
mod dev;
mod edge;
mod exposition;
mod identity;
mod join;
mod log;
mod logging;
mod member;
mod metrics;
mod peer_pages;
mod removal;
mod rpc;
mod serve;
mod service;
mod status;
mod store_group;
mod store_machine;
mod worker_pool;

use std::process::ExitCode;

use clap::{ArgMatches, Command};

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    if arguments.nth(1).as_deref() == Some("server") {
        return serve::run(arguments.collect());
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
