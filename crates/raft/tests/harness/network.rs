//! Messages under way. A link can be cut (what is sent is lost) or held (what is sent waits); what is under way can be
//! dropped, repeated and delivered in any order.

use std::collections::BTreeSet;

use vlot_raft::id::NodeId;
use vlot_raft::message::Message;

use super::journal::Journal;

/// From one node to another; each direction is a link of its own.
pub type Link = (NodeId, NodeId);

/// One message under way.
#[derive(Clone)]
pub struct Packet {
    pub from: NodeId,
    pub to: NodeId,
    pub message: Message,
}

impl Packet {
    pub fn link(&self) -> Link {
        (self.from, self.to)
    }
}

#[derive(Default)]
pub struct Network {
    pub cut: BTreeSet<Link>,
    pub held: BTreeSet<Link>,
    pub flight: Vec<Packet>,
}

impl Network {
    pub fn is_cut(&self, link: Link) -> bool {
        self.cut.contains(&link)
    }

    /// The oldest message that nothing holds up.
    pub fn next(&self) -> Option<usize> {
        self.flight.iter().position(|packet| !self.held.contains(&packet.link()))
    }

    /// Where the `nth` message of a link is, the oldest being the first.
    pub fn nth(&self, link: Link, nth: usize) -> Option<usize> {
        let on_link = self.flight.iter().enumerate().filter(|(_, packet)| packet.link() == link);
        on_link.map(|(at, _)| at).nth(nth - 1)
    }

    /// Loses what is under way to or from a node.
    pub fn lose_all_of(&mut self, node: NodeId) {
        self.flight.retain(|packet| packet.from != node && packet.to != node);
    }
}

/// Sends, and writes down what becomes of it at once.
pub fn send(network: &mut Network, journal: &mut Journal, packet: Packet) {
    let link = packet.link();
    if network.is_cut(link) {
        return journal.message(link.0, "-x", link.1, &packet.message);
    }
    if network.held.contains(&link) {
        journal.message(link.0, "-|", link.1, &packet.message);
    }
    network.flight.push(packet);
}
