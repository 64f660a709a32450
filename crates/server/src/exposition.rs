//! What dashboards and alerts are made of: the counters, and the state of the node, under etcd's names.
//!
//! Owns the text format of Prometheus. Must not count anything itself (`metrics.rs` does).

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use crate::metrics::Metrics;
use crate::rpc::{Kind, Rpc};
use crate::service::{ETCD_VERSION, Services};
use crate::status::CODE_NAMES;
use crate::store_group::Glance;

/// All metrics as Prometheus reads them.
pub(crate) async fn exposition(services: &Services) -> String {
    let mut text = Exposition::default();
    server(services, &mut text);
    store(services, &mut text).await;
    calls(&services.metrics, &mut text);
    process(&services.metrics, &mut text);
    text.0
}

fn server(services: &Services, text: &mut Exposition) {
    let metrics = &services.metrics;
    let role_state = services.store_group.raft_status();
    let identity = services.membership.identity();
    text.gauge("etcd_server_has_leader", "Whether a leader is known.", u64::from(role_state.leader != 0));
    let leads = u64::from(role_state.leader == identity.member);
    text.gauge("etcd_server_is_leader", "Whether this member is the leader.", leads);
    let learns = u64::from(services.store_group.is_learner());
    text.gauge("etcd_server_is_learner", "Whether this member is a learner.", learns);
    let members = services.members();
    let learners = members.iter().filter(|member| member.is_learner).count();
    text.gauge("vlot_cluster_members", "Members of the cluster, learners included.", members.len());
    text.gauge("vlot_cluster_learners", "Learners among the members.", learners);
    let sent = metrics.snapshots_sent.load(Relaxed);
    text.counter("etcd_network_snapshot_send_success", "Snapshots sent to other members.", sent);
    let received = metrics.snapshots_received.load(Relaxed);
    text.counter("etcd_network_snapshot_receive_success", "Snapshots received and restored.", received);
    let disk = services.store_group.disk();
    let full = u64::from(disk.is_full);
    text.gauge("vlot_log_disk_full", "Whether the disk of the log has no room for entries.", full);
    let fillings = metrics.disk_fillings.load(Relaxed);
    text.counter("vlot_log_disk_full_total", "How often the disk of the log has come to be full.", fillings);
    let stalled = u64::from(disk.has_stalled);
    text.gauge("vlot_log_disk_stalled", "Whether a write waits longer than an election timeout.", stalled);
    let stalls = metrics.disk_stalls.load(Relaxed);
    text.counter("vlot_log_disk_stalls_total", "How often the disk of the log has stalled.", stalls);
    let changes = metrics.leader_changes.load(Relaxed);
    text.counter("etcd_server_leader_changes_seen_total", "Changes of the leader seen.", changes);
    text.gauge("etcd_server_proposals_committed_total", "Index of the newest committed entry.", role_state.commit);
    text.gauge("etcd_server_proposals_applied_total", "Index of the newest applied entry.", role_state.applied);
    let pending = services.store_group.proposals_waiting();
    text.gauge("etcd_server_proposals_pending", "Proposals that wait for their outcome.", pending);
    let failed = metrics.proposals_failed.load(Relaxed);
    text.counter("etcd_server_proposals_failed_total", "Proposals without an outcome.", failed);
    let reads = metrics.reads_failed.load(Relaxed);
    text.counter("etcd_server_read_indexes_failed_total", "Reads that could not be confirmed.", reads);
    let successes = metrics.health_successes.load(Relaxed);
    text.counter("etcd_server_health_success", "Health checks that succeeded.", successes);
    let failures = metrics.health_failures.load(Relaxed);
    text.counter("etcd_server_health_failures", "Health checks that failed.", failures);
    let quota = services.quota_bytes().unwrap_or(0);
    text.gauge("etcd_server_quota_backend_bytes", "Bytes that the store may take.", quota);
    text.info("etcd_server_id", "The id of this member.", "server_id", &format!("{:x}", identity.member));
    text.info("etcd_server_version", "The version told to clients.", "server_version", ETCD_VERSION);
    text.info("etcd_cluster_version", "The version of the cluster.", "cluster_version", ETCD_VERSION);
}

fn calls(metrics: &Metrics, text: &mut Exposition) {
    text.head("grpc_server_started_total", "Calls started.", "counter");
    for (number, count) in metrics.started.iter().enumerate() {
        if let count @ 1.. = count.load(Relaxed) {
            let _ = writeln!(text.0, "grpc_server_started_total{{{}}} {count}", labels(Rpc::numbered(number)));
        }
    }
    text.head("grpc_server_handled_total", "Calls handled, by how they ended.", "counter");
    for (number, codes) in metrics.handled.iter().enumerate() {
        for (code, count) in CODE_NAMES.iter().zip(codes) {
            if let count @ 1.. = count.load(Relaxed) {
                let labels = labels(Rpc::numbered(number));
                let _ = writeln!(text.0, "grpc_server_handled_total{{grpc_code=\"{code}\",{labels}}} {count}");
            }
        }
    }
}

fn process(metrics: &Metrics, text: &mut Exposition) {
    text.gauge("process_start_time_seconds", "When the process started, since 1970.", metrics.process_start);
    if let Some(bytes) = kibibytes_of("VmRSS:") {
        text.gauge("process_resident_memory_bytes", "Resident memory.", bytes);
    }
    if let Some(bytes) = kibibytes_of("VmSize:") {
        text.gauge("process_virtual_memory_bytes", "Virtual memory.", bytes);
    }
    if let Some(seconds) = cpu_seconds() {
        text.counter("process_cpu_seconds_total", "User and system time.", seconds);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        text.gauge("process_open_fds", "Open file descriptors.", open.count() as u64);
    }
    if let Some(most) = max_fds() {
        text.gauge("process_max_fds", "Most file descriptors that may be open.", most);
    }
}

async fn store(services: &Services, text: &mut Exposition) {
    // A store that has stopped tells nothing.
    let Ok(glance) = services.store_group.glance().await else { return };
    let Glance { sizes, revision, compacted_revision, .. } = glance;
    text.gauge("etcd_mvcc_db_total_size_in_bytes", "Size of the database file.", sizes.database_bytes);
    let in_use = sizes.database_bytes_in_use;
    text.gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "Bytes in use of the database file.", in_use);
    text.gauge("etcd_debugging_mvcc_keys_total", "Keys in memory.", sizes.keys as u64);
    text.gauge("etcd_debugging_mvcc_current_revision", "The newest revision.", revision);
    text.gauge("etcd_debugging_mvcc_compact_revision", "The newest compacted revision.", compacted_revision);
    text.gauge("vlot_store_versions", "Versions of keys in memory.", sizes.versions as u64);
    text.gauge("vlot_store_resident_value_bytes", "Bytes of values in memory.", sizes.resident_value_bytes as u64);
    text.gauge("vlot_store_backlog_bytes", "Bytes that wait for the engine.", sizes.backlog_bytes as u64);
}

fn labels(rpc: Rpc) -> String {
    let (service, method) = rpc.path().trim_start_matches('/').split_once('/').unwrap_or_default();
    let kind = match rpc.kind() {
        Kind::Unary => "unary",
        Kind::Stream if rpc == Rpc::Watch => "bidi_stream",
        Kind::Stream => "server_stream",
    };
    format!("grpc_method=\"{method}\",grpc_service=\"{service}\",grpc_type=\"{kind}\"")
}

/// Text in the making.
#[derive(Default)]
struct Exposition(String);

impl Exposition {
    fn head(&mut self, name: &str, help: &str, kind: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.head(name, help, "gauge");
        let _ = writeln!(self.0, "{name} {value}");
    }

    fn counter(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.head(name, help, "counter");
        let _ = writeln!(self.0, "{name} {value}");
    }

    /// A fact that is a text: it stands in a label, and the value is 1.
    fn info(&mut self, name: &str, help: &str, label: &str, fact: &str) {
        self.head(name, help, "gauge");
        let _ = writeln!(self.0, "{name}{{{label}=\"{fact}\"}} 1");
    }
}

// The rest reads Linux's /proc. Elsewhere these metrics are missing.

fn kibibytes_of(field: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}

fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses and may hold blanks. User and system time are the 14th and
    // 15th, in hundredths of a second.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<f64>().ok();
    Some((next()? + next()?) / 100.0)
}

fn max_fds() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Code;

    #[test]
    fn calls_are_counted_by_method_and_outcome() {
        let metrics = Metrics::new();
        metrics.call_started(Rpc::Put);
        metrics.call_handled(Rpc::Put, Code::Ok);
        metrics.call_handled(Rpc::Put, Code::Ok);
        metrics.call_handled(Rpc::Watch, Code::Unavailable);
        let mut text = Exposition::default();
        calls(&metrics, &mut text);
        for line in [
            r#"grpc_server_started_total{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1"#,
            r#"grpc_server_handled_total{grpc_code="OK",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 2"#,
            r#"grpc_server_handled_total{grpc_code="Unavailable",grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"} 1"#,
        ] {
            assert!(text.0.lines().any(|found| found == line), "{line}\nis not in\n{}", text.0);
        }
    }

    #[test]
    fn every_line_is_a_comment_or_a_name_and_a_number() {
        let metrics = Metrics::new();
        metrics.call_started(Rpc::Range);
        let mut text = Exposition::default();
        calls(&metrics, &mut text);
        process(&metrics, &mut text);
        text.info("a", "b", "c", "d");
        for line in text.0.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.rsplit_once(' ').is_some_and(|(_, value)| value.parse::<f64>().is_ok()), "{line}");
        }
        assert!(text.0.contains("process_open_fds"));
    }
}
