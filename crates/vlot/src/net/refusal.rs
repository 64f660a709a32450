//! Why a handshake fails: the reasons, and their numbers on the wire.

use std::fmt;

/// Why a handshake failed.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[non_exhaustive]
pub enum Refusal {
    /// What arrived is not this protocol.
    NotVlot,
    /// The two share no version.
    NoCommonVersion,
    /// The two belong to different clusters.
    WrongCluster,
    /// The dialler reached another node than it meant to.
    WrongNode,
    /// The dialler cannot be a peer: it claims to be the node that it dials.
    UnknownNode,
    /// The lane is one this version does not have.
    UnknownLane,
    /// The caller did not introduce itself in time.
    TooSlow,
    /// The caller hung up before it had introduced itself.
    CutShort,
    /// Too many callers had not introduced themselves, and this was the oldest of them.
    Crowded,
    /// What the caller or the one it called says of itself makes no sense.
    Garbled,
    /// The dialler is not among the peers, and there are as many unlisted peers as may be.
    TooManyUnlisted,
    /// One of the two has another disk than the one that is entitled to its seat.
    OtherDisk,
    /// A reason that only a later version knows.
    Unrecognised,
}

impl Refusal {
    pub(crate) const ALL: [Self; 13] = [
        Self::NotVlot,
        Self::NoCommonVersion,
        Self::WrongCluster,
        Self::WrongNode,
        Self::UnknownNode,
        Self::UnknownLane,
        Self::TooSlow,
        Self::CutShort,
        Self::Crowded,
        Self::Garbled,
        Self::TooManyUnlisted,
        Self::OtherDisk,
        Self::Unrecognised,
    ];

    /// Where the reason's count stands in an array with one element per reason.
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// The number on the wire. Zero is "accepted"; a number keeps its meaning for ever.
    pub(crate) fn number(self) -> u16 {
        match self {
            Self::NotVlot => 1,
            Self::NoCommonVersion => 2,
            Self::WrongCluster => 3,
            Self::WrongNode => 4,
            Self::UnknownNode => 5,
            Self::UnknownLane => 6,
            Self::TooSlow => 7,
            Self::CutShort => 8,
            Self::Crowded => 9,
            Self::Garbled => 10,
            Self::TooManyUnlisted => 11,
            Self::OtherDisk => 12,
            Self::Unrecognised => u16::MAX,
        }
    }

    /// The reason of that number. What a later version calls a reason is one all the same.
    pub(crate) fn from_number(number: u16) -> Self {
        Self::ALL.into_iter().find(|refusal| refusal.number() == number).unwrap_or(Self::Unrecognised)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotVlot => "not the peers' protocol",
            Self::NoCommonVersion => "no common version",
            Self::WrongCluster => "another cluster",
            Self::WrongNode => "another node than expected",
            Self::UnknownNode => "not another node",
            Self::UnknownLane => "unknown lane",
            Self::TooSlow => "too slow to introduce itself",
            Self::CutShort => "hung up before introducing itself",
            Self::Crowded => "too many unknown callers",
            Self::Garbled => "an introduction that makes no sense",
            Self::TooManyUnlisted => "not a peer, and too many unlisted",
            Self::OtherDisk => "another disk than the node is known to have",
            Self::Unrecognised => "a reason of a later version",
        })
    }
}
