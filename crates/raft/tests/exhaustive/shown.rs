//! What a group has shown so far: who has led which term, and what was committed. No crash undoes it.
//!
//! It is part of the state that is explored, so that a property which speaks of the past is one of the state.

use vlot_raft::effect::RoleName;
use vlot_raft::id::{LogId, LogIndex, NodeId, Term};
use vlot_raft::raft::Raft;

use super::rules::Rules;
use super::{Broken, broken, require};

#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Shown {
    /// Who has led each term, as long as some node could yet come to lead it.
    leaders: Vec<(Term, NodeId)>,
    /// The term of each committed entry.
    committed: Vec<Term>,
    /// How many crashes there were, if they are counted.
    crashes: u8,
}

impl Shown {
    /// Takes in what a replica shows after a step.
    pub fn with(&self, raft: &Raft) -> Result<Self, Broken> {
        let mut next = self.clone();
        next.see_leader(raft)?;
        next.see_commit(raft)?;
        next.is_complete(raft)?;
        Ok(next)
    }

    /// With one crash more, if there may be one.
    pub fn crashed(&self, rules: &Rules) -> Option<Self> {
        (self.crashes < rules.crashes).then(|| Self { crashes: self.crashes + 1, ..self.clone() })
    }

    /// The last committed entry.
    pub fn last_committed(&self) -> LogId {
        let index = LogIndex(self.committed.len() as u64);
        self.committed.last().map_or(LogId::ZERO, |&term| LogId { term, index })
    }

    /// Without the leaders of terms before `term`, which every disk knows: nobody can come to lead an earlier one.
    pub fn since(&self, term: Term) -> Self {
        let leaders = self.leaders.iter().copied().filter(|(led, _)| *led >= term).collect();
        Self { leaders, ..self.clone() }
    }

    /// Under other names.
    pub fn renamed(&self, name: impl Fn(NodeId) -> NodeId) -> Self {
        let leaders = self.leaders.iter().map(|&(term, leader)| (term, name(leader))).collect();
        Self { leaders, ..self.clone() }
    }

    /// Whether a step of a replica shows what was not shown before.
    pub fn is_news(was: &Raft, is: &Raft) -> bool {
        let begins_to_lead = is.role_state() != was.role_state() && is.role_state().role == RoleName::Leader;
        begins_to_lead || is.commit() > was.commit()
    }

    fn see_leader(&mut self, raft: &Raft) -> Result<(), Broken> {
        let (term, node) = (raft.role_state().term, raft.node());
        if raft.role_state().role != RoleName::Leader {
            return Ok(());
        }
        match self.leaders.iter().find(|(led, _)| *led == term) {
            Some((_, leader)) if *leader != node => {
                return broken("Election Safety", || format!("n{leader} and n{node} lead t{term}"));
            }
            Some(_) => {}
            None => {
                self.leaders.push((term, node));
                self.leaders.sort_unstable();
            }
        }
        Ok(())
    }

    /// All replicas commit the same entries (State Machine Safety, told by terms).
    fn see_commit(&mut self, raft: &Raft) -> Result<(), Broken> {
        let (begin, commit, node) = (raft.log().after().index.0.max(1), raft.commit().0, raft.node());
        for index in begin..=commit {
            let theirs = raft.log().term_at(LogIndex(index)).unwrap_or_default();
            match self.committed.get(index as usize - 1) {
                Some(&ours) if ours == theirs => {}
                Some(ours) => {
                    return broken("State Machine Safety", || {
                        format!("{index}@{ours} and, at n{node}, {index}@{theirs}")
                    });
                }
                None => self.committed.push(theirs),
            }
        }
        Ok(())
    }

    /// Whatever was committed in an earlier term is in the log of every later leader (Raft §5.4).
    ///
    /// The last committed entry is of the term in which it was committed, which is not so for those before it; and a log
    /// that has it has those too, by Log Matching.
    pub fn is_complete(&self, raft: &Raft) -> Result<(), Broken> {
        let (term, node, last) = (raft.role_state().term, raft.node(), self.last_committed());
        let is_later = raft.role_state().role == RoleName::Leader && term > last.term;
        let has = last.index <= raft.log().after().index || raft.log().contains(last);
        require("Leader Completeness", has || !is_later, || format!("n{node}, leader of t{term}, lacks {last}"))
    }
}
