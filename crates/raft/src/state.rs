//! What a replica is in every role: its term, vote, log and configuration, and how far it has committed.
//!
//! Owns the rules that hold in any role (Raft figure 2, "State" and "All Servers"). Must not know of roles.

use std::sync::Arc;
use std::time::Duration;

use crate::configuration::{Configuration, Configurations, Seat};
use crate::effect::{Effect, Effects, Event, Misbehaviour, Source};
use crate::election::Unfit;
use crate::id::{LogId, LogIndex, NodeId, Term};
use crate::message::{Body, Envelope, Message};
use crate::term_runs::TermRuns;
use crate::time::{Rng, Time};
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
    /// How many bytes of payload may be under way to one peer; a single message may be larger.
    pub inflight_bytes_max: u64,
    /// How many entries may wait to be committed before proposals are refused.
    pub uncommitted_max: u64,
    /// How much this node should lead: a leader transfers its leadership to a peer with a greater number that keeps up.
    /// A node with zero waits an election timeout longer than others before it campaigns.
    pub priority: u8,
    /// How long after a round of heartbeats was sent that a quorum has answered, the leader answers reads without
    /// asking again (Ongaro §6.4.1). `None`, the default: it always asks.
    ///
    /// The contract, on all members alike: it is less than `election_timeout`, and no clock runs so much faster than
    /// another that an election timeout on one is over before this is on the other. A paused process does no harm: the
    /// host reads the clock after it has got a read, and so a read is answered by a lease that held when it had begun.
    /// The price is that a lost connection does not shorten the wait for an election, nor does a restart.
    pub lease: Option<Duration>,
    /// How long nothing must have happened before the group falls asleep: neither its leader nor its followers have a
    /// deadline then, and no heartbeat is sent until something happens. `None`, the default: it never sleeps. Nor does
    /// it with leases.
    ///
    /// The contract: while [`Raft::is_asleep`](crate::raft::Raft::is_asleep), the host watches over the *nodes* of the
    /// members. That one of them is gone, it reports with [`Input::Lost`](crate::effect::Input::Lost) or
    /// [`Input::Connected`](crate::effect::Input::Connected); that one is silent while its connection seems to stand,
    /// with [`Input::Silent`](crate::effect::Input::Silent), within about an election timeout; and so too if that was so
    /// already when the replica fell asleep. That a silent node is heard again, it reports with `Connected`: a group may
    /// sleep without a member that is away, and wakes for its return. A host that takes a replica away from a node that
    /// goes on running gives it [`Input::Wake`](crate::effect::Input::Wake) before, and sends what it says. No vote and no
    /// read depends on any of this: a host that reports nothing gets no second leader, but may get no first.
    pub sleep_after: Option<Duration>,
}

impl Config {
    /// What is usual for this node: etcd's times, and windows for a network within a continent.
    #[must_use]
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            heartbeat: Duration::from_millis(100),
            election_timeout: Duration::from_millis(1000),
            inflight_max: 128,
            inflight_bytes_max: 32 << 20,
            uncommitted_max: 1 << 20,
            priority: 1,
            lease: None,
            sleep_after: None,
        }
    }

    /// How long nothing must have happened before this replica sleeps, if it ever does.
    pub(crate) fn sleeps_after(&self) -> Option<Duration> {
        // A lease lasts as long as rounds are answered, and there are none asleep.
        self.sleep_after.filter(|_| self.lease.is_none())
    }
}

/// How far a log is believed to get: a million entries a second for 146,000 years. An index beyond it was made up, and a
/// log that went on from there would soon have no number for its next entry.
const INDEX_MAX: LogIndex = LogIndex(1 << 62);

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
    /// The members of the group: the configuration with which the log begins, and those set by entries in it. A node
    /// that is to join has none, and learns it from the leader.
    pub configurations: Configurations,
}

/// The part of a replica that all roles share.
///
/// Invariant: `ready <= commit <= log.last()`; none of the three, nor `term`, ever falls.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct State {
    pub(crate) config: Arc<Config>,
    pub(crate) term: Term,
    pub(crate) vote: Option<NodeId>,
    /// Term and vote as they were last written.
    saved: (Term, Option<NodeId>),
    pub(crate) log: TermRuns,
    /// What is known to be decided (Raft §5.3).
    pub(crate) commit: LogIndex,
    /// What the host was told that it may apply.
    pub(crate) ready: LogIndex,
    pub(crate) configurations: Configurations,
    /// The configuration that counts has changed in this step: roles are yet to follow.
    pub(crate) configuration_moved: bool,
    /// This node was told that it is no member any more.
    pub(crate) removed: bool,
    /// The state machine keeps up, as the host says.
    pub(crate) applies: bool,
    /// The disk has room for entries, as the host says.
    pub(crate) has_room: bool,
    /// Entries whose payloads are damaged: the first and the last.
    unreadable: Option<Box<(LogIndex, LogIndex)>>,
    stalled: bool,
    /// When a leader of any term was last heard; when the node started, if none was.
    pub(crate) heard: Time,
    pub(crate) unpersisted: Unpersisted,
    pub(crate) rng: Rng,
}

impl State {
    pub(crate) fn new(config: Arc<Config>, restored: Restored, now: Time, rng: Rng) -> Self {
        let Restored { term, vote, log, applied, configurations } = restored;
        let begin = log.after().index;
        assert!(begin <= applied && applied <= log.last(), "applied {applied} is in the log ({begin}, {}]", log.last());
        Self {
            config,
            term,
            vote,
            saved: (term, vote),
            log,
            commit: applied,
            ready: applied,
            configurations,
            configuration_moved: false,
            removed: false,
            applies: true,
            has_room: true,
            unreadable: None,
            stalled: false,
            heard: now,
            unpersisted: Unpersisted::default(),
            rng,
        }
    }

    /// The members of the group: as the newest entry says that sets them, committed or not (Raft §6).
    pub(crate) fn configuration(&self) -> &Configuration {
        self.configurations.newest()
    }

    /// Whether this node may ever campaign: it votes, has payloads, and was not told to leave.
    pub(crate) fn may_stand(&self) -> bool {
        let own = self.configuration().get(self.config.node);
        own.is_some_and(|own| own.seat != Seat::Learner && !own.witness) && !self.removed
    }

    /// Whether this node could do a leader's work: its disk and its state machine keep up.
    pub(crate) fn is_healthy(&self, now: Time) -> bool {
        self.has_room && self.is_healthy_ignoring_space(now)
    }

    /// The same, whether or not the disk has room for entries.
    pub(crate) fn is_healthy_ignoring_space(&self, now: Time) -> bool {
        // A node without the payloads cannot send them to others.
        self.applies && self.unreadable.is_none() && !self.unpersisted.stalled(now, self.config.election_timeout)
    }

    /// What keeps it from a leader's work, if it is not healthy.
    pub(crate) fn what_is_unfit(&self) -> Unfit {
        match self {
            Self { unreadable: Some(_), .. } => Unfit::Unreadable,
            Self { applies: false, .. } => Unfit::StateMachine,
            Self { has_room: false, .. } => Unfit::DiskFull,
            // What is left is a write that waits.
            _ => Unfit::DiskStalled,
        }
    }

    /// Whether a leader may answer reads without asking because this node has heard of it lately. No vote may be given
    /// then, and no election begun, whatever else has happened (Ongaro §6.4.1).
    pub(crate) fn lease_binds(&self, now: Time) -> bool {
        self.config.lease.is_some() && now.since(self.heard) < self.config.election_timeout
    }

    /// The other voters.
    pub(crate) fn voting_peers(&self) -> Vec<NodeId> {
        self.configuration().voters().filter(|&node| node != self.config.node).collect()
    }

    /// The end of a step: a disk that has stalled, or does so no longer, is news.
    pub(crate) fn watch_disk(&mut self, now: Time, effects: &mut Effects) {
        self.unpersisted.watch(now, self.has_room);
        let stalled = self.unpersisted.stalled(now, self.config.election_timeout);
        if stalled != self.stalled {
            self.stalled = stalled;
            effects.push(Effect::Happened(if stalled { Event::DiskStalled } else { Event::DiskRecovered }));
        }
    }

    /// Gives back the memory that a busy time has left behind: a node may have thousands of groups, and most of them idle.
    pub(crate) fn release_memory(&mut self) {
        self.unpersisted.release_memory();
        self.log.release_memory();
    }

    /// Whether the disk has stalled, as the host was last told.
    pub(crate) fn has_stalled(&self) -> bool {
        self.stalled
    }

    /// The host says whether the disk has room for entries.
    pub(crate) fn tell_room(&mut self, is_there: bool, effects: &mut Effects) {
        if std::mem::replace(&mut self.has_room, is_there) != is_there {
            effects.push(Effect::Happened(if is_there { Event::DiskHasRoom } else { Event::DiskFull }));
        }
    }

    /// See [`crate::canonical`].
    pub(crate) fn forget_time(&mut self, now: Time) {
        self.heard = Time::default();
        self.rng = Rng::new(0);
        self.stalled = false;
        self.unpersisted.forget_time(now);
    }

    /// Enters a later term, in which no candidate has this node's vote yet. Written with the first thing that depends
    /// on it.
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

    /// Cuts the log after `entries.after()` and appends; `configurations` are those that the entries set.
    ///
    /// The term is written before, so that no log ever holds an entry of a term that its node does not know.
    pub(crate) fn append(
        &mut self,
        entries: TermRuns,
        configurations: Vec<(LogIndex, Configuration)>,
        source: Source,
        effects: &mut Effects,
    ) {
        self.save_vote(effects);
        let after = entries.after().index;
        assert!(after >= self.commit, "committed {} stays, cut {}", self.commit, entries.after());
        self.log.cut_after(after);
        self.log.extend(&entries);
        self.keep_unreadable(|(first, last)| (first <= after).then_some((first, last.min(after))), effects);
        // Told by what is cut and what comes, not by the index: another configuration may take the place of the first.
        let changes = after < self.configurations.newest_at() || !configurations.is_empty();
        self.configurations.cut_after(after);
        for (at, configuration) in configurations {
            self.configurations.push(at, configuration);
        }
        if changes {
            self.configuration_changed(effects);
        }
        let write = self.unpersisted.append_written(after);
        effects.push(Effect::Append { write, entries, source });
    }

    /// Appends an entry of this term that sets a configuration. It counts at once (Raft §6).
    pub(crate) fn append_configuration(&mut self, configuration: Configuration, effects: &mut Effects) {
        let entry = TermRuns::one_term(self.log.last_id(), self.term, 1);
        let set = vec![(entry.last(), configuration.clone())];
        self.append(entry, set, Source::Configuration(configuration), effects);
    }

    /// Drops entries that the host needs no more. Nothing that is not applied goes; nor does anything while this node
    /// has joined by the log and no entry has told it the members, or its log would begin without any.
    pub(crate) fn compact(&mut self, upto: LogIndex, effects: &mut Effects) {
        let upto = upto.min(self.ready);
        // What cannot be read may have set a configuration, with which the log would have to begin.
        let knows_members = self.configurations.at(upto).1.voters().next().is_some() && self.unreadable.is_none();
        if upto > self.log.after().index && knows_members {
            self.log.begin_after(upto);
            self.configurations.begin_after(upto);
            let write = self.unpersisted.compaction_written();
            effects.push(Effect::Compact { write, after: self.log.after() });
        }
    }

    /// Puts a snapshot in the place of the log up to `id`. False if as much is committed here already, or if the node
    /// that took the snapshot did not know the members: a group's first members are in no entry, so a log that has just
    /// begun to arrive does not name them.
    ///
    /// The snapshot's state was committed, so what follows it in a log that has its last entry stays; any other log
    /// holds nothing that could matter (Raft §7). Neither term nor commit index goes back.
    pub(crate) fn install(
        &mut self,
        id: LogId,
        configuration: (LogIndex, Configuration),
        effects: &mut Effects,
    ) -> bool {
        let names_members = configuration.1.voters().next().is_some() && configuration.0 <= id.index;
        let mends = self.is_mended_by(id);
        if (id.index <= self.commit && !mends) || id.index > INDEX_MAX || id.term > self.term || !names_members {
            return false;
        }
        // Terms never fall along a log: what says so was made up.
        if !mends && self.log.term_at(self.commit).is_some_and(|committed| id.term < committed) {
            return false;
        }
        self.save_vote(effects);
        let mut durable = self.durable();
        let mut later = Vec::new();
        if self.log.contains(id) {
            later = self.configurations.part(id.index, self.log.last());
            self.log.begin_after(id.index);
        } else {
            // Of a log that goes, what was committed is in the snapshot too. The rest is durable, and not this.
            durable = durable.min(self.commit);
            self.log = TermRuns::empty(id);
        }
        let was = std::mem::replace(&mut self.configurations, Configurations::new(configuration, later));
        if (was.newest_at(), was.newest()) != (self.configurations.newest_at(), self.configurations.newest()) {
            self.configuration_changed(effects);
        }
        self.commit = self.commit.max(id.index);
        let write = self.unpersisted.snapshot_written(durable, id.index);
        effects.push(Effect::InstallSnapshot { write, id });
        let kept_upto = self.log.last();
        let is_kept = |last: LogIndex| id.index < last && last <= kept_upto;
        self.keep_unreadable(|(first, last)| is_kept(last).then_some((first.max(id.index.next()), last)), effects);
        true
    }

    /// Whether a snapshot of an entry that is committed here has the effect of all that cannot be read, and does not lead
    /// the state machine back.
    fn is_mended_by(&self, id: LogId) -> bool {
        let has_all = self.unreadable().is_some_and(|(_, last)| last <= id.index);
        has_all && id.index >= self.ready && self.log.contains(id)
    }

    /// The entries that cannot be read: the first and the last.
    pub(crate) fn unreadable(&self) -> Option<(LogIndex, LogIndex)> {
        self.unreadable.as_deref().copied()
    }

    /// Takes note that these entries cannot be read.
    pub(crate) fn cannot_read(&mut self, first: LogIndex, last: LogIndex) {
        self.unreadable = Some(Box::new((first, last)));
    }

    /// Takes note of what is left of the entries that cannot be read.
    fn keep_unreadable(
        &mut self,
        left: impl FnOnce((LogIndex, LogIndex)) -> Option<(LogIndex, LogIndex)>,
        effects: &mut Effects,
    ) {
        if let Some(unreadable) = self.unreadable() {
            self.unreadable = left(unreadable).map(Box::new);
            if self.unreadable.is_none() {
                effects.push(Effect::Happened(Event::Mended));
            }
        }
    }

    /// A node that cannot campaign may wait for a leader in vain. If some of its entries cannot be read, it may have been
    /// removed, and is told so when it asks for pre-votes; if groups sleep, its own may, and wakes then. It does nothing
    /// with the pre-votes.
    pub(crate) fn ask_without_standing(&self, effects: &mut Effects) {
        if self.unreadable.is_some() || self.config.sleeps_after().is_some() {
            self.ask_for_pre_votes(self.voting_peers(), effects);
        }
    }

    /// The same of one peer, whose connection is up. It may know the members where this node does not.
    pub(crate) fn wake_sleeper(&self, peer: NodeId, effects: &mut Effects) {
        if self.config.sleeps_after().is_some() && peer != self.config.node {
            self.ask_for_pre_votes(vec![peer], effects);
        }
    }

    fn ask_for_pre_votes(&self, peers: Vec<NodeId>, effects: &mut Effects) {
        let last = self.log.last_id();
        for peer in peers {
            Self::send_unheld(peer, self.term, Body::RequestPreVote { last }, effects);
        }
    }

    /// Whether this node may campaign and could do a leader's work.
    pub(crate) fn is_fit(&self, now: Time) -> bool {
        self.may_stand() && self.is_healthy(now)
    }

    /// What cannot be read is to be had from the others, as a snapshot, once it is certain that they have it.
    pub(crate) fn fetch_unreadable(&mut self, from: NodeId, effects: &mut Effects) {
        let Some((_, last)) = self.unreadable() else { return };
        let index = last.max(self.ready);
        if index <= self.commit
            && let Some(term) = self.log.term_at(index)
        {
            effects.push(Effect::FetchSnapshot { from, reach: LogId { term, index } });
        }
    }

    /// The last entry that the host may be told to apply, since it has to be read for that. Behind what is applied, nothing
    /// more is: the snapshot that mends it must not be behind the state machine by the time that it is here.
    fn readable_upto(&self) -> LogIndex {
        self.unreadable().map_or(LogIndex(u64::MAX), |(first, _)| first.prev())
    }

    /// Another configuration counts: a node that was told to leave may be a member again.
    fn configuration_changed(&mut self, effects: &mut Effects) {
        self.configuration_moved = true;
        self.admit_if_member();
        effects.push(Effect::Happened(Event::ConfigurationChanged { at: self.configurations.newest_at() }));
    }

    fn admit_if_member(&mut self) {
        if self.removed && self.configuration().contains(self.config.node) {
            (self.removed, self.configuration_moved) = (false, true);
        }
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

    /// Sends at once, under any term: for a message that acknowledges nothing.
    pub(crate) fn send_unheld(to: NodeId, term: Term, body: Body, effects: &mut Effects) {
        effects.push(Effect::Send(Envelope { to, message: Message { term, body } }));
    }

    fn send_held(&mut self, to: NodeId, message: Message, answers_for_log: bool, effects: &mut Effects) {
        self.save_vote(effects);
        let envelope = Envelope { to, message };
        match self.unpersisted.awaited(answers_for_log) {
            None => effects.push(Effect::Send(envelope)),
            Some(needs) => self.unpersisted.hold(envelope, needs, answers_for_log),
        }
    }

    /// The last entry that is durable here.
    pub(crate) fn durable(&self) -> LogIndex {
        self.unpersisted.durable(self.log.last())
    }

    /// Learns that everything up to `index` is decided.
    pub(crate) fn commit_upto(&mut self, index: LogIndex, effects: &mut Effects) {
        let (was, set_at) = (self.commit, self.configurations.newest_at());
        self.commit = self.commit.max(index.min(self.log.last()));
        if was < set_at && set_at <= self.commit {
            effects.push(Effect::Happened(Event::ConfigurationCommitted { at: set_at }));
            // It may have been told of one before this.
            self.admit_if_member();
        }
        self.announce_commit(effects);
    }

    /// Tells the host what it may apply: what is decided *and* durable here, so that no state machine is ever ahead of
    /// its own log.
    pub(crate) fn announce_commit(&mut self, effects: &mut Effects) {
        let ready = self.commit.min(self.durable()).min(self.readable_upto());
        if ready > self.ready {
            self.ready = ready;
            effects.push(Effect::Commit { upto: ready });
        }
    }

    /// How long a node that hears nothing waits before it campaigns: between one and two election timeouts, by chance
    /// (Raft §5.2), and one more if others should rather lead.
    pub(crate) fn election_timeout(&mut self) -> Duration {
        let timeout = self.config.election_timeout;
        let more = if self.config.priority == 0 { timeout } else { Duration::ZERO };
        self.wait_within(timeout + more, 2 * timeout + more)
    }

    /// A wait between `from` and `upto`, by chance. A node that may not campaign has no deadline.
    pub(crate) fn wait_within(&mut self, from: Duration, upto: Duration) -> Duration {
        if self.may_stand() { self.rng.between(from, upto) } else { Duration::MAX }
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

    /// A log that ends with 5@2, committed up to 3@2, in term 4. From an index at the end of all numbers it could not go
    /// on, were it installed.
    #[test]
    fn what_is_made_up_is_not_installed() {
        let table = [
            (LogId::new(2, 4), true),
            (LogId::new(4, 1 << 62), true),
            (LogId::new(4, (1 << 62) + 1), false),
            (LogId::new(4, u64::MAX), false),
            (LogId::new(5, 9), false),
            (LogId::new(1, 9), false),
            (LogId::new(2, 3), false),
        ];
        let members = Configuration::of_voters([NodeId(1), NodeId(2)]);
        for (id, is_installed) in table {
            let configurations = Configurations::begin(members.clone());
            let log = TermRuns::one_term(LogId::ZERO, Term(2), 5);
            let restored = Restored { term: Term(4), vote: None, log, applied: LogIndex(3), configurations };
            let mut state = State::new(Config::new(NodeId(1)).into(), restored, Time::default(), Rng::new(1));
            let installed = state.install(id, (LogIndex::ZERO, members.clone()), &mut Effects::new());
            assert_eq!(
                (installed, state.log.contains(id)),
                (is_installed, is_installed || id == LogId::new(2, 3)),
                "{id}"
            );
        }
    }

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
