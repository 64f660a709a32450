//! Leases, locks and elections as RPCs: the same calls to etcd and to ours, and the same answers.

mod support;

use std::fmt::Debug;
use std::time::Duration;

use prost::Message;
use support::Etcd;
use support::cluster::Cluster;
use support::grpc::Client;
use tokio::time::{sleep, timeout};
use vlot_proto::etcdserverpb::*;
use vlot_proto::v3electionpb::*;
use vlot_proto::v3lockpb::*;

/// What was asked and answered, a line each.
struct Session {
    client: Client,
    lines: Vec<String>,
}

impl Session {
    async fn ask<R: Message + Default + Debug>(&mut self, path: &str, request: impl Message + Debug) -> R {
        let answer = self.client.call::<R>(path, &request).await;
        self.lines.push(format!("{path} {request:?} -> {answer:?}"));
        answer.unwrap_or_default()
    }

    /// Asks and gives up after a while.
    async fn ask_in_vain(&mut self, path: &str, request: impl Message + Debug) {
        let answer = timeout(Duration::from_millis(300), self.client.call::<LockResponse>(path, &request)).await;
        self.lines.push(format!("{path} {request:?} -> {answer:?}"));
        // What the server does about it takes a moment.
        sleep(Duration::from_millis(200)).await;
    }

    async fn grant(&mut self, id: i64, ttl: i64) {
        self.ask::<LeaseGrantResponse>("/etcdserverpb.Lease/LeaseGrant", LeaseGrantRequest { id, ttl }).await;
    }

    async fn put(&mut self, key: &'static str, lease: i64) {
        let put = PutRequest { key: key.into(), lease, ..Default::default() };
        self.ask::<PutResponse>("/etcdserverpb.KV/Put", put).await;
    }

    async fn keys(&mut self) {
        let all = RangeRequest { key: "\0".into(), range_end: "\0".into(), ..Default::default() };
        self.ask::<RangeResponse>("/etcdserverpb.KV/Range", all).await;
    }
}

async fn leases(session: &mut Session) {
    for (id, ttl) in [(5, 600), (5, 600), (7, -3), (8, 1), (9, 10_000_000_000), (10, 9_000_000_000), (-4, 300)] {
        session.grant(id, ttl).await;
    }
    for (key, lease) in [("a", -4), ("b", 99), ("c", 5), ("d", 5), ("d", 0)] {
        session.put(key, lease).await;
    }
    let kept = PutRequest { key: "c".into(), value: "w".into(), ignore_lease: true, ..Default::default() };
    session.ask::<PutResponse>("/etcdserverpb.KV/Put", kept).await;
    session.keys().await;
    for id in [5, -4, 0, 99] {
        let request = LeaseTimeToLiveRequest { id, keys: true };
        session.ask::<LeaseTimeToLiveResponse>("/etcdserverpb.Lease/LeaseTimeToLive", request).await;
    }
    session.ask::<LeaseLeasesResponse>("/etcdserverpb.Lease/LeaseLeases", LeaseLeasesRequest {}).await;
    for id in [0, 99, -4] {
        session.ask::<LeaseRevokeResponse>("/etcdserverpb.Lease/LeaseRevoke", LeaseRevokeRequest { id }).await;
    }
    session.keys().await;
}

async fn locks(session: &mut Session) {
    const LOCK: &str = "/v3lockpb.Lock/Lock";
    let lock = |lease| LockRequest { name: "m".into(), lease };
    session.grant(11, 600).await;
    session.grant(12, 600).await;
    for lease in [11, 11, 1234] {
        session.ask::<LockResponse>(LOCK, lock(lease)).await;
    }
    session.ask_in_vain(LOCK, lock(12)).await;
    session.keys().await;
    for key in ["m/b", "", "m/b"] {
        let unlock = UnlockRequest { key: key.into() };
        session.ask::<UnlockResponse>("/v3lockpb.Lock/Unlock", unlock).await;
    }
    session.ask::<LockResponse>(LOCK, lock(12)).await;
    session.keys().await;
}

async fn elections(session: &mut Session) {
    const CAMPAIGN: &str = "/v3electionpb.Election/Campaign";
    const PROCLAIM: &str = "/v3electionpb.Election/Proclaim";
    const RESIGN: &str = "/v3electionpb.Election/Resign";
    const LEADER: &str = "/v3electionpb.Election/Leader";
    let campaign = |lease, value: &'static str| CampaignRequest { name: "e".into(), lease, value: value.into() };
    let who = || LeaderRequest { name: "e".into() };
    session.ask::<LeaderResponse>(LEADER, who()).await;
    let won = session.ask::<CampaignResponse>(CAMPAIGN, campaign(11, "one")).await;
    session.ask::<CampaignResponse>(CAMPAIGN, campaign(11, "two")).await;
    session.ask::<LeaderResponse>(LEADER, who()).await;
    session.ask_in_vain(CAMPAIGN, campaign(12, "three")).await;
    session.ask::<CampaignResponse>(CAMPAIGN, campaign(4321, "four")).await;
    let leader = won.leader.unwrap_or_default();
    let stale = LeaderKey { rev: 3, ..leader.clone() };
    for leader in [None, Some(stale), Some(leader)] {
        let proclaim = ProclaimRequest { leader: leader.clone(), value: "five".into() };
        session.ask::<ProclaimResponse>(PROCLAIM, proclaim.clone()).await;
        session.ask::<LeaderResponse>(LEADER, who()).await;
        for _ in 0..2 {
            session.ask::<ResignResponse>(RESIGN, ResignRequest { leader: leader.clone() }).await;
        }
        session.ask::<ProclaimResponse>(PROCLAIM, proclaim).await;
    }
    session.keys().await;
}

/// Without what is not the same in two clusters: who answers, and in which term.
fn normalised(mut line: String) -> String {
    for name in ["cluster_id: ", "member_id: ", "raft_term: "] {
        let parts = line.split(name).map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit()));
        line = parts.collect::<Vec<_>>().join(name);
    }
    line
}

fn session_of(cluster: &Cluster) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::connect(cluster.nodes[0].client_port).await;
        let mut session = Session { client, lines: Vec::new() };
        leases(&mut session).await;
        locks(&mut session).await;
        elections(&mut session).await;
        session.lines.into_iter().map(normalised).collect()
    })
}

#[test]
fn leases_locks_and_elections_answer_as_etcds() {
    let Some(etcd) = Etcd::find() else { return };
    let theirs = session_of(&Cluster::etcd(1, &etcd.server, &etcd.ctl));
    for nodes in [1, 3] {
        let ours = session_of(&Cluster::vlot(nodes, &etcd.ctl));
        assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours, theirs, "on {nodes} nodes");
        }
    }
}

/// Every value that a leader proclaims is told, and who leads next.
#[test]
fn who_observes_an_election_sees_each_leader_and_proclamation() {
    let Some(etcd) = Etcd::find() else { return };
    let cluster = Cluster::vlot(3, &etcd.ctl);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let told = runtime.block_on(async {
        let watcher = Client::connect(cluster.nodes[1].client_port).await;
        let request = LeaderRequest { name: "e".into() };
        let mut observed = watcher.begin("/v3electionpb.Election/Observe", &request).await.unwrap();
        let mut session = Session { client: Client::connect(cluster.nodes[0].client_port).await, lines: Vec::new() };
        session.grant(1, 600).await;
        session.grant(2, 600).await;
        let campaign = |lease, value: &'static str| CampaignRequest { name: "e".into(), lease, value: value.into() };
        let won: CampaignResponse = session.ask("/v3electionpb.Election/Campaign", campaign(1, "one")).await;
        let proclaim = ProclaimRequest { leader: won.leader.clone(), value: "two".into() };
        session.ask::<ProclaimResponse>("/v3electionpb.Election/Proclaim", proclaim).await;
        session.ask::<LeaseRevokeResponse>("/etcdserverpb.Lease/LeaseRevoke", LeaseRevokeRequest { id: 1 }).await;
        session.ask::<CampaignResponse>("/v3electionpb.Election/Campaign", campaign(2, "three")).await;
        let mut bytes = Vec::new();
        let mut told: Vec<(i64, String)> = Vec::new();
        while told.len() < 3 {
            let piece = timeout(Duration::from_secs(5), observed.next()).await.expect("it is told").unwrap();
            bytes.extend_from_slice(&piece.expect("the stream goes on"));
            while let Some(length) = bytes.get(1..5).map(|length| u32::from_be_bytes(length.try_into().unwrap())) {
                let end = 5 + length as usize;
                if bytes.len() < end {
                    break;
                }
                let kv = LeaderResponse::decode(&bytes[5..end]).unwrap().kv.unwrap();
                told.push((kv.lease, String::from_utf8(kv.value.to_vec()).unwrap()));
                bytes.drain(..end);
            }
        }
        told
    });
    assert_eq!(told, [(1, "one".into()), (1, "two".into()), (2, "three".into())]);
}
