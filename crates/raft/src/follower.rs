//! The follower's role: answer the leader, keep its log the leader's, and notice when there is no leader (Raft §5.2,
//! §5.3).
//!
//! Owns which node leads and how long to wait for word of it. Must not know how votes are counted (see `candidate.rs`)
//! or how entries are committed (see `leader.rs`).

use std::time::Duration;

use crate::configuration::Configuration;
use crate::effect::{Effect, Effects, Event, Input, Misbehaviour, Source};
use crate::id::{LogId, LogIndex, NodeId};
use crate::message::{Body, Message, ReadId, Session};
use crate::state::State;
use crate::term_runs::TermRuns;
use crate::time::Time;

/// A replica that neither leads nor campaigns.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Follower {
    /// The leader of this term, once it has been heard.
    pub(crate) leader: Option<NodeId>,
    /// The connection to the leader is gone. Others may have lost it too, so it is worth asking them before the
    /// timeout; it never makes this node give a vote that it could not give after it.
    lost: bool,
    /// The leader has announced its sleep, and this node sleeps too: it believes in its leader and waits for no word.
    pub(crate) asleep: bool,
    /// How long it waits for word of a leader, each time anew.
    election_timeout: Duration,
    /// When to ask for an election.
    pub(crate) deadline: Time,
}

impl Follower {
    /// Follows `leader`, or waits for one to appear.
    pub(crate) fn new(leader: Option<NodeId>, now: Time, state: &mut State) -> Self {
        let election_timeout = state.election_timeout();
        Self { leader, lost: false, asleep: false, election_timeout, deadline: now + election_timeout }
    }

    /// Waits from now on, for another time drawn by chance.
    pub(crate) fn wait(&mut self, now: Time, state: &mut State) {
        self.election_timeout = state.election_timeout();
        self.deadline = now + self.election_timeout;
    }

    /// Whether a leader is known to be in office, so that no candidate may unseat it (Ongaro §4.2.3, §9.6).
    pub(crate) fn has_live_leader(&self, now: Time, state: &State) -> bool {
        self.leader.is_some() && !self.lost && now.since(state.heard) < state.config.election_timeout
    }

    /// Whether the leader was lost with its connection.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost
    }

    /// Whether an input is news, so that this node must be awake: any message but a repeated announcement of its leader,
    /// anything that its host wants of the group, and a new connection to the leader, which may have started again. What
    /// the host says of its own disk and state machine is told with the next answer.
    pub(crate) fn is_stirred_by(&self, input: &Input, state: &State) -> bool {
        match input {
            Input::Receive { from, message: Message { term, body: Body::Sleep { .. } } } => {
                self.leader != Some(*from) || *term != state.term
            }
            Input::Connected { peer } => self.leader == Some(*peer),
            Input::Receive { .. }
            | Input::Propose { .. }
            | Input::ChangeConfiguration { .. }
            | Input::Transfer { .. }
            | Input::Unreadable { .. }
            | Input::Read { .. }
            | Input::Wake => true,
            // The loss of the leader does more than wake: see `lose`.
            Input::Lost { .. } | Input::Silent { .. } => false,
            Input::Tick
            | Input::Persisted { .. }
            | Input::VotePersisted { .. }
            | Input::Compact { .. }
            | Input::SnapshotReceived { .. }
            | Input::Fitness { .. }
            | Input::Room { .. } => false,
        }
    }

    /// Wakes. It has slept because of its leader, which it gives as long as if it had been heard just now; a candidate is
    /// refused so long, and no longer.
    pub(crate) fn wake(&mut self, now: Time, state: &mut State) {
        self.asleep = false;
        state.heard = now;
        self.wait(now, state);
    }

    /// Another node's word has woken it. Its leader counts on its sleep and would leave it alone until it campaigns; and once
    /// an election timeout is over it gives its vote. So it says that it is awake, as an answer to a round long ago.
    pub(crate) fn tell_that_it_is_awake(&self, woken_by: NodeId, now: Time, state: &mut State, effects: &mut Effects) {
        if let Some(leader) = self.leader.filter(|leader| *leader != woken_by) {
            self.answer_heartbeat(leader, (Session::default(), 0), now, state, effects);
        }
    }

    /// Hears a leader of this term. False if the term has another.
    pub(crate) fn hear(&mut self, from: NodeId, now: Time, state: &mut State, effects: &mut Effects) -> bool {
        if let Some(leader) = self.leader.filter(|&leader| leader != from) {
            State::misbehaved(from, Misbehaviour::SecondLeader { leader }, effects);
            return false;
        }
        if self.asleep {
            self.wake(now, state);
        }
        let (silence, timeout) = (now.since(state.heard), state.config.election_timeout);
        if self.leader.is_some() && 5 * silence > 4 * timeout {
            effects.push(Effect::Happened(Event::HeardLate { silence }));
        }
        state.heard = now;
        (self.leader, self.lost) = (Some(from), false);
        self.deadline = now + self.election_timeout;
        true
    }

    /// The connection to `peer` is gone. If that was the leader, ask the others soon; at a moment drawn by chance, so
    /// that they do not all ask at once.
    pub(crate) fn lose(&mut self, peer: NodeId, now: Time, state: &mut State) {
        // Under leases no candidate may be elected before the timeout, whatever a follower has noticed.
        if self.leader == Some(peer) && state.config.lease.is_none() {
            if self.asleep {
                self.wake(now, state);
            }
            self.lost = true;
            self.deadline = self.deadline.min(now + state.wait_within(Duration::ZERO, state.config.heartbeat));
        }
    }

    /// The leader is gone for this node, and it has asked the others in vain: they may not have noticed yet.
    pub(crate) fn ask_again_soon(&mut self, now: Time, state: &mut State) {
        self.lost = true;
        let heartbeat = state.config.heartbeat;
        self.deadline = now + state.wait_within(heartbeat, 2 * heartbeat);
    }

    /// See [`crate::canonical`]. A node that may not campaign still has no deadline.
    pub(crate) fn forget_time(&mut self, now: Time) {
        if self.asleep {
            self.election_timeout = Duration::ZERO;
        } else if self.deadline < Time::NEVER {
            (self.election_timeout, self.deadline) = (Duration::ZERO, now);
        }
    }

    /// The receiver's side of AppendEntries (Raft figure 2).
    pub(crate) fn append(&mut self, from: NodeId, message: NewEntries, state: &mut State, effects: &mut Effects) {
        let NewEntries { session, entries, mut configurations, commit } = message;
        if entries.last_id().term > state.term {
            let how = Misbehaviour::EntriesFromTheFuture { last: entries.last_id() };
            return State::misbehaved(from, how, effects);
        }
        if !lie_within(&configurations, &entries) {
            return State::misbehaved(from, Misbehaviour::ConfigurationsOutOfPlace, effects);
        }
        let Some(agreed) = agreement(&state.log, &entries) else {
            let missing = entries.after();
            let hint = state.log.last_at_most(missing.term, missing.index);
            return state.send(from, Body::EntriesRefused { session, missing, hint }, effects);
        };
        let last = entries.last();
        if agreed < last {
            if agreed < state.commit {
                let how = Misbehaviour::ReplacesCommitted { commit: state.commit, agreed };
                return State::misbehaved(from, how, effects);
            }
            // What cannot be written cannot be acknowledged. The leader asks again with it once there is room.
            if !state.has_room {
                return;
            }
            // Cut only where an entry truly conflicts: a late message must not remove what came after it.
            configurations.retain(|(at, _)| *at > agreed);
            state.append(entries.part(agreed, last), configurations, Source::Received, effects);
        }
        // Only what this message has shown to be the leader's may be taken as committed; what lies behind it in this
        // log may still conflict.
        state.commit_upto(commit.min(last), effects);
        // A snapshot may have led further than the leader knows. What is before this log is committed, so it is the leader's.
        let upto = last.max(state.log.after().index);
        state.send_after_log(from, Body::EntriesAccepted { session, upto }, effects);
    }

    /// The receiver's side of a heartbeat. The leader bounds `commit` by what it knows to be here.
    pub(crate) fn heartbeat(
        &mut self,
        from: NodeId,
        (session, round, commit): (Session, u64, LogIndex),
        now: Time,
        state: &mut State,
        effects: &mut Effects,
    ) {
        state.commit_upto(commit, effects);
        if state.commit == state.log.last() {
            state.release_memory();
        }
        state.fetch_unreadable(from, effects);
        self.answer_heartbeat(from, (session, round), now, state, effects);
    }

    fn answer_heartbeat(
        &self,
        leader: NodeId,
        (session, round): (Session, u64),
        now: Time,
        state: &mut State,
        effects: &mut Effects,
    ) {
        let asleep = self.asleep;
        let fit = state.is_fit(now);
        let (full, priority) = (!state.has_room, state.config.priority);
        state.send(leader, Body::HeartbeatReply { session, round, fit, full, priority, asleep }, effects);
    }

    /// The receiver's side of an announcement of sleep: falls asleep if this log is the leader's, and all of it decided
    /// and durable. If the last entries are the same, so are the logs (Raft §5.3, Log Matching).
    pub(crate) fn sleep(
        &mut self,
        from: NodeId,
        (session, round, upto): (Session, u64, LogId),
        now: Time,
        state: &mut State,
        effects: &mut Effects,
    ) {
        let commit = if state.log.contains(upto) { upto.index } else { LogIndex::ZERO };
        state.commit_upto(commit, effects);
        let has_all = state.log.last_id() == upto && state.ready == upto.index;
        // A replica whose host does not watch over nodes relies on heartbeats: see `Config::sleep_after`.
        if has_all && state.is_healthy(now) && state.config.sleeps_after().is_some() {
            (self.asleep, self.deadline) = (true, Time::NEVER);
        }
        self.heartbeat(from, (session, round, commit), now, state, effects);
    }

    /// The leader has compacted away what this log needs (Raft §7).
    pub(crate) fn needs_snapshot(
        &mut self,
        from: NodeId,
        session: Session,
        of: LogId,
        state: &mut State,
        effects: &mut Effects,
    ) {
        if of.index <= state.commit {
            // What is committed is in every leader's log, so both agree that far.
            let upto = state.commit;
            state.send_after_log(from, Body::EntriesAccepted { session, upto }, effects);
        } else {
            effects.push(Effect::FetchSnapshot { from, reach: of });
        }
    }

    /// Asks the leader for a read index (Ongaro §6.4).
    pub(crate) fn read(&mut self, read: ReadId, state: &mut State, effects: &mut Effects) {
        match self.leader {
            Some(leader) => state.send(leader, Body::ReadIndex { read }, effects),
            None => effects.push(Effect::ReadRefused { read }),
        }
    }
}

/// What an [`Body::AppendEntries`] says.
pub(crate) struct NewEntries {
    pub(crate) session: Session,
    pub(crate) entries: TermRuns,
    pub(crate) configurations: Vec<(LogIndex, Configuration)>,
    pub(crate) commit: LogIndex,
}

/// Whether each configuration is set by one of the entries, in their order.
fn lie_within(configurations: &[(LogIndex, Configuration)], entries: &TermRuns) -> bool {
    let mut before = entries.after().index;
    configurations.iter().all(|&(at, _)| {
        let rises = at > before && at <= entries.last();
        before = at;
        rises
    })
}

/// The last entry of `theirs`, or the one before, that `own` has too; `None` if it has not even that one.
///
/// What lies before the beginning of `own` is committed, so it is the same in every log that a leader can send.
fn agreement(own: &TermRuns, theirs: &TermRuns) -> Option<LogIndex> {
    if theirs.last() <= own.after().index {
        return Some(theirs.last());
    }
    let same = |index: LogIndex| own.term_at(index).is_some() && own.term_at(index) == theirs.term_at(index);
    let from = theirs.after().index.max(own.after().index);
    if !same(from) {
        return None;
    }
    // Terms are constant within a run, so two logs part only where a run of one of them begins or ends.
    let mut agreed = from;
    for (_, first, last) in theirs.iter().skip_while(|&(_, _, last)| last <= from) {
        if !same(first.max(from.next())) {
            break;
        }
        let own_run_ends = own.iter().map(|(_, _, end)| end).find(|&end| end > agreed).unwrap_or(agreed);
        agreed = last.min(own_run_ends);
        if agreed < last {
            break;
        }
    }
    Some(agreed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Term;
    use crate::state::{Config, Restored};
    use crate::time::Rng;

    fn log(after: LogId, terms: &[u64]) -> TermRuns {
        let mut runs = TermRuns::empty(after);
        terms.iter().for_each(|&term| runs.push(Term(term), 1));
        runs
    }

    #[test]
    fn where_two_logs_agree() {
        let own = log(LogId::ZERO, &[1, 1, 2, 2]);
        let table = [
            (LogId::ZERO, &[][..], Some(0)),
            (LogId::ZERO, &[1, 1], Some(2)),
            (LogId::ZERO, &[1, 1, 2, 2, 3], Some(4)),
            (LogId::ZERO, &[3], Some(0)),
            (LogId::new(1, 2), &[2], Some(3)),
            (LogId::new(1, 2), &[3], Some(2)),
            (LogId::new(1, 1), &[1, 1], Some(2)),
            (LogId::new(2, 4), &[2, 2], Some(4)),
            (LogId::new(2, 2), &[2], None),
            (LogId::new(2, 5), &[2], None),
        ];
        for (after, terms, expected) in table {
            let theirs = log(after, terms);
            let agreed = agreement(&own, &theirs);
            assert_eq!(agreed, expected.map(LogIndex), "{terms:?} after {after}");
        }
    }

    /// The runs against the obvious: two lists of terms, compared one by one. Every pair of short logs.
    #[test]
    fn agreement_is_that_of_the_entries() {
        let mut logs = vec![vec![]];
        for len in 1..=4 {
            let longer: Vec<Vec<u64>> = logs
                .iter()
                .filter(|log: &&Vec<u64>| log.len() == len - 1)
                .flat_map(|log| (log.last().copied().unwrap_or(1)..=3).map(|term| [log.as_slice(), &[term]].concat()))
                .collect();
            logs.extend(longer);
        }
        for own in &logs {
            for theirs in &logs {
                for from in 0..=theirs.len() {
                    let before = if from == 0 { LogId::ZERO } else { LogId::new(theirs[from - 1], from as u64) };
                    let expected = (from == 0 || own.get(from - 1) == theirs.get(from - 1))
                        .then(|| (from..theirs.len()).take_while(|&n| own.get(n) == Some(&theirs[n])).count() + from);
                    let agreed = agreement(&log(LogId::ZERO, own), &log(before, &theirs[from..]));
                    assert_eq!(agreed, expected.map(|n| LogIndex(n as u64)), "{own:?} {theirs:?} from {from}");
                }
            }
        }
    }

    #[test]
    fn what_configurations_lie_within_entries() {
        let entries = log(LogId::new(1, 3), &[1, 1, 2]);
        let table = [
            (&[][..], true),
            (&[4], true),
            (&[6], true),
            (&[4, 5, 6], true),
            (&[3], false),
            (&[7], false),
            (&[4, 4], false),
            (&[5, 4], false),
            (&[5, 7], false),
        ];
        for (indices, within) in table {
            let configurations: Vec<_> = indices.iter().map(|&at| (LogIndex(at), Configuration::default())).collect();
            assert_eq!(lie_within(&configurations, &entries), within, "{indices:?} in 4..=6");
        }
    }

    /// The election timeout is a second.
    #[test]
    fn a_leader_that_is_nearly_too_late_is_news() {
        for (silence, late) in [(0, false), (800, false), (801, true), (2000, true)] {
            let mut state =
                State::new(Config::new(NodeId(1)).into(), Restored::default(), Time::default(), Rng::new(1));
            let mut effects = Effects::new();
            let mut follower = Follower::new(Some(NodeId(2)), Time::default(), &mut state);
            assert!(follower.hear(NodeId(2), Time::from_millis(silence), &mut state, &mut effects));
            let silence = Duration::from_millis(silence);
            let news = late.then_some(Effect::Happened(Event::HeardLate { silence }));
            assert_eq!(effects, Vec::from_iter(news), "after {silence:?}");
        }
    }
}
