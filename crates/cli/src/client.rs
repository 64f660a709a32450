//! An etcd v3 client: calls over one connection, and over the next endpoint when it breaks.
//!
//! Owns endpoints, time budgets and the rule when a call may be repeated. Must not know what the calls mean (their
//! messages come from the caller) or how results are shown.

mod channel;
mod frames;
mod login;
pub mod path;
pub mod security;
mod socket;
mod status;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

pub use channel::{Channel, Stream};
pub use frames::BadFrame;
pub use login::{Credentials, has_ended};
pub use security::Security;
use security::{ConnectError, HttpVersion};
pub use status::Status;

/// Pause before the endpoints are tried again once all have failed.
const BACK_OFF_MIN: Duration = Duration::from_millis(25);
const BACK_OFF_MAX: Duration = Duration::from_millis(400);

/// Where a server listens. Displays as it was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    written: String,
    /// Whether its scheme says that TLS is spoken; `None` without a scheme.
    is_tls: Option<bool>,
    /// Where the host and port begin in `written`, and where they end.
    address: std::ops::Range<usize>,
}

impl Endpoint {
    /// Host and port.
    pub fn address(&self) -> &str {
        &self.written[self.address.clone()]
    }

    /// The host alone, of IPv6 without the brackets.
    pub fn host(&self) -> &str {
        let host = self.address().rsplit_once(':').map_or(self.address(), |(host, _)| host);
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// Whether its scheme says that TLS is spoken; `None` without a scheme.
    pub fn is_tls(&self) -> Option<bool> {
        self.is_tls
    }

    /// The metrics page of the server, by the older version of HTTP, in which a page is not cut into pieces.
    ///
    /// # Errors
    /// There is no connection, or it breaks.
    pub async fn metrics(&self, security: &Security, bytes_max: u64) -> Result<String, ConnectError> {
        let mut socket = security.connect(self, HttpVersion::Http1).await?.for_http1();
        let request = format!("GET /metrics HTTP/1.0\r\nHost: {}\r\n\r\n", self.address());
        socket.write_all(request.as_bytes()).await.map_err(ConnectError::Io)?;
        let mut page = Vec::new();
        socket.take(bytes_max).read_to_end(&mut page).await.map_err(ConnectError::Io)?;
        Ok(String::from_utf8_lossy(&page).into_owned())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    /// Reads `host:port`, `http://host:port` or `https://host:port`.
    fn from_str(written: &str) -> Result<Self, EndpointError> {
        let (is_tls, start) = match written.split_once("://") {
            Some((scheme @ ("http" | "https"), rest)) => (Some(scheme == "https"), written.len() - rest.len()),
            Some((scheme, _)) => {
                return Err(EndpointError::Scheme { written: written.to_owned(), scheme: scheme.to_owned() });
            }
            None => (None, 0),
        };
        let end = written[start..].find('/').map_or(written.len(), |slash| start + slash);
        match written[start..end].rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {}
            _ => return Err(EndpointError::NotHostAndPort { written: written.to_owned() }),
        }
        Ok(Endpoint { written: written.to_owned(), is_tls, address: start..end })
    }
}

/// Why a text is no [`Endpoint`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum EndpointError {
    /// HTTP alone is spoken.
    Scheme {
        written: String,
        scheme: String,
    },
    NotHostAndPort {
        written: String,
    },
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme { written, scheme } => {
                write!(f, "endpoint {written:?}: {scheme} is not supported, only http and https are")
            }
            Self::NotHostAndPort { written } => write!(f, "endpoint {written:?}: host:port is expected"),
        }
    }
}

impl std::error::Error for EndpointError {}

/// What holds for every connection.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long one connection may take to establish.
    pub dial_timeout: Duration,
    /// Ping a connection this often, and give it up when no answer comes for so long.
    pub keepalive: Option<(Duration, Duration)>,
    /// Log in with these on each connection.
    pub credentials: Option<Credentials>,
    /// Whether and how TLS is spoken.
    pub security: Security,
}

/// Why a call has no reply.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Failure {
    /// No connection: nothing was sent.
    Unreachable { endpoint: String, cause: String },
    /// The connection broke. Whether the call took effect is unknown.
    Broken { endpoint: String, cause: String },
    /// Time ran out. Whether the call took effect is unknown unless the cause is that there was no connection.
    TimedOut { cause: Option<String> },
    /// The server said no.
    Refused(Status),
    /// The server takes the user for another, or for none: nothing else was sent.
    LoginRefused(Status),
    /// The server's answer cannot be understood.
    Malformed(BadAnswer),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Unreachable { endpoint, cause } => write!(f, "cannot connect to {endpoint}: {cause}"),
            Failure::Broken { endpoint, cause } => write!(f, "connection to {endpoint} broke: {cause}"),
            Failure::TimedOut { .. } => f.write_str("context deadline exceeded"),
            // etcd's own errors speak for themselves; all of them begin so.
            Failure::Refused(status) | Failure::LoginRefused(status) if status.message.starts_with("etcdserver: ") => {
                f.write_str(&status.message)
            }
            Failure::Refused(status) | Failure::LoginRefused(status) if status.code == Status::DEADLINE_EXCEEDED => {
                f.write_str("context deadline exceeded")
            }
            Failure::Refused(status) | Failure::LoginRefused(status) => status.fmt(f),
            Failure::Malformed(cause) => write!(f, "the answer cannot be understood: {cause}"),
        }
    }
}

impl std::error::Error for Failure {}

/// Why a server's answer cannot be understood.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BadAnswer {
    /// It is none of gRPC.
    Http(http::StatusCode),
    Frame(BadFrame),
    Message(prost::DecodeError),
    NoReply,
    NoStatus,
    /// A user's token that cannot stand in a header.
    Token,
    /// A watch ends that was to last.
    WatchEnded,
    /// The server ends a watch, and says why.
    WatchCancelled {
        reason: String,
    },
}

impl fmt::Display for BadAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(status) => write!(f, "the server answered HTTP {status}"),
            Self::Frame(bad) => bad.fmt(f),
            Self::Message(error) => error.fmt(f),
            Self::NoReply => f.write_str("the server sent no reply"),
            Self::NoStatus => f.write_str("the server sent no status"),
            Self::Token => f.write_str("the server sent a token that cannot be used"),
            Self::WatchEnded => f.write_str("the server ended a watch"),
            Self::WatchCancelled { reason } => write!(f, "a watch was cancelled: {reason}"),
        }
    }
}

impl std::error::Error for BadAnswer {}

/// Whether a call that may have reached a server may be sent again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Repeat {
    /// It reads: repeating does no harm.
    Freely,
    /// It writes: only when it was certainly not sent.
    IfUnsent,
}

/// Makes calls to whichever endpoint answers.
pub struct Client {
    endpoints: Vec<Endpoint>,
    options: Options,
    /// The endpoint in use, or the one to try next.
    current: usize,
    channel: Option<Channel>,
}

impl Client {
    /// A client that connects on its first call.
    ///
    /// # Panics
    /// If there is no endpoint.
    pub fn new(endpoints: Vec<Endpoint>, options: Options) -> Client {
        assert!(!endpoints.is_empty(), "a client has at least one endpoint");
        Client { endpoints, options, current: 0, channel: None }
    }

    /// One request, one reply. Goes on to the next endpoint while that is safe and the budget lasts.
    ///
    /// # Errors
    /// `Refused` and `Malformed` as the server caused them, `Broken` for a write that may have happened, else `TimedOut`.
    pub async fn call<Reply: Message + Default>(
        &mut self,
        path: &'static str,
        request: &impl Message,
        repeat: Repeat,
        budget: Duration,
    ) -> Result<Reply, Failure> {
        let deadline = Instant::now() + budget;
        let mut pause = BackOff::new(self.endpoints.len());
        let mut logged_in_anew = false;
        // Why the attempt before failed: it is told if the time ends while another connection is being made.
        let mut cause = None;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let outcome = match tokio::time::timeout_at(deadline, self.connected()).await {
                Ok(Ok(channel)) => channel.call(path, request, left).await,
                Ok(Err(unreachable)) => Err(unreachable),
                Err(_) => Err(Failure::TimedOut { cause: cause.take() }),
            };
            let failure = match outcome {
                Ok(reply) => return Ok(reply),
                Err(failure) => failure,
            };
            if has_ended(&failure) && self.options.credentials.is_some() && !logged_in_anew {
                // A token that the server does not take any more has done nothing, and a new connection gets a new one.
                logged_in_anew = true;
                self.channel = None;
                continue;
            }
            let may_repeat = match &failure {
                Failure::Unreachable { .. } => true,
                Failure::Broken { .. } => repeat == Repeat::Freely,
                Failure::Refused(status) => repeat == Repeat::Freely && status.code == Status::UNAVAILABLE,
                Failure::TimedOut { .. } | Failure::Malformed(_) | Failure::LoginRefused(_) => false,
            };
            if !may_repeat {
                self.forget_if_broken(&failure);
                return Err(failure);
            }
            self.move_on();
            let failed = failure.to_string();
            if tokio::time::timeout_at(deadline, pause.wait()).await.is_err() {
                return Err(Failure::TimedOut { cause: Some(failed) });
            }
            cause = Some(failed);
        }
    }

    /// Opens a stream on whichever endpoint accepts a connection within `budget`.
    ///
    /// # Errors
    /// `TimedOut` with the last failure as its cause.
    pub async fn stream<Sent: Message, Received: Message + Default>(
        &mut self,
        path: &'static str,
        metadata: &[(&'static str, &'static str)],
        budget: Duration,
    ) -> Result<Stream<Sent, Received>, Failure> {
        let deadline = Instant::now() + budget;
        let mut pause = BackOff::new(self.endpoints.len());
        loop {
            let outcome = match self.connected().await {
                Ok(channel) => channel.stream(path, metadata).await,
                Err(failure) => Err(failure),
            };
            let failure = match outcome {
                Ok(stream) => return Ok(stream),
                Err(refused @ Failure::LoginRefused(_)) => return Err(refused),
                Err(failure) => failure,
            };
            self.move_on();
            if tokio::time::timeout_at(deadline, pause.wait()).await.is_err() {
                return Err(Failure::TimedOut { cause: Some(failure.to_string()) });
            }
        }
    }

    /// Leaves the endpoint in use for the next one.
    pub fn move_on(&mut self) {
        self.channel = None;
        self.current = (self.current + 1) % self.endpoints.len();
    }

    async fn connected(&mut self) -> Result<&mut Channel, Failure> {
        let channel = match self.channel.take() {
            Some(channel) => channel,
            None => {
                let endpoint = &self.endpoints[self.current];
                let mut channel = Channel::open(endpoint, &self.options).await?;
                if let Some(credentials) = &self.options.credentials {
                    let logged_in = credentials.log_in(&mut channel, self.options.dial_timeout).await;
                    logged_in.map_err(|failure| match failure {
                        Failure::LoginRefused(_) => failure,
                        // Nothing else was sent, and another endpoint may do better.
                        passing => Failure::Unreachable { endpoint: endpoint.to_string(), cause: passing.to_string() },
                    })?;
                }
                channel
            }
        };
        Ok(self.channel.insert(channel))
    }

    fn forget_if_broken(&mut self, failure: &Failure) {
        if matches!(failure, Failure::Broken { .. } | Failure::TimedOut { .. }) {
            self.move_on();
        }
    }
}

/// Waits longer and longer, but only once in a round over all endpoints.
struct BackOff {
    endpoints: usize,
    tried: usize,
    pause: Duration,
}

impl BackOff {
    fn new(endpoints: usize) -> BackOff {
        BackOff { endpoints, tried: 0, pause: BACK_OFF_MIN }
    }

    async fn wait(&mut self) {
        self.tried += 1;
        if self.tried.is_multiple_of(self.endpoints) {
            tokio::time::sleep(self.pause).await;
            self.pause = (self.pause * 2).min(BACK_OFF_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_host_and_port_with_or_without_http() {
        for (written, address) in [
            ("127.0.0.1:2379", "127.0.0.1:2379"),
            ("http://n1:1", "n1:1"),
            ("http://n1:1/", "n1:1"),
            ("[::1]:2379", "[::1]:2379"),
            ("https://[::1]:2379/", "[::1]:2379"),
        ] {
            let endpoint: Endpoint = written.parse().unwrap();
            assert_eq!((endpoint.address(), endpoint.to_string().as_str()), (address, written));
        }
        for refused in ["", "n1", ":2379", "n1:", "n1:port", "unix://a:1", "https://n1"] {
            assert!(refused.parse::<Endpoint>().is_err(), "{refused}");
        }
        for (written, host, is_tls) in [
            ("n1:1", "n1", None),
            ("http://10.0.0.1:1", "10.0.0.1", Some(false)),
            ("https://[::1]:1/", "::1", Some(true)),
        ] {
            let endpoint: Endpoint = written.parse().unwrap();
            assert_eq!((endpoint.host(), endpoint.is_tls()), (host, is_tls));
        }
    }

    #[test]
    fn errors_read_as_etcds_clients_print_them() {
        let refused = |code, message: &str| Failure::Refused(Status { code, message: message.to_owned() }).to_string();
        assert_eq!(refused(3, "etcdserver: key is not provided"), "etcdserver: key is not provided");
        assert_eq!(refused(12, "no"), "rpc error: code = Unimplemented desc = no");
        assert_eq!(refused(4, "late"), "context deadline exceeded");
        assert_eq!(Failure::TimedOut { cause: None }.to_string(), "context deadline exceeded");
    }

    #[tokio::test]
    async fn time_that_ends_while_it_connects_has_the_cause_of_the_attempt_before() {
        // Nobody listens at the first, and the second never ends a handshake.
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoints = [gone, mute.local_addr().unwrap()].map(|address| format!("https://{address}").parse().unwrap());
        let flags = security::Flags { skip_verify: true, ..security::Flags::default() };
        let security = Security::new(flags).unwrap();
        let options = Options { dial_timeout: Duration::from_secs(60), keepalive: None, credentials: None, security };
        let mut client = Client::new(endpoints.to_vec(), options);
        let budget = Duration::from_millis(300);
        let outcome = client.call::<()>(path::PUT, &(), Repeat::IfUnsent, budget).await;
        let Err(Failure::TimedOut { cause: Some(cause) }) = outcome else { panic!("{outcome:?}") };
        assert!(cause.starts_with(&format!("cannot connect to https://{gone}: ")), "{cause}");
    }
}
