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
    mail: Digest,
    rank: u16,
    pub term: u8,
    pub disk_term: u8,
    pub is_busy: bool,
}

/// What can be told of a set of messages without looking at it.
#[derive(Clone, Copy, Default)]
pub struct Digest {
    /// A bit for each message, the same for some.
    bits: u128,
    pub letters: u16,
}

impl Digest {
    fn of(letters: &[u32]) -> Self {
        let bits = letters.iter().fold(0, |bits, by| bits | 1 << (by % u128::BITS));
        Self { bits, letters: u16::try_from(letters.len()).expect("few messages") }
    }

    fn and(self, other: Self) -> Self {
        Self { bits: self.bits | other.bits, letters: self.letters + other.letters }
    }

    /// Whether all messages may be among the others, and are not the same: who lacks a bit lacks a message.
    pub fn may_be_within(self, other: Self) -> bool {
        self.letters < other.letters && self.bits & !other.bits == 0
    }
}

impl Card {
    /// No seat's yet.
    const BLANK: Self = Self {
        node: u32::MAX,
        inbox: 0,
        mail: Digest { bits: 0, letters: 0 },
        rank: 0,
        term: 0,
        disk_term: 0,
        is_busy: false,
    };

    fn of(seat: Seat, atlas: &Atlas, rules: &Rules) -> Self {
        let Seat { node, inbox } = seat;
        let (life, letters) = (atlas.nodes.get(node), atlas.inboxes.get(inbox));
        let small = |term: Term| u8::try_from(term.0).expect("few terms");
        Self {
            node,
            inbox,
            mail: Digest::of(&letters),
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
            let (less, more) = (self.of(less).mail, self.of(more).mail);
            less.may_be_within(more)
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

    /// How far the nodes have come.
    pub fn rank(&mut self, place: &Place) -> usize {
        (0..self.rules.nodes as usize).map(|at| usize::from(self.of(place.seats[at]).rank)).sum()
    }

    /// What is under way to all of them.
    pub fn mail(&mut self, place: &Place) -> Digest {
        (0..self.rules.nodes as usize).fold(Digest::default(), |mail, at| mail.and(self.of(place.seats[at]).mail))
    }
}
