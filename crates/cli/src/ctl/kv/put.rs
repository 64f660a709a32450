//! `vlot put`: write a key.

use std::io::Read;

use bytes::Bytes;
use clap::{ArgMatches, Command};
use vlot_proto::etcdserverpb::PutRequest;

use crate::client::{Repeat, path};
use crate::ctl::flags::{Settings, is_set, switch, text, text_of, words, words_of};
use crate::ctl::notation::number::parse_lease;
use crate::ctl::{Exit, show};

const USAGE: &str = "put command needs 1 argument and input from stdin or 2 arguments";

/// The command and its flags.
pub fn command() -> Command {
    Command::new("put")
        .about("Puts the given key into the store")
        .after_help(
            "A value that begins with '-' is taken for a flag unless '--' stands before it. Without a value and \
             without --ignore-value, the value is read from standard input.",
        )
        .arg(words("KEY [VALUE]"))
        .args([
            text("lease", "0", "Lease ID (in hexadecimal) to attach to the key"),
            switch("prev-kv", "Return the previous key-value pair before modification"),
            switch("ignore-value", "Updates the key using its current value"),
            switch("ignore-lease", "Updates the key using its current lease"),
        ])
}

/// Makes the call and prints its outcome.
pub async fn run(settings: &Settings, matches: &ArgMatches) -> Result<(), Exit> {
    let request = request(matches, value_from_stdin)?;
    let reply = settings.call(path::PUT, &request, Repeat::IfUnsent).await?;
    show(&settings.printer.put(&reply)?)
}

/// The request that the flags and words ask for; `otherwise` supplies a value that is not among the words.
pub fn request(matches: &ArgMatches, otherwise: impl FnOnce() -> Option<Bytes>) -> Result<PutRequest, Exit> {
    let words = words_of(matches);
    let ignore_value = is_set(matches, "ignore-value");
    let key = words.first().ok_or_else(|| Exit::bad_args(USAGE))?.clone();
    if ignore_value && words.len() > 1 {
        return Err(Exit::bad_args("put command needs only 1 argument when 'ignore-value' is set"));
    }
    let value = match words.get(1) {
        Some(value) => value.clone(),
        None if ignore_value => Bytes::new(),
        None => otherwise().ok_or_else(|| Exit::bad_args(USAGE))?,
    };
    let lease = parse_lease(text_of(matches, "lease"))
        .map_err(|error| Exit::bad_args(format!("bad lease ID ({error}), expecting ID in Hex")))?;
    Ok(PutRequest {
        key,
        value,
        lease,
        prev_kv: is_set(matches, "prev-kv"),
        ignore_value,
        ignore_lease: is_set(matches, "ignore-lease"),
    })
}

fn value_from_stdin() -> Option<Bytes> {
    let mut value = Vec::new();
    std::io::stdin().lock().read_to_end(&mut value).ok()?;
    if value.is_empty() { None } else { Some(Bytes::from(value)) }
}
