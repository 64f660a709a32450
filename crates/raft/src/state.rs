//! What a replica is in every role: its term, vote, log and membership, and how far it has committed.
//!
//! Owns the rules that hold in any role (Raft figure 2, "State" and "All Servers"). Must not know of roles.

use std::time::Duration;

use crate::effect::{Effect, Effects, Misbehaviour, Source};
use crate::id::{LogId, LogIndex, NodeId, Term};
use crate::membership::Membership;
use crate::message::{Body, Envelope, Message};
use crate::term_runs::TermRuns;
use crate::time::{Chance, Time};
use crate::unpersisted::Unpersisted;

/// How a replica behaves. The same on all members.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Config {
    /// This node.
    pub node: NodeId,
    /// How often a leader says that it leads.
    pub heartbeat: Duration,
    /// How long a follower waits for a leader, at least; it waits up to twice as long, by chance (Raft §5.2).
    pub election_timeout: Duration,
    /// How many messages with entries may be under way to one peer.
    pub inflight_max: usize,
}

/// What a replica had when it stopped.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Restored {
    /// Its term.
    pub term: Term,
    /// Its vote in that term.
    pub vote: Option<NodeId>,
    /// Its log.
    pub log: TermRuns,
    /// What its state machine has durably applied, which was committed.
    pub applied: LogIndex,
    /// Who belongs to the group.
    pub membership: Membership,
}

/// The part of a replica that all roles share.
///
/// Invariant: `ready <= commit <= log.last()`; none of the three, nor `term`, ever falls.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) term: Term,
    pub(crate) vote: Option<NodeId>,
    /// Term and vote as they were last written.
    saved: (Term, Option<NodeId>),
    pub(crate) log: TermRuns,
    /// What is known to be decided (Raft §5.3).
    pub(crate) commit: LogIndex,
    /// What the host was told that it may apply.
    pub(crate) ready: LogIndex,
    pub(crate) membership: Membership,
    pub(crate) unpersisted: Unpersisted,
    pub(crate) chance: Chance,
}

impl State {
    pub(crate) fn new(config: Config, restored: Restored, chance: Chance) -> Self {
        let Restored { term, vote, log, applied, membership } = restored;
        assert!(applied <= log.last(), "applied {applied} is within the log, which ends at {}", log.last());
        Self {
            config,
            term,
            vote,
            saved: (term, vote),
            log,
            commit: applied,
            ready: applied,
            membership,
            unpersisted: Unpersisted::default(),
            chance,
        }
    }

    pub(crate) fn is_voter(&self) -> bool {
        self.membership.is_voter(self.config.node)
    }

    /// The other members.
    pub(crate) fn peers(&self) -> impl Iterator<Item = NodeId> + use<> {
        let own = self.config.node;
        self.membership.voters().to_vec().into_iter().filter(move |&node| node != own)
    }

    /// Enters a later term, in which nobody has this node's vote yet. Written with the first thing that depends on it.
    pub(crate) fn enter_term(&mut self, term: Term) {
        assert!(term > self.term, "term {term} is later than {}", self.term);
        self.term = term;
        self.vote = None;
        self.unpersisted.drop_held();
    }

    /// Writes term and vote if they have changed since they were written.
    pub(crate) fn save_vote(&mut self, effects: &mut Effects) {
        if self.saved != (self.term, self.vote) {
            self.saved = (self.term, self.vote);
            let write = self.unpersisted.vote_written();
            effects.push(Effect::SaveVote { write, term: self.term, vote: self.vote });
        }
    }

    /// Cuts the log after `entries.after()` and appends.
    ///
    /// The term is written before, so that no log ever holds an entry of a term that its node does not know.
    pub(crate) fn append(&mut self, entries: TermRuns, source: Source, effects: &mut Effects) {
        self.save_vote(effects);
        assert!(entries.after().index >= self.commit, "committed {} stays, cut {}", self.commit, entries.after());
        self.log.cut_after(entries.after().index);
        self.log.extend(&entries);
        let write = self.unpersisted.append_written(entries.after().index);
        effects.push(Effect::Append { write, entries, source });
    }

    /// Sends once term and vote are durable.
    pub(crate) fn send(&mut self, to: NodeId, body: Body, effects: &mut Effects) {
        let term = self.term;
        self.send_held(to, Message { term, body }, false, effects);
    }

    /// Sends once the whole log, as it is, is durable too.
    pub(crate) fn send_after_log(&mut self, to: NodeId, body: Body, effects: &mut Effects) {
        let term = self.term;
        self.send_held(to, Message { term, body }, true, effects);
    }

    /// Sends at once, under any term: for what vouches for nothing.
    pub(crate) fn send_unheld(to: NodeId, term: Term, body: Body, effects: &mut Effects) {
        effects.push(Effect::Send(Envelope { to, message: Message { term, body } }));
    }

    fn send_held(&mut self, to: NodeId, message: Message, answers_for_log: bool, effects: &mut Effects) {
        self.save_vote(effects);
        if let Some(envelope) = self.unpersisted.hold(Envelope { to, message }, answers_for_log) {
            effects.push(Effect::Send(envelope));
        }
    }

    /// The last entry that is durable here.
    pub(crate) fn durable(&self) -> LogIndex {
        self.unpersisted.durable(self.log.last())
    }

    /// Learns that everything up to `index` is decided.
    pub(crate) fn commit_upto(&mut self, index: LogIndex, effects: &mut Effects) {
        self.commit = self.commit.max(index.min(self.log.last()));
        self.announce_commit(effects);
    }

    /// Tells the host what it may apply: what is decided *and* durable here, so that no state machine is ever ahead of
    /// its own log.
    pub(crate) fn announce_commit(&mut self, effects: &mut Effects) {
        let ready = self.commit.min(self.durable());
        if ready > self.ready {
            self.ready = ready;
            effects.push(Effect::Commit { upto: ready });
        }
    }

    /// A moment at which a follower that hears nothing stands for election: between one and two election timeouts
    /// from `now` (Raft §5.2).
    pub(crate) fn election_deadline(&mut self, now: Time) -> Time {
        let timeout = self.config.election_timeout;
        self.deadline_within(now, timeout, 2 * timeout)
    }

    /// A moment between `from` and `upto` after `now`, by chance. Who has no vote never stands.
    pub(crate) fn deadline_within(&mut self, now: Time, from: Duration, upto: Duration) -> Time {
        if self.is_voter() { now + self.chance.between(from, upto) } else { Time::NEVER }
    }

    pub(crate) fn misbehaved(from: NodeId, how: Misbehaviour, effects: &mut Effects) {
        effects.push(Effect::Misbehaved { from, how });
    }
}

/// Whether a voter may give its vote in this term (Raft §5.2, §5.4.1).
pub(crate) fn may_grant(vote: Option<NodeId>, own_last: LogId, candidate: NodeId, their_last: LogId) -> bool {
    let vote_is_free = vote.is_none_or(|given_to| given_to == candidate);
    vote_is_free && their_last >= own_last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gets_a_vote() {
        let [me, other] = [NodeId(1), NodeId(2)];
        let own = LogId::new(2, 5);
        let table = [
            (None, LogId::new(2, 5), true),
            (None, LogId::new(2, 6), true),
            (None, LogId::new(3, 1), true),
            (None, LogId::new(2, 4), false),
            (None, LogId::new(1, 9), false),
            (Some(me), LogId::new(2, 5), true),
            (Some(other), LogId::new(2, 5), false),
            (Some(me), LogId::new(1, 9), false),
        ];
        for (vote, theirs, granted) in table {
            assert_eq!(may_grant(vote, own, me, theirs), granted, "vote {vote:?}, their log ends with {theirs}");
        }
    }
}
