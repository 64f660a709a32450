//! `vlot del`: remove a key or a range of keys.

use clap::{ArgMatches, Command};
use vlot_proto::etcdserverpb::DeleteRangeRequest;

use super::get::range_of;
use crate::client::{Repeat, path};
use crate::ctl::flags::{Settings, is_set, switch, words, words_of};
use crate::ctl::{Exit, report, show};

/// The command and its flags.
pub fn command() -> Command {
    Command::new("del")
        .about("Removes the specified key or range of keys [key, range_end)")
        .arg(words("KEY [RANGE_END]"))
        .args([
            switch("prefix", "Delete keys with matching prefix"),
            switch("prev-kv", "Return deleted key-value pairs"),
            switch("from-key", "Delete keys that are greater than or equal to the given key using byte compare"),
            switch("range", "Delete range of keys"),
        ])
}

/// Makes the call and prints its outcome.
pub async fn run(settings: &Settings, matches: &ArgMatches) -> Result<(), Exit> {
    let request = request(matches)?;
    let reply = settings.call(path::DELETE_RANGE, &request, Repeat::IfUnsent).await?;
    show(&settings.printer.delete(&reply)?)
}

/// The request that the flags and words ask for.
pub fn request(matches: &ArgMatches) -> Result<DeleteRangeRequest, Exit> {
    let words = words_of(matches);
    let (prefix, from_key) = (is_set(matches, "prefix"), is_set(matches, "from-key"));
    let (key, end) = match words.as_slice() {
        [key] => (key, None),
        [key, end] => (key, Some(end)),
        _ => {
            let flaw = "del command needs one argument as key and an optional argument as range_end";
            return Err(Exit::bad_args(flaw));
        }
    };
    if prefix && from_key {
        return Err(Exit::bad_args("`--prefix` and `--from-key` cannot be set at the same time, choose one"));
    }
    let range = range_of(key, end, prefix, from_key)?;
    if end.is_some() && !is_set(matches, "range") {
        report(
            "In etcd v3.6, the operation will be suspended for a few seconds to provide the user time to verify range.",
        );
    }
    Ok(DeleteRangeRequest { key: range.key, range_end: range.end, prev_kv: is_set(matches, "prev-kv") })
}
