//! Puts that come at the same time share entries of the log: fewer entries than revisions, the same answers, and the same state on every
//! member, one that was killed and replays its log included. Switched off, each has its own.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use support::cluster::{Cluster, PATIENCE};
use support::grpc::Client;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use vlot_proto::etcdserverpb::{
    HashKvRequest, HashKvResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, StatusRequest, StatusResponse,
};

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const STATUS: &str = "/etcdserverpb.Maintenance/Status";
const HASH: &str = "/etcdserverpb.Maintenance/HashKV";
/// At once, at each of the members.
const WRITERS: usize = 32;
const PUTS: usize = 30;

fn cluster(shares_entries: &str) -> Cluster {
    Cluster::with_flag(None, 3, Path::new("no client"), ("share-entries", shares_entries))
}

/// Puts from many writers at every member, each of which reads what it has written; the round is part of the values. Gives back how many
/// revisions and how many entries came of it.
async fn write(cluster: &Cluster, round: usize) -> (i64, i64) {
    let before = status(cluster, 0).await;
    let mut writers = JoinSet::new();
    for (member, node) in cluster.nodes.iter().enumerate() {
        let client = Arc::new(Client::connect(node.client_port).await);
        for writer in 0..WRITERS {
            let client = Arc::clone(&client);
            writers.spawn(async move {
                let key = format!("{member}/{writer}");
                for n in 0..PUTS {
                    let value = format!("{round}/{n}");
                    let put =
                        PutRequest { key: key.clone().into(), value: value.clone().into(), ..PutRequest::default() };
                    let written: PutResponse = client.call(PUT, &put).await.unwrap();
                    let range = RangeRequest { key: key.clone().into(), ..RangeRequest::default() };
                    let read: RangeResponse = client.call(RANGE, &range).await.unwrap();
                    assert_eq!(read.kvs[0].value, value);
                    assert_eq!(read.kvs[0].mod_revision, written.header.unwrap().revision);
                }
            });
        }
    }
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    let after = status(cluster, 0).await;
    (after.header.unwrap().revision - before.header.unwrap().revision, (after.raft_index - before.raft_index) as i64)
}

async fn status(cluster: &Cluster, member: usize) -> StatusResponse {
    let client = Client::connect(cluster.nodes[member].client_port).await;
    client.call(STATUS, &StatusRequest::default()).await.unwrap()
}

async fn hash(cluster: &Cluster, member: usize, revision: i64) -> u32 {
    let client = Client::connect(cluster.nodes[member].client_port).await;
    let hash: HashKvResponse = client.call(HASH, &HashKvRequest { revision }).await.unwrap();
    hash.hash
}

#[tokio::test]
async fn puts_share_entries_and_every_member_comes_to_the_same() {
    let mut cluster = cluster("true");
    let all = (3 * WRITERS * PUTS) as i64;
    let (revisions, entries) = write(&cluster, 0).await;
    assert_eq!(revisions, all);
    assert!(entries < all / 2, "{entries} entries for {all} puts");
    // One begins anew, and replays entries with several commands.
    let victim = (0..3).find(|&node| !cluster.nodes[node].leads()).unwrap();
    cluster.nodes[victim].kill();
    cluster.nodes[victim].start();
    cluster.ready();
    let (revisions, entries) = write(&cluster, 1).await;
    assert_eq!(revisions, all);
    assert!(entries < all / 2, "{entries} entries for {all} puts");
    let revision = status(&cluster, 0).await.header.unwrap().revision;
    for member in 0..3 {
        let reaches = async {
            while status(&cluster, member).await.header.unwrap().revision < revision {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, reaches).await.expect("every member comes to the same revision");
    }
    let hashes =
        [hash(&cluster, 0, revision).await, hash(&cluster, 1, revision).await, hash(&cluster, 2, revision).await];
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
}

#[tokio::test]
async fn switched_off_each_put_has_its_entry() {
    let cluster = cluster("false");
    let (revisions, entries) = write(&cluster, 0).await;
    assert_eq!(revisions, (3 * WRITERS * PUTS) as i64);
    assert!(entries >= revisions, "{entries} entries for {revisions} puts");
}
