//! How a typed state is written into a snapshot and read back: versions, replicated time and sessions, then the state.
//!
//! Owns that layout; `docs/disk-format.md` has it to the byte. Must not know when snapshots are taken or how they travel.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, Read, Write};
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use vlot_raft::id::{LogId, NodeId};

use super::sessions::parts::Part;
use super::sessions::{Answer, Limits, SessionId, Sessions};
use super::state::{State, Version, WriteState};
use super::versions::Versions;
use super::{Parts, Typed};
use crate::state_machine::{BadSnapshot, Snapshot};

/// What a snapshot of a typed state begins with: its name and the version of this layout.
const MAGIC: &[u8; 8] = b"vlottyp\x01";
/// What is before the state is no longer than this: more was never written.
const HEAD_BYTES_MAX: u64 = 4 << 30;

const UNKNOWN: u8 = 0;
const APPLIED: u8 = 1;
const GIVEN_UP: u8 = 2;

/// A typed state at one moment, to be written down.
pub(super) struct TypedSnapshot<T: State> {
    at: LogId,
    parts: Parts<T::Reply>,
    /// Gone once it is written.
    write_state: Option<WriteState>,
}

impl<T: State> TypedSnapshot<T> {
    pub(super) fn of(typed: &Typed<T>) -> Self {
        let write_state = Some(typed.state.snapshot(typed.parts.versions.in_use()));
        Self { at: typed.at, parts: typed.parts.clone(), write_state }
    }
}

impl<T: State> Snapshot for TypedSnapshot<T> {
    fn at(&self) -> LogId {
        self.at
    }

    fn write_to(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let Some(write_state) = self.write_state.take() else {
            return Err(io::Error::other("this snapshot was written already"));
        };
        let mut head = BytesMut::new();
        let Parts { versions, unix, sessions } = &self.parts;
        write_versions(versions, &mut head);
        head.put_u64_le(millis(*unix));
        write_sessions::<T>(sessions, versions.in_use(), &mut head);
        out.write_all(MAGIC)?;
        out.write_all(&(head.len() as u64).to_le_bytes())?;
        out.write_all(&head)?;
        drop(head);
        write_state(out)
    }
}

/// What a snapshot holds.
///
/// # Errors
/// If it is none, or one of a version that this program does not read.
pub(super) fn read<T: State>(limits: &Limits, from: &mut dyn Read) -> Result<(Parts<T::Reply>, T), BadSnapshot> {
    let mut start = [0; 16];
    from.read_exact(&mut start).map_err(|_| bad("it ends too soon"))?;
    let (magic, length) = start.split_at(MAGIC.len());
    if magic[..7] != MAGIC[..7] {
        return Err(bad("it is none of a typed state"));
    }
    if magic != MAGIC {
        return Err(BadSnapshot(format!("its layout is {}, and this version reads {}", magic[7], MAGIC[7])));
    }
    let length = length.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
    if length > HEAD_BYTES_MAX {
        return Err(bad("what is before the state is longer than it can be"));
    }
    let mut head = Vec::new();
    from.take(length).read_to_end(&mut head).map_err(|error| BadSnapshot(error.to_string()))?;
    if head.len() as u64 != length {
        return Err(bad("it ends too soon"));
    }
    let mut head = &head[..];
    let versions = read_versions(&mut head)?;
    let version = versions.in_use();
    if !T::VERSIONS.contains(&version) {
        let (oldest, newest) = (T::VERSIONS.start(), T::VERSIONS.end());
        let why = format!("it is written in version {version}, and this program reads {oldest} to {newest}");
        return Err(BadSnapshot(why));
    }
    let unix = Duration::from_millis(take(&mut head, Buf::try_get_u64_le)?);
    let sessions = read_sessions::<T>(limits, version, &mut head)?;
    if !head.is_empty() {
        return Err(bad("there is more before the state than there should be"));
    }
    Ok((Parts { versions, unix, sessions }, T::restore(version, from)?))
}

fn write_versions(versions: &Versions, out: &mut BytesMut) {
    let Versions { in_use, limit, members, understood } = versions;
    out.put_u16_le(*in_use);
    out.put_u16_le(limit.unwrap_or(0));
    out.put_u32_le(members.len() as u32);
    members.iter().for_each(|node| out.put_u64_le(node.0));
    out.put_u32_le(understood.len() as u32);
    for (node, (oldest, newest)) in understood {
        out.put_u64_le(node.0);
        out.put_u16_le(*oldest);
        out.put_u16_le(*newest);
    }
}

fn read_versions(from: &mut &[u8]) -> Result<Versions, BadSnapshot> {
    let in_use: Version = take(from, Buf::try_get_u16_le)?;
    let limit = Some(take(from, Buf::try_get_u16_le)?).filter(|version| *version > 0);
    let mut members = BTreeSet::new();
    for _ in 0..take(from, Buf::try_get_u32_le)? {
        members.insert(NodeId(take(from, Buf::try_get_u64_le)?));
    }
    let mut understood = BTreeMap::new();
    for _ in 0..take(from, Buf::try_get_u32_le)? {
        let node = NodeId(take(from, Buf::try_get_u64_le)?);
        let oldest = take(from, Buf::try_get_u16_le)?;
        understood.insert(node, (oldest, take(from, Buf::try_get_u16_le)?));
    }
    Ok(Versions { in_use, limit, members, understood })
}

fn write_sessions<T: State>(sessions: &Sessions<T::Reply>, version: Version, out: &mut BytesMut) {
    out.put_u64_le(millis(sessions.time()));
    out.put_u32_le(sessions.len() as u32);
    let mut bytes = BytesMut::new();
    for part in sessions.parts() {
        out.put_u64_le(part.id.0);
        out.put_u64_le(millis(part.used));
        out.put_u64_le(part.unsettled);
        out.put_u32_le(part.answers.len() as u32);
        for answer in part.answers {
            match answer {
                None => out.put_u8(UNKNOWN),
                Some(Answer::GivenUp) => out.put_u8(GIVEN_UP),
                Some(Answer::Applied { reply, bytes: counted }) => {
                    out.put_u8(APPLIED);
                    out.put_u64_le(*counted as u64);
                    bytes.clear();
                    T::encode_reply(reply, version, &mut bytes);
                    out.put_u32_le(bytes.len() as u32);
                    out.extend_from_slice(&bytes);
                }
            }
        }
    }
}

fn read_sessions<T: State>(
    limits: &Limits,
    version: Version,
    from: &mut &[u8],
) -> Result<Sessions<T::Reply>, BadSnapshot> {
    let time = Duration::from_millis(take(from, Buf::try_get_u64_le)?);
    let mut parts = Vec::new();
    for _ in 0..take(from, Buf::try_get_u32_le)? {
        let id = SessionId(take(from, Buf::try_get_u64_le)?);
        let used = Duration::from_millis(take(from, Buf::try_get_u64_le)?);
        let unsettled = take(from, Buf::try_get_u64_le)?;
        let mut answers = VecDeque::new();
        for _ in 0..take(from, Buf::try_get_u32_le)? {
            answers.push_back(match take(from, Buf::try_get_u8)? {
                UNKNOWN => None,
                GIVEN_UP => Some(Answer::GivenUp),
                APPLIED => {
                    let bytes = take(from, Buf::try_get_u64_le)? as usize;
                    let length = take(from, Buf::try_get_u32_le)? as usize;
                    let encoded = from.split_off(..length).ok_or_else(|| bad("a reply ends too soon"))?;
                    let reply = T::decode_reply(version, bytes::Bytes::copy_from_slice(encoded))?;
                    Some(Answer::Applied { reply, bytes })
                }
                other => return Err(BadSnapshot(format!("no answer of a call begins with {other}"))),
            });
        }
        parts.push(Part { id, used, unsettled, answers });
    }
    Sessions::of_parts(limits.clone(), time, parts).ok_or_else(|| bad("its sessions are more than there can be"))
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn take<'a, N, E>(from: &mut &'a [u8], take: impl FnOnce(&mut &'a [u8]) -> Result<N, E>) -> Result<N, BadSnapshot> {
    take(from).map_err(|_| bad("it ends too soon"))
}

fn bad(why: &str) -> BadSnapshot {
    BadSnapshot(why.to_owned())
}
