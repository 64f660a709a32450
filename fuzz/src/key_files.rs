//! Files of keys, certificates and lists of revoked ones: what can be used, or one line that says why it cannot.
//!
//! The first byte says whose files they are. Each file is one of the tests', or that with some bytes of its DER changed, or
//! anything.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use vlot_tls::make::{self, Ends, Order};
use vlot_tls::{Client, ClientOptions, KeyPairFiles, NameRule, Roots, Server, ServerCheck, ServerOptions, Verify};

use super::reader::Reader;

const CHANGES_MAX: usize = 8;
/// The longest of what is in no file of the tests.
const FREE_BYTES_MAX: usize = 255;

/// Files of the tests.
macro_rules! pem {
    (ours $name:literal) => {
        include_str!(concat!("../testdata/", $name, ".pem"))
    };
    (jwt $name:literal) => {
        include_str!(concat!("../../crates/server/src/auth/jwt/testdata/", $name, ".pem"))
    };
}

const FILES: [&str; 16] = [
    pem!(ours "ca"),
    pem!(ours "ca_key"),
    pem!(ours "node"),
    pem!(ours "node_key"),
    pem!(ours "crl"),
    pem!(jwt "rsa"),
    pem!(jwt "rsa_pkcs1"),
    pem!(jwt "rsa_pub"),
    pem!(jwt "rsa_cert"),
    pem!(jwt "p256"),
    pem!(jwt "p256_sec1"),
    pem!(jwt "p256_pub"),
    pem!(jwt "p384"),
    pem!(jwt "ed25519"),
    pem!(jwt "ed25519_pub"),
    pem!(jwt "small"),
];
const CA: usize = 0;
const CA_KEY: usize = 1;
const NODE: usize = 2;
const NODE_KEY: usize = 3;
const CRL: usize = 4;

/// What may stand in PEM, besides what a file of the tests has.
const LABELS: [&str; 8] = [
    "CERTIFICATE",
    "PRIVATE KEY",
    "RSA PRIVATE KEY",
    "EC PRIVATE KEY",
    "PUBLIC KEY",
    "X509 CRL",
    "EC PARAMETERS",
    "ENCRYPTED PRIVATE KEY",
];

/// Runs one input.
///
/// # Panics
/// If something does not hold that must.
pub fn run(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    match reader.below(4) {
        0 => {
            let method = reader.byte();
            let [public, private] = [(); 2].map(|()| {
                reader.flag().then(|| {
                    let which = reader.below(FILES.len());
                    file(&mut reader, which)
                })
            });
            vlot_server::fuzzing::key_files(method, public.as_deref(), private.as_deref());
        }
        1 => with_files(&mut reader, |files, reader| {
            let own = KeyPairFiles { cert: files.of("cert", NODE, reader), key: files.of("key", NODE_KEY, reader) };
            let clients = reader.flag().then(|| verify(files, reader));
            tell(Server::load(ServerOptions { clients, ..ServerOptions::new(own) }).map(|server| server.warning()));
        }),
        2 => with_files(&mut reader, |files, reader| {
            let own = reader
                .flag()
                .then(|| KeyPairFiles { cert: files.of("cert", NODE, reader), key: files.of("key", NODE_KEY, reader) });
            let server = ServerCheck::Verified { by: verify(files, reader), name: None };
            let options = ClientOptions::new(Verify::by_ca(""));
            tell(Client::load(ClientOptions { own, server, ..options }).map(|client| client.warning()));
        }),
        _ => with_files(&mut reader, |files, reader| {
            let authority = KeyPairFiles { cert: files.of("cert", CA, reader), key: files.of("key", CA_KEY, reader) };
            let order =
                Order { common_name: "anna".into(), hosts: vec!["localhost".into()], ends: Ends::Both, days: 1 };
            tell(make::signed(&authority, &order));
        }),
    }
}

/// What can be used is used; why something cannot is told in one line.
fn tell<T>(read: Result<T, impl std::fmt::Display>) {
    if let Err(refused) = read {
        let told = refused.to_string();
        assert!(!told.is_empty() && !told.contains(char::is_control), "{told:?}");
    }
}

fn verify(files: &Files, reader: &mut Reader<'_>) -> Verify {
    let roots = Roots::File(files.of("ca", CA, reader));
    let crl = reader.flag().then(|| files.of("crl", CRL, reader));
    let names = match reader.below(3) {
        0 => NameRule::Any,
        1 => NameRule::CommonNames(vec!["anna".into()]),
        _ => NameRule::Hosts(vec!["localhost".into()]),
    };
    Verify { roots, crl, names }
}

/// The content of a file, which is mostly this one of the tests.
fn file(reader: &mut Reader<'_>, usual: usize) -> Vec<u8> {
    match reader.below(6) {
        0 | 1 => FILES[usual].into(),
        2 => changed(reader, FILES[usual]),
        3 => {
            let other = reader.among(&FILES);
            changed(reader, other)
        }
        4 => {
            let label = reader.among(&LABELS);
            let length = usize::from(reader.byte()).min(FREE_BYTES_MAX);
            armoured(label, reader.bytes(length))
        }
        _ => {
            let length = usize::from(reader.byte());
            reader.bytes(length).to_vec()
        }
    }
}

/// The DER of this file with some bytes changed, in PEM or as it is.
fn changed(reader: &mut Reader<'_>, pem: &str) -> Vec<u8> {
    // The parameters of a curve may stand before a key.
    let (_, section) = pem.rsplit_once("-----BEGIN ").expect("a file in PEM");
    let (label, section) = section.split_once("-----").expect("a file in PEM");
    let base64: String = section.lines().take_while(|line| !line.starts_with("-----")).collect();
    let mut der = STANDARD.decode(base64).expect("a file in PEM");
    let how = reader.byte();
    for _ in 0..usize::from(how) % CHANGES_MAX {
        let place = usize::from(reader.byte()) << 8 | usize::from(reader.byte());
        let place = place % der.len().max(1);
        let by = reader.byte();
        match (reader.below(4), der.get_mut(place)) {
            (0 | 1, Some(byte)) => *byte = by,
            (2, Some(_)) => drop(der.remove(place)),
            _ => der.insert(place, by),
        }
    }
    if how & 0x80 == 0 { armoured(label, &der) } else { der }
}

fn armoured(label: &str, der: &[u8]) -> Vec<u8> {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der)).into()
}

/// Files of one run.
struct Files(PathBuf);

impl Files {
    fn of(&self, name: &str, usual: usize, reader: &mut Reader<'_>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, file(reader, usual)).expect("the disk takes it");
        path
    }
}

fn with_files(reader: &mut Reader<'_>, run: impl FnOnce(&Files, &mut Reader<'_>)) {
    let name = format!("vlot-fuzz-keys-{}-{:?}", std::process::id(), std::thread::current().id());
    let dir = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&dir).expect("a directory of this process");
    run(&Files(dir.clone()), reader);
    let _ = std::fs::remove_dir_all(dir);
}
