//! Groups that sleep (`docs/decisions/0015-sleeping-groups.md`): when a replica falls asleep, and what wakes it.
//!
//! What a whole group does is in the transcripts.

use std::time::Duration;

use vlot_raft::configuration::Change;
use vlot_raft::effect::{Effect, Event, Input, RoleName};
use vlot_raft::id::{LogId, LogIndex, NodeId, Term};
use vlot_raft::message::{Body, Message, ReadId};
use vlot_raft::state::Config;
use vlot_raft::time::Time;

use crate::harness::cluster::{ELECTION_TIMEOUT, HEARTBEAT};
use crate::harness::lone::{FIRST, Lone, append, had, sent};
use crate::harness::notation::parse_members;
use crate::upto;

/// What it is called, and what it changes.
type Case<T> = (&'static str, fn(&mut T));

const AFTER: Duration = Duration::from_millis(300);
const NODE_2: NodeId = NodeId(2);
const NODE_3: NodeId = NodeId(3);

fn sleepy(members: &str, term: u64, log: &[u64], configure: impl FnOnce(&mut Config)) -> Lone {
    let configure = |config: &mut Config| {
        config.sleep_after = Some(AFTER);
        configure(config);
    };
    Lone::with(&had(parse_members(members), term, None, log), configure, 1)
}

/// An answer to a round of heartbeats.
fn answer(round: u64, asleep: bool) -> Body {
    Body::HeartbeatReply { session: FIRST, round, fit: true, full: false, priority: 1, asleep }
}

fn announcement(round: u64, term: u64, index: u64) -> Body {
    Body::Sleep { session: FIRST, round, upto: LogId::new(term, index) }
}

/// Leads term 1. All have everything, and so much time has passed, with answers to every heartbeat, that it would sleep.
fn idle(configure: impl FnOnce(&mut Config)) -> Lone {
    let mut lone = sleepy("n1,n2,n3", 0, &[], configure);
    lone.win();
    lone.hear_all_have_everything();
    for _ in 0..2 {
        lone.time_out();
        lone.hear(2, 1, answer(0, false));
        lone.hear(3, 1, answer(0, false));
    }
    lone
}

/// It has announced that it will sleep.
fn announced() -> Lone {
    let mut lone = idle(|_| {});
    let effects = lone.time_out();
    assert_eq!(sent(&effects), [(2, 1, announcement(1, 1, 1)), (3, 1, announcement(1, 1, 1))]);
    lone
}

/// It leads and sleeps.
fn leader() -> Lone {
    let mut lone = announced();
    lone.hear(2, 1, answer(1, true));
    assert!(!lone.raft.is_asleep(), "n3 has not answered");
    lone.hear(3, 1, answer(1, true));
    assert!(lone.raft.is_asleep());
    assert_eq!(lone.raft.deadline(), Time::NEVER);
    lone
}

/// It follows node 2 in term 1, and has one entry, which is committed.
fn in_step() -> Lone {
    let mut lone = sleepy("n1,n2,n3", 1, &[1], |_| {});
    lone.hear(2, 1, Body::Heartbeat { session: FIRST, round: 0, commit: LogIndex(1) });
    lone
}

/// It follows node 2 and sleeps.
fn follower() -> Lone {
    let mut lone = in_step();
    let effects = lone.hear(2, 1, announcement(1, 1, 1));
    assert_eq!(said(&effects), [answer(1, true)]);
    assert!(lone.raft.is_asleep());
    assert_eq!(lone.raft.deadline(), Time::NEVER);
    lone
}

fn heard(from: u64, term: u64, body: Body) -> Input {
    Input::Receive { from: NodeId(from), message: Message { term: Term(term), body } }
}

/// What was said, to whomever.
fn said(effects: &[Effect]) -> Vec<Body> {
    sent(effects).into_iter().map(|(_, _, body)| body).collect()
}

/// Heartbeats to both peers.
fn has_told_both(effects: &[Effect]) -> bool {
    let told = |to| sent(effects).iter().any(|(peer, _, body)| *peer == to && matches!(body, Body::Heartbeat { .. }));
    told(2) && told(3)
}

fn pre_vote() -> Body {
    Body::RequestPreVote { last: LogId::new(1, 1) }
}

#[test]
fn what_wakes_a_leader() {
    let wakes: Vec<(&str, Input)> = vec![
        ("a proposal", Input::Propose { count: 1 }),
        ("a read", Input::Read { read: ReadId(1) }),
        ("a follower's read", heard(2, 1, Body::ReadIndex { read: ReadId(1) })),
        ("a change", Input::ChangeConfiguration { changes: vec![Change::Learner(NodeId(4))] }),
        ("a change that is refused", Input::ChangeConfiguration { changes: vec![] }),
        ("a transfer", Input::Transfer { to: Some(NODE_2) }),
        ("a new connection", Input::Connected { peer: NODE_3 }),
        ("its host", Input::Wake),
        ("its state machine", Input::Fitness { fit: false }),
        ("its disk", Input::Room { is_there: false }),
        ("damage", Input::Unreadable { first: LogIndex(1), last: LogIndex(1) }),
        ("one that would stand", heard(3, 1, pre_vote())),
        ("one that stands", heard(3, 2, Body::RequestVote { last: LogId::new(1, 1), transfer: false })),
        ("one that is no member", heard(7, 0, pre_vote())),
        ("a later term", heard(3, 2, Body::StaleTerm)),
        ("an answer of a later term", heard(3, 2, answer(1, true))),
        ("one that is awake", heard(3, 1, answer(1, false))),
        ("an answer to something else", heard(3, 1, upto(1))),
    ];
    for (what, input) in wakes {
        let mut lone = leader();
        lone.wait(Duration::from_secs(3600));
        let effects = lone.input(input);
        assert!(!lone.raft.is_asleep() && lone.raft.deadline() < Time::NEVER, "{what}");
        assert!(has_told_both(&effects), "{what}: {effects:?}");
    }
}

#[test]
fn what_does_not_wake_a_leader() {
    let ignored: Vec<(&str, Input)> = vec![
        ("time", Input::Tick),
        ("the answer of one that sleeps", heard(2, 1, answer(1, true))),
        ("a compaction", Input::Compact { upto: LogIndex(1) }),
        ("what is so already", Input::Fitness { fit: true }),
        ("what is so already", Input::Room { is_there: true }),
        ("one that is no member", Input::Lost { peer: NodeId(7) }),
        ("one that is no member", Input::Silent { peer: NodeId(7) }),
        (
            "a snapshot",
            Input::SnapshotReceived {
                id: LogId::new(1, 1),
                configuration: (LogIndex::ZERO, parse_members("n1,n2,n3")),
            },
        ),
    ];
    for (what, input) in ignored {
        let mut lone = leader();
        lone.wait(Duration::from_secs(3600));
        let effects = lone.input(input);
        assert!(lone.raft.is_asleep() && lone.raft.deadline() == Time::NEVER, "{what}");
        assert_eq!(sent(&effects), [], "{what}");
    }
}

/// One of two followers is gone: the other and the leader are a quorum, and sleep on. Without the other they are none.
#[test]
fn a_leader_sleeps_on_until_it_has_no_quorum() {
    for gone in [|peer| Input::Lost { peer }, |peer| Input::Silent { peer }] {
        let mut lone = leader();
        lone.wait(Duration::from_secs(3600));
        for _ in 0..2 {
            assert_eq!(sent(&lone.input(gone(NODE_3))), []);
            assert!(lone.raft.is_asleep());
        }
        assert!(has_told_both(&lone.input(gone(NODE_2))));
        assert!(!lone.raft.is_asleep());
        lone.wait(ELECTION_TIMEOUT);
        lone.input(Input::Tick);
        assert_eq!(lone.role(), RoleName::Follower, "it has a quorum no more");
        let mut lone = leader();
        lone.input(gone(NODE_3));
        assert!(has_told_both(&lone.input(Input::Connected { peer: NODE_3 })), "it is back");
    }
}

/// It has heard nobody for an hour, and nobody had to say anything.
#[test]
fn a_leader_that_wakes_counts_its_quorum_anew() {
    let mut lone = leader();
    lone.wait(Duration::from_secs(3600));
    lone.input(Input::Wake);
    lone.wait(ELECTION_TIMEOUT - Duration::from_millis(1));
    lone.input(Input::Tick);
    assert_eq!(lone.role(), RoleName::Leader);
    lone.wait(Duration::from_millis(1));
    lone.input(Input::Tick);
    assert_eq!(lone.role(), RoleName::Follower, "nobody has answered for an election timeout");
}

#[test]
fn what_keeps_a_leader_awake() {
    let keeps: [Case<Lone>; 8] = [
        ("an entry that is not committed", |lone| _ = lone.input(Input::Propose { count: 1 })),
        ("a read", |lone| _ = lone.input(Input::Read { read: ReadId(1) })),
        ("a lost connection", |lone| _ = lone.input(Input::Lost { peer: NODE_2 })),
        ("a transfer", |lone| _ = lone.input(Input::Transfer { to: Some(NODE_2) })),
        ("one that would stand", |lone| _ = lone.hear(3, 1, pre_vote())),
        ("a peer without room", |lone| {
            let (session, round, fit, full) = (FIRST, 0, true, true);
            lone.hear(3, 1, Body::HeartbeatReply { session, round, fit, full, priority: 1, asleep: false });
        }),
        ("a peer that could not lead", |lone| {
            let (session, round, fit, full) = (FIRST, 0, false, false);
            lone.hear(3, 1, Body::HeartbeatReply { session, round, fit, full, priority: 1, asleep: false });
        }),
        ("a peer that has not answered for long", |lone| {
            lone.wait(4 * HEARTBEAT);
            lone.hear(2, 1, answer(0, false));
        }),
    ];
    for (what, happens) in keeps {
        let mut lone = idle(|_| {});
        happens(&mut lone);
        let effects = lone.time_out();
        assert!(has_told_both(&effects), "{what}: {effects:?}");
        assert!(!sent(&effects).iter().any(|(_, _, body)| matches!(body, Body::Sleep { .. })), "{what}");
    }
}

/// It is committed, and a quorum would do to lead; but a node that is there and has not got it would sleep with another log.
#[test]
fn one_that_lacks_an_entry_keeps_its_leader_awake() {
    for (n3_has_it, sleeps) in [(false, false), (true, true)] {
        let mut lone = idle(|_| {});
        lone.input(Input::Propose { count: 1 });
        lone.end_turn(100);
        lone.hear(2, 1, upto(2));
        if n3_has_it {
            lone.hear(3, 1, upto(2));
        }
        assert_eq!(lone.raft.commit(), LogIndex(2));
        let mut announces = false;
        for _ in 0..4 {
            lone.hear(2, 1, answer(0, false));
            lone.hear(3, 1, answer(0, false));
            announces |= said(&lone.time_out()).iter().any(|body| matches!(body, Body::Sleep { .. }));
        }
        assert_eq!(announces, sleeps);
    }
}

/// All the time without news has to pass anew; heartbeats and their answers are none.
#[test]
fn a_leader_waits_as_long_as_it_is_told_to() {
    for (millis, sleeps) in [(200, true), (201, false)] {
        let mut lone = idle(|config| config.sleep_after = Some(Duration::from_millis(100 + millis)));
        let announces = sent(&lone.time_out()).iter().any(|(_, _, body)| matches!(body, Body::Sleep { .. }));
        assert_eq!(announces, sleeps, "after 300 ms, if {} are asked for", 100 + millis);
    }
}

#[test]
fn nobody_sleeps_unless_configured_to_nor_with_leases() {
    let table: [Case<Config>; 2] = [
        ("not configured", |config| config.sleep_after = None),
        ("a lease", |config| config.lease = Some(Duration::from_millis(900))),
    ];
    for (why, configure) in table {
        let mut lone = idle(configure);
        for _ in 0..20 {
            lone.time_out();
            lone.hear(2, 1, answer(9, false));
            lone.hear(3, 1, answer(9, false));
        }
        assert!(lone.raft.deadline() <= lone.now + HEARTBEAT, "{why}: it goes on");
        let mut lone = sleepy("n1,n2,n3", 1, &[1], configure);
        let effects = lone.hear(2, 1, announcement(1, 1, 1));
        assert_eq!(said(&effects), [answer(1, false)], "{why}");
        assert!(!lone.raft.is_asleep() && lone.raft.deadline() < Time::NEVER, "{why}");
        assert_eq!(lone.raft.commit(), LogIndex(1), "{why}: it commits all the same");
    }
}

/// Node 3 is gone for longer than an election timeout: node 2 is enough for a quorum.
fn without_node_3() -> Lone {
    let mut lone = idle(|_| {});
    lone.input(Input::Lost { peer: NODE_3 });
    fall_asleep_with_node_2(&mut lone);
    lone
}

fn fall_asleep_with_node_2(lone: &mut Lone) {
    while !lone.raft.is_asleep() {
        let effects = lone.time_out();
        let announcement = said(&effects).into_iter().find_map(|body| match body {
            Body::Sleep { round, .. } => Some(round),
            _ => None,
        });
        lone.hear(2, 1, answer(announcement.unwrap_or(0), announcement.is_some()));
    }
}

#[test]
fn a_leader_sleeps_without_a_peer_that_is_away() {
    let mut lone = without_node_3();
    assert!(lone.raft.is_asleep());
    for input in [Input::Lost { peer: NODE_3 }, Input::Silent { peer: NODE_3 }] {
        let effects = lone.input(input.clone());
        assert!(lone.raft.is_asleep() && sent(&effects).is_empty(), "known already: {input:?}");
    }
    let comes_back: [(&str, Input); 3] = [
        ("its connection", Input::Connected { peer: NODE_3 }),
        ("its question", heard(3, 1, pre_vote())),
        ("its answer", heard(3, 1, answer(0, false))),
    ];
    for (what, input) in comes_back {
        let mut lone = without_node_3();
        assert!(has_told_both(&lone.input(input)) && !lone.raft.is_asleep(), "{what}");
    }
}

/// It has been away for less than an election timeout, and may be back at once.
#[test]
fn a_leader_does_not_sleep_as_long_as_a_peer_may_be_there() {
    let mut lone = idle(|_| {});
    let heard = lone.now;
    while lone.raft.deadline() <= heard + ELECTION_TIMEOUT {
        let effects = lone.time_out();
        let announced = said(&effects).iter().any(|body| matches!(body, Body::Sleep { .. }));
        assert!(!announced || lone.now <= heard + 2 * HEARTBEAT, "{effects:?}");
        lone.hear(2, 1, answer(1, announced));
        assert!(!lone.raft.is_asleep(), "{effects:?}");
    }
}

/// Two of three are away: the leader must notice that it leads nobody, and step down.
#[test]
fn a_leader_without_a_quorum_does_not_sleep() {
    let mut lone = idle(|config| config.election_timeout = Duration::from_secs(1));
    for _ in 0..40 {
        lone.time_out();
        assert!(!lone.raft.is_asleep());
    }
    assert_ne!(lone.role(), RoleName::Leader);
}

/// It leads no more as soon as an election timeout after its quorum was woken: one that was away before does not count.
#[test]
fn a_leader_that_slept_without_a_peer_does_not_count_it_when_it_wakes() {
    let mut lone = without_node_3();
    lone.wait(Duration::from_secs(3600));
    lone.input(Input::Lost { peer: NODE_2 });
    assert_eq!(lone.role(), RoleName::Leader);
    lone.hear(2, 1, answer(0, false));
    lone.wait(ELECTION_TIMEOUT);
    lone.input(Input::Tick);
    assert_eq!(lone.role(), RoleName::Follower);
}

/// It knows already that node 3 is away, and does not wait for it once more.
#[test]
fn a_leader_that_wakes_sleeps_again_without_a_peer_that_is_away() {
    let mut lone = without_node_3();
    lone.wait(Duration::from_secs(3600));
    let woken = lone.now;
    lone.input(Input::Wake);
    fall_asleep_with_node_2(&mut lone);
    assert!(lone.now.since(woken) < ELECTION_TIMEOUT, "{:?}", lone.now.since(woken));
}

/// One that will not campaign by itself says a word to each node that it is connected to, which wakes a leader.
#[test]
fn a_node_that_does_not_stand_wakes_the_group_that_it_comes_back_to() {
    let table: [(&str, &str, Case<Lone>); 3] = [
        ("a learner", "(n1),n2,n3", ("fit", |_| {})),
        ("one that has joined", "n2,n3", ("fit", |_| {})),
        ("a full disk", "n1,n2,n3", ("full", |lone| _ = lone.input(Input::Room { is_there: false }))),
    ];
    for (what, members, (_, happens)) in table {
        let mut lone = sleepy(members, 1, &[1], |_| {});
        happens(&mut lone);
        let effects = lone.input(Input::Connected { peer: NODE_2 });
        assert_eq!(sent(&effects), [(2, 1, pre_vote())], "{what}");
        assert_eq!(sent(&lone.input(Input::Connected { peer: NodeId(1) })), [], "{what}: not to itself");
        lone.hear(2, 1, Body::Heartbeat { session: FIRST, round: 0, commit: LogIndex(1) });
        assert_eq!(sent(&lone.input(Input::Connected { peer: NODE_3 })), [], "{what}: it has a leader");
        let mut wakeful = sleepy(members, 1, &[1], |config| config.sleep_after = None);
        happens(&mut wakeful);
        assert_eq!(sent(&wakeful.input(Input::Connected { peer: NODE_2 })), [], "{what}: no group sleeps");
    }
    let mut stands = sleepy("n1,n2,n3", 1, &[1], |_| {});
    assert_eq!(sent(&stands.input(Input::Connected { peer: NODE_2 })), [], "it will ask soon anyway");
}

/// Only answers to the announcement that is under way count.
#[test]
fn an_answer_to_an_announcement_that_was_called_off_does_not_count() {
    let mut lone = announced();
    lone.hear(2, 1, answer(1, true));
    assert!(has_told_both(&lone.input(Input::Wake)), "it is called off");
    for _ in 0..3 {
        lone.hear(2, 1, answer(1, false));
        lone.hear(3, 1, answer(1, false));
        lone.time_out();
    }
    lone.hear(3, 1, answer(1, true));
    lone.hear(2, 1, answer(2, true));
    assert!(!lone.raft.is_asleep(), "n3 has answered the first");
    lone.hear(3, 1, answer(2, true));
    assert!(lone.raft.is_asleep());
}

/// A follower that stays awake has a reason, and those who sleep must not sleep on while it is looked for.
#[test]
fn one_that_stays_awake_calls_it_off() {
    let mut lone = announced();
    lone.hear(2, 1, answer(1, true));
    assert!(has_told_both(&lone.hear(3, 1, answer(1, false))));
}

/// It loses its office while some sleep by its word: it tells them, in the term that they follow it in.
#[test]
fn a_leader_that_steps_down_wakes_whoever_sleeps_by_its_word() {
    let mut lone = announced();
    let effects = lone.hear(3, 5, Body::StaleTerm);
    assert_eq!((lone.role(), lone.term()), (RoleName::Follower, 5));
    assert!(sent(&effects).iter().any(|(to, term, body)| matches!((to, term, body), (2, 1, Body::Heartbeat { .. }))));
    let mut lone = announced();
    lone.wait(ELECTION_TIMEOUT);
    assert!(has_told_both(&lone.input(Input::Tick)));
    assert_eq!(lone.role(), RoleName::Follower, "nobody has answered");
}

#[test]
fn what_wakes_a_follower() {
    let wakes: Vec<(&str, Input)> = vec![
        ("a heartbeat", heard(2, 1, Body::Heartbeat { session: FIRST, round: 1, commit: LogIndex(1) })),
        ("entries", heard(2, 1, append(LogId::new(1, 1), &[1], 1))),
        ("a commit", heard(2, 1, Body::Committed { upto: LogIndex(1) })),
        ("a hand-over", heard(2, 1, Body::TimeoutNow)),
        ("an announcement of something else", heard(2, 1, announcement(2, 1, 2))),
        ("one that would stand", heard(3, 1, pre_vote())),
        ("one that stands", heard(3, 2, Body::RequestVote { last: LogId::new(1, 1), transfer: false })),
        ("one that is no member", heard(7, 0, pre_vote())),
        ("an earlier leader", heard(3, 0, announcement(1, 1, 1))),
        ("the announcement of another leader", heard(3, 1, announcement(1, 1, 1))),
        ("a proposal", Input::Propose { count: 1 }),
        ("a change", Input::ChangeConfiguration { changes: vec![] }),
        ("a transfer", Input::Transfer { to: None }),
        ("a read", Input::Read { read: ReadId(1) }),
        ("its host", Input::Wake),
        ("damage", Input::Unreadable { first: LogIndex(1), last: LogIndex(1) }),
        ("the leader's loss", Input::Lost { peer: NODE_2 }),
        ("the leader's silence", Input::Silent { peer: NODE_2 }),
        ("the leader's new connection", Input::Connected { peer: NODE_2 }),
        (
            "a snapshot of more",
            Input::SnapshotReceived {
                id: LogId::new(1, 9),
                configuration: (LogIndex::ZERO, parse_members("n1,n2,n3")),
            },
        ),
    ];
    for (what, input) in wakes {
        let mut lone = follower();
        lone.wait(Duration::from_secs(3600));
        let effects = lone.input(input);
        assert!(!lone.raft.is_asleep(), "{what}");
        let due = lone.raft.deadline();
        assert!(due > lone.now && due <= lone.now + 2 * ELECTION_TIMEOUT, "{what}: {due:?}");
        let late = |effect: &Effect| matches!(effect, Effect::Happened(Event::HeardLate { .. }));
        assert!(!effects.iter().any(late), "{what}: who sleeps waits for no word");
    }
}

#[test]
fn what_does_not_wake_a_follower() {
    let ignored: Vec<(&str, Input)> = vec![
        ("time", Input::Tick),
        ("the announcement once more", heard(2, 1, announcement(1, 1, 1))),
        ("a later one of the same", heard(2, 1, announcement(4, 1, 1))),
        ("a compaction", Input::Compact { upto: LogIndex(1) }),
        ("what it will say when it is asked", Input::Fitness { fit: false }),
        ("what it will say when it is asked", Input::Room { is_there: false }),
        ("one that does not lead", Input::Lost { peer: NODE_3 }),
        ("one that does not lead", Input::Silent { peer: NODE_3 }),
        ("one that does not lead", Input::Connected { peer: NODE_3 }),
        (
            "a snapshot of what it has",
            Input::SnapshotReceived {
                id: LogId::new(1, 1),
                configuration: (LogIndex::ZERO, parse_members("n1,n2,n3")),
            },
        ),
    ];
    for (what, input) in ignored {
        let mut lone = follower();
        lone.wait(Duration::from_secs(3600));
        lone.input(input);
        assert!(lone.raft.is_asleep() && lone.raft.deadline() == Time::NEVER, "{what}");
    }
}

/// Asleep it believes in its leader, and for an election timeout after it was woken; then no more.
#[test]
fn a_sleeper_gives_its_vote_an_election_timeout_after_it_was_woken() {
    let asks = |lone: &mut Lone| said(&lone.hear(3, 1, pre_vote()));
    let mut lone = follower();
    lone.wait(Duration::from_secs(3600));
    // Its leader, which may sleep, hears that it is awake, and sends it heartbeats.
    assert_eq!(asks(&mut lone), [answer(0, false), Body::PreVoteRefused]);
    lone.wait(ELECTION_TIMEOUT - Duration::from_millis(1));
    assert_eq!(asks(&mut lone), [Body::PreVoteRefused], "that it was asked makes it wait no longer");
    lone.wait(Duration::from_millis(1));
    assert_eq!(asks(&mut lone), [Body::PreVoteGranted]);
}

/// What its leader says needs no answer of that kind, nor does what its own host tells it.
#[test]
fn a_sleeper_that_others_wake_tells_its_leader() {
    let notice = |effects: &[Effect]| sent(effects).into_iter().any(|sent| sent == (2, 1, answer(0, false)));
    let table: [(&str, Input, bool); 5] = [
        ("another follower", heard(3, 1, Body::PreVoteRefused), true),
        ("one that is no member", heard(7, 0, pre_vote()), true),
        ("its leader", heard(2, 1, Body::Committed { upto: LogIndex(1) }), false),
        ("its host", Input::Wake, false),
        ("the loss of its leader", Input::Lost { peer: NODE_2 }, false),
    ];
    for (what, input, tells) in table {
        let mut lone = follower();
        assert_eq!(notice(&lone.input(input.clone())), tells, "{what}");
        assert!(!lone.raft.is_asleep());
        assert!(!notice(&lone.input(input)), "{what}: once");
    }
}

/// The host has said that the leader is gone: nothing speaks against another.
#[test]
fn a_sleeper_that_has_lost_its_leader_gives_its_vote_at_once_and_asks_soon() {
    for input in [Input::Lost { peer: NODE_2 }, Input::Silent { peer: NODE_2 }] {
        let mut lone = follower();
        lone.wait(Duration::from_secs(3600));
        lone.input(input);
        assert!(lone.raft.deadline() <= lone.now + HEARTBEAT);
        assert_eq!(said(&lone.hear(3, 1, pre_vote())), [Body::PreVoteGranted]);
    }
}

/// Heartbeats come, or they do not.
#[test]
fn who_is_awake_does_not_care_for_the_silence_of_a_node() {
    let mut lone = in_step();
    let due = lone.raft.deadline();
    lone.input(Input::Silent { peer: NODE_2 });
    assert_eq!(lone.raft.deadline(), due);
    assert_eq!(said(&lone.hear(3, 1, pre_vote())), [Body::PreVoteRefused]);
}

#[test]
fn what_keeps_a_follower_awake() {
    let keeps: [Case<Lone>; 6] = [
        ("its state machine", |lone| _ = lone.input(Input::Fitness { fit: false })),
        ("its disk", |lone| _ = lone.input(Input::Room { is_there: false })),
        ("damage", |lone| _ = lone.input(Input::Unreadable { first: LogIndex(1), last: LogIndex(1) })),
        ("an entry more", |lone| _ = lone.hear(2, 1, append(LogId::new(1, 1), &[1], 1))),
        ("a later term", |lone| _ = lone.hear(3, 2, Body::StaleTerm)),
        ("an entry that is not durable", |lone| lone.slow_disk = true),
    ];
    for (what, happens) in keeps {
        let mut lone = in_step();
        happens(&mut lone);
        if lone.slow_disk {
            lone.hear(2, 1, append(LogId::new(1, 1), &[1], 2));
            lone.hear(2, 1, announcement(1, 1, 2));
        }
        lone.hear(2, 1, announcement(1, 1, 1));
        assert!(!lone.raft.is_asleep(), "{what}");
    }
}

/// It may not stand, so it waits for nothing anyway. Once it is awake it still may not.
#[test]
fn a_learner_sleeps_and_wakes() {
    let mut lone = sleepy("(n1),n2,n3", 1, &[1], |_| {});
    let effects = lone.hear(2, 1, announcement(1, 1, 1));
    assert!(lone.raft.is_asleep(), "{effects:?}");
    for input in [Input::Wake, Input::Lost { peer: NODE_2 }, heard(2, 1, answer(0, false))] {
        lone.hear(2, 1, announcement(1, 1, 1));
        lone.input(input.clone());
        assert_eq!((lone.raft.is_asleep(), lone.raft.deadline()), (false, Time::NEVER), "{input:?}");
        lone.hear(2, 1, Body::Heartbeat { session: FIRST, round: 0, commit: LogIndex(1) });
        assert_eq!(lone.raft.deadline(), Time::NEVER);
    }
}
