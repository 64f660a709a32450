//! What can go wrong, each with what a person needs to find it.
//!
//! Owns the error types of the crate's border. A failure of storage is final: it is kept and repeated, never retried.

use crate::disk::real::DirError;
use crate::identity::Identity;
use std::fmt;
use std::io;
use std::path::PathBuf;
use vlot_raft::id::{GroupId, LogId};

/// The system refused an act on a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// What was tried, as a verb: `sync`.
    pub act: &'static str,
    /// With which file or directory.
    pub file: PathBuf,
    /// What kind of refusal it is.
    pub kind: io::ErrorKind,
    /// What the system said.
    pub message: String,
}

/// How bytes differ from what they should be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flaw {
    /// A checksum (CRC32C) does not match.
    Checksum {
        /// What it covers.
        of: &'static str,
        /// The sum that is written beside the bytes.
        expected: u32,
        /// The sum of the bytes.
        found: u32,
    },
    /// A record does not continue the one before it.
    Chain {
        /// The checksum of the record before.
        expected: u32,
        /// The checksum that this record says came before it.
        found: u32,
    },
    /// A length goes beyond what holds it, or does not fill it.
    Length {
        /// Of what, in bytes.
        of: &'static str,
        /// What there is room for.
        expected: u64,
        /// What is written.
        found: u64,
    },
    /// A number that cannot be at this place.
    Value {
        /// Of what.
        of: &'static str,
        /// What could be.
        expected: u64,
        /// What is written.
        found: u64,
    },
    /// Zeros where a record is known to have been durable.
    Missing,
}

/// Why a log cannot be opened. It is left as it was found.
#[derive(Debug)]
pub enum OpenError {
    /// The directory cannot be used.
    Dir(DirError),
    /// The system refused to read or write.
    Io(Failure),
    /// There is no room for a segment.
    NoSpace(Failure),
    /// Bytes that were durable have changed or are gone. Entries of any group may be missing from there on.
    Corrupt {
        /// The segment.
        file: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong there.
        flaw: Flaw,
    },
    /// A segment between others, or after one that says that there is more, is not there.
    Missing {
        /// The segment.
        file: PathBuf,
    },
    /// The log was cut because of damage, and is not mended. It can only be opened with
    /// [`Options::accept_damage`](crate::log::Options::accept_damage).
    Damaged {
        /// The file that says so.
        file: PathBuf,
    },
    /// The log belongs to another cluster or another node.
    OtherIdentity {
        /// The segment that says so.
        file: PathBuf,
        /// The node whose log is to be opened.
        expected: Identity,
        /// The node whose log it is.
        found: Identity,
    },
    /// The log is written in a format that this version does not read.
    OtherVersion {
        /// The segment that says so.
        file: PathBuf,
        /// The version that is read here.
        expected: u32,
        /// The version that it is written in.
        found: u32,
    },
}

/// Why something is not written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum WriteError {
    /// A write or a sync failed: what is durable is unknown, and every later call gets this same answer. Only opening
    /// the log again finds out.
    Failed(Failure),
    /// There is no room for another segment. Nothing of the call was written; it may be tried again when there is.
    NoSpace(Failure),
    /// The call has more in it than one write may. Nothing of it was written.
    TooLarge {
        /// How much it has, in bytes as written.
        bytes: u64,
        /// How much it may have.
        bytes_max: u64,
    },
    /// A note is longer than it may be. Nothing of the call was written.
    NoteTooLong {
        /// Of which group.
        group: GroupId,
        /// How long it is, in bytes.
        bytes: usize,
        /// How long it may be.
        bytes_max: usize,
    },
}

/// Why space is not freed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TidyError {
    /// What has to be written again cannot be read, so the segment that it is in has to stay. Nothing was changed.
    Read(ReadError),
    /// What has to be written is not.
    Write(WriteError),
}

/// Why something is not read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ReadError {
    /// An earlier write or sync failed; see [`WriteError::Failed`].
    Failed(Failure),
    /// The system refused to read.
    Io(Failure),
    /// The first entry that was asked for comes before the group's log begins.
    Compacted {
        /// The entry after which it begins.
        after: LogId,
    },
    /// The bytes of an entry have changed since they were written.
    Corrupt {
        /// The segment.
        file: PathBuf,
        /// Where the entry's payload lies in it, in bytes.
        offset: u64,
        /// What is wrong there.
        flaw: Flaw,
    },
}

impl Failure {
    pub(crate) fn new(act: &'static str, file: PathBuf, error: &io::Error) -> Self {
        Self { act, file, kind: error.kind(), message: error.to_string() }
    }

    /// Whether it is for want of room, which passes, rather than for damage, which does not.
    pub(crate) fn is_for_space(&self) -> bool {
        matches!(self.kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

impl From<DirError> for OpenError {
    fn from(error: DirError) -> Self {
        Self::Dir(error)
    }
}

impl From<WriteError> for TidyError {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

impl From<ReadError> for TidyError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// What is written while a log is opened is part of that.
impl From<WriteError> for OpenError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::NoSpace(failure) => Self::NoSpace(failure),
            WriteError::Failed(failure) => Self::Io(failure),
            error => unreachable!("a log that is opened writes little: {error}"),
        }
    }
}

impl From<Failure> for OpenError {
    fn from(failure: Failure) -> Self {
        if failure.is_for_space() { Self::NoSpace(failure) } else { Self::Io(failure) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.act, self.file.display(), self.message)
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checksum { of, expected, found } => {
                write!(f, "the checksum of the {of} is {found:#010x}, {expected:#010x} is expected")
            }
            Self::Chain { expected, found } => {
                write!(f, "the record follows one with checksum {found:#010x}, {expected:#010x} is expected")
            }
            Self::Length { of, expected, found } => {
                write!(f, "the {of} is {found} bytes long, {expected} are expected")
            }
            Self::Value { of, expected, found } => write!(f, "the {of} is {found}, {expected} is expected"),
            Self::Missing => write!(f, "there are zeros, a record that was durable is expected"),
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dir(error) => error.fmt(f),
            Self::Io(failure) | Self::NoSpace(failure) => failure.fmt(f),
            Self::Corrupt { file, offset, flaw } => corrupt(f, file, *offset, flaw),
            Self::Missing { file } => write!(f, "{}: this segment of the log is missing", file.display()),
            Self::Damaged { file } => {
                write!(
                    f,
                    "{}: the log was cut because of damage, and what is missing was not made up for",
                    file.display()
                )
            }
            Self::OtherIdentity { file, expected, found } => {
                write!(f, "{}: this is the log of {found}, not of {expected}", file.display())
            }
            Self::OtherVersion { file, expected, found } => {
                write!(
                    f,
                    "{}: log of format version {found}; this program reads versions up to {expected}: start the version that \
                     wrote it, or a later one",
                    file.display()
                )
            }
        }
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(failure) | Self::NoSpace(failure) => failure.fmt(f),
            Self::TooLarge { bytes, bytes_max } => write!(f, "{bytes} bytes in one write, {bytes_max} at most"),
            Self::NoteTooLong { group, bytes, bytes_max } => {
                write!(f, "a note of {bytes} bytes for group {group}, {bytes_max} at most")
            }
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(failure) | Self::Io(failure) => failure.fmt(f),
            Self::Compacted { after } => write!(f, "the log begins after {after}"),
            Self::Corrupt { file, offset, flaw } => corrupt(f, file, *offset, flaw),
        }
    }
}

fn corrupt(f: &mut fmt::Formatter<'_>, file: &std::path::Path, offset: u64, flaw: &Flaw) -> fmt::Result {
    write!(f, "{}: corrupt at byte {offset}: {flaw}", file.display())
}

impl fmt::Display for TidyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => error.fmt(f),
            Self::Write(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Failure {}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Dir(error) => Some(error),
            Self::Io(failure) | Self::NoSpace(failure) => Some(failure),
            _ => None,
        }
    }
}

impl std::error::Error for WriteError {}

impl std::error::Error for ReadError {}

impl std::error::Error for TidyError {}
