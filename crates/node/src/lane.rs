//! The lanes between two nodes: what must not wait for what.

/// One of the separate connections between two nodes.
///
/// Every lane has its own TCP connection in each direction, so that a heartbeat or a vote is never queued behind a
/// megabyte of entries, nor those behind a gigabyte of snapshot, neither in this process nor in the kernel.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Lane {
    /// Small and urgent: votes, heartbeats, their answers.
    Control,
    /// Log entries.
    Entries,
    /// Bulk: snapshots. A connection for it stands only while there is something to send, and it gives way to the other
    /// lanes.
    Snapshot,
}

impl Lane {
    /// Every lane, most urgent first.
    pub const ALL: [Self; Self::COUNT] = [Self::Control, Self::Entries, Self::Snapshot];

    /// How many lanes there are.
    pub const COUNT: usize = 3;

    /// The lane's number in a handshake. A number keeps its meaning for ever.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::Control => 0,
            Self::Entries => 1,
            Self::Snapshot => 2,
        }
    }

    /// The lane of that number, if this version knows it.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| lane.number() == number)
    }

    /// Where the lane's part stands in an array with one element per lane.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }
}
