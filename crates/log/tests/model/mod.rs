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
/// Marks payloads that are handed over when the log is opened.
pub const KEPT: u8 = 0xee;
pub const SMALL: Options =
    Options { segment_bytes: 8192, total_bytes_max: 5 * 8192, keep: |payload| payload.first() == Some(&KEPT) };

pub fn open(disk: &SimDisk) -> Result<(Log<SimDisk>, Recovered), OpenError> {
    Log::open(disk.clone(), IDENTITY, SMALL)
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Group {
    pub term: Term,
    pub vote: Option<NodeId>,
    pub begin: LogId,
    pub note: Bytes,
    pub entries: Vec<Entry>,
}

impl Group {
    fn last(&self) -> LogId {
        self.entries.last().map_or(self.begin, |entry| entry.id)
    }

    fn cut_after(&mut self, index: LogIndex) {
        self.entries.retain(|entry| entry.id.index <= index);
    }
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
                group.cut_after(*after);
                group.entries.extend_from_slice(entries);
            }
            Write::Begin { group, after, note } => {
                let group = self.0.entry(*group).or_default();
                let has_it = group.begin == *after || group.entries.iter().any(|entry| entry.id == *after);
                group.entries.retain(|entry| has_it && entry.id.index > after.index);
                (group.begin, group.note) = (*after, note.clone());
            }
        }
    }

    /// What the log says that it holds.
    pub fn of(log: &Log<SimDisk>, recovered: &Recovered) -> Self {
        let groups = recovered.groups.iter().map(|(&id, state)| {
            let begin = state.runs.after();
            let entries = log.read(id, begin.index, LogIndex(u64::MAX), usize::MAX).expect("readable");
            assert_eq!(entries.len() as u64, state.runs.last().since(begin.index), "as many as the runs of terms say");
            for (n, entry) in entries.iter().enumerate() {
                assert_eq!(entry.id.index, LogIndex(begin.index.0 + n as u64 + 1));
                assert!(state.runs.contains(entry.id), "{} in {:?}", entry.id, state.runs);
            }
            let kept = entries.iter().filter(|entry| (SMALL.keep)(&entry.payload)).cloned();
            assert_eq!(state.kept, kept.collect::<Vec<_>>(), "group {id}");
            (id, Group { term: state.term, vote: state.vote, begin, note: state.note.clone(), entries })
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
        let (begin, last) = (group.begin.index.0, group.last().index.0);
        if chance.below(5) == 0 {
            let note = Bytes::from(vec![chance.draw() as u8; chance.below(60) as usize]);
            let within = chance.below(last - begin + 1);
            let after = match chance.below(8) {
                // A snapshot that lies beyond the log, or replaces what is in it.
                0 => LogId::new(group.last().term.0 + 1, begin + chance.below(last - begin + 9)),
                _ if within == 0 => group.begin,
                _ => group.entries[within as usize - 1].id,
            };
            return Write::Begin { group: id, after, note };
        }
        let after = if chance.below(4) == 0 { begin + chance.below(last - begin + 1) } else { last };
        let mut term =
            if after == begin { group.begin.term } else { group.entries[(after - begin) as usize - 1].id.term };
        let entries = (1..=chance.below(6)).map(|n| {
            term = Term(term.0 + chance.below(4) / 3);
            let bytes = if chance.below(40) == 0 { 9000 } else { chance.below(700) } as usize;
            // Whole sectors of zeros look like what was never written.
            let fill = match chance.below(8) {
                0 | 1 => 0,
                2 => KEPT,
                _ => chance.draw() as u8,
            };
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
