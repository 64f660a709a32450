//! What goes wrong: the kinds of fault, and what each of them strikes.
//!
//! Owns the choice of victims, of how long a fault lasts, and of how a network breaks apart. Must not know how a fault
//! is carried out: that is the world's.

use crate::agenda::Span;
use crate::churn::{self, Scene};
use crate::fault_kind::FaultKind;
use crate::place::{Place, Slot};
use crate::rng::Rng;
use vlot_node::members::MemberChange;

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
    /// A process ends while it takes in its next snapshot.
    CrashInInstall {
        /// Whose.
        place: Place,
        /// How: it alone, or with its machine.
        how: Crash,
        /// At which step.
        step: Install,
        /// When it is started again.
        down: Span,
    },
    /// A process stands still for a while between what it decides in a turn and what it sends.
    PauseInTurn {
        /// Whose.
        place: Place,
        /// For how long.
        pause: Span,
    },
    /// A clock leaps, and runs at this rate from then on.
    Clock {
        /// Whose.
        place: Place,
        /// How far ahead it leaps.
        leap: Span,
        /// How many of its nanoseconds pass in a million.
        rate: u64,
    },
    /// State machines of a node apply slowly for a while.
    SlowApply {
        /// Whose.
        place: Place,
        /// How many times slower than usual.
        times: u64,
        /// For how long.
        slow: Span,
    },
    /// A state machine stands still for a while.
    StuckApply {
        /// Whose.
        place: Place,
        /// Which of its groups.
        slot: Slot,
        /// For how long.
        stuck: Span,
    },
    /// A state machine fails at its next command; the process is started again with a repaired program after a while.
    FailingApply {
        /// Whose.
        place: Place,
        /// Which of its groups.
        slot: Slot,
        /// How.
        how: Failure,
        /// When the process is started again.
        repaired: Span,
    },
    /// A process ends while it saves its next snapshot.
    CrashInSave {
        /// Whose.
        place: Place,
        /// How: it alone, or with its machine.
        how: Crash,
        /// When it is started again.
        down: Span,
    },
    /// A group is closed on a node, and begun again after a while.
    CloseGroup {
        /// Whose.
        place: Place,
        /// Which of its groups.
        slot: Slot,
        /// When it is begun again.
        closed: Span,
    },
    /// A disk is lost.
    LostDisk {
        /// Whose.
        place: Place,
    },
    /// An operator asks for a change of members.
    Change {
        /// In which group.
        slot: Slot,
        /// What to change.
        changes: Vec<MemberChange>,
    },
    /// An operator asks the leader to transfer its leadership.
    Transfer {
        /// In which group.
        slot: Slot,
        /// To which node, if it matters.
        to: Option<Place>,
    },
    /// A log is cut.
    Compact {
        /// Whose.
        place: Place,
        /// Which of its groups.
        slot: Slot,
    },
    /// A node gets many writes at once, for which no client waits.
    Burst {
        /// Which.
        place: Place,
        /// In which group.
        slot: Slot,
        /// How many.
        writes: u64,
    },
    /// A later write or sync of a disk fails.
    DiskError {
        /// Whose.
        place: Place,
        /// Of the disk of snapshots rather than of that of the log.
        of_snapshots: bool,
        /// How many come before it.
        after: u64,
        /// A sync rather than a write.
        sync: bool,
    },
    /// A bit of what was synced flips, and the process ends; it is started again after a while.
    Rot {
        /// Whose.
        place: Place,
        /// When it is started again.
        down: Span,
    },
    /// A disk has no room for a while.
    DiskFull {
        /// Whose.
        place: Place,
        /// For entries at once; otherwise once the log's last segment is full.
        at_once: bool,
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

/// How a state machine fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failure {
    /// It panics.
    Panic,
    /// It cannot read a command.
    UnknownCommand,
}

/// The steps by which a snapshot takes the place of a log and of a state.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Install {
    /// It has come, and its file is not durable.
    Come,
    /// Its file is durable, and the process has not looked at it.
    Staged,
    /// The log is asked to begin after it.
    Asked,
    /// The log begins after it, durably, and the state machine is what it was.
    Begun,
    /// The state machine has become it.
    Restored,
}

/// Decides what a fault of this kind does. May be nothing, or the same to several. `drift` is by how much clocks run
/// fast or slow at most, in millionths.
#[must_use]
pub fn plan(kind: FaultKind, scene: &Scene<'_>, drift: u64, rng: &mut Rng) -> Vec<Fault> {
    let &Scene { hosts: nodes, slot, leader, .. } = scene;
    let place = rng.below(nodes as u64) as Place;
    let place = match kind {
        FaultKind::KillLeader | FaultKind::PauseLeader | FaultKind::IsolateLeader => leader.unwrap_or(place),
        _ => place,
    };
    let other = (place + 1 + rng.below((nodes as u64).saturating_sub(1)) as usize) % nodes;
    let typical = Span::millis(rng.pick(&[20, 200, 2_000, 5_000]));
    let lasts = rng.skewed(typical);
    let crash = |how| vec![Fault::Crash { place, how, down: lasts }];
    let cut =
        |directions, rng: &mut Rng| vec![Fault::Cut { directions, breaks: rng.coin(), cut: lasts + Span::millis(50) }];
    match kind {
        FaultKind::Kill | FaultKind::KillLeader => crash(Crash::Kill),
        FaultKind::KillInTurn => crash(Crash::KillInTurn),
        FaultKind::PowerLoss => crash(Crash::PowerLoss),
        FaultKind::PowerLossOfAll => (0..nodes)
            .map(|place| Fault::Crash { place, how: Crash::PowerLoss, down: rng.skewed(Span::millis(500)) })
            .collect(),
        FaultKind::Pause | FaultKind::PauseLeader => vec![Fault::Pause { place, pause: lasts }],
        FaultKind::KillInInstall => {
            let how = rng.pick(&[Crash::Kill, Crash::PowerLoss]);
            let step = rng.pick(&[Install::Come, Install::Staged, Install::Asked, Install::Begun, Install::Restored]);
            vec![Fault::CrashInInstall { place, how, step, down: lasts }]
        }
        FaultKind::PauseInTurn => vec![Fault::PauseInTurn { place, pause: lasts }],
        FaultKind::ClockJump => {
            vec![Fault::Clock { place, leap: lasts, rate: 1_000_000 }]
        }
        FaultKind::ClockRate => {
            let rate = 1_000_000 - drift + rng.below(2 * drift + 1);
            vec![Fault::Clock { place, leap: Span::ZERO, rate }]
        }
        FaultKind::SlowApply => {
            let place = if rng.coin() { leader.unwrap_or(place) } else { place };
            vec![Fault::SlowApply { place, times: rng.pick(&[10, 100, 1000]), slow: lasts }]
        }
        FaultKind::StuckApply => {
            let place = if rng.coin() { leader.unwrap_or(place) } else { place };
            vec![Fault::StuckApply { place, slot, stuck: lasts * 3 }]
        }
        FaultKind::FailingApply => {
            let place = if rng.coin() { leader.unwrap_or(place) } else { place };
            let how = rng.pick(&[Failure::Panic, Failure::UnknownCommand]);
            vec![Fault::FailingApply { place, slot, how, repaired: lasts * 2 }]
        }
        FaultKind::KillInSave => {
            let how = rng.pick(&[Crash::Kill, Crash::PowerLoss]);
            vec![Fault::CrashInSave { place, how, down: lasts }]
        }
        FaultKind::CloseGroup => {
            let place = if rng.coin() { leader.unwrap_or(place) } else { place };
            vec![Fault::CloseGroup { place, slot, closed: rng.skewed(Span::millis(200)) }]
        }
        FaultKind::WriteError | FaultKind::SyncError => {
            let (sync, of_snapshots) = (kind == FaultKind::SyncError, rng.below(4) == 0);
            let after = rng.below(if of_snapshots { 3 } else { 20 });
            vec![Fault::DiskError { place, of_snapshots, after, sync }]
        }
        FaultKind::Rot => vec![Fault::Rot { place, down: lasts }],
        FaultKind::DiskFull => {
            let place = if rng.coin() { leader.unwrap_or(place) } else { place };
            let (all, at_once) = (rng.below(3) == 0, rng.below(3) > 0);
            let places = (0..nodes).filter(|&each| each == place || (all && rng.below(3) > 0));
            let places: Vec<Place> = places.collect();
            places.into_iter().map(|place| Fault::DiskFull { place, at_once, full: rng.skewed(lasts * 2) }).collect()
        }
        FaultKind::SlowDisk => vec![Fault::SlowDisk { place, times: rng.pick(&[10, 100, 1000]), slow: lasts }],
        FaultKind::Split => cut(split(nodes, None, rng), rng),
        FaultKind::Isolate => cut(around(nodes, place, true, true), rng),
        FaultKind::IsolateLeader => {
            let mut faults = cut(around(nodes, place, true, true), rng);
            // Clients that are cut off with it go on, and make its log the longest there is.
            if rng.coin() {
                faults.push(burst(place, slot, rng));
            }
            faults
        }
        FaultKind::Bridge => cut(split(nodes, Some(place), rng), rng),
        FaultKind::OneWay => {
            let deaf = rng.coin();
            cut(around(nodes, place, deaf, !deaf), rng)
        }
        FaultKind::Patchwork => {
            let all = (0..nodes * nodes).map(|n| (n / nodes, n % nodes)).filter(|(from, to)| from != to);
            cut(all.filter(|_| rng.below(3) == 0).collect(), rng)
        }
        FaultKind::Reset => vec![Fault::Reset { a: place, b: other }],
        FaultKind::SlowLink => {
            vec![Fault::SlowLink { from: place, to: other, times: rng.pick(&[5, 50, 500]), slow: lasts }]
        }
        FaultKind::LossStorm => {
            vec![Fault::Loss { per_million: rng.pick(&[100_000, 300_000, 500_000]), storm: lasts }]
        }
        FaultKind::Burst => {
            vec![burst(if rng.coin() { leader.unwrap_or(place) } else { place }, slot, rng)]
        }
        FaultKind::LostDisk => vec![Fault::LostDisk { place }],
        FaultKind::Transfer => {
            let mut faults = vec![Fault::Transfer { slot, to: rng.coin().then_some(other) }];
            // A leader that asks another node to campaign may not hear that it did.
            if let (Some(leader), 0) = (leader, rng.below(4)) {
                faults.extend(cut(around(nodes, leader, true, false), rng));
            }
            faults
        }
        FaultKind::Compact => {
            let all = rng.below(4) == 0;
            let places = (0..nodes).filter(|&each| all || each == place);
            places.map(|place| Fault::Compact { place, slot }).collect()
        }
        FaultKind::AddVoter
        | FaultKind::AddLearner
        | FaultKind::AddWitness
        | FaultKind::Demote
        | FaultKind::Remove
        | FaultKind::RemoveLeader
        | FaultKind::Replace
        | FaultKind::Move => {
            let changes = churn::plan(kind, scene, rng);
            if changes.is_empty() { Vec::new() } else { vec![Fault::Change { slot, changes }] }
        }
    }
}

fn burst(place: Place, slot: Slot, rng: &mut Rng) -> Fault {
    Fault::Burst { place, slot, writes: rng.pick(&[3, 10, 30]) }
}

/// The directions between two parts; a bridge belongs to both.
fn split(nodes: usize, bridge: Option<Place>, rng: &mut Rng) -> Vec<(Place, Place)> {
    let sides: Vec<bool> = (0..nodes).map(|_| rng.coin()).collect();
    let apart = |a: Place, b: Place| sides[a] != sides[b] && bridge != Some(a) && bridge != Some(b);
    (0..nodes * nodes).map(|n| (n / nodes, n % nodes)).filter(|&(from, to)| apart(from, to)).collect()
}

/// The directions to and from one node.
#[must_use]
pub fn around(nodes: usize, place: Place, incoming: bool, outgoing: bool) -> Vec<(Place, Place)> {
    let others = (0..nodes).filter(|&other| other != place);
    others
        .flat_map(|other| [incoming.then_some((other, place)), outgoing.then_some((place, other))])
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::churn::Spare;
    use vlot_raft::configuration::Configuration;
    use vlot_raft::id::NodeId;

    #[test]
    fn a_bridge_sees_all_and_a_split_is_two_way() {
        for seed in 0..50 {
            let rng = &mut Rng::new(seed, 1);
            let cuts = split(5, Some(2), rng);
            assert!(cuts.iter().all(|&(from, to)| from != 2 && to != 2));
            assert!(cuts.iter().all(|&(from, to)| cuts.contains(&(to, from))));
        }
        assert_eq!(around(3, 1, true, false), [(0, 1), (2, 1)]);
    }

    #[test]
    fn every_kind_has_a_plan() {
        let members = Configuration::of_voters((1..=4).map(NodeId));
        let spare = [Spare { place: 4, is_witness: false }];
        let scene = Scene { hosts: 5, slot: 0, leader: Some(2), members: &members, spare: &spare };
        for kind in FaultKind::ALL.iter().copied() {
            let planned: Vec<Fault> =
                (0..20).flat_map(|seed| plan(kind, &scene, 100, &mut Rng::new(seed, 1))).collect();
            assert!(!planned.is_empty(), "{}", kind.name());
            if kind == FaultKind::PauseLeader {
                assert!(planned.iter().all(|fault| matches!(fault, Fault::Pause { place: 2, .. })));
            }
        }
    }
}
