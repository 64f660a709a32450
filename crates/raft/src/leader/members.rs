//! How members come and go (Raft §6; Ongaro §4).
//!
//! Any change of voters passes through a joint configuration: it begins when a leader appends one, and ends when a
//! leader, this one or a later, sees it committed and appends what is left of it. One at a time.

use super::Leader;
use crate::configuration::{Change, ChangeRefused, Seat};
use crate::effect::Effects;
use crate::election::TransferCause;
use crate::id::{LogIndex, NodeId};
use crate::message::{Body, Session};
use crate::progress::Progress;
use crate::state::State;
use crate::time::Time;

impl Leader {
    /// Begins a change.
    ///
    /// # Errors
    /// If it may not begin, or its end would be a group that cannot decide.
    pub(crate) fn change(
        &mut self,
        changes: &[Change],
        now: Time,
        state: &mut State,
        effects: &mut Effects,
    ) -> Result<(), ChangeRefused> {
        if let Some(transfer) = &self.transfer {
            return Err(ChangeRefused::Transferring { to: transfer.to });
        }
        if !state.has_room || !self.quorum_has_room(state) {
            return Err(ChangeRefused::NoSpace);
        }
        // Before that it could build on a configuration that a quorum of another one has replaced (Ongaro's correction of
        // 2015 to §4.1).
        if state.commit < self.first {
            return Err(ChangeRefused::TooSoon);
        }
        if state.configurations.newest_at() > state.commit {
            return Err(ChangeRefused::InProgress);
        }
        let next = state.configuration().changed(changes)?;
        let promoted = |member: &&crate::configuration::Member| {
            member.seat == Seat::Joining && state.configuration().contains(member.node)
        };
        if let Some(late) = next.members().iter().filter(promoted).find(|member| !self.has_caught_up(member.node)) {
            return Err(ChangeRefused::NotCaughtUp { node: late.node });
        }
        let end = state.log.last();
        state.append_configuration(next, effects);
        self.take_in_members(end, now, state);
        Ok(())
    }

    /// Whether a learner has all that was committed a heartbeat ago, and is in step (Ongaro §4.2.1).
    fn has_caught_up(&self, node: NodeId) -> bool {
        self.progress(node).is_some_and(|progress| progress.keeps_up_with(self.committed_a_beat_ago))
    }

    /// Begins to replicate to members that are new. Their logs may end where this one did, at `end`.
    pub(super) fn take_in_members(&mut self, end: LogIndex, now: Time, state: &State) {
        let session = Session(state.configurations.newest_at());
        for node in state.configuration().nodes().filter(|&node| node != state.config.node) {
            if self.progress(node).is_none() {
                self.peers.push((node, Progress::unknown(session, end, now)));
            }
        }
    }

    /// Goes on with a change whose entry is committed.
    ///
    /// A joint configuration gives way to the new one. A leader that is not in it transfers the leadership before, so
    /// that no group is ever led from outside (Raft §6 lets it lead on until then).
    pub(super) fn finish_change(&mut self, now: Time, state: &mut State, effects: &mut Effects) {
        let set_at = state.configurations.newest_at();
        if set_at > state.commit || state.commit < self.first {
            return;
        }
        if !state.configuration().is_joint() {
            return self.dismiss_members(set_at, state, effects);
        }
        // It is looked at again with each heartbeat.
        if !state.has_room && state.configuration().stays_voter(state.config.node) {
            return;
        }
        if self.transfer.is_some() {
            return;
        }
        if state.configuration().stays_voter(state.config.node) {
            let settled = state.configuration().settled();
            state.append_configuration(settled, effects);
        } else {
            self.transfer_to_the_fittest(TransferCause::Leaves, now, state, effects);
        }
    }

    /// Tells those that are no members any more, and forgets them.
    fn dismiss_members(&mut self, set_at: LogIndex, state: &mut State, effects: &mut Effects) {
        if self.peers.iter().all(|(peer, _)| state.configuration().contains(*peer)) {
            return;
        }
        let (stay, leave) = std::mem::take(&mut self.peers)
            .into_iter()
            .partition(|(peer, _): &(NodeId, Progress)| state.configuration().contains(*peer));
        self.peers = stay;
        for (peer, _) in leave {
            state.send(peer, Body::Removed { at: set_at }, effects);
        }
    }

    /// More than `was` is decided. If that is the end of a change which an earlier leader has begun, the nodes that it
    /// removes have never been peers of this one, and perhaps no other node has lived to tell them.
    pub(super) fn tell_who_has_left(&self, was: LogIndex, state: &mut State, effects: &mut Effects) {
        let (set_at, newest) = (state.configurations.newest_at(), state.configuration());
        if set_at <= was || set_at > state.commit || newest.is_joint() {
            return;
        }
        let has_left = |node: &NodeId| !newest.contains(*node) && self.progress(*node).is_none();
        let (_, before) = state.configurations.at(set_at.prev());
        for node in before.nodes().filter(has_left).collect::<Vec<_>>() {
            state.send(node, Body::Removed { at: set_at }, effects);
        }
    }
}
