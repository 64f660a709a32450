//! Three nodes in one process: their network and their disks are memory.

use std::io::{self, Read, Write};
use std::time::Duration;

use vlot::net::Listen;
use vlot::net::memory::Hub;
use vlot::storage::MemoryDisk;
use vlot::{BadSnapshot, Group, GroupId, LogId, Node, NodeId, Options, RoleName, Snapshot, StateMachine, retention};

pub const GROUP: GroupId = GroupId(1);
/// For what must come at all.
pub const SOON: Duration = Duration::from_secs(20);

/// A sum, and where it is.
#[derive(Clone, Debug, Default)]
pub struct Sum {
    pub at: LogId,
    pub sum: u64,
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

    fn snapshot(&self) -> Option<Box<dyn Snapshot>> {
        Some(Box::new(self.clone()))
    }

    fn restore(&mut self, at: LogId, from: &mut dyn Read) -> Result<(), BadSnapshot> {
        let mut sum = [0; 8];
        from.read_exact(&mut sum).map_err(|error| BadSnapshot(error.to_string()))?;
        *self = Self { at, sum: u64::from_le_bytes(sum) };
        Ok(())
    }
}

impl Snapshot for Sum {
    fn at(&self) -> LogId {
        self.at
    }

    fn write_to(&mut self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.sum.to_le_bytes())
    }
}

/// Three nodes and what they stand on.
pub struct World {
    pub hub: Hub,
    pub disks: [MemoryDisk; 3],
    configure: Box<dyn Fn(&mut Options)>,
    pub nodes: [Option<(Node, Group<Sum>)>; 3],
}

pub fn address(node: usize) -> String {
    format!("n{}:1", node + 1)
}

impl World {
    pub async fn start(configure: impl Fn(&mut Options) + 'static) -> Self {
        let disks = [(); 3].map(|()| MemoryDisk::new());
        let mut world = Self { hub: Hub::default(), disks, configure: Box::new(configure), nodes: [const { None }; 3] };
        for node in 0..3 {
            world.open(node).await;
        }
        world
    }

    pub fn options(&self, node: usize) -> Options {
        let peers = (0..3).map(|other| (NodeId(other as u64 + 1), address(other)));
        let mut options = Options {
            node: NodeId(node as u64 + 1),
            listen: Listen::through(self.hub.at(&address(node))),
            peers: peers.collect(),
            heartbeat: Duration::from_millis(50),
            election_timeout: Duration::from_millis(500),
            retention: retention::Limits { entries: 100, bytes: 1 << 20, entries_kept: 10, bytes_kept: 1 << 20 },
            ..Options::on(&self.disks[node])
        };
        options.log.segment_bytes = 1 << 16;
        options.log.slack_bytes = 0;
        (self.configure)(&mut options);
        options
    }

    pub async fn open(&mut self, node: usize) {
        let opened = Node::open(self.options(node)).await.unwrap();
        let group = opened.group(GROUP, (1..=3).map(NodeId), Sum::default()).await.unwrap();
        self.nodes[node] = Some((opened, group));
    }

    pub async fn shut_down(&mut self, node: usize) {
        self.nodes[node].take().unwrap().0.shutdown().await;
    }

    pub fn group(&self, node: usize) -> &Group<Sum> {
        &self.nodes[node].as_ref().unwrap().1
    }

    /// The node that leads, and that others than it follow.
    pub fn leader(&self) -> Option<usize> {
        let up = || self.nodes.iter().flatten().map(|(_, group)| group.status().role_state);
        let leads = |node: &usize| {
            self.nodes[*node].as_ref().is_some_and(|(_, group)| group.status().role_state.role == RoleName::Leader)
        };
        let leader = (0..3).find(leads)?;
        let follows = |role: &vlot::RoleState| role.leader == Some(NodeId(leader as u64 + 1));
        (up().filter(follows).count() > 1).then_some(leader)
    }

    pub async fn leader_soon(&self) -> usize {
        let mut leader = None;
        until("a leader", || {
            leader = self.leader();
            leader.is_some()
        })
        .await;
        leader.unwrap()
    }

    pub async fn end(mut self) {
        for node in self.nodes.iter_mut().filter_map(Option::take) {
            node.0.shutdown().await;
        }
    }
}

pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(SOON, wait).await.is_ok(), "{what} has not come in {SOON:?}");
}
