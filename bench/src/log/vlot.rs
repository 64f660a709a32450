//! `vlot-log` as its one owner uses it: one write and one sync for all that waits.

use std::path::Path;

use bytes::Bytes;
use vlot_log::disk::real::RealDisk;
use vlot_log::log::{Identity, Log, Options};
use vlot_log::record::{Entry, Write};
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId};

use super::steady::Compacts;
use super::{ENTRY_BYTES, GROUPS, Journal, Kept};
use crate::Outcome;

const TERM: u64 = 1;

pub(crate) struct VlotJournal {
    log: Log<RealDisk>,
    /// The last entry of each group.
    last: Vec<u64>,
}

/// How long the record of so many entries of one group is (`docs/disk-format.md`): its header, the fixed part of its body,
/// and for each entry a row and a payload.
pub(crate) fn frame_bytes(entries: usize) -> usize {
    32 + 16 + entries * (16 + ENTRY_BYTES)
}

impl Journal for VlotJournal {
    fn append(&mut self, batch: &[(u64, Bytes)]) -> Outcome<()> {
        let last = &mut self.last;
        let runs = batch.chunk_by(|(one, _), (next, _)| one == next);
        let writes: Vec<Write> = runs.map(|run| append(run, &mut last[run[0].0 as usize])).collect();
        self.log.write(&writes)?;
        self.log.sync()?;
        Ok(())
    }

    fn prepare(&mut self) -> Outcome<()> {
        Ok(self.log.prepare()?)
    }
}

impl Compacts for VlotJournal {
    fn compact(&mut self) -> Outcome<()> {
        let ends = (1..).map(GroupId).zip(&self.last[1..]).filter(|(_, last)| **last > 0);
        let begin = |(group, last): (GroupId, &u64)| Write::LogStart {
            group,
            after: LogId::new(TERM, *last),
            note: Bytes::new(),
        };
        self.log.write(&ends.map(begin).collect::<Vec<_>>())?;
        while self.log.tidy()?.more {}
        Ok(())
    }
}

fn append(run: &[(u64, Bytes)], last: &mut u64) -> Write {
    let (group, after) = (GroupId(run[0].0), LogIndex(*last));
    let entries = run.iter().map(|(_, payload)| {
        *last += 1;
        Entry { id: LogId::new(TERM, *last), payload: payload.clone() }
    });
    Write::Append { group, after, entries: entries.collect() }
}

impl Kept for VlotJournal {
    fn open(dir: &Path) -> Outcome<Self> {
        let identity = Identity { cluster: 1, node: NodeId(1) };
        let (log, recovered) = Log::open(RealDisk::open(dir)?, identity, Options::default())?;
        let last = |group| recovered.groups.get(&GroupId(group)).map_or(0, |state| state.runs.last().0);
        Ok(Self { log, last: (0..=GROUPS).map(last).collect() })
    }

    fn read(&self, group: u64, first: u64, count: u64, mut visit: impl FnMut(&[u8])) -> Outcome<()> {
        let (after, upto) = (LogIndex(first - 1), LogIndex(first + count - 1));
        let entries = self.log.read(GroupId(group), after, upto, usize::MAX)?;
        entries.iter().for_each(|entry| visit(&entry.payload));
        Ok(())
    }
}
