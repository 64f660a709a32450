//! What the log holds of each group, where, and so which segments are needed.
//!
//! Owns each group's state and the count of what is alive in each segment: the newest vote and the newest begin of a
//! group, and the entries of its log. Must not know how to read or write them.

use crate::encode::{append_bytes, begin_bytes, vote_bytes};
use crate::entry_range::{EntryRange, Position};
use crate::record::Entry;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId, Term};
use vlot_raft::term_runs::TermRuns;

/// What the log held of one group when it was opened.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct GroupState {
    /// The group's term that was saved last.
    pub term: Term,
    /// The node's vote in this term.
    pub vote: Option<NodeId>,
    /// Where its log begins, and the terms of its entries.
    pub runs: TermRuns,
    /// The note of the newest [`Write::LogStart`](crate::record::Write::LogStart); empty if there is none.
    pub note: Bytes,
    /// The entries for which [`Options::keep`](crate::log::Options::keep) holds, in order.
    pub kept: Vec<Entry>,
}

/// All groups, and how much of each segment is alive.
///
/// Invariant: a segment has live bytes exactly if something in it is still needed.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub groups: BTreeMap<GroupId, Group>,
    pub live: Live,
}

/// One group's state, and where it is written.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub term: Term,
    pub vote: Option<NodeId>,
    /// The segment of the newest vote.
    pub voted_in: Option<u32>,
    /// The note of the newest begin.
    pub note: Option<Position>,
    pub entries: EntryRange,
}

/// How many bytes of each segment are alive, each thing reckoned as the record that it would need for itself. So what
/// is alive can be written again in at most so many bytes.
#[derive(Debug, Default)]
pub(crate) struct Live {
    /// The segment that the first count is of.
    first: u32,
    bytes: VecDeque<u64>,
    total: u64,
}

/// Something in a segment that is still needed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Needed {
    Vote(GroupId),
    LogStart(GroupId),
    /// The entries of `(after, upto]`.
    Entries {
        group: GroupId,
        after: LogIndex,
        upto: LogIndex,
    },
}

/// How far the search for what is needed has come: to the entries after `after` of a group.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cursor {
    group: GroupId,
    after: LogIndex,
}

impl Index {
    pub(crate) fn new(groups: BTreeMap<GroupId, Group>) -> Self {
        let mut live = Live::default();
        for group in groups.values() {
            group.voted_in.iter().for_each(|&segment| live.add(segment, vote_bytes()));
            group.note.iter().for_each(|note| live.add_note(note));
            group.entries.positions().for_each(|entry| live.add_entry(entry));
        }
        Self { groups, live }
    }

    /// The group is gone, and nothing of it is needed.
    pub(crate) fn remove(&mut self, id: GroupId) {
        let (Some(group), live) = (self.groups.remove(&id), &mut self.live) else { return };
        group.voted_in.iter().for_each(|&segment| live.remove(segment, vote_bytes()));
        group.note.iter().for_each(|note| live.remove(note.segment, note_bytes(note)));
        group.entries.positions().for_each(|entry| live.remove_entry(entry));
    }

    /// What is needed in a segment, from a place of the search on: as much as has at most `bytes_max` bytes, but one
    /// thing at least, and where to go on. Looks at `steps_max` entries at most. What is not found up to the end of all
    /// groups is not there.
    pub(crate) fn needed(
        &self,
        segment: u32,
        from: Cursor,
        bytes_max: u64,
        mut steps_max: usize,
    ) -> (Vec<Needed>, Cursor) {
        let mut found = Found { needed: Vec::new(), room: bytes_max };
        for (&id, group) in self.groups.range(from.group..) {
            let begin = group.entries.runs().after().index;
            let after = if id == from.group { from.after.max(begin) } else { begin };
            let here = Cursor { group: id, after };
            if group.voted_in == Some(segment) && !found.add(vote_bytes(), Needed::Vote(id)) {
                return (found.needed, here);
            }
            let note = group.note.filter(|note| note.segment == segment);
            if note.is_some_and(|note| !found.add(note_bytes(&note), Needed::LogStart(id))) {
                return (found.needed, here);
            }
            let mut seen = after;
            for position in group.entries.positions().skip(after.since(begin) as usize) {
                if steps_max == 0 || (position.segment == segment && !found.add_entry(id, seen, position)) {
                    return (found.needed, Cursor { group: id, after: seen });
                }
                (seen, steps_max) = (seen.next(), steps_max - 1);
            }
        }
        (found.needed, Cursor { group: GroupId(u64::MAX), after: LogIndex(u64::MAX) })
    }
}

struct Found {
    needed: Vec<Needed>,
    room: u64,
}

impl Found {
    /// Returns whether there was room.
    fn add(&mut self, bytes: u64, needed: Needed) -> bool {
        let fits = self.take_room(bytes);
        if fits {
            self.needed.push(needed);
        }
        fits
    }

    /// Adds the entry that follows `after`.
    fn add_entry(&mut self, id: GroupId, after: LogIndex, position: &Position) -> bool {
        let fits = self.take_room(entry_bytes(position));
        match self.needed.last_mut() {
            _ if !fits => {}
            Some(Needed::Entries { group, upto, .. }) if *group == id && *upto == after => *upto = after.next(),
            _ => self.needed.push(Needed::Entries { group: id, after, upto: after.next() }),
        }
        fits
    }

    fn take_room(&mut self, bytes: u64) -> bool {
        let left = self.room.checked_sub(bytes);
        self.room = left.unwrap_or(0);
        left.is_some() || self.needed.is_empty()
    }
}

impl Group {
    /// Its state, for its owner.
    pub(crate) fn state(&self, note: Bytes, kept: Vec<Entry>) -> GroupState {
        GroupState { term: self.term, vote: self.vote, runs: self.entries.runs().clone(), note, kept }
    }

    pub(crate) fn save_vote(&mut self, term: Term, vote: Option<NodeId>, segment: u32, live: &mut Live) {
        (self.term, self.vote) = (term, vote);
        if let Some(old) = self.voted_in.replace(segment) {
            live.remove(old, vote_bytes());
        }
        live.add(segment, vote_bytes());
    }

    /// Lets the log begin after an entry, as [`EntryRange::begin_after`] does; `note` is where the note is.
    pub(crate) fn begin_after(&mut self, after: LogId, stays: bool, note: Position, live: &mut Live) {
        if let Some(old) = self.note.replace(note) {
            live.remove(old.segment, note_bytes(&old));
        }
        live.add_note(&note);
        self.entries.begin_after(after, stays, |entry| live.remove_entry(&entry));
    }

    pub(crate) fn cut_after(&mut self, index: LogIndex, live: &mut Live) {
        self.entries.cut_after(index, |entry| live.remove_entry(&entry));
    }

    /// Adds the next entries, which stand in one segment, at these positions.
    pub(crate) fn append(&mut self, entries: &[Entry], positions: Vec<Position>, live: &mut Live) {
        if let Some(Position { segment, .. }) = positions.first() {
            live.add(*segment, positions.iter().map(entry_bytes).sum());
        }
        self.entries.append(entries.iter().map(|entry| entry.id.term), positions);
    }

    /// An entry of the log is here now.
    pub(crate) fn place(&mut self, index: LogIndex, position: Position, live: &mut Live) {
        live.remove_entry(&self.entries.place(index, position));
        live.add_entry(&position);
    }
}

impl Live {
    /// How many bytes of a segment are alive.
    pub(crate) fn of(&self, segment: u32) -> u64 {
        let at = segment.checked_sub(self.first);
        at.and_then(|at| self.bytes.get(at as usize)).copied().unwrap_or(0)
    }

    /// The first segment in which something is alive.
    pub(crate) fn first(&self) -> Option<u32> {
        (self.total > 0).then_some(self.first)
    }

    /// How many bytes are alive in all segments together.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    fn add_note(&mut self, note: &Position) {
        self.add(note.segment, note_bytes(note));
    }

    fn add_entry(&mut self, entry: &Position) {
        self.add(entry.segment, entry_bytes(entry));
    }

    fn remove_entry(&mut self, entry: &Position) {
        self.remove(entry.segment, entry_bytes(entry));
    }

    fn add(&mut self, segment: u32, bytes: u64) {
        if self.bytes.is_empty() {
            self.first = segment;
        }
        while segment < self.first {
            self.first -= 1;
            self.bytes.push_front(0);
        }
        let at = (segment - self.first) as usize;
        if at >= self.bytes.len() {
            self.bytes.resize(at + 1, 0);
        }
        self.bytes[at] += bytes;
        self.total += bytes;
    }

    fn remove(&mut self, segment: u32, bytes: u64) {
        // What is removed was added before, so its segment has a count.
        let left = &mut self.bytes[(segment - self.first) as usize];
        *left -= bytes;
        self.total -= bytes;
        while self.bytes.front() == Some(&0) {
            self.bytes.pop_front();
            self.first += 1;
        }
    }
}

fn note_bytes(note: &Position) -> u64 {
    begin_bytes(note.payload.length as usize)
}

fn entry_bytes(entry: &Position) -> u64 {
    append_bytes(1, u64::from(entry.payload.length))
}
