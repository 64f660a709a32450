//! The form of a snapshot file: a header that names group, entry and members, the state machine's own bytes, and a
//! trailer with their length and checksum (`docs/disk-format.md`, *Snapshots*).
//!
//! Owns that form, and what names the content of a file. Must not know how files are called (see [`dir`]), when a
//! snapshot is taken, or how it gets to another node (see [`transfer`](crate::transfer)).

pub mod dir;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;

use crc32c::{crc32c, crc32c_append};
use vlot_raft::id::{GroupId, LogId};

use crate::members::MembersAt;
use crate::state_machine::Snapshot;

const MAGIC: &[u8; 8] = b"vlotsnap";
const VERSION: u32 = 1;
/// Before the members: magic, version, length of the members, group, term, index.
const FRONT_BYTES: usize = 40;
/// Between the members and the state: the checksum of the front and the members.
const HEADER_CRC_BYTES: usize = 4;
/// After the state: its length and its checksum.
const TRAILER_BYTES: usize = 12;
/// The shortest file: no members, no state.
pub(crate) const FILE_BYTES_MIN: u64 = (FRONT_BYTES + HEADER_CRC_BYTES + TRAILER_BYTES) as u64;
/// More members' bytes than this were never written.
const MEMBERS_BYTES_MAX: u32 = 1 << 20;

/// What a snapshot is of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Header {
    /// The group.
    pub group: GroupId,
    /// The last entry whose effect the state has.
    pub id: LogId,
    /// The members of the group at that entry.
    pub members: MembersAt,
}

/// Names the content of one snapshot file of a group: two members that have the same info have the same bytes, so one
/// can go on sending where the other has stopped.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct SnapshotInfo {
    /// The last entry whose effect the state has.
    pub id: LogId,
    /// How long the whole file is, in bytes.
    pub bytes: u64,
    /// The header's checksum, continued over the trailer, which has the state's length and checksum.
    pub checksum: u32,
}

/// How a file differs from a whole snapshot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flaw {
    /// It does not begin as a snapshot does that is known here; written by a newer version?
    UnknownVersion,
    /// It is a snapshot of another version of this format.
    OtherVersion {
        /// The version that it is written in.
        found: u32,
    },
    /// It ends too early.
    Truncated,
    /// The header's checksum does not match.
    HeaderChecksum,
    /// The members cannot be decoded.
    Members,
    /// The trailer names another length of the state than there is.
    StateLength,
    /// The state's checksum does not match.
    StateChecksum,
    /// It is a whole snapshot, but of another group, entry or content than its name says.
    OtherContent,
}

/// Why a snapshot file cannot be used.
#[derive(Debug)]
pub enum SnapshotError {
    /// The disk refused. The same may succeed later, or with another file.
    Io {
        /// The file.
        file: PathBuf,
        /// What the disk said.
        error: io::Error,
    },
    /// The bytes are not those of a whole snapshot. They never will be.
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where in it, in bytes: the part that is wrong begins here.
        offset: u64,
        /// What is wrong.
        flaw: Flaw,
    },
}

/// Writes a snapshot in its one form.
///
/// # Errors
/// If the state machine or `out` fails.
pub fn write(header: &Header, snapshot: &mut dyn Snapshot, out: &mut dyn Write) -> io::Result<SnapshotInfo> {
    let front = header.encode();
    out.write_all(&front)?;
    let mut state = Summed { out, bytes: 0, crc: 0 };
    snapshot.write_to(&mut state)?;
    let Summed { out, bytes, crc } = state;
    let trailer = Trailer { bytes, crc };
    out.write_all(&trailer.encode())?;
    out.flush()?;
    let bytes = front.len() as u64 + bytes + TRAILER_BYTES as u64;
    let header_crc = crc32c(&front[..front.len() - HEADER_CRC_BYTES]);
    Ok(SnapshotInfo { id: header.id, bytes, checksum: trailer.append_to(header_crc) })
}

impl Header {
    /// The header's bytes, as a file begins with them.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let members = self.members.encode();
        let mut bytes = Vec::with_capacity(FRONT_BYTES + members.len() + HEADER_CRC_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        // Bounded by what an entry of the log may hold.
        bytes.extend_from_slice(&(members.len() as u32).to_le_bytes());
        for number in [self.group.0, self.id.term.0, self.id.index.0] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&members);
        let crc = crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }
}

/// What stands before the members.
#[derive(Clone, Copy)]
struct Front([u8; FRONT_BYTES]);

impl Front {
    /// Whether this is a snapshot of a version that is known here.
    fn check(&self) -> Result<(), Flaw> {
        let (is_snapshot, version) = (&self.0[..8] == MAGIC, u32_at(&self.0, 8));
        if is_snapshot && version != VERSION {
            return Err(Flaw::OtherVersion { found: version });
        }
        let is_known = is_snapshot && u32_at(&self.0, 12) <= MEMBERS_BYTES_MAX;
        if is_known { Ok(()) } else { Err(Flaw::UnknownVersion) }
    }

    fn members_bytes(&self) -> usize {
        u32_at(&self.0, 12) as usize
    }

    /// Where the state begins.
    fn state_at(&self) -> u64 {
        (FRONT_BYTES + self.members_bytes() + HEADER_CRC_BYTES) as u64
    }

    fn group(&self) -> GroupId {
        GroupId(u64_at(&self.0, 16))
    }

    fn id(&self) -> LogId {
        LogId::new(u64_at(&self.0, 24), u64_at(&self.0, 32))
    }

    /// Reads the members and their checksum, which follow.
    fn decode(&self, rest: &[u8]) -> Result<Header, Flaw> {
        let (members, crc) = rest.split_at(rest.len() - HEADER_CRC_BYTES);
        if crc32c_append(crc32c(&self.0), members) != u32_at(crc, 0) {
            return Err(Flaw::HeaderChecksum);
        }
        let members = MembersAt::decode(members).map_err(|_| Flaw::Members)?;
        Ok(Header { group: self.group(), id: self.id(), members })
    }
}

/// What stands after the state.
#[derive(Clone, Copy, Eq, PartialEq)]
struct Trailer {
    /// How many bytes the state has.
    bytes: u64,
    crc: u32,
}

impl Trailer {
    fn encode(self) -> [u8; TRAILER_BYTES] {
        let mut bytes = [0; TRAILER_BYTES];
        bytes[..8].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[8..].copy_from_slice(&self.crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; TRAILER_BYTES]) -> Self {
        Self { bytes: u64_at(bytes, 0), crc: u32_at(bytes, 8) }
    }

    /// The checksum that names the content. It continues that of the header rather than of all bytes: a checksum over
    /// bytes and their own checksum is the same whatever the bytes are.
    fn append_to(self, header_crc: u32) -> u32 {
        crc32c_append(header_crc, &self.encode())
    }
}

/// Counts and sums what passes through to a snapshot's state.
struct Summed<'a> {
    out: &'a mut dyn Write,
    bytes: u64,
    crc: u32,
}

impl Write for Summed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.crc = crc32c_append(self.crc, &bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

impl SnapshotError {
    /// Whether bytes are wrong, rather than the disk out of order.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }
}

impl fmt::Display for SnapshotInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "snapshot of {} with {} bytes and checksum {:08x}", self.id, self.bytes, self.checksum)
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherVersion { found } => {
                return write!(
                    f,
                    "snapshot of format version {found}; this program reads version {VERSION}: start the version that \
                     wrote it, or a later one"
                );
            }
            Self::UnknownVersion => "unknown snapshot format; written by a newer version?",
            Self::Truncated => "the snapshot ends too early",
            Self::HeaderChecksum => "the checksum of the snapshot's header does not match",
            Self::Members => "the snapshot's members cannot be decoded",
            Self::StateLength => "the snapshot's state has another length than its trailer says",
            Self::StateChecksum => "the checksum of the snapshot's state does not match",
            Self::OtherContent => "the snapshot is another one than its name says",
        })
    }
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { file, error } => write!(f, "{}: {error}", file.display()),
            Self::Damaged { file, flaw: flaw @ Flaw::OtherVersion { .. }, .. } => {
                write!(f, "{}: {flaw}", file.display())
            }
            Self::Damaged { file, offset, flaw } => {
                write!(f, "{}: damaged at byte {offset}: {flaw}", file.display())
            }
        }
    }
}

impl std::error::Error for SnapshotError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            Self::Damaged { .. } => None,
        }
    }
}
