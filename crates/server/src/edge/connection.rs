//! What is known of one connection while it stands, and what its calls have received.
//!
//! Owns how many bytes have come that nobody has taken yet, and how long a message may take to come whole. Must not know what a message is.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::{Instant, timeout_at};

use super::request_body::RequestBody;
use super::security::Client;
use crate::share::{AddressLimits, ConnectionPlace, Exceeded, Share, Shares, StreamPlace};
use crate::status::{Code, Status};
use crate::telemetry::metrics::{Metrics, Offence};

/// How long a message may take from its first byte to its last; of a call that has one, from the call's headers.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(60);
/// A connection with fewer bytes that nobody has taken is not the one that is closed because its address has too many.
const UNREAD_BLAMELESS: usize = 64 << 10;

/// For how many turns a client is not believed that it wants what it asks for, once it has asked for much in vain.
const WARY_TURNS: usize = 1000;

/// One connection.
pub(super) struct Connection {
    pub(super) from: SocketAddr,
    place: ConnectionPlace,
    /// Bytes that have come over HTTP/2 and that no call has taken.
    unread: AtomicUsize,
    /// Work that was done for nothing and is not counted for the address yet.
    unsettled: AtomicUsize,
    /// For how many turns its calls are looked at twice.
    wary_turns: AtomicUsize,
    has_settings: AtomicBool,
    offence: OnceLock<Offence>,
    /// Known once both sides have come to speak.
    client: OnceLock<Client>,
}

impl Connection {
    pub(super) fn new(from: SocketAddr, place: ConnectionPlace) -> Arc<Connection> {
        let [unread, unsettled, wary_turns] = [0; 3].map(AtomicUsize::new);
        Arc::new(Connection {
            from,
            place,
            unread,
            unsettled,
            wary_turns,
            has_settings: AtomicBool::new(false),
            offence: OnceLock::new(),
            client: OnceLock::new(),
        })
    }

    /// Both sides have come to speak, and this is who calls.
    pub(super) fn is_of(&self, client: Client) {
        // A connection is opened once.
        let _ = self.client.set(client);
    }

    /// Who calls, as far as the connection tells.
    pub(super) fn client(&self) -> &Client {
        self.client.get_or_init(Client::default)
    }

    pub(super) fn share(&self) -> &Arc<Share> {
        self.place.share()
    }

    /// The client's settings have come: it speaks HTTP/2 in earnest.
    pub(super) fn settings_came(&self) {
        self.has_settings.store(true, Relaxed);
    }

    pub(super) fn has_settings(&self) -> bool {
        self.has_settings.load(Relaxed)
    }

    /// Its task has its turn.
    pub(super) fn begin_turn(&self) {
        self.wary_turns.store(self.wary_turns.load(Relaxed).saturating_sub(1), Relaxed);
    }

    /// So much was done that serves nobody.
    pub(super) fn works_for_nothing(&self, work: usize) {
        if work == 0 {
            return;
        }
        self.unsettled.store(self.unsettled.load(Relaxed).saturating_add(work), Relaxed);
        self.wary_turns.store(WARY_TURNS, Relaxed);
    }

    /// Whether its client has made work for nothing of late.
    pub(super) fn is_wary(&self) -> bool {
        self.wary_turns.load(Relaxed) > 0
    }

    /// Counts for the address what was done for nothing. Returns how long the connection is to wait for that.
    pub(super) fn settle(&self) -> Option<Duration> {
        match self.unsettled.load(Relaxed) {
            0 => None,
            work => {
                self.unsettled.store(0, Relaxed);
                self.share().spend(work)
            }
        }
    }

    /// The connection is closed for this.
    pub(super) fn stop(&self, offence: Offence) {
        // The first counts.
        let _ = self.offence.set(offence);
    }

    pub(super) fn offence(&self) -> Option<Offence> {
        self.offence.get().copied()
    }

    /// So many bytes of calls have come over HTTP/2. `Err` if its address has too many already, and this connection its part
    /// in that.
    pub(super) fn arrived(&self, bytes: usize) -> Result<(), Offence> {
        let unread = self.unread.load(Relaxed);
        self.unread.store(unread + bytes, Relaxed);
        self.share().add_pending(bytes);
        if unread > UNREAD_BLAMELESS && self.share().is_full() { Err(Offence::PendingBytes) } else { Ok(()) }
    }

    /// A call has taken so many bytes, which stay pending.
    fn taken(&self, bytes: usize) {
        let unread = self.unread.load(Relaxed);
        let left = unread.saturating_sub(bytes);
        self.unread.store(left, Relaxed);
        // Over HTTP/1 they have not been counted before.
        self.share().add_pending(bytes - (unread - left));
    }

    /// So many bytes are dropped that no call will take.
    pub(super) fn dropped(&self, bytes: usize) {
        self.unread.store(self.unread.load(Relaxed).saturating_sub(bytes), Relaxed);
        self.share().end_pending(bytes);
    }

    /// A call begins, if there is room for it.
    pub(super) fn begin_stream(self: &Arc<Self>) -> Result<Stream, Exceeded> {
        let place = self.share().begin_stream()?;
        Ok(Stream(place))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.share().end_pending(self.unread.load(Relaxed));
    }
}

/// A call's place on its connection, until its reply is taken whole.
pub(super) struct Stream(#[expect(dead_code, reason = "it is held, and given back when dropped")] StreamPlace);

/// What a call receives, as it comes.
pub(super) struct Received {
    body: RequestBody,
    connection: Arc<Connection>,
    metrics: Arc<Metrics>,
    /// Bytes that were given out and are pending still.
    held: usize,
    /// When a message has begun that is not whole.
    begun: Option<Instant>,
}

impl Received {
    /// Of a call with one message, or with many.
    pub(super) fn new(
        body: RequestBody,
        connection: Arc<Connection>,
        metrics: Arc<Metrics>,
        has_one: bool,
    ) -> Received {
        Received { body, connection, metrics, held: 0, begun: has_one.then(Instant::now) }
    }

    /// What the address of its client holds.
    pub(super) fn share(&self) -> &Arc<Share> {
        self.connection.share()
    }

    /// The next bytes; `None` at the end. Cancel-safe.
    ///
    /// # Errors
    /// The client has gone, or takes too long to send a message whole.
    pub(super) async fn more(&mut self) -> Result<Option<BytesMut>, Status> {
        let body = &mut self.body;
        let next = poll_fn(|context| body.poll_data(context));
        let data = match self.begun {
            None => next.await,
            Some(begun) => match timeout_at(begun + MESSAGE_TIMEOUT, next).await {
                Ok(data) => data,
                Err(_) => {
                    self.metrics.offences.count(Offence::SlowMessage);
                    return Err(too_slow());
                }
            },
        };
        match data {
            Some(Ok(data)) => {
                self.connection.taken(data.len());
                self.held += data.len();
                Ok(Some(data))
            }
            Some(Err(_)) => Err(Status::CANCELED),
            None => Ok(None),
        }
    }

    /// Whether a message has begun that must come whole in time.
    pub(super) fn is_within_message(&mut self, is_so: bool) {
        match (is_so, self.begun) {
            (true, None) => self.begun = Some(Instant::now()),
            (false, _) => self.begun = None,
            (true, Some(_)) => {}
        }
    }

    /// What was given out takes so many bytes more.
    pub(super) fn has_become_longer(&mut self, bytes: usize) {
        self.held += bytes;
        self.connection.share().add_pending(bytes);
    }

    /// Of what was given out, all but so many bytes are done with.
    pub(super) fn done_but_for(&mut self, bytes: usize) {
        let done = self.held.saturating_sub(bytes);
        self.held -= done;
        self.connection.share().end_pending(done);
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        // What has come and was not asked for is dropped with the body.
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(Ok(data))) = self.body.poll_data(&mut context) {
            self.connection.taken(data.len());
            self.held += data.len();
        }
        self.connection.share().end_pending(self.held);
    }
}

fn too_slow() -> Status {
    let text = format!("vlot: a message has not come whole within {} s", MESSAGE_TIMEOUT.as_secs());
    Status::new(Code::DeadlineExceeded, text)
}

impl Connection {
    /// One that is of no listener, for tests and fuzzers.
    pub(super) fn of_test() -> Arc<Connection> {
        let limits = AddressLimits { connections: 9, streams: 9, watches: 9, pending_bytes: 64 << 20 };
        let from = SocketAddr::from(([127, 0, 0, 1], 1));
        let place = Shares::new(limits).connect(from.ip()).expect("the first of nine");
        Connection::new(from, place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_pending_from_when_they_come_until_their_call_is_done() {
        let connection = Connection::of_test();
        let is_full = || connection.share().is_full();
        assert_eq!(connection.arrived(32 << 20), Ok(()));
        connection.taken(32 << 20);
        assert_eq!(connection.arrived(16 << 20), Ok(()));
        assert!(!is_full());
        assert_eq!(connection.arrived(16 << 20), Err(Offence::PendingBytes));
        assert!(is_full());
        assert_eq!(connection.begin_stream().err(), Some(Exceeded::PendingBytes));
        connection.dropped(32 << 20);
        assert!(!is_full());
        connection.share().end_pending(32 << 20);
        connection.taken(64 << 20);
        assert!(is_full(), "over HTTP/1 they are counted when they are taken");
    }
}
