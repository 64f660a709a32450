//! History for a watch that is behind, read from a view in bounded pieces; and changes that are just made, encoded.
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
use crate::mvcc::reader::Reader;
use crate::mvcc::revision::Revision;
use crate::refusal::Refusal;

/// So many bytes of history are looked through for one piece, wanted or not.
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

impl Reader<'_> {
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
        let mut refused = None;
        self.index().versions_since(key, watch.next, |version| {
            let main = version.revision().main;
            if piece.bytes >= bytes_max && main > piece.revision {
                piece.next = main;
                return ControlFlow::Break(());
            }
            if !watch.wants(version.is_deletion()) {
                return ControlFlow::Continue(());
            }
            let previous = self.previous_for(watch, key, version.revision());
            match self.event_kv(key, version).and_then(|kv| Ok((kv, previous?))) {
                Ok((kv, previous)) => {
                    piece.push(main, encoded(version.is_deletion(), kv, previous));
                    ControlFlow::Continue(())
                }
                Err(refusal) => {
                    refused = Some(refusal);
                    ControlFlow::Break(())
                }
            }
        });
        refused.map_or(Ok(()), Err)
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

    fn event_kv(&self, key: &Bytes, version: &Version) -> Result<KeyValue, Refusal> {
        if version.is_deletion() {
            return Ok(deleted(key.clone(), version.revision().main));
        }
        self.key_value(key.clone(), version, false)
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
    reader: Reader<'a>,
    event: history::Event<'a>,
    plain: Option<Bytes>,
    with_previous: Option<Bytes>,
}

impl<'a> Fresh<'a> {
    pub fn new(reader: Reader<'a>, event: history::Event<'a>) -> Self {
        Self { reader, event, plain: None, with_previous: None }
    }

    fn encode(&self, with_previous: bool) -> Option<Bytes> {
        let history::Event { revision, key, put } = self.event;
        let mut previous = None;
        if with_previous {
            if !self.reader.has_previous_in_memory(key, revision) {
                return None;
            }
            previous = self.reader.previous(key, revision).ok()?;
        }
        Some(encoded(put.is_none(), key_value(&self.event), previous))
    }
}

impl Encode for Fresh<'_> {
    fn revision(&self) -> i64 {
        self.event.revision.main
    }

    fn key(&self) -> &[u8] {
        self.event.key
    }

    fn is_deletion(&self) -> bool {
        self.event.put.is_none()
    }

    fn encoded(&mut self, with_previous: bool) -> Option<Bytes> {
        let form = if with_previous { &self.with_previous } else { &self.plain };
        if form.is_some() {
            return form.clone();
        }
        let bytes = self.encode(with_previous);
        let form = if with_previous { &mut self.with_previous } else { &mut self.plain };
        form.clone_from(&bytes);
        bytes
    }
}
