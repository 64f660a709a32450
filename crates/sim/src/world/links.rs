//! Frames and connections between processes.
//!
//! A connection stands between two nodes of which one calls the other, if each lets the other's disk in. A node hears of
//! those to the nodes that it calls itself; it answers the others as long as they are there.

use super::{DIAL_AGAIN, Event, World};
use crate::agenda::Span;
use crate::place::{Place, node_at};
use crate::subject::Subject;
use crate::transcript::Note;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use vlot_node::Lane;
use vlot_node::input::Input;
use vlot_node::payload;
use vlot_node::wire::PeerMessage;
use vlot_raft::id::NodeId;
use vlot_raft::invariants::Violation;

impl<S: Subject> World<S> {
    /// Sends a frame. `may_ask` says that it may be one that asks for a change of members.
    pub(super) fn send(&mut self, from: Place, to: Place, lane: Lane, bytes: Bytes, may_ask: bool) {
        let mut arrivals = self.network.send(self.agenda.now(), from, to, lane);
        // Messages of consensus may come twice. A proposal may not: its sender counts on a transport which delivers
        // what it was given once or not at all.
        let is_once = || {
            let message = PeerMessage::decode(bytes.clone());
            matches!(
                message,
                Ok((_, PeerMessage::Propose { .. } | PeerMessage::Change { .. } | PeerMessage::ChangeRefused { .. }))
            )
        };
        arrivals.second = arrivals.second.filter(|_| lane != Lane::Snapshot && !is_once());
        let is_change = may_ask && matches!(PeerMessage::decode(bytes.clone()), Ok((_, PeerMessage::Change { .. })));
        let (incarnation, connection) = (self.hosts[to].incarnation, self.network.connection(from, to));
        for at in [arrivals.first, arrivals.second].into_iter().flatten() {
            if is_change {
                self.change_leaves();
            }
            let bytes = bytes.clone();
            self.agenda.at(at, Event::Frame { to, incarnation, from, connection, lane, is_change, bytes });
        }
        self.note(Note::Sent(from, to, bytes, arrivals));
    }

    pub(super) fn frame_arrives(
        &mut self,
        to: Place,
        incarnation: u32,
        from: Place,
        connection: u32,
        is_change: bool,
        (lane, bytes): (Lane, Bytes),
    ) -> Result<(), Violation> {
        // Late frames of a connection that is gone are rare, and harmless or not.
        let is_late = connection != self.network.connection(from, to) || !self.network.connected(from, to);
        let is_lost = is_late && self.rng.coin();
        if is_change {
            self.change_arrives(to, incarnation, is_lost);
        }
        if is_lost {
            return Ok(());
        }
        let reads_shared = self.hosts[to].process.as_ref().is_none_or(|process| process.reads_shared);
        if !reads_shared && lane != Lane::Snapshot && has_shared(&bytes) {
            let shown_by = format!("n{} sends n{}, an earlier program, what it cannot read", from + 1, to + 1);
            return Err(Violation { property: "Earlier Programs Read What They Get", shown_by });
        }
        self.give(to, incarnation, Input::Frame { from: node_at(from), lane, bytes });
        Ok(())
    }

    /// A node calls these from now on.
    pub(super) fn set_peers(&mut self, place: Place, peers: BTreeSet<Place>) {
        let Some(process) = &mut self.hosts[place].process else { return };
        let before = std::mem::replace(&mut process.peers, peers.clone());
        for &peer in peers.symmetric_difference(&before) {
            if self.network.connected(place, peer) {
                self.tell_one(place, peer, peers.contains(&peer));
            } else if peers.contains(&peer) {
                self.agenda.after(self.rng.skewed(Span::millis(10)), Event::Dial(place, peer));
            }
        }
    }

    /// A node knows nodes by these disks from now on, and hangs up on those that have another.
    pub(super) fn set_disks(&mut self, place: Place, disks: BTreeMap<NodeId, u64>) {
        let Some(process) = &mut self.hosts[place].process else { return };
        process.disks = disks;
        for peer in (0..self.hosts.len()).filter(|&peer| peer != place) {
            if self.network.connected(place, peer) && self.keeps_out(place, peer) {
                self.disconnect(place, peer);
                self.agenda.after(DIAL_AGAIN, Event::Dial(place, peer));
            }
        }
    }

    pub(super) fn dial(&mut self, a: Place, b: Place) {
        let calls = |from: Place, to: Place| self.hosts[from].process.as_ref().is_some_and(|it| it.peers.contains(&to));
        let are_up = self.hosts[a].process.is_some() && self.hosts[b].process.is_some();
        if !are_up || self.network.connected(a, b) || !(calls(a, b) || calls(b, a)) {
            return;
        }
        if !self.network.can_connect(a, b) {
            self.agenda.after(DIAL_AGAIN, Event::Dial(a, b));
            return;
        }
        for (knows, peer) in [(a, b), (b, a)] {
            if self.keeps_out(knows, peer) {
                self.note(Note::KeptOut(knows, peer));
                let (node, disk) = (node_at(peer), self.hosts[peer].disk_id);
                for (place, other) in [(a, b), (b, a)] {
                    self.tell_node(place, Input::OtherDisk { peer: node_at(other), node, disk });
                }
                self.agenda.after(DIAL_AGAIN, Event::Dial(a, b));
                return;
            }
        }
        self.network.connect(a, b);
        self.note(Note::Connected(a, b));
        self.tell(a, b, true);
    }

    /// Whether a node takes the disk of another for the wrong one.
    fn keeps_out(&self, place: Place, peer: Place) -> bool {
        let known = self.hosts[place].process.as_ref().and_then(|process| process.disks.get(&node_at(peer)));
        known.is_some_and(|known| *known != 0 && *known != self.hosts[peer].disk_id)
    }

    pub(super) fn disconnect(&mut self, a: Place, b: Place) {
        if self.network.disconnect(a, b) {
            self.note(Note::Disconnected(a, b));
            self.tell(a, b, false);
        }
    }

    /// Both ends hear of it, if they call the other.
    fn tell(&mut self, a: Place, b: Place, up: bool) {
        for (to, peer) in [(a, b), (b, a)] {
            if self.hosts[to].process.as_ref().is_some_and(|process| process.peers.contains(&peer)) {
                self.tell_one(to, peer, up);
            }
        }
    }

    /// An end hears of it a little later.
    fn tell_one(&mut self, to: Place, peer: Place, up: bool) {
        let incarnation = self.hosts[to].incarnation;
        // Gone is heard before up again: both take as long.
        self.agenda.after(self.conditions.network.latency, Event::News { to, incarnation, peer, up });
    }

    pub(super) fn hear(&mut self, to: Place, incarnation: u32, peer: Place, up: bool) {
        let (host, node) = (&self.hosts[peer], node_at(peer));
        // Of one that is down by now, what was said is not heard.
        let reads_shared = host.process.as_ref().is_some_and(|process| process.reads_shared);
        let connected = Input::Connected { peer: node, disk: host.disk_id, reads_shared };
        self.give(to, incarnation, if up { connected } else { Input::Lost { peer: node } });
    }
}

/// Whether commands share a payload in a frame.
fn has_shared(frame: &Bytes) -> bool {
    let payloads = match PeerMessage::decode(frame.clone()) {
        Ok((_, PeerMessage::Raft { payloads, .. } | PeerMessage::Propose { payloads, .. })) => payloads,
        _ => return false,
    };
    payloads.iter().any(|payload| payload::is_shared(payload))
}
