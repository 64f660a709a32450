//! The leader's role: replicate, count acknowledgements, commit, confirm reads (Raft §5.3, §5.4.2; Ongaro §6.2, §6.4).
//!
//! Owns one [`Progress`] per peer and the pending reads. Must not know of elections (see `candidate.rs`), of bytes, or
//! of what a state machine does with a committed entry.

use crate::effect::{Effect, Effects, Misbehaviour, Source};
use crate::id::{LogId, LogIndex, NodeId};
use crate::message::{Body, ReadId};
use crate::progress::Progress;
use crate::read::{Asked, Reads};
use crate::state::State;
use crate::term_runs::TermRuns;
use crate::time::Time;

/// A replica that leads its term.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Leader {
    peers: Vec<(NodeId, Progress)>,
    /// The blank entry with which it took office: once that is committed, so is all before it.
    first: LogIndex,
    heartbeat_due: Time,
    pub(crate) reads: Reads,
}

impl Leader {
    /// Takes office: appends a blank entry, and says so to all.
    ///
    /// Without an entry of its own term a leader could not commit what earlier terms left behind, nor know how far
    /// they had committed (Raft §5.4.2, §8).
    pub(crate) fn begin(now: Time, state: &mut State, effects: &mut Effects) -> Self {
        let before = state.log.last_id();
        let peers = state.peers().map(|peer| (peer, Progress::unknown(before.index, now))).collect();
        state.append(TermRuns::one_term(before, state.term, 1), Source::Blank, effects);
        let mut leader = Self { peers, first: before.index.next(), heartbeat_due: now, reads: Reads::default() };
        leader.send_heartbeats(now, state, effects);
        leader
    }

    /// When to call [`Leader::tick`], if nothing happens before.
    pub(crate) fn deadline(&self, state: &State) -> Time {
        self.heartbeat_due.min(self.office_ends(state))
    }

    /// Sends heartbeats when they are due. False if no quorum has answered for an election timeout: then another
    /// may lead, and this node must not go on as if it did (Ongaro §6.2).
    #[must_use]
    pub(crate) fn tick(&mut self, now: Time, state: &mut State, effects: &mut Effects) -> bool {
        if now >= self.office_ends(state) {
            return false;
        }
        if now >= self.heartbeat_due {
            self.send_heartbeats(now, state, effects);
        }
        true
    }

    /// When a quorum, itself included, was last heard, and an election timeout after that.
    fn office_ends(&self, state: &State) -> Time {
        let own = state.config.node;
        let heard =
            |node| if node == own { Time::NEVER } else { self.progress(node).map_or(Time::default(), |p| p.heard) };
        state.membership.reached(heard).map_or(Time::default(), |heard| heard + state.config.election_timeout)
    }

    /// Appends `count` proposed entries.
    pub(crate) fn propose(&mut self, count: u64, state: &mut State, effects: &mut Effects) {
        let entries = TermRuns::one_term(state.log.last_id(), state.term, count);
        state.append(entries, Source::Proposed, effects);
    }

    /// What should be sent to `to`: entries after the first, up to the second.
    pub(crate) fn wants(&self, to: NodeId, state: &State) -> Option<(LogIndex, LogIndex)> {
        let last = state.log.last();
        let next = self.progress(to)?.next_to_send(last, state.config.inflight_max)?;
        Some((next.prev(), last))
    }

    /// Sends what `wants` asked for, as far as `upto`: the host cuts by bytes.
    pub(crate) fn send_entries(&mut self, to: NodeId, upto: LogIndex, state: &mut State, effects: &mut Effects) {
        let Some((after, last)) = self.wants(to, state) else { return };
        let entries = state.log.part(after, upto.clamp(after, last));
        let commit = state.commit;
        if let Some(progress) = self.progress_mut(to) {
            progress.sent(entries.last());
            progress.told_commit = commit.min(entries.last());
        }
        state.send(to, Body::AppendEntries { entries, commit }, effects);
    }

    /// Tells those peers of a new commit index who have learnt it by no other message.
    pub(crate) fn tell_commit(&mut self, state: &mut State, effects: &mut Effects) {
        let round = self.reads.round;
        for (peer, progress) in &mut self.peers {
            let commit = state.commit.min(progress.matched);
            if progress.told_commit < commit {
                progress.told_commit = commit;
                state.send(*peer, Body::Heartbeat { round, commit }, effects);
            }
        }
    }

    /// A peer holds everything up to `upto`.
    pub(crate) fn accepted(
        &mut self,
        from: NodeId,
        upto: LogIndex,
        now: Time,
        state: &mut State,
        effects: &mut Effects,
    ) {
        let last = state.log.last();
        if upto > last {
            return State::misbehaved(from, Misbehaviour::AcknowledgedUnsent { upto, last }, effects);
        }
        if let Some(progress) = self.progress_mut(from) {
            progress.heard = now;
            progress.accepted(upto);
        }
        self.try_commit(now, state, effects);
    }

    /// A peer lacks `missing`; the last entry that may be in both logs is no later than `hint`.
    ///
    /// Both sides skip whole terms: the peer by its hint, the leader by the last entry of its own log that could be
    /// the peer's (Raft §5.3, at its end).
    pub(crate) fn refused(&mut self, from: NodeId, missing: LogId, hint: LogId, now: Time, state: &State) {
        let shared = state.log.last_at_most(hint.term, hint.index);
        if let Some(progress) = self.progress_mut(from) {
            progress.heard = now;
            progress.refused(missing.index, shared.index);
        }
    }

    /// A peer has answered a heartbeat.
    pub(crate) fn heartbeat_answered(
        &mut self,
        from: NodeId,
        round: u64,
        now: Time,
        state: &mut State,
        effects: &mut Effects,
    ) {
        // A round that was never begun cannot have been answered.
        let round = round.min(self.reads.round);
        if let Some(progress) = self.progress_mut(from) {
            progress.heard = now;
            progress.round = progress.round.max(round);
            progress.heartbeat_answered(now, 2 * state.config.heartbeat);
        }
        self.confirm_reads(now, state, effects);
    }

    /// A new connection, or the loss of one: what was under way may be lost.
    pub(crate) fn reconnected(&mut self, peer: NodeId) {
        if let Some(progress) = self.progress_mut(peer) {
            progress.start_over();
        }
    }

    /// Own writes have become durable.
    pub(crate) fn persisted(&mut self, now: Time, state: &mut State, effects: &mut Effects) {
        self.try_commit(now, state, effects);
    }

    /// Commits what a quorum holds durably.
    fn try_commit(&mut self, now: Time, state: &mut State, effects: &mut Effects) {
        // The leader sends before its own write is done and counts itself only after it.
        let own = (state.config.node, state.durable());
        let matched =
            |node| if node == own.0 { own.1 } else { self.progress(node).map_or(LogIndex::ZERO, |p| p.matched) };
        let Some(on_quorum) = state.membership.reached(matched) else { return };
        // Only an entry of our own term is committed by counting; older ones ride along with it. Counting an old
        // entry could commit what a later leader may still replace (Raft §5.4.2, figure 8).
        if on_quorum > state.commit && state.log.term_at(on_quorum) == Some(state.term) {
            state.commit_upto(on_quorum, effects);
            self.begin_reads(now, state, effects);
        }
        state.announce_commit(effects);
    }

    /// Takes a read of this node or of a follower's.
    pub(crate) fn read(&mut self, asked: Asked, now: Time, state: &mut State, effects: &mut Effects) {
        if self.reads.ask(asked) {
            self.begin_reads(now, state, effects);
        } else {
            refuse_read(asked, state, effects);
        }
    }

    /// Begins a round if it can.
    fn begin_reads(&mut self, now: Time, state: &mut State, effects: &mut Effects) {
        // Until an entry of its own term is committed a leader may not know what was committed before it (Raft §8).
        if state.commit < self.first || !self.reads.begin_round(state.commit) {
            return;
        }
        self.send_heartbeats(now, state, effects);
        self.confirm_reads(now, state, effects);
    }

    fn confirm_reads(&mut self, now: Time, state: &mut State, effects: &mut Effects) {
        let own = (state.config.node, self.reads.round);
        let round = |node| if node == own.0 { own.1 } else { self.progress(node).map_or(0, |p| p.round) };
        let Some(of_quorum) = state.membership.reached(round) else { return };
        let Some(confirmed) = self.reads.confirmed_by(of_quorum) else { return };
        for asked in confirmed.reads {
            answer_read(asked, confirmed.index, state, effects);
        }
        self.begin_reads(now, state, effects);
    }

    fn send_heartbeats(&mut self, now: Time, state: &mut State, effects: &mut Effects) {
        self.heartbeat_due = now + state.config.heartbeat;
        let round = self.reads.round;
        for (peer, progress) in &mut self.peers {
            // Never more than the peer is known to hold: it has no other way to tell what it may commit (Raft §5.3).
            let commit = state.commit.min(progress.matched);
            progress.told_commit = progress.told_commit.max(commit);
            state.send(*peer, Body::Heartbeat { round, commit }, effects);
        }
    }

    /// Leaves office: who waits for a read must ask elsewhere.
    pub(crate) fn leave(self, state: &mut State, effects: &mut Effects) {
        for asked in self.reads.abandon() {
            refuse_read(asked, state, effects);
        }
    }

    /// What is known of the peers, for a view from outside.
    pub(crate) fn peers(&self) -> impl Iterator<Item = (NodeId, &Progress)> {
        self.peers.iter().map(|(peer, progress)| (*peer, progress))
    }

    fn progress(&self, node: NodeId) -> Option<&Progress> {
        self.peers.iter().find(|(peer, _)| *peer == node).map(|(_, progress)| progress)
    }

    fn progress_mut(&mut self, node: NodeId) -> Option<&mut Progress> {
        self.peers.iter_mut().find(|(peer, _)| *peer == node).map(|(_, progress)| progress)
    }
}

fn answer_read(Asked { by, read }: Asked, index: LogIndex, state: &mut State, effects: &mut Effects) {
    if by == state.config.node {
        effects.push(Effect::ReadReady { read, index });
    } else {
        state.send(by, Body::ReadIndexReply { read, index }, effects);
    }
}

/// Turns a read away: its host asks whoever leads then.
pub(crate) fn refuse_read(Asked { by, read }: Asked, state: &mut State, effects: &mut Effects) {
    if by == state.config.node {
        effects.push(Effect::ReadRefused { read });
    } else {
        state.send(by, Body::ReadIndexRefused { read }, effects);
    }
}

/// A read that this node's own host asks for.
pub(crate) fn own_read(read: ReadId, state: &State) -> Asked {
    Asked { by: state.config.node, read }
}
