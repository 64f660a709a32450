//! The replicated state machine: a few registers that can be put, swapped and read.
//!
//! Owns the commands' layout and their meaning. Deterministic. Must not know who proposes or how commands come here.
//!
//! Each write writes a value of its own, so that a value tells which write it came from.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use vlot_raft::id::LogId;

/// What a register holds: the operation that wrote it, if any did.
pub type Value = Option<OpId>;

/// Names an operation of a client; never used twice.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct OpId(pub u64);

/// How many registers there are at most.
pub const KEYS_MAX: usize = 8;

/// A command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Command {
    /// The operation, which is also the value that it writes.
    pub op: OpId,
    /// The register.
    pub key: u8,
    /// When to write.
    pub condition: Condition,
}

/// When a command writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Condition {
    /// In any case.
    Always,
    /// If the register holds this.
    Holds(Value),
}

/// What a command has done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Written {
    /// It wrote.
    Yes,
    /// It did not: the register held this.
    No(Value),
}

impl Command {
    /// The command as bytes, with `padding` more behind it.
    pub fn encode(&self, padding: usize, into: &mut BytesMut) {
        into.put_u64_le(self.op.0);
        into.put_u8(self.key);
        let (conditional, expected) = match self.condition {
            Condition::Always => (0, None),
            Condition::Holds(value) => (1, value),
        };
        into.put_u8(conditional);
        into.put_u64_le(expected.map_or(0, |op| op.0 + 1));
        into.put_bytes(0x5a, padding);
    }

    /// Reads a command; `None` if it is none.
    #[must_use]
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        if bytes.len() < 18 {
            return None;
        }
        let (op, key, conditional, expected) =
            (OpId(bytes.get_u64_le()), bytes.get_u8(), bytes.get_u8(), bytes.get_u64_le());
        let condition = match conditional {
            0 => Condition::Always,
            1 => Condition::Holds(expected.checked_sub(1).map(OpId)),
            _ => return None,
        };
        (usize::from(key) < KEYS_MAX).then_some(Self { op, key, condition })
    }
}

/// The state, and how far it has come in the log.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Registers {
    values: [Value; KEYS_MAX],
    /// The last entry that was applied.
    pub applied: LogId,
}

impl Registers {
    /// Takes note of an entry that holds nothing.
    pub fn skip(&mut self, id: LogId) {
        self.applied = id;
    }

    /// Applies a command; `None` if the bytes are none.
    pub fn apply(&mut self, id: LogId, command: &Bytes) -> Option<(Command, Written)> {
        self.applied = id;
        let command = Command::decode(command)?;
        let value = &mut self.values[usize::from(command.key)];
        let written = match command.condition {
            Condition::Holds(expected) if expected != *value => Written::No(*value),
            _ => {
                *value = Some(command.op);
                Written::Yes
            }
        };
        Some((command, written))
    }

    /// The state as bytes.
    pub fn encode(&self, into: &mut BytesMut) {
        into.put_u64_le(self.applied.term.0);
        into.put_u64_le(self.applied.index.0);
        self.values.iter().for_each(|value| into.put_u64_le(value.map_or(0, |op| op.0 + 1)));
    }

    /// Reads a state; `None` if it is none.
    #[must_use]
    pub fn decode(bytes: &mut impl Buf) -> Option<Self> {
        if bytes.remaining() < 8 * (KEYS_MAX + 2) {
            return None;
        }
        let applied = LogId::new(bytes.get_u64_le(), bytes.get_u64_le());
        let values = [(); KEYS_MAX].map(|()| bytes.get_u64_le().checked_sub(1).map(OpId));
        Some(Self { values, applied })
    }

    /// A number that stands for the state, and hardly ever for another.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let numbers = self.values.iter().map(|value| value.map_or(0, |op| op.0 + 1));
        numbers.fold(self.applied.index.0, |sum, number| {
            (sum ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
        })
    }

    /// What a register holds.
    #[must_use]
    pub fn read(&self, key: u8) -> Value {
        self.values[usize::from(key) % KEYS_MAX]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_do_what_they_say() {
        let mut registers = Registers::default();
        let mut apply = |op, condition| {
            let mut bytes = BytesMut::new();
            Command { op: OpId(op), key: 3, condition }.encode(5, &mut bytes);
            registers.apply(LogId::new(1, op), &bytes.freeze()).map(|(_, written)| written)
        };
        assert_eq!(apply(1, Condition::Holds(Some(OpId(0)))), Some(Written::No(None)));
        assert_eq!(apply(2, Condition::Holds(None)), Some(Written::Yes));
        assert_eq!(apply(3, Condition::Holds(None)), Some(Written::No(Some(OpId(2)))));
        assert_eq!(apply(4, Condition::Always), Some(Written::Yes));
        assert_eq!((registers.read(3), registers.read(2)), (Some(OpId(4)), None));
        assert_eq!(Command::decode(b"short"), None);
        let mut bytes = BytesMut::new();
        registers.encode(&mut bytes);
        let read = Registers::decode(&mut bytes.freeze());
        assert_eq!((read, read.map(|read| read.digest())), (Some(registers), Some(registers.digest())));
        assert_ne!(registers.digest(), Registers { applied: registers.applied, ..Registers::default() }.digest());
    }
}
