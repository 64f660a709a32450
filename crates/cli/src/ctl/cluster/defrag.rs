//! `vlot defrag`: let members give back the space that they do not use.

use clap::{ArgMatches, Command};
use vlot_proto::etcdserverpb::{DefragmentRequest, DefragmentResponse};

use super::endpoint::endpoints;
use crate::client::{Failure, Repeat, path};
use crate::ctl::flags::{Settings, exit_of, explain, switch, words};
use crate::ctl::{Exit, report, show};

/// The command and its flags.
pub fn command() -> Command {
    Command::new("defrag")
        .about("Defragments the storage of the etcd members with given endpoints")
        // etcdctl takes words here, too, and makes nothing of them.
        .arg(words(""))
        .arg(switch("cluster", "Use all endpoints from the cluster member list"))
}

/// Asks one after the other, so that not all of them are busy with it at the same time.
pub async fn run(settings: &Settings, matches: &ArgMatches) -> Result<(), Exit> {
    let mut failed = false;
    for endpoint in endpoints(settings, matches).await? {
        let mut client = settings.client_of(&endpoint);
        let call = client.call(path::DEFRAGMENT, &DefragmentRequest {}, Repeat::IfUnsent, settings.command_timeout);
        let outcome: Result<DefragmentResponse, _> = call.await;
        match outcome {
            Ok(_) => show(format!("Finished defragmenting etcd member[{endpoint}]\n").as_bytes())?,
            // What one of them thinks of the user, all do.
            Err(refused @ Failure::LoginRefused(_)) => return Err(exit_of(&refused)),
            Err(failure) => {
                explain(&failure);
                report(&format!("Failed to defragment etcd member[{endpoint}] ({failure})"));
                failed = true;
            }
        }
    }
    if failed { Err(Exit::error("")) } else { Ok(()) }
}
