//! What the tests of this folder run over: each of them runs over every transport that ships.

use std::net::TcpListener as StdListener;
use std::sync::OnceLock;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Mutex;
use vlot::net::memory::{self, Hub};
use vlot::net::transport::{ByteStream, Listener, Transport};
use vlot::net::{Event, Identity, Lane, Limits, Listen, Net, Options, Security, Tls};
use vlot_tls::ServerOptions;

use crate::certificates::Certificates;
use crate::support::{Answer, CLUSTER, Heard, Node, addresses, answer, hear_answer, hear_hello, id, soon};

/// Runs each of these tests over each transport.
macro_rules! on_every_transport {
    ($($test:ident),* $(,)?) => {
        mod over_tcp {
            $(#[tokio::test] async fn $test() { super::$test(crate::world::World::tcp()).await; })*
        }
        mod in_memory {
            $(#[tokio::test] async fn $test() { super::$test(crate::world::World::memory()).await; })*
        }
        mod over_tls {
            $(#[tokio::test] async fn $test() { super::$test(crate::world::World::tcp().with_tls()).await; })*
        }
        mod in_memory_over_tls {
            $(#[tokio::test] async fn $test() { super::$test(crate::world::World::memory().with_tls()).await; })*
        }
    };
}
pub(crate) use on_every_transport;

pub type Stream = Box<dyn ByteStream>;

/// Where a node listens. Lives as long as the tests, so that it can be handed about.
pub type Address = &'static str;

fn lasting(address: String) -> Address {
    Box::leak(address.into_boxed_str())
}

/// A transport to test over, with TLS or without.
#[derive(Clone, Debug)]
pub struct World {
    pub carrier: Carrier,
    tls: Option<TlsOfAll>,
}

#[derive(Clone, Debug)]
pub enum Carrier {
    Tcp,
    Memory(Hub),
}

/// One certificate for all nodes and puppets.
#[derive(Clone, Debug)]
struct TlsOfAll {
    security: Security,
    dialler: vlot_tls::Client,
    listener: vlot_tls::Server,
}

impl World {
    pub fn tcp() -> Self {
        Self { carrier: Carrier::Tcp, tls: None }
    }

    pub fn memory() -> Self {
        Self { carrier: Carrier::Memory(Hub::default()), tls: None }
    }

    pub fn with_tls(self) -> Self {
        static FILES: OnceLock<(Certificates, Tls)> = OnceLock::new();
        let (_, tls) = FILES.get_or_init(|| {
            let files = Certificates::new("everyone");
            let tls = files.tls("all", &["127.0.0.1", "127.0.0.2", "place"]);
            // Puppets call as whoever they like.
            (files, Tls { callers_by_address: false, ..tls })
        });
        let own =
            ServerOptions { clients: tls.callers.clone(), alpn: Vec::new(), ..ServerOptions::new(tls.own.clone()) };
        let (dialler, listener) = (tls.client().unwrap(), vlot_tls::Server::load(own).unwrap());
        Self { tls: Some(TlsOfAll { security: Security::load(tls).unwrap(), dialler, listener }), ..self }
    }

    /// A place to listen at that no one else has.
    pub fn place(&self) -> Place {
        match &self.carrier {
            Carrier::Tcp => Place::On(StdListener::bind("127.0.0.1:0").unwrap()),
            Carrier::Memory(hub) => {
                static PLACES: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
                let number = PLACES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Place::In(hub.clone(), lasting(format!("place:{number}")))
            }
        }
    }

    /// The place of that address, which has to be free.
    pub fn place_at(&self, address: Address) -> Place {
        match &self.carrier {
            Carrier::Tcp => Place::On(StdListener::bind(address).unwrap()),
            Carrier::Memory(hub) => {
                drop(hub.at(address).listen().unwrap());
                Place::In(hub.clone(), address)
            }
        }
    }

    pub fn start(&self, node: u64, place: Place, peers: &[(u64, Address)], limits: Limits) -> Node {
        self.start_in(CLUSTER, node, place, peers, limits)
    }

    pub fn start_in(&self, cluster: u64, node: u64, place: Place, peers: &[(u64, Address)], limits: Limits) -> Node {
        self.start_as(Identity { cluster, node: id(node), disk: 0 }, place, peers, limits)
    }

    pub fn start_as(&self, identity: Identity, place: Place, peers: &[(u64, Address)], limits: Limits) -> Node {
        let options = self.options(identity, place, peers);
        self.start_with(Options { limits, ..options })
    }

    pub fn options(&self, identity: Identity, place: Place, peers: &[(u64, Address)]) -> Options {
        let security = self.tls.as_ref().map(|tls| tls.security.clone());
        Options { security, ..Options::new(identity, place.listen(), addresses(peers)) }
    }

    pub fn start_with(&self, options: Options) -> Node {
        let id = options.identity.node;
        let (net, inbox) = Net::start(options).unwrap();
        let at = lasting(net.address().to_owned());
        Node { id, at, net, inbox }
    }

    /// Nodes 1 to `count`, all connected with each other.
    pub async fn cluster(&self, count: u64, limits: Limits) -> Vec<Node> {
        let places: Vec<_> = (1..=count).map(|node| (node, self.place())).collect();
        let peers: Vec<_> = places.iter().map(|(node, place)| (*node, place.at())).collect();
        let mut nodes: Vec<_> =
            places.into_iter().map(|(node, place)| self.start(node, place, &peers, limits.clone())).collect();
        for node in &mut nodes {
            let mut missing: Vec<_> = (1..=count).map(id).filter(|peer| *peer != node.id).collect();
            while !missing.is_empty() {
                let Event::Connected { peer, .. } = node.next().await else { panic!("news of another kind") };
                missing.retain(|other| *other != peer);
            }
        }
        nodes
    }

    /// Connects to whoever listens there.
    pub async fn dial(&self, address: &str) -> Stream {
        self.dial_from(self.someone(), address).await
    }

    /// Connects from a host at which no node of these tests is.
    pub async fn dial_from_elsewhere(&self, address: &str) -> Stream {
        self.dial_from("127.0.0.2:0", address).await
    }

    /// Connects from the host of this address.
    pub async fn dial_from(&self, from: &str, address: &str) -> Stream {
        let stream = self.dial_in_the_clear_from(from, address).await;
        match &self.tls {
            None => stream,
            Some(tls) => {
                let host = address.rsplit_once(':').unwrap().0;
                Box::new(soon(tls.dialler.connect(stream, host)).await.unwrap())
            }
        }
    }

    /// Connects to whoever listens there without TLS, whatever is spoken there.
    pub async fn dial_in_the_clear(&self, address: &str) -> Stream {
        self.dial_in_the_clear_from(self.someone(), address).await
    }

    fn someone(&self) -> &'static str {
        if let Carrier::Tcp = self.carrier { "127.0.0.1:0" } else { "someone:1" }
    }

    pub async fn dial_in_the_clear_from(&self, from: &str, address: &str) -> Stream {
        match &self.carrier {
            Carrier::Tcp => {
                let socket = TcpSocket::new_v4().unwrap();
                let host = from.rsplit_once(':').unwrap().0;
                socket.bind(format!("{host}:0").parse().unwrap()).unwrap();
                Box::new(socket.connect(address.parse().unwrap()).await.unwrap())
            }
            Carrier::Memory(hub) => Box::new(hub.at(from).dial(address).await.unwrap().stream),
        }
    }

    /// Calls a node and says this; returns the connection and the refusal's number in the answer (zero: accepted).
    pub async fn call(&self, address: Address, says: &[u8]) -> (Stream, u16) {
        let (stream, answer) = self.ask(address, says).await;
        (stream, answer.refusal)
    }

    /// Calls a node and says this; returns the connection and all of the answer.
    pub async fn ask(&self, address: &str, says: &[u8]) -> (Stream, Answer) {
        let mut stream = self.dial(address).await;
        stream.write_all(says).await.unwrap();
        stream.flush().await.unwrap();
        let answer = hear_answer(&mut stream).await;
        (stream, answer)
    }

    pub fn puppet(&self, node: u64) -> Puppet {
        let place = self.place();
        let address = place.at();
        let listener = match place {
            Place::On(listener) => {
                listener.set_nonblocking(true).unwrap();
                Incoming::Tcp(TcpListener::from_std(listener).unwrap())
            }
            Place::In(hub, address) => Incoming::Memory(Mutex::new(hub.at(address).listen().unwrap())),
        };
        Puppet { node, address, listener, tls: self.tls.as_ref().map(|tls| tls.listener.clone()) }
    }
}

/// Where a node is to listen.
#[derive(Debug)]
pub enum Place {
    On(StdListener),
    In(Hub, Address),
}

impl Place {
    pub fn at(&self) -> Address {
        match self {
            Self::On(listener) => lasting(listener.local_addr().unwrap().to_string()),
            Self::In(_, address) => address,
        }
    }

    pub fn listen(self) -> Listen {
        match self {
            Self::On(listener) => Listen::On(listener),
            Self::In(hub, address) => Listen::through(hub.at(address)),
        }
    }
}

/// A peer played by hand.
pub struct Puppet {
    pub node: u64,
    address: Address,
    listener: Incoming,
    tls: Option<vlot_tls::Server>,
}

enum Incoming {
    Tcp(TcpListener),
    Memory(Mutex<memory::Listener>),
}

impl Puppet {
    pub fn address(&self) -> Address {
        self.address
    }

    /// The next connection, of which nothing has been heard.
    pub async fn called(&self) -> Stream {
        loop {
            let stream: Stream = match &self.listener {
                Incoming::Tcp(listener) => Box::new(listener.accept().await.unwrap().0),
                Incoming::Memory(listener) => Box::new(listener.lock().await.accept().await.unwrap().stream),
            };
            let Some(tls) = &self.tls else { return stream };
            // One that was given up meanwhile is none.
            if let Ok(stream) = tls.accept(stream).await {
                return Box::new(stream);
            }
        }
    }

    /// Accepts a call and its hello; returns the connection and the lane.
    pub async fn accept(&self) -> (Stream, u16) {
        loop {
            let (mut stream, heard) = self.hear().await;
            // One that was given up before it was answered is none.
            let answer = answer(0, 3, CLUSTER, self.node);
            if stream.write_all(&answer).await.is_ok() && stream.flush().await.is_ok() {
                return (stream, heard.lane);
            }
        }
    }

    /// Accepts calls until one is for this lane; hangs up on the others.
    pub async fn accept_lane(&self, lane: Lane) -> Stream {
        loop {
            let (stream, number) = self.accept().await;
            if number == lane as u16 {
                return stream;
            }
        }
    }

    /// Accepts a call and hears its hello, without an answer.
    pub async fn hear(&self) -> (Stream, Heard) {
        let mut stream = soon(self.called()).await;
        let heard = hear_hello(&mut stream).await;
        (stream, heard)
    }
}

/// Waits until the other side has closed the connection, one way or another.
pub async fn closed(stream: &mut Stream) {
    let mut scrap = [0; 1024];
    while let Ok(1..) = soon(stream.read(&mut scrap)).await {}
}
