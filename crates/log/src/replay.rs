//! What records mean, taken in one after the other.
//!
//! Owns the groups while a log is read. Must not know of files, nor of what makes a record durable.
//!
//! The first record need not be the first that was ever written: segments that hold nothing that is needed are dropped.
//! What the remaining records leave open, later ones of them settle, because whatever is needed is in them. So the
//! entries of a group are gathered in pieces with gaps between them; a gap that is left in the end is damage.

use crate::decode::{Body, Note, Record, Rows};
use crate::error::Flaw;
use crate::index::{Group, GroupState, Index};
use crate::record::Entry;
use crate::stretch::{Position, Stretch, check_terms};
use bytes::Bytes;
use std::collections::BTreeMap;
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId, Term};

/// All groups, as of the records that were taken in.
#[derive(Debug)]
pub(crate) struct Replay {
    drafts: BTreeMap<GroupId, Draft>,
    keep: fn(&[u8]) -> bool,
    /// The first segment that is needed, as far as is known.
    oldest: u32,
}

/// What all records together mean.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub index: Index,
    pub states: BTreeMap<GroupId, GroupState>,
}

/// One group, as far as it is known.
///
/// Invariant: no entry is at or before the one after which the log is known to begin.
#[derive(Debug, Default)]
struct Draft {
    term: Term,
    vote: Option<NodeId>,
    voted_in: Option<u32>,
    /// After which entry the log begins, and where the note is; unknown without a record of it.
    begin: Option<(LogId, Position)>,
    note: Bytes,
    /// Each under the index before its first entry, whose term is taken to be zero. None is empty.
    pieces: BTreeMap<LogIndex, Stretch>,
    kept: BTreeMap<LogIndex, Entry>,
}

impl Replay {
    pub(crate) fn new(keep: fn(&[u8]) -> bool) -> Self {
        Self { drafts: BTreeMap::new(), keep, oldest: 1 }
    }

    /// Takes in the next record, which lies in the segment with these bytes.
    pub(crate) fn take_in(&mut self, bytes: &[u8], segment: u32, record: &Record<'_>) -> Result<(), Flaw> {
        let draft = match record.body {
            Body::Floor { oldest } => return self.raise(oldest, segment),
            Body::Mark | Body::End => return Ok(()),
            _ => self.drafts.entry(record.group).or_default(),
        };
        match record.body {
            Body::Vote { term, vote } => draft.save_vote(term, vote, segment),
            Body::Append { after, rows } => {
                draft.append(segment, after, rows)?;
                draft.keep(bytes, after, rows, self.keep);
            }
            Body::Begin { after, stays, note } => draft.begin_after(segment, after, stays, note)?,
            Body::Rewrite { after, rows } => {
                draft.rewrite(segment, after, rows)?;
                draft.keep(bytes, after, rows, self.keep);
            }
            Body::Floor { .. } | Body::Mark | Body::End => {}
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

    /// All groups; or what is missing in one, and where that shows.
    pub(crate) fn finish(self) -> Result<Replayed, (Flaw, Position)> {
        let (mut groups, mut states) = (BTreeMap::new(), BTreeMap::new());
        for (id, draft) in self.drafts {
            let (group, state) = draft.finish()?;
            groups.insert(id, group);
            states.insert(id, state);
        }
        Ok(Replayed { index: Index::new(groups), states })
    }
}

impl Draft {
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
                self.pieces.entry(after).or_insert(Stretch::empty(unknown))
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
                    let mut piece = Stretch::empty(LogId { term: Term::ZERO, index: before });
                    piece.push(term, position);
                    self.pieces.insert(before, piece);
                }
            }
        }
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8], after: LogIndex, rows: Rows<'_>, keep: fn(&[u8]) -> bool) {
        let mut index = after;
        for (term, payload) in rows.iter() {
            index = index.next();
            let found = &bytes[payload.offset as usize..][..payload.length as usize];
            if keep(found) {
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

    fn finish(self) -> Result<(Group, GroupState), (Flaw, Position)> {
        let (after, note) = self.begin.unzip();
        let entries = Stretch::join(after.unwrap_or_default(), self.pieces.into_values())?;
        let group = Group { term: self.term, vote: self.vote, voted_in: self.voted_in, note, entries };
        let state = group.state(self.note, self.kept.into_values().collect());
        Ok((group, state))
    }
}

/// An entry that is in the piece must be this one.
fn refuse_other_term(piece: &Stretch, id: LogId) -> Result<(), Flaw> {
    match piece.runs().term_at(id.index) {
        Some(term) if term != id.term => {
            Err(Flaw::Value { of: "term of an entry", expected: term.0, found: id.term.0 })
        }
        _ => Ok(()),
    }
}
