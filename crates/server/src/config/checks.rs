//! When members hold their data against each other's: etcd's flags, and the feature gates that took the place of some.

use std::time::Duration;

use super::arguments::Settings;
use super::{is_on, span, text};

/// When members hold their data against each other's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct CorruptionChecks {
    /// Before clients are served.
    pub(crate) at_start: bool,
    /// All of it, this often.
    pub(crate) periodic: Option<Duration>,
    /// What was compacted, this often.
    pub(crate) after_compaction: Option<Duration>,
}

/// Reads them. What a gate says wins over the older flag. A gate that does not exist here is warned about.
pub(super) fn corruption_checks(settings: &mut Settings) -> CorruptionChecks {
    let mut at_start = is_on(settings, "experimental-initial-corrupt-check");
    let mut compacted = is_on(settings, "experimental-compact-hash-check-enabled");
    let gates = text(settings, "feature-gates").to_owned();
    for gate in gates.split(',').map(str::trim).filter(|gate| !gate.is_empty()) {
        let (name, value) = gate.split_once('=').unwrap_or((gate, ""));
        match (name, super::values::switch(value)) {
            ("InitialCorruptCheck", Some(on)) => at_start = on,
            ("CompactHashCheck", Some(on)) => compacted = on,
            _ => {
                settings.warnings.push(format!("--feature-gates: {gate} has no effect: there is no such feature here"))
            }
        }
    }
    let interval = |name: &str| Some(span(settings, name)).filter(|interval| !interval.is_zero());
    CorruptionChecks {
        at_start,
        periodic: interval("corrupt-check-time"),
        after_compaction: interval("compact-hash-check-time").filter(|_| compacted),
    }
}
