//! One node's disk: what survives a crash, and the writes that do not yet.

use std::collections::VecDeque;

use vlot_raft::effect::WriteId;
use vlot_raft::id::{LogIndex, NodeId, Term};
use vlot_raft::term_runs::TermRuns;

/// Durable state, and writes in the order in which they were asked for.
#[derive(Clone, Default)]
pub struct Disk {
    pub term: Term,
    pub vote: Option<NodeId>,
    pub log: TermRuns,
    /// Whether writes wait until the test lets them finish.
    pub slow: bool,
    pending: VecDeque<(WriteId, Write)>,
}

#[derive(Clone)]
pub enum Write {
    Vote { term: Term, vote: Option<NodeId> },
    Append(TermRuns),
}

impl Disk {
    pub fn ask(&mut self, id: WriteId, write: Write) {
        assert!(self.pending.back().is_none_or(|(earlier, _)| *earlier < id), "writes are numbered in order");
        self.pending.push_back((id, write));
    }

    pub fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// Makes the oldest write durable.
    pub fn finish_one(&mut self) -> Option<WriteId> {
        let (id, write) = self.pending.pop_front()?;
        match write {
            Write::Vote { term, vote } => {
                assert!(term >= self.term, "a later term is not overwritten");
                (self.term, self.vote) = (term, vote);
            }
            Write::Append(entries) => {
                self.log.cut_after(entries.after().index);
                self.log.extend(&entries);
            }
        }
        Some(id)
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

    pub fn holds(&self, index: LogIndex, term: Term) -> bool {
        self.log.term_at(index) == Some(term)
    }
}
