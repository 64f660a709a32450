//! How one node goes on alone after the quorum of its groups is lost for good: what its log holds of a group, and what is
//! appended to it so that this node is its only member.
//!
//! Pure. That a quorum is lost is an operator's word, and nothing here can tell. The entry that is appended follows no
//! majority of before: what other nodes had decided and this one does not have is lost, and nodes of before must never be
//! heard again. Owns what keeps them out *within* a group: their numbers do not come back ([`Members::is_barred`]). That
//! whole nodes are kept out is the cluster's new number's part.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use vlot_log::index::GroupState;
use vlot_log::record::{Entry, Write};
use vlot_raft::id::{GroupId, LogId, NodeId, Term};

use crate::members::{Members, MembersAt, MembersEntry};
use crate::members_log::MembersLog;
use crate::payload;

/// What a node's log holds of a group. Of several nodes that are left, the one with the greatest [`last`](Self::last) has the
/// most.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GroupFound {
    /// The group.
    pub group: GroupId,
    /// The term that it knows.
    pub term: Term,
    /// The last entry.
    pub last: LogId,
    /// The newest members, decided or not.
    pub members: Members,
    /// All nodes that ever were members, as far as the log says.
    had: BTreeSet<NodeId>,
}

/// Why a node cannot go on alone with a group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum CannotRecover {
    /// The log holds a configuration that this version does not know.
    BadConfiguration {
        /// Of this group.
        group: GroupId,
    },
    /// This node is no member of it.
    NotAMember {
        /// The group.
        group: GroupId,
    },
    /// This node is a witness, and has none of the data.
    Witness {
        /// The group.
        group: GroupId,
    },
}

impl GroupFound {
    /// What a log holds of a group.
    ///
    /// # Errors
    /// If its configurations cannot be read.
    pub fn new(group: GroupId, state: &GroupState) -> Result<Self, CannotRecover> {
        let bad = CannotRecover::BadConfiguration { group };
        let base = if state.note.is_empty() {
            MembersAt::default()
        } else {
            MembersAt::decode(state.note.clone()).map_err(|_| bad)?
        };
        let members_log = MembersLog::new(base, &state.kept).map_err(|_| bad)?;
        let sets = std::iter::once(members_log.first()).chain(members_log.later());
        let had = sets.flat_map(|set| set.entry.members.everyone()).collect();
        let members = members_log.newest().entry.members.clone();
        Ok(Self { group, term: state.term, last: state.runs.last_id(), members, had })
    }

    /// Whether this node can go on alone.
    ///
    /// # Errors
    /// If it has not the group's data.
    pub fn check(&self, own: NodeId) -> Result<(), CannotRecover> {
        let group = self.group;
        match self.members.configuration().get(own) {
            None => Err(CannotRecover::NotAMember { group }),
            Some(member) if member.witness => Err(CannotRecover::Witness { group }),
            Some(_) => Ok(()),
        }
    }

    /// What is written behind the log so that `own`, which listens at `address`, is the only member: a vote for itself in a
    /// term that no node has seen, and in that term an entry, as if it had been elected. `context` is for the state machine.
    #[must_use]
    pub fn writes(&self, own: NodeId, address: &str, context: Bytes) -> [Write; 2] {
        let group = self.group;
        let term = Term(self.term.max(self.last.term).0 + 1);
        let barred = self.had.iter().copied().filter(|node| *node != own);
        let members = Members::of_voters([(own, address.to_owned())]).barring(barred);
        let entry = MembersEntry { members, context, ..MembersEntry::default() };
        let id = LogId { term, index: self.last.index.next() };
        let entries = vec![Entry { id, payload: payload::configuration(&entry) }];
        [Write::Vote { group, term, vote: Some(own) }, Write::Append { group, after: self.last.index, entries }]
    }
}

impl fmt::Display for GroupFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group, term, last, members, .. } = self;
        write!(f, "group {group}: term {term}, the log ends with entry {} of term {}, voters", last.index, last.term)?;
        members.configuration().voters().try_for_each(|node| write!(f, " {node}"))
    }
}

impl fmt::Display for CannotRecover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadConfiguration { group } => {
                write!(f, "the log of group {group} holds members that this version does not know")
            }
            Self::NotAMember { group } => write!(
                f,
                "this node is no member of group {group}, whose log it still holds; open the node and remove the group \
                 first, or use another node"
            ),
            Self::Witness { group } => {
                write!(f, "this node is a witness of group {group}, and has none of its data; use another node")
            }
        }
    }
}

impl std::error::Error for CannotRecover {}

#[cfg(test)]
mod tests {
    use vlot_raft::id::LogIndex;
    use vlot_raft::term_runs::TermRuns;

    use super::*;
    use crate::members::MemberChange;

    const GROUP: GroupId = GroupId(3);

    fn voters(nodes: &[u64]) -> Members {
        Members::of_voters(nodes.iter().map(|node| (NodeId(*node), format!("n{node}:1"))))
    }

    /// A log with twenty entries of terms 4 and 6 behind a snapshot of the first ten; in term 6 node 4 has come for node 2.
    fn state() -> GroupState {
        let after = LogId::new(4, 10);
        let mut runs = TermRuns::one_term(after, Term(4), 5);
        runs.push(Term(6), 5);
        let set = |nodes: &[u64]| MembersEntry { members: voters(nodes), ..MembersEntry::default() };
        let note = MembersAt { at: LogIndex(1), entry: set(&[1, 2, 3]) }.encode();
        let kept = vec![Entry { id: LogId::new(6, 17), payload: payload::configuration(&set(&[1, 3, 4])) }];
        GroupState { term: Term(7), vote: None, runs, note, kept }
    }

    #[test]
    fn a_node_goes_on_alone_in_a_term_that_is_new() {
        let found = GroupFound::new(GROUP, &state()).unwrap();
        assert_eq!((found.last, found.term), (LogId::new(6, 20), Term(7)));
        assert_eq!(found.to_string(), "group 3: term 7, the log ends with entry 20 of term 6, voters 1 3 4");
        assert_eq!(found.check(NodeId(3)), Ok(()));
        assert_eq!(found.check(NodeId(2)), Err(CannotRecover::NotAMember { group: GROUP }));
        let [vote, append] = found.writes(NodeId(3), "n3:9", Bytes::from_static(b"context"));
        assert_eq!(vote, Write::Vote { group: GROUP, term: Term(8), vote: Some(NodeId(3)) });
        let Write::Append { after: LogIndex(20), entries, .. } = append else { panic!("{append:?}") };
        let [Entry { id, payload }] = &entries[..] else { panic!("{entries:?}") };
        assert_eq!(*id, LogId::new(8, 21));
        let Ok(payload::Payload::Configuration(entry)) = payload::decode(payload.clone()) else {
            panic!("{payload:?}")
        };
        assert_eq!(entry.context, &b"context"[..]);
        assert_eq!(entry.members.iter().map(|(member, at)| (member.node.0, at)).collect::<Vec<_>>(), [(3, "n3:9")]);
        for (node, is_barred) in [(1, true), (2, true), (3, false), (4, true), (5, false)] {
            assert_eq!(entry.members.is_barred(NodeId(node)), is_barred, "{node}");
        }
    }

    #[test]
    fn a_witness_has_nothing_to_go_on_with() {
        let witness = MemberChange::AddWitness { node: NodeId(4), address: String::new() };
        let with = voters(&[1, 2]).configuration().changed(&[witness.seat()]).unwrap().settled();
        let entry = MembersEntry { members: voters(&[1, 2]).with_seats(with), ..MembersEntry::default() };
        let note = MembersAt { at: LogIndex(1), entry }.encode();
        let found = GroupFound::new(GROUP, &GroupState { note, ..GroupState::default() }).unwrap();
        assert_eq!(found.check(NodeId(4)), Err(CannotRecover::Witness { group: GROUP }));
        assert_eq!(found.check(NodeId(1)), Ok(()));
        let bad = GroupFound::new(GROUP, &GroupState { note: Bytes::from_static(b"?"), ..GroupState::default() });
        assert_eq!(bad, Err(CannotRecover::BadConfiguration { group: GROUP }));
    }
}
