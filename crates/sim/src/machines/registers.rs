//! A few registers that can be put, swapped and read.
//!
//! Owns the commands' layout and their meaning, and what clients do with them. Deterministic. Must not know which
//! client proposes or how commands come here.
//!
//! Each write writes a value of its own, so that a value tells which write it came from.

mod linearizability;

use crate::conditions::Conditions;
use crate::rng::Rng;
use crate::subject::{End, EndOf, OpId, OperationOf, Request, Subject};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::fmt;
use std::io;
use std::time::Duration;
use vlot_node::state_machine::{self, BadCommand, BadSnapshot, StateMachine, TimePassed};
use vlot_raft::id::LogId;
use vlot_raft::invariants::Violation;

/// What a register holds: the operation that wrote it, if any did.
pub type Value = Option<OpId>;

/// How many registers there are at most.
pub const KEYS_MAX: usize = 8;

/// A command.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Command {
    /// The operation, which is also the value that it writes.
    pub op: OpId,
    /// The register.
    pub key: u8,
    /// When to write.
    pub condition: Condition,
    /// How many bytes stand behind it, for nothing.
    pub padding: usize,
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

/// Asks what a register holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Read {
    /// Which.
    pub key: u8,
}

const COMMAND_BYTES: usize = 18;

impl state_machine::Command for Command {
    fn encode(&self, into: &mut BytesMut) {
        into.put_u64_le(self.op.0);
        into.put_u8(self.key);
        let (conditional, expected) = match self.condition {
            Condition::Always => (0, None),
            Condition::Holds(value) => (1, value),
        };
        into.put_u8(conditional);
        into.put_u64_le(expected.map_or(0, |op| op.0 + 1));
        into.put_bytes(0x5a, self.padding);
    }

    fn decode(mut bytes: Bytes) -> Result<Self, BadCommand> {
        if bytes.len() < COMMAND_BYTES {
            return Err(BadCommand(format!("{} bytes", bytes.len())));
        }
        let (op, key, conditional, expected) =
            (OpId(bytes.get_u64_le()), bytes.get_u8(), bytes.get_u8(), bytes.get_u64_le());
        let condition = match conditional {
            0 => Condition::Always,
            1 => Condition::Holds(expected.checked_sub(1).map(OpId)),
            other => return Err(BadCommand(format!("condition {other}"))),
        };
        if usize::from(key) >= KEYS_MAX {
            return Err(BadCommand(format!("register {key}")));
        }
        Ok(Self { op, key, condition, padding: bytes.len() })
    }

    fn size_hint(&self) -> usize {
        COMMAND_BYTES + self.padding
    }

    fn shares_entry(&self) -> bool {
        true
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.condition {
            Condition::Always => write!(f, "key{} put", self.key),
            Condition::Holds(Some(op)) => write!(f, "key{} swap for op{}", self.key, op.0),
            Condition::Holds(None) => write!(f, "key{} swap for nothing", self.key),
        }
    }
}

/// The state, and how far it has come in the log.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Registers {
    values: [Value; KEYS_MAX],
    /// The last entry that was applied.
    pub applied: LogId,
    /// The replicated time, if it asks for it.
    time: Option<Duration>,
}

impl Registers {
    /// What a register holds.
    #[must_use]
    pub fn read(&self, key: u8) -> Value {
        self.values[usize::from(key) % KEYS_MAX]
    }
}

impl StateMachine for Registers {
    type Command = Command;
    type Reply = Written;

    fn apply(&mut self, at: LogId, command: Command) -> Written {
        self.applied = at;
        let value = &mut self.values[usize::from(command.key)];
        match command.condition {
            Condition::Holds(expected) if expected != *value => Written::No(*value),
            _ => {
                *value = Some(command.op);
                Written::Yes
            }
        }
    }

    fn is_prompt(&self, _: &Command) -> bool {
        true
    }

    fn skip(&mut self, at: LogId) {
        self.applied = at;
    }

    fn wants_time(&self) -> bool {
        self.time.is_some()
    }

    fn time_passed(&mut self, at: LogId, passed: TimePassed) {
        self.applied = at;
        self.time = self.time.map(|time| time.saturating_add(passed.elapsed));
    }

    fn snapshot(&self) -> Option<Box<dyn state_machine::Snapshot>> {
        Some(Box::new(*self))
    }

    fn restore(&mut self, at: LogId, from: &mut dyn io::Read) -> Result<(), BadSnapshot> {
        let mut bytes = [0; 8 * KEYS_MAX];
        from.read_exact(&mut bytes).map_err(|error| BadSnapshot(error.to_string()))?;
        let mut bytes = &bytes[..];
        let values = [(); KEYS_MAX].map(|()| bytes.get_u64_le().checked_sub(1).map(OpId));
        let mut time = self.time;
        if let Some(time) = &mut time {
            let mut millis = [0; 8];
            from.read_exact(&mut millis).map_err(|error| BadSnapshot(error.to_string()))?;
            *time = Duration::from_millis(u64::from_le_bytes(millis));
        }
        *self = Self { values, applied: at, time };
        Ok(())
    }
}

impl state_machine::Snapshot for Registers {
    fn at(&self) -> LogId {
        self.applied
    }

    fn write_to(&mut self, out: &mut dyn io::Write) -> io::Result<()> {
        self.values.iter().try_for_each(|value| out.write_all(&value.map_or(0, |op| op.0 + 1).to_le_bytes()))?;
        self.time.map_or(Ok(()), |time| out.write_all(&(time.as_millis() as u64).to_le_bytes()))
    }
}

/// Clients that put, swap and read.
#[derive(Debug)]
pub struct RegistersUsed {
    /// What was last seen in each register, to make swaps that succeed.
    seen: Vec<Value>,
    value_bytes_max: u64,
    wants_time: bool,
}

/// No client's operation has so great a name.
const FIRST_IDLE: u64 = 1 << 40;

impl Subject for RegistersUsed {
    type Machine = Registers;
    type Query = Read;
    type Answer = Value;

    fn new(conditions: &Conditions, _: &mut Rng) -> Self {
        let Conditions { keys, value_bytes_max, wants_time, .. } = *conditions;
        Self { seen: vec![None; usize::from(keys)], value_bytes_max, wants_time }
    }

    fn machine(&self) -> Registers {
        Registers { time: self.wants_time.then_some(Duration::ZERO), ..Registers::default() }
    }

    fn next(&mut self, op: OpId, rng: &mut Rng) -> Request<Command, Read> {
        let key = rng.below(self.seen.len() as u64) as u8;
        let rarely_long = if rng.below(50) == 0 { 10 } else { 1 };
        let padding = rng.below(self.value_bytes_max * rarely_long + 1) as usize;
        match rng.below(10) {
            0..4 => Request::Read(Read { key }),
            4..8 => Request::Propose(Command { op, key, condition: Condition::Always, padding }),
            _ => {
                let condition = Condition::Holds(self.seen[usize::from(key)]);
                Request::Propose(Command { op, key, condition, padding })
            }
        }
    }

    fn ended(&mut self, op: OpId, request: &Request<Command, Read>, end: &EndOf<Self>) {
        let (Request::Read(Read { key }) | Request::Propose(Command { key, .. })) = request;
        match end {
            End::Replied(Written::Yes) => self.seen[usize::from(*key)] = Some(op),
            End::Replied(Written::No(value)) | End::Answered(value) => self.seen[usize::from(*key)] = *value,
            End::Refused | End::Unknown => {}
        }
    }

    /// A write that writes only where it has written before, and so never.
    fn idle(&mut self, n: u64) -> Option<Command> {
        let op = OpId(FIRST_IDLE + n);
        Some(Command { op, key: 0, condition: Condition::Holds(Some(op)), padding: 0 })
    }

    fn read(machine: &Registers, query: &Read) -> Value {
        machine.read(query.key)
    }

    fn digest(machine: &Registers) -> u64 {
        let numbers = machine.values.iter().map(|value| value.map_or(0, |op| op.0 + 1));
        let millis = machine.time.map(|time| time.as_millis() as u64);
        numbers.chain(millis).fold(machine.applied.index.0, |sum, number| {
            (sum ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
        })
    }

    fn time(machine: &Registers) -> Option<Duration> {
        machine.time
    }

    fn check(&self, history: &[OperationOf<Self>]) -> Result<(), Violation> {
        linearizability::check(history)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vlot_node::state_machine::{Command as _, Snapshot as _};

    #[test]
    fn commands_do_what_they_say() {
        let mut registers = Registers::default();
        let mut apply = |op, condition| {
            let mut bytes = BytesMut::new();
            let command = Command { op: OpId(op), key: 3, condition, padding: 5 };
            command.encode(&mut bytes);
            assert_eq!(Command::decode(bytes.freeze()), Ok(command));
            registers.apply(LogId::new(1, op), command)
        };
        assert_eq!(apply(1, Condition::Holds(Some(OpId(0)))), Written::No(None));
        assert_eq!(apply(2, Condition::Holds(None)), Written::Yes);
        assert_eq!(apply(3, Condition::Holds(None)), Written::No(Some(OpId(2))));
        assert_eq!(apply(4, Condition::Always), Written::Yes);
        assert_eq!((registers.read(3), registers.read(2)), (Some(OpId(4)), None));
        assert!(Command::decode(Bytes::from_static(b"short")).is_err());
        let mut bytes = Vec::new();
        registers.write_to(&mut bytes).unwrap();
        let mut restored = Registers::default();
        restored.restore(registers.applied, &mut &bytes[..]).unwrap();
        assert_eq!(restored, registers);
        assert_eq!(RegistersUsed::digest(&restored), RegistersUsed::digest(&registers));
        let other = Registers { applied: registers.applied, ..Registers::default() };
        assert_ne!(RegistersUsed::digest(&other), RegistersUsed::digest(&registers));
    }
}
