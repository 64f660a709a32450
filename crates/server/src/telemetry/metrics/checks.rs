//! The outcomes of health checks, by check and by the probe that asked for it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Which endpoint asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Probe {
    Live,
    Ready,
}

/// One thing that must hold for a node to be alive or ready.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

impl Probe {
    const ALL: [Probe; 2] = [Probe::Live, Probe::Ready];

    fn name(self) -> &'static str {
        match self {
            Probe::Live => "livez",
            Probe::Ready => "readyz",
        }
    }
}

impl Check {
    const ALL: [Check; 4] =
        [Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner];

    /// Its name in paths and replies.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }
}

/// The outcomes of all checks.
#[derive(Default)]
pub(crate) struct Checks([[Outcomes; Check::ALL.len()]; Probe::ALL.len()]);

#[derive(Default)]
struct Outcomes {
    successes: AtomicU64,
    failures: AtomicU64,
    /// Zero or one, as the newest outcome was.
    newest: AtomicU64,
}

/// The outcomes of one check, as a plain value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Row {
    pub(crate) probe: &'static str,
    pub(crate) check: &'static str,
    pub(crate) successes: u64,
    pub(crate) failures: u64,
    pub(crate) newest: u64,
}

impl Checks {
    pub(crate) fn done(&self, probe: Probe, check: Check, holds: bool) {
        let Outcomes { successes, failures, newest } = &self.0[probe as usize][check as usize];
        let counter = if holds { successes } else { failures };
        counter.fetch_add(1, Relaxed);
        newest.store(u64::from(holds), Relaxed);
    }

    /// The checks that were done at all.
    pub(crate) fn read(&self) -> Vec<Row> {
        let all = Probe::ALL.iter().flat_map(|probe| Check::ALL.iter().map(move |check| (*probe, *check)));
        let rows = all.map(|(probe, check)| {
            let Outcomes { successes, failures, newest } = &self.0[probe as usize][check as usize];
            let [successes, failures, newest] = [successes, failures, newest].map(|counter| counter.load(Relaxed));
            Row { probe: probe.name(), check: check.name(), successes, failures, newest }
        });
        rows.filter(|row| row.successes + row.failures > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_told_once_it_was_done() {
        let checks = Checks::default();
        assert_eq!(checks.read(), []);
        checks.done(Probe::Ready, Check::NonLearner, true);
        checks.done(Probe::Ready, Check::NonLearner, false);
        let row = Row { probe: "readyz", check: "non_learner", successes: 1, failures: 1, newest: 0 };
        assert_eq!(checks.read(), [row]);
    }
}
