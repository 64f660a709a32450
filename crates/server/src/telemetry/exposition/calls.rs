//! Clients' calls: gRPC's own names, and those of etcd beside them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::text::{Exposition, Unit, labels};
use crate::limits::RateLimits;
use crate::rpc::{Kind, Rpc};
use crate::status::CODE_NAMES;
use crate::telemetry::metrics::{Calls, Counters, Metrics};

pub(super) fn calls(metrics: &Metrics, text: &mut Exposition) {
    grpc(&metrics.calls, text);
    let received = metrics.calls.received_bytes.load(Relaxed);
    let name = "etcd_network_client_grpc_received_bytes_total";
    text.counter(name, "Bytes of clients' messages.", received);
    let sent = metrics.calls.sent_bytes.load(Relaxed);
    text.counter("etcd_network_client_grpc_sent_bytes_total", "Bytes of messages to clients.", sent);
    let versions = metrics
        .clients
        .read()
        .into_iter()
        .map(|(version, kind, count)| (labels(&[("client_api_version", version), ("type", kind)]), count));
    text.counters("etcd_server_client_requests_total", "Calls, by the version that clients tell.", versions);
    let bad_streams = metrics.calls.iter().filter_map(|(rpc, counters)| {
        let api = match rpc {
            Rpc::Watch => "watch",
            Rpc::LeaseKeepAlive => "lease-keepalive",
            _ => method(rpc),
        };
        some(&counters.bad_streams).map(|count| (labels(&[("API", api), ("Type", "receive")]), count))
    });
    let name = "etcd_network_server_stream_failures_total";
    text.counters(name, "Streams that ended because something that was no message came.", bad_streams);
    let requests = metrics
        .requests
        .read()
        .into_iter()
        .map(|(act, success, took)| (labels(&[("success", truth(success)), ("type", act.name())]), took));
    let name = "etcd_server_request_duration_seconds";
    text.histograms(name, "How long requests wait for their answer.", Unit::Seconds, requests);
    let ranges =
        metrics.ranges.read().into_iter().map(|(_, success, took)| (labels(&[("success", truth(success))]), took));
    let name = "etcd_server_range_duration_seconds";
    text.histograms(name, "How long ranges take, their read index not included.", Unit::Seconds, ranges);
}

/// What was one too many. Without a rule nothing is told.
pub(super) fn refused(rate_limits: &RateLimits, text: &mut Exposition) {
    let rows = rate_limits.refused().map(|(rule, refused)| (labels(&[("rule", rule)]), refused));
    text.counters("vlot_rate_limit_refused_total", "Calls refused by a rule of --rate-limit.", rows);
}

fn grpc(calls: &Calls, text: &mut Exposition) {
    let told = || calls.iter().filter(|(rpc, counters)| is_told(*rpc, counters));
    let each = |counter: fn(&Counters) -> &AtomicU64| told().map(move |(rpc, it)| (of(rpc), counter(it).load(Relaxed)));
    text.counters("grpc_server_started_total", "Calls started.", each(|counters| &counters.started));
    let handled = told().flat_map(|(rpc, counters)| {
        CODE_NAMES
            .iter()
            .zip(&counters.handled)
            .map(move |(code, count)| (format!("{},{}", labels(&[("grpc_code", code)]), of(rpc)), count.load(Relaxed)))
    });
    text.counters("grpc_server_handled_total", "Calls handled, by how they ended.", handled);
    text.counters("grpc_server_msg_received_total", "Messages received.", each(|counters| &counters.received));
    text.counters("grpc_server_msg_sent_total", "Messages sent.", each(|counters| &counters.sent));
    let took = told().filter_map(|(rpc, counters)| Some((of(rpc), counters.took.as_ref()?.read())));
    text.histograms("grpc_server_handling_seconds", "How long calls took.", Unit::Seconds, took);
}

/// As in etcd, all RPCs but those of locks and elections are told from the beginning, so that the first call of one is a
/// change like any other.
fn is_told(rpc: Rpc, counters: &Counters) -> bool {
    !service(rpc).starts_with("v3") || some(&counters.started).is_some()
}

fn some(counter: &AtomicU64) -> Option<u64> {
    Some(counter.load(Relaxed)).filter(|count| *count > 0)
}

fn truth(is_true: bool) -> &'static str {
    if is_true { "true" } else { "false" }
}

/// The labels of an RPC.
fn of(rpc: Rpc) -> String {
    let kind = match (rpc.kind(), rpc.path()) {
        (_, "/etcdserverpb.Watch/Watch" | "/etcdserverpb.Lease/LeaseKeepAlive") => "bidi_stream",
        (Kind::Stream, _) => "server_stream",
        // An absent stream is handled as a unary call is.
        (
            _,
            "/etcdserverpb.Maintenance/Snapshot" | "/etcdserverpb.KV/RangeStream" | "/v3electionpb.Election/Observe",
        ) => "server_stream",
        (Kind::Unary, _) => "unary",
    };
    labels(&[("grpc_method", method(rpc)), ("grpc_service", service(rpc)), ("grpc_type", kind)])
}

fn service(rpc: Rpc) -> &'static str {
    rpc.path().trim_start_matches('/').split('/').next().unwrap_or_default()
}

fn method(rpc: Rpc) -> &'static str {
    rpc.path().rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Code;

    fn told(metrics: &Metrics) -> String {
        let mut text = Exposition::default();
        calls(metrics, &mut text);
        text.0
    }

    #[test]
    fn calls_are_counted_by_method_and_outcome() {
        let metrics = Metrics::new(false);
        metrics.calls.begin(Rpc::Put).end(Code::Ok);
        drop(metrics.calls.begin(Rpc::Put));
        metrics.calls.begin(Rpc::Watch).end(Code::Unavailable);
        metrics.calls.received(Rpc::Put, 7);
        let told = told(&metrics);
        for line in [
            r#"grpc_server_started_total{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 2"#,
            r#"grpc_server_handled_total{grpc_code="OK",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1"#,
            r#"grpc_server_handled_total{grpc_code="Canceled",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1"#,
            r#"grpc_server_handled_total{grpc_code="Unavailable",grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"} 1"#,
            r#"grpc_server_msg_received_total{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1"#,
            r#"grpc_server_started_total{grpc_method="Snapshot",grpc_service="etcdserverpb.Maintenance",grpc_type="server_stream"} 0"#,
            "etcd_network_client_grpc_received_bytes_total 7",
        ] {
            assert!(told.lines().any(|found| found == line), "{line}\nis not in\n{told}");
        }
        assert!(!told.contains("handling_seconds") && !told.contains("v3lockpb"));
    }

    #[test]
    fn how_long_calls_take_is_told_where_that_is_asked_for() {
        let metrics = Metrics::new(true);
        metrics.calls.begin(Rpc::Put).end(Code::Ok);
        let line = r#"grpc_server_handling_seconds_count{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} 1"#;
        assert!(told(&metrics).lines().any(|found| found == line));
    }
}
