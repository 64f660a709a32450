//! The kinds of fault, by name, and sets of them.
//!
//! Owns the names that stand in sums, in transcripts and on the command line. Must not know what a kind does.

use std::fmt;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal,)*) => {
        /// A kind of fault, or of something that an operator does.
        #[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
        pub enum FaultKind {
            $($(#[$doc])* $kind,)*
        }

        impl FaultKind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// Its name in transcripts and sums.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }
        }
    };
}

kinds! {
    /// A process is killed; what it wrote stays.
    Kill = "kill",
    /// The leader's process is killed.
    KillLeader = "kill-leader",
    /// A process is killed between the acts of one turn.
    KillInTurn = "kill-in-turn",
    /// A process is killed, or its machine loses power, at a step of the next snapshot that it takes in.
    KillInInstall = "kill-in-install",
    /// A machine loses power: what was not synced is lost, torn or kept.
    PowerLoss = "power-loss",
    /// All machines lose power.
    PowerLossOfAll = "power-loss-of-all",
    /// A disk is lost for good; the operator removes its node, which may come back with an empty one.
    LostDisk = "lost-disk",
    /// A process stands still while its clock runs (SIGSTOP).
    Pause = "pause",
    /// The leader stands still.
    PauseLeader = "pause-leader",
    /// A process stands still after it has decided what to do in a turn, and before it sends.
    PauseInTurn = "pause-in-turn",
    /// A clock leaps ahead, as that of a machine that was suspended.
    ClockJump = "clock-jump",
    /// A clock runs faster or slower from here on.
    ClockRate = "clock-rate",
    /// A state machine applies slowly.
    SlowApply = "slow-apply",
    /// A state machine stands still, and goes on.
    StuckApply = "stuck-apply",
    /// A state machine panics, or cannot read what is in the log; a later process has a repaired program.
    FailingApply = "failing-apply",
    /// A process is killed, or its machine loses power, while it saves a snapshot.
    KillInSave = "kill-in-save",
    /// A group is closed on a node, and begun again while the node runs.
    CloseGroup = "close-group",
    /// A write to a disk fails.
    WriteError = "write-error",
    /// A sync of a disk fails.
    SyncError = "sync-error",
    /// A bit of an entry on a disk flips, and the process is started again.
    Rot = "rot",
    /// A disk is full.
    DiskFull = "disk-full",
    /// A disk is slow.
    SlowDisk = "slow-disk",
    /// The nodes are split into two parts.
    Split = "split",
    /// A node is cut off from all others.
    Isolate = "isolate",
    /// The leader is cut off from all others.
    IsolateLeader = "isolate-leader",
    /// Two parts see each other only through one node.
    Bridge = "bridge",
    /// A node hears no one, or no one hears it.
    OneWay = "one-way",
    /// Each direction between two nodes is cut or not, by chance.
    Patchwork = "patchwork",
    /// A connection breaks and is made again.
    Reset = "reset",
    /// A direction between two nodes is slow.
    SlowLink = "slow-link",
    /// Much is lost, everywhere.
    LossStorm = "loss-storm",
    /// A node comes in and votes at once.
    AddVoter = "add-voter",
    /// A node comes in as a learner, and is promoted once it has caught up.
    AddLearner = "add-learner",
    /// A node comes in that votes and keeps no payloads.
    AddWitness = "add-witness",
    /// A voter becomes a learner.
    Demote = "demote",
    /// A member leaves.
    Remove = "remove",
    /// The leader leaves.
    RemoveLeader = "remove-leader",
    /// Several members are replaced at once.
    Replace = "replace",
    /// A member listens elsewhere.
    Move = "move",
    /// The leader is asked to transfer its leadership.
    Transfer = "transfer",
    /// A log is cut.
    Compact = "compact",
    /// A node gets many writes at once.
    Burst = "burst",
}

impl FaultKind {
    /// Whether it changes the members of the group.
    #[must_use]
    pub fn is_churn(self) -> bool {
        matches!(
            self,
            Self::LostDisk
                | Self::AddVoter
                | Self::AddLearner
                | Self::AddWitness
                | Self::Demote
                | Self::Remove
                | Self::RemoveLeader
                | Self::Replace
                | Self::Move
        )
    }
}

/// A set of kinds.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Kinds(u64);

impl Kinds {
    /// All there are.
    pub const ALL: Self = Self(u64::MAX);

    /// Whether it has the kind.
    #[must_use]
    pub fn contains(self, kind: FaultKind) -> bool {
        self.0 & 1 << kind as u64 != 0
    }

    /// The set without the kind.
    #[must_use]
    pub fn without(self, kind: FaultKind) -> Self {
        Self(self.0 & !(1 << kind as u64))
    }

    /// Its kinds, in order.
    pub fn iter(self) -> impl Iterator<Item = FaultKind> {
        FaultKind::ALL.iter().copied().filter(move |kind| self.contains(*kind))
    }

    /// The set of these names, with commas between them.
    ///
    /// # Errors
    /// The first that is no kind's.
    pub fn of_names(names: &str) -> Result<Self, UnknownFault> {
        let kind = |name: &&str| FaultKind::ALL.iter().copied().find(|kind| kind.name() == *name);
        let names = names.split(',').filter(|name| !name.is_empty());
        names.map(|name| kind(&name).ok_or_else(|| UnknownFault { name: name.to_owned() })).collect()
    }
}

/// A name that is no kind's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnknownFault {
    /// The name.
    pub name: String,
}

impl fmt::Display for UnknownFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no fault {:?}", self.name)
    }
}

impl std::error::Error for UnknownFault {}

impl FromIterator<FaultKind> for Kinds {
    fn from_iter<I: IntoIterator<Item = FaultKind>>(kinds: I) -> Self {
        Self(kinds.into_iter().fold(0, |set, kind| set | 1 << kind as u64))
    }
}

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, kind) in self.iter().enumerate() {
            write!(f, "{}{}", if n == 0 { "" } else { "," }, kind.name())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_read_as_they_are_written() {
        let some: Kinds = [FaultKind::Pause, FaultKind::Kill, FaultKind::Compact].into_iter().collect();
        assert_eq!(some.to_string(), "kill,pause,compact");
        assert_eq!(Kinds::of_names(&some.to_string()), Ok(some));
        assert_eq!(Kinds::of_names(""), Ok([].into_iter().collect()));
        assert!(Kinds::of_names("kill,kil").is_err());
        assert!(!some.without(FaultKind::Pause).contains(FaultKind::Pause));
        assert_eq!(Kinds::ALL.iter().count(), FaultKind::ALL.len());
        assert!(FaultKind::ALL.len() < 64, "a set is one word");
    }
}
