//! Limits on real nodes, as clients meet them: quotas of prefixes, which all members agree on; rates, which are a node's own;
//! and what goes on while a node is flooded.

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use support::cluster::{Cluster, PATIENCE, client};
use support::exposition::Exposition;
use support::grpc::Client;
use support::http::{Connection, request};
use support::process::{Output, run};
use support::{Etcd, VLOT, eventually};
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::watch_request::RequestUnion;
use vlot_proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest,
    LeaseKeepAliveResponse, MemberListRequest, MemberListResponse, PutRequest, PutResponse, RequestOp, TxnRequest,
    TxnResponse, WatchCreateRequest, WatchRequest, WatchResponse,
};

const TOO_MANY: &str = "etcdserver: too many requests";

/// Runs something that waits on this thread.
fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Our own command line, at one node.
fn vlot(cluster: &Cluster, node: usize, arguments: &[&str]) -> Output {
    let mut command = client(Path::new(VLOT), &cluster.nodes[node].endpoint());
    run(command.args(arguments), "", PATIENCE)
}

fn told(output: Output) -> String {
    assert!(output.succeeded(), "{}{}", output.stdout, output.stderr);
    output.stdout
}

fn refused(output: &Output, why: &str) {
    assert!(!output.succeeded() && output.stderr.contains(why), "{}{}", output.stdout, output.stderr);
}

/// What one node's gateway says.
fn gateway(cluster: &Cluster, node: usize, path: &str, body: &str) -> String {
    let mut connection = Connection::open(cluster.nodes[node].client_port);
    connection.send(&request("POST", path, &[], body.as_bytes()));
    connection.reply(false, PATIENCE).text()
}

#[test]
fn a_quota_is_kept_by_every_member_and_outlives_them() {
    let Some(etcd) = Etcd::find() else { return };
    let mut cluster = Cluster::vlot(3, &etcd.ctl);
    cluster.told(0, &["put", "/app/0", "12345"]);
    let set = told(vlot(&cluster, 1, &["quota", "set", "/app/", "--bytes", "1KiB", "--keys", "3"]));
    assert_eq!(set, "Quota of prefix \"/app/\" set\n");
    let long = "x".repeat(1_010);
    for node in 0..3 {
        // All members have it once one has answered.
        refused(
            &cluster.ctl_at(node, &["put", "/app/1", &long]),
            "etcdserver: quota of prefix \"/app/\" exceeded: 1027 bytes of at most 1024",
        );
        cluster.told(node, &["put", "/apple", &long]);
    }
    cluster.told(0, &["put", "/app/1", ""]);
    cluster.told(1, &["put", "/app/2", ""]);
    let three = "quota of prefix \"/app/\" exceeded: 4 keys of at most 3";
    refused(&cluster.ctl_at(2, &["put", "/app/3", ""]), three);
    // In a transaction too, at any depth.
    let put = Request::RequestPut(PutRequest { key: "/app/3".into(), ..Default::default() });
    let nested = TxnRequest { success: vec![RequestOp { request: Some(put) }], ..Default::default() };
    let txn =
        TxnRequest { success: vec![RequestOp { request: Some(Request::RequestTxn(nested)) }], ..Default::default() };
    let port = cluster.nodes[2].client_port;
    let answer =
        block_on(async { Client::connect(port).await.call::<TxnResponse>("/etcdserverpb.KV/Txn", &txn).await });
    assert!(answer.unwrap_err().starts_with("8 etcdserver: quota of prefix"));
    cluster.told(2, &["del", "/app/2"]);
    cluster.told(2, &["put", "/app/3", ""]);

    let listed = "\"/app/\", 23, 1024, 3, 3\n";
    for node in 0..3 {
        assert_eq!(told(vlot(&cluster, node, &["quota", "list"])), listed);
        let metrics = || Exposition::of(cluster.nodes[node].client_port);
        let value = |name: &str| metrics().value(name, &[("prefix", "/app/")]);
        eventually("the metrics are current", PATIENCE, || value("vlot_prefix_used_bytes") == 23.0);
        assert_eq!((value("vlot_prefix_used_keys"), value("vlot_prefix_quota_keys")), (3.0, 3.0));
        assert_eq!(value("vlot_prefix_quota_bytes"), 1024.0);
    }
    let json = told(vlot(&cluster, 0, &["quota", "list", "-w", "json"]));
    let quota = r#""quotas":[{"prefix":"L2FwcC8=","bytes_max":1024,"keys_max":3,"bytes_used":23,"keys_used":3}]"#;
    assert!(json.contains(quota), "{json}");

    // A member that was killed has it again.
    cluster.nodes[0].kill();
    cluster.nodes[0].start();
    cluster.ready();
    assert_eq!(told(vlot(&cluster, 0, &["quota", "list"])), listed);
    refused(&cluster.ctl_at(0, &["put", "/app/4", ""]), three);

    let gone = gateway(&cluster, 1, "/v3/vlot/quota/remove", r#"{"prefix":"L2FwcC8="}"#);
    assert!(gone.contains("header"), "{gone}");
    let gone = gateway(&cluster, 1, "/v3/vlot/quota/remove", r#"{"prefix":"L2FwcC8="}"#);
    assert!(gone.contains("etcdserver: there is no quota of this prefix"), "{gone}");
    assert_eq!(told(vlot(&cluster, 2, &["quota", "list"])), "");
    cluster.told(0, &["put", "/app/4", ""]);
    let set = gateway(&cluster, 0, "/v3/vlot/quota/set", r#"{"prefix":"","keysMax":"7"}"#);
    assert!(set.contains(r#""keys_max":"7""#), "{set}");
    assert!(gateway(&cluster, 0, "/v3/vlot/quota/list", "{}").contains(r#""keys_used":"5""#));
    assert_eq!(told(vlot(&cluster, 0, &["quota", "remove", ""])), "Quota of prefix \"\" removed\n");
}

#[test]
fn what_is_wrong_with_a_quota_is_said() {
    let Some(etcd) = Etcd::find() else { return };
    let cluster = Cluster::vlot(1, &etcd.ctl);
    let long = "p".repeat(257);
    let rows: [(&[&str], &str); 7] = [
        (&["quota", "set", "a"], "etcdserver: a quota needs a limit of bytes or of keys, or both, above zero"),
        (&["quota", "set", "a", "--keys=-1"], "etcdserver: a quota needs a limit"),
        (&["quota", "set", &long, "--keys=1"], "etcdserver: the prefix of a quota has at most 256 bytes"),
        (&["quota", "set", "a", "--bytes=1.5MB"], "--bytes=1.5MB: expected a number of bytes, or one such as 10MiB"),
        (&["quota", "set", "a", "b", "--keys=1"], "quota set command requires a prefix as its argument"),
        (&["quota", "remove", "a"], "etcdserver: there is no quota of this prefix"),
        (&["quota", "list", "a"], "quota list command accepts no arguments"),
    ];
    for (arguments, why) in rows {
        refused(&vlot(&cluster, 0, arguments), why);
    }
}

#[test]
fn calls_beyond_a_rate_are_refused_and_counted_by_rule() {
    let Some(etcd) = Etcd::find() else { return };
    // So low a rate that nothing comes back during the test.
    let writes = "prefix=/app/,call=write,rate=0.001,burst=2";
    let watches = "call=watch,rate=0.001,burst=1";
    let cluster = Cluster::with_flag(None, 1, &etcd.ctl, ("rate-limit", &format!("{writes};{watches}")));
    cluster.told(0, &["put", "/app/1", "v"]);
    cluster.told(0, &["put", "/app/2", "v"]);
    refused(&cluster.ctl(&["put", "/app/3", "v"]), TOO_MANY);
    refused(&cluster.ctl(&["del", "/", "/b"]), TOO_MANY);
    cluster.told(0, &["put", "/other", "v"]);
    assert_eq!(cluster.told(0, &["get", "/app/1", "--print-value-only"]), "v\n");
    let answer = gateway(&cluster, 0, "/v3/kv/put", r#"{"key":"L2FwcC8z","value":""}"#);
    assert!(answer.contains(TOO_MANY) && answer.contains(r#""code":8"#), "{answer}");

    // A watch that is one too many ends by itself: the one before it goes on.
    let port = cluster.nodes[0].client_port;
    block_on(async {
        let client = Client::connect(port).await;
        let mut watch = client.converse("/etcdserverpb.Watch/Watch").await.unwrap();
        let create = |key: &'static str| {
            let create = WatchCreateRequest { key: key.into(), ..Default::default() };
            WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
        };
        watch.send(&create("/other"));
        let first: WatchResponse = watch.messages.next().await.unwrap().unwrap();
        assert!(first.created && !first.canceled);
        watch.send(&create("/other"));
        let second: WatchResponse = watch.messages.next().await.unwrap().unwrap();
        assert!(second.created && second.canceled);
        assert_eq!((second.watch_id, second.cancel_reason.as_str()), (-1, TOO_MANY));
        let put = PutRequest { key: "/other".into(), value: "w".into(), ..Default::default() };
        client.call::<PutResponse>("/etcdserverpb.KV/Put", &put).await.unwrap();
        let event: WatchResponse = watch.messages.next().await.unwrap().unwrap();
        assert_eq!((event.watch_id, event.events.len()), (first.watch_id, 1));
    });
    let exposition = Exposition::of(port);
    let refused = |rule: &str| exposition.value("vlot_rate_limit_refused_total", &[("rule", rule)]);
    // etcdctl tries a call again that was refused so.
    assert!(refused(writes) >= 3.0, "{}", refused(writes));
    assert_eq!(refused(watches), 1.0);
}

#[test]
fn a_user_s_calls_are_counted_by_who_calls() {
    let Some(etcd) = Etcd::find() else { return };
    let rule = "user=alice,call=read,rate=0.001,burst=2";
    let mut cluster = Cluster::with_flag(None, 1, &etcd.ctl, ("rate-limit", rule));
    // Passwords are hashed slowly on purpose, and slower still by a program that is not optimized.
    cluster.nodes[0].stop();
    cluster.nodes[0].flag("bcrypt-cost", "4");
    cluster.nodes[0].start();
    cluster.ready();
    for arguments in [
        &["user", "add", "root:pw"][..],
        &["user", "grant-role", "root", "root"],
        &["user", "add", "alice:pw"],
        &["role", "add", "reader"],
        &["role", "grant-permission", "reader", "read", "k"],
        &["user", "grant-role", "alice", "reader"],
        &["auth", "enable"],
    ] {
        cluster.told(0, arguments);
    }
    let get = |user: &str| cluster.ctl(&["--user", user, "get", "k"]);
    told(get("alice:pw"));
    told(get("alice:pw"));
    refused(&get("alice:pw"), TOO_MANY);
    told(get("root:pw"));
    let quotas = |user: &str| vlot(&cluster, 0, &["--user", user, "quota", "list"]);
    refused(&quotas("alice:pw"), "permission denied");
    told(quotas("root:pw"));
    told(vlot(&cluster, 0, &["--user", "root:pw", "quota", "set", "k", "--keys=1"]));
    refused(&vlot(&cluster, 0, &["--user", "alice:pw", "quota", "remove", "k"]), "permission denied");
}

#[test]
fn a_bad_rule_stops_the_server_and_names_the_part() {
    let mut command = std::process::Command::new(VLOT);
    let output = run(command.args(["server", "--rate-limit=user=alice,rate=fast"]), "", Duration::from_secs(10));
    refused(&output, "in 'rate=fast'");
}

/// Fills the store, and has it deleted again by one command, which takes a while.
async fn one_long_command(client: &Client) -> tokio::task::JoinHandle<()> {
    for batch in 0..600 {
        let put = |n| {
            let key = Bytes::from(format!("old/{batch}/{n}"));
            RequestOp { request: Some(Request::RequestPut(PutRequest { key, ..Default::default() })) }
        };
        let txn = TxnRequest { success: (0..128).map(put).collect(), ..Default::default() };
        client.call::<TxnResponse>("/etcdserverpb.KV/Txn", &txn).await.unwrap();
    }
    let client = client.clone();
    tokio::spawn(async move {
        let all = DeleteRangeRequest { key: "old/".into(), range_end: "old0".into(), prev_kv: true };
        // Whether its answer comes in time is not the question here.
        let _ = client.call::<DeleteRangeResponse>("/etcdserverpb.KV/DeleteRange", &all).await;
    })
}

/// Puts of a mebibyte, from many clients at once, until all are answered. Counts those that are refused as too many.
async fn flood(port: u16, refused: Arc<AtomicUsize>) {
    let value = Bytes::from(vec![b'v'; 1 << 20]);
    let puts: Vec<_> = (0..96)
        .map(|n| {
            let (refused, value) = (refused.clone(), value.clone());
            tokio::spawn(async move {
                let client = Client::connect(port).await;
                for _ in 0..2 {
                    let put = PutRequest { key: format!("new/{n}").into(), value: value.clone(), ..Default::default() };
                    let answer = client.call::<PutResponse>("/etcdserverpb.KV/Put", &put).await;
                    refused.fetch_add(usize::from(answer.is_err_and(|status| status.contains(TOO_MANY))), Relaxed);
                }
            })
        })
        .collect();
    for put in puts {
        put.await.unwrap();
    }
}

/// What a call that never gives way has come to: on a machine that is busy with something else it may come too late.
fn is_answered<T>(answer: Result<T, String>) -> bool {
    let status = answer.as_ref().err();
    assert!(status.is_none_or(|status| !status.contains(TOO_MANY)), "{status:?}");
    answer.is_ok()
}

/// While the store is at work on one long command, puts are taken until too much waits; then they are refused. Renewals of
/// leases, grants and questions about members are not.
#[test]
fn a_flood_of_puts_refuses_no_lease_and_no_question_about_members() {
    let Some(etcd) = Etcd::find() else { return };
    let cluster = Cluster::vlot(1, &etcd.ctl);
    let port = cluster.nodes[0].client_port;
    block_on(async {
        let client = Client::connect(port).await;
        let grant = LeaseGrantRequest { id: 7, ttl: 600 };
        client.call::<LeaseGrantResponse>("/etcdserverpb.Lease/LeaseGrant", &grant).await.unwrap();
        let refused = Arc::new(AtomicUsize::new(0));
        let [mut renewed, mut listed, mut granted] = [0; 3];
        // The flood may come too late for the command, on such a machine.
        for _ in 0..5 {
            let deletion = one_long_command(&client).await;
            let flood = tokio::spawn(flood(port, refused.clone()));
            while !flood.is_finished() {
                let mut keep_alive = client.converse("/etcdserverpb.Lease/LeaseKeepAlive").await.unwrap();
                keep_alive.send(&LeaseKeepAliveRequest { id: 7 });
                renewed += usize::from(is_answered(keep_alive.messages.next::<LeaseKeepAliveResponse>().await));
                let members = MemberListRequest { linearizable: true };
                let members = client.call::<MemberListResponse>("/etcdserverpb.Cluster/MemberList", &members).await;
                listed += usize::from(is_answered(members));
                let grant = LeaseGrantRequest { id: 0, ttl: 600 };
                let grant = client.call::<LeaseGrantResponse>("/etcdserverpb.Lease/LeaseGrant", &grant).await;
                granted += usize::from(is_answered(grant));
            }
            flood.await.unwrap();
            deletion.await.unwrap();
            if refused.load(Relaxed) > 0 {
                break;
            }
        }
        let refused = refused.load(Relaxed);
        println!("refused {refused} puts, renewed {renewed} times, listed {listed}, granted {granted}");
        assert!(refused > 0, "the flood was none");
        assert!(renewed > 0 && listed > 0 && granted > 0);
    });
}
