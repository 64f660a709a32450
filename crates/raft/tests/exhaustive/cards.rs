//! What is asked of a seat again and again: who sits there, and what may come.
//!
//! Owns a short answer for each seat, and the comparison of inboxes. Must not know what comes after a state.

use vlot_raft::id::Term;

use super::atlas::{Atlas, PairMap, Seat};
use super::node::Node;
use super::place::{NODES_MAX, Place, Scene};
use super::rules::Rules;

#[derive(Clone, Copy)]
pub struct Card {
    pub node: u32,
    inbox: u32,
    /// A bit for each message, the same for some: who lacks a bit lacks a message.
    bits: u64,
    /// How many messages may come.
    letters: u16,
    rank: u16,
    pub term: u8,
    pub disk_term: u8,
    pub is_busy: bool,
}

impl Card {
    /// No seat's yet.
    const BLANK: Self =
        Self { node: u32::MAX, inbox: 0, bits: 0, letters: 0, rank: 0, term: 0, disk_term: 0, is_busy: false };

    fn of(seat: Seat, atlas: &Atlas, rules: &Rules) -> Self {
        let Seat { node, inbox } = seat;
        let (life, letters) = (atlas.nodes.get(node), atlas.inboxes.get(inbox));
        let bits = letters.iter().fold(0, |bits, by| bits | 1 << (by % 64));
        let small = |term: Term| u8::try_from(term.0).expect("few terms");
        Self {
            node,
            inbox,
            bits,
            letters: u16::try_from(letters.len()).expect("few messages"),
            rank: rank(&life.node),
            term: small(life.node.term()),
            disk_term: small(life.node.disk.term),
            is_busy: life.node.is_busy(rules),
        }
    }
}

/// How far a node has come, by what it has made durable: terms never fall, and logs seldom become shorter.
fn rank(node: &Node) -> u16 {
    const ENTRIES_IN_A_TERM: u64 = 16;
    let rank = node.disk.term.0 * ENTRIES_IN_A_TERM + node.disk.log.last().0;
    u16::try_from(rank).expect("few terms and entries")
}

pub struct Cards<'a> {
    rules: &'a Rules,
    atlas: &'a Atlas,
    cards: Vec<Card>,
    /// Whether one inbox is within another.
    within: PairMap<bool>,
}

impl<'a> Cards<'a> {
    pub fn new(rules: &'a Rules, atlas: &'a Atlas) -> Self {
        Self { rules, atlas, cards: Vec::new(), within: PairMap::default() }
    }

    pub fn of(&mut self, seat: u32) -> &Card {
        let at = seat as usize;
        if self.cards.len() <= at {
            self.cards.resize((at + 1).next_power_of_two(), Card::BLANK);
        }
        if self.cards[at].node == Card::BLANK.node {
            self.cards[at] = Card::of(*self.atlas.seats.get(seat), self.atlas, self.rules);
        }
        &self.cards[at]
    }

    /// A state without the messages that are under way.
    pub fn scene(&mut self, place: &Place) -> Scene {
        let mut scene = Scene { nodes: [0; NODES_MAX], shown: place.shown };
        for at in 0..self.rules.nodes as usize {
            scene.nodes[at] = self.of(place.seats[at]).node;
        }
        scene
    }

    /// Whether all messages under way in one state are so in another of the same scene.
    pub fn is_within(&mut self, less: &Place, more: &Place) -> bool {
        let others = || less.seats.iter().zip(&more.seats).filter(|(less, more)| less != more);
        let may_be = others().all(|(&less, &more)| {
            let (less, more) = (*self.of(less), self.of(more));
            less.letters < more.letters && less.bits & !more.bits == 0
        });
        may_be && others().all(|(&less, &more)| self.is_inbox_within(less, more))
    }

    fn is_inbox_within(&mut self, less: u32, more: u32) -> bool {
        let (less, more) = (self.of(less).inbox, self.of(more).inbox);
        let atlas = self.atlas;
        *self.within.entry((less, more)).or_insert_with(|| {
            let (less, more) = (atlas.inboxes.get(less), atlas.inboxes.get(more));
            less.iter().all(|by| more.binary_search(by).is_ok())
        })
    }

    /// When a state should be looked at: by how far its nodes have come, and then by how many messages are under way.
    pub fn rank(&mut self, place: &Place) -> (usize, usize) {
        let (mut level, mut letters) = (0, 0);
        for at in 0..self.rules.nodes as usize {
            let card = self.of(place.seats[at]);
            level += usize::from(card.rank);
            letters += usize::from(card.letters);
        }
        (level, letters)
    }
}
