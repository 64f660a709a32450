//! What all tasks of one node's transport share.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinSet};
use vlot_node::act::Complaint;
use vlot_raft::id::NodeId;

use super::complaints::{Complaints, Fault};
use super::disks::Disks;
use super::inbox::Mailbox;
use super::options::{Identity, Limits};
use super::pace::Pace;
use super::pages::Pages;
use super::peer::Peer;
use super::refusal::Refusal;
use super::stats::{Counters, add};
use super::tls::Security;
use super::transport::Dialler;

#[derive(Debug)]
pub(crate) struct Local {
    pub identity: Identity,
    pub advertise: Option<String>,
    pub security: Option<Security>,
    pub pages: Option<Pages>,
    pub limits: Limits,
    pub dialler: Arc<dyn Dialler>,
    /// Of TLS handshakes with callers who may be anyone.
    pub pace: Pace,
    pub disks: Disks,
    pub mailbox: Arc<Mailbox>,
    pub counters: Counters,
    pub complaints: Complaints,
    peers: RwLock<BTreeMap<NodeId, Arc<Peer>>>,
    /// `None` once the transport is shut down: no task starts after that.
    tasks: Mutex<Option<JoinSet<()>>>,
    runtime: Handle,
}

/// What the owner has decided.
#[derive(Debug)]
pub(crate) struct Owned {
    pub identity: Identity,
    /// Where other nodes reach this one, if that is known.
    pub advertise: Option<String>,
    pub security: Option<Security>,
    pub pages: Option<Pages>,
    pub limits: Limits,
}

impl Local {
    pub fn new(owned: Owned, dialler: Arc<dyn Dialler>, mailbox: Arc<Mailbox>, runtime: Handle) -> Self {
        let Owned { identity, advertise, security, pages, limits } = owned;
        Self {
            identity,
            advertise,
            security,
            pages,
            pace: Pace::new(limits.strange_handshakes_per_second),
            limits,
            dialler,
            disks: Disks::default(),
            mailbox,
            counters: Counters::default(),
            complaints: Complaints::default(),
            peers: RwLock::default(),
            tasks: Mutex::new(Some(JoinSet::new())),
            runtime,
        }
    }

    /// Starts a task that ends with the transport at the latest.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Option<AbortHandle> {
        let mut tasks = self.tasks();
        let tasks = tasks.as_mut()?;
        // Forgets those that have ended, or the set would grow with every connection there ever was.
        while tasks.try_join_next().is_some() {}
        Some(tasks.spawn_on(task, &self.runtime))
    }

    /// Ends the transport: no event comes and no task starts after this. Returns the tasks, which end when they are
    /// dropped, or `None` if that was done before.
    pub fn close(&self) -> Option<JoinSet<()>> {
        self.mailbox.close();
        let tasks = self.tasks().take();
        for peer in self.peers().values() {
            self.retire(peer);
        }
        tasks
    }

    /// Ends a peer, and counts what was meant for it.
    pub fn retire(&self, peer: &Peer) {
        add(&self.counters.dropped_frames, peer.retire());
    }

    pub fn peer(&self, id: NodeId) -> Option<Arc<Peer>> {
        self.peers().get(&id).cloned()
    }

    pub fn peers(&self) -> RwLockReadGuard<'_, BTreeMap<NodeId, Arc<Peer>>> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn peers_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<NodeId, Arc<Peer>>> {
        self.peers.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a peer is known to be at this host.
    pub fn has_peer_at(&self, host: &str) -> bool {
        self.peers().values().any(|peer| peer.is_at(host))
    }

    /// Counts a handshake that this node refused, and tells of it if that is due.
    pub fn note_refused(&self, claims_to_be: Option<NodeId>, at: &str, reason: Refusal) {
        self.note_refused_because(claims_to_be, at, reason, &reason);
    }

    /// As [`note_refused`](Self::note_refused), with more to say than the reason alone.
    pub fn note_refused_because(&self, claims_to_be: Option<NodeId>, at: &str, reason: Refusal, why: &dyn Display) {
        self.counters.handshakes_refused.count(reason);
        let peer = claims_to_be.filter(|id| self.knows(*id));
        if let Some(untold) = self.complaints.due(peer, Fault::Refused(reason), Instant::now()) {
            let claims_to_be = claims_to_be.map(|id| id.0);
            tracing::warn!(claims_to_be, at, reason = %why, untold, "refused a peer's handshake");
        }
    }

    /// Tells the owner, if that is due, that a node has another disk than the entitled one: the peer or this node.
    pub fn report_other_disk(&self, peer: NodeId, node: NodeId, disk: u64) {
        let fault = Fault::OtherDisk { own: node == self.identity.node };
        let known = Some(peer).filter(|id| self.knows(*id));
        if self.complaints.due(known, fault, Instant::now()).is_some() {
            self.mailbox.other_disk(peer, node, disk);
        }
    }

    /// Whether complaints about a node are kept apart from those about all other callers.
    fn knows(&self, node: NodeId) -> bool {
        self.peers().contains_key(&node) || self.disks.know(node)
    }

    /// Tells, if that is due, that incoming connections cannot be accepted.
    pub fn note_cannot_accept(&self, error: &std::io::Error) {
        if let Some(untold) = self.complaints.due(None, Fault::CannotAccept, Instant::now()) {
            tracing::warn!(%error, untold, "cannot accept peers' connections");
        }
    }

    /// Counts a frame beyond the bound, and tells of it if that is due.
    pub fn note_oversized(&self, peer: NodeId, at: &str, bytes: usize) {
        add(&self.counters.oversized_frames, 1);
        if let Some(untold) = self.complaints.due(Some(peer), Fault::OversizedFrame, Instant::now()) {
            tracing::warn!(
                peer = peer.0,
                at,
                bytes,
                untold,
                "a peer announced a frame beyond the bound, and was hung up on; have all nodes the same bounds of frames, \
                 and is it one of them that calls?"
            );
        }
    }

    /// Tells, if that is due, what a peer has sent that was ignored.
    pub fn note_misbehaved(&self, peer: NodeId, complaint: &Complaint) {
        let known = Some(peer).filter(|id| self.knows(*id));
        if let Some(untold) = self.complaints.due(known, Fault::Misbehaved(kind_of(complaint)), Instant::now()) {
            tracing::warn!(%peer, %complaint, untold, "a peer misbehaves; ignored");
        }
    }

    fn tasks(&self) -> MutexGuard<'_, Option<JoinSet<()>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn kind_of(complaint: &Complaint) -> &'static str {
    match complaint {
        Complaint::Frame(_) => "frame",
        Complaint::TransferFrame(_) => "transfer frame",
        Complaint::UnknownGroup(_) => "unknown group",
        Complaint::Message(_) => "message",
        Complaint::OtherDisk { .. } => "other disk",
    }
}
