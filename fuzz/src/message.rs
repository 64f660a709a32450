//! Messages that a peer may send, honest or not: any that its wire could carry, most of them about what the replica has.

#![allow(dead_code, reason = "each target and each test uses a part of it")]

use vlot_raft::configuration::{Change, Configuration, Member, Seat};
use vlot_raft::id::{LogId, LogIndex, NodeId, Term};
use vlot_raft::message::{Body, Message, ReadId, Session};
use vlot_raft::raft::Raft;
use vlot_raft::term_runs::TermRuns;

use crate::reader::Reader;

const SEATS: [Seat; 5] = [Seat::Voter, Seat::Learner, Seat::Joining, Seat::Leaving, Seat::Retiring];

/// One of five nodes.
pub fn node(reader: &mut Reader<'_>) -> NodeId {
    NodeId(1 + reader.below(5) as u64)
}

/// A message to this replica.
pub fn message(reader: &mut Reader<'_>, raft: &Raft) -> Message {
    let term = Term(reader.near(raft.role_state().term.0));
    Message { term, body: body(reader, raft) }
}

/// The name of an entry.
pub fn log_id(reader: &mut Reader<'_>, raft: &Raft) -> LogId {
    let base = reader.among(&[raft.log().last(), raft.commit(), raft.log().after().index]);
    let index = LogIndex(reader.near(base.0));
    match raft.log().term_at(index) {
        Some(term) if !reader.one_in(4) => LogId { term, index },
        _ => LogId { term: Term(reader.near(raft.log().last_id().term.0)), index },
    }
}

/// A configuration that follows the one that counts, or any other.
pub fn configuration(reader: &mut Reader<'_>, raft: &Raft) -> Configuration {
    let now = raft.configuration();
    match reader.below(4) {
        0 => now.changed(&changes(reader)).unwrap_or_else(|_| now.clone()),
        1 => now.settled(),
        2 => Configuration::default(),
        _ => {
            let kinds = [reader.byte(), reader.byte(), reader.byte(), reader.byte(), reader.byte()];
            let member = |(node, kind): (u64, u8)| {
                let seat = SEATS.get(usize::from(kind % 8)).copied()?;
                Some(Member { node: NodeId(node), seat, witness: kind / 8 % 8 == 7 })
            };
            Configuration::of_members((1..).zip(kinds).filter_map(member).collect()).unwrap_or_default()
        }
    }
}

/// A few wishes.
pub fn changes(reader: &mut Reader<'_>) -> Vec<Change> {
    let count = reader.below(4);
    let change = |reader: &mut Reader<'_>| {
        let node = node(reader);
        match reader.below(5) {
            0 => Change::Voter(node),
            1 => Change::Learner(node),
            2 => Change::Remove(node),
            3 => Change::Witness(node),
            _ => Change::Renew,
        }
    };
    (0..count).map(|_| change(reader)).collect()
}

fn body(reader: &mut Reader<'_>, raft: &Raft) -> Body {
    match reader.below(21) {
        0 | 1 => {
            let entries = entries(reader, raft);
            let configurations = configurations(reader, raft, &entries);
            let commit = LogIndex(reader.near(raft.log().last().0));
            Body::AppendEntries { session: session(reader, raft), entries, configurations, commit }
        }
        2 => Body::RequestPreVote { last: log_id(reader, raft) },
        3 => Body::PreVoteGranted,
        4 => Body::PreVoteRefused,
        5 => Body::RequestVote { last: log_id(reader, raft), transfer: reader.flag() },
        6 => Body::VoteGranted,
        7 => Body::VoteRefused,
        8 => Body::EntriesAccepted { session: session(reader, raft), upto: LogIndex(reader.near(raft.log().last().0)) },
        9 => Body::EntriesRefused {
            session: session(reader, raft),
            missing: log_id(reader, raft),
            hint: log_id(reader, raft),
        },
        10 => {
            let commit = LogIndex(reader.near(raft.commit().0));
            let (session, round) = (session(reader, raft), reader.number());
            match round % 8 {
                // As often as that the truth: only so does a replica fall asleep.
                5 | 6 => Body::Sleep { session, round, upto: raft.log().last_id() },
                7 => Body::Sleep { session, round, upto: log_id(reader, raft) },
                _ => Body::Heartbeat { session, round, commit },
            }
        }
        11 => {
            let (session, round, role_state) = (session(reader, raft), reader.number(), reader.byte());
            let (fit, full, priority) = (role_state % 2 == 0, role_state / 2 % 8 == 7, role_state / 16 % 4);
            Body::HeartbeatReply { session, round, fit, full, priority, asleep: role_state / 64 == 3 }
        }
        12 => Body::SnapshotNeeded { session: session(reader, raft), of: log_id(reader, raft) },
        13 => Body::TimeoutNow,
        14 => Body::Removed { at: LogIndex(reader.near(raft.configurations().newest_at().0)) },
        15 => Body::StaleTerm,
        16 => Body::ReadIndex { read: ReadId(reader.number()) },
        17 => Body::ReadIndexReply { read: ReadId(reader.number()), index: LogIndex(reader.near(raft.commit().0)) },
        18 => Body::ReadIndexRefused { read: ReadId(reader.number()) },
        19 => Body::Committed { upto: LogIndex(reader.near(raft.commit().0)) },
        // As often as that a leader needs it.
        _ => {
            let upto = raft.log().last();
            Body::EntriesAccepted { session: session(reader, raft), upto }
        }
    }
}

fn session(reader: &mut Reader<'_>, raft: &Raft) -> Session {
    // What brought most peers in: the group's beginning, or the newest configuration.
    let at = reader.among(&[LogIndex::ZERO, raft.configurations().newest_at()]);
    Session(if reader.one_in(8) { LogIndex(reader.number()) } else { at })
}

/// Up to three runs of a few entries: no more than a frame has payloads for, so that no index is beyond what is counted
/// (`vlot_node::wire`).
fn entries(reader: &mut Reader<'_>, raft: &Raft) -> TermRuns {
    let after = log_id(reader, raft);
    let mut entries = TermRuns::empty(after);
    for _ in 0..reader.below(4) {
        let count = reader.below(4) as u64;
        let term = Term(reader.near(raft.role_state().term.0)).max(entries.last_id().term);
        if entries.last().0.checked_add(count).is_some_and(|last| last < u64::MAX) {
            entries.push(term, count);
        }
    }
    entries
}

fn configurations(reader: &mut Reader<'_>, raft: &Raft, entries: &TermRuns) -> Vec<(LogIndex, Configuration)> {
    let count = reader.below(8).saturating_sub(5);
    (0..count).map(|_| (LogIndex(reader.near(entries.last().0)), configuration(reader, raft))).collect()
}
