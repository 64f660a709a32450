//! `etcdserverpb.Watch`: one stream of a client carries many watches.
//!
//! Owns the conversation, the shape of its responses, and when what a watch has missed is read. What a watch has seen and
//! what it still needs is the store's business: a client that does not read holds nothing here but the few replies that
//! wait for its connection.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::ready;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes};
use prost::Message;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use vlot_proto::etcdserverpb::watch_request::RequestUnion;
use vlot_proto::etcdserverpb::{ResponseHeader, WatchRequest, WatchResponse};
use vlot_store::refusal::Refusal;
use vlot_store::watch::{CancelReason, Drained, Next, WatchOut, WatchStream};

use super::{Caller, Services, decode, encode};
use crate::config::RECEIVE_SLACK;
use crate::conversation::{Alike, Batch, Replies, Requests};
use crate::rpc::Rpc;
use crate::share::WatchPlace;
use crate::status::{CODE_NAMES, COMPACTED, Status};
use crate::worker_pool::{Turn, WorkerPool};

/// How many bytes of events are taken from the store at a time. It bounds what one slow stream holds.
const DRAIN_BYTES: usize = 256 * 1024;
/// About how long a response is without its events, and what precedes it.
const HEAD_BYTES: usize = 64;
/// So many responses with the same events are written once, if each has so many bytes of them at most. Fewer are copied for less
/// than it takes to hand them over by themselves.
const ALIKE_MIN: usize = 16;
const ALIKE_BYTES_MAX: usize = 16 * 1024;
/// The number of the field `watch_id` in a `WatchResponse`.
const WATCH_ID_FIELD: u8 = 2;
/// After how many election timeouts without a leader a client that asked for one is sent away.
const LEADERLESS_MAX: u32 = 3;

impl Services {
    pub(super) async fn watch(
        &self,
        caller: Caller,
        mut requests: impl Requests,
        replies: Replies,
    ) -> Result<(), Status> {
        let woken = Arc::new(Notify::new());
        let wake = woken.clone();
        let mut stream = self.store_group.look(|store| store.watch_stream(Arc::new(move || wake.notify_one()))).await?;
        let mut conversation = Conversation {
            asked: VecDeque::new(),
            places: BTreeMap::new(),
            fragmented: BTreeSet::new(),
            // What etcd's client receives at most, less some room for what is around the events.
            fragment_bytes: self.request_bytes_max.saturating_add(RECEIVE_SLACK),
        };
        let interval = spread(self.watch_progress_interval);
        let mut progress = interval_at(Instant::now() + interval, interval);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut line = Line::new(&self.catch_ups);
        let mut next = Next::Wait;
        // A client that has said all it has to say still listens.
        let mut is_asking = true;
        loop {
            let mut turn = None;
            tokio::select! {
                request = requests.next(), if is_asking => match request? {
                    Some(request) => match self.admit_watch(&caller, &request).await {
                        Ok(()) => self.handle(&mut conversation, &mut stream, &caller, decode(request)?).await?,
                        Err(status) => replies.send(Batch::of(&encode(&not_admitted(status, self.header(0))))).await?,
                    },
                    None => is_asking = false,
                },
                () = woken.notified(), if next != Next::Drain => {}
                () = ready(()), if next == Next::Drain => {}
                come = line.turn(), if next == Next::CatchUp => turn = Some(come),
                _ = progress.tick() => stream.notify_progress(),
                () = self.leaderless(), if caller.requires_leader => return Err(Status::NO_LEADER),
                () = replies.closed() => return Ok(()),
            }
            let drained;
            (stream, drained) = match turn {
                Some(turn) => self.catch_up(stream, turn).await?,
                None => {
                    let drained = stream.drain(DRAIN_BYTES);
                    (stream, drained)
                }
            };
            next = drained.next;
            let each = drained.outs.iter().filter(|out| !conversation.are_alike(out));
            let bytes = each.map(|out| HEAD_BYTES * out.responses() + out.event_bytes()).sum();
            let mut batch = Batch::with_capacity(bytes);
            let header = self.header(0);
            for out in drained.outs {
                conversation.respond(out, |revision| ResponseHeader { revision, ..header }, &mut batch);
            }
            if !batch.is_empty() {
                replies.send(batch).await?;
            }
        }
    }

    /// Does what the client asks for. As in etcd, each watch is begun as who the client is at that moment: if that cannot be
    /// told, the watch is not made, and clients get another token and try again.
    async fn handle(
        &self,
        conversation: &mut Conversation,
        stream: &mut WatchStream,
        caller: &Caller,
        request: WatchRequest,
    ) -> Result<(), Status> {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => {
                let place =
                    caller.share.begin_watch(create.key.len() + create.range_end.len()).map_err(|exceeded| {
                        self.metrics.offences.count(exceeded.into());
                        Status::TOO_MANY_REQUESTS
                    })?;
                conversation.asked.push_back(Asked { fragment: create.fragment, place });
                match self.identified(Rpc::Watch, caller).await {
                    Ok(caller) => stream.create_for(caller.identity.as_ref(), &create),
                    Err(status) if status == Refusal::InvalidAuthToken.into() => {
                        stream.refuse(Refusal::InvalidAuthToken);
                    }
                    Err(status) => return Err(status),
                }
            }
            Some(RequestUnion::CancelRequest(cancel)) => stream.cancel(cancel.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => stream.request_progress(),
            None => {}
        }
        Ok(())
    }

    /// Whether a watch that is asked for is not one too many. Who its client is not is found out again, and said, where it is
    /// made.
    async fn admit_watch(&self, caller: &Caller, request: &Bytes) -> Result<(), Status> {
        if self.rate_limits.is_empty() {
            return Ok(());
        }
        let Ok(caller) = self.identified(Rpc::Watch, caller).await else { return Ok(()) };
        self.rate_limits.admit(Rpc::Watch, caller.user(), request)
    }

    /// Reads a piece of what a stream has missed, on a thread that may take its time.
    pub(super) async fn catch_up(&self, mut stream: WatchStream, turn: Turn) -> Result<(WatchStream, Drained), Status> {
        let view = self.store_group.local_view().await?;
        let (mut stream, mut drained, has_seen_all) = turn
            .run(move || {
                let drained = stream.catch_up(&view, DRAIN_BYTES)?;
                let has_seen_all = stream.has_seen(&view);
                Ok::<_, Refusal>((stream, drained, has_seen_all))
            })
            .await??;
        if drained.next == Next::CatchUp && has_seen_all {
            // What is missing is what was applied meanwhile. Were it read while more is applied, it might never end.
            let rest = self.store_group.look(|store| stream.catch_up(&store.view(), DRAIN_BYTES)).await??;
            drained.outs.extend(rest.outs);
            drained.next = rest.next;
        }
        Ok((stream, drained))
    }

    /// Returns when this node has known of no leader for some election timeouts.
    pub(super) async fn leaderless(&self) {
        let mut without = 0;
        while without < LEADERLESS_MAX {
            tokio::time::sleep(self.election_timeout).await;
            without = if self.store_group.has_leader() { 0 } else { without + 1 };
        }
    }
}

/// A stream's place in the line of those that are behind. It keeps it while it is busy with something else.
struct Line<'p> {
    catch_ups: &'p WorkerPool,
    place: Option<Pin<Box<dyn Future<Output = Turn> + Send + 'p>>>,
}

impl<'p> Line<'p> {
    fn new(catch_ups: &'p WorkerPool) -> Line<'p> {
        Line { catch_ups, place: None }
    }

    /// Waits until it is the stream's turn. Cancel-safe.
    async fn turn(&mut self) -> Turn {
        let turn = self.place.get_or_insert_with(|| Box::pin(self.catch_ups.turn())).await;
        self.place = None;
        turn
    }
}

/// What is remembered of one stream beside its watches.
struct Conversation {
    /// Each watch that was asked for and is not answered yet.
    asked: VecDeque<Asked>,
    /// What the watches hold of the client's share.
    places: BTreeMap<i64, WatchPlace>,
    /// The watches whose responses may be cut in parts.
    fragmented: BTreeSet<i64>,
    fragment_bytes: usize,
}

/// A watch that was asked for.
struct Asked {
    /// Whether its responses may be cut in parts.
    fragment: bool,
    place: WatchPlace,
}

impl Conversation {
    /// Adds the responses for one thing that the store has to say: one, or the parts of one.
    fn respond(&mut self, out: WatchOut, header: impl Fn(i64) -> ResponseHeader, batch: &mut Batch) {
        let are_alike = self.are_alike(&out);
        let response =
            |watch_id, revision| WatchResponse { header: Some(header(revision)), watch_id, ..WatchResponse::default() };
        match out {
            WatchOut::Created { watch_id, revision } => {
                // The store answers requests in their order.
                if let Some(Asked { fragment, place }) = self.asked.pop_front() {
                    self.places.insert(watch_id, place);
                    if fragment {
                        self.fragmented.insert(watch_id);
                    }
                }
                add(batch, &WatchResponse { created: true, ..response(watch_id, revision) }, &[]);
            }
            WatchOut::NotCreated { reason, revision } => {
                self.asked.pop_front();
                add(batch, &refused(reason, response(-1, revision)), &[]);
            }
            WatchOut::Canceled { watch_id, reason, revision } => {
                self.fragmented.remove(&watch_id);
                self.places.remove(&watch_id);
                // etcd tells no revision where compaction is the reason.
                let revision = if matches!(reason, CancelReason::Compacted { .. }) { 0 } else { revision };
                add(batch, &ended(reason, response(watch_id, revision)), &[]);
            }
            WatchOut::Progress { watch_id, revision } => add(batch, &response(watch_id, revision), &[]),
            WatchOut::Events { watch_ids, revision, events } if are_alike => {
                let common = response(0, revision).encode_to_vec();
                batch.push_alike(Alike::new(&common, WATCH_ID_FIELD, &events, watch_ids));
            }
            WatchOut::Events { watch_ids, revision, events } => {
                let common = response(0, revision).encode_to_vec();
                for watch_id in watch_ids {
                    if self.fragmented.contains(&watch_id) {
                        self.respond_in_parts(&response(watch_id, revision), &events, batch);
                    } else {
                        let own = WatchResponse { watch_id, ..WatchResponse::default() };
                        add_behind(batch, &common, &own, &events);
                    }
                }
            }
        }
    }

    /// Whether its responses are written once for all of its watches: they are many, short, and not cut in parts.
    fn are_alike(&self, out: &WatchOut) -> bool {
        let responses = out.responses();
        responses >= ALIKE_MIN && out.event_bytes() <= responses * ALIKE_BYTES_MAX && self.fragmented.is_empty()
    }

    fn respond_in_parts(&self, head: &WatchResponse, events: &[Bytes], batch: &mut Batch) {
        let parts = cut(events, head.encoded_len(), self.fragment_bytes);
        let last = parts.len() - 1;
        for (place, part) in parts.into_iter().enumerate() {
            add(batch, &WatchResponse { fragment: place < last, ..head.clone() }, part);
        }
    }
}

/// A watch that was not made exists and ends in one response.
fn refused(reason: CancelReason, response: WatchResponse) -> WatchResponse {
    WatchResponse { created: true, cancel_reason: words(&reason).into_owned(), ..ended(reason, response) }
}

/// The same for one that is one too many; the others of its stream go on.
fn not_admitted(status: Status, header: ResponseHeader) -> WatchResponse {
    let cancel_reason = status.message.into_owned();
    let (created, canceled) = (true, true);
    WatchResponse { header: Some(header), watch_id: -1, created, canceled, cancel_reason, ..WatchResponse::default() }
}

/// A watch that ends. Clients see by `compact_revision` that they may start again, and where.
fn ended(reason: CancelReason, response: WatchResponse) -> WatchResponse {
    let compact_revision = if let CancelReason::Compacted { oldest } = reason { oldest } else { 0 };
    let cancel_reason = if let CancelReason::Refused(_) = reason { words(&reason).into_owned() } else { String::new() };
    WatchResponse { canceled: true, compact_revision, cancel_reason, ..response }
}

fn words(reason: &CancelReason) -> Cow<'static, str> {
    Cow::Borrowed(match reason {
        CancelReason::Asked => "",
        CancelReason::Compacted { .. } | CancelReason::NegativeStart => COMPACTED,
        CancelReason::EmptyRange => "mvcc: watcher range is empty",
        CancelReason::DuplicateId => "mvcc: duplicate watch ID provided on the WatchStream",
        CancelReason::Refused(refusal) => return error_text(&Status::from(refusal.clone())).into(),
    })
}

/// A status as Go's gRPC writes an error: in etcd, and so for its clients, such a reason is one.
fn error_text(Status { code, message }: &Status) -> String {
    format!("rpc error: code = {} desc = {message}", CODE_NAMES[*code as usize])
}

/// How much longer a response is that says it is a part.
const FRAGMENT_BYTES: usize = 2;

/// Cuts events where etcd cuts them: a response with them is shorter than `bytes_max`, or has one event. `head_bytes` is
/// the length of all but the events.
fn cut(events: &[Bytes], head_bytes: usize, bytes_max: usize) -> Vec<&[Bytes]> {
    if head_bytes + events.iter().map(Bytes::len).sum::<usize>() < bytes_max {
        return vec![events];
    }
    let head_bytes = head_bytes + FRAGMENT_BYTES;
    let mut parts = Vec::new();
    let (mut start, mut bytes) = (0, head_bytes);
    for (place, event) in events.iter().enumerate() {
        if place > start && bytes + event.len() >= bytes_max {
            parts.push(&events[start..place]);
            (start, bytes) = (place, head_bytes);
        }
        bytes += event.len();
    }
    parts.push(&events[start..]);
    parts
}

/// Adds a response with its events behind it, which are encoded already: in protobuf, to append fields is to add them.
fn add(batch: &mut Batch, head: &WatchResponse, events: &[Bytes]) {
    add_behind(batch, &[], head, events);
}

/// The same behind fields that are encoded already.
fn add_behind(batch: &mut Batch, common: &[u8], head: &WatchResponse, events: &[Bytes]) {
    let bytes = common.len() + head.encoded_len() + events.iter().map(Bytes::len).sum::<usize>();
    batch.push(bytes, |buffer| {
        buffer.put_slice(common);
        head.encode(buffer).expect("the buffer grows as needed");
        events.iter().for_each(|event| buffer.put_slice(event));
    });
}

/// Up to a tenth longer, as in etcd: streams that began together are not all told at the same moment.
fn spread(interval: Duration) -> Duration {
    interval + (interval / 10).mul_f64(f64::from(RandomState::new().hash_one(()) as u32) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use vlot_proto::mvccpb::Event;

    use super::*;

    #[test]
    fn events_are_cut_between_events_and_never_lost() {
        let events: Vec<Bytes> = ["aa", "bb", "cccccc", "d"].map(Bytes::from).to_vec();
        let parts = |bytes_max| cut(&events, 10, bytes_max).iter().map(|part| part.concat()).collect::<Vec<_>>();
        assert_eq!(parts(17), [&b"aabb"[..], b"cccccc", b"d"]);
        assert_eq!(parts(16), [&b"aa"[..], b"bb", b"cccccc", b"d"]);
        assert_eq!(parts(22), [&b"aabbccccccd"[..]]);
        assert_eq!(parts(21), [&b"aabb"[..], b"ccccccd"]);
        assert_eq!(parts(0), [&b"aa"[..], b"bb", b"cccccc", b"d"]);
        assert_eq!(cut(&[], 10, 0), [&[] as &[Bytes]]);
    }

    #[test]
    fn encoded_events_are_the_events_of_the_response() {
        let one = WatchResponse { events: vec![Event { r#type: 1, ..Event::default() }], ..WatchResponse::default() };
        let event = Bytes::from(one.encode_to_vec());
        let head = WatchResponse { watch_id: 7, ..WatchResponse::default() };
        let whole = WatchResponse { events: [one.events.clone(), one.events].concat(), ..head.clone() };
        let mut batch = Batch::default();
        add(&mut batch, &head, &[event.clone(), event.clone()]);
        assert_eq!(batch, Batch::of(&whole.encode_to_vec()));

        let header = Some(ResponseHeader { revision: 9, ..ResponseHeader::default() });
        let common = WatchResponse { header, ..WatchResponse::default() }.encode_to_vec();
        let mut batch = Batch::default();
        add_behind(&mut batch, &common, &head, &[event.clone(), event]);
        assert_eq!(batch, Batch::of(&WatchResponse { header, ..whole }.encode_to_vec()));
    }

    #[test]
    fn watches_that_want_the_same_are_told_what_each_would_be_told_alone() {
        let header = |revision| ResponseHeader { cluster_id: 7, revision, ..ResponseHeader::default() };
        let one = WatchResponse { events: vec![Event::default()], ..WatchResponse::default() };
        let event = Bytes::from(one.encode_to_vec());
        let out = WatchOut::Events { watch_ids: (-1..200).collect(), revision: 9, events: vec![event.clone(), event] };
        let told = |fragmented: &[i64], outs: Vec<WatchOut>| {
            let mut conversation = Conversation {
                asked: VecDeque::new(),
                places: BTreeMap::new(),
                fragmented: fragmented.iter().copied().collect(),
                fragment_bytes: 1_000,
            };
            let mut batch = Batch::default();
            outs.into_iter().for_each(|out| conversation.respond(out, header, &mut batch));
            batch
        };
        let alone = told(&[], out.clone().each().collect());
        let together = told(&[], vec![out.clone()]);
        assert_ne!(together, alone, "they are written once");
        assert_eq!(together.to_bytes(), alone.to_bytes());
        assert_eq!(told(&[3], vec![out]), alone, "one of them may be cut in parts");
    }

    #[test]
    fn a_watch_that_needs_compacted_history_is_told_from_where_it_can_start() {
        let response = ended(CancelReason::Compacted { oldest: 9 }, WatchResponse::default());
        assert!(response.canceled && !response.created && response.cancel_reason.is_empty());
        assert_eq!(response.compact_revision, 9);
        let response = refused(CancelReason::EmptyRange, WatchResponse::default());
        assert!(response.canceled && response.created);
        assert_eq!(response.cancel_reason, "mvcc: watcher range is empty");
    }

    #[test]
    fn a_watch_that_is_not_permitted_any_more_says_so() {
        let response = ended(CancelReason::Refused(Refusal::PermissionDenied), WatchResponse::default());
        assert!(response.canceled && !response.created);
        assert_eq!(response.cancel_reason, "rpc error: code = PermissionDenied desc = etcdserver: permission denied");
    }
}
