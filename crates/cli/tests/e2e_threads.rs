//! A node whose connections are on several threads is one node to its clients: what one has written another reads, limits count over
//! all threads, and all of them stop.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use support::cluster::{Cluster, PATIENCE};
use support::eventually;
use support::exposition::Exposition;
use support::grpc::Client;
use vlot_proto::etcdserverpb::watch_request::RequestUnion;
use vlot_proto::etcdserverpb::{
    PutRequest, PutResponse, RangeRequest, RangeResponse, WatchCreateRequest, WatchRequest, WatchResponse,
};

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const WATCH: &str = "/etcdserverpb.Watch/Watch";
const THREADS: [&str; 3] = ["vlot-node", "vlot-edge-1", "vlot-edge-2"];

/// One node whose connections are on three threads.
fn node(flags: &[(&str, &str)]) -> Cluster {
    let mut cluster = Cluster::vlot_unstarted(1, Path::new("no client"));
    let node = &mut cluster.nodes[0];
    node.flag("edge-threads", "3");
    flags.iter().for_each(|(flag, value)| node.flag(flag, value));
    node.start();
    cluster.ready();
    cluster
}

/// A connection on each of the threads, and one more on each.
async fn connect(cluster: &Cluster) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..2 * THREADS.len() {
        clients.push(Client::connect(cluster.nodes[0].client_port).await);
    }
    clients
}

fn put(key: &str, value: usize) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: value.to_string().into(), ..PutRequest::default() }
}

fn watch(key: &str) -> WatchRequest {
    let create = WatchCreateRequest { key: key.to_owned().into(), ..WatchCreateRequest::default() };
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}

#[tokio::test]
async fn what_a_client_has_written_is_read_by_those_of_all_threads() {
    let cluster = node(&[]);
    let clients = connect(&cluster).await;
    let range = RangeRequest { key: "k".into(), ..RangeRequest::default() };
    for round in 0..50 {
        for writer in &clients {
            let written: PutResponse = writer.call(PUT, &put("k", round)).await.unwrap();
            let reads = clients.iter().map(|reader| reader.call::<RangeResponse>(RANGE, &range));
            for read in reads {
                let read = read.await.unwrap();
                assert_eq!(read.kvs[0].value, round.to_string());
                assert_eq!(read.kvs[0].mod_revision, written.header.unwrap().revision);
            }
        }
    }
    // All at once, so that calls meet on their way to the node and back.
    let tasks: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(number, client)| {
            let own = format!("own/{number}");
            let range = RangeRequest { key: own.clone().into(), ..RangeRequest::default() };
            tokio::spawn(async move {
                for round in 0..100 {
                    client.call::<PutResponse>(PUT, &put(&own, round)).await.unwrap();
                    let read: RangeResponse = client.call(RANGE, &range).await.unwrap();
                    assert_eq!(read.kvs[0].value, round.to_string());
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let metrics = Exposition::of(cluster.nodes[0].client_port);
    for thread in THREADS {
        let seconds = metrics.value("vlot_thread_cpu_seconds_total", &[("thread", thread)]);
        assert!(seconds > 0.01, "{thread} has served its connections in {seconds} s");
    }
}

#[tokio::test]
async fn what_an_address_may_have_is_counted_over_all_threads() {
    const MAX: usize = 10;
    let cluster = node(&[("max-watches-per-address", "10")]);
    let clients = connect(&cluster).await;
    let mut made = Vec::new();
    let mut refused = 0;
    for client in clients.iter().cycle().take(MAX + 5) {
        let mut conversation = client.converse(WATCH).await.unwrap();
        conversation.send(&watch("k"));
        match conversation.messages.next::<WatchResponse>().await {
            Ok(Some(_)) => made.push(conversation),
            _ => refused += 1,
        }
    }
    assert_eq!((made.len(), refused), (MAX, 5));
    // What one thread gives back another may have.
    made.drain(..3);
    let port = cluster.nodes[0].client_port;
    // Elsewhere: what says that the streams are given up is sent by this thread.
    let has_room = move || {
        eventually("there is room again", PATIENCE, || {
            Exposition::of(port).value("etcd_debugging_mvcc_watcher_total", &[]) == (MAX - 3) as f64
        });
    };
    tokio::task::spawn_blocking(has_room).await.unwrap();
    for client in clients.iter().take(3) {
        let mut conversation = client.converse(WATCH).await.unwrap();
        conversation.send(&watch("k"));
        assert!(matches!(conversation.messages.next::<WatchResponse>().await, Ok(Some(_))));
        made.push(conversation);
    }
}

#[tokio::test]
async fn all_threads_stop_with_open_streams_on_each() {
    let mut cluster = node(&[]);
    let clients = connect(&cluster).await;
    let mut streams = Vec::new();
    for client in &clients {
        let mut conversation = client.converse(WATCH).await.unwrap();
        conversation.send(&watch("k"));
        assert!(matches!(conversation.messages.next::<WatchResponse>().await, Ok(Some(_))));
        streams.push(conversation);
    }
    let begun = Instant::now();
    let stopped = tokio::task::spawn_blocking(move || cluster.nodes[0].stop());
    for stream in &mut streams {
        // Told, and not just cut off.
        let end = tokio::time::timeout(PATIENCE, stream.messages.next::<WatchResponse>()).await.unwrap();
        assert!(!matches!(end, Ok(Some(_))), "{end:?}");
    }
    assert!(stopped.await.unwrap().success());
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}
