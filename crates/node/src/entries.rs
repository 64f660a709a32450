//! The recent entries of one group, in memory.
//!
//! Owns a contiguous tail of the log, under a budget of bytes. What is older is read from the log on disk. Must not
//! know what for.

use std::collections::VecDeque;

use bytes::Bytes;
use vlot_log::record::Entry;
use vlot_raft::id::LogIndex;
use vlot_raft::term_runs::TermRuns;

/// The entries after `after`, to the end of the log.
///
/// Invariant: the entries' indices follow `after` one by one; `bytes` is the sum of what they take.
#[derive(Debug, Default)]
pub struct RecentEntries {
    after: LogIndex,
    entries: VecDeque<Entry>,
    bytes: usize,
}

impl RecentEntries {
    /// None yet, of a log that ends at `last`.
    pub fn after(last: LogIndex) -> Self {
        Self { after: last, ..Self::default() }
    }

    /// Whether everything after `index` is here.
    pub fn reach_back_to(&self, index: LogIndex) -> bool {
        index >= self.after
    }

    /// How many bytes of memory they take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Cuts after the beginning of `runs` and appends its entries.
    ///
    /// # Panics
    /// If there is not one payload for each entry.
    pub fn append(&mut self, runs: &TermRuns, payloads: impl IntoIterator<Item = Bytes>) -> Vec<Entry> {
        self.cut_after(runs.after().index);
        let mut payloads = payloads.into_iter();
        let mut appended = Vec::with_capacity(payloads.size_hint().0);
        for (term, first, last) in runs.iter() {
            for index in first.0..=last.0 {
                // A frame without one payload for each of its entries is refused when it is decoded (`wire.rs`).
                let payload = payloads.next().unwrap_or_else(|| panic!("a payload for entry {index} of {term}"));
                appended.push(Entry { id: vlot_raft::id::LogId { term, index: LogIndex(index) }, payload });
            }
        }
        self.bytes += appended.iter().map(bytes_of).sum::<usize>();
        self.entries.extend(appended.iter().cloned());
        appended
    }

    /// The entries of `(after, upto]`, from the first on: as many as have at most `bytes_max` bytes together, but one
    /// at least. Empty if `after` is not reached back to.
    pub fn part(&self, after: LogIndex, upto: LogIndex, bytes_max: usize) -> impl ExactSizeIterator<Item = &Entry> {
        let skip = if self.reach_back_to(after) { after.since(self.after) } else { self.entries.len() as u64 };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX).min(self.entries.len());
        let mut room = Some(bytes_max);
        let is_part = |(n, entry): &(usize, &Entry)| {
            room = room.and_then(|room| room.checked_sub(entry.payload.len()));
            entry.id.index <= upto && (*n == 0 || room.is_some())
        };
        // Counted first, so that a list of them grows only once.
        let count = self.entries.range(skip..).enumerate().take_while(is_part).count();
        self.entries.range(skip..skip + count)
    }

    /// Forgets the oldest entries that are not after `keep_after`, until the rest fits into `bytes_max`.
    pub fn shrink(&mut self, keep_after: LogIndex, bytes_max: usize) {
        while self.bytes > bytes_max {
            match self.entries.front() {
                Some(entry) if entry.id.index <= keep_after => {
                    self.bytes -= bytes_of(entry);
                    self.after = entry.id.index;
                    self.entries.pop_front();
                }
                _ => break,
            }
        }
    }

    fn cut_after(&mut self, index: LogIndex) {
        while self.entries.back().is_some_and(|entry| entry.id.index > index) {
            if let Some(entry) = self.entries.pop_back() {
                self.bytes -= bytes_of(&entry);
            }
        }
        if self.entries.is_empty() {
            // The log may have been cut into what is on disk only.
            self.after = index;
        }
    }
}

/// A payload may be short, and then it is the entry itself that counts.
fn bytes_of(entry: &Entry) -> usize {
    size_of::<Entry>() + entry.payload.len()
}

/// How many bytes each may keep of those that it has, so that all together keep at most `budget`: a little is kept,
/// and the rest is shared evenly.
pub fn fair_share(mut sizes: Vec<usize>, budget: usize) -> usize {
    sizes.sort_unstable();
    let (mut left, mut others) = (budget, sizes.len());
    for size in sizes {
        let share = left / others;
        if size > share {
            return share;
        }
        (left, others) = (left - size, others - 1);
    }
    usize::MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use vlot_raft::id::{LogId, Term};

    fn payloads(lengths: &[usize]) -> Vec<Bytes> {
        lengths.iter().map(|&length| Bytes::from(vec![0; length])).collect()
    }

    fn indices<'a>(part: impl Iterator<Item = &'a Entry>) -> Vec<u64> {
        part.map(|entry| entry.id.index.0).collect()
    }

    #[test]
    fn parts_are_cut_by_bytes_but_never_empty() {
        let mut recent = RecentEntries::after(LogIndex(4));
        recent.append(&TermRuns::one_term(LogId::new(1, 4), Term(2), 4), payloads(&[10, 10, 10, 100]));
        let part = |after, upto, bytes_max| indices(recent.part(LogIndex(after), LogIndex(upto), bytes_max));
        assert_eq!(part(4, 8, 1000), [5, 6, 7, 8]);
        assert_eq!(part(4, 6, 1000), [5, 6]);
        assert_eq!(part(4, 8, 29), [5, 6]);
        assert_eq!(part(4, 8, 0), [5]);
        assert_eq!(part(7, 8, 0), [8]);
        assert_eq!(part(8, 8, 9), []);
        assert_eq!(part(3, 8, 1000), [], "not here");
    }

    #[test]
    fn a_conflict_replaces_and_the_budget_forgets_the_oldest() {
        let mut recent = RecentEntries::after(LogIndex::ZERO);
        recent.append(&TermRuns::one_term(LogId::ZERO, Term(1), 4), payloads(&[10; 4]));
        recent.append(&TermRuns::one_term(LogId::new(1, 2), Term(2), 1), payloads(&[20]));
        let bytes = |entries: usize, payloads: usize| entries * size_of::<Entry>() + payloads;
        assert_eq!(recent.bytes, bytes(3, 40));
        recent.shrink(LogIndex(1), 0);
        let left = bytes(2, 30);
        assert_eq!((recent.after, recent.bytes), (LogIndex(1), left), "what is after 1 is kept, whatever the budget");
        recent.append(&TermRuns::one_term(LogId::ZERO, Term(3), 1), payloads(&[1]));
        assert_eq!((recent.after, recent.bytes), (LogIndex::ZERO, bytes(1, 1)), "cut into what only the disk had");
        assert_eq!(indices(recent.part(LogIndex::ZERO, LogIndex(9), 9)), [1]);
    }

    #[test]
    fn who_has_little_keeps_it() {
        for (sizes, budget, share) in [
            (&[][..], 0, usize::MAX),
            (&[10, 30], 40, usize::MAX),
            (&[10, 30], 39, 29),
            (&[90, 1, 90], 21, 10),
            (&[5, 5], 1, 0),
        ] {
            assert_eq!(fair_share(sizes.to_vec(), budget), share, "{sizes:?}");
        }
    }
}
