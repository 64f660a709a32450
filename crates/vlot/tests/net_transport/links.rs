//! Connections come and go; the owner hears of it at once, and exactly once.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use vlot::net::{Event, Lane, Listen, Net, Options, Refused};

use crate::support::{Hello, Node, addresses, eventually, frame, id, limits, soon};
use crate::world::{Puppet, Stream, World, closed, on_every_transport};

/// How soon a death has to be noticed: far below any election timeout, with room for a busy machine.
const AT_ONCE: Duration = Duration::from_millis(500);

/// Node 1 and a puppet that it is connected with: the connections in both directions.
async fn puppet_and_node(world: &World) -> (Puppet, Node, Stream, Stream) {
    let puppet = world.puppet(2);
    let mut node = world.start(1, world.place(), &[(2, puppet.address())], limits());
    let from_node = puppet.accept_lane(Lane::Control).await;
    let to_node = world.call(node.at, &Hello::new(2, 1, 0).encode()).await.0;
    node.connected(2).await;
    (puppet, node, from_node, to_node)
}

async fn a_peer_that_ends_is_lost_at_once_and_found_again_when_it_returns(world: World) {
    let mut nodes = world.cluster(2, limits()).await;
    let (mut n2, mut n1) = (nodes.pop().unwrap(), nodes.pop().unwrap());
    let (at_1, at_2) = (n1.at, n2.at);
    for _ in 0..3 {
        let ended = Instant::now();
        n2.net.shutdown().await;
        n1.lost(2).await;
        assert!(ended.elapsed() < AT_ONCE, "{:?}", ended.elapsed());
        assert_eq!(n1.net.send(id(2), Lane::Control, &frame("x")), Err(Refused::Unconnected));
        n1.quiet().await;

        n2 = world.start(2, world.place_at(at_2), &[(1, at_1)], limits());
        n1.connected(2).await;
        n2.connected(1).await;
        for lane in Lane::ALL {
            n1.send(2, lane, &frame("welcome back")).await;
            assert_eq!(n2.frames(1, lane, 1).await, [&b"welcome back"[..]]);
        }
    }
}

async fn the_way_to_each_peer_is_measured(world: World) {
    let nodes = world.cluster(2, limits()).await;
    for (node, peer) in [(&nodes[0], id(2)), (&nodes[1], id(1))] {
        eventually(|| node.net.links()[&peer].round_trips.count() > 0).await;
        let link = node.net.links()[&peer].clone();
        assert!(link.is_connected && link.losses == 0);
        assert!(link.round_trips.sum > Duration::ZERO && link.round_trips.sum < AT_ONCE, "{link:?}");
    }
}

async fn a_peer_of_an_earlier_version_is_sent_frames_alone(world: World) {
    let (_puppet, node, mut from_node, _to_node) = puppet_and_node(&world).await;
    node.send(2, Lane::Control, &frame("x")).await;
    let mut received = [0; 5];
    soon(from_node.read_exact(&mut received)).await.unwrap();
    assert_eq!(received, *b"\0\0\0\x01x");
    assert_eq!(node.net.links()[&id(2)].round_trips.count(), 0);
}

async fn either_direction_of_the_control_lane_counts(world: World) {
    let (puppet, mut node, from_node, to_node) = puppet_and_node(&world).await;

    drop(to_node);
    node.lost(2).await;
    node.quiet().await;
    let to_node = world.call(node.at, &Hello::new(2, 1, 0).encode()).await.0;
    node.connected(2).await;

    drop(from_node);
    node.lost(2).await;
    let _from_node = puppet.accept_lane(Lane::Control).await;
    node.connected(2).await;
    drop(to_node);
    node.lost(2).await;
}

async fn a_reset_is_noticed_like_an_end(world: World) {
    let (_puppet, mut node, mut from_node, _to_node) = puppet_and_node(&world).await;
    // A socket that is closed with bytes unread in it sends a reset.
    node.send(2, Lane::Control, &frame("never read")).await;
    soon(from_node.read_exact(&mut [0])).await.unwrap();
    let ended = Instant::now();
    drop(from_node);
    node.lost(2).await;
    assert!(ended.elapsed() < AT_ONCE, "{:?}", ended.elapsed());
}

async fn a_peer_that_speaks_where_it_should_listen_is_hung_up_on(world: World) {
    let (_puppet, mut node, mut from_node, _to_node) = puppet_and_node(&world).await;
    tokio::io::AsyncWriteExt::write_all(&mut from_node, b"what?").await.unwrap();
    node.lost(2).await;
    closed(&mut from_node).await;
}

async fn a_newer_control_connection_replaces_the_older_one(world: World) {
    let (_puppet, mut node, _from_node, mut older) = puppet_and_node(&world).await;
    let mut newer = world.call(node.at, &Hello::new(2, 1, 0).encode()).await.0;
    node.lost(2).await;
    node.connected(2).await;
    closed(&mut older).await;
    drop(older);
    node.quiet().await;
    tokio::io::AsyncWriteExt::write_all(&mut newer, b"\0\0\0\x02hi").await.unwrap();
    assert_eq!(node.frames(2, Lane::Control, 1).await, [&b"hi"[..]]);
}

async fn a_newer_entries_connection_replaces_the_older_one_without_a_word(world: World) {
    let (_puppet, mut node, _from_node, _to_node) = puppet_and_node(&world).await;
    let mut older = world.call(node.at, &Hello::new(2, 1, 1).encode()).await.0;
    let mut newer = world.call(node.at, &Hello::new(2, 1, 1).encode()).await.0;
    closed(&mut older).await;
    tokio::io::AsyncWriteExt::write_all(&mut newer, b"\0\0\0\x02hi").await.unwrap();
    assert_eq!(node.frames(2, Lane::Entries, 1).await, [&b"hi"[..]]);
    node.quiet().await;
}

async fn a_peer_that_calls_is_dialled_without_further_delay(world: World) {
    let mut slow = limits();
    (slow.redial_min, slow.redial_max) = (Duration::from_secs(3600), Duration::from_secs(3600));
    // Nobody is there at first, so that the node waits for its next attempt.
    let absent = world.place();
    let address = absent.at();
    drop(absent);
    let mut n1 = world.start(1, world.place(), &[(2, address)], slow);
    tokio::time::sleep(Duration::from_millis(100)).await;
    let at_1 = n1.at;
    let mut n2 = world.start(2, world.place_at(address), &[(1, at_1)], limits());
    n2.connected(1).await;
    n1.connected(2).await;
}

async fn peers_can_join_and_leave(world: World) {
    let mut nodes = world.cluster(2, limits()).await;
    let (mut n2, mut n1) = (nodes.pop().unwrap(), nodes.pop().unwrap());
    let (at_1, at_2) = (n1.at, n2.at);
    let mut n3 = world.start(3, world.place(), &[(1, at_1), (2, at_2)], limits());
    let at_3 = n3.at;
    n1.quiet().await;

    n1.net.set_peers(addresses(&[(1, at_1), (2, at_2), (3, at_3)]));
    n1.connected(3).await;
    n3.connected(1).await;
    n1.quiet().await;

    n1.net.set_peers(addresses(&[(3, at_3)]));
    n1.lost(2).await;
    n1.send(3, Lane::Control, &frame("still here")).await;
    assert_eq!(n3.frames(1, Lane::Control, 1).await, [&b"still here"[..]]);
    n1.quiet().await;
    n2.quiet().await;
}

async fn a_peer_that_moves_is_found_at_its_new_address_once_it_is_lost(world: World) {
    let mut nodes = world.cluster(2, limits()).await;
    let (n2, mut n1) = (nodes.pop().unwrap(), nodes.pop().unwrap());
    let moved = world.place();
    let at = moved.at();
    n2.net.shutdown().await;
    n1.lost(2).await;
    n1.net.set_peers(addresses(&[(2, at)]));
    let mut n2 = world.start(2, moved, &[(1, n1.at)], limits());
    n2.connected(1).await;
    n1.connected(2).await;

    // It is to move again, and stays until it does.
    let moved = world.place();
    n1.net.set_peers(addresses(&[(2, moved.at())]));
    n1.send(2, Lane::Control, &frame("still here")).await;
    assert_eq!(n2.frames(1, Lane::Control, 1).await, [&b"still here"[..]]);
    n1.quiet().await;
    n2.quiet().await;
    n2.net.shutdown().await;
    n1.lost(2).await;
    let mut n2 = world.start(2, moved, &[(1, n1.at)], limits());
    n2.connected(1).await;
    n1.connected(2).await;
}

async fn nothing_is_left_of_a_transport_that_is_shut_down_or_dropped(world: World) {
    let alive = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let mut nodes = world.cluster(3, limits()).await;
    let _stranger = world.dial(nodes[0].at).await;
    assert!(alive() > 0);
    let mut n1 = nodes.remove(0);
    n1.net.shutdown().await;
    n1.net.shutdown().await;
    assert_eq!(n1.inbox.next().await, None);
    assert_eq!(n1.net.send(id(2), Lane::Control, &frame("x")), Err(Refused::Unconnected));
    n1.net.set_peers(addresses(&[(7, n1.at)]));
    // The listener is closed: its port is free again.
    drop(world.place_at(n1.at));
    drop(nodes);
    eventually(|| alive() == 0).await;
}

async fn a_transport_is_usable_from_any_task(world: World) {
    let mut nodes = world.cluster(2, limits()).await;
    let (mut n2, n1) = (nodes.pop().unwrap(), nodes.pop().unwrap());
    let sender = tokio::spawn(async move {
        n1.send(2, Lane::Control, &frame("x")).await;
        n1
    });
    let receiver = tokio::spawn(async move { n2.frames(1, Lane::Control, 1).await });
    assert_eq!(receiver.await.unwrap(), [&b"x"[..]]);
    drop(sender.await.unwrap());
}

#[tokio::test]
async fn an_address_in_use_is_reported() {
    let world = World::tcp();
    let taken = world.place();
    let address = taken.at().to_owned();
    let identity = vlot::net::Identity { cluster: 1, node: id(1), disk: 0 };
    let options = Options::new(identity, Listen::At(address.clone()), addresses(&[]));
    let error = Net::start(options).unwrap_err();
    assert_eq!((error.address, error.error.kind()), (address, std::io::ErrorKind::AddrInUse));
}

/// Where the process of [`killed_process`] finds the other node; it runs nothing without it.
const OTHER_NODE: &str = "VLOT_TEST_OTHER_NODE";

#[tokio::test]
async fn a_killed_process_is_lost_at_once_while_frames_flow() {
    let world = World::tcp();
    let (a, b) = (world.place(), world.place());
    let (at_1, at_2) = (a.at(), b.at());
    drop(b);
    let mut node = world.start(1, a, &[(2, at_2)], limits());
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "links::killed_process", "--ignored"])
        .env(OTHER_NODE, format!("{at_1} {at_2}"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    node.connected(2).await;
    assert!(matches!(node.next().await, Event::Frames { .. }));

    process.kill().unwrap();
    let killed = Instant::now();
    // Frames that were sent before the kill may be handed over first.
    let news = loop {
        match node.next().await {
            Event::Frames { .. } => {}
            news => break news,
        }
    };
    assert_eq!(news, Event::Lost { peer: id(2) });
    let noticed = killed.elapsed();
    process.wait().unwrap();
    assert!(noticed < AT_ONCE, "{noticed:?}");
    while let Some(event) = node.inbox.try_next() {
        assert!(matches!(event, Event::Frames { .. }), "{event:?}");
    }
    node.quiet().await;
}

#[tokio::test]
#[ignore = "runs in a process of its own, and is killed"]
async fn killed_process() {
    let Ok(nodes) = std::env::var(OTHER_NODE) else { return };
    let world = World::tcp();
    let (at_1, at_2) = String::leak(nodes).split_once(' ').unwrap();
    let mut node = world.start(2, world.place_at(at_2), &[(1, at_1)], limits());
    node.connected(1).await;
    for _ in 0..10_000 {
        let _ = node.net.send(id(1), Lane::Entries, &frame("frames flow"));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

on_every_transport!(
    a_peer_that_ends_is_lost_at_once_and_found_again_when_it_returns,
    the_way_to_each_peer_is_measured,
    a_peer_of_an_earlier_version_is_sent_frames_alone,
    either_direction_of_the_control_lane_counts,
    a_reset_is_noticed_like_an_end,
    a_peer_that_speaks_where_it_should_listen_is_hung_up_on,
    a_newer_control_connection_replaces_the_older_one,
    a_newer_entries_connection_replaces_the_older_one_without_a_word,
    a_peer_that_calls_is_dialled_without_further_delay,
    peers_can_join_and_leave,
    a_peer_that_moves_is_found_at_its_new_address_once_it_is_lost,
    nothing_is_left_of_a_transport_that_is_shut_down_or_dropped,
    a_transport_is_usable_from_any_task,
);
