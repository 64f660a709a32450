//! How a store is opened: what is not history is read, the index as it was saved last, and what history has behind that.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::compaction::Walk;
use super::{Options, Store};
use crate::alarms::Alarms;
use crate::auth::Auth;
use crate::backlog::Backlog;
use crate::damage::{BadBlock, Damage};
use crate::engine::redb::RedbEngine;
use crate::engine::{Engine, OpenError};
use crate::figures::Measures;
use crate::lease::Leases;
use crate::mvcc::history::{self, Event};
use crate::mvcc::key_index::{KeyIndex, Version};
use crate::mvcc::key_range::KeyRange;
use crate::mvcc::reader::Moment;
use crate::mvcc::recent::Recent;
use crate::mvcc::revision::Revision;
use crate::quota::Quotas;
use crate::records::{self, Standing};
use crate::saved_index::{self, SavedIndex};
use crate::watch::hub::Watchers;

impl Store {
    /// Opens the store in `dir`, which is made if need be, at the position that is durable there. The caller then
    /// applies its log from there on.
    ///
    /// # Errors
    /// The directory cannot be used, or what is in it is damaged.
    pub fn open(dir: &Path, options: Options) -> Result<Self, OpenError> {
        // The engine checks all of its file meanwhile.
        let (engine, saved) = std::thread::scope(|scope| {
            let saved = scope.spawn(|| saved_index::read(&mut *RedbEngine::saved_beside_in(dir)?));
            let engine = RedbEngine::open(dir, options.engine_cache_bytes);
            // A panic has been reported by its own hook, and history has all there is.
            (engine, saved.join().ok().flatten())
        });
        let mut store = Self::open_with(Arc::new(engine?), saved, options, Arc::default())?;
        store.begin_writing()?;
        Ok(store)
    }

    /// Opens the store on an engine of the caller's choice, with a background thread.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_on(engine: Arc<dyn Engine>, options: Options) -> Result<Self, OpenError> {
        let mut store = Self::open_still(engine, options)?;
        store.begin_writing()?;
        Ok(store)
    }

    pub(super) fn begin_writing(&mut self) -> Result<(), OpenError> {
        self.backlog.spawn(self.options.commit_interval).map_err(OpenError::Io)
    }

    /// Opens the store without a background thread: only [`Store::flush`] makes something durable, when it is called.
    /// For simulations, which decide themselves when that is, and for measurements.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_still(engine: Arc<dyn Engine>, options: Options) -> Result<Self, OpenError> {
        Self::open_measured(engine, options, Arc::default())
    }

    pub(super) fn open_measured(
        engine: Arc<dyn Engine>,
        options: Options,
        measures: Arc<Measures>,
    ) -> Result<Self, OpenError> {
        let saved = engine.saved_beside().and_then(|mut saved| saved_index::read(&mut *saved));
        Self::open_with(engine, saved, options, measures)
    }

    fn open_with(
        engine: Arc<dyn Engine>,
        saved: Option<SavedIndex>,
        options: Options,
        measures: Arc<Measures>,
    ) -> Result<Self, OpenError> {
        let found = records::read(engine.view()?.records()?).map_err(|bad| OpenError::Damaged(Damage::Record(bad)))?;
        let standing = found.standing.unwrap_or(Standing::EMPTY);
        let now = Moment {
            index: KeyIndex::default(),
            recent: Recent::default(),
            revision: standing.revision,
            compacted: standing.compacted,
        };
        let auth = Auth::load(found.auth, found.users, found.roles);
        let auth = Arc::new(auth.map_err(|bad| OpenError::Damaged(Damage::Record(bad)))?);
        let attributes: BTreeMap<_, _> = found.attributes.into_iter().collect();
        let mut store = Self {
            now,
            leases: Leases::load(standing.position.index, found.lease_time, &found.leases),
            alarms: Alarms::of(attributes.iter()),
            quotas: Quotas::load(found.quotas),
            auth: Arc::clone(&auth),
            attributes,
            applied: standing.position,
            batch: Vec::new(),
            records: Vec::new(),
            // History may hold what was compacted and not taken out before the store was closed.
            walk: (standing.compacted > 0).then(|| Walk::new(standing.compacted)),
            sweep: None,
            broken: Arc::default(),
            watchers: Arc::new(Watchers::starting_at(standing.revision, auth, Arc::clone(&measures))),
            backlog: Backlog::new(Arc::clone(&engine), standing, &options, Arc::clone(&measures)),
            measures,
            engine,
            options,
        };
        let from = store.take_saved(saved, standing)?;
        store.load(standing, from)?;
        store.attach_keys();
        Ok(store)
    }

    /// Takes over an index that was saved, if it is of this history, and says behind which revision history goes on.
    fn take_saved(&mut self, saved: Option<SavedIndex>, standing: Standing) -> Result<Loaded, OpenError> {
        let Some(SavedIndex { header, index, bytes }) = saved else { return Ok(Loaded::default()) };
        // One that is ahead was saved before the engine's file was put back to an earlier one.
        let is_ahead = header.position.index > standing.position.index || header.revision > standing.revision;
        if header.identity != self.engine.identity() || is_ahead {
            // It must not be taken for one that is behind once history has grown.
            self.engine.forget_beside().map_err(OpenError::Io)?;
            return Ok(Loaded::default());
        }
        self.now.index = index;
        self.backlog.found_index(bytes, header.stored_bytes);
        Ok(Loaded { revision: header.revision, counted: header.counted })
    }

    /// Completes the index from history behind what is loaded.
    fn load(&mut self, standing: Standing, loaded: Loaded) -> Result<(), OpenError> {
        let engine = self.engine.view()?;
        let mut damage = None;
        let mut last = Revision::last_of(loaded.revision);
        let mut events_read = 0;
        engine.scan(last, &mut |key, stored| {
            if key.main > loaded.counted {
                self.backlog.found(stored.len());
            }
            let added = history::unseal(stored).and_then(|events| {
                for event in events {
                    let event = event?;
                    if event.revision.main <= loaded.revision {
                        continue;
                    }
                    if event.revision <= last || event.revision.main > standing.revision {
                        return Err(BadBlock::OutOfOrder(event.revision));
                    }
                    last = event.revision;
                    events_read += 1;
                    self.load_event(&event);
                }
                Ok(())
            });
            self.now.recent.evict(self.options.value_cache_bytes, standing.revision);
            match added {
                Ok(()) => ControlFlow::Continue(()),
                Err(bad) => {
                    damage = Some(OpenError::Damaged(Damage::Block { key, bad }));
                    ControlFlow::Break(())
                }
            }
        })?;
        self.now.recent.close();
        self.measures.loaded(events_read);
        damage.map_or(Ok(()), Err)
    }

    fn load_event(&mut self, event: &Event<'_>) {
        let version = match event.put {
            Some(put) => Version::put(event.revision, put.create, put.version, put.lease, put.value.len()),
            None => Version::deletion(event.revision),
        };
        self.now.index.push(event.key, |_| version);
        self.now.recent.push(event);
    }

    /// Puts keys on their leases, and counts them where there is a quota.
    fn attach_keys(&mut self) {
        let Self { now, leases, quotas, .. } = self;
        if leases.len() == 0 && quotas.is_empty() {
            return;
        }
        let everything = KeyRange::From { start: Bytes::new() };
        for (key, version) in now.index.range_at(&everything, i64::MAX) {
            leases.attach(key, 0, version.lease);
            quotas.count(key, None, version);
        }
    }
}

/// Of what the index is, before history is read.
#[derive(Clone, Copy, Default)]
struct Loaded {
    /// All events up to here are in it.
    revision: i64,
    /// The blocks are counted whose keys are not above this.
    counted: i64,
}
