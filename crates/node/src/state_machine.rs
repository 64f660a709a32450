//! What a program replicates: its state, its commands, and how one changes the other.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use vlot_raft::id::LogId;

use crate::members::Members;

/// A state that changes by commands, in the same way on every replica.
///
/// The same commands in the same order must lead to the same state and the same replies: no clock, no chance, no
/// iteration over an unordered map may show in either.
///
/// One that panics is called no more, and its replica is [fenced](crate::machine::Fence); other groups go on. That needs a
/// build whose panics unwind, as is the default: with `panic = "abort"` the process ends.
pub trait StateMachine: Send + Sync + 'static {
    /// What changes the state.
    type Command: Command;
    /// What the caller that proposed a command gets back.
    type Reply: Send + 'static;

    /// Applies a command of a committed entry. Called once for each, in the order of the log. An entry has one command, or several
    /// if [all of them](Command::shares_entry) may share it.
    fn apply(&mut self, at: LogId, command: Self::Command) -> Self::Reply;

    /// Whether this command can be applied, asked before it is. Decided by the command and the state alone, and so alike by all
    /// replicas that run the same program.
    ///
    /// # Errors
    /// If this program cannot: it is older than the one that has proposed it, say. This replica's state machine stops then, as
    /// at a command that it cannot read: to skip a command would be to part from the others.
    fn can_apply(&self, command: &Self::Command) -> Result<(), BadCommand> {
        let _ = command;
        Ok(())
    }

    /// Whether applying this command is certain to take a few microseconds and to wait for nothing. A batch of such commands
    /// may be applied on the node's own thread, which saves handing it to another; the node does nothing else meanwhile.
    fn is_prompt(&self, command: &Self::Command) -> bool {
        let _ = command;
        false
    }

    /// Takes note of a committed entry without a command.
    fn skip(&mut self, at: LogId) {
        let _ = at;
    }

    /// The members of the group are these from `at` on. `context` came with the change; it is empty if the library has
    /// made it by itself, to write down a member's disk.
    fn members_changed(&mut self, at: LogId, members: &Members, context: Bytes) {
        let _ = (members, context);
        self.skip(at);
    }

    /// Whether the leader is to tell time: see [`StateMachine::time_passed`]. Asked once, when the group is begun. Say the same
    /// on every member. Time is told by an entry of the log that older versions of this library cannot read: let every member
    /// run one that can before a program that says true here is rolled out.
    fn wants_time(&self) -> bool {
        false
    }

    /// Takes note of a committed entry with which the leader tells how much time has passed. It comes right before the
    /// commands that the leader takes in next, if they come [some time](crate::replica::RESOLUTION) after the last one; where
    /// nothing is proposed, nothing is told. The sum over all of them is the group's *replicated time*, the same on every
    /// replica at the same entry.
    fn time_passed(&mut self, at: LogId, passed: TimePassed) {
        let _ = passed;
        self.skip(at);
    }

    /// All entries that were committed together are applied: the moment to wake watches, or to hand a batch to a disk.
    fn end_batch(&mut self) {}

    /// Whether commands have left work behind that [`StateMachine::maintain`] does. Asked after every batch.
    fn needs_maintenance(&self) -> bool {
        false
    }

    /// Does a bounded piece of work that commands have left behind: giving up what was compacted, say. Called between
    /// batches, again and again with pauses for as long as it says that there is more. It changes nothing that a command
    /// can see.
    fn maintain(&mut self) -> bool {
        false
    }

    /// The group is closed, or its node stops: the moment to write down what was applied. Not called when the process is
    /// killed.
    fn close(&mut self) {}

    /// The last entry whose effect the state still has after a restart; what follows it is applied again then. A
    /// state that lives in memory alone starts anew each time: zero.
    fn durable(&self) -> LogId {
        LogId::ZERO
    }

    /// A handle to the state as it is, or as it was at an earlier entry, from which it can be written while commands go
    /// on. It should cost little: nothing is applied meanwhile. A state machine that gives one once gives one always.
    ///
    /// Without it the log grows for ever, and a node that has lost its disk gets every entry again.
    fn snapshot(&self) -> Option<Box<dyn Snapshot>> {
        None
    }

    /// Becomes the state that a snapshot of `at` holds, all of it or nothing. A state that is durable by itself is so
    /// when this returns.
    ///
    /// # Errors
    /// If the bytes are none of a snapshot, or cannot be kept. This replica's state machine stops then.
    fn restore(&mut self, at: LogId, from: &mut dyn io::Read) -> Result<(), BadSnapshot> {
        let _ = from;
        Err(BadSnapshot(format!("a snapshot of {at} has come to a state machine that makes none")))
    }
}

/// What a leader tells of time. In whole milliseconds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TimePassed {
    /// What has passed, by this leader's steady clock, since it last told time in this term; if it has not yet, since it took
    /// office. The sum never goes back, and it is never ahead of the time that has really passed since the group's first
    /// leader, but for how much the leaders' clocks run fast. It may be behind: it stands still while there is no leader and
    /// while a leader's machine is suspended, and what a leader has not told before it is replaced is lost.
    ///
    /// Add it up with `saturating_add`: like a command, it is what a peer says.
    pub elapsed: Duration,
    /// What the leader's wall clock shows, since 1970: what it showed when the process began, and the steady clock since. A
    /// hint for people. It may go back, or leap ahead, with each leader.
    pub unix: Duration,
}

/// A state machine with cheap immutable handles to its state.
///
/// Reads on a view hold up nothing, however long they take.
pub trait Viewed: StateMachine {
    /// The state at one moment.
    type View: Send + Sync + 'static;

    /// The state at this moment. Costs little: nothing is applied meanwhile.
    fn view(&self) -> Self::View;
}

/// A state at one moment, to be written down.
pub trait Snapshot: Send {
    /// The last entry whose effect it has.
    fn at(&self) -> LogId;

    /// Writes it as a stream of bytes, which [`StateMachine::restore`] reads.
    ///
    /// # Errors
    /// If the state cannot be read, or `out` fails.
    fn write_to(&mut self, out: &mut dyn io::Write) -> io::Result<()>;
}

/// Bytes that are no snapshot, or that cannot be kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BadSnapshot(pub String);

/// Something that can be written into a log and read back, on another node and by a later version.
pub trait Command: Sized + Send + 'static {
    /// Adds its bytes to the buffer.
    fn encode(&self, buffer: &mut BytesMut);

    /// Reads it back.
    ///
    /// # Errors
    /// If the bytes are none that `encode` writes. This replica's state machine stops then: to skip a command would be to
    /// part from the others.
    fn decode(bytes: Bytes) -> Result<Self, BadCommand>;

    /// Whether [`Command::decode`] reads these bytes, asked before they are proposed: what is in the log has to be applied.
    ///
    /// # Errors
    /// If the bytes are none. They are not proposed.
    fn check(bytes: &Bytes) -> Result<(), BadCommand> {
        Self::decode(bytes.clone()).map(drop)
    }

    /// About how many bytes it takes.
    fn size_hint(&self) -> usize {
        64
    }

    /// Whether it gives way when there is too much.
    fn class(&self) -> Class {
        Class::Bulk
    }

    /// Whether it may share an entry of the log with other commands that are proposed at the same time. They are applied one
    /// after the other, with the same `at` (see [`StateMachine::apply`]), and all of them before anything else is asked of the
    /// state machine. What an entry costs is paid once for all of them: with many callers a small command takes a third less of a processor.
    ///
    /// Say true unless the state machine takes `at` for the name of one command, or writes down by itself, while it applies
    /// this one, how far it has come.
    fn shares_entry(&self) -> bool {
        false
    }
}

/// What becomes of a command when more is proposed than is applied.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Class {
    /// It is refused as busy before all room is taken, and while the state machine lags behind.
    #[default]
    Bulk,
    /// It has a share of the room that bulk cannot take, and is not refused because the state machine lags behind: for the
    /// few small commands without which a busy group would come to harm, or could not be helped.
    Urgent,
}

/// Bytes in the log that are no command.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BadCommand(pub String);

impl Command for Bytes {
    fn encode(&self, buffer: &mut BytesMut) {
        buffer.extend_from_slice(self);
    }

    fn decode(bytes: Bytes) -> Result<Self, BadCommand> {
        Ok(bytes)
    }

    fn size_hint(&self) -> usize {
        self.len()
    }
}

impl Command for String {
    fn encode(&self, buffer: &mut BytesMut) {
        buffer.extend_from_slice(self.as_bytes());
    }

    fn decode(bytes: Bytes) -> Result<Self, BadCommand> {
        Self::from_utf8(bytes.into()).map_err(|error| BadCommand(error.to_string()))
    }

    fn size_hint(&self) -> usize {
        self.len()
    }
}

impl Command for u64 {
    fn encode(&self, buffer: &mut BytesMut) {
        buffer.extend_from_slice(&self.to_le_bytes());
    }

    fn decode(bytes: Bytes) -> Result<Self, BadCommand> {
        let bytes = bytes.as_ref().try_into().map_err(|_| BadCommand(format!("{} bytes for a u64", bytes.len())))?;
        Ok(Self::from_le_bytes(bytes))
    }

    fn size_hint(&self) -> usize {
        8
    }
}
