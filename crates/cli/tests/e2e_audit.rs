//! The audit log of a real server: who did what and how it ended, no value and no secret in it, and nothing without the flag.

mod support;

use std::fs;
use std::path::Path;

use serde_json::Value;
use support::cluster::{Cluster, PATIENCE};
use support::grpc::Client;
use support::http::Connection;
use support::{Etcd, eventually};
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::watch_request::RequestUnion;
use vlot_proto::etcdserverpb::*;

/// Nothing that holds this may be told.
const SECRET: &str = "s3cr3t";

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    assert!(!text.contains(SECRET), "{text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

/// A node that audits, and where.
fn audited(flags: &[(&str, &str)]) -> (Cluster, std::path::PathBuf) {
    let mut cluster = Cluster::vlot(1, Path::new("no client"));
    cluster.nodes[0].stop();
    let path = cluster.dir.path().join("audit.log");
    cluster.nodes[0].flag("audit-log", &path.display().to_string());
    flags.iter().for_each(|(flag, value)| cluster.nodes[0].flag(flag, value));
    cluster.nodes[0].start();
    cluster.ready();
    (cluster, path)
}

fn put(key: &str) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: SECRET.into(), ..PutRequest::default() }
}

async fn make_calls(port: u16) {
    let client = Client::connect(port).await;
    client.call::<PutResponse>("/etcdserverpb.KV/Put", &put("k1")).await.unwrap();
    let range = RangeRequest { key: "k1".into(), ..RangeRequest::default() };
    client.call::<RangeResponse>("/etcdserverpb.KV/Range", &range).await.unwrap();
    let op = |request| RequestOp { request: Some(request) };
    let inner = TxnRequest { success: vec![op(Request::RequestPut(put("inner")))], ..TxnRequest::default() };
    let txn = TxnRequest { success: vec![op(Request::RequestTxn(inner))], ..TxnRequest::default() };
    client.call::<TxnResponse>("/etcdserverpb.KV/Txn", &txn).await.unwrap();
    client.call::<PutResponse>("/etcdserverpb.KV/Put", &PutRequest { lease: 99, ..put("k2") }).await.unwrap_err();
    let login = AuthenticateRequest { name: "root".into(), password: SECRET.into() };
    client.call::<AuthenticateResponse>("/etcdserverpb.Auth/Authenticate", &login).await.unwrap_err();
    let mut watch = client.converse("/etcdserverpb.Watch/Watch").await.unwrap();
    let create = WatchCreateRequest { key: "watched".into(), ..WatchCreateRequest::default() };
    watch.send(&WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) });
    watch.messages.next::<WatchResponse>().await.unwrap();
    let mut gateway = Connection::open(port);
    let body = format!(r#"{{"key":"azM=","value":"{SECRET}00"}}"#);
    let headers = [("Authorization", SECRET)];
    gateway.send(&support::http::request("POST", "/v3/kv/put", &headers, body.as_bytes()));
    assert_eq!(gateway.reply(false, PATIENCE).status, 200);
}

/// RPC, request and outcome of each line.
fn told(path: &Path) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = |line: &Value| {
        let rpc = text(&line["rpc"]).rsplit('/').next().unwrap_or_default().to_owned();
        (rpc, line["request"].to_string(), text(&line["code"]))
    };
    lines(path).iter().map(of).collect()
}

fn row(rpc: &str, request: &str, code: &str) -> (String, String, String) {
    (rpc.to_owned(), request.to_owned(), code.to_owned())
}

#[tokio::test]
async fn changes_are_told_without_what_they_write() {
    // At the most talkative level, where secrets would be said if anywhere.
    let (mut cluster, path) = audited(&[("log-level", "debug")]);
    make_calls(cluster.nodes[0].client_port).await;
    let expected = [
        row("Put", r#"{"key":"k1"}"#, "OK"),
        row("Txn", r#"{"success":[{"request_txn":{"success":[{"request_put":{"key":"inner"}}]}}]}"#, "OK"),
        row("Put", r#"{"key":"k2","lease":99}"#, "NotFound"),
        row("Authenticate", r#"{"name":"root"}"#, "FailedPrecondition"),
        row("Put", r#"{"key":"k3"}"#, "OK"),
    ];
    eventually("all is told", PATIENCE, || told(&path).len() >= expected.len());
    assert_eq!(told(&path), expected);
    let first = &lines(&path)[0];
    assert!(first["from"].as_str().unwrap().starts_with("127.0.0.1:"), "{first}");
    assert_eq!((&first["event"], &first["user"]), (&Value::from("call"), &Value::Null));
    assert!(first["time"].as_str().unwrap().ends_with('Z') && first["ms"].as_f64().unwrap() >= 0.0);

    // A file that was moved away is begun anew, and the end of the process loses nothing.
    let moved = path.with_extension("1");
    fs::rename(&path, &moved).unwrap();
    eventually("a new file", PATIENCE, || path.exists());
    let client = Client::connect(cluster.nodes[0].client_port).await;
    client.call::<PutResponse>("/etcdserverpb.KV/Put", &put("k4")).await.unwrap();
    cluster.nodes[0].stop();
    assert_eq!((told(&moved).len(), told(&path)), (expected.len(), vec![row("Put", r#"{"key":"k4"}"#, "OK")]));
    let log = fs::read_to_string(&cluster.nodes[0].log).unwrap();
    assert!(!log.contains(SECRET), "{log}");
}

#[tokio::test]
async fn reads_are_told_too_where_that_is_asked_for() {
    let (mut cluster, path) = audited(&[("audit-reads", "true")]);
    make_calls(cluster.nodes[0].client_port).await;
    cluster.nodes[0].stop();
    let told = told(&path);
    for expected in [
        row("Range", r#"{"key":"k1"}"#, "OK"),
        row("Watch", r#"{"create_request":{"key":"watched"}}"#, ""),
        row("Put", r#"{"key":"k3"}"#, "OK"),
    ] {
        assert!(told.contains(&expected), "{expected:?} is not in {told:?}");
    }
    assert!(
        told.iter().any(|(rpc, request, code)| rpc == "Watch" && request == "null" && !code.is_empty()),
        "{told:?}"
    );
}

/// Both ways of logrotate: the file is moved away and a signal sent, or it is copied and cut.
#[tokio::test]
async fn a_file_is_rotated_by_a_signal_or_by_a_copy() {
    let (mut cluster, path) = audited(&[]);
    let client = Client::connect(cluster.nodes[0].client_port).await;
    let rotated = path.with_extension("1");
    let mut before = Vec::new();
    // The last time nothing is done to the file before the signal.
    for (key, is_moved) in [("k1", true), ("k2", true), ("k3", false)] {
        if is_moved && path.exists() {
            fs::rename(&path, &rotated).unwrap();
        }
        cluster.nodes[0].signal("HUP");
        eventually("a new file", PATIENCE, || path.exists());
        client.call::<PutResponse>("/etcdserverpb.KV/Put", &put(key)).await.unwrap();
        let line = row("Put", &format!(r#"{{"key":"{key}"}}"#), "OK");
        let expected = if is_moved { vec![line] } else { [before.clone(), vec![line]].concat() };
        eventually("it is told", PATIENCE, || told(&path) == expected);
        assert!(!is_moved || told(&rotated) == before, "{key}: {:?}", told(&rotated));
        before = expected;
    }
    fs::copy(&path, &rotated).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
    client.call::<PutResponse>("/etcdserverpb.KV/Put", &put("k4")).await.unwrap();
    eventually("it is told", PATIENCE, || told(&path) == [row("Put", r#"{"key":"k4"}"#, "OK")]);
    assert_eq!(told(&rotated), before);
    assert!(cluster.nodes[0].runs());
}

#[test]
fn without_a_file_that_signal_ends_the_process_as_it_ends_etcd() {
    let Some(etcd) = Etcd::find() else { return };
    for mut cluster in [Cluster::etcd(1, &etcd.server, &etcd.ctl), Cluster::vlot(1, &etcd.ctl)] {
        cluster.nodes[0].signal("HUP");
        eventually("it has ended", PATIENCE, || !cluster.nodes[0].runs());
    }
}

#[test]
fn a_node_that_cannot_audit_does_not_start() {
    let mut cluster = Cluster::vlot(1, Path::new("no client"));
    cluster.nodes[0].stop();
    for (flags, words) in [
        (&[("audit-log", "/proc/no/audit")][..], &["--audit-log", "/proc/no/audit"][..]),
        (&[("audit-reads", "true")], &["--audit-reads", "--audit-log"]),
    ] {
        let mut command = cluster.nodes[0].command_with(flags);
        let output = support::process::run(&mut command, "", PATIENCE);
        assert_eq!(output.code, Some(1), "{output:?}");
        assert!(words.iter().all(|word| output.stderr.contains(word)), "{output:?}");
    }
}
