//! Frames and connections between processes.

use super::{DIAL_AGAIN, Event, Outgoing, World};
use crate::host::GROUP;
use crate::network::{Place, node_at};
use crate::transcript::Note;
use vlot::wire::PeerMessage;
use vlot_raft::effect::RoleName;
use vlot_raft::raft::Raft;

impl World {
    /// Sends a frame. `may_ask` says that it may be one that asks for a change of members.
    pub(super) fn send(&mut self, from: Place, (to, lane, bytes): Outgoing, may_ask: bool) {
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
        arrivals.second = arrivals.second.filter(|_| !is_once());
        let is_change = may_ask && matches!(PeerMessage::decode(bytes.clone()), Ok((_, PeerMessage::Change { .. })));
        let (incarnation, connection) = (self.hosts[to].incarnation, self.network.connection(from, to));
        for at in [arrivals.first, arrivals.second].into_iter().flatten() {
            if is_change {
                self.change_leaves();
            }
            self.agenda.at(at, Event::Frame { to, incarnation, from, connection, is_change, bytes: bytes.clone() });
        }
        self.note(Note::Sent(from, to, bytes, arrivals));
    }

    /// What a process had to send when it stood still.
    pub(super) fn send_late(&mut self, from: Place, incarnation: u32, frames: Vec<Outgoing>) {
        let host = &self.hosts[from];
        if host.incarnation == incarnation && host.process.is_some() {
            frames.into_iter().for_each(|frame| self.send(from, frame, false));
        }
    }

    pub(super) fn dial(&mut self, a: Place, b: Place) {
        if self.hosts[a].process.is_none() || self.hosts[b].process.is_none() || self.network.connected(a, b) {
            return;
        }
        if !self.network.can_connect(a, b) {
            self.agenda.after(DIAL_AGAIN, Event::Dial(a, b));
            return;
        }
        for (knows, peer) in [(a, b), (b, a)] {
            if self.knows_by_another_disk(knows, peer) {
                self.note(Note::KeptOut(knows, peer));
                self.agenda.after(DIAL_AGAIN, Event::Dial(a, b));
                return;
            }
        }
        self.network.connect(a, b);
        self.note(Note::Connected(a, b));
        self.tell(a, b, true);
    }

    /// Whether a node takes the disk of another for the wrong one, as the members in its log say. Who counts neither votes
    /// nor acknowledgements lets it in (`vlot/src/driver.rs`).
    fn knows_by_another_disk(&self, place: Place, peer: Place) -> bool {
        let counts = |raft: &Raft| matches!(raft.role_state().role, RoleName::Candidate | RoleName::Leader);
        let process = self.hosts[place].process.as_ref().filter(|_| self.hosts[place].raft().is_some_and(counts));
        let members = process.and_then(|process| process.core.members(GROUP));
        let known = members.map_or(0, |members| members.disk(node_at(peer)));
        known != 0 && known != self.hosts[peer].disk_id
    }

    /// A node's log says something else of the members than before: it hangs up on those that have another disk.
    pub(super) fn meet_members(&mut self, place: Place) {
        for peer in (0..self.hosts.len()).filter(|&peer| peer != place) {
            if self.network.connected(place, peer) && self.knows_by_another_disk(place, peer) {
                self.disconnect(place, peer);
                self.agenda.after(DIAL_AGAIN, Event::Dial(place, peer));
            }
        }
    }

    pub(super) fn disconnect(&mut self, a: Place, b: Place) {
        if self.network.disconnect(a, b) {
            self.note(Note::Disconnected(a, b));
            self.tell(a, b, false);
        }
    }

    /// Both ends hear of it, a little later.
    pub(super) fn tell(&mut self, a: Place, b: Place, up: bool) {
        for (to, peer) in [(a, b), (b, a)] {
            let incarnation = self.hosts[to].incarnation;
            // Gone is heard before up again: both take as long.
            self.agenda.after(self.conditions.latency, Event::News { to, incarnation, peer, up });
        }
    }
}
