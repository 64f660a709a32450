//! Every state that a small group of real replicas can come to, and what must hold of each.
//!
//! In all of these searches the network holds every message that was sent and could yet make a difference, however many
//! they are, and each may come at any time, many times, or never. What is sent again because a connection broke or a
//! heartbeat went unanswered is left out, unless the rules of a search say otherwise, and so is the passing of time: any
//! node may stand and any leader fall silent at any moment.

#[path = "exhaustive/mod.rs"]
mod space;

use space::rules::{Forgets, Rules};
use space::search::{Found, Order, search};
use vlot_raft::configuration::{Change, Configuration};
use vlot_raft::id::NodeId;

fn show(rules: &Rules, found: &Found) {
    let Found { states, counting, expanded, moves, nodes, messages, time, bytes, to_the_end, .. } = found;
    println!("{}: {rules}", rules.name);
    println!("{states} states, of which {counting} are outdone by no other; {expanded} looked at, {moves} moves");
    println!("{nodes} nodes, {messages} messages and turns, {time:?}, {} MB, to the end {to_the_end}", bytes >> 20);
    if let Some((broken, story)) = &found.broken {
        println!("{}: {}", broken.property, broken.shown_by);
        for line in story {
            println!("  {line}");
        }
    }
}

/// Searches, and shows how much there was. Nothing may be broken in any state that was reached.
fn look_at_all(rules: &Rules, states_max: usize) -> Found {
    let found = search(rules, Order::Progress, states_max);
    show(rules, &found);
    if found.broken.is_some() {
        show(rules, &search(rules, Order::Breadth, found.states.max(states_max)));
        panic!("{}: a way to the broken property is above", rules.name);
    }
    found
}

/// As `look_at_all`, and nothing may be left to look at; unless `VLOT_STATES_MAX` bounds it.
fn look_to_the_end(rules: &Rules, states_min: usize) {
    let states_max = std::env::var("VLOT_STATES_MAX").ok().and_then(|max| max.parse().ok());
    let found = look_at_all(rules, states_max.unwrap_or(200_000_000));
    assert!(found.to_the_end || states_max.is_some(), "{} states are not all", found.states);
    assert!(found.states > states_min || !found.to_the_end, "{} states: something happens no more", found.states);
}

/// Three voters, four members, three again: n4 comes in, then n1 leaves, whoever leads.
fn three_four_three(name: &'static str) -> Rules {
    let changes = vec![vec![Change::Voter(NodeId(4))], vec![Change::Remove(NodeId(1))]];
    Rules { nodes: 4, changes, terms: 1, proposals: 0, ..Rules::of_three(name) }
}

/// Two terms, a proposed entry beside the blank ones, any crashes: small enough to come to the end with every run of the
/// tests.
#[test]
fn every_state_of_three_nodes_in_two_terms() {
    look_to_the_end(&Rules::of_three("three nodes, two terms"), 50_000);
}

/// Three terms, blank entries alone, no crashes: as many elections as figure 8 of the paper needs.
#[test]
fn every_state_of_three_nodes_in_three_terms_without_proposals() {
    let rules = Rules { terms: 3, proposals: 0, crashes: 0, ..Rules::of_three("three terms, blank entries") };
    look_to_the_end(&rules, 20_000);
}

/// Two terms, blank entries alone, one crash; and every message that was ever sent, however stale, may come at any time.
#[test]
fn every_state_of_three_nodes_and_whatever_was_ever_sent() {
    let rules = Rules { proposals: 0, crashes: 1, stale: true, ..Rules::of_three("two terms, stale messages") };
    look_to_the_end(&rules, 20_000);
}

/// Three become four in one term, with one crash.
#[test]
fn every_state_of_three_nodes_that_become_four() {
    let rules = three_four_three("three, four");
    look_to_the_end(&Rules { changes: rules.changes[..1].to_vec(), window: 1, crashes: 1, ..rules }, 10_000);
}

/// Four become three in one term, with one crash.
#[test]
fn every_state_of_four_nodes_that_become_three() {
    let rules = three_four_three("four, three");
    let (members, changes) = (Configuration::of_voters((1..=4).map(NodeId)), rules.changes[1..].to_vec());
    look_to_the_end(&Rules { members, changes, window: 1, crashes: 1, ..rules }, 10_000);
}

/// Two terms, blank entries alone, one crash, and groups that fall asleep once in each office; whoever sleeps may be told
/// at any time that a node is silent.
#[test]
fn every_state_of_three_nodes_that_sleep() {
    look_to_the_end(&Rules { proposals: 0, crashes: 1, sleeps: 1, ..Rules::of_three("sleep") }, 100_000);
}

/// A crash takes a vote that was durable: two leaders in a term, or a search that finds nothing.
#[test]
fn a_disk_that_forgets_a_vote_is_found_out() {
    let found = found_out(Forgets::Vote);
    assert_eq!(found, "Election Safety");
}

/// A crash takes an entry that was acknowledged.
#[test]
fn a_disk_that_forgets_an_entry_is_found_out() {
    let found = found_out(Forgets::LastEntry);
    assert!(
        ["what is committed is durable on a quorum", "what a leader counts is durable"].contains(&found),
        "{found}"
    );
}

/// The property that a search finds broken.
fn found_out(forgets: Forgets) -> &'static str {
    let rules = Rules { forgets, ..Rules::of_three("a forgetful disk") };
    let found = search(&rules, Order::Breadth, 3_000_000);
    show(&rules, &found);
    let (broken, story) = found.broken.expect("it must be found out");
    assert!(!story.is_empty(), "{broken:?} comes from nowhere");
    broken.property
}

/// Three terms and two proposed entries beside up to three blank ones, any crashes. For a release build.
///
/// Left out: writes that wait while their node goes on (see the next), pre-votes and refusals as messages (any node may
/// win a pre-vote, and hear of any durable term), repetition by the sender, compaction, reads, hand-overs.
#[test]
#[ignore = "takes minutes and gigabytes"]
fn every_state_of_three_nodes_in_three_terms() {
    look_to_the_end(&Rules { terms: 3, proposals: 2, ..Rules::of_three("three nodes, three terms") }, 5_000_000);
}

/// Two terms, an entry, and nodes that go on while up to two writes wait for the disk; any crashes, which lose them or
/// the later of them. For a release build.
#[test]
#[ignore = "takes minutes and gigabytes"]
fn every_state_of_three_nodes_whose_writes_wait() {
    look_to_the_end(&Rules { writes_behind: 2, ..Rules::of_three("writes behind") }, 100_000);
}

/// Two terms, an entry, and connections that break, so that a leader sends again from what is certain; it sends
/// heartbeats at any time. For a release build.
#[test]
#[ignore = "takes minutes and gigabytes"]
fn every_state_of_three_nodes_whose_connections_break() {
    let rules = Rules { reconnects: true, heartbeats: true, ..Rules::of_three("connections break") };
    look_to_the_end(&rules, 100_000);
}

/// Two terms, an entry, and state machines that make themselves durable at any time, so that logs begin later and who
/// lags behind gets a snapshot. For a release build.
#[test]
#[ignore = "takes minutes and gigabytes"]
fn every_state_of_three_nodes_that_compact() {
    look_to_the_end(&Rules { compaction: true, ..Rules::of_three("compaction") }, 100_000);
}

/// Two terms, an entry, one crash; and every message that was ever sent, however stale. For a release build.
#[test]
#[ignore = "takes minutes and gigabytes"]
fn every_state_of_an_entry_and_whatever_was_ever_sent() {
    let rules = Rules { crashes: 1, stale: true, ..Rules::of_three("an entry, stale messages") };
    look_to_the_end(&rules, 100_000);
}

/// Two terms, an entry, no crashes, and groups that fall asleep before or after it. For a release build.
#[test]
#[ignore = "takes half a minute"]
fn every_state_of_an_entry_in_a_group_that_sleeps() {
    look_to_the_end(&Rules { crashes: 0, sleeps: 1, ..Rules::of_three("an entry, sleep") }, 100_000);
}

/// Two terms, blank entries alone, pre-votes and refusals as messages. For a release build.
#[test]
#[ignore = "takes a minute"]
fn every_state_of_elections_with_pre_votes() {
    let rules = Rules { proposals: 0, pre_votes: true, refusals: true, ..Rules::of_three("pre-votes") };
    look_to_the_end(&rules, 100_000);
}

/// Three to four to three in one term, with any crashes. For a release build.
#[test]
#[ignore = "takes minutes and gigabytes"]
fn every_state_of_three_nodes_that_become_four_and_three() {
    look_to_the_end(&three_four_three("three, four, three"), 1_000_000);
}

/// Three to four to three with a change of leaders in its midst, or before or after: two terms, no crashes, a message
/// under way to each peer. For a release build.
#[test]
#[ignore = "takes minutes and gigabytes"]
fn every_state_of_three_four_three_under_two_leaders() {
    let rules = Rules { terms: 2, window: 1, crashes: 0, ..three_four_three("three, four, three, two leaders") };
    look_to_the_end(&rules, 1_000_000);
}
