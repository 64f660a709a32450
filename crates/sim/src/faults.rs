//! What goes wrong: the kinds of fault, and which of them strikes whom.
//!
//! Owns the choice of victims, of how long a fault lasts, and of how a network breaks apart. Must not know how a fault
//! is carried out: that is the world's.

use crate::agenda::Span;
use crate::chance::Chance;
use crate::network::Place;

/// A kind of fault.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum FaultKind {
    /// A process is killed; what it wrote stays.
    Kill,
    /// The leader's process is killed.
    KillLeader,
    /// A process is killed between the acts of one turn.
    KillInTurn,
    /// A machine loses power: what was not synced is lost, torn or kept.
    PowerLoss,
    /// All machines lose power.
    PowerLossOfAll,
    /// A process stands still while its clock runs (SIGSTOP).
    Pause,
    /// The leader stands still.
    PauseLeader,
    /// A write to a disk fails.
    WriteError,
    /// A sync of a disk fails.
    SyncError,
    /// A disk is full.
    DiskFull,
    /// A disk is slow.
    SlowDisk,
    /// The nodes are split into two parts.
    Split,
    /// A node is cut off from all others.
    Isolate,
    /// The leader is cut off from all others.
    IsolateLeader,
    /// Two parts see each other only through one node.
    Bridge,
    /// A node hears no one, or no one hears it.
    OneWay,
    /// Each direction between two nodes is cut or not, by chance.
    Patchwork,
    /// A connection breaks and is made again.
    Reset,
    /// A direction between two nodes is slow.
    SlowLink,
    /// Much is lost, everywhere.
    LossStorm,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::Kill,
        Self::KillLeader,
        Self::KillInTurn,
        Self::PowerLoss,
        Self::PowerLossOfAll,
        Self::Pause,
        Self::PauseLeader,
        Self::WriteError,
        Self::SyncError,
        Self::DiskFull,
        Self::SlowDisk,
        Self::Split,
        Self::Isolate,
        Self::IsolateLeader,
        Self::Bridge,
        Self::OneWay,
        Self::Patchwork,
        Self::Reset,
        Self::SlowLink,
        Self::LossStorm,
    ];

    /// Its name in transcripts and sums.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::KillLeader => "kill-leader",
            Self::KillInTurn => "kill-in-turn",
            Self::PowerLoss => "power-loss",
            Self::PowerLossOfAll => "power-loss-of-all",
            Self::Pause => "pause",
            Self::PauseLeader => "pause-leader",
            Self::WriteError => "write-error",
            Self::SyncError => "sync-error",
            Self::DiskFull => "disk-full",
            Self::SlowDisk => "slow-disk",
            Self::Split => "split",
            Self::Isolate => "isolate",
            Self::IsolateLeader => "isolate-leader",
            Self::Bridge => "bridge",
            Self::OneWay => "one-way",
            Self::Patchwork => "patchwork",
            Self::Reset => "reset",
            Self::SlowLink => "slow-link",
            Self::LossStorm => "loss-storm",
        }
    }
}

/// One fault, with all that was drawn for it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fault {
    /// A process ends, and is started again after a while.
    Crash {
        /// Whose.
        place: Place,
        /// How.
        how: Crash,
        /// When it is started again.
        down: Span,
    },
    /// A process stands still for a while.
    Pause {
        /// Whose.
        place: Place,
        /// For how long.
        pause: Span,
    },
    /// A later write or sync of a disk fails.
    DiskError {
        /// Whose.
        place: Place,
        /// How many come before it.
        after: u64,
        /// A sync rather than a write.
        sync: bool,
    },
    /// A disk has no room for new segments for a while.
    DiskFull {
        /// Whose.
        place: Place,
        /// For how long.
        full: Span,
    },
    /// A disk is slow for a while.
    SlowDisk {
        /// Whose.
        place: Place,
        /// How many times slower than usual.
        times: u64,
        /// For how long.
        slow: Span,
    },
    /// Frames do not pass in some directions for a while.
    Cut {
        /// In which: from and to.
        directions: Vec<(Place, Place)>,
        /// Connections break, rather than lose frames.
        breaks: bool,
        /// For how long.
        cut: Span,
    },
    /// A connection breaks, and is made again.
    Reset {
        /// Between this node
        a: Place,
        /// and this one.
        b: Place,
    },
    /// A direction is slow for a while.
    SlowLink {
        /// From this node
        from: Place,
        /// to this one.
        to: Place,
        /// How many times slower than usual.
        times: u64,
        /// For how long.
        slow: Span,
    },
    /// So many frames of a million are lost for a while.
    Loss {
        /// How many.
        per_million: u64,
        /// For how long.
        storm: Span,
    },
}

/// How a process ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Crash {
    /// It alone; its machine goes on, and closes its connections.
    Kill,
    /// In the midst of its next turn.
    KillInTurn,
    /// With its machine. Its peers do not notice.
    PowerLoss,
}

/// Decides what a fault of this kind does in a world of so many nodes. May be nothing, or the same to several.
#[must_use]
pub fn plan(kind: FaultKind, nodes: usize, leader: Option<Place>, chance: &mut Chance) -> Vec<Fault> {
    let place = chance.below(nodes as u64) as Place;
    let place = match kind {
        FaultKind::KillLeader | FaultKind::PauseLeader | FaultKind::IsolateLeader => leader.unwrap_or(place),
        _ => place,
    };
    let other = (place + 1 + chance.below(nodes as u64 - 1) as usize) % nodes;
    let typical = Span::millis(chance.pick(&[20, 200, 2_000, 5_000]));
    let lasts = chance.skewed(typical);
    let crash = |how| vec![Fault::Crash { place, how, down: lasts }];
    let cut = |directions, chance: &mut Chance| {
        vec![Fault::Cut { directions, breaks: chance.coin(), cut: lasts + Span::millis(50) }]
    };
    match kind {
        FaultKind::Kill | FaultKind::KillLeader => crash(Crash::Kill),
        FaultKind::KillInTurn => crash(Crash::KillInTurn),
        FaultKind::PowerLoss => crash(Crash::PowerLoss),
        FaultKind::PowerLossOfAll => (0..nodes)
            .map(|place| Fault::Crash { place, how: Crash::PowerLoss, down: chance.skewed(Span::millis(500)) })
            .collect(),
        FaultKind::Pause | FaultKind::PauseLeader => vec![Fault::Pause { place, pause: lasts }],
        FaultKind::WriteError => vec![Fault::DiskError { place, after: chance.below(20), sync: false }],
        FaultKind::SyncError => vec![Fault::DiskError { place, after: chance.below(20), sync: true }],
        FaultKind::DiskFull => vec![Fault::DiskFull { place, full: lasts * 2 }],
        FaultKind::SlowDisk => vec![Fault::SlowDisk { place, times: chance.pick(&[10, 100, 1000]), slow: lasts }],
        FaultKind::Split => cut(split(nodes, None, chance), chance),
        FaultKind::Isolate | FaultKind::IsolateLeader => cut(around(nodes, place, true, true), chance),
        FaultKind::Bridge => cut(split(nodes, Some(place), chance), chance),
        FaultKind::OneWay => {
            let deaf = chance.coin();
            cut(around(nodes, place, deaf, !deaf), chance)
        }
        FaultKind::Patchwork => {
            let all = (0..nodes * nodes).map(|n| (n / nodes, n % nodes)).filter(|(from, to)| from != to);
            cut(all.filter(|_| chance.below(3) == 0).collect(), chance)
        }
        FaultKind::Reset => vec![Fault::Reset { a: place, b: other }],
        FaultKind::SlowLink => {
            vec![Fault::SlowLink { from: place, to: other, times: chance.pick(&[5, 50, 500]), slow: lasts }]
        }
        FaultKind::LossStorm => {
            vec![Fault::Loss { per_million: chance.pick(&[100_000, 300_000, 500_000]), storm: lasts }]
        }
    }
}

/// The directions between two parts; a bridge belongs to both.
fn split(nodes: usize, bridge: Option<Place>, chance: &mut Chance) -> Vec<(Place, Place)> {
    let sides: Vec<bool> = (0..nodes).map(|_| chance.coin()).collect();
    let apart = |a: Place, b: Place| sides[a] != sides[b] && bridge != Some(a) && bridge != Some(b);
    (0..nodes * nodes).map(|n| (n / nodes, n % nodes)).filter(|&(from, to)| apart(from, to)).collect()
}

/// The directions to and from one node.
fn around(nodes: usize, place: Place, incoming: bool, outgoing: bool) -> Vec<(Place, Place)> {
    let others = (0..nodes).filter(|&other| other != place);
    others
        .flat_map(|other| [incoming.then_some((other, place)), outgoing.then_some((place, other))])
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_sees_all_and_a_split_is_two_way() {
        for seed in 0..50 {
            let chance = &mut Chance::new(seed, 1);
            let cuts = split(5, Some(2), chance);
            assert!(cuts.iter().all(|&(from, to)| from != 2 && to != 2));
            assert!(cuts.iter().all(|&(from, to)| cuts.contains(&(to, from))));
        }
        assert_eq!(around(3, 1, true, false), [(0, 1), (2, 1)]);
    }

    #[test]
    fn every_kind_has_a_plan() {
        for kind in FaultKind::ALL {
            let planned = plan(kind, 3, Some(2), &mut Chance::new(1, 1));
            assert!(!planned.is_empty(), "{}", kind.name());
            if kind == FaultKind::PauseLeader {
                assert!(matches!(planned[0], Fault::Pause { place: 2, .. }));
            }
        }
    }
}
