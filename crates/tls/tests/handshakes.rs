//! Both ends meet, with certificates that are made here, and files that change between two handshakes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use vlot_tls::make::{self, Ends, MakeError, Order};
use vlot_tls::{
    Client, ClientOptions, FileFlaw, HandshakeError, KeyPairFiles, NameRule, PLAIN_HTTP_ANSWER, Protocols, Reason,
    Server, ServerCheck, ServerOptions, Verify, Version, client_of, server_of,
};

/// A directory of certificates that goes with its test.
struct Bench {
    directory: PathBuf,
}

impl Bench {
    fn new(name: &str) -> Bench {
        let directory = std::env::temp_dir().join(format!("vlot-tls-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let bench = Bench { directory };
        bench.authority("ca");
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn files(&self, name: &str) -> KeyPairFiles {
        KeyPairFiles { cert: self.path(&format!("{name}.crt")), key: self.path(&format!("{name}.key")) }
    }

    fn authority(&self, name: &str) {
        make::authority(name, 2).unwrap().write(&self.files(name)).unwrap();
    }

    /// A certificate of a CA, for `localhost` and `127.0.0.1`.
    fn signed(&self, by: &str, name: &str, ends: Ends) -> KeyPairFiles {
        let hosts = vec!["localhost".into(), "127.0.0.1".into()];
        let order = Order { common_name: name.into(), hosts, ends, days: 1 };
        let files = self.files(name);
        make::signed(&self.files(by), &order).unwrap().write(&files).unwrap();
        files
    }

    fn server(&self, name: &str) -> ServerOptions {
        ServerOptions::new(self.signed("ca", name, Ends::Server))
    }

    fn by_ca(&self) -> ClientOptions {
        ClientOptions::new(Verify::by_ca(self.path("ca.crt")))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// What comes of a handshake, as either end sees it: the common name of the other, or why there is none.
async fn meet(server: &Server, client: &Client, host: &str) -> (Result<String, Reason>, Result<String, Reason>) {
    let (near, far) = duplex(1 << 16);
    let serving = async {
        let mut stream = server.accept(far).await.map_err(|error| error.reason())?;
        let name = client_of(&stream).and_then(|found| found.common_name);
        stream.write_all(b"x").await.map_err(|_| Reason::Closed)?;
        Ok(name.as_deref().unwrap_or("-").to_owned())
    };
    let dialling = async {
        let mut stream = client.connect(near, host).await.map_err(|error| error.reason())?;
        let name = server_of(&stream).and_then(|found| found.common_name);
        // A server that refuses the client's certificate says so here.
        let read = stream.read_u8().await;
        read.map_err(|error| HandshakeError::within(&error).map_or(Reason::Closed, |error| error.reason()))?;
        Ok(name.as_deref().unwrap_or("-").to_owned())
    };
    let (served, dialled) = tokio::join!(serving, dialling);
    (served, dialled)
}

fn ok(name: &str) -> Result<String, Reason> {
    Ok(name.to_owned())
}

#[tokio::test]
async fn both_ends_know_each_other() {
    let bench = Bench::new("mutual");
    let by_ca = Verify::by_ca(bench.path("ca.crt"));
    let server = Server::load(ServerOptions { clients: Some(by_ca.clone()), ..bench.server("n1") }).unwrap();
    let alice = bench.signed("ca", "alice", Ends::Client);
    let own = |files| ClientOptions { own: files, ..bench.by_ca() };
    let known = Client::load(own(Some(alice))).unwrap();
    for host in ["localhost", "127.0.0.1"] {
        assert_eq!(meet(&server, &known, host).await, (ok("alice"), ok("n1")), "{host}");
    }
    assert_eq!(meet(&server, &known, "example.com").await, (Err(Reason::Refused), Err(Reason::WrongName)));
    let unknown = Client::load(own(None)).unwrap();
    assert_eq!(meet(&server, &unknown, "localhost").await, (Err(Reason::NoCertificate), Err(Reason::Refused)));
    bench.authority("other");
    let stranger = Client::load(own(Some(bench.signed("other", "mallory", Ends::Client)))).unwrap();
    assert_eq!(meet(&server, &stranger, "localhost").await, (Err(Reason::UnknownAuthority), Err(Reason::Refused)));
    let misused = Client::load(own(Some(bench.files("n1")))).unwrap();
    assert_eq!(meet(&server, &misused, "localhost").await, (Err(Reason::BadCertificate), Err(Reason::Refused)));
}

#[tokio::test]
async fn names_are_bound_by_the_rule() {
    let bench = Bench::new("names");
    let own = bench.server("n1");
    let client = ClientOptions { own: Some(bench.signed("ca", "alice", Ends::Client)), ..bench.by_ca() };
    let client = Client::load(client).unwrap();
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let rows = [
        (NameRule::CommonNames(texts(&["bob", "alice"])), ok("alice")),
        (NameRule::CommonNames(texts(&["bob", "alic", "alice2"])), Err(Reason::WrongName)),
        (NameRule::CommonNames(Vec::new()), Err(Reason::WrongName)),
        (NameRule::Hosts(texts(&["example.com", "localhost"])), ok("alice")),
        (NameRule::Hosts(texts(&["127.0.0.1"])), ok("alice")),
        (NameRule::Hosts(texts(&["alice"])), Err(Reason::WrongName)),
    ];
    for (names, expected) in rows {
        let clients = Verify { names: names.clone(), ..Verify::by_ca(bench.path("ca.crt")) };
        let server = Server::load(ServerOptions { clients: Some(clients), ..own.clone() }).unwrap();
        assert_eq!(meet(&server, &client, "localhost").await.0, expected, "{names:?}");
    }
}

#[tokio::test]
async fn a_certificate_that_is_trusted_by_itself_is_taken_for_its_names_alone() {
    let bench = Bench::new("alone");
    let order = |days| Order { common_name: "solo".into(), hosts: vec!["localhost".into()], ends: Ends::Server, days };
    let files = bench.files("solo");
    make::self_signed(&order(1)).unwrap().write(&files).unwrap();
    let server = Server::load(ServerOptions::new(files.clone())).unwrap();
    let trusting = Client::load(ClientOptions::new(Verify::by_ca(files.cert))).unwrap();
    assert_eq!(meet(&server, &trusting, "localhost").await.1, ok("solo"));
    assert_eq!(meet(&server, &trusting, "127.0.0.1").await.1, Err(Reason::WrongName));
    let careless = ClientOptions { server: ServerCheck::Any, ..bench.by_ca() };
    assert_eq!(meet(&server, &Client::load(careless).unwrap(), "10.0.0.1").await.1, ok("solo"));
    // So does one that is its own CA, which is how many make their first certificate.
    bench.authority("localhost");
    let server = Server::load(ServerOptions::new(bench.files("localhost"))).unwrap();
    let trusting = Client::load(ClientOptions::new(Verify::by_ca(bench.path("localhost.crt")))).unwrap();
    assert_eq!(meet(&server, &trusting, "localhost").await.1, Err(Reason::WrongName), "its common name does not count");
}

#[tokio::test]
async fn another_name_may_be_asked_for_than_the_one_that_is_dialled() {
    let bench = Bench::new("name");
    let server = Server::load(bench.server("n1")).unwrap();
    let named = |name: &str| {
        let server = ServerCheck::Verified { by: Verify::by_ca(bench.path("ca.crt")), name: Some(name.into()) };
        Client::load(ClientOptions { server, ..bench.by_ca() }).unwrap()
    };
    assert_eq!(meet(&server, &named("localhost"), "10.1.1.1").await.1, ok("n1"));
    assert_eq!(meet(&server, &named("other"), "localhost").await.1, Err(Reason::WrongName));
}

#[tokio::test]
async fn versions_and_suites_must_have_one_in_common() {
    let bench = Bench::new("versions");
    let own = bench.server("n1");
    let only = |version| Protocols::new::<&str>(Some(version), Some(version), &[]).unwrap();
    let suites = |name| Protocols::new(None, Some(Version::Tls12), &[name]).unwrap();
    let aes = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
    let rows = [
        (only(Version::Tls12), only(Version::Tls12), ok("-")),
        (only(Version::Tls13), only(Version::Tls13), ok("-")),
        (only(Version::Tls13), only(Version::Tls12), Err(Reason::Version)),
        (only(Version::Tls12), only(Version::Tls13), Err(Reason::Version)),
        (suites(aes), Protocols::default(), ok("-")),
        (suites(aes), suites("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"), Err(Reason::Suite)),
        // The key of the server is of the other kind.
        (suites("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"), Protocols::default(), Err(Reason::Suite)),
    ];
    for (place, (of_server, of_client, expected)) in rows.into_iter().enumerate() {
        let server = Server::load(ServerOptions { protocols: of_server, ..own.clone() }).unwrap();
        let client = Client::load(ClientOptions { protocols: of_client, ..bench.by_ca() }).unwrap();
        assert_eq!(meet(&server, &client, "localhost").await.0, expected, "row {place}");
    }
}

#[tokio::test]
async fn who_speaks_in_the_clear_is_told_so() {
    let bench = Bench::new("clear");
    let server = Server::load(bench.server("n1")).unwrap();
    let rows: [(&[u8], Reason, &str); 4] = [
        (b"GET /health HTTP/1.1\r\n\r\n", Reason::PlainHttp, PLAIN_HTTP_ANSWER),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Reason::PlainHttp, PLAIN_HTTP_ANSWER),
        (b"\0\0\0\0", Reason::NotTls, ""),
        (b"", Reason::Closed, ""),
    ];
    for (sent, reason, answer) in rows {
        let (mut near, far) = duplex(4096);
        near.write_all(sent).await.unwrap();
        near.shutdown().await.unwrap();
        assert_eq!(server.accept(far).await.unwrap_err().reason(), reason);
        let mut answered = String::new();
        near.read_to_string(&mut answered).await.unwrap();
        assert_eq!(answered, answer);
    }
}

#[tokio::test]
async fn a_server_that_speaks_in_the_clear_is_found_out() {
    let bench = Bench::new("clear-server");
    let client = Client::load(bench.by_ca()).unwrap();
    let (near, mut far) = duplex(4096);
    far.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    assert_eq!(client.connect(near, "localhost").await.unwrap_err().reason(), Reason::NotTls);
}

/// Longer than a change of a file takes to be looked for.
const A_LOOK: Duration = Duration::from_millis(1100);

#[tokio::test]
async fn files_that_change_are_used_and_broken_ones_are_not() {
    let bench = Bench::new("reload");
    let by_ca = Verify::by_ca(bench.path("ca.crt"));
    let options = ServerOptions { clients: Some(by_ca), ..bench.server("n1") };
    let server = Server::load(options.clone()).unwrap();
    let alice = ClientOptions { own: Some(bench.signed("ca", "alice", Ends::Client)), ..bench.by_ca() };
    let alice = Client::load(alice).unwrap();
    let seen = async || {
        tokio::time::sleep(A_LOOK).await;
        meet(&server, &alice, "localhost").await
    };
    assert_eq!(seen().await, (ok("alice"), ok("n1")));
    // A new certificate, first without its key.
    let renewed = bench.signed("ca", "n2", Ends::Server);
    fs::copy(&renewed.cert, &options.own.cert).unwrap();
    assert_eq!(seen().await, (ok("alice"), ok("n1")));
    fs::copy(&renewed.key, &options.own.key).unwrap();
    assert_eq!(seen().await, (ok("alice"), ok("n2")));
    // Garbage, and nothing at all.
    fs::write(&options.own.cert, "-----BEGIN CERTIFICATE-----\n").unwrap();
    assert_eq!(seen().await, (ok("alice"), ok("n2")));
    fs::remove_file(&options.own.cert).unwrap();
    assert_eq!(seen().await, (ok("alice"), ok("n2")));
    fs::copy(&renewed.cert, &options.own.cert).unwrap();
    assert_eq!(seen().await, (ok("alice"), ok("n2")));
    // Another CA takes the place of the one that has signed both. The client has its own copy of the file by its name.
    let kept = fs::read(bench.path("ca.crt")).unwrap();
    bench.authority("other");
    fs::copy(bench.path("other.crt"), bench.path("ca.crt")).unwrap();
    tokio::time::sleep(A_LOOK).await;
    let blind =
        Client::load(ClientOptions { server: ServerCheck::Any, own: Some(bench.files("alice")), ..bench.by_ca() });
    let blind = blind.unwrap();
    assert_eq!(meet(&server, &blind, "localhost").await.0, Err(Reason::UnknownAuthority));
    assert_eq!(meet(&server, &alice, "localhost").await.1, Err(Reason::UnknownAuthority));
    fs::write(bench.path("ca.crt"), kept).unwrap();
    assert_eq!(seen().await, (ok("alice"), ok("n2")));
}

#[test]
fn files_that_cannot_be_used_are_refused_by_name() {
    let bench = Bench::new("files");
    let n1 = bench.signed("ca", "n1", Ends::Server);
    let n2 = bench.signed("ca", "n2", Ends::Server);
    let write = |name: &str, text: &str| {
        fs::write(bench.path(name), text).unwrap();
        bench.path(name)
    };
    let pair = |cert: &Path, key: &Path| ServerOptions::new(KeyPairFiles { cert: cert.into(), key: key.into() });
    let empty = write("empty", "");
    let cut = write("cut", "-----BEGIN CERTIFICATE-----\nMIIB\n");
    let locked = write("locked", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n");
    let odd = write("odd", "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n");
    let clients = |crl: Option<PathBuf>, ca: &Path| ServerOptions {
        clients: Some(Verify { crl, ..Verify::by_ca(ca) }),
        ..pair(&n1.cert, &n1.key)
    };
    let ca = bench.path("ca.crt");
    let rows = [
        (pair(&n1.cert, &n2.key), "n2.key", "is not the key of the certificate in "),
        (pair(&n1.key, &n1.key), "n1.key", "no certificate in it"),
        (pair(&n1.cert, &n1.cert), "n1.crt", "no private key in it"),
        (pair(&empty, &n1.key), "empty", "no certificate in it"),
        (pair(&cut, &n1.key), "cut", "is no valid PEM"),
        (pair(&n1.cert, &locked), "locked", "its key needs a passphrase"),
        (pair(&n1.cert, &odd), "odd", "its key is of no kind that is supported"),
        (pair(&bench.path("none"), &n1.key), "none", "there is no such file"),
        (pair(&bench.directory, &n1.key), "", "cannot be read"),
        (clients(None, &empty), "empty", "no certificate in it"),
        (clients(Some(n1.cert.clone()), &ca), "n1.crt", "no list of revoked certificates in it"),
    ];
    for (options, file, expected) in rows {
        let error = Server::load(options).unwrap_err();
        assert!(error.path.ends_with(file), "{error}");
        assert!(error.flaw.to_string().starts_with(expected), "{error}");
    }
}

#[test]
fn what_is_made_is_written_once_and_for_its_owner_alone() {
    let bench = Bench::new("make");
    let files = bench.files("once");
    let order = Order { common_name: "x".into(), hosts: Vec::new(), ends: Ends::Client, days: 1 };
    let made = make::signed(&bench.files("ca"), &order).unwrap();
    assert!(!format!("{made:?}").contains("PRIVATE KEY"));
    made.write(&files).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&files.key), mode(&files.cert) & 0o600), (0o600, 0o600));
    }
    assert!(matches!(made.write(&files), Err(MakeError::Exists { .. })));
    // Neither is what was there.
    fs::remove_file(&files.key).unwrap();
    assert!(matches!(made.write(&files), Err(MakeError::Exists { .. })));
    assert!(!files.key.exists());
    assert!(
        matches!(make::signed(&bench.files("once"), &order), Err(MakeError::File(error)) if matches!(error.flaw, FileFlaw::Unreadable(_)))
    );
    let leaf = bench.signed("ca", "leaf", Ends::Both);
    assert!(matches!(make::signed(&leaf, &order), Err(MakeError::NoAuthority { .. })));
    assert!(matches!(make::authority("x", 0), Err(MakeError::Days(0))));
    let odd = Order { hosts: vec!["a b".into()], ..order };
    assert!(matches!(make::signed(&bench.files("ca"), &odd), Err(MakeError::Host(_))));
}

#[tokio::test]
async fn a_node_keeps_the_certificate_that_it_makes_for_itself() {
    let bench = Bench::new("kept");
    let directory = bench.path("fixtures/client");
    let order = Order { common_name: String::new(), hosts: vec!["127.0.0.1".into()], ends: Ends::Both, days: 365 };
    let files = make::kept_in(&directory, &order).unwrap();
    let first = fs::read(&files.cert).unwrap();
    assert_eq!(make::kept_in(&directory, &order).unwrap(), files);
    assert_eq!(fs::read(&files.cert).unwrap(), first);
    fs::remove_file(&files.key).unwrap();
    make::kept_in(&directory, &order).unwrap();
    assert_ne!(fs::read(&files.cert).unwrap(), first);
    let server = Server::load(ServerOptions::new(files)).unwrap();
    assert!(server.warning().is_none());
    assert!((364 * 86_400..366 * 86_400).contains(&server.certificate().seconds_left()));
    let careless = Client::load(ClientOptions { server: ServerCheck::Any, ..bench.by_ca() }).unwrap();
    assert_eq!(meet(&server, &careless, "127.0.0.1").await.1, ok("-"));
}
