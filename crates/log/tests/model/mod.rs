//! The obvious log: a list per group. What the real one holds is compared with it.

#![allow(dead_code, reason = "each test file uses a part of it")]

use bytes::Bytes;
use std::collections::BTreeMap;
use vlot_log::disk::sim::{Rng, SimDisk};
use vlot_log::error::OpenError;
use vlot_log::log::{Identity, Log, Options};
use vlot_log::record::{Entry, Write};
use vlot_log::recover::Recovered;
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId, Term};

pub const IDENTITY: Identity = Identity { cluster: 0xc0ffee, node: NodeId(3) };
pub const SMALL: Options =
    Options { segment_bytes: 8192, keep, slack_bytes: 0, accept_damage: false, accept_damaged_entries: false };

/// Which entries are handed over when a log is opened: some at random, and the letter k.
fn keep(payload: &[u8]) -> bool {
    payload.len() % 5 == 3 || payload == b"k"
}

pub fn open(disk: &SimDisk) -> Result<(Log<SimDisk>, Recovered), OpenError> {
    Log::open(disk.clone(), IDENTITY, SMALL)
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Group {
    pub term: Term,
    pub vote: Option<NodeId>,
    /// Where the log begins.
    pub after: LogId,
    pub note: Bytes,
    pub entries: Vec<Entry>,
}

impl Group {
    pub fn last(&self) -> LogId {
        self.entries.last().map_or(self.after, |entry| entry.id)
    }

    /// Names an entry that is there, or the one before the first.
    fn id_at(&self, index: u64) -> LogId {
        match self.count(LogIndex(index)) {
            0 => self.after,
            n => self.entries[n - 1].id,
        }
    }

    /// A snapshot: within the log, beyond its end, of another term, or of long ago.
    fn draw_begin(&self, group: GroupId, rng: &mut Rng) -> Write {
        let (first, last) = (self.after.index.0, self.last().index.0);
        let within = self.id_at(first + rng.below(last - first + 1));
        let after = match rng.below(8) {
            0 => LogId::new(self.last().term.0 + rng.below(2), last + 1 + rng.below(5)),
            1 if within != self.after => LogId { term: within.term.next(), ..within },
            2 if first > 0 => LogId { index: LogIndex(rng.below(first)), ..self.after },
            _ => within,
        };
        let note = Bytes::from(vec![rng.draw() as u8; rng.below(300) as usize]);
        Write::LogStart { group, after, note }
    }

    /// How many entries there are up to this index.
    fn count(&self, upto: LogIndex) -> usize {
        upto.since(self.after.index) as usize
    }
}

#[derive(Clone, Debug, Default, Eq)]
pub struct Model(pub BTreeMap<GroupId, Group>);

/// Of a group that has nothing there need be no record.
impl PartialEq for Model {
    fn eq(&self, other: &Self) -> bool {
        let has_something = |(_, group): &(&GroupId, &Group)| **group != Group::default();
        self.0.iter().filter(has_something).eq(other.0.iter().filter(has_something))
    }
}

impl Model {
    pub fn apply(&mut self, write: &Write) {
        match write {
            Write::Vote { group, term, vote } => {
                let group = self.0.entry(*group).or_default();
                (group.term, group.vote) = (*term, *vote);
            }
            Write::Append { group, after, entries } => {
                let group = self.0.entry(*group).or_default();
                group.entries.truncate(group.count(*after));
                group.entries.extend_from_slice(entries);
            }
            Write::LogStart { group, after, note } => {
                let group = self.0.entry(*group).or_default();
                if after.index < group.after.index {
                    return;
                }
                let holds = *after == group.after || group.entries.iter().any(|entry| entry.id == *after);
                let gone = if holds { group.count(after.index) } else { group.entries.len() };
                group.entries.drain(..gone);
                (group.after, group.note) = (*after, note.clone());
            }
            Write::Rewrite { .. } => {}
            Write::Remove { group } => drop(self.0.remove(group)),
        }
    }

    /// What the log says that it holds.
    pub fn of(log: &Log<SimDisk>, recovered: &Recovered) -> Self {
        let groups = recovered.groups.iter().map(|(&id, state)| {
            let after = state.runs.after();
            let entries = log.read(id, after.index, LogIndex(u64::MAX), usize::MAX).expect("readable");
            let count = state.runs.last().since(after.index);
            assert_eq!(entries.len() as u64, count, "as many entries as the runs of terms say");
            let kept: Vec<_> = entries.iter().filter(|entry| keep(&entry.payload)).cloned().collect();
            assert_eq!(state.kept, kept, "those that the owner wants to see");
            for (n, entry) in entries.iter().enumerate() {
                assert_eq!(entry.id.index, LogIndex(after.index.0 + n as u64 + 1));
                assert!(state.runs.contains(entry.id), "{} in {:?}", entry.id, state.runs);
            }
            (id, Group { term: state.term, vote: state.vote, after, note: state.note.clone(), entries })
        });
        Self(groups.collect())
    }

    /// Something that a replica of one of three groups could ask for.
    pub fn draw(&self, rng: &mut Rng) -> Write {
        self.draw_among(3, rng)
    }

    /// The same with so many groups.
    pub fn draw_among(&self, groups: u64, rng: &mut Rng) -> Write {
        let id = GroupId(rng.below(groups));
        let group = self.0.get(&id).cloned().unwrap_or_default();
        if rng.below(4) == 0 {
            let vote = (rng.below(2) == 0).then(|| NodeId(rng.below(5)));
            return Write::Vote { group: id, term: Term(group.term.0 + rng.below(3)), vote };
        }
        if rng.below(6) == 0 {
            return group.draw_begin(id, rng);
        }
        if rng.below(25) == 0 {
            return Write::Remove { group: id };
        }
        let (first, last) = (group.after.index.0, group.last().index.0);
        let after = if rng.below(4) == 0 { first + rng.below(last - first + 1) } else { last };
        let mut term = group.id_at(after).term;
        let entries = (1..=rng.below(6)).map(|n| {
            term = Term(term.0 + rng.below(4) / 3);
            let bytes = if rng.below(40) == 0 { 9000 } else { rng.below(700) } as usize;
            // Whole sectors of zeros look like what was never written.
            let fill = if rng.below(4) == 0 { 0 } else { rng.draw() as u8 };
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

pub fn begin(group: u64, term: u64, index: u64, note: &'static str) -> Write {
    Write::LogStart { group: GroupId(group), after: LogId::new(term, index), note: Bytes::from_static(note.as_bytes()) }
}

pub fn remove(group: u64) -> Write {
    Write::Remove { group: GroupId(group) }
}

pub fn append(group: u64, after: u64, term: u64, letters: &str) -> Write {
    Write::Append { group: GroupId(group), after: LogIndex(after), entries: entries(after, term, letters) }
}
