//! A watch that outlives its connection: it goes on at the next endpoint with the revision after the last event seen.
//!
//! Must not know what its events are for.

use std::time::Duration;

use vlot_proto::etcdserverpb::watch_request::RequestUnion;
use vlot_proto::etcdserverpb::{WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse};

use crate::client::{Client, Failure, Status, Stream, path};
use crate::ctl::flags::explain;

/// Asks servers to end the stream when they have lost their leader, so that the watch can move to one that has not.
const REQUIRE_LEADER: &[(&str, &str)] = &[("hasleader", "true")];
/// How long to look for an endpoint before saying that there is none and looking again.
const SEARCH: Duration = Duration::from_secs(10);
/// Pause before a broken watch is opened again.
const PAUSE: Duration = Duration::from_millis(100);

/// One watch.
pub struct Watcher {
    client: Client,
    /// Its `start_revision` moves along with what has been seen.
    create: WatchCreateRequest,
    stream: Option<Stream<WatchRequest, WatchResponse>>,
    /// Progress was asked for before there was a stream.
    progress_is_wanted: bool,
}

impl Watcher {
    /// A watch that begins with the first call of [`next`](Watcher::next).
    pub fn new(client: Client, create: WatchCreateRequest) -> Watcher {
        Watcher { client, create, stream: None, progress_is_wanted: false }
    }

    /// The next answer that tells of something: of events, of progress, or that the watch is cancelled. May be dropped and
    /// called again.
    ///
    /// # Errors
    /// What neither another endpoint nor waiting can mend.
    pub async fn next(&mut self) -> Result<WatchResponse, Failure> {
        loop {
            match self.hear().await {
                Ok(reply) => return Ok(reply),
                Err(failure) if is_passing(&failure) => {
                    explain(&failure);
                    self.stream = None;
                    self.client.move_on();
                    tokio::time::sleep(PAUSE).await;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Asks the server how far it has told everything; as soon as there is a stream, if there is none.
    pub async fn request_progress(&mut self) {
        match &mut self.stream {
            Some(stream) => {
                if stream.send(&progress_request()).await.is_err() {
                    self.stream = None;
                }
            }
            None => self.progress_is_wanted = true,
        }
    }

    async fn hear(&mut self) -> Result<WatchResponse, Failure> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let mut stream = self.client.stream(path::WATCH, REQUIRE_LEADER, SEARCH).await?;
                stream.send(&request(RequestUnion::CreateRequest(self.create.clone()))).await?;
                if std::mem::take(&mut self.progress_is_wanted) {
                    stream.send(&progress_request()).await?;
                }
                self.stream.insert(stream)
            }
        };
        loop {
            let Some(reply) = stream.next().await? else {
                return Err(Failure::Broken { endpoint: String::new(), cause: "the watch ended".to_owned() });
            };
            let revision = reply.header.map_or(0, |header| header.revision);
            if reply.created && !reply.canceled {
                // From the moment it exists, the watch covers all that follows, even if it has to be opened again.
                if self.create.start_revision == 0 {
                    self.create.start_revision = revision + 1;
                }
                continue;
            }
            if let Some(last) = reply.events.last().and_then(|event| event.kv.as_ref()) {
                self.create.start_revision = last.mod_revision + 1;
            } else if is_progress(&reply) {
                self.create.start_revision = self.create.start_revision.max(revision + 1);
            }
            return Ok(reply);
        }
    }
}

/// Whether an answer says only how far everything has been told.
pub fn is_progress(reply: &WatchResponse) -> bool {
    let revision = reply.header.map_or(0, |header| header.revision);
    !reply.canceled && reply.events.is_empty() && reply.compact_revision == 0 && revision != 0
}

/// Why the server has cancelled a watch, in etcdctl's words.
pub fn cancel_reason(reply: &WatchResponse) -> String {
    if reply.compact_revision != 0 {
        return "etcdserver: mvcc: required revision has been compacted".to_owned();
    }
    match reply.cancel_reason.as_str() {
        "" => "etcdserver: mvcc: required revision is a future revision".to_owned(),
        reason if ["etcdserver: ", "rpc error: "].iter().any(|known| reason.starts_with(known)) => reason.to_owned(),
        reason => format!("rpc error: code = FailedPrecondition desc = {reason}"),
    }
}

/// Whether another endpoint, or the same one later, may do better.
fn is_passing(failure: &Failure) -> bool {
    match failure {
        Failure::Unreachable { .. } | Failure::Broken { .. } | Failure::TimedOut { .. } => true,
        Failure::Refused(status) => status.code == Status::UNAVAILABLE,
        Failure::LoginRefused(_) | Failure::Malformed(_) => false,
    }
}

fn progress_request() -> WatchRequest {
    request(RequestUnion::ProgressRequest(WatchProgressRequest {}))
}

fn request(union: RequestUnion) -> WatchRequest {
    WatchRequest { request_union: Some(union) }
}
