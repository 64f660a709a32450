//! The seam between the peers' protocol and what carries its bytes: a transport listens, accepts and dials, and gives a
//! stream of bytes for each connection. Everything else is shared: TLS, handshakes, lanes, queues, who is connected.
//!
//! Owns that interface, and how one of its implementations is put to work without a call through a table for each frame:
//! all that happens on a connection is compiled for its type of stream. Two implementations ship: [`tcp`] and [`memory`];
//! [`conformance`] says whether a further one does what is expected of it.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;

pub mod conformance;
pub mod memory;
pub mod tcp;

use super::accept::accept_all;
use super::dial::keep_connected;
use super::local::Local;
use super::peer::Peer;
use vlot_node::Lane;

/// What carries bytes between nodes.
///
/// Each connection is a stream in both directions that keeps order and loses nothing while it stands; it may break at any
/// time. A node uses one transport for all of its peers.
pub trait Transport: Send + Sync + 'static {
    /// One connection. Dropping it ends it, and the other end learns of that. What is shut down for writing ends for the
    /// reader once it has read all that was written before.
    type Stream: ByteStream;
    /// Where others' connections come in.
    type Listener: Listener<Stream = Self::Stream>;

    /// Begins to listen. Called once, before anything is dialled.
    ///
    /// # Errors
    /// When it cannot listen where it should.
    fn listen(&mut self) -> Result<Self::Listener, BindError>;

    /// Connects to the node that listens at `address`. May be dropped at any time; gives up by itself or is given up
    /// ([`Limits::handshake_timeout`](super::Limits)).
    fn dial(&self, address: &str) -> impl Future<Output = io::Result<Connection<Self::Stream>>> + Send;
}

/// A stream of bytes in both directions.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for S {}

/// Where others' connections come in. Dropping it ends that, and what was accepted stays.
pub trait Listener: Send + 'static {
    /// One connection.
    type Stream;

    /// Where others dial to reach this listener.
    fn address(&self) -> String;

    /// The next connection. Safe to drop and call again.
    fn accept(&mut self) -> impl Future<Output = io::Result<Connection<Self::Stream>>> + Send;
}

/// A connection that stands, of which nothing has been said.
#[derive(Debug)]
pub struct Connection<S> {
    /// Its bytes.
    pub stream: S,
    /// The other end as `host:port`. Callers of one host are counted together, whatever their ports are.
    pub remote: String,
}

/// The transport cannot listen where it should.
#[derive(Debug)]
pub struct BindError {
    /// Where it should have listened.
    pub address: String,
    /// What the system says.
    pub error: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen for peers at {}: {}", self.address, self.error)
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Any transport, before it listens.
pub struct AnyTransport(Box<dyn Begin>);

impl AnyTransport {
    /// Takes a transport of any type.
    #[must_use]
    pub fn new(transport: impl Transport) -> Self {
        Self(Box::new(transport))
    }

    pub(crate) fn begin(self) -> Result<Begun, BindError> {
        self.0.begin()
    }
}

impl fmt::Debug for AnyTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyTransport")
    }
}

/// A transport that listens.
pub(crate) struct Begun {
    pub address: String,
    pub dialler: Arc<dyn Dialler>,
    /// Starts to accept.
    pub accept: StartAccepting,
}

type StartAccepting = Box<dyn FnOnce(&Arc<Local>) + Send>;

trait Begin: Send + Sync {
    fn begin(self: Box<Self>) -> Result<Begun, BindError>;
}

impl<T: Transport> Begin for T {
    fn begin(mut self: Box<Self>) -> Result<Begun, BindError> {
        let listener = self.listen()?;
        let address = listener.address();
        let accept = move |local: &Arc<Local>| drop(local.spawn(accept_all(Arc::clone(local), listener)));
        Ok(Begun { address, dialler: Arc::new(*self), accept: Box::new(accept) })
    }
}

/// Starts the task that dials one lane of a peer.
pub(crate) trait Dialler: Send + Sync {
    /// `None` if the transport is shut down.
    fn dial_lane(self: Arc<Self>, local: &Arc<Local>, peer: &Arc<Peer>, lane: Lane) -> Option<AbortHandle>;
}

impl<T: Transport> Dialler for T {
    fn dial_lane(self: Arc<Self>, local: &Arc<Local>, peer: &Arc<Peer>, lane: Lane) -> Option<AbortHandle> {
        local.spawn(keep_connected(self, Arc::clone(local), Arc::clone(peer), lane))
    }
}

impl fmt::Debug for dyn Dialler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dialler")
    }
}
