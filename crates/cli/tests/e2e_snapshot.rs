//! A snapshot is saved from a cluster that works, looked at, and made a new cluster of, of one member and of three.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use prost::Message;
use support::cluster::{Cluster, Node, PATIENCE};
use support::grpc::Client;
use support::process::{Output, run};
use support::{Etcd, TempDir, VLOT, eventually};
use vlot_proto::etcdserverpb::{
    AuthenticateRequest, AuthenticateResponse, HashKvRequest, HashKvResponse, LeaseGrantRequest, LeaseGrantResponse,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest, PutResponse, SnapshotRequest, SnapshotResponse,
};

const SNAPSHOT: &str = "/etcdserverpb.Maintenance/Snapshot";
const LEASE: i64 = 0x7777;

fn vlot(arguments: &[&str]) -> Output {
    run(Command::new(VLOT).args(arguments), "", PATIENCE)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// All messages of a snapshot.
async fn fetch(port: u16) -> Vec<SnapshotResponse> {
    let client = Client::connect(port).await;
    let mut reply = client.begin(SNAPSHOT, &SnapshotRequest {}).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(piece) = reply.next().await.unwrap() {
        bytes.extend_from_slice(&piece);
    }
    let mut messages = Vec::new();
    let mut rest = &bytes[..];
    while let Some((prefix, after)) = rest.split_first_chunk::<5>() {
        let length = u32::from_be_bytes(prefix[1..].try_into().unwrap()) as usize;
        messages.push(SnapshotResponse::decode(&after[..length]).unwrap());
        rest = &after[length..];
    }
    messages
}

fn save(port: u16, file: &Path) {
    let messages = runtime().block_on(fetch(port));
    fs::write(file, messages.iter().flat_map(|message| message.blob.to_vec()).collect::<Vec<u8>>()).unwrap();
}

/// Three nodes with history, versions, deletions, a compaction and a lease, and a key beyond it all.
fn worked() -> Cluster {
    let cluster = Cluster::vlot(3, Path::new(VLOT));
    runtime().block_on(async {
        let client = Client::connect(cluster.nodes[0].client_port).await;
        let grant = LeaseGrantRequest { ttl: 5000, id: LEASE };
        let granted: LeaseGrantResponse = client.call("/etcdserverpb.Lease/LeaseGrant", &grant).await.unwrap();
        assert_eq!(granted.id, LEASE);
        for n in 0..300 {
            let lease = if n % 10 == 0 { LEASE } else { 0 };
            let value = vec![n as u8; [3, 500, 20_000][n % 3]];
            let put =
                PutRequest { key: format!("k{}", n % 90).into(), value: value.into(), lease, ..Default::default() };
            let _: PutResponse = client.call("/etcdserverpb.KV/Put", &put).await.unwrap();
        }
    });
    cluster.told(1, &["del", "k5", "k50"]);
    cluster.told(1, &["compaction", "200"]);
    cluster.told(2, &["put", "last", "one"]);
    cluster
}

fn hash(node: &Node, revision: i64) -> (u32, i64) {
    runtime().block_on(async {
        let client = Client::connect(node.client_port).await;
        let answer: HashKvResponse =
            client.call("/etcdserverpb.Maintenance/HashKV", &HashKvRequest { revision }).await.unwrap();
        (answer.hash, answer.compact_revision)
    })
}

fn all_keys(cluster: &Cluster, node: usize) -> String {
    let json = cluster.told(node, &["get", "", "--prefix", "-w", "json"]);
    json[json.find("\"kvs\"").unwrap()..].to_owned()
}

fn revision_of(cluster: &Cluster, node: usize) -> i64 {
    let json = cluster.told(node, &["get", "nothing", "-w", "json"]);
    let (_, rest) = json.split_once("\"revision\":").unwrap();
    rest[..rest.find([',', '}']).unwrap()].parse().unwrap()
}

/// Makes a cluster of a snapshot, with these flags besides, and starts it.
fn restored(nodes: usize, file: &Path, flags: &[&str]) -> Cluster {
    // A cluster is laid out, and its data replaced.
    let mut cluster = Cluster::vlot(nodes, Path::new(VLOT));
    let members: Vec<_> =
        cluster.nodes.iter().map(|node| format!("{}=http://127.0.0.1:{}", node.name, node.peer_port)).collect();
    let token = cluster.dir.path().display().to_string();
    for node in &mut cluster.nodes {
        node.stop();
        fs::remove_dir_all(&node.data_dir).unwrap();
        let (data_dir, url) = (node.data_dir.display().to_string(), format!("http://127.0.0.1:{}", node.peer_port));
        let arguments = [
            "snapshot",
            "restore",
            &file.display().to_string(),
            &format!("--name={}", node.name),
            &format!("--data-dir={data_dir}"),
            &format!("--initial-cluster={}", members.join(",")),
            &format!("--initial-cluster-token={token}"),
            "--initial-advertise-peer-urls",
            &url,
        ];
        let output = vlot(&[&arguments[..], flags].concat());
        assert!(output.succeeded(), "{output:?}");
        node.start();
    }
    cluster.ready();
    cluster
}

#[test]
fn a_snapshot_becomes_a_new_cluster_of_one_and_of_three() {
    let mut cluster = worked();
    let dir = TempDir::new("snapshot");
    let file = dir.path().join("snapshot.db");
    // Under writes, at a node that need not lead.
    let stop = AtomicBool::new(false);
    let revision = thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                cluster.told(0, &["put", "under way", "x"]);
            }
        });
        eventually("it is written to", PATIENCE, || revision_of(&cluster, 2) > 305);
        save(cluster.nodes[2].client_port, &file);
        stop.store(true, Ordering::Relaxed);
        status_of(&file).0
    });
    assert!(revision > 305, "{revision}");
    let all = {
        let json = cluster.told(0, &["get", "", "--prefix", "-w", "json", "--rev", &revision.to_string()]);
        json[json.find("\"kvs\"").unwrap()..].to_owned()
    };
    let (digest, compacted) = hash(&cluster.nodes[0], revision);
    assert_eq!(compacted, 200);
    cluster.nodes.iter_mut().for_each(Node::kill);

    for nodes in [1, 3] {
        let mut new = restored(nodes, &file, &[]);
        for node in 0..nodes {
            assert_eq!(all_keys(&new, node), all, "of {nodes}");
            assert_eq!(revision_of(&new, node), revision);
            assert_eq!(hash(&new.nodes[node], revision), (digest, 200));
        }
        assert!(new.ctl_at(0, &["get", "k1", "--rev", "150"]).stderr.contains("has been compacted"));
        assert_eq!(new.told(0, &["member", "list"]).lines().count(), nodes);
        let lease: LeaseTimeToLiveResponse = runtime().block_on(async {
            let client = Client::connect(new.nodes[0].client_port).await;
            let request = LeaseTimeToLiveRequest { id: LEASE, keys: true };
            client.call("/etcdserverpb.Lease/LeaseTimeToLive", &request).await.unwrap()
        });
        assert!(lease.ttl > 4000 && lease.granted_ttl == 5000 && !lease.keys.is_empty(), "{lease:?}");
        new.serves();
        // It goes on after a restart, and the old cluster's data has nothing to do with it.
        for node in &mut new.nodes {
            node.stop();
            node.start();
        }
        new.ready();
        new.serves();
        if nodes == 1 {
            joins(&mut new);
        }
    }
}

/// Users, roles and quotas are in a snapshot, and count in what is made of it: nobody gets in, or beyond, by restoring.
#[test]
fn users_and_quotas_come_along_with_a_snapshot() {
    let dir = TempDir::new("users");
    let file = dir.path().join("snapshot.db");
    let cluster = Cluster::with_flag(None, 1, Path::new(VLOT), ("bcrypt-cost", "4"));
    for words in [
        "put a 1",
        "user add root:r",
        "user grant-role root root",
        "user add anna:a",
        "role add r",
        "role grant-permission r read a",
        "role grant-permission r readwrite app/ --prefix",
        "user grant-role anna r",
        // What is there before the quota counts, and what was deleted does not.
        "put app/0 12345",
        "quota set app/ --bytes 1KiB --keys 3",
        "put app/1 1",
        "put app/gone x",
        "del app/gone",
        "put app/2 1",
        "auth enable",
    ] {
        cluster.told(0, &words.split(' ').collect::<Vec<_>>());
    }
    let path = file.display().to_string();
    for (user, refused) in [(&[][..], "user name is empty"), (&["--user=anna:a"], "permission denied")] {
        let saved = cluster.ctl_at(0, &[&["snapshot", "save", &path], user].concat());
        assert!(!saved.succeeded() && saved.stderr.contains(refused), "{saved:?}");
    }
    let old_token = token_of_root(&cluster);
    cluster.told(0, &["snapshot", "save", &path, "--user=root:r"]);
    for nodes in [1, 3] {
        let new = restored(nodes, &file, &["--bump-revision=1000", "--mark-compacted"]);
        let token = token_of_root(&new);
        for node in 0..nodes {
            assert_eq!(put_by(&new.nodes[node], &old_token), Err("16 etcdserver: invalid auth token".into()));
            assert_eq!(put_by(&new.nodes[node], &token), Ok(()));
            let nobody = new.ctl_at(node, &["get", "a"]);
            assert!(nobody.stderr.contains("user name is empty"), "{nobody:?}");
            assert_eq!(new.told(node, &["get", "a", "--user=anna:a"]), "a\n1\n");
            assert!(new.ctl_at(node, &["put", "a", "2", "--user=anna:a"]).stderr.contains("permission denied"));
            assert_eq!(new.told(node, &["put", "a", "1", "--user=root:r"]), "OK\n");
            let wrong = new.ctl_at(node, &["get", "a", "--user=anna:r"]);
            assert!(wrong.stderr.contains("authentication failed"), "{wrong:?}");
            quota_is_kept(&new, node);
        }
    }
}

fn token_of_root(cluster: &Cluster) -> String {
    runtime().block_on(async {
        let client = Client::connect(cluster.nodes[0].client_port).await;
        let login = AuthenticateRequest { name: "root".into(), password: "r".into() };
        let reply: AuthenticateResponse = client.call("/etcdserverpb.Auth/Authenticate", &login).await.unwrap();
        reply.token
    })
}

fn put_by(node: &Node, token: &str) -> Result<(), String> {
    runtime().block_on(async {
        let client = Client::connect(node.client_port).await.with_header("token", token);
        let put = PutRequest { key: "a".into(), value: "1".into(), ..Default::default() };
        client.call::<PutResponse>("/etcdserverpb.KV/Put", &put).await.map(drop)
    })
}

/// Three keys of 22 bytes are there, of 3 and 1,024 that may be.
fn quota_is_kept(cluster: &Cluster, node: usize) {
    let used = |expected: &str| {
        let list = cluster.told(node, &["quota", "list", "--user=root:r"]);
        assert_eq!(list, format!("\"app/\", {expected}\n"));
    };
    used("22, 1024, 3, 3");
    let long = "x".repeat(1_010);
    for user in ["--user=anna:a", "--user=root:r"] {
        for (key, value, why) in
            [("app/3", "", "4 keys of at most 3"), ("app/0", long.as_str(), "1027 bytes of at most 1024")]
        {
            let beyond = cluster.ctl_at(node, &["put", key, value, user]);
            let refusal = format!("quota of prefix \"app/\" exceeded: {why}");
            assert!(beyond.stderr.contains(&refusal), "{refusal}: {beyond:?}");
        }
    }
    cluster.told(node, &["del", "app/2", "--user=anna:a"]);
    used("16, 1024, 2, 3");
    cluster.told(node, &["put", "app/2", "1", "--user=anna:a"]);
    used("22, 1024, 3, 3");
}

/// A member that joins gets what came with the snapshot, too.
fn joins(cluster: &mut Cluster) {
    let all = all_keys(cluster, 0);
    let place = cluster.newcomer();
    let url = format!("http://127.0.0.1:{}", cluster.nodes[place].peer_port);
    let name = cluster.nodes[place].name.clone();
    cluster.told(0, &["member", "add", &name, &format!("--peer-urls={url}")]);
    start_newcomer(cluster, place);
    cluster.nodes[place].ready();
    eventually("it has everything", PATIENCE, || all_keys(cluster, place) == all);
}

fn start_newcomer(cluster: &mut Cluster, place: usize) {
    let members = cluster
        .nodes
        .iter()
        .map(|node| format!("{}=http://127.0.0.1:{}", node.name, node.peer_port))
        .collect::<Vec<_>>();
    let token = cluster.dir.path().display().to_string();
    let node = &mut cluster.nodes[place];
    node.flag("initial-cluster", &members.join(","));
    node.flag("initial-cluster-token", &token);
    node.flag("initial-cluster-state", "existing");
    node.start();
}

fn status_of(file: &Path) -> (i64, u64) {
    let output = vlot(&["snapshot", "status", &file.display().to_string(), "-w", "json"]);
    assert!(output.succeeded(), "{output:?}");
    let status: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert!(status["hash"].as_u64().is_some());
    (status["revision"].as_i64().unwrap(), status["totalKey"].as_u64().unwrap())
}

#[test]
fn the_revision_can_be_raised_when_a_snapshot_is_restored() {
    let mut cluster = worked();
    let dir = TempDir::new("snapshot");
    let file = dir.path().join("snapshot.db");
    save(cluster.nodes[0].client_port, &file);
    let (all, revision) = (all_keys(&cluster, 0), revision_of(&cluster, 0));
    cluster.nodes.iter_mut().for_each(Node::kill);
    let new = restored(3, &file, &["--bump-revision=1000000", "--mark-compacted"]);
    for node in 0..3 {
        assert_eq!((all_keys(&new, node), revision_of(&new, node)), (all.clone(), revision + 1_000_000));
        let old = new.ctl_at(node, &["get", "last", "--rev", &revision.to_string()]);
        assert!(old.stderr.contains("has been compacted"), "{old:?}");
    }
    new.told(0, &["put", "k", "v"]);
    assert_eq!(revision_of(&new, 1), revision + 1_000_001);
    let digests: Vec<_> = new.nodes.iter().map(|node| hash(node, revision + 1_000_001)).collect();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}

#[test]
fn the_stream_counts_down_and_ends_with_its_hash() {
    let cluster = worked();
    let messages = runtime().block_on(fetch(cluster.nodes[1].client_port));
    let (hash, content) = messages.split_last().unwrap();
    let bytes: u64 = content.iter().map(|message| message.blob.len() as u64).sum();
    assert!(bytes > 300_000 && bytes.is_multiple_of(512), "{bytes}");
    let mut left = bytes;
    for message in content {
        assert!(!message.blob.is_empty() && message.blob.len() <= 32 << 10);
        left -= message.blob.len() as u64;
        assert_eq!((message.remaining_bytes, message.version.as_str()), (left, "3.6.0"));
    }
    assert_eq!((hash.blob.len(), hash.remaining_bytes), (32, 0));
    // Every put that was answered before is in it.
    let dir = TempDir::new("snapshot");
    let file = dir.path().join("one.db");
    for n in 0..5 {
        cluster.told(1, &["put", &format!("just now {n}"), "x"]);
        save(cluster.nodes[1].client_port, &file);
        assert_eq!(status_of(&file).0, revision_of(&cluster, 1));
    }
}

#[test]
fn a_learner_sends_its_snapshot_and_answers_no_other_question_of_this_kind() {
    let mut cluster = Cluster::vlot(1, Path::new(VLOT));
    cluster.told(0, &["put", "k", "v"]);
    let place = cluster.newcomer();
    let (name, port) = (cluster.nodes[place].name.clone(), cluster.nodes[place].client_port);
    let url = format!("http://127.0.0.1:{}", cluster.nodes[place].peer_port);
    cluster.told(0, &["member", "add", &name, "--learner", &format!("--peer-urls={url}")]);
    start_newcomer(&mut cluster, place);
    let dir = TempDir::new("snapshot");
    let file = dir.path().join("learner.db");
    let all = ["get", "k", "--consistency=s", "--print-value-only"];
    eventually("it has everything", PATIENCE, || cluster.ctl_at(place, &all).stdout == "v\n");
    save(port, &file);
    assert_eq!(status_of(&file), (2, 1));
    let refused = runtime().block_on(async {
        let client = Client::connect(port).await;
        let answer: Result<HashKvResponse, String> =
            client.call("/etcdserverpb.Maintenance/HashKV", &HashKvRequest { revision: 0 }).await;
        answer.unwrap_err()
    });
    assert_eq!(refused, "9 etcdserver: rpc not supported for learner");
}

#[test]
fn what_is_no_snapshot_or_damaged_is_refused_with_a_clear_line() {
    let cluster = worked();
    let dir = TempDir::new("snapshot");
    let file = dir.path().join("snapshot.db");
    save(cluster.nodes[0].client_port, &file);
    let whole = fs::read(&file).unwrap();
    let name = file.display().to_string();
    let data_dir = dir.path().join("new");
    let data_dir_flag = format!("--data-dir={}", data_dir.display());
    let restore = |flags: &[&str]| vlot(&[&["snapshot", "restore", &name, &data_dir_flag], flags].concat());

    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let cut = whole.len() - 700;
    let rows: [(&[u8], &str); 5] = [
        (&flipped, "the sha256 checksum at its end does not match"),
        (&whole[..cut], "is no snapshot that a member of vlot has sent, or it was cut off"),
        (&whole[..whole.len() - 32], "has no sha256 checksum at its end"),
        (b"", "is no snapshot"),
        (&[0; 512 + 32], "is no snapshot"),
    ];
    for (bytes, expected) in rows {
        fs::write(&file, bytes).unwrap();
        let output = restore(&[]);
        assert!(output.code == Some(1) && output.stderr.contains(expected), "{expected}: {output:?}");
        assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
        assert!(!data_dir.exists() && !PathBuf::from(format!("{}.restoring", data_dir.display())).exists());
    }
    fs::write(&file, &flipped).unwrap();
    let output = restore(&["--skip-hash-check"]);
    assert!(output.code == Some(1) && output.stderr.contains("damaged at byte"), "{output:?}");
    assert!(!vlot(&["snapshot", "status", &name]).succeeded());
    // Without its hash it can be insisted upon.
    fs::write(&file, &whole[..whole.len() - 32]).unwrap();
    assert!(restore(&["--skip-hash-check"]).succeeded());
    let output = restore(&["--skip-hash-check"]);
    assert!(output.code == Some(1) && output.stderr.contains("is not empty"), "{output:?}");
    let output = restore(&["--bump-revision=7"]);
    assert_eq!(
        (output.code, output.stderr.as_str()),
        (Some(128), "Error: --mark-compacted required if --revision-bump > 0\n")
    );
    let table = vlot(&["snapshot", "status", &name, "-w", "table"]).stdout;
    assert!(table.contains("REVISION") && table.contains("TOTAL KEYS"), "{table}");
}

#[test]
fn etcds_client_saves_and_members_answer_alike() {
    let Some(etcd) = Etcd::find() else { return };
    let clusters = [Cluster::etcd(1, &etcd.server, &etcd.ctl), Cluster::vlot(1, &etcd.ctl)];
    let dir = TempDir::new("snapshot");
    for (cluster, name) in clusters.iter().zip(["etcd.db", "vlot.db"]) {
        cluster.told(0, &["put", "k", "v"]);
        let file = dir.path().join(name);
        let saved = cluster.ctl_at(0, &["snapshot", "save", &file.display().to_string()]);
        assert!(saved.succeeded() && saved.stdout.contains("Snapshot saved at"), "{saved:?}");
        assert_eq!(cluster.ctl_at(0, &["defrag"]).code, Some(0));
        assert_eq!(cluster.told(0, &["get", "k", "--print-value-only"]), "v\n");
    }
    assert_eq!(status_of(&dir.path().join("vlot.db")), (2, 1));
    let other = vlot(&["snapshot", "status", &dir.path().join("etcd.db").display().to_string()]);
    assert!(other.stderr.contains("etcd's own snapshots cannot be read here"), "{other:?}");
}

#[test]
fn a_file_with_much_free_space_is_written_anew_while_it_is_used() {
    let cluster = Cluster::vlot(1, Path::new(VLOT));
    let node = &cluster.nodes[0];
    let store = node.data_dir.join("store").join("history.redb");
    runtime().block_on(async {
        let client = Client::connect(node.client_port).await;
        for n in 0..300 {
            let put = PutRequest { key: format!("k{n}").into(), value: vec![7; 60_000].into(), ..Default::default() };
            let _: PutResponse = client.call("/etcdserverpb.KV/Put", &put).await.unwrap();
        }
    });
    thread::sleep(Duration::from_millis(500));
    let identity = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
    let (before, bytes) = (identity(&store), fs::metadata(&store).unwrap().len());
    cluster.told(0, &["del", "k1", "l"]);
    let revision = revision_of(&cluster, 0);
    cluster.told(0, &["compaction", &revision.to_string(), "--physical"]);
    runtime().block_on(async {
        let client = Client::connect(node.client_port).await;
        let _: vlot_proto::etcdserverpb::DefragmentResponse = client
            .call("/etcdserverpb.Maintenance/Defragment", &vlot_proto::etcdserverpb::DefragmentRequest {})
            .await
            .unwrap();
    });
    eventually("the file is another", PATIENCE, || identity(&store) != before);
    let after = fs::metadata(&store).unwrap().len();
    assert!(after < bytes / 4, "{bytes} -> {after}");
    cluster.told(0, &["put", "k", "v"]);
    let mut cluster = cluster;
    cluster.nodes[0].kill();
    cluster.nodes[0].start();
    cluster.ready();
    assert_eq!(cluster.told(0, &["get", "k", "--print-value-only"]), "v\n");
    assert_eq!(cluster.told(0, &["get", "k0", "--keys-only"]).trim(), "k0");
}
