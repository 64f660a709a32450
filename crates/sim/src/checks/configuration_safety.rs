//! Configuration Safety: no two disjoint quorums decide (Raft §6).
//!
//! The voters that elect a leader have a node in common with the nodes that held what was committed before. And what
//! makes it true: the configuration that counts is that of the newest entry of the log which sets one, after a restart
//! too; a leader changes one thing at a time, and only once it has committed an entry of its own term (Ongaro's
//! correction of 2015 to §4.1); two voters' configurations follow each other only by way of a joint one.

use super::{View, violation};
use crate::place::Place;
use std::collections::BTreeMap;
use vlot_log::record::Entry;
use vlot_node::members::MembersAt;
use vlot_node::payload::{self, Payload};
use vlot_raft::configuration::{Configuration, Seat};
use vlot_raft::effect::RoleName;
use vlot_raft::id::{LogId, LogIndex, NodeId, Term};
use vlot_raft::invariants::Violation;

const PROPERTY: &str = "Configuration Safety";

/// Every configuration there was, and which nodes have decided what.
#[derive(Debug)]
pub struct ConfigurationSafety {
    founders: Configuration,
    /// What the entries at an index have set, by their terms.
    set: BTreeMap<LogIndex, Vec<(Term, Configuration)>>,
    /// What committed entries have set.
    committed: BTreeMap<LogIndex, Configuration>,
    /// The voters that have elected the leader of a term.
    elections: BTreeMap<Term, Vec<NodeId>>,
    /// The last entry that was committed in a term, and the nodes that held it.
    commits: BTreeMap<Term, (LogId, Vec<NodeId>)>,
}

impl ConfigurationSafety {
    /// A group of these first members.
    #[must_use]
    pub fn new(founders: Configuration) -> Self {
        Self {
            founders,
            set: BTreeMap::new(),
            committed: BTreeMap::new(),
            elections: BTreeMap::new(),
            commits: BTreeMap::new(),
        }
    }

    /// A replica appends entries.
    ///
    /// # Errors
    /// If one sets a configuration that it must not.
    pub fn appended(&mut self, view: &View<'_>, entries: &[Entry]) -> Result<(), Violation> {
        for Entry { id, payload } in entries.iter().filter(|entry| payload::sets_configuration(&entry.payload)) {
            let Ok(Payload::Configuration(entry)) = payload::decode(payload.clone()) else { continue };
            let configuration = entry.members.configuration();
            // What was replaced within the same turn cannot be told from the view.
            if view.log.contains(*id) {
                let before = view.configurations.at(id.index.prev());
                self.follows(view, *id, before, configuration)?;
            }
            let at_index = self.set.entry(id.index).or_default();
            if at_index.iter().all(|(term, _)| *term != id.term) {
                at_index.push((id.term, configuration.clone()));
            }
        }
        Ok(())
    }

    /// Whether a configuration may follow the one before.
    fn follows(
        &self,
        view: &View<'_>,
        id: LogId,
        (before_at, before): &(LogIndex, Configuration),
        next: &Configuration,
    ) -> Result<(), Violation> {
        let old_voters = |configuration: &Configuration| -> Vec<NodeId> {
            let votes = |seat| matches!(seat, Seat::Voter | Seat::Leaving | Seat::Retiring);
            configuration.members().iter().filter(|member| votes(member.seat)).map(|member| member.node).collect()
        };
        // A log that is about to be told of its first members has none.
        let is_neighbour = match before.members().is_empty() {
            true => true,
            false if before.is_joint() => *next == before.settled(),
            false => old_voters(next) == old_voters(before),
        };
        let node = view.node();
        if !is_neighbour {
            let shown_by = format!("n{node}: {id} sets {:?} after {:?}", next.members(), before.members());
            return violation(PROPERTY, shown_by);
        }
        if view.role == RoleName::Leader && view.term == id.term {
            if *before_at > view.commit {
                let shown_by = format!("n{node} changes members with {id}, and the change at {before_at} is not over");
                return violation(PROPERTY, shown_by);
            }
            if view.log.term_at(view.commit).is_some_and(|term| term < view.term) {
                let shown_by = format!("n{node} changes members with {id}, and has committed nothing in its term");
                return violation(PROPERTY, shown_by);
            }
        }
        Ok(())
    }

    /// An entry is applied.
    pub fn applied(&mut self, index: LogIndex, payload: &Payload) {
        if let Payload::Configuration(entry) = payload {
            self.committed.entry(index).or_insert_with(|| entry.members.configuration().clone());
        }
    }

    /// A node is about to take in a snapshot of a group with these members.
    ///
    /// # Errors
    /// If others belonged to it then.
    pub fn staged(&self, place: Place, index: LogIndex, members: &MembersAt) -> Result<(), Violation> {
        let (at, configuration) = self.committed_at(index);
        if (at, configuration) != (members.at, members.entry.members.configuration()) {
            let shown_by = format!("n{} gets a snapshot of {index} with the members of {}", place + 1, members.at);
            return violation(PROPERTY, format!("{shown_by}, and those of then are of {at}"));
        }
        Ok(())
    }

    /// Looks at a replica.
    ///
    /// # Errors
    /// If the configuration that counts there is not that of its log.
    pub fn check(&self, view: &View<'_>) -> Result<(), Violation> {
        let (at, counts) = (view.configurations.newest_at(), view.configurations.newest());
        let (expected_at, expected) = self.of_log(view);
        let joins = at == LogIndex::ZERO && counts.members().is_empty();
        if at != expected_at || (counts != expected && !joins) {
            let shown_by = format!("n{} goes by the members of {at}, {:?}", view.node(), counts.members());
            let expected = expected.members();
            return violation(PROPERTY, format!("{shown_by}, and its log by those of {expected_at}, {expected:?}"));
        }
        Ok(())
    }

    /// A leader was elected.
    ///
    /// # Errors
    /// If none of the nodes that have elected it held what was committed before.
    pub fn elected(&mut self, term: Term, voters: Vec<NodeId>) -> Result<(), Violation> {
        if let Some((_, commit)) = self.commits.range(..term).next_back() {
            meet((term, &voters), commit)?;
        }
        self.elections.insert(term, voters);
        Ok(())
    }

    /// An entry is known to be committed for the first time.
    ///
    /// # Errors
    /// If none of the nodes that hold it has elected a leader of a later term.
    pub fn committed(&mut self, term: Term, id: LogId, holders: Vec<NodeId>) -> Result<(), Violation> {
        let commit = (id, holders);
        for (later, voters) in self.elections.range(term.next()..) {
            meet((*later, voters), &commit)?;
        }
        self.commits.insert(term, commit);
        Ok(())
    }

    /// The configuration that counts in a log, and the entry that has set it.
    fn of_log(&self, view: &View<'_>) -> (LogIndex, &Configuration) {
        let begin = view.log.after().index;
        let in_log = self.set.range(begin.next()..=view.log.last().max(begin.next())).rev();
        let mut in_log = in_log.flat_map(|(&index, set)| set.iter().map(move |(term, set)| (index, *term, set)));
        match in_log.find(|&(index, term, _)| view.log.contains(LogId { term, index })) {
            Some((index, _, configuration)) => (index, configuration),
            None => self.committed_at(begin),
        }
    }

    fn committed_at(&self, index: LogIndex) -> (LogIndex, &Configuration) {
        let newest = self.committed.range(..=index).next_back();
        newest.map_or((LogIndex::ZERO, &self.founders), |(at, configuration)| (*at, configuration))
    }
}

fn meet((term, voters): (Term, &[NodeId]), (id, holders): &(LogId, Vec<NodeId>)) -> Result<(), Violation> {
    if voters.iter().any(|voter| holders.contains(voter)) {
        return Ok(());
    }
    violation(PROPERTY, format!("{voters:?} have elected the leader of term {term}, and {holders:?} held {id}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::testing::{founded, leader, log};
    use vlot_node::members::Members;
    use vlot_node::members::MembersEntry;
    use vlot_raft::configuration::{Change, Configurations};
    use vlot_raft::term_runs::TermRuns;

    fn founders() -> Configuration {
        Configuration::of_voters((1..=3).map(NodeId))
    }

    fn joint() -> Configuration {
        founders().changed(&[Change::Voter(NodeId(4))]).unwrap()
    }

    fn entry(id: LogId, configuration: &Configuration) -> Entry {
        let members = Members::default().with_seats(configuration.clone());
        Entry { id, payload: payload::configuration(&MembersEntry { members, ..MembersEntry::default() }) }
    }

    /// A leader of term 2 that has committed so many entries appends a configuration as the last of its log.
    fn append(
        log: &TermRuns,
        commit: u64,
        before: (u64, Configuration),
        next: &Configuration,
    ) -> Result<(), Violation> {
        let configurations = Configurations::new((LogIndex(before.0), before.1), vec![(log.last(), next.clone())]);
        let view = View { commit: LogIndex(commit), ..leader(0, 2, log, &configurations) };
        ConfigurationSafety::new(founders()).appended(&view, &[entry(log.last_id(), next)])
    }

    #[test]
    fn one_change_follows_the_other_by_way_of_a_joint_configuration() {
        let log = &log(&[1, 2, 2]);
        assert_eq!(append(log, 2, (0, founders()), &joint()), Ok(()));
        assert_eq!(append(log, 2, (1, joint()), &joint().settled()), Ok(()));
        assert!(append(log, 2, (0, founders()), &joint().settled()).is_err(), "without a joint one");
        assert!(append(log, 2, (1, joint()), &founders()).is_err(), "not the end of the change under way");
    }

    #[test]
    fn a_change_before_the_one_before_is_over_is_noticed() {
        assert!(append(&log(&[2, 2, 2]), 1, (2, joint()), &joint().settled()).is_err());
    }

    #[test]
    fn a_change_before_the_first_commit_of_the_term_is_noticed() {
        assert!(append(&log(&[1, 2, 2]), 1, (0, founders()), &joint()).is_err());
    }

    #[test]
    fn a_replica_that_goes_by_other_members_than_its_log_is_noticed() {
        let mut check = ConfigurationSafety::new(founders());
        let long = log(&[1, 1, 1]);
        let changed = Configurations::new((LogIndex::ZERO, founders()), vec![(LogIndex(3), joint())]);
        let view = View { commit: LogIndex(2), ..leader(0, 1, &long, &changed) };
        check.appended(&view, &[entry(LogId::new(1, 3), &joint())]).unwrap();
        assert_eq!(check.check(&view), Ok(()));
        assert!(check.check(&leader(0, 1, &long, &founded(3))).is_err(), "the change is overlooked");
        let short = log(&[1, 1, 2]);
        assert_eq!(check.check(&leader(0, 2, &short, &founded(3))), Ok(()), "the change was cut");
        assert!(check.check(&leader(0, 2, &short, &changed)).is_err(), "and counts all the same");
    }

    #[test]
    fn a_snapshot_with_other_members_is_noticed() {
        let mut check = ConfigurationSafety::new(founders());
        let set = MembersEntry { members: Members::default().with_seats(joint()), ..MembersEntry::default() };
        check.applied(LogIndex(5), &Payload::Configuration(Box::new(set.clone())));
        let members = MembersAt { at: LogIndex(5), entry: set };
        assert_eq!(check.staged(0, LogIndex(7), &members), Ok(()));
        assert!(check.staged(0, LogIndex(4), &members).is_err(), "those of a later entry");
    }

    #[test]
    fn disjoint_quorums_are_noticed() {
        let nodes = |nodes: &[u64]| nodes.iter().copied().map(NodeId).collect::<Vec<_>>();
        let mut check = ConfigurationSafety::new(founders());
        check.elected(Term(1), nodes(&[1, 2])).unwrap();
        check.committed(Term(1), LogId::new(1, 5), nodes(&[1, 2])).unwrap();
        assert_eq!(check.elected(Term(2), nodes(&[2, 3])), Ok(()));
        assert!(check.elected(Term(3), nodes(&[3, 4])).is_err());
        assert!(check.committed(Term(1), LogId::new(1, 6), nodes(&[1, 4])).is_err(), "a leader that was replaced");
    }
}
