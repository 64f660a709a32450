//! A test of a program that embeds a cluster: three nodes in one process, without sockets, files or waiting. Their network, their
//! disks and their clock are the test's.
//!
//! ```console
//! $ cargo run -p vlot --example in_memory
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use vlot::clock::ManualClock;
use vlot::net::{Listen, memory::Hub};
use vlot::storage::MemoryDisk;
use vlot::{Group, GroupId, LogId, Node, NodeId, Options, StateMachine};

#[derive(Default)]
struct Counter(u64);

impl StateMachine for Counter {
    type Command = u64;
    type Reply = u64;

    fn apply(&mut self, _: LogId, more: u64) -> u64 {
        self.0 += more;
        self.0
    }
}

/// What the nodes stand on.
struct Ground {
    hub: Hub,
    clock: ManualClock,
    disks: BTreeMap<NodeId, MemoryDisk>,
    peers: BTreeMap<NodeId, String>,
}

impl Ground {
    fn new() -> Self {
        let nodes = || (1..=3).map(NodeId);
        let disks = nodes().map(|node| (node, MemoryDisk::new())).collect();
        let peers = nodes().map(|node| (node, format!("n{node}:1"))).collect();
        Self { hub: Hub::default(), clock: ManualClock::new(), disks, peers }
    }

    async fn start(&self, node: NodeId) -> Result<(Node, Group<Counter>), Box<dyn Error>> {
        let options = Options {
            node,
            listen: Listen::through(self.hub.at(&self.peers[&node])),
            peers: self.peers.clone(),
            clock: Arc::new(self.clock.clone()),
            ..Options::on(&self.disks[&node])
        };
        let opened = Node::open(options).await?;
        let counter = opened.group(GroupId(1), self.peers.keys().copied(), Counter::default()).await?;
        Ok((opened, counter))
    }

    /// Lets time pass until a leader answers.
    async fn count(&self, counter: &Group<Counter>, more: u64) -> Result<u64, Box<dyn Error>> {
        let answer = counter.propose(more);
        tokio::pin!(answer);
        loop {
            tokio::select! {
                answer = &mut answer => return Ok(answer?),
                () = tokio::time::sleep(Duration::from_millis(1)) => self.clock.advance(Duration::from_millis(50)),
            }
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let ground = Ground::new();
    let mut nodes = BTreeMap::new();
    for node in ground.peers.keys() {
        nodes.insert(*node, ground.start(*node).await?);
    }
    println!("{}", ground.count(&nodes[&NodeId(1)].1, 5).await?);

    // Node 1 is cut off. The others go on, and it catches up once it is back.
    ground.hub.isolate(&ground.peers[&NodeId(1)]);
    println!("{}", ground.count(&nodes[&NodeId(2)].1, 7).await?);
    ground.hub.heal();
    println!("{}", ground.count(&nodes[&NodeId(1)].1, 30).await?);

    // All of them lose power. What was acknowledged is on their disks.
    ground.disks.values().for_each(MemoryDisk::lose_power);
    for (node, _) in std::mem::take(&mut nodes).into_values() {
        node.shutdown().await;
    }
    for node in ground.peers.keys() {
        nodes.insert(*node, ground.start(*node).await?);
    }
    println!("{}", ground.count(&nodes[&NodeId(3)].1, 0).await?);
    for (node, _) in nodes.into_values() {
        node.shutdown().await;
    }
    Ok(())
}
