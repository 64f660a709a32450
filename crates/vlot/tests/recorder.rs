//! What a node keeps on record, and what it reports of a group, in a cluster of three nodes of this process whose connections
//! can be cut.

use std::path::PathBuf;
use std::time::Duration;

use vlot::election::{Cause, Poll};
use vlot::net::{Listen, memory::Hub};
use vlot::recorder::{self, Dump, Kind, Why};
use vlot::{Group, GroupId, LogId, Node, NodeId, Options, Reason, RoleName, StateMachine};

#[derive(Default)]
struct Sum(u64);

impl StateMachine for Sum {
    type Command = u64;
    type Reply = u64;

    fn apply(&mut self, _: LogId, more: u64) -> u64 {
        assert_ne!(more, 666, "a command that no state machine survives");
        self.0 += more;
        self.0
    }
}

const GROUP: GroupId = GroupId(1);
const NODES: [u64; 3] = [1, 2, 3];

struct Cluster {
    dir: PathBuf,
    hub: Hub,
    up: Vec<(Node, Group<Sum>)>,
}

fn address(node: u64) -> String {
    format!("n{node}:1")
}

impl Cluster {
    async fn new(name: &str, recorder: Option<recorder::Limits>) -> Self {
        let dir = std::env::temp_dir().join(format!("vlot-recorder-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        let mut cluster = Self { dir, hub: Hub::default(), up: Vec::new() };
        for node in NODES {
            let mut options = Options::new(cluster.dir.join(node.to_string()));
            options.node = NodeId(node);
            options.listen = Listen::through(cluster.hub.at(&address(node)));
            options.peers = NODES.map(|node| (NodeId(node), address(node))).into();
            options.recorder = recorder.clone();
            let node = Node::open(options).await.unwrap();
            let group = node.group(GROUP, NODES.map(NodeId), Sum::default()).await.unwrap();
            cluster.up.push((node, group));
        }
        cluster
    }

    fn group(&self, node: u64) -> &Group<Sum> {
        &self.up[node as usize - 1].1
    }

    async fn leader_among(&self, nodes: &[u64]) -> u64 {
        for _ in 0..1000 {
            let leads = |node: &&u64| self.group(**node).status().role_state.role == RoleName::Leader;
            if let Some(node) = nodes.iter().find(leads) {
                return *node;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no leader among {nodes:?}");
    }

    async fn dump(&self, node: u64) -> Dump {
        let path = self.up[node as usize - 1].0.dump_flight().await.unwrap();
        Dump::decode(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn dumps(&self, node: u64) -> Vec<Dump> {
        let files = recorder::find(&self.dir.join(node.to_string()).join(recorder::FOLDER)).unwrap_or_default();
        files.iter().map(|file| Dump::decode(&std::fs::read_to_string(file).unwrap()).unwrap()).collect()
    }

    async fn end(self) {
        for (node, _) in self.up {
            node.shutdown().await;
        }
        std::fs::remove_dir_all(&self.dir).unwrap();
    }
}

async fn eventually<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    for _ in 0..1000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not in time: {what}");
}

fn kinds(dump: &Dump) -> Vec<&Kind> {
    dump.events.iter().map(|event| &event.kind).collect()
}

#[tokio::test]
async fn an_isolated_leader_is_on_record_with_why_it_was_replaced() {
    let cluster = Cluster::new("isolated", Some(recorder::Limits { label: "ours".into(), ..Default::default() })).await;
    let old = cluster.leader_among(&NODES).await;
    assert_eq!(cluster.group(old).propose(5).await, Ok(5));
    eventually("nothing is wrong with the leader", || async {
        cluster.group(old).report().await.unwrap().unhealthy.is_empty()
    })
    .await;
    let report = cluster.group(old).report().await.unwrap();
    assert_eq!((report.peers.len(), report.role_state.leader), (2, Some(NodeId(old))));
    assert!(report.first.0 == 1 && report.last == report.commit && report.commit == report.durable, "{report:?}");

    cluster.hub.isolate(&address(old));
    let others: Vec<u64> = NODES.into_iter().filter(|node| *node != old).collect();
    let new = cluster.leader_among(&others).await;
    eventually("the old leader finds itself alone", || async {
        let unhealthy = cluster.group(old).report().await.unwrap().unhealthy;
        others.iter().all(|node| unhealthy.contains(&Reason::PeerUnreachable { peer: NodeId(*node), silence: None }))
    })
    .await;
    // What is written by itself comes a while after the change.
    eventually("it is written by itself", || async {
        cluster.dumps(new).iter().any(|dump| {
            dump.why == Why::LeaderChange
                && kinds(dump).iter().any(|kind| matches!(kind, Kind::Asks { poll: Poll::Vote, .. }))
        })
    })
    .await;

    let dump = cluster.dump(new).await;
    assert_eq!((dump.origin.node, dump.origin.label.as_str(), dump.why), (NodeId(new), "ours", Why::Asked));
    let kinds = kinds(&dump);
    assert!(matches!(kinds[0], Kind::Start { .. }));
    let lost = kinds.iter().position(|kind| matches!(kind, Kind::LeaderLost { leader, .. } if leader.0 == old));
    let asked = |poll| {
        kinds
            .iter()
            .rposition(|kind| matches!(kind, Kind::Asks { poll: of, cause: Cause::LostLeader, .. } if *of == poll))
    };
    let (pre_vote, vote) = (asked(Poll::PreVote), asked(Poll::Vote));
    let leads = kinds.iter().rposition(|kind| matches!(kind, Kind::Became { role: RoleName::Leader, .. }));
    assert!(
        lost < pre_vote && pre_vote < vote && vote < leads && lost.is_some(),
        "{lost:?} {pre_vote:?} {vote:?} {leads:?}"
    );
    cluster.end().await;
}

#[tokio::test]
async fn a_put_leaves_nothing_on_record() {
    let cluster = Cluster::new("puts", Some(recorder::Limits::default())).await;
    let leader = cluster.leader_among(&NODES).await;
    cluster.group(leader).propose(1).await.unwrap();
    // The members' disks are written down when they are seen.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let count = |dump: &Dump| {
        let busy = |kind: &&Kind| !matches!(kind, Kind::LateTurn { .. } | Kind::HeardLate { .. });
        dump.dropped as usize + dump.events.iter().map(|event| &event.kind).filter(busy).count()
    };
    let before = [count(&cluster.dump(1).await), count(&cluster.dump(2).await), count(&cluster.dump(3).await)];
    for _ in 0..200 {
        cluster.group(leader).propose(1).await.unwrap();
    }
    let after = [count(&cluster.dump(1).await), count(&cluster.dump(2).await), count(&cluster.dump(3).await)];
    assert_eq!(before, after);
    cluster.end().await;
}

#[tokio::test]
async fn a_fence_and_the_end_of_a_leader_are_written() {
    let cluster = Cluster::new("fence", Some(recorder::Limits::default())).await;
    let leader = cluster.leader_among(&NODES).await;
    cluster.group(leader).propose(1).await.unwrap();
    // It panics on each of them.
    let _ = cluster.group(leader).propose(666).await;
    eventually("the fence is written", || async {
        cluster.dumps(leader).iter().any(|dump| kinds(dump).iter().any(|kind| matches!(kind, Kind::Fenced { .. })))
    })
    .await;
    let dir = cluster.dir.clone();
    let (mut stopped, mut led) = (0, 0);
    for (node, group) in cluster.up {
        led += usize::from(group.status().role_state.role == RoleName::Leader);
        node.shutdown().await;
    }
    for node in NODES {
        for file in recorder::find(&dir.join(node.to_string()).join(recorder::FOLDER)).unwrap() {
            let dump = Dump::decode(&std::fs::read_to_string(file).unwrap()).unwrap();
            stopped += usize::from(matches!(dump.events.last().unwrap().kind, Kind::Stop { .. }));
        }
    }
    assert!(stopped >= led && led > 0, "{stopped} of {led}");
    std::fs::remove_dir_all(dir).unwrap();
}

#[tokio::test]
async fn without_a_recorder_nothing_is_written() {
    let cluster = Cluster::new("off", None).await;
    cluster.leader_among(&NODES).await;
    let refused = cluster.up[0].0.dump_flight().await.expect_err("there is none");
    assert!(refused.to_string().contains("keeps no flight record"), "{refused}");
    assert!(NODES.iter().all(|node| !cluster.dir.join(node.to_string()).join(recorder::FOLDER).exists()));
    cluster.end().await;
}
