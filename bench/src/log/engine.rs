//! tikv's `raft-engine` as its example `append_compact_purge` uses it, which leaves compression off.

use std::path::Path;

use bytes::Bytes;
use raft::eraftpb::Entry;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};

use super::{GROUPS, Journal, Kept};
use crate::Outcome;

const TERM: u64 = 1;

struct Entries;

impl MessageExt for Entries {
    type Entry = Entry;

    fn index(entry: &Entry) -> u64 {
        entry.index
    }
}

/// One that is owned by one caller, who gathers entries into batches, as tikv's own store writer does.
pub(crate) struct EngineJournal {
    engine: Engine,
    batch: LogBatch,
    /// The last entry of each group.
    last: Vec<u64>,
}

impl EngineJournal {
    /// The engine alone, for callers who leave it to the engine to gather what they write.
    pub(crate) fn into_engine(self) -> Engine {
        self.engine
    }
}

/// Adds entries of one group and gives the index of the last.
pub(crate) fn add(batch: &mut LogBatch, group: u64, after: u64, payloads: &[(u64, Bytes)]) -> Outcome<u64> {
    let entry = |(index, (_, payload)): (u64, &(u64, Bytes))| {
        // As in the other module: free with one codec, a copy with the other.
        #[allow(clippy::useless_conversion)]
        let data = payload.clone().into();
        Entry { index, term: TERM, data, ..Entry::default() }
    };
    let entries: Vec<Entry> = (after + 1..).zip(payloads).map(entry).collect();
    batch.add_entries::<Entries>(group, &entries)?;
    Ok(after + payloads.len() as u64)
}

impl Journal for EngineJournal {
    fn append(&mut self, batch: &[(u64, Bytes)]) -> Outcome<()> {
        for run in batch.chunk_by(|(one, _), (next, _)| one == next) {
            let last = &mut self.last[run[0].0 as usize];
            *last = add(&mut self.batch, run[0].0, *last, run)?;
        }
        self.engine.write(&mut self.batch, true)?;
        Ok(())
    }
}

impl Kept for EngineJournal {
    fn open(dir: &Path) -> Outcome<Self> {
        let config = Config {
            dir: dir.to_str().ok_or("the directory's name is not UTF-8")?.to_owned(),
            batch_compression_threshold: ReadableSize::kb(0),
            ..Config::default()
        };
        let engine = Engine::open(config)?;
        let last = (0..=GROUPS).map(|group| engine.last_index(group).unwrap_or(0)).collect();
        Ok(Self { engine, batch: LogBatch::default(), last })
    }

    fn read(&self, group: u64, first: u64, count: u64, mut visit: impl FnMut(&[u8])) -> Outcome<()> {
        if count == 1 {
            let entry = self.engine.get_entry::<Entries>(group, first)?.ok_or("the entry is not there")?;
            visit(&entry.data);
        } else {
            let mut entries = Vec::new();
            self.engine.fetch_entries_to::<Entries>(group, first, first + count, None, &mut entries)?;
            entries.iter().for_each(|entry| visit(&entry.data));
        }
        Ok(())
    }
}
