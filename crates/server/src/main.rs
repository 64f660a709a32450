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
mod identity;
mod join;
mod keeper;
mod log;
mod logging;
mod member;
mod metrics;
mod peer_pages;
mod removal;
mod replica;
mod serve;
mod service;
mod status;

use std::process::ExitCode;

use clap::Command;

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    if arguments.nth(1).as_deref() == Some("server") {
        return serve::run(arguments.collect());
    }
    match root().try_get_matches() {
        Ok(matches) => match matches.subcommand() {
            Some(("dev", matches)) => dev::run(matches),
            Some(("bench", matches)) => bench::run(matches),
            Some(("log", matches)) => log::run(matches),
            _ => ctl::run(&matches),
        },
        Err(error) => ctl::refuse(&error),
    }
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
