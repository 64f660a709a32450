//! Numbers for values, so that a state of the group is a handful of small numbers and nothing is computed twice.
//!
//! A group has few different nodes, messages and pasts, and very many ways to put them together. Owns one list of each.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::{Arc, RwLock};

use vlot_raft::raft::Raft;

use super::node::{Move, Node};
use super::shown::Shown;

/// Everything that was ever seen, shared by all explorers.
#[derive(Default)]
pub struct Atlas {
    pub nodes: Numbered<Life>,
    pub moves: Numbered<Move>,
    pub shown: Numbered<Shown>,
    /// Messages that may come to a node: the numbers of their moves, sorted. The empty set has number 0.
    pub inboxes: Numbered<Vec<u32>>,
    pub seats: Numbered<Seat>,
    /// Replicas that have shown something.
    pub news: Numbered<Raft>,
}

/// A node's state, and how it was first come to. Only the state counts.
#[derive(Clone, Debug)]
pub struct Life {
    pub node: Node,
    pub by: Option<Turning>,
}

/// The last turning of a life: from which node's state it came, by which move, and which case of it.
#[derive(Clone, Copy, Debug)]
pub struct Turning {
    pub before: u32,
    pub by: u32,
    pub case: usize,
}

impl PartialEq for Life {
    fn eq(&self, other: &Self) -> bool {
        self.node == other.node
    }
}

impl Eq for Life {}

impl Hash for Life {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.node.hash(state);
    }
}

/// A node and what may come to it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Seat {
    pub node: u32,
    pub inbox: u32,
}

impl Atlas {
    pub fn new() -> Self {
        let atlas = Self::default();
        assert_eq!(atlas.inboxes.number(Vec::new()), 0);
        atlas
    }
}

/// Values, each with the number under which it was first seen.
pub struct Numbered<T> {
    inner: RwLock<Inner<T>>,
}

struct Inner<T> {
    numbers: HashMap<Arc<T>, u32>,
    values: Vec<Arc<T>>,
}

impl<T> Default for Numbered<T> {
    fn default() -> Self {
        Self { inner: RwLock::new(Inner { numbers: HashMap::new(), values: Vec::new() }) }
    }
}

impl<T: Eq + Hash> Numbered<T> {
    pub fn number(&self, value: T) -> u32 {
        if let Some(&number) = self.inner.read().expect("no explorer panics").numbers.get(&value) {
            return number;
        }
        let mut inner = self.inner.write().expect("no explorer panics");
        // Another explorer may have been here meanwhile.
        if let Some(&number) = inner.numbers.get(&value) {
            return number;
        }
        let (number, value) = (u32::try_from(inner.values.len()).expect("fewer values than numbers"), Arc::new(value));
        inner.values.push(value.clone());
        inner.numbers.insert(value, number);
        number
    }

    pub fn get(&self, number: u32) -> Arc<T> {
        self.inner.read().expect("no explorer panics").values[number as usize].clone()
    }

    pub fn len(&self) -> usize {
        self.inner.read().expect("no explorer panics").values.len()
    }
}

/// What one explorer has already asked for, by number.
pub struct Known<T>(Vec<Option<T>>);

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Known<T> {
    pub fn has(&self, number: u32) -> bool {
        self.0.get(number as usize).is_some_and(Option::is_some)
    }

    pub fn put(&mut self, number: u32, value: T) {
        let at = number as usize;
        if self.0.len() <= at {
            self.0.resize_with((at + 1).next_power_of_two(), || None);
        }
        self.0[at] = Some(value);
    }

    pub fn get(&self, number: u32) -> &T {
        self.0[number as usize].as_ref().expect("it was put there")
    }
}

/// A map from two numbers, whose hash is a multiplication: they are not chosen by an enemy.
pub type PairMap<V> = HashMap<(u32, u32), V, BuildHasherDefault<Multiply>>;

#[derive(Clone, Copy, Default)]
pub struct Multiply(u64);

impl Hasher for Multiply {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u32(u32::from(byte)));
    }

    fn write_u32(&mut self, word: u32) {
        self.0 = (self.0.rotate_left(29) ^ u64::from(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
