//! What the owner of a transport decides: this node's identity, its peers, and every bound.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::Duration;

use vlot_raft::id::NodeId;

use super::pages::Pages;
use super::tls::Security;
use super::transport::{AnyTransport, Begun, BindError, Transport, tcp::Tcp};
use vlot_node::Lane;

/// The identity of this node. Cluster and node are checked by every handshake.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Identity {
    /// The cluster; nodes of another one are refused.
    pub cluster: u64,
    /// This node.
    pub node: NodeId,
    /// The disk that it has: a number that was drawn when its log was first made, so that a node that has lost its disk
    /// is told from one that has been away. Zero: not told.
    pub disk: u64,
}

/// Where peers reach this node, and by what it reaches them.
#[derive(Debug)]
pub enum Listen {
    /// TCP; bind this `host:port`.
    At(String),
    /// TCP; use a listener that is bound already.
    On(TcpListener),
    /// Another transport, such as the one [in memory](super::memory).
    Through(AnyTransport),
}

impl Listen {
    /// Listens and dials by this transport.
    #[must_use]
    pub fn through(transport: impl Transport) -> Self {
        Self::Through(AnyTransport::new(transport))
    }

    pub(crate) fn begin(self, limits: &Limits) -> Result<Begun, BindError> {
        let transport = match self {
            Self::At(address) => AnyTransport::new(Tcp::at(address, limits.silence_max)),
            Self::On(listener) => AnyTransport::new(Tcp::on(listener, limits.silence_max)),
            Self::Through(transport) => transport,
        };
        transport.begin()
    }
}

/// Everything a transport has to be told. [`Options::new`] fills in the bounds.
#[derive(Debug)]
pub struct Options {
    /// The identity of this node.
    pub identity: Identity,
    /// Where it listens.
    pub listen: Listen,
    /// Where other nodes reach it, as `host:port`: told to each node that it dials. By default the address that it is
    /// bound to if that is a specific one, and nothing if it is not. Nodes with TLS need it to tell whose a certificate is.
    pub advertise: Option<String>,
    /// Where the other nodes listen, as the transport dials them: `host:port`, resolved at each dial, over TCP. With TLS an
    /// address may begin with `https://` or `http://`: see [`Speaks`](super::Speaks). This node's own entry is ignored.
    pub peers: BTreeMap<NodeId, String>,
    /// How nodes speak TLS to each other. By default they do not.
    pub security: Option<Security>,
    /// What is answered to plain HTTP on the same port, within TLS if there is any. By default it is refused like any other
    /// protocol.
    pub pages: Option<Pages>,
    /// Every bound that has a sensible default.
    pub limits: Limits,
}

impl Options {
    /// Options with the default limits.
    #[must_use]
    pub fn new(identity: Identity, listen: Listen, peers: BTreeMap<NodeId, String>) -> Self {
        Self { identity, listen, advertise: None, peers, security: None, pages: None, limits: Limits::default() }
    }
}

/// The bounds of a transport.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bounds of [`Lane::Control`].
    pub control: LaneLimits,
    /// Bounds of [`Lane::Entries`].
    pub entries: LaneLimits,
    /// Bounds of [`Lane::Snapshot`].
    pub snapshot: LaneLimits,
    /// How long [`Lane::Snapshot`] stays connected with nothing to send.
    pub snapshot_idle_max: Duration,
    /// The longest wait before the first attempt after a steady connection was lost; doubles with every attempt. The
    /// actual wait lies between half of it and all of it.
    pub redial_min: Duration,
    /// The longest wait between two attempts.
    pub redial_max: Duration,
    /// How long dialling and greeting may take together, and how long an unknown caller may take to introduce itself.
    pub handshake_timeout: Duration,
    /// How many callers may be connected without having introduced themselves: so many from hosts where peers are known to
    /// be, and so many from all others. One more, and of the host that has most of them the oldest is dropped.
    pub strangers_max: usize,
    /// How many TLS handshakes a second are begun with callers from hosts where no peer is known to be. The others wait.
    pub strange_handshakes_per_second: u32,
    /// How many unlisted peers there may be: nodes of the cluster that have called and are no peers. One more is refused.
    pub unlisted_max: usize,
    /// How long an unlisted peer may send nothing before it is seen off; it may stay a quarter as long again.
    pub unlisted_silence_max: Duration,
    /// How long the kernel may wait for a sign of life before it gives a connection up. Whole seconds, at least one.
    pub silence_max: Duration,
}

/// The bounds of one lane of one peer.
#[derive(Clone, Debug)]
pub struct LaneLimits {
    /// Bytes that may wait to be sent, those being written included. A frame that is longer still goes through an
    /// empty queue.
    pub queue_bytes_max: usize,
    /// Bytes that may have been received and not been taken from the inbox, give or take one read. Beyond it the
    /// socket is left alone, and TCP slows the sender down.
    pub inbox_bytes_max: usize,
    /// The longest frame, both ways. Capped by what four bytes can count.
    pub frame_bytes_max: usize,
}

const MIB: usize = 1 << 20;

impl Default for Limits {
    fn default() -> Self {
        Self {
            control: LaneLimits { queue_bytes_max: 4 * MIB, inbox_bytes_max: 4 * MIB, frame_bytes_max: 4 * MIB },
            entries: LaneLimits { queue_bytes_max: 64 * MIB, inbox_bytes_max: 16 * MIB, frame_bytes_max: 64 * MIB },
            snapshot: LaneLimits { queue_bytes_max: 16 * MIB, inbox_bytes_max: 8 * MIB, frame_bytes_max: 4 * MIB },
            snapshot_idle_max: Duration::from_secs(30),
            redial_min: Duration::from_millis(20),
            redial_max: Duration::from_secs(1),
            handshake_timeout: Duration::from_secs(3),
            strangers_max: 64,
            strange_handshakes_per_second: 200,
            unlisted_max: 16,
            unlisted_silence_max: Duration::from_secs(60),
            silence_max: Duration::from_secs(5),
        }
    }
}

impl Limits {
    /// The bounds of one lane.
    #[must_use]
    pub fn of(&self, lane: Lane) -> &LaneLimits {
        match lane {
            Lane::Control => &self.control,
            Lane::Entries => &self.entries,
            Lane::Snapshot => &self.snapshot,
        }
    }
}
