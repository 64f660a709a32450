//! The watchers: they follow the run's writes and record how long their events took, or stand still.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio::time::Instant;
use vlot_proto::etcdserverpb::watch_request::RequestUnion;
use vlot_proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};

use super::connections::{Connections, Lease, needs_renewal};
use super::tally::Tally;
use super::{Load, Watching, load};
use crate::client::{BadAnswer, Channel, Endpoint, Failure, Options, Status, Stream, path};

/// All keys of this workload begin so, and nothing else should.
const PREFIX: &[u8] = b"vlot-bench-watch/";
/// The first key after them: `/` is followed by `0`.
const PREFIX_END: &[u8] = b"vlot-bench-watch0";
/// Pause before a broken watch is opened again.
const REST: Duration = Duration::from_millis(50);

/// The key that a client writes.
pub fn key(name: &[u8]) -> Bytes {
    Bytes::from([PREFIX, name].concat())
}

/// When a write was sent, as its value's first bytes. The clock is this process's own, so that values of another run
/// are told apart by its start.
pub struct Stamp;

thread_local! {
    /// The run's clock begins here, and a number that no other run is likely to have.
    static RUN: (Instant, u64) = (Instant::now(), run_number());
}

fn run_number() -> u64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since_epoch.as_nanos() as u64 ^ u64::from(std::process::id()) << 40
}

impl Stamp {
    const BYTES: usize = 16;

    /// A value of at least `length` bytes that was sent at this moment.
    pub fn value(sent: Instant, length: usize) -> Bytes {
        let (origin, run) = RUN.with(|run| *run);
        let mut value = BytesMut::with_capacity(length.max(Stamp::BYTES));
        value.put_u64(run);
        value.put_u64((sent - origin).as_nanos() as u64);
        value.resize(length.max(Stamp::BYTES), b'x');
        value.freeze()
    }

    /// How long ago a value of this run was sent.
    fn age(value: &[u8], at: Instant) -> Option<Duration> {
        let (origin, run) = RUN.with(|run| *run);
        let stamp = value.first_chunk::<{ Stamp::BYTES }>()?;
        let (number, nanos) = stamp.split_at(8);
        let read = |bytes: &[u8]| bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        (read(number) == run).then(|| (at - origin).saturating_sub(Duration::from_nanos(read(nanos))))
    }
}

/// Starts all watchers and waits until the servers have created their watches.
///
/// # Errors
/// If there is no connection for a watcher that has one of its own, or a watch is refused.
pub async fn start(
    watching: &Watching,
    load: &Load,
    options: &Options,
    connections: &Rc<Connections>,
    tally: &Rc<RefCell<Tally>>,
) -> Result<(), Failure> {
    for number in 0..watching.stalled {
        stall(&load.endpoints[number % load.endpoints.len()], options, connections).await?;
    }
    let (created, mut all_created) = mpsc::channel::<Failure>(1);
    let streams = watching.streams.unwrap_or(watching.watchers).max(1);
    for stream in 0..streams.min(watching.watchers) {
        let watches: Vec<_> =
            (stream..watching.watchers).step_by(streams).map(|watcher| watch(watching, load, watcher)).collect();
        let (connections, tally, created) = (connections.clone(), tally.clone(), created.clone());
        tokio::task::spawn_local(async move {
            let lease = connections.lease(stream).await;
            follow_forever(lease, watches, created, &tally).await;
        });
    }
    drop(created);
    // Each stream lets go of its sender when its watches exist, or says why they never will.
    all_created.recv().await.map_or(Ok(()), Err)
}

/// What a watcher watches.
fn watch(watching: &Watching, load: &Load, watcher: usize) -> WatchCreateRequest {
    if watching.single_keys {
        let key = key(&load::key(watcher as u64 % load.key_space, load.key_size));
        return WatchCreateRequest { key, ..WatchCreateRequest::default() };
    }
    everything()
}

/// All keys of this workload.
fn everything() -> WatchCreateRequest {
    WatchCreateRequest {
        key: Bytes::from_static(PREFIX),
        range_end: Bytes::from_static(PREFIX_END),
        ..WatchCreateRequest::default()
    }
}

fn creation(watch: WatchCreateRequest) -> WatchRequest {
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(watch)) }
}

/// Starts a watcher of everything that reads nothing, for as long as the run lasts.
async fn stall(endpoint: &Endpoint, options: &Options, connections: &Connections) -> Result<(), Failure> {
    let mut channel = Channel::open(endpoint, options).await?;
    connections.identify(&mut channel).await;
    let mut stream: Stream<WatchRequest, WatchResponse> = channel.stream(path::WATCH, &[]).await?;
    stream.send(&creation(everything())).await?;
    // That it is created is read, and nothing that follows.
    if let Some(WatchResponse { canceled: true, cancel_reason: reason, .. }) = stream.next().await? {
        return Err(Failure::Malformed(BadAnswer::WatchCancelled { reason }));
    }
    tokio::task::spawn_local(async move {
        let _held = (channel, stream);
        std::future::pending::<()>().await;
    });
    Ok(())
}

async fn follow_forever(
    mut lease: Lease,
    watches: Vec<WatchCreateRequest>,
    created: mpsc::Sender<Failure>,
    tally: &RefCell<Tally>,
) {
    let mut created = Some(created);
    let mut next_revision = 0;
    loop {
        let failure = match follow(&mut lease, &watches, &mut created, &mut next_revision, tally).await {
            Err(failure) => failure,
            Ok(()) => Failure::Malformed(BadAnswer::WatchEnded),
        };
        let failure = match lease.has_to_log_in(&failure) {
            true => lease.log_in_anew().await.err(),
            false => Some(failure),
        };
        if let Some(failure) = failure {
            tally.borrow_mut().note(&failure);
            if needs_renewal(&failure) {
                lease.renew().await;
            } else if let Some(created) = created.take_if(|_| is_refusal(&failure)) {
                // What is refused at first would be refused for ever. One reason of all that there are is enough.
                let _ = created.try_send(failure);
                return;
            }
        }
        tokio::time::sleep(REST).await;
        tally.borrow_mut().opened_again();
    }
}

fn is_refusal(failure: &Failure) -> bool {
    match failure {
        Failure::Malformed(BadAnswer::WatchCancelled { .. }) | Failure::LoginRefused(_) => true,
        Failure::Refused(status) => status.code != Status::UNAVAILABLE,
        _ => false,
    }
}

/// Follows one stream until it ends; `next_revision` says where the next one has to go on.
async fn follow(
    lease: &mut Lease,
    watches: &[WatchCreateRequest],
    created: &mut Option<mpsc::Sender<Failure>>,
    next_revision: &mut i64,
    tally: &RefCell<Tally>,
) -> Result<(), Failure> {
    let mut stream: Stream<WatchRequest, WatchResponse> = lease.channel.stream(path::WATCH, &[]).await?;
    for watch in watches {
        stream.send(&creation(WatchCreateRequest { start_revision: *next_revision, ..watch.clone() })).await?;
    }
    let mut awaited = watches.len();
    while let Some(reply) = stream.next().await? {
        if reply.canceled {
            // What was compacted away is lost to this watcher; it goes on with what is there.
            *next_revision = reply.compact_revision;
            return Err(Failure::Malformed(BadAnswer::WatchCancelled { reason: reply.cancel_reason }));
        }
        if reply.created {
            awaited = awaited.saturating_sub(1);
            if awaited == 0 {
                *created = None;
            }
        }
        let now = Instant::now();
        let mut tally = tally.borrow_mut();
        for kv in reply.events.iter().filter_map(|event| event.kv.as_ref()) {
            *next_revision = (*next_revision).max(kv.mod_revision + 1);
            if let Some(age) = Stamp::age(&kv.value, now) {
                tally.delivered(age);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_tells_its_age_and_foreign_values_have_none() {
        let sent = Instant::now() + Duration::from_secs(1);
        for length in [0, 16, 300] {
            let value = Stamp::value(sent, length);
            assert_eq!(value.len(), length.max(16));
            assert_eq!(Stamp::age(&value, sent + Duration::from_micros(7)), Some(Duration::from_micros(7)));
        }
        assert_eq!(Stamp::age(b"short", sent), None);
        assert_eq!(Stamp::age(&[b'x'; 16], sent), None);
    }

    #[test]
    fn the_watched_range_holds_exactly_the_keys() {
        assert!(key(b"") >= PREFIX && key(b"\xff\xff") < PREFIX_END);
        assert_eq!(PREFIX_END, [&PREFIX[..PREFIX.len() - 1], b"0"].concat());
    }
}
