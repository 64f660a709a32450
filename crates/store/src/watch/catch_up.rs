//! History for a watch that is behind, read from the store in bounded pieces.
//!
//! Owns how far a piece reaches: always to the end of a revision.

use std::ops::ControlFlow;

use bytes::Bytes;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use vlot_proto::mvccpb::event::EventType;
use vlot_proto::mvccpb::{self, KeyValue};

use super::hub::{Encode, Watch};
use crate::mvcc::history;
use crate::mvcc::key_index::Version;
use crate::mvcc::key_range::KeyRange;
use crate::mvcc::revision::Revision;
use crate::refusal::Refusal;
use crate::store::Store;

/// So many bytes of history are looked through for one piece, wanted or not: the caller keeps the store from changing
/// for that long.
const SCAN_BYTES_MAX: usize = 4 << 20;

/// A piece of history as one watch sees it.
pub(super) struct Piece {
    pub events: Vec<Bytes>,
    pub bytes: usize,
    /// The newest revision with an event in it.
    pub revision: i64,
    /// Where the next piece begins; beyond the store's revision if there is no more.
    pub next: i64,
}

impl Piece {
    fn push(&mut self, revision: i64, event: Bytes) {
        self.bytes += event.len();
        self.revision = revision;
        self.events.push(event);
    }
}

impl Store {
    /// What a watch missed from `watch.next` on, up to about `bytes_max` bytes.
    pub(super) fn missed(&self, watch: &Watch, bytes_max: usize) -> Result<Piece, Refusal> {
        let mut piece = Piece { events: Vec::new(), bytes: 0, revision: 0, next: self.revision() + 1 };
        if let KeyRange::Single(key) = &watch.range {
            self.missed_of_key(key, watch, bytes_max, &mut piece)?;
        } else {
            self.missed_of_span(watch, bytes_max, &mut piece)?;
        }
        Ok(piece)
    }

    fn missed_of_key(&self, key: &Bytes, watch: &Watch, bytes_max: usize, piece: &mut Piece) -> Result<(), Refusal> {
        for version in self.index.versions_since(key, watch.next) {
            let main = version.revision.main;
            if piece.bytes >= bytes_max && main > piece.revision {
                piece.next = main;
                break;
            }
            if watch.wants(version.is_deletion()) {
                let kv = self.event_kv(key, version)?;
                let previous = self.previous_for(watch, key, version.revision)?;
                piece.push(main, encoded(version.is_deletion(), kv, previous));
            }
        }
        Ok(())
    }

    fn missed_of_span(&self, watch: &Watch, bytes_max: usize, piece: &mut Piece) -> Result<(), Refusal> {
        let mut scanned = 0;
        let mut last = 0;
        let mut refused = None;
        self.scan_history(Revision::first_of(watch.next), &mut |event: &history::Event<'_>| {
            let main = event.revision.main;
            if main > last && (piece.bytes >= bytes_max || scanned >= SCAN_BYTES_MAX) {
                piece.next = main;
                return ControlFlow::Break(());
            }
            last = main;
            scanned += event.encoded_bytes_max();
            if !watch.range.contains(event.key) || !watch.wants(event.put.is_none()) {
                return ControlFlow::Continue(());
            }
            match self.previous_for(watch, event.key, event.revision) {
                Ok(previous) => {
                    piece.push(main, encoded(event.put.is_none(), key_value(event), previous));
                    ControlFlow::Continue(())
                }
                Err(refusal) => {
                    refused = Some(refusal);
                    ControlFlow::Break(())
                }
            }
        })?;
        refused.map_or(Ok(()), Err)
    }

    fn previous_for(&self, watch: &Watch, key: &[u8], revision: Revision) -> Result<Option<KeyValue>, Refusal> {
        if watch.prev_kv { self.previous(key, revision) } else { Ok(None) }
    }

    /// What the key was before a revision; nothing if it did not exist, or if that has been compacted.
    fn previous(&self, key: &[u8], revision: Revision) -> Result<Option<KeyValue>, Refusal> {
        let before = revision.main - 1;
        if before < self.compacted_revision() {
            return Ok(None);
        }
        self.index.at(key, before).map(|(key, version)| self.key_value(key, version, false)).transpose()
    }

    fn event_kv(&self, key: &Bytes, version: &Version) -> Result<KeyValue, Refusal> {
        if version.is_deletion() {
            return Ok(deleted(key.clone(), version.revision.main));
        }
        self.key_value(key, version, false)
    }
}

fn key_value(event: &history::Event<'_>) -> KeyValue {
    let key = Bytes::copy_from_slice(event.key);
    let Some(put) = event.put else { return deleted(key, event.revision.main) };
    KeyValue {
        key,
        create_revision: put.create,
        mod_revision: event.revision.main,
        version: put.version,
        value: Bytes::copy_from_slice(put.value),
        lease: put.lease,
    }
}

fn deleted(key: Bytes, revision: i64) -> KeyValue {
    KeyValue { key, mod_revision: revision, ..Default::default() }
}

/// The event as one `events` field of a `WatchResponse`.
fn encoded(is_deletion: bool, kv: KeyValue, previous: Option<KeyValue>) -> Bytes {
    const EVENTS_FIELD: u32 = 11;
    let kind = if is_deletion { EventType::Delete } else { EventType::Put };
    let event = mvccpb::Event { r#type: kind as i32, kv: Some(kv), prev_kv: previous };
    let length = event.encoded_len();
    let mut bytes = Vec::with_capacity(length + 6);
    encode_key(EVENTS_FIELD, WireType::LengthDelimited, &mut bytes);
    encode_varint(length as u64, &mut bytes);
    event.encode_raw(&mut bytes);
    bytes.into()
}

/// A fresh change on its way to the watches.
pub(super) struct Fresh<'a> {
    store: &'a Store,
    key: &'a Bytes,
    version: &'a Version,
    plain: Option<Bytes>,
    with_previous: Option<Bytes>,
}

impl<'a> Fresh<'a> {
    pub fn new(store: &'a Store, key: &'a Bytes, revision: Revision) -> Self {
        let version = store.index.exact(key, revision);
        let version = version.expect("a version is in the index at least until the batch that made it has ended");
        Self { store, key, version, plain: None, with_previous: None }
    }

    fn encode(&self, with_previous: bool) -> Bytes {
        let kv = self.store.event_kv(self.key, self.version);
        let kv = kv.expect("a value is in memory at least until the batch that made it has ended");
        // A previous value that cannot be read is left out as if compacted: the store has failed then, and says so.
        let previous = || self.store.previous(self.key, self.version.revision).unwrap_or(None);
        encoded(self.version.is_deletion(), kv, with_previous.then(previous).flatten())
    }
}

impl Encode for Fresh<'_> {
    fn revision(&self) -> i64 {
        self.version.revision.main
    }

    fn key(&self) -> &Bytes {
        self.key
    }

    fn is_deletion(&self) -> bool {
        self.version.is_deletion()
    }

    fn encoded(&mut self, with_previous: bool) -> Bytes {
        let form = if with_previous { &self.with_previous } else { &self.plain };
        if let Some(bytes) = form {
            return bytes.clone();
        }
        let bytes = self.encode(with_previous);
        *(if with_previous { &mut self.with_previous } else { &mut self.plain }) = Some(bytes.clone());
        bytes
    }
}
