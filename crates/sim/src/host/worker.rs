//! What a state machine, or a group's snapshot files, are asked to do and have not done, in order.
//!
//! Owns that order. Must not know how long anything takes, or what comes of it.

use std::collections::VecDeque;
use vlot_node::replica::Committed;
use vlot_node::snapshot::Header;
use vlot_node::state_machine::Snapshot;
use vlot_node::transfer::TransferAct;
use vlot_raft::id::LogId;

/// Something for a state machine to do.
#[derive(Debug)]
pub enum MachineJob {
    /// Apply these.
    Apply(Vec<Committed>),
    /// Become this snapshot.
    Restore(LogId),
    /// Take a snapshot of the state as it is.
    TakeSnapshot,
}

/// Something to do with snapshot files.
pub enum FileJob {
    /// Write a snapshot that was taken.
    Save(Header, Box<dyn Snapshot>),
    /// Remove those before this entry.
    Remove(LogId),
    /// A step of a snapshot's way between nodes.
    Transfer(TransferAct),
}

/// A queue of jobs, the first of which may be under way.
#[derive(Debug)]
pub struct Worker<J> {
    waiting: VecDeque<J>,
    /// The number of the job under way.
    under_way: Option<u64>,
    begun: u64,
}

impl<J> Default for Worker<J> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), under_way: None, begun: 0 }
    }
}

impl<J> Worker<J> {
    /// Takes a job.
    pub fn ask(&mut self, job: J) {
        self.waiting.push_back(job);
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Begins the next job, if none is under way. Gives back its number.
    pub fn begin(&mut self) -> Option<u64> {
        if self.under_way.is_some() || self.waiting.is_empty() {
            return None;
        }
        self.begun += 1;
        self.under_way = Some(self.begun);
        self.under_way
    }

    /// The number of the job under way.
    #[must_use]
    pub fn under_way(&self) -> Option<u64> {
        self.under_way
    }

    /// The job under way.
    #[must_use]
    pub fn current(&self) -> Option<&J> {
        self.waiting.front().filter(|_| self.under_way.is_some())
    }

    /// Takes the job under way, if it is that of this number: it is done now.
    pub fn finish(&mut self, number: u64) -> Option<J> {
        self.under_way.take_if(|under_way| *under_way == number)?;
        self.waiting.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_after_the_other() {
        let mut worker = Worker::default();
        assert_eq!(worker.begin(), None);
        worker.ask('a');
        worker.ask('b');
        assert_eq!((worker.begin(), worker.begin(), worker.current()), (Some(1), None, Some(&'a')));
        assert_eq!((worker.finish(2), worker.finish(1), worker.finish(1)), (None, Some('a'), None));
        assert_eq!((worker.begin(), worker.finish(2), worker.is_idle()), (Some(2), Some('b'), true));
    }
}
