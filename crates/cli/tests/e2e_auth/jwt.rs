//! JSON web tokens with keys that openssl has made: every method, members that only verify, files that change, and mistakes.
//!
//! Needs the program `openssl`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::callers::{INVALID, calling, client, enable, log_in, put};
use super::support::cluster::{Cluster, PATIENCE};
use super::support::process::run;
use super::support::{Etcd, TempDir, VLOT, eventually};

/// What a token is refused with that was given before users or roles changed.
const OLD: &str = "3 etcdserver: revision of auth store is old";

/// Runs openssl, which writes to a file.
pub fn openssl(dir: &Path, name: &str, arguments: &[&str]) -> PathBuf {
    let file = dir.join(name);
    let output = run(Command::new("openssl").args(arguments).arg("-out").arg(&file), "", PATIENCE);
    assert!(output.succeeded(), "{arguments:?}: {output:?}");
    file
}

/// A private key and its public half.
fn pair(dir: &Path, name: &str, arguments: &[&str]) -> (PathBuf, PathBuf) {
    let private = openssl(dir, &format!("{name}.pem"), arguments);
    let public = openssl(dir, &format!("{name}.pub"), &["pkey", "-pubout", "-in", &private.display().to_string()]);
    (private, public)
}

const RSA: &[&str] = &["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
const P256: &[&str] = &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
const P384: &[&str] = &["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"];
const ED25519: &[&str] = &["genpkey", "-algorithm", "ed25519"];

/// Each method, what makes a key for it, and whether etcd 3.5 knows it.
const METHODS: [(&str, &[&str], bool); 12] = [
    ("RS256", RSA, true),
    ("RS384", RSA, true),
    ("RS512", RSA, true),
    ("PS256", RSA, true),
    ("PS384", RSA, true),
    ("PS512", RSA, true),
    ("ES256", P256, true),
    ("ES384", P384, true),
    ("HS256", RSA, true),
    ("HS384", RSA, true),
    ("HS512", RSA, true),
    ("EdDSA", ED25519, false),
];

/// What etcd signs we verify, and what we sign etcd verifies: after the same commands both are at the same revision.
#[test]
fn every_method_is_etcds() {
    let Some(etcd) = Etcd::find() else { return };
    let dir = TempDir::new("keys");
    for (method, key, is_known) in METHODS {
        let (private, public) = pair(dir.path(), method, key);
        let flag =
            format!("jwt,pub-key={},priv-key={},sign-method={method},ttl=1m", public.display(), private.display());
        let ours = Cluster::with_flag(None, 1, &etcd.ctl, ("auth-token", &flag));
        enable(&ours);
        assert_eq!(ours.told(0, &["put", "a", "1", "--user", "anna:annapw"]), "OK\n", "{method}");
        calling(async {
            let plain = client(&ours, 0).await;
            let own = log_in(&plain, "anna", "annapw").await.unwrap();
            assert_eq!(put(&plain.with_header("token", &own), "a1").await, Ok(()), "{method}");
            if !is_known {
                return;
            }
            let theirs = Cluster::with_flag(Some(&etcd.server), 1, &etcd.ctl, ("auth-token", &flag));
            enable(&theirs);
            let at_theirs = client(&theirs, 0).await;
            let given = log_in(&at_theirs, "anna", "annapw").await.unwrap();
            assert_eq!(put(&plain.with_header("token", &given), "a1").await, Ok(()), "{method}");
            assert_eq!(put(&at_theirs.with_header("token", &own), "a1").await, Ok(()), "{method}");
        });
    }
}

#[test]
fn a_member_without_a_private_key_verifies_and_gives_no_tokens() {
    let Some(etcd) = Etcd::find() else { return };
    let dir = TempDir::new("keys");
    let (private, public) = pair(dir.path(), "p256", P256);
    let signs = format!("jwt,priv-key={},sign-method=ES256", private.display());
    let mut cluster = Cluster::with_flag(None, 3, &etcd.ctl, ("auth-token", &signs));
    cluster.nodes[2].stop();
    cluster.nodes[2].flag("auth-token", &format!("jwt,pub-key={},sign-method=ES256", public.display()));
    cluster.nodes[2].start();
    cluster.ready();
    enable(&cluster);
    calling(async {
        let (first, third) = (client(&cluster, 0).await, client(&cluster, 2).await);
        let token = log_in(&first, "anna", "annapw").await.unwrap();
        assert_eq!(put(&third.with_header("token", &token), "a1").await, Ok(()));
        let refused = log_in(&third, "anna", "annapw").await;
        assert_eq!(refused, Err("2 auth: token signing attempted with verify-only key".into()));
        // As in etcd: what a signed token says was so at its revision, and users and roles are others now.
        cluster.told(0, &["role", "add", "more", "--user", "root:rootpw"]);
        assert_eq!(put(&third.with_header("token", &token), "a1").await, Err(OLD.into()));
    });
}

#[test]
fn keys_that_change_are_read_again_and_a_broken_file_changes_nothing() {
    let Some(etcd) = Etcd::find() else { return };
    let dir = TempDir::new("keys");
    let (first, first_public) = pair(dir.path(), "first", ED25519);
    let (second, second_public) = pair(dir.path(), "second", ED25519);
    let (private, public) = (dir.path().join("now.pem"), dir.path().join("now.pub"));
    let become_ = |from: &Path, to: &Path| {
        std::fs::copy(from, to).unwrap();
    };
    become_(&first, &private);
    become_(&first_public, &public);
    let flag = format!("jwt,pub-key={},priv-key={},sign-method=EdDSA", public.display(), private.display());
    let cluster = Cluster::with_flag(None, 1, &etcd.ctl, ("auth-token", &flag));
    enable(&cluster);
    let log = || std::fs::read_to_string(&cluster.nodes[0].log).unwrap();
    let says = |text: &str, times: usize| {
        eventually(text, PATIENCE, || log().matches(text).count() == times);
    };
    calling(async {
        let plain = client(&cluster, 0).await;
        let old = log_in(&plain, "anna", "annapw").await.unwrap();
        // Both are good while a key is exchanged for another.
        let both = [std::fs::read(&first_public).unwrap(), std::fs::read(&second_public).unwrap()].concat();
        std::fs::write(&public, both).unwrap();
        says("new keys of --auth-token", 1);
        become_(&second, &private);
        says("new keys of --auth-token", 2);
        let new = log_in(&plain, "anna", "annapw").await.unwrap();
        assert_eq!(put(&plain.with_header("token", &old), "a1").await, Ok(()));
        assert_eq!(put(&plain.with_header("token", &new), "a1").await, Ok(()));
        std::fs::write(&private, "-----BEGIN PRIVATE KEY-----\nhalf a key").unwrap();
        says("the keys of --auth-token stay as they are", 1);
        assert!(log().contains("priv-key is not in PEM"), "{}", log());
        std::fs::remove_file(&public).unwrap();
        says("the keys of --auth-token stay as they are", 2);
        assert!(log_in(&plain, "anna", "annapw").await.is_ok());
        assert_eq!(put(&plain.with_header("token", &new), "a1").await, Ok(()));
        become_(&second, &private);
        become_(&second_public, &public);
        let begun = Instant::now();
        while put(&plain.with_header("token", &old), "a1").await != Err(INVALID.into()) {
            assert!(begun.elapsed() < PATIENCE, "the first key is still good");
            sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(put(&plain.with_header("token", &new), "a1").await, Ok(()));
    });
}

#[test]
fn a_mistake_in_the_keys_stops_the_start_with_one_line() {
    let dir = TempDir::new("keys");
    let (rsa, rsa_public) = pair(dir.path(), "rsa", RSA);
    let (other, _) = pair(dir.path(), "other", RSA);
    let (p256, _) = pair(dir.path(), "p256", P256);
    let small = openssl(dir.path(), "small.pem", &["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"]);
    let empty = dir.path().join("empty");
    std::fs::write(&empty, "").unwrap();
    let [rsa, rsa_public, other, p256, small, empty] =
        [rsa, rsa_public, other, p256, small, empty].map(|path| path.display().to_string());
    let rows = [
        ("sign-method=RS256".to_owned(), "auth: missing key data: RS256 needs priv-key or pub-key"),
        (format!("sign-method=HS256,pub-key={rsa_public}"), "auth: missing key data: HS256 needs priv-key"),
        (format!("sign-method=HS256,priv-key={empty}"), "auth: missing key data: HS256 needs priv-key"),
        ("sign-method=RS256,pub-key=/nowhere/key".to_owned(), "cannot read the key file /nowhere/key: No such file"),
        (format!("sign-method=RS256,priv-key={empty}"), "priv-key is not in PEM"),
        (format!("sign-method=RS256,priv-key={rsa_public}"), "priv-key has no key for RS256: expected an RSA key"),
        (format!("sign-method=RS256,priv-key={p256}"), "the key in priv-key is refused: it is of another kind"),
        (format!("sign-method=RS256,priv-key={small}"), "the key in priv-key is refused: it is too short"),
        (
            format!("sign-method=RS256,priv-key={other},pub-key={rsa_public}"),
            "auth: public and private keys don't match",
        ),
        (
            format!("sign-method=ES256,pub-key={rsa_public}"),
            "pub-key has no key for ES256: expected a key on the curve",
        ),
        (
            format!("sign-method=ES512,priv-key={rsa}"),
            "auth: invalid auth signature method: --auth-token has sign-method",
        ),
        (format!("priv-key={rsa},priv-key={rsa}"), "auth: invalid auth options: --auth-token has priv-key twice"),
    ];
    for (options, expected) in rows {
        let data = dir.path().join("data").display().to_string();
        let any = "http://127.0.0.1:0";
        let mut command = Command::new(VLOT);
        command.args(["server", &format!("--data-dir={data}"), &format!("--auth-token=jwt,{options}")]);
        command.args(["--listen-client-urls", any, "--advertise-client-urls", any, "--listen-peer-urls", any]);
        command.args(["--initial-advertise-peer-urls", any, &format!("--initial-cluster=default={any}")]);
        let output = run(&mut command, "", PATIENCE);
        assert!(!output.succeeded() && output.stderr.contains(expected), "{options}: {output:?}\n{expected}");
        assert!(!Path::new(&data).exists(), "nothing was begun");
    }
}
