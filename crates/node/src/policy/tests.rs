use super::*;

const fn n(node: u64) -> NodeId {
    NodeId(node)
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn at(node: u64) -> String {
    format!("n{node}:1")
}

/// Three voters, of which this node is the first, and what else is told.
fn members(others: &[(u64, Seat, bool)]) -> Members {
    let three = [(1, Seat::Voter, false), (2, Seat::Voter, false), (3, Seat::Voter, false)];
    let all = three.iter().chain(others);
    let member = |(node, seat, witness): &(u64, Seat, bool)| Member { node: n(*node), seat: *seat, witness: *witness };
    Members::default().with_seats(Configuration::of_members(all.map(member).collect()).unwrap())
}

fn up(node: u64) -> Sight {
    Sight { node: n(node), gone_for: None, in_step_for: Some(s(100)) }
}

fn in_step(node: u64, seconds: u64) -> Sight {
    Sight { in_step_for: Some(s(seconds)), ..up(node) }
}

fn behind(node: u64) -> Sight {
    Sight { in_step_for: None, ..up(node) }
}

fn gone(node: u64, seconds: u64) -> Sight {
    Sight { node: n(node), gone_for: Some(s(seconds)), in_step_for: None }
}

fn policies() -> Policies {
    let standbys = BTreeMap::from([(n(7), at(7)), (n(8), at(8))]);
    let replace_dead = Some(ReplaceDead { after: s(60), standbys });
    Policies { promote_learners: Some(s(5)), replace_dead, balance_leaders: false }
}

#[test]
fn one_change_at_a_time_and_none_that_could_not_end() {
    use MemberChange::{AddLearner, Promote, Remove};
    use Seat::{Joining, Learner, Leaving, Voter};
    type Row<'a> = (&'a str, &'a [(u64, Seat, bool)], &'a [Sight], Option<Vec<MemberChange>>);
    let standby = || Some(vec![AddLearner { node: n(7), address: at(7) }]);
    let rows: [Row<'_>; 20] = [
        ("all is well", &[], &[up(2), up(3)], None),
        ("a learner that is new", &[(4, Learner, false)], &[up(2), up(3), in_step(4, 4)], None),
        ("a learner that lags", &[(4, Learner, false)], &[up(2), up(3), behind(4)], None),
        ("one in step", &[(4, Learner, false)], &[up(2), up(3), in_step(4, 5)], Some(vec![Promote(n(4))])),
        (
            "two in step",
            &[(4, Learner, false), (5, Learner, false)],
            &[up(2), up(3), in_step(4, 6), in_step(5, 7)],
            Some(vec![Promote(n(5))]),
        ),
        ("a change is under way", &[(4, Learner, false), (5, Joining, false)], &[up(2), up(3), up(4), up(5)], None),
        (
            "its end would need one that is gone",
            &[(4, Learner, false)],
            &[up(2), gone(3, 1), up(4)],
            Some(vec![Promote(n(4))]),
        ),
        ("no majority is reached", &[(4, Learner, false)], &[gone(2, 1), gone(3, 1), up(4)], None),
        ("a voter is away for a moment", &[], &[up(2), gone(3, 59)], None),
        ("a voter is gone", &[], &[up(2), gone(3, 60)], standby()),
        ("two of three are gone", &[], &[gone(2, 600), gone(3, 600)], None),
        ("a standby has only just come in", &[(7, Learner, false)], &[up(2), gone(3, 60), gone(7, 1)], None),
        ("a standby catches up", &[(7, Learner, false)], &[up(2), gone(3, 60), behind(7)], None),
        (
            "a standby does not come",
            &[(7, Learner, false)],
            &[up(2), gone(3, 120), gone(7, 60)],
            Some(vec![AddLearner { node: n(8), address: at(8) }]),
        ),
        (
            "a standby is in step",
            &[(7, Learner, false)],
            &[up(2), gone(3, 70), in_step(7, 0)],
            Some(vec![Promote(n(7)), Remove(n(3))]),
        ),
        ("a standby learns on while all is well", &[(7, Learner, false)], &[up(2), up(3), up(7)], None),
        ("no standby is left", &[(7, Voter, false), (8, Voter, false)], &[up(2), gone(3, 60), up(7), up(8)], None),
        ("a witness is gone", &[(4, Voter, true)], &[up(2), up(3), gone(4, 600)], None),
        (
            "two of five are gone: the one that is gone for longer",
            &[(5, Voter, false), (6, Voter, false), (7, Learner, false)],
            &[up(2), gone(3, 60), up(5), gone(6, 61), up(7)],
            Some(vec![Promote(n(7)), Remove(n(6))]),
        ),
        ("one leaves already", &[(5, Voter, false), (6, Leaving, false)], &[up(2), up(3), up(5), gone(6, 600)], None),
    ];
    for (what, others, sights, expected) in rows {
        assert_eq!(next_change(&policies(), n(1), &members(others), sights), expected, "{what}");
        assert_eq!(next_change(&Policies::default(), n(1), &members(others), sights), None, "{what}, by default");
    }
}

/// All sets of nodes that are reached, of groups of up to five voters with a learner and a standby: whatever is asked for,
/// those that are reached can carry it to its end.
#[test]
fn what_is_asked_for_can_be_carried_to_its_end() {
    let mut asked = 0;
    for voters in 1..=5u64 {
        for gone_set in 0..1u32 << 7 {
            let seat = |node: u64| if node <= voters { Seat::Voter } else { Seat::Learner };
            let nodes: Vec<u64> = (1..=voters).chain([6, 7]).collect();
            let member = |node: &u64| Member { node: n(*node), seat: seat(*node), witness: false };
            let configuration = Configuration::of_members(nodes.iter().map(member).collect()).unwrap();
            let members = Members::default().with_seats(configuration.clone());
            let is_gone = |node: u64| node != 1 && gone_set >> (node - 1) & 1 == 1;
            let sight = |node: &u64| if is_gone(*node) { gone(*node, 100) } else { up(*node) };
            let sights: Vec<Sight> = nodes[1..].iter().map(sight).collect();
            let Some(changes) = next_change(&policies(), n(1), &members, &sights) else { continue };
            asked += 1;
            let next = configuration.changed(&changes.iter().map(MemberChange::seat).collect::<Vec<_>>()).unwrap();
            for phase in [&configuration, &next, &next.settled()] {
                assert!(phase.is_quorum(|node| !is_gone(node.0)), "{voters} voters, {gone_set:b} gone: {changes:?}");
            }
            let removed = changes.iter().filter(|change| matches!(change, MemberChange::Remove(_))).count();
            let joined = changes.iter().filter(|change| matches!(change, MemberChange::Promote(_))).count();
            assert!(removed <= 1 && joined <= 1 && removed <= joined, "{changes:?}");
        }
    }
    assert!(asked > 100, "{asked}");
}

#[test]
fn what_is_seen_is_seen_since_it_last_changed() {
    let health = |node, reached, in_step| MemberHealth { node: n(node), reached, in_step };
    let at = Time::from_millis;
    let mut watch = Watch::default();
    watch.observe(at(1000), [health(2, true, true), health(3, false, false)]);
    watch.observe(at(3000), [health(2, true, true), health(3, false, false)]);
    assert_eq!(watch.sights(at(3000)), [in_step(2, 2), gone(3, 2)]);
    // In step at 1 s, for 5 s; gone at 1 s, for 60 s.
    assert_eq!(watch.deadline(&policies(), at(3000)), at(6000));
    assert_eq!(watch.deadline(&policies(), at(6000)), at(61_000));
    assert_eq!(watch.deadline(&Policies::default(), at(3000)), Time::NEVER);
    watch.observe(at(4000), [health(2, true, false), health(3, true, true)]);
    watch.observe(at(5000), [health(2, true, true), health(3, false, true)]);
    assert_eq!(watch.sights(at(6000)), [in_step(2, 1), gone(3, 1)], "neither for longer than without a break");
    watch.observe(at(7000), [health(2, true, true)]);
    assert_eq!(watch.sights(at(7000)), [in_step(2, 2)], "one that has left is forgotten");
    watch.forget();
    assert_eq!(watch.sights(at(8000)), []);
}

#[test]
fn leaders_are_spread_until_none_leads_two_more_than_another() {
    // Of thirty groups of the same three nodes, all led by one.
    let mut leader: Vec<NodeId> = vec![n(1); 30];
    let mut transfers = 0;
    loop {
        let mut leads = BTreeMap::new();
        leader.iter().for_each(|node| *leads.entry(*node).or_default() += 1);
        let due = (1..=3).find_map(|own| {
            let led = leader.iter().enumerate().filter(|(_, node)| **node == n(own));
            let successors = || (1..=3).filter(|node| *node != own).map(n).collect();
            let led: Vec<Led> =
                led.map(|(group, _)| Led { group: GroupId(group as u64), successors: successors() }).collect();
            next_transfer(n(own), &leads, &led)
        });
        let Some((group, to)) = due else { break };
        leader[group.0 as usize] = to;
        transfers += 1;
    }
    let counts = [1, 2, 3].map(|node| leader.iter().filter(|leader| **leader == n(node)).count());
    assert_eq!((counts, transfers), ([10, 10, 10], 20));
    let rows = [
        (&[(1, 3), (2, 2)][..], None),
        (&[(1, 3), (2, 1)], Some((GroupId(1), n(2)))),
        (&[(1, 2)], Some((GroupId(1), n(2)))),
        (&[(1, 1)], None),
    ];
    for (leads, expected) in rows {
        let leads = leads.iter().map(|(node, count)| (n(*node), *count)).collect();
        let led = [Led { group: GroupId(1), successors: vec![n(2)] }, Led { group: GroupId(2), successors: vec![] }];
        assert_eq!(next_transfer(n(1), &leads, &led), expected, "{leads:?}");
    }
}
