//! How transcripts write things, and how scripts are read.
//!
//! A node is `n1`, a term `t1`, an entry `5@2` (index 5 of term 2), a stretch `2..3@1,4@2`, no entries `none`.

use vlot_raft::configuration::{Change, ChangeRefused, Configuration, Member, Seat};
use vlot_raft::effect::{Event, Misbehaviour, ProposalRefused, RoleName, RoleState, TransferRefused};
use vlot_raft::id::{LogId, LogIndex, NodeId, Term};
use vlot_raft::message::{Body, Message, ReadId, Session};
use vlot_raft::term_runs::TermRuns;

use super::disk::Snapshot;

pub fn stretch(runs: &TermRuns) -> String {
    let parts =
        runs.iter().map(
            |(term, first, last)| {
                if first == last { format!("{first}@{term}") } else { format!("{first}..{last}@{term}") }
            },
        );
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() { "none".into() } else { parts.join(",") }
}

/// A whole log; where it begins, unless that is at the beginning.
pub fn log(runs: &TermRuns) -> String {
    let after = if runs.after() == LogId::ZERO { String::new() } else { format!(" after {}", runs.after()) };
    format!("{}{after}", stretch(runs))
}

/// The configurations that entries set: ` 5=n1,n2,+n4`, each with a space before it.
pub fn set(set: &[(LogIndex, Configuration)]) -> String {
    set.iter().map(|(at, configuration)| format!(" {at}={}", members(configuration))).collect()
}

pub fn snapshot(Snapshot { id, configuration: (at, configuration) }: &Snapshot) -> String {
    format!("a snapshot of {id}, {at}={}", members(configuration))
}

pub fn vote(vote: Option<NodeId>) -> String {
    vote.map_or("none".into(), |node| format!("n{node}"))
}

pub fn role_state(RoleState { term, role, leader }: RoleState) -> String {
    let role = match role {
        RoleName::Follower => "follower",
        RoleName::PreCandidate => "pre-candidate",
        RoleName::Candidate => "candidate",
        RoleName::Leader => return format!("leader t{term}"),
    };
    leader.map_or(format!("{role} t{term}"), |leader| format!("{role} t{term} of n{leader}"))
}

pub fn proposal_refused(why: ProposalRefused) -> String {
    match why {
        ProposalRefused::NotLeader { leader } => format!("NotLeader, leader {}", vote(leader)),
        ProposalRefused::Transferring { to } => format!("Transferring to n{to}"),
        ProposalRefused::Busy => "Busy".into(),
        ProposalRefused::NoSpace => "NoSpace".into(),
    }
}

pub fn change_refused(why: ChangeRefused) -> String {
    match why {
        ChangeRefused::NotLeader { leader } => format!("NotLeader, leader {}", vote(leader)),
        ChangeRefused::Transferring { to } => format!("Transferring to n{to}"),
        ChangeRefused::NotCaughtUp { node } => format!("NotCaughtUp, n{node}"),
        ChangeRefused::NotAMember { node } => format!("NotAMember, n{node}"),
        ChangeRefused::Barred { node } => format!("Barred, n{node}"),
        ChangeRefused::KeepsItsKind { node } => format!("KeepsItsKind, n{node}"),
        ChangeRefused::TooSoon => "TooSoon".into(),
        ChangeRefused::InProgress => "InProgress".into(),
        ChangeRefused::NoVoters => "NoVoters".into(),
        ChangeRefused::TooManyWitnesses => "TooManyWitnesses".into(),
        ChangeRefused::NothingToDo => "NothingToDo".into(),
        ChangeRefused::NoSpace => "NoSpace".into(),
    }
}

pub fn transfer_refused(why: TransferRefused) -> String {
    match why {
        TransferRefused::NotLeader { leader } => format!("NotLeader, leader {}", vote(leader)),
        TransferRefused::InProgress { to } => format!("InProgress, to n{to}"),
        TransferRefused::CannotLead { node } => format!("CannotLead, n{node}"),
        TransferRefused::Nobody => "Nobody".into(),
    }
}

pub fn event(event: Event) -> Option<String> {
    match event {
        // An entry that sets a configuration is written down with what it sets, and hearing late is nobody's business.
        Event::ConfigurationChanged { .. } | Event::HeardLate { .. } => None,
        Event::ConfigurationCommitted { at } => Some(format!("members of {at} are committed")),
        Event::Removed { at } => Some(format!("is no member since {at}")),
        Event::PeerNeedsSnapshot { peer } => Some(format!("has compacted what n{peer} needs")),
        Event::TransferBegun { to } => Some(format!("begins to hand over to n{to}")),
        Event::TransferAborted { to } => Some(format!("gives up handing over to n{to}")),
        Event::DiskStalled => Some("disk has stalled".into()),
        Event::DiskRecovered => Some("disk keeps up again".into()),
        Event::DiskFull => Some("disk is full".into()),
        Event::Mended => Some("has nothing any more that cannot be read".into()),
        Event::DiskHasRoom => Some("disk has room again".into()),
    }
}

pub fn misbehaviour(how: Misbehaviour) -> String {
    match how {
        Misbehaviour::IsMyself => "IsMyself".into(),
        Misbehaviour::ConfigurationsOutOfPlace => "ConfigurationsOutOfPlace".into(),
        Misbehaviour::TermOutOfReach { term } => format!("TermOutOfReach, t{term}"),
        Misbehaviour::SecondLeader { leader } => format!("SecondLeader, the term has n{leader}"),
        Misbehaviour::EntriesFromTheFuture { last } => format!("EntriesFromTheFuture, up to {last}"),
        Misbehaviour::ReplacesCommitted { commit, agreed } => {
            format!("ReplacesCommitted, commit={commit} agreed={agreed}")
        }
        Misbehaviour::AcknowledgedUnsent { upto, last } => format!("AcknowledgedUnsent, upto={upto} last={last}"),
    }
}

pub fn message(Message { term, body }: &Message) -> String {
    let fields = match body {
        Body::RequestPreVote { last } | Body::RequestVote { last, transfer: false } => format!(" last={last}"),
        Body::RequestVote { last, transfer: true } => format!(" last={last} handed-over"),
        Body::AppendEntries { entries, commit, configurations, .. } => {
            let set = set(configurations);
            format!(" after={} entries={}{set} commit={commit}", entries.after(), stretch(entries))
        }
        Body::EntriesAccepted { upto, .. } => format!(" upto={upto}"),
        Body::EntriesRefused { missing, hint, .. } => format!(" missing={missing} hint={hint}"),
        Body::Heartbeat { round, commit, .. } => format!(" round={round} commit={commit}"),
        Body::Committed { upto } => format!(" upto={upto}"),
        Body::Sleep { round, upto, .. } => format!(" round={round} upto={upto}"),
        Body::HeartbeatReply { round, fit, full, priority, asleep, .. } => {
            let unfit = if *fit { "" } else { " unfit" };
            let full = if *full { " full" } else { "" };
            let priority = if *priority == 1 { String::new() } else { format!(" priority={priority}") };
            let asleep = if *asleep { " asleep" } else { "" };
            format!(" round={round}{unfit}{full}{priority}{asleep}")
        }
        Body::SnapshotNeeded { of, .. } => format!(" of={of}"),
        Body::Removed { at } => format!(" at={at}"),
        Body::TimeoutNow => String::new(),
        Body::ReadIndex { read } | Body::ReadIndexRefused { read } => format!(" r{}", read.0),
        Body::ReadIndexReply { read, index } => format!(" r{} index={index}", read.0),
        Body::PreVoteGranted | Body::PreVoteRefused | Body::VoteGranted | Body::VoteRefused | Body::StaleTerm => {
            String::new()
        }
    };
    format!("{} t{term}{fields}", name(body))
}

/// The session that a message names, if its kind names one.
pub fn session_of(body: &Body) -> Option<Session> {
    match body {
        Body::AppendEntries { session, .. }
        | Body::EntriesAccepted { session, .. }
        | Body::EntriesRefused { session, .. }
        | Body::Heartbeat { session, .. }
        | Body::Sleep { session, .. }
        | Body::HeartbeatReply { session, .. }
        | Body::SnapshotNeeded { session, .. } => Some(*session),
        _ => None,
    }
}

pub fn name(body: &Body) -> &'static str {
    match body {
        Body::RequestPreVote { .. } => "RequestPreVote",
        Body::PreVoteGranted => "PreVoteGranted",
        Body::PreVoteRefused => "PreVoteRefused",
        Body::RequestVote { .. } => "RequestVote",
        Body::VoteGranted => "VoteGranted",
        Body::VoteRefused => "VoteRefused",
        Body::AppendEntries { .. } => "AppendEntries",
        Body::EntriesAccepted { .. } => "EntriesAccepted",
        Body::EntriesRefused { .. } => "EntriesRefused",
        Body::Heartbeat { .. } => "Heartbeat",
        Body::Committed { .. } => "Committed",
        Body::Sleep { .. } => "Sleep",
        Body::HeartbeatReply { .. } => "HeartbeatReply",
        Body::SnapshotNeeded { .. } => "SnapshotNeeded",
        Body::TimeoutNow => "TimeoutNow",
        Body::Removed { .. } => "Removed",
        Body::StaleTerm => "StaleTerm",
        Body::ReadIndex { .. } => "ReadIndex",
        Body::ReadIndexReply { .. } => "ReadIndexReply",
        Body::ReadIndexRefused { .. } => "ReadIndexRefused",
    }
}

/// `n1,n2,+n3,-n4,~n5,(n6)`: voters; joining, leaving and retiring voters; learners. A witness ends in `w`.
pub fn members(configuration: &Configuration) -> String {
    let member = |member: &Member| {
        let node = format!("n{}{}", member.node, if member.witness { "w" } else { "" });
        match member.seat {
            Seat::Voter => node,
            Seat::Joining => format!("+{node}"),
            Seat::Leaving => format!("-{node}"),
            Seat::Retiring => format!("~{node}"),
            Seat::Learner => format!("({node})"),
        }
    };
    let members: Vec<String> = configuration.members().iter().map(member).collect();
    if members.is_empty() { "nobody".into() } else { members.join(",") }
}

/// Reads what [`members`] writes.
pub fn parse_members(word: &str) -> Configuration {
    let member = |word: &str| {
        let (seat, name) = match word.split_at(1) {
            ("+", name) => (Seat::Joining, name),
            ("-", name) => (Seat::Leaving, name),
            ("~", name) => (Seat::Retiring, name),
            ("(", name) => (Seat::Learner, name.trim_end_matches(')')),
            _ => (Seat::Voter, word),
        };
        let node = parse_node(name.trim_end_matches('w'));
        Member { node, seat, witness: name.ends_with('w') }
    };
    let mut members: Vec<Member> = word.split(',').filter(|word| *word != "nobody").map(member).collect();
    members.sort_unstable();
    Configuration::of_members(members).unwrap_or_else(|| panic!("{word} is no configuration"))
}

/// Reads a wish: `+n4` shall vote, `+n4w` as a witness, `(n4)` shall learn, `-n4` shall leave.
pub fn parse_change(word: &str) -> Change {
    let node = |name: &str| parse_node(name.trim_end_matches(['w', ')']));
    match word.split_at(1) {
        ("+", name) if name.ends_with('w') => Change::Witness(node(name)),
        ("+", name) => Change::Voter(node(name)),
        ("-", name) => Change::Remove(node(name)),
        ("(", name) => Change::Learner(node(name)),
        _ => panic!("{word} is no change"),
    }
}

/// The session that a forged message names; zero, that of the group's first members, unless it says so.
fn session(words: &[&str]) -> Session {
    Session(LogIndex(field_if_any(words, "session").map_or(0, |at| at.parse().expect("an index"))))
}

/// Reads a message as [`message`] writes it: `Heartbeat t3 round=1 commit=2`.
pub fn parse_message(words: &[&str]) -> Message {
    let number = |key: &str| field(words, key).parse::<u64>().unwrap_or_else(|_| panic!("{key} in {words:?}"));
    let id = |key: &str| parse_id(field(words, key));
    let body = match words[0] {
        "RequestPreVote" => Body::RequestPreVote { last: id("last") },
        "PreVoteGranted" => Body::PreVoteGranted,
        "PreVoteRefused" => Body::PreVoteRefused,
        "RequestVote" => Body::RequestVote { last: id("last"), transfer: words.contains(&"handed-over") },
        "VoteGranted" => Body::VoteGranted,
        "VoteRefused" => Body::VoteRefused,
        "AppendEntries" => Body::AppendEntries {
            session: session(words),
            configurations: parse_set(words),
            entries: parse_stretch(id("after"), field(words, "entries")),
            commit: LogIndex(number("commit")),
        },
        "EntriesAccepted" => Body::EntriesAccepted { session: session(words), upto: LogIndex(number("upto")) },
        "EntriesRefused" => Body::EntriesRefused { session: session(words), missing: id("missing"), hint: id("hint") },
        "Heartbeat" => {
            Body::Heartbeat { session: session(words), round: number("round"), commit: LogIndex(number("commit")) }
        }
        "Committed" => Body::Committed { upto: LogIndex(number("upto")) },
        "Sleep" => Body::Sleep { session: session(words), round: number("round"), upto: id("upto") },
        "HeartbeatReply" => {
            let (fit, full) = (!words.contains(&"unfit"), words.contains(&"full"));
            let asleep = words.contains(&"asleep");
            let priority = field_if_any(words, "priority").map_or(1, |n| n.parse().expect("a number"));
            Body::HeartbeatReply { session: session(words), round: number("round"), fit, full, priority, asleep }
        }
        "SnapshotNeeded" => Body::SnapshotNeeded { session: session(words), of: id("of") },
        "TimeoutNow" => Body::TimeoutNow,
        "Removed" => Body::Removed { at: LogIndex(number("at")) },
        "StaleTerm" => Body::StaleTerm,
        "ReadIndexReply" => Body::ReadIndexReply {
            read: ReadId(words[2].trim_start_matches('r').parse().expect("a read")),
            index: LogIndex(number("index")),
        },
        other => panic!("no message is called {other}"),
    };
    let term = match words[1] {
        "tmax" => u64::MAX,
        term => term.trim_start_matches('t').parse().unwrap_or_else(|_| panic!("a term in {words:?}")),
    };
    Message { term: Term(term), body }
}

/// The words that say what entries set: `5=n1,n2,+n4`.
fn parse_set(words: &[&str]) -> Vec<(LogIndex, Configuration)> {
    let set = words.iter().filter_map(|word| word.split_once('='));
    set.filter_map(|(at, members)| Some((LogIndex(at.parse().ok()?), parse_members(members)))).collect()
}

/// The value of `key=value` among the words.
pub fn field<'a>(words: &[&'a str], key: &str) -> &'a str {
    field_if_any(words, key).unwrap_or_else(|| panic!("{key}= is missing in {words:?}"))
}

pub fn field_if_any<'a>(words: &[&'a str], key: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

pub fn parse_node(word: &str) -> NodeId {
    NodeId(word.trim_start_matches('n').parse().unwrap_or_else(|_| panic!("{word} is no node")))
}

pub fn parse_link(word: &str) -> (NodeId, NodeId) {
    let (from, to) = word.split_once('>').unwrap_or_else(|| panic!("{word} is no link"));
    (parse_node(from), parse_node(to))
}

/// Reads `2..3@1,4@2`; `none` is no entries.
pub fn parse_stretch(after: LogId, word: &str) -> TermRuns {
    let mut runs = TermRuns::empty(after);
    for part in word.split(',').filter(|part| *part != "none") {
        let (indexes, term) = part.split_once('@').unwrap_or_else(|| panic!("{part} is no stretch"));
        let (first, last) = indexes.split_once("..").unwrap_or((indexes, indexes));
        let [first, last, term] = [first, last, term].map(|n| n.parse::<u64>().unwrap_or_else(|_| panic!("{part}")));
        assert_eq!(first, runs.last().0 + 1, "{word} has no gap");
        runs.push(Term(term), last + 1 - first);
    }
    runs
}

pub fn parse_id(word: &str) -> LogId {
    let (index, term) = word.split_once('@').unwrap_or_else(|| panic!("{word} is no entry"));
    let number = |n: &str| if n == "max" { u64::MAX } else { n.parse().unwrap_or_else(|_| panic!("{word}")) };
    LogId::new(number(term), number(index))
}
