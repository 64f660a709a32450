//! Reading the state of the keys: the store's own, or that of a view.
//!
//! Owns the way to a value and to history, wherever they are: in memory, or in the engine behind. Every read of the crate
//! goes through here, so that a view answers as the store did. Must not change anything.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use vlot_proto::mvccpb::KeyValue;

use crate::backlog::Backlog;
use crate::damage::BadBlock;
use crate::engine::{EngineError, EngineView};
use crate::figures::Measures;
use crate::mvcc::history::{self, Block, Event};
use crate::mvcc::key_index::{KeyIndex, Version};
use crate::mvcc::recent::Recent;
use crate::mvcc::revision::Revision;
use crate::refusal::Refusal;

/// The state of the keys at one moment. A clone costs nothing but a copy of what is changed while it lives.
///
/// Each event is in `recent`, or is durable, or was given up by a compaction.
#[derive(Clone, Debug)]
pub(crate) struct Moment {
    pub index: KeyIndex,
    pub recent: Recent,
    pub revision: i64,
    pub compacted: i64,
}

/// The engine that has what is not in memory.
#[derive(Clone, Copy)]
pub(crate) enum Behind<'a> {
    /// As it is now, for the store.
    Now(&'a Backlog),
    /// As it was at the same moment. None if it could not be read then.
    Held(Option<&'a Arc<dyn EngineView>>),
}

/// The block of the engine that was read last.
#[derive(Debug, Default)]
pub(crate) struct Stored(Option<Block>);

impl Stored {
    fn value(&self, version: &Version) -> Option<&[u8]> {
        value_of(version, self.0.as_ref()?.find(version.revision()))
    }
}

/// Calls `read` with the value of a version that is in the engine. None if the engine does not have it.
pub(crate) fn stored_value<T>(
    engine: &dyn EngineView,
    version: &Version,
    mut read: impl FnMut(&[u8]) -> T,
) -> Option<T> {
    let mut done = None;
    let found = engine.find_event(version.revision(), &mut |block| {
        let event = history::find_stored(block, version.revision()).ok().flatten();
        done = value_of(version, event).map(&mut read);
        done.is_some()
    });
    found.ok().and(done)
}

/// The value of the event that made this version, if that is what it is.
fn value_of<'a>(version: &Version, event: Option<Event<'a>>) -> Option<&'a [u8]> {
    let value = event?.put?.value;
    (value.len() == version.value_bytes as usize).then_some(value)
}

/// The version as clients see it.
pub(super) fn key_value(key: Bytes, version: &Version, value: Bytes) -> KeyValue {
    KeyValue {
        key,
        create_revision: version.create,
        mod_revision: version.revision().main,
        version: version.count,
        value,
        lease: version.lease,
    }
}

/// Borrows what reads need.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a> {
    pub moment: &'a Moment,
    pub behind: Behind<'a>,
    /// Set when the engine cannot give back what it was given.
    pub broken: &'a Arc<AtomicBool>,
    pub measures: &'a Measures,
}

impl<'a> Reader<'a> {
    pub fn revision(&self) -> i64 {
        self.moment.revision
    }

    pub fn compacted(&self) -> i64 {
        self.moment.compacted
    }

    pub fn index(&self) -> &'a KeyIndex {
        &self.moment.index
    }

    /// The revision to read at: zero and negative ones mean the newest.
    pub fn readable(&self, revision: i64) -> Result<i64, Refusal> {
        let Moment { revision: newest, compacted: oldest, .. } = *self.moment;
        match revision {
            ..=0 => Ok(newest),
            future if future > newest => Err(Refusal::FutureRevision { newest }),
            old if old < oldest => Err(Refusal::Compacted { oldest }),
            readable => Ok(readable),
        }
    }

    /// The version as clients see it.
    pub fn key_value(&self, key: Bytes, version: &Version) -> Result<KeyValue, Refusal> {
        let value = self.value(version)?;
        Ok(key_value(key, version, value))
    }

    /// Whether reading the value of a version does not ask the engine.
    pub fn has_in_memory(&self, version: &Version) -> bool {
        version.value_bytes == 0 || self.moment.recent.holds(version.revision())
    }

    /// The value of a version that the index gave, from wherever it is.
    pub fn value(&self, version: &Version) -> Result<Bytes, Refusal> {
        match self.value_in_memory(version) {
            Some(value) => Ok(value),
            None => self.with_stored_value(version, Bytes::copy_from_slice),
        }
    }

    /// The value of a version that the index gave, if reading it does not ask the engine.
    pub fn value_in_memory(&self, version: &Version) -> Option<Bytes> {
        if version.value_bytes == 0 {
            return Some(Bytes::new());
        }
        self.moment.recent.value(version.revision())
    }

    /// Calls `read` with the value of a version that the index gave.
    pub fn with_value<T>(&self, version: &Version, mut read: impl FnMut(&[u8]) -> T) -> Result<T, Refusal> {
        if version.value_bytes == 0 {
            return Ok(read(&[]));
        }
        match self.moment.recent.with_value(version.revision(), &mut read) {
            Some(done) => Ok(done),
            None => self.with_stored_value(version, read),
        }
    }

    /// What is not in memory is durable, and compaction takes nothing out of the engine that the index still has.
    fn with_stored_value<T>(&self, version: &Version, read: impl FnMut(&[u8]) -> T) -> Result<T, Refusal> {
        let engine = self.engine().map_err(|_| self.unreadable())?;
        stored_value(&*engine, version, read).ok_or_else(|| self.unreadable())
    }

    /// As [`Reader::with_value`], for many values in a row: those that were written together are read together.
    pub fn with_value_near<T>(
        &self,
        version: &Version,
        last: &mut Stored,
        mut read: impl FnMut(&[u8]) -> T,
    ) -> Result<T, Refusal> {
        if version.value_bytes == 0 {
            return Ok(read(&[]));
        }
        if let Some(done) = self.moment.recent.with_value(version.revision(), &mut read) {
            return Ok(done);
        }
        if let Some(value) = last.value(version) {
            return Ok(read(value));
        }
        *last = self.stored_at(version.revision()).ok_or_else(|| self.unreadable())?;
        last.value(version).map(read).ok_or_else(|| self.unreadable())
    }

    fn stored_at(&self, revision: Revision) -> Option<Stored> {
        let (_, block) = self.engine().ok()?.block_at(revision).ok()??;
        Some(Stored(Some(Block::unsealed(block).ok()?)))
    }

    /// The engine as it was at this moment, or as it is now.
    pub fn engine(&self) -> Result<Arc<dyn EngineView>, EngineError> {
        match self.behind {
            Behind::Now(backlog) => backlog.engine_view(),
            Behind::Held(view) => {
                view.cloned().ok_or_else(|| EngineError::Failed("it could not be read when the view was taken".into()))
            }
        }
    }

    pub fn unreadable(&self) -> Refusal {
        self.broken.store(true, Ordering::Relaxed);
        Refusal::Unreadable
    }

    /// What the key was before a revision, which is readable.
    fn version_before(&self, key: &[u8], revision: Revision) -> Option<&'a Version> {
        let before = revision.main - 1;
        if before < self.compacted() {
            return None;
        }
        self.index().at(key, before)
    }

    /// What the key was before a revision; nothing if it did not exist, or if that has been compacted.
    pub fn previous(&self, key: &[u8], revision: Revision) -> Result<Option<KeyValue>, Refusal> {
        let version = self.version_before(key, revision);
        version.map(|version| self.key_value(Bytes::copy_from_slice(key), version)).transpose()
    }

    /// Whether [`Reader::previous`] does not ask the engine.
    pub fn has_previous_in_memory(&self, key: &[u8], revision: Revision) -> bool {
        self.version_before(key, revision).is_none_or(|version| self.has_in_memory(version))
    }

    /// Visits history from a revision on, oldest first: from the engine what is not in memory, then what is. What
    /// compaction gave up may still be among it.
    pub fn scan_history(
        &self,
        from: Revision,
        visit: &mut dyn FnMut(&Event<'_>) -> ControlFlow<()>,
    ) -> Result<(), Refusal> {
        let Some(first_recent) = self.moment.recent.first() else {
            return self.scan_engine(from, Revision::MAX, visit).map(|_| ());
        };
        if from < first_recent && self.scan_engine(from, first_recent, visit)?.is_break() {
            return Ok(());
        }
        for block in self.moment.recent.blocks_from(from) {
            for event in block.events() {
                let event = event.map_err(|_| self.unreadable())?;
                if event.revision >= from && visit(&event).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Visits what the engine has from `from` up to but without `upto`, and says whether it is to go on behind that.
    fn scan_engine(
        &self,
        from: Revision,
        upto: Revision,
        visit: &mut dyn FnMut(&Event<'_>) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Refusal> {
        let mut flow = ControlFlow::Continue(());
        let mut visit_block = |stored: &[u8]| {
            for event in history::unseal(stored)? {
                let event = event?;
                if event.revision >= upto {
                    // A block of the engine may reach into what is in memory.
                    return Ok(ControlFlow::Break(()));
                }
                if event.revision >= from && visit(&event).is_break() {
                    flow = ControlFlow::Break(());
                    return Ok(flow);
                }
            }
            Ok::<_, BadBlock>(ControlFlow::Continue(()))
        };
        let mut visited = Ok(ControlFlow::Continue(()));
        let scanned = self.engine().and_then(|engine| {
            engine.scan(from, &mut |_, stored| {
                visited = visit_block(stored);
                visited.unwrap_or(ControlFlow::Break(()))
            })
        });
        scanned.map_err(|_| self.unreadable())?;
        visited.map_err(|_| self.unreadable()).map(|_| flow)
    }
}
