//! Simple tokens: good on all members and after a restart, and ended by time, by another password, and by the user's end.

use std::time::{Duration, Instant};

use tokio::time::sleep;
use vlot_proto::etcdserverpb::{
    AuthUserAddRequest, AuthUserAddResponse, AuthUserDeleteRequest, AuthUserDeleteResponse, StatusRequest,
    StatusResponse,
};

use super::callers::{
    EMPTY, FAILED, INVALID, add_role, calling, change_password, client, enable, get, log_in, put, turn_off, turn_on,
};
use super::support::Etcd;
use super::support::cluster::{Cluster, PATIENCE};
use super::support::http::{Connection, request};

type Headers<'h> = [(&'h str, &'h str)];

const DENIED: &str = "7 etcdserver: permission denied";

#[test]
fn a_token_is_good_on_every_member_and_after_a_restart() {
    let Some(etcd) = Etcd::find() else { return };
    let mut cluster = Cluster::vlot(3, &etcd.ctl);
    enable(&cluster);
    let mut token = String::new();
    calling(async {
        token = log_in(&client(&cluster, 0).await, "anna", "annapw").await.unwrap();
        for node in 0..3 {
            let plain = client(&cluster, node).await;
            assert_eq!(put(&plain, "a1").await, Err(EMPTY.into()));
            for value in [token.clone(), format!("Bearer {token}")] {
                for name in ["token", "authorization"] {
                    let anna = plain.with_header(name, &value);
                    assert_eq!((put(&anna, "a1").await, put(&anna, "b1").await), (Ok(()), Err(DENIED.into())));
                    assert_eq!(get(&anna, "a1").await, Ok(1));
                }
            }
            for wrong in ["", "x", "abcdefghijklmnop.12", &token[1..], &format!("{token}A"), "Bearer "] {
                assert_eq!(put(&plain.with_header("token", wrong), "a1").await, Err(INVALID.into()), "{wrong:?}");
            }
            // The first name counts, and only where there is none the second.
            let both = plain.with_header("token", "x").with_header("authorization", &token);
            assert_eq!(put(&both, "a1").await, Err(INVALID.into()));
        }
    });
    cluster.nodes.iter_mut().for_each(|node| {
        node.kill();
        node.start();
    });
    cluster.ready();
    calling(async {
        for node in 0..3 {
            assert_eq!(put(&client(&cluster, node).await.with_header("token", &token), "a1").await, Ok(()));
        }
    });
}

#[test]
fn a_token_ends_its_time_to_live_after_its_last_use() {
    let Some(etcd) = Etcd::find() else { return };
    let cluster = Cluster::with_flag(None, 3, &etcd.ctl, ("auth-token-ttl", "4"));
    enable(&cluster);
    calling(async {
        let (first, second) = (client(&cluster, 0).await, client(&cluster, 1).await);
        let [used, unused] = [log_in(&first, "anna", "annapw").await.unwrap(), {
            // Another moment, and so another token.
            sleep(Duration::from_millis(500)).await;
            log_in(&first, "anna", "annapw").await.unwrap()
        }];
        assert_ne!(used, unused);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(7) {
            assert_eq!(put(&first.with_header("token", &used), "a1").await, Ok(()), "{:?}", begun.elapsed());
            sleep(Duration::from_millis(500)).await;
        }
        assert_eq!(put(&first.with_header("token", &unused), "a1").await, Err(INVALID.into()));
        assert_eq!(put(&second.with_header("token", &used), "a1").await, Err(INVALID.into()), "it was not used there");
        sleep(Duration::from_secs(5)).await;
        assert_eq!(put(&first.with_header("token", &used), "a1").await, Err(INVALID.into()));
    });
}

#[test]
fn a_token_ends_with_the_password_the_user_and_authentication_itself() {
    let Some(etcd) = Etcd::find() else { return };
    let cluster = Cluster::vlot(1, &etcd.ctl);
    enable(&cluster);
    calling(async {
        let plain = client(&cluster, 0).await;
        let root = plain.with_header("token", &log_in(&plain, "root", "rootpw").await.unwrap());
        let first = plain.with_header("token", &log_in(&plain, "anna", "annapw").await.unwrap());
        // What users may do has changed, and the token says nothing of that.
        add_role(&root, "more").await.unwrap();
        assert_eq!((put(&first, "a1").await, get(&first, "b1").await), (Ok(()), Ok(0)));
        change_password(&root, "anna", "other").await.unwrap();
        assert_eq!(put(&first, "a1").await, Err(INVALID.into()));
        assert_eq!(log_in(&plain, "anna", "annapw").await, Err(FAILED.into()));
        let second = plain.with_header("token", &log_in(&plain, "anna", "other").await.unwrap());
        assert_eq!(put(&second, "a1").await, Ok(()));
        // Another user of the same name and password is another user.
        let name = "anna".to_owned();
        let delete = AuthUserDeleteRequest { name: name.clone() };
        root.call::<AuthUserDeleteResponse>("/etcdserverpb.Auth/UserDelete", &delete).await.unwrap();
        assert_eq!(put(&second, "a1").await, Err(INVALID.into()));
        let add = AuthUserAddRequest { name, password: "other".into(), ..Default::default() };
        root.call::<AuthUserAddResponse>("/etcdserverpb.Auth/UserAdd", &add).await.unwrap();
        assert_eq!(put(&second, "a1").await, Err(INVALID.into()));
        let third = plain.with_header("token", &log_in(&plain, "anna", "other").await.unwrap());
        assert_eq!(put(&third, "a1").await, Err(DENIED.into()), "she has no role");
        turn_off(&root).await.unwrap();
        assert_eq!(log_in(&plain, "anna", "other").await, Err("9 etcdserver: authentication is not enabled".into()));
        assert_eq!(put(&plain.with_header("token", "whatever"), "a1").await, Ok(()), "nobody is asked");
        turn_on(&plain).await.unwrap();
        assert_eq!(put(&root, "a1").await, Err(INVALID.into()), "the key is another one");
    });
}

#[test]
fn without_a_password_nobody_gets_in() {
    let Some(etcd) = Etcd::find() else { return };
    let cluster = Cluster::vlot(1, &etcd.ctl);
    cluster.told(0, &["user", "add", "named", "--no-password"]);
    enable(&cluster);
    calling(async {
        let plain = client(&cluster, 0).await;
        for (name, password) in
            [("anna", ""), ("anna", "annapw "), ("Anna", "annapw"), ("", ""), ("nobody", "annapw"), ("anna", "rootpw")]
        {
            assert_eq!(log_in(&plain, name, password).await, Err(FAILED.into()), "{name:?} {password:?}");
        }
        let text = "2 auth: authentication failed, password was given for no password user";
        assert_eq!(log_in(&plain, "named", "").await, Err(text.into()));
        // Only what depends on who calls looks at a token.
        let wrong = plain.with_header("token", "wrong");
        assert!(log_in(&wrong, "anna", "annapw").await.is_ok());
        let status = wrong.call::<StatusResponse>("/etcdserverpb.Maintenance/Status", &StatusRequest {}).await;
        assert_eq!(status.map(drop), Err(INVALID.into()));
    });
}

#[test]
fn the_gateway_takes_a_token_from_a_header() {
    let Some(etcd) = Etcd::find() else { return };
    let clusters = [Cluster::vlot(1, &etcd.ctl), Cluster::etcd(1, &etcd.server, &etcd.ctl)];
    let [ours, theirs] = clusters.map(|cluster| {
        enable(&cluster);
        let port = cluster.nodes[0].client_port;
        let post = |path: &str, headers: &[(&str, &str)], body: &str| {
            let mut connection = Connection::open(port);
            connection.send(&request("POST", path, headers, body.as_bytes()));
            connection.reply(false, PATIENCE)
        };
        let login = post("/v3/auth/authenticate", &[], r#"{"name":"anna","password":"annapw"}"#);
        let json: serde_json::Value = serde_json::from_str(&login.text()).unwrap();
        let token = json["token"].as_str().unwrap_or_else(|| panic!("{}", login.text())).to_owned();
        let put = r#"{"key":"YQ==","value":"MQ=="}"#;
        let rows: [(&str, &Headers<'_>, &str); 9] = [
            ("/v3/kv/put", &[("Authorization", &token)], put),
            ("/v3/kv/put", &[("Grpc-Metadata-Token", &token)], put),
            ("/v3/kv/put", &[("Grpc-Metadata-Authorization", &token)], put),
            ("/v3/kv/put", &[("Authorization", &token), ("Grpc-Metadata-Token", "wrong")], put),
            ("/v3/kv/put", &[("Token", &token)], put),
            ("/v3/kv/put", &[("Authorization", "wrong")], put),
            ("/v3/kv/put", &[], put),
            ("/v3/auth/user/get", &[("Authorization", &token)], r#"{"name":"anna"}"#),
            ("/v3/auth/authenticate", &[], r#"{"name":"anna","password":"wrong"}"#),
        ];
        rows.map(|(path, headers, body)| {
            let reply = post(path, headers, body);
            let json: serde_json::Value = serde_json::from_str(&reply.text()).unwrap();
            (reply.status, json["message"].clone(), json["code"].clone(), json["roles"].clone())
        })
    });
    assert_eq!(ours, theirs);
    assert_eq!(ours.iter().filter(|(status, ..)| *status == 200).count(), 4, "{ours:?}");
}

/// A client that tries passwords is slowed down. Others that log in, and those that have logged in, do not feel it.
#[test]
fn guesses_starve_nobody() {
    let Some(etcd) = Etcd::find() else { return };
    let cluster = Cluster::vlot(1, &etcd.ctl);
    enable(&cluster);
    calling(async {
        let plain = client(&cluster, 0).await;
        let anna = plain.with_header("token", &log_in(&plain, "anna", "annapw").await.unwrap());
        let guessing = client(&cluster, 0).await;
        let guesses: Vec<_> = (0..40)
            .map(|guesser| {
                let guessing = guessing.clone();
                tokio::spawn(async move {
                    let mut refused = 0;
                    for guess in 0..5 {
                        let name = if guess % 2 == 0 { "anna" } else { "nobody" };
                        let told = log_in(&guessing, name, &format!("guess{guesser}/{guess}")).await.unwrap_err();
                        assert!(told == FAILED || told == "8 etcdserver: too many requests", "{told}");
                        refused += usize::from(told != FAILED);
                    }
                    refused
                })
            })
            .collect();
        sleep(Duration::from_millis(50)).await;
        // Known passwords are not checked again, and one that is new waits for a few guesses at most.
        for _ in 0..20 {
            let begun = Instant::now();
            log_in(&plain, "anna", "annapw").await.unwrap();
            put(&anna, "a1").await.unwrap();
            assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        }
        let begun = Instant::now();
        log_in(&plain, "root", "rootpw").await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
        let mut refused = 0;
        for guess in guesses {
            refused += guess.await.unwrap();
        }
        assert!(refused > 0, "that many guesses cannot all have been checked");
    });
}

/// The command line logs in again when its token has ended, and its longer commands work with a user.
#[test]
fn our_command_line_works_with_users() {
    let Some(etcd) = Etcd::find() else { return };
    let cluster = Cluster::vlot(3, &etcd.ctl);
    enable(&cluster);
    let (all, one) = (cluster.endpoints(), cluster.nodes[1].endpoint());
    let ours = |words: &[&str]| {
        // Each takes one of them, or all.
        let endpoints = if words[0] == "snapshot" { &one } else { &all };
        let program = std::path::Path::new(super::support::VLOT);
        let mut command = super::support::cluster::client(program, endpoints);
        super::support::process::run(command.args(words), "", Duration::from_secs(120))
    };
    let root = ["--user", "root:rootpw"];
    for words in [
        &["check", "datascale", "--load=s", "--prefix=a/scale/"][..],
        &["endpoint", "status", "--cluster"],
        &["endpoint", "hashkv"],
        &["lock", "a/lock", "echo", "held"],
        &["snapshot", "save", &cluster.dir.path().join("snapshot").display().to_string()],
    ] {
        let output = ours(&[words, &root].concat());
        assert!(output.succeeded(), "{words:?}: {output:?}");
    }
    let denied = ours(&["get", "b", "--user", "anna:annapw"]);
    assert_eq!((denied.stderr.as_str(), denied.code), ("Error: etcdserver: permission denied\n", Some(1)));
}
