//! How faults are shown.

use super::{Group, Node, Replica, write_changes};
use crate::faults::Fault;
use std::fmt;

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash { place, how, down } => write!(f, "{} {how:?}, down for {down}", Node(*place)),
            Self::Pause { place, pause } => write!(f, "{} for {pause}", Node(*place)),
            Self::CrashInInstall { place, how, step, down } => {
                write!(f, "{} {how:?} when a snapshot is {step:?}, down for {down}", Node(*place))
            }
            Self::PauseInTurn { place, pause } => write!(f, "{} for {pause}, before it sends", Node(*place)),
            Self::Clock { place, leap, rate } => write!(f, "{} leaps {leap}, rate {rate}", Node(*place)),
            Self::SlowApply { place, times, slow } => write!(f, "{} {times} times for {slow}", Node(*place)),
            Self::StuckApply { place, slot, stuck } => write!(f, "{} for {stuck}", Replica(*place, *slot)),
            Self::FailingApply { place, slot, how, repaired } => {
                write!(f, "{} {how:?}, repaired after {repaired}", Replica(*place, *slot))
            }
            Self::CrashInSave { place, how, down } => {
                write!(f, "{} {how:?} when it saves a snapshot, down for {down}", Node(*place))
            }
            Self::CloseGroup { place, slot, closed } => write!(f, "{} for {closed}", Replica(*place, *slot)),
            Self::LostDisk { place } => write!(f, "{} or another", Node(*place)),
            Self::Change { slot, changes } => {
                write!(f, "{}", Group(*slot))?;
                write_changes(f, changes)
            }
            Self::Transfer { slot, to: Some(to) } => write!(f, "{}to {}", Group(*slot), Node(*to)),
            Self::Transfer { slot, to: None } => write!(f, "{}to anyone", Group(*slot)),
            Self::Compact { place, slot } => write!(f, "{}", Replica(*place, *slot)),
            Self::Burst { place, slot, writes } => write!(f, "{writes} writes at {}", Replica(*place, *slot)),
            Self::DiskError { place, of_snapshots, after, sync } => {
                let what = if *sync { "sync" } else { "write" };
                let of = if *of_snapshots { " of snapshots" } else { "" };
                write!(f, "{} {what}{of} after {after} more", Node(*place))
            }
            Self::Rot { place, down } => write!(f, "{} down for {down}", Node(*place)),
            Self::DiskFull { place, at_once, full } => {
                write!(f, "{}{} for {full}", Node(*place), if *at_once { " at once" } else { "" })
            }
            Self::SlowDisk { place, times, slow } => write!(f, "{} {times} times for {slow}", Node(*place)),
            Self::Cut { directions, breaks, cut } => {
                let how = if *breaks { "breaks" } else { "loses" };
                write!(f, "{how} for {cut}:")?;
                directions.iter().try_for_each(|(from, to)| write!(f, " {}-x{}", Node(*from), Node(*to)))
            }
            Self::Reset { a, b } => write!(f, "{} {}", Node(*a), Node(*b)),
            Self::SlowLink { from, to, times, slow } => {
                write!(f, "{} -> {} {times} times for {slow}", Node(*from), Node(*to))
            }
            Self::Loss { per_million, storm } => write!(f, "{per_million} of a million for {storm}"),
        }
    }
}
