//! What a measurement on a disk is told: where, and for how long.

use std::path::PathBuf;
use std::time::Duration;

use crate::arguments::{ArgumentError, value};

/// Where to measure, how often, and how long each side's turn in a round is.
pub(crate) struct Plan {
    pub(crate) dir: PathBuf,
    pub(crate) rounds: usize,
    pub(crate) turn: Duration,
}

impl Plan {
    pub(crate) fn parse(
        measurement: &'static str,
        mut arguments: impl Iterator<Item = String>,
    ) -> Result<Self, ArgumentError> {
        let mut plan = Self { dir: std::env::temp_dir(), rounds: 9, turn: Duration::from_millis(160) };
        while let Some(flag) = arguments.next() {
            match flag.as_str() {
                "--dir" => plan.dir = value(&flag, &mut arguments)?,
                "--rounds" => plan.rounds = value::<usize>(&flag, &mut arguments)?.max(1),
                "--millis" => plan.turn = Duration::from_millis(value(&flag, &mut arguments)?),
                _ => return Err(ArgumentError::UnknownFlag { flag, measurement }),
            }
        }
        Ok(plan)
    }
}
