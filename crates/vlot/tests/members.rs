//! Members come and go in a cluster of real nodes on loopback: what was acknowledged is everywhere it should be.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use vlot::end::{Ended, Stop};
use vlot::net::Listen;
use vlot::{
    BadSnapshot, ChangeError, ChangeRefused, Group, GroupEvent, GroupId, LogId, MemberChange, Node, NodeId, Options,
    PlanRefused, Replacing, RoleName, Seat, Snapshot, StateMachine, TransferError, TransferRefused, Warning,
};

/// Counts what it was given, and lives in memory alone.
#[derive(Clone, Default)]
struct Sum {
    at: LogId,
    sum: u64,
    /// What came with each change of members.
    changes: Vec<String>,
}

impl StateMachine for Sum {
    type Command = u64;
    type Reply = u64;

    fn apply(&mut self, at: LogId, more: u64) -> u64 {
        self.at = at;
        self.sum += more;
        self.sum
    }

    fn skip(&mut self, at: LogId) {
        self.at = at;
    }

    fn members_changed(&mut self, at: LogId, _: &vlot::Members, context: Bytes) {
        self.at = at;
        if !context.is_empty() {
            self.changes.push(String::from_utf8_lossy(&context).into_owned());
        }
    }

    fn snapshot(&self) -> Option<Box<dyn Snapshot>> {
        Some(Box::new(self.clone()))
    }

    fn restore(&mut self, at: LogId, from: &mut dyn Read) -> Result<(), BadSnapshot> {
        let mut text = String::new();
        from.read_to_string(&mut text).map_err(|error| BadSnapshot(error.to_string()))?;
        let mut lines = text.lines();
        let sum = lines.next().and_then(|sum| sum.parse().ok()).ok_or_else(|| BadSnapshot(text.clone()))?;
        *self = Self { at, sum, changes: lines.map(str::to_owned).collect() };
        Ok(())
    }
}

impl Snapshot for Sum {
    fn at(&self) -> LogId {
        self.at
    }

    fn write_to(&mut self, out: &mut dyn Write) -> std::io::Result<()> {
        writeln!(out, "{}", self.sum)?;
        self.changes.iter().try_for_each(|change| writeln!(out, "{change}"))
    }
}

const GROUP: GroupId = GroupId(1);

/// Nodes by their numbers, each on its own port and in its own folder.
struct Cluster {
    dir: PathBuf,
    addresses: BTreeMap<NodeId, String>,
    listeners: BTreeMap<NodeId, TcpListener>,
    up: BTreeMap<NodeId, (Node, Group<Sum>)>,
}

impl Cluster {
    fn new(name: &str, count: u64) -> Self {
        let dir = std::env::temp_dir().join(format!("vlot-members-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let listeners: BTreeMap<_, _> =
            (1..=count).map(|n| (NodeId(n), TcpListener::bind("127.0.0.1:0").unwrap())).collect();
        let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
        let addresses = listeners.iter().map(|(node, listener)| (*node, address(listener))).collect();
        Self { dir, addresses, listeners, up: BTreeMap::new() }
    }

    fn address(&self, node: u64) -> String {
        self.addresses[&NodeId(node)].clone()
    }

    /// Starts a node; `first` are the group's first members, nobody for one that joins.
    async fn start(&mut self, node: u64, first: &[u64]) {
        let id = NodeId(node);
        let mut options = Options::new(self.dir.join(node.to_string()));
        options.node = id;
        options.listen = match self.listeners.remove(&id) {
            Some(listener) => Listen::On(listener),
            None => Listen::At(self.address(node)),
        };
        // Who joins knows nobody: the leader comes to it, and says where it listens.
        options.peers = first.iter().map(|&n| (NodeId(n), self.address(n))).collect();
        options.heartbeat = Duration::from_millis(30);
        options.election_timeout = Duration::from_millis(300);
        options.log.segment_bytes = 1 << 16;
        options.retention =
            vlot::retention::Limits { entries: 50, bytes: 1 << 20, entries_kept: 10, bytes_kept: 1 << 20 };
        let node = Node::open(options).await.unwrap();
        let group = node.group(GROUP, first.iter().map(|&n| NodeId(n)), Sum::default()).await.unwrap();
        self.up.insert(id, (node, group));
    }

    async fn stop(&mut self, node: u64) {
        let (node, _) = self.up.remove(&NodeId(node)).unwrap();
        node.shutdown().await;
    }

    fn group(&self, node: u64) -> Group<Sum> {
        self.up[&NodeId(node)].1.clone()
    }

    async fn sum(&self, node: u64) -> u64 {
        self.group(node).look(|state| state.sum).await.unwrap()
    }

    /// Who leads, once somebody does.
    async fn leader(&self) -> u64 {
        loop {
            let leads = |(_, group): &&(Node, Group<Sum>)| group.status().role_state.role == RoleName::Leader;
            if let Some((_, group)) = self.up.values().find(leads) {
                return group.status().role_state.leader.unwrap().0;
            }
            pause().await;
        }
    }

    /// Waits until a node has applied everything that makes this sum.
    async fn wait_for_sum(&self, node: u64, sum: u64) {
        let begun = std::time::Instant::now();
        while self.sum(node).await != sum {
            let found = self.sum(node).await;
            assert!(begun.elapsed() < Duration::from_secs(20), "node {node} has {found}, not {sum}");
            pause().await;
        }
    }

    /// Changes members, again while the leader has reasons that pass.
    async fn change(&self, via: u64, changes: Vec<MemberChange>, context: &'static str) {
        for _ in 0..200 {
            match self.group(via).change_members(changes.clone(), Bytes::from_static(context.as_bytes())).await {
                Ok(()) => return,
                Err(ChangeError::Refused(
                    ChangeRefused::NotCaughtUp { .. }
                    | ChangeRefused::TooSoon
                    | ChangeRefused::NotLeader { .. }
                    | ChangeRefused::InProgress
                    | ChangeRefused::Transferring { .. },
                )) => pause().await,
                Err(error) => panic!("{context}: {error}"),
            }
        }
        panic!("{context} is refused for ever");
    }

    async fn end(mut self) {
        for (node, _) in std::mem::take(&mut self.up).into_values() {
            node.shutdown().await;
        }
        std::fs::remove_dir_all(&self.dir).unwrap();
    }
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

fn learner(cluster: &Cluster, node: u64) -> MemberChange {
    MemberChange::AddLearner { node: NodeId(node), address: cluster.address(node) }
}

#[tokio::test]
async fn three_nodes_become_five_and_three_again() {
    let mut cluster = Cluster::new("five", 5);
    for node in 1..=3 {
        cluster.start(node, &[1, 2, 3]).await;
    }
    let mut sum = 0;
    for more in 1..=100 {
        sum += more;
        assert_eq!(cluster.group(more % 3 + 1).propose(more).await, Ok(sum));
    }
    // The log was cut before they come: they get a snapshot.
    for node in [4, 5] {
        cluster.start(node, &[]).await;
        cluster.change(1, vec![learner(&cluster, node)], "learn").await;
        cluster.wait_for_sum(node, sum).await;
        cluster.change(2, vec![MemberChange::Promote(NodeId(node))], "promote").await;
    }
    assert_eq!(cluster.group(5).propose(1).await, Ok(sum + 1));
    sum += 1;

    // Both leave in one step, the leader among them.
    let leader = cluster.leader().await;
    let other = (1..=3).find(|&node| node != leader).unwrap();
    let gone = vec![MemberChange::Remove(NodeId(leader)), MemberChange::Remove(NodeId(other))];
    let via = (1..=5).find(|node| ![leader, other].contains(node)).unwrap();
    cluster.change(via, gone, "shrink").await;
    let members = cluster.group(via).members().borrow().clone();
    assert_eq!(members.iter().count(), 3);
    assert!(members.iter().all(|(member, _)| member.seat == Seat::Voter && ![leader, other].contains(&member.node.0)));
    cluster.stop(leader).await;
    cluster.stop(other).await;
    sum += 7;
    assert_eq!(cluster.group(via).propose(7).await, Ok(sum));

    // Who restarts knows the members from its log, whatever it is told.
    cluster.stop(5).await;
    cluster.start(5, &[]).await;
    cluster.wait_for_sum(5, sum).await;
    let changes = cluster.group(5).look(|state| state.changes.clone()).await.unwrap();
    assert_eq!(changes, ["learn", "promote", "learn", "promote", "shrink"]);
    cluster.end().await;
}

/// What comes with a change is kept where the log begins, and with every snapshot: as much as fits there is all that may come.
#[tokio::test]
async fn what_a_change_brings_along_is_bounded() {
    let mut cluster = Cluster::new("bounded", 1);
    cluster.start(1, &[1]).await;
    let group = cluster.group(1);
    let change = |address: String| vec![MemberChange::AddLearner { node: NodeId(7), address }];
    for (address_bytes, context_bytes, expected) in [
        (301, 0, Err(ChangeError::TooLarge)),
        (300, (64 << 10) + 1, Err(ChangeError::TooLarge)),
        (300, 2 << 20, Err(ChangeError::TooLarge)),
        (300, 64 << 10, Ok(())),
    ] {
        let context = Bytes::from(vec![b'x'; context_bytes]);
        let mut outcome = group.change_members(change("a".repeat(address_bytes)), context.clone()).await;
        while let Err(ChangeError::Refused(_)) = outcome {
            pause().await;
            outcome = group.change_members(change("a".repeat(address_bytes)), context.clone()).await;
        }
        assert_eq!(outcome, expected, "{address_bytes} and {context_bytes}");
    }
    // The log is cut after it, and the node goes on.
    for more in 1..=200 {
        assert_eq!(group.propose(1).await, Ok(more));
    }
    cluster.end().await;
}

#[tokio::test]
async fn a_node_that_was_away_for_long_gets_a_snapshot_while_writes_go_on() {
    let mut cluster = Cluster::new("away", 3);
    for node in 1..=3 {
        cluster.start(node, &[1, 2, 3]).await;
    }
    cluster.leader().await;
    assert_eq!(cluster.group(1).propose(1).await, Ok(1));
    cluster.stop(3).await;
    let mut sum = 1;
    for more in 1..=300 {
        sum += more;
        assert_eq!(cluster.group(1).propose(more).await, Ok(sum));
    }
    let mut sent = [1, 2].map(|node| cluster.group(node).events());
    cluster.start(3, &[1, 2, 3]).await;
    let mut restored = cluster.group(3).events();
    for more in 1..=100 {
        sum += more;
        assert_eq!(cluster.group(2).propose(more).await, Ok(sum));
    }
    cluster.wait_for_sum(3, sum).await;
    let saw = |events: &mut tokio::sync::broadcast::Receiver<GroupEvent>, wanted: fn(&GroupEvent) -> bool| {
        std::iter::from_fn(|| events.try_recv().ok()).any(|happening| wanted(&happening))
    };
    assert!(saw(&mut restored, |h| matches!(h, GroupEvent::SnapshotRestored { .. })));
    assert!(
        sent.iter_mut().any(|sent| saw(sent, |h| matches!(h, GroupEvent::SnapshotSent { .. }))),
        "one of the others"
    );
    cluster.end().await;
}

#[tokio::test]
async fn the_leadership_is_handed_over() {
    let mut cluster = Cluster::new("transfer", 3);
    for node in 1..=3 {
        cluster.start(node, &[1, 2, 3]).await;
    }
    let leader = cluster.leader().await;
    let next = leader % 3 + 1;
    assert_eq!(cluster.group(leader).propose(5).await, Ok(5));
    let refused = cluster.group(next).transfer_leadership(None).await;
    assert!(matches!(refused, Err(TransferError::Refused(TransferRefused::NotLeader { .. }))), "{refused:?}");
    let refused = cluster.group(leader).transfer_leadership(Some(NodeId(9))).await;
    assert_eq!(refused, Err(TransferError::Refused(TransferRefused::CannotLead { node: NodeId(9) })));
    assert_eq!(cluster.group(leader).transfer_leadership(Some(NodeId(next))).await, Ok(()));
    assert_eq!(cluster.leader().await, next);
    assert_eq!(cluster.group(leader).propose(6).await, Ok(11));
    cluster.end().await;
}

#[tokio::test]
async fn a_node_that_has_lost_its_disk_knows_it_and_is_kept_out() {
    let mut cluster = Cluster::new("disk", 3);
    for node in 1..=3 {
        cluster.start(node, &[1, 2, 3]).await;
    }
    assert_eq!(cluster.group(1).propose(1).await, Ok(1));
    let known = |group: &Group<Sum>| group.members().borrow().disks().count();
    while (1..=3).any(|node| known(&cluster.group(node)) < 3) {
        pause().await;
    }
    let leader = cluster.leader().await;
    let lost = leader % 3 + 1;
    cluster.stop(lost).await;
    std::fs::remove_dir_all(cluster.dir.join(lost.to_string())).unwrap();
    cluster.start(lost, &[1, 2, 3]).await;
    let why = tokio::time::timeout(Duration::from_secs(10), cluster.up[&NodeId(lost)].0.failed()).await.unwrap();
    assert_eq!(why, Ended::MustStop(Stop::OtherDisk));
    assert!(why.to_string().contains("remove the member and add it again"), "{why}");
    assert_eq!(cluster.group(leader).propose(2).await, Ok(3), "the others go on");

    // Removed and added again it is another, and welcome.
    cluster.stop(lost).await;
    cluster.change(leader, vec![MemberChange::Remove(NodeId(lost))], "remove").await;
    std::fs::remove_dir_all(cluster.dir.join(lost.to_string())).unwrap();
    cluster.start(lost, &[]).await;
    cluster.change(leader, vec![learner(&cluster, lost)], "add").await;
    cluster.change(leader, vec![MemberChange::Promote(NodeId(lost))], "promote").await;
    cluster.wait_for_sum(lost, 3).await;
    cluster.end().await;
}

#[tokio::test]
async fn nobody_calls_where_a_member_was_removed() {
    let mut cluster = Cluster::new("silence", 3);
    for node in 1..=3 {
        cluster.start(node, &[1, 2, 3]).await;
    }
    let leader = cluster.leader().await;
    let gone = leader % 3 + 1;
    cluster.change(leader, vec![MemberChange::Remove(NodeId(gone))], "remove").await;
    cluster.stop(gone).await;
    // Longer than any pause between two attempts to reach it, which may be under way still.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let listener = tokio::net::TcpListener::bind(cluster.address(gone)).await.unwrap();
    let called = tokio::time::timeout(Duration::from_millis(2500), listener.accept()).await;
    assert!(called.is_err(), "{called:?}");
    cluster.end().await;
}

#[tokio::test]
async fn a_member_that_is_to_move_serves_on_until_it_does() {
    let mut cluster = Cluster::new("move", 3);
    for node in 1..=3 {
        cluster.start(node, &[1, 2, 3]).await;
    }
    let leader = cluster.leader().await;
    let term = cluster.group(leader).status().role_state.term;
    // Nobody listens there yet.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let moved = MemberChange::Move { node: NodeId(leader), address: address.clone() };
    cluster.change(leader, vec![moved], "move").await;
    assert_eq!(cluster.group(leader).propose(1).await, Ok(1));
    assert_eq!(cluster.group(leader % 3 + 1).propose(2).await, Ok(3));
    assert_eq!(cluster.group(leader).status().role_state.term, term, "it leads on");

    cluster.stop(leader).await;
    cluster.addresses.insert(NodeId(leader), address);
    cluster.start(leader, &[1, 2, 3]).await;
    cluster.wait_for_sum(leader, 3).await;
    assert_eq!(cluster.group(leader).propose(4).await, Ok(7));
    cluster.end().await;
}

#[tokio::test]
async fn a_member_is_replaced_while_writes_go_on_and_after_a_first_try_was_given_up() {
    let mut cluster = Cluster::new("replace", 4);
    for node in 1..=3 {
        cluster.start(node, &[1, 2, 3]).await;
    }
    let mut sum = 0;
    for more in 1..=200 {
        sum += more;
        assert_eq!(cluster.group(more % 3 + 1).propose(more).await, Ok(sum));
    }
    let leader = cluster.leader().await;
    let (old, via) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    let group = cluster.group(via);
    let address = cluster.address(4);
    let replace = || {
        let (group, address) = (group.clone(), address.clone());
        async move { group.replace_member(NodeId(old), NodeId(4), address).await }
    };
    assert_eq!(group.replacing(NodeId(old), NodeId(4)), Replacing::NotBegun);
    // The new node is not up: it learns nothing, and the caller gives up.
    let given_up = tokio::time::timeout(Duration::from_millis(700), replace()).await;
    assert!(given_up.is_err(), "{given_up:?}");
    assert_eq!(group.replacing(NodeId(old), NodeId(4)), Replacing::CatchingUp);
    let plan = cluster.group(leader).plan_members(&[MemberChange::Promote(NodeId(4))]);
    assert_eq!(plan.refused, Some(PlanRefused::Change(ChangeRefused::NotCaughtUp { node: NodeId(4) })));

    let writes = {
        let group = group.clone();
        tokio::spawn(async move {
            let mut written = 0;
            for _ in 0..50 {
                group.propose(1).await.unwrap();
                written += 1;
                pause().await;
            }
            written
        })
    };
    cluster.start(4, &[]).await;
    tokio::time::timeout(Duration::from_secs(20), replace()).await.unwrap().unwrap();
    let voters: Vec<u64> = group.members().borrow().configuration().voters().map(|node| node.0).collect();
    let mut expected: Vec<u64> = [leader, via, 4].into();
    expected.sort_unstable();
    assert_eq!(voters, expected);
    assert_eq!(replace().await, Ok(()), "it is done, and is so for every caller");
    sum += writes.await.unwrap();
    cluster.wait_for_sum(4, sum).await;

    // The leader sees who is gone, and says what a change would leave.
    cluster.stop(old).await;
    cluster.stop(4).await;
    let leader = cluster.leader().await;
    let remove = [MemberChange::Remove(NodeId(via))];
    let begun = std::time::Instant::now();
    let stops = Warning::Stops { meanwhile: false, down: vec![NodeId(4)] };
    while !cluster.group(leader).plan_members(&remove).warnings.contains(&stops) {
        let plan = cluster.group(leader).plan_members(&remove);
        assert!(begun.elapsed() < Duration::from_secs(10), "{plan}");
        pause().await;
    }
    let failed = group.replace_member(NodeId(8), NodeId(9), "n9:1".into()).await.unwrap_err();
    assert_eq!(failed.stands, Replacing::Neither);
    assert!(failed.to_string().contains("neither of the two nodes is a member"), "{failed}");
    cluster.end().await;
}
