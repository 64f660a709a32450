//! Who is let in, who is not, and that both sides learn why.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use vlot::net::{Identity, Lane, Limits, Listen, Net, Options, Refusal, Refused};

use crate::support::{
    CLUSTER, Hello, addresses, answer, answer_with, denied, eventually, frame, hear_answer, id, limits, refused,
};
use crate::world::{World, closed, on_every_transport};

/// The refusals' numbers on the wire.
const NOT_VLOT: u16 = 1;
const NO_COMMON_VERSION: u16 = 2;
const WRONG_CLUSTER: u16 = 3;
const WRONG_NODE: u16 = 4;
const UNKNOWN_NODE: u16 = 5;
const UNKNOWN_LANE: u16 = 6;
const TOO_SLOW: u16 = 7;
const CUT_SHORT: u16 = 8;
const GARBLED: u16 = 10;

async fn nodes_of_different_clusters_refuse_each_other_and_both_know_why(world: World) {
    let (a, b) = (world.place(), world.place());
    let peers = [(1, a.at()), (2, b.at())];
    let mut n1 = world.start_in(1, 1, a, &peers, limits());
    let mut n2 = world.start_in(2, 2, b, &peers, limits());
    for node in [&n1, &n2] {
        eventually(|| refused(node, Refusal::WrongCluster) > 1 && denied(node, Refusal::WrongCluster) > 1).await;
    }
    assert_eq!(n1.net.send(id(2), Lane::Control, &frame("x")), Err(Refused::Unconnected));
    n1.quiet().await;
    n2.quiet().await;
}

async fn a_node_at_another_nodes_address_is_not_taken_for_it(world: World) {
    let (a, b) = (world.place(), world.place());
    let (at_a, at_b) = (a.at(), b.at());
    // Node 1 believes that node 2 is where node 3 is.
    let mut n1 = world.start(1, a, &[(2, at_b)], limits());
    let mut n3 = world.start(3, b, &[(1, at_a)], limits());
    eventually(|| refused(&n3, Refusal::WrongNode) > 0 && denied(&n1, Refusal::WrongNode) > 0).await;
    // And node 3 is an unlisted peer of node 1, not node 2.
    n3.send(1, Lane::Control, &frame("from node 3")).await;
    assert_eq!(n1.frames(3, Lane::Control, 1).await, [&b"from node 3"[..]]);
    n1.quiet().await;
    n3.quiet().await;
}

async fn every_reason_is_sent_back(world: World) {
    let puppet = world.puppet(2);
    let mut node = world.start(1, world.place(), &[(2, puppet.address())], limits());
    let good = Hello::new(2, 1, 0);
    let garbage: Vec<u8> = (0..100_000_u32).map(|place| (place * 7) as u8).collect();
    let rows: [(Vec<u8>, u16, Refusal); 12] = [
        (Hello { cluster: 8, ..good }.encode(), WRONG_CLUSTER, Refusal::WrongCluster),
        (Hello { to: 7, ..good }.encode(), WRONG_NODE, Refusal::WrongNode),
        // A caller that claims to be the node it calls.
        (Hello { from: 1, ..good }.encode(), UNKNOWN_NODE, Refusal::UnknownNode),
        (Hello { lane: 9, ..good }.encode(), UNKNOWN_LANE, Refusal::UnknownLane),
        (Hello { lane: 9, from: 3, ..good }.encode(), UNKNOWN_LANE, Refusal::UnknownLane),
        (Hello { cluster: 8, from: 3, ..good }.encode(), WRONG_CLUSTER, Refusal::WrongCluster),
        (Hello { versions: (6, 9), ..good }.encode(), NO_COMMON_VERSION, Refusal::NoCommonVersion),
        (Hello { versions: (9, 3), ..good }.encode(), NO_COMMON_VERSION, Refusal::NoCommonVersion),
        // The version that had no introduction.
        (Hello { versions: (1, 1), ..good }.encode_with(b""), NO_COMMON_VERSION, Refusal::NoCommonVersion),
        (Hello { magic: *b"vlotpeeR", ..good }.encode(), NOT_VLOT, Refusal::NotVlot),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), NOT_VLOT, Refusal::NotVlot),
        (garbage[..30_000].to_vec(), NOT_VLOT, Refusal::NotVlot),
    ];
    for (says, number, reason) in rows {
        let before = refused(&node, reason);
        let (mut stream, refusal) = world.call(node.at, &says).await;
        assert_eq!(refusal, number);
        closed(&mut stream).await;
        assert_eq!(refused(&node, reason), before + 1);
    }
    node.quiet().await;
    // A later version that still speaks this one is welcome.
    assert_eq!(world.call(node.at, &Hello { versions: (3, 9), ..good }.encode()).await.1, 0);
}

async fn half_a_hello_is_not_waited_for_longer_than_the_timeout(world: World) {
    let puppet = world.puppet(2);
    let node = world.start(1, world.place(), &[(2, puppet.address())], limits());
    let hello = Hello::new(2, 1, 0).encode();

    let begun = Instant::now();
    let (mut stream, refusal) = world.call(node.at, &hello[..39]).await;
    assert_eq!(refusal, TOO_SLOW);
    assert!(begun.elapsed() >= limits().handshake_timeout);
    closed(&mut stream).await;

    // Another drips byte by byte: each of them resets nothing.
    let mut dripping = world.dial(node.at).await;
    let begun = Instant::now();
    for byte in &hello {
        if dripping.write_all(&[*byte]).await.is_err() || refused(&node, Refusal::TooSlow) > 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    assert_eq!(refused(&node, Refusal::TooSlow), 2);
    assert!(begun.elapsed() < 2 * limits().handshake_timeout);

    // The introduction belongs to the hello.
    let hello = Hello { address: "10.0.0.1:7000", ..Hello::new(2, 1, 0) }.encode();
    let (_stream, refusal) = world.call(node.at, &hello[..hello.len() - 1]).await;
    assert_eq!(refusal, TOO_SLOW);

    // One that hangs up in the middle has no need to be waited for.
    let mut stream = world.dial(node.at).await;
    stream.write_all(&hello[..20]).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(hear_answer(&mut stream).await.refusal, CUT_SHORT);
    let mut stream = world.dial(node.at).await;
    stream.write_all(&hello[..50]).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(hear_answer(&mut stream).await.refusal, CUT_SHORT);
}

async fn a_garbled_introduction_is_refused_and_a_longer_one_is_not(world: World) {
    let puppet = world.puppet(2);
    let mut node = world.start(1, world.place(), &[(2, puppet.address())], limits());
    let good = Hello { disk: 5, address: "10.0.0.1:7000", ..Hello::new(2, 1, 0) };
    let whole = good.introduction();
    for length in 0..whole.len() {
        let (mut stream, refusal) = world.call(node.at, &good.encode_with(&whole[..length])).await;
        assert_eq!(refusal, GARBLED, "{length} bytes");
        closed(&mut stream).await;
    }
    let too_long = "a".repeat(301);
    let rows = [
        [&whole[..18], b"\xff0.0.0.1:7000"].concat(),
        [&whole[..16], b"\xff\xff", &whole[18..]].concat(),
        [&whole[..16], &301_u16.to_be_bytes(), too_long.as_bytes()].concat(),
        // More than ever follows a hello.
        [&whole[..], &[0; 1024]].concat(),
    ];
    for introduction in &rows {
        assert_eq!(world.call(node.at, &good.encode_with(introduction)).await.1, GARBLED);
    }
    assert_eq!(refused(&node, Refusal::Garbled), (whole.len() + rows.len()) as u64);
    node.quiet().await;
    // What a later version adds is not understood, and is no fault.
    let (mut stream, refusal) = world.call(node.at, &good.encode_with(&[&whole[..], &[7; 500]].concat())).await;
    assert_eq!(refusal, 0);
    stream.write_all(b"\0\0\0\x05frame").await.unwrap();
    assert_eq!(node.frames(2, Lane::Control, 1).await, [&b"frame"[..]]);
}

#[tokio::test]
async fn a_node_says_where_it_listens_and_which_disk_it_has() {
    let world = World::tcp();
    let rows = [
        ("127.0.0.1:0", None, Some("the bound address")),
        ("127.0.0.1:0", Some("node-1.example:7001"), Some("node-1.example:7001")),
        // No other machine could make sense of "any address".
        ("0.0.0.0:0", None, None),
        ("0.0.0.0:0", Some("node-1.example:7001"), Some("node-1.example:7001")),
    ];
    for (listen, advertise, told) in rows {
        let puppet = world.puppet(2);
        let identity = Identity { cluster: CLUSTER, node: id(1), disk: 77 };
        let options = Options::new(identity, Listen::At(listen.into()), addresses(&[(2, puppet.address())]));
        let (net, _inbox) = Net::start(Options { advertise: advertise.map(str::to_owned), ..options }).unwrap();
        let bound = net.address().to_owned();
        let told = told.map(|told| if told == "the bound address" { bound.as_str() } else { told });

        let (_, heard) = puppet.hear().await;
        assert_eq!((heard.disk, heard.disk_expected), (77, 0));
        assert_eq!(heard.address, told.unwrap_or_default());
        assert_eq!(net.advertised(), told);
        let reached = bound.replace("0.0.0.0", "127.0.0.1");
        assert_eq!(world.ask(&reached, &Hello::new(2, 1, 0).encode()).await.1.disk, 77);
    }
    let endless = "a".repeat(301);
    let identity = Identity { cluster: CLUSTER, node: id(1), disk: 77 };
    let options = Options::new(identity, Listen::At("127.0.0.1:0".into()), addresses(&[]));
    let options = Options { advertise: Some(endless.clone()), ..options };
    assert_eq!(Net::start(options).unwrap_err().address, endless);
}

async fn a_crowd_of_silent_callers_does_not_keep_a_peer_out(world: World) {
    let puppet = world.puppet(2);
    let few = Limits { strangers_max: 8, handshake_timeout: Duration::from_secs(60), ..limits() };
    let node = world.start(1, world.place(), &[(2, puppet.address())], few);
    // It is known where the peer is as soon as it is reached.
    puppet.hear().await;
    let mut crowd = Vec::new();
    for _ in 0..50 {
        crowd.push(world.dial(node.at).await);
    }
    eventually(|| refused(&node, Refusal::Crowded) == 42).await;
    for oldest in &mut crowd[..42] {
        closed(oldest).await;
    }
    assert_eq!(world.call(node.at, &Hello::new(2, 1, 0).encode()).await.1, 0);
    assert_eq!(refused(&node, Refusal::Crowded), 43);
}

async fn a_crowd_from_elsewhere_takes_no_place_of_a_peers_host(world: World) {
    let puppet = world.puppet(2);
    let few = Limits { strangers_max: 2, handshake_timeout: Duration::from_secs(60), ..limits() };
    let node = world.start(1, world.place(), &[(2, puppet.address())], few);
    // It is known where the peer is as soon as it is reached.
    puppet.hear().await;
    let hello = Hello::new(2, 1, 0).encode();
    let mut slow_peer = world.dial_from(puppet.address(), node.at).await;
    slow_peer.write_all(&hello[..20]).await.unwrap();
    let mut crowd = Vec::new();
    for _ in 0..50 {
        crowd.push(world.dial_from_elsewhere(node.at).await);
    }
    eventually(|| refused(&node, Refusal::Crowded) == 48).await;
    slow_peer.write_all(&hello[20..]).await.unwrap();
    assert_eq!(hear_answer(&mut slow_peer).await.refusal, 0);
}

async fn what_answers_a_call_is_checked_too(world: World) {
    let puppet = world.puppet(2);
    let mut node = world.start(1, world.place(), &[(2, puppet.address())], limits());
    let rows = [
        (answer(0, 3, 8, 2), Refusal::WrongCluster),
        (answer(0, 3, CLUSTER, 3), Refusal::WrongNode),
        (answer(0, 6, CLUSTER, 2), Refusal::NoCommonVersion),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n....".to_vec(), Refusal::NotVlot),
        (answer_with(0, 3, CLUSTER, 2, &[0; 7]), Refusal::Garbled),
        (answer_with(0, 3, CLUSTER, 2, &[0; 1025]), Refusal::Garbled),
    ];
    for (says, reason) in rows {
        let before = refused(&node, reason);
        let (mut stream, _) = puppet.hear().await;
        stream.write_all(&says).await.unwrap();
        closed(&mut stream).await;
        eventually(|| refused(&node, reason) == before + 1).await;
    }
    let denials = [
        (answer(5, 3, CLUSTER, 2), Refusal::UnknownNode),
        // A reason that this version does not know is a refusal all the same.
        (answer(77, 3, CLUSTER, 2), Refusal::Unrecognised),
        // A node of version 1 says no without a word more.
        (answer_with(2, 1, CLUSTER, 2, b""), Refusal::NoCommonVersion),
        (answer_with(3, 3, CLUSTER, 2, &[0; 1025]), Refusal::WrongCluster),
    ];
    for (says, reason) in denials {
        let before = denied(&node, reason);
        let (mut stream, _) = puppet.hear().await;
        stream.write_all(&says).await.unwrap();
        closed(&mut stream).await;
        eventually(|| denied(&node, reason) == before + 1).await;
    }
    assert_eq!(node.net.send(id(2), Lane::Control, &frame("x")), Err(Refused::Unconnected));
    node.quiet().await;
}

async fn strangers_do_not_disturb_those_who_are_connected(world: World) {
    let mut nodes = world.cluster(2, limits()).await;
    for _ in 0..20 {
        let (_stream, refusal) = world.call(nodes[0].at, b"nonsense").await;
        assert_eq!(refusal, NOT_VLOT);
    }
    nodes[1].send(1, Lane::Control, &frame("undisturbed")).await;
    assert_eq!(nodes[0].frames(2, Lane::Control, 1).await, [&b"undisturbed"[..]]);
}

on_every_transport!(
    nodes_of_different_clusters_refuse_each_other_and_both_know_why,
    a_node_at_another_nodes_address_is_not_taken_for_it,
    every_reason_is_sent_back,
    half_a_hello_is_not_waited_for_longer_than_the_timeout,
    a_garbled_introduction_is_refused_and_a_longer_one_is_not,
    a_crowd_of_silent_callers_does_not_keep_a_peer_out,
    a_crowd_from_elsewhere_takes_no_place_of_a_peers_host,
    what_answers_a_call_is_checked_too,
    strangers_do_not_disturb_those_who_are_connected,
);
