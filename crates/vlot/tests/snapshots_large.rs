//! A large snapshot goes to a new learner while writes go on: they hardly wait for it, and a link that breaks twice costs no byte
//! twice.
//!
//! The suite sends 64 MiB. With `VLOT_SNAPSHOT_MIB=1024`, in a release build and on a machine that does nothing else, it sends a
//! gibibyte, and holds the 99th percentile of writes meanwhile against the one before:
//!
//! ```console
//! $ VLOT_SNAPSHOT_MIB=1024 cargo test --release -p vlot --test snapshots_large -- --nocapture
//! ```

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use vlot::net::Listen;
use vlot::{
    BadSnapshot, ChangeError, Group, GroupEvent, GroupId, LogId, MemberChange, Node, NodeId, Options, ProposeError,
    RoleName, Snapshot, StateMachine,
};

const BLOCK_BYTES: usize = 1 << 20;
const WRITES_PER_SECOND: u32 = 200;
/// So many that the log is cut, and a new node needs a snapshot.
const FIRST_WRITES: u64 = 15_500;

/// A state of so many equal blocks, of which one is in memory: what is written and sent is all of them.
#[derive(Clone, Default)]
struct Blocks {
    at: LogId,
    count: u64,
    writes: u64,
}

fn block() -> Vec<u8> {
    (0..BLOCK_BYTES as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

impl StateMachine for Blocks {
    /// How many blocks to add; without any it is a write like others.
    type Command = u64;
    type Reply = u64;

    fn apply(&mut self, at: LogId, blocks: u64) -> u64 {
        (self.at, self.count, self.writes) = (at, self.count + blocks, self.writes + 1);
        self.writes
    }

    fn is_prompt(&self, _: &u64) -> bool {
        true
    }

    fn skip(&mut self, at: LogId) {
        self.at = at;
    }

    fn snapshot(&self) -> Option<Box<dyn Snapshot>> {
        Some(Box::new(self.clone()))
    }

    fn restore(&mut self, at: LogId, from: &mut dyn Read) -> Result<(), BadSnapshot> {
        let bad = |error: std::io::Error| BadSnapshot(error.to_string());
        let mut numbers = [0; 16];
        from.read_exact(&mut numbers).map_err(bad)?;
        let number = |at: usize| u64::from_le_bytes(numbers[at..at + 8].try_into().unwrap());
        let (count, writes, expected) = (number(0), number(8), block());
        let mut found = vec![0; BLOCK_BYTES];
        for at in 0..count {
            from.read_exact(&mut found).map_err(bad)?;
            if found != expected {
                return Err(BadSnapshot(format!("block {at} is another one")));
            }
        }
        *self = Self { at, count, writes };
        Ok(())
    }
}

impl Snapshot for Blocks {
    fn at(&self) -> LogId {
        self.at
    }

    fn write_to(&mut self, out: &mut dyn Write) -> std::io::Result<()> {
        out.write_all(&self.count.to_le_bytes())?;
        out.write_all(&self.writes.to_le_bytes())?;
        let block = block();
        (0..self.count).try_for_each(|_| out.write_all(&block))
    }
}

/// Stands between the others and the learner: counts what they send it, and hangs up once at each of these counts.
async fn stand_between(listener: TcpListener, to: String, sent: Arc<AtomicU64>, cut_at: [u64; 2]) {
    let cuts = Arc::new(watch::channel(0_u64).0);
    let mut connections = JoinSet::new();
    loop {
        let (mut near, _) = listener.accept().await.unwrap();
        let (sent, cuts, to) = (Arc::clone(&sent), Arc::clone(&cuts), to.clone());
        connections.spawn(async move {
            let Ok(mut far) = TcpStream::connect(to).await else { return };
            let mut cut = cuts.subscribe();
            let ((mut from_near, mut to_near), (mut from_far, mut to_far)) = (near.split(), far.split());
            let there = async {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(read @ 1..) = from_near.read(&mut buffer).await {
                    let before = sent.fetch_add(read as u64, Relaxed);
                    if cut_at.iter().any(|at| (before..before + read as u64).contains(at)) {
                        cuts.send_modify(|cuts| *cuts += 1);
                        return;
                    }
                    if to_far.write_all(&buffer[..read]).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = there => {}
                _ = tokio::io::copy(&mut from_far, &mut to_near) => {}
                _ = cut.changed() => {}
            }
        });
    }
}

/// Writes at an even pace until it is told to stop; how long each write took. On a machine that is busy with much else another
/// leader may be elected, and a write be unknown: it has taken as long as a write may.
async fn write_on(group: Group<Blocks>, mut stop: watch::Receiver<bool>) -> Vec<Duration> {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / WRITES_PER_SECOND);
    let mut writes = JoinSet::new();
    let mut took = Vec::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let group = group.clone();
                writes.spawn(async move {
                    let asked = Instant::now();
                    match group.propose(0).await {
                        Ok(_) | Err(ProposeError::Unknown | ProposeError::NoLeader) => asked.elapsed(),
                        Err(why) => panic!("{why}"),
                    }
                });
            }
            Some(done) = writes.join_next() => took.push(done.unwrap()),
            _ = stop.changed() => break,
        }
    }
    while let Some(done) = writes.join_next().await {
        took.push(done.unwrap());
    }
    took.sort_unstable();
    took
}

fn percentile(took: &[Duration], percent: usize) -> Duration {
    took[(took.len() * percent / 100).min(took.len() - 1)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_snapshot_goes_to_a_learner_through_a_link_that_breaks_while_writes_go_on() {
    let asked = std::env::var("VLOT_SNAPSHOT_MIB").ok().map(|mib| mib.parse::<u64>().expect("a number of MiB"));
    let mib = asked.unwrap_or(64);
    let dir = std::env::temp_dir().join(format!("vlot-snapshots-large-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    let listener = |node| (NodeId(node), StdListener::bind("127.0.0.1:0").unwrap());
    let mut listeners: BTreeMap<NodeId, StdListener> = (1..=4).map(listener).collect();
    let address = |listener: &StdListener| listener.local_addr().unwrap().to_string();
    let addresses: BTreeMap<NodeId, String> = listeners.iter().map(|(node, it)| (*node, address(it))).collect();
    let mut open = async |node: u64, peers: BTreeMap<NodeId, String>| {
        let mut options = Options::new(dir.join(node.to_string()));
        options.node = NodeId(node);
        options.listen = Listen::On(listeners.remove(&NodeId(node)).unwrap());
        options.peers = peers.clone();
        if asked.is_none() {
            // So that it takes a while.
            options.transfer.rate_bytes_per_second = 16 << 20;
        }
        let node = Node::open(options).await.unwrap();
        let group = node.group(GroupId(1), peers.into_keys(), Blocks::default()).await.unwrap();
        (node, group)
    };
    let voters: BTreeMap<NodeId, String> = addresses.iter().take(3).map(|(id, at)| (*id, at.clone())).collect();
    let mut nodes = Vec::new();
    for node in 1..=3 {
        nodes.push(open(node, voters.clone()).await);
    }
    let mut events: Vec<_> = nodes.iter().map(|(_, group)| group.events()).collect();
    nodes[0].1.propose(mib).await.unwrap();
    let leader = nodes.iter().map(|(_, it)| it.clone()).find(|it| it.status().role_state.role == RoleName::Leader);
    let leader = leader.expect("it has answered");
    for _ in 0..FIRST_WRITES / 500 {
        let mut writes: JoinSet<_> = (0..500)
            .map(|_| {
                let leader = leader.clone();
                async move { leader.propose(0).await }
            })
            .collect();
        while let Some(written) = writes.join_next().await {
            written.unwrap().unwrap();
        }
    }
    // Each has saved a snapshot of its own, and a new node cannot have all of it from the log.
    for events in &mut events {
        let is_cut = async { while !matches!(events.recv().await, Ok(GroupEvent::Compacted { .. })) {} };
        tokio::time::timeout(Duration::from_secs(300), is_cut).await.expect("the log is cut");
    }

    let measure = async |time: Duration| {
        let (stop, stopped) = watch::channel(false);
        let writing = tokio::spawn(write_on(leader.clone(), stopped));
        tokio::time::sleep(time).await;
        stop.send_replace(true);
        writing.await.unwrap()
    };
    let quiet = measure(Duration::from_secs(if asked.is_some() { 20 } else { 2 })).await;

    let (sent, bytes) = (Arc::<AtomicU64>::default(), mib << 20);
    let between = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = between.local_addr().unwrap().to_string();
    let cut_at = [bytes / 3, 2 * bytes / 3];
    let between = tokio::spawn(stand_between(between, addresses[&NodeId(4)].clone(), Arc::clone(&sent), cut_at));
    let (node, learner) = open(4, BTreeMap::new()).await;
    nodes.push((node, learner.clone()));
    let (stop, stopped) = watch::channel(false);
    let writing = tokio::spawn(write_on(leader.clone(), stopped));
    let begun = Instant::now();
    let add = MemberChange::AddLearner { node: NodeId(4), address };
    while let Err(why) = leader.change_members(vec![add.clone()], Bytes::new()).await {
        assert!(matches!(why, ChangeError::Refused(_)), "{why}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // It has the state and follows the writes.
    while learner.look(|state| state.count).await.unwrap() != mib || learner.status().applied < leader.status().applied
    {
        assert!(begun.elapsed() < Duration::from_secs(300), "{} bytes have come", sent.load(Relaxed));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let took = begun.elapsed();
    stop.send_replace(true);
    let meanwhile = writing.await.unwrap();
    let sent = sent.load(Relaxed);
    let [before, after] = [&quiet, &meanwhile].map(|took| percentile(took, 99));
    println!(
        "{mib} MiB in {took:.1?}, {:.3} bytes sent for each; writes' p99 {before:.2?} quiet ({} writes), {after:.2?} meanwhile \
         ({} writes): {:.2} times; p50 {:.2?} and {:.2?}; longest {:.2?} and {:.2?}",
        sent as f64 / bytes as f64,
        quiet.len(),
        meanwhile.len(),
        after.as_secs_f64() / before.as_secs_f64(),
        percentile(&quiet, 50),
        percentile(&meanwhile, 50),
        quiet[quiet.len() - 1],
        meanwhile[meanwhile.len() - 1],
    );
    assert!(sent >= bytes && sent * 10 <= bytes * 11, "{sent} bytes were sent for {bytes}");
    assert!(meanwhile.len() > 100);
    assert!(percentile(&meanwhile, 90) < Duration::from_secs(5), "writes go on");
    if asked.is_some() {
        assert!(after <= 2 * before, "{before:?} -> {after:?}");
    }
    between.abort();
    for (node, _) in nodes {
        node.shutdown().await;
    }
    std::fs::remove_dir_all(dir).unwrap();
}
