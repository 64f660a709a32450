//! A node that may have few files open keeps what it needs for itself: clients beyond are refused, and nothing else suffers.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use support::cluster::{Cluster, PATIENCE};
use support::eventually;
use support::grpc::Client;
use support::http::fetch;
use vlot_proto::etcdserverpb::{PutRequest, PutResponse, RangeRequest, RangeResponse};

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const LIMIT: u32 = 200;
/// As the node has it: half of so few, and a quarter of that is left for other addresses.
const CLIENTS_MAX: usize = 75;

#[tokio::test]
async fn clients_are_refused_before_the_node_lacks_files() {
    let mut cluster = Cluster::vlot(1, Path::new("no client"));
    cluster.nodes[0].stop();
    cluster.nodes[0].descriptors = Some(LIMIT);
    cluster.nodes[0].start();
    cluster.ready();
    let port = cluster.nodes[0].client_port;
    let old = Client::connect(port).await;

    // The preface and empty settings: clients that are there, and say nothing more.
    let idle: Vec<TcpStream> = (0..400)
        .filter_map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
            stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").ok()?;
            Some(stream)
        })
        .collect();
    let served = idle.into_iter().filter_map(|mut stream| {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        matches!(stream.read(&mut [0; 9]), Ok(1..)).then_some(stream)
    });
    let served: Vec<_> = served.collect();
    assert_eq!(served.len() + 1, CLIENTS_MAX);

    // More than fits into a few files of the log.
    let put = |n: usize| PutRequest {
        key: format!("k{}", n % 10).into(),
        value: vec![n as u8; 1_000_000].into(),
        ..PutRequest::default()
    };
    for n in 0..100 {
        old.call::<PutResponse>(PUT, &put(n)).await.unwrap();
    }
    assert!(cluster.nodes[0].runs());
    drop(served);
    eventually("new clients are served", PATIENCE, || cluster.nodes[0].is_healthy());
    let metrics = fetch(port, "/metrics").unwrap();
    let refused = metrics.lines().find_map(|line| line.strip_prefix("vlot_client_connections_refused_total "));
    assert!(refused.unwrap().parse::<u32>().unwrap() >= 300, "{refused:?}");
    assert!(metrics.contains("vlot_clients_closed_total{reason=\"too_many_connections_per_address\"} "), "{metrics}");
    // Told, but not of each.
    let log = std::fs::read_to_string(&cluster.nodes[0].log).unwrap();
    assert_eq!(log.matches("too_many_connections_per_address").count(), 1, "{log}");

    // Nothing that was acknowledged is lost.
    cluster.nodes[0].kill();
    cluster.nodes[0].start();
    cluster.ready();
    let client = Client::connect(port).await;
    let range = RangeRequest { key: "k9".into(), ..RangeRequest::default() };
    let found: RangeResponse = client.call(RANGE, &range).await.unwrap();
    assert_eq!(found.kvs[0].value, put(99).value);
}

#[test]
fn the_limit_is_raised_as_far_as_it_may_be() {
    let cluster = Cluster::vlot(1, Path::new("no client"));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", cluster.nodes[0].process_id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let [soft, hard] = [3, 4].map(|place| line.split_whitespace().nth(place).unwrap());
    assert_eq!(soft, hard);
}
