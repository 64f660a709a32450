//! The log beside tikv's `raft-engine`, and beside the bare file under both.
//!
//! Owns the plan, the entries, and what a log under test can be asked. Every side writes the same payloads to the same
//! file system, makes them durable with `fdatasync`, and takes its turns with the others within a round.

mod appends;
mod bare_file;
mod engine;
mod host;
mod kept;
mod vlot;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;

use crate::Outcome;
use crate::measure::processor;
use crate::scratch::Scratch;

const ENTRY_BYTES: usize = 256;
const GROUPS: u64 = 1000;

/// What to measure.
pub(crate) struct Plan {
    dir: PathBuf,
    rounds: usize,
    turn: Duration,
}

impl Plan {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut plan = Self { dir: std::env::temp_dir(), rounds: 9, turn: Duration::from_millis(160) };
        while let Some(flag) = arguments.next() {
            match flag.as_str() {
                "--dir" => plan.dir = crate::value(&flag, &mut arguments)?,
                "--rounds" => plan.rounds = crate::value::<usize>(&flag, &mut arguments)?.max(1),
                "--millis" => plan.turn = Duration::from_millis(crate::value(&flag, &mut arguments)?),
                _ => return Err(format!("{flag} is no flag of log")),
            }
        }
        Ok(plan)
    }
}

/// A log that one caller owns.
trait Journal: Send {
    /// Adds one entry for each payload to the group named beside it, all at once, and makes them durable.
    fn append(&mut self, batch: &[(u64, Bytes)]) -> Outcome<()>;

    /// What is better done while nobody waits.
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
