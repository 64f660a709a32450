//! The obvious log: a list per group. What the real one holds is compared with it.

#![allow(dead_code, reason = "each test file uses a part of it")]

use bytes::Bytes;
use std::collections::BTreeMap;
use vlot_log::disk::sim::{Chance, SimDisk};
use vlot_log::error::OpenError;
use vlot_log::log::{Identity, Log, Options};
use vlot_log::record::{Entry, Write};
use vlot_log::recover::Recovered;
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId, Term};

pub const IDENTITY: Identity = Identity { cluster: 0xc0ffee, node: NodeId(3) };
pub const SMALL: Options = Options { segment_bytes: 8192 };

pub fn open(disk: &SimDisk) -> Result<(Log<SimDisk>, Recovered), OpenError> {
    Log::open(disk.clone(), IDENTITY, SMALL)
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Group {
    pub term: Term,
    pub vote: Option<NodeId>,
    pub entries: Vec<Entry>,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Model(pub BTreeMap<GroupId, Group>);

impl Model {
    pub fn apply(&mut self, write: &Write) {
        match write {
            Write::Vote { group, term, vote } => {
                let group = self.0.entry(*group).or_default();
                (group.term, group.vote) = (*term, *vote);
            }
            Write::Append { group, after, entries } => {
                let group = self.0.entry(*group).or_default();
                group.entries.truncate(after.0 as usize);
                group.entries.extend_from_slice(entries);
            }
        }
    }

    /// What the log says that it holds.
    pub fn of(log: &Log<SimDisk>, recovered: &Recovered) -> Self {
        let groups = recovered.groups.iter().map(|(&id, state)| {
            let entries = log.read(id, LogIndex::ZERO, LogIndex(u64::MAX), usize::MAX).expect("readable");
            assert_eq!(entries.len() as u64, state.runs.last().0, "as many entries as the runs of terms say");
            for (n, entry) in entries.iter().enumerate() {
                assert_eq!(entry.id.index, LogIndex(n as u64 + 1));
                assert!(state.runs.contains(entry.id), "{} in {:?}", entry.id, state.runs);
            }
            (id, Group { term: state.term, vote: state.vote, entries })
        });
        Self(groups.collect())
    }

    /// Something that a replica could ask for.
    pub fn draw(&self, chance: &mut Chance) -> Write {
        let id = GroupId(chance.below(3));
        let group = self.0.get(&id).cloned().unwrap_or_default();
        if chance.below(4) == 0 {
            let vote = (chance.below(2) == 0).then(|| NodeId(chance.below(5)));
            return Write::Vote { group: id, term: Term(group.term.0 + chance.below(3)), vote };
        }
        let last = group.entries.len() as u64;
        let after = if chance.below(4) == 0 { chance.below(last + 1) } else { last };
        let mut term = if after == 0 { Term::ZERO } else { group.entries[after as usize - 1].id.term };
        let entries = (1..=chance.below(6)).map(|n| {
            term = Term(term.0 + chance.below(4) / 3);
            let bytes = if chance.below(40) == 0 { 9000 } else { chance.below(700) } as usize;
            // Whole sectors of zeros look like what was never written.
            let fill = if chance.below(4) == 0 { 0 } else { chance.draw() as u8 };
            Entry { id: LogId { term, index: LogIndex(after + n) }, payload: Bytes::from(vec![fill; bytes]) }
        });
        let entries = entries.collect();
        Write::Append { group: id, after: LogIndex(after), entries }
    }
}

/// Entries of one term, one letter each.
pub fn entries(after: u64, term: u64, letters: &str) -> Vec<Entry> {
    let one = |(n, letter): (usize, char)| Entry {
        id: LogId::new(term, after + 1 + n as u64),
        payload: Bytes::from(letter.to_string()),
    };
    letters.chars().enumerate().map(one).collect()
}

pub fn append(group: u64, after: u64, term: u64, letters: &str) -> Write {
    Write::Append { group: GroupId(group), after: LogIndex(after), entries: entries(after, term, letters) }
}
