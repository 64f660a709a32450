//! What records mean, taken in one after the other.
//!
//! Owns the groups while a log is read. Must not know of files, nor of what makes a record durable.
//!
//! The first record need not be the first that was ever written: segments that hold nothing that is needed are dropped.
//! What the remaining records leave open, later ones of them settle, because whatever is needed is in them. So the
//! entries of a group are gathered in pieces with gaps between them; a gap that is left in the end is damage.

use crate::damage::Damage;
use crate::decode::{Body, Note, Record, Rows};
use crate::disk::Disk;
use crate::entry_range::{EntryRange, Position, check_terms};
use crate::error::Flaw;
use crate::index::{Group, GroupState, Index};
use crate::layout::Payload;
use crate::record::Entry;
use crate::segment;
use bytes::Bytes;
use std::collections::BTreeMap;
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId, Term};

/// All groups, as of the records that were taken in.
#[derive(Debug)]
pub(crate) struct Replay {
    builders: BTreeMap<GroupId, GroupBuilder>,
    keep: fn(&[u8]) -> bool,
    /// The first segment that is needed, as far as is known.
    oldest: u32,
}

/// What all records together mean.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    pub index: Index,
    pub states: BTreeMap<GroupId, GroupState>,
    /// What is missing in one of the groups, and where that shows. Each of these ends before what it misses.
    pub gap: Option<(Flaw, Position)>,
    /// Those that miss something, and where they end.
    pub cut: Vec<(GroupId, LogIndex)>,
    /// Which entries are damaged.
    pub damaged: Vec<DamagedEntries>,
}

/// Entries in one segment that follow each other, and whose payloads are damaged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DamagedEntries {
    group: GroupId,
    first: LogIndex,
    last: LogIndex,
    /// Of the first.
    at: Position,
    flaw: Flaw,
}

impl DamagedEntries {
    /// Whether the entry goes on with these.
    fn is_before(&self, group: GroupId, index: LogIndex, at: Position) -> bool {
        self.group == group && self.last.next() == index && self.at.segment == at.segment
    }

    pub(crate) fn report(self, disk: &impl Disk) -> Damage {
        let Self { group, first, last, at, flaw } = self;
        let (file, offset) = (disk.path(&segment::name(at.segment)), u64::from(at.payload.offset));
        Damage::Entries { group, first, last, file, offset, flaw }
    }
}

/// One group, as far as it is known.
///
/// Invariant: no entry is at or before the one after which the log is known to begin.
#[derive(Debug, Default)]
struct GroupBuilder {
    term: Term,
    vote: Option<NodeId>,
    voted_in: Option<u32>,
    /// After which entry the log begins, and where the note is; unknown without a record of it.
    begin: Option<(LogId, Position)>,
    note: Bytes,
    /// Each under the index before its first entry, whose term is taken to be zero. None is empty.
    pieces: BTreeMap<LogIndex, EntryRange>,
    kept: BTreeMap<LogIndex, Entry>,
    damaged: BTreeMap<LogIndex, (Position, Flaw)>,
}

impl Replay {
    pub(crate) fn new(keep: fn(&[u8]) -> bool) -> Self {
        Self { builders: BTreeMap::new(), keep, oldest: 1 }
    }

    /// Takes in the next record, which lies in the segment with these bytes. Its payloads are intact unless it is said
    /// that some may be damaged.
    pub(crate) fn take_in(
        &mut self,
        bytes: &[u8],
        segment: u32,
        record: &Record<'_>,
        damaged: bool,
    ) -> Result<(), Flaw> {
        let builder = match record.body {
            Body::FirstSegment { oldest } => return self.raise(oldest, segment),
            Body::Mark | Body::End => return Ok(()),
            // Whatever is known of it lies before, and what comes after is of another group.
            Body::Remove => {
                self.builders.remove(&record.group);
                return Ok(());
            }
            _ => self.builders.entry(record.group).or_default(),
        };
        match record.body {
            Body::Vote { term, vote } => builder.save_vote(term, vote, segment),
            Body::Append { after, rows } => builder.append(segment, after, rows)?,
            Body::LogStart { after, stays, note } => builder.begin_after(segment, after, stays, note)?,
            Body::Rewrite { after, rows } => builder.rewrite(segment, after, rows)?,
            Body::Remove | Body::FirstSegment { .. } | Body::Mark | Body::End => {}
        }
        if let Some((after, rows)) = record.entries() {
            let payloads = rows.iter().map(|(term, payload)| (term, payload, payload.of(bytes)));
            builder.look_at(segment, after, payloads, damaged, self.keep);
        }
        Ok(())
    }

    fn raise(&mut self, oldest: u32, segment: u32) -> Result<(), Flaw> {
        if oldest < self.oldest || oldest > segment {
            return Err(Flaw::Value { of: "oldest segment", expected: self.oldest.into(), found: oldest.into() });
        }
        self.oldest = oldest;
        Ok(())
    }

    /// The first segment that is needed.
    pub(crate) fn oldest(&self) -> u32 {
        self.oldest
    }

    /// All groups.
    pub(crate) fn finish(self) -> Replayed {
        let mut replayed = Replayed::default();
        let mut groups = BTreeMap::new();
        for (id, builder) in self.builders {
            groups.insert(id, builder.finish(id, &mut replayed));
        }
        replayed.index = Index::new(groups);
        replayed
    }
}

impl GroupBuilder {
    fn save_vote(&mut self, term: Term, vote: Option<NodeId>, segment: u32) {
        (self.term, self.vote, self.voted_in) = (term, vote, Some(segment));
    }

    fn append(&mut self, segment: u32, after: LogIndex, rows: Rows<'_>) -> Result<(), Flaw> {
        self.refuse_before_begin(after)?;
        self.cut_after(after);
        self.push(segment, after, rows)
    }

    /// Adds entries at the end of a piece, or as a new one. No entry may follow `after`.
    fn push(&mut self, segment: u32, after: LogIndex, rows: Rows<'_>) -> Result<(), Flaw> {
        let mut terms = rows.iter().map(|(term, _)| term).peekable();
        if terms.peek().is_none() {
            return Ok(());
        }
        let piece = match self.pieces.range_mut(..=after).next_back() {
            Some((_, piece)) if piece.runs().last() == after => piece,
            _ => {
                let unknown = LogId { term: Term::ZERO, index: after };
                self.pieces.entry(after).or_insert(EntryRange::empty(unknown))
            }
        };
        piece.check(after, terms)?;
        rows.iter().for_each(|(term, payload)| piece.push(term, Position { segment, payload }));
        Ok(())
    }

    /// The entries are here now. They need not be known: what they were read from may be gone.
    fn rewrite(&mut self, segment: u32, after: LogIndex, rows: Rows<'_>) -> Result<(), Flaw> {
        self.refuse_before_begin(after)?;
        check_terms(LogId { term: Term::ZERO, index: after }, rows.iter().map(|(term, _)| term))?;
        let mut last = after;
        for (term, payload) in rows.iter() {
            let (before, position) = (last, Position { segment, payload });
            last = last.next();
            match self.pieces.range_mut(..=before).next_back() {
                Some((_, piece)) if piece.runs().last() >= last => {
                    refuse_other_term(piece, LogId { term, index: last })?;
                    piece.place(last, position);
                }
                Some((_, piece)) if piece.runs().last() == before => {
                    piece.check(before, [term])?;
                    piece.push(term, position);
                }
                _ => {
                    let mut piece = EntryRange::empty(LogId { term: Term::ZERO, index: before });
                    piece.push(term, position);
                    self.pieces.insert(before, piece);
                }
            }
        }
        Ok(())
    }

    /// Looks at what was put after an entry: whether it is damaged, and whether its owner wants to see it again.
    fn look_at<'a>(
        &mut self,
        segment: u32,
        after: LogIndex,
        payloads: impl Iterator<Item = (Term, Payload, &'a [u8])>,
        damaged: bool,
        keep: fn(&[u8]) -> bool,
    ) {
        let mut index = after;
        for (term, payload, found) in payloads {
            index = index.next();
            if !self.damaged.is_empty() {
                self.damaged.remove(&index);
            }
            if damaged && let Err(flaw) = payload.check(found) {
                self.damaged.insert(index, (Position { segment, payload }, flaw));
            } else if keep(found) {
                let id = LogId { term, index };
                self.kept.insert(index, Entry { id, payload: Bytes::copy_from_slice(found) });
            }
        }
    }

    fn begin_after(&mut self, segment: u32, after: LogId, stays: bool, note: Note<'_>) -> Result<(), Flaw> {
        if let Some((present, _)) = self.begin.filter(|(present, _)| after.index < present.index) {
            let (expected, found) = (present.index.0, after.index.0);
            return Err(Flaw::Value { of: "index after which the log begins", expected, found });
        }
        if stays {
            self.forget_upto(after)?;
        } else {
            self.pieces.clear();
            self.kept.clear();
            self.damaged.clear();
        }
        self.begin = Some((after, Position { segment, payload: note.payload }));
        self.note = Bytes::copy_from_slice(note.bytes);
        Ok(())
    }

    fn cut_after(&mut self, index: LogIndex) {
        if self.pieces.last_key_value().is_some_and(|(&after, _)| after >= index) {
            self.pieces.split_off(&index);
        }
        if let Some(mut piece) = self.pieces.last_entry()
            && piece.get().runs().last() > index
        {
            piece.get_mut().cut_after(index, |_| {});
        }
        if self.kept.last_key_value().is_some_and(|(&last, _)| last > index) {
            self.kept.split_off(&index.next());
        }
        if !self.damaged.is_empty() {
            self.damaged.split_off(&index.next());
        }
    }

    /// Forgets the entry and all before it.
    fn forget_upto(&mut self, id: LogId) -> Result<(), Flaw> {
        let mut rest = self.pieces.split_off(&id.index);
        if let Some((_, mut piece)) = self.pieces.pop_last()
            && piece.runs().last() >= id.index
        {
            refuse_other_term(&piece, id)?;
            piece.begin_after(id, true, |_| {});
            if !piece.runs().is_empty() {
                rest.insert(id.index, piece);
            }
        }
        self.pieces = rest;
        self.kept = self.kept.split_off(&id.index.next());
        self.damaged = self.damaged.split_off(&id.index.next());
        Ok(())
    }

    fn refuse_before_begin(&self, index: LogIndex) -> Result<(), Flaw> {
        match self.begin {
            Some((begin, _)) if index < begin.index => {
                let (expected, found) = (begin.index.0, index.0);
                Err(Flaw::Value { of: "index after which entries are added", expected, found })
            }
            _ => Ok(()),
        }
    }

    fn finish(mut self, id: GroupId, into: &mut Replayed) -> Group {
        let (after, note) = self.begin.unzip();
        let pieces = std::mem::take(&mut self.pieces).into_values();
        let (entries, gap) = EntryRange::join(after.unwrap_or_default(), pieces);
        let last = entries.runs().last();
        if gap.is_some() {
            self.cut_after(last);
            into.cut.push((id, last));
            into.gap = into.gap.or(gap);
        }
        let Self { term, vote, voted_in, .. } = self;
        let group = Group { term, vote, voted_in, note, entries };
        into.states.insert(id, group.state(self.note, self.kept.into_values().collect()));
        for (index, (at, flaw)) in self.damaged {
            match into.damaged.last_mut() {
                Some(before) if before.is_before(id, index, at) => before.last = index,
                _ => into.damaged.push(DamagedEntries { group: id, first: index, last: index, at, flaw }),
            }
        }
        group
    }
}

/// An entry that is in the piece must be this one.
fn refuse_other_term(piece: &EntryRange, id: LogId) -> Result<(), Flaw> {
    match piece.runs().term_at(id.index) {
        Some(term) if term != id.term => {
            Err(Flaw::Value { of: "term of an entry", expected: term.0, found: id.term.0 })
        }
        _ => Ok(()),
    }
}
