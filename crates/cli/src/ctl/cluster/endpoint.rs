//! `vlot endpoint health|status|hashkv`: ask each endpoint about itself.

use std::time::{Duration, Instant};

use clap::{ArgMatches, Command};
use tokio::task::JoinSet;
use vlot_proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, AlarmType, HashKvRequest, HashKvResponse, MemberListRequest, MemberListResponse,
    RangeRequest, RangeResponse, StatusRequest, StatusResponse,
};

use crate::client::{Client, Endpoint, Failure, Repeat, path};
use crate::ctl::flags::{Settings, exit_of, explain, is_set, number, number_of, switch};
use crate::ctl::print::said::{Health, Said};
use crate::ctl::{Exit, report, show};

/// gRPC's code of a call that the user may not make.
const PERMISSION_DENIED: u32 = 7;

/// The command and its subcommands.
pub fn command() -> Command {
    Command::new("endpoint")
        .about("Endpoint related commands")
        .arg(switch("cluster", "Use all endpoints from the cluster member list").global(true))
        .subcommands([
            Command::new("health").about("Checks the healthiness of endpoints specified in `--endpoints` flag"),
            Command::new("status")
                .about("Prints out the status of endpoints specified in `--endpoints` flag")
                .after_help(
                    "With --write-out=simple, this prints comma-separated lists of endpoint, ID, version, db size, is \
                     leader, is learner, raft term, raft index, raft applied index and errors.",
                ),
            Command::new("hashkv")
                .about("Prints the KV history hash for each endpoint in --endpoints")
                .arg(number("rev", "Maximum revision to hash (default: all revisions)")),
        ])
}

/// Asks all endpoints and prints their answers.
pub async fn run(settings: &Settings, matches: &ArgMatches) -> Result<(), Exit> {
    let (name, matches) = matches.subcommand().expect("endpoint requires a subcommand");
    let endpoints = endpoints(settings, matches).await?;
    match name {
        "health" => health(settings, endpoints).await,
        "status" => status(settings, endpoints).await,
        _ => hash_kv(settings, endpoints, number_of(matches, "rev")).await,
    }
}

/// Those that were named, or with `--cluster` those of all members.
///
/// # Errors
/// If the members cannot be asked for.
pub async fn endpoints(settings: &Settings, matches: &ArgMatches) -> Result<Vec<Endpoint>, Exit> {
    if is_set(matches, "cluster") { endpoints_of_cluster(settings).await } else { Ok(settings.endpoints.clone()) }
}

async fn endpoints_of_cluster(settings: &Settings) -> Result<Vec<Endpoint>, Exit> {
    let request = MemberListRequest { linearizable: true };
    let outcome = settings.client().call(path::MEMBER_LIST, &request, Repeat::Freely, settings.command_timeout).await;
    let reply: MemberListResponse = outcome.map_err(|failure| {
        let exit = exit_of(&failure);
        Exit::error(format!("failed to fetch endpoints from etcd cluster member list: {}", exit.message))
    })?;
    let urls = reply.members.iter().flat_map(|member| &member.client_ur_ls);
    urls.map(|url| url.parse().map_err(Exit::error)).collect()
}

async fn health(settings: &Settings, endpoints: Vec<Endpoint>) -> Result<(), Exit> {
    let mut checks = JoinSet::new();
    for endpoint in endpoints {
        let client = settings.client_of(&endpoint);
        checks.spawn_local(check_health(client, endpoint, settings.command_timeout));
    }
    let mut healths = Vec::new();
    while let Some(checked) = checks.join_next().await {
        // A check that panicked is a mistake in this file; its endpoint is at least not reported as healthy.
        healths.extend(checked.ok());
    }
    settings.printer.endpoint_health(&healths, report).and_then(|output| show(&output))?;
    if healths.iter().all(|health| health.error.is_empty()) { Ok(()) } else { Err(Exit::error("unhealthy cluster")) }
}

async fn check_health(mut client: Client, endpoint: Endpoint, budget: Duration) -> Health {
    let start = Instant::now();
    let request = RangeRequest { key: "health".into(), ..RangeRequest::default() };
    let outcome: Result<RangeResponse, _> = client.call(path::RANGE, &request, Repeat::Freely, budget).await;
    let took = start.elapsed();
    let error = match outcome {
        Ok(_) => active_alarms(&mut client, budget.saturating_sub(took)).await,
        // A read that is not permitted still went through consensus.
        Err(Failure::Refused(status)) if status.code == PERMISSION_DENIED => {
            active_alarms(&mut client, budget.saturating_sub(took)).await
        }
        Err(failure) => {
            explain(&failure);
            failure.to_string()
        }
    };
    Health { endpoint: endpoint.to_string(), took, error }
}

/// What the alarms have to say; nothing if there are none.
async fn active_alarms(client: &mut Client, budget: Duration) -> String {
    let outcome = client.call(path::ALARM, &AlarmRequest::default(), Repeat::Freely, budget).await;
    let reply: AlarmResponse = match outcome {
        Ok(reply) => reply,
        Err(_) => return "Unable to fetch the alarm list".to_owned(),
    };
    if reply.alarms.is_empty() {
        return String::new();
    }
    let names = reply.alarms.iter().map(|alarm| match AlarmType::try_from(alarm.alarm) {
        Ok(AlarmType::Nospace) => "NOSPACE ",
        Ok(AlarmType::Corrupt) => "CORRUPT ",
        _ => "UNKNOWN ",
    });
    format!("Active Alarm(s): {}", names.collect::<String>())
}

async fn status(settings: &Settings, endpoints: Vec<Endpoint>) -> Result<(), Exit> {
    let (statuses, failure) =
        ask_each::<StatusResponse>(settings, endpoints, path::STATUS, &StatusRequest {}, "status").await?;
    show(&settings.printer.endpoint_status(&statuses)?)?;
    if failure.is_some() { Err(Exit::new(Exit::ERROR, "")) } else { Ok(()) }
}

async fn hash_kv(settings: &Settings, endpoints: Vec<Endpoint>, revision: i64) -> Result<(), Exit> {
    let request = HashKvRequest { revision };
    let (hashes, failure) = ask_each::<HashKvResponse>(settings, endpoints, path::HASH_KV, &request, "hash").await?;
    show(&settings.printer.endpoint_hash_kv(&hashes)?)?;
    failure.map_or(Ok(()), |failure| Err(Exit::error(failure.to_string())))
}

/// Asks one after the other; returns the answers and the last failure.
async fn ask_each<Reply: prost::Message + Default>(
    settings: &Settings,
    endpoints: Vec<Endpoint>,
    path: &'static str,
    request: &impl prost::Message,
    what: &str,
) -> Result<(Vec<Said<Reply>>, Option<Failure>), Exit> {
    let mut answers = Vec::new();
    let mut last_failure = None;
    for endpoint in endpoints {
        let mut client = settings.client_of(&endpoint);
        match client.call(path, request, Repeat::Freely, settings.command_timeout).await {
            Ok(reply) => answers.push(Said { endpoint: endpoint.to_string(), reply }),
            // What one of them thinks of the user, all do.
            Err(refused @ Failure::LoginRefused(_)) => return Err(exit_of(&refused)),
            Err(failure) => {
                explain(&failure);
                report(&format!("Failed to get the {what} of endpoint {endpoint} ({failure})"));
                last_failure = Some(failure);
            }
        }
    }
    Ok((answers, last_failure))
}
