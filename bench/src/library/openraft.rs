//! Three nodes of openraft in one process, with what its own bench gives them: a log that is a map in memory, a state machine
//! that knows how far it has come, and a network that calls the other node.

mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::alias::{DefaultEntryOf, SnapshotOf, VoteOf};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::impls::leader_id_adv::LeaderId;
use openraft::impls::{BoxedErrorSource, InlineBatch, OneshotResponder, TokioRuntime};
use openraft::network::RPCOption;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::{Config, EntryPayload, OptionalSend, Raft, RaftNetworkFactory, RaftNetworkV2, RaftTypeConfig, Vote};

use tokio::time::{sleep, timeout};

use super::{REPLICAS, load};
use crate::Outcome;
use store::{Log, Machine};

/// A request without content.
#[derive(Clone, Debug)]
pub(super) struct Nothing;

impl fmt::Display for Nothing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing")
    }
}

/// The types of its own bench.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Types;

impl RaftTypeConfig for Types {
    type D = Nothing;
    type R = ();
    type NodeId = u64;
    type Node = ();
    type Term = u64;
    type LeaderId = LeaderId<u64, u64>;
    type Vote = Vote<Self::LeaderId>;
    type Payload = EntryPayload<Nothing, u64, ()>;
    type Entry = DefaultEntryOf<Self>;
    type AsyncRuntime = TokioRuntime;
    type Responder<T>
        = OneshotResponder<Self, T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = BoxedErrorSource;
}

type Node = Raft<Types, Machine>;

/// Three nodes, one of which leads.
pub(super) struct Cluster {
    nodes: BTreeMap<u64, Node>,
    leader: Leader,
}

#[derive(Clone)]
pub(super) struct Leader(Node);

impl load::Leader for Leader {
    async fn write(&self) -> Outcome<()> {
        self.0.client_write(Nothing).await?;
        Ok(())
    }
}

impl Cluster {
    /// Starts three nodes, configured as in its own bench, and waits until one of them leads.
    pub(super) async fn start() -> Outcome<Self> {
        let config = Config {
            // There they are 200 and 2000: on a machine that is busy otherwise it then loses its leader in the middle of a load.
            election_timeout_min: 2000,
            election_timeout_max: 4000,
            purge_batch_size: 1024,
            max_payload_entries: 1024,
            ..Config::default()
        };
        let (config, network) = (Arc::new(config.validate()?), Network::default());
        let voters: BTreeSet<u64> = (1..=REPLICAS).collect();
        let mut nodes = BTreeMap::new();
        for &id in &voters {
            let node = Raft::new(id, Arc::clone(&config), network.clone(), Log::default(), Machine::default()).await?;
            nodes.insert(id, node);
        }
        *network.0.lock().unwrap_or_else(PoisonError::into_inner) = nodes.clone();
        let first = nodes[&1].clone();
        first.initialize(voters).await?;
        let leader = timeout(Duration::from_secs(20), leader_of(&nodes)).await?;
        Ok(Self { nodes, leader })
    }

    pub(super) fn leader(&self) -> Leader {
        self.leader.clone()
    }

    pub(super) async fn stop(self) -> Outcome<()> {
        for node in self.nodes.into_values() {
            node.shutdown().await?;
        }
        Ok(())
    }
}

/// The node that takes a write. One that its metrics call the leader may still be asking for votes.
async fn leader_of(nodes: &BTreeMap<u64, Node>) -> Leader {
    loop {
        for node in nodes.values() {
            let leader = Leader(node.clone());
            if load::Leader::write(&leader).await.is_ok() {
                return leader;
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Knows all nodes.
#[derive(Clone, Default)]
struct Network(Arc<Mutex<BTreeMap<u64, Node>>>);

/// The way to one node.
struct Link {
    network: Network,
    to: u64,
    node: Option<Node>,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Link;

    async fn new_client(&mut self, to: u64, _: &()) -> Link {
        Link { network: self.clone(), to, node: None }
    }
}

impl Link {
    fn node(&mut self) -> Result<&Node, RPCError<Types>> {
        if self.node.is_none() {
            self.node = self.network.0.lock().unwrap_or_else(PoisonError::into_inner).get(&self.to).cloned();
        }
        self.node.as_ref().ok_or_else(|| unreachable(&io::Error::from(io::ErrorKind::NotConnected)))
    }
}

fn unreachable(error: &(impl std::error::Error + 'static)) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::new(error))
}

impl RaftNetworkV2<Types> for Link {
    type SnapshotData = ();

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        self.node()?.append_entries(request).await.map_err(|error| unreachable(&error))
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        _: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.node()?.vote(request).await.map_err(|error| unreachable(&error))
    }

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<Types>,
        snapshot: SnapshotOf<Types, ()>,
        _: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let node = self.node().map_err(StreamingError::from)?;
        node.install_full_snapshot(vote, snapshot)
            .await
            .map_err(|error| StreamingError::Unreachable(Unreachable::new(&error)))
    }
}
