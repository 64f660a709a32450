//! A state machine of typed commands, with what every one of them wants: calls that take effect once, replicated time, and
//! versions.
//!
//! [`Typed`] is a [`StateMachine`] around a program's own [`State`]. The log and consensus know nothing of it: sessions, time
//! and versions change by entries like any other, and are in the snapshot. Must not know how a call comes into the log.

#[cfg(feature = "serde")]
pub mod by_serde;
pub mod call;
pub mod sessions;
mod snapshot;
pub mod state;
pub mod versions;

use std::io;
use std::ops::Deref;
use std::time::Duration;

use bytes::Bytes;
use vlot_raft::id::LogId;

use self::call::{Call, Reply};
use self::sessions::{CallId, Known, Limits, Sessions};
use self::snapshot::TypedSnapshot;
use self::state::{Context, State, Version};
use self::versions::Versions;
use crate::members::Members;
use crate::state_machine::{BadCommand, BadSnapshot, Snapshot, StateMachine, TimePassed, Viewed};

/// A state machine around a typed state. It is the state, to look at.
#[derive(Debug)]
pub struct Typed<T: State> {
    at: LogId,
    /// Which of the commands of that entry it has applied last.
    nth: u32,
    limits: Limits,
    parts: Parts<T::Reply>,
    state: T,
}

/// What is replicated beside the state.
#[derive(Clone, Debug)]
struct Parts<R> {
    versions: Versions,
    /// What a leader's wall clock has shown last.
    unix: Duration,
    sessions: Sessions<R>,
}

impl<T: State> Typed<T> {
    /// A state that has applied nothing, the same on each node of the group.
    #[must_use]
    pub fn new(state: T) -> Self {
        Self::with(Limits::default(), state)
    }

    /// The same, with these bounds of its sessions, which must be the same on each node of the group.
    #[must_use]
    pub fn with(limits: Limits, state: T) -> Self {
        let sessions = Sessions::new(limits.clone());
        let parts = Parts { versions: Versions::default(), unix: Duration::ZERO, sessions };
        Self { at: LogId::ZERO, nth: 0, limits, parts, state }
    }

    /// The last entry that it has applied.
    #[must_use]
    pub fn at(&self) -> LogId {
        self.at
    }

    /// The sessions of the group.
    #[must_use]
    pub fn sessions(&self) -> &Sessions<T::Reply> {
        &self.parts.sessions
    }

    /// What the group's members understand.
    #[must_use]
    pub fn versions(&self) -> &Versions {
        &self.parts.versions
    }

    fn apply_command(&mut self, at: LogId, command: T::Command) -> T::Reply {
        let Parts { unix, sessions, .. } = &self.parts;
        self.state.apply(&Context { at, nth: self.nth, time: sessions.time(), unix: *unix }, command)
    }

    /// Applies a command of a session, if it was not applied before.
    fn apply_once(&mut self, at: LogId, id: CallId, unsettled: u16, command: T::Command) -> Reply<T::Reply> {
        let sessions = &mut self.parts.sessions;
        match sessions.look_up(id, id.serial.saturating_sub(unsettled.into())) {
            Known::New => {}
            known => return reply_to(known),
        }
        if sessions.is_full(id.session) {
            return Reply::TooManyUnsettled;
        }
        let reply = self.apply_command(at, command);
        self.parts.sessions.applied(id, reply.clone(), T::reply_bytes(&reply));
        Reply::Applied(reply)
    }

    fn resolve(&mut self, id: CallId) -> Reply<T::Reply> {
        let sessions = &mut self.parts.sessions;
        match sessions.look_up(id, 0) {
            Known::New => {
                sessions.give_up(id);
                Reply::GivenUp
            }
            known => reply_to(known),
        }
    }

    fn is_of_version_in_use(&self, version: Version) -> Result<(), Reply<T::Reply>> {
        let in_use = self.parts.versions.in_use();
        if version == in_use { Ok(()) } else { Err(Reply::OtherVersion(in_use)) }
    }
}

/// What a call is told that takes no effect now.
fn reply_to<R: Clone>(known: Known<'_, R>) -> Reply<R> {
    match known {
        Known::Applied(reply) => Reply::Applied(reply.clone()),
        Known::GivenUp => Reply::GivenUp,
        Known::Settled => Reply::Settled,
        Known::NoSession => Reply::NoSession,
        Known::New | Known::TooFar => Reply::TooManyUnsettled,
    }
}

impl<T: State> Deref for Typed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.state
    }
}

impl<T: State> StateMachine for Typed<T> {
    type Command = Call<T>;
    type Reply = Reply<T::Reply>;

    fn apply(&mut self, at: LogId, call: Call<T>) -> Reply<T::Reply> {
        self.nth = if at == self.at { self.nth.saturating_add(1) } else { 0 };
        self.at = at;
        match call {
            Call::Open => Reply::Opened(self.parts.sessions.open(at.index)),
            Call::Close(session) => {
                self.parts.sessions.close(session);
                Reply::Done
            }
            Call::Apply { id, unsettled, version, command } => match (self.is_of_version_in_use(version), id) {
                (Err(other), _) => other,
                (Ok(()), Some(id)) => self.apply_once(at, id, unsettled, command),
                (Ok(()), None) => Reply::Applied(self.apply_command(at, command)),
            },
            // One of the version in use stops this replica before: see `can_apply`.
            Call::ApplyUnread { .. } => Reply::OtherVersion(self.parts.versions.in_use()),
            Call::Resolve(id) => self.resolve(id),
            Call::Understands { node, oldest, newest } => {
                self.parts.versions.understands(node, oldest, newest);
                Reply::Done
            }
            Call::Limit(limit) => self.parts.versions.limit(limit).map_or_else(Reply::BadLimit, |()| Reply::Done),
        }
    }

    /// All but a command of the version in use that this program does not read: it was started though the group had gone on.
    fn can_apply(&self, call: &Call<T>) -> Result<(), BadCommand> {
        match call {
            Call::ApplyUnread { version } if *version == self.parts.versions.in_use() => {
                let (oldest, newest) = (T::VERSIONS.start(), T::VERSIONS.end());
                let why = format!(
                    "it is written in version {version} of this program, which reads {oldest} to {newest}: start a newer one"
                );
                Err(BadCommand(why))
            }
            _ => Ok(()),
        }
    }

    fn is_prompt(&self, call: &Call<T>) -> bool {
        match call {
            Call::Apply { command, .. } => self.state.is_prompt(command),
            _ => true,
        }
    }

    fn skip(&mut self, at: LogId) {
        self.at = at;
    }

    fn members_changed(&mut self, at: LogId, members: &Members, _: Bytes) {
        self.at = at;
        self.parts.versions.members_changed(members);
    }

    fn wants_time(&self) -> bool {
        true
    }

    fn time_passed(&mut self, at: LogId, passed: TimePassed) {
        self.at = at;
        self.parts.unix = passed.unix;
        self.parts.sessions.pass(passed.elapsed);
    }

    fn end_batch(&mut self) {
        self.state.end_batch();
    }

    fn snapshot(&self) -> Option<Box<dyn Snapshot>> {
        Some(Box::new(TypedSnapshot::of(self)))
    }

    fn restore(&mut self, at: LogId, from: &mut dyn io::Read) -> Result<(), BadSnapshot> {
        (self.parts, self.state) = snapshot::read(&self.limits, from)?;
        self.at = at;
        Ok(())
    }
}

/// A clone is a view, for states that are cheap to clone.
impl<T: State + Clone> Viewed for Typed<T> {
    type View = T;

    fn view(&self) -> T {
        self.state.clone()
    }
}

#[cfg(test)]
mod tests;
