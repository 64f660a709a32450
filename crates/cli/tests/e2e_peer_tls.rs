//! TLS between the members of clusters of real processes, with certificates made by openssl: who stays out and why, files
//! that change, and a move from plain connections to TLS under load.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use support::cluster::{Cluster, Node, PATIENCE, client};
use support::http::{exchange, fetch};
use support::process::run;
use support::{VLOT, eventually};

/// A CA that openssl keeps in a directory.
struct Authority {
    dir: PathBuf,
}

impl Authority {
    fn new(dir: &Path, name: &str) -> Authority {
        let dir = dir.join(name);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("index.txt"), "").unwrap();
        fs::write(dir.join("serial"), "01\n").unwrap();
        fs::write(dir.join("crlnumber"), "01\n").unwrap();
        let at = dir.display();
        let config = format!(
            "[ca]\ndefault_ca = this\n[this]\ndir = {at}\ndatabase = {at}/index.txt\nserial = {at}/serial\ncrlnumber = \
             {at}/crlnumber\nnew_certs_dir = {at}\ncertificate = {at}/ca.crt\nprivate_key = {at}/ca.key\ndefault_md = \
             sha256\npolicy = any\ndefault_crl_days = 30\ncopy_extensions = copy\n[any]\ncommonName = supplied\n"
        );
        fs::write(dir.join("ca.conf"), config).unwrap();
        let authority = Authority { dir };
        authority.openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN={name} -keyout ca.key -out ca.crt \
             -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign"
        ));
        authority.list();
        authority
    }

    /// Makes a certificate of that common name for these hosts, written as openssl wants it.
    fn sign(&self, name: &str, hosts: &str) {
        self.openssl(&format!(
            "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} -keyout {name}.key -out {name}.csr \
             -addext subjectAltName={hosts}"
        ));
        self.openssl(&format!("ca -batch -config ca.conf -days 20 -in {name}.csr -out {name}.crt -notext"));
    }

    fn revoke(&self, name: &str) {
        self.openssl(&format!("ca -config ca.conf -revoke {name}.crt"));
        self.list();
    }

    /// Writes the list of what is revoked.
    fn list(&self) {
        self.openssl("ca -config ca.conf -gencrl -out new.crl");
        fs::rename(self.file("new.crl"), self.file("ca.crl")).unwrap();
    }

    fn openssl(&self, arguments: &str) {
        let mut command = Command::new("openssl");
        command.args(arguments.split_whitespace()).current_dir(&self.dir);
        let output = run(&mut command, "", PATIENCE);
        assert!(output.succeeded(), "openssl {arguments}: {output:?}");
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Tells a node its certificate, the CA and the list.
    fn give(&self, node: &mut Node, name: &str) {
        for (flag, file) in [
            ("peer-cert-file", format!("{name}.crt")),
            ("peer-key-file", format!("{name}.key")),
            ("peer-trusted-ca-file", "ca.crt".to_owned()),
            ("peer-crl-file", "ca.crl".to_owned()),
        ] {
            node.flag(flag, &self.file(&file).display().to_string());
        }
    }
}

const LOCAL: &str = "IP:127.0.0.1";

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

/// Puts a key after the other for as long as it runs.
struct Writer {
    stop: Arc<AtomicBool>,
    acknowledged: JoinHandle<(Vec<String>, Duration)>,
}

impl Writer {
    fn start(endpoints: String) -> Writer {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let acknowledged = thread::spawn(move || {
            let (mut keys, mut pause, mut last) = (Vec::new(), Duration::ZERO, Instant::now());
            for number in 0.. {
                if stopped.load(Relaxed) {
                    break;
                }
                let key = format!("moved/{number:05}");
                let mut put = client(Path::new(VLOT), &endpoints);
                if run(put.args(["--command-timeout=2s", "put", &key, "value"]), "", PATIENCE).succeeded() {
                    keys.push(key);
                    pause = pause.max(last.elapsed());
                    last = Instant::now();
                }
            }
            (keys, pause)
        });
        Writer { stop, acknowledged }
    }

    /// What was acknowledged, and the longest time in which nothing was.
    fn stop(self) -> (Vec<String>, Duration) {
        self.stop.store(true, Relaxed);
        self.acknowledged.join().unwrap()
    }
}

#[test]
fn three_members_with_certificates_of_one_ca_and_one_of_another() {
    let mut cluster = three_nodes();
    let ours = Authority::new(cluster.dir.path(), "ours");
    let theirs = Authority::new(cluster.dir.path(), "theirs");
    for name in ["n1", "n2"] {
        ours.sign(name, LOCAL);
    }
    theirs.sign("n3", LOCAL);
    let (first, rest) = cluster.nodes.split_at_mut(2);
    for (node, name) in first.iter_mut().zip(["n1", "n2"]) {
        ours.give(node, name);
        node.start();
    }
    first.iter().for_each(Node::ready);
    let stranger = &mut rest[0];
    theirs.give(stranger, "n3");
    stranger.start();
    // It is refused where it calls, and refuses whom it calls.
    eventually("all three say why", PATIENCE, || {
        let refused = "refused a peer's handshake";
        says(&first[0], &[refused, "signed by an unknown authority"])
            && says(&first[1], &[refused, "signed by an unknown authority"])
            && says(stranger, &[refused, "signed by an unknown authority"])
    });
    assert!(!stranger.is_healthy());
    let metrics = fetch(first[0].client_port, "/metrics").unwrap();
    assert!(metrics.contains("\nvlot_peer_handshakes_refused_total{reason=\"unknown_ca\"} "), "{metrics}");
    assert!(metrics.contains("\nvlot_tls_certificate_not_after_timestamp_seconds{shown_to=\"peers\"} "), "{metrics}");

    // With the right certificate it comes in; what it holds against its CA is read again without a restart.
    ours.sign("n3", LOCAL);
    for file in ["n3.key", "n3.crt"] {
        fs::copy(ours.file(file), theirs.file(file)).unwrap();
    }
    fs::copy(ours.file("ca.crl"), theirs.file("ca.crl")).unwrap();
    fs::copy(ours.file("ca.crt"), theirs.file("ca.crt")).unwrap();
    stranger.ready();
    cluster.serves();

    // What members tell over HTTP is told over TLS, to whoever shows a certificate.
    let node = &cluster.nodes[0];
    let mut curl = Command::new("openssl");
    curl.args(["s_client", "-quiet", "-connect", &format!("127.0.0.1:{}", node.peer_port), "-CAfile"]);
    curl.arg(ours.file("ca.crt")).arg("-cert").arg(ours.file("n2.crt")).arg("-key").arg(ours.file("n2.key"));
    let members = run(&mut curl, "GET /members HTTP/1.1\r\nHost: x\r\n\r\n", PATIENCE);
    assert!(members.stdout.contains("\"peerURLs\":[\"https://127.0.0.1:"), "{members:?}");
    let plain = exchange(node.peer_port, b"GET /members HTTP/1.1\r\nHost: x\r\n\r\n", Duration::from_secs(5)).unwrap();
    assert!(plain.starts_with(b"HTTP/1.0 400 Bad Request"), "{}", String::from_utf8_lossy(&plain));
}

#[test]
fn a_member_whose_certificate_is_revoked_or_anothers_stays_out() {
    let mut cluster = three_nodes();
    let authority = Authority::new(cluster.dir.path(), "authority");
    authority.sign("n1", LOCAL);
    authority.sign("n2", LOCAL);
    authority.sign("n3", LOCAL);
    authority.sign("elsewhere", "DNS:elsewhere.example,IP:10.0.0.9");
    for (node, name) in cluster.nodes.iter_mut().zip(["n1", "n2", "n3"]) {
        authority.give(node, name);
        node.start();
    }
    cluster.ready();
    cluster.nodes[2].stop();
    authority.revoke("n3");
    // The list is looked at once a second.
    thread::sleep(Duration::from_millis(1200));
    cluster.nodes[2].start();
    eventually("the others say that it is revoked", PATIENCE, || {
        cluster.nodes[..2].iter().all(|node| says(node, &["refused a peer's handshake", "revoked"]))
    });
    assert!(!cluster.nodes[2].is_healthy());
    cluster.nodes[2].stop();

    // Nor is one of use that is made for another host.
    authority.give(&mut cluster.nodes[2], "elsewhere");
    cluster.nodes[2].start();
    eventually("the others say that it is another's", PATIENCE, || {
        let refused = |node| says(node, &["refused a peer's handshake", "elsewhere.example"]);
        cluster.nodes[..2].iter().all(refused)
    });
    assert!(!cluster.nodes[2].is_healthy());
    cluster.nodes[2].stop();

    authority.sign("n3", LOCAL);
    authority.give(&mut cluster.nodes[2], "n3");
    cluster.nodes[2].start();
    cluster.ready();
    cluster.serves();
}

#[test]
fn a_member_joins_over_tls_and_self_signed_members_find_each_other() {
    let mut cluster = three_nodes();
    let authority = Authority::new(cluster.dir.path(), "authority");
    for name in ["n1", "n2", "n3", "n4"] {
        authority.sign(name, LOCAL);
    }
    for (node, name) in cluster.nodes.iter_mut().zip(["n1", "n2", "n3"]) {
        authority.give(node, name);
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
    authority.give(newcomer, "n4");
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
fn three_members_move_from_plain_to_tls_under_load() {
    let mut cluster = Cluster::vlot(3, Path::new(VLOT));
    let authority = Authority::new(cluster.dir.path(), "authority");
    let writer = Writer::start(cluster.endpoints());
    // As docs/security-peers.md says, step by step.
    for place in 0..3 {
        let name = format!("n{}", place + 1);
        authority.sign(&name, LOCAL);
        let node = &mut cluster.nodes[place];
        authority.give(node, &name);
        listen_by_tls(node);
        node.flag("experimental-peer-allow-plaintext", "true");
        node.stop();
        node.start();
        node.ready();
    }
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
    let (acknowledged, pause) = writer.stop();
    assert!(acknowledged.len() > 20, "{}", acknowledged.len());
    // A leader was restarted twice; on a busy machine an election may take a few attempts.
    assert!(pause < Duration::from_secs(10), "{pause:?}");
    cluster.serves();
    for place in 0..3 {
        let found = cluster.told(place, &["get", "--prefix", "moved/", "--keys-only"]);
        let missing = acknowledged.iter().filter(|key| !found.contains(key.as_str())).count();
        assert_eq!(missing, 0, "of {}", acknowledged.len());
        let said = log(&cluster.nodes[place]);
        assert!(said.contains("experimental-peer-allow-plaintext"), "the risk is said: {said}");
        // Nobody is dialled in the clear: whoever listens would answer so.
        let plain = exchange(cluster.nodes[place].peer_port, b"GET /members HTTP/1.1\r\n\r\n", Duration::from_secs(5));
        assert!(plain.unwrap().starts_with(b"HTTP/1.0 400 Bad Request"));
    }
}
