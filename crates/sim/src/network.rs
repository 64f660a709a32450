//! The network between nodes: latency, loss, duplication, reordering, cuts, and connections that come and go.
//!
//! Owns the state of every link and decides when a frame arrives, if it does. Must not know what is in a frame, nor
//! what a node does with it.

use crate::agenda::{Moment, Span};
use crate::place::Place;
use crate::rng::Rng;
use vlot_node::Lane;

/// How a network is by itself, without faults that strike it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    /// How long a frame is under way, typically.
    pub latency: Span,
    /// Frames lost, of a million.
    pub loss: u64,
    /// Frames that come twice, of a million.
    pub duplication: u64,
    /// Frames that overtake those before them, of a million.
    pub reordering: u64,
}

/// All links between nodes.
#[derive(Debug)]
pub struct Network {
    nodes: usize,
    /// One for each direction of each pair.
    links: Vec<Link>,
    /// One for each pair, at `[a][b]` with `a < b`.
    connections: Vec<Connection>,
    reordering: u64,
    duplication: u64,
    loss: u64,
    rng: Rng,
}

/// One direction between two nodes.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    latency: Span,
    /// How many cuts hold. A frame passes if there are none.
    cuts: u32,
    /// How many times slower than usual.
    slowness: u64,
    /// When the last frame of each lane arrives: the next one arrives after it, unless it overtakes.
    arrival: [Moment; Lane::COUNT],
}

/// The connection of a pair of nodes.
#[derive(Clone, Copy, Debug, Default)]
struct Connection {
    up: bool,
    /// How many there were.
    count: u32,
}

/// When copies of a frame arrive.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Arrivals {
    /// The frame; it may be lost.
    pub first: Option<Moment>,
    /// Its double.
    pub second: Option<Moment>,
}

impl Network {
    /// A network of so many nodes.
    #[must_use]
    pub fn new(nodes: usize, rates: Rates, mut rng: Rng) -> Self {
        let Rates { latency, loss, duplication, reordering } = rates;
        let links = (0..nodes * nodes)
            .map(|_| Link { latency: rng.span(Span(latency.0 / 2), latency * 2), slowness: 1, ..Link::default() })
            .collect();
        let connections = vec![Connection::default(); nodes * nodes];
        Self { nodes, links, connections, reordering, duplication, loss, rng }
    }

    /// Decides when a frame that is sent at `now` arrives.
    pub fn send(&mut self, now: Moment, from: Place, to: Place, lane: Lane) -> Arrivals {
        let connected = self.connected(from, to);
        let link = &mut self.links[from * self.nodes + to];
        if link.cuts > 0 || !connected || self.rng.happens(self.loss) {
            return Arrivals::default();
        }
        let way = (link.latency + Span(self.rng.below(link.latency.0 / 2))) * link.slowness;
        let arrival = &mut link.arrival[lane.index()];
        // What is sent in bulk has a connection of its own, and nothing that it could overtake.
        let first = if lane != Lane::Snapshot && self.rng.happens(self.reordering) {
            now + way + self.rng.skewed(link.latency * 4)
        } else {
            // Frames of one connection keep their order.
            *arrival = (now + way).max(*arrival + Span(1));
            *arrival
        };
        // A double may come much later: when its connection is gone, or its sender has died and come back.
        let doubled = self.rng.happens(self.duplication);
        let second = doubled.then(|| {
            let typical = self.rng.pick(&[5, 300, 3_000]);
            first + self.rng.skewed(Span::millis(typical))
        });
        Arrivals { first: Some(first), second }
    }

    /// Whether there is a connection.
    #[must_use]
    pub fn connected(&self, a: Place, b: Place) -> bool {
        self.connections[self.pair(a, b)].up
    }

    /// How many connections there were between two nodes: tells a frame of an old one.
    #[must_use]
    pub fn connection(&self, a: Place, b: Place) -> u32 {
        self.connections[self.pair(a, b)].count
    }

    /// Whether frames pass in both directions, so that a connection can come to be.
    #[must_use]
    pub fn can_connect(&self, a: Place, b: Place) -> bool {
        self.links[a * self.nodes + b].cuts == 0 && self.links[b * self.nodes + a].cuts == 0
    }

    /// Makes a connection. False if there is one.
    pub fn connect(&mut self, a: Place, b: Place) -> bool {
        let pair = self.pair(a, b);
        let connection = &mut self.connections[pair];
        let was_up = std::mem::replace(&mut connection.up, true);
        connection.count += u32::from(!was_up);
        // Nothing waits in a new connection.
        for link in [a * self.nodes + b, b * self.nodes + a] {
            self.links[link].arrival = Default::default();
        }
        !was_up
    }

    /// Ends a connection. False if there is none.
    pub fn disconnect(&mut self, a: Place, b: Place) -> bool {
        let pair = self.pair(a, b);
        std::mem::replace(&mut self.connections[pair].up, false)
    }

    /// Cuts a direction; it passes frames again after as many calls of [`Network::mend`].
    pub fn cut(&mut self, from: Place, to: Place) {
        self.links[from * self.nodes + to].cuts += 1;
    }

    /// Takes back one cut.
    pub fn mend(&mut self, from: Place, to: Place) {
        let cuts = &mut self.links[from * self.nodes + to].cuts;
        *cuts = cuts.saturating_sub(1);
    }

    /// Makes a direction so many times slower than usual. What is under way when that ends is overtaken.
    pub fn slow(&mut self, from: Place, to: Place, times: u64) {
        let link = &mut self.links[from * self.nodes + to];
        (link.slowness, link.arrival) = (times, Default::default());
    }

    /// Loses so many frames of a million, everywhere. Returns how many it were before.
    pub fn lose(&mut self, per_million: u64) -> u64 {
        std::mem::replace(&mut self.loss, per_million)
    }

    /// Ends all faults.
    pub fn heal(&mut self) {
        for link in &mut self.links {
            (link.cuts, link.slowness, link.arrival) = (0, 1, Default::default());
        }
        (self.reordering, self.duplication, self.loss) = (0, 0, 0);
    }

    fn pair(&self, a: Place, b: Place) -> usize {
        a.min(b) * self.nodes + a.max(b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(change: impl FnOnce(&mut Rates)) -> Network {
        let mut rates = Rates { latency: Span::micros(500), ..Rates::default() };
        change(&mut rates);
        let mut network = Network::new(3, rates, Rng::new(1, 1));
        network.connect(0, 1);
        network
    }

    fn arrivals(network: &mut Network, count: u64) -> Vec<Moment> {
        (0..count).filter_map(|n| network.send(Moment(n * 1000), 0, 1, Lane::Control).first).collect()
    }

    #[test]
    fn frames_of_a_lane_keep_their_order() {
        let arrivals = arrivals(&mut network(|_| ()), 1000);
        assert_eq!(arrivals.len(), 1000);
        assert!(arrivals.is_sorted());
    }

    #[test]
    fn faults_happen_as_often_as_told() {
        assert!(!arrivals(&mut network(|rates| rates.reordering = 300_000), 1000).is_sorted());
        let passed = arrivals(&mut network(|rates| rates.loss = 200_000), 1000).len();
        assert!((750..850).contains(&passed), "{passed}");
        let mut doubling = network(|rates| rates.duplication = 500_000);
        let doubled = (0..1000).filter(|_| doubling.send(Moment(0), 0, 1, Lane::Entries).second.is_some()).count();
        assert!((450..550).contains(&doubled), "{doubled}");
    }

    #[test]
    fn a_cut_is_one_way_and_counted() {
        let mut network = network(|_| ());
        network.cut(0, 1);
        network.cut(0, 1);
        network.mend(0, 1);
        assert_eq!(network.send(Moment(0), 0, 1, Lane::Control), Arrivals::default());
        assert!(network.send(Moment(0), 1, 0, Lane::Control).first.is_some());
        network.mend(0, 1);
        assert!(network.send(Moment(0), 0, 1, Lane::Control).first.is_some());
        assert_eq!(network.send(Moment(0), 0, 2, Lane::Control), Arrivals::default(), "never connected");
    }
}
