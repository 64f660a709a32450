//! What clients send over HTTP/2 beside what their calls ask: odd names of the server, calls taken back by the thousand,
//! streams that nobody reads. None of it costs a client more than the call that it belongs to, nor anybody else.

mod support;

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::cluster::{Cluster, PATIENCE};
use support::frames::{DATA, END_STREAM, Frames, authority, messages};
use support::grpc::Client;
use vlot_proto::etcdserverpb::watch_request::RequestUnion;
use vlot_proto::etcdserverpb::{PutRequest, PutResponse, RangeRequest, WatchCreateRequest, WatchRequest};

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const WATCH: &str = "/etcdserverpb.Watch/Watch";
const MOMENT: Duration = Duration::from_millis(500);
/// Names of the setting that bounds what may be sent on a stream (RFC 9113 §6.5.2).
const INITIAL_WINDOW_SIZE: u16 = 4;

#[test]
fn a_call_is_served_whatever_it_calls_the_server() {
    let cluster = Cluster::vlot(1, Path::new("no client"));
    let port = cluster.nodes[0].client_port;
    let names = [
        "127.0.0.1:2379",
        "http://127.0.0.1:2379",
        "#initially=[127.0.0.1:2379]",
        "#initially=[http://127.0.0.1:2379;http://127.0.0.1:2380]",
        "etcd-endpoints://0xc000123/127.0.0.1:2379",
        "/var/run/etcd.sock",
        "%2Fvar%2Frun%2Fetcd.sock",
        "a b",
        "\u{e9}",
        "",
        "[::1]:2379",
        "user@host",
    ];
    for name in names {
        let mut frames = Frames::connect(port, &[]);
        // Spelled out and remembered; by its place in the client's table; with others; not remembered; and not at all.
        for field in
            [authority(0x41, name), vec![0xbe], authority(0x41, "x://y"), vec![0xbf], authority(0x01, name), vec![]]
        {
            let stream = frames.head(RANGE, &field);
            frames.message(stream, &range(), END_STREAM);
            frames.flush();
            assert!(frames.is_answered(stream, PATIENCE), "{name:?} as {field:x?}: {:?}", frames.come.last());
        }
    }
}

#[test]
fn calls_that_are_taken_back_cost_their_connection_nothing() {
    let cluster = Cluster::vlot(1, Path::new("no client"));
    let mut frames = Frames::connect(cluster.nodes[0].client_port, &[]);
    // Some are answered before they are taken back, and what they bring is never read.
    frames.frame(support::frames::WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes());
    let watch = watched(&mut frames);
    for path in [RANGE, WATCH, PUT] {
        for _ in 0..3000 {
            let stream = frames.call(path, &range());
            frames.reset(stream);
        }
        frames.flush();
        assert!(frames.stands_for(MOMENT), "{path}: {:?}", frames.come.last());
    }
    // Those that were begun, and then time out together at a client that was not running meanwhile.
    let begun: Vec<u32> = (0..3000).map(|_| frames.call(WATCH, &create())).collect();
    frames.flush();
    begun.into_iter().for_each(|stream| frames.reset(stream));
    frames.flush();
    assert!(frames.stands_for(MOMENT), "{:?}", frames.come.last());
    let put = frames.call(PUT, &put());
    frames.flush();
    assert!(frames.is_answered(put, PATIENCE));
    let heard = frames.messages(watch);
    assert!(heard >= 2 || frames.until(PATIENCE, |come| messages(come, watch) >= 2), "the watch has heard nothing");
}

#[test]
fn a_flood_of_calls_that_are_taken_back_holds_nobody_up() {
    const FLOOD: Duration = Duration::from_secs(4);
    let cluster = Cluster::vlot(1, Path::new("no client"));
    let node = &cluster.nodes[0];
    let before = memory(node.process_id());
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut frames = Frames::connect(node.client_port, &[]);
            let begun = Instant::now();
            while begun.elapsed() < FLOOD && !frames.ended {
                for _ in 0..1000 {
                    let stream = frames.call(RANGE, &range());
                    frames.reset(stream);
                }
                frames.flush();
                frames.until(Duration::from_millis(1), |_| false);
                // What it was answered is not looked at.
                frames.come.clear();
            }
            over.store(true, Ordering::Relaxed);
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let client = Client::connect(node.client_port).await;
            let mut slowest = Duration::ZERO;
            let mut puts = 0;
            while !over.load(Ordering::Relaxed) {
                let begun = Instant::now();
                client.call::<PutResponse>(PUT, &put()).await.unwrap();
                slowest = slowest.max(begun.elapsed());
                puts += 1;
            }
            eprintln!("{puts} puts beside the flood, the slowest in {slowest:?}");
            assert!(slowest < PATIENCE / 2, "a put took {slowest:?}");
        });
    });
    let after = memory(node.process_id());
    assert!(after < before + (100 << 20), "{before} bytes before, {after} after");
}

#[test]
fn watches_may_be_asked_for_before_any_reply_is_read() {
    const WATCHES: usize = 10_000;
    let cluster = Cluster::vlot(1, Path::new("no client"));
    // Nothing may be sent on a stream until the client says so.
    let mut frames = Frames::connect(cluster.nodes[0].client_port, &[(INITIAL_WINDOW_SIZE, 0)]);
    let stream = frames.head(WATCH, &authority(0x01, "localhost"));
    for _ in 0..WATCHES {
        frames.message(stream, &create(), 0);
        // Each in a packet of its own, more or less.
        frames.flush();
    }
    assert!(frames.stands_for(MOMENT), "{:?}", frames.come.last());
    frames.frame(support::frames::WINDOW_UPDATE, 0, stream, &(1_u32 << 30).to_be_bytes());
    frames.frame(support::frames::WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes());
    frames.flush();
    frames.until(3 * PATIENCE, |come| messages(come, stream) >= WATCHES);
    assert_eq!(frames.messages(stream), WATCHES);
}

#[test]
fn frames_without_content_are_no_offence() {
    let cluster = Cluster::vlot(1, Path::new("no client"));
    let mut frames = Frames::connect(cluster.nodes[0].client_port, &[]);
    let stream = frames.head(RANGE, &authority(0x41, "localhost"));
    for _ in 0..5000 {
        frames.frame(DATA, 0, stream, b"");
    }
    frames.message(stream, &range(), 0);
    frames.frame(DATA, END_STREAM, stream, b"");
    frames.flush();
    assert!(frames.is_answered(stream, PATIENCE), "{:?}", frames.come.last());
}

#[test]
fn a_watch_goes_on_behind_the_last_request() {
    let cluster = Cluster::vlot(1, Path::new("no client"));
    let port = cluster.nodes[0].client_port;
    let mut frames = Frames::connect(port, &[]);
    let watch = frames.call(WATCH, &create());
    frames.flush();
    for heard in 1..4 {
        assert!(frames.until(PATIENCE, |come| messages(come, watch) == heard), "{:?}", frames.come);
        assert!(frames.come.iter().all(|frame| frame.flags & END_STREAM == 0), "it has ended: {:?}", frames.come);
        let mut other = Frames::connect(port, &[]);
        let put = other.call(PUT, &put());
        other.flush();
        assert!(other.is_answered(put, PATIENCE));
    }
    // Taken back, it ends at the server too.
    let watching = || metric(port, "etcd_debugging_mvcc_watch_stream_total");
    let before = watching();
    frames.reset(watch);
    frames.flush();
    if before.is_some() {
        support::eventually("the watch ends", PATIENCE, || watching() < before);
    }
}

#[test]
fn connections_that_say_half_a_word_cost_nothing_and_end() {
    const CONNECTIONS: usize = 300;
    let cluster = Cluster::vlot(1, Path::new("no client"));
    let node = &cluster.nodes[0];
    let idle = cpu_over(Duration::from_secs(2), node.process_id());
    let mut connections: Vec<TcpStream> = (0..CONNECTIONS)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", node.client_port)).unwrap();
            stream.write_all(b"PRI").unwrap();
            stream
        })
        .collect();
    thread::sleep(MOMENT);
    let busy = cpu_over(Duration::from_secs(2), node.process_id());
    assert!(busy < idle + Duration::from_millis(300), "{idle:?} without them, {busy:?} with them");
    // They are closed after ten seconds.
    for stream in &mut connections {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let end = std::io::Read::read(stream, &mut [0; 1]).unwrap_or_else(|error| panic!("not closed: {error}"));
        assert_eq!(end, 0);
    }
    cluster.ready();
}

/// A watch on a connection, once it is made. Returns its stream.
fn watched(frames: &mut Frames) -> u32 {
    let stream = frames.head(WATCH, &authority(0x41, "localhost"));
    frames.message(stream, &create(), 0);
    frames.flush();
    assert!(frames.until(PATIENCE, |come| messages(come, stream) == 1));
    stream
}

fn range() -> RangeRequest {
    RangeRequest { key: "key".into(), ..RangeRequest::default() }
}

fn put() -> PutRequest {
    PutRequest { key: "key".into(), value: "value".into(), ..PutRequest::default() }
}

fn create() -> WatchRequest {
    let create = WatchCreateRequest { key: "key".into(), ..WatchCreateRequest::default() };
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}

/// Bytes of memory that a process takes.
fn memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// How much of the processors a process takes over some time.
fn cpu_over(time: Duration, process: u32) -> Duration {
    let taken = || {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
        // Behind the name, which may hold anything: user and system time, in hundredths of a second.
        let behind = stat.rsplit_once(')').unwrap().1.split_whitespace();
        behind.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum::<u64>()
    };
    let before = taken();
    thread::sleep(time);
    Duration::from_millis((taken() - before) * 10)
}

fn metric(port: u16, name: &str) -> Option<u64> {
    let metrics = support::http::fetch(port, "/metrics")?;
    metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}
