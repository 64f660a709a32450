//! Check: one order explains all that clients saw, and it agrees with time. An operation that had ended before another
//! began comes before it (strict serializability, for the whole store is one object).
//!
//! Nothing needs to be searched, because etcd's answers say where they stand. A change has a revision of its own, and a
//! compaction the revision that it was done at: together they are the *timeline*. Every other operation, and every read,
//! belongs to some of its states: those of the revision in its header. The check replays the timeline on a [`Model`],
//! holds every answer against the model's, and then looks for a place for each of the others that is not before what had
//! ended when it began. The earliest place is always the best, so that one pass finds out.
//!
//! Operations of unknown outcome are on the timeline if a client saw what they did: see [`Trace`].

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
        // An operation whose outcome is not told may take effect at any later time.
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

#[cfg(test)]
mod tests {
    use super::super::driven;
    use super::super::history::Record;
    use super::*;
    use crate::agenda::Moment;
    use crate::rng::Rng;
    use vlot_proto::etcdserverpb::compare::{CompareTarget, TargetUnion};
    use vlot_proto::etcdserverpb::{
        CompactionRequest, CompactionResponse, Compare, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
        PutResponse, RangeRequest, RangeResponse, RequestOp, ResponseHeader, TxnRequest, request_op,
    };
    use vlot_proto::mvccpb::KeyValue;

    /// From, upto, what was asked for, and what was told.
    type Row = (u64, u64, Request, Outcome);

    fn history_of(rows: &[Row]) -> History {
        let record = |(invoked, ended, request, outcome): Row| Record {
            request,
            place: 0,
            connection: 0,
            invoked: Moment(invoked),
            ended: Some((Moment(ended), outcome)),
        };
        History::of(rows.iter().cloned().map(record))
    }

    fn judge(rows: &[Row], traces: &[(u64, Trace)]) -> Result<(), String> {
        let traces = traces.iter().map(|(op, trace)| (OpId(*op), *trace));
        check(&history_of(rows), traces).map(|_| ()).map_err(|violation| violation.shown_by)
    }

    fn is_linearizable(rows: &[Row]) -> bool {
        judge(rows, &[]).is_ok()
    }

    fn header(revision: i64) -> Option<ResponseHeader> {
        Some(ResponseHeader { revision, ..Default::default() })
    }

    fn put(from: u64, upto: u64, key: &'static str, revision: i64) -> Row {
        let outcome = Outcome::Done(Reply::Put(PutResponse { header: header(revision), prev_kv: None }));
        (from, upto, put_request(key), outcome)
    }

    fn put_request(key: &'static str) -> Request {
        Request::Put(PutRequest { key: key.into(), value: "v".into(), ..Default::default() })
    }

    /// A key with the revision that created it, the last that changed it, and how many puts there were.
    fn kv(key: &'static str, create: i64, modified: i64, version: i64) -> KeyValue {
        let (key, value) = (key.into(), "v".into());
        KeyValue { key, value, create_revision: create, mod_revision: modified, version, lease: 0 }
    }

    fn range_request(revision: i64, serializable: bool) -> Request {
        let (key, range_end) = ("\0".into(), "\0".into());
        Request::Range(RangeRequest { key, range_end, revision, serializable, ..Default::default() })
    }

    fn read_at(from: u64, upto: u64, revision: i64, at: i64, kvs: &[KeyValue]) -> Row {
        let (count, kvs) = (kvs.len() as i64, kvs.to_vec());
        let reply = Reply::Range(RangeResponse { header: header(revision), kvs, more: false, count });
        (from, upto, range_request(at, false), Outcome::Done(reply))
    }

    fn read(from: u64, upto: u64, revision: i64, kvs: &[KeyValue]) -> Row {
        read_at(from, upto, revision, 0, kvs)
    }

    fn local(from: u64, upto: u64, revision: i64, kvs: &[KeyValue]) -> Row {
        let (.., outcome) = read(from, upto, revision, kvs);
        (from, upto, range_request(0, true), outcome)
    }

    fn compact(from: u64, upto: u64, at: i64, revision: i64) -> Row {
        let reply = Reply::Compact(CompactionResponse { header: header(revision) });
        let request = CompactionRequest { revision: at, physical: false };
        (from, upto, Request::Compact(request), Outcome::Done(reply))
    }

    fn refused(row: Row, refusal: Refusal) -> Row {
        (row.0, row.1, row.2, Outcome::Refused(refusal))
    }

    fn told(row: Row, outcome: Outcome) -> Row {
        (row.0, row.1, row.2, outcome)
    }

    #[test]
    fn one_after_the_other() {
        let a = [kv("a", 2, 2, 1)];
        assert!(is_linearizable(&[read(0, 1, 1, &[]), put(2, 3, "a", 2), read(4, 5, 2, &a)]));
        assert!(!is_linearizable(&[put(0, 1, "a", 2), read(2, 3, 1, &[])]), "a stale read");
        assert!(!is_linearizable(&[read(0, 1, 2, &a), put(2, 3, "a", 2)]), "a read of the future");
        assert!(!is_linearizable(&[put(0, 1, "a", 3), put(2, 3, "b", 2)]), "against time");
        assert!(!is_linearizable(&[put(0, 1, "a", 2), put(2, 3, "b", 2)]), "a revision that goes back");
        assert!(!is_linearizable(&[put(0, 1, "a", 2), put(2, 3, "b", 4)]), "a revision that nobody has made");
    }

    #[test]
    fn at_the_same_time() {
        let (a, both) = ([kv("a", 2, 2, 1)], [kv("a", 2, 3, 2)]);
        assert!(is_linearizable(&[put(0, 9, "a", 2), read(1, 2, 1, &[]), read(3, 4, 2, &a)]));
        assert!(!is_linearizable(&[put(0, 9, "a", 2), read(1, 2, 2, &a), read(3, 4, 1, &[])]), "back in time");
        assert!(is_linearizable(&[put(0, 9, "a", 3), put(0, 9, "a", 2), read(1, 2, 2, &a), read(3, 4, 3, &both)]));
        assert!(!is_linearizable(&[put(0, 9, "a", 2), put(0, 9, "a", 2)]), "a lost update");
        assert!(!is_linearizable(&[put(0, 9, "a", 2), put(0, 9, "a", 3), read(1, 2, 3, &a)]), "one is not seen");
    }

    #[test]
    fn unknown_outcomes() {
        let a = [kv("a", 2, 2, 1)];
        let unknown = |from, upto| told(put(from, upto, "a", 0), Outcome::Unknown);
        let changed = |revision| Trace::Changed { revision };
        assert!(is_linearizable(&[unknown(0, 1), read(2, 3, 1, &[])]), "it never happened");
        assert_eq!(
            judge(&[unknown(0, 1), read(2, 3, 1, &[]), read(4, 5, 2, &a)], &[(0, changed(2))]),
            Ok(()),
            "or later"
        );
        let undone = [unknown(0, 1), read(2, 3, 2, &a), read(4, 5, 1, &[])];
        assert!(judge(&undone, &[(0, changed(2))]).is_err(), "but it does not go away again");
        assert!(judge(&[unknown(0, 1), read(2, 3, 2, &a)], &[]).is_err(), "nobody saw that it happened");
        assert!(judge(&[unknown(0, 1), put(2, 3, "b", 2)], &[(0, changed(2))]).is_err(), "two at one revision");
        assert!(judge(&[unknown(0, 1)], &[(0, changed(2)), (0, changed(3))]).is_err(), "nor happens twice");
        assert!(judge(&[put(0, 1, "b", 2), unknown(2, 3)], &[(1, changed(3))]).is_ok());
        let before_its_time = [put(0, 1, "b", 3), unknown(2, 3)];
        assert!(judge(&before_its_time, &[(1, changed(2))]).is_err(), "before it began");
        let not_taken = [told(put(0, 1, "a", 0), Outcome::NotTaken)];
        assert!(judge(&not_taken, &[(0, changed(2))]).is_err(), "what was not taken happens");
        assert!(judge(&not_taken, &[(0, Trace::Nothing)]).is_ok(), "harmless");
        assert!(judge(&[put(0, 1, "a", 2)], &[(0, Trace::Nothing)]).is_err(), "acknowledged, and nobody saw it");
        assert!(judge(&[], &[(0, changed(2))]).is_err(), "of nobody");
    }

    #[test]
    fn transactions() {
        let op = |request| RequestOp { request: Some(request) };
        let puts = ["a", "b"].map(|key| PutRequest { key: key.into(), value: "v".into(), ..Default::default() });
        let request = TxnRequest {
            compare: vec![Compare {
                key: "a".into(),
                target: CompareTarget::Version as i32,
                target_union: Some(TargetUnion::Version(0)),
                ..Default::default()
            }],
            success: puts.into_iter().map(|put| op(request_op::Request::RequestPut(put))).collect(),
            failure: vec![],
        };
        let txn = |from, upto, revision, succeeded: bool| {
            let put = response_op::Response::ResponsePut(PutResponse { header: header(revision), prev_kv: None });
            let one = vlot_proto::etcdserverpb::ResponseOp { response: Some(put) };
            let responses = if succeeded { vec![one.clone(), one] } else { vec![] };
            let reply = TxnResponse { header: header(revision), succeeded, responses };
            (from, upto, Request::Txn(request.clone()), Outcome::Done(Reply::Txn(reply)))
        };
        let (a, b) = (kv("a", 2, 2, 1), kv("b", 2, 2, 1));
        assert!(is_linearizable(&[txn(0, 1, 2, true), txn(2, 3, 2, false), read(4, 5, 2, &[a.clone(), b])]));
        assert!(!is_linearizable(&[txn(0, 9, 2, true), read(1, 2, 2, &[a])]), "one half is seen");
        assert!(!is_linearizable(&[txn(0, 1, 2, true), txn(2, 3, 3, true)]), "both cannot succeed");
        assert!(!is_linearizable(&[txn(0, 1, 2, true), put(2, 3, "c", 3), txn(4, 5, 2, false)]), "a stale failure");
        assert!(!is_linearizable(&[txn(0, 1, 1, false)]), "nothing is in its way");
    }

    #[test]
    fn deletions_and_what_was_before() {
        let delete = |from, upto, revision, prev_kvs: Vec<KeyValue>| {
            let request = DeleteRangeRequest { key: "a".into(), range_end: "".into(), prev_kv: true };
            let deleted = prev_kvs.len() as i64;
            let reply = DeleteRangeResponse { header: header(revision), deleted, prev_kvs };
            (from, upto, Request::DeleteRange(request), Outcome::Done(Reply::DeleteRange(reply)))
        };
        let a = || vec![kv("a", 2, 2, 1)];
        assert!(is_linearizable(&[put(0, 1, "a", 2), delete(2, 3, 3, a()), delete(4, 5, 3, vec![])]));
        assert!(!is_linearizable(&[put(0, 1, "a", 2), delete(2, 3, 3, a()), delete(4, 5, 4, a())]), "deleted twice");
        assert!(!is_linearizable(&[put(0, 1, "a", 2), delete(2, 3, 2, vec![])]), "not found");
        assert!(!is_linearizable(&[put(0, 1, "a", 2), delete(2, 3, 3, vec![kv("a", 2, 2, 2)])]), "another version");
    }

    #[test]
    fn compaction_and_what_cannot_be_read() {
        let puts = || vec![put(0, 1, "a", 2), put(2, 3, "b", 3)];
        let with = |rows: &[Row]| is_linearizable(&[puts(), rows.to_vec()].concat());
        let old = |from, upto| read_at(from, upto, 3, 2, &[kv("a", 2, 2, 1)]);
        let gone = |from, upto| refused(old(from, upto), Refusal::Compacted { oldest: 3 });
        assert!(with(&[old(4, 5), compact(6, 7, 3, 3), gone(8, 9)]));
        assert!(!with(&[compact(4, 5, 3, 3), old(6, 7)]), "read after it was given up");
        assert!(!with(&[gone(4, 5), compact(6, 7, 3, 3)]), "given up before anybody has asked for it");
        assert!(!with(&[gone(4, 5)]), "nobody has asked for it");
        assert!(with(&[compact(4, 9, 3, 3), old(5, 6), gone(7, 8)]));
        assert!(!with(&[compact(4, 9, 3, 3), gone(5, 6), old(7, 8)]), "back again");
        assert!(!with(&[compact(4, 5, 3, 3), compact(6, 7, 2, 3)]), "compaction goes back");
        let twice = refused(compact(6, 7, 3, 3), Refusal::Compacted { oldest: 3 });
        assert!(with(&[compact(4, 5, 3, 3), twice]));
        let future = |newest| refused(read_at(4, 5, 0, 4, &[]), Refusal::FutureRevision { newest });
        assert!(with(&[future(3)]) && !with(&[future(2)]) && !with(&[future(4)]));
        let compacted = Trace::Compacted { revision: 3 };
        let unknown = told(compact(4, 5, 3, 3), Outcome::Unknown);
        let rows = [puts(), vec![unknown, gone(6, 7)]].concat();
        assert_eq!(judge(&rows, &[(2, compacted)]), Ok(()));
        assert!(judge(&rows, &[]).is_err(), "nobody saw that it happened");
    }

    #[test]
    fn refusals_need_their_reason() {
        let keep = PutRequest { key: "a".into(), ignore_value: true, ..Default::default() };
        let keep = |from, upto| (from, upto, Request::Put(keep.clone()), Outcome::Refused(Refusal::KeyNotFound));
        assert!(is_linearizable(&[keep(0, 1), put(2, 3, "a", 2)]));
        assert!(is_linearizable(&[put(0, 3, "a", 2), keep(1, 2)]));
        assert!(!is_linearizable(&[put(0, 1, "a", 2), keep(2, 3)]));
    }

    #[test]
    fn reads_of_any_state() {
        let a = [kv("a", 2, 2, 1)];
        assert!(is_linearizable(&[put(0, 1, "a", 2), local(2, 3, 1, &[]), local(4, 5, 2, &a), local(6, 7, 1, &[])]));
        assert!(!is_linearizable(&[put(0, 1, "a", 2), local(2, 3, 2, &[])]), "no such state");
        assert!(!is_linearizable(&[put(0, 1, "a", 2), local(2, 3, 3, &a)]), "no such revision");
        assert!(!is_linearizable(&[local(0, 1, 2, &a), put(2, 3, "a", 2)]), "before it began");
        assert!(is_linearizable(&[put(0, 9, "a", 2), local(1, 2, 2, &a), read(3, 4, 1, &[])]), "it orders nothing");
    }

    /// Changes an answer so that no state explains it; false if it has nothing that could be changed.
    fn corrupt(reply: &mut Reply, rng: &mut Rng) -> bool {
        let kvs = match reply {
            Reply::Put(response) => {
                if let Some(previous) = response.prev_kv.as_mut().filter(|_| rng.coin()) {
                    previous.version += 1;
                } else {
                    response.header = header(response.header.as_ref().map_or(0, |header| header.revision) + 1);
                }
                return true;
            }
            Reply::DeleteRange(response) => {
                response.deleted += 1;
                return true;
            }
            Reply::Txn(response) => {
                response.succeeded = !response.succeeded;
                return true;
            }
            Reply::Compact(response) => {
                response.header = header(1);
                return true;
            }
            Reply::Range(response) => &mut response.kvs,
        };
        if kvs.is_empty() {
            return false;
        }
        let chosen = rng.below(kvs.len() as u64) as usize;
        match rng.below(5) {
            0 => drop(kvs.remove(chosen)),
            1 => kvs[chosen].value = "another".into(),
            2 => kvs[chosen].mod_revision -= 1,
            3 => kvs[chosen].create_revision -= 1,
            _ => kvs[chosen].version += 1,
        }
        true
    }

    #[test]
    fn no_answer_of_a_long_history_can_be_another() {
        let mut driven = driven::run(100, 1500);
        let traces = driven.traces();
        assert!(check(&driven.history, traces.clone()).is_ok());
        let mut rng = Rng::new(5, 1);
        let mut corrupted = 0;
        while corrupted < 60 {
            let op = OpId(rng.below(driven.history.len() as u64));
            let before = driven.history.operation(op).ended.clone();
            if let Some((_, Outcome::Done(reply))) = &mut driven.history.operation_mut(op).ended
                && corrupt(reply, &mut rng)
            {
                corrupted += 1;
                let after = driven.history.operation(op);
                assert!(check(&driven.history, traces.clone()).is_err(), "{after:?} was {before:?}");
            }
            driven.history.operation_mut(op).ended = before;
        }
    }

    #[test]
    fn no_operation_of_a_long_history_can_be_left_out_or_exchanged() {
        let mut driven = driven::run(101, 1500);
        let replayed = check(&driven.history, driven.traces()).unwrap();
        let is_known = |op: &OpId| matches!(driven.history.operation(*op).ended, Some((_, Outcome::Done(_))));
        let (_, all_but_last) = replayed.causes.split_last().unwrap();
        let known: Vec<OpId> = all_but_last.iter().copied().filter(is_known).collect();
        for pair in known.chunks_exact(2).step_by(20) {
            let ends = [0, 1].map(|n| driven.history.operation(pair[n]).ended.clone());
            // Left out: as if its outcome had not been told.
            driven.history.operation_mut(pair[0]).ended = None;
            let others = driven.traces().into_iter().filter(|(op, _)| *op != pair[0]);
            assert!(check(&driven.history, others).is_err());
            for n in [0, 1] {
                driven.history.operation_mut(pair[n]).ended = ends[1 - n].clone();
            }
            assert!(check(&driven.history, driven.traces()).is_err());
            for n in [0, 1] {
                driven.history.operation_mut(pair[n]).ended = ends[n].clone();
            }
        }
    }
}
