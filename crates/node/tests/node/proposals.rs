//! What whoever proposes or asks for a change is told, and that it is true.

use bytes::Bytes;
use vlot_log::index::GroupState;
use vlot_log::record::{Entry, Write};
use vlot_node::act::Answer;
use vlot_node::input::Input;
use vlot_node::members::{MemberChange, Members, MembersAt, MembersEntry};
use vlot_node::payload;
use vlot_node::proposal_id::ProposalId;
use vlot_node::replica::{Begin, Limits, Replica, Work};
use vlot_node::wire::PeerMessage;
use vlot_raft::id::{GroupId, LogId, LogIndex, NodeId, Term};
use vlot_raft::message::{Body, Message, Session};
use vlot_raft::state::Config;
use vlot_raft::term_runs::TermRuns;
use vlot_raft::time::Time;

use crate::harness::{Cluster, ELECTION_TIMEOUT, GROUP, HEARTBEAT, Setup};

#[test]
fn a_proposal_is_applied_once_wherever_it_was_made() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    for n in 1..=3 {
        let sequence = cluster.propose(n, GROUP, &format!("by {n}"));
        cluster.run(HEARTBEAT);
        assert_eq!(cluster.host(n).fate(sequence), ["applied"]);
    }
    for n in 1..=3 {
        assert_eq!(cluster.host(n).words(GROUP), ["by 1", "by 2", "by 3"]);
    }
}

#[test]
fn what_no_leader_has_is_certainly_not_proposed_when_it_is_withdrawn() {
    let mut cluster = Cluster::new(&Setup::default());
    cluster.settle();
    let sequence = cluster.propose(1, GROUP, "x");
    cluster.settle();
    cluster.handle(1, Input::Withdraw { group: GROUP, sequence });
    cluster.settle();
    assert_eq!(cluster.host(1).fate(sequence), ["not proposed: NoLeader"]);
    cluster.run(5 * ELECTION_TIMEOUT);
    assert!(cluster.leader(GROUP).is_some());
    assert_eq!(cluster.host(1).words(GROUP), [""; 0], "and never will be");
}

#[test]
fn what_a_leader_may_have_is_unknown_when_it_is_withdrawn() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    for n in [1, 2] {
        cluster.host(1).held.writes = true;
        cluster.host(3).held.writes = true;
        let sequence = cluster.propose(n, GROUP, &format!("by {n}"));
        cluster.settle();
        cluster.handle(n, Input::Withdraw { group: GROUP, sequence });
        cluster.settle();
        assert_eq!(cluster.host(n).fate(sequence), ["unknown"]);
        cluster.release(1);
        cluster.release(3);
        cluster.run(HEARTBEAT);
        assert!(cluster.host(n).words(GROUP).contains(&format!("by {n}")), "it was in the leader's log");
    }
}

#[test]
fn a_proposal_that_was_certainly_lost_is_sent_again() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    // The leader has it and nobody else.
    cluster.silence(1, 2);
    cluster.silence(1, 3);
    let sequence = cluster.propose(1, GROUP, "lost with its leader");
    cluster.settle();
    cluster.disconnect(1, 2);
    cluster.disconnect(1, 3);
    cluster.run(5 * ELECTION_TIMEOUT);
    assert_ne!(cluster.leader_among(&[2, 3]), None);
    assert_eq!(cluster.host(1).fate(sequence), [""; 0]);
    cluster.connect(1, 2);
    cluster.connect(1, 3);
    cluster.run(5 * ELECTION_TIMEOUT);
    assert_eq!(cluster.host(1).fate(sequence), ["applied"]);
    for n in 1..=3 {
        assert_eq!(cluster.host(n).words(GROUP), ["lost with its leader"], "once");
    }
}

#[test]
fn without_room_on_this_disk_nothing_is_proposed() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    let now = cluster.now;
    cluster.host(2).room(now, false);
    let sequence = cluster.propose(2, GROUP, "x");
    cluster.settle();
    assert_eq!(cluster.host(2).fate(sequence), ["not proposed: NoSpace"]);
    assert!(cluster.host(2).status(GROUP).disk.is_full);
    cluster.host(2).room(now, true);
    let sequence = cluster.propose(2, GROUP, "y");
    cluster.run(HEARTBEAT);
    assert_eq!(cluster.host(2).fate(sequence), ["applied"]);
    assert!(!cluster.host(2).status(GROUP).disk.is_full);
}

#[test]
fn without_room_on_the_disks_of_a_quorum_the_leader_says_so() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    let now = cluster.now;
    cluster.host(1).room(now, false);
    cluster.host(3).room(now, false);
    // The leadership may go to the one that has room.
    cluster.run(3 * ELECTION_TIMEOUT);
    let leader = cluster.leader(GROUP).expect("somebody leads");
    let sequence = cluster.propose(2, GROUP, "x");
    cluster.run(HEARTBEAT);
    assert_eq!(cluster.host(2).fate(sequence), ["not proposed: NoSpace"], "{leader} leads");
}

#[test]
fn a_leader_that_removes_itself_is_answered() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    let change = cluster.change(1, GROUP, vec![MemberChange::Remove(NodeId(1))]);
    cluster.run(5 * ELECTION_TIMEOUT);
    assert_eq!(cluster.host(1).fate(change).len(), 1, "{:?}", cluster.host(1).fate(change));
    assert!(["changed", "applied"].contains(&&*cluster.host(1).fate(change)[0]));
    assert!(cluster.host(1).status(GROUP).is_removed);
    let members: Vec<u64> = cluster.host(1).members[&GROUP].iter().map(|(member, _)| member.node.0).collect();
    assert_eq!(members, [2, 3]);
    let (proposal, read) = (cluster.propose(1, GROUP, "x"), cluster.read(1, GROUP));
    cluster.settle();
    assert_eq!(cluster.host(1).fate(proposal), ["not proposed: NotAMember"]);
    assert_eq!(cluster.host(1).fate(read), ["not read: NotAMember"]);
    let leader = cluster.leader_among(&[2, 3]).expect("one of those that are left");
    let proposal = cluster.propose(leader, GROUP, "y");
    cluster.run(HEARTBEAT);
    assert_eq!(cluster.host(leader).fate(proposal), ["applied"]);
}

#[test]
fn a_follower_that_asks_to_be_removed_is_answered() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    let change = cluster.change(3, GROUP, vec![MemberChange::Remove(NodeId(3))]);
    let waits = cluster.propose(3, GROUP, "x");
    cluster.run(5 * ELECTION_TIMEOUT);
    assert_eq!(cluster.host(3).fate(change).len(), 1, "{:?}", cluster.host(3).fate(change));
    assert_eq!(cluster.host(3).fate(waits).len(), 1, "{:?}", cluster.host(3).fate(waits));
}

#[test]
fn who_leaves_later_is_not_told_that_a_change_was_made_which_was_refused() {
    let mut cluster = Cluster::new(&Setup::default());
    let leave = || vec![MemberChange::Remove(NodeId(3))];
    let refused = cluster.change(3, GROUP, leave());
    cluster.settle();
    cluster.elect(1, GROUP);
    cluster.run(ELECTION_TIMEOUT);
    let made = cluster.change(3, GROUP, leave());
    cluster.run(5 * ELECTION_TIMEOUT);
    assert_eq!(cluster.host(3).fate(refused), ["not changed: NotLeader { leader: None }"]);
    assert_eq!(cluster.host(3).fate(made).len(), 1, "{:?}", cluster.host(3).fate(made));
}

#[test]
fn a_change_that_cannot_be_made_is_refused_by_whoever_leads() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    cluster.run(ELECTION_TIMEOUT);
    let node = NodeId(9);
    for n in [1, 2] {
        for change in
            [MemberChange::Move { node, address: "n9:1".to_owned() }, MemberChange::BindDisk { node, disk: 1 }]
        {
            let sequence = cluster.change(n, GROUP, vec![change]);
            cluster.run(HEARTBEAT);
            let why = "not changed: NotAMember { node: NodeId(9) }";
            assert_eq!(cluster.host(n).fate(sequence), [why], "asked of n{n}");
        }
    }
    let context = Bytes::from_static(b"context");
    let changes = vec![MemberChange::Move { node: NodeId(3), address: "elsewhere:1".to_owned() }];
    cluster.handle(2, Input::ChangeMembers { group: GROUP, sequence: 77, changes, context });
    cluster.run(HEARTBEAT);
    assert_eq!(cluster.host(2).fate(77), ["applied"]);
    for n in 1..=3 {
        assert_eq!(cluster.host(n).members[&GROUP].address(NodeId(3)), "elsewhere:1");
    }
}

#[test]
fn a_change_without_a_leader_is_refused_at_once() {
    let mut cluster = Cluster::new(&Setup::default());
    let sequence = cluster.change(1, GROUP, vec![MemberChange::Remove(NodeId(3))]);
    cluster.settle();
    assert_eq!(cluster.host(1).fate(sequence), ["not changed: NotLeader { leader: None }"]);
}

#[test]
fn a_change_for_another_term_is_refused_with_whoever_leads() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    let term = Term(99);
    let id = ProposalId { origin: 2, sequence: 5 };
    let changes = vec![MemberChange::Remove(NodeId(3))];
    let request = vlot_node::members::ChangeRequest { id, changes, context: Bytes::new() };
    let message = PeerMessage::Change { term, request };
    let input = Input::Frame { from: NodeId(2), lane: message.lane(), bytes: message.encode(GROUP) };
    cluster.handle(1, input);
    cluster.settle();
    assert_eq!(cluster.host(2).fate(5), ["not changed: NotLeader { leader: Some(NodeId(1)) }"]);
    assert_eq!(cluster.host(1).members[&GROUP].iter().count(), 3);
}

#[test]
fn a_transfer_is_answered() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    cluster.handle(2, Input::Transfer { group: GROUP, sequence: 8, to: None });
    cluster.settle();
    assert_eq!(cluster.host(2).fate(8), ["transfer: Err(NotLeader { leader: Some(NodeId(1)) })"]);
    cluster.handle(1, Input::Transfer { group: GROUP, sequence: 9, to: Some(NodeId(3)) });
    cluster.run(HEARTBEAT);
    assert_eq!(cluster.host(1).fate(9), ["transfer: Ok(())"]);
    assert_eq!(cluster.leader(GROUP), Some(3));
}

/// A follower of node 2 that knows nothing of what it is to be told, on its own.
fn follower() -> (Replica, Work) {
    let begin = Begin {
        group: GroupId(1),
        config: Config::new(NodeId(1)).into(),
        members: Members::of_voters((1..=3).map(|n| (NodeId(n), format!("n{n}:1")))),
        recovered: GroupState::default(),
        damaged: None,
        applied: LogId::ZERO,
        limits: Limits::default(),
        forwards: true,
        shares_entries: true,
        origin: 1,
        seed: 1,
    };
    let mut work = Work::default();
    let mut replica = Replica::new(Time::default(), begin, &mut work).expect("a new one");
    replica.connected(Time::default(), NodeId(2), true, &mut work);
    let body = Body::Heartbeat { session: Session(LogIndex::ZERO), round: 1, commit: LogIndex::ZERO };
    let message = PeerMessage::Raft { message: Message { term: Term(1), body }, payloads: Vec::new() };
    replica.receive(Time::default(), NodeId(2), message, &mut work);
    (replica, work)
}

fn command(sequence: u64) -> Bytes {
    payload::command(ProposalId { origin: 1, sequence }, 1, |out| out.extend_from_slice(b"x"))
}

/// Entries 1 to this number of the leader of term 1, node 2, to its follower.
fn entries(count: u64) -> PeerMessage {
    let mut runs = TermRuns::empty(LogId::ZERO);
    runs.push(Term(1), count);
    let body = Body::AppendEntries {
        session: Session(LogIndex::ZERO),
        entries: runs,
        configurations: Vec::new(),
        commit: LogIndex::ZERO,
    };
    let id = |sequence| ProposalId { origin: 2, sequence };
    let payloads = (1..=count).map(|n| payload::command(id(n), 1, |out| out.extend_from_slice(b"y"))).collect();
    PeerMessage::Raft { message: Message { term: Term(1), body }, payloads }
}

#[test]
fn of_entries_that_come_again_each_that_is_new_gets_its_own_payload() {
    let (mut replica, mut work) = follower();
    let mut sequences = Vec::new();
    for count in [2, 5] {
        replica.receive(Time::default(), NodeId(2), entries(count), &mut work);
        for write in work.writes.drain(..) {
            if let Write::Append { entries, .. } = write {
                let sequence = |entry: &Entry| payload::proposal_id(&entry.payload).map(|id| id.sequence);
                sequences.extend(entries.iter().map(|entry| (entry.id.index.0, sequence(entry))));
            }
        }
    }
    assert_eq!(sequences, [1, 2, 3, 4, 5].map(|n| (n, Some(n))));
}

#[test]
fn commands_share_a_payload_once_all_members_read_that() {
    let (mut replica, mut work) = follower();
    let mut sequence = 0;
    let mut sent = |replica: &mut Replica, work: &mut Work| {
        for shares_entry in [true, true, false, true] {
            sequence += 1;
            replica.propose(sequence, command(sequence), shares_entry, false, work);
        }
        replica.end_turn(Time::default(), 100, work).expect("no entries");
        let sent = work.messages.drain(..).filter_map(|(_, message)| match message {
            PeerMessage::Propose { payloads, .. } => Some(payloads),
            _ => None,
        });
        sent.flatten().map(|payload| payload::proposal_ids(&payload).count()).collect::<Vec<_>>()
    };
    assert_eq!(sent(&mut replica, &mut work), [1, 1, 1, 1], "node 3 has not said what it reads");
    replica.connected(Time::default(), NodeId(3), false, &mut work);
    assert_eq!(sent(&mut replica, &mut work), [1, 1, 1, 1], "node 3 does not");
    replica.connected(Time::default(), NodeId(3), true, &mut work);
    assert_eq!(sent(&mut replica, &mut work), [2, 1, 1]);
    replica.lost(Time::default(), NodeId(3), &mut work);
    assert_eq!(sent(&mut replica, &mut work), [2, 1, 1], "it still does when it comes back");
    replica.connected(Time::default(), NodeId(2), false, &mut work);
    assert_eq!(sent(&mut replica, &mut work), [1, 1, 1, 1], "the leader is of an earlier program now");
}

#[test]
fn the_proposal_of_another_node_with_the_same_number_is_another() {
    let (mut replica, mut work) = follower();
    let now = Time::default();
    replica.propose(1, command(1), false, false, &mut work);
    replica.end_turn(now, 1000, &mut work).expect("no entries");
    // The leader's own, with the same number, and after it the entry with which the leader of the next term begins.
    replica.receive(now, NodeId(2), entries(1), &mut work);
    let mut runs = TermRuns::empty(LogId::new(1, 1));
    runs.push(Term(2), 1);
    let session = Session(LogIndex::ZERO);
    let body = Body::AppendEntries { session, entries: runs, configurations: Vec::new(), commit: LogIndex(2) };
    let payloads = vec![payload::blank()];
    let message = PeerMessage::Raft { message: Message { term: Term(2), body }, payloads };
    replica.receive(now, NodeId(2), message, &mut work);
    replica.persisted(now, work.last_write.expect("two entries"), &mut work);
    replica.end_turn(now, 1000, &mut work).expect("both are known");
    assert_eq!(work.committed.len(), 2);
    replica.end_turn(now, 1000, &mut work).expect("nothing new");
    let sent = work.messages.iter().filter(|(_, message)| matches!(message, PeerMessage::Propose { .. })).count();
    assert_eq!(sent, 2, "it was not among them, so it was lost, and is sent again");
}

#[test]
fn what_a_peer_asks_counts_though_its_connection_is_lost() {
    let (mut replica, mut work) = follower();
    replica.lost(Time::default(), NodeId(2), &mut work);
    replica.lost(Time::default(), NodeId(3), &mut work);
    let message = Message { term: Term(9), body: Body::RequestVote { last: LogId::ZERO, transfer: true } };
    let message = PeerMessage::Raft { message, payloads: Vec::new() };
    replica.receive(Time::default(), NodeId(3), message, &mut work);
    assert_eq!(replica.raft().vote(), Some(NodeId(3)), "only a sign of life of a leader may be out of date");
}

#[test]
fn a_proposal_that_a_snapshot_has_overtaken_is_unknown() {
    let (mut replica, mut work) = follower();
    let now = Time::default();
    replica.propose(1, command(1), false, false, &mut work);
    replica.end_turn(now, 100, &mut work).expect("no entries");
    assert!(work.messages.iter().any(|(_, message)| matches!(message, PeerMessage::Propose { .. })), "it was sent");
    replica.propose(2, command(2), false, false, &mut work);
    let members = Members::of_voters((1..=3).map(|n| (NodeId(n), format!("n{n}:1"))));
    let members = MembersAt { at: LogIndex::ZERO, entry: MembersEntry { members, ..MembersEntry::default() } };
    replica.snapshot_received(now, LogId::new(1, 9), members, &mut work);
    assert_eq!(work.proposals_unknown, [1], "it may be in the snapshot; what was not sent is not");
    // It is not sent again, though a later leader's first entry is applied.
    work.messages.clear();
    replica.end_turn(now, 100, &mut work).expect("no entries");
    let sent: usize = work
        .messages
        .iter()
        .map(|(_, message)| if let PeerMessage::Propose { payloads, .. } = message { payloads.len() } else { 0 })
        .sum();
    assert_eq!(sent, 1, "the one that was not sent before");
    assert_eq!(work.restore, None, "the state machine waits until the log says so, durably");
    let write = work.last_write.expect("the log begins after it");
    replica.persisted(now, write, &mut work);
    replica.end_turn(now, 100, &mut work).expect("no entries");
    assert_eq!(work.restore, Some(LogId::new(1, 9)));
}

#[test]
fn what_a_leader_says_it_has_refused_is_refused_if_it_went_to_that_leader() {
    let mut cluster = Cluster::led_by(1, &Setup::default());
    cluster.host(1).held.writes = true;
    cluster.host(3).held.writes = true;
    let sequence = cluster.propose(2, GROUP, "x");
    cluster.settle();
    let term = cluster.host(2).status(GROUP).role_state.term;
    for (term, fate) in [(Term(term.0 + 1), &[][..]), (term, &["not proposed: NoSpace"][..])] {
        let message = PeerMessage::ProposalsRefused { term, sequences: vec![sequence, 1 << 50] };
        let input = Input::Frame { from: NodeId(1), lane: message.lane(), bytes: message.encode(GROUP) };
        cluster.handle(2, input);
        cluster.settle();
        assert_eq!(cluster.host(2).fate(sequence), fate);
    }
    assert!(cluster.host(2).answers.iter().all(|(_, answer)| *answer != Answer::Unknown(sequence)));
}
