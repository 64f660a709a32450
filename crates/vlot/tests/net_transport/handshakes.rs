//! Who is let in, who is not, and that both sides learn why.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use vlot::net::{Lane, Limits, Refusal, Refused};

use crate::support::{
    CLUSTER, Hello, Node, Puppet, answer, call, closed, cluster, eventually, frame, id, limits, listener,
};

/// The refusals' numbers on the wire.
const NOT_VLOT: u16 = 1;
const NO_COMMON_VERSION: u16 = 2;
const WRONG_CLUSTER: u16 = 3;
const WRONG_NODE: u16 = 4;
const UNKNOWN_NODE: u16 = 5;
const UNKNOWN_LANE: u16 = 6;
const TOO_SLOW: u16 = 7;
const CUT_SHORT: u16 = 8;

fn refused(node: &Node, reason: Refusal) -> u64 {
    node.net.stats().handshakes_refused.get(&reason).copied().unwrap_or(0)
}

fn denied(node: &Node, reason: Refusal) -> u64 {
    node.net.stats().handshakes_denied.get(&reason).copied().unwrap_or(0)
}

#[tokio::test]
async fn nodes_of_different_clusters_refuse_each_other_and_both_know_why() {
    let (a, b) = (listener(), listener());
    let peers = [(1, a.local_addr().unwrap()), (2, b.local_addr().unwrap())];
    let mut n1 = Node::start_in(1, 1, a, &peers, limits());
    let mut n2 = Node::start_in(2, 2, b, &peers, limits());
    for node in [&n1, &n2] {
        eventually(|| refused(node, Refusal::WrongCluster) > 1 && denied(node, Refusal::WrongCluster) > 1).await;
    }
    assert_eq!(n1.net.send(id(2), Lane::Control, &frame("x")), Err(Refused::Unconnected));
    n1.quiet().await;
    n2.quiet().await;
}

#[tokio::test]
async fn a_node_at_another_nodes_address_is_not_taken_for_it() {
    let (a, b) = (listener(), listener());
    let (at_a, at_b) = (a.local_addr().unwrap(), b.local_addr().unwrap());
    // Node 1 believes that node 2 is where node 3 is.
    let mut n1 = Node::start(1, a, &[(2, at_b)], limits());
    let mut n3 = Node::start(3, b, &[(1, at_a)], limits());
    eventually(|| refused(&n3, Refusal::WrongNode) > 0 && denied(&n1, Refusal::WrongNode) > 0).await;
    // And node 3 is not among the peers of node 1.
    eventually(|| refused(&n1, Refusal::UnknownNode) > 0 && denied(&n3, Refusal::UnknownNode) > 0).await;
    n1.quiet().await;
    n3.quiet().await;
}

#[tokio::test]
async fn every_reason_is_sent_back() {
    let puppet = Puppet::new(2);
    let mut node = Node::start(1, listener(), &[(2, puppet.address())], limits());
    let good = Hello::new(2, 1, 0);
    let garbage: Vec<u8> = (0..100_000_u32).map(|place| (place * 7) as u8).collect();
    let rows: [(Vec<u8>, u16, Refusal); 10] = [
        (Hello { cluster: 8, ..good }.encode(), WRONG_CLUSTER, Refusal::WrongCluster),
        (Hello { to: 7, ..good }.encode(), WRONG_NODE, Refusal::WrongNode),
        (Hello { from: 3, ..good }.encode(), UNKNOWN_NODE, Refusal::UnknownNode),
        // A caller that claims to be the node it calls.
        (Hello { from: 1, ..good }.encode(), UNKNOWN_NODE, Refusal::UnknownNode),
        (Hello { lane: 9, ..good }.encode(), UNKNOWN_LANE, Refusal::UnknownLane),
        (Hello { versions: (2, 9), ..good }.encode(), NO_COMMON_VERSION, Refusal::NoCommonVersion),
        (Hello { versions: (9, 1), ..good }.encode(), NO_COMMON_VERSION, Refusal::NoCommonVersion),
        (Hello { magic: *b"vlotpeeR", ..good }.encode(), NOT_VLOT, Refusal::NotVlot),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), NOT_VLOT, Refusal::NotVlot),
        (garbage[..30_000].to_vec(), NOT_VLOT, Refusal::NotVlot),
    ];
    for (says, number, reason) in rows {
        let before = refused(&node, reason);
        let (mut stream, refusal) = call(node.net.address(), &says).await;
        assert_eq!(refusal, number);
        closed(&mut stream).await;
        assert_eq!(refused(&node, reason), before + 1);
    }
    node.quiet().await;
    // A later version that still speaks this one is welcome.
    assert_eq!(call(node.net.address(), &Hello { versions: (1, 9), ..good }.encode()).await.1, 0);
}

#[tokio::test]
async fn half_a_hello_is_not_waited_for_longer_than_the_timeout() {
    let puppet = Puppet::new(2);
    let node = Node::start(1, listener(), &[(2, puppet.address())], limits());
    let hello = Hello::new(2, 1, 0).encode();

    let begun = Instant::now();
    let (mut stream, refusal) = call(node.net.address(), &hello[..39]).await;
    assert_eq!(refusal, TOO_SLOW);
    assert!(begun.elapsed() >= limits().handshake_timeout);
    closed(&mut stream).await;

    // Another drips byte by byte: each of them resets nothing.
    let mut dripping = TcpStream::connect(node.net.address()).await.unwrap();
    let begun = Instant::now();
    for byte in &hello {
        if dripping.write_all(&[*byte]).await.is_err() || refused(&node, Refusal::TooSlow) > 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    assert_eq!(refused(&node, Refusal::TooSlow), 2);
    assert!(begun.elapsed() < 2 * limits().handshake_timeout);

    // One that hangs up in the middle has no need to be waited for.
    let mut stream = TcpStream::connect(node.net.address()).await.unwrap();
    stream.write_all(&hello[..20]).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = [0; 32];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut answer).await.unwrap();
    assert_eq!(answer[8..10], CUT_SHORT.to_be_bytes());
}

#[tokio::test]
async fn a_crowd_of_silent_callers_does_not_keep_a_peer_out() {
    let puppet = Puppet::new(2);
    let few = Limits { strangers_max: 8, handshake_timeout: Duration::from_secs(60), ..limits() };
    let node = Node::start(1, listener(), &[(2, puppet.address())], few);
    let mut crowd = Vec::new();
    for _ in 0..50 {
        crowd.push(TcpStream::connect(node.net.address()).await.unwrap());
    }
    eventually(|| refused(&node, Refusal::Crowded) == 42).await;
    for oldest in &mut crowd[..42] {
        closed(oldest).await;
    }
    assert_eq!(call(node.net.address(), &Hello::new(2, 1, 0).encode()).await.1, 0);
    assert_eq!(refused(&node, Refusal::Crowded), 43);
}

#[tokio::test]
async fn what_answers_a_call_is_checked_too() {
    let puppet = Puppet::new(2);
    let mut node = Node::start(1, listener(), &[(2, puppet.address())], limits());
    let rows = [
        (answer(0, 1, 8, 2), Refusal::WrongCluster),
        (answer(0, 1, CLUSTER, 3), Refusal::WrongNode),
        (answer(0, 2, CLUSTER, 2), Refusal::NoCommonVersion),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n....".to_vec(), Refusal::NotVlot),
    ];
    for (says, reason) in rows {
        let (mut stream, _) = puppet.hear().await;
        stream.write_all(&says).await.unwrap();
        closed(&mut stream).await;
        eventually(|| refused(&node, reason) == 1).await;
    }
    let denials = [
        (answer(5, 1, CLUSTER, 2), Refusal::UnknownNode),
        // A reason that this version does not know is a refusal all the same.
        (answer(77, 1, CLUSTER, 2), Refusal::Unrecognised),
    ];
    for (says, reason) in denials {
        let (mut stream, _) = puppet.hear().await;
        stream.write_all(&says).await.unwrap();
        closed(&mut stream).await;
        eventually(|| denied(&node, reason) == 1).await;
    }
    assert_eq!(node.net.send(id(2), Lane::Control, &frame("x")), Err(Refused::Unconnected));
    node.quiet().await;
}

#[tokio::test]
async fn strangers_do_not_disturb_those_who_are_connected() {
    let mut nodes = cluster(2, limits()).await;
    for _ in 0..20 {
        let (_stream, refusal) = call(nodes[0].net.address(), b"nonsense").await;
        assert_eq!(refusal, NOT_VLOT);
    }
    nodes[1].send(1, Lane::Control, &frame("undisturbed")).await;
    assert_eq!(nodes[0].frames(2, Lane::Control, 1).await, [&b"undisturbed"[..]]);
}
