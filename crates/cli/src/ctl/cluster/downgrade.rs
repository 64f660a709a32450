//! `vlot downgrade`: prepare a cluster for members of the release before.

use clap::{ArgMatches, Command};
use vlot_proto::etcdserverpb::downgrade_request::DowngradeAction;
use vlot_proto::etcdserverpb::{DowngradeRequest, DowngradeResponse};

use crate::client::{Repeat, path};
use crate::ctl::flags::{Settings, words, words_of};
use crate::ctl::{Exit, show};

/// The command and its subcommands.
pub fn command() -> Command {
    let of_version = |name, about| Command::new(name).about(about).arg(words("TARGET_VERSION"));
    Command::new("downgrade").about("Downgrade related commands").subcommands([
        of_version("validate", "Validate downgrade capability before starting downgrade"),
        of_version("enable", "Start a downgrade action to cluster"),
        Command::new("cancel").about("Cancel the ongoing downgrade action to cluster").arg(words("")),
    ])
}

/// Makes the call and prints its outcome.
pub async fn run(settings: &Settings, matches: &ArgMatches) -> Result<(), Exit> {
    let (name, matches) = matches.subcommand().expect("downgrade requires a subcommand");
    let action = match name {
        "validate" => DowngradeAction::Validate,
        "enable" => DowngradeAction::Enable,
        _ => DowngradeAction::Cancel,
    };
    let version = match action {
        DowngradeAction::Cancel => String::new(),
        _ => target_version(matches)?,
    };
    let request = DowngradeRequest { action: action.into(), version };
    let reply: DowngradeResponse = settings.call(path::DOWNGRADE, &request, Repeat::IfUnsent).await?;
    show(&settings.printer.downgrade(name, &reply)?)
}

fn target_version(matches: &ArgMatches) -> Result<String, Exit> {
    match words_of(matches).as_slice() {
        [] => Err(Exit::bad_args("TARGET_VERSION not provided")),
        [version] if version.is_empty() => Err(Exit::bad_args("target version not provided")),
        [version] => Ok(String::from_utf8_lossy(version).into_owned()),
        _ => Err(Exit::bad_args("too many arguments")),
    }
}
