//! The client side of the process: listeners, connections, and which protocol a connection speaks.
//!
//! One port serves gRPC (HTTP/2) and HTTP/1. Owns sockets and their limits. Must not know what a call does: gRPC calls
//! go to `grpc.rs`, JSON to `gateway.rs`, everything else to `http.rs`.

mod admission;
mod answer;
mod body;
mod call;
mod compression;
mod connection;
mod cors;
pub(crate) mod fuzzing;
mod gateway;
mod grpc;
mod http;
mod http2;
mod opening;
mod request_body;
mod requests;
mod security;
mod served;
mod stream;
mod threads;

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::CONTENT_TYPE;
use ::http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::debug;
use vlot_tls::{HandshakeError, take_leave};

use crate::config::{Config, Limits, RECEIVE_SLACK, Url};
use crate::descriptors;
use crate::service::Services;
use crate::share::{AddressLimits, ConnectionPlace, Exceeded};
use crate::status::Status;
use crate::telemetry::metrics::Offence;
use admission::{Admission, NoPlace, Place};
use answer::Answer;
use body::Body;
use connection::Connection;
use http2::Conversation;
use opening::Opened;
use request_body::RequestBody;
pub(crate) use security::Security;
use security::{Client, Secured, Stream};
use stream::Gathering;
pub(crate) use threads::{EdgeThreads, threads_by_default};
use threads::{Placing, drain};

/// How long a client may take to say which protocol it speaks, and to send the header of an HTTP/1 request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of all headers of one request. gRPC clients send a few hundred.
const HEADER_BYTES_MAX: u32 = 64 * 1024;
/// Bytes a client may send ahead of what the server has read, on one stream and on one connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 32 << 20;
/// Connections that are accepted before others have their turn: each is a task.
const ACCEPTED_A_TURN: usize = 16;
/// How long connections may take to finish their calls once the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// What a client reads that speaks TLS to a port in the clear, if it can.
const TLS_IN_THE_CLEAR_ANSWER: &str = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
                                       Connection: close\r\n\r\nClient sent a TLS handshake to an HTTP server.\n";

/// What a listener serves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Serves {
    GrpcAndHttp,
    Grpc,
    Http,
    /// What operators' tools ask, without the clients' calls.
    Metrics,
}

impl Serves {
    /// Whether gRPC calls are answered.
    fn has_calls(self) -> bool {
        matches!(self, Serves::GrpcAndHttp | Serves::Grpc)
    }
}

/// What a request asks for, by its head.
enum Asked {
    /// A call, or what is said to one that is wrong.
    Grpc(Result<grpc::Call, Box<Response<Body>>>),
    Http(Request<()>),
}

/// A port that is listened on.
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    pub(crate) serves: Serves,
    pub(crate) security: Security,
}

/// What all connections share.
pub(crate) struct Edge {
    services: Arc<Services>,
    admission: Admission,
    message_bytes_max: usize,
    streams_max: u32,
    keepalive_interval: Option<Duration>,
    keepalive_timeout: Duration,
    slow_call: Duration,
    hosts: Option<Vec<String>>,
    origins: Option<Vec<String>>,
    has_gateway: bool,
    stopping: watch::Receiver<bool>,
}

impl Edge {
    /// An edge that ends its streams and connections when `stopping` turns true.
    pub(crate) fn new(config: &Config, services: Arc<Services>, stopping: watch::Receiver<bool>) -> Arc<Edge> {
        let connections_max = descriptors::connections_max();
        Arc::new(Edge {
            services,
            admission: Admission::of(connections_max, address_limits(&config.limits, connections_max)),
            message_bytes_max: config.limits.request_bytes.saturating_add(RECEIVE_SLACK),
            streams_max: config.limits.streams,
            keepalive_interval: config.keepalive.interval,
            keepalive_timeout: config.keepalive.timeout,
            slow_call: config.slow_call,
            hosts: config.hosts.clone(),
            origins: config.origins.clone(),
            has_gateway: config.has_gateway,
            stopping,
        })
    }

    /// Accepts connections for all threads until the server stops, then waits a moment for the calls to end of those that are on
    /// this one.
    pub(crate) async fn serve(self: Arc<Edge>, listener: Listener, threads: Placing) {
        let Listener { socket, serves, security } = listener;
        let mut connections = JoinSet::new();
        let mut stopping = self.stopping.clone();
        let mut accepted_in_turn = 0;
        loop {
            if accepted_in_turn == ACCEPTED_A_TURN {
                accepted_in_turn = 0;
                tokio::task::yield_now().await;
            }
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                Some(_) = connections.join_next() => continue,
                _ = stopping.wait_for(|stop| *stop) => break,
            };
            accepted_in_turn += 1;
            match accepted {
                Ok((stream, from)) => {
                    let (place, share) = match self.admission.admit(from) {
                        Ok(places) => places,
                        Err(refused) => {
                            self.refuse(from, refused);
                            continue;
                        }
                    };
                    // It leaves this thread's reactor for that of the thread on which it is served.
                    let Ok(stream) = stream.into_std() else { continue };
                    let served = self.clone().serve_stream(stream, serves, security.clone(), (from, share), place);
                    if let Some((own, counted)) = threads.place(Box::pin(served)) {
                        connections.spawn(async move {
                            let _counted = counted;
                            own.await;
                        });
                    }
                }
                // Out of file descriptors, most likely: some will be closed.
                Err(error) => {
                    self.admission.cannot_accept(&error);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop((socket, threads));
        drain(connections).await;
    }

    /// Serves a connection from its first byte to its last, on the thread on which this is polled.
    async fn serve_stream(
        self: Arc<Edge>,
        stream: std::net::TcpStream,
        serves: Serves,
        security: Security,
        (from, share): (SocketAddr, ConnectionPlace),
        _place: Place,
    ) {
        let connection = Connection::new(from, share);
        let served = match TcpStream::from_std(stream) {
            Ok(stream) => self.clone().converse(stream, serves, security, connection.clone()).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = served {
            self.ended(&connection, &error);
        }
    }

    /// Counts a connection that is not served.
    fn refuse(&self, from: SocketAddr, why: NoPlace) {
        self.services.metrics.connection_refused();
        if why == NoPlace::OfAddress {
            self.services.metrics.offences.count(Offence::Connections);
            self.admission.stopped(from, Offence::Connections, &"see --max-connections-per-address");
        }
    }

    /// Counts and tells why a connection has ended, if that was its client's fault.
    fn ended(&self, connection: &Connection, error: &ConnectionError) {
        let from = connection.from;
        debug!(%from, %error, "connection ended");
        match error {
            ConnectionError::Handshake(error) => {
                let reason = error.reason();
                self.services.metrics.handshakes.failed(reason);
                self.admission.handshake_failed(from, reason, error);
            }
            ConnectionError::HandshakeTimedOut => self.services.metrics.handshakes.timed_out(),
            _ => {}
        }
        if let Some(offence) = connection.offence().or_else(|| error.offence()) {
            self.services.metrics.offences.count(offence);
            self.admission.stopped(from, offence, error);
        }
    }

    /// Waits until both sides have come to speak, and it is known what.
    async fn open(
        &self,
        connection: &Connection,
        stream: TcpStream,
        security: Security,
    ) -> Result<(Opened<Stream>, Client), ConnectionError> {
        // It may come to nothing, and an address may open many.
        if let Some(wait) = connection.share().spend(security.opening_work()) {
            self.services.metrics.client_paused();
            tokio::time::sleep(wait).await;
        }
        let deadline = Instant::now() + HEADER_TIMEOUT;
        let secured = tokio::time::timeout_at(deadline, security.open(stream)).await;
        let Secured { stream, client } = secured.map_err(|_| ConnectionError::HandshakeTimedOut)??;
        if client.is_tls {
            self.services.metrics.handshakes.done();
        }
        let opened = tokio::time::timeout_at(deadline, Opened::open(stream)).await;
        let opened =
            opened.map_err(|_| ConnectionError::Silent)?.map_err(|error| match HandshakeError::within(&error) {
                // A client of TLS 1.3 that does not take our certificate says so when we take the handshake to be done.
                Some(refused) => ConnectionError::Handshake(refused),
                None => ConnectionError::Io(error),
            })?;
        if opened.is_tls() {
            take_leave(opened, TLS_IN_THE_CLEAR_ANSWER).await;
            return Err(ConnectionError::TlsInTheClear);
        }
        Ok((opened, client))
    }

    /// Serves one connection until either side ends it.
    async fn converse(
        self: Arc<Edge>,
        stream: TcpStream,
        serves: Serves,
        security: Security,
        connection: Arc<Connection>,
    ) -> Result<(), ConnectionError> {
        stream.set_nodelay(true)?;
        let mut stopping = self.stopping.clone();
        let (opened, client) = tokio::select! {
            opened = self.open(&connection, stream, security) => opened?,
            _ = stopping.wait_for(|stop| *stop) => return Ok(()),
        };
        connection.is_of(client);
        let (edge, of_calls) = (self.clone(), connection.clone());
        let answer = move |asked, body| edge.clone().serve_call(of_calls.clone(), asked, body, serves);
        let stopped = async move {
            // An error means that the server is gone altogether.
            let _ = stopping.wait_for(|stop| *stop).await;
        };
        tokio::pin!(stopped);
        if opened.is_http2() {
            let mut served = Conversation::new(self.clone(), connection.clone(), opened, serves, answer);
            let ended = tokio::select! {
                biased;
                ended = served.serve() => Some(ended),
                () = without_settings(&connection) => Some(Err(ConnectionError::NoSettings)),
                () = stopped => None,
            };
            let ended = match ended {
                Some(ended) => ended,
                None => {
                    served.shut_down();
                    served.serve().await
                }
            };
            served.end(ended).await
        } else {
            let service = service_fn(|request: Request<hyper::body::Incoming>| {
                let (head, body) = request.into_parts();
                let asked = self.asked(&connection, serves, Request::from_parts(head, ()));
                let answered = answer(asked, RequestBody::Http1(body));
                async move { Ok::<_, Infallible>(answered.await.into_response()) }
            });
            let served = http1().serve_connection(Gathering::new(opened), service);
            tokio::pin!(served);
            tokio::select! {
                ended = served.as_mut() => return Ok(ended?),
                () = stopped => served.as_mut().graceful_shutdown(),
            }
            Ok(served.await?)
        }
    }

    /// What a request over HTTP/1 asks for.
    fn asked(&self, connection: &Connection, serves: Serves, request: Request<()>) -> Asked {
        let headers = request.headers();
        let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        if !serves.has_calls() || !grpc::is_grpc(content_type) {
            return Asked::Http(request);
        }
        let path = request.uri().path_and_query().map_or("", |path| path.as_str());
        let fields = headers.iter().map(|(name, value)| (name.as_ref(), value.as_bytes()));
        Asked::Grpc(grpc::Call::read(self, connection, request.method().as_str().as_bytes(), path.as_bytes(), fields))
    }

    /// Answers a request if there is room for it.
    async fn serve_call(
        self: Arc<Edge>,
        connection: Arc<Connection>,
        asked: Asked,
        body: RequestBody,
        serves: Serves,
    ) -> Answer {
        if connection.is_wary() {
            // By then it is taken back, if it is to be, before anything is done for it.
            tokio::task::yield_now().await;
        }
        match (connection.begin_stream(), asked) {
            (Err(exceeded), asked) => self.refuse_call(&connection, &asked, exceeded).into(),
            (Ok(place), Asked::Grpc(Ok(call))) => grpc::answer(self, connection, call, body).await.with_place(place),
            (Ok(place), Asked::Grpc(Err(refusal))) => Answer::from(*refusal).with_place(place),
            (Ok(place), Asked::Http(request)) => {
                // Each call has room for the largest way to answer one: the rare one is boxed.
                let answer = self.answer(connection, request.map(|()| body), serves);
                Answer::from(Box::pin(answer).await).with_place(place)
            }
        }
    }

    fn refuse_call(&self, connection: &Connection, asked: &Asked, exceeded: Exceeded) -> Response<Body> {
        let offence = Offence::from(exceeded);
        connection.works_for_nothing(vlot_http2::Connection::REQUEST_WORK);
        self.services.metrics.offences.count(offence);
        self.admission.stopped(connection.from, offence, &"a call is refused");
        let status = Status::TOO_MANY_REQUESTS;
        match asked {
            Asked::Grpc(_) => grpc::failure(&status),
            Asked::Http(_) => gateway::failed(&status),
        }
    }

    /// Answers a request that is no gRPC call, or is none here.
    async fn answer(
        self: Arc<Edge>,
        connection: Arc<Connection>,
        request: Request<RequestBody>,
        serves: Serves,
    ) -> Response<Body> {
        match serves {
            Serves::Grpc if request.version() == Version::HTTP_2 => grpc::not_a_call(request.headers()),
            Serves::Grpc => http::not_found(),
            // Who speaks TLS has dialled a name that the certificate has; as in etcd.
            _ if !connection.client().is_tls && !http::is_for_one_of(self.hosts.as_deref(), &request) => {
                http::misdirected()
            }
            Serves::Metrics => http::answer(&self.services, &request).await,
            Serves::GrpcAndHttp | Serves::Http => {
                let origin = cors::allowed(self.origins.as_deref(), request.headers());
                let mut response = self.answer_http(connection, request, serves == Serves::GrpcAndHttp).await;
                if let Some(origin) = origin {
                    cors::allow(&mut response, origin);
                }
                response
            }
        }
    }

    async fn answer_http(
        self: Arc<Edge>,
        connection: Arc<Connection>,
        request: Request<RequestBody>,
        has_calls: bool,
    ) -> Response<Body> {
        // So a browser asks whether a page may ask; as in etcd, of any path.
        if request.method() == Method::OPTIONS {
            return Response::new(Body::empty());
        }
        if self.has_gateway && gateway::is_below_v3(request.uri().path()) {
            return gateway::answer(self, connection, request).await;
        }
        let reply = http::answer(&self.services, &request).await;
        // Calls are what HTTP/2 is spoken for where there are any.
        let is_no_call = reply.status() == StatusCode::NOT_FOUND && request.version() == Version::HTTP_2;
        if is_no_call && has_calls { grpc::not_a_call(request.headers()) } else { reply }
    }
}

/// What one address may hold. It may never have all of the connections: others must be able to come in.
fn address_limits(limits: &Limits, connections_max: usize) -> AddressLimits {
    AddressLimits {
        connections: limits.connections_per_address.unwrap_or(connections_max.div_ceil(4).saturating_mul(3)),
        streams: limits.streams_per_address,
        watches: limits.watches_per_address,
        pending_bytes: limits.pending_bytes_per_address,
    }
}

/// Returns if the client has not sent its settings in time.
async fn without_settings(connection: &Connection) {
    tokio::time::sleep(HEADER_TIMEOUT).await;
    if connection.has_settings() {
        std::future::pending().await
    }
}

fn http1() -> hyper::server::conn::http1::Builder {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(HEADER_BYTES_MAX as usize);
    builder
}

/// Why a connection ended before both sides were done.
#[derive(Debug)]
enum ConnectionError {
    /// The client has not sent enough to tell what it speaks.
    Silent,
    /// The two have not come to speak TLS.
    Handshake(HandshakeError),
    /// The client does not end its handshake.
    HandshakeTimedOut,
    /// The client speaks TLS where it is to speak in the clear.
    TlsInTheClear,
    /// The client has said that it speaks HTTP/2, and not how.
    NoSettings,
    /// The client does not answer when it is asked whether it is there.
    NoPong,
    Io(io::Error),
    Http1(hyper::Error),
    Http2(vlot_http2::ConnectionError),
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => out.write_str("does not say which protocol it speaks"),
            Self::Handshake(error) => error.fmt(out),
            Self::HandshakeTimedOut => out.write_str("does not end its TLS handshake"),
            Self::TlsInTheClear => out.write_str("speaks TLS to a port that is served in the clear; use http"),
            Self::NoSettings => out.write_str("does not send its HTTP/2 settings"),
            Self::NoPong => out.write_str("does not answer pings"),
            Self::Io(error) => error.fmt(out),
            Self::Http1(error) => error.fmt(out),
            Self::Http2(error) => error.fmt(out),
        }
    }
}

impl std::error::Error for ConnectionError {}

impl ConnectionError {
    /// What the client has done for the connection to end so; `None` if it may just have gone.
    fn offence(&self) -> Option<Offence> {
        match self {
            Self::Silent => Some(Offence::Silent),
            Self::NoSettings => Some(Offence::NoSettings),
            Self::NoPong => Some(Offence::NoPong),
            // Handshakes have counters of their own, by reason.
            Self::Handshake(_) | Self::HandshakeTimedOut | Self::TlsInTheClear | Self::Io(_) => None,
            Self::Http1(error) if error.is_timeout() => Some(Offence::SlowHead),
            Self::Http1(error) if error.is_parse() => Some(Offence::BadHttp1),
            Self::Http1(_) => None,
            Self::Http2(error) => Some((*error).into()),
        }
    }
}

impl From<io::Error> for ConnectionError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<HandshakeError> for ConnectionError {
    fn from(error: HandshakeError) -> Self {
        Self::Handshake(error)
    }
}

impl From<hyper::Error> for ConnectionError {
    fn from(error: hyper::Error) -> Self {
        Self::Http1(error)
    }
}

/// Why a node does not listen on an URL.
#[derive(Debug)]
pub enum ListenError {
    /// The host is not an IP address.
    NotAnAddress(Url),
    PortInUse(Url),
    Io {
        url: Url,
        error: io::Error,
    },
}

impl fmt::Display for ListenError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAnAddress(url) => write!(out, "cannot listen on {url}: not an IP address"),
            Self::PortInUse(url) => {
                write!(out, "cannot listen on {url}: the port is in use; stop what uses it, or choose another port")
            }
            Self::Io { url, error } => write!(out, "cannot listen on {url}: {error}"),
        }
    }
}

impl std::error::Error for ListenError {}

/// Opens a listening socket.
///
/// # Errors
/// The URL is no address of this machine, or its port is not free.
pub(crate) fn listen(url: &Url, reuse_port: bool, reuse_address: bool) -> Result<TcpListener, ListenError> {
    let address = url.bind_address().ok_or_else(|| ListenError::NotAnAddress(url.clone()))?;
    bind(address, reuse_port, reuse_address).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => ListenError::PortInUse(url.clone()),
        _ => ListenError::Io { url: url.clone(), error },
    })
}

fn bind(address: SocketAddr, reuse_port: bool, reuse_address: bool) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A node that starts again must not wait until its old connections are forgotten; on Unix this allows no second
    // listener, which is what `reuse_address` of etcd means as well.
    socket.set_reuseaddr(cfg!(unix) || reuse_address)?;
    #[cfg(unix)]
    socket.set_reuseport(reuse_port)?;
    socket.bind(address)?;
    socket.listen(1024)
}
