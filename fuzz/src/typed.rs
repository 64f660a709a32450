//! A typed state that is given any calls, in any order, with snapshots in between; and bytes as calls and snapshots.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use vlot_node::members::Members;
use vlot_node::state_machine::{BadCommand, BadSnapshot, Command, StateMachine, TimePassed};
use vlot_node::typed::Typed;
use vlot_node::typed::call::{Call, Reply};
use vlot_node::typed::sessions::{CallId, Limits, SessionId};
use vlot_node::typed::state::{Context, State, Version, WriteState};
use vlot_raft::id::{LogId, NodeId};

use crate::reader::Reader;

/// What was applied, in order. A command is a number of the run's own, never used twice; the reply is its place.
#[derive(Clone, Debug, Default, PartialEq)]
struct List(Vec<u32>);

impl State for List {
    type Command = u32;
    type Reply = u32;

    const VERSIONS: std::ops::RangeInclusive<Version> = 1..=2;

    fn apply(&mut self, _: &Context, number: u32) -> u32 {
        self.0.push(number);
        self.0.len() as u32
    }

    fn encode_command(number: &u32, version: Version, buffer: &mut BytesMut) {
        buffer.put_u32(number.wrapping_add(version.into()));
    }

    fn decode_command(version: Version, bytes: Bytes) -> Result<u32, BadCommand> {
        let number: [u8; 4] = bytes[..].try_into().map_err(|_| BadCommand("not four bytes".to_owned()))?;
        Ok(u32::from_be_bytes(number).wrapping_sub(version.into()))
    }

    fn encode_reply(reply: &u32, version: Version, buffer: &mut BytesMut) {
        Self::encode_command(reply, version, buffer);
    }

    fn decode_reply(version: Version, bytes: Bytes) -> Result<u32, BadSnapshot> {
        Self::decode_command(version, bytes).map_err(|bad| BadSnapshot(bad.0))
    }

    fn snapshot(&self, version: Version) -> WriteState {
        let mut bytes = BytesMut::new();
        self.0.iter().for_each(|number| Self::encode_command(number, version, &mut bytes));
        Box::new(move |out| out.write_all(&bytes))
    }

    fn restore(version: Version, from: &mut dyn io::Read) -> Result<Self, BadSnapshot> {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).map_err(|error| BadSnapshot(error.to_string()))?;
        let number = |bytes: &[u8]| Self::decode_reply(version, Bytes::copy_from_slice(bytes));
        bytes.chunks(4).map(number).collect::<Result<_, _>>().map(Self)
    }
}

const LIMITS: Limits =
    Limits { idle_max: Duration::from_secs(5), sessions_max: 4, unsettled_max: 8, reply_bytes_max: 400 };

/// What a run has seen.
#[derive(Default)]
struct Seen {
    index: u64,
    sessions: Vec<SessionId>,
    /// The command of each call, and the replies that are known.
    calls: BTreeMap<CallId, u32>,
    replies: BTreeMap<CallId, u32>,
    given_up: BTreeSet<CallId>,
}

/// Runs one input.
///
/// # Panics
/// If something does not hold that must.
pub fn run(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    match reader.below(8) {
        0 => drop(Call::<List>::decode(Bytes::copy_from_slice(reader.bytes(1 << 16)))),
        1 => drop(Typed::with(LIMITS, List::default()).restore(LogId::ZERO, &mut reader.bytes(1 << 16))),
        _ => run_calls(&mut reader),
    }
}

fn run_calls(reader: &mut Reader<'_>) {
    let (mut typed, mut seen) = (Typed::with(LIMITS, List::default()), Seen::default());
    let members = Members::of_voters([1, 2].map(|node| (NodeId(node), String::new())));
    while !reader.is_empty() {
        seen.index += 1;
        let at = LogId::new(1, seen.index);
        match reader.below(16) {
            0 => {
                let elapsed = Duration::from_millis(u64::from(reader.byte()) * 20);
                typed.time_passed(at, TimePassed { elapsed, unix: Duration::ZERO });
            }
            1 => typed.members_changed(at, &members, Bytes::new()),
            2 => typed = restored(&typed, reader),
            3 => {
                let Reply::Opened(session) = give(&mut typed, at, &Call::Open) else { panic!("it opens none") };
                assert!(!seen.sessions.contains(&session), "a name is used twice");
                seen.sessions.push(session);
            }
            4 => {
                let (oldest, newest) = (reader.below(3) as Version, reader.below(4) as Version);
                give(&mut typed, at, &Call::Understands { node: NodeId(1 + reader.below(3) as u64), oldest, newest });
            }
            5 => drop(give(&mut typed, at, &Call::Limit(Some(reader.below(3) as Version).filter(|limit| *limit > 0)))),
            6 if !seen.sessions.is_empty() => drop(give(&mut typed, at, &Call::Close(reader.among(&seen.sessions)))),
            7 => resolve(&mut typed, at, &mut seen, reader),
            _ => call(&mut typed, at, &mut seen, reader),
        }
        let versions = typed.versions().in_use();
        if versions > 2 {
            // This program is too old for it, and would have stopped.
            return;
        }
        assert!(typed.sessions().len() <= LIMITS.sessions_max);
        let bytes_max = LIMITS.reply_bytes_max + usize::from(LIMITS.unsettled_max) * 64;
        assert!(typed.sessions().reply_bytes() <= bytes_max);
        let mut applied = typed.0.clone();
        applied.sort_unstable();
        applied.dedup();
        assert_eq!(applied.len(), typed.0.len(), "a call is applied twice");
    }
}

fn call_id(seen: &Seen, reader: &mut Reader<'_>) -> CallId {
    let session = if seen.sessions.is_empty() { SessionId(0) } else { reader.among(&seen.sessions) };
    CallId { session, serial: 1 + reader.below(12) as u64 }
}

fn call(typed: &mut Typed<List>, at: LogId, seen: &mut Seen, reader: &mut Reader<'_>) {
    let id = call_id(seen, reader);
    let fresh = seen.calls.len() as u32;
    let command = *seen.calls.entry(id).or_insert(fresh);
    let version = if reader.one_in(8) { reader.below(4) as Version } else { typed.versions().in_use() };
    let before = typed.0.len();
    let call = Call::Apply { id: Some(id), unsettled: reader.below(12) as u16, version: version.clamp(1, 2), command };
    match give(typed, at, &call) {
        Reply::Applied(reply) => {
            assert!(!seen.given_up.contains(&id), "{id} was given up");
            assert_eq!(*seen.replies.entry(id).or_insert(reply), reply, "{id} has two replies");
            assert_eq!(typed.0[reply as usize - 1], command);
        }
        _ => assert_eq!(typed.0.len(), before, "{id} was applied"),
    }
}

fn resolve(typed: &mut Typed<List>, at: LogId, seen: &mut Seen, reader: &mut Reader<'_>) {
    let id = call_id(seen, reader);
    match give(typed, at, &Call::Resolve(id)) {
        Reply::Applied(reply) => assert_eq!(seen.replies.get(&id), Some(&reply), "{id}"),
        Reply::GivenUp => {
            assert!(!seen.replies.contains_key(&id), "{id} was applied");
            seen.given_up.insert(id);
        }
        _ => {}
    }
}

/// Applies a call as it is read back from a log.
fn give(typed: &mut Typed<List>, at: LogId, call: &Call<List>) -> Reply<u32> {
    let mut bytes = BytesMut::new();
    call.encode(&mut bytes);
    let read = Call::decode(bytes.clone().freeze()).expect("what is written is read");
    let mut again = BytesMut::new();
    read.encode(&mut again);
    assert_eq!(bytes, again);
    typed.apply(at, read)
}

/// The same from its snapshot; one that is damaged is refused, or another.
fn restored(typed: &Typed<List>, reader: &mut Reader<'_>) -> Typed<List> {
    let mut bytes = Vec::new();
    let mut snapshot = typed.snapshot().expect("it makes some");
    snapshot.write_to(&mut bytes).expect("memory takes everything");
    let mut restored = Typed::with(LIMITS, List::default());
    restored.restore(typed.at(), &mut &bytes[..]).expect("what is written is read");
    let mut again = Vec::new();
    restored.snapshot().expect("it makes some").write_to(&mut again).expect("memory takes everything");
    assert_eq!(bytes, again);
    let place = (usize::from(reader.byte()) * 256 + usize::from(reader.byte())) % bytes.len();
    bytes[place] ^= reader.byte();
    drop(Typed::with(LIMITS, List::default()).restore(typed.at(), &mut &bytes[..]));
    restored
}
