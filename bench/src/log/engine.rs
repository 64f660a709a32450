//! tikv's `raft-engine` as its example `append_compact_purge` uses it, which leaves compression off.

use std::path::Path;

use bytes::Bytes;
use raft::eraftpb::Entry;
use raft_engine::{Command, Config, Engine, LogBatch, MessageExt, ReadableSize};

use super::steady::Compacts;
use super::{GROUPS, Journal, Kept};
use crate::Outcome;

const TERM: u64 = 1;
/// As our log's.
const FILE_BYTES: ReadableSize = ReadableSize::mb(64);
/// Above this much it gives files back that nothing is needed of, to be used again. It would keep 10 GB.
const PURGE_BYTES: ReadableSize = ReadableSize::mb(128);

struct Entries;

impl MessageExt for Entries {
    type Entry = Entry;

    fn index(entry: &Entry) -> u64 {
        entry.index
    }
}

/// One that is owned by one caller, which gathers entries into batches, as tikv's own store writer does.
pub(crate) struct EngineJournal {
    engine: Engine,
    batch: LogBatch,
    /// The last entry of each group.
    last: Vec<u64>,
}

impl EngineJournal {
    /// As it is set up by default.
    pub(crate) fn open_plain(dir: &Path) -> Outcome<Self> {
        Self::open_as(dir, Config::default())
    }

    /// The engine alone, for callers that leave it to the engine to gather what they write.
    pub(crate) fn into_engine(self) -> Engine {
        self.engine
    }

    fn open_as(dir: &Path, config: Config) -> Outcome<Self> {
        let config = Config {
            dir: dir.to_str().ok_or("the directory's name is not UTF-8")?.to_owned(),
            batch_compression_threshold: ReadableSize::kb(0),
            ..config
        };
        let engine = Engine::open(config)?;
        let last = (0..=GROUPS).map(|group| engine.last_index(group).unwrap_or(0)).collect();
        Ok(Self { engine, batch: LogBatch::default(), last })
    }
}

/// Gives up all entries of all groups, and the files that hold nothing else.
pub(crate) fn compact(engine: &Engine) -> Outcome<()> {
    let mut batch = LogBatch::default();
    for group in 1..=GROUPS {
        if let Some(last) = engine.last_index(group) {
            batch.add_command(group, Command::Compact { index: last });
        }
    }
    engine.write(&mut batch, false)?;
    engine.purge_expired_files()?;
    Ok(())
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

impl Compacts for EngineJournal {
    fn compact(&mut self) -> Outcome<()> {
        compact(&self.engine)
    }
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
        let config = Config { target_file_size: FILE_BYTES, purge_threshold: PURGE_BYTES, ..Config::default() };
        Self::open_as(dir, config)
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
