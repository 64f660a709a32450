//! `vlot lock`: hold a lock while a command runs, or until a signal comes.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use bytes::Bytes;
use clap::ArgMatches;
use vlot_proto::etcdserverpb::{DeleteRangeRequest, DeleteRangeResponse, RangeResponse};

use super::queue::Place;
use super::session::Session;
use crate::client::{Repeat, path};
use crate::ctl::flags::{Settings, number, number_of, words};
use crate::ctl::notation::process::{exit_status, not_started};
use crate::ctl::{Exit, asked_to_stop, show};

/// The command and its flags.
pub fn command() -> clap::Command {
    clap::Command::new("lock")
        .about("Acquires a named lock")
        .arg(words("LOCK_NAME [COMMAND [ARG]...]"))
        .arg(number("ttl", "Seconds after which the lock of a process that is gone is free").default_value("10"))
}

/// Waits for the lock, holds it, and gives it back.
pub async fn run(settings: &Settings, matches: &ArgMatches) -> Result<(), Exit> {
    let words: Vec<OsString> = matches.get_many("words").unwrap_or_default().cloned().collect();
    let Some((name, command)) = words.split_first() else {
        return Err(Exit::bad_args("lock takes a lock name argument and an optional command to execute"));
    };
    let mut session = Session::begin(settings, number_of(matches, "ttl")).await?;
    let stop = asked_to_stop();
    tokio::pin!(stop);
    let place = Place::take(settings, name.as_bytes(), session.lease, Bytes::new()).await?;
    let acquired = tokio::select! {
        acquired = acquire(settings, &place) => acquired,
        () = &mut stop => Err(Exit::error("context canceled")),
    };
    let revision = match acquired {
        Ok(revision) => revision,
        Err(exit) => {
            // Why there is no lock is the news; a place that stays goes with its lease.
            let _ = give_back(settings, &place).await;
            return Err(exit);
        }
    };
    if !command.is_empty() {
        let outcome = run_command(command, &place.key, revision).await;
        let given_back = give_back(settings, &place).await;
        return outcome.and(given_back);
    }
    let held: RangeResponse = place.look(settings).await?;
    if held.kvs.is_empty() {
        return Err(Exit::error("lock lost on init"));
    }
    show(&settings.printer.range(&held)?)?;
    tokio::select! {
        () = &mut stop => give_back(settings, &place).await,
        () = session.over() => Err(Exit::error("session expired")),
    }
}

/// Waits until the lock is one's own; returns a revision at which it is.
async fn acquire(settings: &Settings, place: &Place) -> Result<i64, Exit> {
    if !place.come_first(settings).await? {
        return Ok(place.taken_at);
    }
    let held = place.look(settings).await?;
    if held.kvs.is_empty() {
        return Err(Exit::error("mutex: session is expired"));
    }
    Ok(held.header.map_or(0, |header| header.revision))
}

async fn give_back(settings: &Settings, place: &Place) -> Result<(), Exit> {
    let request = DeleteRangeRequest { key: place.key.clone(), ..DeleteRangeRequest::default() };
    let _: DeleteRangeResponse = settings.call(path::DELETE_RANGE, &request, Repeat::Freely).await?;
    Ok(())
}

/// Runs the command to its end, beside which the lease is renewed.
async fn run_command(command: &[OsString], key: &[u8], revision: i64) -> Result<(), Exit> {
    let (program, arguments) = command.split_first().expect("a command has a program");
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("ETCD_LOCK_KEY", OsStr::from_bytes(key))
        .env("ETCD_LOCK_REV", revision.to_string())
        .stdin(Stdio::null());
    // A thread, because waiting for a process blocks.
    let status = tokio::task::spawn_blocking(move || command.status()).await;
    match status.map_err(io::Error::other).flatten() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            // As in Go, a command that a signal has ended has the code -1.
            Err(Exit::new(code.unwrap_or(u8::MAX), exit_status(status)))
        }
        Err(error) => Err(Exit::error(not_started(program, &error))),
    }
}
