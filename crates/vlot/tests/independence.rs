//! Trouble stays where it is: a state machine that sleeps, panics or cannot read its log stops, at worst, its own replica,
//! and every call gets an honest answer in time.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use vlot::net::Listen;
use vlot::{
    BadCommand, Class, Command, Fence, Group, GroupError, GroupId, LogId, MemberChange, Node, NodeId, Options,
    ProposeError, ReadError, RoleName, StateMachine,
};

/// What the state machine of these tests is told.
#[derive(Clone, Debug)]
enum Do {
    Add(u64),
    /// The same, and does not give way.
    AddAtOnce(u64),
    /// Stands still for so many milliseconds.
    Sleep(u64),
    Panic,
    /// Encodes as bytes that nothing can read.
    Garbage,
    /// Can be read until [`FORGET`] is set: of a newer version.
    Newer,
}

static FORGET: AtomicBool = AtomicBool::new(false);

impl Command for Do {
    fn encode(&self, buffer: &mut BytesMut) {
        let (tag, number) = match self {
            Self::Add(more) => (0, *more),
            Self::Sleep(millis) => (1, *millis),
            Self::Panic => (2, 0),
            Self::Garbage => (9, 0),
            Self::Newer => (3, 0),
            Self::AddAtOnce(more) => (4, *more),
        };
        buffer.put_u8(tag);
        buffer.put_u64(number);
    }

    fn decode(mut bytes: Bytes) -> Result<Self, BadCommand> {
        let tag = bytes.try_get_u8().map_err(|error| BadCommand(error.to_string()))?;
        let number = bytes.try_get_u64().map_err(|error| BadCommand(error.to_string()))?;
        match tag {
            0 => Ok(Self::Add(number)),
            1 => Ok(Self::Sleep(number)),
            2 => Ok(Self::Panic),
            3 if !FORGET.load(Relaxed) => Ok(Self::Newer),
            4 => Ok(Self::AddAtOnce(number)),
            tag => Err(BadCommand(format!("no command has the tag {tag}"))),
        }
    }

    fn class(&self) -> Class {
        if matches!(self, Self::AddAtOnce(_)) { Class::Urgent } else { Class::Bulk }
    }
}

#[derive(Default)]
struct Sum(u64);

impl StateMachine for Sum {
    type Command = Do;
    type Reply = u64;

    fn apply(&mut self, _: LogId, command: Do) -> u64 {
        match command {
            Do::Add(more) | Do::AddAtOnce(more) => self.0 += more,
            Do::Sleep(millis) => std::thread::sleep(Duration::from_millis(millis)),
            Do::Panic => panic!("a bug of the program's"),
            Do::Garbage | Do::Newer => {}
        }
        self.0
    }
}

/// Long enough for a machine that does much else.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(1);
/// For what must come at all.
const SOON: Duration = Duration::from_secs(15);

/// Nodes on loopback, each in its own folder.
struct Cluster {
    dir: PathBuf,
    addresses: BTreeMap<NodeId, String>,
    configure: fn(&mut Options),
    nodes: BTreeMap<u64, Node>,
}

impl Cluster {
    async fn start(name: &str, count: u64) -> Self {
        Self::start_with(name, count, |_| {}).await
    }

    async fn start_with(name: &str, count: u64, configure: fn(&mut Options)) -> Self {
        let dir = std::env::temp_dir().join(format!("vlot-independence-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let listeners: BTreeMap<u64, TcpListener> =
            (1..=count).map(|node| (node, TcpListener::bind("127.0.0.1:0").unwrap())).collect();
        let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
        let addresses = listeners.iter().map(|(node, listener)| (NodeId(*node), address(listener))).collect();
        let mut cluster = Self { dir, addresses, configure, nodes: BTreeMap::new() };
        for (node, listener) in listeners {
            cluster.open(node, Listen::On(listener)).await;
        }
        cluster
    }

    async fn open(&mut self, node: u64, listen: Listen) {
        let mut options = Options::new(self.dir.join(node.to_string()));
        options.node = NodeId(node);
        options.listen = listen;
        options.peers = self.addresses.clone();
        options.heartbeat = ELECTION_TIMEOUT / 10;
        options.election_timeout = ELECTION_TIMEOUT;
        options.group.timeout = Duration::from_secs(6);
        options.apply_bytes_max = 8 << 10;
        (self.configure)(&mut options);
        self.nodes.insert(node, Node::open(options).await.unwrap());
    }

    async fn group(&self, group: u64) -> Vec<Group<Sum>> {
        let mut groups = Vec::new();
        for node in self.nodes.values() {
            let voters = self.addresses.keys().copied();
            groups.push(node.group(GroupId(group), voters, Sum::default()).await.unwrap());
        }
        groups
    }

    async fn end(mut self) {
        while let Some((_, node)) = self.nodes.pop_first() {
            node.shutdown().await;
        }
        std::fs::remove_dir_all(self.dir).unwrap();
    }
}

async fn leader(groups: &[Group<Sum>]) -> usize {
    loop {
        let leads = |group: &Group<Sum>| group.status().role_state.role == RoleName::Leader;
        if let Some(at) = groups.iter().position(leads) {
            return at;
        }
        pause().await;
    }
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(5)).await;
}

async fn within<T>(time: Duration, what: impl Future<Output = T>) -> T {
    tokio::time::timeout(time, what).await.expect("an answer in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_is_taken_up_after_the_connections_stand_has_its_followers_proposals_decided() {
    let cluster = Cluster::start("late", 3).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let groups = cluster.group(1).await;
    leader(&groups).await;
    for (node, group) in groups.iter().enumerate() {
        assert_eq!(within(SOON, group.propose(Do::Add(1))).await, Ok(node as u64 + 1));
        let change = vec![MemberChange::AddLearner {
            node: NodeId(9 + node as u64),
            address: format!("127.0.0.1:{}", node + 1),
        }];
        let changed = within(SOON, async {
            while group.change_members(change.clone(), Bytes::new()).await.is_err() {
                pause().await;
            }
        });
        changed.await;
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_apply_stops_that_replica_and_says_so() {
    let cluster = Cluster::start("panic", 1).await;
    let [group] = &cluster.group(1).await[..] else { panic!("one node") };
    let [other] = &cluster.group(2).await[..] else { panic!("one node") };
    assert_eq!(group.propose(Do::Add(1)).await, Ok(1));
    let begun = Instant::now();
    // It may or may not have been applied: the panic does not tell.
    assert_eq!(group.propose(Do::Panic).await, Err(ProposeError::Unknown));
    assert_eq!(group.propose(Do::Add(1)).await, Err(ProposeError::Fenced));
    assert_eq!(group.read(|sum| sum.0).await, Err(ReadError::Fenced));
    assert_eq!(group.look(|sum| sum.0).await, Err(ReadError::Fenced));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let why = group.status().fenced.expect("a reason");
    assert!(matches!(&*why, Fence::Panicked { message, .. } if message == "a bug of the program's"), "{why}");
    assert_eq!(other.propose(Do::Add(5)).await, Ok(5), "the other group goes on");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_shutdown_every_call_is_answered_at_once_and_nothing_is_kept() {
    let mut cluster = Cluster::start("shutdown", 1).await;
    let [group] = &cluster.group(1).await[..] else { panic!("one node") };
    assert_eq!(group.propose(Do::Add(1)).await, Ok(1));
    let node = cluster.nodes.remove(&1).unwrap();
    let waiting = tokio::spawn({
        let group = group.clone();
        async move { group.propose(Do::Sleep(300)).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    node.shutdown().await;
    assert!(matches!(waiting.await.unwrap(), Err(ProposeError::Stopped | ProposeError::Unknown)));
    let begun = Instant::now();
    let before = resident_mib();
    for _ in 0..500 {
        assert_eq!(group.propose(Do::Add(1)).await, Err(ProposeError::Stopped));
    }
    assert_eq!(group.barrier().await, Err(ReadError::Stopped));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(resident_mib() < before + 20, "{before} -> {} MiB", resident_mib());
    let status = group.status();
    assert!(!status.is_open && status.role_state.role == RoleName::Follower && status.role_state.leader.is_none());
    assert_eq!(group.proposals_waiting(), 0);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_ends_says_so() {
    let cluster = Cluster::start("failed", 1).await;
    let node = &cluster.nodes[&1];
    let failed = node.failed();
    tokio::select! {
        why = failed => panic!("{why}"),
        () = tokio::time::sleep(Duration::from_millis(50)) => {}
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_removes_itself_is_told_that_it_is_done() {
    let cluster = Cluster::start("leaves", 3).await;
    let groups = cluster.group(1).await;
    let at = leader(&groups).await;
    let own = NodeId(at as u64 + 1);
    let removed = async {
        while let Err(why) = groups[at].change_members(vec![MemberChange::Remove(own)], Bytes::new()).await {
            assert!(matches!(why, vlot::ChangeError::Refused(_)), "{why}");
            pause().await;
        }
    };
    within(SOON, removed).await;
    let shown = async {
        while groups[at].members().borrow().iter().any(|(member, _)| member.node == own) {
            pause().await;
        }
    };
    within(SOON, shown).await;
    assert!(groups[at].status().is_removed);
    assert_eq!(groups[at].propose(Do::Add(1)).await, Err(ProposeError::NotAMember));
    assert_eq!(within(SOON, groups[(at + 1) % 3].propose(Do::Add(1))).await, Ok(1));
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_back_is_not_proposed() {
    let cluster = Cluster::start("garbage", 1).await;
    let [group] = &cluster.group(1).await[..] else { panic!("one node") };
    assert!(matches!(group.propose(Do::Garbage).await, Err(ProposeError::Invalid(_))));
    assert_eq!(group.propose(Do::Add(1)).await, Ok(1));
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_this_program_does_not_know_stops_one_group() {
    let mut cluster = Cluster::start("newer", 3).await;
    let groups = cluster.group(1).await;
    assert_eq!(groups[0].propose(Do::Add(1)).await, Ok(1));
    assert_eq!(groups[0].propose(Do::Newer).await, Ok(1));
    // The program is started in an older version.
    for node in 1..=3 {
        cluster.nodes.remove(&node).unwrap().shutdown().await;
    }
    FORGET.store(true, Relaxed);
    for node in 1..=3 {
        let address = cluster.addresses[&NodeId(node)].clone();
        cluster.open(node, Listen::At(address)).await;
    }
    let (groups, others) = (cluster.group(1).await, cluster.group(2).await);
    let fenced = async {
        while !groups.iter().all(|group| group.status().fenced.is_some()) {
            pause().await;
        }
    };
    within(SOON, fenced).await;
    let why = groups[2].status().fenced.unwrap();
    assert!(matches!(&*why, Fence::UnknownCommand { .. }), "{why}");
    assert_eq!(within(SOON, others[1].propose(Do::Add(7))).await, Ok(7));
    // And in one that knows it again.
    let node = &cluster.nodes[&1];
    node.close(GroupId(1)).await.unwrap();
    FORGET.store(false, Relaxed);
    let again = node.group(GroupId(1), cluster.addresses.keys().copied(), Sum::default()).await.unwrap();
    let read = async {
        while again.look(|sum| sum.0).await != Ok(1) {
            pause().await;
        }
    };
    within(SOON, read).await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_machine_that_sleeps_holds_up_its_own_group_alone() {
    let cluster = Cluster::start("sleeps", 3).await;
    let (slow, quick) = (cluster.group(1).await, cluster.group(2).await);
    leader(&slow).await;
    let at = leader(&quick).await;
    assert_eq!(quick[at].propose(Do::Add(1)).await, Ok(1));
    let term = quick[at].status().role_state.term;
    let sleeper = tokio::spawn({
        let group = slow[0].clone();
        async move { group.propose(Do::Sleep(2500)).await }
    });
    let begun = Instant::now();
    let mut longest = Duration::ZERO;
    for n in 0.. {
        let asked = Instant::now();
        quick[n % 3].propose(Do::Add(1)).await.unwrap();
        longest = longest.max(asked.elapsed());
        if begun.elapsed() > Duration::from_millis(2500) {
            break;
        }
        pause().await;
    }
    assert!(longest < 2 * ELECTION_TIMEOUT, "{longest:?}");
    assert_eq!(quick[at].status().role_state.term, term, "no election");
    // All of the group sleep, so none of them should lead; what was decided stays.
    drop(sleeper.await.unwrap());
    assert_eq!(within(SOON, slow[1].propose(Do::Add(1))).await, Ok(1));
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_long_read_holds_up_neither_heartbeats_nor_others() {
    let cluster = Cluster::start("reads", 3).await;
    let groups = cluster.group(1).await;
    let at = leader(&groups).await;
    groups[at].propose(Do::Add(1)).await.unwrap();
    let term = groups[at].status().role_state.term;
    let other = (at + 1) % 3;
    let reader = tokio::spawn({
        let group = groups[other].clone();
        async move { group.look(|_| std::thread::sleep(Duration::from_millis(2500))).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    for _ in 0..50 {
        within(SOON, groups[at].propose(Do::Add(1))).await.unwrap();
    }
    reader.await.unwrap().unwrap();
    assert_eq!(groups[at].status().role_state.term, term, "no election");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_can_have_taken_is_not_unknown() {
    let mut cluster = Cluster::start("certain", 3).await;
    for node in 2..=3 {
        cluster.nodes.remove(&node).unwrap().shutdown().await;
    }
    let group = cluster.nodes[&1].group(GroupId(1), (1..=3).map(NodeId), Sum::default()).await.unwrap();
    assert_eq!(within(SOON, group.propose(Do::Add(1))).await, Err(ProposeError::NoLeader));
    assert_eq!(within(SOON, group.barrier()).await, Err(ReadError::TimedOut));
    let outside = cluster.nodes[&1].group(GroupId(2), [NodeId(2), NodeId(3)], Sum::default()).await;
    assert!(matches!(outside, Err(GroupError::NotAVoter { .. })));
    let joins = cluster.nodes[&1].group(GroupId(3), [], Sum::default()).await.unwrap();
    assert_eq!(within(SOON, joins.propose(Do::Add(1))).await, Err(ProposeError::NoLeader));
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_is_bounded_and_worked_off() {
    let cluster = Cluster::start("busy", 1).await;
    let [group] = &cluster.group(1).await[..] else { panic!("one node") };
    let sleeper = tokio::spawn({
        let group = group.clone();
        async move { group.propose(Do::Sleep(800)).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut waiting = tokio::task::JoinSet::new();
    let mut was_busy = false;
    for _ in 0..10_000 {
        let mut proposal = Box::pin({
            let group = group.clone();
            async move { group.propose(Do::Add(1)).await }
        });
        tokio::select! {
            biased;
            answer = &mut proposal => {
                was_busy |= answer == Err(ProposeError::Busy);
                if was_busy { break; }
            }
            () = tokio::time::sleep(Duration::from_micros(50)) => drop(waiting.spawn(proposal)),
        }
    }
    assert!(was_busy, "{} were taken", waiting.len());
    let urgent = tokio::spawn({
        let group = group.clone();
        async move { group.propose(Do::AddAtOnce(1)).await }
    });
    sleeper.await.unwrap().unwrap();
    urgent.await.unwrap().expect("what is urgent is taken");
    let mut applied = 1;
    while let Some(answer) = waiting.join_next().await {
        match answer.unwrap() {
            Ok(_) => applied += 1,
            Err(why) => assert_eq!(why, ProposeError::Busy),
        }
    }
    assert_eq!(group.read(|sum| sum.0).await, Ok(applied));
    cluster.end().await;
}

/// Of what may wait on a node, bulk takes seven eighths at most.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_leaves_room_for_what_is_urgent() {
    let cluster = Cluster::start_with("room", 1, |options| options.group.waiting_bytes_max = 1024).await;
    let [group] = &cluster.group(1).await[..] else { panic!("one node") };
    let mut sleeping = tokio::task::JoinSet::new();
    let propose = |command: Do| {
        let group = group.clone();
        async move { group.propose(command).await }
    };
    sleeping.spawn(propose(Do::Sleep(800)));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let taken_of = async |waiting: &mut tokio::task::JoinSet<_>, command: fn(u64) -> Do| {
        for taken in 0..1024 {
            let mut proposal = Box::pin(propose(command(1)));
            tokio::select! {
                biased;
                answer = &mut proposal => {
                    assert_eq!(answer, Err(ProposeError::Busy));
                    return taken;
                }
                () = tokio::time::sleep(Duration::from_millis(1)) => drop(waiting.spawn(proposal)),
            }
        }
        panic!("there is a bound");
    };
    let mut waiting = tokio::task::JoinSet::new();
    let bulk: u64 = taken_of(&mut waiting, Do::Add).await;
    let urgent = taken_of(&mut waiting, Do::AddAtOnce).await;
    // Each takes some 26 bytes.
    assert!((30..36).contains(&bulk) && (4..7).contains(&urgent), "{bulk} and {urgent}");
    while let Some(answer) = waiting.join_next().await {
        answer.unwrap().unwrap();
    }
    assert_eq!(group.read(|sum| sum.0).await, Ok(bulk + urgent));
    assert_eq!(group.propose(Do::Add(1)).await, Ok(bulk + urgent + 1), "there is room again");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_closed_and_taken_up_again() {
    let cluster = Cluster::start("close", 1).await;
    let node = &cluster.nodes[&1];
    let group = node.group(GroupId(1), [NodeId(1)], Sum::default()).await.unwrap();
    assert!(matches!(node.group(GroupId(1), [NodeId(1)], Sum::default()).await, Err(GroupError::AlreadyOpen)));
    assert_eq!(group.propose(Do::Add(3)).await, Ok(3));
    assert_eq!(node.groups(), [(GroupId(1), true)]);
    node.close(GroupId(1)).await.unwrap();
    assert_eq!(node.groups(), [(GroupId(1), false)]);
    assert!(!group.status().is_open);
    assert_eq!(within(SOON, group.propose(Do::Add(1))).await, Err(ProposeError::Stopped));
    let again = node.group(GroupId(1), [NodeId(1)], Sum::default()).await.unwrap();
    assert_eq!(again.propose(Do::Add(4)).await, Ok(7), "the log has what came before");
    assert!(node.close(GroupId(2)).await.is_err());
    node.remove(GroupId(1)).await.unwrap();
    assert_eq!(node.groups(), []);
    let anew = node.group(GroupId(1), [NodeId(1)], Sum::default()).await.unwrap();
    assert_eq!(anew.propose(Do::Add(1)).await, Ok(1), "nothing is left of it");
    cluster.end().await;
}

/// Whichever node is the first to stand: in the end each leads as many groups as the others, and a node that comes back
/// gets its groups again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_are_spread_over_the_nodes() {
    let mut cluster = Cluster::start_with("balance", 3, |options| options.balance_leaders = true).await;
    let mut groups = Vec::new();
    for id in 1..=9 {
        groups.push(cluster.group(id).await);
    }
    // Group 1 is led by the second node, group 3 by the first.
    for (id, group) in (1..).zip(&groups) {
        within(SOON, leader(&group[id % 3..=id % 3])).await;
    }
    cluster.nodes.remove(&1).unwrap().shutdown().await;
    let group = &groups[2];
    let others = within(SOON, leader(&group[1..])).await;
    assert_eq!(group[1 + others].propose(Do::Add(1)).await, Ok(1), "group 3 has another leader");
    let address = cluster.addresses[&NodeId(1)].clone();
    cluster.open(1, Listen::At(address)).await;
    let voters = cluster.addresses.keys().copied();
    let again = cluster.nodes[&1].group(GroupId(3), voters, Sum::default()).await.unwrap();
    within(SOON, leader(std::slice::from_ref(&again))).await;
    cluster.end().await;
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}
