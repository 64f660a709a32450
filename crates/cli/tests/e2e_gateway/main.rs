//! The same HTTP requests to etcd and to us: the same status, the same headers that matter, the same JSON.
//!
//! What may differ is taken out of the bodies before they are compared: ids, terms, ports, the space after a comma (which
//! etcd's library puts in or leaves out by chance), and the fields that failures have here for clients of several versions.

mod asked;
mod judged;
mod noise;
#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use asked::{
    Asked, leases_locks_and_elections, malformed, members_and_maintenance, paths_methods_and_headers, post,
    puts_and_gets, users_and_roles, watches,
};
use judged::judged;
use support::cluster::{Cluster, PATIENCE};
use support::http::{Connection, Reply, request};
use support::{Etcd, eventually, free_port};

/// How long a reply that does not end is listened to.
const MOMENT: Duration = Duration::from_millis(400);

fn both() -> Option<(Cluster, Cluster)> {
    let Etcd { server, ctl } = Etcd::find()?;
    let clusters = (Cluster::etcd(1, &server, &ctl), Cluster::vlot(1, &ctl));
    // A member says where it serves clients once it does.
    eventually("the members are known", PATIENCE, || {
        [&clusters.0, &clusters.1].iter().all(|cluster| {
            let members = post("/v3/cluster/member/list", "{}").of(cluster.nodes[0].client_port, PATIENCE);
            members.text().contains("clientURLs")
        })
    });
    Some(clusters)
}

fn hold_against_etcd(requests: Vec<Asked>) {
    let Some((etcd, vlot)) = both() else { return };
    let mut differences = String::new();
    for asked in requests {
        let is_endless = ["watch", "observe", "keepalive"].iter().any(|stream| asked.path.contains(stream));
        let within = if is_endless { MOMENT } else { PATIENCE };
        let [theirs, ours] = [&etcd, &vlot].map(|cluster| asked.of(cluster.nodes[0].client_port, within));
        if ours.status == 501 && ours.text().contains("is not implemented") {
            continue;
        }
        let [theirs, ours] = [judged(&theirs), judged(&ours)];
        if theirs != ours {
            differences.push_str(&format!("{}\n  etcd {theirs:?}\n  vlot {ours:?}\n", asked.shown()));
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn keys_are_as_in_etcd() {
    hold_against_etcd(puts_and_gets());
}

#[test]
fn what_is_malformed_is_refused_as_by_etcd() {
    hold_against_etcd(malformed());
}

#[test]
fn paths_methods_and_headers_are_as_in_etcd() {
    hold_against_etcd(paths_methods_and_headers());
}

#[test]
fn members_and_maintenance_are_as_in_etcd() {
    hold_against_etcd(members_and_maintenance());
}

#[test]
fn users_and_roles_are_as_in_etcd() {
    hold_against_etcd(users_and_roles());
}

#[test]
fn leases_locks_and_elections_are_as_in_etcd() {
    hold_against_etcd(leases_locks_and_elections());
}

#[test]
fn streams_are_as_in_etcd() {
    hold_against_etcd(watches());
}

/// What etcd never answers is answered here.
#[test]
fn a_stream_that_begins_with_no_request_says_so() {
    let Some(Etcd { ctl, .. }) = Etcd::find() else { return };
    let vlot = Cluster::vlot(1, &ctl);
    let reply = post("/v3/watch", r#"{"create_request":{"key":1}}"#).of(vlot.nodes[0].client_port, PATIENCE);
    assert_eq!(reply.status, 400);
    let expected = "{\"error\":{\"grpc_code\":3,\"http_code\":400,\"message\":\"proto: (line 1:26): invalid value for bytes \
                    field key: 1\",\"http_status\":\"Bad Request\",\"code\":3}}\n";
    assert_eq!(reply.text(), expected);
    let reply = post("/v3/kv/range", "{}").of(vlot.nodes[0].client_port, PATIENCE);
    let expected =
        r#"{"error":"etcdserver: key is not provided","code":3,"message":"etcdserver: key is not provided"}"#;
    assert_eq!(reply.text(), expected, "clients of etcd 3.5 and of 3.6 find what they look for");
}

#[test]
fn a_watch_goes_on_after_its_requests_and_takes_them_as_they_come() {
    let Some((etcd, vlot)) = both() else { return };
    for cluster in [&etcd, &vlot] {
        let port = cluster.nodes[0].client_port;
        let put = |key: &str| post("/v3/kv/put", format!(r#"{{"key":"{key}"}}"#)).of(port, PATIENCE);
        // All is asked for at once.
        let mut watch = Connection::open(port);
        watch.send(&request("POST", "/v3/watch", &[], br#"{"create_request":{"key":"YQ=="}}"#));
        watch.reply_until(false, PATIENCE, has_lines(1));
        for count in 2..5 {
            assert_eq!(put("YQ==").status, 200);
            let reply = watch.reply_until(false, PATIENCE, has_lines(count));
            assert!(
                reply.text().lines().last().unwrap().contains(r#""events":[{"kv":{"key":"YQ==""#),
                "{}",
                reply.text()
            );
        }
    }
    // One thing after the other, in pieces that end anywhere. etcd answers nothing before the body has ended.
    let port = vlot.nodes[0].client_port;
    let mut watch = Connection::open(port);
    watch.send(b"POST /v3/watch HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    let send = |watch: &mut Connection, piece: &str| {
        watch.send(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes());
    };
    send(&mut watch, r#"{"create_request":{"ke"#);
    std::thread::sleep(MOMENT / 4);
    send(&mut watch, r#"y":"Yg=="}}"#);
    watch.reply_until(false, PATIENCE, has_lines(1));
    send(&mut watch, r#" {"create_request":{"key":"Yw==","watch_id":"5"}}"#);
    watch.reply_until(false, PATIENCE, has_lines(2));
    assert_eq!(post("/v3/kv/put", r#"{"key":"Yw=="}"#).of(port, PATIENCE).status, 200);
    let reply = watch.reply_until(false, PATIENCE, has_lines(3));
    assert!(reply.text().lines().last().unwrap().contains(r#""watch_id":"5""#), "{}", reply.text());
}

fn has_lines(count: usize) -> impl Fn(&Reply) -> bool {
    move |reply| reply.text().lines().count() >= count
}

#[test]
fn one_connection_serves_many_calls() {
    let Some(Etcd { ctl, .. }) = Etcd::find() else { return };
    let vlot = Cluster::vlot(1, &ctl);
    let mut connection = Connection::open(vlot.nodes[0].client_port);
    for number in 0..50 {
        let body = format!(r#"{{"key":"YQ==","value":"YQ==","prev_kv":{}}} what is not read"#, number % 2 == 0);
        connection.send(&request("POST", "/v3/kv/put", &[], body.as_bytes()));
        let reply = connection.reply(false, PATIENCE);
        assert!(reply.is_complete && reply.status == 200, "{reply:?}");
        connection.send(&request("POST", "/v3/kv/range", &[], b"{}"));
        assert_eq!(connection.reply(false, PATIENCE).status, 400);
    }
    // Two at once.
    let one = request("POST", "/v3/kv/range", &[], br#"{"key":"YQ=="}"#);
    connection.send(&one.repeat(2));
    for _ in 0..2 {
        assert_eq!(connection.reply(false, PATIENCE).status, 200);
    }
}

#[test]
fn flags_decide_who_may_call() {
    let Some(Etcd { server, ctl }) = Etcd::find() else { return };
    let mut clusters = [Cluster::etcd(1, &server, &ctl), Cluster::vlot(1, &ctl)];
    let restart = |clusters: &mut [Cluster; 2], flag: &str, value: &str| {
        for cluster in clusters {
            cluster.nodes[0].stop();
            cluster.nodes[0].flag(flag, value);
            cluster.nodes[0].start();
            cluster.ready();
        }
    };
    let alike = |clusters: &[Cluster; 2], asked: Asked, has_body: bool| {
        let [theirs, ours] = clusters.each_ref().map(|cluster| asked.of(cluster.nodes[0].client_port, PATIENCE));
        let [mut theirs, mut ours] = [judged(&theirs), judged(&ours)];
        if !has_body {
            (theirs.2, ours.2) = Default::default();
        }
        assert_eq!(theirs, ours, "{}", asked.shown());
        ours
    };
    restart(&mut clusters, "cors", "http://a.example:80,https://b.example:8443");
    for origin in ["http://a.example:80", "https://b.example:8443", "http://c.example:80", "*"] {
        for method in ["POST", "OPTIONS"] {
            alike(&clusters, post("/v3/kv/range", "{}").by(method).with("Origin", origin), true);
        }
    }
    alike(&clusters, post("/v3/kv/range", "{}"), true);
    restart(&mut clusters, "enable-grpc-gateway", "false");
    let (status, ..) = alike(&clusters, post("/v3/kv/range", r#"{"key":"YQ=="}"#), true);
    assert_eq!(status, 404);
    restart(&mut clusters, "enable-grpc-gateway", "true");
    restart(&mut clusters, "host-whitelist", "127.0.0.1");
    let (status, ..) = alike(&clusters, post("/v3/kv/range", r#"{"key":"YQ=="}"#), true);
    assert_eq!(status, 200);
    for cluster in &clusters {
        let mut connection = Connection::open(cluster.nodes[0].client_port);
        connection.send(b"POST /v3/kv/range HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 2\r\n\r\n{}");
        assert_eq!(connection.reply(false, PATIENCE).status, 421);
    }
}

#[test]
fn variables_have_etcds_names() {
    let Some((etcd, vlot)) = both() else { return };
    let [theirs, ours] = [&etcd, &vlot].map(|cluster| {
        let reply = post("/debug/vars", "").by("GET").of(cluster.nodes[0].client_port, PATIENCE);
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json; charset=utf-8")));
        serde_json::from_slice::<serde_json::Value>(&reply.body).unwrap()
    });
    for (name, value) in ours.as_object().unwrap() {
        assert!(theirs[name].is_array() == value.is_array() && theirs[name].is_number() == value.is_number(), "{name}");
    }
    assert_eq!(ours["file_descriptor_limit"], theirs["file_descriptor_limit"]);
    assert_eq!(ours["raft.status"]["raftState"], theirs["raft.status"]["raftState"]);
    for (name, value) in ours["raft.status"].as_object().unwrap() {
        let same_kind = theirs["raft.status"][name].is_number() == value.is_number();
        assert!(same_kind && theirs["raft.status"].get(name).is_some(), "{name}");
    }
}

#[test]
fn operators_tools_are_served_without_the_gateway() {
    let Some(Etcd { ctl, .. }) = Etcd::find() else { return };
    let mut vlot = Cluster::vlot(1, &ctl);
    let port = free_port();
    vlot.nodes[0].stop();
    vlot.nodes[0].flag("listen-metrics-urls", &format!("http://127.0.0.1:{port}"));
    vlot.nodes[0].start();
    vlot.ready();
    assert_eq!(post("/health", "").by("GET").of(port, PATIENCE).status, 200);
    let reply = post("/v3/kv/range", r#"{"key":"YQ=="}"#).of(port, PATIENCE);
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (404, None));
}

/// A body without an end is refused, and a client that does not read holds no more than what is on its way to it.
#[test]
fn what_a_client_sends_and_does_not_read_is_bounded() {
    let Some(Etcd { ctl, .. }) = Etcd::find() else { return };
    let vlot = Cluster::vlot(1, &ctl);
    let (port, process) = (vlot.nodes[0].client_port, vlot.nodes[0].process_id());
    // Text without an end, and space without an end.
    let mut endless = Connection::open(port);
    endless.send(b"POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n{\"x\":\"");
    (0..20).for_each(|_| endless.send(&[b'y'; 1 << 20]));
    let reply = endless.reply(false, PATIENCE);
    assert_eq!(reply.status, 429);
    assert!(reply.text().contains("grpc: received message larger than max ("), "{}", reply.text());
    let value = "eHh4".repeat((1 << 20) / 4);
    for digit in 'A'..='H' {
        let body = format!(r#"{{"key":"Y{digit}AA","value":"{value}"}}"#);
        assert_eq!(post("/v3/kv/put", body).of(port, PATIENCE).status, 200);
    }
    let before = resident_kib(process);
    let all = request("POST", "/v3/kv/range", &[], br#"{"key":"AA==","range_end":"AA=="}"#);
    let mut idle: Vec<_> = (0..12).map(|_| Connection::open(port)).collect();
    idle.iter_mut().for_each(|connection| connection.send(&all));
    let history = br#"{"create_request":{"key":"AA==","range_end":"AA==","start_revision":"1"}}"#;
    let mut watches: Vec<_> = (0..6).map(|_| Connection::open(port)).collect();
    watches.iter_mut().for_each(|connection| connection.send(&request("POST", "/v3/watch", &[], history)));
    std::thread::sleep(Duration::from_secs(1));
    let grown = resident_kib(process).saturating_sub(before);
    // Eighteen times 8 MiB as JSON are 190 MiB.
    assert!(grown < 60 << 10, "{grown} KiB more");
    let whole = |reply: Reply, field: &str| {
        assert!(reply.is_complete, "{} bytes", reply.body.len());
        let json: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        let kvs = json[field].as_array().unwrap();
        assert_eq!(kvs.len(), 8);
        assert!(kvs.iter().all(|kv| kv["value"] == value));
    };
    for connection in &mut idle[..2] {
        whole(connection.reply(false, PATIENCE), "kvs");
    }
    // After the line that says that it is made.
    let seen = watches[0].reply_until(false, PATIENCE, |reply| reply.body.len() > 8 << 20);
    let lines = seen.text();
    let events = lines.lines().skip(1).filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let values = events.flat_map(|line| line["result"]["events"].as_array().unwrap().clone());
    assert!(values.map(|event| assert_eq!(event["kv"]["value"], value)).count() > 5);
    let deletion = post("/v3/kv/deleterange", r#"{"key":"AA==","range_end":"AA==","prev_kv":true}"#);
    whole(deletion.of(port, PATIENCE), "prev_kvs");
}

fn resident_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Anything may be sent anywhere: what fails inside fails in etcd too, and the node lives on.
#[test]
fn noise_is_refused_as_by_etcd() {
    let Some((etcd, mut vlot)) = both() else { return };
    let paths = noise::paths();
    assert!(paths.len() > 40);
    let words = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\"key\":",
        "\"name\":",
        "\"ID\":",
        "\"create_request\":{",
        "\"success\":[",
        "null",
        "true",
        "1e5",
        "-",
        "0",
        "\\u",
        "\u{fffd}",
        "\"Zm9v\"",
        " ",
        "{\"key\":",
        "\"request_put\":",
        "\"revision\":9",
    ];
    let mut seed = 5_u64;
    let mut below = |end: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % end
    };
    let begun = Instant::now();
    for path in &paths {
        for round in 0..8 {
            let noise = |below: &mut dyn FnMut(usize) -> usize| -> String {
                (0..below(24)).map(|_| words[below(words.len())]).collect()
            };
            let body = match round {
                0 => noise(&mut below),
                1 => format!("{{{}}}", noise(&mut below)),
                _ => noise::some_object(&mut below, 0),
            };
            let asked = post(path, body).with("Grpc-Timeout", "100m");
            let [theirs, ours] = [&etcd, &vlot].map(|cluster| asked.of(cluster.nodes[0].client_port, MOMENT));
            assert!(ours.status != 500 || theirs.status == 500, "{}: {}", asked.shown(), ours.text());
            assert!(ours.status != 503, "{}: {}", asked.shown(), ours.text());
        }
    }
    assert!(begun.elapsed() < 10 * PATIENCE);
    assert!(vlot.nodes[0].runs());
    assert!(vlot.nodes[0].is_healthy());
}
