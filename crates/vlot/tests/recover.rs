//! Two of three nodes are lost for good: the third goes on alone in a new cluster, others come to it, and those of before are
//! kept out.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use vlot::net::{Listen, Refusal};
use vlot::{
    BadSnapshot, ChangeError, ChangeRefused, Group, GroupId, LogId, LogOwner, MemberChange, Node, NodeId, Options,
    RecoverError, Recovery, Snapshot, StateMachine, recover_from_lost_quorum,
};

const GROUP: GroupId = GroupId(1);
const OLD: u64 = 0xa;
const NEW: u64 = 0xb;

#[derive(Clone, Default)]
struct Sum {
    at: LogId,
    sum: u64,
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

    fn members_changed(&mut self, at: LogId, _: &vlot::Members, _: Bytes) {
        self.at = at;
    }

    fn snapshot(&self) -> Option<Box<dyn Snapshot>> {
        Some(Box::new(self.clone()))
    }

    fn restore(&mut self, at: LogId, from: &mut dyn Read) -> Result<(), BadSnapshot> {
        let mut text = String::new();
        from.read_to_string(&mut text).map_err(|error| BadSnapshot(error.to_string()))?;
        let sum = text.trim().parse().map_err(|_| BadSnapshot(text.clone()))?;
        *self = Self { at, sum };
        Ok(())
    }
}

impl Snapshot for Sum {
    fn at(&self) -> LogId {
        self.at
    }

    fn write_to(&mut self, out: &mut dyn Write) -> std::io::Result<()> {
        writeln!(out, "{}", self.sum)
    }
}

struct Places {
    dir: PathBuf,
    addresses: BTreeMap<NodeId, String>,
}

impl Places {
    fn new(name: &str, count: u64) -> Self {
        let dir = std::env::temp_dir().join(format!("vlot-recover-{name}-{}", std::process::id()));
        std::fs::remove_dir_all(&dir).ok();
        let listeners: Vec<_> = (1..=count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let address =
            |(node, listener): (u64, &TcpListener)| (NodeId(node), listener.local_addr().unwrap().to_string());
        let addresses = (1..).zip(&listeners).map(address).collect();
        Self { dir, addresses }
    }

    fn dir(&self, node: u64) -> PathBuf {
        self.dir.join(node.to_string())
    }

    fn address(&self, node: u64) -> String {
        self.addresses[&NodeId(node)].clone()
    }

    async fn start(&self, node: u64, cluster: u64, first: &[u64]) -> (Node, Group<Sum>) {
        let options = Options {
            cluster,
            node: NodeId(node),
            listen: Listen::At(self.address(node)),
            peers: first.iter().map(|&n| (NodeId(n), self.address(n))).collect(),
            heartbeat: Duration::from_millis(30),
            election_timeout: Duration::from_millis(300),
            // Short enough that a snapshot is a part of what is carried over.
            retention: vlot::retention::Limits { entries: 50, bytes: 1 << 20, entries_kept: 10, bytes_kept: 1 << 20 },
            ..Options::new(self.dir(node))
        };
        let node = Node::open(options).await.unwrap();
        let group = node.group(GROUP, first.iter().map(|&n| NodeId(n)), Sum::default()).await.unwrap();
        (node, group)
    }
}

fn recovery(node: u64, address: String, confirmed: bool) -> Recovery {
    Recovery {
        owner: LogOwner { cluster: OLD, node: NodeId(node) },
        new_cluster: NEW,
        address,
        context: Bytes::new(),
        i_know_that_acknowledged_writes_may_be_lost: confirmed,
    }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what} does not come true");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn change(group: &Group<Sum>, change: MemberChange) {
    until(&format!("{change:?}"), async || match group.change_members(vec![change.clone()], Bytes::new()).await {
        Ok(()) => true,
        Err(ChangeError::Refused(why)) if !matches!(why, ChangeRefused::Barred { .. }) => false,
        Err(error) => panic!("{error}"),
    })
    .await;
}

/// Whether one node has refused the other because it is of another cluster, and the other was told so.
fn is_refused(by: &Node, caller: &Node) -> bool {
    let (by, caller) = (by.meter().read(), caller.meter().read());
    let of_another = |(why, count): (&Refusal, &u64)| *why == Refusal::WrongCluster && *count > 0;
    by.handshakes_refused.iter().any(of_another) && caller.handshakes_denied.iter().any(of_another)
}

#[tokio::test]
async fn the_last_node_goes_on_alone_and_those_of_before_are_kept_out() {
    let places = Places::new("three", 5);
    let mut nodes = Vec::new();
    for node in 1..=3 {
        nodes.push(places.start(node, OLD, &[1, 2, 3]).await);
    }
    let mut sum = 0;
    for more in 1..=200u64 {
        sum += more;
        assert_eq!(nodes[(more % 3) as usize].1.propose(more).await, Ok(sum));
    }
    // What the node that will be left has heard of is there afterwards.
    until("all have all", async || {
        let mut all = true;
        for (_, group) in &nodes {
            all &= group.look(|state| state.sum).await == Ok(sum);
        }
        all
    })
    .await;
    let running = recover_from_lost_quorum(&places.dir(3), &recovery(3, places.address(3), true)).unwrap_err();
    assert!(matches!(running, RecoverError::Dir(_)), "{running}");
    for (node, _) in nodes {
        node.shutdown().await;
    }

    // Nothing is done unless it is confirmed; what is here is said.
    let dir = places.dir(3);
    let looked = recover_from_lost_quorum(&dir, &recovery(3, places.address(3), false)).unwrap_err();
    let RecoverError::NotConfirmed { found } = &looked else { panic!("{looked}") };
    assert!(found[0].last.index.0 > 200, "{found:?}");
    assert!(looked.to_string().contains("group 1: term"), "{looked}");
    assert!(looked.to_string().contains("voters 1 2 3"), "{looked}");

    // An earlier try was killed half way.
    let half = vlot::recover::beside(&dir, NEW);
    std::fs::create_dir_all(&half).unwrap();
    std::fs::write(half.join("0000000000000001.log"), b"half").unwrap();
    let done = recover_from_lost_quorum(&dir, &recovery(3, places.address(3), true)).unwrap();
    assert_eq!(done.found, *found);
    assert!(done.replaced.is_dir());
    let again = recover_from_lost_quorum(&dir, &recovery(3, places.address(3), true)).unwrap_err();
    assert!(again.to_string().contains("cluster"), "{again}");

    // It goes on with all it had, and others come with new numbers.
    let (node, group) = places.start(3, NEW, &[3]).await;
    assert_eq!(group.propose(5).await, Ok(sum + 5));
    sum += 5;
    let barred = MemberChange::AddLearner { node: NodeId(1), address: places.address(1) };
    let refused = group.change_members(vec![barred.clone()], Bytes::new()).await;
    assert_eq!(refused, Err(ChangeError::Refused(ChangeRefused::Barred { node: NodeId(1) })));
    assert!(group.plan_members(&[barred]).to_string().contains("node 1 was a member before the quorum was lost"));
    let mut come = Vec::new();
    for new in [4, 5] {
        come.push(places.start(new, NEW, &[]).await);
        change(&group, MemberChange::AddLearner { node: NodeId(new), address: places.address(new) }).await;
        change(&group, MemberChange::Promote(NodeId(new))).await;
    }
    assert_eq!(come[0].1.propose(7).await, Ok(sum + 7));
    sum += 7;
    until("the last has all", async || come[1].1.look(|state| state.sum).await == Ok(sum)).await;

    // The nodes of before come back, and are refused: neither end takes the other for one of its cluster.
    let old = places.start(1, OLD, &[1, 2, 3]).await;
    until("both ends say so", async || is_refused(&node, &old.0)).await;
    let other = places.start(2, OLD, &[1, 2, 3]).await;
    // The two are a quorum of the old cluster, which knows nothing of what came after. It is for the operator to end them.
    until("the old two have a leader", async || old.1.status().role_state.leader.is_some()).await;
    // Nothing of the one reaches the other.
    assert_eq!(old.1.propose(1000).await, Ok(sum - 12 + 1000));
    assert_eq!(group.propose(1).await, Ok(sum + 1));
    let voters: Vec<u64> = group.members().borrow().configuration().voters().map(|node| node.0).collect();
    assert_eq!(voters, [3, 4, 5]);
    for (node, _) in come.into_iter().chain([old, other, (node, group)]) {
        node.shutdown().await;
    }
    std::fs::remove_dir_all(&places.dir).unwrap();
}

#[test]
fn what_is_not_a_nodes_directory_is_left_alone() {
    let places = Places::new("none", 1);
    let refused = |dir: &Path, recovery: Recovery| recover_from_lost_quorum(dir, &recovery).unwrap_err();
    let none = refused(&places.dir(1), recovery(1, places.address(1), true));
    assert!(matches!(none, RecoverError::NoSuchDir(_)), "{none}");
    assert!(!places.dir(1).exists());
    let same = refused(&places.dir(1), Recovery { new_cluster: OLD, ..recovery(1, places.address(1), true) });
    assert!(matches!(same, RecoverError::SameCluster), "{same}");
    std::fs::create_dir_all(places.dir(1)).unwrap();
    let empty = refused(&places.dir(1), recovery(1, places.address(1), true));
    assert!(matches!(empty, RecoverError::NoGroups), "{empty}");
    std::fs::remove_dir_all(&places.dir).unwrap();
}
