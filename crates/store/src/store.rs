//! The store: one value that commands change and requests read.
//!
//! Owns the parts and what moves between them: the index and the values in memory, the batch under way, the backlog
//! towards the engine, compaction's walk. What commands do to keys is in `txn.rs`, what reads do in `range.rs`.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use vlot_proto::etcdserverpb::{CompactionResponse, DeleteRangeResponse, PutResponse, ResponseHeader, TxnResponse};

use crate::backlog::Backlog;
use crate::command::Command;
pub use crate::engine::OpenError;
use crate::engine::redb::RedbEngine;
use crate::engine::{Engine, EngineError, Record};
use crate::mvcc::history::{self, BadBlock, Block};
use crate::mvcc::key_index::{KeyIndex, Version};
use crate::mvcc::revision::{Position, Revision};
use crate::records::{self, Standing};
use crate::refusal::Refusal;
use crate::residents::{Resident, Residents};
use crate::watch::hub::Watchers;

/// How a store behaves. None of it changes what a command does.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many bytes of values stay in memory beside those that are not durable yet; older ones are read from disk.
    pub value_cache_bytes: usize,
    /// How many bytes of its own pages the engine keeps in memory.
    pub engine_cache_bytes: usize,
    /// How many bytes may wait for the engine. Beyond it [`Store::end_batch`] blocks until there is room.
    pub backlog_bytes_max: usize,
    /// How long changes are gathered for one synced transaction of the engine.
    pub commit_interval: Duration,
    /// How many bytes of events wait for the owner of a watch stream before its watches fall back to history.
    pub mailbox_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            value_cache_bytes: 256 << 20,
            engine_cache_bytes: 64 << 20,
            backlog_bytes_max: 256 << 20,
            commit_interval: Duration::from_millis(200),
            mailbox_bytes_max: 1 << 20,
        }
    }
}

/// How many keys, or values' places in the queue to leave memory, one step of compaction looks at.
const STEP_KEYS: usize = 512;

/// etcd's multi-version key-value store.
///
/// `durable ≤ applied`. Everything that is not durable is in memory.
pub struct Store {
    pub(crate) index: KeyIndex,
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
    attributes: BTreeMap<Bytes, Bytes>,
    pub(crate) applied: Position,

    pub(crate) residents: Residents,
    pub(crate) resident_bytes: usize,

    /// What the batch under way changed: for the engine, and for the watches.
    pub(crate) batch: Vec<Block>,
    records: Vec<Record>,
    pub(crate) unpublished: Vec<(Bytes, Revision)>,
    /// The newest revision that watches were told of.
    pub(crate) published: i64,

    walk: Option<Walk>,
    sweeping: bool,
    /// The engine could not give back what it was given. A command may have stopped half-way because of it.
    broken: AtomicBool,

    pub(crate) watchers: Arc<Watchers>,
    backlog: Backlog,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) options: Options,
}

/// Compaction on its way through the index.
#[derive(Debug)]
struct Walk {
    next: Bytes,
    compacted: i64,
    dropped: Vec<Revision>,
}

impl Walk {
    fn new(compacted: i64) -> Self {
        Self { next: Bytes::new(), compacted, dropped: Vec::new() }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { revision, compacted, applied, .. } = self;
        write!(f, "Store(revision {revision}, compacted {compacted}, applied {applied})")
    }
}

impl Store {
    /// Opens the store in `dir`, which is made if need be, at the position that is durable there. The caller then
    /// applies its log from there on.
    ///
    /// # Errors
    /// The directory cannot be used, or what is in it is damaged.
    pub fn open(dir: &Path, options: Options) -> Result<Self, OpenError> {
        let engine = RedbEngine::open(dir, options.engine_cache_bytes)?;
        Self::open_on(Arc::new(engine), options)
    }

    /// Opens the store on an engine of the caller's choice, with a background thread.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_on(engine: Arc<dyn Engine>, options: Options) -> Result<Self, OpenError> {
        let interval = options.commit_interval;
        let mut store = Self::open_still(engine, options)?;
        store.backlog.spawn(interval).map_err(OpenError::Io)?;
        Ok(store)
    }

    /// Opens the store without a background thread: only [`Store::flush`] makes something durable, when it is called.
    /// For simulations, which decide themselves when that is, and for measurements.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_still(engine: Arc<dyn Engine>, options: Options) -> Result<Self, OpenError> {
        let unreadable = |error: EngineError| OpenError::Damaged(error.0);
        let found = records::read(engine.records().map_err(unreadable)?).map_err(OpenError::Damaged)?;
        let standing = found.standing.unwrap_or(Standing::EMPTY);
        let mut store = Self {
            index: KeyIndex::default(),
            revision: standing.revision,
            compacted: standing.compacted,
            attributes: found.attributes.into_iter().collect(),
            applied: standing.position,
            residents: Residents::default(),
            resident_bytes: 0,
            batch: Vec::new(),
            records: Vec::new(),
            unpublished: Vec::new(),
            published: standing.revision,
            // History may hold what was compacted and not taken out before the store was closed.
            walk: (standing.compacted > 0).then(|| Walk::new(standing.compacted)),
            sweeping: false,
            broken: AtomicBool::new(false),
            watchers: Arc::default(),
            backlog: Backlog::new(Arc::clone(&engine), standing, options.backlog_bytes_max),
            engine,
            options,
        };
        store.load(standing)?;
        Ok(store)
    }

    /// Makes the index from history.
    fn load(&mut self, standing: Standing) -> Result<(), OpenError> {
        let engine = Arc::clone(&self.engine);
        let mut damage = None;
        let mut last = Revision::default();
        let visited = engine.scan(last, &mut |key, stored| {
            let loaded = history::unseal(stored).and_then(|events| {
                for event in events {
                    let event = event?;
                    if event.revision <= last || event.revision.main > standing.revision {
                        return Err(BadBlock::OutOfOrder(event.revision));
                    }
                    last = event.revision;
                    self.load_event(&event);
                }
                Ok(())
            });
            self.evict(standing.revision);
            match loaded {
                Ok(()) => ControlFlow::Continue(()),
                Err(bad) => {
                    damage = Some(OpenError::Damaged(format!("block {key}: {bad}")));
                    ControlFlow::Break(())
                }
            }
        });
        visited.map_err(|error| OpenError::Damaged(error.0))?;
        damage.map_or(Ok(()), Err)
    }

    fn load_event(&mut self, event: &history::Event<'_>) {
        let value = event.put.map(|put| Bytes::copy_from_slice(put.value));
        let bytes = value.as_ref().map_or(0, Bytes::len);
        let (create, count) = event.put.map_or((0, 0), |put| (put.create, put.version));
        let version = Version { revision: event.revision, create, count, value };
        let key = self.index.push(&Bytes::copy_from_slice(event.key), |key, _| (version, key.clone()));
        if bytes > 0 {
            self.resident_bytes += bytes;
            self.residents.push(Resident { key, revision: event.revision });
        }
    }

    /// Writes nothing more to the engine. Returns whether a thread did.
    pub(crate) fn stop_writing(&mut self) -> bool {
        let threaded = self.backlog.has_thread();
        self.backlog.stop();
        threaded
    }

    /// Becomes the store that another engine holds, which has taken the place of this one's. Watches go on.
    pub(crate) fn become_that_of(&mut self, engine: Arc<dyn Engine>, threaded: bool) -> Result<(), OpenError> {
        let mut next = if threaded {
            Self::open_on(engine, self.options.clone())?
        } else {
            Self::open_still(engine, self.options.clone())?
        };
        let published = self.published;
        next.watchers = Arc::clone(&self.watchers);
        *self = next;
        for mailbox in self.watchers.fall_behind(published, self.revision) {
            (mailbox.wake)();
        }
        Ok(())
    }

    /// The position of the newest command that was applied or skipped.
    #[must_use]
    pub fn applied(&self) -> Position {
        self.applied
    }

    /// The newest position that a crash leaves intact. The caller's log must keep everything after it.
    #[must_use]
    pub fn durable(&self) -> Position {
        self.backlog.durable().position
    }

    /// Applies one command. Responses carry the revision in their headers; cluster, member and term are the server's.
    ///
    /// # Errors
    /// The command was refused: it changed nothing, on every member. `Unreadable` alone is no agreed outcome: the
    /// engine cannot give a value back, the position has not moved, this and every later command fails with it, nothing
    /// more is made durable, and the owner must stop.
    pub fn apply(&mut self, at: Position, command: Command) -> Result<Applied, Refusal> {
        if self.is_broken() {
            return Err(Refusal::Unreadable);
        }
        let outcome = match command {
            Command::Put(request) => self.apply_put(&request).map(Applied::Put),
            Command::DeleteRange(request) => self.apply_delete(&request).map(Applied::DeleteRange),
            Command::Txn(request) => self.apply_txn(&request).map(Applied::Txn),
            Command::Compact(request) => self.apply_compaction(request.revision).map(Applied::Compact),
            Command::SetAttribute { name, value } => {
                self.set_attribute(&name, &value);
                Ok(Applied::SetAttribute)
            }
        };
        if outcome != Err(Refusal::Unreadable) {
            self.applied = at;
        }
        outcome
    }

    /// Passes over an entry without a command, or with one that is none.
    pub fn skip(&mut self, at: Position) {
        if !self.is_broken() {
            self.applied = at;
        }
    }

    fn apply_compaction(&mut self, revision: i64) -> Result<CompactionResponse, Refusal> {
        if revision <= self.compacted {
            return Err(Refusal::Compacted { oldest: self.compacted });
        }
        if revision > self.revision {
            return Err(Refusal::FutureRevision { newest: self.revision });
        }
        self.compacted = revision;
        self.walk.get_or_insert_with(|| Walk::new(revision));
        let header = ResponseHeader { revision: self.revision, ..Default::default() };
        Ok(CompactionResponse { header: Some(header) })
    }

    fn set_attribute(&mut self, name: &[u8], value: &[u8]) {
        self.records.push(records::attribute(name, value));
        if value.is_empty() {
            self.attributes.remove(name);
        } else {
            self.attributes.insert(Bytes::copy_from_slice(name), Bytes::copy_from_slice(value));
        }
    }

    /// Ends a batch of commands: its changes go to the engine's queue and to the watches. Blocks while more than
    /// [`Options::backlog_bytes_max`] wait for the engine, unless that has failed; see [`Store::sizes`] to hold back
    /// before it comes to that.
    pub fn end_batch(&mut self) {
        if self.is_broken() {
            return;
        }
        let standing = Standing { position: self.applied, revision: self.revision, compacted: self.compacted };
        self.backlog.push(&mut self.batch, &mut self.records, standing);
        let changes = std::mem::take(&mut self.unpublished);
        self.publish(&changes);
        self.published = self.revision;
        if self.resident_bytes > self.options.value_cache_bytes {
            self.evict(self.backlog.durable().revision);
        }
    }

    /// Takes the oldest values out of memory until the rest is within bounds. None that is not durable yet.
    fn evict(&mut self, durable: i64) {
        while self.resident_bytes > self.options.value_cache_bytes {
            if self.residents.oldest().is_none_or(|oldest| oldest.revision.main > durable) {
                break;
            }
            let Some(oldest) = self.residents.pop_oldest() else { break };
            if let Some(version) = self.index.exact_mut(&oldest.key, oldest.revision) {
                self.resident_bytes -= version.resident_bytes();
                version.value = None;
            }
        }
    }

    /// Does a bounded piece of work on giving up compacted history. To be called between batches.
    /// Returns whether there is more to do.
    pub fn compact_step(&mut self) -> bool {
        if self.is_broken() {
            return false;
        }
        if let Some(walk) = self.walk.take() {
            // Watches are told from the index, and the engine takes out only what it was given before, once it knows of
            // the compaction.
            self.end_batch();
            self.walk_on(walk);
        } else if self.sweeping {
            let index = &self.index;
            let is_resident = |resident: &Resident| {
                index.exact(&resident.key, resident.revision).is_some_and(|version| version.value.is_some())
            };
            self.sweeping = self.residents.sweep(STEP_KEYS, is_resident);
        }
        self.walk.is_some() || self.sweeping
    }

    fn walk_on(&mut self, mut walk: Walk) {
        let resident_bytes = &mut self.resident_bytes;
        let next = self.index.compact(&walk.next, STEP_KEYS, walk.compacted, |version| {
            *resident_bytes -= version.resident_bytes();
            walk.dropped.push(version.revision);
        });
        if let Some(next) = next {
            self.walk = Some(Walk { next, ..walk });
            return;
        }
        self.backlog.drop_versions(walk.dropped, walk.compacted);
        self.sweeping = true;
        self.walk = (walk.compacted < self.compacted).then(|| Walk::new(self.compacted));
    }

    /// Whether compacted history is still in memory or in the engine. A client that asked for a `physical` compaction
    /// waits for the end of it.
    #[must_use]
    pub fn is_compacting(&self) -> bool {
        self.walk.is_some() || self.backlog.is_thinning()
    }

    /// The newest revision. An empty store is at 1.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The oldest revision that can be read; -1 if nothing was ever compacted.
    #[must_use]
    pub fn compacted_revision(&self) -> i64 {
        self.compacted
    }

    /// The fact that a `SetAttribute` command left under this name.
    #[must_use]
    pub fn attribute(&self, name: &[u8]) -> Option<&Bytes> {
        self.attributes.get(name)
    }

    /// The facts whose names begin so, ordered by name.
    pub fn attributes_with<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = (&'a Bytes, &'a Bytes)> {
        let from = self.attributes.range(Bytes::copy_from_slice(prefix)..);
        from.take_while(move |(name, _)| name.starts_with(prefix))
    }

    /// All facts, ordered by name.
    pub fn attributes(&self) -> impl Iterator<Item = (&Bytes, &Bytes)> {
        self.attributes.iter()
    }

    /// The value of a version that the index gave, from wherever it is.
    pub(crate) fn value(&self, key: &[u8], version: &Version) -> Result<Bytes, Refusal> {
        if let Some(value) = &version.value {
            return Ok(value.clone());
        }
        // Only durable values leave memory, so that the engine has it.
        let stored = self.engine.block_at(version.revision).map_err(|_| self.unreadable())?;
        let (_, block) = stored.ok_or_else(|| self.unreadable())?;
        for event in history::unseal(&block).map_err(|_| self.unreadable())? {
            let event = event.map_err(|_| self.unreadable())?;
            if let (true, Some(put)) = (event.revision == version.revision && event.key == key, event.put) {
                return Ok(Bytes::copy_from_slice(put.value));
            }
        }
        Err(self.unreadable())
    }

    fn unreadable(&self) -> Refusal {
        self.broken.store(true, Ordering::Relaxed);
        Refusal::Unreadable
    }

    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Visits history from a revision on, oldest first: from the engine as far as it has it, then what is on its way
    /// there. What compaction gave up may still be among it.
    pub(crate) fn scan_history(
        &self,
        from: Revision,
        visit: &mut dyn FnMut(&history::Event<'_>) -> ControlFlow<()>,
    ) -> Result<(), Refusal> {
        // In this order: what becomes durable in between is visited here and passed over there.
        let pending = self.backlog.blocks_since(from);
        let pending: Vec<&Block> = pending.iter().map(|block| &**block).chain(&self.batch).collect();
        let engine_upto = pending.first().map_or(Revision { main: i64::MAX, sub: 0 }, |block| block.first);
        let mut visit_block = |events: history::Events<'_>| {
            for event in events {
                let event = event?;
                if event.revision >= from && visit(&event).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Ok::<_, BadBlock>(ControlFlow::Continue(()))
        };
        let mut ended = Ok(ControlFlow::Continue(()));
        if from < engine_upto {
            let scanned = self.engine.scan(from, &mut |key, stored| {
                if key >= engine_upto {
                    return ControlFlow::Break(());
                }
                ended = history::unseal(stored).and_then(&mut visit_block);
                if matches!(ended, Ok(ControlFlow::Continue(()))) {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                }
            });
            scanned.map_err(|_| self.unreadable())?;
        }
        for block in pending {
            if ended.map_err(|_| self.unreadable())?.is_break() {
                break;
            }
            ended = visit_block(block.events());
        }
        ended.map(|_| ()).map_err(|_| self.unreadable())
    }

    /// A digest of the key history between the compacted revision and `revision` (0 for the newest): equal on members
    /// that applied the same commands, wherever their compaction and their engines stand.
    ///
    /// # Errors
    /// A revision that cannot be read, or `Unreadable`.
    pub fn hash(&self, revision: i64) -> Result<HistoryHash, Refusal> {
        let revision = self.readable(revision)?;
        let mut hash = crc32c::crc32c(&self.compacted.to_le_bytes());
        let mut bytes = Vec::new();
        self.scan_history(Revision::default(), &mut |event| {
            if event.revision.main > revision {
                return ControlFlow::Break(());
            }
            if self.index.survives(event.key, event.revision, self.compacted) {
                bytes.clear();
                event.encode(&mut bytes);
                hash = crc32c::crc32c_append(hash, &bytes);
            }
            ControlFlow::Continue(())
        })?;
        Ok(HistoryHash { hash, revision, compacted_revision: self.compacted })
    }

    /// What the store takes up.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        let (database_bytes, database_bytes_in_use) = self.engine.size();
        Sizes {
            database_bytes,
            database_bytes_in_use,
            keys: self.index.keys(),
            versions: self.index.versions(),
            resident_value_bytes: self.resident_bytes,
            backlog_bytes: self.backlog.bytes(),
            watches: self.watchers.count(),
        }
    }

    /// Ends the batch and waits until everything that was applied is durable.
    ///
    /// # Errors
    /// The engine has failed.
    pub fn flush(&mut self) -> Result<(), EngineError> {
        self.end_batch();
        self.backlog.flush()?;
        self.evict(self.revision);
        Ok(())
    }

    /// What the engine can no longer do, if there is something: write, or give back what it was given. The owner must
    /// stop before it lies.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        let unreadable = || "stored history cannot be read".to_owned();
        self.backlog.failure().map(|error| error.to_string()).or_else(|| self.is_broken().then(unreadable))
    }

    /// Makes everything durable and stops the background thread. Dropping the store stops the thread without that.
    ///
    /// # Errors
    /// The engine has failed.
    pub fn close(mut self) -> Result<(), EngineError> {
        self.flush()
    }
}

/// What a command did.
#[derive(Clone, Debug, PartialEq)]
pub enum Applied {
    /// To a put.
    Put(PutResponse),
    /// To a deletion.
    DeleteRange(DeleteRangeResponse),
    /// To a transaction.
    Txn(TxnResponse),
    /// To a compaction. With `physical` set the server waits while [`Store::is_compacting`].
    Compact(CompactionResponse),
    /// The fact is remembered.
    SetAttribute,
}

/// A digest of key history.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HistoryHash {
    /// The digest.
    pub hash: u32,
    /// Up to where.
    pub revision: i64,
    /// From where.
    pub compacted_revision: i64,
}

/// What the store takes up.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sizes {
    /// The engine's file, in bytes.
    pub database_bytes: u64,
    /// Of these in use.
    pub database_bytes_in_use: u64,
    /// Keys that have a version in memory, deleted ones that are not compacted yet included.
    pub keys: usize,
    /// Versions of keys in memory.
    pub versions: usize,
    /// Values in memory, in bytes.
    pub resident_value_bytes: usize,
    /// What waits for the engine, in bytes.
    pub backlog_bytes: usize,
    /// Watches of all streams.
    pub watches: usize,
}
