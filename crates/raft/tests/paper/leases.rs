//! Reads by lease (Ongaro §6.4.1), and what else there is to say of reads (§6.4) and of PreVote (§9.6).

use std::time::Duration;

use vlot_raft::configuration::Change;
use vlot_raft::effect::{Effect, Input, RoleName};
use vlot_raft::id::{LogId, LogIndex, NodeId};
use vlot_raft::message::{Body, ReadId, Session};

use crate::harness::cluster::{ELECTION_TIMEOUT, HEARTBEAT};
use crate::harness::lone::{FIRST, Lone, START, had, sent};
use crate::harness::notation::{parse_change, parse_members};
use crate::{BEAT, answers, beat_answer, request, upto};

const LEASE: Duration = Duration::from_millis(900);

fn leased(term: u64, log: &[u64]) -> Lone {
    Lone::with(&had(parse_members("n1,n2,n3"), term, None, log), |config| config.lease = Some(LEASE), 1)
}

/// Leads term 1 with a lease: a quorum has answered the round that it has just sent.
fn leader() -> Lone {
    let mut lone = leased(0, &[]);
    lone.win();
    lone.hear(2, 1, upto(1));
    lone.time_out();
    lone.hear(2, 1, beat_answer(1));
    lone
}

fn read(lone: &mut Lone) -> Vec<Effect> {
    lone.input(Input::Read { read: ReadId(5) })
}

fn ready(effects: &[Effect]) -> Option<u64> {
    effects.iter().find_map(|effect| if let Effect::ReadReady { index, .. } = effect { Some(index.0) } else { None })
}

/// §6.4.1: a leader whose round of heartbeats a majority has answered answers reads for some time without asking.
#[test]
fn a_read_within_the_lease_asks_nobody() {
    let mut lone = leader();
    let effects = read(&mut lone);
    assert_eq!((ready(&effects), sent(&effects)), (Some(1), vec![]));
    let of_a_follower = lone.hear(3, 1, Body::ReadIndex { read: ReadId(7) });
    assert_eq!(sent(&of_a_follower), [(3, 1, Body::ReadIndexReply { read: ReadId(7), index: LogIndex(1) })]);
}

/// §6.4.1: the lease counts from when the round was sent, not from when it was answered.
#[test]
fn the_lease_counts_from_when_the_round_was_sent() {
    let mut lone = leased(0, &[]);
    lone.win();
    lone.hear(2, 1, upto(1));
    lone.time_out();
    let sent_at = lone.now;
    lone.wait(Duration::from_millis(80));
    lone.hear(2, 1, beat_answer(1));
    lone.now = sent_at + (LEASE - Duration::from_millis(1));
    assert_eq!(ready(&read(&mut lone)), Some(1));
    lone.now = sent_at + LEASE;
    assert_eq!(ready(&read(&mut lone)), None, "it is over, and the next read asks");
}

/// §6.4.1: every answered round extends it.
#[test]
fn each_round_extends_the_lease() {
    let mut lone = leader();
    for round in 2..30 {
        lone.time_out();
        lone.hear(if round % 2 == 0 { 3 } else { 2 }, 1, beat_answer(round));
        assert_eq!(ready(&read(&mut lone)), Some(1), "round {round}");
    }
}

/// §6.4.1: one answer is no majority of five.
#[test]
fn a_minority_extends_no_lease() {
    let five = had(parse_members("n1,n2,n3,n4,n5"), 0, None, &[]);
    let mut lone = Lone::with(&five, |config| config.lease = Some(LEASE), 1);
    lone.win();
    lone.hear(2, 1, upto(1));
    lone.hear(3, 1, upto(1));
    lone.time_out();
    lone.hear(2, 1, beat_answer(1));
    assert_eq!(ready(&read(&mut lone)), None);
}

/// §6.4.1: it rests on nobody being elected within an election timeout of hearing the leader; so a server gives no vote
/// before, not even when it believes the leader to be gone.
#[test]
fn who_has_heard_a_leader_is_bound_by_it() {
    let mut lone = leased(1, &[1]);
    lone.wait(ELECTION_TIMEOUT);
    lone.hear(2, 1, BEAT);
    lone.input(Input::Lost { peer: NodeId(2) });
    lone.wait(ELECTION_TIMEOUT - Duration::from_millis(1));
    lone.input(Input::Tick);
    assert_eq!(lone.role(), RoleName::Follower, "nor does it stand");
    assert!(answers(&lone.hear(3, 1, Body::RequestPreVote { last: LogId::new(9, 9) }), &Body::PreVoteRefused));
    assert_eq!(sent(&lone.hear(3, 2, request(9, 9))), []);
    assert_eq!(lone.term(), 1);
    lone.wait(Duration::from_millis(1));
    assert!(answers(&lone.hear(3, 2, request(9, 9)), &Body::VoteGranted));
}

/// §6.4.1: … not even when it has heard of a later term since.
#[test]
fn a_later_term_does_not_end_a_promise() {
    let mut lone = leased(1, &[1]);
    lone.wait(ELECTION_TIMEOUT);
    lone.hear(2, 1, BEAT);
    lone.hear(3, 4, Body::StaleTerm);
    assert_eq!((lone.term(), lone.raft.role_state().leader), (4, None));
    assert_eq!(sent(&lone.hear(3, 5, request(9, 9))), []);
    assert!(lone.raft.deadline() >= lone.now + ELECTION_TIMEOUT);
}

/// §6.4.1 has it that servers remember; one that has been restarted does not, so it keeps the promise that it may have
/// given just before.
#[test]
fn a_restarted_server_keeps_its_promise() {
    let mut lone = leased(1, &[1]);
    assert!(lone.raft.deadline() >= START + ELECTION_TIMEOUT);
    lone.wait(ELECTION_TIMEOUT - Duration::from_millis(1));
    assert!(answers(&lone.hear(3, 1, Body::RequestPreVote { last: LogId::new(9, 9) }), &Body::PreVoteRefused));
    assert_eq!(sent(&lone.hear(3, 2, request(9, 9))), []);
    lone.wait(Duration::from_millis(1));
    assert!(answers(&lone.hear(3, 2, request(9, 9)), &Body::VoteGranted));
}

/// Without leases none of this holds anyone up: a restarted server votes at once.
#[test]
fn without_leases_nobody_is_bound() {
    let mut lone = Lone::new(3, 1, None, &[1]);
    assert!(lone.raft.deadline() < START + ELECTION_TIMEOUT);
    assert!(answers(&lone.hear(3, 2, request(9, 9)), &Body::VoteGranted));
}

/// §6.4.1 with §3.10: who was asked to stand does so before any timeout, at any later time. A leader that has asked
/// has no lease any more.
#[test]
fn a_leader_that_hands_over_has_no_lease() {
    let mut lone = leader();
    lone.input(Input::Transfer { to: Some(NodeId(2)) });
    assert_eq!(ready(&read(&mut lone)), None);
    for round in 2..40 {
        lone.time_out();
        lone.hear(2, 1, beat_answer(round));
    }
    assert_eq!(lone.raft.handing_over(), None, "it has given up");
    assert_eq!(ready(&read(&mut lone)), None, "and n2 may stand all the same");
}

/// §6.4, 1 with §6.4.1: a lease is no reason to answer before an entry of the leader's own term is committed.
#[test]
fn a_lease_does_not_replace_the_first_commit() {
    let mut lone = leased(1, &[1, 1]);
    lone.win();
    lone.time_out();
    lone.hear(2, 2, beat_answer(1));
    assert_eq!(ready(&read(&mut lone)), None);
    let effects = lone.hear(2, 2, upto(3));
    assert_eq!(ready(&effects), None, "{effects:?}");
    assert_eq!(ready(&lone.hear(2, 2, beat_answer(2))), Some(3));
}

/// §6.4.1: a change of members leaves it as it is: who could elect another has heard of the change from this leader.
#[test]
fn a_lease_outlasts_a_change_of_members() {
    let mut lone = leader();
    lone.input(Input::ChangeConfiguration { changes: vec![Change::Voter(NodeId(4)), Change::Remove(NodeId(2))] });
    assert_eq!(ready(&read(&mut lone)), Some(1));
    lone.wait(LEASE);
    lone.time_out();
    lone.hear(2, 1, beat_answer(2));
    assert_eq!(ready(&read(&mut lone)), None, "n1 and n2 are a majority of the old members only");
}

/// §6.4: a learner, which decides nothing, may read like any follower.
#[test]
fn a_learner_reads_by_the_leaders_index() {
    let mut lone = Lone::follower_in("(n1),n2,n3", 1, &[1]);
    assert_eq!(sent(&read(&mut lone)), [(2, 1, Body::ReadIndex { read: ReadId(5) })]);
}

/// §6.4: … and its answer to a round confirms nothing.
#[test]
fn a_learner_confirms_nothing() {
    let mut lone = Lone::leader_of("n1,n2,n3,(n4)", 1, &[]);
    read(&mut lone);
    assert_eq!(ready(&lone.hear(4, 1, beat_answer(1))), None);
    assert_eq!(ready(&lone.hear(3, 1, beat_answer(1))), Some(1));
}

/// §6.4: while two configurations overlap, a round is confirmed by majorities of both.
#[test]
fn a_round_is_confirmed_by_both_majorities() {
    let mut lone = Lone::leader_of("n1,n2,n3", 1, &[]);
    let wishes = ["+n4", "+n5", "-n2", "-n3"].map(parse_change);
    lone.input(Input::ChangeConfiguration { changes: wishes.into() });
    read(&mut lone);
    for peer in [2, 3] {
        assert_eq!(ready(&lone.hear(peer, 1, beat_answer(1))), None, "of the new voters n1 alone");
    }
    let of_n4 = Body::HeartbeatReply {
        session: Session(LogIndex(2)),
        round: 1,
        fit: true,
        full: false,
        priority: 1,
        asleep: false,
    };
    assert_eq!(ready(&lone.hear(4, 1, of_n4)), Some(1));
}

/// §9.6: a server that could not win is refused, and the refusal names the term if that is why.
#[test]
fn a_pre_vote_is_refused_with_the_later_term() {
    let mut lone = Lone::new(3, 6, None, &[1]);
    assert_eq!(sent(&lone.hear(2, 4, Body::RequestPreVote { last: LogId::new(9, 9) })), [(2, 6, Body::PreVoteRefused)]);
    let mut asks = Lone::new(3, 4, None, &[1]);
    asks.time_out();
    asks.hear(2, 6, Body::PreVoteRefused);
    assert_eq!((asks.role(), asks.term()), (RoleName::Follower, 6));
}

/// §9.6: … a term that the asker does not know is told once it is stored; its own term vouches for nothing.
#[test]
fn a_pre_vote_is_refused_at_once_in_the_askers_own_term() {
    let mut lone = Lone::new(3, 1, None, &[1]);
    lone.slow_disk = true;
    lone.hear(2, 5, crate::BEAT);
    let asks = Body::RequestPreVote { last: LogId::new(9, 9) };
    assert_eq!(sent(&lone.hear(3, 5, asks.clone())), [(3, 5, Body::PreVoteRefused)]);
    assert_eq!(sent(&lone.hear(3, 4, asks)), []);
    assert!(sent(&lone.persist()).contains(&(3, 5, Body::PreVoteRefused)));
}

/// §9.6: … so many refusals that no majority is left end the poll; it is not waited for.
#[test]
fn a_poll_that_cannot_be_won_is_over() {
    let mut lone = Lone::new(5, 1, None, &[1]);
    lone.time_out();
    lone.hear(2, 1, Body::PreVoteRefused);
    lone.hear(3, 1, Body::PreVoteRefused);
    assert_eq!(lone.role(), RoleName::PreCandidate);
    lone.hear(4, 1, Body::PreVoteRefused);
    assert_eq!((lone.role(), lone.term()), (RoleName::Follower, 1));
}

/// §9.6: whoever would vote for a server still hears its leader: consent given does not end that.
#[test]
fn consent_does_not_unseat_anyone() {
    let mut lone = Lone::follower(1, &[1]);
    lone.wait(ELECTION_TIMEOUT);
    assert!(answers(&lone.hear(3, 1, Body::RequestPreVote { last: LogId::new(1, 1) }), &Body::PreVoteGranted));
    assert_eq!(
        sent(&lone.hear(2, 1, BEAT)),
        [(2, 1, Body::HeartbeatReply { session: FIRST, round: 0, fit: true, full: false, priority: 1, asleep: false })]
    );
    lone.wait(HEARTBEAT);
    assert!(answers(&lone.hear(3, 1, Body::RequestPreVote { last: LogId::new(1, 1) }), &Body::PreVoteRefused));
}
