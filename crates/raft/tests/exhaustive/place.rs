//! A state of the whole group, as numbers.

use std::hash::Hasher;

use super::atlas::Multiply;

pub const NODES_MAX: usize = 4;

/// The numbers of the nodes' seats and of what the group has shown. Seats behind the last node are 0.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    pub seats: [u32; NODES_MAX],
    pub shown: u32,
}

impl Place {
    pub fn hash(&self) -> u64 {
        let mut hasher = Multiply::default();
        self.seats.iter().for_each(|&seat| hasher.write_u32(seat));
        hasher.write_u32(self.shown);
        hasher.finish()
    }
}
