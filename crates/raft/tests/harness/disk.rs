//! One node's disk: what survives a crash, and the writes that do not yet.

use std::collections::VecDeque;

use vlot_raft::configuration::{Configuration, Configurations};
use vlot_raft::effect::WriteId;
use vlot_raft::id::{LogId, LogIndex, NodeId, Term};
use vlot_raft::term_runs::TermRuns;

/// Durable state, and writes in the order in which they were asked for.
#[derive(Clone, Default)]
pub struct Disk {
    pub term: Term,
    pub vote: Option<NodeId>,
    pub log: TermRuns,
    /// Who belongs to the group: at the beginning of the log, and as its entries say.
    pub configurations: Configurations,
    /// Whether writes wait until the test lets them finish.
    pub slow: bool,
    /// Whether there is no room: entries wait; votes, and where the log begins, do not.
    pub full: bool,
    pending: VecDeque<(WriteId, Write)>,
}

#[derive(Clone)]
pub enum Write {
    Vote { term: Term, vote: Option<NodeId> },
    Append { entries: TermRuns, set: Vec<(LogIndex, Configuration)> },
    Compact { after: LogId },
    Install(Snapshot),
}

/// A state that was committed: the last entry of which it has the effect, and who belonged to the group then.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    pub id: LogId,
    /// The configuration, and the entry that has set it.
    pub configuration: (LogIndex, Configuration),
}

impl Disk {
    /// An empty one, of a node that knows who belongs to the group.
    pub fn of_member(configuration: Configuration) -> Self {
        Self { configurations: Configurations::begin(configuration), ..Self::default() }
    }

    pub fn ask(&mut self, id: WriteId, write: Write) {
        assert!(self.pending.back().is_none_or(|(earlier, _)| *earlier < id), "writes are numbered in order");
        self.pending.push_back((id, write));
    }

    pub fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// Makes the oldest write durable that needs no room.
    pub fn pass_one(&mut self) -> Option<WriteId> {
        let at = self.pending.iter().position(|(_, write)| !matches!(write, Write::Append { .. }))?;
        let (id, write) = self.pending.remove(at)?;
        if matches!(write, Write::Install(_) | Write::Compact { .. }) {
            self.shorten_what_waits(at, &write);
        }
        self.carry_out(write);
        Some(id)
    }

    /// The log begins later before the first `passed` writes, all of them appends, are done: in the end it is what it would
    /// be if that had come after them.
    fn shorten_what_waits(&mut self, passed: usize, begin: &Write) {
        let mut in_order = self.clone();
        let mut newest = None;
        for (id, append) in self.pending.drain(..passed) {
            in_order.carry_out(append);
            newest = Some(id);
        }
        in_order.carry_out(begin.clone());
        if let Some(id) = newest {
            let set = in_order.configurations.part(in_order.log.after().index, in_order.log.last());
            self.pending.push_front((id, Write::Append { entries: in_order.log, set }));
        }
    }

    /// Makes the oldest write durable.
    pub fn finish_one(&mut self) -> Option<WriteId> {
        let (id, write) = self.pending.pop_front()?;
        self.carry_out(write);
        Some(id)
    }

    fn carry_out(&mut self, write: Write) {
        match write {
            Write::Vote { term, vote } => {
                assert!(term >= self.term, "a later term is not overwritten");
                (self.term, self.vote) = (term, vote);
            }
            Write::Append { entries, set } => {
                let after = entries.after().index;
                self.log.cut_after(after);
                self.log.extend(&entries);
                let kept = self.configurations.part(LogIndex::ZERO, after);
                self.configurations = Configurations::new(self.base(), [kept, set].concat());
            }
            Write::Compact { after } => self.begin_after(after, self.configurations.at(after.index).clone()),
            Write::Install(Snapshot { id, configuration }) if self.log.contains(id) => {
                self.begin_after(id, configuration)
            }
            Write::Install(Snapshot { id, configuration }) => {
                self.log = TermRuns::empty(id);
                self.configurations = Configurations::new(configuration, Vec::new());
            }
        }
    }

    /// The power fails. The first `survive` writes had reached the medium, though nobody was told.
    pub fn crash(&mut self, survive: usize) -> usize {
        for _ in 0..survive {
            self.finish_one();
        }
        let lost = self.pending.len();
        self.pending.clear();
        lost
    }

    /// Whether the effect of this entry, which is committed, is here: in the log, or in the state before it.
    pub fn holds(&self, id: LogId) -> bool {
        id.index <= self.log.after().index || self.log.contains(id)
    }

    fn begin_after(&mut self, id: LogId, base: (LogIndex, Configuration)) {
        self.log.begin_after(id.index);
        self.configurations = Configurations::new(base, self.configurations.part(id.index, self.log.last()));
    }

    /// The configuration with which the log begins.
    fn base(&self) -> (LogIndex, Configuration) {
        self.configurations.at(self.log.after().index).clone()
    }
}
