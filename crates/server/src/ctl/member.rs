//! `vlot member list`: who belongs to the cluster.

use clap::{ArgMatches, Command};
use vlot_proto::etcdserverpb::MemberListRequest;

use super::flags::Settings;
use super::{Exit, show};
use crate::client::{Repeat, path};

/// The command and its one subcommand.
pub fn command() -> Command {
    let list = Command::new("list").about("Lists all members in the cluster").long_about(
        "Lists all members in the cluster.\n\nWith --write-out=simple, this prints comma-separated lists of ID, Status, \
         Name, Peer Addrs, Client Addrs and Is Learner.",
    );
    Command::new("member").about("Membership related commands").subcommand_required(true).subcommand(list)
}

/// Makes the call and prints the members.
pub async fn run(settings: &Settings, _matches: &ArgMatches) -> Result<(), Exit> {
    let request = MemberListRequest { linearizable: true };
    let reply = settings.call(path::MEMBER_LIST, &request, Repeat::Freely).await?;
    show(&settings.printer.member_list(&reply)?)
}
