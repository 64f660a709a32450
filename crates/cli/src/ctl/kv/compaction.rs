//! `vlot compaction`: give up the history before a revision.

use clap::{ArgMatches, Command};
use vlot_proto::etcdserverpb::{CompactionRequest, CompactionResponse};

use crate::client::{Repeat, path};
use crate::ctl::flags::{Settings, is_set, switch, words, words_of};
use crate::ctl::notation::number::parse_int;
use crate::ctl::{Exit, show};

/// The command and its flags.
pub fn command() -> Command {
    Command::new("compaction")
        .about("Compacts the event history in etcd")
        .arg(words("REVISION"))
        .arg(switch("physical", "'true' to wait for compaction to physically remove all old revisions"))
}

/// Makes the call and says that it is done.
pub async fn run(settings: &Settings, matches: &ArgMatches) -> Result<(), Exit> {
    let words = words_of(matches);
    let [revision] = words.as_slice() else { return Err(Exit::bad_args("compaction command needs 1 argument")) };
    let revision = parse_int(&String::from_utf8_lossy(revision), 10).map_err(Exit::error)?;
    let request = CompactionRequest { revision, physical: is_set(matches, "physical") };
    let _: CompactionResponse = settings.call(path::COMPACT, &request, Repeat::IfUnsent).await?;
    show(format!("compacted revision {revision}\n").as_bytes())
}
