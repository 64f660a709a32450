//! What a cluster has vouched for, held against its disks: properties that no replica can check of itself.
//!
//! Quorums are counted here from the seats alone, so that a fault in the replicas' own counting shows.

use std::collections::BTreeMap;

use vlot_raft::configuration::{Configuration, Seat};
use vlot_raft::id::{LogId, LogIndex, NodeId, Term};
use vlot_raft::message::{Body, Message, ReadId};

use super::cluster::Node;
use super::disk::Disk;

#[derive(Default)]
pub struct Ledger {
    /// To whom each voter has given its vote, in its life before and after crashes.
    votes: BTreeMap<(NodeId, Term), NodeId>,
    /// What was committed anywhere when a read was asked for.
    asked: BTreeMap<ReadId, LogIndex>,
    pub reads_answered: usize,
    /// The last entry that was committed, and the configuration that counted in the log of the leader that decided it.
    decided: (LogId, Configuration),
}

impl Ledger {
    /// A message leaves its node.
    pub fn sent(&mut self, from: NodeId, to: NodeId, message: &Message, disk: &Disk) {
        let term = message.term;
        match &message.body {
            Body::RequestVote { .. } => self.voted(from, term, from, disk),
            Body::VoteGranted => self.voted(from, term, to, disk),
            Body::EntriesAccepted { .. } => {
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

    /// A node begins anew, under its old name: what it vouched for is void.
    pub fn forget(&mut self, node: NodeId) {
        self.votes.retain(|(voter, _), _| *voter != node);
    }

    /// What a node vouches for, or applies, is on its own disk.
    pub fn is_on_disk(name: NodeId, does: &str, upto: LogIndex, node: &Node) {
        let disk = &node.disk;
        let same = node.id_at(upto).is_none_or(|id| disk.holds(id));
        assert!(same && disk.log.last() >= upto, "n{name} {does} {upto}, its disk has {:?}", disk.log);
    }

    /// Everything up to `last` is committed, by a leader in whose log this configuration counts.
    pub fn decided(&mut self, last: LogId, configuration: &Configuration) {
        if last > self.decided.0 {
            self.decided = (last, configuration.clone());
        }
    }

    /// Whatever is committed is durable on a quorum of those who decided it, whoever is up (Raft §5.3, §6, figure 8).
    pub fn check_durable(&self, disks: &BTreeMap<NodeId, &Disk>) {
        let (last, configuration) = &self.decided;
        let holds = |node| disks.get(&node).is_some_and(|disk| disk.holds(*last));
        let holding: Vec<u64> = configuration.nodes().filter(|node| holds(*node)).map(|node| node.0).collect();
        let durable = *last == LogId::ZERO || is_quorum(configuration, holds);
        assert!(durable, "{last} is committed and durable on {holding:?} only, of {:?}", configuration.members());
    }

    /// Nobody could be elected who lacks what is committed: for every log without it, those whose logs are no more
    /// up-to-date are no quorum of the configuration that counts in that log (Raft §5.4.1, §6).
    ///
    /// This holds of the disks at any moment, so it finds a fault long before an election makes use of it.
    pub fn check_electable(&self, disks: &BTreeMap<NodeId, &Disk>) {
        let last = self.decided.0;
        for (name, disk) in disks.iter().filter(|(_, disk)| !disk.holds(last)) {
            let configuration = disk.configurations.newest();
            let may_stand = configuration.is_voter(*name) && !configuration.is_witness(*name);
            let own_last = disk.log.last_id();
            let grants = |node| disks.get(&node).is_some_and(|disk: &&Disk| disk.log.last_id() <= own_last);
            let elects = may_stand && is_quorum(configuration, grants);
            assert!(!elects, "n{name} lacks {last} and could be elected by {:?}", configuration.members());
        }
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

/// Whether those who agree are a majority of the old voters and one of the new (Raft §6).
fn is_quorum(configuration: &Configuration, agrees: impl Fn(NodeId) -> bool) -> bool {
    let old: &[Seat] = &[Seat::Voter, Seat::Leaving, Seat::Retiring];
    let new: &[Seat] = &[Seat::Voter, Seat::Joining];
    [old, new].into_iter().all(|seats| {
        let voters = configuration.members().iter().filter(|member| seats.contains(&member.seat));
        let agreeing = voters.clone().filter(|member| agrees(member.node)).count();
        2 * agreeing > voters.count()
    })
}
