//! Nodes whose disks are memory, or of a program's own.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use vlot::storage::{Disk, MemoryDisk, RealDisk, conformance};
use vlot::{Ended, GroupId, LogId, LogOwner, Node, NodeId, OpenError, Options, ProposeError, Storage, begin_log};

use crate::world::{GROUP, Sum, World, until};

#[tokio::test]
async fn a_cluster_in_memory_is_started_again_on_its_disks() {
    let mut world = World::start(|_| {}).await;
    world.leader_soon().await;
    let mut sum = 0;
    for more in 1..=300 {
        sum = world.group(more as usize % 3).propose(more).await.unwrap();
    }
    assert_eq!(sum, 300 * 301 / 2);
    for node in 0..3 {
        world.shut_down(node).await;
    }
    for node in 0..3 {
        world.open(node).await;
    }
    for node in 0..3 {
        assert_eq!(world.group(node).read(|state| state.sum).await.unwrap(), sum);
    }
    // Three hundred entries are more than are kept: what came before is in the snapshots on the same disks.
    let bytes: Vec<u64> = world.disks.iter().map(MemoryDisk::bytes).collect();
    assert!(bytes.iter().all(|bytes| (1..2 << 20).contains(bytes)), "{bytes:?}");
    world.end().await;
}

#[tokio::test]
async fn a_node_whose_disk_loses_power_ends_and_comes_back_with_what_was_durable() {
    let mut world = World::start(|_| {}).await;
    let leader = world.leader_soon().await;
    for _ in 0..50 {
        world.group(leader).propose(1).await.unwrap();
    }
    world.disks[leader].lose_power();
    let other = (leader + 1) % 3;
    // The node notices when it writes next.
    let _ = tokio::time::timeout(Duration::from_secs(3), world.group(other).propose(1)).await;
    let (node, _) = world.nodes[leader].take().unwrap();
    let why = tokio::time::timeout(Duration::from_secs(10), node.failed()).await.unwrap();
    assert!(matches!(why, Ended::Log(_)) && why.to_string().contains("power of this disk was lost"), "{why}");
    drop(node);
    world.open(leader).await;
    let sum = world.group(leader).propose(0).await.unwrap();
    assert!((50..=51).contains(&sum), "{sum}: what was acknowledged is there, and nothing twice");
    world.end().await;
}

#[tokio::test]
async fn all_nodes_lose_power_at_once_and_nothing_acknowledged_is_gone() {
    let mut world = World::start(|_| {}).await;
    let mut acknowledged = 0;
    for round in 0..3 {
        world.leader_soon().await;
        for _ in 0..40 {
            acknowledged = world.group(round).propose(1).await.unwrap();
        }
        world.disks.iter().for_each(MemoryDisk::lose_power);
        for node in 0..3 {
            world.shut_down(node).await;
        }
        for node in 0..3 {
            world.open(node).await;
        }
        let sum = world.group(round).read(|state| state.sum).await.unwrap();
        assert!(sum >= acknowledged, "round {round}: {sum} of {acknowledged}");
    }
    world.end().await;
}

#[tokio::test]
async fn a_full_disk_in_memory_takes_no_entries_until_there_is_room() {
    let disk = MemoryDisk::new();
    let mut options = Options::on(&disk);
    options.log.segment_bytes = 1 << 16;
    options.headroom_bytes = 1 << 20;
    let node = Node::open(options).await.unwrap();
    let sum = node.group(GROUP, [NodeId(1)], Sum::default()).await.unwrap();
    assert_eq!(sum.propose(1).await.unwrap(), 1, "without a bound there is room");
    disk.limit(Some(disk.bytes() + (1 << 20) - 1));
    until("a full disk", || sum.status().disk.is_full).await;
    assert_eq!(sum.propose(1).await, Err(ProposeError::NoSpace));
    disk.limit(Some(disk.bytes() + (4 << 20)));
    until("room", || !sum.status().disk.is_full).await;
    assert_eq!(sum.propose(1).await.unwrap(), 2);
    node.shutdown().await;
}

#[tokio::test]
async fn a_disk_in_memory_has_one_node_at_a_time() {
    let disk = MemoryDisk::new();
    let node = Node::open(Options::on(&disk)).await.unwrap();
    let refused = Node::open(Options::on(&disk)).await;
    let text = refused.as_ref().map_or_else(ToString::to_string, |_| String::new());
    assert!(
        matches!(refused, Err(OpenError::Dir(_))) && text.contains("memory:/log: the directory is in use"),
        "{text}"
    );
    node.shutdown().await;
    Node::open(Options::on(&disk)).await.unwrap().shutdown().await;
}

#[tokio::test]
async fn a_log_is_begun_in_memory() {
    let (disk, after) = (MemoryDisk::new(), LogId::new(3, 100));
    let owner = LogOwner { cluster: 1, node: NodeId(1) };
    begin_log(&disk, owner, GROUP, after, [(NodeId(1), String::new())]).unwrap();
    let node = Node::open(Options::on(&disk)).await.unwrap();
    assert_eq!(node.groups(), [(GroupId(1), false)]);
    node.shutdown().await;
}

/// A program's own storage: two folders that need not lie in each other, and a count of what is made durable.
#[derive(Clone, Debug)]
struct Counted {
    disk: RealDisk,
    syncs: Arc<AtomicU64>,
}

impl Counted {
    fn open(dir: PathBuf) -> Self {
        Self { disk: RealDisk::open(dir).unwrap(), syncs: Arc::default() }
    }
}

impl Disk for Counted {
    type File = <RealDisk as Disk>::File;

    fn list(&mut self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn create(&mut self, name: &str) -> io::Result<Self::File> {
        self.disk.create(name)
    }

    fn open(&mut self, name: &str) -> io::Result<Self::File> {
        self.disk.open(name)
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_dir(&mut self) -> io::Result<()> {
        self.disk.sync_dir()
    }

    fn preallocate(&mut self, file: &Self::File, bytes: u64) -> io::Result<()> {
        self.disk.preallocate(file, bytes)
    }

    fn shorten(&mut self, file: &Self::File, bytes: u64) -> io::Result<()> {
        self.disk.shorten(file, bytes)
    }

    fn len(&self, file: &Self::File) -> io::Result<u64> {
        self.disk.len(file)
    }

    fn read_at(&self, file: &Self::File, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.read_at(file, into, offset)
    }

    fn write_at(&mut self, file: &Self::File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.write_at(file, bytes, offset)
    }

    fn sync_data(&mut self, file: &Self::File) -> io::Result<()> {
        self.syncs.fetch_add(1, Relaxed);
        self.disk.sync_data(file)
    }

    fn salt(&mut self) -> u64 {
        self.disk.salt()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.disk.path(name)
    }
}

#[tokio::test]
async fn a_storage_of_a_programs_own_conforms_and_keeps_a_node() {
    let dir = std::env::temp_dir().join(format!("vlot-own-storage-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    let made = AtomicU64::new(0);
    conformance::check(|| Counted::open(dir.join(made.fetch_add(1, Relaxed).to_string())));

    let open = || [Counted::open(dir.join("fast")), Counted::open(dir.join("large"))];
    let options = |log, snapshots| {
        let retention = vlot::retention::Limits { entries: 20, bytes: 1 << 20, entries_kept: 5, bytes_kept: 1 << 20 };
        Options { retention, ..Options::on(Storage::own(log, snapshots)) }
    };
    let [log, snapshots] = open();
    let (log_syncs, snapshot_syncs) = (Arc::clone(&log.syncs), Arc::clone(&snapshots.syncs));
    let node = Node::open(options(log, snapshots)).await.unwrap();
    let sum = node.group(GROUP, [NodeId(1)], Sum::default()).await.unwrap();
    for _ in 0..60 {
        sum.propose(1).await.unwrap();
    }
    until("a snapshot", || snapshot_syncs.load(Relaxed) > 0).await;
    assert!(log_syncs.load(Relaxed) >= 60, "each proposal waited for the disk");
    node.shutdown().await;
    assert!(dir.join("fast/0000000000000001.log").exists() || dir.join("fast/0000000000000002.log").exists());

    let [log, snapshots] = open();
    let node = Node::open(options(log, snapshots)).await.unwrap();
    let sum = node.group(GROUP, [NodeId(1)], Sum::default()).await.unwrap();
    assert_eq!(sum.read(|state| state.sum).await.unwrap(), 60);
    node.shutdown().await;
    std::fs::remove_dir_all(&dir).unwrap();
}
