//! The layout that all records have in common: a header of fixed size with both checksums.
//!
//! Owns the header and the sizes of what follows it. Must not know of files, nor of what a term or a vote means. The
//! layout is described byte by byte in `docs/disk-format.md`.

use crate::error::Flaw;
use crc32c::{crc32c, crc32c_append};
use vlot_raft::id::GroupId;

/// The fixed part at the front of a record, in bytes.
pub(crate) const HEADER_BYTES: usize = 32;
/// What precedes the table of entries in the body of an append.
pub(crate) const APPEND_BYTES: usize = 16;
/// One row of that table.
pub(crate) const ROW_BYTES: usize = 16;
/// The body of a vote.
pub(crate) const VOTE_BYTES: usize = 24;
/// What precedes the note in the body of a begin.
pub(crate) const BEGIN_BYTES: usize = 24;
/// The body of a first segment.
pub(crate) const FIRST_SEGMENT_BYTES: usize = 8;
/// Records begin at multiples of this.
pub(crate) const ALIGN: usize = 8;

pub(crate) const VOTE: u8 = 1;
pub(crate) const APPEND: u8 = 2;
pub(crate) const END: u8 = 3;
pub(crate) const BEGIN: u8 = 4;
pub(crate) const REWRITE: u8 = 5;
pub(crate) const FIRST_SEGMENT: u8 = 6;
pub(crate) const MARK: u8 = 7;
pub(crate) const REMOVE: u8 = 8;

/// Where the bytes of an entry are, and what they should be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Payload {
    /// The offset in the segment.
    pub offset: u32,
    pub length: u32,
    pub crc: u32,
}

impl Payload {
    /// Its bytes in a whole segment, within which it must be.
    pub(crate) fn of(self, segment: &[u8]) -> &[u8] {
        &segment[self.offset as usize..][..self.length as usize]
    }

    /// Whether these are its bytes.
    pub(crate) fn check(self, bytes: &[u8]) -> Result<(), Flaw> {
        let found = crc32c(bytes);
        if found == self.crc { Ok(()) } else { Err(Flaw::Checksum { of: "payload", expected: self.crc, found }) }
    }
}

/// What tells the records of a segment from those of any other, and from all that stood in its file before. Both are of
/// the segment's header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Stamp {
    /// The checksum.
    pub crc: u32,
    /// Three bytes of the salt, as they stand above the byte of a record's kind.
    pub salt: u32,
}

impl Stamp {
    /// Whether this was a record's header of the segment, or most of it: it has a kind and the salt, or the checksum of the
    /// record before. So it was meant to be one even if its own checksum does not match.
    pub(crate) fn is_on(self, header: &[u8], previous: Option<u32>) -> bool {
        let names_previous = previous.is_some_and(|previous| u32_at(header, 24) == previous);
        self.may_begin(header, 0) || (names_previous && header[..HEADER_BYTES] != [0; HEADER_BYTES])
    }

    /// Whether a record of the segment may begin here: a kind that there is, and the salt.
    pub(crate) fn may_begin(self, bytes: &[u8], at: usize) -> bool {
        self.is_in(u32_at(bytes, at + 4))
    }

    /// Whether one may begin at any place of these bytes, the first of which is one. Much of a segment may be empty, and this is
    /// quicker than to look at each place.
    pub(crate) fn may_begin_within(self, bytes: &[u8]) -> bool {
        bytes.chunks_exact(ALIGN).fold(false, |found, place| found | self.is_in(u32_at(place, 4)))
    }

    /// Whether these four bytes of a header are a kind that there is, below the salt.
    fn is_in(self, kind_and_salt: u32) -> bool {
        (u32::from(VOTE)..=u32::from(REMOVE)).contains(&(kind_and_salt ^ self.salt))
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub length: u32,
    pub kind: u8,
    pub group: GroupId,
    pub durable: u32,
    pub body_crc: u32,
    pub previous: u32,
}

impl Header {
    /// For the place at `offset`. A record that lies in another segment, or elsewhere in its own, than where it was written
    /// to does not match.
    pub(crate) fn encode(&self, stamp: Stamp, offset: u32) -> ([u8; HEADER_BYTES], u32) {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&self.length.to_le_bytes());
        bytes[4..8].copy_from_slice(&(stamp.salt | u32::from(self.kind)).to_le_bytes());
        bytes[8..16].copy_from_slice(&self.group.0.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.durable.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.body_crc.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.previous.to_le_bytes());
        let crc = checksum(stamp, offset, &bytes);
        bytes[28..32].copy_from_slice(&crc.to_le_bytes());
        (bytes, crc)
    }

    /// The header at `offset` with its own checksum; `bytes` is the whole segment. There must be room for a header.
    pub(crate) fn decode(bytes: &[u8], stamp: Stamp, offset: u32) -> Result<(Self, u32), Flaw> {
        let at = offset as usize;
        let header = &bytes[at..at + HEADER_BYTES];
        let crc = checksum(stamp, offset, header);
        let written = u32_at(header, 28);
        if crc != written {
            return Err(Flaw::Checksum { of: "record's header", expected: written, found: crc });
        }
        let salt = salt_at(header, 0);
        if salt != stamp.salt {
            return Err(Flaw::Value { of: "record's salt", expected: stamp.salt.into(), found: salt.into() });
        }
        let header = Self {
            length: u32_at(header, 0),
            kind: header[4],
            group: GroupId(u64_at(header, 8)),
            durable: u32_at(header, 16),
            body_crc: u32_at(header, 20),
            previous: u32_at(header, 24),
        };
        Ok((header, crc))
    }
}

fn checksum(stamp: Stamp, offset: u32, header: &[u8]) -> u32 {
    crc32c_append(crc32c_append(stamp.crc, &offset.to_le_bytes()), &header[..28])
}

/// The salt of a header that begins at `at`, if one does.
fn salt_at(bytes: &[u8], at: usize) -> u32 {
    u32_at(bytes, at + 4) & !0xff
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
