//! Check: each call takes effect once at most, and is answered alike however often it is made; what is said to be final is; a
//! session ends for a reason and for good; and the table of sessions keeps to its bounds.
//!
//! Owns the reckoning. All that is known is what clients saw, and between which moments.

use std::collections::BTreeMap;
use std::time::Duration;

use vlot_node::replica::RESOLUTION;
use vlot_node::typed::call::{Call, Reply};
use vlot_node::typed::sessions::{CallId, Limits, SessionId};
use vlot_raft::invariants::Violation;

use super::{ADDED_BYTES, Added, Look, Seen, SessionsUsed};
use crate::agenda::{Moment, Span};
use crate::rng::Rng;
use crate::subject::{End, OperationOf, Request};

const PROPERTY: &str = "A Call Takes Effect Once";
/// What a reply takes in the table besides its own bytes, at most.
const ANSWER_BYTES_MAX: usize = 64;
/// What is lost where clocks are rounded.
const SLACK: Duration = Duration::from_millis(2);

/// What may be expected of a world.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    pub limits: Limits,
    /// Sessions give way to others, and replies take room from each other.
    pub is_tight: bool,
    /// By how much clocks run fast or slow, in millionths.
    pub clock_drift: u64,
}

/// How often what is put to the test has come up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    /// Calls that were made again and were answered as before.
    pub again: u64,
    /// Calls whose outcome was unknown at first, and that were found to be applied.
    pub found: u64,
    /// Those that were found not to be.
    pub given_up: u64,
    pub settled: u64,
    pub ended: u64,
    pub too_far: u64,
    /// Calls that were written in another version than the one in use.
    pub other_versions: u64,
}

#[cfg(test)]
impl Tally {
    pub const NONE: Self =
        Self { again: 0, found: 0, given_up: 0, settled: 0, ended: 0, too_far: 0, other_versions: 0 };

    /// Both together.
    pub fn and(self, more: Self) -> Self {
        Self {
            again: self.again + more.again,
            found: self.found + more.found,
            given_up: self.given_up + more.given_up,
            settled: self.settled + more.settled,
            ended: self.ended + more.ended,
            too_far: self.too_far + more.too_far,
            other_versions: self.other_versions + more.other_versions,
        }
    }

    /// What has come up least.
    pub fn least(self) -> u64 {
        let Self { again, found, given_up, settled, ended, too_far, other_versions } = self;
        [again, found, given_up, settled, ended, too_far, other_versions].into_iter().min().unwrap_or_default()
    }
}

impl Bounds {
    /// Some have room for all that clients do, others for little.
    pub fn draw(rng: &mut Rng) -> Self {
        let is_tight = rng.coin();
        let idle_max = Duration::from_millis(rng.pick(&[1_000, 2_000, 4_000]));
        let roomy = Limits { idle_max, sessions_max: 1024, unsettled_max: 16, reply_bytes_max: 1 << 20 };
        let tight = Limits { idle_max, sessions_max: 3, unsettled_max: 4, reply_bytes_max: 500 };
        Self { limits: if is_tight { tight } else { roomy }, is_tight, clock_drift: 0 }
    }

    /// The shortest time in which a session can run out.
    fn idle_at_least(&self) -> Span {
        let idle = self.limits.idle_max.saturating_sub(RESOLUTION + SLACK).as_nanos();
        Span((idle * 1_000_000 / u128::from(1_000_000 + self.clock_drift)) as u64)
    }
}

/// An answer, and between which moments it was decided.
#[derive(Clone, Copy, Debug)]
struct Answer {
    invoked: Moment,
    ended: Moment,
    says: Says,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Says {
    Applied(Added),
    GivenUp,
    Settled,
    NoSession,
    TooMany { resolves: bool },
}

/// What is known of one call.
#[derive(Debug, Default)]
struct Made {
    value: Option<u64>,
    was_unknown: bool,
    answers: Vec<Answer>,
}

/// What is known of one session.
#[derive(Debug, Default)]
struct Session {
    /// When somebody first asked to close it.
    closed: Option<Moment>,
    /// When it was opened or used for the last time, at the latest known; it was not over then.
    used: Moment,
    /// When it was over for the first time, and by when.
    over: Option<Moment>,
    /// Serial numbers before which all is settled, by when a client first said so.
    claims: Vec<(Moment, u64)>,
}

impl Session {
    /// Before which serial number all may be settled at a moment.
    fn settled_before(&self, at: Moment) -> u64 {
        self.claims.iter().filter(|(invoked, _)| *invoked < at).map(|(_, first)| *first).max().unwrap_or(1)
    }
}

/// A look: between which moments, and what was seen.
type Looked<'a> = (Moment, Moment, &'a Seen);

/// What clients saw of one group.
#[derive(Debug, Default)]
struct Saw<'a> {
    calls: BTreeMap<CallId, Made>,
    sessions: BTreeMap<SessionId, Session>,
    /// In the order in which they were begun.
    looks: Vec<Looked<'a>>,
    /// Where values are, by replies and by looks.
    places: BTreeMap<u64, u64>,
    values: BTreeMap<u64, u64>,
    times: BTreeMap<u64, Duration>,
    /// How often a call was written in another version than the one in use.
    other_versions: u64,
}

/// Checks a history.
pub(super) fn check(history: &[OperationOf<SessionsUsed>], bounds: &Bounds) -> Result<Tally, Violation> {
    let mut saw = Saw::default();
    for operation in history {
        saw.gather(operation)?;
    }
    saw.check_looks(bounds)?;
    saw.check_times()?;
    let shortest = Shortest::of(&saw.looks);
    for (id, made) in &saw.calls {
        let session = saw.sessions.get(&id.session);
        saw.check_call(*id, made, session, &shortest, bounds)?;
    }
    for (id, session) in &saw.sessions {
        check_session(*id, session, bounds)?;
    }
    Ok(saw.tally())
}

impl<'a> Saw<'a> {
    fn gather(&mut self, operation: &'a OperationOf<SessionsUsed>) -> Result<(), Violation> {
        let (invoked, ended) = (operation.invoked, operation.ended.as_ref());
        let call = match (&operation.request, ended) {
            (Request::Read(Look), Some((ended, End::Answered(seen)))) => {
                self.looks.push((invoked, *ended, seen));
                return self.add_look(seen);
            }
            (Request::Read(Look), _) => return Ok(()),
            (Request::Propose(call), _) => call,
        };
        let reply = match ended {
            Some((ended, End::Replied(reply))) => Some((*ended, reply)),
            // What is refused has not reached the state machine. The call may have been made again meanwhile.
            Some((_, End::Refused)) => {
                if let Call::Apply { id: Some(id), command, .. } = *call {
                    self.calls.entry(id).or_default().value = Some(command);
                }
                return Ok(());
            }
            _ => None,
        };
        match *call {
            Call::Open => {
                if let Some((_, Reply::Opened(session))) = reply {
                    let opened = Session { used: invoked, ..Session::default() };
                    if self.sessions.insert(*session, opened).is_some() {
                        return violation(format!("two sessions are called {session}"));
                    }
                }
            }
            Call::Close(session) => {
                let session = self.sessions.entry(session).or_default();
                session.closed = Some(session.closed.map_or(invoked, |first| first.min(invoked)));
            }
            Call::Apply { id: Some(id), unsettled, command, .. } => {
                let first = id.serial.saturating_sub(unsettled.into());
                self.sessions.entry(id.session).or_default().claims.push((invoked, first));
                self.calls.entry(id).or_default().value = Some(command);
                self.answered(id, invoked, reply, false)?;
            }
            Call::Apply { id: None, command, .. } => {
                if let Some((_, Reply::Applied(added))) = reply {
                    self.add(command, *added)?;
                }
            }
            Call::Resolve(id) => self.answered(id, invoked, reply, true)?,
            Call::ApplyUnread { .. } | Call::Understands { .. } | Call::Limit(_) => {}
        }
        Ok(())
    }

    fn answered(
        &mut self,
        id: CallId,
        invoked: Moment,
        reply: Option<(Moment, &Reply<Added>)>,
        resolves: bool,
    ) -> Result<(), Violation> {
        let made = self.calls.entry(id).or_default();
        let Some((ended, reply)) = reply else {
            made.was_unknown = true;
            return Ok(());
        };
        let says = match reply {
            Reply::Applied(added) => Says::Applied(*added),
            Reply::GivenUp => Says::GivenUp,
            Reply::Settled => Says::Settled,
            Reply::NoSession => Says::NoSession,
            Reply::TooManyUnsettled => Says::TooMany { resolves },
            // It says nothing of the call, which was not looked up.
            Reply::OtherVersion(_) if !resolves => {
                self.other_versions += 1;
                return Ok(());
            }
            other => return violation(format!("call {id} is told {other:?}")),
        };
        made.answers.push(Answer { invoked, ended, says });
        let value = made.value;
        let session = self.sessions.entry(id.session).or_default();
        match says {
            Says::NoSession => session.over = Some(session.over.map_or(ended, |first| first.min(ended))),
            _ => session.used = session.used.max(invoked),
        }
        match (says, value) {
            (Says::Applied(added), Some(value)) => self.add(value, added),
            (Says::Applied(_), None) => violation(format!("call {id} was applied before it was made")),
            _ => Ok(()),
        }
    }

    /// A value was added at this place.
    fn add(&mut self, value: u64, Added { position, time }: Added) -> Result<(), Violation> {
        self.times.insert(position, time);
        self.is_at(value, position)
    }

    fn add_look(&mut self, seen: &Seen) -> Result<(), Violation> {
        (0..).zip(&seen.values).try_for_each(|(position, value)| self.is_at(*value, position))
    }

    fn is_at(&mut self, value: u64, position: u64) -> Result<(), Violation> {
        let (place, other) =
            (*self.places.entry(value).or_insert(position), *self.values.entry(position).or_insert(value));
        if place != position {
            return violation(format!("value {value} was added as number {place} and as number {position}"));
        }
        if other != value {
            return violation(format!("number {position} is value {value}, and was value {other}"));
        }
        Ok(())
    }

    /// Looks are linearizable, and the table has its bounds in each.
    fn check_looks(&self, bounds: &Bounds) -> Result<(), Violation> {
        let Limits { sessions_max, reply_bytes_max, .. } = bounds.limits;
        let shortest = Shortest::of(&self.looks);
        // The session in use may go beyond by a reply.
        let bytes_max = reply_bytes_max + ADDED_BYTES + ANSWER_BYTES_MAX;
        for (_, ended, Seen { values, sessions, reply_bytes, .. }) in &self.looks {
            if shortest.after(*ended) < values.len() as u64 {
                return violation(format!("{} values were there by {ended}, and fewer later", values.len()));
            }
            if *sessions > sessions_max || *reply_bytes > bytes_max {
                return violation(format!(
                    "there are {sessions} sessions by {ended}, with {reply_bytes} bytes of replies"
                ));
            }
        }
        Ok(())
    }

    /// Replicated time does not go back.
    fn check_times(&self) -> Result<(), Violation> {
        let mut before = Duration::ZERO;
        for (position, time) in &self.times {
            if *time < before {
                return violation(format!("number {position} was added at {time:?}, after one at {before:?}"));
            }
            before = *time;
        }
        Ok(())
    }

    fn check_call(
        &self,
        id: CallId,
        made: &Made,
        session: Option<&Session>,
        shortest: &Shortest,
        bounds: &Bounds,
    ) -> Result<(), Violation> {
        let place = made.value.and_then(|value| self.places.get(&value)).copied();
        let max = u64::from(bounds.limits.unsettled_max);
        for answer in &made.answers {
            let Answer { ended, says, .. } = *answer;
            let settled_before = session.map_or(1, |session| session.settled_before(ended));
            match says {
                Says::GivenUp if place.is_some() => {
                    return violation(format!("call {id} was given up by {ended}, and was applied as {place:?}"));
                }
                Says::Settled if settled_before <= id.serial => {
                    return violation(format!("call {id} is said to be settled by {ended}, and was never"));
                }
                Says::TooMany { resolves } if id.serial <= max && (resolves || !bounds.is_tight) => {
                    return violation(format!("call {id} is said to be too many by {ended}"));
                }
                Says::Applied(_) | Says::GivenUp if id.serial.saturating_sub(settled_before) >= max => {
                    return violation(format!("call {id} is answered by {ended}, and {settled_before} is not settled"));
                }
                _ => {}
            }
            // Whatever this says, it is decided whether the call takes effect, but where there were too many.
            let is_final = !matches!(says, Says::TooMany { .. });
            if let Some(place) = place.filter(|place| is_final && *place >= shortest.after(ended)) {
                return violation(format!(
                    "call {id} is said to be {says:?} by {ended}; later it was not there, and then as number {place}"
                ));
            }
            let later = made.answers.iter().find(|later| later.invoked > ended && !may_follow(says, later.says));
            if let Some(later) = later {
                return violation(format!("call {id} is said to be {says:?} by {ended}, and later {later:?}"));
            }
        }
        Ok(())
    }

    fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        tally.other_versions += self.other_versions;
        for made in self.calls.values() {
            let count = |is_one: fn(&Says) -> bool| made.answers.iter().filter(|answer| is_one(&answer.says)).count();
            let applied = count(|says| matches!(says, Says::Applied(_))) as u64;
            tally.again += applied.saturating_sub(1);
            tally.found += u64::from(made.was_unknown && applied > 0);
            tally.given_up += count(|says| *says == Says::GivenUp) as u64;
            tally.settled += count(|says| *says == Says::Settled) as u64;
            tally.ended += count(|says| *says == Says::NoSession) as u64;
            tally.too_far += count(|says| matches!(says, Says::TooMany { .. })) as u64;
        }
        tally
    }
}

/// Whether a call that was answered so may be answered like this later.
fn may_follow(says: Says, later: Says) -> bool {
    match says {
        Says::Applied(_) | Says::GivenUp => later == says || matches!(later, Says::Settled | Says::NoSession),
        Says::Settled => matches!(later, Says::Settled | Says::NoSession),
        Says::NoSession => later == Says::NoSession,
        Says::TooMany { .. } => true,
    }
}

/// A session is over for a reason, and stays so.
fn check_session(id: SessionId, session: &Session, bounds: &Bounds) -> Result<(), Violation> {
    let Some(over) = session.over else { return Ok(()) };
    if session.used > over {
        return violation(format!("session {id} was over by {over}, and was used after {}", session.used));
    }
    let is_closed = session.closed.is_some_and(|closed| closed < over);
    let is_idle = over >= session.used + bounds.idle_at_least();
    if !is_closed && !is_idle && !bounds.is_tight {
        return violation(format!("session {id} was used after {}, and is over by {over}", session.used));
    }
    Ok(())
}

/// How many values there were at least in each look that was begun after some moment.
struct Shortest(Vec<(Moment, u64)>);

impl Shortest {
    fn of(looks: &[Looked<'_>]) -> Self {
        let mut shortest: Vec<(Moment, u64)> =
            looks.iter().map(|(invoked, _, seen)| (*invoked, seen.values.len() as u64)).collect();
        shortest.sort_unstable();
        let mut least = u64::MAX;
        for (_, length) in shortest.iter_mut().rev() {
            least = least.min(*length);
            *length = least;
        }
        Self(shortest)
    }

    fn after(&self, moment: Moment) -> u64 {
        let at = self.0.partition_point(|(invoked, _)| *invoked <= moment);
        self.0.get(at).map_or(u64::MAX, |(_, length)| *length)
    }
}

fn violation<T>(shown_by: String) -> Result<T, Violation> {
    Err(Violation { property: PROPERTY, shown_by })
}

#[cfg(test)]
mod tests {
    use vlot_node::typed::versions;

    use super::super::List;
    use super::*;

    type Op = OperationOf<SessionsUsed>;

    const SESSION: SessionId = SessionId(7);

    fn bounds() -> Bounds {
        let idle_max = Duration::from_secs(2);
        let limits = Limits { idle_max, sessions_max: 2, unsettled_max: 4, reply_bytes_max: 1000 };
        Bounds { limits, is_tight: false, clock_drift: 0 }
    }

    fn call(serial: u64) -> CallId {
        CallId { session: SESSION, serial }
    }

    /// An operation that takes from this millisecond to ten later.
    fn op(at: u64, request: Request<Call<List>, Look>, end: Option<End<Reply<Added>, Seen>>) -> Op {
        let moment = |ms: u64| Moment(ms * 1_000_000);
        Op { request, place: 0, invoked: moment(at), ended: end.map(|end| (moment(at + 10), end)) }
    }

    fn propose(at: u64, call: Call<List>, reply: Option<Reply<Added>>) -> Op {
        op(at, Request::Propose(call), Some(reply.map_or(End::Unknown, End::Replied)))
    }

    fn open(at: u64) -> Op {
        propose(at, Call::Open, Some(Reply::Opened(SESSION)))
    }

    fn added(position: u64) -> Reply<Added> {
        Reply::Applied(Added { position, time: Duration::ZERO })
    }

    /// A call that is made with so many before it that are not settled.
    fn made(at: u64, serial: u64, unsettled: u16, reply: impl Into<Option<Reply<Added>>>) -> Op {
        let command = 100 + serial;
        propose(at, Call::Apply { id: Some(call(serial)), unsettled, version: versions::FIRST, command }, reply.into())
    }

    fn resolved(at: u64, serial: u64, reply: impl Into<Option<Reply<Added>>>) -> Op {
        propose(at, Call::Resolve(call(serial)), reply.into())
    }

    fn looked(at: u64, values: &[u64]) -> Op {
        let seen = Seen { values: values.to_vec(), time: Duration::ZERO, sessions: 1, reply_bytes: 0 };
        op(at, Request::Read(Look), Some(End::Answered(seen)))
    }

    fn holds(history: &[Op]) -> bool {
        check(history, &bounds()).is_ok()
    }

    #[test]
    fn a_call_that_is_made_again_is_answered_as_before_and_was_applied_once() {
        assert!(holds(&[open(0), made(20, 1, 0, None), made(40, 1, 0, added(0)), looked(60, &[101])]));
        assert!(!holds(&[open(0), made(20, 1, 0, added(0)), made(40, 1, 0, added(1))]), "another reply");
        assert!(!holds(&[open(0), made(20, 1, 0, added(0)), looked(40, &[101, 101])]), "twice");
        assert!(!holds(&[open(0), made(20, 1, 0, added(0)), looked(40, &[])]), "not at all");
        assert!(!holds(&[open(0), made(20, 1, 0, added(0)), made(20, 2, 1, added(0))]), "two in one place");
        let late = Reply::Applied(Added { position: 0, time: Duration::from_secs(9) });
        assert!(!holds(&[open(0), made(20, 1, 0, late), made(40, 2, 1, added(1))]), "time goes back");
    }

    #[test]
    fn what_was_given_up_is_never_applied() {
        let resolve = |at, reply| resolved(at, 1, reply);
        assert!(holds(&[open(0), made(20, 1, 0, None), resolve(40, Reply::GivenUp), looked(60, &[])]));
        assert!(holds(&[open(0), made(20, 1, 0, None), resolve(40, added(0)), looked(60, &[101])]));
        assert!(!holds(&[open(0), made(20, 1, 0, None), resolve(40, Reply::GivenUp), looked(60, &[101])]));
        assert!(!holds(&[open(0), resolve(40, Reply::GivenUp), made(60, 1, 0, added(0))]));
        assert!(!holds(&[open(0), made(20, 1, 0, added(0)), resolve(40, Reply::GivenUp)]));
        // The one was decided before the other, whichever it was.
        assert!(!holds(&[open(0), made(20, 1, 0, added(0)), resolve(20, Reply::GivenUp)]));
    }

    #[test]
    fn what_is_settled_or_over_is_not_applied_any_more() {
        assert!(holds(&[open(0), made(20, 1, 0, added(0)), made(40, 2, 0, added(1)), made(60, 1, 0, Reply::Settled)]));
        assert!(!holds(&[open(0), made(20, 1, 0, added(0)), made(40, 1, 0, Reply::Settled)]), "nobody has said so");
        let late =
            [made(20, 2, 0, added(0)), made(40, 1, 0, Reply::Settled), looked(60, &[102]), looked(80, &[102, 101])];
        assert!(!holds(&[&[open(0)][..], &late].concat()));
        let over =
            |last: Op| [open(0), propose(20, Call::Close(SESSION), None), made(40, 1, 0, Reply::NoSession), last];
        assert!(holds(&over(made(60, 2, 0, Reply::NoSession))));
        assert!(!holds(&over(made(60, 2, 0, added(0)))));
    }

    #[test]
    fn a_session_is_over_for_a_reason() {
        assert!(!holds(&[open(0), made(40, 1, 0, Reply::NoSession)]));
        assert!(holds(&[open(0), propose(20, Call::Close(SESSION), None), made(40, 1, 0, Reply::NoSession)]));
        // It has been idle for two seconds, which a leader may count from a tenth of a second before.
        assert!(holds(&[open(0), made(1_890, 1, 0, Reply::NoSession)]));
        assert!(!holds(&[open(0), made(1_880, 1, 0, Reply::NoSession)]));
        assert!(!holds(&[open(0), made(1_000, 1, 0, added(0)), made(2_000, 2, 0, Reply::NoSession)]), "it was in use");
        let tight = Bounds { is_tight: true, ..bounds() };
        assert!(check(&[open(0), made(40, 1, 0, Reply::NoSession)], &tight).is_ok(), "it may have made room");
        assert!(!holds(&[open(0), open(20)]), "two of one name");
    }

    #[test]
    fn a_call_is_too_far_beyond_those_that_are_not_settled_or_it_is_not() {
        assert!(holds(&[open(0), made(20, 5, 4, Reply::TooManyUnsettled)]));
        assert!(!holds(&[open(0), made(20, 4, 3, Reply::TooManyUnsettled)]));
        assert!(!holds(&[open(0), made(20, 5, 4, added(0))]));
        assert!(holds(&[open(0), made(20, 5, 3, added(0))]), "the first is settled");
        let tight = Bounds { is_tight: true, ..bounds() };
        assert!(check(&[open(0), made(20, 4, 3, Reply::TooManyUnsettled)], &tight).is_ok(), "there may be no room");
        assert!(check(&[open(0), resolved(20, 4, Reply::TooManyUnsettled)], &tight).is_err(), "it needs none");
    }

    #[test]
    fn the_table_has_bounds() {
        let look = |sessions, reply_bytes| {
            let seen = Seen { values: Vec::new(), time: Duration::ZERO, sessions, reply_bytes };
            holds(&[op(0, Request::Read(Look), Some(End::Answered(seen)))])
        };
        assert!(look(2, 1_000) && !look(3, 0) && !look(2, 1_200));
    }
}
