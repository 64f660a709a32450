//! Which states of a group are the same but for the names of its nodes.
//!
//! Replicas do not care what they are called, so of all states that differ in names alone one is enough. What a node's
//! state would be under other names is found by living its life again under them. Owns the renamings; `explorer.rs`
//! lives the lives.

use vlot_raft::id::NodeId;

use super::node::Move;
use super::place::NODES_MAX;
use super::rules::Rules;

/// Where each node goes: the node at place `n` is called after place `self.0[n]`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Renaming([usize; NODES_MAX]);

impl Renaming {
    /// Every way to rename the nodes of a group in which all are alike; none but the empty one if they are not. The empty
    /// one comes first.
    pub fn all(rules: &Rules) -> Vec<Self> {
        let mut all = vec![Self(std::array::from_fn(|at| at))];
        let are_alike = rules.members.nodes().count() as u64 == rules.nodes
            && !rules.members.members().iter().any(|member| member.witness)
            && rules.changes.is_empty();
        if are_alike && rules.symmetry {
            // Swapping neighbours makes all of them.
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
        }
        all
    }

    pub fn place(self, at: usize) -> usize {
        self.0[at]
    }

    pub fn name(self, node: NodeId) -> NodeId {
        NodeId(self.0[node.0 as usize - 1] as u64 + 1)
    }

    pub fn renamed(self, what: &Move) -> Move {
        match what.clone() {
            Move::Receive { from, to, message } => Move::Receive { from: self.name(from), to: self.name(to), message },
            Move::Install { to, id, membership } => Move::Install { to: self.name(to), id, membership },
            Move::Reconnect { peer } => Move::Reconnect { peer: self.name(peer) },
            other => other,
        }
    }
}
