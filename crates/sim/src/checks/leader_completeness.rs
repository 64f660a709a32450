//! Leader Completeness: if a log entry is committed in a given term, then that entry is present in the logs of the
//! leaders of all higher-numbered terms (Raft §5.4).

use super::{View, violation};
use vlot_raft::effect::RoleName;
use vlot_raft::id::{LogId, LogIndex, Term};
use vlot_raft::invariants::Violation;

const PROPERTY: &str = "Leader Completeness";

/// What was committed, and in which term.
///
/// Invariant: indices rise; so do the terms of commitment, since a leader whose term is over commits nothing more.
#[derive(Debug, Default)]
pub struct LeaderCompleteness {
    /// The last entry of each advance of the commit index, and the term of the first replica that knew it: a leader is
    /// the first to know what it commits.
    advances: Vec<(LogId, Term)>,
    /// The leaders whose logs were looked at, by the last that was.
    looked_at: Option<(Term, usize)>,
}

impl LeaderCompleteness {
    /// Looks at a replica.
    ///
    /// # Errors
    /// If it leads, and lacks what was committed in an earlier term.
    pub fn check(&mut self, view: &View<'_>) -> Result<(), Violation> {
        let known = self.advances.last().map_or(LogIndex::ZERO, |(id, _)| id.index);
        if view.commit > known
            && let Some(term) = view.log.term_at(view.commit)
        {
            self.advances.push((LogId { term, index: view.commit }, view.term));
        }
        if view.role != RoleName::Leader || self.looked_at == Some((view.term, view.place)) {
            return Ok(());
        }
        self.looked_at = Some((view.term, view.place));
        let earlier = self.advances.partition_point(|(_, in_term)| *in_term < view.term);
        match self.advances[..earlier].last() {
            Some((id, in_term)) if !view.has_had(*id) => {
                let (leader, term) = (view.node(), view.term);
                violation(PROPERTY, format!("n{leader} leads term {term} without {id}, committed in term {in_term}"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::testing::{founded, leader, log};

    fn check(check: &mut LeaderCompleteness, term: u64, terms: &[u64], commit: u64) -> Result<(), Violation> {
        let (log, founded) = (log(terms), founded(4));
        check.check(&View { commit: LogIndex(commit), ..leader(term as usize, term, &log, &founded) })
    }

    #[test]
    fn a_later_leader_must_have_what_was_committed() {
        let mut leaders = LeaderCompleteness::default();
        assert_eq!(check(&mut leaders, 1, &[1, 1, 1], 2), Ok(()));
        assert_eq!(check(&mut leaders, 2, &[1, 1, 2], 0), Ok(()), "what was not committed may be missing");
        assert!(check(&mut leaders, 3, &[1, 3], 0).is_err());
    }

    #[test]
    fn a_leader_of_an_earlier_term_may_lack_it() {
        let mut leaders = LeaderCompleteness::default();
        assert_eq!(check(&mut leaders, 3, &[1, 3], 2), Ok(()));
        assert_eq!(check(&mut leaders, 2, &[1, 2], 0), Ok(()), "elected late, by votes of long ago");
    }
}
