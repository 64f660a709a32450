//! A long answer to a range request, in slices.
//!
//! Owns the bytes of a `RangeResponse` that is never in memory as a whole: how long it is, and what comes next.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use vlot_proto::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};

use crate::check;
use crate::figures::Ops;
use crate::mvcc::key_index::Version;
use crate::mvcc::key_range::KeyRange;
use crate::mvcc::range::{Found, is_in_key_order, limit_of};
use crate::mvcc::reader::{Reader, Stored};
use crate::mvcc::view::View;
use crate::refusal::Refusal;

/// `RangeResponse.kvs`.
const KVS: u32 = 2;
/// The fields of `mvccpb.KeyValue`.
const KEY: u32 = 1;
const CREATE_REVISION: u32 = 2;
const MOD_REVISION: u32 = 3;
const VERSION: u32 = 4;
const VALUE: u32 = 5;
const LEASE: u32 = 6;

/// The answer to a range request, encoded piece by piece: together the pieces are the bytes of the `RangeResponse`.
///
/// In memory are the view, a slice, and, where the answer is not in key order, its keys without their values.
#[derive(Debug)]
pub struct RangeAnswer {
    view: View,
    keys_only: bool,
    encoded_len: usize,
    sent: usize,
    head: Option<Vec<u8>>,
    rest: Rest,
    tail: Option<Vec<u8>>,
    stored: Stored,
}

/// The keys that are still to be sent.
#[derive(Debug)]
enum Rest {
    /// So many from here on, as they are in the index at this revision.
    InKeyOrder { range: KeyRange, at: i64, left: usize },
    /// These, in this order.
    Listed(std::vec::IntoIter<(Bytes, Version)>),
}

impl View {
    /// Begins an answer to a range request that may be long. `header` comes from the server; its revision is set here.
    ///
    /// # Errors
    /// As [`View::range`].
    pub fn answer(&self, request: &RangeRequest, header: ResponseHeader) -> Result<RangeAnswer, Refusal> {
        check::check_range(request)?;
        self.reader().measures.count(Ops::range());
        let at = self.reader().readable(request.revision)?;
        let header = ResponseHeader { revision: self.revision(), ..header };
        RangeAnswer::begin(self, request, at, header)
    }
}

/// What one pass over the index finds out.
struct Plan {
    keys: usize,
    /// The keys' share of the answer, in bytes.
    bytes: usize,
    more: bool,
    count: i64,
    listed: Option<std::vec::IntoIter<(Bytes, Version)>>,
}

fn plan(reader: &Reader<'_>, request: &RangeRequest, range: &KeyRange, at: i64) -> Result<Plan, Refusal> {
    if request.count_only || !is_in_key_order(request) {
        let selection = reader.select(request, range, at)?;
        let bytes = selection.found.iter().map(|found| field_len(*found, request.keys_only)).sum();
        let listed: Vec<_> =
            selection.found.iter().map(|(key, version)| (Bytes::copy_from_slice(key), **version)).collect();
        let (more, count) = (selection.more, selection.count);
        return Ok(Plan { keys: listed.len(), bytes, more, count, listed: Some(listed.into_iter()) });
    }
    let limit = limit_of(request).unwrap_or(usize::MAX);
    let (mut count, mut bytes) = (0, 0);
    for found in reader.index().range_at(range, at) {
        if count < limit {
            bytes += field_len(found, request.keys_only);
        }
        count += 1;
    }
    // A single key is never cut off: the limit is one at least.
    Ok(Plan { keys: count.min(limit), bytes, more: count > limit, count: count as i64, listed: None })
}

impl RangeAnswer {
    /// Answers a sound request at a readable revision.
    pub(crate) fn begin(view: &View, request: &RangeRequest, at: i64, header: ResponseHeader) -> Result<Self, Refusal> {
        let range = KeyRange::of(&request.key, &request.range_end).detached();
        let plan = plan(&view.reader(), request, &range, at)?;
        let head = RangeResponse { header: Some(header), ..Default::default() }.encode_to_vec();
        let tail = RangeResponse { more: plan.more, count: plan.count, ..Default::default() }.encode_to_vec();
        let encoded_len = head.len() + plan.bytes + tail.len();
        let rest = plan.listed.map_or(Rest::InKeyOrder { range, at, left: plan.keys }, Rest::Listed);
        Ok(Self {
            view: view.clone(),
            keys_only: request.keys_only,
            encoded_len,
            sent: 0,
            head: Some(head),
            rest,
            tail: Some(tail),
            stored: Stored::default(),
        })
    }

    /// How many bytes all slices have together.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.encoded_len
    }

    /// The next bytes of the answer: about `bytes_max` at most, or one key and value if these are more. None at the end.
    ///
    /// # Errors
    /// `Unreadable`: the answer cannot be completed.
    pub fn next_slice(&mut self, bytes_max: usize) -> Result<Option<Bytes>, Refusal> {
        let bytes = BytesMut::with_capacity(bytes_max.min(self.encoded_len - self.sent));
        let (reader, keys_only, stored) = (self.view.reader(), self.keys_only, &mut self.stored);
        let mut slice = Slice { bytes, bytes_max, reader, keys_only, stored };
        if let Some(head) = self.head.take() {
            slice.bytes.put_slice(&head);
        }
        let is_finished = self.rest.encode_into(&mut slice)?;
        let mut bytes = slice.bytes;
        if is_finished && let Some(tail) = self.tail.take() {
            bytes.put_slice(&tail);
        }
        self.sent += bytes.len();
        Ok((!bytes.is_empty()).then(|| bytes.freeze()))
    }
}

impl Rest {
    /// Encodes keys until the slice is full. Returns whether there are no more.
    fn encode_into(&mut self, slice: &mut Slice<'_>) -> Result<bool, Refusal> {
        match self {
            Self::Listed(keys) => {
                while let Some((key, version)) = keys.as_slice().first() {
                    let found = (&key[..], version);
                    if slice.is_full_for(found) {
                        return Ok(false);
                    }
                    slice.add(found)?;
                    keys.next();
                }
            }
            Self::InKeyOrder { range, at, left } => {
                let mut next = None;
                let reader = slice.reader;
                for found in reader.index().range_at(range, *at).take(*left) {
                    if slice.is_full_for(found) {
                        next = Some(Bytes::copy_from_slice(found.0));
                        break;
                    }
                    slice.add(found)?;
                    *left -= 1;
                }
                if let Some(next) = next {
                    range.start_at(next);
                    return Ok(false);
                }
                *left = 0;
            }
        }
        Ok(true)
    }
}

/// The bytes that are being made, and what is needed to make them.
pub(super) struct Slice<'a> {
    pub bytes: BytesMut,
    pub bytes_max: usize,
    pub reader: Reader<'a>,
    pub keys_only: bool,
    pub stored: &'a mut Stored,
}

impl Slice<'_> {
    fn is_full_for(&self, found: Found<'_>) -> bool {
        !self.bytes.is_empty() && self.bytes.len() + field_len(found, self.keys_only) > self.bytes_max
    }

    /// Adds a version as a field of a `RangeResponse`.
    pub fn add(&mut self, found: Found<'_>) -> Result<(), Refusal> {
        let (key, version) = found;
        let length = key_value_len(found, self.keys_only);
        let into = &mut self.bytes;
        into.reserve(field_len(found, self.keys_only));
        encode_key(KVS, WireType::LengthDelimited, into);
        encode_varint(length as u64, into);
        encode_bytes(KEY, key, into);
        encode_number(CREATE_REVISION, version.create, into);
        encode_number(MOD_REVISION, version.revision().main, into);
        encode_number(VERSION, version.count, into);
        if !self.keys_only {
            self.reader.with_value_near(version, self.stored, |value| encode_bytes(VALUE, value, into))?;
        }
        encode_number(LEASE, version.lease, into);
        Ok(())
    }
}

fn number_len(tag: u32, number: i64) -> usize {
    if number == 0 { 0 } else { key_len(tag) + encoded_len_varint(number as u64) }
}

fn bytes_len(tag: u32, bytes: usize) -> usize {
    if bytes == 0 { 0 } else { key_len(tag) + encoded_len_varint(bytes as u64) + bytes }
}

/// The length of a version as a `KeyValue`.
fn key_value_len((key, version): Found<'_>, keys_only: bool) -> usize {
    bytes_len(KEY, key.len())
        + number_len(CREATE_REVISION, version.create)
        + number_len(MOD_REVISION, version.revision().main)
        + number_len(VERSION, version.count)
        + bytes_len(VALUE, if keys_only { 0 } else { version.value_bytes as usize })
        + number_len(LEASE, version.lease)
}

/// The length of a version as a field of a `RangeResponse`.
pub(super) fn field_len(found: Found<'_>, keys_only: bool) -> usize {
    let length = key_value_len(found, keys_only);
    key_len(KVS) + encoded_len_varint(length as u64) + length
}

fn encode_number(tag: u32, number: i64, into: &mut BytesMut) {
    if number != 0 {
        encode_key(tag, WireType::Varint, into);
        encode_varint(number as u64, into);
    }
}

fn encode_bytes(tag: u32, bytes: &[u8], into: &mut BytesMut) {
    if !bytes.is_empty() {
        encode_key(tag, WireType::LengthDelimited, into);
        encode_varint(bytes.len() as u64, into);
        into.put_slice(bytes);
    }
}
