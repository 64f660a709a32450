//! A range of a group's log: the terms of its entries, and where on disk they are.
//!
//! Owns one position per entry, 16 bytes each, beside the runs of terms. Must not know how to read or write them.

use crate::error::Flaw;
use crate::layout::Payload;
use std::collections::VecDeque;
use vlot_raft::id::{LogId, LogIndex, Term};
use vlot_raft::term_runs::TermRuns;

/// Where a payload is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Position {
    /// The segment's sequence number.
    pub segment: u32,
    pub payload: Payload,
}

/// The entries of `(after, last]`.
///
/// Invariant: there is one position for each entry of `runs`, in order.
#[derive(Debug, Default)]
pub(crate) struct EntryRange {
    runs: TermRuns,
    positions: VecDeque<Position>,
}

impl EntryRange {
    pub(crate) fn empty(after: LogId) -> Self {
        Self { runs: TermRuns::empty(after), positions: VecDeque::new() }
    }

    pub(crate) fn runs(&self) -> &TermRuns {
        &self.runs
    }

    pub(crate) fn positions(&self) -> impl Iterator<Item = &Position> {
        self.positions.iter()
    }

    /// Whether entries of these terms can follow the entry at `after`: it exists, and terms do not fall.
    pub(crate) fn check(&self, after: LogIndex, terms: impl IntoIterator<Item = Term>) -> Result<(), Flaw> {
        let Some(last) = self.runs.term_at(after) else {
            let expected = self.runs.last().0;
            return Err(Flaw::Value { of: "index after which entries are added", expected, found: after.0 });
        };
        check_terms(LogId { term: last, index: after }, terms)
    }

    /// Forgets what is after `index`, which must be in the range, and tells where it was.
    pub(crate) fn cut_after(&mut self, index: LogIndex, gone: impl FnMut(Position)) {
        let stay = index.since(self.runs.after().index) as usize;
        self.runs.cut_after(index);
        self.positions.drain(stay.min(self.positions.len())..).for_each(gone);
    }

    /// Lets the range begin after an entry that must not be before the present beginning. What follows it stays, or
    /// all goes; tells where what goes was.
    pub(crate) fn begin_after(&mut self, after: LogId, stays: bool, gone: impl FnMut(Position)) {
        let count = if stays { after.index.since(self.runs.after().index) as usize } else { self.positions.len() };
        self.positions.drain(..count).for_each(gone);
        self.runs = if stays { self.runs.part(after.index, self.runs.last()) } else { TermRuns::empty(after) };
    }

    /// Adds the next entry. Its term must not be before the last one's.
    pub(crate) fn push(&mut self, term: Term, position: Position) {
        self.runs.push(term, 1);
        self.positions.push_back(position);
    }

    /// Adds the next entries. Their terms must not fall, nor be before the last one's.
    pub(crate) fn append(&mut self, terms: impl Iterator<Item = Term>, positions: Vec<Position>) {
        let mut terms = terms.peekable();
        while let Some(term) = terms.next() {
            let mut count = 1;
            while terms.next_if_eq(&term).is_some() {
                count += 1;
            }
            self.runs.push(term, count);
        }
        self.positions.extend(positions);
    }

    /// The entry at `index`, which must be in the range, is here now. Returns where it was.
    pub(crate) fn place(&mut self, index: LogIndex, position: Position) -> Position {
        let at = index.since(self.runs.after().index.next()) as usize;
        std::mem::replace(&mut self.positions[at], position)
    }

    /// Each entry of `(after, upto]` that there is: its term and position, in order.
    pub(crate) fn part(&self, after: LogIndex, upto: LogIndex) -> impl Iterator<Item = (LogIndex, Term, Position)> {
        let first = self.runs.after().index;
        let upto = upto.min(self.runs.last());
        let after = after.max(first).min(upto);
        let mut runs = self.runs.iter().skip_while(move |&(_, _, last)| last <= after);
        let mut run = runs.next();
        (after.next().0..=upto.0).map(LogIndex).map_while(move |index| {
            if run.is_some_and(|(_, _, last)| last < index) {
                run = runs.next();
            }
            let position = self.positions.get(index.since(first.next()) as usize)?;
            Some((index, run?.0, *position))
        })
    }

    /// Makes one range after `after` of pieces that are in order, up to the first that does not fit. Of that, says
    /// what is wrong and where.
    pub(crate) fn join(after: LogId, pieces: impl Iterator<Item = Self>) -> (Self, Option<(Flaw, Position)>) {
        let mut whole = Self::empty(after);
        for mut piece in pieces {
            let (Some(&first), end) = (piece.positions.front(), whole.runs.last_id()) else { continue };
            if piece.runs.after().index != end.index {
                let (expected, found) = (end.index.next().0, piece.runs.after().index.next().0);
                return (whole, Some((Flaw::Value { of: "index of an entry", expected, found }, first)));
            }
            if let Err(flaw) = check_terms(end, piece.runs.iter().map(|(term, ..)| term)) {
                return (whole, Some((flaw, first)));
            }
            piece.runs.iter().for_each(|(term, first, last)| whole.runs.push(term, last.since(first.prev())));
            if whole.positions.is_empty() {
                whole.positions = piece.positions;
            } else {
                whole.positions.append(&mut piece.positions);
            }
        }
        (whole, None)
    }
}

/// Whether entries of these terms can follow the entry `last`: terms do not fall, and indices have room to rise.
pub(crate) fn check_terms(last: LogId, terms: impl IntoIterator<Item = Term>) -> Result<(), Flaw> {
    let LogId { mut term, mut index } = last;
    for next in terms {
        if next < term {
            return Err(Flaw::Value { of: "term of an entry", expected: term.0, found: next.0 });
        }
        if index.next() == index {
            return Err(Flaw::Value { of: "index after which entries are added", expected: 0, found: last.index.0 });
        }
        (term, index) = (next, index.next());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(after: u64, terms: &[u64]) -> EntryRange {
        let mut piece = EntryRange::empty(LogId::new(0, after));
        for (n, &term) in terms.iter().enumerate() {
            let payload = Payload { offset: 100 * (after as u32 + n as u32), length: 0, crc: 0 };
            piece.push(Term(term), Position { segment: 1, payload });
        }
        piece
    }

    #[test]
    fn an_entry_takes_16_bytes() {
        assert_eq!(size_of::<Position>(), 16);
    }

    #[test]
    fn pieces_join_if_they_fit() {
        for (pieces, last, gap_at) in [
            (vec![], LogId::new(2, 7), None),
            (vec![piece(7, &[2, 3])], LogId::new(3, 9), None),
            (vec![piece(7, &[2, 3]), piece(9, &[3, 4])], LogId::new(4, 11), None),
            (vec![piece(8, &[2])], LogId::new(2, 7), Some((8, 9, 800))), // The first after the beginning is missing.
            (vec![piece(6, &[2, 2])], LogId::new(2, 7), Some((8, 7, 600))), // One is from before the beginning.
            (vec![piece(7, &[2, 3]), piece(10, &[3])], LogId::new(3, 9), Some((10, 11, 1000))), // A gap.
            (vec![piece(7, &[1])], LogId::new(2, 7), Some((2, 1, 700))), // The term falls.
            (vec![piece(7, &[4]), piece(8, &[3])], LogId::new(4, 8), Some((4, 3, 800))),
        ] {
            let (whole, gap) = EntryRange::join(LogId::new(2, 7), pieces.into_iter());
            let found = gap.map(|(flaw, at)| match flaw {
                Flaw::Value { expected, found, .. } => (expected, found, at.payload.offset),
                flaw => panic!("{flaw}"),
            });
            assert_eq!((whole.runs.last_id(), whole.positions.len() as u64, found), (last, last.index.0 - 7, gap_at));
        }
    }
}
