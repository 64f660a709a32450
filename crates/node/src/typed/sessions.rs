//! Which calls were answered, and how: what makes a retry take effect once.
//!
//! Owns the table of sessions, its bounds, and when a session ends. A part of the replicated state: it changes by entries of
//! the log alone, and is in every snapshot. Must not know what a reply means or how an entry comes here.
//!
//! A *session* is opened by an entry of the log, whose index is its name, so that no two ever have the same. Each call in it
//! has a *serial* number. A call that is not known takes effect, and its reply is remembered until the caller says that it is
//! *settled*: its outcome is known, and it will not be asked for again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;
use std::time::Duration;

use vlot_raft::id::LogIndex;

/// Names a session: the index of the entry that has opened it.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionId(pub u64);

/// Names a call for ever: what became of it can be asked from any node, by any process.
///
/// It is written as `SESSION-SERIAL`, and read back from that.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CallId {
    /// The session.
    pub session: SessionId,
    /// Its number in the session.
    pub serial: u64,
}

/// The bounds of a group's sessions: a part of the state machine, the same on every node of the group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// For how long of replicated time a session goes on without a call.
    pub idle_max: Duration,
    /// How many sessions there are. A new one takes the place of the one that was idle for longest.
    pub sessions_max: usize,
    /// How far a call's serial number may be beyond the first that is not settled.
    pub unsettled_max: u16,
    /// Bytes of all replies that are remembered. Beyond it the sessions that were idle for longest are ended.
    pub reply_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let hour = Duration::from_secs(3600);
        Self { idle_max: hour, sessions_max: 4096, unsettled_max: 16 << 10, reply_bytes_max: 64 << 20 }
    }
}

/// What is known of a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Known<'a, R> {
    /// It has not come before.
    New,
    /// It was applied, and this was the reply.
    Applied(&'a R),
    /// It was given up before it came: it never takes effect.
    GivenUp,
    /// It is settled: nothing is remembered of it, and it takes no effect from now on.
    Settled,
    /// Its serial number is too far beyond the first that is not settled. It takes no effect.
    TooFar,
    /// There is no such session, or not any more. It takes no effect from now on.
    NoSession,
}

/// The sessions of a group.
#[derive(Clone, Debug)]
pub struct Sessions<R> {
    limits: Limits,
    time: Duration,
    open: BTreeMap<SessionId, Session<R>>,
    /// Those that are open, by when they were last used.
    by_use: BTreeSet<(Duration, SessionId)>,
    reply_bytes: usize,
}

#[derive(Clone, Debug)]
struct Session<R> {
    used: Duration,
    /// The first serial number that is not settled.
    unsettled: u64,
    /// What is known of that one and those after it.
    answers: VecDeque<Option<Answer<R>>>,
    reply_bytes: usize,
}

/// How a call was answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Answer<R> {
    Applied { reply: R, bytes: usize },
    GivenUp,
}

impl<R> Answer<R> {
    /// What of it is counted.
    fn bytes(&self) -> usize {
        match self {
            Self::Applied { bytes, .. } => *bytes,
            Self::GivenUp => 0,
        }
    }
}

/// What a reply takes besides its own bytes.
const ANSWER_BYTES: usize = 32;

impl<R> Sessions<R> {
    /// No sessions, at the beginning of replicated time.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, time: Duration::ZERO, open: BTreeMap::new(), by_use: BTreeSet::new(), reply_bytes: 0 }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Bytes of all replies that are remembered.
    #[must_use]
    pub fn reply_bytes(&self) -> usize {
        self.reply_bytes
    }

    /// The replicated time, from the group's beginning.
    #[must_use]
    pub fn time(&self) -> Duration {
        self.time
    }

    /// Replicated time has passed: sessions that were idle for too long end.
    pub fn pass(&mut self, elapsed: Duration) {
        self.time = self.time.saturating_add(elapsed);
        while let Some(&(used, id)) = self.by_use.first()
            && used.saturating_add(self.limits.idle_max) <= self.time
        {
            self.close(id);
        }
    }

    /// Opens a session by the entry at this index.
    pub fn open(&mut self, by: LogIndex) -> SessionId {
        if self.open.len() >= self.limits.sessions_max
            && let Some(&(_, idlest)) = self.by_use.first()
        {
            self.close(idlest);
        }
        let id = SessionId(by.0);
        let session = Session { used: self.time, unsettled: 1, answers: VecDeque::new(), reply_bytes: 0 };
        self.open.insert(id, session);
        self.by_use.insert((self.time, id));
        id
    }

    /// Ends a session. Nothing is remembered of its calls, and none takes effect from now on.
    pub fn close(&mut self, id: SessionId) {
        if let Some(session) = self.open.remove(&id) {
            self.by_use.remove(&(session.used, id));
            self.reply_bytes -= session.reply_bytes;
        }
    }

    /// What is known of a call, which is being made: its session is in use. Calls of the session whose serial number is
    /// below `unsettled` are settled.
    pub fn look_up(&mut self, call: CallId, unsettled: u64) -> Known<'_, R> {
        let Some(session) = self.open.get_mut(&call.session) else { return Known::NoSession };
        if session.used != self.time {
            self.by_use.remove(&(session.used, call.session));
            session.used = self.time;
            self.by_use.insert((self.time, call.session));
        }
        let freed = session.settle_below(unsettled.min(call.serial));
        self.reply_bytes -= freed;
        match call.serial.checked_sub(session.unsettled) {
            None => Known::Settled,
            Some(beyond) if beyond >= u64::from(self.limits.unsettled_max) => Known::TooFar,
            Some(beyond) => match session.answers.get(beyond as usize) {
                Some(Some(Answer::Applied { reply, .. })) => Known::Applied(reply),
                Some(Some(Answer::GivenUp)) => Known::GivenUp,
                Some(None) | None => Known::New,
            },
        }
    }

    /// Remembers how a call was answered that was looked up as [`Known::New`]; the reply takes so many bytes.
    pub fn applied(&mut self, call: CallId, reply: R, bytes: usize) {
        self.answer(call, Answer::Applied { reply, bytes: bytes.saturating_add(ANSWER_BYTES) });
        // The session in use stays, whatever it takes.
        while self.reply_bytes > self.limits.reply_bytes_max
            && let Some(&(_, idlest)) = self.by_use.iter().find(|(_, id)| *id != call.session)
        {
            self.close(idlest);
        }
    }

    /// Gives up a call that was looked up as [`Known::New`]: it never takes effect.
    pub fn give_up(&mut self, call: CallId) {
        self.answer(call, Answer::GivenUp);
    }

    /// Whether no more replies of this session can be remembered before some are settled.
    #[must_use]
    pub fn is_full(&self, id: SessionId) -> bool {
        self.open.get(&id).is_some_and(|session| session.reply_bytes >= self.limits.reply_bytes_max)
    }

    fn answer(&mut self, call: CallId, answer: Answer<R>) {
        let Some(session) = self.open.get_mut(&call.session) else { return };
        let Some(beyond) = call.serial.checked_sub(session.unsettled) else { return };
        let (beyond, bytes) = (beyond as usize, answer.bytes());
        if session.answers.len() <= beyond {
            session.answers.resize_with(beyond + 1, || None);
        }
        session.answers[beyond] = Some(answer);
        session.reply_bytes += bytes;
        self.reply_bytes += bytes;
    }
}

impl<R> Session<R> {
    /// Forgets the calls below this serial number. Returns how many bytes of replies are gone.
    fn settle_below(&mut self, unsettled: u64) -> usize {
        let mut freed = 0;
        while self.unsettled < unsettled {
            match self.answers.pop_front() {
                Some(answer) => freed += answer.map_or(0, |answer| answer.bytes()),
                // Nothing is known of those that follow.
                None => {
                    self.unsettled = unsettled;
                    break;
                }
            }
            self.unsettled += 1;
        }
        self.reply_bytes -= freed;
        freed
    }
}

/// How sessions are written down: see [`snapshot`](super::snapshot).
pub(super) mod parts {
    use super::{Answer, Duration, Limits, Session, SessionId, Sessions, VecDeque};

    /// One session, by its parts.
    pub(in crate::typed) struct Part<A> {
        pub(in crate::typed) id: SessionId,
        pub(in crate::typed) used: Duration,
        pub(in crate::typed) unsettled: u64,
        pub(in crate::typed) answers: A,
    }

    /// What is known of calls, from the first that is not settled on.
    pub(in crate::typed) type Answers<R> = VecDeque<Option<Answer<R>>>;

    impl<R> Sessions<R> {
        pub(in crate::typed) fn parts(&self) -> impl Iterator<Item = Part<&Answers<R>>> {
            self.open.iter().map(|(id, session)| {
                let Session { used, unsettled, answers, .. } = session;
                Part { id: *id, used: *used, unsettled: *unsettled, answers }
            })
        }

        /// Sessions of these parts. None if they are none that were ever taken apart.
        pub(in crate::typed) fn of_parts(limits: Limits, time: Duration, parts: Vec<Part<Answers<R>>>) -> Option<Self> {
            let mut sessions = Self { time, ..Self::new(limits) };
            for Part { id, used, unsettled, answers } in parts {
                let bytes = answers.iter().flatten().map(Answer::bytes);
                let reply_bytes = bytes.into_iter().try_fold(0, usize::checked_add)?;
                sessions.reply_bytes = sessions.reply_bytes.checked_add(reply_bytes)?;
                sessions.by_use.insert((used, id));
                let session = Session { used, unsettled, answers, reply_bytes };
                if sessions.open.insert(id, session).is_some() {
                    return None;
                }
            }
            Some(sessions)
        }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.session, self.serial)
    }
}

/// A text that is no [`CallId`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BadCallId;

impl From<ParseIntError> for BadCallId {
    fn from(_: ParseIntError) -> Self {
        Self
    }
}

impl fmt::Display for BadCallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a call; one is written as its session and its serial number, as in 17-4")
    }
}

impl std::error::Error for BadCallId {}

impl FromStr for SessionId {
    type Err = BadCallId;

    fn from_str(text: &str) -> Result<Self, BadCallId> {
        Ok(Self(text.parse()?))
    }
}

impl FromStr for CallId {
    type Err = BadCallId;

    fn from_str(text: &str) -> Result<Self, BadCallId> {
        let (session, serial) = text.split_once('-').ok_or(BadCallId)?;
        Ok(Self { session: session.parse()?, serial: serial.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { idle_max: Duration::from_secs(10), sessions_max: 3, unsettled_max: 4, reply_bytes_max: 1000 };

    fn call(session: SessionId, serial: u64) -> CallId {
        CallId { session, serial }
    }

    /// Makes a call as the state machine does; the reply is `value` if it takes effect now.
    fn make(sessions: &mut Sessions<u64>, id: CallId, unsettled: u64, value: u64) -> Known<'static, u64> {
        match sessions.look_up(id, unsettled) {
            Known::New => {
                sessions.applied(id, value, 8);
                Known::New
            }
            Known::Applied(reply) => Known::Applied(Box::leak(Box::new(*reply))),
            Known::GivenUp => Known::GivenUp,
            Known::Settled => Known::Settled,
            Known::TooFar => Known::TooFar,
            Known::NoSession => Known::NoSession,
        }
    }

    #[test]
    fn a_call_takes_effect_once_and_its_reply_is_remembered_until_it_is_settled() {
        let mut sessions = Sessions::new(LIMITS);
        let session = sessions.open(LogIndex(7));
        assert_eq!(session, SessionId(7));
        assert_eq!(make(&mut sessions, call(session, 1), 1, 10), Known::New);
        assert_eq!(make(&mut sessions, call(session, 1), 1, 11), Known::Applied(&10));
        assert_eq!(make(&mut sessions, call(session, 3), 1, 30), Known::New, "calls need not come in order");
        assert_eq!(make(&mut sessions, call(session, 2), 1, 20), Known::New);
        assert_eq!(make(&mut sessions, call(session, 4), 3, 40), Known::New, "1 and 2 are settled");
        assert_eq!(make(&mut sessions, call(session, 2), 3, 21), Known::Settled);
        assert_eq!(make(&mut sessions, call(session, 3), 1, 31), Known::Applied(&30), "a late call settles nothing");
        assert_eq!(sessions.reply_bytes(), 2 * (8 + ANSWER_BYTES));
    }

    #[test]
    fn what_is_settled_before_it_comes_never_takes_effect() {
        let mut sessions = Sessions::new(LIMITS);
        let session = sessions.open(LogIndex(1));
        assert_eq!(make(&mut sessions, call(session, 5), 5, 50), Known::New);
        for serial in 1..5 {
            assert_eq!(make(&mut sessions, call(session, serial), 1, 0), Known::Settled, "{serial}");
        }
        // A call cannot settle itself.
        assert_eq!(make(&mut sessions, call(session, 6), 99, 60), Known::New);
        assert_eq!(make(&mut sessions, call(session, 6), 99, 61), Known::Applied(&60));
    }

    #[test]
    fn what_is_given_up_never_takes_effect() {
        let mut sessions = Sessions::new(LIMITS);
        let session = sessions.open(LogIndex(1));
        assert_eq!(sessions.look_up(call(session, 2), 1), Known::New);
        sessions.give_up(call(session, 2));
        assert_eq!(make(&mut sessions, call(session, 2), 1, 20), Known::GivenUp);
        assert_eq!(make(&mut sessions, call(session, 1), 1, 10), Known::New);
    }

    #[test]
    fn a_session_ends_when_it_was_idle_for_too_long_or_makes_room() {
        let mut sessions = Sessions::new(LIMITS);
        let first = sessions.open(LogIndex(1));
        sessions.pass(Duration::from_secs(4));
        let second = sessions.open(LogIndex(2));
        sessions.pass(Duration::from_secs(5));
        assert_eq!(make(&mut sessions, call(first, 1), 1, 1), Known::New);
        sessions.pass(Duration::from_secs(5));
        assert_eq!(make(&mut sessions, call(second, 1), 1, 1), Known::NoSession, "14 seconds, last used at 4");
        assert_eq!(make(&mut sessions, call(first, 2), 1, 1), Known::New, "last used at 9");
        let others: Vec<SessionId> = (3..6).map(|index| sessions.open(LogIndex(index))).collect();
        assert_eq!(sessions.len(), 3);
        assert_eq!(make(&mut sessions, call(first, 3), 1, 1), Known::NoSession, "it was idle for longest");
        sessions.close(others[0]);
        assert_eq!(make(&mut sessions, call(others[0], 1), 1, 1), Known::NoSession);
        assert_eq!((sessions.len(), sessions.reply_bytes()), (2, 0));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut sessions = Sessions::new(LIMITS);
        let (first, second) = (sessions.open(LogIndex(1)), sessions.open(LogIndex(2)));
        assert_eq!(make(&mut sessions, call(first, 5), 1, 1), Known::TooFar);
        assert_eq!(make(&mut sessions, call(first, 4), 1, 1), Known::New);
        sessions.pass(Duration::from_secs(1));
        let (id, bytes) = (call(second, 1), LIMITS.reply_bytes_max);
        assert_eq!(sessions.look_up(id, 1), Known::New);
        sessions.applied(id, 9, bytes);
        assert_eq!(make(&mut sessions, call(first, 1), 1, 1), Known::NoSession, "it was idle for longest");
        assert!(sessions.is_full(second), "alone it stays, and takes no more");
        assert_eq!(make(&mut sessions, call(second, 1), 1, 0), Known::Applied(&9));
        assert_eq!(make(&mut sessions, call(second, 2), 2, 0), Known::New, "the first is settled");
    }

    #[test]
    fn a_session_in_use_is_not_ended_to_make_room_for_its_own_replies() {
        let mut sessions = Sessions::new(LIMITS);
        let (first, second) = (sessions.open(LogIndex(1)), sessions.open(LogIndex(2)));
        // At the same moment: the first is ended first.
        assert_eq!(sessions.look_up(call(first, 1), 1), Known::New);
        sessions.applied(call(first, 1), 9, LIMITS.reply_bytes_max);
        assert_eq!(make(&mut sessions, call(first, 1), 1, 0), Known::Applied(&9));
        assert_eq!(make(&mut sessions, call(second, 1), 1, 0), Known::NoSession);
    }

    #[test]
    fn a_call_s_name_is_read_as_it_is_written() {
        let id = call(SessionId(u64::MAX), 12);
        assert_eq!(id.to_string().parse(), Ok(id));
        for bad in ["", "-", "1", "1-", "-1", "1-2-3", "a-1", "1--1"] {
            assert_eq!(bad.parse::<CallId>(), Err(BadCallId), "{bad}");
        }
    }
}
