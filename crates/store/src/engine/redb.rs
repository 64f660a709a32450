//! History in a file of redb's: one tree of blocks, one of records, and one with what names it. Another file beside it, with what
//! can be made again from history.

mod file;
mod replaced;

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, BufReader, Read, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, Weak};

use redb::{
    Database, DatabaseError, Durability, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, StorageError,
    TableDefinition,
};
use rustix::fs::statvfs;

pub use file::disk_waits_of_this_thread;

use file::WatchedFile;
use replaced::{InUse, Replaced};

use super::known_blocks::KnownBlocks;
use super::{
    Engine, EngineError, EngineView, FindEvent, OpenError, ReadBlock, Record, Save, Successor, Visit, WriteBatch,
};
use crate::damage::Damage;
use crate::mvcc::revision::Revision;

/// First revision (main u64, sub u32, both big-endian, so that bytes order as revisions do) to sealed block.
const BLOCKS: TableDefinition<'_, [u8; 12], &[u8]> = TableDefinition::new("blocks");
const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");

/// What names the history, under an empty name.
const IDENTITY: TableDefinition<'_, &[u8], [u8; 16]> = TableDefinition::new("identity");

/// How much of the file system must be free at least before anything is written.
const ROOM_BYTES: u64 = 4 << 20;

const FILE_NAME: &str = "history.redb";
/// A file that is being filled to take the place of the other.
const NEXT_NAME: &str = "history.redb.next";

/// What is kept beside history, and what is being written to take its place.
const BESIDE_NAME: &str = "index";
const BESIDE_NEXT_NAME: &str = "index.next";
/// What is kept beside history is made durable in pieces, for the same reason as below.
const SYNCED_BYTES: usize = 512 << 10;

/// How much is copied in one transaction: what a disk is asked to keep at once, everyone else's writes wait for.
const COPIED_BYTES: usize = 512 << 10;

/// An engine on one file.
#[derive(Debug)]
pub struct RedbEngine {
    now: RwLock<Now>,
    dir: PathBuf,
    cache_bytes: usize,
    identity: [u8; 16],
    known: Arc<KnownBlocks>,
    replaced: Replaced,
}

/// The file at this moment: it is replaced when it is written anew.
#[derive(Debug)]
struct Now {
    database: Arc<Database>,
    file: File,
    /// Held by the database for as long as it may use the file.
    in_use: Weak<()>,
}

impl RedbEngine {
    /// Opens the file in `dir`, or makes both.
    ///
    /// # Errors
    /// They cannot be used, or the file is damaged.
    pub fn open(dir: &Path, cache_bytes: usize) -> Result<Self, OpenError> {
        std::fs::create_dir_all(dir).map_err(OpenError::Io)?;
        for left in [NEXT_NAME, BESIDE_NEXT_NAME] {
            remove(dir, left).map_err(OpenError::Io)?;
        }
        if dir.join(FILE_NAME).exists() {
            return Self::open_file(dir, FILE_NAME, cache_bytes, new_identity());
        }
        // A file that a crash left half made could not be told from a damaged one.
        let engine = Self::open_file(dir, NEXT_NAME, cache_bytes, new_identity())?;
        engine.take_place().map_err(OpenError::Io)?;
        Ok(engine)
    }

    /// What is kept beside history in `dir`, whether or not there is an engine there. May be read before the engine is open.
    #[must_use]
    pub fn saved_beside_in(dir: &Path) -> Option<Box<dyn Read>> {
        let file = File::open(dir.join(BESIDE_NAME)).ok()?;
        Some(Box::new(BufReader::new(file)))
    }

    /// `identity` is for a history that has none.
    fn open_file(dir: &Path, name: &str, cache_bytes: usize, identity: [u8; 16]) -> Result<Self, OpenError> {
        let path = dir.join(name);
        let mut builder = Database::builder();
        builder.set_cache_size(cache_bytes);
        // A plain open trusts the file, and may panic on one that was altered. All of it is read at this time anyway.
        builder.set_check_integrity_on_open(true);
        let held = InUse::default();
        let in_use = Arc::downgrade(&held);
        let database =
            WatchedFile::open(&path, held).and_then(|file| builder.create_with_backend(file)).map_err(open_error)?;
        let file = File::open(&path).map_err(OpenError::Io)?;
        let now = RwLock::new(Now { database: Arc::new(database), file, in_use });
        let (known, replaced) = (Arc::default(), Replaced::default());
        let mut engine = Self { now, dir: dir.to_owned(), cache_bytes, identity, known, replaced };
        engine.begin().map_err(OpenError::from)?;
        Ok(engine)
    }

    /// Makes what is missing. All tables exist from the start, so that readers need not tell an empty store from a damaged
    /// one.
    fn begin(&mut self) -> Result<(), EngineError> {
        let transaction = self.database().begin_write().map_err(failed)?;
        {
            transaction.open_table(BLOCKS).map_err(failed)?;
            transaction.open_table(RECORDS).map_err(failed)?;
            let mut identity = transaction.open_table(IDENTITY).map_err(failed)?;
            let known = identity.get(&[][..]).map_err(failed)?.map(|known| known.value());
            match known {
                Some(known) => self.identity = known,
                None => drop(identity.insert(&[][..], self.identity).map_err(failed)?),
            }
        }
        transaction.commit().map_err(failed)
    }

    /// Gives a file that was made beside it the name of the present one: durably, in one step.
    fn take_place(&self) -> io::Result<()> {
        std::fs::rename(self.dir.join(NEXT_NAME), self.dir.join(FILE_NAME))?;
        sync(&self.dir)
    }

    fn now(&self) -> RwLockReadGuard<'_, Now> {
        // Only moves of whole values happen under the lock.
        self.now.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn database(&self) -> Arc<Database> {
        Arc::clone(&self.now().database)
    }

    /// All that is durable, in a file of its own. None if there is no room for it.
    fn copy(&self, rest: &mut dyn FnMut()) -> Result<Option<Self>, EngineError> {
        let (mut used, mut looked_at) = (0, 0);
        let view = self.view()?;
        view.scan(Revision::default(), &mut |_, block| {
            used += block.len();
            if used - looked_at >= COPIED_BYTES {
                looked_at = used;
                rest();
            }
            ControlFlow::Continue(())
        })?;
        // Pages are as long as a power of two.
        if !self.has_room_for(used) {
            return Ok(None);
        }
        remove(&self.dir, NEXT_NAME).map_err(|error| EngineError::Failed(error.to_string()))?;
        // It is the same history.
        let next = Self::open_file(&self.dir, NEXT_NAME, self.cache_bytes, self.identity);
        let next = next.map_err(|error| EngineError::Failed(error.to_string()))?;
        let mut batch = WriteBatch { records: view.records()?, ..WriteBatch::default() };
        let (mut bytes, mut written) = (0, Ok(()));
        view.scan(Revision::default(), &mut |key, block| {
            bytes += block.len();
            batch.blocks.push((key, block.to_vec()));
            if bytes < COPIED_BYTES {
                return ControlFlow::Continue(());
            }
            bytes = 0;
            written = next.write(&std::mem::take(&mut batch));
            rest();
            if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        written?;
        next.write(&batch)?;
        Ok(Some(next))
    }

    fn write_with(&self, batch: &WriteBatch, durability: Durability) -> Result<(), EngineError> {
        let mut transaction = self.database().begin_write().map_err(failed)?;
        transaction.set_durability(durability).map_err(failed)?;
        {
            let mut blocks = transaction.open_table(BLOCKS).map_err(failed)?;
            for key in &batch.removed {
                blocks.remove(bytes_of(*key)).map_err(failed)?;
            }
            for (key, block) in &batch.blocks {
                blocks.insert(bytes_of(*key), block.as_slice()).map_err(failed)?;
            }
            let mut records = transaction.open_table(RECORDS).map_err(failed)?;
            for (name, value) in &batch.records {
                if value.is_empty() {
                    records.remove(name.as_slice()).map_err(failed)?;
                } else {
                    records.insert(name.as_slice(), value.as_slice()).map_err(failed)?;
                }
            }
        }
        transaction.commit().map_err(failed)?;
        batch.removed.iter().for_each(|key| self.known.remove(*key));
        batch.blocks.iter().for_each(|(key, _)| self.known.add(*key));
        Ok(())
    }
}

/// Names a history. It need not be unguessable, and no state depends on it.
fn new_identity() -> [u8; 16] {
    let drawn = [RandomState::new(), RandomState::new()].map(|state| state.build_hasher().finish().to_le_bytes());
    let mut identity = [0; 16];
    identity.copy_from_slice(drawn.as_flattened());
    identity
}

fn remove(dir: &Path, name: &str) -> io::Result<()> {
    match std::fs::remove_file(dir.join(name)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all())
}

impl Engine for RedbEngine {
    fn write(&self, batch: &WriteBatch) -> Result<(), EngineError> {
        self.write_with(batch, Durability::Immediate)
    }

    fn has_room_for(&self, bytes: usize) -> bool {
        // A block that is written has the way to it in the tree written again, page by page.
        let wanted = ROOM_BYTES + 2 * bytes as u64;
        let system = statvfs(&self.dir);
        // Where it cannot be told, writing tells.
        system.map_or(true, |system| system.f_bavail.saturating_mul(system.f_frsize) >= wanted)
    }

    fn size(&self) -> u64 {
        self.now().file.metadata().map_or(0, |metadata| metadata.len())
    }

    fn cached_bytes(&self) -> usize {
        self.database().cache_stats().used_bytes()
    }

    fn view(&self) -> Result<Arc<dyn EngineView>, EngineError> {
        let database = self.database();
        let transaction = database.begin_read().map_err(failed)?;
        let blocks = transaction.open_table(BLOCKS).map_err(failed)?;
        let known = Arc::clone(&self.known);
        Ok(Arc::new(Moment { blocks, known, transaction, _database: database }))
    }

    fn defragment(&self, rest: &mut dyn FnMut()) -> Result<(), EngineError> {
        let next = match self.copy(rest) {
            Ok(Some(next)) => next,
            // The file as it is will do, unless it cannot be read.
            Ok(None) | Err(EngineError::Failed(_) | EngineError::NoRoom) => return Ok(()),
            Err(damaged) => return Err(damaged),
        };
        let failed = |error: io::Error| EngineError::Failed(error.to_string());
        let before = Replaced::open(&self.dir.join(FILE_NAME)).map_err(failed)?;
        next.take_place().map_err(failed)?;
        let next = next.now.into_inner().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *self.now.write().unwrap_or_else(PoisonError::into_inner), next);
        self.replaced.add(before, old.in_use);
        Ok(())
    }

    fn free_replaced(&self, rest: &mut dyn FnMut()) {
        self.replaced.free(rest);
    }

    fn views(&self) -> usize {
        // Each view holds the database, and nothing else does but this.
        Arc::strong_count(&self.now().database) - 1
    }

    fn identity(&self) -> [u8; 16] {
        self.identity
    }

    fn save_beside(&self, write: &mut Save<'_>) -> io::Result<()> {
        let path = self.dir.join(BESIDE_NEXT_NAME);
        let mut file = Synced { file: File::create(&path)?, unsynced: 0 };
        let written = write(&mut file).and_then(|()| file.file.sync_all());
        if let Err(error) = written {
            // What is left of it is removed when the store is opened, if it is not now.
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        std::fs::rename(&path, self.dir.join(BESIDE_NAME))?;
        sync(&self.dir)
    }

    fn saved_beside(&self) -> Option<Box<dyn Read>> {
        Self::saved_beside_in(&self.dir)
    }

    fn forget_beside(&self) -> io::Result<()> {
        remove(&self.dir, BESIDE_NAME)?;
        sync(&self.dir)
    }

    fn successor(&self) -> Result<Box<dyn Successor>, EngineError> {
        remove(&self.dir, NEXT_NAME).map_err(|error| EngineError::Failed(error.to_string()))?;
        let next = Self::open_file(&self.dir, NEXT_NAME, self.cache_bytes, new_identity());
        Ok(Box::new(Next(next.map_err(|error| EngineError::Failed(error.to_string()))?)))
    }
}

/// A file that is made durable as it grows.
struct Synced {
    file: File,
    unsynced: usize,
}

impl Write for Synced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.unsynced += written;
        if self.unsynced >= SYNCED_BYTES {
            self.unsynced = 0;
            self.file.sync_data()?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A read transaction, and what it reads from: a database that is dropped closes its file.
struct Moment {
    /// Opened once: to look a table up costs about as much as to look up a block in it.
    blocks: ReadOnlyTable<[u8; 12], &'static [u8]>,
    /// Of the engine as it is now.
    known: Arc<KnownBlocks>,
    transaction: ReadTransaction,
    _database: Arc<Database>,
}

impl EngineView for Moment {
    fn read_block_at(&self, revision: Revision, read: &mut ReadBlock<'_>) -> Result<(), EngineError> {
        let found = self.blocks.range(..=bytes_of(revision)).map_err(failed)?.next_back();
        if let Some((key, block)) = found.transpose().map_err(failed)? {
            read(revision_of(key.value()), block.value());
        }
        Ok(())
    }

    fn find_event(&self, revision: Revision, find: &mut FindEvent<'_>) -> Result<(), EngineError> {
        if let Some(key) = self.known.guess(revision) {
            match self.blocks.get(bytes_of(key)).map_err(failed)? {
                Some(block) if find(block.value()) => return Ok(()),
                Some(_) => {}
                // It is of an earlier or a later moment.
                None => self.known.remove(key),
            }
        }
        self.read_block_at(revision, &mut |key, block| {
            if find(block) {
                self.known.add(key);
            }
        })
    }

    fn scan(&self, from: Revision, visit: &mut Visit<'_>) -> Result<(), EngineError> {
        let blocks = &self.blocks;
        let before = blocks.range(..=bytes_of(from)).map_err(failed)?.next_back().transpose().map_err(failed)?;
        let start = before.map_or(bytes_of(from), |(key, _)| key.value());
        for block in blocks.range(start..).map_err(failed)? {
            let (key, block) = block.map_err(failed)?;
            if let ControlFlow::Break(()) = visit(revision_of(key.value()), block.value()) {
                break;
            }
        }
        Ok(())
    }

    fn records(&self) -> Result<Vec<Record>, EngineError> {
        let records = self.transaction.open_table(RECORDS).map_err(failed)?;
        let all = records.iter().map_err(failed)?;
        all.map(|record| record.map(|(name, value)| (name.value().to_vec(), value.value().to_vec())))
            .collect::<Result<_, _>>()
            .map_err(failed)
    }
}

/// A file that is being filled.
struct Next(RedbEngine);

impl Successor for Next {
    fn write(&mut self, batch: &WriteBatch) -> Result<(), EngineError> {
        self.0.write_with(batch, Durability::None)
    }

    fn take_over(self: Box<Self>) -> Result<Arc<dyn Engine>, EngineError> {
        // A durable transaction makes all before it durable.
        self.0.write(&WriteBatch::default())?;
        self.0.take_place().map_err(|error| EngineError::Failed(error.to_string()))?;
        Ok(Arc::new(self.0))
    }
}

fn bytes_of(revision: Revision) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&(revision.main as u64).to_be_bytes());
    bytes[8..].copy_from_slice(&revision.sub.to_be_bytes());
    bytes
}

fn revision_of(bytes: [u8; 12]) -> Revision {
    let (main, sub) = bytes.split_at(8);
    let main = u64::from_be_bytes(main.try_into().expect("the first eight of twelve bytes"));
    let sub = u32::from_be_bytes(sub.try_into().expect("the last four of twelve bytes"));
    Revision { main: main as i64, sub }
}

fn failed(error: impl Into<redb::Error>) -> EngineError {
    match error.into() {
        error @ redb::Error::Corrupted(_) => EngineError::Damaged(Damage::Engine(error.to_string())),
        error => EngineError::Failed(error.to_string()),
    }
}

fn open_error(error: DatabaseError) -> OpenError {
    match error {
        DatabaseError::Storage(StorageError::Io(error)) => OpenError::Io(error),
        DatabaseError::DatabaseAlreadyOpen => OpenError::Io(io::Error::new(io::ErrorKind::WouldBlock, error)),
        other => OpenError::Damaged(Damage::Engine(other.to_string())),
    }
}
