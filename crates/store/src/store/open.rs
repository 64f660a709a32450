//! How a store is opened: what is not history is read, and the index made anew from history.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

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
use crate::mvcc::reader::Moment;
use crate::mvcc::recent::Recent;
use crate::mvcc::revision::Revision;
use crate::quota::Quotas;
use crate::records::{self, Standing};
use crate::watch::hub::Watchers;

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
            backlog: Backlog::new(Arc::clone(&engine), standing, options.backlog_bytes_max, Arc::clone(&measures)),
            measures,
            engine,
            options,
        };
        store.load(standing)?;
        Ok(store)
    }

    /// Makes the index from history.
    fn load(&mut self, standing: Standing) -> Result<(), OpenError> {
        let engine = self.engine.view()?;
        let mut damage = None;
        let mut last = Revision::default();
        engine.scan(last, &mut |key, stored| {
            self.backlog.found(stored.len());
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
            self.now.recent.evict(self.options.value_cache_bytes, standing.revision);
            match loaded {
                Ok(()) => ControlFlow::Continue(()),
                Err(bad) => {
                    damage = Some(OpenError::Damaged(Damage::Block { key, bad }));
                    ControlFlow::Break(())
                }
            }
        })?;
        self.now.recent.close();
        damage.map_or(Ok(()), Err)
    }

    fn load_event(&mut self, event: &Event<'_>) {
        let version = match event.put {
            Some(put) => Version::put(event.revision, put.create, put.version, put.lease, put.value.len()),
            None => Version::deletion(event.revision),
        };
        let mut before = None;
        self.now.index.push(event.key, |last| {
            before = last.copied();
            version
        });
        self.leases.attach(event.key, before.map_or(0, |before| before.lease), version.lease);
        if !self.quotas.is_empty() {
            self.quotas.count(event.key, before, &version);
        }
        self.now.recent.push(event);
    }
}
