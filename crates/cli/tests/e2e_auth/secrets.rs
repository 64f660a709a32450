//! What is not to be found afterwards: no password and no token is in any log or in any file of the data.

use std::path::{Path, PathBuf};

use super::callers::{FAILED, add_role, calling, change_password, client, enable, get, log_in, put};
use super::support::Etcd;
use super::support::cluster::{Cluster, PATIENCE};
use super::support::http::{Connection, request};

/// All files below a folder.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn nothing_is_found(tokens: Option<&str>) {
    let Some(etcd) = Etcd::find() else { return };
    let mut cluster = match tokens {
        Some(tokens) => Cluster::with_flag(None, 3, &etcd.ctl, ("auth-token", tokens)),
        None => Cluster::with_flag(None, 3, &etcd.ctl, ("log-level", "debug")),
    };
    for node in &mut cluster.nodes {
        node.stop();
        // Everything is logged that can be, as slow calls too.
        node.flag("log-level", "debug");
        node.flag("warning-unary-request-duration", "1ns");
        node.flag("warning-apply-duration", "0s");
    }
    cluster.nodes.iter_mut().for_each(|node| node.start());
    cluster.ready();
    enable(&cluster);
    let mut secrets: Vec<String> =
        ["rootpw", "annapw", "changed-password", "wrong-password", "gateway-password"].map(str::to_owned).into();
    calling(async {
        let plain = client(&cluster, 0).await;
        let token = log_in(&plain, "root", "rootpw").await.unwrap();
        let root = plain.with_header("token", &token);
        secrets.push(token);
        assert_eq!(log_in(&plain, "anna", "wrong-password").await, Err(FAILED.into()));
        change_password(&root, "anna", "changed-password").await.unwrap();
        for node in 0..3 {
            let plain = client(&cluster, node).await;
            let token = log_in(&plain, "anna", "changed-password").await.unwrap();
            let anna = plain.with_header("authorization", &format!("Bearer {token}"));
            put(&anna, "a1").await.unwrap();
            assert!(get(&anna, "b1").await.is_err());
            secrets.push(token);
            let wrong = plain.with_header("token", "wrong-token-of-a-call");
            assert!(put(&wrong, "a1").await.is_err());
        }
        secrets.push("wrong-token-of-a-call".to_owned());
        // A password where none belongs, and a message that is cut.
        add_role(&root, "more").await.unwrap();
        let mut connection = Connection::open(cluster.nodes[1].client_port);
        for body in [r#"{"name":"anna","password":"gateway-password"}"#, r#"{"password":"gateway-password","#] {
            let head = [("Authorization", "wrong-token-of-a-call")];
            connection.send(&request("POST", "/v3/auth/authenticate", &head, body.as_bytes()));
            assert_ne!(connection.reply(false, PATIENCE).status, 200);
        }
    });
    // What is in memory alone is written down.
    for node in &mut cluster.nodes {
        node.stop();
    }
    let files = files(cluster.dir.path());
    assert!(files.iter().filter(|file| file.extension().is_some_and(|name| name == "log")).count() >= 3, "{files:?}");
    let mut has_seen_users = false;
    for file in files {
        // Secrets are plain text wherever they are.
        let content = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
        has_seen_users |= content.contains("anna");
        for secret in &secrets {
            assert!(!content.contains(secret), "{secret} is in {}", file.display());
        }
    }
    assert!(has_seen_users, "the search finds what is there");
}

#[test]
fn simple_tokens_and_passwords_are_nowhere() {
    nothing_is_found(None);
}

#[test]
fn signed_tokens_and_passwords_are_nowhere() {
    let keys = super::support::TempDir::new("keys");
    let key = super::jwt::openssl(keys.path(), "rsa.pem", &["genpkey", "-algorithm", "RSA"]);
    nothing_is_found(Some(&format!("jwt,sign-method=RS256,priv-key={}", key.display())));
}
