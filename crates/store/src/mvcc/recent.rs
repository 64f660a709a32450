//! Recent history in memory: the newest events, without a gap, and all that are not durable.
//!
//! Owns which blocks are in memory and finds an event in them. This is where values are read from; what is older is read
//! from the engine. A clone is what is in memory at that moment and costs nothing: blocks are never changed while
//! another holds them, and the list of them is copied in parts.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::mvcc::history::{BLOCK_BYTES_MAX, Block, Event, first_from};
use crate::mvcc::revision::Revision;

/// How many blocks are in a group. A clone has one group and the list of groups copied, at the next block.
const GROUP_BLOCKS: usize = 64;
/// A shorter value is copied for its reader; a longer one is shared, and keeps its block in memory.
const COPIED_BYTES_MAX: usize = 1024;

/// Blocks of events, oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recent {
    /// With the first revision of each, so that a search stays in one piece of memory. No group is empty.
    groups: Arc<VecDeque<(Revision, Arc<Group>)>>,
    /// Takes events until it is full or another holds it.
    open: Option<Arc<Block>>,
    bytes: usize,
}

type Group = Vec<(Revision, Arc<Block>)>;

impl Recent {
    /// The bytes of all events in it.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a later event. Returns the block before, when one has become full.
    pub fn push(&mut self, event: &Event<'_>) -> Option<Arc<Block>> {
        if let Some(open) = self.open.as_mut().and_then(Arc::get_mut)
            && open.has_room_for(event.encoded_bytes_max())
        {
            let before = open.len();
            open.push(event);
            self.bytes += open.len() - before;
            return None;
        }
        let closed = self.close();
        let block = Block::of(event);
        self.bytes += block.len();
        self.open = Some(Arc::new(block));
        closed
    }

    /// Ends the block that takes events, and returns it.
    pub fn close(&mut self) -> Option<Arc<Block>> {
        let mut open = self.open.take()?;
        if let Some(block) = Arc::get_mut(&mut open) {
            block.shrink();
        }
        self.add(Arc::clone(&open));
        Some(open)
    }

    /// Adds a block to the list. Small ones are joined, each time with one about as large, so that a block for each
    /// small batch does not stay, and no event is copied often.
    fn add(&mut self, mut block: Arc<Block>) {
        let groups = Arc::make_mut(&mut self.groups);
        while let Some((first, group)) = groups.back_mut() {
            let group = Arc::make_mut(group);
            let last = group.last().expect("no group is empty").1.clone();
            if last.len() > 2 * block.len() || last.len() + block.len() > BLOCK_BYTES_MAX {
                if group.len() < GROUP_BLOCKS {
                    group.push((block.first, block));
                    return;
                }
                break;
            }
            self.bytes -= last.len() + block.len();
            block = Arc::new(last.joined(&block));
            self.bytes += block.len();
            group.pop();
            if group.is_empty() {
                groups.pop_back();
            } else {
                *first = group[0].0;
            }
        }
        groups.push_back((block.first, Arc::new(vec![(block.first, block)])));
    }

    /// Lets the oldest blocks go until the rest is within bounds, as far as they are durable.
    pub fn evict(&mut self, bytes_max: usize, durable: i64) {
        while self.bytes > bytes_max && self.groups.front().is_some_and(|(_, group)| group[0].1.last.main <= durable) {
            let groups = Arc::make_mut(&mut self.groups);
            let (first, group) = groups.front_mut().expect("there is a group");
            // A group's blocks are taken one by one; it is short, and so is what has to be moved up.
            let (_, oldest) = Arc::make_mut(group).remove(0);
            self.bytes -= oldest.len();
            match group.first() {
                Some((next, _)) => *first = *next,
                None => drop(groups.pop_front()),
            }
        }
    }

    /// The revision from which on all events are here that compaction has not given up. None if there are none.
    pub fn first(&self) -> Option<Revision> {
        let oldest = self.groups.front().map(|(first, _)| *first);
        oldest.or_else(|| self.open.as_ref().map(|open| open.first))
    }

    fn block_of(&self, revision: Revision) -> Option<&Arc<Block>> {
        if let Some(open) = self.open.as_ref().filter(|open| open.first <= revision) {
            return Some(open);
        }
        let (first, last) = (self.groups.front()?.0, self.groups.back()?.0);
        let guess = revision.place_between(first, last, self.groups.len());
        let behind = first_from(self.groups.len(), guess, |place| self.groups[place].0 <= revision);
        let (first, group) = &self.groups[behind.checked_sub(1)?];
        // What the list of groups says is at hand; the group itself is probably not.
        let last = self.groups.get(behind).map_or_else(|| group[group.len() - 1].0, |(next, _)| *next);
        let guess = revision.place_between(*first, last, group.len());
        let behind = first_from(group.len(), guess, |place| group[place].0 <= revision);
        Some(&group[behind.checked_sub(1)?].1)
    }

    /// The value of the put at this revision, if it is in memory.
    pub fn value(&self, revision: Revision) -> Option<Bytes> {
        let block = self.block_of(revision)?;
        let value = block.find(revision)?.put?.value;
        if value.len() <= COPIED_BYTES_MAX {
            return Some(Bytes::copy_from_slice(value));
        }
        Some(Bytes::from_owner(Held(Arc::clone(block))).slice_ref(value))
    }

    /// Calls `read` with the value of the put at this revision, if it is in memory.
    pub fn with_value<T>(&self, revision: Revision, read: impl FnOnce(&[u8]) -> T) -> Option<T> {
        self.block_of(revision)?.find(revision)?.put.map(|put| read(put.value))
    }

    /// Whether the event of this revision is in memory.
    pub fn holds(&self, revision: Revision) -> bool {
        self.first().is_some_and(|first| first <= revision)
    }

    /// The blocks from the one on that may hold this revision.
    pub fn blocks_from(&self, from: Revision) -> impl Iterator<Item = &Arc<Block>> {
        let group = self.groups.partition_point(|(first, _)| *first <= from).saturating_sub(1);
        let blocks = self.groups.range(group.min(self.groups.len())..).flat_map(|(_, group)| &**group);
        blocks.map(|(_, block)| block).chain(&self.open).skip_while(move |block| block.last < from)
    }

    /// Takes events that were given up, by their revisions in order, out of their blocks, until about `events_max` were looked at.
    /// Returns how many of them are dealt with.
    pub fn sweep(&mut self, given_up: &[Revision], events_max: usize) -> usize {
        let (mut looked_at, mut done) = (0, 0);
        while looked_at < events_max {
            let Some(&next) = given_up.get(done) else { break };
            let Some((first, _)) = self.groups.front() else { return given_up.len() };
            if next < *first {
                // It has left memory.
                done += given_up[done..].partition_point(|revision| revision < first);
                continue;
            }
            let place = self.groups.partition_point(|(first, _)| *first <= next) - 1;
            let within = self.groups[place].1.iter().position(|(_, block)| block.last >= next);
            let Some(within) = within else {
                // Between two groups: it is gone already.
                (done, looked_at) = (done + 1, looked_at + 1);
                continue;
            };
            let block = Arc::clone(&self.groups[place].1[within].1);
            looked_at += block.count();
            let upto = done + given_up[done..].partition_point(|revision| *revision <= block.last);
            let mut of_block = &given_up[done..upto];
            done = upto;
            let left = block.filtered(|event| {
                while let Some((first, rest)) = of_block.split_first()
                    && *first < event.revision
                {
                    of_block = rest;
                }
                of_block.first() != Some(&event.revision)
            });
            if left.as_ref().is_some_and(|left| left.count() == block.count()) {
                continue;
            }
            self.bytes -= block.len();
            self.bytes += left.as_ref().map_or(0, Block::len);
            self.replace(place, within, left);
        }
        done
    }

    fn replace(&mut self, place: usize, within: usize, block: Option<Block>) {
        let groups = Arc::make_mut(&mut self.groups);
        let (first, group) = &mut groups[place];
        let group = Arc::make_mut(group);
        match block {
            Some(mut block) => {
                block.shrink();
                group[within] = (block.first, Arc::new(block));
            }
            None => drop(group.remove(within)),
        }
        match group.first() {
            Some((oldest, _)) => *first = *oldest,
            None => drop(groups.remove(place)),
        }
    }
}

/// A block that a value is a slice of.
struct Held(Arc<Block>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mvcc::history::Written;

    #[test]
    fn what_is_swept_is_what_was_given_up_and_is_in_memory() {
        for (step, seed) in [(1, 1), (7, 2), (64, 3), (100_000, 4)] {
            let mut recent = Recent::default();
            let value = [7; 300];
            let mut noise: u64 = seed;
            let mut chance = |of: u64| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (noise >> 33) % of
            };
            let revisions: Vec<_> = (2..4_000).map(Revision::first_of).collect();
            for &revision in &revisions {
                let put = Written { create: 2, version: 1, lease: 0, value: &value };
                recent.push(&Event { revision, key: b"key", put: Some(put) });
                if chance(40) == 0 {
                    recent.close();
                }
            }
            recent.close();
            recent.evict(recent.bytes() - 50_000, i64::MAX);
            let in_memory = recent.first().expect("most of it is left");
            // Twice: of the first, some is swept again.
            let mut left = revisions;
            for _ in 0..2 {
                let (gone, kept) =
                    left.iter().partition::<Vec<_>, _>(|revision| revision.main % 900 < 300 || chance(3) == 0);
                let given_up: Vec<_> =
                    (2..4_000).map(Revision::first_of).filter(|it| gone.contains(it) || !kept.contains(it)).collect();
                let (held, first) = (recent.clone(), recent.first());
                let mut done = 0;
                while done < given_up.len() {
                    let before = done;
                    done += recent.sweep(&given_up[done..], step);
                    assert!(done > before, "each step gets on");
                }
                left = kept;
                let found: Vec<_> =
                    recent.blocks_from(Revision::default()).flat_map(|it| it.events().flatten()).collect();
                let expected: Vec<_> = left.iter().copied().filter(|it| *it >= in_memory).collect();
                assert_eq!(found.iter().map(|event| event.revision).collect::<Vec<_>>(), expected);
                assert!(found.iter().all(|event| event.put.is_some_and(|put| put.value == value)));
                assert_eq!(recent.bytes(), recent.blocks_from(Revision::default()).map(|it| it.len()).sum::<usize>());
                assert_eq!(held.first(), first, "a clone is as it was");
            }
        }
    }
}
