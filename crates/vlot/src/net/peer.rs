//! One peer or unlisted peer: its queues, and which of its connections stand.
//!
//! Owns the decision when a peer counts as connected. Must not know of sockets: connections report here when they come
//! and go.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use vlot_raft::id::NodeId;

use super::inbox::Mailbox;
use super::options::Limits;
use super::queue::{Pushed, Queue, Refused};
use super::stats::{LinkCounters, LinkFigures, add};
use super::transport::memory::Shortcut;
use super::wire::SHARED_SINCE;
use vlot_node::Lane;

#[derive(Debug)]
pub(crate) struct Peer {
    pub id: NodeId,
    queues: [Queue; Lane::COUNT],
    links: Mutex<Links>,
    mailbox: Arc<Mailbox>,
    pub counters: LinkCounters,
    /// Signalled when its standing connections are to end.
    pub cut: Notify,
    /// Signalled when there is a reason to dial at once: the peer has dialled this node, or has become another
    /// [`Kind`] of peer, or its address is another.
    pub stirred: Notify,
    /// A frame has come since the last look.
    heard: AtomicBool,
}

/// What a node is to this one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Its owner has named it: it is dialled for as long as it is a peer, and its coming and going is told.
    Regular,
    /// It has called and the owner has not named it, or has named it once: it is dialled only if there is something to
    /// send, and nothing is told of it.
    Unlisted,
    /// It is neither any more: nothing that its connections report counts.
    Retired,
}

#[derive(Debug)]
struct Links {
    kind: Kind,
    /// `host:port`; empty if an unlisted peer has not told.
    address: String,
    /// The hosts at which it was last reached, and from which it last called.
    reached_at: String,
    calls_from: String,
    /// The disk that it named in the latest handshake.
    disk: u64,
    /// The version that is spoken on this node's connection, while it stands.
    outbound_control: Option<u16>,
    inbound: [Option<Inbound>; Lane::COUNT],
    /// How many inbound connections there ever were; numbers them.
    inbound_count: u64,
    /// What the owner was last told.
    connected: bool,
    diallers: Vec<AbortHandle>,
    /// How many looks in a row have found that no frame had come.
    silent_looks: u32,
}

#[derive(Debug)]
struct Inbound {
    number: u64,
    version: u16,
    reader: AbortHandle,
    shortcut: Option<Shortcut>,
}

impl Inbound {
    /// Ends it: nothing comes by it any more.
    fn end(&self) {
        self.reader.abort();
        if let Some(shortcut) = &self.shortcut {
            shortcut.close();
        }
    }
}

/// When a lane is to be dialled, as things stand.
#[derive(Debug)]
enum Demand {
    Dial,
    WhenFilled,
    Never,
}

impl Peer {
    pub fn new(id: NodeId, kind: Kind, address: String, limits: &Limits, mailbox: Arc<Mailbox>) -> Self {
        let queues = Lane::ALL.map(|lane| Queue::new(limits.of(lane)));
        let links = Links {
            kind,
            address,
            reached_at: String::new(),
            calls_from: String::new(),
            disk: 0,
            outbound_control: None,
            inbound: Default::default(),
            inbound_count: 0,
            connected: false,
            diallers: Vec::new(),
            silent_looks: 0,
        };
        let heard = AtomicBool::new(true);
        let (cut, stirred) = (Notify::new(), Notify::new());
        let (links, counters) = (Mutex::new(links), LinkCounters::default());
        let peer = Self { id, queues, links, mailbox, counters, cut, stirred, heard };
        // So that a frame is accepted where one has to be there before the peer is dialled.
        for lane in Lane::ALL {
            peer.demand(lane);
        }
        peer
    }

    pub fn queue(&self, lane: Lane) -> &Queue {
        &self.queues[lane.index()]
    }

    /// Queues a frame for it, and counts what became of that.
    pub fn send(&self, lane: Lane, frame: &[Bytes]) -> Result<Pushed, Refused> {
        let pushed = self.queue(lane).push(frame);
        match pushed {
            Ok(Pushed::Queued) => {}
            Ok(Pushed::HandedOver { bytes }) => add(&self.counters.sent_bytes, bytes as u64),
            Err(_) => add(&self.counters.unsent_frames, 1),
        }
        pushed
    }

    pub fn address(&self) -> String {
        self.links().address.clone()
    }

    /// Whether it is a regular peer that is known to be at this host: what comes from there may well be the peer.
    pub fn is_at(&self, host: &str) -> bool {
        let links = self.links();
        links.kind == Kind::Regular && (links.reached_at == host || links.calls_from == host)
    }

    /// Something answers where it is dialled, at this host.
    pub fn reached_at(&self, host: &str) {
        host.clone_into(&mut self.links().reached_at);
    }

    /// It has introduced itself on a connection from this host.
    pub fn calls_from(&self, host: &str) {
        host.clone_into(&mut self.links().calls_from);
    }

    pub fn figures(&self) -> LinkFigures {
        let is_connected = self.links().connected;
        let queued_bytes = self.queues.iter().map(|queue| queue.bytes() as u64).sum();
        LinkFigures { is_connected, queued_bytes, ..self.counters.read() }
    }

    pub fn is_unlisted(&self) -> bool {
        self.links().kind == Kind::Unlisted
    }

    /// Takes note of the tasks that dial this peer, to end them with it.
    pub fn dialled_by(&self, diallers: Vec<AbortHandle>) {
        self.links().diallers = diallers;
    }

    /// An unlisted peer becomes a regular peer, or a peer is to be found elsewhere. Its connections stay as they are,
    /// for the node at their other end has shown its identity: the address counts from the next dial.
    pub fn promote(&self, address: String) {
        let mut links = self.links();
        links.address = address;
        self.turn_into(&mut links, Kind::Regular);
    }

    /// A regular peer becomes an unlisted peer. Its connections stay as they are, and what is queued is sent.
    pub fn demote(&self) {
        self.turn_into(&mut self.links(), Kind::Unlisted);
    }

    fn turn_into(&self, links: &mut Links, kind: Kind) {
        links.kind = kind;
        // Its silence as an unlisted peer begins with being one.
        self.heard();
        self.tell(links);
        self.stirred.notify_waiters();
    }

    /// An unlisted peer has called and told where it listens. What the owner has said of a regular peer counts for more.
    pub fn unlisted_listens_at(&self, address: &str) {
        let mut links = self.links();
        if links.kind == Kind::Unlisted && !address.is_empty() && links.address != address {
            links.address = address.to_owned();
            self.stirred.notify_waiters();
        }
    }

    /// Waits until the peer is to be dialled on this lane: at once, or if it is an unlisted peer or the lane one for bulk, as
    /// soon as there is something to send.
    pub async fn demanded(&self, lane: Lane) {
        loop {
            // Made before the look: what changes after it is not missed.
            let stirred = self.stirred.notified();
            match self.demand(lane) {
                Demand::Dial => return,
                Demand::WhenFilled => tokio::select! {
                    () = self.queue(lane).filled() => {}
                    () = stirred => {}
                },
                Demand::Never => stirred.await,
            }
        }
    }

    /// Whether this lane is to be dialled. If that depends on what there is to send, frames are accepted from here on.
    fn demand(&self, lane: Lane) -> Demand {
        let links = self.links();
        match links.kind {
            Kind::Retired => return Demand::Never,
            Kind::Regular if lane != Lane::Snapshot => return Demand::Dial,
            Kind::Regular | Kind::Unlisted if links.address.is_empty() => return Demand::Never,
            Kind::Regular | Kind::Unlisted => {}
        }
        let queue = self.queue(lane);
        queue.open();
        if queue.is_empty() { Demand::WhenFilled } else { Demand::Dial }
    }

    /// A frame has come from it.
    pub fn heard(&self) {
        self.heard.store(true, Relaxed);
    }

    /// Looks whether a frame has come since the last look; returns how many looks in a row have found none.
    pub fn look(&self) -> u32 {
        let mut links = self.links();
        links.silent_looks = if self.heard.swap(false, Relaxed) { 0 } else { links.silent_looks + 1 };
        links.silent_looks
    }

    /// This node's connection to the peer stands, which has named this disk.
    pub fn outbound_up(&self, lane: Lane, disk: u64, version: u16) {
        let mut links = self.links();
        if links.kind == Kind::Retired {
            return;
        }
        links.disk = disk;
        // Opened before the owner is told, so that it can send at once.
        self.queue(lane).open();
        if lane == Lane::Control {
            links.outbound_control = Some(version);
            self.tell(&mut links);
        }
    }

    /// This node's connection to the peer is gone. Returns how many frames that waited for it are dropped.
    pub fn outbound_down(&self, lane: Lane) -> u64 {
        let mut links = self.links();
        let dropped = self.queue(lane).close();
        add(&self.counters.unsent_frames, dropped);
        if lane == Lane::Control {
            links.outbound_control = None;
            self.tell(&mut links);
        }
        dropped
    }

    /// The peer's connection to this node stands; it has named this disk. It replaces an older one: the peer would not
    /// have dialled again unless it had given that one up, whatever this side still believes. `spawn` starts the
    /// reader, which is given the connection's number.
    pub fn inbound_up(
        &self,
        (lane, version): (Lane, u16),
        disk: u64,
        shortcut: Option<Shortcut>,
        spawn: impl FnOnce(u64) -> Option<AbortHandle>,
    ) {
        let mut links = self.links();
        if links.kind == Kind::Retired {
            return;
        }
        if let Some(older) = links.inbound[lane.index()].take() {
            older.end();
            self.tell(&mut links);
        }
        links.disk = disk;
        links.inbound_count += 1;
        let number = links.inbound_count;
        links.inbound[lane.index()] = spawn(number).map(|reader| Inbound { number, version, reader, shortcut });
        self.tell(&mut links);
        // Only the tasks that wait at this moment: a signal that was kept would cut short a later, deserved wait.
        self.stirred.notify_waiters();
    }

    /// The peer's connection of that number is gone. Says nothing if a newer one has taken its place.
    pub fn inbound_down(&self, lane: Lane, number: u64) {
        let mut links = self.links();
        if links.inbound[lane.index()].as_ref().is_some_and(|inbound| inbound.number == number) {
            links.inbound[lane.index()] = None;
            self.tell(&mut links);
        }
    }

    /// Ends its connections if it has named a disk that does not pass.
    pub fn hang_up_unless(&self, passes: impl FnOnce(u64) -> bool) {
        let mut links = self.links();
        if !passes(links.disk) {
            self.cut.notify_waiters();
            self.drop_inbound(&mut links);
        }
    }

    /// The node is neither a peer nor an unlisted peer: its connections end, and it counts as lost. Returns how many frames that
    /// waited to be sent are dropped.
    pub fn retire(&self) -> u64 {
        let mut links = self.links();
        links.kind = Kind::Retired;
        self.drop_inbound(&mut links);
        for dialler in links.diallers.drain(..) {
            dialler.abort();
        }
        self.queues.iter().map(Queue::close).sum()
    }

    fn drop_inbound(&self, links: &mut Links) {
        for inbound in links.inbound.iter_mut().filter_map(Option::take) {
            inbound.end();
        }
        self.tell(links);
    }

    /// Tells the owner if a regular peer came or went, or became one or ceased to be one while it was connected. The
    /// lock is held meanwhile, so that news keep their order.
    fn tell(&self, links: &mut Links) {
        let inbound = links.inbound[Lane::Control.index()].as_ref().map(|inbound| inbound.version);
        let version = links.outbound_control.zip(inbound).map(|(outbound, inbound)| outbound.min(inbound));
        let connected = version.is_some() && links.kind == Kind::Regular;
        if connected == links.connected {
            return;
        }
        links.connected = connected;
        if connected {
            self.mailbox.connected(self.id, links.disk, version >= Some(SHARED_SINCE));
        } else {
            add(&self.counters.losses, 1);
            self.mailbox.lost(self.id);
        }
    }

    fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
