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

/// What machines have applied.
#[derive(Debug, Default)]
pub struct AppliedOrder {
    commands: BTreeMap<LogIndex, AppliedCommand>,
    ops: HashMap<OpId, LogIndex>,
    reports: HashMap<LogIndex, (Place, Report)>,
    /// How far each machine has come.
    machines: HashMap<Place, LogId>,
}

impl AppliedOrder {
    /// A process begins, or has become a snapshot: it has the effect of all up to here, and goes on from there.
    pub fn begun(&mut self, place: Place, at: LogId) {
        self.machines.insert(place, at);
    }

    /// A machine has applied a command.
    ///
    /// # Errors
    /// If another machine has applied something else there, if this one has gone back, or if the operation was applied
    /// before.
    pub fn applied(&mut self, place: Place, command: AppliedCommand) -> Result<(), Violation> {
        let (node, at) = (place + 1, command.at);
        let before = self.machines.insert(place, at).unwrap_or_default();
        if at.index <= before.index {
            return violation(SAFETY, format!("n{node} has applied {before}, and then {at}"));
        }
        if let Some(first) = self.commands.get(&at.index) {
            if *first == command {
                return Ok(());
            }
            return violation(SAFETY, format!("n{node} has applied {command:?}, and another {first:?}"));
        }
        if let Some(earlier) = command.op.and_then(|op| self.ops.insert(op, at.index)) {
            let op = command.op.unwrap_or(OpId(0));
            return violation(ONCE, format!("{op:?} was applied at {earlier} and at {}", at.index));
        }
        let (last, next) = (self.commands.range(..at.index).next_back(), self.commands.range(at.index..).next());
        let revision = command.revision;
        let is_between = last.is_none_or(|(_, last)| last.revision <= revision)
            && next.is_none_or(|(_, next)| revision <= next.revision);
        if !is_between {
            return violation(SAFETY, format!("{at} led to revision {revision}, which lies behind another's"));
        }
        self.commands.insert(at.index, command);
        Ok(())
    }

    /// A machine says what its state is.
    ///
    /// # Errors
    /// If another state was reported at this index.
    pub fn reported(&mut self, place: Place, report: Report) -> Result<(), Violation> {
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
            let applied = self.ops.get(&op).map(|index| &self.commands[index]);
            match (&operation.ended, applied) {
                (Some((_, Outcome::NotTaken)), Some(command)) => {
                    return violation(ACKNOWLEDGED, format!("{op:?} was not taken, and applied as {}", command.at));
                }
                (Some((_, told @ (Outcome::Done(_) | Outcome::Refused(_)))), None) => {
                    return violation(ACKNOWLEDGED, format!("{op:?} was told {told:?}, and never applied"));
                }
                (Some((_, told @ (Outcome::Done(_) | Outcome::Refused(_)))), Some(command)) => {
                    if *told != Outcome::of_applied(&command.reply) {
                        let shown_by = format!("{op:?} was told {told:?}, and applied as {command:?}");
                        return violation(ACKNOWLEDGED, shown_by);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}
