//! How one member is replaced by another without the group ever having fewer voters: a learner comes in, catches up, and
//! takes the other's seat in one step.
//!
//! Pure: what comes next follows from the members alone, so that whatever stops half way goes on from where it stands.
//! Must not know of time, or where the request comes from.

use vlot_raft::configuration::{Member, Seat};
use vlot_raft::id::NodeId;

use crate::members::{MemberChange, Members};

/// One member is to be replaced by another node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Replacement {
    /// The member that leaves.
    pub old: NodeId,
    /// The node that comes.
    pub new: NodeId,
    /// Where that listens.
    pub address: String,
}

/// How far a replacement has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Replacing {
    /// The new node is no member yet.
    NotBegun,
    /// The new node learns, and the old one has its seat.
    CatchingUp,
    /// The new node takes the seat: the voters of before and those of afterwards decide together.
    Changing,
    /// The old node is no member any more, and the new one is.
    Done,
    /// Neither is a member.
    Neither,
}

impl Replacement {
    /// How far it has come among these members.
    #[must_use]
    pub fn stands(&self, members: &Members) -> Replacing {
        let seat = |node| members.configuration().get(node);
        match (seat(self.old), seat(self.new)) {
            _ if members.configuration().is_joint() => Replacing::Changing,
            (None, None) => Replacing::Neither,
            (None, Some(_)) => Replacing::Done,
            (Some(_), None) => Replacing::NotBegun,
            (Some(_), Some(_)) => Replacing::CatchingUp,
        }
    }

    /// What is to be asked for next; nothing while a change is under way, or when there is nothing left to do. A learner is
    /// promoted only once it has caught up: until then that is refused, and is to be asked for again.
    #[must_use]
    pub fn next(&self, members: &Members) -> Option<Vec<MemberChange>> {
        let Self { old, new, ref address } = *self;
        let seat = |node| members.configuration().get(node);
        let address = || address.clone();
        match (self.stands(members), seat(old), seat(new)) {
            // A witness has nothing to catch up with but terms.
            (Replacing::NotBegun, Some(Member { witness: true, .. }), _) => {
                Some(vec![MemberChange::AddWitness { node: new, address: address() }, MemberChange::Remove(old)])
            }
            (Replacing::NotBegun, ..) => Some(vec![MemberChange::AddLearner { node: new, address: address() }]),
            (Replacing::CatchingUp, Some(was), Some(is)) => {
                let takes_the_seat = was.seat == Seat::Voter && is.seat == Seat::Learner;
                let promote = takes_the_seat.then_some(MemberChange::Promote(new));
                Some(promote.into_iter().chain([MemberChange::Remove(old)]).collect())
            }
            _ => None,
        }
    }
}

impl std::fmt::Display for Replacing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotBegun => "the new node is no member yet",
            Self::CatchingUp => "the new node learns, and the old one still has its seat",
            Self::Changing => "the new node is taking the old one's seat",
            Self::Done => "the new node has taken the old one's seat",
            Self::Neither => "neither of the two nodes is a member",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn n(node: u64) -> NodeId {
        NodeId(node)
    }

    fn members(of: &[(u64, Seat, bool)]) -> Members {
        let member =
            |(node, seat, witness): &(u64, Seat, bool)| Member { node: n(*node), seat: *seat, witness: *witness };
        let seats = vlot_raft::configuration::Configuration::of_members(of.iter().map(member).collect());
        Members::default().with_seats(seats.unwrap())
    }

    #[test]
    fn what_comes_next_follows_from_the_members() {
        use MemberChange::{AddLearner, AddWitness, Promote, Remove};
        use Seat::{Joining, Learner, Leaving, Voter};
        let address = || "d:4".to_owned();
        let replacement = Replacement { old: n(3), new: n(4), address: address() };
        let two = [(1, Voter, false), (2, Voter, false)];
        type Row<'a> = (&'a [(u64, Seat, bool)], Replacing, Option<Vec<MemberChange>>);
        let rows: [Row<'_>; 9] = [
            (&[(3, Voter, false)], Replacing::NotBegun, Some(vec![AddLearner { node: n(4), address: address() }])),
            (&[(3, Learner, false)], Replacing::NotBegun, Some(vec![AddLearner { node: n(4), address: address() }])),
            (
                &[(3, Voter, true)],
                Replacing::NotBegun,
                Some(vec![AddWitness { node: n(4), address: address() }, Remove(n(3))]),
            ),
            (&[(3, Voter, false), (4, Learner, false)], Replacing::CatchingUp, Some(vec![Promote(n(4)), Remove(n(3))])),
            (&[(3, Voter, false), (4, Voter, false)], Replacing::CatchingUp, Some(vec![Remove(n(3))])),
            (&[(3, Learner, false), (4, Learner, false)], Replacing::CatchingUp, Some(vec![Remove(n(3))])),
            (&[(3, Leaving, false), (4, Joining, false)], Replacing::Changing, None),
            (&[(4, Voter, false)], Replacing::Done, None),
            (&[], Replacing::Neither, None),
        ];
        for (others, stands, next) in rows {
            let members = members(&[&two[..], others].concat());
            assert_eq!(replacement.stands(&members), stands, "{others:?}");
            assert_eq!(replacement.next(&members), next, "{others:?}");
        }
    }
}
