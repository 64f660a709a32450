//! One HTTP/2 connection to one endpoint, and the calls made over it.
//!
//! Owns the connection's task and its flow control. Must not know of other endpoints or of retries (see `client.rs`).

use std::future::poll_fn;
use std::marker::PhantomData;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::{PingPong, RecvStream, SendStream};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Uri, Version};
use prost::Message;
use tokio::time::{Instant, timeout};

use super::frames::{self, BadFrame, Frames};
use super::security::HttpVersion;
use super::socket::Fault;
use super::{BadAnswer, Endpoint, Failure, Options, Status};

/// What one call may receive before the client has read it.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
/// What all calls of a connection may receive before the client has read it.
const CONNECTION_WINDOW_BYTES: u32 = 256 << 20;
const FRAME_BYTES_MAX: u32 = 1 << 20;

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const TOKEN: HeaderName = HeaderName::from_static("token");

/// A connection. Clones made with [`Channel::share`] use the same one, each for its own calls.
pub struct Channel {
    requests: SendRequest<Bytes>,
    endpoint: Endpoint,
    fault: Fault,
    scheme: Scheme,
    authority: Authority,
    /// Requests are encoded here; see [`frames::encode`].
    buffer: BytesMut,
    /// The header of the last call's time budget: most calls have the same.
    budget: (Duration, HeaderValue),
    /// What says who is calling, once the user has logged in.
    token: Option<HeaderValue>,
}

impl Channel {
    /// Connects, and starts the connection's task on the current local set or runtime.
    ///
    /// # Errors
    /// [`Failure::Unreachable`].
    pub async fn open(endpoint: &Endpoint, options: &Options) -> Result<Channel, Failure> {
        let unreachable = |cause: String| Failure::Unreachable { endpoint: endpoint.to_string(), cause };
        let connecting = async {
            let socket = options.security.connect(endpoint, HttpVersion::Http2).await;
            let socket = socket.map_err(|error| error.to_string())?;
            let fault = socket.fault();
            let scheme = if socket.is_tls() { Scheme::HTTPS } else { Scheme::HTTP };
            let mut builder = h2::client::Builder::new();
            builder
                .initial_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                .max_frame_size(FRAME_BYTES_MAX)
                .enable_push(false);
            let shaken = builder
                .handshake(socket)
                .await
                .map_err(|error| fault.text().map_or_else(|| error.to_string(), str::to_owned))?;
            Ok((scheme, fault, shaken))
        };
        let (scheme, fault, (requests, mut connection)) = timeout(options.dial_timeout, connecting)
            .await
            .unwrap_or_else(|_| Err("the connection was not established in time".to_owned()))
            .map_err(unreachable)?;
        let authority = endpoint.address().parse().map_err(|_| unreachable("not a host and port".to_owned()))?;

        let ping_pong = connection.ping_pong();
        let keepalive = options.keepalive;
        tokio::spawn(async move {
            // How a connection ended reaches its calls, each of which reports it.
            match (keepalive, ping_pong) {
                (Some((every, patience)), Some(ping_pong)) => tokio::select! {
                    _ = connection => {}
                    () = silence(ping_pong, every, patience) => {}
                },
                _ => drop(connection.await),
            }
        });
        let budget = (Duration::ZERO, HeaderValue::from_static("0m"));
        Ok(Channel {
            requests,
            endpoint: endpoint.clone(),
            fault,
            scheme,
            authority,
            buffer: BytesMut::new(),
            budget,
            token: None,
        })
    }

    /// The same connection for another task.
    pub fn share(&self) -> Channel {
        Channel {
            requests: self.requests.clone(),
            endpoint: self.endpoint.clone(),
            fault: self.fault.clone(),
            scheme: self.scheme.clone(),
            authority: self.authority.clone(),
            buffer: BytesMut::new(),
            budget: self.budget.clone(),
            token: self.token.clone(),
        }
    }

    /// Sends this token with each call from here on.
    pub fn carry(&mut self, token: HeaderValue) {
        self.token = Some(token);
    }

    /// One request, one reply, within `budget`, which the server is told too.
    ///
    /// # Errors
    /// Any [`Failure`] but `Unreachable`.
    pub async fn call<Reply: Message + Default>(
        &mut self,
        path: &'static str,
        request: &impl Message,
        budget: Duration,
    ) -> Result<Reply, Failure> {
        match timeout(budget, self.exchange(path, request, budget)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::TimedOut { cause: None }),
        }
    }

    async fn exchange<Reply: Message + Default>(
        &mut self,
        path: &'static str,
        request: &impl Message,
        budget: Duration,
    ) -> Result<Reply, Failure> {
        let mut head = self.head(path);
        head.headers_mut().insert(GRPC_TIMEOUT, self.budget_header(budget));
        let body = frames::encode(request, &mut self.buffer);
        let (response, mut sending) = self.begin(head).await?;
        sending.send_data(body, true).map_err(|error| self.broken(&error))?;

        let (head, mut receiving) = response.await.map_err(|error| self.broken(&error))?.into_parts();
        refusal_in_head(&head)?;
        let mut frames = Frames::default();
        let mut message = None;
        while let Some(chunk) = receiving.data().await {
            let chunk = chunk.map_err(|error| self.broken(&error))?;
            receiving.flow_control().release_capacity(chunk.len()).map_err(|error| self.broken(&error))?;
            frames.push(chunk);
            if let Some(found) = frames.pop().map_err(bad_frame)? {
                message = Some(found);
            }
        }
        let trailers = receiving.trailers().await.map_err(|error| self.broken(&error))?;
        status_of(trailers.as_ref())?;
        let message = message.ok_or(Failure::Malformed(BadAnswer::NoReply))?;
        Reply::decode(message).map_err(undecoded)
    }

    /// Opens a call on which both sides may send several messages. Streams with `metadata` carry it as headers.
    ///
    /// # Errors
    /// [`Failure::Broken`].
    pub async fn stream<Sent: Message, Received: Message + Default>(
        &mut self,
        path: &'static str,
        metadata: &[(&'static str, &'static str)],
    ) -> Result<Stream<Sent, Received>, Failure> {
        let mut head = self.head(path);
        for (name, value) in metadata {
            head.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let (response, sending) = self.begin(head).await?;
        Ok(Stream {
            endpoint: self.endpoint.clone(),
            fault: self.fault.clone(),
            sending,
            response: Some(response),
            receiving: None,
            frames: Frames::default(),
            messages: PhantomData,
        })
    }

    fn head(&self, path: &'static str) -> Request<()> {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(PathAndQuery::from_static(path));
        let mut head = Request::new(());
        *head.method_mut() = Method::POST;
        *head.version_mut() = Version::HTTP_2;
        // A scheme, an authority and a path make a whole address.
        *head.uri_mut() = Uri::from_parts(parts).expect("all three parts are set");
        let mut headers = HeaderMap::with_capacity(4);
        headers.extend(self.token.clone().map(|token| (TOKEN, token)));
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        *head.headers_mut() = headers;
        head
    }

    fn budget_header(&mut self, budget: Duration) -> HeaderValue {
        if self.budget.0 != budget {
            // gRPC allows eight digits; in milliseconds they are a day.
            let text = format!("{}m", budget.as_millis().clamp(1, 99_999_999));
            self.budget = (budget, HeaderValue::from_str(&text).expect("digits and a letter are a header value"));
        }
        self.budget.1.clone()
    }

    async fn begin(&mut self, head: Request<()>) -> Result<(ResponseFuture, SendStream<Bytes>), Failure> {
        // Waits while the server allows no further call on this connection.
        poll_fn(|context| self.requests.poll_ready(context)).await.map_err(|error| self.broken(&error))?;
        self.requests.send_request(head, false).map_err(|error| self.broken(&error))
    }

    fn broken(&self, error: &h2::Error) -> Failure {
        broken(&self.endpoint, &self.fault, error)
    }
}

/// A call in progress on which messages go both ways.
pub struct Stream<Sent, Received> {
    endpoint: Endpoint,
    fault: Fault,
    sending: SendStream<Bytes>,
    /// Until the server's headers are there.
    response: Option<ResponseFuture>,
    /// From then on.
    receiving: Option<RecvStream>,
    frames: Frames,
    messages: PhantomData<(Sent, Received)>,
}

impl<Sent: Message, Received: Message + Default> Stream<Sent, Received> {
    /// Sends one message, waiting while the server does not read.
    ///
    /// # Errors
    /// [`Failure::Broken`].
    pub async fn send(&mut self, message: &Sent) -> Result<(), Failure> {
        let mut body = frames::encode(message, &mut BytesMut::new());
        while !body.is_empty() {
            self.sending.reserve_capacity(body.len());
            let allowed = match poll_fn(|context| self.sending.poll_capacity(context)).await {
                Some(Ok(allowed)) => allowed,
                Some(Err(error)) => return Err(broken(&self.endpoint, &self.fault, &error)),
                None => return Err(self.ended()),
            };
            let piece = body.split_to(allowed.min(body.len()));
            self.sending.send_data(piece, false).map_err(|error| broken(&self.endpoint, &self.fault, &error))?;
        }
        Ok(())
    }

    /// Says that nothing more will be sent.
    ///
    /// # Errors
    /// [`Failure::Broken`].
    pub fn finish(&mut self) -> Result<(), Failure> {
        self.sending.send_data(Bytes::new(), true).map_err(|error| broken(&self.endpoint, &self.fault, &error))
    }

    /// The next message; `None` when the server has ended the stream in good order. May be dropped and called again.
    ///
    /// # Errors
    /// Any [`Failure`] but `Unreachable` and `TimedOut`.
    pub async fn next(&mut self) -> Result<Option<Received>, Failure> {
        if let Some(response) = &mut self.response {
            let response = response.await.map_err(|error| broken(&self.endpoint, &self.fault, &error))?;
            self.response = None;
            let (head, receiving) = response.into_parts();
            refusal_in_head(&head)?;
            self.receiving = Some(receiving);
        }
        loop {
            if let Some(message) = self.frames.pop().map_err(bad_frame)? {
                return Received::decode(message).map(Some).map_err(undecoded);
            }
            let Some(receiving) = &mut self.receiving else { return Err(self.ended()) };
            let Some(chunk) = receiving.data().await else { break };
            let chunk = chunk.map_err(|error| broken(&self.endpoint, &self.fault, &error))?;
            let released = receiving.flow_control().release_capacity(chunk.len());
            released.map_err(|error| broken(&self.endpoint, &self.fault, &error))?;
            self.frames.push(chunk);
        }
        let Some(receiving) = &mut self.receiving else { return Err(self.ended()) };
        let trailers = receiving.trailers().await.map_err(|error| broken(&self.endpoint, &self.fault, &error))?;
        status_of(trailers.as_ref())?;
        Ok(None)
    }

    fn ended(&self) -> Failure {
        Failure::Broken { endpoint: self.endpoint.to_string(), cause: "the stream has ended".to_owned() }
    }
}

/// Returns when the other side has not answered a ping in time.
async fn silence(mut ping_pong: PingPong, every: Duration, patience: Duration) {
    let mut at = Instant::now();
    loop {
        at += every;
        tokio::time::sleep_until(at).await;
        let answer = timeout(patience, ping_pong.ping(h2::Ping::opaque())).await;
        if !matches!(answer, Ok(Ok(_))) {
            return;
        }
    }
}

/// What an answer's head alone says: not HTTP 200, or a status without a message.
fn refusal_in_head(head: &http::response::Parts) -> Result<(), Failure> {
    match Status::read(&head.headers) {
        Some(Err(status)) => Err(Failure::Refused(status)),
        _ if head.status != http::StatusCode::OK => Err(Failure::Malformed(BadAnswer::Http(head.status))),
        _ => Ok(()),
    }
}

fn status_of(trailers: Option<&HeaderMap>) -> Result<(), Failure> {
    match trailers.and_then(Status::read) {
        Some(outcome) => outcome.map_err(Failure::Refused),
        None => Err(Failure::Malformed(BadAnswer::NoStatus)),
    }
}

/// What TLS has to say of a connection that broke is more than HTTP/2 knows.
fn broken(endpoint: &Endpoint, fault: &Fault, error: &h2::Error) -> Failure {
    let cause = fault.text().map_or_else(|| error.to_string(), str::to_owned);
    Failure::Broken { endpoint: endpoint.to_string(), cause }
}

fn bad_frame(bad: BadFrame) -> Failure {
    Failure::Malformed(BadAnswer::Frame(bad))
}

fn undecoded(error: prost::DecodeError) -> Failure {
    Failure::Malformed(BadAnswer::Message(error))
}
