//! The Raft paper and Ongaro's dissertation, sentence by sentence. Each test has its sentence above it, shortened where
//! that loses nothing. Configuration (§6), snapshots (§7), hand-over and leases are in `paper/`; there the sentences are
//! told in our own words.

#[path = "paper/elections.rs"]
mod elections;
#[path = "paper/handover.rs"]
mod handover;
mod harness;
#[path = "paper/leases.rs"]
mod leases;
#[path = "paper/members.rs"]
mod members;
#[path = "paper/sleep.rs"]
mod sleep;
#[path = "paper/snapshots.rs"]
mod snapshots;

use std::collections::BTreeSet;
use std::time::Duration;

use harness::cluster::{Cluster, ELECTION_TIMEOUT, HEARTBEAT, Habits};
use harness::lone::{FIRST, Lone, append, sent};
use vlot_raft::effect::{Effect, Input, Misbehaviour, ProposalRefused, RoleName, Source, WriteId};
use vlot_raft::id::{LogId, LogIndex, NodeId, Term};
use vlot_raft::message::{Body, ReadId};

const BEAT: Body = Body::Heartbeat { session: FIRST, round: 0, commit: LogIndex::ZERO };

fn upto(index: u64) -> Body {
    Body::EntriesAccepted { session: FIRST, upto: LogIndex(index) }
}

fn beat_answer(round: u64) -> Body {
    Body::HeartbeatReply { session: FIRST, round, fit: true, full: false, priority: 1, asleep: false }
}

fn request(term: u64, index: u64) -> Body {
    Body::RequestVote { last: LogId::new(term, index), transfer: false }
}

fn committed(effects: &[Effect]) -> Option<u64> {
    effects.iter().rev().find_map(|effect| if let Effect::Commit { upto } = effect { Some(upto.0) } else { None })
}

fn answers(effects: &[Effect], body: &Body) -> bool {
    sent(effects).iter().any(|(_, _, answer)| answer == body)
}

// Figure 2, State.

/// "currentTerm: latest term server has seen (initialized to 0 on first boot, increases monotonically)."
#[test]
fn the_term_begins_at_zero_and_never_falls() {
    let mut lone = Lone::new(3, 0, None, &[]);
    assert_eq!(lone.term(), 0);
    for (heard, term) in [(3, 3), (2, 3), (7, 7), (0, 7), (6, 7)] {
        lone.hear(2, heard, BEAT);
        assert_eq!(lone.term(), term, "after hearing {heard}");
    }
}

/// "votedFor: candidateId that received vote in current term (or null if none)."
#[test]
fn a_new_term_has_no_vote() {
    let mut lone = Lone::new(3, 1, Some(2), &[]);
    lone.hear(2, 2, BEAT);
    assert_eq!((lone.term(), lone.raft.vote()), (2, None));
}

/// "Persistent state on all servers (updated on stable storage before responding to RPCs)": term and vote.
#[test]
fn a_vote_is_stored_before_it_is_told() {
    let mut lone = Lone::new(3, 1, None, &[]);
    lone.slow_disk = true;
    let effects = lone.hear(2, 2, request(0, 0));
    let first = effects.iter().find(|effect| !matches!(effect, Effect::Election(_)));
    assert!(
        matches!(first, Some(Effect::SaveVote { term: Term(2), vote: Some(NodeId(2)), .. })),
        "term and vote together: {effects:?}"
    );
    assert_eq!(sent(&effects), []);
    assert_eq!(sent(&lone.persist()), [(2, 2, Body::VoteGranted)]);
}

/// "Persistent state …": an answer that waits for it is not given if a later term has begun before.
#[test]
fn an_answer_of_an_earlier_term_is_not_given_late() {
    let mut lone = Lone::new(3, 1, None, &[]);
    lone.slow_disk = true;
    lone.hear(2, 2, request(0, 0));
    lone.hear(3, 3, request(0, 0));
    assert_eq!(sent(&lone.persist()), [(3, 3, Body::VoteGranted)]);
}

/// "Persistent state …": a candidate's vote for itself too counts when it is stored, and not with an earlier write.
#[test]
fn a_candidates_own_vote_is_stored_before_it_counts() {
    let mut lone = Lone::new(1, 0, None, &[]);
    lone.slow_disk = true;
    lone.hear(2, 5, BEAT);
    lone.input(Input::Lost { peer: NodeId(2) });
    lone.time_out();
    assert_eq!((lone.role(), lone.term()), (RoleName::Candidate, 6));
    lone.input(Input::Persisted { write: WriteId(1) });
    assert_eq!(lone.role(), RoleName::Candidate, "the term that it has heard is stored, its vote is not");
    lone.persist();
    assert_eq!(lone.role(), RoleName::Leader);
}

/// "Persistent state on all servers (updated on stable storage before responding to RPCs)": the log.
#[test]
fn entries_are_stored_before_they_are_acknowledged() {
    let mut lone = Lone::follower(1, &[]);
    lone.slow_disk = true;
    assert_eq!(sent(&lone.hear(2, 1, append(LogId::ZERO, &[1, 1], 0))), []);
    assert_eq!((lone.raft.log().last(), lone.raft.durable()), (LogIndex(2), LogIndex(0)));
    assert_eq!(sent(&lone.persist()), [(2, 1, upto(2))]);
    assert_eq!(lone.raft.durable(), LogIndex(2));
}

/// "Persistent state …": a refusal too vouches for the term under which it is given.
#[test]
fn a_new_term_is_stored_before_any_answer_in_it() {
    let mut lone = Lone::new(3, 1, None, &[1, 1]);
    lone.slow_disk = true;
    assert_eq!(sent(&lone.hear(2, 2, request(1, 1))), []);
    assert_eq!(sent(&lone.persist()), [(2, 2, Body::VoteRefused)]);
}

/// "commitIndex … initialized to 0, increases monotonically"; "lastApplied … increases monotonically."
#[test]
fn commit_never_falls() {
    let mut lone = Lone::follower(1, &[1, 1, 1]);
    assert_eq!(lone.raft.commit(), LogIndex(0));
    lone.hear(2, 1, append(LogId::new(1, 3), &[], 2));
    let effects = lone.hear(2, 1, append(LogId::new(1, 1), &[1], 1));
    assert_eq!((lone.raft.commit(), committed(&effects)), (LogIndex(2), None));
}

/// "nextIndex[]: … initialized to leader last log index + 1; matchIndex[]: … initialized to 0."
#[test]
fn a_new_leader_takes_the_others_logs_for_its_own() {
    let lone = Lone::leader(3, 2, &[1, 1, 1]);
    assert_eq!(lone.raft.next_range(NodeId(2)), Some((LogIndex(3), LogIndex(4))));
    assert!(lone.raft.matched().all(|(_, matched)| matched == LogIndex::ZERO));
}

/// "matchIndex[] … (increases monotonically)."
#[test]
fn an_earlier_acknowledgement_takes_nothing_back() {
    let mut lone = Lone::leader(3, 1, &[]);
    lone.input(Input::Propose { count: 3 });
    lone.end_turn(9);
    for (acknowledged, matched) in [(1, 1), (4, 4), (2, 4), (4, 4)] {
        lone.hear(2, 1, upto(acknowledged));
        assert_eq!(lone.raft.matched().next(), Some((NodeId(2), LogIndex(matched))), "after {acknowledged}");
    }
}

// Figure 2, AppendEntries RPC, receiver implementation.

/// "1. Reply false if term < currentTerm."
#[test]
fn entries_of_an_earlier_term_are_turned_away() {
    let mut lone = Lone::new(3, 2, None, &[1]);
    let effects = lone.hear(2, 1, append(LogId::new(1, 1), &[1], 2));
    assert_eq!(sent(&effects), [(2, 2, Body::StaleTerm)]);
    assert_eq!((lone.log(), lone.raft.commit()), (vec![1], LogIndex::ZERO));
}

/// "2. Reply false if log doesn't contain an entry at prevLogIndex whose term matches prevLogTerm."
#[test]
fn entries_without_their_predecessor_are_refused() {
    let own = [1, 1, 2];
    for (missing, hint) in [
        (LogId::new(2, 4), LogId::new(2, 3)),
        (LogId::new(3, 3), LogId::new(2, 3)),
        (LogId::new(1, 3), LogId::new(1, 2)),
        (LogId::new(2, 2), LogId::new(1, 2)),
    ] {
        let mut lone = Lone::follower(3, &own);
        let effects = lone.hear(2, 3, append(missing, &[3], 9));
        assert_eq!(sent(&effects), [(2, 3, Body::EntriesRefused { session: FIRST, missing, hint })], "after {missing}");
        assert_eq!((lone.log(), lone.raft.commit()), (own.to_vec(), LogIndex::ZERO), "after {missing}");
    }
}

/// "3. If an existing entry conflicts with a new one (same index but different terms), delete the existing entry and
/// all that follow it."
#[test]
fn a_conflicting_entry_goes_with_all_behind_it() {
    let mut lone = Lone::follower(4, &[1, 1, 2, 2, 2]);
    lone.hear(2, 4, append(LogId::new(1, 1), &[1, 3], 0));
    assert_eq!(lone.log(), [1, 1, 3]);
}

/// "3. If an existing entry conflicts …": and only if.
#[test]
fn entries_that_do_not_conflict_stay() {
    let own = [1, 1, 2, 2, 2];
    for (after, terms) in [(LogId::ZERO, &[1, 1][..]), (LogId::new(1, 1), &[1, 2]), (LogId::new(1, 2), &[])] {
        let mut lone = Lone::follower(2, &own);
        let effects = lone.hear(2, 2, append(after, terms, 0));
        assert_eq!(lone.log(), own, "{terms:?} after {after}");
        let reached = after.index.0 + terms.len() as u64;
        assert_eq!(sent(&effects), [(2, 2, upto(reached))], "acknowledges what it was shown, not its whole log");
    }
}

/// "4. Append any new entries not already in the log."
#[test]
fn only_new_entries_are_written() {
    let mut lone = Lone::follower(2, &[1, 1]);
    let effects = lone.hear(2, 2, append(LogId::ZERO, &[1, 1, 2, 2], 0));
    let written = effects.iter().find_map(|effect| match effect {
        Effect::Append { entries, source, .. } => Some((entries.after(), entries.last(), source.clone())),
        _ => None,
    });
    assert_eq!(written, Some((LogId::new(1, 2), LogIndex(4), Source::Received)));
    assert_eq!(lone.log(), [1, 1, 2, 2]);
}

/// "5. If leaderCommit > commitIndex, set commitIndex = min(leaderCommit, index of last new entry)."
#[test]
fn commit_follows_the_leader_as_far_as_the_message_goes() {
    for (leader_commit, expected) in [(1, 1), (3, 3), (9, 3)] {
        // Entries 4 and 5 may still conflict with the leader's.
        let mut lone = Lone::follower(2, &[1, 1, 1, 1, 1]);
        lone.hear(2, 2, append(LogId::new(1, 2), &[1], leader_commit));
        assert_eq!(lone.raft.commit(), LogIndex(expected), "the leader has committed {leader_commit}");
    }
}

// Figure 2, RequestVote RPC, receiver implementation.

/// "1. Reply false if term < currentTerm."
#[test]
fn a_candidate_of_an_earlier_term_is_refused() {
    let mut lone = Lone::new(3, 3, None, &[]);
    assert_eq!(sent(&lone.hear(2, 2, request(2, 9))), [(2, 3, Body::VoteRefused)]);
    assert_eq!(lone.raft.vote(), None);
}

/// "2. If votedFor is null or candidateId, and candidate's log is at least as up-to-date as receiver's log, grant
/// vote."
#[test]
fn a_free_vote_goes_to_a_log_that_is_up_to_date() {
    let own = [1, 1, 2];
    for (vote, last, granted) in [
        (None, (2, 3), true),
        (None, (2, 4), true),
        (None, (3, 1), true),
        (None, (2, 2), false),
        (None, (1, 9), false),
        (Some(2), (2, 3), true),
        (Some(3), (2, 3), false),
        (Some(3), (9, 9), false),
        (Some(1), (9, 9), false),
    ] {
        let mut lone = Lone::new(3, 4, vote, &own);
        let answer = if granted { Body::VoteGranted } else { Body::VoteRefused };
        let effects = lone.hear(2, 4, request(last.0, last.1));
        assert_eq!(sent(&effects), [(2, 4, answer)], "vote {vote:?}, log up to {last:?}");
        assert_eq!(lone.raft.vote(), if granted { Some(NodeId(2)) } else { vote.map(NodeId) });
    }
}

// Figure 2, Rules for Servers: all servers.

/// "If commitIndex > lastApplied: increment lastApplied, apply log[lastApplied]."
#[test]
fn what_is_committed_is_given_to_the_state_machine() {
    let mut lone = Lone::follower(1, &[]);
    let effects = lone.hear(2, 1, append(LogId::ZERO, &[1, 1, 1], 2));
    assert_eq!((committed(&effects), lone.raft.ready()), (Some(2), LogIndex(2)));
}

/// "If RPC request or response contains term T > currentTerm: set currentTerm = T, convert to follower."
#[test]
fn a_later_term_in_any_message_makes_a_follower() {
    let later = [
        BEAT,
        append(LogId::ZERO, &[], 0),
        Body::VoteRefused,
        Body::PreVoteRefused,
        Body::StaleTerm,
        Body::EntriesRefused { session: FIRST, missing: LogId::ZERO, hint: LogId::ZERO },
        beat_answer(0),
        upto(0),
    ];
    for body in later {
        let mut candidate = Lone::new(3, 0, None, &[]);
        candidate.campaign();
        for mut lone in [Lone::leader(3, 1, &[]), candidate] {
            lone.hear(2, 5, body.clone());
            assert_eq!((lone.role(), lone.term(), lone.raft.vote()), (RoleName::Follower, 5, None), "{body:?}");
        }
    }
}

/// "If RPC … contains term T > currentTerm: set currentTerm = T": here, unless no number of elections can have led to it.
#[test]
fn a_term_that_was_made_up_is_not_taken_over() {
    let reach = 1 << 32;
    for (heard, taken) in [(1 + reach, true), (2 + reach, false), (u64::MAX, false)] {
        let mut lone = Lone::new(3, 1, None, &[]);
        let effects = lone.hear(2, heard, BEAT);
        assert_eq!(lone.term(), if taken { heard } else { 1 });
        let how = Misbehaviour::TermOutOfReach { term: Term(heard) };
        assert_eq!(effects.contains(&Effect::Misbehaved { from: NodeId(2), how }), !taken, "{heard}");
    }
}

// Figure 2, Rules for Servers: followers.

/// "Respond to RPCs from candidates and leaders."
#[test]
fn a_follower_answers() {
    let mut lone = Lone::follower(1, &[]);
    assert_eq!(sent(&lone.hear(2, 1, BEAT)), [(2, 1, beat_answer(0))]);
    assert_eq!(sent(&lone.hear(2, 1, append(LogId::ZERO, &[1], 0))), [(2, 1, upto(1))]);
    assert_eq!(sent(&lone.hear(3, 1, request(9, 9))), [], "it has a leader, see Ongaro §4.2.3");
    lone.wait(ELECTION_TIMEOUT);
    assert_eq!(sent(&lone.hear(3, 1, request(9, 9))), [(3, 1, Body::VoteGranted)]);
}

/// "If election timeout elapses without receiving AppendEntries RPC from current leader … : convert to candidate."
/// Here it first asks whether that is worth it (Ongaro §9.6).
#[test]
fn a_follower_that_hears_no_leader_stands() {
    let mut lone = Lone::follower(1, &[]);
    lone.time_out();
    assert_eq!((lone.role(), lone.term()), (RoleName::PreCandidate, 1));
    lone.hear(3, 1, Body::PreVoteGranted);
    assert_eq!((lone.role(), lone.term()), (RoleName::Candidate, 2));
}

/// "… without receiving AppendEntries RPC from current leader": every word of it puts the election off.
#[test]
fn a_follower_that_hears_its_leader_waits() {
    let mut lone = Lone::follower(1, &[]);
    for body in [BEAT, append(LogId::ZERO, &[], 0), append(LogId::new(9, 9), &[], 0)] {
        for _ in 0..10 {
            lone.wait(ELECTION_TIMEOUT - Duration::from_millis(1));
            lone.hear(2, 1, body.clone());
            lone.input(Input::Tick);
            assert_eq!(lone.role(), RoleName::Follower, "{body:?}");
        }
    }
}

/// "… or granting vote to candidate: convert to candidate." Giving a vote puts the election off, refusing does not.
#[test]
fn giving_a_vote_puts_the_election_off() {
    let mut given = Lone::new(3, 1, None, &[1]);
    let before = given.raft.deadline();
    given.hear(2, 1, request(1, 1));
    assert!(given.raft.deadline() >= given.now + ELECTION_TIMEOUT);
    let mut refused = Lone::new(3, 1, None, &[1]);
    refused.hear(2, 1, request(0, 0));
    assert_eq!(refused.raft.deadline(), before);
}

// Figure 2, Rules for Servers: candidates.

/// "On conversion to candidate, start election: increment currentTerm, vote for self, reset election timer, send
/// RequestVote RPCs to all other servers."
#[test]
fn a_candidate_starts_an_election() {
    let mut lone = Lone::new(5, 3, None, &[1, 2]);
    let effects = lone.campaign();
    assert_eq!((lone.role(), lone.term(), lone.raft.vote()), (RoleName::Candidate, 4, Some(NodeId(1))));
    assert!(lone.raft.deadline() >= lone.now + ELECTION_TIMEOUT);
    let asked: Vec<_> = sent(&effects).into_iter().filter(|(_, _, body)| *body == request(2, 2)).collect();
    assert_eq!(asked, [2, 3, 4, 5].map(|peer| (peer, 4, request(2, 2))));
}

/// "If votes received from majority of servers: become leader."
#[test]
fn a_majority_of_votes_makes_a_leader() {
    for (voters, needed) in [(2, 1), (3, 1), (4, 2), (5, 2), (7, 3)] {
        let mut lone = Lone::new(voters, 0, None, &[]);
        lone.campaign();
        for peer in 2..2 + needed {
            assert_eq!(lone.role(), RoleName::Candidate, "{} of {voters} votes", peer - 1);
            lone.hear(peer, 1, Body::VoteGranted);
        }
        assert_eq!(lone.role(), RoleName::Leader, "{} of {voters} votes", needed + 1);
    }
}

/// "… from majority of servers": a voter that answers twice is still one, and a refusal is no vote.
#[test]
fn each_voter_counts_once() {
    let mut lone = Lone::new(5, 0, None, &[]);
    lone.campaign();
    lone.hear(2, 1, Body::VoteGranted);
    lone.hear(2, 1, Body::VoteGranted);
    lone.hear(3, 1, Body::VoteRefused);
    lone.hear(3, 1, Body::VoteGranted);
    assert_eq!(lone.role(), RoleName::Candidate);
    lone.hear(4, 1, Body::VoteGranted);
    assert_eq!(lone.role(), RoleName::Leader);
}

/// "If AppendEntries RPC received from new leader: convert to follower."
#[test]
fn a_candidate_that_hears_the_leader_of_its_term_follows() {
    for body in [append(LogId::ZERO, &[1], 0), BEAT] {
        let mut lone = Lone::new(3, 0, None, &[]);
        lone.campaign();
        lone.hear(3, 1, body.clone());
        let role_state = lone.raft.role_state();
        assert_eq!((role_state.role, role_state.leader), (RoleName::Follower, Some(NodeId(3))), "{body:?}");
    }
}

/// "If election timeout elapses: start new election."
#[test]
fn a_candidate_without_an_outcome_tries_again() {
    let mut lone = Lone::new(3, 0, None, &[]);
    lone.campaign();
    lone.campaign();
    assert_eq!((lone.role(), lone.term()), (RoleName::Candidate, 2));
    lone.hear(2, 1, Body::VoteGranted);
    assert_eq!(lone.role(), RoleName::Candidate, "a vote of the earlier election is not counted");
}

// Figure 2, Rules for Servers: leaders.

/// "Upon election: send initial empty AppendEntries RPCs (heartbeat) to each server; repeat during idle periods to
/// prevent election timeouts."
#[test]
fn a_leader_says_so_and_goes_on_saying_so() {
    let mut lone = Lone::new(3, 0, None, &[]);
    lone.campaign();
    let beats = [2, 3].map(|peer| (peer, 1, BEAT));
    assert_eq!(sent(&lone.hear(2, 1, Body::VoteGranted)), beats);
    for _ in 0..30 {
        assert!(lone.raft.deadline() <= lone.now + HEARTBEAT);
        assert_eq!(sent(&lone.time_out()), beats);
        lone.hear(2, 1, beat_answer(0));
    }
}

/// "If command received from client: append entry to local log, respond after entry applied to state machine."
#[test]
fn a_proposal_is_appended_and_applied_when_committed() {
    let mut lone = Lone::leader(3, 1, &[]);
    let effects = lone.input(Input::Propose { count: 2 });
    assert_eq!((lone.log(), committed(&effects)), (vec![1, 1, 1], None));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Append { source: Source::Proposed, .. })));
    assert_eq!(committed(&lone.hear(3, 1, upto(3))), Some(3));
}

/// "If last log index ≥ nextIndex for a follower: send AppendEntries RPC with log entries starting at nextIndex."
#[test]
fn a_leader_sends_what_a_follower_lacks() {
    let mut lone = Lone::leader(3, 1, &[]);
    lone.end_turn(9);
    lone.hear(2, 1, upto(1));
    lone.input(Input::Propose { count: 2 });
    assert_eq!(sent(&lone.end_turn(9)), [(2, 1, append(LogId::new(1, 1), &[1, 1], 1))]);
    assert_eq!(lone.raft.next_range(NodeId(2)), None, "and not twice");
}

/// "If successful: update nextIndex and matchIndex for follower."
#[test]
fn an_acknowledgement_moves_a_follower_on() {
    let mut lone = Lone::leader(3, 2, &[1, 1]);
    lone.end_turn(9);
    lone.hear(3, 2, upto(3));
    lone.input(Input::Propose { count: 1 });
    assert_eq!(lone.raft.matched().nth(1), Some((NodeId(3), LogIndex(3))));
    assert_eq!(lone.raft.next_range(NodeId(3)), Some((LogIndex(3), LogIndex(4))));
}

/// "If AppendEntries fails because of log inconsistency: decrement nextIndex and retry." Here by whole terms (§5.3).
#[test]
fn a_refusal_moves_a_follower_back() {
    let mut lone = Lone::leader(3, 5, &[1, 1, 3, 3, 4]);
    lone.end_turn(9);
    lone.hear(2, 5, Body::EntriesRefused { session: FIRST, missing: LogId::new(4, 5), hint: LogId::new(2, 4) });
    let retried = sent(&lone.end_turn(9));
    assert_eq!(retried, [(2, 5, append(LogId::new(1, 2), &[3, 3, 4, 5], 0))], "no entry of term 3 can be n2's");
}

/// "If there exists an N such that N > commitIndex, a majority of matchIndex[i] ≥ N, and log[N].term == currentTerm:
/// set commitIndex = N (§5.3, §5.4)."
#[test]
fn a_leader_commits_what_a_majority_has() {
    for (voters, needed) in [(2, 1), (3, 1), (4, 2), (5, 2), (7, 3)] {
        let mut lone = Lone::leader(voters, 1, &[]);
        for peer in 2..2 + needed {
            assert_eq!(lone.raft.commit(), LogIndex(0), "on {} of {voters}", peer - 1);
            lone.hear(peer, 1, upto(1));
        }
        assert_eq!(lone.raft.commit(), LogIndex(1), "on {} of {voters}", needed + 1);
    }
}

/// "… and log[N].term == currentTerm": "Raft never commits log entries from previous terms by counting replicas …
/// once an entry from the current term has been committed in this way, then all prior entries are committed
/// indirectly" (§5.4.2, figure 8).
#[test]
fn old_entries_are_committed_with_a_new_one_only() {
    let mut lone = Lone::leader(3, 4, &[1, 2, 2]);
    assert_eq!(committed(&lone.hear(2, 4, upto(3))), None, "a majority has the entries of term 2");
    assert_eq!(committed(&lone.hear(2, 4, upto(4))), Some(4), "and has the entry of term 4");
}

// Section 5.1.

/// "If a server receives a request with a stale term number, it rejects the request."
#[test]
fn stale_requests_are_rejected() {
    let mut lone = Lone::new(3, 5, None, &[1]);
    for (body, answer) in [
        (BEAT, Body::StaleTerm),
        (append(LogId::ZERO, &[], 0), Body::StaleTerm),
        (request(4, 4), Body::VoteRefused),
        (Body::RequestPreVote { last: LogId::new(4, 4) }, Body::PreVoteRefused),
        (Body::ReadIndex { read: ReadId(3) }, Body::ReadIndexRefused { read: ReadId(3) }),
    ] {
        assert_eq!(sent(&lone.hear(2, 4, body.clone())), [(2, 5, answer)], "{body:?}");
        assert_eq!((lone.raft.vote(), lone.raft.role_state().leader), (None, None), "{body:?}");
    }
}

/// "… stale": neither does an answer to an earlier term's question count.
#[test]
fn stale_answers_are_ignored() {
    let mut lone = Lone::leader(3, 5, &[]);
    lone.input(Input::Read { read: ReadId(1) });
    for body in [upto(1), beat_answer(1), Body::VoteGranted, Body::PreVoteGranted] {
        assert_eq!(lone.hear(2, 4, body.clone()), [], "{body:?}");
    }
    assert!(lone.raft.matched().all(|(_, matched)| matched == LogIndex::ZERO));
}

// Section 5.2.

/// "When servers start up, they begin as followers."
#[test]
fn a_server_starts_as_a_follower() {
    let lone = Lone::new(3, 4, Some(1), &[1]);
    assert_eq!(
        (lone.role(), lone.raft.role_state().leader, lone.raft.vote()),
        (RoleName::Follower, None, Some(NodeId(1)))
    );
}

/// "Each server will vote for at most one candidate in a given term, on a first-come-first-served basis."
#[test]
fn the_first_candidate_gets_the_vote() {
    let mut lone = Lone::new(5, 0, None, &[]);
    let asked = [4, 2, 3, 4].map(|peer| sent(&lone.hear(peer, 1, request(0, 0))));
    let [granted, refused] = [Body::VoteGranted, Body::VoteRefused];
    let expected =
        [(4, 1, granted.clone()), (2, 1, refused.clone()), (3, 1, refused), (4, 1, granted)].map(|answer| vec![answer]);
    assert_eq!(asked, expected);
}

/// "Each server will vote for at most one candidate in a given term": a candidate has voted for itself.
#[test]
fn a_candidate_votes_for_no_other() {
    let mut lone = Lone::new(3, 0, None, &[]);
    lone.campaign();
    assert_eq!(sent(&lone.hear(2, 1, request(9, 9))), [(2, 1, Body::VoteRefused)]);
    assert_eq!(lone.role(), RoleName::Candidate);
}

/// "If the leader's term … is at least as large as the candidate's current term, then the candidate recognizes the
/// leader as legitimate … . If the term in the RPC is smaller …, the candidate rejects the RPC and continues."
#[test]
fn a_candidate_rejects_the_leader_of_an_earlier_term() {
    let mut lone = Lone::new(3, 1, None, &[]);
    lone.campaign();
    assert_eq!(sent(&lone.hear(2, 1, BEAT)), [(2, 2, Body::StaleTerm)]);
    assert_eq!(lone.role(), RoleName::Candidate);
}

/// "Election timeouts are chosen randomly from a fixed interval (e.g., 150–300 ms)": from one timeout to two.
#[test]
fn election_timeouts_are_spread() {
    let waits: BTreeSet<u128> = (0..200)
        .map(|seed| {
            let mut lone = Lone::seeded(3, 1, None, &[], seed);
            lone.hear(2, 1, BEAT);
            lone.raft.deadline().since(lone.now).as_millis()
        })
        .collect();
    assert!(waits.iter().all(|wait| (1000..2000).contains(wait)), "{waits:?}");
    assert!(waits.len() > 150, "{} different", waits.len());
    assert!(waits.first() < Some(&1050) && waits.last() > Some(&1950), "{waits:?}");
}

/// "Each candidate restarts its randomized election timeout at the start of an election."
#[test]
fn a_candidate_draws_a_new_timeout() {
    let mut lone = Lone::new(3, 0, None, &[]);
    let mut waits = BTreeSet::new();
    for _ in 0..10 {
        lone.campaign();
        waits.insert(lone.raft.deadline().since(lone.now));
    }
    assert!(waits.len() >= 9, "{waits:?}");
}

// Section 5.3.

/// "Leader Append-Only: a leader never overwrites or deletes entries in its log; it only appends new entries."
#[test]
fn a_leader_takes_entries_from_nobody() {
    let mut lone = Lone::leader(3, 2, &[1]);
    let effects = lone.hear(2, 2, append(LogId::ZERO, &[2, 2, 2], 3));
    assert!(matches!(effects[..], [Effect::Misbehaved { .. }]), "{effects:?}");
    assert_eq!(lone.log(), [1, 2]);
}

/// "The leader keeps track of the highest index it knows to be committed, and it includes that index in future
/// AppendEntries RPCs (including heartbeats) so that the other servers eventually find out."
#[test]
fn followers_are_told_of_the_commit_index() {
    let mut lone = Lone::leader(3, 1, &[]);
    lone.end_turn(9);
    lone.hear(2, 1, upto(1));
    let told = Body::Committed { upto: LogIndex(1) };
    assert_eq!(sent(&lone.end_turn(9)), [(2, 1, told)], "n3 may have another entry 1");
    let told = Body::Heartbeat { session: FIRST, round: 0, commit: LogIndex(1) };
    assert_eq!(sent(&lone.time_out()), [(2, 1, told), (3, 1, BEAT)], "the notice may be lost");
    lone.hear(2, 1, beat_answer(0));
    lone.hear(3, 1, upto(1));
    lone.end_turn(9);
    lone.input(Input::Propose { count: 1 });
    assert_eq!(sent(&lone.end_turn(9)), [2, 3].map(|peer| (peer, 1, append(LogId::new(1, 1), &[1], 1))));
}

/// "If followers crash or run slowly, or if network packets are lost, the leader retries AppendEntries RPCs
/// indefinitely … until all followers eventually store all log entries."
#[test]
fn a_leader_retries_until_it_is_answered() {
    let mut lone = Lone::leader(3, 1, &[]);
    lone.end_turn(9);
    for lost in 0..20 {
        let mut sent_again = false;
        for _ in 0..4 {
            lone.time_out();
            lone.hear(3, 1, beat_answer(0));
            sent_again |= answers(&lone.end_turn(9), &append(LogId::ZERO, &[1], 0));
        }
        assert!(sent_again, "after {lost} losses");
    }
}

/// "Raft RPCs are idempotent": "if a follower receives an AppendEntries request that includes log entries already
/// present in its log, it ignores those entries" (§5.5).
#[test]
fn a_repeated_message_is_only_answered() {
    let mut lone = Lone::follower(1, &[]);
    let message = append(LogId::ZERO, &[1, 1], 1);
    lone.hear(2, 1, message.clone());
    assert_eq!(lone.hear(2, 1, message), [Effect::Send(envelope(2, 1, upto(2)))]);
}

fn envelope(to: u64, term: u64, body: Body) -> vlot_raft::message::Envelope {
    let message = vlot_raft::message::Message { term: Term(term), body };
    vlot_raft::message::Envelope { to: NodeId(to), message }
}

// Section 5.4.

/// "If the logs have last entries with different terms, then the log with the later term is more up-to-date. If the
/// logs end with the same term, then whichever log is longer is more up-to-date."
#[test]
fn the_later_term_and_then_the_longer_log_is_more_up_to_date() {
    for (own, theirs, up_to_date) in [
        (&[1, 1, 1][..], (2, 1), true),
        (&[2], (1, 9), false),
        (&[1, 1], (1, 2), true),
        (&[1, 1], (1, 3), true),
        (&[1, 1], (1, 1), false),
        (&[], (0, 0), true),
    ] {
        let mut lone = Lone::new(3, 3, None, own);
        let granted = answers(&lone.hear(2, 3, request(theirs.0, theirs.1)), &Body::VoteGranted);
        assert_eq!(granted, up_to_date, "{own:?} and a log up to {theirs:?}");
    }
}

// Section 8.

/// "Raft handles this by having each leader commit a blank no-op entry into the log at the start of its term."
#[test]
fn a_leader_begins_with_a_blank_entry() {
    let mut lone = Lone::new(3, 1, None, &[1]);
    lone.campaign();
    let effects = lone.hear(2, 2, Body::VoteGranted);
    let blank = effects.iter().any(|effect| {
        matches!(effect, Effect::Append { entries, source: Source::Blank, .. } if entries.last_id() == LogId::new(2, 2))
    });
    assert!(blank, "{effects:?}");
}

/// "A leader must check whether it has been deposed before processing a read-only request … by having the leader
/// exchange heartbeat messages with a majority of the cluster."
#[test]
fn a_read_waits_for_a_majority() {
    let mut lone = Lone::leader(5, 1, &[]);
    lone.hear(2, 1, upto(1));
    lone.hear(3, 1, upto(1));
    let asked = lone.input(Input::Read { read: ReadId(7) });
    assert_eq!(sent(&asked).len(), 4, "a heartbeat to each");
    assert_eq!(lone.hear(2, 1, beat_answer(1)), []);
    assert_eq!(lone.hear(4, 1, beat_answer(0)), [], "an answer to an earlier heartbeat");
    assert_eq!(lone.hear(4, 1, beat_answer(1)), [Effect::ReadReady { read: ReadId(7), index: LogIndex(1) }]);
}

// Ongaro §4.2.3 and §6.2.

/// Ongaro §4.2.3: "If a server receives a RequestVote request within the minimum election timeout of hearing from a
/// current leader, it does not update its term or grant its vote."
#[test]
fn a_vote_is_not_asked_for_while_there_is_a_leader() {
    let mut lone = Lone::follower(1, &[]);
    lone.wait(ELECTION_TIMEOUT - Duration::from_millis(1));
    assert!(lone.hear(3, 9, request(9, 9)).iter().all(|effect| matches!(effect, Effect::Election(_))));
    assert_eq!((lone.term(), lone.raft.role_state().leader), (1, Some(NodeId(2))));
    lone.wait(Duration::from_millis(1));
    assert_eq!(sent(&lone.hear(3, 9, request(9, 9))), [(3, 9, Body::VoteGranted)]);
}

/// Ongaro §6.2: "A leader in Raft steps down if an election timeout elapses without a successful round of heartbeats
/// to a majority of its cluster."
#[test]
fn a_leader_that_hears_no_majority_steps_down() {
    let mut lone = Lone::leader(5, 1, &[]);
    for _ in 0..25 {
        lone.time_out();
        lone.hear(2, 1, beat_answer(0));
        lone.hear(3, 1, beat_answer(0));
    }
    assert_eq!(lone.role(), RoleName::Leader, "with two others it has a majority of five");
    let last_heard = lone.now;
    for _ in 0..20 {
        if lone.role() == RoleName::Leader {
            lone.time_out();
            lone.hear(2, 1, beat_answer(0));
        }
    }
    assert_eq!((lone.now.since(last_heard), lone.term()), (ELECTION_TIMEOUT, 1), "with one it has not");
}

/// Ongaro §6.2: "… this allows clients to retry their requests with another server."
#[test]
fn a_leader_that_steps_down_turns_reads_away() {
    let mut lone = Lone::leader(3, 1, &[]);
    lone.hear(2, 1, upto(1));
    lone.input(Input::Read { read: ReadId(1) });
    lone.input(Input::Read { read: ReadId(2) });
    lone.hear(3, 1, Body::ReadIndex { read: ReadId(9) });
    let effects = lone.hear(2, 2, Body::StaleTerm);
    let refused = |read| effects.contains(&Effect::ReadRefused { read: ReadId(read) });
    assert!(refused(1) && refused(2), "{effects:?}");
    assert!(answers(&effects, &Body::ReadIndexRefused { read: ReadId(9) }), "{effects:?}");
}

/// Ongaro §6.2: a server that is not leader tells the client who is, as far as it knows.
#[test]
fn a_follower_names_the_leader() {
    let mut lone = Lone::follower(1, &[]);
    let refused = |leader| [Effect::ProposalRefused { why: ProposalRefused::NotLeader { leader } }];
    assert_eq!(lone.input(Input::Propose { count: 1 }), refused(Some(NodeId(2))));
    lone.time_out();
    assert_eq!(lone.input(Input::Propose { count: 1 }), refused(None));
    assert_eq!(lone.log(), []);
}

// Ongaro §6.4.

/// Ongaro §6.4, 1: "If the leader has not yet marked an entry from its current term committed, it waits until it has
/// done so."
#[test]
fn a_read_waits_for_the_first_commit_of_the_term() {
    let mut lone = Lone::leader(3, 2, &[1, 1]);
    assert_eq!(lone.input(Input::Read { read: ReadId(1) }), []);
    assert_eq!(lone.hear(2, 2, beat_answer(0)), []);
    let effects = lone.hear(2, 2, upto(3));
    assert!(answers(&effects, &Body::Heartbeat { session: FIRST, round: 1, commit: LogIndex(3) }), "{effects:?}");
    assert_eq!(lone.hear(2, 2, beat_answer(1)), [Effect::ReadReady { read: ReadId(1), index: LogIndex(3) }]);
}

/// Ongaro §6.4, 2: "The leader saves its current commit index in a local variable readIndex."
#[test]
fn a_read_is_at_the_commit_index_of_when_its_round_began() {
    let mut lone = Lone::leader(3, 1, &[]);
    lone.hear(2, 1, upto(1));
    lone.input(Input::Propose { count: 1 });
    lone.input(Input::Read { read: ReadId(1) });
    lone.hear(2, 1, upto(2));
    assert_eq!(lone.raft.commit(), LogIndex(2));
    assert_eq!(lone.hear(2, 1, beat_answer(1)), [Effect::ReadReady { read: ReadId(1), index: LogIndex(1) }]);
}

/// Ongaro §6.4: "the leader can … use a single round of heartbeats for any number of read-only queries that it has
/// accumulated." A query that comes while a round is under way belongs to the next: it may be later than its index.
#[test]
fn one_round_serves_all_that_waited() {
    let mut lone = Lone::leader(3, 1, &[]);
    lone.hear(2, 1, upto(1));
    lone.input(Input::Read { read: ReadId(1) });
    for read in 2..5 {
        assert_eq!(lone.input(Input::Read { read: ReadId(read) }), []);
    }
    let first = lone.hear(2, 1, beat_answer(1));
    assert_eq!(first[0], Effect::ReadReady { read: ReadId(1), index: LogIndex(1) });
    assert_eq!(sent(&first).len(), 2, "the next round begins");
    let ready = [2, 3, 4].map(|read| Effect::ReadReady { read: ReadId(read), index: LogIndex(1) });
    assert_eq!(lone.hear(3, 1, beat_answer(2)), ready);
}

/// Ongaro §6.4: "The follower would issue a request to the leader that just asked for a current readIndex (the leader
/// would execute steps 1–3 above)."
#[test]
fn a_follower_asks_the_leader_for_a_read_index() {
    let read = ReadId(4);
    let mut follower = Lone::follower(1, &[1]);
    assert_eq!(sent(&follower.input(Input::Read { read })), [(2, 1, Body::ReadIndex { read })]);
    let answer = Body::ReadIndexReply { read, index: LogIndex(1) };
    assert_eq!(follower.hear(2, 1, answer.clone()), [Effect::ReadReady { read, index: LogIndex(1) }]);

    let mut leader = Lone::leader(3, 1, &[]);
    leader.hear(2, 1, upto(1));
    assert_eq!(sent(&leader.hear(3, 1, Body::ReadIndex { read })).len(), 2, "a round of heartbeats");
    assert_eq!(sent(&leader.hear(2, 1, beat_answer(1))), [(3, 1, answer)]);
}

// Ongaro §9.6.

/// "In the Pre-Vote algorithm, a candidate only increments its term if it first learns from a majority of the cluster
/// that they would be willing to grant the candidate their votes."
#[test]
fn a_term_is_begun_with_a_majoritys_consent_only() {
    let mut lone = Lone::new(5, 1, None, &[1]);
    let ask = Body::RequestPreVote { last: LogId::new(1, 1) };
    assert_eq!(sent(&lone.time_out()), [2, 3, 4, 5].map(|peer| (peer, 1, ask.clone())));
    lone.hear(2, 1, Body::PreVoteGranted);
    lone.hear(2, 1, Body::PreVoteGranted);
    lone.time_out();
    lone.hear(3, 1, Body::PreVoteGranted);
    assert_eq!((lone.role(), lone.term(), lone.raft.vote()), (RoleName::PreCandidate, 1, None), "one at a time");
    lone.hear(4, 1, Body::PreVoteGranted);
    assert_eq!((lone.role(), lone.term()), (RoleName::Candidate, 2));
}

/// "… that they would be willing to grant the candidate their votes (if the candidate's log is sufficiently up-to-date,
/// and the voters have not received heartbeats from a valid leader for at least a baseline election timeout)."
#[test]
fn consent_is_given_like_a_vote_and_binds_nobody() {
    let consent = |lone: &mut Lone, from, term, last: (u64, u64)| {
        let before = (lone.term(), lone.raft.vote(), lone.raft.deadline());
        let effects = lone.hear(from, term, Body::RequestPreVote { last: LogId::new(last.0, last.1) });
        assert_eq!((lone.term(), lone.raft.vote(), lone.raft.deadline()), before, "asking changes nothing");
        sent(&effects)
    };
    let yes = |peer, term| vec![(peer, term, Body::PreVoteGranted)];
    let no = |peer, term| vec![(peer, term, Body::PreVoteRefused)];

    let mut lone = Lone::new(3, 3, Some(2), &[1, 2]);
    assert_eq!(consent(&mut lone, 2, 3, (2, 2)), yes(2, 3));
    assert_eq!(consent(&mut lone, 3, 3, (2, 2)), yes(3, 3), "to as many as ask");
    assert_eq!(consent(&mut lone, 2, 7, (2, 2)), yes(2, 7), "in the asker's term");
    assert_eq!(consent(&mut lone, 2, 3, (2, 1)), no(2, 3));
    assert_eq!(consent(&mut lone, 2, 2, (2, 2)), no(2, 3), "the term after its own has begun: it is told so");

    let mut lone = Lone::follower(3, &[1, 2]);
    lone.wait(ELECTION_TIMEOUT - Duration::from_millis(1));
    assert_eq!(consent(&mut lone, 3, 3, (2, 2)), no(3, 3), "there is a leader");
    assert_eq!(consent(&mut lone, 3, 9, (2, 2)), no(3, 9), "whatever the asker's term");
    lone.wait(Duration::from_millis(1));
    assert_eq!(consent(&mut lone, 3, 3, (2, 2)), yes(3, 3));

    let mut leader = Lone::leader(3, 3, &[]);
    assert_eq!(consent(&mut leader, 3, 3, (9, 9)), no(3, 3));
}

/// "… Pre-Vote solves the issue of a partitioned server disrupting the cluster when it rejoins."
#[test]
fn a_server_that_was_cut_off_does_not_disturb() {
    let mut cluster = Cluster::new(3, Habits::default());
    cluster.campaign(NodeId(1));
    cluster.settle();
    for peer in [NodeId(1), NodeId(2)] {
        cluster.network.cut.extend([(NodeId(3), peer), (peer, NodeId(3))]);
    }
    cluster.run(20 * ELECTION_TIMEOUT);
    assert_eq!(cluster.raft(NodeId(3)).role_state().term, Term(1));
    cluster.network.cut.clear();
    cluster.run(3 * ELECTION_TIMEOUT);
    for node in cluster.names() {
        let role_state = cluster.raft(node).role_state();
        assert_eq!((role_state.term, role_state.leader), (Term(1), Some(NodeId(1))), "n{node}");
    }
}

// Figure 3, in a group: the rest of it is checked after every step of every test.

/// §5.6: "broadcastTime ≪ electionTimeout": as long as that holds, "Raft will be able to elect and maintain a steady
/// leader".
#[test]
fn a_leader_is_elected_and_stays() {
    for nodes in 1..=7 {
        for seed in 0..4 {
            let mut cluster = Cluster::new(nodes, Habits { seed, ..Habits::default() });
            cluster.run(5 * ELECTION_TIMEOUT);
            let leader = cluster.leader().expect("a leader");
            let term = cluster.raft(leader).role_state().term;
            cluster.run(10 * ELECTION_TIMEOUT);
            assert_eq!(cluster.leader(), Some(leader), "{nodes} nodes, seed {seed}");
            assert_eq!(cluster.raft(leader).role_state().term, term, "{nodes} nodes, seed {seed}");
        }
    }
}
