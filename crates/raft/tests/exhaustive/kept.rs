//! The states that one core keeps, and the queue of those whose successors are yet to be found.
//!
//! A message may come or not, so whatever can come after a state can come after one in which the same messages are under
//! way, and more: of states that differ in nothing else, only those with the most messages count. The others need not
//! be looked at, and since no property speaks of messages, nothing is missed. States are kept whole, so that none is
//! taken for another. Owns what is kept; must not know what comes after a state.

use super::cards::{Cards, Digest};
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
/// In place of the next in a chain: another state counts instead.
const OUTDONE: u32 = u32::MAX - 1;

pub struct Kept {
    pub places: Vec<Place>,
    /// Where each was found from.
    pub parents: Vec<Origin>,
    links: Vec<Link>,
    /// The first of each chain, by the hash of its scene, with a part of the hash.
    chains: Vec<(u32, u32)>,
    scenes: usize,
    /// Each state by its hash: most that are found are known, and need not be looked for in their chain.
    table: Vec<u32>,
    outdone: usize,
    queue: Queue,
}

/// States of the same scene, none of which outdoes another, are a chain.
struct Link {
    mail: Digest,
    next: u32,
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
            links: Vec::new(),
            chains: vec![EMPTY; 1 << 12],
            scenes: 0,
            table: vec![END; 1 << 12],
            outdone: 0,
            queue: Queue::default(),
        }
    }

    /// How many count, and are outdone by no other.
    pub fn counting(&self) -> usize {
        self.places.len() - self.outdone
    }

    pub fn bytes(&self) -> usize {
        let each = size_of::<Place>() + size_of::<Origin>() + size_of::<Link>();
        self.places.capacity() * each + self.chains.len() * 8 + self.table.len() * 4
    }

    /// The least level at which a state waits.
    pub fn level(&self) -> Option<usize> {
        self.queue.level()
    }

    /// Takes the next state out of the queue, if one waits at this level.
    pub fn pop(&mut self, level: usize) -> Option<u32> {
        loop {
            let at = self.queue.pop(level)?;
            if self.links[at as usize].next != OUTDONE {
                return Some(at);
            }
        }
    }

    /// Lets the newest state wait until its successors are asked for.
    pub fn enqueue_newest(&mut self, level: usize) {
        let newest = self.places.len() - 1;
        self.queue.push(level, usize::from(self.links[newest].mail.letters), newest as u32);
    }

    /// Keeps a state that is new.
    pub fn insert(&mut self, place: &Place, parent: Origin, cards: &mut Cards<'_>) -> Kind {
        self.make_room(cards);
        let own_slot = self.slot_of(place);
        if self.table[own_slot] != END {
            return Kind::Known;
        }
        let (scene, mail) = (cards.scene(place), cards.mail(place));
        let slot = self.slot_of_chain(&scene, cards);
        let (head, _) = self.chains[slot];
        if self.is_outdone(place, mail, head, cards) {
            return Kind::Known;
        }
        let new = self.places.len() as u32;
        let next = self.drop_outdone(place, mail, head, cards);
        self.chains[slot] = (new, tag(&scene));
        self.table[own_slot] = new;
        self.places.push(*place);
        self.parents.push(parent);
        self.links.push(Link { mail, next });
        if head == END {
            self.scenes += 1;
            return Kind::NewScene;
        }
        Kind::MoreMail
    }

    fn is_outdone(&self, place: &Place, mail: Digest, head: u32, cards: &mut Cards<'_>) -> bool {
        let mut at = head;
        while at != END {
            let link = &self.links[at as usize];
            if mail.may_be_within(link.mail) && cards.is_within(place, &self.places[at as usize]) {
                return true;
            }
            at = link.next;
        }
        false
    }

    /// The chain without those that `place` outdoes.
    fn drop_outdone(&mut self, place: &Place, mail: Digest, head: u32, cards: &mut Cards<'_>) -> u32 {
        let (mut first, mut last, mut at) = (END, END, head);
        while at != END {
            let Link { mail: theirs, next } = self.links[at as usize];
            if theirs.may_be_within(mail) && cards.is_within(&self.places[at as usize], place) {
                self.links[at as usize].next = OUTDONE;
                self.outdone += 1;
            } else {
                let before = if last == END { &mut first } else { &mut self.links[last as usize].next };
                *before = at;
                last = at;
            }
            at = next;
        }
        if last != END {
            self.links[last as usize].next = END;
        }
        first
    }

    /// Where a state is in the table, or would be.
    fn slot_of(&self, place: &Place) -> usize {
        let mask = self.table.len() - 1;
        let mut slot = place.hash() as usize & mask;
        while self.table[slot] != END && self.places[self.table[slot] as usize] != *place {
            slot = (slot + 1) & mask;
        }
        slot
    }

    /// Where the chain of a scene begins, or would.
    fn slot_of_chain(&self, scene: &Scene, cards: &mut Cards<'_>) -> usize {
        let mask = self.chains.len() - 1;
        let mut slot = scene.hash() as usize & mask;
        loop {
            let (head, known) = self.chains[slot];
            if head == END || (known == tag(scene) && cards.scene(&self.places[head as usize]) == *scene) {
                return slot;
            }
            slot = (slot + 1) & mask;
        }
    }

    /// For one state more.
    fn make_room(&mut self, cards: &mut Cards<'_>) {
        if self.places.len() * 3 >= self.table.len() * 2 {
            self.table = vec![END; self.table.len() * 2];
            for at in 0..self.places.len() {
                let slot = self.slot_of(&self.places[at]);
                self.table[slot] = at as u32;
            }
        }
        if self.scenes * 3 >= self.chains.len() * 2 {
            let twice = vec![EMPTY; self.chains.len() * 2];
            let chains = std::mem::replace(&mut self.chains, twice);
            for (head, tag) in chains.into_iter().filter(|&chain| chain != EMPTY) {
                let slot = self.slot_of_chain(&cards.scene(&self.places[head as usize]), cards);
                self.chains[slot] = (head, tag);
            }
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
