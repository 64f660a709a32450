//! The small records beside history: where the store stands, and the attributes.
//!
//! Owns their names and bytes, as `docs/disk-format.md` describes them.

use bytes::Bytes;

use crate::damage::BadRecord;
use crate::engine::Record;
use crate::mvcc::revision::Position;

const STANDING: &[u8] = b"s";
const ATTRIBUTE: u8 = b'a';
/// The first byte of the standing: how blocks and records are encoded.
const FORMAT: u8 = 1;
const STANDING_BYTES: usize = 1 + 4 * 8 + 4;

/// Where the store stands. Written in the same transaction as the history that led there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Standing {
    pub position: Position,
    /// Kept apart from history, which may lose its newest event to compaction: the revision never falls.
    pub revision: i64,
    pub compacted: i64,
}

impl Standing {
    pub const EMPTY: Self = Self { position: Position { term: 0, index: 0 }, revision: 1, compacted: -1 };

    pub fn record(&self) -> Record {
        let mut bytes = Vec::with_capacity(STANDING_BYTES);
        bytes.push(FORMAT);
        for number in [self.position.term, self.position.index, self.revision as u64, self.compacted as u64] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let checksum = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        (STANDING.to_vec(), bytes)
    }

    fn of(bytes: &[u8]) -> Option<Self> {
        let (numbers, checksum) = bytes.split_last_chunk::<4>()?;
        if bytes.len() != STANDING_BYTES
            || u32::from_le_bytes(*checksum) != crc32c::crc32c(numbers)
            || bytes[0] != FORMAT
        {
            return None;
        }
        let number = |place: usize| {
            let bytes = &numbers[1 + 8 * place..][..8];
            u64::from_le_bytes(bytes.try_into().expect("a slice of eight bytes"))
        };
        let position = Position { term: number(0), index: number(1) };
        Some(Self { position, revision: number(2) as i64, compacted: number(3) as i64 })
    }
}

/// The record of an attribute; an empty value removes it.
pub(crate) fn attribute(name: &[u8], value: &[u8]) -> Record {
    let mut full = Vec::with_capacity(1 + name.len());
    full.push(ATTRIBUTE);
    full.extend_from_slice(name);
    (full, value.to_vec())
}

/// What a store finds in its records.
#[derive(Debug)]
pub(crate) struct Found {
    /// None in an engine that was never written to.
    pub standing: Option<Standing>,
    pub attributes: Vec<(Bytes, Bytes)>,
}

/// Reads the records, or names the first that is not as it should be.
pub(crate) fn read(records: Vec<Record>) -> Result<Found, BadRecord> {
    let mut found = Found { standing: None, attributes: Vec::new() };
    for (name, value) in records {
        match name.split_first() {
            Some((&ATTRIBUTE, short)) => {
                found.attributes.push((Bytes::copy_from_slice(short), value.into()));
            }
            _ if name == STANDING => {
                let standing = Standing::of(&value).ok_or(BadRecord::Standing)?;
                found.standing = Some(standing);
            }
            _ => return Err(BadRecord::Unknown { name }),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_and_damage_is_seen() {
        let standing = Standing { position: Position { term: 3, index: 9 }, revision: 7, compacted: -1 };
        let found = read(vec![standing.record(), attribute(b"name", b"value")]).unwrap();
        assert_eq!(found.standing, Some(standing));
        assert_eq!(found.attributes, [(Bytes::from("name"), Bytes::from("value"))]);
        let (name, bytes) = standing.record();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(read(vec![(name.clone(), damaged)]).is_err(), "bit {bit}");
        }
        assert!(read(vec![(b"x".to_vec(), vec![])]).is_err());
    }
}
