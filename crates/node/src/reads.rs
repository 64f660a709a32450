//! The linearizable reads of one group on one node.
//!
//! Owns which reads wait, which were asked and when, and which are confirmed. Must not know who leads.

use std::collections::BTreeMap;
use std::time::Duration;

use vlot_raft::id::LogIndex;
use vlot_raft::message::ReadId;
use vlot_raft::time::Time;

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
