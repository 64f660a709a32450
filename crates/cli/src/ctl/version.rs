//! `vlot version`: of this program, and of the interface it speaks.

use clap::Command;
use vlot_server::ETCD_VERSION;

use super::{Exit, show};

/// The command.
pub fn command() -> Command {
    Command::new("version").about("Prints the version of this program")
}

/// Prints both versions. Under etcdctl's name the program has its version, for scripts that compare it.
pub fn run(program: &str) -> Result<(), Exit> {
    let version = if program == "etcdctl" { ETCD_VERSION } else { env!("CARGO_PKG_VERSION") };
    let (api, _) = ETCD_VERSION.rsplit_once('.').expect("a version has three parts");
    show(format!("{program} version: {version}\nAPI version: {api}\n").as_bytes())
}
