//! A node that comes with another disk than its own is kept out, and both sides are told.

use std::collections::BTreeMap;

use tokio::io::AsyncWriteExt;
use vlot::net::{Event, Identity, Lane, Limits, Refusal, Refused};
use vlot_raft::id::NodeId;

use crate::support::{CLUSTER, Hello, Node, addresses, answer_with, denied, eventually, frame, id, limits, refused};
use crate::world::{Address, Place, World, closed, on_every_transport};

const OTHER_DISK: u16 = 12;

fn start(world: &World, node: u64, disk: u64, place: Place, peers: &[(u64, Address)]) -> Node {
    world.start_as(Identity { cluster: CLUSTER, node: id(node), disk }, place, peers, limits())
}

fn disks(entitled: &[(u64, u64)]) -> BTreeMap<NodeId, u64> {
    entitled.iter().map(|(node, disk)| (id(*node), *disk)).collect()
}

/// Nodes 1 and 2, peers of each other, with disks 11 and 22.
fn two_nodes(world: &World) -> (Node, Node) {
    let (a, b) = (world.place(), world.place());
    let peers = [(1, a.at()), (2, b.at())];
    (start(world, 1, 11, a, &peers), start(world, 2, 22, b, &peers))
}

fn other_disk(peer: u64, node: u64, disk: u64) -> Event {
    Event::OtherDisk { peer: id(peer), node: id(node), disk }
}

async fn peers_learn_each_others_disks_and_those_that_are_entitled_connect(world: World) {
    let (mut n1, mut n2) = two_nodes(&world);
    n1.net.set_disks(disks(&[(1, 11), (2, 22)]));
    // Of its peer it does not know the disk.
    n2.net.set_disks(disks(&[(1, 0)]));
    assert_eq!(n1.next().await, Event::Connected { peer: id(2), disk: 22, reads_shared: true });
    assert_eq!(n2.next().await, Event::Connected { peer: id(1), disk: 11, reads_shared: true });
    n1.net.set_disks(disks(&[(2, 22), (3, 33)]));
    n1.quiet().await;
    n2.quiet().await;
    assert_eq!((refused(&n1, Refusal::OtherDisk), refused(&n2, Refusal::OtherDisk)), (0, 0));
}

async fn a_node_with_another_disk_is_kept_out_both_ways_and_both_are_told(world: World) {
    let (mut n1, mut n2) = two_nodes(&world);
    n1.net.set_disks(disks(&[(2, 99)]));
    assert_eq!(n1.next().await, other_disk(2, 2, 22));
    assert_eq!(n2.next().await, other_disk(1, 2, 22));
    // Whoever dials is refused by the other: node 1 says which disk it expects.
    for node in [&n1, &n2] {
        eventually(|| refused(node, Refusal::OtherDisk) > 1 && denied(node, Refusal::OtherDisk) > 1).await;
    }
    // Once is enough.
    n1.quiet().await;
    n2.quiet().await;
    assert_eq!(n1.net.send(id(2), Lane::Control, &frame("x")), Err(Refused::Unconnected));

    // Added again with the disk that it has, it is let in.
    n1.net.set_disks(disks(&[(2, 22)]));
    assert_eq!(n1.next().await, Event::Connected { peer: id(2), disk: 22, reads_shared: true });
    assert_eq!(n2.next().await, Event::Connected { peer: id(1), disk: 11, reads_shared: true });
}

async fn a_peer_that_stands_is_lost_when_its_seat_is_another_disks(world: World) {
    let (mut n1, mut n2) = two_nodes(&world);
    n1.connected(2).await;
    n2.connected(1).await;
    for lane in Lane::ALL {
        n1.send(2, lane, &frame("before")).await;
        n2.send(1, lane, &frame("before")).await;
        n2.frames(1, lane, 1).await;
        n1.frames(2, lane, 1).await;
    }
    n1.net.set_disks(disks(&[(2, 99)]));
    n1.lost(2).await;
    n2.lost(1).await;
    assert_eq!(n1.next().await, other_disk(2, 2, 22));
    assert_eq!(n2.next().await, other_disk(1, 2, 22));
    for lane in Lane::ALL {
        eventually(|| n1.net.send(id(2), lane, &frame("x")) == Err(Refused::Unconnected)).await;
        eventually(|| n2.net.send(id(1), lane, &frame("x")) == Err(Refused::Unconnected)).await;
    }
    n1.quiet().await;
    n2.quiet().await;
}

async fn a_caller_with_another_disk_is_told_and_is_not_let_in(world: World) {
    let puppet = world.puppet(2);
    let limits = Limits { unlisted_max: 1, ..limits() };
    let identity = Identity { cluster: CLUSTER, node: id(1), disk: 11 };
    let mut node = world.start_as(identity, world.place(), &[(2, puppet.address())], limits);
    node.net.set_disks(disks(&[(2, 22), (3, 33)]));
    let good = Hello { disk: 22, ..Hello::new(2, 1, 1) };
    let rows = [
        (good, 0),
        (Hello { disk: 0, ..good }, 0),
        (Hello { disk: 23, ..good }, OTHER_DISK),
        (Hello { disk: 23, lane: 2, ..good }, OTHER_DISK),
        (Hello { from: 3, disk: 32, ..good }, OTHER_DISK),
        // It knows this node by another disk.
        (Hello { disk_expected: 11, ..good }, 0),
        (Hello { disk_expected: 12, ..good }, OTHER_DISK),
        (Hello { from: 4, disk_expected: 12, ..good }, OTHER_DISK),
        // There is room for the one unlisted peer that may be.
        (Hello { from: 4, disk: 44, ..good }, 0),
    ];
    for (hello, expected) in rows {
        let before = refused(&node, Refusal::OtherDisk);
        let (mut stream, refusal) = world.call(node.at, &hello.encode()).await;
        assert_eq!(refusal, expected);
        if refusal != 0 {
            closed(&mut stream).await;
            assert_eq!(refused(&node, Refusal::OtherDisk), before + 1);
        }
    }
    for event in [other_disk(2, 2, 23), other_disk(3, 3, 32), other_disk(2, 1, 11), other_disk(4, 1, 11)] {
        assert_eq!(node.next().await, event);
    }
    node.quiet().await;
}

async fn what_answers_with_another_disk_is_hung_up_on(world: World) {
    let puppet = world.puppet(2);
    let mut node = start(&world, 1, 11, world.place(), &[(2, puppet.address())]);
    node.net.set_disks(disks(&[(2, 22)]));
    let says = |refusal, disk: u64| answer_with(refusal, 3, CLUSTER, 2, &disk.to_be_bytes());

    // It should have seen for itself that another is expected.
    let (mut stream, heard) = puppet.hear().await;
    assert_eq!((heard.disk, heard.disk_expected), (11, 22));
    stream.write_all(&says(0, 23)).await.unwrap();
    closed(&mut stream).await;
    assert_eq!(node.next().await, other_disk(2, 2, 23));
    assert_eq!(refused(&node, Refusal::OtherDisk), 1);

    // Its own disk is as expected: it is this node's that it means.
    let (mut stream, _) = puppet.hear().await;
    stream.write_all(&says(OTHER_DISK, 22)).await.unwrap();
    closed(&mut stream).await;
    assert_eq!(node.next().await, other_disk(2, 1, 11));
    assert_eq!(denied(&node, Refusal::OtherDisk), 1);

    let (mut stream, _) = puppet.hear().await;
    stream.write_all(&says(OTHER_DISK, 23)).await.unwrap();
    closed(&mut stream).await;
    eventually(|| denied(&node, Refusal::OtherDisk) == 2).await;
    node.quiet().await;
}

async fn an_unlisted_peer_is_hung_up_on_when_its_seat_is_another_disks(world: World) {
    let mut node = start(&world, 1, 11, world.place(), &[]);
    let hello = Hello { disk: 22, ..Hello::new(2, 1, 0) }.encode();
    let (mut stream, refusal) = world.call(node.at, &hello).await;
    assert_eq!(refusal, 0);
    node.net.set_disks(disks(&[(2, 99)]));
    closed(&mut stream).await;
    assert_eq!(world.call(node.at, &hello).await.1, OTHER_DISK);
    assert_eq!(node.next().await, other_disk(2, 2, 22));
    node.net.set_peers(addresses(&[]));
    node.quiet().await;
}

on_every_transport!(
    peers_learn_each_others_disks_and_those_that_are_entitled_connect,
    a_node_with_another_disk_is_kept_out_both_ways_and_both_are_told,
    a_peer_that_stands_is_lost_when_its_seat_is_another_disks,
    a_caller_with_another_disk_is_told_and_is_not_let_in,
    what_answers_with_another_disk_is_hung_up_on,
    an_unlisted_peer_is_hung_up_on_when_its_seat_is_another_disks,
);
