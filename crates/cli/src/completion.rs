//! `vlot completion`: a script that lets a shell complete this program's commands and flags.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command};
use clap_complete::Shell;

const SHELLS: [(&str, Shell); 4] =
    [("bash", Shell::Bash), ("zsh", Shell::Zsh), ("fish", Shell::Fish), ("powershell", Shell::PowerShell)];

/// The command and its argument.
pub fn command() -> Command {
    Command::new("completion")
        .about("Generate completion script")
        .after_help("In bash, for one: source <(PROGRAM completion bash)")
        .arg(
            Arg::new("shell")
                .required(true)
                .value_name("SHELL")
                .value_parser(PossibleValuesParser::new(SHELLS.map(|(name, _)| name))),
        )
}

/// Prints the script for the program whose commands are given.
pub fn run(mut root: Command, matches: &ArgMatches) -> ExitCode {
    let named = matches.get_one::<String>("shell");
    let shell = SHELLS.iter().find(|(name, _)| named.is_some_and(|named| named == name));
    let (_, shell) = shell.expect("the parser takes these names only");
    let mut script = Vec::new();
    let name = root.get_name().to_owned();
    clap_complete::generate(*shell, &mut root, name, &mut script);
    match io::stdout().write_all(&script) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
