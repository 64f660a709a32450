//! `--config-file`: a file that starts etcd starts our server, and does the same there; what etcd refuses is refused, with the
//! file, the line and the key; what etcd passes over in silence is said.
//!
//! Both servers get the very same file, one after the other: paths in it are relative, and each runs in a directory of its own.

mod support;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::cluster::{PATIENCE, client};
use support::http::fetch;
use support::process::{Output, Process, run};
use support::{Etcd, TempDir, VLOT, eventually, free_port};

/// One of the two programs, as whoever has a configuration file starts it.
#[derive(Clone, Copy)]
struct Program<'p> {
    what: &'static str,
    path: &'p Path,
    first: &'static [&'static str],
}

const OURS: &[&str] = &["server", "--stop-with-parent"];

/// Ours, and etcd's if it is there.
fn programs(etcd: Option<&Etcd>) -> Vec<Program<'_>> {
    let ours = Program { what: "vlot", path: Path::new(VLOT), first: OURS };
    let etcds = etcd.map(|etcd| Program { what: "etcd", path: &etcd.server, first: &[] });
    [Some(ours), etcds].into_iter().flatten().collect()
}

impl Program<'_> {
    /// Starts it in a directory of its own, below that of the test. Its output goes to a log there.
    fn start(&self, dir: &Path, node: &str, arguments: &[&str], variables: &[(&str, &str)]) -> (Process, PathBuf) {
        let own = dir.join(format!("{}-{node}", self.what));
        std::fs::create_dir_all(&own).unwrap();
        let log = own.join("log");
        let output = File::create(&log).unwrap();
        let mut command = self.command(&own, arguments);
        command.envs(variables.iter().copied());
        command.stdin(Stdio::piped()).stdout(output.try_clone().unwrap()).stderr(output);
        (Process::start(&mut command), log)
    }

    fn command(&self, dir: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.path);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ETCD_")) {
            command.env_remove(name);
        }
        command.args(self.first).args(arguments).current_dir(dir);
        command
    }
}

fn serves(port: u16) {
    eventually("the node serves", PATIENCE, || {
        fetch(port, "/health").is_some_and(|reply| reply.contains(r#""health":"true""#))
    });
}

fn ask(endpoint: &str, arguments: &[&str], input: &str) -> Output {
    run(client(Path::new(VLOT), endpoint).args(arguments), input, PATIENCE)
}

/// A file that starts one node, but for what it says more.
fn one_node(client: u16, peer: u16, more: &str) -> String {
    format!(
        "name: n1\ndata-dir: data\nlisten-client-urls: http://127.0.0.1:{client}\n\
         advertise-client-urls: http://127.0.0.1:{client}\nlisten-peer-urls: http://127.0.0.1:{peer}\n\
         initial-advertise-peer-urls: http://127.0.0.1:{peer}\ninitial-cluster: n1=http://127.0.0.1:{peer}\n{more}"
    )
}

#[test]
fn one_file_starts_both_servers() {
    let etcd = Etcd::find();
    let dir = TempDir::new("config-file");
    let [client_port, other, peer] = [(); 3].map(|()| free_port());
    // What etcd's sample has, but for its v2 interface.
    let more = "wal-dir:\nsnapshot-count: 5_000\nheartbeat-interval: 1e2\nelection-timeout: 1000\n\
        quota-backend-bytes: 0\nmax-snapshots: 5\nmax-wals: 5\ncors:\ndiscovery:\ndiscovery-fallback: 'proxy'\n\
        discovery-proxy:\ndiscovery-srv:\ninitial-cluster-token: 'a-token'\ninitial-cluster-state: 'new'\n\
        strict-reconfig-check: no\nenable-pprof: true\nproxy: 'off'\nproxy-failure-wait: 5000\n\
        client-transport-security:\n  cert-file:\n  client-cert-auth: false\n  auto-tls: false\n\
        peer-transport-security: {cert-file: , allowed-cn: , allowed-hostname: }\n\
        self-signed-cert-validity: 1\nlog-level: debug\nlogger: zap\nlog-outputs: [stderr]\n\
        force-new-cluster: false\nauto-compaction-mode: periodic\nauto-compaction-retention: '1'\n\
        cipher-suites: [\n  TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,\n  TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384\n]\n\
        tls-min-version: 'TLS1.2'\ntls-max-version: 'TLS1.3'\nhost-whitelist: '*'\nbcrypt-cost: 4\n\
        grpc-keepalive-interval: 7200000000000\nauth-token: simple\nmax-txn-ops: &ops 2\nmax-learners: *ops\n";
    let yaml = one_node(client_port, peer, more);
    let json = format!(
        r#"{{"name": "n1", "data-dir": "data", "max-txn-ops": 2, "log-outputs": ["stderr"],
            "listen-client-urls": "http://127.0.0.1:{client_port}", "advertise-client-urls": "http://127.0.0.1:{client_port}",
            "listen-peer-urls": "http://127.0.0.1:{peer}", "initial-advertise-peer-urls": "http://127.0.0.1:{peer}",
            "initial-cluster": "n1=http://127.0.0.1:{peer}"}}"#
    );
    for (name, text) in [("yaml", yaml), ("json", json)] {
        let file = dir.path().join(name);
        std::fs::write(&file, text).unwrap();
        let file = file.display().to_string();
        let elsewhere = format!("http://127.0.0.1:{other}");
        // Of the flags and variables beside it nothing counts, not even what could not be read.
        let flags = ["--config-file", &file, "--name=flag", "--listen-client-urls", &elsewhere];
        let variables =
            [("ETCD_CONFIG_FILE", file.as_str()), ("ETCD_NAME", "variable"), ("ETCD_HEARTBEAT_INTERVAL", "x")];
        let ways = [(&flags[..], &variables[..0]), (&flags[..0], &variables[..])];
        for (place, (arguments, variables)) in ways.into_iter().enumerate() {
            for program in programs(etcd.as_ref()) {
                let node = format!("{name}-{place}");
                let (_process, log) = program.start(dir.path(), &node, arguments, variables);
                serves(client_port);
                let case = || format!("{} {node}: {}", program.what, std::fs::read_to_string(&log).unwrap());
                let endpoint = format!("127.0.0.1:{client_port}");
                assert_eq!(ask(&endpoint, &["put", "k", "v"], "").stdout, "OK\n", "{}", case());
                assert!(ask(&endpoint, &["member", "list"], "").stdout.contains(", n1, "), "{}", case());
                let three = ask(&endpoint, &["txn"], "\nput a 1\nput b 2\nput c 3\n\n\n");
                assert!(three.stderr.contains("too many operations in txn request"), "{three:?}: {}", case());
                assert!(fetch(other, "/health").is_none(), "{}", case());
                assert!(log.with_file_name("data").is_dir(), "{}", case());
                if program.first == OURS {
                    let ignored = if place == 0 { "--listen-client-urls, --name" } else { "ETCD_HEARTBEAT_INTERVAL" };
                    assert!(case().contains("without effect beside --config-file"), "{}", case());
                    assert!(case().contains(ignored), "{}", case());
                }
            }
        }
    }
}

#[test]
fn sections_of_tls_bind_clients_and_peers() {
    let etcd = Etcd::find();
    let dir = TempDir::new("config-file-tls");
    let cert = |arguments: &str| {
        let said = run(Command::new(VLOT).current_dir(dir.path()).arg("cert").args(arguments.split(' ')), "", PATIENCE);
        assert!(said.succeeded(), "{said:?}");
    };
    cert("ca");
    cert("server --host localhost --host 127.0.0.1");
    cert("peer --host 127.0.0.1");
    cert("client --name alice");
    cert("client --name bob");
    let ports = [(); 3].map(|()| [(); 3].map(|()| free_port()));
    let members: Vec<_> = (1..).zip(&ports).map(|(n, ports)| format!("n{n}=https://127.0.0.1:{}", ports[1])).collect();
    let cluster = members.join(",");
    for (n, [client, peer, metrics]) in (1..).zip(&ports) {
        let text = format!(
            "name: n{n}\ndata-dir: data\nlisten-client-urls: https://127.0.0.1:{client}\n\
             advertise-client-urls: https://127.0.0.1:{client}\nlisten-peer-urls: https://127.0.0.1:{peer}\n\
             initial-advertise-peer-urls: https://127.0.0.1:{peer}\ninitial-cluster: {cluster}\n\
             listen-metrics-urls: http://127.0.0.1:{metrics}\ntls-min-version: TLS1.3\n\
             client-transport-security:\n  cert-file: ../server.crt\n  key-file: ../server.key\n\
             \x20 client-cert-auth: true\n  trusted-ca-file: ../ca.crt\n  allowed-cn: [alice]\n\
             peer-transport-security:\n  cert-file: ../peer.crt\n  key-file: ../peer.key\n\
             \x20 client-cert-auth: yes\n  trusted-ca-file: ../ca.crt\n  allowed-cn:\n  - peer\n"
        );
        std::fs::write(dir.path().join(format!("n{n}.yml")), text).unwrap();
    }
    let clients = [
        ("--cacert=ca.crt --cert=alice.crt --key=alice.key", true),
        ("--cacert=ca.crt --cert=bob.crt --key=bob.key", false),
        ("--cacert=ca.crt", false),
    ];
    for program in programs(etcd.as_ref()) {
        let nodes: Vec<_> = (1..=3)
            .map(|n| program.start(dir.path(), &format!("n{n}"), &[&format!("--config-file=../n{n}.yml")], &[]))
            .collect();
        ports.iter().for_each(|ports| serves(ports[2]));
        for [port, ..] in ports {
            for (flags, is_let_in) in clients {
                let mut command = client(Path::new(VLOT), &format!("https://127.0.0.1:{port}"));
                command.current_dir(dir.path()).args(flags.split(' ')).args(["--command-timeout=2s", "put", "k", "v"]);
                let said = run(&mut command, "", PATIENCE);
                let log = std::fs::read_to_string(&nodes[0].1).unwrap();
                assert_eq!(said.succeeded(), is_let_in, "{} {flags}: {said:?}: {log}", program.what);
            }
        }
    }
}

/// What is wrong with a file that otherwise starts a node.
struct Mistake {
    text: &'static str,
    /// What our server says behind the file's name.
    told: &'static str,
    /// Whether etcd refuses it as well.
    by_etcd: bool,
}

const fn both(text: &'static str, told: &'static str) -> Mistake {
    Mistake { text, told, by_etcd: true }
}

const fn ours(text: &'static str, told: &'static str) -> Mistake {
    Mistake { text, told, by_etcd: false }
}

const MISTAKES: &[Mistake] = &[
    both("heartbeat-interval: soon\n", ":8: --heartbeat-interval=soon: expected a whole number"),
    both("<<: {name: n2}\n", ":7: couldn't find local name \"n2\""),
    both("heartbeat-interval: 1.5\n", ":8: --heartbeat-interval=1.5: expected a whole number"),
    both("heartbeat-interval: -1\n", ":8: --heartbeat-interval=-1: expected a number of at least 1"),
    both("election-timeout: 100\n", ":8: --election-timeout[100ms] should be at least as 5 times"),
    both("strict-reconfig-check: maybe\n", ":8: --strict-reconfig-check=maybe: expected true or false"),
    both("max-txn-ops: [1]\n", ":8: max-txn-ops: expected one value, and found a list or a mapping"),
    both("auth-token: {a: b}\n", ":8: auth-token: expected one value, and found a list or a mapping"),
    both("cors: {a: b}\n", ":8: cors: expected a text or a list of texts"),
    both("log-outputs: {a: b}\n", ":8: log-outputs: expected a text or a list of texts"),
    both("log-level: loud\n", ":8: --log-level=loud: expected debug, info,"),
    both("initial-cluster-state: old\n", ":8: --initial-cluster-state=old: expected new or existing"),
    both("auto-compaction-mode: never\n", ":8: --auto-compaction-mode=never: expected periodic or revision"),
    both("listen-metrics-urls: 127.0.0.1\n", ":8: --listen-metrics-urls=127.0.0.1: expected a list of URLs; "),
    both("tls-min-version: TLS9\n", ":8: --tls-min-version: unexpected TLS version \"TLS9\""),
    both("client-transport-security: true\n", ":8: client-transport-security: expected keys of its own"),
    both("name: a\n  name: b\n", ":9: no YAML: "),
    both("\tname: a\n", ":7: no YAML: while scanning a plain scalar, found a tab"),
    both("discovery: [unclosed\n", ":9: no YAML: while parsing a flow sequence"),
    both("proxy: x\n", ":8: --proxy is not supported: "),
    // What etcd does and our server does not.
    ours("enable-v2: true\n", ":8: --enable-v2 is not supported: etcd's v2 interface is not served"),
    ours("unsafe-no-fsync: true\n", ":8: --unsafe-no-fsync is not supported: nothing is acknowledged before"),
    // What etcd does not know.
    ours("peer-cert-file: a\n", ":8: --peer-cert-file is given without --peer-key-file; "),
    ours("rate-limit: [x]\n", ":8: --rate-limit=x: expected "),
];

#[test]
fn mistakes_are_told_with_file_line_and_key() {
    let etcd = Etcd::find();
    let dir = TempDir::new("config-file-mistakes");
    let [client_port, peer] = [(); 2].map(|()| free_port());
    for (place, Mistake { text, told, by_etcd }) in MISTAKES.iter().enumerate() {
        let own = dir.path().join(place.to_string());
        std::fs::create_dir(&own).unwrap();
        std::fs::write(own.join("f.yml"), one_node(client_port, peer, text)).unwrap();
        for program in programs(etcd.as_ref()) {
            let is_ours = program.first == OURS;
            if is_ours || *by_etcd {
                let said = run(&mut program.command(&own, &["--config-file=f.yml"]), "", PATIENCE);
                // etcd panics at some of them.
                let codes: &[_] = if is_ours { &[Some(1)] } else { &[Some(1), Some(2)] };
                assert!(codes.contains(&said.code), "{} {text:?}: {said:?}", program.what);
                let expected = format!("vlot server: f.yml{told}");
                assert!(!is_ours || said.stderr.starts_with(&expected), "{text:?}: {said:?}");
                assert!(!is_ours || said.stderr.lines().count() == 1, "{said:?}");
            }
        }
    }
    for (file, told) in [("missing.yml", "No such file"), (".", "Is a directory")] {
        for program in programs(etcd.as_ref()) {
            let named = format!("--config-file={file}");
            let said = run(&mut program.command(dir.path(), &[&named]), "", PATIENCE);
            assert_eq!(said.code, Some(1), "{} {file}: {said:?}", program.what);
            let expected = format!("vlot server: {file}: the configuration file cannot be read: {told}");
            assert!(program.first != OURS || said.stderr.starts_with(&expected), "{said:?}");
        }
    }
}

#[test]
fn what_etcd_passes_over_is_said_and_starts_both() {
    let etcd = Etcd::find();
    let dir = TempDir::new("config-file-ignored");
    let [client_port, peer] = [(); 2].map(|()| free_port());
    let more = "heartbeat-interval: 10\nheartbeat-interval: 100\nno-such-key: {a: [b]}\n\
                client-transport-security:\n  trusted-ca: a\nPre-Vote: false\nconfig-file: other.yml\n\
                grpc-keepalive-min-time: 5\ninitial-cluster-token: !mine a\n---\nname: other\n";
    // Not told where clients reach it, either.
    let text = one_node(client_port, peer, more)
        .replace(&format!("advertise-client-urls: http://127.0.0.1:{client_port}\n"), "");
    std::fs::write(dir.path().join("f.yml"), text).unwrap();
    for program in programs(etcd.as_ref()) {
        let (_process, log) = program.start(dir.path(), "n1", &["--config-file=../f.yml"], &[]);
        serves(client_port);
        let listed = ask(&format!("127.0.0.1:{client_port}"), &["member", "list"], "").stdout;
        assert!(
            listed.contains(", n1, ") && listed.contains(", http://localhost:2379, "),
            "{}: {listed}",
            program.what
        );
        if program.first == OURS {
            let said = std::fs::read_to_string(&log).unwrap().replace("\\\"", "\"");
            for expected in [
                "../f.yml:8: heartbeat-interval is set again; what heartbeat-interval in line 7 says has no effect",
                "../f.yml:9: unknown key \"no-such-key\" has no effect; 'vlot server --help' lists all",
                "../f.yml:11: unknown key \"client-transport-security.trusted-ca\" has no effect",
                "../f.yml:12: --pre-vote has no effect: elections always have a pre-vote",
                "../f.yml:13: a configuration file names no other; config-file has no effect",
                "../f.yml:14: grpc-keepalive-min-time: 5 is in nanoseconds, as in etcd; write 5s for five seconds",
                "../f.yml:16: a second document begins; it has no effect",
                "../f.yml:3: advertise-client-urls is missing, so that clients are told http://localhost:2379",
            ] {
                assert!(said.contains(expected), "{expected}: {said}");
            }
        }
    }
}
