//! The leader's role: keep its office, commit what a quorum holds, confirm reads (Raft §5.3, §5.4.2; Ongaro §6.2, §6.4).
//!
//! Owns one [`Progress`] per peer and the pending reads. What is sent to peers is in `leader/replication.rs`, how
//! members come and go in `leader/members.rs`, how the leadership is transferred in `leader/transfer.rs`, how an idle
//! group falls asleep in `leader/sleep.rs`. Must not know of elections (see `candidate.rs`), of bytes, or of what a
//! state machine does with a committed entry.

use std::time::Duration;

use crate::effect::{Effect, Effects, ProposalRefused, Source};
use crate::id::{LogIndex, NodeId};
use crate::message::{Body, ReadId, Session};
use crate::progress::Progress;
use crate::read::{ReadRequest, Reads};
use crate::state::State;
use crate::term_runs::TermRuns;
use crate::time::Time;
use crate::view::PeerView;

mod members;
mod replication;
mod sleep;
mod transfer;

use sleep::Sleep;
use transfer::Transfer;

/// A replica that leads its term.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Leader {
    /// All members but this node, and those that a change which is not committed has removed.
    peers: Vec<(NodeId, Progress)>,
    /// The blank entry with which it took office: once that is committed, so is all before it.
    first: LogIndex,
    heartbeat_due: Time,
    /// What was committed when heartbeats were last due: a peer that has that keeps up.
    committed_a_beat_ago: LogIndex,
    /// Rare, and there may be thousands of groups.
    transfer: Option<Box<Transfer>>,
    /// It has asked another node to campaign, which may do so at any later time: from then on no lease can be relied
    /// on.
    asked_another: bool,
    sleep: Sleep,
    /// When something last happened that was news.
    stirred: Time,
    reads: Reads,
}

impl Leader {
    /// Takes office: appends a blank entry, and says so to all.
    ///
    /// Without an entry of its own term a leader could not commit what earlier terms left behind, nor know how far
    /// they had committed (Raft §5.4.2, §8).
    pub(crate) fn begin(now: Time, state: &mut State, effects: &mut Effects) -> Self {
        let before = state.log.last_id();
        let first = before.index.next();
        state.append(TermRuns::one_term(before, state.term, 1), Vec::new(), Source::Blank, effects);
        let mut leader = Self {
            peers: Vec::new(),
            first,
            heartbeat_due: now,
            committed_a_beat_ago: first,
            transfer: None,
            asked_another: false,
            sleep: Sleep::Awake,
            stirred: now,
            reads: Reads::default(),
        };
        leader.take_in_members(before.index, now, state);
        leader.send_heartbeats(now, state, effects);
        leader
    }

    /// When to call [`Leader::tick`], if nothing happens before.
    pub(crate) fn deadline(&self, state: &State) -> Time {
        if self.is_asleep() {
            return Time::NEVER;
        }
        self.heartbeat_due.min(self.office_ends(state))
    }

    /// Does what is due. False if this node must not lead any longer: no quorum has answered for an election timeout,
    /// so that another may lead (Ongaro §6.2), or it cannot do the work and no other node has taken it over.
    #[must_use]
    pub(crate) fn tick(&mut self, now: Time, state: &mut State, effects: &mut Effects) -> bool {
        if now >= self.office_ends(state) {
            return false;
        }
        if now >= self.heartbeat_due {
            if !self.look_after_office(now, state, effects) {
                return false;
            }
            if self.committed_a_beat_ago == state.log.last() {
                self.release_memory(state);
            }
            self.committed_a_beat_ago = self.first.max(state.commit);
            self.finish_change(now, state, effects);
            if state.config.lease.is_some() {
                self.reads.begin_round(Some(now));
            }
            if !self.announce_sleep(now, state, effects) {
                self.send_heartbeats(now, state, effects);
            }
        }
        true
    }

    /// Nothing was appended since the last heartbeat: gives back the memory that a busy time has left behind.
    fn release_memory(&mut self, state: &mut State) {
        self.peers.iter_mut().for_each(|(_, progress)| progress.release_memory());
        self.peers.shrink_to_fit();
        state.release_memory();
    }

    /// When a quorum, itself included, was last heard, and an election timeout after that.
    pub(crate) fn office_ends(&self, state: &State) -> Time {
        let own = state.config.node;
        let heard =
            |node| if node == own { Time::NEVER } else { self.progress(node).map_or(Time::default(), |p| p.heard) };
        state.configuration().reached(heard).map_or(Time::default(), |heard| heard + state.config.election_timeout)
    }

    /// Appends `count` proposed entries.
    pub(crate) fn propose(&mut self, count: u64, state: &mut State, effects: &mut Effects) {
        if let Some(why) = self.proposals_refused(state) {
            return effects.push(Effect::ProposalRefused { why });
        }
        let entries = TermRuns::one_term(state.log.last_id(), state.term, count);
        state.append(entries, Vec::new(), Source::Proposed, effects);
    }

    /// Why no proposal is taken at this moment.
    pub(crate) fn proposals_refused(&self, state: &State) -> Option<ProposalRefused> {
        if let Some(transfer) = &self.transfer {
            return Some(ProposalRefused::Transferring { to: transfer.to });
        }
        let uncommitted = state.log.last().since(state.commit);
        let is_busy = uncommitted >= state.config.uncommitted_max;
        match (self.quorum_has_room(state), state.has_room) {
            (false, _) => Some(ProposalRefused::NoSpace),
            // Others could decide without this disk. But its log would grow in memory, and its state machine stands
            // still: a peer that has room takes over with the next heartbeat, if there is one.
            (true, false) if self.has_successor(state) => Some(ProposalRefused::Busy),
            (true, false) => Some(ProposalRefused::NoSpace),
            (true, true) => is_busy.then_some(ProposalRefused::Busy),
        }
    }

    /// Whether the disks of a quorum have room for entries, as far as is known.
    fn quorum_has_room(&self, state: &State) -> bool {
        let own = state.config.node;
        let has_room = |node| if node == own { state.has_room } else { self.progress(node).is_none_or(|p| !p.full) };
        state.configuration().is_quorum(has_room)
    }

    /// Own writes have become durable.
    pub(crate) fn persisted(&mut self, now: Time, state: &mut State, effects: &mut Effects) {
        self.try_commit(now, state, effects);
    }

    /// Commits what a quorum holds durably.
    fn try_commit(&mut self, now: Time, state: &mut State, effects: &mut Effects) {
        if state.commit == state.log.last() {
            return state.announce_commit(effects);
        }
        // The leader sends before its own write is done and counts itself only after it.
        let own = (state.config.node, state.durable());
        let matched =
            |node| if node == own.0 { own.1 } else { self.progress(node).map_or(LogIndex::ZERO, |p| p.matched) };
        let Some(on_quorum) = state.configuration().reached(matched) else { return };
        // Only an entry of our own term is committed by counting; older ones ride along with it. Counting an old
        // entry could commit what a later leader may still replace (Raft §5.4.2, figure 8).
        if on_quorum > state.commit && state.log.term_at(on_quorum) == Some(state.term) {
            let was = state.commit;
            state.commit_upto(on_quorum, effects);
            self.tell_who_has_left(was, state, effects);
            // A node that is decided to have left answers no round any more, and what is left may be a quorum that has.
            self.confirm_reads(now, state, effects);
            self.begin_reads(now, state, effects);
            self.finish_change(now, state, effects);
        }
        state.announce_commit(effects);
    }

    /// Takes a read of this node or of a follower's.
    pub(crate) fn read(&mut self, asked: ReadRequest, now: Time, state: &mut State, effects: &mut Effects) {
        if state.commit >= self.first && self.holds_lease(now, state) {
            answer_read(asked, state.commit, state, effects);
        } else if self.reads.ask(asked) {
            self.begin_reads(now, state, effects);
        } else {
            refuse_read(asked, state, effects);
        }
    }

    /// Whether no other can have been elected: a quorum has answered a round that was sent so lately that each of it
    /// still refuses its vote (Ongaro §6.4.1).
    fn holds_lease(&self, now: Time, state: &State) -> bool {
        let Some(lease) = state.config.lease else { return false };
        !self.asked_another && self.reads.confirmed().is_some_and(|sent| now < sent + lease)
    }

    /// Begins a round for the reads that wait, if it can.
    fn begin_reads(&mut self, now: Time, state: &mut State, effects: &mut Effects) {
        // Until an entry of its own term is committed a leader may not know what was committed before it (Raft §8).
        if state.commit < self.first || !self.reads.want_round() {
            return;
        }
        self.reads.begin_round(state.config.lease.map(|_| now));
        self.reads.confirm_with_round(state.commit);
        self.send_heartbeats(now, state, effects);
        self.confirm_reads(now, state, effects);
    }

    fn confirm_reads(&mut self, now: Time, state: &mut State, effects: &mut Effects) {
        if !self.reads.await_confirmation() {
            return;
        }
        let own = (state.config.node, self.reads.round);
        let round = |node| if node == own.0 { own.1 } else { self.progress(node).map_or(0, |p| p.round) };
        let Some(of_quorum) = state.configuration().reached(round) else { return };
        let Some(confirmed) = self.reads.confirmed_by(of_quorum) else { return };
        for asked in confirmed.reads {
            answer_read(asked, confirmed.index, state, effects);
        }
        self.begin_reads(now, state, effects);
    }

    /// Sends heartbeats of the newest round to all peers.
    fn send_heartbeats(&mut self, now: Time, state: &mut State, effects: &mut Effects) {
        self.heartbeat_due = now + state.config.heartbeat;
        let round = self.reads.round;
        for (peer, progress) in &mut self.peers {
            // Never more than the peer is known to hold: it has no other way to tell what it may commit (Raft §5.3).
            let commit = state.commit.min(progress.matched);
            progress.told_commit = progress.told_commit.max(commit);
            state.send(*peer, Body::Heartbeat { session: progress.session, round, commit }, effects);
        }
        self.repeat_snapshot_notices(state, effects);
    }

    /// A peer has answered a heartbeat.
    pub(crate) fn heartbeat_answered(
        &mut self,
        from: NodeId,
        answer: HeartbeatAnswer,
        now: Time,
        state: &mut State,
        effects: &mut Effects,
    ) {
        // A round that was never begun cannot have been answered.
        let round = answer.round.min(self.reads.round);
        let Some(progress) = self.progress_of(from, answer.session) else { return };
        progress.heard = now;
        // What an answer to an earlier round says of the peer is old.
        if round >= progress.round {
            progress.round = round;
            (progress.fit, progress.full, progress.priority) = (answer.fit, answer.full, answer.priority);
        }
        progress.heartbeat_answered(now, lost_after(state));
        self.confirm_reads(now, state, effects);
        if self.sleep == Sleep::Announced && round == self.reads.round {
            self.follower_sleeps(from, answer.asleep, now, state, effects);
        }
    }

    /// Leaves office: a caller that waits for a read must ask elsewhere.
    pub(crate) fn leave(self, state: &mut State, effects: &mut Effects) {
        for asked in self.reads.abandon() {
            refuse_read(asked, state, effects);
        }
    }

    /// What is known of the peers, for a view from outside.
    pub(crate) fn peers(&self) -> impl Iterator<Item = (NodeId, &Progress)> {
        self.peers.iter().map(|(peer, progress)| (*peer, progress))
    }

    /// The same, to be shown.
    pub(crate) fn peer_views(&self) -> impl Iterator<Item = PeerView> + '_ {
        self.peers.iter().map(|(node, progress)| progress.view(*node, self.committed_a_beat_ago))
    }

    /// See [`crate::canonical`].
    pub(crate) fn forget_time(&mut self, now: Time) {
        (self.heartbeat_due, self.stirred) = (now, now);
        self.peers.iter_mut().for_each(|(_, progress)| progress.forget_time(now));
        self.transfer.iter_mut().for_each(|transfer| transfer.until = now);
        self.reads.forget_time();
    }

    fn progress(&self, node: NodeId) -> Option<&Progress> {
        self.peers.iter().find(|(peer, _)| *peer == node).map(|(_, progress)| progress)
    }

    fn progress_mut(&mut self, node: NodeId) -> Option<&mut Progress> {
        self.peers.iter_mut().find(|(peer, _)| *peer == node).map(|(_, progress)| progress)
    }

    /// The progress for which an answer is meant; none if it is of an earlier session.
    fn progress_of(&mut self, node: NodeId, session: Session) -> Option<&mut Progress> {
        self.progress_mut(node).filter(|progress| progress.session == session)
    }
}

/// A peer's answer to a heartbeat.
pub(crate) struct HeartbeatAnswer {
    pub(crate) session: Session,
    pub(crate) round: u64,
    pub(crate) fit: bool,
    pub(crate) full: bool,
    pub(crate) priority: u8,
    pub(crate) asleep: bool,
}

/// How long a peer may answer heartbeats and nothing else before entries are taken for lost.
fn lost_after(state: &State) -> Duration {
    2 * state.config.heartbeat
}

fn answer_read(ReadRequest { by, read }: ReadRequest, index: LogIndex, state: &mut State, effects: &mut Effects) {
    if by == state.config.node {
        effects.push(Effect::ReadReady { read, index });
    } else {
        state.send(by, Body::ReadIndexReply { read, index }, effects);
    }
}

/// Turns a read away: its host asks the node that leads then.
pub(crate) fn refuse_read(ReadRequest { by, read }: ReadRequest, state: &mut State, effects: &mut Effects) {
    if by == state.config.node {
        effects.push(Effect::ReadRefused { read });
    } else {
        state.send(by, Body::ReadIndexRefused { read }, effects);
    }
}

/// A read that this node's own host asks for.
pub(crate) fn own_read(read: ReadId, state: &State) -> ReadRequest {
    ReadRequest { by: state.config.node, read }
}
