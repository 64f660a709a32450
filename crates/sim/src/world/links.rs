//! Frames and connections between processes.

use super::{DIAL_AGAIN, Event, World};
use crate::network::Place;
use crate::transcript::Note;
use bytes::Bytes;
use vlot::wire::Parcel;

impl World {
    pub(super) fn send(&mut self, from: Place, to: Place, lane: vlot::net::Lane, bytes: Bytes) {
        let mut arrivals = self.network.send(self.agenda.now(), from, to, lane);
        // Messages of consensus may come twice. A proposal may not: its sender counts on a transport which delivers
        // what it was given once or not at all.
        arrivals.second =
            arrivals.second.filter(|_| !matches!(Parcel::decode(bytes.clone()), Ok((_, Parcel::Propose { .. }))));
        let (incarnation, connection) = (self.hosts[to].incarnation, self.network.connection(from, to));
        for at in [arrivals.first, arrivals.second].into_iter().flatten() {
            self.agenda.at(at, Event::Frame { to, incarnation, from, connection, bytes: bytes.clone() });
        }
        self.note(Note::Sent(from, to, bytes, arrivals));
    }

    pub(super) fn dial(&mut self, a: Place, b: Place) {
        if self.hosts[a].process.is_none() || self.hosts[b].process.is_none() || self.network.connected(a, b) {
            return;
        }
        if !self.network.can_connect(a, b) {
            self.agenda.after(DIAL_AGAIN, Event::Dial(a, b));
            return;
        }
        self.network.connect(a, b);
        self.note(Note::Connected(a, b));
        self.tell(a, b, true);
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
