//! `vlot elect`: stand for an election and lead until a signal comes, or look on.

use bytes::Bytes;
use clap::{ArgMatches, Command};
use vlot_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::{
    DeleteRangeRequest, RangeRequest, RangeResponse, ResponseHeader, TxnRequest, TxnResponse, WatchCreateRequest,
};
use vlot_proto::mvccpb::KeyValue;
use vlot_proto::mvccpb::event::EventType;

use super::queue::{self, Place, created_at, operation};
use super::session::Session;
use crate::client::{Repeat, path};
use crate::ctl::flags::{Settings, exit_of, is_set, switch, words, words_of};
use crate::ctl::kv::keys::KeyRange;
use crate::ctl::kv::watcher::Watcher;
use crate::ctl::{Exit, asked_to_stop, show};

/// Seconds for which a candidate that is gone still stands.
const TTL: i64 = 60;

/// The command and its flags.
pub fn command() -> Command {
    Command::new("elect")
        .about("Observes and participates in leader election")
        .arg(words("ELECTION_NAME [PROPOSAL]"))
        .arg(switch("listen", "Observation mode").short('l'))
}

/// Stands for the election, or looks on.
pub async fn run(settings: &Settings, matches: &ArgMatches) -> Result<(), Exit> {
    let listen = is_set(matches, "listen");
    match words_of(matches).as_slice() {
        [_] if !listen => Err(Exit::bad_args("no proposal argument but -l not set")),
        [name] => tokio::select! {
            outcome = observe(settings, name) => outcome,
            () = asked_to_stop() => Ok(()),
        },
        [_, _] if listen => Err(Exit::bad_args("proposal given but -l is set")),
        [name, proposal] => campaign(settings, name, proposal.clone()).await,
        _ => Err(Exit::bad_args("elect takes one election name argument and an optional proposal argument")),
    }
}

async fn campaign(settings: &Settings, name: &[u8], proposal: Bytes) -> Result<(), Exit> {
    let mut session = Session::begin(settings, TTL).await?;
    let stop = asked_to_stop();
    tokio::pin!(stop);
    let place = Place::take(settings, name, session.lease, proposal).await?;
    let elected = tokio::select! {
        elected = place.come_first(settings) => elected.map(drop),
        () = &mut stop => Err(Exit::error("context canceled")),
    };
    if let Err(exit) = elected {
        // Why there is no election is the news; a candidate that stays goes with its lease.
        let _ = resign(settings, &place).await;
        return Err(exit);
    }
    show(&settings.printer.range(&place.look(settings).await?)?)?;
    tokio::select! {
        () = &mut stop => resign(settings, &place).await,
        () = session.over() => Err(Exit::error("elect: session expired")),
    }
}

/// Takes the own key away, unless it is another's meanwhile.
async fn resign(settings: &Settings, place: &Place) -> Result<(), Exit> {
    let delete = DeleteRangeRequest { key: place.key.clone(), ..DeleteRangeRequest::default() };
    let request = TxnRequest {
        compare: vec![created_at(&place.key, place.revision)],
        success: vec![operation(Request::RequestDeleteRange(delete))],
        failure: Vec::new(),
    };
    let _: TxnResponse = settings.call(path::TXN, &request, Repeat::Freely).await?;
    Ok(())
}

/// Prints each leader, and what it proclaims, as it comes.
async fn observe(settings: &Settings, name: &[u8]) -> Result<(), Exit> {
    let lost = || Exit::error("elect: observer lost");
    let KeyRange { key, end } = KeyRange::with_prefix(queue::prefix(name));
    loop {
        let oldest = RangeRequest {
            key: key.clone(),
            range_end: end.clone(),
            limit: 1,
            sort_order: SortOrder::Ascend.into(),
            sort_target: SortTarget::Create.into(),
            ..RangeRequest::default()
        };
        let found: RangeResponse = settings.call(path::RANGE, &oldest, Repeat::Freely).await?;
        let mut header = found.header.unwrap_or_default();
        let leader = match found.kvs.first() {
            Some(leader) => leader.clone(),
            None => {
                let first = first_candidate(settings, &key, &end, header.revision).await?;
                header = first.0;
                first.1
            }
        };
        show_leader(settings, RangeResponse { header: Some(header), kvs: vec![leader.clone()], ..Default::default() })?;

        let create = WatchCreateRequest {
            key: leader.key,
            start_revision: header.revision + 1,
            ..WatchCreateRequest::default()
        };
        let mut watcher = Watcher::new(settings.client(), create);
        'reign: loop {
            let reply = watcher.next().await.map_err(|failure| exit_of(&failure))?;
            if reply.canceled {
                return Err(lost());
            }
            for event in &reply.events {
                if event.r#type() == EventType::Delete {
                    break 'reign;
                }
                let kvs = event.kv.clone().into_iter().collect();
                show_leader(settings, RangeResponse { header: reply.header, kvs, ..found.clone() })?;
            }
        }
    }
}

/// Waits for a key in a queue that is empty.
async fn first_candidate(
    settings: &Settings,
    key: &Bytes,
    end: &Bytes,
    revision: i64,
) -> Result<(ResponseHeader, KeyValue), Exit> {
    let create = WatchCreateRequest {
        key: key.clone(),
        range_end: end.clone(),
        start_revision: revision,
        ..WatchCreateRequest::default()
    };
    let mut watcher = Watcher::new(settings.client(), create);
    loop {
        let reply = watcher.next().await.map_err(|failure| exit_of(&failure))?;
        if reply.canceled {
            return Err(Exit::error("elect: observer lost"));
        }
        let put = reply.events.iter().find(|event| event.r#type() == EventType::Put);
        if let Some(kv) = put.and_then(|event| event.kv.clone()) {
            // Several may have come at once; what follows is to be seen from the first on.
            let header = ResponseHeader { revision: kv.mod_revision, ..reply.header.unwrap_or_default() };
            return Ok((header, kv));
        }
    }
}

fn show_leader(settings: &Settings, leader: RangeResponse) -> Result<(), Exit> {
    show(&settings.printer.range(&leader)?)
}
