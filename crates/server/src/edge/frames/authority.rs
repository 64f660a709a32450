//! The `:authority` of a request, in its header block (RFC 7541).
//!
//! The HTTP/2 layer reads it as the authority of an URI and resets a stream whose client sends anything else; etcd takes
//! it as text and looks at it no further. Clients do send other text: an etcd 3.5.0 client the name of its resolver,
//! etcdctl 3.4 its endpoint with `http://`, others the path of a socket, or nothing.
//!
//! Owns how such a field is found and what is put in its place: a field of the same size, so that the compression tables
//! of both sides stay the same. Knows no table itself: a later reference to the field is one to what was put there.

use std::ops::Range;

use http::uri::Authority;

use super::huffman;

/// What stands in the static table (RFC 7541, appendix A): the pseudo-header fields of a request and a reply come first.
const STATIC_AUTHORITY: usize = 1;
const STATIC_PSEUDO_LAST: usize = 14;
const STATIC_LAST: usize = 61;
const NAME: &[u8] = b":authority";
/// The name, Huffman-coded.
const NAME_CODED: &[u8] = b"\xb8\x3b\x53\x39\xec\x32\x7d\x7f";
/// A regular field as large as an empty `:authority`.
const NAMELESS: &[u8; NAME.len()] = b"x-nameless";
/// No host has such a name, so that none can be meant.
const PLACEHOLDER: u8 = b'-';

/// What must be put where in a header block.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Replacement {
    pub(super) of: Range<usize>,
    pub(super) by: Vec<u8>,
}

/// Looks for an authority that the HTTP/2 layer would not take. The block may be a part of one, from its beginning: what is
/// not there, or is malformed, is left to that layer.
pub(super) fn replacement(block: &[u8]) -> Option<Replacement> {
    let mut reader = Reader { block, at: 0 };
    while let Some(field) = reader.field() {
        match field {
            Field::Pseudo => {}
            // Pseudo-header fields come first (RFC 9113 §8.3).
            Field::Regular => return None,
            Field::Authority { of, value, is_remembered } => {
                return replaced(&value, of, is_remembered, || !matches!(reader.field(), Some(Field::Pseudo)));
            }
        }
    }
    None
}

fn replaced(
    value: &[u8],
    of: Range<usize>,
    is_remembered: bool,
    is_last: impl FnOnce() -> bool,
) -> Option<Replacement> {
    if Authority::try_from(value).is_ok() {
        return None;
    }
    let by = match (value.len(), is_remembered) {
        // Without it, there is none.
        (0, false) => Vec::new(),
        // An empty one is remembered by the client, so that something must be in its place; no pseudo-header field can. A
        // regular one can where no pseudo-header field follows.
        (0, true) if is_last() => {
            let mut by = vec![0x40];
            put_string(&mut by, NAMELESS);
            put_string(&mut by, b"");
            by
        }
        (0, true) => return None,
        (length, _) => {
            let mut by = vec![if is_remembered { 0x41 } else { 0x01 }];
            put_string(&mut by, &vec![PLACEHOLDER; length]);
            by
        }
    };
    Some(Replacement { of, by })
}

/// One field of a header block, as far as it matters here.
enum Field {
    /// Something before the regular fields: a pseudo-header field, one of the client's table, or a change of its size.
    Pseudo,
    Regular,
    Authority {
        of: Range<usize>,
        value: Vec<u8>,
        is_remembered: bool,
    },
}

struct Reader<'b> {
    block: &'b [u8],
    at: usize,
}

impl<'b> Reader<'b> {
    /// The next field. `None` at the end, and at what is malformed.
    fn field(&mut self) -> Option<Field> {
        let start = self.at;
        let first = *self.block.get(start)?;
        // RFC 7541 §6.1: a field of a table.
        if first & 0x80 != 0 {
            return Some(match self.number(0x7f)? {
                // It has an empty value there.
                STATIC_AUTHORITY => Field::Authority { of: start..self.at, value: Vec::new(), is_remembered: false },
                index => kind_of(index),
            });
        }
        // RFC 7541 §6.3: the table's size.
        if first & 0xe0 == 0x20 {
            self.number(0x1f)?;
            return Some(Field::Pseudo);
        }
        // RFC 7541 §6.2: a field that is spelled out, and remembered or not.
        let is_remembered = first & 0x40 != 0;
        let kind = match self.number(if is_remembered { 0x3f } else { 0x0f })? {
            0 => match self.string()? {
                (false, NAME) | (true, NAME_CODED) => None,
                (false, [b':', ..]) | (true, [0xb8..=0xb9, ..]) => Some(Field::Pseudo),
                _ => Some(Field::Regular),
            },
            STATIC_AUTHORITY => None,
            index => Some(kind_of(index)),
        };
        let (is_coded, value) = self.string()?;
        Some(match kind {
            Some(kind) => kind,
            None => {
                let value = if is_coded { huffman::decode(value)? } else { value.to_vec() };
                Field::Authority { of: start..self.at, value, is_remembered }
            }
        })
    }

    /// A string, and whether it is Huffman-coded (RFC 7541 §5.2).
    fn string(&mut self) -> Option<(bool, &'b [u8])> {
        let is_coded = self.block.get(self.at)? & 0x80 != 0;
        let length = self.number(0x7f)?;
        let string = self.block.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some((is_coded, string))
    }

    /// A number whose first bits are those of a byte under this mask (RFC 7541 §5.1).
    fn number(&mut self, mask: u8) -> Option<usize> {
        let mut byte = || {
            let byte = *self.block.get(self.at)?;
            self.at += 1;
            Some(byte)
        };
        let mut number = usize::from(byte()? & mask);
        if number < usize::from(mask) {
            return Some(number);
        }
        // No number that is right here has more than three bytes.
        for shift in [0, 7, 14] {
            let more = byte()?;
            number += usize::from(more & 0x7f) << shift;
            if more & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

/// What a field is whose name is that of a table's. Which fields the client's own table has is not known here.
fn kind_of(index: usize) -> Field {
    if (STATIC_PSEUDO_LAST + 1..=STATIC_LAST).contains(&index) { Field::Regular } else { Field::Pseudo }
}

fn put_string(block: &mut Vec<u8>, string: &[u8]) {
    match string.len() {
        length @ 0..0x7f => block.push(length as u8),
        length => {
            block.push(0x7f);
            let mut rest = length - 0x7f;
            while rest >= 0x80 {
                block.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            block.push(rest as u8);
        }
    }
    block.extend_from_slice(string);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a block has become, if it is another one.
    fn rewritten(block: &[u8]) -> Option<Vec<u8>> {
        let Replacement { of, by } = replacement(block)?;
        Some([&block[..of.start], &by, &block[of.end..]].concat())
    }

    fn spelled(first: &[u8], value: &[u8]) -> Vec<u8> {
        let mut field = first.to_vec();
        put_string(&mut field, value);
        field
    }

    /// `:method: POST`, `:scheme: http`, `:path: /`.
    const BEFORE: &[u8] = b"\x83\x86\x84";
    /// `content-type: application/grpc`, remembered.
    const BEHIND: &[u8] = b"\x5f\x10application/grpc";

    #[test]
    fn an_authority_is_left_as_it_is() {
        for value in ["localhost", "127.0.0.1:2379", "[::1]:2379", "user@host", "a,b", "x:port"] {
            for first in [&b"\x41"[..], b"\x01", b"\x11"] {
                assert_eq!(rewritten(&[BEFORE, &spelled(first, value.as_bytes()), BEHIND].concat()), None, "{value}");
            }
        }
        // None at all, one of the client's table, and what is not HPACK.
        for block in
            [&b""[..], BEFORE, BEHIND, b"\x83\xbe\x84", b"\xff\xff\xff\xff\xff", b"\x41\x7f", b"\x41\x05ab", b"\0"]
        {
            assert_eq!(rewritten(block), None, "{block:?}");
        }
    }

    #[test]
    fn other_text_is_replaced_by_a_field_of_its_size() {
        let long = "/".repeat(1000);
        for value in ["http://127.0.0.1:2379", "#initially=[h:1]", "/var/run/etcd.sock", "%2Frun", "a b", &long] {
            let dashes = "-".repeat(value.len());
            let named = |name: u8| spelled(&spelled(&[name], NAME), value.as_bytes());
            let named_by = |name: u8| spelled(&[name], dashes.as_bytes());
            let rows = [
                (spelled(b"\x41", value.as_bytes()), named_by(0x41)),
                (spelled(b"\x01", value.as_bytes()), named_by(0x01)),
                (spelled(b"\x11", value.as_bytes()), named_by(0x01)),
                (named(0x40), named_by(0x41)),
                (named(0x00), named_by(0x01)),
            ];
            for (field, expected) in rows {
                for (before, behind) in [(BEFORE, BEHIND), (&b"\x3f\xe1\x1f\x83"[..], b"\x84"), (b"", b"")] {
                    let block = [before, &field, behind].concat();
                    assert_eq!(rewritten(&block), Some([before, &expected, behind].concat()), "{value}");
                }
            }
            Authority::try_from(dashes.as_bytes()).unwrap();
        }
    }

    #[test]
    fn huffman_coded_text_is_replaced_by_as_many_characters() {
        let coded = b"\x9d\x29\xae\xe3\x0c\x4f\x70\x3f";
        let block = [BEFORE, b"\x40\x88", NAME_CODED, b"\x88", coded, BEHIND].concat();
        assert_eq!(rewritten(&block), Some([BEFORE, b"\x41\x0a----------", BEHIND].concat()));
        // "www.example.com".
        let block = b"\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        assert_eq!(rewritten(block), None);
    }

    #[test]
    fn an_empty_one_is_none() {
        for field in [&b"\x81"[..], b"\x01\0", b"\x11\0", b"\0\x0a:authority\0"] {
            let block = [BEFORE, field, BEHIND].concat();
            assert_eq!(rewritten(&block), Some([BEFORE, BEHIND].concat()));
        }
    }

    #[test]
    fn an_empty_one_that_is_remembered_leaves_a_field_of_its_size() {
        let left = b"\x40\x0ax-nameless\0";
        for field in [&b"\x41\0"[..], b"\x40\x0a:authority\0"] {
            for behind in [BEHIND, b""] {
                assert_eq!(rewritten(&[BEFORE, field, behind].concat()), Some([BEFORE, left, behind].concat()));
            }
            // No regular field may stand before a pseudo-header field.
            assert_eq!(rewritten(&[field, BEFORE].concat()), None);
        }
    }
}
