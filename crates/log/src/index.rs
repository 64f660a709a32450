//! Where the entries of each group are.
//!
//! Owns one position per entry, 16 bytes each, beside the terms of the log. Must not know how to read or write them.

use crate::error::Flaw;
use crate::record::{Entry, Payload};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use vlot_raft::id::{LogId, LogIndex, NodeId, Term};
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
    /// What came with the newest [`Write::Begin`](crate::record::Write::Begin); empty if there was none.
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
/// Invariant: there is one position for each entry of `state.runs`, in order, but for the first `absent` ones. Only
/// while a log is read there are such: their payloads are in segments that are gone, or come later, as they were carried.
#[derive(Debug, Default)]
pub(crate) struct Group {
    state: GroupState,
    absent: u64,
    positions: VecDeque<Position>,
    /// Where entries are whose turn is before those that are here.
    carried: BTreeMap<LogIndex, Position>,
}

impl Group {
    pub(crate) fn state(&self) -> &GroupState {
        &self.state
    }

    pub(crate) fn save_vote(&mut self, term: Term, vote: Option<NodeId>) {
        (self.state.term, self.state.vote) = (term, vote);
    }

    /// What was known of the group when a segment began.
    pub(crate) fn of_head(state: GroupState) -> Self {
        let absent = state.runs.last().since(state.runs.after().index);
        Self { state, absent, ..Self::default() }
    }

    /// Whether this is the group that a segment begins with.
    pub(crate) fn is_as_in(&self, head: &GroupState) -> bool {
        let GroupState { term, vote, runs, note, .. } = &self.state;
        (term, vote, runs, note) == (&head.term, &head.vote, &head.runs, &head.note)
    }

    /// Remembers an entry for the owner.
    pub(crate) fn keep(&mut self, entry: Entry) {
        let at = self.state.kept.partition_point(|kept| kept.id.index < entry.id.index);
        let is_known = self.state.kept.get(at).is_some_and(|kept| kept.id.index == entry.id.index);
        if !is_known {
            self.state.kept.insert(at, entry);
        }
    }

    /// Gives the remembered entries away.
    pub(crate) fn take_state(&mut self) -> GroupState {
        let kept = std::mem::take(&mut self.state.kept);
        GroupState { kept, ..self.state.clone() }
    }

    /// The log begins after `after`.
    pub(crate) fn begin_after(&mut self, after: LogId, note: Bytes) {
        self.state.note = note;
        let was = self.state.runs.after().index;
        if after.index >= was && self.state.runs.contains(after) {
            let gone = after.index.since(was);
            self.state.runs.begin_after(after.index);
            self.positions.drain(..usize::try_from(gone.saturating_sub(self.absent)).unwrap_or(usize::MAX));
            self.absent = self.absent.saturating_sub(gone);
        } else {
            self.state.runs = TermRuns::empty(after);
            self.positions.clear();
            self.absent = 0;
        }
        self.carried = self.carried.split_off(&after.index.next());
        self.state.kept.retain(|entry| entry.id.index > after.index && self.state.runs.contains(entry.id));
        if self.positions.capacity() > 4 * self.positions.len().max(1024) {
            self.positions.shrink_to_fit();
        }
    }

    /// Entries that the log has are at a new place. The flaw, if it does not have them.
    pub(crate) fn carry(
        &mut self,
        after: LogIndex,
        moved: impl IntoIterator<Item = (Term, Position)>,
    ) -> Result<(), Flaw> {
        let begin = self.state.runs.after().index;
        for (n, (term, position)) in moved.into_iter().enumerate() {
            let index = LogIndex(after.0.saturating_add(n as u64 + 1));
            let found = self.state.runs.term_at(index);
            if found != Some(term) || index <= begin {
                let expected = found.unwrap_or_default().0;
                return Err(Flaw::Value { of: "term of an entry that was carried", expected, found: term.0 });
            }
            let at = index.since(begin) - 1;
            match at.checked_sub(self.absent) {
                Some(at) => self.positions[at as usize] = position,
                None => drop(self.carried.insert(index, position)),
            }
        }
        Ok(())
    }

    /// All is read: what is absent must have been carried. The first entry that was not, if there is one.
    pub(crate) fn settle(&mut self) -> Result<(), LogIndex> {
        let begin = self.state.runs.after().index;
        for absent in (1..=self.absent).rev() {
            let index = LogIndex(begin.0 + absent);
            let position = self.carried.remove(&index).ok_or(index)?;
            self.positions.push_front(position);
        }
        self.absent = 0;
        self.carried.clear();
        Ok(())
    }

    /// The segment of its first entry; none if it has no entry.
    pub(crate) fn first_segment(&self) -> Option<u32> {
        self.positions.iter().map(|position| position.segment).min()
    }

    /// How many bytes of payload of its entries are in a segment.
    pub(crate) fn bytes_in(&self, segment: u32) -> u64 {
        let here = self.positions.iter().filter(|position| position.segment == segment);
        here.map(|position| u64::from(position.payload.length)).sum()
    }

    /// The first stretch of its entries that is in a segment, as `(after, upto]`.
    pub(crate) fn stretch_in(&self, segment: u32) -> Option<(LogIndex, LogIndex)> {
        let begin = self.state.runs.after().index;
        let from = self.positions.iter().position(|position| position.segment == segment)?;
        let count = self.positions.range(from..).take_while(|position| position.segment == segment).count();
        Some((LogIndex(begin.0 + from as u64), LogIndex(begin.0 + (from + count) as u64)))
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
        let stay = index.since(self.state.runs.after().index);
        self.positions.truncate(usize::try_from(stay.saturating_sub(self.absent)).unwrap_or(usize::MAX));
        self.absent = self.absent.min(stay);
        drop(self.carried.split_off(&index.next()));
        self.state.kept.retain(|entry| entry.id.index <= index);
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
            let position = self.positions.get(index.since(first.next()).checked_sub(self.absent)? as usize)?;
            Some((index, run?.0, *position))
        })
    }
}
