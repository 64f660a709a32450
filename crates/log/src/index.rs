//! Where the entries of each group are.
//!
//! Owns one position per entry, 16 bytes each, beside the terms of the log. Must not know how to read or write them.

use crate::error::Flaw;
use crate::layout::Payload;
use std::collections::VecDeque;
use vlot_raft::id::{LogIndex, NodeId, Term};
use vlot_raft::term_runs::TermRuns;

/// What the log holds of one group.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct GroupState {
    /// The group's term that was saved last.
    pub term: Term,
    /// To whom the node gave its vote in this term.
    pub vote: Option<NodeId>,
    /// The terms of its entries.
    pub runs: TermRuns,
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
/// Invariant: there is one position for each entry of `state.runs`, in order.
#[derive(Debug, Default)]
pub(crate) struct Group {
    state: GroupState,
    positions: VecDeque<Position>,
}

impl Group {
    pub(crate) fn state(&self) -> &GroupState {
        &self.state
    }

    pub(crate) fn save_vote(&mut self, term: Term, vote: Option<NodeId>) {
        (self.state.term, self.state.vote) = (term, vote);
    }

    /// Whether entries of these terms can follow the entry at `after`: it exists, and terms do not fall.
    pub(crate) fn check(&self, after: LogIndex, terms: impl IntoIterator<Item = Term>) -> Result<(), Flaw> {
        let Some(mut last) = self.state.runs.term_at(after) else {
            let expected = self.state.runs.last().0;
            return Err(Flaw::Value { of: "index after which entries are added", expected, found: after.0 });
        };
        for term in terms {
            if term < last {
                return Err(Flaw::Value { of: "term of an entry", expected: last.0, found: term.0 });
            }
            last = term;
        }
        Ok(())
    }

    /// Forgets what is after `index`, which must be in the log.
    pub(crate) fn cut_after(&mut self, index: LogIndex) {
        self.state.runs.cut_after(index);
        self.positions.truncate(index.since(self.state.runs.after().index) as usize);
    }

    /// Adds the next entry. Its term must not be before the last one's.
    pub(crate) fn push(&mut self, term: Term, position: Position) {
        self.state.runs.push(term, 1);
        self.positions.push_back(position);
    }

    /// Each entry of `(after, upto]` that there is: its term and position, in order.
    pub(crate) fn part(&self, after: LogIndex, upto: LogIndex) -> impl Iterator<Item = (LogIndex, Term, Position)> {
        let first = self.state.runs.after().index;
        let upto = upto.min(self.state.runs.last());
        let after = after.max(first).min(upto);
        let mut runs = self.state.runs.iter().skip_while(move |&(_, _, last)| last <= after);
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
