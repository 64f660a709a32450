//! The candidate's role: ask for votes and count them (Raft §5.2), after asking whether it is worth it (Ongaro §9.6).
//!
//! Owns the answers to one poll. They exist only while it runs, so that no answer to one poll can count in another.
//! Must not know what a leader does with its office, nor how voters decide.

use crate::effect::Effects;
use crate::id::NodeId;
use crate::message::Body;
use crate::state::State;
use crate::time::Time;

/// A replica that campaigns, or asks whether it should.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Candidate {
    pub(crate) poll: Poll,
    granted: Vec<NodeId>,
    refused: Vec<NodeId>,
    pub(crate) cause: Cause,
    /// When to give up this poll.
    pub(crate) deadline: Time,
}

/// What is asked.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Poll {
    /// Would you vote for me in the next term? Binds no voter.
    PreVote,
    /// Vote for me in this term.
    Vote,
}

/// Why a node campaigns.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Cause {
    /// It has heard of no leader for an election timeout.
    Silence,
    /// It has lost its connection to the leader; it did not wait for the timeout.
    LostLeader,
    /// The leader has asked it to.
    Transfer,
}

/// How a poll stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    Open,
    Won,
    /// So many have refused that the rest cannot make a quorum.
    Rejected,
}

impl Candidate {
    /// Asks all other voters.
    pub(crate) fn begin(poll: Poll, cause: Cause, now: Time, state: &mut State, effects: &mut Effects) -> Self {
        let last = state.log.last_id();
        let own = state.config.node;
        let granted = match poll {
            // Asking commits to nothing, so its own consent needs no disk.
            Poll::PreVote => vec![own],
            // Its own vote counts once it is durable, like any other: see `count_own_vote`.
            Poll::Vote => {
                state.enter_term(state.term.next());
                state.vote = Some(own);
                state.save_vote(effects);
                Vec::new()
            }
        };
        let transfer = cause == Cause::Transfer;
        for peer in state.voting_peers() {
            match poll {
                Poll::PreVote => State::send_unheld(peer, state.term, Body::RequestPreVote { last }, effects),
                Poll::Vote => state.send(peer, Body::RequestVote { last, transfer }, effects),
            }
        }
        // A node that has lost the leader's connection may be the first to notice, and asks again soon.
        let heartbeat = state.config.heartbeat;
        let deadline = if cause == Cause::LostLeader && poll == Poll::PreVote {
            now + state.wait_within(heartbeat, 2 * heartbeat)
        } else {
            now + state.election_timeout()
        };
        Self { poll, granted, refused: Vec::new(), cause, deadline }
    }

    /// Counts the candidate's vote for itself once it is durable.
    pub(crate) fn count_own_vote(&mut self, state: &State) -> Outcome {
        if self.poll == Poll::Vote && state.unpersisted.vote_is_durable() {
            return self.count(state.config.node, true, state);
        }
        self.outcome(state)
    }

    /// Counts an answer; a voter's first one stands.
    pub(crate) fn count(&mut self, from: NodeId, granted: bool, state: &State) -> Outcome {
        if !self.granted.contains(&from) && !self.refused.contains(&from) {
            if granted { self.granted.push(from) } else { self.refused.push(from) }
        }
        self.outcome(state)
    }

    /// See [`crate::canonical`]. Votes count alike in whatever order they came.
    pub(crate) fn forget_time(&mut self, now: Time) {
        self.deadline = now;
        self.granted.sort_unstable();
        self.refused.sort_unstable();
    }

    /// The outcome as the answers stand.
    pub(crate) fn outcome(&self, state: &State) -> Outcome {
        if state.configuration().is_quorum(|node| self.granted.contains(&node)) {
            Outcome::Won
        } else if !state.configuration().is_quorum(|node| !self.refused.contains(&node)) {
            Outcome::Rejected
        } else {
            Outcome::Open
        }
    }
}
