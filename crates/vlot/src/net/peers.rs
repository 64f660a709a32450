//! Which nodes are peers, which are unlisted peers, and how one becomes the other.
//!
//! Owns that decision and the bound on unlisted peers. Must not know of sockets.
//!
//! Configuration changes reach nodes one after the other: a new learner is called by members that it does not know yet, a
//! lagging member by one that it has not heard of, and a member by one that does not know it was removed. All of these
//! must be heard and answered, so that a node of this cluster that calls without being a peer is let in as a *unlisted peer*.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use vlot_raft::id::NodeId;

use super::local::Local;
use super::peer::{Kind, Peer};
use super::refusal::Refusal;
use vlot_node::Lane;

/// How often unlisted peers are looked after within the time that they may be silent.
const LOOKS: u32 = 4;

/// Makes these nodes the regular peers; the rest leave or become unlisted peers.
pub(crate) fn set_peers(local: &Arc<Local>, mut wanted: BTreeMap<NodeId, String>) {
    wanted.remove(&local.identity.node);
    let mut peers = local.peers_mut();
    for (id, address) in &wanted {
        match peers.get(id) {
            Some(peer) if peer.is_unlisted() || peer.address() != *address => peer.promote(address.clone()),
            Some(_) => {}
            None => drop(peers.insert(*id, begin_dialling(local, *id, Kind::Regular, address.clone()))),
        }
    }
    let mut room = local.limits.unlisted_max.saturating_sub(unlisted(&peers));
    peers.retain(|id, peer| {
        if wanted.contains_key(id) || peer.is_unlisted() {
            return true;
        }
        let stays = room > 0;
        if stays {
            room -= 1;
            peer.demote();
        } else {
            retire(local, peer);
        }
        stays
    });
}

/// Makes these the disks that are entitled to their seats. Connections of a node that has named another are closed.
pub(crate) fn set_disks(local: &Local, entitled: BTreeMap<NodeId, u64>) {
    let before = local.disks.set(entitled);
    for node in before.into_keys().filter(|node| !local.disks.know(*node)) {
        local.complaints.forget(node);
    }
    for (id, peer) in &*local.peers() {
        peer.hang_up_unless(|disk| local.disks.admit(*id, disk));
    }
}

/// The peer of that id, or else an unlisted peer that listens there.
pub(crate) fn peer_or_unlisted(local: &Arc<Local>, id: NodeId, address: &str) -> Result<Arc<Peer>, Refusal> {
    if let Some(peer) = local.peer(id) {
        peer.unlisted_listens_at(address);
        return Ok(peer);
    }
    let mut peers = local.peers_mut();
    let places = local.limits.unlisted_max.saturating_sub(unlisted(&peers));
    // It may have become one since it was looked for.
    if places == 0 && !peers.contains_key(&id) {
        return Err(Refusal::TooManyUnlisted);
    }
    let unlisted = peers.entry(id).or_insert_with(|| begin_dialling(local, id, Kind::Unlisted, address.to_owned()));
    Ok(Arc::clone(unlisted))
}

/// Sees unlisted peers off that have been silent for too long, for as long as the node lives.
pub(crate) async fn evict_silent_peers(local: Arc<Local>) {
    loop {
        sleep(local.limits.unlisted_silence_max.max(Duration::from_millis(LOOKS.into())) / LOOKS).await;
        local.peers_mut().retain(|_, peer| {
            let stays = !peer.is_unlisted() || peer.look() < LOOKS;
            if !stays {
                retire(&local, peer);
            }
            stays
        });
    }
}

fn unlisted(peers: &BTreeMap<NodeId, Arc<Peer>>) -> usize {
    peers.values().filter(|peer| peer.is_unlisted()).count()
}

fn retire(local: &Local, peer: &Peer) {
    local.retire(peer);
    local.complaints.forget(peer.id);
}

fn begin_dialling(local: &Arc<Local>, id: NodeId, kind: Kind, address: String) -> Arc<Peer> {
    let peer = Arc::new(Peer::new(id, kind, address, &local.limits, Arc::clone(&local.mailbox)));
    let diallers = Lane::ALL.into_iter().filter_map(|lane| Arc::clone(&local.dialler).dial_lane(local, &peer, lane));
    let diallers: Vec<_> = diallers.collect();
    if diallers.is_empty() {
        // The transport is shut down.
        local.retire(&peer);
    }
    peer.dialled_by(diallers);
    peer
}
