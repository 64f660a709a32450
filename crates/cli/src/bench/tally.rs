//! What came back: counts, latencies and errors of the measured part of a run.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;

use super::histogram::Histogram;
use super::timeline::Timeline;
use crate::client::Failure;

/// Different error texts that are told apart; more share one entry.
const ERROR_TEXTS_MAX: usize = 50;

/// Counts nothing until [`Tally::begin`], so that the warm-up leaves no trace.
#[derive(Default)]
pub struct Tally {
    counting: bool,
    /// Of each operation, from its start or schedule to its reply.
    pub latency: Histogram,
    /// The same, by when it ended.
    pub timeline: Timeline,
    /// Of each event, from sending its write to receiving it.
    pub delivery: Histogram,
    /// Transactions whose compare did not hold.
    pub conflicts: u64,
    /// Times that a connection was opened again, or a watch.
    pub reopened: u64,
    /// Times that the user's token had ended and another was asked for.
    pub logged_in_again: u64,
    errors: BTreeMap<String, u64>,
    failures: u64,
    /// After each of this many operations and failures, the task that waits is woken.
    wake_at: Option<u64>,
    changed: Rc<Notify>,
}

impl Tally {
    /// Forgets the warm-up and counts from here on.
    pub fn begin(&mut self) {
        *self = Tally { counting: true, wake_at: self.wake_at, changed: self.changed.clone(), ..Tally::default() };
    }

    /// An operation succeeded.
    pub fn succeeded(&mut self, latency: Duration) {
        if self.counting {
            self.latency.record(latency);
            self.timeline.record(latency);
            self.wake();
        }
    }

    /// An operation failed.
    pub fn failed(&mut self, failure: &Failure) {
        if self.counting {
            self.failures += 1;
            self.note(failure);
            self.wake();
        }
    }

    /// Something outside an operation failed: a connection attempt, a watch.
    pub fn note(&mut self, failure: &Failure) {
        if !self.counting {
            return;
        }
        let text = failure.to_string();
        let is_new = !self.errors.contains_key(&text);
        let text = if is_new && self.errors.len() >= ERROR_TEXTS_MAX { "other errors".to_owned() } else { text };
        *self.errors.entry(text).or_default() += 1;
    }

    /// An event arrived.
    pub fn delivered(&mut self, latency: Duration) {
        if self.counting {
            self.delivery.record(latency);
        }
    }

    /// A compare did not hold.
    pub fn conflicted(&mut self) {
        self.conflicts += u64::from(self.counting);
    }

    /// A connection or a watch was opened anew.
    pub fn opened_again(&mut self) {
        self.reopened += u64::from(self.counting);
    }

    /// The user's token had ended, and there is another.
    pub fn logged_in_again(&mut self) {
        self.logged_in_again += u64::from(self.counting);
    }

    /// Operations that succeeded.
    pub fn operations(&self) -> u64 {
        self.latency.count()
    }

    /// Operations that failed.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// Errors by their text.
    pub fn errors(&self) -> &BTreeMap<String, u64> {
        &self.errors
    }

    fn wake(&mut self) {
        if self.wake_at.is_some_and(|number| self.operations() + self.failures >= number) {
            self.changed.notify_one();
        }
    }

    /// From now on wakes the task that waits in [`changed_or`] once this many operations have ended.
    pub fn wake_at(&mut self, number: u64) {
        self.wake_at = Some(number);
    }
}

/// Waits until the number of operations given to [`Tally::wake_at`] has ended, but no longer than `at_most`.
pub async fn changed_or(tally: &Rc<RefCell<Tally>>, at_most: Duration) {
    let changed = tally.borrow().changed.clone();
    // Which of the two it was, the caller sees in the tally.
    let _ = tokio::time::timeout(at_most, changed.notified()).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::BadAnswer;

    #[test]
    fn the_warm_up_leaves_no_trace() {
        let mut tally = Tally::default();
        tally.succeeded(Duration::from_millis(1));
        tally.failed(&Failure::Malformed(BadAnswer::NoReply));
        tally.begin();
        assert_eq!((tally.operations(), tally.failures(), tally.errors().len()), (0, 0, 0));
        tally.succeeded(Duration::from_millis(1));
        tally.failed(&Failure::Malformed(BadAnswer::NoReply));
        assert_eq!((tally.operations(), tally.failures(), tally.errors().len()), (1, 1, 1));
    }

    #[test]
    fn error_texts_are_bounded() {
        let mut tally = Tally::default();
        tally.begin();
        for number in 0..1000 {
            tally.failed(&Failure::Malformed(BadAnswer::WatchCancelled { reason: number.to_string() }));
        }
        assert_eq!(tally.errors().len(), ERROR_TEXTS_MAX + 1);
        assert_eq!(tally.errors().values().sum::<u64>(), 1000);
    }
}
