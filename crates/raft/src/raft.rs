//! One replica's consensus: which role it is in, and how one role becomes another (Raft, figure 4).
//!
//! Owns every change of role and of term. What a role does is in its own file; here a message finds the role it is
//! for, and a role's verdict is carried out. Must not know of bytes, clocks, sockets or disks.

use std::sync::Arc;

use crate::candidate::{Candidate, Cause, Outcome, Poll};
use crate::configuration::{Change, ChangeRefused, Configuration, Configurations};
use crate::effect::{
    Effect, Effects, Event, Input, Misbehaviour, ProposalRefused, RoleName, RoleState, TransferRefused,
};
use crate::election::{ElectionEvent, LeftOffice, Loss, VoteRefused};
use crate::follower::{Follower, NewEntries};
use crate::id::{LogId, LogIndex, NodeId, Term};
use crate::leader::{self, HeartbeatAnswer, Leader};
use crate::message::{Body, Message, ReadId};
use crate::read::ReadRequest;
use crate::state::{Config, Restored, State, may_grant};
use crate::term_runs::TermRuns;
use crate::time::{Rng, Time};
use crate::view::PeerView;

/// The consensus of one replica: a value that changes by [`Raft::step`] and by nothing else.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Raft {
    state: State,
    role: Role,
    /// As the host was last told.
    role_state: RoleState,
}

/// How far ahead of its own term a replica believes another's to be: an election every millisecond for 49 days. A term
/// beyond that was made up, and following it would soon leave no number to count to.
const TERMS_AHEAD_MAX: u64 = 1 << 32;

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Role {
    Follower(Follower),
    Candidate(Candidate),
    Leader(Leader),
}

impl Raft {
    /// A replica that goes on from what it had, as a follower. Everything in `restored` is durable;
    /// `config` may be shared by all groups of a node.
    ///
    /// # Panics
    /// If more is applied than the log holds.
    #[must_use]
    pub fn new(config: impl Into<Arc<Config>>, restored: Restored, now: Time, rng: Rng) -> Self {
        let mut state = State::new(config.into(), restored, now, rng);
        // The first wait is short: a leader in office refuses the pre-vote, and if there is none, nothing is gained by
        // waiting. A node that is alone waits for no other. Under leases it could have promised its silence to a leader
        // before it stopped, so it waits in full.
        let heartbeat = state.config.heartbeat;
        let mut follower = Follower::new(None, now, &mut state);
        if state.config.lease.is_none() {
            let is_alone = state.configuration().is_alone(state.config.node);
            let (from, upto) = if is_alone { Default::default() } else { (heartbeat, 4 * heartbeat) };
            follower.deadline = now + state.wait_within(from, upto);
        }
        let role_state = RoleState { term: state.term, ..RoleState::default() };
        Self { state, role: Role::Follower(follower), role_state }
    }

    /// Takes one input and adds to `effects` what the host must do, in order.
    ///
    /// Never fails: what cannot be done is an effect that says so. `now` must not go back.
    pub fn step(&mut self, now: Time, input: Input, effects: &mut Effects) {
        self.stir(now, &input, effects);
        match input {
            Input::Tick => self.tick(now, effects),
            Input::Receive { from, message } => self.receive(from, message, now, effects),
            Input::Propose { count } => self.propose(count, effects),
            Input::ChangeConfiguration { changes } => self.change(&changes, now, effects),
            Input::Transfer { to } => self.transfer(to, now, effects),
            Input::Compact { upto } => self.state.compact(upto, effects),
            Input::SnapshotReceived { id, configuration } => self.install(id, configuration, now, effects),
            Input::Fitness { fit } => self.state.applies = fit,
            Input::Unreadable { first, last } => {
                self.state.cannot_read(first, last);
                if !matches!(self.role, Role::Follower(_)) {
                    self.follow(None, now, effects);
                }
            }
            Input::Room { is_there } => self.state.tell_room(is_there, effects),
            Input::Read { read } => self.read(read, now, effects),
            Input::Persisted { write } => {
                self.state.unpersisted.persisted(write, |envelope| effects.push(Effect::Send(envelope)));
                self.persisted(now, effects);
            }
            Input::VotePersisted { write } => {
                self.state.unpersisted.vote_persisted(write, |envelope| effects.push(Effect::Send(envelope)));
                self.persisted(now, effects);
            }
            Input::Connected { peer } => self.reconnected(peer, now, effects),
            Input::Lost { peer } => self.lost(peer, now, effects),
            Input::Silent { peer } => self.silent(peer, now, effects),
            // A replica that slept is awake by this point.
            Input::Wake => {}
        }
        self.settle_configuration(now, effects);
        self.state.save_vote(effects);
        self.state.watch_disk(now, effects);
        self.announce(effects);
    }

    /// When [`Input::Tick`] is due, if no other input changes it before.
    #[must_use]
    pub fn deadline(&self) -> Time {
        match &self.role {
            Role::Follower(follower) => follower.deadline,
            Role::Candidate(candidate) => candidate.deadline,
            Role::Leader(leader) => leader.deadline(&self.state),
        }
    }

    /// Which entries a leader has for `to`: those after the first index, up to the second. None while it must wait
    /// for the peer, and none unless it leads. May be an empty stretch: a question without entries.
    #[must_use]
    pub fn next_range(&self, to: NodeId) -> Option<(LogIndex, LogIndex)> {
        match &self.role {
            Role::Leader(leader) => leader.next_range(to, &self.state),
            _ => None,
        }
    }

    /// Sends the entries that [`Raft::next_range`] named, as far as `upto`. The host, which knows their size, calls this
    /// at the end of a turn as often as it has room, and says how many bytes of payload they have.
    pub fn send_entries(&mut self, to: NodeId, upto: LogIndex, bytes: u64, effects: &mut Effects) {
        if let Role::Leader(leader) = &mut self.role {
            leader.send_entries(to, upto, bytes, &mut self.state, effects);
        }
    }

    /// Tells the peers what is committed, and which of them need a snapshot, if no other message of this turn has.
    /// Called once at the end of a turn.
    pub fn end_turn(&mut self, effects: &mut Effects) {
        if let Role::Leader(leader) = &mut self.role {
            leader.end_turn(&mut self.state, effects);
        }
    }

    /// Whether it sleeps: it leads or follows, and has no deadline until an input wakes it. See
    /// [`Config::sleep_after`] for what its host owes it meanwhile.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        match &self.role {
            Role::Follower(follower) => follower.asleep,
            Role::Candidate(_) => false,
            Role::Leader(leader) => leader.is_asleep(),
        }
    }

    /// Its term, role and leader.
    #[must_use]
    pub fn role_state(&self) -> RoleState {
        let (role, leader) = match &self.role {
            Role::Follower(follower) => (RoleName::Follower, follower.leader),
            Role::Candidate(candidate) if candidate.poll == Poll::PreVote => (RoleName::PreCandidate, None),
            Role::Candidate(_) => (RoleName::Candidate, None),
            Role::Leader(_) => (RoleName::Leader, Some(self.state.config.node)),
        };
        RoleState { term: self.state.term, role, leader }
    }

    /// This node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.state.config.node
    }

    /// The candidate that has its vote in this term.
    #[must_use]
    pub fn vote(&self) -> Option<NodeId> {
        self.state.vote
    }

    /// Its log, durable or not.
    #[must_use]
    pub fn log(&self) -> &TermRuns {
        &self.state.log
    }

    /// The last entry that is durable here.
    #[must_use]
    pub fn durable(&self) -> LogIndex {
        self.state.durable()
    }

    /// The last entry it knows to be decided.
    #[must_use]
    pub fn commit(&self) -> LogIndex {
        self.state.commit
    }

    /// The last entry that the host may apply.
    #[must_use]
    pub fn ready(&self) -> LogIndex {
        self.state.ready
    }

    /// The members of the group, as its log says, committed or not.
    #[must_use]
    pub fn configuration(&self) -> &Configuration {
        self.state.configuration()
    }

    /// The configurations of its log.
    #[must_use]
    pub fn configurations(&self) -> &Configurations {
        &self.state.configurations
    }

    /// Whether it was told that it is no member any more.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.state.removed
    }

    /// Whether it leads and takes proposals at this moment.
    #[must_use]
    pub fn takes_proposals(&self) -> bool {
        self.proposals_refused().is_none()
    }

    /// Why it takes no proposals at this moment, if it takes none.
    #[must_use]
    pub fn proposals_refused(&self) -> Option<ProposalRefused> {
        match &self.role {
            Role::Leader(leader) => leader.proposals_refused(&self.state),
            _ => Some(ProposalRefused::NotLeader { leader: self.role_state().leader }),
        }
    }

    /// Whether a write has waited for its disk for longer than an election timeout, as of the last step.
    #[must_use]
    pub fn disk_has_stalled(&self) -> bool {
        self.state.has_stalled()
    }

    /// The entries of its log that cannot be read, if there are any: the first, and the last.
    #[must_use]
    pub fn unreadable(&self) -> Option<(LogIndex, LogIndex)> {
        self.state.unreadable()
    }

    /// Whether its disk has room for entries, as its host has said.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.state.has_room
    }

    /// Whether it transfers the leadership, and to which node.
    #[must_use]
    pub fn handing_over(&self) -> Option<NodeId> {
        match &self.role {
            Role::Leader(leader) => leader.handing_over(),
            _ => None,
        }
    }

    /// The nodes to which a leader replicates: all other members, and those that are about to leave. Empty unless it leads.
    pub fn peers(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.matched().map(|(peer, _)| peer)
    }

    /// A leader's view of each peer: up to where their logs are known to agree. Empty unless it leads.
    pub fn matched(&self) -> impl Iterator<Item = (NodeId, LogIndex)> + '_ {
        let peers = match &self.role {
            Role::Leader(leader) => Some(leader.peers().map(|(peer, progress)| (peer, progress.matched))),
            _ => None,
        };
        peers.into_iter().flatten()
    }

    /// How much this node should lead.
    #[must_use]
    pub fn priority(&self) -> u8 {
        self.state.config.priority
    }

    /// A leader's view of each peer. Empty unless it leads.
    pub fn peer_views(&self) -> impl Iterator<Item = PeerView> + '_ {
        let peers = match &self.role {
            Role::Leader(leader) => Some(leader.peer_views()),
            _ => None,
        };
        peers.into_iter().flatten()
    }

    /// When a leader must leave office unless a quorum answers before; none unless it leads.
    #[must_use]
    pub fn office_ends(&self) -> Option<Time> {
        match &self.role {
            Role::Leader(leader) => Some(leader.office_ends(&self.state)),
            _ => None,
        }
    }

    /// When a leader of any term was last heard; when the replica began, if none was.
    #[must_use]
    pub fn leader_heard(&self) -> Time {
        self.state.heard
    }

    /// Whether it leads, and `peer` has answered that it sleeps. For tests and simulators.
    pub(crate) fn counts_on_sleep_of(&self, peer: NodeId) -> bool {
        matches!(&self.role, Role::Leader(leader) if leader.peers().any(|(node, its)| node == peer && its.asleep))
    }

    pub(crate) fn state(&self) -> &State {
        &self.state
    }

    /// For tests of what must hold: a replica breaks no rule by itself.
    #[cfg(test)]
    pub(crate) fn state_mut(&mut self) -> &mut State {
        &mut self.state
    }

    /// See [`crate::canonical`].
    pub(crate) fn forget_time(&mut self, now: Time) {
        self.state.forget_time(now);
        match &mut self.role {
            Role::Follower(follower) => follower.forget_time(now),
            Role::Candidate(candidate) => candidate.forget_time(now),
            Role::Leader(leader) => leader.forget_time(now),
        }
    }

    fn tick(&mut self, now: Time, effects: &mut Effects) {
        if now < self.deadline() {
            return;
        }
        match &mut self.role {
            // A node that cannot do a leader's work does not campaign, and looks again later.
            Role::Follower(follower) if !self.state.is_healthy(now) => {
                follower.wait(now, &mut self.state);
                self.state.ask_without_standing(effects);
            }
            Role::Follower(follower) => {
                let cause = if follower.is_lost() { Cause::LostLeader } else { Cause::Silence };
                self.campaign(Poll::PreVote, cause, now, effects);
            }
            Role::Candidate(_) if !self.state.is_healthy(now) => self.follow(None, now, effects),
            // A new poll asks again whether it is worth it, so that a candidate which cannot win raises no more terms.
            Role::Candidate(_) => self.campaign(Poll::PreVote, Cause::Silence, now, effects),
            Role::Leader(leader) => {
                if !leader.tick(now, &mut self.state, effects) {
                    let is_over = now >= leader.office_ends(&self.state);
                    let unfit = LeftOffice::Unfit(self.state.what_is_unfit());
                    let why = if is_over { LeftOffice::NoQuorum } else { unfit };
                    effects.push(Effect::Election(ElectionEvent::LeftOffice { why }));
                    // Followers that sleep by its word must not sleep on without it.
                    leader.stir(now, &mut self.state, effects);
                    self.follow(None, now, effects);
                }
            }
        }
    }

    fn receive(&mut self, from: NodeId, message: Message, now: Time, effects: &mut Effects) {
        // Every sender is heard, member or not: a log that lags behind does not know the newest members, and a node
        // that joins knows none (Raft §6).
        if from == self.state.config.node {
            return State::misbehaved(from, Misbehaviour::IsMyself, effects);
        }
        let Message { term, body } = message;
        if term.since(self.state.term) > TERMS_AHEAD_MAX {
            return State::misbehaved(from, Misbehaviour::TermOutOfReach { term }, effects);
        }
        match body {
            // Asking changes no term, neither the asker's nor the asked one's (Ongaro §9.6).
            Body::RequestPreVote { last } => self.asked_pre_vote(from, term, last, now, effects),
            // A leader in office is not unseated by a node that cannot hear it (Ongaro §4.2.3), unless it asked for it.
            Body::RequestVote { transfer: false, .. } if self.has_leader_lease(from, now) => {
                let leader = self.role_state().leader;
                was_asked((Poll::Vote, from, term), Some(VoteRefused::LeaderInOffice { leader }), effects);
                self.tell_if_removed(from, effects);
            }
            // What is committed is so in every term: a node that was removed is so too, however late its own is.
            Body::Removed { at } => self.removed(at, term, now, effects),
            _ if term > self.state.term => {
                effects.push(Effect::Election(ElectionEvent::LaterTerm { term, from }));
                self.enter_term(term, now, effects);
                self.receive_in_term(from, body, now, effects);
            }
            _ if term < self.state.term => self.receive_stale(from, term, &body, effects),
            _ => self.receive_in_term(from, body, now, effects),
        }
    }

    /// A message of this term, for the role that it is meant for; others ignore it.
    fn receive_in_term(&mut self, from: NodeId, body: Body, now: Time, effects: &mut Effects) {
        match body {
            Body::AppendEntries { session, entries, configurations, commit } => {
                if let Some((follower, state)) = self.hear_leader(from, now, effects) {
                    let message = NewEntries { session, entries, configurations, commit };
                    follower.append(from, message, state, effects);
                }
            }
            Body::Heartbeat { session, round, commit } => {
                if let Some((follower, state)) = self.hear_leader(from, now, effects) {
                    follower.heartbeat(from, (session, round, commit), now, state, effects);
                }
            }
            Body::Sleep { session, round, upto } => {
                if let Some((follower, state)) = self.hear_leader(from, now, effects) {
                    follower.sleep(from, (session, round, upto), now, state, effects);
                }
            }
            Body::Committed { upto } => {
                if let Some((_, state)) = self.hear_leader(from, now, effects) {
                    state.commit_upto(upto, effects);
                }
            }
            Body::SnapshotNeeded { session, of } => {
                if let Some((follower, state)) = self.hear_leader(from, now, effects) {
                    follower.needs_snapshot(from, session, of, state, effects);
                }
            }
            Body::TimeoutNow => {
                if self.hear_leader(from, now, effects).is_some() && self.state.is_fit(now) {
                    self.campaign(Poll::Vote, Cause::Transfer, now, effects);
                }
            }
            Body::RequestVote { last, .. } => self.requested_vote(from, last, now, effects),
            Body::PreVoteGranted => self.count(Poll::PreVote, from, true, now, effects),
            Body::PreVoteRefused => self.count(Poll::PreVote, from, false, now, effects),
            Body::VoteGranted => self.count(Poll::Vote, from, true, now, effects),
            Body::VoteRefused => self.count(Poll::Vote, from, false, now, effects),
            Body::EntriesAccepted { session, upto } => {
                if let Role::Leader(leader) = &mut self.role {
                    leader.accepted(from, (session, upto), now, &mut self.state, effects);
                }
            }
            Body::EntriesRefused { session, missing, hint } => {
                if let Role::Leader(leader) = &mut self.role {
                    leader.refused(from, session, (missing, hint), now, &self.state);
                }
            }
            Body::HeartbeatReply { session, round, fit, full, priority, asleep } => {
                if let Role::Leader(leader) = &mut self.role {
                    let answer = HeartbeatAnswer { session, round, fit, full, priority, asleep };
                    leader.heartbeat_answered(from, answer, now, &mut self.state, effects);
                }
            }
            Body::ReadIndex { read } => {
                let asked = ReadRequest { by: from, read };
                match &mut self.role {
                    Role::Leader(leader) => leader.read(asked, now, &mut self.state, effects),
                    _ => leader::refuse_read(asked, &mut self.state, effects),
                }
            }
            Body::ReadIndexReply { read, index } => effects.push(Effect::ReadReady { read, index }),
            Body::ReadIndexRefused { read } => effects.push(Effect::ReadRefused { read }),
            // Its news is its term, which has been taken note of; the others are answered in any term.
            Body::StaleTerm | Body::RequestPreVote { .. } | Body::Removed { .. } => {}
        }
    }

    /// A message of an earlier term. A sender that thinks that it leads or could lead is told the present one; a node
    /// that has advanced its term while it was cut off can come back only so.
    fn receive_stale(&mut self, from: NodeId, term: Term, body: &Body, effects: &mut Effects) {
        match body {
            Body::AppendEntries { .. } | Body::Heartbeat { .. } | Body::Sleep { .. } | Body::SnapshotNeeded { .. } => {
                self.state.send(from, Body::StaleTerm, effects);
            }
            Body::RequestVote { .. } => {
                let refused = VoteRefused::StaleTerm { term: self.state.term };
                was_asked((Poll::Vote, from, term), Some(refused), effects);
                self.state.send(from, Body::VoteRefused, effects);
            }
            Body::ReadIndex { read } => {
                leader::refuse_read(ReadRequest { by: from, read: *read }, &mut self.state, effects);
            }
            _ => {}
        }
    }

    /// Would this node vote for `from` in the term after `term`?
    fn asked_pre_vote(&mut self, from: NodeId, term: Term, last: LogId, now: Time, effects: &mut Effects) {
        let would_be_new = term.next() > self.state.term;
        let granted =
            would_be_new && !self.has_leader_lease(from, now) && may_grant(None, self.state.log.last_id(), from, last);
        let refused = (!granted).then(|| self.why_no_pre_vote(from, term, last, now));
        was_asked((Poll::PreVote, from, term.next()), refused, effects);
        if granted {
            State::send_unheld(from, term, Body::PreVoteGranted, effects);
            return;
        }
        self.tell_if_removed(from, effects);
        if self.state.term > term {
            self.state.send(from, Body::PreVoteRefused, effects);
        } else {
            State::send_unheld(from, term, Body::PreVoteRefused, effects);
        }
    }

    /// Why this node has refused a pre-vote, for the record.
    fn why_no_pre_vote(&self, from: NodeId, term: Term, last: LogId, now: Time) -> VoteRefused {
        if term.next() <= self.state.term {
            VoteRefused::StaleTerm { term: self.state.term }
        } else if self.has_leader_lease(from, now) {
            VoteRefused::LeaderInOffice { leader: self.role_state().leader }
        } else {
            VoteRefused::LaterLog { own: self.state.log.last_id(), theirs: last }
        }
    }

    /// Why this node has refused a vote, for the record.
    fn why_no_vote(&self, last: LogId) -> VoteRefused {
        match (&self.role, self.state.vote) {
            (Role::Leader(_), _) => VoteRefused::Leads,
            (_, Some(candidate)) => VoteRefused::Voted { candidate },
            (_, None) => VoteRefused::LaterLog { own: self.state.log.last_id(), theirs: last },
        }
    }

    /// Tells a node that campaigns, and is no member as far as is committed here, since when it is none. It knows
    /// better if it has come in since.
    fn tell_if_removed(&mut self, node: NodeId, effects: &mut Effects) {
        // A later configuration may be among what cannot be read.
        if self.state.unreadable().is_some() {
            return;
        }
        let (at, configuration) = self.state.configurations.at(self.state.commit);
        let knows_members = configuration.voters().next().is_some();
        if knows_members && !configuration.contains(node) && !self.state.configuration().contains(node) {
            let at = *at;
            self.state.send(node, Body::Removed { at }, effects);
        }
    }

    /// A configuration without this node is committed. What is known here to be committed of later ones counts more; what
    /// its own log says beyond that may be lost elsewhere, and then no leader would ever cut it here.
    fn removed(&mut self, at: LogIndex, term: Term, now: Time, effects: &mut Effects) {
        let (known_at, known) = self.state.configurations.at(self.state.commit);
        let is_old = at < *known_at || (at == *known_at && known.contains(self.state.config.node));
        // A leader knows better what is committed, unless a later one has been elected since.
        let leads = matches!(self.role, Role::Leader(_)) && term <= self.state.term;
        if is_old || self.state.removed || leads {
            return;
        }
        self.state.removed = true;
        effects.push(Effect::Happened(Event::Removed { at }));
        self.follow(None, now, effects);
    }

    /// The receiver's side of RequestVote (Raft figure 2), in the candidate's term.
    fn requested_vote(&mut self, from: NodeId, last: LogId, now: Time, effects: &mut Effects) {
        let granted = may_grant(self.state.vote, self.state.log.last_id(), from, last);
        if let (true, Role::Candidate(_)) = (granted, &self.role) {
            // It has not voted in this term, so it was only asking whether it should campaign.
            self.follow(None, now, effects);
        }
        if let (true, Role::Follower(follower)) = (granted, &mut self.role) {
            self.state.vote = Some(from);
            follower.wait(now, &mut self.state);
            was_asked((Poll::Vote, from, self.state.term), None, effects);
            self.state.send(from, Body::VoteGranted, effects);
        } else {
            was_asked((Poll::Vote, from, self.state.term), Some(self.why_no_vote(last)), effects);
            self.state.send(from, Body::VoteRefused, effects);
        }
    }

    /// Whether `candidate` may not ask this node for a vote: another leads, or may answer reads by a lease that this node
    /// has granted. A leader that asks for votes leads its term no more and never will again, whatever it has said before
    /// that comes only now.
    fn has_leader_lease(&self, candidate: NodeId, now: Time) -> bool {
        let was_leader = self.role_state().leader == Some(candidate);
        !was_leader && (self.has_live_leader(now) || self.state.lease_binds(now))
    }

    /// Whether someone leads, so that an election would only disturb.
    fn has_live_leader(&self, now: Time) -> bool {
        match &self.role {
            Role::Follower(follower) => follower.has_live_leader(now, &self.state),
            Role::Candidate(_) => false,
            Role::Leader(_) => true,
        }
    }

    /// Hears `from` as the leader of this term. A candidate has lost its election by that (Raft §5.2).
    fn hear_leader(&mut self, from: NodeId, now: Time, effects: &mut Effects) -> Option<(&mut Follower, &mut State)> {
        if let Role::Candidate(_) = self.role {
            self.follow(Some(from), now, effects);
        }
        match &mut self.role {
            Role::Follower(follower) => {
                follower.hear(from, now, &mut self.state, effects).then_some((follower, &mut self.state))
            }
            _ => {
                let leader = self.state.config.node;
                State::misbehaved(from, Misbehaviour::SecondLeader { leader }, effects);
                None
            }
        }
    }

    /// Counts an answer to the poll under way; answers to another poll are stale.
    fn count(&mut self, poll: Poll, from: NodeId, granted: bool, now: Time, effects: &mut Effects) {
        if let Role::Candidate(candidate) = &mut self.role
            && candidate.poll == poll
        {
            effects.push(Effect::Election(ElectionEvent::Answered { poll, voter: from, granted }));
            let outcome = candidate.count(from, granted, &self.state);
            self.decide(outcome, now, effects);
        }
    }

    fn propose(&mut self, count: u64, effects: &mut Effects) {
        match &mut self.role {
            Role::Leader(leader) => leader.propose(count, &mut self.state, effects),
            _ => {
                let leader = self.role_state().leader;
                effects.push(Effect::ProposalRefused { why: ProposalRefused::NotLeader { leader } });
            }
        }
    }

    fn change(&mut self, changes: &[Change], now: Time, effects: &mut Effects) {
        let leader = self.role_state().leader;
        let begun = match &mut self.role {
            Role::Leader(leader) => leader.change(changes, now, &mut self.state, effects),
            _ => Err(ChangeRefused::NotLeader { leader }),
        };
        if let Err(why) = begun {
            effects.push(Effect::ChangeRefused { why });
        }
    }

    fn transfer(&mut self, to: Option<NodeId>, now: Time, effects: &mut Effects) {
        let leader = self.role_state().leader;
        let begun = match &mut self.role {
            Role::Leader(leader) => leader.transfer(to, now, &mut self.state, effects),
            _ => Err(TransferRefused::NotLeader { leader }),
        };
        if let Err(why) = begun {
            effects.push(Effect::TransferRefused { why });
        }
    }

    /// A leader needs no snapshot: it has the longest log there is, and its own state machine has all that was dropped
    /// from it.
    fn install(&mut self, id: LogId, configuration: (LogIndex, Configuration), now: Time, effects: &mut Effects) {
        if matches!(self.role, Role::Leader(_)) || !self.state.install(id, configuration, effects) {
            return;
        }
        // It had all there was when it fell asleep: there is more.
        if let Role::Follower(follower) = &mut self.role
            && follower.asleep
        {
            follower.wake(now, &mut self.state);
        }
    }

    /// The configuration that counts has changed: a node that may campaign by it gets a deadline, and one that may not
    /// has none.
    fn settle_configuration(&mut self, now: Time, effects: &mut Effects) {
        if !std::mem::take(&mut self.state.configuration_moved) {
            return;
        }
        let may_stand = self.state.may_stand();
        match &mut self.role {
            // One that sleeps sees to it when it wakes.
            Role::Follower(follower) if !follower.asleep && may_stand != (follower.deadline < Time::NEVER) => {
                follower.wait(now, &mut self.state);
            }
            Role::Candidate(_) if !may_stand => self.follow(None, now, effects),
            _ => {}
        }
    }

    fn read(&mut self, read: ReadId, now: Time, effects: &mut Effects) {
        match &mut self.role {
            Role::Leader(leader) => {
                leader.read(leader::own_read(read, &self.state), now, &mut self.state, effects);
            }
            Role::Follower(follower) => follower.read(read, &mut self.state, effects),
            Role::Candidate(_) => effects.push(Effect::ReadRefused { read }),
        }
    }

    fn persisted(&mut self, now: Time, effects: &mut Effects) {
        match &mut self.role {
            Role::Follower(_) => self.state.announce_commit(effects),
            Role::Candidate(candidate) => {
                let outcome = candidate.count_own_vote(&self.state);
                self.state.announce_commit(effects);
                self.decide(outcome, now, effects);
            }
            Role::Leader(leader) => leader.persisted(now, &mut self.state, effects),
        }
    }

    fn reconnected(&mut self, peer: NodeId, now: Time, effects: &mut Effects) {
        match &mut self.role {
            // Its group may sleep, and it will not campaign.
            Role::Follower(follower) if follower.leader.is_none() && !self.state.is_fit(now) => {
                self.state.wake_sleeper(peer, effects);
            }
            Role::Leader(leader) => leader.reconnected(peer),
            Role::Follower(_) | Role::Candidate(_) => {}
        }
    }

    fn lost(&mut self, peer: NodeId, now: Time, effects: &mut Effects) {
        self.note_loss(peer, Loss::Connection, effects);
        match &mut self.role {
            Role::Follower(follower) => follower.lose(peer, now, &mut self.state),
            Role::Candidate(_) => {}
            Role::Leader(leader) => {
                leader.reconnected(peer);
                leader.sleeps_no_more(peer);
            }
        }
    }

    /// A peer's node is silent. If this replica is awake, it has its own ways to notice.
    fn silent(&mut self, peer: NodeId, now: Time, effects: &mut Effects) {
        if self.is_asleep() {
            self.note_loss(peer, Loss::Silence, effects);
        }
        match &mut self.role {
            Role::Follower(follower) if follower.asleep => follower.lose(peer, now, &mut self.state),
            Role::Follower(_) | Role::Candidate(_) => {}
            Role::Leader(leader) => leader.sleeps_no_more(peer),
        }
    }

    /// That a follower has lost its leader is told as such.
    fn note_loss(&self, peer: NodeId, how: Loss, effects: &mut Effects) {
        if let Role::Follower(Follower { leader: Some(leader), .. }) = self.role
            && leader == peer
        {
            effects.push(Effect::Election(ElectionEvent::LeaderLost { leader, how }));
        }
    }

    /// Before anything else is done with an input: a replica that sleeps wakes if the input is news.
    fn stir(&mut self, now: Time, input: &Input, effects: &mut Effects) {
        match &mut self.role {
            Role::Follower(follower) if follower.asleep && follower.is_stirred_by(input, &self.state) => {
                follower.wake(now, &mut self.state);
                if let Input::Receive { from, .. } = input {
                    follower.tell_that_it_is_awake(*from, now, &mut self.state, effects);
                }
            }
            Role::Leader(leader) if leader.is_stirred_by(input, &self.state) => {
                leader.stir(now, &mut self.state, effects);
            }
            _ => {}
        }
    }

    /// Carries out how a poll has ended.
    fn decide(&mut self, outcome: Outcome, now: Time, effects: &mut Effects) {
        let Role::Candidate(candidate) = &self.role else { return };
        match (outcome, candidate.poll) {
            (Outcome::Open, _) => {}
            (Outcome::Won, Poll::PreVote) => {
                let cause = candidate.cause;
                self.campaign(Poll::Vote, cause, now, effects);
            }
            (Outcome::Won, Poll::Vote) => self.lead(now, effects),
            (Outcome::Rejected, _) => {
                let hurried = candidate.cause == Cause::LostLeader;
                self.follow(None, now, effects);
                if let (true, Role::Follower(follower)) = (hurried, &mut self.role) {
                    follower.ask_again_soon(now, &mut self.state);
                }
            }
        }
    }

    fn campaign(&mut self, poll: Poll, cause: Cause, now: Time, effects: &mut Effects) {
        let silence = now.since(self.state.heard);
        effects.push(Effect::Election(ElectionEvent::Asks { poll, cause, silence }));
        let candidate = Candidate::begin(poll, cause, now, &mut self.state, effects);
        self.role = Role::Candidate(candidate);
        self.announce(effects);
        if let Role::Candidate(candidate) = &self.role {
            // A node that is alone has a quorum with its own consent.
            let outcome = candidate.outcome(&self.state);
            self.decide(outcome, now, effects);
        }
    }

    fn lead(&mut self, now: Time, effects: &mut Effects) {
        self.role = Role::Leader(Leader::begin(now, &mut self.state, effects));
    }

    fn enter_term(&mut self, term: Term, now: Time, effects: &mut Effects) {
        self.state.enter_term(term);
        self.follow(None, now, effects);
    }

    /// Becomes a follower of `leader`, or of the first leader that appears.
    fn follow(&mut self, leader: Option<NodeId>, now: Time, effects: &mut Effects) {
        let follower = Follower::new(leader, now, &mut self.state);
        let was = std::mem::replace(&mut self.role, Role::Follower(follower));
        if let Role::Leader(leader) = was {
            leader.leave(&mut self.state, effects);
        }
    }

    /// Tells the host of a change of term, role or leader.
    fn announce(&mut self, effects: &mut Effects) {
        let role_state = self.role_state();
        if role_state != self.role_state {
            self.role_state = role_state;
            effects.push(Effect::Became(role_state));
        }
    }
}

/// Another node has asked for this one's vote in a term, or whether it would give it.
fn was_asked((poll, candidate, term): (Poll, NodeId, Term), refused: Option<VoteRefused>, effects: &mut Effects) {
    effects.push(Effect::Election(ElectionEvent::WasAsked { poll, candidate, term, refused }));
}
