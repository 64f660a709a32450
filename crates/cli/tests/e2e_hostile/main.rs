//! Clients that mean harm, each on a real server: an honest client at another address gets on, memory and descriptors stay
//! within bounds, and who did it is stopped for a reason that is named to it and counted.
//!
//! `VLOT_HOSTILE_FULL=1` makes the long ones as long as the promise; `--nocapture` shows the figures.

mod fairness;
mod floods;
#[path = "../support/mod.rs"]
mod support;
mod victim;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use floods::{FLOODS, flood, head_with};
use prost::Message;
use support::cluster::PATIENCE;
use support::frames::{CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, WINDOW_UPDATE, authority, named};
use support::grpc::Client;
use support::http::{Connection, exchange};
use victim::Victim;
use vlot_proto::etcdserverpb::watch_request::RequestUnion;
use vlot_proto::etcdserverpb::*;

const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";
const TXN: &str = "/etcdserverpb.KV/Txn";
const WATCH: &str = "/etcdserverpb.Watch/Watch";
const STARTED_RANGES: &str =
    r#"grpc_server_started_total{grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"}"#;
const SNAPSHOT: &str = "/etcdserverpb.Maintenance/Snapshot";
/// What a server says of a client that may cause excessive load (RFC 9113 §7).
const ENHANCE_YOUR_CALM: u32 = 0xb;
const INITIAL_WINDOW_SIZE: u16 = 4;
const TOO_MANY: &str = "8 etcdserver: too many requests";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const EMPTY_SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

fn is_full_size() -> bool {
    std::env::var_os("VLOT_HOSTILE_FULL").is_some()
}

#[test]
fn floods_of_frames_end_their_connection_by_name() {
    let victim = Victim::new(&[]);
    for (name, reason, wave) in FLOODS {
        let said = victim.withstands(name, 150, |victim| flood(victim.port(), wave));
        assert_eq!(said, (ENHANCE_YOUR_CALM, reason.to_owned()), "{name}");
        // What the HTTP/2 layer itself has had enough of has one name.
        let of_layer = ["too_many_continuations", "header_list_way_too_large"].contains(&reason);
        let counted = if of_layer { "enhance_your_calm" } else { reason };
        victim.has_stopped(counted, 1);
        assert!(victim.log().contains(counted), "{name}: the log says so");
    }
    assert!(victim.metric("vlot_client_pauses_total") > 100, "who floods is slowed before it is stopped");
    // Of more than 32,000 calls that were taken back few were begun.
    let begun = victim.metric(STARTED_RANGES);
    assert!(begun < 10_000, "{begun} calls were begun");
    victim.recovers();
}

#[test]
fn headers_that_are_too_large_are_refused_and_no_more() {
    let victim = Victim::new(&[]);
    victim.withstands("one huge header, and many small ones", 100, |victim| {
        for fields in [vec![vec![named("x", &"y".repeat(100)); 150].concat(); 1], vec![named("x", "y"); 2000]] {
            let mut frames = Frames::connect(victim.port(), &[]);
            let stream = head_with(&mut frames, &fields, 0);
            for last in [0, 0, 0, 0, 0, 0, 0, END_HEADERS] {
                frames.frame(CONTINUATION, last, stream, &fields.concat());
            }
            frames.flush();
            let is_refused = |frames: &Frames| {
                frames.ended || frames.come.iter().any(|frame| frame.stream == stream || frame.stream == 0)
            };
            let begun = Instant::now();
            while !is_refused(&frames) && begun.elapsed() < PATIENCE {
                frames.until(Duration::from_millis(50), |_| false);
            }
            assert!(is_refused(&frames), "{:?}", frames.come);
        }
        let long = format!("GET /version HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "y".repeat(200_000));
        let reply = exchange(victim.port(), long.as_bytes(), PATIENCE).unwrap();
        assert!(reply.is_empty() || reply.starts_with(b"HTTP/1.1 431"), "{:?}", String::from_utf8_lossy(&reply));
    });
    victim.has_stopped("bad_http1", 1);
    victim.recovers();
}

#[test]
fn who_does_not_come_to_the_point_is_closed_in_time() {
    const EACH: usize = 50;
    let victim = Victim::new(&[]);
    let port = victim.port();
    victim.withstands("half-open connections", 60, |_| {
        let rows: [(&[u8], &[u8]); 4] = [
            (b"PRI * HT", b""),
            (PREFACE, b""),
            (b"GET /health HTTP/1.1\r\nHost: h\r\n", b"X: y\r\n"),
            (&[PREFACE, b"\0\0"].concat(), b""),
        ];
        let mut connections: Vec<(TcpStream, &[u8])> = rows
            .iter()
            .flat_map(|(first, more)| (0..EACH).map(move |_| (*first, *more)))
            .map(|(first, more)| {
                let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
                stream.write_all(first).unwrap();
                (stream, more)
            })
            .collect();
        // Those with a slow head go on with it.
        for _ in 0..12 {
            thread::sleep(Duration::from_secs(1));
            for (stream, more) in &mut connections {
                let _ = stream.write_all(more);
            }
        }
        for (stream, _) in &mut connections {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut rest = Vec::new();
            let closed = stream.read_to_end(&mut rest).err().map(|error| error.kind());
            // What is reset is closed too.
            assert!(matches!(closed, None | Some(ErrorKind::ConnectionReset)), "not closed: {closed:?}");
        }
    });
    victim.has_stopped("no_protocol", EACH as u64);
    victim.has_stopped("no_settings", 2 * EACH as u64);
    victim.has_stopped("slow_head", EACH as u64);
    victim.recovers();
}

#[test]
fn idle_connections_cost_little_each() {
    let victim = Victim::new(&[]);
    // Each is a descriptor of this process as well.
    let own = descriptors_max() / 2;
    let count = if is_full_size() { own.min(10_000) } else { own.min(3_000) };
    let port = victim.port();
    let bytes_max = (count as u64 * 40) >> 10;
    victim.withstands(&format!("{count} idle connections"), 30 + bytes_max, |_| {
        let idle: Vec<TcpStream> = (0..count)
            .map(|_| {
                let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
                stream.write_all(&[PREFACE, EMPTY_SETTINGS].concat()).unwrap();
                stream
            })
            .collect();
        thread::sleep(Duration::from_secs(1));
        eprintln!("{} KiB for each", (victim.grown_bytes() >> 10) / count as u64);
        drop(idle);
    });
    victim.recovers();
}

#[test]
fn an_address_has_so_many_connections_and_others_have_theirs() {
    const MAX: usize = 50;
    let victim = Victim::new(&[("max-connections-per-address", "50")]);
    let port = victim.port();
    victim.withstands("connections beyond the limit", 30, |_| {
        let mut connections: Vec<TcpStream> = (0..3 * MAX)
            .map(|_| {
                let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
                let _ = stream.write_all(&[PREFACE, EMPTY_SETTINGS].concat());
                stream
            })
            .collect();
        let served = connections.iter_mut().filter_map(|stream| {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.read(&mut [0; 9]).ok().filter(|read| *read > 0)
        });
        assert_eq!(served.count(), MAX);
    });
    victim.has_stopped("too_many_connections_per_address", 2 * MAX as u64);
    victim.recovers();
}

#[test]
fn an_address_has_so_many_calls_however_they_are_half_closed() {
    const MAX: usize = 2000;
    let victim = Victim::new(&[("max-streams-per-address", "2000")]);
    victim.withstands("half-closed streams", 100, |victim| {
        let mut frames = Frames::connect(victim.port(), &[]);
        // Some never send their message, others never end.
        let streams: Vec<u32> = (0..2 * MAX)
            .map(|n| if n % 2 == 0 { frames.head(RANGE, &authority(0x01, "h")) } else { frames.head(WATCH, &[]) })
            .collect();
        frames.flush();
        frames.until(PATIENCE, |come| come.iter().filter(|frame| frame.flags & END_STREAM != 0).count() >= MAX);
        let refused = frames.come.iter().filter(|frame| frame.kind == HEADERS && frame.flags & END_STREAM != 0);
        assert_eq!(refused.count(), MAX, "of {}", streams.len());
    });
    victim.has_stopped("too_many_streams_per_address", MAX as u64);
    victim.recovers();
}

#[test]
fn calls_one_after_the_other_leave_nothing() {
    let count = if is_full_size() { 1_000_000 } else { 60_000 };
    let victim = Victim::new(&[]);
    victim.withstands(&format!("{count} calls one after the other"), 120, |victim| {
        let mut frames = Frames::connect(victim.port(), &[(INITIAL_WINDOW_SIZE, 1 << 30)]);
        frames.frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes());
        let range = RangeRequest { key: "honest".into(), serializable: true, ..RangeRequest::default() };
        for _ in 0..count / 200 {
            let streams: Vec<u32> = (0..200).map(|_| frames.call(RANGE, &range)).collect();
            frames.flush();
            let last = *streams.last().unwrap();
            assert!(frames.is_answered(last, PATIENCE), "{:?}", frames.come.last());
            frames.come.clear();
        }
    });
    victim.recovers();
}

#[test]
fn answers_that_nobody_takes_are_bounded() {
    let victim = Victim::new(&[("max-pending-bytes-per-address", "33554432")]);
    let port = victim.port();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::connect(port).await;
        for (key, bytes) in [("short", 60_000), ("long", 1_000_000)] {
            let put = PutRequest { key: key.into(), value: vec![b'v'; bytes].into(), ..PutRequest::default() };
            client.call::<PutResponse>(PUT, &put).await.unwrap();
        }
    });
    for key in ["short", "long"] {
        victim.withstands(&format!("{key} answers that nobody takes"), 120, |victim| {
            let mut frames = Frames::connect(victim.port(), &[(INITIAL_WINDOW_SIZE, 0)]);
            let range = RangeRequest { key: key.into(), ..RangeRequest::default() };
            for _ in 0..30 {
                (0..100).for_each(|_| _ = frames.call(RANGE, &range));
                frames.flush();
                frames.until(Duration::from_millis(50), |_| false);
            }
            let refused = |frames: &Frames| {
                let ended = frames.come.iter().filter(|frame| frame.flags & END_STREAM != 0);
                ended.filter(|frame| frame.kind == HEADERS).count()
            };
            // Of a long one nothing is made that nobody takes.
            if key == "long" {
                return assert_eq!(refused(&frames), 0);
            }
            support::eventually("a call is refused", PATIENCE, || {
                frames.call(RANGE, &range);
                frames.flush();
                frames.until(Duration::from_millis(100), |_| false);
                refused(&frames) > 0
            });
        });
    }
    victim.has_stopped("too_many_pending_bytes_per_address", 1);
    victim.recovers();
}

#[test]
fn watches_that_nobody_reads_are_bounded() {
    // Each stream may hold two batches of some hundred KiB: 500 of them more than this.
    let victim = Victim::new(&[("max-pending-bytes-per-address", "67108864")]);
    victim.withstands("watches that nobody reads", 150, |victim| {
        let mut frames = Frames::connect(victim.port(), &[(INITIAL_WINDOW_SIZE, 0)]);
        for _ in 0..500 {
            frames.call(WATCH, &watch_of("watched".into()));
        }
        frames.flush();
        let mut other = Frames::connect_wide(victim.port(), &[]);
        let value = Bytes::from(vec![b'v'; 100_000]);
        for _ in 0..100 {
            let put = PutRequest { key: "watched".into(), value: value.clone(), ..PutRequest::default() };
            let bytes = put.encode_to_vec();
            let stream = other.head(PUT, &authority(0x01, "h"));
            let message = [&[0], &(bytes.len() as u32).to_be_bytes()[..], &bytes].concat();
            other.bytes(stream, &message, 0);
            other.frame(DATA, END_STREAM, stream, b"");
            other.flush();
            // Once its address has too much pending, it is refused what it asks.
            if !other.is_answered(stream, PATIENCE) {
                break;
            }
        }
    });
    victim.has_stopped("too_many_pending_bytes_per_address", 1);
    victim.recovers();
}

#[test]
fn keys_of_watches_are_bounded() {
    let victim = Victim::new(&[("max-pending-bytes-per-address", "67108864"), ("max-watches-per-address", "5000")]);
    victim.withstands("watches with giant keys", 250, |victim| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = Client::connect(victim.port()).await;
            for (key, watches) in [(vec![b'k'; 1_000_000], 1000), (b"k".to_vec(), 6000)] {
                let mut conversation = client.converse(WATCH).await.unwrap();
                let mut made = 0;
                let status = loop {
                    if made < watches {
                        conversation.send(&watch_of(key.clone()));
                    }
                    match conversation.messages.next::<WatchResponse>().await {
                        Ok(Some(_)) => made += 1,
                        other => break other.err(),
                    }
                };
                assert_eq!(status.as_deref(), Some(TOO_MANY));
                eprintln!("{made} watches with keys of {} bytes", key.len());
                assert!(made > 10 && made <= 5000);
            }
        });
    });
    victim.has_stopped("too_many_watches_per_address", 1);
    victim.has_stopped("too_many_pending_bytes_per_address", 1);
    victim.recovers();
}

#[test]
fn what_is_sent_to_who_does_not_read_it_is_bounded() {
    const CONNECTIONS: usize = 12;
    let victim = Victim::new(&[("max-pending-bytes-per-address", "100663296")]);
    victim.withstands("requests that nobody reads", 300, |victim| {
        // A snapshot has one request, and its client takes nothing of it. On each connection a window's worth: 32 MiB.
        let mut said = Vec::new();
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut frames = Frames::connect_wide(victim.port(), &[(INITIAL_WINDOW_SIZE, 0)]);
            for _ in 0..33 {
                let stream = frames.head(SNAPSHOT, &authority(0x01, "h"));
                frames.message(stream, &SnapshotRequest {}, 0);
                frames.bytes(stream, &vec![0; 1_000_000], 0);
                frames.flush();
                frames.until(Duration::from_millis(1), |_| false);
            }
            frames.until(Duration::from_millis(200), |_| false);
            said.extend(frames.goaway());
            connections.push(frames);
        }
        let expected = (ENHANCE_YOUR_CALM, "too_many_pending_bytes_per_address".to_owned());
        assert!(said.contains(&expected), "{said:?}");
    });
    victim.has_stopped("too_many_pending_bytes_per_address", 1);
    victim.recovers();
}

#[test]
fn huge_and_deep_messages_are_refused() {
    let victim = Victim::new(&[]);
    let port = victim.port();
    // A hundred bombs at once would be two hundred: one after the other becomes as long as the longest message.
    victim.withstands("huge and deep messages", 100, |_| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = Client::connect(port).await;
            let headers = [("content-type", "application/grpc"), ("te", "trailers")];
            let gzip = [headers[0], headers[1], ("grpc-encoding", "gzip")];
            let prefixed = |flag: u8, bytes: &[u8]| -> Bytes {
                [&[flag], &(bytes.len() as u32).to_be_bytes()[..], bytes].concat().into()
            };
            let bomb = prefixed(1, &gzipped(&vec![0; 50 << 20]));
            let rows: [(&str, &[_], Bytes, &str); 6] = [
                (RANGE, &headers, Bytes::from_static(b"\0\xff\xff\xff\xffabc"), "8 "),
                (PUT, &headers, prefixed(0, &vec![0; 3 << 20]), "8 "),
                (TXN, &headers, prefixed(0, &deep_txn(10_000)), "3 "),
                (TXN, &headers, prefixed(0, &deep_txn(200)), "3 "),
                (PUT, &gzip, bomb.clone(), "8 "),
                (PUT, &gzip, prefixed(1, b"no gzip"), "13 "),
            ];
            for (path, headers, body, status) in rows {
                let length = body.len();
                let answer = client.exchange("POST", path, headers, body).await;
                assert!(answer.status.starts_with(status), "{path} {length}: {:?}", answer.status);
            }
            // Many at once, which must not hold up others.
            let bombs: Vec<_> = (0..100)
                .map(|_| {
                    let (client, bomb) = (client.clone(), bomb.clone());
                    tokio::spawn(async move { client.exchange("POST", PUT, &gzip, bomb).await.status })
                })
                .collect();
            for bomb in bombs {
                assert!(bomb.await.unwrap().starts_with("8 "));
            }
        });
        for (body, status) in [
            ("[".repeat(100_000), 400),
            (format!("{{\"success\":{}", "[{\"requestTxn\":{\"success\":".repeat(5_000)), 400),
            (format!("{{\"key\":\"{}\"}}", "A".repeat(20 << 20)), 429),
        ] {
            let mut connection = Connection::open(port);
            connection.send(&support::http::request("POST", "/v3/kv/txn", &[], body.as_bytes()));
            let reply = connection.reply(false, PATIENCE);
            assert_eq!(reply.status, status, "{}", reply.text());
        }
    });
    victim.recovers();
}

#[test]
fn bodies_without_end_are_cut_off() {
    let victim = Victim::new(&[]);
    victim.withstands("a gateway body without end", 100, |victim| {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, victim.port())).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
            .write_all(b"POST /v3/kv/put HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{\"key\":\"\r\n")
            .unwrap();
        let chunk = [b"10000\r\n", &vec![b'A'; 65_536][..], b"\r\n"].concat();
        let mut sent = 0_usize;
        while sent < 200 << 20 && stream.write_all(&chunk).is_ok() {
            sent += chunk.len();
        }
        assert!(sent < 100 << 20, "{sent} bytes were taken");
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        let reply = String::from_utf8_lossy(&reply);
        // A reset may have overtaken it.
        assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 429"), "{reply}");
    });
    victim.recovers();
}

/// The slow ones share their wait.
#[test]
fn what_takes_for_ever_is_ended() {
    let victim = Victim::new(&[]);
    let port = victim.port();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = Client::connect(port).await;
        for n in 0..40 {
            let put = PutRequest {
                key: format!("k{n}").into(),
                value: vec![b'v'; 1_000_000].into(),
                ..PutRequest::default()
            };
            client.call::<PutResponse>(PUT, &put).await.unwrap();
        }
    });
    victim.withstands("slow messages and slow readers", 200, |_| {
        let mut frames = Frames::connect(port, &[(INITIAL_WINDOW_SIZE, 0)]);
        // A unary call whose message does not come, and a stream with half of one.
        let unary = frames.head(RANGE, &authority(0x01, "h"));
        frames.bytes(unary, b"\0\0\0\x10\0half", 0);
        let watch = frames.head(WATCH, &authority(0x01, "h"));
        frames.bytes(watch, b"\0\0\0\x10\0half", 0);
        // Answers that nobody takes: they hold the store's past, and a place among those that save snapshots.
        let all = RangeRequest { key: "k".into(), range_end: "l".into(), ..RangeRequest::default() };
        (0..10).for_each(|_| _ = frames.call(RANGE, &all));
        (0..9).for_each(|_| _ = frames.call(SNAPSHOT, &SnapshotRequest {}));
        frames.flush();
        // One address does not take the places of all.
        frames.until(Duration::from_secs(1), |_| false);
        runtime.block_on(begins_snapshot(port));
        let mut gateway = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        gateway.write_all(b"POST /v3/kv/range HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n{").unwrap();
        gateway.set_read_timeout(Some(5 * PATIENCE)).unwrap();
        let begun = Instant::now();
        let mut sent_at = Instant::now();
        let is_ended = |frames: &Frames, stream: u32| {
            frames.come.iter().any(|frame| frame.stream == stream && frame.flags & END_STREAM != 0)
        };
        while !(is_ended(&frames, unary) && is_ended(&frames, watch)) {
            assert!(begun.elapsed() < 4 * PATIENCE, "{:?}", frames.come);
            frames.until(Duration::from_millis(200), |_| false);
            // A little comes now and then.
            if sent_at.elapsed() > Duration::from_secs(5) {
                frames.bytes(unary, b"x", 0);
                frames.bytes(watch, b"x", 0);
                frames.flush();
                let _ = gateway.write_all(b" ");
                sent_at = Instant::now();
            }
        }
        let mut reply = Vec::new();
        let _ = gateway.read_to_end(&mut reply);
        let reply = String::from_utf8_lossy(&reply);
        assert!(reply.starts_with("HTTP/1.1 504"), "{reply}");
        victim.has_stopped("slow_message", 3);
        victim.has_stopped("slow_reader", 4);
    });
    victim.recovers();
}

/// An honest client gets the beginning of a snapshot.
async fn begins_snapshot(port: u16) {
    let client = Client::connect_from(victim::HONEST, port).await;
    let mut pieces = client.messages(SNAPSHOT, &SnapshotRequest {}).await.unwrap();
    let first = tokio::time::timeout(PATIENCE, pieces.next::<SnapshotResponse>()).await;
    assert!(first.expect("a snapshot is begun").unwrap().is_some());
}

fn watch_of(key: Vec<u8>) -> WatchRequest {
    let create = WatchCreateRequest { key: key.into(), ..WatchCreateRequest::default() };
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// So many transactions, each in the other.
fn deep_txn(depth: usize) -> Vec<u8> {
    let mut bytes = TxnRequest { success: vec![RequestOp { request: None }], ..TxnRequest::default() }.encode_to_vec();
    for _ in 0..depth {
        // The field `request_txn` of an operation, and the field `success` of a transaction.
        for tag in [0x22, 0x12] {
            let mut around = vec![tag];
            prost::encoding::encode_varint(bytes.len() as u64, &mut around);
            around.extend_from_slice(&bytes);
            bytes = around;
        }
    }
    bytes
}

/// How many descriptors this process may have.
fn descriptors_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(3).unwrap().parse().unwrap_or(1024)
}
