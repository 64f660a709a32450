//! Which states of a group are the same but for the names of its nodes.
//!
//! Replicas do not care what they are called, so of all states that differ in names alone one is enough. What a node's
//! state would be under other names is found by living its life again under them. Owns the renamings; `explorer.rs`
//! lives the lives.

use vlot_raft::configuration::{Change, Configuration, Member};
use vlot_raft::id::NodeId;
use vlot_raft::message::{Body, Message};

use super::node::Move;
use super::place::NODES_MAX;
use super::rules::Rules;

/// Where each node goes: the node at place `n` is called after place `self.0[n]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Renaming([usize; NODES_MAX]);

impl Renaming {
    /// Every way to rename the nodes of a group under which its rules stay the same. The first changes no name.
    pub fn all(rules: &Rules) -> Vec<Self> {
        let mut all = vec![all_names_stay()];
        // Swapping neighbours makes all there are.
        let mut at = 0;
        while let Some(&Self(known)) = all.get(at) {
            for left in 1..rules.nodes as usize {
                let mut swapped = known;
                swapped.swap(left - 1, left);
                if !all.contains(&Self(swapped)) {
                    all.push(Self(swapped));
                }
            }
            at += 1;
        }
        let keep = |renaming: &Self| rules.symmetry || *renaming == all_names_stay();
        all.into_iter().filter(keep).filter(|renaming| renaming.keeps(rules)).collect()
    }

    /// Whether the same nodes belong to the group, and the same changes are asked for.
    fn keeps(self, rules: &Rules) -> bool {
        let stays = |changes: &Vec<Change>| self.changes(changes) == *changes;
        self.configuration(&rules.members) == rules.members && rules.changes.iter().all(stays)
    }

    pub fn place(self, at: usize) -> usize {
        self.0[at]
    }

    pub fn name(self, node: NodeId) -> NodeId {
        NodeId(self.0[node.0 as usize - 1] as u64 + 1)
    }

    pub fn renamed(self, what: &Move) -> Move {
        match what.clone() {
            Move::Receive { from, to, message: Message { term, body } } => {
                let (from, to, body) = (self.name(from), self.name(to), self.body(body));
                Move::Receive { from, to, message: Message { term, body } }
            }
            Move::Install { to, id, configuration: (at, configuration) } => {
                Move::Install { to: self.name(to), id, configuration: (at, self.configuration(&configuration)) }
            }
            Move::Reconnect { peer } => Move::Reconnect { peer: self.name(peer) },
            Move::Silent { peer } => Move::Silent { peer: self.name(peer) },
            Move::Change(changes) => Move::Change(self.changes(&changes)),
            other => other,
        }
    }

    /// Of all that a message says, configurations alone name nodes.
    fn body(self, body: Body) -> Body {
        match body {
            Body::AppendEntries { session, entries, configurations, commit } => {
                let configurations =
                    configurations.into_iter().map(|(at, set)| (at, self.configuration(&set))).collect();
                Body::AppendEntries { session, entries, configurations, commit }
            }
            other => other,
        }
    }

    fn configuration(self, configuration: &Configuration) -> Configuration {
        let members = configuration.members().iter();
        let mut members: Vec<Member> =
            members.map(|&member| Member { node: self.name(member.node), ..member }).collect();
        members.sort_unstable();
        Configuration::of_members(members).expect("as many witnesses as before")
    }

    fn changes(self, changes: &[Change]) -> Vec<Change> {
        let renamed = |change: &Change| match *change {
            Change::Renew => Change::Renew,
            Change::Voter(node) => Change::Voter(self.name(node)),
            Change::Witness(node) => Change::Witness(self.name(node)),
            Change::Learner(node) => Change::Learner(self.name(node)),
            Change::Remove(node) => Change::Remove(self.name(node)),
        };
        changes.iter().map(renamed).collect()
    }
}

fn all_names_stay() -> Renaming {
    Renaming(std::array::from_fn(|at| at))
}
