//! What a program replicates by typed commands: its state, how a command changes it, and how both become bytes.
//!
//! Must not know of sessions, or of what is agreed on how.

use std::io;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use vlot_raft::id::LogId;

use crate::state_machine::{BadCommand, BadSnapshot};

/// A version of a program's commands and snapshots, from 1 on.
pub type Version = u16;

/// A state that changes by typed commands, in the same way on every replica.
///
/// The same commands in the same order must lead to the same state and the same replies: no clock, no chance, no iteration over
/// an unordered map may show in either. What fails is a reply: make [`State::Reply`] a [`Result`] where commands can fail.
///
/// States that `serde` can write implement the shorter trait `SerdeState` of the feature `serde` instead. A state that is
/// durable by itself, or wants its commands as bytes, is a [`StateMachine`](crate::state_machine::StateMachine).
pub trait State: Sized + Send + Sync + 'static {
    /// What changes the state.
    type Command: Clone + Send + Sync + 'static;
    /// What the caller of a command gets back. It is remembered until the caller has it for certain.
    type Reply: Clone + Send + Sync + 'static;

    /// The versions of commands and snapshots that this program reads and writes. A group uses the newest that all its members
    /// understand: see [`Versions`](crate::typed::versions::Versions).
    const VERSIONS: RangeInclusive<Version> = 1..=1;

    /// Applies a command. Called once for each, in the order of the log.
    fn apply(&mut self, context: &Context, command: Self::Command) -> Self::Reply;

    /// Whether applying this command is certain to take a few microseconds and to wait for nothing: see
    /// [`StateMachine::is_prompt`](crate::state_machine::StateMachine::is_prompt).
    fn is_prompt(&self, command: &Self::Command) -> bool {
        let _ = command;
        false
    }

    /// Whether this command may share an entry of the log with others that are proposed at the same time: see
    /// [`Command::shares_entry`](crate::state_machine::Command::shares_entry). [`Context::nth`] tells them apart.
    fn shares_entry(command: &Self::Command) -> bool {
        let _ = command;
        true
    }

    /// All commands that were committed together are applied.
    fn end_batch(&mut self) {}

    /// The oldest version in which this command can be written: it is refused until the group uses that one.
    fn version_of(command: &Self::Command) -> Version {
        let _ = command;
        *Self::VERSIONS.start()
    }

    /// Adds a command's bytes to the buffer, as this version has them. The version is among [`State::VERSIONS`], and no older
    /// than [`State::version_of`] says.
    fn encode_command(command: &Self::Command, version: Version, buffer: &mut BytesMut);

    /// Reads a command back.
    ///
    /// # Errors
    /// If the bytes are none of this version.
    fn decode_command(version: Version, bytes: Bytes) -> Result<Self::Command, BadCommand>;

    /// Adds a reply's bytes to the buffer, for a snapshot of this version.
    fn encode_reply(reply: &Self::Reply, version: Version, buffer: &mut BytesMut);

    /// Reads a reply back.
    ///
    /// # Errors
    /// If the bytes are none of this version.
    fn decode_reply(version: Version, bytes: Bytes) -> Result<Self::Reply, BadSnapshot>;

    /// About how many bytes a reply takes in memory: the bound on what is remembered counts them.
    fn reply_bytes(reply: &Self::Reply) -> usize {
        size_of_val(reply)
    }

    /// A handle to the state as it is, from which it can be written in this version while commands go on. It should cost
    /// little: nothing is applied meanwhile.
    fn snapshot(&self, version: Version) -> WriteState;

    /// Reads a state that a snapshot of this version holds.
    ///
    /// # Errors
    /// If the bytes are none.
    fn restore(version: Version, from: &mut dyn io::Read) -> Result<Self, BadSnapshot>;
}

/// Writes a state down, once, later and from another thread.
pub type WriteState = Box<dyn FnOnce(&mut dyn io::Write) -> io::Result<()> + Send>;

/// What a command is applied in: the same on every replica.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Context {
    /// The entry that holds the command. Several may share it.
    pub at: LogId,
    /// Which of the commands of that entry it is: zero for the first.
    pub nth: u32,
    /// The replicated time: how long the group has had a leader, by the leaders' own steady clocks. It never goes back, and
    /// stands still while there is no leader. Its resolution is a tenth of a second.
    pub time: Duration,
    /// What the leader's wall clock has shown a short while before, since 1970. A hint: it goes back when another leads whose
    /// clock is behind, or when a clock is set.
    pub unix: Duration,
}
