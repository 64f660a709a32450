//! One peer: its queues, and which of its connections stand.
//!
//! Owns the decision when a peer counts as connected. Must not know of sockets: connections report here when they come
//! and go.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use vlot_raft::id::NodeId;

use super::inbox::Mailbox;
use super::lane::Lane;
use super::options::Limits;
use super::queue::Queue;

#[derive(Debug)]
pub(crate) struct Peer {
    pub id: NodeId,
    /// `host:port`.
    pub address: String,
    queues: [Queue; Lane::COUNT],
    links: Mutex<Links>,
    mailbox: Arc<Mailbox>,
    /// Signalled when the peer has dialled this node: whoever waits to dial it need not wait longer.
    pub called: Notify,
}

#[derive(Debug, Default)]
struct Links {
    outbound_control: bool,
    inbound: [Option<Inbound>; Lane::COUNT],
    /// How many inbound connections there ever were; numbers them.
    inbound_count: u64,
    /// What the owner was last told.
    connected: bool,
    diallers: Vec<AbortHandle>,
    /// The node is no peer any more; nothing that its connections report counts.
    retired: bool,
}

#[derive(Debug)]
struct Inbound {
    number: u64,
    reader: AbortHandle,
}

impl Peer {
    pub fn new(id: NodeId, address: String, limits: &Limits, mailbox: Arc<Mailbox>) -> Self {
        let queues = Lane::ALL.map(|lane| Queue::new(limits.of(lane)));
        Self { id, address, queues, links: Mutex::default(), mailbox, called: Notify::new() }
    }

    pub fn queue(&self, lane: Lane) -> &Queue {
        &self.queues[lane.index()]
    }

    /// Takes note of the tasks that dial this peer, to end them with it.
    pub fn dialled_by(&self, diallers: Vec<AbortHandle>) {
        self.links().diallers = diallers;
    }

    /// This node's connection to the peer stands.
    pub fn outbound_up(&self, lane: Lane) {
        let mut links = self.links();
        if links.retired {
            return;
        }
        // Opened before the owner is told, so that it can send at once.
        self.queue(lane).open();
        if lane == Lane::Control {
            links.outbound_control = true;
            self.tell(&mut links);
        }
    }

    /// This node's connection to the peer is gone. Returns how many frames that waited for it are dropped.
    pub fn outbound_down(&self, lane: Lane) -> u64 {
        let mut links = self.links();
        let dropped = self.queue(lane).close();
        if lane == Lane::Control {
            links.outbound_control = false;
            self.tell(&mut links);
        }
        dropped
    }

    /// The peer's connection to this node stands. It replaces an older one: the peer would not have dialled again
    /// unless it had given that one up, whatever this side still believes. `spawn` starts the reader, which is given
    /// the connection's number.
    pub fn inbound_up(&self, lane: Lane, spawn: impl FnOnce(u64) -> Option<AbortHandle>) {
        let mut links = self.links();
        if links.retired {
            return;
        }
        if let Some(older) = links.inbound[lane.index()].take() {
            older.reader.abort();
            self.tell(&mut links);
        }
        links.inbound_count += 1;
        let number = links.inbound_count;
        links.inbound[lane.index()] = spawn(number).map(|reader| Inbound { number, reader });
        self.tell(&mut links);
        // Only those who wait at this moment: a signal that was kept would cut short a later, deserved wait.
        self.called.notify_waiters();
    }

    /// The peer's connection of that number is gone. Says nothing if a newer one has taken its place.
    pub fn inbound_down(&self, lane: Lane, number: u64) {
        let mut links = self.links();
        if links.inbound[lane.index()].as_ref().is_some_and(|inbound| inbound.number == number) {
            links.inbound[lane.index()] = None;
            self.tell(&mut links);
        }
    }

    /// The node is a peer no longer: its connections end, and it counts as lost.
    pub fn retire(&self) {
        let mut links = self.links();
        links.retired = true;
        self.tell(&mut links);
        let inbound = links.inbound.iter_mut().filter_map(Option::take).map(|inbound| inbound.reader);
        let tasks: Vec<_> = inbound.collect();
        for task in tasks.into_iter().chain(links.diallers.drain(..)) {
            task.abort();
        }
    }

    /// Tells the owner if the peer came or went. The lock is held meanwhile, so that news keep their order.
    fn tell(&self, links: &mut Links) {
        let connected = links.outbound_control && links.inbound[Lane::Control.index()].is_some() && !links.retired;
        if connected == links.connected {
            return;
        }
        links.connected = connected;
        if connected {
            self.mailbox.connected(self.id);
        } else {
            self.mailbox.lost(self.id);
        }
    }

    fn links(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
