//! A state of the whole group, as numbers.

use std::hash::Hasher;

use super::atlas::Multiply;

pub const NODES_MAX: usize = 4;

/// The numbers of the nodes' seats and of what the group has shown. Seats behind the last node are 0.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Place {
    pub seats: [u32; NODES_MAX],
    pub shown: u32,
}

/// A state without the messages that are under way: the numbers of the nodes and of what the group has shown.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Scene {
    pub nodes: [u32; NODES_MAX],
    pub shown: u32,
}

impl Scene {
    pub fn hash(&self) -> u64 {
        let mut hasher = Multiply::default();
        self.nodes.iter().for_each(|&node| hasher.write_u32(node));
        hasher.write_u32(self.shown);
        hasher.finish()
    }
}
