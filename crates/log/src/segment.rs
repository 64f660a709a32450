//! Segments: files of fixed size that hold records one after the other.
//!
//! Owns a segment's name, its header and how it comes to be: new, or of one that is not needed any more. Must not know of
//! records, but for how to tell whether there is one. A segment is made under another name and gets its own when it is
//! durable, so a segment that has its name has an intact header and its full length, or is damaged. The layout is
//! described byte by byte in `docs/disk-format.md`.

use crate::disk::Disk;
use crate::error::{Failure, Flaw, OpenError};
use crate::identity::Identity;
use crate::layout::{self, ALIGN, Stamp, u32_at, u64_at};
use crc32c::crc32c;
use std::io;
use vlot_raft::id::NodeId;

/// Where the first record of a segment begins: on a page of its own, so that the header's is never written again.
pub(crate) const FIRST_RECORD: u32 = 4096;
/// Damage is expected to take no more than one page of this many bytes at once.
pub(crate) const PAGE_BYTES: u32 = 4096;
/// A disk writes so many bytes as a whole or not at all, if they begin at a multiple of it.
pub(crate) const SECTOR_BYTES: u32 = 512;
/// Small writes go into blocks that hold zeros already, which are laid down this many bytes at a time. A sync of a
/// block that was never written has to write the file's map of blocks as well, which shows in the slowest calls.
pub(crate) const FILL_BYTES: u32 = 256 * 1024;

/// How short a segment may be: it has room for records, and for its end.
pub(crate) const SEGMENT_BYTES_MIN: u32 = 2 * FIRST_RECORD;
/// How long a segment may be. Offsets in it have room to grow in 32 bits, and one fits in memory while it is read.
pub(crate) const SEGMENT_BYTES_MAX: u32 = 1 << 30;

const MAGIC: [u8; 8] = *b"vlot-log";
/// What is written. A segment of version 1 has no salt, which is a salt of zero, and one of version 2 no removals. They are
/// otherwise the same: they are read, and written to until they are full or a group is removed.
pub(crate) const VERSION: u32 = 3;
const VERSION_OLDEST: u32 = 1;
const HEADER_BYTES: usize = 64;
/// What the name of a segment ends with.
const SUFFIX: &str = ".log";
/// What it ends with until the segment is durable.
const SUFFIX_NEW: &str = ".new";

/// An open segment.
#[derive(Debug)]
pub(crate) struct Segment<F> {
    pub sequence: u32,
    pub file: F,
    /// How long the file is.
    pub bytes: u32,
    pub stamp: Stamp,
    /// The version of its format.
    pub version: u32,
    /// Where its last record ends, once it is known that there are no more.
    pub used: u32,
    /// Up to here its blocks are known to have been written before it was written to, or while: with zeros, or with what
    /// stood in the file.
    pub filled: u32,
    /// Whether it was another segment before, or may have been.
    pub is_recycled: bool,
}

impl<F> Segment<F> {
    /// Up to where the blocks of a segment that has ended have been written.
    pub(crate) fn written(&self) -> u32 {
        self.filled.max(self.used)
    }
}

/// The name of a segment.
pub(crate) fn name(sequence: u32) -> String {
    format!("{sequence:016x}{SUFFIX}")
}

/// The name that it has before.
fn name_new(sequence: u32) -> String {
    format!("{sequence:016x}{SUFFIX_NEW}")
}

/// Which segment has this name; `None` if it is not the name of one. No log gets to the last number, behind which there
/// would be none for the next segment, and none begins with zero.
pub(crate) fn sequence_of(file: &str) -> Option<u32> {
    let sequence = u32::from_str_radix(file.strip_suffix(SUFFIX)?, 16).ok()?;
    ((1..u32::MAX).contains(&sequence) && file == name(sequence)).then_some(sequence)
}

/// Whether this is a segment that never came to be.
pub(crate) fn is_unfinished(file: &str) -> bool {
    file.ends_with(SUFFIX_NEW)
}

/// Why a segment is not made.
#[derive(Debug)]
pub(crate) enum NotCreated {
    /// There is no space for it. Nothing has changed.
    NoSpace(Failure),
    /// Storage fails. Whether there is such a segment is unknown.
    Failed(Failure),
}

impl From<NotCreated> for OpenError {
    fn from(error: NotCreated) -> Self {
        match error {
            NotCreated::NoSpace(failure) => Self::NoSpace(failure),
            NotCreated::Failed(failure) => Self::Io(failure),
        }
    }
}

/// Makes a segment durable, header, length and name. Replaces the one that has the name.
pub(crate) fn create<D: Disk>(
    disk: &mut D,
    identity: Identity,
    sequence: u32,
    bytes: u32,
) -> Result<Segment<D::File>, NotCreated> {
    let (header, stamp) = draw(disk, identity, sequence, bytes, 0);
    let file = lay_down(disk, &name_new(sequence), &header, bytes);
    let file = file.map_err(|error| not_created(disk, sequence, &error))?;
    give_name(disk, sequence)?;
    let filled = FILL_BYTES.min(bytes);
    Ok(Segment { sequence, file, bytes, stamp, version: VERSION, used: FIRST_RECORD, filled, is_recycled: false })
}

/// Makes a segment durable of one that has ended and is not needed any more. Its blocks have been written before, which saves
/// laying them down. What stands in them is left there, as none of it has the new stamp. There must be no segment of the
/// name; if there is no space, the old one goes.
pub(crate) fn recycle<D: Disk>(
    disk: &mut D,
    identity: Identity,
    old: Segment<D::File>,
    sequence: u32,
) -> Result<Segment<D::File>, NotCreated> {
    let (header, stamp) = draw(disk, identity, sequence, old.bytes, old.stamp.salt);
    let mut page = vec![0; FIRST_RECORD as usize];
    page[..HEADER_BYTES].copy_from_slice(&header);
    let done = disk
        .rename(&name(old.sequence), &name_new(sequence))
        // The old name must not lead to another's header, whenever power is lost.
        .and_then(|()| disk.sync_dir())
        .and_then(|()| disk.write_at(&old.file, &page, 0))
        .and_then(|()| disk.sync_data(&old.file));
    if let Err(error) = done {
        // It has one of the two.
        let _ = disk.remove(&name(old.sequence));
        return Err(not_created(disk, sequence, &error));
    }
    give_name(disk, sequence)?;
    Ok(Segment {
        sequence,
        stamp,
        version: VERSION,
        used: FIRST_RECORD,
        filled: old.written(),
        is_recycled: true,
        ..old
    })
}

/// A new file with a segment's front.
fn lay_down<D: Disk>(disk: &mut D, name: &str, header: &[u8; HEADER_BYTES], bytes: u32) -> io::Result<D::File> {
    let file = disk.create(name)?;
    disk.preallocate(&file, u64::from(bytes))?;
    let mut front = vec![0; bytes.min(FILL_BYTES) as usize];
    front[..HEADER_BYTES].copy_from_slice(header);
    disk.write_at(&file, &front, 0)?;
    disk.sync_data(&file)?;
    // This name may have led to another file, which must not get the name that comes.
    disk.sync_dir()?;
    Ok(file)
}

/// Gives a segment its name. From here on one that had it may be gone, whatever the error.
fn give_name<D: Disk>(disk: &mut D, sequence: u32) -> Result<(), NotCreated> {
    let name = name(sequence);
    let done = disk.rename(&name_new(sequence), &name).and_then(|()| disk.sync_dir());
    done.map_err(|error| NotCreated::Failed(Failure::new("name", disk.path(&name), &error)))
}

/// What is left of it is also removed when the log is opened; here it gives its space back at once.
fn not_created<D: Disk>(disk: &mut D, sequence: u32, error: &io::Error) -> NotCreated {
    let _ = disk.remove(&name_new(sequence));
    let failure = Failure::new("create", disk.path(&name(sequence)), error);
    if failure.is_for_space() { NotCreated::NoSpace(failure) } else { NotCreated::Failed(failure) }
}

/// Opens a segment and checks that it is whole, is ours and is what its name says. `into` gets its bytes, all of them.
pub(crate) fn open<D: Disk>(
    disk: &mut D,
    identity: Identity,
    sequence: u32,
    into: &mut Vec<u8>,
) -> Result<Segment<D::File>, OpenError> {
    let name = name(sequence);
    let file = disk.open(&name).map_err(|error| Failure::new("open", disk.path(&name), &error))?;
    let length = disk.len(&file).map_err(|error| Failure::new("measure", disk.path(&name), &error))?;
    let corrupt = |flaw| OpenError::Corrupt { file: disk.path(&name), offset: 0, flaw };

    let may_be =
        |bytes: &u32| (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(bytes) && bytes.is_multiple_of(FIRST_RECORD);
    let Some(bytes) = u32::try_from(length).ok().filter(may_be) else {
        let expected = length
            .clamp(u64::from(SEGMENT_BYTES_MIN), u64::from(SEGMENT_BYTES_MAX))
            .next_multiple_of(u64::from(FIRST_RECORD));
        return Err(corrupt(Flaw::Length { of: "segment", expected, found: length }));
    };
    into.resize(bytes as usize, 0);
    disk.read_at(&file, into, 0).map_err(|error| Failure::new("read", disk.path(&name), &error))?;

    let header = &into[..HEADER_BYTES];
    let (crc, written) = (crc32c(&header[..60]), u32_at(header, 60));
    if crc != written {
        return Err(corrupt(Flaw::Checksum { of: "segment's header", expected: written, found: crc }));
    }
    if header[..8] != MAGIC {
        let [expected, found] = [&MAGIC, header].map(|magic| u64_at(magic, 0));
        return Err(corrupt(Flaw::Value { of: "magic number", expected, found }));
    }
    let version = u32_at(header, 8);
    if !(VERSION_OLDEST..=VERSION).contains(&version) {
        return Err(OpenError::OtherVersion { file: disk.path(&name), expected: VERSION, found: version });
    }
    let found = Identity { cluster: u64_at(header, 16), node: NodeId(u64_at(header, 24)) };
    if found != identity {
        return Err(OpenError::OtherIdentity { file: disk.path(&name), expected: identity, found });
    }
    if u64_at(header, 32) != u64::from(sequence) {
        let (expected, found) = (u64::from(sequence), u64_at(header, 32));
        return Err(corrupt(Flaw::Value { of: "segment's sequence number", expected, found }));
    }
    if u64_at(header, 40) != length {
        return Err(corrupt(Flaw::Length { of: "segment", expected: u64_at(header, 40), found: length }));
    }
    let stamp = stamp_on(header, crc);
    Ok(Segment { sequence, file, bytes, stamp, version, used: FIRST_RECORD, filled: FIRST_RECORD, is_recycled: true })
}

/// Reads what there is of a segment that is refused, as far as it could be one; nothing if it cannot be read.
pub(crate) fn read_leniently<D: Disk>(disk: &mut D, sequence: u32, into: &mut Vec<u8>) {
    into.clear();
    let read = disk.open(&name(sequence)).and_then(|file| {
        let bytes = disk.len(&file)?.min(u64::from(SEGMENT_BYTES_MAX)) as usize;
        into.resize(bytes / ALIGN * ALIGN, 0);
        disk.read_at(&file, into, 0)
    });
    if read.is_err() {
        into.clear();
    }
}

/// The stamp of a segment with these bytes, if its header is intact.
pub(crate) fn stamp_of(bytes: &[u8]) -> Option<Stamp> {
    let header = bytes.get(..HEADER_BYTES)?;
    let crc = crc32c(&header[..60]);
    (header[..8] == MAGIC && crc == u32_at(header, 60)).then(|| stamp_on(header, crc))
}

fn stamp_on(header: &[u8], crc: u32) -> Stamp {
    // The highest byte has no place beside the kind.
    Stamp { crc, salt: u32_at(header, 48) << 8 }
}

/// The node whose log a segment is part of; `None` if its header does not tell.
pub(crate) fn identity_of<D: Disk>(disk: &mut D, sequence: u32) -> Option<Identity> {
    let mut header = [0; HEADER_BYTES];
    disk.open(&name(sequence)).and_then(|file| disk.read_at(&file, &mut header, 0)).ok()?;
    stamp_of(&header)?;
    Some(Identity { cluster: u64_at(&header, 16), node: NodeId(u64_at(&header, 24)) })
}

/// Whether there is something where the first record of a segment would be.
pub(crate) fn holds_something<D: Disk>(disk: &mut D, sequence: u32) -> bool {
    let mut front = [0; FIRST_RECORD as usize + layout::HEADER_BYTES];
    let read = disk.open(&name(sequence)).and_then(|file| disk.read_at(&file, &mut front, 0));
    let record = &front[FIRST_RECORD as usize..];
    read.is_ok() && stamp_of(&front).is_some_and(|stamp| stamp.is_on(record, None))
}

/// The header of a new segment. None of its records is taken for one of before: their salt is neither `old_salt` nor zero.
fn draw<D: Disk>(
    disk: &mut D,
    identity: Identity,
    sequence: u32,
    bytes: u32,
    old_salt: u32,
) -> ([u8; HEADER_BYTES], Stamp) {
    loop {
        let (header, stamp) = encode(identity, sequence, bytes, disk.salt());
        if ![0, old_salt].contains(&stamp.salt) {
            return (header, stamp);
        }
    }
}

fn encode(identity: Identity, sequence: u32, bytes: u32, salt: u64) -> ([u8; HEADER_BYTES], Stamp) {
    let mut header = [0; HEADER_BYTES];
    header[0..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[16..24].copy_from_slice(&identity.cluster.to_le_bytes());
    header[24..32].copy_from_slice(&identity.node.0.to_le_bytes());
    header[32..40].copy_from_slice(&u64::from(sequence).to_le_bytes());
    header[40..48].copy_from_slice(&u64::from(bytes).to_le_bytes());
    header[48..56].copy_from_slice(&salt.to_le_bytes());
    let crc = crc32c(&header[..60]);
    header[60..64].copy_from_slice(&crc.to_le_bytes());
    (header, stamp_on(&header, crc))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_names_are_those_of_segments() {
        let table = [
            ("0000000000000001.log", Some(1)),
            ("00000000fffffffe.log", Some(u32::MAX - 1)),
            ("00000000ffffffff.log", None),
            ("0000000000000000.log", None),
            ("0000000100000001.log", None),
            ("000000000000000A.log", None),
            ("+000000000000001.log", None),
            ("0000000000000001.new", None),
        ];
        for (name, sequence) in table {
            assert_eq!(sequence_of(name), sequence, "{name}");
        }
    }
}
