//! How an idle group falls asleep, and what wakes it: a group in which nothing happens has nothing to say.
//!
//! A leader whose followers have all it has announces that no heartbeat will follow, and sleeps once every one of them
//! has answered that it sleeps too. Asleep it has no deadline and leads on: whatever could bring another leader about
//! reaches it as an input, and wakes it (`docs/decisions/0015-sleeping-groups.md`). A peer that is away is not waited for
//! if the others are a quorum; its return is an input too. Owns when, and what counts as news.

use super::transfer::may_lead;
use super::{Leader, lost_after};
use crate::effect::{Effects, Input};
use crate::id::NodeId;
use crate::message::{Body, Message};
use crate::progress::Progress;
use crate::state::State;
use crate::time::Time;

/// Whether a leader sleeps.
///
/// Invariant: unless it is awake, everything in its log is committed, durable here and acknowledged by every peer that
/// was not away when sleep was announced, and the newest round of heartbeats is the announcement.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Sleep {
    Awake,
    /// It has announced its sleep, and sends the announcement with each heartbeat until all peers sleep or are away.
    Announced,
    Asleep,
}

impl Leader {
    /// Whether it sleeps.
    pub(crate) fn is_asleep(&self) -> bool {
        self.sleep == Sleep::Asleep
    }

    /// Heartbeats are due: announces sleep in their place if nothing has happened for long, and repeats it for the
    /// peers that have not answered. False if it must send heartbeats.
    pub(super) fn announce_sleep(&mut self, now: Time, state: &mut State, effects: &mut Effects) -> bool {
        if !self.may_sleep(now, state) {
            if self.call_off(now) {
                self.stirred = now;
            }
            return false;
        }
        if self.sleep == Sleep::Awake {
            // A round of its own: no answer to anything earlier counts for this announcement.
            self.reads.begin_round(None);
            self.sleep = Sleep::Announced;
        }
        self.heartbeat_due = now + state.config.heartbeat;
        let (round, upto) = (self.reads.round, state.log.last_id());
        for (peer, progress) in &mut self.peers {
            progress.told_commit = upto.index;
            state.send(*peer, Body::Sleep { session: progress.session, round, upto }, effects);
        }
        self.sleep_if_all_do(now, state);
        true
    }

    /// A peer of the newest round has said whether it sleeps. One that stays awake has a reason: it is asked again after
    /// as long a time as before.
    pub(super) fn follower_sleeps(
        &mut self,
        from: NodeId,
        is_asleep: bool,
        now: Time,
        state: &mut State,
        effects: &mut Effects,
    ) {
        if !is_asleep {
            return self.stir(now, state, effects);
        }
        if let Some(progress) = self.progress_mut(from) {
            progress.asleep = true;
        }
        self.sleep_if_all_do(now, state);
    }

    fn sleep_if_all_do(&mut self, now: Time, state: &mut State) {
        let all_sleep = self.peers.iter().all(|(_, progress)| progress.asleep || is_away(progress, now, state));
        let a_quorum_does = self.is_quorum(state, |_, progress| progress.asleep);
        if self.sleep == Sleep::Announced && all_sleep && a_quorum_does && self.may_sleep(now, state) {
            self.sleep = Sleep::Asleep;
            self.release_memory(state);
        }
    }

    /// Whether nothing has happened for as long as it takes, nothing is under way, and every peer has everything, or is
    /// away while the others are a quorum.
    fn may_sleep(&self, now: Time, state: &State) -> bool {
        let Some(after) = state.config.sleeps_after() else { return false };
        now.since(self.stirred) >= after
            && state.ready == state.log.last()
            && state.unpersisted.vote_is_durable()
            && state.is_healthy(now)
            && self.transfer.is_none()
            && self.reads.is_empty()
            && !state.configuration().is_joint()
            && self.preferred(state).is_none()
            && self.is_quorum(state, |_, progress| !is_away(progress, now, state))
            && self
                .peers
                .iter()
                .all(|(peer, progress)| is_away(progress, now, state) || is_at_rest(*peer, progress, now, state))
    }

    /// Whether this node and those peers are a quorum.
    fn is_quorum(&self, state: &State, of: impl Fn(NodeId, &Progress) -> bool) -> bool {
        let own = state.config.node;
        let counts = |node| node == own || self.progress(node).is_some_and(|progress| of(node, progress));
        state.configuration().is_quorum(counts)
    }

    /// A peer's node is gone, or silent. If it slept, it is away from now on.
    pub(crate) fn sleeps_no_more(&mut self, peer: NodeId) {
        if let Some(progress) = self.progress_mut(peer) {
            progress.asleep = false;
        }
    }

    /// Whether an input is news, so that the group must be awake. Time, what the own disk has done and what the own
    /// state machine has made durable is none, nor is an answer to a heartbeat. Asleep, every peer is known to sleep or to be
    /// away: one that is said to be awake is news, and one that is gone is if the others that sleep are no quorum.
    pub(crate) fn is_stirred_by(&self, input: &Input, state: &State) -> bool {
        match input {
            Input::Tick
            | Input::Persisted { .. }
            | Input::VotePersisted { .. }
            | Input::Compact { .. }
            | Input::SnapshotReceived { .. } => false,
            Input::Fitness { fit } => *fit != state.applies,
            Input::Room { is_there } => *is_there != state.has_room,
            Input::Connected { peer } => self.progress(*peer).is_some(),
            Input::Lost { peer } | Input::Silent { peer } => {
                let sleeps_on = |node, progress: &Progress| node != *peer && progress.asleep;
                self.progress(*peer).is_some() && !(self.is_asleep() && self.is_quorum(state, sleeps_on))
            }
            Input::Receive { message: Message { term, body: Body::HeartbeatReply { asleep, .. } }, .. } => {
                *term > state.term || (self.is_asleep() && !asleep)
            }
            Input::Receive { .. }
            | Input::Propose { .. }
            | Input::ChangeConfiguration { .. }
            | Input::Transfer { .. }
            | Input::Unreadable { .. }
            | Input::Read { .. }
            | Input::Wake => true,
        }
    }

    /// Something happens: the time without news begins anew, and if sleep was announced it is called off.
    pub(crate) fn stir(&mut self, now: Time, state: &mut State, effects: &mut Effects) {
        self.stirred = now;
        if self.call_off(now) {
            self.send_heartbeats(now, state, effects);
        }
    }

    /// Is awake from now on. False if it was; else followers may sleep, and heartbeats must wake them.
    fn call_off(&mut self, now: Time) -> bool {
        let was = std::mem::replace(&mut self.sleep, Sleep::Awake);
        if was == Sleep::Awake {
            return false;
        }
        for (_, progress) in &mut self.peers {
            if std::mem::take(&mut progress.asleep) && was == Sleep::Asleep {
                // It had not to answer while it slept: the leader's office is not over before it could have.
                progress.heard = now;
            }
        }
        true
    }
}

/// Whether a peer has not answered for so long that its node must be taken for gone. It may miss whatever has happened
/// since: when its node is there again the host says so, or it asks.
fn is_away(progress: &Progress, now: Time, state: &State) -> bool {
    now.since(progress.heard) > state.config.election_timeout
}

/// Whether a peer has all there is, has answered lately, and nothing more is to be expected of it.
fn is_at_rest(peer: NodeId, progress: &Progress, now: Time, state: &State) -> bool {
    progress.keeps_up_with(state.log.last())
        && now.since(progress.heard) <= lost_after(state)
        && !progress.full
        // One that cannot lead anyway says that it is not fit.
        && (progress.fit || !may_lead(peer, state))
}
