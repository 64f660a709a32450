//! etcd's digest of key history: the number that `HashKV` answers.
//!
//! Owns etcd's rule for what counts and in which bytes, so that the same history has the same number in both. Must not
//! know where history is, nor how far compaction and the engine have come with giving up what they may: what counts
//! follows from the index and two revisions alone.

use std::fmt;
use std::ops::ControlFlow;

use bytes::Bytes;
use prost::encoding::encode_varint;

use crate::mvcc::history::Event;
use crate::mvcc::key_range::KeyRange;
use crate::mvcc::reader::Reader;
use crate::mvcc::revision::Revision;
use crate::mvcc::view::View;
use crate::refusal::Refusal;

/// The name of the bucket that etcd keeps history in begins the digest.
const BUCKET: &[u8] = b"key";
/// What etcd sets between the two numbers of a revision.
const SEPARATOR: u8 = b'_';
/// What etcd sets behind the revision of a deletion.
const DELETION: u8 = b't';

/// The fields of `mvccpb.KeyValue` as they begin on the wire.
const KEY: u8 = 0x0a;
const CREATE_REVISION: u8 = 0x10;
const MOD_REVISION: u8 = 0x18;
const VERSION: u8 = 0x20;
const VALUE: u8 = 0x2a;
const LEASE: u8 = 0x30;

/// A digest of key history.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HistoryHash {
    /// The digest.
    pub hash: u32,
    /// Up to where.
    pub revision: i64,
    /// From where.
    pub compacted_revision: i64,
}

/// The digest of a view's history, made in slices, so that a long one holds nobody up.
pub struct Hashing {
    view: View,
    sum: Sum,
    next: Revision,
    hash: HistoryHash,
}

impl View {
    /// Begins the digest of the history from the compacted revision up to `revision` (0 for the newest). It is etcd's
    /// (CRC32C), and equal on members that applied the same commands, wherever their compactions and their engines stand.
    ///
    /// # Errors
    /// A revision that cannot be read.
    pub fn begin_hash(&self, revision: i64) -> Result<Hashing, Refusal> {
        let (hash, sum) = begin(&self.reader(), revision)?;
        Ok(Hashing { view: self.clone(), sum, next: Revision::default(), hash })
    }
}

impl Hashing {
    /// Reads on for about so many bytes. The digest, once all has been read.
    ///
    /// # Errors
    /// `Unreadable`.
    pub fn next_slice(&mut self, bytes_max: usize) -> Result<Option<HistoryHash>, Refusal> {
        let Self { view, sum, next, hash } = self;
        let upto = sum.bytes.saturating_add(bytes_max as u64);
        let is_cut = scan(&view.reader(), sum, hash, next, upto)?;
        Ok(if is_cut { None } else { Some(HistoryHash { hash: sum.crc, ..*hash }) })
    }
}

impl fmt::Debug for Hashing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hashing").field("hash", &self.hash).field("next", &self.next).finish_non_exhaustive()
    }
}

impl Reader<'_> {
    /// See [`View::begin_hash`]: all of it at once.
    pub fn hash(&self, revision: i64) -> Result<HistoryHash, Refusal> {
        let (hash, mut sum) = begin(self, revision)?;
        scan(self, &mut sum, &hash, &mut Revision::default(), u64::MAX)?;
        Ok(HistoryHash { hash: sum.crc, ..hash })
    }
}

fn begin(reader: &Reader<'_>, revision: i64) -> Result<(HistoryHash, Sum), Refusal> {
    let compacted = reader.compacted();
    // As in etcd a negative revision is one before all history, and not the newest.
    let upto = if revision < 0 { revision } else { reader.readable(revision)? };
    let all = KeyRange::From { start: Bytes::new() };
    let is_empty = compacted > 0 && reader.index().range_at(&all, upto).next().is_none();
    let hash = HistoryHash { hash: 0, revision: upto, compacted_revision: compacted };
    Ok((hash, Sum { crc: crc32c::crc32c(BUCKET), bytes: 0, is_empty, scratch: Vec::new() }))
}

/// Reads from `next` on until the sum has taken `bytes_max` bytes. Whether there is more.
fn scan(
    reader: &Reader<'_>,
    sum: &mut Sum,
    hash: &HistoryHash,
    next: &mut Revision,
    bytes_max: u64,
) -> Result<bool, Refusal> {
    let mut is_cut = false;
    reader.scan_history(*next, &mut |event| {
        if event.revision.main > hash.revision {
            return ControlFlow::Break(());
        }
        if sum.bytes >= bytes_max {
            *next = event.revision;
            is_cut = true;
            return ControlFlow::Break(());
        }
        // What does not count is work too.
        sum.bytes += (event.key.len() + event.put.map_or(0, |put| put.value.len())) as u64 + 32;
        if sum.counts(reader, hash, event) {
            sum.add(event);
        }
        ControlFlow::Continue(())
    })?;
    Ok(is_cut)
}

struct Sum {
    crc: u32,
    /// How much was looked at.
    bytes: u64,
    /// No key is there at the revision that is asked for.
    is_empty: bool,
    scratch: Vec<u8>,
}

impl Sum {
    /// etcd's rule. Of what was made up to the compaction there counts what a compaction at the revision asked for would
    /// leave; but if that would leave nothing at all, everything that the compaction has left.
    fn counts(&self, reader: &Reader<'_>, hash: &HistoryHash, event: &Event<'_>) -> bool {
        let compacted = hash.compacted_revision;
        if event.revision.main > compacted {
            return true;
        }
        // etcd keeps a deletion at the very revision of the compaction, and does not count it.
        if event.put.is_none() {
            return false;
        }
        if self.is_empty {
            return reader.index().survives(event.key, event.revision, compacted);
        }
        reader.index().at(event.key, hash.revision).is_some_and(|version| version.revision() == event.revision)
    }

    /// Takes in an event as etcd keeps it: the bytes of its revision, and a `KeyValue`.
    fn add(&mut self, event: &Event<'_>) {
        let Self { crc, scratch, .. } = self;
        scratch.clear();
        scratch.extend_from_slice(&event.revision.main.to_be_bytes());
        scratch.push(SEPARATOR);
        scratch.extend_from_slice(&u64::from(event.revision.sub).to_be_bytes());
        if event.put.is_none() {
            scratch.push(DELETION);
        }
        scratch.push(KEY);
        encode_varint(event.key.len() as u64, scratch);
        scratch.extend_from_slice(event.key);
        let Some(put) = event.put else {
            *crc = crc32c::crc32c_append(*crc, scratch);
            return;
        };
        number(CREATE_REVISION, put.create, scratch);
        number(MOD_REVISION, event.revision.main, scratch);
        number(VERSION, put.version, scratch);
        if !put.value.is_empty() {
            scratch.push(VALUE);
            encode_varint(put.value.len() as u64, scratch);
        }
        *crc = crc32c::crc32c_append(crc32c::crc32c_append(*crc, scratch), put.value);
        scratch.clear();
        number(LEASE, put.lease, scratch);
        *crc = crc32c::crc32c_append(*crc, scratch);
    }
}

fn number(field: u8, value: i64, into: &mut Vec<u8>) {
    if value != 0 {
        into.push(field);
        encode_varint(value as u64, into);
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use vlot_proto::mvccpb::KeyValue;

    use super::*;
    use crate::mvcc::history::Written;

    fn sum_of(events: &[Event<'_>]) -> u32 {
        let mut sum = Sum { crc: 0, bytes: 0, is_empty: false, scratch: Vec::new() };
        events.iter().for_each(|event| sum.add(event));
        sum.crc
    }

    #[test]
    fn an_event_is_taken_in_as_etcd_keeps_it() {
        for (value, lease) in [(&b""[..], 0), (b"value", 0), (b"", -7), (b"value", 1 << 62)] {
            let put = Written { create: 3, version: 300, lease, value };
            let event = Event { revision: Revision { main: 0x0102, sub: 3 }, key: b"key", put: Some(put) };
            let kept = KeyValue {
                key: "key".into(),
                create_revision: 3,
                mod_revision: 0x0102,
                version: 300,
                value: Bytes::copy_from_slice(value),
                lease,
            };
            let mut bytes = b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\x03".to_vec();
            kept.encode(&mut bytes).unwrap();
            assert_eq!(sum_of(&[event]), crc32c::crc32c(&bytes), "{value:?} {lease}");
        }
        let deletion = Event { revision: Revision::first_of(9), key: b"gone", put: None };
        assert_eq!(sum_of(&[deletion]), crc32c::crc32c(b"\0\0\0\0\0\0\0\x09_\0\0\0\0\0\0\0\0t\x0a\x04gone"));
    }
}
