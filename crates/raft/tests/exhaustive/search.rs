//! Breadth first, on all cores, to the end of the queue.
//!
//! The list of states that were found is the queue. Each core owns the states whose hash falls to it: it finds what
//! comes after them, and takes in what the others found for it. States are kept whole, so that none is taken for
//! another.

use std::thread;
use std::time::{Duration, Instant};

use super::Broken;
use super::atlas::Atlas;
use super::explorer::Explorer;
use super::place::Place;
use super::rules::Rules;

/// What a search has found.
pub struct Found {
    pub states: usize,
    pub moves: u64,
    pub depth: usize,
    pub nodes: usize,
    pub messages: usize,
    pub time: Duration,
    pub bytes: usize,
    /// Whether nothing was left to look at.
    pub to_the_end: bool,
    pub broken: Option<(Broken, Vec<String>)>,
}

/// States a core expands before it hands over what it has found.
const SLICE: usize = 1 << 14;

struct Shard<'a> {
    explorer: Explorer<'a>,
    places: Vec<Place>,
    /// Where each was found from.
    parents: Vec<Origin>,
    table: Vec<u32>,
    /// How many of them were expanded.
    expanded: usize,
    moves: u64,
    found: Vec<Place>,
    fault: Option<(Origin, Option<u32>, Broken)>,
}

/// A state by its shard and place there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Origin(u32);

type Batch = Vec<(Place, Origin)>;

pub fn search(rules: &Rules, states_max: usize) -> Found {
    let begin = Instant::now();
    let atlas = Atlas::new();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut shards: Vec<Shard<'_>> = (0..cores).map(|_| Shard::new(Explorer::new(rules, &atlas))).collect();
    let first = shards[0].explorer.first();
    let owner = owner(&first, cores);
    shards[owner].take(vec![(first, Origin(u32::MAX))], owner, cores);
    let mut depth = 0;
    loop {
        let ends: Vec<usize> = shards.iter().map(|shard| shard.places.len()).collect();
        if shards.iter().zip(&ends).all(|(shard, &end)| shard.expanded == end) {
            break;
        }
        while shards.iter().zip(&ends).any(|(shard, &end)| shard.expanded < end) {
            round(&mut shards, &ends, cores);
        }
        depth += 1;
        let states: usize = shards.iter().map(|shard| shard.places.len()).sum();
        if std::env::var_os("VLOT_SHOW").is_some() {
            println!(
                "depth {depth}: {states} states, {} nodes, {} moves, {} inboxes, {} seats, {} pasts, {:?}",
                atlas.nodes.len(),
                atlas.moves.len(),
                atlas.inboxes.len(),
                atlas.seats.len(),
                atlas.shown.len(),
                begin.elapsed()
            );
        }
        if shards.iter().any(|shard| shard.fault.is_some()) || states > states_max {
            break;
        }
    }
    let states = shards.iter().map(|shard| shard.places.len()).sum();
    let to_the_end = shards.iter().all(|shard| shard.expanded == shard.places.len());
    let bytes = shards.iter().map(Shard::bytes).sum();
    let moves = shards.iter().map(|shard| shard.moves).sum();
    let fault = shards.iter_mut().find_map(|shard| shard.fault.take());
    let broken = fault.map(|(origin, last, broken)| (broken, story(&mut shards, origin, last, cores)));
    let (nodes, messages) = (atlas.nodes.len(), atlas.moves.len());
    Found { states, moves, depth, nodes, messages, time: begin.elapsed(), bytes, to_the_end, broken }
}

fn owner(place: &Place, cores: usize) -> usize {
    (place.hash() >> 40) as usize % cores
}

/// Every core expands a slice of its states, then takes in what was found for it.
fn round(shards: &mut [Shard<'_>], ends: &[usize], cores: usize) {
    let batches: Vec<Vec<Batch>> = thread::scope(|scope| {
        let expanding: Vec<_> = shards
            .iter_mut()
            .zip(ends)
            .enumerate()
            .map(|(own, (shard, &end))| scope.spawn(move || shard.expand(end, own, cores)))
            .collect();
        expanding.into_iter().map(|thread| thread.join().expect("an explorer does not panic")).collect()
    });
    let mut for_owner: Vec<Vec<Batch>> = (0..cores).map(|_| Vec::new()).collect();
    for batches in batches {
        for (to, batch) in batches.into_iter().enumerate() {
            for_owner[to].push(batch);
        }
    }
    thread::scope(|scope| {
        for (own, (shard, batches)) in shards.iter_mut().zip(for_owner).enumerate() {
            scope.spawn(move || batches.into_iter().for_each(|batch| shard.take(batch, own, cores)));
        }
    });
}

impl<'a> Shard<'a> {
    fn new(explorer: Explorer<'a>) -> Self {
        Self {
            explorer,
            places: Vec::new(),
            parents: Vec::new(),
            table: vec![u32::MAX; 1 << 12],
            expanded: 0,
            moves: 0,
            found: Vec::new(),
            fault: None,
        }
    }

    fn bytes(&self) -> usize {
        self.places.capacity() * size_of::<Place>() + self.parents.capacity() * 4 + self.table.len() * 4
    }

    /// What comes after the next states, by the core that owns it.
    fn expand(&mut self, end: usize, own: usize, cores: usize) -> Vec<Batch> {
        let mut batches: Vec<Batch> = (0..cores).map(|_| Vec::new()).collect();
        let end = end.min(self.expanded + SLICE);
        for at in self.expanded..end {
            let (place, origin) = (self.places[at], Origin((at * cores + own) as u32));
            let moves = &mut self.moves;
            let found = &mut self.found;
            let done = self.explorer.successors(&place, &mut |next, _| found.push(next));
            *moves += found.len() as u64;
            for next in found.drain(..) {
                let next = self.explorer.canonical(&next);
                if next != place {
                    batches[owner(&next, cores)].push((next, origin));
                }
            }
            if let Err((id, broken)) = done {
                self.fault.get_or_insert((origin, Some(id), broken));
            }
        }
        self.expanded = end;
        batches
    }

    /// Keeps what is new, and checks it.
    fn take(&mut self, batch: Batch, own: usize, cores: usize) {
        for (place, parent) in batch {
            if !self.insert(&place) {
                continue;
            }
            self.parents.push(parent);
            if let Err(broken) = self.explorer.check(&place) {
                let origin = Origin(((self.places.len() - 1) * cores + own) as u32);
                self.fault.get_or_insert((origin, None, broken));
            }
        }
    }

    /// False if it is known.
    fn insert(&mut self, place: &Place) -> bool {
        if self.places.len() * 3 >= self.table.len() * 2 {
            self.grow();
        }
        let mask = self.table.len() - 1;
        let mut slot = place.hash() as usize & mask;
        while self.table[slot] != u32::MAX {
            if self.places[self.table[slot] as usize] == *place {
                return false;
            }
            slot = (slot + 1) & mask;
        }
        self.table[slot] = self.places.len() as u32;
        self.places.push(*place);
        true
    }

    fn grow(&mut self) {
        let mut table = vec![u32::MAX; self.table.len() * 2];
        let mask = table.len() - 1;
        for (at, place) in self.places.iter().enumerate() {
            let mut slot = place.hash() as usize & mask;
            while table[slot] != u32::MAX {
                slot = (slot + 1) & mask;
            }
            table[slot] = at as u32;
        }
        self.table = table;
    }
}

/// The shortest way to a state, and the move there that broke something.
fn story(shards: &mut [Shard<'_>], end: Origin, last: Option<u32>, cores: usize) -> Vec<String> {
    let mut way = vec![end];
    while let Some(&Origin(at)) = way.last() {
        let parent = shards[at as usize % cores].parents[at as usize / cores];
        if parent == Origin(u32::MAX) {
            break;
        }
        way.push(parent);
    }
    way.reverse();
    let explorer_of = 0;
    let mut lines = Vec::new();
    let mut here = shards[explorer_of].explorer.first();
    for &Origin(at) in &way[1..] {
        let there = shards[at as usize % cores].places[at as usize / cores];
        let explorer = &mut shards[explorer_of].explorer;
        let mut next = Vec::new();
        _ = explorer.successors(&here, &mut |place, by| next.push((place, by)));
        let step = next.into_iter().find(|(place, _)| explorer.canonical(place) == there);
        let Some((place, by)) = step else { break };
        lines.push(format!("{by:?} {:?}", explorer.what(by.0)));
        here = place;
    }
    if last.is_some() {
        let explorer = &mut shards[explorer_of].explorer;
        if let Err((by, _)) = explorer.successors(&here, &mut |_, _| {}) {
            lines.push(format!("{:?}", explorer.what(by)));
        }
    }
    lines
}
