//! Where the entries of each group are.
//!
//! Owns one position per entry, 16 bytes each, beside the terms of the log. Must not know how to read or write them.

use crate::error::Flaw;
use crate::layout::Payload;
use crate::record::Entry;
use bytes::Bytes;
use std::collections::VecDeque;
use vlot_raft::id::{LogId, LogIndex, NodeId, Term};
use vlot_raft::term_runs::TermRuns;

/// What the log held of one group when it was opened.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct GroupState {
    /// The group's term that was saved last.
    pub term: Term,
    /// To whom the node gave its vote in this term.
    pub vote: Option<NodeId>,
    /// Where its log begins, and the terms of its entries.
    pub runs: TermRuns,
    /// The note of the newest [`Write::Begin`](crate::record::Write::Begin); empty if there is none.
    pub note: Bytes,
    /// The entries for which [`Options::keep`](crate::log::Options::keep) holds, in order.
    pub kept: Vec<Entry>,
}

/// Where an entry's payload is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Position {
    /// The segment's sequence number.
    pub segment: u32,
    pub payload: Payload,
}

/// One group's state and the places of its entries.
///
/// Invariant: there is one position for each entry of `runs`, in order.
#[derive(Debug, Default)]
pub(crate) struct Group {
    term: Term,
    vote: Option<NodeId>,
    runs: TermRuns,
    positions: VecDeque<Position>,
}

impl Group {
    /// Its state, for its owner.
    pub(crate) fn state(&self, note: Bytes, kept: Vec<Entry>) -> GroupState {
        GroupState { term: self.term, vote: self.vote, runs: self.runs.clone(), note, kept }
    }

    /// The entry after which its log begins.
    pub(crate) fn after(&self) -> LogId {
        self.runs.after()
    }

    /// Whether the entry is in the log, or is the one after which it begins.
    pub(crate) fn contains(&self, id: LogId) -> bool {
        self.runs.contains(id)
    }

    pub(crate) fn save_vote(&mut self, term: Term, vote: Option<NodeId>) {
        (self.term, self.vote) = (term, vote);
    }

    /// Whether entries of these terms can follow the entry at `after`: it exists, and terms do not fall.
    pub(crate) fn check(&self, after: LogIndex, terms: impl IntoIterator<Item = Term>) -> Result<(), Flaw> {
        let Some(mut last) = self.runs.term_at(after) else {
            let expected = self.runs.last().0;
            return Err(Flaw::Value { of: "index after which entries are added", expected, found: after.0 });
        };
        let mut index = after;
        for term in terms {
            if term < last {
                return Err(Flaw::Value { of: "term of an entry", expected: last.0, found: term.0 });
            }
            if index.next() == index {
                return Err(Flaw::Value { of: "index after which entries are added", expected: 0, found: after.0 });
            }
            (last, index) = (term, index.next());
        }
        Ok(())
    }

    /// Forgets what is after `index`, which must be in the log.
    pub(crate) fn cut_after(&mut self, index: LogIndex) {
        self.runs.cut_after(index);
        self.positions.truncate(index.since(self.runs.after().index) as usize);
    }

    /// Lets the log begin after an entry that must not be before the present beginning. What follows it in the log
    /// stays, or all goes.
    pub(crate) fn begin_after(&mut self, after: LogId, stays: bool) {
        if stays {
            self.positions.drain(..after.index.since(self.after().index) as usize);
            self.runs = self.runs.part(after.index, self.runs.last());
        } else {
            self.positions.clear();
            self.runs = TermRuns::empty(after);
        }
    }

    /// Adds the next entry. Its term must not be before the last one's.
    pub(crate) fn push(&mut self, term: Term, position: Position) {
        self.runs.push(term, 1);
        self.positions.push_back(position);
    }

    /// Each entry of `(after, upto]` that there is: its term and position, in order.
    pub(crate) fn part(&self, after: LogIndex, upto: LogIndex) -> impl Iterator<Item = (LogIndex, Term, Position)> {
        let first = self.runs.after().index;
        let upto = upto.min(self.runs.last());
        let after = after.max(first).min(upto);
        let mut runs = self.runs.iter().skip_while(move |&(_, _, last)| last <= after);
        let mut run = runs.next();
        (after.0 + 1..=upto.0).map(LogIndex).map_while(move |index| {
            if run.is_some_and(|(_, _, last)| last < index) {
                run = runs.next();
            }
            let position = self.positions.get(index.since(first.next()) as usize)?;
            Some((index, run?.0, *position))
        })
    }
}
