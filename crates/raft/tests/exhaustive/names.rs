//! The one state that stands for all that differ from it in names alone.
//!
//! What a node's state would be under other names is found by living its life again under them. Owns what each number is
//! under each renaming.

use super::atlas::{Life, Seat, Turning};
use super::explorer::Explorer;
use super::node::Node;
use super::place::{NODES_MAX, Place, Scene};
use super::symmetry::Renaming;

/// No number.
const UNKNOWN: u32 = u32::MAX;

/// What each number is under each renaming: as many for each as there are renamings, as far as they were asked for.
#[derive(Default)]
pub struct Images {
    nodes: Vec<u32>,
    seats: Vec<u32>,
    shown: Vec<u32>,
}

/// The place of an image, which is there afterwards.
fn place_for(images: &mut Vec<u32>, number: u32, renamings: &[Renaming], n: usize) -> usize {
    let at = number as usize * renamings.len() + n;
    if images.len() <= at {
        images.resize((at + 1).next_power_of_two(), UNKNOWN);
    }
    at
}

impl Explorer<'_> {
    /// Of all names, those under which the nodes' numbers come first; of those, under which the messages' do.
    pub fn canonical(&mut self, place: &Place) -> Place {
        if self.renamings.len() == 1 {
            return *place;
        }
        let scene = self.cards.scene(place);
        let (mut least, mut best, mut ties) = (scene, 0, 0_u32);
        for n in 1..self.renamings.len() {
            let image = self.image_of_scene(&scene, n);
            if image < least {
                (least, best, ties) = (image, n, 0);
            } else if image == least {
                ties |= 1 << n;
            }
        }
        let mut first = self.image_of_place(place, best);
        for n in (0..self.renamings.len()).filter(|n| ties & (1 << n) != 0) {
            first = first.min(self.image_of_place(place, n));
        }
        first
    }

    fn image_of_scene(&mut self, scene: &Scene, n: usize) -> Scene {
        let mut image = Scene { nodes: [0; NODES_MAX], shown: self.image_of_shown(scene.shown, n) };
        for at in 0..self.rules.nodes as usize {
            image.nodes[self.renamings[n].place(at)] = self.image_of_node(scene.nodes[at], n);
        }
        image
    }

    fn image_of_place(&mut self, place: &Place, n: usize) -> Place {
        let mut image = Place { seats: [0; NODES_MAX], shown: self.image_of_shown(place.shown, n) };
        for at in 0..self.rules.nodes as usize {
            image.seats[self.renamings[n].place(at)] = self.image_of_seat(place.seats[at], n);
        }
        image
    }

    fn image_of_seat(&mut self, number: u32, n: usize) -> u32 {
        if n == 0 {
            return number;
        }
        let at = place_for(&mut self.images.seats, number, &self.renamings, n);
        if self.images.seats[at] == UNKNOWN {
            let Seat { node, inbox } = *self.atlas.seats.get(number);
            let node = self.image_of_node(node, n);
            let letters = self.atlas.inboxes.get(inbox);
            let inbox = self.inbox(letters.iter().map(|&by| self.image_of_move(by, n)).collect());
            self.images.seats[at] = self.atlas.seats.number(Seat { node, inbox });
        }
        self.images.seats[at]
    }

    fn image_of_shown(&mut self, number: u32, n: usize) -> u32 {
        let at = place_for(&mut self.images.shown, number, &self.renamings, n);
        if self.images.shown[at] == UNKNOWN {
            let renaming = &self.renamings[n];
            let image = self.atlas.shown.get(number).renamed(|name| renaming.name(name));
            self.images.shown[at] = self.atlas.shown.number(image);
        }
        self.images.shown[at]
    }

    fn image_of_move(&self, by: u32, n: usize) -> u32 {
        self.atlas.moves.number(self.renamings[n].renamed(&self.what(by)))
    }

    /// A node's state as it would be if all names had been others from the beginning.
    fn image_of_node(&mut self, number: u32, n: usize) -> u32 {
        let at = place_for(&mut self.images.nodes, number, &self.renamings, n);
        if self.images.nodes[at] == UNKNOWN {
            self.images.nodes[at] = self.live_again(number, n);
        }
        self.images.nodes[at]
    }

    fn live_again(&mut self, number: u32, n: usize) -> u32 {
        let life = self.atlas.nodes.get(number);
        match life.by {
            None => {
                let node = Node::first(self.renamings[n].name(life.node.name()), self.rules);
                self.atlas.nodes.number(Life { node, by: None })
            }
            Some(Turning { before, by, case }) => {
                let (before, by) = (self.image_of_node(before, n), self.image_of_move(by, n));
                self.outcomes(before, by).expect("nothing breaks, as it has not under other names")[case].node
            }
        }
    }
}
