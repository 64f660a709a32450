//! The numbers of Raft, each with a type of its own.
//!
//! Owns their order and arithmetic. Knows nothing else.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A period with at most one leader (Raft §5.1). Zero is before the first election.
    Term
}
number! {
    /// A place in the log. The first entry has index 1; zero is before it.
    LogIndex
}
number! {
    /// One process.
    NodeId
}
number! {
    /// One Raft group. All its replicas know it by the same number.
    GroupId
}

impl Term {
    /// The term before the first election.
    pub const ZERO: Self = Self(0);

    /// The term after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// How many terms lie between `earlier` and this one; zero if this one is not later.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl LogIndex {
    /// The place before the first entry.
    pub const ZERO: Self = Self(0);

    /// The place after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The place before this one; before the first entry there is none, and zero stays zero.
    #[must_use]
    pub fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// How many places lie after `earlier`, up to and including this one; zero if this one is not later.
    #[must_use]
    pub fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Names one entry of a log. Fields are ordered so that the derived comparison *is* the paper's
/// "at least as up-to-date" (Raft §5.4.1): the later term wins, then the longer log.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LogId {
    /// The term in which a leader made the entry.
    pub term: Term,
    /// Its place in the log.
    pub index: LogIndex,
}

impl LogId {
    /// Before the first entry: what an empty log ends with.
    pub const ZERO: Self = Self { term: Term::ZERO, index: LogIndex::ZERO };

    /// Names the entry at `index` that was made in `term`.
    #[must_use]
    pub const fn new(term: u64, index: u64) -> Self {
        Self { term: Term(term), index: LogIndex(index) }
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}
