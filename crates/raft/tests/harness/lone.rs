//! One replica whose peers are the test: what it is told is written out, what it answers is looked at.

use std::time::Duration;

use vlot_raft::configuration::{Configuration, Configurations};
use vlot_raft::effect::{Effect, Effects, Input, RoleName, WriteId};
use vlot_raft::id::{LogId, LogIndex, NodeId, Term};
use vlot_raft::invariants;
use vlot_raft::message::{Body, Message, Session};
use vlot_raft::raft::Raft;
use vlot_raft::state::{Config, Restored};
use vlot_raft::term_runs::TermRuns;
use vlot_raft::time::{Rng, Time};

use super::cluster::{ELECTION_TIMEOUT, HEARTBEAT, MESSAGES_MAX};
use super::notation;

/// The session of a group's first members.
pub const FIRST: Session = Session(LogIndex::ZERO);

/// What follows from a write that is durable asks for another write, and so on: no more often than this.
const WRITES_MAX: usize = 100;

/// When it starts: long after the origin of its clock, as after a restart.
pub const START: Time = Time::from_millis(1_000_000);

/// Node 1 of a group.
pub struct Lone {
    pub raft: Raft,
    pub now: Time,
    writes: Vec<WriteId>,
    /// Whether writes wait for [`Lone::persist`].
    pub slow_disk: bool,
}

impl Lone {
    /// In a group of `voters`, with this term, vote and log (the term of each entry).
    pub fn new(voters: u64, term: u64, vote: Option<u64>, log: &[u64]) -> Self {
        Self::seeded(voters, term, vote, log, 1)
    }

    pub fn seeded(voters: u64, term: u64, vote: Option<u64>, log: &[u64], seed: u64) -> Self {
        let configuration = Configuration::of_voters((1..=voters).map(NodeId));
        Self::with(&had(configuration, term, vote, log), |_| {}, seed)
    }

    /// In a group of these members, written as in transcripts: `n1,n2,+n3,(n4)`.
    pub fn member_of(members: &str, term: u64, log: &[u64]) -> Self {
        Self::with(&had(notation::parse_members(members), term, None, log), |_| {}, 1)
    }

    /// With this behind it, and this changed in how it behaves.
    pub fn with(restored: &Restored, configure: impl FnOnce(&mut Config), seed: u64) -> Self {
        let mut config = Config {
            heartbeat: HEARTBEAT,
            election_timeout: ELECTION_TIMEOUT,
            inflight_max: 4,
            ..Config::new(NodeId(1))
        };
        configure(&mut config);
        let raft = Raft::new(config, restored.clone(), START, Rng::new(seed));
        Self { raft, now: START, writes: Vec::new(), slow_disk: false }
    }

    /// Leads `term`, whose first entry is appended and durable; nobody has acknowledged anything.
    pub fn leader(voters: u64, term: u64, log: &[u64]) -> Self {
        let mut lone = Self::new(voters, term - 1, None, log);
        lone.win();
        lone
    }

    /// Leads a group of these members in `term`. All have acknowledged everything, and answered a heartbeat.
    pub fn leader_of(members: &str, term: u64, log: &[u64]) -> Self {
        let mut lone = Self::member_of(members, term - 1, log);
        lone.win();
        lone.hear_all_have_everything();
        lone
    }

    /// Stands for election, and all the others vote for it.
    pub fn win(&mut self) {
        self.campaign();
        let term = self.term();
        for peer in self.others() {
            self.hear(peer, term, Body::VoteGranted);
        }
        assert_eq!(self.role(), RoleName::Leader);
    }

    /// All the others have acknowledged everything, and answered a heartbeat.
    pub fn hear_all_have_everything(&mut self) -> Effects {
        let mut effects = self.end_turn(100);
        let (last, term) = (self.raft.log().last(), self.term());
        for peer in self.others() {
            effects.extend(self.hear(peer, term, Body::EntriesAccepted { session: FIRST, upto: last }));
            effects.extend(self.hear(
                peer,
                term,
                Body::HeartbeatReply { session: FIRST, round: 0, fit: true, full: false, priority: 1, asleep: false },
            ));
        }
        effects.extend(self.end_turn(100));
        effects
    }

    /// Follows node 2 in `term`.
    pub fn follower(term: u64, log: &[u64]) -> Self {
        Self::follower_in("n1,n2,n3", term, log)
    }

    /// Follows node 2 in `term`, in a group of these members.
    pub fn follower_in(members: &str, term: u64, log: &[u64]) -> Self {
        let mut lone = Self::member_of(members, term, log);
        lone.hear(2, term, Body::Heartbeat { session: FIRST, round: 0, commit: LogIndex::ZERO });
        lone
    }

    /// The other members.
    pub fn others(&self) -> Vec<u64> {
        self.raft.configuration().nodes().map(|node| node.0).filter(|&node| node != 1).collect()
    }

    /// The election timeout ends, and the others would vote for it: it stands.
    pub fn campaign(&mut self) -> Effects {
        let mut effects = self.time_out();
        let term = self.term();
        for peer in self.others() {
            if self.role() == RoleName::PreCandidate {
                effects.extend(self.hear(peer, term, Body::PreVoteGranted));
            }
        }
        effects
    }

    /// Time passes until its deadline.
    pub fn time_out(&mut self) -> Effects {
        self.now = self.now.max(self.raft.deadline());
        let effects = self.input(Input::Tick);
        assert!(self.raft.deadline() > self.now, "it is due again, and its host would never rest");
        effects
    }

    pub fn wait(&mut self, wait: Duration) {
        self.now = self.now + wait;
    }

    /// A peer says something.
    pub fn hear(&mut self, from: u64, term: u64, body: Body) -> Effects {
        self.input(Input::Receive { from: NodeId(from), message: Message { term: Term(term), body } })
    }

    /// One input; the writes it asks for are durable at once, unless the disk is slow.
    pub fn input(&mut self, input: Input) -> Effects {
        let mut effects = self.checked(|raft, now, effects| raft.step(now, input, effects));
        self.note_writes(&effects);
        if !self.slow_disk {
            effects.extend(self.persist());
        }
        effects
    }

    /// Everything asked for is durable.
    pub fn persist(&mut self) -> Effects {
        let (mut all, mut turns) = (Effects::new(), 0);
        while let Some(write) = self.writes.pop() {
            turns += 1;
            assert!(turns <= WRITES_MAX, "something to write without end");
            self.writes.clear();
            let effects = self.checked(|raft, now, effects| raft.step(now, Input::Persisted { write }, effects));
            self.note_writes(&effects);
            all.extend(effects);
        }
        all
    }

    /// What the host sends at the end of a turn, in messages of `batch` entries at most.
    pub fn end_turn(&mut self, batch: u64) -> Effects {
        let mut all = Effects::new();
        for peer in self.raft.peers().collect::<Vec<_>>() {
            let mut sent = 0;
            while let Some((after, last)) = self.raft.next_range(peer) {
                sent += 1;
                assert!(sent <= MESSAGES_MAX, "something for n{peer} without end");
                let upto = LogIndex(last.0.min(after.0 + batch));
                all.extend(self.checked(|raft, _, effects| raft.send_entries(peer, upto, 0, effects)));
            }
        }
        all.extend(self.checked(|raft, _, effects| raft.end_turn(effects)));
        all
    }

    pub fn role(&self) -> RoleName {
        self.raft.role_state().role
    }

    pub fn term(&self) -> u64 {
        self.raft.role_state().term.0
    }

    /// The term of each entry of its log.
    pub fn log(&self) -> Vec<u64> {
        let last = self.raft.log().last().0;
        (1..=last).map(|index| self.raft.log().term_at(LogIndex(index)).expect("within the log").0).collect()
    }

    fn note_writes(&mut self, effects: &Effects) {
        for effect in effects {
            match effect {
                Effect::SaveVote { write, .. }
                | Effect::Append { write, .. }
                | Effect::Compact { write, .. }
                | Effect::InstallSnapshot { write, .. } => self.writes.push(*write),
                _ => {}
            }
        }
    }

    fn checked(&mut self, change: impl FnOnce(&mut Raft, Time, &mut Effects)) -> Effects {
        let (before, mut effects) = (self.raft.clone(), Effects::new());
        change(&mut self.raft, self.now, &mut effects);
        invariants::check_one(&self.raft).expect("a sound state");
        invariants::check_step(&before, &self.raft).expect("a sound step");
        effects
    }
}

/// What a node had: this term, vote and log, with these first members, and nothing applied.
pub fn had(configuration: Configuration, term: u64, vote: Option<u64>, log: &[u64]) -> Restored {
    Restored {
        term: Term(term),
        vote: vote.map(NodeId),
        log: entries(LogId::ZERO, log),
        applied: LogIndex::ZERO,
        configurations: Configurations::begin(configuration),
    }
}

/// Entries of these terms after `after`.
pub fn entries(after: LogId, terms: &[u64]) -> TermRuns {
    let mut runs = TermRuns::empty(after);
    terms.iter().for_each(|&term| runs.push(Term(term), 1));
    runs
}

/// AppendEntries with entries of these terms.
pub fn append(after: LogId, terms: &[u64], commit: u64) -> Body {
    Body::AppendEntries {
        session: FIRST,
        entries: entries(after, terms),
        configurations: Vec::new(),
        commit: LogIndex(commit),
    }
}

/// AppendEntries with entries of these terms, of which some set members.
pub fn append_set(after: LogId, terms: &[u64], set: &[(u64, &str)], commit: u64) -> Body {
    let configurations = set.iter().map(|(at, members)| (LogIndex(*at), notation::parse_members(members)));
    let (entries, commit) = (entries(after, terms), LogIndex(commit));
    Body::AppendEntries { session: FIRST, entries, configurations: configurations.collect(), commit }
}

/// What was sent, and to whom.
pub fn sent(effects: &[Effect]) -> Vec<(u64, u64, Body)> {
    let envelopes = effects.iter().filter_map(|effect| match effect {
        Effect::Send(envelope) => Some(envelope),
        _ => None,
    });
    envelopes.map(|envelope| (envelope.to.0, envelope.message.term.0, envelope.message.body.clone())).collect()
}
