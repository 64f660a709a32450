//! History for watches that are behind, read from a view in bounded pieces; and changes that are just made, encoded.
//!
//! Owns where a watch's history is looked for, in the index of its keys or in a pass over everything that it shares with
//! others, and how far a piece reaches: always to the end of a revision.

use std::ops::ControlFlow;

use bytes::Bytes;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use vlot_proto::mvccpb::event::EventType;
use vlot_proto::mvccpb::{self, KeyValue};

use super::hub::{Encode, Watch};
use super::intervals::Intervals;
use crate::mvcc::history;
use crate::mvcc::key_index::Version;
use crate::mvcc::key_range::KeyRange;
use crate::mvcc::reader::Reader;
use crate::mvcc::revision::Revision;
use crate::refusal::Refusal;

/// So many bytes of history are looked through in one pass, wanted or not.
const SCAN_BYTES_MAX: usize = 4 << 20;
/// So many versions of them are put in order for one piece; where there are more, a pass over history is no dearer.
const FEW_VERSIONS: usize = 16 * 1_024;

/// A piece of history as one watch sees it.
pub(super) struct Piece {
    pub events: Vec<Bytes>,
    /// Where the next piece begins; beyond the store's revision if there is no more.
    pub next: i64,
    /// How many keys and versions of the index were looked at.
    pub looked_at: usize,
}

/// What a pass over history has for several watches, in their order.
pub(super) struct Pass {
    pub events: Vec<Vec<Bytes>>,
    /// The first revision that the pass has not come to.
    pub next: i64,
}

impl<'a> Reader<'a> {
    /// What a watch missed from `watch.next` on, up to about `bytes_max` bytes. Nothing if its range has more than
    /// `few_keys` keys, too many to ask the index for each.
    pub(super) fn missed_of_few(
        &self,
        watch: &Watch,
        few_keys: usize,
        bytes_max: usize,
    ) -> Result<Option<Piece>, Refusal> {
        if let KeyRange::Single(key) = &watch.range {
            return self.missed_of_key(key, watch, bytes_max).map(Some);
        }
        let changed = self.index().changed_since(&watch.range, watch.next, few_keys);
        let Some((keys, looked_at)) = changed else { return Ok(None) };
        let mut versions = Vec::new();
        for key in keys {
            self.index().versions_since(key, watch.next, |version| {
                versions.push((version.revision(), key, *version));
                if versions.len() > FEW_VERSIONS { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            if versions.len() > FEW_VERSIONS {
                return Ok(None);
            }
        }
        versions.sort_unstable_by_key(|(revision, ..)| *revision);
        let looked_at = looked_at + versions.len();
        let mut gathered = Gathered::new(self, watch, bytes_max);
        for (_, key, version) in versions {
            if gathered.add(key, &version).is_break() {
                break;
            }
        }
        gathered.piece(looked_at).map(Some)
    }

    fn missed_of_key(&self, key: &[u8], watch: &Watch, bytes_max: usize) -> Result<Piece, Refusal> {
        let mut gathered = Gathered::new(self, watch, bytes_max);
        let mut looked_at = 1;
        self.index().versions_since(key, watch.next, |version| {
            looked_at += 1;
            gathered.add(key, version)
        });
        gathered.piece(looked_at)
    }

    /// What watches of any ranges missed, each from its own `next` on: up to about `bytes_max` bytes for all together.
    pub(super) fn missed_of_all(&self, watches: &[&Watch], bytes_max: usize) -> Result<Pass, Refusal> {
        let mut pass = Pass { events: vec![Vec::new(); watches.len()], next: self.revision() + 1 };
        let Some(first) = watches.iter().map(|watch| watch.next).min() else { return Ok(pass) };
        let mut ranges = Intervals::default();
        for (place, watch) in watches.iter().enumerate() {
            ranges.insert(&watch.range, place);
        }
        let (mut bytes, mut scanned, mut last) = (0, 0, 0);
        let mut refused = None;
        self.scan_history(Revision::first_of(first), &mut |event: &history::Event<'_>| {
            let main = event.revision.main;
            if main > last && (bytes >= bytes_max || scanned >= SCAN_BYTES_MAX) {
                pass.next = main;
                return ControlFlow::Break(());
            }
            last = main;
            scanned += event.encoded_bytes_max();
            let mut change = Change::new(*self, *event);
            ranges.stab(event.key, &mut |place| {
                let watch = watches[*place];
                if main < watch.next || !watch.options.wants(change.is_deletion()) {
                    return;
                }
                match change.read(watch.options.prev_kv) {
                    Ok(encoded) => {
                        bytes += encoded.len();
                        pass.events[*place].push(encoded);
                    }
                    Err(refusal) => refused = Some(refusal),
                }
            });
            if refused.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        refused.map_or(Ok(pass), Err)
    }

    fn event_kv(&self, key: &[u8], version: &Version) -> Result<KeyValue, Refusal> {
        let key = Bytes::copy_from_slice(key);
        if version.is_deletion() {
            return Ok(deleted(key, version.revision().main));
        }
        self.key_value(key, version)
    }
}

/// The piece of one watch in the making, from versions that the index gives in their order.
struct Gathered<'r, 'a> {
    reader: &'r Reader<'a>,
    watch: &'r Watch,
    bytes_max: usize,
    bytes: usize,
    last: i64,
    piece: Piece,
    refused: Option<Refusal>,
}

impl<'r, 'a> Gathered<'r, 'a> {
    fn new(reader: &'r Reader<'a>, watch: &'r Watch, bytes_max: usize) -> Self {
        // A view may be older than what the watch has been given.
        let next = watch.next.max(reader.revision() + 1);
        let piece = Piece { events: Vec::new(), next, looked_at: 0 };
        Self { reader, watch, bytes_max, bytes: 0, last: 0, piece, refused: None }
    }

    /// Adds a version unless the piece ends before it.
    fn add(&mut self, key: &[u8], version: &Version) -> ControlFlow<()> {
        let main = version.revision().main;
        if self.bytes >= self.bytes_max && main > self.last {
            self.piece.next = main;
            return ControlFlow::Break(());
        }
        if !self.watch.options.wants(version.is_deletion()) {
            return ControlFlow::Continue(());
        }
        match self.encoded(key, version) {
            Ok(event) => {
                self.bytes += event.len();
                self.last = main;
                self.piece.events.push(event);
                ControlFlow::Continue(())
            }
            Err(refusal) => {
                self.refused = Some(refusal);
                ControlFlow::Break(())
            }
        }
    }

    fn encoded(&self, key: &[u8], version: &Version) -> Result<Bytes, Refusal> {
        let kv = self.reader.event_kv(key, version)?;
        let previous = if self.watch.options.prev_kv { self.reader.previous(key, version.revision())? } else { None };
        Ok(encoded(version.is_deletion(), kv, previous))
    }

    fn piece(self, looked_at: usize) -> Result<Piece, Refusal> {
        self.refused.map_or(Ok(Piece { looked_at, ..self.piece }), Err)
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

/// A change on its way to the watches. Each form is encoded once.
pub(super) struct Change<'a> {
    reader: Reader<'a>,
    event: history::Event<'a>,
    plain: Option<Bytes>,
    with_previous: Option<Bytes>,
}

impl<'a> Change<'a> {
    pub fn new(reader: Reader<'a>, event: history::Event<'a>) -> Self {
        Self { reader, event, plain: None, with_previous: None }
    }

    /// As [`Encode::encoded`], if need be by a read of the engine.
    fn read(&mut self, with_previous: bool) -> Result<Bytes, Refusal> {
        let history::Event { revision, key, put } = self.event;
        let form = if with_previous { &mut self.with_previous } else { &mut self.plain };
        if let Some(encoded) = form {
            return Ok(encoded.clone());
        }
        let previous = if with_previous { self.reader.previous(key, revision)? } else { None };
        Ok(form.insert(encoded(put.is_none(), key_value(&self.event), previous)).clone())
    }
}

impl Encode for Change<'_> {
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
        let history::Event { revision, key, .. } = self.event;
        let needs_engine = with_previous && self.with_previous.is_none();
        if needs_engine && !self.reader.has_previous_in_memory(key, revision) {
            return None;
        }
        self.read(with_previous).ok()
    }
}
