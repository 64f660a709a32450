//! Ranges, in one message and in many, as a client gets them: against etcd with every mixture of options, and against
//! what etcd's sources say where no etcd at hand has the call.

mod support;

use std::path::Path;

use bytes::Bytes;
use support::Etcd;
use support::cluster::Cluster;
use support::dice::Dice;
use support::grpc::Client;
use vlot_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RangeStreamResponse,
};
use vlot_proto::mvccpb::KeyValue;

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const STREAM: &str = "/etcdserverpb.KV/RangeStream";
const DELETE: &str = "/etcdserverpb.KV/DeleteRange";
const COMPACT: &str = "/etcdserverpb.KV/Compact";

/// Go sorts no more than so many equal ones in the order in which they come.
const STABLE_MAX: usize = 12;

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn range(key: &'static str, end: &'static str) -> RangeRequest {
    RangeRequest { key: key.into(), range_end: end.into(), ..RangeRequest::default() }
}

async fn put(client: &Client, key: String, value: impl Into<Bytes>) -> i64 {
    let request = PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() };
    client.call::<PutResponse>(PUT, &request).await.unwrap().header.unwrap().revision
}

async fn compact(client: &Client, revision: i64) {
    client.call::<CompactionResponse>(COMPACT, &CompactionRequest { revision, physical: true }).await.unwrap();
}

/// All messages of a stream, or the status that it ends with and how many came before.
async fn stream(client: &Client, request: &RangeRequest) -> Result<Vec<RangeResponse>, (usize, String)> {
    let mut stream = client.messages(STREAM, request).await.map_err(|status| (0, status))?;
    let mut messages = Vec::new();
    loop {
        match stream.next::<RangeStreamResponse>().await {
            Ok(Some(message)) => messages.push(message.range_response.expect("each message is a part")),
            Ok(None) => return Ok(messages),
            Err(status) => return Err((messages.len(), status)),
        }
    }
}

/// What the fields of all messages together are.
fn merged(messages: Vec<RangeResponse>) -> RangeResponse {
    messages.into_iter().fold(RangeResponse::default(), |mut whole, part| {
        whole.kvs.extend(part.kvs);
        whole.header = whole.header.or(part.header);
        whole.more |= part.more;
        whole.count += part.count;
        whole
    })
}

/// The same history for any server: few keys with many versions, and more of them beside.
async fn live(client: &Client) -> i64 {
    let mut dice = Dice(1);
    let mut newest = 1;
    for step in 0..400 {
        let key = match dice.below(3) {
            0 => format!("b/{:02}", dice.below(40)),
            _ => format!("a{}", dice.below(STABLE_MAX as u64)),
        };
        if dice.once_in(6) {
            let request = DeleteRangeRequest { key: key.into(), ..DeleteRangeRequest::default() };
            client.call::<DeleteRangeResponse>(DELETE, &request).await.unwrap();
        } else {
            newest = put(client, key, dice.one_of(&["", "v", "w", "long value", "x"])).await;
        }
        if step == 200 {
            compact(client, newest - 50).await;
        }
    }
    newest
}

fn any_range(dice: &mut Dice, newest: i64) -> RangeRequest {
    let revision = |dice: &mut Dice| match dice.below(10) {
        0 => -1 - dice.below(3) as i64,
        1 => newest + 1,
        _ => dice.below(newest as u64 + 1) as i64,
    };
    let bound = |dice: &mut Dice| if dice.once_in(3) { revision(dice) } else { 0 };
    let (key, end) = dice.one_of(&[
        ("a", "b"),
        ("a", "b"),
        ("a3", "a7"),
        ("a", "\0"),
        ("\0", "\0"),
        ("b/", "b0"),
        ("a1", ""),
        ("a2", ""),
        ("none", ""),
        ("b", "a"),
        ("a", "a"),
        ("", ""),
        ("", "\0"),
    ]);
    let request = RangeRequest {
        limit: dice.one_of(&[0, 0, 1, 2, 3, 5, 11, 12, 13, 1000, -1, i64::MAX, i64::MIN]),
        revision: bound(dice),
        keys_only: dice.once_in(5),
        count_only: dice.once_in(8),
        serializable: dice.once_in(2),
        ..range(key, end)
    };
    if dice.once_in(3) {
        return RangeRequest {
            sort_order: dice.below(3) as i32,
            sort_target: dice.below(5) as i32,
            min_mod_revision: bound(dice),
            max_mod_revision: bound(dice),
            min_create_revision: bound(dice),
            max_create_revision: bound(dice),
            ..request
        };
    }
    // Unknown numbers are refused since etcd 3.6, and taken for none before.
    RangeRequest { sort_order: dice.below(3) as i32, sort_target: dice.below(5) as i32, ..request }
}

/// What two servers must agree on.
fn comparable(request: &RangeRequest, answer: Result<RangeResponse, String>) -> Result<RangeResponse, String> {
    let mut answer = answer?;
    let header = answer.header.as_mut().unwrap();
    (header.cluster_id, header.member_id, header.raft_term) = (0, 0, 0);
    if request.sort_target != 0 && answer.count > STABLE_MAX as i64 {
        // Which of equal ones comes first, and is cut off, is open. By what is sorted is not.
        for kv in &mut answer.kvs {
            let KeyValue { version, create_revision, mod_revision, value, .. } = std::mem::take(kv);
            *kv = match request.sort_target {
                1 => KeyValue { version, ..KeyValue::default() },
                2 => KeyValue { create_revision, ..KeyValue::default() },
                3 => KeyValue { mod_revision, ..KeyValue::default() },
                _ => KeyValue { value, ..KeyValue::default() },
            };
        }
    }
    Ok(answer)
}

#[test]
fn any_mixture_of_options_is_answered_as_by_etcd() {
    let Some(etcd) = Etcd::find() else { return };
    let theirs = Cluster::etcd(1, &etcd.server, &etcd.ctl);
    let ours = Cluster::vlot(1, &etcd.ctl);
    run(async {
        let theirs = Client::connect(theirs.nodes[0].client_port).await;
        let ours = Client::connect(ours.nodes[0].client_port).await;
        let newest = live(&theirs).await;
        assert_eq!(live(&ours).await, newest);
        let mut dice = Dice(2);
        let mut refused = 0;
        for round in 0..4_000 {
            let request = any_range(&mut dice, newest);
            let expected = comparable(&request, theirs.call(RANGE, &request).await);
            let answer = comparable(&request, ours.call(RANGE, &request).await);
            assert_eq!(answer, expected, "round {round}: {request:?}");
            refused += usize::from(expected.is_err());
        }
        assert!((100..2_000).contains(&refused), "{refused} of the requests are refused");
    });
}

/// etcd's `RangeStreamResponse`: merged, the messages are what the unary call answers. Only the last has a header, `more`
/// and `count`.
#[test]
fn a_stream_is_the_answer_in_parts() {
    let cluster = Cluster::vlot(1, Path::new("none"));
    run(async {
        let client = Client::connect(cluster.nodes[0].client_port).await;
        let newest = live(&client).await;
        let mut dice = Dice(3);
        let mut streamed = 0;
        for _ in 0..1_500 {
            let request = RangeRequest { sort_order: 0, sort_target: 0, ..any_range(&mut dice, newest) };
            let has_filter = request.min_mod_revision != 0
                || request.max_mod_revision != 0
                || request.min_create_revision != 0
                || request.max_create_revision != 0;
            let expected: Result<RangeResponse, String> = client.call(RANGE, &request).await;
            match (stream(&client, &request).await, expected) {
                (Err((0, status)), Ok(_)) if has_filter => {
                    assert_eq!(status, "12 RangeStream does not support revision filters");
                }
                (Err((0, status)), Err(_)) if has_filter => assert!(!status.starts_with('0')),
                (Ok(messages), Ok(expected)) => {
                    let (_, before) = messages.split_last().expect("there is a last message");
                    assert!(before.iter().all(|part| (&part.header, part.more, part.count) == (&None, false, 0)));
                    assert!(messages[0].kvs.len() <= 10, "the first has ten keys at most");
                    streamed += usize::from(messages.len() > 1);
                    assert_eq!(merged(messages), expected, "{request:?}");
                }
                (Err((0, status)), Err(expected)) => assert_eq!(status, expected, "{request:?}"),
                (messages, expected) => panic!("{request:?}: {messages:?} and not {expected:?}"),
            }
        }
        assert!(streamed > 100, "{streamed} are longer than a message");
        let sorted = RangeRequest { sort_order: 2, ..range("a", "b") };
        let refused = "12 RangeStream does not support custom sort orders";
        assert_eq!(stream(&client, &sorted).await, Err((0, refused.into())));
    });
}

/// etcd's `rangeStream`: without a revision, the stream is of the newest when it begins, and its header says so, whatever
/// is written meanwhile. With an old revision, the header has the newest one all the same. A compaction of what is being
/// sent ends it with an error (`TestV3RangeStreamWriteBetweenChunks`, `TestV3RangeStreamPartialThenCompacted`).
#[test]
fn a_stream_keeps_to_its_revision_and_is_made_as_it_is_read() {
    let cluster = Cluster::vlot(1, Path::new("none"));
    run(async {
        let port = cluster.nodes[0].client_port;
        let client = Client::connect(port).await;
        let mut newest = 0;
        for number in 0..120 {
            newest = put(&client, format!("k/{number:03}"), vec![7; 1_000_000]).await;
        }
        // One stream that is not read is not ahead of its client by more than flow control and three messages.
        let resident = || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.nodes[0].process_id())).unwrap();
            let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap().to_owned();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
        };
        // What was put is still being written down for a while, which takes memory of its own.
        let mut before = resident();
        loop {
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
            let last = std::mem::replace(&mut before, resident());
            if last.abs_diff(before) <= 1 {
                break;
            }
        }
        let slow = Client::connect(port).await;
        let mut reader = slow.messages(STREAM, &range("k", "l")).await.unwrap();
        let first: RangeStreamResponse = reader.next().await.unwrap().unwrap();
        let mut kvs = first.range_response.unwrap().kvs;
        let later = put(&client, "k/zzz".into(), "later").await;
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        let grown = resident().saturating_sub(before);
        assert!(grown < 60, "{grown} MiB more for a stream of 120 that nobody reads");
        let mut last = None;
        while let Some(message) = reader.next::<RangeStreamResponse>().await.unwrap() {
            let part = message.range_response.unwrap();
            kvs.extend(part.kvs);
            last = part.header.map(|header| (header.revision, part.more, part.count));
        }
        assert_eq!((kvs.len(), last), (120, Some((newest, false, 120))));
        assert!(kvs.iter().all(|kv| kv.value.len() == 1_000_000));
        drop(kvs);

        let old = RangeRequest { revision: newest, keys_only: true, limit: 7, ..range("k", "l") };
        let messages = stream(&client, &old).await.unwrap();
        assert_eq!(messages.len(), 1);
        let answer = merged(messages);
        assert_eq!((answer.kvs.len(), answer.more, answer.count), (7, true, 120));
        assert_eq!(answer.header.unwrap().revision, later);
        let count = stream(&client, &RangeRequest { count_only: true, limit: 3, ..range("k", "l") }).await.unwrap();
        assert_eq!((count.len(), count[0].count, count[0].kvs.len(), count[0].more), (1, 121, 0, false));

        let mut reader = slow.messages(STREAM, &range("k", "l")).await.unwrap();
        assert!(reader.next::<RangeStreamResponse>().await.unwrap().is_some());
        let newest = put(&client, "z".into(), "").await;
        compact(&client, newest).await;
        let status = loop {
            match reader.next::<RangeStreamResponse>().await {
                Ok(Some(message)) => assert_eq!(message.range_response.unwrap().header, None),
                Ok(None) => panic!("the stream is whole"),
                Err(status) => break status,
            }
        };
        assert_eq!(status, "11 etcdserver: mvcc: required revision has been compacted");
    });
}
