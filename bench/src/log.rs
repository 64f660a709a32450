//! The log beside tikv's `raft-engine`, and beside the bare file under both.
//!
//! Owns the plan, the entries, and what a log under test can be asked. Every side writes the same payloads to the same
//! file system, makes them durable with `fdatasync`, and takes its turns with the others within a round.

mod appends;
mod bare_file;
mod engine;
mod host;
mod kept;
mod steady;
mod vlot;

use std::path::Path;

use bytes::Bytes;

use crate::Outcome;
use crate::measure::processor;
use crate::plan::Plan;
use crate::scratch::Scratch;

const ENTRY_BYTES: usize = 256;
const GROUPS: u64 = 1000;

/// A log that one caller owns.
trait Journal: Send {
    /// Adds one entry for each payload to the group named beside it, all at once, and makes them durable.
    fn append(&mut self, batch: &[(u64, Bytes)]) -> Outcome<()>;

    /// What is better done while no caller waits.
    fn prepare(&mut self) -> Outcome<()> {
        Ok(())
    }
}

/// A log that can be opened again and read.
trait Kept: Journal + Sized {
    fn open(dir: &Path) -> Outcome<Self>;

    /// The payloads of a group's entries `first..first + count`, of which the first of all is 1. `visit` sees each.
    fn read(&self, group: u64, first: u64, count: u64, visit: impl FnMut(&[u8])) -> Outcome<()>;
}

/// Measures and prints.
pub(crate) fn run(plan: &Plan) -> Outcome<()> {
    let scratch = Scratch::new(&plan.dir)?;
    println!(
        "Entries of {ENTRY_BYTES} bytes, {} rounds of {} ms; {}; {}",
        plan.rounds,
        plan.turn.as_millis(),
        scratch.file_system(),
        processor()
    );
    appends::run(plan, &scratch)?;
    kept::run(plan, &scratch)
}

/// Payloads that differ and cannot be compressed.
fn payloads() -> Vec<Bytes> {
    crate::measure::noise(1024 * ENTRY_BYTES).chunks(ENTRY_BYTES).map(Bytes::copy_from_slice).collect()
}
