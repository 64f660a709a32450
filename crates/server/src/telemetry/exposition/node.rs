//! The node: its place in the cluster, its log, its peers, and the snapshots between them.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use vlot::figures::{Figures, TransferFigures};
use vlot::net::Refusal;
use vlot::{DiskState, NodeId};
use vlot_proto::etcdserverpb::Member;

use super::text::{Exposition, Unit, labels};
use crate::service::{ETCD_VERSION, Services};
use crate::store_group::RaftStatus;
use crate::telemetry::metrics::Metrics;

/// Where a node stands.
#[derive(Debug, Default)]
pub(super) struct Standing {
    pub(super) own: u64,
    pub(super) role_state: RaftStatus,
    pub(super) is_learner: bool,
    pub(super) members: Vec<Member>,
    pub(super) proposals_waiting: usize,
    pub(super) proposed_bytes: usize,
    pub(super) applying_bytes: usize,
    pub(super) quota_bytes: u64,
    pub(super) disk: DiskState,
}

impl Standing {
    pub(super) fn of(services: &Services) -> Standing {
        let store_group = &services.store_group;
        Standing {
            own: services.membership.identity().member,
            role_state: store_group.raft_status(),
            is_learner: store_group.is_learner(),
            members: services.members(),
            proposals_waiting: store_group.proposals_waiting(),
            proposed_bytes: store_group.proposed_bytes(),
            applying_bytes: store_group.applying_bytes(),
            quota_bytes: services.quota_bytes().unwrap_or(0),
            disk: store_group.disk(),
        }
    }
}

pub(super) fn server(standing: &Standing, metrics: &Metrics, text: &mut Exposition) {
    let Standing { own, role_state, is_learner, members, proposals_waiting, quota_bytes, disk, .. } = standing;
    text.gauge("etcd_server_has_leader", "Whether a leader is known.", u64::from(role_state.leader != 0));
    let leads = u64::from(role_state.leader == *own);
    text.gauge("etcd_server_is_leader", "Whether this member is the leader.", leads);
    let learns = u64::from(*is_learner);
    text.gauge("etcd_server_is_learner", "Whether this member is a learner.", learns);
    let changes = metrics.leader_changes.load(Relaxed);
    text.counter("etcd_server_leader_changes_seen_total", "Changes of the leader seen.", changes);
    text.gauge("etcd_server_proposals_committed_total", "Index of the newest committed entry.", role_state.commit);
    text.gauge("etcd_server_proposals_applied_total", "Index of the newest applied entry.", role_state.applied);
    let name = "etcd_server_proposals_pending";
    text.gauge(name, "Proposals that wait for their outcome.", proposals_waiting);
    let failed = metrics.proposals_failed.load(Relaxed);
    text.counter("etcd_server_proposals_failed_total", "Proposals without an outcome.", failed);
    let reads = metrics.reads_failed.load(Relaxed);
    text.counter("etcd_server_read_indexes_failed_total", "Reads that could not be confirmed.", reads);
    let slow = metrics.slow_reads.load(Relaxed);
    text.counter("etcd_server_slow_read_indexes_total", "Reads that waited long to be confirmed.", slow);
    text.gauge("etcd_server_quota_backend_bytes", "Bytes that the store may take.", quota_bytes);
    let (cluster_version, _) = ETCD_VERSION.rsplit_once('.').unwrap_or((ETCD_VERSION, ""));
    text.info("etcd_server_id", "The id of this member.", "server_id", &hex(*own));
    text.info("etcd_server_version", "The version told to clients.", "server_version", ETCD_VERSION);
    text.info("etcd_cluster_version", "The version of the cluster.", "cluster_version", cluster_version);
    text.info("etcd_server_go_version", "This server is not written in Go.", "server_go_version", "none");
    health(metrics, text);
    cluster(*own, members, metrics, text);
    log_disk(*disk, metrics, text);
}

fn health(metrics: &Metrics, text: &mut Exposition) {
    let successes = metrics.health_successes.load(Relaxed);
    text.counter("etcd_server_health_success", "Health checks that succeeded.", successes);
    let failures = metrics.health_failures.load(Relaxed);
    text.counter("etcd_server_health_failures", "Health checks that failed.", failures);
    let rows = metrics.checks.read();
    let newest = rows.iter().map(|row| (labels(&[("name", row.check), ("type", row.probe)]), row.newest));
    text.gauges("etcd_server_healthcheck", "The newest outcome of each check.", newest);
    let outcomes = rows.iter().flat_map(|row| {
        let of = |status| labels(&[("name", row.check), ("status", status), ("type", row.probe)]);
        [(of("success"), row.successes), (of("error"), row.failures)]
    });
    let outcomes = outcomes.filter(|(_, count)| *count > 0);
    text.counters("etcd_server_healthchecks_total", "Outcomes of each check.", outcomes);
}

fn cluster(own: u64, members: &[Member], metrics: &Metrics, text: &mut Exposition) {
    let learners = members.iter().filter(|member| member.is_learner).count();
    text.gauge("vlot_cluster_members", "Members of the cluster, learners included.", members.len());
    text.gauge("vlot_cluster_learners", "Learners among the members.", learners);
    let others = members.iter().filter(|member| member.id != own);
    let known = others.map(|member| (labels(&[("Local", &hex(own)), ("Remote", &hex(member.id))]), 1));
    text.gauges("etcd_network_known_peers", "The other members.", known);
    let promotions = metrics.promotions.load(Relaxed);
    text.counter("etcd_server_learner_promote_successes", "Learners promoted by this leader.", promotions);
    let failed = metrics.promotions_failed();
    let failed = failed.iter().map(|(reason, count)| (labels(&[("Reason", reason)]), *count));
    text.counters("etcd_server_learner_promote_failures", "Learners not promoted by this leader.", failed);
}

fn log_disk(disk: DiskState, metrics: &Metrics, text: &mut Exposition) {
    let full = u64::from(disk.is_full);
    text.gauge("vlot_log_disk_full", "Whether the disk of the log has no room for entries.", full);
    let fillings = metrics.disk_fillings.load(Relaxed);
    text.counter("vlot_log_disk_full_total", "How often the disk of the log has come to be full.", fillings);
    let stalled = u64::from(disk.has_stalled);
    text.gauge("vlot_log_disk_stalled", "Whether a write waits longer than an election timeout.", stalled);
    let stalls = metrics.disk_stalls.load(Relaxed);
    text.counter("vlot_log_disk_stalls_total", "How often the disk of the log has stalled.", stalls);
    let refused = metrics.connections_refused.load(Relaxed);
    let help = "Connections beyond what the limit of open files allows.";
    text.counter("vlot_client_connections_refused_total", help, refused);
    let stopped = metrics.offences.read().map(|(reason, count)| (labels(&[("reason", reason)]), count));
    let help = "Clients whose connection was closed, or a call of whom was refused, by the reason.";
    text.counters("vlot_clients_closed_total", help, stopped);
    let pauses = metrics.client_pauses.load(Relaxed);
    let help = "How often a client was not read from for some milliseconds, because it asked much for nothing.";
    text.counter("vlot_client_pauses_total", help, pauses);
}

/// What the library measures.
pub(super) fn figures(figures: &Figures, standing: &Standing, text: &mut Exposition) {
    let log = &figures.log;
    text.gauge("etcd_disk_wal_write_bytes_total", "Bytes written to the log.", log.written_bytes);
    let name = "etcd_disk_wal_write_duration_seconds";
    text.histogram(name, "How long writes to the log took.", Unit::Seconds, &log.writes);
    let name = "etcd_disk_wal_fsync_duration_seconds";
    text.histogram(name, "How long it took to make writes to the log durable.", Unit::Seconds, &log.syncs);
    let late = figures.late_turns;
    text.counter("etcd_server_heartbeat_send_failures_total", "Heartbeats that were late.", late);
    let restoring = figures.restoring;
    text.gauge("etcd_server_snapshot_apply_in_progress_total", "Snapshots being restored.", restoring);
    memory(figures, standing, text);
    links(figures, standing.own, text);
    handshakes(figures, text);
    snapshots(figures, text);
}

/// What waits or is kept. Each part has a bound, by its own flag or by the budget of memory.
fn memory(figures: &Figures, standing: &Standing, text: &mut Exposition) {
    let queued = figures.links.values().map(|link| link.queued_bytes).sum();
    let parts = [
        ("recent_entries", figures.recent_bytes),
        ("proposals", standing.proposed_bytes as u64),
        ("applying", standing.applying_bytes as u64),
        ("frames_to_peers", queued),
        ("frames_of_peers", figures.unread_bytes),
    ];
    let rows = parts.into_iter().map(|(part, bytes)| (labels(&[("part", part)]), bytes));
    text.gauges("vlot_node_memory_bytes", "Where the memory of log and transport is.", rows);
}

/// Between peers; reasons that never came are not told.
fn handshakes(figures: &Figures, text: &mut Exposition) {
    let rows = |counts: &BTreeMap<Refusal, u64>| -> Vec<_> {
        counts.iter().map(|(reason, count)| (labels(&[("reason", reason.word())]), *count)).collect()
    };
    let help = "Handshakes of peers, and of whoever else has called, that this member refused.";
    text.counters("vlot_peer_handshakes_refused_total", help, rows(&figures.handshakes_refused));
    let help = "Handshakes of this member that peers refused.";
    text.counters("vlot_peer_handshakes_denied_total", help, rows(&figures.handshakes_denied));
}

fn links(figures: &Figures, own: u64, text: &mut Exposition) {
    let links = &figures.links;
    let between = |peer: &NodeId| labels(&[("Local", &hex(own)), ("Remote", &hex(peer.0))]);
    let active = links.iter().map(|(peer, link)| (between(peer), u64::from(link.is_connected)));
    text.gauges("etcd_network_active_peers", "Whether each peer is connected.", active);
    let lost = links.iter().filter(|(_, link)| link.losses > 0).map(|(peer, link)| (between(peer), link.losses));
    text.counters("etcd_network_disconnected_peers_total", "How often each peer was lost.", lost);
    let sent = links.iter().map(|(peer, link)| (to(peer), link.sent_bytes));
    text.counters("etcd_network_peer_sent_bytes_total", "Bytes sent to each peer.", sent);
    let received = links.iter().map(|(peer, link)| (from(peer), link.received_bytes));
    text.counters("etcd_network_peer_received_bytes_total", "Bytes received from each peer.", received);
    let away = links.iter().filter(|(_, link)| link.round_trips.count() > 0);
    let away = away.map(|(peer, link)| (to(peer), link.round_trips.clone()));
    let name = "etcd_network_peer_round_trip_time_seconds";
    text.histograms(name, "How long it takes to hear back from each peer.", Unit::Seconds, away);
    let unsent = links.iter().filter(|(_, link)| link.unsent_frames > 0);
    let unsent = unsent.map(|(peer, link)| (to(peer), link.unsent_frames));
    text.counters("etcd_network_peer_sent_failures_total", "Messages that could not be sent.", unsent);
    let bad = links.iter().filter(|(_, link)| link.bad_frames > 0).map(|(peer, link)| (from(peer), link.bad_frames));
    text.counters("etcd_network_peer_received_failures_total", "Messages that no correct peer sends.", bad);
}

fn snapshots(figures: &Figures, text: &mut Exposition) {
    transfers("etcd_network_snapshot_send", &figures.sent, to, text);
    transfers("etcd_network_snapshot_receive", &figures.received, from, text);
    let name = "etcd_disk_backend_snapshot_duration_seconds";
    text.histogram(name, "How long it took to write a snapshot to a file.", Unit::Seconds, &figures.saves);
    let name = "etcd_snap_db_save_total_duration_seconds";
    text.histogram(name, "How long it took to receive snapshots.", Unit::Seconds, &figures.receipts);
    let name = "etcd_snap_db_fsync_duration_seconds";
    let help = "How long it took to make a snapshot durable that was received.";
    text.histogram(name, help, Unit::Seconds, &figures.finishes);
}

fn transfers(
    name: &str,
    transfers: &BTreeMap<NodeId, TransferFigures>,
    label: impl Fn(&NodeId) -> String,
    text: &mut Exposition,
) {
    let arrived = |it: &TransferFigures| it.successes.count();
    let successes = transfers.iter().filter(|(_, it)| arrived(it) > 0).map(|(peer, it)| (label(peer), arrived(it)));
    text.counters(&format!("{name}_success"), "Snapshots that have arrived.", successes);
    let failures = transfers.iter().filter(|(_, it)| it.failures > 0).map(|(peer, it)| (label(peer), it.failures));
    text.counters(&format!("{name}_failures"), "Attempts that have failed.", failures);
    let under_way = transfers.iter().map(|(peer, it)| (label(peer), it.under_way));
    text.gauges(&format!("{name}_inflights_total"), "Snapshots under way.", under_way);
    let took = transfers.iter().filter(|(_, it)| arrived(it) > 0);
    let took = took.map(|(peer, it)| (label(peer), it.successes.clone()));
    let help = "How long snapshots were under way that have arrived.";
    text.histograms(&format!("{name}_total_duration_seconds"), help, Unit::Seconds, took);
}

fn to(peer: &NodeId) -> String {
    labels(&[("To", &hex(peer.0))])
}

fn from(peer: &NodeId) -> String {
    labels(&[("From", &hex(peer.0))])
}

/// An id as etcd writes it.
fn hex(id: u64) -> String {
    format!("{id:x}")
}
