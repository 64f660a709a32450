//! `vlot quota`: how much there may be below a prefix of the keys. etcdctl has none of it.

use bytes::Bytes;
use clap::{ArgMatches, Command};
use vlot_proto::vlotpb::{
    ListQuotasRequest, ListQuotasResponse, RemoveQuotaRequest, RemoveQuotaResponse, SetQuotaRequest, SetQuotaResponse,
};

use crate::client::{Repeat, path};
use crate::ctl::flags::{Settings, number, number_of, text, text_of, words, words_of};
use crate::ctl::notation::{parse_size, quoted};
use crate::ctl::{Exit, show};

/// The command and its subcommands.
pub fn command() -> Command {
    Command::new("quota").about("Limits how much there may be below a prefix").subcommands([
        Command::new("set")
            .about("Sets the quota of a prefix; \"\" is the prefix of all keys")
            .arg(words("PREFIX"))
            .arg(text(
                "bytes",
                "0",
                "Bytes of keys and their newest values: a number, or one such as 10MiB; 0 is no limit",
            ))
            .arg(number("keys", "Keys; 0 is no limit")),
        Command::new("remove").about("Removes the quota of a prefix").arg(words("PREFIX")),
        Command::new("list").about("Lists all quotas, and how much of each is used").arg(words("")),
    ])
}

/// Makes the call and prints its outcome.
pub async fn run(settings: &Settings, matches: &ArgMatches) -> Result<(), Exit> {
    let (name, matches) = matches.subcommand().expect("quota requires a subcommand");
    let words = words_of(matches);
    let output = match name {
        "list" if words.is_empty() => {
            let reply: ListQuotasResponse =
                settings.call(path::LIST_QUOTAS, &ListQuotasRequest {}, Repeat::Freely).await?;
            settings.printer.quota_list(&reply)
        }
        "list" => return Err(Exit::bad_args("quota list command accepts no arguments")),
        "set" => {
            let request = SetQuotaRequest {
                prefix: prefix_of(name, &words)?,
                bytes_max: bytes_of(text_of(matches, "bytes"))?,
                keys_max: number_of(matches, "keys"),
            };
            let reply: SetQuotaResponse = settings.call(path::SET_QUOTA, &request, Repeat::Freely).await?;
            settings.printer.quota_set(&reply)
        }
        _ => {
            let prefix = prefix_of(name, &words)?;
            let told = format!("Quota of prefix {} removed", quoted(&prefix));
            let reply: RemoveQuotaResponse =
                settings.call(path::REMOVE_QUOTA, &RemoveQuotaRequest { prefix }, Repeat::IfUnsent).await?;
            settings.printer.user_change(&reply, reply.header, || told)
        }
    };
    show(&output?)
}

fn prefix_of(name: &str, words: &[Bytes]) -> Result<Bytes, Exit> {
    let [prefix] = words else {
        return Err(Exit::bad_args(format!("quota {name} command requires a prefix as its argument")));
    };
    Ok(prefix.clone())
}

fn bytes_of(text: &str) -> Result<i64, Exit> {
    let bytes = parse_size(text).and_then(|bytes| i64::try_from(bytes).ok());
    bytes.ok_or_else(|| {
        Exit::bad_args(format!("--bytes={text}: expected a number of bytes, or one such as 10MiB or 2GB"))
    })
}
