//! What must hold of one replica, between two of its states, and across a group (Raft, figure 3).
//!
//! Checks only; changes nothing. Tests and the simulator call it after every step.

use crate::effect::RoleName;
use crate::id::{LogId, LogIndex, NodeId, Term};
use crate::raft::Raft;
use crate::state::State;
use crate::time::Time;

/// A property that does not hold, in the words of the paper where it has them, and the values that show it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// The property's name.
    pub property: &'static str,
    /// The values.
    pub shown_by: String,
}

/// Checks one state.
///
/// # Errors
/// The first property that does not hold.
pub fn check_one(raft: &Raft) -> Result<(), Violation> {
    let state = raft.state();
    let (ready, commit, durable, last) = (state.ready, state.commit, state.durable(), state.log.last());
    require("ready <= commit <= last", ready <= commit && commit <= last, || format!("{ready} {commit} {last}"))?;
    require("what may be applied is durable", ready <= durable, || format!("ready {ready}, durable {durable}"))?;
    let newest = state.log.last_id().term;
    require("no entry of a later term", newest <= state.term, || format!("entry of {newest}, term {}", state.term))?;
    let role_state = raft.role_state();
    require(
        "a candidate has voted for itself",
        role_state.role != RoleName::Candidate || state.vote == Some(raft.node()),
        || format!("vote {:?}", state.vote),
    )?;
    let (begin, set_at) = (state.log.after().index, state.configurations.newest_at());
    require("the log begins with what is applied", begin <= ready.max(commit), || format!("begins after {begin}"))?;
    require("a configuration is set by an entry", set_at <= last, || format!("set at {set_at}, last {last}"))?;
    require("no leader without the payloads", role_state.role != RoleName::Leader || !is_witness(raft), || {
        "it is a witness".into()
    })?;
    require(
        "no leader with damaged payloads",
        role_state.role != RoleName::Leader || state.unreadable().is_none(),
        || format!("{:?} cannot be read", state.unreadable()),
    )?;
    require(
        "a log that begins later begins with members",
        begin == LogIndex::ZERO || knows_its_first_members(state),
        || format!("begins after {begin}"),
    )?;
    check_standing(raft, role_state.role)?;
    check_sleep(raft)?;
    for (peer, matched) in raft.matched() {
        require("matched <= last", matched <= last, || format!("{peer} matched {matched}, last {last}"))?;
    }
    Ok(())
}

/// Only a voter that has the payloads campaigns or waits to (Raft §6; Ongaro §4.2).
fn check_standing(raft: &Raft, role: RoleName) -> Result<(), Violation> {
    let may_stand = raft.state().may_stand();
    let waits = raft.deadline() < Time::NEVER;
    let (property, holds) = match role {
        RoleName::Follower if raft.is_asleep() => ("a sleeper waits for nothing", !waits),
        RoleName::Follower => ("a node has a deadline if it may campaign, and else none", waits == may_stand),
        RoleName::PreCandidate | RoleName::Candidate => ("a candidate may campaign", may_stand),
        RoleName::Leader => ("a leader votes", raft.configuration().is_voter(raft.node())),
    };
    require(property, holds, || format!("{role:?} {} of {:?}", raft.node(), raft.configuration().members()))
}

/// Only a replica sleeps that has everything its leader has, all of it decided and durable. A leader sleeps only if a
/// quorum sleeps, and all that sleep have as much.
fn check_sleep(raft: &Raft) -> Result<(), Violation> {
    if !raft.is_asleep() {
        return Ok(());
    }
    let (state, last) = (raft.state(), raft.log().last());
    require("a sleeper has a leader", raft.role_state().leader.is_some(), || format!("{:?}", raft.role_state()))?;
    require("a sleeper is configured to sleep", state.config.sleeps_after().is_some(), || {
        format!("{:?}", state.config)
    })?;
    // What is damaged, or does not fit, may have become so since.
    require("a sleeper has nothing uncommitted", state.commit == last, || format!("{} of {last}", state.commit))?;
    require("a sleeper has nothing that is not durable", state.durable() == last, || {
        format!("{} of {last}", state.durable())
    })?;
    let leads = raft.role_state().role == RoleName::Leader;
    require("a leader sleeps when no change is under way", !leads || !raft.configuration().is_joint(), || {
        format!("{:?}", raft.configuration().members())
    })?;
    let behind = raft.matched().find(|(peer, matched)| raft.counts_on_sleep_of(*peer) && *matched != last);
    require("a leader sleeps when all that sleep have all", behind.is_none(), || format!("{behind:?}, last {last}"))?;
    let sleeps = |node| node == raft.node() || raft.counts_on_sleep_of(node);
    require("a leader sleeps when a quorum does", !leads || raft.configuration().is_quorum(sleeps), || {
        format!("{:?}", raft.configuration().members())
    })
}

/// All replicas that sleep by the word of a leader that sleeps have its log, but for those that it takes for away: they
/// may sleep by an earlier word of it.
///
/// # Errors
/// If it does not hold.
pub fn check_sleepers(leader: &Raft, other: &Raft) -> Result<(), Violation> {
    let (leads, follows) = (leader.role_state(), other.role_state());
    let sleep = leader.is_asleep()
        && leader.counts_on_sleep_of(other.node())
        && other.is_asleep()
        && leads.term == follows.term;
    let (ours, theirs) = ((leader.log().last_id(), leader.commit()), (other.log().last_id(), other.commit()));
    // One that was removed in its sleep, and not told, has missed that.
    let is_member = leader.configuration().contains(other.node());
    require("all sleepers have the same log", !sleep || !is_member || ours == theirs, || {
        format!("{ours:?} at {}, {theirs:?} at {}", leader.node(), other.node())
    })
}

/// Checks a step from one state to the next of the same process.
///
/// # Errors
/// The first property that does not hold.
pub fn check_step(before: &Raft, after: &Raft) -> Result<(), Violation> {
    let (old, new) = (before.state(), after.state());
    require("term never falls", new.term >= old.term, || format!("{} then {}", old.term, new.term))?;
    let vote_kept = new.term > old.term || old.vote.is_none() || new.vote == old.vote;
    require("one vote a term", vote_kept, || format!("{:?} then {:?} in {}", old.vote, new.vote, old.term))?;
    require("commit never falls", new.commit >= old.commit, || format!("{} then {}", old.commit, new.commit))?;
    require("ready never falls", new.ready >= old.ready, || format!("{} then {}", old.ready, new.ready))?;
    let still_leads = before.role_state().role == RoleName::Leader
        && after.role_state().role == RoleName::Leader
        && old.term == new.term;
    require("Leader Append-Only", !still_leads || extends(new.log.last_id(), old.log.last_id(), after), || {
        format!("{} then {}", old.log.last_id(), new.log.last_id())
    })?;
    let kept = !knows_its_first_members(old) || knows_its_first_members(new);
    require("a node that knows the members keeps knowing them", kept, || {
        format!(
            "{:?} then {:?}",
            old.configurations.at(old.log.after().index),
            new.configurations.at(new.log.after().index)
        )
    })?;
    let (began, begins) = (old.log.after(), new.log.after());
    require("the log's beginning never goes back", begins.index >= began.index, || format!("{began} then {begins}"))?;
    let compacted = new.log.after().index >= old.commit;
    let kept = compacted || new.log.term_at(old.commit) == old.log.term_at(old.commit);
    require("committed entries stay", kept, || format!("entry {}", old.commit))?;
    if still_leads {
        for (peer, was) in before.matched() {
            // A peer that was dismissed and came back begins anew, under another session.
            let is = after.matched().find(|(same, _)| *same == peer).map_or(was, |(_, is)| is);
            require("matched never falls", is >= was, || format!("{peer}: {was} then {is}"))?;
        }
    }
    let one_at_a_time = !still_leads
        || new.configurations.newest_at() == old.configurations.newest_at()
        || old.configurations.newest_at() <= new.commit;
    require("one change at a time", one_at_a_time, || {
        format!("{} then {}, commit {}", old.configurations.newest_at(), new.configurations.newest_at(), new.commit)
    })?;
    Ok(())
}

/// What a group has shown so far: the leader of each term and what was committed. Restarts of replicas do not change
/// it.
#[derive(Clone, Debug, Default)]
pub struct History {
    leaders: std::collections::BTreeMap<Term, NodeId>,
    committed: Vec<Term>,
}

impl History {
    /// Takes in one replica's present state and checks it against all that was seen.
    ///
    /// # Errors
    /// The first property that does not hold.
    pub fn check(&mut self, raft: &Raft) -> Result<(), Violation> {
        let role_state = raft.role_state();
        if role_state.role == RoleName::Leader {
            let leader = *self.leaders.entry(role_state.term).or_insert(raft.node());
            require("Election Safety", leader == raft.node(), || {
                format!("{leader} and {} lead term {}", raft.node(), role_state.term)
            })?;
            self.check_leader_completeness(raft, role_state.term)?;
        }
        self.check_committed(raft)?;
        self.check_who_ends_a_change(raft)
    }

    /// The term of each committed entry, the first one's first.
    #[must_use]
    pub fn committed(&self) -> &[Term] {
        &self.committed
    }

    /// Names the last committed entry.
    #[must_use]
    pub fn last_committed(&self) -> LogId {
        let term = self.committed.last().copied().unwrap_or_default();
        LogId { term, index: LogIndex(self.committed.len() as u64) }
    }

    /// Whatever was committed in an earlier term is in the log of every later leader (Raft §5.4).
    fn check_leader_completeness(&self, raft: &Raft, term: Term) -> Result<(), Violation> {
        let Some((at, &newest)) = self.committed.iter().enumerate().next_back() else { return Ok(()) };
        let index = LogIndex(at as u64 + 1);
        let begins_later = index < raft.log().after().index;
        let complete = newest >= term || begins_later || raft.log().term_at(index) == Some(newest);
        require("Leader Completeness", complete, || {
            format!("leader {} of term {term} lacks {}", raft.node(), LogId { term: newest, index })
        })
    }

    /// A configuration that ends a change is only on nodes that vote in it, until it is committed: any other node that
    /// had it could neither campaign nor vote for a candidate without it (Ongaro §4.2.2, figure 4.6).
    fn check_who_ends_a_change(&self, raft: &Raft) -> Result<(), Violation> {
        let configurations = raft.configurations();
        let (set_at, node) = (configurations.newest_at(), raft.node());
        let (_, before) = configurations.at(set_at.prev());
        let loses_its_vote = before.is_voter(node) && !configurations.newest().is_voter(node);
        require(
            "the end of a change is with its voters",
            !loses_its_vote || set_at <= self.last_committed().index,
            || format!("{node} has the configuration of {set_at}, committed is {}", self.last_committed()),
        )
    }

    /// All replicas commit the same entries (State Machine Safety, told by terms: Log Matching makes them names).
    fn check_committed(&mut self, raft: &Raft) -> Result<(), Violation> {
        let commit = raft.commit().0;
        let known = self.committed.len() as u64;
        // Entries behind `known` were compared when they were first committed; the newest shared one stands for them,
        // by Log Matching.
        let shared = commit.min(known);
        if shared > 0 && shared >= raft.log().after().index.0 {
            let (theirs, ours) = (raft.log().term_at(LogIndex(shared)), self.committed[shared as usize - 1]);
            require("State Machine Safety", theirs == Some(ours), || {
                format!("entry {shared} is of term {ours}, at {} of {theirs:?}", raft.node())
            })?;
        }
        for index in known + 1..=commit {
            let term = raft.log().term_at(LogIndex(index)).unwrap_or_default();
            self.committed.push(term);
        }
        Ok(())
    }
}

/// Log Matching between two replicas: if both have an entry of the same index and term, everything before is the same
/// (Raft §5.3).
///
/// # Errors
/// If it does not hold.
pub fn check_log_matching(one: &Raft, other: &Raft) -> Result<(), Violation> {
    let (a, b) = (one.log(), other.log());
    let begin = a.after().index.max(b.after().index);
    let mut shared = false;
    // The entry before the first counts too: its term is known.
    for index in (begin.0..=a.last().min(b.last()).0).rev().map(LogIndex) {
        let same = a.term_at(index) == b.term_at(index);
        require("Log Matching", same || !shared, || {
            format!("{} and {} differ at {index} and agree behind it", one.node(), other.node())
        })?;
        shared |= same;
    }
    Ok(())
}

fn extends(last: LogId, earlier: LogId, raft: &Raft) -> bool {
    last >= earlier && (raft.log().contains(earlier) || earlier.index < raft.log().after().index)
}

/// Whether the members are known that the group had where the log begins. (What an entry says may be cut with it.)
fn knows_its_first_members(state: &State) -> bool {
    let (_, configuration) = state.configurations.at(state.log.after().index);
    configuration.voters().next().is_some()
}

fn is_witness(raft: &Raft) -> bool {
    raft.configuration().is_witness(raft.node())
}

fn require(property: &'static str, holds: bool, shown_by: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { property, shown_by: shown_by() }) }
}

#[cfg(test)]
mod tests;
