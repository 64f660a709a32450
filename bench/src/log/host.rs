//! The thread that writes for many: takes all that has gathered, makes it durable at once, and tells everyone.
//!
//! As the product's log thread does, but for what is one there: that its callers wait, each for its own entry.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;

use super::{Journal, Outcome};

/// Where entries wait for the next write.
pub(crate) struct Host {
    gathering: Mutex<Gathering>,
    something_waits: Condvar,
}

#[derive(Default)]
struct Gathering {
    entries: Vec<(u64, Bytes)>,
    /// Shared by all whose entries are in this batch.
    written: Arc<OnceLock<Result<(), String>>>,
    closed: bool,
}

impl Host {
    pub(crate) fn new() -> Self {
        Self { gathering: Mutex::default(), something_waits: Condvar::new() }
    }

    /// Returns when the entry is durable.
    pub(crate) fn append(&self, group: u64, payload: Bytes) -> Outcome<()> {
        let mut gathering = self.gathering();
        gathering.entries.push((group, payload));
        let written = Arc::clone(&gathering.written);
        let is_first = gathering.entries.len() == 1;
        drop(gathering);
        if is_first {
            self.something_waits.notify_one();
        }
        Ok(written.wait().clone()?)
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
            std::mem::swap(&mut entries, &mut gathering.entries);
            let written = std::mem::take(&mut gathering.written);
            drop(gathering);

            let outcome = journal.append(&entries);
            entries.clear();
            // Nobody else sets it: it has just been taken out.
            let _ = written.set(outcome.map_err(|error| error.to_string()));
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
