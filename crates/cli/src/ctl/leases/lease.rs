//! `vlot lease`: grant, renew and end leases, and look at them.

use clap::{ArgMatches, Command};
use vlot_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};

use super::renewal::{self, Renewal};
use crate::client::{Repeat, path};
use crate::ctl::flags::{Settings, exit_of, is_set, switch, words, words_of};
use crate::ctl::notation::number::{self, parse_int, parse_lease};
use crate::ctl::print::Format;
use crate::ctl::{Exit, show};

/// The command and its subcommands.
pub fn command() -> Command {
    Command::new("lease").about("Lease related commands").subcommands([
        Command::new("grant").about("Creates leases").arg(words("TTL")),
        Command::new("revoke").about("Revokes leases").arg(words("LEASE_ID")),
        Command::new("timetolive")
            .about("Get lease information")
            .arg(words("LEASE_ID"))
            .arg(switch("keys", "Get keys attached to this lease")),
        // etcdctl takes words here, too, and makes nothing of them.
        Command::new("list").about("List all active leases").arg(words("")),
        Command::new("keep-alive")
            .about("Keeps leases alive (renew)")
            .arg(words("LEASE_ID"))
            .arg(switch("once", "Resets the keep-alive time to its original value and exits immediately")),
    ])
}

/// Makes the call and prints what came of it.
pub async fn run(settings: &Settings, matches: &ArgMatches) -> Result<(), Exit> {
    let (name, matches) = matches.subcommand().expect("lease requires a subcommand");
    match name {
        "grant" => grant(settings, matches).await,
        "revoke" => revoke(settings, matches).await,
        "timetolive" => time_to_live(settings, matches).await,
        "keep-alive" => keep_alive(settings, matches).await,
        _ => list(settings).await,
    }
}

async fn grant(settings: &Settings, matches: &ArgMatches) -> Result<(), Exit> {
    let ttl = only_word(matches, "lease grant command needs TTL argument")?;
    let ttl = parse_int(&ttl, 10).map_err(|error| Exit::bad_args(format!("bad TTL ({error})")))?;
    let request = LeaseGrantRequest { ttl, id: 0 };
    let outcome = settings.call(path::LEASE_GRANT, &request, Repeat::IfUnsent).await;
    let reply: LeaseGrantResponse = outcome.map_err(|exit| exit.because("failed to grant lease"))?;
    show(&settings.printer.lease_grant(&reply)?)
}

async fn revoke(settings: &Settings, matches: &ArgMatches) -> Result<(), Exit> {
    let id = lease_of(matches, "lease revoke command needs 1 argument")?;
    let outcome = settings.call(path::LEASE_REVOKE, &LeaseRevokeRequest { id }, Repeat::IfUnsent).await;
    let reply: LeaseRevokeResponse = outcome.map_err(|exit| exit.because("failed to revoke lease"))?;
    show(&settings.printer.lease_revoke(id, &reply)?)
}

async fn time_to_live(settings: &Settings, matches: &ArgMatches) -> Result<(), Exit> {
    let id = lease_of(matches, "lease timetolive command needs lease ID as argument")?;
    let keys = is_set(matches, "keys");
    let request = LeaseTimeToLiveRequest { id, keys };
    let outcome = settings.call(path::LEASE_TIME_TO_LIVE, &request, Repeat::Freely).await;
    let reply: LeaseTimeToLiveResponse = outcome.map_err(lost)?;
    show(&settings.printer.lease_time_to_live(&reply, keys)?)
}

async fn list(settings: &Settings) -> Result<(), Exit> {
    let outcome = settings.call(path::LEASE_LEASES, &LeaseLeasesRequest {}, Repeat::Freely).await;
    let reply: LeaseLeasesResponse = outcome.map_err(lost)?;
    show(&settings.printer.lease_list(&reply)?)
}

async fn keep_alive(settings: &Settings, matches: &ArgMatches) -> Result<(), Exit> {
    let id = lease_of(matches, "lease keep-alive command needs lease ID as argument")?;
    if is_set(matches, "once") {
        return show(&settings.printer.lease_keep_alive(&renew_once(settings, id).await?)?);
    }
    let mut renewal = Renewal::new(settings.client(), id);
    loop {
        match renewal.next().await {
            Ok(reply) => show(&settings.printer.lease_keep_alive(&reply)?)?,
            Err(renewal::End::Failed(failure)) => return Err(lost(exit_of(&failure))),
            Err(renewal::End::Over) => break,
        }
    }
    match settings.printer.format {
        Format::Simple => show(format!("lease {} expired or revoked.\n", number::lease(id)).as_bytes()),
        _ => Ok(()),
    }
}

async fn renew_once(settings: &Settings, id: i64) -> Result<LeaseKeepAliveResponse, Exit> {
    let mut client = settings.client();
    let exchange = async {
        let mut stream = client.stream(path::LEASE_KEEP_ALIVE, &[], settings.command_timeout).await?;
        stream.send(&LeaseKeepAliveRequest { id }).await?;
        stream.next().await
    };
    let outcome = tokio::time::timeout(settings.command_timeout, exchange).await;
    let reply: Option<LeaseKeepAliveResponse> = outcome
        .map_err(|_| Exit::bad_connection("context deadline exceeded"))?
        .map_err(|failure| lost(exit_of(&failure)))?;
    match reply {
        Some(reply) if reply.ttl > 0 => Ok(reply),
        _ => Err(Exit::bad_connection("etcdserver: requested lease not found")),
    }
}

/// What only looks at leases ends with another code than what changes them.
fn lost(exit: Exit) -> Exit {
    Exit { code: Exit::BAD_CONNECTION, ..exit }
}

fn lease_of(matches: &ArgMatches, flaw: &str) -> Result<i64, Exit> {
    parse_lease(&only_word(matches, flaw)?)
        .map_err(|error| Exit::bad_args(format!("bad lease ID arg ({error}), expecting ID in Hex")))
}

fn only_word(matches: &ArgMatches, flaw: &str) -> Result<String, Exit> {
    match words_of(matches).as_slice() {
        [word] => Ok(String::from_utf8_lossy(word).into_owned()),
        _ => Err(Exit::bad_args(flaw)),
    }
}
