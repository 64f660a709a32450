//! The answer to a range request as a stream of messages, each with some of the keys (`KV.RangeStream`).
//!
//! Owns where one message ends and the next begins, and what stands in the last. Together the messages are the answer
//! that the unary call gives at the same revision.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use vlot_proto::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};

use crate::mvcc::answer::{Slice, field_len};
use crate::mvcc::key_range::KeyRange;
use crate::mvcc::range::{Found, limit_of};
use crate::mvcc::reader::{Reader, Stored};
use crate::mvcc::view::View;
use crate::refusal::Refusal;

/// `RangeStreamResponse.range_response`.
const RANGE_RESPONSE: u32 = 1;
/// Keys in the first message: its size says how many the next may have.
const FIRST_KEYS_MAX: usize = 10;

/// The messages of one stream.
///
/// It holds no view between them, so that a client that does not read holds nothing back: each message is made from the
/// newest view, at the revision of the first, and a compaction of that revision ends the stream.
#[derive(Debug)]
pub struct RangeChunks {
    range: KeyRange,
    keys_only: bool,
    count_only: bool,
    /// What the client asks for; the revision of the first message from then on.
    revision: i64,
    /// The newest revision when the first message was made.
    newest: Option<i64>,
    /// How large a message should be.
    bytes: usize,
    /// How many keys the next message has at most.
    keys_max: usize,
    sent: usize,
    /// How many keys the limit leaves.
    left: usize,
    is_finished: bool,
}

/// The keys of one message, and how it ends.
struct Piece<'a> {
    found: Vec<Found<'a>>,
    bytes: usize,
    /// The first key behind them.
    next: Option<Bytes>,
}

impl RangeChunks {
    /// The messages that answer a sound request without regard to its sorting and its filters, each of about so many
    /// bytes.
    #[must_use]
    pub fn new(request: &RangeRequest, bytes: usize) -> Self {
        Self {
            range: KeyRange::of(&request.key, &request.range_end).detached(),
            keys_only: request.keys_only,
            count_only: request.count_only,
            revision: request.revision,
            newest: None,
            bytes,
            keys_max: FIRST_KEYS_MAX,
            sent: 0,
            left: limit_of(request).unwrap_or(usize::MAX),
            is_finished: false,
        }
    }

    /// The next message, a `RangeStreamResponse`; none after the last. The last alone has a header, of which `header`
    /// is all but the revision, and says how many keys there are and whether the limit cut some off.
    ///
    /// # Errors
    /// A revision that cannot be read, or cannot be read any more; `Unreadable`.
    pub fn next_message(&mut self, view: &View, header: ResponseHeader) -> Result<Option<Bytes>, Refusal> {
        if self.is_finished {
            return Ok(None);
        }
        let reader = view.reader();
        let at = reader.readable(self.revision)?;
        self.revision = at;
        let newest = *self.newest.get_or_insert(view.revision());
        let header = ResponseHeader { revision: newest, ..header };
        if self.count_only {
            self.is_finished = true;
            let count = reader.index().range_at(&self.range, at).count() as i64;
            let tail = RangeResponse { header: Some(header), count, ..Default::default() };
            return message(&reader, Vec::new(), 0, self.keys_only, &tail).map(Some);
        }

        let range = self.range.clone();
        let piece = self.piece(&reader, &range, at);
        self.sent += piece.found.len();
        self.left -= piece.found.len();
        self.is_finished = piece.next.is_none() || self.left == 0;
        self.keys_max = keys_max(self.keys_max, piece.found.len(), piece.bytes, self.bytes);
        let more = piece.next.is_some();
        if let Some(next) = piece.next {
            self.range.start_at(next);
        }
        let mut tail = RangeResponse::default();
        if self.is_finished {
            let rest = if more { reader.index().range_at(&self.range, at).count() } else { 0 };
            tail = RangeResponse { header: Some(header), more, count: (self.sent + rest) as i64, ..tail };
        }
        message(&reader, piece.found, piece.bytes, self.keys_only, &tail).map(Some)
    }

    fn piece<'a>(&self, reader: &Reader<'a>, range: &'a KeyRange, at: i64) -> Piece<'a> {
        let keys_max = self.keys_max.min(self.left);
        let mut piece = Piece { found: Vec::new(), bytes: 0, next: None };
        for found in reader.index().range_at(range, at) {
            let bytes = field_len(found, self.keys_only);
            // Where values grow from key to key, to count keys does not bound a message.
            let is_full = !piece.found.is_empty() && piece.bytes + bytes > self.bytes.saturating_mul(2);
            if is_full || piece.found.len() == keys_max {
                piece.next = Some(Bytes::copy_from_slice(found.0));
                break;
            }
            piece.bytes += bytes;
            piece.found.push(found);
        }
        piece
    }
}

/// How many keys the message may have that follows one of so many keys and bytes: about `bytes` are wanted.
fn keys_max(last_max: usize, keys: usize, last_bytes: usize, bytes: usize) -> usize {
    if keys < last_max {
        // It was full before it had as many keys as it might.
        return keys.max(1);
    }
    if last_bytes < bytes / 2 {
        last_max.saturating_mul(2)
    } else if last_bytes > bytes.saturating_mul(2) {
        (last_max / 2).max(1)
    } else {
        last_max
    }
}

/// A message with these keys, and with the fields of `tail`.
fn message(
    reader: &Reader<'_>,
    found: Vec<Found<'_>>,
    found_bytes: usize,
    keys_only: bool,
    tail: &RangeResponse,
) -> Result<Bytes, Refusal> {
    let length = found_bytes + tail.encoded_len();
    let prefix = key_len(RANGE_RESPONSE) + encoded_len_varint(length as u64);
    let mut bytes = BytesMut::with_capacity(prefix + length);
    encode_key(RANGE_RESPONSE, WireType::LengthDelimited, &mut bytes);
    encode_varint(length as u64, &mut bytes);
    let mut slice = Slice { bytes, bytes_max: usize::MAX, reader: *reader, keys_only, stored: &mut Stored::default() };
    for one in found {
        slice.add(one)?;
    }
    let mut bytes = slice.bytes;
    // Fields may stand in any order.
    bytes.put_slice(&tail.encode_to_vec());
    assert_eq!(bytes.len(), prefix + length, "a message is as long as its prefix says");
    Ok(bytes.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_message_has_twice_or_half_as_many_keys_outside_half_and_twice_the_size() {
        // Keys that the last might have, that it had, its bytes, keys of the next. About 100 bytes are wanted.
        let rows = [
            (10, 10, 49, 20),
            (10, 10, 50, 10),
            (10, 10, 200, 10),
            (10, 10, 201, 5),
            (1, 1, 5_000, 1),
            (640, 3, 180, 3),
            (640, 0, 0, 1),
            (usize::MAX, usize::MAX, 0, usize::MAX),
        ];
        for (last_max, keys, bytes, expected) in rows {
            assert_eq!(keys_max(last_max, keys, bytes, 100), expected, "{last_max} {keys} {bytes}");
        }
    }
}
