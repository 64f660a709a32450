//! Every way in which nodes may hear each other: whether there is a leader wherever there can be one.
//!
//! Owns the experiment: a calm cluster with a leader, then some directions are cut for good. If a node can hear a quorum
//! that hears it, there must be a leader that commits within ten election timeouts, and few leaders after it.

use super::World;
use crate::agenda::{Moment, Span};
use crate::checks::progress::ELECTION_TIMEOUTS;
use crate::conditions::Conditions;
use crate::machines::registers::RegistersUsed;
use crate::place::Place;
use crate::subject::Subject;
use vlot_raft::id::LogIndex;
use vlot_raft::invariants::Violation;
use vlot_raft::quorum::majority;

/// What has come of one graph.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// No node has a quorum both ways: none can lead.
    Hopeless,
    /// There is a leader, and there were so many more after the first ten election timeouts.
    Led(u64),
    /// Nothing is committed: each node that has a quorum both ways lacks entries that too many of it have, which may
    /// never be committed either. Raft elects no leader then, for it cannot tell them from committed ones (Raft
    /// §5.4.1).
    Behind,
    /// Nothing is committed, though it could be.
    Stuck,
    /// A property of safety is broken.
    Broken(Violation),
}

/// More changes of leader than this, in ten election timeouts after the first ten, are too many.
pub const CHANGES_MAX: u64 = 2;

const CALM: Span = Span::seconds(4);
const ELECTION_TIMEOUT: Span = Span::seconds(1);

/// The directions of which frames are lost in the graph of this number: one bit for each.
#[must_use]
pub fn directions(nodes: usize, number: u64) -> Vec<(Place, Place)> {
    let all = (0..nodes * nodes).map(|n| (n / nodes, n % nodes)).filter(|(from, to)| from != to);
    all.enumerate().filter(|(bit, _)| number & 1 << bit != 0).map(|(_, direction)| direction).collect()
}

/// How many graphs there are of so many nodes.
#[must_use]
pub fn count(nodes: usize) -> u64 {
    1 << (nodes * (nodes - 1))
}

/// Whether some node hears a quorum, itself included, that hears it.
#[must_use]
pub fn can_lead(nodes: usize, cut: &[(Place, Place)]) -> bool {
    (0..nodes).any(|a| (0..nodes).filter(|&b| both_ways(cut, a, b)).count() >= majority(nodes))
}

fn both_ways(cut: &[(Place, Place)], a: Place, b: Place) -> bool {
    !cut.contains(&(a, b)) && !cut.contains(&(b, a))
}

/// Cuts these directions under a calm cluster, and looks.
#[must_use]
pub fn judge(nodes: usize, seed: u64, cut: &[(Place, Place)]) -> Verdict {
    let mut world = World::<RegistersUsed>::under(Conditions::calm(nodes), seed, false);
    match world.watch_graph(cut) {
        _ if !can_lead(nodes, cut) => Verdict::Hopeless,
        Ok(Some(changes)) => Verdict::Led(changes),
        Ok(None) if !world.someone_could_win(cut) => Verdict::Behind,
        Ok(None) => Verdict::Stuck,
        Err(violation) => Verdict::Broken(violation),
    }
}

impl<S: Subject> World<S> {
    /// How many leaders there were after the first ten election timeouts; none if nothing was committed then.
    fn watch_graph(&mut self, cut: &[(Place, Place)]) -> Result<Option<u64>, Violation> {
        self.run_until(Moment::default() + CALM)?;
        cut.iter().for_each(|&(from, to)| self.network.cut(from, to));
        let settled = self.agenda.now() + ELECTION_TIMEOUT * ELECTION_TIMEOUTS;
        self.run_until(settled)?;
        let (committed, elections) = (self.committed(), self.sums.elections);
        self.run_until(settled + ELECTION_TIMEOUT * ELECTION_TIMEOUTS)?;
        Ok((self.committed() > committed).then(|| self.sums.elections - elections))
    }

    /// Whether some node hears a quorum that hears it, and whose logs let it have their votes.
    fn someone_could_win(&self, cut: &[(Place, Place)]) -> bool {
        let nodes = self.hosts.len();
        let last = |place: Place| self.hosts[place].raft(0).map(|raft| raft.log().last_id());
        let would_vote = |a: Place, b: Place| both_ways(cut, a, b) && last(b) <= last(a);
        (0..nodes).any(|a| (0..nodes).filter(|&b| would_vote(a, b)).count() >= majority(nodes))
    }

    fn run_until(&mut self, end: Moment) -> Result<(), Violation> {
        while let Some(event) = self.agenda.next_event_until(end) {
            self.happen(event)?;
        }
        Ok(())
    }

    fn committed(&self) -> LogIndex {
        self.hosts.iter().filter_map(|host| host.raft(0).map(|raft| raft.commit())).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn graphs_are_numbered() {
        assert_eq!((count(3), directions(3, 0), directions(3, 63).len()), (64, vec![], 6));
        assert!(can_lead(3, &[(0, 1)]), "through the third");
        assert!(can_lead(3, &[(0, 1), (1, 2)]), "the first and the third");
        assert!(!can_lead(3, &[(0, 1), (1, 2), (2, 0)]));
    }

    /// n2 alone hears two others that hear it, but n3 led, and its last entries reached only n1 and n4.
    #[test]
    fn who_is_behind_cannot_win() {
        let cut = [(0, 2), (2, 1), (3, 0), (3, 2)];
        let verdict = (1..60).map(|seed| judge(4, seed, &cut)).find(|verdict| !matches!(verdict, Verdict::Led(_)));
        assert_eq!(verdict, Some(Verdict::Behind), "of the first that is not led");
    }

    #[test]
    fn every_graph_of_three_nodes() {
        for number in 0..count(3) {
            let cut = directions(3, number);
            match judge(3, 1, &cut) {
                Verdict::Hopeless | Verdict::Behind => {}
                Verdict::Led(changes) => assert!(changes <= CHANGES_MAX, "{cut:?}: {changes} more leaders"),
                other => panic!("{cut:?}: {other:?}"),
            }
        }
    }
}
