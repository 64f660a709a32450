//! The store: one value that commands change and requests read.
//!
//! Owns the parts and what moves between them: the index and the values in memory, the batch under way, the backlog
//! towards the engine. How it is opened and compacted is in the files below it, what commands do to keys in `txn.rs`, what
//! reads do in `range.rs`.

mod applied;
mod compaction;
mod open;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use vlot_proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, RangeRequest, RangeResponse, ResponseHeader, TxnRequest, TxnResponse,
};

use crate::alarms::Alarms;
use crate::auth::{Asker, Auth, AuthCommand};
use crate::backlog::Backlog;
use crate::command::Command;
pub use crate::engine::OpenError;
use crate::engine::{Engine, EngineError, Record};
use crate::figures::Measures;
use crate::lease::Leases;
pub use crate::mvcc::hash::HistoryHash;
use crate::mvcc::history::Block;
use crate::mvcc::reader::{Behind, Moment, Reader};
use crate::mvcc::revision::Position;
use crate::mvcc::short::ShortRange;
use crate::mvcc::view::View;
use crate::quota::Quotas;
use crate::records::{self, Standing};
use crate::refusal::Refusal;
use crate::watch::hub::Watchers;
pub use applied::Applied;
use compaction::{Sweep, Walk};

/// How a store behaves. None of it changes what a command does.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many bytes of recent history, values above all, stay in memory beside what is not durable yet; older values
    /// are read from disk.
    pub value_cache_bytes: usize,
    /// How many bytes of its own pages the engine keeps in memory.
    pub engine_cache_bytes: usize,
    /// How many bytes of history come, at least, before the index is saved again, so that a start need not read all of history.
    /// More than that where the index is large: it is not to be a great part of what is written.
    pub index_interval_bytes: u64,
    /// How many bytes may wait for the engine. Beyond it [`Store::end_batch`] blocks until there is room.
    pub backlog_bytes_max: usize,
    /// How long changes are gathered for one synced transaction of the engine; five times as long while they are few.
    pub commit_interval: Duration,
    /// How many bytes of events wait for the owner of a watch stream before its watches fall back to history.
    pub mailbox_bytes_max: usize,
    /// A watch that is behind is served from the index of keys if its range has no more keys than that, whatever else has
    /// happened meanwhile; all others by a pass over history.
    pub few_keys: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            value_cache_bytes: 128 << 20,
            engine_cache_bytes: 16 << 20,
            index_interval_bytes: 64 << 20,
            backlog_bytes_max: 64 << 20,
            commit_interval: Duration::from_millis(200),
            mailbox_bytes_max: 1 << 20,
            few_keys: 1_024,
        }
    }
}

/// etcd's multi-version key-value store.
///
/// `durable ≤ applied`. Everything that is not durable is in memory.
pub struct Store {
    /// The keys as they are.
    pub(crate) now: Moment,
    attributes: BTreeMap<Bytes, Bytes>,
    pub(crate) leases: Leases,
    /// As the attributes say.
    alarms: Alarms,
    pub(crate) quotas: Quotas,
    pub(crate) auth: Arc<Auth>,
    pub(crate) applied: Position,

    /// What the batch under way changed, as far as it is not in the block of `now.recent` that is still open.
    pub(crate) batch: Vec<Arc<Block>>,
    records: Vec<Record>,

    walk: Option<Walk>,
    /// While given-up events are let go from memory.
    sweep: Option<Sweep>,
    /// The engine could not give back what it was given. A command may have stopped half-way because of it.
    broken: Arc<AtomicBool>,

    pub(crate) watchers: Arc<Watchers>,
    pub(crate) measures: Arc<Measures>,
    pub(crate) backlog: Backlog,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) options: Options,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { now: Moment { revision, compacted, .. }, applied, .. } = self;
        write!(f, "Store(revision {revision}, compacted {compacted}, applied {applied})")
    }
}

impl Store {
    pub(crate) fn reader(&self) -> Reader<'_> {
        let Self { now: moment, backlog, broken, measures, .. } = self;
        Reader { moment, behind: Behind::Now(backlog), broken, measures }
    }

    /// The keys as they are at this moment, to be read from any thread for as long as it takes. Holds nothing up: takes
    /// less than a microsecond, but for the first one after a write of the engine.
    #[must_use]
    pub fn view(&self) -> View {
        // If the engine cannot be read this shows when something has to be read from it.
        let engine = self.backlog.engine_view().ok();
        View::new(self.now.clone(), engine, Arc::clone(&self.broken), Arc::clone(&self.measures))
    }

    /// Answers a range request from memory, and from the engine for values that are not in memory.
    ///
    /// # Errors
    /// A revision that cannot be read, an unsound request, or `Unreadable`.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Refusal> {
        self.reader().range(request)
    }

    /// As [`Store::range`] if the answer is a short one: there are at most `keys_max` keys to look at and `bytes_max`
    /// bytes of keys and values to give. Values that are not in memory are read by [`ShortRange::complete`], for which the
    /// store is not needed. Otherwise None, after a bounded piece of work; the answer is then had from a [`View`].
    ///
    /// # Errors
    /// As [`Store::range`].
    pub fn short_range(
        &self,
        request: &RangeRequest,
        keys_max: usize,
        bytes_max: usize,
    ) -> Result<Option<ShortRange>, Refusal> {
        self.reader().short_range(request, keys_max, bytes_max)
    }

    /// Answers a transaction that has only ranges in it (see [`check::is_read_only`](crate::check::is_read_only)).
    ///
    /// # Errors
    /// As [`Store::range`]; `DuplicateKey` for a transaction that would change something.
    pub fn read_txn(&self, request: &TxnRequest) -> Result<TxnResponse, Refusal> {
        self.reader().read_txn(request)
    }

    /// Writes nothing more to the engine. Returns whether a thread did.
    pub(crate) fn stop_writing(&mut self) -> bool {
        let threaded = self.backlog.has_thread();
        self.backlog.stop();
        threaded
    }

    /// Raises the newest revision by so much and compacts at it, so that no client that knows a later state than this one
    /// takes what comes for what it has seen. For a store that was restored and does not belong to a cluster yet.
    pub fn bump_revision(&mut self, by: u64) {
        // A revision that cannot be raised further is far beyond any that a client has seen.
        self.now.revision = self.now.revision.saturating_add_unsigned(by).min(i64::MAX - 1);
        self.now.compacted = self.now.revision;
        self.walk.get_or_insert_with(|| Walk::new(self.now.revision)).compacted = self.now.revision;
        self.watchers.set_applied(self.now.revision);
    }

    /// Becomes the store that another engine holds, which has taken the place of this one's. Watches go on.
    pub(crate) fn become_that_of(&mut self, engine: Arc<dyn Engine>, threaded: bool) -> Result<(), OpenError> {
        let mut next = Self::open_measured(engine, self.options.clone(), Arc::clone(&self.measures))?;
        if threaded {
            next.begin_writing()?;
        }
        next.watchers = Arc::clone(&self.watchers);
        *self = next;
        self.end_refused_watches();
        for mailbox in self.watchers.fall_behind(self.now.revision) {
            mailbox.wake_if(true);
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
        let (asker, command) = match command {
            Command::By { asker, command } => (Some(asker), *command),
            plain => (None, plain),
        };
        let permitted = self.permit(asker.as_ref(), &command);
        let admitted = permitted.and_then(|()| self.alarms.admit(&command));
        let outcome = admitted.and_then(|()| match command {
            Command::Put(request) => self.apply_put(&request).map(Applied::Put),
            Command::DeleteRange(request) => self.apply_delete(&request).map(Applied::DeleteRange),
            Command::Txn(request) => self.apply_txn(&request).map(Applied::Txn),
            Command::Compact(request) => self.apply_compaction(request.revision).map(Applied::Compact),
            Command::SetAttribute { name, value } => {
                self.set_attribute(&name, &value);
                Ok(Applied::SetAttribute)
            }
            Command::LeaseGrant(request) => self.apply_grant(&request).map(Applied::LeaseGrant),
            Command::LeaseRevoke(request) => self.apply_revoke(&request).map(Applied::LeaseRevoke),
            Command::LeaseKeepAlive(ids) => {
                let ttls = match &asker {
                    Some(Asker::Client(caller)) => self.apply_keep_alive_of(caller, &ids)?,
                    _ => self.apply_keep_alive(&ids),
                };
                Ok(Applied::LeaseKeepAlive { revision: self.revision(), ttls })
            }
            Command::LeaseTime(time) => Ok(Applied::LeaseTime { ended: self.apply_time(at, &time) }),
            Command::Alarm(request) => Ok(Applied::Alarm(self.apply_alarm(&request))),
            Command::Auth(change) => self.apply_auth(change),
            Command::SetQuota(request) => self.apply_set_quota(&request).map(Applied::SetQuota),
            Command::RemoveQuota(request) => self.apply_remove_quota(&request).map(Applied::RemoveQuota),
            // What is plain has no asker.
            Command::By { .. } => Err(Refusal::PermissionDenied),
        });
        if outcome != Err(Refusal::Unreadable) {
            self.applied = at;
            self.watchers.set_applied(self.now.revision);
        }
        outcome
    }

    /// Passes over an entry without a command, or with one that is none.
    pub fn skip(&mut self, at: Position) {
        if !self.is_broken() {
            self.applied = at;
        }
    }

    fn apply_alarm(&mut self, request: &AlarmRequest) -> AlarmResponse {
        let (alarms, remembered) = self.alarms.carry_out(request);
        if let Some((name, value)) = remembered {
            self.set_attribute(&name, &value);
        }
        let header = ResponseHeader { revision: self.now.revision, ..Default::default() };
        AlarmResponse { header: Some(header), alarms }
    }

    fn apply_auth(&mut self, change: AuthCommand) -> Result<Applied, Refusal> {
        // What was changed before is told to the watches that may hear of it now.
        self.end_batch();
        let auth = Arc::make_mut(&mut self.auth);
        auth.apply(change)?;
        auth.take_records(&mut self.records);
        self.end_refused_watches();
        Ok(Applied::Auth { revision: self.revision() })
    }

    /// The alarms that are raised.
    #[must_use]
    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// Has a record written with the batch.
    pub(crate) fn remember(&mut self, record: Record) {
        self.records.push(record);
    }

    fn set_attribute(&mut self, name: &[u8], value: &[u8]) {
        self.remember(records::attribute(name, value));
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
        let Moment { revision, compacted, .. } = self.now;
        self.batch.extend(self.now.recent.close());
        let batch = std::mem::take(&mut self.batch);
        self.leases.take_records(&mut self.records);
        let standing = Standing { position: self.applied, revision, compacted };
        let is_index_due = self.backlog.push(&batch, &mut self.records, standing);
        self.publish(&batch);
        self.evict();
        if is_index_due && !self.is_compacting() {
            self.backlog.save_index(self.now.index.clone(), standing);
        }
    }

    /// Lets the oldest events leave memory until the rest is within bounds. None that is not durable yet.
    fn evict(&mut self) {
        let bytes_max = self.options.value_cache_bytes;
        if self.now.recent.bytes() > bytes_max {
            self.now.recent.evict(bytes_max, self.backlog.durable().revision);
        }
    }

    /// The newest revision. An empty store is at 1.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.now.revision
    }

    /// The oldest revision that can be read; -1 if nothing was ever compacted.
    #[must_use]
    pub fn compacted_revision(&self) -> i64 {
        self.now.compacted
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

    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// The digest of the key history between the compacted revision and `revision` (0 for the newest). See
    /// [`View::begin_hash`].
    ///
    /// # Errors
    /// A revision that cannot be read, or `Unreadable`.
    pub fn hash(&self, revision: i64) -> Result<HistoryHash, Refusal> {
        self.reader().hash(revision)
    }

    /// What the store takes up.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        let database_bytes = self.engine.size();
        let stored_bytes = self.stored_bytes();
        Sizes {
            database_bytes,
            database_bytes_in_use: stored_bytes.min(database_bytes),
            stored_bytes,
            keys: self.now.index.keys(),
            versions: self.now.index.versions(),
            resident_value_bytes: self.now.recent.bytes(),
            backlog_bytes: self.backlog.bytes(),
            index_bytes: self.now.index.bytes(),
            engine_cache_bytes: self.engine.cached_bytes(),
            watches: self.watchers.count(),
            leases: self.leases.len(),
        }
    }

    /// What history takes up in the engine, and will once it has what waits for it.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.backlog.stored_bytes()
    }

    /// Has the engine give back the space that it does not use, in the background. If there is no room for that, nothing
    /// happens.
    pub fn defragment(&self) {
        self.backlog.defragment();
    }

    /// Whether so many more bytes of history find room where they would be written.
    #[must_use]
    pub fn has_room_for(&self, bytes: usize) -> bool {
        self.engine.has_room_for(bytes)
    }

    /// Ends the batch and waits until everything that was applied is durable.
    ///
    /// # Errors
    /// The engine has failed.
    pub fn flush(&mut self) -> Result<(), EngineError> {
        self.end_batch();
        self.backlog.flush()?;
        self.evict();
        Ok(())
    }

    /// Why the store can do no more, if it cannot. The owner must stop before it lies.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        self.backlog.failure().map(Failure::Engine).or_else(|| self.is_broken().then_some(Failure::Unreadable))
    }

    /// Makes everything durable and stops the background thread. Dropping the store stops the thread without that.
    ///
    /// # Errors
    /// The engine has failed.
    pub fn close(mut self) -> Result<(), EngineError> {
        self.finish()
    }

    /// As [`Store::flush`], and leaves behind what makes the next start quick. To be called when nothing more comes.
    ///
    /// # Errors
    /// The engine has failed.
    pub fn finish(&mut self) -> Result<(), EngineError> {
        self.flush()?;
        if self.backlog.is_worth_saving() && !self.is_compacting() && !self.is_broken() {
            let Moment { revision, compacted, .. } = self.now;
            let standing = Standing { position: self.applied, revision, compacted };
            self.backlog.save_index(self.now.index.clone(), standing);
        }
        self.backlog.finish_saving();
        Ok(())
    }
}

/// Why a store can do no more.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Failure {
    /// The engine failed while it was written to.
    Engine(EngineError),
    /// The engine could not give back what it was given.
    Unreadable,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Engine(error) => write!(f, "{error}"),
            Self::Unreadable => write!(f, "stored history cannot be read"),
        }
    }
}

impl std::error::Error for Failure {}

/// What the store takes up.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sizes {
    /// The engine's file, in bytes.
    pub database_bytes: u64,
    /// Of these in use, by what history takes up.
    pub database_bytes_in_use: u64,
    /// What history takes up in the engine, and will once it has what waits for it. What a quota is held against.
    pub stored_bytes: u64,
    /// Keys that have a version in memory, deleted ones that are not compacted yet included.
    pub keys: usize,
    /// Versions of keys in memory.
    pub versions: usize,
    /// Recent history in memory, values above all, in bytes.
    pub resident_value_bytes: usize,
    /// What waits for the engine, in bytes.
    pub backlog_bytes: usize,
    /// The index of keys, about, in bytes of memory.
    pub index_bytes: usize,
    /// Pages that the engine keeps in memory, in bytes.
    pub engine_cache_bytes: usize,
    /// Watches of all streams.
    pub watches: usize,
    /// Leases that have not ended.
    pub leases: usize,
}
