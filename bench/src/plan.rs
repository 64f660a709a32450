//! What a measurement on a disk is told: where, and for how long.

use std::path::PathBuf;
use std::time::Duration;

/// Where to measure, how often, and how long each side's turn in a round is.
pub(crate) struct Plan {
    pub(crate) dir: PathBuf,
    pub(crate) rounds: usize,
    pub(crate) turn: Duration,
}

impl Plan {
    pub(crate) fn parse(name: &str, mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut plan = Self { dir: std::env::temp_dir(), rounds: 9, turn: Duration::from_millis(160) };
        while let Some(flag) = arguments.next() {
            match flag.as_str() {
                "--dir" => plan.dir = crate::value(&flag, &mut arguments)?,
                "--rounds" => plan.rounds = crate::value::<usize>(&flag, &mut arguments)?.max(1),
                "--millis" => plan.turn = Duration::from_millis(crate::value(&flag, &mut arguments)?),
                _ => return Err(format!("{flag} is no flag of {name}")),
            }
        }
        Ok(plan)
    }
}
