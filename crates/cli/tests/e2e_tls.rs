//! TLS between real programs, with certificates that openssl makes: our server and etcd's, our command line and etcdctl.
//!
//! Each table is one server and those who dial it. What is expected holds for both servers and both clients; the words are
//! our client's, of our server.

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::certificates::{Certificates, ED25519, EXPIRED, Leaf, NOT_YET, P384, RSA, has_openssl};
use support::cluster::{PATIENCE, client};
use support::http::{exchange, fetch};
use support::process::{Output, Process, Until, run, run_until};
use support::{Etcd, VLOT, eventually, free_port};

/// Longer than a server takes to see that a file has changed.
const A_LOOK: Duration = Duration::from_millis(1200);

/// How long a client tries that is not to get in.
const A_TRY: Duration = Duration::from_secs(2);

/// One node that listens with TLS, in the clear, and for metrics with TLS.
struct Server {
    process: Process,
    tls: u16,
    clear: u16,
    metrics: u16,
    log: PathBuf,
}

impl Server {
    /// Starts ours, or etcd's `program`, with what `name` names as its certificate, and waits until it serves.
    fn start(program: Option<&Path>, certificates: &Certificates, name: &str, flags: &[(&str, &str)]) -> Server {
        let pair = [
            ("cert-file", certificates.file(&format!("{name}.crt"))),
            ("key-file", certificates.file(&format!("{name}.key"))),
        ];
        let all: Vec<_> =
            pair.iter().map(|(flag, value)| (*flag, value.as_str())).chain(flags.iter().copied()).collect();
        let server = Server::begin(program, certificates, &all);
        eventually("the node serves", PATIENCE, || {
            fetch(server.clear, "/health").is_some_and(|reply| reply.contains(r#""health":"true""#))
        });
        server
    }

    fn begin(program: Option<&Path>, certificates: &Certificates, flags: &[(&str, &str)]) -> Server {
        let [tls, clear, metrics, peer] = [(); 4].map(|()| free_port());
        let dir = certificates.path(&format!("node-{tls}"));
        let log = certificates.path(&format!("node-{tls}.log"));
        let mut command = Command::new(program.unwrap_or(Path::new(VLOT)));
        if program.is_none() {
            command.args(["server", "--stop-with-parent"]);
        }
        let own = [
            ("name", "n1".to_owned()),
            ("data-dir", dir.display().to_string()),
            ("listen-client-urls", format!("https://127.0.0.1:{tls},http://127.0.0.1:{clear}")),
            ("advertise-client-urls", format!("https://127.0.0.1:{tls}")),
            ("listen-metrics-urls", format!("https://127.0.0.1:{metrics}")),
            ("listen-peer-urls", format!("http://127.0.0.1:{peer}")),
            ("initial-advertise-peer-urls", format!("http://127.0.0.1:{peer}")),
            ("initial-cluster", format!("n1=http://127.0.0.1:{peer}")),
        ];
        command.args(own.iter().map(|(flag, value)| format!("--{flag}={value}")));
        command.args(flags.iter().map(|(flag, value)| format!("--{flag}={value}")));
        let output = std::fs::File::create(&log).unwrap();
        command.stdin(Stdio::piped()).stdout(output.try_clone().unwrap()).stderr(output);
        Server { process: Process::start(&mut command), tls, clear, metrics, log }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Asks for a page by TLS, as who has this certificate.
    fn page(&self, certificates: &Certificates, port: u16, who: Option<&str>, request: &str) -> String {
        let files = who.map(|who| [format!("{who}.crt"), format!("{who}.key")]);
        let address = format!("127.0.0.1:{port}");
        let mut arguments = vec!["s_client", "-quiet", "-connect", &address, "-CAfile", "ca.crt"];
        if let Some([cert, key]) = &files {
            arguments.extend(["-cert", cert, "-key", key]);
        }
        certificates.try_openssl(&arguments, request).stdout
    }
}

/// Who dials, and what comes of it.
struct Case {
    name: &'static str,
    /// `TLS`, `LOCALHOST` and `CLEAR` stand for the server's addresses.
    endpoint: &'static str,
    /// Flags; what is behind an `@` is a file of the certificates.
    flags: &'static str,
    /// What our client says of why it does not get in; `None` if it does.
    flaw: Option<&'static str>,
}

const fn good(name: &'static str, endpoint: &'static str, flags: &'static str) -> Case {
    Case { name, endpoint, flags, flaw: None }
}

const fn bad(name: &'static str, endpoint: &'static str, flags: &'static str, flaw: &'static str) -> Case {
    Case { name, endpoint, flags, flaw: Some(flaw) }
}

/// Dials a server by one client, which tries until its time ends.
fn dial(
    program: &Path,
    server: &Server,
    certificates: &Certificates,
    endpoint: &str,
    flags: &str,
    time: Duration,
) -> Output {
    let time = time.as_secs();
    let endpoint = endpoint
        .replace("TLS", &format!("127.0.0.1:{}", server.tls))
        .replace("LOCALHOST", &format!("localhost:{}", server.tls))
        .replace("CLEAR", &format!("127.0.0.1:{}", server.clear));
    let mut command = client(program, &endpoint);
    command.args(flags.split_whitespace().map(|flag| match flag.split_once('@') {
        Some((flag, file)) => format!("{flag}{}", certificates.file(file)),
        None => flag.to_owned(),
    }));
    command.args([format!("--command-timeout={time}s"), format!("--dial-timeout={time}s")]).args(["put", "k", "v"]);
    // Writes are not repeated once they were sent, and so fail with the first cause.
    run(&mut command, "", PATIENCE)
}

/// Holds a server's table against both clients.
fn judge(what: &str, is_ours: bool, server: &Server, certificates: &Certificates, etcd: &Etcd, cases: &[Case]) {
    for Case { name, endpoint, flags, flaw } in cases {
        for program in [Path::new(VLOT), &etcd.ctl] {
            let said =
                dial(program, server, certificates, endpoint, flags, if flaw.is_none() { PATIENCE / 2 } else { A_TRY });
            let case = format!("{what}: {name}: {}: {said:?}", program.display());
            match flaw {
                None => assert_eq!((said.code, said.stdout.as_str()), (Some(0), "OK\n"), "{case}"),
                Some(flaw) => {
                    assert!(!said.succeeded(), "{case}");
                    assert!(!is_ours || program != Path::new(VLOT) || said.stderr.contains(flaw), "{case}");
                }
            }
        }
    }
}

/// Runs a table against our server and against etcd.
fn against_both(certificates: &Certificates, (name, flags): (&str, &[(&str, &str)]), etcd: &Etcd, cases: &[Case]) {
    thread::scope(|scope| {
        for program in [None, Some(etcd.server.as_path())] {
            scope.spawn(move || {
                let server = Server::start(program, certificates, name, flags);
                let what = if program.is_some() { "etcd" } else { "vlot" };
                judge(what, program.is_none(), &server, certificates, etcd, cases);
            });
        }
    });
}

const BY_CA: &str = "--cacert=@ca.crt";

#[test]
fn servers_are_known_by_their_ca_and_their_names() {
    let (true, Some(etcd)) = (has_openssl(), Etcd::find()) else { return };
    let certificates = Certificates::new("tls-server");
    certificates.ca("other");
    certificates.sign(&Leaf::server("server"));
    certificates.sign(&Leaf::client("alice"));
    let cases = [
        good("by address", "https://TLS", BY_CA),
        good("by name, which is SNI", "https://LOCALHOST", BY_CA),
        good("a file of CAs says that TLS is spoken", "TLS", BY_CA),
        good("in the clear on the port in the clear", "http://CLEAR", ""),
        good("in the clear on the port in the clear, without a scheme", "CLEAR", ""),
        good("any server is taken", "https://TLS", "--insecure-transport=false --insecure-skip-tls-verify"),
        good(
            "a certificate that nobody asks for",
            "https://TLS",
            "--cacert=@ca.crt --cert=@alice.crt --key=@alice.key",
        ),
        bad("another CA", "https://TLS", "--cacert=@other.crt", "signed by an unknown authority"),
        bad("the machine's CAs", "https://TLS", "", "signed by an unknown authority"),
        bad("in the clear on the port of TLS", "http://TLS", "", "if it expects TLS, use https://"),
        bad("TLS on the port in the clear", "https://CLEAR", BY_CA, "does not speak TLS"),
    ];
    against_both(&certificates, ("server", &[]), &etcd, &cases);
}

#[test]
fn servers_whose_certificate_is_bad_are_refused() {
    let (true, Some(etcd)) = (has_openssl(), Etcd::find()) else { return };
    let certificates = Certificates::new("tls-bad-server");
    let server = Leaf::server("x");
    let leaves = [
        Leaf { name: "expired", dates: EXPIRED, ..server.clone() },
        Leaf { name: "not-yet", dates: NOT_YET, ..server.clone() },
        Leaf { name: "elsewhere", names: "DNS:example.com,IP:10.1.1.1", ..server.clone() },
        Leaf { name: "wildcard", names: "DNS:*.example.com", ..server.clone() },
        Leaf { name: "only-cn", cn: "127.0.0.1", names: "", ..server.clone() },
        Leaf { name: "rsa", key: RSA, ..server.clone() },
        Leaf { name: "p384", key: P384, ..server.clone() },
        Leaf { name: "ed25519", key: ED25519, ..server.clone() },
        Leaf { name: "both-usages", usage: "serverAuth,clientAuth", ..server.clone() },
        Leaf { name: "no-usage", usage: "", ..server.clone() },
        Leaf { name: "for-clients", usage: "clientAuth", ..server },
    ];
    leaves.iter().for_each(|leaf| certificates.sign(leaf));
    certificates.self_signed("alone");
    let rows: [(&str, Case); 12] = [
        ("expired", bad("expired", "https://TLS", BY_CA, "has expired: it was good until 2021-01-01 00:00:00 UTC")),
        ("not-yet", bad("not yet valid", "https://TLS", BY_CA, "is not valid yet: it is good from 2098-01-01")),
        ("elsewhere", bad("wrong host", "https://TLS", BY_CA, "is not for 127.0.0.1")),
        ("wildcard", bad("wrong host by a wildcard", "https://LOCALHOST", BY_CA, "is not for localhost")),
        ("only-cn", bad("the common name is no host", "https://TLS", BY_CA, "it has no alternative names")),
        ("for-clients", bad("wrong purpose", "https://TLS", BY_CA, "made for another purpose")),
        ("alone", good("trusted by itself, and says that it is a CA", "https://TLS", "--cacert=@alone.crt")),
        ("rsa", good("RSA", "https://TLS", BY_CA)),
        ("p384", good("P-384", "https://TLS", BY_CA)),
        ("ed25519", good("Ed25519", "https://TLS", BY_CA)),
        ("both-usages", good("for both ends", "https://LOCALHOST", BY_CA)),
        ("no-usage", good("for any purpose", "https://TLS", BY_CA)),
    ];
    for (name, case) in rows {
        against_both(&certificates, (name, &[]), &etcd, &[case]);
    }
}

#[test]
fn clients_are_known_by_their_certificates() {
    let (true, Some(etcd)) = (has_openssl(), Etcd::find()) else { return };
    let certificates = Certificates::new("tls-clients");
    certificates.ca("other");
    certificates.sign(&Leaf::server("server"));
    let client = Leaf::client("x");
    let leaves = [
        Leaf { name: "alice", ..client.clone() },
        Leaf { name: "rsa", key: RSA, ..client.clone() },
        Leaf { name: "ed25519", key: ED25519, ..client.clone() },
        Leaf { name: "expired", dates: EXPIRED, ..client.clone() },
        Leaf { name: "not-yet", dates: NOT_YET, ..client.clone() },
        Leaf { name: "stranger", ca: "other", ..client.clone() },
        Leaf { name: "revoked", ..client },
    ];
    leaves.iter().for_each(|leaf| certificates.sign(leaf));
    certificates.self_signed("alone");
    certificates.revoke("ca", "revoked");
    // The form that etcd reads.
    certificates.openssl(&["crl", "-in", "ca.crl", "-outform", "DER", "-out", "ca.crl.der"]);
    let cases = [
        good("of the CA", "https://TLS", "--cacert=@ca.crt --cert=@alice.crt --key=@alice.key"),
        good("with RSA", "https://LOCALHOST", "--cacert=@ca.crt --cert=@rsa.crt --key=@rsa.key"),
        good("with Ed25519", "https://TLS", "--cacert=@ca.crt --cert=@ed25519.crt --key=@ed25519.key"),
        good("in the clear, where that is served", "http://CLEAR", ""),
        bad("without one", "https://TLS", BY_CA, "wants a client certificate, and none is given; see --cert and --key"),
        bad(
            "expired",
            "https://TLS",
            "--cacert=@ca.crt --cert=@expired.crt --key=@expired.key",
            "certificate has expired",
        ),
        bad("not yet valid", "https://TLS", "--cacert=@ca.crt --cert=@not-yet.crt --key=@not-yet.key", "the other end"),
        bad(
            "of another CA",
            "https://TLS",
            "--cacert=@ca.crt --cert=@stranger.crt --key=@stranger.key",
            "signed by a CA that it does not trust",
        ),
        bad("of no CA", "https://TLS", "--cacert=@ca.crt --cert=@alone.crt --key=@alone.key", "the other end"),
        bad(
            "revoked",
            "https://TLS",
            "--cacert=@ca.crt --cert=@revoked.crt --key=@revoked.key",
            "certificate is revoked",
        ),
        bad("a server's", "https://TLS", "--cacert=@ca.crt --cert=@server.crt --key=@server.key", "the other end"),
    ];
    let (ca, list) = (certificates.file("ca.crt"), certificates.file("ca.crl.der"));
    let flags = [("client-cert-auth", "true"), ("trusted-ca-file", ca.as_str()), ("client-crl-file", list.as_str())];
    against_both(&certificates, ("server", &flags), &etcd, &cases);
}

#[test]
fn clients_may_be_bound_to_names() {
    let (true, Some(etcd)) = (has_openssl(), Etcd::find()) else { return };
    let certificates = Certificates::new("tls-names");
    certificates.sign(&Leaf { usage: "serverAuth,clientAuth", ..Leaf::server("server") });
    certificates.sign(&Leaf { names: "DNS:app.example.com", ..Leaf::client("app") });
    certificates.sign(&Leaf { names: "DNS:*.example.com", ..Leaf::client("wild") });
    certificates.sign(&Leaf { cn: "app.example.com", ..Leaf::client("by-cn") });
    certificates.sign(&Leaf { names: "DNS:other.example.com", ..Leaf::client("other") });
    let ca = certificates.file("ca.crt");
    let flags = [("trusted-ca-file", ca.as_str()), ("client-cert-allowed-hostname", "app.example.com")];
    let cases = [
        good("the name", "https://TLS", "--cacert=@ca.crt --cert=@app.crt --key=@app.key"),
        good("a wildcard", "https://TLS", "--cacert=@ca.crt --cert=@wild.crt --key=@wild.key"),
        bad("another name", "https://TLS", "--cacert=@ca.crt --cert=@other.crt --key=@other.key", "the other end"),
        bad(
            "the common name alone",
            "https://TLS",
            "--cacert=@ca.crt --cert=@by-cn.crt --key=@by-cn.key",
            "the other end",
        ),
    ];
    against_both(&certificates, ("server", &flags), &etcd, &cases);
}

#[test]
fn versions_suites_and_protocols_are_agreed_on() {
    let (true, Some(etcd)) = (has_openssl(), Etcd::find()) else { return };
    let certificates = Certificates::new("tls-versions");
    certificates.sign(&Leaf::server("ec"));
    certificates.sign(&Leaf { key: RSA, ..Leaf::server("rsa") });
    // etcd does not start without this one.
    const ONLY_AES: &str = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256";
    const OLD: &str = "DEFAULT@SECLEVEL=0";
    let rows: [Offer; 11] = [
        ("ec", &[], &["-tls1_3"], Some("TLSv1.3")),
        ("ec", &[], &["-tls1_2"], Some("TLSv1.2")),
        ("ec", &[], &["-tls1_1", "-cipher", OLD], None),
        ("ec", &[("tls-min-version", "TLS1.3")], &["-tls1_3"], Some("TLSv1.3")),
        ("ec", &[("tls-min-version", "TLS1.3")], &["-tls1_2"], None),
        ("ec", &[("tls-max-version", "TLS1.2")], &[], Some("TLSv1.2")),
        ("ec", &[("tls-max-version", "TLS1.2")], &["-tls1_3"], None),
        ("rsa", &[("cipher-suites", ONLY_AES)], &["-tls1_2"], Some("ECDHE-RSA-AES128-GCM-SHA256")),
        ("rsa", &[("cipher-suites", ONLY_AES)], &["-tls1_2", "-cipher", "ECDHE-RSA-AES256-GCM-SHA384"], None),
        ("ec", &[], &["-servername", "localhost"], Some("TLSv1.3")),
        ("ec", &[], &["-servername", "nobody.example"], Some("TLSv1.3")),
    ];
    for (name, flags, offered, expected) in rows {
        for program in [None, Some(etcd.server.as_path())] {
            let server = Server::start(program, &certificates, name, flags);
            let said = offer(&server, &certificates, offered);
            let case = format!("{program:?} {flags:?} {offered:?}: {said:?}");
            match expected {
                Some(expected) => assert!(said.succeeded() && said.stderr.contains(expected), "{case}"),
                None => assert!(!said.succeeded(), "{case}"),
            }
        }
    }
    let server = Server::start(None, &certificates, "ec", &[]);
    let rows = [("h2,http/1.1", Some("h2")), ("http/1.1", Some("http/1.1")), ("spdy/1,h2", Some("h2")), ("ftp", None)];
    for (alpn, expected) in rows {
        let address = format!("127.0.0.1:{}", server.tls);
        let said = certificates.try_openssl(&["s_client", "-connect", &address, "-alpn", alpn], "");
        match expected {
            Some(agreed) => assert!(said.stdout.contains(&format!("ALPN protocol: {agreed}")), "{alpn}: {said:?}"),
            None => assert!(!said.succeeded(), "{alpn}: {said:?}"),
        }
    }
}

/// A server's certificate and flags, what openssl offers it, and what both come to.
type Offer = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str], Option<&'static str>);

/// Offers a server something by openssl.
fn offer(server: &Server, certificates: &Certificates, offered: &[&str]) -> Output {
    let address = format!("127.0.0.1:{}", server.tls);
    let arguments = ["s_client", "-brief", "-verify_return_error", "-CAfile", "ca.crt", "-connect", &address];
    certificates.try_openssl(&[&arguments, offered].concat(), "")
}

#[test]
fn the_metrics_port_the_gateway_and_plain_http_follow_the_same_rules() {
    if !has_openssl() {
        return;
    }
    let certificates = Certificates::new("tls-http");
    certificates.sign(&Leaf::server("server"));
    certificates.sign(&Leaf::client("alice"));
    certificates.sign(&Leaf::client("mallory"));
    certificates.revoke("ca", "mallory");
    let (ca, list) = (certificates.file("ca.crt"), certificates.file("ca.crl"));
    let flags = [("trusted-ca-file", ca.as_str()), ("client-crl-file", list.as_str())];
    let server = Server::start(None, &certificates, "server", &flags);
    let get = |path: &str| format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    let body = r#"{"key":"Zm9v","value":"YmFy"}"#;
    let put = format!(
        "POST /v3/kv/put HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    // Port, who asks, for what, and what is in the answer; nothing is if there is none.
    let rows = [
        (server.metrics, Some("alice"), get("/health"), r#""health":"true""#),
        (server.metrics, Some("alice"), get("/metrics"), "vlot_tls_certificate_not_after_timestamp_seconds{shown_to="),
        (server.metrics, None, get("/health"), ""),
        (server.metrics, Some("mallory"), get("/metrics"), ""),
        (server.tls, Some("alice"), get("/health"), r#""health":"true""#),
        (server.tls, Some("alice"), put.clone(), r#""revision":"2""#),
        (server.tls, None, put.clone(), ""),
        (server.tls, Some("mallory"), put, ""),
    ];
    for (port, who, request, expected) in rows {
        let said = server.page(&certificates, port, who, &request);
        let is_right = if expected.is_empty() { said.is_empty() } else { said.contains(expected) };
        assert!(is_right, "{who:?} {request}: {said:?}");
    }
    for port in [server.metrics, server.tls] {
        let said = exchange(port, get("/health").as_bytes(), Duration::from_secs(2)).unwrap();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(said.starts_with("HTTP/1.0 400 Bad Request\r\n"), "{said}");
        assert!(said.ends_with("\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"), "{said}");
    }
    let said = exchange(server.clear, b"\x16\x03\x01\x00\x2e\x01\x00\x00\x2a", Duration::from_secs(2)).unwrap();
    assert!(String::from_utf8_lossy(&said).contains("Client sent a TLS handshake to an HTTP server."));
    let metrics = fetch(server.clear, "/metrics").unwrap();
    for row in [
        "vlot_tls_handshake_failures_total{reason=\"plain_http\"} 2",
        "vlot_tls_handshake_failures_total{reason=\"no_certificate\"} 2",
        "vlot_tls_handshake_failures_total{reason=\"revoked\"} 2",
        "vlot_tls_handshakes_total 4",
    ] {
        assert!(metrics.contains(row), "{row}: {metrics}");
    }
    assert!(server.said().contains("a client's TLS handshake has failed: the certificate of the other end is revoked"));
}

#[test]
fn a_port_may_have_both_schemes() {
    let (true, Some(etcd)) = (has_openssl(), Etcd::find()) else { return };
    let certificates = Certificates::new("tls-both");
    certificates.sign(&Leaf::server("server"));
    for program in [None, Some(etcd.server.as_path())] {
        let port = free_port();
        let urls = format!("http://127.0.0.1:{port},https://127.0.0.1:{port}");
        let flags = [
            ("cert-file", certificates.file("server.crt")),
            ("key-file", certificates.file("server.key")),
            ("listen-client-urls", urls.clone()),
            ("advertise-client-urls", urls),
        ];
        let flags: Vec<_> = flags.iter().map(|(flag, value)| (*flag, value.as_str())).collect();
        let mut server = Server::begin(program, &certificates, &flags);
        (server.tls, server.clear) = (port, port);
        eventually("the node serves", PATIENCE, || fetch(port, "/health").is_some_and(|reply| reply.contains("true")));
        let cases = [good("TLS", "https://TLS", BY_CA), good("in the clear", "http://CLEAR", "")];
        judge("both", program.is_none(), &server, &certificates, &etcd, &cases);
    }
}

#[test]
fn files_change_while_a_watch_stands() {
    let (true, Some(etcd)) = (has_openssl(), Etcd::find()) else { return };
    let certificates = Certificates::new("tls-reload");
    certificates.ca("next");
    certificates.sign(&Leaf::server("server"));
    certificates.sign(&Leaf { ca: "next", ..Leaf::server("renewed") });
    certificates.sign(&Leaf::client("alice"));
    certificates.sign(&Leaf { ca: "next", ..Leaf::client("bob") });
    certificates.sign(&Leaf { ca: "next", ..Leaf::client("carol") });
    certificates.list_revoked("ca");
    certificates.list_revoked("next");
    certificates.copy("server.crt", "shown.crt");
    certificates.copy("server.key", "shown.key");
    certificates.copy("ca.crt", "trusted.crt");
    certificates.copy("ca.crl", "revoked.crl");
    let (ca, list) = (certificates.file("trusted.crt"), certificates.file("revoked.crl"));
    let flags = [("trusted-ca-file", ca.as_str()), ("client-crl-file", list.as_str())];
    let server = Server::start(None, &certificates, "shown", &flags);
    let by = |cacert: &str, who: &str| format!("--cacert=@{cacert}.crt --cert=@{who}.crt --key=@{who}.key");
    let watches: Vec<_> = [PathBuf::from(VLOT), etcd.ctl.clone()]
        .into_iter()
        .map(|program| {
            let mut command = client(&program, &format!("https://127.0.0.1:{}", server.tls));
            let files = [("cacert", "ca.crt"), ("cert", "alice.crt"), ("key", "alice.key")];
            command.args(files.map(|(flag, file)| format!("--{flag}={}", certificates.file(file))));
            command.args(["watch", "w"]);
            thread::spawn(move || run_until(&mut command, "", Until::Said("the last"), Duration::from_secs(60)))
        })
        .collect();
    let watchers = "etcd_debugging_mvcc_watcher_total 2";
    eventually("both watch", PATIENCE, || fetch(server.clear, "/metrics").is_some_and(|page| page.contains(watchers)));
    let gets_in = |flags: &str| {
        let both = [Path::new(VLOT), etcd.ctl.as_path()]
            .map(|program| dial(program, &server, &certificates, "https://TLS", flags, 3 * A_TRY).succeeded());
        assert_eq!(both[0], both[1], "{flags}");
        both[0]
    };
    let settle = || thread::sleep(A_LOOK);
    assert!(gets_in(&by("ca", "alice")) && !gets_in(&by("ca", "bob")) && !gets_in(&by("next", "alice")));
    // Half of a pair is used by nobody.
    certificates.copy("renewed.crt", "shown.crt");
    settle();
    assert!(gets_in(&by("ca", "alice")), "half of a pair is in use");
    assert!(server.said().contains("shown.key: is not the key of the certificate in"), "{}", server.said());
    certificates.copy("renewed.key", "shown.key");
    settle();
    assert!(gets_in(&by("next", "alice")) && !gets_in(&by("ca", "alice")), "the certificate is not renewed");
    // Both CAs, then the new one alone.
    let both = ["ca.crt", "next.crt"].map(|file| std::fs::read_to_string(certificates.path(file)).unwrap()).concat();
    certificates.write("trusted.crt", &both);
    settle();
    assert!(gets_in(&by("next", "alice")) && gets_in(&by("next", "bob")), "two CAs are not trusted");
    certificates.write("trusted.crt", "-----BEGIN CERTIFICATE-----\nbroken\n");
    settle();
    assert!(gets_in(&by("next", "bob")), "a broken file is in use");
    assert!(server.said().contains("trusted.crt: is no valid PEM"), "{}", server.said());
    certificates.copy("next.crt", "trusted.crt");
    settle();
    assert!(!gets_in(&by("next", "alice")) && gets_in(&by("next", "bob")), "the old CA is still trusted");
    certificates.revoke("next", "bob");
    certificates.copy("next.crl", "revoked.crl");
    settle();
    assert!(!gets_in(&by("next", "bob")) && gets_in(&by("next", "carol")), "the list of revoked ones is not used");
    certificates.copy("bob.crt", "revoked.crl");
    settle();
    assert!(!gets_in(&by("next", "bob")) && gets_in(&by("next", "carol")), "a broken list revokes nobody");
    assert!(server.said().contains("revoked.crl: no list of revoked certificates in it"), "{}", server.said());
    let put = client(Path::new(VLOT), &format!("127.0.0.1:{}", server.clear)).args(["put", "w", "the last"]).output();
    assert!(put.unwrap().status.success());
    for watch in watches {
        let said = watch.join().unwrap();
        assert!(said.stdout.contains("the last"), "{said:?}");
    }
}

#[test]
fn what_a_node_makes_for_itself_is_kept_and_for_all_its_hosts() {
    let (true, Some(etcd)) = (has_openssl(), Etcd::find()) else { return };
    let certificates = Certificates::new("tls-auto");
    let flags = [("auto-tls", "true"), ("self-signed-cert-validity", "2")];
    let mut server = Server::begin(None, &certificates, &flags);
    eventually("the node serves", PATIENCE, || {
        fetch(server.clear, "/health").is_some_and(|reply| reply.contains("true"))
    });
    let kept = certificates.path(&format!("node-{}/fixtures/client", server.tls));
    let first = std::fs::read(kept.join("cert.pem")).unwrap();
    certificates.write("auto.crt", &String::from_utf8(first.clone()).unwrap());
    let skip = "--insecure-transport=false --insecure-skip-tls-verify";
    let cases = [
        good("any server is taken", "https://TLS", skip),
        good("trusted by itself", "https://TLS", "--cacert=@auto.crt"),
        bad("not trusted", "https://TLS", BY_CA, "signed by an unknown authority"),
    ];
    judge("auto", true, &server, &certificates, &etcd, &cases);
    let shown = certificates.openssl(&["x509", "-in", "auto.crt", "-noout", "-text", "-checkend", "63000000"]).stdout;
    assert!(shown.contains("IP Address:127.0.0.1") && shown.contains("Certificate will not expire"), "{shown}");
    server.process.signal("TERM");
    assert!(server.process.wait(PATIENCE).is_some_and(|status| status.success()));
    assert_eq!(std::fs::read(kept.join("cert.pem")).unwrap(), first);
}

#[test]
fn a_node_that_cannot_serve_tls_says_why() {
    if !has_openssl() {
        return;
    }
    let certificates = Certificates::new("tls-mistakes");
    certificates.ca("other");
    certificates.sign(&Leaf::server("server"));
    certificates.sign(&Leaf::server("second"));
    certificates.sign(&Leaf { key: "ec:P-521", ..Leaf::server("p521") });
    certificates.list_revoked("other");
    certificates.write("empty", "");
    certificates.openssl(&["pkey", "-in", "server.key", "-aes256", "-passout", "pass:secret", "-out", "locked.key"]);
    certificates.openssl(&["req", "-new", "-key", "server.key", "-subj", "/CN=v1", "-out", "v1.csr"]);
    certificates.openssl(&["x509", "-req", "-in", "v1.csr", "-signkey", "server.key", "-out", "v1.crt", "-days", "9"]);
    // The list of a CA of the same name, and with another key.
    certificates.copy("ca.crt", "first.crt");
    certificates.ca("ca");
    certificates.list_revoked("ca");
    let rows = [
        ("server.crt", "second.key", "", "second.key: is not the key of the certificate in"),
        ("missing.crt", "server.key", "", "missing.crt: there is no such file; check the path"),
        (
            "empty",
            "server.key",
            "",
            "empty: no certificate in it; PEM with \"-----BEGIN CERTIFICATE-----\" is expected",
        ),
        ("server.key", "server.key", "", "server.key: no certificate in it"),
        ("server.crt", "server.crt", "", "server.crt: no private key in it"),
        ("server.crt", "locked.key", "", "locked.key: its key needs a passphrase; decrypt it first"),
        ("p521.crt", "p521.key", "", "p521.key: its key is of no kind that is supported: RSA of 2048 to 4096 bits"),
        ("v1.crt", "server.key", "", "v1.crt: its certificate is of X.509 version 1"),
        ("server.crt", "server.key", "trusted-ca-file=empty", "empty: no certificate in it"),
        (
            "server.crt",
            "server.key",
            "trusted-ca-file=first.crt client-crl-file=first.crt",
            "no list of revoked certificates",
        ),
        (
            "server.crt",
            "server.key",
            "trusted-ca-file=first.crt client-crl-file=ca.crl",
            "ca.crl: the list of revoked certificates is not signed by the CA that it names",
        ),
    ];
    for (cert, key, flags, expected) in rows {
        let files = [("cert-file", certificates.file(cert)), ("key-file", certificates.file(key))];
        let more = flags.split_whitespace().filter_map(|flag| flag.split_once('='));
        let more: Vec<_> = more.map(|(flag, file)| (flag, certificates.file(file))).collect();
        let all: Vec<_> = files.iter().chain(&more).map(|(flag, value)| (*flag, value.as_str())).collect();
        let mut server = Server::begin(None, &certificates, &all);
        let ended = server.process.wait(PATIENCE);
        let said = server.said();
        assert!(ended.is_some_and(|status| !status.success()), "{cert} {key}: {said}");
        let line = said.lines().find(|line| line.starts_with("vlot server: cannot serve TLS: "));
        assert!(line.is_some_and(|line| line.contains(expected)), "{cert} {key} {flags}: {said}");
    }
    // These do not keep it from serving: who can mend them may not be who starts it.
    certificates.sign(&Leaf { ca: "other", dates: EXPIRED, ..Leaf::server("old") });
    let server = Server::start(None, &certificates, "old", &[]);
    let warning = "old.crt: its certificate has expired: it was good until 2021-01-01 00:00:00 UTC; renew it";
    eventually("it is said", PATIENCE, || server.said().contains(warning));
}

#[test]
fn a_handshake_that_never_ends_holds_nothing_for_long() {
    let (true, Some(etcd)) = (has_openssl(), Etcd::find()) else { return };
    let certificates = Certificates::new("tls-slow");
    certificates.sign(&Leaf::server("server"));
    let server = Server::start(None, &certificates, "server", &[]);
    // Half of a greeting, and none at all; the last one sends a byte now and then, and never enough.
    let hello: &[u8] = b"\x16\x03\x01\x01\x00\x01\x00\x00\xfc\x03\x03";
    let begun = Instant::now();
    let slow: Vec<_> = [hello, b"", &hello[..1]]
        .iter()
        .map(|sent| {
            let mut stream = TcpStream::connect(("127.0.0.1", server.tls)).unwrap();
            stream.write_all(sent).unwrap();
            stream
        })
        .collect();
    let mut dripping = slow[2].try_clone().unwrap();
    thread::spawn(move || {
        for byte in &hello[1..] {
            thread::sleep(Duration::from_millis(1500));
            if dripping.write_all(&[*byte]).is_err() {
                return;
            }
        }
    });
    let cases = [good("others meanwhile", "https://TLS", BY_CA)];
    judge("slow", true, &server, &certificates, &etcd, &cases);
    for mut stream in slow {
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        let ended = std::io::Read::read(&mut stream, &mut [0; 64]);
        assert!(
            matches!(&ended, Ok(0)) || ended.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
        );
    }
    assert!(begun.elapsed() < Duration::from_secs(14), "{:?}", begun.elapsed());
    let row = "vlot_tls_handshake_failures_total{reason=\"timeout\"} 3";
    eventually("they are counted", PATIENCE, || fetch(server.clear, "/metrics").is_some_and(|page| page.contains(row)));
}

#[test]
fn the_host_whitelist_is_for_requests_in_the_clear() {
    let (true, Some(etcd)) = (has_openssl(), Etcd::find()) else { return };
    let certificates = Certificates::new("tls-hosts");
    certificates.sign(&Leaf::server("server"));
    let request = "GET /version HTTP/1.0\r\nHost: elsewhere.example\r\n\r\n";
    for program in [None, Some(etcd.server.as_path())] {
        let server = Server::start(program, &certificates, "server", &[("host-whitelist", "127.0.0.1")]);
        let in_the_clear = exchange(server.clear, request.as_bytes(), Duration::from_secs(2)).unwrap();
        assert!(String::from_utf8_lossy(&in_the_clear).contains(" 421 "), "{program:?}");
        let by_tls = server.page(&certificates, server.tls, None, request);
        assert!(by_tls.contains(" 200 OK") && by_tls.contains("etcdserver"), "{program:?}: {by_tls}");
    }
}

#[test]
fn a_certificate_of_the_command_line_says_what_is_wrong_with_it() {
    if !has_openssl() {
        return;
    }
    let certificates = Certificates::new("tls-cli-mistakes");
    certificates.sign(&Leaf::client("alice"));
    certificates.sign(&Leaf::client("bob"));
    certificates.sign(&Leaf { dates: EXPIRED, ..Leaf::client("old") });
    certificates.openssl(&["pkey", "-in", "alice.key", "-aes256", "-passout", "pass:secret", "-out", "locked.key"]);
    let rows = [
        ("--cert=@alice.crt --key=@bob.key", "bob.key: is not the key of the certificate in"),
        ("--cert=@alice.crt --key=@locked.key", "locked.key: its key needs a passphrase"),
        ("--cert=@alice.crt", "--cert is given without --key"),
        ("--cacert=@alice.key", "alice.key: no certificate in it"),
        ("--cacert=@none", "none: there is no such file; check the path"),
        ("--cacert=@ca.crt --cert=@old.crt --key=@old.key", "old.crt: its certificate has expired"),
    ];
    for (flags, expected) in rows {
        let mut command = client(Path::new(VLOT), "https://127.0.0.1:1");
        command.args(flags.split(' ').map(|flag| {
            let (flag, file) = flag.split_once('@').unwrap();
            format!("{flag}{}", certificates.file(file))
        }));
        let said = run(command.args(["--command-timeout=100ms", "put", "a", "b"]), "", PATIENCE);
        assert!(!said.succeeded() && said.stderr.contains(expected), "{flags}: {said:?}");
    }
}

#[test]
fn our_own_certificates_are_good_for_everyone() {
    let (true, Some(etcd)) = (has_openssl(), Etcd::find()) else { return };
    let certificates = Certificates::new("tls-cert");
    // Those that openssl has made are in the way: nothing is overwritten.
    let cert = |arguments: &str| {
        let mut command = Command::new(VLOT);
        run(command.current_dir(certificates.directory()).arg("cert").args(arguments.split(' ')), "", PATIENCE)
    };
    let refused = cert("ca");
    assert!(!refused.succeeded() && refused.stderr.contains("ca.crt: is there already, and is not overwritten"));
    let by = "--ca-cert root.crt --ca-key root.key";
    for (arguments, files) in [
        ("ca --name root".to_owned(), "./root.crt\n./root.key\n"),
        (format!("server {by} --host localhost --host 127.0.0.1"), "./server.crt\n./server.key\n"),
        (format!("peer {by} --host 127.0.0.1 --days 30"), "./peer.crt\n./peer.key\n"),
        (format!("client {by} --name alice"), "./alice.crt\n./alice.key\n"),
    ] {
        let said = cert(&arguments);
        assert_eq!((said.code, said.stdout.as_str()), (Some(0), files), "{said:?}");
    }
    for file in ["root.key", "server.key", "peer.key", "alice.key"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(certificates.path(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    certificates.openssl(&["verify", "-CAfile", "root.crt", "-purpose", "sslserver", "server.crt", "peer.crt"]);
    certificates.openssl(&["verify", "-CAfile", "root.crt", "-purpose", "sslclient", "alice.crt", "peer.crt"]);
    for (arguments, flaw) in [
        ("client --name ../x".to_owned(), "--name=../x: it is the name of files too"),
        (format!("server {by} --name s2 --host a,b/c"), "\"b/c\" is neither the name of a host nor an IP address"),
        ("client --name x --ca-cert alice.crt --ca-key alice.key".to_owned(), "is that of no CA"),
        ("client --name x --ca-cert root.crt --ca-key alice.key".to_owned(), "is not the key of the certificate in"),
        (format!("client {by} --name x --days 0"), "cannot be good for 0 days"),
    ] {
        let said = cert(&arguments);
        assert!(!said.succeeded() && said.stderr.contains(flaw), "{arguments}: {said:?}");
    }
    let ca = certificates.file("root.crt");
    let flags = [("client-cert-auth", "true"), ("trusted-ca-file", ca.as_str())];
    let cases = [
        good("mutual", "https://LOCALHOST", "--cacert=@root.crt --cert=@alice.crt --key=@alice.key"),
        bad("without one", "https://TLS", "--cacert=@root.crt", "wants a client certificate"),
    ];
    against_both(&certificates, ("server", &flags), &etcd, &cases);
}
