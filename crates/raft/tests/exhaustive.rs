//! Every state that a small group of real replicas can come to, and what must hold of each.

#[path = "exhaustive/mod.rs"]
mod space;

use space::rules::Rules;
use space::search::{Found, search};

fn show(rules: &Rules, found: &Found) {
    println!(
        "{}: {} states, {} moves, depth {}, {} nodes, {} messages, {:?}, {} MB, to the end {}",
        rules.name,
        found.states,
        found.moves,
        found.depth,
        found.nodes,
        found.messages,
        found.time,
        found.bytes >> 20,
        found.to_the_end
    );
    if let Some((broken, story)) = &found.broken {
        println!("{}: {}", broken.property, broken.shown_by);
        for line in story {
            println!("  {line}");
        }
    }
}

/// Searches, and shows how much there was. Nothing may be broken in any state that was reached.
fn look_at_all(rules: &Rules, states_max: usize) -> Found {
    let found = search(rules, states_max);
    show(rules, &found);
    assert!(found.broken.is_none(), "{}: the shortest way to the broken property is above", rules.name);
    found
}

/// Two terms, an entry: small enough to come to the end with every run of the tests.
#[test]
fn every_state_of_three_nodes_in_two_terms() {
    let found = look_at_all(&Rules::of_three("three nodes, two terms"), 3_000_000);
    assert!(found.to_the_end, "{} states are not all", found.states);
    assert!(found.states > 100_000, "{} states: something does not happen any more", found.states);
}

/// Pre-votes and refusals as messages, in one term. For a release build.
#[test]
#[ignore = "takes a minute"]
fn every_state_of_an_election_with_pre_votes() {
    let rules = Rules { terms: 1, proposals: 0, pre_votes: true, refusals: true, ..Rules::of_three("pre-votes") };
    let found = look_at_all(&rules, 3_000_000);
    assert!(found.to_the_end && found.states > 100, "{} states", found.states);
}

/// Three terms and two entries, with writes that wait: as far as `VLOT_STATES_MAX` goes. For a release build.
#[test]
#[ignore = "takes minutes and gigabytes"]
fn states_of_three_nodes_in_three_terms() {
    let states_max = std::env::var("VLOT_STATES_MAX").ok().and_then(|max| max.parse().ok()).unwrap_or(5_000_000);
    let rules = Rules { terms: 3, proposals: 2, writes_behind: 1, ..Rules::of_three("three nodes, three terms") };
    look_at_all(&rules, states_max);
}

/// Members come and go: three to four to three. As far as `VLOT_STATES_MAX` goes. For a release build.
#[test]
#[ignore = "takes minutes and gigabytes"]
fn states_of_three_nodes_that_become_four_and_three() {
    use vlot_raft::id::NodeId;
    use vlot_raft::membership::Change;
    let states_max = std::env::var("VLOT_STATES_MAX").ok().and_then(|max| max.parse().ok()).unwrap_or(5_000_000);
    let changes = vec![vec![Change::Voter(NodeId(4))], vec![Change::Remove(NodeId(1))]];
    let rules = Rules { nodes: 4, changes, ..Rules::of_three("three, four, three") };
    look_at_all(&rules, states_max);
}
