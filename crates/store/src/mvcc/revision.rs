//! Where a change stands: in the store's own history, and in the log that it came from.
//!
//! Owns the order of both. Knows nothing of keys or of what a log is.

use std::fmt;

/// Names one change. `main` counts the commands that changed something, `sub` the changes within one command.
///
/// An empty store is at `main` 1, as in etcd; the first change has `main` 2.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Revision {
    /// The revision that clients see.
    pub main: i64,
    /// Counts from zero within one command.
    pub sub: u32,
}

impl Revision {
    /// The first change that a command with this main revision makes.
    #[must_use]
    pub const fn first_of(main: i64) -> Self {
        Self { main, sub: 0 }
    }

    pub(crate) const MAX: Self = Self::last_of(i64::MAX);

    pub(crate) const fn last_of(main: i64) -> Self {
        Self { main, sub: u32::MAX }
    }

    /// The least revision above this one.
    pub(crate) const fn after(self) -> Self {
        match self.sub {
            u32::MAX => Self { main: self.main + 1, sub: 0 },
            sub => Self { main: self.main, sub: sub + 1 },
        }
    }

    /// The greatest revision below this one, whether or not anything was changed there.
    pub(crate) const fn before(self) -> Self {
        match self.sub {
            0 => Self { main: self.main - 1, sub: u32::MAX },
            sub => Self { main: self.main, sub: sub - 1 },
        }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.main, self.sub)
    }
}

/// The place in the caller's log that a command came from. The store keeps it beside what the command changed, in the
/// same transaction, and hands it back; it draws no conclusion from the term.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Position {
    /// Opaque to the store.
    pub term: u64,
    /// Rises by at least one from command to command.
    pub index: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}
