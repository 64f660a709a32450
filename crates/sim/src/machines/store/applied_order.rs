//! Check: all machines apply the same commands in the same order, each once, with the same outcome; what was acknowledged
//! is among them, and what was refused is not; and they arrive at the same state (Raft §5.4.3).
//!
//! Owns what was applied, as the first machine that did it has reported. It is the second source beside what clients
//! saw: it knows what became of operations whose clients were not told.

use std::collections::{BTreeMap, HashMap};

use vlot_raft::id::{LogId, LogIndex};
use vlot_raft::invariants::Violation;

use super::history::{History, OpId, Outcome, Place};
use super::linearizability::Trace;
use super::machine::{AppliedCommand, Report};
use super::violation;

const SAFETY: &str = "State Machine Safety";
const ONCE: &str = "Applied At Most Once";
const ACKNOWLEDGED: &str = "Acknowledged Writes Stay";
const EQUAL: &str = "Equal States";
const COUNTED: &str = "Quotas Count What Is There";

/// What machines have applied.
#[derive(Debug, Default)]
pub struct AppliedOrder {
    commands: BTreeMap<Number, AppliedCommand>,
    ops: HashMap<OpId, Number>,
    reports: HashMap<LogIndex, (Place, Report)>,
    /// How far each machine has come.
    machines: HashMap<Place, Number>,
}

/// The index of a command's entry, and which of its commands it is.
type Number = (LogIndex, u32);

impl AppliedOrder {
    /// A process begins, or has become a snapshot: it has the effect of all up to here, and goes on from there.
    pub fn begun(&mut self, place: Place, at: LogId) {
        self.machines.insert(place, (at.index, u32::MAX));
    }

    /// A machine has applied a command.
    ///
    /// # Errors
    /// If another machine has applied something else there, if this one has gone back, or if the operation was applied
    /// before.
    pub fn applied(&mut self, place: Place, command: AppliedCommand) -> Result<(), Violation> {
        let (node, at, number) = (place + 1, command.at, (command.at.index, command.nth));
        let before = self.machines.insert(place, number).unwrap_or_default();
        if number <= before {
            return violation(SAFETY, format!("n{node} has applied {before:?}, and then {number:?}"));
        }
        if let Some(first) = self.commands.get(&number) {
            if *first == command {
                return Ok(());
            }
            return violation(SAFETY, format!("n{node} has applied {command:?}, and another {first:?}"));
        }
        if let Some(earlier) = command.op.and_then(|op| self.ops.insert(op, number)) {
            let op = command.op.unwrap_or(OpId(0));
            return violation(ONCE, format!("{op:?} was applied at {earlier:?} and at {number:?}"));
        }
        let (last, next) = (self.commands.range(..number).next_back(), self.commands.range(number..).next());
        let revision = command.revision;
        let is_between = last.is_none_or(|(_, last)| last.revision <= revision)
            && next.is_none_or(|(_, next)| revision <= next.revision);
        if !is_between {
            return violation(SAFETY, format!("{at} led to revision {revision}, which lies behind another's"));
        }
        self.commands.insert(number, command);
        Ok(())
    }

    /// A machine says what its state is.
    ///
    /// # Errors
    /// If another state was reported at this index, or what it says is used of its quotas is not what there is.
    pub fn reported(&mut self, place: Place, report: Report) -> Result<(), Violation> {
        if !report.is_counted {
            return violation(COUNTED, format!("n{} says {report:?}", place + 1));
        }
        let (other, first) = self.reports.entry(report.at.index).or_insert((place, report));
        if *first == report {
            return Ok(());
        }
        violation(EQUAL, format!("n{} says {report:?}, and n{} {first:?}", place + 1, *other + 1))
    }

    /// All that was applied, in order.
    pub fn commands(&self) -> impl Iterator<Item = &AppliedCommand> {
        self.commands.values()
    }

    /// What became of each operation that was applied.
    pub fn traces(&self) -> impl Iterator<Item = (OpId, Trace)> + '_ {
        let mut revision = 1;
        let mut compacted = -1;
        self.commands.values().filter_map(move |command| {
            let has_changed = std::mem::replace(&mut revision, command.revision) < command.revision;
            let has_compacted = std::mem::replace(&mut compacted, command.compacted) < command.compacted;
            let trace = match (has_changed, has_compacted) {
                (true, _) => Trace::Changed { revision },
                (false, true) => Trace::Compacted { revision },
                (false, false) => Trace::Nothing,
            };
            command.op.map(|op| (op, trace))
        })
    }

    /// Holds what clients were told against what was applied.
    ///
    /// # Errors
    /// The first operation of which its client was told otherwise.
    pub fn check_history(&self, history: &History) -> Result<(), Violation> {
        for (op, operation) in history.operations().filter(|(_, operation)| operation.request.is_replicated()) {
            let applied = self.ops.get(&op).map(|number| &self.commands[number]);
            match (&operation.ended, applied) {
                (Some((_, Outcome::NotTaken)), Some(command)) => {
                    return violation(ACKNOWLEDGED, format!("{op:?} was not taken, and applied as {}", command.at));
                }
                (Some((_, told @ (Outcome::Done(_) | Outcome::Refused(_)))), None) => {
                    return violation(ACKNOWLEDGED, format!("{op:?} was told {told:?}, and never applied"));
                }
                (Some((_, told @ (Outcome::Done(_) | Outcome::Refused(_)))), Some(command))
                    if *told != Outcome::of_applied(&command.reply) =>
                {
                    return violation(ACKNOWLEDGED, format!("{op:?} was told {told:?}, and applied as {command:?}"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::Request;
    use super::*;
    use crate::agenda::Moment;
    use vlot_proto::etcdserverpb::{PutRequest, PutResponse, ResponseHeader};
    use vlot_store::refusal::Refusal;
    use vlot_store::store::{Applied, HistoryHash};

    fn put(op: u64, index: u64, revision: i64) -> AppliedCommand {
        let header = Some(ResponseHeader { revision, ..Default::default() });
        let reply = Ok(Applied::Put(PutResponse { header, prev_kv: None }));
        AppliedCommand { at: LogId::new(1, index), nth: 0, op: Some(OpId(op)), reply, revision, compacted: -1 }
    }

    fn nth(nth: u32, command: AppliedCommand) -> AppliedCommand {
        AppliedCommand { nth, ..command }
    }

    fn refused(op: u64, index: u64, revision: i64) -> AppliedCommand {
        AppliedCommand { reply: Err(Refusal::KeyNotFound), ..put(op, index, revision) }
    }

    fn order_of(commands: &[(Place, AppliedCommand)]) -> Result<AppliedOrder, &'static str> {
        let mut order = AppliedOrder::default();
        for (place, command) in commands {
            order.applied(*place, command.clone()).map_err(|violation| violation.property)?;
        }
        Ok(order)
    }

    #[test]
    fn machines_apply_the_same() {
        let fine = [put(0, 1, 2), put(1, 3, 3), nth(1, put(2, 3, 4)), put(3, 4, 5)];
        let fine: Vec<_> = (0..2).flat_map(|place| fine.each_ref().map(|command| (place, command.clone()))).collect();
        assert!(order_of(&fine).is_ok());
        let rows = [
            (vec![(0, put(0, 1, 2)), (1, put(1, 1, 2))], SAFETY, "another command"),
            (vec![(0, put(0, 1, 2)), (1, refused(0, 1, 2))], SAFETY, "another outcome"),
            (vec![(0, put(0, 1, 2)), (1, put(0, 1, 3))], SAFETY, "another revision"),
            (vec![(0, put(0, 1, 2)), (0, put(0, 1, 2))], SAFETY, "again"),
            (vec![(0, put(0, 3, 2)), (0, put(1, 2, 3))], SAFETY, "backwards"),
            (vec![(0, nth(1, put(0, 3, 2))), (0, put(1, 3, 3))], SAFETY, "backwards within an entry"),
            (vec![(0, put(0, 3, 3)), (0, put(1, 4, 2))], SAFETY, "a revision that goes back"),
            (vec![(0, put(0, 3, 2)), (0, put(0, 4, 3))], ONCE, "a double apply"),
        ];
        for (commands, property, what) in rows {
            assert_eq!(order_of(&commands).map(|_| ()), Err(property), "{what}");
        }
    }

    #[test]
    fn a_machine_that_begins_anew_applies_again() {
        let mut order = order_of(&[(0, put(0, 1, 2)), (0, put(1, 2, 3))]).unwrap();
        order.begun(0, LogId::ZERO);
        assert_eq!(order.applied(0, put(0, 1, 2)), Ok(()));
        order.begun(1, LogId::new(1, 1));
        assert_eq!(order.applied(1, put(1, 2, 3)), Ok(()));
        let traces: Vec<_> = order.traces().collect();
        let changed = |revision| Trace::Changed { revision };
        assert_eq!(traces, [(OpId(0), changed(2)), (OpId(1), changed(3))]);
    }

    #[test]
    fn states_are_equal_at_equal_index() {
        let report = |index, hash, revision| Report {
            at: LogId::new(1, index),
            hash: HistoryHash { hash, revision, compacted_revision: -1 },
            quotas: 7,
            is_counted: true,
        };
        let mut order = AppliedOrder::default();
        assert!(order.reported(0, report(5, 77, 3)).is_ok());
        assert!(order.reported(1, report(6, 78, 4)).is_ok());
        assert!(order.reported(1, report(5, 77, 3)).is_ok());
        assert_eq!(order.reported(2, report(5, 78, 3)).unwrap_err().property, EQUAL);
        assert_eq!(order.reported(2, report(6, 78, 5)).unwrap_err().property, EQUAL);
        let other = Report { quotas: 8, ..report(6, 78, 4) };
        assert_eq!(order.reported(2, other).unwrap_err().property, EQUAL);
        let other = Report { is_counted: false, ..report(6, 78, 4) };
        assert_eq!(order.reported(2, other).unwrap_err().property, COUNTED);
    }

    #[test]
    fn what_was_acknowledged_was_applied_and_what_was_not_taken_was_not() {
        let request = || Request::Put(PutRequest { key: "k".into(), ..Default::default() });
        let judge = |outcome: Outcome, commands: &[(Place, AppliedCommand)]| {
            let mut history = History::default();
            let op = history.invoke(Moment(0), 0, 0, request());
            history.complete(Moment(1), op, outcome);
            order_of(commands).unwrap().check_history(&history).is_ok()
        };
        let done = || Outcome::of_applied(&put(0, 1, 2).reply);
        let refusal = || Outcome::Refused(Refusal::KeyNotFound);
        assert!(judge(done(), &[(0, put(0, 1, 2))]));
        assert!(judge(refusal(), &[(0, refused(0, 1, 1))]));
        assert!(judge(Outcome::Unknown, &[]) && judge(Outcome::Unknown, &[(0, put(0, 1, 2))]));
        assert!(judge(Outcome::NotTaken, &[]));
        assert!(!judge(done(), &[]), "lost");
        assert!(!judge(done(), &[(0, put(0, 1, 3))]), "told otherwise");
        assert!(!judge(done(), &[(0, refused(0, 1, 1))]), "told otherwise");
        assert!(!judge(refusal(), &[]), "refused by nobody");
        assert!(!judge(Outcome::NotTaken, &[(0, put(0, 1, 2))]), "not taken, and applied");
    }
}
