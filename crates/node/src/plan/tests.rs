use vlot_raft::configuration::Change;

use super::*;

const fn n(node: u64) -> NodeId {
    NodeId(node)
}

fn at(node: u64) -> String {
    format!("n{node}:1")
}

fn voters(count: u64) -> Members {
    Members::of_voters((1..=count).map(|node| (n(node), at(node))))
}

fn plan(members: &Members, changes: &[MemberChange], down: &[u64]) -> Plan {
    let observed = Observed { down: down.iter().map(|node| n(*node)).collect(), ..Observed::default() };
    Plan::new(members, changes, &observed)
}

type Kind = Option<(Seat, bool)>;

/// Every configuration of four nodes, joint ones and those with witnesses among them, and many of five, against every set of
/// failures.
#[test]
fn what_is_survived_is_what_every_set_of_failures_says() {
    const COMMON: [Kind; 5] = [
        None,
        Some((Seat::Voter, false)),
        Some((Seat::Voter, true)),
        Some((Seat::Joining, false)),
        Some((Seat::Leaving, false)),
    ];
    const RARE: [Kind; 4] = [
        Some((Seat::Joining, true)),
        Some((Seat::Leaving, true)),
        Some((Seat::Retiring, false)),
        Some((Seat::Learner, false)),
    ];
    let all: Vec<Kind> = COMMON.into_iter().chain(RARE).collect();
    let looked_at = hold_against_all_failures(&all, 4) + hold_against_all_failures(&COMMON, 5);
    assert!(looked_at > 3_000, "{looked_at}");
}

/// Returns of how many configurations.
fn hold_against_all_failures(kinds: &[Kind], nodes: u32) -> usize {
    let mut looked_at = 0;
    for code in 0..kinds.len().pow(nodes) {
        let kind = |node: u32| kinds[code / kinds.len().pow(node) % kinds.len()];
        let member = |node: u32| kind(node).map(|(seat, witness)| Member { node: n(u64::from(node)), seat, witness });
        let Some(configuration) = Configuration::of_members((0..nodes).filter_map(member).collect()) else { continue };
        let has_new = configuration.settled().voters().next().is_some();
        let has_old = !configuration.is_joint() || configuration.voters().any(|it| !is_joining(&configuration, it));
        if has_new && has_old {
            looked_at += 1;
            hold_against_failures(&configuration);
        }
    }
    looked_at
}

fn hold_against_failures(configuration: &Configuration) {
    let all: Vec<NodeId> = configuration.voters().collect();
    let sets = 0..1u32 << all.len();
    let is_in = |set: u32, node: NodeId| all.iter().position(|it| *it == node).is_some_and(|at| set >> at & 1 == 1);
    let is_witness = |node: NodeId| configuration.is_witness(node);
    // Those that are left decide.
    let goes_on = |failed: u32| configuration.is_quorum(|node| !is_in(failed, node));
    // Whatever a quorum had acknowledged, one of those that are left and keep data has it.
    let keeps_all = |failed: u32| !configuration.is_quorum(|node| is_in(failed, node) || is_witness(node));
    let survives = |holds: &dyn Fn(u32) -> bool| {
        let fatal = sets.clone().filter(|set| !holds(*set)).map(u32::count_ones).min();
        fatal.map_or(all.len(), |fewest| fewest as usize - 1)
    };
    let quorums = sets.clone().filter(|set| configuration.is_quorum(|node| is_in(*set, node)));
    let with_data = |set: u32| all.iter().filter(|node| is_in(set, **node) && !is_witness(**node)).count();
    let phase = Phase::new(configuration, &Observed::default());
    assert_eq!(phase.survives, survives(&goes_on), "{configuration:?}");
    assert_eq!(phase.survives_at_worst, survives(&|it| goes_on(it) && keeps_all(it)), "{configuration:?}");
    assert_eq!(Some(phase.copies), quorums.map(with_data).min(), "{configuration:?}");
    for down in sets.clone() {
        let down_nodes = all.iter().copied().filter(|node| is_in(down, *node)).collect();
        let phase = Phase::new(configuration, &Observed { down: down_nodes, ..Observed::default() });
        assert_eq!(phase.decides, goes_on(down), "{configuration:?} without {down:b}");
        let is_fatal = |at: &usize| down >> at & 1 == 0 && goes_on(down) && !goes_on(down | 1 << at);
        let needed: Vec<NodeId> = (0..all.len()).filter(is_fatal).map(|at| all[at]).collect();
        assert_eq!(phase.needed, needed, "{configuration:?} without {down:b}");
    }
}

fn is_joining(configuration: &Configuration, node: NodeId) -> bool {
    configuration.get(node).is_some_and(|member| member.seat == Seat::Joining)
}

#[test]
fn what_is_warned_of() {
    use MemberChange::{AddLearner, AddVoter, AddWitness, Demote, Promote, Remove};
    let learner = |node| AddLearner { node: n(node), address: at(node) };
    let voter = |node| AddVoter { node: n(node), address: at(node) };
    let witness = |node| AddWitness { node: n(node), address: at(node) };
    type Row<'a> = (u64, &'a [u64], Vec<MemberChange>, Vec<Warning>);
    let rows: [Row<'_>; 9] = [
        (3, &[], vec![learner(4)], vec![]),
        (3, &[], vec![voter(4)], vec![Warning::EvenVoters { voters: 4 }, Warning::VotesEmpty { node: n(4) }]),
        (3, &[], vec![voter(4), Remove(n(1))], vec![Warning::VotesEmpty { node: n(4) }]),
        (
            3,
            &[],
            vec![Remove(n(3))],
            vec![Warning::SurvivesFewer { before: 1, after: 0 }, Warning::EvenVoters { voters: 2 }],
        ),
        (
            3,
            &[2],
            vec![Remove(n(3))],
            vec![
                Warning::SurvivesFewer { before: 1, after: 0 },
                Warning::EvenVoters { voters: 2 },
                // Of the new voters, 1 and 2, both are needed while it changes too.
                Warning::Stops { meanwhile: true, down: vec![n(2)] },
                Warning::Stops { meanwhile: false, down: vec![n(2)] },
            ],
        ),
        (
            5,
            &[2],
            vec![Demote(n(5))],
            vec![
                Warning::SurvivesFewer { before: 2, after: 1 },
                Warning::EvenVoters { voters: 4 },
                Warning::NothingToSpare { meanwhile: true, down: vec![n(2)], needed: vec![n(1), n(3), n(4)] },
                Warning::NothingToSpare { meanwhile: false, down: vec![n(2)], needed: vec![n(1), n(3), n(4)] },
            ],
        ),
        (
            3,
            &[3],
            vec![Remove(n(3)), voter(4)],
            vec![
                Warning::VotesEmpty { node: n(4) },
                Warning::NothingToSpare { meanwhile: true, down: vec![n(3)], needed: vec![n(1), n(2)] },
            ],
        ),
        (2, &[], vec![witness(3)], vec![Warning::OneCopy]),
        (
            3,
            &[4],
            vec![voter(4), voter(5)],
            vec![
                Warning::VotesEmpty { node: n(4) },
                Warning::VotesDown { node: n(4) },
                Warning::VotesEmpty { node: n(5) },
            ],
        ),
    ];
    for (count, down, changes, warnings) in rows {
        let plan = plan(&voters(count), &changes, down);
        assert_eq!(plan.refused, None, "{changes:?}");
        assert_eq!(plan.warnings, warnings, "{count} voters, {down:?} down: {changes:?}\n{plan}");
    }
    let observed = Observed { leader: Some(n(1)), behind: [n(4)].into(), ..Observed::default() };
    let plan = Plan::new(&voters(3), &[Remove(n(1)), voter(5)], &observed);
    assert!(plan.warnings.contains(&Warning::LeaderLeaves { node: n(1) }), "{plan}");
    let four = voters(3).with_seats(voters(3).configuration().changed(&[Change::Learner(n(4))]).unwrap());
    let refused = Plan::new(&four, &[Promote(n(4))], &observed).refused;
    assert_eq!(refused, Some(PlanRefused::Change(ChangeRefused::NotCaughtUp { node: n(4) })));
}

#[test]
fn what_an_operator_reads() {
    let replaced = [MemberChange::AddVoter { node: n(4), address: at(4) }, MemberChange::Remove(n(2))];
    assert_eq!(
        plan(&voters(3), &replaced, &[2]).to_string(),
        "Now 2 of the voters 1, 2, 3 decide; any 1 voter may fail. What is acknowledged is on at least 2 disks with data.\n\
         While it changes, 2 of the voters 1, 2, 3 decide and 2 of the voters 1, 3, 4 decide; any 1 voter may fail. What is \
         acknowledged is on at least 2 disks with data.\n\
         Afterwards 2 of the voters 1, 3, 4 decide; any 1 voter may fail. What is acknowledged is on at least 2 disks with \
         data.\n\
         Warning: node 4 would count at once and has nothing of the log yet; add it as a learner first, and promote it when \
         it has caught up.\n\
         Warning: with node 2 down, losing any of 1, 3 stops writes while it changes."
    );
    let witness = [MemberChange::AddWitness { node: n(3), address: at(3) }];
    assert_eq!(
        plan(&voters(2), &witness, &[]).after.unwrap().to_string(),
        "2 of the voters 1, 2, 3 decide; any 1 voter may fail, if those with data are in step, for witnesses keep none: at \
         the worst moment none. What is acknowledged is on at least 1 disk with data."
    );
    let none = plan(&voters(1), &[MemberChange::Remove(n(1))], &[]);
    assert_eq!(
        none.to_string(),
        "Now voter 1 decides; no voter may fail. What is acknowledged is on at least 1 disk with data.\n\
         The change would be refused: there would be no voter left."
    );
}
