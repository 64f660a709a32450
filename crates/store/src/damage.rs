//! What is stored and cannot be read.
//!
//! Owns the names of what may be wrong with it. Must not know how it is read, or what is done about it.

use std::fmt;

use crate::mvcc::revision::Revision;

/// What is not as it was stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Damage {
    /// A block of history cannot be read.
    Block {
        /// Its key, the revision of its first event.
        key: Revision,
        /// What is wrong with it.
        bad: BadBlock,
    },
    /// A record beside history cannot be read.
    Record(BadRecord),
    /// Something of the engine's own, in its own words.
    Engine(String),
}

/// A block that cannot be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BadBlock {
    /// Its checksum (CRC32C) does not match.
    Checksum {
        /// The sum that is written beside the events.
        expected: u32,
        /// The sum of the events.
        found: u32,
    },
    /// An event ends too early.
    Truncated,
    /// An event is of no kind that is known.
    UnknownKind(u8),
    /// The event of this revision is not where it belongs.
    OutOfOrder(Revision),
}

/// A record that is not as it should be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BadRecord {
    /// The one that says where the store stands cannot be read.
    Standing,
    /// One of a lease, or of cluster time, cannot be read.
    Lease {
        /// The record's name.
        name: Vec<u8>,
    },
    /// One of users, roles or whether they count cannot be read.
    Auth {
        /// The record's name.
        name: Vec<u8>,
    },
    /// One of a quota cannot be read.
    Quota {
        /// The record's name.
        name: Vec<u8>,
    },
    /// There are users or roles, and nothing says whether they count.
    NoAuth,
    /// None of this name is known.
    Unknown {
        /// The name.
        name: Vec<u8>,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block { key, bad } => write!(f, "block {key}: {bad}"),
            Self::Record(bad) => bad.fmt(f),
            Self::Engine(what) => f.write_str(what),
        }
    }
}

impl fmt::Display for BadBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checksum { expected, found } => write!(f, "checksum {found:08x} instead of {expected:08x}"),
            Self::Truncated => write!(f, "an event that ends too early"),
            Self::UnknownKind(kind) => write!(f, "an event of the unknown kind {kind}"),
            Self::OutOfOrder(revision) => write!(f, "an event of revision {revision} out of order"),
        }
    }
}

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standing => f.write_str("the record of the store's standing cannot be read"),
            Self::Lease { name } => {
                write!(f, "the record {:?} of a lease cannot be read", name.escape_ascii().to_string())
            }
            Self::Auth { name } => {
                write!(f, "the record {:?} of users and roles cannot be read", name.escape_ascii().to_string())
            }
            Self::Quota { name } => {
                write!(f, "the record {:?} of a quota cannot be read", name.escape_ascii().to_string())
            }
            Self::NoAuth => f.write_str("there are users or roles, and no record says whether they count"),
            Self::Unknown { name } => write!(f, "the record {:?} is not known", name.escape_ascii().to_string()),
        }
    }
}

impl std::error::Error for Damage {}

impl std::error::Error for BadBlock {}

impl std::error::Error for BadRecord {}
