//! Frames arrive whole and in order, leave in few writes, and stay within their bounds.

use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use vlot::net::{Event, Lane, LaneLimits, Limits, Refused};

use crate::support::{Hello, eventually, frame, id, limits, soon};
use crate::world::{World, closed, on_every_transport};

async fn two_nodes_exchange_frames_on_every_lane_in_order(world: World) {
    let mut nodes = world.cluster(2, limits()).await;
    let (mut n2, mut n1) = (nodes.pop().unwrap(), nodes.pop().unwrap());
    let body =
        |number: u32| [Bytes::copy_from_slice(&number.to_be_bytes()), Bytes::from(vec![7; number as usize % 300])];
    for lane in Lane::ALL {
        for number in 0..5000 {
            n1.send(2, lane, &body(number)).await;
            n2.send(1, lane, &body(number)).await;
        }
        let expected: Vec<_> = (0..5000).map(|number| body(number).concat()).collect();
        assert_eq!(n2.frames(1, lane, 5000).await, expected);
        assert_eq!(n1.frames(2, lane, 5000).await, expected);
    }
    // What has arrived may not be counted as sent yet.
    eventually(|| n1.net.stats().sent_frames == 15_000).await;
    let (sent, received) = (n1.net.stats(), n2.net.stats());
    assert_eq!((sent.sent_frames, received.received_frames), (15_000, 15_000));
    assert_eq!(sent.sent_bytes, received.received_bytes);
    assert_eq!((sent.dropped_frames, received.dropped_frames), (0, 0));
}

async fn what_one_turn_sends_leaves_in_one_write_at_most_and_arrives_in_one_batch(world: World) {
    let mut nodes = world.cluster(2, limits()).await;
    eventually(|| nodes[0].net.send(id(2), Lane::Entries, &frame("first")).is_ok()).await;
    nodes[1].frames(1, Lane::Entries, 1).await;

    let before = nodes[0].net.stats().writes;
    for _ in 0..500 {
        nodes[0].net.send(id(2), Lane::Entries, &frame("one of five hundred")).unwrap();
    }
    let Event::Frames { frames, .. } = nodes[1].next().await else { panic!("no frames") };
    assert_eq!(frames.len(), 500);
    // None where they are handed over.
    assert!(nodes[0].net.stats().writes - before <= 1);
}

async fn three_nodes_talk_all_to_all(world: World) {
    let mut nodes = world.cluster(3, limits()).await;
    for from in 1..=3_u64 {
        for to in (1..=3).filter(|to| *to != from) {
            nodes[from as usize - 1].send(to, Lane::Control, &frame("hello")).await;
        }
    }
    for node in &mut nodes {
        let mut senders = Vec::new();
        while senders.len() < 2 {
            let Event::Frames { from, lane: Lane::Control, frames } = node.next().await else { panic!("no frames") };
            assert_eq!(frames, [&b"hello"[..]]);
            senders.push(from);
        }
        senders.sort();
        let expected: Vec<_> = (1..=3).map(id).filter(|peer| *peer != node.id).collect();
        assert_eq!(senders, expected);
    }
}

async fn frames_of_ten_mebibytes_pass_between_short_ones(world: World) {
    let mut nodes = world.cluster(2, limits()).await;
    let piece: Bytes = (0..5 << 20).map(|place: u32| (place / 3) as u8).collect();
    for _ in 0..3 {
        nodes[0].send(2, Lane::Entries, &frame("before")).await;
        nodes[0].send(2, Lane::Entries, &[piece.clone(), piece.clone()]).await;
        nodes[0].send(2, Lane::Entries, &frame("")).await;
    }
    let frames = nodes[1].frames(1, Lane::Entries, 9).await;
    for three in frames.chunks(3) {
        assert_eq!(three[0], &b"before"[..]);
        assert!(three[1][..5 << 20] == piece && three[1][5 << 20..] == piece);
        assert_eq!(three[2].len(), 0);
    }
}

async fn a_peer_that_does_not_read_fills_its_queue_and_no_more(world: World) {
    let puppet = world.puppet(2);
    let entries = LaneLimits { queue_bytes_max: 1 << 20, ..limits().entries };
    let n1 = world.start(1, world.place(), &[(2, puppet.address())], Limits { entries, ..limits() });
    assert_eq!(n1.net.send(id(2), Lane::Entries, &frame("early")), Err(Refused::Unconnected));
    assert_eq!(n1.net.send(id(3), Lane::Entries, &frame("to no one")), Err(Refused::Unknown));

    let mut stream = puppet.accept_lane(Lane::Entries).await;
    let chunk = [Bytes::from(vec![1; 100_000])];
    n1.send(2, Lane::Entries, &chunk).await;
    let refused_before = n1.net.stats().refused_frames;
    let mut accepted = 1;
    // The kernel's buffers fill first; after that the queue does.
    let filled = async {
        loop {
            match n1.net.send(id(2), Lane::Entries, &chunk) {
                Ok(()) => accepted += 1,
                Err(refused) => break refused,
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    assert_eq!(soon(filled).await, Refused::QueueFull);
    assert_eq!(n1.net.stats().refused_frames, refused_before + 1);

    // Everything that was accepted arrives once the peer reads, and there is room again.
    let mut expected = vec![0; accepted * 100_004];
    soon(stream.read_exact(&mut expected)).await.unwrap();
    n1.send(2, Lane::Entries, &chunk).await;
    soon(stream.read_exact(&mut expected[..100_004])).await.unwrap();
    assert_eq!(n1.net.stats().dropped_frames, 0);

    // What waits for a peer that goes away is reported as dropped.
    n1.net.send(id(2), Lane::Entries, &chunk).unwrap();
    drop(stream);
    let settled = accepted as u64 + 2;
    eventually(|| n1.net.stats().sent_frames + n1.net.stats().dropped_frames == settled).await;
}

async fn a_slow_consumer_holds_back_entries_and_not_control(world: World) {
    let mut small = limits();
    small.entries.queue_bytes_max = 1 << 20;
    small.entries.inbox_bytes_max = 1 << 20;
    let mut nodes = world.cluster(2, small).await;
    let (mut n2, n1) = (nodes.pop().unwrap(), nodes.pop().unwrap());

    let chunk = [Bytes::from(vec![1; 100_000])];
    n1.send(2, Lane::Entries, &chunk).await;
    let mut accepted = 1;
    let mut refusals = 0;
    // Refused for so long that nothing moves any more.
    while refusals < 50 {
        match n1.net.send(id(2), Lane::Entries, &chunk) {
            Ok(()) => (accepted, refusals) = (accepted + 1, 0),
            Err(refused) => {
                assert_eq!(refused, Refused::QueueFull);
                refusals += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The bound, and the read that went beyond it.
    assert!(n2.net.stats().received_bytes < 3 << 20, "{}", n2.net.stats().received_bytes);

    n1.send(2, Lane::Control, &frame("urgent")).await;
    eventually(|| n2.net.stats().received_frames > 0 && n1.net.stats().writes > 0).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(n2.frames(1, Lane::Control, 1).await, [&b"urgent"[..]]);

    assert!(n2.frames(1, Lane::Entries, accepted).await.iter().all(|frame| *frame == chunk[0]));
    assert_eq!(n1.net.stats().dropped_frames, 0);
}

async fn a_frame_beyond_the_bound_is_refused_before_it_is_sent(world: World) {
    let nodes = world.cluster(2, limits()).await;
    let bytes_max = limits().control.frame_bytes_max;
    let endless = [Bytes::from(vec![0; bytes_max + 1])];
    let refused = nodes[0].net.send(id(2), Lane::Control, &endless);
    assert_eq!(refused, Err(Refused::TooLong { bytes: bytes_max + 1, bytes_max }));
}

async fn a_peer_that_announces_an_endless_frame_is_hung_up_on(world: World) {
    let puppet = world.puppet(2);
    let mut n1 = world.start(1, world.place(), &[(2, puppet.address())], limits());
    let (mut stream, refusal) = world.call(n1.at, &Hello::new(2, 1, 1).encode()).await;
    assert_eq!(refusal, 0);
    stream.write_all(b"\0\0\0\x04good\xff\xff\xff\xffevil").await.unwrap();
    assert_eq!(n1.frames(2, Lane::Entries, 1).await, [&b"good"[..]]);
    closed(&mut stream).await;
    assert_eq!(n1.net.stats().oversized_frames, 1);
    n1.quiet().await;
}

on_every_transport!(
    two_nodes_exchange_frames_on_every_lane_in_order,
    what_one_turn_sends_leaves_in_one_write_at_most_and_arrives_in_one_batch,
    three_nodes_talk_all_to_all,
    frames_of_ten_mebibytes_pass_between_short_ones,
    a_peer_that_does_not_read_fills_its_queue_and_no_more,
    a_slow_consumer_holds_back_entries_and_not_control,
    a_frame_beyond_the_bound_is_refused_before_it_is_sent,
    a_peer_that_announces_an_endless_frame_is_hung_up_on,
);
