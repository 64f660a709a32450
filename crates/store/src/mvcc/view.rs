//! The state of the keys at one moment, for a reader that wants it to stay as it is.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use vlot_proto::etcdserverpb::{RangeRequest, RangeResponse, TxnRequest, TxnResponse};

use crate::engine::EngineView;
use crate::figures::Measures;
use crate::mvcc::hash::HistoryHash;
use crate::mvcc::key_range::KeyRange;
use crate::mvcc::reader::{Behind, Moment, Reader};
use crate::refusal::Refusal;

/// The state of a [`Store`](crate::store::Store)'s keys at one moment.
///
/// It answers as the store would have at that moment, on any thread and for as long as it lives, whatever is applied,
/// compacted or written to the engine meanwhile. Taking one costs next to nothing, and so does a clone. What it costs is
/// paid later: a part of the index that is changed while a view holds it is copied first (some microseconds at most for
/// each command), what it has seen stays in memory, and the engine does not use the space again that is freed meanwhile.
/// So hold it for as long as a read takes, not for ever. The engine's file stays open until the last view is dropped.
#[derive(Clone)]
pub struct View {
    moment: Moment,
    engine: Option<Arc<dyn EngineView>>,
    broken: Arc<AtomicBool>,
    measures: Arc<Measures>,
}

impl View {
    pub(crate) fn new(
        moment: Moment,
        engine: Option<Arc<dyn EngineView>>,
        broken: Arc<AtomicBool>,
        measures: Arc<Measures>,
    ) -> Self {
        Self { moment, engine, broken, measures }
    }

    pub(crate) fn reader(&self) -> Reader<'_> {
        let Self { moment, engine, broken, measures } = self;
        Reader { moment, behind: Behind::Held(engine.as_ref()), broken, measures }
    }

    /// The newest revision at that moment.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.moment.revision
    }

    /// The oldest revision that can be read; -1 if nothing was ever compacted.
    #[must_use]
    pub fn compacted_revision(&self) -> i64 {
        self.moment.compacted
    }

    /// Answers a range request. See [`View::answer`] for those whose answers are long.
    ///
    /// # Errors
    /// A revision that cannot be read, an unsound request, or `Unreadable`.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Refusal> {
        self.reader().range(request)
    }

    /// Answers a transaction that has only ranges in it (see
    /// [`check::is_read_only`](crate::check::is_read_only)). See [`View::answer_txn`] for those whose answers are long.
    ///
    /// # Errors
    /// As [`View::range`]; `DuplicateKey` for a transaction that would change something.
    pub fn read_txn(&self, request: &TxnRequest) -> Result<TxnResponse, Refusal> {
        self.reader().read_txn(request)
    }

    /// The keys that were on a lease at that moment, in order. Looks at all keys.
    #[must_use]
    pub fn keys_on_lease(&self, id: i64) -> Vec<Bytes> {
        let all = KeyRange::From { start: Bytes::new() };
        let keys = self.moment.index.range_at(&all, self.moment.revision);
        let on_it = keys.filter(|(_, version)| version.lease == id);
        on_it.map(|(key, _)| Bytes::copy_from_slice(key)).collect()
    }

    /// The digest of the key history up to `revision`, as [`View::begin_hash`] makes it in slices. Reads all of history.
    ///
    /// # Errors
    /// A revision that cannot be read, or `Unreadable`.
    pub fn hash(&self, revision: i64) -> Result<HistoryHash, Refusal> {
        self.reader().hash(revision)
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Moment { revision, compacted, .. } = &self.moment;
        write!(f, "View(revision {revision}, compacted {compacted})")
    }
}
