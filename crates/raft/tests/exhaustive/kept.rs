//! The states that one core keeps, and the queue of those whose successors are yet to be found.
//!
//! A message may come or not, so whatever can come after a state can come after one in which the same messages are under
//! way, and more: of states that differ in nothing else, only those with the most messages count. The others need not
//! be looked at, and since no property speaks of messages, nothing is missed. States are kept whole, so that none is
//! taken for another. Owns what is kept; must not know what comes after a state.

use super::cards::Cards;
use super::place::{Place, Scene};

/// A state by its core and its place there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Origin(pub u32);

impl Origin {
    /// Of the first state.
    pub const NONE: Self = Self(u32::MAX);
}

/// The end of a chain.
const END: u32 = u32::MAX;
const EMPTY: (u32, u32) = (END, 0);
/// In the place of the next in its chain: another state counts instead.
const OUTDONE: u32 = u32::MAX - 1;

pub struct Kept {
    pub places: Vec<Place>,
    /// Where each was found from.
    pub parents: Vec<Origin>,
    /// Those of the same scene, none of which outdoes another, are a chain.
    next: Vec<u32>,
    /// The first of each chain, by the hash of its scene, with a part of the hash.
    table: Vec<(u32, u32)>,
    chains: usize,
    outdone: usize,
    queue: Queue,
}

/// What became of a state that was found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// It is known, or one that counts more.
    Known,
    /// Its scene is known, with other messages.
    MoreMail,
    NewScene,
}

impl Kept {
    pub fn new() -> Self {
        Self {
            places: Vec::new(),
            parents: Vec::new(),
            next: Vec::new(),
            table: vec![EMPTY; 1 << 12],
            chains: 0,
            outdone: 0,
            queue: Queue::default(),
        }
    }

    /// How many count, and are outdone by no other.
    pub fn counting(&self) -> usize {
        self.places.len() - self.outdone
    }

    pub fn bytes(&self) -> usize {
        self.places.capacity() * (size_of::<Place>() + 4 + 4) + self.table.len() * 8
    }

    /// The least level at which a state waits.
    pub fn level(&self) -> Option<usize> {
        self.queue.level()
    }

    /// Takes the next state out of the queue, if one waits at this level.
    pub fn pop(&mut self, level: usize) -> Option<u32> {
        loop {
            let at = self.queue.pop(level)?;
            if self.next[at as usize] != OUTDONE {
                return Some(at);
            }
        }
    }

    /// Lets the newest state wait until its successors are asked for.
    pub fn enqueue_newest(&mut self, (level, letters): (usize, usize)) {
        self.queue.push(level, letters, self.places.len() as u32 - 1);
    }

    /// Keeps a state that is new.
    pub fn insert(&mut self, place: &Place, parent: Origin, cards: &mut Cards<'_>) -> Kind {
        if self.chains * 3 >= self.table.len() * 2 {
            self.grow(cards);
        }
        let scene = cards.scene(place);
        let slot = self.slot(&scene, cards);
        let (head, _) = self.table[slot];
        if self.chain(head).any(|at| cards.is_within(place, &self.places[at])) {
            return Kind::Known;
        }
        let new = self.places.len() as u32;
        let rest = self.drop_outdone(place, head, cards);
        self.table[slot] = (new, tag(&scene));
        self.places.push(*place);
        self.parents.push(parent);
        self.next.push(rest);
        if head == END {
            self.chains += 1;
            return Kind::NewScene;
        }
        Kind::MoreMail
    }

    fn chain(&self, head: u32) -> impl Iterator<Item = usize> + '_ {
        let mut at = head;
        std::iter::from_fn(move || {
            let here = (at != END).then_some(at as usize)?;
            at = self.next[here];
            Some(here)
        })
    }

    /// The chain without those that `place` outdoes.
    fn drop_outdone(&mut self, place: &Place, head: u32, cards: &mut Cards<'_>) -> u32 {
        let (mut first, mut last, mut at) = (END, END, head);
        while at != END {
            let next = self.next[at as usize];
            if cards.is_within(&self.places[at as usize], place) {
                self.next[at as usize] = OUTDONE;
                self.outdone += 1;
            } else {
                if last == END {
                    first = at;
                } else {
                    self.next[last as usize] = at;
                }
                self.next[at as usize] = END;
                last = at;
            }
            at = next;
        }
        first
    }

    /// Where the chain of a scene begins, or would.
    fn slot(&self, scene: &Scene, cards: &mut Cards<'_>) -> usize {
        let mask = self.table.len() - 1;
        let mut slot = scene.hash() as usize & mask;
        loop {
            let (head, known) = self.table[slot];
            if head == END || (known == tag(scene) && cards.scene(&self.places[head as usize]) == *scene) {
                return slot;
            }
            slot = (slot + 1) & mask;
        }
    }

    fn grow(&mut self, cards: &mut Cards<'_>) {
        let twice = vec![EMPTY; self.table.len() * 2];
        let chains = std::mem::replace(&mut self.table, twice);
        let mask = self.table.len() - 1;
        for (head, tag) in chains.into_iter().filter(|&chain| chain != EMPTY) {
            let mut slot = cards.scene(&self.places[head as usize]).hash() as usize & mask;
            while self.table[slot] != EMPTY {
                slot = (slot + 1) & mask;
            }
            self.table[slot] = (head, tag);
        }
    }
}

fn tag(scene: &Scene) -> u32 {
    (scene.hash() >> 32) as u32
}

/// States that wait, by level and by how many messages are under way: the lowest level first, then the most messages.
#[derive(Default)]
struct Queue(Vec<Vec<Vec<u32>>>);

impl Queue {
    fn push(&mut self, level: usize, letters: usize, at: u32) {
        if self.0.len() <= level {
            self.0.resize_with(level + 1, Vec::new);
        }
        let level = &mut self.0[level];
        if level.len() <= letters {
            level.resize_with(letters + 1, Vec::new);
        }
        level[letters].push(at);
    }

    fn level(&self) -> Option<usize> {
        self.0.iter().position(|level| level.iter().any(|bucket| !bucket.is_empty()))
    }

    fn pop(&mut self, level: usize) -> Option<u32> {
        self.0.get_mut(level)?.iter_mut().rev().find_map(Vec::pop)
    }
}
