//! Nodes that call without being peers are heard and answered, within bounds, and no one is told that they come and go.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use vlot::net::{Event, Lane, Limits, Refusal, Refused};

use crate::support::{Hello, Node, addresses, eventually, frame, id, limits, refused, soon};
use crate::world::{Puppet, Stream, World, closed, on_every_transport};

const CONTROL: u16 = 0;
const TOO_MANY_GUESTS: u16 = 11;

/// Calls a node as the puppet, which listens where it says.
async fn call_as(world: &World, puppet: &Puppet, node: &Node) -> Stream {
    let hello = Hello { address: puppet.address(), ..Hello::new(puppet.node, node.id.0, CONTROL) };
    let (stream, refusal) = world.call(node.at, &hello.encode()).await;
    assert_eq!(refusal, 0);
    stream
}

async fn say(stream: &mut Stream, short: &[u8]) {
    stream.write_all(&[&[0, 0, 0, short.len() as u8], short].concat()).await.unwrap();
}

async fn heard(stream: &mut Stream, short: &[u8]) {
    let mut bytes = vec![0; 4 + short.len()];
    soon(stream.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(bytes, [&[0, 0, 0, short.len() as u8], short].concat());
}

async fn a_node_that_is_no_peer_is_heard_and_answered_at_once(world: World) {
    let mut n1 = world.start(1, world.place(), &[], limits());
    let mut n2 = world.start(2, world.place(), &[(1, n1.at)], limits());
    assert_eq!(n1.net.send(id(2), Lane::Control, &frame("to no one")), Err(Refused::Unknown));
    n2.send(1, Lane::Control, &frame("question")).await;
    assert_eq!(n1.frames(2, Lane::Control, 1).await, [&b"question"[..]]);

    n1.net.send(id(2), Lane::Entries, &frame("answer")).unwrap();
    assert_eq!(n2.frames(1, Lane::Entries, 1).await, [&b"answer"[..]]);
    n2.quiet().await;
    // Node 1 is a peer of node 2, which hears of it when the control lane stands in both directions.
    n1.net.send(id(2), Lane::Control, &frame("more")).unwrap();
    n2.connected(1).await;
    assert_eq!(n2.frames(1, Lane::Control, 1).await, [&b"more"[..]]);
    n1.quiet().await;

    // That an unlisted peer goes is not told either. What was meant for it is dropped, and it is dialled no more.
    n2.net.shutdown().await;
    n1.quiet().await;
    n1.send(2, Lane::Control, &frame("anyone there?")).await;
    eventually(|| n1.net.stats().dropped_frames == 1).await;
    n1.quiet().await;
}

async fn a_unlisted_peer_is_dialled_where_it_last_said_it_listens(world: World) {
    let (older, newer) = (world.puppet(2), world.puppet(2));
    let mut node = world.start(1, world.place(), &[], limits());
    let mut stream = world.call(node.at, &Hello::new(2, 1, CONTROL).encode()).await.0;
    say(&mut stream, b"one").await;
    assert_eq!(node.frames(2, Lane::Control, 1).await, [&b"one"[..]]);
    // It has not said where.
    assert_eq!(node.net.send(id(2), Lane::Control, &frame("x")), Err(Refused::Unconnected));

    let _stream = call_as(&world, &older, &node).await;
    let _stream = call_as(&world, &newer, &node).await;
    node.send(2, Lane::Control, &frame("there")).await;
    heard(&mut newer.accept_lane(Lane::Control).await, b"there").await;
    node.quiet().await;
}

async fn there_are_only_so_many_guests(world: World) {
    let peer = world.puppet(2);
    let few = Limits { unlisted_max: 2, unlisted_silence_max: Duration::from_millis(500), ..limits() };
    let mut node = world.start(1, world.place(), &[(2, peer.address())], few);
    let (mut talkative, _) = world.call(node.at, &Hello::new(3, 1, CONTROL).encode()).await;
    let (mut silent, _) = world.call(node.at, &Hello::new(4, 1, CONTROL).encode()).await;
    let turned_away = Hello::new(5, 1, CONTROL).encode();
    assert_eq!(world.call(node.at, &turned_away).await.1, TOO_MANY_GUESTS);
    assert_eq!(refused(&node, Refusal::TooManyUnlisted), 1);
    // An unlisted peer that calls again is no further unlisted peer, and a peer is none.
    assert_eq!(world.call(node.at, &Hello::new(4, 1, 1).encode()).await.1, 0);
    assert_eq!(world.call(node.at, &Hello::new(2, 1, 1).encode()).await.1, 0);

    // Unlisted peers that are silent for too long make room; one that speaks stays.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1500) {
        say(&mut talkative, b"still here").await;
        let Event::Frames { from, .. } = node.next().await else { panic!("news") };
        assert_eq!(from, id(3));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    closed(&mut silent).await;
    assert_eq!(node.net.send(id(4), Lane::Control, &frame("x")), Err(Refused::Unknown));
    assert_eq!(node.net.send(id(3), Lane::Control, &frame("x")), Err(Refused::Unconnected));
    assert_eq!(world.call(node.at, &turned_away).await.1, 0);
    assert_eq!(refused(&node, Refusal::TooManyUnlisted), 1);
    node.quiet().await;
}

async fn a_unlisted_peer_becomes_a_peer_on_the_connections_it_has(world: World) {
    let puppet = world.puppet(2);
    let mut node = world.start(1, world.place(), &[], limits());
    let mut to_node = call_as(&world, &puppet, &node).await;
    node.send(2, Lane::Control, &frame("to an unlisted peer")).await;
    let mut from_node = puppet.accept_lane(Lane::Control).await;
    heard(&mut from_node, b"to an unlisted peer").await;
    node.quiet().await;

    node.net.set_peers(addresses(&[(2, puppet.address())]));
    node.connected(2).await;
    node.send(2, Lane::Control, &frame("to a peer")).await;
    heard(&mut from_node, b"to a peer").await;
    say(&mut to_node, b"from a peer").await;
    assert_eq!(node.frames(2, Lane::Control, 1).await, [&b"from a peer"[..]]);
    // A peer's other lanes are dialled without anything to send.
    let entries = puppet.accept_lane(Lane::Entries).await;
    drop(entries);
    node.quiet().await;
    drop(from_node);
    node.lost(2).await;
}

async fn a_unlisted_peer_that_was_never_dialled_is_dialled_when_it_becomes_a_peer(world: World) {
    let mut n1 = world.start(1, world.place(), &[], limits());
    let mut n2 = world.start(2, world.place(), &[(1, n1.at)], limits());
    n2.send(1, Lane::Control, &frame("here I am")).await;
    n1.frames(2, Lane::Control, 1).await;
    n1.net.set_peers(addresses(&[(2, n2.at)]));
    n1.connected(2).await;
    n2.connected(1).await;
    n1.quiet().await;
    n2.quiet().await;
}

async fn a_peer_that_is_removed_is_lost_and_goes_on_as_a_guest(world: World) {
    let puppet = world.puppet(2);
    let mut node = world.start(1, world.place(), &[(2, puppet.address())], limits());
    let mut from_node = puppet.accept_lane(Lane::Control).await;
    let mut to_node = call_as(&world, &puppet, &node).await;
    node.connected(2).await;

    // What was said before it was removed still reaches it.
    node.net.send(id(2), Lane::Control, &frame("the last word")).unwrap();
    node.net.set_peers(addresses(&[]));
    node.lost(2).await;
    heard(&mut from_node, b"the last word").await;
    say(&mut to_node, b"vote for me").await;
    assert_eq!(node.frames(2, Lane::Control, 1).await, [&b"vote for me"[..]]);
    node.net.send(id(2), Lane::Control, &frame("removed")).unwrap();
    heard(&mut from_node, b"removed").await;

    // It is not dialled again unless there is something to tell it.
    drop(from_node);
    node.quiet().await;
    say(&mut to_node, b"vote for me").await;
    node.frames(2, Lane::Control, 1).await;
    node.send(2, Lane::Control, &frame("removed")).await;
    heard(&mut puppet.accept_lane(Lane::Control).await, b"removed").await;

    // As it is not when it calls after it has been away.
    drop(to_node);
    let mut to_node = call_as(&world, &puppet, &node).await;
    say(&mut to_node, b"and now?").await;
    assert_eq!(node.frames(2, Lane::Control, 1).await, [&b"and now?"[..]]);
    node.quiet().await;
    // In a later map it is a peer again.
    node.net.set_peers(addresses(&[(2, puppet.address())]));
    let _from_node = puppet.accept_lane(Lane::Control).await;
    node.connected(2).await;
}

async fn a_removed_peer_for_which_there_is_no_room_is_hung_up_on(world: World) {
    let none = Limits { unlisted_max: 0, ..limits() };
    let mut nodes = world.cluster(2, none).await;
    let (mut n2, mut n1) = (nodes.pop().unwrap(), nodes.pop().unwrap());
    n1.net.set_peers(addresses(&[]));
    n1.lost(2).await;
    n2.lost(1).await;
    assert_eq!(n1.net.send(id(2), Lane::Control, &frame("x")), Err(Refused::Unknown));
    eventually(|| refused(&n1, Refusal::TooManyUnlisted) > 1).await;
    n1.quiet().await;
    n2.quiet().await;
}

async fn a_unlisted_peer_that_cannot_be_reached_is_dialled_once_for_what_there_is_to_send(world: World) {
    let absent = world.place().at();
    let mut node = world.start(1, world.place(), &[], limits());
    let hello = Hello { address: absent, ..Hello::new(2, 1, CONTROL) };
    let _stream = world.call(node.at, &hello.encode()).await.0;
    for answers in 1..=3 {
        eventually(|| node.net.send(id(2), Lane::Control, &[Bytes::from_static(b"answer")]).is_ok()).await;
        eventually(|| node.net.stats().dropped_frames == answers).await;
    }
    node.quiet().await;
}

on_every_transport!(
    a_node_that_is_no_peer_is_heard_and_answered_at_once,
    a_unlisted_peer_is_dialled_where_it_last_said_it_listens,
    there_are_only_so_many_guests,
    a_unlisted_peer_becomes_a_peer_on_the_connections_it_has,
    a_unlisted_peer_that_was_never_dialled_is_dialled_when_it_becomes_a_peer,
    a_peer_that_is_removed_is_lost_and_goes_on_as_a_guest,
    a_removed_peer_for_which_there_is_no_room_is_hung_up_on,
    a_unlisted_peer_that_cannot_be_reached_is_dialled_once_for_what_there_is_to_send,
);
