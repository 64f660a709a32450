//! What is left of a replica once it forgets when things happened, how its chance stands and how many writes it has
//! asked for.
//!
//! None of that decides what may be committed or which node may lead, as long as leases are not in use. A search over
//! all states of a group would yet take two replicas for different that differ in nothing else, and never come to an
//! end. Owns what such a search calls between two steps; a host never does.

use crate::raft::Raft;
use crate::time::Time;

/// Makes replicas equal that differ in time, chance and the numbers of their writes alone.
///
/// Afterwards every deadline is `now`, but for those that never come; no leader has been heard since the origin of
/// time; a leader has just heard its peers, and the last news, and gives up a transfer with its next heartbeat. The
/// `n`th write that is not durable has number `n`, by which [`Input::Persisted`](crate::effect::Input::Persisted) must
/// call it. With `now` later than an election timeout any node may be made to campaign, at once, and none refuses its
/// vote for a leader in office; a leader loses its office to a tick that is an election timeout later.
pub fn forget_time(raft: &mut Raft, now: Time) {
    raft.forget_time(now);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::by_hand::{NOW, come_to, hear, log, members, started, step, three};
    use crate::configuration::Configurations;
    use crate::effect::{Input, RoleName};
    use crate::id::{LogId, LogIndex, NodeId, Term};
    use crate::message::{Body, ReadId, Session};
    use crate::state::{Config, Restored};
    use crate::time::Rng;

    /// What is left must be the same, of what was not.
    fn assert_same(mut one: Raft, mut other: Raft) {
        assert_ne!(one, other);
        forget_time(&mut one, NOW);
        forget_time(&mut other, NOW);
        assert_eq!(one, other);
    }

    fn later(millis: u64) -> Time {
        NOW + Duration::from_millis(millis)
    }

    /// One of three with three entries, all applied.
    fn with_rng(seed: u64) -> Raft {
        let restored = Restored {
            term: Term(1),
            vote: None,
            log: log(LogId::ZERO, &[1, 1, 1]),
            applied: LogIndex(3),
            configurations: three(),
        };
        Raft::new(Config::new(NodeId(1)), restored, Time::default(), Rng::new(seed))
    }

    fn beat() -> Body {
        Body::Heartbeat { session: Session::default(), round: 0, commit: LogIndex::ZERO }
    }

    #[test]
    fn a_follower_forgets_its_chance_and_when_it_heard_its_leader() {
        let [one, other] = [(1, NOW), (2, later(70))].map(|(seed, now)| {
            let mut raft = with_rng(seed);
            hear(&mut raft, now, NodeId(2), beat());
            raft
        });
        assert_same(one, other);
    }

    #[test]
    fn a_follower_forgets_how_many_writes_there_were() {
        let compacted_at = |steps: &[u64]| {
            let mut raft = with_rng(1);
            for &upto in steps {
                step(&mut raft, NOW, Input::Compact { upto: LogIndex(upto) });
            }
            raft
        };
        assert_same(compacted_at(&[1, 2]), compacted_at(&[2]));
    }

    #[test]
    fn who_waits_for_ever_goes_on_to() {
        for (configurations, deadline) in
            [(three(), NOW), (Configurations::begin(members(&[2, 3], 0, &[1])), Time::NEVER)]
        {
            let mut raft = started(1, 1, log(LogId::ZERO, &[1]), 1, configurations);
            forget_time(&mut raft, NOW);
            assert_eq!(raft.deadline(), deadline);
        }
    }

    #[test]
    fn a_candidate_forgets_the_order_of_its_votes() {
        let seven = || Configurations::begin(members(&[1, 2, 3, 4, 5, 6, 7], 0, &[]));
        let polled = |now, granted: [u64; 2], refused: [u64; 2]| {
            let mut raft = come_to(RoleName::PreCandidate, now, started(1, 1, log(LogId::ZERO, &[1]), 1, seven()));
            granted.into_iter().for_each(|node| hear(&mut raft, now, NodeId(node), Body::PreVoteGranted));
            refused.into_iter().for_each(|node| hear(&mut raft, now, NodeId(node), Body::PreVoteRefused));
            raft
        };
        assert_same(polled(NOW, [2, 3], [4, 5]), polled(later(1), [2, 3], [4, 5]));
        assert_same(polled(NOW, [2, 3], [4, 5]), polled(NOW, [3, 2], [4, 5]));
        assert_same(polled(NOW, [2, 3], [4, 5]), polled(NOW, [2, 3], [5, 4]));
    }

    #[test]
    fn a_leader_forgets_when_it_heard_its_peers() {
        let leads = || come_to(RoleName::Leader, NOW, with_rng(1));
        let answered_at = |millis| {
            let mut raft = leads();
            let body = Body::HeartbeatReply {
                session: Session::default(),
                round: 0,
                fit: true,
                full: false,
                priority: 1,
                asleep: false,
            };
            hear(&mut raft, later(millis), NodeId(2), body);
            raft
        };
        assert_same(answered_at(5), answered_at(7));
        let beat_at = |millis| {
            let mut raft = leads();
            step(&mut raft, later(millis), Input::Tick);
            raft
        };
        assert_same(beat_at(100), beat_at(120));
        let hands_over_at = |millis| {
            let mut raft = leads();
            step(&mut raft, later(millis), Input::Transfer { to: Some(NodeId(2)) });
            raft
        };
        assert_same(hands_over_at(5), hands_over_at(7));
    }

    #[test]
    fn a_leader_forgets_its_lease() {
        let leased = |millis| {
            let mut config = Config::new(NodeId(1));
            config.lease = Some(Duration::from_millis(900));
            let restored = Restored { configurations: three(), ..Restored::default() };
            let leader = Raft::new(config, restored, Time::default(), Rng::new(1));
            let mut raft = come_to(RoleName::Leader, NOW, leader);
            step(&mut raft, later(millis), Input::Tick);
            let round = Body::HeartbeatReply {
                session: Session::default(),
                round: 1,
                fit: true,
                full: false,
                priority: 1,
                asleep: false,
            };
            hear(&mut raft, later(150), NodeId(2), round);
            step(&mut raft, later(200 + millis), Input::Tick);
            raft
        };
        assert_same(leased(100), leased(120));
    }

    /// Else a search would take two replicas for one that may do different things.
    #[test]
    fn nothing_else_is_forgotten() {
        let one = || come_to(RoleName::PreCandidate, NOW, with_rng(1));
        let mut voter = with_rng(1);
        hear(&mut voter, NOW, NodeId(2), Body::RequestVote { last: LogId::new(1, 3), transfer: false });
        let mut reads = come_to(RoleName::Leader, NOW, with_rng(1));
        step(&mut reads, NOW, Input::Read { read: ReadId(1) });
        let mut all = [with_rng(1), one(), come_to(RoleName::Candidate, NOW, with_rng(1)), voter, reads];
        all.iter_mut().for_each(|raft| forget_time(raft, NOW));
        for (n, one) in all.iter().enumerate() {
            assert!(all.iter().skip(n + 1).all(|other| one != other), "{one:?}");
        }
    }
}
