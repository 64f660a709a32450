//! Short answers that need values from disk: read on the thread that asks while that is quick, else on threads that may wait.
//!
//! Owns what counts as quick. As a rule the system has what is read in its own memory: then to hand the work to another thread
//! costs more than the work. It has not when it needs its memory for something else, and then a thread that serves many
//! connections must not wait for a disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use vlot_proto::etcdserverpb::RangeResponse;
use vlot_store::refusal::Refusal;
use vlot_store::short::ShortRange;

use crate::status::Status;
use crate::worker_pool::WorkerPool;

/// An answer with more values than these from disk is made elsewhere, however quick that is: each takes about ten microseconds.
const IN_PLACE_VALUES_MAX: usize = 16;
/// No disk gives a value as quickly as that.
const QUICK: Duration = Duration::from_micros(50);
/// Reads that wait for the disk at a time.
const READERS: usize = 8;

/// Completes short answers.
pub(super) struct DiskReads {
    pace: Pace,
    readers: WorkerPool,
}

impl DiskReads {
    pub(super) fn new() -> DiskReads {
        DiskReads { pace: Pace::default(), readers: WorkerPool::for_short_work(READERS) }
    }

    /// Reads what an answer lacks.
    pub(super) async fn complete(self: &Arc<Self>, answer: ShortRange) -> Result<RangeResponse, Status> {
        let values = answer.values_on_disk();
        if values == 0 {
            return Ok(answer.complete()?);
        }
        if values <= IN_PLACE_VALUES_MAX && self.pace.is_quick() {
            return Ok(self.read(answer)?);
        }
        let reads = self.clone();
        Ok(self.readers.run(move || reads.read(answer)).await??)
    }

    fn read(&self, answer: ShortRange) -> Result<RangeResponse, Refusal> {
        let (values, begun) = (answer.values_on_disk(), Instant::now());
        let complete = answer.complete();
        self.pace.took(begun.elapsed() / values as u32);
        complete
    }
}

/// Whether reads from disk are quick: not if more than one of seventeen is slow. A thread that was not running for a moment
/// makes for a slow read, too, so that one alone says nothing.
#[derive(Default)]
struct Pace {
    /// Rises with each slow read, and falls with each quick one.
    slowness: AtomicU32,
}

impl Pace {
    /// What a slow read counts for.
    const SLOW: u32 = 16;
    /// Reads are not quick from here on.
    const LIMIT: u32 = 2 * Self::SLOW;
    /// So much can be made good by a few quick reads.
    const MAX: u32 = 2 * Self::LIMIT;

    fn is_quick(&self) -> bool {
        self.slowness.load(Relaxed) < Self::LIMIT
    }

    /// A read took so long.
    fn took(&self, took: Duration) {
        // What another thread has counted in between may be lost.
        let slowness = self.slowness.load(Relaxed);
        let now = if took > QUICK { (slowness + Self::SLOW).min(Self::MAX) } else { slowness.saturating_sub(1) };
        if now != slowness {
            self.slowness.store(now, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_quick_until_more_than_one_of_seventeen_is_slow() {
        // So many quick ones follow each slow one, and whether they are quick after a thousand of them.
        for (quick, expected) in [(17, true), (16, true), (15, false), (0, false)] {
            let pace = Pace::default();
            for _ in 0..1000 {
                pace.took(QUICK * 2);
                (0..quick).for_each(|_| pace.took(QUICK));
            }
            assert_eq!(pace.is_quick(), expected, "{quick}");
        }
    }

    #[test]
    fn two_slow_reads_in_a_row_are_enough_and_a_few_dozen_quick_ones_make_them_good() {
        let pace = Pace::default();
        pace.took(QUICK * 2);
        assert!(pace.is_quick(), "a thread may have been interrupted");
        pace.took(QUICK * 2);
        assert!(!pace.is_quick());
        (0..1000).for_each(|_| pace.took(QUICK * 1000));
        let needed = (1..).find(|_| {
            pace.took(QUICK);
            pace.is_quick()
        });
        assert_eq!(needed, Some(Pace::MAX - Pace::LIMIT + 1));
    }
}
