//! How a state machine is driven: what of an entry it is told, in which order, and what stops it.
//!
//! Owns the rules between the log and a state machine. Both shells call them, each on a thread or at a time of its
//! choice. Must not know of consensus or of the disk.

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use vlot_raft::id::LogId;

use crate::members::MembersEntry;
use crate::payload::Payload;
use crate::proposal_id::ProposalId;
use crate::replica::Committed;
use crate::state_machine::{Command, StateMachine, TimePassed};

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
        /// The members of the group, and what came with the change.
        entry: Box<MembersEntry>,
    },
    /// To take note of how much time has passed.
    Time {
        /// The entry.
        at: LogId,
        /// What the leader tells.
        passed: TimePassed,
    },
    /// To take note of an entry without a command.
    Skip {
        /// The entry.
        at: LogId,
    },
}

impl<C> Step<C> {
    /// The entry.
    pub fn at(&self) -> LogId {
        match self {
            Self::Apply { at, .. } | Self::Members { at, .. } | Self::Time { at, .. } | Self::Skip { at } => *at,
        }
    }
}

/// What the caller is to be told.
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
                Step::Members { at, change, entry }
            }
            Payload::Blank | Payload::Configuration(_) => Step::Skip { at },
            Payload::Time(passed) => Step::Time { at, passed },
            Payload::Withheld => return (steps, Some(Fence::Withheld { at })),
            Payload::Command { id, command } => match apply_step::<S>(origin, at, id, command) {
                Ok(step) => step,
                Err(fence) => return (steps, Some(fence)),
            },
            Payload::Commands(commands) => {
                let before = steps.len();
                steps.reserve(commands.len());
                for (id, command) in commands.iter() {
                    match apply_step::<S>(origin, at, id, command) {
                        Ok(step) => steps.push(step),
                        Err(fence) => {
                            // Its entry is applied as a whole or not at all.
                            steps.truncate(before);
                            return (steps, Some(fence));
                        }
                    }
                }
                continue;
            }
        });
    }
    (steps, None)
}

fn apply_step<S: StateMachine>(
    origin: u64,
    at: LogId,
    id: ProposalId,
    command: Bytes,
) -> Result<Step<S::Command>, Fence> {
    let command = S::Command::decode(command).map_err(|bad| Fence::UnknownCommand { at, why: bad.0 })?;
    Ok(Step::Apply { at, proposal: (id.origin == origin).then_some(id.sequence), command })
}

/// Applies a batch, and ends it. Returns what is to be answered then, and the last entry.
///
/// # Errors
/// If the state machine panics, or cannot apply a command. Its state must not be used any more.
pub fn apply<S: StateMachine>(
    state: &mut S,
    applied: LogId,
    steps: Vec<Step<S::Command>>,
) -> Result<Applied<S::Reply>, Fence> {
    // The last entry that is applied in full, and the one that is being applied.
    let (mut before, mut last) = (applied, applied);
    let mut outcomes = Vec::with_capacity(steps.len());
    let done = catch_unwind(AssertUnwindSafe(|| {
        for step in steps {
            if step.at() != last {
                before = last;
            }
            match step {
                Step::Apply { at, proposal, command } => {
                    state.can_apply(&command).map_err(|bad| Fence::UnknownCommand { at, why: bad.0 })?;
                    let reply = state.apply(at, command);
                    outcomes.extend(proposal.map(|sequence| Outcome::Applied(sequence, reply)));
                    last = at;
                }
                Step::Members { at, change, entry } => {
                    state.members_changed(at, &entry.members, entry.context);
                    outcomes.extend(change.map(Outcome::Changed));
                    last = at;
                }
                Step::Time { at, passed } => {
                    state.time_passed(at, passed);
                    last = at;
                }
                Step::Skip { at } => {
                    state.skip(at);
                    last = at;
                }
            }
        }
        before = last;
        state.end_batch();
        Ok(())
    }));
    match done {
        Ok(done) => done.map(|()| (last, outcomes)),
        Err(panic) => Err(Fence::Panicked { after: before, message: said(&*panic) }),
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::members::Members;
    use crate::payload;
    use crate::state_machine::BadSnapshot;
    use vlot_raft::configuration::{Change, Configuration};
    use vlot_raft::id::NodeId;

    const ORIGIN: u64 = 7;

    fn id(index: u64) -> LogId {
        LogId::new(2, index)
    }

    fn entry(index: u64, payload: Payload) -> Committed {
        Committed { id: id(index), payload }
    }

    fn command(index: u64, origin: u64, bytes: &'static [u8]) -> Committed {
        let id = ProposalId { origin, sequence: index * 10 };
        entry(index, Payload::Command { id, command: Bytes::from_static(bytes) })
    }

    fn configuration(index: u64, origin: u64, configuration: Configuration) -> Committed {
        let change = ProposalId { origin, sequence: index * 10 };
        let members = Members::default().with_seats(configuration);
        let set = MembersEntry { change, members, context: Bytes::from_static(b"context") };
        entry(index, Payload::Configuration(Box::new(set)))
    }

    fn time(index: u64, elapsed: u64, unix: u64) -> Committed {
        let [elapsed, unix] = [elapsed, unix].map(Duration::from_millis);
        entry(index, Payload::Time(TimePassed { elapsed, unix }))
    }

    fn voters(nodes: u64) -> Configuration {
        Configuration::of_voters((1..=nodes).map(NodeId))
    }

    /// Writes down what it is told.
    #[derive(Default)]
    struct Listener(Vec<String>);

    impl StateMachine for Listener {
        type Command = String;
        type Reply = usize;

        fn apply(&mut self, at: LogId, command: String) -> usize {
            assert_ne!(command, "panic", "asked to");
            self.0.push(format!("{at} {command}"));
            command.len()
        }

        fn skip(&mut self, at: LogId) {
            self.0.push(format!("{at} skip"));
        }

        fn time_passed(&mut self, at: LogId, passed: TimePassed) {
            self.0.push(format!("{at} {:?} at {:?}", passed.elapsed, passed.unix));
        }

        fn members_changed(&mut self, at: LogId, members: &Members, context: Bytes) {
            self.0.push(format!("{at} {} members, {context:?}", members.iter().count()));
        }

        fn end_batch(&mut self) {
            self.0.push("end".to_owned());
        }

        fn restore(&mut self, at: LogId, from: &mut dyn io::Read) -> Result<(), BadSnapshot> {
            let mut bytes = String::new();
            from.read_to_string(&mut bytes).map_err(|error| BadSnapshot(error.to_string()))?;
            assert_ne!(bytes, "panic", "asked to");
            self.0 = vec![format!("{at} {bytes}")];
            Ok(())
        }
    }

    fn kinds<C: fmt::Debug>(steps: &[Step<C>]) -> Vec<String> {
        let kind = |step: &Step<C>| match step {
            Step::Apply { at, proposal, command } => format!("{at} apply {command:?} of {proposal:?}"),
            Step::Members { at, change, entry } => {
                let members = &entry.members;
                format!("{at} {} members of {change:?}", members.iter().count())
            }
            Step::Time { at, passed } => format!("{at} {:?} have passed", passed.elapsed),
            Step::Skip { at } => format!("{at} skip"),
        };
        steps.iter().map(kind).collect()
    }

    #[test]
    fn a_state_machine_is_told_of_each_entry_what_it_holds() {
        let joint = voters(1).changed(&[Change::Voter(NodeId(2)), Change::Voter(NodeId(3))]).unwrap();
        assert!(joint.is_joint());
        let batch = vec![
            entry(1, Payload::Blank),
            command(2, ORIGIN, b"own"),
            command(3, ORIGIN + 1, b"other"),
            configuration(4, ORIGIN, joint),
            configuration(5, ORIGIN, voters(3)),
            configuration(6, ORIGIN + 1, voters(2)),
            time(7, 250, 9),
        ];
        let (steps, fence) = decode::<Listener>(ORIGIN, batch);
        assert_eq!(fence, None);
        let expected = [
            (1, "skip"),
            (2, "apply \"own\" of Some(20)"),
            (3, "apply \"other\" of None"),
            (4, "skip"),
            (5, "3 members of Some(50)"),
            (6, "2 members of None"),
            (7, "250ms have passed"),
        ];
        assert_eq!(kinds(&steps), expected.map(|(index, what)| format!("{} {what}", id(index))));
    }

    #[test]
    fn reading_stops_at_the_first_entry_that_cannot_be_read_and_keeps_those_before() {
        for (bad, why) in [(entry(3, Payload::Withheld), "withheld"), (command(3, ORIGIN, b"\xff"), "no command")] {
            let batch = vec![entry(1, Payload::Blank), command(2, ORIGIN, b"x"), bad, command(4, ORIGIN, b"y")];
            let (steps, fence) = decode::<Listener>(ORIGIN, batch);
            assert_eq!(steps.len(), 2);
            let fence = fence.expect("one cannot be read").to_string();
            assert!(fence.contains(why) && fence.contains(&id(3).to_string()), "{fence}");
        }
    }

    fn shared(index: u64, commands: &[&'static [u8]]) -> Committed {
        let named = |(n, bytes): (usize, &&'static [u8])| {
            let id = ProposalId { origin: ORIGIN + n as u64 % 2, sequence: index * 10 + n as u64 };
            payload::command(id, bytes.len(), |out| out.extend_from_slice(bytes))
        };
        entry(index, payload::decode(payload::shared(commands.iter().enumerate().map(named))).unwrap())
    }

    #[test]
    fn commands_that_share_an_entry_are_applied_in_order_and_as_a_whole() {
        let (steps, fence) =
            decode::<Listener>(ORIGIN, vec![shared(1, &[b"own", b"other", b"third"]), command(2, 1, b"x")]);
        assert_eq!(fence, None);
        let mut listener = Listener::default();
        let (last, outcomes) = apply(&mut listener, LogId::ZERO, steps).unwrap();
        assert_eq!(last, id(2));
        assert!(matches!(outcomes[..], [Outcome::Applied(10, 3), Outcome::Applied(12, 5)]), "{outcomes:?}");
        let told = ["own", "other", "third"].map(|word| format!("{} {word}", id(1)));
        assert_eq!(listener.0, [&told[..], &[format!("{} x", id(2)), "end".to_owned()]].concat());
        // If one of them cannot be read, none is applied: the entry comes again, to a program that can.
        let (steps, fence) =
            decode::<Listener>(ORIGIN, vec![command(1, ORIGIN, b"x"), shared(2, &[b"y", b"\xff", b"z"])]);
        assert_eq!(kinds(&steps), [format!("{} apply \"x\" of Some(10)", id(1))]);
        assert!(matches!(fence, Some(Fence::UnknownCommand { at, .. }) if at == id(2)), "{fence:?}");
    }

    #[test]
    fn a_batch_is_applied_in_order_and_ended_and_gives_back_what_is_to_be_answered() {
        let batch = vec![
            command(1, ORIGIN, b"own"),
            command(2, ORIGIN + 1, b"other"),
            entry(3, Payload::Blank),
            configuration(4, ORIGIN, voters(3)),
            time(5, 250, 9),
        ];
        let (steps, _) = decode::<Listener>(ORIGIN, batch);
        let mut listener = Listener::default();
        let (last, outcomes) = apply(&mut listener, LogId::ZERO, steps).unwrap();
        assert_eq!(last, id(5));
        assert!(matches!(outcomes[..], [Outcome::Applied(10, 3), Outcome::Changed(40)]), "{outcomes:?}");
        let told = [
            format!("{} own", id(1)),
            format!("{} other", id(2)),
            format!("{} skip", id(3)),
            format!("{} 3 members, b\"context\"", id(4)),
            format!("{} 250ms at 9ms", id(5)),
            "end".to_owned(),
        ];
        assert_eq!(listener.0, told);
        let (last, outcomes) = apply(&mut listener, last, Vec::new()).unwrap();
        assert!(last == id(5) && outcomes.is_empty(), "where nothing is to be applied, what was applied stays");
    }

    #[test]
    fn a_panic_tells_the_last_entry_that_was_applied() {
        let batch = [command(5, ORIGIN, b"x"), entry(6, Payload::Blank), command(7, ORIGIN, b"panic")];
        let within = [command(5, ORIGIN, b"x"), shared(6, &[b"y", b"panic", b"z"])];
        for (batch, after) in [
            (&batch[..], id(6)),
            (&batch[1..], id(6)),
            (&batch[2..], id(4)),
            (&within[..], id(5)),
            (&within[1..], id(4)),
        ] {
            let (steps, _) = decode::<Listener>(ORIGIN, batch.to_vec());
            let fence = apply(&mut Listener::default(), id(4), steps).unwrap_err();
            let Fence::Panicked { after: said, ref message } = fence else { panic!("{fence}") };
            assert_eq!(said, after);
            assert!(message.contains("asked to"), "{message}");
        }
    }

    #[test]
    fn a_snapshot_that_cannot_be_restored_is_said_to_be_bad() {
        let mut listener = Listener::default();
        restore(&mut listener, id(9), &mut &b"state"[..]).unwrap();
        assert_eq!(listener.0, [format!("{} state", id(9))]);
        for (bytes, why) in [(&b"\xff"[..], "UTF-8"), (b"panic", "asked to")] {
            let fence = restore(&mut listener, id(9), &mut &*bytes).unwrap_err();
            let Fence::BadSnapshot { of, why: said } = &fence else { panic!("{fence}") };
            assert_eq!(*of, id(9));
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn whatever_a_panic_says_is_told() {
        let what = |act: fn()| said(&*catch_unwind(act).unwrap_err());
        assert_eq!(what(|| panic!("plain")), "plain");
        assert_eq!(what(|| panic!("with a {}", "number")), "with a number");
        assert_eq!(what(|| std::panic::panic_any(7)), "no message");
    }

    #[test]
    fn a_fence_says_what_is_wrong_and_where() {
        let at = id(5);
        for (fence, says) in [
            (Fence::UnknownEntry { at }, "newer version"),
            (Fence::Withheld { at }, "snapshot of another member"),
            (Fence::UnknownCommand { at, why: "why".to_owned() }, "(why)"),
            (Fence::Panicked { after: at, message: "boom".to_owned() }, "boom"),
            (Fence::BadSnapshot { of: at, why: "torn".to_owned() }, "torn"),
        ] {
            let shown = fence.to_string();
            assert!(shown.contains(says) && shown.contains(&at.to_string()), "{shown}");
        }
    }
}
