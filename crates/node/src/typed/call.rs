//! What the log holds for a typed state: calls, and what is said about sessions and versions.
//!
//! Owns their layout; `docs/disk-format.md` has it to the byte. Must not know what they do.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use vlot_raft::id::NodeId;

use super::sessions::{CallId, SessionId};
use super::state::{State, Version};
use crate::state_machine::{BadCommand, Command};

/// One entry's command.
#[derive(Debug)]
pub enum Call<T: State> {
    /// Open a session; its name is the index of the entry.
    Open,
    /// End a session.
    Close(SessionId),
    /// Apply a command, once.
    Apply {
        /// The call, if it is one of a session.
        id: Option<CallId>,
        /// How many serial numbers before it are not settled, at most.
        unsettled: u16,
        /// In which version the command is written.
        version: Version,
        /// The command.
        command: T::Command,
    },
    /// A command of a version that this program does not read.
    ApplyUnread {
        /// The version.
        version: Version,
    },
    /// Say what became of a call, and give it up if it has not come.
    Resolve(CallId),
    /// A node understands versions from `oldest` to `newest`.
    Understands {
        /// The node.
        node: NodeId,
        /// The oldest.
        oldest: Version,
        /// The newest.
        newest: Version,
    },
    /// Write commands and snapshots in this version at most; in any, if it is none.
    Limit(Option<Version>),
}

impl<T: State> Clone for Call<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Open => Self::Open,
            Self::Close(id) => Self::Close(*id),
            Self::Apply { id, unsettled, version, command } => {
                Self::Apply { id: *id, unsettled: *unsettled, version: *version, command: command.clone() }
            }
            Self::ApplyUnread { version } => Self::ApplyUnread { version: *version },
            Self::Resolve(id) => Self::Resolve(*id),
            Self::Understands { node, oldest, newest } => {
                Self::Understands { node: *node, oldest: *oldest, newest: *newest }
            }
            Self::Limit(limit) => Self::Limit(*limit),
        }
    }
}

/// What a call of the log has led to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reply<R> {
    /// The command is applied, by this entry or by an earlier one of the same call.
    Applied(R),
    /// The call was given up before it came: it never takes effect.
    GivenUp,
    /// The call is settled. If it was not applied before, it never will be.
    Settled,
    /// The session is not open. If the call was not applied before, it never will be.
    NoSession,
    /// Too many calls of the session are not settled. If this one was not applied before, it never will be by this entry.
    TooManyUnsettled,
    /// The group uses this version, and the command is written in another. It was not applied by this entry.
    OtherVersion(Version),
    /// The session is open.
    Opened(SessionId),
    /// It is done.
    Done,
    /// The member does not understand the version that was to be the limit.
    BadLimit(super::versions::BadLimit),
}

const OPEN: u8 = 1;
const CLOSE: u8 = 2;
const APPLY: u8 = 3;
const APPLY_IN_SESSION: u8 = 4;
const RESOLVE: u8 = 5;
const UNDERSTANDS: u8 = 6;
const LIMIT: u8 = 7;

/// About how many bytes a call takes.
pub const SIZE_HINT: usize = 21 + 64;

impl<T: State> Command for Call<T> {
    fn encode(&self, buffer: &mut BytesMut) {
        match self {
            Self::Open => buffer.put_u8(OPEN),
            Self::Close(session) => {
                buffer.put_u8(CLOSE);
                buffer.put_u64_le(session.0);
            }
            Self::Apply { id, unsettled, version, command } => {
                encode_apply::<T>((*id, *unsettled), *version, command, buffer);
            }
            // It is read from a log, and never proposed.
            Self::ApplyUnread { version } => {
                buffer.put_u8(APPLY);
                buffer.put_u16_le(*version);
            }
            Self::Resolve(CallId { session, serial }) => {
                buffer.put_u8(RESOLVE);
                buffer.put_u64_le(session.0);
                buffer.put_u64_le(*serial);
            }
            Self::Understands { node, oldest, newest } => {
                buffer.put_u8(UNDERSTANDS);
                buffer.put_u64_le(node.0);
                buffer.put_u16_le(*oldest);
                buffer.put_u16_le(*newest);
            }
            Self::Limit(version) => {
                buffer.put_u8(LIMIT);
                // No version is zero.
                buffer.put_u16_le(version.unwrap_or(0));
            }
        }
    }

    fn decode(mut bytes: Bytes) -> Result<Self, BadCommand> {
        let call = match number(&mut bytes, Buf::try_get_u8)? {
            OPEN => Self::Open,
            CLOSE => Self::Close(SessionId(number(&mut bytes, Buf::try_get_u64_le)?)),
            APPLY => return Self::decode_apply(None, 0, bytes),
            APPLY_IN_SESSION => {
                let id = call_id(&mut bytes)?;
                let unsettled = number(&mut bytes, Buf::try_get_u16_le)?;
                return Self::decode_apply(Some(id), unsettled, bytes);
            }
            RESOLVE => Self::Resolve(call_id(&mut bytes)?),
            UNDERSTANDS => {
                let node = NodeId(number(&mut bytes, Buf::try_get_u64_le)?);
                let oldest = number(&mut bytes, Buf::try_get_u16_le)?;
                Self::Understands { node, oldest, newest: number(&mut bytes, Buf::try_get_u16_le)? }
            }
            LIMIT => Self::Limit(Some(number(&mut bytes, Buf::try_get_u16_le)?).filter(|version| *version > 0)),
            other => return Err(BadCommand(format!("no call of a typed state begins with {other}"))),
        };
        if bytes.is_empty() { Ok(call) } else { Err(BadCommand(format!("{} bytes too many", bytes.len()))) }
    }

    /// A session has the name of an entry, so that no other may have the same. What is rare is alone.
    fn shares_entry(&self) -> bool {
        match self {
            Self::Apply { command, .. } => T::shares_entry(command),
            Self::Open
            | Self::Close(_)
            | Self::ApplyUnread { .. }
            | Self::Resolve(_)
            | Self::Understands { .. }
            | Self::Limit(_) => false,
        }
    }

    fn size_hint(&self) -> usize {
        SIZE_HINT
    }
}

impl<T: State> Call<T> {
    fn decode_apply(id: Option<CallId>, unsettled: u16, mut bytes: Bytes) -> Result<Self, BadCommand> {
        let version = number(&mut bytes, Buf::try_get_u16_le)?;
        if !T::VERSIONS.contains(&version) {
            return Ok(Self::ApplyUnread { version });
        }
        Ok(Self::Apply { id, unsettled, version, command: T::decode_command(version, bytes)? })
    }
}

/// Adds the bytes of a [`Call::Apply`] to the buffer: of this call, with so many before it that are not settled.
pub fn encode_apply<T: State>(
    (id, unsettled): (Option<CallId>, u16),
    version: Version,
    command: &T::Command,
    buffer: &mut BytesMut,
) {
    match id {
        None => buffer.put_u8(APPLY),
        Some(CallId { session, serial }) => {
            buffer.put_u8(APPLY_IN_SESSION);
            buffer.put_u64_le(session.0);
            buffer.put_u64_le(serial);
            buffer.put_u16_le(unsettled);
        }
    }
    buffer.put_u16_le(version);
    T::encode_command(command, version, buffer);
}

fn number<N, E>(bytes: &mut Bytes, take: impl FnOnce(&mut Bytes) -> Result<N, E>) -> Result<N, BadCommand> {
    take(bytes).map_err(|_| BadCommand("its bytes end too soon".to_owned()))
}

fn call_id(bytes: &mut Bytes) -> Result<CallId, BadCommand> {
    let session = SessionId(number(bytes, Buf::try_get_u64_le)?);
    Ok(CallId { session, serial: number(bytes, Buf::try_get_u64_le)? })
}
