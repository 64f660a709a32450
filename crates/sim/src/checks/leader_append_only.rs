//! Leader Append-Only: a leader never overwrites or deletes entries in its log; it only appends (Raft §5.3).

use super::{View, violation};
use crate::place::Place;
use vlot_raft::effect::RoleName;
use vlot_raft::id::{LogId, Term};
use vlot_raft::invariants::Violation;

const PROPERTY: &str = "Leader Append-Only";

/// For each node that leads, its term and the end of its log.
#[derive(Debug)]
pub struct LeaderAppendOnly {
    leaders: Vec<Option<(Term, LogId)>>,
}

impl LeaderAppendOnly {
    /// Nothing is known yet of so many nodes.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        Self { leaders: vec![None; nodes] }
    }

    /// A process begins; what it led before ended with the one before.
    pub fn begun(&mut self, place: Place) {
        self.leaders[place] = None;
    }

    /// Looks at a replica.
    ///
    /// # Errors
    /// If it leads, and has lost an entry that it had while it led.
    pub fn check(&mut self, view: &View<'_>) -> Result<(), Violation> {
        let last = view.log.last_id();
        let now = (view.role == RoleName::Leader).then_some((view.term, last));
        match std::mem::replace(&mut self.leaders[view.place], now) {
            Some((term, had)) if now.is_some() && term == view.term && !view.has_had(had) => violation(
                PROPERTY,
                format!("n{} led term {term} with {had}, and its log ends with {last}", view.node()),
            ),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::testing::{founded, leader, log};
    use vlot_raft::term_runs::TermRuns;

    fn check(check: &mut LeaderAppendOnly, term: u64, log: &TermRuns) -> Result<(), Violation> {
        check.check(&leader(0, term, log, &founded(1)))
    }

    #[test]
    fn a_leader_that_cuts_its_log_is_noticed() {
        let mut leaders = LeaderAppendOnly::new(1);
        assert_eq!(check(&mut leaders, 2, &log(&[1; 5])), Ok(()));
        assert_eq!(check(&mut leaders, 2, &log(&[1; 6])), Ok(()));
        assert_eq!(check(&mut leaders, 2, &TermRuns::one_term(LogId::new(1, 6), Term(2), 1)), Ok(()), "cut in front");
        assert!(check(&mut leaders, 2, &log(&[1; 5])).is_err());
    }

    #[test]
    fn between_two_terms_in_office_the_log_may_be_cut() {
        let mut leaders = LeaderAppendOnly::new(1);
        assert_eq!(check(&mut leaders, 2, &log(&[1; 5])), Ok(()));
        assert_eq!(check(&mut leaders, 4, &log(&[1; 3])), Ok(()));
    }
}
