//! The thread that writes for many: takes all that has gathered, makes it durable at once, and tells every caller.
//!
//! As the product's log thread does, but for what is one there: that its callers wait, each for its own entry.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use bytes::Bytes;
use tokio::sync::watch;

use super::Journal;
use crate::Outcome;

/// Where entries wait for the next write.
pub(crate) struct Host {
    gathering: Mutex<Gathering>,
    something_waits: Condvar,
    /// How many batches are written, and what went wrong with one of them. For tasks, which must not block.
    done: watch::Sender<(u64, Option<String>)>,
}

#[derive(Default)]
struct Gathering {
    entries: Vec<(u64, Bytes)>,
    /// Shared by all threads whose entries are in this batch.
    written: Arc<OnceLock<Result<(), String>>>,
    /// How many batches were taken before this one.
    taken: u64,
    closed: bool,
}

impl Host {
    pub(crate) fn new() -> Self {
        Self { gathering: Mutex::default(), something_waits: Condvar::new(), done: watch::Sender::new((0, None)) }
    }

    /// Returns when the entry is durable; the thread sleeps until then.
    pub(crate) fn append(&self, group: u64, payload: Bytes) -> Outcome<()> {
        let (written, _) = self.add(group, payload);
        Ok(written.wait().clone()?)
    }

    /// Returns when the entry is durable; other tasks of the thread go on until then.
    pub(crate) async fn append_from_task(&self, group: u64, payload: Bytes) -> Outcome<()> {
        let (_, number) = self.add(group, payload);
        let mut done = self.done.subscribe();
        let done = done.wait_for(|(written, flaw)| *written >= number || flaw.is_some()).await?;
        done.1.clone().map_or(Ok(()), |flaw| Err(flaw.into()))
    }

    /// Adds an entry to the batch that gathers, and tells how to wait for it.
    fn add(&self, group: u64, payload: Bytes) -> (Arc<OnceLock<Result<(), String>>>, u64) {
        let mut gathering = self.gathering();
        gathering.entries.push((group, payload));
        let wait = (Arc::clone(&gathering.written), gathering.taken + 1);
        let is_first = gathering.entries.len() == 1;
        drop(gathering);
        if is_first {
            self.something_waits.notify_one();
        }
        wait
    }

    /// Writes until the host is closed.
    pub(crate) fn serve(&self, journal: &mut dyn Journal) {
        let mut entries = Vec::new();
        loop {
            let mut gathering = self.gathering();
            while gathering.entries.is_empty() {
                if gathering.closed {
                    return;
                }
                gathering = self.something_waits.wait(gathering).unwrap_or_else(PoisonError::into_inner);
            }
            // A caller that has just been told comes back with the next entry.
            let mut count = 0;
            while gathering.entries.len() > count {
                count = gathering.entries.len();
                drop(gathering);
                thread::yield_now();
                gathering = self.gathering();
            }
            std::mem::swap(&mut entries, &mut gathering.entries);
            let written = std::mem::take(&mut gathering.written);
            gathering.taken += 1;
            let number = gathering.taken;
            drop(gathering);

            let outcome = journal.append(&entries);
            entries.clear();
            let outcome = outcome.map_err(|error| error.to_string());
            self.done.send_replace((number, outcome.clone().err()));
            // Nothing else sets it: it has just been taken out.
            let _ = written.set(outcome);
            // What is wrong here is wrong with the next write too.
            let _ = journal.prepare();
        }
    }

    /// Ends the service once all that waits is written.
    pub(crate) fn close(&self) {
        self.gathering().closed = true;
        self.something_waits.notify_one();
    }

    fn gathering(&self) -> MutexGuard<'_, Gathering> {
        self.gathering.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
