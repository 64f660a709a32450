//! What clients of sessions do, and what they remember for it.
//!
//! Any client may make any call, again and at the same time as others, so that a call comes through several nodes. Clients
//! keep to the contract of sessions: a call keeps its name and its value, and is said to be settled only once its outcome is
//! known. Must not know what is right: that is `check.rs`.

use std::collections::BTreeMap;

use vlot_node::typed::call::{Call, Reply};
use vlot_node::typed::sessions::{CallId, SessionId};
use vlot_node::typed::state::Version;
use vlot_node::typed::versions;
use vlot_raft::id::NodeId;

use super::{Added, List};
use crate::rng::Rng;
use crate::subject::OpId;

/// How many sessions clients like to have.
const SESSIONS: usize = 3;
/// There are no more nodes than this.
const NODES_MAX: u64 = 8;
/// Calls that clients come back to: those that were made last.
const IN_MIND: usize = 24;

/// All clients of a group.
#[derive(Debug)]
pub(super) struct Clients {
    unsettled_max: u64,
    /// In which version commands are written, as far as clients know.
    version: Version,
    /// The node that was upgraded last.
    upgraded: u64,
    /// The newest last.
    sessions: Vec<Session>,
    /// In the order in which they were first made.
    calls: Vec<Made>,
    known: BTreeMap<CallId, usize>,
}

#[derive(Debug)]
struct Session {
    id: SessionId,
    /// A client has asked for its end, or knows of it.
    has_ended: bool,
    /// It is left alone until this operation.
    rests_until: OpId,
    /// The serial number of its next call, unless a call beyond has it.
    next: u64,
    /// The first serial number that is not settled.
    unsettled: u64,
}

#[derive(Clone, Copy, Debug)]
struct Made {
    id: CallId,
    value: u64,
    is_known: bool,
    /// Its outcome is known, and its client does not mean to ask for it again.
    is_settled: bool,
}

impl Clients {
    pub fn new(unsettled_max: u16) -> Self {
        let (sessions, calls, known) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { unsettled_max: unsettled_max.into(), version: versions::FIRST, upgraded: 0, sessions, calls, known }
    }

    /// What a client asks for next; a look if it is nothing.
    pub fn next(&mut self, op: OpId, rng: &mut Rng) -> Option<Call<List>> {
        let in_use = self.sessions.iter().filter(|session| !session.has_ended).count();
        let draw = rng.below(100);
        if in_use < SESSIONS && (in_use == 0 || draw < 30) {
            return Some(Call::Open);
        }
        Some(match draw {
            0..5 => return None,
            5..9 => self.understands(rng),
            9 => Call::Limit(rng.pick(&[None, None, Some(1), Some(2)])),
            10..12 => Call::Open,
            12..36 => self.again(rng)?,
            36..46 => Call::Resolve(self.in_mind(rng)?.id),
            46..50 => self.close(rng),
            50..54 => self.without_session(op),
            54..58 => {
                let at = self.draw_session(op, rng, false)?;
                let first = self.sessions[at].unsettled;
                let serial = self.free_serial(at, first + self.unsettled_max + rng.below(3));
                self.new_call(at, serial, op)
            }
            58..61 => {
                let at = self.draw_session(op, rng, true)?;
                self.next_call(at, op)
            }
            61..66 => {
                let at = self.draw_session(op, rng, false)?;
                self.sessions[at].rests_until = OpId(op.0 + rng.between(20, 120));
                self.next_call(at, op)
            }
            _ => {
                let at = self.draw_session(op, rng, false)?;
                self.next_call(at, op)
            }
        })
    }

    /// A reply has come.
    pub fn answered(&mut self, op: OpId, call: &Call<List>, reply: &Reply<Added>) {
        match (call, reply) {
            (Call::Open, Reply::Opened(id)) => {
                let session = Session { id: *id, has_ended: false, rests_until: op, next: 1, unsettled: 1 };
                self.sessions.push(session);
            }
            (Call::Apply { id: Some(id), .. } | Call::Resolve(id), Reply::NoSession) => {
                if let Some(session) = self.sessions.iter_mut().find(|session| session.id == id.session) {
                    session.has_ended = true;
                }
            }
            (
                Call::Apply { id: Some(id), .. } | Call::Resolve(id),
                Reply::Applied(_) | Reply::GivenUp | Reply::Settled,
            ) => {
                if let Some(made) = self.known.get(id).map(|at| &mut self.calls[*at]) {
                    made.is_known = true;
                    // Some are asked for again before they are settled, and are to be answered as before.
                    made.is_settled |= !op.0.is_multiple_of(4);
                }
                self.settle(id.session);
            }
            (Call::Apply { .. }, Reply::OtherVersion(in_use)) => self.version = *in_use,
            _ => {}
        }
    }

    /// The next node has been started with another program: it reads both versions, or now and then the first alone.
    fn understands(&mut self, rng: &mut Rng) -> Call<List> {
        self.upgraded = self.upgraded % NODES_MAX + 1;
        let newest = if rng.below(16) == 0 { 1 } else { 2 };
        // Clients have not heard what is used by now, or believe that they have.
        if rng.coin() {
            self.version = 3 - self.version;
        }
        Call::Understands { node: NodeId(self.upgraded), oldest: versions::FIRST, newest }
    }

    /// A call that was made before: it has the same name and the same value, whatever became of it.
    fn again(&mut self, rng: &mut Rng) -> Option<Call<List>> {
        let mut made = *self.in_mind(rng)?;
        // Mostly one of which nothing is known.
        for _ in 0..3 {
            if made.is_known {
                made = *self.in_mind(rng)?;
            }
        }
        if made.is_known && rng.coin() {
            let at = self.known[&made.id];
            self.calls[at].is_settled = true;
            self.settle(made.id.session);
        }
        Some(self.apply(made))
    }

    fn in_mind(&self, rng: &mut Rng) -> Option<&Made> {
        let from = self.calls.len().saturating_sub(if rng.below(8) == 0 { 8 * IN_MIND } else { IN_MIND });
        let recent = &self.calls[from..];
        recent.get(rng.below(recent.len() as u64) as usize)
    }

    fn close(&mut self, rng: &mut Rng) -> Call<List> {
        let at = rng.below(self.sessions.len() as u64) as usize;
        self.sessions[at].has_ended = true;
        Call::Close(self.sessions[at].id)
    }

    /// One that goes on and does not rest; or one that has ended, or rests.
    fn draw_session(&self, op: OpId, rng: &mut Rng, ended: bool) -> Option<usize> {
        let is_left = |session: &Session| session.has_ended || session.rests_until > op;
        let all: Vec<usize> = (0..self.sessions.len()).filter(|at| is_left(&self.sessions[*at]) == ended).collect();
        let recent = &all[all.len().saturating_sub(2 * SESSIONS)..];
        recent.get(rng.below(recent.len() as u64) as usize).copied()
    }

    /// The next call of a session. One in which too many calls are not settled is freed by asking for the first of them again.
    fn next_call(&mut self, at: usize, op: OpId) -> Call<List> {
        let Session { id, unsettled, next, .. } = self.sessions[at];
        let serial = self.free_serial(at, next);
        let first = self.known.get(&CallId { session: id, serial: unsettled }).copied();
        if let Some(first) = first.filter(|_| serial - unsettled >= self.unsettled_max && !op.0.is_multiple_of(8)) {
            let made = &mut self.calls[first];
            made.is_settled |= made.is_known;
            let made = *made;
            self.settle(id);
            return self.apply(made);
        }
        self.sessions[at].next = serial + 1;
        self.new_call(at, serial, op)
    }

    /// The first serial number from `serial` on that no call has.
    fn free_serial(&self, at: usize, serial: u64) -> u64 {
        let session = self.sessions[at].id;
        let is_free = |serial: &u64| !self.known.contains_key(&CallId { session, serial: *serial });
        (serial..).find(is_free).unwrap_or(serial)
    }

    fn new_call(&mut self, at: usize, serial: u64, op: OpId) -> Call<List> {
        let id = CallId { session: self.sessions[at].id, serial };
        let made = Made { id, value: op.0, is_known: false, is_settled: false };
        self.known.insert(id, self.calls.len());
        self.calls.push(made);
        self.apply(made)
    }

    fn apply(&self, Made { id, value, .. }: Made) -> Call<List> {
        let session = self.sessions.iter().find(|session| session.id == id.session);
        let first = session.map_or(1, |session| session.unsettled);
        let unsettled = u16::try_from(id.serial.saturating_sub(first)).unwrap_or(u16::MAX);
        Call::Apply { id: Some(id), unsettled, version: self.version, command: value }
    }

    fn without_session(&self, op: OpId) -> Call<List> {
        Call::Apply { id: None, unsettled: 0, version: self.version, command: op.0 }
    }

    fn settle(&mut self, id: SessionId) {
        let Some(session) = self.sessions.iter_mut().find(|session| session.id == id) else { return };
        let is_settled = |serial| {
            let made = self.known.get(&CallId { session: id, serial }).map(|at| self.calls[*at]);
            made.is_some_and(|made| made.is_settled)
        };
        while is_settled(session.unsettled) {
            session.unsettled += 1;
        }
    }
}
