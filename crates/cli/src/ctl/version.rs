//! `vlot version`: of this program, and of the interface it speaks.

use clap::Command;

use super::{Exit, show};

/// etcd's interface as far as the command line knows it.
const API_VERSION: &str = "3.5";

/// The command.
pub fn command() -> Command {
    Command::new("version").about("Prints the version of vlot")
}

/// Prints both versions.
pub fn run() -> Result<(), Exit> {
    show(format!("vlot version: {}\nAPI version: {API_VERSION}\n", env!("CARGO_PKG_VERSION")).as_bytes())
}
