//! The members of a group, with what the library keeps beside each seat: where the node listens.
//!
//! Owns the entry of the log that sets a configuration, and the request that asks for one. Must not know when either
//! counts: that is consensus's.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, Bytes};
use prost::Message as _;
use vlot_raft::configuration::{Change, Configuration, Member, Seat};
use vlot_raft::id::{LogIndex, NodeId};

use crate::proposal_id::ProposalId;

/// How long an address may be: as long as one that is told.
pub const ADDRESS_BYTES_MAX: usize = 300;
/// How long what the state machine is given with a change may be. It is kept with the members where a log begins and with
/// every snapshot, in a mebibyte together.
pub const CONTEXT_BYTES_MAX: usize = 64 << 10;
/// An entry beyond this was never written.
const ENTRY_BYTES_MAX: usize = (1 << 20) - 64;

/// Bytes that are no members, no change of them, or longer than any that were written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BadMembers;

/// The members of a group, and where each of them listens.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Members {
    configuration: Configuration,
    addresses: BTreeMap<NodeId, String>,
    /// The disk by which each member is known, once it was seen.
    disks: BTreeMap<NodeId, u64>,
    /// Nodes that never come back: see [`Members::is_barred`].
    barred: BTreeSet<NodeId>,
}

/// One wish of a change of members; a change is a list of them, carried out at once.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MemberChange {
    /// A node comes in and votes at once. Until it has the log it counts and does not help: prefer a learner first.
    AddVoter {
        /// The node.
        node: NodeId,
        /// Where it listens for peers.
        address: String,
    },
    /// A node comes in, gets all entries, and does not vote.
    AddLearner {
        /// The node.
        node: NodeId,
        /// Where it listens for peers.
        address: String,
    },
    /// A node comes in that votes and keeps no payloads.
    AddWitness {
        /// The node.
        node: NodeId,
        /// Where it listens for peers.
        address: String,
    },
    /// A learner votes from now on. Refused until it has caught up.
    Promote(NodeId),
    /// A voter votes no longer.
    Demote(NodeId),
    /// A member leaves.
    Remove(NodeId),
    /// A member listens elsewhere.
    Move {
        /// The node.
        node: NodeId,
        /// Where it listens for peers.
        address: String,
    },
    /// A member is known by this disk from now on. The library asks for it by itself.
    BindDisk {
        /// The node.
        node: NodeId,
        /// A number that was drawn when its log was first made.
        disk: u64,
    },
}

/// What an entry holds that sets a configuration.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct MembersEntry {
    /// The request that led to it; the last of a change repeats that of the first.
    pub change: ProposalId,
    /// The members of the group.
    pub members: Members,
    /// What the state machine is given with it.
    pub context: Bytes,
}

/// A configuration, and the entry that has set it: what is kept of a log's beginning.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct MembersAt {
    /// The index of the entry; zero for a group's first members.
    pub at: LogIndex,
    /// What it holds.
    pub entry: MembersEntry,
}

/// A change that is asked of the leader.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ChangeRequest {
    /// Its name.
    pub id: ProposalId,
    /// What to change.
    pub changes: Vec<MemberChange>,
    /// What the state machine is given with it.
    pub context: Bytes,
}

impl Members {
    /// A group of these voters.
    pub fn of_voters(voters: impl IntoIterator<Item = (NodeId, String)>) -> Self {
        let addresses: BTreeMap<NodeId, String> = voters.into_iter().collect();
        let configuration = Configuration::of_voters(addresses.keys().copied());
        Self { configuration, addresses, ..Self::default() }
    }

    /// The disk by which a member is known; zero if it was not seen yet.
    #[must_use]
    pub fn disk(&self, node: NodeId) -> u64 {
        self.disks.get(&node).copied().unwrap_or_default()
    }

    /// The disks by which members are known.
    pub fn disks(&self) -> impl Iterator<Item = (NodeId, u64)> + '_ {
        self.disks.iter().map(|(node, disk)| (*node, *disk))
    }

    /// Whether a node was a member before the group's quorum was lost, and another went on alone. Its number does not come
    /// back: a node of that number which has, from a snapshot or a log, only the members of before, would vote by them, and
    /// with others like it be a majority of them.
    #[must_use]
    pub fn is_barred(&self, node: NodeId) -> bool {
        self.barred.contains(&node)
    }

    /// The same, with nodes that never come back.
    #[must_use]
    pub fn barring(mut self, nodes: impl IntoIterator<Item = NodeId>) -> Self {
        self.barred.extend(nodes);
        self
    }

    /// The first node that these changes would let in and that is barred.
    #[must_use]
    pub fn bars(&self, changes: &[MemberChange]) -> Option<NodeId> {
        changes.iter().filter_map(MemberChange::newcomer).find(|node| self.is_barred(*node))
    }

    /// All nodes that it names: members, and those that are barred.
    pub fn everyone(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.configuration.nodes().chain(self.barred.iter().copied())
    }

    /// The seats.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// Each member and where it listens; an address that is not known is empty.
    pub fn iter(&self) -> impl Iterator<Item = (Member, &str)> + '_ {
        self.configuration.members().iter().map(|member| (*member, self.address(member.node)))
    }

    /// Where a member listens.
    #[must_use]
    pub fn address(&self, node: NodeId) -> &str {
        self.addresses.get(&node).map_or("", String::as_str)
    }

    /// The same without a node that has left.
    #[must_use]
    pub fn without(&self, node: NodeId) -> Self {
        let others = self.configuration.members().iter().filter(|member| member.node != node).copied().collect();
        // Without its last voter a configuration would be none; then it is shown as it is.
        Configuration::of_members(others).map_or_else(|| self.clone(), |others| self.with_seats(others))
    }

    /// The seats are these; a node that has none has no address and no disk either.
    #[must_use]
    pub fn with_seats(&self, configuration: Configuration) -> Self {
        let (mut addresses, mut disks) = (self.addresses.clone(), self.disks.clone());
        addresses.retain(|node, _| configuration.contains(*node));
        disks.retain(|node, _| configuration.contains(*node));
        Self { configuration, addresses, disks, barred: self.barred.clone() }
    }
}

impl MemberChange {
    /// As consensus knows it.
    #[must_use]
    pub fn seat(&self) -> Change {
        match *self {
            Self::AddVoter { node, .. } | Self::Promote(node) => Change::Voter(node),
            Self::AddLearner { node, .. } | Self::Demote(node) => Change::Learner(node),
            Self::AddWitness { node, .. } => Change::Witness(node),
            Self::Remove(node) => Change::Remove(node),
            Self::Move { .. } | Self::BindDisk { .. } => Change::Renew,
        }
    }

    /// The node that it lets in.
    fn newcomer(&self) -> Option<NodeId> {
        match self {
            Self::AddVoter { node, .. } | Self::AddLearner { node, .. } | Self::AddWitness { node, .. } => Some(*node),
            Self::Promote(_) | Self::Demote(_) | Self::Remove(_) | Self::Move { .. } | Self::BindDisk { .. } => None,
        }
    }

    fn address(&self) -> Option<(NodeId, &str)> {
        match self {
            Self::AddVoter { node, address }
            | Self::AddLearner { node, address }
            | Self::AddWitness { node, address }
            | Self::Move { node, address } => Some((*node, address)),
            Self::Promote(_) | Self::Demote(_) | Self::Remove(_) | Self::BindDisk { .. } => None,
        }
    }
}

/// Whether a change brings along more than is kept.
#[must_use]
pub fn is_too_large(changes: &[MemberChange], context: &[u8]) -> bool {
    let mut addresses = changes.iter().filter_map(MemberChange::address);
    context.len() > CONTEXT_BYTES_MAX || addresses.any(|(_, address)| address.len() > ADDRESS_BYTES_MAX)
}

/// The member that would keep an address which a change gives to another node; nodes at one address cannot both be reached.
#[must_use]
pub fn address_in_use(members: &Members, changes: &[MemberChange]) -> Option<NodeId> {
    let mut after: BTreeMap<NodeId, &str> = members.iter().map(|(member, address)| (member.node, address)).collect();
    for change in changes {
        match change {
            MemberChange::Remove(node) => drop(after.remove(node)),
            change => after.extend(change.address()),
        }
    }
    let mut given = changes.iter().filter_map(MemberChange::address).filter(|(_, address)| !address.is_empty());
    given.find_map(|(node, address)| {
        let other = after.iter().find(|(other, theirs)| **other != node && **theirs == address);
        other.map(|(other, _)| *other)
    })
}

impl ChangeRequest {
    /// What the entry holds that begins this change; consensus has found the seats.
    #[must_use]
    pub fn begin(&self, now: &Members, configuration: Configuration) -> MembersEntry {
        let mut members = now.clone();
        for change in &self.changes {
            if let Some((node, address)) = change.address() {
                members.addresses.insert(node, address.to_owned());
            }
            if let MemberChange::BindDisk { node, disk } = change {
                members.disks.insert(*node, *disk);
            }
        }
        let members = members.with_seats(configuration);
        MembersEntry { change: self.id, members, context: self.context.clone() }
    }
}

// The bytes of an entry and of a request (`proto/peer.proto`).

#[derive(Clone, PartialEq, prost::Message)]
struct SetFrame {
    #[prost(uint64, tag = "1")]
    at: u64,
    #[prost(message, optional, tag = "2")]
    entry: Option<EntryFrame>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct EntryFrame {
    #[prost(fixed64, tag = "1")]
    origin: u64,
    #[prost(uint64, tag = "2")]
    sequence: u64,
    #[prost(message, repeated, tag = "3")]
    members: Vec<MemberFrame>,
    #[prost(bytes = "bytes", tag = "4")]
    context: Bytes,
    #[prost(fixed64, repeated, tag = "5")]
    barred: Vec<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct MemberFrame {
    #[prost(fixed64, tag = "1")]
    node: u64,
    #[prost(uint32, tag = "2")]
    seat: u32,
    #[prost(bool, tag = "3")]
    witness: bool,
    #[prost(string, tag = "4")]
    address: String,
    #[prost(fixed64, tag = "5")]
    disk: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RequestFrame {
    #[prost(fixed64, tag = "1")]
    origin: u64,
    #[prost(uint64, tag = "2")]
    sequence: u64,
    #[prost(message, repeated, tag = "3")]
    changes: Vec<ChangeFrame>,
    #[prost(bytes = "bytes", tag = "4")]
    context: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ChangeFrame {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(fixed64, tag = "2")]
    node: u64,
    #[prost(string, tag = "3")]
    address: String,
    #[prost(fixed64, tag = "4")]
    disk: u64,
}

/// The seats by their numbers, from 1 on.
const SEATS: [Seat; 5] = [Seat::Voter, Seat::Joining, Seat::Leaving, Seat::Retiring, Seat::Learner];

impl MembersEntry {
    fn frame(&self) -> EntryFrame {
        let member = |(member, address): (Member, &str)| MemberFrame {
            node: member.node.0,
            seat: SEATS.iter().position(|seat| *seat == member.seat).map_or(0, |at| at as u32 + 1),
            witness: member.witness,
            address: address.to_owned(),
            disk: self.members.disk(member.node),
        };
        EntryFrame {
            origin: self.change.origin,
            sequence: self.change.sequence,
            members: self.members.iter().map(member).collect(),
            context: self.context.clone(),
            barred: self.members.barred.iter().map(|node| node.0).collect(),
        }
    }

    fn of_frame(frame: EntryFrame) -> Result<Self, BadMembers> {
        let mut seats = Vec::with_capacity(frame.members.len());
        let (mut addresses, mut disks) = (BTreeMap::new(), BTreeMap::new());
        for MemberFrame { node, seat, witness, address, disk } in frame.members {
            if disk != 0 {
                disks.insert(NodeId(node), disk);
            }
            let seat = *SEATS.get((seat as usize).wrapping_sub(1)).ok_or(BadMembers)?;
            seats.push(Member { node: NodeId(node), seat, witness });
            addresses.insert(NodeId(node), address);
        }
        let configuration = Configuration::of_members(seats).ok_or(BadMembers)?;
        let change = ProposalId { origin: frame.origin, sequence: frame.sequence };
        let barred = frame.barred.into_iter().map(NodeId).collect();
        Ok(Self { change, members: Members { configuration, addresses, disks, barred }, context: frame.context })
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.frame().encode_to_vec()
    }

    /// Reads it back.
    ///
    /// # Errors
    /// If the bytes are none.
    pub fn decode(bytes: impl Buf) -> Result<Self, BadMembers> {
        if bytes.remaining() > ENTRY_BYTES_MAX {
            return Err(BadMembers);
        }
        Self::of_frame(EntryFrame::decode(bytes).map_err(|_| BadMembers)?)
    }
}

impl MembersAt {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        SetFrame { at: self.at.0, entry: Some(self.entry.frame()) }.encode_to_vec().into()
    }

    /// Reads it back.
    ///
    /// # Errors
    /// If the bytes are none.
    pub fn decode(bytes: impl Buf) -> Result<Self, BadMembers> {
        let SetFrame { at, entry } = SetFrame::decode(bytes).map_err(|_| BadMembers)?;
        Ok(Self { at: LogIndex(at), entry: MembersEntry::of_frame(entry.ok_or(BadMembers)?)? })
    }
}

impl ChangeRequest {
    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let change = |change: &MemberChange| {
            let (kind, node) = match change {
                MemberChange::AddVoter { node, .. } => (1, node),
                MemberChange::AddLearner { node, .. } => (2, node),
                MemberChange::AddWitness { node, .. } => (3, node),
                MemberChange::Promote(node) => (4, node),
                MemberChange::Demote(node) => (5, node),
                MemberChange::Remove(node) => (6, node),
                MemberChange::Move { node, .. } => (7, node),
                MemberChange::BindDisk { node, .. } => (8, node),
            };
            let disk = if let MemberChange::BindDisk { disk, .. } = change { *disk } else { 0 };
            let address = change.address().map_or_else(String::new, |(_, address)| address.to_owned());
            ChangeFrame { kind, node: node.0, address, disk }
        };
        let frame = RequestFrame {
            origin: self.id.origin,
            sequence: self.id.sequence,
            changes: self.changes.iter().map(change).collect(),
            context: self.context.clone(),
        };
        frame.encode_to_vec().into()
    }

    /// Reads it back.
    ///
    /// # Errors
    /// If the bytes are none.
    pub fn decode(bytes: Bytes) -> Result<Self, BadMembers> {
        let RequestFrame { origin, sequence, changes, context } =
            RequestFrame::decode(bytes).map_err(|_| BadMembers)?;
        let change = |ChangeFrame { kind, node, address, disk }| {
            let node = NodeId(node);
            Ok(match kind {
                1 => MemberChange::AddVoter { node, address },
                2 => MemberChange::AddLearner { node, address },
                3 => MemberChange::AddWitness { node, address },
                4 => MemberChange::Promote(node),
                5 => MemberChange::Demote(node),
                6 => MemberChange::Remove(node),
                7 => MemberChange::Move { node, address },
                8 => MemberChange::BindDisk { node, disk },
                _ => return Err(BadMembers),
            })
        };
        let changes = changes.into_iter().map(change).collect::<Result<Vec<_>, BadMembers>>()?;
        if is_too_large(&changes, &context) {
            return Err(BadMembers);
        }
        Ok(Self { id: ProposalId { origin, sequence }, changes, context })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members() -> Members {
        Members::of_voters([(NodeId(1), "a:1".to_owned()), (NodeId(2), "b:2".to_owned())])
    }

    fn request() -> ChangeRequest {
        let address = || "c:3".to_owned();
        let node = NodeId(3);
        let changes = vec![
            MemberChange::AddVoter { node, address: address() },
            MemberChange::AddLearner { node, address: address() },
            MemberChange::AddWitness { node, address: address() },
            MemberChange::Promote(node),
            MemberChange::Demote(node),
            MemberChange::Remove(node),
            MemberChange::Move { node, address: address() },
            MemberChange::BindDisk { node, disk: 77 },
        ];
        ChangeRequest { id: ProposalId { origin: 7, sequence: 9 }, changes, context: Bytes::from_static(b"why") }
    }

    #[test]
    fn an_address_is_given_to_one_member() {
        let add = |node, address: &str| MemberChange::AddLearner { node: NodeId(node), address: address.to_owned() };
        let moved = |node, address: &str| MemberChange::Move { node: NodeId(node), address: address.to_owned() };
        let rows = [
            (vec![add(3, "c:3")], None),
            (vec![add(3, "b:2")], Some(2)),
            (vec![add(3, "c:3"), add(4, "c:3")], Some(4)),
            (vec![moved(1, "b:2")], Some(2)),
            (vec![moved(1, "a:1")], None),
            // They change places, or one takes another's.
            (vec![moved(1, "b:2"), moved(2, "a:1")], None),
            (vec![MemberChange::Remove(NodeId(2)), add(3, "b:2")], None),
            (vec![add(3, ""), add(4, "")], None),
        ];
        for (changes, expected) in rows {
            assert_eq!(address_in_use(&members(), &changes), expected.map(NodeId), "{changes:?}");
        }
    }

    #[test]
    fn a_node_that_is_barred_stays_so_whatever_changes() {
        let barring = members().barring([NodeId(7), NodeId(8)]);
        let learner = |node| MemberChange::AddLearner { node: NodeId(node), address: "c:3".to_owned() };
        assert_eq!(barring.bars(&[learner(3), learner(8)]), Some(NodeId(8)));
        assert_eq!(barring.bars(&[learner(3), MemberChange::Remove(NodeId(7))]), None);
        let entry = MembersEntry { members: barring.clone(), ..MembersEntry::default() };
        assert_eq!(MembersEntry::decode(Bytes::from(entry.encode())), Ok(entry));
        let request = ChangeRequest { changes: vec![learner(3)], ..request() };
        let next = barring.configuration().changed(&[learner(3).seat()]).unwrap();
        assert!(request.begin(&barring, next).members.is_barred(NodeId(7)));
        assert_eq!(barring.everyone().map(|node| node.0).collect::<Vec<_>>(), [1, 2, 7, 8]);
    }

    #[test]
    fn what_is_larger_than_is_kept_is_refused() {
        let id = ProposalId::default();
        let with = |address_bytes, context_bytes| {
            let address = "a".repeat(address_bytes);
            let changes = vec![MemberChange::AddLearner { node: NodeId(3), address }];
            let request = ChangeRequest { id, changes, context: Bytes::from(vec![0; context_bytes]) };
            ChangeRequest::decode(request.encode()).is_ok()
        };
        let table = [(300, 64 << 10, true), (301, 0, false), (0, (64 << 10) + 1, false)];
        for (address_bytes, context_bytes, is_taken) in table {
            assert_eq!(with(address_bytes, context_bytes), is_taken, "{address_bytes} {context_bytes}");
        }
        let entry = |bytes| MembersEntry { context: Bytes::from(vec![0; bytes]), ..MembersEntry::default() };
        assert!(MembersEntry::decode(&entry(1 << 19).encode()[..]).is_ok());
        assert_eq!(MembersEntry::decode(&entry(1 << 20).encode()[..]), Err(BadMembers));
    }

    #[test]
    fn what_is_written_is_read() {
        let request = request();
        assert_eq!(ChangeRequest::decode(request.encode()), Ok(request.clone()));
        let seats = members().configuration().changed(&[Change::Voter(NodeId(3)), Change::Remove(NodeId(1))]).unwrap();
        let entry = request.begin(&members(), seats);
        assert_eq!((entry.members.address(NodeId(3)), entry.members.disk(NodeId(3))), ("c:3", 77));
        let set = MembersAt { at: LogIndex(12), entry };
        assert_eq!(MembersAt::decode(set.encode()), Ok(set.clone()));
        let settled = set.entry.members.with_seats(set.entry.members.configuration().settled());
        assert_eq!(
            settled.iter().map(|(member, address)| (member.node.0, address)).collect::<Vec<_>>(),
            [(2, "b:2"), (3, "c:3")]
        );
    }

    #[test]
    fn damaged_bytes_are_refused_or_another_valid_value() {
        let set = MembersAt { at: LogIndex(3), entry: request().begin(&members(), members().configuration().clone()) };
        for bytes in [set.encode(), request().encode()] {
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    let mut damaged = bytes.to_vec();
                    damaged[at] ^= 1 << bit;
                    drop(MembersAt::decode(&damaged[..]));
                    drop(ChangeRequest::decode(damaged.into()));
                }
                drop(MembersAt::decode(&bytes[..at]));
            }
        }
    }
}
