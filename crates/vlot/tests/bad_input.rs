//! What an operator gets wrong, or a peer sends that it should not: each is one clear line that says what is wrong and what
//! to do, it is not said again and again while it is tried again and again, and all else goes on.
//!
//! Each test is a cluster whose third member is the one in trouble. It has ten seconds to try again; meanwhile each write to
//! the others is decided.

#[allow(dead_code)]
#[path = "net_transport/certificates.rs"]
mod certificates;

use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes};
use certificates::Certificates;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tracing::field::{Field, Visit};
use tracing::span;
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Level, Metadata, Subscriber};
use vlot::net::Listen;
use vlot::{
    BadSnapshot, ChangeError, Group, GroupId, LogId, MemberChange, Node, NodeId, OpenError, Options, Snapshot,
    StateMachine,
};

/// How long what is wrong is tried again.
const TROUBLE: Duration = Duration::from_secs(10);
/// How many lines all three nodes may write in that time together: what the first attempts of the three lanes say at either
/// end, each a single time.
const LINES_MAX: usize = 12;
const GROUP: GroupId = GroupId(1);

#[derive(Clone, Default)]
struct Sum {
    at: LogId,
    sum: u64,
}

impl StateMachine for Sum {
    type Command = u64;
    type Reply = u64;

    fn apply(&mut self, at: LogId, more: u64) -> u64 {
        (self.at, self.sum) = (at, self.sum + more);
        self.sum
    }

    fn skip(&mut self, at: LogId) {
        self.at = at;
    }

    fn snapshot(&self) -> Option<Box<dyn Snapshot>> {
        Some(Box::new(self.clone()))
    }

    fn restore(&mut self, at: LogId, from: &mut dyn Read) -> Result<(), BadSnapshot> {
        let mut sum = [0; 8];
        from.read_exact(&mut sum).map_err(|error| BadSnapshot(error.to_string()))?;
        *self = Self { at, sum: u64::from_le_bytes(sum) };
        Ok(())
    }
}

impl Snapshot for Sum {
    fn at(&self) -> LogId {
        self.at
    }

    fn write_to(&mut self, out: &mut dyn Write) -> std::io::Result<()> {
        out.write_all(&self.sum.to_le_bytes())
    }
}

/// What the nodes of this test write to the log from here on: warnings and errors. All of them run on the test's own thread.
struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    _guard: DefaultGuard,
}

impl Log {
    fn begin() -> Self {
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let _guard = tracing::subscriber::set_default(Writer(Arc::clone(&lines)));
        Self { lines, _guard }
    }

    /// There are lines with all these words, each, and no more lines than may be.
    fn says(&self, rows: &[&[&str]]) {
        self.says_in(LINES_MAX, rows);
    }

    fn says_in(&self, lines_max: usize, rows: &[&[&str]]) {
        let lines = self.lines.lock().unwrap();
        for words in rows {
            let is_there = |line: &&String| words.iter().all(|word| line.contains(word));
            assert!(lines.iter().any(|line| is_there(&line)), "{words:?} are not in {lines:#?}");
        }
        assert!(lines.len() <= lines_max, "{} lines: {lines:#?}", lines.len());
    }
}

struct Writer(Arc<Mutex<Vec<String>>>);

impl Subscriber for Writer {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{}={value:?} ", field.name()).unwrap();
    }
}

/// Three members, of which the first two are good.
struct Cluster {
    dir: PathBuf,
    addresses: BTreeMap<NodeId, String>,
    listeners: BTreeMap<NodeId, TcpListener>,
}

impl Cluster {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("vlot-bad-input-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        let listener = |node| (NodeId(node), TcpListener::bind("127.0.0.1:0").unwrap());
        let listeners: BTreeMap<_, _> = (1..=3).map(listener).collect();
        let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
        let addresses = listeners.iter().map(|(node, listener)| (*node, address(listener))).collect();
        Self { dir, addresses, listeners }
    }

    fn address(&self, node: u64) -> &str {
        &self.addresses[&NodeId(node)]
    }

    fn options(&mut self, node: u64) -> Options {
        let listen = match self.listeners.remove(&NodeId(node)) {
            Some(listener) => Listen::On(listener),
            None => Listen::At(self.address(node).to_owned()),
        };
        let mut options = Options::new(self.dir.join(node.to_string()));
        (options.node, options.listen, options.peers) = (NodeId(node), listen, self.addresses.clone());
        options.log.segment_bytes = 1 << 16;
        options.retention =
            vlot::retention::Limits { entries: 20, bytes: 1 << 20, entries_kept: 10, bytes_kept: 1 << 20 };
        options
    }

    async fn start(&mut self, node: u64) -> (Node, Group<Sum>) {
        let options = self.options(node);
        open(options).await
    }

    async fn end(self, nodes: impl IntoIterator<Item = Node>) {
        for node in nodes {
            node.shutdown().await;
        }
        fs::remove_dir_all(self.dir).unwrap();
    }
}

async fn open(options: Options) -> (Node, Group<Sum>) {
    let node = Node::open(options).await.unwrap();
    let group = node.group(GROUP, (1..=3).map(NodeId), Sum::default()).await.unwrap();
    (node, group)
}

/// Writes until the trouble is over; each write is decided soon.
async fn writes_go_on(group: &Group<Sum>) {
    let begun = Instant::now();
    while begun.elapsed() < TROUBLE {
        let asked = Instant::now();
        group.propose(1).await.expect("it is decided");
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

#[tokio::test]
async fn a_node_of_another_cluster() {
    let (log, mut cluster) = (Log::begin(), Cluster::new("cluster"));
    let ((first, group), (second, _)) = (cluster.start(1).await, cluster.start(2).await);
    let (third, _) = open(Options { cluster: 2, ..cluster.options(3) }).await;
    writes_go_on(&group).await;
    log.says(&[
        &[
            "cannot connect to a peer",
            "peer=3",
            cluster.address(3),
            "it is of cluster 2, this node of cluster 1",
            "give all",
        ],
        &[
            "refused a peer's handshake",
            "claims_to_be=3",
            "it is of cluster 2, this node of cluster 1",
            "correct the address",
        ],
        &["cannot connect to a peer", "peer=1", "it is of cluster 1, this node of cluster 2"],
    ]);
    cluster.end([first, second, third]).await;
}

#[tokio::test]
async fn another_node_at_an_address() {
    let (log, mut cluster) = (Log::begin(), Cluster::new("node"));
    let ((first, group), (second, _)) = (cluster.start(1).await, cluster.start(2).await);
    let fourth = Node::open(Options { node: NodeId(4), ..cluster.options(3) }).await.unwrap();
    writes_go_on(&group).await;
    let what = "this is the address of node 4, not of node 3";
    log.says(&[
        &[
            "cannot connect to a peer",
            "peer=3",
            cluster.address(3),
            what,
            "correct the address of the one, or the number",
        ],
        &["refused a peer's handshake", "claims_to_be=1", what],
    ]);
    cluster.end([first, second, fourth]).await;
}

#[tokio::test]
async fn one_address_for_two_nodes() {
    let (log, mut cluster) = (Log::begin(), Cluster::new("address"));
    let mut options = cluster.options(3);
    options.peers.insert(NodeId(3), cluster.address(2).to_owned());
    let why = Node::open(options).await.unwrap_err();
    let expected =
        format!("nodes 2 and 3 have the same address {}; give each node an address of its own", cluster.address(2));
    assert_eq!(why.to_string(), expected);
    let ((first, group), (second, _)) = (cluster.start(1).await, cluster.start(2).await);
    group.propose(1).await.unwrap();
    let address = cluster.address(2).to_owned();
    let add = |node, address: &str| MemberChange::AddLearner { node: NodeId(node), address: address.to_owned() };
    let moved = MemberChange::Move { node: NodeId(3), address: address.clone() };
    let in_use = ChangeError::AddressInUse { by: NodeId(2) };
    for changes in [vec![add(4, &address)], vec![moved], vec![add(4, "h:1"), add(5, &address)]] {
        assert_eq!(group.change_members(changes, Bytes::new()).await, Err(in_use));
    }
    let twice = vec![add(4, "h:1"), add(5, "h:1")];
    assert!(matches!(group.change_members(twice, Bytes::new()).await, Err(ChangeError::AddressInUse { .. })));
    let why = in_use.to_string();
    assert_eq!(why, "node 2 has this address; give each node an address of its own, or remove node 2 first");
    writes_go_on(&group).await;
    log.says(&[]);
    cluster.end([first, second]).await;
}

#[tokio::test]
async fn a_node_whose_disk_was_wiped() {
    let (log, mut cluster) = (Log::begin(), Cluster::new("wiped"));
    let ((first, group), (second, _)) = (cluster.start(1).await, cluster.start(2).await);
    let (third, _) = cluster.start(3).await;
    group.propose(1).await.unwrap();
    while group.members().borrow().disks().count() < 3 {
        pause().await;
    }
    third.shutdown().await;
    fs::remove_dir_all(cluster.dir.join("3")).unwrap();
    let (third, _) = cluster.start(3).await;
    let why = tokio::time::timeout(TROUBLE, third.failed()).await.expect("it ends").to_string();
    assert!(why.starts_with("the cluster knows this member by another disk: what it had vouched for is lost"), "{why}");
    assert!(why.ends_with("remove the member and add it again, with an empty directory"), "{why}");
    // Somebody starts it again and again.
    third.shutdown().await;
    let mut starts = 1;
    let again = async {
        loop {
            starts += 1;
            let (third, _) = cluster.start(3).await;
            third.failed().await;
            third.shutdown().await;
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    };
    tokio::select! {
        () = writes_go_on(&group) => {}
        () = again => {}
    }
    let what = "what it had vouched for is lost; remove the member and add it again, with an empty directory";
    // Each process that is started says it anew.
    log.says_in(LINES_MAX + 3 * starts, &[&["refused a peer's handshake", "claims_to_be=3", what]]);
    cluster.end([first, second]).await;
}

#[tokio::test]
async fn a_certificate_of_another_ca() {
    let (log, mut cluster) = (Log::begin(), Cluster::new("ca"));
    let (ours, theirs) = (Certificates::new("ours"), Certificates::new("theirs"));
    let mut good = Vec::new();
    for node in 1..=2 {
        let tls = Some(ours.tls(&format!("n{node}"), &["127.0.0.1"]));
        good.push(open(Options { tls, ..cluster.options(node) }).await);
    }
    let tls = Some(theirs.tls_with("n3", &["127.0.0.1"], &ours));
    let (third, _) = open(Options { tls, ..cluster.options(3) }).await;
    writes_go_on(&good[0].1).await;
    log.says(&[
        &[
            "refused a peer's handshake",
            cluster.address(3),
            "signed by an unknown authority",
            "have one of them sign it",
        ],
        &[
            "cannot connect to a peer",
            "peer=1",
            "signed by a CA that it does not trust",
            "have one that it trusts sign it",
        ],
    ]);
    cluster.end(good.into_iter().map(|(node, _)| node).chain([third])).await;
}

/// A hello as node 3 of cluster 1, which tells neither disk nor address.
fn hello(versions: (u16, u16)) -> Vec<u8> {
    let mut hello = b"vlotpeer".to_vec();
    for number in [versions.0, versions.1, 1, 18] {
        hello.put_u16(number);
    }
    for number in [1, 3, 1] {
        hello.put_u64(number);
    }
    hello.put_bytes(0, 18);
    hello
}

/// Calls node 1 again and again: says this, hears an answer, says more; then the node hangs up.
async fn keep_calling(address: &str, hello: Vec<u8>, accepted: bool, more: &[u8]) {
    loop {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(&hello).await.unwrap();
        let mut answer = [0; 40];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer[8..10] == [0, 0], accepted, "{answer:?}");
        stream.write_all(more).await.unwrap();
        // It may be reset: there is more than was read.
        let ended = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut [0])).await.expect("it hangs up");
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
        pause().await;
    }
}

#[tokio::test]
async fn a_frame_of_four_gibibytes() {
    let (log, mut cluster) = (Log::begin(), Cluster::new("frame"));
    let ((first, group), (second, _)) = (cluster.start(1).await, cluster.start(2).await);
    let mut frame = 0xffff_fff0_u32.to_be_bytes().to_vec();
    frame.resize(64 << 10, 7);
    let address = cluster.address(1).to_owned();
    tokio::select! {
        () = writes_go_on(&group) => {}
        () = keep_calling(&address, hello((3, 4)), true, &frame) => {}
    }
    log.says(&[&[
        "a peer announced a frame beyond the bound",
        "peer=3",
        "bytes=4294967280",
        "have all nodes the same bounds",
    ]]);
    cluster.end([first, second]).await;
}

#[tokio::test]
async fn a_peer_of_an_old_protocol() {
    let (log, mut cluster) = (Log::begin(), Cluster::new("old"));
    let ((first, group), (second, _)) = (cluster.start(1).await, cluster.start(2).await);
    // It is also called, and says no.
    let listener = cluster.listeners.remove(&NodeId(3)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let answers = async {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut answer = b"vlotpeer".to_vec();
            for number in [2, 2, 0, 0] {
                answer.put_u16(number);
            }
            answer.put_u64(1);
            answer.put_u64(3);
            let mut hello = [0; 40];
            stream.read_exact(&mut hello).await.unwrap();
            let _ = stream.write_all(&answer).await;
        }
    };
    let address = cluster.address(1).to_owned();
    tokio::select! {
        () = writes_go_on(&group) => {}
        () = keep_calling(&address, hello((1, 2)), false, &[]) => {}
        () = answers => {}
    }
    log.says(&[
        &[
            "refused a peer's handshake",
            "claims_to_be=3",
            "it speaks versions 1 to 2, this node 3 to 5",
            "upgrade the older",
        ],
        &["cannot connect to a peer", "peer=3", cluster.address(3), "no common version of the peers' protocol"],
    ]);
    cluster.end([first, second]).await;
}

#[tokio::test]
async fn a_snapshot_of_a_newer_version() {
    let (log, mut cluster) = (Log::begin(), Cluster::new("snapshot"));
    let ((first, group), (second, _)) = (cluster.start(1).await, cluster.start(2).await);
    let (third, third_group) = cluster.start(3).await;
    let dir = cluster.dir.join("3/snapshots");
    let snapshots = || -> Vec<PathBuf> {
        let files = fs::read_dir(&dir).unwrap().map(|file| file.unwrap().path());
        files.filter(|path| path.extension().is_some_and(|it| it == "snapshot")).collect()
    };
    while snapshots().is_empty() {
        group.propose(1).await.unwrap();
    }
    let sum = group.propose(1).await.unwrap();
    while third_group.look(|state| state.sum).await.unwrap() < sum {
        pause().await;
    }
    third.shutdown().await;
    let set_version = |version: u8| {
        for path in snapshots() {
            let mut bytes = fs::read(&path).unwrap();
            bytes[8] = version;
            fs::write(&path, bytes).unwrap();
        }
    };
    set_version(2);
    let options = cluster.options(3);
    let third = Node::open(options).await.unwrap();
    let other = third.group(GroupId(2), [NodeId(3)], Sum::default()).await.unwrap();
    let attempts = async {
        loop {
            let why = third.group(GROUP, (1..=3).map(NodeId), Sum::default()).await.unwrap_err().to_string();
            assert!(
                why.contains(".snapshot: snapshot of format version 2; this program reads version 1: start the"),
                "{why}"
            );
            // Another group of the same node.
            other.propose(1).await.unwrap();
            tokio::time::sleep(TROUBLE / 5).await;
        }
    };
    tokio::select! {
        () = writes_go_on(&group) => {}
        () = attempts => {}
    }
    log.says(&[&["a snapshot cannot be used", "snapshot of format version 2"]]);
    // The version that wrote it takes it up again.
    set_version(1);
    let third_group = third.group(GROUP, (1..=3).map(NodeId), Sum::default()).await.unwrap();
    let sum = group.propose(1).await.unwrap();
    while third_group.look(|state| state.sum).await.unwrap() < sum {
        pause().await;
    }
    cluster.end([first, second, third]).await;
}

#[tokio::test]
async fn a_log_of_a_newer_version() {
    let (log, mut cluster) = (Log::begin(), Cluster::new("log"));
    let ((first, group), (second, _)) = (cluster.start(1).await, cluster.start(2).await);
    let (third, _) = cluster.start(3).await;
    group.propose(1).await.unwrap();
    third.shutdown().await;
    for path in fs::read_dir(cluster.dir.join("3")).unwrap().map(|file| file.unwrap().path()) {
        let Ok(mut bytes) = fs::read(&path) else { continue };
        if bytes.len() >= 1 << 16 {
            bytes[8..12].copy_from_slice(&9_u32.to_le_bytes());
            let crc = crc32c::crc32c(&bytes[..60]);
            bytes[60..64].copy_from_slice(&crc.to_le_bytes());
            fs::write(&path, bytes).unwrap();
        }
    }
    let why = Node::open(cluster.options(3)).await.unwrap_err();
    assert!(matches!(why, OpenError::Log(vlot::inspect::OpenError::OtherVersion { found: 9, .. })), "{why:?}");
    let why = why.to_string();
    assert!(why.contains("log of format version 9; this program reads versions up to"), "{why}");
    assert!(why.ends_with(": start the version that wrote it, or a later one"), "{why}");
    writes_go_on(&group).await;
    log.says(&[]);
    cluster.end([first, second]).await;
}
