//! Snapshots have a lane that is there only while it is used, holds its sender back, and delays no other.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use vlot::net::{Event, Lane, Limits, Refused};

use crate::support::{Hello, Node, addresses, eventually, frame, id, limits, soon};
use crate::world::{Puppet, Stream, World, closed, on_every_transport};

/// As long as a frame of this lane may be.
const LONG: usize = 4 << 20;
const FRAMES: u8 = 25;

async fn received(stream: &mut Stream, expected: &[u8]) {
    let mut bytes = vec![0; 4 + expected.len()];
    soon(stream.read_exact(&mut bytes)).await.unwrap();
    assert!(bytes[4..] == *expected);
}

/// Sends as many frames as there are, each as soon as there is room for it.
async fn stream(node: &Node, to: u64, frames: impl Iterator<Item = Bytes>) {
    for frame in frames {
        soon(node.net.ready(id(to), Lane::Snapshot, frame.len())).await.unwrap();
        node.net.send(id(to), Lane::Snapshot, &[frame]).unwrap();
    }
}

async fn a_hundred_mebibytes_of_snapshot_are_overtaken_by_control_frames(world: World) {
    let mut nodes = world.cluster(2, limits()).await;
    let (mut n2, n1) = (nodes.pop().unwrap(), nodes.pop().unwrap());
    let sender = async {
        for number in 0..FRAMES {
            stream(&n1, 2, std::iter::once(Bytes::from(vec![number; LONG]))).await;
            n1.net.send(id(2), Lane::Control, &[Bytes::from(vec![number])]).unwrap();
        }
    };
    let receiver = async {
        let (mut snapshot, mut control) = (0, 0);
        while (snapshot, control) != (FRAMES, FRAMES) {
            let Event::Frames { from, lane, frames } = n2.next().await else { panic!("news") };
            assert_eq!(from, id(1));
            for frame in frames {
                match lane {
                    Lane::Control => {
                        assert_eq!(frame, [control][..]);
                        // It was sent after the snapshot's frame of this number, and comes before it.
                        assert!(snapshot <= control, "{control} comes when {snapshot} have come");
                        control += 1;
                    }
                    Lane::Snapshot => {
                        assert!(frame.len() == LONG && frame.iter().all(|byte| *byte == snapshot));
                        snapshot += 1;
                    }
                    Lane::Entries => panic!("no entries were sent"),
                }
            }
        }
    };
    soon(async { tokio::join!(sender, receiver) }).await;
    assert_eq!((n1.net.stats().dropped_frames, n1.net.stats().refused_frames), (0, 0));
}

async fn a_snapshot_that_no_one_takes_holds_back_its_sender_and_no_one_else(world: World) {
    let mut nodes = world.cluster(2, limits()).await;
    let (mut n2, n1) = (nodes.pop().unwrap(), nodes.pop().unwrap());
    let part = [Bytes::from(vec![1; LONG])];
    let mut queued = 0;
    // No room comes for so long that nothing moves any more.
    while let Ok(ready) = timeout(Duration::from_millis(300), n1.net.ready(id(2), Lane::Snapshot, LONG)).await {
        ready.unwrap();
        n1.net.send(id(2), Lane::Snapshot, &part).unwrap();
        queued += 1;
    }
    let bounds = &limits().snapshot;
    assert!(n2.net.stats().received_bytes < (bounds.inbox_bytes_max + 2 * LONG) as u64);
    assert_eq!(n1.net.send(id(2), Lane::Snapshot, &part), Err(Refused::QueueFull));

    let stalled = n2.net.stats().received_frames;
    for lane in [Lane::Control, Lane::Entries] {
        n1.send(2, lane, &frame("urgent")).await;
    }
    eventually(|| n2.net.stats().received_frames == stalled + 2).await;
    for lane in [Lane::Control, Lane::Entries] {
        assert_eq!(n2.frames(1, lane, 1).await, [&b"urgent"[..]]);
    }
    assert!(n2.frames(1, Lane::Snapshot, queued).await.iter().all(|frame| *frame == part[0]));
    soon(n1.net.ready(id(2), Lane::Snapshot, LONG)).await.unwrap();
}

async fn the_lane_is_dialled_when_it_is_used_and_closed_when_it_is_not(world: World) {
    let puppet = world.puppet(2);
    let brief = Limits { snapshot_idle_max: Duration::from_millis(100), ..limits() };
    let mut node = world.start(1, world.place(), &[(2, puppet.address())], brief);
    let mut others = Vec::new();
    for _ in 0..2 {
        let (stream, lane) = puppet.accept().await;
        assert_ne!(lane, Lane::Snapshot as u16);
        others.push(stream);
    }
    let _to_node = world.call(node.at, &Hello::new(2, 1, 0).encode()).await.0;
    node.connected(2).await;
    for part in [&b"one"[..], b"two"] {
        node.net.send(id(2), Lane::Snapshot, &[Bytes::from_static(part)]).unwrap();
        let (mut stream, lane) = puppet.accept().await;
        assert_eq!(lane, Lane::Snapshot as u16);
        received(&mut stream, part).await;
        node.net.send(id(2), Lane::Snapshot, &frame("more")).unwrap();
        received(&mut stream, b"more").await;
        let ended = soon(stream.read(&mut [0])).await;
        assert!(!matches!(ended, Ok(1..)), "{ended:?}");
    }
    // Neither lost nor dialled for nothing, and the other lanes stay.
    node.quiet().await;
    assert_eq!(node.net.stats().dropped_frames, 0);
    assert!(timeout(Duration::from_millis(100), puppet.called()).await.is_err());
    node.send(2, Lane::Control, &frame("still here")).await;
}

async fn what_is_sent_just_as_the_lane_closes_is_not_lost(world: World) {
    const ROUNDS: u64 = 1000;
    let brief = Limits { snapshot_idle_max: Duration::from_millis(1), ..limits() };
    let mut nodes = world.cluster(2, brief).await;
    let (_n2, n1) = (nodes.pop().unwrap(), nodes.pop().unwrap());
    // On a thread of its own, so that it may happen at any moment.
    let sender = move || {
        for round in 0..ROUNDS {
            n1.net.send(id(2), Lane::Snapshot, &frame("part")).unwrap();
            std::thread::sleep(Duration::from_micros(1000 + round));
        }
        n1
    };
    let n1 = tokio::task::spawn_blocking(sender).await.unwrap();
    eventually(|| n1.net.stats().sent_frames == ROUNDS).await;
    assert_eq!(n1.net.stats().dropped_frames, 0);
}

async fn a_snapshot_lane_that_comes_and_goes_is_not_told(world: World) {
    let puppet = world.puppet(2);
    let mut node = world.start(1, world.place(), &[(2, puppet.address())], limits());
    let from_node = puppet.accept_lane(Lane::Control).await;
    let to_node = world.call(node.at, &Hello::new(2, 1, 0).encode()).await.0;
    node.connected(2).await;

    let snapshot_to_node = world.call(node.at, &Hello::new(2, 1, 2).encode()).await.0;
    node.net.send(id(2), Lane::Snapshot, &frame("part")).unwrap();
    let snapshot_from_node = puppet.accept_lane(Lane::Snapshot).await;
    drop((snapshot_to_node, snapshot_from_node));
    let mut replaced = world.call(node.at, &Hello::new(2, 1, 2).encode()).await.0;
    let _replacing = world.call(node.at, &Hello::new(2, 1, 2).encode()).await.0;
    closed(&mut replaced).await;
    node.quiet().await;
    drop((from_node, to_node));
    node.lost(2).await;
}

async fn whoever_waits_for_room_hears_that_it_will_not_come(world: World) {
    let puppet = world.puppet(2);
    let few = Limits { unlisted_max: 0, redial_min: Duration::from_millis(1), ..limits() };
    let node = world.start(1, world.place(), &[(2, puppet.address())], few);
    assert_eq!(node.net.ready(id(3), Lane::Snapshot, 1).await, Err(Refused::Unknown));
    let too_long = Refused::TooLong { bytes: LONG + 1, bytes_max: LONG };
    assert_eq!(node.net.ready(id(2), Lane::Snapshot, LONG + 1).await, Err(too_long));

    // The peer hangs up, is removed, and at last the whole transport ends.
    let (waiter, stream) = wait_for_room(&puppet, &node).await;
    drop(stream);
    assert_eq!(soon(waiter).await.unwrap(), Err(Refused::Unconnected));
    let (waiter, _stream) = wait_for_room(&puppet, &node).await;
    node.net.set_peers(addresses(&[]));
    assert_eq!(soon(waiter).await.unwrap(), Err(Refused::Unconnected));
    node.net.set_peers(addresses(&[(2, puppet.address())]));
    let (waiter, _stream) = wait_for_room(&puppet, &node).await;
    node.net.shutdown().await;
    assert_eq!(soon(waiter).await.unwrap(), Err(Refused::Unconnected));
    assert_eq!(node.net.send(id(2), Lane::Snapshot, &frame("x")), Err(Refused::Unconnected));
    node.net.set_peers(addresses(&[(3, puppet.address())]));
    assert_eq!(node.net.send(id(3), Lane::Snapshot, &frame("x")), Err(Refused::Unconnected));
}

/// Someone who waits for room on the way to a puppet that reads nothing, and the connection.
async fn wait_for_room(puppet: &Puppet, node: &Node) -> (JoinHandle<Result<(), Refused>>, Stream) {
    let part = [Bytes::from(vec![1; LONG])];
    node.send(2, Lane::Snapshot, &part).await;
    let stream = puppet.accept_lane(Lane::Snapshot).await;
    // What the kernel takes is no longer in the way of more: full is what stays full.
    let mut refusals = 0;
    while refusals < 20 {
        match node.net.send(id(2), Lane::Snapshot, &part) {
            Ok(()) => refusals = 0,
            Err(refused) => {
                assert_eq!(refused, Refused::QueueFull);
                refusals += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let waiter = tokio::spawn(node.net.ready(id(2), Lane::Snapshot, LONG));
    tokio::task::yield_now().await;
    assert!(!waiter.is_finished());
    (waiter, stream)
}

on_every_transport!(
    a_hundred_mebibytes_of_snapshot_are_overtaken_by_control_frames,
    a_snapshot_that_no_one_takes_holds_back_its_sender_and_no_one_else,
    the_lane_is_dialled_when_it_is_used_and_closed_when_it_is_not,
    what_is_sent_just_as_the_lane_closes_is_not_lost,
    a_snapshot_lane_that_comes_and_goes_is_not_told,
    whoever_waits_for_room_hears_that_it_will_not_come,
);
