//! Messages that differ in one number alone: what many watches of a stream are told of the same change.
//!
//! Owns how they are written once, and become many only where they are copied to the connection. Must not know what they say.

use std::iter::repeat_n;
use std::ops::Range;

use bytes::{Buf, BufMut, Bytes};
use prost::encoding::encoded_len_varint;

use super::{PREFIX_BYTES, prefix};

/// How long the field is at most in which messages differ.
const FIELD_BYTES_MAX: usize = 11;

/// Messages that are the same but for one field.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Alike {
    /// A message without the field, behind a prefix.
    message: Vec<u8>,
    /// Where the field belongs.
    place: usize,
    number: u8,
    /// What is in the field, one for each message.
    values: Vec<i64>,
}

impl Alike {
    /// A message for each of these values of a field, between `head` and `tail`.
    pub(crate) fn new(head: &[u8], number: u8, tail: &[Bytes], values: Vec<i64>) -> Alike {
        let tail_bytes: usize = tail.iter().map(Bytes::len).sum();
        let place = PREFIX_BYTES + head.len();
        let mut message = Vec::with_capacity(place + FIELD_BYTES_MAX + tail_bytes);
        message.put_bytes(0, PREFIX_BYTES);
        message.put_slice(head);
        tail.iter().for_each(|part| message.put_slice(part));
        Alike { message, place, number, values }
    }

    /// How many messages there are.
    pub(crate) fn messages(&self) -> usize {
        self.values.len()
    }

    /// How long they are together, prefixes included.
    pub(crate) fn bytes(&self) -> usize {
        let fields: usize = self.values.iter().map(|value| field_bytes(*value)).sum();
        self.values.len() * self.message.len() + fields
    }

    /// How much memory they take meanwhile.
    pub(crate) fn held_bytes(&self) -> usize {
        self.message.len() + size_of::<i64>() * self.values.len()
    }

    /// Takes the first of them, of about so many bytes together but one at least, to be copied.
    pub(crate) fn take(&mut self, bytes_max: usize) -> Copies {
        let count = (bytes_max / (self.message.len() + FIELD_BYTES_MAX)).max(1);
        let values = self.values.drain(..count.min(self.values.len())).collect();
        let taken = Alike { message: self.message.clone(), values, ..*self };
        Copies::new(taken)
    }

    /// All of them, one behind the other.
    pub(crate) fn to_bytes(&self) -> Bytes {
        let mut copies = Copies::new(self.clone());
        copies.copy_to_bytes(copies.remaining())
    }
}

/// Messages that are alike, one behind the other.
#[derive(Debug)]
pub(crate) struct Copies {
    /// The message at which they stand, and how much of it is read.
    message: Vec<u8>,
    read: usize,
    field: Range<usize>,
    number: u8,
    following: std::vec::IntoIter<i64>,
    remaining: usize,
}

impl Copies {
    fn new(alike: Alike) -> Copies {
        let remaining = alike.bytes();
        let Alike { message, place, number, values } = alike;
        let read = message.len();
        let mut copies =
            Copies { message, read, field: place..place, number, following: values.into_iter(), remaining };
        copies.put_prefix();
        copies.go_on();
        copies
    }

    fn put_prefix(&mut self) {
        let prefix = prefix(self.message.len() - PREFIX_BYTES);
        self.message[..PREFIX_BYTES].copy_from_slice(&prefix);
    }

    /// Makes the message into the next one.
    fn go_on(&mut self) {
        let Some(value) = self.following.next() else { return };
        let length = field_bytes(value);
        if length != self.field.len() {
            self.message.splice(self.field.clone(), repeat_n(0, length));
            self.field.end = self.field.start + length;
            self.put_prefix();
        }
        write_field(&mut self.message[self.field.clone()], self.number, value);
        self.read = 0;
    }
}

impl Buf for Copies {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        &self.message[self.read..]
    }

    fn advance(&mut self, mut bytes: usize) {
        // As `Buf` has it. The connection takes what it was told remains, whatever its peer sends.
        assert!(bytes <= self.remaining, "{bytes} bytes are more than there are");
        self.remaining -= bytes;
        while bytes > 0 {
            let step = bytes.min(self.message.len() - self.read);
            self.read += step;
            bytes -= step;
            if self.read == self.message.len() {
                self.go_on();
            }
        }
    }
}

/// How long a field is with a value: zero is left out.
fn field_bytes(value: i64) -> usize {
    if value == 0 { 0 } else { 1 + encoded_len_varint(value as u64) }
}

/// Writes a field that has just the room for it.
fn write_field(room: &mut [u8], number: u8, value: i64) {
    let Some((key, varint)) = room.split_first_mut() else { return };
    // A number is a varint, which is kind 0.
    *key = number << 3;
    let mut rest = value as u64;
    for byte in varint.iter_mut() {
        *byte = rest as u8 | 0x80;
        rest >>= 7;
    }
    if let Some(last) = varint.last_mut() {
        *last &= 0x7f;
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use vlot_proto::etcdserverpb::{ResponseHeader, WatchResponse};

    use super::super::Batch;
    use super::*;

    const VALUES: [i64; 10] = [0, 1, 127, 128, 5, 1 << 40, i64::MAX, i64::MIN, -1, 0];
    const WATCH_ID: u8 = 2;

    /// The messages, and what they are when each is encoded by itself.
    fn alike() -> (Alike, Bytes) {
        let head = WatchResponse {
            header: Some(ResponseHeader { revision: 9, ..ResponseHeader::default() }),
            ..WatchResponse::default()
        };
        let tail = WatchResponse { cancel_reason: "a tail of some length".into(), ..WatchResponse::default() };
        let mut each = Batch::default();
        for watch_id in VALUES {
            let message = WatchResponse { watch_id, cancel_reason: tail.cancel_reason.clone(), ..head.clone() };
            each.push(message.encoded_len(), |buffer| message.encode(buffer).unwrap());
        }
        let tail = [Bytes::from(tail.encode_to_vec())];
        (Alike::new(&head.encode_to_vec(), WATCH_ID, &tail, VALUES.to_vec()), each.to_bytes())
    }

    #[test]
    fn messages_are_what_each_of_them_would_be() {
        let (alike, expected) = alike();
        assert_eq!((alike.messages(), alike.bytes()), (VALUES.len(), expected.len()));
        assert_eq!(alike.to_bytes(), expected);
    }

    #[test]
    fn messages_are_taken_in_pieces_and_read_in_steps_of_any_length() {
        for piece_bytes in [0, 100, 1000] {
            for step in 1..expected_step_max() {
                let (mut alike, expected) = alike();
                let mut read = Vec::new();
                while alike.messages() > 0 {
                    let mut piece = alike.take(piece_bytes);
                    assert!(piece.remaining() <= piece_bytes.max(60));
                    while piece.has_remaining() {
                        let step = step.min(piece.remaining());
                        read.extend_from_slice(&piece.copy_to_bytes(step));
                    }
                    assert!(piece.chunk().is_empty());
                }
                assert_eq!(read, expected);
            }
        }
    }

    fn expected_step_max() -> usize {
        alike().1.len() + 2
    }
}
