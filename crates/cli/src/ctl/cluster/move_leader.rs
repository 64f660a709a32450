//! `vlot move-leader`: hand the leadership to another member.

use clap::{ArgMatches, Command};
use vlot_proto::etcdserverpb::{MoveLeaderRequest, MoveLeaderResponse, StatusRequest, StatusResponse};

use crate::client::{Repeat, path};
use crate::ctl::flags::{Settings, explain, words, words_of};
use crate::ctl::notation::number::parse_id;
use crate::ctl::{Exit, show};

/// The command and its argument.
pub fn command() -> Command {
    Command::new("move-leader")
        .about("Transfers leadership to another etcd cluster member.")
        .arg(words("TRANSFEREE_MEMBER_ID"))
}

/// Looks for the leader among the endpoints, asks it to hand over, and prints which member leads then.
pub async fn run(settings: &Settings, matches: &ArgMatches) -> Result<(), Exit> {
    let words = words_of(matches);
    let [target] = words.as_slice() else {
        return Err(Exit::bad_args("move-leader command needs 1 argument"));
    };
    let target = parse_id(&String::from_utf8_lossy(target)).map_err(Exit::bad_args)?;
    for endpoint in &settings.endpoints {
        let mut client = settings.client_of(endpoint);
        let failed = |failure| {
            explain(&failure);
            Exit::error(failure.to_string())
        };
        let status = client.call(path::STATUS, &StatusRequest {}, Repeat::Freely, settings.command_timeout).await;
        let status: StatusResponse = status.map_err(failed)?;
        if status.header.map_or(0, |header| header.member_id) != status.leader {
            continue;
        }
        let request = MoveLeaderRequest { target_id: target };
        let moved = client.call(path::MOVE_LEADER, &request, Repeat::IfUnsent, settings.command_timeout).await;
        let reply: MoveLeaderResponse = moved.map_err(failed)?;
        return show(&settings.printer.move_leader(status.leader, target, &reply)?);
    }
    let endpoints: Vec<_> = settings.endpoints.iter().map(ToString::to_string).collect();
    Err(Exit::bad_args(format!("no leader endpoint given at [{}]", endpoints.join(" "))))
}
