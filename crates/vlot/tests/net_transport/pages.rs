//! Plain HTTP beside the peers' protocol, on the same port.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use vlot::net::{Identity, Options, Page, Pages, Refusal};

use crate::support::{CLUSTER, Node, id, limits, refused, soon};
use crate::world::{Address, World, on_every_transport};

/// A node that answers each path with itself.
fn start(world: &World, node: u64, peers: &[(u64, Address)]) -> Node {
    let pages = Pages::new(|path| Page {
        status: if path == "/lost" { "404 Not Found" } else { "200 OK" },
        headers: vec![("X-Cluster", CLUSTER.to_string())],
        content_type: "text/plain",
        body: format!("you asked for {path}"),
    });
    let identity = Identity { cluster: CLUSTER, node: id(node), disk: 0 };
    let options = world.options(identity, world.place(), peers);
    world.start_with(Options { limits: limits(), pages: Some(pages), ..options })
}

/// Everything that is answered to these bytes.
async fn ask(world: &World, node: &Node, request: &[&[u8]]) -> String {
    let mut stream = world.dial(node.at).await;
    for part in request {
        stream.write_all(part).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut answer = Vec::new();
    // A connection that is reset has said what it had to say.
    let _ = soon(stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

async fn a_page_is_shown_and_the_connection_ends(world: World) {
    let mut node = start(&world, 1, &[]);
    for parts in [
        &[&b"GET /members?x=1 HTTP/1.1\r\nHost: anything\r\n\r\n"[..]][..],
        &[b"GET /mem", b"bers?x=1 HTTP/1.0\r\n", b"\r\n"],
    ] {
        let answer = ask(&world, &node, parts).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("\r\nX-Cluster: 9\r\n"), "{head}");
        assert!(head.ends_with("\r\nConnection: close"), "{head}");
        assert_eq!(body, "you asked for /members?x=1");
    }
    assert!(ask(&world, &node, &[b"GET /lost HTTP/1.1\r\n\r\n"]).await.starts_with("HTTP/1.1 404 Not Found\r\n"));
    node.quiet().await;
}

async fn what_is_no_request_is_refused_within_bounds(world: World) {
    let node = start(&world, 1, &[]);
    assert!(!ask(&world, &node, &[b"POST /members HTTP/1.1\r\n\r\n"]).await.contains("HTTP"));
    assert!(!ask(&world, &node, &[b"GET nothing at all\r\n\r\n"]).await.contains("HTTP"));
    assert!(!ask(&world, &node, &[b"GET /", &[b'a'; 100_000]]).await.contains("HTTP"));
    assert_eq!(refused(&node, Refusal::NotVlot), 3);
    // One that is never finished has as much time as any other unauthenticated connections.
    let begun = Instant::now();
    ask(&world, &node, &[b"GET /members HTTP/1.1\r\n"]).await;
    assert!(begun.elapsed() >= limits().handshake_timeout);
    assert_eq!(refused(&node, Refusal::TooSlow), 1);
}

async fn peers_connect_as_ever(world: World) {
    let puppet = world.puppet(2);
    let mut node = start(&world, 1, &[(2, puppet.address())]);
    let mut other = world.start(3, world.place(), &[(1, node.at)], limits());
    other.send(1, vlot::net::Lane::Control, &[bytes::Bytes::from_static(b"hello")]).await;
    assert_eq!(node.frames(3, vlot::net::Lane::Control, 1).await, [&b"hello"[..]]);
    other.quiet().await;
}

on_every_transport!(
    a_page_is_shown_and_the_connection_ends,
    what_is_no_request_is_refused_within_bounds,
    peers_connect_as_ever,
);
