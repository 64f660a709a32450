//! A node's disk: what a crash leaves behind.

use vlot_raft::configuration::{Configuration, Configurations};
use vlot_raft::id::{LogId, LogIndex, NodeId, Term};
use vlot_raft::state::Restored;
use vlot_raft::term_runs::TermRuns;

use super::{Broken, broken};

/// What is durable.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Disk {
    pub term: Term,
    pub vote: Option<NodeId>,
    pub log: TermRuns,
    /// The configuration with which the log begins, and the entry that has set it.
    base: (LogIndex, Configuration),
    /// Those that entries of the log set.
    later: Vec<(LogIndex, Configuration)>,
    /// What the state machine would still have after a crash.
    applied: LogIndex,
}

/// A write that was asked for.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Write {
    Vote { term: Term, vote: Option<NodeId> },
    Append { entries: TermRuns, configurations: Vec<(LogIndex, Configuration)> },
    Compact { after: LogId },
    Install { id: LogId, configuration: (LogIndex, Configuration) },
}

impl Disk {
    pub fn of_members(members: Configuration) -> Self {
        Self { base: (LogIndex::ZERO, members), ..Self::default() }
    }

    /// Makes a write durable.
    pub fn finish(&mut self, write: Write) -> Result<(), Broken> {
        match write {
            Write::Vote { term, vote } => {
                let changes_vote = term == self.term && self.vote.is_some() && vote != self.vote;
                if term < self.term || changes_vote {
                    let (old, was) = (self.term, self.vote);
                    return broken("one durable vote a term", || format!("t{old} {was:?}, then t{term} {vote:?}"));
                }
                (self.term, self.vote) = (term, vote);
            }
            Write::Append { entries, configurations } => {
                let after = entries.after().index;
                self.log.cut_after(after);
                self.log.extend(&entries);
                self.later.retain(|(at, _)| *at <= after);
                self.later.extend(configurations);
            }
            Write::Compact { after } => self.begin_after(after.index),
            Write::Install { id, configuration } => {
                if self.log.contains(id) {
                    self.begin_after(id.index);
                } else {
                    (self.log, self.base, self.later) = (TermRuns::empty(id), configuration, Vec::new());
                }
                self.applied = self.applied.max(id.index);
            }
        }
        Ok(())
    }

    /// The state machine makes what it has applied durable.
    pub fn apply_durably(&mut self, upto: LogIndex) {
        self.applied = self.applied.max(upto);
    }

    /// Whether this entry cannot get lost in a crash: it is in the log, or its effect in a snapshot.
    pub fn holds(&self, id: LogId) -> bool {
        id.index <= self.log.after().index || self.log.contains(id)
    }

    /// What a process that starts finds.
    pub fn restored(&self) -> Restored {
        Restored {
            term: self.term,
            vote: self.vote,
            log: self.log.clone(),
            applied: self.applied,
            configurations: Configurations::new(self.base.clone(), self.later.clone()),
        }
    }

    fn begin_after(&mut self, index: LogIndex) {
        self.log.begin_after(index);
        while self.later.first().is_some_and(|(at, _)| *at <= index) {
            self.base = self.later.remove(0);
        }
    }
}
