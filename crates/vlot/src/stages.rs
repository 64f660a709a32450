//! How long each stage of a proposal takes, by group: for a recorder of the `metrics` facade (with the feature `metrics`), and
//! as spans of `tracing`.
//!
//! Owns what is on its way between two stages, and whether anything listens: that is looked at once a second, and if nothing
//! does, nothing is measured. Must not know what a stage is good for.
//!
//! | stage | from | until |
//! |---|---|---|
//! | `queued` | the call of [`Group::propose`](crate::Group::propose) | this node's log is asked to write the entry |
//! | `durable` | the log is asked | the entry is durable on this node |
//! | `committed` | the log is asked | this node knows that a quorum has the entry durably |
//! | `applied` | that is known | this node's state machine has applied the entry |
//!
//! The first is of the proposals of this node, the others of all entries that come into its log: on every member. The facade
//! gets each as a value of the histogram `vlot_proposal_stage_seconds`, with the labels `group` and `stage`. With `tracing`,
//! target `vlot::stages` and level TRACE, a span `entries` lasts from the log's being asked to the end of the last stage.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tracing::{Level, Span};
use vlot_log::record::{Entry as LogEntry, Write};
use vlot_node::act::BatchId;
use vlot_node::payload;
use vlot_node::proposal_id::ProposalId;
use vlot_raft::id::{GroupId, LogIndex};
use vlot_raft::time::Time;

/// How often it is looked whether anything listens.
const LOOK: Duration = Duration::from_secs(1);
/// Proposals that are waited for, and runs of entries of one group. What is beyond is not measured.
const PROPOSALS_MAX: usize = 1 << 16;
const RUNS_MAX: usize = 1 << 12;

/// The target of spans.
const TARGET: &str = "vlot::stages";

/// What is on its way.
#[derive(Debug, Default)]
pub(crate) struct Stages {
    /// Something listens. Nothing else is looked at otherwise.
    is_on: bool,
    look_at: Time,
    traces: bool,
    /// Proposals of this node that are in no log yet, and since when they wait.
    proposed: HashMap<ProposalId, (GroupId, Instant)>,
    groups: BTreeMap<GroupId, OfGroup>,
}

#[derive(Debug)]
struct OfGroup {
    runs: VecDeque<Run>,
    facade: facade::OfGroup,
}

/// Entries that were written together, by one group.
#[derive(Debug)]
struct Run {
    batch: BatchId,
    upto: LogIndex,
    count: usize,
    appended: Instant,
    is_durable: bool,
    committed: Option<Instant>,
    span: Span,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Stage {
    Queued,
    Durable,
    Committed,
    Applied,
}

impl Stage {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Durable => "durable",
            Self::Committed => "committed",
            Self::Applied => "applied",
        }
    }
}

impl Stages {
    /// Whether anything is measured. Looks now and then whether anything listens.
    pub(crate) fn look(&mut self, now: Time) -> bool {
        if now >= self.look_at {
            self.look_at = now + LOOK;
            self.traces = tracing::enabled!(target: TARGET, Level::TRACE);
            let is_on = self.traces || facade::listens();
            if !is_on {
                self.proposed = HashMap::new();
                self.groups = BTreeMap::new();
            }
            self.is_on = is_on;
        }
        self.is_on
    }

    pub(crate) fn is_on(&self) -> bool {
        self.is_on
    }

    /// A proposal has waited for its turn since then.
    pub(crate) fn proposed(&mut self, group: GroupId, payload: &Bytes, since: Instant) {
        if let Some(id) = payload::proposal_ids(payload).next().filter(|_| self.proposed.len() < PROPOSALS_MAX) {
            self.proposed.insert(id, (group, since));
        }
    }

    /// A proposal is waited for no longer.
    pub(crate) fn withdrawn(&mut self, group: GroupId, sequence: u64) {
        self.proposed.retain(|id, (of, _)| (*of, id.sequence) != (group, sequence));
    }

    /// The log is asked to write these.
    pub(crate) fn appended(&mut self, batch: BatchId, writes: &[Write]) {
        let now = Instant::now();
        for write in writes {
            let Write::Append { group, after, entries } = write else { continue };
            let of_group = self.groups.entry(*group).or_insert_with(|| OfGroup::new(*group));
            // What was there is cut.
            while of_group.runs.pop_back_if(|run| run.upto > *after).is_some() {}
            let (Some(first), Some(last)) = (entries.first(), entries.last()) else { continue };
            let (first, upto) = (first.id.index, last.id.index);
            let span = match self.traces {
                true => tracing::trace_span!(target: TARGET, "entries", %group, %first, last = %upto),
                false => Span::none(),
            };
            let ids = entries.iter().flat_map(|entry| payload::proposal_ids(&entry.payload));
            for (_, since) in ids.filter_map(|id| self.proposed.remove(&id)) {
                of_group.observe(Stage::Queued, now.saturating_duration_since(since), 1, &span);
            }
            let commands = |entry: &LogEntry| payload::proposal_ids(&entry.payload).count().max(1);
            let (count, committed) = (entries.iter().map(commands).sum(), None);
            let run = Run { batch, upto, count, appended: now, is_durable: false, committed, span };
            if of_group.runs.len() < RUNS_MAX {
                of_group.runs.push_back(run);
            }
        }
    }

    /// This batch of writes, and those before it, are durable.
    pub(crate) fn durable(&mut self, batch: BatchId) {
        let now = Instant::now();
        for of_group in self.groups.values_mut() {
            of_group.each(
                |run| run.batch <= batch && !std::mem::replace(&mut run.is_durable, true),
                |run| Some((Stage::Durable, now.saturating_duration_since(run.appended))),
            );
        }
    }

    /// Everything of the group up to here is known to be decided.
    pub(crate) fn committed(&mut self, group: GroupId, upto: LogIndex) {
        let now = Instant::now();
        if let Some(of_group) = self.groups.get_mut(&group) {
            of_group.each(
                |run| run.upto <= upto && run.committed.is_none(),
                |run| {
                    run.committed = Some(now);
                    Some((Stage::Committed, now.saturating_duration_since(run.appended)))
                },
            );
        }
    }

    /// The state machine of the group has applied everything up to here.
    pub(crate) fn applied(&mut self, group: GroupId, upto: LogIndex) {
        let now = Instant::now();
        if let Some(of_group) = self.groups.get_mut(&group) {
            of_group.each(
                |run| run.upto <= upto,
                |run| Some((Stage::Applied, now.saturating_duration_since(run.committed?))),
            );
            while of_group.runs.pop_front_if(|run| run.upto <= upto).is_some() {}
        }
    }

    /// The group is closed.
    pub(crate) fn forget(&mut self, group: GroupId) {
        self.groups.remove(&group);
    }
}

impl OfGroup {
    fn new(group: GroupId) -> Self {
        Self { runs: VecDeque::new(), facade: facade::OfGroup::new(group) }
    }

    /// Each run that this is about, with what it took.
    fn each(
        &mut self,
        mut is_about: impl FnMut(&mut Run) -> bool,
        mut took: impl FnMut(&mut Run) -> Option<(Stage, Duration)>,
    ) {
        for run in &mut self.runs {
            if is_about(run)
                && let Some((stage, took)) = took(run)
            {
                self.facade.observe(stage, took, run.count);
                trace(stage, took, &run.span);
            }
        }
    }

    fn observe(&self, stage: Stage, took: Duration, count: usize, span: &Span) {
        self.facade.observe(stage, took, count);
        trace(stage, took, span);
    }
}

fn trace(stage: Stage, took: Duration, span: &Span) {
    if !span.is_none() {
        span.in_scope(|| tracing::trace!(target: TARGET, stage = stage.name(), ?took, "stage"));
    }
}

/// The facade of metrics.
#[cfg(feature = "metrics")]
mod facade {
    use std::cell::Cell;
    use std::fmt;
    use std::time::Duration;

    use metrics::{Histogram, IntoF64, Unit};
    use vlot_raft::id::GroupId;

    use super::Stage;

    const STAGES: &str = "vlot_proposal_stage_seconds";
    const LISTENS: &str = "vlot_proposal_stages_measured";

    /// Whether a recorder is installed that wants this: a value is asked for only by one that keeps it.
    pub(super) fn listens() -> bool {
        struct Probe<'p>(&'p Cell<bool>);
        impl IntoF64 for Probe<'_> {
            fn into_f64(self) -> f64 {
                self.0.set(true);
                1.0
            }
        }
        let is_asked = Cell::new(false);
        metrics::gauge!(LISTENS).set(Probe(&is_asked));
        is_asked.get()
    }

    const ALL: [Stage; 4] = [Stage::Queued, Stage::Durable, Stage::Committed, Stage::Applied];

    /// The histograms of a group, one for each stage.
    pub(super) struct OfGroup([Histogram; ALL.len()]);

    impl OfGroup {
        pub(super) fn new(group: GroupId) -> Self {
            metrics::describe_histogram!(STAGES, Unit::Seconds, "How long each stage of a proposal takes, by group");
            let group = group.to_string();
            let of = |stage: Stage| metrics::histogram!(STAGES, "group" => group.clone(), "stage" => stage.name());
            Self(ALL.map(of))
        }

        pub(super) fn observe(&self, stage: Stage, took: Duration, count: usize) {
            self.0[stage as usize].record_many(took.as_secs_f64(), count);
        }
    }

    impl fmt::Debug for OfGroup {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("OfGroup")
        }
    }
}

/// Without the facade nothing listens to it.
#[cfg(not(feature = "metrics"))]
mod facade {
    use std::time::Duration;

    use vlot_raft::id::GroupId;

    use super::Stage;

    pub(super) fn listens() -> bool {
        false
    }

    #[derive(Debug)]
    pub(super) struct OfGroup;

    impl OfGroup {
        pub(super) fn new(_: GroupId) -> Self {
            Self
        }

        pub(super) fn observe(&self, _: Stage, _: Duration, _: usize) {}
    }
}
