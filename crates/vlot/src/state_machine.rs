//! What a program replicates: its state, its commands, and how one changes the other.

use bytes::{Bytes, BytesMut};
use vlot_raft::id::LogId;

/// A state that changes by commands, in the same way on every replica.
///
/// The same commands in the same order must lead to the same state and the same replies: no clock, no chance, no
/// iteration over an unordered map may show in either.
pub trait StateMachine: Send + Sync + 'static {
    /// What changes the state.
    type Command: Command;
    /// What whoever proposed a command gets back.
    type Reply: Send + 'static;

    /// Applies the command of one committed entry. Called once for each, in the order of the log.
    fn apply(&mut self, at: LogId, command: Self::Command) -> Self::Reply;

    /// Takes note of a committed entry without a command.
    fn skip(&mut self, at: LogId) {
        let _ = at;
    }

    /// All entries that were committed together are applied: the moment to wake those who watch, or to hand a batch
    /// to a disk.
    fn end_batch(&mut self) {}

    /// The last entry whose effect the state still has after a restart; what follows it is applied again then. A
    /// state that lives in memory alone starts anew each time: zero.
    fn durable(&self) -> LogId {
        LogId::ZERO
    }
}

/// Something that can be written into a log and read back, on another node and by a later version.
pub trait Command: Sized + Send + 'static {
    /// Adds its bytes to the buffer.
    fn encode(&self, buffer: &mut BytesMut);

    /// Reads it back.
    ///
    /// # Errors
    /// If the bytes are none that `encode` writes. The replica stops then: to skip a command would be to part from
    /// the others.
    fn decode(bytes: Bytes) -> Result<Self, BadCommand>;

    /// About how many bytes it takes.
    fn size_hint(&self) -> usize {
        64
    }
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
