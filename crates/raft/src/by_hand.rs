//! Replicas for the tests of this crate's rules: started, brought to a role, bent. A host of few lines, on a disk that is
//! done at once.

use crate::configuration::{Configuration, Configurations, Member, Seat};
use crate::effect::{Effect, Input, RoleName};
use crate::id::{LogId, LogIndex, NodeId, Term};
use crate::message::{Body, Message};
use crate::raft::Raft;
use crate::state::{Config, Restored, State};
use crate::term_runs::TermRuns;
use crate::time::{Rng, Time};

/// Later than any first deadline.
pub(crate) const NOW: Time = Time::from_millis(10_000);

/// Entries of these terms after `after`.
pub(crate) fn log(after: LogId, terms: &[u64]) -> TermRuns {
    let mut runs = TermRuns::empty(after);
    terms.iter().for_each(|&term| runs.push(Term(term), 1));
    runs
}

/// `voters` vote, the first `witnesses` of them as witnesses, and `learners` learn.
pub(crate) fn members(voters: &[u64], witnesses: usize, learners: &[u64]) -> Configuration {
    let seat = |node: u64, seat, witness| Member { node: NodeId(node), seat, witness };
    let voters = voters.iter().enumerate().map(|(place, &node)| seat(node, Seat::Voter, place < witnesses));
    let mut all: Vec<Member> = voters.chain(learners.iter().map(|&node| seat(node, Seat::Learner, false))).collect();
    all.sort_unstable();
    Configuration::of_members(all).expect("members in order")
}

pub(crate) fn three() -> Configurations {
    Configurations::begin(members(&[1, 2, 3], 0, &[]))
}

/// What `node` is when it starts with this behind it.
pub(crate) fn started(node: u64, term: u64, log: TermRuns, applied: u64, configurations: Configurations) -> Raft {
    let restored = Restored { term: Term(term), vote: None, log, applied: LogIndex(applied), configurations };
    Raft::new(Config::new(NodeId(node)), restored, Time::default(), Rng::new(node))
}

/// Brings it into the role, in the term after its own, by the votes of all the others.
pub(crate) fn come_to(role: RoleName, now: Time, mut raft: Raft) -> Raft {
    let others: Vec<NodeId> = raft.configuration().voters().filter(|&node| node != raft.node()).collect();
    step(&mut raft, now, Input::Tick);
    for (asks, grants) in [(RoleName::PreCandidate, Body::PreVoteGranted), (RoleName::Candidate, Body::VoteGranted)] {
        for &from in &others {
            if raft.role_state().role == asks && role != asks {
                hear(&mut raft, now, from, grants.clone());
            }
        }
    }
    assert_eq!(raft.role_state().role, role);
    raft
}

pub(crate) fn hear(raft: &mut Raft, now: Time, from: NodeId, body: Body) {
    let message = Message { term: raft.role_state().term, body };
    step(raft, now, Input::Receive { from, message });
}

/// One input; what it asks to be written is durable at once.
pub(crate) fn step(raft: &mut Raft, now: Time, input: Input) {
    let mut effects = Vec::new();
    raft.step(now, input, &mut effects);
    let write = |effect: &Effect| match effect {
        Effect::SaveVote { write, .. } | Effect::Append { write, .. } | Effect::Compact { write, .. } => Some(*write),
        _ => None,
    };
    if let Some(write) = effects.iter().rev().find_map(write) {
        step(raft, now, Input::Persisted { write });
    }
}

/// The same replica, with this changed by hand.
pub(crate) fn bent(raft: &Raft, bend: impl FnOnce(&mut State)) -> Raft {
    let mut raft = raft.clone();
    bend(raft.state_mut());
    raft
}
