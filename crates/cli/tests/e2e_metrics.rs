//! `/metrics` of etcd and of us, after the same calls: the same names, kinds, labels and buckets, and counters that have
//! moved by the same.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use support::cluster::{Cluster, PATIENCE};
use support::exposition::{Exposition, Series};
use support::grpc::Client;
use support::http::fetch;
use support::process::Until;
use support::{Etcd, eventually};
use vlot_proto::etcdserverpb::{LeaseGrantRequest, LeaseGrantResponse, RangeRequest, RangeResponse};

/// What is compared by value: how far each has moved.
const COMPARED: &[&str] = &[
    "etcd_debugging_lease_granted_total",
    "etcd_debugging_lease_renewed_total",
    "etcd_debugging_lease_revoked_total",
    "etcd_debugging_lease_ttl_total_bucket",
    "etcd_debugging_lease_ttl_total_sum",
    "etcd_debugging_mvcc_compact_revision",
    "etcd_debugging_mvcc_current_revision",
    "etcd_debugging_mvcc_events_total",
    "etcd_debugging_mvcc_pending_events_total",
    "etcd_debugging_mvcc_slow_watcher_total",
    "etcd_debugging_mvcc_total_put_size_in_bytes",
    "etcd_debugging_mvcc_watch_stream_total",
    "etcd_debugging_mvcc_watcher_total",
    "etcd_mvcc_delete_total",
    "etcd_mvcc_put_total",
    "etcd_mvcc_range_total",
    "etcd_mvcc_txn_total",
    "etcd_network_client_grpc_received_bytes_total",
    "etcd_server_apply_duration_seconds_count",
    "etcd_server_client_requests_total",
    "etcd_server_has_leader",
    "etcd_server_health_failures",
    "etcd_server_health_success",
    "etcd_server_healthcheck",
    "etcd_server_healthchecks_total",
    "etcd_server_is_leader",
    "etcd_server_is_learner",
    "etcd_server_leader_changes_seen_total",
    "etcd_server_proposals_failed_total",
    "etcd_server_read_indexes_failed_total",
    "grpc_server_handled_total",
    "grpc_server_handling_seconds_count",
    "grpc_server_msg_received_total",
    "grpc_server_msg_sent_total",
    "grpc_server_started_total",
];

/// The compactions of the script that succeed.
const COMPACTIONS: f64 = 1.0;

/// Series of which etcd alone speaks, or whose labels say who speaks.
fn is_etcds_own(series: &Series) -> bool {
    let label = |name: &str| series.labels.get(name).map(String::as_str);
    // Its v2 store, which still has the members' names.
    label("version") == Some("v2")
        // The client closes this stream and gives it up at once: which of the two is seen first decides about the code.
        || (label("grpc_method") == Some("LeaseKeepAlive") && label("grpc_code").is_some())
        // gRPC's health service has one more method in etcd's library.
        || (label("grpc_service") == Some("grpc.health.v1.Health") && label("grpc_method") == Some("List"))
        || ["server_id", "server_version", "cluster_version", "server_go_version"].iter().any(|name| label(name).is_some())
}

/// Names of etcd's that the document says are not told here.
fn is_absent(name: &str) -> bool {
    let document = include_str!("../../../docs/etcd-compatibility.md");
    name.starts_with("etcd_grpc_proxy_") || document.contains(&format!("`{name}`")) && !is_explained(document, name)
}

/// Whether the document says what a name stands for here, rather than that it is not there.
fn is_explained(document: &str, name: &str) -> bool {
    let absent = document.split("\nNot there:\n").nth(1).and_then(|rest| rest.split("\n## ").next());
    !absent.expect("the document has the list").contains(&format!("`{name}`"))
}

/// The one call that etcdctl cannot make: it leaves the choice of the id to the server.
fn grant_lease(port: u16) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let request = LeaseGrantRequest { id: 0x4d, ttl: 100 };
    let granted = runtime.block_on(async {
        let client = Client::connect(port).await;
        client.call::<LeaseGrantResponse>("/etcdserverpb.Lease/LeaseGrant", &request).await
    });
    assert_eq!(granted.map(|granted| granted.ttl), Ok(100));
}

/// Makes the calls of the script, and waits until those are counted as handled that do not end by themselves.
fn call(cluster: &Cluster) {
    grant_lease(cluster.nodes[0].client_port);
    for arguments in [
        &["put", "a", "one"][..],
        &["put", "a", "two", "--prev-kv"],
        &["put", "b", "three"],
        &["put", "a", "--ignore-value", "--prev-kv"],
        &["put", "none", "--ignore-value"],
        &["put", "", "no key"],
        &["put", "c", "no lease", "--lease=123"],
        &["get", "a"],
        &["get", "", "--prefix"],
        &["get", "a", "--rev=999"],
        &["get", "a", "--consistency=s"],
        &["del", "b"],
        &["del", "b"],
        &["del", "a", "--prev-kv"],
        &["put", "on", "a lease", "--lease=4d"],
        &["put", "too", "on it", "--lease=4d"],
        &["lease", "keep-alive", "--once", "4d"],
        &["lease", "timetolive", "4d", "--keys"],
        &["lease", "list"],
        &["lease", "revoke", "4d"],
        &["lease", "revoke", "4d"],
        &["put", "d", "four"],
        &["compaction", "3"],
        &["compaction", "3"],
        &["endpoint", "status"],
        &["member", "list"],
        &["move-leader", "1"],
    ] {
        cluster.ctl(arguments);
    }
    let txns = [
        "mod(\"d\") > \"0\"\n\nput e five\nget e\n\nput e six\n\n",
        "mod(\"d\") = \"1\"\nversion(\"a\") = \"9\"\n\nput e five\n\ndel e\nput f seven\nget d\n\n",
        "value(\"e\") = \"seven\"\n\nget d\nget e\n\n\n",
        "\nget d\n\n\n",
    ];
    for txn in txns {
        cluster.ctl_until(&["txn", "-i=false"], txn, Until::Ended);
    }
    cluster.ctl_until(&["watch", "--prefix", "", "--rev=5"], "", Until::Said("seven"));
    let port = cluster.nodes[0].client_port;
    for path in ["/health", "/health?serializable=true", "/livez", "/readyz", "/readyz/linearizable_read", "/version"] {
        assert!(fetch(port, path).is_some_and(|reply| reply.starts_with("HTTP/1.1 200")), "{path}");
    }
    eventually("all calls are handled", PATIENCE, || {
        let told = Exposition::of(port);
        told.sum("grpc_server_started_total") == told.sum("grpc_server_handled_total")
            && told.sum("etcd_debugging_mvcc_watcher_total") == 0.0
    });
}

/// What a cluster of one node tells before and after the script.
fn told(server: Option<&Path>, ctl: &Path) -> (Exposition, Exposition) {
    let cluster = Cluster::with_flag(server, 1, ctl, ("metrics", "extensive"));
    let port = cluster.nodes[0].client_port;
    let before = Exposition::of(port);
    call(&cluster);
    (before, Exposition::of(port))
}

#[test]
fn names_kinds_labels_buckets_and_counts_are_etcds() {
    let Some(etcd) = Etcd::find() else { return };
    let (etcd_before, etcd_after) = told(Some(&etcd.server), &etcd.ctl);
    let (before, after) = told(None, &etcd.ctl);
    let format = |told: &Exposition| told.content_type.split("; escaping").next().unwrap_or_default().to_owned();
    assert_eq!(format(&after), format(&etcd_after));
    let mut differences = Vec::new();
    for (name, kind) in &etcd_after.kinds {
        let is_meant = name.starts_with("etcd_") || name.starts_with("grpc_server_");
        if is_meant && !is_absent(name) && after.kinds.get(name) != Some(kind) {
            differences.push(format!("{name} is a {kind}, and here {:?}", after.kinds.get(name)));
        }
    }
    for series in etcd_after.samples.keys().filter(|series| !is_etcds_own(series)) {
        let name = etcd_after.kind_of(&series.name).map_or("", |(name, _)| name);
        let is_meant = name.starts_with("etcd_") || name.starts_with("grpc_server_");
        if is_meant && !is_absent(name) && !after.samples.contains_key(series) {
            differences.push(format!("{series:?} is not told"));
        }
    }
    let all: BTreeSet<&Series> = etcd_after.samples.keys().chain(after.samples.keys()).collect();
    for series in all.into_iter().filter(|series| COMPARED.contains(&series.name.as_str()) && !is_etcds_own(series)) {
        let moved = |before: &Exposition, after: &Exposition| {
            let value = |told: &Exposition| told.samples.get(series).copied().unwrap_or(0.0);
            value(after) - value(before)
        };
        let (mut theirs, ours) = (moved(&etcd_before, &etcd_after), moved(&before, &after));
        if series.name == "etcd_mvcc_range_total" {
            // For the answer to a compaction etcd reads a key, whichever. Here none is read.
            theirs -= COMPACTIONS;
        }
        if theirs != ours {
            differences.push(format!("{series:?} moves by {ours}, and by {theirs} in etcd"));
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn it_is_told_where_the_memory_is() {
    let Some(etcd) = Etcd::find() else { return };
    let (before, after) = told(None, &etcd.ctl);
    let parts = |told: &Exposition, family: &str| -> BTreeMap<String, f64> {
        let of_family = told.samples.iter().filter(|(series, _)| series.name == family);
        of_family.map(|(series, bytes)| (format!("{:?}", series.labels), *bytes)).collect()
    };
    for (family, count, grows) in
        [("vlot_node_memory_bytes", 5, "recent_entries"), ("vlot_store_memory_bytes", 4, "index")]
    {
        let (before, after) = (parts(&before, family), parts(&after, family));
        assert_eq!(after.len(), count, "{after:?}");
        let of = |told: &BTreeMap<String, f64>| *told.iter().find(|(labels, _)| labels.contains(grows)).unwrap().1;
        assert!(of(&after) > of(&before), "{before:?} {after:?}");
    }
}

#[test]
fn basic_metrics_have_no_times_of_calls() {
    let Some(etcd) = Etcd::find() else { return };
    let cluster = Cluster::vlot(1, &etcd.ctl);
    assert!(cluster.ctl(&["get", "a"]).succeeded());
    let told = Exposition::of(cluster.nodes[0].client_port);
    assert!(!told.kinds.contains_key("grpc_server_handling_seconds"));
    assert!(told.kinds.contains_key("grpc_server_handled_total"));
}

/// Names of the network, with the names of their labels.
fn network(told: &Exposition) -> BTreeSet<(String, String, Vec<String>)> {
    let series = told.samples.keys().filter(|series| {
        let is_meant = series.name.starts_with("etcd_network_peer")
            || series.name.starts_with("etcd_network_active")
            || series.name.starts_with("etcd_network_disconnected");
        is_meant && !series.name.ends_with("_bucket")
    });
    let shown = |series: &Series| {
        let (name, kind) = told.kind_of(&series.name).expect("it was introduced");
        (name.to_owned(), kind.to_owned(), series.labels.keys().cloned().collect())
    };
    series.map(shown).filter(|(name, _, _)| !is_absent(name)).collect()
}

/// Loses a member of three, and lets a client go away that waits for a quorum. Returns what was told by a node that stays.
async fn lose_members(cluster: &mut Cluster) -> Exposition {
    let port = cluster.nodes[0].client_port;
    assert!(cluster.ctl_at(0, &["put", "a", "b"]).succeeded());
    eventually("each peer is measured", PATIENCE, || {
        let told = Exposition::of(port);
        let measured = told.sum("etcd_network_peer_round_trip_time_seconds_count");
        told.sum("etcd_network_active_peers") == 2.0
            && told.sum("etcd_network_peer_sent_bytes_total") > 0.0
            && measured >= 2.0
    });
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    eventually("the peers are lost", PATIENCE, || {
        let told = Exposition::of(port);
        told.sum("etcd_network_active_peers") == 0.0 && told.sum("etcd_network_disconnected_peers_total") == 2.0
    });
    let client = Client::connect(port).await;
    let range = RangeRequest { key: "a".into(), ..RangeRequest::default() };
    let waiting = client.call::<RangeResponse>("/etcdserverpb.KV/Range", &range);
    let waited = tokio::time::timeout(Duration::from_millis(500), waiting).await;
    assert!(waited.is_err(), "there is no quorum");
    // The connection is this thread's too, and says that the call is given up.
    tokio::time::sleep(Duration::from_millis(200)).await;
    eventually("a call whose client went away is handled", PATIENCE, || {
        let told = Exposition::of(port);
        told.sum("grpc_server_started_total") == told.sum("grpc_server_handled_total")
    });
    Exposition::of(port)
}

#[tokio::test]
async fn peers_that_come_and_go_and_clients_that_go_away_are_counted_as_in_etcd() {
    let Some(etcd) = Etcd::find() else { return };
    let theirs = lose_members(&mut Cluster::etcd(3, &etcd.server, &etcd.ctl)).await;
    let ours = lose_members(&mut Cluster::vlot(3, &etcd.ctl)).await;
    let missing: Vec<_> = network(&theirs).difference(&network(&ours)).cloned().collect();
    assert!(missing.is_empty(), "{missing:#?}");
    let labels = [("grpc_method", "Range"), ("grpc_service", "etcdserverpb.KV"), ("grpc_type", "unary")];
    let canceled = [&[("grpc_code", "Canceled")][..], &labels].concat();
    assert_eq!(ours.value("grpc_server_handled_total", &canceled), 1.0);
}
