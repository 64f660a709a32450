//! Every property has an input that breaks it, and beside that the nearest inputs that do not.
//!
//! A replica breaks no rule by itself, so each is first brought to a sound state and then bent.

use super::*;
use std::time::Duration;

use crate::by_hand::{NOW, bent, come_to, hear, log, members, started, step, three};
use crate::configuration::{Change, Configurations};
use crate::effect::Input;
use crate::message::{Body, Session};
use crate::state::Config;
use crate::term_runs::TermRuns;

/// A follower in term 3 of three: its log begins after 1@1 and holds 2@1 3@2 4@2 5@3; 4 is committed, 3 may be applied.
fn follower() -> Raft {
    bent(&started(1, 3, log(LogId::new(1, 1), &[1, 2, 2, 3]), 3, three()), |state| state.commit = LogIndex(4))
}

/// A leader of term 3 with the log 1@1 2@2 3@3, of which nothing is committed and no peer has anything yet.
fn leader() -> Raft {
    come_to(RoleName::Leader, NOW, started(1, 2, log(LogId::ZERO, &[1, 2]), 0, three()))
}

fn broken(found: Result<(), Violation>) -> Option<&'static str> {
    found.err().map(|violation| violation.property)
}

fn first_broken_by(start: &Raft, bend: impl FnOnce(&mut State)) -> Option<&'static str> {
    broken(check_one(&bent(start, bend)))
}

#[test]
fn a_replica_in_any_role_is_sound() {
    let learner = || Configurations::begin(members(&[2, 3], 0, &[1]));
    let start = || started(1, 2, log(LogId::ZERO, &[1, 2]), 1, three());
    let sound = [
        follower(),
        start(),
        started(1, 2, log(LogId::ZERO, &[1, 2]), 1, learner()),
        started(1, 0, TermRuns::default(), 0, Configurations::default()),
        started(1, 0, TermRuns::default(), 0, Configurations::begin(members(&[1, 2, 3], 1, &[]))),
        come_to(RoleName::PreCandidate, NOW, start()),
        come_to(RoleName::Candidate, NOW, start()),
        come_to(RoleName::Leader, NOW, start()),
    ];
    for raft in sound {
        assert_eq!(check_one(&raft), Ok(()), "{raft:?}");
    }
}

#[test]
fn what_one_state_can_break() {
    type Row = (&'static str, fn(&mut State));
    let table: [Row; 9] = [
        ("ready <= commit <= last", |state| state.ready = LogIndex(5)),
        ("ready <= commit <= last", |state| state.commit = LogIndex(6)),
        ("what may be applied is durable", |state| _ = state.unpersisted.append_written(LogIndex(2))),
        ("no entry of a later term", |state| state.term = Term(2)),
        ("the log begins with what is applied", |state| (state.ready, state.commit) = Default::default()),
        ("a configuration is set by an entry", |state| {
            state.configurations.push(LogIndex(6), members(&[1, 2], 0, &[]))
        }),
        ("a log that begins later begins with members", |state| state.configurations = Configurations::default()),
        // Its deadline was set when it was a voter.
        ("a node has a deadline if it may campaign, and else none", |state| {
            state.configurations.push(LogIndex(5), members(&[2, 3], 0, &[1]));
        }),
        ("a node has a deadline if it may campaign, and else none", |state| state.removed = true),
    ];
    for (property, bend) in table {
        assert_eq!(first_broken_by(&follower(), bend), Some(property));
    }
    let learner = started(1, 1, log(LogId::ZERO, &[1]), 1, Configurations::begin(members(&[2, 3], 0, &[1])));
    assert_eq!(
        first_broken_by(&learner, |state| state.configurations.push(LogIndex(1), members(&[1, 2, 3], 0, &[]))),
        Some("a node has a deadline if it may campaign, and else none"),
        "it does not wait"
    );
}

#[test]
fn what_one_state_can_break_in_its_role() {
    let start = || started(1, 2, log(LogId::ZERO, &[1, 2]), 1, three());
    let candidate = come_to(RoleName::Candidate, NOW, start());
    for vote in [None, Some(NodeId(2))] {
        let found = first_broken_by(&candidate, |state| state.vote = vote);
        assert_eq!(found, Some("a candidate has voted for itself"), "{vote:?}");
    }
    for role in [RoleName::PreCandidate, RoleName::Candidate] {
        let found = first_broken_by(&come_to(role, NOW, start()), |state| state.removed = true);
        assert_eq!(found, Some("a candidate may campaign"), "{role:?}");
    }
    type Row = (&'static str, fn(&mut State));
    let table: [Row; 3] = [
        ("no leader without the payloads", |state| {
            state.configurations.push(LogIndex(3), members(&[1, 2, 3], 1, &[]));
        }),
        ("a leader votes", |state| state.configurations.push(LogIndex(3), members(&[2, 3], 0, &[1]))),
        ("matched <= last", |state| state.log.cut_after(LogIndex(2))),
    ];
    for (property, bend) in table {
        let mut leader = come_to(RoleName::Leader, NOW, start());
        let upto = leader.log().last();
        assert_eq!(upto, LogIndex(3));
        // Of four, so that one acknowledgement commits nothing.
        leader.state_mut().configurations.push(LogIndex(2), members(&[1, 2, 3, 4], 0, &[]));
        hear(&mut leader, NOW, NodeId(2), Body::EntriesAccepted { session: Session::default(), upto });
        assert_eq!(check_one(&leader), Ok(()));
        assert_eq!(first_broken_by(&leader, bend), Some(property));
    }
}

/// Sleeps whenever it may.
fn sleepy(raft: &Raft) -> Raft {
    let config = Config { sleep_after: Some(Duration::ZERO), ..Config::new(raft.node()) };
    bent(raft, |state| state.config = config.into())
}

fn announcement() -> Body {
    Body::Sleep { session: Session::default(), round: 1, upto: LogId::new(1, 1) }
}

/// Leads term 1 of three, whose logs hold one entry, and sleeps.
fn sleeping_leader() -> Raft {
    let session = Session::default();
    let mut leader = come_to(RoleName::Leader, NOW, sleepy(&started(1, 0, TermRuns::default(), 0, three())));
    let answer = |round, asleep| Body::HeartbeatReply { session, round, fit: true, full: false, priority: 1, asleep };
    for peer in [NodeId(2), NodeId(3)] {
        hear(&mut leader, NOW, peer, Body::EntriesAccepted { session, upto: LogIndex(1) });
        hear(&mut leader, NOW, peer, answer(0, false));
    }
    let due = leader.deadline();
    step(&mut leader, due, Input::Tick);
    for peer in [NodeId(2), NodeId(3)] {
        hear(&mut leader, due, peer, answer(1, true));
    }
    assert!(leader.is_asleep());
    leader
}

/// Node 2, which follows it and sleeps.
fn sleeping_follower() -> Raft {
    let mut follower = sleepy(&started(2, 1, log(LogId::ZERO, &[1]), 1, three()));
    hear(&mut follower, NOW, NodeId(1), announcement());
    assert!(follower.is_asleep());
    follower
}

#[test]
fn what_one_that_sleeps_can_break() {
    type Row = (&'static str, fn(&mut State));
    let table: [Row; 4] = [
        ("a sleeper is configured to sleep", |state| state.config = Config::new(NodeId(1)).into()),
        ("a sleeper has nothing uncommitted", |state| state.log.push(Term(1), 1)),
        ("what may be applied is durable", |state| _ = state.unpersisted.append_written(LogIndex(0))),
        ("a sleeper has nothing that is not durable", |state| {
            _ = state.unpersisted.append_written(LogIndex(0));
            state.ready = LogIndex(0);
        }),
    ];
    for sleeper in [sleeping_leader(), sleeping_follower()] {
        assert_eq!(check_one(&sleeper), Ok(()));
        for (property, bend) in table {
            assert_eq!(first_broken_by(&sleeper, bend), Some(property));
        }
    }
    let joint = |state: &mut State| {
        let joint = members(&[1, 2, 3], 0, &[]).changed(&[Change::Remove(NodeId(3))]).expect("a change");
        state.configurations.push(LogIndex(1), joint);
    };
    assert_eq!(first_broken_by(&sleeping_leader(), joint), Some("a leader sleeps when no change is under way"));
    let longer = |state: &mut State| {
        state.log.push(Term(1), 1);
        (state.commit, state.ready) = (LogIndex(2), LogIndex(2));
    };
    assert_eq!(first_broken_by(&sleeping_leader(), longer), Some("a leader sleeps when all that sleep have all"));
}

#[test]
fn sleepers_of_a_term_have_the_same_log() {
    let (leader, follower) = (sleeping_leader(), sleeping_follower());
    assert_eq!(check_sleepers(&leader, &follower), Ok(()));
    let differs = |state: &mut State| {
        state.log.push(Term(1), 1);
        state.commit = LogIndex(2);
    };
    let longer = bent(&follower, differs);
    assert_eq!(broken(check_sleepers(&leader, &longer)), Some("all sleepers have the same log"));
    assert_eq!(check_sleepers(&longer, &leader), Ok(()), "it does not lead");
    let later = bent(&longer, |state| state.term = Term(2));
    assert_eq!(check_sleepers(&leader, &later), Ok(()), "it follows another");
    let mut awake = longer;
    step(&mut awake, NOW, Input::Wake);
    assert_eq!(check_sleepers(&leader, &awake), Ok(()));
}

/// What is broken by the step from one bent state to another.
fn step_breaks(start: &Raft, before: impl FnOnce(&mut State), after: impl FnOnce(&mut State)) -> Option<&'static str> {
    broken(check_step(&bent(start, before), &bent(start, after)))
}

#[test]
fn what_a_step_can_break() {
    type Row = (&'static str, fn(&mut State), fn(&mut State));
    let nothing: fn(&mut State) = |_| {};
    let table: [Row; 9] = [
        ("term never falls", nothing, |state| state.term = Term(2)),
        ("one vote a term", |state| state.vote = Some(NodeId(2)), |state| state.vote = Some(NodeId(3))),
        ("one vote a term", |state| state.vote = Some(NodeId(2)), nothing),
        ("commit never falls", nothing, |state| state.commit = LogIndex(3)),
        ("ready never falls", nothing, |state| state.ready = LogIndex(2)),
        ("a node that knows the members keeps knowing them", nothing, |state| {
            state.configurations = Configurations::default()
        }),
        ("the log's beginning never goes back", nothing, |state| state.log = log(LogId::ZERO, &[1, 1, 2, 2, 3])),
        ("committed entries stay", nothing, |state| state.log = log(LogId::new(1, 1), &[1, 2, 3, 3])),
        ("committed entries stay", nothing, |state| state.log.cut_after(LogIndex(3))),
    ];
    for (property, before, after) in table {
        assert_eq!(step_breaks(&follower(), before, after), Some(property));
    }
}

#[test]
fn what_a_step_may_change() {
    type Row = (&'static str, fn(&mut State), fn(&mut State));
    let nothing: fn(&mut State) = |_| {};
    let table: [Row; 8] = [
        ("nothing at all", nothing, nothing),
        ("a vote is given", nothing, |state| state.vote = Some(NodeId(2))),
        (
            "a vote is of its term",
            |state| state.vote = Some(NodeId(2)),
            |state| {
                (state.term, state.vote) = (Term(4), Some(NodeId(3)));
            },
        ),
        ("commit rises", nothing, |state| (state.commit, state.ready) = (LogIndex(5), LogIndex(5))),
        ("what is not committed is replaced", nothing, |state| state.log.cut_after(LogIndex(4))),
        ("a snapshot takes the place of all", nothing, |state| {
            (state.log, state.commit) = (TermRuns::empty(LogId::new(3, 9)), LogIndex(9));
        }),
        ("a node hears who the members are", |state| state.configurations = Configurations::default(), nothing),
        (
            "a follower gets one configuration after the other",
            |state| state.configurations.push(LogIndex(5), members(&[1, 2], 0, &[])),
            |state| {
                state.log.push(Term(3), 1);
                state.configurations.push(LogIndex(6), members(&[1, 3], 0, &[]));
            },
        ),
    ];
    for (what, before, after) in table {
        assert_eq!(step_breaks(&follower(), before, after), None, "{what}");
    }
}

/// Sets members of which one learns, so that each is another.
fn set_at(state: &mut State, at: u64) {
    state.configurations.push(LogIndex(at), members(&[1, 2, 3], 0, &[at + 10]));
}

#[test]
fn what_a_step_of_a_leader_can_break() {
    type Row = (&'static str, fn(&mut State), fn(&mut State));
    let nothing: fn(&mut State) = |_| {};
    let table: [Row; 5] = [
        ("Leader Append-Only", nothing, |state| state.log.cut_after(LogIndex(2))),
        ("Leader Append-Only", nothing, |state| state.log = log(LogId::ZERO, &[1, 2, 2, 3])),
        // The same, and compacted: the entry before the first is not what the last one was.
        ("Leader Append-Only", nothing, |state| state.log = log(LogId::new(2, 3), &[3])),
        ("one change at a time", |state| set_at(state, 3), |state| set_at(state, 4)),
        ("one change at a time", |state| set_at(state, 3), nothing),
    ];
    for (property, before, after) in table {
        assert_eq!(step_breaks(&leader(), before, after), Some(property));
    }
}

#[test]
fn what_a_step_of_a_leader_may_change() {
    type Row = (&'static str, fn(&mut State), fn(&mut State));
    let nothing: fn(&mut State) = |_| {};
    let table: [Row; 5] = [
        ("entries are added", nothing, |state| state.log.push(Term(3), 2)),
        ("all that there was is applied and dropped", nothing, |state| {
            (state.log, state.commit) = (TermRuns::empty(LogId::new(3, 5)), LogIndex(5));
        }),
        ("a change begins", nothing, |state| set_at(state, 3)),
        ("a change waits", |state| set_at(state, 3), |state| set_at(state, 3)),
        (
            "a change follows one that is committed",
            |state| set_at(state, 3),
            |state| {
                state.commit = LogIndex(3);
                set_at(state, 4);
            },
        ),
    ];
    for (what, before, after) in table {
        assert_eq!(step_breaks(&leader(), before, after), None, "{what}");
    }
}

#[test]
fn who_leads_no_longer_may_replace_what_it_appended() {
    let shorter = started(1, 4, log(LogId::ZERO, &[1, 2]), 0, three());
    assert_eq!(check_step(&leader(), &shorter), Ok(()));
}

#[test]
fn matched_never_falls_while_it_leads() {
    let five = Configurations::begin(members(&[1, 2, 3, 4, 5], 0, &[]));
    let knows_nothing = come_to(RoleName::Leader, NOW, started(1, 2, log(LogId::ZERO, &[1, 2]), 0, five));
    for peer in 2..=5 {
        let mut knows = knows_nothing.clone();
        let accepted = Body::EntriesAccepted { session: Session::default(), upto: LogIndex(3) };
        hear(&mut knows, NOW, NodeId(peer), accepted);
        assert_eq!(check_step(&knows_nothing, &knows), Ok(()));
        assert_eq!(check_step(&knows, &knows), Ok(()));
        assert_eq!(broken(check_step(&knows, &knows_nothing)), Some("matched never falls"), "of {peer}");
    }
}

/// What a history finds when it has seen these replicas, and then one more.
fn history_breaks(seen: &[Raft], raft: &Raft) -> Option<&'static str> {
    let mut history = History::default();
    for raft in seen {
        assert_eq!(history.check(raft), Ok(()));
    }
    broken(history.check(raft))
}

/// A replica of three that has committed all of its log.
fn committed(node: u64, terms: &[u64]) -> Raft {
    started(node, 3, log(LogId::ZERO, terms), terms.len() as u64, three())
}

fn leader_with(node: u64, log: TermRuns) -> Raft {
    let applied = log.after().index.0;
    come_to(RoleName::Leader, NOW, started(node, 2, log, applied, three()))
}

#[test]
fn election_safety() {
    let [one, two] = [1, 2].map(|node| leader_with(node, log(LogId::ZERO, &[1, 2])));
    assert_eq!(history_breaks(&[one.clone(), one.clone(), committed(2, &[1])], &one), None);
    assert_eq!(history_breaks(&[one], &two), Some("Election Safety"));
}

#[test]
fn leader_completeness() {
    let seen = [committed(2, &[1, 2])];
    type Row = (LogId, &'static [u64], bool);
    let table: [Row; 7] = [
        (LogId::ZERO, &[1, 2], true),
        (LogId::ZERO, &[1, 2, 2], true),
        (LogId::ZERO, &[1], false),
        (LogId::ZERO, &[1, 1], false),
        (LogId::new(2, 2), &[], true),
        (LogId::new(1, 2), &[], false),
        // What it has dropped cannot be looked at.
        (LogId::new(2, 4), &[], true),
    ];
    for (after, terms, holds) in table {
        let found = history_breaks(&seen, &leader_with(1, log(after, terms)));
        let expected = if holds { None } else { Some("Leader Completeness") };
        assert_eq!(found, expected, "{terms:?} after {after}");
    }
}

#[test]
fn a_leader_of_an_earlier_term_need_not_be_complete() {
    for newest in [3, 4] {
        let later = started(2, 4, log(LogId::ZERO, &[1, 2, newest]), 3, three());
        assert_eq!(history_breaks(&[later], &leader_with(1, log(LogId::ZERO, &[1, 1]))), None, "{newest}");
    }
}

#[test]
fn the_end_of_a_change_is_with_its_voters() {
    let with = |node: u64, voters: &[u64]| {
        bent(&started(node, 3, log(LogId::ZERO, &[1, 2, 3]), 1, three()), |state| {
            state.configurations.push(LogIndex(3), members(voters, 0, &[]));
        })
    };
    assert_eq!(history_breaks(&[], &with(1, &[1, 2])), None, "it keeps its vote");
    assert_eq!(history_breaks(&[], &with(4, &[1, 2])), None, "it had none");
    assert_eq!(history_breaks(&[], &with(4, &[1, 2, 4])), None, "it gets one");
    assert_eq!(history_breaks(&[], &with(3, &[1, 2])), Some("the end of a change is with its voters"));
    assert_eq!(
        history_breaks(&[committed(2, &[1, 2])], &with(3, &[1, 2])),
        Some("the end of a change is with its voters")
    );
    assert_eq!(history_breaks(&[committed(2, &[1, 2, 3])], &with(3, &[1, 2])), None, "it is decided");
}

#[test]
fn state_machine_safety() {
    let seen = [committed(1, &[1, 2])];
    let nothing_yet = started(2, 3, log(LogId::ZERO, &[2, 2]), 0, three());
    let begins_later = |after| started(2, 3, log(after, &[3]), after.index.0, three());
    let table = [
        (nothing_yet, true),
        (committed(2, &[1]), true),
        (committed(2, &[1, 2]), true),
        (committed(2, &[1, 2, 2]), true),
        (committed(2, &[2]), false),
        (committed(2, &[1, 1]), false),
        (committed(2, &[2, 3, 3]), false),
        (begins_later(LogId::new(2, 2)), true),
        (begins_later(LogId::new(1, 2)), false),
        // What it has dropped cannot be looked at.
        (begins_later(LogId::new(3, 3)), true),
    ];
    for (raft, holds) in table {
        let expected = if holds { None } else { Some("State Machine Safety") };
        assert_eq!(history_breaks(&seen, &raft), expected, "{:?}", raft.log());
    }
}

#[test]
fn a_history_has_each_committed_entry_once() {
    let mut history = History::default();
    assert_eq!(history.last_committed(), LogId::ZERO);
    for terms in [&[1][..], &[1, 2, 2], &[1, 2], &[1, 2, 2, 3]] {
        assert_eq!(history.check(&committed(1, terms)), Ok(()));
    }
    assert_eq!(history.committed(), [1, 2, 2, 3].map(Term));
    assert_eq!(history.last_committed(), LogId::new(3, 4));
}

#[test]
fn log_matching() {
    type Row = ((LogId, &'static [u64]), (LogId, &'static [u64]), bool);
    let all = LogId::ZERO;
    let table: [Row; 9] = [
        ((all, &[1, 2, 3]), (all, &[1, 2, 3]), true),
        ((all, &[1, 2, 3]), (all, &[1]), true),
        ((all, &[1, 2]), (all, &[1, 3, 3]), true),
        ((all, &[1]), (all, &[2]), true),
        ((all, &[1, 2, 3]), (all, &[1, 1, 3]), false),
        ((all, &[1, 1, 3]), (all, &[2, 2, 3]), false),
        ((all, &[1, 2, 2, 3]), (LogId::new(2, 2), &[2, 3]), true),
        ((all, &[1, 2, 2, 3]), (LogId::new(1, 2), &[2, 3]), false),
        ((all, &[1, 2, 2, 3]), (LogId::new(2, 5), &[2, 3]), true),
    ];
    for (one, other, holds) in table {
        let [a, b] = [(1, one), (2, other)]
            .map(|(node, (after, terms))| started(node, 3, log(after, terms), after.index.0, three()));
        for found in [check_log_matching(&a, &b), check_log_matching(&b, &a)] {
            let expected = if holds { None } else { Some("Log Matching") };
            assert_eq!(broken(found), expected, "{one:?} {other:?}");
        }
    }
}
