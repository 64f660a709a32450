//! A typed state, by hand: what its commands lead to, and that a snapshot has all of it.

use std::ops::RangeInclusive;

use bytes::{Buf, BufMut, BytesMut};
use vlot_raft::id::NodeId;

use super::*;
use crate::machine::{self, Fence, Step};
use crate::state_machine::{BadCommand, Command};
use crate::typed::sessions::SessionId;
use crate::typed::state::WriteState;

/// The numbers that were added, in order. In the second version a number may be negative.
#[derive(Clone, Debug, Default, PartialEq)]
struct List(Vec<i32>);

impl State for List {
    type Command = i32;
    type Reply = u64;

    const VERSIONS: RangeInclusive<Version> = 1..=2;

    fn apply(&mut self, _: &Context, number: i32) -> u64 {
        self.0.push(number);
        self.0.len() as u64
    }

    fn version_of(number: &i32) -> Version {
        if *number < 0 { 2 } else { 1 }
    }

    fn encode_command(number: &i32, version: Version, buffer: &mut BytesMut) {
        match version {
            1 => buffer.put_u8(*number as u8),
            _ => buffer.put_i32(*number),
        }
    }

    fn decode_command(version: Version, mut bytes: Bytes) -> Result<i32, BadCommand> {
        let number = if version == 1 { bytes.try_get_u8().map(i32::from) } else { bytes.try_get_i32() };
        number.map_err(|_| BadCommand("too short".to_owned()))
    }

    fn encode_reply(reply: &u64, _: Version, buffer: &mut BytesMut) {
        buffer.put_u64(*reply);
    }

    fn decode_reply(_: Version, mut bytes: Bytes) -> Result<u64, BadSnapshot> {
        bytes.try_get_u64().map_err(|_| BadSnapshot("too short".to_owned()))
    }

    fn snapshot(&self, version: Version) -> WriteState {
        let mut bytes = BytesMut::new();
        self.0.iter().for_each(|number| Self::encode_command(number, version, &mut bytes));
        Box::new(move |out| out.write_all(&bytes))
    }

    fn restore(version: Version, from: &mut dyn io::Read) -> Result<Self, BadSnapshot> {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).map_err(|error| BadSnapshot(error.to_string()))?;
        let width = if version == 1 { 1 } else { 4 };
        let number = |bytes: &[u8]| Self::decode_command(version, Bytes::copy_from_slice(bytes));
        bytes.chunks(width).map(number).collect::<Result<_, _>>().map(Self).map_err(|bad| BadSnapshot(bad.0))
    }
}

/// A state machine that is given one entry after the other.
struct Given(Typed<List>, u64);

impl Given {
    fn new() -> Self {
        Self(Typed::new(List::default()), 0)
    }

    fn at(&mut self) -> LogId {
        self.1 += 1;
        LogId::new(1, self.1)
    }

    /// Applies a call as it is read back from a log.
    fn call(&mut self, call: &Call<List>) -> Reply<u64> {
        let mut bytes = BytesMut::new();
        call.encode(&mut bytes);
        let (at, read) = (self.at(), Call::decode(bytes.freeze()).unwrap());
        self.0.apply(at, read)
    }

    fn open(&mut self) -> SessionId {
        match self.call(&Call::Open) {
            Reply::Opened(id) => id,
            other => panic!("{other:?}"),
        }
    }

    fn add(&mut self, session: SessionId, serial: u64, number: i32) -> Reply<u64> {
        self.call(&add(1, Some(CallId { session, serial }), number))
    }

    fn pass(&mut self, seconds: u64) {
        let at = self.at();
        let elapsed = Duration::from_secs(seconds);
        self.0.time_passed(at, TimePassed { elapsed, unix: Duration::from_secs(1_700_000_000) + elapsed });
    }

    fn restored(&self) -> Typed<List> {
        let mut bytes = Vec::new();
        self.0.snapshot().unwrap().write_to(&mut bytes).unwrap();
        let mut typed = Typed::new(List::default());
        typed.restore(self.0.at(), &mut &bytes[..]).unwrap();
        let mut again = Vec::new();
        typed.snapshot().unwrap().write_to(&mut again).unwrap();
        assert_eq!(bytes, again, "what is restored is all that was there");
        typed
    }
}

fn add(version: Version, id: Option<CallId>, command: i32) -> Call<List> {
    Call::Apply { id, unsettled: 10, version, command }
}

#[test]
fn a_retry_is_answered_and_not_applied_through_snapshots_too() {
    let mut given = Given::new();
    let session = given.open();
    assert_eq!(given.add(session, 1, 5), Reply::Applied(1));
    assert_eq!(given.add(session, 2, 6), Reply::Applied(2));
    given.pass(60);
    given.0 = given.restored();
    assert_eq!(given.add(session, 1, 5), Reply::Applied(1));
    assert_eq!(given.add(session, 3, 7), Reply::Applied(3));
    assert_eq!(given.0.0, [5, 6, 7]);
    given.pass(3599);
    given.0 = given.restored();
    assert_eq!(given.add(session, 3, 7), Reply::Applied(3));
    given.pass(3600);
    assert_eq!(given.add(session, 3, 7), Reply::NoSession);
    assert_eq!(given.call(&add(1, None, 8)), Reply::Applied(4), "without a session");
    assert_eq!(given.0.0, [5, 6, 7, 8]);
}

#[test]
fn what_is_resolved_is_final() {
    let mut given = Given::new();
    let session = given.open();
    let id = |serial| CallId { session, serial };
    assert_eq!(given.add(session, 2, 5), Reply::Applied(1));
    assert_eq!(given.call(&Call::Resolve(id(2))), Reply::Applied(1));
    assert_eq!(given.call(&Call::Resolve(id(1))), Reply::GivenUp);
    given.0 = given.restored();
    assert_eq!(given.add(session, 1, 4), Reply::GivenUp);
    assert_eq!(given.call(&Call::Resolve(id(1))), Reply::GivenUp);
    assert_eq!(given.add(session, 20, 6), Reply::Applied(2), "and 1 to 9 are settled");
    assert_eq!(given.call(&Call::Resolve(id(2))), Reply::Settled);
    assert_eq!(given.call(&Call::Close(session)), Reply::Done);
    assert_eq!(given.call(&Call::Resolve(id(20))), Reply::NoSession);
    assert_eq!(given.0.0, [5, 6]);
}

#[test]
fn commands_and_snapshots_are_written_in_the_version_in_use() {
    let mut given = Given::new();
    let at = given.at();
    let members = Members::of_voters([1, 2].map(|node| (NodeId(node), String::new())));
    given.0.members_changed(at, &members, Bytes::new());
    let understands = |node, newest| Call::Understands { node: NodeId(node), oldest: 1, newest };
    assert_eq!(given.call(&understands(1, 2)), Reply::Done);
    assert_eq!(given.call(&add(1, None, 5)), Reply::Applied(1));
    assert_eq!(given.call(&add(2, None, -5)), Reply::OtherVersion(1));
    assert_eq!(given.call(&understands(2, 3)), Reply::Done);
    assert_eq!(given.call(&add(2, None, -6)), Reply::Applied(2));
    assert_eq!(given.call(&add(1, None, 6)), Reply::OtherVersion(2));
    assert_eq!(given.0.0, [5, -6]);
    given.0 = given.restored();
    assert_eq!((given.0.versions().in_use(), &given.0.0[..]), (2, &[5, -6][..]));
    let bad = versions::BadLimit { node: NodeId(1), oldest: 1, newest: 2 };
    assert_eq!(given.call(&Call::Limit(Some(3))), Reply::BadLimit(bad));
    assert_eq!(given.call(&Call::Limit(Some(1))), Reply::Done);
    // On its way when the limit was set. A program that reads the first version alone must get past it.
    assert_eq!(given.call(&add(2, None, -7)), Reply::OtherVersion(1));
    let mut bytes = BytesMut::new();
    add(3, None, 7).encode(&mut bytes);
    let unread = Call::<List>::decode(bytes.freeze()).unwrap();
    assert!(matches!(unread, Call::ApplyUnread { version: 3 }));
    assert_eq!(given.call(&unread), Reply::OtherVersion(1));
}

#[test]
fn a_program_that_is_too_old_stops_and_says_so() {
    let mut given = Given::new();
    given.0.parts.versions.in_use = 3;
    let mut bytes = Vec::new();
    given.0.snapshot().unwrap().write_to(&mut bytes).unwrap();
    let why = Typed::new(List::default()).restore(LogId::ZERO, &mut &bytes[..]).unwrap_err();
    assert_eq!(why.0, "it is written in version 3, and this program reads 1 to 2");
    let why = given.0.can_apply(&Call::ApplyUnread { version: 3 }).unwrap_err();
    assert_eq!(why.0, "it is written in version 3 of this program, which reads 1 to 2: start a newer one");
    assert_eq!(given.0.can_apply(&Call::ApplyUnread { version: 2 }), Ok(()), "it is skipped by all");
    let step = Step::Apply { at: LogId::new(1, 1), proposal: None, command: Call::ApplyUnread { version: 3 } };
    let stopped = machine::apply(&mut given.0, LogId::ZERO, vec![step]);
    assert!(matches!(stopped, Err(Fence::UnknownCommand { .. })), "the replica stops, and no process");
}

#[test]
fn damaged_bytes_are_refused_or_another_valid_value() {
    let mut given = Given::new();
    let session = given.open();
    given.add(session, 1, 5);
    given.call(&Call::Resolve(CallId { session, serial: 2 }));
    given.call(&Call::Understands { node: NodeId(1), oldest: 1, newest: 2 });
    let mut snapshot = Vec::new();
    given.0.snapshot().unwrap().write_to(&mut snapshot).unwrap();
    let read = |bytes: &[u8]| drop(Typed::new(List::default()).restore(LogId::ZERO, &mut &*bytes));
    let mut calls = vec![add(1, Some(CallId { session, serial: 3 }), 7), add(1, None, 7), Call::Limit(Some(1))];
    calls.extend([Call::Open, Call::Close(session), Call::Resolve(CallId { session, serial: 1 })]);
    let encoded = calls.iter().map(|call| {
        let mut bytes = BytesMut::new();
        call.encode(&mut bytes);
        bytes.to_vec()
    });
    let encoded: Vec<Vec<u8>> = encoded.collect();
    for at in 0..snapshot.len() {
        read(&snapshot[..at]);
        for bit in 0..8 {
            let mut damaged = snapshot.clone();
            damaged[at] ^= 1 << bit;
            read(&damaged);
        }
    }
    for bytes in encoded {
        for at in 0..bytes.len() {
            drop(Call::<List>::decode(Bytes::copy_from_slice(&bytes[..at])));
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                drop(Call::<List>::decode(damaged.into()));
            }
        }
    }
}

#[cfg(feature = "serde")]
mod of_serde {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::typed::by_serde::SerdeState;

    #[derive(Clone, Default, Deserialize, Serialize)]
    struct Log(Vec<String>);

    #[derive(Clone, Deserialize, Serialize)]
    enum Change {
        Push(String),
        Clear,
    }

    impl SerdeState for Log {
        type Command = Change;
        type Reply = Result<usize, String>;

        fn apply(&mut self, context: &Context, change: Change) -> Self::Reply {
            match change {
                Change::Push(text) if text.is_empty() => return Err("nothing to push".to_owned()),
                Change::Push(text) => self.0.push(format!("{} {text}", context.time.as_secs())),
                Change::Clear => self.0.clear(),
            }
            Ok(self.0.len())
        }
    }

    #[test]
    fn a_state_of_serde_is_written_and_read() {
        let mut typed = Typed::new(Log::default());
        let call = |command| Call::<Log>::Apply { id: None, unsettled: 0, version: 1, command };
        let mut index = 0;
        let mut apply = |typed: &mut Typed<Log>, call: &Call<Log>| {
            index += 1;
            let mut bytes = BytesMut::new();
            call.encode(&mut bytes);
            typed.apply(LogId::new(1, index), Call::decode(bytes.freeze()).unwrap())
        };
        typed.time_passed(LogId::ZERO, TimePassed { elapsed: Duration::from_secs(3), unix: Duration::ZERO });
        assert_eq!(apply(&mut typed, &call(Change::Push("a".into()))), Reply::Applied(Ok(1)));
        let error = Reply::Applied(Err("nothing to push".to_owned()));
        assert_eq!(apply(&mut typed, &call(Change::Push(String::new()))), error);
        let mut bytes = Vec::new();
        StateMachine::snapshot(&typed).unwrap().write_to(&mut bytes).unwrap();
        let mut restored = Typed::new(Log::default());
        StateMachine::restore(&mut restored, typed.at(), &mut &bytes[..]).unwrap();
        assert_eq!(restored.0, ["3 a"]);
        assert_eq!(apply(&mut restored, &call(Change::Clear)), Reply::Applied(Ok(0)));
    }
}
