//! The index as it is saved beside history, so that a restart need not read all of that.
//!
//! Owns the bytes that `docs/disk-format.md` describes. Nothing is lost with them: what is absent, damaged or of another
//! history than the engine's is made from history. Must not know where they are kept.

use std::io::{self, Read, Write};

use prost::encoding::{decode_varint, encode_varint};

use crate::mvcc::key_index::bulk::Builder;
use crate::mvcc::key_index::{KeyIndex, Version};
use crate::mvcc::revision::{Position, Revision};

const MAGIC: &[u8; 8] = b"vlotidx\x01";
/// A part takes keys until it has so many bytes.
const PART_BYTES: usize = 256 << 10;
/// No part is longer than a key may be, by far.
const PART_BYTES_MAX: u32 = 64 << 20;
const NUMBERS: usize = 8;

/// What names one history: an engine draws it when it is made, and keeps it.
pub(crate) type Identity = [u8; 16];

/// Of what the index is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    /// The history that it belongs to.
    pub identity: Identity,
    /// The position after which the index was so.
    pub position: Position,
    /// The newest revision then. History from there on is to be added.
    pub revision: i64,
    /// What blocks take up in the engine whose keys are not above `counted`.
    pub stored_bytes: u64,
    pub counted: i64,
}

/// An index, and of what it is.
#[derive(Debug)]
pub(crate) struct SavedIndex {
    pub header: Header,
    pub index: KeyIndex,
    /// How long it is as it is saved.
    pub bytes: u64,
}

/// Writes an index. Calls `rest` between its parts.
///
/// # Errors
/// `out` or `rest` fails: what is written is of no use.
pub(crate) fn write(
    header: &Header,
    index: &KeyIndex,
    out: &mut dyn Write,
    rest: &mut dyn FnMut() -> io::Result<()>,
) -> io::Result<u64> {
    out.write_all(MAGIC)?;
    let mut parts = Parts { out, crc: 0, bytes: MAGIC.len() as u64 };
    parts.add(&header.encoded(index))?;
    let (mut part, mut last) = (Vec::with_capacity(PART_BYTES + 1024), Vec::new());
    index.visit_all(&mut |key, versions| {
        for version in versions {
            encode(key, version, &last, &mut part);
            last.clear();
            last.extend_from_slice(key);
        }
        if part.len() < PART_BYTES {
            return Ok(());
        }
        parts.add(&part)?;
        part.clear();
        last.clear();
        rest()
    })?;
    if !part.is_empty() {
        parts.add(&part)?;
    }
    // The end, by which a file that was cut is known.
    parts.add(&[])?;
    Ok(parts.bytes)
}

/// Reads an index, or tells that there is none that can be used.
pub(crate) fn read(from: &mut dyn Read) -> Option<SavedIndex> {
    let mut magic = [0; MAGIC.len()];
    from.read_exact(&mut magic).ok()?;
    let mut parts = ReadParts { from, crc: 0, bytes: magic.len() as u64, part: Vec::new() };
    let (header, keys, versions) = Header::decode((magic == *MAGIC).then(|| parts.next())??)?;
    let mut builder = Builder::default();
    loop {
        let mut rest = parts.next()?;
        if rest.is_empty() {
            break;
        }
        let mut key = Vec::new();
        while !rest.is_empty() {
            let version = decode(&mut key, &mut rest)?;
            if !builder.push(&key, version) {
                return None;
            }
        }
    }
    let index = builder.finish();
    let is_whole = (index.keys() as u64, index.versions() as u64) == (keys, versions);
    is_whole.then_some(SavedIndex { header, index, bytes: parts.bytes })
}

impl Header {
    fn encoded(&self, index: &KeyIndex) -> Vec<u8> {
        let Self { identity, position: Position { term, index: at }, revision, stored_bytes, counted } = *self;
        let (keys, versions) = (index.keys() as u64, index.versions() as u64);
        let numbers: [u64; NUMBERS] = [term, at, revision as u64, stored_bytes, counted as u64, keys, versions, 0];
        identity.into_iter().chain(numbers.into_iter().flat_map(u64::to_le_bytes)).collect()
    }

    /// The header, and how many keys and versions follow it.
    fn decode(bytes: &[u8]) -> Option<(Self, u64, u64)> {
        let (identity, rest) = bytes.split_first_chunk::<16>()?;
        let (numbers, rest) = rest.as_chunks::<8>();
        let numbers: &[[u8; 8]; NUMBERS] = numbers.try_into().ok().filter(|_| rest.is_empty())?;
        let [term, index, revision, stored_bytes, counted, keys, versions, _] = numbers.map(u64::from_le_bytes);
        let (revision, counted) = (revision as i64, counted as i64);
        let header = Self { identity: *identity, position: Position { term, index }, revision, stored_bytes, counted };
        Some((header, keys, versions))
    }
}

/// Adds one version, whose key begins as the last one did.
fn encode(key: &[u8], version: &Version, last: &[u8], into: &mut Vec<u8>) {
    let shared = key.iter().zip(last).take_while(|(left, right)| left == right).count();
    encode_varint(shared as u64, into);
    encode_varint((key.len() - shared) as u64, into);
    into.extend_from_slice(&key[shared..]);
    let revision = version.revision();
    encode_varint(revision.main as u64, into);
    encode_varint(u64::from(revision.sub), into);
    encode_varint(version.count as u64, into);
    if !version.is_deletion() {
        encode_varint((revision.main - version.create) as u64, into);
        encode_varint(version.lease as u64, into);
        encode_varint(u64::from(version.value_bytes), into);
    }
}

/// Takes one version off `rest`; `key` is the last one before, and this one's after.
fn decode(key: &mut Vec<u8>, rest: &mut &[u8]) -> Option<Version> {
    let shared = usize::try_from(varint(rest)?).ok().filter(|shared| *shared <= key.len())?;
    let added = usize::try_from(varint(rest)?).ok()?;
    let (suffix, after) = rest.split_at_checked(added)?;
    *rest = after;
    key.truncate(shared);
    key.extend_from_slice(suffix);
    let main = i64::try_from(varint(rest)?).ok()?;
    let revision = Revision { main, sub: u32::try_from(varint(rest)?).ok()? };
    let count = i64::try_from(varint(rest)?).ok()?;
    if count == 0 {
        return Some(Version::deletion(revision));
    }
    let create = main.checked_sub_unsigned(varint(rest)?)?;
    let lease = varint(rest)? as i64;
    let value_bytes = u32::try_from(varint(rest)?).ok()?;
    Some(Version::put(revision, create, count, lease, value_bytes as usize))
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    // Most numbers here are small.
    if let Some((&byte @ 0..0x80, after)) = rest.split_first() {
        *rest = after;
        return Some(u64::from(byte));
    }
    decode_varint(rest).ok()
}

/// Writes parts, each with its length and a checksum of itself and of all before it.
struct Parts<'a> {
    out: &'a mut dyn Write,
    crc: u32,
    bytes: u64,
}

impl Parts<'_> {
    fn add(&mut self, part: &[u8]) -> io::Result<()> {
        let length = u32::try_from(part.len()).ok().filter(|&length| length <= PART_BYTES_MAX);
        let length = length.ok_or_else(|| io::Error::other("a key is longer than any that was put"))?.to_le_bytes();
        self.crc = crc32c::crc32c_append(crc32c::crc32c_append(self.crc, &length), part);
        self.bytes += (length.len() + 4 + part.len()) as u64;
        for piece in [&length[..], &self.crc.to_le_bytes(), part] {
            self.out.write_all(piece)?;
        }
        Ok(())
    }
}

struct ReadParts<'a> {
    from: &'a mut dyn Read,
    crc: u32,
    bytes: u64,
    part: Vec<u8>,
}

impl ReadParts<'_> {
    /// The next part, once its checksum holds.
    fn next(&mut self) -> Option<&[u8]> {
        let mut front = [0; 8];
        self.from.read_exact(&mut front).ok()?;
        let (length, crc) = (front.first_chunk::<4>()?, front.last_chunk::<4>()?);
        let bytes = u32::from_le_bytes(*length);
        if bytes > PART_BYTES_MAX {
            return None;
        }
        self.part.clear();
        // Memory grows with what comes, not with what is announced.
        let read = (&mut *self.from).take(u64::from(bytes)).read_to_end(&mut self.part).ok()?;
        self.crc = crc32c::crc32c_append(crc32c::crc32c_append(self.crc, length), &self.part);
        self.bytes += (front.len() + read) as u64;
        (read == bytes as usize && self.crc == u32::from_le_bytes(*crc)).then_some(&self.part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        identity: [7; 16],
        position: Position { term: 3, index: 900 },
        revision: 700,
        stored_bytes: 5_000,
        counted: 702,
    };

    fn saved(index: &KeyIndex) -> Vec<u8> {
        let mut bytes = Vec::new();
        let length = write(&HEADER, index, &mut bytes, &mut || Ok(())).unwrap();
        assert_eq!(length, bytes.len() as u64);
        bytes
    }

    fn versions(index: &KeyIndex) -> Vec<(Vec<u8>, Version)> {
        let mut all = Vec::new();
        let visited: Result<(), ()> = index.visit_all(&mut |key, versions| {
            all.extend(versions.iter().map(|version| (key.to_vec(), *version)));
            Ok(())
        });
        visited.map(|()| all).unwrap()
    }

    fn index(keys: i64, versions: i64) -> KeyIndex {
        let mut index = KeyIndex::default();
        for round in 0..versions {
            for key in 0..keys {
                let main = 2 + round * keys + key;
                let revision = Revision { main, sub: key as u32 % 3 };
                index.push(format!("/registry/{:07}", key * 7919 % keys).as_bytes(), |last| match last {
                    Some(last) if round % 3 == 2 && !last.is_deletion() => Version::deletion(revision),
                    Some(last) => Version::put(revision, last.create.max(1), last.count + 1, -key, 1 << 20),
                    None => Version::put(revision, main, 1, i64::MAX, 0),
                });
            }
        }
        index
    }

    #[test]
    fn an_index_survives_being_saved() {
        for (keys, each) in [(0, 0), (1, 1), (1, 500), (59, 1), (61, 1), (3_000, 7), (40_000, 1)] {
            let index = index(keys, each);
            let bytes = saved(&index);
            let found = read(&mut &bytes[..]).expect("it can be read");
            assert_eq!((found.header, found.bytes), (HEADER, bytes.len() as u64));
            assert_eq!((found.index.keys(), found.index.versions()), (index.keys(), index.versions()));
            assert!(versions(&found.index) == versions(&index), "{keys} keys");
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let bytes = saved(&index(20, 3));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&mut &damaged[..]).is_none(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(read(&mut &bytes[..length]).is_none(), "length {length}");
        }
    }

    #[test]
    fn no_bytes_with_a_good_checksum_make_the_reader_panic() {
        let mut noise = 1u32;
        for _ in 0..20_000 {
            let part: Vec<u8> = (0..24)
                .map(|_| {
                    noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (noise >> 24) as u8 & 0x8f
                })
                .collect();
            let mut bytes = MAGIC.to_vec();
            let mut parts = Parts { out: &mut bytes, crc: 0, bytes: 0 };
            parts.add(&HEADER.encoded(&KeyIndex::default())).unwrap();
            parts.add(&part).unwrap();
            parts.add(&[]).unwrap();
            read(&mut &bytes[..]);
        }
    }
}
