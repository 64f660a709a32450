//! What one group costs when nothing happens, and what a step allocates when everything goes well.
//!
//! `cargo test -p vlot-raft --test size -- --nocapture` prints the figures. `allocation_counter` counts what this thread
//! allocates, with the system's allocator behind it.

use std::sync::Arc;
use std::time::Duration;

use vlot_raft::configuration::{Configuration, Configurations};
use vlot_raft::effect::{Effect, Effects, Input, RoleName, WriteId};
use vlot_raft::id::{LogIndex, NodeId, Term};
use vlot_raft::message::{Body, Message, Session};
use vlot_raft::raft::Raft;
use vlot_raft::state::{Config, Restored};
use vlot_raft::term_runs::TermRuns;
use vlot_raft::time::{Rng, Time};

const NODE: NodeId = NodeId(1);
const SESSION: Session = Session(LogIndex::ZERO);
/// What one group's consensus may take while it is idle.
const IDLE_BYTES_MAX: usize = 1024;

#[test]
fn an_idle_group_takes_less_than_a_kibibyte() {
    for voters in [3, 5] {
        for role in [RoleName::Follower, RoleName::Leader] {
            let mut idle = None;
            // All groups of a node share it.
            let config = Arc::new(Config::new(NODE));
            let counted = allocation_counter::measure(|| idle = Some(idle_after_work(config, voters, role)));
            let raft = idle.expect("it has been at work");
            assert_eq!((raft.role_state().role, raft.ready()), (role, raft.log().last()), "all is done");
            let (own, heap) = (size_of::<Raft>(), usize::try_from(counted.bytes_current).expect("more than nothing"));
            println!("idle {role:?} of {voters}: {own} + {heap} bytes in {} places", counted.count_current);
            assert!(own + heap < IDLE_BYTES_MAX, "{role:?} of {voters}: {own} + {heap}");
        }
    }
}

#[test]
fn a_step_allocates_what_it_must() {
    let config = Arc::new(Config::new(NODE));
    let [mut leader, mut follower] =
        [RoleName::Leader, RoleName::Follower].map(|role| worked(Arc::clone(&config), 3, role));
    // With the first heartbeat after work a follower gives memory back; with the first entry after that it takes some again.
    drop((follower.hear_beat(), follower.follow()));
    let counts = [leader.round(), leader.beat(), follower.follow(), follower.hear_beat()].concat();
    for (step, allocations) in &counts {
        println!("{allocations} {step}");
    }
    let expected = [
        ("leader: propose", 0),
        ("leader: send entries to two", 0),
        ("leader: persisted", 0),
        ("leader: accepted by a quorum", 0),
        ("leader: accepted by the rest", 0),
        ("leader: end of turn", 0),
        ("leader: heartbeats are due", 0),
        ("leader: heartbeats are answered", 0),
        ("follower: append", 0),
        ("follower: persisted", 0),
        ("follower: heartbeat", 0),
    ];
    assert_eq!(counts, expected);
}

/// A replica, its disk, which is always done at once, and its peers, which always agree.
struct Host {
    raft: Raft,
    now: Time,
    effects: Effects,
    /// The last write that it was asked for.
    written: WriteId,
    voters: u64,
}

/// Four terms of a thousand entries behind it, all of them durable, committed and acknowledged. It leads the last one, or
/// node 2 does.
fn worked(config: Arc<Config>, voters: u64, role: RoleName) -> Host {
    let configurations = Configurations::begin(Configuration::of_voters((1..=voters).map(NodeId)));
    let restored = Restored { configurations, ..Restored::default() };
    let raft = Raft::new(config, restored, Time::default(), Rng::new(1));
    let mut host = Host { raft, now: Time::default(), effects: Effects::new(), written: WriteId::default(), voters };
    for led in [false, true, true, role == RoleName::Leader] {
        if led {
            host.win()
        } else {
            host.give_way()
        }
        let before = host.raft.ready();
        for _ in 0..1000 {
            if led {
                host.round()
            } else {
                host.follow()
            };
        }
        assert!(host.raft.ready().since(before) >= 999, "every round commits one");
    }
    host
}

/// The same, after heartbeats with nothing in between.
fn idle_after_work(config: Arc<Config>, voters: u64, role: RoleName) -> Raft {
    let mut host = worked(config, voters, role);
    for _ in 0..3 {
        if role == RoleName::Leader {
            host.beat()
        } else {
            host.hear_beat()
        };
    }
    host.raft
}

impl Host {
    fn term(&self) -> Term {
        self.raft.role_state().term
    }

    /// Stands for election, and everyone votes for it.
    fn win(&mut self) {
        // A leader that nobody has answered for so long leads no more.
        while self.raft.role_state().role != RoleName::PreCandidate {
            self.now = self.now + Duration::from_secs(2);
            self.step(Input::Tick);
        }
        self.all_say(Body::PreVoteGranted);
        self.persisted();
        self.all_say(Body::VoteGranted);
        self.persisted();
        assert_eq!(self.raft.role_state().role, RoleName::Leader);
        self.send_entries();
        self.all_say(Body::EntriesAccepted { session: SESSION, upto: self.raft.log().last() });
    }

    /// Node 2 leads the next term.
    fn give_way(&mut self) {
        self.say(2, self.term().next(), Body::Heartbeat { session: SESSION, round: 0, commit: LogIndex::ZERO });
        self.persisted();
    }

    /// A leader's whole round of one proposal: how much each step allocates.
    fn round(&mut self) -> Vec<(&'static str, u64)> {
        let propose = self.counted(|host| host.step(Input::Propose { count: 1 }));
        let send = self.counted(Self::send_entries);
        let persisted = self.counted(Self::persisted);
        let accepted = Body::EntriesAccepted { session: SESSION, upto: self.raft.log().last() };
        let commit = self.counted(|host| host.say(2, host.term(), accepted.clone()));
        let rest =
            self.counted(|host| (3..=host.voters).for_each(|node| host.say(node, host.term(), accepted.clone())));
        let end_turn = self.counted(|host| host.raft.end_turn(&mut host.effects));
        vec![
            ("leader: propose", propose),
            ("leader: send entries to two", send),
            ("leader: persisted", persisted),
            ("leader: accepted by a quorum", commit),
            ("leader: accepted by the rest", rest),
            ("leader: end of turn", end_turn),
        ]
    }

    /// A leader's heartbeats and the answers to them.
    fn beat(&mut self) -> Vec<(&'static str, u64)> {
        self.now = self.raft.deadline();
        let due = self.counted(|host| host.step(Input::Tick));
        let reply =
            Body::HeartbeatReply { session: SESSION, round: 0, fit: true, full: false, priority: 1, asleep: false };
        let answered = self.counted(|host| host.all_say(reply));
        vec![("leader: heartbeats are due", due), ("leader: heartbeats are answered", answered)]
    }

    /// What a follower does meanwhile.
    fn follow(&mut self) -> Vec<(&'static str, u64)> {
        let (term, commit) = (self.term(), self.raft.log().last());
        let entries = TermRuns::one_term(self.raft.log().last_id(), term, 1);
        let append = Body::AppendEntries { session: SESSION, entries, configurations: Vec::new(), commit };
        let append = self.counted(|host| host.say(2, term, append));
        vec![("follower: append", append), ("follower: persisted", self.counted(Self::persisted))]
    }

    /// And with a heartbeat.
    fn hear_beat(&mut self) -> Vec<(&'static str, u64)> {
        let heartbeat = Body::Heartbeat { session: SESSION, round: 1, commit: self.raft.log().last() };
        vec![("follower: heartbeat", self.counted(|host| host.say(2, host.term(), heartbeat)))]
    }

    fn counted(&mut self, act: impl FnOnce(&mut Self)) -> u64 {
        allocation_counter::measure(|| act(self)).count_total
    }

    fn say(&mut self, from: u64, term: Term, body: Body) {
        self.step(Input::Receive { from: NodeId(from), message: Message { term, body } });
    }

    fn all_say(&mut self, body: Body) {
        (2..=self.voters).for_each(|node| self.say(node, self.term(), body.clone()));
    }

    fn send_entries(&mut self) {
        self.effects.clear();
        for peer in (2..=self.voters).map(NodeId) {
            while let Some((_, upto)) = self.raft.next_range(peer) {
                self.raft.send_entries(peer, upto, 100, &mut self.effects);
            }
        }
    }

    /// What was asked for is durable.
    fn persisted(&mut self) {
        let write = self.written;
        self.step(Input::Persisted { write });
    }

    fn step(&mut self, input: Input) {
        self.effects.clear();
        self.raft.step(self.now, input, &mut self.effects);
        for effect in &self.effects {
            if let Effect::SaveVote { write, .. } | Effect::Append { write, .. } = effect {
                self.written = *write;
            }
        }
    }
}
