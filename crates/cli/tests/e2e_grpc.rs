//! How a call is spoken: content types, encodings, deadlines, messages that are missing or broken. Each row says what comes
//! back, and is held against etcd where there is one, so that the table is etcd's.

mod support;

use std::io::{Read, Write};
use std::path::Path;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use prost::Message;
use support::Etcd;
use support::cluster::Cluster;
use support::grpc::{Client, Exchanged};
use vlot_proto::etcdserverpb::{PutRequest, RangeRequest, RangeResponse};
use vlot_proto::health::HealthCheckRequest;

const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";
const WATCH: &str = "/etcdserverpb.Watch/Watch";
const CHECK: &str = "/grpc.health.v1.Health/Check";
const GRPC: (&str, &str) = ("content-type", "application/grpc");
const GZIP: (&str, &str) = ("grpc-encoding", "gzip");
/// As much as a message may have by default.
const MESSAGE_MAX: usize = 2 << 20;

/// What is sent, and what comes back: HTTP's status, gRPC's code, and gRPC's text where clients could look at it.
struct Row {
    path: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    body: Bytes,
    http: u16,
    code: u8,
    text: Option<&'static str>,
}

fn row(
    path: &'static str,
    headers: &[(&'static str, &'static str)],
    body: Vec<u8>,
    code: u8,
    text: &'static str,
) -> Row {
    Row { path, headers: [&[GRPC], headers].concat(), body: body.into(), http: 200, code, text: Some(text) }
}

#[tokio::test]
async fn calls_are_spoken_as_with_etcd() {
    let range = || framed(0, &range().encode_to_vec());
    let timeout = |value| [("grpc-timeout", value)];
    let encoding = |value| [("grpc-encoding", value)];
    let mut rows = vec![
        row(RANGE, &[], range(), 0, ""),
        row(RANGE, &[("te", "trailers")], range(), 0, ""),
        // Messages.
        row(RANGE, &[], vec![], 2, "EOF"),
        row(RANGE, &[], range()[..6].to_vec(), 2, "unexpected EOF"),
        row(RANGE, &[], range().repeat(2), 0, ""),
        row(RANGE, &[], framed(1, b""), 13, "grpc: compressed flag set with identity or empty encoding"),
        row(RANGE, &[], framed(2, b""), 13, "grpc: received unexpected payload format 2"),
        row(
            PUT,
            &[],
            b"\0\x7f\xff\xff\xff".to_vec(),
            8,
            "grpc: received message larger than max (2147483647 vs. 2097152)",
        ),
        row(WATCH, &[], b"\0\0\0\0\x05ab".to_vec(), 13, "unexpected EOF"),
        row(
            "/grpc.health.v1.Health/Watch",
            &[],
            vec![],
            13,
            "cardinality violation: received no request message from non-client-streaming RPC",
        ),
        row(CHECK, &[], framed(0, b""), 0, ""),
        row(CHECK, &[], framed(0, &health("etcdserverpb.KV")), 5, "unknown service"),
        // Names.
        row("/etcdserverpb.KV/Nothing", &[], range(), 12, "unknown method Nothing for service etcdserverpb.KV"),
        row("/etcdserverpb.KV/", &[], range(), 12, "unknown method  for service etcdserverpb.KV"),
        row("/etcdserverpb.KV/Range?x", &[], range(), 12, "unknown method Range?x for service etcdserverpb.KV"),
        row("/etcdserverpb.KV/Range/", &[], range(), 12, "unknown service etcdserverpb.KV/Range"),
        row("/no.Such/Service", &[], range(), 12, "unknown service no.Such"),
        row("/Range", &[], range(), 12, "malformed method name: \"/Range\""),
        // Deadlines.
        row(RANGE, &timeout("5S"), range(), 0, ""),
        row(RANGE, &timeout("99999999H"), range(), 0, ""),
        row(RANGE, &timeout("0S"), range(), 4, "context deadline exceeded"),
        // Encodings.
        row(RANGE, &encoding("identity"), range(), 0, ""),
        row(RANGE, &encoding(""), range(), 0, ""),
        row(RANGE, &encoding("gzip"), range(), 0, ""),
        row(RANGE, &encoding("gzip"), gzipped(&range_bytes()), 0, ""),
        row(
            RANGE,
            &encoding("identity"),
            gzipped(&range_bytes()),
            13,
            "grpc: compressed flag set with identity or empty encoding",
        ),
        row(
            RANGE,
            &encoding("snappy"),
            range(),
            12,
            "grpc: Decompressor is not installed for grpc-encoding \"snappy\"",
        ),
        row(
            WATCH,
            &encoding("snappy"),
            range(),
            12,
            "grpc: Decompressor is not installed for grpc-encoding \"snappy\"",
        ),
        row(PUT, &[GZIP], gzipped(&put(MESSAGE_MAX - 40)), 3, "etcdserver: request is too large"),
        row(
            PUT,
            &[GZIP],
            gzipped(&put(MESSAGE_MAX)),
            8,
            "grpc: received message after decompression larger than max 2097152",
        ),
        row(
            PUT,
            &[GZIP],
            gzipped(&put(20 * MESSAGE_MAX)),
            8,
            "grpc: received message after decompression larger than max 2097152",
        ),
    ];
    // What is wrong with the bytes is said in other words.
    for bad in [&b"abcde"[..], b"", &gzip(b"message")[..10]] {
        rows.push(Row { text: None, ..row(RANGE, &[GZIP], framed(1, bad), 13, "") });
    }
    for (value, text) in [
        ("1", "malformed grpc-timeout: transport: timeout string is too short: \"1\""),
        ("1s", "malformed grpc-timeout: transport: timeout unit is not recognized: \"1s\""),
        ("-1S", "malformed grpc-timeout: strconv.ParseUint: parsing \"-1\": invalid syntax"),
        ("123456789S", "malformed grpc-timeout: transport: timeout string is too long: \"123456789S\""),
    ] {
        rows.push(Row { http: 400, ..row(RANGE, &timeout(value), range(), 13, text) });
    }
    for (content_type, text) in [
        ("application/grpc-web", "invalid gRPC request content-type \"application/grpc-web\""),
        ("application/json", "invalid gRPC request content-type \"application/json\""),
        ("", "invalid gRPC request content-type \"\""),
    ] {
        let row = row(RANGE, &[], range(), 3, text);
        rows.push(Row { headers: vec![("content-type", content_type)], http: 415, ..row });
    }
    for (name, port, _cluster) in servers() {
        let client = Client::connect(port).await;
        for row in &rows {
            let came = client.exchange("POST", row.path, &row.headers, row.body.clone()).await;
            let what = format!("{name}: {} with {:?}", row.path, row.headers);
            assert_eq!(came.http, row.http, "{what}: {came:?}");
            let (code, text) = came.status.split_once(' ').unwrap_or((&came.status, ""));
            assert_eq!(code, row.code.to_string(), "{what}: {came:?}");
            let expected = row.text.map(percent_encoded);
            assert!(expected.is_none_or(|expected| expected == text), "{what}: {came:?}");
        }
        for method in ["GET", "PUT", "HEAD"] {
            let came = client.exchange(method, RANGE, &[GRPC], Bytes::new()).await;
            let text = format!("13 Received a HEADERS frame with :method \"{method}\" which should be POST");
            assert_eq!((came.http, came.status), (405, text), "{name}");
        }
        for (content_type, answer) in [
            ("application/grpc", "application/grpc"),
            ("application/grpc+proto", "application/grpc+proto"),
            ("application/grpc;", "application/grpc"),
        ] {
            let came = client.exchange("POST", RANGE, &[("content-type", content_type)], range().into()).await;
            assert_eq!((came.status.as_str(), came.content_type.as_str()), ("0 ", answer), "{name}");
        }
    }
}

#[tokio::test]
async fn a_client_that_begins_with_gzip_is_answered_with_it() {
    for (name, port, _cluster) in servers() {
        let client = Client::connect(port).await;
        let value = vec![b'v'; 30_000];
        let stored = PutRequest { key: "key".into(), value: value.clone().into(), ..PutRequest::default() };
        let sent = gzipped(&stored.encode_to_vec());
        assert!(sent.len() < 1000);
        assert_eq!(client.exchange("POST", PUT, &[GRPC, GZIP], sent.into()).await.status, "0 ", "{name}");
        // A plain message beside the encoding is one too, whatever the client accepts.
        for (body, headers) in [
            (gzipped(&range_bytes()), vec![GRPC, GZIP]),
            (framed(0, &range_bytes()), vec![GRPC, GZIP]),
            (framed(0, &range_bytes()), vec![GRPC, GZIP, ("grpc-accept-encoding", "identity")]),
        ] {
            let came = client.exchange("POST", RANGE, &headers, body.into()).await;
            assert_eq!((came.status.as_str(), came.encoding.as_str()), ("0 ", "gzip"), "{name}");
            assert!(came.body.len() < 1000, "{name}: not compressed");
            assert_eq!(values(&came), [value.as_slice()], "{name}");
        }
        // One who does not begin with it gets none, whatever it accepts.
        let headers = [GRPC, ("grpc-accept-encoding", "gzip")];
        let came = client.exchange("POST", RANGE, &headers, framed(0, &range_bytes()).into()).await;
        assert_eq!((came.encoding.as_str(), values(&came)), ("", vec![value]), "{name}");
        // A long reply arrives either way.
        let long = vec![7; 1_000_000];
        let stored = PutRequest { key: "key".into(), value: long.clone().into(), ..PutRequest::default() };
        let sent = gzipped(&stored.encode_to_vec());
        assert_eq!(client.exchange("POST", PUT, &[GRPC, GZIP], sent.into()).await.status, "0 ", "{name}");
        let came = client.exchange("POST", RANGE, &[GRPC, GZIP], gzipped(&range_bytes()).into()).await;
        assert_eq!((came.status.as_str(), values(&came)), ("0 ", vec![long]), "{name}");
    }
}

/// Ours, and etcd if there is one: name, client port, and what ends with the test.
fn servers() -> Vec<(&'static str, u16, Cluster)> {
    let vlot = Some(("vlot", Cluster::vlot(1, Path::new("no client"))));
    let etcd = Etcd::find().map(|Etcd { server, ctl }| ("etcd", Cluster::etcd(1, &server, &ctl)));
    vlot.into_iter().chain(etcd).map(|(name, cluster)| (name, cluster.nodes[0].client_port, cluster)).collect()
}

/// The values of a range's reply, which may be compressed.
fn values(came: &Exchanged) -> Vec<Vec<u8>> {
    let (prefix, message) = came.body.split_at(5);
    let mut plain = Vec::new();
    match prefix[0] {
        1 => drop(GzDecoder::new(message).read_to_end(&mut plain).unwrap()),
        _ => plain.extend_from_slice(message),
    }
    let response = RangeResponse::decode(&plain[..]).unwrap();
    response.kvs.into_iter().map(|kv| kv.value.to_vec()).collect()
}

fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
    [&[flag], &(message.len() as u32).to_be_bytes()[..], message].concat()
}

fn gzip(message: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(message).unwrap();
    encoder.finish().unwrap()
}

fn gzipped(message: &[u8]) -> Vec<u8> {
    framed(1, &gzip(message))
}

fn range() -> RangeRequest {
    RangeRequest { key: "key".into(), ..RangeRequest::default() }
}

fn range_bytes() -> Vec<u8> {
    range().encode_to_vec()
}

fn put(length: usize) -> Vec<u8> {
    PutRequest { key: "key".into(), value: vec![0; length].into(), ..PutRequest::default() }.encode_to_vec()
}

fn health(service: &str) -> Vec<u8> {
    HealthCheckRequest { service: service.into() }.encode_to_vec()
}

/// As texts travel; these are printable, but for the percent sign that none of them has.
fn percent_encoded(text: &str) -> String {
    text.replace('%', "%25")
}
