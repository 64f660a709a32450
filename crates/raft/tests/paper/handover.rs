//! Leadership transfer: Ongaro §3.10, and what makes a leader hand over of its own accord.

use std::collections::BTreeSet;
use std::time::Duration;

use vlot_raft::configuration::{Change, ChangeRefused};
use vlot_raft::effect::{Effect, Event, Input, ProposalRefused, RoleName, TransferRefused};
use vlot_raft::id::NodeId;
use vlot_raft::message::{Body, ReadId};

use crate::harness::cluster::{ELECTION_TIMEOUT, HEARTBEAT};
use crate::harness::lone::{FIRST, Lone, had, sent};
use crate::harness::notation::parse_members;
use crate::{answers, beat_answer, upto};

fn transfer(lone: &mut Lone, to: Option<u64>) -> Vec<Effect> {
    lone.input(Input::Transfer { to: to.map(NodeId) })
}

fn refused(effects: &[Effect]) -> Option<TransferRefused> {
    effects.iter().find_map(|effect| if let Effect::TransferRefused { why } = effect { Some(*why) } else { None })
}

fn timeout_now(effects: &[Effect]) -> Option<u64> {
    sent(effects).into_iter().find(|(_, _, body)| *body == Body::TimeoutNow).map(|(to, _, _)| to)
}

/// All others answer a heartbeat, for as long as it takes.
fn beats(lone: &mut Lone, wait: Duration) -> Vec<Effect> {
    let end = lone.now + wait;
    let mut effects = Vec::new();
    while lone.role() == RoleName::Leader && lone.raft.deadline() <= end {
        effects.extend(lone.time_out());
        let term = lone.term();
        for peer in lone.others() {
            effects.extend(lone.hear(peer, term, beat_answer(0)));
        }
    }
    lone.now = end;
    effects
}

/// §3.10, 1: the leader that hands over takes no new proposals; nor does it change the members.
#[test]
fn nothing_is_proposed_during_a_hand_over() {
    let mut lone = Lone::leader_of("n1,n2,n3", 1, &[]);
    assert!(lone.raft.takes_proposals());
    let effects = transfer(&mut lone, Some(2));
    assert!(effects.contains(&Effect::Happened(Event::TransferBegun { to: NodeId(2) })));
    assert!(!lone.raft.takes_proposals());
    let why = ProposalRefused::Transferring { to: NodeId(2) };
    assert_eq!(lone.input(Input::Propose { count: 1 }), [Effect::ProposalRefused { why }]);
    let why = ChangeRefused::Transferring { to: NodeId(2) };
    let changes = vec![Change::Learner(NodeId(4))];
    assert_eq!(lone.input(Input::ChangeConfiguration { changes }), [Effect::ChangeRefused { why }]);
    assert_eq!(lone.log(), [1]);
}

/// What an answer says of a peer's disk is as old as the round that it answers, however late it comes.
#[test]
fn an_answer_to_an_earlier_round_is_no_news() {
    let mut lone = Lone::leader_of("n1,n2,n3", 1, &[]);
    let answer = |lone: &mut Lone, round, full| {
        for peer in lone.others() {
            lone.hear(
                peer,
                1,
                Body::HeartbeatReply { session: FIRST, round, fit: true, full, priority: 1, asleep: false },
            );
        }
        lone.raft.proposals_refused()
    };
    for read in 1..=2 {
        lone.input(Input::Read { read: ReadId(read) });
        assert_eq!(answer(&mut lone, read, false), None);
    }
    assert_eq!(answer(&mut lone, 1, true), None, "they have room since");
    assert_eq!(answer(&mut lone, 2, true), Some(ProposalRefused::NoSpace));
    assert_eq!(answer(&mut lone, 1, false), Some(ProposalRefused::NoSpace), "their disks are full since");
}

/// §3.10, 2: it brings the target's log up to its own, by the usual means.
#[test]
fn the_target_gets_all_entries_first() {
    let mut lone = Lone::leader_of("n1,n2,n3", 1, &[]);
    lone.input(Input::Propose { count: 3 });
    let mut effects = transfer(&mut lone, Some(2));
    effects.extend(lone.end_turn(9));
    effects.extend(lone.hear(2, 1, upto(3)));
    effects.extend(lone.hear(3, 1, upto(4)));
    assert_eq!(timeout_now(&effects), None, "n2 lacks the last one");
    assert_eq!(timeout_now(&lone.hear(2, 1, upto(4))), Some(2));
    assert_eq!(timeout_now(&lone.hear(2, 1, upto(4))), None, "once");
}

/// §3.10, 3: then it tells the target to stand, which does so at once: a new term, its own vote, no question before.
#[test]
fn the_target_stands_at_once() {
    let mut lone = Lone::follower(1, &[1]);
    let effects = lone.hear(2, 1, Body::TimeoutNow);
    assert_eq!((lone.role(), lone.term(), lone.raft.vote()), (RoleName::Candidate, 2, Some(NodeId(1))));
    let asked = sent(&effects);
    assert_eq!(asked.len(), 2);
    let transfer = |body: &Body| matches!(body, Body::RequestVote { transfer: true, .. });
    assert!(asked.iter().all(|(_, term, body)| *term == 2 && transfer(body)), "{asked:?}");
}

/// §3.10, 3: if it loses all the same, it goes on like any candidate, and is not handed over to any more.
#[test]
fn a_target_that_loses_is_an_ordinary_candidate() {
    let mut lone = Lone::follower(1, &[1]);
    lone.hear(2, 1, Body::TimeoutNow);
    let effects = lone.campaign();
    assert!(answers(&effects, &crate::request(1, 1)), "{effects:?}");
}

/// §3.10: the target's next message has the next term; the leader that has handed over steps down by it.
#[test]
fn the_leader_steps_down_by_the_targets_term() {
    let mut lone = Lone::leader_of("n1,n2,n3", 1, &[]);
    transfer(&mut lone, Some(2));
    assert_eq!(lone.role(), RoleName::Leader, "not before");
    let request = Body::RequestVote { last: lone.raft.log().last_id(), transfer: true };
    let effects = lone.hear(2, 2, request);
    assert_eq!((lone.role(), lone.term()), (RoleName::Follower, 2));
    assert!(answers(&effects, &Body::VoteGranted));
}

/// §3.10: if it takes longer than an election timeout, the leader gives it up and takes proposals again.
#[test]
fn a_hand_over_that_takes_too_long_is_given_up() {
    let mut lone = Lone::leader_of("n1,n2,n3", 1, &[]);
    transfer(&mut lone, Some(2));
    let before = beats(&mut lone, ELECTION_TIMEOUT - HEARTBEAT);
    assert!(!before.contains(&Effect::Happened(Event::TransferAborted { to: NodeId(2) })));
    let after = beats(&mut lone, HEARTBEAT);
    assert!(after.contains(&Effect::Happened(Event::TransferAborted { to: NodeId(2) })), "{after:?}");
    lone.input(Input::Propose { count: 1 });
    assert_eq!((lone.log(), lone.role()), (vec![1, 1], RoleName::Leader));
}

/// §3.10: a target that is told late after all only causes one more election.
#[test]
fn a_late_target_causes_one_more_election() {
    let mut lone = Lone::leader_of("n1,n2,n3", 1, &[]);
    transfer(&mut lone, Some(2));
    beats(&mut lone, ELECTION_TIMEOUT);
    let request = Body::RequestVote { last: lone.raft.log().last_id(), transfer: true };
    assert!(answers(&lone.hear(2, 2, request), &Body::VoteGranted));
    assert_eq!(lone.hear(2, 1, Body::TimeoutNow), [], "and of an earlier term it causes none");
}

/// §3.10: one at a time, to somebody who can lead, by the leader.
#[test]
fn who_can_be_handed_over_to() {
    let mut lone = Lone::leader_of("n1,n2,n3w,(n4)", 1, &[]);
    for (to, why) in [
        (Some(3), Some(TransferRefused::CannotLead { node: NodeId(3) })),
        (Some(4), Some(TransferRefused::CannotLead { node: NodeId(4) })),
        (Some(9), Some(TransferRefused::CannotLead { node: NodeId(9) })),
        (Some(1), None),
        (Some(2), None),
        (Some(2), Some(TransferRefused::InProgress { to: NodeId(2) })),
    ] {
        assert_eq!(refused(&transfer(&mut lone, to)), why, "{to:?}");
    }
    let mut follower = Lone::follower(1, &[1]);
    assert_eq!(refused(&transfer(&mut follower, None)), Some(TransferRefused::NotLeader { leader: Some(NodeId(2)) }));
}

/// §3.10: without a name it goes to the fittest: who is preferred, and then whose log is longest.
#[test]
fn the_fittest_is_chosen() {
    for (answers_of, chosen) in [
        ([(2, true, 1, 2), (3, true, 1, 1)], Some(2)),
        ([(2, true, 1, 1), (3, true, 1, 2)], Some(3)),
        ([(2, true, 1, 2), (3, true, 4, 1)], Some(3)),
        ([(2, true, 1, 1), (3, false, 4, 2)], Some(2)),
        ([(2, false, 1, 2), (3, false, 1, 2)], None),
    ] {
        let mut lone = Lone::leader(3, 1, &[]);
        lone.input(Input::Propose { count: 1 });
        lone.end_turn(9);
        for (peer, fit, priority, has) in answers_of {
            lone.hear(
                peer,
                1,
                Body::HeartbeatReply { session: FIRST, round: 0, fit, full: false, priority, asleep: false },
            );
            lone.hear(peer, 1, upto(has));
        }
        let effects = transfer(&mut lone, None);
        assert_eq!(lone.raft.handing_over().map(|node| node.0), chosen, "{answers_of:?}");
        assert_eq!(refused(&effects), chosen.is_none().then_some(TransferRefused::Nobody), "{answers_of:?}");
    }
}

/// §3.10 names as a reason that another server is more suitable: a leader hands over to one that is preferred, once it
/// has all that was committed a heartbeat ago. It tries once a term.
#[test]
fn a_preferred_server_gets_the_office_once_it_keeps_up() {
    let prefers =
        |priority| Body::HeartbeatReply { session: FIRST, round: 0, fit: true, full: false, priority, asleep: false };
    let mut lone = Lone::leader(3, 1, &[]);
    lone.end_turn(9);
    lone.hear(2, 1, upto(1));
    lone.input(Input::Propose { count: 2 });
    lone.end_turn(9);
    lone.hear(2, 1, upto(3));
    for _ in 0..3 {
        lone.time_out();
        lone.hear(2, 1, prefers(1));
        lone.hear(3, 1, prefers(2));
        assert_eq!(lone.raft.handing_over(), None, "n3 has acknowledged nothing");
    }
    lone.hear(3, 1, upto(3));
    assert_eq!(timeout_now(&lone.time_out()), Some(3));
    for _ in 0..40 {
        lone.hear(2, 1, prefers(1));
        lone.hear(3, 1, prefers(2));
        assert_eq!(timeout_now(&lone.time_out()), None);
    }
    assert_eq!(lone.raft.handing_over(), None, "n3 has not stood: this leader goes on");
}

/// A leader whose disk has finished nothing for an election timeout hands over.
#[test]
fn a_leader_whose_disk_has_stalled_hands_over() {
    let mut lone = Lone::leader_of("n1,n2,n3", 1, &[]);
    lone.slow_disk = true;
    lone.input(Input::Propose { count: 1 });
    lone.end_turn(9);
    lone.hear(2, 1, upto(2));
    let before = beats(&mut lone, ELECTION_TIMEOUT - HEARTBEAT);
    assert_eq!((timeout_now(&before), lone.raft.disk_has_stalled()), (None, false));
    let after = beats(&mut lone, 2 * HEARTBEAT);
    assert!(after.contains(&Effect::Happened(Event::DiskStalled)));
    assert_eq!((timeout_now(&after), lone.raft.disk_has_stalled()), (Some(2), true));
}

/// A leader with a full disk asks to wait for who takes over; if nobody can, it says why it takes nothing.
#[test]
fn what_a_leader_with_a_full_disk_says_of_proposals() {
    for (fit, why) in [(true, ProposalRefused::Busy), (false, ProposalRefused::NoSpace)] {
        let mut lone = Lone::leader_of("n1,n2,n3", 1, &[]);
        for peer in [2, 3] {
            lone.hear(
                peer,
                1,
                Body::HeartbeatReply { session: FIRST, round: 0, fit, full: false, priority: 1, asleep: false },
            );
        }
        lone.input(Input::Room { is_there: false });
        assert_eq!(lone.raft.proposals_refused(), Some(why), "others are fit: {fit}");
    }
}

/// Whether the disk has room is what the host has said last, and news when it is another thing than before.
#[test]
fn a_full_disk_is_news_once() {
    let mut lone = Lone::follower(1, &[1]);
    assert!(lone.raft.has_room());
    for (is_there, news) in [(false, Some(Event::DiskFull)), (false, None), (true, Some(Event::DiskHasRoom))] {
        let effects = lone.input(Input::Room { is_there });
        assert_eq!(lone.raft.has_room(), is_there);
        assert_eq!(effects, Vec::from_iter(news.map(Effect::Happened)));
    }
}

/// … and so does one whose state machine does not keep up. If nobody takes over it falls silent; if there was nobody to
/// ask, it goes on.
#[test]
fn a_leader_that_cannot_do_the_work_gives_it_up() {
    let mut lone = Lone::leader_of("n1,n2,n3", 1, &[]);
    lone.input(Input::Fitness { fit: false });
    assert!(timeout_now(&beats(&mut lone, HEARTBEAT)).is_some());
    beats(&mut lone, 2 * ELECTION_TIMEOUT);
    assert_eq!(lone.role(), RoleName::Follower, "nobody has stood");

    let mut lone = Lone::leader(3, 1, &[]);
    lone.hear(2, 1, upto(1));
    lone.input(Input::Fitness { fit: false });
    for _ in 0..30 {
        lone.time_out();
        lone.hear(
            2,
            1,
            Body::HeartbeatReply { session: FIRST, round: 0, fit: false, full: false, priority: 1, asleep: false },
        );
    }
    assert_eq!((lone.role(), lone.raft.handing_over()), (RoleName::Leader, None));
}

/// Who could not do the work does not stand: neither by itself, nor when asked, nor does it say that it could.
#[test]
fn who_cannot_do_the_work_does_not_stand() {
    let mut lone = Lone::follower(1, &[1]);
    lone.input(Input::Fitness { fit: false });
    let effects = lone.hear(2, 1, crate::BEAT);
    assert!(answers(
        &effects,
        &Body::HeartbeatReply { session: FIRST, round: 0, fit: false, full: false, priority: 1, asleep: false }
    ));
    lone.hear(2, 1, Body::TimeoutNow);
    assert_eq!(lone.role(), RoleName::Follower);
    for _ in 0..5 {
        lone.time_out();
        assert_eq!(lone.role(), RoleName::Follower);
    }
    lone.input(Input::Fitness { fit: true });
    lone.time_out();
    assert_eq!(lone.role(), RoleName::PreCandidate);
}

/// … nor does a candidate stand again.
#[test]
fn a_candidate_that_cannot_do_the_work_gives_up() {
    let mut lone = Lone::new(3, 1, None, &[1]);
    lone.campaign();
    lone.input(Input::Fitness { fit: false });
    lone.time_out();
    assert_eq!((lone.role(), lone.term()), (RoleName::Follower, 2));
}

/// Who should rather not lead waits an election timeout longer than the others, and by chance.
#[test]
fn priority_zero_waits_longer() {
    let mut waits = BTreeSet::new();
    for seed in 0..50 {
        let restored = had(parse_members("n1,n2,n3"), 1, None, &[1]);
        let mut lone = Lone::with(&restored, |config| config.priority = 0, seed);
        lone.hear(2, 1, crate::BEAT);
        let wait = lone.raft.deadline().since(lone.now);
        assert!((2 * ELECTION_TIMEOUT..3 * ELECTION_TIMEOUT).contains(&wait), "{wait:?}");
        waits.insert(wait);
    }
    assert!(waits.len() > 40, "{waits:?}");
}
