//! How a replica begins: with a log and a state that belong together, or with nothing, to join.

use bytes::Bytes;
use vlot_log::index::GroupState;
use vlot_log::record::Entry;
use vlot_node::act::Act;
use vlot_node::input::Input;
use vlot_node::members::{MemberChange, Members};
use vlot_node::node::NewGroup;
use vlot_node::replica::{CannotBegin, Limits, Replica, Work};
use vlot_raft::effect::RoleName;
use vlot_raft::id::{LogId, LogIndex, NodeId, Term};
use vlot_raft::term_runs::TermRuns;

use crate::harness::{Cluster, ELECTION_TIMEOUT, GROUP, HEARTBEAT, Setup};

/// A replica of node 1 whose log has what follows `after` in term 2, up to `last`.
fn begin(after: u64, last: u64, change: impl FnOnce(&mut NewGroup)) -> Result<Replica, CannotBegin> {
    let mut cluster = Cluster::new(&Setup { groups: 0, ..Setup::default() });
    let mut runs = TermRuns::empty(LogId::new(u64::from(after > 0) * 2, after));
    runs.push(Term(2), last - after);
    let recovered = GroupState { term: Term(2), runs, ..GroupState::default() };
    let mut new = cluster.host(1).new_group(GROUP, recovered);
    change(&mut new);
    Replica::new(cluster.now, new.begin, &mut Work::default())
}

#[test]
fn a_log_and_a_state_that_do_not_belong_together_are_refused() {
    let (after, last) = (LogId::new(2, 4), LogId::new(2, 9));
    for applied in [after, LogId::new(2, 7), last] {
        let begun = begin(4, 9, |new| new.begin.applied = applied).expect("they belong together");
        assert_eq!((begun.applied_upto(), begun.handed()), (applied.index, applied));
    }
    for applied in [LogId::new(2, 3), LogId::new(1, 7)] {
        let why = begin(4, 9, |new| new.begin.applied = applied).expect_err("the state is older");
        assert_eq!(why, CannotBegin::StateIsBehind { applied, begin: after });
        assert!(why.to_string().contains("a snapshot was lost"), "{why}");
    }
    for applied in [LogId::new(2, 10), LogId::new(3, 7)] {
        let why = begin(4, 9, |new| new.begin.applied = applied).expect_err("the log is older");
        assert_eq!(why, CannotBegin::LogIsBehind { applied, last });
        assert!(why.to_string().contains("or the log was lost"), "{why}");
    }
}

#[test]
fn a_log_with_members_of_no_known_version_is_refused() {
    let note = |new: &mut NewGroup| new.begin.recovered.note = Bytes::from_static(b"\xff\xff");
    assert_eq!(begin(0, 3, note).expect_err("no members"), CannotBegin::BadConfiguration);
    let kept = |new: &mut NewGroup| {
        new.begin.recovered.kept = vec![Entry { id: LogId::new(2, 2), payload: Bytes::from_static(b"\xff") }];
    };
    let why = begin(0, 3, kept).expect_err("no payload");
    assert_eq!(why, CannotBegin::BadConfiguration);
    assert!(why.to_string().contains("does not know"), "{why}");
}

#[test]
fn damaged_entries_are_got_from_others_if_there_are_any() {
    let damaged = Some((LogIndex(2), LogIndex(3)));
    for (voters, begins) in [(1, false), (2, true), (0, true)] {
        let begun = begin(0, 5, |new| {
            new.begin.members = Members::of_voters((1..=voters).map(|n| (NodeId(n), String::new())));
            new.begin.damaged = damaged;
        });
        match begun {
            Ok(replica) => assert!(begins && replica.raft().unreadable() == damaged, "{voters} voters"),
            Err(why) => {
                assert_eq!(why, CannotBegin::Damaged { first: LogIndex(2), last: LogIndex(3) });
                assert!(!begins && why.to_string().contains("2 to 3"), "{voters} voters: {why}");
            }
        }
    }
}

#[test]
fn the_first_members_are_the_first_act_of_a_new_log_and_of_no_other() {
    let mut cluster = Cluster::new(&Setup::default());
    let writes = |acts: Vec<Act>| acts.iter().filter(|act| matches!(act, Act::Write { .. })).count();
    let acts = cluster.turn(1);
    assert_eq!(writes(acts), 1);
    let mut cluster = Cluster::led_by(1, &Setup::default());
    cluster.handle(3, Input::Close { group: GROUP, remove: false });
    cluster.settle();
    let state = cluster.host(3).closed.remove(&GROUP).flatten().expect("it stays in the log");
    let now = cluster.now;
    cluster.host(3).begin(now, GROUP, state);
    let acts = cluster.turn(3);
    assert_eq!(writes(acts), 0);
}

#[test]
fn what_a_state_machine_lacks_is_applied_again_from_the_log() {
    let limits = vlot_node::replica::Limits { replay_bytes_max: 60, ..Default::default() };
    let mut cluster = Cluster::led_by(1, &Setup { limits, ..Setup::default() });
    for n in 0..20 {
        cluster.propose(1, GROUP, &format!("word {n}"));
        cluster.run(10);
    }
    let words = cluster.host(3).words(GROUP).to_vec();
    // The third starts anew with what its disk holds, and nothing applied.
    let recovered = cluster.host(3).disk.recover(GROUP);
    cluster.handle(3, Input::Close { group: GROUP, remove: false });
    cluster.settle();
    cluster.host(3).forget(GROUP);
    let now = cluster.now;
    cluster.host(3).begin(now, GROUP, recovered);
    cluster.run(3 * HEARTBEAT);
    assert_eq!(cluster.host(3).words(GROUP), words);
}

#[test]
fn a_learner_joins_by_the_log_and_applies_all_of_it() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    cluster.propose(1, GROUP, "before");
    cluster.run(ELECTION_TIMEOUT);
    cluster.join(4);
    let change =
        cluster.change(1, GROUP, vec![MemberChange::AddLearner { node: NodeId(4), address: "n4:1".to_owned() }]);
    cluster.run(3 * HEARTBEAT);
    assert_eq!(cluster.host(1).fate(change), ["applied"]);
    assert_eq!(cluster.host(4).words(GROUP), ["before"]);
    let peers: Vec<u64> = cluster.host(4).peers.as_ref().expect("it knows").keys().map(|node| node.0).collect();
    assert_eq!(peers, [1, 2, 3]);
    let read = cluster.read(4, GROUP);
    let proposal = cluster.propose(4, GROUP, "by a learner");
    cluster.run(HEARTBEAT);
    assert_eq!(cluster.host(4).fate(read), ["ready"]);
    assert_eq!(cluster.host(4).fate(proposal), ["applied"]);
}

#[test]
fn a_witness_counts_and_is_given_nothing_to_apply() {
    let mut cluster = Cluster::led_by(1, &Setup { nodes: 2, ..Setup::default() });
    cluster.propose(1, GROUP, "before");
    cluster.run(ELECTION_TIMEOUT);
    cluster.join(4);
    let witness = MemberChange::AddWitness { node: NodeId(4), address: "n4:1".to_owned() };
    let change = cluster.change(1, GROUP, vec![witness]);
    cluster.run(5 * HEARTBEAT);
    assert_eq!(cluster.host(1).fate(change), ["applied"]);
    cluster.disconnect(1, 2);
    let proposal = cluster.propose(1, GROUP, "with a witness");
    cluster.run(5 * HEARTBEAT);
    assert_eq!(cluster.host(1).fate(proposal), ["applied"], "its acknowledgement makes a quorum");
    assert_eq!(cluster.host(4).words(GROUP), [""; 0]);
    let status = cluster.host(4).status(GROUP).clone();
    assert!(status.fenced.is_none() && status.commit == status.last, "{status:?}");
    assert_ne!(status.role_state.role, RoleName::Leader);
}

#[test]
fn a_witness_cuts_its_log_and_begins_again_with_what_is_left() {
    let retention = vlot_node::retention::Limits { entries: 8, bytes: u64::MAX, entries_kept: 2, bytes_kept: u64::MAX };
    let mut cluster = Cluster::led_by(1, &Setup { nodes: 2, retention, ..Setup::default() });
    cluster.join(4);
    let witness = MemberChange::AddWitness { node: NodeId(4), address: "n4:1".to_owned() };
    cluster.change(1, GROUP, vec![witness]);
    cluster.run(5 * HEARTBEAT);
    for n in 0..40 {
        cluster.propose(1, GROUP, &format!("command {n}"));
        cluster.run(HEARTBEAT / 5);
    }
    cluster.run(5 * HEARTBEAT);
    let begins = cluster.host(4).log_begins_after(GROUP);
    assert!(begins > 20, "its log begins after {begins}");
    assert!(cluster.host(4).status(GROUP).fenced.is_none());

    let recovered = cluster.host(4).disk.recover(GROUP);
    assert!(recovered.runs.after().index.0 > 20 && recovered.runs.last() > recovered.runs.after().index);
    cluster.handle(4, Input::Close { group: GROUP, remove: false });
    cluster.settle();
    cluster.host(4).forget(GROUP);
    let now = cluster.now;
    cluster.host(4).begin(now, GROUP, recovered);
    cluster.run(5 * HEARTBEAT);
    cluster.disconnect(1, 2);
    let proposal = cluster.propose(1, GROUP, "with a witness");
    cluster.run(5 * HEARTBEAT);
    assert_eq!(cluster.host(1).fate(proposal), ["applied"], "its acknowledgement makes a quorum");
    assert_eq!(cluster.host(4).words(GROUP), [""; 0]);
    // What it has cut counts for consensus, and for no read.
    assert_eq!(cluster.host(4).status(GROUP).applied, LogIndex::ZERO);
}

#[test]
fn a_learner_that_was_a_witness_in_an_earlier_life_keeps_what_it_gets_whole() {
    let retention = vlot_node::retention::Limits { entries: 8, bytes: u64::MAX, entries_kept: 2, bytes_kept: u64::MAX };
    // Few entries at a time, so that it reads of its earlier life before it reads of its end.
    let limits = Limits { message_bytes_max: 64, inflight_max: 1, ..Limits::default() };
    // The others keep all of their logs.
    let setup = Setup { nodes: 3, retention, limits, makes_snapshots: false, ..Setup::default() };
    let mut cluster = Cluster::led_by(1, &setup);
    let propose_some = |cluster: &mut Cluster| {
        for n in 0..20 {
            cluster.propose(1, GROUP, &format!("command {n}"));
            cluster.run(HEARTBEAT / 5);
        }
    };
    let change = |cluster: &mut Cluster, change| {
        let sequence = cluster.change(1, GROUP, vec![change]);
        cluster.run(5 * HEARTBEAT);
        assert_eq!(cluster.host(1).fate(sequence), ["applied"]);
    };
    let address = || "n4:1".to_owned();
    cluster.join(4);
    change(&mut cluster, MemberChange::AddWitness { node: NodeId(4), address: address() });
    propose_some(&mut cluster);
    assert!(cluster.host(4).log_begins_after(GROUP) > 10, "what is withheld is cut");
    change(&mut cluster, MemberChange::Remove(NodeId(4)));

    cluster.join(4);
    change(&mut cluster, MemberChange::AddLearner { node: NodeId(4), address: address() });
    propose_some(&mut cluster);
    let words = cluster.host(1).words(GROUP).to_vec();
    assert_eq!(words.len(), 40);
    assert_eq!(cluster.host(4).words(GROUP), words);
}
