//! What leaders do about members by themselves, in clusters of real nodes on loopback.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use vlot::net::Listen;
use vlot::{
    ChangeError, Group, GroupId, LogId, MemberChange, Node, NodeId, Options, Policies, ReplaceDead, RoleName,
    StateMachine,
};

#[derive(Default)]
struct Sum(u64);

impl StateMachine for Sum {
    type Command = u64;
    type Reply = u64;

    fn apply(&mut self, _: LogId, more: u64) -> u64 {
        self.0 += more;
        self.0
    }
}

/// Nodes by their numbers, each with the same groups.
struct Cluster {
    dir: PathBuf,
    addresses: BTreeMap<NodeId, String>,
    groups: u64,
    policies: Policies,
    up: BTreeMap<u64, (Node, Vec<Group<Sum>>)>,
}

impl Cluster {
    fn new(name: &str, nodes: u64, groups: u64) -> Self {
        let dir = std::env::temp_dir().join(format!("vlot-policies-{name}-{}", std::process::id()));
        std::fs::remove_dir_all(&dir).ok();
        let listeners: Vec<_> = (1..=nodes).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let address =
            |(node, listener): (u64, &TcpListener)| (NodeId(node), listener.local_addr().unwrap().to_string());
        let addresses = (1..).zip(&listeners).map(address).collect();
        Self { dir, addresses, groups, policies: Policies::default(), up: BTreeMap::new() }
    }

    fn address(&self, node: u64) -> String {
        self.addresses[&NodeId(node)].clone()
    }

    async fn start(&mut self, number: u64, first: &[u64]) {
        let options = Options {
            node: NodeId(number),
            listen: Listen::At(self.address(number)),
            peers: first.iter().map(|&n| (NodeId(n), self.address(n))).collect(),
            heartbeat: Duration::from_millis(30),
            election_timeout: Duration::from_millis(400),
            // Groups sleep long before a policy has something to do.
            sleep_after: Some(Duration::from_millis(200)),
            policies: self.policies.clone(),
            ..Options::new(self.dir.join(number.to_string()))
        };
        let node = Node::open(options).await.unwrap();
        let mut groups = Vec::new();
        for group in 1..=self.groups {
            let first = first.iter().map(|&n| NodeId(n));
            groups.push(node.group(GroupId(group), first, Sum::default()).await.unwrap());
        }
        self.up.insert(number, (node, groups));
    }

    async fn stop(&mut self, number: u64) {
        let (node, groups) = self.up.remove(&number).unwrap();
        drop(groups);
        node.shutdown().await;
    }

    fn group(&self, node: u64) -> &Group<Sum> {
        &self.up[&node].1[0]
    }

    fn voters(&self, node: u64) -> Vec<u64> {
        let members = self.group(node).members();
        let members = members.borrow();
        assert!(members.configuration().voters().count() < 5, "never more than one at a time: {members:?}");
        if members.configuration().is_joint() {
            return Vec::new();
        }
        members.configuration().voters().map(|node| node.0).collect()
    }

    /// How many groups each node leads, by its own word.
    fn leads(&self) -> BTreeMap<u64, usize> {
        let leads = |group: &&Group<Sum>| group.status().role_state.role == RoleName::Leader;
        self.up.iter().map(|(node, (_, groups))| (*node, groups.iter().filter(leads).count())).collect()
    }

    fn leader(&self) -> Option<u64> {
        self.leads().into_iter().find(|(_, count)| *count > 0).map(|(node, _)| node)
    }

    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self) {
            let now: Vec<_> = self.up.values().map(|(_, groups)| groups[0].members().borrow().clone()).collect();
            assert!(begun.elapsed() < Duration::from_secs(30), "not {what}: {:?} {now:?}", self.leads());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn end(self) {
        for (node, _) in self.up.into_values() {
            node.shutdown().await;
        }
        std::fs::remove_dir_all(&self.dir).unwrap();
    }
}

async fn change(group: &Group<Sum>, change: MemberChange) {
    for _ in 0..200 {
        match group.change_members(vec![change.clone()], Bytes::new()).await {
            Ok(()) => return,
            Err(ChangeError::Refused(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("{change:?} is refused for ever");
}

#[tokio::test]
async fn a_learner_that_keeps_up_votes() {
    let mut cluster = Cluster::new("learner", 4, 1);
    cluster.policies.promote_learners = Some(Duration::from_millis(500));
    for node in 1..=3 {
        cluster.start(node, &[1, 2, 3]).await;
    }
    assert_eq!(cluster.group(1).propose(5).await, Ok(5));
    let learner = MemberChange::AddLearner { node: NodeId(4), address: cluster.address(4) };
    change(cluster.group(1), learner).await;
    // It is not there: it is no voter, however long it is waited for.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(cluster.voters(1), [1, 2, 3]);
    cluster.start(4, &[]).await;
    let begun = Instant::now();
    cluster.until("promoted", |cluster| cluster.voters(4) == [1, 2, 3, 4]).await;
    assert!(begun.elapsed() >= Duration::from_millis(500), "not before it has kept up for a while");
    assert_eq!(cluster.group(4).propose(1).await, Ok(6));
    cluster.end().await;
}

#[tokio::test]
async fn a_voter_that_is_gone_gives_its_seat_to_a_standby() {
    let mut cluster = Cluster::new("dead", 4, 1);
    let after = Duration::from_millis(1500);
    let standbys = BTreeMap::from([(NodeId(4), cluster.address(4))]);
    cluster.policies.replace_dead = Some(ReplaceDead { after, standbys });
    for node in 1..=3 {
        cluster.start(node, &[1, 2, 3]).await;
    }
    cluster.start(4, &[]).await;
    assert_eq!(cluster.group(1).propose(5).await, Ok(5));
    cluster.until("led", |cluster| cluster.leader().is_some()).await;
    let leader = cluster.leader().unwrap();
    let (dead, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    // One that is back in time keeps its seat.
    cluster.stop(dead).await;
    tokio::time::sleep(after / 2).await;
    cluster.start(dead, &[1, 2, 3]).await;
    tokio::time::sleep(after).await;
    assert_eq!(cluster.voters(other), [1, 2, 3]);

    cluster.stop(dead).await;
    let mut left = vec![leader, other, 4];
    left.sort_unstable();
    cluster.until("replaced", |cluster| cluster.voters(other) == left).await;
    // The standby counts: with another one gone a quorum is left.
    cluster.stop(other).await;
    assert_eq!(cluster.group(4).propose(1).await, Ok(6));
    // No standby is left, and no majority but for the two: nothing more is changed, for as long as it is waited for.
    tokio::time::sleep(after * 2).await;
    assert_eq!(cluster.voters(4), left);
    // The one that was replaced comes back and is told.
    cluster.start(dead, &[1, 2, 3]).await;
    cluster.until("told", |cluster| cluster.group(dead).status().is_removed).await;
    cluster.end().await;
}

#[tokio::test]
async fn a_node_that_comes_back_gets_its_share_of_leaders() {
    let mut cluster = Cluster::new("balance", 3, 30);
    cluster.policies.balance_leaders = true;
    for node in 1..=3 {
        cluster.start(node, &[1, 2, 3]).await;
    }
    let is_balanced = |cluster: &Cluster| {
        let leads = cluster.leads();
        let (least, most) = (leads.values().min().unwrap(), leads.values().max().unwrap());
        leads.values().sum::<usize>() == 30 && most - least <= 1
    };
    cluster.until("balanced over three", is_balanced).await;
    cluster.stop(3).await;
    cluster.until("balanced over two", is_balanced).await;
    assert_eq!(cluster.leads().into_iter().collect::<Vec<_>>(), [(1, 15), (2, 15)]);
    cluster.start(3, &[1, 2, 3]).await;
    cluster.until("balanced over three again", is_balanced).await;
    // It stays so.
    let terms = |cluster: &Cluster| -> Vec<u64> {
        cluster.up[&1].1.iter().map(|group| group.status().role_state.term.0).collect()
    };
    let before = terms(&cluster);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(terms(&cluster), before);
    for group in &cluster.up[&3].1 {
        group.propose(1).await.unwrap();
    }
    cluster.end().await;
}
