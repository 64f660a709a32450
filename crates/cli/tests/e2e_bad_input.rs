//! What nobody should send and nobody should ask for: the sender is turned away, and the cluster serves on.

mod support;

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use support::cluster::{Cluster, PATIENCE};
use support::http::{exchange, fetch};
use support::process::{Process, run};
use support::{Etcd, TempDir, free_port};

const MOMENT: Duration = Duration::from_millis(300);
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const EMPTY_SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

#[test]
fn noise_on_any_port_disturbs_nobody() {
    let Some(Etcd { ctl, .. }) = Etcd::find() else { return };
    let mut cluster = Cluster::vlot(3, &ctl);
    let (leader, term) = (cluster.leader(), term(&cluster));
    let ports: Vec<_> = cluster.nodes.iter().flat_map(|node| [node.client_port, node.peer_port]).collect();
    for port in ports {
        let noises = [
            Vec::new(),
            vec![0],
            vec![0xff; 100_000],
            noise(1, 64),
            noise(2, 100_000),
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999999999999\r\n\r\n".to_vec(),
            [b"GET /".to_vec(), vec![b'a'; 200_000]].concat(),
            HTTP2_PREFACE[..10].to_vec(),
            [HTTP2_PREFACE, &noise(3, 5_000)].concat(),
            // A frame that claims to have 16 MiB, and data on a stream that does not exist.
            [HTTP2_PREFACE, EMPTY_SETTINGS, &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]].concat(),
        ];
        for noise in noises {
            // Whether there is an answer depends on the port; that none is waited for without end does not.
            let begun = Instant::now();
            let _ = exchange(port, &noise, MOMENT / 10);
            assert!(begun.elapsed() < PATIENCE);
        }
    }
    // Many that say nothing at all, and stay.
    let idle: Vec<_> = cluster
        .nodes
        .iter()
        .flat_map(|node| [node.client_port; 50].into_iter().chain([node.peer_port; 50]))
        .filter_map(|port| TcpStream::connect(("127.0.0.1", port)).ok())
        .collect();
    cluster.serves();
    drop(idle);
    assert!(cluster.nodes.iter_mut().all(|node| node.runs()));
    assert_eq!((cluster.leader(), self::term(&cluster)), (leader, term), "the leader was disturbed");
}

#[test]
fn one_port_speaks_http_1_too() {
    let Some(Etcd { ctl, .. }) = Etcd::find() else { return };
    let cluster = Cluster::vlot(1, &ctl);
    let port = cluster.nodes[0].client_port;
    let status = |path| fetch(port, path).unwrap().lines().next().unwrap_or_default().to_owned();
    assert_eq!(status("/health"), "HTTP/1.1 200 OK");
    assert_eq!(status("/no/such/path"), "HTTP/1.1 404 Not Found");
}

#[test]
fn http_endpoints_answer_the_methods_that_etcds_do() {
    let Some(Etcd { server, ctl }) = Etcd::find() else { return };
    let both = [Cluster::vlot(1, &ctl), Cluster::etcd(1, &server, &ctl)];
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        for path in ["/health", "/version", "/metrics", "/livez", "/readyz", "/readyz/linearizable_read", "/nothing"] {
            let [ours, theirs] = [&both[0], &both[1]].map(|cluster| {
                let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
                let reply = exchange(cluster.nodes[0].client_port, request.as_bytes(), PATIENCE / 10).unwrap();
                String::from_utf8_lossy(&reply).lines().next().unwrap_or_default().to_owned()
            });
            assert_eq!(ours, theirs, "{method} {path}");
        }
    }
}

#[test]
fn rpcs_that_do_not_exist_are_unimplemented() {
    let Some(Etcd { ctl, .. }) = Etcd::find() else { return };
    let cluster = Cluster::vlot(1, &ctl);
    // Byte by byte.
    let is_unimplemented = |path| {
        let reply = exchange(cluster.nodes[0].client_port, &grpc_call(path), MOMENT).unwrap();
        // The status 12, as HPACK writes a string of two digits that is not compressed.
        reply.windows(3).any(|bytes| bytes == *b"\x0212")
    };
    assert!(is_unimplemented("/no.Such/Rpc"));
    assert!(is_unimplemented("/etcdserverpb.KV/NoSuchRpc"));
    assert!(!is_unimplemented("/etcdserverpb.KV/Range"));
    cluster.serves();
}

#[test]
fn nodes_of_another_cluster_are_strangers() {
    let Some(Etcd { ctl, .. }) = Etcd::find() else { return };
    let mut cluster = Cluster::vlot(3, &ctl);
    let (leader, term) = (cluster.leader(), term(&cluster));
    let elsewhere = TempDir::new("stranger");
    let peer = format!("http://127.0.0.1:{}", free_port());
    let theirs: Vec<_> =
        cluster.nodes[1..].iter().map(|n| format!("{}=http://127.0.0.1:{}", n.name, n.peer_port)).collect();
    let cluster_with_us = format!("n1={peer},{}", theirs.join(","));
    let mut strangers = Vec::new();
    for token in ["another-token", &cluster.dir.path().display().to_string()] {
        let data_dir = elsewhere.path().join(token.replace('/', "-"));
        let client = format!("http://127.0.0.1:{}", free_port());
        let flags = [
            ("data-dir", data_dir.to_str().unwrap()),
            ("listen-client-urls", &client),
            ("advertise-client-urls", &client),
            ("listen-peer-urls", &format!("http://127.0.0.1:{}", free_port())),
            ("initial-advertise-peer-urls", &peer),
            ("initial-cluster", &cluster_with_us),
            ("initial-cluster-token", token),
        ];
        let mut command = cluster.nodes[0].command_with(&flags);
        let quiet = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        strangers.push((Process::start(quiet), client));
    }
    // Longer than it takes to stand for election twice.
    std::thread::sleep(Duration::from_secs(4));
    cluster.serves();
    assert_eq!((cluster.leader(), self::term(&cluster)), (leader, term), "the leader was disturbed");
    assert!(cluster.nodes.iter_mut().all(|node| node.runs()));
    for (stranger, url) in &mut strangers {
        assert!(stranger.ended().is_none(), "a stranger waits for its own cluster");
        let port = url.rsplit(':').next().unwrap().parse().unwrap();
        assert!(fetch(port, "/health").unwrap().contains(r#""health":"false""#));
    }
}

#[test]
fn a_node_that_must_not_start_says_why_in_one_line() {
    let Some(Etcd { ctl, .. }) = Etcd::find() else { return };
    let mut cluster = Cluster::vlot(1, &ctl);
    cluster.serves();
    let elsewhere = TempDir::new("elsewhere");
    let file = elsewhere.path().join("file");
    fs::File::create(&file).unwrap().write_all(b"no directory").unwrap();
    let fresh = elsewhere.path().join("fresh").display().to_string();
    let below_file = file.join("data").display().to_string();
    let [client, peer] = [free_port(), free_port()].map(|port| format!("http://127.0.0.1:{port}"));
    let ports = [("listen-client-urls", client.as_str()), ("listen-peer-urls", peer.as_str())];
    let own = cluster.nodes[0].client_port.to_string();
    let own_peer = cluster.nodes[0].peer_port.to_string();
    let own_dir = cluster.nodes[0].data_dir.display().to_string();

    // While the node runs.
    refused(&cluster, &[("data-dir", &fresh)], &[&own, "in use"]);
    refused(&cluster, &[("data-dir", &fresh), ports[0]], &[&own_peer, "in use"]);
    refused(&cluster, &ports, &[&own_dir, "in use"]);
    cluster.serves();

    cluster.nodes[0].stop();
    refused(&cluster, &[("initial-cluster-token", "another")], &[&own_dir]);
    refused(&cluster, &[("data-dir", &below_file)], &[&below_file]);
    // Where nobody can write, whoever runs this.
    refused(&cluster, &[("data-dir", "/proc/1/vlot")], &["/proc/1/vlot"]);
    refused(&cluster, &[("no-such-flag", "x")], &["no-such-flag"]);
    refused(&cluster, &[("election-timeout", "soon")], &["election-timeout"]);
    refused(&cluster, &[("initial-cluster", "other=http://127.0.0.1:1")], &["\"n1\"", "initial cluster"]);
    refused(&cluster, &[("cert-file", "x.pem")], &["cert-file"]);

    // None of these attempts has changed the data.
    cluster.nodes[0].start();
    cluster.ready();
    assert_ne!(cluster.told(0, &["get", "does it serve?"]), "");
    cluster.serves();
}

#[test]
fn missing_parents_of_the_data_directory_are_made() {
    let Some(Etcd { ctl, .. }) = Etcd::find() else { return };
    let mut cluster = Cluster::vlot(1, &ctl);
    cluster.nodes[0].stop();
    let deep = cluster.dir.path().join("a/b/c");
    let mut command = cluster.nodes[0].command_with(&[("data-dir", deep.to_str().unwrap())]);
    let quiet = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let _process = Process::start(quiet);
    cluster.ready();
    cluster.serves();
    assert!(deep.is_dir());
}

/// Asserts that the only node of a cluster does not start with these flags, and says all of this.
fn refused(cluster: &Cluster, flags: &[(&str, &str)], words: &[&str]) {
    // The pipe of its input closes at once; a node that starts all the same ends with 0.
    let output = run(&mut cluster.nodes[0].command_with(flags), "", PATIENCE);
    assert_eq!(output.code, Some(1), "{flags:?}: {output:?}");
    assert_eq!(output.stderr.lines().count(), 1, "{flags:?}: {output:?}");
    assert!(words.iter().all(|word| output.stderr.contains(word)), "{flags:?}: not all of {words:?} in {output:?}");
}

fn term(cluster: &Cluster) -> String {
    let status = cluster.told(0, &["endpoint", "status", "-w", "fields"]);
    status.lines().find(|line| line.starts_with("\"RaftTerm\"")).unwrap().to_owned()
}

/// Bytes without a meaning, the same each time.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| byte()).collect()
}

/// An HTTP/2 connection with one call of gRPC that has an empty message.
fn grpc_call(path: &str) -> Vec<u8> {
    const HEADERS: u8 = 1;
    const DATA: u8 = 0;
    const END_STREAM: u8 = 1;
    const END_HEADERS: u8 = 4;
    let headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "127.0.0.1"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    // Literals without indexing and without Huffman's code (RFC 7541 §6.2.2); all are shorter than 127 bytes.
    let literal = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
    let block: Vec<u8> =
        headers.iter().flat_map(|(name, value)| [vec![0], literal(name), literal(value)].concat()).collect();
    let frame =
        |kind: u8, flags: u8, payload: &[u8]| [&[0, 0, payload.len() as u8, kind, flags, 0, 0, 0, 1], payload].concat();
    let message = [0; 5];
    [HTTP2_PREFACE, EMPTY_SETTINGS, &frame(HEADERS, END_HEADERS, &block), &frame(DATA, END_STREAM, &message)].concat()
}
