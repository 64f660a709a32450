//! To the end of the queue, on all cores.
//!
//! Each core owns the states whose scene's hash falls to it: it finds what comes after them, and takes in what the others
//! found for it.

use std::thread;
use std::time::{Duration, Instant};

use super::Broken;
use super::atlas::Atlas;
use super::explorer::Explorer;
use super::kept::{Kept, Kind, Origin};
use super::place::Place;
use super::rules::Rules;

/// Which states are looked at first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// The least advanced; of those, the ones with the most messages. So most states that others outdo are known to be
    /// outdone before they are looked at, which saves nine of ten where there is much to replicate.
    Progress,
    /// The nearest to the first: if something is broken, the way there is about the shortest.
    Breadth,
}

/// What a search has found.
pub struct Found {
    /// Distinct states that were kept.
    pub states: usize,
    /// Those of them that no other outdoes.
    pub counting: usize,
    /// How many were looked at.
    pub expanded: u64,
    pub moves: u64,
    pub nodes: usize,
    pub messages: usize,
    pub time: Duration,
    pub bytes: usize,
    /// Whether nothing was left to look at.
    pub to_the_end: bool,
    pub broken: Option<(Broken, Vec<String>)>,
}

/// States a core expands before it hands over what it has found.
const SLICE: usize = 1 << 11;

struct Shard<'a> {
    explorer: Explorer<'a>,
    kept: Kept,
    order: Order,
    expanded: u64,
    moves: u64,
    found: Vec<Place>,
    fault: Option<(Origin, Option<u32>, Broken)>,
}

type Batch = Vec<(Place, Origin)>;

pub fn search(rules: &Rules, order: Order, states_max: usize) -> Found {
    let begin = Instant::now();
    let atlas = Atlas::new();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut shards: Vec<Shard<'_>> = (0..cores).map(|_| Shard::new(Explorer::new(rules, &atlas), order)).collect();
    let first = shards[0].explorer.first();
    let owner = shards[0].owner(&first, cores);
    shards[owner].take(vec![(first, Origin::NONE)], 0, owner, cores);
    let mut spoke = Instant::now();
    let to_the_end = loop {
        let Some(level) = shards.iter().filter_map(|shard| shard.kept.level()).min() else { break true };
        round(&mut shards, level, cores);
        let states: usize = shards.iter().map(|shard| shard.kept.places.len()).sum();
        if spoke.elapsed() > Duration::from_secs(10) {
            spoke = Instant::now();
            println!("level {level}, {states} states, {} nodes, {} seats", atlas.nodes.len(), atlas.seats.len());
        }
        if shards.iter().any(|shard| shard.fault.is_some()) || states > states_max {
            break false;
        }
    };
    let fault = shards.iter_mut().find_map(|shard| shard.fault.take());
    let broken = fault.map(|(origin, last, broken)| (broken, story(&mut shards, origin, last, cores)));
    Found {
        states: shards.iter().map(|shard| shard.kept.places.len()).sum(),
        counting: shards.iter().map(|shard| shard.kept.counting()).sum(),
        expanded: shards.iter().map(|shard| shard.expanded).sum(),
        moves: shards.iter().map(|shard| shard.moves).sum(),
        nodes: atlas.nodes.len(),
        messages: atlas.moves.len(),
        time: begin.elapsed(),
        bytes: shards.iter().map(|shard| shard.kept.bytes()).sum(),
        to_the_end,
        broken,
    }
}

/// Every core expands a slice of its states, then takes in what was found for it.
fn round(shards: &mut [Shard<'_>], level: usize, cores: usize) {
    let batches: Vec<Vec<Batch>> = thread::scope(|scope| {
        let expanding: Vec<_> = shards
            .iter_mut()
            .enumerate()
            .map(|(own, shard)| scope.spawn(move || shard.expand(level, own, cores)))
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
            scope.spawn(move || batches.into_iter().for_each(|batch| shard.take(batch, level + 1, own, cores)));
        }
    });
}

impl<'a> Shard<'a> {
    fn new(explorer: Explorer<'a>, order: Order) -> Self {
        Self { explorer, kept: Kept::new(), order, expanded: 0, moves: 0, found: Vec::new(), fault: None }
    }

    fn owner(&mut self, place: &Place, cores: usize) -> usize {
        (self.explorer.cards.scene(place).hash() >> 40) as usize % cores
    }

    /// What comes after the next states of this level, by the core that owns it.
    fn expand(&mut self, level: usize, own: usize, cores: usize) -> Vec<Batch> {
        let mut batches: Vec<Batch> = (0..cores).map(|_| Vec::new()).collect();
        let mut found = std::mem::take(&mut self.found);
        for _ in 0..SLICE {
            let Some(at) = self.kept.pop(level) else { break };
            self.expanded += 1;
            let (place, origin) = (self.kept.places[at as usize], Origin(at * cores as u32 + own as u32));
            let done = self.explorer.successors(&place, &mut |next, _| found.push(next));
            self.moves += found.len() as u64;
            for next in found.drain(..) {
                let next = self.explorer.canonical(&next);
                if next != place {
                    batches[self.owner(&next, cores)].push((next, origin));
                }
            }
            if let Err((id, broken)) = done {
                self.fault.get_or_insert((origin, Some(id), broken));
            }
        }
        self.found = found;
        batches
    }

    /// Keeps what is new, and checks it: what must hold speaks of the scene alone.
    fn take(&mut self, batch: Batch, depth: usize, own: usize, cores: usize) {
        for (place, parent) in batch {
            let kind = self.kept.insert(&place, parent, &mut self.explorer.cards);
            if kind == Kind::Known {
                continue;
            }
            match self.order {
                Order::Progress => self.kept.enqueue_newest(self.explorer.cards.rank(&place)),
                Order::Breadth => self.kept.enqueue_newest(depth),
            }
            if kind == Kind::MoreMail {
                continue;
            }
            if let Err(broken) = self.explorer.check(&place) {
                let origin = Origin(((self.kept.places.len() - 1) * cores + own) as u32);
                self.fault.get_or_insert((origin, None, broken));
            }
        }
    }
}

/// The way to a state, and the move there that broke something.
fn story(shards: &mut [Shard<'_>], end: Origin, last: Option<u32>, cores: usize) -> Vec<String> {
    let mut way = vec![end];
    while let Some(&Origin(at)) = way.last() {
        let parent = shards[at as usize % cores].kept.parents[at as usize / cores];
        if parent == Origin::NONE {
            break;
        }
        way.push(parent);
    }
    way.reverse();
    let explorer_of = 0;
    let mut lines = Vec::new();
    let mut here = shards[explorer_of].explorer.first();
    for &Origin(at) in &way[1..] {
        let there = shards[at as usize % cores].kept.places[at as usize / cores];
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
