//! TLS between the members of clusters of real processes, with certificates made by openssl: who stays out and why, files
//! that change, and a move from plain connections to TLS under load.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use support::certificates::{Certificates, Leaf, has_openssl};
use support::cluster::{Cluster, Node, PATIENCE, client};
use support::http::{exchange, fetch};
use support::process::run;
use support::{VLOT, eventually};

/// For which host a member's certificate is good.
const LOCAL: &str = "IP:127.0.0.1";

/// A CA of this name with an empty list of revoked certificates.
fn authority(certificates: &Certificates, name: &str) {
    certificates.ca(name);
    certificates.list_revoked(name);
}

/// A certificate of a member, signed by that CA.
fn sign(certificates: &Certificates, ca: &str, name: &str, names: &str) {
    certificates.sign(&Leaf { ca, names, usage: "serverAuth,clientAuth", ..Leaf::server(name) });
}

/// Tells a node its certificate, the CA and the list.
fn give(certificates: &Certificates, ca: &str, name: &str, node: &mut Node) {
    for (flag, file) in [
        ("peer-cert-file", format!("{name}.crt")),
        ("peer-key-file", format!("{name}.key")),
        ("peer-trusted-ca-file", format!("{ca}.crt")),
        ("peer-crl-file", format!("{ca}.crl")),
    ] {
        node.flag(flag, &certificates.file(&file));
    }
}

/// Three nodes that have not been started, whose peer URLs are https.
fn three_nodes() -> Cluster {
    let mut cluster = Cluster::vlot_unstarted(3, Path::new(VLOT));
    let ports: Vec<_> = cluster.nodes.iter().map(|node| (node.name.clone(), node.peer_port)).collect();
    let members: Vec<_> = ports.iter().map(|(name, port)| format!("{name}=https://127.0.0.1:{port}")).collect();
    for node in &mut cluster.nodes {
        listen_by_tls(node);
        node.flag("initial-advertise-peer-urls", &peer_url(node));
        node.flag("initial-cluster", &members.join(","));
    }
    cluster
}

fn peer_url(node: &Node) -> String {
    format!("https://127.0.0.1:{}", node.peer_port)
}

fn listen_by_tls(node: &mut Node) {
    let url = peer_url(node);
    node.flag("listen-peer-urls", &url);
}

fn log(node: &Node) -> String {
    fs::read_to_string(&node.log).unwrap_or_default()
}

fn says(node: &Node, words: &[&str]) -> bool {
    log(node).lines().any(|line| words.iter().all(|word| line.contains(word)))
}

/// Puts a key after the other for as long as it runs, in the clear at first.
struct Writer {
    stop: Arc<AtomicBool>,
    by_tls: Arc<AtomicBool>,
    written: JoinHandle<Written>,
}

/// What was acknowledged, and the longest time in which nothing was.
#[derive(Default)]
struct Written {
    in_the_clear: Vec<String>,
    by_tls: Vec<String>,
    pause: Duration,
}

impl Writer {
    fn start(cluster: &Cluster, ca: String) -> Writer {
        let [stop, by_tls] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let (stopped, secure) = (stop.clone(), by_tls.clone());
        let plain = cluster.endpoints();
        let https: Vec<_> = plain.split(',').map(|endpoint| format!("https://{endpoint}")).collect();
        let https = https.join(",");
        let written = thread::spawn(move || {
            let (mut written, mut last) = (Written::default(), Instant::now());
            for number in 0.. {
                if stopped.load(Relaxed) {
                    break;
                }
                let is_secure = secure.load(Relaxed);
                let key = format!("moved/{number:05}");
                let mut put = client(Path::new(VLOT), if is_secure { &https } else { &plain });
                if is_secure {
                    put.arg(format!("--cacert={ca}"));
                }
                if run(put.args(["--command-timeout=2s", "put", &key, "value"]), "", PATIENCE).succeeded() {
                    if is_secure { &mut written.by_tls } else { &mut written.in_the_clear }.push(key);
                    written.pause = written.pause.max(last.elapsed());
                    last = Instant::now();
                }
            }
            written
        });
        Writer { stop, by_tls, written }
    }

    fn stop(self) -> Written {
        self.stop.store(true, Relaxed);
        self.written.join().unwrap()
    }
}

#[test]
fn three_members_with_certificates_of_one_ca_and_one_of_another() {
    if !has_openssl() {
        return;
    }
    let mut cluster = three_nodes();
    let certificates = Certificates::new("peers");
    authority(&certificates, "ours");
    authority(&certificates, "theirs");
    sign(&certificates, "theirs", "n3", LOCAL);
    let (first, rest) = cluster.nodes.split_at_mut(2);
    for (node, name) in first.iter_mut().zip(["n1", "n2"]) {
        sign(&certificates, "ours", name, LOCAL);
        give(&certificates, "ours", name, node);
        node.start();
    }
    first.iter().for_each(Node::ready);
    let stranger = &mut rest[0];
    give(&certificates, "theirs", "n3", stranger);
    stranger.start();
    // It is refused where it calls, and refuses whom it calls.
    eventually("all three say why", PATIENCE, || {
        let refused = |node: &Node| says(node, &["refused a peer's handshake", "signed by an unknown authority"]);
        first.iter().all(refused) && refused(stranger)
    });
    assert!(!stranger.is_healthy());
    let metrics = fetch(first[0].client_port, "/metrics").unwrap();
    assert!(metrics.contains("\nvlot_peer_handshakes_refused_total{reason=\"unknown_ca\"} "), "{metrics}");
    assert!(metrics.contains("\nvlot_tls_certificate_not_after_timestamp_seconds{shown_to=\"peers\"} "), "{metrics}");

    // With the right files it comes in: they are read again without a restart.
    sign(&certificates, "ours", "new", LOCAL);
    for (from, to) in
        [("new.key", "n3.key"), ("new.crt", "n3.crt"), ("ours.crl", "theirs.crl"), ("ours.crt", "theirs.crt")]
    {
        certificates.copy(from, to);
    }
    stranger.ready();
    cluster.serves();

    // What members tell over HTTP is told over TLS, to whoever shows a certificate.
    let port = cluster.nodes[0].peer_port;
    let mut asks = Command::new("openssl");
    asks.args([
        "s_client",
        "-quiet",
        "-connect",
        &format!("127.0.0.1:{port}"),
        "-CAfile",
        &certificates.file("ours.crt"),
    ]);
    asks.args(["-cert", &certificates.file("n2.crt"), "-key", &certificates.file("n2.key")]);
    let members = run(&mut asks, "GET /members HTTP/1.1\r\nHost: x\r\n\r\n", PATIENCE);
    assert!(members.stdout.contains("\"peerURLs\":[\"https://127.0.0.1:"), "{members:?}");
    assert!(tells_http_to_use_tls(&cluster.nodes[0]));
}

/// Whether a node says to HTTP in the clear that it speaks TLS, and nothing else.
fn tells_http_to_use_tls(node: &Node) -> bool {
    let answer = exchange(node.peer_port, b"GET /members HTTP/1.1\r\nHost: x\r\n\r\n", Duration::from_secs(5));
    answer.unwrap_or_default().starts_with(b"HTTP/1.0 400 Bad Request")
}

#[test]
fn a_member_whose_certificate_is_revoked_or_anothers_stays_out() {
    if !has_openssl() {
        return;
    }
    let mut cluster = three_nodes();
    let certificates = Certificates::new("peers");
    certificates.list_revoked("ca");
    sign(&certificates, "ca", "elsewhere", "DNS:elsewhere.example,IP:10.0.0.9");
    for (node, name) in cluster.nodes.iter_mut().zip(["n1", "n2", "n3"]) {
        sign(&certificates, "ca", name, LOCAL);
        give(&certificates, "ca", name, node);
        node.start();
    }
    cluster.ready();
    cluster.nodes[2].stop();
    certificates.revoke("ca", "n3");
    // The list is looked at once a second.
    thread::sleep(Duration::from_millis(1200));
    cluster.nodes[2].start();
    eventually("the others say that it is revoked", PATIENCE, || {
        cluster.nodes[..2].iter().all(|node| says(node, &["refused a peer's handshake", "revoked"]))
    });
    assert!(!cluster.nodes[2].is_healthy());
    cluster.nodes[2].stop();

    // Nor is one of use that is made for another host.
    give(&certificates, "ca", "elsewhere", &mut cluster.nodes[2]);
    cluster.nodes[2].start();
    eventually("the others say that it is another's", PATIENCE, || {
        let refused = |node| says(node, &["refused a peer's handshake", "elsewhere.example"]);
        cluster.nodes[..2].iter().all(refused)
    });
    assert!(!cluster.nodes[2].is_healthy());
    cluster.nodes[2].stop();

    sign(&certificates, "ca", "n3", LOCAL);
    give(&certificates, "ca", "n3", &mut cluster.nodes[2]);
    cluster.nodes[2].start();
    cluster.ready();
    cluster.serves();
}

#[test]
fn a_member_joins_over_tls_and_self_signed_members_find_each_other() {
    if !has_openssl() {
        return;
    }
    let mut cluster = three_nodes();
    let certificates = Certificates::new("peers");
    certificates.list_revoked("ca");
    sign(&certificates, "ca", "n4", LOCAL);
    for (node, name) in cluster.nodes.iter_mut().zip(["n1", "n2", "n3"]) {
        sign(&certificates, "ca", name, LOCAL);
        give(&certificates, "ca", name, node);
        node.flag("peer-cert-allowed-cn", "n1,n2,n3,n4");
        node.start();
    }
    cluster.ready();
    let place = cluster.newcomer();
    let (name, url) = (cluster.nodes[place].name.clone(), peer_url(&cluster.nodes[place]));
    let added = cluster.ctl_at(0, &["member", "add", &name, &format!("--peer-urls={url}")]);
    assert!(added.succeeded(), "{added:?}");
    let members: Vec<_> = cluster.nodes.iter().map(|node| format!("{}={}", node.name, peer_url(node))).collect();
    let newcomer = &mut cluster.nodes[place];
    listen_by_tls(newcomer);
    give(&certificates, "ca", "n4", newcomer);
    newcomer.flag("initial-advertise-peer-urls", &url);
    newcomer.flag("initial-cluster", &members.join(","));
    newcomer.flag("initial-cluster-state", "existing");
    newcomer.start();
    cluster.ready();
    cluster.serves();

    let mut cluster = three_nodes();
    for node in &mut cluster.nodes {
        node.flag("peer-auto-tls", "true");
        node.start();
    }
    cluster.ready();
    cluster.serves();
    assert!(cluster.nodes[0].data_dir.join("fixtures/peer/cert.pem").exists());
}

#[test]
fn three_members_and_their_clients_move_from_plain_to_tls_under_load() {
    if !has_openssl() {
        return;
    }
    let mut cluster = Cluster::vlot(3, Path::new(VLOT));
    let certificates = Certificates::new("peers");
    certificates.list_revoked("ca");
    let writer = Writer::start(&cluster, certificates.file("ca.crt"));
    // As docs/security-peers.md says, step by step.
    for (place, name) in ["n1", "n2", "n3"].into_iter().enumerate() {
        sign(&certificates, "ca", name, LOCAL);
        let node = &mut cluster.nodes[place];
        give(&certificates, "ca", name, node);
        listen_by_tls(node);
        node.flag("experimental-peer-allow-plaintext", "true");
        // Clients of both kinds are served on one port meanwhile.
        let [plain, secure] = ["http", "https"].map(|scheme| format!("{scheme}://127.0.0.1:{}", node.client_port));
        node.flag("listen-client-urls", &format!("{plain},{secure}"));
        node.flag("cert-file", &certificates.file(&format!("{name}.crt")));
        node.flag("key-file", &certificates.file(&format!("{name}.key")));
        node.stop();
        node.start();
        node.ready();
    }
    writer.by_tls.store(true, Relaxed);
    let list = cluster.told(0, &["member", "list"]);
    for node in &cluster.nodes {
        let line = list.lines().find(|line| line.contains(&format!(":{}", node.peer_port))).unwrap();
        let id = line.split(',').next().unwrap();
        let updated = cluster.ctl(&["member", "update", id, &format!("--peer-urls={}", peer_url(node))]);
        assert!(updated.succeeded(), "{updated:?}");
    }
    let members: Vec<_> = cluster.nodes.iter().map(|node| format!("{}={}", node.name, peer_url(node))).collect();
    for node in &mut cluster.nodes {
        node.flag("experimental-peer-allow-plaintext", "false");
        node.flag("initial-advertise-peer-urls", &peer_url(node));
        node.flag("initial-cluster", &members.join(","));
        node.stop();
        node.start();
        node.ready();
    }
    // A little longer, with all of them moved.
    thread::sleep(Duration::from_secs(1));
    let Written { in_the_clear, by_tls, pause } = writer.stop();
    assert!(in_the_clear.len() > 5 && by_tls.len() > 5, "{} {}", in_the_clear.len(), by_tls.len());
    // Leaders were restarted; on a busy machine an election may take a few attempts.
    assert!(pause < Duration::from_secs(10), "{pause:?}");
    cluster.serves();
    for (place, node) in cluster.nodes.iter().enumerate() {
        let found = cluster.told(place, &["get", "--prefix", "moved/", "--keys-only"]);
        let missing = in_the_clear.iter().chain(&by_tls).filter(|key| !found.contains(key.as_str())).count();
        assert_eq!(missing, 0);
        assert!(says(node, &["experimental-peer-allow-plaintext", "in the clear"]), "the risk is said");
        // Nobody is dialled in the clear: whoever listens would answer so.
        assert!(tells_http_to_use_tls(node));
    }
}
