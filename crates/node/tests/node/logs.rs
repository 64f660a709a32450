//! When a log is cut, and when a snapshot of the state is saved.

use vlot_node::act::{Act, GroupEvent};
use vlot_node::input::Input;
use vlot_node::members::MemberChange;
use vlot_node::retention;
use vlot_raft::id::{LogId, NodeId};

use crate::harness::{Cluster, ELECTION_TIMEOUT, GROUP, HEARTBEAT, Setup};

const NEVER: u64 = 1 << 40;

fn keeping(entries: u64, entries_kept: u64) -> retention::Limits {
    retention::Limits { entries, bytes: NEVER, entries_kept, bytes_kept: NEVER }
}

/// Proposes so many words, one after the other, and lets them be decided.
fn fill(cluster: &mut Cluster, words: u64, bytes: usize) {
    for _ in 0..words {
        cluster.propose(1, GROUP, &"x".repeat(bytes));
        cluster.run(10);
    }
}

fn last(cluster: &mut Cluster, n: u64) -> u64 {
    cluster.host(n).status(GROUP).last.0
}

#[test]
fn a_long_log_is_cut_but_for_what_is_kept_for_those_that_lag() {
    let mut cluster = Cluster::led_by(1, &Setup { retention: keeping(20, 10), ..Setup::default() });
    fill(&mut cluster, 20, 1);
    assert_eq!(cluster.host(1).log_begins_after(GROUP), 0, "twenty, and ten that are kept");
    fill(&mut cluster, 10, 1);
    for n in 1..=3 {
        let (begin, last) = (cluster.host(n).log_begins_after(GROUP), last(&mut cluster, n));
        assert!(begin >= 15 && last - begin >= 10, "n{n} has {begin} to {last}");
        let told = cluster.host(n).events.iter().any(|(_, event)| matches!(event, GroupEvent::Compacted { .. }));
        assert!(told);
        assert!(cluster.host(n).headers.is_empty(), "what is durable by itself needs no snapshot");
    }
}

#[test]
fn a_log_of_large_entries_is_cut_by_its_bytes() {
    const MIB: u64 = 1 << 20;
    let retention = retention::Limits { entries: NEVER, bytes: 10 * MIB, entries_kept: NEVER, bytes_kept: 4 * MIB };
    let setup = Setup { retention, apply_bytes_max: 64 << 20, recent_bytes_max: 64 << 20, ..Setup::default() };
    let mut cluster = Cluster::led_by(1, &setup);
    fill(&mut cluster, 9, MIB as usize);
    assert_eq!(cluster.host(1).log_begins_after(GROUP), 0);
    fill(&mut cluster, 3, MIB as usize);
    let (begin, last) = (cluster.host(1).log_begins_after(GROUP), last(&mut cluster, 1));
    assert!((4..=7).contains(&(last - begin)), "{begin} to {last}: about four mebibytes are kept");
}

#[test]
fn without_snapshots_no_log_is_cut_not_even_on_a_full_disk() {
    let setup = Setup { retention: keeping(4, 2), makes_snapshots: false, ..Setup::default() };
    let mut cluster = Cluster::led_by(1, &setup);
    fill(&mut cluster, 20, 1);
    cluster.handle(1, Input::Compact { group: GROUP });
    let now = cluster.now;
    cluster.host(1).room(now, false);
    cluster.settle();
    assert_eq!(cluster.host(1).log_begins_after(GROUP), 0);
    assert!(cluster.host(1).headers.is_empty());
}

#[test]
fn what_is_not_durable_by_itself_is_cut_only_below_what_is_durable() {
    let mut cluster = Cluster::led_by(1, &Setup { retention: keeping(4, 0), ..Setup::default() });
    cluster.host(1).held.applies = true;
    fill(&mut cluster, 20, 1);
    let upto =
        LogId { term: cluster.host(1).status(GROUP).role_state.term, index: cluster.host(1).status(GROUP).commit };
    let durable = LogId { index: vlot_raft::id::LogIndex(upto.index.0 - 9), ..upto };
    cluster.handle(1, Input::Applied { group: GROUP, upto, durable });
    cluster.settle();
    assert_eq!(cluster.host(1).log_begins_after(GROUP), durable.index.0);
    // What was durable once stays so.
    cluster.handle(1, Input::Applied { group: GROUP, upto, durable: LogId::ZERO });
    cluster.handle(1, Input::Compact { group: GROUP });
    cluster.settle();
    assert_eq!(cluster.host(1).log_begins_after(GROUP), durable.index.0);
    assert!(cluster.host(1).headers.is_empty());
}

#[test]
fn a_state_in_memory_is_saved_before_its_log_is_cut() {
    let setup = Setup { retention: keeping(8, 2), is_durable: false, ..Setup::default() };
    let mut cluster = Cluster::led_by(1, &setup);
    cluster.host(1).held.saves = true;
    fill(&mut cluster, 30, 1);
    let header = cluster.host(1).headers[0].clone();
    assert_eq!(cluster.host(1).headers.len(), 1, "one at a time");
    assert_eq!(cluster.host(1).log_begins_after(GROUP), 0, "it is not written");
    assert_eq!(header.group, GROUP);
    cluster.release(1);
    // What was applied since leaves room for a cut, but never past what was saved.
    assert_eq!(cluster.host(1).log_begins_after(GROUP), header.id.index.0);
    assert_eq!(cluster.host(1).removed_before[0], (GROUP, header.id));
    fill(&mut cluster, 30, 1);
    assert!(cluster.host(1).headers.len() > 1, "and again");
    let (begin, last) = (cluster.host(1).log_begins_after(GROUP), last(&mut cluster, 1));
    let saved = cluster.host(1).headers.last().expect("some").id;
    assert!(begin <= saved.index.0 && last - begin < 20, "{begin} to {last}, {saved} is saved");
}

#[test]
fn a_snapshot_that_could_not_be_saved_is_told_and_tried_again() {
    let setup = Setup { retention: keeping(8, 2), is_durable: false, ..Setup::default() };
    let mut cluster = Cluster::led_by(1, &setup);
    cluster.host(1).held.saves = true;
    fill(&mut cluster, 15, 1);
    assert_eq!(cluster.host(1).headers.len(), 1);
    cluster.handle(1, Input::Saved { group: GROUP, saved: Err("a broken disk".to_owned()) });
    cluster.settle();
    let why = "a broken disk".to_owned();
    assert!(cluster.host(1).events.contains(&(GROUP, GroupEvent::SnapshotNotSaved { why })));
    assert_eq!(cluster.host(1).log_begins_after(GROUP), 0);
    assert!(cluster.host(1).removed_before.is_empty());
    fill(&mut cluster, 1, 1);
    assert_eq!(cluster.host(1).headers.len(), 2);
}

#[test]
fn on_a_full_disk_the_log_is_cut_as_far_as_it_can_be() {
    for is_durable in [true, false] {
        let setup = Setup { is_durable, retention: keeping(30, 10), ..Setup::default() };
        let mut cluster = Cluster::led_by(1, &setup);
        fill(&mut cluster, 50, 1);
        let (now, before) = (cluster.now, cluster.host(1).log_begins_after(GROUP));
        cluster.host(1).room(now, false);
        cluster.settle();
        let begin = cluster.host(1).log_begins_after(GROUP);
        let applied = cluster.host(1).applied(GROUP).index.0;
        let wanted = if is_durable { applied } else { cluster.host(1).headers.last().expect("one").id.index.0 };
        assert!(begin > before, "{before} {begin}");
        assert_eq!(begin, wanted);
    }
}

#[test]
fn a_log_is_cut_as_far_as_it_can_be_when_that_is_asked() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    fill(&mut cluster, 5, 1);
    cluster.host(1).held.applies = true;
    let applied = cluster.host(1).applied(GROUP).index.0;
    fill(&mut cluster, 5, 1);
    cluster.handle(1, Input::Compact { group: GROUP });
    cluster.settle();
    assert_eq!(cluster.host(1).log_begins_after(GROUP), applied);
}

#[test]
fn a_snapshot_that_is_restored_counts_as_applied_and_as_saved_and_older_ones_go() {
    for is_durable in [true, false] {
        let mut cluster = Cluster::led_by(1, &Setup::default());
        cluster.host(3).held.applies = true;
        fill(&mut cluster, 5, 1);
        let status = cluster.host(3).status(GROUP).clone();
        let id = LogId { term: status.role_state.term, index: status.commit };
        assert!(status.applied < id.index);
        let read = cluster.read(3, GROUP);
        cluster.run(HEARTBEAT);
        let durable = if is_durable { id } else { LogId::ZERO };
        cluster.handle(3, Input::Restored { group: GROUP, id, durable });
        let acts = cluster.turn(3);
        let before = if is_durable { LogId { index: id.index.next(), ..id } } else { id };
        let removes = |act: &Act| matches!(act, Act::RemoveSnapshots { before: first, .. } if *first == before);
        assert!(acts.iter().any(removes), "a state that is durable by itself needs no file: {acts:?}");
        cluster.carry_out(3, acts);
        assert!(cluster.host(3).events.contains(&(GROUP, GroupEvent::SnapshotRestored { of: id })));
        assert_eq!(cluster.host(3).status(GROUP).applied, id.index);
        assert_eq!(cluster.host(3).status(GROUP).applying_bytes, 0);
        assert_eq!(cluster.host(3).fate(read), ["ready"]);
        // What is in the snapshot is needed in the log no more.
        cluster.handle(3, Input::Compact { group: GROUP });
        cluster.turn(3);
        assert_eq!(cluster.host(3).log_begins_after(GROUP), id.index.0);
    }
}

#[test]
fn a_group_that_begins_on_a_full_disk_knows() {
    let mut cluster = Cluster::new(&Setup { groups: 0, ..Setup::default() });
    let now = cluster.now;
    cluster.host(1).room(now, false);
    cluster.host(1).begin(now, GROUP, Default::default());
    cluster.settle();
    assert!(cluster.host(1).status(GROUP).disk.is_full);
    let proposal = cluster.propose(1, GROUP, "x");
    cluster.settle();
    assert_eq!(cluster.host(1).fate(proposal), ["not proposed: NoSpace"]);
}

#[test]
fn a_snapshot_names_the_members_of_its_index_and_not_those_of_today() {
    let setup = Setup { retention: keeping(8, 2), is_durable: false, ..Setup::default() };
    let mut cluster = Cluster::led_by(1, &setup);
    cluster.run(ELECTION_TIMEOUT);
    cluster.host(1).held.applies = true;
    for _ in 0..40 {
        cluster.propose(1, GROUP, "x");
        cluster.run(10);
        let now = cluster.now;
        if cluster.host(1).takes_snapshot() {
            break;
        }
        cluster.host(1).apply_one(now);
    }
    assert!(cluster.host(1).takes_snapshot());
    let moved = MemberChange::Move { node: NodeId(2), address: "elsewhere:1".to_owned() };
    cluster.change(1, GROUP, vec![moved]);
    cluster.run(HEARTBEAT);
    assert_eq!(cluster.host(1).members[&GROUP].address(NodeId(2)), "elsewhere:1");
    cluster.release(1);
    let header = cluster.host(1).headers[0].clone();
    assert_eq!(header.members.entry.members.address(NodeId(2)), "n2:1");
    assert!(header.members.at <= header.id.index);
    fill(&mut cluster, 20, 1);
    let header = cluster.host(1).headers.last().expect("another").clone();
    assert_eq!(header.members.entry.members.address(NodeId(2)), "elsewhere:1");
}

/// What is saved of a snapshot that was taken at `id`.
fn header_for(cluster: &mut Cluster, n: u64, id: Option<LogId>) -> Option<LogId> {
    cluster.handle(n, Input::SnapshotTaken { group: GROUP, id });
    let acts = cluster.turn(n);
    let saved =
        acts.iter().find_map(|act| if let Act::Save { header, .. } = act { Some(header.clone()) } else { None });
    let header = saved.expect("it is saved or dropped");
    cluster.handle(n, Input::Saved { group: GROUP, saved: Err("not here".to_owned()) });
    header.map(|header| header.id)
}

#[test]
fn a_snapshot_that_is_of_no_use_is_dropped() {
    let mut cluster = Cluster::led_by(1, &Setup { retention: keeping(8, 2), ..Setup::default() });
    fill(&mut cluster, 30, 1);
    let applied = cluster.host(2).applied(GROUP);
    assert_eq!(header_for(&mut cluster, 2, Some(applied)), Some(applied));
    assert_eq!(header_for(&mut cluster, 2, None), None);
    let begin = cluster.host(2).node.raft(GROUP).expect("a group").log().after();
    assert!(begin.index.0 > 0);
    assert_eq!(header_for(&mut cluster, 2, Some(begin)), Some(begin), "where the log begins, its members are known");
    let earlier = LogId { index: vlot_raft::id::LogIndex(begin.index.0 - 1), ..begin };
    assert_eq!(header_for(&mut cluster, 2, Some(earlier)), None, "the members of then are not");
}

#[test]
fn there_is_no_snapshot_while_entries_are_unreadable() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    fill(&mut cluster, 10, 1);
    cluster.handle(3, Input::Close { group: GROUP, remove: false });
    cluster.settle();
    let state = cluster.host(3).closed[&GROUP].clone().expect("it stays in the log");
    let (now, applied) = (cluster.now, cluster.host(3).applied(GROUP));
    let mut new = cluster.host(3).new_group(GROUP, state);
    new.begin.damaged = Some((vlot_raft::id::LogIndex(3), vlot_raft::id::LogIndex(4)));
    cluster.host(3).add(now, new);
    assert!(cluster.host(3).node.raft(GROUP).expect("a group").unreadable().is_some());
    assert_eq!(header_for(&mut cluster, 3, Some(applied)), None);
}
