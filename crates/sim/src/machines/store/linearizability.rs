//! Check: one order explains all that clients saw, and it agrees with time. An operation that had ended before another
//! began comes before it (strict serializability, for the whole store is one object).
//!
//! Nothing needs to be searched, because etcd's answers say where they stand. A change has a revision of its own, and a
//! compaction the revision that it was done at: together they are the *timeline*. Every other operation, and every read,
//! belongs to some of its states: those of the revision in its header. The check replays the timeline on a [`Model`],
//! holds every answer against the model's, and then looks for a place for each of the others that is not before what had
//! ended when it began. The earliest place is always the best, so that one pass finds out.
//!
//! Operations of unknown outcome are on the timeline if somebody saw what they did: see [`Trace`].

use std::collections::{HashMap, HashSet};

use vlot_proto::etcdserverpb::{TxnResponse, response_op};
use vlot_proto::mvccpb::Event;
use vlot_raft::invariants::Violation;
use vlot_store::refusal::Refusal;

use super::history::{Edge, History, OpId, Operation, Outcome, Reply, Request, Tick};
use super::model::{FIRST, Model, State};
use super::violation;
use super::workload::op_of_value;

const PROPERTY: &str = "Linearizability";

/// What others saw of an operation.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Trace {
    /// It made this revision.
    Changed {
        /// The revision.
        revision: i64,
    },
    /// It compacted, when this was the newest revision.
    Compacted {
        /// The newest revision.
        revision: i64,
    },
    /// It was applied, and changed nothing.
    Nothing,
}

impl Trace {
    /// The trace that an event of a watch is of the operation whose value it shows. None if another operation may have
    /// kept that value: if the event does not show what was before.
    #[must_use]
    pub fn of_event(event: &Event) -> Option<(OpId, Self)> {
        let kv = event.kv.as_ref()?;
        let is_new = match &event.prev_kv {
            Some(previous) => previous.value != kv.value,
            None => kv.version == 1,
        };
        let op = op_of_value(&kv.value).filter(|_| is_new)?;
        Some((op, Self::Changed { revision: kv.mod_revision }))
    }
}

/// All that has happened, as clients saw it, and when it can have happened at the earliest.
#[derive(Debug, Default)]
pub struct Replayed {
    /// The state, and all that led there.
    pub model: Model,
    /// When the operation was invoked that made each revision; that of `FIRST` comes first.
    pub invoked: Vec<Tick>,
    /// All that were compacted, in order.
    pub compacted: Vec<i64>,
    /// The states of the timeline: before everything, and after each change or compaction.
    states: Vec<State>,
    /// Which operation led to each of them.
    causes: Vec<OpId>,
}

/// Checks a history. Only operations that ended with an answer, or that have left a trace, have happened. What several
/// have seen of the same operation may be given several times.
///
/// # Errors
/// The first operation that nothing explains.
pub fn check(history: &History, traces: impl IntoIterator<Item = (OpId, Trace)>) -> Result<Replayed, Violation> {
    let traces = Traces::gather(history, traces)?;
    let replayed = replay(history, &traces)?;
    check_time(history, &replayed)?;
    Ok(replayed)
}

/// What others saw of each operation.
struct Traces(HashMap<OpId, Trace>);

impl Traces {
    fn gather(history: &History, traces: impl IntoIterator<Item = (OpId, Trace)>) -> Result<Self, Violation> {
        let mut of = HashMap::new();
        for (op, trace) in traces {
            if op.0 >= history.len() as u64 {
                return violation(PROPERTY, format!("{op:?} has left {trace:?}, and was never invoked"));
            }
            let first = *of.entry(op).or_insert(trace);
            if first != trace {
                return violation(PROPERTY, format!("{op:?} has left {first:?}, and also {trace:?}"));
            }
        }
        Ok(Self(of))
    }
}

/// A change or a compaction. The order of these is that of the timeline.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Step {
    revision: i64,
    /// What it compacts. A change comes first of all with its revision.
    compacts: Option<i64>,
    op: OpId,
}

/// What an operation is known to have done; nothing if it is not known that it did something.
fn step_of(op: OpId, operation: &Operation, traces: &Traces) -> Result<Option<Step>, Violation> {
    let trace = traces.0.get(&op).copied();
    let told = match operation.ended.as_ref().map(|(_, outcome)| outcome) {
        Some(Outcome::Done(reply)) => trace_told_by(reply),
        Some(Outcome::Refused(_) | Outcome::NotTaken) => Trace::Nothing,
        Some(Outcome::Unknown) | None => trace.unwrap_or(Trace::Nothing),
    };
    if trace.is_some_and(|trace| trace != told) {
        return violation(PROPERTY, format!("{op:?} was told {told:?}, and has left {trace:?}"));
    }
    Ok(match (told, &operation.request) {
        (Trace::Changed { revision }, _) => Some(Step { revision, compacts: None, op }),
        (Trace::Compacted { revision }, Request::Compact(request)) => {
            Some(Step { revision, compacts: Some(request.revision), op })
        }
        (Trace::Compacted { .. }, request) => return violation(PROPERTY, format!("{op:?} compacted: {request:?}")),
        (Trace::Nothing, _) => None,
    })
}

fn trace_told_by(reply: &Reply) -> Trace {
    let revision = reply.revision();
    let has_changed = match reply {
        Reply::Put(_) => true,
        Reply::DeleteRange(response) => response.deleted > 0,
        Reply::Txn(response) => has_changed(response),
        Reply::Compact(_) => return Trace::Compacted { revision },
        Reply::Range(_) => false,
    };
    if has_changed { Trace::Changed { revision } } else { Trace::Nothing }
}

fn has_changed(response: &TxnResponse) -> bool {
    response.responses.iter().any(|op| match &op.response {
        Some(response_op::Response::ResponsePut(_)) => true,
        Some(response_op::Response::ResponseDeleteRange(response)) => response.deleted > 0,
        Some(response_op::Response::ResponseTxn(response)) => has_changed(response),
        Some(response_op::Response::ResponseRange(_)) | None => false,
    })
}

/// Does again all that has changed something, and compares what clients were told of it.
fn replay(history: &History, traces: &Traces) -> Result<Replayed, Violation> {
    let mut steps = Vec::new();
    for (op, operation) in history.operations() {
        steps.extend(step_of(op, operation, traces)?);
    }
    steps.sort_unstable();
    let mut replayed = Replayed { states: vec![State::EMPTY], ..Replayed::default() };
    for step in steps {
        let Replayed { model, invoked, compacted, states, causes } = &mut replayed;
        let operation = history.operation(step.op);
        let before = model.state();
        let expected = if step.compacts.is_some() { before.revision } else { before.revision + 1 };
        if step.revision != expected {
            return violation(PROPERTY, misplaced(step, before.revision, causes));
        }
        let effect = model.evaluate(&operation.request, before);
        if let Some((_, Outcome::Done(told))) = &operation.ended {
            compare(step.op, operation, told, &effect.outcome, before)?;
        }
        model.commit(&effect);
        let after = model.state();
        let has_done = if step.compacts.is_some() { after.compacted > before.compacted } else { after != before };
        if !has_done {
            let shown_by = format!("{:?} would have done nothing after revision {}", step.op, before.revision);
            return violation(PROPERTY, shown_by);
        }
        match step.compacts {
            Some(revision) => compacted.push(revision),
            None => invoked.push(operation.invoked),
        }
        states.push(after);
        causes.push(step.op);
    }
    Ok(replayed)
}

fn misplaced(step: Step, newest: i64, causes: &[OpId]) -> String {
    let Step { revision, op, .. } = step;
    if revision <= newest {
        let last = causes.last().copied().unwrap_or(OpId(0));
        return format!("{op:?} claims revision {revision}, which another has made ({last:?} has made {newest})");
    }
    format!("{op:?} claims revision {revision}, and nobody has made {}", newest + 1)
}

fn compare(
    op: OpId,
    operation: &Operation,
    told: &Reply,
    expected: &Result<Reply, Refusal>,
    before: State,
) -> Result<(), Violation> {
    if expected.as_ref() == Ok(told) {
        return Ok(());
    }
    let request = &operation.request;
    violation(PROPERTY, format!("{op:?} {request:?} at {before:?} was told {told:?}; expected {expected:?}"))
}

/// Holds the timeline against time, and finds a place on it for all that has changed nothing.
fn check_time(history: &History, replayed: &Replayed) -> Result<(), Violation> {
    let timeline = Timeline::of(replayed);
    let place_of: HashMap<OpId, usize> = replayed.causes.iter().enumerate().map(|(n, op)| (*op, n + 1)).collect();
    // The latest place that an operation has which has ended; and for each, which that was when it began.
    let mut ended = 0;
    let mut floors = vec![0; history.len()];
    // The latest place that has begun, in whatever order.
    let mut begun = Begun::new(replayed.states.len());
    for (_, edge, op) in history.in_order() {
        let operation = history.operation(op);
        let floor = &mut floors[op.0 as usize];
        let own = place_of.get(&op).copied();
        if edge == Edge::Invoked {
            *floor = ended;
            if let Some(place) = own {
                if place <= ended {
                    return violation(PROPERTY, too_early(op, place, ended, replayed));
                }
                begun.insert(place);
            }
            continue;
        }
        // Who is not told waits for nothing: it may take effect at any later time.
        let Some((_, outcome @ (Outcome::Done(_) | Outcome::Refused(_)))) = &operation.ended else { continue };
        let is_local = operation.request.is_serializable();
        let from = if is_local { 0 } else { *floor };
        let place = own.map_or_else(|| timeline.place(op, operation, outcome, from), Ok)?;
        if place > begun.upto {
            let cause = replayed.causes[begun.upto];
            return violation(PROPERTY, format!("{op:?} has seen {cause:?}, which had not begun"));
        }
        // A read of any state says nothing about where the others are.
        if is_local {
            continue;
        }
        ended = ended.max(place);
    }
    Ok(())
}

fn too_early(op: OpId, place: usize, ended: usize, replayed: &Replayed) -> String {
    let (at, seen) = (replayed.states[place], replayed.states[ended]);
    format!("{op:?} took effect at {at:?}, and {seen:?} had been seen before it began")
}

/// Which steps of the timeline have begun: all up to one, and some after it.
struct Begun {
    upto: usize,
    after: HashSet<usize>,
}

impl Begun {
    fn new(states: usize) -> Self {
        Self { upto: 0, after: HashSet::with_capacity(states / 8) }
    }

    fn insert(&mut self, place: usize) {
        self.after.insert(place);
        while self.after.remove(&(self.upto + 1)) {
            self.upto += 1;
        }
    }
}

/// The states that there have been, and where to find one.
struct Timeline<'a> {
    replayed: &'a Replayed,
    /// Where each revision begins; 1 comes first.
    revisions: Vec<usize>,
    /// Where each compaction was done.
    compactions: HashMap<i64, usize>,
}

impl<'a> Timeline<'a> {
    fn of(replayed: &'a Replayed) -> Self {
        let states = &replayed.states;
        let mut timeline = Self { replayed, revisions: vec![0], compactions: HashMap::from([(-1, 0)]) };
        for (place, pair) in states.windows(2).enumerate() {
            if pair[1].revision > pair[0].revision {
                timeline.revisions.push(place + 1);
            } else {
                timeline.compactions.insert(pair[1].compacted, place + 1);
            }
        }
        timeline
    }

    /// The first place from `from` on at which an operation that changes nothing gets this answer.
    fn place(&self, op: OpId, operation: &Operation, outcome: &Outcome, from: usize) -> Result<usize, Violation> {
        let (first, last) = self.places(outcome);
        let mut expected = None;
        for place in first.max(from)..=last {
            let effect = self.replayed.model.evaluate(&operation.request, self.replayed.states[place]);
            let has_this_answer = match (outcome, &effect.outcome) {
                (Outcome::Done(told), Ok(reply)) => told == reply && effect.changes.is_empty(),
                (Outcome::Refused(told), Err(refusal)) => told == refusal,
                _ => false,
            };
            if has_this_answer {
                return Ok(place);
            }
            expected.get_or_insert(effect.outcome);
        }
        let request = &operation.request;
        let shown_by = match expected {
            Some(expected) => format!("{op:?} {request:?} was told {outcome:?}; expected {expected:?}"),
            None => {
                let seen = self.replayed.states[from];
                format!("{op:?} {request:?} was told {outcome:?}; before it began, {seen:?} had been seen")
            }
        };
        violation(PROPERTY, shown_by)
    }

    /// The first and the last place that the answer allows by itself; an empty span if there is none.
    fn places(&self, outcome: &Outcome) -> (usize, usize) {
        const NONE: (usize, usize) = (1, 0);
        let last = self.replayed.states.len() - 1;
        match outcome {
            Outcome::Done(reply) => self.places_of(reply.revision()).unwrap_or(NONE),
            Outcome::Refused(Refusal::FutureRevision { newest }) => self.places_of(*newest).unwrap_or(NONE),
            Outcome::Refused(Refusal::Compacted { oldest }) => {
                let Some(&first) = self.compactions.get(oldest) else { return NONE };
                let next = self.replayed.compacted.partition_point(|compacted| compacted <= oldest);
                let end = self.replayed.compacted.get(next).map_or(last, |next| self.compactions[next] - 1);
                (first, end)
            }
            _ => (0, last),
        }
    }

    fn places_of(&self, revision: i64) -> Option<(usize, usize)> {
        let number = usize::try_from(revision - (FIRST - 1)).ok()?;
        let first = *self.revisions.get(number)?;
        let end = self.revisions.get(number + 1).copied().unwrap_or(self.replayed.states.len());
        Some((first, end - 1))
    }
}
