//! Short answers that need values from disk: read on the thread that asks as long as no read waits, else on threads that may.
//!
//! Owns when that is. As a rule the system has what is read in its own memory: then to hand the work to another thread costs more
//! than the work. It has not when it needs its memory for something else, and then a thread that serves many connections
//! must not wait for a disk again and again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use vlot_proto::etcdserverpb::RangeResponse;
use vlot_store::engine::redb::disk_waits_of_this_thread;
use vlot_store::refusal::Refusal;
use vlot_store::short::ShortRange;

use crate::status::Status;
use crate::worker_pool::WorkerPool;

/// An answer with more values than these from disk is made elsewhere, however quick that is: each takes about ten microseconds.
const IN_PLACE_VALUES_MAX: usize = 16;
/// So many reads that have not waited must follow one that has, so that the next is made in place: a thread that serves waits for
/// the disk with one read of these at most.
const READS_AFTER_WAIT: u32 = 64;
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
        let before = disk_waits_of_this_thread();
        let complete = answer.complete();
        self.pace.read(disk_waits_of_this_thread() > before);
        complete
    }
}

/// Whether the system is likely to have in memory what is read.
#[derive(Default)]
struct Pace {
    /// So many more reads are to go elsewhere, as long as none of them waits.
    elsewhere: AtomicU32,
}

impl Pace {
    fn is_quick(&self) -> bool {
        self.elsewhere.load(Relaxed) == 0
    }

    /// A read had to wait for the disk, or had not.
    fn read(&self, has_waited: bool) {
        // What another thread has counted in between may be lost.
        let left = self.elsewhere.load(Relaxed);
        let now = if has_waited { READS_AFTER_WAIT } else { left.saturating_sub(1) };
        if now != left {
            self.elsewhere.store(now, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;
    use vlot_proto::etcdserverpb::{PutRequest, RangeRequest};
    use vlot_store::command::Command;
    use vlot_store::engine::memory::MemoryEngine;
    use vlot_store::revision::Position;
    use vlot_store::store::{Options, Store};

    use super::*;

    const KEYS: usize = IN_PLACE_VALUES_MAX + 1;

    /// Keeps no value in memory.
    fn store() -> Store {
        let options = Options { value_cache_bytes: 0, ..Options::default() };
        let mut store = Store::open_still(Arc::new(MemoryEngine::default()), options).unwrap();
        for number in 0..KEYS {
            let put = PutRequest { key: vec![b'k', number as u8].into(), value: "value".into(), ..Default::default() };
            let at = Position { term: 1, index: number as u64 + 1 };
            store.apply(at, Command::Put(put)).unwrap();
        }
        store.flush().unwrap();
        store.end_batch();
        store
    }

    #[tokio::test]
    async fn few_values_are_read_in_place_unless_reads_wait_and_many_elsewhere() {
        let store = store();
        let keys = |limit: usize| RangeRequest {
            key: "k".into(),
            range_end: "l".into(),
            limit: limit as i64,
            ..RangeRequest::default()
        };
        let in_memory = RangeRequest { keys_only: true, ..keys(0) };
        // What is asked for, whether the last read has waited, and whether it is answered without another thread.
        let rows = [
            (keys(1), false, true),
            (keys(IN_PLACE_VALUES_MAX), false, true),
            (keys(KEYS), false, false),
            (keys(1), true, false),
            (in_memory, true, true),
        ];
        for (request, has_waited, in_place) in rows {
            for workers in [0, 1] {
                let readers = WorkerPool::for_short_work(workers);
                let reads = Arc::new(DiskReads { pace: Pace::default(), readers });
                reads.pace.read(has_waited);
                let answer = store.short_range(&request, KEYS, 1 << 20).unwrap().unwrap();
                let complete = if workers == 0 {
                    timeout(Duration::from_millis(20), reads.complete(answer)).await.ok()
                } else {
                    Some(reads.complete(answer).await)
                };
                let expected = (in_place || workers > 0).then(|| Ok(store.range(&request).unwrap()));
                assert_eq!(complete, expected, "{request:?}, {workers} workers");
            }
        }
    }

    #[test]
    fn after_a_read_that_has_waited_so_many_others_go_elsewhere_until_none_of_them_waits() {
        let pace = Pace::default();
        pace.read(false);
        assert!(pace.is_quick());
        for waits in [1, 2, 1000] {
            (0..waits).for_each(|_| pace.read(true));
            for _ in 0..READS_AFTER_WAIT {
                assert!(!pace.is_quick());
                pace.read(false);
            }
            assert!(pace.is_quick());
        }
        pace.read(true);
        (0..READS_AFTER_WAIT - 1).for_each(|_| pace.read(false));
        pace.read(true);
        (0..READS_AFTER_WAIT - 1).for_each(|_| pace.read(false));
        assert!(!pace.is_quick());
    }
}
