//! The transport in memory: a hub that connects the nodes of one process, for tests and for programs that embed all of
//! their nodes.
//!
//! Owns who listens where, and which ways between nodes are cut. A connection's bytes are in `pipe.rs`.

mod pipe;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::mpsc;

use super::{BindError, Connection, Transport};
use pipe::Pipe;
pub(crate) use pipe::Shortcut;
pub use pipe::Stream;

/// How many connections wait to be accepted at most; one more is refused.
const BACKLOG: usize = 128;

/// Connects nodes of one process, each of which listens at an address of its own: any text, by custom `host:port`. Ways
/// between them can be [cut](Self::cut) and made to [lose](Self::lose) what is sent, in one direction or both.
///
/// ```
/// use vlot::net::{Listen, memory::Hub};
/// use vlot::{Node, NodeId, Options};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = std::env::temp_dir().join(format!("vlot-hub-{}", std::process::id()));
/// let hub = Hub::default();
/// let peers = [(NodeId(1), "a:1".to_owned()), (NodeId(2), "b:1".to_owned())];
/// let mut nodes = Vec::new();
/// for (node, address) in &peers {
///     let listen = Listen::through(hub.at(address));
///     let options = Options { node: *node, listen, peers: peers.clone().into(), ..Options::new(dir.join(address)) };
///     nodes.push(Node::open(options).await?);
/// }
/// hub.cut("a:1", "b:1"); // neither reaches the other
/// hub.heal();
/// # for node in nodes {
/// #     node.shutdown().await;
/// # }
/// # std::fs::remove_dir_all(&dir)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Hub(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    listeners: BTreeMap<String, mpsc::Sender<Connection<Stream>>>,
    faults: Faults,
    /// Each direction of the connections that may stand.
    ways: Vec<Way>,
}

/// What does not get through.
#[derive(Debug, Default)]
struct Faults {
    /// Both ways between two, the lesser address first.
    cut: BTreeSet<(String, String)>,
    isolated: BTreeSet<String>,
    /// From one to another.
    losing: BTreeSet<(String, String)>,
}

/// One direction of a connection.
#[derive(Debug)]
struct Way {
    from: String,
    to: String,
    pipe: Weak<Pipe>,
}

impl Hub {
    /// The transport of the node that listens at this address.
    #[must_use]
    pub fn at(&self, address: &str) -> Memory {
        Memory { hub: self.clone(), address: address.to_owned() }
    }

    /// Breaks all connections between two nodes, and lets them make no other.
    pub fn cut(&self, a: &str, b: &str) {
        let mut state = self.state();
        state.faults.cut.insert(pair(a, b));
        state.break_cut();
    }

    /// Breaks all connections of a node, and lets it make no other.
    pub fn isolate(&self, address: &str) {
        let mut state = self.state();
        state.faults.isolated.insert(address.to_owned());
        state.break_cut();
    }

    /// Loses what one node sends another from here on, without a word to either: connections stand, and new ones are made.
    /// Those that have lost something break when the hub is [healed](Self::heal).
    pub fn lose(&self, from: &str, to: &str) {
        let mut state = self.state();
        state.faults.losing.insert((from.to_owned(), to.to_owned()));
        for pipe in state.ways.iter().filter(|way| way.from == from && way.to == to).filter_map(Way::pipe) {
            pipe.lose();
        }
    }

    /// Ends all that was cut and all loss.
    pub fn heal(&self) {
        let mut state = self.state();
        state.faults = Faults::default();
        for pipe in state.ways.iter().filter_map(Way::pipe) {
            pipe.heal();
        }
    }

    fn listen(&self, address: &str) -> io::Result<mpsc::Receiver<Connection<Stream>>> {
        let mut state = self.state();
        if state.listeners.get(address).is_some_and(|listener| !listener.is_closed()) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let (sender, incoming) = mpsc::channel(BACKLOG);
        state.listeners.insert(address.to_owned(), sender);
        Ok(incoming)
    }

    fn connect(&self, from: &str, to: &str) -> io::Result<Connection<Stream>> {
        let mut state = self.state();
        if state.faults.cuts(from, to) {
            return Err(io::ErrorKind::HostUnreachable.into());
        }
        let (near, far) = pipe::pair();
        let ways = [(from, to, near.outgoing()), (to, from, far.outgoing())];
        let refused = |_| io::Error::from(io::ErrorKind::ConnectionRefused);
        let listener = state.listeners.get(to).ok_or(io::ErrorKind::ConnectionRefused)?;
        listener.try_send(Connection { stream: far, remote: from.to_owned() }).map_err(refused)?;
        // Those that are gone leave the list with the next connection.
        state.ways.retain(|way| way.pipe.strong_count() > 0);
        for (from, to, pipe) in ways {
            let way = Way { from: from.to_owned(), to: to.to_owned(), pipe };
            if let Some(pipe) = way.pipe().filter(|_| state.faults.loses(from, to)) {
                pipe.lose();
            }
            state.ways.push(way);
        }
        Ok(Connection { stream: near, remote: to.to_owned() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn break_cut(&mut self) {
        for pipe in self.ways.iter().filter(|way| self.faults.cuts(&way.from, &way.to)).filter_map(Way::pipe) {
            pipe.break_off();
        }
    }
}

impl Faults {
    fn cuts(&self, a: &str, b: &str) -> bool {
        [a, b].iter().any(|end| self.isolated.contains(*end)) || self.cut.contains(&pair(a, b))
    }

    fn loses(&self, from: &str, to: &str) -> bool {
        self.losing.contains(&(from.to_owned(), to.to_owned()))
    }
}

impl Way {
    fn pipe(&self) -> Option<Arc<Pipe>> {
        self.pipe.upgrade()
    }
}

fn pair(a: &str, b: &str) -> (String, String) {
    (a.min(b).to_owned(), a.max(b).to_owned())
}

/// The way of one node to the others of its hub.
#[derive(Clone, Debug)]
pub struct Memory {
    hub: Hub,
    address: String,
}

impl Transport for Memory {
    type Stream = Stream;
    type Listener = Listener;

    fn listen(&mut self) -> Result<Listener, BindError> {
        let address = self.address.clone();
        match self.hub.listen(&address) {
            Ok(incoming) => Ok(Listener { address, incoming }),
            Err(error) => Err(BindError { address, error }),
        }
    }

    async fn dial(&self, address: &str) -> io::Result<Connection<Stream>> {
        self.hub.connect(&self.address, address)
    }
}

/// Where connections to one node come in.
#[derive(Debug)]
pub struct Listener {
    address: String,
    incoming: mpsc::Receiver<Connection<Stream>>,
}

impl super::Listener for Listener {
    type Stream = Stream;

    fn address(&self) -> String {
        self.address.clone()
    }

    async fn accept(&mut self) -> io::Result<Connection<Stream>> {
        self.incoming.recv().await.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::super::{Listener as _, Transport};
    use super::*;

    /// How long it is waited for what does not come.
    const SOON: Duration = Duration::from_millis(10);

    /// Connected streams of `a` and `b`.
    async fn connected(hub: &Hub) -> (Stream, Stream) {
        let mut listener = hub.at("b").listen().unwrap();
        let near = hub.at("a").dial("b").await.unwrap();
        let far = listener.accept().await.unwrap();
        assert_eq!((near.remote.as_str(), far.remote.as_str()), ("b", "a"));
        (near.stream, far.stream)
    }

    #[tokio::test]
    async fn one_address_has_one_listener_at_a_time() {
        let hub = Hub::default();
        let listener = hub.at("a").listen().unwrap();
        assert_eq!(hub.at("a").listen().unwrap_err().error.kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        assert_eq!(hub.at("b").dial("a").await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        hub.at("a").listen().unwrap();
        assert_eq!(hub.at("b").dial("c").await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn what_is_cut_breaks_and_is_not_connected_until_it_is_healed() {
        for isolated in [None, Some("a"), Some("b")] {
            let hub = Hub::default();
            let (mut near, mut far) = connected(&hub).await;
            near.write_all(b"unread").await.unwrap();
            match isolated {
                None => hub.cut("b", "a"),
                Some(address) => hub.isolate(address),
            }
            assert_eq!(far.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            assert_eq!(near.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            assert_eq!(near.write(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
            assert_eq!(hub.at("a").dial("b").await.unwrap_err().kind(), io::ErrorKind::HostUnreachable);
            hub.heal();
            connected(&hub).await;
        }
    }

    #[tokio::test]
    async fn what_is_lost_is_lost_one_way_and_breaks_the_connection_later() {
        let hub = Hub::default();
        let (mut near, mut far) = connected(&hub).await;
        near.write_all(b"one").await.unwrap();
        hub.lose("a", "b");
        near.write_all(b"two").await.unwrap();
        far.write_all(b"three").await.unwrap();
        let mut three = [0; 5];
        near.read_exact(&mut three).await.unwrap();
        assert_eq!(three, *b"three");
        let mut one = [0; 3];
        far.read_exact(&mut one).await.unwrap();
        assert_eq!(one, *b"one");
        // A new connection is made, and what is said on it is lost.
        let (mut lossy, mut deaf) = connected(&hub).await;
        lossy.write_all(b"lost").await.unwrap();
        deaf.write_all(b"heard").await.unwrap();
        hub.heal();
        assert_eq!(far.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(deaf.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    /// What has gone by a shortcut, and whether it takes more.
    #[derive(Clone, Default)]
    struct Taken(Arc<Mutex<Vec<Bytes>>>);

    impl Taken {
        fn open(&self, shortcut: &Shortcut) {
            let taken = Arc::clone(&self.0);
            shortcut.open(move |frame| {
                let mut taken = taken.lock().unwrap();
                taken.push(frame.clone());
                true
            });
        }

        fn count(&self) -> usize {
            self.0.lock().unwrap().len()
        }
    }

    #[tokio::test]
    async fn a_frame_takes_the_shortcut_only_where_it_overtakes_nothing() {
        let hub = Hub::default();
        let (mut near, mut far) = connected(&hub).await;
        let (shortcut, taken, frame) = (near.shortcut_out(), Taken::default(), Bytes::from_static(b"frame"));
        assert!(!shortcut.hand_over(&frame), "nobody takes it");
        taken.open(&far.shortcut_in());
        assert!(!shortcut.hand_over(&frame), "the reader may still have what it has read");
        let mut bytes = [0; 3];
        assert!(timeout(SOON, far.read_exact(&mut bytes)).await.is_err());
        assert!(shortcut.hand_over(&frame) && shortcut.hand_over(&frame), "the reader waits");
        near.write_all(b"one").await.unwrap();
        assert!(!shortcut.hand_over(&frame), "bytes are before it");
        far.read_exact(&mut bytes).await.unwrap();
        assert!(!shortcut.hand_over(&frame), "the reader has them, and may not have passed them on");
        assert!(timeout(SOON, far.read_exact(&mut bytes)).await.is_err());
        assert!(shortcut.hand_over(&frame));
        assert_eq!(taken.count(), 3);
        far.shortcut_in().close();
        assert!(!shortcut.hand_over(&frame), "it is closed");
    }

    #[tokio::test]
    async fn faults_count_for_the_shortcut_too() {
        for cuts in [true, false] {
            let hub = Hub::default();
            let (near, mut far) = connected(&hub).await;
            let (shortcut, taken, frame) = (near.shortcut_out(), Taken::default(), Bytes::from_static(b"frame"));
            taken.open(&far.shortcut_in());
            assert!(timeout(SOON, far.read(&mut [0])).await.is_err());
            if cuts {
                hub.cut("a", "b");
                assert!(!shortcut.hand_over(&frame));
            } else {
                hub.lose("a", "b");
                assert!(shortcut.hand_over(&frame), "it is lost without a word");
                hub.heal();
                assert_eq!(far.read(&mut [0]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            }
            assert_eq!(taken.count(), 0);
            drop(far);
            taken.open(&shortcut);
            assert_eq!(Arc::strong_count(&taken.0), 1, "nothing is kept for a reader that is gone");
        }
    }

    #[tokio::test]
    async fn connections_that_are_gone_are_forgotten() {
        let hub = Hub::default();
        for _ in 0..100 {
            drop(connected(&hub).await);
        }
        assert!(hub.state().ways.len() <= 4, "{}", hub.state().ways.len());
    }
}
