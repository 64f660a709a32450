//! Calls of a typed state: commands that take effect once, however often they are sent.
//!
//! Owns the retries, and this node's own session in each group. What makes a retry take effect once is replicated, and
//! [`vlot_node::typed`]'s. Must not know how agreement is reached.

mod announce;
mod window;

use std::fmt;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use vlot_node::state_machine::{Class, Command as _};
use vlot_node::typed::call::{self, Call, Reply};
use vlot_node::typed::sessions::{CallId, SessionId};
use vlot_node::typed::state::{State, Version};
use vlot_node::typed::versions::{BadLimit, FIRST, Versions};
use vlot_raft::id::{GroupId, NodeId};

use self::window::Window;
#[cfg(feature = "serde")]
pub use vlot_node::typed::by_serde::SerdeState;
pub use vlot_node::typed::{Typed, sessions, state, versions};

use crate::errors::{ProposeError, ReadError};
use crate::group::Group;
use crate::runtime::{GroupError, Node};

/// What a call of a typed state has led to, if not to its reply.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CallError {
    /// It was not applied, and never will be: neither [`ProposeError::Unknown`] nor [`ProposeError::Stopped`] is the reason.
    Refused(ProposeError),
    /// It was not applied: the group does not use a version of commands in which it can be written.
    NeedsVersion {
        /// The oldest in which it can.
        needed: Version,
        /// The one in use.
        in_use: Version,
    },
    /// It was not applied: its session is not open, or not any more.
    NoSession(SessionId),
    /// It was not applied, and never will be: it was resolved before it came.
    GivenUp(CallId),
    /// It is too late to tell: the call was settled, or its session has ended since. It may have been applied before, and
    /// will not be any more.
    Forgotten(CallId),
    /// It is not known what became of it: it may have been applied, or may be yet. [`Group::call_as`] with the same call makes it
    /// again, and [`Group::resolve`] asks; both from any node. A call without a session has no name to ask by.
    Unknown(Option<CallId>),
}

/// What became of a call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Resolved<R> {
    /// It was applied, and this was the reply.
    Applied(R),
    /// It was not applied, and never will be.
    NotApplied,
    /// It is too late to tell: the call was settled, or its session has ended. It will not be applied any more.
    Forgotten,
}

/// Why the versions of a group are not limited.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LimitError {
    /// A member does not understand that version.
    Bad(BadLimit),
    /// It was not proposed, or it is not known whether it was.
    Proposal(ProposeError),
}

/// What the handles of a group share for its calls. Of no use where the state machine is not a typed one.
#[derive(Debug, Default)]
pub(crate) struct Calling {
    /// The version in use, as far as is known here; zero if nothing is.
    version: AtomicU16,
    session: RwLock<Option<Arc<Window>>>,
    /// Held while a session is being opened.
    opening: Mutex<()>,
    unsettled_max: u16,
}

impl Calling {
    pub(crate) fn new(unsettled_max: u16) -> Self {
        Self { unsettled_max, ..Self::default() }
    }

    fn session(&self) -> Option<Arc<Window>> {
        // Only whole values are put under the lock.
        self.session.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// This session has ended: the next call opens another.
    fn forget_session(&self, ended: SessionId) {
        let mut session = self.session.write().unwrap_or_else(PoisonError::into_inner);
        drop(session.take_if(|window| window.session() == ended));
    }
}

/// A session of one's own: its calls take effect once, and are settled apart from those of others. Cheap to clone.
///
/// It ends when it is closed, or when nothing was called in it for [`idle_max`](crate::typed::sessions::Limits::idle_max) of replicated time.
pub struct Session<T: State> {
    group: Group<Typed<T>>,
    window: Arc<Window>,
}

impl Node {
    /// Takes up this node's replica of a group with a typed state: see [`Node::group`]. Each node begins with the same state.
    ///
    /// # Errors
    /// See [`GroupError`].
    ///
    /// # Example
    /// ```no_run
    /// # use vlot::*;
    /// # async fn example<T: State + Default>(node: Node) -> Result<(), Box<dyn std::error::Error>> {
    /// // On each of the three nodes alike.
    /// let first = node.typed(GroupId(1), [1, 2, 3].map(NodeId), T::default()).await?;
    /// // On a node that is to join a group that runs.
    /// let second = node.typed(GroupId(2), [], T::default()).await?;
    /// # let _ = (first, second);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn typed<T: State>(
        &self,
        id: GroupId,
        voters: impl IntoIterator<Item = NodeId>,
        state: T,
    ) -> Result<Group<Typed<T>>, GroupError> {
        let group = self.group(id, voters, Typed::with(self.sessions(), state)).await?;
        self.spawner().spawn(announce::announce(group.clone(), self.node()));
        Ok(group)
    }
}

impl<T: State> Group<Typed<T>> {
    /// Has a command applied on every replica, once, and gives the reply. What is unknown is tried again until the time of
    /// this handle is over. It is a call of a session that all handles of this node share.
    ///
    /// When the future is dropped no caller waits any more; the command may be applied all the same.
    ///
    /// # Errors
    /// See [`CallError`]; [`CallError::Unknown`] alone leaves open whether it was applied.
    ///
    /// # Example
    /// ```
    /// # use vlot::*;
    /// # async fn example<T: State<Command = u64, Reply = u64>>(group: Group<Typed<T>>) -> Result<(), Box<dyn std::error::Error>> {
    /// match group.call(5).await {
    ///     Ok(reply) => println!("{reply}"),
    ///     Err(CallError::Unknown(Some(id))) => println!("ask for {id} later"),
    ///     Err(why) => println!("{why}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn call(&self, command: T::Command) -> Result<T::Reply, CallError> {
        let deadline = self.deadline();
        loop {
            let window = self.own_session(deadline).await?;
            match self.call_in(&window, &command, deadline).await {
                // It was idle for too long, or another needed its room.
                Err(CallError::NoSession(session)) => self.0.calling.forget_session(session),
                outcome => return outcome,
            }
        }
    }

    /// Makes a call of a session that was opened by [`Group::open_session`], or makes a call again: from this or any other
    /// node, by this or any other process. Calls of that session with serial numbers below `settled` are settled: their
    /// outcome is known, and they will not be made or asked for again.
    ///
    /// # Errors
    /// As [`Group::call`].
    ///
    /// # Example
    /// ```
    /// # use vlot::*;
    /// # async fn example<T: State<Command = u64, Reply = u64>>(group: Group<Typed<T>>) -> Result<(), Box<dyn std::error::Error>> {
    /// let session = group.open_session().await?; // once, and kept where the caller keeps what it must not forget
    /// let id = CallId { session, serial: 1 };
    /// let reply = group.call_as(id, 1, 5).await?;
    /// // The same call again, from here or any other node: it is not applied again.
    /// assert_eq!(group.call_as(id, 1, 5).await?, reply);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn call_as(&self, id: CallId, settled: u64, command: T::Command) -> Result<T::Reply, CallError> {
        let Ok(unsettled) = u16::try_from(id.serial.saturating_sub(settled)) else {
            return Err(CallError::Refused(ProposeError::Busy));
        };
        self.apply(Some(id), || unsettled, &command, self.deadline()).await
    }

    /// Has a command applied without a session: once at most, and nothing is remembered of it.
    ///
    /// # Errors
    /// As [`Group::call`]. What is unknown cannot be resolved.
    pub async fn call_at_most_once(&self, command: T::Command) -> Result<T::Reply, CallError> {
        self.apply(None, || 0, &command, self.deadline()).await
    }

    /// Says what became of a call, for good: one that has not been applied never will be.
    ///
    /// # Errors
    /// If it is not decided in time. It may be asked again.
    ///
    /// # Example
    /// ```
    /// # use vlot::*;
    /// # async fn example<T: State<Command = u64, Reply = u64>>(group: Group<Typed<T>>) -> Result<(), Box<dyn std::error::Error>> {
    /// let id: CallId = "17-4".parse()?; // as a caller was told
    /// match group.resolve(id).await? {
    ///     Resolved::Applied(reply) => println!("it was applied: {reply}"),
    ///     Resolved::NotApplied => println!("it was not, and never will be"),
    ///     Resolved::Forgotten => println!("its session has ended"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn resolve(&self, id: CallId) -> Result<Resolved<T::Reply>, ProposeError> {
        match self.propose_until(self.deadline(), &Call::Resolve(id)).await? {
            Reply::Applied(reply) => Ok(Resolved::Applied(reply)),
            Reply::GivenUp => Ok(Resolved::NotApplied),
            // No call of a window of ours is so far ahead: nobody has made it.
            Reply::TooManyUnsettled => Err(ProposeError::Busy),
            _ => Ok(Resolved::Forgotten),
        }
    }

    /// Opens a session whose calls are made by [`Group::call_as`], and numbered by the caller from 1 on: for callers that may
    /// turn to another node, or come back as another process.
    ///
    /// # Errors
    /// If it is not decided in time.
    pub async fn open_session(&self) -> Result<SessionId, ProposeError> {
        self.open_session_until(self.deadline()).await
    }

    /// Ends a session. Nothing is remembered of its calls, and none of them is applied any more.
    ///
    /// # Errors
    /// If it is not decided in time.
    pub async fn close_session(&self, session: SessionId) -> Result<(), ProposeError> {
        self.propose_until(self.deadline(), &Call::Close(session)).await.map(drop)
    }

    /// A session of one's own, whose calls are numbered by the library.
    ///
    /// # Errors
    /// If it is not opened in time.
    ///
    /// # Example
    /// ```
    /// # use vlot::*;
    /// # async fn example<T: State<Command = u64, Reply = u64>>(group: Group<Typed<T>>) -> Result<(), Box<dyn std::error::Error>> {
    /// let session = group.session().await?;
    /// let reply = session.call(5).await?;
    /// session.close().await?;
    /// # let _ = reply;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn session(&self) -> Result<Session<T>, ProposeError> {
        let window = Window::new(self.open_session().await?, self.0.calling.unsettled_max);
        Ok(Session { group: self.clone(), window: Arc::new(window) })
    }

    /// What this node's state says of the versions of commands.
    ///
    /// # Errors
    /// As [`Group::look`].
    pub async fn versions(&self) -> Result<Versions, ReadError> {
        self.look(|typed| typed.versions().clone()).await
    }

    /// Has commands and snapshots written in this version at most, from now on; without a limit, in the newest that all members
    /// understand. It is the way back to an older program: see [`Versions`].
    ///
    /// # Errors
    /// If a member does not understand that version, or it is not decided in time.
    ///
    /// # Example
    /// ```
    /// # use vlot::*;
    /// # async fn example<T: State<Command = u64, Reply = u64>>(group: Group<Typed<T>>) -> Result<(), Box<dyn std::error::Error>> {
    /// // The way back to a program that reads version 1 alone: this first, then a snapshot on every node.
    /// group.limit_version(Some(1)).await?;
    /// group.barrier().await?;
    /// group.save_snapshot().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn limit_version(&self, limit: Option<Version>) -> Result<(), LimitError> {
        let limited = self.propose_until(self.deadline(), &Call::Limit(limit)).await;
        match limited.map_err(LimitError::Proposal)? {
            Reply::BadLimit(bad) => Err(LimitError::Bad(bad)),
            _ => Ok(()),
        }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.timeout()
    }

    /// The session that the handles of this node share, which is opened now if there is none.
    async fn own_session(&self, deadline: Instant) -> Result<Arc<Window>, CallError> {
        let calling = &self.0.calling;
        if let Some(window) = calling.session() {
            return Ok(window);
        }
        let _opening = calling.opening.lock().await;
        // Another call may have opened it meanwhile.
        if let Some(window) = calling.session() {
            return Ok(window);
        }
        // The command itself was not proposed, whatever becomes of this.
        let opened = self.open_session_until(deadline).await.map_err(|why| match why {
            ProposeError::Unknown => ProposeError::NoLeader,
            ProposeError::Stopped => ProposeError::Closed,
            why => why,
        });
        let window = Arc::new(Window::new(opened.map_err(CallError::Refused)?, calling.unsettled_max));
        *calling.session.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&window));
        Ok(window)
    }

    async fn open_session_until(&self, deadline: Instant) -> Result<SessionId, ProposeError> {
        match self.propose_until(deadline, &Call::Open).await? {
            Reply::Opened(session) => Ok(session),
            // A state machine that opens none is not one of this library.
            _ => Err(ProposeError::Unknown),
        }
    }

    /// Makes a call in a session of this process.
    async fn call_in(&self, window: &Window, command: &T::Command, deadline: Instant) -> Result<T::Reply, CallError> {
        let Some(begun) = window.begin() else { return Err(CallError::Refused(ProposeError::Busy)) };
        let id = begun.id();
        let outcome = self.apply(Some(id), || window.unsettled_before(id.serial), command, deadline).await;
        if !matches!(outcome, Err(CallError::Unknown(_))) {
            begun.settle();
        }
        outcome
    }

    /// Has a command applied; again while it is unknown what became of it, if it is a call of a session.
    async fn apply(
        &self,
        id: Option<CallId>,
        unsettled: impl Fn() -> u16,
        command: &T::Command,
        deadline: Instant,
    ) -> Result<T::Reply, CallError> {
        // An earlier attempt may have taken effect, or may yet.
        let mut is_unknown = false;
        loop {
            let attempt = self.attempt(id, unsettled(), command, deadline).await;
            let not_applied = match attempt {
                Ok(Reply::Applied(reply)) => return Ok(reply),
                Ok(Reply::OtherVersion(in_use)) => {
                    self.0.calling.version.store(in_use, Relaxed);
                    continue;
                }
                Ok(reply) => refusal(reply, id, is_unknown),
                Err(CallError::Unknown(_)) if id.is_some() && Instant::now() < deadline && !self.has_ended() => {
                    is_unknown = true;
                    continue;
                }
                Err(why) => why,
            };
            // What says of this attempt that it was not taken says nothing of an earlier one.
            return Err(match not_applied {
                CallError::Refused(_) | CallError::NeedsVersion { .. } if is_unknown => CallError::Unknown(id),
                why => why,
            });
        }
    }

    /// Proposes a command once, in the version that is in use as far as is known here.
    async fn attempt(
        &self,
        id: Option<CallId>,
        unsettled: u16,
        command: &T::Command,
        deadline: Instant,
    ) -> Result<Reply<T::Reply>, CallError> {
        let version = self.version_for(T::version_of(command)).await?;
        let write = |buffer: &mut _| call::encode_apply::<T>((id, unsettled), version, command, buffer);
        let encoded =
            self.encode((Class::Bulk, T::shares_entry(command)), call::SIZE_HINT, write).map_err(CallError::Refused)?;
        self.propose_encoded(encoded, until(deadline)).await.map_err(|why| match why {
            ProposeError::Unknown | ProposeError::Stopped => CallError::Unknown(id),
            why => CallError::Refused(why),
        })
    }

    /// The version in use, if it is known here to be `needed` at least; the group is asked otherwise.
    async fn version_for(&self, needed: Version) -> Result<Version, CallError> {
        let (oldest, newest) = (*T::VERSIONS.start(), *T::VERSIONS.end());
        let known = self.0.calling.version.load(Relaxed).max(FIRST);
        if known >= needed && T::VERSIONS.contains(&known) {
            return Ok(known);
        }
        let asked = self.read(|typed| typed.versions().in_use()).await;
        let in_use = asked.map_err(|why| CallError::Refused(why.into()))?;
        self.0.calling.version.store(in_use, Relaxed);
        let needed = needed.max(oldest);
        if in_use >= needed && in_use <= newest { Ok(in_use) } else { Err(CallError::NeedsVersion { needed, in_use }) }
    }

    async fn propose_until(&self, deadline: Instant, call: &Call<T>) -> Result<Reply<T::Reply>, ProposeError> {
        let encoded =
            self.encode((call.class(), call.shares_entry()), call.size_hint(), |buffer| call.encode(buffer))?;
        self.propose_encoded(encoded, until(deadline)).await
    }
}

fn until(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

/// Why a call was not applied by an entry that has come to the state machine.
fn refusal<R>(reply: Reply<R>, id: Option<CallId>, is_unknown: bool) -> CallError {
    match (reply, id) {
        (Reply::GivenUp, Some(id)) => CallError::GivenUp(id),
        (Reply::NoSession, Some(id)) if !is_unknown => CallError::NoSession(id.session),
        (Reply::NoSession | Reply::Settled, Some(id)) => CallError::Forgotten(id),
        _ => CallError::Refused(ProposeError::Busy),
    }
}

impl<T: State> Session<T> {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.window.session()
    }

    /// As [`Group::call`], in this session.
    ///
    /// # Errors
    /// As [`Group::call`]; [`CallError::NoSession`] once the session has ended.
    pub async fn call(&self, command: T::Command) -> Result<T::Reply, CallError> {
        self.group.call_in(&self.window, &command, self.group.deadline()).await
    }

    /// Ends the session. Nothing is remembered of its calls, and none of them is applied any more.
    ///
    /// # Errors
    /// If it is not decided in time.
    pub async fn close(self) -> Result<(), ProposeError> {
        self.group.close_session(self.id()).await
    }
}

impl<T: State> Clone for Session<T> {
    fn clone(&self) -> Self {
        Self { group: self.group.clone(), window: Arc::clone(&self.window) }
    }
}

impl<T: State> fmt::Debug for Session<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("id", &self.id()).field("group", &self.group).finish()
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => why.fmt(f),
            Self::NeedsVersion { needed, in_use } => write!(
                f,
                "the command needs version {needed}, and the group uses {in_use}: not all members understand that one, or \
                 it is limited; the command was not applied"
            ),
            Self::NoSession(session) => write!(f, "session {session} is not open; the command was not applied"),
            Self::GivenUp(id) => write!(f, "call {id} was given up before it came; it is not applied"),
            Self::Forgotten(id) => {
                write!(f, "call {id} is settled, or its session has ended; it may have been applied before")
            }
            Self::Unknown(Some(id)) => {
                write!(f, "no answer in time; call {id} may have been applied, or may be yet: resolve it")
            }
            Self::Unknown(None) => ProposeError::Unknown.fmt(f),
        }
    }
}

impl std::error::Error for CallError {}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bad(BadLimit { node, oldest, newest }) => {
                write!(f, "node {node} understands versions {oldest} to {newest} alone; nothing is changed")
            }
            Self::Proposal(why) => why.fmt(f),
        }
    }
}

impl std::error::Error for LimitError {}
