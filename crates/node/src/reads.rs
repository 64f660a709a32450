//! The linearizable reads of one group on one node.
//!
//! Owns which reads wait, which were asked and when, and which are confirmed. Must not know which node leads.

use std::collections::BTreeMap;
use std::time::Duration;

use vlot_raft::id::LogIndex;
use vlot_raft::message::ReadId;
use vlot_raft::time::Time;

/// Why a read cannot be answered by this node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NotRead {
    /// The state machine of this node has failed: see [`Fence`](crate::machine::Fence).
    Fenced,
    /// This node is no member any more.
    NotAMember,
    /// The group was closed on this node.
    Closed,
}

/// Reads by the host's names for them; all that wait in one turn are asked as one.
#[derive(Debug)]
pub struct Reads {
    next: u64,
    /// How long an answer may take before the question is asked again.
    election_timeout: Duration,
    /// Not asked.
    waiting: Vec<u64>,
    /// Asked, by turn: when, and which. An answer may never come.
    asked: BTreeMap<ReadId, (Time, Vec<u64>)>,
    /// Answered, and not applied far enough.
    confirmed: Vec<(LogIndex, Vec<u64>)>,
}

impl Reads {
    /// None yet. `origin` is a number that no earlier process of this node has begun at: see [`ReadId`].
    pub fn new(origin: u64, election_timeout: Duration) -> Self {
        Self { next: origin, election_timeout, waiting: Vec::new(), asked: BTreeMap::new(), confirmed: Vec::new() }
    }

    /// Takes a read.
    pub fn wait(&mut self, read: u64) {
        self.waiting.push(read);
    }

    /// When the oldest question is to be asked again.
    pub fn deadline(&self) -> Time {
        self.asked.values().map(|(asked, _)| *asked + self.election_timeout).min().unwrap_or(Time::NEVER)
    }

    /// One question for all that wait; none if nothing does.
    pub fn ask(&mut self, now: Time) -> Option<ReadId> {
        if self.waiting.is_empty() {
            return None;
        }
        self.next = self.next.wrapping_add(1);
        let read = ReadId(self.next);
        self.asked.insert(read, (now, std::mem::take(&mut self.waiting)));
        Some(read)
    }

    /// What was asked too long ago is asked again: the question or the answer was lost.
    pub fn ask_late_ones_again(&mut self, now: Time) {
        let election_timeout = self.election_timeout;
        self.ask_again(|asked| now.since(asked) >= election_timeout);
    }

    /// Everything is asked again: there is a new leader.
    pub fn ask_all_again(&mut self) {
        self.ask_again(|_| true);
    }

    fn ask_again(&mut self, gone: impl Fn(Time) -> bool) {
        let waiting = &mut self.waiting;
        self.asked.retain(|_, (asked, reads)| {
            let again = gone(*asked);
            if again {
                waiting.append(reads);
            }
            !again
        });
    }

    /// The question is answered: its reads wait until everything up to `index` is applied.
    pub fn confirm(&mut self, read: ReadId, index: LogIndex) {
        if let Some((_, reads)) = self.asked.remove(&read) {
            self.confirmed.push((index, reads));
        }
    }

    /// The question was turned away.
    pub fn refuse(&mut self, read: ReadId) {
        if let Some((_, reads)) = self.asked.remove(&read) {
            self.waiting.extend(reads);
        }
    }

    /// Gives up all, and gives them back: they cannot be answered here any more.
    pub fn take_all(&mut self) -> Vec<u64> {
        let asked = std::mem::take(&mut self.asked).into_values().flat_map(|(_, reads)| reads);
        let confirmed = std::mem::take(&mut self.confirmed).into_iter().flat_map(|(_, reads)| reads);
        std::mem::take(&mut self.waiting).into_iter().chain(asked).chain(confirmed).collect()
    }

    /// Moves those that may be answered now into `ready`.
    pub fn take_ready(&mut self, applied: LogIndex, ready: &mut Vec<u64>) {
        self.confirmed.retain_mut(|(index, reads)| {
            let is_ready = *index <= applied;
            if is_ready {
                ready.append(reads);
            }
            !is_ready
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(100);

    fn reads(names: &[u64]) -> Reads {
        let mut reads = Reads::new(7, TIMEOUT);
        names.iter().for_each(|&name| reads.wait(name));
        reads
    }

    fn ready(reads: &mut Reads, applied: u64) -> Vec<u64> {
        let mut ready = Vec::new();
        reads.take_ready(LogIndex(applied), &mut ready);
        ready
    }

    #[test]
    fn all_that_wait_are_asked_as_one_and_answered_when_applied() {
        let now = Time::from_millis(5);
        let mut reads = reads(&[1, 2]);
        let first = reads.ask(now).unwrap();
        assert_eq!(reads.ask(now), None, "nothing waits");
        reads.wait(3);
        let second = reads.ask(now).unwrap();
        assert_ne!(first, second);
        reads.confirm(second, LogIndex(4));
        reads.confirm(first, LogIndex(6));
        assert_eq!(ready(&mut reads, 3), [0; 0]);
        assert_eq!(ready(&mut reads, 4), [3]);
        assert_eq!(ready(&mut reads, 7), [1, 2]);
        assert_eq!(ready(&mut reads, 7), [0; 0], "once");
    }

    #[test]
    fn a_question_that_is_lost_is_asked_again_in_time() {
        let mut reads = reads(&[1]);
        assert_eq!(reads.deadline(), Time::NEVER);
        let lost = reads.ask(Time::from_millis(5)).unwrap();
        reads.wait(2);
        reads.ask(Time::from_millis(50));
        assert_eq!(reads.deadline(), Time::from_millis(105), "the oldest counts");
        reads.ask_late_ones_again(Time::from_millis(104));
        assert_eq!(reads.ask(Time::from_millis(104)), None);
        reads.ask_late_ones_again(Time::from_millis(105));
        assert_eq!(reads.deadline(), Time::from_millis(150));
        let again = reads.ask(Time::from_millis(105)).unwrap();
        reads.confirm(lost, LogIndex(1));
        assert_eq!(ready(&mut reads, 9), [0; 0], "a late answer may be of a leader that is none any more");
        reads.confirm(again, LogIndex(1));
        assert_eq!(ready(&mut reads, 9), [1]);
    }

    #[test]
    fn a_new_leader_is_asked_what_another_has_not_answered() {
        let mut reads = reads(&[1]);
        let first = reads.ask(Time::from_millis(5)).unwrap();
        reads.confirm(first, LogIndex(3));
        reads.wait(2);
        reads.ask(Time::from_millis(5));
        reads.ask_all_again();
        let again = reads.ask(Time::from_millis(6)).unwrap();
        reads.confirm(again, LogIndex(4));
        assert_eq!(ready(&mut reads, 3), [1], "what is answered stays so");
        assert_eq!(ready(&mut reads, 4), [2]);
    }

    #[test]
    fn what_is_turned_away_waits() {
        let mut reads = reads(&[1]);
        let read = reads.ask(Time::from_millis(5)).unwrap();
        reads.refuse(read);
        reads.refuse(read);
        assert_eq!(reads.deadline(), Time::NEVER);
        assert!(reads.ask(Time::from_millis(6)).is_some());
    }

    #[test]
    fn all_are_given_up_wherever_they_are() {
        let mut reads = reads(&[1]);
        let read = reads.ask(Time::from_millis(5)).unwrap();
        reads.confirm(read, LogIndex(9));
        reads.wait(2);
        reads.ask(Time::from_millis(5));
        reads.wait(3);
        let mut all = reads.take_all();
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3]);
        assert_eq!(reads.take_all(), [0; 0]);
        assert_eq!(ready(&mut reads, 9), [0; 0]);
    }
}
