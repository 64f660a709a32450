use std::time::Duration;

use super::*;
use crate::input::Proposal;
use crate::payload;
use crate::proposal_id::ProposalId;
use crate::replica::Limits;
use crate::state_machine::Class;
use vlot_log::index::GroupState;
use vlot_raft::effect::RoleName;
use vlot_raft::id::LogId;
use vlot_raft::time::Rng;

const RECENT_BYTES_MAX: usize = 10_000;

/// A node over a disk that is done when it is told to be.
struct Host {
    node: Node,
    now: Time,
    sequence: u64,
    unwritten: Vec<BatchId>,
    applied: Vec<(GroupId, LogId)>,
}

impl Host {
    /// With so many groups of these voters.
    fn new(groups: u64, voters: u64, sleep_after: Option<Duration>) -> Self {
        let config = Arc::new(Config { sleep_after, ..Config::new(NodeId(1)) });
        let options = Options {
            config: Arc::clone(&config),
            disk: 11,
            peers: (1..=voters).map(|node| (NodeId(node), format!("n{node}:1"))).collect(),
            recent_bytes_max: RECENT_BYTES_MAX,
            apply_bytes_max: 1 << 20,
            retention: retention::Limits::default(),
            transfer: crate::transfer::Limits::default(),
            policies: Policies::default(),
            origin: 1,
            unix_at_origin: Duration::ZERO,
            parts: BTreeMap::new(),
        };
        let node = Node::new(options);
        let mut host = Self { node, now: Time::default(), sequence: 0, unwritten: Vec::new(), applied: Vec::new() };
        (1..=groups).for_each(|group| host.add(group, voters));
        host
    }

    fn add(&mut self, group: u64, voters: u64) {
        let begin = Begin {
            group: GroupId(group),
            config: Arc::clone(&self.node.options.config),
            members: Members::of_voters((1..=voters).map(|n| (NodeId(n), format!("n{n}:1")))),
            recovered: GroupState::default(),
            damaged: None,
            applied: LogId::ZERO,
            limits: Limits::default(),
            forwards: true,
            shares_entries: true,
            origin: 1,
            seed: group,
        };
        let begun = Begun { durable: LogId::ZERO, saved: LogId::ZERO, makes_snapshots: false, wants_time: false };
        self.node.add(self.now, NewGroup { begin, begun }).unwrap();
    }

    /// Groups of one, all of which lead.
    fn lone(groups: u64) -> Self {
        let mut lone = Self::new(groups, 1, None);
        lone.now = lone.now + Duration::from_secs(10);
        lone.turns();
        lone
    }

    /// Turns, until every group has heard the news.
    fn until_all_is_told(&mut self) {
        while self.node.bulletin.deadline() < Time::NEVER {
            self.now = self.now.max(self.node.bulletin.deadline());
            self.turns();
        }
    }

    /// Turns, until nothing is to be written or applied. Returns how many entries were.
    fn turns(&mut self) -> usize {
        let mut applied = 0;
        loop {
            applied += self.turn();
            if self.unwritten.is_empty() && self.applied.is_empty() && self.node.deadline() > self.now {
                return applied;
            }
            self.report();
        }
    }

    /// One turn; what it asks for is under way then. Returns how many entries are to be applied.
    fn turn(&mut self) -> usize {
        let mut count = 0;
        for act in self.node.end_turn(self.now) {
            match act {
                Act::Write { batch, .. } => self.unwritten.push(batch),
                Act::Apply { group, entries } => {
                    count += entries.len();
                    self.applied.extend(entries.last().map(|last| (group, last.id)));
                }
                _ => {}
            }
        }
        count
    }

    /// What is under way is done.
    fn report(&mut self) {
        if let Some(batch) = self.unwritten.drain(..).next_back() {
            self.node.handle(self.now, Input::Written { batch });
        }
        for (group, upto) in std::mem::take(&mut self.applied) {
            self.node.handle(self.now, Input::Applied { group, upto, durable: LogId::ZERO });
        }
    }

    fn propose(&mut self, group: u64, bytes: usize) {
        self.sequence += 1;
        let id = ProposalId { origin: 1, sequence: self.sequence };
        let payload = payload::command(id, bytes, |out| out.extend(std::iter::repeat_n(7, bytes)));
        let proposals = vec![Proposal { sequence: self.sequence, payload, class: Class::Bulk, shares_entry: false }];
        self.node.handle(self.now, Input::Propose { group: GroupId(group), proposals });
    }

    fn recent_bytes(&self) -> Vec<usize> {
        self.node.groups.values().map(|group| group.replica.recent_bytes()).collect()
    }

    /// The deadline of each group.
    fn deadlines(&mut self) -> Vec<(GroupId, Time)> {
        let shared = shared(&self.node.options, &mut self.node.peers);
        self.node.groups.iter().map(|(id, group)| (*id, group.deadline(&shared))).collect()
    }
}

#[test]
fn groups_share_the_memory_for_recent_entries() {
    let mut lone = Host::lone(3);
    lone.propose(3, 1000);
    lone.turns();
    let little = lone.recent_bytes()[2];
    for _ in 0..20 {
        for group in [1, 2] {
            lone.propose(group, 1000);
        }
        assert_eq!(lone.turns(), 2);
        assert!(lone.recent_bytes().iter().sum::<usize>() <= RECENT_BYTES_MAX, "{:?}", lone.recent_bytes());
        assert_eq!(lone.recent_bytes().iter().sum::<usize>(), lone.node.recent_bytes);
    }
    let [one, other, idle] = lone.recent_bytes()[..] else { panic!("three groups") };
    assert_eq!(idle, little, "who has little keeps it");
    assert!(one == other && one > 2000, "{one} {other}");
    // Nothing is forgotten as long as there is room, and what a group has is given back with it.
    let before = lone.node.recent_bytes;
    lone.node.handle(lone.now, Input::Close { group: GroupId(1), remove: false });
    lone.turns();
    assert_eq!(lone.node.recent_bytes, before - one);
    assert_eq!(lone.recent_bytes(), [other, idle]);
}

#[test]
fn more_is_forgotten_than_must_be_so_that_it_is_not_done_each_turn() {
    let mut lone = Host::lone(1);
    let mut forgotten = 0;
    for _ in 0..100 {
        let before = lone.recent_bytes()[0];
        lone.propose(1, 100);
        lone.turns();
        forgotten += usize::from(lone.recent_bytes()[0] < before);
    }
    assert!((1..=20).contains(&forgotten), "{forgotten} times");
}

#[test]
fn what_is_not_written_stays_in_memory() {
    let mut lone = Host::lone(1);
    for _ in 0..20 {
        lone.propose(1, 1000);
    }
    lone.turn();
    assert!(lone.recent_bytes()[0] > 20_000, "more than there should be, and needed");
    lone.report();
    assert_eq!(lone.turns(), 20);
    assert!(lone.recent_bytes()[0] <= RECENT_BYTES_MAX);
}

#[test]
fn an_input_touches_the_group_that_it_is_about_and_no_other() {
    let mut lone = Host::lone(300);
    assert_eq!(lone.node.dirty, []);
    for group in [7, 299, 7] {
        lone.propose(group, 1);
    }
    assert_eq!(lone.node.dirty, [GroupId(7), GroupId(299)], "each once");
    lone.turn();
    assert_eq!(lone.node.dirty, []);
    lone.report();
    assert_eq!(lone.node.dirty, [GroupId(7), GroupId(299)], "what is written is theirs");
    lone.turns();
}

/// What all groups hear touches some of them in each turn, and none twice for two news.
#[test]
fn news_touch_all_groups_a_few_at_a_time() {
    let mut lone = Host::lone(300);
    lone.node.handle(lone.now, Input::Room { is_there: false });
    lone.node.handle(lone.now, Input::Connected { peer: NodeId(2), disk: 12, reads_shared: true });
    let has_room = |lone: &Host, group| lone.node.raft(GroupId(group)).unwrap().has_room();
    assert_eq!(lone.node.dirty.len(), 0);
    assert!(lone.node.deadline() <= lone.now, "a turn is due at once");
    lone.turn();
    let told = (1..=300).filter(|group| !has_room(&lone, *group)).count();
    assert!(told > 0 && told < 300, "{told}");
    // A group to which something else happens hears of it before.
    assert!(has_room(&lone, 299) && has_room(&lone, 300));
    lone.propose(299, 1);
    assert!(!has_room(&lone, 299));
    lone.node.handle(lone.now, Input::Room { is_there: true });
    lone.propose(300, 1);
    assert!(has_room(&lone, 300), "it has heard both, in their order");
    lone.until_all_is_told();
    assert!((1..=300).all(|group| has_room(&lone, group)));
    assert!(lone.node.bulletin.since(0).is_empty());
}

/// A group may sleep without a node that is silent, and must wake when that speaks again.
#[test]
fn a_silent_node_that_speaks_again_is_news() {
    let mut host = Host::new(1, 3, Some(Duration::from_millis(300)));
    let peer = NodeId(2);
    host.node.handle(host.now, Input::Connected { peer, disk: 12, reads_shared: true });
    host.turns();
    assert!(host.node.bulletin.since(0).is_empty());
    let alive = |host: &mut Host| {
        let bytes = PeerMessage::Alive.encode(GroupId(0));
        host.node.handle(host.now, Input::Frame { from: peer, lane: Lane::Control, bytes });
        host.node.bulletin.since(0).to_vec()
    };
    assert_eq!(alive(&mut host), []);
    host.now = host.now + host.node.options.config.election_timeout;
    host.turns();
    assert_eq!(alive(&mut host), [News::Connected(peer, true)]);
    host.until_all_is_told();
    assert_eq!(alive(&mut host), [], "once");
}

/// A group that begins while others are being told has nothing to hear: it was told how things are.
#[test]
fn a_group_that_begins_knows_how_things_are() {
    let mut lone = Host::lone(300);
    lone.node.handle(lone.now, Input::Room { is_there: false });
    lone.turn();
    lone.add(301, 1);
    assert!(!lone.node.raft(GroupId(301)).unwrap().has_room());
    lone.until_all_is_told();
    assert!((1..=301).all(|group| !lone.node.raft(GroupId(group)).unwrap().has_room()));
}

/// A thousand groups may be due at once. No turn has more of them than it can do in a short time.
#[test]
fn alarms_are_spread_over_turns() {
    let mut host = Host::new(1000, 3, None);
    host.turns();
    host.now = host.now + Duration::from_secs(10);
    let standing = |host: &Host| {
        let role = |group| host.node.raft(GroupId(group)).unwrap().role_state().role;
        (1..=1000).filter(|group| role(*group) == RoleName::PreCandidate).count()
    };
    let mut before = 0;
    while host.node.deadline() <= host.now {
        host.turn();
        let after = standing(&host);
        assert!(after > before && after <= before + ALARMS_A_TURN, "{before}, then {after}");
        before = after;
    }
    assert_eq!(before, 1000);
}

#[test]
fn a_deadline_touches_the_groups_whose_it_is() {
    let mut host = Host::new(300, 3, None);
    host.turns();
    let (due, deadline) = host.deadlines().into_iter().min_by_key(|(_, deadline)| *deadline).unwrap();
    host.now = deadline;
    host.node.ring(deadline);
    assert_eq!(host.node.dirty, [due]);
    host.turns();
    assert!(host.node.deadline() > deadline);
}

/// The heap of deadlines against a look at every group, over schedules of chance.
#[test]
fn no_deadline_is_missed() {
    for seed in 0..12 {
        let rng = &mut Rng::new(seed);
        let mut below = |bound: u64| rng.between(Duration::ZERO, Duration::from_nanos(bound)).as_nanos() as u64;
        let groups = 1 + below(400);
        let voters = if below(2) == 0 { 1 } else { 3 };
        let sleep_after = (below(2) == 0).then_some(Duration::from_millis(300));
        let mut host = Host::new(groups, voters, sleep_after);
        for _ in 0..400 {
            let group = 1 + below(groups);
            match below(8) {
                0 | 1 => host.propose(group, 10),
                2 => {
                    let read = host.sequence + 1_000_000;
                    host.node.handle(host.now, Input::Read { group: GroupId(group), read });
                }
                3 => host.node.handle(host.now, Input::Connected { peer: NodeId(2), disk: 12, reads_shared: true }),
                4 => host.node.handle(host.now, Input::Lost { peer: NodeId(2) }),
                5 => host.report(),
                6 => host.node.handle(host.now, Input::Close { group: GroupId(group), remove: false }),
                _ => {}
            }
            host.turn();
            while host.node.deadline() <= host.now {
                host.turn();
            }
            let next = host.deadlines().into_iter().map(|(_, deadline)| deadline).min().unwrap_or(Time::NEVER);
            let told = host.node.deadline();
            assert!(told <= next, "seed {seed}: {told:?} is told, and {next:?} is the next");
            assert!(next > host.now, "seed {seed}: a turn leaves nothing behind that is due");
            assert_eq!(host.recent_bytes().iter().sum::<usize>(), host.node.recent_bytes, "seed {seed}");
            host.now = match below(3) {
                0 => host.now.max(told.min(host.now + Duration::from_secs(2))),
                1 => host.now + Duration::from_micros(below(1_500_000)),
                _ => host.now,
            };
        }
    }
}

/// Most of what wakes a node is a group's deadline.
#[test]
fn few_looks_at_a_deadline_are_too_early() {
    let mut host = Host::new(100, 3, None);
    host.turns();
    let (mut looks, mut early) = (0, 0);
    for _ in 0..500 {
        host.now = host.node.deadline();
        let is_due = host.deadlines().iter().any(|(_, deadline)| *deadline <= host.now);
        looks += 1;
        early += usize::from(!is_due);
        host.turn();
    }
    assert!(early * 2 <= looks, "{early} of {looks}");
}

#[test]
fn a_group_is_known_from_when_it_is_added_until_it_is_closed() {
    let lone = Host::lone(2);
    assert_eq!(lone.node.groups().collect::<Vec<_>>(), [GroupId(1), GroupId(2)]);
    let members = lone.node.members(GroupId(1)).unwrap();
    assert_eq!(members.address(NodeId(1)), "n1:1");
    assert_eq!(lone.node.members(GroupId(3)), None);
    let at = lone.node.members_at(GroupId(1), LogIndex::ZERO).unwrap();
    assert_eq!((at.at, at.entry.members.disk(NodeId(1))), (LogIndex::ZERO, 0), "its disk was written down later");
    let last = lone.node.raft(GroupId(1)).unwrap().log().last();
    assert_eq!(lone.node.members_at(GroupId(1), last).unwrap().entry.members.disk(NodeId(1)), 11);
    assert_eq!(lone.node.members_at(GroupId(3), last), None);
}

#[test]
#[should_panic(expected = "begun once")]
fn a_group_is_begun_once() {
    let mut host = Host::new(1, 1, None);
    let again = NewGroup {
        begin: Begin {
            group: GroupId(1),
            config: Config::new(NodeId(1)).into(),
            members: Members::default(),
            recovered: GroupState::default(),
            damaged: None,
            applied: LogId::ZERO,
            limits: Limits::default(),
            forwards: true,
            shares_entries: true,
            origin: 1,
            seed: 1,
        },
        begun: Begun { durable: LogId::ZERO, saved: LogId::ZERO, makes_snapshots: false, wants_time: false },
    };
    let _ = host.node.add(Time::default(), again);
}
