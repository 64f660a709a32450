//! How much of a group's log is kept beside what the state machine has durably.
//!
//! Owns the rule by which the log is cut. What is kept serves members that lag a little, so that they need no
//! snapshot. Must not know how the cut is made.

use std::collections::VecDeque;

use vlot_raft::id::LogIndex;

/// When a group's log is cut, and how much is kept.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The log is cut when it holds so many entries more than are kept (etcd's `--snapshot-count`). Several commands may share one.
    pub entries: u64,
    /// And when it holds so many bytes of payload more than are kept.
    pub bytes: u64,
    /// How many entries are kept for members that lag (etcd keeps 5,000).
    pub entries_kept: u64,
    /// And of how many bytes of payload at most. While a member gets a snapshot, what follows that is kept, up to sixteen times
    /// as much: it would need the next snapshot at once otherwise, and never catch up with a group that is written to a lot.
    pub bytes_kept: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 10_000, bytes: 64 << 20, entries_kept: 5_000, bytes_kept: 64 << 20 }
    }
}

/// How many bytes lie between two marks.
const MARK_BYTES: u64 = 1 << 20;

/// How many times `bytes_kept` are kept for members that get snapshots.
const HELD_MAX: u64 = 16;

/// The sizes of what was applied lately.
#[derive(Debug)]
pub struct Retention {
    limits: Limits,
    /// Bytes of payload applied since the process started.
    bytes: u64,
    /// Bytes applied when the log was last cut.
    bytes_at_cut: u64,
    /// Where every mebibyte or so of payload ends. As many as are kept, at most.
    marks: VecDeque<(LogIndex, u64)>,
    /// What follows this is needed by a member, and how many bytes were applied when that became known.
    held: Option<(LogIndex, u64)>,
}

impl Retention {
    /// Nothing was applied yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, bytes: 0, bytes_at_cut: 0, marks: VecDeque::new(), held: None }
    }

    /// An entry was applied.
    pub fn applied(&mut self, index: LogIndex, bytes: usize) {
        self.bytes += bytes as u64;
        if self.marks.back().is_none_or(|&(_, marked)| self.bytes - marked >= MARK_BYTES) {
            self.marks.push_back((index, self.bytes));
            while self.marks.front().is_some_and(|&(_, marked)| self.bytes - marked > self.limits.bytes_kept) {
                self.marks.pop_front();
            }
        }
    }

    /// A member gets a snapshot, and needs what follows it; or none does.
    pub fn hold(&mut self, after: Option<LogIndex>) {
        if after != self.held.map(|(held, _)| held) {
            self.held = after.map(|after| (after, self.bytes));
        }
    }

    /// After which entry nothing is cut, for a member that gets a snapshot of it.
    pub fn held(&self) -> Option<LogIndex> {
        let bytes_max = self.limits.bytes_kept.saturating_mul(HELD_MAX);
        self.held.filter(|(_, since)| self.bytes - since <= bytes_max).map(|(after, _)| after)
    }

    /// Whether it is worth asking what is durable: enough was applied for a cut of a log that begins after `begin`.
    pub fn is_due(&self, begin: LogIndex, applied: LogIndex) -> bool {
        let Limits { entries, bytes, entries_kept, .. } = self.limits;
        applied.since(begin) >= entries.saturating_add(entries_kept) || self.bytes - self.bytes_at_cut >= bytes
    }

    /// Up to where a log that begins after `begin` may be cut, if a cut is worth it.
    pub fn cut(&mut self, begin: LogIndex, durable: LogIndex, applied: LogIndex) -> Option<LogIndex> {
        if !self.is_due(begin, applied) {
            return None;
        }
        let by_entries = LogIndex(applied.0.saturating_sub(self.limits.entries_kept));
        // Before the oldest mark lie more bytes than are kept.
        let is_full = self.bytes > self.limits.bytes_kept;
        let by_bytes = self.marks.front().filter(|_| is_full).map_or(LogIndex::ZERO, |&(index, _)| index);
        let upto = by_entries.max(by_bytes).min(durable);
        let upto = self.held().map_or(upto, |after| upto.min(after));
        // What is durable may lag behind: many small cuts would write more than they save.
        let many = upto.since(begin) >= (self.limits.entries / 2).max(1);
        let is_worth_it = many || (upto > begin && self.bytes - self.bytes_at_cut >= self.limits.bytes);
        if is_worth_it {
            self.bytes_at_cut = self.bytes;
        }
        is_worth_it.then_some(upto)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { entries: 100, bytes: 10 << 20, entries_kept: 50, bytes_kept: 5 << 20 };

    fn index(index: u64) -> LogIndex {
        LogIndex(index)
    }

    #[test]
    fn what_follows_a_snapshot_on_its_way_is_kept_within_a_bound() {
        let mut retention = Retention::new(LIMITS);
        retention.hold(Some(index(120)));
        assert_eq!(retention.cut(index(0), index(900), index(1000)), Some(index(120)));
        assert_eq!(retention.cut(index(120), index(900), index(1000)), None);
        for at in 1000..1000 + 16 * 5 {
            retention.applied(index(at), 1 << 20);
            retention.hold(Some(index(120)));
        }
        assert_eq!((retention.held(), retention.cut(index(120), index(900), index(1080))), (Some(index(120)), None));
        retention.applied(index(1080), 1);
        assert_eq!((retention.held(), retention.cut(index(120), index(900), index(1081))), (None, Some(index(900))));
        retention.hold(None);
        retention.hold(Some(index(950)));
        assert_eq!(retention.held(), Some(index(950)), "another one has another bound");
    }

    #[test]
    fn many_entries_are_cut_down_to_those_kept() {
        let mut retention = Retention::new(LIMITS);
        (1..=149).for_each(|at| retention.applied(index(at), 1));
        assert_eq!(retention.cut(index(0), index(149), index(149)), None);
        retention.applied(index(150), 1);
        assert_eq!(retention.cut(index(0), index(150), index(150)), Some(index(100)));
        assert_eq!(retention.cut(index(0), index(30), index(150)), None, "few could go");
        assert_eq!(retention.cut(index(0), index(60), index(150)), Some(index(60)), "never past what is durable");
        assert_eq!(retention.cut(index(100), index(150), index(150)), None);
    }

    #[test]
    fn large_entries_are_cut_down_to_the_bytes_kept() {
        let mut retention = Retention::new(LIMITS);
        (1..=9).for_each(|at| retention.applied(index(at), 1 << 20));
        assert_eq!(retention.cut(index(0), index(9), index(9)), None);
        retention.applied(index(10), 1 << 20);
        assert_eq!(retention.cut(index(0), index(0), index(10)), None, "nothing is durable");
        assert_eq!(retention.cut(index(0), index(10), index(10)), Some(index(5)), "five of ten mebibytes stay");
        assert_eq!(retention.cut(index(5), index(10), index(10)), None);
        assert!(retention.marks.len() <= 7);
    }

    #[test]
    fn bytes_count_from_the_last_cut() {
        let mut retention = Retention::new(LIMITS);
        (1..=10).for_each(|at| retention.applied(index(at), 1 << 20));
        assert_eq!(retention.cut(index(0), index(10), index(10)), Some(index(5)));
        (11..=19).for_each(|at| retention.applied(index(at), 1 << 20));
        assert!(!retention.is_due(index(5), index(19)));
        retention.applied(index(20), 1 << 20);
        assert!(retention.is_due(index(5), index(20)));
        assert_eq!(retention.cut(index(5), index(20), index(20)), Some(index(15)));
        (21..=170).for_each(|at| retention.applied(index(at), 0));
        assert!(retention.is_due(index(15), index(170)), "by entries");
        assert_eq!(retention.cut(index(15), index(25), index(170)), None, "little is durable");
    }

    #[test]
    fn nothing_is_cut_for_bytes_while_no_more_are_there_than_are_kept() {
        let mut retention = Retention::new(Limits { entries: 1, bytes: 5 << 20, entries_kept: 1_000, ..LIMITS });
        (1..=5).for_each(|at| retention.applied(index(at), 1 << 20));
        assert!(retention.is_due(index(0), index(5)));
        assert_eq!(retention.cut(index(0), index(5), index(5)), None);
    }

    #[test]
    fn small_entries_share_a_mark() {
        let mut retention = Retention::new(LIMITS);
        (1..=4_096).for_each(|at| retention.applied(index(at), 1 << 10));
        assert_eq!(retention.marks.len(), 4);
    }
}
