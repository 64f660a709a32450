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

impl Place {
    pub fn hash(&self) -> u64 {
        hash(&self.seats, self.shown)
    }
}

/// A state without the messages that are under way: the numbers of the nodes and of what the group has shown.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Scene {
    pub nodes: [u32; NODES_MAX],
    pub shown: u32,
}

impl Scene {
    pub fn hash(&self) -> u64 {
        hash(&self.nodes, self.shown)
    }
}

fn hash(numbers: &[u32], shown: u32) -> u64 {
    let mut hasher = Multiply::default();
    numbers.iter().for_each(|&number| hasher.write_u32(number));
    hasher.write_u32(shown);
    hasher.finish()
}
