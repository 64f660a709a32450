//! What is said on streams of watches, by etcd and by us, in the same conversations.
//!
//! A round is a few acts of clients and writers on both servers, then silence until everything has come. What is compared
//! is, for each watch of each stream, everything it was told: whether it was made, the events with all their fields, how
//! it ended, progress, and the revisions of the headers. How events are spread over responses is each server's own.

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use support::Etcd;
use support::cluster::Cluster;
use support::dice::Dice;
use support::grpc::{Client, Conversation};
use vlot_proto::etcdserverpb::request_op::Request;
use vlot_proto::etcdserverpb::watch_request::RequestUnion;
use vlot_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest, TxnResponse, WatchCancelRequest,
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use vlot_proto::mvccpb::Event;

const WATCH: &str = "/etcdserverpb.Watch/Watch";
const TXN: &str = "/etcdserverpb.KV/Txn";
const COMPACT: &str = "/etcdserverpb.KV/Compact";

/// etcd looks after watches that are behind ten times a second.
const SILENCE: Duration = Duration::from_millis(350);
/// How long is looked whether a stream has something.
const GLANCE: Duration = Duration::from_millis(1);

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// What a client or a writer does.
#[derive(Clone, Debug)]
enum Act {
    Create(WatchCreateRequest),
    Cancel(i64),
    Progress,
    /// A message that asks for nothing.
    Nothing,
    /// The client says that it will not ask any more.
    Finish,
    Change(TxnRequest),
    Compact(i64),
}

/// A server, and the streams that are open to it.
struct Side {
    client: Client,
    streams: Vec<Conversation>,
    revision: i64,
    /// All responses that have come and are not compared yet.
    told: Vec<Vec<WatchResponse>>,
}

impl Side {
    async fn of(cluster: &Cluster, streams: usize) -> Side {
        let client = Client::connect(cluster.nodes[0].client_port).await;
        let mut side = Side { client, streams: Vec::new(), revision: 1, told: vec![Vec::new(); streams] };
        for _ in 0..streams {
            side.streams.push(side.client.converse(WATCH).await.unwrap());
        }
        side
    }

    async fn act(&mut self, stream: usize, act: &Act) {
        let request = match act {
            Act::Create(create) => Some(RequestUnion::CreateRequest(create.clone())),
            Act::Cancel(watch_id) => Some(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: *watch_id })),
            Act::Progress => Some(RequestUnion::ProgressRequest(WatchProgressRequest {})),
            Act::Nothing => None,
            Act::Finish => return self.streams[stream].finish(),
            Act::Change(txn) => {
                let reply: TxnResponse = self.client.call(TXN, txn).await.unwrap();
                self.revision = reply.header.unwrap().revision;
                return;
            }
            Act::Compact(revision) => {
                let request = CompactionRequest { revision: *revision, physical: true };
                self.client.call::<vlot_proto::etcdserverpb::CompactionResponse>(COMPACT, &request).await.unwrap();
                return;
            }
        };
        self.streams[stream].send(&WatchRequest { request_union: request });
    }

    /// Waits until nothing more comes on any stream.
    async fn listen(&mut self) {
        let mut last = Instant::now();
        while last.elapsed() < SILENCE {
            for (conversation, told) in self.streams.iter_mut().zip(&mut self.told) {
                while let Ok(reply) = tokio::time::timeout(GLANCE, conversation.messages.next()).await {
                    told.push(reply.unwrap().expect("the stream goes on"));
                    last = Instant::now();
                }
            }
        }
    }

    fn take(&mut self, stream: usize) -> Told {
        let mut told = Told::new();
        for response in std::mem::take(&mut self.told[stream]) {
            told.entry(response.watch_id).or_default().take_in(response);
        }
        told
    }
}

type Told = BTreeMap<i64, OfWatch>;

/// What one watch was told in a round.
#[derive(Debug, Default, PartialEq)]
struct OfWatch {
    /// Everything but events, and where in them it came.
    said: Vec<(usize, WatchResponse)>,
    events: Vec<Event>,
    /// The header of the last response with events.
    upto: i64,
}

impl OfWatch {
    fn take_in(&mut self, mut response: WatchResponse) {
        let header = response.header.as_mut().expect("each response has a header");
        (header.cluster_id, header.member_id, header.raft_term) = (0, 0, 0);
        if response.events.is_empty() {
            return self.said.push((self.events.len(), response));
        }
        assert!(!response.canceled && !response.created && !response.fragment);
        self.upto = header.revision;
        self.events.append(&mut response.events);
    }
}

impl OfWatch {
    /// etcd forgets with the cancellation of a watch that it wanted previous values, though events of it may be on their way: now and
    /// then one comes without.
    fn forget_where_they_did(&mut self, theirs: &Self) {
        for (ours, _) in self.events.iter_mut().zip(&theirs.events).filter(|(_, theirs)| theirs.prev_kv.is_none()) {
            ours.prev_kv = None;
        }
    }
}

fn create(key: &'static str, range_end: &'static str) -> WatchCreateRequest {
    WatchCreateRequest { key: key.into(), range_end: range_end.into(), ..WatchCreateRequest::default() }
}

fn put(key: &str, value: impl Into<Bytes>) -> RequestOp {
    let put = PutRequest { key: key.to_owned().into(), value: value.into(), ..PutRequest::default() };
    RequestOp { request: Some(Request::RequestPut(put)) }
}

fn delete(key: &str, range_end: &str) -> RequestOp {
    let (key, range_end) = (key.to_owned().into(), range_end.to_owned().into());
    let delete = DeleteRangeRequest { key, range_end, ..DeleteRangeRequest::default() };
    RequestOp { request: Some(Request::RequestDeleteRange(delete)) }
}

fn change(success: Vec<RequestOp>) -> Act {
    Act::Change(TxnRequest { success, ..TxnRequest::default() })
}

/// Both servers, in the same conversations.
struct Both {
    theirs: Side,
    ours: Side,
}

impl Both {
    /// Does the same on both, a stream's number with each act, and compares what comes of it.
    async fn round(&mut self, acts: &[(usize, Act)]) {
        for (stream, act) in acts {
            tokio::join!(self.theirs.act(*stream, act), self.ours.act(*stream, act));
            assert_eq!(self.theirs.revision, self.ours.revision);
        }
        tokio::join!(self.theirs.listen(), self.ours.listen());
        for stream in 0..self.ours.streams.len() {
            let (theirs, mut ours) = (self.theirs.take(stream), self.ours.take(stream));
            for (_, act) in acts.iter().filter(|(at, _)| *at == stream) {
                if let Act::Cancel(watch) = act
                    && let (Some(ours), Some(theirs)) = (ours.get_mut(watch), theirs.get(watch))
                {
                    ours.forget_where_they_did(theirs);
                }
            }
            assert_eq!(ours, theirs, "stream {stream} after {acts:#?}, where the left is ours");
        }
    }

    /// A round on the first stream.
    async fn say(&mut self, acts: impl IntoIterator<Item = Act>) {
        let acts: Vec<_> = acts.into_iter().map(|act| (0, act)).collect();
        self.round(&acts).await;
    }
}

fn with_both(streams: usize, script: impl AsyncFnOnce(&mut Both)) {
    let Some(etcd) = Etcd::find() else { return };
    let theirs = Cluster::etcd(1, &etcd.server, &etcd.ctl);
    let ours = Cluster::vlot(1, &etcd.ctl);
    run(async {
        let theirs = Side::of(&theirs, streams).await;
        let ours = Side::of(&ours, streams).await;
        script(&mut Both { theirs, ours }).await;
    });
}

#[test]
fn watches_begin_and_end_as_in_etcd() {
    with_both(1, async |both| {
        let at = |start_revision, create| Act::Create(WatchCreateRequest { start_revision, ..create });
        let with_id = |watch_id, create| Act::Create(WatchCreateRequest { watch_id, ..create });
        both.say([change(vec![put("a", "1")]), change(vec![put("b", "1"), put("a", "2")])]).await;
        // Ranges of all kinds, numbered as they come.
        for (key, end) in
            [("a", ""), ("a", "b"), ("a", "\0"), ("", ""), ("", "\0"), ("b", "a"), ("a", "a"), ("\0", "\0")]
        {
            both.say([Act::Create(create(key, end))]).await;
        }
        both.say([change(vec![put("a", "3"), put("b", "2"), put("c", "1")])]).await;
        both.say([change(vec![delete("a", "c"), put("d", "1")])]).await;
        both.say([change(vec![put("\0", "first of all")])]).await;
        // Numbers that are chosen, taken, negative, and given back.
        for id in [100, 100, 2, 7, 7, -1, -5, i64::MAX, 0] {
            both.say([with_id(id, create("z", ""))]).await;
        }
        for id in [100, 100, 55, -1, 7, 0] {
            both.say([Act::Cancel(id)]).await;
        }
        both.say([with_id(100, create("a", "b")), with_id(0, create("a", "b")), with_id(0, create("a", "b"))]).await;
        both.say([change(vec![put("a", "4")])]).await;
        // From the past, from now, from later, and from before all time.
        for (n, start) in [1, 2, 3, 4, 6, 7, 8, 9, 20, i64::MAX, -1, i64::MIN].into_iter().enumerate() {
            both.say([at(start, WatchCreateRequest { watch_id: 200 + n as i64, prev_kv: true, ..create("a", "c") })])
                .await;
        }
        both.say([at(-1, create("b", "a")), at(-1, create("a", ""))]).await;
        for number in 0..6 {
            both.say([change(vec![put("a", format!("later {number}")), put("b", "")])]).await;
        }
        both.say([Act::Nothing]).await;
    });
}

#[test]
fn what_compaction_takes_ends_a_watch_as_in_etcd() {
    with_both(2, async |both| {
        for number in 0..10 {
            both.round(&[(0, change(vec![put("a", format!("{number}")), put(&format!("b/{number}"), "")]))]).await;
        }
        both.say([change(vec![delete("a", "")]), Act::Compact(8)]).await;
        let at = |watch_id, start_revision, (key, end)| {
            Act::Create(WatchCreateRequest { watch_id, start_revision, prev_kv: true, ..create(key, end) })
        };
        for (n, range) in [("a", ""), ("a", "c"), ("a", "\0")].into_iter().enumerate() {
            for start in [1, 7, 8, 9] {
                both.say([at(10 * (n as i64 + 1) + start, start, range)]).await;
            }
        }
        // The number of one that has ended is taken until its end is acknowledged.
        both.say([at(11, 0, ("a", ""))]).await;
        both.say([Act::Cancel(11), Act::Cancel(11)]).await;
        both.say([at(11, 0, ("a", ""))]).await;
        both.say([Act::Cancel(17), Act::Cancel(21), Act::Cancel(27), Act::Cancel(31), Act::Cancel(37)]).await;
        both.say([Act::Progress]).await;
        // One that is in sync needs nothing of what is taken.
        both.say([change(vec![put("a", "x")]), Act::Compact(13), change(vec![put("a", "y")])]).await;
        both.say([Act::Progress]).await;
    });
}

#[test]
fn progress_and_filters_are_as_in_etcd() {
    with_both(3, async |both| {
        both.say([Act::Progress]).await;
        both.say([change(vec![put("a", "1")])]).await;
        both.round(&[(0, Act::Create(create("a", "b"))), (1, Act::Create(create("z", "")))]).await;
        both.round(&[(0, Act::Progress), (1, Act::Progress), (2, Act::Progress)]).await;
        let at = |start_revision, create| Act::Create(WatchCreateRequest { start_revision, ..create });
        both.say([at(2, create("a", "b"))]).await;
        both.say([Act::Progress]).await;
        // The next revision, and one that is far away.
        both.round(&[(1, at(3, create("a", ""))), (2, at(3, create("q", "")))]).await;
        both.round(&[(1, Act::Progress), (2, Act::Progress)]).await;
        both.say([change(vec![put("a", "2")])]).await;
        both.round(&[(0, Act::Progress), (1, Act::Progress), (2, Act::Progress)]).await;
        both.round(&[(1, at(1_000, create("a", "")))]).await;
        both.round(&[(0, Act::Progress), (1, Act::Progress)]).await;
        both.round(&[(1, Act::Cancel(2))]).await;
        both.round(&[(1, Act::Progress)]).await;

        let filtered = |filters: &[i32]| {
            let filters = filters.to_vec();
            Act::Create(WatchCreateRequest { filters, prev_kv: true, start_revision: 1, ..create("a", "\0") })
        };
        for filters in [&[0][..], &[1], &[0, 1], &[1, 1], &[7], &[]] {
            both.round(&[(2, filtered(filters))]).await;
        }
        both.say([change(vec![put("a", "3"), delete("b", "c")])]).await;
        both.say([change(vec![delete("a", "b")])]).await;
        both.say([change(vec![put("a", "again")])]).await;
        both.round(&[(2, Act::Progress)]).await;
        // A client that has nothing more to say still listens.
        both.round(&[(0, Act::Finish)]).await;
        both.say([change(vec![put("a", "4")])]).await;
    });
}

#[test]
fn any_conversation_goes_as_with_etcd() {
    const STREAMS: usize = 12;
    with_both(STREAMS, async |both| {
        let mut dice = Dice(7);
        let mut compacted = 0;
        for _ in 0..70 {
            let mut acts = Vec::new();
            for _ in 0..1 + dice.below(4) {
                let key = |dice: &mut Dice| dice.one_of(&["a", "ab", "b", "c", "ca", "d"]);
                let mut ops: Vec<RequestOp> = Vec::new();
                let mut puts = std::collections::BTreeSet::new();
                for _ in 0..1 + dice.below(3) {
                    let key = key(&mut dice);
                    if puts.insert(key) {
                        ops.push(if dice.once_in(4) {
                            delete(key, "")
                        } else {
                            put(key, dice.one_of(&["1", "2", ""]))
                        });
                    }
                }
                acts.push((0, change(ops)));
            }
            let newest = both.ours.revision;
            if dice.once_in(9) && newest > compacted + 12 {
                compacted = newest - 8;
                acts.push((0, Act::Compact(compacted)));
            }
            for stream in 0..STREAMS {
                let act = match dice.below(8) {
                    0..=2 => {
                        let (key, end) = dice.one_of(&[
                            ("a", ""),
                            ("a", "c"),
                            ("a", "\0"),
                            ("ca", ""),
                            ("", "\0"),
                            ("c", "b"),
                            ("b", "ca"),
                        ]);
                        // What is written meanwhile is part of what is compared, so that "now" is as good as any start.
                        let start_revision = match dice.below(4) {
                            0 => 0,
                            1 => newest + dice.below(6) as i64,
                            _ => dice.below(newest as u64 + 1) as i64 - i64::from(dice.once_in(10)),
                        };
                        Act::Create(WatchCreateRequest {
                            start_revision,
                            filters: if dice.once_in(4) { vec![dice.below(2) as i32] } else { vec![] },
                            prev_kv: dice.once_in(2),
                            watch_id: dice.one_of(&[0, 0, 1, 2, 3, 50]),
                            fragment: dice.once_in(3),
                            ..create(key, end)
                        })
                    }
                    3 => Act::Cancel(dice.one_of(&[0, 1, 2, 3, 50, 51])),
                    _ => continue,
                };
                acts.push((stream, act));
            }
            both.round(&acts).await;
        }
    });
}

/// Each watch that asks for it and has got nothing else is told in every interval how far it is, but never of revisions
/// before its start.
#[test]
fn progress_by_the_clock_is_told_to_whom_etcd_tells_it() {
    let Some(etcd) = Etcd::find() else { return };
    let mut clusters = [Cluster::etcd(1, &etcd.server, &etcd.ctl), Cluster::vlot(1, &etcd.ctl)];
    for node in clusters.iter_mut().flat_map(|cluster| &mut cluster.nodes) {
        node.kill();
        node.flag("experimental-watch-progress-notify-interval", "500ms");
        node.start();
        node.ready();
    }
    let told = clusters.iter().map(|cluster| {
        run(async {
            let mut side = Side::of(cluster, 1).await;
            side.act(0, &change(vec![put("a", "1")])).await;
            for (start_revision, progress_notify) in
                [(0, true), (0, false), (1, true), (3, true), (4, true), (100, true)]
            {
                let create = WatchCreateRequest { start_revision, progress_notify, ..create("a", "b") };
                side.act(0, &Act::Create(create)).await;
            }
            side.act(0, &change(vec![put("z", "1")])).await;
            // Whom something is told in some intervals: each is told the same each time.
            let end = Instant::now() + Duration::from_secs(4);
            let mut progress = std::collections::BTreeSet::new();
            while let Ok(reply) = tokio::time::timeout_at(end.into(), side.streams[0].messages.next()).await {
                let reply: WatchResponse = reply.unwrap().unwrap();
                if reply.events.is_empty() && !reply.created {
                    progress.insert((reply.watch_id, reply.header.unwrap().revision));
                }
            }
            progress
        })
    });
    let told: Vec<_> = told.collect();
    assert_eq!(told[1], told[0], "the left is ours");
    assert_eq!(told[1], [(0, 3), (2, 3), (3, 3)].into());
}

/// The responses to a watch, each with its length, number of events, and whether it is a part.
fn shapes(responses: &[WatchResponse]) -> Vec<(usize, usize, bool)> {
    let shape = |response: &WatchResponse| {
        // Ids and terms are numbers of other lengths with the other server.
        let mut response = response.clone();
        response.header = None;
        (response.encoded_len(), response.events.len(), response.fragment)
    };
    responses.iter().map(shape).collect()
}

#[test]
fn a_revision_that_is_too_long_comes_in_etcds_parts() {
    with_both(1, async |both| {
        let fragmented = |watch_id| WatchCreateRequest { fragment: true, watch_id, ..create("a", "z") };
        for side in [&mut both.theirs, &mut both.ours] {
            side.act(0, &Act::Create(fragmented(1))).await;
            side.act(0, &Act::Create(WatchCreateRequest { prev_kv: true, ..fragmented(2) })).await;
            side.act(0, &Act::Create(WatchCreateRequest { fragment: false, ..fragmented(3) })).await;
            side.listen().await;
            side.take(0);
        }
        // Requests have room for 1.5 MiB, and responses are cut at 2 MiB: with what was there before they are longer.
        for value_bytes in [1_500_000, 700_000, 20_000, 1_000] {
            let keys = 1_500_000 / value_bytes;
            let ops = |value: u8| {
                let ops = (0..keys.min(100)).map(|n| put(&format!("k/{n:04}"), vec![value; value_bytes]));
                change(ops.collect())
            };
            for value in [1, 2, 3] {
                let mut told = Vec::new();
                for side in [&mut both.theirs, &mut both.ours] {
                    side.act(0, &ops(value)).await;
                    side.listen().await;
                    let all = std::mem::take(&mut side.told[0]);
                    let of = |watch_id| all.iter().filter(|response| response.watch_id == watch_id).cloned().collect();
                    let each: Vec<Vec<WatchResponse>> = [1, 2, 3].into_iter().map(of).collect();
                    told.push(each.iter().map(|responses| shapes(responses)).collect::<Vec<_>>());
                }
                assert_eq!(told[1], told[0], "{keys} values of {value_bytes} bytes, where the left is ours");
            }
        }
    });
}

/// Two watchers of each key on three streams, and one that reads nothing.
#[test]
fn the_load_generator_watches_single_keys_over_shared_streams() {
    let cluster = Cluster::vlot(1, std::path::Path::new("none"));
    let (endpoint, pid) = (cluster.nodes[0].endpoint(), cluster.nodes[0].process_id().to_string());
    let mut load = std::process::Command::new(support::VLOT);
    load.args(["bench", "watch", "--json", "--endpoints", &endpoint, "--pids", &pid, "--clients=4", "--rate=200"]);
    load.args(["--watchers=20", "--streams=3", "--single-keys", "--key-space=10", "--stalled=1"]);
    load.args(["--seconds=2", "--warmup=0.2"]);
    let output = load.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let number = |name: &str| report[name].as_f64().unwrap_or_else(|| panic!("{name} in {report}"));
    let events_per_put = number("events") / number("operations");
    assert!((1.8..2.2).contains(&events_per_put), "{events_per_put}: {report}");
    assert_eq!((number("failures"), number("reopened")), (0.0, 0.0), "{report}");
    assert!(number("server_memory_bytes") > 1e6 && number("server_cpu_us_per_event") > 0.0, "{report}");
}
