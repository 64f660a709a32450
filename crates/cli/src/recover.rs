//! `vlot recover-from-lost-quorum`: one member goes on alone after a majority of its cluster is lost for good.
//!
//! Owns flags, output and exit codes. Needs no server, and must not know how it is done.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use vlot_server::{MemberRecovered, recover_member};

const CONFIRMATION: &str = "i-know-that-acknowledged-writes-may-be-lost";

const ABOUT: &str = "\
For when a majority of the members is lost for good, and for nothing else. Makes the member whose data is in DIR the only \
member of a new cluster, which has another id. What others had acknowledged and this member does not have is lost.

1. End all members that still run, and see to it that none of them starts again.
2. Run this on each member that is left, without the confirmation: it changes nothing and prints how far the member's log goes. \
Choose the one that has the greatest term, and of those the one with the last entry.
3. Run it there with the confirmation, and start the member with the flags it always had.
4. Empty the data directories of all others, add them with 'member add', and start them with --initial-cluster-state=existing.

The log of before is kept beside the new one; remove it once the new cluster works. Members of before that are started all the \
same are refused by the new cluster, but two of them may serve clients as a cluster of their own.";

pub(crate) fn command() -> Command {
    Command::new("recover-from-lost-quorum")
        .about("Make one member a new cluster after a majority is lost for good; acknowledged writes may be lost")
        .long_about(ABOUT)
        .arg(
            Arg::new("data-dir")
                .long("data-dir")
                .value_name("DIR")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("The data directory of the member, which must not run"),
        )
        .arg(
            Arg::new(CONFIRMATION)
                .long(CONFIRMATION)
                .action(ArgAction::SetTrue)
                .help("Do it; without it only what is found is printed"),
        )
}

pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    // It is required.
    let Some(dir) = matches.get_one::<PathBuf>("data-dir") else { return ExitCode::FAILURE };
    match recover_member(dir, matches.get_flag(CONFIRMATION)) {
        Ok(MemberRecovered { cluster, member, found, replaced }) => {
            found.iter().for_each(|group| println!("{group}"));
            println!(
                "member {member:x} is the only member of the new cluster {cluster:x}; start it with the flags it had"
            );
            println!("the log of before is in {}; remove it once the new cluster works", replaced.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("Error: {error}");
            ExitCode::FAILURE
        }
    }
}
