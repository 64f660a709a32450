//! `vlot member`: the members of the cluster, and how they change.

use clap::{ArgMatches, Command};
use vlot_proto::etcdserverpb::{
    MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest, MemberUpdateResponse,
};

use crate::client::{Repeat, path};
use crate::ctl::flags::{Settings, is_set, switch, text, text_of, words, words_of};
use crate::ctl::kv::get::is_serializable;
use crate::ctl::notation::{number::parse_id, quoted};
use crate::ctl::print::Format;
use crate::ctl::{Exit, show};

mod peer_url;

/// The command and its subcommands.
pub fn command() -> Command {
    let peer_urls = |help| text("peer-urls", "", help);
    let list = Command::new("list").about("Lists all members in the cluster").long_about(
        "Lists all members in the cluster.\n\nWith --write-out=simple, this prints comma-separated lists of ID, Status, \
         Name, Peer Addrs, Client Addrs and Is Learner.",
    );
    Command::new("member").about("Membership related commands").subcommands([
        Command::new("add")
            .about("Adds a member into the cluster")
            .arg(words("MEMBER_NAME"))
            .arg(peer_urls("Comma separated peer URLs for the new member"))
            .arg(switch("learner", "Indicates if the new member is raft learner"))
            .arg(switch("witness", "The new member votes and keeps no data; no flag of etcdctl's")),
        // etcdctl takes words here, too, and makes nothing of them.
        list.arg(words("")).arg(text("consistency", "l", "Linearizable(l) or Serializable(s)")),
        Command::new("promote").about("Promotes a non-voting member in the cluster").arg(words("MEMBER_ID")),
        Command::new("remove").about("Removes a member from the cluster").arg(words("MEMBER_ID")),
        Command::new("update")
            .about("Updates a member in the cluster")
            .arg(words("MEMBER_ID"))
            .arg(peer_urls("Comma separated peer URLs for the updated member")),
    ])
}

/// Makes the call and prints what came of it.
pub async fn run(settings: &Settings, matches: &ArgMatches) -> Result<(), Exit> {
    let (name, matches) = matches.subcommand().expect("member requires a subcommand");
    match name {
        "add" => add(settings, matches).await,
        "promote" => promote(settings, matches).await,
        "remove" => remove(settings, matches).await,
        "update" => update(settings, matches).await,
        _ => show(&settings.printer.member_list(&list(settings, !is_serializable(matches)?).await?)?),
    }
}

async fn list(settings: &Settings, linearizable: bool) -> Result<MemberListResponse, Exit> {
    settings.call(path::MEMBER_LIST, &MemberListRequest { linearizable }, Repeat::Freely).await
}

async fn add(settings: &Settings, matches: &ArgMatches) -> Result<(), Exit> {
    let name = new_name(matches)?;
    let written = text_of(matches, "peer-urls");
    let is_witness = is_set(matches, "witness");
    let request =
        MemberAddRequest { peer_ur_ls: peer_urls(written)?, is_learner: is_set(matches, "learner"), is_witness };
    let reply: MemberAddResponse = settings.call(path::MEMBER_ADD, &request, Repeat::IfUnsent).await?;
    let new = reply.member.as_ref();
    if let Some(member) = new.filter(|member| is_witness && !member.is_witness) {
        return Err(Exit::bad_args(format!(
            "this server knows no witnesses and has added a member like any other; remove it again: member remove {:x}",
            member.id
        )));
    }
    show(&settings.printer.member_add(&reply)?)?;
    if settings.printer.format != Format::Simple {
        return Ok(());
    }
    let new = reply.member.map_or(0, |member| member.id);
    // The member that answered the change may not know all of it.
    let mut cluster = Vec::new();
    for member in list(settings, true).await?.members {
        let name = if member.id == new { &name } else { &member.name };
        cluster.extend(member.peer_ur_ls.iter().map(|url| format!("{name}={url}")));
    }
    let quoted = |text: &str| quoted(text.as_bytes());
    show(
        format!(
            "\nETCD_NAME={}\nETCD_INITIAL_CLUSTER={}\nETCD_INITIAL_ADVERTISE_PEER_URLS={}\n\
             ETCD_INITIAL_CLUSTER_STATE=\"existing\"\n",
            quoted(&name),
            quoted(&cluster.join(",")),
            quoted(written)
        )
        .as_bytes(),
    )
}

fn new_name(matches: &ArgMatches) -> Result<String, Exit> {
    let words: Vec<_> = words_of(matches).iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let name = match words.as_slice() {
        [name] => name.clone(),
        [] => return Err(Exit::bad_args("member name not provided")),
        many => {
            let urls = many.iter().filter(|word| word.to_lowercase().starts_with("http"));
            let hints: String = urls.map(|url| format!(", did you mean --peer-urls={url}")).collect();
            return Err(Exit::bad_args(format!("too many arguments{hints}")));
        }
    };
    require_peer_urls(matches)?;
    Ok(name)
}

async fn promote(settings: &Settings, matches: &ArgMatches) -> Result<(), Exit> {
    let id = member_id(matches)?;
    let reply: MemberPromoteResponse =
        settings.call(path::MEMBER_PROMOTE, &MemberPromoteRequest { id }, Repeat::IfUnsent).await?;
    show(&settings.printer.member_promote(id, &reply)?)
}

async fn remove(settings: &Settings, matches: &ArgMatches) -> Result<(), Exit> {
    let id = member_id(matches)?;
    let reply: MemberRemoveResponse =
        settings.call(path::MEMBER_REMOVE, &MemberRemoveRequest { id }, Repeat::IfUnsent).await?;
    show(&settings.printer.member_remove(id, &reply)?)
}

async fn update(settings: &Settings, matches: &ArgMatches) -> Result<(), Exit> {
    let id = member_id(matches)?;
    require_peer_urls(matches)?;
    let request = MemberUpdateRequest { id, peer_ur_ls: peer_urls(text_of(matches, "peer-urls"))? };
    let reply: MemberUpdateResponse = settings.call(path::MEMBER_UPDATE, &request, Repeat::IfUnsent).await?;
    show(&settings.printer.member_update(id, &reply)?)
}

fn member_id(matches: &ArgMatches) -> Result<u64, Exit> {
    let words = words_of(matches);
    let [id] = words.as_slice() else { return Err(Exit::bad_args("member ID is not provided")) };
    parse_id(&String::from_utf8_lossy(id))
        .map_err(|error| Exit::bad_args(format!("bad member ID arg ({error}), expecting ID in Hex")))
}

fn require_peer_urls(matches: &ArgMatches) -> Result<(), Exit> {
    if text_of(matches, "peer-urls").is_empty() {
        return Err(Exit::bad_args("member peer urls not provided"));
    }
    Ok(())
}

/// The URLs of a list, each of which must be one: etcd's client looks before it asks.
fn peer_urls(written: &str) -> Result<Vec<String>, Exit> {
    let urls: Vec<String> = written.split(',').map(str::to_owned).collect();
    urls.iter().try_for_each(|url| peer_url::check(url.trim())).map_err(Exit::error)?;
    Ok(urls)
}
