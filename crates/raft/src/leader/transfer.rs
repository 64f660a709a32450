//! How a leader transfers its leadership (Ongaro §3.10): because it was asked to, because it leaves the group, because
//! another is preferred, or because it cannot do the work.

use super::Leader;
use crate::effect::{Effect, Effects, Event, TransferRefused};
use crate::election::{ElectionEvent, TransferCause};
use crate::id::{LogIndex, NodeId};
use crate::message::Body;
use crate::progress::Progress;
use crate::state::State;
use crate::time::Time;

/// A transfer under way. Nothing is proposed meanwhile, so that the next leader's log can reach the end of this one.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Transfer {
    pub(crate) to: NodeId,
    /// When to give it up and go on.
    pub(super) until: Time,
    /// It was told to campaign.
    told: bool,
}

impl Leader {
    /// Transfers the leadership to `to`, or to the fittest peer.
    ///
    /// # Errors
    /// If that node cannot lead, or a transfer is under way.
    pub(crate) fn transfer(
        &mut self,
        to: Option<NodeId>,
        now: Time,
        state: &mut State,
        effects: &mut Effects,
    ) -> Result<(), TransferRefused> {
        if let Some(transfer) = &self.transfer {
            return Err(TransferRefused::InProgress { to: transfer.to });
        }
        let to = match to {
            Some(node) if node == state.config.node => return Ok(()),
            Some(node) if may_lead(node, state) && self.progress(node).is_some() => node,
            Some(node) => return Err(TransferRefused::CannotLead { node }),
            None => self.fittest(state).ok_or(TransferRefused::Nobody)?,
        };
        self.begin_transfer(to, TransferCause::Asked, now, state, effects);
        Ok(())
    }

    /// The node to which it transfers the leadership, if it does.
    pub(crate) fn handing_over(&self) -> Option<NodeId> {
        self.transfer.as_ref().map(|transfer| transfer.to)
    }

    pub(super) fn transfer_to_the_fittest(
        &mut self,
        why: TransferCause,
        now: Time,
        state: &mut State,
        effects: &mut Effects,
    ) {
        if let Some(to) = self.fittest(state) {
            self.begin_transfer(to, why, now, state, effects);
        }
    }

    /// Whether anyone could take over.
    pub(super) fn has_successor(&self, state: &State) -> bool {
        self.fittest(state).is_some()
    }

    /// The peer that should lead next: one that is fit, preferred, and has the longest log.
    fn fittest(&self, state: &State) -> Option<NodeId> {
        let candidates = self.peers.iter().filter(|(peer, progress)| progress.fit && may_lead(*peer, state));
        let rank = |progress: &Progress| (progress.priority, progress.matched);
        candidates.max_by_key(|(_, progress)| rank(progress)).map(|(peer, _)| *peer)
    }

    fn begin_transfer(&mut self, to: NodeId, why: TransferCause, now: Time, state: &mut State, effects: &mut Effects) {
        let until = now + state.config.election_timeout;
        self.transfer = Some(Box::new(Transfer { to, until, told: false }));
        effects.push(Effect::Happened(Event::TransferBegun { to }));
        effects.push(Effect::Election(ElectionEvent::Transfers { to, why }));
        self.finish_transfer_if_caught_up(state, effects);
    }

    /// Tells the next leader to campaign once it has this whole log: then no node's log is longer, and it can win.
    pub(super) fn finish_transfer_if_caught_up(&mut self, state: &mut State, effects: &mut Effects) {
        let Some(to) = self.transfer.as_ref().filter(|transfer| !transfer.told).map(|transfer| transfer.to) else {
            return;
        };
        let matched = self.progress(to).map_or(LogIndex::ZERO, |progress| progress.matched);
        if matched < state.log.last() {
            return;
        }
        self.asked_another = true;
        self.transfer.iter_mut().for_each(|transfer| transfer.told = true);
        state.send(to, Body::TimeoutNow, effects);
    }

    /// With each heartbeat: gives up a transfer that takes too long, and begins one if another should lead. False if
    /// this node cannot do the work and no other node has taken it over: it must fall silent.
    pub(super) fn look_after_office(&mut self, now: Time, state: &mut State, effects: &mut Effects) -> bool {
        // Without a quorum that has room the next leader could not commit its first entry, and would answer no read; this
        // one does.
        let only_room_is_missing = state.is_healthy_ignoring_space(now) && !self.quorum_has_room(state);
        let is_healthy = state.is_healthy(now) || only_room_is_missing;
        if let Some(given_up) = self.transfer.take_if(|transfer| now >= transfer.until) {
            let to = given_up.to;
            effects.push(Effect::Happened(Event::TransferAborted { to }));
            return is_healthy;
        }
        if self.transfer.is_none() {
            if !is_healthy {
                let why = TransferCause::Unfit(state.what_is_unfit());
                self.transfer_to_the_fittest(why, now, state, effects);
            } else if let Some(to) = self.preferred(state) {
                self.begin_transfer(to, TransferCause::Preferred, now, state, effects);
            }
        }
        true
    }

    /// A peer that should rather lead than this node, and keeps up.
    pub(super) fn preferred(&self, state: &State) -> Option<NodeId> {
        // One attempt a term: a node that could not take over then may be unable to in a way that does not show.
        if self.asked_another || state.commit < self.first {
            return None;
        }
        let to = self.fittest(state)?;
        let progress = self.progress(to)?;
        let better = progress.priority > state.config.priority;
        (better && progress.keeps_up_with(self.committed_a_beat_ago)).then_some(to)
    }
}

/// Whether the group could be led by this node once the change under way, if there is one, is over.
pub(super) fn may_lead(node: NodeId, state: &State) -> bool {
    state.configuration().stays_voter(node) && !state.configuration().is_witness(node)
}
