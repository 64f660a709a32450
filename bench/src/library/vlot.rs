//! Three nodes of this library in one process.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::runtime::Handle;
use vlot::net::Listen;
use vlot::net::memory::Hub;
use vlot::storage::MemoryDisk;
use vlot::{BadCommand, BadSnapshot, Command, Group, GroupId, LogId, Node, NodeId, Options, Snapshot, StateMachine};

use super::{Layers, REPLICAS, load};
use crate::Outcome;
use crate::scratch::Scratch;

const GROUP: GroupId = GroupId(1);

/// A request without content.
#[derive(Debug)]
struct Nothing;

impl Command for Nothing {
    fn encode(&self, _: &mut BytesMut) {}

    fn decode(bytes: Bytes) -> Result<Self, BadCommand> {
        if bytes.is_empty() { Ok(Self) } else { Err(BadCommand("it is to be empty".to_owned())) }
    }

    fn size_hint(&self) -> usize {
        0
    }

    fn shares_entry(&self) -> bool {
        true
    }
}

/// Knows how far it has come.
#[derive(Debug, Default)]
struct Machine(LogId);

impl StateMachine for Machine {
    type Command = Nothing;
    type Reply = ();

    fn apply(&mut self, at: LogId, _: Nothing) {
        self.0 = at;
    }

    fn is_prompt(&self, _: &Nothing) -> bool {
        true
    }

    fn skip(&mut self, at: LogId) {
        self.0 = at;
    }

    fn snapshot(&self) -> Option<Box<dyn Snapshot>> {
        Some(Box::new(Taken(self.0)))
    }

    fn restore(&mut self, at: LogId, _: &mut dyn io::Read) -> Result<(), BadSnapshot> {
        self.0 = at;
        Ok(())
    }
}

/// All that there is of the state is its name.
struct Taken(LogId);

impl Snapshot for Taken {
    fn at(&self) -> LogId {
        self.0
    }

    fn write_to(&mut self, _: &mut dyn io::Write) -> io::Result<()> {
        Ok(())
    }
}

/// Three nodes, one of which leads.
pub(super) struct Cluster {
    nodes: Vec<Node>,
    leader: Leader,
    /// Where a real log is.
    _scratch: Option<Scratch>,
}

#[derive(Clone)]
pub(super) struct Leader(Group<Machine>);

impl load::Leader for Leader {
    async fn write(&self) -> Outcome<()> {
        Ok(self.0.propose(Nothing).await?)
    }
}

impl Cluster {
    /// Starts three nodes, with a real log in `dir` if there is to be one, and waits until one of them leads.
    pub(super) async fn start(layers: Layers, busy_poll: Duration, dir: &Path) -> Outcome<Self> {
        let scratch = if layers.log { Some(Scratch::new(dir)?) } else { None };
        let hub = Hub::default();
        let voters = (1..=REPLICAS).map(NodeId);
        let (mut listeners, mut peers) = (Vec::new(), BTreeMap::new());
        for node in voters.clone() {
            let (listen, address) = if layers.tcp {
                let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
                let address = listener.local_addr()?.to_string();
                (Listen::On(listener), address)
            } else {
                let address = format!("n{node}:1");
                (Listen::through(hub.at(&address)), address)
            };
            listeners.push(listen);
            peers.insert(node, address);
        }
        let (mut nodes, mut groups) = (Vec::new(), Vec::new());
        for (node, listen) in voters.clone().zip(listeners) {
            let options = Options {
                node,
                listen,
                peers: peers.clone(),
                heartbeat: Duration::from_millis(50),
                election_timeout: Duration::from_millis(500),
                busy_poll,
                ..match &scratch {
                    Some(scratch) => Options::new(scratch.place(&node.to_string())),
                    None => Options::on(MemoryDisk::new()),
                }
            };
            let node = Node::open(options).await?;
            groups.push(node.group(GROUP, voters.clone(), Machine::default()).await?);
            nodes.push(node);
        }
        let mut role_states = groups[0].role_states();
        let elected = role_states.wait_for(|state| state.leader.is_some()).await?.leader;
        let at = elected.map_or(0, |node| node.0 as usize - 1);
        let leader = Leader(groups.swap_remove(at));
        // What it has answered shows that the others follow.
        load::Leader::write(&leader).await?;
        Ok(Self { nodes, leader, _scratch: scratch })
    }

    /// For clients on this runtime, which is not that of the nodes.
    pub(super) fn leader(&self, clients: &Handle) -> Leader {
        Leader(self.leader.0.for_runtime(clients))
    }

    pub(super) async fn stop(self) {
        for node in self.nodes {
            node.shutdown().await;
        }
    }
}
