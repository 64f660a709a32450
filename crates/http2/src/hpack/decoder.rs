//! From a header block to the fields of a request.
//!
//! Owns the table that client and server keep alike. Any bytes may come: what is no header block is refused, and what it says is
//! bounded by who takes the fields (`head.rs`).

use std::collections::VecDeque;

use super::static_table::STATIC_TABLE;
use super::{ENTRY_OVERHEAD, Malformed, TABLE_BYTES_MAX, huffman};
use crate::head::{Fields, Kind};

/// Decodes the header blocks of one connection, one after the other.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// The newest entry is the first.
    table: VecDeque<Entry>,
    /// As entries count: names, values and an overhead each. `bytes ≤ bytes_max ≤ TABLE_BYTES_MAX`.
    bytes: usize,
    bytes_max: usize,
}

/// A field that is remembered.
#[derive(Debug)]
struct Entry {
    text: Box<[u8]>,
    name_bytes: usize,
    kind: Kind,
}

impl Entry {
    fn size(&self) -> usize {
        self.text.len() + ENTRY_OVERHEAD
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder { table: VecDeque::new(), bytes: 0, bytes_max: TABLE_BYTES_MAX }
    }
}

impl Decoder {
    /// Decodes one block. It stops early if its fields are far too many, after which the tables of both sides differ.
    pub(crate) fn decode(&mut self, block: &[u8], fields: &mut Fields) -> Result<(), Malformed> {
        let mut rest = Reader(block);
        let mut has_begun = false;
        while let Some(&first) = rest.0.first() {
            if first & 0x80 != 0 {
                // RFC 7541 §6.1: a field of a table.
                let index = rest.number(0x7f)?;
                self.push_indexed(index, fields)?;
            } else if first & 0xe0 == 0x20 {
                // RFC 7541 §6.3: the table's size. It stands before all fields (§4.2).
                let size = rest.number(0x1f)?;
                if has_begun || size > TABLE_BYTES_MAX {
                    return Err(Malformed::TableSize);
                }
                self.bytes_max = size;
                self.make_room(0);
                continue;
            } else {
                // RFC 7541 §6.2: a field that is spelled out.
                let is_remembered = first & 0x40 != 0;
                let index = rest.number(if is_remembered { 0x3f } else { 0x0f })?;
                self.push_literal(index, is_remembered, &mut rest, fields)?;
            }
            has_begun = true;
            if fields.are_far_too_many() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn push_indexed(&self, index: usize, fields: &mut Fields) -> Result<(), Malformed> {
        match self.entry(index)? {
            Found::Static(name, value) => fields.push(Kind::of_static(index), name.as_bytes(), value.as_bytes()),
            Found::Dynamic(entry) => {
                let (name, value) = entry.text.split_at(entry.name_bytes);
                fields.push(entry.kind, name, value);
            }
        }
        Ok(())
    }

    fn push_literal(
        &mut self,
        index: usize,
        is_remembered: bool,
        rest: &mut Reader<'_>,
        fields: &mut Fields,
    ) -> Result<(), Malformed> {
        let start = fields.text.len();
        if index == 0 {
            rest.string(&mut fields.text)?;
        } else {
            match self.entry(index)? {
                Found::Static(name, _) => fields.text.extend_from_slice(name.as_bytes()),
                Found::Dynamic(entry) => fields.text.extend_from_slice(&entry.text[..entry.name_bytes]),
            }
        }
        let name_end = fields.text.len();
        rest.string(&mut fields.text)?;
        let text = &fields.text[start..];
        let (name, value) = text.split_at(name_end - start);
        let kind = Kind::of(name, value);
        if is_remembered {
            self.remember(text.into(), name_end - start, kind);
        }
        fields.commit(kind, start, name_end);
        Ok(())
    }

    /// RFC 7541 §4.4: an entry that is larger than the table empties it.
    fn remember(&mut self, text: Box<[u8]>, name_bytes: usize, kind: Kind) {
        let entry = Entry { text, name_bytes, kind };
        self.make_room(entry.size());
        if entry.size() <= self.bytes_max {
            self.bytes += entry.size();
            self.table.push_front(entry);
        }
    }

    fn make_room(&mut self, size: usize) {
        while self.bytes + size > self.bytes_max
            && let Some(oldest) = self.table.pop_back()
        {
            self.bytes -= oldest.size();
        }
    }

    fn entry(&self, index: usize) -> Result<Found<'_>, Malformed> {
        let behind_zero = index.checked_sub(1).ok_or(Malformed::Index)?;
        match STATIC_TABLE.get(behind_zero) {
            Some((name, value)) => Ok(Found::Static(name, value)),
            None => self.table.get(behind_zero - STATIC_TABLE.len()).map(Found::Dynamic).ok_or(Malformed::Index),
        }
    }
}

enum Found<'t> {
    Static(&'static str, &'static str),
    Dynamic(&'t Entry),
}

/// What is left of a block.
struct Reader<'b>(&'b [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Result<u8, Malformed> {
        let (&first, rest) = self.0.split_first().ok_or(Malformed::Cut)?;
        self.0 = rest;
        Ok(first)
    }

    /// A number whose first bits are those of a byte under this mask (RFC 7541 §5.1). It has 28 bits at most beyond those.
    fn number(&mut self, mask: u8) -> Result<usize, Malformed> {
        let first = self.byte()? & mask;
        let mut number = usize::from(first);
        if first < mask {
            return Ok(number);
        }
        for shift in [0, 7, 14, 21] {
            let next = self.byte()?;
            number += usize::from(next & 0x7f) << shift;
            if next & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed::Number)
    }

    /// A string (RFC 7541 §5.2), which is appended to `out`.
    fn string(&mut self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let is_coded = self.0.first().ok_or(Malformed::Cut)? & 0x80 != 0;
        let length = self.number(0x7f)?;
        let (string, rest) = self.0.split_at_checked(length).ok_or(Malformed::Cut)?;
        self.0 = rest;
        if is_coded {
            return huffman::decode(string, out);
        }
        out.extend_from_slice(string);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
