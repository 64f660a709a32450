//! Cluster configuration changes: Raft §6, Ongaro §4.

use vlot_raft::configuration::{Change, ChangeRefused, Configuration};
use vlot_raft::effect::{Effect, Event, Input, RoleName, Source};
use vlot_raft::id::{LogId, LogIndex, NodeId};
use vlot_raft::message::{Body, Session};

use crate::harness::cluster::ELECTION_TIMEOUT;
use crate::harness::lone::{FIRST, Lone, append, append_set, sent};
use crate::harness::notation::{members, parse_change, parse_members};
use crate::{BEAT, answers, beat_answer, committed, request, upto};

/// An acknowledgement by a node that entry `since` has brought in.
fn upto_of(since: u64, index: u64) -> Body {
    Body::EntriesAccepted { session: Session(LogIndex(since)), upto: LogIndex(index) }
}

fn change(lone: &mut Lone, wishes: &str) -> Vec<Effect> {
    let changes: Vec<Change> = wishes.split(' ').map(parse_change).collect();
    lone.input(Input::ChangeConfiguration { changes })
}

fn refused(lone: &mut Lone, wishes: &str) -> Option<ChangeRefused> {
    change(lone, wishes).into_iter().find_map(|effect| match effect {
        Effect::ChangeRefused { why } => Some(why),
        _ => None,
    })
}

/// The configuration that an effect appends.
fn appended(effects: &[Effect]) -> Option<String> {
    effects.iter().find_map(|effect| match effect {
        Effect::Append { source: Source::Configuration(configuration), .. } => Some(members(configuration)),
        _ => None,
    })
}

fn counts(lone: &Lone) -> String {
    members(lone.raft.configuration())
}

// Raft §6: joint consensus.

/// §6: a leader asked to change the members stores the overlap of old and new as an entry, and replicates it.
#[test]
fn a_change_begins_with_an_entry_for_both_configurations() {
    let mut lone = Lone::leader_of("n1,n2,n3", 1, &[]);
    let effects = change(&mut lone, "+n4 +n5 -n2");
    assert_eq!(appended(&effects).as_deref(), Some("n1,-n2,n3,+n4,+n5"));
    let set = append_set(LogId::new(1, 1), &[1], &[(2, "n1,-n2,n3,+n4,+n5")], 1);
    assert!(answers(&lone.end_turn(9), &set));
}

/// §6: while both count, entries go to all servers of both.
#[test]
fn entries_go_to_both_configurations() {
    let mut lone = Lone::leader_of("n1,n2,n3", 1, &[]);
    change(&mut lone, "+n4 -n2");
    let asked: Vec<u64> = sent(&lone.end_turn(9)).into_iter().map(|(to, _, _)| to).collect();
    assert_eq!(asked, [2, 3, 4]);
}

/// §6: a server of either configuration may lead.
#[test]
fn a_leader_comes_from_either_configuration() {
    for group in ["-n1,n2,n3,+n4", "+n1,n2,n3,-n4", "~n1,n2,n3,+n4"] {
        let mut lone = Lone::member_of(group, 1, &[1]);
        lone.win();
        assert_eq!(lone.role(), RoleName::Leader, "{group}");
    }
}

/// §6: an election needs a majority of the old voters and, apart from that, one of the new.
#[test]
fn an_election_needs_both_majorities() {
    for (group, voters, wins) in [
        ("n1,n2,-n3,+n4,+n5", &[2, 3][..], false),
        ("n1,n2,-n3,+n4,+n5", &[4, 5], false),
        ("n1,n2,-n3,+n4,+n5", &[3, 4, 5], true),
        ("n1,n2,-n3,+n4,+n5", &[2, 4], true),
        ("-n1,n2,n3", &[2], false),
        ("-n1,n2,n3", &[2, 3], true),
        ("+n1,n2,-n3", &[2], false),
        ("+n1,n2,-n3", &[2, 3], true),
        ("n1,n2,n3,(n4),(n5)", &[4, 5], false),
    ] {
        let mut lone = Lone::member_of(group, 1, &[1]);
        lone.time_out();
        for &voter in voters {
            lone.hear(voter, 1, Body::PreVoteGranted);
        }
        let stands = lone.role() == RoleName::Candidate;
        assert_eq!(stands, wins, "{group}: {voters:?} would vote for n1");
        voters.iter().for_each(|&voter| _ = lone.hear(voter, 2, Body::VoteGranted));
        assert_eq!(lone.role() == RoleName::Leader, wins, "{group}: {voters:?} vote for n1");
    }
}

/// §6: so does commitment.
#[test]
fn a_commitment_needs_both_majorities() {
    for (group, holders, commits) in [
        ("n1,n2,-n3,+n4,+n5", &[2, 3][..], false),
        ("n1,n2,-n3,+n4,+n5", &[4, 5], false),
        ("n1,n2,-n3,+n4,+n5", &[2, 4], true),
        ("-n1,-n2,-n3,+n4,+n5,+n6", &[2, 3, 4], false),
        ("-n1,-n2,-n3,+n4,+n5,+n6", &[3, 4, 5], true),
        ("n1,n2,n3,(n4),(n5)", &[4, 5], false),
    ] {
        let mut lone = Lone::member_of(group, 1, &[1]);
        lone.win();
        holders.iter().for_each(|&holder| _ = lone.hear(holder, 2, upto(2)));
        assert_eq!(lone.raft.commit() == LogIndex(2), commits, "{group}: {holders:?} have it");
    }
}

/// §6: a server uses the newest configuration in its log from the moment it is there, committed or not.
#[test]
fn a_configuration_counts_when_it_is_appended() {
    let mut leader = Lone::leader_of("n1,n2,n3", 1, &[]);
    change(&mut leader, "-n3");
    assert_eq!((counts(&leader).as_str(), leader.raft.commit()), ("n1,n2,-n3", LogIndex(1)));

    let mut follower = Lone::follower(1, &[1]);
    follower.slow_disk = true;
    follower.hear(2, 1, append_set(LogId::new(1, 1), &[1, 1], &[(3, "n1,n2,n3,+n4")], 0));
    assert_eq!(counts(&follower), "n1,n2,n3,+n4");
}

/// §6, §5.3: a message may repeat the entry of a configuration that is in the log already, and go on behind it.
#[test]
fn a_repeated_configuration_counts_once() {
    let joint = "n1,n2,n3,+n4";
    let mut lone = Lone::follower(1, &[1]);
    lone.hear(2, 1, append_set(LogId::new(1, 1), &[1], &[(2, joint)], 0));
    lone.hear(2, 1, append_set(LogId::new(1, 1), &[1, 1], &[(2, joint), (3, "n1,n2,n3,n4")], 0));
    let set_at = |index| lone.raft.configurations().at(LogIndex(index)).0;
    assert_eq!([1, 2, 3].map(set_at), [0, 2, 3].map(LogIndex));
    assert_eq!(counts(&lone), "n1,n2,n3,n4");
}

/// §6: the host hears of the entry that sets one, and not of those that follow it.
#[test]
fn entries_behind_a_configuration_do_not_change_it() {
    let set_at = |effects: &[Effect]| {
        effects.iter().find_map(|effect| match effect {
            Effect::Happened(Event::ConfigurationChanged { at }) => Some(at.0),
            _ => None,
        })
    };
    let mut lone = Lone::follower(1, &[1]);
    assert_eq!(set_at(&lone.hear(2, 1, append_set(LogId::new(1, 1), &[1], &[(2, "n1,n2,n3,+n4")], 0))), Some(2));
    assert_eq!(set_at(&lone.hear(2, 1, append(LogId::new(1, 2), &[1], 0))), None);
}

/// §6: it is also what counts after a restart, since it is read from the log.
#[test]
fn the_newest_configuration_of_the_log_counts_after_a_restart() {
    let mut lone = Lone::follower(1, &[1]);
    lone.hear(2, 1, append_set(LogId::new(1, 1), &[1, 1], &[(2, "n1,-n2,n3,+n4")], 0));
    let restored = vlot_raft::state::Restored {
        term: lone.raft.role_state().term,
        log: lone.raft.log().clone(),
        configurations: lone.raft.configurations().clone(),
        ..Default::default()
    };
    let again = Lone::with(&restored, |_| {}, 2);
    assert_eq!(counts(&again), "n1,-n2,n3,+n4");
}

/// §6: the entry for both configurations is committed by the rules of both.
#[test]
fn the_joint_entry_is_committed_by_its_own_rules() {
    let mut lone = Lone::leader_of("n1,n2,n3", 1, &[]);
    change(&mut lone, "+n4 +n5 -n2 -n3");
    lone.end_turn(9);
    lone.hear(2, 1, upto(2));
    lone.hear(3, 1, upto(2));
    assert_eq!(lone.raft.commit(), LogIndex(1), "all old voters have it, and of the new n1 alone");
    let effects = lone.hear(4, 1, upto_of(2, 2));
    assert_eq!(committed(&effects), Some(2));
}

/// §6: if the leader dies meanwhile, the next is elected by the old members or by both, as its own log says; the new
/// ones alone elect nobody.
#[test]
fn a_candidate_asks_those_of_its_own_log() {
    let mut behind = Lone::member_of("n1,n2,n3", 1, &[1]);
    behind.time_out();
    behind.hear(2, 1, Body::PreVoteGranted);
    assert_eq!(behind.role(), RoleName::Candidate, "two of three");

    let mut has_it = Lone::follower(1, &[1]);
    has_it.hear(2, 1, append_set(LogId::new(1, 1), &[1], &[(2, "n1,n2,n3,+n4,+n5")], 0));
    has_it.time_out();
    has_it.hear(2, 1, Body::PreVoteGranted);
    assert_eq!(has_it.role(), RoleName::PreCandidate, "two of five");
    has_it.hear(5, 1, Body::PreVoteGranted);
    assert_eq!(has_it.role(), RoleName::Candidate, "three of five, and two of three");
}

/// §6: once the entry for both is committed, only servers that have it can be elected.
#[test]
fn who_has_the_joint_entry_refuses_who_has_it_not() {
    let mut lone = Lone::follower(1, &[1]);
    lone.hear(2, 1, append_set(LogId::new(1, 1), &[1], &[(2, "n1,-n2,n3,+n4")], 0));
    lone.wait(2 * ELECTION_TIMEOUT);
    assert!(answers(&lone.hear(3, 2, request(1, 1)), &Body::VoteRefused));
    assert!(answers(&lone.hear(4, 2, request(1, 2)), &Body::VoteGranted));
}

/// §6: then the leader appends the new configuration.
#[test]
fn the_new_configuration_follows_the_joint_one() {
    let mut lone = Lone::leader_of("n1,n2,n3", 1, &[]);
    change(&mut lone, "+n4 -n2");
    lone.end_turn(9);
    assert_eq!(counts(&lone), "n1,-n2,n3,+n4");
    let effects = lone.hear(3, 1, upto(2));
    assert_eq!(appended(&effects).as_deref(), Some("n1,n3,n4"), "n1 and n3 are two of the old and of the new three");
}

/// §6: the new configuration counts as soon as it is appended: it is committed by the new voters alone.
#[test]
fn the_new_configuration_is_committed_by_the_new_voters() {
    let mut lone = Lone::leader_of("n1,n2,n3", 1, &[]);
    change(&mut lone, "+n4 +n5 -n2 -n3");
    lone.end_turn(9);
    lone.hear(2, 1, upto(2));
    lone.hear(4, 1, upto_of(2, 2));
    assert_eq!(counts(&lone), "n1,n4,n5");
    lone.end_turn(9);
    assert_eq!(committed(&lone.hear(5, 1, upto_of(2, 3))), Some(3), "n1 and n5 are two of three");
}

/// §6: once the new configuration is committed, the others may be shut down: nothing more is sent to them but that.
#[test]
fn who_is_not_in_the_new_configuration_may_go() {
    let mut lone = Lone::leader_of("n1,n2,n3", 1, &[]);
    change(&mut lone, "-n3");
    lone.end_turn(9);
    lone.hear(2, 1, upto(2));
    lone.end_turn(9);
    let effects = lone.hear(2, 1, upto(3));
    assert!(sent(&effects).contains(&(3, 1, Body::Removed { at: LogIndex(3) })), "{effects:?}");
    assert_eq!(lone.raft.peers().collect::<Vec<_>>(), [NodeId(2)]);
    assert!(sent(&lone.time_out()).iter().all(|(to, _, _)| *to == 2));
}

/// §6: new servers first join without a vote: they get entries and are no part of any majority.
#[test]
fn a_learner_gets_entries_and_decides_nothing() {
    let mut lone = Lone::leader_of("n1,n2,n3", 1, &[]);
    change(&mut lone, "(n4)");
    assert!(sent(&lone.end_turn(9)).iter().any(|(to, _, _)| *to == 4));
    lone.hear(4, 1, upto_of(2, 2));
    assert_eq!(lone.raft.commit(), LogIndex(1));
    assert_eq!(committed(&lone.hear(2, 1, upto(2))), Some(2));
    assert_eq!(counts(&lone), "n1,n2,n3,(n4)", "no voter has changed, so there is no overlap to end");
}

/// §6: … nor does a learner stand for election.
#[test]
fn a_learner_does_not_stand() {
    let mut lone = Lone::follower_in("(n1),n2,n3", 1, &[1]);
    lone.wait(50 * ELECTION_TIMEOUT);
    lone.input(Input::Tick);
    lone.hear(2, 1, Body::TimeoutNow);
    assert_eq!((lone.role(), lone.term()), (RoleName::Follower, 1));
}

/// §6: once it has caught up, the change may go on (Ongaro §4.2.1: rounds, the last of them short).
#[test]
fn a_learner_may_vote_once_it_has_caught_up() {
    let mut lone = Lone::leader_of("n1,n2,n3,(n4)", 2, &[1, 1, 1]);
    lone.input(Input::Propose { count: 1 });
    assert_eq!(refused(&mut lone, "+n4"), None, "it has all but what was proposed just now");

    let mut lone = Lone::leader(3, 2, &[1, 1, 1]);
    lone.hear(2, 2, upto(4));
    change(&mut lone, "(n4)");
    lone.end_turn(9);
    lone.hear(2, 2, upto(5));
    assert_eq!(refused(&mut lone, "+n4"), Some(ChangeRefused::NotCaughtUp { node: NodeId(4) }));
    lone.hear(4, 2, upto_of(5, 5));
    assert_eq!(refused(&mut lone, "+n4"), None);
}

/// §6: a leader that is not in the new configuration steps down. Here it does so before it would have to append it: it
/// hands over once the entry for both is committed, and whoever takes over ends the change.
#[test]
fn a_leader_that_leaves_hands_over() {
    for wish in ["-n1", "(n1)"] {
        let mut lone = Lone::leader_of("n1,n2,n3", 1, &[]);
        change(&mut lone, wish);
        lone.end_turn(9);
        lone.hear(2, 1, upto(2));
        let effects = lone.hear(3, 1, upto(2));
        assert_eq!(appended(&effects), None, "{wish}: not by who is not in it");
        assert!(lone.raft.handing_over().is_some(), "{wish}");
        assert!(answers(&effects, &Body::TimeoutNow), "{wish}: {effects:?}");
    }
}

/// §6: a removed server that knows nothing of it times out and stands. Others disregard its RequestVote while they
/// believe that there is a leader: neither term nor vote changes. Here it is told, besides.
#[test]
fn a_removed_server_disturbs_nobody() {
    let mut lone = Lone::follower_in("n1,n2,n3,n4", 1, &[1]);
    lone.hear(2, 1, append_set(LogId::new(1, 1), &[1, 1], &[(2, "n1,n2,n3,-n4"), (3, "n1,n2,n3")], 3));
    for body in [request(9, 9), Body::RequestPreVote { last: LogId::new(9, 9) }] {
        let effects = lone.hear(4, 8, body);
        assert!(answers(&effects, &Body::Removed { at: LogIndex(3) }), "{effects:?}");
        assert!(!answers(&effects, &Body::VoteGranted) && !answers(&effects, &Body::PreVoteGranted), "{effects:?}");
        assert_eq!((lone.term(), lone.raft.role_state().leader), (1, Some(NodeId(2))));
    }
}

/// §6: … unless it comes in again, as far as is known here, or nothing is known here of who the members are.
#[test]
fn only_who_is_removed_for_good_is_told() {
    let asks = Body::RequestPreVote { last: LogId::new(9, 9) };
    let told = |lone: &mut Lone| {
        sent(&lone.hear(4, 1, asks.clone())).iter().any(|(_, _, body)| matches!(body, Body::Removed { .. }))
    };
    let mut lone = Lone::follower(1, &[1]);
    assert!(told(&mut lone));
    lone.hear(2, 1, append_set(LogId::new(1, 1), &[1], &[(2, "n1,n2,n3,+n4")], 0));
    assert!(!told(&mut lone), "it comes in with an entry that is not committed");
    let mut joins = Lone::with(&vlot_raft::state::Restored::default(), |_| {}, 1);
    joins.hear(2, 1, BEAT);
    assert!(!told(&mut joins));
}

/// §6: this does not affect elections in which everyone has waited for an election timeout.
#[test]
fn a_new_member_is_voted_for_when_the_leader_is_silent() {
    let mut lone = Lone::follower_in("n1,n2,n3", 1, &[1]);
    lone.wait(ELECTION_TIMEOUT);
    assert!(answers(&lone.hear(3, 2, request(1, 1)), &Body::VoteGranted));
}

// Ongaro §4.1: safety.

/// §4.1: servers take what others say without asking their own configuration: entries of a leader that is not in it, …
#[test]
fn a_leader_need_not_be_known() {
    let mut joins = Lone::with(&vlot_raft::state::Restored::default(), |_| {}, 1);
    let effects = joins.hear(7, 3, append_set(LogId::ZERO, &[1, 3], &[(2, "+n1,n7,n8")], 0));
    assert!(answers(&effects, &upto(2)), "{effects:?}");
    assert_eq!((counts(&joins).as_str(), joins.raft.role_state().leader), ("+n1,n7,n8", Some(NodeId(7))));
}

/// §4.1: … and candidates that are not in it get votes.
#[test]
fn a_candidate_need_not_be_known() {
    let mut lone = Lone::member_of("n1,n2,n3", 1, &[1]);
    assert!(answers(&lone.hear(7, 1, Body::RequestPreVote { last: LogId::new(1, 2) }), &Body::PreVoteGranted));
    assert!(answers(&lone.hear(7, 2, request(1, 2)), &Body::VoteGranted));
}

/// §4.1: whose configuration is whose matters to the one who counts: a stranger's vote is none.
#[test]
fn a_strangers_word_does_not_count() {
    let mut lone = Lone::member_of("n1,n2,n3", 1, &[1]);
    lone.time_out();
    lone.hear(7, 1, Body::PreVoteGranted);
    assert_eq!(lone.role(), RoleName::PreCandidate);
    let mut leader = Lone::leader(3, 1, &[]);
    leader.hear(7, 1, upto(1));
    assert_eq!(leader.raft.commit(), LogIndex::ZERO);
}

/// §6: what is committed already is not committed again: an acknowledgement of it begins nothing.
#[test]
fn a_repeated_acknowledgement_does_not_go_on_with_a_change() {
    let mut lone = Lone::leader_of("n1,n2,n3", 1, &[]);
    for peer in [2, 3] {
        lone.hear(
            peer,
            1,
            Body::HeartbeatReply { session: FIRST, round: 0, fit: false, full: false, priority: 1, asleep: false },
        );
    }
    change(&mut lone, "-n1");
    lone.end_turn(9);
    lone.hear(2, 1, upto(2));
    lone.hear(3, 1, upto(2));
    lone.hear(2, 1, beat_answer(0));
    lone.input(Input::Propose { count: 1 });
    assert_eq!(lone.hear(3, 1, upto(2)), []);
    assert_eq!(lone.raft.handing_over(), None, "n2 is fit now, and gets the office with the next heartbeat");
    lone.time_out();
    assert_eq!(lone.raft.handing_over(), Some(NodeId(2)));
}

/// §4.1: no change begins before the one before it is committed.
#[test]
fn changes_come_one_at_a_time() {
    let mut lone = Lone::leader_of("n1,n2,n3", 1, &[]);
    change(&mut lone, "-n3");
    assert_eq!(refused(&mut lone, "(n5)"), Some(ChangeRefused::InProgress), "the joint one is under way");
    lone.end_turn(9);
    lone.hear(2, 1, upto(2));
    assert_eq!(counts(&lone), "n1,n2");
    assert_eq!(refused(&mut lone, "(n5)"), Some(ChangeRefused::InProgress), "and then what ends it");
    lone.end_turn(9);
    lone.hear(2, 1, upto(3));
    assert_eq!(refused(&mut lone, "(n5)"), None);
}

/// §4.1, as corrected in 2015: nor before the leader has committed an entry of its own term.
#[test]
fn changes_wait_for_the_first_commit_of_the_term() {
    let mut lone = Lone::leader(3, 2, &[1]);
    assert_eq!(refused(&mut lone, "-n3"), Some(ChangeRefused::TooSoon));
    lone.hear(2, 2, upto(2));
    assert_eq!(refused(&mut lone, "-n3"), None);
}

/// §4.1: an entry that sets a configuration may be cut like any other; then the one before counts again.
#[test]
fn a_configuration_that_is_cut_counts_no_more() {
    let mut lone = Lone::follower(1, &[1]);
    lone.hear(2, 1, append_set(LogId::new(1, 1), &[1, 1], &[(2, "n1,n2,n3,+n4"), (3, "n1,n2,n3,n4")], 0));
    assert_eq!(counts(&lone), "n1,n2,n3,n4");
    let effects = lone.hear(3, 2, append(LogId::new(1, 2), &[2], 0));
    assert_eq!(counts(&lone), "n1,n2,n3,+n4", "what set the last went");
    assert!(effects.contains(&Effect::Happened(Event::ConfigurationChanged { at: LogIndex(2) })));
    lone.hear(3, 2, append(LogId::new(1, 1), &[2], 0));
    assert_eq!(counts(&lone), "n1,n2,n3");
}

/// §4.1: a request to change the members is for the leader.
#[test]
fn only_a_leader_changes_the_members() {
    let mut lone = Lone::follower(1, &[1]);
    assert_eq!(refused(&mut lone, "(n4)"), Some(ChangeRefused::NotLeader { leader: Some(NodeId(2)) }));
}

// Ongaro §4.2: availability.

/// §4.2.1: what a new server lacks is found in few steps: its answer names the end of its log.
#[test]
fn an_empty_log_is_found_in_one_step() {
    let mut lone = Lone::leader(3, 2, &[1; 50]);
    lone.hear(2, 2, upto(51));
    change(&mut lone, "(n4)");
    lone.end_turn(100);
    let session = Session(LogIndex(52));
    lone.hear(4, 2, Body::EntriesRefused { session, missing: LogId::new(2, 51), hint: LogId::ZERO });
    assert_eq!(lone.raft.next_range(NodeId(4)), Some((LogIndex::ZERO, LogIndex(52))));
}

/// §4.2.1: a new server that is unavailable is not made a voter.
#[test]
fn a_learner_that_says_nothing_is_not_promoted() {
    let mut lone = Lone::leader(3, 1, &[]);
    lone.hear(2, 1, upto(1));
    change(&mut lone, "(n4)");
    lone.end_turn(9);
    lone.hear(2, 1, upto(2));
    for _ in 0..30 {
        lone.time_out();
        lone.hear(2, 1, beat_answer(0));
    }
    assert_eq!(refused(&mut lone, "+n4"), Some(ChangeRefused::NotCaughtUp { node: NodeId(4) }));
}

/// §4.2.2: until the new configuration is committed, who is about to leave may be needed, to vote and to lead (figure
/// 4.6). It has its vote and stands, because the configuration without it is not sent to it before.
#[test]
fn who_leaves_is_part_of_it_until_the_end() {
    let mut leader = Lone::leader_of("n1,n2,n3", 1, &[]);
    change(&mut leader, "-n3");
    leader.end_turn(9);
    leader.hear(3, 1, upto(2));
    leader.hear(2, 1, upto(2));
    assert_eq!(counts(&leader), "n1,n2");
    let to_who_leaves = sent(&leader.end_turn(9)).into_iter().filter(|(to, _, _)| *to == 3);
    assert!(to_who_leaves.clone().all(|(_, _, body)| matches!(body, Body::Committed { .. })), "{to_who_leaves:?}");

    let mut leaves = Lone::follower_in("-n1,n2,n3", 1, &[1]);
    leaves.time_out();
    leaves.hear(2, 1, Body::PreVoteGranted);
    leaves.hear(3, 1, Body::PreVoteGranted);
    assert_eq!(leaves.role(), RoleName::Candidate);
}

/// §4.2.2: a candidate counts its own vote only where it has one.
#[test]
fn a_candidate_counts_itself_only_where_it_votes() {
    for (group, peer, stands) in [("-n1,n2,+n3", 2, false), ("n1,n2,-n3", 2, true)] {
        let mut lone = Lone::member_of(group, 1, &[1]);
        lone.time_out();
        lone.hear(peer, 1, Body::PreVoteGranted);
        assert_eq!(lone.role() == RoleName::Candidate, stands, "{group}");
    }
}

/// §4.2.3: a removed server stops; what it says of elections changes nothing before. Here it stops when it is told, and is
/// a member again when its log says so, for good.
#[test]
fn a_removed_server_stops_until_it_is_added_again() {
    let mut lone = Lone::follower(1, &[1]);
    let effects = lone.hear(2, 1, Body::Removed { at: LogIndex(3) });
    assert!(effects.contains(&Effect::Happened(Event::Removed { at: LogIndex(3) })));
    lone.wait(50 * ELECTION_TIMEOUT);
    lone.input(Input::Tick);
    assert_eq!((lone.role(), lone.raft.is_removed()), (RoleName::Follower, true));
    let set = [(2, "-n1,n2,n3"), (3, "n2,n3"), (5, "+n1,n2,n3")];
    lone.hear(2, 1, append_set(LogId::new(1, 1), &[1, 1, 1, 1], &set, 5));
    lone.hear(2, 1, Body::Removed { at: LogIndex(3) });
    assert!(!lone.raft.is_removed());
    lone.time_out();
    assert_eq!(lone.role(), RoleName::PreCandidate);
}

/// §4.2.3: … a leader does not, for it would know; unless another has been elected since, of whom this is the first word.
#[test]
fn a_removed_leader_stops_when_its_successor_tells_it() {
    for (term, stops) in [(1, false), (2, false), (3, true)] {
        let mut lone = Lone::leader_of("n1,n2,n3", 2, &[]);
        lone.hear(3, term, Body::Removed { at: LogIndex(7) });
        assert_eq!((lone.raft.is_removed(), lone.role() == RoleName::Follower), (stops, stops), "told in t{term}");
    }
}

/// §4.2.3: … another configuration that does not name it either does not bring it back.
#[test]
fn a_removed_server_stays_so_while_others_come_and_go() {
    let mut lone = Lone::follower(1, &[1]);
    lone.hear(2, 1, Body::Removed { at: LogIndex(3) });
    let set = [(2, "-n1,n2,n3"), (3, "n2,n3"), (4, "n2,n3,(n5)")];
    lone.hear(2, 1, append_set(LogId::new(1, 1), &[1, 1, 1], &set, 4));
    assert!(lone.raft.is_removed());
}

/// §4.2.3: leaders that heartbeat are not deposed by a removed server, and one that was asked to hand over is: the
/// request says so.
#[test]
fn a_vote_that_the_leader_has_asked_for_is_given() {
    let transfer = Body::RequestVote { last: LogId::new(1, 1), transfer: true };
    let mut lone = Lone::follower(1, &[1]);
    assert_eq!(sent(&lone.hear(3, 2, request(1, 1))), []);
    assert!(answers(&lone.hear(3, 2, transfer), &Body::VoteGranted));
}

/// §4.2.3: "disregard" is not for ever: a candidate whose poll is open has no leader, and neither has a new follower.
#[test]
fn who_has_heard_no_leader_votes() {
    let mut lone = Lone::new(3, 1, None, &[1]);
    lone.time_out();
    assert!(answers(&lone.hear(3, 2, request(1, 1)), &Body::VoteGranted));
}

// Ongaro §4.3, §4.4.

/// §4.3: a joint change may be any change at all.
#[test]
fn any_voters_may_be_replaced_at_once() {
    for (wishes, joint) in [
        ("+n4 +n5 +n6 -n1 -n2 -n3", "-n1,-n2,-n3,+n4,+n5,+n6"),
        ("-n2 -n3", "n1,-n2,-n3"),
        ("(n2) (n3) +n4w (n5)", "n1,~n2,~n3,+n4w,(n5)"),
    ] {
        let mut lone = Lone::leader_of("n1,n2,n3", 1, &[]);
        let effects = change(&mut lone, wishes);
        assert_eq!(appended(&effects).as_deref(), Some(joint), "{wishes}");
    }
}

/// §4.3: the entry that ends a change is appended by whoever leads when the joint one is committed, also by a leader that
/// found it in its log.
#[test]
fn a_new_leader_ends_the_change_it_finds() {
    let mut lone = Lone::follower(1, &[1]);
    lone.hear(2, 1, append_set(LogId::new(1, 1), &[1], &[(2, "n1,-n2,n3,+n4")], 0));
    lone.win();
    assert_eq!(counts(&lone), "n1,-n2,n3,+n4", "not before an entry of its own term is committed");
    let session = Session(LogIndex(2));
    lone.hear(3, 2, Body::EntriesAccepted { session, upto: LogIndex(3) });
    assert_eq!(counts(&lone), "n1,n3,n4");
}

/// §4.4: a server that is started without a configuration does nothing until it is added.
#[test]
fn a_server_without_a_configuration_waits() {
    let mut lone = Lone::with(&vlot_raft::state::Restored::default(), |_| {}, 1);
    lone.wait(100 * ELECTION_TIMEOUT);
    lone.input(Input::Tick);
    assert_eq!(
        (lone.role(), lone.term(), lone.raft.configuration()),
        (RoleName::Follower, 0, &Configuration::default())
    );
    assert!(answers(
        &lone.hear(2, 1, BEAT),
        &Body::HeartbeatReply { session: FIRST, round: 0, fit: false, full: false, priority: 1, asleep: false }
    ));
    assert_eq!(parse_members("nobody"), Configuration::default());
}

// Witnesses: they must have nothing that their leader could lose (see `last_for`).

/// A witness that comes or goes gets what is durable at its leader, like any other.
#[test]
fn a_witness_gets_only_what_the_leader_has_durably() {
    for (group, wish, witness) in [("n1,n2,n3", "+n4w", 4), ("n1,n2,n3,n4w", "-n4", 4), ("n1,n2,n3w", "+n4", 3)] {
        let mut lone = Lone::leader_of(group, 1, &[]);
        lone.slow_disk = true;
        change(&mut lone, wish);
        let upto = |lone: &Lone, peer| lone.raft.next_range(NodeId(peer)).map(|(_, upto)| upto.0);
        assert_eq!(upto(&lone, 2), Some(2), "{wish} of {group}: a voter with payloads");
        assert_ne!(upto(&lone, witness), Some(2), "{wish} of {group}");
        lone.persist();
        assert_eq!(upto(&lone, witness), Some(2), "{wish} of {group}: once it is durable");
    }
}
