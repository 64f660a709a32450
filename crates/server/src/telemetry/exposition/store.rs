//! The store: keys, watches, engine and compaction.

use std::sync::atomic::Ordering::Relaxed;

use bytes::Bytes;
use vlot_store::figures::Figures;
use vlot_store::quota::Quota;

use super::text::{Exposition, Unit, labels};
use crate::rpc::Rpc;
use crate::store_group::Glance;
use crate::telemetry::metrics::{DEFRAGMENT, Metrics};

/// What the store is. A store that stands still is told as it was before.
pub(super) fn sizes(glance: &Glance, text: &mut Exposition) {
    let Glance { sizes, revision, compacted_revision, auth_revision, figures, .. } = glance;
    text.gauge("etcd_mvcc_db_total_size_in_bytes", "Size of the database file.", sizes.database_bytes);
    let in_use = sizes.database_bytes_in_use;
    text.gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "Bytes in use of the database file.", in_use);
    let views = figures.engine_views;
    text.gauge("etcd_mvcc_db_open_read_transactions", "Views of the database that are held.", views);
    text.gauge("etcd_debugging_mvcc_keys_total", "Keys in memory.", sizes.keys);
    text.gauge("etcd_debugging_mvcc_current_revision", "The newest revision.", revision);
    text.gauge("etcd_debugging_mvcc_compact_revision", "The newest compacted revision.", compacted_revision);
    text.gauge("etcd_debugging_auth_revision", "The revision of users and roles.", auth_revision);
    text.gauge("vlot_store_versions", "Versions of keys in memory.", sizes.versions);
    text.gauge("vlot_store_resident_value_bytes", "Bytes of values in memory.", sizes.resident_value_bytes);
    text.gauge("vlot_store_backlog_bytes", "Bytes that wait for the engine.", sizes.backlog_bytes);
    let parts = [
        ("index", sizes.index_bytes),
        ("values", sizes.resident_value_bytes),
        ("backlog", sizes.backlog_bytes),
        ("engine_cache", sizes.engine_cache_bytes),
    ];
    let rows = parts.into_iter().map(|(part, bytes)| (labels(&[("part", part)]), bytes));
    text.gauges("vlot_store_memory_bytes", "Where the store's memory is, about.", rows);
}

/// How much there may be below prefixes, and how much there is.
pub(super) fn quotas(glance: &Glance, text: &mut Exposition) {
    let mut tell = |name, help, value: fn(&Quota) -> Option<u64>| {
        let row = |(prefix, quota): &(Bytes, Quota)| {
            let prefix = prefix.escape_ascii().to_string();
            value(quota).map(|value| (labels(&[("prefix", &prefix)]), value))
        };
        text.gauges(name, help, glance.quotas.iter().filter_map(row));
    };
    let help = "Bytes of keys and newest values that there may be below a prefix.";
    tell("vlot_prefix_quota_bytes", help, |quota| quota.limit.bytes);
    tell("vlot_prefix_quota_keys", "Keys that there may be below a prefix.", |quota| quota.limit.keys);
    let help = "Bytes of keys and newest values below a prefix with a quota.";
    tell("vlot_prefix_used_bytes", help, |quota| Some(quota.used.bytes));
    tell("vlot_prefix_used_keys", "Keys below a prefix with a quota.", |quota| Some(quota.used.keys));
}

/// What the store has done.
pub(super) fn work(figures: &Figures, metrics: &Metrics, text: &mut Exposition) {
    text.counter("etcd_mvcc_put_total", "Puts.", figures.puts);
    text.counter("etcd_mvcc_delete_total", "Deletions of a key or a range.", figures.deletions);
    text.counter("etcd_mvcc_range_total", "Reads of a key or a range.", figures.ranges);
    text.counter("etcd_mvcc_txn_total", "Requests made of several of these.", figures.txns);
    let name = "etcd_debugging_mvcc_total_put_size_in_bytes";
    text.gauge(name, "Bytes of keys and values that were put.", figures.put_bytes);
    let commits = &figures.commits;
    let name = "etcd_disk_backend_commit_duration_seconds";
    text.histogram(name, "How long the engine took for each transaction.", Unit::Seconds, commits);
    let applies = metrics.applies.read().into_iter().map(|(act, success, took)| {
        let success = if success { "true" } else { "false" };
        (labels(&[("op", act.name()), ("success", success), ("version", "v3")]), took)
    });
    let name = "etcd_server_apply_duration_seconds";
    text.histograms(name, "How long commands took to be applied.", Unit::Seconds, applies);
    let slow = metrics.slow_applies.load(Relaxed);
    text.counter("etcd_server_slow_apply_total", "Commands that took long to be applied.", slow);
    watches(figures, text);
    leases(figures, text);
    compaction(figures, metrics, text);
    upkeep(metrics, text);
}

fn watches(figures: &Figures, text: &mut Exposition) {
    text.gauge("etcd_debugging_mvcc_watcher_total", "Watches.", figures.watches);
    text.gauge("etcd_debugging_mvcc_watch_stream_total", "Streams of watches.", figures.watch_streams);
    let slow = figures.slow_watches;
    text.gauge("etcd_debugging_mvcc_slow_watcher_total", "Watches that are behind.", slow);
    let pending = figures.pending_events;
    text.gauge("etcd_debugging_mvcc_pending_events_total", "Events that wait for their streams.", pending);
    text.counter("etcd_debugging_mvcc_events_total", "Events given to streams.", figures.sent_events);
}

fn leases(figures: &Figures, text: &mut Exposition) {
    let granted = &figures.leases_granted;
    text.counter("etcd_debugging_lease_granted_total", "Leases granted.", granted.count());
    text.counter("etcd_debugging_lease_renewed_total", "Renewals of leases.", figures.leases_renewed);
    text.counter("etcd_debugging_lease_revoked_total", "Leases that have ended.", figures.leases_revoked);
    let name = "etcd_debugging_lease_ttl_total";
    text.histogram(name, "Times to live of leases that were granted.", Unit::Seconds, granted);
    let expired = figures.leases_expired;
    text.counter("etcd_debugging_server_lease_expired_total", "Leases whose time was over.", expired);
}

fn compaction(figures: &Figures, metrics: &Metrics, text: &mut Exposition) {
    let versions = figures.thinned_versions;
    text.counter("etcd_debugging_mvcc_db_compaction_keys_total", "Versions taken out.", versions);
    let at = figures.compacted_at.map_or(0, |at| at.as_secs());
    text.gauge("etcd_debugging_mvcc_db_compaction_last", "When the last compaction ended, since 1970.", at);
    let name = "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds";
    text.histogram(name, "How long compactions of the database took.", Unit::Milliseconds, &figures.compactions);
    let name = "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds";
    text.histogram(name, "How long each transaction of a compaction took.", Unit::Milliseconds, &figures.thinnings);
    let name = "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds";
    let steps = metrics.compaction_steps.read();
    text.histogram(name, "How long the index stood still for a step.", Unit::Milliseconds, &steps);
}

fn upkeep(metrics: &Metrics, text: &mut Exposition) {
    let upkeep = &metrics.upkeep;
    let under_way = Rpc::of_path(DEFRAGMENT).map_or(0, |rpc| metrics.calls.under_way(rpc));
    text.gauge("etcd_disk_defrag_inflight", "Defragmentations under way.", under_way);
    let took = upkeep.defragmentations.read();
    let name = "etcd_disk_backend_defrag_duration_seconds";
    text.histogram(name, "How long defragmentations took.", Unit::Seconds, &took);
    let took = upkeep.hashes.read();
    text.histogram("etcd_mvcc_hash_duration_seconds", "How long hashes took.", Unit::Seconds, &took);
    let took = upkeep.hashes_at_revision.read();
    let name = "etcd_mvcc_hash_rev_duration_seconds";
    text.histogram(name, "How long hashes up to a revision took.", Unit::Seconds, &took);
}
