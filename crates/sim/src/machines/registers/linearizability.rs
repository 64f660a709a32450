//! Linearizability: there is an order of all operations, in which each takes effect at one moment between its invocation
//! and its answer, and in which registers behave like registers (Herlihy and Wing).
//!
//! The search is Wing and Gong's, with a memory of what was tried (Lowe): registers are independent of each other, so
//! each has a search of its own. An operation of unknown outcome may take effect at any later time, or never.

use super::{Command, Condition, Read, RegistersUsed, Value, Written};
use crate::agenda::Moment;
use crate::subject::{End, EndOf, OpId, OperationOf};
use std::collections::HashSet;
use vlot_raft::invariants::Violation;

const PROPERTY: &str = "Linearizability";

/// What a client asks for.
type Request = crate::subject::Request<Command, Read>;

/// One operation of the history.
type Operation = OperationOf<RegistersUsed>;

/// After so many attempts a search is given up, and the history counts as good. Never reached in practice: every
/// value is written once, so that reads leave little to choose.
const ATTEMPTS_MAX: u64 = 5_000_000;

/// What one operation does to its register.
#[derive(Clone, Copy, Debug)]
struct Step {
    invoked: Moment,
    /// `NEVER` if it is not known.
    answered: Moment,
    /// What the register must hold; anything if there is no condition.
    requires: Option<Value>,
    /// What it holds from then on; unchanged if nothing.
    writes: Option<OpId>,
}

/// Checks a history.
///
/// # Errors
/// The register for which there is no such order.
pub fn check(history: &[Operation]) -> Result<(), Violation> {
    let keys = history.iter().map(|operation| key_of(&operation.request)).max().map_or(0, |key| key + 1);
    for key in 0..keys {
        let steps = steps_of(key, history);
        if let Err(stuck) = search(&steps) {
            let at = steps[stuck].invoked;
            let shown_by = format!("key{key}: no order beyond the operation that began at {at}");
            return Err(Violation { property: PROPERTY, shown_by });
        }
    }
    Ok(())
}

/// What the operations on a register did, in the order in which they began.
fn steps_of(key: u8, history: &[Operation]) -> Vec<Step> {
    let of_key = || history.iter().enumerate().filter(|(_, operation)| key_of(&operation.request) == key);
    let observed: HashSet<OpId> = of_key().filter_map(|(_, operation)| observed_by(operation)).collect();
    of_key().filter_map(|(n, operation)| step_of(OpId(n as u64), operation, &observed)).collect()
}

/// The register that a request is about.
fn key_of(request: &Request) -> u8 {
    let (Request::Propose(Command { key, .. }) | Request::Read(Read { key })) = request;
    *key
}

/// The value that an operation has certainly seen.
fn observed_by(operation: &Operation) -> Value {
    match (&operation.request, operation.ended.as_ref()?.1.clone()) {
        (_, End::Answered(value) | End::Replied(Written::No(value))) => value,
        (Request::Propose(command), End::Replied(Written::Yes)) => match command.condition {
            Condition::Holds(value) => value,
            Condition::Always => None,
        },
        (_, End::Replied(_) | End::Refused | End::Unknown) => None,
    }
}

/// What an operation did; none if it need not have done anything, or must not.
///
/// A write of unknown outcome whose value no client has seen need not have happened: taken out of any order, it leaves
/// one that is as good, for nothing between it and the next write has looked at the register. If its value was seen, it
/// has happened, and if it was conditional, its condition held.
fn step_of(op: OpId, operation: &Operation, observed: &HashSet<OpId>) -> Option<Step> {
    let (answered, end): (_, EndOf<RegistersUsed>) = operation.ended.clone().unwrap_or((Moment::NEVER, End::Unknown));
    let invoked = operation.invoked;
    match (&operation.request, end) {
        (_, End::Answered(value) | End::Replied(Written::No(value))) => {
            Some(Step { invoked, answered, requires: Some(value), writes: None })
        }
        (Request::Propose(command), end @ (End::Replied(Written::Yes) | End::Unknown)) => {
            let is_known = end != End::Unknown;
            let requires = match command.condition {
                Condition::Holds(value) => Some(value),
                Condition::Always => None,
            };
            let answered = if is_known { answered } else { Moment::NEVER };
            (is_known || observed.contains(&op)).then_some(Step { invoked, answered, requires, writes: Some(op) })
        }
        // A client that has seen a value that was refused has seen what nothing has written.
        (_, End::Refused) | (Request::Read(_), End::Replied(_) | End::Unknown) => None,
    }
}

/// Searches for an order. On failure, the earliest operation that no attempt got beyond.
fn search(steps: &[Step]) -> Result<(), usize> {
    let mut done = Done::new(steps.len());
    let mut value: Value = None;
    let mut tried = HashSet::new();
    // What was chosen, what the register held before it, and from where to go on choosing if that was wrong.
    let mut chosen: Vec<(usize, Value)> = Vec::new();
    let mut from = 0;
    let mut farthest = 0;
    for _ in 0..ATTEMPTS_MAX {
        let first = done.first_open();
        farthest = farthest.max(first);
        if first == steps.len() {
            return Ok(());
        }
        match next_choice(steps, &done, value, from.max(first)) {
            Some(choice) => {
                done.set(choice, true);
                let held = value;
                if let Some(op) = steps[choice].writes {
                    value = Some(op);
                }
                if tried.insert((done.key(), value)) {
                    chosen.push((choice, held));
                    from = 0;
                } else {
                    done.set(choice, false);
                    value = held;
                    from = choice + 1;
                }
            }
            None => {
                let Some((choice, held)) = chosen.pop() else { return Err(farthest) };
                done.set(choice, false);
                value = held;
                from = choice + 1;
            }
        }
    }
    Ok(())
}

/// The next operation from `from` on that may come next in the order: nothing open was answered before it began, and
/// the register holds what it requires.
fn next_choice(steps: &[Step], done: &Done, value: Value, from: usize) -> Option<usize> {
    // The open operation that was answered first bounds all others: they must have begun before.
    let mut earliest_answer = Moment::NEVER;
    let mut found = None;
    for (n, step) in steps.iter().enumerate().skip(done.first_open()) {
        if step.invoked > earliest_answer {
            break;
        }
        if done.is_set(n) {
            continue;
        }
        earliest_answer = earliest_answer.min(step.answered);
        if found.is_none() && n >= from && step.requires.is_none_or(|required| required == value) {
            found = Some(n);
        }
    }
    found.filter(|&n| steps[n].invoked <= earliest_answer)
}

/// Which operations have their place in the order: all before `first`, and some after it.
#[derive(Debug)]
struct Done {
    bits: Vec<u64>,
    len: usize,
}

impl Done {
    fn new(len: usize) -> Self {
        Self { bits: vec![0; len.div_ceil(64)], len }
    }

    fn set(&mut self, n: usize, on: bool) {
        let bit = 1 << (n % 64);
        if on { self.bits[n / 64] |= bit } else { self.bits[n / 64] &= !bit }
    }

    fn is_set(&self, n: usize) -> bool {
        self.bits[n / 64] & 1 << (n % 64) != 0
    }

    fn first_open(&self) -> usize {
        let word = self.bits.iter().position(|&word| word != u64::MAX).unwrap_or(self.bits.len());
        let bit = self.bits.get(word).map_or(0, |word| word.trailing_ones() as usize);
        (word * 64 + bit).min(self.len)
    }

    /// The set as a value: how many words are full, and the others up to the last that is not empty.
    fn key(&self) -> (usize, Vec<u64>) {
        let from = self.first_open() / 64;
        let upto = self.bits.iter().rposition(|&word| word != 0).map_or(from, |last| last + 1).max(from);
        (from, self.bits[from..upto].to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Answer = EndOf<RegistersUsed>;

    const WRITTEN: Answer = End::Replied(super::Written::Yes);
    const UNKNOWN: Answer = End::Unknown;

    fn not_written(value: Value) -> Answer {
        End::Replied(super::Written::No(value))
    }

    fn write(condition: Condition, invoked: u64, answered: u64, answer: Answer) -> (Request, u64, u64, Answer) {
        (Request::Propose(Command { op: OpId(0), key: 0, condition, padding: 0 }), invoked, answered, answer)
    }

    fn put(invoked: u64, answered: u64, answer: Answer) -> (Request, u64, u64, Answer) {
        write(Condition::Always, invoked, answered, answer)
    }

    fn read(invoked: u64, answered: u64, value: Option<u64>) -> (Request, u64, u64, Answer) {
        (Request::Read(Read { key: 0 }), invoked, answered, End::Answered(value.map(OpId)))
    }

    /// The operation at place `n` writes the value `n`.
    fn is_linearizable(rows: &[(Request, u64, u64, Answer)]) -> bool {
        let history: Vec<Operation> = rows
            .iter()
            .enumerate()
            .map(|(n, (request, invoked, answered, answer))| {
                let (invoked, answered, answer) = (*invoked, *answered, answer.clone());
                let request = match request {
                    Request::Propose(command) => Request::Propose(Command { op: OpId(n as u64), ..*command }),
                    Request::Read(read) => Request::Read(*read),
                };
                Operation { request, place: 0, invoked: Moment(invoked), ended: Some((Moment(answered), answer)) }
            })
            .collect();
        check(&history).is_ok()
    }

    #[test]
    fn one_after_the_other() {
        assert!(is_linearizable(&[read(0, 1, None), put(2, 3, WRITTEN), read(4, 5, Some(1))]));
        assert!(!is_linearizable(&[put(0, 1, WRITTEN), read(2, 3, None)]), "a stale read");
        assert!(!is_linearizable(&[read(0, 1, Some(1)), put(2, 3, WRITTEN)]), "a read of the future");
    }

    #[test]
    fn at_the_same_time() {
        assert!(is_linearizable(&[put(0, 9, WRITTEN), read(1, 2, None), read(3, 4, Some(0))]));
        assert!(!is_linearizable(&[put(0, 9, WRITTEN), read(1, 2, Some(0)), read(3, 4, None)]), "back in time");
        assert!(is_linearizable(&[put(0, 9, WRITTEN), put(0, 9, WRITTEN), read(10, 11, Some(0))]));
        let both_ways = [put(0, 9, WRITTEN), put(0, 9, WRITTEN), read(10, 11, Some(0)), read(12, 13, Some(1))];
        assert!(!is_linearizable(&both_ways), "the last write is one of them");
    }

    #[test]
    fn unknown_outcomes() {
        assert!(is_linearizable(&[put(0, 1, UNKNOWN), read(2, 3, None)]), "it never happened");
        assert!(is_linearizable(&[put(0, 1, UNKNOWN), read(2, 3, None), read(4, 5, Some(0))]), "or later");
        let undone = [put(0, 1, UNKNOWN), read(2, 3, Some(0)), read(4, 5, None)];
        assert!(!is_linearizable(&undone), "but it does not go away again");
        let twice =
            [put(0, 1, UNKNOWN), put(2, 3, WRITTEN), read(4, 5, Some(0)), put(6, 7, WRITTEN), read(8, 9, Some(0))];
        assert!(!is_linearizable(&twice), "nor happens twice");
    }

    #[test]
    fn swaps() {
        let swap = |expected: Option<u64>, invoked, answered, answer| {
            write(Condition::Holds(expected.map(OpId)), invoked, answered, answer)
        };
        assert!(is_linearizable(&[swap(None, 0, 1, WRITTEN), swap(Some(0), 2, 3, WRITTEN), read(4, 5, Some(1))]));
        assert!(!is_linearizable(&[swap(None, 0, 1, WRITTEN), swap(None, 2, 3, WRITTEN)]), "both cannot succeed");
        assert!(is_linearizable(&[put(0, 1, WRITTEN), swap(None, 2, 3, not_written(Some(OpId(0))))]));
        assert!(!is_linearizable(&[put(0, 1, WRITTEN), swap(None, 2, 3, not_written(None))]));
        let seen = [put(0, 1, WRITTEN), swap(Some(0), 2, 3, UNKNOWN), read(4, 5, Some(1)), read(6, 7, Some(0))];
        assert!(!is_linearizable(&seen));
    }

    /// Every history of three operations at three moments, against trying every order.
    #[test]
    fn the_search_agrees_with_trying_all_orders() {
        let spans = [(0, 1), (2, 3), (4, 5), (0, 3), (0, 5), (2, 5)];
        let values = [None, Some(0), Some(1), Some(2)];
        let mut kinds = vec![put(0, 0, WRITTEN), put(0, 0, UNKNOWN)];
        kinds.extend(values.map(|value| read(0, 0, value)));
        kinds.extend(values.map(|value| write(Condition::Holds(value.map(OpId)), 0, 0, WRITTEN)));
        let (mut good, mut bad) = (0, 0);
        for a in &kinds {
            for b in &kinds {
                for c in &kinds {
                    for (n, &at_a) in spans.iter().enumerate() {
                        let at = [at_a, spans[(n + 1) % 6], spans[(n * 2 + 3) % 6]];
                        let mut rows: Vec<_> = [a, b, c]
                            .into_iter()
                            .zip(at)
                            .map(|((request, .., answer), (from, upto))| (request.clone(), from, upto, answer.clone()))
                            .collect();
                        rows.sort_by_key(|row| row.1);
                        let expected = by_all_orders(&rows);
                        assert_eq!(is_linearizable(&rows), expected, "{rows:?}");
                        if expected { good += 1 } else { bad += 1 }
                    }
                }
            }
        }
        assert!(good > 100 && bad > 100, "{good} good, {bad} bad");
    }

    fn by_all_orders(rows: &[(Request, u64, u64, Answer)]) -> bool {
        fn extend(rows: &[(Request, u64, u64, Answer)], placed: &mut Vec<usize>, value: Option<u64>) -> bool {
            let open: Vec<usize> = (0..rows.len()).filter(|n| !placed.contains(n)).collect();
            if open.iter().all(|&n| rows[n].3 == UNKNOWN) {
                return true;
            }
            open.iter().any(|&n| {
                let (request, invoked, _, answer) = rows[n].clone();
                if open.iter().any(|&other| rows[other].3 != UNKNOWN && rows[other].2 < invoked) {
                    return false;
                }
                let next = match (request, answer) {
                    (Request::Propose(command), _) => match command.condition {
                        Condition::Holds(held) if held.map(|op| op.0) != value => return false,
                        _ => Some(n as u64),
                    },
                    (Request::Read(_), End::Answered(held)) if held.map(|op| op.0) == value => value,
                    _ => return false,
                };
                placed.push(n);
                let ordered = extend(rows, placed, next);
                placed.pop();
                ordered
            })
        }
        extend(rows, &mut Vec::new(), None)
    }
}
