//! Callers that mean no good: garbage, half of everything, lies about lengths, and floods of connections. Each costs this node
//! little, and peers nothing.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use vlot::net::{Event, Lane, Limits, Refusal};

use crate::support::{Hello, Node, frame, id, limits, refused};
use crate::world::{Stream, World, closed, on_every_transport};

/// Nodes 1 and 2, connected; their places are few.
async fn pair(world: &World) -> (Node, Node) {
    let few = Limits { strangers_max: 8, unlisted_max: 4, ..limits() };
    let mut nodes = world.cluster(2, few).await;
    let (n2, n1) = (nodes.pop().unwrap(), nodes.pop().unwrap());
    (n1, n2)
}

/// Frames pass between the two, on all lanes and in both directions, within a time that is no one's to take.
async fn talk(n1: &mut Node, n2: &mut Node) {
    let begun = Instant::now();
    for lane in Lane::ALL {
        n1.send(2, lane, &frame("there")).await;
        assert_eq!(n2.frames(1, lane, 1).await, [&b"there"[..]]);
        n2.send(1, lane, &frame("and back")).await;
        assert_eq!(n1.frames(2, lane, 1).await, [&b"and back"[..]]);
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// What a caller sends after it was let in as node 3.
async fn let_in(world: &World, node: &Node, lane: Lane) -> Stream {
    let (stream, refusal) = world.call(node.at, &Hello::new(3, node.id.0, lane as u16).encode()).await;
    assert_eq!(refusal, 0);
    stream
}

async fn lengths_that_do_not_come_take_no_memory_and_no_time(world: World) {
    let (mut n1, mut n2) = pair(&world).await;
    let mut liars = Vec::new();
    for lane in Lane::ALL {
        for round in 0..20_u32 {
            let mut liar = let_in(&world, &n1, lane).await;
            // As long as a frame of this lane may be, of which a little comes; at last more than one may be.
            let length = if round % 2 == 0 { limits().of(lane).frame_bytes_max as u32 } else { u32::MAX - 1 };
            let _ = liar.write_all(&length.to_be_bytes()).await;
            let _ = liar.write_all(&[7; 1000]).await;
            let _ = liar.flush().await;
            liars.push(liar);
        }
    }
    talk(&mut n1, &mut n2).await;
    assert!(n1.net.stats().oversized_frames > 0);
    // One connection of each lane is left of a node: a newer one takes the place of an older.
    for liar in &mut liars[..19] {
        closed(liar).await;
    }
    assert_eq!(n1.net.stats().received_frames, 3);
}

async fn garbage_is_dropped_at_every_stage(world: World) {
    let (mut n1, mut n2) = pair(&world).await;
    let garbage: Vec<u8> = (0..50_000_u32).map(|place| (place * place / 7) as u8).collect();
    let hello = Hello::new(3, 1, 0).encode();
    for begun in [0, 7, 8, 20, 40, 41, hello.len()] {
        for length in [0, 1, 1000, garbage.len()] {
            let mut stream = world.dial(n1.at).await;
            let _ = stream.write_all(&[&hello[..begun], &garbage[..length]].concat()).await;
            let _ = stream.flush().await;
            let _ = stream.shutdown().await;
            closed(&mut stream).await;
        }
    }
    // Behind a whole hello some of it reads as frames, which are node 3's.
    while let Some(event) = n1.inbox.try_next() {
        assert!(matches!(event, Event::Frames { from, .. } if from == id(3)), "{event:?}");
    }
    talk(&mut n1, &mut n2).await;
}

async fn a_flood_of_connections_is_bounded_and_keeps_no_one_out(world: World) {
    let (mut n1, mut n2) = pair(&world).await;
    let mut held = Vec::new();
    for number in 0..300 {
        let mut stream = world.dial_from_elsewhere(n1.at).await;
        // Silent ones, half hellos, and requests without an end.
        let says: &[u8] = [&b""[..], b"vlotpeer\0\x03\0\x03", b"GET /members HTTP/1.1\r\nX: "][number % 3];
        let _ = stream.write_all(says).await;
        let _ = stream.flush().await;
        held.push(stream);
        tokio::task::yield_now().await;
    }
    talk(&mut n1, &mut n2).await;
    // As many as there are places are open at most, and no longer than a handshake may take.
    let mut open = 0;
    for stream in &mut held {
        let ended = tokio::time::timeout(Duration::from_millis(1), async {
            while let Ok(1..) = stream.read(&mut [0; 64]).await {}
        });
        open += usize::from(ended.await.is_err());
    }
    assert!(open <= 8, "{open}");
    assert!(refused(&n1, Refusal::Crowded) >= 200, "{:?}", n1.net.stats());
    for stream in &mut held {
        closed(stream).await;
    }
}

async fn nodes_that_no_one_has_named_are_few_whatever_they_call_themselves(world: World) {
    let (mut n1, mut n2) = pair(&world).await;
    let mut let_in = 0;
    let mut streams = Vec::new();
    for node in 100..200 {
        let (stream, refusal) = world.call(n1.at, &Hello::new(node, 1, 0).encode()).await;
        let_in += u32::from(refusal == 0);
        streams.push(stream);
    }
    assert_eq!((let_in, refused(&n1, Refusal::TooManyUnlisted)), (4, 96));
    talk(&mut n1, &mut n2).await;
}

on_every_transport!(
    lengths_that_do_not_come_take_no_memory_and_no_time,
    garbage_is_dropped_at_every_stage,
    a_flood_of_connections_is_bounded_and_keeps_no_one_out,
    nodes_that_no_one_has_named_are_few_whatever_they_call_themselves,
);
