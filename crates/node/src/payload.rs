//! What an entry of a log holds: nothing, a command with the name of its proposal, several of them, the members of the group,
//! or how much time has passed.
//!
//! Owns the layout of an entry's bytes (`docs/disk-format.md`, *Entries*). Must not know what a command means.
//!
//! The name travels with the command, so that whichever node proposed it recognises it when it is applied, however it
//! came into the log.

use std::ops::Range;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::members::MembersEntry;
use crate::proposal_id::ProposalId;
use crate::state_machine::TimePassed;

/// What an entry holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Payload {
    /// Nothing: the entry with which a leader takes office.
    Blank,
    /// A command for the state machine.
    Command {
        /// The proposal that it came with.
        id: ProposalId,
        /// Its bytes.
        command: Bytes,
    },
    /// Commands for the state machine that share the entry.
    Commands(Commands),
    /// The members of the group from here on.
    Configuration(Box<MembersEntry>),
    /// What it holds is kept from this node, which is a witness.
    Withheld,
    /// How much time has passed, as the leader tells it.
    Time(TimePassed),
}

impl Payload {
    /// How many commands it holds, and how many bytes these have.
    #[must_use]
    pub fn size_of_commands(&self) -> (usize, usize) {
        match self {
            Self::Command { command, .. } => (1, command.len()),
            // So many headers are in it: it was gone through when it was decoded.
            Self::Commands(Commands { payload, count }) => (*count, payload.len() - 1 - *count * SHARED_HEADER_BYTES),
            Self::Blank | Self::Configuration(_) | Self::Withheld | Self::Time(_) => (0, 0),
        }
    }

    /// The proposals that it came with, in their order.
    pub fn proposals(&self) -> impl Iterator<Item = ProposalId> + '_ {
        let (alone, shared) = match self {
            Self::Command { id, .. } => (Some(*id), &[][..]),
            Self::Commands(commands) => (None, &commands.payload[..]),
            Self::Blank | Self::Configuration(_) | Self::Withheld | Self::Time(_) => (None, &[][..]),
        };
        alone.into_iter().chain(parts(shared).map(|(id, _)| id))
    }
}

/// Commands that share an entry, each with its proposal, in their order. They are gone through in the bytes of the entry: a list of
/// them would be made once for each member.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Commands {
    /// The whole payload, which is one of commands up to its end.
    payload: Bytes,
    count: usize,
}

impl Commands {
    /// How many there are.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Each with its proposal; they share the entry's bytes.
    pub fn iter(&self) -> impl Iterator<Item = (ProposalId, Bytes)> + '_ {
        parts(&self.payload).map(|(id, command)| (id, self.payload.slice(command)))
    }
}

/// Bytes that are no payload of any version known here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BadPayload;

const BLANK: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;
const WITHHELD: u8 = 3;
const TIME: u8 = 4;
const COMMANDS: u8 = 5;
/// How many bytes go before a command's own.
pub const HEADER_BYTES: usize = 17;
/// How many more bytes a command takes among others.
pub(crate) const SHARE_BYTES: usize = 3;
/// How many bytes go before the own ones of a command among others: its length, and the name of its proposal.
const SHARED_HEADER_BYTES: usize = 20;
/// How many bytes an entry with time has.
const TIME_BYTES: usize = 17;

/// The payload of a blank entry.
#[must_use]
pub fn blank() -> Bytes {
    Bytes::from_static(&[BLANK])
}

/// The payload of a command, which `write` adds to the buffer.
#[must_use]
pub fn command(id: ProposalId, size_hint: usize, write: impl FnOnce(&mut BytesMut)) -> Bytes {
    command_in(&mut BytesMut::with_capacity(HEADER_BYTES + size_hint), id, size_hint, write)
}

/// As [`command`], in the memory of `block`, which must be empty, as far as that reaches. The block keeps what is left of it.
#[must_use]
pub fn command_in(block: &mut BytesMut, id: ProposalId, size_hint: usize, write: impl FnOnce(&mut BytesMut)) -> Bytes {
    block.reserve(HEADER_BYTES + size_hint);
    block.put_u8(COMMAND);
    block.put_u64_le(id.origin);
    block.put_u64_le(id.sequence);
    write(block);
    block.split().freeze()
}

/// Adds the payload of a command, or of several, to those of others: what is in `joined` is the payload of all of them.
pub(crate) fn join(joined: &mut BytesMut, payload: &[u8]) {
    if joined.is_empty() {
        joined.put_u8(COMMANDS);
    }
    let Some((kind, rest)) = payload.split_first() else { return };
    if *kind == COMMAND {
        // What is joined is short: see `packing.rs`.
        let length = rest.len() + 1 - HEADER_BYTES;
        joined.put_u32_le(u32::try_from(length).unwrap_or(u32::MAX));
    }
    joined.put_slice(rest);
}

/// The payload of commands that share their entry, from the payloads of each. It is none without any.
#[must_use]
pub fn shared(commands: impl IntoIterator<Item = Bytes>) -> Bytes {
    let mut joined = BytesMut::new();
    commands.into_iter().for_each(|command| join(&mut joined, &command));
    joined.freeze()
}

/// The payloads of commands that share one, each by itself: for members that cannot read them together.
pub(crate) fn split(payload: &Bytes) -> impl Iterator<Item = Bytes> + '_ {
    parts(payload).map(|(id, command)| self::command(id, command.len(), |out| out.extend_from_slice(&payload[command])))
}

/// Whether the payload is one of commands that share their entry.
#[must_use]
pub fn is_shared(bytes: &[u8]) -> bool {
    bytes.first() == Some(&COMMANDS)
}

/// The payload that sets a configuration.
#[must_use]
pub fn configuration(entry: &MembersEntry) -> Bytes {
    let mut bytes = vec![MEMBERSHIP];
    bytes.append(&mut entry.encode());
    bytes.into()
}

/// The payload that tells time, in whole milliseconds; what is beyond them is cut off.
#[must_use]
pub fn time(passed: TimePassed) -> Bytes {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut bytes = BytesMut::with_capacity(TIME_BYTES);
    bytes.put_u8(TIME);
    bytes.put_u64_le(millis(passed.elapsed));
    bytes.put_u64_le(millis(passed.unix));
    bytes.freeze()
}

/// Whether the payload sets a configuration: such entries are handed over when a log is opened.
#[must_use]
pub fn sets_configuration(bytes: &[u8]) -> bool {
    bytes.first() == Some(&MEMBERSHIP)
}

/// Whether the payload stands for one that was withheld.
#[must_use]
pub fn is_withheld(bytes: &[u8]) -> bool {
    bytes.first() == Some(&WITHHELD)
}

/// What a witness gets in the place of this payload: the members are not kept from it.
#[must_use]
pub fn for_witness(bytes: &Bytes) -> Bytes {
    if sets_configuration(bytes) { bytes.clone() } else { Bytes::from_static(&[WITHHELD]) }
}

/// Reads a payload; the command shares its bytes.
///
/// # Errors
/// If it is none.
pub fn decode(mut bytes: Bytes) -> Result<Payload, BadPayload> {
    match kind(&bytes).ok_or(BadPayload)? {
        Kind::Blank => Ok(Payload::Blank),
        Kind::Command(id) => {
            bytes.advance(HEADER_BYTES);
            Ok(Payload::Command { id, command: bytes })
        }
        Kind::Commands(count) => Ok(Payload::Commands(Commands { payload: bytes, count })),
        Kind::Configuration => {
            bytes.advance(1);
            let entry = MembersEntry::decode(bytes).map_err(|_| BadPayload)?;
            Ok(Payload::Configuration(Box::new(entry)))
        }
        Kind::Withheld => Ok(Payload::Withheld),
        Kind::Time(passed) => Ok(Payload::Time(passed)),
    }
}

/// What a payload holds, as far as its first bytes and its length say; nothing if it is none.
pub(crate) fn kind(bytes: &[u8]) -> Option<Kind> {
    Some(match *bytes.first()? {
        BLANK if bytes.len() == 1 => Kind::Blank,
        COMMAND => Kind::Command(proposal_id(bytes)?),
        COMMANDS => {
            let mut commands = parts(bytes);
            let count = commands.by_ref().count();
            (count > 0 && commands.rest == bytes.len()).then_some(Kind::Commands(count))?
        }
        MEMBERSHIP => Kind::Configuration,
        WITHHELD if bytes.len() == 1 => Kind::Withheld,
        TIME if bytes.len() == TIME_BYTES => {
            let (elapsed, unix) = (Duration::from_millis(number(bytes, 1)), Duration::from_millis(number(bytes, 9)));
            Kind::Time(TimePassed { elapsed, unix })
        }
        _ => return None,
    })
}

/// What a payload holds, without what may be long.
pub(crate) enum Kind {
    Blank,
    Command(ProposalId),
    /// So many.
    Commands(usize),
    /// If its bytes are of one.
    Configuration,
    Withheld,
    Time(TimePassed),
}

/// The proposal that a payload came with, if it is a command.
#[must_use]
pub fn proposal_id(bytes: &[u8]) -> Option<ProposalId> {
    let header = bytes.first_chunk::<HEADER_BYTES>().filter(|header| header[0] == COMMAND)?;
    Some(ProposalId { origin: number(header, 1), sequence: number(header, 9) })
}

/// The proposals that a payload came with, in their order.
pub fn proposal_ids(bytes: &[u8]) -> impl Iterator<Item = ProposalId> + '_ {
    proposal_id(bytes).into_iter().chain(parts(bytes).map(|(id, _)| id))
}

/// The commands that share a payload: their proposals, and where in it their bytes are. None if they do not.
fn parts(bytes: &[u8]) -> Parts<'_> {
    Parts { bytes, rest: if is_shared(bytes) { 1 } else { bytes.len() } }
}

/// Goes through commands that share a payload, up to its end or to what is none.
struct Parts<'a> {
    bytes: &'a [u8],
    /// From where on they are to be gone through.
    rest: usize,
}

impl Iterator for Parts<'_> {
    type Item = (ProposalId, Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        let header = self.bytes[self.rest..].first_chunk::<SHARED_HEADER_BYTES>()?;
        let length = header.first_chunk().map_or(0, |length| u32::from_le_bytes(*length) as usize);
        let begin = self.rest + SHARED_HEADER_BYTES;
        let end = begin.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        self.rest = end;
        Some((ProposalId { origin: number(header, 4), sequence: number(header, 12) }, begin..end))
    }
}

/// The number in the eight bytes from `at` on, little-endian. The bytes must reach so far.
fn number(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let id = ProposalId { origin: 0x0102_0304_0506_0708, sequence: u64::MAX - 1 };
        let bytes = command(id, 5, |out| out.extend_from_slice(b"hello"));
        assert_eq!(bytes.len(), HEADER_BYTES + 5);
        assert_eq!(decode(bytes.clone()), Ok(Payload::Command { id, command: Bytes::from_static(b"hello") }));
        assert_eq!(decode(blank()), Ok(Payload::Blank));
        let entry = MembersEntry { change: id, ..MembersEntry::default() };
        assert_eq!(decode(configuration(&entry)), Ok(Payload::Configuration(Box::new(entry))));
        assert_eq!(decode(for_witness(&bytes)), Ok(Payload::Withheld));
        let passed = TimePassed { elapsed: Duration::from_millis(0x0102_0304), unix: Duration::from_millis(u64::MAX) };
        assert_eq!(time(passed)[..], *b"\x04\x04\x03\x02\x01\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff");
        assert_eq!(decode(time(passed)), Ok(Payload::Time(passed)));
        assert_eq!(decode(for_witness(&time(passed))), Ok(Payload::Withheld));
    }

    #[test]
    fn commands_that_share_an_entry_are_read_and_split() {
        let commands: Vec<(ProposalId, Bytes)> = [&b"one"[..], b"", b"three"]
            .iter()
            .enumerate()
            .map(|(n, bytes)| (ProposalId { origin: 3, sequence: n as u64 }, Bytes::from_static(bytes)))
            .collect();
        let alone = |(id, bytes): &(ProposalId, Bytes)| command(*id, 0, |out| out.extend_from_slice(bytes));
        let joined = shared(commands.iter().map(alone));
        let Ok(Payload::Commands(read)) = decode(joined.clone()) else { panic!("{joined:?}") };
        assert_eq!(read.iter().collect::<Vec<_>>(), commands);
        assert_eq!(Payload::Commands(read).size_of_commands(), (3, 8));
        assert_eq!(split(&joined).collect::<Vec<_>>(), commands.iter().map(alone).collect::<Vec<_>>());
        assert_eq!(proposal_ids(&joined).collect::<Vec<_>>(), commands.iter().map(|(id, _)| *id).collect::<Vec<_>>());
        assert_eq!(for_witness(&joined), for_witness(&blank()), "kept from a witness");
        // Cut anywhere but between two of them, it is none.
        let ends = [1, 24, 44, 69];
        for end in 1..joined.len() {
            let is_none = decode(joined.slice(..end)) == Err(BadPayload);
            assert_eq!(is_none, end == 1 || !ends.contains(&end), "{end}");
        }
    }

    #[test]
    fn commands_in_one_block_are_as_they_are_alone() {
        let mut block = BytesMut::with_capacity(2 * HEADER_BYTES + 10);
        let begin = block.as_ptr();
        let command_of = |sequence: u64| ProposalId { origin: 7, sequence };
        // The third has no room in the block.
        for sequence in 0..3 {
            let shared = command_in(&mut block, command_of(sequence), 5, |out| out.extend_from_slice(b"hello"));
            assert_eq!(shared, command(command_of(sequence), 0, |out| out.extend_from_slice(b"hello")));
            assert_eq!(sequence < 2, shared.as_ptr() == begin.wrapping_add(sequence as usize * shared.len()));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            &b""[..],
            b"\0x",
            b"\x01",
            b"\x010123456701234567"[..HEADER_BYTES - 1].as_ref(),
            b"\x05abc",
            b"\x05",
            b"\x05\xff\xff\xff\xff0123456701234567",
            b"\x06abc",
            b"\x04",
            b"\x04123456712345678",
            b"\x0412345678123456789",
            b"\x02abc",
            b"\x03a",
        ] {
            assert_eq!(decode(Bytes::copy_from_slice(bad)), Err(BadPayload), "{bad:?}");
        }
    }
}
