//! What every transport must do, as a test that whoever writes one runs on theirs.
//!
//! ```
//! use vlot::net::{memory::Hub, transport::conformance};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! conformance::check(|| {
//!     let hub = Hub::default();
//!     [hub.at("a:1"), hub.at("b:1")]
//! })
//! .await;
//! # }
//! ```

use std::collections::BTreeMap;
use std::future::Future;
use std::io::IoSlice;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use vlot_node::Lane;
use vlot_raft::id::NodeId;

use super::{ByteStream, Connection, Listener, Transport};
use crate::net::{Event, Identity, Inbox, Listen, Net, Options};

/// Far longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// How much a connection may hold that is written and not read.
const HELD_MAX: usize = 64 << 20;

/// Tries everything that nodes rely on. `pair` makes the transports of two nodes that reach each other and have not begun
/// to listen; it is called once for each of about ten tries.
///
/// # Panics
/// If the transport fails in something; the message says in what.
pub async fn check<T: Transport>(mut pair: impl FnMut() -> [T; 2]) {
    bytes_arrive_in_order_both_ways(connected(pair()).await).await;
    what_is_shut_down_ends_for_its_reader_alone(connected(pair()).await).await;
    what_is_dropped_ends_for_both(connected(pair()).await).await;
    a_reader_that_does_not_read_holds_its_writer_back(connected(pair()).await).await;
    a_connection_outlives_its_listener(connected(pair()).await).await;
    nobody_is_reached_where_nobody_listens(pair()).await;
    a_connection_is_not_lost_when_accepting_is_given_up(pair()).await;
    connections_do_not_mix(pair()).await;
    nodes_talk_and_learn_when_one_is_gone(pair()).await;
}

/// A connection from the first node to the second, and what keeps it.
struct Connected<T: Transport> {
    near: T::Stream,
    far: T::Stream,
    listener: T::Listener,
    dialler: T,
}

async fn connected<T: Transport>([dialler, mut other]: [T; 2]) -> Connected<T> {
    let mut listener = other.listen().expect("a transport listens");
    let address = listener.address();
    let (dialled, accepted) =
        soon("connecting", async { tokio::join!(dialler.dial(&address), listener.accept()) }).await;
    let (near, far) = (dialled.expect("a listener is reached"), accepted.expect("a connection is accepted"));
    assert!(!near.remote.is_empty() && !far.remote.is_empty(), "each end knows where the other is");
    Connected { near: near.stream, far: far.stream, listener, dialler }
}

async fn bytes_arrive_in_order_both_ways<T: Transport>(connected: Connected<T>) {
    let Connected { mut near, mut far, .. } = connected;
    bytes_arrive_in_order(&mut near, &mut far).await;
    bytes_arrive_in_order(&mut far, &mut near).await;
}

async fn bytes_arrive_in_order<S: ByteStream>(from: &mut S, to: &mut S) {
    let sent: Vec<u8> = (0..1_000_000_u32).map(|place| (place / 7) as u8).collect();
    let write = async {
        // In portions of all lengths, each of several pieces.
        let (mut rest, mut length) = (&sent[..], 1);
        while !rest.is_empty() {
            let (first, second) = rest[..length.min(rest.len())].split_at(length.min(rest.len()) / 3);
            let pieces = [IoSlice::new(first), IoSlice::new(&[]), IoSlice::new(second)];
            let written = from.write_vectored(&pieces).await.expect("what stands can be written to");
            assert!(written > 0, "something is written, if it says that it is");
            rest = &rest[written..];
            length = (length * 2) % 100_003;
        }
        from.flush().await.expect("what stands can be flushed");
    };
    let mut received = vec![0; sent.len()];
    let (_, read) = soon("sending", async { tokio::join!(write, to.read_exact(&mut received)) }).await;
    read.expect("what stands can be read from");
    assert!(received == sent, "bytes arrive as they were sent");
}

async fn what_is_shut_down_ends_for_its_reader_alone<T: Transport>(connected: Connected<T>) {
    let Connected { mut near, mut far, .. } = connected;
    near.write_all(b"last words").await.expect("what stands can be written to");
    near.shutdown().await.expect("what stands can be shut down");
    let mut heard = Vec::new();
    soon("reading to the end", far.read_to_end(&mut heard)).await.expect("a connection that was shut down ends");
    assert_eq!(heard, b"last words", "what was written before arrives before the end");
    far.write_all(b"answer").await.expect("the other direction stands");
    far.flush().await.expect("the other direction stands");
    let mut answer = [0; 6];
    soon("reading", near.read_exact(&mut answer)).await.expect("the other direction stands");
    assert_eq!(&answer, b"answer");
}

async fn what_is_dropped_ends_for_both<T: Transport>(connected: Connected<T>) {
    let Connected { near, mut far, .. } = connected;
    drop(near);
    let ended = soon("learning of the end", far.read(&mut [0])).await;
    assert!(!matches!(ended, Ok(1..)), "nothing comes from a connection that is dropped");
    let write_until_it_fails = async { while far.write_all(&[0; 1024]).await.is_ok() && far.flush().await.is_ok() {} };
    soon("learning that no one reads", write_until_it_fails).await;
}

async fn a_reader_that_does_not_read_holds_its_writer_back<T: Transport>(connected: Connected<T>) {
    let Connected { mut near, mut far, .. } = connected;
    let chunk = vec![7; 1 << 20];
    let mut sent = 0;
    while let Ok(written) = timeout(Duration::from_millis(200), near.write(&chunk)).await {
        sent += written.expect("what stands can be written to");
        assert!(sent <= HELD_MAX, "a connection holds no more than {HELD_MAX} bytes that no one reads");
    }
    let mut received = vec![0; sent];
    let flushed = async { tokio::join!(far.read_exact(&mut received), near.flush()) };
    soon("reading what was held back", flushed).await.0.expect("all of it arrives");
    let write = async {
        near.write_all(&chunk).await.expect("there is room again");
        near.flush().await.expect("there is room again");
    };
    let mut received = vec![0; chunk.len()];
    soon("writing on", async { tokio::join!(write, far.read_exact(&mut received)) }).await.1.expect("it goes on");
}

async fn a_connection_outlives_its_listener<T: Transport>(connected: Connected<T>) {
    let Connected { mut near, mut far, listener, dialler } = connected;
    let address = listener.address();
    drop(listener);
    let dialled = timeout(PATIENCE, dialler.dial(&address)).await;
    assert!(!matches!(dialled, Ok(Ok(_))), "nobody is reached once a listener is dropped");
    near.write_all(b"still here").await.expect("the connection stands");
    near.flush().await.expect("the connection stands");
    let mut heard = [0; 10];
    soon("reading", far.read_exact(&mut heard)).await.expect("the connection stands");
}

async fn nobody_is_reached_where_nobody_listens<T: Transport>([dialler, mut other]: [T; 2]) {
    let listener = other.listen().expect("a transport listens");
    let address = listener.address();
    drop(listener);
    let dialled = timeout(PATIENCE, dialler.dial(&address)).await;
    assert!(!matches!(dialled, Ok(Ok(_))), "nobody is reached where nobody listens");
}

async fn a_connection_is_not_lost_when_accepting_is_given_up<T: Transport>([dialler, mut other]: [T; 2]) {
    let mut listener = other.listen().expect("a transport listens");
    let address = listener.address();
    for _ in 0..20 {
        assert!(timeout(Duration::from_millis(1), listener.accept()).await.is_err(), "nobody has dialled");
    }
    let mut accepted = Vec::new();
    let dial = async { dialler.dial(&address).await.expect("a listener is reached") };
    let accept = async {
        while accepted.is_empty() {
            accepted.extend(timeout(Duration::from_millis(1), listener.accept()).await);
        }
    };
    let (near, ()) = soon("connecting", async { tokio::join!(dial, accept) }).await;
    let Some(Ok(Connection { mut stream, .. })) = accepted.pop() else { panic!("a connection is accepted") };
    drop(near);
    soon("learning of the end", async { while let Ok(1..) = stream.read(&mut [0]).await {} }).await;
}

async fn connections_do_not_mix<T: Transport>([dialler, mut other]: [T; 2]) {
    const COUNT: u8 = 20;
    let mut listener = other.listen().expect("a transport listens");
    let address = listener.address();
    let dial = async {
        let mut dialled = Vec::new();
        for number in 0..COUNT {
            let mut stream = dialler.dial(&address).await.expect("a listener is reached").stream;
            stream.write_all(&[number; 3]).await.expect("what stands can be written to");
            stream.flush().await.expect("what stands can be flushed");
            dialled.push(stream);
        }
        dialled
    };
    let accept = async {
        let mut accepted = Vec::new();
        for _ in 0..COUNT {
            accepted.push(listener.accept().await.expect("a connection is accepted").stream);
        }
        accepted
    };
    let (mut dialled, mut accepted) = soon("connecting", async { tokio::join!(dial, accept) }).await;
    for stream in &mut accepted {
        let mut heard = [0; 3];
        soon("reading", stream.read_exact(&mut heard)).await.expect("each connection is heard");
        assert_eq!(heard, [heard[0]; 3], "bytes of one connection come on no other");
        stream.write_all(&heard).await.expect("what stands can be written to");
        stream.flush().await.expect("what stands can be flushed");
    }
    for (number, stream) in (0..COUNT).zip(&mut dialled) {
        let mut heard = [0; 3];
        soon("reading", stream.read_exact(&mut heard)).await.expect("each connection is answered");
        assert_eq!(heard, [number; 3], "the other end of a connection is who was dialled on it");
    }
}

/// Two nodes of one cluster: the second is told where the first listens, and the first learns it from its call.
async fn nodes_talk_and_learn_when_one_is_gone<T: Transport>([first, second]: [T; 2]) {
    let (n1, mut inbox1) = start(1, first, BTreeMap::new());
    let (n2, mut inbox2) = start(2, second, [(NodeId(1), n1.address().to_owned())].into());
    n1.set_peers([(NodeId(2), n2.address().to_owned())].into());
    for inbox in [&mut inbox1, &mut inbox2] {
        let news = soon("connecting two nodes", inbox.next()).await;
        assert!(matches!(news, Some(Event::Connected { .. })), "{news:?}");
    }
    let long: Bytes = (0..3_000_000_u32).map(|place| (place / 5) as u8).collect();
    for lane in Lane::ALL {
        for frame in [Bytes::from_static(b"short"), long.clone(), Bytes::new()] {
            for (from, to, inbox) in [(&n1, NodeId(2), &mut inbox2), (&n2, NodeId(1), &mut inbox1)] {
                let pieces = [frame.clone()];
                soon("sending a frame", async {
                    while from.send(to, lane, &pieces).is_err() {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                })
                .await;
                let Some(Event::Frames { frames, lane: on, .. }) = soon("a frame", inbox.next()).await else {
                    panic!("news instead of a frame on {lane:?}")
                };
                assert!(on == lane && frames == pieces, "frames arrive as they were sent");
            }
        }
    }
    n2.shutdown().await;
    let news = soon("learning of the end of a node", inbox1.next()).await;
    assert_eq!(news, Some(Event::Lost { peer: NodeId(2) }));
}

fn start(node: u64, transport: impl Transport, peers: BTreeMap<NodeId, String>) -> (Net, Inbox) {
    let identity = Identity { cluster: 1, node: NodeId(node), disk: 0 };
    Net::start(Options::new(identity, Listen::through(transport), peers)).expect("a transport listens")
}

async fn soon<R>(what: &str, done: impl Future<Output = R>) -> R {
    match timeout(PATIENCE, done).await {
        Ok(done) => done,
        Err(_) => panic!("{what} takes longer than {PATIENCE:?}"),
    }
}
