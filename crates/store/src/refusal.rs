//! Why the store says no.
//!
//! One variant per fact. Which code and which words a client gets for it is the server's business.

use std::fmt;

/// Why a request was not done. It changed nothing, and every member refuses the same command for the same reason.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// A key is needed and none was given.
    EmptyKey,
    /// An operation of a transaction is empty, or a put asks to keep what a key that does not exist has.
    KeyNotFound,
    /// A put that keeps the old value brings one.
    ValueProvided,
    /// A put that keeps the old lease brings one.
    LeaseProvided,
    /// A transaction is longer than allowed.
    TooManyOps,
    /// A transaction changes a key twice.
    DuplicateKey,
    /// A sort order, a sort target, or a part of a comparison that is not known.
    InvalidSortOption,
    /// The history that is asked for has been given up.
    Compacted {
        /// The oldest revision that can be read.
        oldest: i64,
    },
    /// The revision that is asked for lies ahead.
    FutureRevision {
        /// The newest revision that there is.
        newest: i64,
    },
    /// There is no lease with this id.
    LeaseNotFound,
    /// A lease is to be granted under an id that is taken.
    LeaseExists,
    /// A lease is to be granted for longer than any may be.
    LeaseTtlTooLarge,
    /// An alarm says that a member has no room for more.
    NoSpace,
    /// An alarm says that a member's data is not that of the others.
    Corrupt,
    /// The engine could not give a value back. Not a fact that members agree on: the store has failed
    /// ([`Store::failure`](crate::store::Store::failure)) and must stop; another member may know better.
    Unreadable,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyKey => write!(f, "key is not provided"),
            Self::KeyNotFound => write!(f, "key not found"),
            Self::ValueProvided => write!(f, "value is provided"),
            Self::LeaseProvided => write!(f, "lease is provided"),
            Self::TooManyOps => write!(f, "too many operations in a transaction"),
            Self::DuplicateKey => write!(f, "a transaction changes a key twice"),
            Self::InvalidSortOption => write!(f, "invalid sort option"),
            Self::Compacted { oldest } => write!(f, "compacted; the oldest revision is {oldest}"),
            Self::FutureRevision { newest } => write!(f, "a future revision; the newest is {newest}"),
            Self::LeaseNotFound => write!(f, "requested lease not found"),
            Self::LeaseExists => write!(f, "lease already exists"),
            Self::LeaseTtlTooLarge => write!(f, "too large lease TTL"),
            Self::NoSpace => write!(f, "a member has no space for more"),
            Self::Corrupt => write!(f, "a member's data is not that of the others"),
            Self::Unreadable => write!(f, "a stored value cannot be read"),
        }
    }
}

impl std::error::Error for Refusal {}
