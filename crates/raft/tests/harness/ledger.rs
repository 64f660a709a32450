//! What a cluster has vouched for, held against its disks: properties that no replica can check of itself.

use std::collections::BTreeMap;

use vlot_raft::id::{LogId, LogIndex, NodeId, Term};
use vlot_raft::message::{Body, Message, ReadId};

use super::disk::Disk;

#[derive(Default)]
pub struct Ledger {
    /// To whom each voter has given its vote, in its life before and after crashes.
    votes: BTreeMap<(NodeId, Term), NodeId>,
    /// What was committed anywhere when a read was asked for.
    asked: BTreeMap<ReadId, LogIndex>,
    pub reads_answered: usize,
}

impl Ledger {
    /// A message leaves its node.
    pub fn sent(&mut self, from: NodeId, to: NodeId, message: &Message, disk: &Disk) {
        let term = message.term;
        match &message.body {
            Body::RequestVote { .. } => self.voted(from, term, from, disk),
            Body::VoteGranted => self.voted(from, term, to, disk),
            Body::EntriesAccepted { upto, .. } => {
                assert!(disk.log.last() >= *upto, "n{from} acknowledges {upto}, its disk ends at {}", disk.log.last());
                assert!(disk.term >= term, "n{from} answers in term {term}, its disk knows {}", disk.term);
            }
            _ => {}
        }
    }

    fn voted(&mut self, voter: NodeId, term: Term, candidate: NodeId, disk: &Disk) {
        let given = *self.votes.entry((voter, term)).or_insert(candidate);
        assert_eq!(given, candidate, "n{voter} votes twice in term {term}");
        assert_eq!((disk.term, disk.vote), (term, Some(candidate)), "n{voter}'s vote is durable before it is told");
    }

    pub fn may_apply(node: NodeId, upto: LogIndex, disk: &Disk) {
        assert!(disk.log.last() >= upto, "n{node} applies {upto}, its disk ends at {}", disk.log.last());
    }

    /// Whatever is committed is durable on a majority of the disks, whoever is up (Raft §5.3, figure 8).
    pub fn committed_is_durable<'a>(last: LogId, disks: impl Iterator<Item = &'a Disk>) {
        let (mut all, mut holding) = (0, 0);
        for disk in disks {
            all += 1;
            holding += usize::from(last == LogId::ZERO || disk.holds(last.index, last.term));
        }
        assert!(2 * holding > all, "{last} is committed and durable on {holding} of {all} disks");
    }

    pub fn read_asked(&mut self, read: ReadId, committed: LogIndex) {
        self.asked.insert(read, committed);
    }

    pub fn read_answered(&mut self, read: ReadId, index: LogIndex) {
        let committed = self.asked.get(&read).copied().unwrap_or_default();
        assert!(index >= committed, "r{} is answered at {index}, {committed} was committed when it was asked", read.0);
        self.reads_answered += 1;
    }
}
