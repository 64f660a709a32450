//! Log compaction: Raft §7.
//!
//! InstallSnapshot is two things here: the leader says that one is needed, and the host gets one where it can. What the
//! receiver does with it is the paper's.

use vlot_raft::configuration::Configurations;
use vlot_raft::effect::{Effect, Event, Input, RoleName};
use vlot_raft::id::{LogId, LogIndex, NodeId, Term};
use vlot_raft::message::Body;
use vlot_raft::state::Restored;

use crate::harness::cluster::ELECTION_TIMEOUT;
use crate::harness::lone::{FIRST, Lone, append, append_set, entries, sent};
use crate::harness::notation::{members, parse_members};
use crate::{answers, beat_answer, committed, upto};

fn needed(term: u64, index: u64) -> Body {
    Body::SnapshotNeeded { session: FIRST, of: LogId::new(term, index) }
}

/// The host has a snapshot of this entry; the members are those with which the group began, unless told otherwise.
fn receive(lone: &mut Lone, id: LogId, configuration: (u64, &str)) -> Vec<Effect> {
    let configuration = (LogIndex(configuration.0), parse_members(configuration.1));
    lone.input(Input::SnapshotReceived { id, configuration })
}

fn compact(lone: &mut Lone, upto: u64) -> Vec<Effect> {
    lone.input(Input::Compact { upto: LogIndex(upto) })
}

fn installs(effects: &[Effect]) -> Option<LogId> {
    effects.iter().find_map(|effect| if let Effect::InstallSnapshot { id, .. } = effect { Some(*id) } else { None })
}

fn log(lone: &Lone) -> (LogId, LogId) {
    (lone.raft.log().after(), lone.raft.log().last_id())
}

/// A leader of term 1 whose log has these many entries, of which the first `dropped` are gone.
fn compacted_leader(entries: u64, dropped: u64) -> Lone {
    let mut lone = Lone::leader(3, 1, &[]);
    lone.input(Input::Propose { count: entries - 1 });
    lone.end_turn(100);
    lone.hear(3, 1, upto(entries));
    compact(&mut lone, dropped);
    lone
}

/// §7: each server cuts its log short by itself, whatever the others do; only what is committed.
#[test]
fn only_what_is_applied_is_dropped() {
    let mut lone = Lone::follower(1, &[]);
    lone.hear(2, 1, append(LogId::ZERO, &[1, 1, 1, 1], 3));
    compact(&mut lone, 4);
    assert_eq!(log(&lone), (LogId::new(1, 3), LogId::new(1, 4)));
    assert_eq!(compact(&mut lone, 3), [], "it is gone already");
    assert_eq!(compact(&mut lone, 2), [], "and nothing comes back");
}

/// §7: index and term of the last dropped entry are kept, for the check of the entry that follows.
#[test]
fn the_entry_before_the_log_is_compared_by_its_term() {
    let mut lone = Lone::follower(2, &[1, 1, 2]);
    lone.hear(2, 2, append(LogId::new(2, 3), &[], 3));
    compact(&mut lone, 3);
    let effects = lone.hear(2, 2, append(LogId::new(2, 3), &[2], 3));
    assert!(answers(&effects, &upto(4)), "{effects:?}");
    assert_eq!(log(&lone), (LogId::new(2, 3), LogId::new(2, 4)));
}

/// §7: … also when the message begins before the log does: what was dropped was committed, so it is the leader's too, and
/// acknowledged with any message.
#[test]
fn a_message_that_begins_before_the_log_is_taken_from_there() {
    for (after, terms, accepted) in [(1, &[1, 2, 2][..], 4), (0, &[1, 1][..], 3), (2, &[2][..], 3)] {
        let mut lone = Lone::follower(2, &[1, 1, 2]);
        lone.hear(2, 2, append(LogId::new(2, 3), &[], 3));
        compact(&mut lone, 3);
        let before = if after == 0 { LogId::ZERO } else { LogId::new(1, after) };
        let effects = lone.hear(2, 2, append(before, terms, 3));
        assert!(answers(&effects, &upto(accepted)), "{terms:?} after {after}: {effects:?}");
        assert_eq!(log(&lone), (LogId::new(2, 3), LogId::new(2, accepted)));
    }
}

/// §7: a snapshot includes the configuration of its last entry; so does a log that begins later.
#[test]
fn a_log_that_begins_later_begins_with_its_configuration() {
    let mut lone = Lone::follower(1, &[]);
    let set = [(2, "n1,n2,n3,+n4"), (3, "n1,n2,n3,n4"), (5, "n1,n2,n3,n4,(n5)")];
    lone.hear(2, 1, append_set(LogId::ZERO, &[1, 1, 1, 1, 1], &set, 4));
    compact(&mut lone, 4);
    let (at, base) = lone.raft.configurations().at(LogIndex(4));
    assert_eq!((at.0, members(base).as_str()), (3, "n1,n2,n3,n4"));
    assert_eq!(members(lone.raft.configuration()), "n1,n2,n3,n4,(n5)");
}

/// §7: once a snapshot is written, the entries that it covers may go.
#[test]
fn dropping_entries_is_a_write_of_its_own() {
    let mut lone = Lone::follower(1, &[]);
    let appended = lone.hear(2, 1, append(LogId::ZERO, &[1, 1, 1], 3));
    let before = appended.iter().find_map(|effect| match effect {
        Effect::Append { write, .. } => Some(*write),
        _ => None,
    });
    let effects = compact(&mut lone, 2);
    let [Effect::Compact { write, after }] = effects[..] else { panic!("{effects:?}") };
    assert_eq!(after, LogId::new(1, 2));
    assert!(Some(write) > before, "{write:?} comes after {before:?}");
}

/// §7: … a restart finds the log as it was left.
#[test]
fn a_compacted_log_is_taken_up_after_a_restart() {
    let mut lone = Lone::follower(1, &[]);
    lone.hear(2, 1, append(LogId::ZERO, &[1, 1, 1], 2));
    compact(&mut lone, 2);
    let restored = Restored {
        term: lone.raft.role_state().term,
        log: lone.raft.log().clone(),
        configurations: lone.raft.configurations().clone(),
        applied: LogIndex(2),
        ..Restored::default()
    };
    let again = Lone::with(&restored, |_| {}, 3);
    assert_eq!((log(&again), again.raft.commit()), ((LogId::new(1, 2), LogId::new(1, 3)), LogIndex(2)));
}

/// §7: a leader sends a snapshot to a follower when it has dropped the next entry that the follower needs.
#[test]
fn a_follower_behind_the_log_needs_a_snapshot() {
    let mut lone = compacted_leader(5, 4);
    lone.hear(2, 1, Body::EntriesRefused { session: FIRST, missing: LogId::ZERO, hint: LogId::ZERO });
    lone.input(Input::Connected { peer: NodeId(2) });
    let effects = lone.end_turn(100);
    assert!(sent(&effects).contains(&(2, 1, needed(1, 4))), "{effects:?}");
    assert!(effects.contains(&Effect::Happened(Event::PeerNeedsSnapshot { peer: NodeId(2) })));
    assert_eq!(lone.raft.next_range(NodeId(2)), None, "no entries before it has one");
}

/// §5.3, §7: … which shows when the last entry that both could have is one that is gone.
#[test]
fn a_refusal_that_leads_behind_the_log_asks_for_a_snapshot() {
    let refused = |missing, hint| {
        let [missing, hint] = [missing, hint].map(|index: u64| LogId::new(index.min(1), index));
        Body::EntriesRefused { session: FIRST, missing, hint }
    };
    let had = Restored {
        term: Term(1),
        log: entries(LogId::new(1, 4), &[1, 1]),
        applied: LogIndex(4),
        configurations: Configurations::begin(parse_members("n1,n2,n3")),
        ..Restored::default()
    };
    // The log begins after 4. What the follower lacks and the last that it could have, question by question.
    let table: [(&[(u64, u64)], bool); 6] = [
        (&[(6, 5)], false),
        (&[(6, 4)], false),
        (&[(6, 3)], true),
        (&[(6, 0)], true),
        (&[(6, 4), (4, 4)], true),
        (&[(6, 5), (5, 3)], true),
    ];
    for (answers_of_2, snapshot) in table {
        let mut lone = Lone::with(&had, |_| {}, 1);
        lone.win();
        let mut effects = lone.end_turn(100);
        for &(missing, hint) in answers_of_2 {
            assert!(!answers(&effects, &needed(1, 4)), "{answers_of_2:?}: {effects:?}");
            lone.hear(2, 2, refused(missing, hint));
            effects = lone.end_turn(100);
        }
        assert_eq!(answers(&effects, &needed(1, 4)), snapshot, "{answers_of_2:?}: {effects:?}");
    }
}

/// §7: … and only then: who has the last dropped entry gets what follows.
#[test]
fn a_follower_at_the_beginning_of_the_log_needs_none() {
    let mut lone = compacted_leader(5, 4);
    lone.hear(2, 1, upto(4));
    assert_eq!(lone.raft.next_range(NodeId(2)), Some((LogIndex(4), LogIndex(5))));
    assert!(answers(&lone.end_turn(100), &append(LogId::new(1, 4), &[1], 5)));
}

/// §7: the leader goes on telling it, for a snapshot may be lost like any message.
#[test]
fn the_notice_is_repeated_until_it_is_answered() {
    let mut lone = compacted_leader(5, 4);
    lone.input(Input::Connected { peer: NodeId(2) });
    lone.end_turn(100);
    for _ in 0..3 {
        assert!(sent(&lone.time_out()).contains(&(2, 1, needed(1, 4))));
        lone.hear(2, 1, beat_answer(0));
        lone.hear(3, 1, beat_answer(0));
    }
    lone.hear(2, 1, upto(4));
    assert_eq!(lone.raft.next_range(NodeId(2)), Some((LogIndex(4), LogIndex(5))));
    assert!(!sent(&lone.time_out()).contains(&(2, 1, needed(1, 4))));
}

/// §7, figure 13, 1: a notice of an earlier term is turned away.
#[test]
fn a_notice_of_an_earlier_term_is_turned_away() {
    let mut lone = Lone::new(3, 4, None, &[]);
    let effects = lone.hear(2, 3, needed(3, 9));
    assert_eq!(sent(&effects), [(2, 4, Body::StaleTerm)]);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::FetchSnapshot { .. })));
}

/// §7: the leader's notice is word of the leader like any other: it puts the election off, and no longer than that.
#[test]
fn the_election_timeout_runs_while_a_snapshot_is_awaited() {
    let mut lone = Lone::follower(1, &[]);
    lone.wait(ELECTION_TIMEOUT / 2);
    let effects = lone.hear(2, 1, needed(1, 4));
    let asked = Effect::FetchSnapshot { from: NodeId(2), reach: LogId::new(1, 4) };
    assert!(effects.contains(&asked), "{effects:?}");
    assert!(lone.raft.deadline() >= lone.now + ELECTION_TIMEOUT);
    lone.time_out();
    assert_eq!(lone.role(), RoleName::PreCandidate);
}

/// §7: who has what the snapshot would have says so, and needs none.
#[test]
fn who_has_it_committed_says_so() {
    let mut lone = Lone::follower(1, &[]);
    lone.hear(2, 1, append(LogId::ZERO, &[1, 1, 1], 3));
    assert_eq!(sent(&lone.hear(2, 1, needed(1, 2))), [(2, 1, upto(3))]);
}

/// §7, figure 13, 7: a snapshot of what is not in the log takes the place of the whole log, which may conflict with it.
#[test]
fn a_snapshot_discards_a_log_without_its_last_entry() {
    for own in [&[][..], &[1], &[1, 1, 1, 1, 1, 1]] {
        let mut lone = Lone::follower(3, own);
        let effects = receive(&mut lone, LogId::new(2, 4), (0, "n1,n2,n3"));
        assert_eq!(installs(&effects), Some(LogId::new(2, 4)), "{own:?}");
        assert_eq!(log(&lone), (LogId::new(2, 4), LogId::new(2, 4)), "{own:?}");
    }
}

/// §7, figure 13, 6: a snapshot of what is in the log drops what it covers, and what follows stays.
#[test]
fn a_snapshot_keeps_what_follows_its_last_entry() {
    let mut lone = Lone::follower(2, &[1, 1, 2, 2]);
    let effects = receive(&mut lone, LogId::new(2, 3), (0, "n1,n2,n3"));
    assert_eq!(installs(&effects), Some(LogId::new(2, 3)));
    assert_eq!(log(&lone), (LogId::new(2, 3), LogId::new(2, 4)));
}

/// §7, figure 13, 8: the state machine becomes the snapshot: everything up to its last entry is applied with it.
#[test]
fn a_snapshot_is_applied_when_it_is_durable() {
    let mut lone = Lone::follower(2, &[1, 1, 1, 1, 1, 1]);
    lone.slow_disk = true;
    let effects = receive(&mut lone, LogId::new(2, 4), (0, "n1,n2,n3"));
    assert_eq!((committed(&effects), lone.raft.commit(), lone.raft.ready()), (None, LogIndex(4), LogIndex(0)));
    let told = Body::Heartbeat { session: FIRST, round: 0, commit: LogIndex(4) };
    assert_eq!(committed(&lone.hear(2, 2, told)), None, "the old log's entry 4 is durable, and not this one");
    assert_eq!(committed(&lone.persist()), Some(4));
}

/// §7, figure 13, 8: … and the configuration becomes the snapshot's.
#[test]
fn a_snapshot_brings_its_configuration() {
    let mut lone = Lone::follower(1, &[1]);
    lone.hear(2, 1, append_set(LogId::new(1, 1), &[1], &[(2, "n1,n2,n3,+n4")], 0));
    receive(&mut lone, LogId::new(1, 6), (5, "n1,n2,(n5)"));
    assert_eq!(members(lone.raft.configuration()), "n1,n2,(n5)");
    let later = [(8, "n1,n2,n5")];
    lone.hear(2, 1, append_set(LogId::new(1, 6), &[1, 1], &later, 0));
    assert_eq!(members(lone.raft.configuration()), "n1,n2,n5");
    lone.hear(3, 2, append(LogId::new(1, 7), &[2], 0));
    assert_eq!(members(lone.raft.configuration()), "n1,n2,(n5)", "back to that of the snapshot");
}

/// §7: … which is news only if it is another.
#[test]
fn a_snapshot_with_the_same_configuration_is_no_news() {
    let news = |effects: &[Effect]| effects.iter().any(|effect| matches!(effect, Effect::Happened(_)));
    let mut lone = Lone::follower(1, &[1]);
    assert!(!news(&receive(&mut lone, LogId::new(1, 6), (0, "n1,n2,n3"))));
    let effects = receive(&mut lone, LogId::new(1, 9), (8, "n1,n2,n3"));
    assert!(effects.contains(&Effect::Happened(Event::ConfigurationChanged { at: LogIndex(8) })), "{effects:?}");
}

/// §7: … it counts at once for who stands for election, too: one that may not lead gives up, and any other goes on.
#[test]
fn a_snapshot_ends_the_candidacy_of_who_does_not_vote_in_it() {
    for (members, role) in [("n1,n2,n3,n4", RoleName::Candidate), ("(n1),n2,n3", RoleName::Follower)] {
        let mut lone = Lone::new(3, 1, None, &[1]);
        lone.campaign();
        receive(&mut lone, LogId::new(1, 6), (5, members));
        assert_eq!(lone.role(), role, "{members}");
    }
}

/// §7: neither term nor vote nor commit index depends on a snapshot: an old one, or one of a term that this server does
/// not know, changes nothing.
#[test]
fn an_old_snapshot_changes_nothing() {
    let mut lone = Lone::follower(2, &[]);
    lone.hear(2, 2, append(LogId::ZERO, &[1, 1, 2], 2));
    for id in [LogId::new(1, 1), LogId::new(1, 2), LogId::new(3, 9)] {
        assert_eq!(receive(&mut lone, id, (0, "n1,n2,n3")), [], "{id}");
    }
    assert_eq!((lone.term(), lone.raft.commit(), lone.log()), (2, LogIndex(2), vec![1, 1, 2]));
}

/// §7: … nor does one that names no members, or members of after its last entry.
#[test]
fn a_snapshot_without_its_configuration_is_none() {
    let mut lone = Lone::follower(2, &[]);
    assert_eq!(receive(&mut lone, LogId::new(1, 4), (0, "nobody")), []);
    assert_eq!(receive(&mut lone, LogId::new(1, 4), (5, "n1,n2,n3")), []);
}

/// §7: a leader has all that is committed, so it takes no snapshot from anyone.
#[test]
fn a_leader_takes_no_snapshot() {
    let mut lone = Lone::leader(3, 3, &[1]);
    assert_eq!(receive(&mut lone, LogId::new(2, 9), (0, "n1,n2,n3")), []);
    assert_eq!(lone.log(), [1, 3]);
}

/// §7: what a server acknowledges after a snapshot is on its disk, snapshot and log.
#[test]
fn a_snapshot_is_acknowledged_when_it_is_durable() {
    let mut lone = Lone::follower(2, &[]);
    lone.slow_disk = true;
    receive(&mut lone, LogId::new(2, 4), (0, "n1,n2,n3"));
    assert_eq!(sent(&lone.hear(2, 2, needed(2, 4))), []);
    assert_eq!(sent(&lone.persist()), [(2, 2, upto(4))]);
}
