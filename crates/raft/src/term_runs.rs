//! A log without its payload: runs of entries of one term.
//!
//! However long a log is, it has as many runs as terms in which entries were made, which is a handful. Knows nothing
//! of roles, messages or bytes.

use crate::id::{LogId, LogIndex, Term};

/// The terms of a stretch of log, `(after, last]`: that of its first entry, and where each later one begins.
///
/// Invariant: `later` rises strictly in both index and term, its first has a later term than `first` and an index behind
/// `after.index + 1`; `first >= after.term`, equal when the stretch is empty. So the same stretch is the same value, and
/// one of a single term, which nearly every message has, needs no memory of its own.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct TermRuns {
    after: LogId,
    first: Term,
    later: Vec<LogId>,
    last: LogIndex,
}

impl TermRuns {
    /// An empty stretch that begins after `after`.
    #[must_use]
    pub fn empty(after: LogId) -> Self {
        Self { after, first: after.term, later: Vec::new(), last: after.index }
    }

    /// `count` entries of one term after `after`.
    #[must_use]
    pub fn one_term(after: LogId, term: Term, count: u64) -> Self {
        let mut runs = Self::empty(after);
        runs.push(term, count);
        runs
    }

    /// Adds `count` entries of `term` at the end.
    ///
    /// # Panics
    /// If `term` is before the term of the last entry: terms never fall along a log.
    pub fn push(&mut self, term: Term, count: u64) {
        if count == 0 {
            return;
        }
        let newest = self.last_id().term;
        assert!(term >= newest, "term {term} after {}", self.last_id());
        if self.is_empty() {
            self.first = term;
        } else if term > newest {
            self.later.push(LogId { term, index: self.last.next() });
        }
        self.last = LogIndex(self.last.0 + count);
    }

    /// Cuts everything after `index`.
    ///
    /// # Panics
    /// If `index` is before the beginning of the stretch.
    pub fn cut_after(&mut self, index: LogIndex) {
        assert!(index >= self.after.index, "cut after {index}, but the log begins after {}", self.after);
        self.last = self.last.min(index);
        self.later.retain(|run| run.index <= index);
        if self.is_empty() {
            self.first = self.after.term;
        }
    }

    /// Drops everything up to `index`, so that the stretch begins after it.
    ///
    /// # Panics
    /// If `index` is not within the stretch.
    pub fn begin_after(&mut self, index: LogIndex) {
        let after = self.id_at(index);
        self.first = self.term_at(index.next()).unwrap_or(after.term);
        self.later.retain(|run| run.index > index.next());
        self.after = after;
    }

    /// Appends a stretch that begins where this one ends.
    ///
    /// # Panics
    /// If it does not.
    pub fn extend(&mut self, more: &TermRuns) {
        assert_eq!(more.after, self.last_id(), "a stretch that begins where the log ends");
        for (term, first, last) in more.iter() {
            self.push(term, last.since(first.prev()));
        }
    }

    /// Gives back the memory of what was cut.
    pub(crate) fn release_memory(&mut self) {
        self.later.shrink_to_fit();
    }

    /// The entry before the first one.
    #[must_use]
    pub fn after(&self) -> LogId {
        self.after
    }

    /// The index of the last entry.
    #[must_use]
    pub fn last(&self) -> LogIndex {
        self.last
    }

    /// Names the last entry; `after` when there is none.
    #[must_use]
    pub fn last_id(&self) -> LogId {
        let term = self.later.last().map_or(self.first, |run| run.term);
        LogId { term, index: self.last }
    }

    /// Whether there is no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.last == self.after.index
    }

    /// The term of the entry at `index`; also of the entry before the first one. `None` outside.
    #[must_use]
    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index < self.after.index || index > self.last {
            return None;
        }
        Some(if index == self.after.index { self.after.term } else { self.run_of(index).term })
    }

    /// Whether the entry is here, or is the one before the first.
    #[must_use]
    pub fn contains(&self, id: LogId) -> bool {
        self.term_at(id.index) == Some(id.term)
    }

    /// The last entry whose term is at most `term` and whose index is at most `index`: where a log that ends a
    /// conflicting run there could still agree with this one (Raft §5.3, the optimisation at its end).
    #[must_use]
    pub fn last_at_most(&self, term: Term, index: LogIndex) -> LogId {
        let mut index = index.min(self.last);
        while index > self.after.index {
            let run = self.run_of(index);
            if run.term <= term {
                return LogId { term: run.term, index };
            }
            index = run.index.prev();
        }
        self.after
    }

    /// The part `(from, upto]`.
    ///
    /// # Panics
    /// If the part is not within the stretch.
    #[must_use]
    pub fn part(&self, from: LogIndex, upto: LogIndex) -> TermRuns {
        let after = self.id_at(from);
        assert!(from <= upto && upto <= self.last, "({from}, {upto}] is not in ({}, {}]", self.after, self.last);
        let first = if from == upto { after.term } else { self.run_of(from.next()).term };
        let later = self.later.iter().filter(|run| run.index > from.next() && run.index <= upto).copied().collect();
        TermRuns { after, first, later, last: upto }
    }

    /// Each run as its term, first and last index.
    pub fn iter(&self) -> impl Iterator<Item = (Term, LogIndex, LogIndex)> + '_ {
        let first = LogId { term: self.first, index: self.after.index.next() };
        let first = (!self.is_empty()).then_some(first);
        first.into_iter().chain(self.later.iter().copied()).enumerate().map(|(n, run)| {
            let last = self.later.get(n).map_or(self.last, |next| next.index.prev());
            (run.term, run.index, last)
        })
    }

    /// Names the entry at `index`, or the one before the first.
    fn id_at(&self, index: LogIndex) -> LogId {
        let term = self.term_at(index).unwrap_or_else(|| panic!("{index} is not in ({}, {}]", self.after, self.last));
        LogId { term, index }
    }

    /// The first entry of the run that has the one at `index`, which is in the stretch.
    fn run_of(&self, index: LogIndex) -> LogId {
        match self.later.partition_point(|run| run.index <= index) {
            0 => LogId { term: self.first, index: self.after.index.next() },
            run => self.later[run - 1],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_begins_later_is_the_same_from_there_on() {
        let mut log = TermRuns::one_term(LogId::new(1, 2), Term(1), 3);
        log.push(Term(2), 2);
        log.push(Term(4), 1);
        for index in 2..=8 {
            let mut later = log.clone();
            later.begin_after(LogIndex(index));
            assert_eq!(later, log.part(LogIndex(index), LogIndex(8)), "after {index}");
        }
    }

    #[test]
    fn the_memory_of_what_was_cut_is_given_back() {
        let mut log = TermRuns::one_term(LogId::ZERO, Term(1), 1);
        (2..=100).for_each(|term| log.push(Term(term), 1));
        log.begin_after(LogIndex(98));
        log.release_memory();
        assert!(log.later.capacity() < 4, "{}", log.later.capacity());
    }

    #[test]
    fn a_part_leaves_out_the_runs_before_it() {
        let mut log = TermRuns::one_term(LogId::ZERO, Term(1), 5);
        log.push(Term(2), 2);
        log.push(Term(4), 1);
        assert_eq!(log.part(LogIndex(5), LogIndex(7)), TermRuns::one_term(LogId::new(1, 5), Term(2), 2));
        assert_eq!(log.part(LogIndex(7), LogIndex(7)), TermRuns::empty(LogId::new(2, 7)));
        assert_eq!(log.part(LogIndex(7), LogIndex(8)), TermRuns::one_term(LogId::new(2, 7), Term(4), 1));
        assert_eq!(log.part(LogIndex(0), LogIndex(8)), log);
    }
}
