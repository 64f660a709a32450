//! How a state machine is driven: what of an entry it is told, in which order, and what stops it.
//!
//! Owns the rules between the log and a state machine. Both shells call them, each on a thread or at a time of its
//! choice. Must not know of consensus or of the disk.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use vlot_raft::id::LogId;

use crate::members::Members;
use crate::payload::Payload;
use crate::replica::Committed;
use crate::state_machine::{Command, StateMachine};

/// Why a replica's state machine has stopped. Its log goes on, and so do the other groups of the node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fence {
    /// The entry is none that this version knows.
    UnknownEntry {
        /// The entry.
        at: LogId,
    },
    /// The entry was withheld from this node, as from a witness.
    Withheld {
        /// The entry.
        at: LogId,
    },
    /// The entry holds no command of this program.
    UnknownCommand {
        /// The entry.
        at: LogId,
        /// What the decoder says.
        why: String,
    },
    /// The state machine panicked.
    Panicked {
        /// The last entry that it had applied before; the batch after it may be applied in part.
        after: LogId,
        /// What it said.
        message: String,
    },
    /// The state machine cannot become the snapshot that has taken the place of the log.
    BadSnapshot {
        /// The last entry whose effect it has.
        of: LogId,
        /// What is wrong.
        why: String,
    },
}

/// What a state machine is told of one entry.
#[derive(Debug)]
pub enum Step<C> {
    /// To apply a command, of the proposal with this sequence number if this process has made it.
    Apply {
        /// The entry.
        at: LogId,
        /// The proposal.
        proposal: Option<u64>,
        /// The command.
        command: C,
    },
    /// To take note of the members, by the change with this sequence number if this process has asked for it.
    Members {
        /// The entry.
        at: LogId,
        /// The request.
        change: Option<u64>,
        /// Who belongs to the group.
        members: Members,
        /// What came with the change.
        context: Bytes,
    },
    /// To take note of an entry without a command.
    Skip {
        /// The entry.
        at: LogId,
    },
}

/// What whoever has asked is to be told.
#[derive(Debug)]
pub enum Outcome<R> {
    /// The proposal with this sequence number is applied.
    Applied(u64, R),
    /// The change with this sequence number is made.
    Changed(u64),
}

/// What has come of a batch: its last entry, and what is to be answered.
pub type Applied<R> = (LogId, Vec<Outcome<R>>);

/// Reads a batch of committed entries; those before the first that cannot be read, and what is wrong with that one.
/// `origin` is that of this process's proposals.
pub fn decode<S: StateMachine>(origin: u64, batch: Vec<Committed>) -> (Vec<Step<S::Command>>, Option<Fence>) {
    let mut steps = Vec::with_capacity(batch.len());
    for Committed { id: at, payload } in batch {
        steps.push(match payload {
            // A joint configuration is on its way to the one that is asked for.
            Payload::Configuration(entry) if !entry.members.configuration().is_joint() => {
                let change = (entry.change.origin == origin).then_some(entry.change.sequence);
                Step::Members { at, change, members: entry.members, context: entry.context }
            }
            Payload::Blank | Payload::Configuration(_) => Step::Skip { at },
            Payload::Withheld => return (steps, Some(Fence::Withheld { at })),
            Payload::Command { id, command } => match S::Command::decode(command) {
                Ok(command) => Step::Apply { at, proposal: (id.origin == origin).then_some(id.sequence), command },
                Err(bad) => return (steps, Some(Fence::UnknownCommand { at, why: bad.0 })),
            },
        });
    }
    (steps, None)
}

/// Applies a batch, and ends it. Returns what is to be answered then, and the last entry.
///
/// # Errors
/// If the state machine panics. Its state must not be used any more.
pub fn apply<S: StateMachine>(
    state: &mut S,
    applied: LogId,
    steps: Vec<Step<S::Command>>,
) -> Result<Applied<S::Reply>, Fence> {
    let mut last = applied;
    let mut outcomes = Vec::with_capacity(steps.len());
    let done = catch_unwind(AssertUnwindSafe(|| {
        for step in steps {
            match step {
                Step::Apply { at, proposal, command } => {
                    let reply = state.apply(at, command);
                    outcomes.extend(proposal.map(|sequence| Outcome::Applied(sequence, reply)));
                    last = at;
                }
                Step::Members { at, change, members, context } => {
                    state.members_changed(at, &members, context);
                    outcomes.extend(change.map(Outcome::Changed));
                    last = at;
                }
                Step::Skip { at } => {
                    state.skip(at);
                    last = at;
                }
            }
        }
        state.end_batch();
    }));
    match done {
        Ok(()) => Ok((last, outcomes)),
        Err(panic) => Err(Fence::Panicked { after: last, message: said(&*panic) }),
    }
}

/// Becomes what a snapshot holds.
///
/// # Errors
/// If it cannot. The state must not be used any more.
pub fn restore<S: StateMachine>(state: &mut S, of: LogId, from: &mut dyn io::Read) -> Result<(), Fence> {
    match catch_unwind(AssertUnwindSafe(|| state.restore(of, from))) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(bad)) => Err(Fence::BadSnapshot { of, why: bad.0 }),
        Err(panic) => Err(Fence::BadSnapshot { of, why: format!("the state machine panicked: {}", said(&*panic)) }),
    }
}

/// What a panic said.
pub fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownEntry { at } => {
                write!(f, "unknown entry format at {at}; written by a newer version?")
            }
            Self::Withheld { at } => write!(
                f,
                "entry {at} was withheld from this node, as from a witness; it needs a snapshot of another member"
            ),
            Self::UnknownCommand { at, why } => {
                write!(f, "entry {at} holds no command of this program; written by another version? ({why})")
            }
            Self::Panicked { after, message } => {
                write!(f, "the state machine panicked while it applied what follows {after}: {message}")
            }
            Self::BadSnapshot { of, why } => write!(f, "the snapshot of {of} cannot be restored: {why}"),
        }
    }
}

impl std::error::Error for Fence {}
