//! What is put on record of an election, and that nothing is of a proposal. No sentence of the paper, but each of its rules
//! has a word for why it was applied.

use std::time::Duration;

use vlot_raft::effect::{Effect, Input};
use vlot_raft::election::{Cause, ElectionEvent, LeftOffice, Loss, Poll, TransferCause, Unfit, VoteRefused};
use vlot_raft::id::{LogId, NodeId, Term};
use vlot_raft::message::Body;

use crate::harness::cluster::ELECTION_TIMEOUT;
use crate::harness::lone::{Lone, append};
use crate::{beat_answer, request, upto};

fn recorded(effects: &[Effect]) -> Vec<ElectionEvent> {
    let record = |effect: &Effect| if let Effect::Election(event) = effect { Some(*event) } else { None };
    effects.iter().filter_map(record).collect()
}

fn asked(poll: Poll, candidate: u64, term: u64, refused: Option<VoteRefused>) -> ElectionEvent {
    ElectionEvent::WasAsked { poll, candidate: NodeId(candidate), term: Term(term), refused }
}

#[test]
fn a_voter_says_why_it_refuses() {
    let later = VoteRefused::LaterLog { own: LogId::new(2, 3), theirs: LogId::new(2, 2) };
    let rows = [
        ("the log is shorter", None, 3, request(2, 2), asked(Poll::Vote, 3, 3, Some(later))),
        ("the log is as long", None, 3, request(2, 3), asked(Poll::Vote, 3, 3, None)),
        (
            "the term is over",
            None,
            1,
            request(2, 3),
            asked(Poll::Vote, 3, 1, Some(VoteRefused::StaleTerm { term: Term(2) })),
        ),
        (
            "the vote is given",
            Some(2),
            2,
            request(2, 3),
            asked(Poll::Vote, 3, 2, Some(VoteRefused::Voted { candidate: NodeId(2) })),
        ),
    ];
    for (why, vote, term, body, expected) in rows {
        let mut lone = Lone::new(3, 2, vote, &[1, 2, 2]);
        let recorded = recorded(&lone.hear(3, term, body));
        assert_eq!(recorded.last(), Some(&expected), "{why}");
    }
}

#[test]
fn a_voter_says_why_it_refuses_a_pre_vote() {
    let ask = |index| Body::RequestPreVote { last: LogId::new(1, index) };
    let later = VoteRefused::LaterLog { own: LogId::new(1, 2), theirs: LogId::new(1, 1) };
    let in_office = VoteRefused::LeaderInOffice { leader: Some(NodeId(2)) };
    let mut lone = Lone::follower(1, &[1, 1]);
    assert_eq!(recorded(&lone.hear(3, 1, ask(2))), [asked(Poll::PreVote, 3, 2, Some(in_office))]);
    lone.wait(ELECTION_TIMEOUT);
    assert_eq!(recorded(&lone.hear(3, 1, ask(1))), [asked(Poll::PreVote, 3, 2, Some(later))]);
    assert_eq!(recorded(&lone.hear(3, 1, ask(2))), [asked(Poll::PreVote, 3, 2, None)]);
    let stale = VoteRefused::StaleTerm { term: Term(1) };
    assert_eq!(recorded(&lone.hear(3, 0, ask(2))), [asked(Poll::PreVote, 3, 1, Some(stale))]);
}

#[test]
fn a_candidate_says_why_it_asks_and_who_has_answered() {
    let mut lone = Lone::follower(1, &[1]);
    lone.wait(Duration::from_millis(30));
    let lost = ElectionEvent::LeaderLost { leader: NodeId(2), how: Loss::Connection };
    assert_eq!(recorded(&lone.input(Input::Lost { peer: NodeId(3) })), [], "it is not the leader");
    assert_eq!(recorded(&lone.input(Input::Lost { peer: NodeId(2) })), [lost]);
    let ticked = recorded(&lone.time_out());
    let [ElectionEvent::Asks { poll: Poll::PreVote, cause: Cause::LostLeader, silence }] = ticked[..] else {
        panic!("{ticked:?}");
    };
    assert!(silence >= Duration::from_millis(30) && silence < ELECTION_TIMEOUT, "{silence:?}");
    let answered = |poll| ElectionEvent::Answered { poll, voter: NodeId(3), granted: true };
    let asks = ElectionEvent::Asks { poll: Poll::Vote, cause: Cause::LostLeader, silence };
    assert_eq!(recorded(&lone.hear(3, 1, Body::PreVoteGranted)), [answered(Poll::PreVote), asks]);
    assert_eq!(recorded(&lone.hear(3, 2, Body::VoteGranted)), [answered(Poll::Vote)]);
    let later = ElectionEvent::LaterTerm { term: Term(7), from: NodeId(3) };
    assert_eq!(recorded(&lone.hear(3, 7, Body::StaleTerm)), [later]);
}

#[test]
fn a_leader_says_why_it_leaves() {
    let mut lone = Lone::leader(3, 1, &[]);
    lone.wait(2 * ELECTION_TIMEOUT);
    let ticked = recorded(&lone.time_out());
    assert_eq!(ticked, [ElectionEvent::LeftOffice { why: LeftOffice::NoQuorum }]);

    let mut lone = Lone::leader(3, 1, &[]);
    lone.hear_all_have_everything();
    let asked = recorded(&lone.input(Input::Transfer { to: Some(NodeId(2)) }));
    assert_eq!(asked, [ElectionEvent::Transfers { to: NodeId(2), why: TransferCause::Asked }]);

    let mut lone = Lone::leader(3, 1, &[]);
    lone.hear_all_have_everything();
    [2, 3].into_iter().for_each(|peer| drop(lone.hear(peer, 1, beat_answer(0))));
    lone.input(Input::Fitness { fit: false });
    let ticked = recorded(&lone.time_out());
    let [ElectionEvent::Transfers { why: TransferCause::Unfit(Unfit::StateMachine), .. }] = ticked[..] else {
        panic!("{ticked:?}");
    };
}

#[test]
fn nothing_is_recorded_of_a_proposal() {
    let mut leader = Lone::leader(3, 1, &[]);
    let mut effects = leader.input(Input::Propose { count: 3 });
    effects.extend(leader.end_turn(100));
    effects.extend(leader.hear(2, 1, upto(4)));
    assert_eq!(leader.raft.commit().0, 4);
    let mut follower = Lone::follower(1, &[]);
    effects.extend(follower.hear(2, 1, append(LogId::ZERO, &[1, 1, 1], 3)));
    assert_eq!(follower.raft.commit().0, 3);
    assert_eq!(recorded(&effects), []);
}
