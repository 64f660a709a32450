//! The same history in etcd and in ours has the same digests, at every revision and whatever is compacted.

mod support;

use std::time::Duration;

use prost::Message;
use support::cluster::Cluster;
use support::grpc::Client;
use support::{Etcd, eventually};
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, HashKvRequest, HashKvResponse,
    HashRequest, HashResponse, LeaseGrantRequest, LeaseGrantResponse, PutRequest, PutResponse, RequestOp, TxnRequest,
    TxnResponse,
};

const HASH_KV: &str = "/etcdserverpb.Maintenance/HashKV";

/// A stream of numbers that is the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn key(&mut self) -> String {
        format!("k{}", self.below(30))
    }

    fn put(&mut self, key: String, leases: &[i64]) -> PutRequest {
        let length = [0, 1, 20, 1000, 5000, 40_000][self.below(6) as usize];
        let value = vec![self.below(256) as u8; length];
        let lease = if leases.is_empty() { 0 } else { leases[self.below(leases.len() as u64) as usize] };
        PutRequest { key: key.into(), value: value.into(), lease, ..Default::default() }
    }

    fn deletion(&mut self) -> DeleteRangeRequest {
        let range_end = if self.below(3) == 0 { "k19" } else { "" };
        DeleteRangeRequest { key: self.key().into(), range_end: range_end.into(), ..Default::default() }
    }

    /// Changes several keys, each once; one of them two levels down.
    fn txn(&mut self, leases: &[i64]) -> TxnRequest {
        let op = |request| RequestOp { request: Some(request) };
        let names: Vec<String> = (0..1 + self.below(4)).map(|n| format!("t{n}")).collect();
        let mut success: Vec<_> =
            names.into_iter().map(|name| op(Request::RequestPut(self.put(name, leases)))).collect();
        success.push(op(Request::RequestDeleteRange(self.deletion())));
        let nested =
            TxnRequest { success: vec![op(Request::RequestPut(self.put("u".into(), leases)))], ..Default::default() };
        success.push(op(Request::RequestTxn(nested)));
        TxnRequest { success, ..Default::default() }
    }
}

/// One command to both, which must answer alike.
async fn both<R: Message + Default>(
    clients: &[Client; 2],
    path: &str,
    request: &(impl Message + std::fmt::Debug),
) -> Option<R> {
    let [etcd, ours] = clients;
    let etcd: Result<R, String> = etcd.call(path, request).await;
    let ours: Result<R, String> = ours.call(path, request).await;
    assert_eq!(etcd.as_ref().err(), ours.as_ref().err(), "{path} {request:?}");
    ours.ok()
}

/// Holds the digests of both against each other, errors included. etcd 3.5 does not tell `hash_revision`.
async fn compare(clients: &[Client; 2], revision: i64) -> Option<HashKvResponse> {
    let request = HashKvRequest { revision };
    let mut answers = Vec::new();
    for client in clients {
        let answer: Result<HashKvResponse, String> = client.call(HASH_KV, &request).await;
        answers.push(answer);
    }
    let shown = |answer: &Result<HashKvResponse, String>| {
        let known = answer.as_ref().map_err(Clone::clone);
        known.map(|answer| (answer.hash, answer.compact_revision, answer.header.as_ref().map(|header| header.revision)))
    };
    assert_eq!(shown(&answers[0]), shown(&answers[1]), "at {revision}");
    answers.remove(1).ok()
}

async fn compare_all(clients: &[Client; 2]) {
    let newest = compare(clients, 0).await.expect("the newest revision can be read");
    let revision = newest.header.unwrap().revision;
    assert_eq!(newest.hash_revision, revision);
    for old in -2..=revision + 2 {
        let answer = compare(clients, old).await;
        if old > 0 {
            assert!(answer.is_none_or(|answer| answer.hash_revision == old));
        }
    }
}

async fn compact(clients: &[Client; 2], revision: i64) {
    // `physical`: etcd's digest is also that of what it has not given up yet.
    let request = CompactionRequest { revision, physical: true };
    let _: Option<CompactionResponse> = both(clients, "/etcdserverpb.KV/Compact", &request).await;
}

/// A digest is kept of a compaction shortly after it.
async fn settle(clients: &[Client; 2], revision: i64) {
    for client in clients {
        for _ in 0..500 {
            let answer: Result<HashKvResponse, String> = client.call(HASH_KV, &HashKvRequest { revision }).await;
            if answer.is_ok_and(|answer| answer.compact_revision < revision) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[test]
fn the_same_history_has_etcds_digests() {
    let Some(etcd) = Etcd::find() else { return };
    let mut clusters = [Cluster::etcd(1, &etcd.server, &etcd.ctl), Cluster::vlot(1, &etcd.ctl)];
    let ports = clusters.each_ref().map(|cluster| cluster.nodes[0].client_port);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let compacted = runtime.block_on(async {
        let clients = [Client::connect(ports[0]).await, Client::connect(ports[1]).await];
        compare_all(&clients).await;
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        let leases = leases(&clients).await;
        let mut compacted = 0;
        for step in 0..400 {
            let newest = match dice.below(10) {
                0..=4 => {
                    let key = dice.key();
                    let reply: Option<PutResponse> =
                        both(&clients, "/etcdserverpb.KV/Put", &dice.put(key, &leases)).await;
                    reply.unwrap().header.unwrap().revision
                }
                5..=6 => {
                    let reply: Option<DeleteRangeResponse> =
                        both(&clients, "/etcdserverpb.KV/DeleteRange", &dice.deletion()).await;
                    reply.unwrap().header.unwrap().revision
                }
                _ => {
                    let reply: Option<TxnResponse> = both(&clients, "/etcdserverpb.KV/Txn", &dice.txn(&leases)).await;
                    reply.unwrap().header.unwrap().revision
                }
            };
            if dice.below(40) == 0 {
                compacted = compacted.max(newest - dice.below(20) as i64).max(1);
                compact(&clients, compacted).await;
                settle(&clients, compacted).await;
                compare_all(&clients).await;
            }
            if step % 50 == 0 {
                compare(&clients, 0).await;
            }
        }
        compare_all(&clients).await;
        // A compaction at a deletion, and one after which nothing is left.
        for _ in 0..2 {
            let all = DeleteRangeRequest { key: "k1".into(), range_end: "\0".into(), ..Default::default() };
            let reply: Option<DeleteRangeResponse> = both(&clients, "/etcdserverpb.KV/DeleteRange", &all).await;
            let newest = reply.unwrap().header.unwrap().revision;
            compact(&clients, newest).await;
            settle(&clients, newest).await;
            compare_all(&clients).await;
            for key in ["k1", "z"] {
                let _: Option<PutResponse> =
                    both(&clients, "/etcdserverpb.KV/Put", &dice.put(key.into(), &leases)).await;
            }
            compare_all(&clients).await;
            compacted = newest;
        }
        compacted
    });
    // What was kept of compactions is forgotten.
    for cluster in &mut clusters {
        cluster.nodes[0].stop();
        cluster.nodes[0].start();
        cluster.ready();
    }
    runtime.block_on(async {
        let clients = [Client::connect(ports[0]).await, Client::connect(ports[1]).await];
        compare_all(&clients).await;
        assert!(compare(&clients, compacted).await.is_some_and(|answer| answer.compact_revision == compacted));
        compact(&clients, compacted + 1).await;
        settle(&clients, compacted + 1).await;
        compare_all(&clients).await;
    });
}

/// Some leases that both have, and none. A server without leases says so.
async fn leases(clients: &[Client; 2]) -> Vec<i64> {
    let mut leases = vec![0];
    for id in [7, i64::MAX] {
        let request = LeaseGrantRequest { ttl: 10_000, id };
        let path = "/etcdserverpb.Lease/LeaseGrant";
        let ours: Result<LeaseGrantResponse, String> = clients[1].call(path, &request).await;
        match ours {
            Err(error) if error.starts_with("12 ") => return leases,
            ours => assert_eq!(ours.map(|granted| granted.id), Ok(id)),
        }
        let etcd: Result<LeaseGrantResponse, String> = clients[0].call(path, &request).await;
        assert_eq!(etcd.map(|granted| granted.id), Ok(id));
        leases.push(id);
    }
    leases
}

#[test]
fn members_have_the_same_digests() {
    let Some(etcd) = Etcd::find() else { return };
    let cluster = Cluster::vlot(3, &etcd.ctl);
    for n in 0..30 {
        cluster.told(n % 3, &["put", &format!("k{}", n % 7), &n.to_string()]);
    }
    cluster.told(0, &["compaction", "20"]);
    let ports: Vec<u16> = cluster.nodes.iter().map(|node| node.client_port).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let found = || {
        runtime.block_on(async {
            let mut found = Vec::new();
            for port in &ports {
                let client = Client::connect(*port).await;
                let state: HashResponse = client.call("/etcdserverpb.Maintenance/Hash", &HashRequest {}).await.unwrap();
                let mut digests = vec![(state.hash, -1)];
                for revision in [0, 20, 25] {
                    let answer: HashKvResponse = client.call(HASH_KV, &HashKvRequest { revision }).await.unwrap();
                    digests.push((answer.hash, answer.compact_revision));
                }
                found.push(digests);
            }
            found
        })
    };
    eventually("all members have the same digests", Duration::from_secs(10), || {
        let found = found();
        // The one of the compaction is kept as it was before it.
        found.iter().all(|digests| *digests == found[0] && digests[2].1 == -1)
    });
}
