//! What nodes of one cluster say to each other: carries opaque frames between them over TCP, in memory, or over a transport
//! of the owner's.
//!
//! Owns handshakes, queues and the question which peers are connected; how bytes get from one node to another is a
//! [`Transport`]'s affair, over which there may be [TLS](Tls). Must not know what a frame means: bytes in, bytes out. Loss is
//! legal and reported (Raft sends again); order holds within one connection, of which there is one per direction and [`Lane`].
//!
//! Each node dials each peer once per lane ([`Lane::Snapshot`] only when there is something to send on it) and sends on
//! the connections it dialled; it receives on those it accepted. The life of a frame: [`Net::send`] lays it out in the
//! lane's queue (`queue.rs`) and wakes the writer; the writer (`dial.rs`) hands all that is queued to the transport at
//! once; the peer's reader (`read.rs`) cuts what one read brought into frames and leaves them in the [`Inbox`]
//! together. A turn of the owner so costs one wake-up and one system call per peer and lane on either side, however
//! many frames it is made of. In memory, without TLS, a frame that would wait behind no other goes from [`Net::send`] to the
//! peer's [`Inbox`] at once (`transport/memory/pipe.rs`).
//!
//! A node of the same cluster that calls without being a peer is a *unlisted peer* ([`Limits::unlisted_max`]): its frames arrive
//! like any other's, and it is dialled, at the address that it has told, when there is something to send. Unlisted peers come
//! and go without a word; see `peers.rs` for why there are any.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use vlot_node::act::Complaint;
use vlot_raft::id::NodeId;

mod accept;
mod backoff;
mod complaints;
mod dial;
mod disks;
mod echo;
mod inbox;
mod local;
mod mismatch;
mod open;
mod options;
mod pace;
mod pages;
mod peer;
mod peers;
mod queue;
mod read;
mod refusal;
mod secured;
mod stats;
mod tls;
pub mod transport;
mod unauthenticated;
pub(crate) mod wire;

pub use inbox::{Event, Inbox};
pub use options::{Identity, LaneLimits, Limits, Listen, Options};
pub use pages::{Page, Pages};
pub use queue::Refused;
pub use refusal::Refusal;
pub use stats::{LinkFigures, Stats};
pub use tls::{Security, Speaks, Tls};
pub use transport::{BindError, Transport, memory, tcp};
pub use vlot_node::Lane;

use local::{Local, Owned};
use queue::Pushed;
use transport::Begun;

/// A node's running transport. Dropping it ends it.
#[derive(Debug)]
pub struct Net {
    local: Arc<Local>,
    address: String,
}

impl Net {
    /// Listens, and begins to dial every peer.
    ///
    /// # Errors
    /// When the address cannot be bound, or the advertised one is longer than any address is.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time enabled.
    pub fn start(options: Options) -> Result<(Self, Inbox), BindError> {
        let Options { identity, listen, advertise, peers, security, pages, limits } = options;
        let advertise = advertise.map(check_length).transpose()?;
        let Begun { address, dialler, accept } = listen.begin(&limits)?;
        let advertise = advertise.or_else(|| Some(address.clone()).filter(|address| is_specific(address)));
        let mailbox = Arc::<inbox::Mailbox>::default();
        let owned = Owned { identity, advertise, security, pages, limits };
        let local = Arc::new(Local::new(owned, dialler, Arc::clone(&mailbox), Handle::current()));
        let net = Self { local: Arc::clone(&local), address };
        net.set_peers(peers);
        accept(&local);
        local.spawn(peers::evict_silent_peers(Arc::clone(&local)));
        Ok((net, Inbox::new(mailbox)))
    }

    /// Queues one frame, made of these pieces in their order, for a peer or an unlisted peer. Never waits; long pieces are not
    /// copied.
    ///
    /// `Ok` means queued: a connection that breaks takes along what it had not delivered.
    ///
    /// # Errors
    /// When the frame cannot be queued; it is dropped and counted.
    pub fn send(&self, to: NodeId, lane: Lane, frame: &[Bytes]) -> Result<(), Refused> {
        let pushed = match self.local.peers().get(&to) {
            Some(peer) => peer.send(lane, frame),
            None => Err(Refused::Unknown),
        };
        match pushed {
            Ok(Pushed::Queued) => {}
            Ok(Pushed::HandedOver { bytes }) => {
                stats::add(&self.local.counters.sent_frames, 1);
                stats::add(&self.local.counters.sent_bytes, bytes as u64);
            }
            Err(_) => stats::add(&self.local.counters.refused_frames, 1),
        }
        pushed.map(drop)
    }

    /// Waits until [`send`](Self::send) would take a frame of that length. It still may refuse if others send on the
    /// same lane: then wait again.
    ///
    /// # Errors
    /// When waiting is of no use, as `send` would say. [`Refused::Unconnected`] tells a sender that what it has queued
    /// may be lost.
    pub fn ready(
        &self,
        to: NodeId,
        lane: Lane,
        frame_bytes: usize,
    ) -> impl Future<Output = Result<(), Refused>> + Send + use<> {
        let peer = self.local.peer(to);
        async move { peer.ok_or(Refused::Unknown)?.queue(lane).ready(frame_bytes).await }
    }

    /// Makes these nodes (without this one) the peers. Connections that stand are left alone, those of an unlisted peer that becomes
    /// a peer and of a peer that moves to another address included: the address counts from the next dial.
    ///
    /// A peer that goes is [lost](Event::Lost), and becomes an unlisted peer: frames that are queued for it are still sent, and what it
    /// sends still arrives.
    pub fn set_peers(&self, wanted: BTreeMap<NodeId, String>) {
        peers::set_peers(&self.local, wanted);
    }

    /// Makes these the disks that are entitled to their nodes' seats; zero or absent: not known. A node whose handshake
    /// names another one, in whichever direction, is refused, and a connection to such a node ends:
    /// [`Event::OtherDisk`].
    pub fn set_disks(&self, entitled: BTreeMap<NodeId, u64>) {
        peers::set_disks(&self.local, entitled);
    }

    /// Where this node listens.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where this node tells others that they reach it, if it knows that.
    #[must_use]
    pub fn advertised(&self) -> Option<&str> {
        self.local.advertise.as_deref()
    }

    /// What has happened so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.local.counters.read()
    }

    /// How this node gets on with each of its peers.
    #[must_use]
    pub fn links(&self) -> BTreeMap<NodeId, LinkFigures> {
        let peers = self.local.peers();
        peers.iter().filter(|(_, peer)| !peer.is_unlisted()).map(|(id, peer)| (*id, peer.figures())).collect()
    }

    /// Bytes of peers that the owner of the [`Inbox`] has not taken out.
    pub(crate) fn unread_bytes(&self) -> u64 {
        self.local.mailbox.bytes() as u64
    }

    /// Counts a frame of a peer that no correct peer sends, and tells of it if that is due.
    pub(crate) fn note_misbehaved(&self, peer: NodeId, complaint: &Complaint) {
        if let Some(peer) = self.local.peer(peer) {
            stats::add(&peer.counters.bad_frames, 1);
        }
        self.local.note_misbehaved(peer, complaint);
    }

    /// Closes the listener and all connections, and waits until they are closed. Frames that are queued are dropped,
    /// and the [`Inbox`] ends.
    pub async fn shutdown(&self) {
        if let Some(mut tasks) = self.local.close() {
            tasks.shutdown().await;
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        drop(self.local.close());
    }
}

/// Whether an address is one that others can dial: not that of every interface.
fn is_specific(address: &str) -> bool {
    address.parse().map_or(true, |address: SocketAddr| !address.ip().is_unspecified())
}

fn check_length(advertise: String) -> Result<String, BindError> {
    if advertise.len() <= wire::ADDRESS_BYTES_MAX {
        return Ok(advertise);
    }
    let error = io::Error::new(io::ErrorKind::InvalidInput, "longer than any address");
    Err(BindError { address: advertise, error })
}
