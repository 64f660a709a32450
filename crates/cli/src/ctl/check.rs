//! `vlot check`: whether a cluster keeps up with a load, and what so much data costs it.
//!
//! Owns the loads and what both checks do before and after them.

mod datascale;
mod memory;
mod perf;
mod writers;

use std::time::Duration;

use bytes::Bytes;
use clap::{ArgMatches, Command};
use vlot_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DefragmentRequest, DefragmentResponse, DeleteRangeRequest,
    DeleteRangeResponse, RangeRequest, RangeResponse,
};

use super::flags::{Settings, exit_of, is_set, switch, text, text_of, words};
use super::kv::keys::KeyRange;
use super::notation::quoted;
use super::{Exit, show};
use crate::client::{Repeat, path};

/// How long tidying up may take, whatever a command may take otherwise.
const TIDYING: Duration = Duration::from_secs(30);

/// The command and its subcommands.
pub fn command() -> Command {
    let check = |name, about, prefix| {
        Command::new(name)
            .about(about)
            // etcdctl takes words here, too, and makes nothing of them.
            .arg(words(""))
            .args([
                text("load", "s", "How much: s(small), m(medium), l(large) or xl(xLarge)"),
                text("prefix", prefix, "The prefix of the keys that are written"),
                switch("auto-compact", "Compact storage with last revision after test is finished"),
                switch("auto-defrag", "Defragment storage after test is finished"),
            ])
    };
    let perf = check("perf", "Check the performance of the etcd cluster", perf::PREFIX);
    let datascale = check(
        "datascale",
        "Check the memory usage of holding data for different workloads on a given server endpoint.",
        datascale::PREFIX,
    );
    Command::new("check").about("Commands for checking properties of the etcd cluster").subcommands([perf, datascale])
}

/// Makes the check and says what came of it.
pub async fn run(settings: &Settings, matches: &ArgMatches) -> Result<(), Exit> {
    let (name, matches) = matches.subcommand().expect("check requires a subcommand");
    match name {
        "perf" => perf::run(settings, matches).await,
        _ => datascale::run(settings, matches).await,
    }
}

/// How much is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Size {
    Small,
    Medium,
    Large,
    XLarge,
}

impl Size {
    fn read(matches: &ArgMatches) -> Result<Size, Exit> {
        match text_of(matches, "load") {
            "s" | "small" => Ok(Size::Small),
            "m" | "medium" => Ok(Size::Medium),
            "l" | "large" => Ok(Size::Large),
            "xl" | "xLarge" => Ok(Size::XLarge),
            other => Err(Exit::bad_feature(format!("unknown load option {other}"))),
        }
    }
}

/// Refuses to write among keys that are somebody's: tidying up would delete them.
async fn require_unused(settings: &Settings, prefix: &str, hint: &str) -> Result<(), Exit> {
    let range = KeyRange::with_prefix(Bytes::copy_from_slice(prefix.as_bytes()));
    let request = RangeRequest { key: range.key, range_end: range.end, limit: 1, ..RangeRequest::default() };
    let reply: RangeResponse = settings.call(path::RANGE, &request, Repeat::Freely).await?;
    if reply.kvs.is_empty() {
        return Ok(());
    }
    let prefix = quoted(prefix.as_bytes());
    Err(Exit::invalid_input(format!("prefix {prefix} has keys. Delete with {hint} first")))
}

/// Deletes what was written; returns the revision of that.
async fn delete(settings: &Settings, prefix: &str) -> Result<i64, Exit> {
    let range = KeyRange::with_prefix(Bytes::copy_from_slice(prefix.as_bytes()));
    let request = DeleteRangeRequest { key: range.key, range_end: range.end, prev_kv: false };
    let reply = settings.client().call(path::DELETE_RANGE, &request, Repeat::Freely, TIDYING).await;
    let reply: DeleteRangeResponse = reply.map_err(|failure| exit_of(&failure))?;
    Ok(reply.header.map_or(0, |header| header.revision))
}

/// What the flags ask for once all is deleted.
async fn compact_if_asked(settings: &Settings, matches: &ArgMatches, revision: i64) -> Result<(), Exit> {
    if !is_set(matches, "auto-compact") {
        return Ok(());
    }
    show(format!("Compacting with revision {revision}\n").as_bytes())?;
    let request = CompactionRequest { revision, physical: true };
    let reply = settings.client().call(path::COMPACT, &request, Repeat::IfUnsent, TIDYING).await;
    let _: CompactionResponse = reply.map_err(|failure| exit_of(&failure))?;
    show(format!("Compacted with revision {revision}\n").as_bytes())
}

async fn defragment_if_asked(settings: &Settings, matches: &ArgMatches) -> Result<(), Exit> {
    if !is_set(matches, "auto-defrag") {
        return Ok(());
    }
    for endpoint in &settings.endpoints {
        show(format!("Defragmenting \"{endpoint}\"\n").as_bytes())?;
        let mut client = settings.client_of(endpoint);
        let reply = client.call(path::DEFRAGMENT, &DefragmentRequest {}, Repeat::IfUnsent, TIDYING).await;
        let _: DefragmentResponse = reply.map_err(|failure| exit_of(&failure))?;
        show(format!("Defragmented \"{endpoint}\"\n").as_bytes())?;
    }
    Ok(())
}

/// Tells of the errors of a load, if there were any.
fn show_errors(outcome: &writers::Outcome) -> Result<(), Exit> {
    if outcome.errors.is_empty() {
        return Ok(());
    }
    show(b"FAIL: too many errors\n")?;
    for (error, count) in &outcome.errors {
        show(format!("FAIL: ERROR({error}) -> {count}\n").as_bytes())?;
    }
    Ok(())
}
