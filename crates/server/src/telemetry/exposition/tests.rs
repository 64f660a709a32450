//! The names that dashboards and alerts use, held against what is told, and what is told against Prometheus' format.

use std::collections::BTreeSet;
use std::time::Duration;

use vlot::NodeId;
use vlot::figures::{Distribution, Histogram, TransferFigures};
use vlot::net::LinkFigures;
use vlot_proto::etcdserverpb::Member;

use super::node::{self, Standing};
use super::text::Exposition;
use super::{calls, process, store, tls};
use crate::rpc::{Kind, Rpc};
use crate::status::{Code, Status};
use crate::store_group::Glance;
use crate::telemetry::metrics::{Act, Check, Metrics, Probe};

/// The names that are told.
const TOLD: &[&str] = &[
    "etcd_network_peer_round_trip_time_seconds",
    "etcd_debugging_lease_granted_total",
    "etcd_debugging_lease_renewed_total",
    "etcd_debugging_lease_revoked_total",
    "etcd_debugging_lease_ttl_total",
    "etcd_debugging_server_lease_expired_total",
    "etcd_cluster_version",
    "etcd_disk_backend_commit_duration_seconds",
    "etcd_disk_backend_defrag_duration_seconds",
    "etcd_disk_backend_snapshot_duration_seconds",
    "etcd_disk_defrag_inflight",
    "etcd_disk_wal_fsync_duration_seconds",
    "etcd_disk_wal_write_bytes_total",
    "etcd_disk_wal_write_duration_seconds",
    "etcd_mvcc_db_open_read_transactions",
    "etcd_mvcc_db_total_size_in_bytes",
    "etcd_mvcc_db_total_size_in_use_in_bytes",
    "etcd_mvcc_delete_total",
    "etcd_mvcc_hash_duration_seconds",
    "etcd_mvcc_hash_rev_duration_seconds",
    "etcd_mvcc_put_total",
    "etcd_mvcc_range_total",
    "etcd_mvcc_txn_total",
    "etcd_network_active_peers",
    "etcd_network_client_grpc_received_bytes_total",
    "etcd_network_client_grpc_sent_bytes_total",
    "etcd_network_disconnected_peers_total",
    "etcd_network_known_peers",
    "etcd_network_peer_received_bytes_total",
    "etcd_network_peer_received_failures_total",
    "etcd_network_peer_sent_bytes_total",
    "etcd_network_peer_sent_failures_total",
    "etcd_network_server_stream_failures_total",
    "etcd_network_snapshot_receive_failures",
    "etcd_network_snapshot_receive_inflights_total",
    "etcd_network_snapshot_receive_success",
    "etcd_network_snapshot_receive_total_duration_seconds",
    "etcd_network_snapshot_send_failures",
    "etcd_network_snapshot_send_inflights_total",
    "etcd_network_snapshot_send_success",
    "etcd_network_snapshot_send_total_duration_seconds",
    "etcd_server_apply_duration_seconds",
    "etcd_server_client_requests_total",
    "etcd_server_go_version",
    "etcd_server_has_leader",
    "etcd_server_health_failures",
    "etcd_server_health_success",
    "etcd_server_healthcheck",
    "etcd_server_healthchecks_total",
    "etcd_server_heartbeat_send_failures_total",
    "etcd_server_id",
    "etcd_server_is_leader",
    "etcd_server_is_learner",
    "etcd_server_leader_changes_seen_total",
    "etcd_server_learner_promote_failures",
    "etcd_server_learner_promote_successes",
    "etcd_server_proposals_applied_total",
    "etcd_server_proposals_committed_total",
    "etcd_server_proposals_failed_total",
    "etcd_server_proposals_pending",
    "etcd_server_quota_backend_bytes",
    "etcd_server_range_duration_seconds",
    "etcd_server_read_indexes_failed_total",
    "etcd_server_request_duration_seconds",
    "etcd_server_slow_apply_total",
    "etcd_server_slow_read_indexes_total",
    "etcd_server_snapshot_apply_in_progress_total",
    "etcd_server_version",
    "etcd_snap_db_fsync_duration_seconds",
    "etcd_snap_db_save_total_duration_seconds",
    "etcd_debugging_mvcc_compact_revision",
    "etcd_debugging_mvcc_current_revision",
    "etcd_debugging_auth_revision",
    "etcd_debugging_mvcc_db_compaction_keys_total",
    "etcd_debugging_mvcc_db_compaction_last",
    "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
    "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
    "etcd_debugging_mvcc_events_total",
    "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
    "etcd_debugging_mvcc_keys_total",
    "etcd_debugging_mvcc_pending_events_total",
    "etcd_debugging_mvcc_slow_watcher_total",
    "etcd_debugging_mvcc_total_put_size_in_bytes",
    "etcd_debugging_mvcc_watch_stream_total",
    "etcd_debugging_mvcc_watcher_total",
    "grpc_server_started_total",
    "grpc_server_handled_total",
    "grpc_server_msg_received_total",
    "grpc_server_msg_sent_total",
    "grpc_server_handling_seconds",
    "process_open_fds",
    "process_max_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
];

/// The names that are not. The document says of each why not.
const ABSENT: &[&str] = &[
    "etcd_snap_fsync_duration_seconds",
    "etcd_debugging_disk_backend_commit_rebalance_duration_seconds",
    "etcd_debugging_disk_backend_commit_spill_duration_seconds",
    "etcd_debugging_disk_backend_commit_write_duration_seconds",
    "etcd_debugging_server_alarms",
    "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds",
    "etcd_debugging_server_watch_send_loop_progress_duration_seconds",
    "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds",
    "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds",
    "etcd_debugging_snap_save_marshalling_duration_seconds",
    "etcd_debugging_snap_save_total_duration_seconds",
    "etcd_debugging_store_expires_total",
    "etcd_debugging_store_reads_failed_total",
    "etcd_debugging_store_reads_total",
    "etcd_debugging_store_watch_requests_total",
    "etcd_debugging_store_watchers",
    "etcd_debugging_store_writes_failed_total",
    "etcd_debugging_store_writes_total",
];

/// A distribution with something in it.
fn some() -> Distribution {
    let histogram = Histogram::doubling(Duration::from_millis(1), 3);
    histogram.observe(Duration::from_millis(2));
    histogram.read()
}

/// All that is told of a node to which everything has happened.
fn all() -> String {
    let metrics = Metrics::new(true);
    for act in [Act::Range, Act::ReadonlyTxn, Act::Put, Act::DeleteRange, Act::Txn, Act::Compaction] {
        metrics.requests.begin(act).end(true);
        metrics.applies.begin(act).end(true);
    }
    metrics.ranges.begin(Act::Range).end(false);
    metrics.clients.called(Some("3\"}5\n"), Kind::Unary);
    metrics.calls.begin(Rpc::Put).end(Code::Ok);
    metrics.calls.stream_failed(Rpc::Watch);
    metrics.checks.done(Probe::Ready, Check::NonLearner, false);
    metrics.promoted(Err(&Status::LEARNER_NOT_READY));
    let link =
        LinkFigures { losses: 1, unsent_frames: 1, bad_frames: 1, round_trips: some(), ..LinkFigures::default() };
    let transfer = || TransferFigures { under_way: 1, failures: 1, successes: some() };
    let mut figures = vlot::Figures::default();
    figures.links.insert(NodeId(2), link);
    figures.sent.insert(NodeId(2), transfer());
    figures.received.insert(NodeId(2), transfer());
    let members = [1, 2].map(|id| Member { id, ..Member::default() }).to_vec();
    let standing = Standing { own: 1, members, ..Standing::default() };
    let mut text = Exposition::default();
    node::server(&standing, &metrics, &mut text);
    node::figures(&figures, &standing, &mut text);
    store::sizes(&Glance::default(), &mut text);
    store::work(&vlot_store::figures::Figures { commits: some(), ..Default::default() }, &metrics, &mut text);
    calls::calls(&metrics, &mut text);
    process::process(1.0, &mut text);
    metrics.handshakes.done();
    metrics.handshakes.timed_out();
    tls::validity(&[("clients", tls::Validity { not_before: 1, not_after: 2 })], &mut text);
    tls::handshakes(&metrics.handshakes, &mut text);
    text.0
}

/// The names in a text, each of which is introduced once.
fn names(text: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap();
        assert!(names.insert(name), "{name} is introduced twice");
    }
    names
}

#[test]
fn every_name_that_dashboards_use_is_told_or_said_to_be_absent() {
    let text = all();
    let names = names(&text);
    let missing: Vec<_> = TOLD.iter().filter(|name| !names.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:#?}");
    let document = include_str!("../../../../../docs/etcd-compatibility.md");
    for name in ABSENT {
        assert!(!names.contains(name), "{name} is told");
        assert!(document.contains(&format!("`{name}`")), "{name} is not in the document");
    }
}

#[test]
fn no_name_of_etcds_is_made_up() {
    let text = all();
    let ours = |name: &&str| !name.starts_with("vlot_") && !name.starts_with("process_");
    let others: Vec<_> = names(&text).into_iter().filter(ours).filter(|name| !TOLD.contains(name)).collect();
    assert!(others.is_empty(), "{others:#?}");
}

#[test]
fn each_row_belongs_to_the_name_before_it_and_no_row_is_told_twice() {
    let text = all();
    let (mut name, mut kind, mut has_help) = ("", "", false);
    let mut rows = BTreeSet::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            name = help.split(' ').next().unwrap();
            assert!(help.len() > name.len() + 1, "{line}");
            has_help = true;
            continue;
        }
        if let Some(introduced) = line.strip_prefix("# TYPE ") {
            let words: Vec<&str> = introduced.split(' ').collect();
            assert_eq!((words.len(), words[0], has_help), (2, name, true), "{line}");
            kind = words[1];
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            has_help = false;
            continue;
        }
        let (row, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(rows.insert(row), "{row} is told twice");
        let found = row.split('{').next().unwrap();
        let suffixes: &[&str] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        assert!(suffixes.iter().any(|suffix| found.strip_prefix(name) == Some(suffix)), "{line} is under {name}");
        assert_eq!(row.contains("_bucket{"), row.contains("le=\""), "{line}");
    }
}
