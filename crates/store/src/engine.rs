//! What the store asks of the engine behind it.
//!
//! An engine keeps blocks of history, ordered by their first revision, and a few small records beside them. It knows
//! neither events nor what the records say. The background thread alone writes; any thread reads, through
//! a view of one moment.

use std::fmt;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::sync::Arc;

use crate::damage::Damage;
use crate::mvcc::revision::Revision;

mod known_blocks;
pub mod memory;
pub mod redb;

/// Keeps history where a crash does not reach it.
pub trait Engine: Send + Sync {
    /// Does all of it or none, and returns once it is durable.
    ///
    /// # Errors
    /// It may or may not have been done; the engine must not be written to again.
    fn write(&self, batch: &WriteBatch) -> Result<(), EngineError>;

    /// Whether a batch of so many bytes finds room where it would be written. Asked before each write, since one that
    /// fails for want of room is as final as any other.
    fn has_room_for(&self, bytes: usize) -> bool;

    /// Bytes that the engine takes up.
    fn size(&self) -> u64;

    /// Bytes of its pages that it keeps in memory.
    fn cached_bytes(&self) -> usize;

    /// Gives back the space that is not in use, if there is room to do so: what is durable is the same before and after, also
    /// in a crash. Not called while it is written to. Calls `rest` between its pieces.
    ///
    /// # Errors
    /// It may or may not have been done; the engine must not be written to again.
    fn defragment(&self, rest: &mut dyn FnMut()) -> Result<(), EngineError>;

    /// Gives back the space of files that were replaced, as far as nobody reads them any more. Calls `rest` between its pieces.
    fn free_replaced(&self, rest: &mut dyn FnMut());

    /// What is durable at this moment, for as long as the view lives. Space that is freed meanwhile is not used again
    /// before it is dropped.
    ///
    /// # Errors
    /// The engine cannot be read.
    fn view(&self) -> Result<Arc<dyn EngineView>, EngineError>;

    /// How many views are held at this moment, as far as that costs next to nothing to tell.
    fn views(&self) -> usize;

    /// What names this history: no other engine has it, nor has one that took this one's place.
    fn identity(&self) -> [u8; 16];

    /// Keeps beside history what `write` writes, in the place of what was kept so before: durably, and in one step. It can
    /// be made again from history, and is no part of it.
    ///
    /// # Errors
    /// What was kept before is kept, or nothing is.
    fn save_beside(&self, write: &mut Save<'_>) -> io::Result<()>;

    /// What was kept so last.
    fn saved_beside(&self) -> Option<Box<dyn Read>>;

    /// Keeps it no longer: durably, before this returns.
    ///
    /// # Errors
    /// It may still be kept.
    fn forget_beside(&self) -> io::Result<()>;

    /// Begins another engine, empty and out of sight, that can take the place of this one.
    ///
    /// # Errors
    /// There is no place for it.
    fn successor(&self) -> Result<Box<dyn Successor>, EngineError>;
}

/// An engine as it was at one moment.
pub trait EngineView: Send + Sync {
    /// Calls `read` with the block with the greatest key at or below this revision, and its key, if there is one.
    ///
    /// # Errors
    /// The engine cannot be read.
    fn read_block_at(&self, revision: Revision, read: &mut ReadBlock<'_>) -> Result<(), EngineError>;

    /// Calls `find` with the block that has the event of this revision, if there is one, and maybe with another before it. `find`
    /// says whether it has found the event.
    ///
    /// # Errors
    /// The engine cannot be read.
    fn find_event(&self, revision: Revision, find: &mut FindEvent<'_>) -> Result<(), EngineError> {
        self.read_block_at(revision, &mut |_, block| {
            find(block);
        })
    }

    /// What [`EngineView::read_block_at`] reads, to be kept.
    ///
    /// # Errors
    /// The engine cannot be read.
    fn block_at(&self, revision: Revision) -> Result<Option<(Revision, Vec<u8>)>, EngineError> {
        let mut found = None;
        self.read_block_at(revision, &mut |key, block| found = Some((key, block.to_vec())))?;
        Ok(found)
    }

    /// Visits the blocks in order, from the one that [`EngineView::block_at`] gives for `from`, until `visit` breaks.
    /// `visit` may read the view too.
    ///
    /// # Errors
    /// The engine cannot be read.
    fn scan(&self, from: Revision, visit: &mut Visit<'_>) -> Result<(), EngineError>;

    /// All records, ordered by name.
    ///
    /// # Errors
    /// The engine cannot be read.
    fn records(&self) -> Result<Vec<Record>, EngineError>;
}

/// An engine that is being filled. Dropping it leaves the present one as it is.
pub trait Successor {
    /// Adds to it. Need not be durable when it returns.
    ///
    /// # Errors
    /// It must be dropped.
    fn write(&mut self, batch: &WriteBatch) -> Result<(), EngineError>;

    /// Takes the place of the present engine, which must not be written to any more: durably, and in one step that a
    /// crash leaves done or not done.
    ///
    /// # Errors
    /// Nothing, or all of it, has happened; only opening it again tells.
    fn take_over(self: Box<Self>) -> Result<Arc<dyn Engine>, EngineError>;
}

/// Called with a block's key and its bytes.
pub type ReadBlock<'a> = dyn FnMut(Revision, &[u8]) + 'a;

/// Called with a block's bytes.
pub type FindEvent<'a> = dyn FnMut(&[u8]) -> bool + 'a;

/// Called with a block's key and its bytes, for one block after the other.
pub type Visit<'a> = dyn FnMut(Revision, &[u8]) -> ControlFlow<()> + 'a;

/// Writes what is kept beside history.
pub type Save<'a> = dyn FnMut(&mut dyn Write) -> io::Result<()> + 'a;

/// A small named value beside the blocks.
pub type Record = (Vec<u8>, Vec<u8>);

/// What one transaction changes.
#[derive(Clone, Debug, Default)]
pub struct WriteBatch {
    /// Blocks to write, new ones or in place of old ones, by their first revision.
    pub blocks: Vec<(Revision, Vec<u8>)>,
    /// Blocks to remove.
    pub removed: Vec<Revision>,
    /// Records to write; an empty value removes the record.
    pub records: Vec<Record>,
}

/// Why an engine failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum EngineError {
    /// There is no room for what waits to be written. It may be tried again.
    NoRoom,
    /// Reading or writing failed, in the engine's own words.
    Failed(String),
    /// What was stored is not what is read.
    Damaged(Damage),
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoom => write!(f, "there is no room for what waits to be written"),
            Self::Failed(why) => write!(f, "the engine failed: {why}"),
            Self::Damaged(what) => write!(f, "stored history is damaged: {what}"),
        }
    }
}

impl std::error::Error for EngineError {}

/// Why a store cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The directory or the file cannot be used.
    Io(io::Error),
    /// What is there is not a store, or is damaged.
    Damaged(Damage),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the store cannot be opened: {error}"),
            Self::Damaged(what) => write!(f, "the store is damaged: {what}"),
        }
    }
}

impl std::error::Error for OpenError {}

impl From<EngineError> for OpenError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Damaged(damage) => Self::Damaged(damage),
            EngineError::Failed(why) => Self::Damaged(Damage::Engine(why)),
            EngineError::NoRoom => Self::Io(io::ErrorKind::StorageFull.into()),
        }
    }
}
