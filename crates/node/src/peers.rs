//! Which nodes this one talks to, where they listen, which disks they have, and whether they are alive.
//!
//! Owns the sum over all groups: what each adds is counted, so that a change of one group costs no look at the others.
//! Must not know of sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use vlot_raft::id::NodeId;
use vlot_raft::time::Time;

use crate::members::Members;

/// The other nodes, as all groups together know them.
#[derive(Debug)]
pub(crate) struct Peers {
    own: NodeId,
    /// Where nodes listen that no group's members name: told when the node was opened.
    told: BTreeMap<NodeId, String>,
    /// How many groups name the node, and the address that was named last.
    named: BTreeMap<NodeId, (usize, String)>,
    /// Groups that do not know their members yet.
    without_members: usize,
    /// How many groups entitle the node to this disk.
    entitled: BTreeMap<(NodeId, u64), usize>,
    connected: BTreeMap<NodeId, Connection>,
    /// Those that were told last.
    listed: BTreeSet<NodeId>,
    /// What is to be told is another than was told last.
    are_others: bool,
    disks_are_others: bool,
}

/// A peer that is connected.
#[derive(Clone, Copy, Debug)]
struct Connection {
    /// The disk that it says it has; zero if it does not tell.
    disk: u64,
    /// It reads entries that commands share.
    reads_shared: bool,
    /// When something came from it, and when something was sent to it.
    heard: Time,
    sent: Time,
    /// Nothing came from it for a timeout, and that was said.
    is_silent: bool,
}

impl Peers {
    pub(crate) fn new(own: NodeId, told: BTreeMap<NodeId, String>) -> Self {
        let listed = told.keys().copied().filter(|node| *node != own).collect();
        Self {
            own,
            told,
            named: BTreeMap::new(),
            without_members: 0,
            entitled: BTreeMap::new(),
            connected: BTreeMap::new(),
            // The transport is told these before the node is.
            listed,
            are_others: true,
            disks_are_others: false,
        }
    }

    /// A group names these members, and no longer those.
    pub(crate) fn members_changed(&mut self, before: Option<&Members>, after: Option<&Members>) {
        for (member, address) in after.into_iter().flat_map(Members::iter) {
            let (count, named) = self.named.entry(member.node).or_default();
            *count += 1;
            self.are_others |= *count == 1;
            if !address.is_empty() && *named != address {
                address.clone_into(named);
                self.are_others = true;
            }
        }
        for (member, _) in before.into_iter().flat_map(Members::iter) {
            let Some((count, _)) = self.named.get_mut(&member.node) else { continue };
            *count -= 1;
            if *count == 0 {
                self.named.remove(&member.node);
                self.are_others = true;
            }
        }
        let is_empty = |members: Option<&Members>| members.is_some_and(|members| members.iter().next().is_none());
        let (was_unknown, is_unknown) = (is_empty(before), is_empty(after));
        self.without_members = self.without_members + usize::from(is_unknown) - usize::from(was_unknown);
        self.are_others |= was_unknown != is_unknown;
    }

    /// A group that counts votes or acknowledgements entitles members to these disks, and no longer to those.
    pub(crate) fn entitled_changed(&mut self, before: &[(NodeId, u64)], after: &[(NodeId, u64)]) {
        for disk in after {
            let count = self.entitled.entry(*disk).or_default();
            *count += 1;
            self.disks_are_others |= *count == 1;
        }
        for disk in before {
            let Some(count) = self.entitled.get_mut(disk) else { continue };
            *count -= 1;
            if *count == 0 {
                self.entitled.remove(disk);
                self.disks_are_others = true;
            }
        }
    }

    /// The peers and where they listen, if they are others than those that were taken last; and those that are none any
    /// more.
    pub(crate) fn take_changed(&mut self) -> Option<(BTreeMap<NodeId, String>, Vec<NodeId>)> {
        if !std::mem::take(&mut self.are_others) {
            return None;
        }
        // Once every group knows its members, no other node is called, whatever was told at first.
        let all_know = self.without_members == 0 && !self.named.is_empty();
        let mut peers = self.told.clone();
        peers.retain(|node, _| !all_know || self.named.contains_key(node));
        for (node, (_, address)) in &self.named {
            if !address.is_empty() {
                peers.insert(*node, address.clone());
            }
        }
        peers.remove(&self.own);
        let before = std::mem::replace(&mut self.listed, peers.keys().copied().collect());
        let gone: Vec<NodeId> = before.difference(&self.listed).copied().collect();
        gone.iter().for_each(|peer| self.lost(*peer));
        Some((peers, gone))
    }

    /// Whether the node is one of the peers that were told last.
    pub(crate) fn is_listed(&self, node: NodeId) -> bool {
        self.listed.contains(&node)
    }

    /// The disks that are entitled to their nodes' seats, if they are others than those that were taken last.
    pub(crate) fn take_changed_disks(&mut self) -> Option<BTreeMap<NodeId, u64>> {
        std::mem::take(&mut self.disks_are_others).then(|| self.entitled.keys().copied().collect())
    }

    pub(crate) fn connected(&mut self, now: Time, peer: NodeId, disk: u64, reads_shared: bool) {
        self.connected.insert(peer, Connection { disk, reads_shared, heard: now, sent: now, is_silent: false });
    }

    /// The peer that comes back may have another disk.
    pub(crate) fn lost(&mut self, peer: NodeId) {
        self.connected.remove(&peer);
    }

    /// The peers that are connected, and whether each reads entries that commands share.
    pub(crate) fn all_connected(&self) -> impl Iterator<Item = (NodeId, bool)> + '_ {
        self.connected.iter().map(|(peer, connection)| (*peer, connection.reads_shared))
    }

    /// Whether a node is connected and reads entries that commands share.
    pub(crate) fn reads_shared(&self, node: NodeId) -> bool {
        self.connected.get(&node).is_some_and(|connection| connection.reads_shared)
    }

    /// The disk of a node that is connected and has told it.
    pub(crate) fn disk(&self, node: NodeId) -> Option<u64> {
        self.connected.get(&node).map(|connection| connection.disk).filter(|disk| *disk != 0)
    }

    /// Something came from a node. Returns whether that ends a silence.
    pub(crate) fn heard(&mut self, now: Time, from: NodeId) -> bool {
        self.connected.get_mut(&from).is_some_and(|connection| {
            connection.heard = now;
            std::mem::take(&mut connection.is_silent)
        })
    }

    pub(crate) fn sent(&mut self, now: Time, to: NodeId) {
        if let Some(connection) = self.connected.get_mut(&to) {
            connection.sent = now;
        }
    }

    /// Whether a node is connected and was heard within a timeout.
    pub(crate) fn is_alive(&self, now: Time, node: NodeId, timeout: Duration) -> bool {
        self.connected.get(&node).is_some_and(|connection| now < connection.heard + timeout)
    }

    /// Whether a connection to a node stands.
    pub(crate) fn is_connected(&self, node: NodeId) -> bool {
        self.connected.contains_key(&node)
    }

    /// How long ago something came from a node that is connected.
    pub(crate) fn heard_ago(&self, now: Time, node: NodeId) -> Option<Duration> {
        self.connected.get(&node).map(|connection| now.since(connection.heard))
    }

    /// When the next peer is to be told that this node is alive, or will have been silent for too long.
    pub(crate) fn deadline(&self, heartbeat: Duration, timeout: Duration) -> Time {
        let silent_at = |it: &Connection| if it.is_silent { Time::NEVER } else { it.heard + timeout };
        let due = |connection: &Connection| (connection.sent + heartbeat).min(silent_at(connection));
        self.connected.values().map(due).min().unwrap_or(Time::NEVER)
    }

    /// The peers that nothing was sent to for a heartbeat. They are told now.
    pub(crate) fn take_untold(&mut self, now: Time, heartbeat: Duration) -> Vec<NodeId> {
        let mut untold = Vec::new();
        for (peer, connection) in &mut self.connected {
            if now >= connection.sent + heartbeat {
                connection.sent = now;
                untold.push(*peer);
            }
        }
        untold
    }

    /// The peers that were silent for a whole timeout, though a connection seems to stand. Said once, until it is heard.
    pub(crate) fn take_silent(&mut self, now: Time, timeout: Duration) -> Vec<NodeId> {
        let mut silent = Vec::new();
        for (peer, connection) in &mut self.connected {
            if now >= connection.heard + timeout && !std::mem::replace(&mut connection.is_silent, true) {
                silent.push(*peer);
            }
        }
        silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(nodes: &[u64]) -> Members {
        Members::of_voters(nodes.iter().map(|&node| (NodeId(node), format!("n{node}:1"))))
    }

    fn ids(peers: &BTreeMap<NodeId, String>) -> Vec<u64> {
        peers.keys().map(|node| node.0).collect()
    }

    #[test]
    fn a_node_is_a_peer_for_as_long_as_a_group_names_it() {
        let mut peers = Peers::new(NodeId(1), BTreeMap::from([(NodeId(9), "n9:1".to_owned())]));
        assert_eq!(ids(&peers.take_changed().unwrap().0), [9], "as long as no group names anyone");
        let (one, other, nobody) = (members(&[1, 2, 3]), members(&[1, 3, 4]), members(&[]));
        peers.members_changed(None, Some(&one));
        assert_eq!(ids(&peers.take_changed().unwrap().0), [2, 3]);
        peers.members_changed(None, Some(&other));
        assert_eq!(ids(&peers.take_changed().unwrap().0), [2, 3, 4]);
        assert!(peers.take_changed().is_none());
        peers.connected(Time::from_millis(1), NodeId(2), 7, true);
        assert!(peers.is_listed(NodeId(2)));
        peers.members_changed(Some(&one), Some(&other));
        assert_eq!(ids(&peers.take_changed().unwrap().0), [3, 4]);
        peers.members_changed(None, Some(&nobody));
        assert_eq!(
            ids(&peers.take_changed().unwrap().0),
            [3, 4, 9],
            "a group that does not know its members asks them all"
        );
        peers.members_changed(Some(&nobody), None);
        assert_eq!(ids(&peers.take_changed().unwrap().0), [3, 4]);
    }

    #[test]
    fn a_given_address_is_used_until_a_group_names_one() {
        let unnamed = Members::of_voters([(NodeId(2), String::new()), (NodeId(9), String::new())]);
        let mut peers = Peers::new(NodeId(1), BTreeMap::from([(NodeId(9), "n9:1".to_owned())]));
        peers.take_changed();
        peers.members_changed(None, Some(&unnamed));
        let told = BTreeMap::from([(NodeId(9), "n9:1".to_owned())]);
        assert_eq!(peers.take_changed().unwrap().0, told, "no address is known of the second");
        peers.members_changed(None, Some(&members(&[2])));
        peers.members_changed(Some(&unnamed), Some(&unnamed));
        let told = BTreeMap::from([(NodeId(2), "n2:1".to_owned()), (NodeId(9), "n9:1".to_owned())]);
        assert_eq!(peers.take_changed().unwrap().0, told);
        assert_eq!(peers.take_changed(), None);
    }

    #[test]
    fn a_node_is_alive_if_it_is_connected_and_was_heard_within_a_timeout() {
        let timeout = Duration::from_millis(100);
        let mut peers = Peers::new(NodeId(1), BTreeMap::new());
        peers.heard(Time::from_millis(1), NodeId(2));
        assert!(!peers.is_alive(Time::from_millis(1), NodeId(2), timeout), "it is not connected");
        peers.connected(Time::from_millis(5), NodeId(2), 12, true);
        for (now, is_alive) in [(5, true), (104, true), (105, false)] {
            assert_eq!(peers.is_alive(Time::from_millis(now), NodeId(2), timeout), is_alive, "at {now}");
        }
        peers.heard(Time::from_millis(50), NodeId(2));
        assert!(peers.is_alive(Time::from_millis(105), NodeId(2), timeout));
        assert_eq!((peers.disk(NodeId(2)), peers.disk(NodeId(3))), (Some(12), None));
        peers.lost(NodeId(2));
        assert!(!peers.is_alive(Time::from_millis(60), NodeId(2), timeout));
        assert_eq!(peers.disk(NodeId(2)), None);
    }

    #[test]
    fn a_disk_is_entitled_for_as_long_as_a_group_says_so() {
        let mut peers = Peers::new(NodeId(1), BTreeMap::new());
        let disks = [(NodeId(2), 7)];
        peers.entitled_changed(&[], &disks);
        peers.entitled_changed(&[], &disks);
        assert_eq!(peers.take_changed_disks(), Some(BTreeMap::from(disks)));
        peers.entitled_changed(&disks, &[]);
        assert_eq!(peers.take_changed_disks(), None);
        peers.entitled_changed(&disks, &[]);
        assert_eq!(peers.take_changed_disks(), Some(BTreeMap::new()));
    }

    #[test]
    fn silence_is_told_and_broken() {
        let (heartbeat, timeout) = (Duration::from_millis(10), Duration::from_millis(100));
        let mut peers = Peers::new(NodeId(1), BTreeMap::new());
        assert_eq!(peers.deadline(heartbeat, timeout), Time::NEVER);
        peers.connected(Time::from_millis(0), NodeId(2), 0, true);
        peers.connected(Time::from_millis(0), NodeId(3), 0, true);
        assert_eq!(peers.deadline(heartbeat, timeout), Time::from_millis(10));
        peers.sent(Time::from_millis(5), NodeId(3));
        assert_eq!(peers.take_untold(Time::from_millis(10), heartbeat), [NodeId(2)]);
        assert_eq!(peers.take_untold(Time::from_millis(15), heartbeat), [NodeId(3)]);
        assert!(!peers.heard(Time::from_millis(50), NodeId(2)));
        assert_eq!(peers.take_silent(Time::from_millis(100), timeout), [NodeId(3)]);
        assert_eq!(peers.take_silent(Time::from_millis(120), timeout), [], "it was said");
        assert_eq!(peers.deadline(heartbeat, timeout), Time::from_millis(20), "a heartbeat");
        assert!(!peers.is_alive(Time::from_millis(120), NodeId(3), timeout));
        assert!(peers.heard(Time::from_millis(130), NodeId(3)), "it speaks again");
        assert!(!peers.heard(Time::from_millis(131), NodeId(3)));
        peers.lost(NodeId(2));
        assert_eq!(peers.take_silent(Time::from_millis(231), timeout), [NodeId(3)]);
    }
}
