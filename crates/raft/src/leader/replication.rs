//! How entries reach the peers (Raft §5.3, §7): what to send next, and what their answers mean.

use super::Leader;
use crate::effect::{Effect, Effects, Event, Misbehaviour};
use crate::id::{LogId, LogIndex, NodeId};
use crate::message::{Body, Session};
use crate::progress::{Pace, Window};
use crate::state::State;
use crate::time::Time;

impl Leader {
    /// What should be sent to `to`: entries after the first, up to the second.
    pub(crate) fn next_range(&self, to: NodeId, state: &State) -> Option<(LogIndex, LogIndex)> {
        let last = last_for(to, state);
        let window = Window { messages: state.config.inflight_max, bytes: state.config.inflight_bytes_max };
        let after = self.progress(to)?.next_to_send(last, window)?.prev();
        (after >= state.log.after().index).then_some((after, last.max(after)))
    }

    /// Sends what `wants` asked for, as far as `upto`: the host cuts by bytes, and says how many they are.
    pub(crate) fn send_entries(
        &mut self,
        to: NodeId,
        upto: LogIndex,
        bytes: u64,
        state: &mut State,
        effects: &mut Effects,
    ) {
        let Some((after, last)) = self.next_range(to, state) else { return };
        let upto = upto.clamp(after, last);
        let (entries, configurations) = (state.log.part(after, upto), state.configurations.part(after, upto));
        let commit = state.commit;
        let Some(progress) = self.progress_mut(to) else { return };
        progress.sent(upto, bytes);
        progress.told_commit = commit.min(upto);
        let session = progress.session;
        state.send(to, Body::AppendEntries { session, entries, configurations, commit }, effects);
    }

    /// The end of a turn: tells the peers of a new commit index that have learnt it by no other message, and those
    /// whose next entry was compacted away that they need a snapshot.
    pub(crate) fn end_turn(&mut self, state: &mut State, effects: &mut Effects) {
        let begin = state.log.after();
        for (peer, progress) in &mut self.peers {
            let session = progress.session;
            // Never more than the peer is known to hold: it has no other way to tell what it may commit (Raft §5.3).
            let upto = state.commit.min(progress.matched);
            if progress.told_commit < upto {
                progress.told_commit = upto;
                state.send(*peer, Body::Committed { upto }, effects);
            }
            if progress.pace != Pace::Snapshot && progress.needs_snapshot(begin.index) {
                progress.pace = Pace::Snapshot;
                effects.push(Effect::Happened(Event::PeerNeedsSnapshot { peer: *peer }));
                state.send(*peer, Body::SnapshotNeeded { session, of: begin }, effects);
            }
        }
    }

    /// A peer that needs a snapshot is told so until it has one: the notice, or the snapshot, may be lost.
    pub(super) fn repeat_snapshot_notices(&self, state: &mut State, effects: &mut Effects) {
        let of = state.log.after();
        for (peer, progress) in self.peers.iter().filter(|(_, progress)| progress.pace == Pace::Snapshot) {
            state.send(*peer, Body::SnapshotNeeded { session: progress.session, of }, effects);
        }
    }

    /// A peer holds everything up to `upto`.
    pub(crate) fn accepted(
        &mut self,
        from: NodeId,
        (session, upto): (Session, LogIndex),
        now: Time,
        state: &mut State,
        effects: &mut Effects,
    ) {
        let (begin, last) = (state.log.after().index, state.log.last());
        if upto > last {
            return State::misbehaved(from, Misbehaviour::AcknowledgedUnsent { upto, last }, effects);
        }
        let Some(progress) = self.progress_of(from, session) else { return };
        progress.heard = now;
        progress.accepted(upto, begin);
        self.try_commit(now, state, effects);
        self.finish_transfer_if_caught_up(state, effects);
    }

    /// A peer lacks `missing`; the last entry that may be in both logs is no later than `hint`.
    ///
    /// Both sides skip whole terms: the peer by its hint, the leader by the last entry of its own log that could be
    /// the peer's (Raft §5.3, at its end).
    pub(crate) fn refused(
        &mut self,
        from: NodeId,
        session: Session,
        (missing, hint): (LogId, LogId),
        now: Time,
        state: &State,
    ) {
        let begin = state.log.after().index;
        let shared = if missing.index <= begin || hint.index < begin {
            // The logs part before this one begins: only a snapshot can help.
            hint.index.min(begin.prev())
        } else {
            state.log.last_at_most(hint.term, hint.index).index
        };
        if let Some(progress) = self.progress_of(from, session) {
            progress.heard = now;
            progress.refused(missing.index, shared);
        }
    }

    /// A new connection, or the loss of one: what was under way may be lost.
    pub(crate) fn reconnected(&mut self, peer: NodeId) {
        if let Some(progress) = self.progress_mut(peer) {
            progress.start_over();
        }
    }
}

/// The last entry that `to` may have yet.
///
/// No node may have a log so long that it must refuse its vote to the nodes that can lead, when it cannot campaign
/// itself and no other node need have that log: the group might stand still for ever (Raft §5.4.1; Ongaro §4.2.2,
/// figure 4.6). So a witness gets only what is durable here. And a voter that loses its vote at the end of a change
/// gets the configuration that says so only once it is committed, and nothing behind it.
fn last_for(to: NodeId, state: &State) -> LogIndex {
    let (set_at, counts) = (state.configurations.newest_at(), state.configuration());
    // What is decided holds no node back.
    let before = if set_at > state.commit { &state.configurations.at(set_at.prev()).1 } else { counts };
    let loses_its_vote = before.is_voter(to) && !counts.is_voter(to);
    let last = if loses_its_vote { set_at.prev() } else { state.log.last() };
    if counts.is_witness(to) || before.is_witness(to) { last.min(state.durable()) } else { last }
}
