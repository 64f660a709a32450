//! A typed state in the simulated world: calls that take effect once, however often and through whichever node they are
//! made, while sessions are opened, run out, give way and are closed.
//!
//! Owns the state, a list to which each command adds a value of its own, and the machine's bounds. What clients do is in
//! `clients.rs`, what must hold of what they saw in `check.rs`.

mod check;
mod clients;

use std::io;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use vlot_node::state_machine::{BadCommand, BadSnapshot, StateMachine};
use vlot_node::typed::Typed;
use vlot_node::typed::call::{self, Call};
use vlot_node::typed::sessions::SessionId;
use vlot_node::typed::state::{Context, State, Version, WriteState};
use vlot_raft::invariants::Violation;

use crate::conditions::Conditions;
use crate::fault_kind::FaultKind;
use crate::rng::Rng;
use crate::subject::{End, EndOf, OpId, OperationOf, Request, Subject};
use check::Bounds;
use clients::Clients;

/// All values that were added, in order. One that is there twice was applied twice.
#[derive(Clone, Debug, Default)]
pub struct List {
    values: Vec<u64>,
    /// Stands for all of them.
    hash: u64,
}

/// What has come of adding a value.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Added {
    /// How many values were there before.
    pub position: u64,
    /// The replicated time then.
    pub time: Duration,
}

/// A command's reply takes so many bytes, as far as sessions count them.
const ADDED_BYTES: usize = 24;

impl State for List {
    type Command = u64;
    type Reply = Added;

    /// In the second version every number is written with its bits turned over.
    const VERSIONS: RangeInclusive<Version> = 1..=2;

    fn apply(&mut self, context: &Context, value: u64) -> Added {
        let position = self.values.len() as u64;
        self.values.push(value);
        self.hash = fold(self.hash, value);
        Added { position, time: context.time }
    }

    fn is_prompt(&self, _: &u64) -> bool {
        true
    }

    fn encode_command(value: &u64, version: Version, buffer: &mut BytesMut) {
        buffer.put_u64_le(written(*value, version));
    }

    fn decode_command(version: Version, mut bytes: Bytes) -> Result<u64, BadCommand> {
        bytes.try_get_u64_le().map(|value| written(value, version)).map_err(|error| BadCommand(error.to_string()))
    }

    fn encode_reply(added: &Added, version: Version, buffer: &mut BytesMut) {
        buffer.put_u64_le(written(added.position, version));
        buffer.put_u64_le(written(added.time.as_millis() as u64, version));
    }

    fn decode_reply(version: Version, mut bytes: Bytes) -> Result<Added, BadSnapshot> {
        let mut number = || match bytes.try_get_u64_le() {
            Ok(number) => Ok(written(number, version)),
            Err(error) => Err(BadSnapshot(error.to_string())),
        };
        Ok(Added { position: number()?, time: Duration::from_millis(number()?) })
    }

    fn reply_bytes(_: &Added) -> usize {
        ADDED_BYTES
    }

    /// The hash comes first.
    fn snapshot(&self, version: Version) -> WriteState {
        let Self { values, hash } = self.clone();
        Box::new(move |out| {
            let mut numbers = std::iter::once(&hash).chain(&values);
            numbers.try_for_each(|number| out.write_all(&written(*number, version).to_le_bytes()))
        })
    }

    fn restore(version: Version, from: &mut dyn io::Read) -> Result<Self, BadSnapshot> {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).map_err(|error| BadSnapshot(error.to_string()))?;
        let mut numbers = bytes.chunks_exact(8).map(|mut bytes| written(bytes.get_u64_le(), version));
        let hash = numbers.next().ok_or_else(|| BadSnapshot("no list".to_owned()))?;
        Ok(Self { values: numbers.collect(), hash })
    }
}

/// How a version writes a number; and how it reads what it has written.
fn written(number: u64, version: Version) -> u64 {
    if version == 1 { number } else { !number }
}

fn fold(sum: u64, number: u64) -> u64 {
    (sum ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

/// Asks for everything.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Look;

/// What a client sees.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Seen {
    values: Vec<u64>,
    time: Duration,
    sessions: usize,
    reply_bytes: usize,
}

/// Reply of a machine to a call.
pub type Reply = call::Reply<Added>;

/// The clients of a group.
pub struct SessionsUsed {
    bounds: Bounds,
    clients: Clients,
}

impl Subject for SessionsUsed {
    /// The whole list is in each.
    const SNAPSHOT_SCALE: u32 = 50;
    /// Sessions run out by clocks that do not leap.
    const RULED_OUT: &'static [FaultKind] = &[FaultKind::ClockJump];

    type Machine = Typed<List>;
    type Query = Look;
    type Answer = Seen;

    fn new(conditions: &Conditions, rng: &mut Rng) -> Self {
        let bounds = Bounds { clock_drift: conditions.clock_drift, ..Bounds::draw(rng) };
        let clients = Clients::new(bounds.limits.unsettled_max);
        Self { bounds, clients }
    }

    fn machine(&self) -> Typed<List> {
        Typed::with(self.bounds.limits.clone(), List::default())
    }

    fn next(&mut self, op: OpId, rng: &mut Rng) -> Request<Call<List>, Look> {
        self.clients.next(op, rng).map_or(Request::Read(Look), Request::Propose)
    }

    fn ended(&mut self, op: OpId, request: &Request<Call<List>, Look>, end: &EndOf<Self>) {
        if let (Request::Propose(call), End::Replied(reply)) = (request, end) {
            self.clients.answered(op, call, reply);
        }
    }

    /// The end of a session that there never is.
    fn idle(&mut self, _: u64) -> Option<Call<List>> {
        Some(Call::Close(SessionId(0)))
    }

    fn read(machine: &Typed<List>, _: &Look) -> Seen {
        let sessions = machine.sessions();
        let (time, reply_bytes) = (sessions.time(), sessions.reply_bytes());
        Seen { values: machine.values.clone(), time, sessions: sessions.len(), reply_bytes }
    }

    /// A number for what is before the state in a snapshot, and for the hash with which that begins.
    fn digest(machine: &Typed<List>) -> u64 {
        let mut hasher = Hasher { sum: machine.at().index.0, seen: Vec::new() };
        if let Some(mut snapshot) = machine.snapshot() {
            snapshot.write_to(&mut hasher).expect("it takes everything");
        }
        hasher.finish(machine.hash)
    }

    fn time(machine: &Typed<List>) -> Option<Duration> {
        Some(machine.sessions().time())
    }

    fn check(&self, history: &[OperationOf<Self>]) -> Result<(), Violation> {
        let tally = check::check(history, &self.bounds)?;
        // Whether anything was put to the test.
        #[cfg(test)]
        tests::add(tally);
        let _ = tally;
        Ok(())
    }
}

/// Takes the head of a snapshot, and leaves the values alone, of which there are many.
struct Hasher {
    sum: u64,
    seen: Vec<u8>,
}

impl Hasher {
    fn finish(self, hash: u64) -> u64 {
        self.seen.chunks(8).fold(fold(self.sum, hash), |sum, bytes| {
            fold(sum, bytes.iter().fold(1, |number, byte| number << 8 | u64::from(*byte)))
        })
    }

    /// How many bytes there are before the state, once that is known.
    fn head(&self) -> Option<usize> {
        let length = self.seen.get(8..16)?.try_into().ok().map(u64::from_le_bytes)?;
        Some(16 + length as usize)
    }
}

impl io::Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.head().is_none_or(|head| self.seen.len() < head) {
            self.seen.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use vlot_node::state_machine::Command as _;
    use vlot_node::typed::sessions::CallId;
    use vlot_node::typed::versions;
    use vlot_raft::id::LogId;

    use super::check::Tally;
    use super::*;
    use crate::conditions::Options;
    use crate::world::run_with;

    thread_local! {
        static TALLY: Cell<Tally> = const { Cell::new(Tally::NONE) };
    }

    pub(super) fn add(tally: Tally) {
        TALLY.set(TALLY.get().and(tally));
    }

    #[test]
    fn calls_take_effect_once_in_every_storm() {
        for seed in 1..=8 {
            let outcome = run_with::<SessionsUsed>(seed, &Options { seconds: 20, ..Options::default() });
            assert_eq!(outcome.violation, None, "seed {seed}");
        }
        let tally = TALLY.get();
        assert!(tally.least() >= 10, "{tally:?}");
    }

    fn apply(machine: &mut Typed<List>, index: u64, serial: u64, value: u64) -> Reply {
        let id = Some(CallId { session: SessionId(1), serial });
        let mut bytes = BytesMut::new();
        Call::<List>::Apply { id, unsettled: 0, version: versions::FIRST, command: value }.encode(&mut bytes);
        machine.apply(LogId::new(1, index), Call::decode(bytes.freeze()).unwrap())
    }

    #[test]
    fn the_number_of_a_state_tells_lists_sessions_and_answers_apart() {
        let machine = |calls: &[(u64, u64)]| {
            let mut machine = Typed::<List>::new(List::default());
            machine.apply(LogId::new(1, 1), Call::Open);
            let replies: Vec<Reply> =
                (2..).zip(calls).map(|(index, &(serial, value))| apply(&mut machine, index, serial, value)).collect();
            (machine, replies)
        };
        let (twice, replies) = machine(&[(1, 10), (1, 10)]);
        assert_eq!(replies[0], replies[1]);
        assert_eq!(SessionsUsed::read(&twice, &Look).values, [10]);
        let digests = [
            SessionsUsed::digest(&twice),
            SessionsUsed::digest(&machine(&[(1, 10), (2, 20)]).0),
            SessionsUsed::digest(&machine(&[(2, 10), (2, 10)]).0),
            SessionsUsed::digest(&machine(&[(1, 11), (1, 11)]).0),
        ];
        for (at, digest) in digests.iter().enumerate() {
            assert!(!digests[..at].contains(digest), "{digests:?}");
        }
        let mut bytes = Vec::new();
        twice.snapshot().unwrap().write_to(&mut bytes).unwrap();
        let mut restored = Typed::<List>::new(List::default());
        restored.restore(twice.at(), &mut &bytes[..]).unwrap();
        assert_eq!(SessionsUsed::digest(&restored), digests[0]);
    }
}
