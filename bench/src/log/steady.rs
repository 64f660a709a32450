//! A log that has been at work for long: what was written before is given up by and by, and its files are used again.
//!
//! Owns how much is kept. A log is measured in this state, for it is in it nearly all its life: the first files of a new one
//! are laid down while they are written to, and a sync has more to do then.

use std::path::Path;

use bytes::Bytes;

use super::{GROUPS, Journal, Kept};
use crate::Outcome;

/// After how many entries all that was written is given up: some 32 MiB, half of a file.
const KEPT_ENTRIES: usize = 100_000;
/// How many are written before anything is measured: so many files that the one that is written to is not new on any side.
const ENTRIES_BEFORE: usize = 12 * KEPT_ENTRIES;
/// How many of these at once.
const AT_ONCE: usize = 1000;

/// A log that can give up what it has.
pub(crate) trait Compacts: Kept {
    /// Gives up all entries, and the space they take.
    fn compact(&mut self) -> Outcome<()>;
}

/// Gives up what it has whenever that is enough.
pub(crate) struct Steady<J> {
    journal: J,
    kept: usize,
}

impl<J: Compacts> Steady<J> {
    /// Opens a log and lets it work for a while.
    pub(crate) fn open(dir: &Path, payloads: &[Bytes]) -> Outcome<Self> {
        let mut steady = Self { journal: J::open(dir)?, kept: 0 };
        let entries =
            (0..ENTRIES_BEFORE as u64).map(|n| (n % GROUPS + 1, payloads[n as usize % payloads.len()].clone()));
        for batch in entries.collect::<Vec<_>>().chunks(AT_ONCE) {
            steady.append(batch)?;
            steady.prepare()?;
        }
        Ok(steady)
    }

    /// The log alone, for callers that do the same themselves.
    pub(crate) fn into_inner(self) -> J {
        self.journal
    }
}

impl<J: Compacts> Journal for Steady<J> {
    fn append(&mut self, batch: &[(u64, Bytes)]) -> Outcome<()> {
        self.kept += batch.len();
        self.journal.append(batch)
    }

    fn prepare(&mut self) -> Outcome<()> {
        self.journal.prepare()?;
        if self.kept >= KEPT_ENTRIES {
            self.kept = 0;
            self.journal.compact()?;
        }
        Ok(())
    }
}
