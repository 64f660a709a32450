//! One connection that speaks HTTP/2: from its socket to calls, and from their replies to its socket.
//!
//! Owns the turns of the connection's task: it reads once, begins the calls that have come, polls those that have something to do, and
//! writes once. What the bytes mean is in `vlot_http2`; must not know what a call asks.

mod calls;
mod pace;
mod upload;

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Request, Uri, Version};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use vlot_http2::{Connection as Http2, ErrorCode, Event, Head, Limits, StreamKey};

use super::answer::{Answer, Head as AnswerHead};
use super::body::{Body, Data, Part, trailers};
use super::compression::Encoding;
use super::connection::{Connection, Stream};
use super::request_body::RequestBody;
use super::{Asked, ConnectionError, Edge, Serves, grpc};
use crate::status::Code;
use crate::telemetry::metrics::Offence;
use calls::Calls;
use pace::{KeepAlive, Pause};
pub(super) use upload::Upload;
use upload::{Feed, Taken};

/// Bytes of all headers of one request. gRPC clients send a few hundred.
const FIELD_BYTES_MAX: u32 = super::HEADER_BYTES_MAX;
/// Bytes that are read at a time.
const READ_BYTES: usize = 64 * 1024;
/// Bytes that wait to be written. While there are so many, nothing is read, and no reply is taken further.
const OUTPUT_MAX: usize = 32 * 1024;
/// Calls that are polled before others have their turn.
const POLLED_A_TURN: usize = 256;
/// How often it is read and written before others have their turn.
const ROUNDS_A_TURN: usize = 16;
/// How long it is waited for a client to hang up that was told to go.
const LINGER: Duration = Duration::from_secs(1);
/// And how many bytes it may send meanwhile.
const DISCARDED_MAX: u64 = 8 << 20;
/// Exchanges whose memory is kept while there is none.
const EXCHANGES_KEPT: usize = 32;

thread_local! {
    /// Where a thread reads to, one connection at a time: what is kept is copied, and a connection that is quiet holds nothing.
    static ROOM: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// One connection, its calls, and how they are answered.
pub(super) struct Conversation<S, M, F> {
    edge: Arc<Edge>,
    serves: Serves,
    stream: S,
    http2: Http2,
    connection: Arc<Connection>,
    answer: M,
    calls: Calls<F>,
    /// By the place of their stream.
    exchanges: Vec<Option<Exchange>>,
    /// Places that have something to do, and those that wait until what is said is written.
    due: Vec<usize>,
    held: Vec<usize>,
    taken: Arc<Taken>,
    /// What was read and is for the next turn.
    unread: BytesMut,
    pause: Pause,
    keep_alive: Option<KeepAlive>,
}

/// A request and its reply.
struct Exchange {
    key: StreamKey,
    feed: Feed,
    reply: Option<Body>,
    _place: Option<Stream>,
    /// What of the reply is being sent.
    piece: Option<Data>,
    /// Whether it waits for the client's windows.
    is_blocked: bool,
}

impl Edge {
    /// What a client may have of a connection.
    pub(super) fn http2_limits(&self) -> Limits {
        Limits {
            streams_max: self.streams_max,
            field_bytes_max: FIELD_BYTES_MAX,
            stream_window: super::STREAM_WINDOW,
            connection_window: super::CONNECTION_WINDOW,
        }
    }
}

impl<S, M, F> Conversation<S, M, F>
where
    S: AsyncRead + AsyncWrite + Unpin,
    M: FnMut(Asked, RequestBody) -> F,
    F: Future<Output = Answer>,
{
    /// A connection that is to be served. Each request becomes a call by `answer`.
    pub(super) fn new(edge: Arc<Edge>, connection: Arc<Connection>, stream: S, serves: Serves, answer: M) -> Self {
        Conversation {
            stream,
            serves,
            http2: Http2::new(edge.http2_limits(), Instant::now()),
            pause: Pause::of(connection.clone(), edge.services.metrics.clone()),
            connection,
            answer,
            calls: Calls::new(),
            exchanges: Vec::new(),
            due: Vec::new(),
            held: Vec::new(),
            taken: Arc::default(),
            unread: BytesMut::new(),
            keep_alive: edge.keepalive_interval.map(|interval| KeepAlive::new(interval, edge.keepalive_timeout)),
            edge,
        }
    }

    /// Serves the connection until either side ends it. Cancel-safe.
    pub(super) async fn serve(&mut self) -> Result<(), ConnectionError> {
        // It takes turns by its own measure of work, which calls of many kinds would use up at random.
        tokio::task::unconstrained(poll_fn(|context| self.poll(context))).await
    }

    /// Begins to end it in good order.
    pub(super) fn shut_down(&mut self) {
        self.http2.shut_down();
    }

    /// Ends it after what [`Conversation::serve`] has returned: says what is still to be said, and waits a moment for a client that was told
    /// to go. Were the socket closed while something is unread, the system would take the last frame back.
    pub(super) async fn end(mut self, served: Result<(), ConnectionError>) -> Result<(), ConnectionError> {
        // Nobody waits for these any more.
        self.clear();
        let Conversation { http2, mut stream, .. } = self;
        let leaving = async {
            stream.write_all(http2.output()).await?;
            stream.shutdown().await?;
            if matches!(served, Err(ConnectionError::Http2(_))) {
                tokio::io::copy(&mut stream.take(DISCARDED_MAX), &mut tokio::io::sink()).await?;
            }
            std::io::Result::Ok(())
        };
        // Whether it is still there to hear it is its own affair.
        let _ = tokio::time::timeout(LINGER, leaving).await;
        served
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let may_read = self.pause.may_read(context);
        self.connection.begin_turn();
        self.http2.begin_turn(if may_read { Http2::TURN_WORK } else { 0 });
        let (mut polls_left, mut rounds) = (POLLED_A_TURN, 0);
        loop {
            let received = self.receive(context)?;
            self.calls.take_woken(context, &mut self.due);
            self.work(&mut polls_left);
            let was_full = !self.has_room();
            self.send(context)?;
            if self.http2.is_done() && self.http2.output().is_empty() {
                return Poll::Ready(Ok(()));
            }
            match received {
                ReadOutcome::End => return Poll::Ready(Ok(())),
                ReadOutcome::Something => {}
                // What was left for want of room has some.
                ReadOutcome::Nothing if was_full && self.has_room() => {}
                ReadOutcome::Nothing => break,
            }
            rounds += 1;
            if rounds == ROUNDS_A_TURN {
                context.waker().wake_by_ref();
                break;
            }
        }
        if let Some(keep_alive) = &mut self.keep_alive
            && keep_alive.poll(&mut self.http2, context)?
        {
            self.send(context)?;
        }
        self.connection.works_for_nothing(self.http2.take_work_for_nothing());
        // What is left because the turn is over wakes nobody.
        let is_cut_short = may_read && self.http2.is_turn_over() && self.has_room() && self.pause.may_read(context);
        if is_cut_short || !self.due.is_empty() || !self.held.is_empty() && self.has_room() {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    fn has_room(&self) -> bool {
        self.http2.output().len() < OUTPUT_MAX
    }

    /// Reads once, if there is room for what it may have to say to it.
    fn receive(&mut self, context: &mut Context<'_>) -> Result<ReadOutcome, ConnectionError> {
        if self.http2.is_turn_over() || !self.has_room() {
            return Ok(ReadOutcome::Nothing);
        }
        let now = Instant::now();
        if !self.unread.is_empty() {
            let unread = std::mem::take(&mut self.unread);
            let rest = self.take_in(&unread, now)?;
            self.unread.extend_from_slice(rest);
            return Ok(ReadOutcome::Something);
        }
        ROOM.with_borrow_mut(|room| {
            room.resize(READ_BYTES, 0);
            let mut read = ReadBuf::new(room);
            if Pin::new(&mut self.stream).poll_read(context, &mut read)?.is_pending() {
                return Ok(ReadOutcome::Nothing);
            }
            if read.filled().is_empty() {
                return Ok(ReadOutcome::End);
            }
            if let Some(keep_alive) = &mut self.keep_alive {
                keep_alive.heard(now);
            }
            let rest = self.take_in(read.filled(), now)?;
            self.unread.extend_from_slice(rest);
            Ok(ReadOutcome::Something)
        })
    }

    /// Takes what has come, as far as the turn goes. Returns the rest.
    fn take_in<'i>(&mut self, mut input: &'i [u8], now: Instant) -> Result<&'i [u8], ConnectionError> {
        while self.has_room()
            && let Some(event) = self.http2.next(&mut input, now).map_err(ConnectionError::Http2)?
        {
            match event {
                Event::Request { stream, head, is_last } => {
                    match asked(&self.edge, &self.connection, self.serves, head) {
                        Some(asked) => self.begin(stream, asked, is_last),
                        None => self.http2.reset(stream, ErrorCode::ProtocolError),
                    }
                }
                Event::Data { stream, data, is_last } => {
                    let length = data.len();
                    let exchange = self.exchanges.get(stream.place()).and_then(Option::as_ref);
                    if exchange.is_some_and(|exchange| exchange.feed.push(data, is_last)) {
                        if let Err(offence) = self.connection.arrived(length) {
                            return Err(self.stop(offence));
                        }
                    } else {
                        self.http2.release(stream, length);
                    }
                }
                Event::Reset { stream, .. } => self.forget(stream),
            }
        }
        if self.http2.has_settings() {
            self.connection.settings_came();
        }
        Ok(input)
    }

    /// Ends the connection because of what its client has done beside HTTP/2.
    fn stop(&mut self, offence: Offence) -> ConnectionError {
        let error = vlot_http2::ConnectionError::Broken { code: ErrorCode::EnhanceYourCalm, rule: offence.name() };
        self.connection.stop(offence);
        self.http2.fail(error);
        ConnectionError::Http2(error)
    }

    fn begin(&mut self, key: StreamKey, asked: Asked, is_last: bool) {
        let place = key.place();
        let (feed, upload) = upload::upload(self.taken.clone(), self.calls.waker(place).clone());
        if is_last {
            feed.push(b"", true);
        }
        if self.exchanges.len() <= place {
            self.exchanges.resize_with(place + 1, || None);
        }
        self.exchanges[place] = Some(Exchange { key, feed, reply: None, _place: None, piece: None, is_blocked: false });
        let call = (self.answer)(asked, RequestBody::Http2(upload));
        self.calls.begin(place, call);
        self.due.push(place);
    }

    /// Polls what has something to do.
    fn work(&mut self, polls_left: &mut usize) {
        if self.taken.is_much() {
            self.exchanges.iter().flatten().for_each(|exchange| exchange.tell(&mut self.http2));
        }
        while self.has_room()
            && let Some(writable) = self.http2.next_writable()
        {
            if let Some(Some(exchange)) = self.exchanges.get_mut(writable.place()) {
                exchange.is_blocked = false;
                self.send_reply(writable.place());
            }
        }
        let polled = self.due.len().min(*polls_left);
        *polls_left -= polled;
        for at in 0..polled {
            self.poll_place(self.due[at]);
        }
        self.due.drain(..polled);
    }

    fn poll_place(&mut self, place: usize) {
        let Some(Some(exchange)) = self.exchanges.get_mut(place) else { return };
        exchange.tell(&mut self.http2);
        match self.calls.poll(place) {
            Some(Poll::Pending) => return,
            Some(Poll::Ready(Answer { head, body, place })) => {
                let key = exchange.key;
                let is_last = body.is_at_end();
                respond(&mut self.http2, key, &head, is_last);
                if is_last {
                    return self.forget(key);
                }
                (exchange.reply, exchange._place) = (Some(body), place);
            }
            None => {}
        }
        self.send_reply(place);
    }

    /// Sends as much of a reply as is there and has room.
    fn send_reply(&mut self, place: usize) {
        let waker = self.calls.waker(place);
        let Some(Some(exchange)) = self.exchanges.get_mut(place) else { return };
        let Exchange { key, reply: Some(reply), piece, is_blocked, .. } = exchange else { return };
        let key = *key;
        while !*is_blocked {
            if self.http2.output().len() >= OUTPUT_MAX {
                return self.held.push(place);
            }
            if let Some(sending) = piece {
                self.http2.send_data(key, sending, reply.is_at_end());
                *is_blocked = sending.has_remaining();
                if !*is_blocked {
                    *piece = None;
                    if reply.is_at_end() {
                        return self.forget(key);
                    }
                }
                continue;
            }
            match reply.poll_part(&mut Context::from_waker(waker)) {
                Poll::Pending => return,
                Poll::Ready(None) => self.http2.send_data(key, &mut &b""[..], true),
                // The client is not to take it for complete.
                Poll::Ready(Some(Err(_))) => self.http2.reset(key, ErrorCode::InternalError),
                Poll::Ready(Some(Ok(Part::Data(data)))) => {
                    *piece = Some(data);
                    continue;
                }
                // Nearly every call ends well, and no header map is made for that.
                Poll::Ready(Some(Ok(Part::Status(status)))) if status.code == Code::Ok => {
                    self.http2.send_trailers(key, [("grpc-status", "0")]);
                }
                Poll::Ready(Some(Ok(Part::Status(status)))) => {
                    let fields = trailers(&status);
                    self.http2.send_trailers(key, fields.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
                }
            }
            return self.forget(key);
        }
    }

    /// A stream is closed: its call is over, whatever it was about to do.
    fn forget(&mut self, key: StreamKey) {
        self.calls.end(key.place());
        let Some(exchange) = self.exchanges.get_mut(key.place()).and_then(Option::take) else { return };
        let left = exchange.feed.close();
        self.connection.dropped(left.unread);
        self.http2.release(key, left.untold + left.unread);
        if self.http2.streams() == 0 {
            self.exchanges.truncate(EXCHANGES_KEPT);
            self.calls.shrink();
        }
    }

    fn clear(&mut self) {
        let keys: Vec<StreamKey> = self.exchanges.iter().flatten().map(|exchange| exchange.key).collect();
        keys.into_iter().for_each(|key| self.forget(key));
    }

    /// Writes what is to be written, as far as the socket takes it.
    fn send(&mut self, context: &mut Context<'_>) -> Result<(), ConnectionError> {
        let mut has_sent = false;
        while !self.http2.output().is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, self.http2.output())? {
                Poll::Ready(0) => return Err(std::io::Error::from(std::io::ErrorKind::WriteZero).into()),
                Poll::Ready(sent) => self.http2.sent(sent),
                Poll::Pending => break,
            }
            has_sent = true;
        }
        if has_sent {
            // Of TLS there may be something left, for which the task is woken.
            let _ = Pin::new(&mut self.stream).poll_flush(context)?;
        }
        if self.has_room() {
            self.due.append(&mut self.held);
        }
        Ok(())
    }
}

/// What came of reading.
enum ReadOutcome {
    Something,
    /// Nothing is there, or nothing is to be read.
    Nothing,
    /// The client has ended the connection.
    End,
}

impl Exchange {
    /// Tells the client what was taken of its request.
    fn tell(&self, http2: &mut Http2) {
        let untold = self.feed.take_untold();
        if untold > 0 {
            http2.release(self.key, untold);
        }
    }
}

/// Begins a reply.
fn respond(http2: &mut Http2, key: StreamKey, head: &AnswerHead, is_last: bool) {
    let status = head.status().as_u16();
    match head {
        AnswerHead::Http(parts) => {
            let fields = parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
            http2.respond(key, status, fields, is_last);
        }
        AnswerHead::Grpc { content_type, encoding } => {
            let fields = [("content-type", content_type.as_bytes()), ("grpc-encoding", b"gzip")];
            let count = if *encoding == Encoding::Gzip { 2 } else { 1 };
            http2.respond(key, status, fields.into_iter().take(count), is_last);
        }
    }
}

/// What a request asks for. `None` if it is none.
fn asked(edge: &Edge, connection: &Connection, serves: Serves, head: Head<'_>) -> Option<Asked> {
    if !head.path().starts_with(b"/") {
        return None;
    }
    if serves.has_calls() && grpc::is_grpc(head.field("content-type")) {
        let call = grpc::Call::read(edge, connection, head.method(), head.path(), head.fields());
        return Some(Asked::Grpc(call));
    }
    request(head).map(Asked::Http)
}

/// A request as all adapters see it. `None` if its path is none.
fn request(head: Head<'_>) -> Option<Request<()>> {
    let mut request = Request::new(());
    *request.version_mut() = Version::HTTP_2;
    *request.method_mut() = match head.method() {
        b"POST" => Method::POST,
        method => Method::from_bytes(method).ok()?,
    };
    *request.uri_mut() = Uri::from(PathAndQuery::try_from(head.path()).ok()?);
    let fields = head.fields();
    let headers = request.headers_mut();
    headers.reserve(fields.len() + 1);
    for (name, value) in fields {
        headers.append(HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
    }
    // It is any text, and says as much as the header of HTTP/1.
    if let Some(authority) = head.authority()
        && !headers.contains_key(HOST)
        && let Ok(host) = HeaderValue::from_bytes(authority)
    {
        headers.insert(HOST, host);
    }
    Some(request)
}
