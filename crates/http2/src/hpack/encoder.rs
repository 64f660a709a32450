//! From the fields of a reply to a header block.
//!
//! Owns the server's table. Replies say the same few things again and again: what a gRPC reply is, and that it went well. These are
//! remembered until the table is full, and nothing is ever taken out of it to make room, so that an entry keeps its place.

use super::static_table::STATIC_TABLE;
use super::{ENTRY_OVERHEAD, TABLE_BYTES_MAX};

/// Bytes of the table that are used at most, as entries count.
const USED_MAX: usize = 1024;
/// Longer values are not remembered: they are hardly the same again.
const VALUE_BYTES_MAX: usize = 64;
/// Names whose values come again.
const REMEMBERED: [&str; 6] = [
    "content-type",
    "grpc-status",
    "grpc-encoding",
    "grpc-accept-encoding",
    "access-control-allow-methods",
    "access-control-allow-headers",
];

/// Encodes the header blocks of one connection, one after the other.
#[derive(Debug)]
pub(crate) struct Encoder {
    /// The oldest entry is the first.
    table: Vec<Entry>,
    /// As entries count. `bytes ≤ USED_MAX`, and `bytes ≤ allowed`.
    bytes: usize,
    /// How large the client lets the table be.
    allowed: usize,
    /// Whether the client is to be told which size of those that it allows is used.
    is_to_be_told: bool,
}

/// A field that is remembered.
#[derive(Debug)]
struct Entry {
    name: Box<[u8]>,
    value: Box<[u8]>,
}

impl Default for Encoder {
    fn default() -> Self {
        Encoder { table: Vec::new(), bytes: 0, allowed: TABLE_BYTES_MAX, is_to_be_told: false }
    }
}

impl Encoder {
    /// The client allows a table of so many bytes.
    pub(crate) fn allow(&mut self, bytes: usize) {
        let allowed = bytes.min(TABLE_BYTES_MAX);
        if allowed != self.allowed {
            // What is there might be too much for it. It is easily said anew.
            self.table.clear();
            (self.bytes, self.allowed, self.is_to_be_told) = (0, allowed, true);
        }
    }

    /// Appends the status of a reply.
    pub(crate) fn status(&mut self, status: u16, out: &mut Vec<u8>) {
        self.begin(out);
        let index = match status {
            200 => 8,
            204 => 9,
            206 => 10,
            304 => 11,
            400 => 12,
            404 => 13,
            500 => 14,
            _ => {
                // By its name in the static table, and not remembered.
                put_number(out, 0x0f, 0x00, 8);
                put_string(out, &[100, 10, 1].map(|place| b'0' + (status / place % 10) as u8));
                return;
            }
        };
        put_number(out, 0x7f, 0x80, index);
    }

    /// Appends what stands before the first field of a block.
    pub(crate) fn begin(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.is_to_be_told) {
            // It is emptied on both sides (RFC 7541 §4.2).
            put_number(out, 0x1f, 0x20, 0);
            put_number(out, 0x1f, 0x20, self.allowed);
        }
    }

    /// Appends one field.
    pub(crate) fn field(&mut self, name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let place = self.table.iter().position(|entry| *entry.name == *name && *entry.value == *value);
        if let Some(place) = place {
            put_number(out, 0x7f, 0x80, STATIC_TABLE.len() + self.table.len() - place);
            return;
        }
        let size = name.len() + value.len() + ENTRY_OVERHEAD;
        let is_remembered = value.len() <= VALUE_BYTES_MAX
            && self.bytes + size <= self.allowed.min(USED_MAX)
            && REMEMBERED.iter().any(|often| often.as_bytes() == name);
        let (mask, pattern) = if is_remembered { (0x3f, 0x40) } else { (0x0f, 0x00) };
        match STATIC_TABLE.iter().position(|(known, _)| known.as_bytes() == name) {
            Some(place) => put_number(out, mask, pattern, place + 1),
            None => {
                out.push(pattern);
                put_string(out, name);
            }
        }
        put_string(out, value);
        if is_remembered {
            self.table.push(Entry { name: name.into(), value: value.into() });
            self.bytes += size;
        }
    }
}

/// Appends a number behind the bits of a pattern (RFC 7541 §5.1).
fn put_number(out: &mut Vec<u8>, mask: u8, pattern: u8, number: usize) {
    let Some(mut rest) = number.checked_sub(usize::from(mask)) else {
        out.push(pattern | number as u8);
        return;
    };
    out.push(pattern | mask);
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Appends a string, not Huffman-coded: few replies have long ones.
fn put_string(out: &mut Vec<u8>, string: &[u8]) {
    put_number(out, 0x7f, 0x00, string.len());
    out.extend_from_slice(string);
}
