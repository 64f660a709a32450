//! The members of a group, and how they change (Raft §6; Ongaro §4).
//!
//! Owns the seats of members and the rule by which one configuration follows another. Every quorum of the protocol is
//! asked of [`Configuration`], so that none can overlook a joint configuration, a learner or a witness. Must not know of
//! roles or of progress.

use crate::id::{LogIndex, NodeId};
use crate::quorum;

/// What a member may decide.
///
/// While two configurations overlap, a decision needs a majority of the old voters *and* one of the new (Raft §6).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Seat {
    /// Votes; in both configurations, while there are two.
    Voter,
    /// Votes in the new configuration alone.
    Joining,
    /// Votes in the old configuration alone, and leaves with it.
    Leaving,
    /// Votes in the old configuration alone, and learns in the new.
    Retiring,
    /// Gets all entries and decides nothing (Ongaro §4.2.1).
    Learner,
}

impl Seat {
    fn votes_in_old(self) -> bool {
        matches!(self, Self::Voter | Self::Leaving | Self::Retiring)
    }

    fn votes_in_new(self) -> bool {
        matches!(self, Self::Voter | Self::Joining)
    }

    /// The seat once the old configuration is gone; none for a member that leaves with it.
    fn settled(self) -> Option<Self> {
        match self {
            Self::Voter | Self::Joining => Some(Self::Voter),
            Self::Retiring | Self::Learner => Some(Self::Learner),
            Self::Leaving => None,
        }
    }
}

/// A node and its seat.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// What it may decide.
    pub seat: Seat,
    /// Keeps terms and votes and no payloads. It never leads.
    pub witness: bool,
}

/// The members of a group.
///
/// Invariant: sorted by node, each there once. Less than a majority of either configuration are witnesses, so that
/// every quorum has a voter with payloads in it (`docs/decisions/0007-membership.md`).
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Configuration {
    members: Vec<Member>,
}

/// One wish of a change; a change is a list of them, carried out at once.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Change {
    /// The node votes from now on.
    Voter(NodeId),
    /// The node votes from now on and keeps no payloads.
    Witness(NodeId),
    /// The node gets all entries and does not vote.
    Learner(NodeId),
    /// The node is no member any more.
    Remove(NodeId),
    /// No member's seat changes, but what the host keeps with the configuration does: an entry is written all the same.
    Renew,
}

/// Why a configuration is not changed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ChangeRefused {
    /// This node does not lead.
    NotLeader {
        /// The leader, as far as is known.
        leader: Option<NodeId>,
    },
    /// The leader has committed nothing of its term yet, so it cannot know what was changed before it (a bug of the
    /// dissertation's single-server change, found in 2015).
    TooSoon,
    /// Another change is not finished. One at a time.
    InProgress,
    /// The leadership is being transferred.
    Transferring {
        /// To which node.
        to: NodeId,
    },
    /// A learner may vote only once its log is nearly the leader's.
    NotCaughtUp {
        /// The learner.
        node: NodeId,
    },
    /// There would be no voter left to decide.
    NoVoters,
    /// A majority of witnesses could decide without any node that has the payloads.
    TooManyWitnesses,
    /// A node that is no member cannot be removed.
    NotAMember {
        /// Which node.
        node: NodeId,
    },
    /// A witness does not become a voter with payloads, nor the other way; remove it and add it again.
    KeepsItsKind {
        /// Which node.
        node: NodeId,
    },
    /// The node was a member before the group's quorum was lost and one node went on alone: it could bring back a majority
    /// of before. Hosts refuse it; consensus does not know.
    Barred {
        /// Which node.
        node: NodeId,
    },
    /// It is so already.
    NothingToDo,
    /// This node's disk is full, or no quorum has room.
    NoSpace,
}

impl Configuration {
    /// A group of these voters.
    #[must_use]
    pub fn of_voters(voters: impl IntoIterator<Item = NodeId>) -> Self {
        let member = |node| Member { node, seat: Seat::Voter, witness: false };
        let mut members: Vec<Member> = voters.into_iter().map(member).collect();
        members.sort_unstable();
        members.dedup();
        Self { members }
    }

    /// The group of these members, as one that was written down; `None` if it breaks the invariant.
    #[must_use]
    pub fn of_members(members: Vec<Member>) -> Option<Self> {
        let rises = members.windows(2).all(|pair| pair[0].node < pair[1].node);
        let configuration = Self { members };
        (rises && configuration.witnesses_are_few()).then_some(configuration)
    }

    /// All members, in order.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// All members' nodes, in order.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.members.iter().map(|member| member.node)
    }

    /// The nodes that vote, in either configuration, in order.
    pub fn voters(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.members.iter().filter(|member| member.seat != Seat::Learner).map(|member| member.node)
    }

    /// The node's place among the members.
    #[must_use]
    pub fn get(&self, node: NodeId) -> Option<Member> {
        // There are few: to look at each is faster than to search.
        self.members.iter().find(|member| member.node == node).copied()
    }

    /// Whether the node is a member.
    #[must_use]
    pub fn contains(&self, node: NodeId) -> bool {
        self.get(node).is_some()
    }

    /// Whether the node votes, in either configuration.
    #[must_use]
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.get(node).is_some_and(|member| member.seat != Seat::Learner)
    }

    /// Whether the node votes once the old configuration is gone.
    #[must_use]
    pub fn stays_voter(&self, node: NodeId) -> bool {
        self.get(node).is_some_and(|member| member.seat.votes_in_new())
    }

    /// Whether the node keeps no payloads.
    #[must_use]
    pub fn is_witness(&self, node: NodeId) -> bool {
        self.get(node).is_some_and(|member| member.witness)
    }

    /// Whether `node` alone is a quorum.
    #[must_use]
    pub fn is_alone(&self, node: NodeId) -> bool {
        let mut voters = self.voters();
        voters.next() == Some(node) && voters.next().is_none()
    }

    /// Whether two configurations overlap.
    #[must_use]
    pub fn is_joint(&self) -> bool {
        self.members.iter().any(|member| matches!(member.seat, Seat::Joining | Seat::Leaving | Seat::Retiring))
    }

    /// Whether the nodes for which `agrees` holds are a quorum.
    pub fn is_quorum(&self, agrees: impl Fn(NodeId) -> bool) -> bool {
        self.reached(agrees) == Some(true)
    }

    /// The greatest value that a quorum has reached: a majority of each configuration. `None` when there are no voters.
    pub fn reached<T: Copy + Ord>(&self, value_of: impl Fn(NodeId) -> T) -> Option<T> {
        let values = |votes: fn(Seat) -> bool| {
            self.members.iter().filter(move |member| votes(member.seat)).map(|member| value_of(member.node))
        };
        let new = quorum::reached(values(Seat::votes_in_new))?;
        if !self.is_joint() {
            return Some(new);
        }
        Some(new.min(quorum::reached(values(Seat::votes_in_old))?))
    }

    /// The configuration that follows: a joint one if the voters change, which [`Configuration::settled`] ends.
    ///
    /// # Errors
    /// If a change is under way, or the new configuration could not decide anything.
    pub fn changed(&self, changes: &[Change]) -> Result<Self, ChangeRefused> {
        if self.is_joint() {
            return Err(ChangeRefused::InProgress);
        }
        let mut next = self.clone();
        for &change in changes {
            next.apply(change)?;
        }
        next.members.sort_unstable();
        if next.settled().voters().next().is_none() {
            return Err(ChangeRefused::NoVoters);
        }
        if !next.witnesses_are_few() {
            return Err(ChangeRefused::TooManyWitnesses);
        }
        let is_renewed = changes.contains(&Change::Renew);
        if next == *self && !is_renewed { Err(ChangeRefused::NothingToDo) } else { Ok(next) }
    }

    /// What is left of a joint configuration once its old configuration is gone (Raft §6: C-new).
    #[must_use]
    pub fn settled(&self) -> Self {
        let members = self.members.iter();
        let members = members.filter_map(|member| member.seat.settled().map(|seat| Member { seat, ..*member }));
        Self { members: members.collect() }
    }

    /// Carries out one wish. A voter keeps its vote in the old configuration, and a node that was none gets one in the
    /// new.
    fn apply(&mut self, change: Change) -> Result<(), ChangeRefused> {
        let (Change::Voter(node) | Change::Witness(node) | Change::Learner(node) | Change::Remove(node)) = change
        else {
            return Ok(());
        };
        let witness = matches!(change, Change::Witness(_));
        let at = self.members.iter().position(|member| member.node == node);
        let Some(at) = at else {
            let seat = match change {
                Change::Voter(_) | Change::Witness(_) => Seat::Joining,
                Change::Learner(_) => Seat::Learner,
                _ => return Err(ChangeRefused::NotAMember { node }),
            };
            self.members.push(Member { node, seat, witness });
            return Ok(());
        };
        let member = &mut self.members[at];
        let voted = member.seat.votes_in_old();
        let seat = match change {
            Change::Voter(_) | Change::Witness(_) if member.witness != witness => {
                // What it kept so far is not what it would have to keep: it leaves and comes back empty.
                return Err(ChangeRefused::KeepsItsKind { node });
            }
            Change::Voter(_) | Change::Witness(_) => Some(if voted { Seat::Voter } else { Seat::Joining }),
            Change::Learner(_) => Some(if voted { Seat::Retiring } else { Seat::Learner }),
            _ => voted.then_some(Seat::Leaving),
        };
        match seat {
            Some(seat) => member.seat = seat,
            None => drop(self.members.remove(at)),
        }
        Ok(())
    }

    fn witnesses_are_few(&self) -> bool {
        [Seat::votes_in_old as fn(Seat) -> bool, Seat::votes_in_new].into_iter().all(|votes| {
            let voters = self.members.iter().filter(|member| votes(member.seat));
            let witnesses = voters.clone().filter(|member| member.witness).count();
            witnesses == 0 || witnesses < quorum::majority(voters.count())
        })
    }
}

/// The configurations of a log: the one with which it begins, and those that entries in it have set.
///
/// The newest counts, committed or not (Raft §6: "a server always uses the latest configuration in its log").
/// Invariant: indices rise, and all of `later` are after `base`.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Configurations {
    base: (LogIndex, Configuration),
    later: Vec<(LogIndex, Configuration)>,
}

impl Configurations {
    /// That of a group's first log, which nothing has changed.
    #[must_use]
    pub fn begin(configuration: Configuration) -> Self {
        Self::new((LogIndex::ZERO, configuration), Vec::new())
    }

    /// Those of a log that begins with `base`, which the entry at the index has set.
    #[must_use]
    pub fn new(base: (LogIndex, Configuration), later: Vec<(LogIndex, Configuration)>) -> Self {
        Self { base, later }
    }

    /// The one that counts.
    #[must_use]
    pub fn newest(&self) -> &Configuration {
        &self.newest_set().1
    }

    /// The entry that has set the newest.
    #[must_use]
    pub fn newest_at(&self) -> LogIndex {
        self.newest_set().0
    }

    /// The one that counted when the log ended at `index`, and the entry that has set it. What lies before the
    /// beginning of the log is forgotten.
    #[must_use]
    pub fn at(&self, index: LogIndex) -> &(LogIndex, Configuration) {
        self.later.iter().rev().find(|(at, _)| *at <= index).unwrap_or(&self.base)
    }

    /// Those that entries in `(after, upto]` have set.
    #[must_use]
    pub fn part(&self, after: LogIndex, upto: LogIndex) -> Vec<(LogIndex, Configuration)> {
        self.later.iter().filter(|(at, _)| *at > after && *at <= upto).cloned().collect()
    }

    pub(crate) fn push(&mut self, at: LogIndex, configuration: Configuration) {
        assert!(at > self.newest_at(), "a configuration at {at} follows that at {}", self.newest_at());
        self.later.push((at, configuration));
    }

    pub(crate) fn cut_after(&mut self, index: LogIndex) {
        self.later.retain(|(at, _)| *at <= index);
    }

    /// The log begins after `index`.
    pub(crate) fn begin_after(&mut self, index: LogIndex) {
        while self.later.first().is_some_and(|(at, _)| *at <= index) {
            self.base = self.later.remove(0);
        }
    }

    fn newest_set(&self) -> &(LogIndex, Configuration) {
        self.later.last().unwrap_or(&self.base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn n(node: u64) -> NodeId {
        NodeId(node)
    }

    fn seats(configuration: &Configuration) -> Vec<(u64, Seat)> {
        configuration.members().iter().map(|member| (member.node.0, member.seat)).collect()
    }

    #[test]
    fn what_follows_a_change() {
        use Seat::{Joining, Learner, Leaving, Retiring, Voter};
        let start = Configuration::of_members(vec![
            Member { node: n(1), seat: Voter, witness: false },
            Member { node: n(2), seat: Voter, witness: false },
            Member { node: n(3), seat: Voter, witness: false },
            Member { node: n(4), seat: Learner, witness: false },
        ])
        .unwrap();
        type Row<'a> = (&'a [Change], &'a [(u64, Seat)], &'a [(u64, Seat)]);
        let table: [Row<'_>; 5] = [
            (
                &[Change::Voter(n(5))],
                &[(1, Voter), (2, Voter), (3, Voter), (4, Learner), (5, Joining)],
                &[(1, Voter), (2, Voter), (3, Voter), (4, Learner), (5, Voter)],
            ),
            (
                &[Change::Voter(n(4)), Change::Remove(n(1)), Change::Remove(n(2)), Change::Voter(n(5))],
                &[(1, Leaving), (2, Leaving), (3, Voter), (4, Joining), (5, Joining)],
                &[(3, Voter), (4, Voter), (5, Voter)],
            ),
            (
                &[Change::Learner(n(1))],
                &[(1, Retiring), (2, Voter), (3, Voter), (4, Learner)],
                &[(1, Learner), (2, Voter), (3, Voter), (4, Learner)],
            ),
            (&[Change::Remove(n(4))], &[(1, Voter), (2, Voter), (3, Voter)], &[(1, Voter), (2, Voter), (3, Voter)]),
            (
                &[Change::Learner(n(9))],
                &[(1, Voter), (2, Voter), (3, Voter), (4, Learner), (9, Learner)],
                &[(1, Voter), (2, Voter), (3, Voter), (4, Learner), (9, Learner)],
            ),
        ];
        for (changes, joint, settled) in table {
            let next = start.changed(changes).unwrap();
            assert_eq!(seats(&next), joint, "{changes:?}");
            assert_eq!(seats(&next.settled()), settled, "{changes:?}");
            let voters_change = start.voters().ne(next.settled().voters());
            assert_eq!(next.is_joint(), voters_change, "{changes:?}: joint exactly if the voters change");
        }
    }

    #[test]
    fn members_are_written_down_in_order_each_once() {
        let table = [(&[][..], true), (&[1], true), (&[1, 2, 9], true), (&[2, 1], false), (&[1, 2, 2], false)];
        for (nodes, holds) in table {
            let member = |&node| Member { node: n(node), seat: Seat::Voter, witness: false };
            let configuration = Configuration::of_members(nodes.iter().map(member).collect());
            assert_eq!(configuration.is_some(), holds, "{nodes:?}");
        }
    }

    #[test]
    fn what_is_refused() {
        let two = Configuration::of_voters([n(1), n(2)]);
        let joint = two.changed(&[Change::Voter(n(3))]).unwrap();
        let table: [(&Configuration, &[Change], ChangeRefused); 8] = [
            (&joint, &[Change::Voter(n(4))], ChangeRefused::InProgress),
            (&two, &[Change::Remove(n(1)), Change::Remove(n(2))], ChangeRefused::NoVoters),
            (&two, &[Change::Learner(n(1)), Change::Learner(n(2))], ChangeRefused::NoVoters),
            (&two, &[Change::Remove(n(7))], ChangeRefused::NotAMember { node: n(7) }),
            (&two, &[Change::Voter(n(1))], ChangeRefused::NothingToDo),
            (&two, &[], ChangeRefused::NothingToDo),
            (&two, &[Change::Witness(n(1))], ChangeRefused::KeepsItsKind { node: n(1) }),
            (
                &two,
                &[Change::Witness(n(3)), Change::Witness(n(4)), Change::Witness(n(5))],
                ChangeRefused::TooManyWitnesses,
            ),
        ];
        for (start, changes, why) in table {
            assert_eq!(start.changed(changes), Err(why), "{changes:?}");
        }
        assert!(two.changed(&[Change::Witness(n(3))]).is_ok(), "every majority of three has one of the other two");
    }

    /// Every pair of neighbouring configurations of up to five nodes: no two quorums without a common voter, and every
    /// quorum has a voter with payloads.
    #[test]
    fn quorums_of_neighbours_meet() {
        let seats = [None, Some(Seat::Voter), Some(Seat::Learner)];
        let all = |kinds: u32| {
            let members = (0..5).filter_map(|node| {
                let seat = seats[(kinds / 3u32.pow(node) % 3) as usize]?;
                Some(Member { node: n(u64::from(node)), seat, witness: false })
            });
            Configuration { members: members.collect() }
        };
        let subset = |set: u32| move |node: NodeId| set >> node.0 & 1 == 1;
        for from in 0..3u32.pow(5) {
            let old = all(from);
            for to in 0..3u32.pow(5) {
                let wanted = all(to);
                if old.voters().next().is_none() || wanted.voters().next().is_none() {
                    continue;
                }
                let changes = (0..5).map(n).filter_map(|node| match (old.get(node), wanted.get(node)) {
                    (was, Some(is)) if was != Some(is) => {
                        Some(if is.seat == Seat::Voter { Change::Voter(node) } else { Change::Learner(node) })
                    }
                    (Some(_), None) => Some(Change::Remove(node)),
                    _ => None,
                });
                let Ok(joint) = old.changed(&changes.collect::<Vec<_>>()) else { continue };
                assert_eq!(joint.settled(), wanted);
                for one in 0..1 << 5 {
                    // The complement of a quorum of one configuration is a quorum of no neighbour.
                    let other = !one;
                    let meet = |a: &Configuration, b: &Configuration| {
                        !(a.is_quorum(subset(one)) && b.is_quorum(subset(other)))
                    };
                    assert!(meet(&old, &joint) && meet(&joint, &wanted) && meet(&joint, &joint), "{old:?} {wanted:?}");
                }
            }
        }
    }

    #[test]
    fn every_quorum_has_a_voter_with_payloads() {
        for voters in 1..=7u64 {
            for witnesses in 0..=voters {
                let member = |node| Member { node: n(node), seat: Seat::Voter, witness: node < witnesses };
                let Some(group) = Configuration::of_members((0..voters).map(member).collect()) else { continue };
                assert!(!group.is_quorum(|node| node.0 < witnesses), "{witnesses} witnesses of {voters} voters");
            }
        }
    }
}
